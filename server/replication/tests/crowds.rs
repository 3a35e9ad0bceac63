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
use tickwire_replication::{InputFeedback, ReplicationConfig, Replicator, Snapshot, View, ViewConfig};
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
