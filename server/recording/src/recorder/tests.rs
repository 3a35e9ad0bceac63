//! Recorders on disks that stall and fail.

mod chat;
mod disk;
mod losses;
mod misplaced;
mod recovery;
mod segments;

use std::{
    fs,
    sync::{Arc, mpsc::Sender},
    thread,
    time::SystemTime,
};

use bevy_ecs::{resource::Resource, system::ResMut};
use serde::{Deserialize, Serialize};
use tickwire_shared::{Clock, Definition, Digest, Game, Saves, Settings, Systems, Tick};
use tickwire_simulation::{Session, SessionConfig};

use self::disk::Troubled;
use super::*;
use crate::{RecordedTick, Recording, RecordingState, repair, verify};

/// Nothing happens, whoever sits.
#[derive(Clone, Copy)]
struct Nothing {
    /// Time passes in secret.
    hidden: bool,
    /// It is counted, and saved: there are keyframes.
    counted: bool,
}

const NOTHING: Nothing = Nothing { hidden: false, counted: false };

/// How many ticks there have been.
#[derive(Resource, Serialize, Deserialize)]
struct Count(u64);

fn count(mut count: ResMut<Count>) {
    count.0 += 1;
}

impl Game for Nothing {
    fn name(&self) -> &str {
        "nothing"
    }
    fn define(&self, _: &mut Definition) {}
    fn setup(&self, world: &mut bevy_ecs::world::World, _: &Settings) {
        world.insert_resource(Count(0));
    }
    fn systems(&self, systems: &mut Systems) {
        if self.counted {
            systems.add(count);
        }
    }
    fn saves(&self, saves: &mut Saves) {
        if self.counted {
            saves.resource::<Count>();
        }
    }
    fn digest(&self, world: &bevy_ecs::world::World, digest: &mut Digest) {
        if self.hidden {
            digest.write(world.resource::<Clock>().tick.0);
        }
        if self.counted {
            digest.write(world.resource::<Count>().0);
        }
    }
}

const OPTIONS: RecorderOptions = RecorderOptions {
    queue_ticks_max: 1000,
    behind_ticks: 100,
    durability: Durability::Sync,
    bytes_max: u64::MAX,
    keyframe_ticks: 0,
    keyframe_offset_ticks: 0,
    segment_bytes: u64::MAX,
    segment_ticks: u64::MAX,
};

/// A session that is recorded to a disk with troubles.
struct Scene {
    game: Nothing,
    session: Session,
    recorder: Recorder,
    disk: Arc<Troubled>,
    directory: tempfile::TempDir,
}

impl Scene {
    /// Ada sits.
    fn new(options: RecorderOptions) -> Self {
        let disk = Troubled::new();
        let mut scene = Self::with(&recorders(&disk, 1), &disk, NOTHING, options);
        scene.session.join("Ada").expect("a free seat");
        scene
    }

    /// Nobody sits.
    fn idle(game: Nothing) -> Self {
        let disk = Troubled::new();
        Self::with(&recorders(&disk, 1), &disk, game, OPTIONS)
    }

