//! The ground: walls around a square, and boxes on it for cover. Built from the settings alone, so that clients have the
//! same one.

use bevy_ecs::resource::Resource;
use glam::Vec2;
use rand::{Rng, RngExt as _};
use tickwire_shared::{Randomness, Settings, Tick};

use crate::{
    movement::{FINE_STEPS, PLAYER_RADIUS},
    settings,
    tiles::spans,
};

/// The ground is divided into square plots of this side, in metres; each holds one piece of cover or none.
const PLOT: f32 = 10.0;
/// Cover keeps this far, in metres, from the edges of its plot: two players pass between any two pieces.
const PLOT_MARGIN: f32 = 1.0;

/// A session's map. Its middle is (0, 0), x points east, y north.
///
/// All coordinates are whole quarters of a metre, so that players who touch a wall or cover stand at snapped positions.
#[derive(Resource, Clone, Debug, PartialEq)]
pub struct Map {
    half: f32,
    /// Plots per row.
    columns: i32,
    /// Row by row from the south-west.
    plots: Vec<Option<Block>>,
}

/// A box with sides along the axes. Its faces do not belong to it: what touches it is outside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    /// The south-west corner.
    pub low: Vec2,
    /// The north-east corner.
    pub high: Vec2,
}

/// How a way along the ground ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slide {
    /// Where.
    pub position: Vec2,
    /// Whether something was in the way to the east or west.
    pub blocked_x: bool,
    /// Whether something was in the way to the north or south.
    pub blocked_y: bool,
}

impl Map {
    /// The map of a session with these settings.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        let whole = |name, steps: f64| (settings.get(name) * steps).round() as u32;
        Self::new(whole(settings::SIZE, 1.0), whole(settings::MAP_SEED, 1.0), whole(settings::COVER, 100.0))
    }

    /// A map of `size` metres a side, with cover on about `cover_percent` of its plots; `seed` says which one.
    #[must_use]
    pub fn new(size: u32, seed: u32, cover_percent: u32) -> Self {
        let half = size as f32 / 2.0;
        let columns = size / PLOT as u32;
        let mut rng = Randomness { seed: seed.into(), tick: Tick::ZERO }.stream("map", 0);
        let mut plot = |i| {
            let corner = Vec2::new((i % columns) as f32, (i / columns) as f32) * PLOT - half;
            // Drawn for every plot, so that more cover is the same cover and more.
            let (chance, block) = (rng.random_range(0..100), random_block(&mut rng, corner));
            (chance < cover_percent).then_some(block)
        };
        let plots = (0..columns * columns).map(&mut plot).collect();
        Self { half, columns: columns as i32, plots }
    }

    /// From the middle to each wall, in metres.
    #[must_use]
    pub const fn half(&self) -> f32 {
        self.half
    }

    /// All cover, row by row from the south-west.
    pub fn cover(&self) -> impl Iterator<Item = &Block> {
        self.plots.iter().flatten()
    }

    /// Whether a player can stand at `position`.
    #[must_use]
    pub fn is_free(&self, position: Vec2) -> bool {
        let in_walls = position.abs().max_element() <= self.half - PLAYER_RADIUS;
        in_walls && !self.cover_along(position, position).any(|block| block.grown(PLAYER_RADIUS).contains(position))
    }

    /// Moves a player by `step` metres, along x and then along y, up to whatever is in the way: nobody gets through
    /// cover, however far the step. Walls and cover meet a player as a square.
    #[must_use]
    pub fn slide(&self, from: Vec2, step: Vec2) -> Slide {
        let to = from + step;
        let limit = self.half - PLAYER_RADIUS;
        let hulls = |a, b| self.cover_along(a, b).map(|block| block.grown(PLAYER_RADIUS));

        let x = hulls(from, Vec2::new(to.x, from.y))
            .filter(|hull| hull.low.y < from.y && from.y < hull.high.y)
            .fold(to.x, |end, hull| stop(from.x, end, hull.low.x, hull.high.x))
            .clamp(-limit, limit);
        let y = hulls(Vec2::new(x, from.y), Vec2::new(x, to.y))
            .filter(|hull| hull.low.x < x && x < hull.high.x)
            .fold(to.y, |end, hull| stop(from.y, end, hull.low.y, hull.high.y))
            .clamp(-limit, limit);
        Slide { position: Vec2::new(x, y), blocked_x: x != to.x, blocked_y: y != to.y }
    }

    /// How much of the segment from `from` to `to` is free of walls and cover: 1 where nothing is in the way.
    #[must_use]
    pub fn free_share(&self, from: Vec2, to: Vec2) -> f32 {
        let walls = Block { low: Vec2::splat(-self.half), high: Vec2::splat(self.half) };
        let inside = walls.overlap(from, to).map_or(0.0, |(_, end)| end);
        let entries = self.cover_along(from, to).filter_map(|block| block.overlap(from, to));
        entries.map(|(start, _)| start).fold(inside, f32::min)
    }

    /// A place where a player can stand, any as likely as any other.
    pub(crate) fn random_place(&self, rng: &mut impl Rng) -> Vec2 {
        let limit = self.half - PLAYER_RADIUS;
        let steps = (limit * FINE_STEPS) as i32;
        let mut coordinate = || rng.random_range(-steps..=steps) as f32 / FINE_STEPS;
        let place = Vec2::new(coordinate(), coordinate());
        if self.is_free(place) {
            return place;
        }
        // The corners of plots are free.
        let corner = ((place + self.half) / PLOT).floor() * PLOT - self.half;
        corner.clamp(Vec2::splat(-limit), Vec2::splat(limit))
    }

    /// The cover of all plots that a segment touches.
    fn cover_along(&self, from: Vec2, to: Vec2) -> impl Iterator<Item = &Block> {
        spans(from + self.half, to + self.half, 0.0, PLOT)
            .filter(|span| (0..self.columns).contains(&span.row))
            .flat_map(|span| {
                let (first, last) = ((*span.columns.start()).max(0), (*span.columns.end()).min(self.columns - 1));
                let start = span.row * self.columns;
                (first..=last).map(move |column| start + column)
            })
            .filter_map(|plot| self.plots[plot as usize].as_ref())
    }
}

