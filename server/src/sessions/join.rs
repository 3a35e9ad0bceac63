//! Seats that callers reserve: in a session of a name, in that of a code, or in any that fits.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tickwire_proto::v1::{self as pb, join_session_request::Target};
use tickwire_ticket::Role;
use tokio::sync::watch;
use tonic::Code;

use super::{
    authorise::Authorised,
    callers::Allowance,
    describe::describe,
    filter::{name_of, not_found},
    lobby::{Awaited, CALLS_KEPT, CallId, JoinOutcome, Joining, Lobby, State, Waiting, awaited, check_serving},
    pass::role_of,
    request::{self, Wanted},
};
use crate::{
    identity::Bearer,
    limits::Permit,
    server::Shared,
    session::{
        self, Creator, JoinCode, RequestKey, Reservation, ReservationState, SessionHandle, SessionState, Visibility,
    },
    status::Refusal,
};

/// Calls that are known again.
const JOINS_MAX: usize = 16_384;
/// Of those, so many are forgotten to make room for others.
const FORGOTTEN_AT_ONCE: usize = JOINS_MAX / 8;
/// When somebody who finds no room may try again.
const RETRY: Duration = Duration::from_secs(1);

impl Lobby {
    /// Reserves a seat, or answers with the one that the same call has reserved before.
    pub(super) async fn join(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        caller: Authorised,
        mut request: pb::JoinSessionRequest,
    ) -> Result<pb::JoinSessionResponse, Refusal> {
        let allowance = Allowance::of(&caller, &shared.limits());
        let caller = caller.creator;
        if let Some(allowance) = allowance {
            self.lock().callers.note_call(&caller, allowance, Instant::now())?;
        }
        let key = request::request_key(std::mem::take(&mut request.request_id), "JoinSession", &request)?;
        let role = role_of(&request)?;
        let pb::JoinSessionRequest { subject, player_name, target, .. } = request;
        let bearer = Bearer::new(subject, player_name)?;
        shared.identity.check_can_issue(role)?;
        if role != Role::Player {
            return self.pass(shared, &caller, role, target, bearer);
        }
        let target = target.ok_or_else(no_target)?;
        let reservation = awaited(self.begin_join(shared, caller, allowance, key, target)?).await?;
        let token = shared.reservations.mint(&reservation)?;
        let (name, expires) = (reservation.session.name.to_string(), reservation.expire_time);
        Ok(pb::JoinSessionResponse {
            session: Some(describe(shared, &reservation.session)),
            ticket: shared.identity.issue(token, &name, expires, bearer)?,
            expire_time: Some(reservation.expire_time.into()),
        })
    }

    fn begin_join(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        caller: Creator,
        allowance: Option<Allowance>,
        key: Option<RequestKey>,
        target: Target,
    ) -> Result<Awaited<Arc<Reservation>>, Refusal> {
        let now = Instant::now();
        let mut state = self.lock();
        if let Some(RequestKey { id, hash }) = &key {
            let call = (caller.clone(), id.clone());
            if let Some(known) = known(&mut state, &call, hash) {
                return known;
            }
            if state.joins.len() >= JOINS_MAX {
                forget_gone(&mut state.joins);
            }
            if state.joins.len() >= JOINS_MAX {
                let message = "too many seats are reserved";
                return Err(Refusal::new(Code::ResourceExhausted, "BUSY", message).retry_after(RETRY));
            }
        }
        check_serving(shared)?;
        let permit = allowance.map(|allowance| state.callers.take_seat(&caller, allowance)).transpose()?;
        let awaited = match target {
            Target::Name(name) => reserved(by_name(shared, &name)?, permit),
            Target::JoinCode(code) => reserved(by_code(shared, &mut state, &caller, &code)?, permit),
            Target::QuickMatch(quick) => self.match_up(shared, &mut state, caller.clone(), quick, permit, now)?,
        };
        if let Some(RequestKey { id, hash }) = key {
            let outcome = JoinOutcome::Pending(awaited.clone());
            state.joins.insert((caller, id), Joining { hash, outcome, forget_at: now + CALLS_KEPT });
        }
        Ok(awaited)
    }

