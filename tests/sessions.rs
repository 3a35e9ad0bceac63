//! Sessions that callers create, find, join and end.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    time::Duration,
};

use bevy_ecs::prelude::*;
use futures_util::future::join_all;
use tickwire_arena::Arena;
use tickwire_proto::v1::{
    self as pb, CreateSessionRequest, DeleteSessionRequest, EndSessionRequest, GetSessionRequest, JoinSessionRequest,
    ListGamesRequest, ListSessionsRequest, NewSession, QuickMatch, Session, SessionEndCause, SessionFilter,
    SessionState, SessionVisibility, WatchSessionsRequest, WatchSessionsResponse, join_session_request::Target,
    session_service_client::SessionServiceClient,
};
use tickwire_recording::{EndReason, RecorderStatus, Recording, RecordingState, Replay, verify};
use tickwire_server::{Limits, RecordingConfig, Server, ServerConfig, Timeouts};
use tickwire_shared::{Definition, Game, InputField, InputId, Inputs, MatchEnd, Quantity, Systems};
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::{
    harness::{RawClient, TestServer, Witness, config, eventually, field_of, hello, input, reason_of, within_patience},
    tiny_game::Beads,
};

type Client = SessionServiceClient<Channel>;

/// A server that starts without sessions.
fn empty() -> ServerConfig {
    ServerConfig { sessions: 0, ..config() }
}

async fn beads(config: ServerConfig) -> (TestServer, Client) {
    let server = TestServer::start(config, vec![Arc::new(Beads)]).await;
    let client = SessionServiceClient::new(server.channel().await);
    (server, client)
}

fn request(id: &str, session: NewSession) -> CreateSessionRequest {
    CreateSessionRequest { session_id: id.into(), session: Some(session), request_id: String::new() }
}

async fn create(client: &mut Client, id: &str, session: NewSession) -> Session {
    within_patience(client.create_session(request(id, session))).await.expect("it is created").into_inner()
}

fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

async fn get(client: &mut Client, name: &str) -> Result<Session, Status> {
    within_patience(client.get_session(GetSessionRequest { name: name.into() })).await.map(tonic::Response::into_inner)
}

async fn end(client: &mut Client, name: &str, result_json: &str) -> Result<Session, Status> {
    let request = EndSessionRequest { name: name.into(), result_json: result_json.into() };
    within_patience(client.end_session(request)).await.map(tonic::Response::into_inner)
}

async fn delete(client: &mut Client, name: &str) -> Result<(), Status> {
    within_patience(client.delete_session(DeleteSessionRequest { name: name.into() })).await.map(drop)
}

async fn join(client: &mut Client, target: Target, request_id: &str) -> Result<(String, String), Status> {
    let request =
        JoinSessionRequest { target: Some(target), request_id: request_id.into(), ..JoinSessionRequest::default() };
    let answer = within_patience(client.join_session(request)).await?.into_inner();
    let session = answer.session.expect("it says where");
    assert!(answer.expire_time.is_some());
    Ok((session.name, answer.ticket))
}

fn to(session: &str) -> pb::Hello {
    pb::Hello { session: session.into(), ..hello() }
}

fn with(ticket: &str) -> pb::Hello {
    pb::Hello { ticket: ticket.into(), ..hello() }
}

fn assert_refused(status: &Status, code: Code, reason: &str, field: &str) {
    assert_eq!((status.code(), &*reason_of(status), &*field_of(status)), (code, reason, field), "{status:?}");
}

fn seats(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).expect("not 0")
}

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

#[tokio::test]
async fn there_are_no_more_sessions_than_the_server_and_one_creator_may_have() {
    let limits = Limits { sessions_max: 3, sessions_per_creator_max: 2, ..Limits::default() };
    let (server, mut client) = beads(ServerConfig { limits, sessions: 0, ..config() }).await;
    for id in ["a", "b"] {
        create(&mut client, id, NewSession::default()).await;
    }
    let status = client.create_session(request("c", NewSession::default())).await.expect_err("too many");
    assert_refused(&status, Code::ResourceExhausted, "SESSIONS_OF_CREATOR", "");
    delete(&mut client, "sessions/a").await.expect("it ends");
    create(&mut client, "c", NewSession::default()).await;
    server.stop().await;

    let limits = Limits { sessions_max: 2, ..Limits::default() };
    let (server, mut client) = beads(ServerConfig { limits, ..config() }).await;
    create(&mut client, "a", NewSession::default()).await;
    let status = client.create_session(request("b", NewSession::default())).await.expect_err("too many");
    assert_refused(&status, Code::ResourceExhausted, "SESSIONS", "");
    server.stop().await;

    let (server, mut client) = beads(ServerConfig { create_sessions: false, ..empty() }).await;
    let status = client.create_session(request("a", NewSession::default())).await.expect_err("it is off");
    assert_refused(&status, Code::PermissionDenied, "CREATION_OFF", "");
    let quick = Target::QuickMatch(QuickMatch::default());
    assert_eq!(reason_of(&join(&mut client, quick, "").await.expect_err("there is none")), "CREATION_OFF");
    server.stop().await;
}

