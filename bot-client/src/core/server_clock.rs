//! Where the server's simulation is now.

use std::{collections::VecDeque, time::Duration};

use tickwire_shared::{Tick, TickRate};

/// How long a round trip counts. Over TCP most samples hold some stall; the least of about two seconds rarely does.
const WINDOW: f64 = 2.0;

/// Ticks as seconds, counted from a tick near by so that an `f64` holds them exactly enough for any session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeline {
    pub(super) origin: Tick,
    pub(super) rate: TickRate,
}

impl Timeline {
    /// When a tick is due, in seconds of simulation.
    pub(super) fn seconds(&self, tick: Tick) -> f64 {
        // Wrapping: a tick before the origin is a negative number.
        tick.0.wrapping_sub(self.origin.0) as i64 as f64 / f64::from(self.rate.hz())
    }

    /// The newest tick that is due at a time of the simulation.
    pub(super) fn tick_at(&self, seconds: f64) -> Tick {
        // A timer set for the moment a tick is due must find it due, whatever the last bit rounded to.
        const SLACK_TICKS: f64 = 1e-4;
        let ticks = (seconds * f64::from(self.rate.hz()) + SLACK_TICKS).floor();
        Tick(self.origin.0.saturating_add_signed(ticks as i64))
    }

    /// The length of a tick, in seconds.
    pub(super) fn tick_seconds(&self) -> f64 {
        1.0 / f64::from(self.rate.hz())
    }
}

/// An estimate of the server's clock, by the shortest round trip of the last two seconds.
///
/// Server time is simulation time plus slip: a server that fell behind once runs on later than its ideal clock, and says
/// by how much in every snapshot, so that the estimate follows at once.
#[derive(Debug)]
pub struct ServerClock {
    timeline: Timeline,
    round_trips: VecDeque<RoundTrip>,
    slip: f64,
}

/// All in seconds.
#[derive(Clone, Copy, Debug)]
struct RoundTrip {
    received: f64,
    length: f64,
    /// Server time − local time.
    offset: f64,
}

impl ServerClock {
    pub(super) fn new(timeline: Timeline) -> Self {
        Self { timeline, round_trips: VecDeque::new(), slip: 0.0 }
    }

    /// Forgets everything.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.timeline);
    }

    /// Takes in a pong: at `phase_us` after `tick` was due, with the loop behind by `slip_us`, the server answered the
    /// ping of `sent`.
    pub(super) fn pong(&mut self, sent: f64, now: f64, tick: Tick, phase_us: u32, slip_us: i64) {
        self.slip(slip_us);
        let server = self.timeline.seconds(tick) + f64::from(phase_us) * 1e-6 + self.slip;
        let offset = server - f64::midpoint(sent, now);
        self.round_trips.push_back(RoundTrip { received: now, length: now - sent, offset });
        while self.round_trips.front().is_some_and(|oldest| oldest.received < now - WINDOW) {
            self.round_trips.pop_front();
        }
    }

    /// Takes in how far the server's loop is behind its ideal clock.
    pub(super) fn slip(&mut self, slip_us: i64) {
        self.slip = slip_us as f64 * 1e-6;
    }

    pub(super) fn slip_seconds(&self) -> f64 {
        self.slip
    }

    /// The shortest round trip of the last two seconds, or of the last pong where that is older.
    #[must_use]
    pub fn min_rtt(&self) -> Option<Duration> {
        self.best().map(|best| Duration::from_secs_f64(best.length.max(0.0)))
    }

    /// The server's time, in seconds, at a local time.
    pub(super) fn server_time(&self, now: f64) -> Option<f64> {
        self.best().map(|best| now + best.offset)
    }

    /// The timeline that ticks are counted on.
    pub(super) fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// Where the server's simulation is at a local time, in ticks since the timeline's origin.
    pub(super) fn ticks(&self, now: f64) -> Option<f64> {
        self.server_time(now).map(|server| (server - self.slip) * f64::from(self.timeline.rate.hz()))
    }

    /// The local time, in seconds, at which a tick was or will be due on the server.
    pub(super) fn due(&self, tick: Tick) -> Option<f64> {
        self.best().map(|best| self.timeline.seconds(tick) + self.slip - best.offset)
    }

    /// The tick that the server is at, by the estimate.
    #[must_use]
    pub fn tick(&self, now: Duration) -> Option<Tick> {
        self.server_time(now.as_secs_f64()).map(|server| self.timeline.tick_at(server - self.slip))
    }

    fn best(&self) -> Option<&RoundTrip> {
        self.round_trips.iter().min_by(|a, b| a.length.total_cmp(&b.length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: TickRate = TickRate::DEFAULT;

    fn clock() -> ServerClock {
        ServerClock::new(Timeline { origin: Tick(1000), rate: RATE })
    }

    /// A pong of a server whose tick 1000 was due at local 0, answered after `up` and received after `down` more.
    fn pong(clock: &mut ServerClock, sent: f64, up: f64, down: f64) {
        let server = sent + up;
        let ticks = (server * 60.0).floor();
        let phase_us = ((server - ticks / 60.0) * 1e6) as u32;
        clock.pong(sent, server + down, Tick(1000 + ticks as u64), phase_us, 0);
    }

    #[test]
    fn the_shortest_round_trip_sets_the_offset() {
        let mut clock = clock();
        assert_eq!((clock.min_rtt(), clock.due(Tick(1000))), (None, None));
        pong(&mut clock, 1.0, 0.200, 0.010);
        pong(&mut clock, 1.5, 0.010, 0.010);
        pong(&mut clock, 2.0, 0.010, 0.300);
        let due = clock.due(Tick(1060)).unwrap();
        assert!((due - 1.0).abs() < 1e-5, "{due}");
        assert_eq!(clock.min_rtt().unwrap().as_millis(), 20);
        assert_eq!(clock.tick(Duration::from_millis(1009)), Some(Tick(1060)));
    }

    #[test]
    fn a_round_trip_counts_for_two_seconds() {
        let mut clock = clock();
        pong(&mut clock, 1.0, 0.010, 0.010);
        pong(&mut clock, 2.0, 0.050, 0.050);
        assert_eq!(clock.min_rtt().unwrap().as_millis(), 20);
        pong(&mut clock, 3.5, 0.050, 0.050);
        assert_eq!(clock.min_rtt().unwrap().as_millis(), 100);
    }

    #[test]
    fn a_slip_moves_every_tick_at_once() {
        let mut clock = clock();
        pong(&mut clock, 1.0, 0.010, 0.010);
        let before = clock.due(Tick(1100)).unwrap();
        clock.slip(250_000);
        assert!((clock.due(Tick(1100)).unwrap() - before - 0.25).abs() < 1e-9);
    }

    #[test]
    fn ticks_far_from_each_other_do_no_harm() {
        let timeline = Timeline { origin: Tick(5), rate: RATE };
        assert!(timeline.seconds(Tick(0)) < 0.0);
        assert_eq!(timeline.tick_at(-1e300), Tick(0));
        assert_eq!(timeline.tick_at(f64::NAN), Tick(5));
        for tick in [Tick(5), Tick(6), Tick(5 + 240 * 86_400 * 365)] {
            assert_eq!(timeline.tick_at(timeline.seconds(tick)), tick);
        }
    }
}
