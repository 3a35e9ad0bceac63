//! What the clients count.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::scan::Parts;
use crate::pace::now_ns;

/// Bytes of data in a full segment where frames have 1500 bytes.
const SEGMENT_BYTES: u64 = 1448;
/// A segment's headers: Ethernet 14, IPv4 20, TCP with timestamps 32.
const SEGMENT_HEADER_BYTES: u64 = 66;
/// What is older counts as this old.
const AGE_US_MAX: u64 = 60_000_000;

/// Counters since the last [`begin`](Self::begin).
#[derive(Debug)]
pub(super) struct Tally {
    since_ns: u64,
    messages: u64,
    payload_bytes: u64,
    owner_bytes: u64,
    roster_bytes: u64,
    cell_bytes: u64,
    cell_updates: u64,
    inputs_late: u64,
    segments: u64,
    read_bytes: u64,
    written_bytes: u64,
    ages_us: Histogram<u64>,
    lost: BTreeMap<String, u64>,
}

/// What was counted over a time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) seconds: f64,
    /// Of state: snapshots.
    pub(crate) messages: u64,
    pub(crate) payload_bytes: u64,
    /// The payload's parts; what is left is the header.
    pub(crate) owner_bytes: u64,
    pub(crate) roster_bytes: u64,
    pub(crate) cell_bytes: u64,
    pub(crate) cell_updates: u64,
    /// Snapshots that say that the newest input had come too late.
    pub(crate) inputs_late: u64,
    /// All that was read from sockets.
    pub(crate) read_bytes: u64,
    /// The same with the headers of the segments that carry it over an Ethernet: an estimate.
    pub(crate) wire_bytes: u64,
    pub(crate) written_bytes: u64,
    /// From the moment at which a message was due to its receipt.
    pub(crate) age_us_p50: u64,
    pub(crate) age_us_p99: u64,
    /// How many clients were lost since they joined, by what ended them.
    pub(crate) lost: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            since_ns: now_ns(),
            messages: 0,
            payload_bytes: 0,
            owner_bytes: 0,
            roster_bytes: 0,
            cell_bytes: 0,
            cell_updates: 0,
            inputs_late: 0,
            segments: 0,
            read_bytes: 0,
            written_bytes: 0,
            ages_us: Histogram::new_with_bounds(1, AGE_US_MAX, 3).expect("the bounds and 3 digits are allowed"),
            lost: BTreeMap::new(),
        }
    }

    /// Starts anew. Who is lost stays lost.
    pub(super) fn begin(&mut self) {
        *self = Self { lost: std::mem::take(&mut self.lost), ..Self::new() };
    }

    /// A message of state, `due_ns` where that is known.
    pub(super) fn message(&mut self, payload_bytes: usize, framed_bytes: usize, due_ns: Option<u64>, now_ns: u64) {
        self.messages += 1;
        self.payload_bytes += payload_bytes as u64;
        self.segments += (framed_bytes as u64).div_ceil(SEGMENT_BYTES);
        if let Some(due_ns) = due_ns {
            self.ages_us.saturating_record(now_ns.saturating_sub(due_ns) / 1000);
        }
    }

    /// What the message was made of.
    pub(super) fn parts(&mut self, parts: &Parts) {
        self.owner_bytes += parts.owner as u64;
        self.roster_bytes += parts.roster as u64;
        self.cell_bytes += parts.cells as u64;
        self.cell_updates += parts.cell_updates as u64;
    }

    /// What the message said of the client's newest input.
    pub(super) fn input_late(&mut self, is_late: bool) {
        self.inputs_late += u64::from(is_late);
    }

    pub(super) fn read(&mut self, bytes: usize) {
        self.read_bytes += bytes as u64;
    }

    pub(super) fn written(&mut self, bytes: usize) {
        self.written_bytes += bytes as u64;
    }

    pub(super) fn lost(&mut self, why: &str) {
        *self.lost.entry(why.to_owned()).or_default() += 1;
    }

    pub(super) fn counted(&self) -> Counted {
        Counted {
            seconds: now_ns().saturating_sub(self.since_ns) as f64 * 1e-9,
            messages: self.messages,
            payload_bytes: self.payload_bytes,
            owner_bytes: self.owner_bytes,
            roster_bytes: self.roster_bytes,
            cell_bytes: self.cell_bytes,
            cell_updates: self.cell_updates,
            inputs_late: self.inputs_late,
            read_bytes: self.read_bytes,
            wire_bytes: self.read_bytes + SEGMENT_HEADER_BYTES * self.segments,
            written_bytes: self.written_bytes,
            age_us_p50: self.ages_us.value_at_quantile(0.5),
            age_us_p99: self.ages_us.value_at_quantile(0.99),
            lost: self.lost.clone(),
        }
    }
}
