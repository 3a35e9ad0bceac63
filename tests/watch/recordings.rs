//! Recordings by name: listed, sent, replayed; and one shown as a session.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use tickwire_arena::Arena;
use tickwire_client::{WatchEvent, WatchOptions};
use tickwire_proto::v1::{
    self as pb, ListSessionsRequest, SavedState, recording_service_client::RecordingServiceClient,
    session_service_client::SessionServiceClient, watch_control::Action,
};
use tickwire_server::{Limits, Server, ServerConfig};
use tickwire_shared::{PlayerId, Tick};
use tonic::{Code, Status, codec::CompressionEncoding, transport::Channel};

use super::{
    recording_server,
    spectator::{Spectator, watch_request},
};
use crate::harness::{ARENA_1, TestServer, config, eventually, field_of, hello, reason_of, within_patience};

/// 1800 ticks of four players.
const GOLDEN: &str = "deathmatch-60hz";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings").join(format!("{GOLDEN}.mcap"))
}

fn golden_name() -> String {
    format!("recordings/{GOLDEN}")
}

async fn showing(from: u64, speed: f64) -> TestServer {
    let server = Server::of_recording(config(), vec![Arc::new(Arena)], &golden(), Tick(from), speed);
    TestServer::serve(server.expect("it can be shown")).await
}

/// A server with two recordings, and its own session's.
async fn library() -> (TestServer, tempfile::TempDir) {
    library_with(Limits::default()).await
}

async fn library_with(limits: Limits) -> (TestServer, tempfile::TempDir) {
    recording_server(|config| {
        config.limits = limits;
        config.recordings_public = true;
        let directory = config.recordings.as_ref().expect("it records");
        for copy in [GOLDEN, "another"] {
            fs::copy(golden(), directory.join(format!("{copy}.mcap"))).expect("there is room");
        }
        fs::write(directory.join("notes.txt"), "none").expect("there is room");
    })
    .await
}

async fn service(server: &TestServer) -> RecordingServiceClient<Channel> {
    RecordingServiceClient::new(server.channel().await)
}

async fn get(service: &mut RecordingServiceClient<Channel>, name: &str) -> Result<pb::Recording, Status> {
    let request = pb::GetRecordingRequest { name: name.into() };
    Ok(service.get_recording(request).await?.into_inner())
}

async fn download(service: &mut RecordingServiceClient<Channel>, name: &str) -> Result<Vec<u8>, Status> {
    let request = pb::DownloadRecordingRequest { name: name.into() };
    let mut parts = service.download_recording(request).await?.into_inner();
    let mut file = Vec::new();
    while let Some(part) = parts.message().await? {
        file.extend(part.data);
    }
    Ok(file)
}

#[tokio::test]
async fn a_recording_that_is_shown_is_watched_as_a_session_is() {
    let server = showing(100, 2.0).await;
    let mut spectator = Spectator::watch(&server, watch_request()).await.expect("there is room");
    assert_eq!((spectator.welcome.session.as_str(), spectator.welcome.tick), ("sessions/golden", 100));
    spectator.until(|spectator| spectator.hash_checks > 20).await;
    assert_eq!((spectator.state.speed, spectator.state.last_tick, spectator.state.live), (2.0, 1800, false));
    assert!(spectator.ticks[0] >= 100);
    let live = spectator.steer(Action::Live(pb::WatchLive {})).await.expect_err("nothing is live");
    assert_eq!(reason_of(&live), "NOT_LIVE");

    spectator.steer_until(Action::SeekTick(1 << 40), |state| state.jumps == 1).await;
    spectator.until(|spectator| spectator.state.ended && !spectator.ticks.is_empty()).await;
    assert_eq!((spectator.state.tick, &*spectator.ticks), (1800, &[1800][..]));
    spectator.steer_until(Action::SeekTick(900), |state| state.jumps == 2 && !state.ended).await;
    spectator.steer_until(Action::Speed(64.0), |state| state.ended).await;
    assert_eq!(spectator.state.tick, 1800);
    spectator.check(&golden(), Arc::new(Arena));

    let sessions =
        SessionServiceClient::new(server.channel().await).list_sessions(ListSessionsRequest::default()).await;
    let sessions = sessions.expect("they are listed").into_inner().sessions;
    assert_eq!(
        sessions.iter().map(|session| (session.name.as_str(), session.tick)).collect::<Vec<_>>(),
        [("sessions/golden", 1800)]
    );
    assert_eq!(get(&mut service(&server).await, &golden_name()).await.expect("it is public").ticks, 1800);
    let other = pb::Hello { session: ARENA_1.into(), ..hello() };
    let other = Spectator::watch(&server, pb::WatchRequest { hello: Some(other), ..watch_request() }).await;
    assert_eq!(field_of(&other.err().expect("there is no such session")), "hello.session");
    server.stop().await;
}

