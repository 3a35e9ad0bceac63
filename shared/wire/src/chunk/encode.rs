//! Encoding a cell's change, straight into bytes: as protobuf would, without the messages between.

use bytes::{Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint};
use tickwire_shared::{
    Anchor, Column, Columns, KindId, Line, Motion, Ramp, Ramped, Reading,
    delta::{self, Step},
};

use super::{
    CellChange, KindLayout, Layout,
    events::{numbers_len, write_newest},
};
use crate::varint::{Gaps, varint_len, zigzag};

/// The numbers of `CellUpdate`'s and `KindUpdate`'s fields.
mod tag {
    pub(super) const CELL: u32 = 1;
    pub(super) const BASE_AGE: u32 = 2;
    pub(super) const KINDS: u32 = 3;
    pub(super) const EVENTS: u32 = 4;
    pub(super) const EVENTS_LOST: u32 = 5;
    pub(super) const HASH: u32 = 6;
    pub(super) const SLICE: u32 = 8;
    pub(super) const SLICES: u32 = 9;

    pub(super) const KIND: u32 = 1;
    /// `despawned`, `left`, `arrivals` and `changes` follow one another.
    pub(super) const FIRST_STREAM: u32 = 2;
}

/// The four streams of a kind, in the order of their fields.
const DESPAWNED: usize = 0;
const LEFT: usize = 1;
const ARRIVALS: usize = 2;
const CHANGES: usize = 3;

/// What a slice's own fields take beside its kinds and events: all of them, at their longest.
const SLICE_BYTES: usize = 40;
/// What a kind's message and its streams take beside their numbers, below 64 KiB.
const KIND_BYTES: usize = 24;
/// What a number takes at most.
const VARINT_BYTES_MAX: usize = 5;
/// Chunks are cut from blocks of at least this size, so that few of them cost an allocation.
const BLOCK_BYTES: usize = 16 * 1024;

/// Encodes updates of one game's cells.
#[derive(Debug)]
pub struct ChunkEncoder {
    layout: Layout,
}

/// Room that encoding uses again and again.
#[derive(Debug, Default)]
pub struct ChunkBuffer {
    /// What finished chunks are cut from.
    block: BytesMut,
    /// The kinds of all slices, one after the other, as `CellUpdate.kinds` fields.
    kinds: Vec<u8>,
    /// Where in `kinds` each slice ends.
    ends: Vec<usize>,
    /// The streams of the kind and slice under way.
    streams: [Vec<u8>; 4],
    numbers: Vec<u32>,
    /// For each row of a column how it differs from the base's.
    differences: Vec<u8>,
}

impl ChunkEncoder {
    /// An encoder for cells of this layout.
    #[must_use]
    pub const fn new(layout: Layout) -> Self {
        Self { layout }
    }

    /// Encodes a change as the bodies of one or more `CellUpdate` messages, appended to `bodies`: more than one where it
    /// would exceed `slice_bytes_max`, cut between entities. Events that would exceed it are left out, oldest first, and
    /// counted as lost.
    pub fn encode(
        &self,
        change: &CellChange<'_>,
        slice_bytes_max: usize,
        buffer: &mut ChunkBuffer,
        bodies: &mut Vec<Bytes>,
    ) {
        buffer.kinds.clear();
        buffer.ends.clear();
        let mut cutter = Cutter { buffer, bytes_max: slice_bytes_max.saturating_sub(SLICE_BYTES), slice_start: 0 };
        for (i, layout) in self.layout.kinds.iter().enumerate() {
            let base = change.base.map(|(_, base)| base.kinds[i].as_ref());
            let new = change.state.kinds[i].as_ref();
            if base.is_some_and(|base| std::ptr::eq(base, new)) {
                continue;
            }
            let mut kind = KindEncoder::new(KindId(i as u16), layout, change, &mut cutter);
            match base {
                Some(base) if base.ids == new.ids => kind.encode_changes(base, new),
                _ => kind.encode_merge(base, new),
            }
            kind.finish();
        }
        let end = cutter.buffer.kinds.len();
        buffer.ends.push(end);
        finish_slices(change, slice_bytes_max, buffer, bodies);
    }
}

