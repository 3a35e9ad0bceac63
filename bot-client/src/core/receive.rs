//! What the server says, and what it changes: the mirror, the clocks, the prediction, and what there is to acknowledge.

use std::time::Duration;

use prost::Message as _;
use tickwire_proto::v1 as pb;
use tickwire_shared::{Predict, Tick};
use tickwire_wire::{ApplyError, Mirror, MirrorError, OwnerState, SnapshotMessage};

use super::{Core, End, Event, FIRST, ProtocolError, checked_tick, input_clock::Reach, present, view::Seen};

/// An acknowledgement waits this many ticks for an input to ride on: a little more than the time between two.
const ACK_DELAY_TICKS: f64 = 1.5;
/// More than streams of a player can be apart in what they tell: of each kind a server tells the newest alone.
const NOTICES_KEPT: usize = 16;

impl Core {
    /// Takes in a message of the server. Call it at once for each message that arrives.
    ///
    /// # Errors
    /// Where the server does not speak as agreed; end the stream. A snapshot that does not fit is no error: it is told as
    /// [`Event::Desync`], and a reset is asked for.
    pub fn handle(&mut self, message: pb::ServerMessage, now: Duration) -> Result<(), ProtocolError> {
        self.handle_on(FIRST, message, now)
    }

    /// As [`handle`](Self::handle), for a message of any of several streams.
    ///
    /// # Errors
    /// Where the server does not speak as agreed; end that stream.
    pub fn handle_on(&mut self, stripe: usize, message: pb::ServerMessage, now: Duration) -> Result<(), ProtocolError> {
        match message.kind {
            Some(pb::server_message::Kind::Snapshot(snapshot)) => {
                self.handle_snapshot_on(stripe, &snapshot.encode_to_vec(), now)?;
            }
            Some(pb::server_message::Kind::Pong(pong)) => self.pong(stripe, &pong, now)?,
            Some(pb::server_message::Kind::Notice(notice)) => {
                // Each stream tells of it.
                if !self.is_repeat(stripe, &notice) {
                    self.notice(&notice, now);
                }
            }
            Some(pb::server_message::Kind::Goodbye(goodbye))
                if self.has_said_goodbye || goodbye.reason() == pb::GoodbyeReason::StripeClosed => {}
            Some(pb::server_message::Kind::Goodbye(goodbye)) => {
                self.end = End::Done;
                self.has_said_goodbye = true;
                self.events.push_back(Event::Goodbye { reason: goodbye.reason(), text: goodbye.text });
            }
            Some(pb::server_message::Kind::Welcome(_)) => return Err(ProtocolError::SecondWelcome),
            // For spectators, or of a newer server; what is unknown is skipped.
            Some(pb::server_message::Kind::WatchState(_)) | None => {}
        }
        Ok(())
    }

    /// Takes in a snapshot, given as the body of its message: as [`handle`](Self::handle), but without making anything of it
    /// on the way. [`SnapshotMessage::within`] tells such a message.
    ///
    /// # Errors
    /// Where it is no such message.
    pub fn handle_snapshot(&mut self, body: &[u8], now: Duration) -> Result<(), ProtocolError> {
        self.handle_snapshot_on(FIRST, body, now)
    }

    /// As [`handle_snapshot`](Self::handle_snapshot), for any of several streams.
    ///
    /// # Errors
    /// Where it is no such message.
    pub fn handle_snapshot_on(&mut self, stripe: usize, body: &[u8], now: Duration) -> Result<(), ProtocolError> {
        self.snapshot(stripe, &SnapshotMessage::read(body)?, now)
    }

