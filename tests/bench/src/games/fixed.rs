//! Snapshots of a given size, the same for all: numbers without a place that all change by much at each tick.

use bevy_ecs::prelude::*;
use tickwire_shared::{Clock, Definition, Field, Game, InputField, NetIds, Quantity, Settings, Systems};

/// The setting that says how long snapshots are.
pub(crate) const BYTES: &str = "bytes";
/// The most that it can be set to.
pub(crate) const BYTES_MAX: usize = 12_000;

/// What a snapshot has around the changes: its header, and those of its one cell and two kinds.
const HEADER_BYTES: usize = 20;
/// A block's change: the gap, the mask, and 5 bytes for each number.
const BLOCK_BYTES: usize = 2 + 5 * BLOCK_NUMBERS;
const BLOCK_NUMBERS: usize = 7;
/// A grain's change, likewise.
const GRAIN_BYTES: usize = 2 + 5;

/// The numbers take so many values in turn, which lie so far apart that each difference takes 5 bytes: also to a base some
/// ticks ago.
const VALUES: u64 = 8;
const APART: i32 = 1 << 28;

pub(crate) struct Fixed;

#[derive(Component)]
struct Block;

#[derive(Component)]
struct Grain;

#[derive(Component)]
struct Numbers([i32; BLOCK_NUMBERS]);

impl Game for Fixed {
    fn name(&self) -> &'static str {
        "bench-fixed"
    }

    fn define(&self, game: &mut Definition) {
        let number = |name: &str| Field::plain(name, Quantity::count(-4 * APART..=4 * APART));
        let mut blocks = game.kind::<Block>("block");
        for i in 0..BLOCK_NUMBERS {
            blocks = blocks.field(number(&format!("number_{i}")), move |numbers: &Numbers| numbers.0[i]);
        }
        game.kind::<Grain>("grain").field(number("number"), |numbers: &Numbers| numbers.0[0]);
        game.input(InputField::hold("push", Quantity::new("", 1.0 / 127.0, -1.0..=1.0)));
        game.setting(BYTES, Quantity::count(1..=BYTES_MAX as i32), 600.0);
    }

    fn setup(&self, world: &mut World, settings: &Settings) {
        let bytes = (settings.get(BYTES) as usize).saturating_sub(HEADER_BYTES).max(GRAIN_BYTES);
        let (blocks, rest) = (bytes / BLOCK_BYTES, bytes % BLOCK_BYTES);
        for i in 0..blocks + rest / GRAIN_BYTES {
            let id = world.resource_mut::<NetIds>().allocate();
            let numbers = Numbers([0; BLOCK_NUMBERS]);
            if i < blocks {
                world.spawn((id, Block, numbers));
            } else {
                world.spawn((id, Grain, numbers));
            }
        }
    }

    fn systems(&self, systems: &mut Systems) {
        systems.add(step);
    }
}

fn step(clock: Res<Clock>, mut all: Query<&mut Numbers>) {
    let value = ((clock.tick.0 % VALUES) as i32 - 4) * APART;
    for mut numbers in &mut all {
        numbers.0 = [value; BLOCK_NUMBERS];
    }
}
