//! The end of a server, and of a session whose game fails.

use std::{sync::Arc, time::Duration};

use bevy_ecs::prelude::*;
use tickwire_proto::v1::{
    self as pb, GetSessionRequest, SessionState, client_message::Kind, server_message,
    session_service_client::SessionServiceClient,
};
use tickwire_recording::{EndReason, Recording, RecordingState, verify};
use tickwire_server::{ServerConfig, Timeouts};
use tickwire_shared::{Definition, Game, InputField, InputId, Inputs, Quantity, Settings, Systems, Tick};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::harness::{
    RawClient, TestServer, Witness, config, eventually, field_of, hello, input, patient, reason_of, within_patience,
};

/// A game that panics, or dawdles, when a player wants it to.
pub(crate) struct Fuse;

const PANIC: InputId = InputId(0);
const DAWDLE: InputId = InputId(1);

impl Game for Fuse {
    fn name(&self) -> &'static str {
        "fuse"
    }

    fn define(&self, game: &mut Definition) {
        game.input(InputField::edge("panic", Quantity::count(0..=1)));
        game.input(InputField::edge("dawdle", Quantity::count(0..=1)));
    }

    fn setup(&self, _world: &mut World, _settings: &Settings) {}

    fn systems(&self, systems: &mut Systems) {
        systems.add(|inputs: Res<Inputs>| {
            for (player, input) in inputs.iter() {
                assert!(!input.pressed(PANIC), "player {player} lit the fuse");
                if input.pressed(DAWDLE) {
                    // Fifteen ticks' time, of which five are caught up.
                    std::thread::sleep(Duration::from_millis(250));
                }
            }
        });
    }
}

pub(crate) async fn press(client: &mut RawClient, values: Vec<i32>) {
    let newest = client.play_until(|_| true).await.tick;
    let inputs = vec![pb::Input { values, ..input(1, newest + 10) }];
    client.send(Kind::Inputs(pb::Inputs { epoch: 0, newest_tick: newest, inputs })).await;
}

#[tokio::test]
async fn a_game_that_panics_ends_its_own_session_only() {
    let directory = tempfile::tempdir().expect("a directory");
    let recordings = Some(directory.path().to_owned());
    // A panic's backtrace may take seconds, in which players say nothing.
    let config = ServerConfig { sessions: 2, recordings, timeouts: patient(), ..config() };
    let server = TestServer::start(config, vec![Arc::new(Fuse)]).await;
    let mut witness = Witness::join(&server).await;
    let second = pb::Hello { session: "sessions/fuse-2".into(), ..hello() };
    let mut client = RawClient::greet(&server, second.clone()).await;
    client.welcome().await;
    press(&mut client, vec![1]).await;

    let (goodbye, status) = witness.plays_during(client.end()).await;
    assert_eq!(goodbye.expect("it says why").reason(), pb::GoodbyeReason::SessionFailed);
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::Aborted, "SESSION_FAILED"));
    let status = RawClient::greet(&server, second).await.end().await.1;
    assert_eq!((status.code(), field_of(&status).as_str()), (Code::FailedPrecondition, "hello.session"));
    let mut sessions = SessionServiceClient::new(server.channel().await);
    let mut state = async |name: &str| {
        let request = GetSessionRequest { name: name.into() };
        sessions.get_session(request).await.expect("it is there").into_inner().state()
    };
    assert_eq!(state("sessions/fuse-2").await, SessionState::Failed);
    assert_eq!(state("sessions/fuse-1").await, SessionState::Running);
    witness.plays_on().await;
    server.stop().await;

    let mut ends = Vec::new();
    for listed in tickwire_recording::list(directory.path()).expect("it is there") {
        let summary = listed.summary.expect("it is readable");
        let verified = verify(&Recording::open(&listed.path).expect("it opens"), Arc::new(Fuse)).expect("it replays");
        assert_eq!(verified.panic.map(|panic| panic.message).is_some(), summary.meta.session == "sessions/fuse-2");
        ends.push(summary.state);
    }
    let failed = EndReason::Failed { message: "player 1 lit the fuse".into() };
    assert_eq!(ends, [RecordingState::Complete(EndReason::Shutdown), RecordingState::Complete(failed)]);
}

