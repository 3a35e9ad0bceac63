//! The client's twin of a view: for each stream its cells, exactly the server's at their ticks, and above the streams what
//! is shown of each entity.
//!
//! An update touches only its own cell, so cells may stand at different ticks. What is shown of an entity is decided above
//! them: the instance in the cell with the greatest tick, never one from before a tick at which the entity was already
//! shown, left or died.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use prost::Message as _;
use tickwire_proto::v1 as pb;
use tickwire_shared::{
    CELLS_MAX, CellId, CellState, Columns, KindId, NetId, NumberMap, PlayerId, PlayerStatus, Schema, Tick,
};

use crate::{
    chunk::{self, Layout, Moves, ReceivedEvent},
    outcome::{Applied, MirrorError, MirrorEvent},
    owner::{OwnerMirror, OwnerState},
    shown::Shown,
};

/// The most streams of one player.
pub const STRIPES_MAX: usize = 4;
/// The most slices of one update: what is staged of a hostile one stays bounded.
pub const SLICES_MAX: u32 = 1 << 10;
/// The most bytes of them.
const STAGED_BYTES_MAX: usize = 16 << 20;
/// How many events are remembered at most, so that a repeat is not shown twice.
const EVENTS_REMEMBERED_MAX: usize = 1 << 14;

/// All that a client holds of a session.
#[derive(Debug)]
pub struct Mirror {
    schema: Arc<Schema>,
    layout: Layout,
    /// By kind and field: the column of a public field.
    columns: Vec<Vec<Option<usize>>>,
    epoch: u32,
    stripes: Vec<Stripe>,
    locations: NumberMap<NetId, Locations>,
    /// Entities that stand in more than one cell: few, and checked after each snapshot.
    crowded: BTreeSet<NetId>,
    /// For entities that were taken from a cell: the greatest tick at which they were shown, left or died.
    seen: NumberMap<NetId, Tick>,
    ghosts: BTreeMap<NetId, Ghost>,
    events: BTreeSet<(Tick, u32)>,
    owner: Option<OwnerState>,
    owner_tick: Tick,
    roster: BTreeMap<PlayerId, RosterEntry>,
}

/// One stream's cells.
#[derive(Debug, Default)]
struct Stripe {
    tick: Tick,
    cells: BTreeMap<CellId, MirrorCell>,
    /// In all its cells.
    entities: usize,
    staging: Option<Staging>,
    owner: OwnerMirror,
    /// After an error: everything until a reset is ignored.
    broken: bool,
}

#[derive(Debug)]
struct MirrorCell {
    tick: Tick,
    state: CellState,
}

/// An update that was cut, until its last slice is there.
#[derive(Debug)]
struct Staging {
    cell: CellId,
    tick: Tick,
    slices: Vec<pb::CellUpdate>,
    bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Location {
    stripe: u8,
    cell: CellId,
}

/// Where an entity stands: nearly always one place.
#[derive(Debug)]
struct Locations {
    first: Location,
    more: Vec<Location>,
}

impl Locations {
    fn iter(&self) -> impl Iterator<Item = Location> + '_ {
        std::iter::once(self.first).chain(self.more.iter().copied())
    }
}

/// An entity on its way to a cell that has not caught up yet: its last instance.
#[derive(Debug)]
struct Ghost {
    kind: KindId,
    cell: CellId,
    tick: Tick,
    columns: Columns,
    to_cell: CellId,
    left_at: Tick,
}

/// A player as all players see them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterEntry {
    /// The name.
    pub name: String,
    /// Connected or disconnected; those who left have no entry.
    pub status: PlayerStatus,
    /// In the order of the schema's scores.
    pub scores: Vec<i32>,
}

impl Mirror {
    /// An empty mirror for a session of this schema.
    #[must_use]
    pub fn new(schema: Arc<Schema>) -> Self {
        let columns = schema
            .kinds
            .iter()
            .map(|kind| {
                let mut columns = vec![None; kind.fields.len()];
                for (column, (field, _)) in kind.public_fields().enumerate() {
                    columns[field] = Some(column);
                }
                columns
            })
            .collect();
        Self {
            layout: Layout::of(&schema),
            schema,
            columns,
            epoch: 0,
            stripes: Vec::new(),
            locations: NumberMap::default(),
            crowded: BTreeSet::new(),
            seen: NumberMap::default(),
            ghosts: BTreeMap::new(),
            events: BTreeSet::new(),
            owner: None,
            owner_tick: Tick::ZERO,
            roster: BTreeMap::new(),
        }
    }