/// Writes the messages around the kinds of each slice.
fn finish_slices(change: &CellChange<'_>, bytes_max: usize, buffer: &mut ChunkBuffer, bodies: &mut Vec<Bytes>) {
    let ChunkBuffer { block, kinds, ends, numbers, .. } = buffer;
    let bytes_max = bytes_max.saturating_sub(SLICE_BYTES);
    let left_out = write_newest(change.events.iter().copied(), change.tick, bytes_max, numbers);
    let events_lost = change.events_lost.saturating_add(left_out);
    let (last_start, end) = (ends.iter().nth_back(1).copied().unwrap_or(0), kinds.len());
    if end > last_start && end - last_start + numbers_len(numbers) > bytes_max && !numbers.is_empty() {
        // A slice of their own.
        ends.push(end);
    }
    let (count, mut start) = (ends.len(), 0);
    for (i, &end) in ends.iter().enumerate() {
        let is_last = i + 1 == count;
        let body = &kinds[start..end];
        start = end;
        let needed = SLICE_BYTES + body.len() + if is_last { numbers_len(numbers) } else { 0 };
        if block.capacity() < needed {
            block.reserve(needed.max(BLOCK_BYTES));
        }
        write_number(tag::CELL, change.cell.0, block);
        if change.base_age() != 1 {
            // With explicit presence: 0 is written, and 1, the usual age, is not.
            encode_key(tag::BASE_AGE, WireType::Varint, block);
            encode_varint(u64::from(change.base_age()), block);
        }
        block.extend_from_slice(body);
        if is_last {
            if !numbers.is_empty() {
                encode_key(tag::EVENTS, WireType::LengthDelimited, block);
                encode_varint(numbers_len(numbers) as u64, block);
                numbers.iter().for_each(|&number| encode_varint(u64::from(number), block));
            }
            write_number(tag::EVENTS_LOST, events_lost, block);
            if change.hash_due() {
                encode_key(tag::HASH, WireType::ThirtyTwoBit, block);
                block.extend_from_slice(&change.state.hash().to_le_bytes());
            }
        }
        if count > 1 {
            write_number(tag::SLICE, i as u32, block);
            write_number(tag::SLICES, count as u32, block);
        }
        bodies.push(block.split().freeze());
    }
}

fn write_number(tag: u32, number: u32, block: &mut BytesMut) {
    if number != 0 {
        encode_key(tag, WireType::Varint, block);
        encode_varint(u64::from(number), block);
    }
}

/// Where an entity's numbers go: into the current slice, or the next one where they would not fit.
struct Cutter<'a> {
    buffer: &'a mut ChunkBuffer,
    bytes_max: usize,
    /// Where in the kinds the current slice starts.
    slice_start: usize,
}

struct KindEncoder<'a, 'b> {
    kind: KindId,
    layout: &'a KindLayout,
    change: &'a CellChange<'a>,
    cutter: &'a mut Cutter<'b>,
    /// Of the four streams.
    gaps: [Gaps; 4],
    /// In the streams, of this kind and slice.
    bytes: usize,
}

impl<'a, 'b> KindEncoder<'a, 'b> {
    fn new(kind: KindId, layout: &'a KindLayout, change: &'a CellChange<'a>, cutter: &'a mut Cutter<'b>) -> Self {
        Self { kind, layout, change, cutter, gaps: gaps(), bytes: 0 }
    }

    /// The usual case: nobody came or went, so that rows stand side by side.
    fn encode_changes(&mut self, base: &Columns, new: &Columns) {
        let mut differences = std::mem::take(&mut self.cutter.buffer.differences);
        differences.clear();
        differences.resize(new.ids.len(), 0);
        differ(&base.motions, &new.motions, RESTATED, &mut differences);
        for columns in base.fields.iter().zip(&new.fields) {
            match columns {
                (Column::Plain(before), Column::Plain(after)) => differ(before, after, CHANGED, &mut differences),
                (Column::Anchored(before), Column::Anchored(after)) => differ(before, after, CHANGED, &mut differences),
                // Also where a motion is restated for the same tick, as right after spawning.
                (Column::Ramped(before), Column::Ramped(after)) => differ(before, after, RESTATED, &mut differences),
                _ => unreachable!("columns of one field are of one sort"),
            }
        }
        for (row, &difference) in differences.iter().enumerate().filter(|(_, difference)| **difference != 0) {
            self.push_change((base, row), (new, row), difference & RESTATED != 0);
        }
        self.cutter.buffer.differences = differences;
    }

    fn encode_merge(&mut self, base: Option<&Columns>, new: &Columns) {
        for step in delta::merge(base.map_or(&[], |base| &base.ids), &new.ids) {
            match step {
                Step::Gone(row) => {
                    let net_id = base.expect("only a base has rows that are gone").ids[row];
                    self.cutter.buffer.numbers.clear();
                    match self.change.places.get(net_id) {
                        None => self.push(DESPAWNED, row as u32),
                        Some((_, to_cell)) => {
                            self.cutter.buffer.numbers.push(to_cell.0);
                            self.push(LEFT, row as u32);
                        }
                    }
                }
                Step::Arrived(row) => {
                    let numbers = &mut self.cutter.buffer.numbers;
                    numbers.clear();
                    write_arrival(new, row, self.change, numbers);
                    self.push(ARRIVALS, new.ids[row].0);
                }
                Step::Stayed(base_row, row) => {
                    let base = (base.expect("only a base has rows that stay"), base_row);
                    self.push_change(base, (new, row), is_restated(base, (new, row)));
                }
            }
        }
    }

