//! How a swarm fared second by second.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{connection::Client, core::Stats};

/// Seconds that are kept; what comes later is left out.
const SECONDS_MAX: usize = 24 * 3600;

/// One second of a swarm, all its bots together. What falls between two seconds counts with the later one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Second {
    /// Bots that told of it.
    pub bots: u64,
    /// All bytes that came.
    pub bytes_received: u64,
    /// Snapshots that came.
    pub snapshots: u64,
    /// Ages of the newest state, sampled each millisecond: their sum, in µs.
    pub age_us_total: u64,
    /// How many samples those are.
    pub age_samples: u64,
    /// The mean age at the bot that was worst off, in ms.
    pub worst_age_ms: f64,
}

impl Second {
    /// The mean age over all bots, in ms, where any was sampled.
    #[must_use]
    pub fn mean_age_ms(&self) -> Option<f64> {
        mean_ms(self.age_us_total, self.age_samples)
    }
}

fn mean_ms(total_us: u64, samples: u64) -> Option<f64> {
    (samples > 0).then(|| total_us as f64 / samples as f64 / 1000.0)
}

/// All seconds since the swarm's start.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    seconds: Mutex<Vec<Second>>,
}

impl Timeline {
    pub(super) fn seconds(&self) -> MutexGuard<'_, Vec<Second>> {
        // Each addition leaves it whole.
        self.seconds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one bot has told of itself.
#[derive(Debug)]
pub(super) struct Diary {
    /// From the swarm's start to the bot's.
    offset: Duration,
    second: usize,
    bytes_received: u64,
    snapshots: u64,
    age_us_total: u64,
    age_samples: u64,
}

impl Diary {
    pub(super) fn new(offset: Duration) -> Self {
        let second = offset.as_secs() as usize;
        Self { offset, second, bytes_received: 0, snapshots: 0, age_us_total: 0, age_samples: 0 }
    }

    /// Tells of the last second once it is over. Call it often.
    pub(super) fn keep(&mut self, client: &Client, timeline: &Timeline) {
        let now = (self.offset + client.connected_for()).as_secs() as usize;
        if now != self.second {
            self.tell(client.stats(), client.bytes_received(), timeline);
            self.second = now;
        }
    }

    fn tell(&mut self, stats: &Stats, bytes_received: u64, timeline: &Timeline) {
        if self.second >= SECONDS_MAX {
            return;
        }
        let since = |before: &mut u64, now: u64| now - std::mem::replace(before, now);
        let bytes_received = since(&mut self.bytes_received, bytes_received);
        let snapshots = since(&mut self.snapshots, stats.snapshots);
        let age_us_total = since(&mut self.age_us_total, stats.snapshot_age_us_total);
        let age_samples = since(&mut self.age_samples, stats.snapshot_age_samples);

        let mut seconds = timeline.seconds();
        if seconds.len() <= self.second {
            seconds.resize(self.second + 1, Second::default());
        }
        let second = &mut seconds[self.second];
        second.bots += 1;
        second.bytes_received += bytes_received;
        second.snapshots += snapshots;
        second.age_us_total += age_us_total;
        second.age_samples += age_samples;
        second.worst_age_ms = second.worst_age_ms.max(mean_ms(age_us_total, age_samples).unwrap_or(0.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bots_that_started_at_different_times_add_up_by_the_swarms_seconds() {
        let timeline = Timeline::default();
        let mut first = Diary::new(Duration::ZERO);
        let mut second = Diary::new(Duration::from_millis(1500));
        let mut stats = Stats { snapshots: 30, snapshot_age_us_total: 20_000_000, ..Stats::default() };
        stats.snapshot_age_samples = 1000;
        first.tell(&stats, 5000, &timeline);
        first.second = 1;
        stats.snapshots = 61;
        stats.snapshot_age_us_total += 30_000_000;
        stats.snapshot_age_samples += 1000;
        first.tell(&stats, 9000, &timeline);
        second.tell(&Stats { snapshots: 10, ..Stats::default() }, 700, &timeline);

        let seconds = timeline.seconds();
        let at = |second: usize| (seconds[second].bots, seconds[second].bytes_received, seconds[second].snapshots);
        assert_eq!((seconds.len(), at(0), at(1)), (2, (1, 5000, 30), (2, 4700, 41)));
        assert_eq!((seconds[0].mean_age_ms(), seconds[1].mean_age_ms()), (Some(20.0), Some(30.0)));
        assert_eq!((seconds[1].worst_age_ms, Second::default().mean_age_ms()), (30.0, None));
    }
}
