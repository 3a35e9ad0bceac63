//! One player's connection: the [`Core`] on a gRPC stream over TCP.

mod codec;
mod error;
#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;
mod transport;

use std::{error::Error as _, pin::Pin, sync::Arc, time::Duration};

use http::{Uri, uri::PathAndQuery};
use tickwire_proto::v1 as pb;
use tickwire_wire::Mirror;
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    transport::{Channel, Endpoint},
};

pub use self::error::{ClientError, ServerStatus, code_name};
use self::{
    codec::{PlayCodec, Received},
    transport::{Connector, Wire},
};
use crate::core::{Core, Event, InputError, JoinOptions, Stats};

const PLAY: &str = "/tickwire.v1.GameService/Play";
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a leaving client waits for the server's goodbye.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest message that is taken: a welcome with a large schema, or a snapshot, which is 64 KiB at most by default.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// What the server may send ahead of what the client has read: four of the largest snapshots. The server's credit bounds
/// what is unacknowledged long before; the windows bound the memory of a client that stops reading.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;
/// Messages that may wait for the transport. Where it is stuck, the client waits too: old inputs are worth nothing.
const UPLINK_MESSAGES_MAX: usize = 4;

/// A player in a session, connected.
///
/// Call [`next`](Self::next) in a loop and do nothing long in between: it is what reads snapshots, acknowledges them and
/// sends inputs. A client that is not called reads and acknowledges nothing, so that the server, after the few snapshots
/// of its credit, sends nothing either; called again, it goes on from the newest state.
///
/// Dropping a client cuts its connection, as if the machine had failed: the server keeps the seat for its grace period.
/// To give the seat up, [`leave`](Self::leave).
#[derive(Debug)]
pub struct Client {
    core: Core,
    /// `None` once the client has left.
    uplink: Option<mpsc::Sender<pb::ClientMessage>>,
    downlink: Streaming<Received>,
    wire: Arc<Wire>,
    started: Instant,
    timer: Pin<Box<Sleep>>,
    /// When the core asked to be called, until it was.
    asked_for: Option<Instant>,
    snapshot_bytes: u64,
    late_timers: u64,
    goodbye: bool,
}

impl Client {
    /// Connects to a server, such as `http://127.0.0.1:7777`, and joins.
    ///
    /// # Errors
    /// Where the address is none, nobody answers, or the server does not let the player in.
    pub async fn connect(url: &str, options: &JoinOptions) -> Result<Self, ClientError> {
        let wire = Arc::new(Wire::default());
        let channel = open(url, Connector { wire: Arc::clone(&wire) }).await?;
        let (uplink, messages) = mpsc::channel(UPLINK_MESSAGES_MAX);
        uplink.try_send(options.hello()).expect("the channel is new and has room");
        let joined = timeout(WELCOME_TIMEOUT, join(channel, messages)).await;
        let (downlink, first) =
            joined.map_err(|_| ClientError::Timeout { what: "hello", after: WELCOME_TIMEOUT })??;
        let started = Instant::now();
        Ok(Self {
            core: Core::new(options, first.message, started.elapsed())?,
            uplink: Some(uplink),
            downlink,
            wire,
            started,
            timer: Box::pin(sleep_until(started)),
            asked_for: None,
            snapshot_bytes: 0,
            late_timers: 0,
            goodbye: false,
        })
    }

