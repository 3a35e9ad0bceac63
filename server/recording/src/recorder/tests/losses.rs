//! What a loss of power, a bad disk and a switch that fails leave of a recording in several files.

use super::{segments::*, *};
use crate::{RecordedTick, Unfinished, list, remove_stillborn, tidy};

/// Two segments as they are while the match runs: the first one of 30 ticks, with its end, and what there is of the next one.
struct Left {
    directory: tempfile::TempDir,
    first: PathBuf,
    second: PathBuf,
}

impl Left {
    fn new() -> Self {
        let disk = Troubled::new();
        let mut scene = scene(&disk, SEGMENTED);
        disk.refuse_rename(true);
        scene.paced_ticks(35);
        let second = scene.recorder.path();
        let first = scene.live();
        scene.recorder.open.recorders.finish_ended();
        disk.die_after(0);
        let Scene { directory, recorder, .. } = scene;
        drop(recorder);
        assert!(first.exists() && second.ends_with("nothing_00002.live.mcap"), "{second:?}");
        Self { directory, first, second }
    }

    /// The first one is not said to have ended.
    fn without_end() -> Self {
        let left = Self::new();
        left.cut_first(1);
        left
    }

    /// Takes the last records off the first one.
    fn cut_first(&self, records: usize) {
        let ends = record_ends(&self.first);
        cut(&self.first, ends[ends.len() - 1 - records]);
    }

