//! How one cell changed from a base tick to a tick: encoding and applying, side by side.
//!
//! Both walk the same streams of numbers (`KindUpdate` in `game.proto`). Encoding merges two columns in order of NetId;
//! applying names rows of the base by position, so that no id is sent twice.

use std::sync::Arc;

use prost::Message as _;
use tickwire_proto::v1 as pb;
use tickwire_shared::{
    ANCHOR_AGE_MAX, Anchor, CellId, CellState, Column, Columns, Event, EventId, Kind, KindId, Line, NetId, Places,
    Schema, Tick,
    delta::{self, Step},
    mask_bits,
};

use crate::varint::{Gaps, unzigzag, varint_len, zigzag};

/// What an update is made of.
#[derive(Clone, Debug)]
pub struct CellChange<'a> {
    /// Which cell.
    pub cell: CellId,
    /// What the receiver holds, and its tick; `None`: nothing.
    pub base: Option<(Tick, &'a CellState)>,
    /// The tick that the update leads to.
    pub tick: Tick,
    /// The cell at `tick`.
    pub state: &'a CellState,
    /// Where entities are at `tick`.
    pub places: &'a Places,
    /// The cell's events of (base, tick], or of `tick` alone without a base; in order of tick and ordinal.
    pub events: &'a [(Tick, &'a Event)],
    /// Events of the same ticks that are not among them.
    pub events_lost: u32,
    /// N: the hash is due when ⌊tick / N⌋ > ⌊base / N⌋.
    pub hash_interval: u32,
}

impl CellChange<'_> {
    fn base_age(&self) -> u32 {
        // An age that does not fit 32 bits is no base: history is much shorter.
        self.base.map_or(0, |(tick, _)| self.tick.since(tick) as u32)
    }

    fn hash_due(&self) -> bool {
        let interval = u64::from(self.hash_interval.max(1));
        self.base.is_none_or(|(base, _)| self.tick.0 / interval > base.0 / interval)
    }
}

/// What of a schema the streams of numbers depend on.
#[derive(Clone, Debug)]
pub struct Layout {
    kinds: Vec<KindLayout>,
}

#[derive(Clone, Debug)]
struct KindLayout {
    /// Of the public fields, in their order.
    lines: Vec<Option<Line>>,
    /// All bits that a mask of changes can have.
    mask: u32,
}

impl Layout {
    /// The layout of a game's cells.
    #[must_use]
    pub fn of(schema: &Schema) -> Self {
        let kind = |kind: &Kind| {
            let bits: usize = kind.public_fields().map(|(_, field)| mask_bits(field)).sum();
            KindLayout {
                lines: kind.public_fields().map(|(_, field)| field.line()).collect(),
                mask: ((1_u64 << bits) - 1) as u32,
            }
        };
        Self { kinds: schema.kinds.iter().map(kind).collect() }
    }
}

/// Encodes updates of one game's cells.
#[derive(Debug)]
pub struct ChunkEncoder {
    layout: Layout,
}

impl ChunkEncoder {
    /// An encoder for cells of this layout.
    #[must_use]
    pub const fn new(layout: Layout) -> Self {
        Self { layout }
    }

    /// Encodes a change as the bodies of one or more `CellUpdate` messages: more than one where it would exceed
    /// `slice_bytes_max`, cut between entities. Events that would exceed it are left out, oldest first, and counted as
    /// lost.
    pub fn encode(&self, change: &CellChange<'_>, slice_bytes_max: usize) -> Vec<Vec<u8>> {
        let mut slices = Vec::new();
        let mut cutter = Cutter { slices: &mut slices, bytes: 0, bytes_max: slice_bytes_max, change };
        cutter.start_slice();
        for (i, layout) in self.layout.kinds.iter().enumerate() {
            let base = change.base.map(|(_, base)| base.kinds[i].as_ref());
            let new = change.state.kinds[i].as_ref();
            if base.is_some_and(|base| std::ptr::eq(base, new)) {
                continue;
            }
            encode_kind(KindId(i as u16), layout, base, new, change, &mut cutter);
        }

        let count = slices.len();
        let last = slices.last_mut().expect("a slice was started");
        encode_events(change, slice_bytes_max, last);
        last.hash = change.hash_due().then(|| change.state.hash());
        if count > 1 {
            for (i, slice) in slices.iter_mut().enumerate() {
                slice.slice = i as u32;
                slice.slices = count as u32;
            }
        }
        slices.iter().map(prost::Message::encode_to_vec).collect()
    }
}

