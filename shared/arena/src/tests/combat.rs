//! Weapons, death and what follows.

use glam::Vec2;
use tickwire_shared::{Audience, PlayerId};

use super::harness::{Hands, Match, flat};
use crate::{
    cells::Squares,
    events::{Died, Explosion, Hit, Hurt, Landed, Shot},
    life::{DEATHS, KILLS, START_HEALTH},
    movement::PLAYER_RADIUS,
};

const WEST: i32 = 2048;

fn firing(aim: i32) -> Hands {
    Hands { aim, fire: true, ..Hands::default() }
}

fn launching(aim: i32) -> Hands {
    Hands { aim, rocket: true, ..Hands::default() }
}

/// Two players, the second 10 m east of the first, far from any square's edge.
fn duel(mut game: Match) -> (Match, PlayerId, PlayerId) {
    let [a, b] = game.join();
    game.tick();
    game.put(a, 8.0, 8.0);
    game.put(b, 18.0, 8.0);
    (game, a, b)
}

#[test]
fn a_rifle_kills_and_the_victim_lives_again() {
    let (mut game, a, b) = duel(Match::new(&[("cover", 0.0), ("rifle_damage", 40.0), ("respawn_seconds", 2.0)], 60));
    let first_life = game.net_id(b).expect("alive");
    game.act(a, firing(0));
    game.ticks(1);
    assert_eq!(game.health(b), 60);
    // The rifle's pause is 120 ms: 8 ticks.
    game.ticks(15);
    assert_eq!(game.health(b), 20);
    game.ticks(1);
    game.act(a, Hands::default());
    assert_eq!(game.net_id(b), None);
    assert_eq!([KILLS, DEATHS].map(|score| game.score(a, score)), [1, 0]);
    assert_eq!([KILLS, DEATHS].map(|score| game.score(b, score)), [0, 1]);

    game.ticks(119);
    assert_eq!(game.net_id(b), None);
    game.ticks(1);
    assert!(game.net_id(b).expect("alive again") > first_life);
    assert_eq!(game.health(b), START_HEALTH);
}

#[test]
fn those_whom_it_concerns_hear_of_a_shot_and_its_end() {
    let (mut game, a, b) = duel(Match::new(&[("cover", 0.0), ("rifle_damage", 100.0)], 60));
    let [shooter, victim] = [a, b].map(|player| game.net_id(player).expect("alive").0 as i32);
    let here = Audience::At(game.world.resource::<Squares>().place_of(Vec2::splat(8.0), None));
    game.act(a, firing(0));
    game.ticks(1);

    let shot = game.events_of::<Shot>().remove(0);
    // To the face of the victim, in steps of 1/16 m.
    let end = ((18.0 - PLAYER_RADIUS) * 16.0).round() as i32;
    assert_eq!((shot.1, shot.2), (here, vec![shooter, 128, 128, end, 128]));
    let (a_number, b_number) = (a.0 as i32, b.0 as i32);
    assert_eq!(game.events_of::<Hit>(), [(shot.0, here, vec![victim, a_number, 100])]);
    assert_eq!(game.events_of::<Hurt>(), [(shot.0, Audience::Player(b), vec![100, WEST])]);
    assert_eq!(game.events_of::<Landed>(), [(shot.0, Audience::Player(a), vec![victim, 100])]);
    assert_eq!(game.events_of::<Died>(), [(shot.0, here, vec![b_number, a_number])]);
}

#[test]
fn cover_and_others_stop_a_bullet() {
    let (mut game, a, b) = duel(flat());
    let [c] = game.join();
    game.tick();
    game.put(c, 13.0, 8.3);
    game.act(a, firing(0));
    game.ticks(1);
    assert_eq!((game.health(b), game.health(c)), (START_HEALTH, START_HEALTH - 12));

    // Everybody stands a metre to the west and to the east of the first piece of cover.
    let (mut game, a, b) = duel(Match::new(&[("cover", 1.0), ("rifle_damage", 50.0)], 60));
    let block = *game.world.resource::<crate::map::Map>().cover().next().expect("full of cover");
    let middle = (block.low + block.high) / 2.0;
    game.put(a, block.low.x - 1.0, middle.y);
    game.put(b, block.high.x + 1.0, middle.y);
    game.act(a, firing(0));
    game.act(b, firing(WEST));
    game.ticks(30);
    assert_eq!((game.health(a), game.health(b)), (START_HEALTH, START_HEALTH));
    assert!(game.events_of::<Shot>().len() >= 8);
    assert_eq!(game.events_of::<Hit>(), []);
}

