//! A bound on how much comes: so many per second in the long run, and so many at once.

use std::{num::NonZeroU32, time::Duration};

/// The generic cell rate algorithm: one moment says it all.
#[derive(Debug)]
pub(crate) struct MessageRate {
    per_second: NonZeroU32,
    burst: NonZeroU32,
    burst_time: Duration,
    /// When somebody who had kept to the rate would have sent what has come so far.
    paid_until: Duration,
}

impl MessageRate {
    pub(crate) fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        Self { per_second, burst, burst_time: time_of(burst.get(), per_second), paid_until: Duration::ZERO }
    }

    /// Goes by another bound from now on, if it is another. What has come counts for what it was.
    pub(crate) fn adopt(&mut self, per_second: NonZeroU32, burst: NonZeroU32) {
        if (self.per_second, self.burst) != (per_second, burst) {
            *self = Self { paid_until: self.paid_until, ..Self::new(per_second, burst) };
        }
    }

    /// Whether a message at `now` is within the bound.
    pub(crate) fn allows(&mut self, now: Duration) -> bool {
        self.allows_many(1, now)
    }

    /// Whether `count` more are, which come together.
    pub(crate) fn allows_many(&mut self, count: u32, now: Duration) -> bool {
        let paid_until = self.paid_until.max(now) + time_of(count, self.per_second);
        if paid_until > now + self.burst_time {
            return false;
        }
        self.paid_until = paid_until;
        true
    }

    /// How long after `now` one more will be.
    pub(crate) fn wait(&self, now: Duration) -> Duration {
        (self.paid_until + time_of(1, self.per_second)).saturating_sub(now + self.burst_time)
    }

    /// Whether who starts anew at `now` would be better off.
    pub(crate) fn is_owed(&self, now: Duration) -> bool {
        self.paid_until > now
    }
}

fn time_of(count: u32, per_second: NonZeroU32) -> Duration {
    Duration::from_nanos(u64::from(count) * 1_000_000_000 / u64::from(per_second.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_counts() {
        let number = |n| NonZeroU32::new(n).expect("not 0");
        let mut rate = MessageRate::new(number(100), number(5));
        let at = Duration::from_secs(9);
        let passed = (0..10).filter(|_| rate.allows(at)).count();
        assert_eq!(passed, 5);
        assert!(!rate.allows(at + Duration::from_millis(9)));
        assert!(rate.allows(at + Duration::from_millis(10)));
        assert!(!rate.allows(at + Duration::from_millis(11)));
        let steady = (1..=100).filter(|i| rate.allows(at + Duration::from_millis(100 + 10 * i))).count();
        assert_eq!(steady, 100);
    }

    #[test]
    fn what_comes_together_is_within_the_bound_or_not_at_all() {
        let number = |n| NonZeroU32::new(n).expect("not 0");
        let mut rate = MessageRate::new(number(1000), number(100));
        let at = Duration::from_secs(1);
        assert!(!rate.allows_many(101, at) && rate.allows_many(100, at) && !rate.allows(at));
        assert_eq!(rate.wait(at), Duration::from_millis(1));
        assert!(rate.allows_many(50, at + Duration::from_millis(50)));
        assert!(rate.is_owed(at) && !rate.is_owed(at + Duration::from_millis(150)));
    }

    #[test]
    fn another_bound_counts_from_when_it_is_adopted() {
        let number = |n| NonZeroU32::new(n).expect("not 0");
        let (mut rate, at) = (MessageRate::new(number(10), number(10)), Duration::from_secs(1));
        assert!(rate.allows_many(10, at) && !rate.allows(at));
        rate.adopt(number(100), number(200));
        assert!(rate.allows_many(100, at) && !rate.allows(at), "a second is owed for what came");
        rate.adopt(number(1), number(1));
        assert!(!rate.allows(at + Duration::from_millis(1999)) && rate.allows(at + Duration::from_secs(2)));
    }
}