impl Block {
    /// Whether `point` is inside.
    #[must_use]
    pub fn contains(&self, point: Vec2) -> bool {
        self.low.cmplt(point).all() && point.cmplt(self.high).all()
    }

    fn grown(self, by: f32) -> Self {
        Self { low: self.low - by, high: self.high + by }
    }

    /// From which to which share of a segment it is inside.
    fn overlap(&self, from: Vec2, to: Vec2) -> Option<(f32, f32)> {
        let way = to - from;
        let (mut start, mut end) = (0.0_f32, 1.0_f32);
        for (from, way, low, high) in
            [(from.x, way.x, self.low.x, self.high.x), (from.y, way.y, self.low.y, self.high.y)]
        {
            if way == 0.0 {
                if from <= low || from >= high {
                    return None;
                }
                continue;
            }
            let (a, b) = ((low - from) / way, (high - from) / way);
            start = start.max(a.min(b));
            end = end.min(a.max(b));
        }
        (start < end).then_some((start, end))
    }
}

/// Where a way along one axis from `start` towards `end` is stopped by a hull from `low` to `high`.
fn stop(start: f32, end: f32, low: f32, high: f32) -> f32 {
    if start <= low {
        end.min(low)
    } else if start >= high {
        end.max(high)
    } else {
        end
    }
}

