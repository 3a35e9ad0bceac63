//! What a client does that no client may: its stream ends with a status that says what was wrong, and nobody else's does.

use std::{num::NonZeroU32, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tickwire_proto::v1::{self as pb, client_message::Kind};
use tickwire_server::{Limits, ServerConfig, Timeouts};
use tonic::{Code, Status, client::Grpc, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{
    admin::administrator::Administered,
    harness::{
        ARENA_1, BytesCodec, Cable, RawClient, TestServer, Witness, config, eventually, field_of, hello, input,
        play_bytes, reason_of, within_patience,
    },
    identity::bearing,
};

const SHORT: Duration = Duration::from_millis(150);

fn with_timeouts(change: impl FnOnce(&mut Timeouts)) -> ServerConfig {
    let mut config = config();
    change(&mut config.timeouts);
    config
}

fn with_limits(change: impl FnOnce(&mut Limits)) -> ServerConfig {
    let mut config = config();
    change(&mut config.limits);
    config
}

/// What the server says to a hello that it does not take.
async fn refusal_of(server: &TestServer, change: impl FnOnce(&mut pb::Hello)) -> Status {
    let mut hello = hello();
    change(&mut hello);
    RawClient::greet(server, hello).await.end().await.1
}

/// What the server says to a player who sends `kind`, beside another player, who plays on.
async fn verdict_on(kind: Kind) -> Status {
    let server = TestServer::arena(config()).await;
    let mut witness = Witness::join(&server).await;
    let (mut client, _) = RawClient::join(&server).await;
    client.send(kind).await;
    let (goodbye, status) = client.end().await;
    assert_eq!(goodbye, None, "who is thrown out gets no goodbye");
    witness.plays_on().await;
    server.stop().await;
    status
}

fn inputs(inputs: Vec<pb::Input>) -> Kind {
    Kind::Inputs(pb::Inputs { epoch: 0, newest_tick: 0, inputs })
}

fn assert_refused(status: &Status, code: Code, field: &str) {
    assert_eq!((status.code(), field_of(status).as_str()), (code, field), "{status:?}");
}

#[tokio::test]
async fn a_wished_for_rate_is_granted_and_kept() {
    let server = TestServer::arena(config()).await;
    let mut client = RawClient::greet(&server, pb::Hello { max_rate: 25, ..hello() }).await;
    // The largest rate of whole ticks that is not above the wish.
    assert_eq!(client.welcome().await.max_rate, 20);
    // The first comes at once, whatever the tick.
    let first = client.snapshot().await;
    client.ack(first.tick).await;
    let mut last = None;
    for _ in 0..10 {
        let snapshot = client.snapshot().await;
        client.ack(snapshot.tick).await;
        // One in each three ticks, of which it has the newest that there is when there is room for it.
        assert!(last.is_none_or(|last| snapshot.tick / 3 > last / 3), "tick {} after {last:?}", snapshot.tick);
        last = Some(snapshot.tick);
    }
    server.stop().await;
}

#[tokio::test]
async fn who_breaks_a_rule_at_once_is_welcomed_first_and_leaves_no_seat_behind() {
    let server = TestServer::arena(config()).await;
    let mut client = RawClient::greet(&server, hello()).await;
    client.send(Kind::Hello(hello())).await;
    client.welcome().await;
    let (goodbye, status) = client.end().await;
    assert_eq!((goodbye, status.code()), (None, Code::FailedPrecondition));
    eventually("the seat is free, without a grace period", || server.probe.seats() == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_session_or_game_that_is_not_there_is_not_found() {
    let server = TestServer::arena(config()).await;
    let status = refusal_of(&server, |hello| hello.session = "sessions/arena-9".into()).await;
    assert_refused(&status, Code::NotFound, "hello.session");
    let status = refusal_of(&server, |hello| hello.game = "chess".into()).await;
    assert_refused(&status, Code::NotFound, "hello.game");
    let status = refusal_of(&server, |hello| {
        hello.session = ARENA_1.into();
        hello.game = "chess".into();
    })
    .await;
    assert_refused(&status, Code::FailedPrecondition, "hello.game");
    let status = refusal_of(&server, |hello| hello.session = "arena-1".into()).await;
    assert_refused(&status, Code::InvalidArgument, "hello.session");
    server.stop().await;
}

#[tokio::test]
async fn a_full_session_says_when_to_try_again() {
    let server = TestServer::arena(ServerConfig { max_players: NonZeroU32::MIN, ..config() }).await;
    let mut first = Witness::join(&server).await;
    let status = refusal_of(&server, |_| {}).await;
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::ResourceExhausted, "FULL"));
    let details = status.get_error_details();
    let retry = details.retry_info().expect("a full session says when to try again");
    assert!(retry.retry_delay.is_some_and(|delay| delay > Duration::ZERO));
    server.counts("FULL", 1).await;
    first.plays_on().await;
    server.stop().await;
}

#[tokio::test]
async fn the_first_message_is_a_hello_and_no_other_is() {
    let server = TestServer::arena(config()).await;
    let mut client = RawClient::open(&server).await;
    client.send(Kind::Ping(pb::Ping { echo: 1 })).await;
    assert_refused(&client.end().await.1, Code::FailedPrecondition, "kind");

    let client = RawClient::open(&server).await;
    let RawClient { up, mut down } = client;
    drop(up);
    let status = within_patience(down.message()).await.expect_err("nothing was said");
    assert_refused(&status, Code::FailedPrecondition, "kind");

    let status = verdict_on(Kind::Hello(hello())).await;
    assert_refused(&status, Code::FailedPrecondition, "hello");
    server.stop().await;
}

#[tokio::test]
async fn versions_and_schemas_that_do_not_fit_are_named() {
    let server = TestServer::arena(config()).await;
    let status = refusal_of(&server, |hello| hello.protocol_version = 99).await;
    assert_refused(&status, Code::FailedPrecondition, "hello.protocol_version");
    assert!(status.message().contains("99"), "{status:?}");
    let status = refusal_of(&server, |hello| hello.schema_hash = vec![7; 32]).await;
    assert_refused(&status, Code::FailedPrecondition, "hello.schema_hash");
    let status = refusal_of(&server, |hello| hello.schema_hash = vec![7; 5]).await;
    assert_refused(&status, Code::InvalidArgument, "hello.schema_hash");
    server.stop().await;
}

#[tokio::test]
async fn wishes_and_names_are_checked() {
    let server = TestServer::arena(config()).await;
    for radius in [f64::NAN, f64::INFINITY, -1.0] {
        let status = refusal_of(&server, |hello| hello.view_radius = radius).await;
        assert_refused(&status, Code::InvalidArgument, "hello.view_radius");
    }
    let status = refusal_of(&server, |hello| hello.player_name = "a\u{1b}[2J".into()).await;
    assert_refused(&status, Code::InvalidArgument, "hello.player_name");
    let status = refusal_of(&server, |hello| hello.player_name = "x".repeat(33)).await;
    assert_refused(&status, Code::InvalidArgument, "hello.player_name");
    let status = refusal_of(&server, |hello| hello.ticket = "x".repeat(4097)).await;
    assert_refused(&status, Code::InvalidArgument, "hello.ticket");
    server.counts("OTHER", 6).await;
    server.stop().await;
}

#[tokio::test]
async fn tokens_that_this_server_does_not_know_are_not_passed_over() {
    let server = TestServer::arena(config()).await;
    let status = refusal_of(&server, |hello| hello.ticket = "let me in".into()).await;
    assert_refused(&status, Code::Unauthenticated, "hello.ticket");
    let status = refusal_of(&server, |hello| hello.resume_token = vec![1; 32]).await;
    assert_refused(&status, Code::Unauthenticated, "hello.resume_token");
    let status = refusal_of(&server, |hello| hello.attach_token = vec![1]).await;
    assert_refused(&status, Code::Unauthenticated, "hello.attach_token");
    server.stop().await;
}

#[tokio::test]
async fn an_input_value_out_of_its_range_ends_the_stream() {
    let status = verdict_on(inputs(vec![pb::Input { values: vec![i32::MAX], ..input(1, 1 << 20) }])).await;
    assert_refused(&status, Code::InvalidArgument, "inputs.inputs[0].values");
    assert!(status.message().contains("move_x: 2147483647"), "{status:?}");
}

#[tokio::test]
async fn a_moment_that_no_screen_shows_ends_the_stream() {
    let status = verdict_on(inputs(vec![pb::Input { seen_tick: u64::MAX, ..input(1, 1 << 20) }])).await;
    assert_refused(&status, Code::InvalidArgument, "inputs.inputs[0].seen_tick");
    let status = verdict_on(inputs(vec![pb::Input { seen_tick: 9, seen_fraction: 256, ..input(1, 1 << 20) }])).await;
    assert_refused(&status, Code::InvalidArgument, "inputs.inputs[0].seen_fraction");
    assert!(status.message().contains("256"), "{status:?}");
}

#[tokio::test]
async fn more_values_than_input_fields_end_the_stream() {
    let status = verdict_on(inputs(vec![pb::Input { values: vec![0; 6], ..input(1, 1 << 20) }])).await;
    assert_refused(&status, Code::InvalidArgument, "inputs.inputs[0].values");
}

#[tokio::test]
async fn a_thousand_inputs_in_one_message_end_the_stream() {
    let status = verdict_on(inputs((1..=1000).map(|i| input(i, i)).collect())).await;
    assert_refused(&status, Code::InvalidArgument, "inputs.inputs");
    assert!(status.message().contains("1000"), "{status:?}");
}

#[tokio::test]
async fn a_message_without_inputs_ends_the_stream() {
    assert_refused(&verdict_on(inputs(Vec::new())).await, Code::InvalidArgument, "inputs.inputs");
}

#[tokio::test]
async fn target_ticks_that_no_session_reaches_end_the_stream() {
    for tick in [0, (1 << 53) + 1, 1 << 63] {
        let status = verdict_on(inputs(vec![input(1, tick)])).await;
        assert_refused(&status, Code::InvalidArgument, "inputs.inputs[0].target_tick");
    }
}

#[tokio::test]
async fn sequences_and_target_ticks_rise_within_a_message() {
    let status = verdict_on(inputs(vec![input(0, 5)])).await;
    assert_refused(&status, Code::InvalidArgument, "inputs.inputs[0].sequence");
    let status = verdict_on(inputs(vec![input(2, 5), input(2, 6)])).await;
    assert_refused(&status, Code::InvalidArgument, "inputs.inputs[1].sequence");
    let status = verdict_on(inputs(vec![input(1, 6), input(2, 5)])).await;
    assert_refused(&status, Code::InvalidArgument, "inputs.inputs[1].target_tick");
}

#[tokio::test]
async fn inputs_that_are_too_early_or_too_late_are_only_counted() {
    let server = TestServer::arena(config()).await;
    let (mut client, _) = RawClient::join(&server).await;
    let first = client.play_until(|snapshot| snapshot.tick > 2).await;
    client.send(inputs(vec![input(1, 1)])).await;
    client.send(inputs(vec![input(2, first.tick + 1_000_000)])).await;
    let later = client.play_until(|snapshot| snapshot.received_input == 2).await;
    assert_eq!(later.consumed_input, 0, "neither was applied");
    assert!(later.received_margin_us > 1_000_000, "{} µs early", later.received_margin_us);
    client.send(inputs(vec![input(3, 2)])).await;
    let later = client.play_until(|snapshot| snapshot.received_input == 3).await;
    assert!(later.received_margin_us < 0, "{} µs early", later.received_margin_us);
    client.send(inputs(vec![input(4, later.tick + 20)])).await;
    client.play_until(|snapshot| snapshot.consumed_input == 4).await;
    server.stop().await;
}

#[tokio::test]
async fn an_acknowledgement_of_what_was_never_sent_ends_the_stream() {
    let status = verdict_on(Kind::Ack(pb::Ack { epoch: 0, newest_tick: 1 << 40 })).await;
    assert_refused(&status, Code::InvalidArgument, "ack.newest_tick");
    let kind = Kind::Inputs(pb::Inputs { epoch: 0, newest_tick: u64::MAX, inputs: vec![input(1, 1)] });
    assert_refused(&verdict_on(kind).await, Code::InvalidArgument, "inputs.newest_tick");
}

#[tokio::test]
async fn messages_of_another_epoch_are_passed_over() {
    let server = TestServer::arena(config()).await;
    let (mut client, _) = RawClient::join(&server).await;
    client.send(Kind::Ack(pb::Ack { epoch: 7, newest_tick: 1 << 40 })).await;
    client.send(Kind::Inputs(pb::Inputs { epoch: 7, newest_tick: 1 << 40, inputs: vec![input(1, 1)] })).await;
    client.send(inputs(vec![input(2, 1)])).await;
    let snapshot = client.play_until(|snapshot| snapshot.received_input > 0).await;
    assert_eq!(snapshot.received_input, 2);
    server.stop().await;
}

#[tokio::test]
async fn a_reason_that_is_none_ends_the_stream() {
    for reason in [0, 99, -1] {
        let status = verdict_on(Kind::Resync(pb::Resync { reason })).await;
        assert_refused(&status, Code::InvalidArgument, "resync.reason");
    }
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_stream() {
    let kind = Kind::Hello(pb::Hello { player_name: "x".repeat(16 * 1024), ..hello() });
    let status = verdict_on(kind).await;
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::ResourceExhausted, "MESSAGE_TOO_LONG"));
    assert!(status.message().contains("16384"), "{status:?}");
}

#[tokio::test]
async fn bytes_that_are_no_message_end_the_stream() {
    let server = TestServer::arena(config()).await;
    let mut witness = Witness::join(&server).await;
    let hello = Bytes::from(pb::ClientMessage { kind: Some(Kind::Hello(hello())) }.encode_to_vec());
    let garbage = Bytes::from_static(&[0xff; 40]);
    // A message without a kind, and one of a kind that a later protocol may have.
    let (empty, unknown) = (Bytes::new(), Bytes::from_static(&[0xfa, 0x01, 0x00]));
    for (messages, reason) in [
        (vec![garbage.clone()], "MALFORMED"),
        (vec![hello.clone(), garbage], "MALFORMED"),
        (vec![hello.clone(), empty], "UNKNOWN_MESSAGE"),
        (vec![hello, unknown], "UNKNOWN_MESSAGE"),
    ] {
        let mut down = play_bytes(server.channel().await, messages).await;
        let status = loop {
            match within_patience(down.message()).await {
                Ok(message) => assert!(message.is_some(), "the stream ended without an error"),
                Err(status) => break status,
            }
        };
        assert_eq!((status.code(), reason_of(&status).as_str()), (Code::InvalidArgument, reason), "{status:?}");
    }
    witness.plays_on().await;
    server.stop().await;
}

#[tokio::test]
async fn bytes_that_are_no_message_of_a_call_are_an_invalid_argument() {
    let administered = Administered::arena(config()).await;
    let public = administered.server.channel().await;
    let admins = administered.endpoint().connect().await.expect("it listens");
    let authorization = format!("Bearer {}", administered.token());
    let call = async |path: &str, channel: &Channel| {
        let mut client = Grpc::new(channel.clone());
        client.ready().await.expect("it is connected");
        let request = bearing(Bytes::from_static(&[0xff; 40]), &authorization);
        let answer = client.server_streaming(request, path.parse().expect("a path"), BytesCodec);
        within_patience(answer).await.map(drop)
    };

    let set = FileDescriptorSet::decode(tickwire_proto::FILE_DESCRIPTOR_SET).expect("the protocol");
    let services = set.file.iter().flat_map(|file| &file.service);
    let mut calls: Vec<(String, &str)> = services
        .flat_map(|service| service.method.iter().map(move |method| (service, method)))
        .filter(|(_, method)| !method.client_streaming())
        .map(|(service, method)| (format!("tickwire.v1.{}", service.name()), method.name()))
        .collect();
    assert!(calls.len() > 20, "{calls:?}");
    calls.extend(["Check", "Watch"].map(|method| ("grpc.health.v1.Health".to_owned(), method)));
    for (service, method) in calls {
        let is_for_admins = service == "tickwire.v1.AdminService";
        let channel = if is_for_admins { &admins } else { &public };
        let answer = call(&format!("/{service}/{method}"), channel).await;
        let status = answer.expect_err("that is no message");
        assert_eq!(status.code(), Code::InvalidArgument, "{service}/{method}: {status:?}");
        if !is_for_admins {
            let series = format!(
                "\ntickwire_requests_total{{service=\"{service}\",method=\"{method}\",code=\"INVALID_ARGUMENT\"}} 1\n"
            );
            eventually(&series, || administered.server.probe.metrics().contains(&series)).await;
        }
    }
    administered.server.stop().await;
}

#[tokio::test]
async fn no_hello_in_time_ends_the_stream() {
    let server = TestServer::arena(with_timeouts(|timeouts| timeouts.hello = SHORT)).await;
    let status = RawClient::open(&server).await.end().await.1;
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::DeadlineExceeded, "NO_HELLO"));
    server.counts("NO_HELLO", 1).await;
    server.stop().await;
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let server = TestServer::arena(with_timeouts(|timeouts| timeouts.hello = SHORT)).await;
    let mut socket = tokio::net::TcpStream::connect(server.address).await.expect("the server accepts");
    let mut buffer = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut buffer);
    // Closed or reset: either says that the server has let go.
    let _ = within_patience(read).await;
    eventually("the connection is gone", || server.probe.connections() == 0).await;
    server.counts("NO_REQUEST", 1).await;
    server.stop().await;
}

