//! A spectator's stream: composes late, as a player's does, from wherever the spectator stands.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use prost::Message as _;
use tickwire_proto::v1::{self as pb, server_message::Kind};
use tickwire_replication::{InputFeedback, Replicator, Snapshot};
use tickwire_shared::Tick;
use tokio::{sync::watch, time::sleep_until};
use tonic::{Code, Status};
use tracing::{Span, debug};

use super::{
    past::{Outcome, Past, PastState},
    source::Source,
    spectator::{Spectator, Stand, State},
    spectators::Listing,
};
use crate::{
    limits::Permit,
    metrics::{LOST, PeerKind, of_goodbye},
    notices::Told as ToldNotices,
    server::{Phase, Shared},
    session::{SessionHandle, SessionState},
    status::Refusal,
};

/// A spectator's stream.
pub(super) struct SpectatorStream {
    spectator: Arc<Spectator>,
    /// Until it is sent.
    welcome: Option<Box<pb::Welcome>>,
    /// Which notices have been sent.
    notices: ToldNotices,
    /// What the spectator was told last of what may change by itself.
    told: Option<Told>,
    live: Option<watch::Receiver<()>>,
    past: Option<(Arc<Past>, watch::Receiver<PastState>)>,
    /// How often the spectator was told that the past could not go somewhere.
    refusals_told: u64,
    phase: watch::Receiver<Phase>,
    /// The goodbye has been sent, and this comes after it.
    status: Option<Status>,
    is_over: bool,
    snapshot: Snapshot,
    end: End,
    /// Log lines of the stream belong to it.
    span: Span,
    _places: Places,
}

/// Counts the stream's end, however that comes.
struct End {
    shared: Arc<Shared>,
    reason: &'static str,
}

impl Drop for End {
    fn drop(&mut self) {
        self.shared.peer_counters.ends.note((PeerKind::Spectator, self.reason));
    }
}

/// What a stream takes up for as long as it is there: its token, its part of the session's quota, and of the connection's.
pub(super) type Places = (Listing, Option<Seat>, Option<Permit>);

/// A spectator's part of a session's quota.
pub(super) struct Seat(pub(super) Arc<SessionHandle>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.live.dismiss();
    }
}

