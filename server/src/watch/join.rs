//! From a request to a stream: what is to be watched, whether the client fits it, and whether there is room.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::Stream;
use tickwire_proto::v1::{self as pb, client_message};
use tickwire_shared::Tick;
use tonic::{Code, Status};
use tracing::{error_span, info};

use super::{
    source::Source,
    spectator::Spectator,
    stream::{Seat, SpectatorStream},
    tape::Tape,
    words,
};
use crate::{
    identity::Purpose,
    metrics::{Arrival, LET_IN},
    net::Connection,
    play::{FirstHello, Hello, check_schema, find_session, granted, read_hello},
    server::{Phase, Shared},
    session::Granted,
    status::Refusal,
};

/// When somebody who finds no room among a session's spectators may try again.
const FULL_RETRY: Duration = Duration::from_secs(5);

/// Where a spectator wants to start, and what to see.
pub(super) struct Wishes {
    follow_player: u32,
    /// 0: live, or a recording's first tick.
    from_tick: u64,
    /// 0: 1.
    speed: f64,
}

/// A recording that a server shows as if it were a session.
#[derive(Clone, Debug)]
pub(crate) struct Hosted {
    pub(crate) tape: Arc<Tape>,
    /// Where those start who do not say.
    pub(crate) from: Tick,
    pub(crate) speed: f64,
}

/// Counts what came of somebody's wish to watch.
pub(super) fn counted<T>(shared: &Shared, arrival: Arrival, joined: Result<T, Refusal>) -> Result<T, Status> {
    shared.peer_counters.joins.note((arrival, joined.as_ref().map_or_else(|refusal| refusal.reason, |_| LET_IN)));
    joined.map_err(Into::into)
}

/// Lets a spectator of a session in.
pub(super) async fn watch(
    shared: &Arc<Shared>,
    connection: Option<&Connection>,
    request: pb::WatchRequest,
) -> Result<impl Stream<Item = Result<Bytes, Status>> + Send + use<>, Refusal> {
    let pb::WatchRequest { hello, follow_player, from_tick, speed } = request;
    let wishes = Wishes { follow_player, from_tick, speed };
    let mut hello = hello_of(hello.ok_or_else(no_hello)?)?;
    let mut admission = shared.identity.admit(&mut hello, Purpose::Watch)?;
    let hosted = shared
        .hosted
        .as_ref()
        .filter(|hosted| hello.session.as_ref().is_none_or(|name| name.to_string() == hosted.tape.meta().session));
    let (source, wishes) = match hosted {
        Some(Hosted { tape, from, speed }) => {
            let wishes = Wishes {
                from_tick: if wishes.from_tick == 0 { from.0 } else { wishes.from_tick },
                speed: if wishes.speed == 0.0 { *speed } else { wishes.speed },
                ..wishes
            };
            let source = of_tape(tape, &hello)?;
            admission.fits(&source.name(), &source.schema().game)?;
            (source, wishes)
        }
        // A ticket shows that the spectator was let in; its seat stays kept.
        None => (Source::Session(find_session(shared, &hello, &admission)?.0), wishes),
    };
    admission.record().await?;
    let stream = let_in(shared, connection, source, &hello, &wishes)?;
    admission.admitted();
    Ok(stream)
}

/// Lets a spectator of a recording in, who may have it.
pub(super) fn replay(
    shared: &Arc<Shared>,
    connection: Option<&Connection>,
    source: Source,
    hello: &Hello,
    request: &pb::ReplayRequest,
) -> Result<impl Stream<Item = Result<Bytes, Status>> + Send + use<>, Refusal> {
    let &pb::ReplayRequest { from_tick, speed, follow_player, .. } = request;
    check_schema(&source.name(), source.schema(), hello.game.as_ref(), hello.schema_hash)?;
    let_in(shared, connection, source, hello, &Wishes { follow_player, from_tick, speed })
}

pub(super) fn no_hello() -> Refusal {
    let message = "a spectator says hello, too: protocol_version, and whatever else there is to say";
    Refusal::new(Code::FailedPrecondition, "HELLO_MISSING", message).field("hello")
}

