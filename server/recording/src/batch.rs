//! Several ticks of a finished recording in one message, as columns: encoding and decoding, and what a batch can hold.

mod events;
mod inputs;
mod truth;

use std::sync::Arc;

use tickwire_proto::v1 as pb;
use tickwire_shared::{NetId, Provenance, Schema, Tick};
use tickwire_simulation::{SeatChange, SeatInput, TickInput};

use crate::{RecordedResult, record};

/// A tick that is over.
pub(crate) type WholeTick = (TickInput, RecordedResult);

/// The most ticks of a batch.
const TICKS_MAX: usize = 1 << 12;
/// The most bytes of a batch that this writes, by [`bytes_max`]: far less than a record may have.
const BYTES_MAX: usize = 8 << 20;

/// More than a tick, a seat's input, an event, and a change of a seat or an entity take without their numbers or name.
const TICK_BYTES: usize = 16;
const SEAT_INPUT_BYTES: usize = 32;
const EVENT_BYTES: usize = 24;
const CHANGE_BYTES: usize = 32;
/// A number takes no more.
const NUMBER_BYTES: usize = 5;

/// Collects ticks, one after the other.
#[derive(Debug)]
pub(crate) struct Batch {
    schema: Arc<Schema>,
    ticks: Vec<WholeTick>,
    /// At most so many when they are encoded.
    bytes: usize,
}

impl Batch {
    /// None as yet, of a session of a schema.
    pub(crate) fn new(schema: Arc<Schema>) -> Self {
        Self { schema, ticks: Vec::new(), bytes: 0 }
    }

    /// The first tick.
    pub(crate) fn first(&self) -> Option<Tick> {
        self.ticks.first().map(|(input, _)| input.tick)
    }

    /// How many.
    pub(crate) fn count(&self) -> u64 {
        self.ticks.len() as u64
    }

    /// Adds the tick that comes next. What does not follow, has no room, or says what no batch can, is given back.
    pub(crate) fn push(&mut self, tick: WholeTick) -> Result<(), WholeTick> {
        let follows = self.ticks.last().is_none_or(|(last, _)| last.tick.next() == tick.0.tick);
        let bytes = bytes_max(&self.schema, &tick).map(|bytes| self.bytes + bytes).filter(|bytes| *bytes <= BYTES_MAX);
        match bytes {
            Some(bytes) if follows && self.ticks.len() < TICKS_MAX => {
                self.bytes = bytes;
                self.ticks.push(tick);
                Ok(())
            }
            _ => Err(tick),
        }
    }

    /// The record of all ticks, of which there is at least one; afterwards there are none.
    pub(crate) fn take_record(&mut self) -> Vec<u8> {
        let record = encode(&self.schema, &self.ticks);
        self.ticks.clear();
        self.bytes = 0;
        record
    }
}

/// More bytes than a tick takes; `None` where it says what columns cannot. No session's does.
fn bytes_max(schema: &Schema, (input, result): &WholeTick) -> Option<usize> {
    let TickInput { tick, seat_changes, inputs } = input;
    let mut bytes = TICK_BYTES;
    for change in seat_changes {
        bytes += CHANGE_BYTES;
        if let SeatChange::Joined { name, .. } = change {
            bytes += name.len();
        }
    }
    for SeatInput { provenance, sequence, values, seen, .. } in inputs {
        let expected = if *provenance == Provenance::Fresh { schema.inputs.len() } else { 0 };
        let says_nothing = *sequence == 0 && seen.is_none();
        if values.len() != expected || *provenance != Provenance::Fresh && !says_nothing {
            return None;
        }
        bytes += seat_input_bytes(values.len());
    }
    let RecordedResult { tick: of, truth, events, .. } = result;
    for kind in &truth.kinds {
        let fields = schema.kind(kind.kind)?.fields.len();
        let mut differences = 0;
        for (_, mask) in &kind.changed {
            if bits(*mask).any(|i| i >= fields) {
                return None;
            }
            differences += mask.count_ones() as usize;
        }
        let ids = [
            rise(kind.despawned.iter().copied()),
            rise(kind.spawned.iter().map(|(id, _)| *id)),
            rise(kind.changed.iter().map(|(id, _)| *id)),
        ];
        let is_whole = kind.spawned.iter().all(|(_, values)| values.len() == fields);
        if ids.contains(&false) || !is_whole || differences != kind.differences.len() || kind.is_empty() {
            return None;
        }
        bytes += CHANGE_BYTES * (kind.despawned.len() + kind.spawned.len() + kind.changed.len());
        bytes += NUMBER_BYTES * (fields * kind.spawned.len() + differences);
    }
    for event in events {
        if schema.event(event.kind)?.fields.len() != event.values.len() || event.player.is_some_and(|id| id.0 == 0) {
            return None;
        }
        bytes += EVENT_BYTES + NUMBER_BYTES * event.values.len();
    }
    let in_order = tick == of
        && inputs.is_sorted_by(|a, b| a.player < b.player)
        && truth.kinds.is_sorted_by(|a, b| a.kind < b.kind)
        && events.is_sorted_by(|a, b| a.ordinal < b.ordinal);
    in_order.then_some(bytes)
}

/// More than a seat's input of so many values takes, with the masks of those that change.
const fn seat_input_bytes(values: usize) -> usize {
    SEAT_INPUT_BYTES + NUMBER_BYTES * (values + values.div_ceil(inputs::WORD_BITS))
}

