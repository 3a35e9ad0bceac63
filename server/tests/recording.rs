//! Recordings of a server as a process: what a kill leaves, and what a disk costs that is full or may not be filled.

#![cfg(unix)]

#[allow(dead_code, reason = "each binary needs its part of it")]
mod program;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tickwire_arena::Arena;
use tickwire_proto::v1::{
    GetSessionRequest, RecordingState, RecordingStatus, Session, session_service_client::SessionServiceClient,
};
use tickwire_recording::{EndReason, Recording, RecordingState as FileState, Replay, live_path, repair, verify};
use tickwire_shared::Tick;
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use self::program::{
    BINARY, Seated, address_in, command, data, end, files, only_recording, run_on, stdout, take_a_seat, unaware,
    verified,
};

/// How often it is seen whether a session is as wanted: a connection may not ask without a pause.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
const ARENA_1: &str = "sessions/arena-1";

/// A server that runs, and somebody who asks it.
struct Running {
    child: Child,
    channel: Channel,
}

impl Running {
    async fn start(data: &Path, arguments: &[&str]) -> Self {
        Self::spawn(command(), data, arguments).await
    }

    async fn spawn(mut command: Command, data: &Path, arguments: &[&str]) -> Self {
        command.args(["--listen", "127.0.0.1:0", "--seed", "5", "--data-dir"]).arg(data).args(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary runs");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("it is piped")).read_line(&mut line).expect("it prints");
        let channel =
            Channel::from_shared(format!("http://{}", address_in(&line))).expect("an address").connect().await;
        Self { child, channel: channel.expect("it listens where it says") }
    }

    async fn session(&self) -> Session {
        let request = GetSessionRequest { name: ARENA_1.into() };
        SessionServiceClient::new(self.channel.clone()).get_session(request).await.expect("it is there").into_inner()
    }

    async fn recording(&self) -> RecordingStatus {
        self.session().await.recording.expect("it is recorded")
    }

    /// Waits until its session is as wanted.
    async fn until(&self, wanted: impl Fn(&Session) -> bool) -> Session {
        loop {
            let session = self.session().await;
            if wanted(&session) {
                return session;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    async fn until_recording_is(&self, state: RecordingState) -> Session {
        self.until(|session| session.recording.as_ref().is_some_and(|recording| recording.state() == state)).await
    }

    async fn health(&self, service: &str) -> ServingStatus {
        let request = HealthCheckRequest { service: service.into() };
        HealthClient::new(self.channel.clone()).check(request).await.expect("it knows it").into_inner().status()
    }

    async fn take_a_seat(&self) -> Seated {
        take_a_seat(&self.channel).await
    }

    fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it is a child");
    }

    fn end(mut self) {
        end(&mut self.child);
    }
}

/// What the server of a data directory tells programs on its machine.
fn metrics(data: &Path) -> String {
    let address = fs::read_to_string(data.join("admin.address")).expect("the server says where");
    let mut stream = TcpStream::connect(address.trim()).expect("it listens");
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers in text");
    answer
}

#[tokio::test]
async fn a_kill_loses_at_most_one_tick_beyond_the_recorders_lag() {
    for (durability, seats) in [("sync", 0), ("sync", 1), ("flush", 0), ("flush", 1)] {
        let data = data();
        let server = Running::start(data.path(), &["--durability", durability]).await;
        let mut seated = Vec::new();
        for _ in 0..seats {
            seated.push(server.take_a_seat().await);
        }
        let Session { tick: from, .. } = server.session().await;
        let Session { tick, recording, .. } = server.until(|session| session.tick > from + 20).await;
        server.kill();
        let recording = recording.expect("it is recorded");
        assert_eq!(recording.state(), RecordingState::Running, "{recording:?}");
        let repaired = repair(only_recording(data.path())).expect("a repair");
        let whole = verified(&repaired.path).ticks;
        let lag = recording.lag_ticks;
        assert!(whole + lag + 1 >= tick, "{durability}, {seats} seats: {whole} of {tick} ticks, with a lag of {lag}");
        assert!(repaired.lost.is_none() || seats > 0, "{:?}", repaired.lost);
    }
}

#[tokio::test]
async fn a_session_without_players_does_not_fill_the_disk() {
    let data = data();
    let server = Running::start(data.path(), &["--tick-rate", "240"]).await;
    let before = server.until(|session| session.tick > 10).await;
    let after = server.until(|session| session.tick > 300).await;
    let bytes = |session: Session| session.recording.expect("it is recorded").bytes;
    assert_eq!(bytes(before), bytes(after));
    server.end();
    assert!(verified(&only_recording(data.path())).ticks > 300);
}

#[tokio::test]
async fn a_full_disk_stops_no_match_and_is_told() {
    let data = data();
    // For a process, a file that may not grow is a disk that is full.
    let mut limited = unaware(Command::new("sh"));
    limited.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\"", BINARY]);
    let server = Running::spawn(limited, data.path(), &["--tick-rate", "240"]).await;
    assert_eq!(server.health("tickwire.recording").await, ServingStatus::Serving);
    let _seated = server.take_a_seat().await;
    let Session { tick, recording, .. } = server.until_recording_is(RecordingState::Behind).await;
    let problem = recording.expect("it is recorded").problem;
    assert!(problem.starts_with("writing failed: "), "{problem}");
    server.until(|session| session.tick > tick + 100).await;
    while server.health("tickwire.recording").await != ServingStatus::NotServing {}
    assert_eq!(server.health("").await, ServingStatus::Serving);
    let RecordingStatus { lag_ticks, lag_bytes, failures, .. } = server.recording().await;
    assert!(
        lag_ticks > 90 && lag_bytes > 0 && failures > 0,
        "{lag_ticks} ticks, {lag_bytes} bytes, {failures} failures"
    );
    // The same by metrics, of a server without anything of it at its start.
    let metrics = metrics(data.path());
    let metric = |series: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<u64>().ok()).unwrap_or_else(|| panic!("no {series} in {metrics}"))
    };
    let labels = r#"{game="arena",session="arena-1"}"#;
    assert!(metric(&format!("tickwire_recorder_lag_ticks{labels}")) > 90);
    assert!(metric(&format!("tickwire_recorder_lag_bytes{labels}")) > 0);
    assert!(metric(&format!("tickwire_recorder_failures_total{labels}")) > 0);
    assert_eq!(metric(r#"tickwire_recorders{game="arena",state="behind"}"#), 1);
    server.end();

    let file = only_recording(data.path());
    let state = Recording::open(&file).expect("a recording").scan().state;
    assert!(matches!(&state, FileState::Incomplete { ticks_missing: 90.., problem: Some(_) }), "{state:?}");
    let shown = stdout(&run_on(&["recordings", "show"], &file));
    assert!(shown.contains("incomplete: it stopped after tick ") && shown.contains("writing failed: "), "{shown}");
    let repaired = repair(&file).expect("a repair");
    assert!(verified(&repaired.path).ticks > 0);
    let repaired = Recording::open(&repaired.path).expect("a recording").summary();
    assert_eq!(repaired.state, state);
}

#[tokio::test]
async fn a_recording_at_its_limit_is_closed_and_the_match_goes_on() {
    let data = data();
    let one_file = ["--segment-bytes", "0", "--segment-minutes", "0"];
    let arguments = [&["--tick-rate", "240", "--recording-bytes-max", "65536"], &one_file[..]].concat();
    let server = Running::start(data.path(), &arguments).await;
    let _seated = server.take_a_seat().await;
    let Session { tick, .. } = server.until_recording_is(RecordingState::Limited).await;
    server.until(|session| session.tick > tick + 100).await;
    let live = |file: &PathBuf| file.to_string_lossy().ends_with(".live.mcap");
    while files(data.path()).iter().any(live) {}
    assert_eq!(server.health("tickwire.recording").await, ServingStatus::Serving, "that is no fault");
    let file = only_recording(data.path());
    let summary = Recording::open(&file).expect("a recording").scan();
    assert_eq!(summary.state, FileState::Complete(EndReason::Limited));
    assert_eq!(verified(&file).ticks, summary.ticks);
    let shown = stdout(&run_on(&["recordings", "show"], &file));
    assert!(shown.contains(&format!("complete to tick {}", summary.ticks)), "{shown}");
    server.end();
    assert_eq!(only_recording(data.path()), file);
}

#[tokio::test]
async fn nothing_is_recorded_where_that_is_switched_off() {
    let data = data();
    let server = Running::start(data.path(), &["--recordings", "off"]).await;
    let session = server.until(|session| session.tick > 5).await;
    assert_eq!(session.recording, None);
    server.end();
    let left = fs::read_dir(data.path()).expect("it is there").map(|entry| entry.expect("it is there").file_name());
    // The directory is this server's, for the files of admins.
    assert_eq!(left.collect::<Vec<_>>(), ["server.lock"]);
}

#[tokio::test]
async fn a_start_makes_room_and_removes_what_was_left() {
    let data = data();
    for _ in 0..2 {
        Running::start(data.path(), &[]).await.end();
    }
    let [_, newest] = files(data.path()).try_into().expect("two");
    // One that a killed server was writing, and half of a copy of it.
    let directory = data.path().join("recordings");
    let unfinished = live_path(&directory, "arena-9");
    let partial = directory.join("arena-9.mcap.partial");
    fs::copy(&newest, &unfinished).expect("it can be written");
    fs::write(&partial, b"half").expect("it can be written");
    let server = Running::start(data.path(), &["--retain-count", "1", "--recovery", "off"]).await;
    let left = files(data.path());
    assert!(left.contains(&newest) && left.contains(&unfinished) && !left.contains(&partial), "{left:?}");
    // And the one that grows.
    assert_eq!(left.len(), 3, "{left:?}");
    server.kill();
}

#[tokio::test]
async fn a_server_records_keyframes_and_replays_go_on_from_them() {
    let data = data();
    let server = Running::start(data.path(), &["--keyframe-seconds", "1"]).await;
    let seat = server.take_a_seat().await;
    server.until(|session| session.tick >= 150).await;
    drop(seat);
    server.end();
    let file = only_recording(data.path());
    let recording = Recording::open(&file).expect("a recording");
    let summary = recording.summary();
    assert!(summary.keyframes >= 1, "{summary:?}");
    let replay = Replay::at(&recording, Arc::new(Arena), Tick(summary.ticks)).expect("within the recording");
    assert!(replay.begun_at() > Tick::ZERO);
    let whole = verify(&recording, Arc::new(Arena)).expect("the same match");
    assert_eq!(whole.state_hash, replay.session().frame().state_hash);
    let from = summary.ticks.to_string();
    let last = run_on(&["replay", "--from", &from], &file);
    assert_eq!(stdout(&last).lines().next(), Some(format!("{from:>8}  {:016x}", whole.state_hash).as_str()));
    let shown: serde_json::Value =
        serde_json::from_str(&stdout(&run_on(&["recordings", "show", "--json"], &file))).expect("JSON");
    assert_eq!(shown["keyframes"], summary.keyframes);
}
