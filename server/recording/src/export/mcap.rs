//! An MCAP file of plain numeric fields, which programs that plot can show. In recordings themselves numbers are packed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Seek, Write},
};

use mcap::{Compression, McapError, WriteOptions, records::MessageHeader};
use serde_json::{Map, Value as Json, json};
use tickwire_shared::{KindId, Quantity, Tick};

use super::{Chosen, ExportError, ExportPart, Held, Selection, each_tick};
use crate::{RecordedTick, Recording, origin::Origin, words};

pub(super) fn export<W: Write + Seek>(recording: &Recording, selection: &Selection, out: W) -> Result<W, ExportError> {
    let parts: BTreeSet<ExportPart> =
        selection.parts.iter().copied().filter(|part| *part != ExportPart::Chat).collect();
    if parts.is_empty() && selection.parts.contains(&ExportPart::Chat) {
        return Err(ExportError::ChatInMcap);
    }
    let chosen = Chosen::new(recording, selection, parts)?;
    let options = WriteOptions::new()
        .profile("")
        .library(concat!("tickwire-recording/", env!("CARGO_PKG_VERSION")))
        .compression(Some(Compression::Zstd))
        .compression_threads(0);
    let mut writer = options.create(out).map_err(io_error)?;
    let Topics { kinds, input, events } = add_topics(&mut writer, &chosen)?;
    let rate = recording.meta().tick_rate;
    let mut write = |channel_id: u16, tick: Tick, message: &Json| -> Result<(), ExportError> {
        // 2^64 ns are 584 years.
        let log_time = u64::try_from(rate.duration_of(tick.0).as_nanos()).unwrap_or(u64::MAX);
        // The low bits: enough for a reader to see a gap.
        let header = MessageHeader { channel_id, sequence: tick.0 as u32, log_time, publish_time: log_time };
        let text = message.to_string();
        Ok(writer.write_to_known_channel(&header, text.as_bytes()).map_err(io_error)?)
    };
    let origin = Origin::of(recording).map_err(ExportError::Origin)?;
    let mut held = Held::new(chosen.schema, &origin);
    each_tick((recording, &origin), &chosen, |RecordedTick { input: record, result }, truth, _| {
        let tick = record.tick;
        held.advance(record);
        if !chosen.has_tick(tick) {
            return Ok(());
        }
        if let Some(channel) = input {
            for input in record.inputs.iter().filter(|input| chosen.has_player(input.player)) {
                let mut message = words::object(held.values(&chosen, input.player));
                message["player"] = json!(input.player.0);
                message["provenance"] = json!(words::provenance(input.provenance));
                write(channel, tick, &message)?;
            }
        }
        let Some(result) = result else { return Ok(()) };
        for ((id, net_id), row) in &truth.rows {
            let (Some(channel), Some(kind)) = (kinds.get(id), chosen.kind(*id)) else { continue };
            let values = chosen.fields(kind).map(|(i, field)| (&field.name, &field.quantity, row[i]));
            let mut message = words::object(values);
            message["net_id"] = json!(net_id.0);
            write(*channel, tick, &message)?;
        }
        for event in result.events.iter().filter(|event| event.player.is_none_or(|player| chosen.has_player(player))) {
            let Some(channel) = events.get(event.kind.index()) else { continue };
            let kind = &chosen.schema.events[event.kind.index()];
            let values = chosen.event_fields(kind).map(|(i, name, quantity)| (name, quantity, event.values[i]));
            let mut message = words::object(values);
            message["to_player"] = json!(event.player.map_or(0, |player| player.0));
            write(*channel, tick, &message)?;
        }
        Ok(())
    })?;
    writer.finish().map_err(io_error)?;
    Ok(writer.into_inner())
}

/// The channels of a file.
struct Topics {
    kinds: BTreeMap<KindId, u16>,
    input: Option<u16>,
    /// By the event's place in the schema; none, where they are not chosen.
    events: Vec<u16>,
}

fn add_topics<W: Write + Seek>(writer: &mut mcap::Writer<W>, chosen: &Chosen<'_>) -> Result<Topics, ExportError> {
    let mut add = |topic: String, schema: Json| {
        let name = topic.trim_start_matches('/').replace('/', ".");
        let id = writer.add_schema(&name, "jsonschema", schema.to_string().as_bytes()).map_err(io_error)?;
        writer.add_channel(id, &topic, "json", &BTreeMap::new()).map_err(io_error)
    };
    let mut topics = Topics { kinds: BTreeMap::new(), input: None, events: Vec::new() };
    if chosen.has(ExportPart::Fields) {
        for id in (0..chosen.schema.kinds.len()).map(|i| KindId(i as u16)) {
            let Some(kind) = chosen.kind(id) else { continue };
            let fields = chosen.fields(kind).map(|(_, field)| (&field.name, &field.quantity));
            topics.kinds.insert(id, add(format!("/entity/{}", kind.name), schema(fields, &[("net_id", "integer")]))?);
        }
    }
    if chosen.has(ExportPart::Inputs) {
        let fields = chosen.inputs().map(|(_, field)| (&field.name, &field.quantity));
        let own = [("player", "integer"), ("provenance", "string")];
        topics.input = Some(add("/input".to_owned(), schema(fields, &own))?);
    }
    if chosen.has(ExportPart::Events) {
        for event in &chosen.schema.events {
            let fields = chosen.event_fields(event).map(|(_, name, quantity)| (name, quantity));
            topics.events.push(add(format!("/event/{}", event.name), schema(fields, &[("to_player", "integer")]))?);
        }
    }
    Ok(topics)
}

/// A JSON Schema of an object of numbers, with what it has beside them.
fn schema<'a>(fields: impl Iterator<Item = (&'a String, &'a Quantity)>, own: &[(&str, &str)]) -> Json {
    let property = |(name, quantity): (&String, &Quantity)| {
        let description = if quantity.unit.is_empty() { "a count or a share" } else { quantity.unit.as_str() };
        (name.clone(), json!({ "type": "number", "description": description }))
    };
    let mut properties: Map<String, Json> = fields.map(property).collect();
    properties.extend(own.iter().map(|&(name, of)| (name.to_owned(), json!({ "type": of }))));
    json!({ "type": "object", "properties": properties })
}

fn io_error(error: McapError) -> io::Error {
    match error {
        McapError::Io(error) => error,
        error => io::Error::other(error),
    }
}
