//! Sessions as the server runs them: a thread each, which owns the world, and a handle, which all others share.

mod clock;
mod handle;
mod mailbox;
mod recording;
mod registry;
mod thread;

pub(crate) use clock::TickClock;
pub(crate) use handle::{SeatGuard, SessionHandle, SessionState};
pub(crate) use mailbox::{Command, Join, NotTaken};
pub(crate) use registry::{Registry, SessionName, SessionNameError};
pub(crate) use thread::{SessionThread, StartError, start};
