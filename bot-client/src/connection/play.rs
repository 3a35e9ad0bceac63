//! The `Play` stream: gRPC's framing on one HTTP/2 stream, in a connection of its own.
//!
//! On `h2` itself, which is what tonic's channel stands on too: a client has one call for as long as it lives, so that a
//! channel's queues, balancing and reconnecting would only cost, on every message, what a swarm of bots has least of.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::{
    RecvStream, SendStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use http::{Method, Request, StatusCode, Uri, header, uri::Scheme};
use prost::Message;
use tickwire_proto::v1 as pb;
use tokio::task::AbortHandle;
use tonic::{Code, Status};

use super::{
    error::ClientError,
    transport::{ConnectError, ConnectOptions, Connection, Wire, connect},
};

const PLAY: &str = "/tickwire.v1.GameService/Play";
const USER_AGENT: &str = concat!("tickwire-client/", env!("CARGO_PKG_VERSION"));
const CONTENT_TYPE: &str = "application/grpc";
/// The largest message that is taken: a welcome with a large schema, or a snapshot, which is 64 KiB at most by default.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// What the server may send ahead of what the client has read: four of the largest snapshots. The server's credit bounds
/// what is unacknowledged long before; the windows bound the memory of a client that stops reading.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;
/// What may wait for the transport. Where it is stuck, the client waits too: old inputs are worth nothing.
const UPLINK_BYTES_MAX: usize = 2048;
/// Before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// A call of `Play`.
#[derive(Debug)]
pub(super) struct PlayStream {
    up: SendStream<Bytes>,
    down: Down,
    /// Room for the messages under way.
    outbox: BytesMut,
    /// For further calls on the connection that this one holds.
    requests: Option<SendRequest<Bytes>>,
    _driver: Option<Driver>,
}

/// The task that reads and writes the connection, for as long as this is held; then it is cut without another byte. Else
/// the stream would be closed in order, which the server takes for a leave.
#[derive(Debug)]
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug)]
enum Down {
    /// Nothing was answered yet.
    Awaited(ResponseFuture),
    Open(Inbox),
}

impl PlayStream {
    /// Opens a connection and calls; the first message is sent with it.
    pub(super) async fn open(
        url: &str,
        uri: &Uri,
        options: &ConnectOptions,
        wire: &Arc<Wire>,
        first: &pb::ClientMessage,
    ) -> Result<Self, ClientError> {
        let (mut stream, requests) = Self::request(url, uri, options, wire, PLAY).await?;
        stream.requests = Some(requests);
        stream.push(first);
        stream.flush(false).map_err(lost)?;
        Ok(stream)
    }

    /// Opens a connection and calls a method, to which nothing has been said; further calls can be made on it.
    pub(super) async fn request(
        url: &str,
        uri: &Uri,
        options: &ConnectOptions,
        wire: &Arc<Wire>,
        method: &'static str,
    ) -> Result<(Self, SendRequest<Bytes>), ClientError> {
        let refused = |error: ConnectError| match (error, options.local_address) {
            (ConnectError::Tls(reason), _) => ClientError::Tls { url: url.to_owned(), reason },
            (ConnectError::Io(error), Some(address)) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                ClientError::LocalAddress { address, reason: error.to_string() }
            }
            (ConnectError::Io(error), _) => ClientError::Connect { url: url.to_owned(), reason: error.to_string() },
        };
        let socket = connect(uri, options, wire).await.map_err(refused)?;
        let (requests, connection) = Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buffer_size(UPLINK_BYTES_MAX)
            .handshake::<Connection, Bytes>(socket)
            .await
            .map_err(lost)?;
        // What breaks it is told to the stream.
        let driver = Driver(tokio::spawn(async move { connection.await.ok() }).abort_handle());