    /// A seat in a session that fits, in one that is being created, or in a new one.
    fn match_up(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        state: &mut State,
        caller: Creator,
        quick: pb::QuickMatch,
        permit: Option<Permit>,
        now: Instant,
    ) -> Result<Awaited<Arc<Reservation>>, Refusal> {
        let pb::QuickMatch { game, attributes } = quick;
        request::check_attributes(&attributes, "quick_match.attributes")?;
        let game = self.catalogue.find(&game, "quick_match.game")?.name().to_owned();
        let fits = |has: &BTreeMap<String, String>| attributes.iter().all(|(key, value)| has.get(key) == Some(value));

        let listing = shared.registry.all();
        let mut fitting: Vec<(u32, &Arc<SessionHandle>)> = listing
            .iter()
            .filter(|session| session.terms.visibility.is_public() && session.runs() && session.schema.game == game)
            .filter(|session| fits(&session.terms.attributes))
            .map(|session| (session.seats.counts(), session))
            .filter(|(seats, _)| seats.free > 0)
            .map(|(seats, session)| (seats.seated + seats.reserved, session))
            .collect();
        // Where most are; among equals the one that was asked for first.
        fitting.sort_by_key(|(players, session)| (std::cmp::Reverse(*players), session.place));
        for (_, session) in fitting {
            if let Some(reservation) = session.seats.reserve(session, &shared.reservations, now) {
                return Ok(reserved(reservation, permit));
            }
        }

        let (teller, awaited) = watch::channel(None);
        let waiting = Waiting { teller, permit };
        let coming = state.pending.iter_mut().find(|pending| {
            pending.is_public
                && pending.game == game
                && fits(&pending.attributes)
                && pending.waiting.len() < pending.max_players as usize
        });
        match coming {
            Some(pending) => pending.waiting.push(waiting),
            None => {
                let session = pb::NewSession { game, attributes, ..pb::NewSession::default() };
                let wanted = Wanted::read(session, &self.catalogue, &self.host.config)?;
                self.start(shared, state, caller, None, None, wanted, Some(waiting))?;
            }
        }
        Ok(awaited)
    }
}

/// What a call has come to that came before.
fn known(
    state: &mut State,
    call: &(Creator, String),
    hash: &[u8; 32],
) -> Option<Result<Awaited<Arc<Reservation>>, Refusal>> {
    let joining = state.joins.get_mut(call)?;
    joining.settle();
    if let JoinOutcome::Pending(awaited) = &joining.outcome
        && matches!(*awaited.borrow(), Some(Err(_)))
    {
        // The same call may come again, and do better.
        state.joins.remove(call);
        return None;
    }
    if joining.hash != *hash {
        return Some(Err(request::other_request()));
    }
    Some(match &joining.outcome {
        JoinOutcome::Pending(awaited) => Ok(awaited.clone()),
        JoinOutcome::Reserved(reservation) => Ok(reserved(Arc::clone(reservation), None)),
        JoinOutcome::Gone(state) => Err(gone(*state)),
    })
}

/// What a caller is told who asks once more for a seat that is not kept any more.
fn gone(state: ReservationState) -> Refusal {
    let refusal = session::gone_for(state);
    let message = match state {
        ReservationState::Used | ReservationState::Held => "the seat of this call has been taken",
        ReservationState::Expired => "the seat of this call was kept for 15 s, and nobody came",
        ReservationState::Ended => "the session of this call has ended",
    };
    let message = format!("{message}: take another id to reserve another one");
    Refusal { message, ..refusal }.field("request_id")
}

/// Makes room for other calls: forgets the oldest whose seats are not kept any more.
fn forget_gone(joins: &mut BTreeMap<CallId, Joining>) {
    let mut over: Vec<Instant> = joins
        .values_mut()
        .filter_map(|joining| {
            joining.settle();
            matches!(joining.outcome, JoinOutcome::Gone(_)).then_some(joining.forget_at)
        })
        .collect();
    let Some(last) = over.len().min(FORGOTTEN_AT_ONCE).checked_sub(1) else { return };
    // Many at once, so that not each call has to look for one.
    let (_, until, _) = over.select_nth_unstable(last);
    joins.retain(|_, joining| !matches!(joining.outcome, JoinOutcome::Gone(_)) || joining.forget_at > *until);
}

/// A reservation that is there, and counts among its caller's where it is new and they are limited.
fn reserved(reservation: Arc<Reservation>, permit: Option<Permit>) -> Awaited<Arc<Reservation>> {
    if let Some(permit) = permit {
        reservation.hold(permit);
    }
    watch::channel(Some(Ok(reservation))).1
}

pub(super) fn no_target() -> Refusal {
    let message = "say which session: its name, its join code, or any that fits a quick match";
    Refusal::new(Code::InvalidArgument, "NO_TARGET", message).field("target")
}

