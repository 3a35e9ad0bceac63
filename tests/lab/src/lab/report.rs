//! Figures: what was measured, what must hold of it on any network, and a table for people.

use std::collections::BTreeSet;

use comfy_table::{CellAlignment, Table, presets};
use serde::{Serialize, Serializer};
use serde_json::Value as Json;

use crate::lab::{
    link::{Counts, LinkConfig},
    run::Contestant,
    udp::Seen,
};

/// What a figure may be off for reasons of rounding and of the clocks.
const SLACK_MS: f64 = 1.5;
/// By how many standard deviations a share of lost packets may differ from what was asked for.
const DEVIATIONS_MAX: f64 = 6.0;

/// One in so many bots may fail where packets are lost.
const FAILED_SHARE: u64 = 4;

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) hz: u32,
    pub(crate) seconds: u64,
    pub(crate) seed: u64,
    pub(crate) cases: Vec<CaseReport>,
}

/// One network.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CaseReport {
    pub(crate) name: String,
    pub(crate) link: LinkConfig,
    pub(crate) rows: Vec<Row>,
    /// Options that these bots do not have, so that some contestants are missing.
    pub(crate) not_offered: BTreeSet<&'static str>,
    /// The size of a UDP snapshot: that of Tickwire's mean one where nothing is lost.
    pub(crate) udp_bytes: f64,
    /// How late the link delivered packets: this machine's share of every age.
    pub(crate) link_late_ms_p50: f64,
    pub(crate) link_late_ms_p99: f64,
    pub(crate) link_late_ms_max: f64,
    pub(crate) link_is_realtime: bool,
    pub(crate) congestion_control: String,
    /// What should hold and did not.
    pub(crate) broken: Vec<String>,
}

/// One contestant.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    #[serde(serialize_with = "as_text")]
    pub(crate) contestant: Contestant,
    pub(crate) figures: Figures,
    pub(crate) down: Counts,
    pub(crate) up: Counts,
    /// Of the bots, whole.
    pub(crate) report: Option<Json>,
    /// What the bots said on standard error.
    pub(crate) said: String,
}

/// What the table shows. What a contestant does not have is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Figures {
    pub(crate) age_ms_p50: Option<f64>,
    pub(crate) age_ms_p99: Option<f64>,
    pub(crate) stall_percent: Option<f64>,
    pub(crate) input_to_ack_ms_p50: Option<f64>,
    pub(crate) input_to_ack_ms_p99: Option<f64>,
    pub(crate) misprediction_percent: Option<f64>,
    pub(crate) late_input_percent: Option<f64>,
    pub(crate) snapshots_per_player: Option<f64>,
    pub(crate) payload_bytes: Option<f64>,
}

impl Figures {
    /// Those of bots, as far as their report has them.
    pub(crate) fn of_report(report: &Json) -> Self {
        let number = |key: &str| report[key].as_f64();
        let per = |part: &str, whole: &str| Some(number(part)? / number(whole).filter(|whole| *whole > 0.0)?);
        let percent = |part, whole| per(part, whole).map(|share| share * 100.0);
        Self {
            age_ms_p50: number("snapshot_age_ms_p50"),
            age_ms_p99: number("snapshot_age_ms_p99"),
            stall_percent: number("stall_percent"),
            input_to_ack_ms_p50: number("input_to_ack_ms_p50"),
            input_to_ack_ms_p99: number("input_to_ack_ms_p99"),
            misprediction_percent: number("misprediction_percent")
                .or_else(|| percent("mispredictions", "ticks_predicted")),
            late_input_percent: percent("inputs_late", "inputs_sent"),
            snapshots_per_player: per("snapshots_received", "bots_connected"),
            payload_bytes: per("payload_bytes_received", "snapshots_received"),
        }
    }

    pub(crate) fn of_udp(seen: &Seen, players: u32) -> Self {
        let ms = |histogram: &hdrhistogram::Histogram<u64>, quantile| {
            (!histogram.is_empty()).then(|| histogram.value_at_quantile(quantile) as f64 / 1000.0)
        };
        Self {
            age_ms_p50: ms(&seen.ages.age_us, 0.5),
            age_ms_p99: ms(&seen.ages.age_us, 0.99),
            stall_percent: (!seen.ages.age_us.is_empty()).then(|| seen.ages.stall_percent()),
            input_to_ack_ms_p50: ms(&seen.ages.input_to_ack_us, 0.5),
            input_to_ack_ms_p99: ms(&seen.ages.input_to_ack_us, 0.99),
            misprediction_percent: None,
            late_input_percent: None,
            snapshots_per_player: Some(seen.received as f64 / f64::from(players)),
            payload_bytes: (seen.received > 0).then(|| seen.received_bytes as f64 / seen.received as f64),
        }
    }
}

impl Row {
    pub(crate) fn new(contestant: Contestant, figures: Figures, report: Option<Json>, said: String) -> Self {
        Self { contestant, figures, down: Counts::default(), up: Counts::default(), report, said }
    }
}

fn as_text<S: Serializer>(contestant: &Contestant, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(contestant)
}

