//! Who sees what: the ground in squares, which are the cells of interest.

use bevy_ecs::resource::Resource;
use glam::Vec2;
use tickwire_shared::{CellKey, Place, Settings};

use crate::settings::SIZE;

/// The side of a square, in metres. The corner of square (0, 0) is the middle of the arena.
///
/// An update costs about 8 bytes and a lookup for each cell that it touches, so squares are large: at 64 m a match on
/// human inputs takes 30 % fewer bytes than at 32 m.
pub const SIDE: f32 = 64.0;
/// An arena of up to this side, in metres, is not divided: everyone there is in view in any case.
pub const UNDIVIDED_SIZE: f64 = 256.0;
/// How far, in metres, something stays in the square that it leaves: who walks along an edge does not cross it each tick.
pub const MARGIN: f32 = 2.0;

/// No view reaches further than this, in squares: more than the largest arena has.
const REACH_MAX: f64 = 64.0;

/// How an arena is divided.
#[derive(Resource, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Squares {
    are_divided: bool,
}

impl Squares {
    /// None: all are in sight of all.
    pub const NONE: Self = Self { are_divided: false };
    /// Squares of [`SIDE`] metres.
    pub const MANY: Self = Self { are_divided: true };

    /// The division of the arena that a session's settings make.
    ///
    /// # Panics
    /// Where the settings are not the arena's.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        if settings.get(SIZE) > UNDIVIDED_SIZE { Self::MANY } else { Self::NONE }
    }

    /// Where something at `position` is that is in square `current` so far.
    #[must_use]
    pub fn place_of(self, position: Vec2, current: Option<CellKey>) -> Place {
        if self.are_divided { Place::Cell(key_of(position, current)) } else { Place::Always }
    }
}

/// The square of something at `position` that is in square `current` so far.
#[must_use]
pub fn key_of(position: Vec2, current: Option<CellKey>) -> CellKey {
    current.filter(|&key| is_near(position, key)).unwrap_or_else(|| {
        let Vec2 { x, y } = position / SIDE;
        pack(x.floor() as i32, y.floor() as i32)
    })
}

/// Appends the squares in which something may be that is within `radius` metres of something in square `from`, nearest
/// first. Both may stand up to [`MARGIN`] outside their squares.
pub fn in_view(from: CellKey, radius: f64, cells: &mut Vec<CellKey>) {
    let (column, row) = unpack(from);
    // `max` makes NaN 0.
    let (side, radius) = (f64::from(SIDE), radius.max(0.0) + 2.0 * f64::from(MARGIN));
    // Squares whose edges touch are at no distance, hence the one more.
    let reach = (radius / side).clamp(0.0, REACH_MAX) as i32 + 1;
    let gap = |squares: i32| f64::from((squares.abs() - 1).max(0)) * side;

    let offsets = (-reach..=reach).flat_map(|dy| (-reach..=reach).map(move |dx| (dx, dy)));
    let mut seen: Vec<(i32, (i32, i32))> = offsets
        .filter(|&(dx, dy)| gap(dx) * gap(dx) + gap(dy) * gap(dy) <= radius * radius)
        .map(|(dx, dy)| (dx * dx + dy * dy, (dx, dy)))
        .collect();
    seen.sort_unstable();
    cells.extend(seen.into_iter().map(|(_, (dx, dy))| pack(column.wrapping_add(dx), row.wrapping_add(dy))));
}

/// At which share of its snapshots a player in square `from` gets square `to`: the neighbours, which a shot reaches at once,
/// and all within half of the radius in each; from there on in every other, beyond three quarters in every fourth.
#[must_use]
pub fn rate_divisor(from: CellKey, to: CellKey, radius: f64) -> u32 {
    let ((column, row), (other_column, other_row)) = (unpack(from), unpack(to));
    let between = |a: i32, b: i32| f64::from(a.abs_diff(b).saturating_sub(1)) * f64::from(SIDE);
    let (x, y) = (between(column, other_column), between(row, other_row));
    let share_squared = (x * x + y * y) / (radius * radius);
    match share_squared {
        // Neighbours at a radius of 0 are at 0 / 0.
        share if share.is_nan() || share <= 1.0 / 4.0 => 1,
        share if share <= 9.0 / 16.0 => 2,
        _ => 4,
    }
}

fn is_near(position: Vec2, key: CellKey) -> bool {
    let (column, row) = unpack(key);
    let low = Vec2::new(column as f32, row as f32) * SIDE;
    let outside = (low - position).max(position - (low + SIDE));
    outside.max_element() <= MARGIN
}

/// The key of a square: its column in the upper half, its row in the lower.
const fn pack(column: i32, row: i32) -> CellKey {
    CellKey((column as u32 as u64) << 32 | row as u32 as u64)
}

