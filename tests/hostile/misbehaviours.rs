//! What no client may do, one of each, and what it comes to.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use http::Request;
use prost::Message as _;
use tickwire_proto::v1::{
    self as pb, GetSessionRequest, client_message::Kind, game_service_client::GameServiceClient,
    session_service_client::SessionServiceClient,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, Status, codec::CompressionEncoding};

use crate::{
    harness::{Cable, RawClient, TestServer, hello, input, play_bytes, reason_of, within_patience},
    raw_http2::{
        CONTINUATION, DATA, END_HEADERS, GET_SESSION, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE,
        frame, greeting, header_block, request, send_to_the_end,
    },
};

const PLAY: &str = "/tickwire.v1.GameService/Play";

/// What a misbehaviour comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The stream or the call ends so; without a reason where it is empty.
    Status(Code, String),
    /// The connection is closed.
    Closed,
    /// HTTP refuses the request.
    Http(u16),
    /// It is passed over, or costs nobody but the client.
    PassedOver,
}

/// One way to misbehave.
#[derive(Clone, Copy)]
pub(super) struct Misbehaviour {
    pub(super) name: &'static str,
    act: Act,
    expected: Expected,
}

#[derive(Clone, Copy)]
enum Expected {
    Status(Code, &'static str),
    Closed,
    Http(u16),
    PassedOver,
}

#[derive(Clone, Copy)]
enum Act {
    /// Says hello, so.
    Hello(fn(&mut pb::Hello)),
    /// Joins, and says that.
    Says(fn() -> Vec<Kind>),
    /// Joins, and sends that as messages.
    Bytes(fn() -> Vec<Bytes>),
    /// Sends that as the body of a `Play` request, which it closes.
    Body(fn() -> Vec<u8>),
    /// Sends that after HTTP/2's greeting.
    Frames(fn() -> Vec<u8>),
    /// Sends that instead of it.
    Socket(fn() -> Vec<u8>),
    Else(for<'a> fn(&'a TestServer) -> BoxFuture<'a, Verdict>),
}

impl Misbehaviour {
    pub(super) async fn act(&self, server: &TestServer) -> Verdict {
        match self.act {
            Act::Hello(change) => {
                let mut hello = hello();
                change(&mut hello);
                verdict(&RawClient::greet(server, hello).await.end().await.1)
            }
            Act::Says(kinds) => {
                let (mut client, _) = RawClient::join(server).await;
                for kind in kinds() {
                    client.send(kind).await;
                }
                verdict(&client.end().await.1)
            }
            Act::Bytes(messages) => {
                let first = pb::ClientMessage { kind: Some(Kind::Hello(hello())) }.encode_to_vec();
                let messages = [vec![first.into()], messages()].concat();
                let mut down = play_bytes(server.channel().await, messages).await;
                loop {
                    if let Err(status) = within_patience(down.message()).await {
                        return verdict(&status);
                    }
                }
            }
            Act::Body(bytes) => verdict(&call(server, PLAY, None, bytes()).await),
            Act::Frames(bytes) => {
                send_to_the_end(server, [greeting(), bytes()].concat()).await;
                Verdict::Closed
            }
            Act::Socket(bytes) => {
                send_to_the_end(server, bytes()).await;
                Verdict::Closed
            }
            Act::Else(act) => act(server).await,
        }
    }

