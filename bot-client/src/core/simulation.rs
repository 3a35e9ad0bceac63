//! The core against a simulated server over a simulated, ordered link, in simulated time.

mod inputs;
mod messages;
mod resume;
mod server_time;
mod stripes;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use tickwire_proto::v1::{self as pb, client_message::Kind as Up, server_message::Kind as Down};
use tickwire_shared::{InputField, Quantity, Schema, SchemaParts, Tick};

use super::{Core, Event, JoinOptions, ProtocolError, StripeChange, Stripes};

const HZ: u32 = 60;
const STEP: f64 = 0.000_25;

/// One direction of a TCP connection: everything arrives, in order, some time later.
struct Link<T> {
    messages: VecDeque<(f64, T)>,
}

impl<T> Link<T> {
    fn send(&mut self, now: f64, delay: f64, message: T) {
        let in_order = self.messages.back().map_or(0.0, |(at, _)| *at);
        self.messages.push_back(((now + delay).max(in_order), message));
    }

    fn receive(&mut self, now: f64) -> Option<T> {
        self.messages.pop_front_if(|(at, _)| *at <= now).map(|(_, message)| message)
    }
}

struct SimServer {
    tick: u64,
    /// While true the server's process stands still: it neither steps nor reads.
    frozen: bool,
    /// Inputs that were dropped because their ticks were too far ahead.
    too_early: u64,
    slip: f64,
    epoch: u32,
    reset: bool,
    consumed: u64,
    received: (u64, i32),
    waiting: BTreeMap<u64, u64>,
    late: u64,
    arrived: u64,
}

impl SimServer {
    fn due(&self, tick: u64) -> f64 {
        tick as f64 / f64::from(HZ) + self.slip
    }

    fn input(&mut self, now: f64, input: &pb::Input) {
        let margin = self.due(input.target_tick) - now;
        self.arrived += 1;
        self.received = (input.sequence, (margin * 1e6) as i32);
        if input.target_tick <= self.tick {
            self.late += 1;
        } else if input.target_tick > self.tick + u64::from(HZ) {
            self.too_early += 1;
        } else {
            self.waiting.insert(input.target_tick, input.sequence);
        }
    }

    fn step(&mut self) -> pb::Snapshot {
        self.tick += 1;
        if let Some(sequence) = self.waiting.remove(&self.tick) {
            self.consumed = sequence;
        }
        pb::Snapshot {
            epoch: self.epoch,
            tick: self.tick,
            consumed_input: self.consumed,
            received_input: self.received.0,
            received_margin_us: self.received.1,
            slip_us: (self.slip * 1e6) as i64,
            reset: std::mem::take(&mut self.reset),
            ..pb::Snapshot::default()
        }
    }

    fn pong(&self, now: f64, echo: u64) -> pb::Pong {
        let phase_us = ((now - self.due(self.tick)) * 1e6) as u32;
        pb::Pong { echo, tick: self.tick, phase_us, slip_us: (self.slip * 1e6) as i64 }
    }
}

/// An input as it left the client.
#[derive(Clone, Debug)]
struct SentInput {
    at: f64,
    input: pb::Input,
}

struct Match {
    core: Core,
    server: SimServer,
    up: Link<Up>,
    down: Link<Down>,
    now: f64,
    delay: f64,
    jitter: f64,
    rng: Xoshiro256PlusPlus,
    /// While true the client is not called.
    asleep: bool,
    sent: Vec<SentInput>,
    lone_acks: u64,
    /// Inputs that were sent when a snapshot arrived.
    paired: u64,
    others: Vec<Up>,
    events: Vec<Event>,
}

impl Match {
    fn new(delay: f64, jitter: f64, seed: u64) -> Self {
        let (now, tick) = (100.0, 6000);
        let core = Core::new(&JoinOptions::default(), welcome(tick), Duration::from_secs_f64(now)).unwrap();
        let server = SimServer {
            tick,
            frozen: false,
            too_early: 0,
            slip: 0.0,
            epoch: 1,
            reset: true,
            consumed: 0,
            received: (0, 0),
            waiting: BTreeMap::new(),
            late: 0,
            arrived: 0,
        };
        let link = || VecDeque::new();
        Self {
            core,
            server,
            up: Link { messages: link() },
            down: Link { messages: VecDeque::new() },
            now,
            delay,
            jitter,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            asleep: false,
            sent: Vec::new(),
            lone_acks: 0,
            paired: 0,
            others: Vec::new(),
            events: Vec::new(),
        }
    }

    fn way(&mut self) -> f64 {
        self.delay + self.jitter * self.rng.random::<f64>()
    }

