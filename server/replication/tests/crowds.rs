//! Many streams over one session: from several threads at once, and as many to the square metre whatever their number.

#[allow(dead_code, reason = "each test needs its part of the crowd")]
mod crowd;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crowd::{Crowd, RATE, schema, view};
use prost::Message as _;
use tickwire_arena::Arena;
use tickwire_proto::v1 as pb;
use tickwire_replication::{
    InputFeedback, ReplicationConfig, Replicator, Snapshot, Turns, TurnsConfig, View, ViewConfig,
};
use tickwire_shared::{Frame, FrameBuilder};
use tickwire_wire::Mirror;

/// The bytes that one of `count` walkers gets in a tick, by the first hundred of them.
fn bytes_per_client_and_tick(count: usize) -> f64 {
    const STREAMS: u32 = 100;
    const TICKS: u64 = 240;
    let mut crowd = Crowd::new(count, 0);
    let mut views: Vec<View> = (1..=STREAMS).map(|player| View::new(view(player))).collect();
    let (mut snapshot, mut bytes) = (Snapshot::default(), 0);
    for tick in 1..=TICKS + 60 {
        crowd.step_and_publish();
        let now = RATE.duration_of(tick);
        for view in &mut views {
            assert!(view.compose_into(&crowd.replicator, InputFeedback::default(), now, &mut snapshot));
            view.acknowledge(0, view.sent(), now).expect("it was sent");
            bytes += if tick > 60 { snapshot.encoded_len() } else { 0 };
        }
    }
    bytes as f64 / (f64::from(STREAMS) * TICKS as f64)
}

#[test]
fn what_a_stream_gets_does_not_depend_on_how_many_play_beyond_its_view() {
    let [few, many] = [500, 2000].map(bytes_per_client_and_tick);
    assert!((few / many - 1.0).abs() < 0.1, "{few} bytes per client and tick in a crowd of 500, {many} in one of 2000");
}

/// Bytes per tick of one of a hundred walkers on so many stripes of a clean link, once all of them play; every tick must come,
/// and in order, as on a single stream.
fn bytes_on_stripes(count: usize) -> f64 {
    const TICKS: u64 = 600;
    const WAY: u64 = 3;
    let mut crowd = Crowd::new(100, 0);
    let bytes_per_second = Some(1 << 20);
    let config = TurnsConfig { tick_rate: RATE, ticks_per_snapshot: 1, copies: 1, bytes_per_second };
    let mut turns = Turns::new(config);
    let mut views: Vec<View> = (0..count).map(|_| View::new(view(1))).collect();
    views.iter().for_each(|_| assert!(turns.open(count).is_some()));
    let (mut snapshot, mut bytes, mut sent) = (Snapshot::default(), 0, Vec::new());
    for tick in 1..=TICKS + 120 {
        crowd.step_and_publish();
        let now = RATE.duration_of(tick);
        let arrived = |(at, _, _): &(u64, usize, _)| *at + 2 * WAY <= tick;
        for (_, stripe, newest) in sent.iter().filter(|sent| arrived(sent)) {
            views[*stripe].acknowledge_in_turn(&mut turns, *stripe, 0, *newest, now).expect("it was sent");
        }
        sent.retain(|sent| !arrived(sent));
        let mut times = 0;
        for (stripe, view) in views.iter_mut().enumerate() {
            let feedback = InputFeedback::default();
            if view.compose_in_turn(&mut turns, stripe, &crowd.replicator, feedback, now, &mut snapshot) {
                times += 1;
                sent.push((tick, stripe, snapshot.tick));
                bytes += if tick > 120 { snapshot.encoded_len() } else { 0 };
            }
        }
        assert!(tick <= 120 || times == 1, "tick {tick} was sent {times} times");
    }
    bytes as f64 / TICKS as f64
}

/// What a stripe's view requires: a stream of its own at its share of the rate.
fn bytes_of_shares(count: u32) -> f64 {
    let mut crowd = Crowd::new(100, 0);
    let share = ViewConfig { ticks_per_snapshot: count, ..view(1) };
    let (mut view, mut snapshot, mut bytes) = (View::new(share), Snapshot::default(), 0);
    for tick in 1..=720 {
        crowd.step_and_publish();
        let now = RATE.duration_of(tick);
        if view.compose_into(&crowd.replicator, InputFeedback::default(), now, &mut snapshot) {
            view.acknowledge(0, view.sent(), now).expect("it was sent");
            bytes += if tick > 120 { snapshot.encoded_len() } else { 0 };
        }
    }
    f64::from(count) * bytes as f64 / 600.0
}

#[test]
fn without_loss_stripes_cost_what_their_views_require_and_no_tick_comes_later() {
    let alone = bytes_on_stripes(1);
    for count in 2..=4 {
        let (stripes, required) = (bytes_on_stripes(count), bytes_of_shares(count as u32));
        assert!(stripes <= required * 1.1, "{count} stripes: {stripes} bytes per tick, their views need {required}");
        // A change is sent once on each, a header once in all.
        assert!(stripes <= alone * count as f64, "{count} stripes: {stripes} bytes per tick, one {alone}");
    }
}

#[test]
fn threads_may_compose_while_another_publishes() {
    let mut crowd = Crowd::new(120, 0);
    let frames: Vec<Arc<Frame>> = (0..300).map(|_| crowd.step()).collect();
    // Each update carries its cell's hash, which the mirror checks.
    let config = ReplicationConfig { hash_interval: 1, history_ticks: 40, ..ReplicationConfig::new(RATE) };
    let empty = Arc::clone(FrameBuilder::new(&schema(), 0).frame());
    let replicator = Replicator::new(Arc::new(Arena), &schema(), config, empty);
    let is_over = AtomicBool::new(false);

    let look = |thread: u32| {
        let streams = (1 + thread * 20..=20 + thread * 20).map(|player| {
            let unlimited = ViewConfig { bytes_per_second: None, ..view(player) };
            (View::new(unlimited), Mirror::new(schema()))
        });
        let mut streams: Vec<(View, Mirror)> = streams.collect();
        let (mut snapshot, mut bytes, mut turns) = (Snapshot::default(), Vec::new(), 0_u32);
        let mut last_turn = false;
        while !last_turn {
            last_turn = is_over.load(Ordering::Acquire);
            for (view, mirror) in &mut streams {
                turns += 1;
                let now = Duration::from_millis(u64::from(turns));
                if view.compose_into(&replicator, InputFeedback::default(), now, &mut snapshot) {
                    bytes.clear();
                    snapshot.encode(&mut bytes);
                    let message = pb::Snapshot::decode(bytes.as_slice()).expect("an ordinary message");
                    mirror.apply(0, &message).expect("an honest snapshot applies");
                    view.acknowledge(0, view.sent(), now).expect("it was sent");
                }
            }
        }
        streams
    };
    let seen: Vec<(View, Mirror)> = thread::scope(|scope| {
        let threads = [0, 1].map(|thread| scope.spawn(move || look(thread)));
        for frame in &frames {
            replicator.publish(Arc::clone(frame));
            thread::yield_now();
        }
        is_over.store(true, Ordering::Release);
        threads.into_iter().flat_map(|thread| thread.join().expect("no thread panics")).collect()
    });
    assert!(seen.iter().all(|(view, mirror)| view.sent().0 == 300 && mirror.tick().0 == 300));
    assert!(seen.iter().any(|(_, mirror)| mirror.shown_count() > 20));
}
