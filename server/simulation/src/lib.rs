//! One running match: commands in, ticks, frames and log records out.
//!
//! A [`Session`] reads no clock, owns no socket and no thread. Between ticks it takes commands: joins, leaves, inputs. A
//! tick has two steps: [`Session::begin_tick`] decides what the tick consumes, as a [`TickInput`] to be recorded; then
//! [`Session::finish_tick`] runs the game's systems on exactly that, and yields the tick's [`Frame`](tickwire_shared::Frame)
//! and [`TickResult`]. The second step depends on nothing but the game, the settings, the seed and the `TickInput`s so far,
//! so feeding recorded ones to it replays a match.

#![forbid(unsafe_code)]

mod config;
mod input;
mod intake;
mod keyframe;
mod name;
mod record;
mod roster;
mod session;
mod sight;
mod simulation;
mod watch;

pub use config::{SessionConfig, SessionError, SessionLimits};
pub use input::{Input, InputError, InputValues};
pub use intake::{InputCounters, InputVerdict, JoinError};
pub use keyframe::{Keyframe, KeyframeError, RestoreError};
pub use name::NameError;
pub use record::{SeatChange, SeatInput, TickInput, TickInputError, TickOutput, TickPanic, TickResult};
pub use roster::{LEFT_ROWS_MAX, LEFT_ROWS_MS};
pub use session::Session;
pub use simulation::EVENTS_PER_TICK_MAX;
pub use watch::{SystemWatch, WatchedTick, WorldState};
