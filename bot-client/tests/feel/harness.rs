//! A match in simulated time: a session and its replication as a server runs them, and clients over ordered links.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use tickwire_client::{
    ClientEvent, Core, Event, JoinOptions,
    bots::{Behaviour, BehaviourChoice, Moment, assign},
    core::Feed,
};
use tickwire_proto::v1::{self as pb, client_message::Kind as Up, server_message::Kind as Down};
use tickwire_replication::{InputFeedback, ReplicationConfig, Replicator, Snapshot, View, ViewConfig};
use tickwire_shared::{Frame, Game, PlayerId, Tick, TickRate};
use tickwire_simulation::{Input, InputCounters, Session, SessionConfig};

const STEP: f64 = 0.000_5;
/// The local time of everyone at the session's tick 0.
const START: f64 = 100.0;

/// One direction of a TCP connection: everything arrives, in order, some time later.
struct Pipe<T> {
    messages: VecDeque<(f64, T)>,
    /// Nothing that is sent before this time arrives before it: packets were lost, and are sent again.
    stalled_until: f64,
}

impl<T> Pipe<T> {
    fn new() -> Self {
        Self { messages: VecDeque::new(), stalled_until: 0.0 }
    }

    fn send(&mut self, now: f64, delay: f64, message: T) {
        let in_order = self.messages.back().map_or(0.0, |(at, _)| *at);
        self.messages.push_back(((now + delay).max(in_order).max(self.stalled_until), message));
    }

    fn stall(&mut self, until: f64) {
        self.stalled_until = until;
        for (at, _) in &mut self.messages {
            *at = at.max(until);
        }
    }

    fn receive(&mut self, now: f64) -> Option<T> {
        self.messages.pop_front_if(|(at, _)| *at <= now).map(|(_, message)| message)
    }
}

/// One way's delay and what is added at most, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) delay: f64,
    pub(crate) jitter: f64,
}

/// A link with this round trip in milliseconds, give or take `jitter`.
pub(crate) fn rtt(ms: f64, jitter: f64) -> Link {
    Link { delay: (ms - jitter) / 2000.0, jitter: jitter / 1000.0 }
}

type Script = Box<dyn FnMut(Tick) -> Vec<i32>>;

/// What chooses a client's inputs.
pub(crate) enum Mind {
    Bot(Box<Behaviour>),
    Script(Script),
}

pub(crate) struct Client {
    pub(crate) core: Core,
    pub(crate) player: PlayerId,
    pub(crate) link: Link,
    pub(crate) events: Vec<(f64, Event)>,
    feed: Feed,
    /// Every input as it left, with the time.
    pub(crate) sent: Vec<(f64, pb::Input)>,
    pub(crate) mind: Mind,
    /// While true the client is not called.
    pub(crate) asleep: bool,
    held: Vec<i32>,
    view: View,
    up: Pipe<pb::ClientMessage>,
    down: Pipe<Vec<u8>>,
    feedback: InputFeedback,
    rng: Xoshiro256PlusPlus,
}

pub(crate) struct Match {
    pub(crate) session: Session,
    pub(crate) clients: Vec<Client>,
    pub(crate) frames: BTreeMap<Tick, Arc<Frame>>,
    pub(crate) now: f64,
    replicator: Arc<Replicator>,
    rate: TickRate,
    seed: u64,
}

impl Match {
    pub(crate) fn new(game: Arc<dyn Game>, settings: &[(&str, f64)], seed: u64) -> Self {
        let named_settings = settings.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let rate = TickRate::DEFAULT;
        let config = SessionConfig { named_settings, seed, tick_rate: rate, ..SessionConfig::default() };
        let session = Session::new(Arc::clone(&game), config).unwrap();
        let (schema, frame) = (Arc::clone(session.schema()), Arc::clone(session.frame()));
        let replicator = Arc::new(Replicator::new(game, &schema, ReplicationConfig::new(rate), frame));
        Self { session, clients: Vec::new(), frames: BTreeMap::new(), now: START, replicator, rate, seed }
    }

