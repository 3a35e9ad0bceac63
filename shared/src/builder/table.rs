//! All entities of one kind: their truth, what clients hold of it, and when that is renewed.

use super::saved::{TruthRows, Whereabouts};
use crate::{
    ANCHOR_AGE_MAX, Anchor, CellId, Column, Columns, Digest, Field, Kind, KindId, KindTruth, Motion, NetId, Place,
    RAMP_MAX, RAMP_STEPS, Ramp, Ramped, Reading, Tick, schema::MASK_BITS_MAX,
};

/// Entities by row; rows of the dead are used again.
#[derive(Debug)]
pub(super) struct Table {
    fields: Vec<FieldState>,
    /// Of the public fields that have a ramp: their places in `fields`.
    ramped_fields: Vec<(usize, Ramp)>,
    rows: Vec<Row>,
    free: Vec<u32>,
    /// `fields.len()` values per row: the truth of this tick, and of the tick before, and the latter at field quanta.
    fine: Vec<i32>,
    fine_before: Vec<i32>,
    coarse: Vec<i32>,
    /// `fields.len()` per row: rates that the game has set; of a ramped field the one that it is heading for.
    rates: Vec<Option<i32>>,
    /// `fields.len()` per row; of plain fields only `value` is used.
    anchors: Vec<Anchor>,
    /// `ramped_fields.len()` per row.
    ramped: Vec<Ramped>,
    /// Rows of which something was set at this tick.
    touched: Vec<u32>,
    /// Rows whose predictions move by themselves, so that they must be checked though the truth stands still.
    moving: Vec<u32>,
    /// Room for the list of the next tick.
    spare: Vec<u32>,
    despawned: Vec<NetId>,
}

#[derive(Debug)]
struct FieldState {
    field: Field,
    reading: Reading,
    public: bool,
}

#[derive(Clone, Debug, Default)]
struct Row {
    id: NetId,
    /// Not in a frame yet.
    is_new: bool,
    touched: bool,
    /// Where it was set to be.
    place: Place,
    /// Whether that is news since its cell was last looked up.
    is_placed_anew: bool,
    cell: Option<CellId>,
    motion: Motion,
    /// How long the rates still change, in 1/16 of a tick, as the game has set it.
    ramp: u16,
    /// What the entity's share of the sum of truth starts from.
    truth_seed: u64,
}

/// What a removed entity leaves behind.
pub(super) struct Removed {
    pub(super) truth_sum: u64,
    pub(super) cell: Option<CellId>,
}

