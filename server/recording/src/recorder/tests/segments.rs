//! Recordings in several files, on disks that stall, fail and die.

use std::sync::atomic::{AtomicBool, AtomicU64};

use tickwire_shared::PlayerId;

use super::*;
use crate::{
    RecordedTick, Recovery, RecoveryOptions, Replay, Segment, Segments, TokenKey, Unfinished, list, remove_stillborn,
    tidy,
};

pub(super) const COUNTED: Nothing = Nothing { counted: true, ..NOTHING };

/// A keyframe every 10 ticks, a segment every 30.
pub(super) const SEGMENTED: RecorderOptions = RecorderOptions { keyframe_ticks: 10, segment_ticks: 30, ..OPTIONS };

pub(super) fn scene(disk: &Arc<Troubled>, options: RecorderOptions) -> Scene {
    let mut scene = Scene::with(&recorders(disk, 1), disk, COUNTED, options);
    let ada = scene.session.join("Ada").expect("a free seat");
    scene.recorder.seat_token(Tick(1), token(ada));
    scene
}

pub(super) fn token(player: PlayerId) -> SeatToken {
    SeatToken { player, newest: TokenKey { id: 7, hash: [player.0 as u8; 32] }, previous: None }
}

pub(super) fn recovery<'a>(stop: &'a AtomicBool, ticks_done: &'a AtomicU64) -> RecoveryOptions<'a> {
    RecoveryOptions { grace_ticks: 60, now: SystemTime::UNIX_EPOCH, stop, ticks_done }
}

pub(super) fn game() -> Arc<dyn Game> {
    Arc::new(COUNTED)
}

/// The segments of a directory, in order.
pub(super) fn segments(directory: &Path) -> Vec<Recording> {
    let listed = list(directory).expect("a directory");
    listed.into_iter().map(|listed| Recording::open(listed.path).expect("a recording")).collect()
}

/// That the segments are one match from the first tick to the last: each verifies by itself and follows from the one before.
pub(super) fn assert_whole(directory: &Path, last: Tick, end: &EndReason) -> Vec<Segment> {
    let segments = segments(directory);
    let mut next = Tick(1);
    for (i, recording) in segments.iter().enumerate() {
        let summary = recording.summary();
        assert_eq!(summary, recording.scan());
        let segment = &summary.meta.segment;
        assert_eq!((segment.number, segment.first_tick), (i as u32 + 1, next), "{segment:?}");
        let predecessor = i.checked_sub(1).map(|before| crate::segments::segment_name("nothing", before as u32 + 1));
        assert_eq!(segment.predecessor, predecessor);
        let verified = verify(recording, game()).expect("the same match");
        assert_eq!(verified.ticks, summary.ticks);
        let reason = if i + 1 == segments.len() { end.clone() } else { EndReason::Continued };
        assert_eq!(summary.state, RecordingState::Complete(reason), "segment {}", i + 1);
        let ticks: Vec<RecordedTick> = recording.ticks().expect("readable").map(|tick| tick.expect("sound")).collect();
        let numbers: Vec<u64> = ticks.iter().map(|tick| tick.input.tick.0).collect();
        let last = summary.last_tick();
        assert_eq!(numbers, (next.0..=last.0).collect::<Vec<_>>(), "no tick is lost, and none is there twice");
        next = last.next();
    }
    assert_eq!(next, last.next());
    segments.iter().map(|recording| recording.meta().segment.clone()).collect()
}

#[test]
fn a_recording_goes_on_in_one_file_after_the_other_each_of_which_verifies_by_itself() {
    let disk = Troubled::new();
    let mut scene = scene(&disk, SEGMENTED);
    scene.paced_ticks(100);
    let status = scene.recorder.status();
    assert_eq!((status.state, status.segment, status.first_tick), (RecorderState::Running, 4, Tick(91)));
    assert_eq!(scene.recorder.path(), files::live_path(scene.directory.path(), "nothing_00004"));
    let Scene { directory, recorder, .. } = scene;
    let closed = recorder.close(EndReason::Shutdown);
    assert_eq!(closed.path, files::finished_path(directory.path(), "nothing_00004"));
    assert_eq!((closed.problem, closed.end.tick, closed.end.ticks_missing), (None, Tick(100), 0));
    let firsts = assert_whole(directory.path(), Tick(100), &EndReason::Shutdown);
    assert_eq!(firsts.iter().map(|segment| segment.first_tick.0).collect::<Vec<_>>(), [1, 31, 61, 91]);
    // The new one is safe before the other one ends.
    let log = disk.log();
    let at = |what: &str| log.iter().position(|done| done == what).unwrap_or_else(|| panic!("no {what}: {log:?}"));
    let order = ["create nothing_00002.live.mcap", "sync nothing_00002.live.mcap", "create nothing.mcap.partial"];
    assert!(order.map(at).is_sorted(), "{log:?}");
}

