//! Tickwire from end to end: whole servers, clients, recordings, and the lints that hold the architecture.

mod bad_input;
mod churn;
mod golden;
mod harness;
mod lints;
mod matches;
mod stalled_reader;
mod tiny_game;
