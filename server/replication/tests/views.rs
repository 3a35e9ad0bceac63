//! What a view shows, how often, and what goes first.

mod line;
mod row;

use std::{collections::BTreeMap, sync::Arc};

use line::{ME, Peer, RATE, World, config};
use tickwire_replication::{ReplicationConfig, ViewConfig};
use tickwire_shared::{CellId, NetId, PlayerId, PlayerStatus, Roster, RosterRow, Tick};

const SECOND: u64 = RATE.hz() as u64;

/// Plays until everything is there and nothing is on its way.
fn settle(world: &mut World, peer: &mut Peer) {
    for _ in 0..SECOND {
        world.step();
        peer.exchange(world);
    }
}

#[test]
fn near_cells_come_in_each_snapshot_and_far_ones_at_half_and_quarter_rate() {
    let mut world = World::new(0..12);
    let mut peer = Peer::new(config(9.0));
    settle(&mut world, &mut peer);
    let (mut updates, ticks) = (BTreeMap::<u32, u64>::new(), 4 * SECOND);
    for _ in 0..ticks {
        world.stir(|_| true);
        world.step();
        let (snapshot, _) = peer.exchange(&world).expect("one for each tick");
        for update in &snapshot.cells {
            *updates.entry(update.cell).or_default() += 1;
        }
        let seen = (0..10).map(|key| world.cell(key));
        let waiting: Vec<u32> = seen.filter(|cell| peer.holds(*cell) < Some(world.tick())).map(|cell| cell.0).collect();
        let mut deferred = snapshot.deferred_cells.clone();
        deferred.sort_unstable();
        assert_eq!(deferred, waiting, "whatever changed and does not come now is deferred");
    }
    let updates: Vec<u64> = (0..12).map(|key| *updates.get(&world.cell(key).0).unwrap_or(&0)).collect();
    let (half, quarter) = (ticks / 2, ticks / 4);
    let expected = [ticks, ticks, half, half, quarter, quarter, quarter, quarter, quarter, quarter, 0, 0];
    assert_eq!(updates, expected);
}

#[test]
fn cells_of_one_rate_take_turns_and_streams_agree_on_them() {
    let mut world = World::new((0..10).chain(0..10));
    let mut peers = [Peer::new(config(9.0)), Peer::new(config(9.0))];
    settle(&mut world, &mut peers[0]);
    settle(&mut world, &mut peers[1]);
    peers[0].exchange(&world).expect("there is news");
    let mut most = 0;
    for tick in 0..200 {
        world.stir(|cell| cell > 3 && tick % 3 == 0);
        world.step();
        let [a, b] = peers.each_mut().map(|peer| peer.exchange(&world).expect("one for each tick").0);
        assert_eq!(a.cells, b.cells);
        most = most.max(a.cells.len());
    }
    assert!((1..=3).contains(&most), "6 cells at a quarter of the rate, {most} in one snapshot");
}

#[test]
fn what_does_not_change_is_current_whatever_its_rate() {
    let mut world = World::new(0..10);
    let mut peer = Peer::new(config(9.0));
    settle(&mut world, &mut peer);
    for _ in 0..20 {
        world.step();
        let (snapshot, _) = peer.exchange(&world).expect("one for each tick");
        assert!(snapshot.cells.is_empty() && snapshot.deferred_cells.is_empty(), "{snapshot:?}");
        assert!((0..10).all(|key| peer.holds(world.cell(key)) == Some(world.tick())));
    }
}

#[test]
fn who_walks_to_and_fro_across_an_edge_gets_no_cell_anew() {
    let mut world = World::new([5].into_iter().chain(0..12));
    let mut peer = Peer::new(config(2.0));
    settle(&mut world, &mut peer);
    let mut dropped = 0;
    for round in 0..20 {
        world.dots[0].0 = 5 + round % 2;
        for _ in 0..SECOND / 2 {
            world.stir(|_| true);
            world.step();
            let (snapshot, applied) = peer.exchange(&world).expect("one for each tick");
            dropped += snapshot.dropped_cells.len();
            // Cell 8 is seen for the first time from 6; all others were there before.
            let first_look = round == 1 && applied.cells_full == 1;
            assert!(applied.cells_full == 0 || first_look, "{} cells anew in round {round}", applied.cells_full);
        }
    }
    assert_eq!(dropped, 0);

    // Cell 3 is out of view from 6 on, and goes once that has lasted.
    world.dots[0].0 = 6;
    for tick in 0..3 * SECOND {
        world.stir(|_| true);
        world.step();
        peer.exchange(&world).expect("one for each tick");
        let is_kept = peer.holds(world.cell(3)).is_some();
        assert!(is_kept || tick > SECOND, "dropped after {tick} ticks");
    }
    assert_eq!(peer.holds(world.cell(3)), None);
}