    fn snapshot(&mut self, stripe: usize, snapshot: &SnapshotMessage<'_>, now: Duration) -> Result<(), ProtocolError> {
        let tick = checked_tick("snapshot.tick", snapshot.tick)?;
        let Some(lane) = self.lanes.get(stripe) else { return Ok(()) };
        lane.received(tick.0, now);
        lane.heard(now);
        if snapshot.epoch != self.epoch {
            self.start_epoch(snapshot.epoch, snapshot.consumed_input, now);
        }
        self.stats.snapshots += 1;
        self.is_snapshot_fresh = true;
        self.acknowledge_within(stripe, now);
        // What another stream has brought may be newer.
        let is_newest = tick > self.newest_tick;
        if is_newest {
            // The time before it was lived through by the slip known then: a server that stood still was a stall.
            self.ages.sample(now.as_secs_f64(), &self.clock, &mut self.stats);
            let slip = self.clock.slip_seconds();
            self.clock.slip(snapshot.slip_us);
            self.input_clock.slipped(now.as_secs_f64(), self.clock.slip_seconds() - slip);
            self.told_of(tick);
        }
        self.note_lateness(stripe, tick, now);
        self.take_input_feedback(snapshot, now);

        match self.mirror.apply_message(stripe, snapshot) {
            Ok(applied) => {
                if applied.ignored {
                    self.stats.snapshots_ignored += 1;
                } else if is_newest {
                    self.newest_tick = tick;
                    if !self.paused {
                        self.ages.applied(tick, now.as_secs_f64(), &self.clock, &mut self.stats);
                    }
                    self.reconcile(tick, now);
                    let seconds = now.as_secs_f64();
                    if let Some(interpolation) = &mut self.interpolation {
                        interpolation.applied(seconds, tick, self.clock.ticks(seconds), &self.mirror);
                    }
                }
                self.stats.entity_ticks += applied.entities as u64;
                self.stats.hash_checks += u64::from(applied.hash_checks);
                self.stats.events += applied.events.len() as u64;
                self.stats.events_lost += applied.events_lost;
                self.events.push_back(Event::Snapshot(applied));
            }
            Err(error) => {
                if matches!(error, MirrorError::Apply(ApplyError::Hash { .. })) {
                    self.stats.hash_checks += 1;
                    self.stats.hash_mismatches += 1;
                }
                self.stats.resyncs += 1;
                if let Some(lane) = self.lanes.get(stripe) {
                    lane.resync = Some(error.resync_reason());
                }
                self.events.push_back(Event::Desync(error));
            }
        }
        Ok(())
    }

    /// Ticks begin anew: what is known of those before is void, but for which inputs they have consumed.
    pub(super) fn start_epoch(&mut self, epoch: u32, consumed_input: u64, now: Duration) {
        self.epoch = epoch;
        self.inputs.new_epoch(consumed_input, now);
        self.ledger.new_epoch();
        if let Some(prediction) = &mut self.prediction {
            prediction.reset();
        }
        self.interpolation = None;
        self.seen = Seen::default();
        self.input_announced = Tick::ZERO;
        self.lanes.forget_inputs();
        self.newest_tick = Tick::ZERO;
        self.reach = Reach::new(self.clock.timeline(), Tick::ZERO);
        self.restart_clocks(now);
    }

    /// The server says that it has reached a tick.
    pub(super) fn told_of(&mut self, tick: Tick) {
        self.reach.told(tick, self.clock.min_rtt().unwrap_or_default().as_secs_f64());
    }

    /// What the server says of the inputs that it received and consumed.
    fn take_input_feedback(&mut self, snapshot: &SnapshotMessage<'_>, now: Duration) {
        let SnapshotMessage { consumed_input, received_input, received_margin_us, .. } = *snapshot;
        if received_input > self.newest_received_input {
            self.newest_received_input = received_input;
            if let Some(sent) = self.inputs.sent(received_input) {
                let (sent_at, slip) = (sent.at.as_secs_f64(), self.clock.slip_seconds());
                self.input_clock.arrived(now.as_secs_f64(), sent_at, sent.target, received_margin_us, slip);
            }
        }
        while let Some(sent) = self.inputs.pop_consumed(consumed_input) {
            self.stats.record_input_to_ack(now.saturating_sub(sent.at));
        }
        self.ledger.received(Tick(snapshot.tick), received_input);
        self.ledger.settle(Tick(snapshot.tick), consumed_input, &mut self.stats);
    }

    /// Goes on from the exact state of the newest snapshot.
    fn reconcile(&mut self, tick: Tick, now: Duration) {
        let Some(prediction) = &mut self.prediction else { return };
        // An older snapshot of another stream says nothing new.
        if tick != self.ledger.settled().tick {
            return;
        }
        let present = present(&self.input_clock, &self.inputs, now);
        let in_contact = |predict: &dyn Predict, own: &OwnerState| touches_another(&self.mirror, predict, own);
        let tell = |tick, action| self.events.push_back(Event::Predicted { tick, action });
        let target = self.inputs.last_target();
        let owner = self.mirror.owner();
        prediction.reconcile(owner, target, &self.ledger, &present, in_contact, &mut self.stats, tell);
    }

