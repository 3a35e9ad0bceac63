//! What a swarm measured.

use std::collections::BTreeMap;

use serde::Serialize;

use super::swarm::Outcome;

/// A swarm's figures, as `tickwire-bots --report` writes them: flat JSON whose keys stay as they are.
///
/// Latencies are over all samples of all bots, in milliseconds, to about 1 %; they are 0 where nothing was sampled.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Bots asked for.
    pub bots_requested: u64,
    /// Bots that joined.
    pub bots_connected: u64,
    /// Bots that could not join, whose stream ended before they left and who could not take their seat back, or whom the server
    /// did not let go. Bots that an early end kept from starting are neither connected nor failed.
    pub bots_failed: u64,
    /// From the time at which the last bot was to join to the end.
    pub seconds: f64,
    /// The session's ticks per second; 0 where no bot joined.
    pub tick_rate: u32,
    /// Snapshots that came.
    pub snapshots_received: u64,
    /// Snapshots at the granted rate in the time for which each bot was connected, copies counted too.
    pub snapshots_expected: u64,
    /// All bytes that came, with HTTP/2's framing, without TCP's and IP's.
    pub bytes_received: u64,
    /// The snapshots among them, as protobuf messages.
    pub payload_bytes_received: u64,
    /// Entities in view, summed over the snapshots.
    pub entity_ticks_received: u64,
    /// [`bytes_received`](Self::bytes_received) per bot and second connected.
    pub bytes_per_bot_per_second: f64,
    /// From sending an input to the first snapshot that had consumed it: the median.
    pub input_to_ack_ms_p50: f64,
    /// The same, the 99th percentile.
    pub input_to_ack_ms_p99: f64,
    /// Now less the server's simulation time of the newest tick applied, each millisecond: the median.
    pub snapshot_age_ms_p50: f64,
    /// The same, the 99th percentile.
    pub snapshot_age_ms_p99: f64,
    /// The share of time in which that age was above RTT/2 + 50 ms.
    pub stall_percent: f64,
    /// Cell hashes compared.
    pub hash_checks: u64,
    /// Cell hashes that did not match.
    pub hash_mismatches: u64,
    /// Resets that were asked for, whatever was wrong with the mirror.
    pub resyncs: u64,
    /// Inputs sent.
    pub inputs_sent: u64,
    /// Inputs that came after their tick had begun.
    pub inputs_late: u64,
    /// Inputs that came more than a second before their tick, and were not taken.
    pub inputs_too_early: u64,
    /// Ticks, from a bot's first input on, at which the server repeated what was held.
    pub inputs_repeated: u64,
    /// Ticks, from a bot's first input on, at which nothing was held any more.
    pub inputs_absent: u64,
    /// Ticks for which own entities were computed ahead of the server; 0 where bots do not predict.
    pub ticks_predicted: u64,
    /// Those of them that the server's exact state came for.
    pub ticks_compared: u64,
    /// Those of these at which another entity may have been in the way, which nobody predicts.
    pub ticks_in_contact: u64,
    /// Ticks compared at which a predicted field was not exactly what the server has.
    pub mispredictions: u64,
    /// Those of them in contact.
    pub mispredictions_in_contact: u64,
    /// The share of mispredictions among ticks compared, those in contact left out.
    pub misprediction_percent: f64,
    /// How far corrections moved the own entity, those in contact left out, in hundredths of the unit of position: the median.
    pub correction_cm_p50: f64,
    /// The same, the 99th percentile.
    pub correction_cm_p99: f64,
    /// Streams that the bots had open at the end, over all bots.
    pub stripes_open: u64,
    /// Streams beyond each bot's first that were opened, those in the place of lost ones among them.
    pub stripes_opened: u64,
    /// Streams that were lost while their bot had others.
    pub stripes_lost: u64,
    /// Times that a bot's last stream was lost, and its seat taken back.
    pub resumes: u64,
    /// Lines that bots said; 0 where they do not talk.
    pub chat_sent: u64,
    /// Lines that came to them, their own among them.
    pub chat_received: u64,
    /// Lines of theirs that the server did not pass on.
    pub chat_rejected: u64,
    /// Lines that the server dropped, since their readers were too slow.
    pub chat_dropped: u64,
    /// Chat streams that ended while their bot played, or could not be opened.
    pub chat_lost: u64,
    /// CPU time of this process, user and system.
    pub generator_cpu_seconds: f64,
    /// Timers of bots that fired more than a tick late: where there are many, the latencies are this machine's.
    pub generator_late_ticks: u64,
    /// Why bots failed: gRPC status → count.
    pub errors: BTreeMap<&'static str, u64>,
}

