//! Disks that stall and fail.

use std::{
    io::{Seek as _, Write as _},
    sync::{
        atomic::AtomicU32,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::SystemTime,
};

use tickwire_shared::{Definition, Game, Settings, Systems};
use tickwire_simulation::{Session, SessionConfig};

use super::*;
use crate::{Recording, RecordingState, verify};

struct Nothing;

impl Game for Nothing {
    fn name(&self) -> &str {
        "nothing"
    }
    fn define(&self, _: &mut Definition) {}
    fn setup(&self, _: &mut bevy_ecs::world::World, _: &Settings) {}
    fn systems(&self, _: &mut Systems) {}
}

/// A disk with troubles, on a real file.
struct Troubled {
    file: File,
    /// Waits for a word before each write, while there is one who may give it.
    gate: Mutex<Option<Receiver<()>>>,
    /// Fails in the middle of the write that goes beyond.
    bytes_max: u64,
    /// How often it can be synced.
    syncs_max: u32,
    syncs: AtomicU32,
}

impl Disk for Troubled {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut gate = lock(&self.gate);
        if gate.as_ref().is_some_and(|gate| gate.recv().is_err()) {
            *gate = None;
        }
        let mut file = &self.file;
        let room = usize::try_from(self.bytes_max - file.stream_position()?).unwrap_or(usize::MAX);
        file.write_all(&bytes[..bytes.len().min(room)])?;
        if bytes.len() > room { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        if self.syncs.fetch_add(1, Ordering::Relaxed) < self.syncs_max {
            Ok(())
        } else {
            Err(io::ErrorKind::Other.into())
        }
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }
}

struct Scene {
    session: Session,
    recorder: Recorder,
    directory: tempfile::TempDir,
}

impl Scene {
    fn new(troubles: impl FnOnce(Troubled) -> Troubled, queue_ticks_max: u64) -> Self {
        Self::with(&Recorders::with_writers(1), troubles, queue_ticks_max)
    }

    fn with(recorders: &Recorders, troubles: impl FnOnce(Troubled) -> Troubled, queue_ticks_max: u64) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut session = Session::new(Arc::new(Nothing), SessionConfig::default()).expect("a session");
        session.join("Ada").expect("a free seat");
        let meta = RecordingMeta::of(&session, "sessions/nothing-1", SystemTime::UNIX_EPOCH);
        let path = files::live_path(directory.path(), "nothing");
        let file = File::create_new(&path).expect("a writable directory");
        let disk = troubles(Troubled {
            file,
            gate: Mutex::default(),
            bytes_max: u64::MAX,
            syncs_max: u32::MAX,
            syncs: AtomicU32::new(0),
        });
        let options = RecorderOptions { queue_ticks_max };
        let recorder = recorders.start_on(Arc::new(disk), path, &meta, options).expect("a recorder");
        Self { session, recorder, directory }
    }

    /// The header passes the gate; nothing else does until the sender is dropped.
    fn gated(recorders: &Recorders, queue_ticks_max: u64) -> (Self, Sender<()>) {
        let (open, gate) = channel();
        open.send(()).expect("the gate is there");
        (Self::with(recorders, |disk| Troubled { gate: Mutex::new(Some(gate)), ..disk }, queue_ticks_max), open)
    }

    fn tick(&mut self) {
        let input = Arc::new(self.session.begin_tick());
        self.recorder.tick_input(Arc::clone(&input));
        let output = self.session.finish_tick(&input).expect("nothing cannot break");
        self.recorder.tick_result(output.result);
    }

    fn tick_until_it_stops(&mut self) {
        while self.recorder.problem().is_none() {
            self.tick();
        }
    }

    /// Ticks no faster than the disk takes them.
    fn tick_until_the_disk_stops(&mut self) {
        while self.recorder.problem().is_none() {
            match self.recorder.lag_ticks() {
                0..10 => self.tick(),
                _ => thread::yield_now(),
            }
        }
    }

    /// Closes the recording: what could be saved is sound, and says what is missing.
    fn close(self) -> (Closed, u64) {
        let begun = self.session.tick();
        let closed = self.recorder.close(EndReason::Shutdown);
        assert_eq!((closed.end.tick, closed.path), (begun, files::finished_path(self.directory.path(), "nothing")));
        let recording = Recording::open(files::finished_path(self.directory.path(), "nothing")).expect("a recording");
        let verified = verify(&recording, Arc::new(Nothing)).expect("the same match");
        let missing = begun.0 - verified.ticks;
        assert_eq!((closed.end.ticks_missing, verified.end.as_ref()), (missing, Some(&closed.end)));
        let state = recording.summary().state;
        match missing {
            0 => assert_eq!(state, RecordingState::Complete(EndReason::Shutdown)),
            ticks_missing => assert_eq!(state, RecordingState::Incomplete { ticks_missing }),
        }
        (Closed { path: recording_path(&recording), ..closed }, missing)
    }
}

