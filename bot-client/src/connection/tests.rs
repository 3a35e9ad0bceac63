//! The client against a scripted server.

use tickwire_proto::v1::{client_message::Kind as Up, server_message::Kind as Down};
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{
    scripted::{LOOPBACK, Peer, serve, snapshot, welcome},
    *,
};

/// A client that was let in, and the server's half of its stream.
async fn joined() -> (Client, Peer) {
    let (url, mut accepted) = serve(None).await;
    let greet = async {
        let mut peer = accepted.recv().await.unwrap();
        assert!(matches!(peer.receive().await, Some(Up::Hello(hello)) if hello.player_name == "ann"));
        peer.send(welcome()).await;
        peer
    };
    let options = JoinOptions { player_name: "ann".into(), ..JoinOptions::default() };
    let (client, peer) = tokio::join!(Client::connect(&url, &options), greet);
    (client.unwrap(), peer)
}

/// How the client's stream ends.
async fn failure(client: &mut Client) -> ClientError {
    loop {
        if let Err(error) = client.next().await {
            return error;
        }
    }
}

#[tokio::test]
async fn a_client_joins_acknowledges_and_sends_inputs_and_leaves() {
    let (mut client, mut peer) = joined().await;
    assert_eq!((client.core().player().0, client.core().session()), (3, "sessions/test-1"));
    let sent = snapshot(101);
    let bytes = prost::Message::encoded_len(&sent) as u64;
    peer.send(Down::Snapshot(sent)).await;

    let server = async {
        // Without a clock there are no inputs yet: acknowledgements travel alone.
        assert!(matches!(peer.receive_news().await, Some(Up::Ack(ack)) if ack.newest_tick == 101));
        peer.send(Down::Snapshot(snapshot(102))).await;
        let mut pinged = false;
        while let Some(kind) = peer.receive().await {
            match kind {
                Up::Ping(ping) if !pinged => {
                    pinged = true;
                    peer.send(Down::Pong(pb::Pong { echo: ping.echo, tick: 102, ..pb::Pong::default() })).await;
                }
                Up::Inputs(inputs) => {
                    assert_eq!((inputs.newest_tick, inputs.inputs[0].values.as_slice()), (102, &[-4][..]));
                    peer.send(Down::Goodbye(pb::Goodbye::default())).await;
                    break;
                }
                _ => {}
            }
        }
        peer
    };
    let play = async {
        while let Some(event) = client.next().await.unwrap() {
            match event {
                Event::InputDue(_) => client.set_input(&[-4]).unwrap(),
                Event::Goodbye { .. } => break,
                _ => {}
            }
        }
        client
    };
    let (mut peer, mut client) = tokio::join!(server, play);
    assert_eq!((client.stats().snapshots, client.mirror().tick().0), (2, 102));
    assert!(client.snapshot_bytes_received() > bytes && client.bytes_received() > client.snapshot_bytes_received());

    let end = async {
        while peer.receive().await.is_some() {}
        drop(peer);
    };
    let (left, ()) = tokio::join!(client.leave(), end);
    left.unwrap();
}

#[tokio::test]
async fn a_client_plays_from_the_address_it_was_given_and_leaves_under_bad_conditions() {
    let (url, mut accepted) = serve(None).await;
    let latency = Duration::from_millis(40);
    let options = ConnectOptions {
        local_address: Some("127.0.0.9".parse().unwrap()),
        conditions: Conditions {
            latency,
            jitter: Duration::from_millis(4),
            stalls: Stalls::new(Duration::from_millis(100), Duration::from_millis(20)).ok(),
            seed: 1,
        },
        ..ConnectOptions::default()
    };
    let server = async {
        let mut peer = accepted.recv().await.unwrap();
        peer.send(welcome()).await;
        peer.send(Down::Snapshot(snapshot(101))).await;
        assert!(matches!(peer.receive_news().await, Some(Up::Hello(_))));
        assert!(matches!(peer.receive_news().await, Some(Up::Ack(ack)) if ack.newest_tick == 101));
        peer.send(Down::Snapshot(snapshot(102))).await;
        while !matches!(peer.receive_news().await, Some(Up::Leave(_))) {}
        peer.send(Down::Goodbye(pb::Goodbye {
            reason: pb::GoodbyeReason::Left.into(),
            text: String::new(),
            ..pb::Goodbye::default()
        }))
        .await;
    };
    let play = async {
        let started = Instant::now();
        let mut client = Client::connect_with(&url, &JoinOptions::default(), &options).await.unwrap();
        assert!(started.elapsed() >= latency, "joining takes a round trip");
        while client.stats().snapshots < 2 {
            client.next().await.unwrap();
        }
        client.leave().await.unwrap();
    };
    tokio::join!(server, play);
}

