//! Tickwire's client library.

#![forbid(unsafe_code)]

pub mod core;
