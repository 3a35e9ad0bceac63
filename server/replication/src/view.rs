//! Snapshots out: what has been sent on one stream, and the next snapshot, composed as late as possible.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use prost::Message as _;
use tickwire_proto::v1 as pb;
use tickwire_shared::{
    CellFrame, CellId, CellKey, CellTable, Frame, Place, PlayerId, PlayerStatus, Roster, RosterRow, SeatFrame, Tick,
    TickRate,
};
use tickwire_wire::OwnerBase;

use crate::{
    credit::Credit,
    replicator::{Base, History, Replicator},
    snapshot::{Snapshot, framed_len_max},
};

/// What a stream is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ViewConfig {
    /// Whose owner section it carries, and around whose entity it looks.
    pub player: Option<PlayerId>,
    /// How far it looks, in the game's unit of distance.
    pub view_radius: f64,
    /// The session's rate.
    pub tick_rate: TickRate,
    /// How many ticks lie between two snapshots at least: 1 for a snapshot of every tick.
    pub ticks_per_snapshot: u32,
    /// Unacknowledged bytes.
    pub in_flight_bytes_max: usize,
}

/// What the edge knows of a player's inputs, and of the tick loop, for a snapshot's header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputFeedback {
    /// The newest input sequence that arrived.
    pub received_input: u64,
    /// By how much it was early at its first arrival, in µs; negative: late.
    pub received_margin_us: i32,
    /// How far the tick loop has slipped against its ideal clock, in µs.
    pub slip_us: i64,
}

/// An acknowledgement of what was never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("newest_tick: {acknowledged} was acknowledged, but the newest tick sent on this stream is {sent}")]
pub struct AckError {
    /// What the peer named.
    pub acknowledged: Tick,
    /// What was sent.
    pub sent: Tick,
}

/// What has been sent on one stream.
#[derive(Debug)]
pub struct View {
    config: ViewConfig,
    credit: Credit,
    /// The newest snapshot.
    epoch: u32,
    sent: Tick,
    reset_due: bool,
    cells: BTreeMap<CellId, CellView>,
    wanted: Wanted,
    slicing: Option<Slicing>,
    owner: OwnerBase,
    roster: RosterCursor,
}

/// What has been sent of one cell.
#[derive(Clone, Copy, Debug)]
struct CellView {
    /// The tick at which the receiver holds it; `None` until it has entered the view.
    held: Option<Tick>,
    /// Since when it waits to enter.
    since: Tick,
}

/// The cells that the view should hold.
#[derive(Debug, Default)]
struct Wanted {
    focus: Option<CellKey>,
    table: Option<Arc<CellTable>>,
    /// `always` first, then nearest first.
    cells: Vec<CellId>,
}

/// An update that was cut, and of which slices remain.
#[derive(Debug)]
struct Slicing {
    cell: CellId,
    tick: Tick,
    rest: VecDeque<Bytes>,
}

/// Which rows of the roster have been sent: all up to one, in order of version and player.
#[derive(Debug, Default)]
struct RosterCursor {
    sent: (Tick, PlayerId),
    done: Option<Arc<Roster>>,
}

impl View {
    /// Nothing sent yet: the first snapshot is a reset.
    #[must_use]
    pub fn new(config: ViewConfig) -> Self {
        Self {
            config,
            credit: Credit::new(config.tick_rate, config.in_flight_bytes_max),
            epoch: 0,
            sent: Tick::ZERO,
            reset_due: true,
            cells: BTreeMap::new(),
            wanted: Wanted::default(),
            slicing: None,
            owner: OwnerBase::default(),
            roster: RosterCursor::default(),
        }
    }

    /// The peer has received `newest_tick` on this stream. Other epochs' and stale ones are ignored, and so is 0.
    ///
    /// # Errors
    /// Where that tick was never sent.
    pub fn acknowledge(&mut self, epoch: u32, newest_tick: Tick, now: Duration) -> Result<(), AckError> {
        if epoch != self.epoch || newest_tick == Tick::ZERO {
            return Ok(());
        }
        if newest_tick > self.sent {
            return Err(AckError { acknowledged: newest_tick, sent: self.sent });
        }
        self.credit.acknowledge(newest_tick, now);
        Ok(())
    }

    /// The peer's mirror cannot be trusted: the next snapshot is a reset.
    pub fn resync(&mut self) {
        self.reset_due = true;
    }

    /// The stream's credit.
    #[must_use]
    pub const fn credit(&self) -> &Credit {
        &self.credit
    }

    /// The tick of the newest snapshot.
    #[must_use]
    pub const fn sent(&self) -> Tick {
        self.sent
    }

    /// Whether there is a frame to send, at the stream's rate, and credit to send it.
    #[must_use]
    pub fn ready(&self, newest: &Frame) -> bool {
        let is_due = newest.tick.since(self.sent) >= u64::from(self.config.ticks_per_snapshot.max(1));
        (newest.epoch != self.epoch || is_due) && newest.tick > Tick::ZERO && self.credit.allows()
    }

