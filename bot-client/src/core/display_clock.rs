//! The moment at which others are shown: a clock behind the server's, late enough that what it needs has come.

use std::collections::VecDeque;

use tickwire_shared::Tick;

use super::server_clock::Timeline;

/// How long an arrival counts, in seconds.
const WINDOW: f64 = 4.0;
const ARRIVALS_MAX: usize = 1024;
/// The share of arrivals that the delay is made for; of what is later, the entities' own predictors take care.
const ARRIVALS_IN_TIME: f64 = 0.98;
/// What arrives within so many ticks of another came late together with it, and counts once.
const BURST_TICKS: f64 = 0.5;
/// How much of the time that passes the delay shrinks by, where less will do. It grows at once.
const SHRINK: f64 = 0.02;
/// By how much the clock may be faster or slower than time.
const SPEED_CHANGE: f64 = 0.25;
/// At so many ticks from where it is to stand, the clock's speed is changed by all of that.
const FAR_TICKS: f64 = 2.0;
/// How far past the newest snapshot the clock goes, in seconds; then it stands still.
pub(super) const EXTRAPOLATION: f64 = 0.1;
/// What lies further behind than this, in seconds, is passed over: nobody wants to watch it.
const BEHIND_MAX: f64 = 1.0;
/// Steps of the clock to the tick, as they travel with inputs.
pub(super) const FRACTIONS: f64 = 256.0;

/// The clock by which others are shown, in ticks since the timeline's origin.
///
/// An arrival needs the clock to stand no later than the snapshot before it until then; so the delay is the 98th percentile
/// of what arrivals of the last seconds needed, which comes to a snapshot's interval and the jitter of the way down.
#[derive(Debug)]
pub(super) struct DisplayClock {
    timeline: Timeline,
    /// Local time, and where the clock stood.
    hand: Option<(f64, f64)>,
    newest: f64,
    is_interrupted: bool,
    /// (local time, ticks from the newest snapshot before to the server's time at the arrival).
    needs: VecDeque<(f64, f64)>,
    scratch: Vec<f64>,
    /// The delay that arrivals of the last seconds ask for.
    needed: f64,
    delay: f64,
}

impl DisplayClock {
    pub(super) fn new(timeline: Timeline) -> Self {
        Self {
            timeline,
            hand: None,
            newest: f64::NEG_INFINITY,
            is_interrupted: false,
            needs: VecDeque::new(),
            scratch: Vec::new(),
            needed: 0.0,
            delay: 0.0,
        }
    }

    /// A tick on this clock's scale.
    pub(super) fn place_of(&self, tick: Tick) -> f64 {
        // Wrapping: a tick before the origin is a negative number.
        tick.0.wrapping_sub(self.timeline.origin.0) as i64 as f64
    }

    /// The tick at or before a place, and how far it is to the next, in 1/256.
    pub(super) fn tick_at(&self, place: f64) -> (Tick, u8) {
        let (whole, rest) = (place.floor(), place - place.floor());
        // Below 256: the rest is below 1.
        (Tick(self.timeline.origin.0.saturating_add_signed(whole as i64)), (rest * FRACTIONS) as u8)
    }

    /// How far behind the server's time others are shown, in ticks.
    pub(super) fn delay(&self) -> f64 {
        self.delay
    }

    /// The next arrival says nothing of those after it.
    pub(super) fn interrupted(&mut self) {
        self.is_interrupted = true;
    }

    /// Takes in that a snapshot of `tick` has come, when the server's clock stands at `server` ticks.
    pub(super) fn applied(&mut self, now: f64, tick: Tick, server: Option<f64>) {
        let place = self.place_of(tick);
        if place <= self.newest || tick == Tick::ZERO {
            return;
        }
        let burst = self.timeline.tick_seconds() * BURST_TICKS;
        let counts = self.newest > f64::NEG_INFINITY
            && !std::mem::take(&mut self.is_interrupted)
            && self.needs.back().is_none_or(|need| now - need.0 >= burst);
        if let Some(server) = server.filter(|_| counts) {
            self.needs.push_back((now, (server - self.newest).min(BEHIND_MAX * f64::from(self.timeline.rate.hz()))));
            while self.needs.len() > ARRIVALS_MAX || self.needs.front().is_some_and(|need| need.0 < now - WINDOW) {
                self.needs.pop_front();
            }
            self.review();
        }
        self.newest = place;
        self.hand.get_or_insert((now, place));
    }

    /// Moves on to `now`: where the clock then stands, in whole steps of 1/256 tick. Never back.
    pub(super) fn advance(&mut self, now: f64, server: Option<f64>) -> Option<f64> {
        let (at, mut place) = self.hand?;
        let hz = f64::from(self.timeline.rate.hz());
        let mut passed = (now - at).max(0.0) * hz;
        self.delay = (self.delay - passed * SHRINK).max(self.needed);
        let target = server.map_or(place + passed, |server| server - self.delay);
        let limit = self.newest + EXTRAPOLATION * hz;
        if target - place - passed > BEHIND_MAX * hz || passed > BEHIND_MAX * hz {
            place = place.max(target.min(limit));
            passed = 0.0;
        }
        // In steps of a tick at most, so that what is steered by holds for each.
        while passed > 0.0 {
            let step = passed.min(1.0);
            passed -= step;
            let behind = target - passed - (place + step);
            let speed = 1.0 + (behind / FAR_TICKS).clamp(-1.0, 1.0) * SPEED_CHANGE;
            place = place.max((place + step * speed).min(limit));
        }
        self.hand = Some((now, place));
        Some((place * FRACTIONS).floor() / FRACTIONS)
    }

