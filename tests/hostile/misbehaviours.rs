//! What no client may do, one of each, and what it comes to.

mod grpc;
mod hellos;
mod http2;
mod messages;
mod passed_over;
mod sessions;
mod talk;
mod watching;

use std::future::poll_fn;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use h2::Reason;
use http::Request;
use prost::Message as _;
use tickwire_proto::v1::{self as pb, client_message::Kind};
use tokio::net::TcpStream;
use tonic::{Code, Status};

use self::{
    grpc::GRPC, hellos::HELLOS, http2::HTTP2, messages::MESSAGES, passed_over::PASSED_OVER, sessions::SESSIONS,
    talk::TALK, watching::WATCHING,
};
use crate::{
    harness::{RawClient, TestServer, hello, play_bytes, reason_of, within_patience},
    raw_http2::{greeting, send_to_the_end},
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
    /// HTTP/2 resets the stream.
    Reset(Reason),
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
    Reset(Reason),
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

/// All of them.
pub(super) fn all() -> impl Iterator<Item = &'static Misbehaviour> {
    [HELLOS, MESSAGES, PASSED_OVER, GRPC, HTTP2, TALK, WATCHING, SESSIONS].into_iter().flatten()
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
            Act::Body(bytes) => verdict(&call(server, PLAY, None, bytes(), true).await),
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

    /// What it is counted as; none where no status says so.
    pub(super) fn reason(&self) -> Option<&'static str> {
        match self.expected {
            Expected::Status(_, "") | Expected::Closed | Expected::Http(_) | Expected::PassedOver => None,
            Expected::Status(_, reason) => Some(reason),
            Expected::Reset(_) => Some("NOT_READING"),
        }
    }

    pub(super) fn expected(&self) -> Verdict {
        match self.expected {
            Expected::Status(code, reason) => Verdict::Status(code, reason.to_owned()),
            Expected::Closed => Verdict::Closed,
            Expected::Http(status) => Verdict::Http(status),
            Expected::Reset(reason) => Verdict::Reset(reason),
            Expected::PassedOver => Verdict::PassedOver,
        }
    }
}

fn verdict(status: &Status) -> Verdict {
    Verdict::Status(status.code(), reason_of(status))
}

/// A request of HTTP/2 without gRPC's help, with the whole of its body or the start of it: its status.
async fn call(server: &TestServer, path: &str, header: Option<(&str, &str)>, body: Vec<u8>, is_whole: bool) -> Status {
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
    let _ = up.send_data(body.into(), is_whole);
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

/// Sends that as the body of a request, whole or not, and takes next to nothing of the answer, until the server resets it.
async fn nobody_reads(server: &TestServer, path: &str, body: Vec<u8>, is_whole: bool) -> Verdict {
    let socket = TcpStream::connect(server.address).await.expect("the server accepts");
    let handshake = h2::client::Builder::new().initial_window_size(16).handshake::<_, Bytes>(socket);
    let (requests, connection) = handshake.await.expect("it speaks HTTP/2");
    let connection = tokio::spawn(connection);
    let request = Request::post(format!("http://localhost{path}")).header("content-type", "application/grpc");
    let mut requests = requests.ready().await.expect("it takes requests");
    let (response, mut up) = requests.send_request(request.body(()).expect("a request"), false).expect("it goes out");
    up.send_data(body.into(), is_whole).expect("it is open");
    let _unread = within_patience(response).await.expect("it is answered");
    let reset = within_patience(poll_fn(|context| up.poll_reset(context))).await;
    connection.abort();
    // An error says that the connection is closed instead.
    reset.map_or(Verdict::Closed, Verdict::Reset)
}

/// A message of gRPC.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    [&[0][..], &length, message].concat()
}

fn inputs(inputs: Vec<pb::Input>) -> Vec<Kind> {
    vec![Kind::Inputs(pb::Inputs { epoch: 0, newest_tick: 0, inputs })]
}

/// Not even a status goes through.
const NOT_READ: Expected = Expected::Reset(Reason::CANCEL);
const OUT_OF_RANGE: Expected = Expected::Status(Code::InvalidArgument, "OUT_OF_RANGE");

const fn it(name: &'static str, act: Act, expected: Expected) -> Misbehaviour {
    Misbehaviour { name, act, expected }
}