#[tokio::test]
async fn an_address_that_is_not_this_machines_is_told_as_such() {
    let (url, _accepted) = serve(None).await;
    for (local, said) in [("192.0.2.1", "192.0.2.1"), ("::1", "127.0.0.1 has no address that ::1 could connect to")] {
        let options = ConnectOptions { local_address: Some(local.parse().unwrap()), ..ConnectOptions::default() };
        let error = Client::connect_with(&url, &JoinOptions::default(), &options).await.unwrap_err();
        assert!(matches!(error, ClientError::LocalAddress { .. }) && error.to_string().contains(said), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_an_error_in_bounded_time() {
    let (url, _accepted) = serve(None).await;
    let options = ConnectOptions { welcome_timeout: Duration::from_millis(30), ..ConnectOptions::default() };
    let error = Client::connect_with(&url, &JoinOptions::default(), &options).await.unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (Code::DeadlineExceeded, "no answer to hello within 30 ms"));
}

#[tokio::test]
async fn leave_is_said_before_the_stream_is_half_closed() {
    let (mut client, mut peer) = joined().await;
    let end = async {
        assert!(matches!(peer.receive_news().await, Some(Up::Leave(_))));
        assert!(matches!(peer.up.message().await, Ok(None)));
        peer.send(Down::Goodbye(pb::Goodbye {
            reason: pb::GoodbyeReason::Left.into(),
            text: String::new(),
            ..pb::Goodbye::default()
        }))
        .await;
        drop(peer);
    };
    let (left, ()) = tokio::join!(client.leave(), end);
    left.unwrap();
}

#[tokio::test]
async fn a_dropped_client_is_a_lost_connection_and_no_leave() {
    let (client, mut peer) = joined().await;
    drop(client);
    loop {
        match peer.up.message().await {
            Ok(Some(message)) => assert!(!matches!(message.kind, Some(Up::Leave(_)))),
            Ok(None) => panic!("the stream was half-closed in order"),
            Err(_) => break,
        }
    }
}

#[tokio::test]
async fn a_refusal_keeps_its_code_and_details() {
    let full = || {
        let mut details = ErrorDetails::with_retry_info(Some(Duration::from_millis(1500)));
        details.add_bad_request_violation("hello.session", "no such session");
        Status::with_error_details(Code::ResourceExhausted, "the session is full", details)
    };
    let (url, _accepted) = serve(Some(full)).await;
    let error = Client::connect(&url, &JoinOptions::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    let ClientError::Status(status) = &error else { panic!("{error:?}") };
    assert_eq!(status.retry_after, Some(Duration::from_millis(1500)));
    assert_eq!(status.violations, [("hello.session".to_owned(), "no such session".to_owned())]);
    assert_eq!(
        error.to_string(),
        "the server answers RESOURCE_EXHAUSTED: the session is full; hello.session: no such session; try again in 1500 ms"
    );
}

#[tokio::test]
async fn a_status_in_mid_stream_ends_the_client_with_it() {
    let (mut client, peer) = joined().await;
    peer.down.send(Err(Status::invalid_argument("inputs.target_tick: 0"))).await.unwrap();
    let error = loop {
        match client.next().await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (Code::InvalidArgument, "the server answers INVALID_ARGUMENT: inputs.target_tick: 0")
    );
}

#[tokio::test]
async fn a_stream_that_ends_without_a_goodbye_is_an_error() {
    let (mut client, peer) = joined().await;
    drop(peer);
    assert!(matches!(client.next().await, Err(ClientError::Ended)));
}

#[tokio::test]
async fn a_connection_that_breaks_is_lost() {
    let (url, mut accepted) = serve(None).await;
    let server = url.trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let relay = tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(server).await.unwrap();
        tokio::io::copy_bidirectional(&mut near, &mut far).await
    });
    let greet = async {
        let peer = accepted.recv().await.unwrap();
        peer.send(welcome()).await;
        peer
    };
    let options = JoinOptions::default();
    let (client, _peer) = tokio::join!(Client::connect(&url, &options), greet);
    relay.abort();
    let error = failure(&mut client.unwrap()).await;
    assert!(matches!(error, ClientError::Lost { .. }), "{error:?}");
    assert_eq!(error.code(), Code::Unavailable);
}

#[tokio::test]
async fn addresses_that_are_none_are_named() {
    for url in ["127.0.0.1:7777", "ftp://127.0.0.1:7777", "http://", "not a url", ""] {
        let error = Client::connect(url, &JoinOptions::default()).await.unwrap_err();
        assert!(matches!(&error, ClientError::Url { url: named, .. } if named == url), "{url}: {error:?}");
    }
}

#[tokio::test]
async fn nobody_there_is_said_as_such() {
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = Client::connect(&url, &JoinOptions::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_message_of_many_frames_arrives_whole() {
    let (mut client, peer) = joined().await;
    let row = pb::RosterRow { player: 9, name: "x".repeat(200_000), status: 1, scores: vec![] };
    peer.send(Down::Snapshot(pb::Snapshot { roster: vec![row], ..snapshot(101) })).await;
    while client.stats().snapshots == 0 {
        client.next().await.unwrap();
    }
    assert_eq!(client.mirror().roster()[&tickwire_shared::PlayerId(9)].name.len(), 200_000);
    assert!(client.snapshot_bytes_received() > 200_000);
}

#[tokio::test]
async fn a_server_that_speaks_http_but_not_grpc_is_told_as_such() {
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(socket).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let answer = http::Response::builder().status(404).body(()).unwrap();
            respond.send_response(answer, true).unwrap();
        }
    });
    let error = Client::connect(&url, &JoinOptions::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    assert!(error.to_string().contains("HTTP status 404 and no gRPC"), "{error}");
}
