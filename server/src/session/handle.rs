//! What all threads share of a session.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tickwire_proto::v1 as pb;
use tickwire_replication::Replicator;
use tickwire_shared::{Schema, Tick, TickRate};
use tickwire_simulation::InputCounters;
use tokio::sync::{Notify, watch};
use tracing::{error, warn};

use super::{
    SessionName, TickClock,
    live::LiveEdge,
    mailbox::Mailbox,
    oust::SeatTable,
    pause::{NotStepped, PauseSwitch},
    recording::RecordingWatch,
    threads::{TaskHandle, Watched},
};
use crate::{net::Relay, notices::Notices};

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
    pub(crate) counters: SessionCounters,
    pub(crate) recording: RecordingWatch,
    /// What spectators see.
    pub(crate) live: LiveEdge,
    /// What admins see and do.
    pub(crate) control: SessionControl,
    pub(super) state: AtomicU8,
    pub(super) seats_taken: AtomicU32,
    /// Whether a tick takes so long that it may never end.
    pub(super) stuck: watch::Sender<bool>,
    /// Has it step early, once it is scheduled.
    pub(super) task: OnceLock<TaskHandle>,
    /// Rings for the server's housekeeper when the session ends, gets stuck or goes on.
    pub(super) changed: Arc<Notify>,
}

/// A session in the hands of admins.
#[derive(Debug, Default)]
pub(crate) struct SessionControl {
    pub(crate) pause: PauseSwitch,
    pub(crate) seats: SeatTable,
    /// Of the session.
    pub(crate) notices: Notices,
    termination: OnceLock<String>,
}

impl SessionControl {
    /// What players are told of an end that an admin has brought about.
    pub(crate) fn termination(&self) -> Option<&str> {
        self.termination.get().map(String::as_str)
    }
}

/// What happened beside the match, as totals since its start.
#[derive(Debug, Default)]
pub(crate) struct SessionCounters {
    /// Inputs that came after their tick had begun.
    pub(crate) inputs_late: AtomicU64,
    /// Ticks of seats at which what was held was repeated.
    pub(crate) inputs_repeated: AtomicU64,
    /// Ticks of seats at which nothing was held.
    pub(crate) inputs_absent: AtomicU64,
    /// Inputs that found the mailbox full.
    pub(crate) inputs_dropped: AtomicU64,
    /// Inputs that had come by another stripe of their player before.
    pub(crate) inputs_sent_again: AtomicU64,
    /// Seats that were taken back.
    pub(crate) seats_resumed: AtomicU64,
    /// Further streams of players who had one.
    pub(crate) stripes_attached: AtomicU64,
    /// Streams that were lost while their player had others.
    pub(crate) stripes_lost: AtomicU64,
    /// Messages of an epoch that is over.
    pub(crate) stale_epochs: AtomicU64,
    /// Resets that clients asked for.
    pub(crate) resyncs: AtomicU64,
    /// Ticks that began later than a tick's time after they were due, or took longer than that.
    pub(crate) overruns: AtomicU64,
    /// Times that the tick loop gave up catching up.
    pub(crate) slips: AtomicU64,
    /// Times that a tick took so long that the session was taken for stuck.
    pub(crate) stuck: AtomicU64,
}

impl SessionCounters {
    /// Takes over what the session counts itself.
    pub(super) fn note_inputs(&self, counters: &InputCounters) {
        self.inputs_late.store(counters.late, Ordering::Relaxed);
        self.inputs_repeated.store(counters.repeated, Ordering::Relaxed);
        self.inputs_absent.store(counters.absent, Ordering::Relaxed);
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

    /// Ends the session: it stops before the next tick, and its streams say goodbye.
    pub(crate) fn stop(&self) {
        self.end(SessionState::Stopped);
        self.expedite();
    }

    /// As [`stop`](Self::stop), and players are told `text`. False: it has ended already.
    pub(crate) fn terminate(&self, text: String) -> bool {
        if self.state() != SessionState::Running {
            return false;
        }
        // Of two who do so at a time the first is told of.
        let is_first = self.control.termination.set(text).is_ok();
        self.stop();
        is_first
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
            warn!(session = %self.name, %tick, overruns, ?late, ?took, "a tick overran its time");
        }
    }

    /// As [`note_overrun`](Self::note_overrun): the clock has slipped by so much, and in all.
    pub(super) fn note_slip(&self, tick: Tick, by: Duration, in_all: Duration) {
        let slips = self.counters.slips.fetch_add(1, Ordering::Relaxed) + 1;
        if slips.is_power_of_two() {
            warn!(session = %self.name, %tick, slips, ?by, ?in_all, "the tick loop is late; its clock slips");
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
