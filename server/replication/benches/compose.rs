//! What a session costs beside its game: publishing a frame, composing streams' snapshots (the first stream of a tick
//! encodes, all others splice), and on the other end applying them.
//!
//! `world` is a field of cells that all see; `crowd` is walkers on the arena's ground, of whom each stream sees about 50.

#[path = "../tests/crowd/mod.rs"]
#[allow(dead_code, reason = "each test needs its part of the crowd")]
mod crowd;

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use prost::Message as _;
use tickwire_proto::v1 as pb;
use tickwire_replication::{InputFeedback, ReplicationConfig, Replicator, Snapshot, View, ViewConfig};
use tickwire_shared::{
    CellKey, Definition, Field, Frame, FrameBuilder, Game, Kind, KindId, NetId, Place, PlayerId, Quantity, Schema,
    SchemaParts, SeatExtras, Systems, TickExtras, TickRate,
};
use tickwire_wire::Mirror;

/// Movers in a square of cells, all in everyone's view.
struct Field64;

const CELLS: u64 = 49;
const STREAMS: u32 = 500;

impl Game for Field64 {
    fn name(&self) -> &'static str {
        "bench"
    }

    fn define(&self, _: &mut Definition) {}

    fn systems(&self, _: &mut Systems) {}

    fn cells_in_view(&self, _: CellKey, _: f64, cells: &mut Vec<CellKey>) {
        cells.extend((0..CELLS).map(CellKey));
    }
}

fn schema() -> Arc<Schema> {
    let metres = Quantity::new("m", 1.0 / 128.0, -200.0..=200.0);
    let fields = vec![
        Field::linear("x", metres.clone()).owner_shift(3).rate_shift(3),
        Field::linear("y", metres).owner_shift(3).rate_shift(3),
        Field::plain("aim", Quantity::count(0..=0)).angle(256, 1.0),
        Field::plain("health", Quantity::count(0..=100)),
    ];
    let kinds = vec![Kind::new("mover", fields)];
    Arc::new(Schema::new(SchemaParts { game: "bench".into(), kinds, ..SchemaParts::default() }).expect("valid"))
}

/// A session of [`Field64`].
struct World {
    builder: FrameBuilder,
    replicator: Replicator,
    entities: u32,
    players: u32,
}

impl World {
    fn new(entities: u32, players: u32) -> Self {
        let schema = schema();
        let builder = FrameBuilder::new(&schema, 0);
        let config = ReplicationConfig::new(TickRate::DEFAULT);
        let replicator = Replicator::new(Arc::new(Field64), &schema, config, Arc::clone(builder.frame()));
        Self { builder, replicator, entities, players }
    }

    /// The next frame: every entity moves, and `erratic` of 100 change their speed.
    fn step(&mut self, erratic: u32) -> Arc<Frame> {
        let tick = self.builder.frame().tick.next();
        self.builder.begin(tick);
        for id in 1..=self.entities {
            let turns = id.wrapping_mul(2_654_435_761).wrapping_add(tick.0 as u32 * 40_503) % 100 < erratic;
            let speed = if turns { (tick.0 as i32 * 37 + id as i32 * 101) % 90 } else { 40 };
            let mut entity = self.builder.entity(KindId(0), NetId(id));
            entity.set(0, id as i32 * 64 + tick.0 as i32 * speed % 4000);
            entity.set(1, id as i32 * 32 - tick.0 as i32 * speed % 4000);
            entity.set_place(Place::Cell(CellKey(u64::from(id) % CELLS)));
        }
        let seat =
            |player| SeatExtras { player: PlayerId(player), consumed_input: tick.0, entity: Some(NetId(player)) };
        self.builder.finish(TickExtras { seats: (1..=self.players).map(seat).collect(), ..TickExtras::default() }).0
    }
}

/// One stream, whose client acknowledges at once.
struct Stream {
    view: View,
    snapshot: Snapshot,
}

impl Stream {
    fn new(config: ViewConfig) -> Self {
        Self { view: View::new(config), snapshot: Snapshot::default() }
    }

    fn compose(&mut self, replicator: &Replicator, now: Duration) -> usize {
        let composed = self.view.compose_into(replicator, InputFeedback::default(), now, &mut self.snapshot);
        assert!(composed, "there is a new frame, credit and budget");
        self.snapshot.encoded_len()
    }

    fn acknowledge(&mut self, now: Duration) {
        self.view.acknowledge(0, self.view.sent(), now).expect("it was sent");
        self.snapshot.clear();
    }
}

fn view(player: u32) -> ViewConfig {
    ViewConfig {
        player: Some(PlayerId(player)),
        view_radius: 1.0,
        tick_rate: TickRate::DEFAULT,
        ticks_per_snapshot: 1,
        bytes_per_second: Some(4 << 20),
        in_flight_bytes_max: usize::MAX,
    }
}