    fn with(recorders: &Recorders, disk: &Arc<Troubled>, game: Nothing, options: RecorderOptions) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let session = Session::new(Arc::new(game), SessionConfig::default()).expect("a session");
        let meta = RecordingMeta::of(&session, "sessions/nothing-1", SystemTime::UNIX_EPOCH);
        let recorder = recorders.start(directory.path(), "nothing", &meta, options).expect("a recorder");
        Self { game, session, recorder, disk: Arc::clone(disk), directory }
    }

    fn live(&self) -> PathBuf {
        files::live_path(self.directory.path(), "nothing")
    }

    fn finished(&self) -> PathBuf {
        files::finished_path(self.directory.path(), "nothing")
    }

    fn tick(&mut self) {
        let input = Arc::new(self.session.begin_tick());
        self.recorder.tick_input(Arc::clone(&input));
        let output = self.session.finish_tick(&input).expect("nothing cannot break");
        self.recorder.tick_result(output.result);
        if self.recorder.wants_keyframe() {
            self.recorder.keyframe(self.session.keyframe().expect("it can be saved"));
        }
    }

    fn ticks(&mut self, count: u64) {
        (0..count).for_each(|_| self.tick());
    }

    /// Ticks no faster than the disk takes them.
    fn paced_ticks(&mut self, count: u64) {
        for _ in 0..count {
            self.tick();
            self.settle();
        }
    }

    /// Waits until the file has all but the newest tick.
    fn settle(&self) {
        while self.recorder.status().lag_ticks > 1 {
            thread::yield_now();
        }
    }

    /// Stalls the disk, and waits until it holds the writer with the tick that is played here: a writer that came later would
    /// take more out of the queue.
    fn stall(&mut self) -> Sender<()> {
        let release = self.disk.stall();
        self.tick();
        while !self.disk.has_stalled(&self.recorder.path()) {
            thread::yield_now();
        }
        release
    }

    fn state(&self) -> RecorderState {
        self.recorder.status().state
    }

    /// Ticks no faster than the disk takes or refuses them.
    fn tick_until(&mut self, state: RecorderState) {
        while self.state() != state {
            self.turn();
        }
    }

    /// Ticks, and waits until a writer has done with it what it could.
    fn turn(&mut self) {
        self.tick();
        while lock(&self.recorder.open.queue).taken_on {
            thread::yield_now();
        }
    }

    /// What a kill between two writes would leave.
    fn killed(&self) -> Recording {
        let _writer = lock(&self.recorder.open.live);
        Recording::from_bytes(fs::read(self.live()).expect("it is there")).expect("a recording")
    }

    /// Closes the recording: what could be saved is sound, and says what is missing.
    fn close(self) -> (Closed, u64) {
        let begun = self.session.tick();
        let closed = self.recorder.close(EndReason::Shutdown);
        assert_eq!(closed.path, files::finished_path(self.directory.path(), "nothing"));
        let missing = check(self.game, &closed, begun);
        (closed, missing)
    }
}

fn recorders(disk: &Arc<Troubled>, writers_max: usize) -> Recorders {
    Recorders::on(Arc::clone(disk) as _, writers_max, RecordersOptions::default(), || {})
}

/// How many ticks a closed recording lacks: it verifies, and says so.
fn check(game: Nothing, closed: &Closed, begun: Tick) -> u64 {
    let recording = Recording::open(&closed.path).expect("a recording");
    let verified = verify(&recording, Arc::new(game)).expect("the same match");
    let missing = begun.0 - verified.ticks;
    assert_eq!((closed.end.tick, closed.end.ticks_missing), (begun, missing));
    assert_eq!(verified.end.as_ref(), Some(&closed.end));
    let summary = recording.summary();
    assert_eq!(summary, recording.scan());
    assert_eq!(summary.ticks, verified.ticks);
    match missing {
        0 => assert_eq!(summary.state, RecordingState::Complete(EndReason::Shutdown)),
        ticks_missing => {
            let problem = closed.problem.clone();
            assert_eq!(closed.end.reason, EndReason::Stopped { problem: problem.clone().expect("a reason") });
            assert_eq!(summary.state, RecordingState::Incomplete { ticks_missing, problem });
        }
    }
    missing
}

/// The ticks of a recording that stops anywhere: those whose results there are.
fn whole_ticks(recording: &Recording) -> u64 {
    let mut ticks = recording.ticks().expect("readable").map(|tick| tick.expect("sound"));
    let whole = ticks.by_ref().take_while(|RecordedTick { result, .. }| result.is_some());
    whole.count() as u64
}

#[test]
fn a_short_stall_is_only_a_lag() {
    let mut scene = Scene::new(OPTIONS);
    let release = scene.disk.stall();
    scene.ticks(20);
    let status = scene.recorder.status();
    assert_eq!((status.lag_ticks, status.state, status.failures), (20, RecorderState::Running, 0));
    assert!(status.lag_bytes > 0);
    drop(release);
    let (closed, missing) = scene.close();
    assert_eq!((closed.problem, missing), (None, 0));
}

