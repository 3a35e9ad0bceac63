//! When ticks are due: a session's pace, and the same clock for the network's threads to read.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tickwire_shared::{Tick, TickRate};

/// The most ticks in a row that a late session steps without a pause before it gives the rest up.
pub(crate) const CATCH_UP_TICKS_MAX: u32 = 5;

/// Decides when each tick begins, against deadlines that do not drift. Times are since the session's start.
#[derive(Debug)]
pub(crate) struct Pacer {
    rate: TickRate,
    /// Due at the start: 0, or where a recovered session goes on.
    first: Tick,
    slip: Duration,
    late_in_a_row: u32,
}

/// What to do about the next tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It is due at this time.
    WaitUntil(Duration),
    /// It is due.
    Step,
    /// It is late by a tick or more, and is to be caught up.
    CatchUp,
    /// It is due now, because the deadlines have been moved by this much: catching up has failed.
    Slip(Duration),
}

impl Pacer {
    /// Of a session that is at tick `first` when it starts.
    pub(crate) fn new(rate: TickRate, first: Tick) -> Self {
        Self { rate, first, slip: Duration::ZERO, late_in_a_row: 0 }
    }

    /// When `tick` is due, which comes after the first.
    pub(crate) fn due(&self, tick: Tick) -> Duration {
        self.rate.duration_of(tick.since(self.first)) + self.slip
    }

    /// What to do about `tick` at `now`. After all but `WaitUntil` the tick is taken as stepped.
    pub(crate) fn next(&mut self, tick: Tick, now: Duration) -> Pace {
        let due = self.due(tick);
        let Some(late) = now.checked_sub(due) else {
            self.late_in_a_row = 0;
            return Pace::WaitUntil(due);
        };
        if late < self.rate.duration_of(1) {
            self.late_in_a_row = 0;
            return Pace::Step;
        }
        if self.late_in_a_row < CATCH_UP_TICKS_MAX {
            self.late_in_a_row += 1;
            return Pace::CatchUp;
        }
        self.late_in_a_row = 0;
        self.slip += late;
        Pace::Slip(late)
    }

    /// The session has stood still until `now`, when `tick` is due at last.
    pub(crate) fn go_on(&mut self, tick: Tick, now: Duration) {
        self.slip += now.saturating_sub(self.due(tick));
        self.late_in_a_row = 0;
    }

    /// How far the deadlines have been moved in all.
    pub(crate) fn slip(&self) -> Duration {
        self.slip
    }
}

/// The moment at or after `now` from which a session's ticks are counted, if it is number `index` of `count` at one rate:
/// their ticks are due in turn, evenly over the time of a tick, and not all at once. `base` is the same for all of them.
pub(crate) fn staggered_origin(base: Instant, now: Instant, rate: TickRate, index: u32, count: u32) -> Instant {
    let phase = rate.duration_of(1) * index / count;
    let past = now.saturating_duration_since(base + phase);
    let whole_ticks = (past.as_nanos() * u128::from(rate.hz())).div_ceil(1_000_000_000);
    base + phase + rate.duration_of(u64::try_from(whole_ticks).expect("2^64 ticks are 2 billion years"))
}

/// A session's time as the network's threads see it: written by the session's thread after each tick, read by all.
#[derive(Debug)]
pub(crate) struct TickClock {
    origin: Instant,
    rate: TickRate,
    first: Tick,
    tick: AtomicU64,
    slip_us: AtomicI64,
    /// Since when the session stands still, since its start.
    stands_since_us: AtomicI64,
}

/// What [`TickClock::stands_since_us`] says of a session that goes on.
const GOES: i64 = i64::MAX;

impl TickClock {
    /// A clock whose tick `first` is due at `origin`.
    pub(crate) fn new(origin: Instant, rate: TickRate, first: Tick) -> Self {
        Self {
            origin,
            rate,
            first,
            tick: AtomicU64::new(first.0),
            slip_us: AtomicI64::new(0),
            stands_since_us: AtomicI64::new(GOES),
        }
    }