    /// Applies a snapshot of one stream.
    ///
    /// After an error the stream's snapshots are ignored until one with `reset` arrives.
    ///
    /// # Errors
    /// Where the snapshot does not fit what the stream holds; tell the server with [`MirrorError::resync_reason`].
    ///
    /// # Panics
    /// Where `stripe` is not below [`STRIPES_MAX`].
    pub fn apply(&mut self, stripe: usize, snapshot: &pb::Snapshot) -> Result<Applied, MirrorError> {
        assert!(stripe < STRIPES_MAX, "a player has at most {STRIPES_MAX} streams");
        while self.stripes.len() <= stripe {
            self.stripes.push(Stripe::default());
        }
        if self.stripes[stripe].broken && !snapshot.reset {
            return Ok(Applied { tick: Tick(snapshot.tick), ignored: true, ..Applied::default() });
        }
        let result = self.apply_whole(stripe, snapshot);
        self.stripes[stripe].broken = result.is_err();
        result
    }

    fn apply_whole(&mut self, stripe: usize, snapshot: &pb::Snapshot) -> Result<Applied, MirrorError> {
        let tick = Tick(snapshot.tick);
        let bad = |field, reason| MirrorError::Bad { tick, field, reason };
        if tick > Tick::MAX {
            return Err(bad("tick", "beyond 2^53"));
        }
        let mut applied = Applied {
            tick,
            consumed_input: snapshot.consumed_input,
            received_input: snapshot.received_input,
            received_margin_us: snapshot.received_margin_us,
            slip_us: snapshot.slip_us,
            ..Applied::default()
        };
        self.start(stripe, snapshot, &mut applied)?;

        let events = self.stripes[stripe]
            .owner
            .apply(&self.schema, snapshot.owner.as_ref(), tick)
            .map_err(|reason| bad("owner", reason))?;
        applied.events_lost += u64::from(snapshot.owner.as_ref().map_or(0, |owner| owner.events_lost));
        self.note_events(events, true, &mut applied);
        if tick >= self.owner_tick {
            self.owner = self.stripes[stripe].owner.state().cloned();
            self.owner_tick = tick;
        }
        self.apply_roster(&snapshot.roster, tick)?;

        for &cell in &snapshot.dropped_cells {
            self.drop_cell(stripe, CellId(cell), tick).ok_or(bad("dropped_cells", "a cell that is not in the view"))?;
        }
        let mut standing: BTreeSet<CellId> = BTreeSet::new();
        for update in &snapshot.cells {
            self.update_cell(stripe, update, tick, &mut standing, &mut applied)?;
        }
        for &cell in &snapshot.deferred_cells {
            standing.insert(CellId(cell));
        }
        self.advance(stripe, tick, &standing).map_err(|reason| bad("deferred_cells", reason))?;
        self.settle_ghosts();
        self.check_crowded()?;
        applied.entities = self.stripes[stripe].entities;
        applied.events.sort_by_key(|event| (event.received.tick, event.received.event.ordinal));
        self.forget();
        Ok(applied)
    }

    fn start(&mut self, stripe: usize, snapshot: &pb::Snapshot, applied: &mut Applied) -> Result<(), MirrorError> {
        let tick = Tick(snapshot.tick);
        let bad = |field, reason| MirrorError::Bad { tick, field, reason };
        if snapshot.epoch != self.epoch {
            if !snapshot.reset {
                return Err(bad("epoch", "another than before, without a reset"));
            }
            // Time may have gone back: nothing of the old epoch is worth anything.
            let schema = Arc::clone(&self.schema);
            *self = Self { epoch: snapshot.epoch, stripes: Vec::new(), ..Self::new(schema) };
            self.stripes.resize_with(stripe + 1, Stripe::default);
            applied.new_epoch = true;
        }
        if snapshot.reset {
            applied.reset = true;
            self.clear_stripe(stripe);
            self.stripes[stripe] = Stripe::default();
            self.roster.clear();
        } else if tick <= self.stripes[stripe].tick {
            return Err(bad("tick", "not above the stream's last"));
        }
        Ok(())
    }

