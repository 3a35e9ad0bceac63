//! What clients compute of their own player ahead of the server: movement, collision with walls and cover, aim, and when the
//! weapons can be used. All by the functions that the systems call; other players' bodies are not predicted.

use glam::Vec2;
use tickwire_shared::{Action, KindId, PlayerInput, Predict, Predicted, Settings, Tick, TickRate};

use crate::{
    aim::Aim,
    kinds::{METRE_STEPS, PLAYER, player_fields as fields},
    map::Map,
    movement::{self, FINE_STEPS, MoveInput, MoveState, PLAYER_RADIUS},
    settings::Rules,
    weapons::{Cooldowns, Weapons},
};

/// The player's rifle goes off.
pub const RIFLE: Action = Action("rifle");
/// The player launches a rocket.
pub const ROCKET: Action = Action("rocket");

/// Players whose bodies are within so many metres may be pushed apart at one tick or the next.
const CONTACT: f32 = 0.25;

/// The arena's own prediction.
#[derive(Debug)]
pub(crate) struct ArenaPredict {
    predicted: Predicted,
    map: Map,
    rules: Rules,
    dt: f32,
}

impl ArenaPredict {
    pub(crate) fn new(settings: &Settings, rate: TickRate) -> Self {
        let position = vec![fields::X, fields::Y];
        let others = [fields::AIM, fields::VX, fields::VY, fields::RIFLE_COOLDOWN, fields::ROCKET_COOLDOWN];
        Self {
            predicted: Predicted { fields: position.iter().copied().chain(others).collect(), position },
            map: Map::of(settings),
            rules: Rules::of(settings, rate),
            dt: rate.dt(),
        }
    }
}

impl Predict for ArenaPredict {
    fn predicted(&self, kind: KindId) -> Option<&Predicted> {
        (kind == PLAYER).then_some(&self.predicted)
    }

    fn step(&self, _: KindId, _: Tick, state: &mut [i32], input: &PlayerInput, actions: &mut Vec<Action>) {
        let moved = movement::step(move_state(state), MoveInput::of(input.values()), &self.map, self.dt);
        state[fields::X] = fine(moved.position.x);
        state[fields::Y] = fine(moved.position.y);
        state[fields::VX] = fine(moved.velocity.x);
        state[fields::VY] = fine(moved.velocity.y);
        // An aim's steps are the owner's quanta of its field.
        state[fields::AIM] = movement::turn(Aim::from_steps(state[fields::AIM]), input).steps();

        let wait = |field: usize| state[field].clamp(0, i32::from(u16::MAX)) as u16;
        let cooldowns = Cooldowns { rifle: wait(fields::RIFLE_COOLDOWN), rocket: wait(fields::ROCKET_COOLDOWN) };
        let (cooldowns, shoots) = cooldowns.step(Weapons::asked_for(input), &self.rules);
        state[fields::RIFLE_COOLDOWN] = cooldowns.rifle.into();
        state[fields::ROCKET_COOLDOWN] = cooldowns.rocket.into();
        actions.extend(shoots.rifle.then_some(RIFLE));
        actions.extend(shoots.rocket.then_some(ROCKET));
    }

    fn in_contact(&self, _: KindId, state: &[i32], other: KindId, values: &[i32]) -> bool {
        let there = || Vec2::new(values[fields::X] as f32, values[fields::Y] as f32) / METRE_STEPS;
        other == PLAYER && move_state(state).position.distance(there()) < 2.0 * PLAYER_RADIUS + CONTACT
    }
}

/// The owner's quanta of positions and speeds are the steps of a snapped state, so nothing is rounded.
fn move_state(state: &[i32]) -> MoveState {
    let metres = |field: usize| state[field] as f32 / FINE_STEPS;
    MoveState {
        position: Vec2::new(metres(fields::X), metres(fields::Y)),
        velocity: Vec2::new(metres(fields::VX), metres(fields::VY)),
    }
}

