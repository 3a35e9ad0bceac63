//! Applying an update to what the receiver holds.
//!
//! In two steps, since a cut update's slices all name rows of the base by position: changes are made as they are read, while
//! comings and goings are noted, and made at the end.

use std::hint::black_box;

use tickwire_shared::{
    ANCHOR_AGE_MAX, Anchor, CellId, KindId, Line, Motion, NetId, RAMP_MAX, Ramp, Ramped, Reading, Tick,
};

use crate::{
    read::{KindMessage, Malformed, Numbers, Packed, UpdateMessage},
    rows::{RowLayout, RowMut, Rows},
    varint::{Gaps, unzigzag},
};

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

/// Which entities of one kind an update takes from a cell, and which it brings.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// In order of row, once it is finished.
    pub(crate) gone: Vec<Gone>,
    arrivals: Rows,
    /// Changes that were read, but not made yet.
    ahead: Vec<u32>,
    /// The ids of those that arrived, once it is finished.
    pub(crate) arrived: Vec<NetId>,
}

/// An entity that an update takes from a cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gone {
    pub(crate) row: u32,
    pub(crate) id: NetId,
    /// The cell that it is in now; `None`: gone from the session.
    pub(crate) to_cell: Option<CellId>,
}

/// Ids that a full cell brought are not kept room for.
const ARRIVED_MAX: usize = 64;

impl Moves {
    /// Makes ready for the next update.
    pub(crate) fn clear(&mut self) {
        self.gone.clear();
        self.arrivals.clear();
        self.arrived.clear();
        self.arrived.shrink_to(ARRIVED_MAX);
    }
}

/// What is wrong: which part, and why.
type Wrong = (&'static str, &'static str);

/// An update's ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// At which the rows stand.
    pub(crate) base: Tick,
    /// To which it leads.
    pub(crate) tick: Tick,
}

impl Step {
    const fn age(self) -> u64 {
        self.tick.since(self.base)
    }
}

/// Takes in one slice. `kinds` and `moves` are those of the cell, one per kind of the schema.
///
/// On an error the cell is in no defined condition and must be discarded.
pub(crate) fn read_slice(
    layouts: &[RowLayout],
    kinds: &mut [Rows],
    moves: &mut [Moves],
    slice: &UpdateMessage<'_>,
    step: Step,
) -> Result<(), ApplyError> {
    let bad = |(field, reason)| ApplyError::Bad { cell: CellId(slice.cell), field, reason };
    for update in slice.kinds() {
        let update = update.map_err(|Malformed { .. }| bad(("kinds", NO_PROTOBUF)))?;
        let i = update.kind as usize;
        let (Some(layout), Some(rows), Some(moves)) = (layouts.get(i), kinds.get_mut(i), moves.get_mut(i)) else {
            return Err(bad(("kinds.kind", "not in the schema")));
        };
        read_kind(layout, rows, moves, &update, step).map_err(bad)?;
    }
    Ok(())
}

/// Makes the moves that all slices noted.
pub(crate) fn finish(
    cell: CellId,
    layouts: &[RowLayout],
    kinds: &mut [Rows],
    moves: &mut [Moves],
) -> Result<(), ApplyError> {
    for ((layout, rows), moves) in layouts.iter().zip(kinds).zip(moves) {
        if !moves.gone.is_empty() {
            moves.gone.sort_unstable_by_key(|gone| gone.row);
            if moves.gone.windows(2).any(|pair| pair[0].row == pair[1].row) {
                return Err(ApplyError::Bad { cell, field: "kinds.despawned", reason: "an entity goes twice" });
            }
            rows.remove(layout, moves.gone.iter().map(|gone| gone.row as usize));
        }
        if !moves.arrivals.is_empty() {
            moves.arrived.extend(moves.arrivals.iter(layout).map(|row| row.id()));
            rows.insert(layout, &mut moves.arrivals);
        }
    }
    Ok(())
}

/// Compares what is held with the hash that the server states.
pub(crate) fn check_hash(
    cell: CellId,
    tick: Tick,
    layouts: &[RowLayout],
    kinds: &[Rows],
    stated: u32,
) -> Result<(), ApplyError> {
    let of_kind = |(i, (layout, rows)): (usize, (&RowLayout, &Rows))| rows.hash(layout, KindId(i as u16));
    let computed = layouts.iter().zip(kinds).enumerate().map(of_kind).fold(0, u32::wrapping_add);
    if computed == stated { Ok(()) } else { Err(ApplyError::Hash { cell, tick, stated, computed }) }
}

const NO_PROTOBUF: &str = "not a protobuf message of its kind";
const NO_NUMBER: &str = "it ends within a number";

