//! A [`FrameState`] in bytes: the newest frame whole, older ones by how they differ from the next newer.

mod columns;

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

use self::columns::{Change, Rows, Shape};
use super::{FrameState, FrameStateError};
use crate::{
    CELLS_MAX, CellFrame, CellId, CellKey, CellState, CellTable, Event, Frame, KindId, NetId, OwnerRow, OwnerValues,
    Place, Places, PlayerId, Roster, Schema, SeatFrame, Tick, builder::TruthRows, past::Moment,
};

/// The most frames that games look back at: a second at 240 Hz.
const MOMENTS_MAX: usize = 240;
/// The most that older frames may have of their own, all together: cells, entities of changed columns, and places. In a file a
/// frame takes a few bytes that differs in one entity from the next, and in memory it is as large as that.
const PAST_ROWS_MAX: usize = 1 << 23;

#[derive(Serialize, Deserialize)]
struct Form {
    tick: Tick,
    state_hash: u64,
    /// Of the cells after the first.
    keys: Vec<CellKey>,
    cells: Vec<Cell>,
    seats: Vec<Seat>,
    /// By kind.
    truth: Vec<Truth>,
    /// Newest first, from the one before the frame's tick on; `None`: the frame's own is not kept either.
    past: Option<Vec<OlderCells>>,
}

#[derive(Serialize, Deserialize)]
struct Cell {
    /// How many ticks ago it changed.
    age: u64,
    events: Option<Vec<Event>>,
    events_lost: u32,
    /// By kind.
    kinds: Vec<Rows>,
}

#[derive(Serialize, Deserialize)]
struct Seat {
    player: PlayerId,
    consumed_input: u64,
    entity: Option<NetId>,
    events: Option<Vec<Event>>,
    events_lost: u32,
}

/// Of the entities of one kind, in order of NetId.
#[derive(Serialize, Deserialize)]
struct Truth {
    fine: Vec<i32>,
    rates: Vec<Option<i32>>,
    ramps: Vec<u16>,
}

/// How a frame's cells were before the next frame.
#[derive(Serialize, Deserialize)]
struct OlderCells {
    /// How many there were.
    count: u32,
    /// (cell, kind, change): those whose columns were others.
    changes: Vec<(CellId, KindId, Change)>,
}

pub(super) fn encode(state: &FrameState) -> Vec<u8> {
    let FrameState { frame, truth: rows, past } = state;
    let events = |events: &Option<Arc<[Event]>>| events.as_ref().map(|events| events.to_vec());
    let cell = |cell: &CellFrame| Cell {
        age: frame.tick.since(cell.changed),
        events: events(&cell.events),
        events_lost: cell.events_lost,
        kinds: cell.state.kinds.iter().map(|columns| Rows::of(columns)).collect(),
    };
    let seat = |seat: &SeatFrame| Seat {
        player: seat.player,
        consumed_input: seat.consumed_input,
        entity: seat.owner.as_ref().map(|owner| owner.net_id),
        events: events(&seat.events),
        events_lost: seat.events_lost,
    };
    let truth = |TruthRows { fine, rates, ramps, .. }: &TruthRows| Truth {
        fine: fine.clone(),
        rates: rates.clone(),
        ramps: ramps.clone(),
    };
    let keys = (1..frame.cells.len() as u32).filter_map(|cell| match frame.table.place(CellId(cell))? {
        Place::Cell(key) => Some(key),
        Place::Always => None,
    });
    let form = Form {
        tick: frame.tick,
        state_hash: frame.state_hash,
        keys: keys.collect(),
        cells: frame.cells.iter().map(cell).collect(),
        seats: frame.seats.iter().map(seat).collect(),
        truth: rows.iter().map(truth).collect(),
        past: (!past.is_empty()).then(|| past.windows(2).rev().map(|pair| older(&pair[0], &pair[1])).collect()),
    };
    postcard::to_stdvec(&form).expect("plain numbers and lists of them go into memory")
}

