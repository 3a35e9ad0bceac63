//! How often one caller asks for seats, and how many are reserved for it: nobody holds those of all others.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bevy_ecs::prelude::*;
use futures_util::future::join_all;
use tickwire_arena::Arena;
use tickwire_proto::v1::{
    self as pb, CreateSessionRequest, JoinSessionRequest, JoinSessionResponse, QuickMatch,
    join_session_request::Target, session_service_client::SessionServiceClient,
};
use tickwire_server::{Limits, Server, ServerConfig, Timeouts};
use tickwire_shared::{Definition, Game, Settings, Systems, TickRate};
use tonic::{Code, Request, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{
    harness::{ARENA_1, RawClient, TestServer, Witness, config, eventually, hello, reason_of, within_patience},
    identity::{API_KEY, Gate},
};

type Client = SessionServiceClient<Channel>;

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("not 0")
}

fn named(session: &str) -> Target {
    Target::Name(session.into())
}

fn request(target: Target) -> JoinSessionRequest {
    JoinSessionRequest { target: Some(target), ..JoinSessionRequest::default() }
}

async fn join(client: &mut Client, request: JoinSessionRequest) -> Result<JoinSessionResponse, Status> {
    within_patience(client.join_session(request)).await.map(tonic::Response::into_inner)
}

fn with_key(request: JoinSessionRequest) -> Request<JoinSessionRequest> {
    let mut request = Request::new(request);
    request.metadata_mut().insert("authorization", format!("Bearer {API_KEY}").parse().expect("ASCII"));
    request
}

/// It says why, when to try again, and is counted.
fn assert_exhausted(server: &TestServer, status: &Status, reason: &str) {
    assert_eq!((status.code(), reason_of(status).as_str()), (Code::ResourceExhausted, reason), "{status:?}");
    let details = status.get_error_details();
    let delay = details.retry_info().and_then(|retry| retry.retry_delay).expect("it says when");
    assert!(delay > Duration::ZERO && delay <= Duration::from_secs(1), "{delay:?}");
    assert!(server.probe.refusals().contains_key(reason), "{:?}", server.probe.refusals());
}

#[tokio::test]
async fn an_address_has_so_many_seats_reserved_at_once_and_others_still_get_in() {
    let limits = Limits { limit_loopback: true, seats_reserved_per_address_max: 2, ..Limits::default() };
    let server = TestServer::arena(ServerConfig { limits, max_players: number(8), ..config() }).await;
    let mut client = Client::new(server.channel().await);
    let first = join(&mut client, request(named(ARENA_1))).await.expect("there is room");
    let again = JoinSessionRequest { request_id: "1".into(), ..request(named(ARENA_1)) };
    let second = join(&mut client, again.clone()).await.expect("there is room");
    let quick = Target::QuickMatch(QuickMatch { game: "arena".into(), ..QuickMatch::default() });
    for target in [named(ARENA_1), quick] {
        let refused = join(&mut client, request(target)).await.expect_err("it holds as many as it may");
        assert_exhausted(&server, &refused, "SEATS_RESERVED");
    }
    assert_eq!((server.probe.seats_reserved(), server.probe.refusals()["SEATS_RESERVED"]), (2, 2));
    // The same call is for a seat that is reserved already.
    join(&mut client, again).await.expect("it is the same seat");
    // Who comes without a ticket finds the rest, and whoever comes with one makes room for another.
    let _witness = Witness::join(&server).await;
    let mut players = Vec::new();
    for ticket in [first.ticket, second.ticket] {
        let mut player = RawClient::greet(&server, pb::Hello { ticket, ..hello() }).await;
        player.welcome().await;
        players.push(player);
        join(&mut client, request(named(ARENA_1))).await.expect("a seat was taken");
    }
    server.stop().await;
}

#[tokio::test]
async fn seats_in_sessions_to_come_are_reserved_too_and_what_comes_to_nothing_is_not() {
    let limits = Limits { limit_loopback: true, seats_reserved_per_address_max: 3, ..Limits::default() };
    let server = TestServer::arena(ServerConfig { limits, sessions: 0, ..config() }).await;
    let client = Client::new(server.channel().await);
    let quick = || Target::QuickMatch(QuickMatch { game: "arena".into(), ..QuickMatch::default() });
    let calls = (0..8).map(|_| {
        let mut client = client.clone();
        async move { join(&mut client, request(quick())).await }
    });
    let (seated, refused): (Vec<_>, Vec<_>) = join_all(calls).await.into_iter().partition(Result::is_ok);
    assert_eq!((seated.len(), refused.len()), (3, 5));
    refused.iter().filter_map(|refused| refused.as_ref().err()).for_each(|status| {
        assert_exhausted(&server, status, "SEATS_RESERVED");
    });
    server.stop().await;

    let limits = Limits { limit_loopback: true, seats_reserved_per_address_max: 1, ..Limits::default() };
    let server = TestServer::arena(ServerConfig { limits, ..config() }).await;
    let mut client = Client::new(server.channel().await);
    for target in [named("sessions/none"), named("none"), Target::JoinCode("none".into())] {
        join(&mut client, request(target)).await.expect_err("there is none such");
    }
    join(&mut client, request(named(ARENA_1))).await.expect("none of them holds a seat");
    server.stop().await;
}

