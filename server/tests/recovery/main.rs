//! Servers that are killed, and others that go on with their sessions.

#![cfg(unix)]

mod kill;
mod press;
mod server;
#[cfg(target_os = "linux")]
mod stall;
mod starts;
mod swarm;
