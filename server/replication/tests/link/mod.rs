//! A world that changes at random, streams of different pace over it, and a checker that knows only frames and mirrors.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use prost::Message as _;
use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng};
use tickwire_proto::v1 as pb;
use tickwire_replication::{InputFeedback, ReplicationConfig, Replicator, View, ViewConfig};
use tickwire_shared::{
    Audience, CellId, CellKey, Emitted, Event, EventField, EventId, EventKind, Field, Frame, FrameBuilder, Game, Kind,
    KindId, NetId, Place, PlayerId, PlayerStatus, Quantity, Roster, RosterRow, Schema, SchemaParts, SeatExtras, Tick,
    TickExtras, TickRate,
};
use tickwire_wire::{Applied, Mirror, MirrorError};

use crate::row::Row;

pub(crate) const PLAYER: PlayerId = PlayerId(1);
const DOT: KindId = KindId(0);
const PROP: KindId = KindId(1);
const RATE: TickRate = TickRate::DEFAULT;
pub(crate) const TICK: Duration = Duration::from_micros(16_667);
/// Cells stand in a row; a view of radius r shows r to each side.
const CELLS: u64 = 7;

/// What decides a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) ticks: u64,
    pub(crate) entities_max: usize,
    pub(crate) snapshot_bytes_max: usize,
    pub(crate) slice_bytes_max: usize,
    pub(crate) history_ticks: usize,
    pub(crate) hash_interval: u32,
    /// In percent per tick: how often the world throws a cell's worth of entities into another cell.
    pub(crate) crossing_percent: u32,
    /// In percent per tick and stream: how often a stream gets to compose.
    pub(crate) pace_percent: [u32; 2],
    /// Bytes per second of the first stream; the second has no limit.
    pub(crate) bytes_per_second: Option<u32>,
    /// How long cells stay in a view that has turned away from them.
    pub(crate) edge_ticks: u64,
    /// In percent per snapshot: how often an acknowledgement is lost, and how often the client asks for a reset.
    pub(crate) ack_loss_percent: u32,
    pub(crate) resync_percent: u32,
}

pub(crate) fn schema() -> Arc<Schema> {
    let metres = Quantity::new("m", 1.0 / 64.0, -1000.0..=1000.0);
    let dot = vec![
        Field::linear("x", metres.clone()).owner_shift(2).rate_shift(3),
        Field::linear("heading", Quantity::count(0..=0)).angle(256, 1.0).owner_shift(1),
        Field::plain("hue", Quantity::count(-5..=5)),
        Field::plain("secret", Quantity::count(0..=1000)).owner_only(),
        Field::ramp("y", metres.clone()).owner_shift(2),
        Field::ramp("course", metres.clone()).angle(256, 1.0).owner_shift(1).rate_shift(2),
    ];
    let prop = vec![Field::plain("state", Quantity::count(0..=1_000_000))];
    let bang = EventKind { name: "bang".into(), fields: vec![EventField::new("size", Quantity::count(-99..=99))] };
    let parts = SchemaParts {
        game: "row".into(),
        kinds: vec![Kind::new("dot", dot), Kind::new("prop", prop)],
        events: vec![bang],
        scores: vec!["kills".into()],
        ..SchemaParts::default()
    };
    Arc::new(Schema::new(parts).expect("valid"))
}

/// One entity of the random world.
struct Body {
    id: NetId,
    kind: KindId,
    cell: u64,
    fine: [i32; 4],
    speed: i32,
    steady: bool,
    /// The rate that it is said to head for, and for how long, in 1/16 of a tick.
    told: Option<(i32, u16)>,
}

/// The random world: frames, and what the checker needs to know of them.
pub(crate) struct RandomWorld {
    rng: ChaCha8Rng,
    pub(crate) plan: Plan,
    builder: FrameBuilder,
    bodies: Vec<Body>,
    last_id: u32,
    own: Option<NetId>,
    roster: Arc<Roster>,
    pub(crate) frames: Vec<Arc<Frame>>,
    pub(crate) died_at: BTreeMap<NetId, Tick>,
}