fn fine(snapped: f32) -> i32 {
    (snapped * FINE_STEPS) as i32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tickwire_shared::{Game as _, PlayerId, Provenance, schema_of};

    use super::*;
    use crate::{
        Arena,
        events::Shot,
        tests::harness::{Hands, Match},
    };

    #[test]
    fn the_constants_are_the_schemas_places() {
        let schema = schema_of(&Arena).expect("the definition is valid");
        assert_eq!(schema.kind_named("player"), Some(PLAYER));
        let player = &schema.kinds[PLAYER.index()].fields;
        let places = [
            ("x", fields::X),
            ("y", fields::Y),
            ("aim", fields::AIM),
            ("vx", fields::VX),
            ("vy", fields::VY),
            ("rifle_cooldown", fields::RIFLE_COOLDOWN),
            ("rocket_cooldown", fields::ROCKET_COOLDOWN),
        ];
        for (name, place) in places {
            assert_eq!(player[place].name, name);
        }
        assert_eq!(1.0 / player[fields::X].quantity.quantum, f64::from(METRE_STEPS));
        for field in [fields::X, fields::Y, fields::VX, fields::VY] {
            let steps = f64::from(1_u32 << player[field].owner_shift) / player[field].quantity.quantum;
            assert_eq!(steps, f64::from(FINE_STEPS));
        }
    }

    /// The owner's exact values.
    fn owned(game: &mut Match, player: PlayerId) -> Vec<i32> {
        let frame = game.tick();
        let seat = frame.seat(player).expect("seated");
        seat.owner.as_ref().expect("alive").values.to_vec()
    }

    proptest! {
        #[test]
        fn whatever_a_server_says_of_a_player_can_be_stepped(
            mut state in prop::collection::vec(any::<i32>(), 9), walk in (-127..=127_i32, -127..=127_i32)
        ) {
            let schema = schema_of(&Arena).expect("valid");
            let predict = ArenaPredict::new(&Settings::defaults(&schema), TickRate::DEFAULT);
            let mut input = PlayerInput::absent(&schema.inputs);
            input.advance(&schema.inputs, Provenance::Fresh, &[walk.0, walk.1, 5000, 1, 1]);
            for tick in 0..3 {
                predict.step(PLAYER, Tick(tick), &mut state, &input, &mut Vec::new());
            }
            prop_assert!(!predict.in_contact(PLAYER, &state, KindId(1), &state));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn what_a_client_computes_is_what_the_server_does(
            hz in 10..=128_u32, seed in 1..1000_u32,
            plan in prop::collection::vec(
                ((-127..=127_i32, -127..=127_i32), 0..4096_i32, any::<bool>(), any::<bool>(), 1..30_u64, any::<bool>()),
                1..24,
            ),
        ) {
            let changed = [("size", 40.0), ("map_seed", f64::from(seed)), ("cover", 0.8), ("rocket_damage", 0.0)];
            let mut game = Match::new(&changed, hz);
            let [player] = game.join();
            let mut state = owned(&mut game, player);
            let rate = TickRate::new(hz).expect("in range");
            let schema = schema_of(&Arena).expect("valid");
            let settings = game.world.resource::<Settings>().clone();
            let predict = Arena.predict(&settings, rate).expect("the arena predicts");
            let mut input = PlayerInput::absent(&schema.inputs);
            let mut actions = Vec::new();
            for (walk, aim, fire, rocket, ticks, lost) in plan {
                let hands = Hands { walk, aim, fire, rocket };
                game.act(player, hands);
                if lost {
                    game.disconnect(player);
                }
                for _ in 0..ticks {
                    let provenance = if lost { Provenance::Absent } else { Provenance::Fresh };
                    input.advance(&schema.inputs, provenance, &[walk.0, walk.1, aim, fire.into(), rocket.into()]);
                    predict.step(PLAYER, Tick(0), &mut state, &input, &mut actions);
                    prop_assert_eq!(&state, &owned(&mut game, player));
                }
            }
            let shots = actions.iter().filter(|action| **action == RIFLE).count();
            prop_assert_eq!(shots, game.events_of::<Shot>().len());
        }
    }
}