    fn push_change(&mut self, base: (&Columns, usize), new: (&Columns, usize), is_restated: bool) {
        let numbers = &mut self.cutter.buffer.numbers;
        numbers.clear();
        write_change(base, new, is_restated, self.layout, self.change, numbers);
        if numbers[0] != 0 {
            self.push(CHANGES, base.1 as u32);
        }
    }

    /// Appends an entity, whose numbers but the gap are ready, to a stream.
    fn push(&mut self, stream: usize, number: u32) {
        if !self.has_room() {
            self.flush();
            self.cutter.buffer.ends.push(self.cutter.buffer.kinds.len());
            self.cutter.slice_start = self.cutter.buffer.kinds.len();
            self.gaps = gaps();
        }
        let ChunkBuffer { streams, numbers, .. } = &mut *self.cutter.buffer;
        let stream_bytes = &mut streams[stream];
        let before = stream_bytes.len();
        stream_bytes.reserve((1 + numbers.len()) * VARINT_BYTES_MAX);
        push_varint(self.gaps[stream].gap_to(number), stream_bytes);
        numbers.iter().for_each(|&number| push_varint(number, stream_bytes));
        self.bytes += stream_bytes.len() - before;
    }

    /// Whether the entity whose numbers are ready fits the current slice; the first one always does.
    fn has_room(&self) -> bool {
        let numbers = &self.cutter.buffer.numbers;
        let slice = self.cutter.buffer.kinds.len() - self.cutter.slice_start;
        let with = |len| slice + KIND_BYTES + self.bytes + VARINT_BYTES_MAX + len;
        let is_first = slice + self.bytes == 0;
        // Only near the end need they be measured.
        is_first
            || with(numbers.len() * VARINT_BYTES_MAX) <= self.cutter.bytes_max
            || with(numbers_len(numbers)) <= self.cutter.bytes_max
    }

    /// Ends the kind's message of the current slice, where there is anything in it.
    fn flush(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let ChunkBuffer { streams, kinds, .. } = &mut *self.cutter.buffer;
        let kind = u64::from(self.kind.0);
        let packed = |stream: &Vec<u8>| match stream.len() {
            0 => 0,
            len => 1 + varint_len(len as u64) + len,
        };
        let len = streams.iter().map(packed).sum::<usize>() + if kind == 0 { 0 } else { 1 + varint_len(kind) };
        encode_key(tag::KINDS, WireType::LengthDelimited, kinds);
        encode_varint(len as u64, kinds);
        if kind != 0 {
            encode_key(tag::KIND, WireType::Varint, kinds);
            encode_varint(kind, kinds);
        }
        for (stream, number) in streams.iter_mut().zip(tag::FIRST_STREAM..).filter(|(stream, _)| !stream.is_empty()) {
            encode_key(number, WireType::LengthDelimited, kinds);
            encode_varint(stream.len() as u64, kinds);
            kinds.append(stream);
        }
        self.bytes = 0;
    }

    fn finish(mut self) {
        self.flush();
    }
}

fn gaps() -> [Gaps; 4] {
    [Gaps::of_positions(), Gaps::of_positions(), Gaps::of_ids(), Gaps::of_positions()]
}

/// Most numbers take one byte.
fn push_varint(number: u32, bytes: &mut Vec<u8>) {
    match number {
        0..0x80 => bytes.push(number as u8),
        0x80..0x4000 => bytes.extend_from_slice(&[number as u8 | 0x80, (number >> 7) as u8]),
        _ => encode_varint(u64::from(number), bytes),
    }
}

/// A row's difference: something of it changed; its motion was restated.
const CHANGED: u8 = 1;
const RESTATED: u8 = 2;

/// Marks the rows in which two columns differ.
fn differ<T: PartialEq>(before: &[T], after: &[T], mark: u8, differences: &mut [u8]) {
    for ((before, after), difference) in before.iter().zip(after).zip(differences) {
        *difference |= mark * u8::from(before != after);
    }
}