fn read_kind(
    layout: &RowLayout,
    rows: &mut Rows,
    moves: &mut Moves,
    update: &KindMessage<'_>,
    step: Step,
) -> Result<(), Wrong> {
    let count = rows.len(layout);
    read_changes(layout, rows, &mut moves.ahead, update.changes.numbers(), step)?;
    read_arrivals(layout, rows, &mut moves.arrivals, update.arrivals.numbers(), step.tick)?;
    let mut note = |list: &Packed<'_>, field, to_cells: bool| {
        let (mut numbers, mut gaps) = (list.numbers(), Gaps::of_positions());
        while let Some(gap) = numbers.next() {
            let row = row_at(&mut gaps, gap, count, field)?;
            let to_cell = match to_cells {
                true => Some(CellId(numbers.next().ok_or((field, "a position without a cell"))?)),
                false => None,
            };
            moves.gone.push(Gone { row: row as u32, id: rows.get(layout, row).id(), to_cell });
        }
        end_of(&numbers, field)
    };
    note(&update.despawned, "kinds.despawned", false)?;
    note(&update.left, "kinds.left", true)
}

fn row_at(gaps: &mut Gaps, gap: u32, rows: usize, field: &'static str) -> Result<usize, Wrong> {
    let row = gaps.skip(gap).map(|row| row as usize);
    row.filter(|&row| row < rows).ok_or((field, "a position beyond the base's column"))
}

fn end_of(numbers: &Numbers<'_>, field: &'static str) -> Result<(), Wrong> {
    if numbers.is_empty() { Ok(()) } else { Err((field, NO_NUMBER)) }
}

/// How many entities' changes are read before they are made.
///
/// Of a thousand mirrors none is in the core's cache. The memory of all these rows is then under way at once, where else
/// each change would wait for its own.
const READ_AHEAD: usize = 32;

fn read_changes(
    layout: &RowLayout,
    rows: &mut Rows,
    ahead: &mut Vec<u32>,
    mut numbers: Numbers<'_>,
    step: Step,
) -> Result<(), Wrong> {
    const FIELD: &str = "kinds.changes";
    let (count, mut gaps) = (rows.len(layout), Gaps::of_positions());
    while !numbers.is_empty() {
        ahead.clear();
        let (mut changed, mut touched) = ([0; READ_AHEAD], 0);
        let mut changes = 0;
        while changes < READ_AHEAD
            && let Some(gap) = numbers.next()
        {
            changed[changes] = row_at(&mut gaps, gap, count, FIELD)?;
            copy_change(layout, &mut numbers, ahead, step).ok_or((FIELD, "it ends within an entity"))?;
            changes += 1;
        }
        if changes == 0 {
            break;
        }
        // In a loop of its own, so short that the core is through with it before the first of them is there.
        for &row in &changed[..changes] {
            touched ^= rows.touch(layout, row);
        }
        black_box(touched);
        let mut list = ahead.iter().copied();
        for &row in &changed[..changes] {
            let mut next = || list.next().ok_or((FIELD, "it ends within an entity"));
            let mask = next()?;
            if mask & !layout.mask != 0 {
                return Err((FIELD, "a mask with bits beyond the kind's fields"));
            }
            read_change(layout, &mut rows.get_mut(layout, row), &mut next, Mask(mask), step)?;
        }
    }
    end_of(&numbers, FIELD)
}

/// Copies the numbers of one entity's change, as many as its mask and its ramp call for.
fn copy_change(layout: &RowLayout, numbers: &mut Numbers<'_>, to: &mut Vec<u32>, step: Step) -> Option<()> {
    let mask = numbers.next()?;
    to.push(mask);
    let mut due = mask.count_ones();
    if step.age() > 1 {
        due += (mask & layout.aged).count_ones();
    }
    if layout.has_motion && mask & 1 != 0 {
        let mut ramp = 0;
        // Its age, where it has one, and its ramp.
        for _ in 0..1 + u32::from(step.age() > 1) {
            ramp = numbers.next()?;
            to.push(ramp);
            due -= 1;
        }
        if ramp > 0 {
            due += (mask & layout.ramped).count_ones();
        }
    }
    for _ in 0..due {
        to.push(numbers.next()?);
    }
    Some(())
}

fn read_change(
    layout: &RowLayout,
    row: &mut RowMut<'_>,
    next: &mut impl FnMut() -> Result<u32, Wrong>,
    mut bits: Mask,
    step: Step,
) -> Result<(), Wrong> {
    const FIELD: &str = "kinds.changes";
    let mut motions = None;
    if layout.has_motion && bits.pop() {
        let motion = read_motion(next, step)?;
        motions = Some((row.row().motion(step.base), motion));
        row.set_motion(motion);
    }
    for &(at, ref reading) in &layout.fields {
        // A new motion restates all that it moves, whatever the mask.
        if bits.is_empty() && motions.is_none() {
            break;
        }
        match reading {
            Reading::Plain => {
                if bits.pop() {
                    row.add_plain(at, unzigzag(next()?));
                }
            }
            Reading::Line(line) => {
                if bits.pop() {
                    let anchor = read_anchor(next, line, row.row().anchor(at, step.base), step, &mut bits)?;
                    row.set_anchor(at, anchor);
                } else if bits.pop() {
                    return Err((FIELD, "a rate without an anchor"));
                }
            }
            Reading::Ramp(ramp) => match &motions {
                Some(motions) => row.set_ramped(at, read_ramped(next, ramp, row.row().ramped(at), motions, &mut bits)?),
                None if bits.pop() | bits.pop() => return Err((FIELD, "a ramped value without a motion")),
                None => {}
            },
        }
    }
    Ok(())
}

