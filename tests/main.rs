//! Tickwire from end to end: whole servers, clients, recordings, and the lints that hold the architecture.

mod admin;
mod bad_input;
mod chat;
mod churn;
mod disk;
mod ending;
mod game_loop;
mod harness;
mod hostile;
mod hosting;
mod http2;
mod identity;
mod lag_compensation;
mod leaving;
mod limits;
mod lints;
mod matches;
mod metrics;
mod raw_http2;
mod readme;
mod reserving;
mod resume;
mod services;
mod sessions;
mod stalled_reader;
mod stripes;
#[path = "../server/examples/beads/game.rs"]
mod tiny_game;
mod tls;
mod watch;
