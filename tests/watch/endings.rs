//! The end of a match, as those see it who see the match late.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tempfile::TempDir;
use tickwire_arena::Arena;
use tickwire_proto::v1::{
    self as pb, CreateSessionRequest, EndSessionRequest, NewSession, TerminateSessionRequest,
    session_service_client::SessionServiceClient,
};
use tickwire_recording::Recording;
use tickwire_server::ServerConfig;
use tonic::{Code, transport::Channel};

use super::{
    newest, recording_server,
    spectator::{Spectator, watch_request},
};
use crate::{
    admin::administrator::Administered,
    ending::{Fuse, press},
    harness::{RawClient, TestServer, config, eventually, hello, patient, reason_of, within_patience},
};

const RESULT: &str = r#"{"winner":7}"#;

/// A session that somebody has created, whose spectators see it `delay` late.
struct Late {
    sessions: SessionServiceClient<Channel>,
    name: String,
}

impl Late {
    async fn create(server: &TestServer, delay: Duration) -> Self {
        let mut sessions = SessionServiceClient::new(server.channel().await);
        let spectator_delay = Some(delay.try_into().expect("in range"));
        let session = Some(NewSession { spectator_delay, ..NewSession::default() });
        let request = CreateSessionRequest { session, ..CreateSessionRequest::default() };
        let created = within_patience(sessions.create_session(request)).await.expect("there is room").into_inner();
        Self { sessions, name: created.name }
    }

    async fn watch(&self, server: &TestServer, max_rate: u32) -> Spectator {
        let hello = Some(pb::Hello { session: self.name.clone(), max_rate, ..hello() });
        Spectator::watch(server, pb::WatchRequest { hello, ..watch_request() }).await.expect("there is room")
    }

    async fn end(&mut self) {
        let request = EndSessionRequest { name: self.name.clone(), result_json: RESULT.into() };
        within_patience(self.sessions.end_session(request)).await.expect("it runs");
    }

    /// The finished recording.
    fn recording(&self, directory: &TempDir) -> PathBuf {
        let listed = tickwire_recording::list(directory.path()).expect("it is there");
        let is_it = |path: &PathBuf| Recording::open(path).is_ok_and(|recording| recording.meta().session == self.name);
        listed.into_iter().map(|listed| listed.path).find(is_it).expect("it was recorded")
    }
}

fn last_tick(path: &PathBuf) -> u64 {
    Recording::open(path).expect("it opens").summary().last_tick().0
}

#[tokio::test]
async fn who_sees_a_match_late_sees_its_end_as_late() {
    let (server, directory) = recording_server(|_| {}).await;
    let mut late = Late::create(&server, Duration::from_secs(1)).await;
    let mut every_tick = late.watch(&server, 0).await;
    let mut some = late.watch(&server, 7).await;
    let mut in_the_past = late.watch(&server, 0).await;
    every_tick.until(|spectator| spectator.mirror.tick().0 > 30).await;
    in_the_past.until(|spectator| spectator.mirror.tick().0 > 30).await;
    in_the_past.steer_until(pb::watch_control::Action::SeekTick(1), |state| state.jumps == 1).await;
    let shown = every_tick.mirror.tick().0;
    late.end().await;
    let ends = tokio::join!(every_tick.end(), some.end(), in_the_past.end());
    for (goodbye, status) in [ends.0, ends.1, ends.2] {
        let goodbye = goodbye.expect("it is told");
        assert_eq!((goodbye.reason(), &*goodbye.result_json), (pb::GoodbyeReason::SessionEnded, RESULT));
        assert_eq!(status.code(), Code::Ok);
    }
    server.stop().await;
    let path = late.recording(&directory);
    let last = last_tick(&path);
    assert!(shown + 50 < last, "tick {shown} was shown of {last}");
    assert_eq!((every_tick.mirror.tick().0, some.mirror.tick().0), (last, last), "whatever their rate");
    for spectator in [every_tick, some, in_the_past] {
        spectator.check(&path, Arc::new(Arena));
    }
}

#[tokio::test]
async fn an_end_that_no_memory_keeps_is_played_from_the_recording() {
    let (server, directory) = recording_server(|config| config.sessions = 0).await;
    let mut late = Late::create(&server, Duration::from_millis(10_100)).await;
    let mut spectator = late.watch(&server, 0).await;
    eventually("the match goes on", || newest(&server) > 60).await;
    // Nobody has seen any of it.
    late.end().await;
    let (goodbye, status) = spectator.end().await;
    assert_eq!(goodbye.expect("it is told").result_json, RESULT);
    assert_eq!(status.code(), Code::Ok);
    server.stop().await;
    let path = late.recording(&directory);
    let last = last_tick(&path);
    assert_eq!((spectator.mirror.tick().0, spectator.state.jumps), (last, 0));
    assert!(spectator.ticks.len() as u64 > last / 2, "it is played, and not jumped over: {:?}", spectator.ticks);
    spectator.check(&path, Arc::new(Arena));
}

#[tokio::test]
async fn what_a_game_fails_after_is_shown_first() {
    let config = ServerConfig { timeouts: patient(), spectator_delay: Duration::from_secs(1), ..config() };
    let server = TestServer::start(config, vec![Arc::new(Fuse)]).await;
    let (mut client, _) = RawClient::join(&server).await;
    let mut spectator = Spectator::watch(&server, watch_request()).await.expect("there is room");
    press(&mut client, vec![1]).await;
    client.end().await;
    let last = newest(&server);
    let (goodbye, status) = spectator.end().await;
    assert_eq!(goodbye.expect("it says why").reason(), pb::GoodbyeReason::SessionFailed);
    assert_eq!(reason_of(&status), "SESSION_FAILED");
    assert_eq!(spectator.mirror.tick().0, last);
    server.stop().await;
}

#[tokio::test]
async fn nobody_waits_for_the_rest_of_what_an_admin_ends_or_of_a_server_that_ends() {
    let delay = Duration::from_secs(60);
    let administered = Administered::arena(ServerConfig { sessions: 2, spectator_delay: delay, ..config() }).await;
    let server = &administered.server;
    let watch = async |session: &str| {
        let hello = Some(pb::Hello { session: session.into(), ..hello() });
        Spectator::watch(server, pb::WatchRequest { hello, ..watch_request() }).await.expect("there is room")
    };
    let (mut first, mut second) = (watch("sessions/arena-1").await, watch("sessions/arena-2").await);
    eventually("there is more to be seen", || server.probe.ticks().iter().all(|tick| tick.0 > 10)).await;
    let end = TerminateSessionRequest { session: "sessions/arena-1".into(), reason: String::new() };
    administered.admin().await.terminate_session(end).await.expect("it runs");
    let (goodbye, status) = first.end().await;
    assert_eq!(goodbye.expect("it says why").reason(), pb::GoodbyeReason::Terminated);
    assert_eq!((reason_of(&status).as_str(), first.mirror.tick().0), ("TERMINATED", 0));
    let Administered { server, .. } = administered;
    server.stop().await;
    let (goodbye, _) = second.end().await;
    assert_eq!(goodbye.expect("it says why").reason(), pb::GoodbyeReason::Shutdown);
    assert_eq!(second.mirror.tick().0, 0);
}
