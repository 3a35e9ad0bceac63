//! Composing one stream's snapshot: the first stream of a tick encodes, all others splice.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use tickwire_replication::{InputFeedback, ReplicationConfig, Replicator, View, ViewConfig};
use tickwire_shared::{
    CellKey, Definition, Field, Frame, FrameBuilder, Game, Kind, KindId, NetId, Place, PlayerId, Quantity, Schema,
    SchemaParts, SeatExtras, Systems, TickExtras, TickRate,
};

/// Movers in a square of cells, all in everyone's view.
struct Field64;

const CELLS: u64 = 49;
const PLAYER: PlayerId = PlayerId(1);

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

/// The next frame: every entity moves, and `erratic` of 100 change their speed.
fn step(builder: &mut FrameBuilder, entities: u32, erratic: u32) -> Arc<Frame> {
    let tick = builder.frame().tick.next();
    builder.begin(tick);
    for id in 1..=entities {
        let turns = id.wrapping_mul(2_654_435_761).wrapping_add(tick.0 as u32 * 40_503) % 100 < erratic;
        let speed = if turns { (tick.0 as i32 * 37 + id as i32 * 101) % 90 } else { 40 };
        let mut entity = builder.entity(KindId(0), NetId(id));
        entity.set(0, id as i32 * 64 + tick.0 as i32 * speed % 4000);
        entity.set(1, id as i32 * 32 - tick.0 as i32 * speed % 4000);
        entity.set_place(Place::Cell(CellKey(u64::from(id) % CELLS)));
    }
    let seat = SeatExtras { player: PLAYER, consumed_input: tick.0, entity: Some(NetId(1)) };
    builder.finish(TickExtras { seats: vec![seat], ..TickExtras::default() }).0
}

fn view() -> View {
    View::new(ViewConfig {
        player: Some(PLAYER),
        view_radius: 1.0,
        tick_rate: TickRate::DEFAULT,
        ticks_per_snapshot: 1,
        bytes_per_second: None,
        in_flight_bytes_max: usize::MAX,
    })
}

fn compose(c: &mut Criterion) {
    let schema = schema();
    let mut group = c.benchmark_group("compose");
    for entities in [100, 1000] {
        for (name, others) in [("the first stream, which encodes", 0), ("the second stream, which splices", 1)] {
            let mut builder = FrameBuilder::new(&schema, 0);
            let config = ReplicationConfig::new(TickRate::DEFAULT);
            let replicator =
                Replicator::new(Arc::new(Field64), Arc::clone(&schema), config, Arc::clone(builder.frame()));
            let (mut stream, mut other) = (view(), view());
            let mut now = Duration::ZERO;
            group.bench_function(format!("{entities} erratic movers, {name}"), |b| {
                b.iter_custom(|iterations| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..iterations {
                        now += Duration::from_millis(16);
                        replicator.publish(step(&mut builder, entities, 100));
                        for stream in [&mut stream, &mut other] {
                            stream.acknowledge(0, stream.sent(), now).expect("it was sent");
                        }
                        if others > 0 {
                            black_box(other.compose(&replicator, InputFeedback::default(), now));
                        }
                        let started = Instant::now();
                        let snapshot = black_box(stream.compose(&replicator, InputFeedback::default(), now));
                        spent += started.elapsed();
                        let bytes = snapshot.expect("a new frame, and credit").encoded_len();
                        assert!(bytes > entities as usize, "{bytes} bytes: the movers are not in view");
                    }
                    spent
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, compose);
criterion_main!(benches);
