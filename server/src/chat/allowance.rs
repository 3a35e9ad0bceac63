//! How much somebody may say, counted at the limits of the moment.

use std::time::Duration;

/// A token bucket, as the one moment until which what has been taken is paid for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allowance {
    paid_until: Duration,
}

impl Allowance {
    /// Takes one of `burst`, of which one comes back every `interval`; how long until there is one, where there is none.
    pub(super) fn take(&mut self, now: Duration, interval: Duration, burst: u32) -> Result<(), Duration> {
        let paid_until = self.paid_until.max(now) + interval;
        let most = now + interval * burst;
        if paid_until > most {
            return Err(paid_until - most);
        }
        self.paid_until = paid_until;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const INTERVAL: Duration = Duration::from_millis(100);

    #[test]
    fn a_burst_passes_and_then_whoever_waits_as_told_is_let_through() {
        let (mut allowance, now) = (Allowance::default(), Duration::from_secs(9));
        let passed = (0..9).filter(|_| allowance.take(now, INTERVAL, 4).is_ok()).count();
        assert_eq!(passed, 4);
        let wait = allowance.take(now, INTERVAL, 4).expect_err("all are taken");
        assert_eq!(wait, INTERVAL);
        assert!(allowance.take(now + wait / 2, INTERVAL, 4).is_err());
        assert!(allowance.take(now + wait, INTERVAL, 4).is_ok());
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_has_more_than_a_burst_and_what_comes_back_in_it(gaps_ms in vec(0..300_u64, 1..200)) {
            const BURST: u32 = 3;
            let (mut allowance, mut now, mut taken) = (Allowance::default(), Duration::ZERO, Vec::new());
            for gap in gaps_ms {
                now += Duration::from_millis(gap);
                if allowance.take(now, INTERVAL, BURST).is_ok() {
                    taken.push(now);
                }
            }
            for (i, from) in taken.iter().enumerate() {
                for (count, until) in (1_u128..).zip(&taken[i..]) {
                    let come_back = (*until - *from).as_nanos() / INTERVAL.as_nanos();
                    prop_assert!(count <= u128::from(BURST) + come_back, "{count} from {from:?} to {until:?}");
                }
            }
        }
    }
}
