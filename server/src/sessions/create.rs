//! Sessions that callers create and end.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use tickwire_proto::v1 as pb;
use tokio::sync::watch;
use tonic::Code;
use tracing::{error, info};

use super::{
    describe::describe_to_creator,
    filter::{name_of, not_found},
    lobby::{Awaited, Creation, CreationOutcome, Lobby, Pending, State, Waiting, awaited, check_serving},
    request::{self, Wanted},
};
use crate::{
    server::{Shared, random_seed},
    session::{
        self, Creator, JoinCode, Origin, Place, RequestKey, SessionEnding, SessionHandle, SessionName, SessionOrder,
        SessionTerms, StartError, Visibility,
    },
    status::Refusal,
};

/// Sessions that wait to be created, and that are being created.
const PENDING_MAX: usize = 64;
/// When somebody who finds no room for a session may try again.
const RETRY: Duration = Duration::from_secs(10);
const BUSY_RETRY: Duration = Duration::from_secs(1);
/// Letters and digits of the ids that the server chooses: 60 random bits.
const ID_CHARS: usize = 12;
const ID_ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl Lobby {
    /// Creates a session, or answers as the same call was answered before.
    pub(super) async fn create(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        creator: Creator,
        mut request: pb::CreateSessionRequest,
    ) -> Result<pb::Session, Refusal> {
        let key = request::request_key(std::mem::take(&mut request.request_id), "CreateSession", &request)?;
        let name = request::chosen_name(&request.session_id)?;
        let wanted = Wanted::read(request.session.unwrap_or_default(), &self.catalogue, &self.host.config);
        let creation = session::Creation { creator: creator.clone(), request: key.clone() };
        let begun = self.begin(shared, creator, key, name, wanted)?;
        let session = match begun {
            Begun::Awaited(session) => awaited(session).await?,
            Begun::Created(name) => match shared.registry.get(&name) {
                // The name may have become another's.
                Some(session) if session.terms.creation.as_ref() == Some(&creation) => session,
                _ => return Err(has_ended(&name)),
            },
        };
        Ok(describe_to_creator(shared, &session))
    }

    fn begin(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        creator: Creator,
        key: Option<RequestKey>,
        name: Option<SessionName>,
        wanted: Result<Wanted, Refusal>,
    ) -> Result<Begun, Refusal> {
        let mut state = self.lock();
        if let Some(RequestKey { id, hash }) = &key
            && let Some(creation) = state.creations.get(&(creator.clone(), id.clone()))
        {
            if creation.hash != *hash {
                return Err(request::other_request());
            }
            return Ok(match &creation.outcome {
                CreationOutcome::Pending(session) => Begun::Awaited(session.clone()),
                CreationOutcome::Created { name, .. } => Begun::Created(name.clone()),
            });
        }
        self.start(shared, &mut state, creator, key, name, wanted?, None).map(Begun::Awaited)
    }

    /// Has a session created on a thread for that. `first` gets a seat in it.
    #[expect(clippy::too_many_arguments, reason = "all of it is of one call")]
    pub(super) fn start(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        state: &mut State,
        creator: Creator,
        key: Option<RequestKey>,
        name: Option<SessionName>,
        wanted: Wanted,
        first: Option<Waiting>,
    ) -> Result<Awaited<Arc<SessionHandle>>, Refusal> {
        check_serving(shared)?;
        self.check_room(shared, state, &creator)?;
        let name = match name {
            Some(name) if self.is_taken(state, &name) => {
                let message = format!("{name} is there, or was a moment ago: choose another id, or delete it");
                return Err(Refusal::new(Code::AlreadyExists, "ID_TAKEN", message).field("session_id"));
            }
            Some(name) => name,
            None => self.free_name(state, wanted.game.name())?,
        };
        let visibility = match wanted.visibility {
            pb::SessionVisibility::Unlisted => Visibility::Unlisted,
            pb::SessionVisibility::ByCode => Visibility::ByCode(self.free_code()?),
            pb::SessionVisibility::Public | pb::SessionVisibility::Unspecified => Visibility::Public,
        };
        let (tell, awaited) = watch::channel(None);
        let call = key.as_ref().map(|key| (creator.clone(), key.id.clone()));
        if let Some(RequestKey { id, hash }) = key.clone() {
            let outcome = CreationOutcome::Pending(awaited.clone());
            state.creations.insert((creator.clone(), id), Creation { hash, outcome });
        }
        let Wanted { game, shape, seed, empty_timeout, spectator_delay, label, attributes, visibility: _ } = wanted;
        state.pending.push(Pending {
            name: name.clone(),
            creator: creator.clone(),
            game: game.name().to_owned(),
            is_public: visibility.is_public(),
            attributes: attributes.clone(),
            max_players: shape.max_players,
            waiting: first.into_iter().collect(),
        });
        let terms = SessionTerms {
            visibility,
            attributes,
            label,
            empty_timeout: Some(empty_timeout),
            spectator_delay,
            creation: Some(session::Creation { creator: creator.clone(), request: key }),
        };
        info!(session = %name, %creator, label = terms.label, "a session is being created");
        let origin = Origin::Seed(seed.unwrap_or_else(random_seed));
        let order = SessionOrder { name: name.clone(), origin, shape, terms, place: Place::Next };
        let (lobby, shared) = (Arc::clone(self), Arc::clone(shared));
        let (asked_for, kept) = (name.clone(), call.clone());
        let made = self.host.make(move || {
            let publish = |session: &Arc<SessionHandle>| lobby.publish(&shared, session);
            let started = catch_unwind(AssertUnwindSafe(|| lobby.host.start(order, game, publish)));
            let outcome = match started {
                Ok(Ok(session)) => Ok(session),
                Ok(Err(error)) => Err(request::not_started(&name, error)),
                Err(_) => {
                    error!(session = %name, "creating a session panicked; this is a bug in Tickwire");
                    Err(Refusal::new(Code::Internal, "FAILED", "the session could not be created"))
                }
            };
            lobby.settle(&name, call, &outcome);
            tell.send_replace(Some(outcome));
        });
        if let Err(error) = made {
            state.pending.retain(|pending| pending.name != asked_for);
            kept.map(|call| state.creations.remove(&call));
            return Err(request::not_started(&asked_for, StartError::Thread(error)));
        }
        Ok(awaited)
    }

    /// A session has started: those who wait for it have their seats before anybody can see it, and are told once they can.
    fn publish(&self, shared: &Shared, session: &Arc<SessionHandle>) {
        let mut state = self.lock();
        let pending = state.pending.iter().position(|pending| pending.name == session.name);
        let waiting = pending.map(|i| state.pending.swap_remove(i).waiting).unwrap_or_default();
        let seat = |Waiting { teller, permit }| {
            let reserved = session.seats.reserve(session, &shared.reservations, std::time::Instant::now());
            if let (Some(reservation), Some(permit)) = (&reserved, permit) {
                reservation.hold(permit);
            }
            (teller, reserved.ok_or_else(|| session::full(session, false)))
        };
        let seated: Vec<_> = waiting.into_iter().map(seat).collect();
        self.host.registry.insert(session);
        for (teller, seat) in seated {
            teller.send_replace(Some(seat));
        }
    }

    /// Notes what has become of a creation.
    fn settle(
        &self,
        name: &SessionName,
        call: Option<(Creator, String)>,
        outcome: &Result<Arc<SessionHandle>, Refusal>,
    ) {
        let mut state = self.lock();
        match outcome {
            Ok(_) => {
                if let Some(creation) = call.and_then(|call| state.creations.get_mut(&call)) {
                    creation.outcome = CreationOutcome::Created { name: name.clone(), forget_at: None };
                }
            }
            Err(refusal) => {
                // The same call may come again, and do better.
                call.map(|call| state.creations.remove(&call));
                let pending = state.pending.iter().position(|pending| pending.name == *name);
                for Waiting { teller, .. } in pending.map(|i| state.pending.swap_remove(i).waiting).unwrap_or_default()
                {
                    teller.send_replace(Some(Err(refusal.clone())));
                }
            }
        }
    }

    fn check_room(&self, shared: &Shared, state: &State, creator: &Creator) -> Result<(), Refusal> {
        if !self.host.config.create_sessions {
            let message = "callers create no sessions on this server: join one of ListSessions";
            return Err(Refusal::new(Code::PermissionDenied, "CREATION_OFF", message));
        }
        let limits = shared.limits();
        let listing = self.host.registry.all();
        let running = listing.iter().filter(|session| session.runs()).count() + state.pending.len();
        if running >= limits.sessions_max {
            let message = format!("{running} sessions run, which is the most on this server");
            return Err(Refusal::new(Code::ResourceExhausted, "SESSIONS", message).retry_after(RETRY));
        }
        let is_theirs = |session: &&Arc<SessionHandle>| {
            session.runs() && session.terms.creation.as_ref().is_some_and(|creation| creation.creator == *creator)
        };
        let theirs = listing.iter().filter(is_theirs).count()
            + state.pending.iter().filter(|pending| pending.creator == *creator).count();
        if theirs >= limits.sessions_per_creator_max {
            let message = format!("{theirs} sessions of yours run, which is the most for one creator: end one");
            return Err(Refusal::new(Code::ResourceExhausted, "SESSIONS_OF_CREATOR", message).retry_after(RETRY));
        }
        if state.pending.len() >= PENDING_MAX {
            let message = format!("{PENDING_MAX} sessions are being created already");
            return Err(Refusal::new(Code::ResourceExhausted, "BUSY", message).retry_after(BUSY_RETRY));
        }
        Ok(())
    }

    fn is_taken(&self, state: &State, name: &SessionName) -> bool {
        let registry = &self.host.registry;
        registry.get(name).is_some()
            || registry.buried(name).is_some()
            || state.pending.iter().any(|pending| pending.name == *name)
    }

    fn free_name(&self, state: &State, game: &str) -> Result<SessionName, Refusal> {
        loop {
            let mut bytes = [0; ID_CHARS];
            fill(&mut bytes)?;
            let id: String = bytes.iter().map(|byte| ID_ALPHABET[usize::from(byte % 32)] as char).collect();
            let name = SessionName::of_id(&format!("{game}-{id}")).expect("a game's name is part of an id");
            if !self.is_taken(state, &name) {
                return Ok(name);
            }
        }
    }

    fn free_code(&self) -> Result<JoinCode, Refusal> {
        loop {
            let code = JoinCode::random().ok_or_else(no_randomness)?;
            let visibility = Visibility::ByCode(code);
            if !self.host.registry.all().iter().any(|session| session.terms.visibility == visibility) {
                return Ok(code);
            }
        }
    }

    /// Ends a session, for who has created it.
    pub(super) async fn end(
        &self,
        shared: &Shared,
        caller: &Creator,
        request: pb::EndSessionRequest,
    ) -> Result<pb::Session, Refusal> {
        let name = name_of(&request.name)?;
        request::check_result(&request.result_json)?;
        let Some(session) = shared.registry.get(&name) else {
            return shared.registry.buried_for(&name, Some(caller)).ok_or_else(|| not_found(&name));
        };
        check_creator(&session, caller)?;
        finish(&session, request.result_json).await;
        Ok(describe_to_creator(shared, &session))
    }

    /// Ends a session where it runs, for who has created it, and forgets it.
    pub(super) async fn delete(
        &self,
        shared: &Shared,
        caller: &Creator,
        request: &pb::DeleteSessionRequest,
    ) -> Result<(), Refusal> {
        let name = name_of(&request.name)?;
        if let Some(session) = shared.registry.get(&name) {
            check_creator(&session, caller)?;
            finish(&session, String::new()).await;
            self.unmake(&session, caller);
            return Ok(());
        }
        match shared.registry.exhume(&name, caller) {
            Some(true) => Ok(()),
            Some(false) => Err(not_creator(&name)),
            None => Err(not_found(&name)),
        }
    }
}