/// Where an entity's numbers go: into the current slice, or the next one where they would not fit.
struct Cutter<'a> {
    slices: &'a mut Vec<pb::CellUpdate>,
    bytes: usize,
    bytes_max: usize,
    change: &'a CellChange<'a>,
}

/// The gaps of one kind's four streams in one slice.
struct KindGaps {
    despawned: Gaps,
    left: Gaps,
    arrivals: Gaps,
    changes: Gaps,
    slice: usize,
}

impl Cutter<'_> {
    fn start_slice(&mut self) {
        let update =
            pb::CellUpdate { cell: self.change.cell.0, base_age: self.change.base_age(), ..pb::CellUpdate::default() };
        self.bytes = update.encoded_len();
        self.slices.push(update);
    }

    /// The streams that take an entity whose numbers are about `bytes` long.
    fn kind(&mut self, kind: KindId, bytes: usize, gaps: &mut Option<KindGaps>) -> &mut pb::KindUpdate {
        // What a kind's message and its streams cost beside their numbers.
        const KIND_BYTES: usize = 24;
        let has_entities = self.slices.last().is_some_and(|slice| !slice.kinds.is_empty());
        if has_entities && self.bytes + bytes > self.bytes_max {
            self.start_slice();
        }
        let slice = self.slices.len() - 1;
        if gaps.as_ref().is_none_or(|gaps| gaps.slice != slice) {
            *gaps = Some(KindGaps {
                despawned: Gaps::of_positions(),
                left: Gaps::of_positions(),
                arrivals: Gaps::of_ids(),
                changes: Gaps::of_positions(),
                slice,
            });
            self.slices[slice].kinds.push(pb::KindUpdate { kind: u32::from(kind.0), ..pb::KindUpdate::default() });
            self.bytes += KIND_BYTES;
        }
        self.bytes += bytes;
        self.slices[slice].kinds.last_mut().expect("pushed with the gaps")
    }
}

fn encode_kind(
    id: KindId,
    layout: &KindLayout,
    base: Option<&Columns>,
    new: &Columns,
    change: &CellChange<'_>,
    cutter: &mut Cutter<'_>,
) {
    let base_age = change.base_age();
    let mut gaps = None;
    let mut numbers = Vec::new();
    for step in delta::merge(base.map_or(&[], |base| &base.ids), &new.ids) {
        numbers.clear();
        match step {
            Step::Gone(row) => {
                let net_id = base.expect("only a base has rows that are gone").ids[row];
                let streams = cutter.kind(id, 7, &mut gaps);
                let gaps = gaps.as_mut().expect("set by the cutter");
                match change.places.get(net_id) {
                    None => streams.despawned.push(gaps.despawned.gap_to(row as u32)),
                    Some((_, to_cell)) => streams.left.extend([gaps.left.gap_to(row as u32), to_cell.0]),
                }
            }
            Step::Arrived(row) => {
                push_arrival(new, row, change.tick, &mut numbers);
                let streams = cutter.kind(id, 5 + stream_len(&numbers), &mut gaps);
                let gaps = gaps.as_mut().expect("set by the cutter");
                streams.arrivals.push(gaps.arrivals.gap_to(new.ids[row].0));
                streams.arrivals.extend_from_slice(&numbers);
            }
            Step::Stayed(base_row, row) => {
                let base = base.expect("only a base has rows that stay");
                push_change((base, base_row), (new, row), &layout.lines, (change.tick, base_age), &mut numbers);
                if numbers[0] == 0 {
                    continue;
                }
                let streams = cutter.kind(id, 5 + stream_len(&numbers), &mut gaps);
                let gaps = gaps.as_mut().expect("set by the cutter");
                streams.changes.push(gaps.changes.gap_to(base_row as u32));
                streams.changes.extend_from_slice(&numbers);
            }
        }
    }
}

fn stream_len(numbers: &[u32]) -> usize {
    numbers.iter().map(|&number| varint_len(u64::from(number))).sum()
}

fn push_arrival(new: &Columns, row: usize, tick: Tick, numbers: &mut Vec<u32>) {
    for column in &new.fields {
        match column {
            Column::Plain(values) => numbers.push(zigzag(values[row])),
            Column::Anchored(anchors) => {
                let Anchor { value, rate, tick: set } = anchors[row];
                numbers.extend([zigzag(value), zigzag(rate), tick.since(set) as u32]);
            }
        }
    }
}

