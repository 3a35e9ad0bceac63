//! When each tick's input is to be sent: a clock that runs ahead of the server's, steered by the margins that come back.

use std::collections::VecDeque;

use tickwire_shared::{INPUT_LEAD_MS_MAX, Tick};

use super::server_clock::Timeline;

/// Inputs are to arrive this many ticks before they are consumed, beside the jitter of their way.
const MARGIN_TICKS: f64 = 2.0;
/// How long an arrival counts. The least is [`ARRIVALS_MIN`], for slow tick rates.
const WINDOW: f64 = 2.0;
const ARRIVALS_MIN: usize = 16;
const ARRIVALS_MAX: usize = 1024;
/// The share of arrivals that the margin is made for; a single stall within the window does not count.
const ARRIVALS_IN_TIME: f64 = 0.95;
/// How often the target is computed, in seconds; a late input has it computed at once.
const REVIEW_INTERVAL: f64 = 0.1;
/// Within this of its target the clock runs at the speed of time.
const DEAD_BAND_TICKS: f64 = 0.5;
/// Further than this from its target the clock jumps.
const SNAP_TICKS: f64 = 10.0;
const SPEED_CHANGE: f64 = 0.05;
/// While inputs arrive late.
const SPEED_CHANGE_STARVING: f64 = 0.10;
/// How long a late arrival counts as starving, in seconds.
const STARVING: f64 = 0.25;

/// The clock by which inputs are sent.
///
/// The server says for every newest input by how much it was early. With the tick that it was for, that is its time of
/// arrival in server time; less the local time of sending, it is the way up as the clock must allow for it, wherever the
/// clock stood: so the target needs no model of how earlier corrections came back. The target is the 95th percentile of
/// two seconds' ways plus two ticks: it rises within a few inputs of a change for the worse, and falls when the last bad
/// arrival is two seconds old.
#[derive(Debug)]
pub(super) struct InputClock {
    timeline: Timeline,
    hand: Option<Hand>,
    /// (local time of arrival of the news, way up), in seconds.
    arrivals: VecDeque<(f64, f64)>,
    scratch: Vec<f64>,
    next_review: f64,
    starving_until: f64,
    /// Inputs that were sent before met a server that had not slipped yet: their ways say nothing.
    counted_from: f64,
}

/// How far ahead inputs may be sent. The server drops those for ticks more than a second ahead of its own, and targets rise
/// strictly: while it stands still, targets that went on with time would cost as long again once it goes on.
#[derive(Debug)]
pub(super) struct Reach {
    timeline: Timeline,
    /// The newest tick that the server is known to have reached.
    told: Tick,
    /// What may pass on the way, there and back. It grows no faster than ticks do: the first round trips after a standstill
    /// are as long as that was.
    room_ticks: u64,
}

impl Reach {
    pub(super) fn new(timeline: Timeline, told: Tick) -> Self {
        Self { timeline, told, room_ticks: 0 }
    }

    /// Takes in that the server is at a tick, with the shortest round trip that is known by now, in seconds.
    pub(super) fn told(&mut self, tick: Tick, round_trip: f64) {
        if tick <= self.told {
            return;
        }
        let round_trip_ticks = (round_trip / self.timeline.tick_seconds()).ceil() as u64;
        self.room_ticks = round_trip_ticks.min(self.room_ticks.saturating_add(tick.since(self.told)));
        self.told = tick;
    }

    /// The last tick that an input may be sent for.
    pub(super) fn limit(&self) -> Tick {
        let lead_ticks = self.timeline.rate.ticks_in_ms(INPUT_LEAD_MS_MAX);
        Tick(self.told.0.saturating_add(lead_ticks).saturating_add(self.room_ticks))
    }
}

/// Where the clock stands: `simulation + (now − local) · speed`, in seconds.
#[derive(Clone, Copy, Debug)]
struct Hand {
    local: f64,
    simulation: f64,
    speed: f64,
}

impl Hand {
    fn at(&self, now: f64) -> f64 {
        self.simulation + (now - self.local) * self.speed
    }
}

impl InputClock {
    pub(super) fn new(timeline: Timeline) -> Self {
        Self {
            timeline,
            hand: None,
            arrivals: VecDeque::new(),
            scratch: Vec::new(),
            next_review: 0.0,
            starving_until: f64::NEG_INFINITY,
            counted_from: f64::NEG_INFINITY,
        }
    }

