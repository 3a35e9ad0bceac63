//! Seats that are kept for who has a ticket: by name, by code, by quick match.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
};

use futures_util::future::join_all;
use tickwire_proto::v1::{
    self as pb, JoinSessionRequest, NewSession, QuickMatch, SessionVisibility, TicketRole,
    join_session_request::Target, session_service_client::SessionServiceClient,
};
use tickwire_server::ServerConfig;
use tonic::Code;

use super::{assert_refused, attributes, beads, create, empty, end, get, join, seats, to, with};
use crate::harness::{RawClient, config, eventually, hello, within_patience};

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
    let elsewhere = server.endpoint().local_address(Some([127, 0, 0, 2].into())).connect().await.expect("it accepts");
    let told = get(&mut SessionServiceClient::new(elsewhere), &session.name).await.expect("it is there");
    assert_eq!(told.join_code, "", "it is for its creator");
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
    server.counts("ATTEMPTS", 1).await;
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

#[tokio::test]
async fn a_server_that_asks_for_no_tickets_gives_spectators_none_and_says_so() {
    let (server, mut client) = beads(config()).await;
    for role in [TicketRole::Spectator, TicketRole::Operator] {
        let target = Some(Target::Name("sessions/beads-1".into()));
        let request = JoinSessionRequest { target, role: role.into(), ..JoinSessionRequest::default() };
        let status = within_patience(client.join_session(request)).await.expect_err("it asks for none");
        assert_refused(&status, Code::FailedPrecondition, "NO_TICKETS", "role");
        assert!(status.message().contains("watch without one"), "{status:?}");
    }
    assert_eq!(server.probe.seats_reserved(), 0);
    server.stop().await;
}