    fn run(&mut self, seconds: f64) {
        let end = self.now + seconds;
        while self.now < end {
            self.now += STEP;
            while !self.server.frozen
                && let Some(message) = self.up.receive(self.now)
            {
                self.serve(message);
            }
            while !self.server.frozen && self.now >= self.server.due(self.server.tick + 1) {
                let snapshot = self.server.step();
                let way = self.way();
                self.down.send(self.now, way, Down::Snapshot(snapshot));
            }
            if !self.asleep {
                self.play();
            }
        }
    }

    fn serve(&mut self, message: Up) {
        match message {
            Up::Inputs(inputs) => inputs.inputs.iter().for_each(|input| self.server.input(self.now, input)),
            Up::Ping(ping) => {
                let (pong, way) = (self.server.pong(self.now, ping.echo), self.way());
                self.down.send(self.now, way, Down::Pong(pong));
            }
            Up::Resync(_) => self.server.reset = true,
            Up::Hello(_) | Up::Ack(_) | Up::Leave(_) | Up::WatchControl(_) => {}
        }
    }

    fn play(&mut self) {
        let now = Duration::from_secs_f64(self.now);
        let mut has_arrived = false;
        while let Some(kind) = self.down.receive(self.now) {
            has_arrived |= matches!(kind, Down::Snapshot(_));
            self.core.handle(pb::ServerMessage { kind: Some(kind) }, now).unwrap();
        }
        while let Some(event) = self.core.poll_event(now) {
            self.events.push(event);
        }
        while let Some(message) = self.core.poll_transmit(now) {
            let kind = message.kind.unwrap();
            match &kind {
                Up::Inputs(inputs) => {
                    assert_eq!(inputs.inputs.len(), 1);
                    self.paired += u64::from(has_arrived);
                    self.sent.push(SentInput { at: self.now, input: inputs.inputs[0].clone() });
                }
                Up::Ack(_) => self.lone_acks += 1,
                _ => self.others.push(kind.clone()),
            }
            let way = self.way();
            self.up.send(self.now, way, kind);
        }
        let next = self.core.next_timeout();
        // A lost connection is asked for by the stripe.
        let waits = self.core.is_lost() || next.is_none_or(|next| next > now);
        assert!(waits, "a client that has nothing to do waits");
    }

    /// The server's process stands still, and then catches up with what it takes for five ticks, and slips by the rest.
    fn freeze(&mut self, seconds: f64) {
        const CATCH_UP_TICKS: u64 = 5;
        self.server.frozen = true;
        self.run(seconds);
        self.server.frozen = false;
        for _ in 0..CATCH_UP_TICKS {
            // Ticks that follow each other at once share a snapshot, the next one, which tells of the slip.
            self.server.step();
        }
        self.server.slip += (self.now - self.server.due(self.server.tick + 1)).max(0.0);
        // The loop may wake before what reads: the snapshot then comes before the pongs.
        let (snapshot, way) = (self.server.step(), self.way());
        self.down.send(self.now, way, Down::Snapshot(snapshot));
    }

    /// Late inputs over all that arrive within `seconds`.
    fn late_share(&mut self, seconds: f64) -> f64 {
        let (late, arrived) = (self.server.late, self.server.arrived);
        self.run(seconds);
        (self.server.late - late) as f64 / (self.server.arrived - arrived) as f64
    }
}

fn welcome(tick: u64) -> pb::ServerMessage {
    let parts = SchemaParts {
        game: "test".into(),
        inputs: vec![
            InputField::hold("walk", Quantity::count(-100..=100)),
            InputField::edge("jump", Quantity::count(0..=1)),
        ],
        ..SchemaParts::default()
    };
    let schema = tickwire_wire::schema::to_proto(&Schema::new(parts).unwrap());
    let welcome = pb::Welcome {
        player: 1,
        epoch: 1,
        tick,
        tick_rate: HZ,
        schema: Some(schema),
        hash_interval: 60,
        ..pb::Welcome::default()
    };
    pb::ServerMessage { kind: Some(Down::Welcome(welcome)) }
}

fn jumps(sent: &[SentInput]) -> usize {
    sent.iter().filter(|sent| sent.input.values.get(1) == Some(&1)).count()
}

fn snapshot(tick: u64, reset: bool) -> pb::ServerMessage {
    let snapshot = pb::Snapshot { epoch: 1, tick, reset, ..pb::Snapshot::default() };
    pb::ServerMessage { kind: Some(Down::Snapshot(snapshot)) }
}

fn transmit(core: &mut Core, stripe: usize, now: Duration) -> Vec<Up> {
    std::iter::from_fn(|| core.poll_transmit_on(stripe, now)).map(|message| message.kind.unwrap()).collect()
}