impl Report {
    pub(super) fn of(bots_requested: usize, seconds: f64, cpu_seconds: f64, total: &Outcome) -> Self {
        let Outcome { stats, connected_seconds, .. } = total;
        let ms = |histogram: &hdrhistogram::Histogram<u64>, quantile| match histogram.len() {
            0 => 0.0,
            _ => thousandths(histogram.value_at_quantile(quantile) as f64 / 1000.0),
        };
        let centimetres = |quantile| thousandths(stats.correction_micros.value_at_quantile(quantile) as f64 * 1e-4);
        let per_second = |bytes: u64| if *connected_seconds > 0.0 { bytes as f64 / connected_seconds } else { 0.0 };
        Self {
            bots_requested: bots_requested as u64,
            bots_connected: total.connected,
            bots_failed: total.failed,
            seconds: thousandths(seconds),
            tick_rate: total.tick_rate,
            snapshots_received: stats.snapshots,
            snapshots_expected: total.snapshots_expected,
            bytes_received: total.bytes_received,
            payload_bytes_received: total.payload_bytes_received,
            entity_ticks_received: stats.entity_ticks,
            bytes_per_bot_per_second: thousandths(per_second(total.bytes_received)),
            input_to_ack_ms_p50: ms(&stats.input_to_ack_us, 0.50),
            input_to_ack_ms_p99: ms(&stats.input_to_ack_us, 0.99),
            snapshot_age_ms_p50: ms(&stats.snapshot_age_us, 0.50),
            snapshot_age_ms_p99: ms(&stats.snapshot_age_us, 0.99),
            stall_percent: thousandths(stats.stall_percent()),
            hash_checks: stats.hash_checks,
            hash_mismatches: stats.hash_mismatches,
            resyncs: stats.resyncs,
            inputs_sent: stats.inputs_sent,
            inputs_late: stats.inputs_late,
            inputs_too_early: stats.inputs_too_early,
            inputs_repeated: stats.inputs_repeated,
            inputs_absent: stats.inputs_absent,
            ticks_predicted: stats.ticks_predicted,
            ticks_compared: stats.ticks_compared,
            ticks_in_contact: stats.ticks_in_contact,
            mispredictions: stats.mispredictions,
            mispredictions_in_contact: stats.mispredictions_in_contact,
            misprediction_percent: thousandths(stats.misprediction_percent()),
            correction_cm_p50: centimetres(0.50),
            correction_cm_p99: centimetres(0.99),
            stripes_open: total.stripes_open,
            stripes_opened: stats.stripes_opened,
            stripes_lost: stats.stripes_lost,
            resumes: stats.resumes,
            chat_sent: total.chat.sent,
            chat_received: total.chat.received,
            chat_rejected: total.chat.rejected,
            chat_dropped: total.chat.dropped,
            chat_lost: total.chat.lost,
            generator_cpu_seconds: thousandths(cpu_seconds),
            generator_late_ticks: total.late_timers,
            errors: total.errors.iter().map(|(&code, (count, _))| (code, *count)).collect(),
        }
    }

