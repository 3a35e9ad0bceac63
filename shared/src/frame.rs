//! The replicated state of one tick, immutable and shared by all who read it.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    Anchor, CellId, CellKey, Event, Field, Kind, KindId, Line, Motion, NetId, Place, PlayerId, Ramp, Ramped, Roster,
    Schema, Tick, hash::Murmur3,
};

/// The replicated state of one tick. What did not change is the same `Arc` as in the frame before.
#[derive(Clone, Debug)]
pub struct Frame {
    /// How often the session has been recovered.
    pub epoch: u32,
    /// When.
    pub tick: Tick,
    /// All cells that the session has ever used, by [`CellId::index`]; the first is `always`.
    pub cells: Arc<Vec<CellFrame>>,
    /// Which areas of the game the cells are.
    pub table: Arc<CellTable>,
    /// Where each entity is.
    pub places: Arc<Places>,
    /// What each seated player has of their own, in order of player.
    pub seats: Vec<SeatFrame>,
    /// The players as all see them.
    pub roster: Arc<Roster>,
    /// The truth at field quanta, and the game's hidden state, in one number.
    pub state_hash: u64,
}

impl Frame {
    /// The created world: no cells but `always`, no entities, no seats.
    #[must_use]
    pub fn empty(schema: &Schema, epoch: u32) -> Self {
        Self {
            epoch,
            tick: Tick::ZERO,
            cells: Arc::new(vec![CellFrame { state: Arc::new(CellState::empty(schema)), ..CellFrame::default() }]),
            table: Arc::new(CellTable::default()),
            places: Arc::new(Places::default()),
            seats: Vec::new(),
            roster: Arc::new(Roster::default()),
            state_hash: 0,
        }
    }

    /// What of the frame is of use once there is a newer one: all but the seats, of which only those with events are kept,
    /// and without their entities.
    #[must_use]
    pub fn superseded(&self) -> Self {
        let has_events = |seat: &&SeatFrame| seat.events.is_some() || seat.events_lost > 0;
        Self {
            epoch: self.epoch,
            tick: self.tick,
            cells: Arc::clone(&self.cells),
            table: Arc::clone(&self.table),
            places: Arc::clone(&self.places),
            seats: self.seats.iter().filter(has_events).map(|seat| SeatFrame { owner: None, ..seat.clone() }).collect(),
            roster: Arc::clone(&self.roster),
            state_hash: self.state_hash,
        }
    }

    /// A cell, where the session has used it.
    #[must_use]
    pub fn cell(&self, cell: CellId) -> Option<&CellFrame> {
        self.cells.get(cell.index())
    }

    /// A player's own part, where they sit.
    #[must_use]
    pub fn seat(&self, player: PlayerId) -> Option<&SeatFrame> {
        self.seats.binary_search_by_key(&player, |seat| seat.player).ok().map(|i| &self.seats[i])
    }
}

/// One cell at the frame's tick.
#[derive(Clone, Debug, Default)]
pub struct CellFrame {
    /// Its entities.
    pub state: Arc<CellState>,
    /// Its events of this tick alone, in order of ordinal.
    pub events: Option<Arc<[Event]>>,
    /// Events of this tick that did not fit a limit.
    pub events_lost: u32,
    /// The newest tick at which its entities changed or it had events.
    pub changed: Tick,
}

/// The canonical state of a cell's entities: exactly what clients hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CellState {
    /// One per kind of the schema, in its order.
    pub kinds: Vec<Arc<Columns>>,
}

impl CellState {
    /// A cell without entities.
    #[must_use]
    pub fn empty(schema: &Schema) -> Self {
        Self { kinds: schema.kinds.iter().map(|kind| Arc::new(Columns::empty(kind))).collect() }
    }

