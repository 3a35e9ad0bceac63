//! A player's side of a session without a socket and without a clock: messages and times in, messages and events out.
//!
//! The caller owns the stream and the time. `now` is a [`Duration`] since any fixed moment, and never goes back:
//!
//! 1. send [`JoinOptions::hello`], and make a [`Core`] of the [`Welcome`](pb::Welcome) that answers it;
//! 2. hand every message that arrives to [`Core::handle`];
//! 3. then take events from [`Core::poll_event`] and messages to send from [`Core::poll_transmit`], until both have none;
//! 4. call both again at [`Core::next_timeout`], or when a message arrives.
//!
//! A caller that does not read its stream acknowledges nothing, and the server soon stops sending to it.
//!
//! A player may have further streams, stripes, on connections of their own: where [`JoinOptions::stripes`] allows it, do as
//! [`Core::poll_stripe`] says, hand their messages to [`Core::handle_on`], and ask [`Core::poll_transmit_on`] for each.
//!
//! A seat outlives its connections: when the last is lost, tell with [`Core::connection_lost`], and do as
//! [`Core::poll_stripe`] says.

mod connections;
mod display_clock;
mod feed;
mod input_clock;
mod inputs;
mod interpolation;
mod join;
mod ledger;
mod prediction;
mod resume;
mod scene;
mod server_clock;
#[cfg(test)]
mod simulation;
mod stats;
mod stripe_count;
mod stripes;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use prost::Message as _;
use tickwire_proto::v1 as pb;
use tickwire_shared::{Action, Game, NetId, PlayerId, Predict, Schema, Settings, Tick, TickRate, schema_of};
use tickwire_wire::{Applied, ApplyError, Mirror, MirrorError, OwnerState, SnapshotMessage};

pub use self::{
    feed::{ClientEvent, Feed, Happening},
    inputs::InputError,
    join::{JoinOptions, ProtocolError},
    prediction::{OwnState, PredictError},
    resume::{GaveUp, Resume, ResumeFailure},
    scene::{Entity, Scene},
    server_clock::ServerClock,
    stats::Stats,
    stripes::{StripeChange, Stripes, StripesError},
};
use self::{
    input_clock::{InputClock, Reach},
    inputs::Inputs,
    interpolation::Interpolation,
    ledger::InputLedger,
    prediction::{Prediction, Present},
    resume::Resumption,
    server_clock::Timeline,
    stats::AgeMeter,
    stripes::{INPUTS_REPEATED, Lanes},
};

/// An acknowledgement waits this many ticks for an input to ride on: a little more than the time between two.
const ACK_DELAY_TICKS: f64 = 1.5;
/// An input is sent with the snapshot that arrives within this many ticks of its time, so that client and server have to do
/// with each other once in a tick and not twice, and packets are shared.
const PAIRING_TICKS: f64 = 0.5;
/// More than streams of a player can be apart in what they tell: of each kind a server tells the newest alone.
const NOTICES_KEPT: usize = 16;
/// The stripe of a client with a single stream.
const FIRST: usize = 0;

/// What happened, as [`Core::poll_event`] tells it.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A snapshot was applied to the mirror, or ignored while it waits for a reset.
    Snapshot(Applied),
    /// A snapshot did not fit the mirror; a reset is asked for.
    Desync(MirrorError),
    /// The input for this tick is about to be sent: now is the time for [`Core::set_input`].
    InputDue(Tick),
    /// The player does this at a tick to come, by the game's prediction: told as soon as that tick's input is sent.
    Predicted {
        /// The tick at which the server will do it.
        tick: Tick,
        /// What.
        action: Action,
    },
    /// The server will close its streams in this time.
    Draining(Duration),
    /// The server goes on after all: streams are not closed.
    DrainCancelled,
    /// Whoever runs the server has something to say to the player.
    Announcement(String),
    /// The session stands still.
    Paused,
    /// The session goes on.
    Resumed,
    /// The last connection is lost. The seat is kept for a while: what is held stands still, and no inputs are made, until the
    /// seat is taken back.
    ConnectionLost,
    /// The seat is taken back, by a new connection.
    Reconnected {
        /// The server has been through a crash meanwhile: its ticks may have gone back, and all that was held is discarded.
        epoch_changed: bool,
    },
    /// The seat is not asked for any longer: the client is at its end.
    GaveUp(GaveUp),
    /// The server's last message.
    Goodbye {
        /// Why.
        reason: pb::GoodbyeReason,
        /// More, for people.
        text: String,
    },
}