    pub(crate) fn of_arena(settings: &[(&str, f64)], seed: u64) -> Self {
        Self::new(Arc::new(tickwire_arena::Arena), settings, seed)
    }

    fn due(&self, tick: Tick) -> f64 {
        START + tick.0 as f64 / f64::from(self.rate.hz())
    }

    fn at(&self) -> Duration {
        Duration::from_secs_f64(self.now)
    }

    /// Joins with a view of `radius`, and every n-th tick's snapshot.
    pub(crate) fn join_with(&mut self, link: Link, mind: Mind, radius: f64, ticks_per_snapshot: u32) -> usize {
        let player = self.session.join("").unwrap();
        let schema = tickwire_wire::schema::to_proto(self.session.schema());
        let welcome = pb::Welcome {
            player: player.0,
            tick: self.session.tick().0,
            tick_rate: self.rate.hz(),
            schema: Some(schema),
            settings: self.session.settings().values().to_vec(),
            hash_interval: self.rate.hz() / 2,
            max_rate: self.rate.hz() / ticks_per_snapshot,
            ..pb::Welcome::default()
        };
        let welcome = pb::ServerMessage { kind: Some(Down::Welcome(welcome)) };
        let core = Core::new(&JoinOptions::default(), welcome, self.at()).unwrap();
        let config = ViewConfig {
            player: Some(player),
            view_radius: radius,
            tick_rate: self.rate,
            ticks_per_snapshot,
            bytes_per_second: None,
            in_flight_bytes_max: 256 << 10,
        };
        self.clients.push(Client {
            held: core.schema().neutral_input(),
            core,
            player,
            link,
            events: Vec::new(),
            feed: Feed::default(),
            sent: Vec::new(),
            mind,
            asleep: false,
            view: View::new(config),
            up: Pipe::new(),
            down: Pipe::new(),
            feedback: InputFeedback::default(),
            rng: Xoshiro256PlusPlus::seed_from_u64(self.seed ^ u64::from(player.0) << 32),
        });
        self.clients.len() - 1
    }

    pub(crate) fn join(&mut self, link: Link, mind: Mind) -> usize {
        self.join_with(link, mind, 128.0, 1)
    }

    /// Bots that predict the arena, each on its own link.
    pub(crate) fn join_bots(&mut self, choices: &[&str], bots: usize, link: Link) {
        let choices: Vec<BehaviourChoice> = choices.iter().map(|choice| choice.parse().unwrap()).collect();
        for (i, role) in assign(&choices, bots).unwrap().iter().enumerate() {
            let behaviour = Behaviour::new(role, self.session.schema(), self.seed + i as u64);
            let client = self.join(link, Mind::Bot(Box::new(behaviour)));
            assert!(self.clients[client].core.predict(&tickwire_arena::Arena).unwrap());
        }
    }

    /// Nothing gets through to a client, or from it, for so many seconds; what was sent comes after.
    pub(crate) fn stall(&mut self, client: usize, seconds: f64, up: bool, down: bool) {
        let until = self.now + seconds;
        let client = &mut self.clients[client];
        if up {
            client.up.stall(until);
        }
        if down {
            client.down.stall(until);
        }
    }

    pub(crate) fn run(&mut self, seconds: f64) {
        self.run_with(seconds, |_| {});
    }

    /// Runs, and calls `each` after every half millisecond.
    pub(crate) fn run_with(&mut self, seconds: f64, mut each: impl FnMut(&mut Self)) {
        let end = self.now + seconds;
        while self.now < end {
            self.now += STEP;
            self.receive();
            if self.now >= self.due(self.session.tick().next()) {
                self.tick();
            }
            self.compose();
            for i in 0..self.clients.len() {
                self.play(i);
            }
            each(self);
        }
    }