#[test]
fn who_jumps_away_drops_what_is_out_of_view_at_once() {
    let mut world = World::new([5].into_iter().chain(0..40));
    let mut peer = Peer::new(config(2.0));
    settle(&mut world, &mut peer);
    world.dots[0].0 = 30;
    world.step();
    let (snapshot, _) = peer.exchange(&world).expect("one for each tick");
    let mut expected: Vec<u32> = (3..=7).map(|key| world.cell(key).0).collect();
    expected.sort_unstable();
    assert_eq!(snapshot.dropped_cells, expected);
    assert!((28..=32).all(|key| peer.holds(world.cell(key)) == Some(world.tick())));
}

#[test]
fn a_cell_that_is_used_for_the_first_time_enters_every_view_that_it_is_in() {
    let mut world = World::new([5, 5]);
    let mut peer = Peer::new(config(3.0));
    settle(&mut world, &mut peer);
    assert_eq!(peer.mirror.cells(0).count(), 2, "the own cell and `always`");
    world.dots[1].0 = 40;
    world.step();
    peer.exchange(&world).expect("one for each tick");
    assert_eq!(peer.holds(world.cell(40)), None);
    assert!(peer.mirror.get(NetId(2)).is_none());
    world.dots[1].0 = 8;
    world.step();
    peer.exchange(&world).expect("one for each tick");
    assert_eq!(peer.holds(world.cell(8)), Some(world.tick()));
    assert!(peer.mirror.get(NetId(2)).is_some());
}

#[test]
fn a_stream_of_a_lower_rate_is_served_at_the_ticks_that_all_of_its_rate_share() {
    let mut world = World::new(0..6);
    let slow = || ViewConfig { ticks_per_snapshot: 3, ..config(5.0) };
    let mut peers = [Peer::new(slow()), Peer::new(slow())];
    let mut served: [Vec<u64>; 2] = Default::default();
    for tick in 1..=60 {
        world.stir(|_| true);
        world.step();
        for (i, peer) in peers.iter_mut().enumerate() {
            // The second joins between two turns of the first.
            if (i == 0 || tick >= 20) && peer.exchange(&world).is_some() {
                served[i].push(tick);
            }
        }
    }
    let first: Vec<u64> = [1].into_iter().chain((1..=20).map(|turn| turn * 3)).collect();
    assert_eq!(served[0], first);
    let second: Vec<u64> = [20].into_iter().chain((7..=20).map(|turn| turn * 3)).collect();
    assert_eq!(served[1], second, "who joins is served at once");
}

#[test]
fn the_last_frame_is_served_out_of_turn() {
    let mut world = World::new(0..6);
    let mut peer = Peer::new(ViewConfig { ticks_per_snapshot: 10, ..config(5.0) });
    for _ in 0..=14 {
        world.stir(|_| true);
        world.step();
        peer.exchange(&world);
    }
    assert_eq!((world.tick(), peer.view.sent()), (Tick(15), Tick(10)));
    peer.view.end();
    peer.exchange(&world).expect("nothing follows");
    assert_eq!(peer.mirror.tick(), Tick(15));
    assert!(peer.exchange(&world).is_none(), "once");
}

/// A stream with fewer bytes than its view takes: many entities in each of nine cells change at each tick.
fn tight(bytes_per_second: u32) -> (World, Peer) {
    let world = World::new([4].into_iter().chain((0..9).flat_map(|cell| [cell; 20])));
    let peer = Peer::new(ViewConfig { bytes_per_second: Some(bytes_per_second), ..config(1.0) });
    (world, peer)
}

#[test]
fn the_own_cell_and_always_go_first_and_no_other_starves() {
    let (mut world, mut peer) = tight(30_000);
    for _ in 0..2 * SECOND {
        world.step();
        peer.exchange(&world);
    }
    let own = world.cell(4);
    let mut oldest = BTreeMap::<CellId, u64>::new();
    for _ in 0..5 * SECOND {
        world.stir(|_| true);
        world.step();
        if peer.exchange(&world).is_none() {
            continue;
        }
        for key in 3..=5 {
            let cell = world.cell(key);
            let age = world.tick().since(peer.holds(cell).expect("it has entered long ago"));
            let oldest = oldest.entry(cell).or_default();
            *oldest = age.max(*oldest);
        }
    }
    let own_oldest = oldest.remove(&own).expect("it is among them");
    assert!(own_oldest <= 1, "the own cell is {own_oldest} ticks old");
    assert!(oldest.values().any(|age| *age > 1), "the budget was to be too small for all: {oldest:?}");
    assert!(oldest.values().all(|age| *age <= SECOND), "{oldest:?}");
}

