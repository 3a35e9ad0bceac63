//! Which cells are seen from where: resolved once for all streams that look from one cell.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tickwire_shared::{CellId, CellKey, Frame, Game, Place};

/// The most interests that are kept; beyond it all are resolved anew.
const KEPT_MAX: usize = 4096;
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
    /// By where a stream looks from, and the bits of its radius: for how many cells of the session, and what.
    interests: HashMap<(Option<CellKey>, u64), (usize, Arc<Interest>)>,
}

impl Interest {
    pub(crate) fn wants(&self, cell: CellId) -> bool {
        self.cells.binary_search_by_key(&cell, |wanted| wanted.cell).is_ok()
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
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = frame.cells.len();
        if kept.epoch < frame.epoch || kept.interests.len() >= KEPT_MAX {
            *kept = Kept { epoch: frame.epoch, ..Kept::default() };
        }
        let is_old_epoch = kept.epoch > frame.epoch;
        let key = (focus, radius.to_bits());
        match kept.interests.get_mut(&key) {
            // Another thread was here with a newer frame, whose cells this one may not have.
            Some((of, _)) if *of > known || is_old_epoch => {
                return Arc::new(Interest::resolve(game, frame, focus, radius));
            }
            Some((of, interest)) if !interest.has_news(frame, *of) => {
                *of = known;
                return Arc::clone(interest);
            }
            _ => {}
        }
        let interest = Arc::new(Interest::resolve(game, frame, focus, radius));
        if !is_old_epoch {
            kept.interests.insert(key, (known, Arc::clone(&interest)));
        }
        interest
    }
}