#[tokio::test]
async fn two_spectators_of_one_recording_are_each_where_they_want_to_be() {
    let server = showing(1, 1.0).await;
    let early = pb::WatchRequest { from_tick: 10, follow_player: 2, ..watch_request() };
    let late = pb::WatchRequest { from_tick: 1000, speed: 8.0, ..watch_request() };
    let mut early = Spectator::watch(&server, early).await.expect("there is room");
    let mut late = Spectator::watch(&server, late).await.expect("there is room");
    let far = |spectator: &Spectator| spectator.mirror.tick().0 > 1200;
    let begun = |spectator: &Spectator| spectator.ticks.len() >= 10;
    tokio::join!(late.until(far), early.until(begun));
    assert!(early.ticks[0] < late.ticks[0] && early.mirror.shown_count() > 0);
    early.check(&golden(), Arc::new(Arena));
    late.check(&golden(), Arc::new(Arena));
    server.stop().await;
}

#[tokio::test]
async fn recordings_are_nobodys_business_unless_the_server_says_so() {
    let (server, _directory) = recording_server(|_| {}).await;
    let mut service = service(&server).await;
    let refused = [
        service.list_recordings(pb::ListRecordingsRequest::default()).await.expect_err("not public"),
        get(&mut service, &golden_name()).await.expect_err("not public"),
        get(&mut service, "recordings/../x").await.expect_err("not public"),
        download(&mut service, &golden_name()).await.expect_err("not public"),
        Spectator::replay(&server, pb::ReplayRequest { name: golden_name(), ..pb::ReplayRequest::default() })
            .await
            .err()
            .expect("not public"),
    ];
    for status in refused {
        assert_eq!((status.code(), reason_of(&status).as_str()), (Code::PermissionDenied, "RECORDINGS_PRIVATE"));
    }
    server.stop().await;
}

#[tokio::test]
async fn public_recordings_are_listed_by_pages_and_described() {
    let (server, _directory) = library().await;
    let mut service = service(&server).await;
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListRecordingsRequest { page_size: 1, page_token };
        let page = service.list_recordings(request).await.expect("they are public").into_inner();
        assert_eq!(page.recordings.len(), 1);
        found.extend(page.recordings);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let [another, live, golden] = <[pb::Recording; 3]>::try_from(found).expect("two, and the session's own");
    assert_eq!((another.name.as_str(), &golden.name), ("recordings/another", &golden_name()));
    assert_eq!((golden.ticks, golden.state(), golden.game.as_str()), (1800, SavedState::Complete, "arena"));
    assert_eq!((live.state(), live.session.as_str(), live.bytes), (SavedState::Live, ARENA_1, 0));
    assert_eq!(get(&mut service, &another.name).await.expect("it is there"), another);
    let request = pb::ListRecordingsRequest { page_size: 1, page_token: "../x".into() };
    assert_eq!(field_of(&service.list_recordings(request).await.expect_err("no token")), "page_token");
    server.stop().await;
}

