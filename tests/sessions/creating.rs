//! What sessions are wanted as, and how many there may be.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tickwire_arena::Arena;
use tickwire_proto::v1::{
    CreateSessionRequest, ListGamesRequest, NewSession, QuickMatch, SessionState, SessionVisibility,
    join_session_request::Target, session_service_client::SessionServiceClient,
};
use tickwire_server::{Limits, ServerConfig};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

use super::{assert_refused, attributes, beads, create, delete, empty, end, get, join, request, seats, to};
use crate::{
    harness::{RawClient, TestServer, config, eventually, reason_of, within_patience},
    tiny_game::Beads,
};

#[tokio::test]
async fn games_are_listed_with_what_a_form_has_to_know() {
    let config = ServerConfig { games: vec!["beads".into(), "arena".into()], max_players: seats(8), ..empty() };
    let server = TestServer::start(config, vec![Arc::new(Arena), Arc::new(Beads)]).await;
    let mut client = SessionServiceClient::new(server.channel().await);
    let answer = client.list_games(ListGamesRequest {}).await.expect("it answers").into_inner();
    assert!(answer.can_create);
    let [beads, arena] = answer.games.as_slice() else { panic!("{answer:?}") };
    assert_eq!((beads.name.as_str(), arena.name.as_str(), beads.schema_hash.len()), ("beads", "arena", 32));
    assert_eq!((beads.min_tick_rate, beads.default_tick_rate, beads.max_tick_rate), (1, 60, 240));
    assert_eq!((beads.default_max_players, beads.max_players), (8, 8));
    let [speed] = beads.settings.as_slice() else { panic!("{beads:?}") };
    assert_eq!((speed.name.as_str(), speed.unit.as_str()), ("speed", "m/s"));
    assert_eq!((speed.min, speed.max, speed.step, speed.default), (0.5, 20.0, 0.5, 5.0));
    server.stop().await;
}

