//! Walkers on the arena's ground at 5 m/s, who turn about once a second: as many to the square metre whatever their number.

use std::sync::Arc;

use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng};
use tickwire_arena::{Arena, cells};
use tickwire_replication::{ReplicationConfig, Replicator, ViewConfig};
use tickwire_shared::{
    CellKey, Field, Frame, FrameBuilder, Kind, KindId, NetId, Place, PlayerId, Quantity, Schema, SchemaParts,
    SeatExtras, TickExtras, TickRate,
};

pub(crate) const RATE: TickRate = TickRate::DEFAULT;
/// How far a view looks, and how many walkers it then shows, about.
pub(crate) const RADIUS: f64 = 100.0;
const IN_VIEW: f64 = 50.0;
/// Quanta of a coordinate per metre, at the owner's precision.
const FINE: f64 = 1024.0;

/// The walkers of one session.
pub(crate) struct Crowd {
    rng: ChaCha8Rng,
    builder: FrameBuilder,
    walkers: Vec<Walker>,
    /// Half of the ground's side, in fine quanta.
    half: f64,
    pub(crate) replicator: Replicator,
    /// How many, from the first, stand still.
    pub(crate) still: usize,
}

struct Walker {
    at: [f64; 2],
    step: [f64; 2],
    cell: Option<CellKey>,
}

pub(crate) fn view(player: u32) -> ViewConfig {
    ViewConfig {
        player: Some(PlayerId(player)),
        view_radius: RADIUS,
        tick_rate: RATE,
        ticks_per_snapshot: 1,
        bytes_per_second: Some(1 << 20),
        in_flight_bytes_max: 256 << 10,
    }
}

pub(crate) fn schema() -> Arc<Schema> {
    let metres = Quantity::new("m", 1.0 / 128.0, -8192.0..=8192.0);
    let fields = vec![
        Field::linear("x", metres.clone()).owner_shift(3).rate_shift(3),
        Field::linear("y", metres).owner_shift(3).rate_shift(3),
        Field::plain("health", Quantity::count(0..=100)),
    ];
    let kinds = vec![Kind::new("player", fields)];
    Arc::new(Schema::new(SchemaParts { game: "arena".into(), kinds, ..SchemaParts::default() }).expect("valid"))
}

impl Crowd {
    /// So many walkers, the first `together` of them in one square.
    pub(crate) fn new(count: usize, together: usize) -> Self {
        let mut seen = Vec::new();
        cells::in_view(CellKey(0), RADIUS, &mut seen);
        let area = seen.len() as f64 * f64::from(cells::SIDE * cells::SIDE) * count as f64 / IN_VIEW;
        let half = area.sqrt() / 2.0 * FINE;
        let mut rng = ChaCha8Rng::seed_from_u64(count as u64);
        let walker = |i: usize| {
            let at = if i < together { [20.0 * FINE; 2] } else { [(); 2].map(|()| rng.random_range(-half..half)) };
            Walker { at, step: [0.0; 2], cell: None }
        };
        let walkers = (0..count).map(walker).collect();
        let schema = schema();
        let builder = FrameBuilder::new(&schema, 0);
        let config = ReplicationConfig::new(RATE);
        let replicator = Replicator::new(Arc::new(Arena), &schema, config, Arc::clone(builder.frame()));
        Self { rng, builder, walkers, half, replicator, still: 0 }
    }

    pub(crate) fn step_and_publish(&mut self) {
        let frame = self.step();
        self.replicator.publish(frame);
    }

    /// The next frame, which is not published yet.
    pub(crate) fn step(&mut self) -> Arc<Frame> {
        let speed = 5.0 * FINE / f64::from(RATE.hz());
        let tick = self.builder.frame().tick.next();
        self.builder.begin(tick);
        for (i, walker) in self.walkers.iter_mut().enumerate() {
            if i >= self.still && (tick.0 == 1 || self.rng.random_ratio(1, RATE.hz())) {
                let angle = self.rng.random_range(0.0..std::f64::consts::TAU);
                walker.step = [speed * libm::cos(angle), speed * libm::sin(angle)].map(f64::round);
            }
            for (at, step) in walker.at.iter_mut().zip(&mut walker.step) {
                if i < self.still {
                    *step = 0.0;
                }
                if (*at + *step).abs() > self.half {
                    *step = -*step;
                }
                *at += *step;
            }
            let metres = walker.at.map(|at| (at / FINE) as f32);
            walker.cell = Some(cells::key_of(metres.into(), walker.cell));
            let mut entity = self.builder.entity(KindId(0), NetId(i as u32 + 1));
            for (field, at) in walker.at.into_iter().enumerate() {
                entity.set(field, at as i32);
            }
            entity.set_place(Place::Cell(walker.cell.expect("set above")));
        }
        let seat =
            |player: u32| SeatExtras { player: PlayerId(player), consumed_input: tick.0, entity: Some(NetId(player)) };
        let seats = (1..=self.walkers.len() as u32).map(seat).collect();
        self.builder.finish(TickExtras { seats, ..TickExtras::default() }).0
    }
}