async fn list(client: &mut Client, page_size: u32, page_token: &str, filter: SessionFilter) -> (Vec<String>, String) {
    let request =
        ListSessionsRequest { page_size, page_token: page_token.into(), game: String::new(), filter: Some(filter) };
    let page = client.list_sessions(request).await.expect("valid").into_inner();
    (page.sessions.into_iter().map(|session| session.name).collect(), page.next_page_token)
}

#[tokio::test]
async fn pages_have_each_session_once_that_was_there_all_the_time() {
    let (server, mut client) = beads(empty()).await;
    for id in ["b", "d", "f", "h", "j"] {
        create(&mut client, id, NewSession::default()).await;
    }
    let everything = SessionFilter::default;
    let (mut seen, mut token) = list(&mut client, 2, "", everything()).await;
    // One that was seen goes, one comes before, one after; one that was not seen goes.
    delete(&mut client, "sessions/d").await.expect("it ends");
    for id in ["a", "g"] {
        create(&mut client, id, NewSession::default()).await;
    }
    delete(&mut client, "sessions/h").await.expect("it ends");
    while !token.is_empty() {
        let (page, next) = list(&mut client, 2, &token, everything()).await;
        seen.extend(page);
        token = next;
    }
    assert_eq!(seen, ["b", "d", "f", "g", "j"].map(|id| format!("sessions/{id}")));

    let (_, token) = list(&mut client, 1, "", everything()).await;
    let other = SessionFilter { min_free_seats: 1, ..everything() };
    let request = ListSessionsRequest { page_token: token, filter: Some(other), ..ListSessionsRequest::default() };
    let status = client.list_sessions(request).await.expect_err("another list's");
    assert_refused(&status, Code::InvalidArgument, "UNKNOWN_PAGE_TOKEN", "page_token");
    server.stop().await;
}

#[tokio::test]
async fn lists_are_filtered_and_tell_of_public_sessions_alone() {
    let (server, mut client) = beads(empty()).await;
    let with_mode = |mode: &str, max_players| NewSession {
        attributes: attributes(&[("mode", mode), ("region", "eu")]),
        max_players,
        ..NewSession::default()
    };
    create(&mut client, "a", with_mode("ctf", 1)).await;
    create(&mut client, "b", with_mode("ctf", 2)).await;
    create(&mut client, "c", with_mode("race", 2)).await;
    for (id, visibility) in [("u", SessionVisibility::Unlisted), ("v", SessionVisibility::ByCode)] {
        create(&mut client, id, NewSession { visibility: visibility.into(), ..with_mode("ctf", 2) }).await;
    }
    join(&mut client, Target::Name("sessions/a".into()), "").await.expect("there is a seat");
    let mode = |mode: &str| SessionFilter { attributes: attributes(&[("mode", mode)]), ..SessionFilter::default() };
    let mut names = async |filter| list(&mut client, 0, "", filter).await.0.join(" ").replace("sessions/", "");
    assert_eq!(names(SessionFilter::default()).await, "a b c");
    assert_eq!(names(mode("ctf")).await, "a b");
    assert_eq!(names(SessionFilter { min_free_seats: 1, ..mode("ctf") }).await, "b");
    assert_eq!(names(SessionFilter { min_free_seats: 3, ..SessionFilter::default() }).await, "");
    let states = |state: SessionState| SessionFilter { states: vec![state.into()], ..SessionFilter::default() };
    assert_eq!(names(states(SessionState::Running)).await, "a b c");
    assert_eq!(names(states(SessionState::Failed)).await, "");
    assert_eq!(get(&mut client, "sessions/u").await.expect("who knows the name may ask").attributes.len(), 2);
    server.stop().await;
}

/// What a watcher knows.
struct Board {
    stream: Streaming<WatchSessionsResponse>,
    sessions: BTreeMap<String, Session>,
    resets: usize,
}

impl Board {
    async fn open(client: &mut Client) -> Self {
        let stream = client.watch_sessions(WatchSessionsRequest::default()).await.expect("there is room").into_inner();
        let mut board = Self { stream, sessions: BTreeMap::new(), resets: 0 };
        board.next().await;
        board
    }

