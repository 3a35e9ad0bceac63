//! Servers that are killed, and others that go on with their sessions.

#![cfg(unix)]

mod kill;
#[path = "../program/mod.rs"]
#[allow(dead_code, reason = "each binary needs its part of it")]
mod program;
mod server;
mod starts;
