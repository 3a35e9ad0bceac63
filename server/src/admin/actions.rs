//! What changes something. Each is written to the audit log before it is done.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value as Json, json};
use tickwire_proto::v1 as pb;
use tokio::{task::spawn_blocking, time::timeout};
use tonic::Code;

use super::{
    auth::{Caller, Role},
    bans::{self, Ban, BanError},
    players,
};
use crate::{
    LogFilterError,
    chat::{ChatControl, ChatError, check_characters},
    drain::NotCancelled,
    durations::duration_within,
    net::customer_of,
    server::Shared,
    session::{NotStepped, Ousted, OustedKind, STEPS_MAX, SessionEnding, SessionHandle},
    status::Refusal,
};

const TEXT_CHARS_MAX: usize = 500;
const DRAIN_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How long whoever pauses a session waits until it stands.
const SETTLE_PATIENCE: Duration = Duration::from_secs(1);
/// The longest that whoever has a session step waits for it.
const STEPS_PATIENCE_MAX: Duration = Duration::from_secs(10);
/// A hundred years: what is longer is for good.
const BAN_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// A request that changes something.
pub(super) trait Action {
    const NAME: &'static str;
    /// Whoever asks must have it.
    const ROLE: Role;
    /// For the audit log.
    fn arguments(&self) -> Json;
}

macro_rules! action {
    ($request:ty, $name:literal, $role:ident, |$this:ident| $arguments:expr) => {
        impl Action for $request {
            const NAME: &'static str = $name;
            const ROLE: Role = Role::$role;

            fn arguments(&self) -> Json {
                let $this = self;
                $arguments
            }
        }
    };
}

action!(pb::KickRequest, "Kick", Moderator, |kick| {
    json!({"session": kick.session, "player": kick.player, "reason": kick.reason})
});
action!(pb::BanRequest, "Ban", Moderator, |ban| {
    let target = match &ban.target {
        Some(pb::ban_request::Target::Player(of)) => json!({"session": of.session, "player": of.player}),
        Some(pb::ban_request::Target::Network(network)) => json!(network),
        None => Json::Null,
    };
    json!({"target": target, "duration": ban.duration.map(|time| time.to_string()), "reason": ban.reason})
});
action!(pb::MuteRequest, "Mute", Moderator, |mute| {
    json!({"session": mute.session, "player": mute.player, "duration": mute.duration.map(|time| time.to_string())})
});
action!(pb::UnmuteRequest, "Unmute", Moderator, |unmute| json!({"session": unmute.session, "player": unmute.player}));
action!(pb::UnbanRequest, "Unban", Moderator, |unban| json!({"network": unban.network}));
action!(pb::BroadcastRequest, "Broadcast", Moderator, |say| json!({"session": say.session, "text": say.text}));
action!(pb::PauseRequest, "Pause", Operator, |pause| json!({"session": pause.session}));
action!(pb::ResumeRequest, "Resume", Operator, |resume| json!({"session": resume.session}));
action!(pb::StepRequest, "Step", Operator, |step| json!({"session": step.session, "ticks": step.ticks}));
action!(pb::TerminateSessionRequest, "TerminateSession", Operator, |end| {
    json!({"session": end.session, "reason": end.reason})
});
action!(pb::DrainRequest, "Drain", Operator, |drain| {
    json!({"deadline": drain.deadline.map(|time| time.to_string())})
});
action!(pb::SetLogFilterRequest, "SetLogFilter", Operator, |set| json!({"filter": set.filter}));
action!(pb::CancelDrainRequest, "CancelDrain", Operator, |_cancel| json!({}));

pub(super) async fn kick(
    shared: Arc<Shared>,
    _caller: Caller,
    request: pb::KickRequest,
) -> Result<pb::KickResponse, Refusal> {
    check_text(&request.reason, "reason")?;
    let session = players::session(&shared, &request.session)?;
    let seat = players::seat(&session, request.player)?;
    let text = match request.reason.as_str() {
        "" => "you were kicked".to_owned(),
        reason => format!("you were kicked: {reason}"),
    };
    seat.oust(Ousted { kind: OustedKind::Kicked, text });
    Ok(pb::KickResponse {})
}

