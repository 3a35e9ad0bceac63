//! Truth in, frames out: keeps canonical state, sets anchors, assigns cells, and shares what did not change.
//!
//! The work of a tick follows what was set at that tick, and what moves by itself; the rest is not looked at.

mod cells;
mod saved;
mod table;

use std::{collections::BTreeMap, sync::Arc};

use self::{cells::Members, table::Table};
use crate::{
    Audience, CellId, CellKey, Emitted, Event, Frame, KindId, KindTruth, NetId, NumberMap, OwnerRow, OwnerValues,
    Place, Places, PlayerId, Roster, Schema, SeatFrame, Tick, TruthDelta,
};

pub use cells::CELLS_MAX;
pub use saved::TruthDifference;
pub(crate) use saved::TruthRows;

/// Turns the truth of each tick into a [`Frame`].
///
/// For each tick: [`begin`](Self::begin), [`entity`](Self::entity) for every entity of which something is to be set,
/// [`remove`](Self::remove) or [`retain`](Self::retain) for those that are gone, [`finish`](Self::finish). What is not set
/// stays as it was.
#[derive(Debug)]
pub struct FrameBuilder {
    kinds: Vec<Table>,
    index: NumberMap<NetId, Slot>,
    cells: Vec<Members>,
    /// Cells whose columns are to be made again.
    dirty: Vec<CellId>,
    /// Cells that had events at the last tick.
    eventful: Vec<CellId>,
    /// Who came, went or crossed at this tick.
    moves: Vec<(NetId, KindId, Option<CellId>)>,
    frame: Arc<Frame>,
    tick: Tick,
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

impl FrameBuilder {
    /// A builder whose last frame is the empty one of tick 0.
    #[must_use]
    pub fn new(schema: &Schema, epoch: u32) -> Self {
        let kinds: Vec<Table> = schema.kinds.iter().map(Table::new).collect();
        Self {
            cells: vec![Members::new(kinds.len())],
            kinds,
            index: NumberMap::default(),
            dirty: Vec::new(),
            eventful: Vec::new(),
            moves: Vec::new(),
            frame: Arc::new(Frame::empty(schema, epoch)),
            tick: Tick::ZERO,
            truth_sum: 0,
        }
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

    /// An entity of which something is to be set; new ones start with all values 0, in the cell `always`.
    ///
    /// # Panics
    /// Where the entity was of another kind before, or the kind is not in the schema.
    pub fn entity(&mut self, kind: KindId, id: NetId) -> EntityWriter<'_> {
        let table = &mut self.kinds[kind.index()];
        let tick = self.tick;
        let slot = self.index.entry(id).or_insert_with(|| Slot { kind, row: table.allocate(kind, id, tick) });
        assert_eq!(slot.kind, kind, "entity {id} is of two kinds; give each entity the marker of one kind only");
        EntityWriter { table, row: slot.row as usize }
    }

    /// The number of entities of a kind.
    ///
    /// # Panics
    /// Where the kind is not in the schema.
    #[must_use]
    pub fn count(&self, kind: KindId) -> usize {
        self.kinds[kind.index()].len()
    }

    /// An entity is gone. One that is not there is passed over.
    pub fn remove(&mut self, id: NetId) {
        let Some(Slot { kind, row }) = self.index.remove(&id) else { return };
        let table = &mut self.kinds[kind.index()];
        let removed = table.release(row as usize);
        self.truth_sum = self.truth_sum.wrapping_sub(removed.truth_sum);
        if let Some(cell) = removed.cell {
            self.cells[cell.index()].remove(kind, id);
            self.mark_dirty(cell);
            self.moves.push((id, kind, None));
        }
    }

    /// Removes all entities of a kind that are not among `present`.
    ///
    /// # Panics
    /// Where the kind is not in the schema.
    pub fn retain(&mut self, kind: KindId, present: impl Iterator<Item = NetId>) {
        let mut present: Vec<NetId> = present.collect();
        present.sort_unstable();
        let gone: Vec<NetId> = self.kinds[kind.index()].ids().filter(|id| present.binary_search(id).is_err()).collect();
        for id in gone {
            self.remove(id);
        }
    }