#[test]
fn a_stall_of_seconds_is_told_and_loses_nothing() {
    let mut scene = Scene::new(OPTIONS);
    let release = scene.disk.stall();
    scene.ticks(150);
    let status = scene.recorder.status();
    assert_eq!((status.state, status.problem.as_deref()), (RecorderState::Behind, Some("the disk has stalled")));
    drop(release);
    scene.settle();
    scene.tick_until(RecorderState::Running);
    assert_eq!(scene.recorder.status().problem, None);
    let (closed, missing) = scene.close();
    assert_eq!((closed.problem, missing), (None, 0));
}

#[test]
fn a_long_stall_stops_the_recording_and_not_the_match() {
    let mut scene = Scene::new(RecorderOptions { queue_ticks_max: 5, ..OPTIONS });
    let release = scene.disk.stall();
    while scene.state() != RecorderState::Stopped {
        scene.tick();
    }
    let (at, waiting) = (scene.session.tick().0, scene.recorder.status().lag_bytes);
    scene.ticks(100);
    let status = scene.recorder.status();
    assert_eq!((status.lag_ticks, status.lag_bytes), (at + 100, waiting), "nothing more is kept");
    drop(release);
    let (closed, missing) = scene.close();
    assert_eq!(closed.problem.as_deref(), Some("the disk has stalled for longer than the recorder's queue"));
    assert!(missing > 100, "{missing}");
}

#[test]
fn a_full_disk_that_gets_room_again_costs_nothing() {
    let mut scene = Scene::new(OPTIONS);
    scene.paced_ticks(20);
    scene.disk.fill(37);
    scene.tick_until(RecorderState::Behind);
    scene.ticks(50);
    let status = scene.recorder.status();
    assert!(status.problem.is_some_and(|problem| problem.starts_with("writing failed: ")));
    assert!(status.failures > 0 && status.lag_ticks >= 50, "{} ticks", status.lag_ticks);
    scene.disk.free();
    scene.tick_until(RecorderState::Running);
    let (closed, missing) = scene.close();
    assert_eq!((closed.problem, missing), (None, 0));
}

#[test]
fn a_disk_that_stays_full_stops_the_recording_and_the_file_says_so() {
    // However much of a record fits.
    for room in [0, 1, 40, 200, 333] {
        let mut scene = Scene::new(RecorderOptions { queue_ticks_max: 20, ..OPTIONS });
        scene.paced_ticks(50);
        scene.disk.fill(room);
        scene.tick_until(RecorderState::Stopped);
        scene.ticks(100);
        let (begun, game, live) = (scene.session.tick(), scene.game, scene.live());
        let finished = scene.finished();
        let closed = scene.recorder.close(EndReason::Shutdown);
        // There is no room for another file.
        assert_eq!((&closed.path, finished.exists()), (&live, false));
        let problem = closed.problem.clone().expect("a reason");
        assert!(problem.starts_with("writing failed: "), "{problem}");
        let recording = Recording::open(&live).expect("a recording");
        let summary = recording.scan();
        let RecordingState::Incomplete { ticks_missing, problem: said } = summary.state else {
            panic!("{:?}", summary.state)
        };
        assert_eq!(said.as_ref(), Some(&problem));
        assert!((1..=begun.0 - summary.ticks).contains(&ticks_missing), "{ticks_missing}");
        assert!(summary.ticks > 20, "no more gives way than the end record needs: {}", summary.ticks);

        let repaired = repair(&live).expect("a repair");
        let repaired = Recording::open(&repaired.path).expect("a recording");
        assert_eq!(repaired.summary().state, RecordingState::Incomplete { ticks_missing, problem: said });
        assert_eq!(verify(&repaired, Arc::new(game)).expect("the same match").ticks, summary.ticks);
    }
}

#[test]
fn a_disk_without_room_for_the_end_gets_it_from_the_newest_ticks() {
    let mut scene = Scene::new(OPTIONS);
    scene.ticks(50);
    scene.settle();
    scene.tick_until(RecorderState::Running);
    scene.disk.fill(0);
    let live = scene.live();
    let closed = scene.recorder.close(EndReason::Shutdown);
    assert_eq!(closed.path, live);
    let summary = Recording::open(&live).expect("a recording").scan();
    let RecordingState::Incomplete { ticks_missing, problem } = summary.state else { panic!("{:?}", summary.state) };
    assert_eq!((summary.ticks + ticks_missing, problem), (50, closed.problem));
    assert!((1..10).contains(&ticks_missing), "{ticks_missing}");
}

