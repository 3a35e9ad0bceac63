//! What became of bots.

use std::collections::BTreeMap;

use super::super::chatter::ChatCounts;
use crate::{connection::Client, core::Stats};

/// Why bots failed: gRPC status → how many, and what the first of them met with.
pub type Failures = BTreeMap<&'static str, (u64, String)>;

/// What became of one bot, or of many.
#[derive(Clone, Debug, Default)]
pub(in crate::bots) struct Outcome {
    pub(in crate::bots) connected: u64,
    pub(in crate::bots) failed: u64,
    pub(in crate::bots) connected_seconds: f64,
    pub(in crate::bots) tick_rate: u32,
    pub(in crate::bots) snapshots_expected: u64,
    pub(in crate::bots) bytes_received: u64,
    pub(in crate::bots) payload_bytes_received: u64,
    pub(in crate::bots) late_timers: u64,
    pub(in crate::bots) stripes_open: u64,
    pub(in crate::bots) stats: Stats,
    pub(in crate::bots) chat: ChatCounts,
    pub(in crate::bots) errors: Failures,
}

impl Outcome {
    pub(super) fn merge(&mut self, other: Self) {
        self.connected += other.connected;
        self.failed += other.failed;
        self.connected_seconds += other.connected_seconds;
        self.tick_rate = self.tick_rate.max(other.tick_rate);
        self.snapshots_expected += other.snapshots_expected;
        self.bytes_received += other.bytes_received;
        self.payload_bytes_received += other.payload_bytes_received;
        self.late_timers += other.late_timers;
        self.stripes_open += other.stripes_open;
        self.stats.merge(&other.stats);
        self.chat.merge(other.chat);
        for (code, (count, first)) in other.errors {
            self.errors.entry(code).or_insert((0, first)).0 += count;
        }
    }

    pub(in crate::bots) fn fail(&mut self, code: &'static str, first: String) {
        self.failed += 1;
        self.errors.entry(code).or_insert((0, first)).0 += 1;
    }

    pub(super) fn measure(&mut self, client: &Client, snapshot_copies: u32) {
        let (core, connected) = (client.core(), client.connected_for().as_secs_f64());
        self.connected = 1;
        self.connected_seconds = connected;
        self.tick_rate = core.tick_rate().hz();
        // The second copy takes a second stream.
        let copies = snapshot_copies.clamp(1, core.stripes_open().max(1) as u32);
        self.snapshots_expected = (connected * f64::from(core.snapshot_rate() * copies)).ceil() as u64;
        self.bytes_received = client.bytes_received();
        self.payload_bytes_received = client.snapshot_bytes_received();
        self.late_timers = client.late_timers();
        self.stripes_open = core.stripes_open() as u64;
        self.stats = client.stats().clone();
    }
}
