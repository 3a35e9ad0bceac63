//! What a server says beside the game: its sessions, its health, and its protocol.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use tickwire_arena::Arena;
use tickwire_proto::v1::{
    GetSessionRequest, ListSessionsRequest, SessionState, session_service_client::SessionServiceClient,
};
use tickwire_server::{RunError, Server, ServerConfig};
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};

use crate::{
    harness::{ARENA_1, BytesCodec, RawClient, TestServer, config, eventually, field_of},
    tiny_game::Beads,
};

async fn two_games_of_three() -> TestServer {
    let config = ServerConfig { games: vec!["beads".into(), "arena".into()], sessions: 3, ..config() };
    TestServer::start(config, vec![Arc::new(Arena), Arc::new(Beads)]).await
}

fn names(sessions: &[tickwire_proto::v1::Session]) -> Vec<&str> {
    sessions.iter().map(|session| session.name.as_str()).collect()
}

#[tokio::test]
async fn a_session_is_described() {
    let server = TestServer::arena(config()).await;
    let (_client, _) = RawClient::join(&server).await;
    let mut sessions = SessionServiceClient::new(server.channel().await);
    let request = GetSessionRequest { name: ARENA_1.into() };
    let session = sessions.get_session(request).await.expect("it is there").into_inner();
    assert_eq!(
        (session.name.as_str(), session.game.as_str(), session.state()),
        (ARENA_1, "arena", SessionState::Running)
    );
    assert_eq!((session.tick_rate, session.epoch, session.players, session.max_players), (60, 0, 1, 256));
    assert!(session.tick > 0);
    assert!(session.create_time.is_some_and(|time| time.seconds > 0));
    server.stop().await;
}

#[tokio::test]
async fn sessions_are_listed_by_pages_and_by_game() {
    let server = two_games_of_three().await;
    let mut sessions = SessionServiceClient::new(server.channel().await);
    let mut list = async |page_size, page_token: String, game: &str| {
        let request = ListSessionsRequest { page_size, page_token, game: game.into(), filter: None };
        sessions.list_sessions(request).await.map(tonic::Response::into_inner)
    };

    let first = list(4, String::new(), "").await.expect("valid");
    assert_eq!(
        names(&first.sessions),
        ["sessions/arena-1", "sessions/arena-2", "sessions/arena-3", "sessions/beads-1"]
    );
    let second = list(4, first.next_page_token, "").await.expect("valid");
    assert_eq!(names(&second.sessions), ["sessions/beads-2", "sessions/beads-3"]);
    assert_eq!(second.next_page_token, "");

    let beads = list(3, String::new(), "beads").await.expect("valid");
    assert_eq!((beads.sessions.len(), beads.next_page_token.as_str()), (3, ""));
    assert!(list(0, String::new(), "chess").await.expect("valid").sessions.is_empty());
    assert_eq!(list(u32::MAX, String::new(), "").await.expect("valid").sessions.len(), 6);
    let status = list(0, "the next one".into(), "").await.expect_err("no token of ours");
    assert_eq!((status.code(), field_of(&status).as_str()), (Code::InvalidArgument, "page_token"));
    server.stop().await;
}

#[tokio::test]
async fn who_names_no_session_gets_the_first_of_the_game() {
    let server = two_games_of_three().await;
    let (_client, welcome) = RawClient::join(&server).await;
    assert_eq!(welcome.session, "sessions/beads-1");
    let hello = tickwire_proto::v1::Hello { game: "arena".into(), ..crate::harness::hello() };
    assert_eq!(RawClient::greet(&server, hello).await.welcome().await.session, ARENA_1);
    server.stop().await;
}

