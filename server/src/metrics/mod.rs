//! What the server measures, for Prometheus. docs/metrics.md describes all of it.
//!
//! Whoever does something counts it, in an atomic of their own part; a request for the metrics reads them all. Nothing is
//! registered, so that what is gone is not put out any more. The text comes from the `prometheus` crate.
//!
//! A new metric takes a line in `families`, a line in docs/metrics.md, a case in the tests, and a place here that puts it.

mod families;
mod histogram;
mod http;
mod peers;
mod reasons;
mod sessions;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub(crate) use histogram::{Counted, Histogram};
pub use http::MetricsError;
pub(crate) use http::{Asked, MetricsListener, routes};
pub(crate) use peers::{Arrival, CLOSED, LET_IN, LOST, MALFORMED, PeerCounters, PeerKind, of_goodbye};
pub(crate) use reasons::Reasons;
pub(crate) use sessions::SessionMeters;

use self::{families::Exposition, peers::known_ends};
use crate::{
    identity::IdentityReason,
    limits::RefusalReason,
    net::{CONNECTION_ENDS, CONNECTION_REFUSALS},
    server::{Phase, Shared},
};

/// All metrics of a server, in Prometheus' text format.
pub(crate) fn render(shared: &Shared) -> String {
    let mut exposition = Exposition::default();
    exposition.family(families::BUILD).number(&[env!("CARGO_PKG_VERSION")], 1.0);
    let is_serving = *shared.phase.borrow() == Phase::Serving;
    exposition.family(families::SERVING).number(&[], f64::from(u8::from(is_serving)));
    put_network(shared, &mut exposition);
    put_peers(shared, &mut exposition);
    put_identity(shared, &mut exposition);
    shared.meters.put(&shared.registry.all(), &mut exposition);
    put_watch(shared, &mut exposition);
    #[cfg(target_os = "linux")]
    put_process(&mut exposition);
    exposition.render()
}

fn put_network(shared: &Shared, exposition: &mut Exposition) {
    exposition.family(families::CONNECTIONS).number(&[], shared.connections() as f64);
    let counters = &shared.connection_counters;
    exposition.family(families::CONNECTIONS_ACCEPTED).number(&[], counters.accepted.load(Relaxed) as f64);
    let mut refused = exposition.family(families::CONNECTIONS_REFUSED);
    for (reason, count) in counters.refused.counted(CONNECTION_REFUSALS) {
        refused.number(&[reason], count as f64);
    }
    let mut closed = exposition.family(families::CONNECTIONS_CLOSED);
    for (reason, count) in counters.closed.counted(CONNECTION_ENDS) {
        closed.number(&[reason], count as f64);
    }
    let mut refusals = exposition.family(families::REFUSALS);
    for reason in RefusalReason::ALL {
        refusals.number(&[reason.label()], shared.refusals.get(*reason) as f64);
    }
    let mut requests = exposition.family(families::REQUESTS);
    for of in shared.requests.counted() {
        requests.number(&[of.service, of.method, of.code], of.count as f64);
    }
}

fn put_peers(shared: &Shared, exposition: &mut Exposition) {
    exposition.family(families::STREAMS).number(&[], shared.streams.load(Relaxed) as f64);
    let mut joins = exposition.family(families::JOINS);
    let known =
        Arrival::ALL.into_iter().filter(|arrival| *arrival != Arrival::Unknown).map(|arrival| (arrival, LET_IN));
    for ((arrival, outcome), count) in shared.peer_counters.joins.counted(known) {
        joins.number(&[arrival.label(), outcome], count as f64);
    }
    let mut ends = exposition.family(families::DISCONNECTS);
    let known = PeerKind::ALL.into_iter().flat_map(|kind| known_ends().map(move |end| (kind, end)));
    for ((kind, end), count) in shared.peer_counters.ends.counted(known) {
        ends.number(&[kind.label(), end], count as f64);
    }
}

fn put_identity(shared: &Shared, exposition: &mut Exposition) {
    let reserved = &shared.reservations.counters;
    let identity = &shared.identity.counters;
    let outcomes: [(_, &[(&str, &AtomicU64)]); 2] = [
        (
            families::RESERVATIONS,
            &[("reserved", &reserved.reserved), ("used", &reserved.used), ("expired", &reserved.expired)],
        ),
        (families::TICKETS, &[("admitted", &identity.tickets_admitted), ("given_back", &identity.tickets_given_back)]),
    ];
    for (family, counts) in outcomes {
        let mut metrics = exposition.family(family);
        for (outcome, count) in counts {
            metrics.number(&[outcome], count.load(Relaxed) as f64);
        }
    }
    exposition.family(families::API_KEY_CALLS).number(&[], identity.api_key_calls.load(Relaxed) as f64);
    let mut refusals = exposition.family(families::IDENTITY_REFUSALS);
    for reason in IdentityReason::ALL {
        refusals.number(&[reason.reason()], identity.refusals(reason) as f64);
    }
}

fn put_watch(shared: &Shared, exposition: &mut Exposition) {
    let sent = &shared.spectator_snapshots;
    for (family, full, delta) in [
        (families::WATCH_SNAPSHOTS, &sent.full, &sent.delta),
        (families::WATCH_SNAPSHOT_BYTES, &sent.full_bytes, &sent.delta_bytes),
    ] {
        let mut metrics = exposition.family(family);
        metrics.number(&["full"], full.load(Relaxed) as f64);
        metrics.number(&["delta"], delta.load(Relaxed) as f64);
    }
    exposition.family(families::WATCH_CREDIT_STALLS).number(&[], sent.credit_stalls.load(Relaxed) as f64);
}

/// What the system knows of the process, as far as it says.
#[cfg(target_os = "linux")]
fn put_process(exposition: &mut Exposition) {
    let process = metrics_process::collector::collect();
    let whole = |number: Option<u64>| number.map(|number| number as f64);
    for (family, number) in [
        (families::CPU, process.cpu_seconds_total),
        (families::FDS, whole(process.open_fds)),
        (families::MAX_FDS, whole(process.max_fds)),
        (families::RESIDENT, whole(process.resident_memory_bytes)),
        (families::VIRTUAL, whole(process.virtual_memory_bytes)),
        (families::START, whole(process.start_time_seconds)),
        (families::THREADS, whole(process.threads)),
    ] {
        if let Some(number) = number {
            exposition.family(family).number(&[], number);
        }
    }
}