#[tokio::test]
async fn no_name_leads_out_of_the_directory() {
    let (server, directory) = library().await;
    fs::copy(golden(), directory.path().parent().expect("it has one").join("tickwire-outside.mcap"))
        .expect("there is room");
    let mut service = service(&server).await;
    for wrong in [
        "",
        "recordings/..",
        "recordings/../tickwire-outside",
        "recordings//etc/passwd",
        "recordings/a.mcap",
        "another",
    ] {
        for status in [
            get(&mut service, wrong).await.expect_err("no name"),
            download(&mut service, wrong).await.expect_err("no name"),
        ] {
            assert_eq!((status.code(), field_of(&status).as_str()), (Code::InvalidArgument, "name"), "{wrong:?}");
        }
    }
    let missing = get(&mut service, "recordings/tickwire-outside").await.expect_err("not there");
    assert_eq!((missing.code(), field_of(&missing).as_str()), (Code::NotFound, "name"));
    fs::remove_file(directory.path().parent().expect("it has one").join("tickwire-outside.mcap")).expect("it is there");
    server.stop().await;
}

#[tokio::test]
async fn a_download_is_the_file_compressed_or_not() {
    let (server, _directory) = library().await;
    let file = fs::read(golden()).expect("it is there");
    let mut plain = service(&server).await;
    assert!(download(&mut plain, &golden_name()).await.expect("it is public") == file, "the bytes differ");
    let mut gzip = service(&server).await.accept_compressed(CompressionEncoding::Gzip);
    assert!(download(&mut gzip, &golden_name()).await.expect("it is public") == file, "the bytes differ");
    let request = pb::DownloadRecordingRequest { name: golden_name() };
    let answer = gzip.download_recording(request).await.expect("it is public");
    assert_eq!(answer.metadata().get("grpc-encoding").map(|encoding| encoding.as_bytes()), Some(&b"gzip"[..]));
    drop(answer);

    let page = plain.list_recordings(pb::ListRecordingsRequest::default()).await.expect("public").into_inner();
    let live = page.recordings.iter().find(|recording| recording.state() == SavedState::Live).expect("its own");
    let refused = download(&mut plain, &live.name).await.expect_err("its session runs");
    assert_eq!((refused.code(), reason_of(&refused).as_str()), (Code::FailedPrecondition, "LIVE"));
    server.stop().await;
}

#[tokio::test]
async fn so_many_recordings_are_sent_and_looked_for_at_once() {
    let limits = Limits { downloads_max: 1, listings_max: 1, ..Limits::default() };
    let (server, _directory) = library_with(limits).await;
    let count = |reason| server.probe.refusals().get(reason).copied().unwrap_or(0);
    // Of what it is sent it reads nothing yet.
    let narrow = server.endpoint().initial_stream_window_size(1024).connect().await.expect("the server accepts");
    let mut slow = RecordingServiceClient::new(narrow);
    slow.list_recordings(pb::ListRecordingsRequest::default()).await.expect("it is public");
    let tasks = server.probe.tasks();
    let request = || pb::DownloadRecordingRequest { name: golden_name() };
    let mut first = slow.download_recording(request()).await.expect("there is room").into_inner();
    assert_eq!(server.probe.tasks(), tasks, "it is not sent on the threads that players are served on");
    let refused = slow.download_recording(request()).await.expect_err("there is none");
    assert_eq!((refused.code(), reason_of(&refused).as_str()), (Code::ResourceExhausted, "DOWNLOADS"));
    assert_eq!(count("DOWNLOADS"), 1);
    while within_patience(first.message()).await.expect("it goes on").is_some() {}

    // How long the disk takes is nobody's to say: they come together until two of them do.
    let mut refused = None;
    while refused.is_none() {
        let asks = (0..16).map(|_| {
            let mut service = slow.clone();
            async move { service.list_recordings(pb::ListRecordingsRequest::default()).await.err() }
        });
        refused = futures_util::future::join_all(asks).await.into_iter().flatten().next();
    }
    let refused = refused.expect("one of them");
    assert_eq!((refused.code(), reason_of(&refused).as_str()), (Code::ResourceExhausted, "LISTINGS"));
    assert!(count("LISTINGS") > 0);
    server.stop().await;
}

