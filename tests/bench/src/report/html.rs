//! A run as one page that needs nothing else: tables, and plots in SVG.

use std::fmt::Write as _;

use super::{CaseReport, Report, ServerReport, table};
use crate::runner::Contender;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b1f24; --faint: #8b949e; --paper: #ffffff; --rule: #d8dee4;
  --floor: #9aa5b1; --tokio: #5b8def; --tickwire: #e4572e; --floor_acked: #c3cad3; --tokio_acked: #a9c2f7;
  --tickwire_recording: #f2a38d; --payload: #e4572e; --wire: #f2a38d; --p50: #e4572e; --p99: #f2a38d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --faint: #8b949e; --paper: #12161b; --rule: #30363d; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 66rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p, .about { color: var(--faint); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.warning { color: #c0392b; font-size: 13px; margin: .2rem 0; }
svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .faint { fill: var(--faint); }
";

/// One bar: which colour it has, what it is called, and how long it is.
struct Bar {
    class: &'static str,
    name: String,
    value: f64,
}

/// The whole page.
pub(crate) fn page(report: &Report) -> String {
    let mut html = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    html += "<meta name=\"viewport\" content=\"width=device-width\"><title>Tickwire benchmark</title>";
    let _ = write!(html, "<style>{STYLE}</style></head><body><h1>Tickwire benchmark</h1>");
    let machine: Vec<String> =
        report.machine.iter().map(|(name, value)| format!("{name} {}", escaped(value))).collect();
    let _ = write!(
        html,
        "<p>{}. Each server counted {} times for {} s; medians, and ratios within one run. \
         Processor time is the server process's, user and system.</p>",
        machine.join(" · "),
        report.repeats,
        report.seconds
    );
    let plots: [(&str, Bars); 5] = [
        ("Processor time per client-tick, µs", |case| bars(case, |server| Some(server.median.cpu_us_per_client_tick))),
        ("Processor time, as a multiple of the floor's", |case| bars(case, |server| server.ratio_to_floor)),
        ("Bytes per message: payload, and on the wire", bytes),
        ("Age of a message at its receipt, ms: median, and 99th percentile", ages),
        ("Memory per stream, KiB", |case| bars(case, |server| Some(server.median.memory_kib_per_stream))),
    ];
    for (title, bars) in plots {
        let _ = write!(html, "<h2>{title}</h2>{}", plot(&report.cases, bars));
    }
    html += "<h2>All figures</h2>";
    for case in &report.cases {
        html += &figures(case);
    }
    html += "</body></html>\n";
    html
}

type Bars = fn(&CaseReport) -> Vec<Bar>;

fn bars(case: &CaseReport, value: fn(&ServerReport) -> Option<f64>) -> Vec<Bar> {
    let bar = |server: &ServerReport| {
        Some(Bar { class: class(server.server), name: server.server.to_string(), value: value(server)? })
    };
    case.servers.iter().filter_map(bar).collect()
}

fn bytes(case: &CaseReport) -> Vec<Bar> {
    of_tickwire(case, |server| {
        [("payload", server.median.payload_bytes_per_message), ("wire", server.median.wire_bytes_per_message)]
    })
}

fn ages(case: &CaseReport) -> Vec<Bar> {
    of_tickwire(case, |server| [("p50", server.median.age_ms_p50), ("p99", server.median.age_ms_p99)])
}

fn of_tickwire(case: &CaseReport, values: fn(&ServerReport) -> [(&'static str, f64); 2]) -> Vec<Bar> {
    let tickwire = case.servers.iter().find(|server| server.server == Contender::Tickwire);
    let bar = |(class, value): (&'static str, f64)| Bar { class, name: class.to_owned(), value };
    tickwire.map(|server| values(server).map(bar).into()).unwrap_or_default()
}

fn class(server: Contender) -> &'static str {
    match server {
        Contender::Floor => "floor",
        Contender::Tokio => "tokio",
        Contender::Tickwire => "tickwire",
        Contender::FloorAcked => "floor_acked",
        Contender::TokioAcked => "tokio_acked",
        Contender::TickwireRecording => "tickwire_recording",
    }
}

/// Groups of bars, one below the other.
fn plot(cases: &[CaseReport], bars: Bars) -> String {
    const WIDTH: f64 = 1000.0;
    const LABELS: f64 = 190.0;
    const BAR: f64 = 15.0;
    const GAP: f64 = 12.0;
    let groups: Vec<(&str, Vec<Bar>)> = cases.iter().map(|case| (case.name.as_str(), bars(case))).collect();
    let longest = groups.iter().flat_map(|(_, bars)| bars).map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    // Room for the number and the name behind the longest bar.
    let scale = (WIDTH - LABELS - 190.0) / longest;
    let (mut y, mut body) = (0.0, String::new());
    for (name, bars) in groups.iter().filter(|(_, bars)| !bars.is_empty()) {
        let _ = write!(body, "<text x=\"0\" y=\"{:.0}\">{}</text>", y + BAR - 3.0, escaped(name));
        for Bar { class, name, value } in bars {
            let width = (value * scale).max(1.0);
            let _ = write!(
                body,
                "<rect x=\"{LABELS}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{:.0}\" fill=\"var(--{class})\"/>\
                 <text x=\"{:.1}\" y=\"{:.0}\">{}<tspan class=\"faint\"> {}</tspan></text>",
                BAR - 2.0,
                LABELS + width + 6.0,
                y + BAR - 4.0,
                short(*value),
                escaped(name)
            );
            y += BAR;
        }
        y += GAP;
    }
    format!("<svg viewBox=\"0 0 {WIDTH} {y:.0}\" role=\"img\">{body}</svg>")
}

fn figures(case: &CaseReport) -> String {
    let mut html = format!("<h3>{}</h3><div class=\"wide\"><table><tr>", escaped(&case.name));
    for heading in table::HEADINGS {
        let _ = write!(html, "<th>{heading}</th>");
    }
    html += "</tr>";
    for server in &case.servers {
        html += "<tr>";
        for cell in table::row(server) {
            let _ = write!(html, "<td>{}</td>", escaped(&cell));
        }
        html += "</tr>";
    }
    html += "</table></div>";
    for note in table::notes(case) {
        let _ = write!(html, "<p class=\"about\">{}</p>", escaped(&note));
    }
    for warning in table::warnings(case) {
        let _ = write!(html, "<p class=\"warning\">{}</p>", escaped(&warning));
    }
    html
}

/// Three digits or so.
fn short(value: f64) -> String {
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        cases::{Case, Direction, Workload},
        runner::Figures,
    };

    #[test]
    fn a_page_names_its_cases_and_needs_no_other_file() {
        let case = Case { workload: Workload::Arena { clients: 2 }, rate: 30, direction: Direction::DownUp };
        let figures = Figures { cpu_us_per_client_tick: 12.5, ..Figures::default() };
        let repeats = vec![BTreeMap::from([(Contender::Tickwire, figures.clone()), (Contender::Floor, figures)])];
        let case = CaseReport::new(&case, &[Contender::Tickwire, Contender::Floor], &repeats, vec!["<oh>".into()]);
        let report = Report { machine: BTreeMap::new(), repeats: 1, seconds: 3.0, cases: vec![case] };
        let page = page(&report);
        assert!(page.contains("arena-2/30/down+up") && page.contains("12.5") && page.contains("&lt;oh&gt;"), "{page}");
        for link in ["http:", "https:", "src=", "href="] {
            assert!(!page.contains(link), "{link} in {page}");
        }
    }
}