        let mut requests = requests.ready().await.map_err(lost)?;
        let (response, up) = requests.send_request(request_to(uri, method)?, false).map_err(lost)?;
        let stream =
            Self { up, down: Down::Awaited(response), outbox: BytesMut::new(), requests: None, _driver: Some(driver) };
        Ok((stream, requests))
    }

    /// Makes another call on a connection that is held open elsewhere: one message up, and the answer down.
    pub(super) fn call(
        requests: &mut SendRequest<Bytes>,
        uri: &Uri,
        method: &'static str,
        message: &impl Message,
    ) -> Result<Self, ClientError> {
        let mut call = Self::further(requests, uri, method)?;
        call.push(message);
        call.flush(true).map_err(lost)?;
        Ok(call)
    }

    /// Makes another call on a connection that is held open elsewhere, to which nothing has been said.
    pub(super) fn further(
        requests: &mut SendRequest<Bytes>,
        uri: &Uri,
        method: &'static str,
    ) -> Result<Self, ClientError> {
        let (response, up) = requests.send_request(request_to(uri, method)?, false).map_err(lost)?;
        Ok(Self { up, down: Down::Awaited(response), outbox: BytesMut::new(), requests: None, _driver: None })
    }

    /// For further calls on the connection, where this stream holds it.
    pub(super) fn requests(&mut self) -> Option<&mut SendRequest<Bytes>> {
        self.requests.as_mut()
    }

    /// Whether there is room for a message of up to so many bytes to [`push`](Self::push): of one that is longer than all
    /// that may wait, where nothing does.
    pub(super) fn has_room(&mut self, bytes_max: usize) -> bool {
        let needed = (self.outbox.len() + PREFIX_BYTES + bytes_max).min(UPLINK_BYTES_MAX);
        self.up.reserve_capacity(needed);
        self.up.capacity() >= needed
    }

    /// Puts a message with those that [`flush`](Self::flush) sends, in one piece.
    pub(super) fn push(&mut self, message: &impl Message) {
        let length = message.encoded_len();
        self.outbox.reserve(PREFIX_BYTES + length);
        self.outbox.put_u8(0);
        self.outbox.put_u32(length as u32);
        message.encode(&mut self.outbox).expect("a buffer that grows has room");
    }

    /// Hands over what was pushed; with `is_last` the stream is half-closed behind it.
    pub(super) fn flush(&mut self, is_last: bool) -> Result<(), h2::Error> {
        if self.outbox.is_empty() && !is_last {
            return Ok(());
        }
        self.up.send_data(self.outbox.split().freeze(), is_last)
    }

    /// The server's next message; `None` once it has ended the stream in order.
    pub(super) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ClientError>> {
        loop {
            match &mut self.down {
                Down::Open(inbox) => return inbox.poll_message(cx),
                Down::Awaited(response) => {
                    let (head, body) = ready!(Pin::new(response).poll(cx)).map_err(lost)?.into_parts();
                    if let Some(status) = Status::from_header_map(&head.headers) {
                        return Poll::Ready(end_of(status).map(|()| None));
                    }
                    let is_grpc = |kind: &header::HeaderValue| kind.as_bytes().starts_with(CONTENT_TYPE.as_bytes());
                    if head.status != StatusCode::OK || !head.headers.get(header::CONTENT_TYPE).is_some_and(is_grpc) {
                        return Poll::Ready(Err(no_grpc(head.status).into()));
                    }
                    self.down = Down::Open(Inbox { body, messages: Messages::default(), has_ended: false });
                }
            }
        }
    }
}

/// The server's half of the stream.
#[derive(Debug)]
struct Inbox {
    body: RecvStream,
    messages: Messages,
    /// Whether the server has said its last word, which was OK.
    has_ended: bool,
}

impl Inbox {
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ClientError>> {
        loop {
            if let Some(message) = self.messages.next()? {
                return Poll::Ready(Ok(Some(message)));
            }
            if self.has_ended {
                return Poll::Ready(Ok(None));
            }
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(frame)) => {
                    self.body.flow_control().release_capacity(frame.len()).map_err(lost)?;
                    self.messages.push(frame);
                }
                Some(Err(error)) => return Poll::Ready(Err(lost(error))),
                None => {
                    let trailers = ready!(self.body.poll_trailers(cx)).map_err(lost)?;
                    let status = trailers.as_ref().and_then(Status::from_header_map);
                    end_of(status.unwrap_or_else(|| Status::unknown("the stream ended without a status")))?;
                    self.has_ended = true;
                }
            }
        }
    }
}

/// Messages out of the bytes of frames.
#[derive(Debug, Default)]
struct Messages {
    /// The rest of a frame; messages nearly always lie in it whole.
    frame: Bytes,
    /// The beginning of a message that comes in more than one frame. `frame` is then empty.
    joined: BytesMut,
}