impl RandomWorld {
    pub(crate) fn new(plan: Plan) -> Self {
        let builder = FrameBuilder::new(&schema(), 0);
        Self {
            rng: ChaCha8Rng::seed_from_u64(plan.seed),
            plan,
            frames: vec![Arc::clone(builder.frame())],
            builder,
            bodies: Vec::new(),
            last_id: 0,
            own: None,
            roster: Arc::default(),
            died_at: BTreeMap::new(),
        }
    }

    pub(crate) fn step(&mut self) -> Arc<Frame> {
        let tick = self.builder.frame().tick.next();
        self.live_and_die(tick);
        self.move_about();
        self.builder.begin(tick);
        for kind in [DOT, PROP] {
            let there = self.bodies.iter().filter(|body| body.kind == kind).map(|body| body.id);
            self.builder.retain(kind, there);
        }
        for body in &self.bodies {
            let mut entity = self.builder.entity(body.kind, body.id);
            if body.kind == PROP {
                entity.set(0, body.fine[0]);
                continue;
            }
            let [x, heading, ..] = body.fine;
            for (field, fine) in body.fine.into_iter().chain([x, heading]).enumerate() {
                entity.set(field, fine);
            }
            // What is told of where it is heading is right for some, and wrong for others.
            if let Some((rate, ramp)) = body.told {
                entity.set_rate(4, rate);
                entity.set_rate(5, rate * 4);
                entity.set_ramp(ramp);
            }
            entity.set_place(Place::Cell(CellKey(body.cell)));
        }
        let extras = TickExtras {
            seats: vec![SeatExtras { player: PLAYER, consumed_input: tick.0, entity: self.own }],
            emitted: self.emit(),
            roster: self.roster(tick),
            hidden: 0,
        };
        let (frame, _) = self.builder.finish(extras);
        self.frames.push(Arc::clone(&frame));
        frame
    }

    fn live_and_die(&mut self, tick: Tick) {
        if self.bodies.len() < self.plan.entities_max {
            for _ in 0..self.rng.random_range(0..4) {
                self.last_id += 1;
                let kind = if self.rng.random_ratio(1, 8) { PROP } else { DOT };
                let body = Body {
                    id: NetId(self.last_id),
                    kind,
                    cell: self.rng.random_range(0..CELLS),
                    fine: [self.rng.random_range(-9999..9999), self.rng.random_range(0..512), 0, 7],
                    speed: self.rng.random_range(-40..40),
                    steady: self.rng.random_bool(0.5),
                    told: None,
                };
                if self.own.is_none() && kind == DOT && self.rng.random_ratio(1, 3) {
                    self.own = Some(body.id);
                }
                self.bodies.push(body);
            }
        }
        let dying: Vec<usize> = (0..self.bodies.len()).filter(|_| self.rng.random_ratio(1, 60)).collect();
        for i in dying.into_iter().rev() {
            let body = self.bodies.swap_remove(i);
            self.died_at.insert(body.id, tick);
            self.own = self.own.filter(|own| *own != body.id);
        }
    }

