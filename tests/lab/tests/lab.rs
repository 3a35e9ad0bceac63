//! The program as a whole. Where it cannot make its network, its tests say so and test what is left.
#![cfg(target_os = "linux")]

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio, id},
};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value as Json;

const LAB: &str = env!("CARGO_BIN_EXE_tickwire-lab");
const SKIPPED: i32 = 77;

/// The lab over a few bots, with the programs beside it where a test of the whole workspace has built them; else it builds
/// them itself.
fn lab(arguments: &[&str]) -> Command {
    let mut command = Command::new(LAB);
    command.args(["--case", "50ms-2pc", "--bots", "2"]).args(arguments);
    let folder = Path::new(LAB).parent().expect("a folder");
    if ["tickwire-server", "tickwire-bots"].iter().all(|program| folder.join(program).is_file()) {
        command.arg("--bin-dir").arg(folder);
    }
    command
}

/// Says so past the test runner, which shows what a test says only where it fails.
fn skip(test: &str, said: &str) {
    writeln!(io::stderr(), "SKIPPED {test}: {}", said.trim()).expect("standard error is open");
}

/// The devices of the machine's own network.
fn devices() -> BTreeSet<OsString> {
    let devices = fs::read_dir("/sys/class/net").expect("Linux has it");
    devices.map(|device| device.expect("a device").file_name()).collect()
}

#[test]
fn server_and_bots_play_over_a_network_that_loses_packets_beside_udp() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("lab.json");
    let before = devices();
    let output = lab(&["--stripes", "1", "--seconds", "4"]).arg("--json").arg(&file).output().expect("it runs");
    let (shown, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(SKIPPED) {
        return skip("server_and_bots_play_over_a_network_that_loses_packets_beside_udp", &said);
    }
    // It says itself where a bot failed, a mirror differed, or the link did not do as it was told.
    assert!(output.status.success(), "{shown}\n{said}");
    assert!(shown.contains("UDP") && shown.contains("1 connection") && shown.contains("link late by"), "{shown}");
    assert_eq!(devices(), before, "the machine's own network is left alone");

    let report: Json = serde_json::from_slice(&fs::read(&file).expect("it is written")).expect("it is JSON");
    let rows = report["cases"][0]["rows"].as_array().expect("a list");
    assert_eq!(rows.len(), 2);
    for row in rows {
        let figure = |name: &str| row["figures"][name].as_f64().expect("a number");
        assert!(figure("age_ms_p50") > 23.5 && figure("age_ms_p99") >= figure("age_ms_p50"), "{row}");
        assert!(figure("input_to_ack_ms_p50") > 48.5 && figure("snapshots_per_player") > 1.0, "{row}");
        for way in ["down", "up"] {
            let counted = |name: &str| row[way][name].as_u64().expect("a number");
            assert!(counted("packets") > counted("lost") && counted("bytes") > counted("packets"), "{row}");
        }
    }
    assert!(rows[1]["report"]["hash_checks"].as_u64() > Some(0), "{}", rows[1]);
}

#[test]
fn a_lab_that_is_told_to_end_takes_its_programs_with_it() {
    // Its programs are known by it.
    let seed = format!("--seed={}", 1_000_000_000 + u64::from(id()));
    let mut command = lab(&["--stripes", "1", "--seconds", "600", &seed]);
    let mut lab = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it starts");
    let mut said = BufReader::new(lab.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
    let mut heard = Vec::new();
    if !said.by_ref().inspect(|line| heard.push(line.clone())).any(|line| line.contains("playing for 600 s")) {
        assert_eq!(lab.wait().expect("it ends").code(), Some(SKIPPED), "{heard:?}");
        return skip("a_lab_that_is_told_to_end_takes_its_programs_with_it", &heard.concat());
    }
    assert!(runs_with(&seed), "the server has the seed");
    kill_process(Pid::from_child(&lab), Signal::TERM).expect("it runs");
    let rest: String = said.collect();
    assert_eq!(lab.wait().expect("it ends").code(), Some(1), "{rest}");
    assert!(rest.contains("interrupted"), "{rest}");
    assert!(!runs_with(&seed));
}

/// Whether a server or bots run with this argument.
fn runs_with(argument: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("Linux has it").filter_map(Result::ok);
    // A process may end while it is looked at.
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.filter(|line| !line.starts_with(LAB.as_bytes())).any(|line| {
        let mut words = line.split(|byte| *byte == 0);
        words.any(|word| word == argument.as_bytes())
    })
}

#[test]
fn who_is_not_root_is_told_so() {
    let mut command = lab(&["--seconds", "1"]);
    if geteuid().is_root() {
        const NOBODY: u32 = 65_534;
        command.uid(NOBODY).gid(NOBODY);
    }
    match command.output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(SKIPPED), "{said}");
            assert!(said.contains("skipped: it needs root"), "{said}");
        }
        Err(error) => skip("who_is_not_root_is_told_so", &format!("{LAB} cannot be run by others: {error}")),
    }
}

#[test]
fn networks_are_named_without_being_made() {
    let output = Command::new(LAB).arg("--list").output().expect("it runs");
    let names: Vec<&str> = std::str::from_utf8(&output.stdout).expect("UTF-8").lines().collect();
    assert_eq!(names, ["50ms-0pc", "50ms-2pc", "100ms-2pc", "150ms-5pc", "50ms-2pc-bursts"]);
    let output = Command::new(LAB).args(["--case", "1ms"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
}