    /// Composes the next snapshot from the newest frame, and takes it as sent. `None` where there is no newer frame, or
    /// no credit.
    pub fn compose(&mut self, replicator: &Replicator, feedback: InputFeedback, now: Duration) -> Option<Snapshot> {
        let history = replicator.history();
        let frame = history.newest();
        if !self.ready(frame) {
            return None;
        }
        let has_base = frame.epoch == self.epoch && history.frame(self.sent).is_some();
        let reset = self.reset_due || !has_base;
        if reset {
            self.start_anew();
        }
        let mut snapshot = Snapshot::new(frame.tick, reset);
        let mut header = pb::Snapshot {
            epoch: frame.epoch,
            tick: frame.tick.0,
            received_input: feedback.received_input,
            received_margin_us: feedback.received_margin_us,
            slip_us: feedback.slip_us,
            reset,
            ..pb::Snapshot::default()
        };
        let base = if reset { Tick(frame.tick.0 - 1) } else { self.sent };
        let own_cell = self.fill_owner(&history, base, &mut header);
        self.fill_roster(&frame.roster, replicator.config().roster_rows_per_snapshot, &mut header);
        self.aim(replicator, frame, own_cell, &mut header);

        let budget = replicator.config().snapshot_bytes_max.saturating_sub(header_len_max(&header, self.cells.len()));
        self.fill_cells(replicator, &history, own_cell, budget, &mut snapshot, &mut header);
        snapshot.set_header(header.encode_to_vec());

        self.epoch = frame.epoch;
        self.sent = frame.tick;
        self.reset_due = false;
        self.credit.sent(frame.tick, snapshot.encoded_len(), now);
        Some(snapshot)
    }

    fn start_anew(&mut self) {
        self.cells.clear();
        self.slicing = None;
        self.owner = OwnerBase::default();
        self.roster = RosterCursor::default();
    }

    /// The owner section and the input acknowledgement; the cell of the player's entity.
    fn fill_owner(&mut self, history: &History, base: Tick, header: &mut pb::Snapshot) -> Option<CellId> {
        let player = self.config.player?;
        let frame = history.newest();
        let seat: Option<&SeatFrame> = frame.seat(player);
        let (mut events, mut events_lost) = (Vec::new(), 0_u32);
        for (tick, seat) in history.seats_after(base, player) {
            events.extend(seat.events.iter().flat_map(|events| events.iter()).map(|event| (tick, event)));
            events_lost = events_lost.saturating_add(seat.events_lost);
        }
        let row = seat.and_then(|seat| seat.owner.as_ref());
        header.consumed_input = seat.map_or(0, |seat| seat.consumed_input);
        header.owner = self.owner.encode(row, &events, events_lost, frame.tick);
        row.map(|row| row.cell)
    }

    /// The next rows of the roster: those that changed longest ago first.
    fn fill_roster(&mut self, roster: &Arc<Roster>, rows_max: usize, header: &mut pb::Snapshot) {
        let cursor = &mut self.roster;
        if cursor.done.as_ref().is_some_and(|done| Arc::ptr_eq(done, roster)) {
            return;
        }
        let mut due: Vec<&RosterRow> =
            roster.rows.iter().filter(|row| (row.version, row.player) > cursor.sent).collect();
        due.sort_unstable_by_key(|row| (row.version, row.player));
        for row in due.iter().take(rows_max) {
            cursor.sent = (row.version, row.player);
            header.roster.push(roster_row(row));
        }
        if due.len() <= rows_max {
            cursor.done = Some(Arc::clone(roster));
        }
    }

    /// Turns the view to where its player is: cells that are out of it now are dropped.
    fn aim(&mut self, replicator: &Replicator, frame: &Frame, own_cell: Option<CellId>, header: &mut pb::Snapshot) {
        let focus = own_cell.and_then(|cell| frame.table.place(cell)).and_then(|place| match place {
            Place::Always => None,
            Place::Cell(key) => Some(key),
        });
        // Without an entity the view stays where it last was.
        let focus = focus.or(self.wanted.focus);
        let is_as_before = self.wanted.table.as_ref().is_some_and(|table| Arc::ptr_eq(table, &frame.table));
        if !is_as_before || focus != self.wanted.focus {
            let mut keys = Vec::new();
            if let Some(focus) = focus {
                replicator.game().cells_in_view(focus, self.config.view_radius, &mut keys);
            }
            // Cells that the session has not used yet hold nothing; they enter when they are.
            let known = keys.into_iter().filter_map(|key| frame.table.id(Place::Cell(key)));
            let cells = std::iter::once(CellId::ALWAYS).chain(known).collect();
            self.wanted = Wanted { focus, table: Some(Arc::clone(&frame.table)), cells };
            let wanted: std::collections::BTreeSet<CellId> = self.wanted.cells.iter().copied().collect();
            let out: Vec<CellId> = self.cells.keys().copied().filter(|cell| !wanted.contains(cell)).collect();
            for cell in out {
                let was_sliced = self.slicing.take_if(|slicing| slicing.cell == cell).is_some();
                let view = self.cells.remove(&cell);
                if was_sliced || view.is_some_and(|view| view.held.is_some()) {
                    header.dropped_cells.push(cell.0);
                }
            }
        }
        for &cell in &self.wanted.cells {
            self.cells.entry(cell).or_insert(CellView { held: None, since: frame.tick });
        }
    }

