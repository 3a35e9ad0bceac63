//! What goes into a tick, and what comes out of it: the session's log.

use std::sync::Arc;

use tickwire_shared::{Audience, Event, Frame, PlayerId, Provenance, Seen, Tick, TruthDelta};

use crate::{InputError, NameError};

/// Everything nondeterministic that one tick consumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TickInput {
    /// The tick.
    pub tick: Tick,
    /// In order of player; of one player at most one, except that who joins may be without a connection at once.
    pub seat_changes: Vec<SeatChange>,
    /// One per seat, in order of player.
    pub inputs: Vec<SeatInput>,
}

/// Who sat down, left, or lost their connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeatChange {
    /// A new player.
    Joined {
        /// A number never used before.
        player: PlayerId,
        /// The name that others see.
        name: Arc<str>,
    },
    /// The connection was lost; the seat is kept.
    Disconnected {
        /// Who.
        player: PlayerId,
    },
    /// The player is back.
    Reconnected {
        /// Who.
        player: PlayerId,
    },
    /// The seat is gone.
    Left {
        /// Who.
        player: PlayerId,
    },
}

/// One seated player's input at one tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeatInput {
    /// Who.
    pub player: PlayerId,
    /// Where it came from.
    pub provenance: Provenance,
    /// Fresh: the input's sequence; else 0.
    pub sequence: u64,
    /// Fresh: one value per input field, in quanta; else empty.
    pub values: Vec<i32>,
    /// Fresh: what the player was shown, as their client says; else nothing. It is recorded as it came; what the game is
    /// given of it follows from all inputs so far.
    pub seen: Option<Seen>,
}

/// What comes out of a tick.
#[derive(Clone, Debug)]
pub struct TickOutput {
    /// The replicated state.
    pub frame: Arc<Frame>,
    /// What is recorded.
    pub result: TickResult,
}

/// What is recorded of a tick's outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TickResult {
    /// The tick.
    pub tick: Tick,
    /// The truth at field quanta, and all hidden state, in one number.
    pub state_hash: u64,
    /// How the truth changed since the tick before; tick 1 starts from nothing.
    pub truth: TruthDelta,
    /// In order of ordinal.
    pub events: Vec<(Audience, Event)>,
}

/// A tick in which the game, or the engine's capture of it, panicked. It ends the session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tick {tick} panicked: {message}")]
pub struct TickPanic {
    /// The tick.
    pub tick: Tick,
    /// The panic's message, at most 1,000 characters of it.
    pub message: String,
}

/// A [`TickInput`] that cannot be the session's next one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TickInputError {
    /// Not the next tick.
    #[error("tick {given} instead of {expected}")]
    Tick {
        /// The session's next tick.
        expected: Tick,
        /// The record's tick.
        given: Tick,
    },
    /// A seat change that does not fit the seats as they are.
    #[error("tick {tick}: seat change of player {player}: {reason}")]
    SeatChange {
        /// The tick.
        tick: Tick,
        /// Whose.
        player: PlayerId,
        /// What does not fit.
        reason: &'static str,
    },
    /// A name that nobody may bear.
    #[error("tick {tick}: name of player {player}: {source}")]
    Name {
        /// The tick.
        tick: Tick,
        /// Whose.
        player: PlayerId,
        /// What is wrong with it.
        source: NameError,
    },
    /// The inputs are not one for each seated player.
    #[error("tick {tick}: the inputs are not one for each seated player, in order")]
    Seats {
        /// The tick.
        tick: Tick,
    },
    /// An input that does not fit its seat.
    #[error("tick {tick}: input of player {player}: {reason}")]
    Input {
        /// The tick.
        tick: Tick,
        /// Whose.
        player: PlayerId,
        /// What does not fit.
        reason: &'static str,
    },
    /// An input that does not fit the schema.
    #[error("tick {tick}: input of player {player}: {source}")]
    Values {
        /// The tick.
        tick: Tick,
        /// Whose.
        player: PlayerId,
        /// What does not fit.
        source: InputError,
    },
}

impl SeatChange {
    /// Whose seat.
    #[must_use]
    pub const fn player(&self) -> PlayerId {
        match self {
            Self::Joined { player, .. }
            | Self::Disconnected { player }
            | Self::Reconnected { player }
            | Self::Left { player } => *player,
        }
    }
}

impl SeatInput {
    /// A seat without an input for the tick.
    #[must_use]
    pub const fn without(player: PlayerId, provenance: Provenance) -> Self {
        Self { player, provenance, sequence: 0, values: Vec::new(), seen: None }
    }
}
