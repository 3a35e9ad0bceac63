//! What composing takes of memory: nothing at all in the steady state, little for each stream, and no more than a bound
//! whatever streams do.
//!
//! One test, so that nothing else in this process allocates while it measures.

#[allow(dead_code, reason = "each test needs its part of the crowd")]
mod crowd;

use std::{alloc::System, time::Duration};

use crowd::{Crowd, RATE, view};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tickwire_replication::{InputFeedback, Snapshot, View};

#[global_allocator]
static ALLOCATED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

struct Stream {
    view: View,
    snapshot: Snapshot,
}

impl Stream {
    fn new(player: u32) -> Self {
        Self { view: View::new(view(player)), snapshot: Snapshot::default() }
    }

    /// Composes and acknowledges. Bytes of the snapshot; none where there is no credit or budget.
    fn turn(&mut self, crowd: &Crowd, now: Duration) -> Option<usize> {
        let feedback = InputFeedback { received_input: 7, received_margin_us: -9, slip_us: 3 };
        if !self.view.compose_into(&crowd.replicator, feedback, now, &mut self.snapshot) {
            return None;
        }
        self.view.acknowledge(0, self.view.sent(), now).expect("it was sent");
        let bytes = self.snapshot.encoded_len();
        // As the server does once it is encoded.
        self.snapshot.clear();
        Some(bytes)
    }
}

fn now(tick: u64) -> Duration {
    RATE.duration_of(tick)
}

fn a_stream_allocates_nothing_where_another_has_encoded_and_the_first_nothing_where_nothing_changed() {
    let mut crowd = Crowd::new(400, 2);
    crowd.still = 2;
    let [mut first, mut second] = [Stream::new(1), Stream::new(2)];
    let region = Region::new(ALLOCATED);
    let (mut held, mut largest) = (0, 0);
    for tick in 1..=1200 {
        let is_quiet = tick > 1000;
        if is_quiet {
            crowd.still = 400;
        }
        crowd.step_and_publish();
        let before = region.change();
        let bytes_first = first.turn(&crowd, now(tick)).expect("there is room");
        let between = region.change();
        let bytes_second = second.turn(&crowd, now(tick)).expect("there is room");
        let change = region.change() - between;
        held += change.bytes_allocated as isize - change.bytes_deallocated as isize;
        // That all stop at once is no steady state.
        if tick > 600 && !(1000..=1060).contains(&tick) {
            assert_eq!((change.allocations, change.reallocations), (0, 0), "of {bytes_second} bytes at tick {tick}");
            largest = largest.max(bytes_second);
        }
        if tick > 1060 {
            let change = between - before;
            assert_eq!((change.allocations, change.reallocations), (0, 0), "of {bytes_first} bytes at tick {tick}");
        }
    }
    assert!(largest > 60, "walkers are in view");
    let all = held + size_of::<View>() as isize;
    assert!(all <= 5 << 10, "a stream of 25 cells holds {all} bytes, {} of them its view's own", size_of::<View>());
}

fn a_thousand_streams_of_a_thousand_paces_take_bounded_memory() {
    const STREAMS: usize = 1000;
    let mut crowd = Crowd::new(400, 2);
    let mut streams: Vec<Stream> = (0..STREAMS).map(|i| Stream::new(1 + i as u32 % 2)).collect();
    // All have joined; then each is served once in the history's ticks, so that hardly two share a base.
    for tick in 1..=60 {
        crowd.step_and_publish();
        for stream in &mut streams {
            stream.turn(&crowd, now(tick));
        }
    }
    for tick in 61..=300 {
        crowd.step_and_publish();
        for (i, stream) in streams.iter_mut().enumerate() {
            if i as u64 % 240 == tick % 240 {
                stream.turn(&crowd, now(tick));
            }
        }
    }
    crowd.step_and_publish();
    let region = Region::new(ALLOCATED);
    let bytes: usize = streams.iter_mut().filter_map(|stream| stream.turn(&crowd, now(301))).sum();
    let change = region.change();
    let held = change.bytes_allocated.saturating_sub(change.bytes_deallocated);
    let bound = crowd.replicator.config().memo_bytes_max + (1 << 20);
    assert!(bytes > STREAMS * 50, "{bytes} bytes in all");
    assert!(held <= bound, "{held} bytes are held of {bytes} sent");
    // What was encoded is shared by those of one base: far less is allocated than sent.
    assert!(change.bytes_allocated < 8 * bytes, "{} bytes allocated for {bytes} sent", change.bytes_allocated);
}

#[test]
fn composing_takes_no_memory_in_the_steady_state_and_a_bounded_amount_at_worst() {
    a_stream_allocates_nothing_where_another_has_encoded_and_the_first_nothing_where_nothing_changed();
    a_thousand_streams_of_a_thousand_paces_take_bounded_memory();
}
