//! Frames in, snapshots out: the history of frames, chunks that streams share, and for each stream its view, credit and
//! budget. No sockets, no clock, no threads; it never sees the simulation, only its frames.

#![forbid(unsafe_code)]

mod budget;
mod cells;
mod config;
mod credit;
mod history;
mod interest;
mod memo;
mod replicator;
mod roster;
mod snapshot;
mod turns;
mod view;

pub use config::ReplicationConfig;
pub use credit::Credit;
pub use replicator::{Replicator, ReplicatorCounters};
pub use snapshot::Snapshot;
pub use turns::{COPIES_MAX, STRIPES_MAX, Turns, TurnsConfig};
pub use view::{AckError, Follow, InputFeedback, View, ViewConfig, ViewCounts};
