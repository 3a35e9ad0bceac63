//! A recording in forms that other programs read, with everything by name and in its unit.

mod chat;
mod csv;
mod json;
mod mcap;

use std::{
    collections::BTreeSet,
    io::{self, Seek, Write},
    ops::RangeInclusive,
};

use tickwire_shared::{
    EventKind, Field, InputField, InputId, Inputs, Kind, KindId, PlayerId, Quantity, Schema, Tick, Truth, TruthError,
};
use tickwire_simulation::{Keyframe, SeatChange, SeatInput, TickInput};

use crate::{RecordedTick, Recording, RecordingError, Recovered, ReplayError, Ticks, origin::Origin};

pub use json::describe;

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
    /// A name that is not in the recording's schema.
    #[error("{what} {name:?} is not in the recording; it has {known}")]
    Unknown {
        /// What it should be the name of.
        what: &'static str,
        /// The name.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// A segment behind the first one, of which the keyframe that it begins with cannot be read.
    #[error(transparent)]
    Origin(ReplayError),
    /// The output's fault.
    #[error("the export cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// What of a recording is exported. The default is all of it.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Which ticks.
    pub ticks: RangeInclusive<Tick>,
    /// What of each.
    pub parts: BTreeSet<ExportPart>,
    /// Which kinds of entities; none: all.
    pub kinds: Vec<String>,
    /// Which fields of entities, inputs and events; none: all.
    pub fields: Vec<String>,
    /// Whose inputs and seats, and which players' own events; none: all.
    pub players: Vec<PlayerId>,
}

/// A part of what each tick has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExportPart {
    /// The fields of entities.
    Fields,
    /// What players did, and who sat.
    Inputs,
    /// What happened.
    Events,
    /// What was said.
    Chat,
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            ticks: Tick(1)..=Tick::MAX,
            parts: [ExportPart::Fields, ExportPart::Inputs, ExportPart::Events, ExportPart::Chat].into(),
            kinds: Vec::new(),
            fields: Vec::new(),
            players: Vec::new(),
        }
    }
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
/// {"type":"chat","tick":9,"id":1,"unix_seconds":1769885102.123,"player":1,"name":"Ada","channel":"everyone","to":null,"team":null,"text":"hi"}
/// {"type":"tick","tick":9,"state_hash":"00c0ffee00c0ffee"}
/// {"type":"recovered","tick":8,"epoch":1,"unix_seconds":1700000000.5}
/// {"type":"end","reason":"shutdown","tick":9,"ticks_missing":0}
/// ```
///
/// A `recovered` says that a server was killed after that tick, and another one went on with the session. A segment behind the
/// first one has in its header's `segment` and `first_tick` where it stands; what is there before its first tick is not in the
/// export, only how it changes.
///
/// # Errors
/// Where the recording is damaged, or has nothing of a selected name, or `out` fails.
pub fn export(
    recording: &Recording,
    selection: &Selection,
    out: &mut (impl Write + ?Sized),
) -> Result<(), ExportError> {
    json::export(recording, selection, out)
}

/// Writes a table: of [`Fields`](ExportPart::Fields) one row for each tick and entity, of [`Inputs`](ExportPart::Inputs) one
/// for each tick and player, of [`Events`](ExportPart::Events) and [`Chat`](ExportPart::Chat) one for each. Columns are named as in `x [m]`; what a row's kind
/// does not have is empty. Inputs are as they counted: repeated ones have the values that were held.
///
/// # Errors
/// As [`export`].
pub fn export_csv(
    recording: &Recording,
    part: ExportPart,
    selection: &Selection,
    out: &mut (impl Write + ?Sized),
) -> Result<(), ExportError> {
    csv::export(recording, part, selection, out)
}

/// Writes an MCAP file of JSON messages with their schemas, for Foxglove and others that plot; what was said is left out: `/entity/KIND` has a message for each
/// tick and entity, `/input` one for each tick and player, `/event/NAME` one for each event. Times are from the session's
/// start.
///
/// # Errors
/// As [`export`].
pub fn export_mcap<W: Write + Seek>(recording: &Recording, selection: &Selection, out: W) -> Result<W, ExportError> {
    mcap::export(recording, selection, out)
}

/// A selection, by its places in a recording's schema.
struct Chosen<'a> {
    schema: &'a Schema,
    selection: &'a Selection,
}

impl<'a> Chosen<'a> {
    fn new(schema: &'a Schema, selection: &'a Selection) -> Result<Self, ExportError> {
        let kinds: Vec<&str> = schema.kinds.iter().map(|kind| kind.name.as_str()).collect();
        check("kind", &selection.kinds, &kinds)?;
        let fields = schema.kinds.iter().flat_map(|kind| &kind.fields).map(|field| &field.name);
        let fields = fields.chain(schema.inputs.iter().map(|field| &field.name));
        let fields = fields.chain(schema.events.iter().flat_map(|event| &event.fields).map(|field| &field.name));
        let fields: BTreeSet<&str> = fields.map(String::as_str).collect();
        check("field", &selection.fields, &fields.into_iter().collect::<Vec<_>>())?;
        Ok(Self { schema, selection })
    }

