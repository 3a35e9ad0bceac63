//! Spectators: `GameService.Watch`, and `RecordingService`. A spectator stands at a session's live edge, or in the past, where
//! a thread plays a recording for them; either is a replicator with frames, and what is composed from it is what a player gets.

mod edge;
mod join;
mod library;
mod past;
mod recordings_service;
pub(crate) mod rpc;
mod service;
mod source;
mod spectator;
mod spectators;
mod stream;
mod tape;
mod words;

pub(crate) use edge::keep as keep_edge;
pub(crate) use join::Hosted;
pub(crate) use library::Library;
pub(crate) use recordings_service::RecordingService;
pub(crate) use rpc::unimplemented;
pub(crate) use service::GameService;
pub(crate) use spectators::Spectators;
pub(crate) use tape::Tape;
