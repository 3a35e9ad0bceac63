//! The server as a process: how it starts, what it prints, how it ends, and what its commands make of what it leaves.

#![cfg(unix)]

#[allow(dead_code, reason = "each binary needs its part of it")]
mod program;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tickwire_recording::{Layout, Recording, Writer};
use tickwire_shared::Tick;
use tickwire_simulation::SeatInput;

use self::program::{address_in, command, only_recording, run, stderr, stdout};

const PATIENCE: Duration = Duration::from_secs(20);
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/recordings/deathmatch-60hz.mcap");
const SHORT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/recordings/crowd-20hz.mcap");

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
fn tls_takes_two_files_that_belong_together() {
    let directory = tempfile::tempdir().expect("there is room");
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("the name is good");
    let file = |name, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("there is room");
        path.into_os_string().into_string().expect("UTF-8")
    };
    let (cert, key) = (file("a.pem", &own.cert.pem()), file("a.key", &own.signing_key.serialize_pem()));
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("the name is good");
    let other = file("b.key", &other.signing_key.serialize_pem());

    let said = |arguments: &[&str]| {
        let output = run(&[&["--print-config"], arguments].concat());
        assert!(!output.status.success(), "{arguments:?}");
        stderr(&output)
    };
    assert!(said(&["--tls-cert", &cert]).contains("tls_key"));
    assert!(said(&["--tls-key", &key]).contains("tls_cert"));
    let error = said(&["--tls-cert", &cert, "--tls-key", &other]);
    assert!(error.contains(&other) && error.contains(&cert), "{error}");
    assert!(run(&["--print-config", "--tls-cert", &cert, "--tls-key", &key]).status.success());
}

#[test]
fn listening_beyond_this_machine_needs_a_word() {
    let output = run(&["--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("listen: 0.0.0.0:0") && stderr(&output).contains("--insecure"),
        "{}",
        stderr(&output)
    );
    assert!(run(&["--listen", "0.0.0.0:0", "--insecure", "--print-config"]).status.success());
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

#[test]
fn a_game_that_is_not_there_is_answered_with_those_that_are() {
    let data = tempfile::tempdir().expect("a directory");
    let arguments = ["--listen", "127.0.0.1:0", "--game", "chess", "--data-dir", data.path().to_str().expect("UTF-8")];
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("\"chess\"") && stderr(&output).contains("arena"), "{}", stderr(&output));
}

#[test]
fn flags_go_before_the_environment_and_that_before_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("server.toml");
    fs::write(&file, "tick_rate = 20\nmax_players = 20\nsessions = 20\n").expect("it can be written");
    let output = command()
        .env("TICKWIRE_MAX_PLAYERS", "30")
        .env("TICKWIRE_SESSIONS", "30")
        .env("TICKWIRE_GAME", "arena")
        .env("TICKWIRE_SET", "cover=0, size=64")
        .env("TICKWIRE_SIMULATION_THREADS", "3")
        .env("TICKWIRE_DURABILITY", "flush")
        .env("TICKWIRE_RECORDINGS", "off")
        .env("TICKWIRE_CHAT_PER_MINUTE", "90")
        .args(["serve", "--sessions", "40", "--chat-burst", "8", "--print-config", "--config"])
        .arg(&file)
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let printed = stdout(&output);
    for line in [
        format!("tick_rate = 20 # {}", file.display()),
        "max_players = 30 # TICKWIRE_MAX_PLAYERS".into(),
        "sessions = 40 # flag".into(),
        "simulation_threads = 3 # TICKWIRE_SIMULATION_THREADS".into(),
        "# network_threads is not set".into(),
        "game = [\"arena\"] # TICKWIRE_GAME".into(),
        "durability = \"flush\" # TICKWIRE_DURABILITY".into(),
        "recordings = \"off\" # TICKWIRE_RECORDINGS".into(),
        "retain_bytes = 17179869184 # default".into(),
        "set = [\"cover=0\",\"size=64\"] # TICKWIRE_SET".into(),
        "chat_per_minute = 90 # TICKWIRE_CHAT_PER_MINUTE, read anew by SIGHUP".into(),
        "chat_burst = 8 # flag, read anew by SIGHUP".into(),
        "chat_history_max = 50 # default, read anew by SIGHUP".into(),
        "listen = \"127.0.0.1:7777\" # default".into(),
        "# seed is not set".into(),
    ] {
        assert!(printed.lines().any(|printed| printed == line), "no {line:?} in\n{printed}");
    }
}

