//! What docs/wire.md promises of snapshots, mirrors, events and credit, over random worlds and links.

mod link;
mod row;

use std::time::Duration;

use link::{Plan, play, quiet_pair};
use proptest::prelude::*;
use tickwire_shared::Tick;
use tickwire_wire::{ApplyError, MirrorError};

fn plan() -> impl Strategy<Value = Plan> {
    let sizes = (5..80_usize, 300..3000_usize, 60..400_usize, 5..80_usize, 1..40_u32);
    let chances = (0..30_u32, [5..100_u32, 5..100_u32], 0..30_u32, 0..4_u32);
    let limits = (prop::option::of(5_000..60_000_u32), prop_oneof![Just(0), 1..100_u64]);
    (any::<u64>(), sizes, chances, limits).prop_map(|(seed, sizes, chances, (bytes_per_second, edge_ticks))| {
        let (entities_max, snapshot_bytes_max, slice_bytes_max, history_ticks, hash_interval) = sizes;
        let (crossing_percent, pace_percent, ack_loss_percent, resync_percent) = chances;
        Plan {
            seed,
            ticks: 150,
            entities_max,
            snapshot_bytes_max: snapshot_bytes_max.max(4 * slice_bytes_max),
            slice_bytes_max,
            history_ticks,
            hash_interval,
            crossing_percent,
            pace_percent,
            bytes_per_second,
            edge_ticks,
            ack_loss_percent,
            resync_percent,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn mirrors_equal_the_servers_cells_and_nothing_shown_is_wrong(plan in plan()) {
        let peers = play(plan);
        prop_assert!(peers.iter().all(|peer| peer.applied > 0 && peer.resets > 0));
    }

    #[test]
    fn a_corrupted_number_is_caught(plan in plan(), at in any::<prop::sample::Index>(), flip in 1..64_u32) {
        let (mut world, replicator, mut peer) = quiet_pair(Plan { hash_interval: 1, ..plan });
        for tick in 1..40_u32 {
            let now = Duration::from_millis(16) * tick;
            replicator.publish(world.step());
            peer.send(&replicator, now);
            let mut snapshot = peer.receive().expect("composed each tick");
            let numbers: usize = snapshot.cells.iter().flat_map(|cell| &cell.kinds).map(|kind| kind.changes.len()).sum();
            if tick > 30 && numbers > 0 {
                let at = at.index(numbers);
                let number = snapshot.cells.iter_mut().flat_map(|cell| &mut cell.kinds)
                    .flat_map(|kind| &mut kind.changes).nth(at).expect("counted");
                *number ^= flip;
                let error = peer.mirror.apply(0, &snapshot).expect_err("the hash or a bound catches it");
                prop_assert!(matches!(error, MirrorError::Apply(_)), "{error}");
                return Ok(());
            }
            peer.apply_and_check(&snapshot, &world).expect("an honest snapshot applies");
            peer.view.acknowledge(0, Tick(snapshot.tick), now).expect("received");
        }
    }
}

/// The random plans are of use only if they reach the hard cases.
#[test]
fn plans_reach_deferral_slices_resets_and_catching_up() {
    let plan = Plan {
        seed: 1,
        ticks: 600,
        entities_max: 120,
        snapshot_bytes_max: 700,
        slice_bytes_max: 90,
        history_ticks: 40,
        hash_interval: 7,
        crossing_percent: 10,
        pace_percent: [80, 15],
        bytes_per_second: None,
        edge_ticks: 10,
        ack_loss_percent: 10,
        resync_percent: 5,
    };
    let [fast, slow] = play(plan);
    for peer in [&fast, &slow] {
        assert!(peer.deferred > 10 && peer.sliced > 10, "{} deferred, {} sliced", peer.deferred, peer.sliced);
        assert!(peer.resets > 1 && peer.applied > 50, "{} resets, {} applied", peer.resets, peer.applied);
    }
    assert!(fast.applied > 2 * slow.applied, "{} and {}", fast.applied, slow.applied);
}

#[test]
fn one_wrong_value_in_a_mirror_is_named_by_its_hash() {
    let plan = Plan {
        seed: 7,
        ticks: 0,
        entities_max: 20,
        snapshot_bytes_max: 1 << 16,
        slice_bytes_max: 1 << 14,
        history_ticks: 100,
        hash_interval: 1,
        crossing_percent: 0,
        pace_percent: [100, 100],
        bytes_per_second: None,
        edge_ticks: 0,
        ack_loss_percent: 0,
        resync_percent: 0,
    };
    let (mut world, replicator, mut peer) = quiet_pair(plan);
    for _ in 0..20 {
        replicator.publish(world.step());
    }
    peer.send(&replicator, Duration::ZERO);
    let mut snapshot = peer.receive().expect("composed");
    let update = snapshot.cells.iter_mut().find(|update| update.kinds.iter().any(|kind| !kind.arrivals.is_empty()));
    let update = update.expect("twenty ticks spawn something");
    update.kinds[0].arrivals[1] ^= 2;
    let cell = update.cell;
    match peer.mirror.apply(0, &snapshot) {
        Err(MirrorError::Apply(ApplyError::Hash { cell: named, .. })) => assert_eq!(named.0, cell),
        other => panic!("expected a failed hash, got {other:?}"),
    }

    // It is told to the server; the reset that follows heals the mirror.
    peer.view.resync();
    replicator.publish(world.step());
    peer.send(&replicator, Duration::from_millis(16));
    let healed = peer.receive().expect("composed");
    assert!(peer.apply_and_check(&healed, &world).expect("an honest snapshot applies").reset);
}
