//! A game to look at: movers on courses of their own, near and far.

use bevy_ecs::prelude::*;
use tickwire_shared::{
    CellKey, Clock, Definition, Field, Game, InputField, NetId, NetIds, Owner, Quantity, Seats, Settings, Systems,
};

pub(crate) struct Movers;

/// The fastest of them, in m/s.
pub(crate) const SPEED: f64 = 5.0;
/// The finest step of a place, in metres.
pub(crate) const QUANTUM: f64 = 1.0 / 1024.0;

/// What a mover does, in order of NetId within each zone.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    /// Now slow, now fast.
    Uneven,
    /// Stops and goes.
    Halting,
    /// Starts again from the west now and then.
    Jumping,
    /// Runs in a circle, and looks where it goes.
    Circling,
}

pub(crate) const COURSES: [Course; 4] = [Course::Uneven, Course::Halting, Course::Jumping, Course::Circling];
/// Zones 0, 1 and 2 are sent in each, every second and every fourth snapshot.
pub(crate) const ZONES: u64 = 3;

/// Movers are spawned first: their numbers follow from what they are.
pub(crate) fn mover(zone: u64, course: Course) -> NetId {
    let place = COURSES.iter().position(|candidate| *candidate == course).unwrap() as u64;
    NetId((zone * COURSES.len() as u64 + place) as u32 + 1)
}

#[derive(Component)]
struct Mover;

#[derive(Component, Clone, Copy, PartialEq)]
struct Place {
    x: f64,
    y: f64,
    turns: f64,
    jumps: u8,
}

#[derive(Component)]
struct Zone(u64);

impl Game for Movers {
    fn name(&self) -> &'static str {
        "movers"
    }

    fn define(&self, game: &mut Definition) {
        let metres = || Quantity::new("m", QUANTUM, -1000.0..=1000.0);
        let turn = Quantity { unit: "turn".into(), ..Quantity::count(0..=0) };
        game.kind::<Mover>("mover")
            .field(Field::linear("x", metres()), |place: &Place| place.x)
            .field(Field::linear("y", metres()), |place: &Place| place.y)
            .field(Field::plain("aim", turn).angle(256, 1.0), |place: &Place| place.turns)
            .field(Field::plain("jumps", Quantity::count(0..=255)).teleports(), |place: &Place| place.jumps)
            .place(|zone: &Zone, _| CellKey(zone.0));
        game.input(InputField::hold("push", Quantity::count(-1..=1)));
    }

    fn setup(&self, world: &mut World, _: &Settings) {
        for zone in 0..ZONES {
            for course in COURSES {
                let id = world.resource_mut::<NetIds>().allocate();
                world.spawn((id, Mover, Zone(zone), course, Place { x: 0.0, y: 0.0, turns: 0.0, jumps: 0 }));
            }
        }
    }

    fn systems(&self, systems: &mut Systems) {
        systems.add(come).add(go);
    }

    fn cells_in_view(&self, _: CellKey, _: f64, cells: &mut Vec<CellKey>) {
        cells.extend((0..ZONES).map(CellKey));
    }

    fn rate_divisor(&self, _: CellKey, cell: CellKey, _: f64) -> u32 {
        1 << cell.0
    }
}

fn come(mut commands: Commands, seats: Res<Seats>, mut ids: ResMut<NetIds>) {
    for &player in &seats.joined {
        commands.spawn((ids.allocate(), Owner(player), Mover, Zone(0), Place { x: 0.0, y: 0.0, turns: 0.0, jumps: 0 }));
    }
}

fn go(clock: Res<Clock>, mut movers: Query<(&Course, &mut Place)>) {
    let (tick, dt) = (clock.tick.0, f64::from(clock.dt()));
    for (course, mut place) in &mut movers {
        match course {
            Course::Uneven => place.x += dt * if (tick / 40).is_multiple_of(2) { SPEED } else { 1.0 },
            Course::Halting => place.x += dt * if (tick / 30).is_multiple_of(2) { SPEED } else { 0.0 },
            Course::Jumping if tick.is_multiple_of(90) => {
                *place = Place { x: -20.0, jumps: place.jumps.wrapping_add(1), ..*place };
            }
            Course::Jumping => place.x += dt * SPEED,
            Course::Circling => {
                let angle = tick as f64 * dt;
                place.x = SPEED * libm::cos(angle);
                place.y = SPEED * libm::sin(angle);
                place.turns = angle / std::f64::consts::TAU + 0.25;
            }
        }
    }
}
