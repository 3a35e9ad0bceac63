//! What recordings consist of, in words and in JSON, for all that prints them.

use std::time::UNIX_EPOCH;

use serde_json::{Map, Value as Json, json};
use tickwire_shared::{PlayerStatus, Provenance, Quantity, Seen};
use tickwire_simulation::SeatChange;

use crate::{EndReason, RecordingState, RecordingSummary, Recovered};

pub(crate) const fn provenance(provenance: Provenance) -> &'static str {
    match provenance {
        Provenance::Fresh => "fresh",
        Provenance::Repeated => "repeated",
        Provenance::Absent => "absent",
    }
}

pub(crate) const fn status(status: PlayerStatus) -> &'static str {
    match status {
        PlayerStatus::Connected => "connected",
        PlayerStatus::Disconnected => "disconnected",
        PlayerStatus::Left => "left",
    }
}

const fn change(change: &SeatChange) -> &'static str {
    match change {
        SeatChange::Joined { .. } => "joined",
        SeatChange::Disconnected { .. } => "disconnected",
        SeatChange::Reconnected { .. } => "reconnected",
        SeatChange::Left { .. } => "left",
    }
}

impl RecordingSummary {
    /// The state as people are told it. `lacks_indexes`: see [`Recording::lacks_indexes`](crate::Recording::lacks_indexes).
    #[must_use]
    pub fn state_words(&self, lacks_indexes: bool) -> String {
        let last_tick = self.last_tick();
        match &self.state {
            RecordingState::Complete(EndReason::Shutdown) => "complete: the server was shut down".into(),
            RecordingState::Complete(EndReason::Ended { result_json }) if result_json.is_empty() => {
                "complete: the match was over".into()
            }
            RecordingState::Complete(EndReason::Ended { result_json }) => {
                format!("complete: the match was over, with {result_json}")
            }
            RecordingState::Complete(EndReason::Failed { message }) => {
                format!("complete: the game panicked: {message}")
            }
            RecordingState::Complete(EndReason::Killed) => {
                format!(
                    "complete until the server was killed after tick {last_tick}, or gave up a game that hung there"
                )
            }
            RecordingState::Complete(EndReason::Limited) => {
                format!("complete to tick {last_tick}: there it had reached its limit of size, and the session went on")
            }
            RecordingState::Complete(EndReason::Continued) => {
                "complete: the session goes on in the next segment".into()
            }
            RecordingState::Complete(EndReason::Stopped { problem }) => {
                format!("complete to tick {last_tick}: {problem}")
            }
            RecordingState::Incomplete { ticks_missing, problem: None } => {
                format!("incomplete: {ticks_missing} ticks are missing")
            }
            RecordingState::Incomplete { ticks_missing: 0, problem: Some(problem) } => {
                format!(
                    "incomplete: it stops after tick {last_tick}, and nobody knows how many ticks are missing: {problem}"
                )
            }
            RecordingState::Incomplete { ticks_missing, problem: Some(problem) } => {
                format!(
                    "incomplete: it stopped after tick {last_tick}, {ticks_missing} or more ticks are missing: {problem}"
                )
            }
            RecordingState::Live => "live: the session is running".into(),
            // A live file needs no indexes.
            RecordingState::Unfinished if lacks_indexes => {
                "unfinished, and under a name that no start goes on with: `recordings repair` finishes it".into()
            }
            RecordingState::Unfinished => {
                "unfinished: the server was killed; its next start goes on with it, or `recordings repair` finishes it"
                    .into()
            }
            RecordingState::SetAside(reason) => {
                format!("set aside, nobody could go on with it: {reason}; `recordings repair` finishes it")
            }
            RecordingState::Damaged(reason) => format!("damaged: {reason}"),
        }
    }
}

/// As in "player 3 joined as Ada".
pub(crate) fn seat_change(seat_change: &SeatChange) -> String {
    let (player, what) = (seat_change.player(), change(seat_change));
    match seat_change {
        SeatChange::Joined { name, .. } => format!("player {player} {what} as {name}"),
        _ => format!("player {player} {what}"),
    }
}

/// As in `{"player":3,"change":"joined","name":"Ada"}`.
pub(crate) fn seat_change_json(seat_change: &SeatChange) -> Json {
    let mut object = json!({ "player": seat_change.player().0, "change": change(seat_change) });
    if let SeatChange::Joined { name, .. } = seat_change {
        object["name"] = json!(&**name);
    }
    object
}

/// As in `{"tick":8,"epoch":1,"unix_seconds":1700000000.5}`.
pub(crate) fn recovered_json(Recovered { tick, epoch, time }: &Recovered) -> Json {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    json!({ "tick": tick.0, "epoch": epoch, "unix_seconds": seconds })
}

/// A moment that a player was shown, in ticks.
pub(crate) fn seen(seen: Seen) -> f64 {
    seen.tick.0 as f64 + seen.share()
}

/// Values by name, in their units.
pub(crate) fn object<'a>(values: impl Iterator<Item = (&'a String, &'a Quantity, i32)>) -> Json {
    Json::Object(values.map(|(name, quantity, value)| (name.clone(), number(quantity, value))).collect::<Map<_, _>>())
}

/// A value in its unit: without a fraction where it has none.
pub(crate) fn number(quantity: &Quantity, value: i32) -> Json {
    if quantity.quantum == 1.0 { json!(value) } else { json!(quantity.dequantize(value)) }
}
