//! gRPC on HTTP/2, as far as no generated client goes: several streams of one connection, windows that are shut, and frames
//! that no client should send.

use std::{num::NonZeroU32, time::Duration};

use bytes::Bytes;
use h2::{RecvStream, SendStream, client::SendRequest};
use http::{HeaderMap, Request, Response, StatusCode};
use prost::Message as _;
use tickwire_proto::v1::{self as pb, client_message::Kind, server_message};
use tickwire_server::{Limits, ServerConfig, Timeouts};
use tokio::{net::TcpStream, sync::oneshot};
use tonic::{Code, Status};
use tonic_reflection::pb::v1 as reflection;

use crate::harness::{RawClient, TestServer, config, eventually, hello, reason_of, within_patience};

const PLAY: &str = "/tickwire.v1.GameService/Play";
/// A patience that a test waits out.
const SHORT: Duration = Duration::from_millis(200);

/// A connection without gRPC.
async fn connect(server: &TestServer) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(server.address).await.expect("the server accepts");
    let (requests, connection) = h2::client::handshake(socket).await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    requests
}

async fn ask(
    requests: &SendRequest<Bytes>,
    path: &str,
    encoding: Option<&str>,
) -> (Response<RecvStream>, SendStream<Bytes>) {
    let mut request = Request::post(format!("http://localhost{path}")).header("content-type", "application/grpc");
    if let Some(encoding) = encoding {
        request = request.header("grpc-encoding", encoding);
    }
    let request = request.body(()).expect("a request");
    let mut requests = requests.clone().ready().await.expect("the server takes requests");
    let (response, up) = requests.send_request(request, false).expect("it can be sent");
    (within_patience(response).await.expect("headers come at once"), up)
}

/// Reads to the end: what the trailers say.
async fn trailers(mut body: RecvStream) -> Option<HeaderMap> {
    while let Some(data) = within_patience(body.data()).await {
        let length = data.expect("the stream is not reset").len();
        body.flow_control().release_capacity(length).expect("it was received");
    }
    within_patience(body.trailers()).await.expect("the stream is not reset")
}

fn framed(flag: u8, message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    [&[flag], &length[..], message].concat().into()
}

fn said(kind: Kind) -> Vec<u8> {
    pb::ClientMessage { kind: Some(kind) }.encode_to_vec()
}

#[tokio::test]
async fn several_streams_play_on_one_connection_and_each_leaves_by_itself() {
    let server = TestServer::arena(config()).await;
    let channel = server.channel().await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = RawClient::open_on(channel.clone()).await;
        client.send(Kind::Hello(hello())).await;
        client.welcome().await;
        clients.push(client);
    }
    assert_eq!((server.probe.connections(), server.probe.streams(), server.probe.seats()), (1, 4, 4));
    while let Some(mut leaver) = clients.pop() {
        for client in &mut clients {
            let first = client.snapshot().await.tick;
            client.ack(first).await;
            client.play_until(|snapshot| snapshot.tick >= first + 5).await;
        }
        leaver.send(Kind::Leave(pb::Leave {})).await;
        let (goodbye, status) = leaver.end().await;
        assert_eq!((goodbye.map(|goodbye| goodbye.reason()), status.code()), (Some(pb::GoodbyeReason::Left), Code::Ok));
        eventually("its seat is free", || server.probe.seats() as usize == clients.len()).await;
    }
    server.stop().await;
}

/// The next message of a stream, whose frames are given back to the connection's window and to its own.
async fn next_message(body: &mut RecvStream, read: &mut Vec<u8>) -> Option<pb::ServerMessage> {
    loop {
        if let Some((&[0, a, b, c, d], rest)) = read.split_first_chunk() {
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            if let Some(message) = rest.get(..length) {
                let message = pb::ServerMessage::decode(message).expect("a message");
                read.drain(..5 + length);
                return Some(message);
            }
        }
        let data = within_patience(body.data()).await?.expect("the stream is not reset");
        body.flow_control().release_capacity(data.len()).expect("it was received");
        read.extend_from_slice(&data);
    }
}

