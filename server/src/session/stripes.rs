//! A seat with its streams: one, or several stripes, which share turns, budget, and what is known of the player's inputs.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Instant,
};

use tickwire_replication::{AckError, InputFeedback, STRIPES_MAX, Snapshot, Turns, TurnsConfig, View, ViewConfig};
use tickwire_shared::{PlayerId, Tick};

use super::{
    HeldSeat, Inputs, Ousted, SeatGuard, SessionHandle, StreamCounters,
    oust::StreamFacts,
    tokens::{AttachTokens, Ending, Token, TokenId},
};

/// What a player was granted, for all stripes together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Granted {
    pub(crate) view_radius: f64,
    pub(crate) ticks_per_snapshot: u32,
    pub(crate) bytes_per_second: u32,
    /// On how many stripes each snapshot goes.
    pub(crate) copies: u32,
    /// 1 to four.
    pub(crate) stripes_max: usize,
}

/// A player's seat and streams, for one sitting: the seat is lost with the last of them, and who resumes it has others.
#[derive(Debug)]
pub(crate) struct Stripes {
    pub(crate) session: Arc<SessionHandle>,
    pub(crate) granted: Granted,
    held: Arc<HeldSeat>,
    player: PlayerId,
    sitting: u32,
    tokens: Arc<AttachTokens>,
    /// Taken after the lock of a stream, where both are.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// None once the last stream is gone.
    seat: Option<SeatGuard>,
    /// The player has left, and the seat goes once what they sent is consumed.
    leaving: bool,
    /// An input has come, so that the client has what it was given last.
    is_confirmed: bool,
    turns: Turns,
    feedback: InputFeedback,
    received: Received,
    /// The number of the newest snapshot, on whatever stripe.
    newest_turn: u64,
    token: Option<TokenId>,
}

/// One stream's part in it. Dropped, the stream is lost.
#[derive(Debug)]
pub(crate) struct Stripe {
    stripes: Arc<Stripes>,
    number: usize,
    /// Once it is known where it comes from.
    facts: Option<Arc<StreamFacts>>,
    /// It is out of the rotation, and its number may be another's.
    is_closed: bool,
}

/// Why a stream is not attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttachError {
    /// The player has left, or lost all streams, or has resumed by another.
    Ended,
    /// There are as many as may be.
    Full,
}

/// Whether a player's streams are about to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Going {
    /// They go on.
    On,
    /// The player has left, by any of them.
    Leaving,
    /// The seat was resumed by others.
    Displaced,
}

/// How a stream that the client has closed goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// It is over; the player has others.
    Stripe,
    /// It was the player's last: the seat is given up.
    Seat,
}

/// The sequences of the newest inputs that arrived, so that their repeats on other stripes go no further.
#[derive(Clone, Copy, Debug, Default)]
struct Received {
    newest: u64,
    /// Bit i: `newest` − i has arrived.
    window: u64,
}

impl Stripes {
    /// A sitting that is taken up by its first stream; with it the token that lets others in, where there may be any.
    pub(crate) fn take_up(
        mut seat: SeatGuard,
        granted: Granted,
        tokens: &Arc<AttachTokens>,
    ) -> (Stripe, Option<Token>) {
        seat.take_up();
        let held = Arc::clone(seat.seat());
        let (session, player, sitting) = (Arc::clone(&held.session), held.player, seat.sitting());
        let mut turns = Turns::new(TurnsConfig {
            tick_rate: session.tick_rate,
            ticks_per_snapshot: granted.ticks_per_snapshot,
            copies: granted.copies,
            bytes_per_second: Some(granted.bytes_per_second),
        });
        let number = turns.open(STRIPES_MAX).expect("the first of four");
        let state = State {
            seat: Some(seat),
            leaving: false,
            // Only who has resumed has two tokens.
            is_confirmed: sitting == 0,
            turns,
            feedback: InputFeedback::default(),
            received: Received::default(),
            newest_turn: 0,
            token: None,
        };
        session.counters.players.fetch_add(1, Ordering::Relaxed);
        let tokens = Arc::clone(tokens);
        let stripes = Arc::new(Self { session, granted, held, player, sitting, tokens, state: Mutex::new(state) });
        let issued = (granted.stripes_max > 1).then(|| stripes.tokens.issue(Arc::downgrade(&stripes))).flatten();
        let token = issued.map(|(key, token)| {
            stripes.lock().token = Some(key.id);
            token
        });
        (Stripe { stripes, number, facts: None, is_closed: false }, token)
    }

