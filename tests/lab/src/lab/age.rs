//! How old the newest state is, reckoned as the bots reckon it: by a clock that knows the server's through round trips,
//! sampled each millisecond.

use std::{collections::VecDeque, time::Duration};

use hdrhistogram::Histogram;

/// How long a round trip counts, as in the client.
const WINDOW: Duration = Duration::from_secs(2);
/// Beyond half a round trip, as in the client: older than this is a stall.
const STALL_AGE_US: i64 = 50_000;

/// The other end's clock, by the shortest round trip of two seconds. Times are microseconds.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    round_trips: VecDeque<RoundTrip>,
}

#[derive(Clone, Copy, Debug)]
struct RoundTrip {
    received_us: i64,
    length_us: i64,
    /// Their time less ours.
    offset_us: i64,
}

impl Clock {
    /// What was sent at `sent_us` came back now; the other end held it for `held_us` until `theirs_us` by its own clock.
    pub(crate) fn answered(&mut self, sent_us: i64, held_us: i64, theirs_us: i64, now_us: i64) {
        let length_us = now_us - sent_us - held_us;
        let offset_us = theirs_us + length_us / 2 - now_us;
        self.round_trips.push_back(RoundTrip { received_us: now_us, length_us, offset_us });
        let oldest = now_us - WINDOW.as_micros() as i64;
        while self.round_trips.front().is_some_and(|trip| trip.received_us < oldest) {
            self.round_trips.pop_front();
        }
    }

    fn best(&self) -> Option<&RoundTrip> {
        self.round_trips.iter().min_by_key(|trip| trip.length_us)
    }
}

/// Ages of all players.
#[derive(Clone, Debug)]
pub(crate) struct Ages {
    pub(crate) age_us: Histogram<u64>,
    pub(crate) stalled_samples: u64,
    pub(crate) input_to_ack_us: Histogram<u64>,
}

impl Default for Ages {
    fn default() -> Self {
        let histogram = || Histogram::new_with_bounds(1, 60_000_000, 2).expect("the bounds are constants that fit");
        Self { age_us: histogram(), stalled_samples: 0, input_to_ack_us: histogram() }
    }
}

impl Ages {
    pub(crate) fn stall_percent(&self) -> f64 {
        self.stalled_samples as f64 * 100.0 / self.age_us.len().max(1) as f64
    }
}

/// Samples one player's ages.
#[derive(Debug, Default)]
pub(crate) struct AgeMeter {
    /// When the newest state was due, by the other end's clock.
    newest_due_us: Option<i64>,
    /// The millisecond of the next sample.
    next_ms: i64,
}

impl AgeMeter {
    /// A state arrived. Samples until now still see the one before.
    pub(crate) fn applied(&mut self, due_us: i64, now_us: i64, clock: &Clock, ages: &mut Ages) {
        self.sample(now_us, clock, ages);
        self.newest_due_us = Some(due_us);
    }

    /// Takes all samples up to now.
    pub(crate) fn sample(&mut self, now_us: i64, clock: &Clock, ages: &mut Ages) {
        let now_ms = now_us / 1000;
        if let Some((due_us, best)) = self.newest_due_us.zip(clock.best()) {
            for at_ms in self.next_ms..=now_ms {
                let age_us = at_ms * 1000 + best.offset_us - due_us;
                ages.age_us.saturating_record(age_us.try_into().unwrap_or(0));
                ages.stalled_samples += u64::from(age_us > best.length_us / 2 + STALL_AGE_US);
            }
        }
        self.next_ms = now_ms + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_states_the_age_is_a_ramp_of_milliseconds_and_what_is_too_old_is_a_stall() {
        let (mut clock, mut meter, mut ages) = (Clock::default(), AgeMeter::default(), Ages::default());
        // A round trip of 20 ms over a server whose clock is a second ahead, and which held the message for 3 ms.
        clock.answered(100_000, 3_000, 1_113_000, 123_000);
        meter.applied(1_100_000, 123_000, &clock, &mut ages);
        assert_eq!(ages.age_us.len(), 0);
        meter.sample(223_900, &clock, &mut ages);
        // At 124 ..= 223 ms: ages 24 to 123 ms, of which those above 10 + 50 ms are stalls.
        assert_eq!((ages.age_us.len(), ages.stalled_samples), (100, 63));
        assert!(ages.age_us.min().abs_diff(24_000) < 300 && ages.age_us.max().abs_diff(123_000) < 1500);
        assert!((ages.stall_percent() - 63.0).abs() < 1e-9);
    }

    #[test]
    fn the_shortest_round_trip_of_two_seconds_sets_the_clock() {
        let mut clock = Clock::default();
        clock.answered(0, 0, 15_000, 20_000);
        clock.answered(500_000, 0, 590_000, 600_000);
        assert_eq!(clock.best().map(|best| (best.length_us, best.offset_us)), Some((20_000, 5_000)));
        clock.answered(2_400_000, 0, 2_450_000, 2_500_000);
        assert_eq!(clock.best().map(|best| best.length_us), Some(100_000));
    }
}
