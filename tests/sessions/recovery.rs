//! What was created on a server that was killed.

use std::time::Duration;

use tickwire_proto::v1::{CreateSessionRequest, NewSession, SessionVisibility, join_session_request::Target};
use tickwire_recording::RecorderStatus;
use tickwire_server::{RecordingConfig, ServerConfig};

use super::{attributes, beads, create, end, join, with};
use crate::harness::{RawClient, config, eventually, reason_of};

#[tokio::test]
async fn a_server_goes_on_with_what_was_created_on_one_that_was_killed() {
    let [killed, directory] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let recorded = |directory: &tempfile::TempDir| ServerConfig {
        recordings: Some(directory.path().to_owned()),
        recording: RecordingConfig { recovery: true, ..RecordingConfig::default() },
        ..config()
    };
    let (server, mut client) = beads(recorded(&killed)).await;
    let call = CreateSessionRequest {
        request_id: "1".into(),
        session_id: "ours".into(),
        session: Some(NewSession {
            visibility: SessionVisibility::ByCode.into(),
            attributes: attributes(&[("mode", "ctf")]),
            label: "Ada's".into(),
            max_players: 3,
            tick_rate: 30,
            empty_timeout: Some(Duration::from_secs(60).try_into().expect("short")),
            ..NewSession::default()
        }),
    };
    let session = client.create_session(call.clone()).await.expect("it is created").into_inner();
    // In the way of the one that is started with the server.
    create(&mut client, "beads-2", NewSession::default()).await;
    let is_on_disk = |recorder: Option<RecorderStatus>| recorder.is_some_and(|recorder| recorder.lag_ticks < 2);
    eventually("all have ticks on the disk", || {
        server.probe.sessions().iter().all(|session| session.tick > 10)
            && server.probe.recordings().into_iter().all(is_on_disk)
    })
    .await;
    // What a kill would leave.
    for file in std::fs::read_dir(killed.path()).expect("it is there") {
        let file = file.expect("it is readable");
        std::fs::copy(file.path(), directory.path().join(file.file_name())).expect("a disk");
    }
    server.stop().await;

    let (server, mut client) = beads(ServerConfig { sessions: 2, ..recorded(&directory) }).await;
    let names: Vec<String> = server.probe.sessions().into_iter().map(|session| session.name).collect();
    assert_eq!(names, ["beads-1", "beads-3", "beads-2", "ours"].map(|id| format!("sessions/{id}")));
    let again = client.create_session(call.clone()).await.expect("it is the same call").into_inner();
    assert_eq!((&again.name, &again.join_code, again.epoch), (&session.name, &session.join_code, 1));
    assert_eq!(
        (&again.attributes, &again.label, again.visibility()),
        (&session.attributes, &session.label, session.visibility())
    );
    assert_eq!((again.max_players, again.tick_rate, &again.empty_timeout), (3, 30, &session.empty_timeout));
    let other = CreateSessionRequest { session_id: "other".into(), ..call };
    assert_eq!(reason_of(&client.create_session(other).await.expect_err("it is another call")), "OTHER_REQUEST");
    let (name, ticket) = join(&mut client, Target::JoinCode(session.join_code), "").await.expect("it is the code");
    assert_eq!(name, session.name);
    RawClient::greet(&server, with(&ticket)).await.welcome().await;
    end(&mut client, &name, "").await.expect("it has its creator");
    server.stop().await;
}
