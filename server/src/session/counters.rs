//! What happened in a session and on its streams, as totals since its start. They may outlive the session: who adds up all
//! sessions of a server keeps them for as long.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tickwire_replication::{Snapshot, ViewCounts};
use tickwire_simulation::InputCounters;

use crate::metrics::Histogram;

/// What happened beside the match, as totals since its start.
#[derive(Debug, Default)]
pub(crate) struct SessionCounters {
    /// Ticks of seats that had an input of their own.
    pub(crate) inputs_fresh: AtomicU64,
    /// Inputs that came after their tick had begun.
    pub(crate) inputs_late: AtomicU64,
    /// Ticks of seats at which what was held was repeated.
    pub(crate) inputs_repeated: AtomicU64,
    /// Ticks of seats at which nothing was held.
    pub(crate) inputs_absent: AtomicU64,
    /// Inputs whose tick was more than a second ahead.
    pub(crate) inputs_too_early: AtomicU64,
    /// Inputs whose tick or sequence was taken.
    pub(crate) inputs_duplicate: AtomicU64,
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
    /// How far that has moved the clock, in microseconds.
    pub(crate) slip_us: AtomicU64,
    /// Times that a tick took so long that the session was taken for stuck.
    pub(crate) stuck: AtomicU64,
    /// How long ticks took, from their start until all was handed over.
    pub(crate) tick_duration: Histogram<12>,
    /// How long after they were due ticks began.
    pub(crate) tick_lateness: Histogram<12>,
    /// Not a total: players who have a stream at the moment.
    pub(crate) players: AtomicU32,
}

/// The upper bounds of a tick's times, in microseconds: a tick has 16,667 at 60 Hz.
pub(crate) const TICK_BOUNDS_US: [u64; 12] =
    [50, 100, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 33_000, 100_000, 1_000_000];

impl SessionCounters {
    /// Takes over what the session counts itself.
    pub(super) fn note_inputs(&self, counters: &InputCounters) {
        let InputCounters { fresh, repeated, absent, late, too_early, duplicate } = *counters;
        for (total, count) in [
            (&self.inputs_fresh, fresh),
            (&self.inputs_repeated, repeated),
            (&self.inputs_absent, absent),
            (&self.inputs_late, late),
            (&self.inputs_too_early, too_early),
            (&self.inputs_duplicate, duplicate),
        ] {
            total.store(count, Relaxed);
        }
    }

    /// A tick began so late, and took so long.
    pub(super) fn note_tick(&self, late: Duration, took: Duration) {
        self.tick_lateness.note(late, &TICK_BOUNDS_US);
        self.tick_duration.note(took, &TICK_BOUNDS_US);
    }
}

/// What was sent on a session's streams by one network thread: that thread alone writes here, so that no core waits for
/// another one's memory.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct StreamCounters {
    /// Snapshots from nothing: the first of a stream, and those after a loss of the base.
    pub(crate) full: AtomicU64,
    pub(crate) full_bytes: AtomicU64,
    /// Snapshots of what changed.
    pub(crate) delta: AtomicU64,
    pub(crate) delta_bytes: AtomicU64,
    /// Snapshots that were due to a player, and gave way to a newer one.
    pub(crate) superseded: AtomicU64,
    /// Times that a stream came to find no credit for a snapshot that was due.
    pub(crate) credit_stalls: AtomicU64,
    /// Changes of cells that went into snapshots, or were looked at for that.
    pub(crate) chunk_lookups: AtomicU64,
}

impl StreamCounters {
    /// A view has been asked for a snapshot.
    pub(crate) fn note_view(&self, ViewCounts { credit_stalls, chunk_lookups }: ViewCounts) {
        if credit_stalls > 0 {
            self.credit_stalls.fetch_add(credit_stalls.into(), Relaxed);
        }
        if chunk_lookups > 0 {
            self.chunk_lookups.fetch_add(chunk_lookups.into(), Relaxed);
        }
    }

    /// A snapshot goes out, in the place of so many others.
    pub(crate) fn note_sent(&self, snapshot: &Snapshot, superseded: u64) {
        let (count, bytes) =
            if snapshot.reset { (&self.full, &self.full_bytes) } else { (&self.delta, &self.delta_bytes) };
        count.fetch_add(1, Relaxed);
        bytes.fetch_add(snapshot.encoded_len() as u64, Relaxed);
        if superseded > 0 {
            self.superseded.fetch_add(superseded, Relaxed);
        }
    }
}
