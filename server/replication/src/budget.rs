//! How many bytes a stream may have: so many per second, and no more than a little at once.

use std::time::Duration;

/// Tokens are counted in millionths of a byte: a byte per second is one of them per microsecond.
const PER_BYTE: i64 = 1_000_000;
/// What may be saved up beyond the bytes of one snapshot: this part of a second's. With it any second carries at most 4 %
/// more than its share, and the longest slice, which it must hold, stays worth sending.
const SAVED_SHARE: i64 = 32;
/// The shortest that updates are cut to, in bytes.
const SLICE_BYTES_MIN: usize = 256;

/// A bucket of bytes that fills at a constant pace. What must be sent may overdraw it; then nothing is sent until that is
/// paid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// `None`: no limit.
    bytes_per_second: Option<u32>,
    depth: i64,
    /// What one snapshot's time brings.
    income: i64,
    tokens: i64,
    /// Until when it has been filled, in µs.
    filled_us: u64,
}

impl Budget {
    /// A full bucket for a stream of snapshots that are at least `interval` apart.
    pub(crate) fn new(bytes_per_second: Option<u32>, interval: Duration) -> Self {
        let per_second = i64::from(bytes_per_second.unwrap_or(0));
        // A second at the most: the product fits.
        let interval_us = interval.as_micros().min(1_000_000) as i64;
        let income = per_second * interval_us;
        let depth = income + per_second * PER_BYTE / SAVED_SHARE;
        Self { bytes_per_second, depth, income, tokens: depth, filled_us: 0 }
    }

    /// Fills it up to `now`.
    pub(crate) fn fill(&mut self, now: Duration) {
        self.tokens = self.tokens_at(now);
        self.filled_us = self.filled_us.max(micros(now));
    }

    /// Whether there is anything in it at `now`.
    pub(crate) fn allows(&self, now: Duration) -> bool {
        self.bytes_per_second.is_none() || self.tokens_at(now) > 0
    }

    /// The bytes in it, as of when it was last filled.
    pub(crate) fn bytes(&self) -> usize {
        match self.bytes_per_second {
            None => usize::MAX,
            Some(_) => usize::try_from(self.tokens / PER_BYTE).unwrap_or(0),
        }
    }

    /// Whether waiting for another snapshot's time would overfill it.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes_per_second.is_some() && self.tokens >= self.depth - self.income
    }

    /// The same at `now`, and also where there is no limit.
    pub(crate) fn is_full_at(&self, now: Duration) -> bool {
        self.bytes_per_second.is_none() || self.tokens_at(now) >= self.depth - self.income
    }

    /// Takes out what was sent.
    pub(crate) fn spend(&mut self, bytes: usize) {
        if self.bytes_per_second.is_some() {
            let tokens = i64::try_from(bytes).unwrap_or(i64::MAX).saturating_mul(PER_BYTE);
            self.tokens = self.tokens.saturating_sub(tokens);
        }
    }

    /// How often `slice_bytes_max` is to be halved for slices that the bucket can save up for.
    pub(crate) fn slice_halvings(&self, slice_bytes_max: usize) -> u8 {
        let Some(per_second) = self.bytes_per_second else { return 0 };
        let saved = (per_second as usize / SAVED_SHARE as usize).max(SLICE_BYTES_MIN);
        let mut halvings = 0;
        while slice_bytes_max >> halvings > saved {
            halvings += 1;
        }
        halvings
    }

    fn tokens_at(&self, now: Duration) -> i64 {
        let elapsed_us = micros(now).saturating_sub(self.filled_us).min(i64::MAX as u64) as i64;
        let per_second = i64::from(self.bytes_per_second.unwrap_or(0));
        self.tokens.saturating_add(elapsed_us.saturating_mul(per_second)).min(self.depth)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn without_a_limit_there_is_always_more() {
        let mut budget = Budget::new(None, Duration::from_millis(16));
        budget.spend(1 << 40);
        budget.fill(Duration::from_secs(1));
        assert!(budget.allows(Duration::ZERO));
        assert_eq!((budget.bytes(), budget.slice_halvings(1 << 14)), (usize::MAX, 0));
    }

    #[test]
    fn slices_are_short_enough_to_be_saved_up_for() {
        let halvings = |per_second| Budget::new(Some(per_second), Duration::ZERO).slice_halvings(1 << 14);
        assert_eq!([halvings(1 << 20), halvings(1 << 19), halvings(1 << 18), halvings(1)], [0, 0, 1, 6]);
    }

    #[test]
    fn a_debt_is_paid_before_more_is_sent() {
        let mut budget = Budget::new(Some(1000), Duration::from_millis(10));
        budget.spend(141);
        assert!(!budget.allows(Duration::from_millis(99)));
        assert!(budget.allows(Duration::from_millis(101)));
        budget.fill(Duration::from_secs(9));
        assert!(budget.is_full());
        assert_eq!(budget.bytes(), 41);
    }

    proptest! {
        #[test]
        fn any_second_of_a_greedy_stream_carries_its_share_within_5_percent(
            per_second in 5_000..5_000_000_u32, rate in 30..=120_u64, jitter in prop::collection::vec(0..4000_u64, 1..50),
        ) {
            let interval = Duration::from_secs(1) / rate as u32;
            let mut budget = Budget::new(Some(per_second), interval);
            let mut sent = Vec::new();
            for tick in 0..5 * rate {
                let now = interval * tick as u32 + Duration::from_micros(jitter[tick as usize % jitter.len()]);
                budget.fill(now);
                sent.push((now, budget.bytes()));
                budget.spend(budget.bytes());
            }
            let second = Duration::from_secs(1);
            for (i, &(start, _)) in sent.iter().enumerate().skip(1).take(3 * rate as usize) {
                let bytes: usize = sent[i..].iter().take_while(|(at, _)| *at < start + second).map(|(_, bytes)| bytes).sum();
                let share = bytes as f64 / f64::from(per_second);
                // Of a second that starts late and ends early, a snapshot is missing at its edge.
                let edge = 1.0 / rate as f64 + 0.004;
                prop_assert!(share <= 1.05 && share >= 0.95 - edge, "{share}");
            }
        }
    }
}
