//! The cells of one view: which they are, and as of when the receiver holds each.

use std::sync::Arc;

use tickwire_shared::{CellId, CellKey, Frame, Tick};

use crate::{
    history::History,
    interest::{Interest, RATE_DIVISOR_MAX},
    turns::Share,
};

/// What has been sent of one cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ViewCell {
    pub(crate) id: CellId,
    /// 0 is the nearest.
    pub(crate) rank: u32,
    /// The share of the stream's snapshots that carry it.
    divisor: u8,
    pub(crate) standing: Standing,
    /// The view has turned away from it, and drops it then.
    drop_at: Option<Tick>,
}

/// As of when the receiver holds a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// As of the stream's last snapshot.
    Current,
    /// As of `held`; it has changed since, at or after `since`.
    Behind { held: Tick, since: Tick },
    /// Not at all; it has waited since then.
    Entering { since: Tick },
}

/// The cells of one view.
#[derive(Debug, Default)]
pub(crate) struct ViewCells {
    /// In order of id.
    cells: Vec<ViewCell>,
    /// The places in `cells` of those that are not current.
    waiting: Vec<u32>,
    interest: Option<Arc<Interest>>,
    focus: Option<CellKey>,
    /// How many cells the session had when the interest was asked for.
    known: usize,
    /// Those that the view has turned away from.
    kept: usize,
}

impl ViewCell {
    /// How long the receiver has waited for what is new, in ticks.
    pub(crate) fn waited(&self, now: Tick) -> u64 {
        match self.standing {
            Standing::Current => 0,
            Standing::Behind { since, .. } | Standing::Entering { since } => now.since(since) + 1,
        }
    }

    /// Whether the stream's snapshot of `now` is one of those that carry it. Streams of one pace agree on them, so that
    /// what is encoded for one serves all; cells take turns.
    pub(crate) fn is_its_turn(&self, now: Tick, ticks_per_snapshot: u64, share: Share) -> bool {
        match self.standing {
            Standing::Behind { held, .. } if self.divisor > 1 => {
                let (period, phase) = share.phase(u64::from(self.divisor), self.id);
                let turn = |tick: Tick| (tick.0 / ticks_per_snapshot + phase) / period;
                turn(now) > turn(held)
            }
            _ => true,
        }
    }
}

impl ViewCells {
    pub(crate) fn get(&self, place: u32) -> &ViewCell {
        &self.cells[place as usize]
    }

    pub(crate) fn set(&mut self, place: u32, standing: Standing) {
        self.cells[place as usize].standing = standing;
    }

