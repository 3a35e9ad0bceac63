//! What the server measures: every metric moves when its cause happens, and the text is as Prometheus wants it.

mod scrape;

use std::{
    collections::BTreeSet,
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    sync::Arc,
    time::Duration,
};

use tickwire_proto::v1::{
    self as pb, chat_message, client_message::Kind, session_service_client::SessionServiceClient,
};
use tickwire_recording::{Durability, RecorderState};
use tickwire_server::{Limits, Probe, RecordingConfig, Server, ServerConfig, Timeouts};
use tickwire_shared::TickRate;
use tokio::net::TcpStream;

use self::scrape::Scrape;
use crate::{
    chat::{
        chatty,
        talker::{Guest, Talker},
    },
    ending::{self, Fuse},
    harness::{
        ARENA_1, Cable, RawClient, TestServer, Witness, config, eventually, hello, input, patient, within_patience,
    },
    hosting::{Gate as Barrier, Hangs},
    identity::{self, API_KEY, Gate, bearing},
    watch::spectator::{Spectator, watch_request},
};

/// Metrics that say something which does not change while a server runs.
const CONSTANT: &[&str] =
    &["tickwire_build_info", "tickwire_seats_max", "process_start_time_seconds", "process_max_fds"];
/// Metrics of a disk that fails, which takes a process of its own: this file has their cases.
const OF_A_FULL_DISK: &[&str] =
    &["tickwire_recorder_lag_ticks", "tickwire_recorder_lag_bytes", "tickwire_recorder_failures_total"];
const FULL_DISK_TEST: &str = "server/tests/recording.rs";

/// What has been put out, and what has moved.
#[derive(Default)]
struct Ledger {
    exposed: BTreeSet<String>,
    moved: BTreeSet<String>,
}

/// A server whose metrics are watched from its start.
struct Scene<'a> {
    probe: Probe,
    ledger: &'a mut Ledger,
    before: Scrape,
}

impl<'a> Scene<'a> {
    fn of(server: &TestServer, ledger: &'a mut Ledger) -> Self {
        Self { probe: server.probe.clone(), ledger, before: Scrape::of(&server.probe) }
    }

    /// Waits until each of these is more than at first.
    async fn rise(&mut self, selectors: &[&str]) {
        for selector in selectors {
            let before = self.before.sum(selector);
            eventually(selector, || Scrape::of(&self.probe).sum(selector) > before).await;
            self.note(selector);
        }
    }

    /// Waits until it is nothing, which it was not at first.
    async fn falls_to_nothing(&mut self, selector: &str) {
        assert!(self.before.sum(selector) > 0.0);
        eventually(selector, || Scrape::of(&self.probe).sum(selector) == 0.0).await;
        self.note(selector);
    }

    fn note(&mut self, selector: &str) {
        self.ledger.exposed.extend(Scrape::of(&self.probe).families.into_keys());
        let name = selector.split(' ').next().expect("a name");
        self.ledger.moved.insert(name.strip_suffix("_count").unwrap_or(name).to_owned());
    }
}

async fn a_player_plays_and_leaves(ledger: &mut Ledger) {
    let directory = tempfile::tempdir().expect("a directory");
    let recording = RecordingConfig { durability: Durability::Flush, ..RecordingConfig::default() };
    let recordings = Some(directory.path().to_owned());
    let server = TestServer::arena(ServerConfig { recordings, recording, ..config() }).await;
    let mut scene = Scene::of(&server, ledger);
    let mut player = Witness::join(&server).await;
    player.plays_on().await;
    let seen = [
        "tickwire_connections",
        "tickwire_connections_accepted_total",
        "tickwire_play_streams",
        "tickwire_joins_total how=join outcome=OK",
        "tickwire_peers kind=player",
        "tickwire_seats_taken",
        "tickwire_snapshots_sent_total kind=full",
        "tickwire_snapshots_sent_total kind=delta",
        "tickwire_snapshot_bytes_total kind=full",
        "tickwire_snapshot_bytes_total kind=delta",
        "tickwire_chunk_lookups_total",
        "tickwire_chunks_encoded_total",
        "tickwire_input_ticks_total provenance=fresh",
        "tickwire_input_ticks_total provenance=repeated",
        "tickwire_input_ticks_total provenance=absent",
        "tickwire_session_tick session=arena-1",
        "tickwire_tick_duration_seconds_count",
        "tickwire_tick_lateness_seconds_count",
        "tickwire_recording_bytes",
        "tickwire_recorder_unsynced_bytes",
        "process_cpu_seconds_total",
    ];
    player.plays_during(scene.rise(&seen)).await;
    let (mut leaving, _) = RawClient::join(&server).await;
    leaving.send(Kind::Leave(pb::Leave {})).await;
    leaving.end().await;
    drop(leaving);
    let seen = [
        "tickwire_disconnects_total peer=player reason=LEFT",
        "tickwire_requests_total service=tickwire.v1.GameService method=Play code=OK",
        "tickwire_connections_closed_total",
    ];
    scene.rise(&seen).await;
    drop(player);
    let (closing, _) = RawClient::join(&server).await;
    closing.close().await;
    scene.rise(&["tickwire_disconnects_total peer=player reason=CLOSED"]).await;
    server.stop().await;
}

