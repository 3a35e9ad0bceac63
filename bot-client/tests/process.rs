//! The program `tickwire-bots` as it is run: exit status, report, errors.

use std::{
    net::TcpListener,
    process::{Command, Output},
};

fn bots(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tickwire-bots")).args(arguments).output().unwrap()
}

/// An address where nobody listens.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn where_no_server_runs_nothing_is_played_and_status_2_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let [file, page] = ["report.json", "report.html"].map(|name| folder.path().join(name));
    let url = nowhere();
    let output = bots(&[
        "--connect",
        &url,
        "--bots",
        "3",
        "--seconds",
        "60",
        "--report",
        file.to_str().unwrap(),
        "--html",
        page.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(2));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!((&report["bots_requested"], &report["bots_failed"]), (&3.into(), &3.into()));
    assert_eq!(report["errors"]["UNAVAILABLE"], 3);
    assert!(std::fs::read_to_string(page).unwrap().contains("<th>bots_failed</th><td>3</td>"));
    assert!(String::from_utf8_lossy(&output.stdout).contains("0 of 3, 3 failed"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is a server running there?"));
}

#[test]
fn quiet_prints_errors_only() {
    let output = bots(&["--connect", &nowhere(), "--bots", "1", "--seconds", "60", "--quiet"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), &b""[..]));
    assert!(!output.stderr.is_empty());
}

#[test]
fn what_cannot_be_started_is_said_with_status_2() {
    let cases: [(&[&str], &str); 8] = [
        (&["--behaviour", "trace:/nowhere/x.lmp"], "/nowhere/x.lmp"),
        (&["--behaviour", "trace:Cargo.toml"], "offset 0: version 91"),
        (&["--behaviour", "dance"], "choose idle, wander, chase, chaos or trace:FILE"),
        (&["--bots", "0"], "--bots"),
        (&["--bots", "100001"], "choose 1 to 100000 bots"),
        (&["--report", "/nowhere/x.json"], "cannot write the report /nowhere/x.json"),
        (&["--connect", "", "--bots", "1", "--seconds", "1"], "http://HOST:PORT"),
        (&["--bind", "192.0.2.1", "--bots", "1", "--seconds", "1"], "choose an address of this machine"),
    ];
    for (arguments, said) in cases {
        let output = bots(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
}
