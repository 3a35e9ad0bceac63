//! Tickwire's state on the wire: how a cell's change is encoded and applied, side by side, and the client's mirror.

#![forbid(unsafe_code)]

pub mod chunk;
mod mirror;
mod owner;
pub mod schema;
mod varint;

pub use chunk::{ApplyError, CellChange, ChunkEncoder, Layout, ReceivedEvent};
pub use mirror::{Applied, Mirror, MirrorError, MirrorEvent, RosterEntry, STRIPES_MAX, Shown};
pub use owner::{OwnerBase, OwnerState};
pub use varint::{unzigzag, varint_len, zigzag};
