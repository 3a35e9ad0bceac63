//! Tickwire from end to end: whole servers, clients, recordings, and the lints that hold the architecture.

mod bad_input;
mod churn;
mod ending;
mod golden;
mod harness;
mod hosting;
mod http2;
mod leaving;
mod lints;
mod matches;
mod services;
mod stalled_reader;
mod tiny_game;
