//! A recording as lines of JSON, for people and scripts.

use std::{
    io::{self, Write},
    ops::RangeInclusive,
};

use serde_json::{Value as Json, json};
use tickwire_shared::{Field, KindId, NetId, Provenance, Schema, Tick, Truth, TruthError};
use tickwire_simulation::{SeatInput, TickInput};

use crate::{EndReason, RecordedResult, Recording, RecordingError, RecordingMeta, words};

/// Why no more is exported. What stands before has been written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The recording's fault.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The recording changes what is not there.
    #[error("the recording contradicts itself: tick {tick}: {source}")]
    Truth {
        /// The tick.
        tick: Tick,
        /// What does not fit.
        source: TruthError,
    },
    /// The output's fault.
    #[error("the export cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// Writes the inputs and the truth of some ticks, each thing as an object on a line of its own, with all fields by name and
/// in their units:
///
/// ```json
/// {"type":"header","session":"sessions/arena-1","game":"arena", …}
/// {"type":"seat","tick":1,"player":1,"change":"joined","name":"Ada"}
/// {"type":"input","tick":20,"player":1,"provenance":"fresh","sequence":1,"values":{"move_x":0.5},"seen":10.25}
/// {"type":"spawned","tick":2,"kind":"player","net_id":1,"fields":{"x":1.5}}
/// {"type":"changed","tick":3,"kind":"player","net_id":1,"fields":{"x":1.625}}
/// {"type":"despawned","tick":9,"kind":"player","net_id":1}
/// {"type":"event","tick":9,"event":"death","ordinal":0,"player":null,"values":{"victim":1}}
/// {"type":"tick","tick":9,"state_hash":"00c0ffee00c0ffee"}
/// {"type":"end","reason":"shutdown","tick":9,"ticks_missing":0}
/// ```
///
/// # Errors
/// Where the recording is damaged, or `out` fails.
pub fn export(recording: &Recording, range: RangeInclusive<Tick>, out: &mut impl Write) -> Result<(), ExportError> {
    let schema = &recording.meta().schema;
    let mut truth = Truth::default();
    let mut header = describe(recording.meta());
    header["type"] = json!("header");
    line(out, header)?;
    let mut ticks = recording.ticks()?;
    for tick in ticks.by_ref() {
        let tick = tick?;
        let now = tick.input.tick;
        if now > *range.end() {
            return Ok(());
        }
        if let Some(result) = &tick.result {
            truth.apply(&result.truth).map_err(|source| ExportError::Truth { tick: now, source })?;
        }
        if now < *range.start() {
            continue;
        }
        export_input(schema, &tick.input, out)?;
        if let Some(result) = &tick.result {
            export_result(schema, &truth, result, out)?;
        }
    }
    if let Some(end) = ticks.end() {
        let (reason, message) = match &end.reason {
            EndReason::Shutdown => ("shutdown", None),
            EndReason::Ended => ("ended", None),
            EndReason::Failed { message } => ("failed", Some(message)),
            EndReason::Killed => ("killed", None),
            EndReason::Limited => ("limited", None),
            EndReason::Stopped { problem } => ("stopped", Some(problem)),
        };
        let mut object = json!({
            "type": "end", "reason": reason, "tick": end.tick.0, "ticks_missing": end.ticks_missing
        });
        if let Some(message) = message {
            object["message"] = json!(message);
        }
        line(out, object)?;
    }
    Ok(())
}

/// What a recording is of, as the header of an [`export`]: with all settings by name and in their units.
#[must_use]
pub fn describe(meta: &RecordingMeta) -> Json {
    let settings = meta.schema.settings.iter().zip(&meta.settings);
    let created = meta.created.duration_since(std::time::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    json!({
        "session": meta.session,
        "tickwire_version": meta.tickwire_version,
        "game": meta.schema.game,
        "game_version": meta.schema.version,
        "schema": meta.schema.hash().to_string(),
        "settings": words::object(settings.map(|(setting, &value)| (&setting.name, &setting.quantity, value))),
        "seed": meta.seed,
        "tick_rate": meta.tick_rate.hz(),
        "epoch": meta.epoch,
        "created_unix_seconds": created,
        "max_players": meta.max_players,
        "rewind_ms": meta.rewind_ms,
    })
}

fn export_input(schema: &Schema, input: &TickInput, out: &mut impl Write) -> io::Result<()> {
    let tick = input.tick.0;
    for change in &input.seat_changes {
        let mut object = words::seat_change_json(change);
        object["type"] = json!("seat");
        object["tick"] = json!(tick);
        line(out, object)?;
    }
    for SeatInput { player, provenance, sequence, values, seen } in &input.inputs {
        let mut entry =
            json!({ "type": "input", "tick": tick, "player": player.0, "provenance": words::provenance(*provenance) });
        if *provenance == Provenance::Fresh {
            let values = schema.inputs.iter().zip(values).map(|(field, &value)| (&field.name, &field.quantity, value));
            entry["sequence"] = json!(sequence);
            entry["values"] = words::object(values);
            if let Some(seen) = seen {
                entry["seen"] = json!(words::seen(*seen));
            }
        }
        line(out, entry)?;
    }
    Ok(())
}

fn export_result(schema: &Schema, truth: &Truth, result: &RecordedResult, out: &mut impl Write) -> io::Result<()> {
    let tick = result.tick.0;
    for delta in &result.truth.kinds {
        let kind = &schema.kinds[delta.kind.index()];
        let entry = |what: &str, id: NetId| json!({ "type": what, "tick": tick, "kind": kind.name, "net_id": id.0 });
        for &id in &delta.despawned {
            line(out, entry("despawned", id))?;
        }
        for (id, values) in &delta.spawned {
            let mut entry = entry("spawned", *id);
            entry["fields"] = fields(&kind.fields, values, u32::MAX);
            line(out, entry)?;
        }
        for (net_id, mask) in &delta.changed {
            let mut entry = entry("changed", *net_id);
            entry["fields"] = fields(&kind.fields, row(truth, delta.kind, *net_id), *mask);
            line(out, entry)?;
        }
    }
    for event in &result.events {
        let kind = &schema.events[event.kind.index()];
        let values = kind.fields.iter().zip(&event.values).map(|(field, &value)| (&field.name, &field.quantity, value));
        let player = event.player.map(|player| player.0);
        line(
            out,
            json!({
                "type": "event", "tick": tick, "event": kind.name, "ordinal": event.ordinal, "player": player,
                "values": words::object(values),
            }),
        )?;
    }
    line(out, json!({ "type": "tick", "tick": tick, "state_hash": format!("{:016x}", result.state_hash) }))
}

fn row(truth: &Truth, kind: KindId, id: NetId) -> &[i32] {
    truth.rows.get(&(kind, id)).map_or(&[], Vec::as_slice)
}

fn fields(fields: &[Field], values: &[i32], mask: u32) -> Json {
    let chosen = fields.iter().zip(values).enumerate().filter(|(i, _)| mask & (1 << i) != 0);
    words::object(chosen.map(|(_, (field, &value))| (&field.name, &field.quantity, value)))
}

fn line(out: &mut impl Write, object: Json) -> io::Result<()> {
    writeln!(out, "{object}")
}