#[test]
fn a_disk_that_gets_room_after_the_recording_stopped_has_a_finished_one_that_counts_what_is_missing() {
    let mut scene = Scene::new(RecorderOptions { queue_ticks_max: 20, ..OPTIONS });
    scene.paced_ticks(50);
    scene.disk.fill(10);
    scene.tick_until(RecorderState::Stopped);
    scene.disk.free();
    scene.ticks(100);
    let (_, missing) = scene.close();
    assert!(missing > 100, "{missing}");
}

#[test]
fn a_disk_that_writes_a_few_bytes_at_a_time_is_as_good_as_any() {
    let mut scene = Scene::new(OPTIONS);
    scene.disk.write_at_most(7);
    scene.ticks(30);
    assert_eq!(scene.close().1, 0);
}

#[test]
fn a_sync_that_fails_is_told_and_loses_nothing() {
    let mut scene = Scene::new(OPTIONS);
    scene.disk.refuse_sync(true);
    scene.tick_until(RecorderState::Behind);
    let status = scene.recorder.status();
    assert!(status.problem.is_some_and(|problem| problem.starts_with("syncing failed: ")));
    assert!(status.unsynced_bytes > 0 && status.unsynced_ticks > 0);
    scene.disk.refuse_sync(false);
    scene.tick_until(RecorderState::Running);
    let (closed, missing) = scene.close();
    assert_eq!((closed.problem, missing), (None, 0));
}

#[test]
fn a_recording_that_cannot_be_opened_is_refused_and_leaves_nothing_behind() {
    let disk = Troubled::new();
    let directory = tempfile::tempdir().expect("a directory");
    let session = Session::new(Arc::new(NOTHING), SessionConfig::default()).expect("a session");
    let meta = RecordingMeta::of(&session, "sessions/nothing-1", SystemTime::UNIX_EPOCH);
    for (refuse, room, kind) in
        [(true, 1 << 20, io::ErrorKind::PermissionDenied), (false, 100, io::ErrorKind::StorageFull)]
    {
        disk.refuse_open(refuse);
        disk.fill(room);
        let started = recorders(&disk, 1).start(directory.path(), "nothing", &meta, OPTIONS);
        assert_eq!(started.map(drop).expect_err("refused").kind(), kind);
        assert_eq!(fs::read_dir(directory.path()).expect("it is there").count(), 0);
    }
}

#[test]
fn a_permission_lost_while_it_runs_leaves_the_live_file_for_a_repair() {
    for troubles in [Troubled::refuse_open, Troubled::refuse_rename] {
        let mut scene = Scene::new(OPTIONS);
        scene.ticks(30);
        troubles(&scene.disk, true);
        let closed = scene.recorder.close(EndReason::Shutdown);
        assert!(closed.problem.as_ref().is_some_and(|problem| problem.contains("repair it later")), "{closed:?}");
        assert_eq!((closed.end.ticks_missing, fs::read_dir(scene.directory.path()).expect("there").count()), (0, 1));
        let repaired = repair(&closed.path).expect("a repair");
        let recording = Recording::open(&repaired.path).expect("a recording");
        assert_eq!(recording.summary().state, RecordingState::Complete(EndReason::Shutdown));
        assert_eq!(verify(&recording, Arc::new(NOTHING)).expect("the same match").ticks, 30);
    }
}