    pub(super) fn expected(&self) -> Verdict {
        match self.expected {
            Expected::Status(code, reason) => Verdict::Status(code, reason.to_owned()),
            Expected::Closed => Verdict::Closed,
            Expected::Http(status) => Verdict::Http(status),
            Expected::PassedOver => Verdict::PassedOver,
        }
    }
}

fn verdict(status: &Status) -> Verdict {
    Verdict::Status(status.code(), reason_of(status))
}

/// A request of HTTP/2 without gRPC's help, closed at once: its status.
async fn call(server: &TestServer, path: &str, header: Option<(&str, &str)>, body: Vec<u8>) -> Status {
    let socket = TcpStream::connect(server.address).await.expect("the server accepts");
    let (requests, connection) = h2::client::handshake(socket).await.expect("it speaks HTTP/2");
    let connection = tokio::spawn(connection);
    let mut request = Request::post(format!("http://localhost{path}")).header("content-type", "application/grpc");
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let mut requests = requests.ready().await.expect("it takes requests");
    let (response, mut up) = requests.send_request(request.body(()).expect("a request"), false).expect("it goes out");
    // An error says that the answer has come already.
    let _ = up.send_data(body.into(), true);
    let (head, mut body) = within_patience(response).await.expect("it is answered").into_parts();
    let status = match Status::from_header_map(&head.headers) {
        Some(status) => status,
        None => {
            while let Some(Ok(data)) = within_patience(body.data()).await {
                body.flow_control().release_capacity(data.len()).expect("it was received");
            }
            let trailers = within_patience(body.trailers()).await.expect("it is not reset").expect("there are some");
            Status::from_header_map(&trailers).expect("with a status")
        }
    };
    connection.abort();
    status
}

fn inputs(inputs: Vec<pb::Input>) -> Vec<Kind> {
    vec![Kind::Inputs(pb::Inputs { epoch: 0, newest_tick: 0, inputs })]
}

/// Joins, says that, and goes on as if nothing were wrong, for half a second of the session's.
fn passed_over(server: &TestServer, kinds: Vec<Kind>) -> BoxFuture<'_, Verdict> {
    async move {
        let (mut client, welcome) = RawClient::join(server).await;
        for kind in kinds {
            client.send(kind).await;
        }
        client.play_until(|snapshot| snapshot.tick >= welcome.tick + 30).await;
        client.send(Kind::Leave(pb::Leave {})).await;
        match client.end().await.1.code() {
            Code::Ok => Verdict::PassedOver,
            code => Verdict::Status(code, String::new()),
        }
    }
    .boxed()
}

const MALFORMED: Expected = Expected::Status(Code::InvalidArgument, "MALFORMED");
const OUT_OF_RANGE: Expected = Expected::Status(Code::InvalidArgument, "OUT_OF_RANGE");
const INVALID_INPUT: Expected = Expected::Status(Code::InvalidArgument, "INVALID_INPUT");
const NOT_RISING: Expected = Expected::Status(Code::InvalidArgument, "NOT_RISING");
const ACK_BEYOND_SENT: Expected = Expected::Status(Code::InvalidArgument, "ACK_BEYOND_SENT");
const UNKNOWN_MESSAGE: Expected = Expected::Status(Code::InvalidArgument, "UNKNOWN_MESSAGE");
const UNKNOWN_TOKEN: Expected = Expected::Status(Code::Unauthenticated, "UNKNOWN_TOKEN");
const FLOODING: Expected = Expected::Status(Code::ResourceExhausted, "FLOODING");
const INTERNAL: Expected = Expected::Status(Code::Internal, "");
const UNIMPLEMENTED: Expected = Expected::Status(Code::Unimplemented, "");

const fn it(name: &'static str, act: Act, expected: Expected) -> Misbehaviour {
    Misbehaviour { name, act, expected }
}

