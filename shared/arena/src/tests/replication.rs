//! What clients hold of a match: lines that cost nothing, cells, and hashes that agree.

use glam::Vec2;
use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng};
use tickwire_shared::{CellKey, Column, Columns, Frame, KindId, NetId, NetIds, Place, PlayerId};

use super::harness::{Hands, Match, flat};
use crate::{
    cells,
    events::Died,
    life::Spawns,
    movement::{FINE_STEPS, MoveState},
    weapons::rockets::Flight,
};

const PLAYER: KindId = KindId(0);
const ROCKET: KindId = KindId(1);

/// What clients hold of an entity's x and y, and of their motion.
fn held(frame: &Frame, kind: KindId, id: NetId) -> Columns {
    let (_, cell) = frame.places.get(id).expect("in the frame");
    let columns = &frame.cells[cell.index()].state.kinds[kind.index()];
    let mut held = columns.without_rows();
    held.push_from(columns, columns.row(id).expect("in its cell"));
    held.fields.truncate(2);
    assert!(!held.fields.iter().any(|column| matches!(column, Column::Plain(_))), "coordinates have predictors");
    held
}

fn key(frame: &Frame, id: NetId) -> CellKey {
    let (_, cell) = frame.places.get(id).expect("in the frame");
    match frame.table.place(cell).expect("in the table") {
        Place::Cell(key) => key,
        Place::Always => panic!("players are somewhere"),
    }
}

#[test]
fn a_steady_walker_costs_nothing_after_a_second() {
    for hz in [20, 30, 60, 128] {
        for walk in [(127, 0), (0, -127), (127, 127), (-90, 41), (13, 55)] {
            let mut game = Match::new(&[("cover", 0.0), ("size", 300.0)], hz);
            let [a] = game.join();
            game.tick();
            game.put(a, 0.0, 0.0);
            game.act(a, Hands { walk, ..Hands::default() });
            game.ticks(u64::from(hz) - 1);
            let id = game.net_id(a).expect("alive");
            let steady = held(&game.tick(), PLAYER, id);
            for tick in 0..hz * 20 {
                assert_eq!(held(&game.tick(), PLAYER, id), steady, "{walk:?} at {hz} Hz, {tick} ticks on");
            }
            let speed = game.state(a).velocity.length();
            assert!((speed - 5.0).abs() < 0.01 || walk == (-90, 41) || walk == (13, 55), "{speed}");
        }
    }
}

#[test]
fn who_does_not_stir_leaves_every_cell_as_it_is() {
    let mut game = flat();
    let [_, b] = game.join();
    game.ticks(2);
    game.act(b, Hands { aim: 77, ..Hands::default() });
    let before = game.tick();
    game.ticks(50);
    let after = game.tick();
    assert!(after.cells.iter().all(|cell| cell.changed <= before.tick));
}

#[test]
fn a_rocket_in_flight_is_told_once_for_each_cell() {
    for (hz, aim) in [(20, 100), (60, 100), (60, 1500), (128, 100), (240, 3333)] {
        let mut game = Match::new(&[("cover", 0.0), ("size", 300.0)], hz);
        let [a] = game.join();
        game.tick();
        game.put(a, 1.0, 1.0);
        game.act(a, Hands { aim, rocket: true, ..Hands::default() });
        let launched = game.tick();
        game.act(a, Hands::default());
        let id = NetId(2);
        let told = held(&launched, ROCKET, id);
        for _ in 0..hz * 4 - 1 {
            assert_eq!(held(&game.tick(), ROCKET, id), told, "at {hz} Hz");
        }
    }
}

#[test]
fn owners_hold_exactly_what_movement_starts_from() {
    let mut game = flat();
    let [a] = game.join();
    game.tick();
    game.act(a, Hands { walk: (100, -27), aim: 1234, ..Hands::default() });
    for _ in 0..50 {
        let frame = game.tick();
        let owner = frame.seat(a).and_then(|seat| seat.owner.clone()).expect("alive");
        let kind = game.blueprint.schema.kinds[PLAYER.index()].clone();
        let value = |name| owner.values[kind.fields.iter().position(|field| field.name == name).expect("a field")];
        let state = game.state(a);
        let held = |x, y| Vec2::new(value(x) as f32, value(y) as f32) / FINE_STEPS;
        assert_eq!((held("x", "y"), held("vx", "vy")), (state.position, state.velocity));
        assert_eq!((value("aim"), value("health"), value("player")), (1234, 100, a.0 as i32));
    }
}

