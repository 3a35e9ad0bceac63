//! The way up: a task per stream, which reads whatever the downlink does, and judges whether the peer is still there.

use std::{
    fmt,
    future::Future,
    ops::ControlFlow,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tickwire_proto::v1 as pb;
use tickwire_shared::{INPUT_LEAD_MS_MAX, PlayerId};
use tickwire_simulation::Input;
use tokio::time::{sleep_until, timeout};
use tonic::{Code, Status, Streaming};
use tracing::{debug, info};

use super::{
    attach::attach,
    hello::{find_session, sit_down, take_seat},
    parse::{self, Ack, FirstHello, Message},
    peer::{Liveness, Peer},
    rate::MessageRate,
};
use crate::{
    server::Phase,
    session::{Command, NotTaken, SessionHandle},
    status::Refusal,
};

type Messages = Streaming<pb::ClientMessage>;

/// How an uplink ends.
#[derive(Debug)]
enum End {
    /// The client said that it leaves: as if it had closed its side.
    Left,
    /// The client closed its side: a clean leave, once what it sent is consumed.
    Closed,
    /// The stream was reset, or its connection lost.
    Lost,
    /// The downlink has been dropped: the stream is over.
    Gone,
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
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left => f.write_str("left"),
            Self::Closed => f.write_str("closed by the client"),
            Self::Lost => f.write_str("lost"),
            Self::Gone => f.write_str("over"),
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

/// Reads a stream's uplink to its end, and sees to it that the stream ends then.
pub(super) async fn run(peer: Arc<Peer>, mut messages: Messages) {
    let mut gone = pin!(peer.gone.notified());
    let end = match arrive(&peer, &mut messages, gone.as_mut()).await {
        Ok(seated) => {
            let end = play(&peer, &seated, &mut messages, gone.as_mut()).await;
            info!(session = %seated.session.name, player = %seated.player, %end, "parted");
            end
        }
        Err(end) => {
            debug!(%end, "a stream ended before it played");
            end
        }
    };
    // What else the client sends is dropped from here on, without costing the connection's window.
    drop(messages);
    let mut patience = peer.shared.timeouts.end;
    match end {
        End::Gone => return,
        // The goodbye comes when the seat is free: who has it may send another player in.
        End::Left => {
            peer.leave();
            patience += Duration::from_millis(INPUT_LEAD_MS_MAX);
        }
        End::Closed => {
            if peer.close() {
                patience += Duration::from_millis(INPUT_LEAD_MS_MAX);
            }
        }
        End::Lost => peer.end(Status::cancelled("the stream was reset or its connection lost")),
        // Who is silent may be cut off; who breaks a rule is there, and has played.
        End::Refused(refusal) if refusal.code == Code::DeadlineExceeded => peer.end(refusal.into()),
        End::Refused(refusal) => peer.expel(refusal.into()),
        End::Malformed(status) => peer.expel(status),
    }
    // A peer that reads nothing keeps HTTP/2 from asking the downlink for its end.
    if timeout(patience, gone).await.is_err() {
        debug!("a stream did not end in time; its connection is cut off");
        peer.connection.abort();
    }
}

/// From the stream's start to its Welcome.
async fn arrive(
    peer: &Arc<Peer>,
    messages: &mut Messages,
    mut gone: Pin<&mut impl Future<Output = ()>>,
) -> Result<Seated, End> {
    let shared = &peer.shared;
    let mut phase = shared.phase.subscribe();
    let arrival = async {
        let hello = timeout(shared.timeouts.hello, read_hello(peer, messages)).await.map_err(|_| {
            let message = format!("no hello came within {:?}", shared.timeouts.hello);
            Refusal::new(Code::DeadlineExceeded, "NO_HELLO", message)
        })??;
        let (session, playing) = match hello {
            FirstHello::Join(hello) => {
                let session = find_session(&shared.registry, &hello)?;
                let seat = take_seat(&session, hello.player_name.clone()).await?;
                info!(session = %session.name, player = %seat.player(), "joined");
                let playing = sit_down(shared, &session, seat, &hello);
                (session, playing)
            }
            FirstHello::Attach(hello) => {
                let (session, playing) = attach(shared, &hello)?;
                session.counters.stripes_attached.fetch_add(1, Ordering::Relaxed);
                let (player, stripe) = (playing.stripe.player(), playing.stripe.number());
                info!(session = %session.name, %player, stripe, "attached");
                (session, playing)
            }
        };
        let player = playing.stripe.player();
        peer.play(Arc::clone(&session), playing);
        Ok(Seated { session, player })
    };
    tokio::select! {
        arrived = arrival => arrived,
        () = &mut gone => Err(End::Gone),
        _ = phase.wait_for(|phase| *phase != Phase::Serving) => Err(Refusal::shutting_down().into()),
    }
}

async fn read_hello(peer: &Peer, messages: &mut Messages) -> Result<FirstHello, End> {
    match read(peer, messages).await? {
        Some(message) => Ok(parse::hello(message).map_err(Refusal::from)?),
        None => {
            let message = "the stream was closed before its first message, a hello";
            Err(Refusal::new(Code::FailedPrecondition, "HELLO_MISSING", message).field("kind").into())
        }
    }
}

/// From Welcome to the end.
async fn play(
    peer: &Peer,
    seated: &Seated,
    messages: &mut Messages,
    mut gone: Pin<&mut impl Future<Output = ()>>,
) -> End {
    let limits = &peer.shared.limits;
    let mut rate = MessageRate::new(limits.messages_per_second_max, limits.messages_burst_max);
    let mut check = pin!(sleep_until(Instant::now().into()));
    loop {
        tokio::select! {
            biased;
            message = read(peer, messages) => {
                let now = Instant::now();
                let message = match message {
                    Ok(Some(message)) => message,
                    Ok(None) => return End::Closed,
                    Err(end) => return end,
                };
                if !rate.allows(seated.session.clock.since_start(now)) {
                    return flooding(limits.messages_per_second_max.get()).into();
                }
                match take(peer, seated, message, now) {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(ControlFlow::Break(end)) => return end,
                    Err(refusal) => return refusal.into(),
                }
            }
            () = &mut check => match peer.liveness(Instant::now()) {
                Liveness::Alive { check_at } => check.as_mut().reset(check_at.into()),
                Liveness::Silent(time) => return silent(time).into(),
                Liveness::NotReading(time) => return not_reading(time).into(),
            },
            () = &mut gone => return End::Gone,
        }
    }
}

/// Does what one message says.
fn take(peer: &Peer, seated: &Seated, message: pb::ClientMessage, now: Instant) -> Result<ControlFlow<End>, Refusal> {
    let session = &*seated.session;
    match parse::message(message, &session.schema)? {
        Message::Inputs { ack, inputs } if is_current(session, ack) => {
            let newest = inputs.last().expect("a parsed message has at least one input");
            let margin_us = session.clock.margin_us(newest.target_tick(), now);
            acknowledge(peer, ack, Some((newest.sequence(), margin_us)), now)?;
            send_inputs(peer, seated, inputs);
        }
        Message::Ack(ack) if is_current(session, ack) => acknowledge(peer, ack, None, now)?,
        Message::Inputs { .. } | Message::Ack(_) => {
            session.counters.stale_epochs.fetch_add(1, Ordering::Relaxed);
        }
        Message::Ping { echo } => peer.ping(echo),
        Message::Resync(reason) => {
            session.counters.resyncs.fetch_add(1, Ordering::Relaxed);
            info!(session = %session.name, reason = reason.as_str_name(), "a client asks for a reset");
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

fn acknowledge(peer: &Peer, ack: Ack, input: Option<(u64, i32)>, now: Instant) -> Result<(), Refusal> {
    peer.acknowledge(ack, input, now).map_err(|error| {
        let message =
            format!("{} is newer than {}, the newest tick sent on this stream", error.acknowledged, error.sent);
        Refusal::new(Code::InvalidArgument, "ACK_BEYOND_SENT", message).field(ack.field)
    })
}

fn send_inputs(peer: &Peer, seated: &Seated, mut inputs: Vec<Input>) {
    let Seated { session, player } = seated;
    let repeats = peer.drop_repeats(&mut inputs);
    if repeats > 0 {
        session.counters.inputs_sent_again.fetch_add(repeats, Ordering::Relaxed);
        if inputs.is_empty() {
            return;
        }
    }
    let count = inputs.len() as u64;
    match session.mailbox.send(Command::Inputs { player: *player, inputs }) {
        Ok(()) => {}
        // The player's margin and consumed sequence tell of it.
        Err(NotTaken::Full) => {
            session.counters.inputs_dropped.fetch_add(count, Ordering::Relaxed);
        }
        // The downlink says why.
        Err(NotTaken::Closed) => {}
    }
}

/// The next message; `None` where the client has closed its side.
async fn read(peer: &Peer, messages: &mut Messages) -> Result<Option<pb::ClientMessage>, End> {
    match messages.message().await {
        Ok(message) => Ok(message),
        Err(_) if peer.is_uplink_lost() => Err(End::Lost),
        // The only message that gRPC's framing finds too long, by its name for that.
        Err(status) if status.code() == Code::OutOfRange => {
            let message = format!("a message has at most {} bytes", peer.shared.limits.message_bytes_max);
            Err(Refusal::new(Code::ResourceExhausted, "MESSAGE_TOO_LONG", message).into())
        }
        Err(status) => Err(End::Malformed(status)),
    }
}

fn flooding(per_second: u32) -> Refusal {
    Refusal::new(Code::ResourceExhausted, "FLOODING", format!("more than {per_second} messages per second"))
}

fn silent(time: Duration) -> Refusal {
    Refusal::new(Code::DeadlineExceeded, "SILENT", format!("nothing came for {time:?}: send inputs, acks or pings"))
}

fn not_reading(time: Duration) -> Refusal {
    let message = format!("no snapshot was acknowledged for {time:?}: read the stream, and send newest_tick");
    Refusal::new(Code::DeadlineExceeded, "NOT_READING", message)
}
