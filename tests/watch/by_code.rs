//! Recordings of sessions that are joined by code, where recordings are everybody's.

use std::{fs, num::NonZeroU64, path::Path, time::Duration};

use tempfile::TempDir;
use tickwire_client::JoinOptions;
use tickwire_proto::v1::{
    self as pb, SavedState, SessionVisibility, join_session_request::Target,
    recording_service_client::RecordingServiceClient, session_service_client::SessionServiceClient,
};
use tickwire_recording::Recording;
use tickwire_server::{RecordingConfig, ServerConfig};
use tonic::{Code, Status, transport::Channel};

use super::{
    play_as, recording_server,
    segments::{list_of, replay, segments, until_segments},
    spectator::Spectator,
};
use crate::{
    harness::{TestServer, config, eventually, hello, reason_of, within_patience},
    identity::{API_KEY, API_KEY_HASH, bearing},
};

fn key() -> String {
    format!("Bearer {API_KEY}")
}

/// Records what is created on a server with an API key, in small segments that anybody may have.
fn segmented(config: &mut ServerConfig, keys: &Path) {
    fs::write(keys.join("api-keys"), format!("backend {API_KEY_HASH}\n")).expect("written");
    config.identity.api_keys = Some(keys.join("api-keys"));
    config.sessions = 0;
    config.recordings_public = true;
    config.recording = RecordingConfig {
        segment_bytes: NonZeroU64::new(16 * 1024),
        keyframe_interval: Duration::from_millis(500),
        recovery: true,
        ..RecordingConfig::default()
    };
}

/// A session that is joined by code, and somebody in it.
struct Match {
    server: TestServer,
    directory: TempDir,
    keys: TempDir,
    sessions: SessionServiceClient<Channel>,
    created: pb::Session,
}

impl Match {
    async fn with_segments(count: usize) -> Self {
        let keys = tempfile::tempdir().expect("a directory");
        let (server, directory) = recording_server(|config| segmented(config, keys.path())).await;
        let mut sessions = SessionServiceClient::new(server.channel().await);
        let session = pb::NewSession { visibility: SessionVisibility::ByCode.into(), ..pb::NewSession::default() };
        let create = pb::CreateSessionRequest { session: Some(session), ..pb::CreateSessionRequest::default() };
        let created = sessions.create_session(bearing(create, &key())).await.expect("the key is good").into_inner();
        let ticket = ticket(&mut sessions, &created.join_code).await;
        play_as(&server, JoinOptions { ticket: ticket.into(), ..JoinOptions::default() }, 5);
        until_segments(&directory, count).await;
        Self { server, directory, keys, sessions, created }
    }

    async fn download(&self, name: &str, key: Option<&str>) -> Result<Recording, Status> {
        let request = pb::DownloadRecordingRequest { name: name.into() };
        let request = match key {
            Some(key) => bearing(request, key),
            None => tonic::Request::new(request),
        };
        let mut service = RecordingServiceClient::new(self.server.channel().await);
        let mut parts = within_patience(service.download_recording(request)).await?.into_inner();
        let mut file = Vec::new();
        while let Some(part) = within_patience(parts.message()).await? {
            file.extend(part.data);
        }
        Ok(Recording::from_bytes(file).expect("a recording"))
    }
}

async fn ticket(sessions: &mut SessionServiceClient<Channel>, code: &str) -> String {
    let target = Some(Target::JoinCode(code.to_owned()));
    let join = pb::JoinSessionRequest { target, ..pb::JoinSessionRequest::default() };
    sessions.join_session(bearing(join, &key())).await.expect("it is the code").into_inner().ticket
}

/// Whether a file has the code by which its session is joined.
fn has_code(recording: &Recording) -> bool {
    let terms = recording.meta().terms.as_ref().expect("it was created");
    assert_eq!(terms.visibility, SessionVisibility::ByCode as u32);
    terms.join_code != 0
}

#[tokio::test]
async fn finished_segments_are_for_those_who_may_watch_until_the_session_ends_and_have_no_code() {
    let mut game = Match::with_segments(2).await;
    let first = list_of(&game.server).await.remove(0);
    assert_eq!((first.segment, first.state()), (1, SavedState::Complete));

    let refused = replay(&game.server, &first.name, 0).await.map(drop).expect_err("it brings no ticket");
    assert_eq!((refused.code(), reason_of(&refused).as_str()), (Code::PermissionDenied, "TICKET_NEEDED"));
    let refused = game.download(&first.name, None).await.map(drop).expect_err("it brings no key");
    assert_eq!((refused.code(), reason_of(&refused).as_str()), (Code::PermissionDenied, "RECORDINGS_PRIVATE"));

    let hello = pb::Hello { ticket: ticket(&mut game.sessions, &game.created.join_code).await, ..hello() };
    let request = pb::ReplayRequest { name: first.name.clone(), hello: Some(hello), ..pb::ReplayRequest::default() };
    let mut spectator = Spectator::replay(&game.server, request).await.expect("it knows the code");
    spectator.snapshots(2).await;
    assert!(!has_code(&game.download(&first.name, Some(&key())).await.expect("the key is good")));

    let end = pb::EndSessionRequest { name: game.created.name.clone(), result_json: String::new() };
    game.sessions.end_session(bearing(end, &key())).await.expect("it ends");
    let listed = list_of(&game.server).await;
    assert!(listed.len() > 1);
    for recording in listed {
        assert!(!has_code(&game.download(&recording.name, None).await.expect("it is everybody's")), "{recording:?}");
    }
    game.server.stop().await;
}

#[tokio::test]
async fn a_session_that_goes_on_from_its_newest_segment_still_has_its_code() {
    let Match { server, directory, keys, created, .. } = Match::with_segments(2).await;
    let opened = || segments(&directory).into_iter().filter_map(|path| Recording::open(path).ok());
    eventually("only the file that grows has the code", || {
        let codes: Vec<bool> = opened().map(|recording| has_code(&recording)).collect();
        matches!(&codes[..], [before @ .., true] if !before.is_empty() && before.iter().all(|has_code| !has_code))
    })
    .await;
    // What a kill would leave.
    let killed = tempfile::tempdir().expect("a directory");
    for file in fs::read_dir(directory.path()).expect("it is there") {
        let file = file.expect("it is readable");
        fs::copy(file.path(), killed.path().join(file.file_name())).expect("a disk");
    }
    server.stop().await;
    let mut config = ServerConfig { recordings: Some(killed.path().to_owned()), ..config() };
    segmented(&mut config, keys.path());
    let server = TestServer::arena(config).await;
    let mut sessions = SessionServiceClient::new(server.channel().await);
    assert!(!ticket(&mut sessions, &created.join_code).await.is_empty());
    let get = pb::GetSessionRequest { name: created.name };
    let again = sessions.get_session(get).await.expect("it goes on").into_inner();
    assert_eq!((again.epoch, again.visibility()), (1, SessionVisibility::ByCode));
    server.stop().await;
}