    fn move_about(&mut self) {
        let rng = &mut self.rng;
        for body in &mut self.bodies {
            if body.kind == PROP {
                if rng.random_ratio(1, 10) {
                    body.fine[0] = rng.random_range(0..1_000_000);
                }
                continue;
            }
            if !body.steady || rng.random_ratio(1, 30) {
                body.speed = rng.random_range(-40..40);
                let ramp = if body.steady { 0 } else { rng.random_range(0..200) };
                body.told = rng.random_bool(0.6).then_some((body.speed, ramp));
            }
            body.fine[0] += body.speed;
            body.fine[1] = (body.fine[1] + body.speed).rem_euclid(512);
            if rng.random_ratio(1, 20) {
                body.fine[2] = rng.random_range(-5..=5);
            }
            if rng.random_ratio(1, 5) {
                body.fine[3] = rng.random_range(0..=1000);
            }
            if rng.random_ratio(1, 25) {
                body.cell = rng.random_range(0..CELLS);
            }
        }
        if rng.random_ratio(self.plan.crossing_percent, 100) {
            let (from, to) = (rng.random_range(0..CELLS), rng.random_range(0..CELLS));
            self.bodies.iter_mut().filter(|body| body.cell == from).for_each(|body| body.cell = to);
        }
    }

    fn emit(&mut self) -> Emitted {
        let mut emitted = Emitted::default();
        for ordinal in 0..self.rng.random_range(0..4) {
            let audience = match self.rng.random_range(0..10) {
                0 => Audience::Player(PLAYER),
                1 => Audience::At(Place::Always),
                _ => Audience::At(Place::Cell(CellKey(self.rng.random_range(0..CELLS)))),
            };
            let event = Event { kind: EventId(0), ordinal, values: vec![self.rng.random_range(-99..=99)] };
            emitted.events.push((audience, event));
        }
        if self.rng.random_ratio(1, 50) {
            let place = Place::Cell(CellKey(self.rng.random_range(0..CELLS)));
            emitted.lost.insert(Audience::At(place), 3);
        }
        emitted
    }

    fn roster(&mut self, tick: Tick) -> Arc<Roster> {
        if self.rng.random_ratio(1, 10) {
            let player = PlayerId(self.rng.random_range(1..40));
            let row = RosterRow {
                player,
                name: format!("player-{player}").into(),
                status: PlayerStatus::Connected,
                scores: vec![self.rng.random_range(0..100)],
                version: tick,
            };
            let rows = &mut Arc::make_mut(&mut self.roster).rows;
            match rows.binary_search_by_key(&player, |row| row.player) {
                Ok(i) => rows[i] = row,
                Err(i) => rows.insert(i, row),
            }
        }
        Arc::clone(&self.roster)
    }
}

/// One stream: the server's view, messages on their way, the client's mirror, and what was seen.
pub(crate) struct Peer {
    radius: f64,
    pub(crate) view: View,
    pub(crate) mirror: Mirror,
    on_the_way: VecDeque<Vec<u8>>,
    acks: VecDeque<Tick>,
    shown_at: BTreeMap<NetId, Tick>,
    gone: BTreeSet<NetId>,
    events: BTreeSet<(Tick, u32)>,
    pub(crate) applied: u64,
    pub(crate) resets: u64,
    pub(crate) caught_up: u64,
    pub(crate) deferred: u64,
    pub(crate) sliced: u64,
}

pub(crate) fn peer_config(radius: f64, bytes_per_second: Option<u32>) -> ViewConfig {
    ViewConfig {
        player: Some(PLAYER),
        view_radius: radius,
        tick_rate: RATE,
        ticks_per_snapshot: 1,
        bytes_per_second,
        in_flight_bytes_max: usize::MAX,
    }
}

impl Peer {
    pub(crate) fn new(radius: f64, bytes_per_second: Option<u32>) -> Self {
        Self {
            radius,
            view: View::new(peer_config(radius, bytes_per_second)),
            mirror: Mirror::new(schema()),
            on_the_way: VecDeque::new(),
            acks: VecDeque::new(),
            shown_at: BTreeMap::new(),
            gone: BTreeSet::new(),
            events: BTreeSet::new(),
            applied: 0,
            resets: 0,
            caught_up: 0,
            deferred: 0,
            sliced: 0,
        }
    }

