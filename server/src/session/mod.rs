//! Sessions as the server runs them: a few threads step them all, and each has a handle, which all others share.

mod clock;
mod closers;
mod handle;
mod host;
mod mailbox;
mod recording;
mod registry;
mod runner;
mod schedule;
mod stripes;
mod threads;
mod tokens;

pub(crate) use clock::TickClock;
pub(crate) use handle::{SeatGuard, SessionHandle, SessionState};
pub(crate) use host::{SessionHost, SessionOrder};
pub(crate) use mailbox::{Command, Inputs, Join, NotTaken};
pub(crate) use registry::{Registry, SessionName, SessionNameError};
pub(crate) use runner::{StartError, create};
pub(crate) use stripes::{AttachError, Closed, Granted, Stripe, Stripes};
pub(crate) use tokens::{AttachToken, AttachTokens, Found};