/// However wide the stream's window and the client's frames are; that of the connection is as players' clients have it.
#[tokio::test]
async fn a_player_with_little_room_gets_whole_snapshots_and_ends_as_any_other() {
    let often = NonZeroU32::new(10_000).expect("not 0");
    let limits = Limits { messages_per_second_max: often, messages_burst_max: often, ..Limits::default() };
    let server = TestServer::arena(ServerConfig { limits, ..config() }).await;
    for (window, piece) in [(100, 7), (70_000, 1000)] {
        let socket = TcpStream::connect(server.address).await.expect("the server accepts");
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(1 << 20);
        let (requests, connection) = builder.handshake::<_, Bytes>(socket).await.expect("it speaks HTTP/2");
        tokio::spawn(connection);
        let (response, mut up) = ask(&requests, PLAY, None).await;
        let mut send = |kind: Kind| {
            let bytes = framed(0, &said(kind));
            for place in (0..bytes.len()).step_by(piece) {
                up.send_data(bytes.slice(place..(place + piece).min(bytes.len())), false).expect("the stream is open");
            }
        };
        send(Kind::Hello(hello()));
        let (mut body, mut read) = (response.into_body(), Vec::new());
        let (mut snapshots, mut pongs, mut sent) = (0, 0, 0);
        while snapshots < 150 {
            let message = next_message(&mut body, &mut read).await.expect("it goes on");
            match message.kind.expect("of a kind") {
                server_message::Kind::Snapshot(snapshot) => {
                    snapshots += 1;
                    send(Kind::Ack(pb::Ack { epoch: snapshot.epoch, newest_tick: snapshot.tick }));
                    // More than a stream's window holds, over all.
                    for echo in sent..sent + 60 {
                        send(Kind::Ping(pb::Ping { echo: u64::MAX - echo }));
                    }
                    sent += 60;
                }
                server_message::Kind::Pong(_) => pongs += 1,
                _ => {}
            }
        }
        assert!(sent * 16 > 128 * 1024 && pongs > 0);
        assert_eq!(server.probe.seats(), 1);
        up.send_data(Bytes::new(), true).expect("the stream is open");
        let mut last = None;
        while let Some(message) = next_message(&mut body, &mut read).await {
            last = message.kind;
        }
        let Some(server_message::Kind::Goodbye(goodbye)) = last else { panic!("it ends with {last:?}") };
        assert_eq!(goodbye.reason(), pb::GoodbyeReason::Left);
        let status = Status::from_header_map(&trailers(body).await.expect("a stream ends with trailers"));
        assert_eq!(status.expect("with a status").code(), Code::Ok);
        eventually("its seat is free", || server.probe.seats() == 0).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn who_leaves_does_not_wait_for_a_stream_that_takes_nothing() {
    let server = TestServer::arena(config()).await;
    let socket = TcpStream::connect(server.address).await.expect("the server accepts");
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(20_000).initial_connection_window_size(1 << 20);
    let (requests, connection) = builder.handshake::<_, Bytes>(socket).await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    let mut streams = Vec::new();
    for _ in 0..2 {
        let (response, mut up) = ask(&requests, PLAY, None).await;
        up.send_data(framed(0, &said(Kind::Hello(hello()))), false).expect("the stream is open");
        streams.push((up, response.into_body(), Vec::new()));
    }
    let (mut leaving, mut body, mut read) = streams.pop().expect("two");
    let (mut stalled, stalled_body, _) = streams.pop().expect("two");
    // What it is sent is held until its window is used up, by pongs where snapshots are few.
    let (mut stalled_body, mut echo) = (stalled_body, 0);
    let flow = stalled_body.flow_control().clone();
    while flow.available_capacity() > 0 {
        for (up, kind) in [
            (&mut stalled, Kind::Ping(pb::Ping { echo: u64::MAX - echo })),
            (&mut leaving, Kind::Ping(pb::Ping { echo })),
        ] {
            up.send_data(framed(0, &said(kind)), false).expect("the stream is open");
        }
        echo += 1;
        loop {
            let message = next_message(&mut body, &mut read).await.expect("it goes on");
            if let Some(server_message::Kind::Pong(_)) = message.kind {
                break;
            }
        }
    }
    leaving.send_data(Bytes::new(), true).expect("the stream is open");
    while next_message(&mut body, &mut read).await.is_some() {}
    let status = Status::from_header_map(&trailers(body).await.expect("a stream ends with trailers"));
    assert_eq!(status.expect("with a status").code(), Code::Ok);
    eventually("its seat is free", || server.probe.seats() == 1).await;
    assert_eq!((server.probe.connections(), server.probe.streams()), (1, 1), "the other goes on");
    drop(stalled);
    server.stop().await;
}

#[tokio::test]
async fn who_takes_nothing_is_still_heard() {
    let server = TestServer::arena(config()).await;
    // Not even a welcome goes through.
    let endpoint = server.endpoint().initial_stream_window_size(16);
    let client = RawClient::open_on(endpoint.connect().await.expect("the server accepts")).await;
    client.send(Kind::Hello(hello())).await;
    eventually("it sits", || server.probe.seats() == 1).await;
    // More than fits the connection's window, if nobody read it.
    for echo in 0..2500 {
        client.send(Kind::Ping(pb::Ping { echo })).await;
    }
    client.send(Kind::Hello(hello())).await;
    eventually("it has broken a rule: its seat is free without a grace period", || server.probe.seats() == 0).await;
    assert_eq!(server.probe.streams(), 1, "and its status waits to be taken");
    server.stop().await;
}

#[tokio::test]
async fn who_gives_no_room_for_anything_loses_the_seat_however_often_it_pings() {
    let timeouts = Timeouts { unacknowledged: SHORT, grace: Duration::ZERO, ..config().timeouts };
    let server = TestServer::arena(ServerConfig { timeouts, ..config() }).await;
    let socket = TcpStream::connect(server.address).await.expect("the server accepts");
    let mut builder = h2::client::Builder::new();
    let (requests, mut connection) =
        builder.initial_window_size(0).handshake::<_, Bytes>(socket).await.expect("it speaks HTTP/2");
    let (open, opened) = oneshot::channel();
    tokio::spawn(async move {
        tokio::select! {
            end = &mut connection => panic!("{end:?} before the window is opened"),
            _ = opened => connection.set_initial_window_size(1 << 20).expect("it is open"),
        }
        connection.await
    });
    let (response, mut up) = ask(&requests, PLAY, None).await;
    let mut send = |kind: Kind| up.send_data(framed(0, &said(kind)), false).expect("the stream is open");
    send(Kind::Hello(hello()));
    eventually("it sits", || server.probe.seats() == 1).await;
    eventually("its seat is free", || {
        send(Kind::Ping(pb::Ping { echo: 1 }));
        server.probe.seats() == 0
    })
    .await;

    open.send(()).expect("the connection is open");
    let (mut body, mut read) = (response.into_body(), Vec::new());
    let welcome = next_message(&mut body, &mut read).await.and_then(|message| message.kind);
    assert!(matches!(welcome, Some(server_message::Kind::Welcome(_))), "{welcome:?}");
    let status = Status::from_header_map(&trailers(body).await.expect("a stream ends with trailers"));
    let status = status.expect("with a status");
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::DeadlineExceeded, "NOT_READING"));
    server.stop().await;
}

