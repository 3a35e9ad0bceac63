//! Many sessions in one process, on few threads; and one that hangs.

use std::{
    fs::{self, File},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bevy_ecs::prelude::*;
use tickwire_proto::v1::{
    self as pb, GetSessionRequest, SessionState, client_message::Kind, session_service_client::SessionServiceClient,
};
use tickwire_recording::{EndReason, Layout, Recording, RecordingState, Writer, verify};
use tickwire_server::{RecordingConfig, ServerConfig, Timeouts};
use tickwire_shared::{Definition, Game, InputField, InputId, Inputs, Quantity, Settings, Systems};
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::harness::{RawClient, TestServer, Witness, config, eventually, field_of, hello, input, reason_of};

/// A game that hangs when a player wants it to, while the test has its gate closed.
pub(crate) struct Hangs(pub(crate) Arc<Gate>);

#[derive(Default)]
pub(crate) struct Gate {
    is_closed: Mutex<bool>,
    changed: Condvar,
    is_waited_at: AtomicBool,
}

const HANG: InputId = InputId(0);

impl Gate {
    pub(crate) fn set_closed(&self, closed: bool) {
        *self.is_closed.lock().expect("sound") = closed;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let is_closed = self.is_closed.lock().expect("sound");
        self.is_waited_at.store(*is_closed, Ordering::SeqCst);
        drop(self.changed.wait_while(is_closed, |closed| *closed).expect("sound"));
    }
}

impl Game for Hangs {
    fn name(&self) -> &'static str {
        "hangs"
    }

    fn define(&self, game: &mut Definition) {
        game.input(InputField::edge("hang", Quantity::count(0..=1)));
    }

    fn setup(&self, _world: &mut World, _settings: &Settings) {}

    fn systems(&self, systems: &mut Systems) {
        let gate = Arc::clone(&self.0);
        systems.add(move |inputs: Res<Inputs>| {
            if inputs.iter().any(|(_, input)| input.pressed(HANG)) {
                gate.pass();
            }
        });
    }
}

/// Two sessions on one thread, the second of which hangs, with its player.
struct Scene {
    server: TestServer,
    gate: Arc<Gate>,
    witness: Witness,
    player: RawClient,
    directory: tempfile::TempDir,
}

fn second() -> pb::Hello {
    pb::Hello { session: "sessions/hangs-2".into(), ..hello() }
}

async fn scene() -> Scene {
    let directory = tempfile::tempdir().expect("a directory");
    let config = ServerConfig {
        sessions: 2,
        simulation_threads: NonZeroUsize::new(1),
        recordings: Some(directory.path().to_owned()),
        timeouts: Timeouts { stuck: Duration::from_millis(300), end: Duration::from_millis(100), ..config().timeouts },
        ..config()
    };
    let gate = Arc::<Gate>::default();
    let server = TestServer::start(config, vec![Arc::new(Hangs(Arc::clone(&gate)))]).await;
    let witness = Witness::join(&server).await;
    let mut player = RawClient::greet(&server, second()).await;
    player.welcome().await;

    gate.set_closed(true);
    let newest = player.play_until(|_| true).await.tick;
    let inputs = vec![pb::Input { values: vec![1], ..input(1, newest + 10) }];
    player.send(Kind::Inputs(pb::Inputs { epoch: 0, newest_tick: newest, inputs })).await;
    eventually("it hangs", || gate.is_waited_at.load(Ordering::SeqCst)).await;
    Scene { server, gate, witness, player, directory }
}

async fn state(server: &TestServer, name: &str) -> SessionState {
    let mut sessions = SessionServiceClient::new(server.channel().await);
    sessions.get_session(GetSessionRequest { name: name.into() }).await.expect("it is there").into_inner().state()
}

fn is_refused_as_stuck(status: &Status) -> bool {
    (status.code(), reason_of(status).as_str(), field_of(status).as_str())
        == (Code::Unavailable, "SESSION_STUCK", "hello.session")
}