#[test]
fn any_tick_is_reached_in_its_segment_alone() {
    let disk = Troubled::new();
    let mut scene = scene(&disk, SEGMENTED);
    let mut hashes = vec![0];
    for _ in 0..100 {
        scene.paced_ticks(1);
        hashes.push(scene.session.frame().state_hash);
    }
    let seek = |path: &Path| {
        let segments = Segments::beside(path).expect("a directory");
        assert_eq!(segments.numbers(), [1, 2, 3, 4]);
        for tick in 1..=98 {
            let recording = segments.at(Tick(tick)).expect("it is there");
            let replay = Replay::at(&recording, game(), Tick(tick)).expect("it reaches so far");
            assert_eq!(replay.session().frame().state_hash, hashes[tick as usize], "tick {tick}");
            assert!(tick - replay.begun_at().0 < 10, "tick {tick} from {}", replay.begun_at());
        }
    };
    seek(&scene.recorder.path());
    let closed = scene.recorder.close(EndReason::Shutdown);
    seek(&closed.path);

    let last = Recording::open(&closed.path).expect("a recording");
    let error = Replay::at(&last, game(), Tick(89)).expect_err("it is in the segment before");
    assert_eq!(error.to_string(), "there is no tick 89: the recording begins with tick 91");
    // From one to the next, without a keyframe.
    let segments = Segments::beside(&closed.path).expect("a directory");
    let open = |number| segments.open(number).expect("it is there");
    let mut replay = Replay::at(&open(2), game(), Tick(55)).expect("within it");
    assert_eq!(replay.by_ref().count(), 5);
    assert!(replay.go_on_in(&open(4)).is_err(), "segment 3 is left out");
    replay.go_on_in(&open(3)).expect("it follows");
    assert_eq!(replay.by_ref().map(|tick| tick.expect("sound").divergence).filter(Option::is_none).count(), 30);
    assert_eq!(replay.session().frame().state_hash, hashes[90]);
}

#[test]
fn a_game_that_saves_nothing_has_one_file() {
    let disk = Troubled::new();
    let mut scene = Scene::with(&recorders(&disk, 1), &disk, NOTHING, SEGMENTED);
    scene.session.join("Ada").expect("a free seat");
    scene.paced_ticks(100);
    assert_eq!(scene.recorder.status().segment, 1);
    assert_eq!(scene.close().1, 0);
}

#[test]
fn without_other_keyframes_there_are_those_that_segments_begin_with() {
    let disk = Troubled::new();
    let options = RecorderOptions { keyframe_ticks: 0, segment_bytes: 4096, segment_ticks: u64::MAX, ..OPTIONS };
    let mut scene = scene(&disk, options);
    scene.paced_ticks(250);
    let (last, directory) = (scene.session.tick(), scene.directory);
    assert_eq!(scene.recorder.close(EndReason::Shutdown).problem, None);
    // No sooner than it may be asked for again.
    let segments = assert_whole(directory.path(), last, &EndReason::Shutdown);
    assert_eq!(segments.iter().map(|segment| segment.first_tick.0).collect::<Vec<_>>(), [1, 101, 201]);
    assert_eq!(self::segments(directory.path()).iter().map(|it| it.summary().keyframes).collect::<Vec<_>>(), [0, 1, 1]);
}

#[test]
fn a_session_in_which_nothing_happens_stays_in_its_file() {
    let disk = Troubled::new();
    let still = Nothing { counted: false, ..COUNTED };
    let mut scene = Scene::with(&recorders(&disk, 1), &disk, still, SEGMENTED);
    scene.paced_ticks(200);
    assert_eq!(scene.recorder.status().segment, 1);
    assert_eq!(scene.close().1, 0);
}

#[test]
fn the_limits_of_size_end_no_recording_that_can_go_on_in_another_file() {
    let disk = Troubled::new();
    let options = RecordersOptions { live_bytes_max: 200_000, ..RecordersOptions::default() };
    let recorders = Recorders::on(Arc::clone(&disk) as _, 1, options, || {});
    let options = RecorderOptions { bytes_max: 60_000, segment_ticks: u64::MAX, segment_bytes: 1 << 30, ..SEGMENTED };
    let mut scenes = [(); 2].map(|()| Scene::with(&recorders, &disk, COUNTED, options));
    for scene in &mut scenes {
        scene.session.join("Ada").expect("a free seat");
    }
    while scenes.iter().any(|scene| scene.recorder.status().segment < 4) {
        scenes.iter_mut().for_each(|scene| scene.paced_ticks(1));
        // What is being finished counts.
        while recorders.live_bytes() > 150_000 {
            thread::yield_now();
        }
    }
    assert!(scenes.iter().all(|scene| scene.state() == RecorderState::Running));
    for Scene { directory, recorder, session, .. } in scenes {
        assert_eq!(recorder.close(EndReason::Shutdown).problem, None);
        assert_whole(directory.path(), session.tick(), &EndReason::Shutdown);
    }
    assert_eq!(recorders.live_bytes(), 0);
}

