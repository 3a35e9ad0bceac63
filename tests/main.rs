//! Tickwire from end to end: whole servers, clients, recordings, and the lints that hold the architecture.

mod bad_input;
mod chat;
mod churn;
mod ending;
mod game_loop;
mod golden;
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
mod raw_http2;
mod resume;
mod services;
mod sessions;
mod stalled_reader;
mod stripes;
mod tiny_game;
mod tls;
mod watch;
