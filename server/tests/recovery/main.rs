//! Servers that are killed, and others that go on with their sessions.

#![cfg(unix)]

mod server;
mod starts;
