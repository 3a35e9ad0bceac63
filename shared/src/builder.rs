//! Truth in, frames out: keeps canonical state, sets anchors, assigns cells, and shares what did not change.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    Anchor, Audience, CellFrame, CellId, CellKey, CellState, Column, Columns, Digest, Emitted, Event, Field, Frame,
    Kind, KindId, KindTruth, Line, NetId, NumberMap, OwnerRow, Place, Places, PlayerId, Roster, Schema, SeatFrame,
    Tick, TruthChange, TruthDelta,
};

/// The most cells of a session.
pub const CELLS_MAX: usize = 1 << 16;

/// Turns the truth of each tick into a [`Frame`].
///
/// For each tick: [`begin`](Self::begin), [`entity`](Self::entity) for every entity that is there,
/// [`finish`](Self::finish). What is not set for an entity stays as it was; an entity that is not named is gone.
#[derive(Debug)]
pub struct FrameBuilder {
    kinds: Vec<Table>,
    index: NumberMap<NetId, Slot>,
    cells: Vec<Members>,
    frame: Arc<Frame>,
    tick: Tick,
    /// Whether an entity came, went or crossed at this tick.
    moved: bool,
    /// The sum, modulo 2^64, of all entities' truth hashes.
    truth_sum: u64,
}

/// What a tick has beside its entities.
#[derive(Clone, Debug, Default)]
pub struct TickExtras {
    /// In order of player.
    pub seats: Vec<SeatExtras>,
    /// The tick's events.
    pub emitted: Emitted,
    /// The players as all see them.
    pub roster: Arc<Roster>,
    /// The digest of the game's hidden state.
    pub hidden: u64,
}

/// What a seat has beside its entity's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatExtras {
    /// Whose seat.
    pub player: PlayerId,
    /// The newest input sequence that a tick has consumed.
    pub consumed_input: u64,
    /// The player's own entity.
    pub entity: Option<NetId>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    kind: KindId,
    row: u32,
}

/// All entities of one kind, by row; rows of the dead are used again.
#[derive(Debug)]
struct Table {
    fields: Vec<FieldState>,
    rows: Vec<Row>,
    free: Vec<u32>,
    /// `fields.len()` values per row: the truth of this tick, and of the tick before.
    fine: Vec<i32>,
    fine_before: Vec<i32>,
    /// `fields.len()` per row: rates that the game has set.
    rates: Vec<Option<i32>>,
    /// `fields.len()` per row; of plain fields only `value` is used.
    anchors: Vec<Anchor>,
}

#[derive(Debug)]
struct FieldState {
    field: Field,
    line: Option<Line>,
    public: bool,
}

#[derive(Clone, Debug, Default)]
struct Row {
    id: NetId,
    seen: Tick,
    spawned: Tick,
    touched: bool,
    /// Whether any anchor moves by itself, so that it must be checked though the truth stands still.
    moving: bool,
    place: Place,
    cell: CellId,
    truth_hash: u64,
}

/// The entities of one cell.
#[derive(Debug, Default)]
struct Members {
    /// By kind: (NetId, row), rising.
    kinds: Vec<Vec<(NetId, u32)>>,
    /// By kind: whether its columns are to be made again.
    dirty: Vec<bool>,
}

impl FrameBuilder {
    /// A builder whose last frame is the empty one of tick 0.
    #[must_use]
    pub fn new(schema: &Schema, epoch: u32) -> Self {
        let mut builder = Self {
            kinds: schema.kinds.iter().map(Table::new).collect(),
            index: NumberMap::default(),
            cells: Vec::new(),
            frame: Arc::new(Frame::empty(schema, epoch)),
            tick: Tick::ZERO,
            moved: false,
            truth_sum: 0,
        };
        builder.cells.push(builder.no_members());
        builder
    }

    /// The newest frame.
    #[must_use]
    pub fn frame(&self) -> &Arc<Frame> {
        &self.frame
    }

    /// Starts a tick.
    pub fn begin(&mut self, tick: Tick) {
        debug_assert!(tick >= self.frame.tick, "ticks rise");
        self.tick = tick;
    }