#[tokio::test]
async fn a_recording_is_replayed_from_any_tick_and_a_live_one_as_far_as_spectators_may_see() {
    let (server, _directory) = library().await;
    let wanted = |name: String, from_tick| pb::ReplayRequest {
        name,
        from_tick,
        hello: Some(hello()),
        ..pb::ReplayRequest::default()
    };
    let mut spectator = Spectator::replay(&server, wanted(golden_name(), 700)).await.expect("it is public");
    spectator.until(|spectator| spectator.hash_checks > 5).await;
    assert!(spectator.ticks[0] >= 700);
    spectator.check(&golden(), Arc::new(Arena));

    let page = service(&server)
        .await
        .list_recordings(pb::ListRecordingsRequest::default())
        .await
        .expect("public")
        .into_inner();
    let live = page.recordings.into_iter().find(|recording| recording.state() == SavedState::Live).expect("its own");
    eventually("there is a past", || server.probe.ticks()[0].0 > 60).await;
    let mut spectator = Spectator::replay(&server, wanted(live.name, 10)).await.expect("it is public");
    spectator.snapshots(3).await;
    let pb::WatchState { tick, last_tick, live, .. } = spectator.state;
    assert!(spectator.ticks[0] >= 10 && tick < last_tick && !live, "{:?}", spectator.state);
    let watched = pb::WatchRequest { from_tick: 9, ..watch_request() };
    Spectator::watch(&server, watched).await.expect("live spectators have nothing to do with it").snapshots(1).await;
    server.stop().await;
}

#[tokio::test]
async fn a_recording_that_ends_before_its_session_is_nobodys_until_that_ends() {
    let (server, directory) = recording_server(|config| {
        config.recordings_public = true;
        // The header alone is larger.
        config.recording.bytes_max = 1;
    })
    .await;
    let path = super::finished(&server, &directory);
    let name = format!("recordings/{}", path.file_stem().and_then(|stem| stem.to_str()).expect("a name"));
    eventually("it is at its limit", || path.exists()).await;
    let mut service = service(&server).await;
    assert_eq!(reason_of(&download(&mut service, &name).await.expect_err("its session runs")), "LIVE");
    assert_eq!(get(&mut service, &name).await.expect("it is there").state(), SavedState::Live);
    server.stop().await;
}

#[tokio::test]
async fn a_recording_of_another_game_cannot_be_shown() {
    let games: Vec<Arc<dyn tickwire_shared::Game>> = vec![Arc::new(crate::tiny_game::Beads)];
    let refused =
        Server::of_recording(ServerConfig::default(), games, &golden(), Tick(1), 1.0).expect_err("another game");
    assert!(refused.to_string().contains("arena"), "{refused}");
}

#[tokio::test]
async fn the_client_library_watches_and_steers() {
    let server = showing(1, 4.0).await;
    let url = format!("http://{}", server.address);
    let options = WatchOptions { follow: Some(PlayerId(1)), ..WatchOptions::default() };
    let mut spectator = tickwire_client::Spectator::connect(&url, &options).await.expect("there is room");
    while spectator.stats().hash_checks < 5 {
        let event = within_patience(spectator.next()).await.expect("the stream goes on").expect("it does not end");
        assert!(!matches!(event, WatchEvent::Desync(_)), "{event:?}");
    }
    assert!(spectator.mirror().owner().is_none() && spectator.mirror().shown_count() > 0);
    spectator.steer(Action::SeekTick(1500)).await.expect("it is taken");
    while spectator.stats().jumps == 0 || spectator.mirror().tick() < Tick(1510) {
        within_patience(spectator.next()).await.expect("the stream goes on").expect("it does not end");
    }
    assert_eq!((spectator.state().speed, spectator.stats().desyncs), (4.0, 0));
    spectator.steer(Action::Live(pb::WatchLive {})).await.expect_err("nothing is live");
    let stopped = server.begin_stop();
    let goodbye = loop {
        if let Some(WatchEvent::Goodbye(goodbye)) =
            within_patience(spectator.next()).await.expect("a goodbye comes first")
        {
            break goodbye;
        }
    };
    assert_eq!(goodbye.reason(), pb::GoodbyeReason::Shutdown);
    within_patience(stopped).await.expect("it ends");
}