#[tokio::test]
async fn a_session_is_created_as_it_was_wanted_and_played() {
    let (server, mut client) = beads(empty()).await;
    let wanted = NewSession {
        settings: [("speed".to_owned(), 7.5)].into(),
        tick_rate: 30,
        max_players: 3,
        seed: Some(7),
        label: "Ada's".into(),
        attributes: attributes(&[("mode", "ctf")]),
        spectator_delay: Some(Duration::from_secs(2).try_into().expect("short")),
        empty_timeout: Some(Duration::from_secs(1_000_000).try_into().expect("short")),
        ..NewSession::default()
    };
    let created = create(&mut client, "ours", wanted).await;
    assert_eq!(
        (created.name.as_str(), created.game.as_str(), created.state()),
        ("sessions/ours", "beads", SessionState::Running)
    );
    assert_eq!((created.tick_rate, created.max_players, created.settings.as_slice()), (30, 3, [15].as_slice()));
    assert_eq!((created.label.as_str(), &created.attributes), ("Ada's", &attributes(&[("mode", "ctf")])));
    assert_eq!((created.visibility(), created.join_code.as_str()), (SessionVisibility::Public, ""));
    assert_eq!(created.spectator_delay.map(|delay| delay.seconds), Some(2));
    assert_eq!(created.empty_timeout.map(|timeout| timeout.seconds), Some(86_400), "it is clamped");

    let mut player = RawClient::greet(&server, to("sessions/ours")).await;
    let welcome = player.welcome().await;
    assert_eq!((welcome.tick_rate, welcome.settings.as_slice()), (30, [15].as_slice()));
    player.play_until(|snapshot| snapshot.tick > 3).await;
    assert_eq!(get(&mut client, "sessions/ours").await.expect("it is there").players, 1);
    let unnamed = create(&mut client, "", NewSession::default()).await;
    assert!(unnamed.name.starts_with("sessions/beads-") && unnamed.name.len() == "sessions/beads-".len() + 12);
    assert_eq!(unnamed.empty_timeout.map(|timeout| timeout.seconds), Some(300));
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_the_name_of_the_field() {
    let (server, mut client) = beads(ServerConfig { max_players: seats(8), ..empty() }).await;
    create(&mut client, "ours", NewSession::default()).await;
    let new = NewSession::default;
    let setting = |name: &str, value| NewSession { settings: [(name.to_owned(), value)].into(), ..new() };
    let long = Duration::from_secs(11).try_into().expect("short");
    let mut negative = NewSession { empty_timeout: Some(Duration::ZERO.try_into().expect("short")), ..new() };
    negative.empty_timeout.iter_mut().for_each(|timeout| timeout.seconds = -1);
    let mixed = NewSession { empty_timeout: Some(prost_types::Duration { seconds: 1, nanos: -1 }), ..new() };
    for (id, session, code, reason, field) in [
        ("Ours", new(), Code::InvalidArgument, "MALFORMED_ID", "session_id"),
        ("ours", new(), Code::AlreadyExists, "ID_TAKEN", "session_id"),
        ("", NewSession { game: "chess".into(), ..new() }, Code::NotFound, "UNKNOWN_GAME", "session.game"),
        ("", setting("speed", 21.0), Code::InvalidArgument, "SETTING", "session.settings.speed"),
        ("", setting("speed", f64::NAN), Code::InvalidArgument, "SETTING", "session.settings.speed"),
        ("", setting("gravity", 1.0), Code::InvalidArgument, "SETTING", "session.settings.gravity"),
        ("", NewSession { tick_rate: 241, ..new() }, Code::InvalidArgument, "OUT_OF_RANGE", "session.tick_rate"),
        ("", NewSession { max_players: 9, ..new() }, Code::InvalidArgument, "OUT_OF_RANGE", "session.max_players"),
        ("", NewSession { visibility: 9, ..new() }, Code::InvalidArgument, "OUT_OF_RANGE", "session.visibility"),
        ("", NewSession { label: "x".repeat(65), ..new() }, Code::InvalidArgument, "OUT_OF_RANGE", "session.label"),
        (
            "",
            NewSession { attributes: attributes(&[("A", "")]), ..new() },
            Code::InvalidArgument,
            "OUT_OF_RANGE",
            "session.attributes",
        ),
        (
            "",
            NewSession { spectator_delay: Some(long), ..new() },
            Code::FailedPrecondition,
            "NOT_RECORDED",
            "session.spectator_delay",
        ),
        (
            "",
            NewSession { label: "a\u{202e}b".into(), ..new() },
            Code::InvalidArgument,
            "OUT_OF_RANGE",
            "session.label",
        ),
        (
            "",
            NewSession { attributes: attributes(&[("map", "a\u{200b}b")]), ..new() },
            Code::InvalidArgument,
            "OUT_OF_RANGE",
            "session.attributes",
        ),
        ("", mixed, Code::InvalidArgument, "OUT_OF_RANGE", "session.empty_timeout"),
        ("", negative, Code::InvalidArgument, "OUT_OF_RANGE", "session.empty_timeout"),
    ] {
        let status = client.create_session(request(id, session)).await.expect_err("it cannot be");
        assert_refused(&status, code, reason, field);
    }
    let too_fast = client.create_session(request("", setting("speed", 21.0))).await.expect_err("too fast");
    assert_eq!(too_fast.message(), "session.settings.speed: 21 is out of range: choose 0.5 to 20 m/s");
    assert_eq!(server.probe.sessions().len(), 1, "nothing else was started");
    server.stop().await;
}

#[tokio::test]
async fn the_same_call_creates_one_session_however_often_and_however_close_it_comes() {
    let (server, mut client) = beads(empty()).await;
    let request = |id: &str, label: &str| CreateSessionRequest {
        session_id: String::new(),
        session: Some(NewSession {
            label: label.into(),
            visibility: SessionVisibility::ByCode.into(),
            ..NewSession::default()
        }),
        request_id: id.into(),
    };
    let calls = (0..50).map(|i| {
        let mut client = client.clone();
        let request = request("1", "");
        async move {
            let answer = client.create_session(request);
            // The answers of some are lost.
            if i % 5 == 0 {
                tokio::time::timeout(Duration::ZERO, answer).await.ok().map(|answer| answer.expect("it is created"))
            } else {
                Some(answer.await.expect("it is created"))
            }
        }
    });
    let answers: Vec<_> =
        within_patience(join_all(calls)).await.into_iter().flatten().map(|answer| answer.into_inner()).collect();
    let made: BTreeSet<(&str, &str)> =
        answers.iter().map(|session| (session.name.as_str(), session.join_code.as_str())).collect();
    assert_eq!((made.len(), server.probe.sessions().len()), (1, 1));

    let status = client.create_session(request("1", "another")).await.expect_err("it is another call");
    assert_refused(&status, Code::AlreadyExists, "OTHER_REQUEST", "request_id");
    client.create_session(request("2", "")).await.expect("it is another call");
    assert_eq!(server.probe.sessions().len(), 2);
    let status = client.create_session(request("an id", "")).await.expect_err("a blank");
    assert_refused(&status, Code::InvalidArgument, "MALFORMED_REQUEST_ID", "request_id");

    let name = &answers[0].name;
    end(&mut client, name, "").await.expect("it ends");
    eventually("it is forgotten", || server.probe.sessions().len() == 1).await;
    let status = client.create_session(request("1", "")).await.expect_err("it has ended");
    assert_refused(&status, Code::FailedPrecondition, "SESSION_ENDED", "request_id");
    server.stop().await;
}

#[tokio::test]
async fn there_are_no_more_sessions_than_the_server_and_one_creator_may_have() {
    let limits = Limits { sessions_max: 3, sessions_per_creator_max: 2, ..Limits::default() };
    let (server, mut client) = beads(ServerConfig { limits, sessions: 0, ..config() }).await;
    for id in ["a", "b"] {
        create(&mut client, id, NewSession::default()).await;
    }
    let status = client.create_session(request("c", NewSession::default())).await.expect_err("too many");
    assert_refused(&status, Code::ResourceExhausted, "SESSIONS_OF_CREATOR", "");
    assert_eq!(server.probe.refusals().get("SESSIONS_OF_CREATOR"), Some(&1));
    delete(&mut client, "sessions/a").await.expect("it ends");
    create(&mut client, "c", NewSession::default()).await;
    server.stop().await;

    let limits = Limits { sessions_max: 2, ..Limits::default() };
    let (server, mut client) = beads(ServerConfig { limits, ..config() }).await;
    create(&mut client, "a", NewSession::default()).await;
    let status = client.create_session(request("b", NewSession::default())).await.expect_err("too many");
    assert_refused(&status, Code::ResourceExhausted, "SESSIONS", "");
    server.counts("SESSIONS", 1).await;
    server.stop().await;

    let (server, mut client) = beads(ServerConfig { create_sessions: false, ..empty() }).await;
    let status = client.create_session(request("a", NewSession::default())).await.expect_err("it is off");
    assert_refused(&status, Code::PermissionDenied, "CREATION_OFF", "");
    let quick = Target::QuickMatch(QuickMatch::default());
    assert_eq!(reason_of(&join(&mut client, quick, "").await.expect_err("there is none")), "CREATION_OFF");
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_can_create_sessions_serves_without_one() {
    let server = TestServer::start(empty(), vec![Arc::new(Beads)]).await;
    let mut health = server.health("tickwire.v1.GameService").await;
    assert_eq!(health.next().await, ServingStatus::Serving);
    server.stop().await;
    let server = TestServer::start(ServerConfig { create_sessions: false, ..empty() }, vec![Arc::new(Beads)]).await;
    let mut health = server.health("tickwire.v1.GameService").await;
    while health.next().await != ServingStatus::NotServing {}
    server.stop().await;
}