    /// The time since the session's start: what views and pacers call `now`.
    pub(crate) fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.origin)
    }

    /// The moment that is `since_start` after the session's start.
    pub(crate) fn instant(&self, since_start: Duration) -> Instant {
        self.origin + since_start
    }

    /// The newest tick whose frame stands.
    pub(crate) fn tick(&self) -> Tick {
        Tick(self.tick.load(Ordering::Relaxed))
    }

    /// How far the tick loop has slipped against its ideal clock.
    pub(crate) fn slip_us(&self) -> i64 {
        self.slip_us.load(Ordering::Relaxed)
    }

    /// How early an input for `target` is that arrives at `now`; negative: late. Saturates at about 35 minutes.
    pub(crate) fn margin_us(&self, target: Tick, now: Instant) -> i32 {
        let margin = self.due_us(target) - micros(self.since_start(now));
        margin.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
    }

    /// The time since the newest tick was due; while the session stands still, until it did so.
    pub(crate) fn phase_us(&self, now: Instant) -> u32 {
        let now = micros(self.since_start(now)).min(self.stands_since_us.load(Ordering::Relaxed));
        let phase = now - self.due_us(self.tick());
        phase.clamp(0, i64::from(u32::MAX)) as u32
    }

    /// Says that the frame of `tick` stands.
    pub(crate) fn publish(&self, tick: Tick) {
        self.tick.store(tick.0, Ordering::Relaxed);
    }

    /// Says how far the deadlines have been moved in all.
    pub(crate) fn set_slip(&self, slip: Duration) {
        self.slip_us.store(micros(slip), Ordering::Relaxed);
    }

    /// Says that the session stands still since `now`, or goes on.
    pub(crate) fn stand(&self, since_start: Option<Duration>) {
        self.stands_since_us.store(since_start.map_or(GOES, micros), Ordering::Relaxed);
    }

    fn due_us(&self, tick: Tick) -> i64 {
        // What somebody names may be before the first.
        let [due, first] = [tick, self.first].map(|tick| micros(self.rate.duration_of(tick.0)));
        due.saturating_sub(first).saturating_add(self.slip_us())
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn pacer() -> Pacer {
        Pacer::new(TickRate::new(100).expect("in range"), Tick::ZERO)
    }

    #[test]
    fn deadlines_come_from_the_tick_and_not_from_the_last_wake_up() {
        let mut pacer = pacer();
        assert_eq!(pacer.next(Tick(1), MS(0)), Pace::WaitUntil(MS(10)));
        assert_eq!(pacer.next(Tick(1), MS(13)), Pace::Step);
        assert_eq!(pacer.next(Tick(2), MS(14)), Pace::WaitUntil(MS(20)));
        assert_eq!(pacer.next(Tick(1000), MS(14)), Pace::WaitUntil(MS(10_000)));
    }

    #[test]
    fn a_short_stall_is_caught_up_without_a_slip() {
        let mut pacer = pacer();
        // Ticks 1 to 4 come at 45 ms, back to back, the last of them within its own time; tick 5 is on time again.
        for tick in 1..=3 {
            assert_eq!(pacer.next(Tick(tick), MS(45)), Pace::CatchUp);
        }
        assert_eq!(pacer.next(Tick(4), MS(45)), Pace::Step);
        assert_eq!(pacer.next(Tick(5), MS(45)), Pace::WaitUntil(MS(50)));
        assert_eq!(pacer.slip(), Duration::ZERO);
    }

    #[test]
    fn a_long_stall_is_caught_up_by_five_ticks_and_the_rest_slips() {
        let mut pacer = pacer();
        for tick in 1..=5 {
            assert_eq!(pacer.next(Tick(tick), MS(200)), Pace::CatchUp);
        }
        assert_eq!(pacer.next(Tick(6), MS(200)), Pace::Slip(MS(140)));
        assert_eq!(pacer.slip(), MS(140));
        assert_eq!(pacer.next(Tick(7), MS(200)), Pace::WaitUntil(MS(210)));
    }

    #[test]
    fn a_standstill_is_no_lateness_and_time_stands_still_in_it() {
        let (mut pacer, origin) = (pacer(), Instant::now());
        let clock = TickClock::new(origin, TickRate::new(100).expect("in range"), Tick::ZERO);
        assert_eq!(pacer.next(Tick(1), MS(12)), Pace::Step);
        clock.publish(Tick(1));
        clock.stand(Some(MS(14)));
        assert_eq!(clock.phase_us(origin + MS(500)), 4_000);
        pacer.go_on(Tick(2), MS(1000));
        clock.set_slip(pacer.slip());
        clock.stand(None);
        assert_eq!((pacer.slip(), pacer.next(Tick(2), MS(1000))), (MS(980), Pace::Step));
        clock.publish(Tick(2));
        assert_eq!(pacer.next(Tick(3), MS(1000)), Pace::WaitUntil(MS(1010)));
        assert_eq!(clock.phase_us(origin + MS(1003)), 3_000);
        // It stood for no longer than until its next tick was due.
        pacer.go_on(Tick(3), MS(1005));
        assert_eq!(pacer.slip(), MS(980));
    }

    #[test]
    fn sessions_are_due_in_turn_whenever_they_start() {
        let (base, rate) = (Instant::now(), TickRate::new(100).expect("in range"));
        // Each takes 7 ms to create.
        let started = |i: u32| base + MS(7) * i;
        let origins = (0..5).map(|i| staggered_origin(base, started(i), rate, i, 5));
        let phases = origins.enumerate().map(|(i, origin)| {
            let (i, since) = (u32::try_from(i).expect("few"), origin - base);
            assert!(origin >= started(i) && origin < started(i) + MS(10), "{since:?}");
            since.as_micros() % 10_000
        });
        assert_eq!(phases.collect::<Vec<_>>(), [0, 2_000, 4_000, 6_000, 8_000]);
    }

    #[test]
    fn margins_and_phases_follow_the_slip() {
        let origin = Instant::now();
        let clock = TickClock::new(origin, TickRate::new(100).expect("in range"), Tick::ZERO);
        assert_eq!(clock.margin_us(Tick(10), origin + MS(98)), 2_000);
        assert_eq!(clock.margin_us(Tick(10), origin + MS(103)), -3_000);
        clock.set_slip(MS(5));
        clock.publish(Tick(9));
        assert_eq!(clock.margin_us(Tick(10), origin + MS(103)), 2_000);
        assert_eq!(clock.phase_us(origin + MS(103)), 8_000);
        assert_eq!(clock.phase_us(origin), 0);
        assert_eq!(clock.margin_us(Tick::MAX, origin), i32::MAX);
    }

    #[test]
    fn a_recovered_session_starts_at_its_tick() {
        let (origin, rate, first) = (Instant::now(), TickRate::new(100).expect("in range"), Tick(1000));
        let mut pacer = Pacer::new(rate, first);
        assert_eq!(pacer.next(Tick(1001), MS(3)), Pace::WaitUntil(MS(10)));
        let clock = TickClock::new(origin, rate, first);
        assert_eq!((clock.tick(), clock.phase_us(origin + MS(4))), (first, 4_000));
        assert_eq!(clock.margin_us(Tick(1002), origin + MS(4)), 16_000);
        assert_eq!(clock.margin_us(Tick(999), origin + MS(4)), -14_000);
    }
}