/// All of them.
pub(super) const ALL: &[Misbehaviour] = &[
    // Hellos.
    it(
        "speaks another version",
        Act::Hello(|it| it.protocol_version = 99),
        Expected::Status(Code::FailedPrecondition, "PROTOCOL_VERSION"),
    ),
    it("has half a schema hash", Act::Hello(|it| it.schema_hash = vec![1; 31]), OUT_OF_RANGE),
    it(
        "has another schema",
        Act::Hello(|it| it.schema_hash = vec![1; 32]),
        Expected::Status(Code::FailedPrecondition, "OTHER_SCHEMA"),
    ),
    it(
        "names no session",
        Act::Hello(|it| it.session = "../../etc/passwd".into()),
        Expected::Status(Code::InvalidArgument, "MALFORMED_NAME"),
    ),
    it(
        "wants a session that is not there",
        Act::Hello(|it| it.session = "sessions/arena-999".into()),
        Expected::Status(Code::NotFound, "NOT_FOUND"),
    ),
    it(
        "wants a game that is not there",
        Act::Hello(|it| it.game = "x".repeat(10_000)),
        Expected::Status(Code::NotFound, "NOT_FOUND"),
    ),
    it(
        "has escapes in its name",
        Act::Hello(|it| it.player_name = "\u{1b}[2J".into()),
        Expected::Status(Code::InvalidArgument, "NAME"),
    ),
    it(
        "has a long name",
        Act::Hello(|it| it.player_name = "x".repeat(10_000)),
        Expected::Status(Code::InvalidArgument, "NAME"),
    ),
    it("sees as far as nobody", Act::Hello(|it| it.view_radius = f64::NAN), OUT_OF_RANGE),
    it("sees backwards", Act::Hello(|it| it.view_radius = -1.0), OUT_OF_RANGE),
    it("resumes nobody's seat", Act::Hello(|it| it.resume_token = vec![1; 32]), UNKNOWN_TOKEN),
    it(
        "resumes with half a token",
        Act::Hello(|it| it.resume_token = vec![1; 16]),
        Expected::Status(Code::InvalidArgument, "MALFORMED_TOKEN"),
    ),
    it("attaches to nobody", Act::Hello(|it| it.attach_token = vec![1; 32]), UNKNOWN_TOKEN),
    it(
        "attaches with a name",
        Act::Hello(|it| (it.attach_token, it.player_name) = (vec![1; 32], "Eve".into())),
        Expected::Status(Code::InvalidArgument, "NOT_OF_STRIPE"),
    ),
    it("says no hello", Act::Else(says_nothing), Expected::Status(Code::DeadlineExceeded, "NO_HELLO")),
    it(
        "pings before it says hello",
        Act::Else(pings_first),
        Expected::Status(Code::FailedPrecondition, "HELLO_MISSING"),
    ),
    // Messages.
    it(
        "says hello twice",
        Act::Says(|| vec![Kind::Hello(hello())]),
        Expected::Status(Code::FailedPrecondition, "HELLO_TWICE"),
    ),
    it("sends no inputs", Act::Says(|| inputs(Vec::new())), OUT_OF_RANGE),
    it(
        "sends a thousand inputs at once",
        Act::Says(|| inputs((1..=1000).map(|i| input(i, i)).collect())),
        OUT_OF_RANGE,
    ),
    it(
        "pushes too hard",
        Act::Says(|| inputs(vec![pb::Input { values: vec![i32::MAX], ..input(1, 1 << 20) }])),
        INVALID_INPUT,
    ),
    it(
        "has too many buttons",
        Act::Says(|| inputs(vec![pb::Input { values: vec![0; 99], ..input(1, 1 << 20) }])),
        INVALID_INPUT,
    ),
    it("counts from zero", Act::Says(|| inputs(vec![input(0, 5)])), INVALID_INPUT),
    it("aims at the end of time", Act::Says(|| inputs(vec![input(1, u64::MAX)])), INVALID_INPUT),
    it("aims at no tick", Act::Says(|| inputs(vec![input(1, 0)])), INVALID_INPUT),
    it("counts backwards", Act::Says(|| inputs(vec![input(2, 5), input(1, 6)])), NOT_RISING),
    it("aims backwards", Act::Says(|| inputs(vec![input(1, 6), input(2, 5)])), NOT_RISING),
    it(
        "has seen the future",
        Act::Says(|| inputs(vec![pb::Input { seen_tick: u64::MAX, ..input(1, 5) }])),
        INVALID_INPUT,
    ),
    it(
        "has seen too much of a tick",
        Act::Says(|| inputs(vec![pb::Input { seen_tick: 1, seen_fraction: 256, ..input(1, 5) }])),
        INVALID_INPUT,
    ),
    it(
        "acknowledges the future",
        Act::Says(|| vec![Kind::Ack(pb::Ack { epoch: 0, newest_tick: 1 << 40 })]),
        ACK_BEYOND_SENT,
    ),
    it(
        "acknowledges the future by its inputs",
        Act::Says(|| vec![Kind::Inputs(pb::Inputs { epoch: 0, newest_tick: 1 << 40, inputs: vec![input(1, 5)] })]),
        ACK_BEYOND_SENT,
    ),
    it("wants a reset for no reason", Act::Says(|| vec![Kind::Resync(pb::Resync { reason: 99 })]), OUT_OF_RANGE),
    it(
        "steers as a spectator",
        Act::Says(|| vec![Kind::WatchControl(pb::WatchControl { action: None })]),
        Expected::Status(Code::FailedPrecondition, "NOT_WATCHING"),
    ),
    it(
        "sends a message that is too long",
        Act::Says(|| vec![Kind::Hello(pb::Hello { player_name: "x".repeat(20_000), ..hello() })]),
        Expected::Status(Code::ResourceExhausted, "MESSAGE_TOO_LONG"),
    ),
    it("pings without end", Act::Says(|| (0..4000).map(|echo| Kind::Ping(pb::Ping { echo })).collect()), FLOODING),
    it("wants resets without end", Act::Says(|| vec![Kind::Resync(pb::Resync { reason: 1 }); 4000]), FLOODING),
    it(
        "sends bytes without end",
        Act::Says(|| {
            (0..400)
                .flat_map(|at| inputs((1 + 32 * at..33 + 32 * at).map(|i| input(i, (1 << 40) + i)).collect()))
                .collect()
        }),
        FLOODING,
    ),
    it("is silent", Act::Says(Vec::new), Expected::Status(Code::DeadlineExceeded, "SILENT")),
    it(
        "acknowledges nothing",
        Act::Else(acknowledges_nothing),
        Expected::Status(Code::DeadlineExceeded, "NOT_READING"),
    ),
    it("sends garbage", Act::Bytes(|| vec![Bytes::from_static(&[0xff; 40])]), MALFORMED),
    it("sends nothing as a message", Act::Bytes(|| vec![Bytes::new()]), UNKNOWN_MESSAGE),
    it("sends a message of no kind", Act::Bytes(|| vec![Bytes::from_static(&[0xfa, 1, 0])]), UNKNOWN_MESSAGE),
    it("sends half a field", Act::Bytes(|| vec![Bytes::from_static(&[0x12, 9, 1])]), MALFORMED),
    // What is only passed over.
    it(
        "is of another epoch",
        Act::Else(|server| passed_over(server, vec![Kind::Ack(pb::Ack { epoch: 9, newest_tick: 1 << 40 })])),
        Expected::PassedOver,
    ),
    it(
        "aims a day ahead",
        Act::Else(|server| passed_over(server, inputs(vec![input(1, 1 << 40)]))),
        Expected::PassedOver,
    ),
    it("aims at the past", Act::Else(|server| passed_over(server, inputs(vec![input(1, 1)]))), Expected::PassedOver),
    it("comes and vanishes", Act::Else(vanishes), Expected::PassedOver),
    it("is half open", Act::Else(half_open), Expected::PassedOver),
    it("never gives room for anything", Act::Else(gives_no_room), Expected::PassedOver),
    // gRPC.
    it("compresses what it did not say", Act::Body(|| vec![1, 0, 0, 0, 1, 7]), INTERNAL),
    it("has a flag of its own", Act::Body(|| vec![7, 0, 0, 0, 1, 7]), INTERNAL),
    it("tears a message", Act::Body(|| vec![0, 0, 0, 0, 9, 7]), INTERNAL),
    it("closes at once", Act::Body(Vec::new), Expected::Status(Code::FailedPrecondition, "HELLO_MISSING")),
    it(
        "compresses its play",
        Act::Else(|server| {
            async move { verdict(&call(server, PLAY, Some(("grpc-encoding", "gzip")), Vec::new()).await) }.boxed()
        }),
        UNIMPLEMENTED,
    ),
    it(
        "calls what is not there",
        Act::Else(|server| {
            async move { verdict(&call(server, "/tickwire.v1.GameService/Win", None, Vec::new()).await) }.boxed()
        }),
        UNIMPLEMENTED,
    ),
    it("sends a bomb", Act::Else(sends_a_bomb), Expected::Status(Code::ResourceExhausted, "")),
    it(
        "begins a request and lets it lie",
        Act::Else(lets_a_request_lie),
        Expected::Status(Code::DeadlineExceeded, "NO_MESSAGE"),
    ),
    it(
        "opens stream after stream",
        Act::Else(opens_many_streams),
        Expected::Status(Code::ResourceExhausted, "STREAMS"),
    ),
    it("has long headers", Act::Else(has_long_headers), Expected::Http(431)),
    // HTTP/2.
    it(
        "asks and resets without end",
        Act::Frames(|| {
            (0..500)
                .flat_map(|at| {
                    [request(1 + 2 * at, GET_SESSION), frame(RST_STREAM, 0, 1 + 2 * at, &[0, 0, 0, 8])].concat()
                })
                .collect()
        }),
        Expected::Closed,
    ),
    it("pings HTTP/2 without end", Act::Frames(|| frame(PING, 0, 0, &[0; 8]).repeat(5000)), Expected::Closed),
    it(
        "has settings without end",
        Act::Frames(|| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]).repeat(5000)),
        Expected::Closed,
    ),
    it("has priorities without end", Act::Frames(|| frame(PRIORITY, 0, 1, &[0; 5]).repeat(5000)), Expected::Closed),
    it(
        "has headers without end",
        Act::Frames(|| {
            [frame(HEADERS, 0, 1, &header_block(GET_SESSION, &[])), frame(CONTINUATION, 0, 1, &[0]).repeat(5000)]
                .concat()
        }),
        Expected::Closed,
    ),
    it(
        "opens windows without end",
        Act::Frames(|| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(20_000)),
        Expected::Closed,
    ),
    it(
        "opens a window too wide",
        Act::Frames(|| frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(3)),
        Expected::Closed,
    ),
    it(
        "has empty frames without end",
        Act::Frames(|| [request(1, PLAY), frame(DATA, 0, 1, &[]).repeat(20_000)].concat()),
        Expected::Closed,
    ),
    it("sends data on no stream", Act::Frames(|| frame(DATA, 0, 0, b"hello")), Expected::Closed),
    it("has headers that are none", Act::Frames(|| frame(HEADERS, END_HEADERS, 1, &[0xff; 100])), Expected::Closed),
    it("has a frame that is too long", Act::Frames(|| vec![0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1]), Expected::Closed),
    it("speaks HTTP/1.1", Act::Socket(|| b"GET / HTTP/1.1\r\nhost: tickwire\r\n\r\n".to_vec()), Expected::Closed),
    it(
        "speaks TLS",
        Act::Socket(|| [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0x5a; 512]].concat()),
        Expected::Closed,
    ),
    it("connects and says nothing", Act::Socket(Vec::new), Expected::Closed),
    it("greets and asks nothing", Act::Frames(Vec::new), Expected::Closed),
    it("greets byte by byte", Act::Else(greets_byte_by_byte), Expected::Closed),
];

