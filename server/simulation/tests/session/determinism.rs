//! What a tick yields depends on its records alone.

use std::sync::Arc;

use proptest::prelude::*;
use tickwire_shared::{Digest, Frame, PlayerId, Provenance, Seen, Tick};
use tickwire_simulation::{
    InputError, NameError, SeatChange, SeatInput, Session, SessionConfig, SessionLimits, TickInput, TickInputError,
    TickResult,
};

use crate::game::{break_by, fault, input, session, session_with, tick};

/// All of a frame that is not shared by design.
pub(crate) fn assert_same_frame(a: &Frame, b: &Frame) {
    assert_eq!((a.epoch, a.tick, a.state_hash), (b.epoch, b.tick, b.state_hash));
    assert_eq!((&a.table, &a.places, &a.seats, &a.roster), (&b.table, &b.places, &b.seats, &b.roster));
    assert_eq!(a.cells.len(), b.cells.len());
    for (a, b) in a.cells.iter().zip(b.cells.iter()) {
        assert_eq!((&a.state, &a.events, a.events_lost, a.changed), (&b.state, &b.events, b.events_lost, b.changed));
    }
}

/// A match of some length in which all sorts of things happen, as decided by `choices`.
fn play(session: &mut Session, choices: &[u32]) -> Vec<TickInput> {
    let mut players: Vec<PlayerId> = Vec::new();
    let mut records = Vec::new();
    for (i, &choice) in choices.iter().enumerate() {
        let now = session.tick().0;
        let player = players.get(choice as usize % players.len().max(1)).copied().unwrap_or_default();
        match choice % 13 {
            0 => players.extend(session.join("").ok()),
            // Who goes before their first tick leaves no record, and their number is lost to a follower.
            1 if session.frame().seat(player).is_some() => session.leave(player),
            2 => session.disconnect(player),
            3 => drop(session.reconnect(player)),
            _ => {
                let values = [(choice % 17) as i32 - 8, i32::from(choice.is_multiple_of(5))];
                let sent = input(session, i as u64 + 1, now + 1 + u64::from(choice % 3), &values);
                session.input(player, sent);
            }
        }
        if choice % 3 != 0 {
            records.push(tick(session).0);
        }
    }
    records
}

