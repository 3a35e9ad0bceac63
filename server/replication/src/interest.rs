//! Which cells are seen from where: resolved once for all streams that look from one cell.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tickwire_shared::{CellId, CellKey, Frame, Game, Place};

/// The most cells of all interests that are kept together; beyond it all are resolved anew.
const CELLS_KEPT_MAX: usize = 1 << 20;
/// The least share of its snapshots at which a stream gets a cell.
pub(crate) const RATE_DIVISOR_MAX: u32 = 4;

/// The cells that are seen from one cell.
#[derive(Debug, Default)]
pub(crate) struct Interest {
    /// In order of id, `always` among them.
    pub(crate) cells: Box<[Wanted]>,
    /// Those that the session has not used yet, in order: they hold nothing, and enter when they are.
    unused: Box<[CellKey]>,
}

/// A cell that is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) cell: CellId,
    /// 0 is the nearest.
    pub(crate) rank: u32,
    /// The share of a stream's snapshots that carry it.
    pub(crate) divisor: u8,
}

/// The interests of one session.
#[derive(Debug, Default)]
pub(crate) struct Interests(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    epoch: u32,
    /// All cells of the session, when it had so many.
    all: Option<(usize, Arc<Interest>)>,
    /// By where a stream looks from, and the bits of its radius: for how many cells of the session, and what.
    interests: HashMap<(Option<CellKey>, u64), (usize, Arc<Interest>)>,
    cells: usize,
}

impl Interest {
    pub(crate) fn wants(&self, cell: CellId) -> bool {
        self.cells.binary_search_by_key(&cell, |wanted| wanted.cell).is_ok()
    }

    fn len(&self) -> usize {
        self.cells.len() + self.unused.len()
    }

    fn resolve(game: &dyn Game, frame: &Frame, focus: Option<CellKey>, radius: f64) -> Self {
        let mut keys = Vec::new();
        if let Some(focus) = focus {
            game.cells_in_view(focus, radius, &mut keys);
        }
        let mut cells = vec![Wanted { cell: CellId::ALWAYS, rank: 0, divisor: 1 }];
        let mut unused = Vec::new();
        for (rank, key) in (0..).zip(keys) {
            let Some(cell) = frame.table.id(Place::Cell(key)) else {
                unused.push(key);
                continue;
            };
            let divisor = focus.map_or(1, |focus| game.rate_divisor(focus, key, radius));
            cells.push(Wanted { cell, rank, divisor: divisor.clamp(1, RATE_DIVISOR_MAX) as u8 });
        }
        // A game may name a cell twice.
        cells.sort_unstable_by_key(|wanted| (wanted.cell, wanted.rank));
        cells.dedup_by_key(|wanted| wanted.cell);
        unused.sort_unstable();
        Self { cells: cells.into(), unused: unused.into() }
    }

    /// All that the session has used, each alike.
    fn all(frame: &Frame) -> Self {
        let cells = (0..frame.cells.len()).map(|i| Wanted { cell: CellId(i as u32), rank: 0, divisor: 1 });
        Self { cells: cells.collect(), unused: Box::default() }
    }

    /// Whether it sees one of the cells that the session has used first when it had `before` of them.
    fn has_news(&self, frame: &Frame, before: usize) -> bool {
        let mut used = (before..frame.cells.len()).filter_map(|i| frame.table.place(CellId(i as u32)));
        used.any(|place| match place {
            Place::Always => false,
            Place::Cell(key) => self.unused.binary_search(&key).is_ok(),
        })
    }
}

impl Interests {
    /// What is seen from `focus`; without it `always` alone. The same `Arc` for all who ask the same, and for as long as
    /// nothing that is seen there is used for the first time.
    pub(crate) fn get(&self, game: &dyn Game, frame: &Frame, focus: Option<CellKey>, radius: f64) -> Arc<Interest> {
        let known = frame.cells.len();
        let key = (focus, radius.to_bits());
        // Another thread may have been here with a newer frame, whose cells this one need not have.
        let is_older = |of: usize| of <= known;
        let mut kept = self.lock(frame.epoch);
        if kept.epoch == frame.epoch
            && let Some((of, interest)) = kept.interests.get_mut(&key).filter(|(of, _)| is_older(*of))
            && !interest.has_news(frame, *of)
        {
            *of = known;
            return Arc::clone(interest);
        }
        // Not under the lock: it calls the game, and that two threads now and then resolve the same costs less.
        drop(kept);
        let interest = Arc::new(Interest::resolve(game, frame, focus, radius));
        let mut kept = self.lock(frame.epoch);
        if kept.epoch == frame.epoch && kept.interests.get(&key).is_none_or(|(of, _)| is_older(*of)) {
            kept.cells += interest.len();
            if let Some((_, replaced)) = kept.interests.insert(key, (known, Arc::clone(&interest))) {
                kept.cells -= replaced.len();
            }
        }
        interest
    }