fn older(older: &Moment, newer: &Moment) -> OlderCells {
    let mut changes = Vec::new();
    if !Arc::ptr_eq(&older.cells, &newer.cells) {
        for (cell, (old, new)) in (0..).map(CellId).zip(older.cells.iter().zip(newer.cells.iter())) {
            if Arc::ptr_eq(&old.state, &new.state) {
                continue;
            }
            let kinds = (0..).map(KindId).zip(old.state.kinds.iter().zip(&new.state.kinds));
            let changed = kinds.filter(|(_, (old, new))| !Arc::ptr_eq(old, new));
            let change = changed.map(|(kind, (old, new))| (cell, kind, Change::back(new, old)));
            changes.extend(change.filter(|(_, _, change)| !change.is_empty()));
        }
    }
    OlderCells { count: older.cells.len() as u32, changes }
}

pub(super) fn decode(schema: &Schema, roster: Arc<Roster>, bytes: &[u8]) -> Result<FrameState, FrameStateError> {
    decode_within(Allowance(PAST_ROWS_MAX), schema, roster, bytes)
}

fn decode_within(
    rows: Allowance,
    schema: &Schema,
    roster: Arc<Roster>,
    bytes: &[u8],
) -> Result<FrameState, FrameStateError> {
    let form: Form = postcard::from_bytes(bytes).map_err(|error| wrong("form", error.to_string()))?;
    if form.tick > Tick::MAX {
        return Err(wrong("tick", format!("{} is beyond 2^53", form.tick)));
    }
    let shapes: Vec<Shape> = schema.kinds.iter().map(Shape::of).collect();
    let table = cell_table(&form)?;
    let cells: Vec<CellFrame> =
        form.cells.iter().map(|cell| cell.frame(&shapes, form.tick)).collect::<Result<_, _>>()?;
    let places = places(&cells)?;
    let truth = truth(schema, &places, form.truth)?;
    let frame = Frame {
        epoch: 0,
        tick: form.tick,
        cells: Arc::new(cells),
        table: Arc::new(table),
        seats: seats(form.seats, &places, &truth)?,
        places: Arc::new(places),
        roster,
        state_hash: form.state_hash,
    };
    let past = past(form.past, &frame, &shapes, rows)?;
    Ok(FrameState { frame: Arc::new(frame), truth, past })
}

fn cell_table(form: &Form) -> Result<CellTable, FrameStateError> {
    let count = form.cells.len();
    if count == 0 || count > CELLS_MAX || form.keys.len() != count - 1 {
        return Err(wrong("cells", format!("{count} cells of {} keys", form.keys.len())));
    }
    let mut table = CellTable::default();
    for (key, cell) in form.keys.iter().zip((1..).map(CellId)) {
        if table.intern(Place::Cell(*key)) != cell {
            return Err(wrong("cells", format!("key {key} comes twice")));
        }
    }
    Ok(table)
}

impl Cell {
    fn frame(&self, shapes: &[Shape], tick: Tick) -> Result<CellFrame, FrameStateError> {
        if self.kinds.len() != shapes.len() {
            return Err(wrong("cells", format!("{} kinds instead of {}", self.kinds.len(), shapes.len())));
        }
        let columns = |(rows, shape): (&Rows, &Shape)| rows.columns(shape, tick).map(Arc::new);
        let kinds = self.kinds.iter().zip(shapes).map(columns).collect::<Result<_, _>>();
        let kinds = kinds.map_err(|problem| wrong("columns", problem))?;
        Ok(CellFrame {
            state: Arc::new(CellState { kinds }),
            events: self.events.clone().map(Into::into),
            events_lost: self.events_lost,
            changed: Tick(tick.0.saturating_sub(self.age)),
        })
    }
}

fn places(cells: &[CellFrame]) -> Result<Places, FrameStateError> {
    let mut entries = Vec::new();
    for (cell, frame) in (0..).map(CellId).zip(cells) {
        for (kind, columns) in (0..).map(KindId).zip(&frame.state.kinds) {
            entries.extend(columns.ids.iter().map(|&id| (id, kind, cell)));
        }
    }
    entries.sort_unstable();
    if let Some(twice) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(wrong("cells", format!("entity {} is in two of them", twice[0].0)));
    }
    Ok(Places::new(entries))
}

