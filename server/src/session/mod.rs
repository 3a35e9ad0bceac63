//! Sessions as the server runs them: a few threads step them all, and each has a handle, which all others share.

mod clock;
mod closers;
mod handle;
mod host;
mod live;
mod mailbox;
mod oust;
mod pause;
mod recording;
mod registry;
mod runner;
mod schedule;
mod seats;
mod stripes;
mod threads;
mod tokens;

pub(crate) use clock::TickClock;
pub(crate) use handle::{SessionHandle, SessionState};
pub(crate) use host::{Origin, RecoveredSession, SessionHost, SessionOrder};
pub(crate) use live::DELAY_IN_MEMORY_MAX;
pub(crate) use mailbox::{Command, Inputs, Join, NotTaken, Resume};
pub(crate) use oust::{Ousted, OustedKind};
pub(crate) use pause::{NotStepped, STEPS_MAX};
pub(crate) use recording::recorder_options;
pub(crate) use registry::{Registry, SessionName, SessionNameError};
pub(crate) use runner::{StartError, create, grace_ticks};
pub(crate) use seats::{Admitted, HeldSeat, NotResumed, SeatGuard};
pub(crate) use stripes::{AttachError, Closed, Going, Granted, Stripe, Stripes};
pub(crate) use tokens::{AttachTokens, Ending, Found, ResumeTokens, SeatToken, TOKEN_BYTES, Token};