fn compose(c: &mut Criterion) {
    let mut group = c.benchmark_group("compose");
    for entities in [100, 1000] {
        for (name, others) in [("the first stream, which encodes", 0), ("the second stream, which splices", 1)] {
            let mut world = World::new(entities, 1);
            let (mut stream, mut other) = (Stream::new(view(1)), Stream::new(view(1)));
            let mut now = Duration::ZERO;
            group.bench_function(format!("{entities} erratic movers, {name}"), |b| {
                b.iter_custom(|iterations| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..iterations {
                        now += Duration::from_millis(17);
                        let frame = world.step(100);
                        world.replicator.publish(frame);
                        if others > 0 {
                            other.compose(&world.replicator, now);
                        }
                        let started = Instant::now();
                        let bytes = black_box(stream.compose(&world.replicator, now));
                        spent += started.elapsed();
                        assert!(bytes > entities as usize, "{bytes} bytes: the movers are not in view");
                        stream.acknowledge(now);
                        if others > 0 {
                            other.acknowledge(now);
                        }
                    }
                    spent
                });
            });
        }
    }
    group.finish();
}

/// A whole tick's work for many streams, for each of them: compose, and take in the acknowledgement.
fn streams(c: &mut Criterion) {
    let mut group = c.benchmark_group("stream-tick");
    for (name, entities, erratic) in [("world-500-500, 2 % turn", 500, 2), ("world-500-2000, 10 % turn", 2000, 10)] {
        let mut world = World::new(entities, STREAMS);
        let mut streams: Vec<Stream> = (1..=STREAMS).map(|player| Stream::new(view(player))).collect();
        let mut now = Duration::ZERO;
        group.bench_function(name, |b| {
            b.iter_custom(|iterations| {
                each_stream(iterations, STREAMS, || {
                    now += Duration::from_millis(17);
                    let frame = world.step(erratic);
                    world.replicator.publish(frame);
                    serve(&mut streams, &world.replicator, now)
                })
            });
        });
    }
    for count in [500, 1000, 2000] {
        let mut crowd = crowd::Crowd::new(count, 0);
        let mut streams: Vec<Stream> = (1..=count as u32).map(|player| Stream::new(crowd::view(player))).collect();
        let mut now = Duration::ZERO;
        group.bench_function(format!("crowd-{count}"), |b| {
            b.iter_custom(|iterations| {
                each_stream(iterations, count as u32, || {
                    now += Duration::from_millis(17);
                    crowd.step_and_publish();
                    serve(&mut streams, &crowd.replicator, now)
                })
            });
        });
    }
    group.finish();
}

/// So many turns of streams, of which each tick serves `streams`.
fn each_stream(turns: u64, streams: u32, mut tick: impl FnMut() -> Duration) -> Duration {
    let ticks = turns.div_ceil(u64::from(streams));
    let spent: Duration = (0..ticks).map(|_| tick()).sum();
    spent.mul_f64(turns as f64 / (ticks * u64::from(streams)) as f64)
}

fn serve(streams: &mut [Stream], replicator: &Replicator, now: Duration) -> Duration {
    let started = Instant::now();
    for stream in &mut *streams {
        black_box(stream.compose(replicator, now));
        stream.acknowledge(now);
    }
    started.elapsed()
}

/// The simulation thread's part.
fn publish(c: &mut Criterion) {
    let mut group = c.benchmark_group("publish");
    let mut crowd = crowd::Crowd::new(500, 0);
    let mut streams: Vec<Stream> = (1..=500).map(|player| Stream::new(crowd::view(player))).collect();
    let mut now = Duration::ZERO;
    group.bench_function("crowd-500", |b| {
        b.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            for _ in 0..iterations {
                now += Duration::from_millis(17);
                let frame = crowd.step();
                let started = Instant::now();
                crowd.replicator.publish(frame);
                spent += started.elapsed();
                serve(&mut streams, &crowd.replicator, now);
            }
            spent
        });
    });
    group.finish();
}

/// The client's part: a snapshot from its bytes into the mirror.
fn apply(c: &mut Criterion) {
    let mut group = c.benchmark_group("apply");
    for (name, entities, erratic) in [("world-1-1000, 100 % turn", 1000, 100), ("world-1-2000, 10 % turn", 2000, 10)] {
        let mut world = World::new(entities, 1);
        let mut stream = Stream::new(view(1));
        let mut mirror = Mirror::new(schema());
        let mut now = Duration::ZERO;
        group.bench_function(name, |b| {
            b.iter_custom(|iterations| {
                let mut spent = Duration::ZERO;
                for _ in 0..iterations {
                    now += Duration::from_millis(17);
                    let frame = world.step(erratic);
                    world.replicator.publish(frame);
                    stream.compose(&world.replicator, now);
                    let mut bytes = Vec::new();
                    stream.snapshot.encode(&mut bytes);
                    let started = Instant::now();
                    let message = pb::Snapshot::decode(bytes.as_slice()).expect("an ordinary message");
                    black_box(mirror.apply(0, &message).expect("an honest snapshot applies"));
                    spent += started.elapsed();
                    stream.acknowledge(now);
                }
                spent
            });
        });
    }
    group.finish();
}

criterion_group!(benches, compose, streams, publish, apply);
criterion_main!(benches);