fn truth(schema: &Schema, places: &Places, forms: Vec<Truth>) -> Result<Vec<TruthRows>, FrameStateError> {
    if forms.len() != schema.kinds.len() {
        return Err(wrong("truth", format!("{} kinds instead of {}", forms.len(), schema.kinds.len())));
    }
    let mut ids = vec![Vec::new(); forms.len()];
    for &(id, kind, _) in places.entries() {
        ids[kind.index()].push(id);
    }
    let rows = |((Truth { fine, rates, ramps }, ids), kind): ((Truth, Vec<NetId>), &crate::Kind)| {
        let values = ids.len() * kind.fields.len();
        if fine.len() != values || rates.len() != values || ramps.len() != ids.len() {
            return Err(wrong("truth", format!("it does not fit the {} entities of kind {}", ids.len(), kind.name)));
        }
        Ok(TruthRows { ids, fine, rates, ramps })
    };
    forms.into_iter().zip(ids).zip(&schema.kinds).map(rows).collect()
}

fn seats(forms: Vec<Seat>, places: &Places, truth: &[TruthRows]) -> Result<Vec<SeatFrame>, FrameStateError> {
    if !forms.is_sorted_by(|a, b| a.player < b.player) {
        return Err(wrong("seats", "they are not in order of player".to_owned()));
    }
    let mut all = Vec::new();
    let mut owners = Vec::new();
    for seat in &forms {
        let Some(net_id) = seat.entity else {
            owners.push(None);
            continue;
        };
        let unknown = || wrong("seats", format!("entity {net_id} of player {} is not there", seat.player));
        let (kind, cell) = places.get(net_id).ok_or_else(unknown)?;
        let rows = &truth[kind.index()];
        let (row, width) = (rows.ids.binary_search(&net_id), rows.fine.len() / rows.ids.len());
        let row = row.map_err(|_| unknown())?;
        let start = all.len();
        all.extend_from_slice(&rows.fine[row * width..(row + 1) * width]);
        owners.push(Some((net_id, kind, cell, start..all.len())));
    }
    let all = Arc::new(all);
    let row = |(net_id, kind, cell, range)| {
        let values = OwnerValues::new(&all, range);
        OwnerRow { net_id, kind, cell, values }
    };
    let seat = |(seat, owner): (Seat, Option<_>)| SeatFrame {
        player: seat.player,
        consumed_input: seat.consumed_input,
        owner: owner.map(row),
        events: seat.events.map(Into::into),
        events_lost: seat.events_lost,
    };
    Ok(forms.into_iter().zip(owners).map(seat).collect())
}

fn past(
    forms: Option<Vec<OlderCells>>,
    frame: &Frame,
    shapes: &[Shape],
    mut rows: Allowance,
) -> Result<Vec<Moment>, FrameStateError> {
    let Some(forms) = forms else { return Ok(Vec::new()) };
    if forms.len() >= MOMENTS_MAX || forms.len() as u64 >= frame.tick.0.max(1) {
        return Err(wrong("past", format!("{} frames before tick {}", forms.len(), frame.tick)));
    }
    let newest = Moment { tick: frame.tick, cells: Arc::clone(&frame.cells), places: Arc::clone(&frame.places) };
    let mut past = vec![newest];
    for form in forms {
        let newer = past.last().expect("the newest is there");
        let moment = form.moment(newer, shapes, &mut rows).map_err(|problem| wrong("past", problem))?;
        past.push(moment);
    }
    past.reverse();
    Ok(past)
}

/// How much more there may be.
struct Allowance(usize);

impl Allowance {
    fn spend(&mut self, rows: usize) -> Result<(), String> {
        let left = self.0.checked_sub(rows);
        self.0 = left.ok_or("older frames have more cells and entities of their own than they may")?;
        Ok(())
    }
}

