//! Each limit of docs/limits.md exceeded: what the client gets, and that it is counted. Those of single messages are in
//! `bad_input`.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode};
use prost::Message as _;
use tickwire_proto::v1::{
    self as pb, GetSessionRequest, ListSessionsRequest, client_message::Kind, game_service_client::GameServiceClient,
    session_service_client::SessionServiceClient,
};
use tickwire_server::{Limits, Server, ServerConfig, Timeouts};
use tickwire_shared::TickRate;
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tonic::{Code, Status, codec::CompressionEncoding};
use tonic_types::StatusExt as _;

use crate::{
    harness::{
        ARENA_1, RawClient, TestServer, Witness, config, eventually, hello, input, play_bytes, reason_of,
        within_patience,
    },
    raw_http2::{
        CONTINUATION, DATA, END_STREAM, ENHANCE_YOUR_CALM, Ending, GET_SESSION, GOAWAY, HEADERS, PING, PRIORITY,
        RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, greeting, header_block, request, send_to_the_end,
    },
};

const SHORT: Duration = Duration::from_millis(200);

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("not 0")
}

async fn server(limits: Limits) -> TestServer {
    TestServer::arena(ServerConfig { limits, ..config() }).await
}

fn count(server: &TestServer, reason: &str) -> u64 {
    server.probe.refusals().get(reason).copied().unwrap_or(0)
}

fn assert_exhausted(status: &Status, reason: &str) {
    assert_eq!((status.code(), reason_of(status).as_str()), (Code::ResourceExhausted, reason), "{status:?}");
}

async fn get_session(client: &mut SessionServiceClient<tonic::transport::Channel>, name: String) -> Result<(), Status> {
    within_patience(client.get_session(GetSessionRequest { name })).await.map(drop)
}