#[test]
fn wherever_a_close_breaks_off_there_is_a_whole_recording() {
    for step in 0.. {
        let mut scene = Scene::new(OPTIONS);
        scene.ticks(100);
        scene.settle();
        scene.disk.die_after(step);
        let (live, finished) = (scene.live(), scene.finished());
        let closed = scene.recorder.close(EndReason::Shutdown);
        let path = if finished.exists() { &finished } else { &live };
        let recording = Recording::open(path).expect("a recording");
        assert!(whole_ticks(&recording) >= 98, "step {step}: {}", whole_ticks(&recording));
        if closed.problem.is_none() {
            assert!(step > 5, "all that is asked of the disk is asked of this one");
            let log = scene.disk.log();
            let at =
                |what: &str| log.iter().rposition(|done| done == what).unwrap_or_else(|| panic!("no {what}: {log:?}"));
            let order =
                ["sync nothing.mcap.partial", "rename nothing.mcap", "sync directory", "remove nothing.live.mcap"];
            let order = order.map(at);
            assert!(order.is_sorted(), "{log:?}");
            return;
        }
        // The next start finds it.
        crate::tidy(scene.directory.path()).expect("a directory");
        let left: Vec<_> =
            fs::read_dir(scene.directory.path()).expect("there").map(|file| file.expect("there")).collect();
        assert_eq!(left.len(), 1, "step {step}: {left:?}");
    }
}

#[test]
fn a_recording_at_its_limit_of_size_ends_there_and_says_so() {
    let mut scene = Scene::new(RecorderOptions { bytes_max: 20_000, ..OPTIONS });
    scene.tick_until(RecorderState::Limited);
    scene.ticks(100);
    let finished = scene.finished();
    // It is finished while its session goes on.
    while scene.live().exists() {
        thread::yield_now();
    }
    let recording = Recording::open(&finished).expect("a recording");
    let summary = recording.summary();
    assert_eq!(summary.state, RecordingState::Complete(EndReason::Limited));
    let verified = verify(&recording, Arc::new(NOTHING)).expect("the same match");
    let closed = scene.recorder.close(EndReason::Shutdown);
    assert_eq!((closed.problem, closed.path), (None, finished));
    let end = End { reason: EndReason::Limited, tick: Tick(verified.ticks), ticks_missing: 0 };
    assert_eq!((&closed.end, verified.end, summary.ticks), (&end, Some(end.clone()), end.tick.0));
}

#[test]
fn recordings_that_are_too_large_together_end_one_by_one() {
    let disk = Troubled::new();
    let options = RecordersOptions { live_bytes_max: 60_000, ..RecordersOptions::default() };
    let recorders = Recorders::on(Arc::clone(&disk) as _, 1, options, || {});
    let mut scenes = [(); 2].map(|()| Scene::with(&recorders, &disk, NOTHING, OPTIONS));
    for scene in &mut scenes {
        scene.session.join("Ada").expect("a free seat");
    }
    let is_limited = |scene: &Scene| scene.state() == RecorderState::Limited;
    while !scenes.iter().any(is_limited) {
        scenes.iter_mut().for_each(|scene| scene.paced_ticks(1));
    }
    assert!(recorders.live_bytes() <= 61_000, "{}", recorders.live_bytes());
    // The other one has room again.
    while recorders.live_bytes() > 40_000 {
        thread::yield_now();
    }
    scenes.iter_mut().filter(|scene| !is_limited(scene)).for_each(|scene| scene.paced_ticks(10));
    assert_eq!(scenes.iter().filter(|scene| is_limited(scene)).count(), 1);
    drop(scenes);
    assert_eq!(recorders.live_bytes(), 0);
}

#[test]
fn what_waits_for_all_disks_together_is_bounded() {
    let disk = Troubled::new();
    let options = RecordersOptions { queue_bytes_max: 20_000, ..RecordersOptions::default() };
    let recorders = Recorders::on(Arc::clone(&disk) as _, 2, options, || {});
    let mut scenes = [(); 2].map(|()| Scene::with(&recorders, &disk, NOTHING, OPTIONS));
    let release = disk.stall();
    for _ in 0..200 {
        scenes.iter_mut().for_each(Scene::tick);
    }
    let waiting: u64 = scenes.iter().map(|scene| scene.recorder.status().lag_bytes).sum();
    assert!((10_000..=20_000).contains(&waiting), "{waiting}");
    assert!(scenes.iter().all(|scene| scene.state() == RecorderState::Stopped));
    drop(release);
    for scene in scenes {
        assert!(scene.close().1 > 0);
    }
    // All that was taken has been given back.
    assert!(recorders.take_room(20_000));
}