async fn a_segment_of_a_recording_cannot_be_finished(ledger: &mut Ledger) {
    let directory = tempfile::tempdir().expect("a directory");
    let recording = RecordingConfig {
        segment_bytes: NonZeroU64::new(1024),
        keyframe_interval: Duration::from_millis(100),
        ..RecordingConfig::default()
    };
    let recordings = Some(directory.path().to_owned());
    let server = TestServer::arena(ServerConfig { recordings, recording, ..config() }).await;
    let mut scene = Scene::of(&server, ledger);
    let live = std::fs::read_dir(directory.path()).expect("it is there").next().expect("it is recorded");
    let live = live.expect("it is there").path();
    let name = live.to_str().and_then(|path| path.strip_suffix(".live.mcap")).expect("a live file");
    // Where its finished form would be written.
    std::fs::create_dir(format!("{name}.mcap.partial")).expect("a disk");
    let mut player = Witness::join(&server).await;
    player.plays_during(scene.rise(&["tickwire_recorder_segments_left_total"])).await;
    let status = server.probe.recordings().remove(0).expect("it is recorded");
    let problem = status.problem.unwrap_or_default();
    assert!(problem.contains(".live.mcap could not be finished, repair it later: "), "{problem}");
    assert!(status.state == RecorderState::Running && live.exists(), "{:?}", status.state);
    drop(player);
    server.stop().await;
    assert!(live.exists(), "it is left for the next start");
}

async fn inputs_come_that_no_tick_can_consume(ledger: &mut Ledger) {
    let server = TestServer::arena(config()).await;
    let mut scene = Scene::of(&server, ledger);
    let (mut player, _) = RawClient::join(&server).await;
    let newest = player.play_until(|_| true).await.tick;
    let send = |epoch, inputs| Kind::Inputs(pb::Inputs { epoch, newest_tick: 0, inputs });
    player.send(send(0, vec![input(1, 1)])).await;
    player.send(send(0, vec![input(2, newest + 30), input(3, newest + 31)])).await;
    player.send(send(0, vec![input(4, newest + 31)])).await;
    player.send(send(0, vec![input(5, newest + 10_000)])).await;
    player.send(send(9, vec![input(6, newest + 32)])).await;
    let reason = pb::ResyncReason::HashMismatch.into();
    player.send(Kind::Resync(pb::Resync { reason })).await;
    let seen = [
        "tickwire_inputs_not_taken_total reason=late",
        "tickwire_inputs_not_taken_total reason=duplicate",
        "tickwire_inputs_not_taken_total reason=too_early",
        "tickwire_stale_epoch_messages_total",
        "tickwire_resyncs_total",
    ];
    scene.rise(&seen).await;
    server.stop().await;

    let limits = Limits { mailbox_messages_max: 1, ..Limits::default() };
    let tick_rate = TickRate::new(5).expect("in range");
    let server = TestServer::arena(ServerConfig { limits, tick_rate, ..config() }).await;
    let mut scene = Scene::of(&server, ledger);
    let (player, _) = RawClient::join(&server).await;
    for sequence in 1..20 {
        player.send(send(0, vec![input(sequence, 2 + sequence)])).await;
    }
    scene.rise(&["tickwire_inputs_not_taken_total reason=dropped"]).await;
    server.stop().await;
}

async fn a_client_acknowledges_late(ledger: &mut Ledger) {
    let server = TestServer::arena(config()).await;
    let mut scene = Scene::of(&server, ledger);
    let (mut player, _) = RawClient::join(&server).await;
    scene.rise(&["tickwire_credit_stalls_total"]).await;
    let (newest, _) = server.probe.ticks()[0];
    eventually("some ticks go by", || server.probe.ticks()[0].0 > newest + 5).await;
    player.play_until(|snapshot| snapshot.tick > newest).await;
    scene.rise(&["tickwire_snapshots_superseded_total"]).await;
    server.stop().await;
}