    /// Reads, acknowledges and sends until something happened; `None` once the stream has ended as it should.
    ///
    /// After [`Event::InputDue`] call [`set_input`](Self::set_input), and then this again: that sends the input.
    ///
    /// Cancel safe: dropped before it is ready, it has lost nothing.
    ///
    /// # Errors
    /// Where the stream broke or the server ended it with a status. The client is of no more use then.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            if let Some(event) = self.core.poll_event(self.now()) {
                self.goodbye |= matches!(event, Event::Goodbye { .. });
                return Ok(Some(event));
            }
            self.note_lateness();
            self.transmit();
            let timer = self.set_timer();
            tokio::select! {
                biased;
                received = self.downlink.message() => match received {
                    Ok(Some(received)) => self.receive(received)?,
                    Ok(None) if self.goodbye => return Ok(None),
                    Ok(None) => return Err(ClientError::Ended),
                    Err(status) => return Err(ended(status)),
                },
                () = self.timer.as_mut(), if timer => {}
            }
        }
    }

    /// What the player does from now on: see [`Core::set_input`].
    ///
    /// # Errors
    /// Where a value is out of its field's range; nothing changes then.
    pub fn set_input(&mut self, values: &[i32]) -> Result<(), InputError> {
        self.core.set_input(values)
    }

    /// Accounts for the age of what is held until now: see [`Core::sample_age`].
    pub fn sample_age(&mut self) {
        self.core.sample_age(self.now());
    }

    /// Gives the seat up and waits for the stream's end, two seconds at most.
    ///
    /// # Errors
    /// Where the stream breaks before, or does not end in time. The server then keeps the seat for its grace period.
    pub async fn leave(&mut self) -> Result<(), ClientError> {
        self.core.leave();
        let all = async {
            if let (Some(uplink), Some(leave)) = (self.uplink.take(), self.core.poll_transmit(self.started.elapsed())) {
                // It fails where the stream has ended already, as reading will tell. Dropping the sender half-closes.
                let _ = uplink.send(leave).await;
            }
            loop {
                match self.downlink.message().await {
                    Ok(Some(received)) => self.receive(received)?,
                    Ok(None) => return Ok(()),
                    Err(status) => return Err(ended(status)),
                }
            }
        };
        let timed = timeout(GOODBYE_TIMEOUT, all).await;
        timed.map_err(|_| ClientError::Timeout { what: "leave", after: GOODBYE_TIMEOUT })?
    }

    /// The state behind the connection.
    #[must_use]
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// What the client holds of the session.
    #[must_use]
    pub fn mirror(&self) -> &Mirror {
        self.core.mirror()
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        self.core.stats()
    }

    /// How long the client has been in the session.
    #[must_use]
    pub fn connected_for(&self) -> Duration {
        self.now()
    }

    /// All bytes that came over the connection: HTTP/2 with its framing, without TCP's and IP's headers.
    #[must_use]
    pub fn bytes_received(&self) -> u64 {
        self.wire.bytes_received()
    }

    /// All bytes that went over the connection.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        self.wire.bytes_sent()
    }

    /// The bytes of the snapshots among them, as protobuf messages.
    #[must_use]
    pub fn snapshot_bytes_received(&self) -> u64 {
        self.snapshot_bytes
    }

    /// How often the client was called more than a tick after the time that it had asked for: a machine that is too busy.
    #[must_use]
    pub fn late_timers(&self) -> u64 {
        self.late_timers
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn receive(&mut self, received: Received) -> Result<(), ClientError> {
        self.snapshot_bytes += received.snapshot_bytes;
        Ok(self.core.handle(received.message, self.now())?)
    }

    fn transmit(&mut self) {
        let Some(uplink) = &self.uplink else { return };
        while let Ok(room) = uplink.try_reserve() {
            match self.core.poll_transmit(self.started.elapsed()) {
                Some(message) => room.send(message),
                None => return,
            }
        }
    }

    /// Sets the timer for the core's next timeout; false where there is none.
    fn set_timer(&mut self) -> bool {
        let Some(timeout) = self.core.next_timeout() else { return false };
        // Where the uplink is full, what is due stays due: it is tried again at the pace of ticks, or on what arrives.
        let stuck = self.uplink.as_ref().is_some_and(|uplink| uplink.capacity() == 0);
        let timeout = if stuck { self.now() + self.core.tick_rate().duration_of(1) } else { timeout };
        let deadline = self.started + timeout;
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        self.asked_for = Some(deadline);
        true
    }

    fn note_lateness(&mut self) {
        let late = self.asked_for.take().map_or(Duration::ZERO, |deadline| deadline.elapsed());
        self.late_timers += u64::from(late > self.core.tick_rate().duration_of(1));
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Else the transport would close the stream in order, and the server take that for a leave.
        self.wire.cut();
    }
}

async fn open(url: &str, connector: Connector) -> Result<Channel, ClientError> {
    let invalid = |reason: String| ClientError::Url { url: url.to_owned(), reason };
    let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| invalid(error.to_string()))?;
    if uri.scheme_str() != Some("http") || uri.host().is_none_or(str::is_empty) {
        return Err(invalid("write it as http://HOST:PORT".to_owned()));
    }
    let endpoint = Endpoint::from(uri)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|error| ClientError::Connect { url: url.to_owned(), reason: innermost(&error) })
}

async fn join(
    channel: Channel,
    messages: mpsc::Receiver<pb::ClientMessage>,
) -> Result<(Streaming<Received>, Received), ClientError> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    grpc.ready().await.map_err(|error| ClientError::Lost { reason: innermost(&error) })?;
    let request = Request::new(ReceiverStream::new(messages));
    let response = grpc.streaming(request, PathAndQuery::from_static(PLAY), PlayCodec).await.map_err(ended)?;
    let mut downlink = response.into_inner();
    let first = downlink.message().await.map_err(ended)?.ok_or(ClientError::Ended)?;
    Ok((downlink, first))
}

/// A status that the server sent, or that the transport made up because it broke: then there is a cause behind it.
fn ended(status: Status) -> ClientError {
    match status.source() {
        Some(source) => ClientError::Lost { reason: innermost(source) },
        None => status.into(),
    }
}

/// The cause of a chain of errors, which says more than what wraps it.
fn innermost(mut error: &(dyn std::error::Error + 'static)) -> String {
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}
