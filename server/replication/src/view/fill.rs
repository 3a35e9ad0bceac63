//! Which cells a snapshot carries: all that are due where there is room, else what matters most.

use tickwire_shared::CellId;

use super::{Slicing, View};
use crate::{
    cells::{Standing, ViewCell, changed_at},
    history::History,
    memo::{Base, Chunk},
    replicator::Replicator,
    snapshot::{Snapshot, cells_len_max, framed_len_max},
};

/// How much more a cell that enters the view matters than one that changes in it: what is not there is missed most.
const ENTERING_WEIGHT: u64 = 4;
/// Distance counts in steps of so many cells, nearest first, up to so many steps.
const CELLS_PER_STEP: u32 = 4;
const STEPS_MAX: u32 = 8;

/// A cell that this snapshot is to carry, and when its turn is: the smallest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due {
    class: Class,
    order: u64,
    place: u32,
}

/// What goes first where the bytes do not suffice for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Has waited for a second, as happens only where the budget is too small for the view; then all take turns.
    Starving,
    Own,
    Always,
    Sliced,
    /// Has waited for half a second: the longest first.
    Overdue,
    /// By time, weight and nearness.
    Other,
}

/// What a snapshot has room for, in bytes.
#[derive(Clone, Copy, Debug)]
struct Room {
    left: usize,
    budget_left: usize,
    /// The budget is all saved up: it will never have more room for a single update than now.
    is_saved_up: bool,
}

/// What became of a cell's update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filled {
    /// The receiver then has it all.
    Whole,
    /// It is to be cut, and another is being cut.
    Later,
    NoRoom,
}

impl View {
    /// Updates as many cells as there is room for; the others are deferred.
    pub(super) fn put_cells(
        &mut self,
        replicator: &Replicator,
        history: &History,
        own_cell: Option<CellId>,
        snapshot: &mut Snapshot,
    ) {
        let frame = history.newest();
        self.cells.note_changes(history, self.sent);
        self.find_due(history, own_cell);
        let others = cells_len_max(self.cells.waiting().map(|(_, cell)| cell.id));
        let reserved = snapshot.header_len() + others;
        let room = Room {
            left: replicator.config().snapshot_bytes_max.saturating_sub(reserved),
            budget_left: self.budget.bytes().saturating_sub(reserved),
            is_saved_up: self.budget.is_full(),
        };
        if !self.put_all(replicator, history, room, snapshot) {
            self.put_by_priority(replicator, history, own_cell, room, snapshot);
        }

        let deferred = &mut self.scratch.numbers;
        deferred.clear();
        let sliced = self.slicing.as_ref().map(|slicing| slicing.cell);
        deferred.extend(self.cells.waiting().filter_map(|(_, cell)| match cell.standing {
            Standing::Behind { held, .. } => (changed_at(frame, cell.id) > held).then_some(cell.id.0),
            Standing::Entering { .. } => (Some(cell.id) == sliced).then_some(cell.id.0),
            Standing::Current => None,
        }));
        snapshot.put_deferred(deferred);
    }

    /// Which cells this snapshot is to carry, of those that wait: the own cell first, in no order else.
    fn find_due(&mut self, history: &History, own_cell: Option<CellId>) {
        let frame = history.newest();
        let sliced = self.slicing.as_ref().map(|slicing| slicing.cell);
        let (ticks_per_snapshot, share) = (self.ticks_per_snapshot(), self.share);
        let due = &mut self.scratch.due;
        due.clear();
        for (place, cell) in self.cells.waiting() {
            let is_own = Some(cell.id) == own_cell;
            if is_own || Some(cell.id) == sliced || cell.is_its_turn(frame.tick, ticks_per_snapshot, share) {
                due.push(Due { class: Class::Other, order: 0, place });
            }
            if is_own {
                let last = due.len() - 1;
                due.swap(0, last);
            }
        }
    }

    /// The usual case: there is room for all that is due. False, and nothing put, where there is not.
    fn put_all(&mut self, replicator: &Replicator, history: &History, mut room: Room, snapshot: &mut Snapshot) -> bool {
        if self.is_short || self.slicing.is_some() {
            return false;
        }
        let halvings = self.budget.slice_halvings(replicator.config().slice_bytes_max);
        for (looked_up, due) in (1..).zip(&self.scratch.due) {
            let cell = self.cells.get(due.place);
            match replicator.chunk(history, cell.id, base_of(cell, history), halvings) {
                Chunk::Whole(body) if room.take(framed_len_max(&body), snapshot) => snapshot.push(body, 0),
                Chunk::Whole(_) | Chunk::Cut(_) => {
                    snapshot.clear_updates();
                    self.counts.chunk_lookups += looked_up;
                    return false;
                }
            }
        }
        self.counts.chunk_lookups += self.scratch.due.len() as u32;
        for due in &self.scratch.due {
            self.cells.set(due.place, Standing::Current);
        }
        true
    }