    /// Composes, if the view may.
    pub(crate) fn send(&mut self, replicator: &Replicator, now: Duration) {
        let feedback = InputFeedback { received_input: 3, received_margin_us: -5, slip_us: 0 };
        let Some(snapshot) = self.view.compose(replicator, feedback, now) else { return };
        assert!(self.view.credit().unacknowledged() <= self.view.credit().window(), "credit was overdrawn");
        let mut bytes = Vec::new();
        snapshot.encode_server_message(&mut bytes);
        assert_eq!(bytes.len(), snapshot.server_message_len());
        assert!(snapshot.encoded_len() <= replicator.config().snapshot_bytes_max, "{} bytes", snapshot.encoded_len());
        self.on_the_way.push_back(bytes);
    }

    /// Takes the oldest message off the wire. It must be an ordinary one.
    pub(crate) fn receive(&mut self) -> Option<pb::Snapshot> {
        let bytes = self.on_the_way.pop_front()?;
        let message = pb::ServerMessage::decode(bytes.as_slice()).expect("the generated types read it");
        match message.kind {
            Some(pb::server_message::Kind::Snapshot(snapshot)) => Some(snapshot),
            other => panic!("not a snapshot: {other:?}"),
        }
    }

    fn acknowledge(&mut self, now: Duration) {
        if let Some(tick) = self.acks.pop_front() {
            self.view.acknowledge(0, tick, now).expect("only what was received is acknowledged");
        }
    }

    /// Applies a snapshot and checks all that the mirror then holds and shows against the frames.
    pub(crate) fn apply_and_check(
        &mut self,
        snapshot: &pb::Snapshot,
        world: &RandomWorld,
    ) -> Result<Applied, MirrorError> {
        let before: BTreeMap<CellId, Tick> =
            self.mirror.cells(0).map(|cell| (cell, self.mirror.cell_tick(0, cell).expect("listed"))).collect();
        let applied = self.mirror.apply(0, snapshot)?;
        self.applied += 1;
        self.resets += u64::from(applied.reset);
        self.deferred += u64::from(!snapshot.deferred_cells.is_empty());
        self.sliced += u64::from(snapshot.cells.iter().any(|update| update.slices > 1));
        let header = &world.frames[snapshot.tick as usize];

        self.check_cells(world);
        self.check_events(&before, &applied, world);
        self.check_shown(header, snapshot, world);
        let own = header.seat(PLAYER).and_then(|seat| seat.owner.as_ref());
        let mirrored = self.mirror.owner();
        let values = mirrored.map(|own| (own.net_id, own.values.as_slice()));
        assert_eq!(values, own.map(|own| (own.net_id, &*own.values)));
        assert_eq!(applied.consumed_input, snapshot.tick, "the header's acknowledgement is the frame's");
        Ok(applied)
    }

    /// Whether the mirror holds every cell that is seen from the own one.
    fn has_entered_all(&self, replicator: &Replicator) -> bool {
        let frame = replicator.newest();
        let Some(own) = frame.seat(PLAYER).and_then(|seat| seat.owner.as_ref()) else { return true };
        let Some(Place::Cell(own)) = frame.table.place(own.cell) else { return true };
        let mut seen = Vec::new();
        Row.cells_in_view(own, self.radius, &mut seen);
        let held: BTreeSet<CellId> = self.mirror.cells(0).collect();
        seen.into_iter().filter_map(|key| frame.table.id(Place::Cell(key))).all(|cell| held.contains(&cell))
    }

    fn check_cells(&self, world: &RandomWorld) {
        for cell in self.mirror.cells(0) {
            let (tick, state) = self.mirror.cell_state(0, cell).expect("listed");
            let frame = &world.frames[tick.0 as usize];
            assert_eq!(&state, frame.cell(cell).expect("in the frame").state.as_ref(), "cell {cell} at tick {tick}");
        }
    }

