//! Sockets and threads: accepting, HTTP/2, one current-thread runtime per network thread, and the relay that wakes streams.

mod accept;
mod connection;
mod relay;
mod runtime;
mod socket;

pub(crate) use accept::accept;
pub(crate) use connection::Connection;
pub(crate) use relay::{Relay, Wake};
pub(crate) use runtime::{NetworkThread, NetworkThreads};