    /// Forgets everything; the clock stands still until it is started again.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.timeline);
    }

    pub(super) fn is_running(&self) -> bool {
        self.hand.is_some()
    }

    /// Starts the clock from a first estimate: what an input sent `now` will find on the server's clock on arrival, less
    /// slip.
    pub(super) fn start(&mut self, now: f64, arrival: f64) {
        let simulation = arrival + MARGIN_TICKS * self.timeline.tick_seconds();
        self.hand = Some(Hand { local: now, simulation, speed: 1.0 });
    }

    /// Takes in that the server has fallen behind its ideal clock by `seconds` more. The clock goes along at once where that is
    /// further than it would run.
    pub(super) fn slipped(&mut self, now: f64, seconds: f64) {
        if seconds.abs() <= SNAP_TICKS * self.timeline.tick_seconds() {
            return;
        }
        if let Some(hand) = self.hand {
            self.hand = Some(Hand { local: now, simulation: hand.at(now) - seconds, speed: 1.0 });
        }
        self.counted_from = now;
    }

    /// Takes in that the input for `target`, sent at `sent`, arrived `margin_us` early.
    pub(super) fn arrived(&mut self, now: f64, sent: f64, target: Tick, margin_us: i32, slip: f64) {
        if sent < self.counted_from {
            return;
        }
        let arrival = self.timeline.seconds(target) + slip - f64::from(margin_us) * 1e-6;
        self.arrivals.push_back((now, arrival - sent));
        let too_old = |arrivals: &VecDeque<(f64, f64)>| {
            arrivals.len() > ARRIVALS_MAX || arrivals.len() > ARRIVALS_MIN && arrivals[0].0 < now - WINDOW
        };
        while too_old(&self.arrivals) {
            self.arrivals.pop_front();
        }
        if margin_us < 0 {
            self.starving_until = now + STARVING;
            self.next_review = now;
        }
        if now >= self.next_review {
            self.review(now, slip);
        }
    }

    /// The tick that [`ticks`](Self::ticks) are counted from.
    pub(super) fn origin(&self) -> Tick {
        self.timeline.origin
    }

    /// Where the clock stands, in ticks since its origin.
    pub(super) fn ticks(&self, now: f64) -> Option<f64> {
        self.hand.map(|hand| hand.at(now) / self.timeline.tick_seconds())
    }

    /// The newest tick whose input is due.
    pub(super) fn tick(&self, now: f64) -> Option<Tick> {
        self.hand.map(|hand| self.timeline.tick_at(hand.at(now)))
    }

    /// The local time, in seconds, at which a tick's input is due, as the clock runs now.
    pub(super) fn due(&self, tick: Tick) -> Option<f64> {
        self.hand.map(|hand| hand.local + (self.timeline.seconds(tick) - hand.simulation) / hand.speed)
    }

    fn review(&mut self, now: f64, slip: f64) {
        self.next_review = now + REVIEW_INTERVAL;
        let (Some(hand), Some(way)) = (self.hand, self.way()) else { return };
        let tick = self.timeline.tick_seconds();
        let target = now + way - slip + MARGIN_TICKS * tick;
        let here = hand.at(now);
        let behind = (target - here) / tick;
        let starving = now < self.starving_until;
        self.hand = Some(if behind.abs() > SNAP_TICKS {
            Hand { local: now, simulation: target, speed: 1.0 }
        } else {
            Hand { local: now, simulation: here, speed: speed(behind, starving) }
        });
    }

    /// The way up that 95 of 100 inputs do not exceed, in seconds from local to server time.
    fn way(&mut self) -> Option<f64> {
        if self.arrivals.is_empty() {
            return None;
        }
        self.scratch.clear();
        self.scratch.extend(self.arrivals.iter().map(|&(_, way)| way));
        let rank = ((self.scratch.len() - 1) as f64 * ARRIVALS_IN_TIME).ceil() as usize;
        let (_, way, _) = self.scratch.select_nth_unstable_by(rank, f64::total_cmp);
        Some(*way)
    }
}

