//! What the arena's own work costs a tick, its systems and its digest, without capture: walkers, and everybody shooting, with
//! as much room for each, and ever closer together.

use std::hint::black_box;

use bevy_ecs::{
    schedule::{Schedule, SingleThreadedExecutor},
    world::World,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tickwire_arena::{Arena, settings};
use tickwire_shared::{
    Blueprint, Clock, Digest, Game as _, Inputs, NetIds, Outbox, Past, PlayerId, Provenance, Randomness, Scores, Seat,
    Seats, Settings, Systems, Tick, TickRate,
};

/// Players, and the side of their arena in metres.
const EQUALLY_DENSE: [(u32, u32); 3] = [(100, 63), (1000, 200), (4000, 400)];
const IN_200_METRES: [(u32, u32); 3] = [(100, 200), (1000, 200), (4000, 200)];
/// A player turns each so many ticks: about once a second.
const TURN_TICKS: u32 = 30;

/// A match without an engine.
struct Match {
    world: World,
    schedule: Schedule,
    players: u32,
    shoots: bool,
}

impl Match {
    fn new(players: u32, size: u32, shoots: bool) -> Self {
        let blueprint = Blueprint::of(&Arena).expect("the definition is valid");
        let schema = &blueprint.schema;
        let mut chosen = Settings::defaults(schema);
        chosen.set(settings::SIZE, size.into()).expect("in range");
        let mut inputs = Inputs::new(schema.inputs.clone());
        let mut seats = Seats::default();
        for player in (1..=players).map(PlayerId) {
            inputs.seat(player);
            seats.joined.push(player);
            seats.players.insert(player, Seat { name: "walker".into(), connected: true });
        }
        let mut world = World::new();
        let rate = TickRate::new(30).expect("in range");
        world.insert_resource(Clock { tick: Tick::ZERO, rate });
        world.insert_resource(Past::new(schema, rate, 0));
        world.insert_resource(inputs);
        world.insert_resource(seats);
        world.insert_resource(Scores::new(schema.scores.len()));
        world.insert_resource(Outbox::new(&blueprint.events, 4096));
        world.insert_resource(NetIds::default());
        world.insert_resource(Randomness { seed: 5, tick: Tick::ZERO });
        Arena.setup(&mut world, &chosen);

        let mut systems = Systems::default();
        Arena.systems(&mut systems);
        let mut schedule = Schedule::default();
        schedule.set_executor(SingleThreadedExecutor::new());
        schedule.add_systems(systems.into_chain());
        let mut game = Self { world, schedule, players, shoots };
        game.tick();
        game.world.resource_mut::<Seats>().joined.clear();
        // Until everybody is on their way, and those who stood in one another are apart.
        (0..2 * TURN_TICKS).for_each(|_| game.tick());
        game
    }

    fn tick(&mut self) {
        let tick = self.world.resource::<Clock>().tick.next();
        self.world.resource_mut::<Clock>().tick = tick;
        self.world.resource_mut::<Randomness>().tick = tick;
        let mut inputs = self.world.resource_mut::<Inputs>();
        let first = tick.0 as u32 % TURN_TICKS + 1;
        for player in (first..=self.players).step_by(TURN_TICKS as usize) {
            inputs.advance(PlayerId(player), Provenance::Fresh, &hands(player, tick, self.shoots), None);
        }
        self.schedule.run(&mut self.world);
        let mut digest = Digest::default();
        Arena.digest(&self.world, &mut digest);
        black_box(digest.finish());
        self.world.resource_mut::<Outbox>().take();
        self.world.clear_trackers();
    }
}

/// A direction that nobody foresees, at full speed.
fn hands(player: u32, tick: Tick, shoots: bool) -> [i32; 5] {
    let dice = (u64::from(player) << 32 | tick.0).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let (x, y) =
        [(127, 0), (90, 90), (0, 127), (-90, 90), (-127, 0), (-90, -90), (0, -127), (90, -90)][dice as usize % 8];
    [x, y, (dice >> 8) as i32 % 4096, shoots.into(), shoots.into()]
}

fn systems(c: &mut Criterion) {
    for (name, shoots) in [("walk", false), ("fight", true)] {
        for (room, sizes) in [("equally dense", EQUALLY_DENSE), ("in 200 m", IN_200_METRES)] {
            let mut group = c.benchmark_group(format!("{name}, {room}"));
            for (players, size) in sizes {
                group.throughput(Throughput::Elements(players.into()));
                group.bench_function(BenchmarkId::from_parameter(players), |b| {
                    let mut game = Match::new(players, size, shoots);
                    b.iter(|| game.tick());
                });
            }
            group.finish();
        }
    }
}

criterion_group!(benches, systems);
criterion_main!(benches);
