//! What all threads share of a session.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use tickwire_proto::v1 as pb;
use tickwire_recording::EndReason;
use tickwire_replication::Replicator;
use tickwire_shared::{Schema, Tick, TickRate};
use tokio::sync::{Notify, watch};
use tracing::{error, warn};

use super::{
    SeatLedger, SessionCounters, SessionName, SessionTerms, TickClock,
    live::LiveEdge,
    mailbox::Mailbox,
    oust::SeatTable,
    pause::{NotStepped, PauseSwitch},
    recording::RecordingWatch,
    threads::{TaskHandle, Watched},
};
use crate::{chat::Room, limits::Quota, log_fields::micros, net::Relay, notices::Notices};

/// What all threads share of a session. Its world belongs to the one that steps it.
#[derive(Debug)]
pub(crate) struct SessionHandle {
    pub(crate) name: SessionName,
    /// Its number in the order in which sessions were asked for.
    pub(crate) place: u32,
    pub(crate) terms: SessionTerms,
    pub(crate) schema: Arc<Schema>,
    /// The schema as Welcome carries it.
    pub(crate) schema_message: pb::Schema,
    /// In the schema's order, in quanta.
    pub(crate) settings: Vec<i32>,
    pub(crate) tick_rate: TickRate,
    pub(crate) epoch: u32,
    pub(crate) max_players: u32,
    pub(crate) create_time: SystemTime,
    pub(crate) replicator: Replicator,
    pub(crate) clock: TickClock,
    pub(crate) mailbox: Mailbox,
    /// One per network thread.
    pub(crate) relays: Vec<Arc<Relay>>,
    pub(crate) counters: Arc<SessionCounters>,
    pub(crate) recording: RecordingWatch,
    /// What spectators see.
    pub(crate) live: LiveEdge,
    /// Which seats are free.
    pub(crate) seats: SeatLedger,
    /// Who talks, and what was said.
    pub(crate) chat: Room,
    /// What admins see and do.
    pub(crate) control: SessionControl,
    pub(super) state: AtomicU8,
    /// Of a session that has been ended.
    pub(super) ending: OnceLock<SessionEnding>,
    /// When it ceased to run.
    pub(super) end_time: OnceLock<SystemTime>,
    /// Whether it is over, and its recording closed.
    pub(super) over: watch::Sender<bool>,
    pub(super) seats_taken: AtomicU32,
    /// Whether a tick takes so long that it may never end.
    pub(super) stuck: watch::Sender<bool>,
    /// Has it step early, once it is scheduled.
    pub(super) task: OnceLock<TaskHandle>,
    /// Rings for the server's housekeeper when the session ends, gets stuck or goes on.
    pub(super) changed: Arc<Notify>,
    /// Rings whenever what is told of sessions may have changed.
    pub(super) news: Arc<watch::Sender<()>>,
}

/// A session in the hands of admins.
#[derive(Debug, Default)]
pub(crate) struct SessionControl {
    pub(crate) pause: PauseSwitch,
    pub(crate) seats: SeatTable,
    /// Of the session.
    pub(crate) notices: Notices,
}

/// Why a session has been ended, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionEnding {
    pub(crate) cause: pb::SessionEndCause,
    /// As JSON; empty: nothing.
    pub(crate) result_json: String,
    /// What players are told of an end that an admin has brought about.
    pub(crate) termination: Option<String>,
}

impl SessionEnding {
    /// An end without a result.
    pub(crate) fn of(cause: pb::SessionEndCause) -> Self {
        Self { cause, result_json: String::new(), termination: None }
    }
}

/// What a session does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum SessionState {
    Running = 0,
    /// It has been stopped: the server shuts down.
    Stopped = 1,
    /// Its game panicked.
    Failed = 2,
    /// It has come to its end: by its game, by a call, or for want of players.
    Ended = 3,
}

impl SessionHandle {
    /// What the session does.
    pub(crate) fn state(&self) -> SessionState {
        match self.state.load(Ordering::Acquire) {
            0 => SessionState::Running,
            1 => SessionState::Stopped,
            2 => SessionState::Failed,
            _ => SessionState::Ended,
        }
    }

    /// How the session has come to its end; `None` while it runs.
    pub(crate) fn ending(&self) -> Option<SessionEnding> {
        let cause = match self.state() {
            SessionState::Running => return None,
            SessionState::Stopped => pb::SessionEndCause::Shutdown,
            SessionState::Failed => pb::SessionEndCause::Failed,
            SessionState::Ended => return self.ending.get().cloned(),
        };
        Some(SessionEnding::of(cause))
    }

