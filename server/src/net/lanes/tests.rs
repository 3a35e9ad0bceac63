//! Whatever comes in whatever pieces: what HTTP/2 is told, what lanes carry, and windows that add up.

use proptest::{collection::vec, prelude::*};

use super::{
    super::frames::{
        ACK, CONTINUATION, END_HEADERS, END_STREAM, HEAD_BYTES, HEADERS, PADDED, RST_STREAM, SETTINGS, WINDOW_UPDATE,
        u31,
    },
    receiving::YOUNG_MAX,
    windows::{SETTING_FRAME_BYTES_MAX, SETTING_INITIAL_WINDOW, WINDOW_BYTES_MAX},
    *,
};

const STREAM: u32 = 5;
const CALLS: Calls = Calls::stream(0);
const PING: u8 = 6;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    [&Head { length: payload.len(), kind, flags, stream }.bytes()[..], payload].concat()
}

fn setting(number: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&number.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

fn take_for_http(lanes: &mut Lanes) -> Vec<u8> {
    let bytes = lanes.for_http().to_vec();
    lanes.http_has_read(bytes.len());
    lanes.http_waits();
    bytes
}

fn taken_in(lanes: &mut Lanes) -> (Vec<u8>, Incoming) {
    let mut bytes = Vec::new();
    loop {
        match lanes.take_in(STREAM, &mut bytes) {
            Incoming::Bytes => {}
            last => return (bytes, last),
        }
    }
}

fn pumped(lanes: &mut Lanes) -> Vec<u8> {
    let mut out = Vec::new();
    lanes.pump(&mut out);
    out
}

/// A lane whose connection has a window of `pool` bytes beyond the first 65,535.
fn opened(pool: u32) -> Lanes {
    let mut lanes = Lanes::new();
    let said = [vec![7; PREFACE_BYTES], frame(HEADERS, END_HEADERS, STREAM, b"post")].concat();
    lanes.receive(&said).expect("within the rules");
    lanes.receive(&window_update(0, pool)).expect("within the rules");
    assert_eq!(take_for_http(&mut lanes), said, "its own window is all that HTTP/2 has");
    assert!(lanes.register(STREAM, CALLS));
    assert!(lanes.open(STREAM));
    lanes.take_calls();
    lanes
}

#[derive(Clone, Debug)]
enum Sent {
    Lane(Vec<u8>),
    Padded(Vec<u8>, u8),
    Empty,
    Other(Vec<u8>),
    Ping,
    Window(u32, u32),
}

fn sent() -> impl Strategy<Value = Sent> {
    let bytes = || vec(any::<u8>(), 1..50);
    prop_oneof![
        4 => bytes().prop_map(Sent::Lane),
        1 => (bytes(), any::<u8>()).prop_map(|(bytes, padding)| Sent::Padded(bytes, padding)),
        1 => Just(Sent::Empty),
        1 => bytes().prop_map(Sent::Other),
        1 => Just(Sent::Ping),
        2 => (prop_oneof![Just(0), Just(3), Just(STREAM)], 1..1000_u32).prop_map(|(stream, by)| Sent::Window(stream, by)),
    ]
}

proptest! {
    #[test]
    fn each_gets_its_own_however_it_is_cut(sent in vec(sent(), 0..20), cuts in vec(1..40_usize, 1..20), ends: bool) {
        let (mut bytes, mut of_lane, mut of_http) = (Vec::new(), Vec::new(), Vec::new());
        for sent in sent {
            let (frame, is_http) = match sent {
                Sent::Lane(payload) => {
                    of_lane.extend_from_slice(&payload);
                    (frame(DATA, 0, STREAM, &payload), false)
                }
                Sent::Padded(payload, padding) => {
                    of_lane.extend_from_slice(&payload);
                    let padded = [&[padding], &payload[..], &vec![0; padding.into()]].concat();
                    (frame(DATA, PADDED, STREAM, &padded), false)
                }
                Sent::Empty => (frame(DATA, 0, STREAM, &[]), true),
                Sent::Other(payload) => (frame(DATA, 0, 3, &payload), true),
                Sent::Ping => (frame(PING, 0, 0, &[1; 8]), true),
                Sent::Window(stream, by) => (window_update(stream, by).to_vec(), stream == 3),
            };
            if is_http {
                of_http.extend_from_slice(&frame);
            }
            bytes.extend(frame);
        }
        if ends {
            bytes.extend(frame(DATA, END_STREAM, STREAM, b"last"));
            of_lane.extend(b"last");
            of_http.extend(frame(DATA, END_STREAM, STREAM, &[]));
        }
        let mut lanes = opened(1 << 20);
        let (mut at, mut cuts) = (0, cuts.into_iter().cycle());
        while at < bytes.len() {
            let end = (at + cuts.next().expect("endless")).min(bytes.len());
            prop_assert_eq!(lanes.receive(&bytes[at..end]), Ok(()));
            at = end;
        }
        let last = if ends { Incoming::Closed } else { Incoming::Nothing };
        prop_assert_eq!(taken_in(&mut lanes), (of_lane, last));
        prop_assert_eq!(take_for_http(&mut lanes), of_http);
    }

    #[test]
    fn a_message_goes_out_whole_and_never_beyond_a_window(
        length in 0..60_000_usize, stream_window in 0..2000_u32, updates in vec((prop::bool::ANY, 1..9000_u32), 0..40),
    ) {
        let mut lanes = opened(1 << 20);
        lanes.receive(&setting(SETTING_INITIAL_WINDOW, stream_window)).expect("within the rules");
        lanes.pool = 1000;
        let (mut left, mut pool) = (i64::from(stream_window), 1000);
        let message: Vec<u8> = (0..length).map(|i| i as u8).collect();
        lanes.keep(STREAM, &message);
        let mut received = Vec::new();
        for (of_stream, by) in updates.into_iter().chain([(true, 60_000), (false, 60_000)]) {
            lanes.receive(&window_update(if of_stream { STREAM } else { 0 }, by)).expect("within the rules");
            *(if of_stream { &mut left } else { &mut pool }) += i64::from(by);
            let out = pumped(&mut lanes);
            let mut out = &out[..];
            while let Some((head, rest)) = out.split_first_chunk() {
                let head = Head::parse(head);
                prop_assert_eq!((head.kind, head.flags, head.stream), (DATA, 0, STREAM));
                prop_assert!((1..=FRAME_BYTES_MIN).contains(&head.length));
                received.extend_from_slice(&rest[..head.length]);
                left -= head.length as i64;
                pool -= head.length as i64;
                out = &rest[head.length..];
            }
            prop_assert!(left >= 0 && pool >= 0);
        }
        prop_assert_eq!(received, message);
        prop_assert!(!lanes.has_kept());
    }
}

#[test]
fn a_lane_opens_between_frames_once_http2_has_done_all_that_it_was_told() {
    let mut lanes = opened(1 << 20);
    lanes.receive(&frame(HEADERS, END_HEADERS, 7, b"post")).expect("within the rules");
    assert!(lanes.register(7, CALLS) && !lanes.open(7), "HTTP/2 has not read it");
    take_for_http(&mut lanes);
    lanes.receive(&frame(DATA, 0, 7, b"hello")[..11]).expect("within the rules");
    take_for_http(&mut lanes);
    assert!(!lanes.open(7), "in the midst of a frame");
    lanes.receive(b"llo").expect("within the rules");
    take_for_http(&mut lanes);
    assert!(lanes.open(7) && !lanes.open(9) && !lanes.register(9, CALLS), "nobody knows of 9");

    let mut lanes = opened(POOL_BYTES_MIN as u32);
    lanes.pay(STREAM, 1);
    lanes.receive(&frame(HEADERS, END_HEADERS, 7, b"post")).expect("within the rules");
    take_for_http(&mut lanes);
    assert!(lanes.register(7, CALLS) && !lanes.open(7), "the connection's window is too small");
}

#[test]
fn windows_that_were_opened_before_a_stream_was_known_count() {
    let mut lanes = opened(1 << 20);
    lanes.receive(&setting(SETTING_INITIAL_WINDOW, 10)).expect("within the rules");
    lanes.receive(&frame(HEADERS, END_HEADERS, 7, b"post")).expect("within the rules");
    lanes.receive(&window_update(7, 90)).expect("within the rules");
    assert!(lanes.register(7, CALLS));
    lanes.http_sends(Head { length: 30, kind: DATA, flags: 0, stream: 7 });
    take_for_http(&mut lanes);
    assert!(lanes.open(7));
    assert!(
        !lanes.pay(7, 71) && lanes.pay(7, 70) && !lanes.has_room(7) && lanes.has_room(STREAM) == lanes.pay(STREAM, 10)
    );
}

#[test]
fn settings_that_raise_a_limit_count_once_they_are_acknowledged() {
    let acknowledgement = Head { length: 0, kind: SETTINGS, flags: ACK, stream: 0 };
    let mut lanes = opened(1 << 20);
    lanes.receive(&setting(SETTING_INITIAL_WINDOW, 100)).expect("within the rules");
    lanes.http_sends(acknowledgement);
    lanes.receive(&setting(SETTING_INITIAL_WINDOW, 70_000)).expect("within the rules");
    lanes.receive(&setting(SETTING_FRAME_BYTES_MAX, 20_000)).expect("within the rules");
    lanes.receive(&setting(SETTING_INITIAL_WINDOW, 50_000)).expect("within the rules");
    lanes.take_calls();
    for _ in 0..3 {
        assert_eq!((lanes.initial_window, lanes.frame_bytes_max), (100, FRAME_BYTES_MIN));
        assert!(!lanes.take_calls().has(Calls::SOCKET));
        lanes.http_sends(acknowledgement);
    }
    assert_eq!((lanes.initial_window, lanes.frame_bytes_max), (50_000, 20_000));
    assert!(lanes.take_calls().has(Calls::SOCKET), "it sends what waited for that");
    lanes.receive(&setting(SETTING_INITIAL_WINDOW, 10)).expect("within the rules");
    assert_eq!(lanes.initial_window, 10, "what is lowered counts at once");
}

#[test]
fn the_oldest_streams_that_nobody_has_named_are_forgotten_first() {
    let mut lanes = opened(1 << 20);
    let begin = |lanes: &mut Lanes, stream| {
        lanes.receive(&frame(HEADERS, END_HEADERS, stream, b"post")).expect("within the rules");
    };
    let streams: Vec<u32> = (0..YOUNG_MAX as u32).map(|number| 7 + 2 * number).collect();
    streams.iter().for_each(|stream| begin(&mut lanes, *stream));
    assert!(lanes.register(streams[0], CALLS));
    (0..2).for_each(|number| begin(&mut lanes, 1001 + 2 * number));
    assert!(!lanes.register(streams[1], CALLS), "the oldest");
    assert!(lanes.register(streams[YOUNG_MAX - 1], CALLS));
}

#[test]
fn http2_gets_back_what_it_sent_as_long_as_there_is_any() {
    let mut lanes = opened(80_000);
    let data = |length| Head { length, kind: DATA, flags: 0, stream: 3 };
    lanes.http_sends(data(16_000));
    assert!(take_for_http(&mut lanes).is_empty());
    lanes.http_sends(data(384));
    assert_eq!(take_for_http(&mut lanes), window_update(0, 16_384));
    assert!(lanes.take_calls().has(Calls::HTTP));
    for _ in 0..5 {
        lanes.http_sends(data(16_384));
    }
    // 80,000 in all: what the pool has not is owed until the client gives more.
    take_for_http(&mut lanes);
    assert_eq!(lanes.pool + 65_535 - lanes.owed, 80_000 + 65_535 - 6 * 16_384);
    lanes.receive(&window_update(0, 60_000)).expect("within the rules");
    assert_eq!(lanes.owed, 0);
}

#[test]
fn the_widest_window_may_be_filled_up_again() {
    let widest = (WINDOW_BYTES_MAX - WINDOW_BYTES) as u32;
    let mut lanes = opened(widest);
    lanes.http_sends(Head { length: 10, kind: DATA, flags: 0, stream: 3 });
    assert_eq!(lanes.receive(&window_update(0, 10)), Ok(()));
    assert_eq!(take_for_http(&mut lanes), window_update(0, 10));
    assert_eq!(lanes.receive(&window_update(0, 1)), Err(FlowControlError));
}

#[test]
fn clients_get_their_windows_back() {
    let mut lanes = opened(1 << 20);
    lanes.receive(&frame(DATA, 0, STREAM, &[1; 16_000])).expect("within its window");
    taken_in(&mut lanes);
    assert!(pumped(&mut lanes).is_empty());
    lanes.receive(&frame(DATA, 0, STREAM, &[1; 400])).expect("within its window");
    taken_in(&mut lanes);
    assert_eq!(pumped(&mut lanes), [window_update(0, 16_400), window_update(STREAM, 16_400)].concat());
    lanes.deafen(STREAM);
    lanes.receive(&frame(DATA, 0, STREAM, &[1; 16_384])).expect("within its window");
    assert_eq!(pumped(&mut lanes), [window_update(0, 16_384), window_update(STREAM, 16_384)].concat());
}

#[test]
fn the_rest_of_a_frame_whose_stream_has_ended_is_given_back_to_the_connection() {
    let mut lanes = opened(1 << 20);
    let data = frame(DATA, 0, STREAM, &[1; 16_384]);
    lanes.receive(&data[..100]).expect("within its window");
    lanes.forget(STREAM);
    lanes.receive(&data[100..]).expect("within its window");
    assert_eq!(pumped(&mut lanes), window_update(0, 16_384));
}

#[test]
fn many_lanes_in_lockstep_never_use_up_the_window_of_their_connection() {
    let mut lanes = opened(1 << 20);
    let streams: Vec<u32> = (0..70).map(|number| 7 + 2 * number).collect();
    for stream in &streams {
        lanes.receive(&frame(HEADERS, END_HEADERS, *stream, b"post")).expect("within the rules");
        take_for_http(&mut lanes);
        assert!(lanes.register(*stream, CALLS) && lanes.open(*stream));
    }
    let (mut taken, mut given, mut bytes) = (0, 0, Vec::new());
    for _ in 0..UNREPORTED_BYTES_MAX / 1000 {
        for stream in &streams {
            lanes.receive(&frame(DATA, 0, *stream, &[1; 1000])).expect("within its window");
            taken += 1000;
            while lanes.take_in(*stream, &mut bytes) == Incoming::Bytes {
                bytes.clear();
            }
        }
        for update in pumped(&mut lanes).chunks_exact(HEAD_BYTES + 4) {
            let (head, increment) = update.split_first_chunk().expect("a window update");
            assert_eq!(Head::parse(head), Head { length: 4, kind: WINDOW_UPDATE, flags: 0, stream: 0 });
            given += u31(increment.try_into().expect("it has four bytes")) as usize;
        }
        assert!(taken - given < UNREPORTED_BYTES_MAX, "{given} of {taken}");
    }
    assert!(taken > 1 << 20, "more than the window holds");
}

#[test]
fn who_has_sent_all_does_not_wait_for_another_lane() {
    const OTHER: u32 = 7;
    let mut lanes = opened(1 << 20);
    lanes.receive(&frame(HEADERS, END_HEADERS, OTHER, b"post")).expect("within the rules");
    take_for_http(&mut lanes);
    assert!(lanes.register(OTHER, Calls::stream(1)) && lanes.open(OTHER));
    lanes.keep(STREAM, &vec![1; 65_536]);
    lanes.note_pending(OTHER);
    assert!(!pumped(&mut lanes).is_empty());
    assert!(!lanes.has_sent_all(STREAM) && !lanes.has_sent_all(OTHER));
    lanes.await_room(OTHER);
    lanes.note_written();
    assert!(lanes.take_calls().has(Calls::stream(1)));
    assert!(lanes.has_kept() && !lanes.has_sent_all(STREAM), "its window was too small");
    assert!(lanes.has_sent_all(OTHER));
}

#[test]
fn who_does_not_keep_to_flow_control_is_found_out() {
    let mut lanes = opened(1 << 20);
    let data = frame(DATA, 0, STREAM, &[1; 16_384]);
    (0..4).for_each(|_| lanes.receive(&data).expect("within its window"));
    assert_eq!(lanes.receive(&data), Err(FlowControlError));
    for stream in [0, STREAM] {
        assert_eq!(opened(1 << 20).receive(&window_update(stream, u32::MAX >> 1)), Err(FlowControlError));
    }
}

#[test]
fn what_ends_a_stream_goes_to_http2_and_what_comes_after_it_too() {
    for end in [frame(RST_STREAM, 0, STREAM, &[0; 4]), frame(HEADERS, END_HEADERS | END_STREAM, STREAM, b"trailers")] {
        let mut lanes = opened(1 << 20);
        let after = frame(DATA, 0, STREAM, b"late");
        lanes.receive(&frame(DATA, 0, STREAM, b"in time")).expect("within the rules");
        lanes.receive(&[&end[..], &after].concat()).expect("HTTP/2 judges it");
        assert!(lanes.take_calls().has(CALLS));
        assert_eq!(taken_in(&mut lanes), (b"in time".to_vec(), Incoming::Closed));
        assert_eq!(take_for_http(&mut lanes), [end, after].concat());
    }
}

#[test]
fn nothing_is_taken_out_of_the_midst_of_headers() {
    let mut lanes = opened(1 << 20);
    let bytes = [frame(HEADERS, 0, 7, b"po"), frame(DATA, 0, STREAM, b"x"), window_update(0, 9).to_vec()].concat();
    lanes.receive(&bytes).expect("HTTP/2 judges it");
    assert_eq!(take_for_http(&mut lanes), bytes);
    lanes.receive(&frame(CONTINUATION, END_HEADERS, 7, b"st")).expect("HTTP/2 judges it");
    lanes.receive(&frame(DATA, 0, STREAM, b"y")).expect("within the rules");
    assert_eq!(taken_in(&mut lanes).0, b"y");
}
