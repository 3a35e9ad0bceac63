//! `tickwire-server admin`, and signals, against a server as a process.

#![cfg(unix)]

mod encrypted;
#[path = "../program/mod.rs"]
#[allow(dead_code, reason = "each binary needs its part of it")]
mod program;
mod shell;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value as Json;
use tempfile::TempDir;
use tickwire_client::{Client, Event, JoinOptions};

use self::program::{command, stderr, stdout};

/// A server that runs. Dropped, it is killed.
struct Running {
    child: Child,
    url: String,
    data: TempDir,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, Stdio::null())
    }

    /// With its log in a file.
    fn start_logging(arguments: &[&str], log: &Path) -> Self {
        Self::start_with(arguments, fs::File::create(log).expect("there is room").into())
    }

    fn start_with(arguments: &[&str], log: Stdio) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let mut child = command()
            .args(["--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data.path())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the binary runs");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        lines.read_line(&mut line).expect("it prints");
        let url = line.split(' ').find(|word| word.starts_with("http://")).expect("it names its address").to_owned();
        // It prints more than this, and is not to wait for who reads it.
        std::thread::spawn(move || lines.lines().for_each(drop));
        Self { child, url, data }
    }

    fn admin(&self, arguments: &[&str]) -> Output {
        admin_in(self.data.path(), arguments)
    }

    fn json(&self, arguments: &[&str]) -> Json {
        let output = self.admin(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        serde_json::from_slice(&output.stdout).expect("it prints JSON")
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill runs");
        assert!(status.success());
    }

    fn code(&mut self) -> Option<i32> {
        self.child.wait().expect("it is a child").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn admin_in(data: &Path, arguments: &[&str]) -> Output {
    command().arg("admin").args(arguments).arg("--data-dir").arg(data).output().expect("the binary runs")
}

/// A bot that plays until the server ends its stream: why.
async fn play(url: &str) -> tickwire_proto::v1::GoodbyeReason {
    let mut client = Client::connect(url, &JoinOptions::default()).await.expect("it is let in");
    loop {
        match client.next().await.expect("the stream goes on") {
            Some(Event::Goodbye { reason, .. }) => return reason,
            Some(_) => {}
            None => panic!("it ends without a goodbye"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_looks_after_a_server_from_the_shell() {
    let server = Running::start(&["--seed", "3"]);
    let player = tokio::spawn({
        let url = server.url.clone();
        async move { play(&url).await }
    });
    while server.json(&["info"])["players"] != 1 {
        tokio::task::yield_now().await;
    }
    let info = stdout(&server.admin(&["info"]));
    assert!(info.contains("serving") && info.contains("1, 1 of them running"), "{info}");
    let stats = server.json(&["stats"]);
    assert_eq!(stats["sessions"][0]["session"], "sessions/arena-1");
    assert!(stdout(&server.admin(&["stats"])).contains("1/256"));
    let players = server.json(&["players", "arena-1"]);
    assert_eq!((&players[0]["player"], &players[0]["streams"]), (&Json::from(1), &Json::from(1)));
    assert!(stdout(&server.admin(&["players"])).contains("connected"));

    let paused = server.json(&["pause", "arena-1"]);
    let stepped = server.json(&["step", "arena-1", "5"]);
    let ticks = |progress: &Json| progress["tick"].as_u64().expect("a tick");
    assert_eq!(ticks(&stepped), ticks(&paused) + 5);
    assert!(stdout(&server.admin(&["stats"])).contains("paused"));
    assert!(stdout(&server.admin(&["resume", "arena-1"])).starts_with("sessions/arena-1 goes on, at tick "));
    assert!(server.admin(&["broadcast", "soon over"]).status.success());

    assert_eq!(server.json(&["ban", "192.0.2.0/24", "--for", "2h", "--reason", "cheats"])["network"], "192.0.2.0/24");
    assert!(stdout(&server.admin(&["bans"])).contains("cheats"));
    assert!(server.admin(&["unban", "192.0.2.0/24"]).status.success());
    assert_eq!(server.json(&["bans"]), Json::Array(Vec::new()));

    assert!(server.admin(&["kick", "arena-1", "1", "--reason", "bye"]).status.success());
    let reason = player.await.expect("it does not panic");
    assert_eq!(reason, tickwire_proto::v1::GoodbyeReason::Kicked);
    assert!(server.admin(&["terminate", "sessions/arena-1"]).status.success());
    // It goes once its recording is closed.
    while server.json(&["stats"])["sessions"] != Json::Array(Vec::new()) {}

    let log = fs::read_to_string(server.data.path().join("audit.jsonl")).expect("it is there");
    assert_eq!(log.lines().count(), 2 * 8, "{log}");
    assert!(!log.contains(fs::read_to_string(server.data.path().join("admin.token")).expect("it is there").trim()));
}

#[test]
fn a_ban_says_which_one_it_replaces_and_an_unban_which_wider_one_still_holds() {
    let log = tempfile::NamedTempFile::new().expect("there is room");
    let server = Running::start_logging(&["--log-format", "json"], log.path());
    let first = server.admin(&["ban", "192.0.2.7", "--for", "1h30m", "--reason", "cheats"]);
    assert!(first.status.success() && !stderr(&first).contains("replaces"), "{}", stderr(&first));
    let second = server.json(&["ban", "192.0.2.7", "--reason", "spam"]);
    assert_eq!((&second["expire_time"], &second["replaced"]["reason"]), (&Json::Null, &Json::from("cheats")));
    assert!(second["replaced"]["expire_time"].is_string(), "{second}");
    let third = server.admin(&["ban", "192.0.2.7", "--for", "2days"]);
    let said = "this replaces a ban of 192.0.2.7/32 for good, by operator, for \"spam\"";
    assert!(stderr(&third).contains(said), "{}", stderr(&third));

    assert!(server.admin(&["ban", "192.0.2.0/24"]).status.success());
    let lifted = stdout(&server.admin(&["unban", "192.0.2.7"]));
    assert_eq!(lifted.trim(), "192.0.2.7 has no ban of its own any more, and stays out by that of 192.0.2.0/24");
    let none = server.admin(&["unban", "192.0.2.7"]);
    assert_eq!(none.status.code(), Some(1));
    let said = "there is no ban of 192.0.2.7/32; what keeps it out is that of 192.0.2.0/24: unban that";
    assert!(stderr(&none).contains(said), "{}", stderr(&none));
    assert_eq!(stdout(&server.admin(&["unban", "192.0.2.0/24"])).trim(), "192.0.2.0/24 may come again");

    let audit = fs::read_to_string(server.data.path().join("audit.jsonl")).expect("it is there");
    let lines: Vec<Json> = audit.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let results: Vec<&Json> = lines.iter().map(|line| &line["result"]).filter(|result| !result.is_null()).collect();
    let [cheats, spam, wider] = results[..] else { panic!("{audit}") };
    assert_eq!([&cheats["replaced"]["reason"], &spam["replaced"]["reason"]], ["cheats", "spam"]);
    assert_eq!(wider["still_banned_by"], serde_json::json!(["192.0.2.0/24"]));

    let log = fs::read_to_string(log.path()).expect("it is there");
    let acts = log.lines().find(|line| line.contains("an admin acts")).expect("it is logged");
    let acts: Json = serde_json::from_str(acts).expect("JSON");
    let from = acts["fields"]["from"].as_str().expect("it is text");
    assert!(from.parse::<std::net::SocketAddr>().is_ok(), "an address, and no Some(…): {from}");
}

/// What takes no player to be there.
const COMMANDS: &[&[&str]] = &[
    &["info"],
    &["stats"],
    &["players"],
    &["players", "arena-1"],
    &["ban", "192.0.2.0/24", "--for", "2h", "--reason", "\"quoted\" \\ and ünïcode"],
    &["ban", "::ffff:198.51.100.7"],
    &["bans"],
    &["unban", "192.0.2.0/24"],
    &["pause", "arena-1"],
    &["step", "arena-1", "2"],
    &["resume", "arena-1"],
    &["broadcast", "a \"word\""],
    &["broadcast", "soon over", "--session", "arena-1"],
    &["log-filter", "info"],
    &["drain", "--deadline", "1h"],
    &["cancel-drain"],
    &["drain"],
    &["cancel-drain"],
    &["terminate", "arena-1", "--reason", "\"over\""],
];

#[tokio::test(flavor = "multi_thread")]
async fn every_command_prints_one_value_of_json_and_nothing_else() {
    // The clients only hold their seats: however long that takes here, they are not taken for dead.
    let server = Running::start(&["--silence-seconds", "600", "--unacknowledged-seconds", "600"]);
    // As long as somebody plays, a drain waits.
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(Client::connect(&server.url, &JoinOptions::default()).await.expect("it is let in"));
    }
    let of_a_player: &[&[&str]] = &[
        &["mute", "arena-1", "1", "--for", "1h"],
        &["unmute", "arena-1", "1"],
        &["kick", "arena-1", "1", "--reason", "bye"],
    ];
    for command in of_a_player.iter().chain(COMMANDS) {
        let output = server.admin(&[command, &["--json"][..]].concat());
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{command:?}");
        assert_eq!(stdout(&output).lines().count(), 1, "{command:?}: {}", stdout(&output));
        serde_json::from_slice::<Json>(&output.stdout).expect("it is JSON");
    }
}

#[test]
fn what_goes_wrong_is_said_in_words_and_by_the_exit_code() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Running::start(&[]);
    let address = fs::read_to_string(server.data.path().join("admin.address")).expect("it is there");
    let wrong_token = data.path().join("wrong");
    fs::write(&wrong_token, "0123456789abcdef0123456789abcdef\n").expect("it can be written");
    let wrong_token = wrong_token.to_str().expect("UTF-8");
    let nobody = admin_in(data.path(), &["info"]);
    let no_token = admin_in(data.path(), &["info", "--address", address.trim()]);
    fs::write(data.path().join("admin.address"), &address).expect("it can be written");
    let made_none = admin_in(data.path(), &["info"]);
    let unknown_token = server.admin(&["info", "--token-file", wrong_token]);
    let no_address = server.admin(&["info", "--address", "localhost"]);
    let closed = server.admin(&["info", "--address", "127.0.0.1:1", "--token-file", wrong_token]);
    let players = server.url.trim_start_matches("http://");
    let token = server.data.path().join("admin.token");
    let token = token.to_str().expect("UTF-8");
    let of_players = server.admin(&["info", "--address", players, "--token-file", token]);
    let of_players_too = server.admin(&["kick", "arena-1", "1", "--address", &server.url, "--token-file", token]);
    let no_session = server.admin(&["pause", "chess-1"]);
    let not_paused = server.admin(&["step", "arena-1"]);
    let not_draining = server.admin(&["cancel-drain"]);
    let of_a_spectator = server.admin(&["kick", "arena-1", "0"]);
    let no_name = server.admin(&["kick", "Arena 1", "7"]);
    let no_number = server.admin(&["kick", "arena-1", "A"]);
    let no_network = server.admin(&["ban", "example.org"]);
    for (output, code, words) in [
        (nobody, 3, "there is no server that was started with this data directory"),
        (no_token, 1, "name the file of one that it was given with --token-file"),
        (made_none, 1, "name the file of one that it was given with --token-file"),
        (unknown_token, 4, "the token is not one of this server's"),
        (no_address, 2, "\"localhost\" is no address"),
        (closed, 3, "nobody answers at 127.0.0.1:1: "),
        (of_players, 3, "is where players connect"),
        (of_players_too, 3, "admin.address in the data directory"),
        (not_paused, 1, "sessions/arena-1 is not paused: pause it first (NOT_PAUSED)"),
        (not_draining, 1, "the server does not drain (NOT_DRAINING)"),
        (of_a_spectator, 1, "there is no player 0 in sessions/arena-1 (NOT_FOUND)"),
        (no_session, 1, "there is no sessions/chess-1 on this server (NOT_FOUND)"),
        (no_name, 2, "is not a session's name"),
        (no_number, 2, "a player is named by a number from 1 to 4294967295, as `players` lists it"),
        (no_network, 2, "is no address or network"),
    ] {
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(stderr(&output).starts_with("error: ") && stderr(&output).contains(words), "{}", stderr(&output));
    }
}

#[test]
fn a_token_that_nobody_has_named_goes_to_no_server_but_its_own() {
    let server = Running::start(&[]);
    let place = tempfile::tempdir().expect("a directory");
    fs::create_dir(place.path().join("tickwire-data")).expect("there is room");
    for file in ["admin.address", "admin.token"] {
        fs::copy(server.data.path().join(file), place.path().join("tickwire-data").join(file)).expect("it is there");
    }
    let own = fs::read_to_string(server.data.path().join("admin.address")).expect("it is there");
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let others = other.local_addr().expect("it is bound").to_string();
    let ask = |address: &str, named: &[&str], data_dir: Option<&str>| {
        let mut command = command();
        command.current_dir(place.path()).args(["admin", "info", "--address", address]).args(named);
        command.envs(data_dir.map(|data_dir| ("TICKWIRE_DATA_DIR", data_dir))).output().expect("the binary runs")
    };
    let refused = ask(&others, &[], None);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("name the file of the one for 127.0.0.1:"), "{}", stderr(&refused));
    other.set_nonblocking(true).expect("it is a socket");
    assert!(other.accept().is_err(), "nobody has connected");
    assert!(ask(own.trim(), &[], None).status.success(), "it is its own");
    // As where a server is reached by another address than it knows of.
    fs::write(place.path().join("tickwire-data").join("admin.address"), &others).expect("there is room");
    assert_eq!(ask(own.trim(), &[], None).status.code(), Some(2));
    for answered in [
        ask(own.trim(), &["--data-dir", "tickwire-data"], None),
        ask(own.trim(), &[], Some("tickwire-data")),
        ask(own.trim(), &["--token-file", "tickwire-data/admin.token"], None),
    ] {
        assert!(answered.status.success(), "{}", stderr(&answered));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_gives_players_the_time_that_it_is_told_and_an_admin_sees_it() {
    let mut server = Running::start(&["--drain-seconds", "3600"]);
    let mut client = Client::connect(&server.url, &JoinOptions::default()).await.expect("it is let in");
    server.signal("-TERM");
    let told = loop {
        if let Some(Event::Draining(time)) = client.next().await.expect("the stream goes on") {
            break time;
        }
    };
    assert_eq!(told, Duration::from_secs(3600));
    assert_eq!(server.json(&["info"])["phase"], "draining");
    let refused = server.admin(&["cancel-drain"]);
    assert!(stderr(&refused).contains("by a signal"), "{}", stderr(&refused));
    client.leave().await.expect("it is let go");
    drop(client);
    assert_eq!(server.code(), Some(0));
    for file in ["admin.address", "admin.token"] {
        assert!(!server.data.path().join(file).exists(), "{file} is left");
    }
}

#[test]
fn an_admin_changes_which_log_lines_are_written() {
    let server = Running::start(&[]);
    let first = server.json(&["log-filter", "debug"])["previous"].clone();
    assert_ne!(first, "debug");
    assert_eq!(server.json(&["log-filter", "warn"])["previous"], "debug");
    let wrong = server.admin(&["log-filter", "tickwire_server=loud"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("is no filter of log lines"), "{}", stderr(&wrong));
}

#[test]
fn a_drain_by_an_admin_ends_the_program_with_code_0() {
    let mut server = Running::start(&[]);
    let said = stdout(&server.admin(&["drain", "--deadline", "10m"]));
    assert!(said.starts_with("the server ends when nobody plays any more"), "{said}");
    assert_eq!(server.code(), Some(0));
}

#[test]
fn a_server_without_a_listener_for_admins_leaves_no_files_for_them() {
    let server = Running::start(&["--admin-listen", "off"]);
    assert!(!server.data.path().join("admin.address").exists());
    assert_eq!(server.admin(&["info"]).status.code(), Some(3));
}
