//! How often somebody may guess a join code.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::session::Creator;

/// Wrong codes at once.
const BURST: u32 = 10;
/// One more each so often: at 45 bits one of 256 sessions is found within 20,000 years.
const INTERVAL: Duration = Duration::from_secs(5);
/// Callers who are counted at a time: of more, those who have guessed least lately are forgotten.
const CALLERS_MAX: usize = 4096;

/// Wrong codes by caller.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// When a caller who had kept to the rate would have made as many.
    paid_until: BTreeMap<Creator, Instant>,
}

impl Attempts {
    /// Whether the caller may try a code now. If not, when it may.
    pub(super) fn check(&self, caller: &Creator, now: Instant) -> Result<(), Duration> {
        let owed = self.paid_until.get(caller).map_or(Duration::ZERO, |paid| paid.saturating_duration_since(now));
        match (owed + INTERVAL).checked_sub(INTERVAL * BURST) {
            None | Some(Duration::ZERO) => Ok(()),
            Some(wait) => Err(wait),
        }
    }

    /// The caller has tried a wrong one.
    pub(super) fn note_wrong(&mut self, caller: &Creator, now: Instant) {
        if self.paid_until.len() >= CALLERS_MAX && !self.paid_until.contains_key(caller) {
            self.paid_until.retain(|_, paid| *paid > now);
            let least = self.paid_until.iter().min_by_key(|(_, paid)| **paid).map(|(caller, _)| caller.clone());
            if let Some(least) = least.filter(|_| self.paid_until.len() >= CALLERS_MAX) {
                self.paid_until.remove(&least);
            }
        }
        let paid = self.paid_until.entry(caller.clone()).or_insert(now);
        *paid = (*paid).max(now) + INTERVAL;
    }

    /// Forgets those who may try as often as anybody.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.paid_until.retain(|_, paid| *paid > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_guesses_wrong_has_to_wait_and_nobody_else() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let [ada, bob] = ["address 192.0.2.1", "address 192.0.2.2"].map(Creator::new);
        for _ in 0..BURST {
            assert_eq!(attempts.check(&ada, now), Ok(()));
            attempts.note_wrong(&ada, now);
        }
        assert_eq!(attempts.check(&ada, now), Err(INTERVAL));
        assert_eq!(attempts.check(&bob, now), Ok(()));
        assert_eq!(attempts.check(&ada, now + INTERVAL), Ok(()));
        attempts.note_wrong(&ada, now + INTERVAL);
        assert_eq!(attempts.check(&ada, now + INTERVAL), Err(INTERVAL));
        attempts.sweep(now + INTERVAL * (BURST + 2));
        assert!(attempts.paid_until.is_empty());
    }

    #[test]
    fn those_who_are_counted_are_bounded() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        for i in 0..2 * CALLERS_MAX as u64 {
            attempts.note_wrong(&Creator::new(format!("address {i}")), now + Duration::from_nanos(i));
        }
        assert_eq!(attempts.paid_until.len(), CALLERS_MAX);
    }
}
