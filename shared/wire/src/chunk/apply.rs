//! Applying an update to what the receiver holds.

use std::sync::Arc;

use tickwire_proto::v1 as pb;
use tickwire_shared::{
    ANCHOR_AGE_MAX, Anchor, CellId, CellState, Column, Columns, Line, Motion, NetId, RAMP_MAX, Ramp, Ramped, Reading,
    Tick,
    delta::{self, Step},
};

use super::{KindLayout, Layout};
use crate::varint::{Gaps, unzigzag};

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
            let mut bits = Mask(mask);
            let mut motions = None;
            if self.layout.has_motion && bits.pop() {
                let motion = read_motion(&mut next, (self.tick, self.base_age))?;
                motions = Some((self.columns.motions[row], motion));
                self.columns.motions[row] = motion;
            }
            for (column, reading) in self.columns.fields.iter_mut().zip(&self.layout.readings) {
                match (column, reading) {
                    (Column::Anchored(anchors), Reading::Line(line)) => {
                        if bits.pop() {
                            anchors[row] =
                                read_anchor(&mut next, line, anchors[row], (self.tick, self.base_age), &mut bits)?;
                        } else if bits.pop() {
                            return Err((FIELD, "a rate without an anchor"));
                        }
                    }
                    (Column::Plain(values), _) => {
                        if bits.pop() {
                            values[row] = values[row].wrapping_add(unzigzag(next()?));
                        }
                    }
                    (Column::Ramped(held), Reading::Ramp(ramp)) => match &motions {
                        Some(motions) => held[row] = read_ramped(&mut next, ramp, held[row], motions, &mut bits)?,
                        None if bits.pop() | bits.pop() => return Err((FIELD, "a ramped value without a motion")),
                        None => {}
                    },
                    _ => unreachable!("columns of one field are of one sort, which is the field's"),
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
            let mut ramp = 0;
            if self.layout.has_motion {
                let motion = Motion { tick: tick_of_age(next()?, self.tick)?, ramp: read_ramp(next()?)? };
                arrivals.motions.push(motion);
                ramp = motion.ramp;
            }
            for column in &mut arrivals.fields {
                match column {
                    Column::Plain(values) => values.push(unzigzag(next()?)),
                    Column::Anchored(anchors) => {
                        let (value, rate) = (unzigzag(next()?), unzigzag(next()?));
                        anchors.push(Anchor { value, rate, tick: tick_of_age(next()?, self.tick)? });
                    }
                    Column::Ramped(held) => {
                        let (value, to) = (unzigzag(next()?), unzigzag(next()?));
                        let rate = if ramp > 0 { to.wrapping_add(unzigzag(next()?)) } else { to };
                        held.push(Ramped { value, rate, to });
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
                Step::Gone(row) => self.columns.push_from(&base, row),
                Step::Arrived(row) => self.columns.push_from(&arrivals, row),
                Step::Stayed(..) => return Err(("kinds.arrivals", "an entity arrives that the base holds")),
            }
        }
        Ok(())
    }
}

/// A mask of changes, read from the lowest bit.
pub(super) struct Mask(pub(super) u32);

impl Mask {
    pub(super) fn pop(&mut self) -> bool {
        let bit = self.0 & 1 != 0;
        self.0 >>= 1;
        bit
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
fn read_motion(next: &mut impl FnMut() -> Result<u32, Wrong>, (tick, base_age): (Tick, u64)) -> Result<Motion, Wrong> {
    let age = if base_age > 1 { u64::from(next()?) } else { 1 };
    if age == 0 || age > base_age {
        return Err(("kinds.changes", "a motion older than the base, or of the update's own tick"));
    }
    Ok(Motion { tick: Tick(tick.0 - age), ramp: read_ramp(next()?)? })
}

fn read_anchor(
    next: &mut impl FnMut() -> Result<u32, Wrong>,
    line: &Line,
    base: Anchor,
    (tick, base_age): (Tick, u64),
    bits: &mut Mask,
) -> Result<Anchor, Wrong> {
    let difference = unzigzag(next()?);
    let rate = if bits.pop() { unzigzag(next()?) } else { 0 };
    let age = if base_age > 1 { u64::from(next()?) } else { 0 };
    if age >= base_age {
        return Err(("kinds.changes", "an anchor older than the base"));
    }
    let tick = Tick(tick.0 - age);
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