    fn check_events(&mut self, before: &BTreeMap<CellId, Tick>, applied: &Applied, world: &RandomWorld) {
        for event in &applied.events {
            let key = (event.received.tick, event.received.event.ordinal);
            assert!(self.events.insert(key), "event {key:?} was seen twice");
        }
        if applied.events_lost > 0 {
            return;
        }
        for cell in self.mirror.cells(0) {
            let tick = self.mirror.cell_tick(0, cell).expect("listed");
            let held = before.get(&cell).filter(|_| !applied.reset);
            for due in held.map_or(tick.0, |held| held.0 + 1)..=tick.0 {
                let events = world.frames[due as usize].cell(cell).and_then(|cell| cell.events.as_ref());
                for event in events.into_iter().flat_map(|events| events.iter()) {
                    let key = (Tick(due), event.ordinal);
                    assert!(self.events.contains(&key), "event {key:?} of cell {cell} was not seen, nor its loss told");
                }
            }
        }
    }

    fn check_shown(&mut self, header: &Frame, snapshot: &pb::Snapshot, world: &RandomWorld) {
        let mut shown: BTreeMap<NetId, Tick> = BTreeMap::new();
        for entity in self.mirror.shown() {
            let (id, tick) = (entity.net_id(), entity.tick());
            assert!(shown.insert(id, tick).is_none(), "entity {id} is shown twice");
            let before = self.shown_at.get(&id).copied().unwrap_or_default();
            assert!(tick >= before, "entity {id} went back from tick {before} to {tick}");
            assert!(!self.gone.contains(&id), "entity {id} was resurrected");
            assert!(world.died_at.get(&id).is_none_or(|died| tick < *died), "entity {id} is shown after its death");
        }
        for cell in self.mirror.cells(0) {
            let (tick, state) = self.mirror.cell_state(0, cell).expect("listed");
            for id in state.kinds.iter().flat_map(|columns| &columns.ids) {
                // Who left for this cell later than it stands is shown as a ghost, until it has caught up.
                let is_ghost = self.mirror.get(*id).is_some_and(|shown| shown.is_ghost());
                let newest = is_ghost || shown.get(id).is_none_or(|shown| *shown >= tick);
                assert!(newest, "entity {id} is shown as of {:?}, but stands in cell {cell} at {tick}", shown.get(id));
                let is_shown = tick < header.tick || shown.contains_key(id);
                assert!(is_shown, "entity {id} stands in cell {cell} at the newest tick, and is not shown");
            }
        }
        // Only where it has heard of the death: after a reset, or in a cell that enters anew in slices, a stream may well be
        // shown once more who has died since.
        let heard_of = |id: &NetId, died: &Tick| {
            let last = world.frames[died.0 as usize - 1].places.get(*id);
            let held = last.and_then(|(_, cell)| self.mirror.cell_state(0, cell));
            held.is_some_and(|(tick, _)| tick >= *died)
        };
        for (id, died) in &world.died_at {
            if heard_of(id, died) && self.shown_at.contains_key(id) && !shown.contains_key(id) {
                self.gone.insert(*id);
            }
        }
        self.shown_at.extend(shown.iter().map(|(id, tick)| (*id, *tick)));

        let cells: Vec<CellId> = self.mirror.cells(0).collect();
        let stands = |cell: &CellId| self.mirror.cell_tick(0, *cell) == Some(header.tick);
        if snapshot.deferred_cells.is_empty() && cells.iter().all(stands) {
            self.caught_up += 1;
            let ids = |cell: &CellId| -> Vec<NetId> {
                let state = &header.cell(*cell).expect("in the frame").state;
                state.kinds.iter().flat_map(|columns| columns.ids.clone()).collect()
            };
            let expected: BTreeSet<NetId> = cells.iter().flat_map(ids).collect();
            assert_eq!(shown.keys().copied().collect::<BTreeSet<_>>(), expected, "at tick {}", header.tick);
        }
    }
}

