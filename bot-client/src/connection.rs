//! One player's connection: the [`Core`] on a gRPC stream over TCP.

mod chat;
mod conditioner;
mod error;
mod play;
#[cfg(test)]
mod resume_tests;
#[cfg(test)]
pub(crate) mod scripted;
mod stripes;
#[cfg(test)]
mod tests;
mod tls;
mod transport;
mod watch;

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use http::Uri;
use prost::Message as _;
use tickwire_proto::v1 as pb;
use tickwire_shared::Game;
use tickwire_wire::{Mirror, SnapshotMessage};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tonic::Status;

pub use self::{
    chat::{Chat, ChatEvent, ChatTo, ChatToken},
    conditioner::{Conditions, Stalls, StallsError},
    error::{ClientError, ServerStatus, code_name},
    transport::{ConnectOptions, Trust},
    watch::{Spectator, WatchEvent, WatchOptions, WatchStats},
};
use self::{
    stripes::{Arrival, Greeted, Links, Server, is_loss, may_retry, resume_failure},
    transport::Wire,
};
use crate::core::{Core, Event, InputError, JoinOptions, PredictError, Scene, Stats, StripeChange};

const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// As much for a seat that is to be taken back: on a network that comes back a new attempt fares better than an old one.
const RESUME_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a leaving client waits for the server's goodbye.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);
/// A player in a session, connected.
///
/// Call [`next`](Self::next) in a loop and do nothing long in between: it is what reads snapshots, acknowledges them and
/// sends inputs. A client that is not called reads and acknowledges nothing, so that the server, after the few snapshots
/// of its credit, sends nothing either; called again, it goes on from the newest state.
///
/// Dropping a client cuts its connection, as if the machine had failed: the server keeps the seat for its grace period.
/// To give the seat up, [`leave`](Self::leave).
///
/// Where [`JoinOptions::stripes`] allows it, the client opens further connections, and opens those again that are lost; it
/// goes on while any of them lives. When the last one is lost it takes its seat back by a new one, as [`JoinOptions::resume`]
/// says, and tells with [`Event::ConnectionLost`], and [`Event::Reconnected`] or [`Event::GaveUp`].
#[derive(Debug)]
pub struct Client {
    core: Core,
    links: Links,
    server: Server,
    started: Instant,
    timer: Pin<Box<Sleep>>,
    /// When the core asked to be called, until it was.
    asked_for: Option<Instant>,
    snapshot_bytes: u64,
    late_timers: u64,
    goodbye: bool,
    /// Why the last connection was lost, or the last attempt to take the seat back failed.
    failure: Option<ClientError>,
}

impl Client {
    /// Connects to a server, such as `http://127.0.0.1:7777`, and joins.
    ///
    /// # Errors
    /// Where the address is none, nobody answers, or the server does not let the player in.
    pub async fn connect(url: &str, options: &JoinOptions) -> Result<Self, ClientError> {
        Self::connect_with(url, options, &ConnectOptions::default()).await
    }

    /// The same, from an address of this machine, or over a connection that is made worse than it is.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), and where this machine does not have the address.
    pub async fn connect_with(
        url: &str,
        options: &JoinOptions,
        connect_options: &ConnectOptions,
    ) -> Result<Self, ClientError> {
        let uri = server_uri(url)?;
        let (options_of_all, wire) = (connect_options.clone(), Arc::new(Wire::default()));
        let server = Server { url: url.to_owned(), uri, options: options_of_all, wire, connections: 0 };
        let (stream, first) = server.clone().greet(options.hello(), connect_options.welcome_timeout).await?;
        let started = Instant::now();
        Ok(Self {
            core: Core::new(options, first, started.elapsed())?,
            links: Links::new(stream),
            server,
            started,
            timer: Box::pin(sleep_until(started)),
            asked_for: None,
            snapshot_bytes: 0,
            late_timers: 0,
            goodbye: false,
            failure: None,
        })
    }

