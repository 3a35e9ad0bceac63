//! The families of metrics: their names, types, labels and meanings. docs/metrics.md has the same table; a test compares them.

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::Counted;

/// A family.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: MetricType,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

macro_rules! families {
    ($($constant:ident: $kind:ident $name:literal [$($label:literal)*] $help:literal;)*) => {
        $(pub(super) const $constant: &Family = &Family {
            name: $name,
            kind: MetricType::$kind,
            labels: &[$($label),*],
            help: $help,
        };)*

        /// All of them, in order of their output.
        #[cfg(test)]
        pub(super) const ALL: &[&Family] = &[$($constant),*];
    };
}

families! {
    BUILD: GAUGE "tickwire_build_info" ["version"] "The server's version; always 1.";
    SERVING: GAUGE "tickwire_serving" [] "1 while players may join, 0 once the server drains.";
    CONNECTIONS: GAUGE "tickwire_connections" [] "Open connections.";
    CONNECTIONS_ACCEPTED: COUNTER "tickwire_connections_accepted_total" []
        "Connections accepted, refused ones among them.";
    CONNECTIONS_REFUSED: COUNTER "tickwire_connections_refused_total" ["reason"]
        "Connections closed before anything was read of them.";
    CONNECTIONS_CLOSED: COUNTER "tickwire_connections_closed_total" ["reason"]
        "Connections that were served to their ends.";
    REFUSALS: COUNTER "tickwire_refusals_total" ["reason"]
        "Times that a limit or a time was exceeded, or a request was wrong (OTHER).";
    REQUESTS: COUNTER "tickwire_requests_total" ["service" "method" "code"]
        "Requests that have ended, streams among them, by the status that the client was sent; NONE: it was sent none.";
    STREAMS: GAUGE "tickwire_play_streams" [] "Open Play streams, those that have not joined among them.";
    JOINS: COUNTER "tickwire_joins_total" ["how" "outcome"]
        "Wishes to play or watch, by what came of them: OK, or why not.";
    DISCONNECTS: COUNTER "tickwire_disconnects_total" ["peer" "reason"]
        "Streams of players and spectators that were let in, by why they ended.";
    SESSIONS_STARTED: COUNTER "tickwire_sessions_started_total" []
        "Sessions that were started, those that went on after a crash among them.";
    SESSIONS_ENDED: COUNTER "tickwire_sessions_ended_total" ["cause"]
        "Sessions that have ended, by why.";
    RESERVATIONS: COUNTER "tickwire_reservations_total" ["outcome"]
        "Seats that were reserved, and what became of them.";
    IDENTITY_REFUSALS: COUNTER "tickwire_identity_refusals_total" ["reason"]
        "Refusals for who somebody is or is not: tickets, API keys, hosts, origins.";
    TICKETS: COUNTER "tickwire_tickets_total" ["outcome"]
        "Tickets that have let somebody in, and those that stayed good, since what they were for did not come about.";
    API_KEY_CALLS: COUNTER "tickwire_api_key_calls_total" []
        "Calls that an API key was good for.";
    SESSIONS: GAUGE "tickwire_sessions" ["game" "state"] "Sessions by what they do.";
    SESSION_TICK: GAUGE "tickwire_session_tick" ["game" "session"]
        "The newest tick; of several sessions together the greatest.";
    TICK_DURATION: HISTOGRAM "tickwire_tick_duration_seconds" ["game" "session"]
        "How long ticks took, from their start until network and recorder had all of them.";
    TICK_LATENESS: HISTOGRAM "tickwire_tick_lateness_seconds" ["game" "session"]
        "How long after they were due ticks began.";
    OVERRUNS: COUNTER "tickwire_tick_overruns_total" ["game" "session"]
        "Ticks that began a tick or more too late, or took longer than a tick.";
    SLIPS: COUNTER "tickwire_tick_slips_total" ["game" "session"]
        "Times that a tick loop gave up catching up, and moved its clock.";
    SLIP_SECONDS: COUNTER "tickwire_tick_slip_seconds_total" ["game" "session"] "How far clocks were moved.";
    STUCK: COUNTER "tickwire_session_stuck_total" ["game" "session"]
        "Times that a tick took so long that its session counted as stuck.";
    SEATS_TAKEN: GAUGE "tickwire_seats_taken" ["game" "session"]
        "Seats that are taken, those that are kept for lost players among them.";
    SEATS_MAX: GAUGE "tickwire_seats_max" ["game" "session"] "Seats that there are.";
    PEERS: GAUGE "tickwire_peers" ["game" "session" "kind"]
        "Players who are connected, their further streams (stripes), and spectators.";
    RESUMES: COUNTER "tickwire_seats_resumed_total" ["game" "session"] "Seats taken back by their players.";
    STRIPES_ATTACHED: COUNTER "tickwire_stripes_attached_total" ["game" "session"]
        "Further streams of players who had one.";
    STRIPES_LOST: COUNTER "tickwire_stripes_lost_total" ["game" "session"]
        "Streams that were lost while their player had others.";
    INPUT_TICKS: COUNTER "tickwire_input_ticks_total" ["game" "session" "provenance"]
        "Ticks of seats by what they consumed: a fresh input, a repeated one, none.";
    INPUTS_NOT_TAKEN: COUNTER "tickwire_inputs_not_taken_total" ["game" "session" "reason"]
        "Inputs that no tick consumed, by why.";
    STALE_EPOCHS: COUNTER "tickwire_stale_epoch_messages_total" ["game" "session"]
        "Messages of before a session's recovery.";
    RESYNCS: COUNTER "tickwire_resyncs_total" ["game" "session"] "Resets that clients asked for.";
    SNAPSHOTS: COUNTER "tickwire_snapshots_sent_total" ["game" "session" "kind"]
        "Snapshots sent to players: full ones, and deltas.";
    SNAPSHOT_BYTES: COUNTER "tickwire_snapshot_bytes_total" ["game" "session" "kind"]
        "Their bytes, as Snapshot messages.";
    SUPERSEDED: COUNTER "tickwire_snapshots_superseded_total" ["game" "session"]
        "Snapshots that were due to a player, and gave way to a newer one.";
    CREDIT_STALLS: COUNTER "tickwire_credit_stalls_total" ["game" "session"]
        "Times that a player's stream came to find no credit for a snapshot that was due.";
    CHUNK_LOOKUPS: COUNTER "tickwire_chunk_lookups_total" ["game" "session"]
        "Changes of cells that were looked up for players' snapshots.";
    CHUNKS_ENCODED: COUNTER "tickwire_chunks_encoded_total" ["game" "session"]
        "Changes of cells that were encoded: look-ups that found nothing.";
    CHAT_LINES: COUNTER "tickwire_chat_lines_total" ["game" "session"]
        "Lines that were said and not rejected, the server's among them.";
    CHAT_DELIVERED: COUNTER "tickwire_chat_lines_delivered_total" ["game" "session"]
        "Copies of them that readers' streams have taken.";
    CHAT_DROPPED: COUNTER "tickwire_chat_lines_dropped_total" ["game" "session"]
        "Copies that were dropped, since their readers were too slow.";
    CHAT_UNRECORDED: COUNTER "tickwire_chat_lines_unrecorded_total" ["game" "session"]
        "Lines that are missing in the recording: too many at once for a session that did not step.";
    CHAT_REJECTED: COUNTER "tickwire_chat_rejected_total" ["game" "session" "reason"]
        "Lines that went to nobody, by why.";
    WATCH_SNAPSHOTS: COUNTER "tickwire_watch_snapshots_sent_total" ["kind"] "Snapshots sent to spectators.";
    WATCH_SNAPSHOT_BYTES: COUNTER "tickwire_watch_snapshot_bytes_total" ["kind"] "Their bytes.";
    WATCH_CREDIT_STALLS: COUNTER "tickwire_watch_credit_stalls_total" []
        "Times that a spectator's stream came to find no credit for a snapshot that was due.";
    RECORDERS: GAUGE "tickwire_recorders" ["game" "state"] "Sessions that are recorded, by how their recordings do.";
    RECORDER_LAG_TICKS: GAUGE "tickwire_recorder_lag_ticks" ["game" "session"]
        "Ticks begun that are not in the file; of several sessions together the most.";
    RECORDER_LAG_BYTES: GAUGE "tickwire_recorder_lag_bytes" ["game" "session"]
        "Memory that waits to be written, about.";
    RECORDER_UNSYNCED_BYTES: GAUGE "tickwire_recorder_unsynced_bytes" ["game" "session"]
        "Bytes written that a loss of power may lose.";
    RECORDING_BYTES: GAUGE "tickwire_recording_bytes" ["game" "session"] "The size of the recording.";
    RECORDER_FAILURES: COUNTER "tickwire_recorder_failures_total" ["game" "session"]
        "Times that the disk has refused something.";
    SEGMENTS_LEFT: COUNTER "tickwire_recorder_segments_left_total" ["game" "session"]
        "Segments that could not be finished, and are left for the next start.";
    CPU: COUNTER "process_cpu_seconds_total" [] "User and system time spent.";
    FDS: GAUGE "process_open_fds" [] "Open file descriptors, sockets among them.";
    MAX_FDS: GAUGE "process_max_fds" [] "The most there may be; 0: any number.";
    RESIDENT: GAUGE "process_resident_memory_bytes" [] "Resident memory.";
    VIRTUAL: GAUGE "process_virtual_memory_bytes" [] "Virtual memory.";
    START: GAUGE "process_start_time_seconds" [] "When the process started, since the Unix epoch.";
    THREADS: GAUGE "process_threads" [] "Threads of the operating system.";
}