/// Mask first; 0 where nothing changed.
fn push_change(
    (base, base_row): (&Columns, usize),
    (new, row): (&Columns, usize),
    lines: &[Option<Line>],
    (tick, base_age): (Tick, u32),
    numbers: &mut Vec<u32>,
) {
    numbers.push(0);
    let (mut mask, mut bit) = (0, 0);
    for ((before, after), line) in base.fields.iter().zip(&new.fields).zip(lines) {
        match (before, after) {
            (Column::Plain(before), Column::Plain(after)) => {
                if before[base_row] != after[row] {
                    mask |= 1 << bit;
                    numbers.push(zigzag(after[row].wrapping_sub(before[base_row])));
                }
                bit += 1;
            }
            (Column::Anchored(before), Column::Anchored(after)) => {
                let (before, after) = (before[base_row], after[row]);
                if before != after {
                    let line = line.expect("an anchored column belongs to a linear field");
                    mask |= 1 << bit;
                    numbers.push(zigzag(line.difference(&before, &after)));
                    if before.rate != after.rate {
                        mask |= 2 << bit;
                        numbers.push(zigzag(after.rate.wrapping_sub(before.rate)));
                    }
                    let age = tick.since(after.tick);
                    debug_assert!(age < u64::from(base_age), "an anchor that changed was set after the base");
                    if base_age > 1 {
                        numbers.push(age as u32);
                    }
                }
                bit += 2;
            }
            _ => unreachable!("columns of one field are of one sort"),
        }
    }
    numbers[0] = mask;
}

fn encode_events(change: &CellChange<'_>, bytes_max: usize, update: &mut pb::CellUpdate) {
    let (mut bytes, mut kept, mut numbers) = (0, 0, Vec::new());
    for event in change.events.iter().rev() {
        numbers.clear();
        write_event(*event, change.tick, &mut numbers);
        bytes += stream_len(&numbers);
        if bytes > bytes_max {
            break;
        }
        kept += 1;
    }
    let skipped = change.events.len() - kept;
    for event in &change.events[skipped..] {
        write_event(*event, change.tick, &mut update.events);
    }
    update.events_lost = change.events_lost.saturating_add(skipped as u32);
}

/// An update that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A number that leads nowhere.
    #[error("cell {cell}: {field}: {reason}")]
    Bad {
        /// Which cell.
        cell: CellId,
        /// Which part of the update.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The cell's hash differs from the server's.
    #[error("cell {cell} at tick {tick}: its hash is {computed:#010x}, the server's is {stated:#010x}")]
    Hash {
        /// Which cell.
        cell: CellId,
        /// When.
        tick: Tick,
        /// The server's.
        stated: u32,
        /// What the applied state makes.
        computed: u32,
    },
}

/// Which entities an update took from a cell, and which it brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// Gone from the session.
    pub despawned: Vec<NetId>,
    /// In another cell now.
    pub left: Vec<(NetId, CellId)>,
    /// Here now.
    pub arrived: Vec<NetId>,
}

/// Applies all slices of one update (one, where it was not cut) to what the receiver holds, in place.
///
/// `base` is the tick of `state`, `tick` that of the update. On an error `state` is in no defined condition and must be
/// discarded; a hash, where there is one, has been checked.
///
/// # Errors
/// Where a position, id, kind, mask or age is out of range, an entity arrives twice, or the hash differs.
pub fn apply(
    layout: &Layout,
    state: &mut CellState,
    slices: &[pb::CellUpdate],
    (base, tick): (Tick, Tick),
) -> Result<Moves, ApplyError> {
    let mut moves = Moves::default();
    let Some(last) = slices.last() else { return Ok(moves) };
    let cell = CellId(last.cell);
    let bad = |(field, reason)| ApplyError::Bad { cell, field, reason };
    let updates = || slices.iter().flat_map(|slice| &slice.kinds);
    if updates().any(|update| update.kind as usize >= layout.kinds.len()) {
        return Err(bad(("kinds.kind", "not in the schema")));
    }
    for (i, layout) in layout.kinds.iter().enumerate() {
        let mut updates = updates().filter(|update| update.kind as usize == i).peekable();
        if updates.peek().is_some() {
            let mut applier = KindApplier::new(layout, Arc::make_mut(&mut state.kinds[i]), tick, tick.since(base));
            updates.try_for_each(|update| applier.read(update)).map_err(bad)?;
            applier.finish(&mut moves).map_err(bad)?;
        }
    }
    if let Some(stated) = last.hash {
        let computed = state.hash();
        if computed != stated {
            return Err(ApplyError::Hash { cell, tick, stated, computed });
        }
    }
    Ok(moves)
}

