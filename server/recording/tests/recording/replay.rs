//! What was played is played again; and where it is not, what differs is named.

use std::{fs, sync::Arc};

use tickwire_recording::{
    Difference, Divergence, End, EndReason, Layout, Recording, Replay, ReplayError, VerifyError, assert_replays,
    finished_path, game_of, verify,
};
use tickwire_shared::{Game, NetId, Provenance, Tick};
use tickwire_simulation::TickPanic;

use crate::game::{Dots, Match, Twist, play_broken_match, play_match};

fn divergence(played: &Match, game: Dots) -> Divergence {
    match verify(&played.recording(), Arc::new(game)) {
        Err(VerifyError::Diverged(divergence)) => *divergence,
        other => panic!("it must diverge, but: {other:?}"),
    }
}

fn twisted(twist: Twist) -> Divergence {
    divergence(&play_match(100), Dots { twist: Some((30, twist)), ..Dots::default() })
}

#[test]
fn a_match_replays_to_the_last_hash_and_again() {
    let played = play_match(150);
    let recording = played.recording();
    let verified = verify(&recording, Arc::new(Dots::default())).expect("the same match");
    assert_eq!((verified.ticks, verified.end.as_ref()), (150, Some(&played.end)));
    let last = played.ticks.last().and_then(|(_, result)| result.as_ref()).expect("a whole tick");
    assert_eq!(verified.state_hash, last.state_hash);
    assert_eq!(verify(&recording, Arc::new(Dots::default())).expect("the same match"), verified);
}

#[test]
fn a_replay_stops_where_it_is_told_to() {
    let replay = Replay::new(&play_match(100).recording(), Arc::new(Dots::default())).expect("the game");
    let mut seen = Vec::new();
    let verified = replay.until(Tick(40)).verify(|tick| seen.push(tick.recorded.input.tick)).expect("the same match");
    assert_eq!((verified.ticks, verified.end), (40, None));
    assert_eq!(seen, (1..=40).map(Tick).collect::<Vec<_>>());
}

#[test]
fn one_altered_input_is_found_and_named() {
    let mut played = play_match(100);
    let (record, _) = &mut played.ticks[24];
    assert_eq!((record.tick, record.inputs[0].provenance), (Tick(25), Provenance::Fresh));
    record.inputs[0].values[0] += 3;
    let found = divergence(&played, Dots::default());
    assert_eq!((found.tick, found.entities), (Tick(25), 1));
    let Difference::Field { kind, net_id, field, recorded, replayed } = &found.difference else {
        panic!("a field differs, but: {found}");
    };
    assert_eq!((kind.as_str(), *net_id, field.as_str()), ("dot", NetId(2), "x"));
    assert_eq!((recorded.unit.as_str(), replayed.quanta > recorded.quanta), ("m", true));
    let message = found.to_string();
    let start = format!(
        "the replay diverges at tick 25: dot 2, field x: recorded {} m ({} quanta), replayed {} m ({} quanta); state hash",
        recorded.quantity, recorded.quanta, replayed.quantity, replayed.quanta
    );
    assert!(message.starts_with(&start), "{message}");
}

#[test]
fn an_altered_input_is_found_in_a_field_of_counts_too() {
    let mut played = play_match(100);
    played.ticks[29].0.inputs[1].values[1] = 0;
    let message = divergence(&played, Dots::default()).to_string();
    assert!(
        message.starts_with("the replay diverges at tick 30: dot 3, field hue: recorded 3, replayed 2;"),
        "{message}"
    );
}

#[test]
fn entities_on_one_side_are_named() {
    let found = twisted(Twist::Extra);
    assert_eq!(found.difference, Difference::Entity { kind: "dot".into(), net_id: NetId(5), recorded: false });
    assert!(found.to_string().contains("dot 5 is in the replay and not in the recording"), "{found}");
}

#[test]
fn several_differences_are_counted() {
    let found = twisted(Twist::Faster);
    assert_eq!((found.tick, found.entities), (Tick(30), 3));
    assert!(found.to_string().contains("(the first of 3 entities that differ)"), "{found}");
}

#[test]
fn events_are_compared() {
    let found = twisted(Twist::OtherEvent);
    let expected = "event 4: recorded none, replayed jumped to player 1 (player 1, height 2 m (8 quanta))";
    assert!(found.to_string().contains(expected), "{found}");
    let found = twisted(Twist::NoEvent);
    let expected = "event 0: recorded jumped (player 1, height 1.5 m (6 quanta)), replayed none";
    assert!(found.to_string().contains(expected), "{found}");
}

#[test]
fn hidden_state_is_said_to_be_what_differs() {
    for twist in [Twist::Hidden, Twist::Score] {
        let found = twisted(twist);
        assert_eq!((found.tick, &found.difference), (Tick(30), &Difference::Hidden));
        assert_ne!(found.recorded_hash, found.replayed_hash);
    }
}

#[test]
fn a_recorded_panic_is_reproduced() {
    let played = play_broken_match(40);
    assert!(matches!(played.end.reason, EndReason::Failed { .. }));
    let message = "player 1 broke the game".to_owned();
    let verified = verify(&played.recording(), Arc::new(Dots::default())).expect("the same panic");
    assert_eq!((verified.ticks, verified.panic), (39, Some(TickPanic { tick: Tick(40), message })));

    let error = verify(&played.recording(), Arc::new(Dots { forgiving: true, ..Dots::default() }));
    let error = error.expect_err("the panic is gone").to_string();
    assert_eq!(error, "tick 40 panicked when it was recorded, and does not in the replay: player 1 broke the game");
}