pub(super) fn hello_of(hello: pb::Hello) -> Result<Hello, Refusal> {
    let message = pb::ClientMessage { kind: Some(client_message::Kind::Hello(hello)) };
    match read_hello(message)? {
        FirstHello::Join(hello) => Ok(hello),
        FirstHello::Attach(_) => Err(no_seat("hello.attach_token")),
        FirstHello::Resume(_) => Err(no_seat("hello.resume_token")),
    }
}

fn no_seat(field: &'static str) -> Refusal {
    let message = "a spectator has one stream and no seat: leave it empty";
    Refusal::new(Code::InvalidArgument, "SPECTATOR", message).field(field)
}

fn of_tape(tape: &Arc<Tape>, hello: &Hello) -> Result<Source, Refusal> {
    let source = Source::Recording(Arc::clone(tape));
    check_schema(&source.name(), source.schema(), hello.game.as_ref(), hello.schema_hash)?;
    Ok(source)
}

fn let_in(
    shared: &Arc<Shared>,
    connection: Option<&Connection>,
    source: Source,
    hello: &Hello,
    wishes: &Wishes,
) -> Result<impl Stream<Item = Result<Bytes, Status>> + Send + use<>, Refusal> {
    if *shared.phase.borrow() != Phase::Serving {
        return Err(Refusal::shutting_down());
    }
    let speed = if wishes.speed == 0.0 { 1.0 } else { words::check_speed(wishes.speed, "speed")? };
    if wishes.from_tick > Tick::MAX.0 {
        let message = format!("{} is beyond 2^53", wishes.from_tick);
        return Err(Refusal::new(Code::InvalidArgument, "OUT_OF_RANGE", message).field("from_tick"));
    }
    let first = source.first();
    if (1..first.0).contains(&wishes.from_tick) {
        return Err(words::before_first(Tick(wishes.from_tick), first, "from_tick"));
    }
    let limits = shared.limits();
    let place = match connection {
        None => None,
        Some(connection) => {
            let place = connection.open_stream(&limits)?;
            connection.join(&limits)?;
            Some(place)
        }
    };
    let seat = match source.session() {
        None => None,
        Some(session) => {
            let most = limits.spectators_max;
            if !session.live.admit(most) {
                let message = format!("{} has {most} spectators, which is the most", session.name);
                return Err(Refusal::new(Code::ResourceExhausted, "SPECTATORS", message).retry_after(FULL_RETRY));
            }
            Some(Seat(Arc::clone(session)))
        }
    };
    let replication = source.replication();
    let granted = granted(&limits, source.tick_rate(), replication.snapshot_bytes_max, hello);
    let follow = words::player_of(wishes.follow_player);
    let spectator = Arc::new(Spectator::new(Arc::clone(shared), source.clone(), &granted, follow));
    let (token, listing) = shared.spectators.list(&spectator)?;

    let newest = source.newest();
    let from = Tick(wishes.from_tick);
    let is_past = source.session().is_none() || (from > Tick::ZERO && from < newest);
    let tick = if is_past { from.max(first) } else { newest };
    if is_past {
        spectator.go_back(&mut spectator.lock(), tick, speed, false)?;
    }
    // Of the highest level, so that its lines name it whatever the filter. The request's span is around it.
    let span = error_span!("watch", session = %source.name());
    span.in_scope(|| info!(tick = tick.0, "a spectator has come"));
    let welcome = welcome(&source, tick, &granted, token);
    Ok(SpectatorStream::new(spectator, welcome, (listing, seat, place), span).messages())
}

fn welcome(source: &Source, tick: Tick, granted: &Granted, stream_token: Vec<u8>) -> pb::Welcome {
    pb::Welcome {
        player: 0,
        epoch: source.epoch(),
        tick: tick.0,
        tick_rate: source.tick_rate().hz(),
        schema: Some(source.schema_message()),
        settings: source.settings(),
        hash_interval: source.replication().hash_interval,
        session: source.name(),
        view_radius: granted.view_radius,
        max_bytes_per_second: granted.bytes_per_second,
        max_rate: source.tick_rate().hz() / granted.ticks_per_snapshot,
        max_stripes: 1,
        snapshot_copies: 1,
        stream_token,
        ..pb::Welcome::default()
    }
}
