//! Connections and requests, as totals since the server's start.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;

use crate::{limits::RefusalReason, metrics::Reasons};

/// Counts connections.
#[derive(Debug, Default)]
pub(crate) struct ConnectionCounters {
    /// Accepted, those that were refused among them.
    pub(crate) accepted: AtomicU64,
    /// Closed at once.
    pub(crate) refused: Reasons<&'static str>,
    /// Served to their ends.
    pub(crate) closed: Reasons<&'static str>,
}

/// Its address is banned.
pub(super) const REFUSED_AS_BANNED: &str = "BANNED";
/// The system gave it away before it was served.
pub(super) const REFUSED_AS_LOST: &str = "LOST";

/// Why connections may be closed at once.
pub(crate) const CONNECTION_REFUSALS: [&str; 4] = [
    RefusalReason::Connections.label(),
    RefusalReason::ConnectionsPerAddress.label(),
    REFUSED_AS_BANNED,
    REFUSED_AS_LOST,
];

/// Codes of gRPC, and one more for what ended without a status.
const CODES: usize = 18;
const WITHOUT_STATUS: usize = CODES - 1;

/// Counts requests by method and status. Methods are those that the server has by its descriptors, so that nobody can make
/// more of them.
#[derive(Debug)]
pub(crate) struct RequestCounters {
    /// By path, such as `/tickwire.v1.GameService/Play`.
    methods: BTreeMap<String, [AtomicU64; CODES]>,
    /// Of all paths that are no method's.
    others: [AtomicU64; CODES],
}

/// Requests of one method that ended with one status.
pub(crate) struct Requests<'a> {
    /// Such as `tickwire.v1.GameService`; empty: no method of this server.
    pub(crate) service: &'a str,
    pub(crate) method: &'a str,
    pub(crate) code: &'static str,
    pub(crate) count: u64,
}

impl RequestCounters {
    /// Of a server with the services that stand in these descriptors.
    pub(crate) fn new(descriptors: &[&[u8]]) -> Self {
        let mut methods = BTreeMap::new();
        for descriptor in descriptors {
            let set = FileDescriptorSet::decode(*descriptor).expect("the descriptors are compiled in");
            for file in &set.file {
                for service in &file.service {
                    let service_name = format!("{}.{}", file.package(), service.name());
                    let path = |method: &str| format!("/{service_name}/{method}");
                    methods.extend(service.method.iter().map(|method| (path(method.name()), zeros())));
                }
            }
        }
        Self { methods, others: zeros() }
    }

    /// Counts one that has ended; `None`: without a status, as one that the client has reset.
    pub(crate) fn note(&self, path: &str, code: Option<Code>) {
        let code = code.map_or(WITHOUT_STATUS, |code| (code as usize).min(WITHOUT_STATUS));
        self.methods.get(path).unwrap_or(&self.others)[code].fetch_add(1, Relaxed);
    }

    /// All that there have been.
    pub(crate) fn counted(&self) -> impl Iterator<Item = Requests<'_>> {
        let methods = self.methods.iter().map(|(path, counts)| (split(path), counts));
        let all = methods.chain([(("", "other"), &self.others)]);
        all.flat_map(|((service, method), counts)| {
            counts.iter().enumerate().filter_map(move |(code, count)| {
                let count = count.load(Relaxed);
                (count > 0).then_some(Requests { service, method, code: code_label(code), count })
            })
        })
    }
}

fn split(path: &str) -> (&str, &str) {
    path.strip_prefix('/').and_then(|path| path.split_once('/')).expect("all methods' paths are made so")
}

fn zeros() -> [AtomicU64; CODES] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

fn code_label(code: usize) -> &'static str {
    const NAMES: [&str; CODES] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
        "NONE",
    ];
    NAMES[code]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_of_the_descriptors_are_counted_by_themselves_and_all_else_together() {
        let counters = RequestCounters::new(&[tickwire_proto::FILE_DESCRIPTOR_SET]);
        counters.note("/tickwire.v1.GameService/Play", Some(Code::Ok));
        counters.note("/tickwire.v1.GameService/Play", None);
        for path in ["/a/b", "/c/d", "", "/tickwire.v1.GameService/Nothing"] {
            counters.note(path, Some(Code::Unimplemented));
        }
        let counted: Vec<_> = counters.counted().map(|of| (of.service, of.method, of.code, of.count)).collect();
        let expected = [
            ("tickwire.v1.GameService", "Play", "OK", 1),
            ("tickwire.v1.GameService", "Play", "NONE", 1),
            ("", "other", "UNIMPLEMENTED", 4),
        ];
        assert_eq!(counted, expected);
    }

    #[test]
    fn every_code_has_its_own_name() {
        let names: std::collections::BTreeSet<_> = (0..CODES).map(code_label).collect();
        assert_eq!(names.len(), CODES);
        assert_eq!(code_label(Code::Unauthenticated as usize), "UNAUTHENTICATED");
        assert_eq!(code_label(Code::DeadlineExceeded as usize), "DEADLINE_EXCEEDED");
    }
}
