//! Many entities, of which a random tenth moves each tick, this way and that. Everyone sees all.

use bevy_ecs::prelude::*;
use rand::{RngExt as _, seq::index};
use tickwire_shared::{Definition, Field, Game, InputField, NetIds, Quantity, Randomness, Settings, Systems};

/// The setting that says how many entities there are.
pub(crate) const ENTITIES: &str = "entities";
/// The most that it can be set to.
pub(crate) const ENTITIES_MAX: usize = 100_000;

/// One in so many moves each tick.
const MOVES_EVERY: usize = 10;
/// Half of the world's side, in metres.
const REACH: f32 = 100.0;
/// The furthest that an entity moves in one tick along an axis, in metres.
const STEP: f32 = 0.5;

pub(crate) struct World;

#[derive(Component)]
struct Mover;

#[derive(Component)]
struct Position {
    x: f32,
    y: f32,
}

/// All entities, in the order in which they were made.
#[derive(Resource)]
struct All(Vec<Entity>);

impl Game for World {
    fn name(&self) -> &'static str {
        "bench-world"
    }

    fn define(&self, game: &mut Definition) {
        // Without a predictor: where it jumps next has nothing to do with where it came from.
        let metres = |name| Field::plain(name, Quantity::new("m", 0.01, f64::from(-REACH)..=f64::from(REACH)));
        game.kind::<Mover>("mover")
            .field(metres("x"), |position: &Position| position.x)
            .field(metres("y"), |position: &Position| position.y);
        game.input(InputField::hold("push", Quantity::new("", 1.0 / 127.0, -1.0..=1.0)));
        game.setting(ENTITIES, Quantity::count(1..=ENTITIES_MAX as i32), 2000.0);
    }

    fn setup(&self, world: &mut bevy_ecs::world::World, settings: &Settings) {
        let mut rng = world.resource::<Randomness>().stream("positions", 0);
        let mut entities = Vec::new();
        for _ in 0..settings.get(ENTITIES) as usize {
            let id = world.resource_mut::<NetIds>().allocate();
            let position = Position { x: rng.random_range(-REACH..REACH), y: rng.random_range(-REACH..REACH) };
            entities.push(world.spawn((id, Mover, position)).id());
        }
        world.insert_resource(All(entities));
    }

    fn systems(&self, systems: &mut Systems) {
        systems.add(stray);
    }
}

fn stray(randomness: Res<Randomness>, all: Res<All>, mut positions: Query<&mut Position>) {
    let mut rng = randomness.stream("stray", 0);
    for i in index::sample(&mut rng, all.0.len(), all.0.len().div_ceil(MOVES_EVERY)) {
        let mut position = positions.get_mut(all.0[i]).expect("no entity ever goes");
        position.x = (position.x + rng.random_range(-STEP..STEP)).clamp(-REACH, REACH);
        position.y = (position.y + rng.random_range(-STEP..STEP)).clamp(-REACH, REACH);
    }
}