pub(super) async fn ban(shared: Arc<Shared>, caller: Caller, request: pb::BanRequest) -> Result<pb::Ban, Refusal> {
    check_text(&request.reason, "reason")?;
    let network = match request.target {
        Some(pb::ban_request::Target::Network(text)) => parse_network(&text)?,
        Some(pb::ban_request::Target::Player(of)) => {
            let session = players::session(&shared, &of.session)?;
            let address = players::seat(&session, of.player)?.facts.address().ok_or_else(|| {
                let message = "the player has not come since the server's start: ban the network";
                Refusal::new(Code::FailedPrecondition, "NO_ADDRESS", message).field("player")
            })?;
            customer_of(address.ip())
        }
        None => {
            let message = "name a player, or a network";
            return Err(Refusal::new(Code::InvalidArgument, "OUT_OF_RANGE", message).field("target"));
        }
    };
    let created = SystemTime::now();
    let expires = end_of(request.duration, created)?;
    let ban = Ban { network, reason: request.reason, by: caller.name, created, expires };
    let answer = describe(&ban);
    let ousted = ban.ousted();
    let changing = Arc::clone(&shared);
    let replaced = change_bans(move || changing.bans.add(ban)).await?;
    // From now on nobody new is let in; now for those who are there.
    for session in shared.registry.all().iter() {
        for seat in session.control.seats.all() {
            if seat.facts.is_from(|address| bans::has(&network, address)) {
                seat.oust(ousted.clone());
            }
        }
    }
    for thread in &shared.network {
        thread.end_those_of(|peer| bans::has(&network, peer.ip()));
    }
    Ok(pb::Ban { replaced: replaced.map(|replaced| Box::new(describe(&replaced))), ..answer })
}

/// What a ban has come to beside itself, for the audit log.
pub(super) fn ban_result(ban: &pb::Ban) -> Option<Json> {
    let replaced = ban.replaced.as_deref()?;
    Some(json!({
        "replaced": {
            "by": replaced.by,
            "reason": replaced.reason,
            "created": replaced.create_time.map(|time| time.to_string()),
            "expires": replaced.expire_time.map(|time| time.to_string()),
        },
    }))
}

pub(super) async fn unban(
    shared: Arc<Shared>,
    _caller: Caller,
    request: pb::UnbanRequest,
) -> Result<pb::UnbanResponse, Refusal> {
    let network = parse_network(&request.network)?;
    let wider = change_bans(move || shared.bans.remove(network)).await?;
    Ok(pb::UnbanResponse { still_banned_by: wider.iter().map(|ban| describe(ban)).collect() })
}

/// The same of what was lifted.
pub(super) fn unban_result(response: &pb::UnbanResponse) -> Option<Json> {
    let wider: Vec<&str> = response.still_banned_by.iter().map(|ban| &*ban.network).collect();
    (!wider.is_empty()).then(|| json!({"still_banned_by": wider}))
}

/// A page of all bans.
pub(super) fn list_bans(shared: &Shared, request: &pb::ListBansRequest) -> Result<pb::ListBansResponse, Refusal> {
    let size = players::page_size(request.page_size);
    let after = match request.page_token.as_str() {
        "" => None,
        token => Some(bans::parse(token).ok_or_else(players::unknown_page)?),
    };
    let all = shared.bans.all();
    let mut rest = all.iter().filter(|ban| after.is_none_or(|after| ban.network > after)).peekable();
    let bans: Vec<pb::Ban> = rest.by_ref().take(size).map(|ban| describe(ban)).collect();
    let last = bans.last().filter(|_| rest.peek().is_some());
    let next_page_token = last.map_or_else(String::new, |last| last.network.clone());
    Ok(pb::ListBansResponse { bans, next_page_token })
}

pub(super) async fn mute(
    shared: Arc<Shared>,
    _caller: Caller,
    request: pb::MuteRequest,
) -> Result<pb::MuteResponse, Refusal> {
    let pb::MuteRequest { session, player, duration } = request;
    let until = end_of(duration, SystemTime::now())?;
    let session = running(&shared, &session)?;
    let seat = players::seat(&session, player)?;
    silenced(ChatControl::new(shared).silence(&session.name.to_string(), seat.player, until))?;
    Ok(pb::MuteResponse {})
}

