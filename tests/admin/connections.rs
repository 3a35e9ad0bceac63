//! Connections of admins, and of who asks for metrics: how many there may be, and for how long one may want nothing.

use std::{future::poll_fn, net::SocketAddr, pin::Pin, sync::Arc, task::Poll, time::Duration};

use tickwire_arena::Arena;
use tickwire_proto::v1::{self as pb, GetServerInfoRequest};
use tickwire_server::{Server, ServerConfig, Timeouts};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::Code;

use super::administrator::{Administered, get};
use crate::harness::{TestServer, config, eventually, reason_of, within_patience};

/// As many as may be.
const CONNECTIONS_MAX: usize = 64;
const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(300);

fn with(hello: Duration, admin_idle: Duration) -> ServerConfig {
    ServerConfig { timeouts: Timeouts { hello, admin_idle, ..config().timeouts }, ..config() }
}

fn count(server: &TestServer, reason: &str) -> u64 {
    server.probe.refusals().get(reason).copied().unwrap_or_default()
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("it listens")
}

/// Waits until the other side has closed, or reset, a connection.
async fn is_closed(mut socket: TcpStream) {
    let mut rest = Vec::new();
    let _ = within_patience(socket.read_to_end(&mut rest)).await;
}

/// A server that answers who asks for metrics on a listener of their own.
async fn with_metrics(config: ServerConfig) -> (TestServer, SocketAddr) {
    let metrics_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let config = ServerConfig { metrics_listen, ..config };
    let server = Server::start(config, vec![Arc::new(Arena)]).expect("the configuration is good");
    let address = server.metrics_address().expect("it listens for who asks for metrics");
    (TestServer::serve(server).await, address)
}

#[tokio::test]
async fn connections_that_want_nothing_keep_nobody_out_and_who_is_served_stays() {
    let administered = Administered::arena(with(LONG, LONG)).await;
    let mut admin = administered.admin().await;
    let interval = Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 });
    let stats = admin.stream_stats(pb::StreamStatsRequest { interval }).await.expect("there is room");
    let mut stats = stats.into_inner();
    let mut idle = Vec::new();
    for _ in 1..CONNECTIONS_MAX {
        idle.push(connect(administered.address).await);
    }
    let oldest = idle.remove(0);
    let mut second = administered.admin().await;
    second.get_server_info(GetServerInfoRequest {}).await.expect("there is room for it");
    is_closed(oldest).await;
    assert_eq!(count(&administered.server, "ADMIN_CONNECTIONS"), 1);

    // Whatever else comes, the stream goes on.
    for _ in 0..2 * CONNECTIONS_MAX {
        idle.push(connect(administered.address).await);
    }
    eventually("all have been seen", || count(&administered.server, "ADMIN_CONNECTIONS") > 2 * CONNECTIONS_MAX as u64)
        .await;
    for _ in 0..3 {
        within_patience(stats.message()).await.expect("it goes on").expect("it goes on");
    }
    administered.server.stop().await;

    let (server, address) = with_metrics(with(LONG, LONG)).await;
    let mut idle = Vec::new();
    for _ in 0..=CONNECTIONS_MAX {
        idle.push(connect(address).await);
    }
    let answer = get(address, "/metrics", "Host: localhost\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("tickwire_serving 1"), "{answer}");
    assert_eq!(count(&server, "ADMIN_CONNECTIONS"), 2);
    server.stop().await;
}

#[tokio::test]
async fn so_many_calls_are_open_on_one_connection() {
    let administered = Administered::arena(config()).await;
    let socket = connect(administered.address).await;
    let (_requests, mut connection) = h2::client::handshake(socket).await.expect("it speaks HTTP/2");
    // What the client takes to be the most until it is told.
    assert!(connection.max_concurrent_send_streams() > 32);
    let told = poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
        Poll::Ready(ended) => panic!("the connection has ended: {ended:?}"),
        Poll::Pending if connection.max_concurrent_send_streams() == 32 => Poll::Ready(()),
        Poll::Pending => Poll::Pending,
    });
    within_patience(told).await;
    administered.server.stop().await;
}

#[tokio::test]
async fn a_connection_that_asks_for_nothing_or_takes_too_long_to_is_closed() {
    let administered = Administered::arena(with(SHORT, LONG)).await;
    let (server, metrics) = with_metrics(with(SHORT, LONG)).await;
    for (server, address) in [(&administered.server, administered.address), (&server, metrics)] {
        for begun in ["", "GET /metrics HTTP/1.1\r\nHost: localhost\r\nx-", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let before = count(server, "NO_REQUEST");
            let mut socket = connect(address).await;
            socket.write_all(begun.as_bytes()).await.expect("it is open");
            is_closed(socket).await;
            assert_eq!(count(server, "NO_REQUEST"), before + 1, "{begun:?}");
        }
    }
    server.stop().await;
    administered.server.stop().await;
}

