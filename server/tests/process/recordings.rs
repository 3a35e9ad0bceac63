//! What the commands make of what a server leaves.

use std::{fs, path::Path, process::Stdio};

use tickwire_recording::{Layout, Recording, Writer};
use tickwire_shared::Tick;
use tickwire_simulation::SeatInput;

use crate::{
    Running,
    program::{command, only_recording, run, stderr, stdout},
};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/recordings/deathmatch-60hz.mcap");
const SHORT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/recordings/crowd-20hz.mcap");

#[test]
fn what_a_killed_server_leaves_is_repaired_and_verifies() {
    let server = Running::start(&[]);
    let live = server.growing_recording();
    let in_use = run(&["recordings", "repair", live.to_str().expect("UTF-8")]);
    assert_eq!(in_use.status.code(), Some(1), "nobody repairs what is being written: {}", stdout(&in_use));
    server.signal("-KILL");
    let (code, data) = server.wait();
    assert_eq!(code, None);

    let listed = stdout(&run(&["recordings", "list", "--data-dir", data.path().to_str().expect("UTF-8")]));
    assert!(listed.contains("unfinished"), "{listed}");
    let repaired = run(&["recordings", "repair", live.to_str().expect("UTF-8")]);
    assert!(repaired.status.success(), "{}", stderr(&repaired));
    let verified = run(&["replay", only_recording(data.path()).to_str().expect("UTF-8"), "--verify"]);
    assert!(verified.status.success(), "{}", stderr(&verified));
    let listed = stdout(&run(&["recordings", "list", "--data-dir", data.path().to_str().expect("UTF-8")]));
    let shown = stdout(&run(&["recordings", "show", only_recording(data.path()).to_str().expect("UTF-8")]));
    for said in [listed, shown] {
        assert!(said.contains("complete until the server was killed after tick "), "{said}");
        assert!(!said.contains("repair"), "there is nothing more to repair: {said}");
    }
}

#[test]
fn who_stops_reading_gets_a_quiet_end() {
    for arguments in [["replay", SHORT].as_slice(), &["recordings", "export", SHORT]] {
        let mut child =
            command().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it is a child");
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn several_recordings_are_replayed_in_turn_and_one_that_fails_is_told() {
    let both = run(&["replay", SHORT, SHORT, "--verify"]);
    assert!(both.status.success(), "{}", stderr(&both));
    assert_eq!(stdout(&both).matches("verified 200 ticks").count(), 2);
    let one = run(&["replay", "/nowhere.mcap", SHORT, "--verify", "--json"]);
    assert_eq!(one.status.code(), Some(1));
    let said: serde_json::Value = serde_json::from_str(&stdout(&one)).expect("one line of JSON");
    assert_eq!((said["verified"].as_bool(), said["file"].as_str()), (Some(true), Some(SHORT)));
    assert!(stderr(&one).contains("1 of 2 recordings do not replay"), "{}", stderr(&one));
    assert_eq!(stderr(&one).matches("/nowhere.mcap").count(), 1, "{}", stderr(&one));
}

#[test]
fn ticks_that_a_recording_does_not_have_are_refused_with_those_it_has() {
    let output = run(&["replay", SHORT, "--from", "5000"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(2), ""));
    assert!(stderr(&output).contains("there is no tick 5000: choose --from 1 to 200"), "{}", stderr(&output));
}

#[test]
fn damage_that_indexes_do_not_show_is_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("a.mcap");
    let path = file.to_str().expect("UTF-8");
    let mut bytes = fs::read(GOLDEN).expect("it is in the repository");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).expect("it can be written");
    for arguments in [["recordings", "show", path].as_slice(), &["recordings", "show", "--json", path]] {
        let shown = run(arguments);
        assert_eq!(shown.status.code(), Some(1), "{arguments:?}");
        assert!(stdout(&shown).contains("damaged"), "{}", stdout(&shown));
        let said = stderr(&shown);
        assert!(said.starts_with(&format!("error: {path}: damaged: the file is damaged: ")), "{said}");
    }

    bytes[middle] ^= 1;
    fs::write(&file, &bytes[..bytes.len() - 20]).expect("it can be written");
    let shown = run(&["recordings", "show", path]);
    assert!(stdout(&shown).contains("complete: the match was over"), "{}", stdout(&shown));
    assert_eq!(shown.status.code(), Some(1));
    assert!(stderr(&shown).contains("indexes, is missing"), "{}", stderr(&shown));
    let verified = run(&["replay", path, "--verify"]);
    assert!(verified.status.success(), "{}", stderr(&verified));
    assert!(stderr(&verified).contains("indexes, is missing"), "{}", stderr(&verified));
}

