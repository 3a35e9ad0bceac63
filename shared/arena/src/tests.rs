//! Whole matches: the game's systems in a world as the engine runs it, without an engine.

mod combat;
pub(crate) mod harness;
mod replication;
mod rewind;
mod seats;
