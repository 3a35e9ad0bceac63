//! The client's twin of a view: for each stream its cells, exactly the server's at their ticks, and above the streams what
//! is shown of each entity.
//!
//! An update touches only its own cell, so cells may stand at different ticks. What is shown of an entity is decided above
//! them: the instance in the cell with the greatest tick, never one from before a tick at which the entity was already
//! shown, left or died.
//!
//! A player may have several streams, stripes, each with cells of its own. One may lag behind the others for long, or be
//! closed, or start anew with news that are old by then; so what has come by all of them up to a tick, the horizon, is
//! taken for known, and nothing from before it is shown or told any more.

mod locations;
mod stripe;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use prost::Message as _;
use tickwire_proto::v1 as pb;
use tickwire_shared::{
    CELLS_MAX, CellId, CellState, KindId, NetId, NumberMap, PlayerId, PlayerStatus, Reading, Schema, Tick,
};

use self::{
    locations::{Location, Locations},
    stripe::{MirrorCell, Staging, Stripe},
};
use crate::{
    chunk::{self, Gone, Moves, ReceivedEvent, Step},
    outcome::{Applied, MirrorError, MirrorEvent},
    owner::OwnerState,
    read::{Numbers, OwnerMessage, SnapshotMessage, UpdateMessage},
    rows::{Row, RowLayout, Rows},
    shown::Shown,
};

/// The most streams of one player.
pub const STRIPES_MAX: usize = 4;
/// The most slices of one update: what is staged of a hostile one stays bounded.
pub const SLICES_MAX: u32 = 1 << 10;
/// The most bytes of them.
const STAGED_BYTES_MAX: usize = 16 << 20;
/// Reasons of errors.
const NO_PROTOBUF: &str = "not a protobuf message of its kind";
const NOT_IN_VIEW: &str = "a cell that is not in the view";
/// How many events are remembered at most, so that a repeat is not shown twice.
const EVENTS_REMEMBERED_MAX: usize = 1 << 14;

/// All that a client holds of a session.
#[derive(Debug)]
pub struct Mirror {
    schema: Arc<Schema>,
    layouts: Arc<[RowLayout]>,
    epoch: u32,
    stripes: Vec<Stripe>,
    locations: Locations,
    /// For entities that were taken from a cell: the greatest tick at which they were shown, left or died.
    seen: NumberMap<NetId, Tick>,
    ghosts: BTreeMap<NetId, Ghost>,
    events: BTreeSet<(Tick, u32)>,
    /// All cells of all open streams have stood at this tick, or later ones.
    horizon: Tick,
    owner: Option<OwnerState>,
    owner_tick: Tick,
    roster: BTreeMap<PlayerId, RosterEntry>,
    /// All streams were lost, and none has begun since.
    is_interrupted: bool,
    /// As of when each row of the roster is, those of players who have left among them.
    roster_ticks: BTreeMap<PlayerId, Tick>,
    /// Room for the moves of the update under way, one per kind.
    moves: Vec<Moves>,
}