/// What must hold on any network and did not. No figure is judged.
pub(crate) fn broken(link: &LinkConfig, rows: &[Row]) -> Vec<String> {
    let mut broken = Vec::new();
    for row in rows {
        let mut tell = |what: String| broken.push(format!("{}: {what}", row.contestant));
        if let Some(report) = &row.report {
            let number = |key: &str| report[key].as_u64().unwrap_or(0);
            let (requested, connected, failed) =
                (number("bots_requested"), number("bots_connected"), number("bots_failed"));
            // A connection whose first packets are lost again and again is given up, as anywhere.
            let excused = if link.loses() { requested / FAILED_SHARE } else { 0 };
            if requested - connected.min(requested) > excused || failed > excused {
                tell(format!("of {requested} bots {connected} connected and {failed} failed: {}", row.said));
            }
            if number("hash_mismatches") != 0 || number("resyncs") != 0 {
                let (mismatches, resyncs) = (number("hash_mismatches"), number("resyncs"));
                tell(format!("mirrors did not agree with the server: {mismatches} mismatches, {resyncs} resyncs"));
            }
            if number("hash_checks") == 0 {
                tell("no hash was compared".to_owned());
            }
        }
        let least_ms = (link.round_trip_ms - link.jitter_ms) / 2.0 - SLACK_MS;
        match row.figures.age_ms_p50 {
            Some(age_ms) if age_ms >= least_ms => {}
            Some(age_ms) => tell(format!("an age of {age_ms} ms is less than the way takes: its clock is wrong")),
            None => tell("nothing arrived".to_owned()),
        }
        for (way, counts) in [("down", &row.down), ("up", &row.up)] {
            let most = loss_deviation_percent(link, counts.at_risk) * DEVIATIONS_MAX;
            let lost = counts.lost_percent();
            if (lost - link.loss_percent).abs() > most {
                let asked = link.loss_percent;
                tell(format!(
                    "the link lost {lost:.2} % on the way {way} instead of {asked} %, give or take {most:.2}"
                ));
            }
        }
    }
    broken
}

/// The standard deviation of the share that is lost of so many packets. What is lost in bursts varies more.
fn loss_deviation_percent(link: &LinkConfig, packets: u64) -> f64 {
    let loss = link.loss_percent / 100.0;
    let variance = loss * (1.0 - loss) / packets.max(1) as f64;
    (variance * (2.0 * link.burst_packets - 1.0)).sqrt() * 100.0
}

