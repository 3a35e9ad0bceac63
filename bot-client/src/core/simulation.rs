//! The core against a simulated server over a simulated, ordered link, in simulated time.

mod resume;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use proptest::prelude::*;
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

#[test]
fn at_50_ms_with_10_ms_of_jitter_one_input_in_a_thousand_may_be_late() {
    let mut game = Match::new(0.040, 0.020, 1);
    game.run(3.0);
    assert!(game.late_share(30.0) <= 0.001);
}

#[test]
fn after_a_step_from_30_to_120_ms_less_than_one_percent_is_late_within_two_seconds() {
    let mut game = Match::new(0.015, 0.002, 2);
    game.run(4.0);
    game.delay = 0.060;
    game.run(2.0);
    assert!(game.late_share(4.0) < 0.01);
}

#[test]
fn inputs_arrive_about_two_ticks_before_they_are_due() {
    for delay in [0.001, 0.020, 0.200] {
        let mut game = Match::new(delay, 0.0, 3);
        game.run(6.0);
        let margin_ticks = f64::from(game.server.received.1) * 1e-6 * f64::from(HZ);
        assert!((1.4..2.7).contains(&margin_ticks), "{delay}: {margin_ticks}");
    }
}

#[test]
fn the_estimated_tick_is_the_servers() {
    let mut game = Match::new(0.030, 0.005, 4);
    game.run(3.0);
    let estimated = game.core.clock().tick(Duration::from_secs_f64(game.now)).unwrap();
    assert!(estimated.0.abs_diff(game.server.tick) <= 1);
    assert!((0.060..0.070).contains(&game.core.clock().min_rtt().unwrap().as_secs_f64()));
}

#[test]
fn a_client_that_slept_sends_one_input_and_not_those_that_it_missed() {
    let mut game = Match::new(0.020, 0.0, 5);
    game.run(3.0);
    game.core.set_input(&[7, 1]).unwrap();
    game.asleep = true;
    game.run(0.5);
    game.asleep = false;
    let before = game.sent.len();
    game.run(0.001);
    assert_eq!(game.sent.len() - before, 1);
    let (last, next) = (&game.sent[before - 1].input, &game.sent[before].input);
    assert_eq!(next.sequence, last.sequence + 1);
    assert!(next.target_tick > last.target_tick + 20);
    assert_eq!(next.values, [7, 1]);
}

#[test]
fn a_clock_that_steps_back_waits_for_a_new_tick_and_carries_edges_over() {
    let mut game = Match::new(0.400, 0.0, 6);
    game.run(4.0);
    let lead = game.sent.last().unwrap().input.target_tick - game.server.tick;
    game.delay = 0.010;
    // Until the last long way is out of the window and the clock has jumped.
    let mut quiet = 0;
    for _ in 0..400 {
        let before = game.sent.len();
        game.run(0.01);
        if game.sent.len() == before {
            quiet += 1;
            if quiet == 5 {
                game.core.set_input(&[0, 1]).unwrap();
                game.core.set_input(&[0, 0]).unwrap();
            }
        } else {
            quiet = 0;
        }
    }
    assert!(game.sent.last().unwrap().input.target_tick - game.server.tick + 15 < lead);
    assert_eq!(jumps(&game.sent), 1);
    assert!(game.sent.is_sorted_by_key(|sent| sent.input.target_tick));
}

#[test]
fn a_server_that_slipped_is_followed_without_late_inputs() {
    let mut game = Match::new(0.020, 0.002, 7);
    game.run(4.0);
    game.server.slip += 1.0;
    game.run(3.0);
    assert_eq!(game.late_share(3.0), 0.0);
    assert!(f64::from(game.server.received.1) * 1e-6 < 0.100);
}

#[test]
fn a_server_that_stood_still_was_a_stall_for_as_long() {
    let mut game = Match::new(0.010, 0.0, 15);
    game.run(8.0);
    game.freeze(4.0);
    game.run(2.0);
    game.core.sample_age(Duration::from_secs_f64(game.now));
    let stats = game.core.stats();
    assert!((3_900..4_600).contains(&stats.stalled_ms), "{}", stats.stalled_ms);
    assert!(stats.snapshot_age_us.max() > 3_900_000, "{}", stats.snapshot_age_us.max());
    assert!(stats.snapshot_age_us.value_at_quantile(0.5) < 40_000);
}

