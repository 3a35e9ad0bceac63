//! Requests that are not as gRPC has them.

use futures_util::{FutureExt as _, future::BoxFuture};
use http::Request;
use tickwire_proto::v1::{
    self as pb, GetSessionRequest, game_service_client::GameServiceClient, session_service_client::SessionServiceClient,
};
use tokio::net::TcpStream;
use tonic::{Code, codec::CompressionEncoding};

use super::{Act, Expected, Misbehaviour, PLAY, Verdict, call, it, verdict};
use crate::{
    harness::{TestServer, within_patience},
    raw_http2::GET_SESSION,
};

const INTERNAL: Expected = Expected::Status(Code::Internal, "");
const UNIMPLEMENTED: Expected = Expected::Status(Code::Unimplemented, "");

pub(super) const GRPC: &[Misbehaviour] = &[
    it("compresses what it did not say", Act::Body(|| vec![1, 0, 0, 0, 1, 7]), INTERNAL),
    it("has a flag of its own", Act::Body(|| vec![7, 0, 0, 0, 1, 7]), INTERNAL),
    it("tears a message", Act::Body(|| vec![0, 0, 0, 0, 9, 7]), INTERNAL),
    it("closes at once", Act::Body(Vec::new), Expected::Status(Code::FailedPrecondition, "HELLO_MISSING")),
    it(
        "compresses its play",
        Act::Else(|server| {
            async move { verdict(&call(server, PLAY, Some(("grpc-encoding", "gzip")), Vec::new(), true).await) }.boxed()
        }),
        UNIMPLEMENTED,
    ),
    it(
        "calls what is not there",
        Act::Else(|server| {
            async move { verdict(&call(server, "/tickwire.v1.GameService/Win", None, Vec::new(), true).await) }.boxed()
        }),
        UNIMPLEMENTED,
    ),
    it("sends a bomb", Act::Else(sends_a_bomb), Expected::Status(Code::ResourceExhausted, "")),
    it(
        "begins a request and lets it lie",
        Act::Else(|server| async move { verdict(&call(server, GET_SESSION, None, vec![0; 3], false).await) }.boxed()),
        Expected::Status(Code::DeadlineExceeded, "NO_MESSAGE"),
    ),
    it(
        "opens stream after stream",
        Act::Else(opens_many_streams),
        Expected::Status(Code::ResourceExhausted, "STREAMS"),
    ),
    it("has long headers", Act::Else(has_long_headers), Expected::Http(431)),
];

fn sends_a_bomb(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        let channel = server.channel().await;
        let mut sessions = SessionServiceClient::new(channel).send_compressed(CompressionEncoding::Gzip);
        let request = GetSessionRequest { name: "x".repeat(4 << 20) };
        verdict(&within_patience(sessions.get_session(request)).await.expect_err("it is too long"))
    }
    .boxed()
}

fn opens_many_streams(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        let mut game = GameServiceClient::new(server.channel().await);
        let mut open = Vec::new();
        loop {
            match within_patience(game.play(tokio_stream::pending::<pb::ClientMessage>())).await {
                Ok(stream) => open.push(stream),
                Err(status) => return verdict(&status),
            }
        }
    }
    .boxed()
}

fn has_long_headers(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        let socket = TcpStream::connect(server.address).await.expect("the server accepts");
        let (requests, connection) = h2::client::handshake(socket).await.expect("it speaks HTTP/2");
        let connection = tokio::spawn(connection);
        let mut requests = requests.ready().await.expect("it takes requests");
        let long = Request::post(format!("http://localhost{PLAY}")).header("x-long", "x".repeat(12_000));
        let (response, _) = requests.send_request(long.body(()).expect("a request"), true).expect("it goes out");
        let status = within_patience(response).await.expect("it is answered").status();
        connection.abort();
        Verdict::Http(status.as_u16())
    }
    .boxed()
}