    /// Ends the tick: the new frame, and how the truth changed.
    ///
    /// # Panics
    /// Where the game uses more than [`CELLS_MAX`] cells, or names an entity as a player's own that is not there.
    pub fn finish(&mut self, extras: TickExtras) -> (Arc<Frame>, TruthDelta) {
        let mut next = Frame { tick: self.tick, roster: extras.roster, seats: Vec::new(), ..self.frame.superseded() };
        for cell in self.eventful.drain(..) {
            let frame = &mut Arc::make_mut(&mut next.cells)[cell.index()];
            (frame.events, frame.events_lost) = (None, 0);
        }

        let mut truth = TruthDelta::default();
        for kind in 0..self.kinds.len() {
            let delta = self.commit_kind(KindId(kind as u16), &mut next);
            if !delta.is_empty() {
                truth.kinds.push(delta);
            }
        }
        self.place_events(extras.emitted, &extras.seats, &mut next);
        self.rebuild_cells(&mut next);
        self.fill_seats(&extras.seats, &mut next);
        if !self.moves.is_empty() {
            let mut places = Places::clone(&next.places);
            places.apply(&self.moves);
            self.moves.clear();
            next.places = Arc::new(places);
        }
        next.state_hash = self.state_hash(extras.hidden);

        self.frame = Arc::new(next);
        (Arc::clone(&self.frame), truth)
    }

    /// Settles what was set for the entities of one kind: anchors are renewed, crossings are made.
    fn commit_kind(&mut self, kind: KindId, next: &mut Frame) -> KindTruth {
        let tick = self.tick;
        let table = &mut self.kinds[kind.index()];
        let mut delta = KindTruth { kind, despawned: table.take_despawned(), ..KindTruth::default() };
        let rows = table.take_rows_to_check();
        for &row in &rows {
            let table = &mut self.kinds[kind.index()];
            let row = row as usize;
            self.truth_sum = self.truth_sum.wrapping_add(table.note_truth(row, &mut delta));
            let changed = table.renew(row, tick);
            let (id, place, from) = table.take_whereabouts(row);

            let to = match (place, from) {
                (None, Some(from)) => from,
                (place, _) => cells::intern(place.unwrap_or_default(), next),
            };
            if from == Some(to) {
                if changed {
                    self.cells[to.index()].change(kind, id, row as u32);
                    self.mark_dirty(to);
                }
                continue;
            }
            table.put(row, to);
            while self.cells.len() <= to.index() {
                self.cells.push(Members::new(self.kinds.len()));
            }
            if let Some(from) = from {
                self.cells[from.index()].remove(kind, id);
                self.mark_dirty(from);
            }
            self.cells[to.index()].insert(kind, id, row as u32);
            self.mark_dirty(to);
            self.moves.push((id, kind, Some(to)));
        }
        self.kinds[kind.index()].give_back(rows);
        delta
    }

    fn mark_dirty(&mut self, cell: CellId) {
        if self.cells[cell.index()].mark() {
            self.dirty.push(cell);
        }
    }