/// A box within the margins of the plot at `corner`: sides of 1 to 6 m in steps of half a metre.
fn random_block(rng: &mut impl Rng, corner: Vec2) -> Block {
    let mut side = || rng.random_range(2..=12) as f32 / 2.0;
    let size = Vec2::new(side(), side());
    let room = Vec2::splat(PLOT - 2.0 * PLOT_MARGIN) - size;
    let mut offset = |room: f32| rng.random_range(0..=(room * 4.0) as i32) as f32 / 4.0;
    let low = corner + PLOT_MARGIN + Vec2::new(offset(room.x), offset(room.y));
    Block { low, high: low + size }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tickwire_shared::schema_of;

    use super::*;
    use crate::{Arena, aim::Aim, movement::snap};

    fn block(low: (f32, f32), high: (f32, f32)) -> Block {
        Block { low: low.into(), high: high.into() }
    }

    /// 40 m a side, one piece of cover of 2 by 4 m in the plot whose corner is the middle.
    fn one_block() -> Map {
        let mut map = Map::new(40, 1, 0);
        map.plots[10] = Some(block((2.0, 3.0), (4.0, 7.0)));
        map
    }

    #[test]
    fn settings_alone_make_the_map() {
        let schema = schema_of(&Arena).expect("the definition is valid");
        let mut settings = Settings::defaults(&schema);
        assert_eq!(Map::of(&settings), Map::new(200, 1, 30));
        settings.set(settings::MAP_SEED, 7.0).expect("in range");
        assert_ne!(Map::of(&settings), Map::new(200, 1, 30));
        settings.set(settings::COVER, 0.0).expect("in range");
        assert_eq!(Map::of(&settings).cover().count(), 0);
    }

    #[test]
    fn cover_follows_its_density_and_more_of_it_keeps_what_there_was() {
        let (some, all) = (Map::new(200, 5, 30), Map::new(200, 5, 100));
        assert_eq!(all.cover().count(), 400);
        assert!((90..150).contains(&some.cover().count()), "{}", some.cover().count());
        assert!(some.cover().all(|block| all.cover().any(|other| other == block)));
    }

    #[test]
    fn sight_ends_at_cover_and_walls() {
        let map = one_block();
        let share = |from: (f32, f32), to: (f32, f32)| map.free_share(from.into(), to.into());
        assert_eq!(share((0.0, 5.0), (8.0, 5.0)), 0.25);
        assert_eq!(share((8.0, 5.0), (0.0, 5.0)), 0.5);
        assert_eq!(share((0.0, 2.0), (8.0, 2.0)), 1.0);
        // Along a face is free.
        assert_eq!(share((2.0, 0.0), (2.0, 10.0)), 1.0);
        assert_eq!(share((-10.0, 0.0), (-30.0, 0.0)), 0.5);
        assert_eq!(share((5.0, 5.0), (5.0, 5.0)), 1.0);
    }

    #[test]
    fn a_way_slides_along_what_stops_it() {
        let map = one_block();
        let slide = map.slide(Vec2::new(0.0, 4.0), Vec2::new(30.0, 1.0));
        let touching = 2.0 - PLAYER_RADIUS;
        assert_eq!(slide, Slide { position: Vec2::new(touching, 5.0), blocked_x: true, blocked_y: false });
        let on = map.slide(slide.position, Vec2::new(1.0, 4.0));
        assert_eq!(on.position, Vec2::new(touching, 9.0));
        let corner = map.slide(Vec2::new(15.0, -15.0), Vec2::new(100.0, -100.0));
        let wall = 20.0 - PLAYER_RADIUS;
        assert_eq!(corner, Slide { position: Vec2::new(wall, -wall), blocked_x: true, blocked_y: true });
    }

    proptest! {
        #[test]
        fn everybody_can_get_past_any_cover(size in 32..=100_u32, seed in any::<u32>()) {
            let map = Map::new(size, seed, 100);
            let snapped = |v: Vec2| v * 4.0 == (v * 4.0).round();
            for block in map.cover() {
                prop_assert!(snapped(block.low) && snapped(block.high));
                let inner = map.half() - PLOT_MARGIN;
                prop_assert!(block.low.min_element() >= -inner && block.high.max_element() <= inner);
                let others = map.cover().filter(|other| *other != block);
                let apart = others.map(|other| (other.low - block.high).max(block.low - other.high).max_element());
                prop_assert!(apart.fold(f32::MAX, f32::min) >= 2.0 * PLOT_MARGIN);
            }
        }

        #[test]
        fn random_places_are_free(size in 32..=100_u32, seed in any::<u64>()) {
            let map = Map::new(size, 3, 100);
            let mut rng = Randomness { seed, tick: Tick(1) }.stream("test", 0);
            for _ in 0..20 {
                let place = map.random_place(&mut rng);
                prop_assert!(map.is_free(place));
                prop_assert_eq!(snap(place), place);
            }
        }

        #[test]
        fn sight_is_as_far_as_small_steps_find(
            seed in any::<u64>(), angle in 0..Aim::STEPS, length in 0.1..120.0_f32
        ) {
            let map = Map::new(100, 9, 60);
            let from = map.random_place(&mut Randomness { seed, tick: Tick(1) }.stream("test", 0));
            let to = from + Aim::from_steps(angle).direction() * length;
            let share = map.free_share(from, to);
            let blocked = |point: Vec2| {
                point.abs().max_element() > map.half() || map.cover().any(|block| block.contains(point))
            };
            for step in 0..1000 {
                let at = step as f32 / 1000.0;
                // Nearer to the end than a millimetre or so, rounding decides.
                if (at - share) * length < -1e-3 {
                    prop_assert!(!blocked(from + (to - from) * at), "blocked at {at}, before {share}");
                }
            }
            if share < 1.0 {
                // A millimetre or so around counts, since a corner may be grazed.
                let end = from + (to - from) * (share + 1e-3 / length);
                let near = |block: &Block| block.grown(2e-3).contains(end);
                let is_blocked = end.abs().max_element() > map.half() - 2e-3 || map.cover().any(near);
                prop_assert!(is_blocked, "free beyond {share}");
            }
        }
    }
}