    /// What matters most goes first, until the first update for which there is no room.
    fn put_by_priority(
        &mut self,
        replicator: &Replicator,
        history: &History,
        own_cell: Option<CellId>,
        mut room: Room,
        snapshot: &mut Snapshot,
    ) {
        let mut due = std::mem::take(&mut self.scratch.due);
        for due in &mut due {
            (due.class, due.order) = self.priority(replicator, history, own_cell, self.cells.get(due.place));
        }
        due.sort_unstable();
        self.is_short = false;
        for due in &due {
            if self.put_cell(replicator, history, due.place, &mut room, snapshot) == Filled::NoRoom {
                self.is_short = true;
                break;
            }
        }
        self.is_starved = self.is_short && !snapshot.has_updates();
        self.scratch.due = due;
    }

    fn priority(
        &self,
        replicator: &Replicator,
        history: &History,
        own_cell: Option<CellId>,
        cell: &ViewCell,
    ) -> (Class, u64) {
        let now = history.newest().tick;
        let waited = cell.waited(now);
        let rank = u64::from(cell.rank.min(u32::from(u16::MAX)));
        let longest_first = (now.0 + 1).saturating_sub(waited) << 16 | rank;
        let sliced = self.slicing.as_ref().map(|slicing| slicing.cell);
        match cell.id {
            _ if waited > u64::from(self.config.tick_rate.hz()) => (Class::Starving, longest_first),
            id if Some(id) == own_cell => (Class::Own, 0),
            CellId::ALWAYS => (Class::Always, 0),
            id if Some(id) == sliced => (Class::Sliced, 0),
            _ if waited > self.overdue_ticks() => (Class::Overdue, longest_first),
            id => {
                let (held, factor) = match cell.standing {
                    Standing::Behind { held, .. } => (Some(held), 1),
                    Standing::Current | Standing::Entering { .. } => (None, ENTERING_WEIGHT),
                };
                let weight = u64::from(replicator.weight(history, id, held)) * factor;
                let step = u64::from((1 + cell.rank / CELLS_PER_STEP).min(STEPS_MAX));
                let priority = ((waited * weight) << 8) / step;
                (Class::Other, (u64::from(u32::MAX) - priority) << 16 | rank)
            }
        }
    }

    /// Puts a cell's update, or what there is room for of it, into the snapshot.
    fn put_cell(
        &mut self,
        replicator: &Replicator,
        history: &History,
        place: u32,
        room: &mut Room,
        snapshot: &mut Snapshot,
    ) -> Filled {
        let now = history.newest().tick;
        let cell = *self.cells.get(place);
        if self.slicing.as_ref().is_none_or(|slicing| slicing.cell != cell.id) {
            let halvings = self.budget.slice_halvings(replicator.config().slice_bytes_max);
            self.counts.chunk_lookups += 1;
            match replicator.chunk(history, cell.id, base_of(&cell, history), halvings) {
                Chunk::Whole(body) if room.take(framed_len_max(&body), snapshot) => {
                    snapshot.push(body, 0);
                    self.cells.set(place, Standing::Current);
                    return Filled::Whole;
                }
                Chunk::Whole(_) => return Filled::NoRoom,
                Chunk::Cut(_) if self.slicing.is_some() => return Filled::Later,
                Chunk::Cut(slices) => {
                    // It starts with a slice on its way: the receiver knows of it from that.
                    if !room.take(framed_len_max(&slices[0]), snapshot) {
                        return Filled::NoRoom;
                    }
                    snapshot.push(slices[0].clone(), 0);
                    self.slicing = Some(Slicing { cell: cell.id, tick: now, slices, next: 1 });
                }
            }
        }

        let slicing = self.slicing.as_mut().expect("of this cell, from before or just started");
        while let Some(body) = slicing.slices.get(slicing.next) {
            if !room.take(framed_len_max(body), snapshot) {
                return Filled::NoRoom;
            }
            slicing.next += 1;
            snapshot.push(body.clone(), now.since(slicing.tick) as u32);
        }
        let tick = slicing.tick;
        self.slicing = None;
        // The slices lead to the tick at which the first was sent.
        let standing =
            if tick == now { Standing::Current } else { Standing::Behind { held: tick, since: tick.next() } };
        self.cells.set(place, standing);
        Filled::Whole
    }
}

impl Room {
    /// Takes up `bytes` of it, where there are so many.
    fn take(&mut self, bytes: usize, snapshot: &Snapshot) -> bool {
        let is_affordable = bytes <= self.budget_left || self.is_saved_up && !snapshot.has_updates();
        if bytes > self.left || !is_affordable {
            return false;
        }
        self.left -= bytes;
        self.budget_left = self.budget_left.saturating_sub(bytes);
        true
    }
}

fn base_of(cell: &ViewCell, history: &History) -> Base {
    match cell.standing {
        Standing::Behind { held, .. } if history.frame(held).is_some() => Base::Tick(held),
        Standing::Behind { .. } => Base::Lost,
        Standing::Current | Standing::Entering { .. } => Base::Nothing,
    }
}
