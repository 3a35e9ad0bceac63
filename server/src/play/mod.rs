//! `GameService.Play`: one player's stream. The uplink is read in a task of its own; the downlink composes a message only
//! when HTTP/2 asks for one.

mod attach;
mod body;
mod codec;
mod downlink;
mod hello;
mod inputs;
mod parse;
mod peer;
mod rate;
mod service;
mod uplink;

pub(crate) use service::GameService;
