//! Bytes per second: what a stream gets, what goes first, and how old things become; over a simulated link too.

mod line;
mod row;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use line::{ME, Peer, RATE, World, config};
use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};
use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng};
use tickwire_replication::{InputFeedback, ReplicationConfig, ViewConfig};
use tickwire_shared::{CellId, CellKey, Game as _, Place, Tick};

const SECOND: u64 = RATE.hz() as u64;

#[test]
fn a_view_that_could_use_more_gets_its_bytes_within_5_percent_over_any_second() {
    for (bytes_per_second, ticks_per_snapshot) in [(10_000, 1), (37_000, 2), (150_000, 1)] {
        let mut world = World::new([4].into_iter().chain((0..9).flat_map(|cell| [cell; 90])));
        let limits = ViewConfig { bytes_per_second: Some(bytes_per_second), ticks_per_snapshot, ..config(4.0) };
        let mut peer = Peer::new(limits);
        let mut sent = Vec::new();
        for _ in 0..6 * SECOND {
            world.stir(|_| true);
            world.step();
            sent.push(peer.exchange(&world).map_or(0, |_| peer.snapshot.encoded_len()));
        }
        // The first two seconds are for joining.
        for (i, second) in sent[2 * SECOND as usize..].windows(SECOND as usize).enumerate() {
            let share = second.iter().sum::<usize>() as f64 / f64::from(bytes_per_second);
            assert!((0.95..=1.05).contains(&share), "{share} of {bytes_per_second}, from tick {i} on");
        }
    }
}

#[test]
fn what_joining_takes_is_paced_too() {
    let mut world = World::new([4].into_iter().chain((0..9).flat_map(|cell| [cell; 90])));
    world.stir(|_| true);
    let mut peer = Peer::new(ViewConfig { bytes_per_second: Some(20_000), ..config(4.0) });
    for _ in 0..2 * SECOND {
        world.step();
        if peer.exchange(&world).is_some() {
            // What one snapshot's time brings, and what may be saved up, both with a header that must go.
            assert!(peer.snapshot.encoded_len() <= 20_000 / 60 + 20_000 / 32 + 100, "{}", peer.snapshot.encoded_len());
        }
    }
    assert!((0..9).all(|key| peer.holds(world.cell(key)) == Some(world.tick())), "in two seconds all is there");
}

/// How long a receiver has waited for what, in ticks, judged by frames and its mirror alone.
#[derive(Default)]
struct Waits {
    /// By cell: when it changed.
    changes: BTreeMap<CellId, VecDeque<Tick>>,
    /// By cell: since when it is to be seen.
    wanted: BTreeMap<CellId, Tick>,
}

impl Waits {
    fn longest(&mut self, world: &World, peer: &Peer, radius: f64) -> (u64, CellId) {
        let frame = world.frame();
        for (cell, state) in (0..).map(CellId).zip(frame.cells.iter()) {
            if state.changed == frame.tick {
                self.changes.entry(cell).or_default().push_back(frame.tick);
            }
        }
        let own = frame.seat(ME).and_then(|seat| seat.owner.as_ref()).expect("there is one").cell;
        let Some(Place::Cell(own)) = frame.table.place(own) else { panic!("dots are in cells") };
        let mut seen: Vec<CellKey> = Vec::new();
        row::Row.cells_in_view(own, radius, &mut seen);
        let seen: Vec<CellId> = seen.into_iter().filter_map(|key| frame.table.id(Place::Cell(key))).collect();
        self.wanted.retain(|cell, _| seen.contains(cell));
        let waited = |(cell, wanted): (CellId, Tick)| {
            let held = peer.holds(cell);
            let changes = self.changes.entry(cell).or_default();
            while changes.pop_front_if(|change| held.is_some_and(|held| *change <= held)).is_some() {}
            let since = if held.is_some() { changes.front().copied() } else { Some(wanted) };
            (since.map_or(0, |since| frame.tick.since(since)), cell)
        };
        for &cell in &seen {
            self.wanted.entry(cell).or_insert(frame.tick);
        }
        self.wanted.clone().into_iter().map(waited).max().expect("the own cell is seen")
    }
}

/// Random cells of a random world: some crowded, some still; dots that cross; a player who wanders.
struct Bustle {
    rng: ChaCha8Rng,
    world: World,
    restless: Vec<u64>,
}

impl Bustle {
    const CELLS: u64 = 12;

    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut dots = vec![5];
        for cell in 0..Self::CELLS {
            dots.extend(std::iter::repeat_n(cell, rng.random_range(1..60)));
        }
        let restless = (0..Self::CELLS).filter(|_| rng.random_ratio(2, 3)).collect();
        Self { rng, world: World::with(dots, ReplicationConfig::new(RATE)), restless }
    }

    fn step(&mut self) {
        let Self { rng, world, restless } = self;
        world.stir(|cell| restless.contains(&cell));
        for (i, (cell, value)) in world.dots.iter_mut().enumerate() {
            if rng.random_ratio(1, 40) {
                *value = rng.random_range(0..1_000_000);
            }
            if rng.random_ratio(1, if i == 0 { 90 } else { 300 }) {
                *cell = cell.saturating_add_signed(if rng.random() { 1 } else { -1 }).min(Self::CELLS - 1);
            }
        }
        world.step();
    }
}

const RADIUS: f64 = 3.0;

