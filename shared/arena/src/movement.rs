//! How players move: [`step`], one pure function that the server and predicting clients both call.
//!
//! All that goes in and comes out is snapped to 1/[`FINE_STEPS`] m and m/s. `f32` holds such numbers exactly over the
//! whole arena, so both ends agree to the bit, and who holds a direction moves by the very same amount each tick.

use bevy_ecs::{
    change_detection::DetectChangesMut as _,
    component::Component,
    system::{Query, Res},
};
use glam::Vec2;
use serde::{Deserialize, Serialize};
use tickwire_shared::{Clock, Inputs, Owner, PlayerInput, Provenance};

use crate::{
    aim::Aim,
    inputs::{AIM, MOVE_STEPS, MOVE_X, MOVE_Y},
    map::Map,
};

/// How fast a player walks, in m/s.
pub const TOP_SPEED: f32 = 5.0;
/// How quickly a player gets to the speed that they want, in m/s².
pub const ACCELERATION: f32 = 40.0;
/// How quickly a player who wants to stand loses speed, in m/s².
pub const FRICTION: f32 = 30.0;
/// Half of a player's width, in metres.
pub const PLAYER_RADIUS: f32 = 13.0 / 32.0;
/// Nobody is moved further than this in one tick, in metres, beside what they walk: see [`collision`](crate::collision).
pub(crate) const PUSH_MAX: f32 = PLAYER_RADIUS;
/// Steps to the metre, and to the metre per second, of a snapped state.
pub const FINE_STEPS: f32 = 1024.0;

/// Where a player is and how they move.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MoveState {
    /// In metres; snapped.
    pub position: Vec2,
    /// In m/s; snapped.
    pub velocity: Vec2,
}

/// Where a player's speed is going, so that clients can follow a change of mind from its first tick on.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// The speed that they will have, in m/s: what they want, but for the directions in which something is in the way.
    pub speed: Vec2,
    /// Until they have it, in seconds.
    pub seconds: f32,
}

/// How far a player can come in `ticks` ticks of `dt` seconds, in metres, all roundings counted.
pub(crate) fn reach(ticks: u64, dt: f32) -> f32 {
    const ROUNDING: f32 = 4.0 / FINE_STEPS;
    ticks as f32 * (TOP_SPEED * dt + PUSH_MAX + ROUNDING)
}

/// What of a player's input moves them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MoveInput {
    /// The direction to walk in: of length 1 at full speed; a longer one is no faster.
    pub walk: Vec2,
}

impl MoveInput {
    /// From the values of a player's input, in the schema's order and in quanta, as they travel.
    ///
    /// # Panics
    /// Where there are fewer values than the game's inputs.
    #[must_use]
    pub fn of(values: &[i32]) -> Self {
        let [x, y] = [MOVE_X, MOVE_Y].map(|field| values[field.index()] as f32);
        Self { walk: Vec2::new(x, y) / MOVE_STEPS as f32 }
    }
}

/// Where a player is one tick, of `dt` seconds, later.
#[must_use]
pub fn step(state: MoveState, input: MoveInput, map: &Map, dt: f32) -> MoveState {
    step_on_course(state, input, map, dt).0
}

/// Where a player is one tick, of `dt` seconds, later, and where their speed is going.
fn step_on_course(state: MoveState, input: MoveInput, map: &Map, dt: f32) -> (MoveState, Course) {
    let wanted = snap(input.walk.clamp_length_max(1.0) * TOP_SPEED);
    let push = if wanted == Vec2::ZERO { FRICTION } else { ACCELERATION };
    // A constant push: it arrives at the wanted velocity exactly, and stays.
    let velocity = snap(state.velocity.move_towards(wanted, push * dt));
    // Snapped before it is added, so that it does not depend on where the player is.
    let slide = map.slide(state.position, snap(velocity * dt));
    let free = |speed: Vec2| {
        let along = |speed, blocked| if blocked { 0.0 } else { speed };
        Vec2::new(along(speed.x, slide.blocked_x), along(speed.y, slide.blocked_y))
    };
    let course = Course {
        // As far as it goes in each tick: that is what clients add up.
        speed: free(snap(wanted * dt)) / dt,
        seconds: velocity.distance(wanted) / push,
    };
    (MoveState { position: slide.position, velocity: free(velocity) }, course)
}

/// The nearest snapped vector, halves away from zero; NaN becomes 0.
#[must_use]
pub fn snap(vector: Vec2) -> Vec2 {
    let snap = |value: f32| round(value * FINE_STEPS) as f32 / FINE_STEPS;
    Vec2::new(snap(vector.x), snap(vector.y))
}

/// As `f32::round` does, which is a call where the processor is not known to have an instruction for it.
fn round(value: f32) -> i32 {
    // A cast of a float saturates, and makes NaN 0; it also leaves no negative zero.
    let whole = value as i32;
    // Exact: both are of one sign, and less than 1 apart unless the cast has saturated.
    let rest = value - whole as f32;
    whole.saturating_add(i32::from(rest >= 0.5) - i32::from(rest <= -0.5))
}

/// Where a player aims after a tick. One whose inputs are missing stands still, but does not turn east.
pub(crate) fn turn(aim: Aim, input: &PlayerInput) -> Aim {
    if input.provenance == Provenance::Absent { aim } else { Aim::from_steps(input.get(AIM)) }
}