/// A network's table, with what is to be known about it.
pub(crate) fn table(case: &CaseReport) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "",
        "age p50 ms",
        "p99 ms",
        "stalled %",
        "input to ack p50 ms",
        "p99 ms",
        "mispredicted %",
        "late inputs %",
        "snapshots/player",
        "payload B",
        "lost down %",
        "up %",
    ]);
    for row in &case.rows {
        let Figures {
            age_ms_p50,
            age_ms_p99,
            stall_percent,
            input_to_ack_ms_p50,
            input_to_ack_ms_p99,
            misprediction_percent,
            late_input_percent,
            snapshots_per_player,
            payload_bytes,
        } = row.figures;
        table.add_row([
            row.contestant.to_string(),
            shown(age_ms_p50, 1),
            shown(age_ms_p99, 1),
            shown(stall_percent, 2),
            shown(input_to_ack_ms_p50, 1),
            shown(input_to_ack_ms_p99, 1),
            shown(misprediction_percent, 2),
            shown(late_input_percent, 2),
            shown(snapshots_per_player, 0),
            shown(payload_bytes, 0),
            shown(Some(row.down.lost_percent()), 2),
            shown(Some(row.up.lost_percent()), 2),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = format!("{}: {}\n{table}\n", case.name, described(&case.link));
    let (p50, p99, max) = (case.link_late_ms_p50, case.link_late_ms_p99, case.link_late_ms_max);
    text += &format!("  link late by {p50:.2} ms (p50), {p99:.2} ms (p99), {max:.1} ms (most)\n");
    text += &format!("  congestion control: {}\n", case.congestion_control);
    if !case.link_is_realtime {
        text += "  ! the link has no real-time priority here: a busy machine adds stalls of its own\n";
    }
    for option in &case.not_offered {
        text += &format!("  ! these bots have no {option}: rows are missing\n");
    }
    for row in case.rows.iter().filter(|row| !row.said.is_empty()) {
        text += &format!("  {}: {}\n", row.contestant, row.said);
    }
    for what in &case.broken {
        text += &format!("  ! {what}\n");
    }
    text
}

fn shown(figure: Option<f64>, digits: usize) -> String {
    figure.map_or_else(|| "–".to_owned(), |figure| format!("{figure:.digits$}"))
}

/// A link in words.
fn described(link: &LinkConfig) -> String {
    let LinkConfig {
        round_trip_ms,
        jitter_ms,
        reorders,
        loss_percent,
        burst_packets,
        bandwidth_kbit,
        queue_ms,
        outages,
    } = *link;
    let mut text = format!("{round_trip_ms} ms");
    if jitter_ms > 0.0 {
        text += &format!(" ± {jitter_ms} ms{}", if reorders { ", out of order" } else { "" });
    }
    text += &format!(", {loss_percent} % lost each way");
    if burst_packets > 1.0 {
        text += &format!(" in bursts of {burst_packets}");
    }
    if let Some(kbit) = bandwidth_kbit {
        text += &format!(", {kbit} kbit/s with a queue of {queue_ms} ms");
    }
    if let Some(outages) = outages {
        text += &format!(", out for {} ms every {} s", outages.length_ms, outages.every_s);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Json {
        json!({
            "bots_requested": 2, "bots_connected": 2, "bots_failed": 0,
            "snapshots_received": 400, "payload_bytes_received": 40_000, "hash_checks": 9, "hash_mismatches": 0,
            "resyncs": 0, "snapshot_age_ms_p50": 34.0, "snapshot_age_ms_p99": 42.0, "stall_percent": 0.25,
            "input_to_ack_ms_p50": 70.0, "input_to_ack_ms_p99": 90.0
        })
    }

    fn row(report: Json) -> Row {
        let contestant = Contestant::Stripes { stripes: 1, copies: 1 };
        Row::new(contestant, Figures::of_report(&report), Some(report), String::new())
    }

    #[test]
    fn figures_are_the_reports_and_what_it_does_not_have_is_none() {
        let figures = Figures::of_report(&report());
        assert_eq!((figures.age_ms_p99, figures.payload_bytes), (Some(42.0), Some(100.0)));
        assert_eq!((figures.misprediction_percent, figures.late_input_percent), (None, None));
        let mut more = report();
        for (key, value) in [("inputs_sent", 200), ("inputs_late", 3), ("mispredictions", 1), ("ticks_predicted", 400)]
        {
            more[key] = value.into();
        }
        let figures = Figures::of_report(&more);
        assert_eq!((figures.misprediction_percent, figures.late_input_percent), (Some(0.25), Some(1.5)));
    }

    #[test]
    fn what_cannot_be_on_any_network_is_told() {
        let link = LinkConfig { loss_percent: 2.0, ..LinkConfig::default() };
        let good = row(report());
        let mut missing = report();
        missing["bots_connected"] = 1.into();
        (missing["bots_requested"], missing["bots_failed"]) = (4.into(), 1.into());
        assert_eq!(broken(&link, &[row(missing.clone())]).len(), 1, "three of four are missing");
        missing["bots_connected"] = 3.into();
        assert_eq!(broken(&link, &[row(missing.clone())]).len(), 0, "one of four may be");
        assert_eq!(broken(&LinkConfig::default(), &[row(missing)]).len(), 1, "but not where nothing is lost");
        assert_eq!(broken(&LinkConfig::default(), std::slice::from_ref(&good)), Vec::<String>::new());
        // Nothing passed, of which 2 % should have been lost: too few packets to tell.
        assert_eq!(broken(&link, std::slice::from_ref(&good)), Vec::<String>::new());
        let mut lossless = good.clone();
        lossless.down = Counts { packets: 5000, at_risk: 5000, ..Counts::default() };
        assert!(broken(&link, &[lossless]).concat().contains("lost 0.00 % on the way down instead of 2 %"));
        for (key, value, said) in [
            ("hash_mismatches", 1.0, "1 mismatches"),
            ("bots_connected", 1.0, "of 2 bots 1 connected"),
            ("snapshot_age_ms_p50", 20.0, "its clock is wrong"),
            ("hash_checks", 0.0, "no hash was compared"),
        ] {
            let mut report = report();
            report[key] = if key.ends_with("p50") { value.into() } else { (value as u64).into() };
            let told = broken(&LinkConfig::default(), &[row(report)]).concat();
            assert!(told.contains(said), "{key}: {told}");
        }
    }

    #[test]
    fn bursts_may_differ_from_their_mean_by_more() {
        let link = LinkConfig { loss_percent: 2.0, ..LinkConfig::default() };
        assert!((loss_deviation_percent(&link, 10_000) - 0.14).abs() < 1e-9);
        let bursts = LinkConfig { burst_packets: 4.0, ..link };
        assert!((loss_deviation_percent(&bursts, 10_000) - 0.14 * 7.0_f64.sqrt()).abs() < 1e-9);
    }

    #[test]
    fn a_table_says_who_is_missing_and_what_is_wrong() {
        let case = CaseReport {
            name: "50ms-2pc".to_owned(),
            link: LinkConfig { jitter_ms: 10.0, ..LinkConfig::default() },
            rows: vec![row(report())],
            not_offered: BTreeSet::from(["--stripes"]),
            udp_bytes: 100.0,
            link_late_ms_p50: 0.01,
            link_late_ms_p99: 0.05,
            link_late_ms_max: 1.0,
            link_is_realtime: false,
            congestion_control: "server: bbr on 2".to_owned(),
            broken: vec!["1 connection: too young".to_owned()],
        };
        let text = table(&case);
        for words in
            ["50 ms ± 10 ms, 0 % lost", "1 connection", "42.0", "–", "no --stripes", "no real-time", "! 1 conn", "bbr"]
        {
            assert!(text.contains(words), "no {words:?} in\n{text}");
        }
    }
}