#[test]
fn after_a_server_stood_still_control_is_back_within_about_a_second() {
    for (seed, delay) in [(16, 0.001), (17, 0.020), (18, 0.150)] {
        let mut game = Match::new(delay, 0.002, seed);
        game.run(5.0);
        game.freeze(2.0);
        game.run(3.0);
        let room = ((2.0 * delay + 0.004) * f64::from(HZ)).ceil() as u64;
        let reached = game.server.tick;
        // Edges are kept for the first input that is sent again.
        game.server.frozen = true;
        game.run(3.5);
        let newest = game.sent.last().unwrap().input.target_tick;
        assert!(newest <= reached + u64::from(HZ) + room + 1, "{delay}: {newest} at {reached}");
        let jumped = jumps(&game.sent);
        game.core.set_input(&[7, 1]).unwrap();
        game.core.set_input(&[7, 0]).unwrap();
        game.freeze(0.5);
        game.run(1.0 + 4.0 * delay + 0.1);
        assert_eq!(jumps(&game.sent), jumped + 1, "{delay}");
        let consumed = game.server.consumed;
        game.run(1.0);
        assert!(game.server.consumed >= consumed + 57, "{delay}: {}", game.server.consumed - consumed);
        assert!(f64::from(game.server.received.1) * 1e-6 < 0.100, "{delay}: {:?}", game.server.received);
        assert!(game.server.too_early <= 2 * room + 2, "{delay}: {}", game.server.too_early);
    }
}

#[test]
fn a_downlink_that_stalls_for_a_while_holds_no_input_back() {
    for delay in [0.005, 0.150] {
        let mut game = Match::new(delay, 0.002, 19);
        game.run(5.0);
        let sent = game.sent.len();
        // What comes after waits as long: the link keeps its order.
        game.down.messages.back_mut().unwrap().0 += 0.7;
        game.run(0.7);
        assert!((41..=43).contains(&(game.sent.len() - sent)), "{delay}: {}", game.sent.len() - sent);
        game.run(2.0);
        assert_eq!((game.late_share(2.0), game.server.too_early), (0.0, 0));
    }
}

#[test]
fn inputs_take_acknowledgements_along_and_only_a_client_without_any_sends_them_alone() {
    let mut game = Match::new(0.020, 0.002, 8);
    game.run(3.0);
    let (acks, snapshots) = (game.lone_acks, game.core.stats().snapshots);
    game.run(3.0);
    assert!(game.core.stats().snapshots - snapshots >= 175);
    assert_eq!(game.lone_acks, acks);

    let mut silent = Match::new(0.020, 0.002, 8);
    silent.core.lanes.get(0).unwrap().pings.next_at = Duration::MAX;
    silent.run(1.0);
    assert_eq!((silent.sent.len(), silent.lone_acks), (0, silent.core.stats().snapshots));
}

#[test]
fn inputs_are_sent_with_the_snapshots_that_arrive_near_their_time() {
    for (seed, delay) in [(10, 0.001), (11, 0.021), (12, 0.0375), (13, 0.2)] {
        let mut game = Match::new(delay, 0.002, seed);
        game.run(5.0);
        let (sent, paired) = (game.sent.len(), game.paired);
        game.run(5.0);
        let (sent, paired) = (game.sent.len() - sent, game.paired - paired);
        assert!((295..=305).contains(&sent) && paired * 10 >= 9 * sent as u64, "{delay}: {paired} of {sent}");
        assert_eq!(game.late_share(1.0), 0.0);
    }
}

#[test]
fn the_age_is_the_way_down_and_what_passes_between_two_ticks() {
    let mut game = Match::new(0.030, 0.0, 9);
    game.run(10.0);
    let now = Duration::from_secs_f64(game.now);
    game.core.sample_age(now);
    let ages = &game.core.stats().snapshot_age_us;
    assert!((9_500..=10_000).contains(&ages.len()), "{}", ages.len());
    let ms = |quantile| ages.value_at_quantile(quantile) as f64 / 1000.0;
    assert!((ms(0.5) - 38.3).abs() < 1.0, "{}", ms(0.5));
    assert!((ms(0.99) - 46.5).abs() < 1.0, "{}", ms(0.99));
    assert_eq!(game.core.stats().stalled_ms, 0);
}

