//! One tick, with all that is in it.

use std::sync::Arc;

use serde_json::json;
use tickwire_recording::{DumpError, TickDump, dump_tick};
use tickwire_shared::{Game, Tick};

use crate::game::{Dots, Match, Twist, play_broken_match, play_match};

fn dump_by(played: &Match, game: Dots, tick: u64) -> Result<TickDump, DumpError> {
    dump_tick(&played.recording(), Ok(Arc::new(game)), Tick(tick))
}

fn dump(tick: u64) -> TickDump {
    dump_by(&play_match(80), Dots::default(), tick).expect("there is one")
}

#[test]
fn everything_of_a_tick_is_shown_by_name_and_unit() {
    let text = dump(30).to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("tick 30 at 0.500 s, state hash "), "{text}");
    for line in [
        "  player 1 Ada, connected, jumps 1",
        "  player 3 Eve, connected, jumps 0",
        "  player 1 fresh, sequence 30, push 0, jump 1, break 0",
        "  player 3 absent",
        "  dot 1, x 0 m (0 quanta), hue 7",
        "  1 jumped to player 1 (player 1, height 0.5 m (2 quanta))",
    ] {
        assert!(lines.contains(&line), "{line:?} is not in\n{text}");
    }
    let joined = dump(21).to_string();
    assert!(joined.contains("\n  at this tick: player 3 joined as Eve\n"), "{joined}");
}

#[test]
fn json_has_the_same() {
    let found = dump(30).json();
    assert_eq!((&found["tick"], &found["seconds"], &found["problem"]), (&json!(30), &json!(0.5), &json!(null)));
    assert_eq!(found["roster"][0], json!({"player": 1, "name": "Ada", "status": "connected", "scores": {"jumps": 1}}));
    assert_eq!(found["entities"][0], json!({"kind": "dot", "net_id": 1, "fields": {"x": 0.0, "hue": 7}}));
    assert_eq!(found["inputs"][0]["values"], json!({"push": 0.0, "jump": 1, "break": 0}));
    assert_eq!(found["events"][1]["values"], json!({"player": 1, "height": 0.5}));
    assert_eq!(dump(21).json()["seat_changes"], json!([{"player": 3, "change": "joined", "name": "Eve"}]));
}

#[test]
fn a_tick_that_panics_shows_what_stood_before_it() {
    let found = dump_by(&play_broken_match(40), Dots::default(), 40).expect("there is one");
    let text = found.to_string();
    assert!(text.starts_with("tick 40 at 0.667 s, without a result"), "{text}");
    assert!(text.contains("\nthe replay: tick 40 panicked: player 1 broke the game\n"), "{text}");
    assert!(text.contains("player 1 fresh, sequence 40, push 0, jump 0, break 1"), "{text}");
    assert_eq!((found.truth.rows.len(), found.roster.is_some()), (4, true));
}

#[test]
fn without_a_replay_that_comes_so_far_only_the_roster_is_missing() {
    let played = play_match(80);
    let whole = dump(50);
    let parted =
        dump_by(&played, Dots { twist: Some((30, Twist::Faster)), ..Dots::default() }, 50).expect("there is one");
    assert!(parted.problem.as_ref().is_some_and(|problem| problem.contains("at tick 30")), "{parted}");
    let other = dump_by(&played, Dots { version: 2, ..Dots::default() }, 50).expect("there is one");
    assert!(
        other.problem.as_ref().is_some_and(|problem| problem.starts_with("it cannot be played again: ")),
        "{other}"
    );
    for dump in [parted, other] {
        assert_eq!((&dump.truth, &dump.recorded, dump.roster.is_none()), (&whole.truth, &whole.recorded, true));
        assert!(dump.to_string().contains("seats: unknown; "), "{dump}");
    }
}

#[test]
fn a_tick_that_is_not_there_is_refused_with_the_last_one() {
    for tick in [0, 81] {
        let error = dump_by(&play_match(80), Dots::default(), tick).expect_err("no such tick").to_string();
        assert_eq!(error, format!("there is no tick {tick}; the last one is 80"));
    }
    let mut game: Result<Arc<dyn Game>, _> = Ok(Arc::new(Dots::default()));
    let mut played = play_match(80);
    played.ticks[24].0.inputs[0].values[0] = 100;
    let error = dump_tick(&played.recording(), game, Tick(40)).expect_err("it contradicts itself").to_string();
    assert!(error.starts_with("the recording contradicts itself: tick 25: "), "{error}");
    game = Ok(Arc::new(Dots::default()));
    assert!(dump_tick(&played.recording(), game, Tick(24)).is_ok());
}
