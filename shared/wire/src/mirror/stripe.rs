//! One stream's cells.

use tickwire_shared::{CellId, NumberMap, Tick};

use crate::{owner::OwnerMirror, rows::Rows};

/// What one stream brought.
#[derive(Debug, Default)]
pub(super) struct Stripe {
    pub(super) tick: Tick,
    /// The oldest tick at which a cell stands, or to which an update under way leads.
    pub(super) oldest: Tick,
    cells: Vec<MirrorCell>,
    /// Where in `cells` each one is.
    index: NumberMap<CellId, u32>,
    /// In all its cells.
    pub(super) entities: usize,
    pub(super) staging: Option<Staging>,
    pub(super) owner: OwnerMirror,
    /// After an error: everything until a reset is ignored.
    pub(super) broken: bool,
    /// The stream is gone; its cells stay until others have caught up with them.
    pub(super) is_closed: bool,
}

/// A cell as the server has it at a tick.
#[derive(Debug)]
pub(super) struct MirrorCell {
    pub(super) id: CellId,
    pub(super) tick: Tick,
    /// The newest snapshot that updated or deferred it: one that does neither has the cell stand at its own tick.
    pub(super) named: Tick,
    /// One per kind of the schema.
    pub(super) kinds: Box<[Rows]>,
}

/// An update that was cut, until its last slice is there.
#[derive(Debug)]
pub(super) struct Staging {
    pub(super) cell: CellId,
    pub(super) tick: Tick,
    pub(super) base_age: u32,
    pub(super) slices: u32,
    /// The bodies of the slices that came.
    pub(super) bodies: Vec<Vec<u8>>,
    pub(super) bytes: usize,
}

impl Stripe {
    /// Whether more is to come of it: it has begun, and is not closed.
    pub(super) fn is_open(&self) -> bool {
        self.tick > Tick::ZERO && !self.is_closed
    }

    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    pub(super) fn cells(&self) -> &[MirrorCell] {
        &self.cells
    }

    pub(super) fn get(&self, cell: CellId) -> Option<&MirrorCell> {
        self.index.get(&cell).map(|&i| &self.cells[i as usize])
    }

    pub(super) fn get_mut(&mut self, cell: CellId) -> Option<&mut MirrorCell> {
        self.index.get(&cell).map(|&i| &mut self.cells[i as usize])
    }

    /// Puts a cell in that is not there.
    pub(super) fn insert(&mut self, cell: MirrorCell) {
        self.index.insert(cell.id, self.cells.len() as u32);
        self.cells.push(cell);
    }

    pub(super) fn remove(&mut self, cell: CellId) -> Option<MirrorCell> {
        let i = self.index.remove(&cell)? as usize;
        let removed = self.cells.swap_remove(i);
        if let Some(moved) = self.cells.get(i) {
            self.index.insert(moved.id, i as u32);
        }
        Some(removed)
    }

    /// Notes that the snapshot of `tick` defers a cell, or brings a slice of it. False where there is no such cell.
    pub(super) fn name(&mut self, cell: CellId, tick: Tick) -> bool {
        let is_staged = self.staging.as_ref().is_some_and(|staging| staging.cell == cell);
        match self.get_mut(cell) {
            Some(held) => {
                held.named = tick;
                true
            }
            None => is_staged,
        }
    }

    /// Cells that the snapshot of `tick` did not name are unchanged, and stand at its tick.
    pub(super) fn advance(&mut self, tick: Tick) -> Result<(), &'static str> {
        self.tick = tick;
        self.oldest = self.staging.as_ref().map_or(tick, |staging| staging.tick);
        for held in &mut self.cells {
            if held.named != tick {
                if self.staging.as_ref().is_some_and(|staging| staging.cell == held.id) {
                    return Err("a cell whose slices are under way is neither updated nor deferred");
                }
                held.tick = tick;
            }
            self.oldest = self.oldest.min(held.tick);
        }
        Ok(())
    }
}