pub(super) async fn unmute(
    shared: Arc<Shared>,
    _caller: Caller,
    request: pb::UnmuteRequest,
) -> Result<pb::UnmuteResponse, Refusal> {
    let pb::UnmuteRequest { session, player } = request;
    let session = running(&shared, &session)?;
    let seat = players::seat(&session, player)?;
    silenced(ChatControl::new(shared).lift_silence(&session.name.to_string(), seat.player))?;
    Ok(pb::UnmuteResponse {})
}

pub(super) async fn broadcast(
    shared: Arc<Shared>,
    _caller: Caller,
    request: pb::BroadcastRequest,
) -> Result<pb::BroadcastResponse, Refusal> {
    check_text(&request.text, "text")?;
    if request.text.is_empty() {
        return Err(Refusal::new(Code::InvalidArgument, "OUT_OF_RANGE", "there is nothing to say").field("text"));
    }
    if request.session.is_empty() {
        shared.notices.say(request.text);
        shared.registry.all().iter().for_each(|session| session.wake_streams());
    } else {
        let session = players::session(&shared, &request.session)?;
        session.control.notices.say(request.text);
        session.wake_streams();
    }
    Ok(pb::BroadcastResponse {})
}

pub(super) async fn pause(
    shared: Arc<Shared>,
    _caller: Caller,
    request: pb::PauseRequest,
) -> Result<pb::Progress, Refusal> {
    let session = running(&shared, &request.session)?;
    session.set_paused(true);
    Ok(progress(&session, SETTLE_PATIENCE).await)
}

pub(super) async fn resume(
    shared: Arc<Shared>,
    _caller: Caller,
    request: pb::ResumeRequest,
) -> Result<pb::Progress, Refusal> {
    let session = running(&shared, &request.session)?;
    session.set_paused(false);
    Ok(progress(&session, SETTLE_PATIENCE).await)
}

pub(super) async fn step(
    shared: Arc<Shared>,
    _caller: Caller,
    request: pb::StepRequest,
) -> Result<pb::Progress, Refusal> {
    let pb::StepRequest { session, ticks } = request;
    let session = running(&shared, &session)?;
    if !(1..=STEPS_MAX).contains(&ticks) {
        let message = format!("{ticks} is out of range: choose 1 to {STEPS_MAX}");
        return Err(Refusal::new(Code::InvalidArgument, "OUT_OF_RANGE", message).field("ticks"));
    }
    session.step(ticks).map_err(|error| match error {
        NotStepped::Running => {
            let message = format!("{} is not paused: pause it first", session.name);
            Refusal::new(Code::FailedPrecondition, "NOT_PAUSED", message).field("session")
        }
        NotStepped::TooMany => {
            let message = format!("{} has ticks to step already: more than {STEPS_MAX} do not wait", session.name);
            Refusal::new(Code::ResourceExhausted, "TOO_MANY_STEPS", message).retry_after(SETTLE_PATIENCE)
        }
    })?;
    let patience = SETTLE_PATIENCE + session.tick_rate.duration_of(ticks.into());
    Ok(progress(&session, patience.min(STEPS_PATIENCE_MAX)).await)
}

pub(super) async fn terminate(
    shared: Arc<Shared>,
    _caller: Caller,
    request: pb::TerminateSessionRequest,
) -> Result<pb::TerminateSessionResponse, Refusal> {
    check_text(&request.reason, "reason")?;
    let session = running(&shared, &request.session)?;
    let text = match request.reason.as_str() {
        "" => "the session was ended".to_owned(),
        reason => format!("the session was ended: {reason}"),
    };
    // Of two at a time one comes too late.
    let ending = SessionEnding { termination: Some(text), ..SessionEnding::of(pb::SessionEndCause::Terminated) };
    if session.finish(ending) { Ok(pb::TerminateSessionResponse {}) } else { Err(players::ended(&session.name)) }
}

pub(super) async fn drain(
    shared: Arc<Shared>,
    _caller: Caller,
    request: pb::DrainRequest,
) -> Result<pb::DrainResponse, Refusal> {
    let within = match request.deadline {
        None => shared.admin_drain,
        Some(asked) => duration_within(asked, Duration::ZERO..=DRAIN_MAX, "deadline", "0 s to 24 hours")?,
    };
    let order = shared.drain.drain(within);
    let left = order.deadline.saturating_duration_since(Instant::now());
    Ok(pb::DrainResponse { deadline: Some((SystemTime::now() + left).into()) })
}

