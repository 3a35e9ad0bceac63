//! One spectator, as their stream and their calls share it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tickwire_replication::{Follow, Replicator, View, ViewConfig};
use tickwire_shared::{PlayerId, Tick};
use tokio::sync::{Notify, watch};
use tonic::Code;

use super::{
    past::{Past, Stretch},
    source::Source,
    words::{self, Control, Word},
};
use crate::{
    limits::{NoPlace, Place},
    play::MessageRate,
    server::Shared,
    session::Granted,
    status::Refusal,
};

/// Pings that wait for their pong; of more, the newest.
const PINGS_MAX: usize = 8;
/// When somebody who finds all replays taken may try again.
const REPLAYS_RETRY: Duration = Duration::from_secs(5);

/// As many replays may one spectator have at once, all but the newest of which are ending: a thread ends when its tick does.
const LEAVING_MAX: usize = 4;

/// A spectator.
#[derive(Debug)]
pub(super) struct Spectator {
    pub(super) shared: Arc<Shared>,
    pub(super) source: Source,
    /// What views call `now` is counted from here.
    started: Instant,
    state: Mutex<State>,
    /// A call has changed something.
    called: Notify,
    /// Closed with it: what else is of the spectator ends, too.
    closing: watch::Sender<()>,
}

/// What the stream and the calls share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) view: View,
    pub(super) stand: Stand,
    /// Where the spectator is, or is going; none: live.
    pub(super) past: Option<Arc<Past>>,
    /// The spectator's place among those in the past: for as long as it is there, or is leaving.
    place: Place,
    pub(super) jumps: u32,
    /// The spectator is to be told where the stream stands.
    pub(super) is_untold: bool,
    /// Why it is not where it was sent to.
    pub(super) problem: String,
    /// The first tick that there was when it was in the past last.
    pub(super) first_left: Tick,
    /// Echoes of pings without a pong.
    pub(super) pings: VecDeque<u64>,
    pub(super) leaves: bool,
    /// When the spectator last wanted to be elsewhere.
    pub(super) steered_at: Instant,
    rate: MessageRate,
}

/// What the view was composed from last.
#[derive(Clone, Debug)]
pub(super) enum Stand {
    Nowhere,
    /// On the session's own frames, or on these late ones.
    Live(Option<Arc<Replicator>>),
    Past(Arc<Stretch>),
}