#[test]
fn an_input_is_acknowledged_by_the_first_snapshot_that_consumed_it() {
    let mut game = Match::new(0.030, 0.0, 10);
    game.run(10.0);
    let stats = game.core.stats();
    assert!(stats.input_to_ack_us.len() >= stats.inputs_sent - 10);
    // Up, two ticks of margin and a part of one, down.
    let ms = stats.input_to_ack_us.value_at_quantile(0.5) as f64 / 1000.0;
    assert!((80.0..120.0).contains(&ms), "{ms}");
    assert_eq!(stats.inputs_late, game.server.late);
}

#[test]
fn a_snapshot_that_does_not_fit_is_answered_with_one_resync_and_healed_by_a_reset() {
    let mut game = Match::new(0.020, 0.0, 11);
    game.run(1.0);
    // A cell's change against a base that nobody holds.
    let tick = game.server.tick + 1;
    let cells = vec![pb::CellUpdate { cell: 5, ..pb::CellUpdate::default() }];
    let bad = pb::Snapshot { cells, ..game.server.step() };
    game.down.send(game.now, 0.020, Down::Snapshot(bad));
    game.run(1.0);
    let resyncs = game.others.iter().filter(|kind| matches!(kind, Up::Resync(_))).count();
    let desyncs = game.events.iter().filter(|event| matches!(event, Event::Desync(_))).count();
    let stats = game.core.stats();
    assert_eq!((resyncs, desyncs, stats.resyncs, stats.hash_mismatches), (1, 1, 1, 0));
    assert!(stats.snapshots_ignored >= 1 && stats.snapshots_ignored <= 4);
    assert!(game.core.mirror().tick() > Tick(tick + 50));
}

#[test]
fn a_paused_session_freezes_the_clocks() {
    let mut game = Match::new(0.020, 0.0, 12);
    game.run(3.0);
    let notice = |kind: pb::NoticeKind| Down::Notice(pb::Notice { kind: kind.into(), ..pb::Notice::default() });
    game.down.send(game.now, 0.020, notice(pb::NoticeKind::Paused));
    game.run(0.05);
    let sent = game.sent.len();
    game.run(2.0);
    assert_eq!(game.sent.len(), sent);
    game.down.send(game.now, 0.020, notice(pb::NoticeKind::Resumed));
    game.run(1.0);
    assert!(game.sent.len() >= sent + 50);
    assert!(game.events.contains(&Event::Paused) && game.events.contains(&Event::Resumed));
}

#[test]
fn a_new_epoch_starts_ticks_and_clocks_anew() {
    let mut game = Match::new(0.020, 0.0, 13);
    game.run(3.0);
    let last = game.sent.last().unwrap().input.clone();
    game.server.epoch = 2;
    game.server.reset = true;
    game.server.tick -= 300;
    game.server.slip += 5.0;
    game.server.waiting.clear();
    game.run(2.0);
    let now = &game.sent.last().unwrap().input;
    assert!(now.target_tick < last.target_tick && now.sequence > last.sequence + 60);
    assert_eq!(game.core.mirror().epoch(), 2);
}

#[test]
fn leaving_is_the_last_word() {
    let mut game = Match::new(0.020, 0.0, 14);
    game.run(1.0);
    game.core.leave();
    let now = Duration::from_secs_f64(game.now);
    assert!(matches!(game.core.poll_transmit(now).unwrap().kind, Some(Up::Leave(_))));
    assert_eq!((game.core.poll_transmit(now), game.core.next_timeout()), (None, None));
}