#[test]
fn far_too_few_bytes_are_shared_by_all_in_turn() {
    // With the latter, headers alone would take all of them.
    for bytes_per_second in [8_000, 900] {
        shares_far_too_few(bytes_per_second);
    }
}

fn shares_far_too_few(bytes_per_second: u32) {
    let (mut world, mut peer) = tight(bytes_per_second);
    let mut updates = BTreeMap::<u32, u64>::new();
    for _ in 0..60 * SECOND {
        world.stir(|_| true);
        world.step();
        if let Some((snapshot, _)) = peer.exchange(&world) {
            for update in snapshot.cells.iter().filter(|update| update.slices == 0 || update.slice + 1 == update.slices)
            {
                *updates.entry(update.cell).or_default() += 1;
            }
        }
    }
    for key in 3..=5 {
        let count = updates.get(&world.cell(key).0).copied().unwrap_or(0);
        assert!(count >= 10, "cell {key} was updated {count} times in a minute");
    }
}

#[test]
fn who_goes_to_a_cell_that_has_not_entered_is_hidden_until_it_does_and_that_is_soon() {
    // 400 entities to the right, which take a while to enter.
    let mut world = World::new([4, 4].into_iter().chain([4; 10]).chain([5; 400]));
    world.dots.iter_mut().for_each(|(_, value)| *value = 1_000_000_000);
    let mut peer = Peer::new(ViewConfig { bytes_per_second: Some(20_000), ..config(1.0) });
    let mut entered_after = None;
    for tick in 1..=3 * SECOND {
        if tick == 10 {
            world.dots[1].0 = 5;
        }
        world.step();
        peer.exchange(&world);
        let has_entered = peer.holds(world.cell(5)) >= Some(Tick(10));
        // Dot 2 has left the own cell, which is always current, for one that the receiver knows nothing of.
        if tick > 12 {
            assert_eq!(peer.mirror.get(NetId(2)).is_some(), has_entered, "at tick {tick}");
        }
        if has_entered && entered_after.is_none() {
            entered_after = Some(tick);
        }
    }
    let entered_after = entered_after.expect("it enters");
    assert!((13..=SECOND).contains(&entered_after), "after {entered_after} ticks");
}

fn row(player: u32, kills: i32, version: Tick) -> RosterRow {
    let status = PlayerStatus::Connected;
    RosterRow {
        player: PlayerId(player),
        name: format!("player-{player}").into(),
        status,
        scores: vec![kills],
        version,
    }
}

#[test]
fn of_the_roster_a_stream_gets_each_change_once_however_late_it_comes() {
    let mut world = World::with([4], ReplicationConfig { roster_rows_per_snapshot: 7, ..ReplicationConfig::new(RATE) });
    let rows = (1..=100).map(|player| row(player, 0, Tick(1))).collect();
    world.roster = Arc::new(Roster { rows });
    let mut peers = [Peer::new(config(1.0)), Peer::new(config(1.0))];
    let mut received = [0; 2];
    for tick in 1..=900 {
        // A while without changes, longer than history; then a few at each tick, for some players again and again.
        if tick > 400 && tick <= 450 {
            let rows = &mut Arc::make_mut(&mut world.roster).rows;
            for player in [tick % 3, tick % 100] {
                rows[player as usize] = row(player + 1, tick as i32, Tick(u64::from(tick)));
            }
        }
        world.step();
        for (i, peer) in peers.iter_mut().enumerate() {
            // The second stream looks now and then.
            if i == 0 || tick % 11 == 0 {
                let (snapshot, _) = peer.exchange(&world).expect("credit is there");
                received[i] += snapshot.roster.len();
                assert!(snapshot.roster.len() <= 7);
            }
        }
    }
    for peer in &peers {
        let mirrored = peer.mirror.roster();
        assert_eq!(mirrored.len(), 100);
        for row in &world.roster.rows {
            assert_eq!(mirrored[&row.player].scores, row.scores, "of player {}", row.player);
        }
    }
    // At tick 400 the first of the two is also in the hundred: two rows are one there.
    let changes = (401..=450).map(|tick| if tick % 3 == tick % 100 { 1 } else { 2 }).sum::<usize>();
    assert_eq!(received[0], 100 + changes, "each change once");
    assert!(received[1] < received[0], "what changes again meanwhile is told once");
    assert_eq!(world.frame().seat(ME).map(|seat| seat.player), Some(ME));
}
