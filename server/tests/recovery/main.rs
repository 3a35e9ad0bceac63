//! Servers that are killed, and others that go on with their sessions.

#![cfg(unix)]

mod kill;
mod long;
mod press;
#[path = "../program/mod.rs"]
#[allow(dead_code, reason = "each binary needs its part of it")]
mod program;
mod server;
#[cfg(target_os = "linux")]
mod stall;
mod starts;
mod swarm;
mod talk;