#[test]
fn many_recordings_share_a_writer_and_are_all_whole() {
    let disk = Troubled::new();
    let recorders = recorders(&disk, 1);
    let mut scenes: Vec<Scene> = (0..20).map(|_| Scene::with(&recorders, &disk, NOTHING, OPTIONS)).collect();
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
    let [disk, other] = [Troubled::new(), Troubled::new()];
    let recorders = recorders(&disk, 2);
    let mut stalled = Scene::with(&recorders, &disk, NOTHING, OPTIONS);
    disk.create_next_on(&other);
    let mut sound = Scene::with(&recorders, &disk, NOTHING, OPTIONS);
    let release = disk.stall();
    for _ in 0..100 {
        stalled.tick();
        sound.tick();
    }
    sound.settle();
    assert_eq!(stalled.recorder.status().lag_ticks, 100);
    drop(release);
    assert_eq!(sound.close().1, 0);
    assert_eq!(stalled.close().1, 0);
}

#[test]
fn a_recording_that_is_closed_for_a_session_that_hangs_ends_as_if_killed() {
    let mut scene = Scene::new(OPTIONS);
    scene.ticks(10);
    let input = Arc::new(scene.session.begin_tick());
    scene.recorder.tick_input(Arc::clone(&input));
    let closed = scene.recorder.closer().close(EndReason::Killed);
    assert_eq!((closed.end.tick, closed.end.ticks_missing, closed.problem.as_deref()), (Tick(11), 0, None));
    // It comes back after all.
    let output = scene.session.finish_tick(&input).expect("nothing cannot break");
    scene.recorder.tick_result(output.result);
    scene.tick();
    let status = scene.recorder.status();
    assert_eq!((status.state, status.unsynced_ticks, status.unsynced_bytes), (RecorderState::Closed, 0, 0));
    assert_eq!(scene.recorder.close(EndReason::Shutdown).end, closed.end);
    let recording = Recording::open(&closed.path).expect("a recording");
    assert_eq!(recording.summary().state, RecordingState::Complete(EndReason::Killed));
    assert_eq!(verify(&recording, Arc::new(NOTHING)).expect("the same match").ticks, 10);
}

#[test]
fn a_session_without_seats_does_not_fill_the_disk() {
    let mut scene = Scene::idle(NOTHING);
    scene.paced_ticks(2);
    let bytes = scene.recorder.status().bytes;
    scene.paced_ticks(500);
    assert_eq!(scene.recorder.status().bytes, bytes);
    assert!(whole_ticks(&scene.killed()) >= 500);
    assert_eq!(scene.close().1, 0);
}

#[test]
fn whenever_it_is_killed_at_most_one_tick_beyond_the_lag_is_lost() {
    let mut scene = Scene::idle(NOTHING);
    let mut seated = None;
    for tick in 1..=200_u64 {
        match tick % 40 {
            10 => seated = Some(scene.session.join("Ada").expect("a free seat")),
            25 => scene.session.leave(seated.take().expect("she sits")),
            _ => {}
        }
        scene.tick();
        scene.settle();
        let lag = scene.recorder.status().lag_ticks;
        let killed = scene.killed();
        let whole = whole_ticks(&killed);
        assert!(whole + lag + 1 >= tick, "{whole} of {tick}, with a lag of {lag}");
        verify(&killed, Arc::new(NOTHING)).expect("the same match");
    }
    assert_eq!(scene.close().1, 0);
}

