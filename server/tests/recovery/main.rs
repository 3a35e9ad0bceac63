//! Servers that are killed, and others that go on with their sessions.

#![cfg(unix)]

mod kill;
mod server;
mod starts;
mod talk;
