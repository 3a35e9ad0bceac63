//! Coming, going, standing about.

use glam::Vec2;
use tickwire_shared::{ScoreId, Seats};

use super::harness::{Hands, Match, flat, gap};
use crate::{
    aim::Aim,
    life::{DEATHS, KILLS},
    map::Map,
    movement::{FINE_STEPS, PLAYER_RADIUS},
};

const EAST: (i32, i32) = (127, 0);
const WEST: (i32, i32) = (-127, 0);

#[test]
fn scores_are_the_schemas() {
    let game = flat();
    let position = |name| game.blueprint.schema.scores.iter().position(|score| score == name).map(ScoreId);
    assert_eq!((position("kills"), position("deaths")), (Some(KILLS), Some(DEATHS)));
}

#[test]
fn players_begin_at_once_free_of_cover_and_apart() {
    let mut game = Match::new(&[("cover", 1.0)], 60);
    let players: [_; 30] = game.join();
    game.tick();
    let places = players.map(|player| game.state(player).position);
    let map = game.world.resource::<Map>();
    for (i, place) in places.iter().enumerate() {
        assert!(map.is_free(*place));
        let nearest = places[..i].iter().map(|other| other.distance(*place)).fold(f32::MAX, f32::min);
        assert!(nearest > 8.0, "{nearest}");
    }
    let ids: Vec<u32> = game.living().into_iter().map(|(id, ..)| id.0).collect();
    assert_eq!(ids, (1..=30).collect::<Vec<u32>>());
}

#[test]
fn who_leaves_is_gone_dead_or_alive() {
    let mut game = Match::new(&[("cover", 0.0), ("rifle_damage", 100.0), ("respawn_seconds", 1.0)], 60);
    let [a, b, c] = game.join();
    game.tick();
    game.put(a, 0.0, 0.0);
    game.put(b, 5.0, 0.0);
    game.put(c, 0.0, 50.0);
    game.act(a, Hands { fire: true, ..Hands::default() });
    game.ticks(1);
    assert_eq!(game.net_id(b), None);
    game.leave(b);
    game.leave(c);
    game.ticks(1);
    assert_eq!(game.net_id(c), None);
    game.ticks(120);
    assert_eq!(game.living().len(), 1);
}

#[test]
fn a_rocket_outlives_its_owner_but_scores_nothing_for_who_has_left() {
    let mut game = Match::new(&[("cover", 0.0), ("rocket_damage", 1000.0)], 60);
    let [a, b] = game.join();
    game.tick();
    game.put(a, 0.0, 0.0);
    game.put(b, 10.0, 0.0);
    game.act(a, Hands { rocket: true, ..Hands::default() });
    game.ticks(1);
    game.leave(a);
    game.ticks(40);
    assert!(!game.world.resource::<Seats>().players.contains_key(&a));
    assert_eq!((game.score(b, DEATHS), game.score(a, KILLS)), (1, 0));
}

#[test]
fn a_player_without_a_connection_stops_and_keeps_their_aim() {
    let mut game = flat();
    let [a] = game.join();
    game.tick();
    game.put(a, 0.0, 0.0);
    game.act(a, Hands { walk: EAST, aim: 300, ..Hands::default() });
    game.ticks(30);
    game.disconnect(a);
    game.ticks(30);
    let before = game.state(a);
    game.ticks(30);
    assert_eq!((game.state(a), before.velocity), (before, Vec2::ZERO));
    let aims: Vec<Aim> = game.world.query::<&Aim>().iter(&game.world).copied().collect();
    assert_eq!(aims, [Aim::from_steps(300)]);
}

#[test]
fn players_who_walk_into_each_other_stop_and_touch() {
    let mut game = flat();
    let [a, b] = game.join();
    game.tick();
    game.put(a, -3.0, 0.0);
    game.put(b, 3.0, 0.0);
    game.act(a, Hands { walk: EAST, ..Hands::default() });
    game.act(b, Hands { walk: WEST, ..Hands::default() });
    game.ticks(120);
    let gap = gap(&mut game, a, b);
    assert!(gap.abs() <= 4.0 / FINE_STEPS, "{gap}");
    assert!(game.state(a).position.x.abs() < 0.5 && game.state(a).position.y == 0.0);
    assert!(game.state(a).velocity.length() < 0.1, "{:?}", game.state(a));
}

#[test]
fn a_throng_comes_apart_within_the_walls_and_out_of_cover() {
    let mut game = Match::new(&[("cover", 1.0), ("size", 40.0)], 60);
    let players: [_; 24] = game.join();
    game.tick();
    // Two on each of twelve spots in a corner between walls and cover.
    for (i, player) in players.into_iter().enumerate() {
        game.put(player, -19.5 + (i % 3) as f32 / 4.0, -19.5 + (i % 4) as f32 / 4.0);
    }
    game.ticks(240);
    let places = players.map(|player| game.state(player).position);
    let map = game.world.resource::<Map>();
    for (i, place) in places.iter().enumerate() {
        assert!(map.is_free(*place), "{place}");
        let nearest = places[..i].iter().map(|other| other.distance(*place)).fold(f32::MAX, f32::min);
        assert!(nearest > 1.8 * PLAYER_RADIUS, "{nearest}");
    }
}