const fn unpack(key: CellKey) -> (i32, i32) {
    ((key.0 >> 32) as u32 as i32, key.0 as u32 as i32)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn view(from: CellKey, radius: f64) -> Vec<CellKey> {
        let mut cells = Vec::new();
        in_view(from, radius, &mut cells);
        cells
    }

    #[test]
    fn who_walks_along_an_edge_stays_in_one_square() {
        let mut cell = key_of(Vec2::new(-1.0, 5.0), None);
        assert_eq!(cell, pack(-1, 0));
        for x in [0.5, -0.5, 1.9, -3.0, 2.0] {
            cell = key_of(Vec2::new(x, 5.0), Some(cell));
            assert_eq!(cell, pack(-1, 0), "at {x}");
        }
        cell = key_of(Vec2::new(2.1, 5.0), Some(cell));
        assert_eq!(cell, pack(0, 0));
        assert_eq!(key_of(Vec2::new(-1.9, 5.0), Some(cell)), pack(0, 0));
    }

    #[test]
    fn a_small_arena_is_not_divided() {
        let schema = tickwire_shared::schema_of(&crate::Arena).expect("valid");
        let squares = |size| {
            let mut settings = Settings::defaults(&schema);
            settings.set(SIZE, size).expect("in range");
            Squares::of(&settings)
        };
        let corners = [Vec2::splat(-128.0), Vec2::new(127.0, -90.0), Vec2::ZERO];
        assert_eq!(corners.map(|corner| squares(256.0).place_of(corner, None)), [Place::Always; 3]);
        let places = [pack(-2, -2), pack(1, -2), pack(0, 0)].map(Place::Cell);
        assert_eq!(corners.map(|corner| squares(257.0).place_of(corner, None)), places);
    }

    #[test]
    fn a_view_is_the_nine_squares_around_and_more_with_the_radius() {
        assert_eq!(view(pack(-3, 2), 0.0).len(), 9);
        assert_eq!(view(pack(-3, 2), 0.0)[0], pack(-3, 2));
        // With the margins of both squares this reaches over a whole square, but not over its corner.
        let over_a_square = f64::from(SIDE - 2.0 * MARGIN);
        assert_eq!(view(pack(0, 0), over_a_square - 1.0).len(), 9);
        assert_eq!(view(pack(0, 0), over_a_square).len(), 21);
    }

    #[test]
    fn no_radius_is_too_wild() {
        assert_eq!(view(pack(i32::MAX, i32::MIN), f64::NAN).len(), 9);
        assert_eq!(view(pack(0, 0), f64::NEG_INFINITY).len(), 9);
        assert_eq!(view(pack(0, 0), f64::INFINITY).len(), 131 * 131);
    }

    #[test]
    fn the_rate_falls_with_the_distance_and_never_for_neighbours() {
        let from = pack(-3, 2);
        let divisor = |dx: i32, dy: i32, radius| rate_divisor(from, pack(-3 + dx, 2 + dy), radius);
        for (dx, dy) in (-1..=1).flat_map(|dx| (-1..=1).map(move |dy| (dx, dy))) {
            assert!([0.0, 10.0, 1000.0].iter().all(|radius| divisor(dx, dy, *radius) == 1), "{dx}, {dy}");
        }
        // From edge to edge it is one square less.
        assert_eq!([2, 3, 4, 5].map(|dx| divisor(dx, 0, 4.0 * 64.0)), [1, 1, 2, 4]);
        assert_eq!([divisor(-4, 0, 256.0), divisor(3, -3, 256.0), divisor(4, 4, 256.0)], [2, 2, 4]);
        assert_eq!(rate_divisor(pack(i32::MIN, 0), pack(i32::MAX, 0), 256.0), 4);
    }

    proptest! {
        #[test]
        fn keys_of_negative_squares_come_back(column in any::<i32>(), row in any::<i32>()) {
            prop_assert_eq!(unpack(pack(column, row)), (column, row));
        }

        #[test]
        fn whoever_is_within_the_radius_is_in_a_square_in_view(
            x in -1000.0..1000.0_f32, y in -1000.0..1000.0_f32, angle in 0..4096_i32,
            share in 0.0..0.999_f32, radius in 0.0..200.0_f32,
            shifts in prop::array::uniform4(-2.0..2.0_f32),
        ) {
            let here = Vec2::new(x, y);
            let there = here + crate::aim::Aim::from_steps(angle).direction() * radius * share;
            // Each may still be in the square of a place nearby.
            let old = |at: Vec2, dx, dy| Some(key_of(at + Vec2::new(dx, dy), None));
            let from = key_of(here, old(here, shifts[0], shifts[1]));
            let to = key_of(there, old(there, shifts[2], shifts[3]));
            prop_assert!(view(from, f64::from(radius)).contains(&to));
        }

        #[test]
        fn a_view_is_near_first_without_doubles_and_the_same_from_everywhere(
            column in -40..40_i32, row in -40..40_i32, radius in 0.0..300.0_f64
        ) {
            let cells = view(pack(column, row), radius);
            prop_assert_eq!(cells[0], pack(column, row));
            prop_assert_eq!(cells.iter().collect::<BTreeSet<_>>().len(), cells.len());
            let offsets = |cells: &[CellKey], column, row| -> Vec<(i32, i32)> {
                cells.iter().map(|&key| unpack(key)).map(|(x, y)| (x - column, y - row)).collect()
            };
            let offsets_here = offsets(&cells, column, row);
            prop_assert!(offsets_here.is_sorted_by_key(|(dx, dy)| dx * dx + dy * dy));
            prop_assert_eq!(offsets_here, offsets(&view(pack(0, 0), radius), 0, 0));
        }
    }
}