/// One player's client: the mirror, the clocks, the inputs on their way, and what there is to acknowledge.
#[derive(Debug)]
pub struct Core {
    player: PlayerId,
    session: String,
    settings: Settings,
    rate: TickRate,
    snapshot_rate: u32,
    /// What is said again to take the seat back.
    hello: pb::Hello,
    chat_token: Vec<u8>,
    resumption: Resumption,
    epoch: u32,
    mirror: Mirror,
    clock: ServerClock,
    input_clock: InputClock,
    reach: Reach,
    inputs: Inputs,
    ledger: InputLedger,
    prediction: Option<Prediction>,
    /// From the first view on.
    interpolation: Option<Interpolation>,
    seen: Seen,
    scene: Option<Scene>,
    own_values: Vec<f64>,
    inputs_bytes_max: usize,
    input_announced: Tick,
    newest_received_input: u64,
    lanes: Lanes,
    /// Of all streams.
    newest_tick: Tick,
    ages: AgeMeter,
    stats: Stats,
    events: VecDeque<Event>,
    /// Whether a snapshot arrived that nothing was sent since.
    is_snapshot_fresh: bool,
    paused: bool,
    end: End,
    has_said_goodbye: bool,
    /// The newest notice, and the stream that told of it.
    notice: Option<(usize, pb::Notice)>,
    /// Notices that have numbers: what all streams tell.
    noticed: VecDeque<pb::Notice>,
}

/// Whether the client is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    No,
    /// Leave is still to be sent.
    Leaving,
    /// Nothing is sent any more.
    Done,
}

impl Core {
    /// A client that was let in.
    ///
    /// # Errors
    /// Where the first message is no welcome, or one that cannot be played by.
    pub fn new(options: &JoinOptions, first: pb::ServerMessage, now: Duration) -> Result<Self, ProtocolError> {
        let Some(pb::server_message::Kind::Welcome(welcome)) = first.kind else {
            return Err(ProtocolError::NotWelcome);
        };
        if welcome.player == 0 {
            return Err(ProtocolError::Player);
        }
        let tick = checked_tick("welcome.tick", welcome.tick)?;
        let rate = TickRate::new(welcome.tick_rate)?;
        let schema = welcome.schema.as_ref().ok_or(ProtocolError::NoSchema)?;
        let schema: Arc<Schema> = Arc::new(tickwire_wire::schema::from_proto(schema)?);
        if let Some(expected) = options.schema_hash.filter(|expected| *expected != schema.hash()) {
            return Err(ProtocolError::SchemaHash { expected, found: schema.hash() });
        }
        let settings = Settings::from_values(&schema, &welcome.settings)?;
        // A number takes up to 10 bytes, a value up to 5, and each has its share of tags and lengths.
        let inputs_bytes_max = 64 + (1 + INPUTS_REPEATED) * (64 + 5 * schema.inputs.len());
        let timeline = Timeline { origin: tick, rate };
        let snapshot_rate = granted_rate(welcome.max_rate, rate);
        Ok(Self {
            player: PlayerId(welcome.player),
            session: welcome.session,
            settings,
            rate,
            snapshot_rate,
            // A ticket is good once, and has been.
            hello: pb::Hello {
                schema_hash: schema.hash().0.to_vec(),
                ticket: String::new(),
                ..options.hello_message()
            },
            chat_token: welcome.chat_token,
            resumption: Resumption::new(options.resume, welcome.resume_token, options.resume_token.clone()),
            epoch: welcome.epoch,
            mirror: Mirror::new(Arc::clone(&schema)),
            clock: ServerClock::new(timeline),
            input_clock: InputClock::new(timeline),
            reach: Reach::new(timeline, tick),
            ledger: InputLedger::new(Arc::clone(&schema), rate),
            prediction: None,
            interpolation: None,
            seen: Seen::default(),
            scene: None,
            own_values: Vec::new(),
            inputs: Inputs::new(schema, welcome.last_consumed_input),
            inputs_bytes_max,
            input_announced: Tick::ZERO,
            newest_received_input: welcome.last_consumed_input,
            lanes: Lanes::new(options.stripes, welcome.max_stripes, welcome.attach_token, now),
            newest_tick: Tick::ZERO,
            ages: AgeMeter::default(),
            stats: Stats::default(),
            events: VecDeque::new(),
            paused: false,
            is_snapshot_fresh: false,
            end: End::No,
            has_said_goodbye: false,
            notice: None,
            noticed: VecDeque::new(),
        })
    }

