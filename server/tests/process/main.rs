//! The server as a process: how it starts, what it prints, how it ends, and what its commands make of what it leaves.

#![cfg(unix)]

mod options;
#[path = "../program/mod.rs"]
#[allow(dead_code, reason = "each binary needs its part of it")]
mod program;
mod recordings;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tickwire_recording::Recording;

use self::program::{address_in, command, only_recording, run, stderr, stdout};

const PATIENCE: Duration = Duration::from_secs(20);

/// A server that runs, on a port and a data directory of its own.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
    data: TempDir,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        Self::start_with(Stdio::null(), arguments)
    }

    fn start_with(stderr: Stdio, arguments: &[&str]) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let mut child = command()
            .env("TICKWIRE_LOG", "debug")
            .args(["--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data.path())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the binary runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("it prints");
        let address = address_in(&line).to_owned();
        Self { child, stdout, address, data }
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill runs");
        assert!(status.success());
    }

    /// As GNU `timeout` does it: once to the process, and at once again to its group.
    fn signal_twice(&self, signal: &str) {
        let script = "kill $0 $1; kill $0 $1 2>/dev/null || true";
        let status = Command::new("sh").args(["-c", script, signal, &self.child.id().to_string()]).status();
        assert!(status.expect("sh runs").success());
    }

    /// The exit code, and the data that the server has left.
    fn wait(mut self) -> (Option<i32>, TempDir) {
        let status = self.child.wait().expect("it is a child");
        (status.code(), self.data)
    }

    /// The recording, once it has some ticks.
    fn growing_recording(&self) -> PathBuf {
        let file = only_recording(self.data.path());
        wait_for_ticks(&file, 20);
        file
    }
}

fn ticks(file: &Path) -> u64 {
    Recording::open(file).map_or(0, |recording| recording.scan().ticks)
}