fn speed(behind_ticks: f64, starving: bool) -> f64 {
    if behind_ticks.abs() <= DEAD_BAND_TICKS {
        1.0
    } else if behind_ticks < 0.0 {
        1.0 - SPEED_CHANGE
    } else if starving {
        1.0 + SPEED_CHANGE_STARVING
    } else {
        1.0 + SPEED_CHANGE
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tickwire_shared::TickRate;

    use super::*;

    const TICK: f64 = 1.0 / 60.0;

    fn clock() -> InputClock {
        let mut clock = InputClock::new(Timeline { origin: Tick(0), rate: TickRate::DEFAULT });
        clock.start(0.0, 0.0);
        clock
    }

    /// Sends one input per tick from local `from` for `seconds`; each takes `way` and the news of it as long. Returns the
    /// margins in seconds. Local and server time are one.
    fn run(clock: &mut InputClock, from: f64, seconds: f64, mut way: impl FnMut(f64) -> f64) -> Vec<f64> {
        let mut margins = Vec::new();
        let mut news: Vec<(f64, f64, Tick, f64)> = Vec::new();
        let mut now = from;
        let mut last = clock.tick(now).unwrap();
        while now < from + seconds {
            now += 0.001;
            news.retain(|&(at, sent, target, margin)| {
                if at <= now {
                    clock.arrived(now, sent, target, (margin * 1e6) as i32, 0.0);
                }
                at > now
            });
            let tick = clock.tick(now).unwrap();
            if tick > last {
                last = tick;
                let way = way(now);
                let margin = clock.timeline.seconds(tick) - (now + way);
                margins.push(margin);
                news.push((now + 2.0 * way, now, tick, margin));
            }
        }
        margins
    }

    #[test]
    fn a_steady_link_settles_at_two_ticks_of_margin() {
        let mut clock = clock();
        run(&mut clock, 0.0, 5.0, |_| 0.040);
        for margin in run(&mut clock, 5.0, 2.0, |_| 0.040) {
            assert!((margin / TICK - MARGIN_TICKS).abs() < DEAD_BAND_TICKS + 0.2, "{margin}");
        }
    }

    #[test]
    fn a_way_that_grows_is_caught_up_with_by_speed_and_not_by_a_jump() {
        let mut clock = clock();
        run(&mut clock, 0.0, 4.0, |_| 0.015);
        let before = clock.hand.unwrap().at(4.0) - 4.0;
        let margins = run(&mut clock, 4.0, 2.0, |_| 0.060);
        assert!(margins.iter().filter(|margin| **margin < 0.0).count() < 30);
        assert!(margins[margins.len() - 60..].iter().all(|margin| *margin > 0.0));
        let gained = clock.hand.unwrap().at(6.0) - 6.0 - before;
        assert!(gained > 0.030 && gained <= 2.0 * SPEED_CHANGE_STARVING, "{gained}");
    }

    #[test]
    fn a_way_that_shrinks_is_followed_slowly() {
        let mut clock = clock();
        run(&mut clock, 0.0, 4.0, |_| 0.060);
        let margins = run(&mut clock, 4.0, 1.5, |_| 0.015);
        let early = margins[margins.len() - 1] / TICK;
        assert!(early > MARGIN_TICKS + 2.0, "{early}");
        let margins = run(&mut clock, 5.5, 4.0, |_| 0.015);
        let settled = margins[margins.len() - 1] / TICK;
        assert!((settled - MARGIN_TICKS).abs() < DEAD_BAND_TICKS + 0.2, "{settled}");
    }

    #[test]
    fn far_from_its_target_the_clock_jumps() {
        let mut clock = clock();
        run(&mut clock, 0.0, 1.0, |_| 0.010);
        let margins = run(&mut clock, 1.0, 2.0, |_| 0.400);
        assert!(margins[margins.len() - 1] > 0.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn jittered_inputs_are_in_time_and_the_clock_keeps_within_its_speeds(
            base in 0.001..0.150_f64, jitter in 0.0..0.020_f64, seed in any::<u64>()
        ) {
            let mut clock = clock();
            let mut state = seed | 1;
            let mut way = move |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                base + jitter * ((state >> 40) as f64 / (1_u64 << 24) as f64)
            };
            run(&mut clock, 0.0, 4.0, &mut way);
            let start = clock.hand.unwrap().at(4.0);
            let margins = run(&mut clock, 4.0, 4.0, &mut way);
            prop_assert!(margins.iter().all(|margin| *margin > 0.0), "late: {:?}", margins);
            let passed = clock.hand.unwrap().at(8.0) - start;
            prop_assert!((passed - 4.0).abs() <= 4.0 * SPEED_CHANGE);
        }
    }
}