#[test]
fn no_cut_and_no_changed_byte_of_a_file_with_idle_ticks_gets_through() {
    let mut scene = Scene::idle(NOTHING);
    scene.ticks(10);
    let ada = scene.session.join("Ada").expect("a free seat");
    scene.ticks(3);
    scene.session.leave(ada);
    scene.ticks(10);
    scene.settle();
    let sound = fs::read(scene.live()).expect("it is there");
    let ticks = |bytes: &[u8]| {
        let ticks = Recording::from_bytes(bytes).ok().and_then(|recording| recording.ticks().ok());
        ticks.into_iter().flatten().map_while(Result::ok).collect::<Vec<RecordedTick>>()
    };
    let all = ticks(&sound);
    assert!(all.len() > 20);
    let is_beginning = |part: Vec<RecordedTick>| match part.split_last() {
        // A cut may have cost the last one its result.
        Some((last, rest)) => all.starts_with(rest) && all[rest.len()].input == last.input,
        None => true,
    };
    // Descriptors, before that, have no checksum, and nobody reads them.
    for at in sound.len() - 1000..sound.len() {
        assert!(is_beginning(ticks(&sound[..at])), "cut at {at}");
        let mut changed = sound.clone();
        changed[at] ^= 1;
        assert!(is_beginning(ticks(&changed)), "byte {at}");
    }
    assert_eq!(scene.close().1, 0);
}

#[test]
fn ticks_without_seats_in_which_something_changes_are_told_one_by_one() {
    let mut scene = Scene::idle(Nothing { hidden: true, ..NOTHING });
    scene.paced_ticks(2);
    let bytes = scene.recorder.status().bytes;
    scene.paced_ticks(50);
    assert!(scene.recorder.status().bytes > bytes + 50 * 50);
    assert_eq!(scene.close().1, 0);
}

#[test]
fn a_tick_without_seats_that_has_no_result_is_on_record() {
    let mut scene = Scene::idle(NOTHING);
    scene.ticks(10);
    let input = Arc::new(scene.session.begin_tick());
    scene.recorder.tick_input(input);
    let closed = scene.recorder.close(EndReason::Failed { message: "a bug".to_owned() });
    assert_eq!((closed.problem.as_deref(), closed.end.ticks_missing, closed.end.tick), (None, 0, Tick(11)));
    let recording = Recording::open(&closed.path).expect("a recording");
    let ticks: Vec<RecordedTick> = recording.ticks().expect("readable").map(|tick| tick.expect("sound")).collect();
    assert_eq!((ticks.len(), ticks[10].result.is_none()), (11, true));
}

#[test]
fn what_is_not_to_survive_a_kill_is_gathered_and_not_lost_at_the_end() {
    let mut scene = Scene::new(RecorderOptions { durability: Durability::None, ..OPTIONS });
    let header = scene.recorder.status().bytes;
    (0..100).for_each(|_| scene.turn());
    let status = scene.recorder.status();
    assert_eq!((status.bytes, status.lag_ticks, status.state), (header, 100, RecorderState::Running));
    assert_eq!(scene.disk.log(), ["create nothing.live.mcap"], "nothing is synced");
    // More than the buffer holds.
    while scene.recorder.status().bytes == header {
        scene.turn();
    }
    assert_eq!(scene.close().1, 0);
}

#[test]
fn what_is_to_survive_a_kill_alone_is_written_at_each_tick_and_not_synced() {
    let mut scene = Scene::new(RecorderOptions { durability: Durability::Flush, ..OPTIONS });
    scene.paced_ticks(50);
    assert!(whole_ticks(&scene.killed()) >= 48);
    assert_eq!(scene.disk.log(), ["create nothing.live.mcap"]);
    let status = scene.recorder.status();
    assert!(status.unsynced_ticks >= 48 && status.unsynced_bytes > 0, "{status:?}");
    assert_eq!(scene.close().1, 0);
}

#[test]
fn whoever_watches_is_told_of_each_change() {
    let (tell, told) = std::sync::mpsc::channel();
    let tell: Mutex<Sender<()>> = Mutex::new(tell);
    let disk = Troubled::new();
    let recorders = Recorders::on(Arc::clone(&disk) as _, 1, RecordersOptions::default(), move || {
        // The test may be over.
        let _ = lock(&tell).send(());
    });
    let mut scene = Scene::with(&recorders, &disk, NOTHING, OPTIONS);
    assert!(told.try_recv().is_err());
    disk.refuse_write(true);
    scene.tick_until(RecorderState::Behind);
    told.recv().expect("it fails");
    disk.refuse_write(false);
    scene.tick_until(RecorderState::Running);
    told.recv().expect("it works again");
}