fn by_name(shared: &Shared, name: &str) -> Result<Arc<Reservation>, Refusal> {
    reserve(shared, &find_by_name(shared, name, false)?, "name")
}

/// The session that runs by this name; of those that are joined by code, only for `any`.
pub(super) fn find_by_name(shared: &Shared, name: &str, any: bool) -> Result<Arc<SessionHandle>, Refusal> {
    let name = name_of(name)?;
    let session = match shared.registry.get(&name) {
        Some(session) => session,
        None if shared.registry.buried(&name).is_some() => {
            return Err(session::gone_for(ReservationState::Ended).field("name"));
        }
        None => return Err(not_found(&name)),
    };
    if !any && session.terms.visibility.takes_tickets_only() {
        let message = format!("{name} is joined by its code: say that");
        return Err(Refusal::new(Code::PermissionDenied, "CODE_NEEDED", message).field("name"));
    }
    check_goes_on(&session, "name")?;
    Ok(session)
}

fn by_code(shared: &Shared, state: &mut State, caller: &Creator, code: &str) -> Result<Arc<Reservation>, Refusal> {
    reserve(shared, &find_by_code(shared, state, caller, code)?, "join_code")
}

/// The session that runs by this code. Whatever is wrong with a code, it is one that there is not.
pub(super) fn find_by_code(
    shared: &Shared,
    state: &mut State,
    caller: &Creator,
    code: &str,
) -> Result<Arc<SessionHandle>, Refusal> {
    let now = Instant::now();
    state.attempts.check(caller, now).map_err(|wait| {
        let message = "too many codes were wrong: wait a little";
        Refusal::new(Code::ResourceExhausted, "ATTEMPTS", message).field("join_code").retry_after(wait)
    })?;
    let found = code.parse::<JoinCode>().ok().and_then(|code| {
        let listing = shared.registry.all();
        let is_it = |session: &&Arc<SessionHandle>| session.terms.visibility == Visibility::ByCode(code);
        listing.iter().filter(|session| session.state() == SessionState::Running).find(is_it).map(Arc::clone)
    });
    match found {
        Some(session) => {
            check_goes_on(&session, "join_code")?;
            Ok(session)
        }
        None => {
            state.attempts.note_wrong(caller, now);
            let message = "no session of this server has this code: look at it again";
            Err(Refusal::new(Code::NotFound, "NOT_FOUND", message).field("join_code"))
        }
    }
}

fn check_goes_on(session: &SessionHandle, field: &'static str) -> Result<(), Refusal> {
    match session.ending() {
        Some(_) => Err(session::gone_for(ReservationState::Ended).field(field)),
        None => Ok(()),
    }
}

fn reserve(shared: &Shared, session: &Arc<SessionHandle>, field: &'static str) -> Result<Arc<Reservation>, Refusal> {
    if session.is_stuck() {
        let message = format!("{} does not come back from a tick; try again, or choose another session", session.name);
        return Err(Refusal::new(Code::Unavailable, "SESSION_STUCK", message).field(field).retry_after(RETRY));
    }
    session
        .seats
        .reserve(session, &shared.reservations, Instant::now())
        .ok_or_else(|| session::full(session, session.seats.counts().reserved == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_calls_make_room_for_others_once_their_seats_are_not_kept_any_more() {
        let now = Instant::now();
        let call = |number: usize| (Creator::new("key backend"), number.to_string());
        let joining = |number: usize| {
            let (teller, awaited) = watch::channel(None);
            let outcome = if number < 10 {
                // Nobody can know what becomes of it.
                JoinOutcome::Pending(awaited)
            } else {
                JoinOutcome::Gone(ReservationState::Used)
            };
            drop(teller);
            Joining { hash: [0; 32], outcome, forget_at: now + Duration::from_millis(number as u64) }
        };
        let mut joins: BTreeMap<CallId, Joining> =
            (0..JOINS_MAX).map(|number| (call(number), joining(number))).collect();
        forget_gone(&mut joins);
        assert_eq!(joins.len(), JOINS_MAX - FORGOTTEN_AT_ONCE);
        let is_known = |number: usize| joins.contains_key(&call(number));
        assert!((0..10).all(is_known), "what is not settled stays");
        assert!((10..10 + FORGOTTEN_AT_ONCE).all(|number| !is_known(number)));
        assert!((10 + FORGOTTEN_AT_ONCE..JOINS_MAX).all(is_known));
        joins.retain(|_, joining| matches!(joining.outcome, JoinOutcome::Pending(_)));
        forget_gone(&mut joins);
        assert_eq!(joins.len(), 10);
    }
}
