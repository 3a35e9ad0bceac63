//! Snapshots out: what has been sent on one stream, and the next snapshot, composed as late as possible.

mod fill;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tickwire_proto::v1 as pb;
use tickwire_shared::{CellId, Frame, Place, PlayerId, SeatFrame, Tick, TickRate};
use tickwire_wire::OwnerBase;

use self::fill::Due;
use crate::{
    budget::Budget,
    cells::{Standing, ViewCell, ViewCells},
    credit::Credit,
    history::History,
    replicator::Replicator,
    roster::RosterCursor,
    snapshot::Snapshot,
    turns::{Share, Turns},
};

/// The share of a snapshot's bytes that rows of the roster may take.
const ROSTER_SHARE: usize = 4;

/// What a stream is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ViewConfig {
    /// Whose owner section it carries, and around whose entity it looks.
    pub player: Option<PlayerId>,
    /// How far it looks, in the game's unit of distance.
    pub view_radius: f64,
    /// The session's rate.
    pub tick_rate: TickRate,
    /// A snapshot for each so many ticks at most: 1 for a snapshot of every tick.
    pub ticks_per_snapshot: u32,
    /// Bytes of snapshots per second; `None`: no limit.
    pub bytes_per_second: Option<u32>,
    /// Unacknowledged bytes.
    pub in_flight_bytes_max: usize,
}

/// Where a spectator's view looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// At all cells of the session, as far as the bytes reach.
    All,
    /// Around this player's entity; without one, where it was last.
    Player(PlayerId),
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
    /// None: around its own player's entity.
    follow: Option<Follow>,
    credit: Credit,
    budget: Budget,
    /// The stream's part in a player's rotation.
    share: Share,
    /// The newest snapshot.
    epoch: u32,
    sent: Tick,
    /// Where the player's seat stood in its frame.
    seat_place: usize,
    reset_due: bool,
    /// The newest frame is due, whatever its tick.
    is_last: bool,
    /// The newest snapshot had no room for all that was due.
    is_short: bool,
    /// It had no room for any of it.
    is_starved: bool,
    cells: ViewCells,
    slicing: Option<Slicing>,
    owner: OwnerBase,
    roster: RosterCursor,
    counts: ViewCounts,
    /// What is due finds no credit, and that has been counted.
    is_stalled: bool,
    scratch: Scratch,
}

/// What a view has done since somebody asked last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViewCounts {
    /// Times that a snapshot which was due came to find no credit.
    pub credit_stalls: u32,
    /// Changes of cells that were looked up, whoever had encoded them.
    pub chunk_lookups: u32,
}

/// An update that was cut, and of which slices remain.
#[derive(Debug)]
struct Slicing {
    cell: CellId,
    tick: Tick,
    slices: Arc<[Bytes]>,
    next: usize,
}

/// Buffers of one composition that serve the next one.
#[derive(Debug, Default)]
struct Scratch {
    owner: pb::OwnerSection,
    removed: Vec<ViewCell>,
    numbers: Vec<u32>,
    due: Vec<Due>,
}

impl View {
    /// Nothing sent yet: the first snapshot is a reset.
    #[must_use]
    pub fn new(config: ViewConfig) -> Self {
        let ticks = config.ticks_per_snapshot.max(1);
        Self {
            credit: Credit::new(snapshot_rate(&config), config.in_flight_bytes_max),
            budget: Budget::new(config.bytes_per_second, config.tick_rate.duration_of(u64::from(ticks))),
            config: ViewConfig { ticks_per_snapshot: ticks, ..config },
            follow: None,
            share: Share::ALONE,
            epoch: 0,
            sent: Tick::ZERO,
            seat_place: 0,
            reset_due: true,
            is_short: false,
            is_starved: false,
            is_last: false,
            cells: ViewCells::default(),
            slicing: None,
            owner: OwnerBase::default(),
            roster: RosterCursor::default(),
            counts: ViewCounts::default(),
            is_stalled: false,
            scratch: Scratch::default(),
        }
    }

    /// The view of a spectator, who has no seat, and acknowledges by calls of their own: nothing sent yet.
    #[must_use]
    pub fn of_spectator(config: ViewConfig, follow: Follow) -> Self {
        let mut view = Self::new(ViewConfig { player: None, ..config });
        view.follow = Some(follow);
        view.credit.expect_unary_acks();
        view
    }

    /// Has a spectator look elsewhere.
    pub fn follow(&mut self, follow: Follow) {
        self.follow = Some(follow);
        self.cells.look_up();
    }

    /// What comes next is of another time, or of another replicator: the next snapshot is a reset, whatever its tick, and
    /// nothing that was sent is waited for.
    pub fn jump(&mut self) {
        self.reset_due = true;
        self.sent = Tick::ZERO;
        self.is_short = false;
        (self.is_starved, self.is_last) = (false, false);
        self.credit.forget_in_flight();
    }