/// Sends `bytes`, for which the server is to close the connection, beside a player who goes on.
async fn flood(server: &TestServer, bytes: Vec<u8>, reason: &str) -> Ending {
    let mut witness = Witness::join(server).await;
    let ending = witness.plays_during(send_to_the_end(server, [greeting(), bytes].concat())).await;
    assert!(ending.goaway.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{ending:?}");
    eventually("it is counted", || count(server, reason) == 1).await;
    ending
}

#[tokio::test]
async fn an_address_has_so_many_connections() {
    let limits = Limits { connections_per_address_max: 2, limit_loopback: true, ..Limits::default() };
    let server = server(limits).await;
    let mut witness = Witness::join(&server).await;
    let (_second, _) = RawClient::join(&server).await;
    let mut third = TcpStream::connect(server.address).await.expect("the server accepts");
    let mut said = Vec::new();
    within_patience(third.read_to_end(&mut said)).await.expect("it is closed in order");
    // Settings before it would have clients of gRPC come again at once: to them, that is a connection which was there.
    let words = b"connections_per_address_max is reached";
    let goaway = frame(GOAWAY, 0, 0, &[&[0, 0, 0, 0, 0, 0, 0, 11][..], words].concat());
    assert_eq!(said, goaway, "a GOAWAY alone, with ENHANCE_YOUR_CALM");
    assert_eq!(count(&server, "CONNECTIONS_PER_ADDRESS"), 1);
    witness.plays_on().await;
    server.stop().await;
}

#[tokio::test]
async fn a_connection_has_so_many_streams_of_players_and_spectators() {
    let server = server(Limits { streams_per_connection_max: 2, ..Limits::default() }).await;
    let channel = server.channel().await;
    let mut service = GameServiceClient::new(channel.clone());
    let request = || pb::WatchRequest { hello: Some(hello()), ..pb::WatchRequest::default() };
    let mut player = RawClient::open_on(channel.clone()).await;
    player.send(Kind::Hello(hello())).await;
    player.welcome().await;
    let spectator = service.watch(request()).await.expect("there is room");
    assert_exhausted(&service.watch(request()).await.expect_err("there is none"), "STREAMS");
    let silent = tokio_stream::pending::<pb::ClientMessage>();
    assert_exhausted(&service.play(silent).await.expect_err("there is none"), "STREAMS");
    assert_eq!(count(&server, "STREAMS"), 2);
    // Other requests are no streams, and who goes makes room.
    let mut sessions = SessionServiceClient::new(channel.clone());
    get_session(&mut sessions, ARENA_1.into()).await.expect("it is there");
    drop(spectator);
    let mut is_open = false;
    while !is_open {
        is_open = service.watch(request()).await.is_ok();
    }
    server.stop().await;
}

#[tokio::test]
async fn requests_beyond_those_of_a_connection_are_refused_by_http2() {
    const REFUSED_STREAM: u32 = 7;
    let server = server(Limits { requests_per_connection_max: 3, ..Limits::default() }).await;
    let requests = (0..4).flat_map(|place| request(1 + 2 * place, GET_SESSION));
    // And a frame that ends the connection.
    let bytes = requests.chain(frame(DATA, 0, 0, &[]));
    let ending = send_to_the_end(&server, [greeting(), bytes.collect()].concat()).await;
    assert_eq!(ending.resets.first(), Some(&REFUSED_STREAM), "{ending:?}");
    server.counts("REFUSED_STREAM", 1).await;
    server.stop().await;
}

#[tokio::test]
async fn joins_beyond_the_rate_are_told_when_to_try_again() {
    let of_server = Limits { joins_per_second_max: number(1), joins_burst_max: number(2), ..Limits::default() };
    let of_address = Limits {
        joins_per_second_per_address_max: number(1),
        joins_burst_per_address_max: number(2),
        limit_loopback: true,
        ..Limits::default()
    };
    for limits in [of_server, of_address] {
        let server = server(limits).await;
        let mut witness = Witness::join(&server).await;
        let request = pb::WatchRequest { hello: Some(hello()), ..pb::WatchRequest::default() };
        let mut service = GameServiceClient::new(server.channel().await);
        let _spectator = service.watch(request.clone()).await.expect("spectators count, too");
        let mut statuses = vec![RawClient::greet(&server, hello()).await.end().await.1];
        statuses.extend(service.watch(request).await.err());
        for status in &statuses {
            assert_exhausted(status, "JOINS");
            let details = status.get_error_details();
            let delay = details.retry_info().and_then(|retry| retry.retry_delay).expect("it says when");
            assert!(delay > Duration::ZERO && delay <= Duration::from_secs(1), "{delay:?}");
        }
        assert_eq!(count(&server, "JOINS"), statuses.len() as u64);
        witness.plays_on().await;
        server.stop().await;
    }
}

#[tokio::test]
async fn more_bytes_per_second_than_may_be_end_the_stream() {
    let limits = Limits {
        received_bytes_per_second_max: number(16 * 1024),
        received_bytes_burst_max: number(16 * 1024),
        ..Limits::default()
    };
    let server = server(limits).await;
    let mut witness = Witness::join(&server).await;
    let (mut client, _) = RawClient::join(&server).await;
    for first in (0..100).map(|message| 1 + 32 * message) {
        let inputs = (first..first + 32).map(|i| input(i, 1_000_000 + i)).collect();
        client.send(Kind::Inputs(pb::Inputs { epoch: 0, newest_tick: 0, inputs })).await;
    }
    let status = client.end().await.1;
    assert_exhausted(&status, "FLOODING");
    assert!(status.message().contains("16384 bytes per second"), "{status:?}");
    assert_eq!(count(&server, "FLOODING"), 1);
    witness.plays_on().await;
    server.stop().await;
}

#[tokio::test]
async fn a_join_that_finds_the_mailbox_full_is_told_so() {
    // All of them come within one tick, or two.
    let slow = TickRate::new(1).expect("in range");
    let limits = Limits { mailbox_messages_max: 1, ..Limits::default() };
    let server = TestServer::arena(ServerConfig { limits, tick_rate: slow, ..config() }).await;
    let greet = || async { RawClient::greet(&server, hello()).await.next().await };
    let greeted = futures_util::future::join_all((0..8).map(|_| greet())).await;
    let busy: Vec<_> = greeted.iter().filter_map(|said| said.as_ref().err()).collect();
    assert!((4..8).contains(&busy.len()), "{greeted:?}");
    for status in &busy {
        assert_exhausted(status, "BUSY");
        assert!(status.get_error_details().retry_info().is_some());
    }
    assert_eq!(count(&server, "BUSY"), busy.len() as u64);
    server.stop().await;
}

#[tokio::test]
async fn a_message_is_measured_when_it_is_decompressed() {
    let server = server(Limits::default()).await;
    let channel = server.channel().await;
    let bomb = "x".repeat(4 << 20);
    let mut sessions = SessionServiceClient::new(channel.clone()).send_compressed(CompressionEncoding::Gzip);
    let mut game = GameServiceClient::new(channel.clone()).send_compressed(CompressionEncoding::Gzip);
    let acknowledge =
        pb::SendInputsRequest { stream_token: bomb.clone().into_bytes(), ..pb::SendInputsRequest::default() };
    let statuses = [
        get_session(&mut sessions, bomb.clone()).await.expect_err("too long"),
        game.send_inputs(acknowledge).await.expect_err("too long"),
        // Plain, too.
        get_session(&mut SessionServiceClient::new(channel), bomb).await.expect_err("too long"),
    ];
    for status in &statuses {
        assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status:?}");
        assert!(status.message().contains("16384"), "{status:?}");
    }
    assert_eq!(count(&server, "MESSAGE_TOO_LONG"), 3);
    server.stop().await;
}