    /// When it ceased to run.
    pub(crate) fn end_time(&self) -> Option<SystemTime> {
        self.end_time.get().copied()
    }

    /// What it has ended with, as JSON; empty: nothing.
    pub(crate) fn result_json(&self) -> &str {
        self.ending.get().map_or("", |ending| &ending.result_json)
    }

    /// Waits until the session is over, and its recording closed; one that is stuck may never be.
    pub(crate) async fn over(&self) {
        // The sender is this very handle's.
        let _ = self.over.subscribe().wait_for(|over| *over).await;
    }

    /// Whether the session is over, and its recording closed.
    pub(crate) fn is_over(&self) -> bool {
        *self.over.borrow()
    }

    /// What is told of the session may have changed.
    pub(crate) fn note_news(&self) {
        self.news.send_replace(());
    }

    /// Seats taken, those of lost connections within their grace period among them.
    pub(crate) fn seats_taken(&self) -> u32 {
        self.seats_taken.load(Ordering::Acquire)
    }

    /// Whether a tick takes so long that it may never end.
    pub(crate) fn is_stuck(&self) -> bool {
        *self.stuck.borrow()
    }

    /// Whether it has stopped or failed.
    pub(crate) fn has_ended(&self) -> bool {
        self.state() != SessionState::Running
    }

    /// Whether it can be played.
    pub(crate) fn runs(&self) -> bool {
        self.state() == SessionState::Running && !self.is_stuck()
    }

    /// Waits until the session is stuck.
    pub(crate) async fn gets_stuck(&self) {
        // The sender is this very handle's.
        let _ = self.stuck.subscribe().wait_for(|stuck| *stuck).await;
    }

    /// Ends the session with its server: it stops before the next tick, and its streams say goodbye.
    pub(crate) fn stop(&self) {
        self.end(SessionState::Stopped);
        self.expedite();
    }

    /// Ends the session: as [`stop`](Self::stop), while its server goes on. False: it has ended already.
    pub(crate) fn finish(&self, ending: SessionEnding) -> bool {
        let is_first = self.state() == SessionState::Running && self.ending.set(ending).is_ok();
        if is_first {
            self.end(SessionState::Ended);
            self.expedite();
        }
        is_first
    }

    /// What players are told of an end that an admin has brought about.
    pub(crate) fn termination(&self) -> Option<&str> {
        self.ending.get().and_then(|ending| ending.termination.as_deref())
    }

    /// Has the session stand still, or go on.
    pub(crate) fn set_paused(&self, paused: bool) {
        self.control.pause.set(paused);
        self.expedite();
    }

    /// Has a session that stands still step some ticks.
    pub(crate) fn step(&self, ticks: u32) -> Result<(), NotStepped> {
        self.control.pause.step(ticks)?;
        self.expedite();
        Ok(())
    }

    fn expedite(&self) {
        if let Some(task) = self.task.get() {
            task.expedite();
        }
    }

    /// Leaves the running state, once.
    pub(super) fn end(&self, state: SessionState) {
        self.end_time.get_or_init(SystemTime::now);
        let running = SessionState::Running as u8;
        // The state that came first stays.
        let _ = self.state.compare_exchange(running, state as u8, Ordering::AcqRel, Ordering::Acquire);
        self.changed.notify_one();
        self.note_news();
        self.chat.end();
        self.wake_streams();
        self.live.note_end();
    }

    /// The session is over, and its recording closed.
    pub(super) fn note_over(&self) {
        self.over.send_replace(true);
        self.note_news();
    }

    /// Counts an overrun, and has it logged each time that the count doubles: a session that is always late does not fill the
    /// log. The times are how late the tick began, and how long it took.
    pub(super) fn note_overrun(&self, tick: Tick, late: Duration, took: Duration) {
        let overruns = self.counters.overruns.fetch_add(1, Ordering::Relaxed) + 1;
        if overruns.is_power_of_two() {
            let (late_us, took_us) = (micros(late), micros(took));
            warn!(tick = tick.0, overruns, late_us, took_us, "a tick overran its time");
        }
    }

    /// As [`note_overrun`](Self::note_overrun): the clock has slipped by so much, and in all.
    pub(super) fn note_slip(&self, tick: Tick, by: Duration, in_all: Duration) {
        let slips = self.counters.slips.fetch_add(1, Ordering::Relaxed) + 1;
        let (by_us, in_all_us) = (micros(by), micros(in_all));
        self.counters.slip_us.store(in_all_us, Ordering::Relaxed);
        if slips.is_power_of_two() {
            warn!(tick = tick.0, slips, by_us, in_all_us, "the tick loop is late; its clock slips");
        }
    }

