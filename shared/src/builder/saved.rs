//! What of a builder is not in its frame, and how a builder goes on from both.

use std::sync::Arc;

use super::{FrameBuilder, Slot, cells::Members, table::Table};
use crate::{Frame, KindId, NetId, Place, Schema};

/// The truth of the entities of one kind, in order of NetId, beyond what a frame has of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TruthRows {
    pub(crate) ids: Vec<NetId>,
    /// As many values for each as the kind has fields.
    pub(crate) fine: Vec<i32>,
    /// As many for each as the kind has fields.
    pub(crate) rates: Vec<Option<i32>>,
    pub(crate) ramps: Vec<u16>,
}

/// Where two builders do not agree about the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TruthDifference {
    /// The entity's kind.
    pub kind: KindId,
    /// Which entity: the first in order of kind and NetId.
    pub net_id: NetId,
    /// Which field, with the first builder's value and the other's, in quanta of `quantum / 2^owner_shift`; `None`: only
    /// one of them has the entity.
    pub field: Option<(usize, i32, i32)>,
}

impl FrameBuilder {
    /// What is to be kept of it beside its newest frame, between ticks.
    pub(crate) fn truth_rows(&self) -> Vec<TruthRows> {
        self.kinds.iter().map(Table::truth_rows).collect()
    }

    /// A builder that goes on from a frame. The rows fit the frame.
    pub(crate) fn going_on(schema: &Schema, frame: Arc<Frame>, truth: &[TruthRows]) -> Self {
        let mut builder = Self::new(schema, frame.epoch);
        builder.tick = frame.tick;
        builder.cells = frame.cells.iter().map(|_| Members::new(builder.kinds.len())).collect();
        for (kind, rows) in (0..).map(KindId).zip(truth) {
            let table = &mut builder.kinds[kind.index()];
            builder.truth_sum = builder.truth_sum.wrapping_add(table.fill(kind, frame.tick, rows));
            for (row, &id) in rows.ids.iter().enumerate() {
                builder.index.insert(id, Slot { kind, row: row as u32 });
            }
        }
        for &(id, kind, cell) in frame.places.entries() {
            let row = builder.index.get(&id).expect("the rows fit the frame").row;
            let place = frame.table.place(cell).expect("each cell is a place");
            let columns = &frame.cells[cell.index()].state.kinds[kind.index()];
            let at = columns.row(id).expect("who is in a cell stands in its columns");
            builder.kinds[kind.index()].go_on(row as usize, (cell, place), columns, at);
            builder.cells[cell.index()].fill(kind, id, row);
        }
        for table in &mut builder.kinds {
            table.find_moving(frame.tick);
        }
        let has_events = |(_, cell): &(u32, &crate::CellFrame)| cell.events.is_some() || cell.events_lost > 0;
        let eventful = (0..).zip(frame.cells.iter()).filter(has_events);
        builder.eventful = eventful.map(|(cell, _)| crate::CellId(cell)).collect();
        builder.frame = frame;
        builder
    }

    /// The sum, modulo 2^64, of all entities' truth hashes: a part of the state hash.
    #[must_use]
    pub fn state_hash(&self, hidden: u64) -> u64 {
        let mut state = crate::Digest::default();
        state.write(self.truth_sum);
        state.write(hidden);
        state.finish()
    }

    /// The first entity of which this builder and another one of the same schema do not hold the same truth, if there is one:
    /// what was set, whether or not it stands in a frame.
    #[must_use]
    pub fn first_difference(&self, other: &Self) -> Option<TruthDifference> {
        (0..).map(KindId).zip(self.kinds.iter().zip(&other.kinds)).find_map(|(kind, (ours, theirs))| {
            let (ours, theirs) = (ours.truth_rows(), theirs.truth_rows());
            difference(kind, &ours, &theirs)
        })
    }
}

fn difference(kind: KindId, ours: &TruthRows, theirs: &TruthRows) -> Option<TruthDifference> {
    let width = |rows: &TruthRows| rows.fine.len().checked_div(rows.ids.len()).unwrap_or(0);
    let width = width(ours).max(width(theirs));
    let mut pairs = ours.ids.iter().zip(&theirs.ids).enumerate();
    let differs = pairs.find_map(|(row, (&a, &b))| {
        if a != b {
            return Some(TruthDifference { kind, net_id: a.min(b), field: None });
        }
        let range = row * width..(row + 1) * width;
        let values = ours.fine[range.clone()].iter().zip(&theirs.fine[range]).enumerate();
        let field = values.map(|(field, (&a, &b))| (field, a, b)).find(|(_, a, b)| a != b)?;
        Some(TruthDifference { kind, net_id: a, field: Some(field) })
    });
    let both = ours.ids.len().min(theirs.ids.len());
    let rest = || ours.ids.get(both).or_else(|| theirs.ids.get(both)).copied();
    differs.or_else(|| Some(TruthDifference { kind, net_id: rest()?, field: None }))
}

/// Where an entity is, by both its names.
pub(super) type Whereabouts = (crate::CellId, Place);