/// Whether ids rise from 1.
fn rise(mut ids: impl Iterator<Item = NetId>) -> bool {
    ids.try_fold(NetId(0), |last, id| (id > last).then_some(id)).is_some()
}

fn encode(schema: &Schema, ticks: &[WholeTick]) -> Vec<u8> {
    let (first, last) = (ticks[0].0.tick, ticks[ticks.len() - 1].0.tick);
    let seat_changes = (0..).zip(ticks).flat_map(|(i, (input, _))| {
        input
            .seat_changes
            .iter()
            .map(move |change| pb::SeatChangeAt { tick: i, change: Some(record::seat_change_message(change)) })
    });
    record::with_checksum(&pb::TickBatch {
        first: first.0,
        last: last.0,
        state_hashes: ticks.iter().map(|(_, result)| result.state_hash).collect(),
        seat_changes: seat_changes.collect(),
        inputs: inputs::encode(schema.inputs.len(), ticks),
        truth: truth::encode(schema, ticks),
        events: events::encode(schema, ticks),
        crc32: 0,
    })
}

/// The ticks of a record, one after the other, or what is wrong with it.
pub(crate) fn decode(schema: &Schema, bytes: &[u8]) -> Result<Vec<WholeTick>, String> {
    let batch: pb::TickBatch = record::checked(bytes)?;
    let label = Label { first: batch.first, last: batch.last, state_hashes: batch.state_hashes };
    label.check()?;
    let begun = (label.first..=label.last).zip(label.state_hashes).map(|(tick, state_hash)| {
        let tick = Tick(tick);
        let input = TickInput { tick, ..TickInput::default() };
        (input, RecordedResult { tick, state_hash, ..RecordedResult::default() })
    });
    let mut ticks: Vec<WholeTick> = begun.collect();
    for pb::SeatChangeAt { tick, change } in batch.seat_changes {
        let change = change.ok_or("seat_changes.change: missing")?;
        let count = ticks.len();
        let (input, _) =
            ticks.get_mut(tick as usize).ok_or_else(|| format!("seat_changes.tick: {tick} is not one of {count}"))?;
        input.seat_changes.push(record::seat_change(change)?);
    }
    if let Some(columns) = &batch.inputs {
        inputs::decode(columns, schema.inputs.len(), &mut ticks).map_err(|error| format!("inputs.{error}"))?;
    }
    truth::decode(schema, &batch.truth, &mut ticks)?;
    events::decode(schema, &batch.events, &mut ticks)?;
    Ok(ticks)
}

/// What a batch says of all of its ticks: the first fields of its message, and nothing else.
#[derive(Clone, PartialEq, prost::Message)]
struct Label {
    #[prost(uint64, tag = "1")]
    first: u64,
    #[prost(uint64, tag = "2")]
    last: u64,
    #[prost(fixed64, repeated, tag = "3")]
    state_hashes: Vec<u64>,
}

impl Label {
    fn check(&self) -> Result<(), String> {
        let Self { first, last, state_hashes } = self;
        match last.checked_sub(*first) {
            Some(more) if more < TICKS_MAX as u64 && more + 1 == state_hashes.len() as u64 => Ok(()),
            _ => Err(format!("{} state hashes of ticks {first} to {last}", state_hashes.len())),
        }
    }
}

/// Which ticks there are in a batch, as its record says, and what they come to. Its checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchSpan {
    pub(crate) first: Tick,
    pub(crate) last: Tick,
    /// After the last tick.
    pub(crate) state_hash: u64,
}

impl BatchSpan {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let label: Label = record::checked(bytes)?;
        label.check()?;
        let Label { first, last, state_hashes } = label;
        let state_hash = state_hashes[state_hashes.len() - 1];
        Ok(Self { first: Tick(first), last: Tick(last), state_hash })
    }

    /// How many: at least one.
    pub(crate) fn count(&self) -> u64 {
        self.last.since(self.first) + 1
    }
}

/// A place among the ticks that only goes on: `by` further than `from`.
fn further(ticks: &[WholeTick], from: usize, by: u32) -> Result<usize, String> {
    let to = from.checked_add(by as usize).filter(|to| *to < ticks.len());
    to.ok_or_else(|| format!("a tick {by} after {from} is not one of {}", ticks.len()))
}

/// The numbers of a column, one after the other.
struct Column<'a, T> {
    name: &'static str,
    rest: std::slice::Iter<'a, T>,
}

impl<'a, T: Copy> Column<'a, T> {
    fn new(name: &'static str, numbers: &'a [T]) -> Self {
        Self { name, rest: numbers.iter() }
    }

    fn next(&mut self) -> Result<T, String> {
        self.rest.next().copied().ok_or_else(|| format!("{}: it ends too early", self.name))
    }

    fn end(mut self) -> Result<(), String> {
        if self.rest.next().is_none() { Ok(()) } else { Err(format!("{}: it has too many numbers", self.name)) }
    }
}

/// The columns of all fields, of which there are so many.
fn columns<'a>(
    name: &'static str,
    columns: &'a [pb::NumberColumn],
    fields: usize,
) -> Result<Vec<Column<'a, i32>>, String> {
    if columns.len() != fields {
        return Err(format!("{name}: {} columns of {fields} fields", columns.len()));
    }
    Ok(columns.iter().map(|column| Column::new(name, &column.numbers)).collect())
}

/// The bits of a mask that are set, from the lowest.
fn bits(mask: u32) -> impl Iterator<Item = usize> {
    (0..32).filter(move |i| mask >> i & 1 != 0)
}

#[cfg(test)]
mod tests;