#[tokio::test]
async fn an_address_asks_for_so_many_seats_per_second() {
    let limits = Limits {
        limit_loopback: true,
        joins_per_second_per_address_max: number(1),
        joins_burst_per_address_max: number(2),
        ..Limits::default()
    };
    let server = Server::start(ServerConfig { limits: limits.clone(), ..config() }, vec![Arc::new(Arena)]);
    let server = server.expect("the configuration is good");
    let control = server.control();
    let server = TestServer::serve(server).await;
    let mut client = Client::new(server.channel().await);
    // Whatever comes of them.
    join(&mut client, request(named("sessions/none"))).await.expect_err("there is none such");
    let ticket = join(&mut client, request(named(ARENA_1))).await.expect("within the burst").ticket;
    let refused = join(&mut client, request(named(ARENA_1))).await.expect_err("beyond it");
    assert_exhausted(&server, &refused, "JOINS");
    // Who has a seat may take it: joins themselves are counted by themselves.
    let mut player = RawClient::greet(&server, pb::Hello { ticket, ..hello() }).await;
    player.welcome().await;
    // Limits that change hold at once.
    let more =
        Limits { joins_per_second_per_address_max: number(1000), joins_burst_per_address_max: number(5000), ..limits };
    control.set_limits(more).expect("they make sense");
    join(&mut client, request(named(ARENA_1))).await.expect("it may ask more often now");
    server.stop().await;
}

#[tokio::test]
async fn an_api_key_has_bounds_of_its_own_which_hold_for_this_machine_too() {
    let limits = Limits {
        joins_per_second_per_key_max: number(1),
        joins_burst_per_key_max: number(3),
        seats_reserved_per_key_max: 1,
        ..Limits::default()
    };
    let gate = Gate::with(|config| config.limits = limits).await;
    let mut client = Client::new(gate.server.channel().await);
    client.join_session(with_key(request(named(ARENA_1)))).await.expect("there is room");
    for reason in ["SEATS_RESERVED", "SEATS_RESERVED", "JOINS"] {
        let refused =
            client.join_session(with_key(request(named(ARENA_1)))).await.expect_err("it is beyond its bounds");
        assert_exhausted(&gate.server, &refused, reason);
    }
    gate.server.stop().await;
}

#[tokio::test]
async fn a_back_end_reserves_all_seats_of_a_matchmaking_at_once() {
    let sessions = 3;
    let rate = TickRate::new(10).expect("a rate");
    let gate = Gate::with(|config| (config.sessions, config.tick_rate) = (sessions, rate)).await;
    let client = Client::new(gate.server.channel().await);
    let calls = (0..256 * sessions).map(|place| {
        let mut client = client.clone();
        let session = format!("sessions/arena-{}", 1 + place % sessions);
        let request = JoinSessionRequest { request_id: place.to_string(), ..request(named(&session)) };
        async move { within_patience(client.join_session(with_key(request))).await }
    });
    let refused: Vec<Status> = join_all(calls).await.into_iter().filter_map(Result::err).collect();
    assert!(refused.is_empty(), "{refused:?}");
    gate.server.stop().await;
}

/// A game that does not come back from a session's set-up while the test has its gate closed.
#[derive(Default)]
struct Slow {
    is_closed: Mutex<bool>,
    is_waited_at: AtomicBool,
    opened: Condvar,
}

struct SlowGame(Arc<Slow>);

impl Game for SlowGame {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn define(&self, _game: &mut Definition) {}

    fn setup(&self, _world: &mut World, _settings: &Settings) {
        let is_closed = self.0.is_closed.lock().expect("sound");
        self.0.is_waited_at.store(*is_closed, Ordering::SeqCst);
        drop(self.0.opened.wait_while(is_closed, |closed| *closed).expect("sound"));
    }

    fn systems(&self, _systems: &mut Systems) {}
}

#[tokio::test]
async fn so_many_sessions_wait_to_be_created() {
    const WAITING_MAX: usize = 64;
    let slow = Arc::<Slow>::default();
    let limits = Limits { sessions_per_creator_max: 1000, ..Limits::default() };
    let server =
        TestServer::start(ServerConfig { limits, ..config() }, vec![Arc::new(SlowGame(Arc::clone(&slow)))]).await;
    *slow.is_closed.lock().expect("sound") = true;
    let client = Client::new(server.channel().await);
    let calls = (0..=WAITING_MAX).map(async |_| client.clone().create_session(CreateSessionRequest::default()).await);
    let open = async {
        server.counts("BUSY", 1).await;
        *slow.is_closed.lock().expect("sound") = false;
        slow.opened.notify_all();
    };
    let (answers, ()) = tokio::join!(join_all(calls), open);
    let refused: Vec<Status> = answers.into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.len(), 1);
    assert_exhausted(&server, &refused[0], "BUSY");
    server.stop().await;
}

#[tokio::test]
async fn a_server_does_not_wait_for_a_game_that_hangs_in_its_set_up() {
    let slow = Arc::<Slow>::default();
    let timeouts = Timeouts { close: Duration::from_millis(200), end: Duration::from_millis(100), ..config().timeouts };
    let config = ServerConfig { timeouts, ..config() };
    let server = TestServer::start(config, vec![Arc::new(SlowGame(Arc::clone(&slow)))]).await;
    *slow.is_closed.lock().expect("sound") = true;
    let mut client = Client::new(server.channel().await);
    let creating = tokio::spawn(async move { client.create_session(CreateSessionRequest::default()).await });
    eventually("it hangs", || slow.is_waited_at.load(Ordering::SeqCst)).await;
    server.stop().await;
    assert!(*slow.is_closed.lock().expect("sound"), "it hangs still");
    creating.await.expect("it does not panic").expect_err("it was never created");
    *slow.is_closed.lock().expect("sound") = false;
    slow.opened.notify_all();
}