fn says_nothing(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move { verdict(&RawClient::open(server).await.end().await.1) }.boxed()
}

fn pings_first(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        let mut client = RawClient::open(server).await;
        client.send(Kind::Ping(pb::Ping { echo: 1 })).await;
        verdict(&client.end().await.1)
    }
    .boxed()
}

fn acknowledges_nothing(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        let (client, _) = RawClient::join(server).await;
        let RawClient { up, mut down } = client;
        let pings = async {
            while up.send(pb::ClientMessage { kind: Some(Kind::Ping(pb::Ping { echo: 1 })) }).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            std::future::pending::<()>().await;
        };
        let reads = async {
            loop {
                if let Err(status) = within_patience(down.message()).await {
                    return verdict(&status);
                }
            }
        };
        tokio::select! {
            verdict = reads => verdict,
            () = pings => unreachable!("it is pending"),
        }
    }
    .boxed()
}

fn vanishes(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        drop(RawClient::greet(server, hello()).await);
        drop(RawClient::join(server).await);
        Verdict::PassedOver
    }
    .boxed()
}

fn half_open(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        let cable = Cable::to(server).await;
        let mut client = RawClient::open_on(cable.channel().await).await;
        client.send(Kind::Hello(hello())).await;
        client.welcome().await;
        // Neither end is told; that the server finds out is seen by its connections.
        cable.pull();
        Verdict::PassedOver
    }
    .boxed()
}