fn recording_path(recording: &Recording) -> PathBuf {
    match recording.source() {
        crate::reader::Source::File(path) => path.clone(),
        crate::reader::Source::Bytes(_) => unreachable!("it was opened by its path"),
    }
}

#[test]
fn a_short_stall_is_only_a_lag() {
    let (mut scene, open) = Scene::gated(&Recorders::with_writers(1), 50);
    (0..20).for_each(|_| scene.tick());
    assert_eq!((scene.recorder.lag_ticks(), scene.recorder.problem()), (20, None));
    drop(open);
    let (closed, missing) = scene.close();
    assert_eq!((closed.problem, missing), (None, 0));
}

#[test]
fn a_long_stall_stops_the_recording_and_not_the_match() {
    let (mut scene, open) = Scene::gated(&Recorders::with_writers(1), 5);
    scene.tick_until_it_stops();
    let at = scene.session.tick().0;
    (0..100).for_each(|_| scene.tick());
    assert_eq!(scene.recorder.lag_ticks(), at + 100);
    drop(open);
    let (closed, missing) = scene.close();
    assert_eq!(closed.problem.as_deref(), Some("the disk has stalled for longer than the recorder's queue"));
    assert!(missing > 100, "{missing}");
}

#[test]
fn a_full_disk_leaves_what_fitted() {
    for bytes_max in [30_000, 30_001, 30_010, 30_050] {
        let mut scene = Scene::new(|disk| Troubled { bytes_max, ..disk }, 1000);
        scene.tick_until_the_disk_stops();
        let reason = scene.recorder.problem().map(str::to_owned);
        assert!(reason.as_ref().is_some_and(|reason| reason.starts_with("writing failed: ")), "{reason:?}");
        let (closed, missing) = scene.close();
        assert_eq!(closed.problem, reason);
        assert!(missing > 0);
    }
}

#[test]
fn a_sync_that_fails_is_a_problem_and_loses_nothing_by_itself() {
    let mut scene = Scene::new(|disk| Troubled { syncs_max: 1, ..disk }, 100);
    (0..10).for_each(|_| scene.tick());
    let (closed, missing) = scene.close();
    assert!(closed.problem.is_some_and(|problem| problem.starts_with("writing failed: ")));
    assert_eq!(missing, 0);
}

#[test]
fn many_recordings_share_a_writer_and_are_all_whole() {
    let recorders = Recorders::with_writers(1);
    let mut scenes: Vec<Scene> = (0..20).map(|_| Scene::with(&recorders, |disk| disk, 1000)).collect();
    for _ in 0..50 {
        scenes.iter_mut().for_each(Scene::tick);
    }
    for scene in scenes {
        let (closed, missing) = scene.close();
        assert_eq!((closed.problem, missing), (None, 0));
    }
}

#[test]
fn a_disk_that_stalls_holds_up_no_recording_on_another() {
    let recorders = Recorders::with_writers(2);
    let (mut stalled, open) = Scene::gated(&recorders, 1000);
    let mut sound = Scene::with(&recorders, |disk| disk, 1000);
    for _ in 0..100 {
        stalled.tick();
        sound.tick();
    }
    while sound.recorder.lag_ticks() > 0 {
        thread::yield_now();
    }
    assert_eq!(stalled.recorder.lag_ticks(), 100);
    assert_eq!(sound.close().1, 0);
    drop(open);
    assert_eq!(stalled.close().1, 0);
}

#[test]
fn a_recording_that_is_closed_for_a_session_that_hangs_ends_as_if_killed() {
    let mut scene = Scene::new(|disk| disk, 1000);
    (0..10).for_each(|_| scene.tick());
    let input = Arc::new(scene.session.begin_tick());
    scene.recorder.tick_input(Arc::clone(&input));
    let closed = scene.recorder.closer().close(EndReason::Killed);
    assert_eq!((closed.end.tick, closed.end.ticks_missing, closed.problem.as_deref()), (Tick(11), 0, None));
    // It comes back after all.
    let output = scene.session.finish_tick(&input).expect("nothing cannot break");
    scene.recorder.tick_result(output.result);
    scene.tick();
    assert_eq!(scene.recorder.close(EndReason::Shutdown).end, closed.end);
    let recording = Recording::open(&closed.path).expect("a recording");
    assert_eq!(recording.summary().state, RecordingState::Complete(EndReason::Killed));
    assert_eq!(verify(&recording, Arc::new(Nothing)).expect("the same match").ticks, 10);
}