    fn review(&mut self) {
        self.scratch.clear();
        self.scratch.extend(self.needs.iter().map(|&(_, need)| need));
        let rank = ((self.scratch.len() - 1) as f64 * ARRIVALS_IN_TIME).ceil() as usize;
        let (_, needed, _) = self.scratch.select_nth_unstable_by(rank, f64::total_cmp);
        self.needed = *needed;
        self.delay = self.delay.max(self.needed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
    use tickwire_shared::TickRate;

    use super::*;

    const HZ: f64 = 60.0;

    /// Snapshots of every `interval`-th tick arrive after `way` seconds; a frame is drawn each 1/144 s. Local and server
    /// time are one. Where the clock stands at each frame, and the newest snapshot's tick.
    fn run(
        clock: &mut DisplayClock,
        seconds: f64,
        interval: u64,
        mut way: impl FnMut(u64) -> f64,
    ) -> Vec<(f64, f64, f64)> {
        let mut arrivals: Vec<(f64, u64)> = Vec::new();
        let mut last = 0.0_f64;
        for tick in (0..(seconds * HZ) as u64).step_by(interval as usize) {
            last = last.max(tick as f64 / HZ + way(tick));
            arrivals.push((last, tick));
        }
        let (mut frames, mut newest) = (Vec::new(), f64::NEG_INFINITY);
        let mut arrivals = arrivals.into_iter().peekable();
        for frame in 0..(seconds * 144.0) as u64 {
            let now = frame as f64 / 144.0;
            while let Some((at, tick)) = arrivals.next_if(|(at, _)| *at <= now) {
                clock.applied(at, Tick(tick), Some(at * HZ));
                newest = tick as f64;
            }
            if let Some(place) = clock.advance(now, Some(now * HZ)) {
                frames.push((now, place, newest));
            }
        }
        frames
    }

    fn clock() -> DisplayClock {
        DisplayClock::new(Timeline { origin: Tick(0), rate: TickRate::DEFAULT })
    }

    #[test]
    fn on_a_steady_link_the_delay_is_the_way_and_an_interval() {
        for interval in [1, 3] {
            let mut clock = clock();
            let frames = run(&mut clock, 6.0, interval, |_| 0.050);
            let (now, place, newest) = frames[frames.len() - 1];
            let delay = now * HZ - place;
            assert!((delay - 3.0 - interval as f64).abs() < 0.2, "{interval}: {delay}");
            assert!(place <= newest);
        }
    }

    #[test]
    fn after_a_worse_time_the_delay_shrinks_slowly() {
        let mut clock = clock();
        run(&mut clock, 3.0, 1, |tick| 0.030 + if tick.is_multiple_of(10) { 0.060 } else { 0.0 });
        let worse = clock.delay();
        assert!(worse > 6.0, "{worse}");
        let frames = run(&mut clock, 12.0, 1, |_| 0.030);
        assert!(clock.delay() < 3.2 && clock.delay() > 2.5, "{}", clock.delay());
        assert!(frames.windows(2).all(|pair| pair[1].1 >= pair[0].1));
    }

    #[test]
    fn a_single_stall_and_what_comes_with_its_end_are_soon_over() {
        let mut clock = clock();
        let frames = run(&mut clock, 6.0, 1, |tick| 0.030 + if tick == 200 { 0.3 } else { 0.0 });
        assert!(clock.delay() < 3.2, "{}", clock.delay());
        let behind = |now: f64| {
            let (at, place, _) = frames.iter().find(|(at, ..)| *at >= now).unwrap();
            at * HZ - place
        };
        // The stall ends at 3.67 s.
        assert!(behind(3.6) > 9.0 && behind(4.7) < 4.0, "{} {}", behind(3.6), behind(4.7));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn it_never_goes_back_nor_jumps_nor_far_past_what_is_known(
            way in 0.0..0.2_f64, jitter in 0.0..0.05_f64, interval in 1..4_u64, seed in any::<u64>(),
            stall_every in 20..200_u64, stall in 0.0..0.6_f64,
        ) {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
            let mut clock = clock();
            let frames = run(&mut clock, 8.0, interval, |tick| {
                let stalls = tick / interval % stall_every == stall_every - 1;
                way + jitter * rng.random::<f64>() + if stalls { stall } else { 0.0 }
            });
            for pair in frames.windows(2) {
                let ((before, from, _), (after, to, newest)) = (pair[0], pair[1]);
                let passed = (after - before) * HZ;
                prop_assert!(to >= from && to - from <= passed * (1.0 + SPEED_CHANGE) + 1.0 / FRACTIONS);
                prop_assert!(to <= newest + EXTRAPOLATION * HZ);
            }
        }
    }
}
