//! What a client counts about its own connection.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::server_clock::ServerClock;
use tickwire_shared::Tick;

/// Ages above half a round trip and this are stalls.
const STALL_AGE: f64 = 0.050;
/// Ages and delays are recorded up to this; what is above counts as this.
const LATENCY_MAX_US: u64 = 60_000_000;
/// Below this latencies are not told apart.
const LATENCY_STEP_US: u64 = 50;

/// Counters and latencies of one client since it joined. They add up: [`merge`](Self::merge) makes a swarm's of its bots'.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Snapshots received, those that waited for a reset among them.
    pub snapshots: u64,
    /// Snapshots that were not applied, because the mirror was waiting for a reset.
    pub snapshots_ignored: u64,
    /// Entities in view, summed over the snapshots that were applied.
    pub entity_ticks: u64,
    /// Cell hashes that were compared.
    pub hash_checks: u64,
    /// Cell hashes that did not match.
    pub hash_mismatches: u64,
    /// Resets that were asked for, whatever the reason.
    pub resyncs: u64,
    /// Game events received.
    pub events: u64,
    /// Game events that the server says were lost.
    pub events_lost: u64,
    /// Further streams that were opened.
    pub stripes_opened: u64,
    /// Streams that were lost while the player had others.
    pub stripes_lost: u64,
    /// Times that the last stream was lost, and the seat taken back.
    pub resumes: u64,
    /// Inputs sent, each counted once.
    pub inputs_sent: u64,
    /// Inputs that did not come before their tick.
    pub inputs_late: u64,
    /// Inputs that came more than a second before their tick, which a server does not take.
    pub inputs_too_early: u64,
    /// Ticks, from the first input on, at which the server repeated what was held.
    pub inputs_repeated: u64,
    /// Ticks, from the first input on, at which nothing was held any more.
    pub inputs_absent: u64,
    /// Ticks for which the own entity was computed ahead of the server.
    pub ticks_predicted: u64,
    /// Those of them that the server's exact state came for.
    pub ticks_compared: u64,
    /// Those of these at which another entity may have been in the way.
    pub ticks_in_contact: u64,
    /// Ticks compared at which a predicted field was not what the server has.
    pub mispredictions: u64,
    /// Those of them at which another entity may have been in the way.
    pub mispredictions_in_contact: u64,
    /// How far each correction of a misprediction that was not in contact moved what is shown: in millionths of the unit of
    /// the game's positions.
    pub correction_micros: Histogram<u64>,
    /// From sending an input to the first snapshot that says it, or a later one, was consumed; in µs.
    pub input_to_ack_us: Histogram<u64>,
    /// Sampled each millisecond: now less the server's simulation time of the newest tick applied; in µs. The samples of the
    /// last seconds are in it after [`Core::sample_age`](super::Core::sample_age).
    pub snapshot_age_us: Histogram<u64>,
    /// The sum of all these samples, in µs.
    pub snapshot_age_us_total: u64,
    /// Their number.
    pub snapshot_age_samples: u64,
    /// Those of them above RTT/2 + 50 ms.
    pub stalled_ms: u64,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            snapshots: 0,
            snapshots_ignored: 0,
            entity_ticks: 0,
            hash_checks: 0,
            hash_mismatches: 0,
            resyncs: 0,
            events: 0,
            events_lost: 0,
            stripes_opened: 0,
            stripes_lost: 0,
            resumes: 0,
            inputs_sent: 0,
            inputs_late: 0,
            inputs_too_early: 0,
            inputs_repeated: 0,
            inputs_absent: 0,
            ticks_predicted: 0,
            ticks_compared: 0,
            ticks_in_contact: 0,
            mispredictions: 0,
            mispredictions_in_contact: 0,
            correction_micros: Histogram::new(2).expect("two digits are few enough"),
            input_to_ack_us: latencies(),
            snapshot_age_us: latencies(),
            snapshot_age_us_total: 0,
            snapshot_age_samples: 0,
            stalled_ms: 0,
        }
    }
}

fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_STEP_US, LATENCY_MAX_US, 2).expect("the bounds are constants that fit")
}

