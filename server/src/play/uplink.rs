//! The way up: takes in what comes whatever the downlink does, and judges whether the peer is still there.

use std::{
    fmt,
    future::Future,
    ops::ControlFlow,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use h2::RecvStream;
use prost::Message as _;
use tickwire_proto::v1 as pb;
use tickwire_shared::{INPUT_LEAD_MS_MAX, PlayerId};
use tonic::{Code, Status};
use tracing::{Instrument as _, debug, error_span, info};

use super::{
    attach::attach,
    framing::{FramingError, Messages},
    hello::{find_session, sit_down, take_seat},
    inputs::{self, RawInputs},
    parse::{self, Ack, FirstHello, Message, MessageError},
    peer::{Liveness, Peer},
    rate::MessageRate,
    resume::resume,
};
use crate::{
    identity::Purpose,
    limits::RefusalReason,
    metrics::{Arrival, CLOSED, LOST, MALFORMED, of_goodbye},
    net::{Incoming, Lane},
    server::Phase,
    session::{Command, Inputs, NotTaken, SessionHandle},
    status::Refusal,
};

/// Messages in a row after which others on the thread have their turn.
const MESSAGES_IN_A_ROW_MAX: usize = 64;

/// A stream's uplink.
pub(super) struct Uplink {
    /// None: what else the client sends is dropped, without costing the connection's window.
    inbox: Option<Inbox>,
    stage: Stage,
    /// When to look at the time.
    due: Option<Instant>,
    heard_at: Instant,
    /// While it plays: nothing that has come waits to be taken in.
    has_taken_all: bool,
}

struct Inbox {
    body: RecvStream,
    messages: Messages,
}

/// A message as it stood on the wire.
enum Received {
    Inputs(RawInputs),
    /// Any message.
    Message(pb::ClientMessage),
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

enum Stage {
    Arriving {
        /// Comes true when nobody may join any more.
        draining: Boxed<()>,
        /// From Hello on: a seat, and a view.
        seat: Option<Boxed<Result<Seated, End>>>,
    },
    Playing {
        seated: Seated,
        rate: MessageRate,
        bytes: MessageRate,
    },
    Over,
}

/// What an uplink has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It reads.
    Reading,
    /// It does not read: whether the client has reset the stream must be asked of the downlink.
    Deaf,
    /// The stream was reset, or its connection lost: it is over.
    Lost,
}

/// How an uplink ends.
#[derive(Debug)]
enum End {
    /// The client said that it leaves: as if it had closed its side.
    Left,
    /// The client closed its side: a clean leave, once what it sent is consumed.
    Closed,
    /// The stream was reset, or its connection lost.
    Lost,
    /// The client did what no client may.
    Refused(Refusal),
    /// What came is no gRPC message.
    Malformed(Status),
}

/// A stream's seat.
#[derive(Debug)]
struct Seated {
    session: Arc<SessionHandle>,
    player: PlayerId,
    sitting: u32,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left => f.write_str("left"),
            Self::Closed => f.write_str("closed by the client"),
            Self::Lost => f.write_str("lost"),
            Self::Refused(refusal) => write!(f, "{}: {}", refusal.reason, refusal.message),
            Self::Malformed(status) => f.write_str(status.message()),
        }
    }
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<FramingError> for End {
    fn from(error: FramingError) -> Self {
        match error {
            FramingError::TooLong(_) => {
                Refusal::new(Code::ResourceExhausted, "MESSAGE_TOO_LONG", error.to_string()).into()
            }
            FramingError::Compressed | FramingError::Flag(_) | FramingError::Torn => {
                Self::Malformed(Status::internal(error.to_string()))
            }
        }
    }
}

impl Uplink {
    pub(super) fn new(body: RecvStream, peer: &Peer, now: Instant) -> Self {
        let mut phase = peer.shared.phase.subscribe();
        let draining = Box::pin(async move {
            // An error says that the server is gone, and with it all of its tasks.
            let _ = phase.wait_for(|phase| *phase != Phase::Serving).await;
        });
        Self {
            inbox: Some(Inbox { body, messages: Messages::default() }),
            stage: Stage::Arriving { draining, seat: None },
            due: Some(now + peer.shared.timeouts.hello),
            heard_at: now,
            has_taken_all: false,
        }
    }

