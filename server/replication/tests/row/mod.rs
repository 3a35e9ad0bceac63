//! The game of the tests' worlds, as far as replication asks it: cells in a row.

use tickwire_shared::{CellKey, Definition, Game, Kind, Systems};

/// A view of radius r shows r cells to each side; the neighbours come in each snapshot, those beyond at half, from the fourth
/// on at a quarter of the rate. Dots weigh more than all else.
pub(crate) struct Row;

impl Game for Row {
    fn name(&self) -> &'static str {
        "row"
    }

    fn define(&self, _: &mut Definition) {}

    fn systems(&self, _: &mut Systems) {}

    fn cells_in_view(&self, from: CellKey, radius: f64, cells: &mut Vec<CellKey>) {
        cells.push(from);
        for distance in 1..=radius as u64 {
            cells.extend(from.0.checked_sub(distance).map(CellKey));
            cells.push(CellKey(from.0 + distance));
        }
    }

    fn rate_divisor(&self, from: CellKey, cell: CellKey, _: f64) -> u32 {
        match from.0.abs_diff(cell.0) {
            0..=1 => 1,
            2..=3 => 2,
            _ => 4,
        }
    }

    fn weight(&self, kind: &Kind) -> u32 {
        if kind.name == "dot" { 3 } else { 1 }
    }
}