async fn a_player_has_two_streams_and_then_another_one(ledger: &mut Ledger) {
    let server = TestServer::arena(config()).await;
    let mut scene = Scene::of(&server, ledger);
    let (mut first, welcome) = RawClient::join(&server).await;
    let cable = Cable::to(&server).await;
    let mut second = RawClient::open_on(cable.channel().await).await;
    second.send(Kind::Hello(pb::Hello { attach_token: welcome.attach_token, ..hello() })).await;
    second.welcome().await;
    let newest = first.play_until(|_| true).await.tick;
    for stream in [&first, &second] {
        let inputs = vec![input(1, newest + 20)];
        stream.send(Kind::Inputs(pb::Inputs { epoch: 0, newest_tick: 0, inputs })).await;
    }
    let seen = [
        "tickwire_joins_total how=attach outcome=OK",
        "tickwire_stripes_attached_total",
        "tickwire_peers kind=stripe",
        "tickwire_inputs_not_taken_total reason=sent_again",
    ];
    scene.rise(&seen).await;
    cable.cut();
    scene.rise(&["tickwire_stripes_lost_total"]).await;
    let resumed = pb::Hello { resume_token: welcome.resume_token, ..hello() };
    let mut resumed = RawClient::greet(&server, resumed).await;
    resumed.welcome().await;
    let seen = [
        "tickwire_seats_resumed_total",
        "tickwire_joins_total how=resume outcome=OK",
        "tickwire_disconnects_total peer=player reason=DISPLACED",
    ];
    scene.rise(&seen).await;
    let status = RawClient::greet(&server, pb::Hello { game: "chess".into(), ..hello() }).await.end().await.1;
    assert_eq!(status.code(), tonic::Code::NotFound);
    scene.rise(&["tickwire_joins_total how=join outcome=NOT_FOUND"]).await;
    server.stop().await;
}

async fn a_game_hangs(ledger: &mut Ledger) {
    let gate = Arc::<Barrier>::default();
    let timeouts = Timeouts { stuck: Duration::from_millis(300), ..config().timeouts };
    let directory = tempfile::tempdir().expect("a directory");
    let recordings = Some(directory.path().to_owned());
    let config = ServerConfig { timeouts, recordings, ..config() };
    let server = Server::start(config, vec![Arc::new(Hangs(Arc::clone(&gate)))]).expect("the configuration is good");
    let chat = server.chat();
    let session = server.sessions().next().expect("there is one");
    let server = TestServer::serve(server).await;
    let mut scene = Scene::of(&server, ledger);
    let (mut player, _) = RawClient::join(&server).await;
    gate.set_closed(true);
    ending::press(&mut player, vec![1]).await;
    scene.rise(&["tickwire_session_stuck_total", "tickwire_sessions state=stuck"]).await;
    for _ in 0..1100 {
        chat.announce(&session, "it hangs").expect("it may be said");
    }
    scene.rise(&["tickwire_chat_lines_unrecorded_total"]).await;
    gate.set_closed(false);
    let seen = [
        "tickwire_tick_overruns_total",
        "tickwire_tick_slips_total",
        "tickwire_tick_slip_seconds_total",
        "tickwire_sessions state=running",
    ];
    // It ran at first.
    scene.before = Scrape::default();
    scene.rise(&seen).await;
    server.stop().await;
}

async fn a_game_panics(ledger: &mut Ledger) {
    let directory = tempfile::tempdir().expect("a directory");
    let recordings = Some(directory.path().to_owned());
    let config = ServerConfig { recordings, timeouts: patient(), ..config() };
    let server = TestServer::start(config, vec![Arc::new(Fuse)]).await;
    let mut scene = Scene::of(&server, ledger);
    let (mut player, _) = RawClient::join(&server).await;
    ending::press(&mut player, vec![1, 0]).await;
    let seen = [
        "tickwire_sessions state=failed",
        "tickwire_recorders state=closed",
        "tickwire_disconnects_total peer=player reason=SESSION_FAILED",
    ];
    scene.rise(&seen).await;
    server.stop().await;
}