fn gives_no_room(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        let endpoint = server.endpoint().initial_stream_window_size(16);
        let client = RawClient::open_on(endpoint.connect().await.expect("the server accepts")).await;
        client.send(Kind::Hello(hello())).await;
        // It is cut off: not even a status goes through.
        within_patience(client.up.closed()).await;
        Verdict::PassedOver
    }
    .boxed()
}

fn sends_a_bomb(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        let channel = server.channel().await;
        let mut sessions = SessionServiceClient::new(channel).send_compressed(CompressionEncoding::Gzip);
        let request = GetSessionRequest { name: "x".repeat(4 << 20) };
        verdict(&within_patience(sessions.get_session(request)).await.expect_err("it is too long"))
    }
    .boxed()
}

fn lets_a_request_lie(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        let socket = TcpStream::connect(server.address).await.expect("the server accepts");
        let (requests, connection) = h2::client::handshake(socket).await.expect("it speaks HTTP/2");
        let connection = tokio::spawn(connection);
        let mut requests = requests.ready().await.expect("it takes requests");
        let request =
            Request::post(format!("http://localhost{GET_SESSION}")).header("content-type", "application/grpc");
        let (response, mut up) =
            requests.send_request(request.body(()).expect("a request"), false).expect("it goes out");
        up.send_data(Bytes::from_static(&[0, 0, 0]), false).expect("it is open");
        let response = within_patience(response).await.expect("it is answered");
        connection.abort();
        verdict(&Status::from_header_map(response.headers()).expect("headers say it all"))
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

fn greets_byte_by_byte(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        let mut socket = TcpStream::connect(server.address).await.expect("the server accepts");
        let (mut down, mut up) = socket.split();
        let greets = async {
            for byte in greeting().into_iter().cycle() {
                if up.write_all(&[byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            std::future::pending::<()>().await;
        };
        let mut read = Vec::new();
        tokio::select! {
            // Closed or reset: either says that the server has let go.
            _ = within_patience(down.read_to_end(&mut read)) => {}
            () = greets => {}
        }
        Verdict::Closed
    }
    .boxed()
}