    /// One wake-up per network thread; each wakes its own streams.
    pub(crate) fn wake_streams(&self) {
        for relay in &self.relays {
            relay.notify();
        }
        self.live.note_step();
    }

    /// The tick that the session has come to; where its end is shown, that it would have come to by now.
    pub(crate) fn tick_by_now(&self) -> Tick {
        self.live.since_last(Instant::now()).map_or_else(|| self.clock.tick(), |(tick, _)| tick)
    }

    /// The time since that tick was due; while the session stands still, until it did so.
    pub(crate) fn phase_by_now(&self) -> Duration {
        let now = Instant::now();
        let phase = || Duration::from_micros(self.clock.phase_us(now).into());
        self.live.since_last(now).map_or_else(phase, |(_, phase)| phase)
    }

    /// Has those who see it late see its end as late as all else, unless an admin has ended it, or the server ends; or nobody
    /// watches. What nobody is to see is told at once.
    pub(super) fn begin_tail(&self, reason: &EndReason, tails: &Arc<Quota>) {
        let is_shown = match reason {
            EndReason::Ended { .. } => self.termination().is_none(),
            EndReason::Failed { .. } => true,
            _ => false,
        };
        let is_watched = self.live.delay_ticks() > 0 && self.live.spectators() > 0;
        if !is_shown || !is_watched {
            return self.live.note_out();
        }
        // A tick that has failed may have taken long.
        let (now, since_due) = (Instant::now(), self.phase_by_now().min(self.tick_rate.duration_of(1)));
        self.live.begin_tail(self.clock.tick(), now.checked_sub(since_due).unwrap_or(now), tails);
    }

    /// Whether it has ended, and those who see it late are still to see that. Nobody waits for a game that does not come back
    /// from its last tick.
    pub(crate) fn plays_out(&self) -> bool {
        let may_have_tail = match self.state() {
            SessionState::Running | SessionState::Stopped => false,
            SessionState::Failed => true,
            SessionState::Ended => self.termination().is_none(),
        };
        let is_coming = || self.live.last().is_some() || !self.is_stuck();
        may_have_tail
            && self.live.delay_ticks() > 0
            && !self.live.is_out()
            && self.live.problem().is_none()
            && is_coming()
    }

    /// Whether spectators are to see more of it: of its end, as long as any are there, and it takes.
    pub(crate) fn has_more_to_show(&self) -> bool {
        let is_watched = || self.live.spectators() > 0 && !self.live.is_past_end(Instant::now());
        self.state() == SessionState::Running || self.plays_out() && is_watched()
    }

    /// The newest tick that spectators may see.
    pub(crate) fn live_tick(&self) -> Tick {
        let late = |late: Arc<Replicator>| late.newest().tick.min(self.live.due(self.tick_by_now()));
        self.live.late().map_or_else(|| self.clock.tick(), late)
    }

    /// Whether live spectators may see their newest frame by now: not at once where the session goes on after a crash, which
    /// has taken those that are old enough.
    pub(crate) fn is_live_due(&self) -> bool {
        self.live.late().is_none_or(|late| late.newest().tick <= self.live.due(self.tick_by_now()))
    }

    /// The newest tick that stands in the recording whole.
    pub(crate) fn recorded_tick(&self) -> Tick {
        // Before the recorder's lag, so that what is left is written.
        let newest = self.clock.tick();
        if self.is_over() {
            return newest;
        }
        let lag = self.recording.status().map_or(newest.0, |status| status.lag_ticks);
        // The newest of them may be without its result yet.
        Tick(newest.0.saturating_sub(lag + 1))
    }
}

impl Drop for SessionHandle {
    fn drop(&mut self) {
        // All streams hold the session: none is left.
        self.relays.iter().for_each(|relay| relay.close());
    }
}

impl Watched for SessionHandle {
    fn set_stuck(&self, stuck: bool) {
        self.counters.stuck.fetch_add(u64::from(stuck), Ordering::Relaxed);
        self.stuck.send_replace(stuck);
        self.changed.notify_one();
        self.note_news();
    }

    fn report(&self, stuck: bool) {
        let tick = self.clock.tick().next();
        if stuck {
            error!(session = %self.name, tick = tick.0, "the game does not come back from a tick: others take over its thread");
        } else {
            warn!(session = %self.name, "the game has come back from a tick at last: its session goes on");
        }
    }
}