#[tokio::test]
async fn a_session_that_hangs_costs_another_on_the_same_thread_nothing_and_goes_on_when_it_comes_back() {
    let Scene { server, gate, mut witness, mut player, directory: _ } = scene().await;
    // Whether it comes before or after somebody finds that the session hangs, it is told.
    let status = RawClient::greet(&server, second()).await.end().await.1;
    assert!(is_refused_as_stuck(&status), "{status:?}");
    let hung = server.probe.sessions();
    assert_eq!(hung.iter().map(|session| session.stuck).collect::<Vec<_>>(), [false, true]);
    for _ in 0..10 {
        witness.plays_on().await;
    }
    let now = server.probe.sessions();
    assert!(now[0].tick > hung[0].tick && now[1] == hung[1], "{now:?} after {hung:?}");
    assert_eq!(state(&server, "sessions/hangs-1").await, SessionState::Running);
    assert_eq!(state(&server, "sessions/hangs-2").await, SessionState::Stuck);
    // Health names the session that hangs, and nothing else is the worse for it.
    let mut of_hung = server.health("tickwire.v1.GameService/sessions/hangs-2").await;
    while of_hung.next().await != ServingStatus::NotServing {}
    for service in ["", "tickwire.v1.GameService", "tickwire.v1.GameService/sessions/hangs-1"] {
        assert_eq!(server.health(service).await.next().await, ServingStatus::Serving, "{service:?}");
    }
    let status = RawClient::greet(&server, second()).await.end().await.1;
    assert!(is_refused_as_stuck(&status), "{status:?}");

    gate.set_closed(false);
    let snapshot = player.play_until(|snapshot| snapshot.consumed_input == 1 && snapshot.slip_us > 0).await;
    assert!(snapshot.tick > hung[1].tick);
    eventually("it is not stuck any more", || !server.probe.sessions()[1].stuck).await;
    assert_eq!(of_hung.next().await, ServingStatus::Serving);
    let progress = &server.probe.sessions()[1];
    assert!(progress.overruns >= 1 && progress.slips >= 1, "{progress:?}");
    assert_eq!(state(&server, "sessions/hangs-2").await, SessionState::Running);
    RawClient::greet(&server, second()).await.welcome().await;
    witness.plays_on().await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_whose_only_session_hangs_serves_no_players_until_it_comes_back() {
    let gate = Arc::<Gate>::default();
    let timeouts = Timeouts { stuck: Duration::from_millis(300), ..config().timeouts };
    let config = ServerConfig { timeouts, ..config() };
    let server = TestServer::start(config, vec![Arc::new(Hangs(Arc::clone(&gate)))]).await;
    let mut health = server.health("tickwire.v1.GameService").await;
    assert_eq!(health.next().await, ServingStatus::Serving);
    let (mut player, _) = RawClient::join(&server).await;
    gate.set_closed(true);
    let newest = player.play_until(|_| true).await.tick;
    let inputs = vec![pb::Input { values: vec![1], ..input(1, newest + 10) }];
    player.send(Kind::Inputs(pb::Inputs { epoch: 0, newest_tick: newest, inputs })).await;
    assert_eq!(health.next().await, ServingStatus::NotServing);
    gate.set_closed(false);
    assert_eq!(health.next().await, ServingStatus::Serving);
    server.stop().await;
}

#[tokio::test]
async fn a_server_does_not_wait_for_a_session_that_hangs_and_its_recording_is_that_of_a_killed_one() {
    let Scene { server, gate, mut witness, player, directory } = scene().await;
    eventually("it is found stuck", || server.probe.sessions()[1].stuck).await;
    witness.plays_on().await;
    server.stop().await;
    // The thread that was left behind may go.
    gate.set_closed(false);
    drop(player);

    let mut states = Vec::new();
    for listed in tickwire_recording::list(directory.path()).expect("it is there") {
        let recording = Recording::open(&listed.path).expect("it opens");
        verify(&recording, Arc::new(Hangs(Arc::clone(&gate)))).expect("it replays");
        states.push(listed.summary.expect("it is readable").state);
    }
    let complete = [EndReason::Shutdown, EndReason::Killed].map(RecordingState::Complete);
    assert_eq!(states, complete);
}

#[tokio::test]
async fn more_sessions_than_threads_all_advance_and_are_recorded() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = ServerConfig {
        sessions: 24,
        simulation_threads: NonZeroUsize::new(2),
        recordings: Some(directory.path().to_owned()),
        ..config()
    };
    let server = TestServer::arena(config).await;
    eventually("all advance", || server.probe.sessions().iter().all(|session| session.tick > 10)).await;
    server.stop().await;
    let listed = tickwire_recording::list(directory.path()).expect("it is there");
    let ticks: Vec<_> = listed.into_iter().map(|listed| listed.summary.expect("readable")).collect();
    assert_eq!(ticks.len(), 24);
    for summary in ticks {
        assert_eq!(summary.state, RecordingState::Complete(EndReason::Shutdown));
        assert!(summary.ticks > 10, "{summary:?}");
    }
}

