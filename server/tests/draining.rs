//! The program's end by SIGTERM, with several sessions, and clients among whom some ignore whatever they are told.

#![cfg(unix)]

#[allow(dead_code, reason = "each binary needs its part of it")]
mod program;

use std::{
    io::{BufRead as _, BufReader},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tickwire_proto::{
    PROTOCOL_VERSION,
    v1::{
        Ack, ChatHello, ChatMessage, ClientMessage, GoodbyeReason, Hello, NoticeKind, ServerMessage, WatchRequest,
        WatchSessionsRequest, WatchSessionsResponse, Welcome, chat_message, chat_service_client::ChatServiceClient,
        client_message, game_service_client::GameServiceClient, server_message::Kind,
        session_service_client::SessionServiceClient,
    },
};
use tickwire_recording::{EndReason, Recording, RecordingState};
use tokio::{runtime, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};

use self::program::{address_in, command, data, files, verified};

const SESSIONS: usize = 3;
const DRAIN_SECONDS: u32 = 2;
/// In each session.
const PLAYERS: usize = 2;
/// In each session, of those who ignore everything.
const DEAF: usize = 2;
/// Each player has seen so many before the end begins.
const SNAPSHOTS: usize = 20;

#[test]
#[expect(clippy::print_stderr, reason = "how long it takes is for people, and the program's own guard holds it")]
fn a_deadline_that_passes_ends_all_sessions_cleanly_whoever_ignores_it() {
    let data = data();
    let (mut server, address) = start(data.path());
    let url = format!("http://{address}");
    let names: Vec<String> = (1..=SESSIONS).map(|number| format!("sessions/arena-{number}")).collect();

    // Once they are in, nothing runs them any more: open sockets that nobody reads, and of which nobody answers.
    let deaf_runtime = runtime::Builder::new_current_thread().enable_all().build().expect("it can be had");
    let mut deaf = Vec::new();
    for name in &names {
        for number in 0..DEAF {
            deaf.push(deaf_runtime.block_on(Deaf::come(&url, name, number)));
        }
    }
    let silent = TcpStream::connect(&address).expect("it listens");

    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("it can be had");
    let mut players = Vec::new();
    for name in &names {
        for _ in 0..PLAYERS {
            let player = runtime.block_on(Player::join(&url, name));
            players.push(runtime.spawn(player.play_to_the_end()));
        }
    }

    let began = Instant::now();
    let signalled = Command::new("kill").args(["-TERM", &server.id().to_string()]).status().expect("kill runs");
    assert!(signalled.success());
    let code = server.wait().expect("it is a child").code();
    let took = began.elapsed();
    eprintln!("deadline {DRAIN_SECONDS} s, {} who ignore everything: ended after {took:?}", deaf.len());
    // The program has another code where its end takes longer than the deadline and 5 s.
    assert_eq!(code, Some(0));
    assert!(took >= Duration::from_secs(DRAIN_SECONDS.into()), "those who ignore it play on until then");
    for player in players {
        let told = runtime.block_on(player).expect("it plays to the end");
        assert_eq!(told, (Some(DRAIN_SECONDS * 1000), GoodbyeReason::Shutdown));
    }
    drop((deaf, silent));

    let files = files(data.path());
    assert_eq!(files.len(), SESSIONS, "each is closed, and nothing else is left: {files:?}");
    for file in files {
        let recording = Recording::open(&file).expect("a recording");
        assert_eq!(recording.scan().state, RecordingState::Complete(EndReason::Shutdown), "{}", file.display());
        assert!(!recording.lacks_indexes(), "{} is not closed", file.display());
        assert!(verified(&file).ticks as usize >= SNAPSHOTS, "{}", file.display());
    }
}

/// The server, and where it listens.
fn start(data: &Path) -> (Child, String) {
    let mut child = command()
        .args(["--listen", "127.0.0.1:0", "--sessions", &SESSIONS.to_string()])
        .args(["--drain-seconds", &DRAIN_SECONDS.to_string(), "--data-dir"])
        .arg(data)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("it is piped")).read_line(&mut line).expect("it prints");
    let address = address_in(&line).to_owned();
    (child, address)
}