type Wrong = (&'static str, &'static str);

struct KindApplier<'a> {
    layout: &'a KindLayout,
    columns: &'a mut Columns,
    tick: Tick,
    base_age: u64,
    /// Rows of the base.
    despawned: Vec<u32>,
    left: Vec<(u32, CellId)>,
    arrivals: Option<Columns>,
}

impl<'a> KindApplier<'a> {
    fn new(layout: &'a KindLayout, columns: &'a mut Columns, tick: Tick, base_age: u64) -> Self {
        Self { layout, columns, tick, base_age, despawned: Vec::new(), left: Vec::new(), arrivals: None }
    }

    /// Takes in one slice: changes are made at once, since positions stay; comings and goings wait for all slices.
    fn read(&mut self, update: &pb::KindUpdate) -> Result<(), Wrong> {
        self.read_changes(&update.changes)?;
        self.read_arrivals(&update.arrivals)?;
        let mut gaps = Gaps::of_positions();
        for &gap in &update.despawned {
            let row = self.row(&mut gaps, gap, "kinds.despawned")?;
            self.despawned.push(row as u32);
        }
        let mut gaps = Gaps::of_positions();
        let pairs = update.left.chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return Err(("kinds.left", "a position without a cell"));
        }
        for pair in pairs {
            let row = self.row(&mut gaps, pair[0], "kinds.left")?;
            self.left.push((row as u32, CellId(pair[1])));
        }
        Ok(())
    }

    fn row(&self, gaps: &mut Gaps, gap: u32, field: &'static str) -> Result<usize, Wrong> {
        let row = gaps.skip(gap).map(|row| row as usize);
        row.filter(|&row| row < self.columns.ids.len()).ok_or((field, "a position beyond the base's column"))
    }

    fn read_changes(&mut self, numbers: &[u32]) -> Result<(), Wrong> {
        const FIELD: &str = "kinds.changes";
        let mut numbers = numbers.iter().copied();
        let mut gaps = Gaps::of_positions();
        while let Some(gap) = numbers.next() {
            let row = self.row(&mut gaps, gap, FIELD)?;
            let mut next = || numbers.next().ok_or((FIELD, "it ends within an entity"));
            let mask = next()?;
            if mask & !self.layout.mask != 0 {
                return Err((FIELD, "a mask with bits beyond the kind's fields"));
            }
            let mut bit = 0;
            for (column, line) in self.columns.fields.iter_mut().zip(&self.layout.lines) {
                let bits = mask >> bit;
                match (column, line) {
                    (Column::Anchored(anchors), Some(line)) => {
                        bit += 2;
                        if bits & 1 == 0 {
                            continue;
                        }
                        let base = anchors[row];
                        let difference = unzigzag(next()?);
                        let rate = if bits & 2 == 0 { 0 } else { unzigzag(next()?) };
                        let age = if self.base_age > 1 { u64::from(next()?) } else { 0 };
                        if age >= self.base_age {
                            return Err((FIELD, "an anchor older than the base"));
                        }
                        let tick = Tick(self.tick.0 - age);
                        anchors[row] = Anchor {
                            value: line.apply(&base, tick, difference),
                            rate: base.rate.wrapping_add(rate),
                            tick,
                        };
                    }
                    (Column::Plain(values), _) => {
                        bit += 1;
                        if bits & 1 != 0 {
                            values[row] = values[row].wrapping_add(unzigzag(next()?));
                        }
                    }
                    (Column::Anchored(_), None) => unreachable!("an anchored column belongs to a linear field"),
                }
            }
        }
        Ok(())
    }

    fn read_arrivals(&mut self, numbers: &[u32]) -> Result<(), Wrong> {
        const FIELD: &str = "kinds.arrivals";
        if numbers.is_empty() {
            return Ok(());
        }
        let arrivals = self.arrivals.get_or_insert_with(|| self.columns.without_rows());
        let mut numbers = numbers.iter().copied();
        let mut gaps = Gaps::of_ids();
        while let Some(gap) = numbers.next() {
            let id = NetId(gaps.skip(gap).ok_or((FIELD, "an id beyond 32 bits"))?);
            if arrivals.ids.last().is_some_and(|&before| before >= id) {
                return Err((FIELD, "ids that do not rise from slice to slice"));
            }
            arrivals.ids.push(id);
            let mut next = || numbers.next().ok_or((FIELD, "it ends within an entity"));
            for column in &mut arrivals.fields {
                match column {
                    Column::Plain(values) => values.push(unzigzag(next()?)),
                    Column::Anchored(anchors) => {
                        let (value, rate, age) = (unzigzag(next()?), unzigzag(next()?), u64::from(next()?));
                        if age > ANCHOR_AGE_MAX || age > self.tick.0 {
                            return Err((FIELD, "an anchor older than 2^31 - 1 ticks or the session"));
                        }
                        anchors.push(Anchor { value, rate, tick: Tick(self.tick.0 - age) });
                    }
                }
            }
        }
        Ok(())
    }

    fn finish(self, moves: &mut Moves) -> Result<(), Wrong> {
        if self.despawned.is_empty() && self.left.is_empty() && self.arrivals.is_none() {
            return Ok(());
        }
        let arrivals = self.arrivals.unwrap_or_else(|| self.columns.without_rows());
        let mut gone = vec![false; self.columns.ids.len()];
        for &row in self.despawned.iter().chain(self.left.iter().map(|(row, _)| row)) {
            if std::mem::replace(&mut gone[row as usize], true) {
                return Err(("kinds.despawned", "an entity goes twice"));
            }
        }
        moves.despawned.extend(self.despawned.iter().map(|&row| self.columns.ids[row as usize]));
        moves.left.extend(self.left.iter().map(|&(row, to)| (self.columns.ids[row as usize], to)));
        moves.arrived.extend_from_slice(&arrivals.ids);

        let base = std::mem::replace(self.columns, self.columns.without_rows());
        for step in delta::merge(&base.ids, &arrivals.ids) {
            match step {
                Step::Gone(row) if gone[row] => {}
                Step::Gone(row) => push_row(self.columns, &base, row),
                Step::Arrived(row) => push_row(self.columns, &arrivals, row),
                Step::Stayed(..) => return Err(("kinds.arrivals", "an entity arrives that the base holds")),
            }
        }
        Ok(())
    }
}

