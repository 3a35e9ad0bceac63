//! Several streams of one player over links that stall, are lost and come again: one mirror, and nothing shown is wrong.

#[expect(dead_code, reason = "single streams are checked elsewhere")]
mod link;
mod row;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use link::{PLAYER, Plan, RandomWorld, TICK, peer_config, schema};
use proptest::prelude::*;
use prost::Message as _;
use rand::{SeedableRng as _, rngs::ChaCha8Rng};
use tickwire_proto::v1 as pb;
use tickwire_replication::{InputFeedback, Replicator, STRIPES_MAX, Snapshot, Turns, TurnsConfig, View};
use tickwire_shared::{CellId, Frame, NetId, PlayerId, Tick, TickRate};
use tickwire_wire::Mirror;

const RADIUS: f64 = 3.0;

/// How streams come, stall and go.
#[derive(Clone, Copy, Debug)]
struct Weather {
    stripes: usize,
    copies: u32,
    /// In percent per tick and stream: how often a stall begins, and how often a stream is lost.
    stall_percent: u32,
    loss_percent: u32,
    /// In percent of the snapshots that are no reset: how often one comes with a cell that is not what its hash says.
    damage_percent: u32,
    stall_ticks_max: u64,
    delay_ticks_max: u64,
}

/// One stream, from the server's view to the client's end of the link.
struct Stream {
    number: usize,
    view: View,
    on_the_way: VecDeque<(u64, Vec<u8>)>,
    delay: u64,
    stalled_until: u64,
    acks: VecDeque<(u64, Tick)>,
    last: u64,
    /// What was known when its first snapshot came: news from before that are not told again.
    known: Tick,
    applied: u64,
    /// It has acknowledged anything.
    is_proven: bool,
    /// A snapshot did not fit: none is taken before a reset.
    is_broken: bool,
}

/// A player and all that was seen.
struct Player {
    turns: Turns,
    streams: [Option<Stream>; STRIPES_MAX],
    mirror: Mirror,
    sent_at: BTreeMap<Tick, u32>,
    shown_at: BTreeMap<NetId, Tick>,
    events: BTreeSet<(Tick, u32)>,
    roster: BTreeMap<PlayerId, Tick>,
    owner_tick: Tick,
    opened: u64,
    lost: u64,
    lagged: u64,
    caught_up: u64,
    hashes: u64,
    damaged: u64,
    /// The newest tick of which a snapshot was damaged: what stands in it before the damage counts.
    damaged_at: Tick,
    damage_percent: u32,
    rng: ChaCha8Rng,
}

impl Stream {
    fn open(turns: &mut Turns, delay: u64) -> Self {
        Self {
            number: turns.open(STRIPES_MAX).expect("one is free"),
            view: View::new(peer_config(RADIUS, None)),
            on_the_way: VecDeque::new(),
            delay,
            stalled_until: 0,
            acks: VecDeque::new(),
            last: 0,
            known: Tick::ZERO,
            applied: 0,
            is_proven: false,
            is_broken: false,
        }
    }
}

