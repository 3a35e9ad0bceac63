//! Tickwire from end to end: whole servers, clients, recordings, and the lints that hold the architecture.

mod admin;
mod bad_input;
mod chat;
mod churn;
mod ending;
mod game_loop;
mod golden;
mod harness;
mod hosting;
mod http2;
mod identity;
mod lag_compensation;
mod leaving;
mod lints;
mod matches;
mod metrics;
mod resume;
mod services;
mod sessions;
mod stalled_reader;
mod stripes;
mod tiny_game;
mod tls;
mod watch;