#[tokio::test]
async fn a_connection_beyond_the_limit_is_closed_at_once() {
    let server = TestServer::arena(with_limits(|limits| limits.connections_max = 1)).await;
    let mut witness = Witness::join(&server).await;
    let mut socket = tokio::net::TcpStream::connect(server.address).await.expect("the server accepts");
    let mut said = Vec::new();
    within_patience(tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut said)).await.expect("it is closed in order");
    assert!(said.ends_with(b"connections_max is reached"), "{said:?}");
    assert_eq!(server.probe.refusals()["CONNECTIONS"], 1);
    witness.plays_on().await;
    server.stop().await;
}

#[tokio::test]
async fn silence_ends_the_stream_and_keeps_the_seat() {
    let config = with_timeouts(|timeouts| timeouts.silence = SHORT);
    let server = TestServer::arena(config).await;
    let (mut client, _) = RawClient::join(&server).await;
    let status = client.end().await.1;
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::DeadlineExceeded, "SILENT"));
    server.counts("SILENT", 1).await;
    eventually("the stream is gone", || server.probe.streams() == 0).await;
    assert_eq!(server.probe.seats(), 1, "the seat is kept for the grace period");
    server.stop().await;
}

#[tokio::test]
async fn a_half_open_connection_is_found_and_closed() {
    let config = with_timeouts(|timeouts| {
        timeouts.silence = SHORT;
        timeouts.keep_alive = SHORT;
        timeouts.grace = SHORT;
    });
    let server = TestServer::arena(config).await;
    let cable = Cable::to(&server).await;
    let mut client = RawClient::open_on(cable.channel().await).await;
    client.send(Kind::Hello(hello())).await;
    client.welcome().await;
    cable.pull();
    eventually("stream, connection and seat are gone", || {
        (server.probe.streams(), server.probe.connections(), server.probe.seats()) == (0, 0, 0)
    })
    .await;
    server.counts("DEAD", 1).await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_acknowledges_nothing_is_found() {
    let server = TestServer::arena(with_timeouts(|timeouts| timeouts.unacknowledged = SHORT)).await;
    let (client, _) = RawClient::join(&server).await;
    let RawClient { up, mut down } = client;
    // It is not silent.
    let pings = tokio::spawn(async move {
        while up.send(pb::ClientMessage { kind: Some(Kind::Ping(pb::Ping { echo: 1 })) }).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let status = loop {
        if let Err(status) = within_patience(down.message()).await {
            break status;
        }
    };
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::DeadlineExceeded, "NOT_READING"));
    pings.abort();
    server.counts("NOT_READING", 1).await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut_off() {
    let config = with_timeouts(|timeouts| {
        timeouts.unacknowledged = SHORT;
        timeouts.end = SHORT;
        timeouts.grace = SHORT;
    });
    let server = TestServer::arena(config).await;
    let mut witness = Witness::join(&server).await;
    // HTTP/2's flow control lets no message through whole: the server cannot even send the status.
    let endpoint = server.endpoint().initial_stream_window_size(16);
    let client = RawClient::open_on(endpoint.connect().await.expect("the server accepts")).await;
    client.send(Kind::Hello(hello())).await;
    let cut_off = async {
        eventually("it sits", || server.probe.seats() == 2).await;
        eventually("stream, connection and seat are gone", || {
            (server.probe.streams(), server.probe.connections(), server.probe.seats()) == (1, 1, 1)
        })
        .await;
    };
    witness.plays_during(cut_off).await;
    server.stop().await;
}

#[tokio::test]
async fn a_flood_of_messages_ends_the_stream() {
    let config = with_limits(|limits| {
        limits.messages_per_second_max = NonZeroU32::new(100).expect("not 0");
        limits.messages_burst_max = NonZeroU32::new(100).expect("not 0");
    });
    let server = TestServer::arena(config).await;
    let mut witness = Witness::join(&server).await;
    let (mut client, _) = RawClient::join(&server).await;
    for echo in 0..400 {
        client.send(Kind::Ping(pb::Ping { echo })).await;
    }
    let status = client.end().await.1;
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::ResourceExhausted, "FLOODING"));
    witness.plays_on().await;
    server.stop().await;
}