#[test]
fn a_disk_that_stalls_when_a_segment_is_due_costs_nothing_and_memory_is_bounded() {
    let disk = Troubled::new();
    let mut scene = scene(&disk, SEGMENTED);
    scene.paced_ticks(25);
    let release = scene.stall();
    // The session never waits: were it to, this would not come back.
    scene.ticks(300);
    let status = scene.recorder.status();
    assert_eq!((status.state, status.problem.as_deref()), (RecorderState::Behind, Some("the disk has stalled")));
    assert!(status.lag_ticks >= 290, "{}", status.lag_ticks);
    let keyframes = {
        let queue = lock(&scene.recorder.open.queue);
        queue.records.iter().filter(|record| matches!(record, Record::Keyframe(_))).count()
    };
    // One each 10 ticks until the disk is known to be behind, at 100.
    assert!((1..=11).contains(&keyframes), "{keyframes} keyframes wait");
    assert!(!scene.recorder.wants_keyframe());
    drop(release);
    scene.settle();
    scene.tick_until(RecorderState::Running);
    scene.paced_ticks(50);
    let (last, directory) = (scene.session.tick(), scene.directory);
    assert_eq!(scene.recorder.close(EndReason::Shutdown).problem, None);
    let segments = assert_whole(directory.path(), last, &EndReason::Shutdown);
    assert!(segments.len() > 2, "{segments:?}");
}

#[test]
fn a_file_goes_on_where_the_next_one_cannot_be_made_until_it_can() {
    let disk = Troubled::new();
    let mut scene = scene(&disk, SEGMENTED);
    disk.refuse_open(true);
    scene.paced_ticks(75);
    let status = scene.recorder.status();
    assert_eq!((status.segment, status.state), (1, RecorderState::Running));
    disk.refuse_open(false);
    scene.paced_ticks(30);
    assert_eq!(scene.recorder.status().first_tick, Tick(81), "at the next keyframe");
    let (last, directory) = (scene.session.tick(), scene.directory);
    assert_eq!(scene.recorder.close(EndReason::Shutdown).problem, None);
    assert_whole(directory.path(), last, &EndReason::Shutdown);
}

#[test]
fn a_segment_that_cannot_be_finished_is_tried_again_with_the_next_one() {
    let disk = Troubled::new();
    let mut scene = scene(&disk, SEGMENTED);
    disk.refuse_rename(true);
    scene.paced_ticks(40);
    scene.recorder.open.recorders.finish_ended();
    let first = files::live_path(scene.directory.path(), "nothing");
    assert!(first.exists());
    disk.refuse_rename(false);
    scene.paced_ticks(30);
    scene.recorder.open.recorders.finish_ended();
    assert!(!first.exists());
    let (last, directory) = (scene.session.tick(), scene.directory);
    assert_eq!(scene.recorder.close(EndReason::Shutdown).problem, None);
    assert_whole(directory.path(), last, &EndReason::Shutdown);
}

/// As a server that starts: the session that goes on, with its recorder, and by which tokens players come back.
pub(super) fn start(directory: &Path, recorders: &Recorders) -> (Session, Recorder, Vec<SeatToken>) {
    let mut left = Vec::new();
    for path in tidy(directory).expect("a directory").unfinished {
        if !remove_stillborn(&path).expect("a disk") {
            left.push(Unfinished::open(&path).expect("a recording"));
        }
    }
    left.sort_by_key(|unfinished| unfinished.meta().segment.number);
    let newest = left.pop().expect("there is always one");
    assert!(!newest.has_successor());
    let mut next = newest.meta().clone();
    for older in left.into_iter().rev() {
        assert!(older.has_successor());
        older.finish_before(&next).expect("a disk");
        next = older.meta().clone();
    }
    let (stop, ticks_done) = (AtomicBool::new(false), AtomicU64::new(0));
    match newest.recover(game(), recovery(&stop, &ticks_done)) {
        Ok(Recovery::GoesOn(resumable)) => {
            let tokens = resumable.seat_tokens().to_vec();
            let (session, recorder) = recorders.resume(*resumable, SEGMENTED).expect("a disk");
            (session, recorder, tokens)
        }
        Ok(Recovery::Over { end, .. }) => panic!("{end:?}"),
        Err((error, _)) => panic!("{error}"),
    }
}

