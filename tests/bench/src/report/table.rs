//! Figures for people.

use comfy_table::{CellAlignment, Table, presets};

use super::{CaseReport, ServerReport};

/// Names of what [`row`] holds.
pub(crate) const HEADINGS: [&str; 13] = [
    "server",
    "µs/msg",
    "µs/client-tick",
    "ms/tick",
    "×floor",
    "×tokio",
    "payload B",
    "wire B",
    "B/entity (wire)",
    "age p50 ms",
    "p99 ms",
    "KiB/stream",
    "others %",
];

/// A case as a table, and what is to be known about it.
pub(crate) fn case(report: &CaseReport) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(HEADINGS);
    for server in &report.servers {
        table.add_row(row(server));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = format!("{}\n{table}\n", report.name);
    for note in notes(report) {
        text += &format!("  {note}\n");
    }
    for warning in warnings(report) {
        text += &format!("  ! {warning}\n");
    }
    text
}

/// A server's figures.
pub(crate) fn row(report: &ServerReport) -> [String; 13] {
    let figures = &report.median;
    let per_entity = report.payload_bytes_per_entity_tick.zip(report.wire_bytes_per_entity_tick);
    [
        report.server.to_string(),
        format!("{:.1}", figures.cpu_us_per_message),
        format!("{:.1}", figures.cpu_us_per_client_tick),
        format!("{:.2}", figures.cpu_ms_per_tick),
        ratio(report.ratio_to_floor),
        ratio(report.ratio_to_tokio),
        format!("{:.0}", figures.payload_bytes_per_message),
        format!("{:.0}", figures.wire_bytes_per_message),
        per_entity.map_or_else(none, |(payload, wire)| format!("{payload:.2} ({wire:.2})")),
        format!("{:.2}", figures.age_ms_p50),
        format!("{:.2}", figures.age_ms_p99),
        format!("{:.1}", figures.memory_kib_per_stream),
        format!("{:.0}", figures.others_cpu_share * 100.0),
    ]
}

/// What a table has no column for.
pub(crate) fn notes(report: &CaseReport) -> Vec<String> {
    let mut notes = Vec::new();
    for server in report.servers.iter().filter(|server| server.server.is_tickwire()) {
        let name = server.server;
        if server.ratio_to_floor_acked.is_some() {
            let (floor, tokio) = (ratio(server.ratio_to_floor_acked), ratio(server.ratio_to_tokio_acked));
            notes.push(format!("{name}: ×{floor} of the floor and ×{tokio} of tokio where those are acked, too"));
        }
        let figures = &server.median;
        let (owner, roster, cells) =
            (figures.owner_bytes_per_message, figures.roster_bytes_per_message, figures.cell_bytes_per_message);
        let header = figures.payload_bytes_per_message - owner - roster - cells;
        let updates = figures.cell_updates_per_message;
        notes.push(format!(
            "{name}: payload: header {header:.1}, owner {owner:.1}, roster {roster:.1}, {updates:.1} cells {cells:.1} B"
        ));
        let threads = server.median.thread_us_per_tick.iter().filter(|(_, time)| **time >= 0.5);
        let threads: Vec<String> = threads.map(|(name, time)| format!("{name} {time:.0}")).collect();
        notes.push(format!("{name}: µs per tick by thread: {}", threads.join(", ")));
    }
    notes
}

/// Why not to believe it.
pub(crate) fn warnings(report: &CaseReport) -> Vec<String> {
    let of = |server: &ServerReport| {
        let name = server.server;
        server.warnings.iter().map(|warning| format!("{name}: {warning}")).collect::<Vec<_>>()
    };
    report.servers.iter().flat_map(of).chain(report.errors.iter().cloned()).collect()
}

fn ratio(value: Option<f64>) -> String {
    value.map_or_else(none, |value| format!("{value:.2}"))
}

fn none() -> String {
    "–".to_owned()
}