    /// An entity that is there at this tick; new ones start with all values 0, in the cell `always`.
    ///
    /// # Panics
    /// Where the entity was of another kind before, or the kind is not in the schema.
    pub fn entity(&mut self, kind: KindId, id: NetId) -> EntityWriter<'_> {
        let tick = self.tick;
        let table = &mut self.kinds[kind.index()];
        let slot = self.index.entry(id).or_insert_with(|| {
            self.moved = true;
            Slot { kind, row: table.allocate(id, tick) }
        });
        assert_eq!(slot.kind, kind, "entity {id} is of two kinds; give each entity the marker of one kind only");
        table.rows[slot.row as usize].seen = tick;
        EntityWriter { table, row: slot.row as usize }
    }

    /// Ends the tick: the new frame, and how the truth changed.
    ///
    /// # Panics
    /// Where the game uses more than [`CELLS_MAX`] cells, or names an entity as a player's own that is not there.
    pub fn finish(&mut self, extras: TickExtras) -> (Arc<Frame>, TruthDelta) {
        let mut next = Frame { tick: self.tick, roster: extras.roster, ..Frame::clone(&self.frame) };
        for cell in next.cells.iter_mut().filter(|cell| cell.events.is_some() || cell.events_lost > 0) {
            cell.events = None;
            cell.events_lost = 0;
        }

        let mut truth = TruthDelta::default();
        for kind in 0..self.kinds.len() {
            let delta = self.commit_kind(KindId(kind as u16), &mut next);
            if !(delta.despawned.is_empty() && delta.spawned.is_empty() && delta.changed.is_empty()) {
                truth.kinds.push(delta);
            }
        }
        self.place_events(extras.emitted, &extras.seats, &mut next);
        self.rebuild_cells(&mut next);
        self.fill_seats(&extras.seats, &mut next);
        if std::mem::take(&mut self.moved) {
            next.places = Arc::new(self.places());
        }
        let mut state = Digest::default();
        state.write(self.truth_sum);
        state.write(extras.hidden);
        next.state_hash = state.finish();

        self.frame = Arc::new(next);
        (Arc::clone(&self.frame), truth)
    }

    /// Settles what was set for the entities of one kind: the dead go, anchors are renewed, crossings are made.
    fn commit_kind(&mut self, kind: KindId, next: &mut Frame) -> KindTruth {
        let tick = self.tick;
        let mut delta = KindTruth { kind, ..KindTruth::default() };
        for row in 0..self.kinds[kind.index()].rows.len() {
            let table = &mut self.kinds[kind.index()];
            let Row { id, seen, spawned, touched, moving, place, cell, .. } = table.rows[row];
            if id == NetId::NONE {
                continue;
            }
            if seen != tick {
                self.truth_sum = self.truth_sum.wrapping_sub(table.rows[row].truth_hash);
                table.release(row);
                self.index.remove(&id);
                self.cells[cell.index()].remove(kind, id);
                self.moved = true;
                delta.despawned.push(id);
                continue;
            }
            if !touched && !moving {
                continue;
            }
            let is_new = spawned == tick && table.rows[row].truth_hash == 0;
            if touched || is_new {
                self.truth_sum = self.truth_sum.wrapping_sub(table.rows[row].truth_hash);
                table.note_truth(kind, row, is_new, &mut delta);
                self.truth_sum = self.truth_sum.wrapping_add(table.rows[row].truth_hash);
            }
            let changed = table.renew(row, tick, is_new);
            table.settle(row);

            let to = intern(place, next);
            if is_new || to != cell {
                self.kinds[kind.index()].rows[row].cell = to;
                while self.cells.len() <= to.index() {
                    let empty = self.no_members();
                    self.cells.push(empty);
                }
                if !is_new {
                    self.cells[cell.index()].remove(kind, id);
                }
                self.cells[to.index()].insert(kind, id, row as u32);
                self.moved = true;
            } else if changed {
                self.cells[cell.index()].dirty[kind.index()] = true;
            }
        }
        delta.despawned.sort_unstable();
        delta.spawned.sort_unstable_by_key(|(id, _)| *id);
        delta.changed.sort_unstable_by_key(|change| change.net_id);
        delta
    }

    fn place_events(&mut self, emitted: Emitted, seats: &[SeatExtras], next: &mut Frame) {
        let mut by_cell: BTreeMap<CellId, Vec<Event>> = BTreeMap::new();
        let mut by_player: BTreeMap<PlayerId, Vec<Event>> = BTreeMap::new();
        for (audience, event) in emitted.events {
            match audience {
                Audience::At(place) => by_cell.entry(intern(place, next)).or_default().push(event),
                Audience::Player(player) => by_player.entry(player).or_default().push(event),
            }
        }
        next.seats = seats
            .iter()
            .map(|seat| SeatFrame {
                player: seat.player,
                consumed_input: seat.consumed_input,
                owner: None,
                events: by_player.remove(&seat.player).map(Into::into),
                events_lost: emitted.lost.get(&Audience::Player(seat.player)).copied().unwrap_or(0),
            })
            .collect();
        for (cell, events) in by_cell {
            next.cells[cell.index()].events = Some(events.into());
            next.cells[cell.index()].changed = self.tick;
        }
        for (audience, lost) in emitted.lost {
            if let Audience::At(place) = audience {
                let cell = intern(place, next);
                next.cells[cell.index()].events_lost += lost;
                next.cells[cell.index()].changed = self.tick;
            }
        }
    }

    fn rebuild_cells(&mut self, next: &mut Frame) {
        for (cell, members) in self.cells.iter_mut().enumerate() {
            if !members.dirty.iter().any(|dirty| *dirty) {
                continue;
            }
            let mut state = CellState::clone(&next.cells[cell].state);
            for (kind, dirty) in members.dirty.iter_mut().enumerate().filter(|(_, dirty)| **dirty) {
                *dirty = false;
                state.kinds[kind] = Arc::new(self.kinds[kind].gather(&members.kinds[kind]));
            }
            next.cells[cell].state = Arc::new(state);
            next.cells[cell].changed = self.tick;
        }
    }

    fn fill_seats(&self, seats: &[SeatExtras], next: &mut Frame) {
        for (seat, extras) in next.seats.iter_mut().zip(seats) {
            let Some(net_id) = extras.entity else { continue };
            let slot = self.index.get(&net_id).expect("a player's own entity is a replicated one");
            let table = &self.kinds[slot.kind.index()];
            seat.owner = Some(OwnerRow {
                net_id,
                kind: slot.kind,
                cell: table.rows[slot.row as usize].cell,
                values: table.fine[table.range(slot.row as usize)].to_vec(),
            });
        }
    }

    fn places(&self) -> Places {
        let of_kind = |(kind, table): (usize, &Table)| {
            let kind = KindId(kind as u16);
            table.rows.iter().filter(|row| row.id != NetId::NONE).map(move |row| (row.id, kind, row.cell)).collect()
        };
        let mut entries: Vec<_> = self.kinds.iter().enumerate().flat_map(|kind| -> Vec<_> { of_kind(kind) }).collect();
        entries.sort_unstable();
        Places::new(entries)
    }

    fn no_members(&self) -> Members {
        Members { kinds: vec![Vec::new(); self.kinds.len()], dirty: vec![false; self.kinds.len()] }
    }
}