impl Messages {
    fn push(&mut self, frame: Bytes) {
        if self.frame.is_empty() && self.joined.is_empty() {
            self.frame = frame;
        } else {
            self.joined.extend_from_slice(&std::mem::take(&mut self.frame));
            self.joined.extend_from_slice(&frame);
        }
    }

    /// The next message, if it is there whole.
    fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let held: &[u8] = if self.joined.is_empty() { &self.frame } else { &self.joined };
        let Some((&[compressed, a, b, c, d], rest)) = held.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if compressed != 0 {
            return Err(Status::internal("the server's message is compressed, which was not asked for"));
        }
        if length > MESSAGE_BYTES_MAX {
            let text = format!("the server's message is {length} bytes long; {MESSAGE_BYTES_MAX} are taken");
            return Err(Status::out_of_range(text));
        }
        if rest.len() < length {
            return Ok(None);
        }
        if self.joined.is_empty() {
            self.frame.advance(PREFIX_BYTES);
            return Ok(Some(self.frame.split_to(length)));
        }
        self.joined.advance(PREFIX_BYTES);
        let message = self.joined.split_to(length).freeze();
        if self.joined.is_empty() {
            // Large messages are rare; their room is not kept.
            self.joined = BytesMut::new();
        }
        Ok(Some(message))
    }
}

fn request_to(server: &Uri, method: &'static str) -> Result<Request<()>, ClientError> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = method_uri(server, method)?;
    let headers = request.headers_mut();
    headers.insert(header::TE, header::HeaderValue::from_static("trailers"));
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(CONTENT_TYPE));
    headers.insert(header::USER_AGENT, header::HeaderValue::from_static(USER_AGENT));
    Ok(request)
}

fn method_uri(server: &Uri, method: &'static str) -> Result<Uri, ClientError> {
    let authority = server.authority().map_or("", http::uri::Authority::as_str);
    let scheme = server.scheme().unwrap_or(&Scheme::HTTP).clone();
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(method).build();
    uri.map_err(|error| ClientError::Url { url: server.to_string(), reason: error.to_string() })
}

/// The server's last word: an error where it is not OK.
fn end_of(status: Status) -> Result<(), ClientError> {
    if status.code() == Code::Ok { Ok(()) } else { Err(status.into()) }
}

/// An answer that is not gRPC's, by the codes of <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>.
fn no_grpc(status: StatusCode) -> Status {
    let code = match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    Status::new(code, format!("HTTP status {} and no gRPC: is this a Tickwire server?", status.as_u16()))
}

fn lost(error: h2::Error) -> ClientError {
    // What the operating system says is more than what wraps it.
    let reason = match error.get_io() {
        Some(io) => io.to_string(),
        None => error.to_string(),
    };
    ClientError::Lost { reason }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn messages_are_whole_however_they_are_cut_into_frames(
            messages in vec(vec(any::<u8>(), 0..40), 0..8), cuts in vec(1..50_usize, 1..60)
        ) {
            let mut bytes = BytesMut::new();
            for message in &messages {
                bytes.put_u8(0);
                bytes.put_u32(message.len() as u32);
                bytes.extend_from_slice(message);
            }
            let (mut bytes, mut cuts) = (bytes.freeze(), cuts.into_iter().cycle());
            let (mut inbox, mut found) = (Messages::default(), Vec::new());
            while !bytes.is_empty() {
                let frame = bytes.len().min(cuts.next().expect("endless"));
                inbox.push(bytes.split_to(frame));
                while let Some(message) = inbox.next().expect("well-formed") {
                    found.push(message.to_vec());
                }
            }
            prop_assert_eq!(found, messages);
        }
    }

    #[test]
    fn what_was_not_asked_for_is_refused() {
        let refused = |prefix: [u8; 5]| {
            let mut messages = Messages::default();
            messages.push(Bytes::copy_from_slice(&prefix));
            messages.next().expect_err("not taken").code()
        };
        assert_eq!(refused([1, 0, 0, 0, 1]), Code::Internal);
        assert_eq!(refused([0, 0, 0x10, 0, 1]), Code::OutOfRange);
    }
}
