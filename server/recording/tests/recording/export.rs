//! A recording as lines of JSON.

use serde_json::{Value, json};
use tickwire_recording::{Layout, Recording, export};
use tickwire_shared::Tick;

use crate::game::{Match, play_broken_match, play_match};

fn lines(played: &Match, from: u64, to: u64) -> Vec<Value> {
    let mut out = Vec::new();
    export(&played.recording(), Tick(from)..=Tick(to), &mut out).expect("a sound recording");
    let text = String::from_utf8(out).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn of_type<'a>(lines: &'a [Value], what: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == what).collect()
}

#[test]
fn everything_has_its_name_and_unit() {
    let lines = lines(&play_match(100), 1, u64::MAX);
    let header = &lines[0];
    assert_eq!(
        (&header["session"], &header["game"], &header["settings"]["speed"]),
        (&json!("sessions/dots-1"), &json!("dots"), &json!(20.0))
    );
    assert_eq!(header["created_unix_seconds"], json!(1_700_000_000.5));
    assert_eq!(lines[1], json!({"type": "seat", "tick": 1, "player": 1, "change": "joined", "name": "Ada"}));
    let seats: Vec<&Value> = of_type(&lines, "seat").iter().map(|line| &line["change"]).collect();
    assert_eq!(seats, ["joined", "joined", "joined", "left", "disconnected", "reconnected"]);
    let fresh = of_type(&lines, "input")[0];
    let values = json!({"push": -1.0, "jump": 0, "break": 0});
    assert_eq!(
        *fresh,
        json!({"type": "input", "tick": 1, "player": 1, "provenance": "fresh", "sequence": 1, "values": values})
    );
    let spawned = of_type(&lines, "spawned");
    assert_eq!(
        *spawned[0],
        json!({"type": "spawned", "tick": 1, "kind": "dot", "net_id": 1, "fields": {"x": 0.0, "hue": 7}})
    );
    assert_eq!((spawned.len(), of_type(&lines, "despawned").len(), of_type(&lines, "tick").len()), (4, 1, 100));
    let event = of_type(&lines, "event")[1];
    let values = json!({"player": 1, "height": 0.5});
    assert_eq!(
        *event,
        json!({"type": "event", "tick": 30, "event": "jumped", "ordinal": 1, "player": 1, "values": values})
    );
    assert_eq!(lines.last(), Some(&json!({"type": "end", "reason": "ended", "tick": 100, "ticks_missing": 0})));
}

#[test]
fn a_part_has_the_values_of_the_whole() {
    let played = play_match(100);
    let (whole, part) = (lines(&played, 1, u64::MAX), lines(&played, 30, 33));
    let within = |line: &&Value| line["tick"].as_u64().is_some_and(|tick| (30..=33).contains(&tick));
    let expected: Vec<&Value> = whole.iter().filter(within).collect();
    assert_eq!(part[1..].iter().collect::<Vec<_>>(), expected);
    assert!(part.iter().any(|line| line["type"] == "changed" && line["fields"]["hue"] == 2));
}

#[test]
fn a_failure_is_told() {
    let lines = lines(&play_broken_match(40), 40, 40);
    let end = lines.last().expect("an end");
    assert_eq!((&end["reason"], &end["message"]), (&json!("failed"), &json!("player 1 broke the game")));
    assert_eq!(of_type(&lines, "tick").len(), 0);
}

#[test]
fn what_is_readable_is_exported_before_the_error() {
    let mut bytes = play_match(20).bytes_with(Layout::Live, None);
    bytes.truncate(bytes.len() - 3);
    let recording = Recording::from_bytes(bytes).expect("a recording");
    let mut out = Vec::new();
    let error = export(&recording, Tick(1)..=Tick::MAX, &mut out).expect_err("it is not whole").to_string();
    assert!(error.contains("ticks 1 to 19 are readable"), "{error}");
    assert_eq!(String::from_utf8_lossy(&out).matches("\"state_hash\"").count(), 19);
}