    fn receive(&mut self) {
        let (now, at) = (self.now, self.at());
        for i in 0..self.clients.len() {
            while let Some(message) = self.clients[i].up.receive(now) {
                match message.kind.unwrap() {
                    Up::Inputs(inputs) => {
                        let client = &mut self.clients[i];
                        client.view.acknowledge(inputs.epoch, Tick(inputs.newest_tick), at).unwrap();
                        for input in inputs.inputs {
                            self.input(i, input);
                        }
                    }
                    Up::Ack(ack) => {
                        self.clients[i].view.acknowledge(ack.epoch, Tick(ack.newest_tick), at).unwrap();
                    }
                    Up::Ping(ping) => {
                        let tick = self.session.tick();
                        let phase_us = ((now - self.due(tick)) * 1e6) as u32;
                        let pong = pb::Pong { echo: ping.echo, tick: tick.0, phase_us, slip_us: 0 };
                        self.clients[i].send_down(now, &pb::ServerMessage { kind: Some(Down::Pong(pong)) });
                    }
                    Up::Resync(_) => self.clients[i].view.resync(),
                    Up::Hello(_) | Up::Leave(_) | Up::WatchControl(_) => {}
                }
            }
        }
    }

    fn input(&mut self, client: usize, input: pb::Input) {
        let margin = self.due(Tick(input.target_tick)) - self.now;
        let client = &mut self.clients[client];
        if input.sequence > client.feedback.received_input {
            client.feedback.received_input = input.sequence;
            client.feedback.received_margin_us = (margin * 1e6) as i32;
        }
        let pb::Input { sequence, target_tick, values, .. } = input;
        let input = Input::new(self.session.schema(), sequence, target_tick, values).unwrap();
        let _ = self.session.input(client.player, input);
    }

    fn tick(&mut self) {
        let input = self.session.begin_tick();
        let output = self.session.finish_tick(&input).unwrap();
        self.frames.insert(output.frame.tick, Arc::clone(&output.frame));
        self.replicator.publish(output.frame);
    }

    fn compose(&mut self) {
        let (now, at) = (self.now, self.at());
        let mut snapshot = Snapshot::default();
        for client in &mut self.clients {
            if client.view.compose_into(&self.replicator, client.feedback, at, &mut snapshot) {
                let mut message = Vec::new();
                snapshot.encode_server_message(&mut message);
                client.deliver(now, message);
            }
        }
    }

    fn play(&mut self, i: usize) {
        let (now, at, rate) = (self.now, self.at(), self.rate);
        let client = &mut self.clients[i];
        if client.asleep {
            return;
        }
        while let Some(message) = client.down.receive(now) {
            let message = <pb::ServerMessage as prost::Message>::decode(message.as_slice()).unwrap();
            client.core.handle(message, at).unwrap();
        }
        while let Some(event) = client.core.poll_event(at) {
            if let Event::InputDue(tick) = event {
                match &mut client.mind {
                    Mind::Bot(behaviour) => {
                        let moment = Moment { tick, rate, mirror: client.core.mirror() };
                        behaviour.choose(&moment, &mut client.held);
                    }
                    Mind::Script(script) => client.held = script(tick),
                }
                client.core.set_input(&client.held).unwrap();
            }
            client.feed.take(event.clone(), &client.core);
            client.events.push((now, event));
        }
        while let Some(message) = client.core.poll_transmit(at) {
            if let Some(Up::Inputs(inputs)) = &message.kind {
                client.sent.extend(inputs.inputs.iter().map(|input| (now, input.clone())));
            }
            let delay = client.link.delay + client.link.jitter * client.rng.random::<f64>();
            client.up.send(now, delay, message);
        }
    }

    pub(crate) fn counters(&self) -> InputCounters {
        *self.session.counters()
    }
}

impl Client {
    /// What a game loop hears now.
    pub(crate) fn news(&mut self) -> Vec<ClientEvent> {
        std::iter::from_fn(|| self.feed.poll(&self.core)).collect()
    }

    fn send_down(&mut self, now: f64, message: &pb::ServerMessage) {
        self.deliver(now, prost::Message::encode_to_vec(message));
    }

    fn deliver(&mut self, now: f64, message: Vec<u8>) {
        let delay = self.link.delay + self.link.jitter * self.rng.random::<f64>();
        self.down.send(now, delay, message);
    }
}