#[tokio::test]
async fn names_of_sessions_that_are_not_there_or_are_no_names_are_told_apart() {
    let server = TestServer::arena(config()).await;
    let mut sessions = SessionServiceClient::new(server.channel().await);
    let mut refused = async |name: &str| -> Status {
        let request = GetSessionRequest { name: name.into() };
        sessions.get_session(request).await.expect_err("there is no such session")
    };
    for (name, code) in
        [("sessions/arena-2", Code::NotFound), ("arena-1", Code::InvalidArgument), ("", Code::InvalidArgument)]
    {
        let status = refused(name).await;
        assert_eq!((status.code(), field_of(&status).as_str()), (code, "name"), "{name:?}: {status:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn health_is_told_for_the_server_and_for_each_service() {
    let server = TestServer::arena(config()).await;
    let mut health = HealthClient::new(server.channel().await);
    for service in ["", "tickwire.v1.GameService", "tickwire.v1.SessionService"] {
        let request = HealthCheckRequest { service: service.into() };
        let answer = health.check(request).await.expect("it is known").into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
    }
    let request = HealthCheckRequest { service: "tickwire.v1.Chess".into() };
    assert_eq!(health.check(request).await.expect_err("it is not known").code(), Code::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn both_versions_of_reflection_list_the_services_of_their_port_and_no_others() {
    let server = TestServer::arena(config()).await;
    let expected = BTreeSet::from([
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "tickwire.v1.ChatService",
        "tickwire.v1.GameService",
        "tickwire.v1.RecordingService",
        "tickwire.v1.SessionService",
    ]);

    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let mut answers =
        client.server_reflection_info(tokio_stream::once(request)).await.expect("it answers").into_inner();
    let answer = answers.message().await.expect("it answers").and_then(|answer| answer.message_response);
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) = answer else {
        panic!("{answer:?} is no list");
    };
    let listed: BTreeSet<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(listed, expected);

    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let mut answers =
        client.server_reflection_info(tokio_stream::once(request)).await.expect("it answers").into_inner();
    let answer = answers.message().await.expect("it answers").and_then(|answer| answer.message_response);
    let Some(v1alpha::server_reflection_response::MessageResponse::ListServicesResponse(list)) = answer else {
        panic!("{answer:?} is no list");
    };
    let listed: BTreeSet<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(listed, expected);
    server.stop().await;
}

#[tokio::test]
async fn methods_that_are_not_there_are_unimplemented() {
    let server = TestServer::arena(config()).await;
    let mut grpc = tonic::client::Grpc::new(server.channel().await);
    for path in ["/tickwire.v1.GameService/Conquer", "/tickwire.v1.Chess/Play"] {
        grpc.ready().await.expect("it is connected");
        let path = http::uri::PathAndQuery::from_static(path);
        let answer = grpc.unary(tonic::Request::new(Bytes::new()), path, BytesCodec).await;
        assert_eq!(answer.expect_err("there is no such method").code(), Code::Unimplemented);
    }
    server.stop().await;
}

#[tokio::test]
async fn games_that_the_server_was_not_built_with_are_refused_with_those_that_it_has() {
    let start = |games: &[&str]| {
        let games = games.iter().map(|name| (*name).to_owned()).collect();
        Server::start(ServerConfig { games, ..config() }, vec![Arc::new(Arena), Arc::new(Beads)]).map(drop)
    };
    let error = start(&["chess"]).expect_err("there is no chess");
    assert!(matches!(error, RunError::UnknownGame { .. }));
    assert_eq!(error.to_string(), "games: there is no \"chess\"; this server was built with arena, beads");
    assert!(matches!(start(&["arena", "arena"]), Err(RunError::GameTwice(_))));
    assert!(matches!(Server::start(config(), Vec::new()), Err(RunError::NoGames)));
}

#[tokio::test]
async fn a_server_that_is_dropped_unserved_stops_its_threads() {
    let server = Server::start(config(), vec![Arc::new(Arena)]).expect("it starts");
    let probe = server.probe();
    eventually("it ticks", || probe.ticks()[0].0 > 0).await;
    drop(server);
    let stopped_at = probe.ticks();
    assert_eq!(probe.tasks(), 0);
    assert_eq!(probe.ticks(), stopped_at);
}

#[tokio::test]
async fn a_server_whose_serving_is_dropped_stops_its_sessions() {
    let server = TestServer::arena(config()).await;
    eventually("it ticks", || server.probe.ticks()[0].0 > 0).await;
    let probe = server.probe.clone();
    server.abort().await;
    let stopped_at = probe.ticks();
    assert_eq!(probe.tasks(), 0);
    assert_eq!(probe.ticks(), stopped_at);
}
