//! `ChatService`: talk within a session, beside the game. A session's [`Room`] lives as long as the session, and knows who may
//! talk by the seats that it is told of; what it hands out waits in a bounded queue per reader, so that nobody waits for one.
//! The session's thread has no part in it but to hand what was said to the recorder, and to say which seats are gone.

mod allowance;
mod control;
mod counters;
mod hello;
mod line;
mod moderation;
mod parse;
mod reader;
mod room;
mod said;
mod service;
mod stream;
mod talk;
mod text;

pub use control::{ChatControl, ChatError, ChatTotals};
pub(crate) use counters::{ChatCounters, Rejection};
pub(crate) use moderation::Moderation;
pub use moderation::{ModeratedChannel, ModeratedLine, Moderator, Verdict};
pub(crate) use room::Room;
pub(crate) use said::said;
pub(crate) use service::ChatService;
pub(crate) use text::check_characters;
