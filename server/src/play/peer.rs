//! What the two directions of a stream share. Both run in one task, so its lock is never waited for.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use tickwire_proto::v1::{self as pb, server_message::Kind};
use tickwire_replication::{AckError, View};
use tonic::{Code, Status};
use tracing::{
    Span, error_span,
    field::{Empty, display},
};

use super::{PLAY, parse::Ack};
use crate::{
    metrics::{Arrival, LET_IN, LOST, PeerKind, of_goodbye},
    net::Connection,
    notices::Told,
    server::Shared,
    session::{Closed, Inputs, SessionHandle, Stripe},
};

/// Pings that wait for their pong; of more, the newest.
const PINGS_MAX: usize = 8;

/// One stream, as its two directions share it.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) shared: Arc<Shared>,
    pub(super) connection: Arc<Connection>,
    /// Its log lines belong to it.
    pub(super) span: Span,
    session: OnceLock<Arc<SessionHandle>>,
    stage: Mutex<Stage>,
    /// How it has come, once that is known.
    arrival: OnceLock<Arrival>,
    /// Why it ends, once it does.
    end: OnceLock<&'static str>,
    /// The status that it has ended with.
    status: OnceLock<Code>,
}

/// How far a stream has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// Nothing to send before Hello.
    Arriving,
    Playing(Box<Playing>),
    /// The last message, where there is one; then the status.
    Ending(Option<Box<Kind>>, Status),
    Ended,
}

/// A stream that plays.
#[derive(Debug)]
pub(super) struct Playing {
    pub(super) stripe: Stripe,
    pub(super) view: View,
    /// Until it is sent.
    pub(super) welcome: Option<Box<pb::Welcome>>,
    /// Echoes of pings without a pong.
    pub(super) pings: VecDeque<u64>,
    /// Which notices have been sent.
    pub(super) told: Told,
}

/// Whether a peer is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Liveness {
    /// Ask again then.
    Alive { check_at: Instant },
    /// No byte has come for so long.
    Silent(Duration),
    /// Nothing has been acknowledged, or there was no room for anything, for so long.
    NotReading(Duration),
}

impl Peer {
    pub(super) fn new(shared: Arc<Shared>, connection: Arc<Connection>) -> Self {
        shared.streams.fetch_add(1, Ordering::Relaxed);
        let span = error_span!(parent: &connection.span, "play", session = Empty, player = Empty);
        Self {
            shared,
            connection,
            span,
            session: OnceLock::new(),
            stage: Mutex::new(Stage::Arriving),
            arrival: OnceLock::new(),
            end: OnceLock::new(),
            status: OnceLock::new(),
        }
    }

    /// The session, once the peer plays.
    pub(super) fn session(&self) -> Option<&Arc<SessionHandle>> {
        self.session.get()
    }

    /// Notes how it comes.
    pub(super) fn note_arrival(&self, arrival: Arrival) {
        // A stream says hello once.
        let _ = self.arrival.set(arrival);
    }

    /// Notes why it ends. Only the first reason counts: the others follow from it.
    pub(super) fn note_end(&self, reason: &'static str) {
        let _ = self.end.set(reason);
    }

    /// Notes the status that it has ended with.
    pub(super) fn note_status(&self, code: Code) {
        let _ = self.status.set(code);
    }

    /// Begins to play.
    pub(super) fn play(&self, session: Arc<SessionHandle>, playing: Playing) {
        let mut stage = self.lock();
        if matches!(*stage, Stage::Arriving) {
            self.span.record("session", display(&session.name));
            self.span.record("player", playing.stripe.player().0);
            // A stream arrives once.
            let _ = self.session.set(session);
            self.shared.peer_counters.joins.note((self.arrived_by(), LET_IN));
            *stage = Stage::Playing(Box::new(playing));
        }
    }

    /// Takes in what the client has received, and how the newest of its inputs came. What has come by another of the
    /// player's streams before is taken out of `inputs`; how many that are.
    pub(super) fn acknowledge(
        &self,
        ack: Ack,
        input: Option<(u64, i32)>,
        inputs: &mut Inputs,
        now: Instant,
    ) -> Result<u64, AckError> {
        let Stage::Playing(playing) = &mut *self.lock() else { return Ok(0) };
        playing.stripe.acknowledge(&mut playing.view, ack.epoch, ack.newest_tick, input, inputs, now)
    }