/// An entity on its way to a cell that has not caught up yet: its last instance.
#[derive(Debug)]
struct Ghost {
    kind: KindId,
    cell: CellId,
    tick: Tick,
    row: Box<[u32]>,
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
        Self::with_layouts(schema.kinds.iter().map(RowLayout::of).collect(), schema)
    }

    fn with_layouts(layouts: Arc<[RowLayout]>, schema: Arc<Schema>) -> Self {
        Self {
            moves: layouts.iter().map(|_| Moves::default()).collect(),
            layouts,
            schema,
            epoch: 0,
            stripes: Vec::new(),
            locations: Locations::default(),
            seen: NumberMap::default(),
            ghosts: BTreeMap::new(),
            events: BTreeSet::new(),
            horizon: Tick::ZERO,
            owner: None,
            owner_tick: Tick::ZERO,
            roster: BTreeMap::new(),
            is_interrupted: false,
            roster_ticks: BTreeMap::new(),
        }
    }

    /// Applies a snapshot of one stream, given as the generated type: see [`apply_message`](Self::apply_message).
    ///
    /// # Errors
    /// Where the snapshot does not fit what the stream holds.
    ///
    /// # Panics
    /// Where `stripe` is not below [`STRIPES_MAX`].
    pub fn apply(&mut self, stripe: usize, snapshot: &pb::Snapshot) -> Result<Applied, MirrorError> {
        let body = snapshot.encode_to_vec();
        let message = SnapshotMessage::read(&body).expect("what prost encodes is well-formed");
        self.apply_message(stripe, &message)
    }

    /// Applies a snapshot of one stream, as it lies in its message. The time it takes follows what changed, and the number
    /// of cells.
    ///
    /// After an error the stream's snapshots are ignored until one with `reset` arrives.
    ///
    /// # Errors
    /// Where the snapshot does not fit what the stream holds; tell the server with [`MirrorError::resync_reason`].
    ///
    /// # Panics
    /// Where `stripe` is not below [`STRIPES_MAX`].
    pub fn apply_message(&mut self, stripe: usize, snapshot: &SnapshotMessage<'_>) -> Result<Applied, MirrorError> {
        assert!(stripe < STRIPES_MAX, "a player has at most {STRIPES_MAX} streams");
        while self.stripes.len() <= stripe {
            self.stripes.push(Stripe::default());
        }
        if self.stripes[stripe].broken && !snapshot.reset {
            return Ok(Applied { tick: Tick(snapshot.tick), ignored: true, ..Applied::default() });
        }
        let mut applied = Applied {
            tick: Tick(snapshot.tick),
            consumed_input: snapshot.consumed_input,
            received_input: snapshot.received_input,
            received_margin_us: snapshot.received_margin_us,
            slip_us: snapshot.slip_us,
            ..Applied::default()
        };
        let result = self.apply_whole(stripe, snapshot, &mut applied);
        self.stripes[stripe].broken = result.is_err();
        if result.is_err() {
            // Nobody is told of them now: another stream may bring them.
            for MirrorEvent { received, .. } in &applied.events {
                self.events.remove(&(received.tick, received.event.ordinal));
            }
        }
        result.map(|()| applied)
    }

    fn apply_whole(
        &mut self,
        stripe: usize,
        snapshot: &SnapshotMessage<'_>,
        applied: &mut Applied,
    ) -> Result<(), MirrorError> {
        let tick = applied.tick;
        let bad = |field, reason| MirrorError::Bad { tick, field, reason };
        if tick > Tick::MAX {
            return Err(bad("tick", "beyond 2^53"));
        }
        self.start(stripe, snapshot, applied)?;
        self.apply_owner(stripe, snapshot.owner.as_ref(), applied)?;
        for row in snapshot.roster() {
            let row = row.ok().and_then(|row| pb::RosterRow::decode(row).ok());
            self.apply_roster(row.ok_or(bad("roster", NO_PROTOBUF))?, tick)?;
        }

        let mut dropped = snapshot.dropped_cells.numbers();
        while let Some(cell) = dropped.next() {
            self.drop_cell(stripe, CellId(cell), tick).ok_or(bad("dropped_cells", NOT_IN_VIEW))?;
        }
        for update in snapshot.cells() {
            let update = update.and_then(|body| Ok((body, UpdateMessage::read(body)?)));
            let (body, update) = update.map_err(|_| bad("cells", NO_PROTOBUF))?;
            self.update_cell(stripe, body, &update, applied)?;
        }
        let mut deferred = snapshot.deferred_cells.numbers();
        while let Some(cell) = deferred.next() {
            if !self.stripes[stripe].name(CellId(cell), tick) {
                return Err(bad("deferred_cells", NOT_IN_VIEW));
            }
        }
        let is_whole = |numbers: Numbers<'_>| numbers.is_empty();
        if !is_whole(dropped) || !is_whole(deferred) {
            return Err(bad("deferred_cells", NO_PROTOBUF));
        }
        self.stripes[stripe].advance(tick).map_err(|reason| bad("deferred_cells", reason))?;
        self.retire_closed();
        self.settle_ghosts();
        self.check_crowded()?;
        applied.entities = self.stripes[stripe].entities;
        applied.events.sort_by_key(|event| (event.received.tick, event.received.event.ordinal));
        self.forget();
        Ok(())
    }

    fn apply_owner(
        &mut self,
        stripe: usize,
        section: Option<&OwnerMessage<'_>>,
        applied: &mut Applied,
    ) -> Result<(), MirrorError> {
        let tick = applied.tick;
        let bad = |reason| MirrorError::Bad { tick, field: "owner", reason };
        let parts = section.map(OwnerMessage::read).transpose().map_err(|_| bad(NO_PROTOBUF))?;
        let events = self.stripes[stripe].owner.apply(&self.schema, parts.as_ref(), tick).map_err(bad)?;
        applied.events_lost += u64::from(parts.map_or(0, |parts| parts.events_lost));
        self.note_events(events, true, applied);
        if tick >= self.owner_tick {
            match (&mut self.owner, self.stripes[stripe].owner.state()) {
                (Some(held), Some(new)) => held.copy_from(new),
                (held, new) => *held = new.cloned(),
            }
            self.owner_tick = tick;
        }
        Ok(())
    }

    fn start(
        &mut self,
        stripe: usize,
        snapshot: &SnapshotMessage<'_>,
        applied: &mut Applied,
    ) -> Result<(), MirrorError> {
        let tick = Tick(snapshot.tick);
        let bad = |field, reason| MirrorError::Bad { tick, field, reason };
        if snapshot.epoch != self.epoch {
            if !snapshot.reset {
                return Err(bad("epoch", "another than before, without a reset"));
            }
            // Time may have gone back: nothing of the old epoch is worth anything.
            let (layouts, schema) = (Arc::clone(&self.layouts), Arc::clone(&self.schema));
            *self = Self { epoch: snapshot.epoch, ..Self::with_layouts(layouts, schema) };
            self.stripes.resize_with(stripe + 1, Stripe::default);
            applied.new_epoch = true;
        }
        if snapshot.reset {
            applied.reset = true;
            self.clear_stripe(stripe);
            // What came by another stream is good until it is replaced; what came before all were lost may be of long ago.
            let is_stale = std::mem::take(&mut self.is_interrupted);
            if is_stale || self.stripes.iter().all(|stripe| stripe.tick == Tick::ZERO) {
                self.roster.clear();
                self.roster_ticks.clear();
            }
        } else if tick <= self.stripes[stripe].tick {
            return Err(bad("tick", "not above the stream's last"));
        }
        Ok(())
    }

    fn apply_roster(&mut self, row: pb::RosterRow, tick: Tick) -> Result<(), MirrorError> {
        let status = match row.status() {
            pb::PlayerStatus::Connected => Some(PlayerStatus::Connected),
            pb::PlayerStatus::Disconnected => Some(PlayerStatus::Disconnected),
            pb::PlayerStatus::Left => None,
            pb::PlayerStatus::Unspecified => {
                return Err(MirrorError::Bad { tick, field: "roster.status", reason: "not a status" });
            }
        };
        let player = PlayerId(row.player);
        let as_of = self.roster_ticks.entry(player).or_default();
        if *as_of > tick {
            // A newer row came by another stream.
            return Ok(());
        }
        *as_of = tick;
        match status {
            Some(status) => {
                self.roster.insert(player, RosterEntry { name: row.name, status, scores: row.scores });
            }
            None => {
                self.roster.remove(&player);
            }
        }
        Ok(())
    }

    fn update_cell(
        &mut self,
        stripe: usize,
        body: &[u8],
        update: &UpdateMessage<'_>,
        applied: &mut Applied,
    ) -> Result<(), MirrorError> {
        let header = applied.tick;
        let bad = |field, reason| MirrorError::Bad { tick: header, field, reason };
        let cell = CellId(update.cell);
        let tick = header.0.checked_sub(u64::from(update.tick_age));
        let tick = Tick(tick.ok_or(bad("cells.tick_age", "it leads to before tick 0"))?);
        if update.slices <= 1 {
            if self.stripes[stripe].staging.as_ref().is_some_and(|staging| staging.cell == cell) {
                return Err(bad("cells", "a whole update of a cell whose slices are under way"));
            }
            return self.apply_update(stripe, tick, std::slice::from_ref(update), applied);
        }

        if update.slices > SLICES_MAX {
            return Err(bad("cells.slices", "more than 1024"));
        }
        let staging = &mut self.stripes[stripe].staging;
        if update.slice == 0 {
            if staging.is_some() {
                return Err(bad("cells.slice", "a second sliced cell"));
            }
            let (base_age, slices) = (update.base_age(), update.slices);
            *staging = Some(Staging { cell, tick, base_age, slices, bodies: Vec::new(), bytes: 0 });
        }
        match staging {
            Some(staging)
                if (staging.cell, staging.tick) == (cell, tick)
                    && (staging.base_age, staging.slices) == (update.base_age(), update.slices)
                    && staging.bodies.len() == update.slice as usize =>
            {
                staging.bytes += body.len();
                if staging.bytes > STAGED_BYTES_MAX {
                    return Err(bad("cells.slices", "more than 16 MiB"));
                }
                staging.bodies.push(body.to_vec());
            }
            _ => return Err(bad("cells.slice", "not the one that is due")),
        }
        if update.slice + 1 == update.slices {
            let staging = staging.take().expect("just pushed to");
            let slices = staging.bodies.iter().map(|body| UpdateMessage::read(body)).collect::<Result<Vec<_>, _>>();
            let slices = slices.map_err(|_| bad("cells", NO_PROTOBUF))?;
            return self.apply_update(stripe, tick, &slices, applied);
        }
        self.stripes[stripe].name(cell, header);
        Ok(())
    }

    /// Applies all slices of an update, and decides what becomes of the entities that came and went.
    fn apply_update(
        &mut self,
        stripe: usize,
        tick: Tick,
        slices: &[UpdateMessage<'_>],
        applied: &mut Applied,
    ) -> Result<(), MirrorError> {
        let bad = |field, reason| MirrorError::Bad { tick, field, reason };
        let last = slices.last().ok_or(bad("cells", "no slices"))?;
        let cell = CellId(last.cell);
        let base = if last.base_age() == 0 {
            applied.cells_full += 1;
            self.remove_cell(stripe, cell);
            if self.stripes[stripe].len() >= CELLS_MAX {
                return Err(bad("cells.cell", "more than 65,536 cells in view"));
            }
            let kinds = self.layouts.iter().map(|_| Rows::default()).collect();
            self.stripes[stripe].insert(MirrorCell { id: cell, tick, named: applied.tick, kinds });
            tick
        } else {
            let base = tick.0.checked_sub(u64::from(last.base_age())).map(Tick);
            let held = self.stripes[stripe].get(cell).filter(|held| Some(held.tick) == base);
            held.ok_or(bad("cells.base_age", "not the tick that is held"))?.tick
        };
        let events = chunk::read_events(&self.schema, last.events.numbers(), tick);
        self.note_events(events.map_err(|reason| bad("cells.events", reason))?, false, applied);
        applied.events_lost += u64::from(last.events_lost);

        let mut moves = std::mem::take(&mut self.moves);
        let made = self.make_update(stripe, Step { base, tick }, slices, &mut moves);
        if made.is_ok() {
            applied.hash_checks += u32::from(last.hash.is_some());
            self.stripes[stripe].get_mut(cell).expect("just updated").named = applied.tick;
        } else {
            self.discard_cell(stripe, cell, base);
        }
        moves.iter_mut().for_each(Moves::clear);
        self.moves = moves;
        made
    }

    fn make_update(
        &mut self,
        stripe: usize,
        step: Step,
        slices: &[UpdateMessage<'_>],
        moves: &mut [Moves],
    ) -> Result<(), MirrorError> {
        let last = slices.last().expect("the caller has looked");
        let cell = CellId(last.cell);
        let layouts = Arc::clone(&self.layouts);
        let is_held = "held before, or just put there";
        let kinds = &mut self.stripes[stripe].get_mut(cell).expect(is_held).kinds;
        for slice in slices {
            chunk::read_slice(&layouts, kinds, moves, slice, step)?;
        }
        // Ghosts are taken before the rows that they are made of are gone.
        let left = moves.iter().flat_map(|moves| &moves.gone).filter(|gone| gone.to_cell.is_some());
        let ghosts: Vec<(NetId, Ghost)> = left.filter_map(|gone| self.ghost_of(gone, step.tick)).collect();
        let held = self.stripes[stripe].get_mut(cell).expect(is_held);
        chunk::finish(cell, &layouts, &mut held.kinds, moves)?;
        if let Some(stated) = last.hash {
            chunk::check_hash(cell, step.tick, &layouts, &held.kinds, stated)?;
        }
        held.tick = step.tick;
        self.move_entities(stripe, cell, step.tick, moves, ghosts);
        Ok(())
    }

    /// The shown instance of an entity that an update moves to another cell. `None` where it was seen later than that: a stream
    /// that lags behind tells of it.
    fn ghost_of(&self, gone: &Gone, left_at: Tick) -> Option<(NetId, Ghost)> {
        let Shown { id, kind, cell, tick, row, .. } = self.get(gone.id)?;
        let to_cell = gone.to_cell?;
        if self.known(id).max(tick) > left_at {
            return None;
        }
        Some((id, Ghost { kind, cell, tick, row: row.0.into(), to_cell, left_at }))
    }

    fn move_entities(&mut self, stripe: usize, cell: CellId, tick: Tick, moves: &[Moves], ghosts: Vec<(NetId, Ghost)>) {
        let location = Location { stripe: stripe as u8, cell };
        let (arrived, gone) =
            (moves.iter().map(|moves| moves.arrived.len()), moves.iter().map(|moves| moves.gone.len()));
        let entities = &mut self.stripes[stripe].entities;
        *entities = (*entities + arrived.sum::<usize>()).saturating_sub(gone.sum());
        for gone in moves.iter().flat_map(|moves| &moves.gone) {
            self.locations.remove(gone.id, location);
            self.saw(gone.id, tick);
            if gone.to_cell.is_none() {
                self.ghosts.remove(&gone.id);
            }
        }
        self.ghosts.extend(ghosts);
        for &id in moves.iter().flat_map(|moves| &moves.arrived) {
            self.locations.insert(id, location);
        }
    }

    /// A ghost goes once the cell that it went to has caught up, or is not viewed, or the entity was seen later.
    fn settle_ghosts(&mut self) {
        if self.ghosts.is_empty() {
            return;
        }
        let is_settled = |id: NetId, ghost: &Ghost| {
            let ticks = self.stripes.iter().filter_map(|stripe| stripe.get(ghost.to_cell)).map(|cell| cell.tick);
            // Another stream may still hold a cell that is out of view by then.
            let is_out_of_view =
                |stripe: &Stripe| stripe.oldest >= ghost.left_at && stripe.get(ghost.to_cell).is_none();
            ticks.max().is_none_or(|tick| tick >= ghost.left_at)
                || self.stripes.iter().any(is_out_of_view)
                || !self.is_current(id, ghost)
        };
        let ghosts = self.ghosts.iter().map(|(id, ghost)| (*id, ghost));
        let settled: Vec<NetId> = ghosts.filter(|(id, ghost)| is_settled(*id, ghost)).map(|(id, _)| id).collect();
        for id in settled {
            self.ghosts.remove(&id);
        }
    }

    fn check_crowded(&self) -> Result<(), MirrorError> {
        for net_id in self.locations.crowded() {
            let at: Vec<(CellId, Tick)> =
                self.locations.of(net_id).filter_map(|at| Some((at.cell, self.cell(at)?.tick))).collect();
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
        if let Some(oldest) = self.stripes.iter().filter(|stripe| stripe.is_open()).map(|stripe| stripe.oldest).min() {
            self.horizon = self.horizon.max(oldest);
            let horizon = self.horizon;
            if !self.seen.is_empty() {
                self.seen.retain(|_, seen| *seen > horizon);
            }
            // What happened before has come: every further update starts there or later, but one from nothing, which brings
            // what happened at its own tick.
            if self.events.first().is_some_and(|(tick, _)| *tick < horizon) {
                self.events = self.events.split_off(&(horizon, 0));
            }
            if self.roster_ticks.len() > self.roster.len() {
                let roster = &self.roster;
                self.roster_ticks.retain(|player, tick| roster.contains_key(player) || *tick > horizon);
            }
        }
        while self.events.len() > EVENTS_REMEMBERED_MAX {
            self.events.pop_first();
        }
    }

    fn note_events(&mut self, events: Vec<ReceivedEvent>, own: bool, applied: &mut Applied) {
        for received in events {
            // A stream that starts anew may bring what was told long ago.
            if received.tick < self.horizon {
                continue;
            }
            if self.events.insert((received.tick, received.event.ordinal)) {
                applied.events.push(MirrorEvent { received, own });
            }
        }
    }

    /// A cell leaves the view: what was shown from it is gone as of `tick`.
    fn drop_cell(&mut self, stripe: usize, cell: CellId, tick: Tick) -> Option<()> {
        let was_staged = self.stripes[stripe].staging.take_if(|staging| staging.cell == cell).is_some();
        let Some(held) = self.stripes[stripe].get(cell) else { return was_staged.then_some(()) };
        let is_shown_here = |id: &NetId| self.standing(*id).is_some_and(|shown| shown.cell == cell);
        let mut shown_here: Vec<NetId> = self.ids_in(held).filter(is_shown_here).collect();
        // It is an update to empty, whatever other streams hold of it from before.
        let others = self.stripes.iter().filter_map(|stripe| stripe.get(cell)).filter(|held| held.tick < tick);
        shown_here.extend(others.flat_map(|held| self.ids_in(held)).filter(is_shown_here));
        self.remove_cell(stripe, cell);
        for id in shown_here {
            self.saw(id, tick);
        }
        Some(())
    }

    /// Takes a cell out of a stripe; its entities were shown at its tick.
    fn remove_cell(&mut self, stripe: usize, cell: CellId) {
        let Some(held) = self.stripes[stripe].remove(cell) else { return };
        let ids: Vec<NetId> = self.ids_in(&held).collect();
        let entities = &mut self.stripes[stripe].entities;
        *entities = entities.saturating_sub(ids.len());
        for id in ids {
            self.locations.remove(id, Location { stripe: stripe as u8, cell });
            // An instance from before what was seen was not shown, and changes nothing.
            self.saw(id, held.tick);
        }
    }

    /// Takes a cell out of a stripe of which an update is half applied: it is nothing to show, but what was shown of it at
    /// `base` was.
    fn discard_cell(&mut self, stripe: usize, cell: CellId, base: Tick) {
        self.stripes[stripe].remove(cell);
        for (id, at) in self.locations.of_stripe(stripe as u8) {
            if at.cell == cell {
                self.locations.remove(id, at);
                self.saw(id, base);
            }
        }
    }

    fn ids_in<'a>(&'a self, held: &'a MirrorCell) -> impl Iterator<Item = NetId> + 'a {
        self.layouts.iter().zip(&held.kinds).flat_map(|(layout, rows)| rows.iter(layout)).map(|row| row.id())
    }

    /// A stream is gone; another may begin in its place. What it brought is shown until the others have caught up with it.
    ///
    /// # Panics
    /// Where `stripe` is not below [`STRIPES_MAX`].
    pub fn close_stripe(&mut self, stripe: usize) {
        assert!(stripe < STRIPES_MAX, "a player has at most {STRIPES_MAX} streams");
        if let Some(stripe) = self.stripes.get_mut(stripe) {
            stripe.is_closed = true;
            stripe.staging = None;
        }
        self.retire_closed();
    }

    /// All streams are gone, and others will begin after a while. What they brought is shown until then.
    pub fn close_all_stripes(&mut self) {
        self.is_interrupted = true;
        (0..STRIPES_MAX).for_each(|stripe| self.close_stripe(stripe));
    }

    /// Lets go of closed streams that others have caught up with.
    fn retire_closed(&mut self) {
        for stripe in 0..self.stripes.len() {
            let Stripe { is_closed: true, tick, .. } = self.stripes[stripe] else { continue };
            let mut others = self.stripes.iter().filter(|other| other.is_open());
            if tick > Tick::ZERO && others.any(|other| other.oldest >= tick) {
                self.clear_stripe(stripe);
            }
        }
    }

    /// Takes all cells out of a stripe.
    fn clear_stripe(&mut self, stripe: usize) {
        for (id, at) in self.locations.of_stripe(stripe as u8) {
            if let Some(tick) = self.cell(at).map(|held| held.tick) {
                self.saw(id, tick);
            }
            self.locations.remove(id, at);
        }
        self.stripes[stripe] = Stripe::default();
    }

    fn saw(&mut self, id: NetId, tick: Tick) {
        let seen = self.seen.entry(id).or_default();
        *seen = (*seen).max(tick);
    }

    /// No instance of an entity from before this tick is shown.
    fn known(&self, id: NetId) -> Tick {
        self.seen.get(&id).copied().unwrap_or_default().max(self.horizon)
    }

    /// Whether nothing later than its leaving is known of a ghost's entity. The update that brings it back may not say so: where
    /// its base is from before it left, the entity is in the cell before and after.
    fn is_current(&self, id: NetId, ghost: &Ghost) -> bool {
        self.known(id) <= ghost.left_at
    }

    fn cell(&self, at: Location) -> Option<&MirrorCell> {
        self.stripes[usize::from(at.stripe)].get(at.cell)
    }

    /// The instance of an entity in the cell with the greatest tick, where that may be shown.
    fn standing(&self, id: NetId) -> Option<Shown<'_>> {
        let known = self.known(id);
        let standing = self.locations.of(id).filter_map(|at| self.cell(at)).filter(|held| held.tick >= known);
        let held = standing.max_by_key(|held| held.tick).filter(|held| !self.is_superseded(held))?;
        let mut kinds = self.layouts.iter().zip(&held.kinds).enumerate();
        let (kind, row) = kinds.find_map(|(i, (layout, rows))| Some((KindId(i as u16), rows.find(layout, id)?)))?;
        Some(Shown { mirror: self, id, kind, cell: held.id, tick: held.tick, row, is_ghost: false })
    }

    /// Whether another stream has seen all of its view after a cell's tick, the cell among it: whom it does not hold then is
    /// gone, though it may never have heard of them.
    fn is_superseded(&self, held: &MirrorCell) -> bool {
        let mut others = self.stripes.iter().filter(|_| self.stripes.len() > 1);
        others.any(|other| other.oldest > held.tick && other.get(held.id).is_some())
    }

    /// What is shown of an entity.
    #[must_use]
    pub fn get(&self, id: NetId) -> Option<Shown<'_>> {
        self.standing(id).or_else(|| {
            let ghost = self.ghosts.get(&id).filter(|ghost| self.is_current(id, ghost))?;
            let Ghost { kind, cell, tick, row, .. } = ghost;
            Some(Shown { mirror: self, id, kind: *kind, cell: *cell, tick: *tick, row: Row(row), is_ghost: true })
        })
    }

    /// What is shown of all entities, each once, in no particular order.
    pub fn shown(&self) -> impl Iterator<Item = Shown<'_>> {
        let ghosts = self.ghosts.keys().copied().filter(|id| !self.locations.contains(*id));
        self.locations.ids().chain(ghosts).filter_map(|id| self.get(id))
    }

    /// The number of entities that are shown.
    #[must_use]
    pub fn shown_count(&self) -> usize {
        self.shown().count()
    }

    /// A cell of a stream's mirror as the server's frames have it, and its tick. It is made for the asking.
    #[must_use]
    pub fn cell_state(&self, stripe: usize, cell: CellId) -> Option<(Tick, CellState)> {
        let MirrorCell { tick, kinds, .. } = self.stripes.get(stripe)?.get(cell)?;
        let rows = self.layouts.iter().zip(kinds).zip(&self.schema.kinds);
        let columns = |((layout, rows), kind): ((&RowLayout, &Rows), _)| Arc::new(rows.to_columns(layout, kind, *tick));
        Some((*tick, CellState { kinds: rows.map(columns).collect() }))
    }

    /// The tick at which a cell of a stream stands.
    #[must_use]
    pub fn cell_tick(&self, stripe: usize, cell: CellId) -> Option<Tick> {
        Some(self.stripes.get(stripe)?.get(cell)?.tick)
    }

    /// The cells of a stream's view, in no particular order.
    pub fn cells(&self, stripe: usize) -> impl Iterator<Item = CellId> + '_ {
        self.stripes.get(stripe).into_iter().flat_map(|stripe| stripe.cells().iter().map(|held| held.id))
    }

    /// Where in a row a kind's field is, and how it is read, where everyone sees it.
    pub(crate) fn column(&self, kind: KindId, field: usize) -> Option<(usize, Reading)> {
        let column = self.schema.kind(kind)?.public_fields().position(|(public, _)| public == field)?;
        self.layouts.get(kind.index())?.fields.get(column).copied()
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
