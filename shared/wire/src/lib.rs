//! Tickwire's state on the wire: how a cell's change is encoded and applied, side by side, and the client's mirror.

#![forbid(unsafe_code)]

pub mod chunk;
mod mirror;
mod outcome;
mod owner;
mod read;
mod rows;
pub mod schema;
mod shown;
mod varint;

pub use chunk::{
    ApplyError, CellChange, ChunkAccount, ChunkBuffer, ChunkEncoder, EventAccount, KindAccount, Layout, ReceivedEvent,
    Spent,
};
pub use mirror::{Mirror, RosterEntry, SLICES_MAX, STRIPES_MAX};
pub use outcome::{Applied, MirrorError, MirrorEvent};
pub use owner::{OwnerAccount, OwnerBase, OwnerState};
pub use read::{Malformed, SnapshotMessage};
pub use shown::Shown;
pub use varint::{unzigzag, varint_len, zigzag};