/// Sets an entity's truth at the current tick.
#[derive(Debug)]
pub struct EntityWriter<'a> {
    table: &'a mut Table,
    row: usize,
}

impl EntityWriter<'_> {
    /// Sets a field, in quanta of `quantum / 2^owner_shift`.
    ///
    /// # Panics
    /// Where the kind has no such field.
    pub fn set(&mut self, field: usize, fine: i32) {
        let i = self.at(field);
        self.table.fine[i] = fine;
        self.table.rows[self.row].touched = true;
    }

    /// Sets the rate that a new anchor of a linear field takes, in quanta · 2^shift per tick. Where a field's rate is
    /// never set, an anchor takes the truth's last step.
    ///
    /// # Panics
    /// Where the kind has no such field.
    pub fn set_rate(&mut self, field: usize, rate: i32) {
        let i = self.at(field);
        self.table.rates[i] = Some(rate);
        self.table.rows[self.row].touched = true;
    }

    /// Sets where the entity is.
    pub fn set_place(&mut self, place: Place) {
        self.table.rows[self.row].place = place;
        self.table.rows[self.row].touched = true;
    }

    /// The area in which the entity was last set to be: what a game's hysteresis starts from.
    #[must_use]
    pub fn cell_key(&self) -> Option<CellKey> {
        match self.table.rows[self.row].place {
            Place::Always => None,
            Place::Cell(key) => Some(key),
        }
    }

    fn at(&self, field: usize) -> usize {
        assert!(field < self.table.fields.len(), "the kind has no field {field}");
        self.row * self.table.fields.len() + field
    }
}