fn read_arrivals(
    layout: &RowLayout,
    rows: &Rows,
    arrivals: &mut Rows,
    mut numbers: Numbers<'_>,
    tick: Tick,
) -> Result<(), Wrong> {
    const FIELD: &str = "kinds.arrivals";
    let mut gaps = Gaps::of_ids();
    let mut before = arrivals.iter(layout).next_back().map_or(NetId::NONE, |row| row.id());
    while let Some(gap) = numbers.next() {
        let id = NetId(gaps.skip(gap).ok_or((FIELD, "an id beyond 32 bits"))?);
        if before >= id {
            return Err((FIELD, "ids that do not rise from slice to slice"));
        }
        if rows.find(layout, id).is_some() {
            return Err((FIELD, "an entity arrives that the base holds"));
        }
        before = id;
        let mut row = arrivals.push(layout, id);
        let mut next = || numbers.next().ok_or((FIELD, "it ends within an entity"));
        let mut ramp = 0;
        if layout.has_motion {
            let motion = Motion { tick: tick_of_age(next()?, tick)?, ramp: read_ramp(next()?)? };
            row.set_motion(motion);
            ramp = motion.ramp;
        }
        for &(at, reading) in &layout.fields {
            match reading {
                Reading::Plain => row.set_plain(at, unzigzag(next()?)),
                Reading::Line(_) => {
                    let (value, rate) = (unzigzag(next()?), unzigzag(next()?));
                    row.set_anchor(at, Anchor { value, rate, tick: tick_of_age(next()?, tick)? });
                }
                Reading::Ramp(_) => {
                    let (value, to) = (unzigzag(next()?), unzigzag(next()?));
                    let rate = if ramp > 0 { to.wrapping_add(unzigzag(next()?)) } else { to };
                    row.set_ramped(at, Ramped { value, rate, to });
                }
            }
        }
    }
    end_of(&numbers, FIELD)
}

/// A mask of changes, read from the lowest bit.
pub(super) struct Mask(pub(super) u32);

impl Mask {
    pub(super) fn pop(&mut self) -> bool {
        let bit = self.0 & 1 != 0;
        self.0 >>= 1;
        bit
    }

    const fn is_empty(&self) -> bool {
        self.0 == 0
    }
}

fn tick_of_age(age: u32, tick: Tick) -> Result<Tick, Wrong> {
    let age = u64::from(age);
    if age > ANCHOR_AGE_MAX || age > tick.0 {
        return Err(("kinds.arrivals", "an anchor or a motion older than 2^31 - 1 ticks or the session"));
    }
    Ok(Tick(tick.0 - age))
}

fn read_ramp(ramp: u32) -> Result<u16, Wrong> {
    u16::try_from(ramp).ok().filter(|&ramp| ramp <= RAMP_MAX).ok_or(("kinds", "a ramp of more than 256 ticks"))
}

/// A motion is stated for the tick before the one at which the truth left it, so its age is at least 1.
fn read_motion(next: &mut impl FnMut() -> Result<u32, Wrong>, step: Step) -> Result<Motion, Wrong> {
    let base_age = step.age();
    let age = if base_age > 1 { u64::from(next()?) } else { 1 };
    if age == 0 || age > base_age {
        return Err(("kinds.changes", "a motion older than the base, or of the update's own tick"));
    }
    Ok(Motion { tick: Tick(step.tick.0 - age), ramp: read_ramp(next()?)? })
}

fn read_anchor(
    next: &mut impl FnMut() -> Result<u32, Wrong>,
    line: &Line,
    base: Anchor,
    step: Step,
    bits: &mut Mask,
) -> Result<Anchor, Wrong> {
    let difference = unzigzag(next()?);
    let rate = if bits.pop() { unzigzag(next()?) } else { 0 };
    let age = if step.age() > 1 { u64::from(next()?) } else { 0 };
    if age >= step.age() {
        return Err(("kinds.changes", "an anchor older than the base"));
    }
    let tick = Tick(step.tick.0 - age);
    Ok(Anchor { value: line.apply(&base, tick, difference), rate: base.rate.wrapping_add(rate), tick })
}

fn read_ramped(
    next: &mut impl FnMut() -> Result<u32, Wrong>,
    ramp: &Ramp,
    base: Ramped,
    (was, is): &(Motion, Motion),
    bits: &mut Mask,
) -> Result<Ramped, Wrong> {
    let (mut value, mut rate) = (0, 0);
    if bits.pop() {
        value = unzigzag(next()?);
        rate = if is.ramp > 0 { unzigzag(next()?) } else { 0 };
    }
    let to = if bits.pop() { base.to.wrapping_add(unzigzag(next()?)) } else { base.to };
    let rate = if is.ramp == 0 { to } else { ramp.slope(&base, was, is.tick).wrapping_add(rate) };
    Ok(Ramped { value: ramp.apply((&base, was), is.tick, value), rate, to })
}
