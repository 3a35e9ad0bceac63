//! Sessions as the server runs them: a few threads step them all, and each has a handle, which all others share.

mod chat_seat;
mod clock;
mod counters;
mod handle;
mod host;
mod join_code;
mod live;
mod mailbox;
mod oust;
mod pause;
mod recording;
mod registry;
mod reservations;
mod runner;
mod schedule;
mod seats;
mod stripes;
mod terms;
mod threads;
mod tokens;
mod workers;

pub(crate) use chat_seat::{ChatSeat, ChatTokens};
pub(crate) use clock::TickClock;
pub(crate) use counters::{SessionCounters, StreamCounters, TICK_BOUNDS_US};
pub(crate) use handle::{SessionEnding, SessionHandle, SessionState};
pub(crate) use host::{Host, Origin, Place, RecoveredSession, SessionHost, SessionOrder, SessionShape};
pub(crate) use join_code::JoinCode;
pub(crate) use live::DELAY_IN_MEMORY_MAX;
pub(crate) use mailbox::{Command, Inputs, Join, NotTaken, Resume};
pub(crate) use oust::{Ousted, OustedKind};
pub(crate) use pause::{NotStepped, STEPS_MAX};
pub(crate) use recording::{RecordingWatch, recorder_options};
pub(crate) use registry::{GAME_NAME_BYTES_MAX, Listing, Registry, SessionName, SessionNameError, is_game_name};
pub(crate) use reservations::{
    NotSeated, Reservation, ReservationState, Reservations, SeatLedger, TICKET_BYTES_MAX, full, gone_for,
};
pub(crate) use runner::{StartError, create, grace_ticks};
pub(crate) use seats::{Admitted, HeldSeat, NotResumed, SeatGuard};
pub(crate) use stripes::{AttachError, Closed, Going, Granted, Stripe, Stripes};
pub(crate) use terms::{Creation, Creator, RequestKey, SessionTerms, Visibility};
pub(crate) use tokens::{AttachTokens, Ending, Found, ResumeTokens, SeatToken, TOKEN_BYTES, Token, TokenId};

#[cfg(test)]
pub(crate) mod testing {
    pub(crate) use super::seats::tests::{handle, seat, session, vacate};
}