    /// The number of entities.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kinds.iter().map(|columns| columns.ids.len()).sum()
    }

    /// Whether there are no entities.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kinds.iter().all(|columns| columns.ids.is_empty())
    }

    /// The cell's hash, as clients check it: the sum, modulo 2^32, of all entities' hashes.
    #[must_use]
    pub fn hash(&self) -> u32 {
        let of_kind = |(kind, columns): (usize, &Arc<Columns>)| columns.hash(KindId(kind as u16));
        self.kinds.iter().enumerate().map(of_kind).fold(0, u32::wrapping_add)
    }
}

/// The entities of one kind in one cell, in order of NetId, field by field.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    /// Rising.
    pub ids: Vec<NetId>,
    /// What each entity's ramped values share: as long as `ids` where the kind has such fields, else empty.
    pub motions: Vec<Motion>,
    /// One per public field of the kind, in its order, each as long as `ids`.
    pub fields: Vec<Column>,
}

/// The values of one field.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    /// Of a field without a predictor.
    Plain(Vec<i32>),
    /// Of a linear field.
    Anchored(Vec<Anchor>),
    /// Of a ramped field.
    Ramped(Vec<Ramped>),
}

/// How a column is read at a tick: what of a field its predictor needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The value as it stands.
    Plain,
    /// Along a line.
    Line(Line),
    /// Along a ramp.
    Ramp(Ramp),
}

impl Reading {
    /// How the columns of a field are read.
    #[must_use]
    pub fn of(field: &Field) -> Self {
        match (field.line(), field.ramp_line()) {
            (Some(line), _) => Self::Line(line),
            (_, Some(ramp)) => Self::Ramp(ramp),
            _ => Self::Plain,
        }
    }
}

impl Columns {
    /// No entities of `kind`.
    #[must_use]
    pub fn empty(kind: &Kind) -> Self {
        let column = |(_, field): (usize, &Field)| match Reading::of(field) {
            Reading::Plain => Column::Plain(Vec::new()),
            Reading::Line(_) => Column::Anchored(Vec::new()),
            Reading::Ramp(_) => Column::Ramped(Vec::new()),
        };
        Self { ids: Vec::new(), motions: Vec::new(), fields: kind.public_fields().map(column).collect() }
    }

    /// Columns of the same fields, without rows.
    #[must_use]
    pub fn without_rows(&self) -> Self {
        let empty = |column: &Column| match column {
            Column::Plain(_) => Column::Plain(Vec::new()),
            Column::Anchored(_) => Column::Anchored(Vec::new()),
            Column::Ramped(_) => Column::Ramped(Vec::new()),
        };
        Self { ids: Vec::new(), motions: Vec::new(), fields: self.fields.iter().map(empty).collect() }
    }

    /// Appends row `row` of `other`, columns of the same kind.
    ///
    /// # Panics
    /// Where the columns are of different kinds, or `other` has no such row.
    pub fn push_from(&mut self, other: &Self, row: usize) {
        self.ids.push(other.ids[row]);
        if let Some(motion) = other.motions.get(row) {
            self.motions.push(*motion);
        }
        for (to, from) in self.fields.iter_mut().zip(&other.fields) {
            match (to, from) {
                (Column::Plain(to), Column::Plain(from)) => to.push(from[row]),
                (Column::Anchored(to), Column::Anchored(from)) => to.push(from[row]),
                (Column::Ramped(to), Column::Ramped(from)) => to.push(from[row]),
                _ => panic!("columns of one field are of one sort"),
            }
        }
    }

    /// The value of a row's field at `tick`, as anyone may use it. `column` is the field's place among the public ones.
    ///
    /// # Panics
    /// Where there is no such row or column, or `reading` is that of another field.
    #[must_use]
    pub fn read(&self, row: usize, column: usize, reading: Reading, tick: Tick) -> i32 {
        match (&self.fields[column], reading) {
            (Column::Plain(values), Reading::Plain) => values[row],
            (Column::Anchored(anchors), Reading::Line(line)) => line.read(&anchors[row], tick),
            (Column::Ramped(held), Reading::Ramp(ramp)) => ramp.read(&held[row], &self.motions[row], tick),
            _ => panic!("a column is read as its field says"),
        }
    }