    /// Those that are not current, by their places.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (u32, &ViewCell)> {
        self.waiting.iter().map(|&place| (place, self.get(place)))
    }

    /// Where the view looks from: without an own cell it stays where it last was.
    pub(crate) fn focus(&self) -> Option<CellKey> {
        self.focus
    }

    /// Whether its interest is that of `focus` in `frame`.
    pub(crate) fn is_aimed(&self, focus: Option<CellKey>, frame: &Frame) -> bool {
        self.interest.is_some() && self.focus == focus && self.known == frame.cells.len()
    }

    /// Has the view aimed anew, wherever it looked.
    pub(crate) fn look_up(&mut self) {
        self.focus = None;
        self.known = usize::MAX;
    }

    /// Turns the view. What it has turned away from is kept until `keep_until`, or goes at once.
    pub(crate) fn aim(
        &mut self,
        focus: Option<CellKey>,
        interest: Arc<Interest>,
        frame: &Frame,
        keep_until: Option<Tick>,
        removed: &mut Vec<ViewCell>,
    ) {
        self.focus = focus;
        self.known = frame.cells.len();
        if self.interest.as_ref().is_some_and(|before| Arc::ptr_eq(before, &interest)) {
            return;
        }
        let old = std::mem::take(&mut self.cells);
        let (mut old, mut wanted) = (old.into_iter().peekable(), interest.cells.iter().peekable());
        loop {
            let next = match (old.peek(), wanted.peek()) {
                (None, None) => break,
                (Some(cell), Some(wanted)) if cell.id == wanted.cell => (old.next(), true),
                (Some(cell), Some(wanted)) if cell.id < wanted.cell => (old.next(), false),
                (Some(_), None) => (old.next(), false),
                (_, Some(_)) => (None, true),
            };
            match next {
                (cell, true) => {
                    let wanted = wanted.next().expect("it was looked at");
                    let standing = cell.map_or(Standing::Entering { since: frame.tick }, |cell| cell.standing);
                    let (id, rank, divisor) = (wanted.cell, wanted.rank, wanted.divisor);
                    self.cells.push(ViewCell { id, rank, divisor, standing, drop_at: None });
                }
                (Some(cell), false) => match cell.drop_at.or(keep_until) {
                    Some(drop_at) if !matches!(cell.standing, Standing::Entering { .. }) => {
                        let (rank, divisor) = (u32::MAX, RATE_DIVISOR_MAX as u8);
                        self.cells.push(ViewCell { rank, divisor, drop_at: Some(drop_at), ..cell });
                    }
                    Some(_) | None => removed.push(cell),
                },
                (None, false) => unreachable!("one of the two has a next cell"),
            }
        }
        self.cells.shrink_to_fit();
        self.interest = Some(interest);
        self.recount();
    }

    /// Drops what the view turned away from, where that was long ago, or the receiver has waited for it for `patience`
    /// ticks: it is not worth the bytes.
    pub(crate) fn expire(&mut self, now: Tick, patience: u64, removed: &mut Vec<ViewCell>) {
        if self.kept == 0 {
            return;
        }
        let before = self.cells.len();
        self.cells.retain(|cell| {
            let stays = cell.drop_at.is_none_or(|drop_at| now < drop_at && cell.waited(now) < patience);
            if !stays {
                removed.push(*cell);
            }
            stays
        });
        if self.cells.len() < before {
            self.recount();
        }
    }

    /// Marks those that changed after `sent`, the tick of the stream's last snapshot.
    pub(crate) fn note_changes(&mut self, history: &History, sent: Tick) {
        let frame = history.newest();
        let cells = &mut self.cells;
        self.waiting.retain(|&place| {
            let cell = &mut cells[place as usize];
            // Slices have led it to an earlier tick than the snapshot's; if nothing has happened since, it has caught up.
            if matches!(cell.standing, Standing::Behind { held, .. } if changed_at(frame, cell.id) <= held) {
                cell.standing = Standing::Current;
            }
            cell.standing != Standing::Current
        });
        let waiting = &mut self.waiting;
        let mut note = |place: usize, cell: &mut ViewCell| {
            if cell.standing == Standing::Current {
                cell.standing = Standing::Behind { held: sent, since: sent.next() };
                waiting.push(place as u32);
            }
        };
        // The way that has fewer cells to look at: those of the view, or those that changed.
        const LOOK_UP_COST: usize = 4;
        let fresh = Some(history.fresh()).filter(|_| frame.tick == sent.next());
        match fresh.filter(|fresh| fresh.cells().len() * LOOK_UP_COST < self.cells.len()) {
            Some(fresh) => {
                for id in fresh.cells() {
                    if let Ok(place) = self.cells.binary_search_by_key(&id, |cell| cell.id) {
                        note(place, &mut self.cells[place]);
                    }
                }
            }
            None => {
                for (place, cell) in self.cells.iter_mut().enumerate() {
                    if changed_at(frame, cell.id) > sent {
                        note(place, cell);
                    }
                }
            }
        }
    }

    fn recount(&mut self) {
        self.kept = self.cells.iter().filter(|cell| cell.drop_at.is_some()).count();
        self.waiting.clear();
        let waits = |(_, cell): &(u32, &ViewCell)| cell.standing != Standing::Current;
        self.waiting.extend((0..).zip(&self.cells).filter(waits).map(|(place, _)| place));
    }
}

/// When a cell of a view last changed. Views hold cells that the session has used, and it forgets none.
pub(crate) fn changed_at(frame: &Frame, cell: CellId) -> Tick {
    frame.cell(cell).map_or(Tick::ZERO, |cell| cell.changed)
}