    fn files(&self) -> Vec<String> {
        let files = fs::read_dir(self.directory.path()).expect("it is there");
        let mut names: Vec<String> =
            files.map(|file| file.expect("it is there").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }
}

/// Where each record of a live file ends.
fn record_ends(path: &Path) -> Vec<usize> {
    let recording = Recording::open(path).expect("a recording");
    let mut records = recording.records().expect("readable");
    let mut ends = Vec::new();
    while let Some(Ok(_)) = records.next() {
        ends.push(records.sound_bytes() as usize);
    }
    ends
}

fn cut(path: &Path, length: usize) {
    let bytes = fs::read(path).expect("it is there");
    fs::write(path, &bytes[..length]).expect("a disk");
}

/// Plays on from what a start has made of a directory, to the end.
fn play_to_end(directory: &Path, ticks: u64) -> (Tick, Closed) {
    let recorders = Recorders::new();
    let (mut session, mut recorder, tokens) = start(directory, &recorders);
    let from = session.tick();
    assert_eq!(tokens.len(), session.seats_taken() as usize);
    for _ in 0..ticks {
        let input = Arc::new(session.begin_tick());
        recorder.tick_input(Arc::clone(&input));
        recorder.tick_result(session.finish_tick(&input).expect("nothing cannot break").result);
        if recorder.wants_keyframe() {
            recorder.keyframe(session.keyframe().expect("it can be saved"));
        }
    }
    (from, recorder.close(EndReason::Shutdown))
}

#[test]
fn what_a_loss_of_power_takes_is_never_in_the_midst_of_the_match() {
    let keeps: [fn(&str) -> bool; 3] = [|_| false, |name| name.contains("00002"), |name| !name.contains("00002")];
    for steps in 0.. {
        let disk = Troubled::new();
        let mut scene = scene(&disk, SEGMENTED);
        scene.paced_ticks(28);
        disk.die_after(steps);
        (0..6).for_each(|_| scene.turn());
        scene.recorder.open.recorders.finish_ended();
        disk.die_after(0);
        let is_done = disk.log().iter().any(|done| done == "remove nothing.live.mcap");
        let (played, Scene { directory, recorder, .. }) = (scene.session.tick(), scene);
        drop(recorder);
        for (i, is_kept) in keeps.into_iter().enumerate() {
            let copy = tempfile::tempdir().expect("a directory");
            for file in fs::read_dir(directory.path()).expect("it is there") {
                let file = file.expect("it is there");
                fs::copy(file.path(), copy.path().join(file.file_name())).expect("a disk");
            }
            disk.lose_power(copy.path(), is_kept);
            let (from, closed) = play_to_end(copy.path(), 12);
            assert!(from <= played, "{from} of {played}");
            assert_eq!((closed.problem, closed.end.tick), (None, Tick(from.0 + 12)), "{steps} steps, keeping {i}");
            assert_whole(copy.path(), closed.end.tick, &EndReason::Shutdown);
        }
        if is_done {
            return;
        }
    }
}

#[test]
fn the_file_before_is_safe_before_there_is_a_next_one() {
    let disk = Troubled::new();
    let mut scene = scene(&disk, RecorderOptions { durability: Durability::Flush, ..SEGMENTED });
    scene.paced_ticks(40);
    let log = disk.log();
    let at = |what: &str| log.iter().position(|done| done == what).unwrap_or_else(|| panic!("no {what}: {log:?}"));
    let order = ["sync nothing.live.mcap", "create nothing_00002.live.mcap", "sync nothing_00002.live.mcap"];
    assert!(order.map(at).is_sorted(), "{log:?}");
    drop(scene.recorder.close(EndReason::Shutdown));
}

#[test]
fn a_file_that_cannot_be_synced_is_not_left_for_the_next_one() {
    let disk = Troubled::new();
    let mut scene = scene(&disk, SEGMENTED);
    disk.refuse_sync(true);
    scene.paced_ticks(75);
    assert_eq!(scene.recorder.status().segment, 1);
    assert!(!disk.log().iter().any(|done| done == "create nothing_00002.live.mcap"));
    disk.refuse_sync(false);
    scene.paced_ticks(30);
    let (last, directory) = (scene.session.tick(), scene.directory);
    assert_eq!(scene.recorder.close(EndReason::Shutdown).problem, None);
    assert_eq!(assert_whole(directory.path(), last, &EndReason::Shutdown).len(), 2);
}

#[test]
fn a_segment_that_lacks_its_last_ticks_says_how_many() {
    for is_next_finished in [false, true] {
        let left = Left::new();
        // Its end, a result, and four whole ticks.
        left.cut_first(10);
        let whole = Recording::open(&left.first).expect("a recording").scan().ticks;
        assert!((20..29).contains(&whole), "{whole}");
        if is_next_finished {
            repair(&left.second).expect("a disk");
            let unfinished = Unfinished::open(&left.first).expect("a recording");
            assert!(unfinished.has_successor());
            unfinished.finish().expect("a disk");
        } else {
            play_to_end(left.directory.path(), 5);
        }
        let first = files::finished_path(left.directory.path(), "nothing");
        let first = Recording::open(first).expect("a recording").summary();
        let problem = Some("its end was not on the disk when the server was killed".to_owned());
        assert_eq!(first.state, RecordingState::Incomplete { ticks_missing: 30 - whole, problem });
        assert_eq!((first.ticks, first.last_tick()), (whole, Tick(whole)));
    }
}

#[test]
fn a_segment_behind_one_that_is_finished_is_of_no_account_for_the_end_of_one_before_that() {
    let disk = Troubled::new();
    let mut scene = scene(&disk, SEGMENTED);
    scene.paced_ticks(28);
    disk.refuse_rename(true);
    scene.paced_ticks(7);
    let first = fs::read(scene.live()).expect("it is there");
    disk.refuse_rename(false);
    scene.paced_ticks(30);
    scene.recorder.open.recorders.finish_ended();
    disk.die_after(0);
    let Scene { directory, recorder, .. } = scene;
    drop(recorder);
    // As where its end could not be written, nor be finished.
    fs::remove_file(files::finished_path(directory.path(), "nothing")).expect("it is finished");
    let path = files::live_path(directory.path(), "nothing");
    fs::write(&path, first).expect("a disk");
    let ends = record_ends(&path);
    cut(&path, ends[ends.len() - 2]);
    let (_, closed) = play_to_end(directory.path(), 5);
    assert_eq!(assert_whole(directory.path(), closed.end.tick, &EndReason::Shutdown).len(), 3);
}

#[test]
fn in_a_segments_head_the_tokens_stand_before_the_keyframe_that_makes_it_whole() {
    let whole = Left::without_end();
    let bytes = fs::read(&whole.second).expect("it is there");
    let ends = record_ends(&whole.second);
    // The header, a token, and the keyframe.
    for cut in [ends[0], ends[0] + 9, ends[1], ends[2] - 1, ends[2], ends[2] + 9] {
        fs::write(&whole.second, &bytes[..cut]).expect("a disk");
        assert_eq!(remove_stillborn(&whole.second).expect("a disk"), cut < ends[2], "cut at {cut} of {ends:?}");
    }
    fs::write(&whole.second, &bytes[..ends[2]]).expect("a disk");
    let (from, _) = play_to_end(whole.directory.path(), 0);
    assert_eq!(from, Tick(30), "with the token of who sits");
}

#[test]
fn a_damaged_segment_is_not_one_that_was_being_begun() {
    let damages: [fn(&mut [u8], usize); 3] = [
        // The length of its first record of ours, which is its header; or of the first one of all.
        |bytes, header| bytes[header + 5] ^= 0x40,
        |bytes, _| bytes[8 + 5] ^= 0x40,
        // All of it is one torn record, from the header on.
        |bytes, header| bytes[header + 1..header + 9].copy_from_slice(&(10_u64 << 20).to_le_bytes()),
    ];
    for (i, damage) in damages.into_iter().enumerate() {
        let left = Left::new();
        let mut bytes = fs::read(&left.second).expect("it is there");
        let recording = Recording::open(&left.second).expect("a recording");
        let header = recording.meta().encode();
        let place = bytes.windows(header.len()).position(|window| window == header).expect("it has a header") - 31;
        damage(&mut bytes, place);
        fs::write(&left.second, &bytes).expect("a disk");
        // The switch was completed: the file before says so.
        assert!(!remove_stillborn(&left.second).expect("a disk"), "damage {i}");
        repair(&left.first).expect("a disk");
        assert!(!remove_stillborn(&left.second).expect("a disk"), "damage {i}");
        assert_eq!(fs::read(&left.second).expect("it is there"), bytes, "it is as it was");
        // And where nobody knows, it is kept.
        let left = Left::without_end();
        fs::write(&left.second, &bytes).expect("a disk");
        let (from, _) = play_to_end(left.directory.path(), 0);
        assert_eq!(from, Tick(30));
        let is_kept = left.files().contains(&"nothing_00002.damaged.mcap".to_owned());
        assert_eq!(is_kept, i < 2, "damage {i}: {:?}", left.files());
    }
}

#[test]
fn a_switch_that_failed_leaves_nothing_that_a_start_would_go_on_from() {
    for (refuse_cut, ends) in [(false, false), (false, true), (true, false), (true, true)] {
        let disk = Troubled::new();
        let mut scene = scene(&disk, SEGMENTED);
        scene.paced_ticks(28);
        disk.refuse_directory_sync(true);
        disk.refuse_remove(true);
        disk.refuse_cut(refuse_cut);
        scene.paced_ticks(17);
        assert_eq!(scene.recorder.status().segment, 1);
        let left = files::live_path(scene.directory.path(), "nothing_00002");
        assert_eq!(fs::metadata(&left).expect("it cannot be removed").len() == 0, !refuse_cut);
        let (last, Scene { directory, recorder, .. }) = (scene.session.tick(), scene);
        if ends {
            disk.refuse_directory_sync(false);
            disk.refuse_remove(false);
            assert_eq!(recorder.close(EndReason::Shutdown).problem, None);
            let left = tidy(directory.path()).expect("a directory").unfinished;
            assert!(left.iter().all(|left| remove_stillborn(left).expect("a disk")), "its session has ended");
            assert_eq!(list(directory.path()).expect("a directory").len(), 1);
        } else {
            disk.die_after(0);
            drop(recorder);
            let (from, closed) = play_to_end(directory.path(), 5);
            assert!(from.0 + 1 >= last.0, "{from} of {last}");
            assert_whole(directory.path(), closed.end.tick, &EndReason::Shutdown);
        }
    }
}

#[test]
fn an_empty_file_that_cannot_be_removed_is_no_segment() {
    let left = Left::without_end();
    fs::write(&left.second, b"").expect("a disk");
    let disk = Troubled::new();
    disk.refuse_remove(true);
    assert!(crate::stillborn::remove_on(&*disk, &left.second).expect("it is ignored"));
    assert!(left.second.exists());
    let unfinished = Unfinished::open(&left.first).expect("a recording");
    assert!(!unfinished.has_successor());
}

#[test]
fn a_switch_that_keeps_failing_asks_the_game_for_a_keyframe_less_and_less_often() {
    let disk = Troubled::new();
    let options = RecorderOptions { keyframe_ticks: 0, behind_ticks: 10, segment_ticks: 30, ..OPTIONS };
    let mut scene = scene(&disk, options);
    disk.refuse_open(true);
    let mut asked = Vec::new();
    for _ in 0..3000 {
        scene.paced_ticks(1);
        if scene.recorder.keyframe_asked == scene.session.tick().0 {
            asked.push(scene.session.tick().0);
        }
    }
    let waits: Vec<u64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.is_sorted() && waits.iter().all(|wait| (20..=600).contains(wait)), "{waits:?}");
    assert_eq!(waits.iter().filter(|wait| **wait == 600).count(), 3, "{waits:?}");
    disk.refuse_open(false);
    scene.paced_ticks(600);
    // And then it is as if nothing had been.
    let first = scene.recorder.status().first_tick.0;
    assert!(scene.recorder.status().segment > 3, "{:?}", scene.recorder.status());
    assert!(scene.session.tick().0 - first < 60, "{first}");
    let (last, directory) = (scene.session.tick(), scene.directory);
    assert_eq!(scene.recorder.close(EndReason::Shutdown).problem, None);
    assert_whole(directory.path(), last, &EndReason::Shutdown);
}