    /// The row of an entity.
    #[must_use]
    pub fn row(&self, id: NetId) -> Option<usize> {
        self.ids.binary_search(&id).ok()
    }

    /// One entity's hash: Murmur3 over its NetId, its kind, the low 32 bits of its motion's tick and its ramp where its kind
    /// has ramped fields, and for each public field its value, for an anchor its value, its rate and the low 32 bits of its
    /// tick, for a ramped value its value, its rate and the rate after the ramp.
    #[must_use]
    pub fn hash_row(&self, kind: KindId, row: usize) -> u32 {
        let mut hash = Murmur3::default();
        hash.write(self.ids[row].0);
        hash.write(u32::from(kind.0));
        if let Some(motion) = self.motions.get(row) {
            hash.write(motion.tick.0 as u32);
            hash.write(u32::from(motion.ramp));
        }
        for column in &self.fields {
            match column {
                Column::Plain(values) => hash.write(values[row] as u32),
                Column::Anchored(anchors) => {
                    let Anchor { value, rate, tick } = anchors[row];
                    hash.write(value as u32);
                    hash.write(rate as u32);
                    hash.write(tick.0 as u32);
                }
                Column::Ramped(held) => {
                    let Ramped { value, rate, to } = held[row];
                    hash.write(value as u32);
                    hash.write(rate as u32);
                    hash.write(to as u32);
                }
            }
        }
        hash.finish()
    }

    fn hash(&self, kind: KindId) -> u32 {
        (0..self.ids.len()).map(|row| self.hash_row(kind, row)).fold(0, u32::wrapping_add)
    }
}

/// Which areas of the game a session's cells are: interned in order of first use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CellTable {
    keys: Vec<CellKey>,
    ids: BTreeMap<CellKey, CellId>,
}

impl CellTable {
    /// The cell of a place, where the session has used it.
    #[must_use]
    pub fn id(&self, place: Place) -> Option<CellId> {
        match place {
            Place::Always => Some(CellId::ALWAYS),
            Place::Cell(key) => self.ids.get(&key).copied(),
        }
    }

    /// The place that a cell is.
    #[must_use]
    pub fn place(&self, cell: CellId) -> Option<Place> {
        match cell.index().checked_sub(1) {
            None => Some(Place::Always),
            Some(i) => self.keys.get(i).copied().map(Place::Cell),
        }
    }

    /// The cell of a place, interned where it is new.
    pub fn intern(&mut self, place: Place) -> CellId {
        let Place::Cell(key) = place else { return CellId::ALWAYS };
        *self.ids.entry(key).or_insert_with(|| {
            self.keys.push(key);
            CellId(self.keys.len() as u32)
        })
    }
}

/// Where each entity is, in order of NetId.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    entries: Vec<(NetId, KindId, CellId)>,
}

impl Places {
    /// From entries in rising order of NetId.
    #[must_use]
    pub fn new(entries: Vec<(NetId, KindId, CellId)>) -> Self {
        debug_assert!(entries.is_sorted_by(|a, b| a.0 < b.0), "places are in order of NetId");
        Self { entries }
    }

    /// An entity's kind and cell.
    #[must_use]
    pub fn get(&self, id: NetId) -> Option<(KindId, CellId)> {
        let i = self.entries.binary_search_by_key(&id, |entry| entry.0).ok()?;
        Some((self.entries[i].1, self.entries[i].2))
    }

    /// All entities, in order of NetId.
    #[must_use]
    pub fn entries(&self) -> &[(NetId, KindId, CellId)] {
        &self.entries
    }