/// Who joins, and then neither reads nor says anything, nor goes.
struct Deaf {
    _player: Player,
    _said: mpsc::Sender<ChatMessage>,
    _chat: Streaming<ChatMessage>,
    _watched: Streaming<ServerMessage>,
    _sessions: Streaming<WatchSessionsResponse>,
}

impl Deaf {
    async fn come(url: &str, session: &str, number: usize) -> Self {
        let endpoint = Endpoint::from_shared(url.to_owned()).expect("a URL");
        // Some take next to nothing to begin with.
        let endpoint = if number == 0 { endpoint.initial_stream_window_size(256) } else { endpoint };
        let channel = endpoint.connect().await.expect("it listens where it says");
        let player = Player::take_a_seat(channel.clone(), session).await;

        let (said, sayings) = mpsc::channel(1);
        let hello = ChatHello { chat_token: player.welcome.chat_token.clone(), ..ChatHello::default() };
        said.send(ChatMessage { kind: Some(chat_message::Kind::Hello(hello)) }).await.expect("the stream is open");
        let chat = ChatServiceClient::new(channel.clone()).chat(ReceiverStream::new(sayings)).await;
        let mut chat = chat.expect("it takes streams").into_inner();
        chat.message().await.expect("it is the player's").expect("a welcome");

        let request = WatchRequest { hello: Some(hello_to(session)), ..WatchRequest::default() };
        let watched = GameServiceClient::new(channel.clone()).watch(request).await.expect("there is room");
        let mut watched = watched.into_inner();
        watched.message().await.expect("it is taken").expect("a welcome");

        let sessions = SessionServiceClient::new(channel).watch_sessions(WatchSessionsRequest::default()).await;
        let sessions = sessions.expect("there is room").into_inner();
        Self { _player: player, _said: said, _chat: chat, _watched: watched, _sessions: sessions }
    }
}

/// Who plays, reads, and goes when told.
struct Player {
    up: mpsc::Sender<ClientMessage>,
    down: Streaming<ServerMessage>,
    welcome: Welcome,
}

fn hello_to(session: &str) -> Hello {
    Hello { protocol_version: PROTOCOL_VERSION, session: session.into(), ..Hello::default() }
}

impl Player {
    async fn take_a_seat(channel: Channel, session: &str) -> Self {
        let (up, messages) = mpsc::channel(64);
        let hello = ClientMessage { kind: Some(client_message::Kind::Hello(hello_to(session))) };
        up.send(hello).await.expect("the stream is open");
        let stream = GameServiceClient::new(channel).play(ReceiverStream::new(messages)).await;
        let mut down = stream.expect("it takes streams").into_inner();
        let first = down.message().await.expect("a seat is free").and_then(|message| message.kind);
        let Some(Kind::Welcome(welcome)) = first else { panic!("{first:?} instead of a welcome") };
        Self { up, down, welcome }
    }

    /// Takes a seat, and plays for a while.
    async fn join(url: &str, session: &str) -> Self {
        let endpoint = Endpoint::from_shared(url.to_owned()).expect("a URL");
        let mut player = Self::take_a_seat(endpoint.connect().await.expect("it listens"), session).await;
        for _ in 0..SNAPSHOTS {
            while !matches!(player.next().await, Kind::Snapshot(_)) {}
        }
        player
    }

    /// The next message; a snapshot is acknowledged.
    async fn next(&mut self) -> Kind {
        let message = self.down.message().await.expect("the stream goes on").expect("it goes on");
        let kind = message.kind.expect("the server sends no empty message");
        if let Kind::Snapshot(snapshot) = &kind {
            let ack = Ack { epoch: snapshot.epoch, newest_tick: snapshot.tick };
            let ack = ClientMessage { kind: Some(client_message::Kind::Ack(ack)) };
            // An error says that the stream has ended, of which it is still to be read why.
            let _ = self.up.send(ack).await;
        }
        kind
    }

    /// The deadline that it was given, and why it was sent away.
    async fn play_to_the_end(mut self) -> (Option<u32>, GoodbyeReason) {
        let mut deadline_ms = None;
        loop {
            match self.next().await {
                Kind::Notice(notice) if notice.kind() == NoticeKind::Draining => deadline_ms = Some(notice.deadline_ms),
                Kind::Goodbye(goodbye) => return (deadline_ms, goodbye.reason()),
                _ => {}
            }
        }
    }
}