impl Table {
    fn new(kind: &Kind) -> Self {
        let mut fields: Vec<FieldState> = kind
            .fields
            .iter()
            .map(|field| FieldState { field: field.clone(), line: field.line(), public: false })
            .collect();
        for (i, _) in kind.public_fields() {
            fields[i].public = true;
        }
        Self {
            fields,
            rows: Vec::new(),
            free: Vec::new(),
            fine: Vec::new(),
            fine_before: Vec::new(),
            rates: Vec::new(),
            anchors: Vec::new(),
        }
    }

    fn range(&self, row: usize) -> std::ops::Range<usize> {
        row * self.fields.len()..(row + 1) * self.fields.len()
    }

    fn allocate(&mut self, id: NetId, tick: Tick) -> u32 {
        let row = self.free.pop().unwrap_or_else(|| {
            self.rows.push(Row::default());
            let len = self.rows.len() * self.fields.len();
            self.fine.resize(len, 0);
            self.fine_before.resize(len, 0);
            self.rates.resize(len, None);
            self.anchors.resize(len, Anchor::default());
            self.rows.len() as u32 - 1
        });
        self.rows[row as usize] = Row { id, spawned: tick, seen: tick, touched: true, ..Row::default() };
        row
    }

    fn release(&mut self, row: usize) {
        let range = self.range(row);
        self.rows[row] = Row::default();
        self.fine[range.clone()].fill(0);
        self.fine_before[range.clone()].fill(0);
        self.rates[range.clone()].fill(None);
        self.anchors[range].fill(Anchor::default());
        self.free.push(row as u32);
    }

    /// Writes down how the row's truth at field quanta changed, and hashes it anew.
    fn note_truth(&mut self, kind: KindId, row: usize, is_new: bool, delta: &mut KindTruth) {
        let range = self.range(row);
        let id = self.rows[row].id;
        let coarse = |values: &[i32]| -> Vec<i32> {
            self.fields.iter().zip(values).map(|(state, &fine)| state.field.coarse(fine)).collect()
        };
        let new = coarse(&self.fine[range.clone()]);
        if is_new {
            self.rows[row].truth_hash = truth_hash(kind, id, &new);
            delta.spawned.push((id, new));
            return;
        }
        let old = coarse(&self.fine_before[range]);
        let mut change = TruthChange { net_id: id, mask: 0, differences: Vec::new() };
        for (field, (old, new)) in old.iter().zip(&new).enumerate().filter(|(_, (old, new))| old != new) {
            change.mask |= 1 << field;
            change.differences.push(new.wrapping_sub(*old));
        }
        if change.mask != 0 {
            self.rows[row].truth_hash = truth_hash(kind, id, &new);
            delta.changed.push(change);
        }
    }

    /// Brings the row's canonical values up to its truth. Whether anything public changed.
    fn renew(&mut self, row: usize, tick: Tick, is_new: bool) -> bool {
        let (mut changed, mut moving) = (false, false);
        for (i, state) in self.range(row).zip(&self.fields) {
            if !state.public {
                continue;
            }
            let truth = state.field.coarse(self.fine[i]);
            let anchor = &mut self.anchors[i];
            let Some(line) = state.line else {
                changed |= anchor.value != truth;
                anchor.value = truth;
                continue;
            };
            if is_new || !line.holds(anchor, tick, truth) {
                let step = if is_new { 0 } else { fine_step(&state.field, self.fine_before[i], self.fine[i]) };
                let rate = self.rates[i].unwrap_or_else(|| line.rate_of_step(step, state.field.owner_shift));
                *anchor = Anchor { value: truth, rate, tick };
                changed = true;
            }
            moving |= anchor.rate != 0;
        }
        self.rows[row].moving = moving;
        changed
    }

    fn settle(&mut self, row: usize) {
        let range = self.range(row);
        self.fine_before[range.clone()].copy_from_slice(&self.fine[range]);
        self.rows[row].touched = false;
    }

    fn gather(&self, members: &[(NetId, u32)]) -> Columns {
        let column = |(field, state): (usize, &FieldState)| {
            let at = |&(_, row): &(NetId, u32)| row as usize * self.fields.len() + field;
            match state.line {
                None => Column::Plain(members.iter().map(|member| self.anchors[at(member)].value).collect()),
                Some(_) => Column::Anchored(members.iter().map(|member| self.anchors[at(member)]).collect()),
            }
        };
        Columns {
            ids: members.iter().map(|(id, _)| *id).collect(),
            fields: self.fields.iter().enumerate().filter(|(_, state)| state.public).map(column).collect(),
        }
    }
}

