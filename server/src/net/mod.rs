//! Sockets and threads: accepting, HTTP/2, one current-thread runtime per network thread, and the relay that wakes streams.

mod accept;
mod arrival;
mod budget;
mod connection;
mod connection_end;
mod counters;
mod customer;
mod frames;
mod lanes;
mod outbox;
mod relay;
mod requests;
mod runtime;
mod socket;
mod tls;
mod tls_client;
mod transport;
mod wake;
mod wire;

pub(crate) use accept::accept;
pub(crate) use connection::{Connection, PeerAddress};
pub(crate) use connection_end::CONNECTION_ENDS;
pub(crate) use counters::{CONNECTION_REFUSALS, ConnectionCounters, RequestCounters};
pub(crate) use customer::{customer_of, is_loopback};
pub(crate) use lanes::Incoming;
pub(crate) use outbox::{Message, Outbox, Outgoing};
pub(crate) use relay::Relay;
pub(crate) use requests::date;
pub(crate) use runtime::{NetworkThread, NetworkThreads, yield_to_others};
pub(crate) use tls::Tls;
pub use tls::TlsError;
pub(crate) use tls_client::client_config;
pub(crate) use wake::Bell;
pub(crate) use wire::{Framed, Lane};