async fn a_spectator_watches_and_does_not_acknowledge(ledger: &mut Ledger) {
    let server = TestServer::arena(config()).await;
    let mut scene = Scene::of(&server, ledger);
    let mut spectator = Spectator::watch(&server, watch_request()).await.expect("there is room");
    let witness = Witness::join(&server).await;
    spectator.acknowledges = false;
    spectator.until(|spectator| spectator.ticks.len() > 2).await;
    let seen = [
        "tickwire_joins_total how=watch outcome=OK",
        "tickwire_peers kind=spectator",
        "tickwire_watch_snapshots_sent_total kind=full",
        "tickwire_watch_snapshots_sent_total kind=delta",
        "tickwire_watch_snapshot_bytes_total kind=full",
        "tickwire_watch_snapshot_bytes_total kind=delta",
        "tickwire_watch_credit_stalls_total",
    ];
    scene.rise(&seen).await;
    drop((spectator, witness));
    scene.rise(&["tickwire_disconnects_total peer=spectator reason=LOST"]).await;
    server.stop().await;
}

async fn people_talk_and_one_does_not_listen(ledger: &mut Ledger) {
    let config = chatty(|limits| {
        limits.waiting_max = NonZeroUsize::new(4).expect("not 0");
        limits.per_minute = NonZeroU32::MAX;
    });
    let server = TestServer::arena(config).await;
    let mut scene = Scene::of(&server, ledger);
    let (_slow, welcome) = RawClient::join(&server).await;
    // Whose stream has no more room than it must have.
    let narrow = server.endpoint().initial_stream_window_size(1024);
    let mut slow = Talker::open(narrow.connect().await.expect("the server accepts")).await;
    slow.send(chat_message::Kind::Hello(pb::ChatHello { chat_token: welcome.chat_token, ..Default::default() })).await;
    slow.welcome().await;
    let mut ada = Guest::join(&server, hello()).await;
    let text = "x".repeat(500);
    for id in 1..=100 {
        ada.talker.say(&text).await;
        assert_eq!(ada.talker.line().await.id, id);
    }
    ada.talker.say("").await;
    assert_eq!(ada.talker.rejection().await, pb::ChatRejection::Empty);
    let seen = [
        "tickwire_chat_lines_total",
        "tickwire_chat_lines_delivered_total",
        "tickwire_chat_lines_dropped_total",
        "tickwire_chat_rejected_total reason=empty",
        "tickwire_requests_total service=tickwire.v1.ChatService",
    ];
    drop((ada, slow));
    scene.rise(&seen).await;
    server.stop().await;
}

async fn callers_show_who_they_are(ledger: &mut Ledger) {
    let gate = Gate::new().await;
    let mut scene = Scene::of(&gate.server, ledger);
    identity::join(&gate.server, hello()).await.map(drop).expect_err("there is no ticket");
    gate.join(&gate.ticket(|_| {})).await.expect("it is good");
    let mut sessions = SessionServiceClient::new(gate.server.channel().await);
    let key = format!("Bearer {API_KEY}");
    let created = sessions.create_session(bearing(pb::CreateSessionRequest::default(), &key)).await;
    let name = created.expect("the key is good").into_inner().name;
    let end = pb::EndSessionRequest { name, ..pb::EndSessionRequest::default() };
    sessions.end_session(bearing(end, &key)).await.expect("it runs");
    let seen = [
        "tickwire_identity_refusals_total reason=TICKET_MISSING",
        "tickwire_joins_total how=join outcome=TICKET_MISSING",
        "tickwire_tickets_total outcome=admitted",
        "tickwire_api_key_calls_total",
        "tickwire_sessions_started_total",
        "tickwire_sessions_ended_total cause=REQUESTED",
    ];
    scene.rise(&seen).await;
    gate.server.stop().await;
}

async fn a_seat_is_reserved_and_taken(ledger: &mut Ledger) {
    let server = TestServer::arena(config()).await;
    let mut scene = Scene::of(&server, ledger);
    let mut sessions = SessionServiceClient::new(server.channel().await);
    let target = Some(pb::join_session_request::Target::Name(ARENA_1.into()));
    let request = pb::JoinSessionRequest { target, ..pb::JoinSessionRequest::default() };
    let ticket = sessions.join_session(request).await.expect("there is a seat").into_inner().ticket;
    scene.rise(&["tickwire_reservations_total outcome=reserved"]).await;
    let mut player = RawClient::greet(&server, pb::Hello { ticket, ..hello() }).await;
    player.welcome().await;
    scene.rise(&["tickwire_reservations_total outcome=used"]).await;
    server.stop().await;
}

async fn one_connection_too_many_comes(ledger: &mut Ledger) {
    let limits = Limits { connections_max: 1, ..Limits::default() };
    let server = TestServer::arena(ServerConfig { limits, ..config() }).await;
    let mut scene = Scene::of(&server, ledger);
    let first = TcpStream::connect(server.address).await.expect("it is accepted");
    scene.rise(&["tickwire_connections"]).await;
    let second = TcpStream::connect(server.address).await.expect("it is accepted");
    let seen = ["tickwire_connections_refused_total reason=CONNECTIONS", "tickwire_refusals_total reason=CONNECTIONS"];
    scene.rise(&seen).await;
    drop((first, second));
    server.stop().await;
}