/// What is put out: families, each with its metrics.
#[derive(Debug, Default)]
pub(super) struct Exposition(Vec<MetricFamily>);

impl Exposition {
    /// Begins a family. One without metrics is left out.
    pub(super) fn family(&mut self, family: &'static Family) -> Metrics<'_> {
        let mut proto = MetricFamily::default();
        proto.set_name(family.name.to_owned());
        proto.set_help(family.help.to_owned());
        proto.set_field_type(family.kind);
        self.0.push(proto);
        Metrics { family, metrics: self.0.last_mut().expect("it has just been pushed").mut_metric() }
    }

    pub(super) fn render(mut self) -> String {
        self.0.retain(|family| !family.get_metric().is_empty());
        prometheus::TextEncoder::new().encode_to_string(&self.0).expect("all families have names and metrics")
    }
}

/// The metrics of a family.
pub(super) struct Metrics<'a> {
    family: &'static Family,
    metrics: &'a mut Vec<Metric>,
}

impl Metrics<'_> {
    /// Puts a number; the values are those of the family's first labels. Where there are fewer, the others are left out.
    pub(super) fn number(&mut self, values: &[&str], number: f64) {
        let mut metric = self.metric(values);
        if self.family.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(number);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(number);
            metric.set_gauge(gauge);
        }
        self.metrics.push(metric);
    }

    pub(super) fn histogram<const N: usize>(&mut self, values: &[&str], counted: &Counted<N>, bounds_us: &[u64; N]) {
        let mut metric = self.metric(values);
        let mut below = 0;
        let buckets = bounds_us.iter().zip(counted.counts).map(|(bound, count)| {
            below += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(seconds(*bound));
            bucket.set_cumulative_count(below);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(below + counted.beyond);
        histogram.set_sample_sum(seconds(counted.sum_us));
        metric.set_histogram(histogram);
        self.metrics.push(metric);
    }

    /// An empty value is a label that is left out: to Prometheus that is the same.
    fn metric(&self, values: &[&str]) -> Metric {
        debug_assert_eq!(values.len(), self.family.labels.len(), "{} has other labels", self.family.name);
        let labels = self.family.labels.iter().zip(values).filter(|(_, value)| !value.is_empty());
        let pair = |(name, value): (&&str, &&str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        Metric::from_label(labels.map(pair).collect())
    }
}

pub(super) fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of the documentation's table: name, type, labels, meaning.
    type Row = (String, String, String, String);

    #[test]
    fn the_table_of_the_documentation_has_all_families_and_no_others() {
        let page = include_str!("../../../docs/metrics.md");
        let table =
            page.split_once("| metric | type |").and_then(|(_, rest)| rest.split_once("\n\n")).expect("a table");
        let plain = |cell: &str| cell.trim().trim_matches('`').replace("`, `", " ");
        let told: Vec<Row> = table
            .0
            .lines()
            .skip(2)
            .map(|line| {
                let cells: Vec<String> = line.trim_matches('|').split('|').map(plain).collect();
                <[String; 4]>::try_from(cells).expect("four cells").into()
            })
            .collect();
        let kind = |family: &Family| format!("{:?}", family.kind).to_lowercase();
        let of = |family: &&Family| -> Row {
            (family.name.into(), kind(family), family.labels.join(" "), family.help.into())
        };
        let there_are: Vec<Row> = ALL.iter().map(of).collect();
        assert_eq!(told, there_are, "the table is docs/metrics.md");
    }

    #[test]
    fn names_have_units_and_counters_end_in_total() {
        for family in ALL {
            let name = family.name;
            assert_eq!(name.ends_with("_total"), family.kind == MetricType::COUNTER, "{name}");
            assert!(name.starts_with("tickwire_") || name.starts_with("process_"), "{name}");
            assert!(family.help.ends_with('.') && family.help.len() > 10, "{name}: {}", family.help);
            for unit in ["_ms", "_us", "_millis", "_micros", "_kb", "_mib"] {
                assert!(!name.contains(unit), "{name} is not in seconds or bytes");
            }
            for label in family.labels {
                assert!(
                    !["player", "address", "peer_address", "name"].contains(label),
                    "{name} has no bound by {label}"
                );
            }
        }
    }

    #[test]
    fn a_histogram_is_put_out_by_cumulative_bounds_in_seconds() {
        let mut exposition = Exposition::default();
        let counted = Counted { counts: [2, 1], beyond: 4, sum_us: 1_500_000 };
        exposition.family(TICK_DURATION).histogram(&["arena", ""], &counted, &[250, 1_000_000]);
        exposition.family(PEERS);
        let expected = r#"# HELP tickwire_tick_duration_seconds How long ticks took, from their start until network and recorder had all of them.
# TYPE tickwire_tick_duration_seconds histogram
tickwire_tick_duration_seconds_bucket{game="arena",le="0.00025"} 2
tickwire_tick_duration_seconds_bucket{game="arena",le="1"} 3
tickwire_tick_duration_seconds_bucket{game="arena",le="+Inf"} 7
tickwire_tick_duration_seconds_sum{game="arena"} 1.5
tickwire_tick_duration_seconds_count{game="arena"} 7
"#;
        assert_eq!(exposition.render(), expected);
    }
}
