//! A swarm's figures as one page that needs nothing else: a table, and plots in SVG.

use std::fmt::Write as _;

use super::{report::Report, timeline::Second};

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b1f24; --faint: #8b949e; --paper: #ffffff; --rule: #d8dee4;
  --first: #e4572e; --second: #5b8def; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #12161b; --rule: #30363d; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.first { color: var(--first); } .second { color: var(--second); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid var(--rule); }
th { text-align: left; font-weight: normal; }
svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--faint); }
polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
";

/// A line of a plot: one value for each second, where there is one.
struct Line {
    name: &'static str,
    class: &'static str,
    values: Vec<Option<f64>>,
}

impl Report {
    /// The figures, and how they came about second by second, as a page of HTML.
    #[must_use]
    pub fn page(&self, seconds: &[Second]) -> String {
        let mut html = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
        html += "<meta name=\"viewport\" content=\"width=device-width\"><title>Tickwire bots</title>";
        let _ = write!(
            html,
            "<style>{STYLE}</style></head><body><h1>{} bots for {} s at {} Hz</h1>",
            self.bots_connected, self.seconds, self.tick_rate
        );
        let values = |value: fn(&Second) -> Option<f64>| seconds.iter().map(value).collect();
        let worst = |second: &Second| second.mean_age_ms().map(|_| second.worst_age_ms);
        let kilobytes = |second: &Second| Some(second.bytes_received as f64 / 1000.0);
        html += &plot(
            "Age of the newest state, ms: each second's mean",
            &[
                Line { name: "all bots", class: "first", values: values(Second::mean_age_ms) },
                Line { name: "the one that is worst off", class: "second", values: values(worst) },
            ],
        );
        let bytes = Line { name: "all bots", class: "first", values: values(kilobytes) };
        html += &plot("Bytes received, kB per second", &[bytes]);
        html += "<h2>All figures</h2><table>";
        let report = serde_json::to_value(self).expect("a report is plain numbers and a map of strings");
        for (key, value) in report.as_object().into_iter().flatten() {
            let _ = write!(html, "<tr><th>{}</th><td>{}</td></tr>", escaped(key), escaped(&value.to_string()));
        }
        html += "</table></body></html>\n";
        html
    }
}

/// Lines over the seconds of the run.
fn plot(title: &str, lines: &[Line]) -> String {
    const WIDTH: f64 = 1000.0;
    const HEIGHT: f64 = 240.0;
    const MARGIN: f64 = 56.0;
    const RULES: u32 = 4;
    let most = lines.iter().flat_map(|line| line.values.iter().flatten()).copied().fold(0.0, f64::max);
    let top = ceiling(most);
    let count = lines.iter().map(|line| line.values.len()).max().unwrap_or_default();
    let x = |second: usize| MARGIN + (WIDTH - MARGIN) * second as f64 / (count.max(2) - 1) as f64;
    let y = |value: f64| HEIGHT - value / top * HEIGHT + 10.0;

    let mut html = format!("<h2>{title}</h2><p>");
    for Line { name, class, .. } in lines {
        let _ = write!(html, "<span class=\"{class}\">&#9644; {name}</span> ");
    }
    let _ = write!(html, "</p><svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\">", HEIGHT + 34.0);
    for rule in 0..=RULES {
        let value = top * f64::from(rule) / f64::from(RULES);
        let at = y(value);
        let _ = write!(
            html,
            "<line x1=\"{MARGIN}\" x2=\"{WIDTH}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"var(--rule)\"/>\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            MARGIN - 6.0,
            at + 4.0
        );
    }
    for Line { class, values, .. } in lines {
        let points = values.iter().enumerate().filter_map(|(second, value)| Some((x(second), y((*value)?))));
        let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = write!(html, "<polyline class=\"{class}\" stroke=\"currentColor\" points=\"{}\"/>", points.join(" "));
    }
    let _ = write!(
        html,
        "<text x=\"{MARGIN}\" y=\"{0:.0}\">0 s</text>\
         <text x=\"{WIDTH}\" y=\"{0:.0}\" text-anchor=\"end\">{1} s</text></svg>",
        HEIGHT + 28.0,
        count.saturating_sub(1)
    );
    html
}

/// The next of 1, 2, 4, 10, 20, 40, … that is not below.
fn ceiling(value: f64) -> f64 {
    let mut unit = 1.0;
    loop {
        if let Some(top) = [1.0, 2.0, 4.0].map(|step| step * unit).into_iter().find(|top| *top >= value) {
            return top;
        }
        unit *= 10.0;
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::{super::swarm::Outcome, *};

    #[test]
    fn a_page_has_every_figure_and_needs_nothing_else() {
        let mut total = Outcome::default();
        total.fail("UNAVAILABLE", "<gone>".into());
        let report = Report::of(2, 3.0, 0.5, &total);
        let second =
            Second { bots: 1, bytes_received: 1500, age_us_total: 40_000, age_samples: 2, ..Second::default() };
        let page = report.page(&[Second::default(), second, Second { worst_age_ms: 33.0, ..second }]);
        for key in serde_json::to_value(&report).unwrap().as_object().unwrap().keys() {
            assert!(page.contains(&format!("<th>{key}</th>")), "{key}");
        }
        assert_eq!(page.matches("<polyline").count(), 3);
        assert!(page.contains("{&quot;UNAVAILABLE&quot;:1}"));
        for word in ["http:", "https:", "<script", "src=", "href="] {
            assert!(!page.contains(word), "{word}");
        }
    }

    #[test]
    fn a_swarm_that_never_played_has_a_page_too() {
        let page = Report::of(2, 0.0, 0.0, &Outcome::default()).page(&[]);
        assert!(page.ends_with("</html>\n") && !page.contains("NaN") && !page.contains("inf"));
    }

    #[test]
    fn plots_end_at_round_numbers() {
        assert_eq!([0.0, 0.7, 1.0, 1.1, 37.0, 4000.1].map(ceiling), [1.0, 1.0, 1.0, 2.0, 40.0, 10_000.0]);
    }
}