pub(super) async fn cancel_drain(
    shared: Arc<Shared>,
    _caller: Caller,
    _request: pb::CancelDrainRequest,
) -> Result<pb::CancelDrainResponse, Refusal> {
    shared.drain.cancel().map_err(|error| match error {
        NotCancelled::NotDraining => {
            Refusal::new(Code::FailedPrecondition, "NOT_DRAINING", "the server does not drain")
        }
        NotCancelled::Final => {
            let message = "the server ends: by a signal, or since its deadline is over";
            Refusal::new(Code::FailedPrecondition, "ENDING", message)
        }
    })?;
    Ok(pb::CancelDrainResponse {})
}

pub(super) async fn set_log_filter(
    shared: Arc<Shared>,
    _caller: Caller,
    request: pb::SetLogFilterRequest,
) -> Result<pb::SetLogFilterResponse, Refusal> {
    check_text(&request.filter, "filter")?;
    let previous = shared.log.filter().unwrap_or_default();
    shared.log.set(&request.filter).map_err(|error| match error {
        LogFilterError::Filter { .. } => {
            Refusal::new(Code::InvalidArgument, "OUT_OF_RANGE", error.to_string()).field("filter")
        }
        LogFilterError::NotOurs => Refusal::new(Code::FailedPrecondition, "OTHER_LOG", error.to_string()),
    })?;
    Ok(pb::SetLogFilterResponse { previous })
}

/// What is to last for so long from now on: until when. For good, where it is not said.
fn end_of(duration: Option<prost_types::Duration>, now: SystemTime) -> Result<Option<SystemTime>, Refusal> {
    let Some(asked) = duration else { return Ok(None) };
    let range = Duration::from_secs(1)..=BAN_MAX;
    Ok(Some(now + duration_within(asked, range, "duration", "1 s to 100 years, or leave it out")?))
}

/// The player may have left just now.
fn silenced(result: Result<(), ChatError>) -> Result<(), Refusal> {
    result.map_err(|error| Refusal::new(Code::NotFound, "NOT_FOUND", error.to_string()).field("player"))
}

/// Where a session stands, once it does as it was told.
async fn progress(session: &SessionHandle, patience: Duration) -> pb::Progress {
    let settled = timeout(patience, session.control.pause.settled()).await.is_ok();
    pb::Progress { tick: session.clock.tick().0, settled }
}

/// A session that has not ended.
fn running(shared: &Shared, name: &str) -> Result<Arc<SessionHandle>, Refusal> {
    let session = players::session(shared, name)?;
    if session.has_ended() { Err(players::ended(&session.name)) } else { Ok(session) }
}

async fn change_bans<T: Send + 'static>(
    change: impl FnOnce() -> Result<T, BanError> + Send + 'static,
) -> Result<T, Refusal> {
    let changed = spawn_blocking(change)
        .await
        .map_err(|error| Refusal::new(Code::Internal, "FAILED", format!("changing the bans failed: {error}")))?;
    changed.map_err(|error| {
        let (code, reason) = match &error {
            BanError::Full => (Code::ResourceExhausted, "BANS"),
            BanError::NotFound { .. } => (Code::NotFound, "NOT_FOUND"),
            BanError::File(_) => (Code::Unavailable, "BANS_FILE"),
        };
        Refusal::new(code, reason, error.to_string())
    })
}

fn describe(ban: &Ban) -> pb::Ban {
    pb::Ban {
        network: ban.network.to_string(),
        reason: ban.reason.clone(),
        by: ban.by.clone(),
        create_time: Some(ban.created.into()),
        expire_time: ban.expires.map(Into::into),
        replaced: None,
    }
}

fn parse_network(text: &str) -> Result<ipnet::IpNet, Refusal> {
    bans::parse(text).ok_or_else(|| {
        let text: String = text.chars().take(80).collect();
        let message =
            format!("{text:?} is no address or network: write it as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32");
        Refusal::new(Code::InvalidArgument, "OUT_OF_RANGE", message).field("network")
    })
}

fn check_text(text: &str, field: &'static str) -> Result<(), Refusal> {
    let checked = match text.chars().nth(TEXT_CHARS_MAX) {
        Some(_) => Err(format!("it is too long: write up to {TEXT_CHARS_MAX} characters")),
        None => check_characters(text),
    };
    checked.map_err(|problem| Refusal::new(Code::InvalidArgument, "OUT_OF_RANGE", problem).field(field))
}