impl Stand {
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nowhere, Self::Nowhere) | (Self::Live(None), Self::Live(None)) => true,
            (Self::Live(Some(a)), Self::Live(Some(b))) => Arc::ptr_eq(a, b),
            (Self::Past(a), Self::Past(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl Spectator {
    pub(super) fn new(shared: Arc<Shared>, source: Source, granted: &Granted, follow: Option<PlayerId>) -> Self {
        let view = ViewConfig {
            player: None,
            view_radius: granted.view_radius,
            tick_rate: source.tick_rate(),
            ticks_per_snapshot: granted.ticks_per_snapshot,
            bytes_per_second: Some(granted.bytes_per_second),
            in_flight_bytes_max: source.replication().in_flight_bytes_max,
        };
        let limits = shared.limits();
        let state = State {
            view: View::of_spectator(view, followed(follow)),
            stand: Stand::Nowhere,
            past: None,
            place: Place::default(),
            jumps: 0,
            is_untold: true,
            problem: String::new(),
            first_left: Tick::ZERO,
            pings: VecDeque::new(),
            leaves: false,
            steered_at: Instant::now(),
            rate: MessageRate::new(limits.messages_per_second_max, limits.messages_burst_max),
        };
        Self {
            shared,
            source,
            started: Instant::now(),
            state: Mutex::new(state),
            called: Notify::new(),
            closing: watch::Sender::new(()),
        }
    }

    /// Is closed with the spectator's stream.
    pub(super) fn closing(&self) -> watch::Receiver<()> {
        self.closing.subscribe()
    }

    /// Waits until a call has changed something.
    pub(super) async fn called(&self) {
        self.called.notified().await;
    }

    pub(super) fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    pub(super) fn instant(&self, since_start: Duration) -> Instant {
        self.started + since_start
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Composing asks the game, which may panic. That ends the stream.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the spectator says. `jumps`: the newest state that it has received.
    pub(super) fn take(&self, words: &[Word], jumps: u32) -> Result<(), Refusal> {
        let (now, mut state) = (self.since_start(Instant::now()), self.lock());
        let limits = self.shared.limits();
        state.rate.adopt(limits.messages_per_second_max, limits.messages_burst_max);
        for word in words {
            if !state.rate.allows(now) {
                let most = limits.messages_per_second_max;
                let message = format!("more than {most} messages per second");
                return Err(Refusal::new(Code::ResourceExhausted, "FLOODING", message));
            }
            match *word {
                Word::Ack { epoch, newest_tick } => state.acknowledge(epoch, newest_tick, jumps, now)?,
                Word::Ping { echo } => state.ping(echo),
                Word::Resync => state.view.resync(),
                Word::Leave => state.leaves = true,
                Word::Control(control) => self.steer(&mut state, control)?,
            }
        }
        self.called.notify_one();
        Ok(())
    }

    fn steer(&self, state: &mut State, control: Control) -> Result<(), Refusal> {
        match control {
            Control::Follow(player) => state.view.follow(followed(player)),
            Control::Live => self.go_live(state)?,
            Control::Seek(tick) => self.seek(state, tick)?,
            Control::Speed(speed) => match &state.past {
                Some(past) => past.set_speed(speed),
                // The live edge cannot be outrun.
                None if speed >= 1.0 => {}
                None => drop(self.go_back(state, self.source.newest(), speed, false)?),
            },
            Control::Paused(paused) => match &state.past {
                Some(past) => past.set_paused(paused),
                None if paused => drop(self.go_back(state, self.source.newest(), 1.0, true)?),
                None => {}
            },
            Control::Step(ticks) => {
                let past = match &state.past {
                    Some(past) => Arc::clone(past),
                    None => self.go_back(state, self.source.newest(), 1.0, true)?,
                };
                past.set_paused(true);
                match u32::try_from(ticks) {
                    Ok(ticks) => past.step(ticks),
                    Err(_) => past.seek(Tick(past.tick().0.saturating_sub(ticks.unsigned_abs().into()).max(1))),
                }
            }
        }
        state.is_untold = true;
        state.steered_at = Instant::now();
        state.problem.clear();
        Ok(())
    }

    fn go_live(&self, state: &mut State) -> Result<(), Refusal> {
        if self.source.session().is_none() {
            let message = "a recording has no live edge: seek to a tick";
            return Err(Refusal::new(Code::FailedPrecondition, "NOT_LIVE", message).field("watch_control.live"));
        }
        state.leave_past();
        Ok(())
    }

    fn seek(&self, state: &mut State, tick: Tick) -> Result<(), Refusal> {
        let first = self.source.first();
        if tick < first {
            return Err(words::before_first(tick, first, "watch_control.seek_tick"));
        }
        if self.source.session().is_some() && tick >= self.source.newest() {
            return self.go_live(state);
        }
        match &state.past {
            Some(past) => past.seek(tick),
            None => drop(self.go_back(state, tick, 1.0, false)?),
        }
        Ok(())
    }

    /// Begins to play the past.
    pub(super) fn go_back(
        &self,
        state: &mut State,
        tick: Tick,
        speed: f64,
        paused: bool,
    ) -> Result<Arc<Past>, Refusal> {
        let open = self.source.opener().ok_or_else(|| {
            let message = format!("{} is not recorded: only its live edge can be watched", self.source.name());
            Refusal::new(Code::FailedPrecondition, "NOT_RECORDED", message)
        })?;
        let most = self.shared.limits().replays_max;
        let place = state.place.take(&self.shared.replays, most, LEAVING_MAX).map_err(|none| {
            let message = match none {
                NoPlace::Full => format!("{most} spectators of this server are in the past, which is the most"),
                NoPlace::StillLeaving => format!("this spectator is still leaving the past, {LEAVING_MAX} times over"),
            };
            Refusal::new(Code::ResourceExhausted, "REPLAYS", message).retry_after(REPLAYS_RETRY)
        })?;
        let past = Past::begin(tick.max(Tick(1)), speed, paused, place, open).map_err(|error| {
            Refusal::new(Code::ResourceExhausted, "THREADS", format!("no thread for a replay: {error}"))
        })?;
        state.past = Some(Arc::clone(&past));
        Ok(past)
    }
}

impl State {
    fn acknowledge(&mut self, epoch: u32, newest_tick: Tick, jumps: u32, now: Duration) -> Result<(), Refusal> {
        // Of another time: calls are on their way while the stream jumps.
        if jumps != self.jumps {
            return Ok(());
        }
        self.view.acknowledge(epoch, newest_tick, now).map_err(|error| {
            let message =
                format!("{} is newer than {}, the newest tick sent on this stream", error.acknowledged, error.sent);
            Refusal::new(Code::InvalidArgument, "ACK_BEYOND_SENT", message).field("newest_tick")
        })
    }

    fn ping(&mut self, echo: u64) {
        if self.pings.len() == PINGS_MAX {
            self.pings.pop_front();
        }
        self.pings.push_back(echo);
    }

    /// Comes back to the live edge.
    pub(super) fn leave_past(&mut self) {
        if let Some(past) = self.past.take() {
            past.stop();
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.leave_past();
    }
}

fn followed(player: Option<PlayerId>) -> Follow {
    player.map_or(Follow::All, Follow::Player)
}
