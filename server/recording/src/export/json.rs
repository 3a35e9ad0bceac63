//! Lines of JSON, for people and scripts.

use std::io::{self, Write};

use serde_json::{Value as Json, json};
use tickwire_shared::{KindId, NetId, Provenance, Truth};
use tickwire_simulation::{SeatInput, TickInput};

use super::{Chosen, ExportError, ExportPart, Selection, chat, each_tick};
use crate::{ChatRecord, EndReason, RecordedResult, Recording, RecordingMeta, Recovered, Ticks, origin::Origin, words};

pub(super) fn export(
    recording: &Recording,
    selection: &Selection,
    out: &mut (impl Write + ?Sized),
) -> Result<(), ExportError> {
    let chosen = Chosen::new(recording, selection, selection.parts.clone())?;
    // Of ticks there is nothing to say where only what was said is wanted.
    let has_ticks = selection.parts != [ExportPart::Chat].into();
    let mut header = describe(recording.meta());
    header["type"] = json!("header");
    line(out, header)?;
    let origin = Origin::of(recording).map_err(ExportError::Origin)?;
    let mut told = 0;
    let mut lines = match chosen.has(ExportPart::Chat) {
        true => Some(chosen.chat(recording)?.peekable()),
        false => None,
    };
    let ticks = each_tick((recording, &origin), &chosen, |tick, truth, recovered| {
        if let Some(lines) = &mut lines {
            let comes_before =
                |line: &Result<ChatRecord, _>| line.as_ref().is_ok_and(|line| line.tick < tick.input.tick);
            while let Some(Ok(said)) = lines.next_if(comes_before) {
                line(out, chat::json(&said))?;
            }
        }
        told += recovered.len();
        if has_ticks && chosen.has_tick(tick.input.tick) {
            export_recovered(recovered, out)?;
            export_input(&chosen, &tick.input, out)?;
            if let Some(result) = &tick.result {
                export_result(&chosen, truth, result, out)?;
            }
        }
        Ok(())
    })?;
    // Behind the last tick.
    let behind = ticks.as_ref().filter(|_| has_ticks).and_then(|ticks| ticks.recovered().get(told..));
    export_recovered(behind.unwrap_or_default(), out)?;
    // What is wrong with the rest has been told by the ticks.
    for said in lines.into_iter().flatten().map_while(Result::ok) {
        line(out, chat::json(&said))?;
    }
    if let Some(end) = ticks.as_ref().and_then(Ticks::end) {
        let mut object = json!({
            "type": "end", "reason": end.reason.word(), "tick": end.tick.0, "ticks_missing": end.ticks_missing
        });
        match &end.reason {
            EndReason::Failed { message } | EndReason::Stopped { problem: message } => {
                object["message"] = json!(message);
            }
            EndReason::Ended { result_json } if !result_json.is_empty() => object["result"] = json_of(result_json),
            _ => {}
        }
        line(out, object)?;
    }
    Ok(())
}

/// JSON as it stands in a recording; a string, where it is none.
fn json_of(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

/// What a recording is of, as the header of an [`export`](crate::export()): with all settings by name and in their units.
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
        "segment": meta.segment.number,
        "first_tick": meta.segment.first_tick.0,
        "predecessor": meta.segment.predecessor,
    })
}

fn export_recovered(recovered: &[Recovered], out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    recovered.iter().try_for_each(|recovered| {
        let mut object = words::recovered_json(recovered);
        object["type"] = json!("recovered");
        line(out, object)
    })
}

fn export_input(chosen: &Chosen<'_>, input: &TickInput, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    if !chosen.has(ExportPart::Inputs) {
        return Ok(());
    }
    let tick = input.tick.0;
    for change in input.seat_changes.iter().filter(|change| chosen.has_player(change.player())) {
        let mut object = words::seat_change_json(change);
        object["type"] = json!("seat");
        object["tick"] = json!(tick);
        line(out, object)?;
    }
    let inputs = input.inputs.iter().filter(|input| chosen.has_player(input.player));
    for SeatInput { player, provenance, sequence, values, seen } in inputs {
        let mut entry = json!({
            "type": "input", "tick": tick, "player": player.0, "provenance": words::provenance(*provenance),
        });
        if *provenance == Provenance::Fresh {
            // Nothing has checked yet that an input has all its values.
            let values = chosen.inputs().filter_map(|(i, field)| Some((&field.name, &field.quantity, *values.get(i)?)));
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

fn export_result(
    chosen: &Chosen<'_>,
    truth: &Truth,
    result: &RecordedResult,
    out: &mut (impl Write + ?Sized),
) -> io::Result<()> {
    let tick = result.tick.0;
    let chosen_kinds = result.truth.kinds.iter().filter(|_| chosen.has(ExportPart::Fields));
    for (delta, kind) in chosen_kinds.filter_map(|delta| Some((delta, chosen.kind(delta.kind)?))) {
        let entry = |what: &str, id: NetId| json!({ "type": what, "tick": tick, "kind": kind.name, "net_id": id.0 });
        let fields = |values: &[i32], mask: u32| {
            let of_mask = chosen.fields(kind).filter(|(i, _)| mask & (1 << i) != 0);
            let values = of_mask.filter_map(|(i, field)| Some((&field.name, &field.quantity, *values.get(i)?)));
            words::object(values)
        };
        for &id in &delta.despawned {
            line(out, entry("despawned", id))?;
        }
        for (id, values) in &delta.spawned {
            let mut entry = entry("spawned", *id);
            entry["fields"] = fields(values, u32::MAX);
            line(out, entry)?;
        }
        for (net_id, mask) in &delta.changed {
            let mut entry = entry("changed", *net_id);
            entry["fields"] = fields(row(truth, delta.kind, *net_id), *mask);
            if entry["fields"].as_object().is_some_and(|fields| !fields.is_empty()) {
                line(out, entry)?;
            }
        }
    }
    let events = result.events.iter().filter(|_| chosen.has(ExportPart::Events));
    for event in events.filter(|event| event.player.is_none_or(|player| chosen.has_player(player))) {
        let kind = &chosen.schema.events[event.kind.index()];
        let values = chosen.event_fields(kind).map(|(i, name, quantity)| (name, quantity, event.values[i]));
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

fn line(out: &mut (impl Write + ?Sized), object: Json) -> io::Result<()> {
    writeln!(out, "{object}")
}