    /// Takes moves in: where entities are now, `None` for those that are gone; each entity once.
    pub(crate) fn apply(&mut self, moves: &[(NetId, KindId, Option<CellId>)]) {
        let (mut is_sorted, mut gone) = (true, Vec::new());
        let known = self.entries.len();
        for &(id, kind, cell) in moves {
            match (self.entries[..known].binary_search_by_key(&id, |entry| entry.0), cell) {
                (Ok(i), Some(cell)) => self.entries[i] = (id, kind, cell),
                (Ok(_), None) => gone.push(id),
                (Err(_), Some(cell)) => {
                    // Ids rise, so that new ones nearly always stand last.
                    is_sorted &= self.entries.last().is_none_or(|last| last.0 < id);
                    self.entries.push((id, kind, cell));
                }
                (Err(_), None) => {}
            }
        }
        if !gone.is_empty() {
            gone.sort_unstable();
            self.entries.retain(|entry| gone.binary_search(&entry.0).is_err());
        }
        if !is_sorted {
            self.entries.sort_unstable();
        }
    }
}

/// What one player has of their own at the frame's tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeatFrame {
    /// Whose.
    pub player: PlayerId,
    /// The newest input sequence that a tick has consumed.
    pub consumed_input: u64,
    /// Their entity.
    pub owner: Option<OwnerRow>,
    /// Their own events of this tick, in order of ordinal.
    pub events: Option<Arc<[Event]>>,
    /// Their own events of this tick that did not fit a limit.
    pub events_lost: u32,
}

/// A player's own entity, exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerRow {
    /// The entity.
    pub net_id: NetId,
    /// Its kind.
    pub kind: KindId,
    /// Its cell.
    pub cell: CellId,
    /// Every field of the kind, in quanta of `quantum / 2^owner_shift`.
    pub values: OwnerValues,
}

/// One entity's part of the values of all owners, which stand together.
#[derive(Clone, Debug)]
pub struct OwnerValues {
    all: Arc<Vec<i32>>,
    start: u32,
    end: u32,
}

impl OwnerValues {
    /// `range` of `all`.
    ///
    /// # Panics
    /// Where `all` is shorter.
    pub(crate) fn new(all: &Arc<Vec<i32>>, range: std::ops::Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= all.len(), "a range of the values");
        Self { all: Arc::clone(all), start: range.start as u32, end: range.end as u32 }
    }
}

impl std::ops::Deref for OwnerValues {
    type Target = [i32];

    fn deref(&self) -> &[i32] {
        &self.all[self.start as usize..self.end as usize]
    }
}

impl PartialEq for OwnerValues {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for OwnerValues {}

impl From<Vec<i32>> for OwnerValues {
    fn from(values: Vec<i32>) -> Self {
        let len = values.len();
        Self::new(&Arc::new(values), 0..len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(hues: [i32; 2]) -> CellState {
        let columns =
            Columns { ids: vec![NetId(4), NetId(9)], motions: Vec::new(), fields: vec![Column::Plain(hues.to_vec())] };
        CellState { kinds: vec![Arc::new(columns)] }
    }

    #[test]
    fn a_swap_of_two_entities_values_changes_the_cells_hash() {
        assert_ne!(cell([1, 2]).hash(), cell([2, 1]).hash());
        assert_eq!(cell([1, 2]).hash(), cell([1, 2]).hash());
    }

    #[test]
    fn an_empty_cell_hashes_to_nothing() {
        assert_eq!(CellState::default().hash(), 0);
    }

    #[test]
    fn cells_are_numbered_in_order_of_first_use() {
        let mut table = CellTable::default();
        let (first, second) = (Place::Cell(CellKey(77)), Place::Cell(CellKey(3)));
        assert_eq!([table.intern(first), table.intern(second), table.intern(first)], [CellId(1), CellId(2), CellId(1)]);
        assert_eq!([table.id(Place::Always), table.id(second)], [Some(CellId::ALWAYS), Some(CellId(2))]);
        assert_eq!([table.place(CellId(2)), table.place(CellId(3))], [Some(second), None]);
    }
}