impl Members {
    fn insert(&mut self, kind: KindId, id: NetId, row: u32) {
        let members = &mut self.kinds[kind.index()];
        if let Err(i) = members.binary_search_by_key(&id, |member| member.0) {
            members.insert(i, (id, row));
        }
        self.dirty[kind.index()] = true;
    }

    fn remove(&mut self, kind: KindId, id: NetId) {
        let members = &mut self.kinds[kind.index()];
        if let Ok(i) = members.binary_search_by_key(&id, |member| member.0) {
            members.remove(i);
        }
        self.dirty[kind.index()] = true;
    }
}

fn intern(place: Place, frame: &mut Frame) -> CellId {
    if let Some(cell) = frame.table.id(place) {
        return cell;
    }
    let cell = Arc::make_mut(&mut frame.table).intern(place);
    assert!(cell.index() < CELLS_MAX, "the game uses more than {CELLS_MAX} cells; make its cells larger");
    // A new cell starts as the empty `always` of tick 0 did: columns of the right shape, without rows.
    let state = CellState {
        kinds: frame.cells[0].state.kinds.iter().map(|columns| Arc::new(columns.without_rows())).collect(),
    };
    frame.cells.push(CellFrame { state: Arc::new(state), ..CellFrame::default() });
    cell
}

impl Columns {
    /// Columns of the same fields, without rows.
    #[must_use]
    pub fn without_rows(&self) -> Self {
        let empty = |column: &Column| match column {
            Column::Plain(_) => Column::Plain(Vec::new()),
            Column::Anchored(_) => Column::Anchored(Vec::new()),
        };
        Self { ids: Vec::new(), fields: self.fields.iter().map(empty).collect() }
    }
}

