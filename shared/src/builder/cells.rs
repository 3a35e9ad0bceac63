//! Which entities are in which cell, and the columns of cells that changed.

use std::sync::Arc;

use super::table::Table;
use crate::{CellFrame, CellId, CellState, Columns, Frame, KindId, NetId, Place};

/// The most cells of a session.
pub const CELLS_MAX: usize = 1 << 16;

/// The entities of one cell.
#[derive(Debug)]
pub(super) struct Members {
    kinds: Vec<KindMembers>,
    marked: bool,
}

#[derive(Debug, Default)]
struct KindMembers {
    /// (NetId, row), rising.
    all: Vec<(NetId, u32)>,
    /// Whether any came or went at this tick.
    moved: bool,
    /// Those that stayed and changed at this tick.
    changed: Vec<(NetId, u32)>,
}

impl Members {
    pub(super) fn new(kinds: usize) -> Self {
        Self { kinds: (0..kinds).map(|_| KindMembers::default()).collect(), marked: false }
    }

    /// Notes that the cell is to be rebuilt. Whether that is news.
    pub(super) fn mark(&mut self) -> bool {
        !std::mem::replace(&mut self.marked, true)
    }

    pub(super) fn insert(&mut self, kind: KindId, id: NetId, row: u32) {
        let members = &mut self.kinds[kind.index()];
        if let Err(i) = members.all.binary_search_by_key(&id, |member| member.0) {
            members.all.insert(i, (id, row));
        }
        members.moved = true;
    }

    /// Adds one of those that the cell's columns have, in their order.
    pub(super) fn fill(&mut self, kind: KindId, id: NetId, row: u32) {
        self.kinds[kind.index()].all.push((id, row));
    }

    pub(super) fn remove(&mut self, kind: KindId, id: NetId) {
        let members = &mut self.kinds[kind.index()];
        if let Ok(i) = members.all.binary_search_by_key(&id, |member| member.0) {
            members.all.remove(i);
        }
        members.moved = true;
    }

    pub(super) fn change(&mut self, kind: KindId, id: NetId, row: u32) {
        self.kinds[kind.index()].changed.push((id, row));
    }

    /// The cell's new state: columns that did not change stay shared, those that changed in few rows are patched.
    pub(super) fn rebuild(&mut self, old: &CellState, tables: &[Table]) -> CellState {
        self.marked = false;
        let mut state = CellState::clone(old);
        for ((members, columns), table) in self.kinds.iter_mut().zip(&mut state.kinds).zip(tables) {
            if members.moved {
                *columns = Arc::new(table.gather(&members.all));
            } else if !members.changed.is_empty() {
                *columns = Arc::new(members.patched(columns, table));
            }
            members.moved = false;
            members.changed.clear();
        }
        state
    }
}

impl KindMembers {
    fn patched(&self, columns: &Columns, table: &Table) -> Columns {
        // Where nearly all changed, one pass over all is cheaper than a copy and a search for each.
        if self.changed.len() * 2 > self.all.len() {
            return table.gather(&self.all);
        }
        let mut columns = Columns::clone(columns);
        for &(id, row) in &self.changed {
            let at = columns.row(id).expect("who stayed in the cell stands in its columns");
            table.write(row as usize, &mut columns, at);
        }
        columns
    }
}

/// The cell of a place, which is made where it is new.
pub(super) fn intern(place: Place, frame: &mut Frame) -> CellId {
    if let Some(cell) = frame.table.id(place) {
        return cell;
    }
    let cell = Arc::make_mut(&mut frame.table).intern(place);
    assert!(cell.index() < CELLS_MAX, "the game uses more than {CELLS_MAX} cells; make its cells larger");
    // A new cell starts as the empty `always` of tick 0 did: columns of the right shape, without rows.
    let state = CellState {
        kinds: frame.cells[0].state.kinds.iter().map(|columns| Arc::new(columns.without_rows())).collect(),
    };
    Arc::make_mut(&mut frame.cells).push(CellFrame { state: Arc::new(state), ..CellFrame::default() });
    cell
}
