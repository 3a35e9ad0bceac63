//! A recording as lines of JSON, as tables, and as a file for programs that plot.

use std::{collections::BTreeMap, io::Cursor};

use serde_json::{Value, json};
use tickwire_recording::{ExportPart, Layout, Recording, Selection, export, export_csv, export_mcap};
use tickwire_shared::{PlayerId, Provenance, Tick};
use tickwire_simulation::SeatInput;

use crate::game::{Match, play_broken_match, play_match};

fn ticks(from: u64, to: u64) -> Selection {
    Selection { ticks: Tick(from)..=Tick(to), ..Selection::default() }
}

fn lines(played: &Match, from: u64, to: u64) -> Vec<Value> {
    lines_of(played, &ticks(from, to))
}

fn lines_of(played: &Match, selection: &Selection) -> Vec<Value> {
    let mut out = Vec::new();
    export(&played.recording(), selection, &mut out).expect("a sound recording");
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
    let error = export(&recording, &Selection::default(), &mut out).expect_err("it is not whole").to_string();
    assert!(error.contains("its ticks up to 19 are readable"), "{error}");
    assert_eq!(String::from_utf8_lossy(&out).matches("\"state_hash\"").count(), 19);
}

#[test]
fn what_is_chosen_is_exported_and_nothing_else() {
    let played = play_match(60);
    let inputs = Selection { parts: [ExportPart::Inputs].into(), players: vec![PlayerId(2)], ..ticks(20, 25) };
    let found = lines_of(&played, &Selection { fields: vec!["jump".into()], ..inputs.clone() });
    let input = of_type(&found, "input");
    assert_eq!((input.len(), &input[0]["values"]), (6, &json!({"jump": 0})));
    assert!(input.iter().all(|line| line["player"] == 2));
    assert_eq!(["seat", "spawned", "changed", "event"].map(|what| of_type(&found, what).len()), [0; 4]);

    let hue = Selection { fields: vec!["hue".into()], kinds: vec!["dot".into()], ..Selection::default() };
    let changed = lines_of(&played, &Selection { parts: [ExportPart::Fields].into(), ..hue });
    let changed = of_type(&changed, "changed");
    assert!(!changed.is_empty() && changed.iter().all(|line| line["fields"].get("hue").is_some()), "{changed:?}");
    assert!(changed.iter().all(|line| line["fields"].get("x").is_none()), "{changed:?}");

    let events = Selection { players: vec![PlayerId(2)], ..ticks(30, 30) };
    let to: Vec<Value> =
        of_type(&lines_of(&played, &events), "event").iter().map(|line| line["player"].clone()).collect();
    assert_eq!(to, [json!(null), json!(null), json!(2)], "those of all, and the player's own");
}

#[test]
fn names_that_are_not_there_are_refused_with_those_that_are() {
    let error = |selection: Selection| {
        export(&play_match(3).recording(), &selection, &mut Vec::new()).expect_err("a wrong name").to_string()
    };
    let wrong = vec!["speed".to_owned()];
    assert_eq!(
        error(Selection { kinds: wrong.clone(), ..Selection::default() }),
        "kind \"speed\" is not in the recording; it has dot"
    );
    assert_eq!(
        error(Selection { fields: wrong, ..Selection::default() }),
        "field \"speed\" is not in the recording; it has break, height, hue, jump, player, push, x"
    );
}

#[test]
fn a_filter_that_narrows_nothing_of_what_is_exported_is_refused() {
    let played = play_match(30);
    let recording = played.recording();
    let error = |selection: &Selection| {
        export(&recording, selection, &mut Vec::new()).expect_err("it has no use for it").to_string()
    };
    let only = |part: ExportPart| Selection { parts: [part].into(), ..Selection::default() };
    let cases = [
        (
            Selection { kinds: vec!["dot".into()], ..only(ExportPart::Inputs) },
            "kind \"dot\" narrows fields, and none of them is exported: export some of them, or leave it away",
        ),
        (
            Selection { fields: vec!["x".into()], ..only(ExportPart::Chat) },
            "field \"x\" narrows fields, inputs and events",
        ),
        (
            Selection { players: vec![PlayerId(1)], ..only(ExportPart::Fields) },
            "player \"1\" narrows inputs, events and",
        ),
        // A field of what is not exported.
        (
            Selection { fields: vec!["jump".into()], ..only(ExportPart::Events) },
            "field \"jump\" is not in the recording; it has height, player",
        ),
        (
            Selection { players: vec![PlayerId(2), PlayerId(99)], ..Selection::default() },
            "player \"99\" is not in the recording; it has 1 to 3",
        ),
    ];
    for (selection, said) in cases {
        let error = error(&selection);
        assert!(error.starts_with(said), "{error}");
    }
    // A table is of one part, whatever else is chosen.
    let of_fields = Selection { players: vec![PlayerId(1)], ..Selection::default() };
    let error =
        export_csv(&recording, ExportPart::Fields, &of_fields, &mut Vec::new()).expect_err("it narrows nothing");
    assert!(error.to_string().contains("narrows inputs, events and chat"), "{error}");
    let error = export_mcap(&recording, &only(ExportPart::Chat), Cursor::new(Vec::new())).expect_err("it has no chat");
    assert!(error.to_string().contains("what was said is no part of MCAP"), "{error}");
}

