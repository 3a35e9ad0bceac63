//! Shots that are judged by what the shooter saw.

use std::sync::Arc;

use glam::Vec2;
use proptest::prelude::*;
use tickwire_shared::{Frame, NetId, PlayerId, Reading, SEEN_STEPS, Seen, Tick};

use super::harness::{Hands, Match, flat};
use crate::{aim::Aim, events::Landed, life::START_HEALTH, movement::PLAYER_RADIUS};

const NORTH: (i32, i32) = (0, 127);
/// From one shot of a rifle to the next at 60 Hz.
const PAUSE: u64 = 8;

/// A shooter who stands, and a target 25 m east who walks north at full speed; with all frames so far.
struct Range {
    game: Match,
    shooter: PlayerId,
    target: PlayerId,
    frames: Vec<Arc<Frame>>,
}

impl Range {
    fn new() -> Self {
        let mut game = flat();
        let [shooter, target] = game.join();
        let mut frames = vec![game.tick()];
        game.put(shooter, -10.0, 0.0);
        game.put(target, 15.0, -5.0);
        game.act(target, Hands { walk: NORTH, ..Hands::default() });
        frames.extend((0..30).map(|_| game.tick()));
        Self { game, shooter, target, frames }
    }

    fn tick(&mut self) {
        self.frames.push(self.game.tick());
    }

    /// Where clients saw an entity at a moment: computed from the frames, without the engine's ways to do so.
    fn shown(&self, id: NetId, seen: Seen) -> [f64; 2] {
        let at = |tick: u64| {
            let frame = &self.frames[tick as usize - 1];
            let (kind, cell) = frame.places.get(id).expect("it is there");
            let columns = &frame.cells[cell.index()].state.kinds[kind.index()];
            let row = columns.row(id).expect("it is there");
            let kind = &self.game.blueprint.schema.kinds[kind.index()];
            let read = |field: usize| f64::from(columns.read(row, field, Reading::of(&kind.fields[field]), frame.tick));
            [read(0) / 128.0, read(1) / 128.0]
        };
        let Seen { tick: Tick(tick), fraction } = seen;
        if fraction == 0 {
            return at(tick);
        }
        let ([x, y], [next_x, next_y], share) = (at(tick), at(tick + 1), f64::from(fraction) / 256.0);
        [x + (next_x - x) * share, y + (next_y - y) * share]
    }

