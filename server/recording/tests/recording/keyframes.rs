//! Keyframes in recordings: a replay begins at any tick, and is the one that began at the first.

use std::{cell::Cell, path::Path, sync::Arc};

use tickwire_recording::{
    EndReason, Layout, RecordedTick, Recorder, RecorderOptions, Recording, RecordingMeta, RecordingState, Replay,
    ReplayError, finished_path, live_path, repair, verify,
};
use tickwire_shared::{Game, Tick, TickRate};
use tickwire_simulation::Session;

use crate::game::{Dots, Match, created, input, play_match, play_match_with_keyframes, session};

fn dots() -> Arc<dyn Game> {
    Arc::new(Dots::default())
}

/// What a replay yields from some tick on: the state hash of each.
fn hashes(replay: Replay) -> Vec<(u64, u64)> {
    let tick = |tick: Result<tickwire_recording::ReplayedTick, ReplayError>| {
        let tick = tick.expect("it goes on");
        assert!(tick.divergence.is_none());
        let output = tick.outcome.expect("the dots are sound");
        (output.frame.tick.0, output.frame.state_hash)
    };
    replay.map(tick).collect()
}

/// That a replay at any tick is the same as one from the first.
fn assert_seeks(recording: &Recording, ticks: u64) {
    let all = hashes(Replay::new(recording, dots()).expect("the same game"));
    assert_eq!(all.len() as u64, ticks);
    for tick in [0, 1, 9, 10, 11, 59, 60, 61, 99, 100, 101, ticks - 1, ticks].into_iter().filter(|tick| *tick <= ticks)
    {
        let replay = Replay::at(recording, dots(), Tick(tick)).expect("within the recording");
        assert_eq!(replay.session().tick(), Tick(tick));
        if let Some((_, hash)) = tick.checked_sub(1).map(|before| all[before as usize]) {
            assert_eq!(replay.session().frame().state_hash, hash);
        }
        assert_eq!(hashes(replay), all[tick as usize..]);
    }
}

#[test]
fn a_replay_begins_at_any_tick() {
    for (ticks, every) in [(150, 10), (150, 60), (150, 7), (130, 1)] {
        let played = play_match_with_keyframes(ticks, every);
        for layout in [Layout::Live, Layout::Finished] {
            let recording = Recording::from_bytes(played.bytes(layout)).expect("a recording");
            assert_eq!(verify(&recording, dots()).expect("the same match").ticks, ticks);
            assert_seeks(&recording, ticks);
        }
    }
}

#[test]
fn a_replay_begins_at_any_tick_of_a_recording_without_keyframes_too() {
    assert_seeks(&play_match(150).recording(), 150);
}

fn keyframes_of(played: &Match, layout: Layout) -> u64 {
    Recording::from_bytes(played.bytes(layout)).expect("a recording").summary().keyframes
}

#[test]
fn a_summary_counts_keyframes() {
    let played = play_match_with_keyframes(150, 20);
    assert_eq!([Layout::Live, Layout::Finished].map(|layout| keyframes_of(&played, layout)), [7, 7]);
    assert_eq!(keyframes_of(&play_match(150), Layout::Finished), 0);
}

/// How many ticks a replay at a tick has to play before it is there.
fn played_to(recording: &Recording, tick: u64, game: Dots) -> u64 {
    let replay = Replay::at(recording, Arc::new(game), Tick(tick)).expect("within the recording");
    // Of the ticks that it has not played it has not read the inputs either, so that all of them are fewer.
    tick - replay.begun_at().0
}

#[test]
fn the_newest_keyframe_is_taken() {
    let recording = play_match_with_keyframes(150, 20).recording();
    let at = |tick| played_to(&recording, tick, Dots::default());
    assert_eq!([at(19), at(20), at(21), at(39), at(40), at(149)], [19, 0, 1, 19, 0, 9]);
}

#[test]
fn on_the_way_to_a_tick_a_replay_can_be_stopped() {
    let recording = play_match_with_keyframes(150, 20).recording();
    let asked = Cell::new(0);
    let stop = || asked.replace(asked.get() + 1) == 5;
    let stopped = Replay::at_unless(&recording, dots(), Tick(149), stop).expect_err("it was told to stop");
    assert!(matches!(stopped, ReplayError::Stopped { at: Tick(145), of: Tick(149) }), "{stopped}");
}

#[test]
fn a_keyframe_that_is_damaged_is_passed_over_for_an_older_one() {
    let played = play_match_with_keyframes(150, 20);
    let mut bytes = played.bytes(Layout::Live);
    let data = played.keyframes[2].data();
    let place = bytes.windows(data.len()).position(|window| window == data).expect("it is in there");
    bytes[place + data.len() / 2] ^= 4;
    let recording = Recording::from_bytes(bytes).expect("a recording");
    assert_eq!((recording.scan().passed_over, recording.scan().keyframes), (1, 6));
    // Nothing else hangs on it.
    assert_eq!(verify(&recording, dots()).expect("the same match").ticks, 150);
    assert_seeks(&recording, 150);
    assert_eq!([59, 60, 79, 80].map(|tick| played_to(&recording, tick, Dots::default())), [19, 20, 39, 0]);
}

