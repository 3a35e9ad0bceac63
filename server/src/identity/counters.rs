//! Why requests are refused for who makes them, and how often.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tickwire_ticket::TicketError;
use tonic::Code;

/// When somebody may try again who was refused for want of room, or of a disk that writes.
pub(super) const RETRY: Duration = Duration::from_secs(1);
const TICKET: &str = "hello.ticket";

/// Why somebody is refused for who they are, or are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdentityReason {
    TicketMissing,
    TicketMalformed,
    TicketKey,
    TicketAlgorithm,
    TicketSignature,
    TicketClaims,
    TicketAudience,
    TicketExpired,
    TicketNotYet,
    TicketLifetime,
    TicketUsed,
    TicketSession,
    TicketRole,
    TicketsUnrecorded,
    TicketsFull,
    ApiKeyMissing,
    ApiKeyUnknown,
    ApiKeysNone,
    RecordingsPrivate,
    HostNotAllowed,
    OriginNotAllowed,
}

/// In the order of the enum.
const ALL: [IdentityReason; 21] = {
    use IdentityReason::*;
    [
        TicketMissing,
        TicketMalformed,
        TicketKey,
        TicketAlgorithm,
        TicketSignature,
        TicketClaims,
        TicketAudience,
        TicketExpired,
        TicketNotYet,
        TicketLifetime,
        TicketUsed,
        TicketSession,
        TicketRole,
        TicketsUnrecorded,
        TicketsFull,
        ApiKeyMissing,
        ApiKeyUnknown,
        ApiKeysNone,
        RecordingsPrivate,
        HostNotAllowed,
        OriginNotAllowed,
    ]
};

/// How a reason is told.
struct Told {
    reason: &'static str,
    code: Code,
    message: &'static str,
}

impl IdentityReason {
    /// All of them.
    pub(crate) const ALL: [Self; ALL.len()] = ALL;

    fn told(self) -> Told {
        let told = |reason, code, message| Told { reason, code, message };
        let unauthenticated = |reason, message| told(reason, Code::Unauthenticated, message);
        let denied = |reason, message| told(reason, Code::PermissionDenied, message);
        match self {
            Self::TicketMissing => {
                unauthenticated("TICKET_MISSING", "this server lets nobody in without a ticket: get one")
            }
            Self::TicketMalformed => unauthenticated("TICKET_MALFORMED", "this is no ticket"),
            Self::TicketKey => unauthenticated("TICKET_KEY", "no such key"),
            Self::TicketAlgorithm => unauthenticated("TICKET_ALGORITHM", "not the key's algorithm"),
            Self::TicketSignature => unauthenticated("TICKET_SIGNATURE", "not the key's signature"),
            Self::TicketClaims => unauthenticated("TICKET_CLAIMS", "it does not say what it must"),
            Self::TicketAudience => unauthenticated("TICKET_AUDIENCE", "it is for another server"),
            Self::TicketExpired => unauthenticated("TICKET_EXPIRED", "it has expired"),
            Self::TicketNotYet => unauthenticated("TICKET_NOT_YET", "it is not good yet"),
            Self::TicketLifetime => unauthenticated("TICKET_LIFETIME", "it is good for too long"),
            Self::TicketUsed => unauthenticated(
                "TICKET_USED",
                "this ticket has let somebody in already, and is good for once: get a new one",
            ),
            Self::TicketSession => denied(
                "TICKET_SESSION",
                "the ticket is for another session or game: ask for that, or for none, or get another ticket",
            ),
            Self::TicketRole => denied("TICKET_ROLE", "the ticket is not for this"),
            Self::TicketsUnrecorded => told(
                "TICKETS_UNRECORDED",
                Code::Unavailable,
                "that the ticket is used cannot be written down, so that it is not taken; it stays good",
            ),
            Self::TicketsFull => told(
                "TICKETS_FULL",
                Code::ResourceExhausted,
                "as many tickets as can be kept in mind have been used lately: try again",
            ),
            Self::ApiKeyMissing => unauthenticated(
                "API_KEY_MISSING",
                "this takes an API key: send it as the metadata authorization: Bearer KEY",
            ),
            Self::ApiKeyUnknown => unauthenticated(
                "API_KEY_UNKNOWN",
                "this is none of the server's API keys: send one as the metadata authorization: Bearer KEY",
            ),
            Self::ApiKeysNone => {
                denied("API_KEYS_NONE", "this takes an API key, and the server was started without --api-keys")
            }
            Self::RecordingsPrivate => denied(
                "RECORDINGS_PRIVATE",
                "the recordings of this server are not public: send an API key or an operator's ticket, or start the server with \
                 --recordings-public",
            ),
            Self::HostNotAllowed => denied(
                "HOST_NOT_ALLOWED",
                "this server takes no requests for that host (:authority, Host): start it with --allowed-hosts",
            ),
            Self::OriginNotAllowed => denied(
                "ORIGIN_NOT_ALLOWED",
                "this server takes no requests from pages of that Origin: start it with --allowed-origins",
            ),
        }
    }

    /// In `ErrorInfo`, and in metrics.
    pub(crate) fn reason(self) -> &'static str {
        self.told().reason
    }

    pub(super) fn code(self) -> Code {
        self.told().code
    }

    pub(super) fn message(self) -> &'static str {
        self.told().message
    }

    /// The field that is to blame, where it is one.
    pub(super) fn field(self) -> Option<&'static str> {
        self.reason().get(..7).is_some_and(|head| head.eq_ignore_ascii_case("ticket_")).then_some(TICKET)
    }
}

impl From<TicketError> for IdentityReason {
    fn from(error: TicketError) -> Self {
        match error {
            TicketError::UnknownKey => Self::TicketKey,
            TicketError::Algorithm => Self::TicketAlgorithm,
            TicketError::Signature => Self::TicketSignature,
            TicketError::Claim { .. } => Self::TicketClaims,
            TicketError::Audience => Self::TicketAudience,
            TicketError::Expired => Self::TicketExpired,
            TicketError::NotYet => Self::TicketNotYet,
            TicketError::Lifetime => Self::TicketLifetime,
            // Whatever else there may come to be.
            _ => Self::TicketMalformed,
        }
    }
}

/// What became of those who had to say who they are.
#[derive(Debug, Default)]
pub(crate) struct IdentityCounters {
    /// Tickets that have let somebody in.
    pub(crate) tickets_admitted: AtomicU64,
    /// Tickets that stayed good, since what they were for did not come about.
    pub(crate) tickets_given_back: AtomicU64,
    /// Calls that an API key has been good for.
    pub(crate) api_key_calls: AtomicU64,
    refused: [AtomicU64; ALL.len()],
}

impl IdentityCounters {
    /// How often somebody was refused for this.
    pub(crate) fn refusals(&self, reason: IdentityReason) -> u64 {
        self.refused[reason as usize].load(Ordering::Relaxed)
    }

    pub(super) fn refused(&self, reason: IdentityReason) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_in_their_order_and_are_told_apart() {
        let reasons: std::collections::BTreeSet<&str> = IdentityReason::ALL.iter().map(|one| one.reason()).collect();
        assert_eq!(reasons.len(), IdentityReason::ALL.len());
        for (place, reason) in IdentityReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
    }

    #[test]
    fn refusals_are_counted_by_reason() {
        let counters = IdentityCounters::default();
        counters.refused(IdentityReason::TicketUsed);
        counters.refused(IdentityReason::TicketUsed);
        assert_eq!(counters.refusals(IdentityReason::TicketUsed), 2);
        assert_eq!(counters.refusals(IdentityReason::OriginNotAllowed), 0);
    }
}
