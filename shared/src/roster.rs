//! The players as all players see them: a table whose rows carry the tick of their last change.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{PlayerId, Tick};

/// The longest name of a player, in characters.
pub const NAME_CHARS_MAX: usize = 32;

/// The players, in order of number. Rows of those who left stay for as long as a stream may still need to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// Rising by player.
    pub rows: Vec<RosterRow>,
}

/// One player.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterRow {
    /// Who.
    pub player: PlayerId,
    /// The name that others see.
    pub name: Arc<str>,
    /// Whether they are there.
    pub status: PlayerStatus,
    /// In the order of the schema's scores.
    pub scores: Vec<i32>,
    /// The tick at which the row last changed.
    pub version: Tick,
}

/// Whether a player is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlayerStatus {
    /// Seated and connected.
    Connected,
    /// The connection was lost; the seat is kept for the grace period.
    Disconnected,
    /// Gone.
    Left,
}

impl Roster {
    /// A player's row.
    #[must_use]
    pub fn row(&self, player: PlayerId) -> Option<&RosterRow> {
        self.rows.binary_search_by_key(&player, |row| row.player).ok().map(|i| &self.rows[i])
    }
}
