//! `SessionService`: the server's sessions, for whoever asks.

use std::sync::{Arc, atomic::Ordering};

use tickwire_proto::v1::{
    GetSessionRequest, ListSessionsRequest, ListSessionsResponse, RecordingState, RecordingStatus, Session,
    SessionState, session_service_server,
};
use tickwire_recording::{RecorderState, RecorderStatus};
use tonic::{Code, Request, Response, Status, async_trait};

use crate::{
    server::{Phase, Shared},
    session::{self, SessionHandle, SessionName, SessionNameError},
    status::Refusal,
};

const PAGE_SIZE_DEFAULT: usize = 50;
const PAGE_SIZE_MAX: usize = 1000;

/// `tickwire.v1.SessionService`.
#[derive(Debug)]
pub(crate) struct Sessions {
    shared: Arc<Shared>,
}

impl Sessions {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn get(&self, request: &GetSessionRequest) -> Result<Session, Refusal> {
        let malformed = |error: SessionNameError| {
            Refusal::new(Code::InvalidArgument, "MALFORMED_NAME", error.to_string()).field("name")
        };
        let name: SessionName = request.name.parse().map_err(malformed)?;
        let not_found =
            || Refusal::new(Code::NotFound, "NOT_FOUND", format!("there is no {name} on this server")).field("name");
        let hosted = || self.hosted().filter(|hosted| hosted.name == name.to_string());
        self.shared.registry.get(&name).map(|session| self.describe(&session)).or_else(hosted).ok_or_else(not_found)
    }

    fn list(&self, request: ListSessionsRequest) -> Result<ListSessionsResponse, Refusal> {
        let ListSessionsRequest { page_size, page_token, game } = request;
        let page_size = match page_size as usize {
            0 => PAGE_SIZE_DEFAULT,
            // More than the most is the most, as everywhere among Google's APIs.
            size => size.min(PAGE_SIZE_MAX),
        };
        let after = match page_token.as_str() {
            "" => None,
            token => Some(token.parse().map_err(|_| {
                let message = "this is no page's token: pass the next_page_token of the last answer";
                Refusal::new(Code::InvalidArgument, "UNKNOWN_PAGE_TOKEN", message).field("page_token")
            })?),
        };
        let wanted = |session: &&Arc<SessionHandle>| game.is_empty() || session.schema.game == game;
        let listing = self.shared.registry.all();
        let mut rest = listing.after(after.as_ref()).filter(wanted).peekable();
        let page: Vec<&Arc<SessionHandle>> = rest.by_ref().take(page_size).collect();
        let next_page_token = match (page.last(), rest.peek()) {
            (Some(last), Some(_)) => last.name.to_string(),
            _ => String::new(),
        };
        let hosted = self.hosted().filter(|hosted| after.is_none() && (game.is_empty() || hosted.game == game));
        let sessions = page.into_iter().map(|session| self.describe(session)).chain(hosted).collect();
        Ok(ListSessionsResponse { sessions, next_page_token })
    }

    /// A recording that is shown as if it were a session.
    fn hosted(&self) -> Option<Session> {
        let tape = &self.shared.hosted.as_ref()?.tape;
        let meta = tape.meta();
        Some(Session {
            name: meta.session.clone(),
            game: meta.schema.game.clone(),
            state: SessionState::Ended.into(),
            tick: tape.last().0,
            tick_rate: meta.tick_rate.hz(),
            epoch: meta.epoch,
            max_players: meta.max_players,
            create_time: Some(meta.created.into()),
            settings: meta.settings.clone(),
            ..Session::default()
        })
    }

    fn describe(&self, session: &SessionHandle) -> Session {
        let state = describe_state(&self.shared, session);
        Session {
            name: session.name.to_string(),
            game: session.schema.game.clone(),
            state: state.into(),
            tick: session.clock.tick().0,
            tick_rate: session.tick_rate.hz(),
            epoch: session.epoch,
            players: session.seats_taken(),
            max_players: session.max_players,
            create_time: Some(session.create_time.into()),
            settings: session.settings.clone(),
            overruns: session.counters.overruns.load(Ordering::Relaxed),
            slips: session.counters.slips.load(Ordering::Relaxed),
            inputs_late: session.counters.inputs_late.load(Ordering::Relaxed),
            inputs_repeated: session.counters.inputs_repeated.load(Ordering::Relaxed),
            inputs_absent: session.counters.inputs_absent.load(Ordering::Relaxed),
            // After the tick, so that the two of them bound what a kill would lose.
            recording: session.recording.status().map(describe_recording),
        }
    }
}

/// What a session does, as far as it concerns who might join.
pub(crate) fn describe_state(shared: &Shared, session: &SessionHandle) -> SessionState {
    let draining = *shared.phase.borrow() != Phase::Serving;
    match session.state() {
        session::SessionState::Running if session.is_stuck() => SessionState::Stuck,
        session::SessionState::Running if draining => SessionState::Draining,
        session::SessionState::Running => SessionState::Running,
        session::SessionState::Stopped => SessionState::Ended,
        session::SessionState::Failed => SessionState::Failed,
    }
}

pub(crate) fn describe_recording(status: RecorderStatus) -> RecordingStatus {
    let state = match status.state {
        RecorderState::Running => RecordingState::Running,
        RecorderState::Behind => RecordingState::Behind,
        RecorderState::Stopped => RecordingState::Stopped,
        RecorderState::Limited => RecordingState::Limited,
        RecorderState::Closed => RecordingState::Closed,
    };
    RecordingStatus {
        state: state.into(),
        problem: status.problem.unwrap_or_default(),
        lag_ticks: status.lag_ticks,
        lag_bytes: status.lag_bytes,
        unsynced_ticks: status.unsynced_ticks,
        unsynced_bytes: status.unsynced_bytes,
        bytes: status.bytes,
        failures: status.failures,
    }
}

#[async_trait]
impl session_service_server::SessionService for Sessions {
    async fn get_session(&self, request: Request<GetSessionRequest>) -> Result<Response<Session>, Status> {
        Ok(Response::new(self.get(request.get_ref())?))
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner())?))
    }
}