    /// Owes a pong.
    pub(super) fn ping(&self, echo: u64) {
        if let Stage::Playing(playing) = &mut *self.lock() {
            if playing.pings.len() == PINGS_MAX {
                playing.pings.pop_front();
            }
            playing.pings.push_back(echo);
        }
    }

    /// The client's mirror cannot be trusted: the next snapshot starts it anew.
    pub(super) fn resync(&self) {
        if let Stage::Playing(playing) = &mut *self.lock() {
            playing.view.resync();
        }
    }

    /// Gives the seat up, once what the client has sent is consumed. The player's streams go on until then.
    pub(super) fn leave(&self) {
        if let Stage::Playing(playing) = &mut *self.lock() {
            playing.stripe.leave();
        }
    }

    /// The client has closed this stream: with the player's last one the seat is given up, as by [`leave`](Self::leave); of
    /// several it ends alone, now. True: the seat is given up.
    pub(super) fn close(&self) -> bool {
        let mut stage = self.lock();
        let Stage::Playing(playing) = &mut *stage else { return false };
        let closed = playing.stripe.close();
        if closed == Closed::Stripe {
            self.note_end(of_goodbye(pb::GoodbyeReason::StripeClosed));
            let goodbye = pb::Goodbye {
                reason: pb::GoodbyeReason::StripeClosed.into(),
                text: "you play on".into(),
                ..pb::Goodbye::default()
            };
            *stage = Stage::Ending(Some(Box::new(Kind::Goodbye(goodbye))), Status::ok(""));
        }
        closed == Closed::Seat
    }

    /// Ends the stream of a client that broke a rule: it is there, and has played, so that with its last stream the seat goes.
    pub(super) fn expel(&self, status: Status) {
        if let Stage::Playing(playing) = &mut *self.lock() {
            playing.stripe.close();
        }
        self.end(status);
    }

    /// Ends the stream, if it has not ended. A seat that was not given up counts as lost.
    pub(super) fn end(&self, status: Status) {
        let mut stage = self.lock();
        let last = match &mut *stage {
            Stage::Arriving => None,
            // Who was let in is told so, however short the stay.
            Stage::Playing(playing) => playing.welcome.take().map(|welcome| Box::new(Kind::Welcome(*welcome))),
            Stage::Ending(..) | Stage::Ended => return,
        };
        *stage = Stage::Ending(last, status);
    }

    /// Whether the peer is there, judged by what comes from it: a write that succeeds proves nothing. Something to send has had
    /// no room since `no_room_since`.
    pub(super) fn liveness(&self, heard_at: Instant, no_room_since: Option<Instant>, now: Instant) -> Liveness {
        let timeouts = &self.shared.timeouts;
        let silent_at = heard_at + timeouts.silence;
        if now >= silent_at {
            return Liveness::Silent(timeouts.silence);
        }
        let unread_since = self.unacknowledged_since().into_iter().chain(no_room_since).min();
        match unread_since.map(|since| since + timeouts.unacknowledged) {
            Some(at) if now >= at => Liveness::NotReading(timeouts.unacknowledged),
            Some(at) => Liveness::Alive { check_at: at.min(silent_at) },
            // Nothing is unacknowledged or waits now: what is sent from now on can be too old only then.
            None => Liveness::Alive { check_at: silent_at.min(now + timeouts.unacknowledged) },
        }
    }

    fn arrived_by(&self) -> Arrival {
        self.arrival.get().copied().unwrap_or(Arrival::Unknown)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Stage> {
        // Composing asks the game, which may panic. That ends the connection, and takes the stage apart as it is.
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unacknowledged_since(&self) -> Option<Instant> {
        let session = self.session()?;
        let Stage::Playing(playing) = &*self.lock() else { return None };
        playing.view.credit().unacknowledged_since().map(|since| session.clock.instant(since))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let end = self.end.get().copied().unwrap_or(LOST);
        let Shared { peer_counters, requests, .. } = &*self.shared;
        match self.session() {
            Some(_) => peer_counters.ends.note((PeerKind::Player, end)),
            None => peer_counters.joins.note((self.arrived_by(), end)),
        }
        requests.note(PLAY, self.status.get().copied());
        self.shared.streams.fetch_sub(1, Ordering::Relaxed);
        self.shared.something_ended.notify_one();
    }
}