#[test]
fn a_segment_that_can_never_be_finished_is_given_up_and_said() {
    let disk = Troubled::new();
    let mut scene = scene(&disk, SEGMENTED);
    disk.refuse_rename(true);
    scene.paced_ticks(40);
    let recorders = scene.recorder.open.recorders.clone();
    recorders.finish_ended();
    assert_eq!((scene.recorder.status().segments_left, scene.recorder.status().problem), (0, None));
    let held = recorders.live_bytes();
    for _ in 0..10 {
        recorders.finish_ended();
    }
    let status = scene.recorder.status();
    assert_eq!((status.state, status.segments_left), (RecorderState::Running, 1));
    let problem = status.problem.expect("it is said");
    assert!(problem.starts_with("nothing.live.mcap could not be finished, repair it later: "), "{problem}");
    assert_eq!(status.failures, 5);
    assert_eq!(recorders.live_bytes(), status.bytes, "it counts no more");
    assert!(held > status.bytes, "{held}");
    // Nobody tries it again, though it could be done now: it is left for the next start.
    disk.refuse_rename(false);
    recorders.finish_ended();
    assert!(scene.live().exists());
    disk.die_after(0);
    let Scene { directory, recorder, .. } = scene;
    drop(recorder);
    let (_, closed) = play_to_end(directory.path(), 5);
    assert_whole(directory.path(), closed.end.tick, &EndReason::Shutdown);
}

