//! Further streams of a player: from a Hello with a token to Welcome.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tickwire_proto::v1 as pb;
use tickwire_shared::TickRate;
use tonic::Code;

use super::{
    hello::check_session,
    parse::{AttachHello, Hello},
    peer::Playing,
};
use crate::{
    config::Limits,
    notices::Told,
    server::Shared,
    session::{AttachError, Found, Granted, SessionHandle, Stripe},
    status::Refusal,
};

const FIELD: &str = "hello.attach_token";
/// When somebody who has all the streams that they may have may try again: one that was lost may not be known as such yet.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// Attaches a stream to the seat that its token is of. Nobody's stream goes for it.
pub(super) fn attach(shared: &Shared, hello: &AttachHello) -> Result<(Arc<SessionHandle>, Playing), Refusal> {
    let stripes = match shared.attach_tokens.find(&hello.token) {
        Found::Holder(stripes, _) => stripes,
        Found::Ended(_) => return Err(ended()),
        Found::Unknown => {
            let message = "no player of this server has this token: join as a new one";
            return Err(Refusal::new(Code::Unauthenticated, "UNKNOWN_TOKEN", message).field(FIELD));
        }
    };
    let session = &stripes.session;
    if hello.session.as_ref().is_some_and(|name| *name != session.name) {
        let message = "the token is of a player in another session: leave the session empty";
        return Err(Refusal::new(Code::PermissionDenied, "OTHER_SESSION", message).field("hello.session"));
    }
    check_session(session, hello.game.as_ref(), hello.schema_hash)?;
    let stripe = stripes.attach().map_err(|error| match error {
        AttachError::Ended => ended(),
        AttachError::Full => {
            let most = stripes.granted.stripes_max;
            let message = format!("the player has {most} streams already, which is the most on this server");
            Refusal::new(Code::ResourceExhausted, "STRIPES", message).field(FIELD).retry_after(FULL_RETRY)
        }
    })?;
    let welcome = welcome(session, &stripe, &stripes.granted);
    Ok((Arc::clone(session), playing(shared, session, stripe, welcome)))
}

fn ended() -> Refusal {
    let message = "the streams that the token goes with have ended: resume the seat, or join as a new player";
    Refusal::new(Code::FailedPrecondition, "SEAT_ENDED", message).field(FIELD)
}

/// What all streams of a player are told; the first one also gets the schema and the tokens.
pub(super) fn welcome(session: &SessionHandle, stripe: &Stripe, granted: &Granted) -> pb::Welcome {
    let newest = session.replicator.newest();
    let player = stripe.player();
    pb::Welcome {
        player: player.0,
        epoch: session.epoch,
        tick: newest.tick.0,
        tick_rate: session.tick_rate.hz(),
        schema: None,
        settings: session.settings.clone(),
        hash_interval: session.replicator.config().hash_interval,
        resume_token: Vec::new(),
        attach_token: Vec::new(),
        last_consumed_input: newest.seat(player).map_or(0, |seat| seat.consumed_input),
        session: session.name.to_string(),
        view_radius: granted.view_radius,
        max_bytes_per_second: granted.bytes_per_second,
        max_rate: session.tick_rate.hz() / granted.ticks_per_snapshot,
        max_stripes: granted.stripes_max as u32,
        snapshot_copies: granted.copies,
        stream_token: Vec::new(),
        chat_token: Vec::new(),
    }
}

/// Sets a stream up.
pub(super) fn playing(shared: &Shared, session: &SessionHandle, stripe: Stripe, welcome: pb::Welcome) -> Playing {
    let told = Told::newcomer(&shared.notices, Some(&session.control.notices));
    Playing { view: stripe.view(), stripe, welcome: Some(Box::new(welcome)), pings: VecDeque::new(), told }
}

/// What a hello's wishes come to.
pub(super) fn grant(shared: &Shared, session: &SessionHandle, hello: &Hello) -> Granted {
    granted(&shared.limits(), session.tick_rate, session.replicator.config().snapshot_bytes_max, hello)
}

/// What they come to where ticks go by at `rate`, with so many bytes in a snapshot at most.
pub(crate) fn granted(limits: &Limits, rate: TickRate, snapshot_bytes_max: usize, hello: &Hello) -> Granted {
    let stripes_max = limits.stripes_max();
    let ticks_per_snapshot = hello.max_rate.map_or(1, |wish| rate.hz().div_ceil(wish.get()));
    // Whole metres: what is seen from a place is then worked out once for all who look as far, or nearly.
    let view_radius = hello.view_radius.map_or(limits.view_radius_max, f64::ceil).min(limits.view_radius_max);
    // No more than that many snapshots can carry.
    let snapshot_bytes_max = u32::try_from(snapshot_bytes_max).unwrap_or(u32::MAX);
    let bytes_max = snapshot_bytes_max.saturating_mul(rate.hz() / ticks_per_snapshot);
    Granted {
        view_radius,
        ticks_per_snapshot,
        bytes_per_second: limits.bytes_per_second(hello.max_bytes_per_second).get().min(bytes_max),
        copies: hello.snapshot_copies.clamp(1, tickwire_replication::COPIES_MAX.min(stripes_max as u32)),
        stripes_max,
    }
}
