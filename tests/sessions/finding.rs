//! How callers find sessions, and are told of what changes.

use std::collections::BTreeMap;

use tickwire_proto::v1::{
    ListSessionsRequest, NewSession, Session, SessionFilter, SessionState, SessionVisibility, WatchSessionsRequest,
    WatchSessionsResponse, join_session_request::Target, session_service_client::SessionServiceClient,
};
use tonic::{Code, Streaming};

use super::{Client, assert_refused, attributes, beads, create, delete, empty, end, get, join, with};
use crate::harness::{RawClient, config, reason_of, within_patience};

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
async fn so_many_watch_which_sessions_there_are() {
    const WATCHERS_MAX: usize = 256;
    let (server, mut client) = beads(empty()).await;
    let mut watching = Vec::new();
    while watching.len() < WATCHERS_MAX {
        let mut client = SessionServiceClient::new(server.channel().await);
        for _ in 0..64 {
            watching.push(Board::open(&mut client).await);
        }
    }
    let status = client.watch_sessions(WatchSessionsRequest::default()).await.expect_err("as many watch as may");
    assert_refused(&status, Code::ResourceExhausted, "WATCHERS", "");
    assert_eq!(server.probe.refusals().get("WATCHERS"), Some(&1));
    drop(watching);
    // Whoever has left makes room for others.
    while let Err(status) = client.watch_sessions(WatchSessionsRequest::default()).await {
        assert_eq!(reason_of(&status), "WATCHERS");
    }
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