    /// A loss shows in how late a snapshot comes.
    fn note_lateness(&mut self, stripe: usize, tick: Tick, now: Duration) {
        let seconds = now.as_secs_f64();
        if let (Some(due), Some(round_trip)) = (self.clock.due(tick), self.clock.min_rtt()) {
            self.lanes.count().arrived(stripe, seconds - due, round_trip.as_secs_f64(), now);
        }
    }

    /// An input takes the acknowledgement along, where one is due soon.
    fn acknowledge_within(&mut self, stripe: usize, now: Duration) {
        let delay = match self.input_clock.is_running() && !self.paused {
            true => Duration::from_secs_f64(self.rate.duration_of(1).as_secs_f64() * ACK_DELAY_TICKS),
            false => Duration::ZERO,
        };
        if let Some(lane) = self.lanes.get(stripe) {
            lane.ack.due.get_or_insert(now + delay);
        }
    }

    fn pong(&mut self, stripe: usize, pong: &pb::Pong, now: Duration) -> Result<(), ProtocolError> {
        let tick = checked_tick("pong.tick", pong.tick)?;
        let Some(lane) = self.lanes.get(stripe) else { return Ok(()) };
        lane.heard(now);
        let Some(sent) = lane.pings.answered(pong.echo) else { return Ok(()) };
        let (sent, now) = (sent.as_secs_f64(), now.as_secs_f64());
        self.ages.sample(now, &self.clock, &mut self.stats);
        let slip = self.clock.slip_seconds();
        self.clock.pong(sent, now, tick, pong.phase_us, pong.slip_us);
        self.input_clock.slipped(now, self.clock.slip_seconds() - slip);
        self.told_of(tick);
        if !self.input_clock.is_running()
            && !self.paused
            && let (Some(server), Some(rtt)) = (self.clock.server_time(now), self.clock.min_rtt())
        {
            self.input_clock.start(now, server + rtt.as_secs_f64() / 2.0 - self.clock.slip_seconds());
        }
        Ok(())
    }

    /// Whether another stream has told of it.
    fn is_repeat(&mut self, stripe: usize, notice: &pb::Notice) -> bool {
        if notice.number == 0 {
            let before = self.notice.replace((stripe, notice.clone()));
            return before.is_some_and(|(on, told)| on != stripe && told == *notice);
        }
        let is_repeat = self.noticed.contains(notice);
        if !is_repeat {
            self.noticed.truncate(NOTICES_KEPT - 1);
            self.noticed.push_front(notice.clone());
        }
        is_repeat
    }

    fn notice(&mut self, notice: &pb::Notice, now: Duration) {
        match notice.kind() {
            pb::NoticeKind::Draining => {
                self.events.push_back(Event::Draining(Duration::from_millis(notice.deadline_ms.into())));
            }
            pb::NoticeKind::Paused => {
                self.paused = true;
                self.restart_clocks(now);
                self.events.push_back(Event::Paused);
            }
            pb::NoticeKind::Resumed => {
                self.paused = false;
                self.restart_clocks(now);
                self.events.push_back(Event::Resumed);
            }
            pb::NoticeKind::DrainCancelled => self.events.push_back(Event::DrainCancelled),
            pb::NoticeKind::Announcement => self.events.push_back(Event::Announcement(notice.text.clone())),
            pb::NoticeKind::Unspecified => {}
        }
    }

    /// What was learnt of the server's time is void: it is asked again at once.
    pub(super) fn restart_clocks(&mut self, now: Duration) {
        self.ages.sample(now.as_secs_f64(), &self.clock, &mut self.stats);
        self.ages.reset();
        self.clock.reset();
        self.input_clock.reset();
        self.lanes.iter_mut().for_each(|lane| lane.pings.restart(now));
    }
}

/// Whether any other entity may be in the way of the own one, as the game says.
fn touches_another(mirror: &Mirror, predict: &dyn Predict, own: &OwnerState) -> bool {
    let mut values = Vec::new();
    mirror.shown().filter(|shown| shown.net_id() != own.net_id).any(|shown| {
        let fields = mirror.schema().kinds[shown.kind().index()].fields.len();
        values.clear();
        values.extend((0..fields).map(|i| shown.value(i, shown.tick()).unwrap_or(0)));
        predict.in_contact(own.kind, &own.values, shown.kind(), &values)
    })
}
