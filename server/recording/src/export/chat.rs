//! What was said, in words of exports.

use std::time::SystemTime;

use serde_json::{Value as Json, json};

use super::Chosen;
use crate::{ChatRecord, Recording, RecordingError};

impl<'a> Chosen<'a> {
    /// The chosen lines, as [`Recording::chat`] has them: those of the ticks, from or to the players.
    pub(super) fn chat(
        &self,
        recording: &Recording,
    ) -> Result<impl Iterator<Item = Result<ChatRecord, RecordingError>> + use<'_, 'a>, RecordingError> {
        let is_chosen = |line: &ChatRecord| {
            let mut parties = line.from.into_iter().chain(line.to).peekable();
            // What is said before the first tick goes with it.
            self.has_tick(line.tick.max(tickwire_shared::Tick(1)))
                && (parties.peek().is_none() || parties.any(|party| self.has_player(party)))
        };
        Ok(recording.chat()?.filter(move |line| line.as_ref().map_or(true, is_chosen)))
    }
}

/// To whom a line was said.
pub(super) fn channel(line: &ChatRecord) -> &'static str {
    match (line.from, line.to, line.team) {
        (_, Some(_), _) => "direct",
        (_, None, Some(_)) => "team",
        (None, None, None) => "system",
        (Some(_), None, None) => "everyone",
    }
}

pub(super) fn unix_seconds(line: &ChatRecord) -> f64 {
    line.time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

pub(super) fn json(line: &ChatRecord) -> Json {
    json!({
        "type": "chat",
        "tick": line.tick.0,
        "id": line.id,
        "unix_seconds": unix_seconds(line),
        "player": line.from.map(|player| player.0),
        "name": line.from_name,
        "channel": channel(line),
        "to": line.to.map(|player| player.0),
        "team": line.team,
        "text": line.text,
    })
}