impl Player {
    fn new(weather: Weather, bytes_per_second: Option<u32>, seed: u64) -> Self {
        let config = TurnsConfig {
            tick_rate: TickRate::DEFAULT,
            ticks_per_snapshot: 1,
            copies: weather.copies,
            bytes_per_second,
        };
        Self {
            turns: Turns::new(config),
            streams: [const { None }; STRIPES_MAX],
            mirror: Mirror::new(schema()),
            sent_at: BTreeMap::new(),
            shown_at: BTreeMap::new(),
            events: BTreeSet::new(),
            roster: BTreeMap::new(),
            owner_tick: Tick::ZERO,
            opened: 0,
            lost: 0,
            lagged: 0,
            caught_up: 0,
            hashes: 0,
            damaged: 0,
            damaged_at: Tick::ZERO,
            damage_percent: weather.damage_percent,
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    fn open_one(&mut self, delay: u64) {
        if let Some(place) = self.streams.iter().position(Option::is_none) {
            self.streams[place] = Some(Stream::open(&mut self.turns, delay));
            self.opened += 1;
        }
    }

    fn lose(&mut self, place: usize) {
        let stream = self.streams[place].take().expect("it is open");
        self.turns.close(stream.number);
        self.mirror.close_stripe(place);
        self.lost += 1;
    }

    /// Everybody composes who may, as a server's streams do that are woken at each tick.
    fn compose(&mut self, replicator: &Replicator, tick: u64, copies: u32) {
        let now = TICK * tick as u32;
        let mut snapshot = Snapshot::default();
        for stream in self.streams.iter_mut().flatten() {
            let is_beside = !stream.is_proven && self.turns.count() > 1;
            let feedback = InputFeedback::default();
            let (view, number) = (&mut stream.view, stream.number);
            let is_sent = view.compose_in_turn(&mut self.turns, number, replicator, feedback, now, &mut snapshot);
            if !is_sent {
                continue;
            }
            let mut bytes = Vec::new();
            snapshot.encode(&mut bytes);
            stream.on_the_way.push_back((tick + stream.delay, bytes));
            if !is_beside {
                *self.sent_at.entry(snapshot.tick).or_default() += 1;
            }
        }
        let sent = self.sent_at.get(&Tick(tick)).copied().unwrap_or_default();
        assert!(sent <= copies, "tick {tick} was sent {sent} times");
    }

    /// Delivers what arrives at `tick`, and acknowledges it.
    fn deliver(&mut self, world: &RandomWorld, tick: u64) {
        let now = TICK * tick as u32;
        for place in 0..STRIPES_MAX {
            while let Some(stream) = self.streams[place].as_mut().filter(|stream| stream.stalled_until <= tick)
                && let Some((_, bytes)) = stream.on_the_way.pop_front_if(|(at, _)| *at <= tick)
            {
                stream.applied += 1;
                let delay = stream.delay;
                let mut snapshot = pb::Snapshot::decode(bytes.as_slice()).expect("the generated types read it");
                stream.acks.push_back((tick + delay, Tick(snapshot.tick)));
                // Who was not served for longer than there is history has no base.
                let gap = snapshot.tick - std::mem::replace(&mut stream.last, snapshot.tick);
                let is_first = gap == snapshot.tick;
                if std::mem::replace(&mut stream.is_broken, false) {
                    stream.is_broken = !snapshot.reset;
                } else {
                    assert_eq!(snapshot.reset, is_first || gap >= world.plan.history_ticks as u64);
                }
                if is_first {
                    stream.known = self.mirror.tick();
                }
                if stream.is_broken {
                    let applied = self.mirror.apply(place, &snapshot).expect("it waits for a reset");
                    assert!(applied.ignored);
                } else if !snapshot.reset && self.rng.random_ratio(self.damage_percent, 100) && damage(&mut snapshot) {
                    // Whoever finds that tells the server at once.
                    stream.view.resync();
                    stream.is_broken = true;
                    self.damaged += 1;
                    self.damaged_at = self.damaged_at.max(Tick(snapshot.tick));
                    self.owner_tick = self.owner_tick.max(Tick(snapshot.tick));
                    self.mirror.apply(place, &snapshot).expect_err("a hash is wrong");
                    self.check_times(world);
                } else {
                    let known = stream.known;
                    self.apply_and_check(place, &snapshot, known, world);
                }
            }
            let Some(stream) = &mut self.streams[place] else { continue };
            while let Some((_, newest)) = stream.acks.pop_front_if(|(at, _)| *at <= tick) {
                let (view, number) = (&mut stream.view, stream.number);
                view.acknowledge_in_turn(&mut self.turns, number, 0, newest, now).expect("it was sent");
                stream.is_proven = true;
            }
        }
    }

    fn apply_and_check(&mut self, place: usize, snapshot: &pb::Snapshot, known: Tick, world: &RandomWorld) {
        let before: BTreeMap<CellId, Tick> =
            self.mirror.cells(place).map(|cell| (cell, self.mirror.cell_tick(place, cell).expect("listed"))).collect();
        let newest = self.mirror.tick();
        let applied = self.mirror.apply(place, snapshot).expect("an honest snapshot applies");
        assert!(!applied.ignored);
        self.hashes += u64::from(applied.hash_checks);
        self.lagged += u64::from(applied.tick < newest);
        let header = &world.frames[snapshot.tick as usize];

        for stripe in 0..STRIPES_MAX {
            for cell in self.mirror.cells(stripe) {
                let (tick, state) = self.mirror.cell_state(stripe, cell).expect("listed");
                let frame = &world.frames[tick.0 as usize];
                assert_eq!(&state, frame.cell(cell).expect("in the frame").state.as_ref(), "cell {cell} at {tick}");
            }
        }
        for event in &applied.events {
            let key = (event.received.tick, event.received.event.ordinal);
            assert!(self.events.insert(key), "event {key:?} was seen twice");
        }
        if applied.events_lost == 0 && !applied.reset {
            self.check_events(place, &before, known, world);
        }
        self.check_shown(place, header, snapshot, world);
        if header.tick >= self.owner_tick {
            self.owner_tick = header.tick;
            let own = header.seat(PLAYER).and_then(|seat| seat.owner.as_ref());
            let values = self.mirror.owner().map(|own| (own.net_id, own.values.as_slice()));
            assert_eq!(values, own.map(|own| (own.net_id, &*own.values)));
        }
        if applied.reset && (0..STRIPES_MAX).all(|other| other == place || self.mirror.cells(other).next().is_none()) {
            self.roster.clear();
        }
        self.check_roster(world);
    }

    /// What happened in a cell that this stream has led on is known, or its loss was told.
    fn check_events(&self, place: usize, before: &BTreeMap<CellId, Tick>, known: Tick, world: &RandomWorld) {
        for cell in self.mirror.cells(place) {
            let tick = self.mirror.cell_tick(place, cell).expect("listed");
            let Some(held) = before.get(&cell) else { continue };
            for due in held.max(&known).0 + 1..=tick.0 {
                let events = world.frames[due as usize].cell(cell).and_then(|cell| cell.events.as_ref());
                for event in events.into_iter().flat_map(|events| events.iter()) {
                    let key = (Tick(due), event.ordinal);
                    assert!(self.events.contains(&key), "event {key:?} of cell {cell} was not seen, nor its loss told");
                }
            }
        }
    }

    /// Nobody is shown who was not there, or as they were before.
    fn check_times(&mut self, world: &RandomWorld) -> BTreeMap<NetId, (Tick, CellId)> {
        let mut shown: BTreeMap<NetId, (Tick, CellId)> = BTreeMap::new();
        for entity in self.mirror.shown() {
            let (id, tick) = (entity.net_id(), entity.tick());
            assert!(shown.insert(id, (tick, entity.cell())).is_none(), "entity {id} is shown twice");
            let before = self.shown_at.get(&id).copied().unwrap_or_default();
            assert!(tick >= before, "entity {id} went back from tick {before} to {tick}");
            assert!(world.died_at.get(&id).is_none_or(|died| tick < *died), "entity {id} is shown after its death");
            // What is shown is what was: a ghost where it was last, anybody else where it is.
            let frame = &world.frames[tick.0 as usize];
            let there = frame.places.get(id).map(|(_, cell)| cell);
            assert_eq!(there, Some(entity.cell()), "entity {id} at tick {tick}");
            self.shown_at.insert(id, tick);
        }
        shown
    }

    fn check_shown(&mut self, place: usize, header: &Frame, snapshot: &pb::Snapshot, world: &RandomWorld) {
        let shown = self.check_times(world);
        let cells: BTreeSet<CellId> = self.mirror.cells(place).collect();
        let stands = |cell: &CellId| self.mirror.cell_tick(place, *cell) == Some(header.tick);
        let is_newest = header.tick == self.mirror.tick() && header.tick > self.damaged_at;
        if is_newest && snapshot.deferred_cells.is_empty() && cells.iter().all(stands) {
            self.caught_up += 1;
            let ids = |cell: &CellId| -> Vec<NetId> {
                let state = &header.cell(*cell).expect("in the frame").state;
                state.kinds.iter().flat_map(|columns| columns.ids.clone()).collect()
            };
            let expected: BTreeSet<NetId> = cells.iter().flat_map(ids).collect();
            for id in &expected {
                assert_eq!(shown.get(id).map(|(tick, _)| *tick), Some(header.tick), "entity {id}");
            }
            // Another stream may show more, in cells that this one does not look at.
            let others = shown.iter().filter(|(id, (_, cell))| !expected.contains(id) && cells.contains(cell));
            assert_eq!(others.count(), 0, "somebody is shown who is not there at tick {}", header.tick);
        }
    }

    /// Rows never go back to what they were before.
    fn check_roster(&mut self, world: &RandomWorld) {
        for (player, entry) in self.mirror.roster() {
            let last = self.roster.get(player).copied().unwrap_or_default();
            let versions = world.frames[last.0 as usize..].iter().filter_map(|frame| frame.roster.row(*player));
            let same = versions.filter(|row| row.scores == entry.scores && row.version >= last);
            let version = same.map(|row| row.version).next();
            assert!(version.is_some(), "the row of player {player} went back from {last}");
            self.roster.insert(*player, version.unwrap_or_default());
        }
        assert!(self.roster.keys().all(|player| self.mirror.roster().contains_key(player)), "a row is gone");
    }
}

/// Makes the hash of a cell another. False: no update is whole.
fn damage(snapshot: &mut pb::Snapshot) -> bool {
    let is_whole = |update: &&mut pb::CellUpdate| update.slice + 1 >= update.slices;
    let Some(update) = snapshot.cells.iter_mut().filter(is_whole).last() else { return false };
    update.hash = Some(update.hash.map_or(0x5eed_5eed, |hash| !hash));
    true
}

/// Plays a plan in a weather; then the weather clears, and all streams catch up.
fn play(plan: Plan, weather: Weather) -> Player {
    let mut world = RandomWorld::new(plan);
    let replicator = plan.replicator(&world);
    let mut player = Player::new(weather, plan.bytes_per_second, plan.seed);
    let mut rng = ChaCha8Rng::seed_from_u64(!plan.seed);
    player.open_one(1);
    for tick in 1..=plan.ticks {
        replicator.publish(world.step());
        for place in 0..STRIPES_MAX {
            let Some(stream) = &mut player.streams[place] else { continue };
            if rng.random_ratio(weather.stall_percent, 100) {
                stream.stalled_until = tick + rng.random_range(0..=weather.stall_ticks_max);
            }
            if rng.random_ratio(weather.loss_percent, 100) && player.turns.count() > 1 {
                player.lose(place);
            }
        }
        if player.turns.count() < weather.stripes && rng.random_ratio(1, 10) {
            player.open_one(rng.random_range(0..=weather.delay_ticks_max));
        }
        player.compose(&replicator, tick, weather.copies);
        player.deliver(&world, tick);
    }
    clear_up(&mut player, &mut world, &replicator, plan.ticks, weather);
    player
}

/// Without stalls, every stream comes to hold all that the newest frame has in its view.
fn clear_up(player: &mut Player, world: &mut RandomWorld, replicator: &Replicator, ticks: u64, weather: Weather) {
    player.damage_percent = 0;
    player.streams.iter_mut().flatten().for_each(|stream| (stream.stalled_until, stream.applied) = (0, 0));
    let before = player.caught_up;
    let mut all_held = [false; STRIPES_MAX];
    for tick in ticks + 1..ticks + 2000 {
        replicator.publish(world.step());
        player.compose(replicator, tick, weather.copies);
        player.deliver(world, tick);
        for (place, held) in all_held.iter_mut().enumerate() {
            let Some(stream) = &player.streams[place] else {
                *held = true;
                continue;
            };
            let mut stand =
                player.mirror.cells(place).filter_map(|cell| player.mirror.cell_tick(place, cell)).peekable();
            let at = stand.peek().copied();
            *held |= stream.applied > 8 && at.is_some() && stand.all(|tick| Some(tick) == at);
        }
        if all_held.iter().all(|held| *held) && player.caught_up > before {
            return;
        }
        world.calm();
    }
    panic!("streams did not catch up: {all_held:?}");
}

fn plan() -> impl Strategy<Value = Plan> {
    let sizes = (5..60_usize, 300..3000_usize, 60..400_usize, 40..120_usize, 1..40_u32);
    let limits = (prop::option::of(20_000..80_000_u32), prop_oneof![Just(0), 1..100_u64]);
    (any::<u64>(), sizes, 0..30_u32, limits).prop_map(|(seed, sizes, crossing_percent, limits)| {
        let (entities_max, snapshot_bytes_max, slice_bytes_max, history_ticks, hash_interval) = sizes;
        let (bytes_per_second, edge_ticks) = limits;
        Plan {
            seed,
            ticks: 200,
            entities_max,
            snapshot_bytes_max: snapshot_bytes_max.max(4 * slice_bytes_max),
            slice_bytes_max,
            history_ticks,
            hash_interval,
            crossing_percent,
            pace_percent: [100; 2],
            bytes_per_second,
            edge_ticks,
            ack_loss_percent: 0,
            resync_percent: 0,
        }
    })
}

fn weather() -> impl Strategy<Value = Weather> {
    let percents = (0..12_u32, 0..4_u32, prop_oneof![Just(0), 1..10_u32]);
    (2..=STRIPES_MAX, 1..=2_u32, percents, 0..60_u64, 0..8_u64).prop_map(
        |(stripes, copies, percents, stall_ticks_max, delay_ticks_max)| {
            let (stall_percent, loss_percent, damage_percent) = percents;
            Weather { stripes, copies, stall_percent, loss_percent, damage_percent, stall_ticks_max, delay_ticks_max }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_becomes_of_streams_what_is_shown_is_what_was_and_never_goes_back(plan in plan(), weather in weather()) {
        let player = play(plan, weather);
        prop_assert!(player.opened > 0 && player.caught_up > 0);
    }
}

/// The random plans are of use only if they reach the hard cases.
#[test]
fn weathers_reach_loss_lag_and_hashes() {
    let plan = Plan {
        seed: 3,
        ticks: 900,
        entities_max: 60,
        snapshot_bytes_max: 2000,
        slice_bytes_max: 300,
        history_ticks: 80,
        hash_interval: 7,
        crossing_percent: 10,
        pace_percent: [100; 2],
        bytes_per_second: None,
        edge_ticks: 10,
        ack_loss_percent: 0,
        resync_percent: 0,
    };
    let weather = Weather {
        stripes: 3,
        copies: 1,
        stall_percent: 4,
        loss_percent: 1,
        damage_percent: 2,
        stall_ticks_max: 40,
        delay_ticks_max: 4,
    };
    let player = play(plan, weather);
    assert!(player.opened > 5 && player.lost > 3, "{} opened, {} lost", player.opened, player.lost);
    assert!(player.lagged > 100 && player.caught_up > 20, "{} lagged, {} caught up", player.lagged, player.caught_up);
    assert!(player.hashes > 100 && player.damaged > 5, "{} hashes, {} wrong", player.hashes, player.damaged);
}