    fn apply_roster(&mut self, rows: &[pb::RosterRow], tick: Tick) -> Result<(), MirrorError> {
        for row in rows {
            let status = match row.status() {
                pb::PlayerStatus::Connected => PlayerStatus::Connected,
                pb::PlayerStatus::Disconnected => PlayerStatus::Disconnected,
                pb::PlayerStatus::Left => {
                    self.roster.remove(&PlayerId(row.player));
                    continue;
                }
                pb::PlayerStatus::Unspecified => {
                    return Err(MirrorError::Bad { tick, field: "roster.status", reason: "not a status" });
                }
            };
            let entry = RosterEntry { name: row.name.clone(), status, scores: row.scores.clone() };
            self.roster.insert(PlayerId(row.player), entry);
        }
        Ok(())
    }

    fn update_cell(
        &mut self,
        stripe: usize,
        update: &pb::CellUpdate,
        header: Tick,
        standing: &mut BTreeSet<CellId>,
        applied: &mut Applied,
    ) -> Result<(), MirrorError> {
        let bad = |field, reason| MirrorError::Bad { tick: header, field, reason };
        let cell = CellId(update.cell);
        let tick = header.0.checked_sub(u64::from(update.tick_age));
        let tick = Tick(tick.ok_or(bad("cells.tick_age", "it leads to before tick 0"))?);
        standing.insert(cell);
        let sliced = update.slices > 1;
        if !sliced {
            if self.stripes[stripe].staging.as_ref().is_some_and(|staging| staging.cell == cell) {
                return Err(bad("cells", "a whole update of a cell whose slices are under way"));
            }
            return self.apply_update(stripe, cell, tick, std::slice::from_ref(update), applied);
        }

        if update.slices > SLICES_MAX {
            return Err(bad("cells.slices", "more than 1024"));
        }
        let staging = &mut self.stripes[stripe].staging;
        if update.slice == 0 {
            if staging.is_some() {
                return Err(bad("cells.slice", "a second sliced cell"));
            }
            *staging = Some(Staging { cell, tick, slices: Vec::new(), bytes: 0 });
        }
        let same = |first: &pb::CellUpdate| (first.base_age, first.slices) == (update.base_age, update.slices);
        match staging {
            Some(staging)
                if (staging.cell, staging.tick) == (cell, tick)
                    && staging.slices.len() == update.slice as usize
                    && staging.slices.first().is_none_or(same) =>
            {
                staging.bytes += update.encoded_len();
                if staging.bytes > STAGED_BYTES_MAX {
                    return Err(bad("cells.slices", "more than 16 MiB"));
                }
                staging.slices.push(update.clone());
            }
            _ => return Err(bad("cells.slice", "not the one that is due")),
        }
        if update.slice + 1 == update.slices {
            let staging = staging.take().expect("just pushed to");
            return self.apply_update(stripe, cell, tick, &staging.slices, applied);
        }
        Ok(())
    }

    /// Applies all slices of an update, and decides what becomes of the entities that came and went.
    fn apply_update(
        &mut self,
        stripe: usize,
        cell: CellId,
        tick: Tick,
        slices: &[pb::CellUpdate],
        applied: &mut Applied,
    ) -> Result<(), MirrorError> {
        let bad = |field, reason| MirrorError::Bad { tick, field, reason };
        let last = slices.last().ok_or(bad("cells", "no slices"))?;
        // Ghosts are taken before the update moves what they are made of.
        let mut leaving = BTreeMap::new();
        let base_age = last.base_age.unwrap_or(1);
        let base = if base_age == 0 {
            applied.cells_full += 1;
            self.remove_cell(stripe, cell);
            if self.stripes[stripe].cells.len() >= CELLS_MAX {
                return Err(bad("cells.cell", "more than 65,536 cells in view"));
            }
            let empty = MirrorCell { tick, state: CellState::empty(&self.schema) };
            self.stripes[stripe].cells.insert(cell, empty);
            tick
        } else {
            let base = tick.0.checked_sub(u64::from(base_age)).map(Tick);
            let held = self.stripes[stripe].cells.get(&cell).filter(|held| Some(held.tick) == base);
            let held = held.ok_or(bad("cells.base_age", "not the tick that is held"))?;
            if slices.iter().flat_map(|slice| &slice.kinds).any(|update| !update.left.is_empty()) {
                leaving = self.ghosts_of(&held.state, slices);
            }
            held.tick
        };
        let events = chunk::read_events(&self.schema, &last.events, tick);
        self.note_events(events.map_err(|reason| bad("cells.events", reason))?, false, applied);
        applied.events_lost += u64::from(last.events_lost);
        let held = self.stripes[stripe].cells.get_mut(&cell).expect("held before, or just put there");
        match chunk::apply(&self.layout, &mut held.state, slices, (base, tick)) {
            Ok(moves) => {
                held.tick = tick;
                applied.hash_checks += u32::from(last.hash.is_some());
                self.move_entities(stripe, cell, tick, &moves, leaving);
                Ok(())
            }
            Err(error) => {
                // Half applied, it is nothing to show.
                self.stripes[stripe].cells.remove(&cell);
                Err(error.into())
            }
        }
    }