/// What a killed server would have left of a finished recording.
pub(crate) fn unfinish(finished: &Path) -> PathBuf {
    let recording = Recording::open(finished).expect("it opens");
    let live = PathBuf::from(finished.to_string_lossy().replace(".mcap", ".live.mcap"));
    let file = File::create(&live).expect("a disk");
    let mut writer = Writer::new(file, recording.meta(), Layout::Live).expect("a disk");
    for tick in recording.ticks().expect("it is readable") {
        let tick = tick.expect("it is sound");
        writer.tick_input(&tick.input).expect("a disk");
        writer.tick_result(&tick.result.expect("it is whole")).expect("a disk");
    }
    for line in recording.chat().expect("it is readable") {
        writer.chat(&line.expect("it is sound")).expect("a disk");
    }
    writer.finish().expect("a disk");
    fs::remove_file(finished).expect("a disk");
    live
}

#[tokio::test]
async fn a_server_starts_without_a_session_whose_game_hangs_while_it_is_played_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let gate = Arc::<Gate>::default();
    let start = async |recovery: bool| {
        let config = ServerConfig {
            recordings: Some(directory.path().to_owned()),
            recording: RecordingConfig { recovery, ..RecordingConfig::default() },
            timeouts: Timeouts {
                recovery: Duration::from_millis(200),
                end: Duration::from_millis(100),
                ..config().timeouts
            },
            ..config()
        };
        TestServer::start(config, vec![Arc::new(Hangs(Arc::clone(&gate)))]).await
    };
    let server = start(true).await;
    let (mut player, _) = RawClient::join(&server).await;
    let newest = player.play_until(|_| true).await.tick;
    let inputs = vec![pb::Input { values: vec![1], ..input(1, newest + 10) }];
    player.send(Kind::Inputs(pb::Inputs { epoch: 0, newest_tick: newest, inputs })).await;
    player.play_until(|snapshot| snapshot.consumed_input == 1).await;
    server.stop().await;
    let [finished] = tickwire_recording::list(directory.path()).expect("it is there").try_into().expect("one");
    let live = unfinish(&finished.path);

    gate.set_closed(true);
    let server = start(true).await;
    assert!(gate.is_waited_at.load(Ordering::SeqCst), "it was played again");
    let name = "sessions/hangs-1";
    let request = GetSessionRequest { name: name.into() };
    let mut sessions = SessionServiceClient::new(server.channel().await);
    let session = sessions.get_session(request).await.expect("it is there").into_inner();
    assert_eq!((session.state(), session.epoch), (SessionState::Running, 0));
    assert!(!live.exists());
    // The thread that was left behind may go.
    gate.set_closed(false);
    server.stop().await;
    let listed = tickwire_recording::list(directory.path()).expect("it is there");
    let set_aside = |listed: &tickwire_recording::Listed| {
        let state = &listed.summary.as_ref().expect("it is readable").state;
        matches!(state, RecordingState::SetAside(reason) if reason.contains("does not come back"))
    };
    assert_eq!((listed.len(), listed.iter().filter(|listed| set_aside(listed)).count()), (2, 1), "{listed:?}");
}