#[test]
fn a_welcome_that_cannot_be_played_by_is_refused() {
    let join = |change: fn(&mut pb::Welcome)| {
        let mut first = welcome(1);
        let Some(Down::Welcome(welcome)) = &mut first.kind else { unreachable!() };
        change(welcome);
        Core::new(&JoinOptions::default(), first, Duration::ZERO).map(drop)
    };
    assert_eq!(join(|_| {}), Ok(()));
    assert_eq!(join(|welcome| welcome.player = 0), Err(ProtocolError::Player));
    assert!(matches!(join(|welcome| welcome.tick_rate = 241), Err(ProtocolError::TickRate(_))));
    assert!(matches!(join(|welcome| welcome.tick = 1 << 60), Err(ProtocolError::Tick { field: "welcome.tick", .. })));
    assert_eq!(join(|welcome| welcome.schema = None), Err(ProtocolError::NoSchema));
    assert!(matches!(join(|welcome| welcome.schema = Some(pb::Schema::default())), Err(ProtocolError::Schema(_))));
    let pong = pb::ServerMessage { kind: Some(Down::Pong(pb::Pong::default())) };
    assert_eq!(Core::new(&JoinOptions::default(), pong, Duration::ZERO).map(drop), Err(ProtocolError::NotWelcome));
    let options = JoinOptions { schema_hash: Some(tickwire_shared::SchemaHash([7; 32])), ..JoinOptions::default() };
    let refused = Core::new(&options, welcome(1), Duration::ZERO).map(drop);
    assert!(matches!(refused, Err(ProtocolError::SchemaHash { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn target_ticks_rise_and_inputs_never_come_in_bursts(
        delay in 0.0..0.2_f64, jitter in 0.0..0.05_f64, seed in any::<u64>(),
        steps in proptest::collection::vec((0.0..0.5_f64, 0.0..0.4_f64, any::<bool>(), 0.0..0.3_f64), 1..6)
    ) {
        let mut game = Match::new(delay, jitter, seed);
        game.run(1.0);
        for (seconds, delay, asleep, slip) in steps {
            game.delay = delay;
            game.asleep = asleep;
            game.server.slip += slip;
            game.core.set_input(&[1, 1]).unwrap();
            game.run(seconds);
            game.asleep = false;
            game.run(0.3);
        }
        for pair in game.sent.windows(2) {
            prop_assert!(pair[0].input.target_tick < pair[1].input.target_tick);
            prop_assert_eq!(pair[0].input.sequence + 1, pair[1].input.sequence);
        }
        // At 10 % more speed ten inputs span eight ticks; a sleep's or a jump's first one may come in between.
        for ten in game.sent.windows(10) {
            prop_assert!(ten[9].at - ten[0].at >= 6.0 / f64::from(HZ), "{:?}", ten);
        }
    }

    #[test]
    fn no_message_of_a_server_can_break_the_core(
        messages in proptest::collection::vec(hostile(), 1..40), gaps in proptest::collection::vec(0.0..2.0_f64, 40)
    ) {
        let mut core = Core::new(&JoinOptions::default(), welcome(6000), Duration::from_secs(1)).unwrap();
        let mut now = Duration::from_secs(1);
        for (kind, gap) in messages.into_iter().zip(gaps) {
            now += Duration::from_secs_f64(gap);
            // Errors end the stream in earnest; here it goes on.
            let _ = core.handle(pb::ServerMessage { kind: Some(kind) }, now);
            while core.poll_event(now).is_some() {}
            core.view(now);
            let mut sent = 0;
            while let Some(message) = core.poll_transmit(now) {
                sent += 1;
                prop_assert!(sent < 8);
                if let Some(Up::Inputs(inputs)) = message.kind {
                    prop_assert!(inputs.inputs[0].target_tick >= 1 && inputs.inputs[0].target_tick <= 1 << 53);
                }
            }
        }
    }
}

fn hostile() -> impl Strategy<Value = Down> {
    let number = || prop_oneof![Just(0), Just(u64::MAX), Just(1 << 53), 5000..7000_u64, any::<u64>()];
    prop_oneof![
        (any::<u8>(), number(), number(), number(), any::<i32>(), any::<i64>(), any::<bool>()).prop_map(
            |(epoch, tick, consumed_input, received_input, received_margin_us, slip_us, reset)| {
                Down::Snapshot(pb::Snapshot {
                    epoch: u32::from(epoch % 3),
                    tick,
                    consumed_input,
                    received_input,
                    received_margin_us,
                    slip_us,
                    reset,
                    ..pb::Snapshot::default()
                })
            }
        ),
        (1..20_u64, number(), any::<u32>(), any::<i64>())
            .prop_map(|(echo, tick, phase_us, slip_us)| Down::Pong(pb::Pong { echo, tick, phase_us, slip_us })),
        (any::<i32>(), any::<u32>()).prop_map(|(kind, deadline_ms)| Down::Notice(pb::Notice {
            kind: kind % 5,
            deadline_ms,
            text: String::new()
        })),
        any::<i32>().prop_map(|reason| Down::Goodbye(pb::Goodbye {
            reason,
            text: String::new(),
            ..pb::Goodbye::default()
        })),
    ]
}

/// A client with two streams open.
fn striped() -> (Core, Duration) {
    let now = Duration::from_secs(1);
    let mut first = welcome(6000);
    if let Some(Down::Welcome(welcome)) = &mut first.kind {
        (welcome.max_stripes, welcome.attach_token) = (2, vec![9; 32]);
    }
    let options = JoinOptions { stripes: Stripes::Fixed(4), ..JoinOptions::default() };
    let mut core = Core::new(&options, first, now).unwrap();
    assert_eq!(core.poll_stripe(now), Some(StripeChange::Open(1)));
    assert!(matches!(core.attach_hello().kind, Some(Up::Hello(hello)) if hello.attach_token == [9; 32]));
    let other = pb::Welcome { player: 2, ..pb::Welcome::default() };
    let other = pb::ServerMessage { kind: Some(Down::Welcome(other)) };
    assert_eq!(core.stripe_opened(1, &other, now), Err(ProtocolError::Player));
    core.stripe_opened(1, &welcome(6000), now).unwrap();
    (core, now)
}

fn snapshot(tick: u64, reset: bool) -> pb::ServerMessage {
    let snapshot = pb::Snapshot { epoch: 1, tick, reset, ..pb::Snapshot::default() };
    pb::ServerMessage { kind: Some(Down::Snapshot(snapshot)) }
}

fn transmit(core: &mut Core, stripe: usize, now: Duration) -> Vec<Up> {
    std::iter::from_fn(|| core.poll_transmit_on(stripe, now)).map(|message| message.kind.unwrap()).collect()
}

#[test]
fn each_stream_acknowledges_what_came_on_it_and_asks_for_its_own_reset() {
    let (mut core, now) = striped();
    for stripe in 0..2 {
        assert!(matches!(transmit(&mut core, stripe, now)[..], [Up::Ping(_)]));
    }
    core.handle_on(0, snapshot(6002, true), now).unwrap();
    core.handle_on(1, snapshot(6001, true), now).unwrap();
    let ack = |tick| vec![Up::Ack(pb::Ack { epoch: 1, newest_tick: tick })];
    assert_eq!(transmit(&mut core, 0, now), ack(6002));
    assert_eq!(transmit(&mut core, 1, now), ack(6001));
    assert_eq!(core.mirror().tick(), Tick(6002));

    // A tick that does not rise on its stream breaks that one alone.
    core.handle_on(1, snapshot(6001, false), now).unwrap();
    core.handle_on(0, snapshot(6003, false), now).unwrap();
    assert_eq!(transmit(&mut core, 0, now), ack(6003));
    assert!(matches!(transmit(&mut core, 1, now)[..], [Up::Resync(_), Up::Ack(_)]));
    assert_eq!(core.stats().resyncs, 1);
}

#[test]
fn what_all_streams_say_is_told_once_and_one_that_was_to_close_says_nothing() {
    let (mut core, now) = striped();
    let say = |core: &mut Core, stripe, kind| core.handle_on(stripe, pb::ServerMessage { kind: Some(kind) }, now);
    let notice = || {
        let kind = pb::NoticeKind::Draining.into();
        Down::Notice(pb::Notice { kind, deadline_ms: 5, text: String::new() })
    };
    let goodbye = |reason: pb::GoodbyeReason| {
        Down::Goodbye(pb::Goodbye { reason: reason.into(), text: String::new(), ..pb::Goodbye::default() })
    };
    for stripe in 0..2 {
        say(&mut core, stripe, notice()).unwrap();
    }
    say(&mut core, 1, goodbye(pb::GoodbyeReason::StripeClosed)).unwrap();
    core.stripe_closed(1, now);
    for stripe in 0..2 {
        say(&mut core, stripe, goodbye(pb::GoodbyeReason::Shutdown)).unwrap();
    }
    let events: Vec<Event> = std::iter::from_fn(|| core.poll_event(now)).collect();
    assert!(matches!(events[..], [Event::Draining(_), Event::Goodbye { .. }]), "{events:?}");
    assert_eq!((core.poll_stripe(now + Duration::from_secs(60)), core.stripes_open()), (None, 1));
}

#[test]
fn leaving_is_said_on_one_stream() {
    let (mut core, now) = striped();
    core.leave();
    assert_eq!(transmit(&mut core, 1, now), [Up::Leave(pb::Leave {})]);
    assert_eq!(transmit(&mut core, 0, now), []);
}
