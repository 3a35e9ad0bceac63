//! Pace: a stream composes only while fewer than K of its snapshots are unacknowledged, so that nothing stale piles up in
//! any buffer on the way.
//!
//! K follows the smallest round trip of the last 10 s, as BBR's window does (Cardwell et al., 2016), and not a smoothed
//! one: that would take the queue that K itself makes for distance, and grow.
//!
//! Where no queue shows, K is what two round trips take at the full rate, and two snapshots more: a lost packet comes again
//! a round trip later, and who stops sending meanwhile loses that time too, and with it the packets behind the lost one
//! that tell TCP of the loss. Where one shows, K is what the peer's pace makes of one round trip and of two ticks: on a
//! thin link two snapshots are a long queue.

use std::{collections::VecDeque, time::Duration};

use tickwire_shared::{Tick, TickRate};

/// The window that is never gone below, where acknowledgements come on the stream's own way up.
const WINDOW_MIN: usize = 3;
/// This part of a second's snapshots may be sent before anything is known of the way: what a round trip of 150 ms takes, so
/// that a player who joins from far away does not begin with a stall.
const START_SHARE: u32 = 6;
/// What is allowed beyond the round trip.
const SLACK_TICKS: u64 = 2;
/// How many round trips' worth may be under way where no queue shows.
const ROUND_TRIPS: f64 = 2.0;
/// How old the newest round trip that was taken with an empty window may be.
const EMPTY_SAMPLE_AGE_MAX: Duration = Duration::from_secs(10);
/// How long ago the window may have been full where it is let drain for such a sample.
const FULL_AGE_MAX: Duration = Duration::from_secs(2);

/// One stream's credit. Times are durations since any fixed moment.
#[derive(Clone, Debug)]
pub struct Credit {
    window_min: usize,
    window_max: usize,
    /// Snapshots per second at most: those of the player, over all stripes.
    rate: f64,
    /// How many times as many snapshots the player gets as this stream carries.
    scale: f64,
    /// The time of [`SLACK_TICKS`].
    slack: Duration,
    bytes_max: usize,
    in_flight: VecDeque<InFlight>,
    bytes: usize,
    round_trips: RoundTrips,
    queue: Queue,
    pace: Pace,
    empty_sample_at: Option<Duration>,
    /// When the window was last full: only where it is can what is in it be a queue of its own making.
    full_at: Option<Duration>,
    /// Nothing is sent until the window is empty.
    draining: bool,
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    tick: Tick,
    sent_at: Duration,
    bytes: u32,
    into_empty: bool,
}

/// The smallest round trip of the last 10 s: one number for each second.
#[derive(Clone, Copy, Debug, Default)]
struct RoundTrips {
    minima: [Option<Duration>; Self::SECONDS],
    second: u64,
}

/// Whether what is sent waits for what was sent before, as acknowledgements tell.
///
/// Out of a queue snapshots come one by one, and so do their acknowledgements, all of them late. What a loss has held up, on
/// either way, comes at once: its acknowledgements tell nothing, but for the first, which may come alone.
#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    shows: bool,
    /// How many acknowledgements in a row were late, of those that tell.
    late: u32,
    acknowledged_at: Duration,
    told_at: Duration,
    seen_at: Duration,
}

/// How many snapshots were acknowledged in the last second: one number for each eighth.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    counts: [u32; Self::PARTS + 1],
    part: u64,
    at: Duration,
    /// When it began to count.
    since: Option<Duration>,
}

impl Credit {
    /// Credit for a stream of at most `rate` snapshots per second.
    #[must_use]
    pub fn new(rate: TickRate, bytes_max: usize) -> Self {
        Self {
            rate: f64::from(rate.hz()),
            window_min: WINDOW_MIN,
            window_max: (rate.hz() as usize).div_ceil(2).max(WINDOW_MIN),
            scale: 1.0,
            slack: rate.duration_of(SLACK_TICKS),
            bytes_max,
            in_flight: VecDeque::new(),
            bytes: 0,
            round_trips: RoundTrips::default(),
            queue: Queue::default(),
            pace: Pace::default(),
            empty_sample_at: None,
            full_at: None,
            draining: false,
        }
    }

    /// Acknowledgements come as calls of their own, each of which takes its time: the least window is doubled.
    pub fn expect_unary_acks(&mut self) {
        self.window_min = 2 * WINDOW_MIN;
        self.window_max = self.window_max.max(self.window_min);
    }

    /// What is on its way is not waited for: it is of another time than what comes next.
    pub fn forget_in_flight(&mut self) {
        self.in_flight.clear();
        self.bytes = 0;
        self.draining = false;
    }

