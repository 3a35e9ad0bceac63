//! What was said in a room, counted; and why some of it was not.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tickwire_proto::v1 as pb;

/// What happened in a room, as totals since the session's start.
#[derive(Debug, Default)]
pub(crate) struct ChatCounters {
    /// Lines that were said and not rejected, the server's among them.
    pub(crate) sent: AtomicU64,
    /// Copies of them that readers' streams have taken, those of history left out.
    pub(crate) delivered: AtomicU64,
    /// Copies that were dropped, since their readers were too slow.
    pub(crate) dropped: AtomicU64,
    /// Lines that were not to be recorded any more: too many waited for the next tick.
    pub(crate) unrecorded: AtomicU64,
    /// What nobody got, by its reason: see [`Rejection::ALL`].
    pub(crate) rejected: [AtomicU64; Rejection::ALL.len()],
}

impl ChatCounters {
    pub(super) fn note_rejected(&self, reason: Rejection) {
        self.rejected[reason as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Why something that was said goes to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Rejection {
    Flooding,
    TooLong,
    Empty,
    ControlCharacter,
    Silenced,
    Moderated,
    Unmoderated,
    NoTeam,
    NoSuchPlayer,
    ReadOnly,
    MutesFull,
}

impl Rejection {
    /// All, in the order of the counters.
    pub(crate) const ALL: [Self; 11] = [
        Self::Flooding,
        Self::TooLong,
        Self::Empty,
        Self::ControlCharacter,
        Self::Silenced,
        Self::Moderated,
        Self::Unmoderated,
        Self::NoTeam,
        Self::NoSuchPlayer,
        Self::ReadOnly,
        Self::MutesFull,
    ];

    /// The reason's name, as counters are labelled.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Flooding => "flooding",
            Self::TooLong => "too_long",
            Self::Empty => "empty",
            Self::ControlCharacter => "control_character",
            Self::Silenced => "silenced",
            Self::Moderated => "moderated",
            Self::Unmoderated => "unmoderated",
            Self::NoTeam => "no_team",
            Self::NoSuchPlayer => "no_such_player",
            Self::ReadOnly => "read_only",
            Self::MutesFull => "mutes_full",
        }
    }

    const fn to_wire(self) -> pb::ChatRejection {
        match self {
            Self::Flooding => pb::ChatRejection::Flooding,
            Self::TooLong => pb::ChatRejection::TooLong,
            Self::Empty => pb::ChatRejection::Empty,
            Self::ControlCharacter => pb::ChatRejection::ControlCharacter,
            Self::Silenced => pb::ChatRejection::Silenced,
            Self::Moderated => pb::ChatRejection::Moderated,
            Self::Unmoderated => pb::ChatRejection::Unmoderated,
            Self::NoTeam => pb::ChatRejection::NoTeam,
            Self::NoSuchPlayer => pb::ChatRejection::NoSuchPlayer,
            Self::ReadOnly => pb::ChatRejection::ReadOnly,
            Self::MutesFull => pb::ChatRejection::MutesFull,
        }
    }
}

/// A rejection, before its sender is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejected {
    pub(super) reason: Rejection,
    /// For people: what is wrong, and what to do.
    pub(super) message: String,
    pub(super) retry_after: Option<Duration>,
}

impl Rejected {
    pub(super) fn new(reason: Rejection, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), retry_after: None }
    }

    pub(super) fn retry_after(self, delay: Duration) -> Self {
        Self { retry_after: Some(delay), ..self }
    }

    pub(super) fn to_proto(&self, client_ref: u64) -> pb::ChatRejected {
        // Rounded up: who waits as long as that is let through.
        let millis = |delay: Duration| u64::try_from(delay.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
        pb::ChatRejected {
            client_ref,
            reason: self.reason.to_wire().into(),
            text: self.message.clone(),
            retry_after_ms: self.retry_after.map_or(0, millis),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_counter_a_label_and_a_name_on_the_wire_of_its_own() {
        let counters = ChatCounters::default();
        for (i, reason) in Rejection::ALL.into_iter().enumerate() {
            counters.note_rejected(reason);
            assert_eq!(counters.rejected[i].load(Ordering::Relaxed), 1);
            let on_wire = reason.to_wire().as_str_name().to_lowercase();
            assert_eq!(on_wire, format!("chat_rejection_{}", reason.label()));
        }
    }

    #[test]
    fn the_time_to_wait_is_rounded_up() {
        let rejected = Rejected::new(Rejection::Flooding, "slower").retry_after(Duration::from_micros(1001));
        assert_eq!(rejected.to_proto(7).retry_after_ms, 2);
    }
}