impl Table {
    pub(super) fn new(kind: &Kind) -> Self {
        assert!(kind.fields.len() <= MASK_BITS_MAX, "the schema was checked");
        let mut fields: Vec<FieldState> = kind
            .fields
            .iter()
            .map(|field| FieldState { field: field.clone(), reading: Reading::of(field), public: false })
            .collect();
        for (i, _) in kind.public_fields() {
            fields[i].public = true;
        }
        Self {
            fields,
            ramped_fields: kind.public_fields().filter_map(|(i, field)| Some((i, field.ramp_line()?))).collect(),
            rows: Vec::new(),
            free: Vec::new(),
            fine: Vec::new(),
            fine_before: Vec::new(),
            coarse: Vec::new(),
            rates: Vec::new(),
            anchors: Vec::new(),
            ramped: Vec::new(),
            touched: Vec::new(),
            moving: Vec::new(),
            spare: Vec::new(),
            despawned: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len() - self.free.len()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = NetId> + '_ {
        self.rows.iter().map(|row| row.id).filter(|&id| id != NetId::NONE)
    }

    pub(super) fn allocate(&mut self, kind: KindId, id: NetId, tick: Tick) -> u32 {
        let row = self.free.pop().unwrap_or_else(|| {
            self.rows.push(Row::default());
            let len = self.rows.len() * self.fields.len();
            self.fine.resize(len, 0);
            self.fine_before.resize(len, 0);
            self.coarse.resize(len, 0);
            self.rates.resize(len, None);
            self.anchors.resize(len, Anchor::default());
            self.ramped.resize(self.rows.len() * self.ramped_fields.len(), Ramped::default());
            self.rows.len() as u32 - 1
        });
        self.rows[row as usize] = Row {
            id,
            is_new: true,
            is_placed_anew: true,
            motion: Motion { tick, ramp: 0 },
            truth_seed: Digest::of(u64::from(kind.0) << 32 | u64::from(id.0)),
            ..Row::default()
        };
        self.touch(row as usize);
        row
    }

    pub(super) fn release(&mut self, row: usize) -> Removed {
        let range = self.range(row);
        let Row { id, is_new, cell, truth_seed, .. } = std::mem::take(&mut self.rows[row]);
        let truth_sum = if is_new { 0 } else { truth_sum(truth_seed, &self.coarse[range.clone()]) };
        self.fine[range.clone()].fill(0);
        self.fine_before[range.clone()].fill(0);
        self.coarse[range.clone()].fill(0);
        self.rates[range.clone()].fill(None);
        self.anchors[range].fill(Anchor::default());
        let range = self.ramped_range(row);
        self.ramped[range].fill(Ramped::default());
        self.free.push(row as u32);
        if !is_new {
            self.despawned.push(id);
        }
        Removed { truth_sum, cell }
    }

    /// What the frame does not have, in order of NetId.
    pub(super) fn truth_rows(&self) -> TruthRows {
        let mut rows: Vec<usize> = (0..self.rows.len()).filter(|&row| self.rows[row].id != NetId::NONE).collect();
        rows.sort_unstable_by_key(|&row| self.rows[row].id);
        let values = || rows.iter().flat_map(|&row| self.range(row));
        TruthRows {
            ids: rows.iter().map(|&row| self.rows[row].id).collect(),
            fine: values().map(|i| self.fine[i]).collect(),
            rates: values().map(|i| self.rates[i]).collect(),
            ramps: rows.iter().map(|&row| self.rows[row].ramp).collect(),
        }
    }

    /// Fills an empty table with such rows, which are settled: the sum of their truth.
    pub(super) fn fill(&mut self, kind: KindId, tick: Tick, rows: &TruthRows) -> u64 {
        let TruthRows { ids, fine, rates, ramps } = rows;
        let mut sum = 0_u64;
        for (&id, &ramp) in ids.iter().zip(ramps) {
            let row = self.allocate(kind, id, tick) as usize;
            let range = self.range(row);
            self.fine[range.clone()].copy_from_slice(&fine[range.clone()]);
            self.fine_before[range.clone()].copy_from_slice(&fine[range.clone()]);
            self.rates[range.clone()].copy_from_slice(&rates[range.clone()]);
            for (i, state) in range.clone().zip(&self.fields) {
                self.coarse[i] = state.field.coarse(fine[i]);
            }
            let state = &mut self.rows[row];
            (state.ramp, state.is_new, state.touched, state.is_placed_anew) = (ramp, false, false, false);
            sum = sum.wrapping_add(truth_sum(state.truth_seed, &self.coarse[range]));
        }
        self.touched.clear();
        sum
    }

    /// Takes over where a row is, and what clients hold of it: row `at` of columns.
    pub(super) fn go_on(&mut self, row: usize, (cell, place): Whereabouts, columns: &Columns, at: usize) {
        let public = self.range(row).zip(&self.fields).filter(|(_, state)| state.public);
        let mut ramped = self.ramped_range(row);
        for ((i, _), column) in public.zip(&columns.fields) {
            match column {
                Column::Plain(values) => self.anchors[i].value = values[at],
                Column::Anchored(anchors) => self.anchors[i] = anchors[at],
                Column::Ramped(held) => self.ramped[ramped.next().expect("one for each ramped column")] = held[at],
            }
        }
        let state = &mut self.rows[row];
        (state.cell, state.place) = (Some(cell), place);
        if let Some(&motion) = columns.motions.get(at) {
            state.motion = motion;
        }
    }

    /// Finds the rows whose predictions move by themselves: those that the last tick has left on the list, since what does
    /// not move is not touched until it does.
    pub(super) fn find_moving(&mut self, tick: Tick) {
        let moves = |&row: &usize| {
            let mut lines = self.range(row).zip(&self.fields).filter(|(_, state)| state.public);
            lines.any(|(i, state)| matches!(state.reading, Reading::Line(_)) && self.anchors[i].rate != 0)
                || self.is_in_motion(row, tick)
        };
        self.moving = (0..self.rows.len()).filter(moves).map(|row| row as u32).collect();
    }

    pub(super) fn set(&mut self, row: usize, field: usize, fine: i32) {
        let i = self.at(row, field);
        self.fine[i] = fine;
        self.touch(row);
    }

    pub(super) fn set_rate(&mut self, row: usize, field: usize, rate: i32) {
        let i = self.at(row, field);
        self.rates[i] = Some(rate);
        self.touch(row);
    }

    pub(super) fn set_ramp(&mut self, row: usize, ramp: u16) {
        self.rows[row].ramp = ramp;
        self.touch(row);
    }

    pub(super) fn set_place(&mut self, row: usize, place: Place) {
        let state = &mut self.rows[row];
        if state.place != place {
            state.place = place;
            state.is_placed_anew = true;
            self.touch(row);
        }
    }

    pub(super) fn place(&self, row: usize) -> Place {
        self.rows[row].place
    }

    /// The row's entity, where it was set to be since this was last asked, and the cell that it is in so far.
    pub(super) fn take_whereabouts(&mut self, row: usize) -> (NetId, Option<Place>, Option<CellId>) {
        let Row { id, place, is_placed_anew, cell, .. } = &mut self.rows[row];
        (*id, std::mem::take(is_placed_anew).then_some(*place), *cell)
    }

    pub(super) fn cell(&self, row: usize) -> Option<CellId> {
        self.rows[row].cell
    }

    pub(super) fn put(&mut self, row: usize, cell: CellId) {
        self.rows[row].cell = Some(cell);
    }

    /// The truth of every field at the owner's precision.
    pub(super) fn truth(&self, row: usize) -> &[i32] {
        &self.fine[self.range(row)]
    }

    pub(super) fn take_despawned(&mut self) -> Vec<NetId> {
        self.despawned.sort_unstable();
        std::mem::take(&mut self.despawned)
    }

    /// The rows to settle at this tick, in order of NetId: the same whatever order they were set in.
    pub(super) fn take_rows_to_check(&mut self) -> Vec<u32> {
        let mut rows = std::mem::replace(&mut self.touched, std::mem::take(&mut self.spare));
        let still = |row: &u32| !self.rows[*row as usize].touched && self.rows[*row as usize].id != NetId::NONE;
        rows.extend(self.moving.drain(..).filter(still));
        rows.retain(|&row| self.rows[row as usize].id != NetId::NONE);
        // Nearly always in order already: components are stored in order of spawning.
        rows.sort_by_key(|&row| self.rows[row as usize].id);
        rows.dedup();
        rows
    }

    /// Takes the list back, to use its room again.
    pub(super) fn give_back(&mut self, mut rows: Vec<u32>) {
        rows.clear();
        self.spare = rows;
    }

    /// Writes down how the row's truth at field quanta changed: by how much, modulo 2^64, the sum of truth did.
    pub(super) fn note_truth(&mut self, row: usize, delta: &mut KindTruth) -> u64 {
        let range = self.range(row);
        let Row { id, is_new, touched, truth_seed, .. } = self.rows[row];
        if !touched {
            return 0;
        }
        let (mut mask, mut change) = (0, 0_u64);
        let values = self.fine[range.clone()].iter().zip(&mut self.coarse[range.clone()]);
        for (i, (state, (&fine, held))) in self.fields.iter().zip(values).enumerate() {
            let coarse = state.field.coarse(fine);
            let before = std::mem::replace(held, coarse);
            if before != coarse {
                mask |= 1 << i;
                change = change.wrapping_add(share(truth_seed, i, coarse)).wrapping_sub(share(truth_seed, i, before));
                if !is_new {
                    delta.differences.push(coarse.wrapping_sub(before));
                }
            }
        }
        if is_new {
            let values = &self.coarse[range];
            delta.spawned.push((id, values.to_vec()));
            return truth_sum(truth_seed, values);
        }
        if mask != 0 {
            delta.changed.push((id, mask));
        }
        change
    }

    /// Brings what clients hold of the row up to its truth. Whether anything of it changed.
    pub(super) fn renew(&mut self, row: usize, tick: Tick) -> bool {
        let is_new = self.rows[row].is_new;
        let mut changed = self.renew_motion(row, tick, is_new);
        let mut moving = self.is_in_motion(row, tick);
        for (i, state) in self.range(row).zip(&self.fields) {
            if !state.public {
                continue;
            }
            let truth = self.coarse[i];
            let anchor = &mut self.anchors[i];
            match state.reading {
                // Settled with the motion.
                Reading::Ramp(_) => {}
                Reading::Plain => {
                    changed |= anchor.value != truth;
                    anchor.value = truth;
                }
                Reading::Line(line) => {
                    if is_new || !line.holds(anchor, tick, truth) {
                        let step = if is_new { 0 } else { fine_step(&state.field, self.fine_before[i], self.fine[i]) };
                        let rate = self.rates[i].unwrap_or_else(|| line.rate_of_step(step, state.field.owner_shift));
                        *anchor = Anchor { value: truth, rate, tick };
                        changed = true;
                    }
                    moving |= anchor.rate != 0;
                }
            }
        }
        let range = self.range(row);
        self.fine_before[range.clone()].copy_from_slice(&self.fine[range]);
        let state = &mut self.rows[row];
        (state.touched, state.is_new) = (false, false);
        if moving {
            self.moving.push(row as u32);
        }
        changed
    }

    /// Restates the row's motion where its truth has left any of the ramps. Whether it was.
    fn renew_motion(&mut self, row: usize, tick: Tick, is_new: bool) -> bool {
        let Row { motion: old, ramp: left, .. } = self.rows[row];
        let (start, held) = (self.range(row).start, self.ramped_range(row));
        let holds = |(&(field, ramp), held): (&(usize, Ramp), &Ramped)| {
            ramp.error(held, &old, tick, self.fine[start + field]).abs() <= ramp.tolerance_fine()
        };
        let is_young = tick.since(old.tick) < ANCHOR_AGE_MAX;
        if !is_new && is_young && self.ramped_fields.iter().zip(&self.ramped[held.clone()]).all(holds) {
            return false;
        }
        if held.is_empty() {
            return false;
        }
        // Stated for the tick before, at which receivers still have the old one: a change of rate alone then leaves the
        // values as they were predicted, and they need not be sent.
        let motion = if is_new {
            Motion { tick, ramp: left.min(RAMP_MAX) }
        } else {
            // What is left of it after this tick; less than a quarter is over.
            let is_over = i64::from(left) * 4 < RAMP_STEPS;
            let ramp = if is_over { 0 } else { left.saturating_add(RAMP_STEPS as u16).min(RAMP_MAX) };
            Motion { tick: Tick(tick.0 - 1), ramp }
        };
        for (k, &(field, ramp)) in self.ramped_fields.iter().enumerate() {
            let i = start + field;
            let held = &mut self.ramped[held.start + k];
            *held = if is_new {
                let to = self.rates[i].unwrap_or(0);
                Ramped { value: self.fine[i], rate: if motion.ramp == 0 { to } else { 0 }, to }
            } else {
                let step = fine_step(&self.fields[field].field, self.fine_before[i], self.fine[i]) << ramp.shift;
                restate(ramp, (held, &old), &motion, Truth { tick, now: self.fine[i], step, heading: self.rates[i] })
            };
        }
        self.rows[row].motion = motion;
        true
    }

    fn is_in_motion(&self, row: usize, tick: Tick) -> bool {
        let Motion { tick: since, ramp } = self.rows[row].motion;
        let is_ramping = tick.since(since) as i64 * RAMP_STEPS < i64::from(ramp);
        // Not by the rate of now, which is rounded: what is left of it adds up.
        self.ramped[self.ramped_range(row)].iter().any(|held| held.to != 0 || is_ramping && held.rate != 0)
    }

    /// The columns of these entities.
    pub(super) fn gather(&self, members: &[(NetId, u32)]) -> Columns {
        let rows = || members.iter().map(|&(_, row)| row as usize);
        let (width, ramps) = (self.fields.len(), self.ramped_fields.len());
        let mut ramped = 0..ramps;
        let column = |(field, state): (usize, &FieldState)| {
            let anchors = rows().map(move |row| &self.anchors[row * width + field]);
            match state.reading {
                Reading::Plain => Column::Plain(anchors.map(|anchor| anchor.value).collect()),
                Reading::Line(_) => Column::Anchored(anchors.copied().collect()),
                Reading::Ramp(_) => {
                    let k = ramped.next().expect("one for each ramped field");
                    Column::Ramped(rows().map(|row| self.ramped[row * ramps + k]).collect())
                }
            }
        };
        Columns {
            ids: members.iter().map(|(id, _)| *id).collect(),
            fields: self.fields.iter().enumerate().filter(|(_, state)| state.public).map(column).collect(),
            motions: if ramps == 0 { Vec::new() } else { rows().map(|row| self.rows[row].motion).collect() },
        }
    }

    /// Writes a row over row `at` of columns that the same entity has.
    pub(super) fn write(&self, row: usize, columns: &mut Columns, at: usize) {
        let public = self.range(row).zip(&self.fields).filter(|(_, state)| state.public);
        let mut ramped = self.ramped_range(row);
        for ((i, _), column) in public.zip(&mut columns.fields) {
            match column {
                Column::Plain(values) => values[at] = self.anchors[i].value,
                Column::Anchored(anchors) => anchors[at] = self.anchors[i],
                Column::Ramped(held) => held[at] = self.ramped[ramped.next().expect("one for each ramped column")],
            }
        }
        if let Some(motion) = columns.motions.get_mut(at) {
            *motion = self.rows[row].motion;
        }
    }

    fn touch(&mut self, row: usize) {
        if !std::mem::replace(&mut self.rows[row].touched, true) {
            self.touched.push(row as u32);
        }
    }

    fn range(&self, row: usize) -> std::ops::Range<usize> {
        row * self.fields.len()..(row + 1) * self.fields.len()
    }

    fn ramped_range(&self, row: usize) -> std::ops::Range<usize> {
        row * self.ramped_fields.len()..(row + 1) * self.ramped_fields.len()
    }

    fn at(&self, row: usize, field: usize) -> usize {
        assert!(field < self.fields.len(), "the kind has no field {field}");
        row * self.fields.len() + field
    }
}

/// What is known of a ramped field's truth when its motion is restated.
struct Truth {
    tick: Tick,
    now: i32,
    /// How far it moved in this tick, as a rate.
    step: i64,
    /// The rate that it is heading for, where the game says.
    heading: Option<i32>,
}

/// What receivers are to hold from now on: the value and the rate that they expect already, where these do, for then they
/// need not be sent; else what leads through the truth.
fn restate(ramp: Ramp, base: (&Ramped, &Motion), motion: &Motion, truth: Truth) -> Ramped {
    let saturated = |rate: i64| rate.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
    let to = truth.heading.unwrap_or_else(|| saturated(truth.step));
    let left = i64::from(motion.ramp) - RAMP_STEPS;
    // The rate a tick ago, from which the ramp leads through this tick's step.
    let rate = if left > 0 {
        saturated(truth.step + ((truth.step - i64::from(to)) * RAMP_STEPS).div_euclid(left))
    } else {
        to
    };
    let through = Ramped { value: 0, rate, to };
    let moved = ramp.predict(&through, motion, truth.tick) as i32;
    let exact = Ramped { value: ramp.wrap(truth.now.wrapping_sub(moved)), ..through };

    let expected_rate = if motion.ramp == 0 { to } else { ramp.slope(base.0, base.1, motion.tick) };
    let expected = Ramped { value: ramp.apply(base, motion.tick, 0), rate: expected_rate, to };
    // Some room is left, so that the next rounding does not ask for another.
    let is_near = |tick, goal| ramp.error(&expected, motion, tick, goal).abs() * 4 <= ramp.tolerance_fine() * 3;
    let is_near_after = || {
        let settled = Tick(motion.tick.0 + u64::from(motion.ramp).div_ceil(RAMP_STEPS as u64) + 1);
        is_near(settled, ramp.predict(&exact, motion, settled) as i32)
    };
    // Without a ramp the two stay as far apart as they are.
    if is_near(truth.tick, truth.now) && (motion.ramp == 0 || is_near_after()) { expected } else { exact }
}

/// An entity's share of the sum of truth: its own, and that of each field's value. Sums change as cheaply as values do.
fn truth_sum(seed: u64, values: &[i32]) -> u64 {
    values.iter().enumerate().fold(seed, |sum, (field, &value)| sum.wrapping_add(share(seed, field, value)))
}

fn share(seed: u64, field: usize, value: i32) -> u64 {
    Digest::of(seed ^ (field as u64) << 32 ^ u64::from(value as u32))
}

/// How far the truth moved in one tick, in fine quanta; for angles the shortest way round.
fn fine_step(field: &Field, before: i32, now: i32) -> i64 {
    let step = i64::from(now) - i64::from(before);
    match field.turn {
        None => step,
        Some(turn) => {
            let turn = i64::from(turn) << field.owner_shift;
            (step + turn / 2).rem_euclid(turn) - turn / 2
        }
    }
}
