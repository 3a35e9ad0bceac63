//! What all threads share of a session.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    thread::Thread,
    time::SystemTime,
};

use tickwire_proto::v1 as pb;
use tickwire_replication::Replicator;
use tickwire_shared::{PlayerId, Schema, TickRate};

use super::{
    SessionName, TickClock,
    mailbox::{Mailbox, Parting},
};
use crate::net::Relay;

/// What all threads share of a session. Its world is the session's thread's alone.
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
    pub(super) state: AtomicU8,
    pub(super) seats_taken: AtomicU32,
    pub(super) thread: OnceLock<Thread>,
}

/// What happened beside the match, as totals since its start.
#[derive(Debug, Default)]
pub(crate) struct SessionCounters {
    /// Inputs that found the mailbox full.
    pub(crate) inputs_dropped: AtomicU64,
    /// Messages of an epoch that is over.
    pub(crate) stale_epochs: AtomicU64,
    /// Resets that clients asked for.
    pub(crate) resyncs: AtomicU64,
    /// Times that the tick loop gave up catching up.
    pub(crate) slips: AtomicU64,
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

    /// Ends the session: its thread stops before the next tick, and its streams say goodbye.
    pub(crate) fn stop(&self) {
        self.end(SessionState::Stopped);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Leaves the running state, once.
    pub(super) fn end(&self, state: SessionState) {
        let running = SessionState::Running as u8;
        // The state that came first stays.
        let _ = self.state.compare_exchange(running, state as u8, Ordering::AcqRel, Ordering::Acquire);
        self.wake_streams();
    }

    /// One wake-up per network thread; each wakes its own streams.
    pub(crate) fn wake_streams(&self) {
        for relay in &self.relays {
            relay.notify();
        }
    }
}

/// A taken seat, held by the one stream that plays it. Dropped, it tells the session that the connection is lost.
#[derive(Debug)]
pub(crate) struct SeatGuard {
    session: Arc<SessionHandle>,
    player: PlayerId,
    on_drop: Option<Parting>,
}

impl SeatGuard {
    /// The seat of `player`. Until it is [taken up](Self::take_up), losing it gives the seat up.
    pub(super) fn new(session: Arc<SessionHandle>, player: PlayerId) -> Self {
        Self { session, player, on_drop: Some(Parting::Left) }
    }

    /// Whose.
    pub(crate) fn player(&self) -> PlayerId {
        self.player
    }

    /// Says that the player has come: from now on the seat outlives a lost connection.
    pub(crate) fn take_up(&mut self) {
        self.on_drop = Some(Parting::Lost);
    }

    /// Gives the seat up: at the tick after the newest input that came before.
    pub(crate) fn leave(&mut self) {
        if self.on_drop.take().is_some() {
            self.session.mailbox.part(self.player, Parting::Left);
        }
    }
}

impl Drop for SeatGuard {
    fn drop(&mut self) {
        if let Some(parting) = self.on_drop {
            self.session.mailbox.part(self.player, parting);
        }
    }
}