#[tokio::test]
async fn a_session_that_failed_waits_for_nobody_who_takes_nothing() {
    let (unacknowledged, end) = (Duration::from_secs(1), Duration::from_millis(100));
    let timeouts = Timeouts { unacknowledged, end, ..config().timeouts };
    let server = TestServer::start(ServerConfig { timeouts, ..config() }, vec![Arc::new(Fuse)]).await;
    let (mut lighter, _) = RawClient::join(&server).await;
    let endpoint = server.endpoint().initial_stream_window_size(0);
    let client = RawClient::open_on(endpoint.connect().await.expect("the server accepts")).await;
    client.send(Kind::Hello(hello())).await;
    eventually("it sits", || server.probe.seats() == 2).await;
    press(&mut lighter, vec![1]).await;
    lighter.end().await;
    eventually("its stream is cut off, however often it pings", || {
        let _ = client.up.try_send(pb::ClientMessage { kind: Some(Kind::Ping(pb::Ping { echo: 1 })) });
        server.probe.streams() == 0
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_whose_sessions_have_all_failed_serves_no_players_and_says_so() {
    let config = ServerConfig { sessions: 2, ..config() };
    let server = TestServer::start(config, vec![Arc::new(Fuse)]).await;
    let (mut whole, mut games) = (server.health("").await, server.health("tickwire.v1.GameService").await);
    for health in [&mut whole, &mut games] {
        assert_eq!(health.next().await, ServingStatus::Serving);
    }
    for session in ["sessions/fuse-1", "sessions/fuse-2"] {
        let mut client = RawClient::greet(&server, pb::Hello { session: session.into(), ..hello() }).await;
        client.welcome().await;
        // The first of them makes no difference.
        assert_eq!(server.health("").await.next().await, ServingStatus::Serving);
        press(&mut client, vec![1]).await;
        client.end().await;
    }
    for health in [&mut whole, &mut games] {
        assert_eq!(health.next().await, ServingStatus::NotServing);
    }
    assert_eq!(server.health("tickwire.v1.SessionService").await.next().await, ServingStatus::Serving);
    server.stop().await;
}

#[tokio::test]
async fn a_session_that_is_late_catches_up_and_tells_how_far_it_slipped() {
    let server = TestServer::start(config(), vec![Arc::new(Fuse)]).await;
    let (mut client, _) = RawClient::join(&server).await;
    press(&mut client, vec![0, 1]).await;
    let snapshot = client.play_until(|snapshot| snapshot.slip_us > 0).await;
    let (tick, slips) = server.probe.ticks()[0];
    assert!(slips >= 1 && tick >= snapshot.tick, "{slips} slips at tick {tick}");
    client.send(Kind::Ping(pb::Ping { echo: 7 })).await;
    let pong = loop {
        if let server_message::Kind::Pong(pong) = client.next().await.expect("the stream goes on") {
            break pong;
        }
    };
    assert!(pong.slip_us >= snapshot.slip_us, "{} µs after {} µs", pong.slip_us, snapshot.slip_us);
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_ends_tells_streams_first_and_takes_nobody_in() {
    let directory = tempfile::tempdir().expect("a directory");
    let drain = Duration::from_millis(400);
    let config = ServerConfig {
        recordings: Some(directory.path().to_owned()),
        timeouts: Timeouts { drain, ..config().timeouts },
        ..config()
    };
    let server = TestServer::arena(config).await;
    let channel = server.channel().await;
    let mut health = HealthClient::new(channel.clone());
    let mut is_serving = async || {
        let answer = health.check(HealthCheckRequest { service: "tickwire.v1.GameService".into() }).await;
        answer.expect("health answers").into_inner().status()
    };
    assert_eq!(is_serving().await, ServingStatus::Serving);
    let (mut client, _) = RawClient::join(&server).await;
    let mut newcomer = RawClient::open_on(channel.clone()).await;

    let (address, recordings) = (server.address, server.recordings.clone());
    let served = server.begin_stop();
    let notice = loop {
        match client.next().await.expect("the stream goes on") {
            server_message::Kind::Notice(notice) => break notice,
            server_message::Kind::Snapshot(snapshot) => client.ack(snapshot.tick).await,
            _ => {}
        }
    };
    assert_eq!((notice.kind(), notice.deadline_ms), (pb::NoticeKind::Draining, 400));
    assert_eq!(is_serving().await, ServingStatus::NotServing);
    let request = GetSessionRequest { name: crate::harness::ARENA_1.into() };
    let session = SessionServiceClient::new(channel).get_session(request).await.expect("it is there").into_inner();
    assert_eq!(session.state(), SessionState::Draining);
    let status = newcomer.end().await.1;
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::Unavailable, "SHUTTING_DOWN"));

    let (goodbye, status) = client.end().await;
    assert_eq!(goodbye.expect("it says why").reason(), pb::GoodbyeReason::Shutdown);
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::Unavailable, "SHUTTING_DOWN"));
    within_patience(served).await.expect("the server does not panic");
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "the port is closed");

    let [live] = recordings.as_slice() else { panic!("{recordings:?} of one session") };
    assert!(!live.exists(), "the live file is gone");
    let listed = tickwire_recording::list(directory.path()).expect("it is there");
    let states: Vec<_> = listed.into_iter().map(|listed| listed.summary.map(|summary| summary.state)).collect();
    assert!(matches!(states.as_slice(), [Ok(RecordingState::Complete(EndReason::Shutdown))]), "{states:?}");
}

#[tokio::test]
async fn a_server_does_not_wait_for_clients_that_read_nothing() {
    let end = Duration::from_millis(100);
    let server = TestServer::arena(ServerConfig { timeouts: Timeouts { end, ..config().timeouts }, ..config() }).await;
    let endpoint = server.endpoint().initial_stream_window_size(16);
    let client = RawClient::open_on(endpoint.connect().await.expect("the server accepts")).await;
    client.send(Kind::Hello(hello())).await;
    eventually("it sits", || server.probe.seats() == 1).await;
    let probe = server.probe.clone();
    server.stop().await;
    eventually("nothing is left", || (probe.connections(), probe.streams()) == (0, 0)).await;
    drop(client);
}

#[tokio::test]
async fn a_server_without_clients_ends_at_once_and_its_recording_is_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    // So long that waiting for it would fail the test.
    let drain = Duration::from_secs(3600);
    let config = ServerConfig {
        recordings: Some(directory.path().to_owned()),
        timeouts: Timeouts { drain, ..config().timeouts },
        ..config()
    };
    let server = TestServer::arena(config).await;
    eventually("some ticks", || server.probe.ticks()[0].0 > 3).await;
    server.stop().await;
    let listed = tickwire_recording::list(directory.path()).expect("it is there");
    let recording = Recording::open(&listed[0].path).expect("it opens");
    let verified = verify(&recording, Arc::new(tickwire_arena::Arena)).expect("it replays");
    assert!(Tick(verified.ticks) > Tick(3));
}
