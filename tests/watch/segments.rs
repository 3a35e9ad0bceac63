//! Sessions whose recording is in several files.

use std::{fs, num::NonZeroU64, path::PathBuf, sync::Arc, time::Duration};

use tempfile::TempDir;
use tickwire_arena::Arena;
use tickwire_proto::v1::{
    self as pb, SavedState, recording_service_client::RecordingServiceClient, watch_control::Action,
};
use tickwire_recording::{Recording, list, verify};
use tickwire_server::ServerConfig;
use tonic::{Code, Status, transport::Channel};

use super::{
    newest, play, recording_server,
    spectator::{Spectator, watch_request},
};
use crate::harness::{TestServer, eventually, field_of, hello, reason_of};

/// A server whose session is recorded in small segments, while somebody plays.
pub(super) async fn segmented_server(change: impl FnOnce(&mut ServerConfig)) -> (TestServer, TempDir) {
    let (server, directory) = recording_server(|config| {
        config.recordings_public = true;
        config.recording.segment_bytes = NonZeroU64::new(16 * 1024);
        config.recording.keyframe_interval = Duration::from_millis(500);
        change(config);
    })
    .await;
    play(&server, 5);
    (server, directory)
}

/// The files of the recording, those that are finished and the one that grows.
pub(super) fn segments(directory: &TempDir) -> Vec<PathBuf> {
    list(directory.path()).expect("a directory").into_iter().map(|listed| listed.path).collect()
}

/// Waits until there are so many segments, and those before the newest are finished.
pub(super) async fn until_segments(directory: &TempDir, count: usize) {
    let is_live = |path: &PathBuf| path.to_string_lossy().ends_with(".live.mcap");
    eventually("there are segments", || {
        let segments = segments(directory);
        // One that is being finished has both names for a moment.
        let is_settled =
            segments.split_last().is_some_and(|(newest, others)| is_live(newest) && !others.iter().any(is_live));
        segments.len() >= count && is_settled
    })
    .await;
}

pub(super) async fn list_of(server: &TestServer) -> Vec<pb::Recording> {
    let request = pb::ListRecordingsRequest::default();
    service(server).await.list_recordings(request).await.expect("they are public").into_inner().recordings
}

async fn service(server: &TestServer) -> RecordingServiceClient<Channel> {
    RecordingServiceClient::new(server.channel().await)
}

pub(super) async fn replay(server: &TestServer, name: &str, from_tick: u64) -> Result<Spectator, Status> {
    let request =
        pb::ReplayRequest { name: name.into(), from_tick, hello: Some(hello()), ..pb::ReplayRequest::default() };
    Spectator::replay(server, request).await
}

#[tokio::test]
async fn a_spectator_goes_back_to_the_first_segment_and_on_through_all_that_follow() {
    let (server, directory) = segmented_server(|_| {}).await;
    until_segments(&directory, 3).await;
    let boundary = Recording::open(&segments(&directory)[1]).expect("a recording").meta().segment.first_tick.0;
    let request = pb::WatchRequest { from_tick: boundary - 20, ..watch_request() };
    let mut spectator = Spectator::watch(&server, request).await.expect("there is room");
    spectator.until(|spectator| spectator.mirror.tick().0 > boundary + 20).await;
    assert_eq!((spectator.state.jumps, spectator.state.first_tick), (0, 1), "{:?}", spectator.state);
    assert!(spectator.ticks[0] < boundary && spectator.hash_checks > 0);

    spectator.steer_until(Action::SeekTick(1), |state| state.jumps == 1).await;
    spectator.snapshots(1).await;
    assert!(spectator.ticks[0] < 20, "{:?}", spectator.ticks);
    // Faster than the match, over every boundary, to where that is.
    spectator.steer_until(Action::Speed(64.0), |state| state.live).await;
    spectator.snapshots(5).await;
    assert_eq!(spectator.state.problem, "");
    server.stop().await;
    for path in segments(&directory) {
        verify(&Recording::open(path).expect("a recording"), Arc::new(Arena)).expect("the same match");
    }
}

#[tokio::test]
async fn ticks_that_have_been_deleted_are_refused_by_their_name() {
    let (server, directory) = segmented_server(|_| {}).await;
    until_segments(&directory, 3).await;
    let [first, second, ..] = &segments(&directory)[..] else { panic!("there are three") };
    let first_left = Recording::open(second).expect("a recording").meta().segment.first_tick.0;
    fs::remove_file(first).expect("it is finished");
    let mut spectator = Spectator::watch(&server, watch_request()).await.expect("there is room");
    spectator.steer_until(Action::SeekTick(5), |state| !state.problem.is_empty()).await;
    let there_is_none = format!("there is no tick 5 any more: the recording begins with tick {first_left}");
    assert!(spectator.state.live && spectator.state.problem.contains(&there_is_none), "{:?}", spectator.state);
    spectator.steer_until(Action::SeekTick(first_left), |state| state.jumps > 0).await;
    spectator.snapshots(2).await;
    assert!(spectator.ticks[0] >= first_left);
    server.stop().await;
}

#[tokio::test]
async fn each_segment_is_a_recording_of_its_own() {
    let (server, directory) = segmented_server(|_| {}).await;
    until_segments(&directory, 3).await;
    let listed = list_of(&server).await;
    let mut first_tick = 1;
    for (i, recording) in listed.iter().enumerate() {
        assert_eq!((recording.segment as usize, recording.first_tick), (i + 1, first_tick), "{listed:?}");
        // The newest may have gone on in another file since.
        let is_newest = i + 1 == listed.len();
        assert!(recording.state() == SavedState::Complete || is_newest && recording.state() == SavedState::Live);
        first_tick += recording.ticks;
    }
    let second = &listed[1];
    let mut spectator = replay(&server, &second.name, 0).await.expect("it is public");
    assert_eq!(spectator.welcome.tick, second.first_tick);
    spectator.snapshots(2).await;
    assert_eq!(spectator.state.first_tick, second.first_tick);
    assert_eq!(spectator.state.last_tick, second.first_tick + second.ticks - 1);
    let status = spectator.steer(Action::SeekTick(second.first_tick - 1)).await.expect_err("it is in the first");
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::OutOfRange, "OUT_OF_RANGE"));
    assert!(status.message().contains(&format!("begins with tick {}", second.first_tick)), "{}", status.message());
    let refused = replay(&server, &second.name, 1).await.map(drop).expect_err("it is in the first");
    assert_eq!((refused.code(), field_of(&refused).as_str()), (Code::OutOfRange, "from_tick"));
    let path = segments(&directory)[1].clone();
    server.stop().await;
    spectator.check(&path, Arc::new(Arena));
}

#[tokio::test]
async fn a_segment_that_spectators_have_not_seen_is_nobodys_yet() {
    let (server, directory) = segmented_server(|config| config.spectator_delay = Duration::from_secs(3600)).await;
    until_segments(&directory, 2).await;
    assert!(newest(&server) > 1);
    let listed = list_of(&server).await;
    assert_eq!((listed[0].state(), listed[0].ticks, listed[0].bytes), (SavedState::Live, 0, 0), "{listed:?}");
    let refused = replay(&server, &listed[0].name, 0).await.map(drop).expect_err("nobody has seen it");
    assert_eq!(reason_of(&refused), "LIVE");
    let request = pb::DownloadRecordingRequest { name: listed[0].name.clone() };
    let refused = service(&server).await.download_recording(request).await.map(drop).expect_err("nobody has seen it");
    assert_eq!(reason_of(&refused), "LIVE");
    server.stop().await;
}