    /// Has the player's own entity computed ahead of the server, by the game that the client is built with. False where the
    /// game predicts nothing.
    ///
    /// # Errors
    /// Where the session is of another game, or another version of it.
    pub fn predict(&mut self, game: &dyn Game) -> Result<bool, PredictError> {
        let ours = schema_of(game).map_err(|error| PredictError::Schema(error.to_string()))?;
        let theirs = self.schema();
        if ours.hash() != theirs.hash() {
            let name = |schema: &Schema| format!("{} {} ({})", schema.game, schema.version, schema.hash());
            return Err(PredictError::OtherGame { theirs: name(theirs), ours: name(&ours) });
        }
        let predict = game.predict(&self.settings, self.rate);
        self.prediction = predict.map(|predict| Prediction::new(predict, ours, self.rate));
        Ok(self.prediction.is_some())
    }

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

    /// What happened since the last call, oldest first; at last that an input is due.
    pub fn poll_event(&mut self, now: Duration) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        let due = self.input_due(now).filter(|due| *due > self.input_announced)?;
        self.input_announced = due;
        Some(Event::InputDue(due))
    }

    /// What the player does from now on: one value per input field of the schema, in quanta; missing ones at the end are
    /// neutral. Held fields are sent each tick until they are set again; an edge is sent once, with the next input.
    ///
    /// # Errors
    /// Where a value is out of its field's range; nothing changes then.
    pub fn set_input(&mut self, values: &[i32]) -> Result<(), InputError> {
        let before = self.prediction.is_some().then(|| self.inputs.values().to_vec());
        self.inputs.set(values)?;
        self.seen.at_input = self.seen.shown;
        if let (Some(prediction), Some(before)) = (&mut self.prediction, before)
            && before != self.inputs.values()
        {
            prediction.turn(&self.ledger, self.input_clock.origin(), &before, self.inputs.values());
        }
        Ok(())
    }

    /// The next message to send, if any. Never a burst: of ticks that were slept through, only the newest gets an input.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<pb::ClientMessage> {
        self.poll_transmit_on(FIRST, now)
    }

    /// As [`poll_transmit`](Self::poll_transmit), for one of several streams: ask for each until none has anything, since
    /// what is asked of one may make something to send on another.
    pub fn poll_transmit_on(&mut self, stripe: usize, now: Duration) -> Option<pb::ClientMessage> {
        use pb::client_message::Kind;

        let is_open = self.lanes.get(stripe).is_some_and(|lane| lane.is_open());
        match self.end {
            End::No if is_open => {}
            End::Leaving if is_open => {
                self.end = End::Done;
                return Some(message(Kind::Leave(pb::Leave {})));
            }
            End::No | End::Leaving | End::Done => return None,
        }
        let lane = self.lanes.get(stripe)?;
        if let Some(reason) = lane.resync.take() {
            return Some(message(Kind::Resync(pb::Resync { reason: reason.into() })));
        }
        if now >= lane.pings.next_at {
            return Some(message(Kind::Ping(lane.pings.next(now))));
        }
        if let Some(inputs) = self.lanes.take_resent(stripe) {
            let newest_tick = self.lanes.get(stripe)?.ack.newest_tick;
            return Some(message(Kind::Inputs(pb::Inputs { epoch: self.epoch, newest_tick, inputs })));
        }
        if let Some(target) = self.input_due(now) {
            self.stats.inputs_sent += 1;
            let mut input = self.inputs.next(target, now);
            (input.seen_tick, input.seen_fraction) = self.seen.take(&self.mirror);
            self.ledger.sent(&input);
            self.inputs.note(input.clone());
            if let Some(prediction) = &mut self.prediction {
                let tell = |tick, action| self.events.push_back(Event::Predicted { tick, action });
                prediction.advance(target, &self.ledger, &mut self.stats, tell);
            }
            self.lanes.send_input(input);
        }
        if let Some(inputs) = self.lanes.take_inputs(stripe) {
            let newest_tick = self.lanes.get(stripe)?.ack.newest_tick;
            return Some(message(Kind::Inputs(pb::Inputs { epoch: self.epoch, newest_tick, inputs })));
        }
        self.is_snapshot_fresh = false;
        let ack = &mut self.lanes.get(stripe)?.ack;
        if ack.due.is_some_and(|due| now >= due) {
            ack.due = None;
            return Some(message(Kind::Ack(pb::Ack { epoch: self.epoch, newest_tick: ack.newest_tick })));
        }
        None
    }

    /// When [`poll_event`](Self::poll_event) and [`poll_transmit`](Self::poll_transmit) are to be called again, if no
    /// message arrives before. `None`: only when one arrives.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Duration> {
        if self.end != End::No {
            return None;
        }
        if !self.is_connected() {
            return self.resumption.next_timeout();
        }
        let next = self.inputs.last_target().next();
        let input = self.input_clock.due(next).filter(|_| !self.paused && next <= self.reach.limit());
        let input = input.and_then(|due| Duration::try_from_secs_f64((due + self.pairing_seconds()).max(0.0)).ok());
        [self.lanes.next_due(), self.lanes.next_timeout(), input].into_iter().flatten().min()
    }

    /// Gives the seat up: the next message is the last one.
    pub fn leave(&mut self) {
        if self.end == End::No {
            self.end = End::Leaving;
        }
    }

    /// Accounts for the age of what is held up to `now`; otherwise that happens every few seconds. For a client's end.
    pub fn sample_age(&mut self, now: Duration) {
        self.ages.sample(now.as_secs_f64(), &self.clock, &mut self.stats);
        self.ages.flush(&mut self.stats);
    }

    /// What the client holds of the session.
    #[must_use]
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// The own entity at the tick of the newest input, exactly as the server will have it unless something comes in between;
    /// `None` while there is none, or nothing is [predicted](Self::predict).
    #[must_use]
    pub fn own_state(&self) -> Option<OwnState<'_>> {
        self.prediction.as_ref()?.state()
    }

    /// What is to be drawn now: the own entity as predicted, with corrections shown bit by bit, and others a little in the
    /// past, between two ticks that have come. Call it once for each frame that is drawn.
    ///
    /// From the first call on others' ways are kept, and inputs tell the server what the player was shown.
    pub fn view(&mut self, now: Duration) -> &Scene {
        let mut scene = self.scene.take().unwrap_or_else(|| Scene::new(Arc::clone(self.schema())));
        self.view_into(now, &mut scene);
        self.scene.insert(scene)
    }

    /// As [`view`](Self::view), into a scene of this session's schema, whatever that held.
    pub fn view_into(&mut self, now: Duration, scene: &mut Scene) {
        scene.clear();
        let present = present(&self.input_clock, &self.inputs, now);
        if let Some(prediction) = &mut self.prediction
            && let Some((net_id, kind)) = prediction.show(&self.ledger, &present, self.rate, &mut self.own_values)
        {
            scene.push(net_id, kind, true, self.own_values.iter().copied());
            self.seen.own = Some(net_id);
        }
        let seconds = now.as_secs_f64();
        let server = self.clock.ticks(seconds);
        let interpolation = self.interpolation.get_or_insert_with(|| {
            let mut interpolation = Interpolation::new(Arc::clone(self.mirror.schema()), self.clock.timeline());
            interpolation.applied(seconds, self.mirror.tick(), server, &self.mirror);
            interpolation
        });
        let predicted = self.seen.own.filter(|_| self.prediction.is_some());
        self.seen.shown = interpolation.show(seconds, server, &self.mirror, predicted, scene);
        scene.finish(self.seen.shown.unwrap_or_default(), self.mirror.owner());
    }

    /// The moment at which others were shown in the newest frame: a tick, and how far it was to the next, in 1/256. `None` where
    /// none was drawn.
    #[must_use]
    pub fn seen(&self) -> Option<(Tick, u8)> {
        self.seen.shown
    }

    /// How far behind the server's time others are shown: the way down, a snapshot's interval, and their jitter. `None` before
    /// the first [`view`](Self::view).
    #[must_use]
    pub fn display_delay(&self) -> Option<Duration> {
        let ticks = self.interpolation.as_ref()?.delay_ticks();
        Duration::try_from_secs_f64(ticks / f64::from(self.rate.hz())).ok()
    }

    /// The session's settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the game replicates.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        self.mirror.schema()
    }

    /// This player.
    #[must_use]
    pub fn player(&self) -> PlayerId {
        self.player
    }

    /// What no message but the first takes more bytes than: the longest has inputs of this schema, some of them repeated.
    pub(crate) fn message_bytes_max(&self) -> usize {
        self.inputs_bytes_max
    }

    /// The session's name.
    #[must_use]
    pub fn session(&self) -> &str {
        &self.session
    }

    /// Ticks per second.
    #[must_use]
    pub fn tick_rate(&self) -> TickRate {
        self.rate
    }

    /// Snapshots per second that the server granted, where the connection carries them.
    #[must_use]
    pub fn snapshot_rate(&self) -> u32 {
        self.snapshot_rate
    }

    /// Takes the seat back, by another client with it as [`JoinOptions::resume_token`]; this one does so by itself. Empty where
    /// the server keeps no seats.
    #[must_use]
    pub fn resume_token(&self) -> &[u8] {
        self.resumption.newest()
    }

    /// Lets the player talk: [`ChatToken`](crate::ChatToken). Another one with each resume; empty where nobody talks.
    #[must_use]
    pub fn chat_token(&self) -> &[u8] {
        &self.chat_token
    }

    /// The estimate of the server's clock.
    #[must_use]
    pub fn clock(&self) -> &ServerClock {
        &self.clock
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
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
    fn start_epoch(&mut self, epoch: u32, consumed_input: u64, now: Duration) {
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
    fn told_of(&mut self, tick: Tick) {
        self.reach.told(tick, self.clock.min_rtt().unwrap_or_default().as_secs_f64());
    }

    /// Whether there is a connection.
    fn is_connected(&self) -> bool {
        !self.resumption.is_lost() && !self.resumption.has_given_up()
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
    fn restart_clocks(&mut self, now: Duration) {
        self.ages.sample(now.as_secs_f64(), &self.clock, &mut self.stats);
        self.ages.reset();
        self.clock.reset();
        self.input_clock.reset();
        self.lanes.iter_mut().for_each(|lane| lane.pings.restart(now));
    }

    fn pairing_seconds(&self) -> f64 {
        PAIRING_TICKS / f64::from(self.rate.hz())
    }

    /// The tick whose input is to be sent now: with a snapshot that arrives near its time, else a little after it. A clock
    /// that stepped back waits for a tick that had none.
    fn input_due(&self, now: Duration) -> Option<Tick> {
        let slack = self.pairing_seconds();
        let slack = if self.is_snapshot_fresh { slack } else { -slack };
        let due = self.input_clock.tick(now.as_secs_f64() + slack)?;
        // One that was missed by waking late still comes in time, by the lead; where more were, the clock has moved.
        let last = self.inputs.last_target();
        let due = if last > Tick::ZERO && due == last.next().next() { last.next() } else { due };
        let due = due.min(self.reach.limit());
        (self.end == End::No
            && self.is_connected()
            && !self.paused
            && due > self.inputs.last_target()
            && due <= Tick::MAX)
            .then_some(due)
    }
}

/// What of others the player was shown.
#[derive(Debug, Default)]
struct Seen {
    /// In the newest frame.
    shown: Option<(Tick, u8)>,
    /// When the player last chose an input that is not sent yet.
    at_input: Option<(Tick, u8)>,
    /// The own entity that was last shown as predicted.
    own: Option<NetId>,
}

impl Seen {
    /// What an input that is sent now was made by. A client that draws nothing goes by the mirror.
    fn take(&mut self, mirror: &Mirror) -> (u64, u32) {
        let (tick, fraction) = self.at_input.take().or(self.shown).unwrap_or((mirror.tick(), 0));
        (tick.0, fraction.into())
    }
}

/// What the player does at this moment of the input clock.
fn present<'a>(clock: &InputClock, inputs: &'a Inputs, now: Duration) -> Present<'a> {
    Present { now, clock: clock.ticks(now.as_secs_f64()), origin: clock.origin(), values: inputs.values() }
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

fn message(kind: pb::client_message::Kind) -> pb::ClientMessage {
    pb::ClientMessage { kind: Some(kind) }
}

/// Snapshots per second, by what a welcome says.
fn granted_rate(max_rate: u32, rate: TickRate) -> u32 {
    match max_rate {
        0 => rate.hz(),
        granted => granted.min(rate.hz()),
    }
}

fn checked_tick(field: &'static str, tick: u64) -> Result<Tick, ProtocolError> {
    if tick > Tick::MAX.0 { Err(ProtocolError::Tick { field, tick }) } else { Ok(Tick(tick)) }
}
