//! The first tick at which two recordings differ, with everything that does.

use tickwire_recording::{Layout, Recording, RecordingDiff, diff};
use tickwire_shared::{NetId, Provenance, Seen, Tick};
use tickwire_simulation::{SeatChange, SeatInput};

use crate::game::{Dots, Match, Twist, play_match, play_match_of};

fn compare(a: &Match, b: &Match) -> RecordingDiff {
    diff(&a.recording(), &b.recording()).expect("they can be compared")
}

/// What differs first between a match and the same after a change.
fn after(change: impl FnOnce(&mut Match)) -> String {
    let (a, mut b) = (play_match(80), play_match(80));
    change(&mut b);
    compare(&a, &b).first.expect("they differ").to_string()
}

#[test]
fn two_runs_of_a_match_are_the_same_whatever_their_form() {
    let played = play_match(80);
    let live = Recording::from_bytes(played.bytes(Layout::Live)).expect("a recording");
    let found = diff(&played.recording(), &live).expect("they can be compared");
    assert_eq!(found, RecordingDiff { header: Vec::new(), ticks_same: 80, first: None });
}

#[test]
fn what_differs_in_the_header_is_told_and_the_ticks_are_compared_all_the_same() {
    let (a, mut b) = (play_match(30), play_match(30));
    b.meta.seed = 12;
    b.meta.settings = vec![41];
    let found = compare(&a, &b);
    assert_eq!(found.header, ["seed: A 11, B 12", "settings.speed: A 20 m/s (40 quanta), B 20.5 m/s (41 quanta)"]);
    assert_eq!((found.ticks_same, found.first), (30, None));
}

#[test]
fn the_first_other_outcome_is_named() {
    let a = play_match(80);
    let b = play_match_of(Dots { twist: Some((30, Twist::Faster)), ..Dots::default() }, 80);
    let found = compare(&a, &b);
    let first = found.first.expect("they differ");
    assert_eq!((found.ticks_same, first.tick, first.inputs.as_slice()), (29, Tick(30), [].as_slice()));
    let outcome = first.outcome.expect("it is the outcome").to_string();
    assert!(outcome.starts_with("dot 2, field x: A ") && outcome.contains(", B "), "{outcome}");
    assert!(outcome.contains("(the first of 3 entities that differ); state hash A "), "{outcome}");

    for (twist, words) in [
        (Twist::Extra, "dot 5 is in B and not in A"),
        (Twist::OtherEvent, "event 4: A none, B jumped to player 1"),
        (Twist::Hidden, "all that is replicated is the same"),
    ] {
        let b = play_match_of(Dots { twist: Some((30, twist)), ..Dots::default() }, 80);
        let outcome = compare(&a, &b).first.and_then(|first| first.outcome).expect("it is the outcome").to_string();
        assert!(outcome.starts_with(words), "{outcome}");
    }
}

#[test]
fn all_inputs_that_differ_at_the_tick_are_named() {
    let text = after(|played| {
        let input = &mut played.ticks[9].0.inputs[0];
        (input.values[0], input.sequence) = (3, 500);
        input.seen = Some(Seen { tick: Tick(7), fraction: 64 });
        played.ticks[9].0.inputs[1] = SeatInput::without(tickwire_shared::PlayerId(2), Provenance::Repeated);
    });
    let expected = "the first difference is at tick 10\n  input: player 1, input push: A -1 (-8 quanta), B 0.375 (3 quanta)\n  \
                    input: player 1, sequence: A 10, B 500\n  input: player 1, what was seen: A not said, B tick 7 + 0.250\n  \
                    input: player 2: A fresh, B repeated";
    assert_eq!(text, expected);
}

#[test]
fn who_sits_is_compared() {
    let text = after(|played| {
        let record = &mut played.ticks[20].0;
        let SeatChange::Joined { player, .. } = record.seat_changes[0].clone() else { panic!("somebody joins") };
        record.seat_changes.clear();
        record.inputs.retain(|input| input.player != player);
    });
    assert_eq!(
        text,
        "the first difference is at tick 21\n  input: seat changes: A player 3 joined as Eve, B none\n  input: player 3 sits \
         in A only"
    );
}

#[test]
fn the_shorter_one_ends_and_a_missing_result_is_told() {
    let (a, b) = (play_match(80), play_match(50));
    let first = compare(&a, &b).first.expect("they differ");
    assert_eq!(first.to_string(), "the first difference is at tick 51\n  B ends after tick 50, A goes on");
    let text = after(|played| {
        played.ticks.truncate(40);
        played.ticks[39].1 = None;
    });
    assert!(text.starts_with("the first difference is at tick 40\n  B has no result of it: "), "{text}");
}

#[test]
fn what_cannot_be_compared_is_said() {
    let other = play_match_of(Dots { version: 2, ..Dots::default() }, 5);
    let error = diff(&play_match(5).recording(), &other.recording()).expect_err("another schema").to_string();
    assert!(
        error.starts_with("A is of dots version 0, schema ") && error.contains(", B of dots version 2, schema "),
        "{error}"
    );

    let mut torn = play_match(20).bytes_with(Layout::Live, None);
    torn.truncate(torn.len() - 3);
    let torn = Recording::from_bytes(torn).expect("a recording");
    let found = diff(&play_match(20).recording(), &torn).expect("up to there both are read");
    let text = found.first.expect("they differ").to_string();
    assert!(text.contains("\n  B has no result of it: the file ends in the middle of a record; "), "{text}");

    let mut holed = play_match(20);
    holed.ticks.remove(12);
    let error = diff(&play_match(20).recording(), &holed.recording()).expect_err("a tick is missing").to_string();
    assert!(
        error.starts_with("B: the file is damaged: ") && error.ends_with("; up to tick 12 they are the same"),
        "{error}"
    );

    let mut forged = play_match(20);
    let result = forged.ticks[9].1.as_mut().expect("a whole tick");
    result.truth.kinds[0].despawned.push(NetId(77));
    let error = diff(&forged.recording(), &forged.recording()).expect_err("it contradicts itself").to_string();
    assert!(error.contains("entity 77: despawned, but not there"), "{error}");
}
