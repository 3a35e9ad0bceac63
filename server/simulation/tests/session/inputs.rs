//! The rules of inputs, one by one, and any mixture of them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tickwire_shared::{PlayerId, Provenance, TickRate};
use tickwire_simulation::{InputCounters, InputVerdict, Session, SessionConfig, SessionLimits};

use crate::game::{input, seen_of, session, session_with, tick, tick_until, ticks};

const FRESH: i32 = 1;
const REPEATED: i32 = 2;
const ABSENT: i32 = 3;

/// A session at tick 10 with one player.
fn seated() -> (Session, PlayerId) {
    let mut session = session();
    let player = session.join("Ada").expect("a free seat");
    tick_until(&mut session, 10);
    (session, player)
}

fn send(session: &mut Session, player: PlayerId, sequence: u64, target: u64, values: &[i32]) -> InputVerdict {
    let input = input(session, sequence, target, values);
    session.input(player, input)
}

#[test]
fn an_input_is_used_at_its_target_tick_and_at_no_other() {
    let (mut session, ada) = seated();
    assert_eq!(send(&mut session, ada, 1, 13, &[8, 1]), InputVerdict::Buffered);
    tick_until(&mut session, 12);
    assert_eq!((seen_of(&session, ada), session.consumed_input(ada)), ((0, 0, ABSENT), 0));
    tick(&mut session);
    assert_eq!((seen_of(&session, ada), session.consumed_input(ada)), ((8, 1, FRESH), 1));
    tick(&mut session);
    assert_eq!(seen_of(&session, ada), (8, 0, REPEATED));
}

#[test]
fn holds_repeat_for_250_ms_and_then_turn_neutral() {
    let (mut session, ada) = seated();
    send(&mut session, ada, 1, 11, &[8]);
    tick_until(&mut session, 11 + 15);
    assert_eq!(seen_of(&session, ada), (8, 0, REPEATED));
    tick(&mut session);
    assert_eq!(seen_of(&session, ada), (0, 0, ABSENT));
    send(&mut session, ada, 2, 28, &[-8]);
    tick(&mut session);
    assert_eq!(seen_of(&session, ada), (-8, 0, FRESH));
}

#[test]
fn the_time_of_repeats_follows_the_tick_rate() {
    let tick_rate = TickRate::new(20).expect("a rate");
    let mut session = session_with(SessionConfig { tick_rate, ..SessionConfig::default() });
    let ada = session.join("").expect("a free seat");
    send(&mut session, ada, 1, 1, &[8]);
    tick_until(&mut session, 6);
    assert_eq!(seen_of(&session, ada), (8, 0, REPEATED));
    tick(&mut session);
    assert_eq!(seen_of(&session, ada), (0, 0, ABSENT));
}

#[test]
fn edges_never_repeat() {
    let (mut session, ada) = seated();
    send(&mut session, ada, 1, 11, &[0, 1]);
    let jumps: Vec<i32> = (0..20)
        .map(|_| {
            tick(&mut session);
            seen_of(&session, ada).1
        })
        .collect();
    assert_eq!((jumps[0], jumps.iter().sum::<i32>()), (1, 1));
}

#[test]
fn a_late_input_is_never_applied() {
    let (mut session, ada) = seated();
    assert_eq!(send(&mut session, ada, 1, 10, &[8, 1]), InputVerdict::Late);
    ticks(&mut session, 3);
    assert_eq!((seen_of(&session, ada), session.consumed_input(ada)), ((0, 0, ABSENT), 0));
    assert_eq!(session.counters().late, 1);
}

#[test]
fn an_input_for_the_tick_that_has_begun_is_late() {
    let (mut session, ada) = seated();
    let record = session.begin_tick();
    assert_eq!(send(&mut session, ada, 1, 11, &[8]), InputVerdict::Late);
    session.finish_tick(&record).expect("sound");
}

#[test]
fn more_than_a_second_ahead_is_too_early() {
    let (mut session, ada) = seated();
    assert_eq!(send(&mut session, ada, 1, 70, &[8]), InputVerdict::Buffered);
    assert_eq!(send(&mut session, ada, 2, 71, &[8]), InputVerdict::TooEarly);
    assert_eq!(send(&mut session, ada, 3, 1 << 53, &[8]), InputVerdict::TooEarly);
    assert_eq!(session.counters().too_early, 2);
}

#[test]
fn of_two_inputs_for_one_tick_the_first_wins() {
    let (mut session, ada) = seated();
    assert_eq!(send(&mut session, ada, 1, 12, &[3]), InputVerdict::Buffered);
    assert_eq!(send(&mut session, ada, 2, 12, &[5]), InputVerdict::Duplicate);
    assert_eq!(send(&mut session, ada, 1, 12, &[3]), InputVerdict::Duplicate);
    tick_until(&mut session, 12);
    assert_eq!(seen_of(&session, ada), (3, 0, FRESH));
    assert_eq!(send(&mut session, ada, 1, 12, &[3]), InputVerdict::Duplicate);
    assert_eq!((session.counters().duplicate, session.counters().late), (3, 0));
}

#[test]
fn targets_rise_with_the_sequence_in_whatever_order_inputs_arrive() {
    let (mut session, ada) = seated();
    assert_eq!(send(&mut session, ada, 5, 15, &[5]), InputVerdict::Buffered);
    assert_eq!(send(&mut session, ada, 4, 14, &[4]), InputVerdict::Buffered);
    assert_eq!(send(&mut session, ada, 6, 13, &[6]), InputVerdict::Duplicate);
    assert_eq!(send(&mut session, ada, 3, 16, &[3]), InputVerdict::Duplicate);
    assert_eq!(send(&mut session, ada, 5, 17, &[5]), InputVerdict::Duplicate);
    tick_until(&mut session, 14);
    assert_eq!(session.consumed_input(ada), 4);
    tick(&mut session);
    assert_eq!((session.consumed_input(ada), seen_of(&session, ada)), (5, (5, 0, FRESH)));
}

