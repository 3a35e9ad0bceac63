//! What a client pays for a snapshot: decoding and applying it, with 1,000 entities in view of which 33 change each tick.

mod mover;

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use prost::Message as _;
use tickwire_proto::v1 as pb;
use tickwire_shared::{Anchor, CellId, CellState, Column, Columns, KindId, NetId, Places, Schema, Tick};
use tickwire_wire::{CellChange, ChunkBuffer, ChunkEncoder, Layout, Mirror, SnapshotMessage};

use mover::schema;

const ENTITIES: u32 = 1000;
const CHANGES: u32 = 33;
const CROSSINGS: u32 = 3;
const TICKS: u64 = 240;
const HASH_INTERVAL: u32 = 15;
/// Enough that their rows do not stay in a core's cache from one snapshot to the next, as with a swarm's.
const SWARM: usize = 200;

/// One entity: its place, its speed, and when that changed.
#[derive(Clone, Copy)]
struct Mover {
    x: Anchor,
    y: Anchor,
    aim: i32,
    cell: u32,
}

struct World {
    schema: Schema,
    movers: Vec<Mover>,
    cells: u32,
    tick: u64,
    random: u32,
}

impl World {
    fn new(cells: u32) -> Self {
        let anchor = |value: u32| Anchor { value: value as i32 * 17 - 9000, rate: 160, tick: Tick(1) };
        let mover = |i: u32| Mover { x: anchor(i), y: anchor(i * 3 % 1000), aim: 0, cell: i % cells };
        Self { schema: schema(), movers: (0..ENTITIES).map(mover).collect(), cells, tick: 1, random: 1 }
    }

    fn random(&mut self, below: u32) -> u32 {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.random >> 8) % below
    }

    fn step(&mut self) {
        self.tick += 1;
        let tick = Tick(self.tick);
        for _ in 0..CHANGES {
            let (i, x, y) = (self.random(ENTITIES) as usize, self.random(320) as i32, self.random(320) as i32);
            let mover = &mut self.movers[i];
            mover.x = Anchor { value: mover.x.value + x, rate: x - 160, tick };
            mover.y = Anchor { value: mover.y.value + y, rate: y - 160, tick };
            mover.aim = x % 256;
        }
        for _ in 0..CROSSINGS {
            let (i, cell) = (self.random(ENTITIES) as usize, self.random(self.cells));
            self.movers[i].cell = cell;
        }
    }

    fn states(&self) -> Vec<CellState> {
        let cell = |cell: u32| {
            let mut columns = Columns::empty(&self.schema.kinds[0]);
            for (i, mover) in self.movers.iter().enumerate().filter(|(_, mover)| mover.cell == cell) {
                columns.ids.push(NetId(i as u32 + 1));
                let [Column::Anchored(xs), Column::Anchored(ys), Column::Plain(aims), Column::Plain(healths)] =
                    columns.fields.as_mut_slice()
                else {
                    unreachable!("as the schema has them")
                };
                xs.push(mover.x);
                ys.push(mover.y);
                aims.push(mover.aim);
                healths.push(100);
            }
            CellState { kinds: vec![Arc::new(columns)] }
        };
        (0..self.cells).map(cell).collect()
    }

    fn places(&self) -> Places {
        let place = |(i, mover): (usize, &Mover)| (NetId(i as u32 + 1), KindId(0), CellId(mover.cell));
        Places::new(self.movers.iter().enumerate().map(place).collect())
    }
}

/// The bodies of a stream's snapshots, tick by tick, the first with all there is.
fn snapshots(schema: &Schema, cells: u32) -> Vec<Vec<u8>> {
    let (encoder, mut buffer) = (ChunkEncoder::new(Layout::of(schema)), ChunkBuffer::default());
    let mut world = World::new(cells);
    let mut before: Option<Vec<CellState>> = None;
    let mut bodies = Vec::new();
    for _ in 0..TICKS {
        let (cells, places, tick) = (world.states(), world.places(), Tick(world.tick));
        let mut snapshot = pb::Snapshot { tick: tick.0, reset: before.is_none(), ..pb::Snapshot::default() };
        for (i, state) in cells.iter().enumerate() {
            let base = before.as_ref().map(|before| (Tick(tick.0 - 1), &before[i]));
            if base.is_some_and(|(_, base)| base == state) {
                continue;
            }
            let change = CellChange {
                cell: CellId(i as u32),
                base,
                tick,
                state,
                places: &places,
                events: &[],
                events_lost: 0,
                hash_interval: HASH_INTERVAL,
            };
            let mut bodies = Vec::new();
            encoder.encode(&change, 1 << 20, &mut buffer, &mut bodies);
            snapshot.cells.push(pb::CellUpdate::decode(bodies[0].clone()).expect("just encoded"));
        }
        bodies.push(snapshot.encode_to_vec());
        before = Some(cells);
        world.step();
    }
    bodies
}

/// The time for `iters` snapshots of the steady state, taken in turn by all mirrors of a swarm.
fn apply(schema: &Arc<Schema>, bodies: &[Vec<u8>], swarm: usize, iters: u64) -> Duration {
    let mut time = Duration::ZERO;
    let mut left = iters;
    while left > 0 {
        let mut mirrors: Vec<Mirror> = (0..swarm).map(|_| Mirror::new(Arc::clone(schema))).collect();
        let take = |mirror: &mut Mirror, body: &[u8]| {
            let snapshot = SnapshotMessage::read(body).expect("encoded above");
            black_box(mirror.apply_message(0, &snapshot).expect("it fits"));
        };
        for mirror in &mut mirrors {
            take(mirror, &bodies[0]);
        }
        for body in &bodies[1..] {
            let turn = left.min(swarm as u64);
            left -= turn;
            let start = Instant::now();
            for mirror in &mut mirrors[..turn as usize] {
                take(mirror, body);
            }
            time += start.elapsed();
        }
    }
    time
}

fn snapshots_of_a_thousand_movers(c: &mut Criterion) {
    let schema = Arc::new(schema());
    let mut group = c.benchmark_group("mirror, 1000 movers, 33 changes");
    for cells in [1, 16] {
        let bodies = snapshots(&schema, cells);
        for swarm in [1, SWARM] {
            group.bench_function(format!("read and apply, cells: {cells}, mirrors in turn: {swarm}"), |b| {
                b.iter_custom(|iters| apply(&schema, &bodies, swarm, iters));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, snapshots_of_a_thousand_movers);
criterion_main!(benches);
