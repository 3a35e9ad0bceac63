//! How many streams are worthwhile: by the loss that shows, and the round trip.
//!
//! On TCP a lost packet shows as a stall: what was sent after it waits for its second coming, a round trip and more. So a
//! snapshot that comes much later than the round trip explains, after one that did not, is taken for a loss. What queues on
//! a thin link delays all snapshots alike, and counts once.

use std::time::Duration;

use super::stripes::Stripes;

const REVIEW_INTERVAL: Duration = Duration::from_secs(1);
/// Losses count for so many seconds.
const SECONDS: usize = 30;
/// So many of them, in so many of the last seconds, are a link that loses.
const LOSSES_SEEN: u32 = 3;
const SECONDS_SEEN: usize = 10;
/// No more than so many in all of them are one that does not.
const LOSSES_CALM: u32 = 1;
/// The round trips from which on three and four streams are worthwhile, in seconds, and how far beyond or below them a
/// change takes place.
const THREE_FROM: f64 = 0.060;
const FOUR_FROM: f64 = 0.110;
const HYSTERESIS: f64 = 0.005;
/// The least delay beyond half a round trip that is taken for a loss, in seconds, and in round trips.
const LATE: f64 = 0.025;
const LATE_ROUND_TRIPS: f64 = 0.75;
/// For so long fewer must be worthwhile before there are fewer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Chooses the number of streams.
#[derive(Debug)]
pub(super) struct StripeCount {
    wish: Stripes,
    max: usize,
    wanted: usize,
    /// Whether the newest snapshot of each stream was late.
    late: [bool; tickwire_wire::STRIPES_MAX],
    /// Losses in each second, by its number.
    losses: [u16; SECONDS],
    second: u64,
    round_trip: Option<f64>,
    next_review: Duration,
    fewer_since: Option<Duration>,
}

impl StripeCount {
    pub(super) fn new(wish: Stripes, max: usize) -> Self {
        let wanted = match wish {
            Stripes::Fixed(_) => max,
            Stripes::Auto { .. } => 1,
        };
        Self {
            wish,
            max,
            wanted,
            late: [false; tickwire_wire::STRIPES_MAX],
            losses: [0; SECONDS],
            second: 0,
            round_trip: None,
            next_review: Duration::ZERO,
            fewer_since: None,
        }
    }

    fn chooses(&self) -> bool {
        matches!(self.wish, Stripes::Auto { .. }) && self.max > 1
    }

    /// A snapshot arrived on a stream at the age of `age` seconds, over a link with this round trip.
    pub(super) fn arrived(&mut self, stripe: usize, age: f64, round_trip: f64, now: Duration) {
        if !self.chooses() {
            return;
        }
        self.round_trip = Some(round_trip);
        let is_late = age - round_trip / 2.0 > LATE.max(LATE_ROUND_TRIPS * round_trip);
        if is_late && !std::mem::replace(&mut self.late[stripe], is_late) {
            self.pass_to(now.as_secs());
            let losses = &mut self.losses[self.second as usize % SECONDS];
            *losses = losses.saturating_add(1);
        }
        self.late[stripe] = is_late;
    }

    fn pass_to(&mut self, second: u64) {
        for passed in (self.second + 1..=second).rev().take(SECONDS) {
            self.losses[passed as usize % SECONDS] = 0;
        }
        self.second = self.second.max(second);
    }

    fn losses_within(&self, seconds: usize) -> u32 {
        let newest = self.second as usize + SECONDS;
        (0..seconds).map(|back| u32::from(self.losses[(newest - back) % SECONDS])).sum()
    }

    /// When to ask again.
    pub(super) fn next_review(&self) -> Option<Duration> {
        self.chooses().then_some(self.next_review)
    }