/// What is to be sent next.
enum Next {
    Message(Bytes),
    End(pb::Goodbye, Status, &'static str),
    /// Nothing before something happens, or this time comes.
    Wait(Option<Instant>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Told {
    speed: f64,
    paused: bool,
    ended: bool,
}

/// Where the stream stands now.
struct Place {
    tick: Tick,
    /// Since the tick was due.
    phase: Duration,
    slip_us: i64,
    told: Told,
}

impl SpectatorStream {
    pub(super) fn new(spectator: Arc<Spectator>, welcome: pb::Welcome, places: Places, span: Span) -> Self {
        let live = spectator.source.session().map(|session| session.live.subscribe());
        let shared = Arc::clone(&spectator.shared);
        let phase = shared.phase.subscribe();
        let session_notices = spectator.source.session().map(|session| &session.control.notices);
        let notices = ToldNotices::newcomer(&shared.notices, session_notices);
        Self {
            spectator,
            welcome: Some(Box::new(welcome)),
            notices,
            told: None,
            live,
            past: None,
            refusals_told: 0,
            phase,
            status: None,
            is_over: false,
            snapshot: Snapshot::default(),
            end: End { shared, reason: LOST },
            span,
            _places: places,
        }
    }

    /// Its messages, as bytes.
    pub(super) fn messages(self) -> impl Stream<Item = Result<Bytes, Status>> + Send {
        stream::unfold(self, |mut stream| async move {
            let message = stream.next().await?;
            Some((message, stream))
        })
    }

    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        if self.is_over {
            return None;
        }
        if let Some(status) = self.status.take() {
            self.is_over = true;
            return (status.code() != Code::Ok).then_some(Err(status));
        }
        loop {
            match self.look(Instant::now()) {
                Next::Message(bytes) => return Some(Ok(bytes)),
                Next::End(goodbye, status, reason) => {
                    self.end.reason = reason;
                    self.span.in_scope(|| debug!(status = status.message(), "a spectator has gone"));
                    self.status = Some(status);
                    return Some(Ok(encoded(Kind::Goodbye(goodbye))));
                }
                Next::Wait(due) => self.wait(due).await,
            }
        }
    }

    /// Waits until something has happened since [`look`](Self::look), or until `due`.
    async fn wait(&mut self, due: Option<Instant>) {
        let Self { spectator, live, past, phase, .. } = self;
        let stepped = changed(live.as_mut());
        let played = changed(past.as_mut().map(|(_, past)| past));
        let is_due = async {
            match due {
                Some(due) => sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = spectator.called() => {}
            () = stepped => {}
            () = played => {}
            () = is_due => {}
            () = changed(Some(phase)) => {}
        }
    }

    /// What there is to send now.
    fn look(&mut self, now: Instant) -> Next {
        if let Some(welcome) = self.welcome.take() {
            return Next::Message(encoded(Kind::Welcome(*welcome)));
        }
        // What changes from here on is looked at again.
        if let Some(live) = &mut self.live {
            live.borrow_and_update();
        }
        if *self.phase.borrow_and_update() == Phase::Ending {
            return shut_down();
        }
        let spectator = Arc::clone(&self.spectator);
        let session = spectator.source.session();
        if let Some(end) = session.filter(|session| !session.plays_out()).and_then(|session| end_of(session)) {
            return end;
        }
        let session_notices = session.map(|session| &session.control.notices);
        if let Some(notice) = self.notices.next(&spectator.shared.notices, session_notices) {
            return Next::Message(encoded(Kind::Notice(notice)));
        }
        let mut state = spectator.lock();
        if state.leaves {
            return said(pb::GoodbyeReason::Left, "you left", Status::ok(""));
        }
        let place = match self.find_place(&spectator, &mut state) {
            Ok(Some(place)) => place,
            Ok(None) => return Next::Wait(None),
            Err(end) => return end,
        };
        if let Some(echo) = state.pings.pop_front() {
            let phase_us = u32::try_from(place.phase.as_micros()).unwrap_or(u32::MAX);
            let pong = pb::Pong { echo, tick: place.tick.0, phase_us, slip_us: place.slip_us };
            return Next::Message(encoded(Kind::Pong(pong)));
        }
        if state.is_untold || self.told != Some(place.told) {
            state.is_untold = false;
            self.told = Some(place.told);
            return Next::Message(encoded(Kind::WatchState(watch_state(&spectator.source, &state, &place))));
        }
        if let (Stand::Live(_), Some(session)) = (&state.stand, session)
            && session.live.last().is_some_and(|last| place.tick >= last)
        {
            if state.view.sent() >= place.tick
                && let Some(end) = end_of(session)
            {
                return end;
            }
            state.view.end();
        }
        self.compose(&spectator, &mut state, &place, now)
    }

    fn compose(&mut self, spectator: &Spectator, state: &mut State, place: &Place, now: Instant) -> Next {
        let since_start = spectator.since_start(now);
        let is_due = match (&state.stand, &spectator.source) {
            (Stand::Live(_), Source::Session(session)) => session.is_live_due(),
            _ => true,
        };
        let has_news = is_due && state.view.sent() < place.tick;
        if has_news {
            let State { view, stand, .. } = state;
            let replicator: &Replicator = match (stand, &spectator.source) {
                (Stand::Past(stretch), _) => &stretch.replicator,
                (Stand::Live(Some(late)), _) => late,
                (Stand::Live(None), Source::Session(session)) => &session.replicator,
                (Stand::Nowhere | Stand::Live(None), _) => return Next::Wait(None),
            };
            let feedback = InputFeedback { slip_us: place.slip_us, ..InputFeedback::default() };
            let is_composed = view.compose_into(replicator, feedback, since_start, &mut self.snapshot);
            spectator.shared.spectator_snapshots.note_view(view.take_counts());
            if is_composed {
                let mut bytes = Vec::with_capacity(self.snapshot.server_message_len());
                self.snapshot.encode_server_message(&mut bytes);
                spectator.shared.spectator_snapshots.note_sent(&self.snapshot, 0);
                self.snapshot.clear();
                return Next::Message(bytes.into());
            }
        }
        let timeouts = &spectator.shared.timeouts;
        let rests = matches!(state.stand, Stand::Past(_)) && (place.told.paused || place.told.ended);
        // Since the spectator has steered, or the newest tick has come: whichever was later.
        let rested_since = now.checked_sub(place.phase).map_or(now, |since| since.max(state.steered_at));
        let idle = rests.then(|| rested_since + timeouts.replay_idle);
        if idle.is_some_and(|idle| now >= idle) {
            return rests_too_long(timeouts.replay_idle);
        }
        let patience = timeouts.unacknowledged;
        let unread = state.view.credit().unacknowledged_since().map(|since| spectator.instant(since) + patience);
        if unread.is_some_and(|unread| now >= unread) {
            return not_reading(patience);
        }
        // What there were no bytes for is tried again in the time of a tick: where it stands still, nothing else tells.
        let again = has_news.then(|| now + spectator.source.tick_rate().duration_of(1));
        Next::Wait([unread, again, idle].into_iter().flatten().min())
    }

    /// Finds out where the stream stands now, and has the view jump where that is elsewhere. `None`: nowhere yet.
    fn find_place(&mut self, spectator: &Spectator, state: &mut State) -> Result<Option<Place>, Next> {
        self.follow_past(state);
        let past = self.look_at_past(spectator, state)?;
        let stand = match &past {
            Some(PastState { stretch: Some(stretch), .. }) => Stand::Past(Arc::clone(stretch)),
            // It goes on where it is until it is there.
            Some(_) => state.stand.clone(),
            None => match spectator.source.session() {
                Some(session) => Stand::Live(session.live.late()),
                None => Stand::Nowhere,
            },
        };
        if !stand.is(&state.stand) {
            state.jumps += u32::from(!matches!(state.stand, Stand::Nowhere));
            state.view.jump();
            state.stand = stand;
            state.is_untold = true;
        }
        let session = spectator.source.session();
        Ok(match (&state.stand, past, session) {
            (Stand::Live(_), _, Some(session)) => Some(live_place(session)),
            (Stand::Past(_), Some(past), _) => Some(past_place(&past)),
            _ => None,
        })
    }

    /// How the past stands that the spectator is in, or goes to; where it has come to the live edge, or cannot go on, they
    /// leave it.
    fn look_at_past(&mut self, spectator: &Spectator, state: &mut State) -> Result<Option<PastState>, Next> {
        let Some((past, receiver)) = &mut self.past else { return Ok(None) };
        let found = receiver.borrow_and_update().clone();
        if let Some(first) = found.first_left {
            state.first_left = first;
        }
        if found.refused.times > self.refusals_told {
            self.refusals_told = found.refused.times;
            state.problem.clone_from(&found.refused.reason);
            state.is_untold = true;
        }
        let is_of_session = spectator.source.session().is_some();
        match &found.outcome {
            Outcome::Failed(reason) if !is_of_session => return Err(broken(reason)),
            Outcome::Failed(reason) => {
                state.problem.clone_from(reason);
                state.is_untold = true;
                state.leave_past();
                return Ok(None);
            }
            Outcome::CaughtUp if is_of_session && past.is_content() => {
                state.leave_past();
                return Ok(None);
            }
            Outcome::CaughtUp | Outcome::Plays | Outcome::Ended => {}
        }
        Ok(Some(found))
    }

    /// Listens to where the spectator is going.
    fn follow_past(&mut self, state: &State) {
        let is_known = match (&self.past, &state.past) {
            (Some((known, _)), Some(past)) => Arc::ptr_eq(known, past),
            (None, None) => true,
            _ => false,
        };
        if !is_known {
            self.past = state.past.as_ref().map(|past| (Arc::clone(past), past.subscribe()));
            self.refusals_told = 0;
        }
    }
}

/// Waits for a change; for ever where there is nothing that could, any more.
async fn changed<T>(receiver: Option<&mut watch::Receiver<T>>) {
    if let Some(receiver) = receiver
        && receiver.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

fn live_place(session: &SessionHandle) -> Place {
    Place {
        tick: session.live_tick(),
        phase: session.phase_by_now(),
        slip_us: session.clock.slip_us(),
        told: Told { speed: 1.0, paused: false, ended: false },
    }
}

fn past_place(past: &PastState) -> Place {
    let ended = past.outcome == Outcome::Ended;
    Place {
        tick: past.tick,
        phase: past.since.elapsed(),
        slip_us: 0,
        told: Told { speed: past.speed, paused: past.paused, ended },
    }
}

fn watch_state(source: &Source, state: &State, place: &Place) -> pb::WatchState {
    pb::WatchState {
        tick: place.tick.0,
        speed: place.told.speed,
        paused: place.told.paused,
        live: matches!(state.stand, Stand::Live(_)),
        first_tick: if source.has_past() { source.first().max(state.first_left).0 } else { 0 },
        last_tick: source.newest().0,
        delay_ticks: source.session().map_or(0, |session| session.live.delay_ticks()),
        jumps: state.jumps,
        ended: place.told.ended,
        problem: state.problem.clone(),
    }
}

/// How a session has ended, or why nothing more is shown of it.
fn end_of(session: &SessionHandle) -> Option<Next> {
    match session.state() {
        SessionState::Running => {}
        SessionState::Stopped => return Some(shut_down()),
        SessionState::Ended => {
            if let Some(text) = session.termination() {
                let refusal = Refusal::new(Code::Aborted, "TERMINATED", format!("{}: {text}", session.name));
                return Some(said(pb::GoodbyeReason::Terminated, text, refusal.into()));
            }
            let text = match session.live.problem() {
                Some(problem) => format!("the session has come to its end, of which not all could be shown: {problem}"),
                None => "the session has come to its end".to_owned(),
            };
            let goodbye = goodbye(pb::GoodbyeReason::SessionEnded, &text);
            let goodbye = pb::Goodbye { result_json: session.result_json().to_owned(), ..goodbye };
            return Some(Next::End(goodbye, Status::ok(""), of_goodbye(pb::GoodbyeReason::SessionEnded)));
        }
        SessionState::Failed => {
            let text = "the game of this session failed; its recording replays to the failure";
            let refusal = Refusal::new(Code::Aborted, "SESSION_FAILED", format!("{}: {text}", session.name));
            return Some(said(pb::GoodbyeReason::SessionFailed, text, refusal.into()));
        }
    }
    session.live.problem().map(broken)
}

fn shut_down() -> Next {
    said(pb::GoodbyeReason::Shutdown, "the server is shutting down", Refusal::shutting_down().into())
}

fn broken(reason: &str) -> Next {
    let text = format!("the recording cannot be played on: {reason}");
    let goodbye = goodbye(pb::GoodbyeReason::SessionFailed, &text);
    refused(goodbye, Refusal::new(Code::DataLoss, "REPLAY_FAILED", text))
}

fn not_reading(patience: Duration) -> Next {
    let text = format!("no snapshot was acknowledged for {patience:?}: read the stream, and call Acknowledge");
    let goodbye = goodbye(pb::GoodbyeReason::Unspecified, &text);
    refused(goodbye, Refusal::new(Code::DeadlineExceeded, "NOT_READING", text))
}

/// An end of which the goodbye says all.
fn said(reason: pb::GoodbyeReason, text: &str, status: Status) -> Next {
    Next::End(goodbye(reason, text), status, of_goodbye(reason))
}

/// An end of which the refusal says more than the goodbye.
fn refused(goodbye: pb::Goodbye, refusal: Refusal) -> Next {
    let reason = refusal.reason;
    Next::End(goodbye, refusal.into(), reason)
}

fn rests_too_long(patience: Duration) -> Next {
    let text = format!("you have rested in the past for {patience:?}, where others want to go: watch again");
    let goodbye = goodbye(pb::GoodbyeReason::Unspecified, &text);
    refused(goodbye, Refusal::new(Code::DeadlineExceeded, "REPLAY_IDLE", text))
}

fn goodbye(reason: pb::GoodbyeReason, text: &str) -> pb::Goodbye {
    pb::Goodbye { reason: reason.into(), text: text.into(), ..pb::Goodbye::default() }
}

fn encoded(kind: Kind) -> Bytes {
    pb::ServerMessage { kind: Some(kind) }.encode_to_vec().into()
}