impl Stats {
    /// Adds another client's.
    pub fn merge(&mut self, other: &Self) {
        self.snapshots += other.snapshots;
        self.snapshots_ignored += other.snapshots_ignored;
        self.entity_ticks += other.entity_ticks;
        self.hash_checks += other.hash_checks;
        self.hash_mismatches += other.hash_mismatches;
        self.resyncs += other.resyncs;
        self.events += other.events;
        self.events_lost += other.events_lost;
        self.stripes_opened += other.stripes_opened;
        self.stripes_lost += other.stripes_lost;
        self.resumes += other.resumes;
        self.inputs_sent += other.inputs_sent;
        self.inputs_late += other.inputs_late;
        self.inputs_too_early += other.inputs_too_early;
        self.inputs_repeated += other.inputs_repeated;
        self.inputs_absent += other.inputs_absent;
        self.ticks_predicted += other.ticks_predicted;
        self.ticks_compared += other.ticks_compared;
        self.ticks_in_contact += other.ticks_in_contact;
        self.mispredictions += other.mispredictions;
        self.mispredictions_in_contact += other.mispredictions_in_contact;
        self.snapshot_age_us_total += other.snapshot_age_us_total;
        self.snapshot_age_samples += other.snapshot_age_samples;
        self.stalled_ms += other.stalled_ms;
        let same = "histograms of the same bounds add up";
        self.input_to_ack_us.add(&other.input_to_ack_us).expect(same);
        self.correction_micros.add(&other.correction_micros).expect("it grows by itself");
        self.snapshot_age_us.add(&other.snapshot_age_us).expect(same);
    }

    /// The share of time, in percent, in which what the client held was a stall old; 0 before anything was sampled.
    #[must_use]
    pub fn stall_percent(&self) -> f64 {
        match self.snapshot_age_samples {
            0 => 0.0,
            samples => self.stalled_ms as f64 * 100.0 / samples as f64,
        }
    }

    /// The share of ticks, in percent, that were mispredicted, of those compared with no other entity near; 0 before any was.
    #[must_use]
    pub fn misprediction_percent(&self) -> f64 {
        match self.ticks_compared - self.ticks_in_contact {
            0 => 0.0,
            ticks => (self.mispredictions - self.mispredictions_in_contact) as f64 * 100.0 / ticks as f64,
        }
    }

    pub(super) fn record_correction(&mut self, distance: f64) {
        // A cast of a float saturates, and makes NaN 0.
        self.correction_micros.record((distance * 1e6).round() as u64).expect("it grows by itself");
    }

    pub(super) fn record_input_to_ack(&mut self, delay: Duration) {
        self.input_to_ack_us.saturating_record(delay.as_micros().try_into().unwrap_or(u64::MAX));
    }
}

/// Samples the age of the newest tick applied, once per millisecond, whenever the client happens to be called.
///
/// Between two snapshots the age grows with time, so that all samples since the last call follow from it. They are put into
/// the histogram many at a time: it is large, and of a thousand clients' none is in the core's cache.
#[derive(Debug, Default)]
pub(super) struct AgeMeter {
    newest: Option<Tick>,
    /// In milliseconds of local time.
    next_sample: Option<u64>,
    /// Samples that are not in the histogram yet.
    ramps: Vec<Ramp>,
}

/// Samples of consecutive milliseconds.
#[derive(Clone, Copy, Debug)]
struct Ramp {
    /// The age at the first one, in µs, no more than [`LATENCY_MAX_US`]; negative while the clock is settling.
    first_us: i64,
    samples: u64,
}

impl Ramp {
    /// The sum of its samples; negative ones count as 0.
    fn total_us(self) -> u64 {
        let below = u64::try_from(-self.first_us).map_or(0, |first| first.div_ceil(1000)).min(self.samples);
        let first = (self.first_us + below as i64 * 1000).max(0) as u64;
        let samples = self.samples - below;
        let above_first = 1000_u64.saturating_mul(samples.saturating_mul(samples.saturating_sub(1)) / 2);
        samples.saturating_mul(first).saturating_add(above_first)
    }
}

/// About two seconds of snapshots.
const RAMPS_MAX: usize = 64;

impl AgeMeter {
    /// A tick was applied. Samples until now still see the one before.
    pub(super) fn applied(&mut self, tick: Tick, now: f64, clock: &ServerClock, stats: &mut Stats) {
        self.sample(now, clock, stats);
        self.newest = Some(tick);
    }

    /// Accounts for all samples up to `now`.
    pub(super) fn sample(&mut self, now: f64, clock: &ServerClock, stats: &mut Stats) {
        let now_ms = (now * 1e3) as u64;
        let (Some(due), Some(rtt)) = (self.newest.and_then(|newest| clock.due(newest)), clock.min_rtt()) else {
            self.next_sample = Some(now_ms + 1);
            return;
        };
        let stall = rtt.as_secs_f64() / 2.0 + STALL_AGE;
        let first = self.next_sample.unwrap_or(now_ms);
        self.next_sample = Some(now_ms + 1);
        let samples = (now_ms + 1).saturating_sub(first);
        if samples == 0 {
            return;
        }
        let age = first as f64 * 1e-3 - due;
        // Samples that are not above the line come first.
        let calm = ((stall - age) * 1e3 + 1.0).floor().clamp(0.0, samples as f64) as u64;
        stats.stalled_ms += samples - calm;
        // A server may say what it likes of its slip.
        let most = LATENCY_MAX_US as f64;
        let ramp = Ramp { first_us: (age * 1e6).clamp(-most, most) as i64, samples };
        stats.snapshot_age_us_total = stats.snapshot_age_us_total.saturating_add(ramp.total_us());
        stats.snapshot_age_samples += samples;
        self.ramps.push(ramp);
        if self.ramps.len() >= RAMPS_MAX {
            self.flush(stats);
        }
    }