    /// The shown instances of entities that an update of a cell moves to other cells.
    fn ghosts_of(&self, held: &CellState, slices: &[pb::CellUpdate]) -> BTreeMap<NetId, Ghost> {
        let mut ghosts = BTreeMap::new();
        for update in slices.iter().flat_map(|slice| &slice.kinds) {
            let Some(columns) = held.kinds.get(update.kind as usize) else { continue };
            let mut gaps = crate::varint::Gaps::of_positions();
            for pair in update.left.chunks_exact(2) {
                let id = gaps.skip(pair[0]).and_then(|row| columns.ids.get(row as usize));
                let Some(shown) = id.and_then(|&id| self.get(id)) else { continue };
                let Shown { id, kind, cell, tick, columns, row, .. } = shown;
                let (columns, to_cell) = (single_row(columns, row), CellId(pair[1]));
                ghosts.insert(id, Ghost { kind, cell, tick, columns, to_cell, left_at: Tick::ZERO });
            }
        }
        ghosts
    }

    fn move_entities(
        &mut self,
        stripe: usize,
        cell: CellId,
        tick: Tick,
        moves: &Moves,
        mut leaving: BTreeMap<NetId, Ghost>,
    ) {
        let location = Location { stripe: stripe as u8, cell };
        let entities = &mut self.stripes[stripe].entities;
        *entities = (*entities + moves.arrived.len()).saturating_sub(moves.despawned.len() + moves.left.len());
        for &id in &moves.despawned {
            self.unlocate(id, location);
            self.saw(id, tick);
            self.ghosts.remove(&id);
        }
        for &(id, to_cell) in &moves.left {
            self.unlocate(id, location);
            self.saw(id, tick);
            if let Some(mut ghost) = leaving.remove(&id) {
                ghost.left_at = tick;
                ghost.to_cell = to_cell;
                self.ghosts.insert(id, ghost);
            }
        }
        for &id in &moves.arrived {
            self.locate(id, location);
            // Who has come back is no ghost, wherever they had left for: that cell may lag behind for long.
            if self.ghosts.get(&id).is_some_and(|ghost| ghost.left_at <= tick) {
                self.ghosts.remove(&id);
            }
        }
    }

