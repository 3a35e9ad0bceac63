//! What a run came to: medians over its repeats, and ratios of servers that ran one after the other.

pub(crate) mod html;
pub(crate) mod table;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    cases::{Case, Direction},
    runner::{Contender, Figures},
};

/// Above this share of others on the processors, figures are not to be trusted.
const OTHERS_SHARE_MAX: f64 = 0.05;
/// Below this share of messages that were due, a server is overloaded.
const DELIVERED_SHARE_MIN: f64 = 0.99;

/// Above this share of inputs that no tick consumes, a world is another than its name says.
const INPUTS_LATE_SHARE_MAX: f64 = 0.05;

/// All of a run, as it is written to JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: BTreeMap<&'static str, String>,
    pub(crate) repeats: u32,
    pub(crate) seconds: f64,
    pub(crate) cases: Vec<CaseReport>,
}

/// One case.
#[derive(Debug, Serialize)]
pub(crate) struct CaseReport {
    pub(crate) name: String,
    pub(crate) clients: usize,
    pub(crate) tick_rate: u32,
    pub(crate) entities_in_view: Option<usize>,
    pub(crate) servers: Vec<ServerReport>,
    /// What went wrong, where something did.
    pub(crate) errors: Vec<String>,
}

/// One server in one case.
#[derive(Debug, Serialize)]
pub(crate) struct ServerReport {
    pub(crate) server: Contender,
    /// Of the server's time per message, or in `down+up` per client-tick: the medians of the ratios of each repeat.
    pub(crate) ratio_to_floor: Option<f64>,
    pub(crate) ratio_to_tokio: Option<f64>,
    /// `down` alone: the same to plain servers whose clients acknowledge, too.
    pub(crate) ratio_to_floor_acked: Option<f64>,
    pub(crate) ratio_to_tokio_acked: Option<f64>,
    pub(crate) payload_bytes_per_entity_tick: Option<f64>,
    pub(crate) wire_bytes_per_entity_tick: Option<f64>,
    pub(crate) warnings: Vec<String>,
    pub(crate) median: Figures,
    pub(crate) repeats: Vec<Figures>,
}

/// What was measured of a case: each repeat's figures by server.
pub(crate) type Repeats = Vec<BTreeMap<Contender, Figures>>;

impl CaseReport {
    pub(crate) fn new(case: &Case, contenders: &[Contender], repeats: &Repeats, errors: Vec<String>) -> Self {
        let entities = case.workload.entities_in_view();
        Self {
            name: case.to_string(),
            clients: case.workload.clients(),
            tick_rate: case.rate,
            entities_in_view: entities,
            servers: contenders.iter().filter_map(|&server| server_report(case, server, repeats, entities)).collect(),
            errors,
        }
    }
}

fn server_report(case: &Case, server: Contender, repeats: &Repeats, entities: Option<usize>) -> Option<ServerReport> {
    let own: Vec<Figures> = repeats.iter().filter_map(|by_server| by_server.get(&server)).cloned().collect();
    let median = Figures::median(&own)?;
    let ratio = |other: Contender| {
        let cost = |figures: &Figures| match case.direction {
            Direction::Down => figures.cpu_us_per_message,
            Direction::DownUp => figures.cpu_us_per_client_tick,
        };
        let pairs = repeats.iter().filter_map(|by_server| by_server.get(&server).zip(by_server.get(&other)));
        median_of(pairs.map(|(own, other)| cost(own) / cost(other)).collect())
    };
    let per_entity = |bytes: f64| entities.filter(|_| server.is_tickwire()).map(|entities| bytes / entities as f64);
    Some(ServerReport {
        server,
        ratio_to_floor: ratio(Contender::Floor),
        ratio_to_tokio: ratio(Contender::Tokio),
        ratio_to_floor_acked: ratio(Contender::FloorAcked),
        ratio_to_tokio_acked: ratio(Contender::TokioAcked),
        payload_bytes_per_entity_tick: per_entity(median.payload_bytes_per_message),
        wire_bytes_per_entity_tick: per_entity(median.wire_bytes_per_message),
        warnings: warnings(&own),
        median,
        repeats: own,
    })
}

