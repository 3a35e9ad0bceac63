//! How sessions end: by a caller, by their game, with nobody in them, with their server.

use std::{sync::Arc, time::Duration};

use bevy_ecs::prelude::*;
use futures_util::future::join_all;
use tickwire_proto::v1::{
    self as pb, NewSession, SessionEndCause, SessionState, join_session_request::Target,
    session_service_client::SessionServiceClient,
};
use tickwire_recording::{EndReason, Recording, RecordingState, Replay, verify};
use tickwire_server::{Server, ServerConfig, Timeouts};
use tickwire_shared::{Definition, Game, InputField, InputId, Inputs, MatchEnd, Quantity, Systems};
use tonic::Code;

use super::{assert_refused, beads, create, delete, empty, end, get, join, request, to};
use crate::{
    harness::{RawClient, TestServer, Witness, config, eventually, field_of, input},
    tiny_game::Beads,
};

#[tokio::test]
async fn a_session_ends_with_a_result_for_its_players_its_callers_and_its_recording() {
    let directory = tempfile::tempdir().expect("a directory");
    let (server, mut client) = beads(ServerConfig { recordings: Some(directory.path().to_owned()), ..empty() }).await;
    let name = create(&mut client, "ours", NewSession::default()).await.name;
    create(&mut client, "theirs", NewSession::default()).await;
    let mut player = RawClient::greet(&server, to(&name)).await;
    player.welcome().await;
    player.play_until(|snapshot| snapshot.tick > 3).await;
    for wrong in ["{", &"1".repeat(5000)] {
        assert_eq!(field_of(&end(&mut client, &name, wrong).await.expect_err("no result")), "result_json");
    }

    let result = r#"{"winner":1}"#;
    let ended = end(&mut client, &name, result).await.expect("it ends");
    let how = ended.end.clone().expect("it says how");
    assert_eq!(
        (ended.state(), how.cause(), how.result_json.as_str()),
        (SessionState::Ended, SessionEndCause::Requested, result)
    );
    assert!(how.time.is_some());
    let (goodbye, status) = player.end().await;
    let goodbye = goodbye.expect("it says why");
    assert_eq!((goodbye.reason(), goodbye.result_json.as_str()), (pb::GoodbyeReason::SessionEnded, result));
    assert_eq!(status.code(), Code::Ok);
    let again = end(&mut client, &name, "1").await.expect("it has ended");
    assert_eq!(again.end, ended.end, "the first is the one");

    eventually("it is let go", || server.probe.sessions().len() == 1).await;
    assert_eq!(get(&mut client, &name).await.expect("it is known").end, ended.end);
    let status = RawClient::greet(&server, to(&name)).await.end().await.1;
    assert_refused(&status, Code::FailedPrecondition, "SESSION_ENDED", "hello.session");
    let status = join(&mut client, Target::Name(name.clone()), "").await.expect_err("it has ended");
    assert_refused(&status, Code::FailedPrecondition, "SESSION_ENDED", "name");

    let listed = tickwire_recording::list(directory.path()).expect("it is there");
    let ours = listed.iter().find(|listed| listed.path.to_string_lossy().contains("ours-")).expect("it was recorded");
    let recording = Recording::open(&ours.path).expect("it opens");
    assert_eq!(recording.summary().state, RecordingState::Complete(EndReason::Ended { result_json: result.into() }));
    verify(&recording, Arc::new(Beads)).expect("it replays");

    let status = client.create_session(request("ours", NewSession::default())).await.expect_err("it was there");
    assert_refused(&status, Code::AlreadyExists, "ID_TAKEN", "session_id");
    delete(&mut client, &name).await.expect("it is forgotten");
    assert_eq!(get(&mut client, &name).await.expect_err("it is forgotten").code(), Code::NotFound);
    assert_eq!(delete(&mut client, &name).await.expect_err("it is forgotten").code(), Code::NotFound);
    create(&mut client, "ours", NewSession::default()).await;
    delete(&mut client, &name).await.expect("it runs, and ends");
    assert_eq!(get(&mut client, &name).await.expect_err("it is forgotten").code(), Code::NotFound);
    assert_eq!(server.probe.sessions().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn nobody_ends_what_another_has_started() {
    let (server, mut client) = beads(config()).await;
    for status in [
        end(&mut client, "sessions/beads-1", "").await.map(drop).expect_err("it is the server's"),
        delete(&mut client, "sessions/beads-1").await.expect_err("it is the server's"),
    ] {
        assert_refused(&status, Code::PermissionDenied, "NOT_CREATOR", "name");
    }
    assert_eq!(get(&mut client, "sessions/beads-1").await.expect("it runs").state(), SessionState::Running);
    server.stop().await;
}

#[tokio::test]
async fn who_has_created_a_session_and_nobody_else_is_told_its_code_again() {
    let (server, mut client) = beads(empty()).await;
    let hidden = NewSession { visibility: pb::SessionVisibility::ByCode.into(), ..NewSession::default() };
    let pb::Session { name, join_code, .. } = create(&mut client, "ours", hidden).await;
    let elsewhere = server.endpoint().local_address(Some([127, 0, 0, 2].into())).connect().await.expect("it accepts");
    let mut other = SessionServiceClient::new(elsewhere);
    assert!(!join_code.is_empty());
    assert_eq!(get(&mut client, &name).await.expect("it runs").join_code, join_code);
    assert_eq!(get(&mut other, &name).await.expect("it runs").join_code, "");
    let (_, ticket) = join(&mut other, Target::JoinCode(join_code.clone()), "").await.expect("it is the code");
    assert!(!ticket.is_empty());

    let refused = end(&mut other, &name, "").await.map(drop).expect_err("it is another's");
    assert_refused(&refused, Code::PermissionDenied, "NOT_CREATOR", "name");
    for _ in 0..2 {
        assert_eq!(end(&mut client, &name, "").await.expect("it is theirs").join_code, join_code);
    }
    eventually("it is let go", || server.probe.sessions().is_empty()).await;
    assert_eq!(get(&mut client, &name).await.expect("it is known").join_code, join_code);
    assert_eq!(get(&mut other, &name).await.expect("it is known").join_code, "");
    assert_eq!(end(&mut other, &name, "").await.expect("it has ended").join_code, "");
    server.stop().await;
}

#[tokio::test]
async fn a_session_that_nobody_is_in_ends_and_one_that_came_with_the_server_does_not() {
    let (server, mut client) = beads(config()).await;
    let short = || NewSession {
        empty_timeout: Some(Duration::from_secs(1).try_into().expect("short")),
        ..NewSession::default()
    };
    create(&mut client, "empty", short()).await;
    create(&mut client, "played", short()).await;
    let mut player = RawClient::greet(&server, to("sessions/played")).await;
    player.welcome().await;
    let plays = async {
        loop {
            player.play_until(|_| true).await;
        }
    };
    let ends = async {
        eventually("the empty one has ended", || server.probe.sessions().len() == 2).await;
        let ended = get(&mut client, "sessions/empty").await.expect("it is known");
        assert_eq!(ended.end.expect("it says how").cause(), SessionEndCause::Empty);
    };
    tokio::select! {
        () = plays => unreachable!("it plays on and on"),
        () = ends => {}
    }
    player.send(pb::client_message::Kind::Leave(pb::Leave {})).await;
    eventually("the other one has ended, too", || server.probe.sessions().len() == 1).await;
    assert_eq!(server.probe.sessions()[0].name, "sessions/beads-1");
    server.stop().await;
}

/// A game that ends when a player wants it to.
struct Ends;

impl Game for Ends {
    fn name(&self) -> &'static str {
        "ends"
    }

    fn define(&self, game: &mut Definition) {
        game.input(InputField::edge("end", Quantity::count(0..=1)));
    }

    fn systems(&self, systems: &mut Systems) {
        systems.add(|inputs: Res<Inputs>, mut end: ResMut<MatchEnd>| {
            for (player, _) in inputs.iter().filter(|(_, input)| input.pressed(InputId(0))) {
                end.end(format!(r#"{{"winner":{}}}"#, player.0));
            }
        });
    }
}

#[tokio::test]
async fn a_game_ends_its_session_with_a_result_and_its_recording_replays_to_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = ServerConfig { recordings: Some(directory.path().to_owned()), ..config() };
    let server = TestServer::start(config, vec![Arc::new(Ends)]).await;
    let mut client = SessionServiceClient::new(server.channel().await);
    let (mut player, _) = RawClient::join(&server).await;
    let newest = player.play_until(|_| true).await.tick;
    let inputs = vec![pb::Input { values: vec![1], ..input(1, newest + 10) }];
    player.send(pb::client_message::Kind::Inputs(pb::Inputs { epoch: 0, newest_tick: newest, inputs })).await;
    let (goodbye, status) = player.end().await;
    let goodbye = goodbye.expect("it says why");
    let result = r#"{"winner":1}"#;
    assert_eq!((goodbye.reason(), goodbye.result_json.as_str()), (pb::GoodbyeReason::SessionEnded, result));
    assert_eq!(status.code(), Code::Ok);
    eventually("it is let go", || server.probe.sessions().is_empty()).await;
    let end = get(&mut client, "sessions/ends-1").await.expect("it is known").end.expect("it says how");
    assert_eq!((end.cause(), end.result_json.as_str()), (SessionEndCause::Game, result));

    let [listed] = tickwire_recording::list(directory.path()).expect("it is there").try_into().expect("one");
    let recording = Recording::open(&listed.path).expect("it opens");
    assert_eq!(recording.summary().state, RecordingState::Complete(EndReason::Ended { result_json: result.into() }));
    let mut replay = Replay::new(&recording, Arc::new(Ends)).expect("it replays");
    for tick in replay.by_ref() {
        tick.expect("it replays");
    }
    assert_eq!(replay.session().match_end(), Some(result));
    verify(&recording, Arc::new(Ends)).expect("it replays");
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_ends_ends_created_sessions_and_creates_no_more() {
    let server = Server::start(empty(), vec![Arc::new(Beads)]).expect("it starts");
    let server = TestServer::serve(server).await;
    let mut client = SessionServiceClient::new(server.channel().await);
    create(&mut client, "ours", NewSession::default()).await;
    let mut player = RawClient::greet(&server, to("sessions/ours")).await;
    player.welcome().await;
    let probe = server.probe.clone();
    server.stop().await;
    assert_eq!(player.end().await.0.expect("it says why").reason(), pb::GoodbyeReason::Shutdown);
    assert_eq!((probe.streams(), probe.tasks()), (0, 0));
}

#[tokio::test]
async fn sessions_that_come_and_go_leave_nothing_behind() {
    const ROUNDS: usize = 10;
    const AT_ONCE: usize = 30;
    let directory = tempfile::tempdir().expect("a directory");
    // However busy the machine is, no session is taken for stuck.
    let timeouts = Timeouts { stuck: Duration::from_secs(60), ..config().timeouts };
    let config = ServerConfig { recordings: Some(directory.path().to_owned()), timeouts, ..config() };
    let (server, client) = beads(config).await;
    let mut witness = Witness::join(&server).await;
    let churn = async {
        let probe = &server.probe;
        let now = || (probe.tasks(), probe.connections(), probe.seats(), open_files(directory.path()));
        let before = now();
        for round in 0..ROUNDS {
            let sessions = (0..AT_ONCE).map(|i| {
                let (mut client, server) = (client.clone(), &server);
                async move {
                    let id = format!("s-{round}-{i}");
                    let session = create(&mut client, &id, NewSession::default()).await;
                    let mut player = RawClient::greet(server, to(&session.name)).await;
                    player.welcome().await;
                    end(&mut client, &session.name, "").await.expect("it ends");
                    assert_eq!(player.end().await.1.code(), Code::Ok);
                }
            });
            join_all(sessions).await;
            eventually("all are gone", || (probe.sessions().len(), probe.streams()) == (1, 1)).await;
            eventually(&format!("all is as it was: {before:?}"), || now() == before).await;
        }
    };
    // The witness takes longer for a moment than others on a machine as busy as this.
    tokio::time::timeout(Duration::from_secs(120), witness.plays_during(churn)).await.expect("it comes to an end");
    server.stop().await;
    let listed = tickwire_recording::list(directory.path()).expect("it is there");
    let ended = RecordingState::Complete(EndReason::Ended { result_json: String::new() });
    let ended =
        listed.iter().filter(|listed| listed.summary.as_ref().is_ok_and(|summary| summary.state == ended)).count();
    assert_eq!((listed.len(), ended), (ROUNDS * AT_ONCE + 1, ROUNDS * AT_ONCE));
}

/// Files below `directory` that this process has open; where that cannot be told, one.
fn open_files(directory: &std::path::Path) -> usize {
    let Ok(files) = std::fs::read_dir("/proc/self/fd") else { return 1 };
    files
        .filter_map(|file| std::fs::read_link(file.ok()?.path()).ok())
        .filter(|path| path.starts_with(directory) && path.extension().is_some_and(|extension| extension == "mcap"))
        .count()
}