#[test]
fn a_keyframe_that_is_not_of_its_tick_is_passed_over() {
    let mut played = play_match_with_keyframes(150, 20);
    // A sound one, of a match in which something else has happened.
    let mut other = play_match_with_keyframes(150, 20).keyframes.remove(1);
    other.tick = Tick(60);
    played.keyframes[2] = other;
    let recording = played.recording();
    assert_eq!([60, 80].map(|tick| played_to(&recording, tick, Dots::default())), [20, 0]);
}

#[test]
fn a_build_that_saves_other_things_begins_at_the_first_tick() {
    let recording = play_match_with_keyframes(150, 20).recording();
    let forgetful = Dots { forgetful: true, ..Dots::default() };
    assert_eq!(played_to(&recording, 100, forgetful), 100);
    let Err(error) = Replay::at(&recording, Arc::new(Dots { version: 9, ..Dots::default() }), Tick(100)) else {
        panic!("another version's recording is not played")
    };
    assert!(matches!(error, ReplayError::Schema { .. }), "{error}");
}

#[test]
fn beyond_the_end_there_is_no_tick() {
    let recording = play_match_with_keyframes(50, 20).recording();
    let Err(error) = Replay::at(&recording, dots(), Tick(51)) else { panic!("there are 50 ticks") };
    assert_eq!(error.to_string(), "there is no tick 51: the recording ends with tick 50");
}

#[test]
fn what_is_cut_off_is_sought_as_far_as_it_can_be_read() {
    for layout in [Layout::Live, Layout::Finished] {
        let mut bytes = play_match_with_keyframes(1000, 20).bytes(layout);
        bytes.truncate(bytes.len() * 2 / 3);
        let recording = Recording::from_bytes(bytes).expect("a recording");
        let whole =
            recording.ticks().expect("ticks").filter(|tick| tick.as_ref().is_ok_and(|tick| tick.result.is_some()));
        let whole = whole.count() as u64;
        assert!((60..1000).contains(&whole), "{whole}");
        // The keyframe of the last whole tick may be among what is cut off.
        assert!(played_to(&recording, whole, Dots::default()) <= 20);
    }
}

fn start(directory: &Path) -> (Session, Recorder) {
    let session = session();
    let meta = RecordingMeta::of(&session, "sessions/dots-1", created());
    // Stepped faster than any disk, it is not behind.
    let options = RecorderOptions { keyframe_ticks: 30, behind_ticks: 1000, ..RecorderOptions::at(TickRate::DEFAULT) };
    (session, Recorder::start(directory, "dots-1", &meta, options).expect("a recorder"))
}

fn tick(session: &mut Session, recorder: &mut Recorder) {
    let record = Arc::new(session.begin_tick());
    recorder.tick_input(Arc::clone(&record));
    let output = session.finish_tick(&record).expect("the dots are sound");
    recorder.tick_result(output.result);
    if recorder.wants_keyframe() {
        recorder.keyframe(session.keyframe().expect("the dots can be saved"));
    }
}

/// Half a minute of a session that is idle, has a player for a while, and is idle again: its recording, and where it was.
fn record(directory: &Path) -> (Session, Recorder) {
    let (mut session, mut recorder) = start(directory);
    (0..200).for_each(|_| tick(&mut session, &mut recorder));
    let ada = session.join("Ada").expect("a free seat");
    for _ in 0..100 {
        let now = session.tick().0;
        let sent = input(&session, now + 1, now + 1, &[8, 0]);
        session.input(ada, sent);
        tick(&mut session, &mut recorder);
    }
    session.leave(ada);
    (0..300).for_each(|_| tick(&mut session, &mut recorder));
    (session, recorder)
}

#[test]
fn a_recorder_asks_for_keyframes_while_something_happens() {
    let directory = tempfile::tempdir().expect("a directory");
    let (session, recorder) = record(directory.path());
    let closed = recorder.close(EndReason::Shutdown);
    assert_eq!(closed.problem, None);
    let recording = Recording::open(&closed.path).expect("a recording");
    let summary = recording.summary();
    assert_eq!((summary.ticks, summary.state), (600, RecordingState::Complete(EndReason::Shutdown)));
    // After ticks 30 (what was set up), 201 (the join), 210, 240, 270, 300, and 330 (the leave).
    assert_eq!(summary.keyframes, 7);
    assert_eq!(
        [29, 200, 209, 239, 300, 600].map(|tick| played_to(&recording, tick, Dots::default())),
        [29, 170, 8, 29, 0, 270]
    );
    let replay = Replay::at(&recording, dots(), Tick(600)).expect("within the recording");
    assert_eq!(replay.session().frame().state_hash, session.frame().state_hash);
}

#[test]
fn repair_keeps_the_keyframes_of_what_a_killed_server_left() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_, recorder) = record(directory.path());
    drop(recorder);
    let live = Recording::open(live_path(directory.path(), "dots-1")).expect("a recording");
    let whole =
        live.ticks().expect("ticks").filter_map(Result::ok).filter(|RecordedTick { result, .. }| result.is_some());
    let whole = whole.count() as u64;
    assert!(whole >= 599, "{whole}");
    assert_eq!(played_to(&live, 305, Dots::default()), 5);
    let repaired = repair(live_path(directory.path(), "dots-1")).expect("a repair");
    assert_eq!(repaired.path, finished_path(directory.path(), "dots-1"));
    let finished = Recording::open(&repaired.path).expect("a recording");
    assert_eq!((finished.summary().keyframes, finished.summary().ticks), (7, whole));
    assert_eq!(played_to(&finished, 305, Dots::default()), 5);
}