    fn has(&self, part: ExportPart) -> bool {
        self.selection.parts.contains(&part)
    }

    fn has_tick(&self, tick: Tick) -> bool {
        self.selection.ticks.contains(&tick)
    }

    fn has_player(&self, player: PlayerId) -> bool {
        self.selection.players.is_empty() || self.selection.players.contains(&player)
    }

    fn has_field(&self, name: &str) -> bool {
        self.selection.fields.is_empty() || self.selection.fields.iter().any(|field| field == name)
    }

    /// The kind, where it is chosen and has a field that is.
    fn kind(&self, id: KindId) -> Option<&'a Kind> {
        let kind = self.schema.kind(id)?;
        let kinds = &self.selection.kinds;
        let is_chosen = kinds.is_empty() || kinds.contains(&kind.name);
        let has_any = self.selection.fields.is_empty() || kind.fields.iter().any(|field| self.has_field(&field.name));
        (is_chosen && has_any).then_some(kind)
    }

    /// The chosen fields of a kind, with their places.
    fn fields(&self, kind: &'a Kind) -> impl Iterator<Item = (usize, &'a Field)> {
        kind.fields.iter().enumerate().filter(|(_, field)| self.has_field(&field.name))
    }

    /// The chosen input fields, with their places.
    fn inputs(&self) -> impl Iterator<Item = (usize, &'a InputField)> {
        self.schema.inputs.iter().enumerate().filter(|(_, field)| self.has_field(&field.name))
    }

    /// The chosen fields of an event by name and unit, with their places.
    fn event_fields(&self, event: &'a EventKind) -> impl Iterator<Item = (usize, &'a String, &'a Quantity)> {
        let fields = event.fields.iter().enumerate().filter(|(_, field)| self.has_field(&field.name));
        fields.map(|(i, field)| (i, &field.name, &field.quantity))
    }
}

fn check(what: &'static str, names: &[String], known: &[&str]) -> Result<(), ExportError> {
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(ExportError::Unknown { what, name: name.clone(), known: known.join(", ") }),
    }
}

/// Hands over each tick up to the last one that is chosen, with the truth after it, and the recoveries before it; and those
/// that have been read.
fn each_tick(
    (recording, origin): (&Recording, &Origin),
    chosen: &Chosen<'_>,
    mut each: impl FnMut(&RecordedTick, &Truth, &[Recovered]) -> Result<(), ExportError>,
) -> Result<Option<Ticks>, ExportError> {
    let mut truth = origin.truth(recording);
    let mut ticks = recording.ticks()?;
    let mut told = 0;
    while let Some(tick) = ticks.next() {
        let tick = tick?;
        let now = tick.input.tick;
        if now > *chosen.selection.ticks.end() {
            return Ok(None);
        }
        if let Some(result) = &tick.result {
            truth.apply(&result.truth).map_err(|source| ExportError::Truth { tick: now, source })?;
        }
        each(&tick, &truth, &ticks.recovered()[told..])?;
        told = ticks.recovered().len();
    }
    Ok(Some(ticks))
}

/// Players' inputs as they counted: those that are missing have the values that the session took for them.
struct Held(Inputs);

impl Held {
    fn new(schema: &Schema, origin: &Origin) -> Self {
        let mut inputs = Inputs::new(schema.inputs.clone());
        for (player, input) in origin.keyframe().into_iter().flat_map(Keyframe::inputs) {
            // One that does not fit the schema counts as none.
            inputs.seat_again(player, input.clone());
        }
        Self(inputs)
    }

    fn advance(&mut self, TickInput { seat_changes, inputs, .. }: &TickInput) {
        for change in seat_changes {
            match change {
                SeatChange::Joined { player, .. } => self.0.seat(*player),
                SeatChange::Left { player } => self.0.unseat(*player),
                SeatChange::Disconnected { .. } | SeatChange::Reconnected { .. } => {}
            }
        }
        for SeatInput { player, provenance, values, seen, .. } in inputs {
            self.0.advance(*player, *provenance, values, *seen);
        }
    }

    /// The chosen fields of a player's input; none of one who does not sit.
    fn values<'a>(
        &self,
        chosen: &Chosen<'a>,
        player: PlayerId,
    ) -> impl Iterator<Item = (&'a String, &'a Quantity, i32)> {
        let input = self.0.get(player);
        chosen
            .inputs()
            .filter_map(move |(i, field)| Some((&field.name, &field.quantity, input?.get(InputId(i as u16)))))
    }
}
