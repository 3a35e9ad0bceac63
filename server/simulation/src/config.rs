//! What a session is created with, and why it may not be.

use tickwire_shared::{REWIND_MS_DEFAULT, SchemaError, SettingsError, TickRate};

/// What a session is created with, beside its game.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionConfig {
    /// In the schema's order, in quanta; missing ones at the end take their defaults.
    pub settings: Vec<i32>,
    /// Settings by name, in their units, over those above.
    pub named_settings: Vec<(String, f64)>,
    /// What all random numbers derive from.
    pub seed: u64,
    /// Ticks per second.
    pub tick_rate: TickRate,
    /// How often the session has been recovered.
    pub epoch: u32,
    /// Bounds.
    pub limits: SessionLimits,
}

/// A session's bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// The most seats.
    pub max_players: u32,
    /// For how many ticks the seat of a lost connection is kept.
    pub grace_ticks: u64,
    /// How far the session rewinds at most for what players saw, in milliseconds: 0 for not at all, and no more than
    /// [`REWIND_MS_MAX`](tickwire_shared::REWIND_MS_MAX). It decides matches, so recordings hold it.
    pub rewind_ms: u32,
}

impl SessionLimits {
    /// 256 seats; 30 s of grace; 250 ms of rewinding.
    #[must_use]
    pub const fn at(rate: TickRate) -> Self {
        Self { max_players: 256, grace_ticks: rate.ticks_in_ms(30_000), rewind_ms: REWIND_MS_DEFAULT }
    }
}

impl Default for SessionLimits {
    /// [`SessionLimits::at`] the default rate.
    fn default() -> Self {
        Self::at(TickRate::DEFAULT)
    }
}

/// Why a session cannot be created.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SessionError {
    /// The game's definition breaks a rule of schemas.
    #[error("game {game:?}: {source}")]
    Schema {
        /// The game's name.
        game: String,
        /// The rule.
        source: SchemaError,
    },
    /// A setting that the game does not take.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The order of the game's systems is not determined.
    #[error("game {game:?}: its systems cannot be scheduled; give those that conflict an order: {report}")]
    Systems {
        /// The game's name.
        game: String,
        /// What the scheduler found, over several lines.
        report: String,
    },
    /// The game panicked while the session was being created.
    #[error("game {game:?} panicked in {step}: {message}")]
    Panicked {
        /// The game's name.
        game: String,
        /// The method of `Game` that was called.
        step: &'static str,
        /// The panic's message.
        message: String,
    },
}
