//! Keys and tickets with the server as a process: its commands make them, its options take them, and neither its output nor
//! its files ever hold them.

#![cfg(unix)]

#[allow(dead_code, reason = "each binary needs its part of it")]
mod program;

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tempfile::TempDir;
use tickwire_client::{
    Chat, ChatEvent, ChatTo, ChatToken, Client, Event, JoinOptions, Secret, Spectator, WatchOptions,
};
use tickwire_proto::{
    PROTOCOL_VERSION,
    v1::{
        self as pb, game_service_client::GameServiceClient, join_session_request::Target,
        recording_service_client::RecordingServiceClient, session_service_client::SessionServiceClient,
    },
};
use tickwire_ticket::{Claims, KeyRing, Role};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Streaming,
    transport::{Channel, Endpoint},
};

use self::program::{BINARY, address_in, command, run, unaware};

const PATIENCE: Duration = Duration::from_secs(20);
const SUBJECT: &str = "player-81";

fn stdout(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Files of keys in a directory of their own, and the secrets among them.
struct Keys {
    directory: TempDir,
    api_key: String,
}

impl Keys {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let made = run(&["keys", "new-api-key", "backend"]);
        let text = String::from_utf8(made.stdout).expect("UTF-8");
        let [api_key, line] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}: a key and its line") };
        write(&directory.path().join("api-keys"), &format!("{line}\n"));
        write(&directory.path().join("ticket-keys.json"), &stdout(&["keys", "new-ticket-key", "--kid", "2026-11"]));
        let admin = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("the name is good");
        write(&directory.path().join("admin.pem"), &admin.cert.pem());
        write(&directory.path().join("admin.key"), &admin.signing_key.serialize_pem());
        Self { api_key: api_key.to_owned(), directory }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    fn ticket(&self, arguments: &[&str]) -> String {
        let keys = self.path("ticket-keys.json");
        let all = [&["keys", "ticket", "--ticket-keys", &keys, "--subject", SUBJECT][..], arguments].concat();
        stdout(&all).trim().to_owned()
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("they are ours");
}

/// A program that runs. Dropped, it is killed: what it writes down would fill the disk after a test that fails.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server that asks for tickets, and writes down all that it has to say.
struct Running {
    program: Program,
    url: String,
    log: PathBuf,
    /// What it prints behind its first line.
    printed: JoinHandle<String>,
}

impl Running {
    fn start(keys: &Keys, data: &Path) -> Self {
        let log = keys.directory.path().join("log");
        let append = File::options().create(true).append(true).open(&log).expect("it can be written");
        Self { log, ..Self::start_as(command(), append, keys, data) }
    }

    /// Whatever the program is started by.
    fn start_as(mut command: Command, stderr: impl Into<Stdio>, keys: &Keys, data: &Path) -> Self {
        let child = command
            .env("TICKWIRE_LOG", "trace")
            .args(["--listen", "127.0.0.1:0", "--auth", "ticket", "--keyframe-seconds", "1"])
            .args(["--ticket-keys", &keys.path("ticket-keys.json"), "--api-keys", &keys.path("api-keys")])
            .args([
                "--admin-tls-cert",
                &keys.path("admin.pem"),
                "--admin-tls-key",
                &keys.path("admin.key"),
                "--data-dir",
            ])
            .arg(data)
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the binary runs");
        let mut program = Program(child);
        let mut first = String::new();
        let mut prints = BufReader::new(program.0.stdout.take().expect("it is piped"));
        prints.read_line(&mut first).expect("it prints");
        let url = format!("http://{}", address_in(&first));
        let printed = std::thread::spawn(move || {
            let mut printed = first;
            prints.read_to_string(&mut printed).expect("UTF-8");
            printed
        });
        Self { program, url, log: PathBuf::new(), printed }
    }

    /// Its log, and what it has printed.
    fn stop(mut self) -> (PathBuf, String) {
        let number = self.program.0.id().to_string();
        let signalled = Command::new("kill").args(["-TERM", &number]).status().expect("kill runs");
        assert!(signalled.success());
        assert_eq!(self.program.0.wait().expect("it is a child").code(), Some(0));
        (self.log, self.printed.join().expect("it does not panic"))
    }
}

async fn join(url: &str, ticket: &str) -> Result<Client, String> {
    let options = JoinOptions { ticket: Secret::from(ticket.to_owned()), ..JoinOptions::default() };
    Client::connect(url, &options).await.map_err(|error| error.to_string())
}

async fn play_a_little(client: &mut Client) {
    let played = async {
        let mut snapshots = 0;
        while snapshots < 90 {
            if let Some(Event::Snapshot(_)) = client.next().await.expect("it goes on") {
                snapshots += 1;
            }
        }
    };
    timeout(PATIENCE, played).await.expect("it plays");
}

/// All files below a directory.
fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Somebody who plays without a library, which would keep to itself what it is given.
struct Player {
    _up: mpsc::Sender<pb::ClientMessage>,
    _down: Streaming<pb::ServerMessage>,
    welcome: pb::Welcome,
}

impl Player {
    async fn greet(channel: &Channel, hello: pb::Hello) -> Self {
        let (up, messages) = mpsc::channel(4);
        let hello = pb::Hello { protocol_version: PROTOCOL_VERSION, ..hello };
        up.send(pb::ClientMessage { kind: Some(pb::client_message::Kind::Hello(hello)) }).await.expect("it is open");
        let stream = GameServiceClient::new(channel.clone()).play(ReceiverStream::new(messages)).await;
        let mut down = stream.expect("it takes streams").into_inner();
        let first = timeout(PATIENCE, down.message()).await.expect("it answers").expect("it is let in");
        match first.and_then(|message| message.kind) {
            Some(pb::server_message::Kind::Welcome(welcome)) => Self { _up: up, _down: down, welcome },
            other => panic!("{other:?} instead of a welcome"),
        }
    }
}

async fn talk_a_little(mut chat: Chat) {
    chat.say(ChatTo::Everyone, "hello", 1);
    let talked = async { while !matches!(chat.next().await.expect("it goes on"), Some(ChatEvent::Line(_))) {} };
    timeout(PATIENCE, talked).await.expect("it is said");
}

/// As secrets could stand in a file: as they are, and as programs print bytes.
fn forms(secret: &[u8]) -> [Vec<u8>; 5] {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let listed = secret.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    [
        secret.to_vec(),
        hex.clone().into_bytes(),
        hex.to_uppercase().into_bytes(),
        listed.into_bytes(),
        URL_SAFE_NO_PAD.encode(secret).into_bytes(),
    ]
}

/// Those of a token of the server's: its first bytes are what it is looked up by.
fn token_forms(token: &[u8]) -> Vec<Vec<u8>> {
    assert_eq!(token.len(), 32);
    let text = URL_SAFE_NO_PAD.encode(token);
    forms(&token[8..]).into_iter().chain([text.as_bytes()[11..].to_vec()]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_stands_in_what_a_server_says_or_leaves() {
    let (keys, data) = (Keys::new(), tempfile::tempdir().expect("a directory"));
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    let shared = stdout(&["keys", "new-ticket-key", "--kid", "shared", "--algorithm", "HS256"]);
    let mut set = json(&fs::read_to_string(keys.path("ticket-keys.json")).expect("it is there"));
    let both = [&set["keys"][0], &json(&shared)["keys"][0]].map(Clone::clone);
    set["keys"] = both.to_vec().into();
    write(Path::new(&keys.path("ticket-keys.json")), &set.to_string());
    let server = Running::start(&keys, data.path());
    // Whole, or as it is typed.
    let session = ["--session", "arena-1"];
    let good = keys.ticket(&session);
    let mut client = join(&server.url, &good).await.expect("the ticket is good");
    play_a_little(&mut client).await;
    let mut tokens = vec![client.core().resume_token().to_vec()];
    drop(client);
    let options = JoinOptions { resume_token: tokens[0].clone(), ..JoinOptions::default() };
    let mut client = Client::connect(&server.url, &options).await.expect("the seat is kept");
    play_a_little(&mut client).await;
    tokens.push(client.core().resume_token().to_vec());

    // Whatever can go wrong with a ticket or a key.
    let wrong_audience = keys.ticket(&["--game", "arena", "--audience", "elsewhere"]);
    let wrong_role = keys.ticket(&["--game", "arena", "--role", "spectator"]);
    let forged = format!("{}x", keys.ticket(&session));
    for (ticket, said) in
        [(&good, "get a new one"), (&wrong_audience, "aud"), (&wrong_role, "role player"), (&forged, "signature")]
    {
        let error = join(&server.url, ticket).await.map(drop).expect_err("it is refused");
        assert!(error.contains(said), "{error}");
    }
    let join_options = JoinOptions { ticket: wrong_role.clone().into(), ..JoinOptions::default() };
    let watched =
        Spectator::connect(&server.url, &WatchOptions { join: join_options, ..WatchOptions::default() }).await;
    let mut watched = watched.expect("to watch it is good");
    tokens.push(watched.token().to_vec());
    drop(watched.chat().await.expect("spectators read"));
    drop(watched);
    let operator = keys.ticket(&["--role", "operator"]);
    let channel = Endpoint::from_shared(server.url.clone()).expect("a URL").connect().await.expect("it listens");
    let mut recordings = RecordingServiceClient::new(channel.clone());
    for (bearer, is_good) in [(&keys.api_key, true), (&operator, true), (&operator, true), (&forged, false)] {
        let mut request = Request::new(pb::ListRecordingsRequest::default());
        request.metadata_mut().insert("authorization", format!("Bearer {bearer}").parse().expect("ASCII"));
        assert_eq!(recordings.list_recordings(request).await.is_ok(), is_good);
    }
    client.leave().await.expect("it may go");

    // A session that is joined by code, and all that one who joins is given.
    let bearing_key = |bearer: &str| format!("Bearer {bearer}").parse().expect("ASCII");
    let mut sessions = SessionServiceClient::new(channel.clone());
    let session = pb::NewSession { visibility: pb::SessionVisibility::ByCode.into(), ..pb::NewSession::default() };
    let mut create = Request::new(pb::CreateSessionRequest { session: Some(session), ..Default::default() });
    create.metadata_mut().insert("authorization", bearing_key(&keys.api_key));
    let code = sessions.create_session(create).await.expect("the key is good").into_inner().join_code;
    let target = Some(Target::JoinCode(code.clone()));
    let mut join_it = Request::new(pb::JoinSessionRequest { target, ..Default::default() });
    join_it.metadata_mut().insert("authorization", bearing_key(&keys.api_key));
    let reserved = sessions.join_session(join_it).await.expect("it is the code").into_inner().ticket;
    let player = Player::greet(&channel, pb::Hello { ticket: reserved.clone(), ..pb::Hello::default() }).await;
    let pb::Welcome { resume_token, attach_token, chat_token, .. } = player.welcome.clone();
    let stripe =
        Player::greet(&channel, pb::Hello { attach_token: attach_token.clone(), ..pb::Hello::default() }).await;
    talk_a_little(Chat::connect(&server.url, ChatToken::Player(chat_token.clone())).await.expect("it is theirs")).await;
    let mut forged_token = chat_token.clone();
    forged_token[31] ^= 1;
    Chat::connect(&server.url, ChatToken::Player(forged_token)).await.map(drop).expect_err("it is nobody's");
    tokens.extend([resume_token, attach_token, chat_token]);
    let ring = KeyRing::from_jwks(&shared).expect("it was just made");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs();
    let claims = Claims::new("tickwire", SUBJECT, Role::Player, now).expect("randomness");
    let by_shared = ring.sign(&Claims { game: Some("arena".into()), ..claims }).expect("it has a private key");
    drop(join(&server.url, by_shared.reveal()).await.expect("the ticket is good"));

    // An admin, and one who is none.
    let admin_token = fs::read_to_string(data.path().join("admin.token")).expect("the server has made one");
    let admin_token = admin_token.trim();
    write(Path::new(&keys.path("wrong.token")), &format!("{}0\n", &admin_token[1..]));
    let data_path = data.path().to_str().expect("UTF-8");
    let trust = keys.path("admin.pem");
    let asked = ["admin", "broadcast", "hello", "--data-dir", data_path, "--tls-ca", &trust];
    let output = run(&asked);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let denied = run(&[&asked[..], &["--token-file", &keys.path("wrong.token")]].concat());
    assert_eq!(denied.status.code(), Some(4), "{}", String::from_utf8_lossy(&denied.stderr));
    drop((player, stripe));
    let (log, mut printed) = server.stop();
    for output in [output, denied] {
        printed += &String::from_utf8(output.stdout).expect("UTF-8");
        printed += &String::from_utf8(output.stderr).expect("UTF-8");
    }
    write(Path::new(&keys.path("printed")), &printed);

    let mut found = vec![log, keys.path("printed").into()];
    files(data.path(), &mut found);
    assert!(found.iter().any(|file| file.ends_with("audit.jsonl")), "{found:?}");
    // Recordings are compressed.
    let recordings: Vec<PathBuf> =
        found.iter().filter(|file| file.extension().is_some_and(|it| it == "mcap")).cloned().collect();
    assert_eq!(recordings.len(), 2, "{found:?}");
    for (number, recording) in recordings.iter().enumerate() {
        let plain = keys.directory.path().join(format!("plain-{number}.mcap"));
        let [from, to] = [recording, &plain].map(|path| path.to_str().expect("UTF-8"));
        stdout(&["recordings", "export", "--format", "mcap", "--output", to, from]);
        found.push(plain);
    }

    let private = |place: usize, part: &str| {
        let text = set["keys"][place][part].as_str().expect("a private key");
        forms(&URL_SAFE_NO_PAD.decode(text).expect("base64"))
    };
    let part_of = |ticket: &str, part: usize| ticket.split('.').nth(part).expect("a part").to_owned();
    let mut secrets = vec![keys.api_key.clone().into_bytes(), admin_token.as_bytes().to_vec()];
    secrets.extend(private(0, "d").into_iter().chain(private(1, "k")));
    let tickets = [&good, &wrong_audience, &wrong_role, &forged, &operator, &reserved];
    secrets.extend(tickets.map(|ticket| part_of(ticket, 2).into_bytes()));
    secrets.push(part_of(by_shared.reveal(), 2).into_bytes());
    let claims =
        json(std::str::from_utf8(&URL_SAFE_NO_PAD.decode(part_of(&reserved, 1)).expect("base64")).expect("UTF-8"));
    tokens.push(URL_SAFE_NO_PAD.decode(claims["rsv"].as_str().expect("it has a seat kept")).expect("base64"));
    let plain_code = code.replace('-', "");
    secrets.extend([&code, &plain_code].map(|code| code.clone().into_bytes()));
    secrets.extend([&code, &plain_code].map(|code| code.to_lowercase().into_bytes()));
    let tls_key = fs::read_to_string(keys.path("admin.key")).expect("it is there");
    secrets.extend(tls_key.lines().filter(|line| !line.starts_with("-----")).map(|line| line.as_bytes().to_vec()));
    secrets.extend(tokens.iter().flat_map(|token| token_forms(token)));
    assert!(secrets.iter().all(|secret| secret.len() >= 9), "shorter ones stand anywhere");
    for file in &found {
        let bytes = fs::read(file).expect("it is there");
        for secret in &secrets {
            assert!(!contains(&bytes, secret), "{}: {}", file.display(), String::from_utf8_lossy(secret));
        }
    }
    // It would be found where it were: what is no secret is.
    let log = fs::read_to_string(&found[0]).expect("it is there");
    assert!(log.contains(SUBJECT) && log.contains("TRACE") && printed.contains("127.0.0.1"), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_ticket_stays_used_when_its_server_is_killed() {
    let (keys, data) = (Keys::new(), tempfile::tempdir().expect("a directory"));
    let mut server = Running::start(&keys, data.path());
    let ticket = keys.ticket(&["--game", "arena", "--valid", "5m"]);
    let client = join(&server.url, &ticket).await.expect("the ticket is good");
    server.program.0.kill().expect("it runs");
    server.program.0.wait().expect("it is a child");
    drop(client);
    let server = Running::start(&keys, data.path());
    let error = join(&server.url, &ticket).await.map(drop).expect_err("it was used");
    assert!(error.contains("get a new one"), "{error}");
    join(&server.url, &keys.ticket(&["--game", "arena"])).await.expect("another one is good");
    server.stop();
}

/// The server where no file can have more than a few blocks: what goes beyond is an error.
fn with_small_files() -> Command {
    let mut program = unaware(Command::new("sh"));
    program.args(["-c", r#"trap "" XFSZ; ulimit -f 2; exec "$0" "$@" --recordings off --drain-seconds 0"#]);
    program.arg(BINARY);
    program
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_lets_nobody_in_keeps_their_seat_and_does_not_hold_up_the_end() {
    let (keys, data) = (Keys::new(), tempfile::tempdir().expect("a directory"));
    let server = Running::start_as(with_small_files(), Stdio::null(), &keys, data.path());
    let channel = Endpoint::from_shared(server.url.clone()).expect("a URL").connect().await.expect("it listens");
    let mut sessions = SessionServiceClient::new(channel);
    let mut request = Request::new(pb::JoinSessionRequest {
        target: Some(Target::Name("sessions/arena-1".into())),
        ..pb::JoinSessionRequest::default()
    });
    request.metadata_mut().insert("authorization", format!("Bearer {}", keys.api_key).parse().expect("ASCII"));
    let reserved = sessions.join_session(request).await.expect("a seat is free").into_inner();

    // Whoever opens this to write waits for somebody who reads it: the file that is written anew once a line does not fit.
    assert!(Command::new("mkfifo").arg(data.path().join("used-tickets.new")).status().expect("mkfifo runs").success());
    let ring = KeyRing::from_jwks(&fs::read_to_string(keys.path("ticket-keys.json")).expect("it is there"));
    let ring = ring.expect("it was just made");
    let ticket = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs();
        let claims = Claims::new("tickwire", SUBJECT, Role::Player, now).expect("randomness");
        ring.sign(&Claims { game: Some("arena".into()), ..claims }).expect("it has a private key")
    };
    let mut refused = None;
    for _ in 0..64 {
        refused = join(&server.url, ticket().reveal()).await.map(drop).err();
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.expect("no more lines fit");
    assert!(refused.contains("cannot be written down"), "{refused}");

    let refused = join(&server.url, &reserved.ticket).await.map(drop).expect_err("the disk hangs");
    assert!(refused.contains("within 2s"), "{refused}");
    let named = pb::GetSessionRequest { name: "sessions/arena-1".into() };
    let session = sessions.get_session(named).await.expect("it is there").into_inner();
    assert_eq!(session.reserved, 1, "the seat is kept");
    drop(sessions);
    server.stop();
}

#[test]
fn keys_and_tickets_that_cannot_be_made_are_told_why() {
    let keys = Keys::new();
    let refused = |arguments: &[&str]| {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    assert!(refused(&["keys", "new-api-key", "a b"]).contains("1 to 64 letters"));
    assert!(refused(&["keys", "new-ticket-key", "--kid", "a b"]).contains("kid"));
    let file = keys.path("ticket-keys.json");
    let ticket = |arguments: &[&str]| {
        refused(&[&["keys", "ticket", "--subject", "ann", "--ticket-keys", &file][..], arguments].concat())
    };
    assert!(ticket(&[]).contains("session"), "{}", ticket(&[]));
    assert!(ticket(&["--game", "arena", "--valid", "1h"]).contains("1s to 5m"));
    assert!(ticket(&["--game", "arena", "--role", "root"]).contains("choose player"));
    assert!(ticket(&["--game", "BAD G"]).contains("no game has this name: write 1 to 64 lower-case letters"));
    assert!(ticket(&["--session", "Arena 1"]).contains("is not a session's name"));
    let public = stdout(&["keys", "public-ticket-keys", &file]);
    write(Path::new(&file), &public);
    assert!(!public.contains("\"d\"") && ticket(&["--game", "arena"]).contains("no private key"));
    write(Path::new(&file), &stdout(&["keys", "new-ticket-key", "--algorithm", "HS256"]));
    assert!(refused(&["keys", "public-ticket-keys", &file]).contains("one secret for all"));
}

#[test]
fn options_are_checked_and_shown_without_what_is_in_their_files() {
    let keys = Keys::new();
    let files = ["--ticket-keys", &keys.path("ticket-keys.json"), "--api-keys", &keys.path("api-keys")];
    let shown = stdout(
        &[&["--print-config", "--auth", "ticket", "--allowed-hosts", "a.example,b.example:1"][..], &files].concat(),
    );
    assert!(
        shown.contains("auth = \"ticket\" # flag") && shown.contains("allowed_hosts = [\"a.example\",\"b.example:1\"]")
    );
    assert!(
        shown.contains("/ticket-keys.json\"") && !shown.contains(&keys.api_key) && !shown.contains("\"d\""),
        "{shown}"
    );

    let refused = |arguments: &[&str]| {
        let output = run(&[&["--print-config"], arguments].concat());
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    assert!(refused(&["--auth", "ticket"]).contains("--ticket-keys"));
    assert!(refused(&["--listen", "0.0.0.0:0"]).contains("nobody is asked who they are"));
    let beyond = refused(&[&["--listen", "0.0.0.0:0", "--auth", "ticket"][..], &files].concat());
    assert!(beyond.contains("tickets among it") && !beyond.contains("nobody is asked"), "{beyond}");
    assert!(refused(&["--allowed-origins", "*"]).contains("is no origin"));
    assert!(refused(&["--api-keys", "nowhere"]).contains("cannot read nowhere"));
}

#[test]
fn files_of_keys_that_anybody_can_read_are_warned_of() {
    let (keys, data) = (Keys::new(), tempfile::tempdir().expect("a directory"));
    let warning = "anybody on this machine can read";
    let log = fs::read_to_string(Running::start(&keys, data.path()).stop().0).expect("it is there");
    assert!(!log.contains(warning));
    fs::set_permissions(keys.path("ticket-keys.json"), fs::Permissions::from_mode(0o644)).expect("they are ours");
    let log = fs::read_to_string(Running::start(&keys, data.path()).stop().0).expect("it is there");
    assert!(log.lines().any(|line| line.contains(warning) && line.contains("ticket-keys.json")));
}
