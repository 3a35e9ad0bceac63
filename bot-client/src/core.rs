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
mod event;
mod feed;
mod input_clock;
mod inputs;
mod interpolation;
mod join;
mod lanes;
mod ledger;
mod pings;
mod prediction;
mod receive;
mod resume;
mod scene;
mod server_clock;
#[cfg(test)]
mod simulation;
mod stats;
mod stripe_count;
mod stripes;
mod transmit;
mod view;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tickwire_proto::v1 as pb;
use tickwire_shared::{Game, PlayerId, Schema, Settings, Tick, TickRate, schema_of};
use tickwire_wire::Mirror;

pub use self::{
    event::Event,
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
    lanes::{INPUTS_REPEATED, Lanes},
    ledger::InputLedger,
    prediction::{Prediction, Present},
    resume::Resumption,
    server_clock::Timeline,
    stats::AgeMeter,
    view::Seen,
};

/// The stripe of a client with a single stream.
const FIRST: usize = 0;

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
}

/// What the player does at this moment of the input clock.
fn present<'a>(clock: &InputClock, inputs: &'a Inputs, now: Duration) -> Present<'a> {
    Present { now, clock: clock.ticks(now.as_secs_f64()), origin: clock.origin(), values: inputs.values() }
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