/// What is to be known before the figures are believed.
fn warnings(repeats: &[Figures]) -> Vec<String> {
    let mut warnings = Vec::new();
    let others = repeats.iter().map(|figures| figures.others_cpu_share).fold(0.0, f64::max);
    if others > OTHERS_SHARE_MAX {
        warnings.push(format!("others took up to {:.0} % of the machine", others * 100.0));
    }
    let delivered = repeats.iter().map(|figures| figures.delivered_share).fold(1.0, f64::min);
    if delivered < DELIVERED_SHARE_MIN {
        warnings.push(format!("only {:.1} % of the messages came", delivered * 100.0));
    }
    let late = repeats.iter().map(|figures| figures.inputs_late_share).fold(0.0, f64::max);
    if late > INPUTS_LATE_SHARE_MAX {
        warnings.push(format!(
            "up to {:.0} % of the inputs came too late: the players did not move as they should",
            late * 100.0
        ));
    }
    for (why, count) in repeats.iter().flat_map(|figures| &figures.clients_lost) {
        warnings.push(format!("{count} clients lost: {why}"));
    }
    warnings
}

impl Figures {
    /// The median of each figure. What was lost is that of all.
    fn median(all: &[Self]) -> Option<Self> {
        let of = |figure: &dyn Fn(&Self) -> f64| median_of(all.iter().map(figure).collect());
        let threads = all.iter().flat_map(|figures| figures.thread_us_per_tick.keys());
        let thread = |name: &String| of(&|figures| figures.thread_us_per_tick.get(name).copied().unwrap_or(0.0));
        Some(Self {
            cpu_us_per_message: of(&|figures| figures.cpu_us_per_message)?,
            cpu_us_per_client_tick: of(&|figures| figures.cpu_us_per_client_tick)?,
            cpu_ms_per_tick: of(&|figures| figures.cpu_ms_per_tick)?,
            thread_us_per_tick: threads.map(|name| Some((name.clone(), thread(name)?))).collect::<Option<_>>()?,
            delivered_share: of(&|figures| figures.delivered_share)?,
            inputs_late_share: of(&|figures| figures.inputs_late_share)?,
            payload_bytes_per_message: of(&|figures| figures.payload_bytes_per_message)?,
            owner_bytes_per_message: of(&|figures| figures.owner_bytes_per_message)?,
            roster_bytes_per_message: of(&|figures| figures.roster_bytes_per_message)?,
            cell_bytes_per_message: of(&|figures| figures.cell_bytes_per_message)?,
            cell_updates_per_message: of(&|figures| figures.cell_updates_per_message)?,
            socket_bytes_per_message: of(&|figures| figures.socket_bytes_per_message)?,
            wire_bytes_per_message: of(&|figures| figures.wire_bytes_per_message)?,
            up_bytes_per_client_tick: of(&|figures| figures.up_bytes_per_client_tick)?,
            loopback_packets_per_client_tick: of(&|figures| figures.loopback_packets_per_client_tick)?,
            loopback_bytes_per_client_tick: of(&|figures| figures.loopback_bytes_per_client_tick)?,
            age_ms_p50: of(&|figures| figures.age_ms_p50)?,
            age_ms_p99: of(&|figures| figures.age_ms_p99)?,
            memory_kib_per_stream: of(&|figures| figures.memory_kib_per_stream)?,
            drain_cpu_share: of(&|figures| figures.drain_cpu_share)?,
            others_cpu_share: of(&|figures| figures.others_cpu_share)?,
            clients_lost: all.iter().flat_map(|figures| figures.clients_lost.clone()).collect(),
        })
    }
}

/// The middle one, or the mean of the two in the middle.
fn median_of(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    Some(if values.len().is_multiple_of(2) { f64::midpoint(values[values.len() / 2 - 1], upper) } else { upper })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median_of(vec![]), None);
        assert_eq!(median_of(vec![3.0]), Some(3.0));
        assert_eq!(median_of(vec![9.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median_of(vec![9.0, 1.0, 3.0, 5.0]), Some(4.0));
    }
}