    /// Whether it plays, and nothing that has come waits to be taken in.
    pub(super) fn has_taken_all(&self) -> bool {
        self.has_taken_all
    }

    /// When it must be polled even if nothing comes.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Takes in what has come, and sees to it that the stream ends where that is its end. What there is to send has had no
    /// room since `no_room_since`.
    pub(super) fn poll(
        &mut self,
        peer: &Arc<Peer>,
        lane: Option<&Lane>,
        no_room_since: Option<Instant>,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Progress {
        self.has_taken_all = false;
        if let Poll::Ready(end) = self.poll_end(peer, lane, no_room_since, now, cx) {
            if let Some(lane) = lane {
                lane.deafen();
            }
            return self.part(peer, end, now);
        }
        match &self.stage {
            Stage::Arriving { seat: None, .. } | Stage::Playing { .. } => Progress::Reading,
            Stage::Arriving { seat: Some(_), .. } | Stage::Over => Progress::Deaf,
        }
    }

    fn poll_end(
        &mut self,
        peer: &Arc<Peer>,
        lane: Option<&Lane>,
        no_room_since: Option<Instant>,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<End> {
        if let Stage::Arriving { .. } = &self.stage {
            match ready!(self.poll_arrival(peer, now, cx)) {
                Ok(seated) => {
                    let limits = peer.shared.limits();
                    let rate = MessageRate::new(limits.messages_per_second_max, limits.messages_burst_max);
                    let bytes = MessageRate::new(limits.received_bytes_per_second_max, limits.received_bytes_burst_max);
                    self.stage = Stage::Playing { seated, rate, bytes };
                    self.due = Some(now);
                }
                Err(end) => return Poll::Ready(end),
            }
        }
        if let Stage::Playing { .. } = &self.stage {
            return self.poll_play(peer, lane, no_room_since, now, cx);
        }
        if self.due.is_some_and(|due| now >= due) {
            self.due = None;
            peer.span.in_scope(|| debug!("a stream did not end in time; its connection is cut off"));
            peer.connection.abort();
        }
        Poll::Pending
    }

    /// From the stream's start to its Welcome.
    fn poll_arrival(&mut self, peer: &Arc<Peer>, now: Instant, cx: &mut Context<'_>) -> Poll<Result<Seated, End>> {
        let (Stage::Arriving { draining, seat }, Some(inbox)) = (&mut self.stage, &mut self.inbox) else {
            return Poll::Pending;
        };
        if seat.is_none() {
            match inbox.poll_message(peer.shared.limits().message_bytes_max, None, cx) {
                Poll::Ready(message) => {
                    let hello = read_hello(message.map(|(_, message)| message))?;
                    peer.note_arrival(match hello {
                        FirstHello::Join(_) => Arrival::Join,
                        FirstHello::Resume(_) => Arrival::Resume,
                        FirstHello::Attach(_) => Arrival::Attach,
                    });
                    self.heard_at = now;
                    self.due = None;
                    let join = error_span!(parent: &peer.span, "join");
                    *seat = Some(Box::pin(arrive(Arc::clone(peer), hello).instrument(join)));
                }
                Poll::Pending if self.due.is_some_and(|due| now >= due) => {
                    return Poll::Ready(Err(no_hello(peer.shared.timeouts.hello).into()));
                }
                Poll::Pending => {}
            }
        }
        if let Some(seat) = seat
            && let Poll::Ready(seated) = seat.as_mut().poll(cx)
        {
            return Poll::Ready(seated);
        }
        draining.as_mut().poll(cx).map(|()| Err(Refusal::shutting_down().into()))
    }

    /// From Welcome to the end.
    fn poll_play(
        &mut self,
        peer: &Peer,
        lane: Option<&Lane>,
        no_room_since: Option<Instant>,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<End> {
        let (Stage::Playing { seated, rate, bytes }, Some(inbox)) = (&mut self.stage, &mut self.inbox) else {
            return Poll::Pending;
        };
        let limits = peer.shared.limits();
        rate.adopt(limits.messages_per_second_max, limits.messages_burst_max);
        bytes.adopt(limits.received_bytes_per_second_max, limits.received_bytes_burst_max);
        for _ in 0..MESSAGES_IN_A_ROW_MAX {
            let message = match inbox.poll_message(limits.message_bytes_max, lane, cx) {
                Poll::Pending => {
                    self.has_taken_all = true;
                    return self.poll_liveness(peer, no_room_since, now);
                }
                Poll::Ready(Ok((length, message))) => {
                    let since_start = seated.session.clock.since_start(now);
                    if !rate.allows(since_start) {
                        return Poll::Ready(flooding(limits.messages_per_second_max.get(), "messages").into());
                    }
                    if !bytes.allows_many(length, since_start) {
                        return Poll::Ready(flooding(limits.received_bytes_per_second_max.get(), "bytes").into());
                    }
                    message
                }
                Poll::Ready(Err(end)) => return Poll::Ready(end),
            };
            self.heard_at = now;
            match take(peer, seated, message, now) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(end)) => return Poll::Ready(end),
                Err(refusal) => return Poll::Ready(refusal.into()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_liveness(&mut self, peer: &Peer, no_room_since: Option<Instant>, now: Instant) -> Poll<End> {
        if self.due.is_none_or(|due| now < due) {
            return Poll::Pending;
        }
        match peer.liveness(self.heard_at, no_room_since, now) {
            Liveness::Alive { check_at } => {
                self.due = Some(check_at);
                Poll::Pending
            }
            Liveness::Silent(time) => Poll::Ready(silent(time).into()),
            Liveness::NotReading(time) => Poll::Ready(not_reading(time).into()),
        }
    }

    fn part(&mut self, peer: &Peer, end: End, now: Instant) -> Progress {
        peer.span.in_scope(|| match &self.stage {
            Stage::Playing { .. } => info!(%end, "parted"),
            Stage::Arriving { .. } | Stage::Over => debug!(%end, "a stream ended before it played"),
        });
        self.stage = Stage::Over;
        self.inbox = None;
        match &end {
            End::Refused(refusal) => drop(peer.shared.refusals.count(RefusalReason::of(refusal.reason))),
            End::Malformed(_) => drop(peer.shared.refusals.count(RefusalReason::Other)),
            End::Left | End::Closed | End::Lost => {}
        }
        let mut patience = peer.shared.timeouts.end;
        match end {
            End::Lost => {
                peer.note_end(LOST);
                return Progress::Lost;
            }
            // The goodbye comes when the seat is free: who has it may send another player in.
            End::Left => {
                peer.note_end(of_goodbye(pb::GoodbyeReason::Left));
                peer.leave();
                patience += Duration::from_millis(INPUT_LEAD_MS_MAX);
            }
            End::Closed => {
                if peer.close() {
                    peer.note_end(CLOSED);
                    patience += Duration::from_millis(INPUT_LEAD_MS_MAX);
                }
            }
            // Who is silent may be cut off; who breaks a rule is there, and has played.
            End::Refused(refusal) => {
                peer.note_end(refusal.reason);
                if refusal.code == Code::DeadlineExceeded {
                    peer.end(refusal.into());
                } else {
                    peer.expel(refusal.into());
                }
            }
            End::Malformed(status) => {
                peer.note_end(MALFORMED);
                peer.expel(status);
            }
        }
        // A peer that reads nothing never takes the stream's end.
        self.due = Some(now + patience);
        Progress::Deaf
    }
}

impl Inbox {
    /// The next message and its length in bytes, or the end that there is instead.
    fn poll_message(
        &mut self,
        bytes_max: usize,
        lane: Option<&Lane>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(u32, Received), End>> {
        loop {
            if let Some(message) = self.messages.next(bytes_max)? {
                let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
                return Poll::Ready(Ok((length, decode(message)?)));
            }
            match lane.map(|lane| lane.take_in(self.messages.room())) {
                Some(Incoming::Nothing) => return Poll::Pending,
                Some(Incoming::Bytes) => continue,
                Some(Incoming::Closed) | None => {}
            }
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(frame)) => {
                    if self.body.flow_control().release_capacity(frame.len()).is_err() {
                        return Poll::Ready(Err(End::Lost));
                    }
                    self.messages.push(frame);
                }
                Some(Err(_)) => return Poll::Ready(Err(End::Lost)),
                None => {
                    self.messages.close()?;
                    return Poll::Ready(Err(End::Closed));
                }
            }
        }
    }
}

fn decode(message: &[u8]) -> Result<Received, Refusal> {
    if let Some(inputs) = inputs::read(message) {
        return Ok(Received::Inputs(inputs));
    }
    pb::ClientMessage::decode(message).map(Received::Message).map_err(|error| {
        let message = format!("{} bytes are not a ClientMessage: {error}", message.len());
        Refusal::new(Code::InvalidArgument, "MALFORMED", message)
    })
}

fn read_hello(message: Result<Received, End>) -> Result<FirstHello, End> {
    match message {
        Ok(Received::Inputs(_)) => Err(Refusal::from(MessageError::HelloMissing("inputs")).into()),
        Ok(Received::Message(message)) => Ok(parse::hello(message).map_err(Refusal::from)?),
        Err(End::Closed) => {
            let message = "the stream was closed before its first message, a hello";
            Err(Refusal::new(Code::FailedPrecondition, "HELLO_MISSING", message).field("kind").into())
        }
        Err(end) => Err(end),
    }
}

/// From Hello to Welcome.
async fn arrive(peer: Arc<Peer>, hello: FirstHello) -> Result<Seated, End> {
    let shared = &peer.shared;
    // It may have come before the ban.
    if let Some(banned) = shared.bans.find(peer.connection.peer.ip()) {
        return Err(banned.refusal().into());
    }
    let (session, mut playing) = match hello {
        FirstHello::Join(mut hello) => {
            let mut admission = shared.identity.admit(&mut hello, Purpose::Play)?;
            let (session, reservation) = find_session(shared, &hello, &admission)?;
            peer.connection.join(&shared.limits())?;
            admission.record().await?;
            let admitted = take_seat(&session, hello.player_name.clone(), reservation).await?;
            let playing = sit_down(shared, &session, admitted, &hello);
            let (player, subject, from) = (playing.stripe.player(), admission.subject(), peer.connection.peer);
            info!(session = %session.name, player = player.0, subject, %from, "joined");
            admission.admitted();
            (session, playing)
        }
        FirstHello::Resume(hello) => {
            let (session, playing) = resume(shared, &hello).await?;
            session.counters.seats_resumed.fetch_add(1, Ordering::Relaxed);
            let (player, resumes) = (playing.stripe.player(), playing.stripe.sitting());
            let from = peer.connection.peer;
            info!(session = %session.name, player = player.0, resumes, %from, "resumed");
            (session, playing)
        }
        FirstHello::Attach(hello) => {
            let (session, playing) = attach(shared, &hello)?;
            session.counters.stripes_attached.fetch_add(1, Ordering::Relaxed);
            let (player, stripe) = (playing.stripe.player(), playing.stripe.number());
            let from = peer.connection.peer;
            info!(session = %session.name, player = player.0, stripe, %from, "attached");
            (session, playing)
        }
    };
    playing.stripe.come_from(peer.connection.peer);
    // A ban of before is found now, and one that comes from now on finds the seat.
    if let Some(banned) = shared.bans.find(peer.connection.peer.ip()) {
        playing.stripe.oust(banned.ousted());
    }
    let (player, sitting) = (playing.stripe.player(), playing.stripe.sitting());
    peer.play(Arc::clone(&session), playing);
    Ok(Seated { session, player, sitting })
}

/// Does what one message says.
fn take(peer: &Peer, seated: &Seated, message: Received, now: Instant) -> Result<ControlFlow<End>, Refusal> {
    let session = &*seated.session;
    let message = match message {
        Received::Inputs(raw) => {
            let (ack, inputs) = parse::inputs(raw, &session.schema)?;
            Message::Inputs { ack, inputs }
        }
        Received::Message(message) => parse::message(message, &session.schema)?,
    };
    match message {
        Message::Inputs { ack, inputs } if is_current(session, ack) => take_inputs(peer, seated, ack, inputs, now)?,
        Message::Ack(ack) if is_current(session, ack) => {
            acknowledge(peer, ack, None, &mut Inputs::new(), now)?;
        }
        Message::Inputs { .. } | Message::Ack(_) => {
            session.counters.stale_epochs.fetch_add(1, Ordering::Relaxed);
        }
        Message::Ping { echo } => peer.ping(echo),
        Message::Resync(reason) => {
            let asked = session.counters.resyncs.fetch_add(1, Ordering::Relaxed) + 1;
            // A client may ask as often as it may send.
            if asked.is_power_of_two() {
                let reason = reason.as_str_name();
                peer.span.in_scope(|| info!(asked, reason, "clients of the session have asked for resets so often"));
            }
            peer.resync();
        }
        Message::Leave => return Ok(ControlFlow::Break(End::Left)),
    }
    Ok(ControlFlow::Continue(()))
}

/// Whether a message is of the session's epoch, and not of one before its last recovery.
fn is_current(session: &SessionHandle, ack: Ack) -> bool {
    ack.epoch == session.epoch
}

fn acknowledge(
    peer: &Peer,
    ack: Ack,
    input: Option<(u64, i32)>,
    inputs: &mut Inputs,
    now: Instant,
) -> Result<u64, Refusal> {
    peer.acknowledge(ack, input, inputs, now).map_err(|error| {
        let message =
            format!("{} is newer than {}, the newest tick sent on this stream", error.acknowledged, error.sent);
        Refusal::new(Code::InvalidArgument, "ACK_BEYOND_SENT", message).field(ack.field)
    })
}

fn take_inputs(peer: &Peer, seated: &Seated, ack: Ack, mut inputs: Inputs, now: Instant) -> Result<(), Refusal> {
    let Seated { session, player, sitting } = seated;
    let newest = inputs.last().expect("a parsed message has at least one input");
    let margin_us = session.clock.margin_us(newest.target_tick(), now);
    let newest = (newest.sequence(), margin_us);
    let repeats = acknowledge(peer, ack, Some(newest), &mut inputs, now)?;
    if repeats > 0 {
        session.counters.inputs_sent_again.fetch_add(repeats, Ordering::Relaxed);
        if inputs.is_empty() {
            return Ok(());
        }
    }
    let count = inputs.len() as u64;
    match session.mailbox.send(Command::Inputs { player: *player, sitting: *sitting, inputs }) {
        Ok(()) => {}
        // The player's margin and consumed sequence tell of it.
        Err(NotTaken::Full) => {
            session.counters.inputs_dropped.fetch_add(count, Ordering::Relaxed);
        }
        // The downlink says why.
        Err(NotTaken::Closed) => {}
    }
    Ok(())
}

fn no_hello(patience: Duration) -> Refusal {
    Refusal::new(Code::DeadlineExceeded, "NO_HELLO", format!("no hello came within {patience:?}"))
}

fn flooding(per_second: u32, what: &str) -> Refusal {
    Refusal::new(Code::ResourceExhausted, "FLOODING", format!("more than {per_second} {what} per second"))
}

fn silent(time: Duration) -> Refusal {
    Refusal::new(Code::DeadlineExceeded, "SILENT", format!("nothing came for {time:?}: send inputs, acks or pings"))
}

fn not_reading(time: Duration) -> Refusal {
    let message = format!(
        "for {time:?} no snapshot was acknowledged, or none could be sent: read the stream, and send newest_tick"
    );
    Refusal::new(Code::DeadlineExceeded, "NOT_READING", message)
}