fn write_arrival(new: &Columns, row: usize, change: &CellChange<'_>, numbers: &mut Vec<u32>) {
    if let Some(motion) = new.motions.get(row) {
        numbers.extend([change.tick.since(motion.tick) as u32, u32::from(motion.ramp)]);
    }
    for column in &new.fields {
        match column {
            Column::Plain(values) => numbers.push(zigzag(values[row])),
            Column::Anchored(anchors) => {
                let Anchor { value, rate, tick: set } = anchors[row];
                numbers.extend([zigzag(value), zigzag(rate), change.tick.since(set) as u32]);
            }
            Column::Ramped(held) => {
                let Ramped { value, rate, to } = held[row];
                numbers.extend([zigzag(value), zigzag(to)]);
                if new.motions[row].ramp > 0 {
                    numbers.push(zigzag(rate.wrapping_sub(to)));
                }
            }
        }
    }
}

/// Mask first; 0 where nothing changed.
fn write_change(
    (base, base_row): (&Columns, usize),
    (new, row): (&Columns, usize),
    is_restated: bool,
    layout: &KindLayout,
    change: &CellChange<'_>,
    numbers: &mut Vec<u32>,
) {
    numbers.push(0);
    let mut mask = Mask::default();
    let restated = is_restated.then(|| (base.motions[base_row], new.motions[row]));
    if layout.has_motion {
        mask.push(restated.is_some());
    }
    if let Some((_, motion)) = restated {
        if change.base_age() > 1 {
            numbers.push(change.tick.since(motion.tick) as u32);
        }
        numbers.push(u32::from(motion.ramp));
    }
    for ((before, after), reading) in base.fields.iter().zip(&new.fields).zip(&layout.readings) {
        match (before, after, reading) {
            (Column::Plain(before), Column::Plain(after), _) => {
                if mask.push(before[base_row] != after[row]) {
                    numbers.push(zigzag(after[row].wrapping_sub(before[base_row])));
                }
            }
            (Column::Anchored(before), Column::Anchored(after), Reading::Line(line)) => {
                write_anchor(line, before[base_row], after[row], change, &mut mask, numbers);
            }
            (Column::Ramped(before), Column::Ramped(after), Reading::Ramp(ramp)) => match restated {
                Some((was, is)) => {
                    write_ramped(ramp, (&before[base_row], &was), (&after[row], &is), &mut mask, numbers);
                }
                None => mask.skip(2),
            },
            _ => unreachable!("columns of one field are of one sort, which is the field's"),
        }
    }
    numbers[0] = mask.bits;
}

/// Whether an entity's motion was restated between two rows: also where it was for the same tick, as right after spawning.
fn is_restated((base, base_row): (&Columns, usize), (new, row): (&Columns, usize)) -> bool {
    let values = base.fields.iter().zip(&new.fields).any(|columns| match columns {
        (Column::Ramped(before), Column::Ramped(after)) => before[base_row] != after[row],
        _ => false,
    });
    values || base.motions.get(base_row) != new.motions.get(row)
}

fn write_anchor(
    line: &Line,
    before: Anchor,
    after: Anchor,
    change: &CellChange<'_>,
    mask: &mut Mask,
    numbers: &mut Vec<u32>,
) {
    if !mask.push(before != after) {
        mask.skip(1);
        return;
    }
    numbers.push(zigzag(line.difference(&before, &after)));
    if mask.push(before.rate != after.rate) {
        numbers.push(zigzag(after.rate.wrapping_sub(before.rate)));
    }
    let age = change.tick.since(after.tick);
    debug_assert!(age < u64::from(change.base_age()), "an anchor that changed was set after the base");
    if change.base_age() > 1 {
        numbers.push(age as u32);
    }
}

/// First what parts from the prediction, which is seldom: the value and the rate at the start. Then where it is heading.
fn write_ramped(
    ramp: &Ramp,
    (before, was): (&Ramped, &Motion),
    (after, is): (&Ramped, &Motion),
    mask: &mut Mask,
    numbers: &mut Vec<u32>,
) {
    let value = ramp.difference((before, was), after.value, is.tick);
    let rate = if is.ramp == 0 { 0 } else { after.rate.wrapping_sub(ramp.slope(before, was, is.tick)) };
    if mask.push(value != 0 || rate != 0) {
        numbers.push(zigzag(value));
        if is.ramp > 0 {
            numbers.push(zigzag(rate));
        }
    }
    if mask.push(before.to != after.to) {
        numbers.push(zigzag(after.to.wrapping_sub(before.to)));
    }
}

/// A mask of changes, from the lowest bit.
#[derive(Default)]
struct Mask {
    bits: u32,
    len: u32,
}

impl Mask {
    fn push(&mut self, is_set: bool) -> bool {
        self.bits |= u32::from(is_set) << self.len;
        self.len += 1;
        is_set
    }

    fn skip(&mut self, bits: u32) {
        self.len += bits;
    }
}
