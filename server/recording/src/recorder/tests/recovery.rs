//! Going on with a recording on a disk that dies on the way.

use std::sync::atomic::{AtomicBool, AtomicU64};

use tickwire_shared::PlayerId;

use super::{chat::lines, segments::token, *};
use crate::{
    Layout, Recovery, RecoveryOptions, Unfinished, format,
    storage::{FileSystem, Storage},
};

/// What a kill leaves of a match: a tick without a result, and half a record.
fn left() -> tempfile::TempDir {
    let mut scene = Scene::new(OPTIONS);
    scene.paced_ticks(12);
    let input = Arc::new(scene.session.begin_tick());
    scene.recorder.tick_input(input);
    scene.settle();
    let live = scene.live();
    let Scene { directory, recorder, .. } = scene;
    drop(recorder);
    let mut bytes = fs::read(&live).expect("it is there");
    bytes.extend_from_slice(&[5, 40, 0, 0]);
    fs::write(&live, bytes).expect("a disk");
    directory
}

/// As a server that starts: as far as the disk lets it.
fn go_on(storage: Arc<dyn Storage>, recorders: &Recorders, live: &Path) -> Result<(Session, Recorder), String> {
    let unfinished = Unfinished::on(storage, live).map_err(|error| error.to_string())?;
    let (stop, ticks_done) = (AtomicBool::new(false), AtomicU64::new(0));
    let options =
        RecoveryOptions { grace_ticks: 60, now: SystemTime::UNIX_EPOCH, stop: &stop, ticks_done: &ticks_done };
    match unfinished.recover(Arc::new(NOTHING), options) {
        Ok(Recovery::GoesOn(resumable)) => recorders.resume(*resumable, OPTIONS).map_err(|error| error.to_string()),
        Ok(Recovery::Over { end, .. }) => panic!("{end:?}"),
        Err((error, _)) => Err(error.to_string()),
    }
}

#[test]
fn wherever_a_recovery_dies_the_next_one_goes_on() {
    let mut died = 0;
    loop {
        let directory = left();
        let live = files::live_path(directory.path(), "nothing");
        let disk = Troubled::new();
        disk.die_after(died);
        let dead = go_on(Arc::clone(&disk) as _, &recorders(&disk, 1), &live);
        let is_done = dead.is_ok();
        // The process is gone, and its locks.
        drop(dead);

        let recorders = Recorders::new();
        let (mut session, mut recorder) = go_on(Arc::new(FileSystem), &recorders, &live).expect("a sound disk");
        assert_eq!(session.tick(), Tick(13), "after {died} steps");
        // Where the first one had said its own, that is another's.
        let epoch = session.frame().epoch;
        assert!(epoch == 2 || (epoch == 1 && !is_done), "epoch {epoch} after {died} steps");
        for _ in 0..5 {
            let input = Arc::new(session.begin_tick());
            recorder.tick_input(Arc::clone(&input));
            recorder.tick_result(session.finish_tick(&input).expect("nothing cannot break").result);
        }
        let closed = recorder.close(EndReason::Shutdown);
        assert_eq!((closed.problem, closed.end.tick), (None, Tick(18)), "after {died} steps");
        let recording = Recording::open(&closed.path).expect("a recording");
        assert_eq!(verify(&recording, Arc::new(NOTHING)).expect("the same match").ticks, 18);
        let files = fs::read_dir(directory.path()).expect("it is there").count();
        assert_eq!(files, 1, "after {died} steps: nothing is left beside it");
        if is_done {
            break;
        }
        died += 1;
    }
    assert!(died > 20, "a step for each tick, among others: {died}");
}

#[test]
fn on_a_full_disk_nothing_is_lost() {
    let directory = left();
    let live = files::live_path(directory.path(), "nothing");
    let before = fs::read(&live).expect("it is there");
    let disk = Troubled::new();
    disk.fill(0);
    let error = go_on(Arc::clone(&disk) as _, &recorders(&disk, 1), &live).expect_err("there is no room for a note");
    assert!(error.contains("nothing.live.mcap"), "{error}");
    let after = fs::read(&live).expect("it is there");
    assert!(before.starts_with(&after) && before.len() - after.len() == 4, "only what was torn is gone");
    disk.free();
    go_on(Arc::clone(&disk) as _, &recorders(&disk, 1), &live).expect("there is room");
}

/// A live file with no more channels than its messages have, as an earlier version writes it.
fn with_fewer_channels(live: &[u8]) -> Vec<u8> {
    let mut writer = format::write_options(Layout::Live).create(io::Cursor::new(Vec::new())).expect("memory");
    for message in mcap::io::MessageReader::new_with_options(live, format::read_options()).map_while(Result::ok) {
        writer.write(&message).expect("memory");
    }
    writer.flush().expect("memory");
    writer.into_inner().into_inner()
}

#[test]
fn wherever_a_kill_tears_the_channels_that_a_later_version_adds_they_are_added_again() {
    let directory = left();
    let live = files::live_path(directory.path(), "nothing");
    let older = with_fewer_channels(&fs::read(&live).expect("it is there"));
    fs::write(&live, &older).expect("a disk");
    let recorders = Recorders::new();
    let go_on = || go_on(Arc::new(FileSystem), &recorders, &live).expect("a sound disk");
    drop(go_on());
    let whole = fs::read(&live).expect("it is there");
    assert!(whole.starts_with(&older) && whole.len() > older.len() + 2000, "{} and {}", older.len(), whole.len());
    for cut in (older.len()..=whole.len()).step_by(101).chain([whole.len()]) {
        fs::write(&live, &whole[..cut]).expect("a disk");
        let (mut session, mut recorder) = go_on();
        assert_eq!(session.tick(), Tick(13), "cut at {cut}");
        recorder.seat_token(Tick(14), token(PlayerId(1)));
        recorder.chat(lines(1));
        for _ in 0..5 {
            let input = Arc::new(session.begin_tick());
            recorder.tick_input(Arc::clone(&input));
            recorder.tick_result(session.finish_tick(&input).expect("nothing cannot break").result);
        }
        drop(recorder);
        let recording = Recording::open(&live).expect("a recording");
        let summary = recording.scan();
        assert_eq!((summary.ticks, summary.state), (18, RecordingState::Unfinished), "cut at {cut}");
        assert_eq!(recording.chat().expect("it opens").count(), 1, "cut at {cut}");
        let (session, _recorder) = go_on();
        assert_eq!(session.tick(), Tick(18), "cut at {cut}");
    }
}
