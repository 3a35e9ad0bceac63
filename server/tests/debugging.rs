//! What the server's commands say of a recording that somebody looks into.

#[allow(dead_code, reason = "each binary needs its part of it")]
mod program;

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;
use tickwire_recording::{Layout, RecordedTick, Recording, Writer};
use tickwire_shared::Tick;

use self::program::{command, run, stderr, stdout};

const SHORT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/recordings/crowd-20hz.mcap");

fn json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap_or_else(|error| panic!("{error}: {}", stdout(output)))
}

/// The short golden recording with its ticks changed.
fn forged(change: impl Fn(&mut RecordedTick)) -> (TempDir, PathBuf) {
    forged_from(Tick(1), change)
}

/// As a segment that begins with a tick, without the keyframe that it would begin with.
fn forged_from(first: Tick, change: impl Fn(&mut RecordedTick)) -> (TempDir, PathBuf) {
    let golden = Recording::open(SHORT).expect("it is in the repository");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("forged.mcap");
    let file = std::fs::File::create(&path).expect("it can be written");
    let mut meta = golden.meta().clone();
    meta.segment.first_tick = first;
    let mut writer = Writer::new(file, &meta, Layout::Finished).expect("it can be written");
    for tick in golden.ticks().expect("it is readable") {
        let mut tick = tick.expect("it is whole");
        if tick.input.tick < first {
            continue;
        }
        change(&mut tick);
        writer.tick_input(&tick.input).expect("it can be written");
        if let Some(result) = &tick.result {
            writer.tick_result(result).expect("it can be written");
        }
    }
    writer.finish().expect("it can be written");
    (directory, path)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn diff_names_the_first_tick_and_what_differs_and_says_it_with_its_exit_code() {
    let same = run(&["recordings", "diff", SHORT, SHORT]);
    assert_eq!((same.status.code(), stdout(&same).as_str()), (Some(0), "all 200 ticks are the same\n"));
    let same = json(&run(&["recordings", "diff", "--json", SHORT, SHORT]));
    assert_eq!((&same["same"], &same["ticks_same"]), (&true.into(), &200.into()));

    let (_directory, path) = forged(|tick| {
        if tick.input.tick.0 == 50 {
            tick.input.inputs[3].sequence += 1;
            let result = tick.result.as_mut().expect("it is whole");
            result.truth.kinds[0].differences[0] += 5;
        }
    });
    let other = run(&["recordings", "diff", SHORT, text(&path)]);
    assert_eq!(other.status.code(), Some(1));
    let said = stdout(&other);
    assert!(
        said.starts_with("the first difference is at tick 50\n  input: player 4, sequence: A 50, B 51\n"),
        "{said}"
    );
    assert!(said.contains("\n  outcome: player 1, field "), "{said}");
    assert_eq!(stderr(&other), "error: the recordings differ from tick 50 on\n");
    let said = json(&run(&["recordings", "diff", "--json", SHORT, text(&path)]));
    assert_eq!((&said["tick"], &said["kind"], &said["net_id"]), (&50.into(), &"player".into(), &1.into()));
    assert!(said["a"].is_number() && said["a"] != said["b"] && said["inputs"][0].is_string(), "{said}");

    // What cannot be told is another code than what differs.
    let nowhere = run(&["recordings", "diff", SHORT, "/nowhere.mcap"]);
    assert!(nowhere.status.code() == Some(2) && stderr(&nowhere).contains("/nowhere.mcap"), "{}", stderr(&nowhere));
    let (_directory, path) = forged_from(Tick(61), |_| {});
    let segments = run(&["recordings", "diff", SHORT, text(&path)]);
    assert!(
        segments.status.code() == Some(2) && stderr(&segments).contains("begins with tick"),
        "{}",
        stderr(&segments)
    );
}

#[test]
fn a_tick_is_shown_whole() {
    let shown = run(&["replay", SHORT, "--dump-tick", "100"]);
    let said = stdout(&shown);
    assert!(shown.status.success() && said.starts_with("tick 100 at 5.000 s, state hash "), "{said}");
    for part in ["\nseats\n", "\ninputs\n", "\nentities\n", "\nevents", "  player 24 player-24, connected, "] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    let said = json(&run(&["replay", SHORT, "--dump-tick", "100", "--json"]));
    assert_eq!((&said["tick"], said["inputs"].as_array().map(Vec::len)), (&100.into(), Some(24)));
    assert!(said["entities"].as_array().is_some_and(|entities| entities.len() >= 24), "{said}");

    let beyond = run(&["replay", SHORT, "--dump-tick", "201"]);
    assert_eq!(beyond.status.code(), Some(2));
    assert!(stderr(&beyond).contains("there is no tick 201: choose --dump-tick 1 to 200"), "{}", stderr(&beyond));
    let two = run(&["replay", SHORT, SHORT, "--dump-tick", "1"]);
    assert!(two.status.code() == Some(2) && stderr(&two).contains("2 are given"), "{}", stderr(&two));
}

#[test]
fn a_recording_that_parts_from_its_replay_is_cut_and_comes_with_a_test() {
    let (directory, path) = forged(|tick| {
        if tick.input.tick.0 == 50 {
            tick.result.as_mut().expect("it is whole").truth.kinds[0].differences[0] += 5;
        }
    });
    let out = directory.path().join("small.mcap");
    let made = run(&["recordings", "minimise", text(&path), "-o", text(&out)]);
    assert!(made.status.success(), "{}", stderr(&made));
    let said = stdout(&made);
    assert!(said.contains("it does not replay as it was recorded\nwas 200 ticks, 24 players, "), "{said}");
    assert!(said.contains("\nis  50 ticks, 24 players, "), "{said}");
    assert!(said.contains("tickwire_recording::assert_replays(\"tests/recordings/small.mcap\", MyGame);"), "{said}");
    let verified = run(&["replay", "--verify", text(&out)]);
    assert!(stderr(&verified).contains("diverges at tick 50"), "{}", stderr(&verified));

    // Of one that is damaged, the part before that is what is made smaller; who asked is told.
    let whole = std::fs::read(&path).expect("it is there");
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("it can be written");
    let half = directory.path().join("half.mcap");
    let made = run(&["recordings", "minimise", text(&path), "-o", text(&half)]);
    let said = stderr(&made);
    assert!(said.contains("; what is made smaller ends there\n") && said.contains("are readable; "), "{said}");

    // What is there stays.
    let again = run(&["recordings", "minimise", text(&path), "-o", text(&out)]);
    assert!(again.status.code() == Some(1) && stderr(&again).contains("small.mcap: "), "{}", stderr(&again));
    let sound = directory.path().join("sound.mcap");
    let refused = run(&["recordings", "minimise", SHORT, "-o", text(&sound)]);
    assert!(stderr(&refused).contains("the recording does not fail: its 200 ticks replay"), "{}", stderr(&refused));
    assert!(!sound.exists());
}

#[test]
fn fields_and_inputs_are_exported_as_tables_and_for_programs_that_plot() {
    let some = ["recordings", "export", SHORT, "--from", "10", "--to", "12"];
    let table = |more: &[&str]| {
        let output = run(&[some.as_slice(), more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let fields = table(&["--format", "csv", "--kind", "player", "--field", "x,y"]);
    assert_eq!((fields[0].as_str(), fields.len()), ("tick,seconds,kind,net_id,x [m],y [m]", 1 + 3 * 24));
    let inputs = table(&["--format", "csv", "--only", "inputs", "--player", "3"]);
    assert!(inputs[0].starts_with("tick,seconds,player,provenance,sequence,seen_tick,move_x"), "{}", inputs[0]);
    assert_eq!(inputs.len(), 4);
    let lines = table(&["--only", "inputs", "--player", "3"]);
    assert_eq!(lines.iter().filter(|line| line.contains(r#""type":"input""#)).count(), 3);

    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("plain.mcap");
    let made = run(&[some.as_slice(), &["--format", "mcap", "-o", text(&out)]].concat());
    assert!(made.status.success(), "{}", stderr(&made));
    assert!(std::fs::read(&out).is_ok_and(|bytes| bytes.starts_with(b"\x89MCAP0\r\n")));
    let again = run(&[some.as_slice(), &["--format", "mcap", "-o", text(&out)]].concat());
    assert!(again.status.code() == Some(1) && stderr(&again).contains("plain.mcap"), "{}", stderr(&again));

    let two = run(&[some.as_slice(), &["--format", "csv", "--only", "inputs,events"]].concat());
    assert!(two.status.code() == Some(2) && stderr(&two).contains("choose --only one"), "{}", stderr(&two));
    let wrong = run(&[some.as_slice(), &["--kind", "tank"]].concat());
    assert!(stderr(&wrong).contains("kind \"tank\" is not in the recording; it has player"), "{}", stderr(&wrong));
}

#[test]
fn a_filter_of_an_export_that_narrows_nothing_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("out");
    let cases: [(&[&str], &str); 6] = [
        (&["--player", "99"], "player \"99\" is not in the recording; it has 1 to 24"),
        (&["--only", "inputs", "--kind", "player"], "kind \"player\" narrows fields"),
        (&["--format", "csv", "--player", "1"], "player \"1\" narrows inputs, events and chat"),
        (&["--only", "chat", "--field", "x"], "field \"x\" narrows fields, inputs and events"),
        (&["--format", "mcap", "--only", "chat"], "what was said is no part of MCAP"),
        (&["--format", "mcap", "--only", "inputs,chat"], "what was said is no part of MCAP"),
    ];
    for (arguments, said) in cases {
        let refused = run(&[&["recordings", "export", SHORT, "-o", text(&out)], arguments].concat());
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(said), "{arguments:?}: {}", stderr(&refused));
        assert!(!out.exists(), "{arguments:?}");
    }
    let chat = stdout(&run(&["recordings", "export", SHORT, "--only", "chat"]));
    assert!(!chat.contains(r#""type":"tick""#) && chat.lines().count() == 2, "{chat}");
}

#[test]
fn an_export_that_fails_leaves_no_file_and_pipes_take_what_there_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let (damaged, out) = (directory.path().join("damaged.mcap"), directory.path().join("out.json"));
    let mut bytes = std::fs::read(SHORT).expect("it is in the repository");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&damaged, bytes).expect("it can be written");
    let failed = run(&["recordings", "export", text(&damaged), "-o", text(&out)]);
    let said = stderr(&failed);
    assert_eq!(failed.status.code(), Some(1), "{said}");
    let left = std::fs::read_dir(directory.path()).expect("it is there").count();
    assert_eq!(left, 1, "nothing but the recording: {said}");

    let last = said.split("its ticks up to ").nth(1).and_then(|rest| rest.split(' ').next()).expect("it says which");
    let readable = run(&["recordings", "export", text(&damaged), "--to", last, "-o", text(&out)]);
    assert!(readable.status.success(), "{}", stderr(&readable));
    let written = std::fs::read_to_string(&out).expect("it is there");
    let piped = stdout(&run(&["recordings", "export", text(&damaged)]));
    assert_eq!(written, piped, "what is readable goes to standard output before the error");
    assert_eq!(written.matches(r#""type":"tick""#).count().to_string(), last);
    let device = run(&["recordings", "export", SHORT, "--to", "3", "-o", "/dev/stdout"]);
    assert!(device.status.success() && stdout(&device).lines().count() > 3, "{}", stderr(&device));
}

#[test]
fn ticks_outside_of_a_recording_are_refused_alike_before_it_and_behind_it() {
    let (_directory, path) = forged_from(Tick(61), |_| {});
    let segment = text(&path);
    let cases: [(&[&str], &str); 11] = [
        (&["replay", "--verify", SHORT, "--from", "0"], "there is no tick 0: choose --from 1 to 200"),
        (&["replay", "--verify", SHORT, "--from", "201"], "there is no tick 201: choose --from 1 to 200"),
        (&["replay", "--verify", SHORT, "--to", "0"], "there is no tick 0: choose --to 1 to 200"),
        (&["replay", "--verify", segment, "--to", "60"], "there is no tick 60: choose --to 61 to 200"),
        (&["replay", "--verify", segment, "--from", "60"], "there is no tick 60: choose --from 61 to 200"),
        (&["replay", "--verify", segment, "--from", "201"], "there is no tick 201: choose --from 61 to 200"),
        (&["replay", segment, "--dump-tick", "60"], "there is no tick 60: choose --dump-tick 61 to 200"),
        (&["recordings", "export", SHORT, "--to", "0"], "there is no tick 0: choose --to 1 to 200"),
        (&["recordings", "export", segment, "--to", "60"], "there is no tick 60: choose --to 61 to 200"),
        (&["recordings", "export", segment, "--from", "60"], "there is no tick 60: choose --from 61 to 200"),
        (&["recordings", "export", SHORT, "--from", "201"], "there is no tick 201: choose --from 1 to 200"),
    ];
    for (arguments, said) in cases {
        let refused = run(arguments);
        assert_eq!((refused.status.code(), stdout(&refused).as_str()), (Some(2), ""), "{arguments:?}");
        assert!(stderr(&refused).contains(said), "{arguments:?}: {}", stderr(&refused));
    }
    let last = run(&["replay", "--verify", SHORT, "--from", "200", "--to", "5000"]);
    assert!(last.status.success() && stdout(&last).starts_with("verified 1 ticks\n"), "{}", stderr(&last));
}

#[test]
fn what_has_nothing_to_compare_is_not_verified() {
    let (_directory, path) = forged_from(Tick(1), |_| {});
    let golden = Recording::open(SHORT).expect("it is in the repository");
    let file = std::fs::File::create(&path).expect("it can be written");
    Writer::new(file, golden.meta(), Layout::Finished).and_then(Writer::finish).expect("it can be written");
    let empty = run(&["replay", "--verify", "--json", text(&path)]);
    assert_eq!(empty.status.code(), Some(1));
    assert!(stderr(&empty).contains("the recording has no outcome of any tick"), "{}", stderr(&empty));
    assert_eq!(json(&empty)["verified"], false);

    // What a pipe has given once it does not give again; and nobody waits for one to which nobody writes.
    for command_line in [&["replay", "--verify"][..], &["recordings", "export"], &["recordings", "show"]] {
        let piped = command().args(command_line).arg("/dev/stdin").stdin(Stdio::piped()).output();
        let piped = piped.expect("the binary runs");
        assert_eq!((piped.status.code(), stdout(&piped).as_str()), (Some(1), ""), "{command_line:?}");
        assert!(stderr(&piped).contains("/dev/stdin: it is no file but a pipe"), "{}", stderr(&piped));
    }
}