#[test]
fn the_environment_says_on_and_off_in_any_way_and_text_that_looks_like_a_number_is_text() {
    let keys = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&keys, run(&["keys", "new-ticket-key"]).stdout).expect("it can be written");
    let output = command()
        .env("TICKWIRE_AUTH", "ticket")
        .env("TICKWIRE_TICKET_KEYS", keys.path())
        .env("TICKWIRE_RECORDINGS_PUBLIC", "1")
        .env("TICKWIRE_LIMIT_LOOPBACK", "on")
        .env("TICKWIRE_RECOVERY", "0")
        .env("TICKWIRE_DATA_DIR", "5")
        .env("TICKWIRE_TICKET_AUDIENCE", "042")
        .arg("--print-config")
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let printed = stdout(&output);
    for line in [
        "recordings_public = true # TICKWIRE_RECORDINGS_PUBLIC",
        "limit_loopback = true # TICKWIRE_LIMIT_LOOPBACK, read anew by SIGHUP",
        "recovery = \"off\" # TICKWIRE_RECOVERY",
        "data_dir = \"5\" # TICKWIRE_DATA_DIR",
        "ticket_audience = \"042\" # TICKWIRE_TICKET_AUDIENCE",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "no {line:?} in\n{printed}");
    }
}

#[test]
fn a_collector_of_traces_has_an_address_and_a_certificate_that_can_be_read() {
    let data = tempfile::tempdir().expect("a directory");
    let empty = data.path().join("empty.pem");
    fs::write(&empty, "no certificate").expect("it can be written");
    let with = |url: &str, certificate: &Path| {
        let mut command = command();
        command.env("OTEL_EXPORTER_OTLP_CERTIFICATE", certificate).args(["--listen", "127.0.0.1:0", "--data-dir"]);
        let output = command.arg(data.path()).args(["--otlp", url]).output().expect("the binary runs");
        (output.status.code(), stderr(&output))
    };
    for (url, certificate, code, words) in [
        ("ftp://127.0.0.1:4317", &*empty, 2, ["otlp: \"ftp://127.0.0.1:4317\" is no address", "(from flag)"]),
        ("https://127.0.0.1:4317", &empty, 2, ["OTEL_EXPORTER_OTLP_CERTIFICATE: ", "empty.pem has no certificate"]),
        ("https://127.0.0.1:4317", Path::new("/nowhere.pem"), 1, ["/nowhere.pem: ", "No such file"]),
    ] {
        let (exited, said) = with(url, certificate);
        assert_eq!(exited, Some(code), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
}

#[test]
fn options_that_are_wrong_are_named_with_their_origin() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("server.toml");
    fs::write(&file, "tick_rat = 20\n").expect("it can be written");
    let from_file = command().arg("--config").arg(&file).output().expect("the binary runs");
    let rate = command().env("TICKWIRE_TICK_RATE", "0").output().expect("the binary runs");
    let no_number = command().env("TICKWIRE_TICK_RATE", "abc").output().expect("the binary runs");
    let players = run(&["--max-players", "0"]);
    let sessions = run(&["--sessions", "1001"]);
    let capacity = run(&["--sessions-max", "0"]);
    let empty = run(&["--empty-timeout-seconds", "86401"]);
    let setting = run(&["--set", "cover"]);
    let number = run(&["--set", "cover=much"]);
    let twice = run(&["--set", "cover=0", "--set", "cover=1"]);
    let host = run(&["--listen", "localhost:7777"]);
    let filter = command().env("TICKWIRE_LOG", "xx=yy=zz").output().expect("the binary runs");
    let infinite = run(&["--set", "cover=inf"]);
    let unknown = run(&["--set", "colour=1", "--print-config"]);
    let too_much = run(&["--set", "cover=7", "--print-config"]);
    let strange = run(&["--game", "chess", "--print-config"]);
    let misspelt = command().env("TICKWIRE_TICKRATE", "30").output().expect("the binary runs");
    let threads = run(&["--simulation-threads", "0"]);
    let rewind = run(&["--rewind-ms", "1001"]);
    let missing = run(&["--config", "/nowhere/at/all.toml"]);
    let bytes = run(&["--recording-bytes-max", "100"]);
    let segment = run(&["--segment-bytes", "65535"]);
    let grace = run(&["--grace-seconds", "86401"]);
    let idle = command().env("TICKWIRE_IDLE_SECONDS", "0").output().expect("the binary runs");
    let message = run(&["--message-bytes-max", "255"]);
    let burst = run(&["--message-bytes-max", "600000"]);
    let radius = run(&["--view-radius-metres-max", "0"]);
    let durability = command().env("TICKWIRE_DURABILITY", "always").output().expect("the binary runs");
    for (output, words) in [
        (from_file, ["tick_rat: there is no such option; did you mean tick_rate? (from ", "server.toml"]),
        (no_number, ["tick_rate: string \"abc\" does not do: it takes a whole number", "(from TICKWIRE_TICK_RATE)"]),
        (rate, ["tick_rate: 0 is out of range: choose 1 to 240", "(from TICKWIRE_TICK_RATE)"]),
        (sessions, ["sessions: 1001 are too many: choose 0 to 1000", "(from flag)"]),
        (capacity, ["sessions_max: 0 is out of range: choose 1 to 1000", "(from flag)"]),
        (empty, ["empty_timeout_seconds: 86401 is out of range: choose 1 to 86400", "(from flag)"]),
        (threads, ["simulation_threads: 0 is out of range: choose 1 to 1024", "(from flag)"]),
        (rewind, ["rewind_ms: 1001 is out of range: choose 0 to 1000", "(from flag)"]),
        (players, ["max_players: 0", "(from flag)"]),
        (setting, ["set: \"cover\" is no setting: write NAME=VALUE", "(from flag)"]),
        (number, ["set: \"cover=much\" is no setting: \"much\" is no number", "(from flag)"]),
        (twice, ["set: cover is set twice", "(from flag)"]),
        (host, ["localhost:7777", "write it as IP:PORT"]),
        (filter, ["TICKWIRE_LOG", "\"xx=yy=zz\" is no filter"]),
        (infinite, ["\"inf\" is no number", "such as cover=0"]),
        (unknown, ["set: colour: the game has no such setting; it has size", "(from flag)"]),
        (too_much, ["set: cover: 7 is out of range: choose 0 to 1", "(from flag)"]),
        (strange, ["game: there is no \"chess\"; this server was built with arena", "(from flag)"]),
        (misspelt, ["TICKWIRE_TICKRATE: ", "did you mean TICKWIRE_TICK_RATE?"]),
        (grace, ["grace_seconds: 86401 is out of range: choose 0 to 86400", "(from flag)"]),
        (idle, ["idle_seconds: 0 is out of range: choose 1 to 86400", "(from TICKWIRE_IDLE_SECONDS)"]),
        (message, ["message_bytes_max: 255 is out of range: choose 256 to 16777216", "(from flag)"]),
        (burst, ["received_bytes_burst_max: 524288 is less than one message may have", "message_bytes_max, 600000"]),
        (radius, ["view_radius_metres_max: 0 is no radius", "(from flag)"]),
        (segment, ["segment_bytes: 65535 are too few: choose 65536 or more, or 0", "(from flag)"]),
        (bytes, ["recording_bytes_max: 100 are too few: choose 65536 or more", "(from flag)"]),
        (
            durability,
            ["durability: \"always\" does not do: choose none or flush or sync", "(from TICKWIRE_DURABILITY)"],
        ),
        (missing, ["config: there is no file", "/nowhere/at/all.toml"]),
    ] {
        assert_eq!(output.status.code(), Some(2));
        assert!(words.iter().all(|word| stderr(&output).contains(word)), "{}", stderr(&output));
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
fn what_a_file_has_that_no_option_takes_is_said_in_the_words_of_files_and_print_config_says_what_a_start_would() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("server.toml");
    for (option, said) in [
        ("listen = \"localhost:7777\"", "listen: string \"localhost:7777\" does not do: it takes IP:PORT, such as "),
        ("listen = 7777", "listen: 7777 does not do: it takes IP:PORT, such as 127.0.0.1:7777"),
        ("metrics_listen = true", "metrics_listen: true does not do: it takes IP:PORT"),
        ("admin_listen = 5", "admin_listen: 5 does not do: it takes IP:PORT, or off"),
        ("connections_max = -5", "connections_max: -5 does not do: it takes a whole number of 0 or more"),
        ("tick_rate = 5000000000", "tick_rate: 5000000000 does not do: it takes a whole number from 0 to 4294967295"),
        ("tick_rate = 1.5", "tick_rate: 1.5 does not do: it takes a whole number"),
        ("set = { cover = \"much\" }", "set.cover: string \"much\" does not do: it takes a number"),
        ("set = { covr = 1 }", "set: covr: the game has no such setting"),
        ("tls_cert = 5", "tls_cert: 5 does not do: it takes text"),
        ("log_format = 3", "log_format: 3 does not do: it takes text or json"),
        ("game = 5", "game: 5 does not do: it takes names, as a list or with commas between"),
        ("otlp = \"http://\"", "otlp: \"http://\" is no address of a collector"),
        ("otlp = \"http://otel:99999\"", "otlp: \"http://otel:99999\" is no address of a collector"),
        ("data_dir = \"/dev/null/data\"", "data_dir: cannot record to /dev/null/data: not a directory"),
    ] {
        fs::write(&file, option).expect("it can be written");
        let output = command().args(["--print-config", "--config"]).arg(&file).output().expect("the binary runs");
        assert!(!output.status.success(), "{option}");
        let (error, origin) = (stderr(&output), format!("(from {})", file.display()));
        assert!(error.starts_with(&format!("error: {said}")) && error.contains(&origin), "{option}: {error}");
    }
    let unknown = command().env("TICKWIRE_NOPE", "1").output().expect("the binary runs");
    assert!(
        !stderr(&unknown).contains("did you mean") && stderr(&unknown).contains("unset it"),
        "{}",
        stderr(&unknown)
    );
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
    let other = run(&["soak", "--determinism", "--players", "4", "--ticks", "60", "--set", "size=400", "--seed", "2"]);
    assert_ne!(stdout(&soaked).lines().nth(1), stdout(&other).lines().nth(1));
    for (arguments, problem) in [
        (&["soak"][..], "--determinism"),
        (&["soak", "--determinism", "--game", "chess"], "there is no \"chess\""),
        (&["soak", "--determinism", "--players", "0"], "0 is not in 1..=10000"),
        (&["soak", "--determinism", "--ticks", "0"], "'--ticks <N>': 0 is not in 1.."),
        (&["soak", "--determinism", "--ticks", "60", "--rebuild-every", "61"], "choose 1 to 59, or 0 for none"),
        (&["soak", "--determinism", "--set", "nope=1"], "nope: the game has no such setting"),
        (&["soak", "--determinism", "--ticks", "7"], "--rebuild-every: 7 is not less than --ticks, 7"),
    ] {
        let refused = run(arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&refused).contains(problem), "{}", stderr(&refused));
    }
}