/// Waits until a running session's recording has so many ticks.
fn wait_for_ticks(file: &Path, count: u64) {
    let deadline = Instant::now() + PATIENCE;
    while ticks(file) < count {
        assert!(Instant::now() < deadline, "{} does not grow", file.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_server_says_where_to_go_and_ends_cleanly_and_its_recording_verifies() {
    let mut server = Running::start(&["--seed", "7", "--rewind-ms", "120"]);
    let mut said = String::new();
    // Up to the line that says how to stop it.
    while !said.contains("Ctrl-C") {
        assert_ne!(server.stdout.read_line(&mut said).expect("it prints"), 0, "it ended after {said:?}");
    }
    TcpStream::connect(&server.address).expect("it listens where it says");
    assert!(said.contains("sessions/arena-1"), "{said}");
    assert!(said.contains(&format!("tickwire-bots --connect http://{}", server.address)), "{said}");
    assert!(said.contains(server.data.path().to_str().expect("UTF-8")), "{said}");
    server.growing_recording();
    server.signal_twice("-TERM");
    let (code, data) = server.wait();
    assert_eq!(code, Some(0));

    let file = only_recording(data.path());
    let file = file.to_str().expect("UTF-8");
    let verified = run(&["replay", file, "--verify"]);
    assert!(verified.status.success(), "{}", stderr(&verified));
    assert!(stdout(&verified).starts_with("verified "), "{}", stdout(&verified));

    let ticks = |output: &Output| {
        let lines = stdout(output).lines().map(str::to_owned).collect::<Vec<_>>();
        // The last two tell how many there were, and the digest.
        lines[..lines.len() - 2].to_vec()
    };
    let (once, again) = (run(&["replay", file]), run(&["replay", file]));
    assert_eq!(ticks(&once), ticks(&again));
    assert_eq!(verified.stdout, run(&["replay", file, "--verify"]).stdout, "what is printed is the same each time");
    assert!(stderr(&verified).contains("times as fast as played"), "{}", stderr(&verified));
    assert_eq!(stdout(&once).lines().last(), stdout(&verified).lines().last(), "the digest is the same");
    let some = run(&["replay", file, "--from", "2", "--to", "4", "--json"]);
    let lines: Vec<serde_json::Value> =
        stdout(&some).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines[..3].iter().map(|line| line["tick"].as_u64()).collect::<Vec<_>>(), [Some(2), Some(3), Some(4)]);
    assert_eq!((lines[3].get("verified"), &lines[3]["ticks"]), (None, &3.into()), "nobody asked for it");
    assert!(stdout(&once).contains("\nplayed "), "{}", stdout(&once));

    let listed = stdout(&run(&["recordings", "list", "--data-dir", data.path().to_str().expect("UTF-8")]));
    assert!(listed.contains("arena-1-") && listed.contains("complete: the server was shut down"), "{listed}");
    let listed = run(&["recordings", "list", "--json", "--data-dir", data.path().to_str().expect("UTF-8")]);
    let listed: serde_json::Value = serde_json::from_str(&stdout(&listed)).expect("one line of JSON");
    assert_eq!((&listed["file"], &listed["state"]), (&file.into(), &"complete".into()));
    assert!(listed["bytes"].as_u64() > Some(0) && listed["ticks"].as_u64() > Some(0), "{listed}");
    let shown = stdout(&run(&["recordings", "show", file]));
    let shown_json: serde_json::Value =
        serde_json::from_str(&stdout(&run(&["recordings", "show", "--json", file]))).expect("JSON");
    assert_eq!((&shown_json["session"], &shown_json["state"]), (&"sessions/arena-1".into(), &"complete".into()));
    assert_eq!((&shown_json["rewind_ms"], &shown_json["settings"]["size"]), (&120.into(), &200.into()));
    assert!(shown_json["ticks"].as_u64() > Some(0) && shown_json["lacks_indexes"] == false, "{shown_json}");
    assert!(shown.contains("sessions/arena-1") && shown.contains("60 Hz") && shown.contains("up to 120 ms"), "{shown}");
    let exported = stdout(&run(&["recordings", "export", file, "--to", "3"]));
    let header: serde_json::Value = serde_json::from_str(exported.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&header["seed"], &header["rewind_ms"]), (&7.into(), &120.into()), "{header}");
}

#[test]
fn ctrl_c_ends_a_server_cleanly() {
    let server = Running::start(&[]);
    server.signal("-INT");
    assert_eq!(server.wait().0, Some(0));
}

#[test]
fn a_server_whose_log_nobody_reads_goes_on_and_ends_cleanly() {
    let (reader, writer) = std::io::pipe().expect("there are pipes");
    let server = Running::start_with(writer.into(), &[]);
    drop(reader);
    // Each connection is a line of the log.
    for _ in 0..20 {
        TcpStream::connect(&server.address).expect("it listens");
    }
    let file = server.growing_recording();
    server.signal("-TERM");
    let (code, data) = server.wait();
    assert_eq!(code, Some(0));
    assert_ne!(only_recording(data.path()), file, "the recording was finished");
}

#[test]
fn a_server_whose_log_is_not_read_for_long_does_not_wait_for_it() {
    // A pipe holds some 64 KiB; nobody empties this one.
    let (_reader, writer) = std::io::pipe().expect("there are pipes");
    let server = Running::start_with(writer.into(), &[]);
    for _ in 0..2000 {
        TcpStream::connect(&server.address).expect("it listens");
    }
    let file = server.growing_recording();
    wait_for_ticks(&file, ticks(&file) + 20);
    server.signal("-TERM");
    assert_eq!(server.wait().0, Some(0));
}

#[test]
fn log_lines_are_json_where_that_is_asked_for() {
    let data = tempfile::tempdir().expect("a directory");
    let mut server = command()
        .args(["--listen", "127.0.0.1:0", "--log-format", "json", "--data-dir"])
        .arg(data.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut log = BufReader::new(server.stderr.take().expect("it is piped")).lines();
    let first = log.next().expect("it logs its sessions").expect("UTF-8");
    let first: serde_json::Value = serde_json::from_str(&first).expect("JSON");
    assert_eq!(first["fields"]["session"], "sessions/arena-1");
    server.kill().expect("it runs");
    server.wait().expect("it is a child");
}

#[test]
fn a_signal_ends_a_server_that_is_still_starting() {
    let data = tempfile::tempdir().expect("a directory");
    let mut server = command()
        .args(["--listen", "127.0.0.1:0", "--sessions", "1000", "--data-dir"])
        .arg(data.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut log = BufReader::new(server.stderr.take().expect("it is piped"));
    let mut first = String::new();
    log.read_line(&mut first).expect("UTF-8");
    assert!(first.contains("session started"), "{first}");
    let status = Command::new("kill").args(["-TERM", &server.id().to_string()]).status().expect("kill runs");
    assert!(status.success());
    let rest: Vec<String> = log.lines().map(|line| line.expect("UTF-8")).collect();
    assert_eq!(server.wait().expect("it is a child").code(), Some(0), "{rest:?}");
    let said = std::io::read_to_string(server.stdout.take().expect("it is piped")).expect("UTF-8");
    assert_eq!(said, "", "it has not come so far as to say where it is");
    let left = fs::read_dir(data.path().join("recordings")).expect("it is there");
    let left: Vec<PathBuf> = left.map(|file| file.expect("it is there").path()).collect();
    assert!((1..1000).contains(&left.len()), "{} sessions had started", left.len());
    assert!(left.iter().all(|file| !file.to_string_lossy().contains(".live.")), "all ended cleanly: {left:?}");
}

#[test]
fn a_data_directory_that_cannot_be_had_is_named_itself() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    fs::write(&file, b"in its place").expect("it can be written");
    let started = run(&["--listen", "127.0.0.1:0", "--data-dir", file.to_str().expect("UTF-8")]);
    assert_eq!(started.status.code(), Some(1));
    let said = stderr(&started);
    assert!(said.contains(&format!("error: data_dir: cannot record to {}: ", file.display())), "{said}");
    assert!(said.ends_with("; choose a data directory that can be written to (from flag)\n"), "{said}");
}

#[test]
fn a_port_that_is_taken_is_named_before_anything_is_created() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound").to_string();
    let data = tempfile::tempdir().expect("a directory");
    let output = run(&["--listen", &address, "--data-dir", data.path().to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&format!("cannot listen on {address}")), "{}", stderr(&output));
    assert_eq!(fs::read_dir(data.path()).expect("it is there").count(), 0);
}
