//! What a client is told of by its core.

use std::time::Duration;

use tickwire_proto::v1 as pb;
use tickwire_shared::{Action, Tick};
use tickwire_wire::{Applied, MirrorError};

#[cfg(doc)]
use super::Core;
use super::GaveUp;

/// What happened, as [`Core::poll_event`] tells it.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A snapshot was applied to the mirror, or ignored while it waits for a reset.
    Snapshot(Applied),
    /// A snapshot did not fit the mirror; a reset is asked for.
    Desync(MirrorError),
    /// The input for this tick is about to be sent: now is the time for [`Core::set_input`].
    InputDue(Tick),
    /// The player does this at a tick to come, by the game's prediction: told as soon as that tick's input is sent.
    Predicted {
        /// The tick at which the server will do it.
        tick: Tick,
        /// What.
        action: Action,
    },
    /// The server will close its streams in this time.
    Draining(Duration),
    /// The server goes on after all: streams are not closed.
    DrainCancelled,
    /// Whoever runs the server has something to say to the player.
    Announcement(String),
    /// The session stands still.
    Paused,
    /// The session goes on.
    Resumed,
    /// The last connection is lost. The seat is kept for a while: what is held stands still, and no inputs are made, until the
    /// seat is taken back.
    ConnectionLost,
    /// The seat is taken back, by a new connection.
    Reconnected {
        /// The server has been through a crash meanwhile: its ticks may have gone back, and all that was held is discarded.
        epoch_changed: bool,
    },
    /// The seat is not asked for any longer: the client is at its end.
    GaveUp(GaveUp),
    /// The server's last message.
    Goodbye {
        /// Why.
        reason: pb::GoodbyeReason,
        /// More, for people.
        text: String,
    },
}
