//! The server in the hands of who hosts it: `AdminService` on a listener of its own, for those with a token.
//!
//! It has a thread of its own, so that it answers while all network threads are busy. What changes anything is written to
//! the audit log first; what cannot be written is not done.

mod actions;
mod audit;
mod auth;
mod bans;
mod files;
mod gate;
mod http;
mod info;
mod listener;
mod players;
mod serve;
mod service;
mod stats;
mod visits;

use std::{io, net::SocketAddr, path::PathBuf};

use crate::net::TlsError;

pub(crate) use bans::Bans;
pub(crate) use files::{ADDRESS_FILE, TOKEN_FILE};
pub(crate) use listener::{AdminListener, BoundAdmin, check};
pub(crate) use serve::{Site, serve as serve_http};

/// Why an admin listener does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// An address that cannot be listened on.
    #[error("cannot listen for admins on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A file of the data directory that cannot be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A list of bans that says something else.
    #[error("{}: this is no list of bans: {source}; mend the file, or move it away", .path.display())]
    Bans {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A file of tokens that says something else.
    #[error("admin_tokens: {}: {problem}", .path.display())]
    Tokens {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to write.
        problem: String,
    },
    /// A file that the admins' connections cannot be encrypted with.
    #[error("admin TLS: {0}")]
    Tls(#[from] TlsError),
    /// The machine gives no random bytes for a token.
    #[error("the machine gives no random bytes for an admin's token: {0}")]
    Randomness(getrandom::Error),
    /// A thread or runtime that cannot be created.
    #[error("cannot start the thread for admins: {0}")]
    Thread(io::Error),
}