#[tokio::test]
async fn a_connection_without_another_request_is_closed_unless_statistics_are_sent_on_it() {
    let administered = Administered::arena(with(LONG, SHORT)).await;
    let mut admin = administered.admin().await;
    let interval = Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 });
    let stats = admin.stream_stats(pb::StreamStatsRequest { interval }).await.expect("there is room");
    let mut stats = stats.into_inner();

    let mut socket = connect(administered.address).await;
    socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("it is open");
    let mut answer = String::new();
    within_patience(socket.read_to_string(&mut answer)).await.expect("it is closed");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert_eq!(count(&administered.server, "IDLE"), 1);

    // A call whose message does not come has no place, whoever makes it.
    let (requests, connection) =
        h2::client::handshake(connect(administered.address).await).await.expect("it speaks HTTP/2");
    let connection = tokio::spawn(connection);
    let mut requests = requests.ready().await.expect("it takes requests");
    let call = http::Request::post("http://localhost/tickwire.v1.AdminService/StreamStats")
        .header("content-type", "application/grpc")
        .header("authorization", format!("Bearer {}", administered.token()));
    let (response, _body) = requests.send_request(call.body(()).expect("a request"), false).expect("it can be sent");
    within_patience(response).await.expect_err("it is never whole");
    let _ = within_patience(connection).await;
    assert_eq!(count(&administered.server, "IDLE"), 2);

    // All this time it has gone on; and a channel that was closed is made anew.
    for _ in 0..5 {
        within_patience(stats.message()).await.expect("it goes on").expect("it goes on");
    }
    let mut other = administered.admin().await;
    for closed in 3..5 {
        // A call may still go out on a connection that is being closed: it is answered there, or lost with it.
        let is_answered_and_closed = async {
            let mut is_answered = false;
            while !is_answered || count(&administered.server, "IDLE") < closed {
                is_answered |= other.get_server_info(GetServerInfoRequest {}).await.is_ok();
                tokio::time::sleep(SHORT * 2).await;
            }
        };
        within_patience(is_answered_and_closed).await;
    }
    administered.server.stop().await;
}

#[tokio::test]
async fn a_stream_of_statistics_ends_with_the_token_that_it_was_asked_for_by() {
    let data = tempfile::tempdir().expect("a directory");
    let file = data.path().join("tokens.toml");
    let [old, new] = ["old-0123456789abcdef0123", "new-0123456789abcdef0123"];
    let write = |token: &str| {
        let text = format!("[[token]]\nname = \"grafana\"\nrole = \"observer\"\ntoken = \"{token}\"\n");
        std::fs::write(&file, text).expect("there is room");
    };
    write(old);
    let listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let (directory, tokens) = (data.path().to_owned(), Some(file.clone()));
    let admin = tickwire_server::AdminConfig { listen, directory, tls: None, tokens, drain: LONG };
    let server = Server::start(ServerConfig { admin: Some(admin), ..config() }, vec![Arc::new(Arena)]);
    let server = server.expect("the configuration is good");
    let (address, control) = (server.admin_address().expect("it listens"), server.control());
    let administered = Administered { server: TestServer::serve(server).await, address, data };

    let mut admin = administered.admin_with(Some(old.to_owned())).await;
    let interval = Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 });
    let stats = admin.stream_stats(pb::StreamStatsRequest { interval }).await.expect("the token is good");
    let mut stats = stats.into_inner();
    within_patience(stats.message()).await.expect("it goes on").expect("it goes on");
    write(new);
    let report = control.reload().expect("the tokens are some");
    assert_eq!(report.changed.len(), 1, "{report:?}");
    let status = loop {
        match within_patience(stats.message()).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ends without a status"),
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::Unauthenticated, "UNKNOWN_ADMIN_TOKEN"));
    let status = admin.get_server_info(GetServerInfoRequest {}).await.expect_err("it is not good any more");
    assert_eq!(status.code(), Code::Unauthenticated);
    let mut admin = administered.admin_with(Some(new.to_owned())).await;
    admin.get_server_info(GetServerInfoRequest {}).await.expect("it is good");
    administered.server.stop().await;
}