    async fn next(&mut self) {
        loop {
            let change = within_patience(self.stream.message()).await.expect("it goes on").expect("it goes on");
            if change.reset {
                self.sessions.clear();
                self.resets += 1;
            }
            for name in change.removed {
                assert!(self.sessions.remove(&name).is_some(), "{name} was not there");
            }
            for session in change.added {
                assert!(self.sessions.insert(session.name.clone(), session).is_none(), "it was there");
            }
            for session in change.updated {
                assert!(self.sessions.insert(session.name.clone(), session).is_some(), "it was not there");
            }
            if !change.more {
                return;
            }
        }
    }

    async fn until(&mut self, wanted: impl Fn(&BTreeMap<String, Session>) -> bool) {
        while !wanted(&self.sessions) {
            self.next().await;
        }
    }
}

#[tokio::test]
async fn who_watches_is_told_what_there_is_and_then_what_changes() {
    let (server, mut client) = beads(config()).await;
    let mut board = Board::open(&mut client).await;
    assert_eq!(board.sessions.keys().map(String::as_str).collect::<Vec<_>>(), ["sessions/beads-1"]);
    create(&mut client, "ours", NewSession::default()).await;
    let hidden = NewSession { visibility: SessionVisibility::Unlisted.into(), ..NewSession::default() };
    create(&mut client, "hidden", hidden).await;
    board.until(|sessions| sessions.len() == 2).await;
    let (_, ticket) = join(&mut client, Target::Name("sessions/ours".into()), "").await.expect("there is a seat");
    let ours = |sessions: &BTreeMap<String, Session>| {
        let ours = &sessions["sessions/ours"];
        (ours.reserved, ours.players)
    };
    board.until(|sessions| ours(sessions) == (1, 0)).await;
    let mut player = RawClient::greet(&server, with(&ticket)).await;
    player.welcome().await;
    board.until(|sessions| ours(sessions) == (0, 1)).await;
    // A slow reader is told of all that has happened at once.
    for i in 0..20 {
        create(&mut client, &format!("more-{i}"), NewSession::default()).await;
    }
    for i in 0..19 {
        delete(&mut client, &format!("sessions/more-{i}")).await.expect("it ends");
    }
    end(&mut client, "sessions/ours", "").await.expect("it ends");
    board.until(|sessions| sessions.len() == 2 && sessions.contains_key("sessions/more-19")).await;
    assert_eq!(board.resets, 1);
    server.stop().await;
}

#[tokio::test]
async fn a_watch_ends_with_its_server() {
    let (server, mut client) = beads(config()).await;
    let mut board = Board::open(&mut client).await;
    let stopping = server.begin_stop();
    let status = loop {
        match within_patience(board.stream.message()).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it says why"),
            Err(status) => break status,
        }
    };
    assert_refused(&status, Code::Unavailable, "SHUTTING_DOWN", "");
    within_patience(stopping).await.expect("the server does not panic");
}

#[tokio::test]
async fn a_reserved_seat_is_kept_for_whoever_has_the_ticket_and_for_one_of_them() {
    let (server, mut client) = beads(empty()).await;
    create(&mut client, "ours", NewSession { max_players: 2, ..NewSession::default() }).await;
    let ours = || Target::Name("sessions/ours".into());
    let (name, ticket) = join(&mut client, ours(), "1").await.expect("there is a seat");
    assert_eq!(name, "sessions/ours");
    let (_, again) = join(&mut client, ours(), "1").await.expect("it is the same call");
    let session = get(&mut client, &name).await.expect("it is there");
    assert_eq!((session.reserved, session.players), (1, 0));
    let other = join(&mut client, Target::QuickMatch(QuickMatch::default()), "1").await.expect_err("another call");
    assert_refused(&other, Code::AlreadyExists, "OTHER_REQUEST", "request_id");

    let mut walk_in = RawClient::greet(&server, to(&name)).await;
    walk_in.welcome().await;
    let status = RawClient::greet(&server, to(&name)).await.end().await.1;
    assert_refused(&status, Code::ResourceExhausted, "FULL", "");
    let status = join(&mut client, ours(), "2").await.expect_err("both are taken");
    assert_refused(&status, Code::ResourceExhausted, "FULL", "");

    let status =
        RawClient::greet(&server, pb::Hello { session: "sessions/other".into(), ..with(&ticket) }).await.end().await.1;
    assert_refused(&status, Code::PermissionDenied, "OTHER_SESSION", "hello.session");
    let mut player = RawClient::greet(&server, with(&again)).await;
    assert_eq!(player.welcome().await.session, name);
    for used in [&ticket, &again] {
        let status = RawClient::greet(&server, with(used)).await.end().await.1;
        assert_refused(&status, Code::FailedPrecondition, "TICKET_USED", "hello.ticket");
    }
    let status = join(&mut client, ours(), "1").await.expect_err("its seat is taken");
    assert_refused(&status, Code::FailedPrecondition, "TICKET_USED", "request_id");
    for nobodys in ["x", &"A".repeat(43)] {
        let status = RawClient::greet(&server, with(nobodys)).await.end().await.1;
        assert_refused(&status, Code::Unauthenticated, "UNKNOWN_TICKET", "hello.ticket");
    }
    let session = get(&mut client, &name).await.expect("it is there");
    assert_eq!((session.reserved, session.players), (0, 2));
    server.stop().await;
}

