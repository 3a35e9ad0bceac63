//! What a bad network does to packets: a state machine that knows no clock and no socket. A [`Lane`] is one player's line
//! in one direction; all that a player sends and receives suffers the same losses, however many connections it is on.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng};
use serde::Serialize;

/// A burst does not outlast such a silence: what jams a line passes by itself, not by what is sent. Else a connection that
/// is only being made, which sends a packet each second, would stay in one for seconds.
const BURST_SILENCE_MAX: Duration = Duration::from_millis(100);

/// What a link is like. It is the same each way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct LinkConfig {
    pub(crate) round_trip_ms: f64,
    /// How far a round trip may differ from that, up or down; half of it each way.
    pub(crate) jitter_ms: f64,
    /// Whether jitter may bring packets out of their order.
    pub(crate) reorders: bool,
    /// Of all packets each way.
    pub(crate) loss_percent: f64,
    /// How many packets are lost in a row, on average; 1: each on its own.
    pub(crate) burst_packets: f64,
    pub(crate) bandwidth_kbit: Option<u32>,
    /// What may wait for the bandwidth, as time; beyond that packets are dropped.
    pub(crate) queue_ms: f64,
    pub(crate) outages: Option<Outages>,
}

/// Times in which everything is lost, each way: one in each period, somewhere within it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Outages {
    pub(crate) every_s: f64,
    pub(crate) length_ms: f64,
}

impl LinkConfig {
    /// Whether packets may be lost at all.
    pub(crate) fn loses(&self) -> bool {
        self.loss_percent > 0.0 || self.outages.is_some() || self.bandwidth_kbit.is_some()
    }
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            round_trip_ms: 50.0,
            jitter_ms: 0.0,
            reorders: false,
            loss_percent: 0.0,
            burst_packets: 1.0,
            bandwidth_kbit: None,
            queue_ms: 100.0,
            outages: None,
        }
    }
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// From the server.
    Down,
    Up,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fate {
    Arrives {
        at: Duration,
    },
    /// Random loss.
    Lost,
    /// The queue for the bandwidth was full.
    Dropped,
    /// It was sent during an outage.
    Outage,
}

/// What passed over lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    /// Packets that neither an outage nor a full queue took.
    pub(crate) at_risk: u64,
    /// Of these, lost at random.
    pub(crate) lost: u64,
    /// By a full queue.
    pub(crate) dropped: u64,
    /// By an outage.
    pub(crate) outage: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.at_risk += other.at_risk;
        self.lost += other.lost;
        self.dropped += other.dropped;
        self.outage += other.outage;
    }

    /// Of those that random loss could have hit.
    pub(crate) fn lost_percent(&self) -> f64 {
        self.lost as f64 * 100.0 / self.at_risk.max(1) as f64
    }
}

/// One player's line in one direction. Times are since the link was made.
#[derive(Debug)]
pub(crate) struct Lane {
    config: LinkConfig,
    rng: ChaCha8Rng,
    outages: Option<OutageTimes>,
    is_in_burst: bool,
    last_taken: Duration,
    /// When the last packet that was taken has been transmitted whole.
    free_at: Duration,
    newest_arrival: Duration,
    pub(crate) counts: Counts,
}