    /// Cells that the snapshot neither updated nor deferred are unchanged, and stand at its tick.
    fn advance(&mut self, stripe: usize, tick: Tick, standing: &BTreeSet<CellId>) -> Result<(), &'static str> {
        let stripe = &mut self.stripes[stripe];
        stripe.tick = tick;
        let staged = stripe.staging.as_ref().map(|staging| staging.cell);
        if standing.iter().any(|cell| !stripe.cells.contains_key(cell) && Some(*cell) != staged) {
            return Err("a cell that is not in the view");
        }
        for (cell, held) in stripe.cells.iter_mut().filter(|(cell, _)| !standing.contains(cell)) {
            if Some(*cell) == staged {
                return Err("a cell whose slices are under way is neither updated nor deferred");
            }
            held.tick = tick;
        }
        Ok(())
    }

    /// A ghost goes once the cell that it went to has caught up, or is not viewed.
    fn settle_ghosts(&mut self) {
        let reached = |ghost: &Ghost| {
            let ticks = self.stripes.iter().filter_map(|stripe| stripe.cells.get(&ghost.to_cell)).map(|cell| cell.tick);
            ticks.max().is_none_or(|tick| tick >= ghost.left_at)
        };
        let settled: Vec<NetId> = self.ghosts.iter().filter(|(_, ghost)| reached(ghost)).map(|(id, _)| *id).collect();
        for id in settled {
            self.ghosts.remove(&id);
        }
    }

    fn check_crowded(&mut self) -> Result<(), MirrorError> {
        for &net_id in &self.crowded {
            let Some(locations) = self.locations.get(&net_id) else { continue };
            let at: Vec<(CellId, Tick)> =
                locations.iter().filter_map(|at| Some((at.cell, self.cell(at)?.tick))).collect();
            for (i, &(cell, tick)) in at.iter().enumerate() {
                if let Some(&(other, _)) = at[..i].iter().find(|other| other.0 != cell && other.1 == tick) {
                    return Err(MirrorError::Doubled { net_id, cells: [other, cell], tick });
                }
            }
        }
        Ok(())
    }

    /// Forgets what can no longer matter: no cell stands, and no update under way leads, before it.
    fn forget(&mut self) {
        let oldest = |stripe: &Stripe| {
            let cells = stripe.cells.values().map(|cell| cell.tick);
            cells.chain(stripe.staging.as_ref().map(|staging| staging.tick)).chain([stripe.tick]).min()
        };
        if let Some(oldest) = self.stripes.iter().filter_map(oldest).min() {
            self.seen.retain(|_, seen| *seen > oldest);
            // What happened until then has come: every further update starts there or later.
            if self.events.first().is_some_and(|(tick, _)| *tick <= oldest) {
                self.events = self.events.split_off(&(oldest.next(), 0));
            }
        }
        while self.events.len() > EVENTS_REMEMBERED_MAX {
            self.events.pop_first();
        }
    }

    fn note_events(&mut self, events: Vec<ReceivedEvent>, own: bool, applied: &mut Applied) {
        for received in events {
            if self.events.insert((received.tick, received.event.ordinal)) {
                applied.events.push(MirrorEvent { received, own });
            }
        }
    }

    /// A cell leaves the view: what was shown from it is gone as of `tick`.
    fn drop_cell(&mut self, stripe: usize, cell: CellId, tick: Tick) -> Option<()> {
        let was_staged = self.stripes[stripe].staging.take_if(|staging| staging.cell == cell).is_some();
        let Some(held) = self.stripes[stripe].cells.get(&cell) else { return was_staged.then_some(()) };
        let ids: Vec<NetId> = held.state.kinds.iter().flat_map(|columns| columns.ids.iter().copied()).collect();
        let shown_here: Vec<NetId> =
            ids.into_iter().filter(|&id| self.standing(id).is_some_and(|shown| shown.cell == cell)).collect();
        self.remove_cell(stripe, cell);
        for id in shown_here {
            self.saw(id, tick);
        }
        Some(())
    }

    /// Takes a cell out of a stripe; its entities were shown at its tick.
    fn remove_cell(&mut self, stripe: usize, cell: CellId) {
        let Some(held) = self.stripes[stripe].cells.remove(&cell) else { return };
        let entities = &mut self.stripes[stripe].entities;
        *entities = entities.saturating_sub(held.state.len());
        for id in held.state.kinds.iter().flat_map(|columns| columns.ids.iter().copied()) {
            self.unlocate(id, Location { stripe: stripe as u8, cell });
            // An instance from before what was seen was not shown, and changes nothing.
            self.saw(id, held.tick);
        }
    }

    /// Takes all cells out of a stripe, and what is left of one that an error took out.
    fn clear_stripe(&mut self, stripe: usize) {
        let here = |at: &Location| usize::from(at.stripe) == stripe;
        let ids: Vec<NetId> =
            self.locations.iter().filter(|(_, at)| at.iter().any(|at| here(&at))).map(|(id, _)| *id).collect();
        for id in ids {
            let at: Vec<Location> = self.locations[&id].iter().filter(here).collect();
            for at in at {
                if let Some(tick) = self.cell(at).map(|held| held.tick) {
                    self.saw(id, tick);
                }
                self.unlocate(id, at);
            }
        }
    }

    fn saw(&mut self, id: NetId, tick: Tick) {
        let seen = self.seen.entry(id).or_default();
        *seen = (*seen).max(tick);
    }

    fn locate(&mut self, id: NetId, location: Location) {
        match self.locations.get_mut(&id) {
            None => {
                self.locations.insert(id, Locations { first: location, more: Vec::new() });
            }
            Some(locations) => {
                locations.more.push(location);
                self.crowded.insert(id);
            }
        }
    }

    fn unlocate(&mut self, id: NetId, location: Location) {
        let Some(locations) = self.locations.get_mut(&id) else { return };
        if let Some(i) = locations.more.iter().position(|more| *more == location) {
            locations.more.swap_remove(i);
        } else if locations.first == location {
            match locations.more.pop() {
                Some(next) => locations.first = next,
                None => {
                    self.locations.remove(&id);
                    return;
                }
            }
        }
        if locations.more.is_empty() {
            self.crowded.remove(&id);
        }
    }

    fn cell(&self, at: Location) -> Option<&MirrorCell> {
        self.stripes[usize::from(at.stripe)].cells.get(&at.cell)
    }

    /// The instance of an entity in the cell with the greatest tick, where that may be shown.
    fn standing(&self, id: NetId) -> Option<Shown<'_>> {
        let seen = self.seen.get(&id).copied().unwrap_or_default();
        let locations = self.locations.get(&id)?;
        let (at, held) = locations
            .iter()
            .filter_map(|at| Some((at, self.cell(at)?)))
            .filter(|(_, held)| held.tick >= seen)
            .max_by_key(|(_, held)| held.tick)?;
        let (kind, columns, row) = held
            .state
            .kinds
            .iter()
            .enumerate()
            .find_map(|(kind, columns)| Some((KindId(kind as u16), columns.as_ref(), columns.row(id)?)))?;
        Some(Shown { mirror: self, id, kind, cell: at.cell, tick: held.tick, columns, row })
    }

    /// What is shown of an entity.
    #[must_use]
    pub fn get(&self, id: NetId) -> Option<Shown<'_>> {
        self.standing(id).or_else(|| {
            let (&id, Ghost { kind, cell, tick, columns, .. }) = self.ghosts.get_key_value(&id)?;
            Some(Shown { mirror: self, id, kind: *kind, cell: *cell, tick: *tick, columns, row: 0 })
        })
    }

    /// What is shown of all entities, each once, in no particular order.
    pub fn shown(&self) -> impl Iterator<Item = Shown<'_>> {
        let ghosts = self.ghosts.keys().filter(|id| !self.locations.contains_key(id));
        self.locations.keys().chain(ghosts).filter_map(|&id| self.get(id))
    }

    /// The number of entities that are shown.
    #[must_use]
    pub fn shown_count(&self) -> usize {
        self.shown().count()
    }

    /// A cell of a stream's mirror, and its tick.
    #[must_use]
    pub fn cell_state(&self, stripe: usize, cell: CellId) -> Option<(Tick, &CellState)> {
        self.stripes.get(stripe)?.cells.get(&cell).map(|held| (held.tick, &held.state))
    }

    /// The cells of a stream's view.
    pub fn cells(&self, stripe: usize) -> impl Iterator<Item = CellId> + '_ {
        self.stripes.get(stripe).into_iter().flat_map(|stripe| stripe.cells.keys().copied())
    }

    /// The column of a kind's field, where everyone sees it.
    pub(crate) fn column(&self, kind: KindId, field: usize) -> Option<usize> {
        *self.columns.get(kind.index())?.get(field)?
    }

    /// The schema.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The newest tick of any stream.
    #[must_use]
    pub fn tick(&self) -> Tick {
        self.stripes.iter().map(|stripe| stripe.tick).max().unwrap_or_default()
    }

    /// The session's epoch.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The player's own entity, exactly; `None` while there is none.
    #[must_use]
    pub const fn owner(&self) -> Option<&OwnerState> {
        self.owner.as_ref()
    }

    /// The players.
    #[must_use]
    pub const fn roster(&self) -> &BTreeMap<PlayerId, RosterEntry> {
        &self.roster
    }
}

fn single_row(columns: &Columns, row: usize) -> Columns {
    let mut single = columns.without_rows();
    single.push_from(columns, row);
    single
}
