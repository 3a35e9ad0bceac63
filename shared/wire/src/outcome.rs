//! What applying a snapshot comes to.

use tickwire_proto::v1 as pb;
use tickwire_shared::{CellId, NetId, Tick};

use crate::chunk::{ApplyError, ReceivedEvent};

/// What a snapshot brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The snapshot's tick.
    pub tick: Tick,
    /// Whether it was ignored, since the stream waits for a reset. All else is then empty.
    pub ignored: bool,
    /// Whether the stream started anew.
    pub reset: bool,
    /// Whether the session was recovered since the last snapshot: ghosts, events and the clock are void.
    pub new_epoch: bool,
    /// The newest input sequence that a tick has consumed.
    pub consumed_input: u64,
    /// The newest input sequence that arrived.
    pub received_input: u64,
    /// By how much it was early, in µs; negative: late.
    pub received_margin_us: i32,
    /// How far the tick loop has slipped, in µs.
    pub slip_us: i64,
    /// Events that were not seen before, in order of tick and ordinal; a player's own ones with `own`.
    pub events: Vec<MirrorEvent>,
    /// Events that no snapshot will bring.
    pub events_lost: u64,
    /// Cell hashes that were checked and found right.
    pub hash_checks: u32,
    /// Entities in the stream's cells after it.
    pub entities: usize,
    /// Cells that came whole.
    pub cells_full: u32,
}

/// An event, seen for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorEvent {
    /// What happened, and when.
    pub received: ReceivedEvent,
    /// Whether it was for this player alone.
    pub own: bool,
}

/// A snapshot that cannot be applied: the client asks for a reset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MirrorError {
    /// An update that cannot be applied, or whose hash differs.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// An entity in two cells at one tick.
    #[error("entity {net_id} stands in cells {cells:?} at one tick, {tick}")]
    Doubled {
        /// Which.
        net_id: NetId,
        /// Where.
        cells: [CellId; 2],
        /// When.
        tick: Tick,
    },
    /// Something else that does not fit.
    #[error("snapshot of tick {tick}: {field}: {reason}")]
    Bad {
        /// The snapshot's tick.
        tick: Tick,
        /// Which part.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl MirrorError {
    /// What to tell the server.
    #[must_use]
    pub const fn resync_reason(&self) -> pb::ResyncReason {
        match self {
            Self::Apply(ApplyError::Hash { .. }) => pb::ResyncReason::HashMismatch,
            Self::Doubled { .. } => pb::ResyncReason::DoubledEntity,
            Self::Apply(ApplyError::Bad { .. }) | Self::Bad { .. } => pb::ResyncReason::BadUpdate,
        }
    }
}