    /// K: how many snapshots may be unacknowledged.
    #[must_use]
    pub fn window(&self) -> usize {
        self.window_at(self.scale)
    }

    fn window_at(&self, scale: f64) -> usize {
        let window = match self.round_trips.min() {
            None => (self.rate / f64::from(START_SHARE)).max(self.window_min as f64),
            Some(round_trip) if self.queue.shows => {
                (round_trip + self.slack).as_secs_f64() * self.pace.per_second() * scale
            }
            Some(round_trip) => round_trip.as_secs_f64() * ROUND_TRIPS * self.rate + SLACK_TICKS as f64,
        };
        (window.ceil() as usize).clamp(self.window_min, self.window_max)
    }

    /// Snapshots that are unacknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.in_flight.len()
    }

    /// The shortest time of lately from a snapshot to its acknowledgement.
    #[must_use]
    pub fn round_trip_min(&self) -> Option<Duration> {
        self.round_trips.min()
    }

    /// When the oldest unacknowledged snapshot was sent.
    #[must_use]
    pub fn unacknowledged_since(&self) -> Option<Duration> {
        self.in_flight.front().map(|oldest| oldest.sent_at)
    }

    /// Whether another snapshot may be sent.
    #[must_use]
    pub fn allows(&self) -> bool {
        self.allows_at(self.scale)
    }

    /// As [`allows`](Self::allows), were the scale this one: see [`set_scale`](Self::set_scale).
    pub(crate) fn allows_at(&self, scale: f64) -> bool {
        if self.in_flight.is_empty() {
            return true;
        }
        let has_room = self.in_flight.len() < self.window_min || self.in_flight.len() < self.window_at(scale);
        !self.draining && has_room && self.bytes < self.bytes_max
    }

    /// The stream is one of several of a player, who gets `scale` times as many snapshots as it carries. The window goes by
    /// the player's pace: one that went by the stream's own would stop it at a loss that it could still send through.
    pub(crate) fn set_scale(&mut self, scale: f64) {
        self.scale = scale;
    }

    /// A snapshot was sent.
    pub fn sent(&mut self, tick: Tick, bytes: usize, now: Duration) {
        let into_empty = self.in_flight.is_empty();
        self.draining &= !into_empty;
        let empty_sample_is_old = self.empty_sample_at.is_some_and(|at| now.saturating_sub(at) > EMPTY_SAMPLE_AGE_MAX);
        let was_full = self.full_at.is_some_and(|at| now.saturating_sub(at) < FULL_AGE_MAX);
        if empty_sample_is_old && !into_empty && was_full {
            self.draining = true;
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.in_flight.push_back(InFlight { tick, sent_at: now, bytes, into_empty });
        self.bytes += bytes as usize;
        if self.in_flight.len() >= self.window() {
            self.full_at = Some(now);
        }
    }

    /// The peer has received `tick`, and all that was sent before it.
    pub fn acknowledge(&mut self, tick: Tick, now: Duration) {
        let mut together = 0;
        while let Some(oldest) = self.in_flight.pop_front_if(|oldest| oldest.tick <= tick) {
            self.bytes -= oldest.bytes as usize;
            self.pace.count(now);
            together += 1;
            if oldest.tick == tick {
                let round_trip = now.saturating_sub(oldest.sent_at);
                self.round_trips.sample(round_trip, now);
                let beyond = round_trip.saturating_sub(self.round_trips.min().unwrap_or(round_trip));
                self.queue.acknowledged(together, beyond > self.slack, self.slack, now);
                if oldest.into_empty || self.empty_sample_at.is_none() {
                    self.empty_sample_at = Some(now);
                }
            }
        }
    }
}

impl Queue {
    /// What one acknowledgement of an ordinary client is of, at most.
    const TOGETHER_MAX: usize = 2;
    /// Unless no other has come for so long: there are clients that acknowledge rarely.
    const UNTOLD_MAX: Duration = Duration::from_millis(500);
    /// So many late ones in a row tell of a queue.
    const LATE_MIN: u32 = 2;
    /// For so long one is reckoned with: where it has been let drain, it is soon back.
    const HOLD: Duration = Duration::from_secs(1);

