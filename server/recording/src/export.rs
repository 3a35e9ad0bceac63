//! A recording in forms that other programs read, with everything by name and in its unit.

mod chat;
mod csv;
mod json;
mod mcap;
mod players;

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
    /// A filter that nothing of what is exported goes through.
    #[error(
        "{filter} {value:?} narrows {narrows}, and none of them is exported: export some of them, or leave it away"
    )]
    Idle {
        /// What narrows.
        filter: &'static str,
        /// To what.
        value: String,
        /// The parts that it narrows.
        narrows: &'static str,
    },
    /// A file for programs that plot has no place for what was said.
    #[error("what was said is no part of MCAP for programs that plot: export it as JSON or as a table")]
    ChatInMcap,
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
    /// Which kinds of entities; none: all. They narrow [`Fields`](ExportPart::Fields).
    pub kinds: Vec<String>,
    /// Which fields of entities, inputs and events; none: all. They narrow all parts but [`Chat`](ExportPart::Chat), and must be
    /// fields of the chosen ones, and of the chosen kinds.
    pub fields: Vec<String>,
    /// Whose inputs and seats, which players' own events, and what was said by or to whom; none: all. They narrow all parts but
    /// [`Fields`](ExportPart::Fields), and must be players of the recording.
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
/// Where nothing but [`Chat`](ExportPart::Chat) is chosen there are no lines of ticks and of recoveries.
///
/// A `recovered` says that a server was killed after that tick, and another one went on with the session. A segment behind the
/// first one has in its header's `segment` and `first_tick` where it stands; what is there before its first tick is not in the
/// export, only how it changes.
///
/// # Errors
/// Where the recording is damaged before the last of the ticks, or has nothing of a selected name, where a filter narrows nothing
/// that is exported, or where `out` fails.
pub fn export(
    recording: &Recording,
    selection: &Selection,
    out: &mut (impl Write + ?Sized),
) -> Result<(), ExportError> {
    json::export(recording, selection, out)
}

/// Writes a table: of [`Fields`](ExportPart::Fields) one row for each tick and entity, of [`Inputs`](ExportPart::Inputs) one
/// for each tick and player, of [`Events`](ExportPart::Events) and [`Chat`](ExportPart::Chat) one for each. Columns are named
/// as in `x [m]`; what a row's kind does not have is empty. Inputs are as they counted: repeated ones have the values that were
/// held.
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

/// Writes an MCAP file of JSON messages with their schemas, for Foxglove and others that plot; what was said is left out:
/// `/entity/KIND` has a message for each tick and entity, `/input` one for each tick and player, `/event/NAME` one for each
/// event. Times are from the session's start.
///
/// # Errors
/// As [`export`]; and where nothing but what was said is chosen.
pub fn export_mcap<W: Write + Seek>(recording: &Recording, selection: &Selection, out: W) -> Result<W, ExportError> {
    mcap::export(recording, selection, out)
}

/// A selection, by its places in a recording's schema.
struct Chosen<'a> {
    schema: &'a Schema,
    selection: &'a Selection,
    parts: BTreeSet<ExportPart>,
}

impl<'a> Chosen<'a> {
    /// `parts` are those that are exported.
    fn new(
        recording: &'a Recording,
        selection: &'a Selection,
        parts: BTreeSet<ExportPart>,
    ) -> Result<Self, ExportError> {
        let chosen = Self { schema: &recording.meta().schema, selection, parts };
        chosen.check_kinds()?;
        chosen.check_fields()?;
        chosen.check_players(recording)?;
        Ok(chosen)
    }

    fn check_kinds(&self) -> Result<(), ExportError> {
        let Some(first) = self.selection.kinds.first() else { return Ok(()) };
        let kinds: Vec<&str> = self.schema.kinds.iter().map(|kind| kind.name.as_str()).collect();
        check("kind", &self.selection.kinds, &kinds)?;
        if self.has(ExportPart::Fields) { Ok(()) } else { Err(idle("kind", first, "fields")) }
    }

    fn check_fields(&self) -> Result<(), ExportError> {
        let Some(first) = self.selection.fields.first() else { return Ok(()) };
        let mut known = BTreeSet::new();
        if self.has(ExportPart::Fields) {
            let kinds = self.schema.kinds.iter();
            let chosen =
                kinds.filter(|kind| self.selection.kinds.is_empty() || self.selection.kinds.contains(&kind.name));
            known.extend(chosen.flat_map(|kind| &kind.fields).map(|field| field.name.as_str()));
        }
        if self.has(ExportPart::Inputs) {
            known.extend(self.schema.inputs.iter().map(|field| field.name.as_str()));
        }
        if self.has(ExportPart::Events) {
            known.extend(self.schema.events.iter().flat_map(|event| &event.fields).map(|field| field.name.as_str()));
        }
        if known.is_empty() {
            return Err(idle("field", first, "fields, inputs and events"));
        }
        check("field", &self.selection.fields, &known.into_iter().collect::<Vec<_>>())
    }

    /// Reads the recording, since only that knows its players: as far as it can be read.
    fn check_players(&self, recording: &Recording) -> Result<(), ExportError> {
        let Some(first) = self.selection.players.first() else { return Ok(()) };
        if !self.parts.iter().any(|part| *part != ExportPart::Fields) {
            return Err(idle("player", &first.to_string(), "inputs, events and chat"));
        }
        let known = players::of(recording)?;
        match self.selection.players.iter().find(|player| !known.contains(player)) {
            None => Ok(()),
            Some(player) => {
                Err(ExportError::Unknown { what: "player", name: player.to_string(), known: players::words(&known) })
            }
        }
    }

    fn has(&self, part: ExportPart) -> bool {
        self.parts.contains(&part)
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

fn idle(filter: &'static str, value: &str, narrows: &'static str) -> ExportError {
    ExportError::Idle { filter, value: value.to_owned(), narrows }
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
    let (mut told, mut newest) = (0, Tick::ZERO);
    while let Some(tick) = ticks.next() {
        let tick = match tick {
            // What is behind the last one that is chosen is not asked for.
            Err(_) if newest == *chosen.selection.ticks.end() => return Ok(None),
            tick => tick?,
        };
        let now = tick.input.tick;
        if now > *chosen.selection.ticks.end() {
            return Ok(None);
        }
        if let Some(result) = &tick.result {
            truth.apply(&result.truth).map_err(|source| ExportError::Truth { tick: now, source })?;
        }
        each(&tick, &truth, &ticks.recovered()[told..])?;
        (told, newest) = (ticks.recovered().len(), now);
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
