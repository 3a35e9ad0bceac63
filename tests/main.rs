//! Tickwire from end to end: whole servers, clients, recordings, and the lints that hold the architecture.

mod admin;
mod bad_input;
mod churn;
mod ending;
mod game_loop;
mod golden;
mod harness;
mod hosting;
mod http2;
mod lag_compensation;
mod leaving;
mod lints;
mod matches;
mod metrics;
mod resume;
mod services;
mod stalled_reader;
mod stripes;
mod tiny_game;
mod watch;