    /// Fires one shot at the next tick, by the screen of so many 1/256 ticks before it, `off` steps of aim beside the middle
    /// of the target. By how much it passed the target's edge on that screen, in metres, negative for a hit; and whether it
    /// hit.
    fn shoot(&mut self, ago_steps: u64, off: i32) -> (f64, bool) {
        (0..PAUSE).for_each(|_| self.tick());
        let now = self.frames.len() as u64 + 1;
        let seen = Seen::from_steps(now * SEEN_STEPS - ago_steps);
        let target = self.game.net_id(self.target).expect("alive");
        let from = self.game.state(self.shooter).position;
        let [x, y] = self.shown(target, seen);
        let (x, y) = (x - f64::from(from.x), y - f64::from(from.y));
        let aim = Aim::toward(Vec2::new(x as f32, y as f32));
        let aim = (aim.turns() * f64::from(Aim::STEPS)) as i32 + off;
        let direction = Aim::from_steps(aim).direction();
        let beside = f64::from(direction.x) * y - f64::from(direction.y) * x;
        let passed = beside.abs() - f64::from(PLAYER_RADIUS);

        let hits = self.game.events_of::<Landed>().len();
        self.game.see(self.shooter, seen);
        self.game.act(self.shooter, Hands { aim, fire: true, ..Hands::default() });
        self.tick();
        self.game.act(self.shooter, Hands::default());
        (passed, self.game.events_of::<Landed>().len() > hits)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_hits_on_the_shooters_screen_hits_and_what_misses_there_misses(
        shots in prop::collection::vec((SEEN_STEPS..=15 * SEEN_STEPS, -14..=14_i32), 1..8),
    ) {
        let mut range = Range::new();
        for (ago, off) in shots {
            let (passed, is_hit) = range.shoot(ago, off);
            // In f32 the edge itself is a matter of rounding.
            if passed.abs() > 1e-4 {
                prop_assert_eq!(is_hit, passed < 0.0, "{} steps ago, {} m past the edge", ago, passed);
            }
        }
    }

    #[test]
    fn a_screen_from_beyond_the_bound_hits_nothing_that_moves(ago in 15 * SEEN_STEPS + 1..=24 * SEEN_STEPS) {
        let mut range = Range::new();
        let (passed, is_hit) = range.shoot(ago, 0);
        prop_assert!(passed < 0.0 && !is_hit);
    }
}

#[test]
fn who_does_not_say_what_they_saw_has_to_lead() {
    let mut range = Range::new();
    let target = range.game.net_id(range.target).expect("alive");
    let now = range.frames.len() as u64 + 1;
    let shown = range.shown(target, Seen::at(Tick(now - 9))).map(|metres| metres as f32);
    let way = Vec2::from(shown) - range.game.state(range.shooter).position;
    let aim = (Aim::toward(way).turns() * f64::from(Aim::STEPS)) as i32;
    range.game.act(range.shooter, Hands { aim, fire: true, ..Hands::default() });
    range.tick();
    assert_eq!(range.game.events_of::<Landed>(), []);
}

#[test]
fn who_has_just_begun_a_life_cannot_be_hit_before_they_were_seen() {
    let mut game = flat();
    let [a] = game.join();
    game.tick();
    game.put(a, 8.0, 8.0);
    let [b] = game.join();
    game.tick();
    game.put(b, 18.0, 8.0);
    game.act(a, Hands { fire: true, ..Hands::default() });
    // Tick 3. At tick 1 there was no b; at tick 2 they stood where they came in, far from here.
    game.see(a, Seen { tick: Tick(1), fraction: 255 });
    game.tick();
    assert_eq!(game.health(b), START_HEALTH);
    // Tick 11, by the screen of tick 3, of which b's place was sent.
    game.ticks(7);
    game.see(a, Seen::at(Tick(3)));
    game.tick();
    assert_eq!(game.health(b), START_HEALTH - 12);
}

#[test]
fn the_dead_are_not_hit_and_stop_no_bullet() {
    let mut game = Match::new(&[("cover", 0.0), ("rifle_damage", 100.0)], 60);
    let [a, front, behind, other] = game.join();
    game.tick();
    for (player, x, y) in [(a, 8.0, 8.0), (front, 18.0, 8.0), (behind, 28.0, 8.0), (other, 18.0, 30.0)] {
        game.put(player, x, y);
    }
    game.ticks(3);
    // Another one kills whom the shooter still sees in front.
    game.act(other, Hands { aim: 3072, fire: true, ..Hands::default() });
    game.tick();
    game.act(other, Hands::default());
    assert_eq!(game.net_id(front), None);
    game.act(a, Hands { fire: true, ..Hands::default() });
    game.see(a, Seen::at(Tick(4)));
    game.tick();
    assert_eq!(game.net_id(behind), None);
}

#[test]
fn who_stood_in_the_way_on_the_screen_stops_the_bullet() {
    let mut game = flat();
    let [a, near, far] = game.join();
    game.tick();
    for (player, x, y) in [(a, 8.0, 8.0), (near, 18.0, 8.0), (far, 28.0, 8.0)] {
        game.put(player, x, y);
    }
    game.ticks(2);
    game.act(near, Hands { walk: NORTH, ..Hands::default() });
    game.ticks(14);
    game.act(a, Hands { fire: true, ..Hands::default() });
    game.see(a, Seen::at(Tick(3)));
    game.tick();
    assert_eq!((game.health(near), game.health(far)), (START_HEALTH - 12, START_HEALTH));
    // By the present they are out of the way.
    game.ticks(7);
    game.see(a, Seen::at(Tick(24)));
    game.tick();
    assert_eq!((game.health(near), game.health(far)), (START_HEALTH - 12, START_HEALTH - 12));
}

#[test]
fn rockets_meet_the_present() {
    let mut game = flat();
    let [a, b] = game.join();
    game.tick();
    game.put(a, 8.0, 8.0);
    game.put(b, 10.0, 8.0);
    game.ticks(2);
    game.put(b, 10.0, 30.0);
    game.act(a, Hands { rocket: true, ..Hands::default() });
    game.see(a, Seen::at(Tick(3)));
    game.ticks(12);
    assert_eq!((game.health(b), game.rockets()), (START_HEALTH, 1));
}

#[test]
fn in_a_throng_nobody_is_pushed_out_of_reach() {
    // Everybody on one spot: they are pushed as far as anybody ever is, and still found where they were.
    let mut game = flat();
    let players: [PlayerId; 24] = game.join();
    let [shooter, throng @ ..] = players;
    game.tick();
    game.put(shooter, -20.0, 0.0);
    for player in throng {
        game.put(player, 20.0, 0.0);
    }
    let frame = game.tick();
    (0..13).for_each(|_| drop(game.tick()));
    let furthest = |game: &mut Match| throng.map(|player| game.state(player).position.distance(Vec2::new(20.0, 0.0)));
    assert!(furthest(&mut game).into_iter().fold(0.0, f32::max) > 1.5);
    game.act(shooter, Hands { fire: true, ..Hands::default() });
    game.see(shooter, Seen::at(frame.tick));
    game.tick();
    assert_eq!(game.events_of::<Landed>().len(), 1);
}
