//! The program as a whole: a tiny case from its processes to its report. It measures by Linux's `/proc`.
#![cfg(target_os = "linux")]

use std::{fs, process::Command};

use serde_json::Value as Json;

#[test]
fn a_tiny_case_is_measured_and_reported() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = Command::new(env!("CARGO_BIN_EXE_tickwire-bench"))
        .args(["--case", "fixed-4-300/60/down", "--case", "arena-4/30/down+up", "--settle", "0.2"])
        .args(["--seconds", "0.5", "--out"])
        .arg(directory.path())
        .output()
        .expect("it runs");
    let (shown, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{shown}\n{said}");

    let json = fs::read(directory.path().join("benchmark.json")).expect("it is written");
    let report: Json = serde_json::from_slice(&json).expect("it is JSON");
    let servers = |case: usize| report["cases"][case]["servers"].as_array().expect("a list").clone();
    let names = |case| servers(case).iter().map(|server| server["server"].as_str().map(str::to_owned)).collect();
    let names: [Vec<Option<String>>; 2] = [names(0), names(1)];
    assert_eq!(
        names[0].iter().flatten().collect::<Vec<_>>(),
        ["tickwire", "floor", "tokio", "floor_acked", "tokio_acked"]
    );
    assert_eq!(names[1].iter().flatten().collect::<Vec<_>>(), ["tickwire", "floor", "tokio"]);
    for server in [servers(0), servers(1)].iter().flatten() {
        let figure = |name: &str| server["median"][name].as_f64().expect("a number");
        assert!(figure("cpu_us_per_message") > 0.0, "{server}");
        assert!(figure("socket_bytes_per_message") > figure("payload_bytes_per_message"), "{server}");
        assert!(figure("payload_bytes_per_message") > 8.0, "{server}");
    }
    // Whatever the machine is doing, the size of a snapshot is the game's.
    let payload = servers(0)[0]["median"]["payload_bytes_per_message"].as_f64().expect("a number");
    assert!((280.0..=320.0).contains(&payload), "{payload} bytes");
    assert!(shown.contains("fixed-4-300/60/down") && shown.contains("arena-4/30/down+up"), "{shown}");
    let page = fs::read_to_string(directory.path().join("benchmark.html")).expect("it is written");
    assert!(page.starts_with("<!doctype html>") && page.contains("<svg"), "{page}");
}

#[test]
fn cases_are_named_without_being_measured() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_tickwire-bench")).args(["--list", "--full"]).output().expect("it runs");
    let shown = String::from_utf8_lossy(&output.stdout);
    for case in ["fixed-500-600/60/down", "arena-400/30/down+up", "world-400-2000/30/down+up", "crowd-2000/30/down+up"]
    {
        assert!(shown.lines().any(|line| line == case), "no {case} in\n{shown}");
    }
    let output =
        Command::new(env!("CARGO_BIN_EXE_tickwire-bench")).args(["--case", "chess-4"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
}