impl OlderCells {
    fn moment(self, newer: &Moment, shapes: &[Shape], rows: &mut Allowance) -> Result<Moment, String> {
        let Self { count, changes } = self;
        let tick = Tick(newer.tick.0 - 1);
        let count = count as usize;
        if !(1..=newer.cells.len()).contains(&count) {
            return Err(format!("{count} cells before {}", newer.cells.len()));
        }
        if count == newer.cells.len() && changes.is_empty() {
            return Ok(Moment { tick, cells: Arc::clone(&newer.cells), places: Arc::clone(&newer.places) });
        }
        rows.spend(count)?;
        // Nobody asks an older frame for its events.
        let bare = |cell: &CellFrame| CellFrame { state: Arc::clone(&cell.state), ..CellFrame::default() };
        let mut cells: Vec<CellFrame> = newer.cells[..count].iter().map(bare).collect();
        let mut moved = newer.cells[count..].iter().any(|cell| !cell.state.is_empty());
        let mut done = BTreeSet::new();
        for (cell, kind, change) in changes {
            let state = cells.get_mut(cell.index()).filter(|_| done.insert((cell, kind)));
            let (state, shape) = state
                .zip(shapes.get(kind.index()))
                .ok_or_else(|| format!("cell {cell} of kind {kind} is not there, or comes twice"))?;
            moved |= change.moves();
            let columns = &mut Arc::make_mut(&mut state.state).kinds[kind.index()];
            rows.spend(columns.ids.len())?;
            *columns = Arc::new(change.apply(columns, shape, tick)?);
        }
        if moved {
            rows.spend(newer.places.entries().len())?;
        }
        let places =
            if moved { Arc::new(places(&cells).map_err(|error| error.problem)?) } else { Arc::clone(&newer.places) };
        Ok(Moment { tick, cells: Arc::new(cells), places })
    }
}

fn wrong(what: &'static str, problem: String) -> FrameStateError {
    FrameStateError { what, problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Field, Kind, Quantity, SchemaParts};

    #[test]
    fn bytes_that_say_that_they_are_far_larger_in_memory_are_refused() {
        let fields = vec![Field::plain("hue", Quantity::count(0..=9))];
        let parts = SchemaParts { game: "t".into(), kinds: vec![Kind::new("dot", fields)], ..Default::default() };
        let schema = Schema::new(parts).expect("a schema");
        // Each older frame has a cell less, so that it shares no list of them.
        let bytes = |cells: u32| {
            let rows = || vec![Rows::of(&crate::Columns::empty(&schema.kinds[0]))];
            let cell = || Cell { age: 0, events: None, events_lost: 0, kinds: rows() };
            let older = (1..MOMENTS_MAX as u32).map(|age| OlderCells { count: cells - age, changes: Vec::new() });
            let truth = Truth { fine: Vec::new(), rates: Vec::new(), ramps: Vec::new() };
            let form = Form {
                tick: Tick(1000),
                state_hash: 0,
                keys: (1..cells).map(|cell| CellKey(cell.into())).collect(),
                cells: (0..cells).map(|_| cell()).collect(),
                seats: Vec::new(),
                truth: vec![truth],
                past: Some(older.collect()),
            };
            postcard::to_stdvec(&form).expect("it goes into memory")
        };
        let read = |rows, bytes: &[u8]| decode_within(Allowance(rows), &schema, Arc::default(), bytes);
        let bytes = bytes(1000);
        assert!(bytes.len() < 10_000, "{}", bytes.len());
        // 999 cells, then 998, and so on.
        let all = (1..MOMENTS_MAX).map(|age| 1000 - age).sum();
        assert_eq!(read(all, &bytes).expect("they are frames").past.len(), MOMENTS_MAX);
        let error = read(all - 1, &bytes).expect_err("they are too many").to_string();
        assert!(error.contains("past: older frames have more cells and entities of their own"), "{error}");
    }
}
