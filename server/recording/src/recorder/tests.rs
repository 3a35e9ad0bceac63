//! Disks that stall and fail.

use std::{
    sync::mpsc::{Sender, channel},
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
    gate: Option<Receiver<()>>,
    /// Fails in the middle of the write that goes beyond.
    bytes_max: u64,
    /// How often it can be synced.
    syncs_max: u32,
}

impl Disk for Troubled {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.gate.as_ref().is_some_and(|gate| gate.recv().is_err()) {
            self.gate = None;
        }
        let room = usize::try_from(self.bytes_max - self.file.stream_position()?).unwrap_or(usize::MAX);
        self.file.write_all(&bytes[..bytes.len().min(room)])?;
        if bytes.len() > room { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.syncs_max = self.syncs_max.checked_sub(1).ok_or(io::ErrorKind::Other)?;
        Ok(())
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
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
        let directory = tempfile::tempdir().expect("a directory");
        let mut session = Session::new(Arc::new(Nothing), SessionConfig::default()).expect("a session");
        session.join("Ada").expect("a free seat");
        let meta = RecordingMeta::of(&session, "sessions/nothing-1", SystemTime::UNIX_EPOCH);
        let path = files::live_path(directory.path(), "nothing");
        let file = File::create_new(&path).expect("a writable directory");
        let disk = troubles(Troubled { file, gate: None, bytes_max: u64::MAX, syncs_max: u32::MAX });
        let recorder = Recorder::start_on(disk, path, &meta, RecorderOptions { queue_ticks_max }).expect("a recorder");
        Self { session, recorder, directory }
    }

    /// The header passes the gate; nothing else does until the sender is dropped.
    fn gated(queue_ticks_max: u64) -> (Self, Sender<()>) {
        let (open, gate) = channel();
        open.send(()).expect("the gate is there");
        (Self::new(|disk| Troubled { gate: Some(gate), ..disk }, queue_ticks_max), open)
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
    let (mut scene, open) = Scene::gated(50);
    (0..20).for_each(|_| scene.tick());
    assert_eq!((scene.recorder.lag_ticks(), scene.recorder.problem()), (20, None));
    drop(open);
    let (closed, missing) = scene.close();
    assert_eq!((closed.problem, missing), (None, 0));
}

#[test]
fn a_long_stall_stops_the_recording_and_not_the_match() {
    let (mut scene, open) = Scene::gated(5);
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
