//! How one cell changed from a base tick to a tick: encoding and applying, side by side, and adding up.
//!
//! All walk the same streams of numbers (`KindUpdate` in `game.proto`). Encoding merges two columns in order of NetId;
//! applying names rows of the base by position, so that no id is sent twice.

pub(crate) mod account;
mod apply;
mod encode;
mod events;

use tickwire_shared::{CellId, CellState, Event, Kind, Places, Reading, Schema, Tick};

pub use self::{
    account::{ChunkAccount, EventAccount, KindAccount, Spent},
    apply::ApplyError,
    encode::{ChunkBuffer, ChunkEncoder},
    events::{ReceivedEvent, write_event},
};
pub(crate) use self::{
    apply::{Gone, Moves, Step, check_hash, finish, read_slice},
    events::{read_events, write_newest},
};

/// What an update is made of.
#[derive(Clone, Debug)]
pub struct CellChange<'a> {
    /// Which cell.
    pub cell: CellId,
    /// What the receiver holds, and its tick; `None`: nothing.
    pub base: Option<(Tick, &'a CellState)>,
    /// The tick that the update leads to.
    pub tick: Tick,
    /// The cell at `tick`.
    pub state: &'a CellState,
    /// Where entities are at `tick`.
    pub places: &'a Places,
    /// The cell's events of (base, tick], or of `tick` alone without a base; in order of tick and ordinal.
    pub events: &'a [(Tick, &'a Event)],
    /// Events of the same ticks that are not among them.
    pub events_lost: u32,
    /// N: the hash is due when ⌊tick / N⌋ > ⌊base / N⌋.
    pub hash_interval: u32,
}

impl CellChange<'_> {
    fn base_age(&self) -> u32 {
        // An age that does not fit 32 bits is no base: history is much shorter.
        self.base.map_or(0, |(tick, _)| self.tick.since(tick) as u32)
    }

    fn hash_due(&self) -> bool {
        let interval = u64::from(self.hash_interval.max(1));
        self.base.is_none_or(|(base, _)| self.tick.0 / interval > base.0 / interval)
    }
}

/// What of a schema the streams of numbers depend on.
#[derive(Clone, Debug)]
pub struct Layout {
    kinds: Vec<KindLayout>,
}

#[derive(Clone, Debug)]
struct KindLayout {
    /// Of the public fields, in their order.
    readings: Vec<Reading>,
    /// Whether the first bit of a mask is the motion's.
    has_motion: bool,
}

impl Layout {
    /// The layout of a game's cells.
    #[must_use]
    pub fn of(schema: &Schema) -> Self {
        let kind = |kind: &Kind| KindLayout {
            readings: kind.public_fields().map(|(_, field)| Reading::of(field)).collect(),
            has_motion: kind.has_motion(),
        };
        Self { kinds: schema.kinds.iter().map(kind).collect() }
    }
}