pub(crate) fn config() -> SessionConfig {
    let limits = SessionLimits { max_players: 4, grace_ticks: 20, ..SessionLimits::default() };
    SessionConfig { seed: 7, settings: vec![40], limits, ..SessionConfig::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_session_fed_with_records_alone_is_the_same_session(
        choices in prop::collection::vec(any::<u32>(), 1..200), more in prop::collection::vec(any::<u32>(), 1..60)
    ) {
        let (mut first, mut second) = (session_with(config()), session_with(config()));
        let mut records = play(&mut first, &choices);
        // Until all that was sent and asked for is on record.
        records.extend((0..4).map(|_| tick(&mut first).0));
        for record in &records {
            second.check_tick(record).expect("what a session records fits");
            second.finish_tick(record).expect("sound");
        }
        assert_same_frame(first.frame(), second.frame());
        prop_assert_eq!(first.counters().fresh, second.counters().fresh);

        // A follower goes on as the one that it followed.
        for session in [&mut first, &mut second] {
            for player in session.frame().seats.iter().map(|seat| seat.player).collect::<Vec<_>>() {
                let _ = session.reconnect(player);
            }
        }
        prop_assert_eq!(play(&mut first, &more), play(&mut second, &more));
        assert_same_frame(first.frame(), second.frame());
    }
}

#[test]
fn every_tick_yields_the_same_result_again() {
    let choices: Vec<u32> = (0..400_u32).map(|i| i.wrapping_mul(2_654_435_761) >> 7).collect();
    let mut first = session_with(config());
    let records = play(&mut first, &choices);
    let run = || {
        let mut session = session_with(config());
        let finish = |record| session.finish_tick(record).expect("sound").result;
        records.iter().map(finish).collect::<Vec<_>>()
    };
    let results = run();
    assert_eq!(results, run());
    assert!(results.iter().any(|result| !result.events.is_empty()));
}

/// A fight of 16 players over ten seconds, told by what each says at each tick that they see; with its records and results.
fn fight(rewind_ms: u32, sees: impl Fn(u64, PlayerId) -> (u64, u32)) -> (Session, Vec<(TickInput, TickResult)>) {
    let limits = SessionLimits { rewind_ms, ..SessionLimits::default() };
    let config = SessionConfig { seed: 3, limits, ..SessionConfig::default() };
    let mut session = arena(&config);
    let players: Vec<PlayerId> = (0..16).map(|_| session.join("").expect("a free seat")).collect();
    let play = |now: u64| {
        for &player in &players {
            // Everyone walks a way of their own for half a second, turning, firing, and launching a rocket now and then.
            let choice = (now / 30 + 1).wrapping_mul(2_654_435_761) ^ u64::from(player.0).wrapping_mul(0x9e37_79b9);
            let walk = |shift: u32| ((choice >> shift) % 255) as i32 - 127;
            let aim = ((now * 40 + choice) % 4096) as i32;
            let values =
                [walk(3), walk(11), aim, i32::from(choice.is_multiple_of(2)), i32::from(now % 60 == choice % 60)];
            let (tick, fraction) = sees(now + 1, player);
            let sent = input(&session, now + 1, now + 1, &values).with_seen(tick, fraction).expect("in range");
            session.input(player, sent);
        }
        let record = session.begin_tick();
        let result = session.finish_tick(&record).expect("the arena is sound").result;
        (record, result)
    };
    let ticks = (0..600).map(play).collect();
    (session, ticks)
}

fn arena(config: &SessionConfig) -> Session {
    Session::new(Arc::new(tickwire_arena::Arena), config.clone()).expect("an arena")
}

fn results_of(ticks: &[(TickInput, TickResult)]) -> Vec<&TickResult> {
    ticks.iter().map(|(_, result)| result).collect()
}

/// Anything that can be written down: what is true, old, older than all frames, in the future, and back and forth.
fn anything(now: u64, player: PlayerId) -> (u64, u32) {
    let dice = Digest::of(now << 32 | u64::from(player.0));
    let fraction = (dice >> 32) as u32 % 256;
    match dice % 8 {
        0 => (0, fraction),
        1 => (Tick::MAX.0, 255),
        2 => (now + dice / 8 % 40, fraction),
        3 => (1, fraction),
        4 => (now.saturating_sub(dice / 8 % 40), fraction),
        _ => (now.saturating_sub(6), fraction),
    }
}

#[test]
fn an_arena_is_the_same_arena_again_whatever_players_say_that_they_see() {
    let silent = fight(250, |_, _| (0, 0));
    let seeing = fight(250, |now, player| (now.saturating_sub(4 + u64::from(player.0 % 4)), player.0 * 15));
    let hostile = fight(250, anything);
    for (session, ticks) in [&silent, &seeing, &hostile] {
        let mut follower = arena(session.config());
        for (record, result) in ticks {
            follower.check_tick(record).expect("what a session records fits");
            assert_eq!(follower.finish_tick(record).expect("the arena is sound").result, *result);
        }
        assert_same_frame(session.frame(), follower.frame());
        let events: usize = ticks.iter().map(|(_, result)| result.events.len()).sum();
        assert!(events > 100, "{events} events are no fight");
    }
    let all = [&silent, &seeing, &hostile].map(|(_, ticks)| results_of(ticks));
    assert!(all[0] != all[1] && all[0] != all[2], "what players see makes no difference");
}

#[test]
fn who_may_not_rewind_plays_as_if_nobody_said_what_they_saw() {
    let (silent, forbidden) = (fight(250, |_, _| (0, 0)), fight(0, anything));
    assert_eq!(results_of(&silent.1), results_of(&forbidden.1));
}

#[test]
fn another_seed_is_another_match() {
    let hash = |seed| {
        let mut session = session_with(SessionConfig { seed, ..SessionConfig::default() });
        session.join("Ada").expect("a free seat");
        tick(&mut session).1.result.state_hash
    };
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
}

#[test]
fn hidden_state_and_scores_are_in_the_hash() {
    let (mut quiet, mut loud) = (session(), session());
    for session in [&mut quiet, &mut loud] {
        let ada = session.join("Ada").expect("a free seat");
        let bob = session.join("Bob").expect("a free seat");
        tick(session);
        session.leave(ada);
        session.leave(bob);
    }
    assert_eq!(tick(&mut quiet).1.result, tick(&mut loud).1.result);
    // One more empty seat changes nothing that is replicated, only the game's hidden total.
    let mut crowded = session();
    let eve = crowded.join("Eve").expect("a free seat");
    tick(&mut crowded);
    crowded.leave(eve);
    let (_, crowded) = tick(&mut crowded);
    assert_ne!(crowded.result.state_hash, quiet.frame().state_hash);
}

#[test]
fn a_recorded_panic_panics_again() {
    let mut first = session();
    let ada = first.join("Ada").expect("a free seat");
    let mut records = vec![tick(&mut first).0];
    let broken = input(&first, 1, 2, &[0, 0, fault::SYSTEM]);
    first.input(ada, broken);
    records.push(first.begin_tick());
    let panic = first.finish_tick(&records[1]).expect_err("it must break");

    let mut second = session();
    second.finish_tick(&records[0]).expect("sound");
    assert_eq!(second.finish_tick(&records[1]).map(drop), Err(panic));
    assert!(break_by(&mut second, ada, fault::EVENTS).is_err());
}

#[test]
fn records_that_do_not_fit_are_refused_before_the_world_sees_them() {
    let mut session = session();
    let ada = session.join("Ada").expect("a free seat");
    session.join("Bob").expect("a free seat");
    let sent = input(&session, 5, 1, &[8]);
    session.input(ada, sent);
    tick(&mut session);
    let tick = Tick(2);
    let bob = PlayerId(2);
    let quiet = |player| SeatInput::without(player, Provenance::Absent);
    let fresh = |sequence, values: &[i32]| SeatInput {
        player: ada,
        provenance: Provenance::Fresh,
        sequence,
        values: values.to_vec(),
        seen: None,
    };
    let record = |seat_changes: &[SeatChange], inputs: &[SeatInput]| TickInput {
        tick,
        seat_changes: seat_changes.to_vec(),
        inputs: inputs.to_vec(),
    };
    let joined = |player: u32, name: &str| SeatChange::Joined { player: PlayerId(player), name: name.into() };
    let seat_error = |player, reason| TickInputError::SeatChange { tick, player, reason };
    let both = [quiet(ada), quiet(bob)];
    let cases = [
        (TickInput { tick: Tick(3), ..record(&[], &both) }, TickInputError::Tick { expected: tick, given: Tick(3) }),
        (record(&[], &both[..1]), TickInputError::Seats { tick }),
        (record(&[], &[quiet(bob), quiet(ada)]), TickInputError::Seats { tick }),
        (record(&[SeatChange::Left { player: bob }], &both), TickInputError::Seats { tick }),
        (record(&[joined(2, "Eve")], &both), seat_error(bob, "joined, under a number that has been used")),
        (record(&[SeatChange::Left { player: PlayerId(9) }], &both), seat_error(PlayerId(9), "the player has no seat")),
        (record(&[SeatChange::Reconnected { player: ada }], &both), seat_error(ada, "the seat is so already")),
        (
            record(&[SeatChange::Left { player: bob }, SeatChange::Disconnected { player: ada }], &both),
            seat_error(ada, "it is not in order of player"),
        ),
        (record(&[joined(3, "")], &both), TickInputError::Name { tick, player: PlayerId(3), source: NameError::Empty }),
        (
            record(&[], &[fresh(5, &[0, 0, 0]), quiet(bob)]),
            TickInputError::Input { tick, player: ada, reason: "its sequence does not rise" },
        ),
        (
            record(&[], &[SeatInput { sequence: 6, ..quiet(ada) }, quiet(bob)]),
            TickInputError::Input { tick, player: ada, reason: "only fresh inputs have values" },
        ),
        (
            record(&[], &[SeatInput { seen: Some(Seen::at(Tick(1))), ..quiet(ada) }, quiet(bob)]),
            TickInputError::Input { tick, player: ada, reason: "only fresh inputs have values" },
        ),
        (
            record(&[], &[fresh(6, &[0]), quiet(bob)]),
            TickInputError::Input {
                tick,
                player: ada,
                reason: "it has another number of values than the schema has input fields",
            },
        ),
        (
            record(&[], &[fresh(6, &[9, 0, 0]), quiet(bob)]),
            TickInputError::Values {
                tick,
                player: ada,
                source: InputError::Range { field: "push".into(), value: 9, min: -8, max: 8 },
            },
        ),
    ];
    for (record, error) in cases {
        assert_eq!(session.check_tick(&record), Err(error));
    }
    let full: Vec<SeatChange> = (3..=258).map(|player| joined(player, "x")).collect();
    assert_eq!(
        session.check_tick(&record(&full, &both)),
        Err(seat_error(PlayerId(257), "joined, though all seats are taken"))
    );
    assert_eq!(session.tick(), Tick(1));
}

#[test]
#[should_panic(expected = "not the session's next tick: tick 5 instead of 1")]
fn finishing_another_tick_than_the_next_is_a_bug_of_the_caller() {
    let _ = session().finish_tick(&TickInput { tick: Tick(5), ..TickInput::default() });
}
