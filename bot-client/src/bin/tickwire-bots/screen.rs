//! What a person sees: a bar while bots play, a table at the end.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the program's voice")]

use std::{cell::Cell, time::Instant};

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use tickwire_client::bots::{Failures, Report, SwarmConfig, SwarmHandle};

const BAR: &str = "{elapsed_precise} [{wide_bar}] {msg}";

/// Where figures and errors are shown.
pub(crate) struct Screen {
    quiet: bool,
    bar: ProgressBar,
    start: Instant,
    /// The last time at which the bar was drawn, and the snapshots up to then.
    drawn: Cell<(Instant, u64)>,
}

impl Screen {
    /// A bar of the swarm's whole time. It is hidden where the output is no terminal.
    pub(crate) fn new(quiet: bool, config: &SwarmConfig) -> Self {
        let bar = match quiet {
            true => ProgressBar::hidden(),
            false => ProgressBar::new((config.ramp() + config.duration).as_millis() as u64),
        };
        bar.set_style(ProgressStyle::with_template(BAR).expect("the template is a constant"));
        let start = Instant::now();
        Self { quiet, bar, start, drawn: Cell::new((start, 0)) }
    }

    /// Moves the bar.
    pub(crate) fn show(&self, swarm: &SwarmHandle) {
        let (now, snapshots) = (Instant::now(), swarm.snapshots());
        let (then, before) = self.drawn.replace((now, snapshots));
        let seconds = (now - then).as_secs_f64();
        let rate = if seconds > 0.0 { (snapshots - before) as f64 / seconds } else { 0.0 };
        self.bar.set_position((now - self.start).as_millis() as u64);
        let failed = match swarm.failed() {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        self.bar.set_message(format!("{} bots{failed}, {rate:.0} snapshots/s", swarm.playing()));
    }

    /// Replaces the bar by the table.
    pub(crate) fn finish(&self, report: &Report, failures: &Failures) {
        self.bar.finish_and_clear();
        if !self.quiet {
            println!("{}", table(report));
        }
        for (code, (count, first)) in failures {
            self.error(&format!("{count} of {} bots: {code}: {first}", report.bots_requested));
        }
        if report.resyncs > 0 {
            let (mismatches, resyncs) = (report.hash_mismatches, report.resyncs);
            self.error(&format!(
                "the mirrors did not agree with the server: {mismatches} mismatches, {resyncs} resyncs"
            ));
        }
    }

    /// Says what is otherwise than it was asked for.
    pub(crate) fn note(&self, text: &str) {
        self.bar.finish_and_clear();
        eprintln!("note: {text}");
    }

    /// Says what went wrong, even where all else is quiet.
    pub(crate) fn error(&self, text: &str) {
        self.bar.finish_and_clear();
        complain(text);
    }
}

/// Says what came of it.
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// Says what went wrong.
pub(crate) fn complain(text: &str) {
    eprintln!("error: {text}");
}

fn table(report: &Report) -> Table {
    let snapshots_percent = match report.snapshots_expected {
        0 => 0.0,
        expected => report.snapshots_received as f64 * 100.0 / expected as f64,
    };
    let rows = [
        ("bots", format!("{} of {}, {} failed", report.bots_connected, report.bots_requested, report.bots_failed)),
        ("time", format!("{:.1} s at {} Hz", report.seconds, report.tick_rate)),
        ("snapshots", format!("{} ({snapshots_percent:.2} % of expected)", report.snapshots_received)),
        ("received per bot", format!("{:.1} kB/s", report.bytes_per_bot_per_second / 1000.0)),
        ("payload per entity and tick", format!("{:.2} B", report.payload_bytes_per_entity_tick())),
        ("input to ack", latency(report.input_to_ack_ms_p50, report.input_to_ack_ms_p99)),
        ("snapshot age", latency(report.snapshot_age_ms_p50, report.snapshot_age_ms_p99)),
        ("stalled", format!("{:.2} %", report.stall_percent)),
        (
            "hashes",
            format!(
                "{} checked, {} mismatches, {} resyncs",
                report.hash_checks, report.hash_mismatches, report.resyncs
            ),
        ),
        ("late inputs", format!("{} of {}", report.inputs_late, report.inputs_sent)),
        ("inputs too early", format!("{} of {}", report.inputs_too_early, report.inputs_sent)),
        (
            "stripes",
            format!("{} open, {} opened, {} lost", report.stripes_open, report.stripes_opened, report.stripes_lost),
        ),
        (
            "this machine",
            format!("{:.2} s of CPU, {} late timers", report.generator_cpu_seconds, report.generator_late_ticks),
        ),
    ];
    let predicted = (report.ticks_compared > 0).then(|| {
        let [percent, p99] = [report.misprediction_percent, report.correction_cm_p99];
        ("mispredicted", format!("{percent:.2} % of ticks, corrected by {p99:.1} cm p99"))
    });
    let talked = (report.chat_sent > 0).then(|| {
        let Report { chat_sent, chat_received, chat_rejected, chat_dropped, .. } = report;
        let lines =
            format!("{chat_sent} said, {chat_received} heard, {chat_rejected} rejected, {chat_dropped} dropped");
        ("chat", lines)
    });
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    for (name, value) in rows.into_iter().chain(predicted).chain(talked) {
        table.add_row([name.to_owned(), value]);
    }
    if let Some(values) = table.column_mut(1) {
        values.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn latency(p50: f64, p99: f64) -> String {
    format!("{p50:.1} ms median, {p99:.1} ms p99")
}