fn truth_hash(kind: KindId, id: NetId, values: &[i32]) -> u64 {
    let mut digest = Digest::default();
    digest.write(u64::from(kind.0) << 32 | u64::from(id.0));
    for &value in values {
        digest.write(u64::from(value as u32));
    }
    // 0 marks a row that has no hash yet.
    digest.finish().max(1)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Quantity, SchemaParts};

    const DOT: KindId = KindId(0);

    fn schema() -> Schema {
        let metres = Quantity::new("m", 1.0 / 128.0, -100.0..=100.0);
        let fields = vec![
            Field::linear("x", metres).owner_shift(3),
            Field::plain("hue", Quantity::count(0..=9)),
            Field::plain("ammo", Quantity::count(0..=99)).owner_only(),
        ];
        let parts = SchemaParts { game: "t".into(), kinds: vec![Kind::new("dot", fields)], ..Default::default() };
        Schema::new(parts).expect("valid")
    }

    fn step(builder: &mut FrameBuilder, set: impl FnOnce(&mut FrameBuilder)) -> (Arc<Frame>, TruthDelta) {
        let tick = builder.frame().tick.next();
        builder.begin(tick);
        set(builder);
        builder.finish(TickExtras::default())
    }

    #[test]
    fn a_steady_mover_leaves_its_cell_as_it_is() {
        let mut builder = FrameBuilder::new(&schema(), 0);
        let place = Place::Cell(CellKey(7));
        let mut frames = Vec::new();
        for tick in 0..100 {
            frames.push(
                step(&mut builder, |builder| {
                    let mut entity = builder.entity(DOT, NetId(1));
                    entity.set(0, tick * 85);
                    entity.set_place(place);
                })
                .0,
            );
        }
        let cell = frames[0].table.id(place).expect("interned").index();
        // The first step tells the speed; from then on nothing changes.
        assert!(Arc::ptr_eq(&frames[1].cells[cell].state, &frames[99].cells[cell].state));
        assert_eq!(frames[99].cells[cell].changed, Tick(2));
        let line = schema().kinds[0].fields[0].line();
        for (tick, frame) in (0..100).zip(&frames).skip(1) {
            let read = frame.cells[cell].state.kinds[0].fields[0].read(0, line, frame.tick);
            assert!((read - crate::coarse(tick * 85, 3)).abs() <= 1, "tick {tick}: {read}");
        }
    }

    #[test]
    fn a_stop_is_noticed_though_the_truth_stands_still() {
        let mut builder = FrameBuilder::new(&schema(), 0);
        for x in [0, 800, 1600] {
            step(&mut builder, |builder| builder.entity(DOT, NetId(1)).set(0, x));
        }
        for _ in 0..10 {
            step(&mut builder, |builder| {
                builder.entity(DOT, NetId(1));
            });
        }
        let frame = builder.frame();
        let line = schema().kinds[0].fields[0].line();
        assert_eq!(frame.cells[0].state.kinds[0].fields[0].read(0, line, frame.tick), 200);
    }

    #[test]
    fn crossings_and_deaths_touch_only_their_cells() {
        let mut builder = FrameBuilder::new(&schema(), 0);
        let (a, b, c) = (Place::Cell(CellKey(1)), Place::Cell(CellKey(2)), Place::Cell(CellKey(3)));
        let (first, _) = step(&mut builder, |builder| {
            for (id, place) in [(1, a), (2, b), (3, c)] {
                builder.entity(DOT, NetId(id)).set_place(place);
            }
        });
        let (second, truth) = step(&mut builder, |builder| {
            builder.entity(DOT, NetId(1)).set_place(b);
            builder.entity(DOT, NetId(3));
        });
        let [a, b, c] = [a, b, c].map(|place| first.table.id(place).expect("interned"));
        assert_eq!(second.places.entries(), [(NetId(1), DOT, b), (NetId(3), DOT, c)]);
        assert!(second.cells[a.index()].state.is_empty());
        assert!(Arc::ptr_eq(&first.cells[c.index()].state, &second.cells[c.index()].state));
        assert_eq!(truth.kinds[0].despawned, [NetId(2)]);
        assert_ne!(first.state_hash, second.state_hash);
    }

    #[test]
    fn an_owners_field_changes_the_truth_and_no_cell() {
        let mut builder = FrameBuilder::new(&schema(), 0);
        let (first, _) = step(&mut builder, |builder| builder.entity(DOT, NetId(1)).set(2, 5));
        let (second, truth) = step(&mut builder, |builder| builder.entity(DOT, NetId(1)).set(2, 4));
        assert!(Arc::ptr_eq(&first.cells[0].state, &second.cells[0].state));
        assert_eq!(truth.kinds[0].changed, [TruthChange { net_id: NetId(1), mask: 4, differences: vec![-1] }]);
    }

    proptest! {
        #[test]
        fn what_clients_read_is_within_tolerance_of_the_truth_on_every_frame(
            tolerance in 0..5_i32,
            steps in proptest::collection::vec((-3000..3000_i32, 1..20_u32), 1..30),
        ) {
            let metres = Quantity::new("m", 1.0 / 128.0, -50.0..=50.0);
            let fields = vec![
                Field::linear("x", metres.clone()).owner_shift(3).tolerance(tolerance),
                Field::linear("heading", metres).angle(256, 1.0).owner_shift(2).tolerance(tolerance),
            ];
            let parts = SchemaParts { game: "t".into(), kinds: vec![Kind::new("dot", fields)], ..Default::default() };
            let schema = Schema::new(parts).expect("valid");
            let mut builder = FrameBuilder::new(&schema, 0);
            let (min, max) = schema.kinds[0].fields[0].quantity.fine_range(3).expect("fits");
            let (mut x, mut heading) = (0_i32, 0_i32);
            for (speed, ticks) in steps {
                for _ in 0..ticks {
                    x = (x + speed).clamp(min, max);
                    heading = (heading + speed).rem_euclid(256 << 2);
                    let (frame, _) = step(&mut builder, |builder| {
                        let mut entity = builder.entity(DOT, NetId(1));
                        entity.set(0, x);
                        entity.set(1, heading);
                    });
                    for (i, fine) in [x, heading].into_iter().enumerate() {
                        let field = &schema.kinds[0].fields[i];
                        let line = field.line().expect("linear");
                        let read = frame.cells[0].state.kinds[0].fields[i].read(0, Some(line), frame.tick);
                        let distance = line.distance(read, field.coarse(fine)).abs();
                        prop_assert!(distance <= i64::from(tolerance), "{}: {distance} quanta off", field.name);
                    }
                }
            }
        }
    }
}