#[tokio::test]
async fn a_seat_that_nobody_comes_for_is_free_again() {
    let (server, mut client) = beads(empty()).await;
    create(&mut client, "ours", NewSession { max_players: 1, ..NewSession::default() }).await;
    let ours = || Target::Name("sessions/ours".into());
    let (name, ticket) = join(&mut client, ours(), "1").await.expect("there is a seat");
    eventually("the seat is not kept any more", || server.probe.seats_reserved() == 0).await;
    let status = RawClient::greet(&server, with(&ticket)).await.end().await.1;
    assert_refused(&status, Code::FailedPrecondition, "TICKET_EXPIRED", "hello.ticket");
    let status = join(&mut client, ours(), "1").await.expect_err("it was given up");
    assert_refused(&status, Code::FailedPrecondition, "TICKET_EXPIRED", "request_id");
    RawClient::greet(&server, to(&name)).await.welcome().await;
    server.stop().await;
}

#[tokio::test]
async fn a_session_by_code_takes_in_whoever_knows_the_code_and_nobody_else() {
    let (server, mut client) = beads(empty()).await;
    let by_code = NewSession { visibility: SessionVisibility::ByCode.into(), ..NewSession::default() };
    let session = create(&mut client, "ours", by_code).await;
    assert_eq!((session.join_code.len(), &session.join_code[4..5]), (10, "-"));
    assert_eq!(get(&mut client, &session.name).await.expect("it is there").join_code, "", "it is for its creator");
    let status = RawClient::greet(&server, to(&session.name)).await.end().await.1;
    assert_refused(&status, Code::PermissionDenied, "TICKET_NEEDED", "hello.ticket");
    assert_eq!(RawClient::greet(&server, hello()).await.end().await.1.code(), Code::NotFound, "it is nobody's first");
    let status = join(&mut client, Target::Name(session.name.clone()), "").await.expect_err("it needs the code");
    assert_refused(&status, Code::PermissionDenied, "CODE_NEEDED", "name");

    let typed = session.join_code.to_lowercase().replace('-', "");
    let (_, ticket) = join(&mut client, Target::JoinCode(typed), "").await.expect("it is the code");
    RawClient::greet(&server, with(&ticket)).await.welcome().await;

    // Whatever is wrong with a code, the answer is the same; and soon there are none any more.
    let wrong = if session.join_code.starts_with("0000") { "1111-11111" } else { "0000-00000" };
    let mut answers = BTreeSet::new();
    for code in [wrong, "x", "", "!!!!", &"Z".repeat(1000)].iter().cycle().take(10) {
        let status = join(&mut client, Target::JoinCode((*code).into()), "").await.expect_err("it is wrong");
        assert_refused(&status, Code::NotFound, "NOT_FOUND", "join_code");
        answers.insert((status.message().to_owned(), status.details().to_vec()));
    }
    assert_eq!(answers.len(), 1);
    let status = join(&mut client, Target::JoinCode(session.join_code), "").await.expect_err("it has to wait");
    assert_refused(&status, Code::ResourceExhausted, "ATTEMPTS", "join_code");
    server.stop().await;
}

