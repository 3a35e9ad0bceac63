//! What all threads share of a session.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use tickwire_proto::v1 as pb;
use tickwire_replication::Replicator;
use tickwire_shared::{Schema, Tick, TickRate};
use tokio::sync::{Notify, watch};
use tracing::{error, warn};

use super::{
    SessionCounters, SessionName, TickClock,
    live::LiveEdge,
    mailbox::Mailbox,
    recording::RecordingWatch,
    threads::{TaskHandle, Watched},
};
use crate::net::Relay;

/// What all threads share of a session. Its world belongs to the one that steps it.
#[derive(Debug)]
pub(crate) struct SessionHandle {
    pub(crate) name: SessionName,
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
    pub(super) state: AtomicU8,
    pub(super) seats_taken: AtomicU32,
    /// Whether a tick takes so long that it may never end.
    pub(super) stuck: watch::Sender<bool>,
    /// Has it step early, once it is scheduled.
    pub(super) task: OnceLock<TaskHandle>,
    /// Rings for the server's housekeeper when the session ends, gets stuck or goes on.
    pub(super) changed: Arc<Notify>,
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
}

impl SessionHandle {
    /// What the session does.
    pub(crate) fn state(&self) -> SessionState {
        match self.state.load(Ordering::Acquire) {
            0 => SessionState::Running,
            1 => SessionState::Stopped,
            _ => SessionState::Failed,
        }
    }

    /// Seats taken, those of lost connections within their grace period among them.
    pub(crate) fn seats_taken(&self) -> u32 {
        self.seats_taken.load(Ordering::Acquire)
    }

    /// Whether a tick takes so long that it may never end.
    pub(crate) fn is_stuck(&self) -> bool {
        *self.stuck.borrow()
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

    /// Ends the session: it stops before the next tick, and its streams say goodbye.
    pub(crate) fn stop(&self) {
        self.end(SessionState::Stopped);
        if let Some(task) = self.task.get() {
            task.expedite();
        }
    }

    /// Leaves the running state, once.
    pub(super) fn end(&self, state: SessionState) {
        let running = SessionState::Running as u8;
        // The state that came first stays.
        let _ = self.state.compare_exchange(running, state as u8, Ordering::AcqRel, Ordering::Acquire);
        self.changed.notify_one();
        self.wake_streams();
    }

    /// Counts an overrun, and has it logged each time that the count doubles: a session that is always late does not fill the
    /// log. The times are how late the tick began, and how long it took.
    pub(super) fn note_overrun(&self, tick: Tick, late: Duration, took: Duration) {
        let overruns = self.counters.overruns.fetch_add(1, Ordering::Relaxed) + 1;
        if overruns.is_power_of_two() {
            warn!(%tick, overruns, ?late, ?took, "a tick overran its time");
        }
    }

    /// As [`note_overrun`](Self::note_overrun): the clock has slipped by so much, and in all.
    pub(super) fn note_slip(&self, tick: Tick, by: Duration, in_all: Duration) {
        let slips = self.counters.slips.fetch_add(1, Ordering::Relaxed) + 1;
        self.counters.slip_us.store(u64::try_from(in_all.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if slips.is_power_of_two() {
            warn!(%tick, slips, ?by, ?in_all, "the tick loop is late; its clock slips");
        }
    }

    /// One wake-up per network thread; each wakes its own streams.
    pub(crate) fn wake_streams(&self) {
        for relay in &self.relays {
            relay.notify();
        }
        self.live.note_step();
    }

    /// The newest tick that spectators may see.
    pub(crate) fn live_tick(&self) -> Tick {
        let newest = self.clock.tick();
        self.live.late().map_or(newest, |late| late.newest().tick.min(self.live.due(newest)))
    }

    /// Whether live spectators may see their newest frame by now: not at once where the session goes on after a crash, which
    /// has taken those that are old enough.
    pub(crate) fn is_live_due(&self) -> bool {
        self.live.late().is_none_or(|late| late.newest().tick <= self.live.due(self.clock.tick()))
    }

    /// What live spectators' snapshots are composed from.
    pub(crate) fn live_replicator(&self) -> &Replicator {
        self.live.late().unwrap_or(&self.replicator)
    }

    /// The newest tick that stands in the recording whole.
    pub(crate) fn recorded_tick(&self) -> Tick {
        // Before the recorder's lag, so that what is left is written.
        let newest = self.clock.tick();
        let lag = self.recording.status().map_or(newest.0, |status| status.lag_ticks);
        // The newest of them may be without its result yet.
        Tick(newest.0.saturating_sub(lag + 1))
    }
}

impl Watched for SessionHandle {
    fn set_stuck(&self, stuck: bool) {
        self.counters.stuck.fetch_add(u64::from(stuck), Ordering::Relaxed);
        self.stuck.send_replace(stuck);
        self.changed.notify_one();
    }

    fn report(&self, stuck: bool) {
        let tick = self.clock.tick().next();
        if stuck {
            error!(session = %self.name, %tick, "the game does not come back from a tick: others take over its thread");
        } else {
            warn!(session = %self.name, "the game has come back from a tick at last: its session goes on");
        }
    }
}
