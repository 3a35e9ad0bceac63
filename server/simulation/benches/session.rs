//! What a tick costs beside the game's own work: capture of N entities of which all, or none, moved, and N seats. And what
//! it costs the arena to judge shots by what the shooters saw.

use std::{hint::black_box, sync::Arc};

use bevy_ecs::{
    component::Component,
    system::{Commands, Query, Res, ResMut},
    world::World,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tickwire_arena::Arena;
use tickwire_shared::{
    CellKey, Clock, Definition, Field, Game, InputField, NetIds, Owner, PlayerId, Quantity, Seats, Settings, Systems,
};
use tickwire_simulation::{Input, Session, SessionConfig, SessionLimits};

struct Movers {
    count: u32,
    /// Turns each tick, so that no anchor holds.
    erratic: bool,
}

#[derive(Component)]
struct Mover;

#[derive(Component)]
struct Position([f32; 2]);

#[derive(Component)]
struct Erratic(f32);

impl Game for Movers {
    fn name(&self) -> &str {
        "movers"
    }

    fn define(&self, definition: &mut Definition) {
        let metres = || Quantity::new("m", 1.0 / 128.0, -1000.0..=1000.0);
        definition
            .kind::<Mover>("mover")
            .field(Field::linear("x", metres()), |position: &Position| position.0[0])
            .field(Field::linear("y", metres()), |position: &Position| position.0[1])
            .place(|position: &Position, _| {
                let [x, y] = position.0.map(|at| (at / 16.0 + 100.0) as u64);
                CellKey(x << 32 | y)
            });
    }

    fn setup(&self, world: &mut World, _: &Settings) {
        for i in 0..self.count {
            let id = world.resource_mut::<NetIds>().allocate();
            let at = [(i % 40) as f32 * 8.0, (i / 40) as f32 * 8.0];
            let mut entity = world.spawn((id, Mover, Position(at)));
            if self.erratic {
                entity.insert(Erratic(1.0 + (i % 7) as f32));
            }
        }
    }

    fn systems(&self, systems: &mut Systems) {
        systems.add(|clock: Res<Clock>, mut movers: Query<(&mut Position, &mut Erratic)>| {
            for (mut position, mut erratic) in &mut movers {
                erratic.0 = -erratic.0;
                position.0[0] += erratic.0 * clock.dt();
            }
        });
    }
}

fn ticks(c: &mut Criterion) {
    let mut group = c.benchmark_group("tick");
    for (name, erratic) in [("still", false), ("erratic", true)] {
        for count in [100, 1000, 10_000] {
            group.throughput(Throughput::Elements(count.into()));
            group.bench_function(BenchmarkId::new(name, count), |b| {
                let game = Arc::new(Movers { count, erratic });
                let mut session = Session::new(game, SessionConfig::default()).expect("a session of movers");
                b.iter(|| {
                    let input = session.begin_tick();
                    black_box(session.finish_tick(&input).expect("movers are sound"));
                });
            });
        }
    }
    group.finish();
}

/// Players who have an entity that does nothing, whatever they send.
struct Seated;

impl Game for Seated {
    fn name(&self) -> &str {
        "seated"
    }

    fn define(&self, definition: &mut Definition) {
        let metres = Quantity::new("m", 1.0 / 128.0, -1000.0..=1000.0);
        definition.kind::<Mover>("mover").field(Field::plain("x", metres), |position: &Position| position.0[0]);
        for name in ["move_x", "move_y", "aim", "fire", "rocket"] {
            definition.input(InputField::hold(name, Quantity::count(-4096..=4096)));
        }
    }

    fn systems(&self, systems: &mut Systems) {
        systems.add(|seats: Res<Seats>, mut net_ids: ResMut<NetIds>, mut commands: Commands| {
            for &player in &seats.joined {
                commands.spawn((net_ids.allocate(), Owner(player), Mover, Position([player.0 as f32, 0.0])));
            }
        });
    }
}

fn seats(c: &mut Criterion) {
    let mut group = c.benchmark_group("seats");
    for count in [100, 1000, 4000] {
        group.throughput(Throughput::Elements(count.into()));
        for (name, sends) in [("inputs", true), ("silent", false)] {
            group.bench_function(BenchmarkId::new(name, count), |b| {
                let limits = SessionLimits { max_players: count, ..SessionLimits::default() };
                let config = SessionConfig { limits, ..SessionConfig::default() };
                let mut session = Session::new(Arc::new(Seated), config).expect("a session of the seated");
                let players: Vec<PlayerId> =
                    (0..count).map(|_| session.join("").expect("there is a seat for each")).collect();
                b.iter(|| {
                    let next = session.tick().0 + 1;
                    if sends {
                        for &player in &players {
                            let values = vec![127, -90, next as i32 & 4095, 1, 0];
                            let input = Input::new(session.schema(), next, next, values).expect("in range");
                            black_box(session.input(player, input));
                        }
                    }
                    let input = session.begin_tick();
                    black_box(session.finish_tick(&input).expect("the seated are sound"));
                });
            });
        }
    }
    group.finish();
}

/// Everybody fires whenever they can, and says that they see the world of ten ticks and a half ago, or nothing.
fn shots(c: &mut Criterion) {
    let mut group = c.benchmark_group("shots");
    for count in [100, 1000] {
        group.throughput(Throughput::Elements(count.into()));
        for (name, says) in [("as seen", true), ("as it is", false)] {
            group.bench_function(BenchmarkId::new(name, count), |b| {
                let limits = SessionLimits { max_players: count, ..SessionLimits::default() };
                let named_settings = vec![("rifle_damage".to_owned(), 0.0)];
                let config = SessionConfig { limits, named_settings, ..SessionConfig::default() };
                let mut session = Session::new(Arc::new(Arena), config).expect("an arena");
                let players: Vec<PlayerId> =
                    (0..count).map(|_| session.join("").expect("there is a seat for each")).collect();
                b.iter(|| {
                    let next = session.tick().0 + 1;
                    let seen_tick = if says { next.saturating_sub(11) } else { 0 };
                    for &player in &players {
                        let turn = (next / 30 + u64::from(player.0)).wrapping_mul(2_654_435_761);
                        let walk = |shift: u32| ((turn >> shift) % 255) as i32 - 127;
                        let values = vec![walk(3), walk(11), (turn % 4096) as i32, 1, 0];
                        let input = Input::new(session.schema(), next, next, values).expect("in range");
                        session.input(player, input.with_seen(seen_tick, 128).expect("in range"));
                    }
                    let input = session.begin_tick();
                    black_box(session.finish_tick(&input).expect("the arena is sound"));
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, ticks, seats, shots);
criterion_main!(benches);
