//! `recordings show --bytes`: what each kind and field of a match costs on the wire.

use std::{path::Path, sync::Arc};

use comfy_table::{CellAlignment, Table, presets::NOTHING};
use serde_json::{Map, Value, json};
use tickwire_recording::{ByteReport, Recording, byte_report, game_of};
use tickwire_replication::ReplicationConfig;
use tickwire_shared::{Game, Kind, Schema};
use tickwire_wire::{EventAccount, KindAccount, Spent};

use super::{CliError, output};

/// Plays a recording again and prints what its bytes are spent on.
pub(super) fn show(file: &Path, as_json: bool, games: &[Arc<dyn Game>]) -> Result<(), CliError> {
    let recording = Recording::open(file).map_err(CliError::of_recording(file))?;
    let game = game_of(&recording, games).map_err(CliError::at(file))?;
    let ReplicationConfig { hash_interval, slice_bytes_max, .. } = ReplicationConfig::new(recording.meta().tick_rate);
    let report = byte_report(&recording, game, hash_interval, slice_bytes_max).map_err(CliError::at(file))?;
    let bill = Bill::of(&report, &recording.meta().schema);
    if as_json {
        output::line(bill.json(file, &report))?;
        return Ok(());
    }
    output::line(bill.table(&report))?;
    output::line("Averages: kinds per entity and tick, events and cells per tick, own per player and tick.\n")?;
    output::line(format_args!(
        "{:.2} bytes per entity and tick: {} bytes in {} ticks, of {:.1} entities each, for who sees all",
        share(report.cell_bytes, report.entity_ticks.iter().sum()),
        report.cell_bytes,
        report.ticks,
        share(report.entity_ticks.iter().sum(), report.ticks),
    ))?;
    output::line(format_args!(
        "{:.2} bytes per player and tick beside, for the player's own entity",
        share(report.owner_bytes, report.player_ticks),
    ))?;
    Ok(())
}

/// A report as it is printed: groups of lines.
struct Bill {
    cells: Vec<Group>,
    owners: Vec<Group>,
}

/// What belongs together, such as all of one kind.
struct Group {
    name: String,
    /// What averages are over.
    per: u64,
    lines: Vec<(String, Spent)>,
}

impl Bill {
    fn of(report: &ByteReport, schema: &Schema) -> Self {
        let ByteReport { ticks, entity_ticks, player_ticks, cells, owners, .. } = report;
        let kinds = schema.kinds.iter().zip(&cells.kinds).zip(entity_ticks);
        let mut cell_groups: Vec<Group> = kinds
            .map(|((kind, account), &per)| Group { name: kind.name.clone(), per, lines: kind_lines(kind, account) })
            .collect();
        cell_groups.push(Group { name: "events".into(), per: *ticks, lines: event_lines(schema, &cells.events) });
        let framing = vec![("headers".to_owned(), cells.headers), ("hashes".to_owned(), cells.hashes)];
        cell_groups.push(Group { name: "cells".into(), per: *ticks, lines: framing });

        let of_kind = |(kind, fields): (&Kind, &Vec<Spent>)| {
            let lines = kind.fields.iter().zip(fields).map(|(field, &spent)| (field.name.clone(), spent)).collect();
            Group { name: format!("own {}", kind.name), per: *player_ticks, lines }
        };
        let mut owner_groups: Vec<Group> =
            schema.kinds.iter().zip(&owners.kinds).map(of_kind).filter(|group| group.sum().times > 0).collect();
        let events = event_lines(schema, &owners.events);
        owner_groups.push(Group { name: "own events".into(), per: *player_ticks, lines: events });
        let framing = vec![("headers".to_owned(), owners.headers), ("whole".to_owned(), owners.whole)];
        owner_groups.push(Group { name: "own sections".into(), per: *player_ticks, lines: framing });
        Self { cells: cell_groups, owners: owner_groups }
    }

    fn table(&self, report: &ByteReport) -> Table {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(["", "", "times", "bytes", "each", "share", "average"]);
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for (groups, all) in [(&self.cells, report.cell_bytes), (&self.owners, report.owner_bytes)] {
            for group in groups {
                let Spent { bytes, .. } = group.sum();
                let percent = |bytes| format!("{:.1} %", 100.0 * share(bytes, all));
                let average = |bytes| format!("{:.3}", share(bytes, group.per));
                let name = group.name.clone();
                table.add_row([
                    name,
                    String::new(),
                    String::new(),
                    bytes.to_string(),
                    String::new(),
                    percent(bytes),
                    average(bytes),
                ]);
                for (name, Spent { times, bytes }) in group.lines.iter().filter(|(_, spent)| spent.times > 0) {
                    let each = format!("{:.1}", share(*bytes, *times));
                    let row = [times.to_string(), bytes.to_string(), each, percent(*bytes), average(*bytes)];
                    table.add_row([String::new(), name.clone()].into_iter().chain(row));
                }
            }
        }
        table
    }

    fn json(&self, file: &Path, report: &ByteReport) -> Value {
        let groups = |groups: &[Group]| groups.iter().map(Group::json).collect::<Vec<_>>();
        let entity_ticks: u64 = report.entity_ticks.iter().sum();
        json!({
            "file": file.display().to_string(),
            "ticks": report.ticks,
            "entity_ticks": entity_ticks,
            "bytes": report.cell_bytes,
            "bytes_per_tick": share(report.cell_bytes, report.ticks),
            "bytes_per_entity_tick": share(report.cell_bytes, entity_ticks),
            "groups": groups(&self.cells),
            "player_ticks": report.player_ticks,
            "owner_bytes": report.owner_bytes,
            "owner_bytes_per_player_tick": share(report.owner_bytes, report.player_ticks),
            "owner_groups": groups(&self.owners),
        })
    }
}

impl Group {
    fn sum(&self) -> Spent {
        let mut sum = Spent::default();
        self.lines.iter().for_each(|(_, spent)| sum += *spent);
        sum
    }

    fn json(&self) -> Value {
        let line =
            |(name, spent): &(String, Spent)| (name.clone(), json!({ "times": spent.times, "bytes": spent.bytes }));
        let lines: Map<String, Value> = self.lines.iter().map(line).collect();
        json!({ "name": self.name, "bytes": self.sum().bytes, "averaged_over": self.per, "parts": lines })
    }
}

/// In brackets stands what is no field.
fn kind_lines(kind: &Kind, account: &KindAccount) -> Vec<(String, Spent)> {
    let KindAccount { headers, despawned, left, arrivals, gaps_and_masks, motions, fields } = account;
    let own = [
        ("(headers)", headers),
        ("(despawned)", despawned),
        ("(left)", left),
        ("(arrivals)", arrivals),
        ("(gaps and masks)", gaps_and_masks),
        ("(motion)", motions),
    ];
    let fields = kind.public_fields().zip(fields).map(|((_, field), &spent)| (field.name.clone(), spent));
    own.map(|(name, spent)| (name.to_owned(), *spent)).into_iter().chain(fields).collect()
}

fn event_lines(schema: &Schema, account: &EventAccount) -> Vec<(String, Spent)> {
    let kinds = schema.events.iter().zip(&account.kinds).map(|(kind, &spent)| (kind.name.clone(), spent));
    [("(headers)".to_owned(), account.headers)].into_iter().chain(kinds).collect()
}

/// 0 of nothing.
fn share(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}
