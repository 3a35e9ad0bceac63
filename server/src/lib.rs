//! Tickwire's server: hosts sessions over gRPC. A game team's own server is three lines:
//!
//! ```no_run
//! use std::{process::ExitCode, sync::Arc};
//!
//! fn main() -> ExitCode {
//!     tickwire_server::cli_main(vec![Arc::new(tickwire_arena::Arena)])
//! }
//! ```
//!
//! Inside a program or a test, [`run`] serves on a listener until it is told to stop.
//!
//! # How it is built
//! - `session`: a few simulation threads step all sessions, whichever is due, and never wait for the network or the disk.
//!   What the network has for a session waits in a bounded mailbox; what it has for the network is a frame, and one wake-up
//!   per network thread.
//! - `net`: accepted sockets are handed over to network threads, each with a current-thread runtime; one task per connection
//!   does all that its `Play` streams need, and a relay per session and network thread wakes that thread's streams.
//! - `play`: a player's stream. `parse` turns messages into what they mean; the uplink takes in what comes, whatever the
//!   downlink does; that composes a snapshot only when HTTP/2 has room for one.
//! - `limits`: who may connect and join, and how often which limit has told somebody no.
//! - `watch`: spectators of sessions and of recordings, and what is told of recordings.
//! - `chat`: what players say to each other, beside the game.
//! - `identity`: tickets and API keys: who is let in, and who may ask for what.
//! - `housekeeping`: recordings that are too many, too large or too old, and whether the disk takes the new ones.
//! - `notices` and `drain`: what streams are told beside their match, and how a server comes to its end.
//! - `reload`: limits, log level and whatever else can be read anew while the server runs.
//! - `recovery`: sessions that a killed server has left go on, before the first stream comes.
//! - `replay_command`: what the log says to type, so that a crash is seen again.
//! - `metrics`: what all of these count, for Prometheus.
//! - `admin`: the server in the hands of who hosts it, on a listener and a thread of its own.
//! - `cli`: options and commands.

#![forbid(unsafe_code)]

mod admin;
mod chat;
mod cli;
mod config;
mod drain;
mod durations;
mod ending;
mod housekeeping;
mod identity;
mod limits;
mod log_control;
mod log_fields;
mod metrics;
mod net;
mod notices;
mod play;
mod recovery;
mod reload;
mod replay_command;
mod server;
mod session;
mod sessions;
mod status;
mod watch;
mod well_formed;

pub use admin::AdminError;
pub use chat::{ChatControl, ChatError, ChatTotals, ModeratedChannel, ModeratedLine, Moderator, Verdict};
pub use cli::cli_main;
pub use config::{AdminConfig, ChatLimits, ConfigError, Limits, RecordingConfig, ServerConfig, Timeouts, TlsFiles};
pub use identity::{Auth, IdentityConfig, IdentityError};
pub use log_control::{LogControl, LogFilterError};
pub use metrics::MetricsError;
pub use net::TlsError;
pub use reload::{Control, ReloadError, ReloadReport};
pub use server::{Probe, RunError, Server, SessionProgress, run};
