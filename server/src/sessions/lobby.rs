//! What is kept of calls, and of sessions that are not there as yet or any more: the one place where a call's id, a quota and
//! a name are looked at and taken, under one lock.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tickwire_proto::v1 as pb;
use tickwire_shared::Game;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tonic::Code;
use tracing::info;

use super::{attempts::Attempts, callers::Callers, catalogue::Catalogue, describe::describe_to_creator};
use crate::{
    limits::Permit,
    log_fields::millis,
    server::{Phase, Shared},
    session::{
        Creator, Host, RequestKey, Reservation, ReservationState, SessionEnding, SessionHandle, SessionName,
        SessionState, SessionTerms,
    },
    status::Refusal,
};

/// For how long after its session's end, or after a seat was reserved, a call is known again.
pub(super) const CALLS_KEPT: Duration = Duration::from_secs(300);
/// How often it is looked what is over.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);

/// What is kept of calls and sessions.
#[derive(Debug)]
pub(crate) struct Lobby {
    pub(super) host: Arc<Host>,
    pub(super) catalogue: Catalogue,
    state: Mutex<State>,
}

/// A caller's call, by its id.
pub(super) type CallId = (Creator, String);

/// What becomes of something, for all who wait for it.
pub(super) type Awaited<T> = watch::Receiver<Option<Result<T, Refusal>>>;
pub(super) type Teller<T> = watch::Sender<Option<Result<T, Refusal>>>;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) creations: BTreeMap<CallId, Creation>,
    pub(super) joins: BTreeMap<CallId, Joining>,
    /// Sessions that are being created.
    pub(super) pending: Vec<Pending>,
    pub(super) attempts: Attempts,
    pub(super) callers: Callers,
}

/// A call that creates a session.
#[derive(Debug)]
pub(super) struct Creation {
    pub(super) hash: [u8; 32],
    pub(super) outcome: CreationOutcome,
}

#[derive(Debug)]
pub(super) enum CreationOutcome {
    Pending(Awaited<Arc<SessionHandle>>),
    /// It runs, or has ended; in that case it is forgotten then.
    Created {
        name: SessionName,
        forget_at: Option<Instant>,
    },
}

/// A call that reserves a seat.
#[derive(Debug)]
pub(super) struct Joining {
    pub(super) hash: [u8; 32],
    pub(super) outcome: JoinOutcome,
    pub(super) forget_at: Instant,
}

#[derive(Debug)]
pub(super) enum JoinOutcome {
    Pending(Awaited<Arc<Reservation>>),
    Reserved(Arc<Reservation>),
    /// The seat is not kept any more.
    Gone(ReservationState),
}

/// A session that is being created.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) name: SessionName,
    pub(super) creator: Creator,
    pub(super) game: String,
    pub(super) is_public: bool,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) max_players: u32,
    /// Those who will have a seat in it.
    pub(super) waiting: Vec<Waiting>,
}

/// Somebody who will have a seat.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) teller: Teller<Arc<Reservation>>,
    /// Its part of the seats that may be reserved for its caller, where they are limited.
    pub(super) permit: Option<Permit>,
}