#[test]
fn two_who_shoot_each_other_at_one_tick_both_die() {
    let (mut game, a, b) = duel(Match::new(&[("cover", 0.0), ("rifle_damage", 100.0)], 60));
    game.act(a, firing(0));
    game.act(b, firing(WEST));
    game.ticks(1);
    assert_eq!((game.net_id(a), game.net_id(b)), (None, None));
    assert_eq!([a, b].map(|player| (game.score(player, KILLS), game.score(player, DEATHS))), [(1, 1), (1, 1)]);
}

#[test]
fn who_is_killed_by_two_at_one_tick_dies_once() {
    let (mut game, a, b) = duel(Match::new(&[("cover", 0.0), ("rifle_damage", 100.0)], 60));
    let [c] = game.join();
    game.tick();
    game.put(c, 28.0, 8.0);
    game.act(a, firing(0));
    game.act(c, firing(WEST));
    game.ticks(1);
    assert_eq!((game.score(b, DEATHS), game.score(a, KILLS), game.score(c, KILLS)), (1, 1, 0));
    assert_eq!(game.events_of::<Died>().len(), 1);
}

#[test]
fn a_rocket_hurts_whom_it_hits_most_and_those_nearby_less() {
    let (mut game, a, b) = duel(flat());
    let [near, far] = game.join();
    game.tick();
    game.put(near, 18.0, 10.5);
    game.put(far, 18.0, 13.5);
    game.act(a, launching(0));
    game.ticks(1);
    game.act(a, Hands::default());
    assert_eq!(game.rockets(), 1);
    // 9.6 m at 20 m/s: 29 ticks.
    game.ticks(28);
    assert_eq!((game.rockets(), game.health(b)), (1, START_HEALTH));
    game.ticks(1);
    assert_eq!((game.rockets(), game.health(b)), (0, START_HEALTH - 90));
    assert!((START_HEALTH - 60..START_HEALTH - 20).contains(&game.health(near)), "{}", game.health(near));
    assert_eq!((game.health(far), game.health(a)), (START_HEALTH, START_HEALTH));
    assert_eq!(game.events_of::<Explosion>().len(), 1);
}

#[test]
fn cover_shields_from_a_splash() {
    let mut game = Match::new(&[("cover", 1.0)], 60);
    let [a, sheltered, exposed] = game.join();
    game.tick();
    let map = game.world.resource::<crate::map::Map>();
    let narrow = map.cover().find(|block| block.high.x - block.low.x <= 1.5 && block.high.y - block.low.y >= 3.0);
    let block = *narrow.expect("there is narrow cover among 400 pieces");
    let middle = (block.low + block.high) / 2.0;
    game.put(a, block.low.x - 0.5, middle.y - 1.0);
    game.put(sheltered, block.high.x + 0.5, middle.y);
    game.put(exposed, block.low.x - 0.5, middle.y + 1.0);
    // From close by into the cover's west side: the shooter is hurt as well.
    game.act(a, launching(0));
    game.ticks(10);
    assert_eq!(game.events_of::<Explosion>().len(), 1);
    assert_eq!(game.health(sheltered), START_HEALTH);
    assert!(game.health(exposed) < START_HEALTH);
    assert!(game.health(a) < START_HEALTH);
}

#[test]
fn ones_own_rocket_kills_without_a_kill() {
    let mut game = Match::new(&[("cover", 0.0), ("rocket_damage", 1000.0)], 60);
    let [a] = game.join();
    game.tick();
    game.put(a, 98.0, 0.0);
    game.act(a, launching(0));
    // Launched, then 2 m at 20 m/s.
    game.ticks(1 + 7);
    assert_eq!((game.score(a, DEATHS), game.score(a, KILLS)), (1, 0));
    assert_eq!(game.events_of::<Landed>(), []);
}

#[test]
fn a_rocket_that_meets_nothing_explodes_in_the_end() {
    let mut game = Match::new(&[("cover", 0.0), ("size", 300.0)], 60);
    let [a] = game.join();
    game.tick();
    game.put(a, -140.0, 0.0);
    game.act(a, launching(0));
    game.ticks(1);
    game.act(a, Hands::default());
    game.ticks(239);
    assert_eq!(game.rockets(), 1);
    game.ticks(1);
    let explosions = game.events_of::<Explosion>();
    let x = (-140.0 + 20.0 * 4.0) * 16.0;
    assert_eq!((game.rockets(), &explosions[0].2), (0, &vec![a.0 as i32, x as i32, 0]));
}

#[test]
fn launchers_need_a_second() {
    let mut game = flat();
    let [a] = game.join();
    game.tick();
    game.put(a, -90.0, 0.0);
    game.act(a, launching(0));
    game.ticks(60);
    assert_eq!(game.rockets(), 1);
    game.ticks(1);
    assert_eq!(game.rockets(), 2);
}