/// What has begun by a call.
enum Begun {
    Awaited(Awaited<Arc<SessionHandle>>),
    Created(SessionName),
}

/// Ends a session, and waits until its recording is closed; not for one that is stuck.
async fn finish(session: &SessionHandle, result_json: String) {
    session.finish(SessionEnding { result_json, ..SessionEnding::of(pb::SessionEndCause::Requested) });
    tokio::select! {
        () = session.over() => {}
        () = session.gets_stuck() => {}
    }
}

fn check_creator(session: &SessionHandle, caller: &Creator) -> Result<(), Refusal> {
    match &session.terms.creation {
        Some(creation) if creation.creator == *caller => Ok(()),
        Some(_) => Err(not_creator(&session.name)),
        None => {
            let message = format!("{} was started with the server: its operator ends it", session.name);
            Err(Refusal::new(Code::PermissionDenied, "NOT_CREATOR", message).field("name"))
        }
    }
}

fn not_creator(name: &SessionName) -> Refusal {
    let message = format!("{name} is another's: only who has created a session ends it");
    Refusal::new(Code::PermissionDenied, "NOT_CREATOR", message).field("name")
}

fn has_ended(name: &SessionName) -> Refusal {
    let message = format!("the call has created {name}, which has ended: take another id for another session");
    Refusal::new(Code::FailedPrecondition, "SESSION_ENDED", message).field("request_id")
}

fn no_randomness() -> Refusal {
    Refusal::new(Code::Unavailable, "NO_RANDOMNESS", "the server's operating system has no randomness")
}

fn fill(bytes: &mut [u8]) -> Result<(), Refusal> {
    getrandom::fill(bytes).map_err(|error| {
        error!(%error, "no randomness for a session's id");
        no_randomness()
    })
}