impl Lobby {
    /// Of a server that hosts these games. The calls that sessions of a killed server were created by are known again.
    pub(crate) fn new(host: Arc<Host>, games: Vec<Arc<dyn Game>>) -> Self {
        let catalogue = Catalogue::new(games, &host.config);
        let mut state = State::default();
        for session in host.registry.all().iter() {
            let Some(creation) = &session.terms.creation else { continue };
            let Some(RequestKey { id, hash }) = creation.request.clone() else { continue };
            let outcome = CreationOutcome::Created { name: session.name.clone(), forget_at: None };
            state.creations.insert((creation.creator.clone(), id), Creation { hash, outcome });
        }
        Self { host, catalogue, state: Mutex::new(state) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    pub(super) fn list_games(&self) -> pb::ListGamesResponse {
        pb::ListGamesResponse { games: self.catalogue.described(), can_create: self.host.config.create_sessions }
    }

    /// While the server runs: ends sessions that nobody is in, gives up seats that nobody came for, and forgets what is over.
    pub(crate) async fn keep(&self, shared: &Shared) -> Infallible {
        let mut due = interval(SWEEP_INTERVAL);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            self.sweep(shared, Instant::now());
        }
    }

    fn sweep(&self, shared: &Shared, now: Instant) {
        for session in self.host.registry.all().iter() {
            if session.seats.expire(now) {
                session.note_news();
            }
            if let Some(timeout) = session.terms.empty_timeout
                && session.seats.close_if_empty(timeout, now)
                && session.finish(SessionEnding::of(pb::SessionEndCause::Empty))
            {
                info!(session = %session.name, timeout_ms = millis(timeout), "nobody was in the session for so long: it ends");
            }
            // One that was started with the server, and has failed, stays to be seen.
            let goes = session.terms.creation.is_some() || session.state() == SessionState::Ended;
            if goes && session.is_over() {
                self.bury(shared, session);
            }
        }
        self.host.registry.forget_buried(now, CALLS_KEPT);
        let mut state = self.lock();
        let registry = &self.host.registry;
        state.creations.retain(|call, creation| match &mut creation.outcome {
            CreationOutcome::Created { name, forget_at }
                if forget_at.is_none() && registry.get(name).is_none_or(|session| !is_of(&session.terms, call)) =>
            {
                *forget_at = Some(now + CALLS_KEPT);
                true
            }
            CreationOutcome::Created { forget_at, .. } => forget_at.is_none_or(|at| now < at),
            CreationOutcome::Pending(_) => true,
        });
        state.joins.retain(|_, joining| {
            joining.settle();
            now < joining.forget_at || matches!(joining.outcome, JoinOutcome::Pending(_))
        });
        state.attempts.sweep(now);
        state.callers.sweep(now);
    }

    /// Forgets a session that is over, but for what was told of it last; one that was deleted meanwhile stays so.
    fn bury(&self, shared: &Shared, session: &Arc<SessionHandle>) {
        let _state = self.lock();
        if self.host.registry.get(&session.name).is_some_and(|held| Arc::ptr_eq(&held, session)) {
            self.host.registry.bury(session, describe_to_creator(shared, session), Instant::now());
            self.host.forget(session);
        }
    }

    /// Forgets a session, and that there was one, for who has created it: its name is free.
    pub(super) fn unmake(&self, session: &Arc<SessionHandle>, creator: &Creator) {
        let _state = self.lock();
        self.host.forget(session);
        // It may have been seen to be over before its creator was told so.
        let _ = self.host.registry.exhume(&session.name, creator);
    }
}

/// Whether a session was created by this call. Its name says nothing: that may have been another's before.
fn is_of(terms: &SessionTerms, (creator, id): &CallId) -> bool {
    let creation = terms.creation.as_ref().filter(|creation| creation.creator == *creator);
    creation.and_then(|creation| creation.request.as_ref()).is_some_and(|request| request.id == *id)
}

impl Joining {
    /// Lets go of what need not be held any more: a session is not to be kept for the sake of a call.
    pub(super) fn settle(&mut self) {
        if let JoinOutcome::Pending(awaited) = &self.outcome {
            let settled = awaited.borrow().as_ref().and_then(|outcome| outcome.as_ref().ok().cloned());
            if let Some(reservation) = settled {
                self.outcome = JoinOutcome::Reserved(reservation);
            }
        }
        if let JoinOutcome::Reserved(reservation) = &self.outcome
            && reservation.state() != ReservationState::Held
        {
            self.outcome = JoinOutcome::Gone(reservation.state());
        }
    }
}

/// Waits for what somebody is working on.
pub(super) async fn awaited<T: Clone>(mut awaited: Awaited<T>) -> Result<T, Refusal> {
    match awaited.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().expect("it was waited for"),
        // Whoever worked on it has panicked, or the server is gone.
        Err(_) => {
            Err(Refusal::new(Code::Internal, "FAILED", "the session could not be created; the server's log says why"))
        }
    }
}

/// Whether new sessions and seats can be had.
pub(super) fn check_serving(shared: &Shared) -> Result<(), Refusal> {
    if *shared.phase.borrow() == Phase::Serving { Ok(()) } else { Err(Refusal::shutting_down()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::ServerConfig, session};

    #[test]
    fn a_session_is_of_the_call_that_created_it_and_not_of_others_whose_session_had_its_name() {
        let [ada, bob] = ["address 192.0.2.1", "address 192.0.2.2"].map(Creator::new);
        let request = Some(RequestKey { id: "1".into(), hash: [0; 32] });
        let creation = session::Creation { creator: ada.clone(), request };
        let terms = SessionTerms { creation: Some(creation), ..SessionTerms::of_start(&ServerConfig::default()) };
        assert!(is_of(&terms, &(ada.clone(), "1".into())));
        assert!(!is_of(&terms, &(ada.clone(), "2".into())) && !is_of(&terms, &(bob, "1".into())));
        assert!(!is_of(&SessionTerms::of_start(&ServerConfig::default()), &(ada, "1".into())));
    }
}