/// The least budget at which nothing may wait over a second, as docs/wire.md has it: what must go into each second's
/// snapshots, and twice what the view takes on joining.
fn least_bytes_per_second(seed: u64, ticks: u64) -> u32 {
    let mut bustle = Bustle::new(seed);
    let mut peer = Peer::new(config(RADIUS));
    let (mut musts, mut join) = (Vec::new(), 0);
    for tick in 0..ticks {
        bustle.step();
        let (snapshot, _) = peer.exchange(&bustle.world).expect("there is no limit");
        let own = bustle.world.frame().seat(ME).and_then(|seat| seat.owner.as_ref()).expect("there is one").cell;
        let must =
            |update: &&tickwire_proto::v1::CellUpdate| update.base_age != Some(0) && [0, own.0].contains(&update.cell);
        let header = tickwire_proto::v1::Snapshot { cells: Vec::new(), ..snapshot.clone() };
        let updates = snapshot.cells.iter().filter(must).map(|update| prost::Message::encoded_len(update) + 3);
        // The list of what is deferred is longer where more is.
        musts.push(prost::Message::encoded_len(&header) + updates.sum::<usize>() + 2 * RADIUS as usize + 4);
        if tick % 10 == 0 {
            let mut fresh = Peer::new(config(RADIUS));
            fresh.exchange(&bustle.world).expect("there is no limit");
            join = join.max(fresh.snapshot.encoded_len());
        }
    }
    let seconds = musts[1..].windows(SECOND as usize).map(|second| second.iter().sum::<usize>());
    (seconds.max().expect("more than a second") + 2 * join) as u32
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn from_the_documented_budget_on_nothing_that_is_seen_waits_over_a_second(seed in any::<u64>(), more in 0..3_u32) {
        let ticks = 5 * SECOND;
        let least = least_bytes_per_second(seed, ticks);
        let bytes_per_second = Some(least + more * least / 4);
        let mut bustle = Bustle::new(seed);
        let mut peer = Peer::new(ViewConfig { bytes_per_second, ..config(RADIUS) });
        let mut waits = Waits::default();
        for _ in 0..ticks {
            bustle.step();
            peer.exchange(&bustle.world);
            let (waited, cell) = waits.longest(&bustle.world, &peer, RADIUS);
            prop_assert!(waited <= SECOND, "cell {cell} has waited {waited} ticks, with {bytes_per_second:?}");
        }
    }
}

/// The ages of what is shown, in ms, each ms of the second half of a run: a link of so many bytes per second, 25 ms each
/// way, without loss.
fn ages_over_a_link(world: &mut World, view: ViewConfig, link_bytes_per_second: u64, seconds: u64) -> Vec<u64> {
    const ONE_WAY_US: u64 = 25_000;
    let mut peer = Peer::new(view);
    let mut arrivals: VecDeque<(u64, tickwire_proto::v1::Snapshot)> = VecDeque::new();
    let mut acks: VecDeque<(u64, Tick)> = VecDeque::new();
    let (mut free_at, mut ages) = (0, Vec::new());
    for now_us in (0..seconds * 1_000_000).step_by(1000) {
        let now = Duration::from_micros(now_us);
        if RATE.duration_of(world.tick().next().0) <= now {
            world.stir(|_| true);
            world.step();
        }
        while let Some((_, tick)) = acks.pop_front_if(|(at, _)| *at <= now_us) {
            peer.view.acknowledge(0, tick, now).expect("it was sent");
        }
        if peer.view.compose_into(&world.replicator, InputFeedback::default(), now, &mut peer.snapshot) {
            let mut bytes = Vec::new();
            peer.snapshot.encode(&mut bytes);
            free_at = now_us.max(free_at) + bytes.len() as u64 * 1_000_000 / link_bytes_per_second;
            let snapshot = prost::Message::decode(bytes.as_slice()).expect("the generated types read it");
            arrivals.push_back((free_at + ONE_WAY_US, snapshot));
        }
        while let Some((_, snapshot)) = arrivals.pop_front_if(|(at, _)| *at <= now_us) {
            let applied = peer.mirror.apply(0, &snapshot).expect("an honest snapshot applies");
            acks.push_back((now_us + ONE_WAY_US, applied.tick));
        }
        if now_us >= seconds * 500_000 {
            ages.push((now_us - RATE.duration_of(peer.mirror.tick().0).as_micros() as u64) / 1000);
        }
    }
    ages.sort_unstable();
    ages
}

#[test]
fn on_a_link_of_half_the_needed_bytes_what_is_shown_stays_fresh() {
    let dots = || (0..5).flat_map(|cell| [cell; 30]);
    let mut world = World::new(dots());
    let mut unhindered = Peer::new(config(1.0));
    let mut needed = 0;
    for tick in 0..3 * SECOND {
        world.stir(|_| true);
        world.step();
        unhindered.exchange(&world).expect("there is no limit");
        needed += if tick >= 2 * SECOND { unhindered.snapshot.encoded_len() as u64 } else { 0 };
    }
    let mut world = World::new(dots());
    let ages = ages_over_a_link(&mut world, config(1.0), needed / 2, 20);
    let p99 = ages[ages.len() * 99 / 100];
    assert!(p99 <= 200, "age p50 {} ms, p99 {p99} ms", ages[ages.len() / 2]);
}