/// The system: every player takes a step, and turns to their aim.
pub(crate) fn walk(
    clock: Res<Clock>,
    map: Res<Map>,
    inputs: Res<Inputs>,
    mut players: Query<(&Owner, &mut MoveState, &mut Course, &mut Aim)>,
) {
    for (owner, mut state, mut course, mut aim) in &mut players {
        let Some(input) = inputs.get(owner.0) else { continue };
        // Who does not stir is not marked as changed, and costs the tick nothing further.
        let (next, going) = step_on_course(*state, MoveInput::of(input.values()), &map, clock.dt());
        state.set_if_neq(next);
        course.set_if_neq(going);
        let turned = turn(*aim, input);
        aim.set_if_neq(turned);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tickwire_shared::{Randomness, Tick, TickRate};

    use super::*;

    fn dt(hz: u32) -> f32 {
        TickRate::new(hz).expect("in range").dt()
    }

    fn input(move_x: i32, move_y: i32) -> MoveInput {
        MoveInput::of(&[move_x, move_y, 0, 0, 0])
    }

    #[test]
    fn a_player_gets_up_to_speed_and_stands_still_again() {
        let map = Map::new(200, 1, 0);
        let mut state = MoveState::default();
        let mut ticks_to = |walk, velocity| {
            (1..100).find(|_| {
                state = step(state, walk, &map, dt(60));
                state.velocity == velocity
            })
        };
        // 5 m/s at 40 m/s², and at 30 m/s² back.
        assert_eq!(ticks_to(input(127, 0), Vec2::new(5.0, 0.0)), Some(8));
        assert_eq!(ticks_to(input(0, 0), Vec2::ZERO), Some(10));
        // Slanted is not faster.
        let diagonal = snap(Vec2::splat(TOP_SPEED / 2.0_f32.sqrt()));
        assert_eq!(ticks_to(input(-127, -127), -diagonal), Some(8));
    }

    #[test]
    fn a_wall_takes_the_speed_towards_it_and_leaves_the_rest() {
        let map = Map::new(40, 1, 0);
        let mut state = MoveState { position: Vec2::new(19.0, 0.0), ..MoveState::default() };
        for _ in 0..60 {
            state = step(state, input(127, 127), &map, dt(60));
        }
        assert_eq!(state.position.x, 20.0 - PLAYER_RADIUS);
        assert_eq!(state.velocity.x, 0.0);
        assert!(state.velocity.y > 3.0, "{}", state.velocity.y);
    }

    #[test]
    fn an_absurd_input_does_no_harm() {
        let map = Map::new(40, 1, 0);
        for walk in [Vec2::NAN, Vec2::INFINITY, Vec2::splat(1e30)] {
            let state = step(MoveState::default(), MoveInput { walk }, &map, dt(60));
            assert!(state.velocity.length() <= TOP_SPEED, "{state:?}");
        }
    }

    proptest! {
        #[test]
        fn rounding_is_to_the_nearest_halves_away_from_zero(
            value in prop_oneof![any::<f32>(), -9.0..9.0_f32, (-99..99_i32).prop_map(|halves| halves as f32 / 2.0)]
        ) {
            prop_assert_eq!(round(value), value.round() as i32);
        }

        #[test]
        fn players_stay_snapped_within_the_walls_out_of_cover_and_within_their_speed(
            seed in any::<u64>(), hz in 1..=240_u32, cover in 0..=100_u32,
            inputs in prop::collection::vec((-127..=127_i32, -127..=127_i32, 1..30_u32), 1..20),
        ) {
            let map = Map::new(60, 4, cover);
            let position = map.random_place(&mut Randomness { seed, tick: Tick(1) }.stream("test", 0));
            let mut state = MoveState { position, ..MoveState::default() };
            for (move_x, move_y, ticks) in inputs {
                for _ in 0..ticks {
                    let before = state;
                    state = step(before, input(move_x, move_y), &map, dt(hz));
                    prop_assert_eq!(state, step(before, input(move_x, move_y), &map, dt(hz)));
                    prop_assert_eq!((snap(state.position), snap(state.velocity)), (state.position, state.velocity));
                    prop_assert!(map.is_free(state.position), "{:?}", state);
                    prop_assert!(state.velocity.length() <= TOP_SPEED + 1.0 / FINE_STEPS, "{:?}", state);
                }
            }
        }

        #[test]
        fn who_holds_a_direction_moves_by_the_same_amount_each_tick(
            move_x in -127..=127_i32, move_y in -127..=127_i32,
            old_x in -127..=127_i32, old_y in -127..=127_i32, hz in 4..=240_u32,
        ) {
            let map = Map::new(200, 1, 0);
            let mut state = MoveState { position: Vec2::new(5.0, -5.0), ..MoveState::default() };
            for (walk, seconds) in [(input(old_x, old_y), 1), (input(move_x, move_y), 1)] {
                for _ in 0..hz * seconds {
                    state = step(state, walk, &map, dt(hz));
                }
            }
            let velocity = state.velocity;
            let next = step(state, input(move_x, move_y), &map, dt(hz));
            let displacement = next.position - state.position;
            for _ in 0..hz * 5 {
                let next = step(state, input(move_x, move_y), &map, dt(hz));
                prop_assert_eq!(next.position - state.position, displacement);
                prop_assert_eq!(next.velocity, velocity);
                state = next;
            }
        }
    }
}