#[test]
fn a_seat_listens_before_its_first_tick() {
    let mut session = session();
    let ada = session.join("Ada").expect("a free seat");
    assert_eq!(send(&mut session, ada, 1, 1, &[8]), InputVerdict::Buffered);
    tick(&mut session);
    assert_eq!(seen_of(&session, ada), (8, 0, FRESH));
}

#[test]
fn a_new_connection_starts_from_what_was_consumed() {
    let (mut session, ada) = seated();
    for (sequence, target) in [(1, 11), (2, 30)] {
        assert_eq!(send(&mut session, ada, sequence, target, &[8]), InputVerdict::Buffered);
    }
    tick(&mut session);
    session.disconnect(ada);
    tick(&mut session);
    assert!(session.reconnect(ada));
    assert_eq!(session.consumed_input(ada), 1);
    assert_eq!(send(&mut session, ada, 2, 31, &[-8]), InputVerdict::Buffered);
    tick_until(&mut session, 30);
    assert_eq!(seen_of(&session, ada), (0, 0, ABSENT));
    tick(&mut session);
    assert_eq!(seen_of(&session, ada), (-8, 0, FRESH));
}

#[test]
fn strangers_are_not_seated() {
    let (mut session, _) = seated();
    assert_eq!(send(&mut session, PlayerId(9), 1, 12, &[8]), InputVerdict::NotSeated);
    assert_eq!(send(&mut session, PlayerId(0), 1, 12, &[8]), InputVerdict::NotSeated);
}

#[test]
fn every_seat_and_tick_is_counted() {
    let (mut session, ada) = seated();
    session.join("Bob").expect("a free seat");
    send(&mut session, ada, 1, 11, &[8]);
    ticks(&mut session, 20);
    let expected = InputCounters { fresh: 1, repeated: 15, absent: 10 + 4 + 20, ..InputCounters::default() };
    assert_eq!(*session.counters(), expected);
}

#[derive(Clone, Debug)]
enum Command {
    Join,
    Leave(usize),
    Disconnect(usize),
    Reconnect(usize),
    /// Player, sequence, target relative to the session's tick, values.
    Input(usize, u64, i64, [i32; 2]),
    Tick,
}

fn command() -> impl Strategy<Value = Command> {
    let player = || 0..5_usize;
    let sequence = prop_oneof![8 => 1..60_u64, 1 => Just(u64::MAX)];
    let target = prop_oneof![8 => -3..20_i64, 1 => 55..65_i64, 1 => Just(1_i64 << 52)];
    prop_oneof![
        1 => Just(Command::Join),
        1 => player().prop_map(Command::Leave),
        1 => player().prop_map(Command::Disconnect),
        1 => player().prop_map(Command::Reconnect),
        16 => (player(), sequence, target, [-8..=8_i32, 0..=1_i32])
            .prop_map(|(player, sequence, target, values)| Command::Input(player, sequence, target, values)),
        10 => Just(Command::Tick),
    ]
}

/// What the rules say of one seat, written down a second time.
#[derive(Default)]
struct Model {
    consumed: u64,
    fresh_at: Option<u64>,
    push: i32,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_mixture_of_commands_keeps_the_rules(commands in prop::collection::vec(command(), 1..250)) {
        let limits = SessionLimits { max_players: 3, grace_ticks: 20, ..SessionLimits::default() };
        let mut session = session_with(SessionConfig { limits, ..SessionConfig::default() });
        let mut models: BTreeMap<PlayerId, Model> = BTreeMap::new();
        let mut players: Vec<PlayerId> = Vec::new();
        for command in commands {
            let player = |i: usize| players.get(players.len().wrapping_sub(1 + i)).copied().unwrap_or_default();
            match command {
                Command::Join => players.extend(session.join("").ok()),
                Command::Leave(i) => session.leave(player(i)),
                Command::Disconnect(i) => session.disconnect(player(i)),
                Command::Reconnect(i) => drop(session.reconnect(player(i))),
                Command::Input(i, sequence, ahead, values) => {
                    let now = session.tick().0;
                    let target = now.saturating_add_signed(ahead).max(1);
                    let verdict = send(&mut session, player(i), sequence, target, &values);
                    match verdict {
                        InputVerdict::Buffered => prop_assert!(target > now && target <= now + 60),
                        InputVerdict::Late => prop_assert!(target <= now),
                        InputVerdict::TooEarly => prop_assert!(target > now + 60),
                        InputVerdict::Duplicate | InputVerdict::NotSeated => {}
                    }
                }
                Command::Tick => {
                    let (record, output) = tick(&mut session);
                    let now = record.tick.0;
                    prop_assert!(record.inputs.len() <= 3);
                    for seat in &record.inputs {
                        let model = models.entry(seat.player).or_default();
                        match seat.provenance {
                            Provenance::Fresh => {
                                prop_assert!(seat.sequence > model.consumed);
                                *model = Model { consumed: seat.sequence, fresh_at: Some(now), push: seat.values[0] };
                            }
                            Provenance::Repeated => {
                                prop_assert!(model.fresh_at.is_some_and(|at| now - at <= 15));
                            }
                            Provenance::Absent => {
                                prop_assert!(model.fresh_at.is_none_or(|at| now - at > 15));
                                model.push = 0;
                            }
                        }
                        let consumed = output.frame.seat(seat.player).expect("seated").consumed_input;
                        prop_assert_eq!(consumed, model.consumed);
                        prop_assert_eq!(seen_of(&session, seat.player).0, model.push);
                    }
                }
            }
        }
    }
}