    /// Reads, acknowledges and sends until something happened; `None` once the stream has ended as it should.
    ///
    /// After [`Event::InputDue`] call [`set_input`](Self::set_input), and then this again: that sends the input.
    ///
    /// Cancel safe: dropped before it is ready, it has lost nothing.
    ///
    /// # Errors
    /// Where the stream broke or the server ended it with a status, and the seat was not taken back. The client is of no more
    /// use then.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            let now = self.now();
            if let Some(event) = self.core.poll_event(now) {
                self.goodbye |= matches!(event, Event::Goodbye { .. });
                return Ok(Some(event));
            }
            if self.core.has_given_up() {
                return Err(self.failure.take().unwrap_or(ClientError::Ended));
            }
            self.note_lateness(now);
            self.change_stripes(now);
            let is_stuck = !self.transmit(now);
            let has_timer = self.set_timer(is_stuck);
            let (links, timer) = (&mut self.links, &mut self.timer);
            let arrived = poll_fn(|cx| match links.poll(cx) {
                Poll::Ready(arrival) => Poll::Ready(Some(arrival)),
                Poll::Pending if has_timer => timer.as_mut().poll(cx).map(|()| None),
                Poll::Pending => Poll::Pending,
            });
            match arrived.await {
                Some(Arrival::Message(stripe, message)) => self.receive(stripe, &message)?,
                Some(Arrival::Ended(stripe, _)) if !self.links.is_empty() => {
                    self.core.stripe_closed(stripe, self.now());
                }
                Some(Arrival::Ended(_, Ok(()))) if self.goodbye => return Ok(None),
                Some(Arrival::Ended(_, ended)) => {
                    let error = ended.err().unwrap_or(ClientError::Ended);
                    if !is_loss(&error) || !self.core.connection_lost(self.now()) {
                        return Err(error);
                    }
                    self.lose(error);
                }
                Some(Arrival::Opened(stripe, opened)) => self.take_opened(stripe, *opened),
                None => {}
            }
        }
    }

    /// Has the player's own entity computed ahead of the server: see [`Core::predict`].
    ///
    /// # Errors
    /// Where the session is of another game, or another version of it.
    pub fn predict(&mut self, game: &dyn Game) -> Result<bool, PredictError> {
        self.core.predict(game)
    }

    /// What is to be drawn at `now`: see [`Core::view_into`].
    pub fn view(&mut self, now: std::time::Instant, scene: &mut Scene) {
        self.core.view_into(now.saturating_duration_since(self.started.into_std()), scene);
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

    /// Opens a stream to talk by, on the connection that plays. It ends with that; after [`Event::Reconnected`] open another.
    ///
    /// # Errors
    /// Where there is no connection now, or the server does not let the player talk.
    pub async fn chat(&mut self) -> Result<Chat, ClientError> {
        let token = ChatToken::Player(self.core.chat_token().to_vec());
        let requests = self.links.iter_mut().find_map(|link| link.stream.requests());
        let requests = requests.ok_or_else(|| ClientError::Lost { reason: "there is no connection".to_owned() })?;
        Chat::on(requests, &self.server.uri, token, self.server.options.welcome_timeout).await
    }

    /// Gives the seat up and waits for the stream's end, two seconds at most.
    ///
    /// # Errors
    /// Where the stream is lost or breaks before, or does not end in time. The server then keeps the seat for its grace period.
    pub async fn leave(&mut self) -> Result<(), ClientError> {
        self.core.leave();
        if self.links.is_empty() {
            self.links.clear();
            return Err(self.failure.take().unwrap_or(ClientError::Ended));
        }
        let all = async {
            let now = self.now();
            let mut is_said = false;
            for link in self.links.iter_mut() {
                if let Some(leave) = self.core.poll_transmit_on(link.stripe, now) {
                    link.stream.push(&leave);
                    let _ = link.stream.flush(true);
                    // Said on one stream, it holds for all; and they stay open until it is heard.
                    is_said = true;
                }
            }
            // It fails where the stream has ended already, as reading will tell.
            self.links.iter_mut().filter(|_| !is_said).for_each(|link| drop(link.stream.flush(true)));
            loop {
                match poll_fn(|cx| self.links.poll(cx)).await {
                    Arrival::Message(stripe, message) => self.receive(stripe, &message)?,
                    Arrival::Ended(_, ended) if ended.is_ok() || self.links.is_empty() => return ended,
                    Arrival::Ended(..) | Arrival::Opened(..) => {}
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

    /// All bytes that came over the client's connections: HTTP/2 with its framing, without TCP's and IP's headers.
    #[must_use]
    pub fn bytes_received(&self) -> u64 {
        self.server.wire.bytes_received()
    }

    /// All bytes that went over them.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        self.server.wire.bytes_sent()
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

    fn receive(&mut self, stripe: usize, message: &Bytes) -> Result<(), ClientError> {
        let now = self.now();
        match SnapshotMessage::within(message) {
            Some(body) => {
                self.snapshot_bytes += body.len() as u64;
                self.core.handle_snapshot_on(stripe, body, now)?;
            }
            None => {
                let message = decode(message)?;
                if let Some(pb::server_message::Kind::Snapshot(snapshot)) = &message.kind {
                    self.snapshot_bytes += snapshot.encoded_len() as u64;
                }
                self.core.handle_on(stripe, message, now)?;
            }
        }
        Ok(())
    }

    /// Sends what there is to send, on each stream in one piece; false where no transport takes any more.
    fn transmit(&mut self, now: Duration) -> bool {
        let bytes_max = self.core.message_bytes_max();
        let mut has_room = false;
        // What one stream is asked for may make something to send on one that was asked before.
        let mut is_again = true;
        while std::mem::take(&mut is_again) {
            for link in self.links.iter_mut() {
                let mut is_free = link.stream.has_room(bytes_max);
                while is_free && let Some(message) = self.core.poll_transmit_on(link.stripe, now) {
                    link.stream.push(&message);
                    is_free = link.stream.has_room(bytes_max);
                    is_again = self.core.stripes_open() > 1;
                }
                has_room |= is_free;
            }
        }
        for link in self.links.iter_mut() {
            // It fails where the stream has ended, as reading will tell.
            let _ = link.stream.flush(false);
        }
        has_room
    }

    /// Opens and closes streams as the core would have it.
    fn change_stripes(&mut self, now: Duration) {
        while let Some(change) = self.core.poll_stripe(now) {
            match change {
                StripeChange::Open(stripe) => {
                    self.server.connections += 1;
                    self.links.open(stripe, self.server.clone(), self.core.attach_hello());
                }
                StripeChange::Close(stripe) => self.links.close(stripe),
                StripeChange::Drop(stripe) => self.links.remove(stripe),
                StripeChange::DropAll => self.lose(ClientError::Lost { reason: "nothing comes any more".to_owned() }),
                StripeChange::Resume => {
                    self.server.connections += 1;
                    self.links.resume(self.server.clone(), self.core.resume_hello());
                }
            }
        }
    }

    /// There is no stream left; the core says what comes of it.
    fn lose(&mut self, error: ClientError) {
        self.links.clear();
        self.failure = Some(error);
    }

    /// Takes in the stream that takes the seat back, or that there is none.
    fn take_resumed(&mut self, opened: Greeted) {
        let now = self.now();
        let resumed = opened.and_then(|(stream, first)| {
            self.core.resumed(first, now)?;
            Ok(stream)
        });
        match resumed {
            Ok(stream) => {
                self.failure = None;
                self.links.opened(0, stream);
            }
            Err(error) => {
                self.core.resume_failed(resume_failure(&error), now);
                self.failure = Some(error);
            }
        }
    }

    /// Takes in a further stream, or that there is none.
    fn take_opened(&mut self, stripe: usize, opened: Greeted) {
        if self.core.is_lost() {
            return self.take_resumed(opened);
        }
        let now = self.now();
        let opened = opened.and_then(|(stream, first)| {
            self.core.stripe_opened(stripe, &first, now)?;
            Ok(stream)
        });
        match opened {
            Ok(stream) => self.links.opened(stripe, stream),
            Err(error) => self.core.stripe_failed(stripe, may_retry(&error), now),
        }
    }

    /// Sets the timer for the core's next timeout; false where there is none.
    fn set_timer(&mut self, is_stuck: bool) -> bool {
        let Some(timeout) = self.core.next_timeout() else { return false };
        // Where nothing can be sent, what is due stays due: it is tried again at the pace of ticks, or on what arrives.
        let timeout = if is_stuck { self.now() + self.core.tick_rate().duration_of(1) } else { timeout };
        let deadline = self.started + timeout;
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        self.asked_for = Some(deadline);
        true
    }

    fn note_lateness(&mut self, now: Duration) {
        let late = self
            .asked_for
            .take()
            .map_or(Duration::ZERO, |deadline| (self.started + now).saturating_duration_since(deadline));
        self.late_timers += u64::from(late > self.core.tick_rate().duration_of(1));
    }
}

fn server_uri(url: &str) -> Result<Uri, ClientError> {
    let invalid = |reason: String| ClientError::Url { url: url.to_owned(), reason };
    let hint = "write it as http://HOST:PORT, or https://HOST:PORT";
    let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| invalid(format!("{error}: {hint}")))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return Err(invalid(hint.to_owned()));
    }
    Ok(uri)
}

fn decode(message: &Bytes) -> Result<pb::ServerMessage, ClientError> {
    let undecodable = |error| Status::internal(format!("the server's message cannot be decoded: {error}"));
    Ok(pb::ServerMessage::decode(message.as_ref()).map_err(undecodable)?)
}