    /// Puts what was sampled into the histogram.
    pub(super) fn flush(&mut self, stats: &mut Stats) {
        for Ramp { first_us, samples } in self.ramps.drain(..) {
            for i in 0..samples {
                // A negative age counts as 0.
                stats.snapshot_age_us.saturating_record((first_us + i as i64 * 1000).try_into().unwrap_or(0));
            }
        }
    }

    /// Stops sampling until the next tick is applied.
    pub(super) fn reset(&mut self) {
        (self.newest, self.next_sample) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use tickwire_shared::TickRate;

    use super::{super::server_clock::Timeline, *};

    /// A clock whose tick n is due at local n / 50 seconds, with a round trip of 21 ms.
    fn clock() -> ServerClock {
        let rate = TickRate::new(50).unwrap();
        let mut clock = ServerClock::new(Timeline { origin: Tick(0), rate });
        clock.pong(0.9895, 1.0105, Tick(50), 0, 0);
        clock
    }

    #[test]
    fn between_two_snapshots_the_age_is_a_ramp_of_milliseconds() {
        let (clock, mut meter, mut stats) = (clock(), AgeMeter::default(), Stats::default());
        // Tick 100 is due at 2.0.
        meter.applied(Tick(100), 2.0105, &clock, &mut stats);
        meter.flush(&mut stats);
        assert_eq!(stats.snapshot_age_us.len(), 0);
        meter.applied(Tick(101), 2.0305, &clock, &mut stats);
        meter.flush(&mut stats);
        // At 2.011 ..= 2.030: ages 11 to 30 ms.
        assert_eq!(stats.snapshot_age_us.len(), 20);
        let ms = |value: u64| (value as f64 / 1000.0).round();
        assert_eq!(ms(stats.snapshot_age_us.value_at_quantile(0.05)), 11.0);
        assert_eq!(ms(stats.snapshot_age_us.max()), 30.0);
        meter.sample(2.0315, &clock, &mut stats);
        meter.flush(&mut stats);
        // At 2.031, by the newer tick: 11 ms.
        assert_eq!(stats.snapshot_age_us.len(), 21);
        assert_eq!(ms(stats.snapshot_age_us.max()), 30.0);
    }

    #[test]
    fn a_stall_is_what_is_older_than_half_a_round_trip_and_fifty_milliseconds() {
        let (clock, mut meter, mut stats) = (clock(), AgeMeter::default(), Stats::default());
        meter.applied(Tick(100), 2.0005, &clock, &mut stats);
        meter.sample(2.1005, &clock, &mut stats);
        meter.flush(&mut stats);
        // Ages 1 to 100 ms, of which those above 60.5 ms are stalls.
        assert_eq!((stats.snapshot_age_us.len(), stats.stalled_ms), (100, 40));
        assert!((stats.stall_percent() - 40.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_sampled_before_a_clock_and_a_tick_are_known_or_after_a_reset() {
        let (clock, mut meter, mut stats) = (clock(), AgeMeter::default(), Stats::default());
        meter.sample(1.5, &clock, &mut stats);
        meter.applied(Tick(100), 2.0, &clock, &mut stats);
        meter.reset();
        meter.sample(9.0, &clock, &mut stats);
        meter.applied(Tick(450), 9.5, &clock, &mut stats);
        meter.flush(&mut stats);
        assert_eq!((stats.snapshot_age_us.len(), stats.stall_percent()), (0, 0.0));
    }

    #[test]
    fn a_ramps_total_is_the_sum_of_its_samples() {
        for (first_us, samples) in [(0, 0), (500, 1), (20_250, 33), (-2500, 5), (-2000, 3), (-9000, 4)] {
            let sum: i64 = (0..samples as i64).map(|i| (first_us + i * 1000).max(0)).sum();
            assert_eq!(Ramp { first_us, samples }.total_us(), sum as u64, "{first_us} {samples}");
        }
    }

    #[test]
    fn a_swarms_stats_are_the_sum_of_its_bots() {
        let mut total = Stats::default();
        for (snapshots, delay_ms) in [(3, 10), (4, 20)] {
            let mut stats = Stats { snapshots, hash_checks: 5, ..Stats::default() };
            stats.record_input_to_ack(Duration::from_millis(delay_ms));
            total.merge(&stats);
        }
        assert_eq!((total.snapshots, total.hash_checks, total.input_to_ack_us.len()), (7, 10, 2));
    }
}