impl Plan {
    /// What sends a world's frames within the plan's limits.
    pub(crate) fn replicator(&self, world: &RandomWorld) -> Replicator {
        let config = ReplicationConfig {
            history_ticks: self.history_ticks,
            hash_interval: self.hash_interval,
            snapshot_bytes_max: self.snapshot_bytes_max,
            slice_bytes_max: self.slice_bytes_max,
            roster_rows_per_snapshot: 3,
            edge_ticks: self.edge_ticks,
            ..ReplicationConfig::new(RATE)
        };
        Replicator::new(Arc::new(Row), &schema(), config, Arc::clone(&world.frames[0]))
    }
}

/// Plays a plan through, with all checks; what the peers saw.
pub(crate) fn play(plan: Plan) -> [Peer; 2] {
    let mut world = RandomWorld::new(plan);
    let replicator = plan.replicator(&world);
    let mut peers = [Peer::new(3.0, plan.bytes_per_second), Peer::new(1.0, None)];
    let mut rng = ChaCha8Rng::seed_from_u64(!plan.seed);
    for tick in 1..=plan.ticks {
        replicator.publish(world.step());
        let now = TICK * tick as u32;
        for (peer, pace) in peers.iter_mut().zip(plan.pace_percent) {
            if rng.random_ratio(pace, 100) {
                peer.send(&replicator, now);
            }
            while rng.random_ratio(pace, 100)
                && let Some(snapshot) = peer.receive()
            {
                peer.apply_and_check(&snapshot, &world).expect("an honest snapshot applies");
                if !rng.random_ratio(plan.ack_loss_percent, 100) {
                    peer.acks.push_back(Tick(snapshot.tick));
                }
                if rng.random_ratio(plan.resync_percent, 100) {
                    peer.view.resync();
                }
            }
            if rng.random_ratio(1, 2) {
                peer.acknowledge(now);
            }
        }
    }
    finish(&mut world, &replicator, &mut peers, plan.ticks);
    peers
}

/// Lets a quiet world be sent to the end: every peer must catch up and hold the newest frame.
fn finish(world: &mut RandomWorld, replicator: &Replicator, peers: &mut [Peer; 2], ticks: u64) {
    for peer in peers.iter_mut() {
        let before = peer.caught_up;
        for tick in ticks + 1..ticks + 2000 {
            let now = TICK * tick as u32;
            replicator.publish(world.step());
            peer.send(replicator, now);
            while let Some(snapshot) = peer.receive() {
                peer.apply_and_check(&snapshot, world).expect("an honest snapshot applies");
            }
            // Whatever was lost before: a client names the newest tick again and again.
            peer.acks = VecDeque::from([peer.mirror.tick()]);
            peer.acknowledge(now);
            if peer.caught_up > before && peer.has_entered_all(replicator) {
                break;
            }
            world.calm();
        }
        assert!(peer.has_entered_all(replicator), "every cell that is seen enters");
        assert!(peer.caught_up > before, "a peer that is served each tick of a calm world catches up");
    }
}

impl RandomWorld {
    /// From now on less and less happens, so that a small budget suffices.
    pub(crate) fn calm(&mut self) {
        let keep = self.bodies.len().saturating_sub(1).max(3);
        let tick = self.builder.frame().tick.next();
        for body in self.bodies.drain(keep.min(self.bodies.len())..) {
            self.died_at.insert(body.id, tick);
            self.own = self.own.filter(|own| *own != body.id);
        }
        self.plan.entities_max = 0;
    }
}

/// A replicator over a world, its newest frame published, and a peer that has received nothing.
pub(crate) fn quiet_pair(plan: Plan) -> (RandomWorld, Replicator, Peer) {
    let world = RandomWorld::new(plan);
    let config = ReplicationConfig { hash_interval: plan.hash_interval, ..ReplicationConfig::new(RATE) };
    let replicator = Replicator::new(Arc::new(Row), &schema(), config, Arc::clone(&world.frames[0]));
    (world, replicator, Peer::new(9.0, None))
}
