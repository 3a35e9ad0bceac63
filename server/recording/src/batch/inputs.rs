//! Players' inputs as columns.

use std::{collections::BTreeSet, mem};

use tickwire_proto::v1 as pb;
use tickwire_shared::{PlayerId, Provenance, Seen, Tick};
use tickwire_simulation::SeatInput;

use super::{BYTES_MAX, Column, WholeTick, bits, columns, seat_input_bytes};
use crate::record;

/// In a run: the player has no seat.
const NO_SEAT: u32 = 3;
/// By what a run's number of ticks is multiplied, to make room for what they are.
const RUN_STATES: u32 = 4;
/// A mask has so many bits; there may be more fields.
pub(super) const WORD_BITS: usize = 32;

pub(super) fn encode(fields: usize, ticks: &[WholeTick]) -> Option<pb::InputColumns> {
    let players: BTreeSet<PlayerId> =
        ticks.iter().flat_map(|(input, _)| &input.inputs).map(|input| input.player).collect();
    let mut columns = pb::InputColumns {
        players: players.iter().map(|player| player.0).collect(),
        values: vec![pb::NumberColumn::default(); fields],
        ..pb::InputColumns::default()
    };
    for player in &players {
        let mut before = Before::first(fields);
        let mut states = Vec::with_capacity(ticks.len());
        for (input, _) in ticks {
            let found = input.inputs.binary_search_by_key(player, |input| input.player).ok();
            let found = found.map(|i| &input.inputs[i]);
            states.push(found.map_or(NO_SEAT, |input| record::provenance_message(input.provenance) as u32));
            if let Some(fresh) = found.filter(|input| input.provenance == Provenance::Fresh) {
                before.encode(&mut columns, input.tick, fresh);
            }
        }
        let runs = states.chunk_by(|a, b| a == b);
        columns.runs.extend(runs.map(|run| run.len() as u32 * RUN_STATES + run[0]));
    }
    (!players.is_empty()).then_some(columns)
}

pub(super) fn decode(columns: &pb::InputColumns, fields: usize, ticks: &mut [WholeTick]) -> Result<(), String> {
    let mut runs = Column::new("runs", &columns.runs);
    let mut fresh = FreshColumns::new(columns, fields)?;
    // Few bytes can say that there are many inputs.
    let (mut last, mut room) = (None, BYTES_MAX);
    for player in columns.players.iter().copied().map(PlayerId) {
        if last >= Some(player) {
            return Err(format!("players: {} is not in rising order", player.0));
        }
        last = Some(player);
        let mut before = Before::first(fields);
        let mut at = 0;
        while at < ticks.len() {
            let run = runs.next()?;
            let (length, state) = ((run / RUN_STATES) as usize, run % RUN_STATES);
            if length == 0 || length > ticks.len() - at {
                return Err(format!("runs: {length} ticks, {at} after the first of {}", ticks.len()));
            }
            let those = &mut ticks[at..at + length];
            at += length;
            if state == NO_SEAT {
                continue;
            }
            let provenance = record::provenance(state as i32)?;
            let values = if provenance == Provenance::Fresh { fields } else { 0 };
            room = room.checked_sub(length * seat_input_bytes(values)).ok_or("runs: too many inputs for one batch")?;
            for (input, _) in those {
                let seat_input = match provenance {
                    Provenance::Fresh => before.decode(&mut fresh, input.tick, player)?,
                    provenance => SeatInput::without(player, provenance),
                };
                input.inputs.push(seat_input);
            }
        }
    }
    runs.end()?;
    fresh.end()
}

/// What a player's next fresh input is told from.
struct Before {
    /// How many ticks before its own the input's sequence says.
    sequence: u64,
    /// How many ticks before its own the tick was that the player saw.
    seen_tick: u64,
    values: Vec<i32>,
}

impl Before {
    fn first(fields: usize) -> Self {
        Self { sequence: 0, seen_tick: 0, values: vec![0; fields] }
    }

    fn encode(&mut self, columns: &mut pb::InputColumns, tick: Tick, input: &SeatInput) {
        let (seen_tick, seen_fraction) = Seen::to_wire(input.seen);
        columns.sequences.push(advance(&mut self.sequence, tick.0.wrapping_sub(input.sequence)));
        columns.seen_ticks.push(advance(&mut self.seen_tick, tick.0.wrapping_sub(seen_tick)));
        columns.seen_fractions.push(seen_fraction);
        let words = input.values.chunks(WORD_BITS).zip(self.values.chunks_mut(WORD_BITS));
        for (word, (values, before)) in words.enumerate() {
            let mut mask = 0;
            for (i, (value, before)) in values.iter().zip(before).enumerate() {
                if value != before {
                    mask |= 1 << i;
                    columns.values[word * WORD_BITS + i].numbers.push(value.wrapping_sub(*before));
                    *before = *value;
                }
            }
            columns.masks.push(mask);
        }
    }

    fn decode(&mut self, columns: &mut FreshColumns<'_>, tick: Tick, player: PlayerId) -> Result<SeatInput, String> {
        self.sequence = self.sequence.wrapping_add_signed(columns.sequences.next()?);
        self.seen_tick = self.seen_tick.wrapping_add_signed(columns.seen_ticks.next()?);
        let seen_tick = tick.0.wrapping_sub(self.seen_tick);
        let seen = Seen::parse(seen_tick, columns.seen_fractions.next()?).map_err(|error| error.to_string())?;
        for (word, before) in self.values.chunks_mut(WORD_BITS).enumerate() {
            let mask = columns.masks.next()?;
            for i in bits(mask) {
                let value = before.get_mut(i).ok_or("masks: a bit is that of no field")?;
                *value = value.wrapping_add(columns.values[word * WORD_BITS + i].next()?);
            }
        }
        let (sequence, values) = (tick.0.wrapping_sub(self.sequence), self.values.clone());
        Ok(SeatInput { player, provenance: Provenance::Fresh, sequence, values, seen })
    }
}

/// How far `to` is from where it was; that is where it is from now on.
fn advance(from: &mut u64, to: u64) -> i64 {
    to.wrapping_sub(mem::replace(from, to)).cast_signed()
}

/// What is said of fresh inputs.
struct FreshColumns<'a> {
    sequences: Column<'a, i64>,
    seen_ticks: Column<'a, i64>,
    seen_fractions: Column<'a, u32>,
    masks: Column<'a, u32>,
    values: Vec<Column<'a, i32>>,
}

impl<'a> FreshColumns<'a> {
    fn new(from: &'a pb::InputColumns, fields: usize) -> Result<Self, String> {
        Ok(Self {
            sequences: Column::new("sequences", &from.sequences),
            seen_ticks: Column::new("seen_ticks", &from.seen_ticks),
            seen_fractions: Column::new("seen_fractions", &from.seen_fractions),
            masks: Column::new("masks", &from.masks),
            values: columns("values", &from.values, fields)?,
        })
    }

    fn end(self) -> Result<(), String> {
        self.sequences.end()?;
        self.seen_ticks.end()?;
        self.seen_fractions.end()?;
        self.masks.end()?;
        self.values.into_iter().try_for_each(Column::end)
    }
}