#[tokio::test]
async fn a_quick_match_finds_the_fullest_session_that_fits_and_makes_one_where_there_is_none() {
    let (server, mut client) = beads(empty()).await;
    let mode = |mode: &str| attributes(&[("mode", mode)]);
    let new = |mode: BTreeMap<_, _>| NewSession { attributes: mode, max_players: 3, ..NewSession::default() };
    create(&mut client, "a", new(mode("ctf"))).await;
    create(&mut client, "b", new(mode("ctf"))).await;
    create(&mut client, "c", NewSession { visibility: SessionVisibility::Unlisted.into(), ..new(mode("race")) }).await;
    RawClient::greet(&server, to("sessions/b")).await.welcome().await;
    let quick = |mode: BTreeMap<_, _>| Target::QuickMatch(QuickMatch { game: "beads".into(), attributes: mode });
    let mut names = Vec::new();
    for _ in 0..4 {
        names.push(join(&mut client, quick(mode("ctf")), "").await.expect("there is room").0);
    }
    assert_eq!(names, ["b", "b", "a", "a"].map(|id| format!("sessions/{id}")));
    let (made, _) = join(&mut client, quick(mode("race")), "").await.expect("one is made");
    let session = get(&mut client, &made).await.expect("it is there");
    assert_eq!(
        (&session.attributes, session.visibility(), session.reserved),
        (&mode("race"), SessionVisibility::Public, 1)
    );
    assert_eq!(join(&mut client, quick(mode("race")), "").await.expect("there is room").0, made);
    let status =
        join(&mut client, Target::QuickMatch(QuickMatch { game: "chess".into(), ..QuickMatch::default() }), "").await;
    assert_refused(&status.expect_err("no such game"), Code::NotFound, "UNKNOWN_GAME", "quick_match.game");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_quick_matches_at_once_make_no_more_sessions_than_hold_them() {
    const CALLS: usize = 300;
    const SEATS: u32 = 8;
    let config = ServerConfig { max_players: seats(SEATS), simulation_threads: NonZeroUsize::new(2), ..empty() };
    let (server, _) = beads(config).await;
    let channels = join_all((0..6).map(|_| server.channel())).await;
    let calls = (0..CALLS).map(|i| {
        let mut client = SessionServiceClient::new(channels[i % channels.len()].clone());
        async move {
            let quick = || Target::QuickMatch(QuickMatch::default());
            let id = i.to_string();
            // Each comes twice: the same call, one after the other or at once.
            let mut twice = client.clone();
            let (first, second) = tokio::join!(join(&mut client, quick(), &id), join(&mut twice, quick(), &id));
            let (first, second) = (first.expect("there is room"), second.expect("there is room"));
            assert_eq!(first.0, second.0, "one call has one seat");
            first
        }
    });
    let seats = within_patience(join_all(calls)).await;
    let tickets: BTreeSet<&String> = seats.iter().map(|(_, ticket)| ticket).collect();
    assert_eq!(tickets.len(), CALLS);
    let mut by_session = BTreeMap::<&String, u32>::new();
    for (session, _) in &seats {
        *by_session.entry(session).or_default() += 1;
    }
    assert!(by_session.values().all(|seats| *seats <= SEATS), "{by_session:?}");
    let needed = CALLS.div_ceil(SEATS as usize);
    assert_eq!((by_session.len(), server.probe.sessions().len()), (needed, needed), "{by_session:?}");
    assert_eq!(server.probe.seats_reserved() as usize, CALLS);
    server.stop().await;
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

#[tokio::test]
async fn who_watches_a_session_by_code_needs_a_ticket_too_which_stays_good() {
    let (server, mut client) = beads(empty()).await;
    let by_code = NewSession { visibility: SessionVisibility::ByCode.into(), ..NewSession::default() };
    let session = create(&mut client, "ours", by_code).await;
    let mut games = pb::game_service_client::GameServiceClient::new(server.channel().await);
    let mut watch = async |hello: pb::Hello| {
        let request = pb::WatchRequest { hello: Some(hello), ..pb::WatchRequest::default() };
        within_patience(games.watch(request)).await.map(tonic::Response::into_inner)
    };
    let status = watch(to(&session.name)).await.expect_err("it is by code");
    assert_refused(&status, Code::PermissionDenied, "TICKET_NEEDED", "hello.ticket");
    let (_, ticket) = join(&mut client, Target::JoinCode(session.join_code), "").await.expect("it is the code");
    let mut watching = watch(with(&ticket)).await.expect("it is let in");
    within_patience(watching.message()).await.expect("it is welcomed").expect("it is welcomed");
    RawClient::greet(&server, with(&ticket)).await.welcome().await;
    end(&mut client, &session.name, "7").await.expect("it ends");
    let goodbye = loop {
        let message = within_patience(watching.message()).await.expect("it ends well").expect("it says why");
        if let Some(pb::server_message::Kind::Goodbye(goodbye)) = message.kind {
            break goodbye;
        }
    };
    assert_eq!((goodbye.reason(), goodbye.result_json.as_str()), (pb::GoodbyeReason::SessionEnded, "7"));
    server.stop().await;
}