    /// No frame follows the newest: it is due, whatever the stream's rate.
    pub fn end(&mut self) {
        self.is_last = true;
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

    /// As [`acknowledge`](Self::acknowledge), for a stream that is stripe number `stripe` of `turns`.
    ///
    /// # Errors
    /// Where that tick was never sent.
    pub fn acknowledge_in_turn(
        &mut self,
        turns: &mut Turns,
        stripe: usize,
        epoch: u32,
        newest_tick: Tick,
        now: Duration,
    ) -> Result<(), AckError> {
        let before = self.credit.unacknowledged();
        self.acknowledge(epoch, newest_tick, now)?;
        let after = self.credit.unacknowledged();
        if after < before {
            turns.acknowledged(stripe, after > 0, now);
        }
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

    /// What the view has done since this was asked last.
    pub fn take_counts(&mut self) -> ViewCounts {
        std::mem::take(&mut self.counts)
    }

    fn is_ready(&mut self, epoch: u32, newest: Tick, now: Duration) -> bool {
        // By the number of the tick, not from the last snapshot: streams of one pace then share what is encoded.
        let is_first = epoch != self.epoch || self.sent == Tick::ZERO;
        let is_last = self.is_last && newest > self.sent;
        let is_due = is_first || is_last || self.turn(newest) > self.turn(self.sent);
        if !is_due || newest == Tick::ZERO {
            return false;
        }
        if !self.credit.allows_at(self.share.scale()) {
            self.counts.credit_stalls += u32::from(!self.is_stalled);
            self.is_stalled = true;
            return false;
        }
        // Where what must go leaves no room for a cell, ever fewer snapshots have more.
        if self.is_starved { self.budget.is_full_at(now) } else { self.budget.allows(now) }
    }

    /// The number of the snapshot that a tick is due in.
    fn turn(&self, tick: Tick) -> u64 {
        tick.0 / self.ticks_per_snapshot()
    }

    fn ticks_per_snapshot(&self) -> u64 {
        u64::from(self.config.ticks_per_snapshot)
    }

    /// Composes the next snapshot from the newest frame, and takes it as sent. `None` where there is no frame to send at the
    /// stream's rate, no credit to send it, or no byte to pay with.
    pub fn compose(&mut self, replicator: &Replicator, feedback: InputFeedback, now: Duration) -> Option<Snapshot> {
        let mut snapshot = Snapshot::default();
        self.compose_into(replicator, feedback, now, &mut snapshot).then_some(snapshot)
    }

    /// Composes the next snapshot into `snapshot`, whatever that held: where its buffers, and the view's, have grown to
    /// what they need, and the cells' changes have been encoded for another stream, nothing is allocated. False, and
    /// `snapshot` as it was, where [`compose`](Self::compose) gives none.
    pub fn compose_into(
        &mut self,
        replicator: &Replicator,
        feedback: InputFeedback,
        now: Duration,
        snapshot: &mut Snapshot,
    ) -> bool {
        self.compose_newest(replicator, &replicator.history(), feedback, now, snapshot)
    }

    fn compose_newest(
        &mut self,
        replicator: &Replicator,
        history: &History,
        feedback: InputFeedback,
        now: Duration,
        snapshot: &mut Snapshot,
    ) -> bool {
        let frame = history.newest();
        if !self.is_ready(frame.epoch, frame.tick, now) {
            return false;
        }
        self.is_stalled = false;
        let has_base = frame.epoch == self.epoch && history.frame(self.sent).is_some();
        let reset = self.reset_due || !has_base;
        if reset {
            self.start_anew();
        }
        self.budget.fill(now);

        let base = if reset { Tick(frame.tick.0 - 1) } else { self.sent };
        let seat = self.find_seat(frame);
        let header = pb::Snapshot {
            epoch: frame.epoch,
            tick: frame.tick.0,
            consumed_input: seat.map_or(0, |seat| seat.consumed_input),
            received_input: feedback.received_input,
            received_margin_us: feedback.received_margin_us,
            slip_us: feedback.slip_us,
            reset,
            ..pb::Snapshot::default()
        };
        snapshot.start(&header);
        let event_bytes_max = self.slice_bytes_max(replicator);
        self.put_owner(history, seat, base, event_bytes_max, snapshot);
        let seen_from = match self.follow {
            None => seat,
            Some(Follow::All) => None,
            Some(Follow::Player(player)) => frame.seat(player),
        };
        let own_cell = seen_from.and_then(|seat| seat.owner.as_ref()).map(|owner| owner.cell);
        self.aim(replicator, frame, own_cell, snapshot);
        let roster_bytes_max = self.budget.bytes().min(replicator.config().snapshot_bytes_max) / ROSTER_SHARE;
        self.roster.fill(history, replicator.config().roster_rows_per_snapshot, roster_bytes_max, snapshot);
        self.put_cells(replicator, history, own_cell, snapshot);

        self.epoch = frame.epoch;
        self.sent = frame.tick;
        self.reset_due = false;
        self.budget.spend(snapshot.encoded_len());
        self.credit.sent(frame.tick, snapshot.encoded_len(), now);
        true
    }

    /// As [`compose_into`](Self::compose_into), for a stream that is stripe number `stripe` of `turns`: where it is its
    /// turn, and from the budget of them all.
    pub fn compose_in_turn(
        &mut self,
        turns: &mut Turns,
        stripe: usize,
        replicator: &Replicator,
        feedback: InputFeedback,
        now: Duration,
        snapshot: &mut Snapshot,
    ) -> bool {
        let history = replicator.history();
        let frame = history.newest();
        let Some(share) = turns.share(stripe, frame.epoch, self.turn(frame.tick), now) else { return false };
        self.share = share;
        self.credit.set_scale(share.scale());
        std::mem::swap(&mut self.budget, &mut turns.budget);
        let is_composed = self.compose_newest(replicator, &history, feedback, now, snapshot);
        std::mem::swap(&mut self.budget, &mut turns.budget);
        if is_composed {
            turns.sent(stripe, self.epoch, self.turn(self.sent), now);
        }
        is_composed
    }

    fn start_anew(&mut self) {
        self.cells = ViewCells::default();
        self.slicing = None;
        self.owner = OwnerBase::default();
        self.roster = RosterCursor::default();
    }

    /// The player's seat: seats stay in their places for most of the time, and a search of all misses the cache.
    fn find_seat<'a>(&mut self, frame: &'a Frame) -> Option<&'a SeatFrame> {
        let player = self.config.player?;
        if let Some(seat) = frame.seats.get(self.seat_place).filter(|seat| seat.player == player) {
            return Some(seat);
        }
        self.seat_place = frame.seats.binary_search_by_key(&player, |seat| seat.player).ok()?;
        frame.seats.get(self.seat_place)
    }