    /// All cells of the session. The same `Arc` for all who ask, and for as long as none is used for the first time.
    pub(crate) fn get_all(&self, frame: &Frame) -> Arc<Interest> {
        let known = frame.cells.len();
        let mut kept = self.lock(frame.epoch);
        if kept.epoch != frame.epoch {
            return Arc::new(Interest::all(frame));
        }
        match &kept.all {
            Some((of, all)) if *of == known => Arc::clone(all),
            _ => {
                let all = Arc::new(Interest::all(frame));
                kept.all = Some((known, Arc::clone(&all)));
                all
            }
        }
    }

    /// What is kept for an epoch, or for a later one.
    fn lock(&self, epoch: u32) -> MutexGuard<'_, Kept> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.epoch < epoch || kept.cells > CELLS_KEPT_MAX {
            *kept = Kept { epoch: kept.epoch.max(epoch), ..Kept::default() };
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use tickwire_shared::{Definition, Schema, SchemaParts, Systems};

    use super::*;

    /// A view reaches one cell to each side; the right one comes at half rate, named twice.
    struct Three;

    impl Game for Three {
        fn name(&self) -> &'static str {
            "three"
        }

        fn define(&self, _: &mut Definition) {}

        fn systems(&self, _: &mut Systems) {}

        fn cells_in_view(&self, from: CellKey, _: f64, cells: &mut Vec<CellKey>) {
            cells.extend([from.0, from.0 + 1, from.0 - 1, from.0 + 1].map(CellKey));
        }

        fn rate_divisor(&self, from: CellKey, cell: CellKey, _: f64) -> u32 {
            if cell > from { 2 } else { 0 }
        }
    }

    /// A frame whose session has used these cells.
    fn frame(keys: &[u64], epoch: u32) -> Frame {
        let schema = Schema::new(SchemaParts { game: "t".into(), ..SchemaParts::default() }).expect("valid");
        let mut frame = Frame::empty(&schema, epoch);
        for &key in keys {
            Arc::make_mut(&mut frame.table).intern(Place::Cell(CellKey(key)));
            let empty = frame.cells[0].clone();
            Arc::make_mut(&mut frame.cells).push(empty);
        }
        frame
    }

    fn wanted(interest: &Interest) -> Vec<(u32, u32, u8)> {
        interest.cells.iter().map(|wanted| (wanted.cell.0, wanted.rank, wanted.divisor)).collect()
    }

    #[test]
    fn an_interest_is_shared_until_one_of_its_cells_is_used_first() {
        let interests = Interests::default();
        let get = |keys: &[u64], epoch, focus| interests.get(&Three, &frame(keys, epoch), Some(CellKey(focus)), 1.0);
        let first = get(&[7, 4], 0, 5);
        assert_eq!(wanted(&first), [(0, 0, 1), (2, 2, 1)]);
        assert!(Arc::ptr_eq(&first, &get(&[7, 4, 9, 8], 0, 5)), "nobody sees 8 and 9 from 5");
        assert!(!Arc::ptr_eq(&first, &get(&[7, 4, 9, 8], 0, 8)));

        let second = get(&[7, 4, 9, 8, 5, 6], 0, 5);
        assert_eq!(wanted(&second), [(0, 0, 1), (2, 2, 1), (5, 0, 1), (6, 1, 2)]);
        // A thread that still looks at an older frame gets what that has, and spoils nothing.
        assert_eq!(wanted(&get(&[7, 4], 0, 5)), wanted(&first));
        assert!(Arc::ptr_eq(&second, &get(&[7, 4, 9, 8, 5, 6], 0, 5)));

        let recovered = get(&[5], 1, 5);
        assert_eq!(wanted(&recovered), [(0, 0, 1), (1, 0, 1)]);
        assert_eq!(wanted(&get(&[7, 4], 0, 5)), wanted(&first), "of the old epoch");
        assert!(Arc::ptr_eq(&recovered, &get(&[5], 1, 5)));
    }

    #[test]
    fn all_are_the_sessions_cells_and_shared_until_there_is_another() {
        let interests = Interests::default();
        let first = interests.get_all(&frame(&[7, 4], 0));
        assert_eq!(wanted(&first), [(0, 0, 1), (1, 0, 1), (2, 0, 1)]);
        assert!(Arc::ptr_eq(&first, &interests.get_all(&frame(&[7, 4], 0))));
        assert_eq!(wanted(&interests.get_all(&frame(&[7, 4, 5], 0))).len(), 4);
        assert_eq!(wanted(&interests.get_all(&frame(&[], 1))).len(), 1);
        assert_eq!(wanted(&interests.get_all(&frame(&[7], 0))).len(), 2, "of the old epoch");
    }

    #[test]
    fn without_a_place_to_look_from_there_is_always_alone() {
        let interests = Interests::default();
        assert_eq!(wanted(&interests.get(&Three, &frame(&[1, 2], 0), None, 9.0)), [(0, 0, 1)]);
    }
}
