//! Whole matches: the game's systems in a world as the engine runs it, without an engine.

mod combat;
mod harness;
mod replication;
mod rewind;
mod seats;