#[tokio::test]
async fn frames_that_are_no_messages_end_the_stream() {
    let server = TestServer::arena(config()).await;
    let requests = connect(&server).await;
    let hello = said(Kind::Hello(hello()));
    for (bytes, closed, text) in [
        (framed(1, &hello), false, "compressed"),
        (framed(7, &hello), false, "flag"),
        (framed(0, &hello).slice(..8), true, "within a message"),
    ] {
        let (response, mut up) = ask(&requests, PLAY, Some("identity")).await;
        let headers = response.headers();
        assert_eq!(
            (response.status(), &headers["content-type"]),
            (StatusCode::OK, &"application/grpc".parse().expect("a value"))
        );
        assert!(headers.contains_key("date"), "{headers:?}");
        // In pieces of a byte each: what makes up a message is not what makes up a frame.
        for place in 0..bytes.len() {
            up.send_data(bytes.slice(place..=place), closed && place + 1 == bytes.len()).expect("the stream is open");
        }
        let trailers = trailers(response.into_body()).await.expect("a stream ends with trailers");
        let status = Status::from_header_map(&trailers).expect("with a status");
        assert_eq!(status.code(), Code::Internal, "{status:?}");
        assert!(status.message().contains(text), "{status:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_status_survives_http2_as_it_is() {
    let server = TestServer::arena(config()).await;
    let (response, mut up) = ask(&connect(&server).await, PLAY, None).await;
    let name = "sessions/größer: 100 %\n".to_owned();
    up.send_data(framed(0, &said(Kind::Hello(pb::Hello { session: name, ..hello() }))), false).expect("open");
    let trailers = trailers(response.into_body()).await.expect("a stream ends with trailers");
    let written = trailers["grpc-message"].to_str().expect("ASCII");
    assert!(!written.contains('\n') && written.contains("%25"), "{written}");
    let status = Status::from_header_map(&trailers).expect("with a status");
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::InvalidArgument, "MALFORMED_NAME"));
    server.stop().await;
}