    /// An acknowledgement of so many snapshots came; the newest of them is late or not, by more than `two_ticks`.
    fn acknowledged(&mut self, together: usize, is_late: bool, two_ticks: Duration, now: Duration) {
        let is_alone = together <= Self::TOGETHER_MAX && now.saturating_sub(self.acknowledged_at) > two_ticks / 4;
        self.acknowledged_at = now;
        if is_alone || now.saturating_sub(self.told_at) > Self::UNTOLD_MAX {
            self.told_at = now;
            self.late = if is_late { self.late.saturating_add(1) } else { 0 };
        } else if self.late < Self::LATE_MIN {
            self.late = 0;
        }
        if self.late >= Self::LATE_MIN {
            self.seen_at = now;
        }
        self.shows = self.seen_at > Duration::ZERO && now.saturating_sub(self.seen_at) < Self::HOLD;
    }
}

impl RoundTrips {
    /// The current one, and ten whole ones before it.
    const SECONDS: usize = 11;

    fn sample(&mut self, round_trip: Duration, now: Duration) {
        let second = now.as_secs();
        for skipped in (self.second + 1..=second).rev().take(Self::SECONDS) {
            self.minima[skipped as usize % Self::SECONDS] = None;
        }
        self.second = self.second.max(second);
        let min = &mut self.minima[self.second as usize % Self::SECONDS];
        *min = Some(min.map_or(round_trip, |min| min.min(round_trip)));
    }

    fn min(&self) -> Option<Duration> {
        self.minima.iter().flatten().min().copied()
    }
}

impl Pace {
    const PARTS: usize = 8;
    const PART: Duration = Duration::from_millis(125);
    const SPAN: Duration = Duration::from_secs(1);

    fn count(&mut self, now: Duration) {
        let part = (now.as_nanos() / Self::PART.as_nanos()) as u64;
        self.since.get_or_insert(now);
        for skipped in (self.part + 1..=part).rev().take(self.counts.len()) {
            self.counts[skipped as usize % (Self::PARTS + 1)] = 0;
        }
        self.part = self.part.max(part);
        self.at = self.at.max(now);
        self.counts[self.part as usize % (Self::PARTS + 1)] += 1;
    }

    /// As of the newest acknowledgement: of the oldest part, the share that the last second still holds; of a count that has
    /// only begun, what it comes to in a second.
    fn per_second(&self) -> f64 {
        let oldest = self.counts[(self.part as usize + 1) % (Self::PARTS + 1)];
        let passed = (self.at.as_nanos() % Self::PART.as_nanos()) as f64 / Self::PART.as_nanos() as f64;
        let counted = f64::from(self.counts.iter().sum::<u32>()) - f64::from(oldest) * passed;
        let time = self.at.saturating_sub(self.since.unwrap_or_default()).clamp(Self::PART, Self::SPAN);
        counted / time.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, ops::Range};

    use super::*;

    const TICK: Duration = Duration::from_micros(16_667);

    /// A link with a delay each way that carries `per_second` snapshots; the greatest age of what is sent in the ticks
    /// `measured`, and the window at the end.
    fn run(delay: Duration, per_second: u64, measured: Range<u64>) -> (Duration, usize) {
        let mut credit = Credit::new(TickRate::DEFAULT, usize::MAX);
        let mut acks: BTreeMap<Duration, Vec<Tick>> = BTreeMap::new();
        let (mut free_at, mut age_max) = (Duration::ZERO, Duration::ZERO);
        for tick in 1..measured.end {
            let now = TICK * tick as u32;
            while let Some(entry) = acks.first_entry().filter(|entry| *entry.key() <= now) {
                let (at, ticks) = entry.remove_entry();
                ticks.into_iter().for_each(|tick| credit.acknowledge(tick, at));
            }
            if credit.allows() {
                credit.sent(Tick(tick), 600, now);
                free_at = free_at.max(now) + Duration::from_secs(1) / per_second as u32;
                let arrives = free_at + delay;
                acks.entry(arrives + delay).or_default().push(Tick(tick));
                if measured.contains(&tick) {
                    age_max = age_max.max(arrives - now);
                }
            }
        }
        (age_max, credit.window())
    }