    /// Takes a further stream in.
    pub(crate) fn attach(self: &Arc<Self>) -> Result<Stripe, AttachError> {
        let mut state = self.lock();
        if state.going() != Going::On {
            return Err(AttachError::Ended);
        }
        let number = state.turns.open(self.granted.stripes_max).ok_or(AttachError::Full)?;
        drop(state);
        Ok(Stripe { stripes: Arc::clone(self), number, facts: None, is_closed: false })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Composing asks the game, which may panic. That ends the connection, and no more than that.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn going(&self) -> Going {
        match &self.seat {
            Some(seat) if seat.is_displaced() => Going::Displaced,
            Some(_) if !self.leaving => Going::On,
            // Without a seat there is no stream left to go on.
            Some(_) | None => Going::Leaving,
        }
    }

    fn leave(&mut self) {
        self.leaving = true;
        if let Some(seat) = &mut self.seat {
            seat.leave();
        }
    }
}

impl Stripe {
    /// Whose.
    pub(crate) fn player(&self) -> PlayerId {
        self.stripes.player
    }

    /// Of which sitting of the player's.
    pub(crate) fn sitting(&self) -> u32 {
        self.stripes.sitting
    }

    /// Says where the stream comes from.
    pub(crate) fn come_from(&mut self, address: SocketAddr) {
        self.facts = Some(self.stripes.held.facts.note_stream(address));
    }

    /// Takes the player out, with all streams.
    pub(crate) fn oust(&self, ousted: Ousted) {
        self.stripes.held.oust(ousted);
    }

    /// That the player has been taken out.
    pub(crate) fn ousted(&self) -> Option<&Ousted> {
        self.stripes.held.ousted()
    }

    /// Its number among the player's, from 0.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// A view for this stream: nothing sent yet.
    pub(crate) fn view(&self) -> View {
        let Stripes { session, granted, player, .. } = &*self.stripes;
        View::new(ViewConfig {
            player: Some(*player),
            view_radius: granted.view_radius,
            tick_rate: session.tick_rate,
            ticks_per_snapshot: granted.ticks_per_snapshot,
            // It is the player's, over all stripes.
            bytes_per_second: None,
            in_flight_bytes_max: session.replicator.config().in_flight_bytes_max,
        })
    }

    /// Composes the stream's next snapshot, where it has the turn, and counts that.
    pub(crate) fn compose(
        &self,
        view: &mut View,
        now: Instant,
        snapshot: &mut Snapshot,
        counters: &StreamCounters,
    ) -> bool {
        let session = &self.stripes.session;
        let mut state = self.stripes.lock();
        let feedback = InputFeedback { slip_us: session.clock.slip_us(), ..state.feedback };
        let now = session.clock.since_start(now);
        let is_composed =
            view.compose_in_turn(&mut state.turns, self.number, &session.replicator, feedback, now, snapshot);
        if is_composed {
            let turn = snapshot.tick.0 / u64::from(self.stripes.granted.ticks_per_snapshot.max(1));
            let gone_by = turn.saturating_sub(state.newest_turn + 1);
            state.newest_turn = state.newest_turn.max(turn);
            // Before a stream's first snapshot nothing was due.
            counters.note_sent(snapshot, if snapshot.reset { 0 } else { gone_by });
        }
        drop(state);
        counters.note_view(view.take_counts());
        is_composed
    }

