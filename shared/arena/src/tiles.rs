//! Tiles: which parts of the ground a segment touches, for whatever is looked up by place.

use std::ops::RangeInclusive;

use glam::Vec2;

/// Tiles of one row, side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) row: i32,
    pub(crate) columns: RangeInclusive<i32>,
}

/// Added to every reach, in metres, so that rounding never loses a tile.
const SLACK: f32 = 1.0 / 64.0;

/// The tile, of `side` metres, in which `coordinate` lies.
pub(crate) fn tile(coordinate: f32, side: f32) -> i32 {
    // As `floor` does, which is a call where the processor is not known to have an instruction for it.
    let share = coordinate / side;
    let whole = share as i32;
    whole.saturating_sub(i32::from(share < whole as f32))
}

/// The rows and columns of the tiles that come within `reach` metres of `point`; now and then one more.
pub(crate) fn around(point: Vec2, reach: f32, side: f32) -> (RangeInclusive<i32>, RangeInclusive<i32>) {
    let reach = reach + SLACK;
    let [rows, columns] = [point.y, point.x].map(|at| tile(at - reach, side)..=tile(at + reach, side));
    (rows, columns)
}

/// The tiles that come within `reach` metres of the segment from `from` to `to`, row by row; now and then one more.
pub(crate) fn spans(from: Vec2, to: Vec2, reach: f32, side: f32) -> impl Iterator<Item = Span> {
    let reach = reach + SLACK;
    let (low, high) = if from.y <= to.y { (from, to) } else { (to, from) };
    let way = high - low;
    // The part of the segment, as shares of its way, that comes within reach of a row.
    let share = move |y: f32| if way.y > 0.0 { ((y - low.y) / way.y).clamp(0.0, 1.0) } else { 0.0 };
    (tile(low.y - reach, side)..=tile(high.y + reach, side)).map(move |row| {
        let start = share(row as f32 * side - reach);
        let end = if way.y > 0.0 { share((row + 1) as f32 * side + reach) } else { 1.0 };
        let (a, b) = (low.x + way.x * start, low.x + way.x * end);
        Span { row, columns: tile(a.min(b) - reach, side)..=tile(a.max(b) + reach, side) }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn touches(from: Vec2, to: Vec2, reach: f32, side: f32, point: Vec2) -> bool {
        let (column, row) = (tile(point.x, side), tile(point.y, side));
        spans(from, to, reach, side).any(|span| span.row == row && span.columns.contains(&column))
    }

    #[test]
    fn a_slanted_segment_touches_a_stair_of_tiles() {
        let spans: Vec<Span> = spans(Vec2::new(1.0, 1.0), Vec2::new(29.0, 19.0), 0.0, 10.0).collect();
        assert_eq!(spans, [Span { row: 0, columns: 0..=1 }, Span { row: 1, columns: 1..=2 }]);
    }

    proptest! {
        #[test]
        fn a_tile_is_the_floor(coordinate in any::<f32>()) {
            prop_assert_eq!(tile(coordinate, 4.0), (coordinate / 4.0).floor() as i32);
        }

        #[test]
        fn whatever_is_within_reach_is_in_a_tile(
            x in -1000.0..1000.0_f32, y in -1000.0..1000.0_f32,
            dx in prop_oneof![Just(0.0_f32), -1e-5..1e-5_f32, -120.0..120.0_f32],
            dy in prop_oneof![Just(0.0_f32), -1e-5..1e-5_f32, -120.0..120.0_f32],
            share in 0.0..=1.0_f32, angle in 0..4096_i32, off in 0.0..=1.0_f32,
            reach in prop_oneof![Just(0.0_f32), 0.0..5.0_f32],
        ) {
            let (from, to) = (Vec2::new(x, y), Vec2::new(x + dx, y + dy));
            let beside = crate::aim::Aim::from_steps(angle).direction() * reach * off;
            let point = from + (to - from) * share + beside;
            prop_assert!(touches(from, to, reach, 4.0, point));
            prop_assert!(touches(to, from, reach, 10.0, point));
        }
    }
}