    /// How many there are to be.
    pub(super) fn wanted(&mut self, now: Duration) -> usize {
        if !self.chooses() || now < self.next_review {
            return self.wanted;
        }
        self.next_review = now + REVIEW_INTERVAL;
        self.pass_to(now.as_secs());
        let worthwhile = self.worthwhile().min(self.max);
        let is_fewer = worthwhile < self.wanted;
        if !is_fewer || now.saturating_sub(*self.fewer_since.get_or_insert(now)) >= PATIENCE {
            self.wanted = worthwhile;
            self.fewer_since = None;
        }
        self.wanted
    }

    fn worthwhile(&self) -> usize {
        let Some(round_trip) = self.round_trip else { return 1 };
        let is_lossy = match self.wanted {
            1 => self.losses_within(SECONDS_SEEN) >= LOSSES_SEEN,
            _ => self.losses_within(SECONDS) > LOSSES_CALM,
        };
        if !is_lossy {
            return 1;
        }
        let is_beyond = |limit: f64, count: usize| {
            round_trip > if self.wanted >= count { limit - HYSTERESIS } else { limit + HYSTERESIS }
        };
        2 + usize::from(is_beyond(THREE_FROM, 3)) + usize::from(is_beyond(FOUR_FROM, 4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Snapshots at 60 Hz for so many seconds, of which every `every`th is late; the number that is wanted at the end.
    fn run(count: &mut StripeCount, from: u64, seconds: u64, round_trip: f64, every: Option<u64>) -> usize {
        let mut wanted = 0;
        for i in 0..seconds * 60 {
            let now = Duration::from_secs(from) + Duration::from_secs(1) / 60 * i as u32;
            let jitter = (i % 7) as f64 * 0.003;
            let stall = if every.is_some_and(|every| i % every == every - 1) { round_trip + 0.030 } else { 0.0 };
            count.arrived(0, round_trip / 2.0 + jitter + stall, round_trip, now);
            wanted = count.wanted(now);
        }
        wanted
    }

    #[test]
    fn without_loss_one_is_enough_whatever_the_round_trip_and_its_jitter() {
        for round_trip in [0.0005, 0.05, 0.2] {
            assert_eq!(run(&mut StripeCount::new(Stripes::AUTO, 4), 5, 60, round_trip, None), 1);
        }
    }

    #[test]
    fn with_loss_their_number_follows_the_round_trip_within_what_is_allowed() {
        for (round_trip, expected) in [(0.02, 2), (0.05, 2), (0.1, 3), (0.15, 4), (0.3, 4)] {
            assert_eq!(run(&mut StripeCount::new(Stripes::AUTO, 4), 5, 20, round_trip, Some(50)), expected);
            let few = Stripes::Auto { max: 2 };
            assert_eq!(run(&mut StripeCount::new(few, 2), 5, 20, round_trip, Some(50)), 2);
        }
        assert_eq!(run(&mut StripeCount::new(Stripes::Fixed(3), 3), 5, 1, 0.02, None), 3);
    }

    #[test]
    fn once_opened_they_stay_until_the_link_has_been_calm_for_long() {
        let mut count = StripeCount::new(Stripes::AUTO, 4);
        assert_eq!(run(&mut count, 5, 20, 0.1, Some(50)), 3);
        assert_eq!(run(&mut count, 25, 20, 0.1, None), 3);
        assert_eq!(run(&mut count, 45, 30, 0.1, None), 1);
        // A round trip that wavers about a limit changes nothing.
        assert_eq!(run(&mut count, 75, 10, 0.05, Some(50)), 2);
        for i in 0..20 {
            let round_trip = if i % 2 == 0 { 0.062 } else { 0.058 };
            assert_eq!(run(&mut count, 85 + i, 1, round_trip, Some(50)), 2);
        }
    }

    #[test]
    fn a_queue_that_delays_everything_is_no_loss() {
        let mut count = StripeCount::new(Stripes::AUTO, 4);
        for i in 0..3600 {
            let now = Duration::from_secs(1) / 60 * i;
            count.arrived(0, 0.4, 0.05, now);
            assert_eq!(count.wanted(now), 1);
        }
    }
}