    /// Takes in what the client has received of this stream, and with inputs how the newest of them came: sequence, and
    /// margin in µs. What has come by another stripe before is taken out of `inputs`; how many that are. A player with one
    /// stream repeats nothing of which the session is not to know.
    pub(crate) fn acknowledge(
        &self,
        view: &mut View,
        epoch: u32,
        newest_tick: Tick,
        input: Option<(u64, i32)>,
        inputs: &mut Inputs,
        now: Instant,
    ) -> Result<u64, AckError> {
        let mut state = self.stripes.lock();
        let now = self.stripes.session.clock.since_start(now);
        view.acknowledge_in_turn(&mut state.turns, self.number, epoch, newest_tick, now)?;
        if let (Some(facts), Some(round_trip)) = (&self.facts, view.credit().round_trip_min()) {
            facts.note_round_trip(round_trip);
        }
        // First arrival counts, on whatever stripe.
        if let Some((sequence, margin_us)) = input.filter(|(sequence, _)| *sequence > state.feedback.received_input) {
            state.feedback.received_input = sequence;
            state.feedback.received_margin_us = margin_us;
        }
        // With the first inputs the token before the newest is good for nothing any more.
        if input.is_some()
            && !std::mem::replace(&mut state.is_confirmed, true)
            && let Some(seat) = &state.seat
        {
            seat.confirm();
        }
        let has_others = state.turns.count() > 1;
        let before = inputs.len();
        inputs.retain(|input| state.received.is_new(input.sequence()) || !has_others);
        Ok((before - inputs.len()) as u64)
    }

    /// Gives the seat up, once what the player has sent is consumed. All of the player's streams go on until then.
    pub(crate) fn leave(&self) {
        self.stripes.lock().leave();
    }

    /// The client closes this stream: it goes out of the rotation, or with the last one the player leaves.
    pub(crate) fn close(&mut self) -> Closed {
        let mut state = self.stripes.lock();
        if state.turns.count() > 1 && !state.leaving {
            state.turns.close(self.number);
            self.is_closed = true;
            Closed::Stripe
        } else {
            state.leave();
            Closed::Seat
        }
    }

    /// Whether the player's streams are about to end.
    pub(crate) fn going(&self) -> Going {
        self.stripes.lock().going()
    }
}

impl Drop for Stripe {
    fn drop(&mut self) {
        if let Some(facts) = self.facts.take() {
            self.stripes.held.facts.forget(&facts);
        }
        if self.is_closed {
            return;
        }
        let mut state = self.stripes.lock();
        state.turns.close(self.number);
        if state.turns.count() > 0 {
            if state.going() == Going::On {
                self.stripes.session.counters.stripes_lost.fetch_add(1, Ordering::Relaxed);
            }
            return;
        }
        self.stripes.session.counters.players.fetch_sub(1, Ordering::Relaxed);
        let (seat, token) = (state.seat.take(), state.token.take());
        drop(state);
        // Outside the lock: both go to the locks of others.
        drop(seat);
        if let Some(token) = token {
            self.stripes.tokens.retire(token, Ending::Lost);
        }
    }
}

impl Received {
    const WINDOW: u64 = 64;

    /// Notes a sequence. Those that are too old for the window may be new.
    fn is_new(&mut self, sequence: u64) -> bool {
        if sequence > self.newest {
            let by = sequence - self.newest;
            self.window = if by < Self::WINDOW { self.window << by } else { 0 } | 1;
            self.newest = sequence;
            return true;
        }
        let back = self.newest - sequence;
        if back >= Self::WINDOW {
            return true;
        }
        let bit = 1 << back;
        let is_new = self.window & bit == 0;
        self.window |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_known_whatever_their_order() {
        let mut received = Received::default();
        let news = [1, 2, 5, 3, 2, 5, 4, 4, 70, 5, 7, 7, 6].map(|sequence| received.is_new(sequence));
        // 5 and 6 are too old to be known by then.
        let expected = [true, true, true, true, false, false, true, false, true, true, true, false, true];
        assert_eq!(news, expected);
        assert!(received.is_new(u64::MAX) && !received.is_new(u64::MAX) && received.is_new(70));
    }
}