    /// Updates as many cells as the budget takes: the player's own, `always`, one that is being sliced, then those that
    /// have waited longest, nearest first. The others are deferred.
    fn fill_cells(
        &mut self,
        replicator: &Replicator,
        history: &History,
        own_cell: Option<CellId>,
        mut budget: usize,
        snapshot: &mut Snapshot,
        header: &mut pb::Snapshot,
    ) {
        let frame = history.newest();
        let sliced = self.slicing.as_ref().map(|slicing| slicing.cell);
        let mut due: Vec<(u8, Tick, usize, CellId)> = Vec::new();
        for (order, &cell) in self.wanted.cells.iter().enumerate() {
            let view = self.cells.get_mut(&cell).expect("the view was aimed at these cells");
            let changed = frame.cell(cell).map_or(Tick::ZERO, |cell: &CellFrame| cell.changed);
            match view.held {
                Some(held) if changed <= held && sliced != Some(cell) => view.held = Some(frame.tick),
                held => {
                    let class = match cell {
                        _ if Some(cell) == own_cell => 0,
                        CellId::ALWAYS => 1,
                        _ if Some(cell) == sliced => 2,
                        _ => 3,
                    };
                    due.push((class, held.unwrap_or(view.since), order, cell));
                }
            }
        }
        due.sort_unstable();
        for (.., cell) in due {
            let is_whole = self.fill_cell(replicator, history, cell, &mut budget, snapshot);
            let is_known = self.cells[&cell].held.is_some();
            let is_slicing = self.slicing.as_ref().is_some_and(|slicing| slicing.cell == cell);
            if !is_whole && (is_known || is_slicing) {
                header.deferred_cells.push(cell.0);
            }
        }
    }

    /// Puts a cell's update, or what fits of it, into the snapshot. Whether the receiver then holds it whole.
    fn fill_cell(
        &mut self,
        replicator: &Replicator,
        history: &History,
        cell: CellId,
        budget: &mut usize,
        snapshot: &mut Snapshot,
    ) -> bool {
        let frame = history.newest();
        if self.slicing.as_ref().is_none_or(|slicing| slicing.cell != cell) {
            let base = match self.cells[&cell].held {
                None => Base::Nothing,
                Some(held) if history.frame(held).is_some() => Base::Tick(held),
                Some(_) => Base::Lost,
            };
            let chunk = replicator.chunk(history, cell, base);
            if let [body] = &*chunk {
                let len = framed_len_max(body);
                if len > *budget {
                    return false;
                }
                *budget -= len;
                snapshot.push(body.clone(), 0);
                self.hold(cell, frame.tick);
                return true;
            }
            // Slicing starts with a slice on its way: the receiver knows of it from that.
            if self.slicing.is_some() || chunk.first().is_none_or(|first| framed_len_max(first) > *budget) {
                return false;
            }
            self.slicing = Some(Slicing { cell, tick: frame.tick, rest: chunk.iter().cloned().collect() });
        }

        let slicing = self.slicing.as_mut().expect("of this cell, from before or just started");
        while let Some(body) = slicing.rest.front() {
            let len = framed_len_max(body);
            if len > *budget {
                return false;
            }
            *budget -= len;
            let body = slicing.rest.pop_front().expect("there was a front");
            snapshot.push(body, frame.tick.since(slicing.tick) as u32);
        }
        let tick = slicing.tick;
        self.slicing = None;
        self.hold(cell, tick);
        true
    }

    fn hold(&mut self, cell: CellId, tick: Tick) {
        if let Some(view) = self.cells.get_mut(&cell) {
            view.held = Some(tick);
        }
    }
}

/// The header's length with every cell of the view deferred.
fn header_len_max(header: &pb::Snapshot, cells: usize) -> usize {
    const LIST_BYTES: usize = 8;
    const CELL_BYTES: usize = 3;
    header.encoded_len() + LIST_BYTES + cells * CELL_BYTES
}

fn roster_row(row: &RosterRow) -> pb::RosterRow {
    let status = match row.status {
        PlayerStatus::Connected => pb::PlayerStatus::Connected,
        PlayerStatus::Disconnected => pb::PlayerStatus::Disconnected,
        PlayerStatus::Left => pb::PlayerStatus::Left,
    };
    pb::RosterRow {
        player: row.player.0,
        name: row.name.to_string(),
        status: status as i32,
        scores: row.scores.clone(),
    }
}
