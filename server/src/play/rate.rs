//! A bound on how many messages a stream sends: so many per second in the long run, and so many at once.

use std::{num::NonZeroU32, time::Duration};

/// The generic cell rate algorithm: one moment says it all.
#[derive(Debug)]
pub(crate) struct MessageRate {
    interval: Duration,
    burst: Duration,
    /// When a stream that had kept to its rate would have sent what has come so far.
    paid_until: Duration,
}

impl MessageRate {
    pub(crate) fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        let interval = Duration::from_secs(1) / per_second.get();
        Self { interval, burst: interval * burst.get(), paid_until: Duration::ZERO }
    }

    /// Whether a message at `now` is within the bound.
    pub(crate) fn allows(&mut self, now: Duration) -> bool {
        let paid_until = self.paid_until.max(now) + self.interval;
        if paid_until > now + self.burst {
            return false;
        }
        self.paid_until = paid_until;
        true
    }
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
}