    fn place_events(&mut self, emitted: Emitted, seats: &[SeatExtras], next: &mut Frame) {
        let mut by_cell: BTreeMap<CellId, Vec<Event>> = BTreeMap::new();
        let mut by_player: BTreeMap<PlayerId, Vec<Event>> = BTreeMap::new();
        for (audience, event) in emitted.events {
            match audience {
                Audience::At(place) => by_cell.entry(cells::intern(place, next)).or_default().push(event),
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
            let frame = &mut Arc::make_mut(&mut next.cells)[cell.index()];
            (frame.events, frame.changed) = (Some(events.into()), self.tick);
            self.eventful.push(cell);
        }
        for (audience, lost) in emitted.lost {
            if let Audience::At(place) = audience {
                let cell = cells::intern(place, next);
                let frame = &mut Arc::make_mut(&mut next.cells)[cell.index()];
                frame.events_lost += lost;
                frame.changed = self.tick;
                self.eventful.push(cell);
            }
        }
    }

    fn rebuild_cells(&mut self, next: &mut Frame) {
        for cell in self.dirty.drain(..) {
            let frame = &mut Arc::make_mut(&mut next.cells)[cell.index()];
            frame.state = Arc::new(self.cells[cell.index()].rebuild(&frame.state, &self.kinds));
            frame.changed = self.tick;
        }
    }

    fn fill_seats(&self, seats: &[SeatExtras], next: &mut Frame) {
        let own = |extras: &SeatExtras| -> Option<(NetId, Slot)> {
            let net_id = extras.entity?;
            let slot = self.index.get(&net_id).expect("a player's own entity is a replicated one");
            Some((net_id, *slot))
        };
        // One list for all: a list each would cost an allocation per player and tick.
        let mut all = Vec::with_capacity(next.seats.len() * 8);
        for (_, Slot { kind, row }) in seats.iter().filter_map(own) {
            all.extend_from_slice(self.kinds[kind.index()].truth(row as usize));
        }
        let (all, mut start) = (Arc::new(all), 0);
        for (seat, extras) in next.seats.iter_mut().zip(seats) {
            let Some((net_id, Slot { kind, row })) = own(extras) else { continue };
            let table = &self.kinds[kind.index()];
            let end = start + table.truth(row as usize).len();
            let cell = table.cell(row as usize).expect("its place was settled at this tick or before");
            seat.owner = Some(OwnerRow { net_id, kind, cell, values: OwnerValues::new(&all, start..end) });
            start = end;
        }
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
        self.table.set(self.row, field, fine);
    }

    /// Sets a field's rate: of a linear one the rate that a new anchor takes, in quanta · 2^shift per tick; of a ramped one
    /// the rate that it is heading for, in fine quanta · 2^shift per tick. Where it is never set, the truth's last step is
    /// taken for it.
    ///
    /// # Panics
    /// Where the kind has no such field.
    pub fn set_rate(&mut self, field: usize, rate: i32) {
        self.table.set_rate(self.row, field, rate);
    }

    /// Sets how long the entity's rates still change until they are what they head for, in 1/16 of a tick.
    pub fn set_ramp(&mut self, ramp: u16) {
        self.table.set_ramp(self.row, ramp);
    }

    /// Sets where the entity is.
    pub fn set_place(&mut self, place: Place) {
        self.table.set_place(self.row, place);
    }

    /// The area in which the entity was last set to be: what a game's hysteresis starts from.
    #[must_use]
    pub fn cell_key(&self) -> Option<CellKey> {
        match self.table.place(self.row) {
            Place::Always => None,
            Place::Cell(key) => Some(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{CellKey, Field, Kind, Quantity, Reading, SchemaParts};

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
        let reading = Reading::of(&schema().kinds[0].fields[0]);
        for (tick, frame) in (0..100).zip(&frames).skip(1) {
            let read = frame.cells[cell].state.kinds[0].read(0, 0, reading, frame.tick);
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
        let reading = Reading::of(&schema().kinds[0].fields[0]);
        assert_eq!(frame.cells[0].state.kinds[0].read(0, 0, reading, frame.tick), 200);
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
            builder.retain(DOT, [NetId(3), NetId(1)].into_iter());
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
        assert_eq!((&*truth.kinds[0].changed, &*truth.kinds[0].differences), (&[(NetId(1), 4)][..], &[-1][..]));
    }

    /// Something that is pushed towards a wanted speed, as a game's movers are: its truth, and what the game says of it.
    struct Mover {
        speed: f64,
        x: f64,
    }

    impl Mover {
        /// One tick at the least step of a snapped state. The rate that it is heading for, and the sixteenths of a tick
        /// until it has it.
        fn step(&mut self, wanted: i32, push: f64) -> (i32, u16) {
            let wanted = f64::from(wanted);
            self.speed += (wanted - self.speed).clamp(-push, push);
            self.x += self.speed.round();
            (wanted as i32, ((wanted - self.speed).abs() / push * 16.0).round() as u16)
        }
    }

    #[test]
    fn a_change_of_speed_is_one_change_of_a_ramp() {
        let metres = Quantity::new("m", 1.0 / 128.0, -1000.0..=1000.0);
        let fields = vec![Field::ramp("x", metres).owner_shift(3)];
        let parts = SchemaParts { game: "t".into(), kinds: vec![Kind::new("dot", fields)], ..Default::default() };
        let mut builder = FrameBuilder::new(&Schema::new(parts).expect("valid"), 0);
        let mut mover = Mover { speed: 0.0, x: 0.0 };
        let (mut changes, mut before) = (0, None);
        for tick in 0..1000 {
            let wanted = [85, -60, 0, 33, -85][tick / 40 % 5];
            let (heading, ramp) = mover.step(wanted, 11.4);
            let (frame, _) = step(&mut builder, |builder| {
                let mut entity = builder.entity(DOT, NetId(1));
                entity.set(0, mover.x as i32);
                entity.set_rate(0, heading);
                entity.set_ramp(ramp);
            });
            let motion = frame.cells[0].state.kinds[0].motions[0];
            changes += u32::from(before.replace(motion) != Some(motion));
        }
        // As many as there were changes of mind; the first came with the spawn.
        assert_eq!(changes, 25);
    }

    proptest! {
        #[test]
        fn what_clients_read_is_within_tolerance_of_the_truth_on_every_frame(
            tolerance in 0..5_i32,
            steps in proptest::collection::vec(((-3000..3000_i32, 1..20_u32), 0..90_u32, any::<bool>(), 0..4096_u16), 1..30),
        ) {
            let metres = Quantity::new("m", 1.0 / 128.0, -50.0..=50.0);
            let fields = vec![
                Field::linear("x", metres.clone()).owner_shift(3).tolerance(tolerance),
                Field::linear("heading", metres.clone()).angle(256, 1.0).owner_shift(2).tolerance(tolerance),
                Field::ramp("y", metres.clone()).owner_shift(3).rate_shift(1).tolerance(tolerance),
                Field::ramp("course", metres).angle(256, 1.0).owner_shift(2).tolerance(tolerance),
            ];
            let parts = SchemaParts { game: "t".into(), kinds: vec![Kind::new("dot", fields)], ..Default::default() };
            let schema = Schema::new(parts).expect("valid");
            let mut builder = FrameBuilder::new(&schema, 0);
            let (min, max) = schema.kinds[0].fields[0].quantity.fine_range(3).expect("fits");
            let (mut x, mut heading) = (0_i32, 0_i32);
            for ((speed, ticks), stands, is_told, ramp) in steps {
                for tick in 0..ticks + stands {
                    let moves = tick < ticks;
                    if moves {
                        x = (x + speed).clamp(min, max);
                        heading = (heading + speed).rem_euclid(256 << 2);
                    }
                    let (frame, _) = step(&mut builder, |builder| {
                        if !moves {
                            return;
                        }
                        let mut entity = builder.entity(DOT, NetId(1));
                        entity.set(0, x);
                        entity.set(1, heading);
                        entity.set(2, x);
                        entity.set(3, heading);
                        // Right or wrong, what a game tells costs at most bytes.
                        if is_told {
                            entity.set_rate(2, speed / 2);
                            entity.set_rate(3, speed);
                            entity.set_ramp(ramp);
                        }
                    });
                    for (i, fine) in [x, heading, x, heading].into_iter().enumerate() {
                        let field = &schema.kinds[0].fields[i];
                        let read = frame.cells[0].state.kinds[0].read(0, i, Reading::of(field), frame.tick);
                        let difference = i64::from(field.coarse(fine)) - i64::from(read);
                        let distance = field.turn.map_or(difference, |turn| {
                            let turn = i64::from(turn);
                            (difference + turn / 2).rem_euclid(turn) - turn / 2
                        });
                        let distance = distance.abs();
                        prop_assert!(distance <= i64::from(tolerance), "{}: {distance} quanta off", field.name);
                    }
                }
            }
        }
    }
}
