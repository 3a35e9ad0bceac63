//! A session with its recorder.

use std::{path::Path, sync::Arc};

use tickwire_recording::{
    EndReason, Recorder, RecorderOptions, Recording, RecordingError, RecordingMeta, RecordingState, finished_path,
    list, live_path, repair, verify,
};
use tickwire_shared::TickRate;
use tickwire_simulation::Session;

use crate::game::{Dots, created, input, session};

fn start(directory: &Path) -> (Session, Recorder) {
    let mut session = session();
    let meta = RecordingMeta::of(&session, "sessions/dots-1", created());
    let recorder = Recorder::start(directory, "dots-1", &meta, RecorderOptions::at(TickRate::DEFAULT));
    session.join("Ada").expect("a free seat");
    (session, recorder.expect("a recorder"))
}

fn tick(session: &mut Session, recorder: &mut Recorder) {
    let record = Arc::new(session.begin_tick());
    recorder.tick_input(Arc::clone(&record));
    let output = session.finish_tick(&record).expect("the dots are sound");
    recorder.tick_result(output.result);
}

#[test]
fn a_recorded_session_is_closed_and_replays() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut session, mut recorder) = start(&directory.path().join("recordings"));
    (0..300).for_each(|_| tick(&mut session, &mut recorder));
    let closed = recorder.close(EndReason::Shutdown);
    assert_eq!((closed.problem, closed.end.ticks_missing, closed.end.tick), (None, 0, session.tick()));
    assert_eq!(closed.path, finished_path(&directory.path().join("recordings"), "dots-1"));
    let recording = Recording::open(&closed.path).expect("a recording");
    assert_eq!(recording.summary().state, RecordingState::Complete(EndReason::Shutdown));
    assert_eq!(verify(&recording, Arc::new(Dots::default())).expect("the same match").ticks, 300);
    assert_eq!(list(directory.path().join("recordings")).expect("a directory").len(), 1);
}

#[test]
fn a_panic_is_recorded_with_its_cause() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut session, mut recorder) = start(directory.path());
    (0..10).for_each(|_| tick(&mut session, &mut recorder));
    let broken = input(&session, 1, 11, &[0, 0, 1]);
    session.input(tickwire_shared::PlayerId(1), broken);
    let record = Arc::new(session.begin_tick());
    recorder.tick_input(Arc::clone(&record));
    let panic = session.finish_tick(&record).expect_err("it must break");
    let closed = recorder.close(EndReason::Failed { message: panic.message.clone() });
    assert_eq!((closed.problem, closed.end.ticks_missing), (None, 0));
    let recording = Recording::open(&closed.path).expect("a recording");
    let verified = verify(&recording, Arc::new(Dots::default())).expect("the same panic");
    assert_eq!((verified.ticks, verified.panic), (10, Some(panic)));
}

#[test]
fn a_recording_in_use_is_left_alone_and_one_that_was_dropped_is_repaired() {
    let directory = tempfile::tempdir().expect("a directory");
    let live = live_path(directory.path(), "dots-1");
    let (mut session, mut recorder) = start(directory.path());
    (0..70).for_each(|_| tick(&mut session, &mut recorder));
    assert_eq!(recorder.path(), live);
    assert!(matches!(repair(&live), Err(RecordingError::InUse { .. })));
    let listed = list(directory.path()).expect("a directory");
    assert_eq!(listed[0].summary.as_ref().expect("a header").state, RecordingState::Live);

    drop(recorder);
    let listed = list(directory.path()).expect("a directory");
    assert_eq!(listed[0].summary.as_ref().expect("a header").state, RecordingState::Unfinished);
    let repaired = repair(&live).expect("a repair");
    assert_eq!((repaired.ticks, repaired.lost.is_none()), (70, true));
    let recording = Recording::open(&repaired.path).expect("a recording");
    assert_eq!(verify(&recording, Arc::new(Dots::default())).expect("the same match").ticks, 70);
}

#[test]
fn no_recording_is_written_over_another() {
    let directory = tempfile::tempdir().expect("a directory");
    let meta = RecordingMeta::of(&session(), "sessions/dots-1", created());
    let start = || Recorder::start(directory.path(), "dots-1", &meta, RecorderOptions::at(TickRate::DEFAULT));
    let first = start().expect("a recorder");
    let error = start().map(drop).expect_err("a live one is there");
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    let closed = first.close(EndReason::Ended { result_json: String::new() });
    assert_eq!(closed.problem, None);
    let error = start().map(drop).expect_err("a finished one is there");
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
}