impl Lane {
    /// The same seed, player and direction give the same randomness.
    pub(crate) fn new(config: LinkConfig, seed: u64, player: u32, way: Way) -> Self {
        let stream = |number: u64| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(u64::from(player) * 4 + number);
            rng
        };
        Self {
            config,
            rng: stream(way as u64),
            // Of both directions at once.
            outages: config.outages.map(|outages| OutageTimes::new(outages, stream(2))),
            is_in_burst: false,
            last_taken: Duration::ZERO,
            free_at: Duration::ZERO,
            newest_arrival: Duration::ZERO,
            counts: Counts::default(),
        }
    }

    /// Takes a packet in.
    pub(crate) fn take(&mut self, bytes: usize, now: Duration) -> Fate {
        self.counts.packets += 1;
        self.counts.bytes += bytes as u64;
        self.is_in_burst &= now.saturating_sub(self.last_taken) < BURST_SILENCE_MAX;
        self.last_taken = now;
        if self.outages.as_mut().is_some_and(|outages| outages.is_out(now)) {
            self.counts.outage += 1;
            return Fate::Outage;
        }
        let waiting = self.free_at.saturating_sub(now);
        if waiting > milliseconds(self.config.queue_ms) {
            self.counts.dropped += 1;
            return Fate::Dropped;
        }
        let transmission = self.config.bandwidth_kbit.map_or(0.0, |kbit| bytes as f64 * 8.0 / f64::from(kbit));
        self.free_at = self.free_at.max(now) + milliseconds(transmission);
        self.counts.at_risk += 1;
        if self.is_lost() {
            self.counts.lost += 1;
            return Fate::Lost;
        }
        let jitter = self.config.jitter_ms / 2.0;
        let varied = self.config.round_trip_ms / 2.0 + jitter * (2.0 * self.rng.random::<f64>() - 1.0);
        let mut at = self.free_at + milliseconds(varied.max(0.0));
        if !self.config.reorders {
            at = at.max(self.newest_arrival);
            self.newest_arrival = at;
        }
        Fate::Arrives { at }
    }

    /// Gilbert's model: in a burst every packet is lost, outside of one none. Bursts are geometrically long.
    fn is_lost(&mut self) -> bool {
        let LinkConfig { loss_percent, burst_packets, .. } = self.config;
        let loss = loss_percent / 100.0;
        let chance = match (burst_packets > 1.0, self.is_in_burst) {
            (false, _) => loss,
            (true, true) => 1.0 - 1.0 / burst_packets,
            // So that the share of packets within bursts is `loss`.
            (true, false) => loss / (1.0 - loss) / burst_packets,
        };
        self.is_in_burst = self.rng.random::<f64>() < chance;
        self.is_in_burst
    }
}

/// The outages of a player's line.
#[derive(Debug)]
struct OutageTimes {
    outages: Outages,
    rng: ChaCha8Rng,
    /// Which period `start` lies in.
    period: u64,
    start: Duration,
}

impl OutageTimes {
    fn new(outages: Outages, rng: ChaCha8Rng) -> Self {
        let mut times = Self { outages, rng, period: 0, start: Duration::ZERO };
        times.start = times.draw();
        times
    }

    /// When the outage of the current period starts.
    fn draw(&mut self) -> Duration {
        let every = Duration::from_secs_f64(self.outages.every_s);
        let room = every.saturating_sub(milliseconds(self.outages.length_ms));
        every.mul_f64(self.period as f64) + room.mul_f64(self.rng.random())
    }

    fn is_out(&mut self, now: Duration) -> bool {
        let length = milliseconds(self.outages.length_ms);
        while now >= self.start + length {
            self.period += 1;
            self.start = self.draw();
        }
        now >= self.start
    }
}

