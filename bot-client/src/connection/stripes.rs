//! The streams of one client, each on a connection of its own: nearly always one.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Uri;
use tickwire_proto::v1 as pb;
use tokio::time::timeout;
use tonic::Code;

use super::{
    RESUME_TIMEOUT, WELCOME_TIMEOUT, decode,
    error::ClientError,
    play::PlayStream,
    transport::{ConnectOptions, Wire},
};
use crate::core::ResumeFailure;

/// Where a client's connections go, and what counts their bytes.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) url: String,
    pub(super) uri: Uri,
    pub(super) options: ConnectOptions,
    pub(super) wire: Arc<Wire>,
    /// Those before this one: each suffers in its own way.
    pub(super) connections: u64,
}

/// An open stream.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) stripe: usize,
    pub(super) stream: PlayStream,
}

/// A stream under way.
struct Opening {
    stripe: usize,
    attempt: Attempt,
}

/// A stream with the server's first message.
pub(super) type Greeted = Result<(PlayStream, pb::ServerMessage), ClientError>;
type Attempt = Pin<Box<dyn Future<Output = Greeted> + Send>>;

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening").field("stripe", &self.stripe).finish_non_exhaustive()
    }
}

/// What comes of one of the streams.
#[derive(Debug)]
pub(super) enum Arrival {
    Message(usize, Bytes),
    /// In order, or by an error. It has been dropped.
    Ended(usize, Result<(), ClientError>),
    /// A further one is open, or is not.
    Opened(usize, Box<Greeted>),
}

/// The streams of one client.
#[derive(Debug)]
pub(super) struct Links {
    links: Vec<Link>,
    openings: Vec<Opening>,
}

impl Server {
    /// Opens a connection, says hello, and waits for the answer.
    pub(super) async fn greet(self, hello: pb::ClientMessage, patience: Duration) -> Greeted {
        let join = async {
            let mut options = self.options;
            options.conditions.seed = options.conditions.seed.wrapping_add(self.connections);
            let mut stream = PlayStream::open(&self.url, &self.uri, &options, &self.wire, &hello).await?;
            let first = poll_fn(|cx| stream.poll_message(cx)).await?.ok_or(ClientError::Ended)?;
            Ok::<_, ClientError>((stream, decode(&first)?))
        };
        let joined = timeout(patience, join).await;
        joined.map_err(|_| ClientError::Timeout { what: "hello", after: patience })?
    }
}

impl Links {
    /// A client's first stream.
    pub(super) fn new(stream: PlayStream) -> Self {
        Self { links: vec![Link { stripe: 0, stream }], openings: Vec::new() }
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Link> {
        self.links.iter_mut()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Opens a further stream.
    pub(super) fn open(&mut self, stripe: usize, server: Server, hello: pb::ClientMessage) {
        self.openings.push(Opening { stripe, attempt: Box::pin(server.greet(hello, WELCOME_TIMEOUT)) });
    }

    /// Opens a first stream anew, for a seat that is to be taken back.
    pub(super) fn resume(&mut self, server: Server, hello: pb::ClientMessage) {
        self.openings.push(Opening { stripe: 0, attempt: Box::pin(server.greet(hello, RESUME_TIMEOUT)) });
    }

    /// Cuts all streams, and gives up those that are under way.
    pub(super) fn clear(&mut self) {
        self.links.clear();
        self.openings.clear();
    }

    pub(super) fn opened(&mut self, stripe: usize, stream: PlayStream) {
        self.links.push(Link { stripe, stream });
    }

    /// Half-closes a stream.
    pub(super) fn close(&mut self, stripe: usize) {
        if let Some(link) = self.links.iter_mut().find(|link| link.stripe == stripe) {
            // It fails where the stream has ended already, as reading will tell.
            let _ = link.stream.flush(true);
        }
    }

    pub(super) fn remove(&mut self, stripe: usize) {
        self.links.retain(|link| link.stripe != stripe);
    }

    /// The next that comes of any of them.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Arrival> {
        for i in 0..self.links.len() {
            let Link { stripe, stream } = &mut self.links[i];
            let stripe = *stripe;
            let ended = match stream.poll_message(cx) {
                Poll::Pending => continue,
                Poll::Ready(Ok(Some(message))) => return Poll::Ready(Arrival::Message(stripe, message)),
                Poll::Ready(Ok(None)) => Ok(()),
                Poll::Ready(Err(error)) => Err(error),
            };
            self.links.remove(i);
            return Poll::Ready(Arrival::Ended(stripe, ended));
        }
        for i in 0..self.openings.len() {
            if let Poll::Ready(opened) = self.openings[i].attempt.as_mut().poll(cx) {
                let Opening { stripe, .. } = self.openings.swap_remove(i);
                return Poll::Ready(Arrival::Opened(stripe, Box::new(opened)));
            }
        }
        Poll::Pending
    }
}

/// Whether another attempt to attach may fare better: not where the server knows no such player, or wants no such stream.
pub(super) fn may_retry(error: &ClientError) -> bool {
    let ClientError::Status(status) = error else {
        return !matches!(error, ClientError::Url { .. } | ClientError::Protocol(_));
    };
    matches!(
        status.code,
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled | Code::Internal
    )
}

/// Whether a stream that ended so was lost by no fault of the client's, so that the server keeps the seat.
pub(super) fn is_loss(error: &ClientError) -> bool {
    match error {
        ClientError::Lost { .. } | ClientError::Ended => true,
        ClientError::Status(status) => matches!(
            status.code,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Internal | Code::Unknown
        ),
        _ => false,
    }
}

/// What an error says of further attempts to take a seat back.
pub(super) fn resume_failure(error: &ClientError) -> ResumeFailure {
    match error {
        ClientError::Status(status) if status.reason == "UNKNOWN_TOKEN" => ResumeFailure::UnknownToken,
        ClientError::Status(status) if may_retry(error) => ResumeFailure::Retry { after: status.retry_after },
        _ if may_retry(error) => ResumeFailure::Retry { after: None },
        _ => ResumeFailure::Refused,
    }
}
