//! Bytes from a hostile server: the mirror may refuse them, but never panics, and never takes memory beyond a bound.
//!
//! One test, so that nothing else in this process allocates while it measures.

#[allow(dead_code, reason = "the world and its messages are needed here, the checker is not")]
mod link;
mod row;

use std::time::Duration;

use link::{Plan, quiet_pair};
use peak_alloc::PeakAlloc;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use prost::Message as _;
use tickwire_proto::v1 as pb;
use tickwire_shared::Tick;
use tickwire_wire::{Mirror, SnapshotMessage};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// What a byte of a message may cost in memory while it is applied: a number of one byte can become a row's anchor of 16,
/// in vectors that have grown to twice their length, while the columns before are still there.
const MEMORY_PER_BYTE: usize = 256;
const MEMORY_FIXED: usize = 64 << 10;

#[derive(Clone, Debug)]
enum Attack {
    Flip { at: prop::sample::Index, bits: u8 },
    Truncate { at: prop::sample::Index },
    Insert { at: prop::sample::Index, bytes: Vec<u8> },
    Repeat { from: prop::sample::Index, len: usize },
    Number { at: prop::sample::Index, number: u32 },
}

fn attack() -> impl Strategy<Value = Attack> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), 1..=255_u8).prop_map(|(at, bits)| Attack::Flip { at, bits }),
        at().prop_map(|at| Attack::Truncate { at }),
        (at(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Attack::Insert { at, bytes }),
        (at(), 1..200_usize).prop_map(|(from, len)| Attack::Repeat { from, len }),
        (at(), prop_oneof![0..4_u32, any::<u32>(), Just(u32::MAX)])
            .prop_map(|(at, number)| Attack::Number { at, number }),
    ]
}

/// Attacks that know the messages change one number in them; the others change bytes.
fn mutate(honest: &pb::Snapshot, attacks: &[Attack]) -> Vec<u8> {
    let mut snapshot = honest.clone();
    for attack in attacks {
        let Attack::Number { at, number } = attack else { continue };
        let mut numbers: Vec<&mut u32> = Vec::new();
        numbers.extend(&mut snapshot.deferred_cells);
        numbers.extend(&mut snapshot.dropped_cells);
        if let Some(owner) = &mut snapshot.owner {
            numbers.extend([&mut owner.net_id, &mut owner.kind]);
            numbers.push(owner.base_age.get_or_insert(1));
            numbers.extend(&mut owner.events);
        }
        for cell in &mut snapshot.cells {
            numbers.extend([&mut cell.cell, &mut cell.tick_age, &mut cell.slice, &mut cell.slices]);
            numbers.push(cell.base_age.get_or_insert(1));
            numbers.extend(&mut cell.events);
            for kind in &mut cell.kinds {
                numbers.push(&mut kind.kind);
                let streams = [&mut kind.despawned, &mut kind.left, &mut kind.arrivals, &mut kind.changes];
                streams.into_iter().for_each(|stream| numbers.extend(stream));
            }
        }
        if !numbers.is_empty() {
            let at = at.index(numbers.len());
            *numbers[at] = *number;
        }
    }
    let mut bytes = snapshot.encode_to_vec();
    for attack in attacks {
        match attack {
            Attack::Flip { at, bits } if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] ^= bits;
            }
            Attack::Truncate { at } => bytes.truncate(at.index(bytes.len() + 1)),
            Attack::Insert { at, bytes: more } => {
                let at = at.index(bytes.len() + 1);
                bytes.splice(at..at, more.iter().copied());
            }
            Attack::Repeat { from, len } if !bytes.is_empty() => {
                let from = from.index(bytes.len());
                let again = bytes[from..(from + len).min(bytes.len())].to_vec();
                bytes.splice(from..from, again);
            }
            Attack::Flip { .. } | Attack::Repeat { .. } | Attack::Number { .. } => {}
        }
    }
    bytes
}

/// The honest snapshots of a random match, in order.
fn honest_match(seed: u64) -> (Mirror, Vec<pb::Snapshot>) {
    let plan = Plan {
        seed,
        ticks: 0,
        entities_max: 40,
        snapshot_bytes_max: 1 << 16,
        slice_bytes_max: 1 << 14,
        history_ticks: 60,
        hash_interval: 5,
        crossing_percent: 10,
        pace_percent: [100, 100],
        bytes_per_second: None,
        edge_ticks: 0,
        ack_loss_percent: 0,
        resync_percent: 0,
    };
    let (mut world, replicator, mut peer) = quiet_pair(plan);
    let mut snapshots = Vec::new();
    for tick in 1..30_u32 {
        let now = Duration::from_millis(16) * tick;
        replicator.publish(world.step());
        peer.send(&replicator, now);
        let snapshot = peer.receive().expect("composed each tick");
        peer.view.acknowledge(0, Tick(snapshot.tick), now).expect("received");
        snapshots.push(snapshot);
    }
    (peer.mirror, snapshots)
}

#[test]
fn hostile_bytes_neither_panic_nor_take_memory_beyond_a_bound() {
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    let cases = (0..8_u64, prop::collection::vec((0..29_usize, prop::collection::vec(attack(), 1..6)), 1..6));
    runner
        .run(&cases, |(seed, attacks)| {
            let (mut mirror, snapshots) = honest_match(seed);
            for (i, honest) in snapshots.iter().enumerate() {
                let attack = attacks.iter().find(|(at, _)| *at == i);
                let bytes = attack.map_or_else(|| honest.encode_to_vec(), |(_, attacks)| mutate(honest, attacks));
                let held = mirror.cells(0).filter_map(|cell| mirror.cell_state(0, cell)).map(|(_, state)| state.len());
                let entities: usize = held.sum();
                ALLOCATED.reset_peak_usage();
                let before = ALLOCATED.current_usage();
                if let Ok(snapshot) = SnapshotMessage::read(&bytes) {
                    let _refused_or_not = mirror.apply_message(0, &snapshot);
                    let values = mirror.shown().filter_map(|shown| shown.value(0, Tick(u64::MAX)));
                    std::hint::black_box(values.fold(0, i32::wrapping_add));
                }
                let peak = ALLOCATED.peak_usage().saturating_sub(before);
                let bound = MEMORY_FIXED + (bytes.len() + 32 * entities) * MEMORY_PER_BYTE;
                prop_assert!(peak <= bound, "{peak} bytes of memory for {} of message", bytes.len());
            }
            Ok(())
        })
        .expect("no hostile message does harm");
}