#[test]
fn segments_that_cannot_be_finished_do_not_end_the_recording() {
    let disk = Troubled::new();
    let options = RecordersOptions { live_bytes_max: 100_000, ..RecordersOptions::default() };
    let recorders = Recorders::on(Arc::clone(&disk) as _, 1, options, || {});
    let options = RecorderOptions { segment_ticks: u64::MAX, segment_bytes: 1 << 30, ..SEGMENTED };
    let mut scene = Scene::with(&recorders, &disk, COUNTED, options);
    scene.session.join("Ada").expect("a free seat");
    disk.refuse_rename(true);
    while scene.recorder.status().segment < 9 {
        scene.paced_ticks(1);
        assert_eq!(scene.state(), RecorderState::Running, "{:?}", scene.recorder.status());
        // As soon as a thread comes to it.
        if recorders.live_bytes() > 60_000 {
            recorders.finish_ended();
        }
    }
    assert!(scene.recorder.status().segments_left >= 5);
    disk.refuse_rename(false);
    let closed = scene.recorder.close(EndReason::Shutdown);
    assert_eq!(closed.problem, None);
    assert_eq!(recorders.live_bytes(), 0);
    let listed = list(scene.directory.path()).expect("a directory");
    let whole = |path: PathBuf| {
        let ticks = Recording::open(path).expect("a recording").ticks().expect("readable");
        ticks.map(|tick| tick.expect("sound")).collect::<Vec<RecordedTick>>()
    };
    let ticks: Vec<u64> =
        listed.into_iter().flat_map(|listed| whole(listed.path)).map(|tick| tick.input.tick.0).collect();
    assert_eq!(ticks, (1..=scene.session.tick().0).collect::<Vec<_>>());
}

#[test]
fn an_end_that_is_not_finished_survives_a_loss_of_power() {
    let mut scene = Scene::new(OPTIONS);
    scene.paced_ticks(30);
    scene.disk.refuse_rename(true);
    let closed = scene.recorder.close(EndReason::Shutdown);
    assert!(closed.problem.is_some());
    scene.disk.die_after(0);
    scene.disk.lose_power(scene.directory.path(), |_| false);
    let repaired = repair(&closed.path).expect("a repair");
    let recording = Recording::open(&repaired.path).expect("a recording");
    assert_eq!(recording.summary().state, RecordingState::Complete(EndReason::Shutdown));
    assert_eq!(recording.summary().ticks, 30);
}