#[test]
fn wherever_a_process_dies_in_a_switch_the_match_goes_on_from_the_newest_whole_segment() {
    let mut died_in = [0; 3];
    for steps in 0.. {
        let disk = Troubled::new();
        let mut scene = scene(&disk, SEGMENTED);
        scene.paced_ticks(28);
        disk.die_after(steps);
        (0..6).for_each(|_| scene.turn());
        scene.recorder.open.recorders.finish_ended();
        let lag = scene.recorder.status().lag_ticks;
        let (played, switched) = (scene.session.tick(), scene.recorder.status().segment);
        let Scene { directory, recorder, .. } = scene;
        let is_done = disk.log().iter().any(|done| done == "remove nothing.live.mcap");
        drop(recorder);

        let recorders = Recorders::new();
        let (mut session, mut recorder, tokens) = start(directory.path(), &recorders);
        let tick = session.tick();
        assert!(tick.0 + lag >= played.0 && tick <= played, "{tick} of {played}, lag {lag}, after {steps} steps");
        assert_eq!(tokens, [token(PlayerId(1))], "after {steps} steps");
        assert_eq!(session.seats_taken(), 1);
        died_in[switched as usize] += 1;
        for _ in 0..40 {
            let input = Arc::new(session.begin_tick());
            recorder.tick_input(Arc::clone(&input));
            recorder.tick_result(session.finish_tick(&input).expect("nothing cannot break").result);
            if recorder.wants_keyframe() {
                recorder.keyframe(session.keyframe().expect("it can be saved"));
            }
        }
        let closed = recorder.close(EndReason::Shutdown);
        assert_eq!((closed.problem, closed.end.tick), (None, Tick(tick.0 + 40)), "after {steps} steps");
        let segments = assert_whole(directory.path(), closed.end.tick, &EndReason::Shutdown);
        assert_eq!(fs::read_dir(directory.path()).expect("there").count(), segments.len(), "after {steps} steps");
        if is_done {
            break;
        }
    }
    assert!(died_in[1] > 5 && died_in[2] > 5, "before the switch and behind it: {died_in:?}");
}

#[test]
fn a_segment_that_was_being_begun_is_removed_wherever_that_broke_off() {
    let disk = Troubled::new();
    let mut scene = scene(&disk, SEGMENTED);
    scene.paced_ticks(29);
    let before = fs::read(scene.live()).expect("it is there");
    scene.paced_ticks(6);
    let bytes = fs::read(scene.recorder.path()).expect("it is there");
    // Where its header, its token and its keyframe end.
    let mut ends = Vec::new();
    let recording = Recording::from_bytes(bytes.as_slice()).expect("a recording");
    let mut records = recording.records().expect("readable");
    while let Some(Ok(_)) = records.next() {
        ends.push(records.sound_bytes() as usize);
    }
    let (header, keyframe) = (ends[0], ends[2]);

    let directory = tempfile::tempdir().expect("a directory");
    // The one before it, as it was then.
    fs::write(files::live_path(directory.path(), "nothing"), before).expect("a disk");
    let path = files::live_path(directory.path(), "nothing_00002");
    let is_removed = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("a disk");
        let removed = remove_stillborn(&path).expect("a disk");
        assert_eq!(removed, !path.exists());
        removed
    };
    for cut in (0..keyframe).step_by(97).chain([header - 1, header, header + 1, keyframe - 1]) {
        assert!(is_removed(&bytes[..cut]), "cut at {cut} of {ends:?}");
    }
    assert!(is_removed(&[0; 5000]), "as a loss of power leaves it");
    for cut in [keyframe, keyframe + 1, bytes.len()] {
        assert!(!is_removed(&bytes[..cut]), "cut at {cut} of {ends:?}");
    }
    // What is there, and damaged, may be of use to somebody.
    let mut damaged = bytes.clone();
    damaged[2] ^= 1;
    assert!(is_removed(&damaged));
    let kept = directory.path().join("nothing_00002.damaged.mcap");
    assert_eq!(fs::read(kept).expect("it is kept"), damaged);
    // Where the one before it has made way, or is gone, it is no segment that was being begun, whatever is left of it.
    fs::remove_file(files::live_path(directory.path(), "nothing")).expect("it is there");
    for cut in [1, header - 1, header, keyframe - 1] {
        assert!(!is_removed(&bytes[..cut]), "cut at {cut} of {ends:?}");
    }
    assert!(!is_removed(&damaged));
}
