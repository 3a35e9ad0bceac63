//! One tick of a recording, with everything in it by name and in its unit.

use std::{
    fmt::{self, Write as _},
    sync::Arc,
};

use serde_json::{Map, Value as Json, json};
use tickwire_shared::{Game, Roster, RosterRow, Tick, Truth};

use crate::{
    RecordedTick, Recording, RecordingMeta, ReplayError, Value, divergence::event_in_words, origin::Origin, words,
};

/// Everything that is known of one tick.
#[derive(Clone, Debug)]
pub struct TickDump {
    meta: RecordingMeta,
    /// As it was recorded.
    pub recorded: RecordedTick,
    /// The truth after the tick, as it was recorded; of a tick without result, that before it.
    pub truth: Truth,
    /// The roster, which is not recorded, as the replay has it after the tick; of a tick that panics, that before it. `None`
    /// where the replay did not come so far.
    pub roster: Option<Arc<Roster>>,
    /// Where the replay parted from the recording, or why there was none, in words.
    pub problem: Option<String>,
}

/// Why a tick cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The recording has no such tick.
    #[error("there is no tick {tick}; the last one is {last}")]
    NoSuchTick {
        /// What was asked for.
        tick: Tick,
        /// The recording's last one.
        last: Tick,
    },
    /// The recording cannot be read, or contradicts itself.
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

/// Reads a recording up to `tick`. Beside that the match is played again by `game`, which knows the roster; without it, or where
/// that cannot be played, the tick is shown all the same.
///
/// # Errors
/// Where the recording has no such tick, or is damaged before it.
pub fn dump_tick(
    recording: &Recording,
    game: Result<Arc<dyn Game>, ReplayError>,
    tick: Tick,
) -> Result<TickDump, DumpError> {
    let mut problem = None;
    let origin = Origin::of(recording)?;
    let config = recording.meta().session_config();
    let mut session = match game.and_then(|game| origin.session(recording, &game, config, None)) {
        Ok(session) => Some(session),
        Err(error) => {
            problem = Some(format!("it cannot be played again: {error}"));
            None
        }
    };
    let (mut truth, mut last) = (origin.truth(recording), recording.origin_tick());
    if last > Tick::ZERO && tick <= last {
        return Err(ReplayError::BeforeOrigin { tick, origin: last }.into());
    }
    for recorded in recording.ticks().map_err(ReplayError::from)? {
        let recorded = recorded.map_err(ReplayError::from)?;
        let now = recorded.input.tick;
        let mut parted = None;
        if let Some(session) = &mut session {
            session.check_tick(&recorded.input).map_err(ReplayError::from)?;
            parted = match (session.finish_tick(&recorded.input), &recorded.result) {
                (Err(panic), _) => Some(format!("the replay: {panic}")),
                (Ok(output), Some(result)) if *result != output.result => {
                    Some(format!("the replay parts from the recording at tick {now}: `replay --verify` says how"))
                }
                _ => None,
            };
        }
        let roster = session.as_ref().map(|session| Arc::clone(&session.frame().roster));
        if parted.is_some() {
            (problem, session) = (parted, None);
        }
        if let Some(result) = &recorded.result {
            truth.apply(&result.truth).map_err(|source| ReplayError::Truth { tick: now, source })?;
        }
        if now == tick {
            return Ok(TickDump { meta: recording.meta().clone(), recorded, truth, roster, problem });
        }
        last = now;
    }
    Err(DumpError::NoSuchTick { tick, last })
}

impl TickDump {
    fn tick(&self) -> Tick {
        self.recorded.input.tick
    }

    fn seconds(&self) -> f64 {
        self.meta.tick_rate.duration_of(self.tick().0).as_secs_f64()
    }