#[test]
fn chat_alone_has_no_lines_of_ticks() {
    let chat = Selection { parts: [ExportPart::Chat].into(), ..Selection::default() };
    let found = lines_of(&play_match(30), &chat);
    let types: Vec<&Value> = found.iter().map(|line| &line["type"]).collect();
    assert_eq!(types, ["header", "end"]);
}

#[test]
fn what_is_damaged_behind_the_last_tick_that_is_chosen_is_of_no_matter() {
    let mut bytes = play_match(20).bytes_with(Layout::Live, None);
    bytes.truncate(bytes.len() - 3);
    let recording = Recording::from_bytes(bytes).expect("a recording");
    let mut out = Vec::new();
    export(&recording, &ticks(1, 19), &mut out).expect("all of it is readable");
    assert_eq!(String::from_utf8_lossy(&out).matches("\"state_hash\"").count(), 19);
}

fn table(part: ExportPart, selection: &Selection) -> Vec<String> {
    table_of(&play_match(80), part, selection)
}

fn table_of(played: &Match, part: ExportPart, selection: &Selection) -> Vec<String> {
    let mut out = Vec::new();
    export_csv(&played.recording(), part, selection, &mut out).expect("a sound recording");
    String::from_utf8(out).expect("text").lines().map(str::to_owned).collect()
}

#[test]
fn a_table_of_fields_has_a_row_for_each_tick_and_entity() {
    let rows = table(ExportPart::Fields, &Selection::default());
    assert_eq!(rows[..2], ["tick,seconds,kind,net_id,x [m],hue", "1,0.016666666,dot,1,0.0,7"]);
    // Two players and the dot that is there, three players from tick 21, two from the tick at which one has left.
    let left = rows.iter().rposition(|row| row.contains(",dot,3,")).expect("Bob's dot");
    let last: u64 = rows[left].split(',').next().and_then(|tick| tick.parse().ok()).expect("a tick");
    assert_eq!(rows.len() as u64 - 1, 3 * 20 + 4 * (last - 20) + 3 * (80 - last));
    let narrow = table(ExportPart::Fields, &Selection { fields: vec!["hue".into()], ..ticks(30, 30) });
    assert_eq!(narrow[..3], ["tick,seconds,kind,net_id,hue", "30,0.5,dot,1,7", "30,0.5,dot,2,2"]);
}

#[test]
fn a_table_of_inputs_has_what_counted_and_one_of_events_what_happened() {
    let rows = table(ExportPart::Inputs, &Selection { players: vec![PlayerId(1)], ..ticks(29, 76) });
    assert_eq!(rows[0], "tick,seconds,player,provenance,sequence,seen_tick,push,jump,break");
    assert_eq!(rows[2], "30,0.5,1,fresh,30,,0.0,1,0");
    // Of an input that is missing, what was held goes on: not the edges.
    let mut played = play_match(40);
    played.ticks[29].0.inputs[0].values[0] = 4;
    for (i, provenance) in [(30, Provenance::Repeated), (31, Provenance::Absent)] {
        played.ticks[i].0.inputs[0] = SeatInput::without(PlayerId(1), provenance);
    }
    let rows = table_of(&played, ExportPart::Inputs, &Selection { players: vec![PlayerId(1)], ..ticks(30, 32) });
    assert_eq!(
        rows[1..],
        ["30,0.5,1,fresh,30,,0.5,1,0", "31,0.516666666,1,repeated,,,0.5,0,0", "32,0.533333333,1,absent,,,0.0,0,0"]
    );
    let rows = table(ExportPart::Events, &Selection::default());
    assert_eq!(
        rows[..3],
        ["tick,seconds,event,ordinal,to_player,player,height [m]", "30,0.5,jumped,0,,1,1.5", "30,0.5,jumped,1,1,1,0.5"]
    );
}

#[test]
fn programs_that_plot_get_plain_fields_on_topics_with_schemas() {
    let file = export_mcap(&play_match(40).recording(), &ticks(30, 31), Cursor::new(Vec::new())).expect("sound");
    let mut found: BTreeMap<String, Vec<(u64, Value)>> = BTreeMap::new();
    for message in mcap::MessageStream::new(file.get_ref()).expect("an MCAP file") {
        let message = message.expect("whole");
        let schema = message.channel.schema.as_ref().expect("each has one");
        assert_eq!((schema.encoding.as_str(), message.channel.message_encoding.as_str()), ("jsonschema", "json"));
        let schema: Value = serde_json::from_slice(&schema.data).expect("JSON");
        let value: Value = serde_json::from_slice(&message.data).expect("JSON");
        let properties = schema["properties"].as_object().expect("an object's");
        assert!(value.as_object().expect("an object").keys().eq(properties.keys()), "{value} {schema}");
        found.entry(message.channel.topic.clone()).or_default().push((message.log_time, value));
    }
    let topics: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(topics, ["/entity/dot", "/event/jumped", "/input"]);
    assert_eq!(found["/entity/dot"][0], (500_000_000, json!({"net_id": 1, "x": 0.0, "hue": 7})));
    assert_eq!((found["/entity/dot"].len(), found["/input"].len(), found["/event/jumped"].len()), (8, 6, 4));
    let input = json!({"player": 1, "provenance": "fresh", "push": 0.0, "jump": 1, "break": 0});
    assert_eq!(found["/input"][0].1, input);
}