    /// The way of TCP: a snapshot in each second is lost and comes again a round trip after the next one, and what was sent
    /// behind it waits for it. Acknowledgements travel alone, or once in a second wait for one of them that is lost. How many
    /// ticks were sent nothing in.
    fn held_back(delay: Duration, ticks: u64, acknowledgements_wait: bool) -> usize {
        let mut credit = Credit::new(TickRate::DEFAULT, usize::MAX);
        let mut acks: BTreeMap<Duration, Vec<Tick>> = BTreeMap::new();
        let (mut arrived_at, mut acknowledged_at, mut held_back) = (Duration::ZERO, Duration::ZERO, 0);
        for tick in 1..=ticks {
            let now = TICK * tick as u32;
            while let Some(entry) = acks.first_entry().filter(|entry| *entry.key() <= now) {
                let (at, ticks) = entry.remove_entry();
                ticks.into_iter().for_each(|tick| credit.acknowledge(tick, at));
            }
            if !credit.allows() {
                held_back += 1;
                continue;
            }
            credit.sent(Tick(tick), 600, now);
            let comes_again = delay * 2 + TICK;
            let again = |is_lost: bool| if is_lost { comes_again } else { Duration::ZERO };
            arrived_at = arrived_at.max(now + delay + again(tick % 60 == 0));
            let waits = acknowledgements_wait && tick % 60 == 30;
            acknowledged_at = acknowledged_at.max(arrived_at + delay + again(waits));
            acks.entry(acknowledged_at).or_default().push(Tick(tick));
        }
        held_back
    }

    #[test]
    fn a_wide_link_is_filled_twice_whatever_its_delay() {
        for delay in [1, 25, 50, 100] {
            let (_, window) = run(Duration::from_millis(delay), 100_000, 1..1200);
            let needed = (4 * delay * 60).div_ceil(1000) as usize;
            assert!(
                (needed + 2..=needed + 4).contains(&window),
                "{delay} ms: K = {window}, {needed} in two round trips"
            );
        }
    }

    #[test]
    fn a_packet_that_is_lost_on_either_way_does_not_stop_the_stream() {
        for delay in [25, 50, 75] {
            for acknowledgements_wait in [false, true] {
                let held_back = held_back(Duration::from_millis(delay), 60 * 60, acknowledgements_wait);
                assert_eq!(held_back, 0, "{delay} ms each way, acknowledgements lost: {acknowledgements_wait}");
            }
        }
    }

    #[test]
    fn on_a_link_of_half_the_rate_the_age_stays_small() {
        let (age_max, window) = run(Duration::from_millis(25), 30, 1800..60 * 60);
        assert!(age_max <= Duration::from_millis(200), "age {age_max:?} with K = {window}");
    }

    #[test]
    fn a_player_who_joins_on_a_link_of_half_the_rate_has_a_small_age_within_a_second() {
        let (age_max, window) = run(Duration::from_millis(25), 30, 60..600);
        assert!(age_max <= Duration::from_millis(200), "age {age_max:?} with K = {window}");
        let (first, _) = run(Duration::from_millis(25), 30, 1..60);
        assert!(first <= Duration::from_millis(300), "age {first:?}");
    }

    #[test]
    fn a_window_that_is_never_full_is_never_drained() {
        let mut credit = Credit::new(TickRate::DEFAULT, usize::MAX);
        for tick in 1..=60 * 60 {
            let now = TICK * tick as u32;
            if tick > 6 {
                credit.acknowledge(Tick(tick - 6), now);
            }
            assert!(credit.allows() || tick < 60, "held back at tick {tick}");
            if credit.allows() {
                credit.sent(Tick(tick), 600, now);
            }
        }
    }

    #[test]
    fn before_any_sample_a_sixth_of_a_second_may_be_sent() {
        let mut credit = Credit::new(TickRate::DEFAULT, usize::MAX);
        for tick in 1..=10 {
            assert!(credit.allows());
            credit.sent(Tick(tick), 100, TICK * tick as u32);
        }
        assert!(!credit.allows());
    }

    #[test]
    fn who_joins_from_150_ms_away_gets_a_snapshot_of_every_tick_but_one() {
        // The first acknowledgement comes with the tenth tick.
        assert!(held_back(Duration::from_millis(75), 59, false) <= 1);
    }

    #[test]
    fn bytes_cap_the_window_but_never_to_nothing() {
        let mut credit = Credit::new(TickRate::DEFAULT, 1000);
        credit.sent(Tick(1), 5000, TICK);
        assert!(!credit.allows());
        credit.acknowledge(Tick(1), TICK * 2);
        assert!(credit.allows());
    }

    #[test]
    fn an_acknowledgement_of_a_later_tick_covers_the_earlier_ones() {
        let mut credit = Credit::new(TickRate::DEFAULT, usize::MAX);
        for tick in 1..=3 {
            credit.sent(Tick(tick), 100, TICK * tick as u32);
        }
        credit.acknowledge(Tick(3), TICK * 4);
        assert_eq!((credit.unacknowledged(), credit.unacknowledged_since()), (0, None));
        credit.acknowledge(Tick(2), TICK * 5);
        assert_eq!(credit.unacknowledged(), 0);
    }
}
