//! Why peers were told no, and how often.

use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderMap;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::status::DOMAIN;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// A limit that was exceeded, or that a connection was lost to. Those with a status go by its reason.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum RefusalReason {
            $($(#[$doc])* $name,)*
        }

        impl RefusalReason {
            /// All of them, in the order in which they are counted.
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            /// What metrics and docs/limits.md call it.
            pub(crate) const fn label(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)*
                }
            }
        }
    };
}

reasons! {
    /// The server has as many connections as may be.
    Connections = "CONNECTIONS",
    /// So has the address.
    ConnectionsPerAddress = "CONNECTIONS_PER_ADDRESS",
    /// As many connections of admins, or of who asks for metrics, as may be: one was closed for the newest, or the newest.
    AdminConnections = "ADMIN_CONNECTIONS",
    /// As many streams of statistics for admins as may be.
    Stats = "STATS",
    /// More ticks for a paused session to step than may wait.
    TooManySteps = "TOO_MANY_STEPS",
    /// As many bans as may be.
    Bans = "BANS",
    /// Too many wrong tokens of admins.
    TooManyAttempts = "TOO_MANY_ATTEMPTS",
    /// A connection on which TLS was not agreed on in time.
    NoHandshake = "NO_HANDSHAKE",
    /// A connection without a request.
    NoRequest = "NO_REQUEST",
    /// A connection that has had no request for long.
    Idle = "IDLE",
    /// No ping was answered.
    Dead = "DEAD",
    /// More frames or requests per second than may be.
    FrameFlood = "FRAME_FLOOD",
    /// HTTP/2 itself has had too much: resets, empty frames, continuations.
    Http2Flood = "HTTP2_FLOOD",
    /// More bytes than the windows have room for.
    FlowControl = "FLOW_CONTROL",
    /// Frames that break HTTP/2's rules.
    Http2Protocol = "HTTP2_PROTOCOL",
    /// A request beyond those that a connection may have at once, or with longer headers than may be.
    RefusedStream = "REFUSED_STREAM",
    /// More streams on a connection than may be.
    Streams = "STREAMS",
    /// More streams of a player than may be.
    Stripes = "STRIPES",
    /// More joins per second than may be.
    Joins = "JOINS",
    /// All seats are taken.
    Full = "FULL",
    /// All places of spectators are taken.
    Spectators = "SPECTATORS",
    /// As many sessions run as may.
    Sessions = "SESSIONS",
    /// So many of them are one creator's.
    SessionsOfCreator = "SESSIONS_OF_CREATOR",
    /// Too many wrong join codes.
    Attempts = "ATTEMPTS",
    /// As many watch which sessions there are as may.
    Watchers = "WATCHERS",
    /// As many used tickets are kept in mind as can be.
    TicketsFull = "TICKETS_FULL",
    /// The disk does not take, or not in time, that a ticket is used.
    TicketsUnrecorded = "TICKETS_UNRECORDED",
    /// As many seats are reserved for a caller as may be.
    SeatsReserved = "SEATS_RESERVED",
    /// A session's mailbox is full, or too much of one kind waits elsewhere.
    Busy = "BUSY",
    /// More messages or bytes per second than may be.
    Flooding = "FLOODING",
    /// A message that is too long, before or after it is decompressed.
    MessageTooLong = "MESSAGE_TOO_LONG",
    /// No Hello in time.
    NoHello = "NO_HELLO",
    /// A request's message has not come in time.
    NoMessage = "NO_MESSAGE",
    /// Nothing has come for too long.
    Silent = "SILENT",
    /// Nothing was read for too long.
    NotReading = "NOT_READING",
    /// As many are in the past as may be.
    Replays = "REPLAYS",
    /// A spectator in the past who does nothing.
    ReplayIdle = "REPLAY_IDLE",
    /// The machine has no thread left.
    Threads = "THREADS",
    /// As many recordings are sent as may be.
    Downloads = "DOWNLOADS",
    /// As many ask the disk for recordings as may.
    Listings = "LISTINGS",
    /// What is no limit's: wrong requests, tokens and names.
    Other = "OTHER",
}

impl RefusalReason {
    /// That of a status's reason.
    pub(crate) fn of(reason: &str) -> Self {
        Self::ALL.iter().copied().find(|known| known.label() == reason).unwrap_or(Self::Other)
    }

    /// That of an answer's headers or trailers, where they refuse.
    pub(crate) fn of_headers(headers: &HeaderMap) -> Option<Self> {
        let status = Status::from_header_map(headers).filter(|status| status.code() != Code::Ok)?;
        Some(match (status.get_error_details().error_info(), status.code()) {
            (Some(info), _) if info.domain == DOMAIN => Self::of(&info.reason),
            // What tonic says of a message that is too long as it comes, or gets too long when it is decompressed.
            (_, Code::OutOfRange | Code::ResourceExhausted) => Self::MessageTooLong,
            _ => Self::Other,
        })
    }
}

/// How often which limit has told somebody no, since the server's start.
#[derive(Debug)]
pub(crate) struct RefusalCounters([AtomicU64; RefusalReason::ALL.len()]);

impl Default for RefusalCounters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl RefusalCounters {
    /// Counts one more; how many there are now.
    pub(crate) fn count(&self, reason: RefusalReason) -> u64 {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed) + 1
    }

    /// How many there have been.
    pub(crate) fn get(&self, reason: RefusalReason) -> u64 {
        self.0[reason as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::status::Refusal;

    fn headers(status: impl Into<Status>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        status.into().add_header(&mut headers).expect("it is ASCII");
        headers
    }

    #[test]
    fn every_reason_is_found_by_its_label_and_counted_by_itself() {
        let counters = RefusalCounters::default();
        for (place, reason) in RefusalReason::ALL.iter().enumerate() {
            assert_eq!((RefusalReason::of(reason.label()), *reason as usize), (*reason, place));
            assert_eq!((counters.count(*reason), counters.get(*reason)), (1, 1));
        }
    }

    #[test]
    fn an_answer_that_refuses_says_why() {
        let of = |status: Status| RefusalReason::of_headers(&headers(status));
        assert_eq!(of(Status::ok("")), None);
        assert_eq!(of(Refusal::new(Code::ResourceExhausted, "FULL", "x").into()), Some(RefusalReason::Full));
        assert_eq!(of(Refusal::new(Code::NotFound, "NOT_FOUND", "x").into()), Some(RefusalReason::Other));
        assert_eq!(of(Status::out_of_range("too long")), Some(RefusalReason::MessageTooLong));
        assert_eq!(of(Status::internal("x")), Some(RefusalReason::Other));
        assert_eq!(RefusalReason::of_headers(&HeaderMap::new()), None);
    }
}