    /// The owner section, where there is anything new.
    fn put_owner(
        &mut self,
        history: &History,
        seat: Option<&SeatFrame>,
        base: Tick,
        event_bytes_max: usize,
        snapshot: &mut Snapshot,
    ) {
        let Some(player) = self.config.player else { return };
        let frame = history.newest();
        let row = seat.and_then(|seat| seat.owner.as_ref());
        let seats = || history.seats_after(base, player, seat);
        let events_lost = seats().fold(0_u32, |lost, (_, seat)| lost.saturating_add(seat.events_lost));
        let events = seats().flat_map(|(tick, seat)| {
            seat.events.iter().flat_map(|events| events.iter()).map(move |event| (tick, event))
        });
        let section = &mut self.scratch.owner;
        if self.owner.encode(row, events, events_lost, event_bytes_max, frame.tick, section) {
            snapshot.put_owner(section);
        }
    }

    /// Turns the view to where its player is. What it has turned away from stays for a while, unless the player has jumped
    /// too far for it to be seen again soon.
    fn aim(&mut self, replicator: &Replicator, frame: &Frame, own_cell: Option<CellId>, snapshot: &mut Snapshot) {
        let own_key = own_cell.and_then(|cell| frame.table.place(cell)).and_then(|place| match place {
            Place::Always => None,
            Place::Cell(key) => Some(key),
        });
        let before = self.cells.focus();
        let focus = own_key.or(before);
        let mut removed = std::mem::take(&mut self.scratch.removed);
        if !self.cells.is_aimed(focus, frame) {
            let interest = match self.follow {
                Some(Follow::All) => replicator.interest_in_all(frame),
                Some(Follow::Player(_)) | None => replicator.interest(frame, focus, self.config.view_radius),
            };
            let stood_in = before.and_then(|before| frame.table.id(Place::Cell(before)));
            let is_near = stood_in.is_some_and(|cell| interest.wants(cell));
            let keep_until = is_near.then(|| Tick(frame.tick.0 + replicator.config().edge_ticks));
            self.cells.aim(focus, interest, frame, keep_until, &mut removed);
        }
        self.cells.expire(frame.tick, self.overdue_ticks(), &mut removed);

        let dropped = &mut self.scratch.numbers;
        dropped.clear();
        for cell in removed.drain(..) {
            let was_sliced = self.slicing.take_if(|slicing| slicing.cell == cell.id).is_some();
            if was_sliced || !matches!(cell.standing, Standing::Entering { .. }) {
                dropped.push(cell.id.0);
            }
        }
        snapshot.put_dropped(dropped);
        self.scratch.removed = removed;
    }

    /// The most bytes of one cell, or of the player's own events, in one snapshot.
    fn slice_bytes_max(&self, replicator: &Replicator) -> usize {
        let most = replicator.config().slice_bytes_max;
        most >> self.budget.slice_halvings(most)
    }

    fn overdue_ticks(&self) -> u64 {
        u64::from(self.config.tick_rate.hz()).div_ceil(2)
    }
}

/// Snapshots per second at most, rounded up.
fn snapshot_rate(config: &ViewConfig) -> TickRate {
    let per_second = config.tick_rate.hz().div_ceil(config.ticks_per_snapshot.max(1));
    TickRate::new(per_second).expect("no more than ticks, and at least one")
}