    /// As JSON, with all values in their units.
    #[must_use]
    pub fn json(&self) -> Json {
        let schema = &self.meta.schema;
        let RecordedTick { input, result } = &self.recorded;
        let entities = self.truth.rows.iter().filter_map(|((kind, id), values)| {
            let kind = schema.kind(*kind)?;
            let values = kind.fields.iter().zip(values).map(|(field, &value)| (&field.name, &field.quantity, value));
            Some(json!({ "kind": kind.name, "net_id": id.0, "fields": words::object(values) }))
        });
        let inputs = input.inputs.iter().map(|input| {
            let values = schema.inputs.iter().zip(&input.values);
            json!({
                "player": input.player.0,
                "provenance": words::provenance(input.provenance),
                "sequence": input.sequence,
                "values": words::object(values.map(|(field, &value)| (&field.name, &field.quantity, value))),
                "seen": input.seen.map(words::seen),
            })
        });
        let events = result.iter().flat_map(|result| &result.events).filter_map(|event| {
            let kind = schema.event(event.kind)?;
            let values =
                kind.fields.iter().zip(&event.values).map(|(field, &value)| (&field.name, &field.quantity, value));
            let player = event.player.map(|player| player.0);
            Some(json!({
                "event": kind.name, "ordinal": event.ordinal, "player": player, "values": words::object(values),
            }))
        });
        let roster = self.roster.as_ref().map(|roster| {
            let row = |row: &RosterRow| {
                let scores = schema.scores.iter().cloned().zip(row.scores.iter().map(|&score| json!(score)));
                json!({
                    "player": row.player.0, "name": &*row.name, "status": words::status(row.status),
                    "scores": scores.collect::<Map<_, _>>(),
                })
            };
            roster.rows.iter().map(row).collect::<Vec<_>>()
        });
        json!({
            "tick": self.tick().0,
            "seconds": self.seconds(),
            "state_hash": result.as_ref().map(|result| format!("{:016x}", result.state_hash)),
            "problem": self.problem,
            "roster": roster,
            "seat_changes": input.seat_changes.iter().map(words::seat_change_json).collect::<Vec<_>>(),
            "inputs": inputs.collect::<Vec<_>>(),
            "entities": entities.collect::<Vec<_>>(),
            "events": events.collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for TickDump {
    /// A line for each thing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = &self.meta.schema;
        let RecordedTick { input, result } = &self.recorded;
        write!(f, "tick {} at {:.3} s", self.tick(), self.seconds())?;
        match result {
            Some(result) => write!(f, ", state hash {:016x}", result.state_hash)?,
            None => f.write_str(", without a result: seats and entities are those before it")?,
        }
        if let Some(problem) = &self.problem {
            write!(f, "\n{problem}")?;
        }
        f.write_str("\n\nseats")?;
        match &self.roster {
            None => f.write_str(": unknown; they are not recorded, and the replay did not come so far")?,
            Some(roster) => {
                for row in &roster.rows {
                    write!(f, "\n  player {} {}, {}", row.player, row.name, words::status(row.status))?;
                    for (name, score) in schema.scores.iter().zip(&row.scores) {
                        write!(f, ", {name} {score}")?;
                    }
                }
            }
        }
        for change in &input.seat_changes {
            write!(f, "\n  at this tick: {}", words::seat_change(change))?;
        }
        f.write_str("\n\ninputs")?;
        for input in &input.inputs {
            write!(f, "\n  player {} {}", input.player, words::provenance(input.provenance))?;
            if input.sequence != 0 {
                write!(f, ", sequence {}", input.sequence)?;
            }
            for (field, &value) in schema.inputs.iter().zip(&input.values) {
                write!(f, ", {} {}", field.name, Value::of(&field.quantity, value))?;
            }
            if let Some(seen) = input.seen {
                write!(f, ", was shown tick {:.3}", words::seen(seen))?;
            }
        }
        f.write_str("\n\nentities")?;
        for ((kind, id), values) in &self.truth.rows {
            let Some(kind) = schema.kind(*kind) else { continue };
            let mut line = format!("\n  {} {id}", kind.name);
            for (field, &value) in kind.fields.iter().zip(values) {
                write!(line, ", {} {}", field.name, Value::of(&field.quantity, value))?;
            }
            f.write_str(&line)?;
        }
        f.write_str("\n\nevents")?;
        for event in result.iter().flat_map(|result| &result.events) {
            write!(f, "\n  {} {}", event.ordinal, event_in_words(schema, event))?;
        }
        Ok(())
    }
}
