//! Tables, for spreadsheets and data frames.

use std::{collections::BTreeMap, io, io::Write};

use tickwire_shared::{KindId, Quantity, Tick};
use tickwire_simulation::SeatInput;

use super::{
    Chosen, ExportError, ExportPart, Held, Selection,
    chat::{channel, unix_seconds},
    each_tick,
};
use crate::{RecordedTick, Recording, origin::Origin, words};

pub(super) fn export(
    recording: &Recording,
    part: ExportPart,
    selection: &Selection,
    out: &mut (impl Write + ?Sized),
) -> Result<(), ExportError> {
    let chosen = Chosen::new(recording, selection, [part].into())?;
    let mut table = Table { recording, columns: BTreeMap::new(), out: csv::Writer::from_writer(out) };
    match part {
        ExportPart::Fields => fields(&chosen, &mut table),
        ExportPart::Inputs => inputs(&chosen, &mut table),
        ExportPart::Events => events(&chosen, &mut table),
        ExportPart::Chat => chat(&chosen, &mut table),
    }?;
    Ok(table.out.flush()?)
}

fn chat<W: Write>(chosen: &Chosen<'_>, table: &mut Table<'_, W>) -> Result<(), ExportError> {
    let recording = table.recording;
    table.header(&["id", "unix_seconds", "player", "name", "channel", "to", "team", "text"], std::iter::empty())?;
    for line in chosen.chat(recording)? {
        let line = line?;
        let number = |number: Option<u32>| number.map_or_else(String::new, |number| number.to_string());
        let fixed = [
            line.id.to_string(),
            unix_seconds(&line).to_string(),
            number(line.from.map(|player| player.0)),
            line.from_name.clone(),
            channel(&line).to_owned(),
            number(line.to.map(|player| player.0)),
            number(line.team),
            line.text.clone(),
        ];
        table.row(line.tick, fixed, std::iter::empty())?;
    }
    Ok(())
}

struct Table<'a, W: Write> {
    recording: &'a Recording,
    /// The places of the columns behind the fixed ones, by their names.
    columns: BTreeMap<String, usize>,
    out: csv::Writer<W>,
}

/// As in `x [m]`: fields of one name and unit share a column.
fn column(name: &str, quantity: &Quantity) -> String {
    if quantity.unit.is_empty() { name.to_owned() } else { format!("{name} [{}]", quantity.unit) }
}

impl<W: Write> Table<'_, W> {
    fn header<'f>(
        &mut self,
        fixed: &[&str],
        fields: impl Iterator<Item = (&'f String, &'f Quantity)>,
    ) -> Result<(), ExportError> {
        let mut row: Vec<String> = ["tick", "seconds"].iter().chain(fixed).map(|&name| name.to_owned()).collect();
        for (name, quantity) in fields {
            let name = column(name, quantity);
            if !self.columns.contains_key(&name) {
                self.columns.insert(name.clone(), self.columns.len());
                row.push(name);
            }
        }
        self.write(&row)
    }

    /// Fields that no column is for are left out.
    fn row<'f>(
        &mut self,
        tick: Tick,
        fixed: impl IntoIterator<Item = String>,
        values: impl Iterator<Item = (&'f String, &'f Quantity, i32)>,
    ) -> Result<(), ExportError> {
        let seconds = self.recording.meta().tick_rate.duration_of(tick.0).as_secs_f64();
        let mut row = vec![tick.to_string(), seconds.to_string()];
        row.extend(fixed);
        let start = row.len();
        row.resize(start + self.columns.len(), String::new());
        for (name, quantity, value) in values {
            if let Some(&at) = self.columns.get(&column(name, quantity)) {
                row[start + at] = words::number(quantity, value).to_string();
            }
        }
        self.write(&row)
    }

    fn write(&mut self, row: &[String]) -> Result<(), ExportError> {
        Ok(self.out.write_record(row).map_err(io::Error::from)?)
    }
}

fn fields<W: Write>(chosen: &Chosen<'_>, table: &mut Table<'_, W>) -> Result<(), ExportError> {
    let kinds = (0..chosen.schema.kinds.len()).filter_map(|i| chosen.kind(KindId(i as u16)));
    let columns = kinds.flat_map(|kind| chosen.fields(kind)).map(|(_, field)| (&field.name, &field.quantity));
    table.header(&["kind", "net_id"], columns)?;
    let recording = table.recording;
    let origin = Origin::of(recording).map_err(ExportError::Origin)?;
    each_tick((recording, &origin), chosen, |RecordedTick { input, result }, truth, _| {
        if result.is_none() || !chosen.has_tick(input.tick) {
            return Ok(());
        }
        for ((kind, id), row) in &truth.rows {
            let Some(kind) = chosen.kind(*kind) else { continue };
            let values = chosen.fields(kind).map(|(i, field)| (&field.name, &field.quantity, row[i]));
            table.row(input.tick, [kind.name.clone(), id.to_string()], values)?;
        }
        Ok(())
    })?;
    Ok(())
}

fn inputs<W: Write>(chosen: &Chosen<'_>, table: &mut Table<'_, W>) -> Result<(), ExportError> {
    let columns = chosen.inputs().map(|(_, field)| (&field.name, &field.quantity));
    table.header(&["player", "provenance", "sequence", "seen_tick"], columns)?;
    let recording = table.recording;
    let origin = Origin::of(recording).map_err(ExportError::Origin)?;
    let mut held = Held::new(chosen.schema, &origin);
    each_tick((recording, &origin), chosen, |RecordedTick { input, .. }, _, _| {
        held.advance(input);
        if !chosen.has_tick(input.tick) {
            return Ok(());
        }
        for SeatInput { player, provenance, sequence, seen, .. } in &input.inputs {
            if !chosen.has_player(*player) {
                continue;
            }
            let fixed = [
                player.to_string(),
                words::provenance(*provenance).to_owned(),
                if *sequence == 0 { String::new() } else { sequence.to_string() },
                seen.map_or(String::new(), |seen| words::seen(seen).to_string()),
            ];
            table.row(input.tick, fixed, held.values(chosen, *player))?;
        }
        Ok(())
    })?;
    Ok(())
}

fn events<W: Write>(chosen: &Chosen<'_>, table: &mut Table<'_, W>) -> Result<(), ExportError> {
    let columns = chosen.schema.events.iter().flat_map(|event| chosen.event_fields(event));
    table.header(&["event", "ordinal", "to_player"], columns.map(|(_, name, quantity)| (name, quantity)))?;
    let recording = table.recording;
    let origin = Origin::of(recording).map_err(ExportError::Origin)?;
    each_tick((recording, &origin), chosen, |RecordedTick { input, result }, _, _| {
        let happened = result.iter().flat_map(|result| &result.events).filter(|_| chosen.has_tick(input.tick));
        for event in happened.filter(|event| event.player.is_none_or(|player| chosen.has_player(player))) {
            let kind = &chosen.schema.events[event.kind.index()];
            let to = event.player.map_or(String::new(), |player| player.to_string());
            let values = chosen.event_fields(kind).map(|(i, name, quantity)| (name, quantity, event.values[i]));
            table.row(input.tick, [kind.name.clone(), event.ordinal.to_string(), to], values)?;
        }
        Ok(())
    })?;
    Ok(())
}