#[tokio::test]
async fn compression_and_methods_that_are_not_there_are_unimplemented() {
    let server = TestServer::arena(config()).await;
    let requests = connect(&server).await;
    for (path, encoding, accepted) in
        [(PLAY, Some("gzip"), Some("identity")), ("/tickwire.v1.GameService/Pause", None, None), ("/", None, None)]
    {
        let (response, _up) = ask(&requests, path, encoding).await;
        let status = Status::from_header_map(response.headers()).expect("headers say it all");
        assert_eq!(status.code(), Code::Unimplemented, "{status:?}");
        let named = response.headers().get("grpc-accept-encoding").map(|value| value.to_str().expect("ASCII"));
        assert_eq!(named, accepted);
    }
    assert_eq!(server.probe.streams(), 0);
    server.stop().await;
}

#[tokio::test]
async fn a_long_answer_goes_through_a_small_window() {
    let server = TestServer::arena(config()).await;
    let endpoint = server.endpoint().initial_stream_window_size(64);
    let channel = endpoint.connect().await.expect("the server accepts");
    let mut client = reflection::server_reflection_client::ServerReflectionClient::new(channel);
    let symbol = "tickwire.v1.GameService".to_owned();
    let request = reflection::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(reflection::server_reflection_request::MessageRequest::FileContainingSymbol(symbol)),
    };
    let answers = client.server_reflection_info(tokio_stream::once(request)).await;
    let answer = within_patience(answers.expect("it is there").get_mut().message()).await;
    assert!(answer.expect("whole").expect("one").encoded_len() > 1000);
    server.stop().await;
}

#[tokio::test]
async fn a_request_that_is_reset_leaves_nothing_behind() {
    let server = TestServer::arena(config()).await;
    let requests = connect(&server).await;
    eventually("it is connected", || server.probe.connections() == 1).await;
    let before = server.probe.tasks();
    for _ in 0..10 {
        // Reflection waits for requests on its stream.
        let (response, mut up) =
            ask(&requests, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", None).await;
        up.send_reset(h2::Reason::CANCEL);
        drop(response);
    }
    eventually("their tasks have ended", || server.probe.tasks() == before).await;
    server.stop().await;
}