#[test]
fn a_server_that_went_down_with_the_panic_leaves_the_same() {
    let played = play_broken_match(40);
    let recording = Recording::from_bytes(played.bytes_with(Layout::Live, None)).expect("a recording");
    let verified = verify(&recording, Arc::new(Dots::default())).expect("the same panic");
    assert_eq!((verified.ticks, verified.panic.is_some(), verified.end), (39, true, None));
}

#[test]
fn the_last_tick_of_a_killed_server_may_panic_or_go_well() {
    let killed = |tick| End { reason: EndReason::Killed, tick: Tick(tick), ticks_missing: 0 };
    let broken = play_broken_match(40).bytes_with(Layout::Finished, Some(&killed(40)));
    let recording = Recording::from_bytes(broken).expect("a recording");
    let verified = verify(&recording, Arc::new(Dots::default())).expect("the same panic");
    assert_eq!((verified.ticks, verified.panic.is_some(), verified.end), (39, true, Some(killed(40))));

    let mut played = play_match(30);
    played.ticks[29].1 = None;
    let torn = played.bytes_with(Layout::Finished, Some(&killed(30)));
    let recording = Recording::from_bytes(torn).expect("a recording");
    let verified = verify(&recording, Arc::new(Dots::default())).expect("it was cut short");
    assert_eq!((verified.ticks, verified.panic, verified.end), (29, None, Some(killed(30))));
}

#[test]
fn a_new_panic_is_no_part_of_the_recording() {
    let game = Dots { twist: Some((30, Twist::Panic)), ..Dots::default() };
    let error = verify(&play_match(100).recording(), Arc::new(game)).expect_err("it panics").to_string();
    assert_eq!(error, "in the replay, and not in the recording, tick 30 panicked: a new bug");

    // Nor is it where the tick's result is only missing.
    let mut played = play_match(30);
    played.ticks[29].1 = None;
    let error = verify(&played.recording(), Arc::new(game)).expect_err("it panics").to_string();
    assert_eq!(error, "in the replay, and not in the recording, tick 30 panicked: a new bug");
}

#[test]
fn another_game_or_version_is_refused_by_name() {
    let played = play_match(5);
    let recording = played.recording();
    let error = game_of(&recording, &[]).map(drop).expect_err("no game").to_string();
    assert_eq!(error, "the recording is of the game \"dots\"; this program has ");
    let dots: Arc<dyn Game> = Arc::new(Dots::default());
    assert!(game_of(&recording, &[dots]).is_ok());

    let error = Replay::new(&recording, Arc::new(Dots { version: 2, ..Dots::default() })).expect_err("another schema");
    assert!(matches!(error, ReplayError::Schema { recorded_version: 0, present_version: 2, .. }), "{error}");
    assert!(error.to_string().contains("replay it with the version that made it"), "{error}");
}

#[test]
fn a_recording_that_contradicts_itself_is_no_panic() {
    let mut played = play_match(40);
    played.ticks[24].0.inputs[0].values[0] = 100;
    let error = verify(&played.recording(), Arc::new(Dots::default())).expect_err("it cannot be").to_string();
    assert_eq!(
        error,
        "its ticks up to 24 are verified; then: the recording contradicts itself: tick 25: input of player 1: values.push: \
         100 is out of range: -8 to 8 quanta"
    );

    let mut played = play_match(40);
    let first = played.ticks[0].1.clone();
    let result = played.ticks[9].1.as_mut().expect("a whole tick");
    result.truth = first.expect("a whole tick").truth;
    let error = verify(&played.recording(), Arc::new(Dots::default())).expect_err("it cannot be").to_string();
    assert_eq!(
        error,
        "its ticks up to 9 are verified; then: the recording contradicts itself: tick 10: a truth delta does not fit: kind 0, \
         entity 1: spawned, but already there"
    );

    let mut played = play_match(40);
    played.ticks.remove(20);
    for (layout, found) in [(Layout::Live, "a tick_input of tick 22"), (Layout::Finished, "a batch of ticks from 22")] {
        let recording = Recording::from_bytes(played.bytes(layout)).expect("a recording");
        let error = verify(&recording, Arc::new(Dots::default())).expect_err("it cannot be").to_string();
        let expected = format!("the file is damaged: {found} instead of 21; its ticks up to 20 are readable");
        assert_eq!(error, format!("its ticks up to 20 are verified; then: {expected}"));
    }
}

#[test]
fn the_readable_part_of_a_truncated_recording_is_verified() {
    let mut bytes = play_match(40).bytes_with(Layout::Live, None);
    bytes.truncate(bytes.len() - 5);
    let recording = Recording::from_bytes(bytes).expect("a recording");
    let error = verify(&recording, Arc::new(Dots::default())).expect_err("it is not whole").to_string();
    assert_eq!(
        error,
        "its ticks up to 39 are verified; then: the file ends in the middle of a record; its ticks up to 39 are readable"
    );
}

#[test]
fn one_line_in_a_teams_test_is_enough() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = finished_path(directory.path(), "duel");
    fs::write(&path, play_match(100).bytes(Layout::Finished)).expect("a writable directory");
    assert_replays(&path, Dots::default());

    let other = Dots { twist: Some((30, Twist::Faster)), ..Dots::default() };
    let broken = std::panic::catch_unwind(|| assert_replays(&path, other));
    let message = broken.expect_err("it diverges").downcast::<String>().expect("a message");
    assert!(
        message.contains("duel.mcap does not replay: the replay diverges at tick 30: dot 2, field x: "),
        "{message}"
    );
}