    /// Whether every bot that started played to the end, and every mirror agreed with the server.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.bots_failed == 0 && self.hash_mismatches == 0 && self.resyncs == 0
    }

    /// Bytes of snapshots per entity in view and tick; 0 where nothing was seen.
    #[must_use]
    pub fn payload_bytes_per_entity_tick(&self) -> f64 {
        match self.entity_ticks_received {
            0 => 0.0,
            entity_ticks => self.payload_bytes_received as f64 / entity_ticks as f64,
        }
    }
}

fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys are read by others' programs: DESIGN's list, in its order.
    const KEYS: [&str; 44] = [
        "bots_requested",
        "bots_connected",
        "bots_failed",
        "seconds",
        "tick_rate",
        "snapshots_received",
        "snapshots_expected",
        "bytes_received",
        "payload_bytes_received",
        "entity_ticks_received",
        "bytes_per_bot_per_second",
        "input_to_ack_ms_p50",
        "input_to_ack_ms_p99",
        "snapshot_age_ms_p50",
        "snapshot_age_ms_p99",
        "stall_percent",
        "hash_checks",
        "hash_mismatches",
        "resyncs",
        "inputs_sent",
        "inputs_late",
        "inputs_too_early",
        "inputs_repeated",
        "inputs_absent",
        "ticks_predicted",
        "ticks_compared",
        "ticks_in_contact",
        "mispredictions",
        "mispredictions_in_contact",
        "misprediction_percent",
        "correction_cm_p50",
        "correction_cm_p99",
        "stripes_open",
        "stripes_opened",
        "stripes_lost",
        "resumes",
        "chat_sent",
        "chat_received",
        "chat_rejected",
        "chat_dropped",
        "chat_lost",
        "generator_cpu_seconds",
        "generator_late_ticks",
        "errors",
    ];

    fn outcome() -> Outcome {
        let mut total = Outcome { connected: 2, connected_seconds: 20.0, bytes_received: 50_000, ..Outcome::default() };
        total.payload_bytes_received = 40_000;
        total.stats.entity_ticks = 20_000;
        for ms in 1..=100 {
            total.stats.input_to_ack_us.record(ms * 1000).unwrap();
        }
        total.fail("UNAVAILABLE", "gone".to_owned());
        total.fail("UNAVAILABLE", "gone too".to_owned());
        total
    }

    #[test]
    fn a_report_has_the_agreed_keys_and_no_others() {
        let json = serde_json::to_value(Report::of(4, 10.0, 1.5, &outcome())).unwrap();
        let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected = KEYS.to_vec();
        expected.sort_unstable();
        assert_eq!(
            {
                let mut keys = keys;
                keys.sort_unstable();
                keys
            },
            expected
        );
        assert_eq!(json["errors"], serde_json::json!({ "UNAVAILABLE": 2 }));
        assert!(json.as_object().unwrap().values().filter(|value| !value.is_number()).count() == 1);
    }

    #[test]
    fn figures_are_of_the_time_in_which_bots_were_connected() {
        let report = Report::of(4, 10.0, 1.5, &outcome());
        assert_eq!(report.bytes_per_bot_per_second, 2500.0);
        assert_eq!(report.payload_bytes_per_entity_tick(), 2.0);
        assert!((report.input_to_ack_ms_p50 - 50.0).abs() < 1.0 && (report.input_to_ack_ms_p99 - 99.0).abs() < 1.5);
        assert_eq!((report.snapshot_age_ms_p99, report.stall_percent), (0.0, 0.0));
    }

    #[test]
    fn a_failed_bot_a_mismatch_or_a_resync_is_not_clean() {
        let clean = Report::of(4, 10.0, 1.5, &Outcome::default());
        assert!(clean.is_clean());
        assert!(!Report { bots_failed: 1, ..clean.clone() }.is_clean());
        assert!(!Report { hash_mismatches: 1, ..clean.clone() }.is_clean());
        assert!(!Report { resyncs: 1, ..clean }.is_clean());
    }
}