#[test]
fn moving_fields_come_first() {
    let game = flat();
    for kind in &game.blueprint.schema.kinds {
        let names: Vec<_> = kind.public_fields().map(|(_, field)| field.name.as_str()).take(2).collect();
        assert_eq!(names, ["x", "y"]);
    }
}

#[test]
fn a_walk_along_an_edge_crosses_it_once() {
    let mut game = Match::new(&[("cover", 0.0), ("size", 300.0)], 60);
    let [a] = game.join();
    game.tick();
    game.put(a, 10.0, -1.0);
    game.tick();
    let id = game.net_id(a).expect("alive");
    let mut crossings = Vec::new();
    for swing in 0..12 {
        let north = if swing % 2 == 0 { 127 } else { -127 };
        game.act(a, Hands { walk: (0, north), ..Hands::default() });
        for _ in 0..24 {
            crossings.push(key(&game.tick(), id));
        }
    }
    assert!(game.state(a).position.y < 2.0);
    crossings.dedup();
    assert_eq!(crossings.len(), 1);
    game.put(a, 10.0, 2.5);
    assert_eq!(key(&game.tick(), id), cells::key_of(Vec2::new(10.0, 2.5), None));
}

/// 16 players who do whatever comes to mind, for 10 s: the hash of every tick.
fn hashes(game: &mut Match, seed: u64) -> Vec<u64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let players: [PlayerId; 16] = game.join();
    let mut hashes = Vec::new();
    for tick in 0..600 {
        for player in players {
            if rng.random_range(0..20) == 0 {
                let mut axis = || rng.random_range(-127..=127);
                let walk = (axis(), axis());
                let (aim, fire) = (rng.random_range(0..4096), rng.random_range(0..2) == 0);
                game.act(player, Hands { walk, aim, fire, rocket: rng.random_range(0..4) == 0 });
            }
        }
        if tick == 300 {
            game.leave(players[3]);
        }
        hashes.push(game.tick().state_hash);
    }
    hashes
}

#[test]
fn equal_inputs_make_equal_matches() {
    let arena = || Match::new(&[("size", 40.0), ("rifle_damage", 30.0), ("respawn_seconds", 0.5)], 60);
    let (mut first, mut second) = (arena(), arena());
    // Other numbers for bevy's entities, and other tables, must not show.
    let others: Vec<_> = (0..50).map(|_| second.world.spawn_empty().id()).collect();
    others.into_iter().step_by(3).for_each(|entity| assert!(second.world.despawn(entity)));

    let expected = hashes(&mut first, 1);
    assert_eq!(hashes(&mut second, 1), expected);
    assert_ne!(hashes(&mut arena(), 2), expected);
    assert_eq!(first.events, second.events);
    let deaths = first.events_of::<Died>().len();
    assert!(deaths > 20, "a lively match, but {deaths} died");
}

#[test]
fn what_is_hidden_shows_in_the_hash() {
    let after = |change: fn(&mut Match)| {
        let mut game = flat();
        let [a, _] = game.join();
        game.act(a, Hands { rocket: true, ..Hands::default() });
        game.ticks(3);
        change(&mut game);
        game.tick().state_hash
    };
    let untouched = after(|_| {});
    let changes: [fn(&mut Match); 4] = [
        |game| _ = game.world.resource_mut::<NetIds>().allocate(),
        |game| _ = game.world.resource_mut::<Spawns>().0.insert(PlayerId(9), 50),
        |game| {
            let mut query = game.world.query::<&mut Flight>();
            query.single_mut(&mut game.world).expect("one rocket").velocity.x += 1e-4;
        },
        |game| {
            let mut query = game.world.query::<&mut MoveState>();
            for mut state in query.iter_mut(&mut game.world) {
                state.position.x += 1.0 / FINE_STEPS;
            }
        },
    ];
    for (i, change) in changes.into_iter().enumerate() {
        assert_ne!(after(change), untouched, "change {i}");
    }
}