#[tokio::test]
async fn compressed_requests_are_answered_and_long_answers_compressed() {
    let config = ServerConfig { sessions: 20, ..config() };
    let server = TestServer::arena(config).await;
    let mut sessions = SessionServiceClient::new(server.channel().await)
        .send_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Gzip);
    let answer = sessions.list_sessions(ListSessionsRequest::default()).await.expect("it is taken");
    assert_eq!(answer.metadata().get("grpc-encoding").map(|encoding| encoding.as_bytes()), Some(&b"gzip"[..]));
    assert_eq!(answer.into_inner().sessions.len(), 20);
    // Calls of spectators, too.
    let mut game = GameServiceClient::new(server.channel().await).send_compressed(CompressionEncoding::Gzip);
    let status = game.acknowledge(pb::AcknowledgeRequest::default()).await.expect_err("nobody's token");
    assert_eq!(reason_of(&status), "UNKNOWN_TOKEN", "it was read");
    server.stop().await;
}

#[tokio::test]
async fn snapshots_are_never_compressed() {
    let server = server(Limits::default()).await;
    let mut game = GameServiceClient::new(server.channel().await).accept_compressed(CompressionEncoding::Gzip);
    let request = pb::WatchRequest { hello: Some(hello()), ..pb::WatchRequest::default() };
    let watched = game.watch(request).await.expect("there is room");
    let (up, messages) = tokio::sync::mpsc::channel(1);
    let played = game.play(tokio_stream::wrappers::ReceiverStream::new(messages)).await.expect("there is room");
    for metadata in [watched.metadata(), played.metadata()] {
        assert!(metadata.get("grpc-encoding").is_none_or(|encoding| encoding == "identity"), "{metadata:?}");
    }
    up.send(pb::ClientMessage { kind: Some(Kind::Hello(hello())) }).await.expect("it is open");
    let (mut watched, mut played) = (watched.into_inner(), played.into_inner());
    for stream in [&mut watched, &mut played] {
        // A message that is marked as compressed is one that tonic does not take on a stream without an encoding.
        let welcome = within_patience(stream.message()).await.expect("plain").expect("it goes on");
        assert!(matches!(welcome.kind, Some(pb::server_message::Kind::Welcome(_))), "{welcome:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn headers_beyond_the_limit_are_refused() {
    let server = server(Limits::default()).await;
    let mut witness = Witness::join(&server).await;
    let socket = TcpStream::connect(server.address).await.expect("the server accepts");
    let (requests, connection) = h2::client::handshake(socket).await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    let mut requests = requests.ready().await.expect("it takes requests");
    let long = Request::post(format!("http://localhost{GET_SESSION}")).header("x-long", "x".repeat(9 * 1024));
    let (response, _) = requests.send_request(long.body(()).expect("a request"), true).expect("it can be sent");
    let status = within_patience(response).await.expect("it is answered").status();
    assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    witness.plays_on().await;
    server.stop().await;
}

#[tokio::test]
async fn who_resets_what_it_asks_for_is_asked_to_calm_down() {
    let server = server(Limits::default()).await;
    let pairs = (0..200).flat_map(|place| {
        let stream = 1 + 2 * place;
        [request(stream, GET_SESSION), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    });
    flood(&server, pairs.collect(), "HTTP2_FLOOD").await;
    server.stop().await;
}

#[tokio::test]
async fn who_keeps_asking_for_more_than_may_be_is_asked_to_calm_down() {
    let server = server(Limits { requests_per_connection_max: 3, ..Limits::default() }).await;
    let requests = (0..200).flat_map(|place| request(1 + 2 * place, GET_SESSION));
    flood(&server, requests.collect(), "HTTP2_FLOOD").await;
    server.stop().await;
}

#[tokio::test]
async fn more_requests_per_second_than_may_be_end_the_connection() {
    let limits = Limits { requests_per_second_max: number(5), ..Limits::default() };
    let server = server(limits).await;
    let body = [0, 0, 0, 0, 0];
    let requests = (0..100).flat_map(|place| {
        let stream = 1 + 2 * place;
        [request(stream, GET_SESSION), frame(DATA, END_STREAM, stream, &body)].concat()
    });
    let ending = flood(&server, requests.collect(), "FRAME_FLOOD").await;
    assert!(ending.goaway.is_none() || ending.words == "requests_per_second_max is exceeded", "{ending:?}");
    // Nothing on its way back is overtaken by a reset where the client sends no more than what is too much.
    let few = (0..60).flat_map(|place| request(1 + 2 * place, GET_SESSION));
    let ending = send_to_the_end(&server, [greeting(), few.collect()].concat()).await;
    assert_eq!((ending.goaway, &*ending.words), (Some(ENHANCE_YOUR_CALM), "requests_per_second_max is exceeded"));
    server.stop().await;
}

#[tokio::test]
async fn floods_of_frames_that_carry_nothing_end_the_connection() {
    let limits = || Limits {
        control_frames_per_second_max: number(50),
        frames_per_second_max: number(500),
        ..Limits::default()
    };
    let ping = frame(PING, 0, 0, &[0; 8]);
    let window = frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes());
    let unknown = frame(0xee, 0, 0, b"whatever");
    for bytes in [ping, frame(SETTINGS, 0, 0, &[]), frame(PRIORITY, 0, 1, &[0; 5]), unknown, window] {
        let server = server(limits()).await;
        let ending = flood(&server, bytes.repeat(5000), "FRAME_FLOOD").await;
        let of_all = bytes[3] == WINDOW_UPDATE;
        let limit = if of_all { "frames_per_second_max" } else { "control_frames_per_second_max" };
        assert!(ending.goaway.is_none() || ending.words == format!("{limit} is exceeded"), "{ending:?}");
        server.stop().await;
    }
}

#[tokio::test]
async fn headers_that_go_on_and_on_end_the_connection() {
    let server = server(Limits::default()).await;
    let more = frame(CONTINUATION, 0, 1, &[0; 1]).repeat(2000);
    let bytes = [frame(HEADERS, 0, 1, &header_block(GET_SESSION, &[])), more].concat();
    flood(&server, bytes, "HTTP2_FLOOD").await;
    server.stop().await;
}

#[tokio::test]
async fn bytes_beyond_the_window_reset_the_stream() {
    const FLOW_CONTROL_ERROR: u32 = 3;
    // Until its Welcome, which comes with a tick, nobody reads what a stream brings after its Hello.
    let slow = TickRate::new(1).expect("in range");
    let server = TestServer::arena(ServerConfig { tick_rate: slow, ..config() }).await;
    let hello = pb::ClientMessage { kind: Some(Kind::Hello(hello())) }.encode_to_vec();
    let hello = [&[0, 0, 0, 0, hello.len() as u8][..], &hello].concat();
    let play = request(1, "/tickwire.v1.GameService/Play");
    let data = frame(DATA, 0, 1, &[0; 16_384]).repeat(10);
    // And a frame that ends the connection.
    let bytes = [greeting(), play, frame(DATA, 0, 1, &hello), data, frame(DATA, 0, 0, &[])].concat();
    let ending = send_to_the_end(&server, bytes).await;
    assert!(ending.resets.contains(&FLOW_CONTROL_ERROR), "{ending:?}");
    server.counts("FLOW_CONTROL", 1).await;
    server.counts("HTTP2_PROTOCOL", 1).await;
    server.stop().await;
}

#[tokio::test]
async fn a_connection_without_requests_is_asked_to_go() {
    let timeouts = Timeouts { idle: SHORT, ..config().timeouts };
    let server = TestServer::arena(ServerConfig { timeouts, ..config() }).await;
    let mut witness = Witness::join(&server).await;
    let mut sessions = SessionServiceClient::new(server.channel().await);
    get_session(&mut sessions, ARENA_1.into()).await.expect("it is there");
    eventually("it is counted", || count(&server, "IDLE") == 1).await;
    eventually("its connection is closed", || server.probe.connections() == 1).await;
    // Who plays is not idle, and who comes back is let in.
    witness.plays_on().await;
    get_session(&mut SessionServiceClient::new(server.channel().await), ARENA_1.into()).await.expect("it is there");
    server.stop().await;
}

#[tokio::test]
async fn a_request_whose_message_does_not_come_is_refused() {
    let timeouts = Timeouts { request: SHORT, ..config().timeouts };
    let server = TestServer::arena(ServerConfig { timeouts, ..config() }).await;
    let socket = TcpStream::connect(server.address).await.expect("the server accepts");
    let (requests, connection) = h2::client::handshake(socket).await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    for part in [&[][..], &[0, 0], &[0, 0, 0, 0, 9, 1]] {
        let mut requests = requests.clone().ready().await.expect("it takes requests");
        let request =
            Request::post(format!("http://localhost{GET_SESSION}")).header("content-type", "application/grpc");
        let (response, mut up) =
            requests.send_request(request.body(()).expect("a request"), false).expect("it goes out");
        up.send_data(Bytes::copy_from_slice(part), false).expect("it is open");
        let response = within_patience(response).await.expect("it is answered");
        let status = Status::from_header_map(response.headers()).expect("headers say it all");
        assert_eq!((status.code(), reason_of(&status).as_str()), (Code::DeadlineExceeded, "NO_MESSAGE"), "{status:?}");
    }
    assert_eq!(count(&server, "NO_MESSAGE"), 3);
    server.stop().await;
}

#[tokio::test]
async fn what_clients_do_wrong_is_counted_by_its_reason() {
    let server = TestServer::arena(ServerConfig { max_players: NonZeroU32::MIN, ..config() }).await;
    let mut witness = Witness::join(&server).await;
    assert_exhausted(&RawClient::greet(&server, hello()).await.end().await.1, "FULL");
    let mut garbage = play_bytes(server.channel().await, vec![Bytes::from_static(&[0xff; 40])]).await;
    within_patience(garbage.message()).await.expect_err("no message");
    eventually("both are counted", || (count(&server, "FULL"), count(&server, "OTHER")) == (1, 1)).await;
    witness.plays_on().await;
    server.stop().await;
}

#[tokio::test]
async fn limits_that_make_no_sense_are_named_before_anything_starts() {
    let refused = |change: fn(&mut ServerConfig)| {
        let mut config = config();
        change(&mut config);
        let games: Vec<std::sync::Arc<dyn tickwire_shared::Game>> = vec![std::sync::Arc::new(tickwire_arena::Arena)];
        Server::start(config, games).expect_err("it makes no sense").to_string()
    };
    let said = refused(|config| config.limits.connections_max = 0);
    assert_eq!(said, "limits.connections_max: 0 is out of range: choose 1 or more");
    let said = refused(|config| config.limits.view_radius_max = f64::NAN);
    assert!(said.starts_with("limits.view_radius_max: NaN "), "{said}");
    let said = refused(|config| config.limits.received_bytes_burst_max = NonZeroU32::MIN);
    assert!(said.starts_with("limits.received_bytes_burst_max: 1 ") && said.contains("message_bytes_max"), "{said}");
    let said = refused(|config| config.limits.bytes_per_second_max = NonZeroU32::MIN);
    assert!(said.starts_with("limits.bytes_per_second_max: 1 "), "{said}");
    let said = refused(|config| config.timeouts.hello = Duration::ZERO);
    assert!(said.starts_with("timeouts.hello: 0ns "), "{said}");
    let said = refused(|config| config.network_threads = NonZeroUsize::new(5000));
    assert!(said.starts_with("network_threads: 5000 "), "{said}");
}

#[tokio::test]
async fn limits_that_change_hold_for_streams_that_are_open() {
    let server = Server::start(config(), vec![std::sync::Arc::new(tickwire_arena::Arena)]).expect("a good one");
    let control = server.control();
    let server = TestServer::serve(server).await;
    let mut witness = Witness::join(&server).await;
    let (mut client, _) = RawClient::join(&server).await;
    let narrow = Limits {
        messages_per_second_max: number(1),
        messages_burst_max: number(1),
        joins_per_second_max: number(1),
        joins_burst_max: number(1),
        ..Limits::default()
    };
    let absurd = Limits { requests_per_connection_max: 0, ..narrow.clone() };
    assert!(control.set_limits(absurd).expect_err("it makes no sense").to_string().starts_with("limits.requests_per"));
    witness.plays_on().await;
    control.set_limits(narrow).expect("it makes sense");
    for echo in 0..20 {
        client.send(Kind::Ping(pb::Ping { echo })).await;
    }
    assert_exhausted(&client.end().await.1, "FLOODING");
    server.stop().await;
}