async fn the_server_drains(ledger: &mut Ledger) {
    let timeouts = Timeouts { drain: Duration::from_secs(20), ..config().timeouts };
    let server = TestServer::arena(ServerConfig { timeouts, ..config() }).await;
    let mut scene = Scene::of(&server, ledger);
    // As long as somebody plays it waits.
    let mut player = Witness::join(&server).await;
    let served = server.begin_stop();
    player.plays_during(scene.falls_to_nothing("tickwire_serving")).await;
    drop(player);
    within_patience(served).await.expect("it does not panic");
}

async fn the_process_grows(ledger: &mut Ledger) {
    let server = TestServer::arena(config()).await;
    let mut scene = Scene::of(&server, ledger);
    let block = std::hint::black_box(vec![1_u8; 256 << 20]);
    scene.rise(&["process_resident_memory_bytes", "process_virtual_memory_bytes"]).await;
    drop(block);
    let config = ServerConfig { network_threads: NonZeroUsize::new(64), ..config() };
    let other = TestServer::arena(config).await;
    scene.rise(&["process_threads", "process_open_fds"]).await;
    other.stop().await;
    server.stop().await;
}

async fn what_does_not_change_says_what_is(ledger: &mut Ledger) {
    for seats in [3, 700] {
        let max_players = NonZeroU32::new(seats).expect("not 0");
        let server = TestServer::arena(ServerConfig { max_players, ..config() }).await;
        let scrape = Scrape::of(&server.probe);
        assert_eq!(scrape.sum("tickwire_seats_max"), f64::from(seats));
        assert_eq!(scrape.sum(&format!("tickwire_build_info version={}", env!("CARGO_PKG_VERSION"))), 1.0);
        assert!(scrape.sum("process_start_time_seconds") > 1.5e9 && scrape.sum("process_max_fds") > 10.0);
        ledger.exposed.extend(scrape.families.into_keys());
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_moves_when_its_cause_happens() {
    let mut ledger = Ledger::default();
    a_player_plays_and_leaves(&mut ledger).await;
    a_segment_of_a_recording_cannot_be_finished(&mut ledger).await;
    inputs_come_that_no_tick_can_consume(&mut ledger).await;
    a_client_acknowledges_late(&mut ledger).await;
    a_player_has_two_streams_and_then_another_one(&mut ledger).await;
    a_game_hangs(&mut ledger).await;
    a_game_panics(&mut ledger).await;
    a_spectator_watches_and_does_not_acknowledge(&mut ledger).await;
    people_talk_and_one_does_not_listen(&mut ledger).await;
    callers_show_who_they_are(&mut ledger).await;
    a_seat_is_reserved_and_taken(&mut ledger).await;
    one_connection_too_many_comes(&mut ledger).await;
    the_server_drains(&mut ledger).await;
    the_process_grows(&mut ledger).await;
    what_does_not_change_says_what_is(&mut ledger).await;

    let full_disk = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(FULL_DISK_TEST);
    let full_disk = std::fs::read_to_string(full_disk).expect("a source file");
    for name in OF_A_FULL_DISK {
        assert!(full_disk.contains(name), "{name} moves in no test of {FULL_DISK_TEST}");
    }
    let others = CONSTANT.iter().chain(OF_A_FULL_DISK).map(|name| (*name).to_owned());
    let with_cases: BTreeSet<String> = ledger.moved.iter().cloned().chain(others).collect();
    assert_eq!(with_cases, ledger.exposed, "left: metrics with cases; right: those that are put out");
}

#[tokio::test]
async fn more_than_a_hundred_sessions_are_put_out_as_one_by_game() {
    let of = async |sessions| {
        let tick_rate = TickRate::new(2).expect("in range");
        let server = TestServer::arena(ServerConfig { sessions, tick_rate, ..config() }).await;
        let scrape = Scrape::of(&server.probe);
        server.stop().await;
        let seats: Vec<_> = scrape.samples.into_iter().filter(|(name, ..)| name == "tickwire_seats_max").collect();
        let with_session = seats.iter().filter(|(_, labels, _)| labels.contains_key("session")).count();
        (seats.len(), with_session, seats.iter().map(|(.., seats)| seats).sum::<f64>())
    };
    assert_eq!(of(100).await, (100, 100, 25_600.0));
    assert_eq!(of(101).await, (1, 0, 25_856.0));
}
