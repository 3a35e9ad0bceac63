//! From a world to bytes: what a tick costs beside the game's own systems and the network, with N entities of which all,
//! a tenth or none move erratically, so that no prediction holds.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use bevy_ecs::{component::Component, world::World};
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tickwire_shared::{
    Blueprint, CellKey, Clock, Definition, Field, Frame, FrameBuilder, Game, NetId, Quantity, Systems, Tick,
    TickExtras, TickRate,
};
use tickwire_wire::{CellChange, ChunkBuffer, ChunkEncoder, Layout};

const SLICE_BYTES_MAX: usize = 1 << 14;
/// The side of a cell, in metres.
const CELL: f32 = 64.0;
/// Entities stand this far apart: about 100 to a cell.
const SPACING: f32 = 6.4;

struct Movers;

#[derive(Component)]
struct Mover;

#[derive(Component)]
struct Position([f32; 2]);

#[derive(Component)]
struct Health(i32);

impl Game for Movers {
    fn name(&self) -> &str {
        "movers"
    }

    fn define(&self, definition: &mut Definition) {
        let coordinate = |name| Field::ramp(name, Quantity::new("m", 1.0 / 128.0, -1024.0..=1024.0)).owner_shift(3);
        definition
            .kind::<Mover>("mover")
            .field(coordinate("x"), |position: &Position| position.0[0])
            .field(coordinate("y"), |position: &Position| position.0[1])
            // They hop: nothing is to be expected of where they go.
            .heading("x", |_: &Position| 0.0)
            .heading("y", |_: &Position| 0.0)
            .field(Field::plain("health", Quantity::count(0..=100)), |health: &Health| health.0)
            .place(|position: &Position, _| {
                let [x, y] = position.0.map(|at| (at / CELL) as u64);
                CellKey(x << 32 | y)
            });
    }

    fn systems(&self, _: &mut Systems) {}
}

struct Bench {
    world: World,
    blueprint: Blueprint,
    builder: FrameBuilder,
    encoder: ChunkEncoder,
    buffer: ChunkBuffer,
    bodies: Vec<Bytes>,
    tick: Tick,
}

impl Bench {
    fn new(count: u32) -> Self {
        let mut world = World::new();
        world.insert_resource(Clock { tick: Tick::ZERO, rate: TickRate::DEFAULT });
        let side = f64::from(count).sqrt().ceil() as u32;
        for i in 0..count {
            let at = [i % side, i / side].map(|at| at as f32 * SPACING + 1.0);
            world.spawn((NetId(i + 1), Mover, Position(at), Health(100)));
        }
        let blueprint = Blueprint::of(&Movers).expect("valid");
        let builder = FrameBuilder::new(&blueprint.schema, 0);
        let encoder = ChunkEncoder::new(Layout::of(&blueprint.schema));
        let mut bench = Self {
            world,
            blueprint,
            builder,
            encoder,
            buffer: ChunkBuffer::default(),
            bodies: Vec::new(),
            tick: Tick::ZERO,
        };
        bench.capture();
        bench
    }

    /// Moves every `nth` entity, each time other ones, this way and that.
    fn stir(&mut self, nth: Option<u64>) {
        self.world.clear_trackers();
        let Some(nth) = nth else { return };
        let tick = self.tick.0;
        for (&id, mut position) in self.world.query::<(&NetId, &mut Position)>().iter_mut(&mut self.world) {
            if (u64::from(id.0) + tick).is_multiple_of(nth) {
                let way = if (tick / nth).is_multiple_of(2) { 0.0625 } else { -0.0625 };
                position.0[0] += way * (1 + id.0 % 7) as f32;
                position.0[1] -= way;
            }
        }
    }

    fn capture(&mut self) -> Arc<Frame> {
        self.tick = self.tick.next();
        self.builder.begin(self.tick);
        for kind in &mut self.blueprint.kinds {
            kind.capture(&mut self.world, TickRate::DEFAULT, &mut self.builder);
        }
        self.builder.finish(TickExtras::default()).0
    }

    /// Every changed cell once, as for the streams that are up to date.
    fn encode(&mut self, before: &Frame, frame: &Frame) {
        self.bodies.clear();
        for (cell, (old, new)) in before.cells.iter().zip(frame.cells.iter()).enumerate() {
            if new.changed != frame.tick {
                continue;
            }
            let change = CellChange {
                cell: tickwire_shared::CellId(cell as u32),
                base: Some((before.tick, &old.state)),
                tick: frame.tick,
                state: &new.state,
                places: &frame.places,
                events: &[],
                events_lost: 0,
                hash_interval: 30,
            };
            self.encoder.encode(&change, SLICE_BYTES_MAX, &mut self.buffer, &mut self.bodies);
        }
        black_box(&self.bodies);
    }
}

fn capture_and_encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("capture and encode");
    for (name, nth) in [("all moving", Some(1)), ("a tenth moving", Some(10)), ("none moving", None)] {
        for count in [1000, 10_000] {
            group.throughput(Throughput::Elements(count.into()));
            group.bench_function(BenchmarkId::new(name, count), |b| {
                let mut bench = Bench::new(count);
                b.iter_custom(|ticks| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..ticks {
                        let before = Arc::clone(bench.builder.frame());
                        bench.stir(nth);
                        let start = Instant::now();
                        let frame = bench.capture();
                        bench.encode(&before, &frame);
                        spent += start.elapsed();
                    }
                    spent
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, capture_and_encode);
criterion_main!(benches);