#[test]
fn several_recordings_are_repaired_in_turn_and_those_that_cannot_be_are_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let [bad, torn, missing] = ["bad.mcap", "torn.mcap", "missing.mcap"].map(|name| directory.path().join(name));
    fs::write(&bad, b"something else").expect("it can be written");
    let bytes = fs::read(SHORT).expect("it is in the repository");
    fs::write(&torn, &bytes[..bytes.len() - 20]).expect("it can be written");
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let repaired = run(&["recordings", "repair", &text(&bad), &text(&torn), &text(&missing)]);
    assert_eq!(repaired.status.code(), Some(1));
    assert!(stdout(&repaired).starts_with(&format!("{}: 200 ticks\n", torn.display())), "{}", stdout(&repaired));
    let said = stderr(&repaired);
    assert!(said.starts_with(&format!("error: {}: not a Tickwire recording", bad.display())), "{said}");
    assert!(said.contains(&format!("error: {}: ", missing.display())), "{said}");
    assert!(said.ends_with("error: 2 of 3 recordings cannot be repaired\n"), "{said}");
    let shown = run(&["recordings", "show", &text(&torn)]);
    assert!(shown.status.success(), "{}", stderr(&shown));
}

#[test]
fn a_replay_that_diverges_names_tick_system_kind_entity_field_and_values() {
    let golden = Recording::open(GOLDEN).expect("it is in the repository");
    let directory = tempfile::tempdir().expect("a directory");
    let forged = directory.path().join("forged.mcap");
    let file = fs::File::create(&forged).expect("it can be written");
    let mut writer = Writer::new(file, golden.meta(), Layout::Finished).expect("it can be written");
    let mut altered = None;
    for tick in golden.ticks().expect("it is readable") {
        let mut tick = tick.expect("it is whole");
        // Somebody who walks is turned round, once.
        let walks = |input: &&mut SeatInput| input.values.first().is_some_and(|value| value.abs() > 60);
        if altered.is_none()
            && tick.input.tick > Tick(300)
            && let Some(input) = tick.input.inputs.iter_mut().find(walks)
        {
            input.values[0] *= -1;
            altered = Some(tick.input.tick.0);
        }
        writer.tick_input(&tick.input).expect("it can be written");
        if let Some(result) = &tick.result {
            writer.tick_result(result).expect("it can be written");
        }
    }
    writer.finish().expect("it can be written");

    let output = run(&["replay", forged.to_str().expect("UTF-8"), "--verify", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let said: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!((said["verified"].as_bool(), said["tick"].as_u64()), (Some(false), altered));
    assert_eq!(said["kind"], "player");
    assert!(said["net_id"].is_u64() && said["field"].is_string(), "{said}");
    assert!(said["recorded"].is_number() && said["recorded"] != said["replayed"], "{said}");
    let said_in_words = stderr(&output);
    assert!(said_in_words.contains("the replay diverges at tick"), "{said_in_words}");
    let system = said["system"].as_str().expect("a system").to_owned();
    assert!(system.starts_with("tickwire_arena::") && said_in_words.contains(&system), "{said}");
    assert_eq!(said["deterministic"], true, "{said}");
    assert!(said_in_words.contains("\n  chance: two more runs of the tick agreed"), "{said_in_words}");
}

#[test]
fn a_file_that_is_no_recording_gets_a_clear_error() {
    let data = tempfile::tempdir().expect("a directory");
    let file = data.path().join("cat.mcap");
    fs::write(&file, "meow").expect("it can be written");
    for arguments in [["replay", "FILE"].as_slice(), &["recordings", "show", "FILE"], &["recordings", "export", "FILE"]]
    {
        let file = file.to_str().expect("UTF-8");
        let output = run(&arguments.iter().map(|a| if *a == "FILE" { file } else { a }).collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).starts_with(&format!("error: {file}: ")), "{}", stderr(&output));
    }
}

#[test]
fn recordings_are_listed_of_a_directory_that_is_there() {
    let data = tempfile::tempdir().expect("a directory");
    let path = data.path().to_str().expect("UTF-8");
    let none = run(&["recordings", "list", "--data-dir", path]);
    assert!(none.status.success() && stdout(&none).starts_with("no recordings in "), "{}", stderr(&none));
    let none = run(&["recordings", "list", "--json", "--data-dir", path]);
    assert_eq!((none.status.code(), stdout(&none).as_str()), (Some(0), ""));
    let mistyped = run(&["recordings", "list", "--data-dir", &format!("{path}/typo")]);
    assert_eq!((mistyped.status.code(), stdout(&mistyped).as_str()), (Some(1), ""));
    assert!(stderr(&mistyped).contains("typo: name a server's by --data-dir"), "{}", stderr(&mistyped));
}

#[test]
fn a_soak_compares_two_sessions_and_says_so() {
    let soaked = run(&["soak", "--determinism", "--players", "4", "--ticks", "60", "--rebuild-every", "10"]);
    assert!(soaked.status.success(), "{}", stderr(&soaked));
    let said = "arena: two sessions of 4 players were the same for 60 ticks, one of them rebuilt 6 times";
    assert_eq!(stdout(&soaked).lines().next(), Some(said));
    let in_json = run(&["soak", "--determinism", "--players", "4", "--ticks", "60", "--rebuild-every", "10", "--json"]);
    let in_json: serde_json::Value = serde_json::from_str(&stdout(&in_json)).expect("JSON");
    assert_eq!((&in_json["passed"], &in_json["ticks"], &in_json["rebuilds"]), (&true.into(), &60.into(), &6.into()));
    for (ticks, rebuilds) in [("1", 0), ("2", 2), ("7", 1), ("8", 1), ("15", 2)] {
        let few = run(&["soak", "--determinism", "--players", "4", "--ticks", ticks, "--json"]);
        let few: serde_json::Value = serde_json::from_str(&stdout(&few)).expect("JSON");
        assert_eq!((&few["passed"], few["rebuilds"].as_u64()), (&true.into(), Some(rebuilds)), "{ticks} ticks: {few}");
    }
    let other = run(&["soak", "--determinism", "--players", "4", "--ticks", "60", "--set", "size=400", "--seed", "2"]);
    assert_ne!(stdout(&soaked).lines().nth(1), stdout(&other).lines().nth(1));
    for (arguments, problem) in [
        (&["soak"][..], "--determinism"),
        (&["soak", "--determinism", "--game", "chess"], "there is no \"chess\""),
        (&["soak", "--determinism", "--players", "0"], "0 is not in 1..=10000"),
        (&["soak", "--determinism", "--ticks", "0"], "'--ticks <N>': 0 is not in 1.."),
        (&["soak", "--determinism", "--ticks", "60", "--rebuild-every", "61"], "choose a smaller one, or 0 for none"),
        (&["soak", "--determinism", "--set", "nope=1"], "nope: the game has no such setting"),
        (
            &["soak", "--determinism", "--ticks", "1", "--rebuild-every", "1"],
            "--rebuild-every: 1 is not less than --ticks, 1",
        ),
    ] {
        let refused = run(arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&refused).contains(problem), "{}", stderr(&refused));
    }
}
