//! Tickwire's state on the wire: how a cell's change is encoded and applied, side by side, and the client's mirror.

#![forbid(unsafe_code)]

pub mod schema;