fn push_row(to: &mut Columns, from: &Columns, row: usize) {
    to.ids.push(from.ids[row]);
    for (to, from) in to.fields.iter_mut().zip(&from.fields) {
        to.push_from(from, row);
    }
}

/// An event as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedEvent {
    /// When it happened.
    pub tick: Tick,
    /// The event.
    pub event: Event,
}

/// Reads a stream of events that was sent with an update leading to `tick`.
///
/// # Errors
/// Where a kind is not in the schema, an age leads before tick 0, or the stream ends within an event.
pub fn read_events(schema: &Schema, numbers: &[u32], tick: Tick) -> Result<Vec<ReceivedEvent>, &'static str> {
    let mut numbers = numbers.iter().copied();
    let mut events = Vec::new();
    while let Some(kind) = numbers.next() {
        let mut next = || numbers.next().ok_or("it ends within an event");
        let (age, ordinal) = (u64::from(next()?), next()?);
        let kind = EventId(u16::try_from(kind).map_err(|_| "a kind of event beyond the schema")?);
        let fields = &schema.event(kind).ok_or("a kind of event beyond the schema")?.fields;
        let tick = Tick(tick.0.checked_sub(age).ok_or("an event from before tick 0")?);
        let values = fields.iter().map(|_| next().map(unzigzag)).collect::<Result<_, _>>()?;
        events.push(ReceivedEvent { tick, event: Event { kind, ordinal, values } });
    }
    Ok(events)
}

/// Appends an event to a stream of numbers, for an update leading to `tick`.
pub fn write_event((happened, event): (Tick, &Event), tick: Tick, numbers: &mut Vec<u32>) {
    numbers.extend([u32::from(event.kind.0), tick.since(happened) as u32, event.ordinal]);
    numbers.extend(event.values.iter().map(|&value| zigzag(value)));
}
