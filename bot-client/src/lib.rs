//! Tickwire's client library.

#![forbid(unsafe_code)]

pub mod bots;
pub mod connection;
pub mod core;