pub(crate) fn milliseconds(milliseconds: f64) -> Duration {
    Duration::from_secs_f64(milliseconds * 1e-3)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn lane(config: LinkConfig) -> Lane {
        Lane::new(config, 1, 3, Way::Down)
    }

    /// The fates of packets of 100 bytes, one each 10 ms.
    fn fates(lane: &mut Lane, packets: u32) -> Vec<Fate> {
        (0..packets).map(|i| lane.take(100, ms(10) * i)).collect()
    }

    #[test]
    fn half_of_the_round_trip_passes_each_way() {
        let mut lane = lane(LinkConfig::default());
        assert_eq!(lane.take(1500, ms(7)), Fate::Arrives { at: ms(32) });
        assert_eq!((lane.counts.packets, lane.counts.bytes, lane.counts.lost), (1, 1500, 0));
    }

    #[test]
    fn losses_are_as_many_as_they_should_be_and_as_long() {
        for burst_packets in [1.0, 4.0] {
            let mut lane = lane(LinkConfig { loss_percent: 5.0, burst_packets, ..LinkConfig::default() });
            let lost: Vec<bool> = fates(&mut lane, 200_000).iter().map(|fate| *fate == Fate::Lost).collect();
            let bursts = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count();
            let mean = lane.counts.lost as f64 / bursts as f64;
            // Independent losses come in a row by chance, too: 1 / (1 - 5 %) on average.
            let expected = if burst_packets > 1.0 { burst_packets } else { 1.0 / 0.95 };
            assert!((mean / expected - 1.0).abs() < 0.05, "bursts of {mean} instead of {expected}");
            assert!((lane.counts.lost_percent() - 5.0).abs() < 0.3, "{} %", lane.counts.lost_percent());
        }
    }

    #[test]
    fn a_burst_does_not_outlast_a_silence() {
        let config = LinkConfig { loss_percent: 10.0, burst_packets: 1000.0, ..LinkConfig::default() };
        let mut lane = lane(config);
        let lost = (0..10_000).filter(|i| lane.take(100, BURST_SILENCE_MAX * *i) == Fate::Lost).count();
        // As many as bursts begin, and not a thousand times as many.
        assert!(lost < 10, "{lost} lost");
    }

    #[test]
    fn jitter_stays_in_its_bounds_and_keeps_the_order_unless_told_otherwise() {
        for reorders in [false, true] {
            let mut lane = lane(LinkConfig { jitter_ms: 40.0, reorders, ..LinkConfig::default() });
            let arrivals: Vec<Duration> = fates(&mut lane, 1000)
                .into_iter()
                .map(|fate| match fate {
                    Fate::Arrives { at } => at,
                    other => panic!("{other:?} without loss"),
                })
                .collect();
            assert_eq!(arrivals.is_sorted(), !reorders);
            for (i, at) in arrivals.iter().enumerate() {
                let delay = *at - ms(10) * i as u32;
                assert!((ms(5)..=ms(45)).contains(&delay), "{delay:?}");
            }
        }
    }

    #[test]
    fn bandwidth_delays_and_a_full_queue_drops() {
        // 100 bytes take 8 ms at 100 kbit/s; 3 of them may wait.
        let config = LinkConfig { bandwidth_kbit: Some(100), queue_ms: 24.0, ..LinkConfig::default() };
        let mut lane = lane(config);
        let fates: Vec<Fate> = (0..6).map(|_| lane.take(100, ms(1000))).collect();
        let arrives = |after: u64| Fate::Arrives { at: ms(1000 + 25 + after) };
        assert_eq!(fates, [arrives(8), arrives(16), arrives(24), arrives(32), Fate::Dropped, Fate::Dropped]);
        assert_eq!(lane.take(100, ms(1032)), Fate::Arrives { at: ms(1032 + 25 + 8) });
        assert_eq!((lane.counts.dropped, lane.counts.at_risk), (2, 5));
    }

    #[test]
    fn an_outage_in_each_period_loses_everything_both_ways() {
        let outages = Some(Outages { every_s: 2.0, length_ms: 300.0 });
        let config = LinkConfig { outages, ..LinkConfig::default() };
        let out = |way| {
            let mut lane = Lane::new(config, 1, 3, way);
            let fates = fates(&mut lane, 2000);
            fates.chunks(200).map(|period| period.iter().filter(|fate| **fate == Fate::Outage).count()).collect()
        };
        let down: Vec<usize> = out(Way::Down);
        assert!(down.iter().all(|packets| (29..=31).contains(packets)), "{down:?}");
        assert_eq!(down, out(Way::Up));
    }

    #[test]
    fn seeds_players_and_directions_each_have_losses_of_their_own() {
        let config = LinkConfig { loss_percent: 10.0, ..LinkConfig::default() };
        let run = |seed, player, way| fates(&mut Lane::new(config, seed, player, way), 500);
        let first = run(1, 3, Way::Down);
        assert_eq!(first, run(1, 3, Way::Down));
        for other in [run(2, 3, Way::Down), run(1, 4, Way::Down), run(1, 3, Way::Up)] {
            assert_ne!(first, other);
        }
    }
}
