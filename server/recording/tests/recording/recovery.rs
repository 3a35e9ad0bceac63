//! Going on with what a killed server has left.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    time::SystemTime,
};

use tickwire_recording::{
    Divergence, End, EndReason, Layout, Recorder, RecorderOptions, Recorders, Recording, RecordingError,
    RecordingState, Recovered, Recovery, RecoveryError, RecoveryOptions, Replay, Resumable, Retention, SeatToken,
    Segment, Tidied, TokenKey, Unfinished, VerifyError, finished_path, list, live_path, repair, retain, tidy, verify,
};
use tickwire_shared::{PlayerId, PlayerStatus, Tick, TickRate};
use tickwire_simulation::{SeatChange, Session};

use crate::{
    game::{Dots, Twist, input, play_broken_match, play_match, play_match_with_keyframes},
    names_in,
};

/// A directory with what a killed server has left of a match.
struct Scene {
    directory: tempfile::TempDir,
}

impl Scene {
    fn new(left: &[u8]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(live_path(directory.path(), "a"), left).expect("it can be written");
        Self { directory }
    }

    fn of_ticks(ticks: u64) -> Self {
        Self::new(&play_match(ticks).bytes_with(Layout::Live, None))
    }

    fn live(&self) -> PathBuf {
        live_path(self.directory.path(), "a")
    }

    fn files(&self) -> Vec<String> {
        names_in(self.directory.path())
    }

    fn try_recover(&self, game: Dots) -> Result<Recovery, (RecoveryError, Box<Unfinished>)> {
        let stop = AtomicBool::new(false);
        Unfinished::open(&self.live()).expect("a recording").recover(Arc::new(game), options(&stop))
    }

    fn goes_on(&self) -> Box<Resumable> {
        match self.try_recover(Dots::default()) {
            Ok(Recovery::GoesOn(resumable)) => resumable,
            other => panic!("{other:?}"),
        }
    }

    fn fails(&self, game: Dots) -> (RecoveryError, Box<Unfinished>) {
        self.try_recover(game).map(drop).expect_err("nobody can go on with it")
    }

    /// As a server that starts.
    fn resume(&self) -> (Session, Recorder) {
        Recorders::new().resume(*self.goes_on(), RecorderOptions::at(TickRate::DEFAULT)).expect("a recorder")
    }

    /// The finished recording, with all its ticks verified.
    fn verified(&self) -> u64 {
        let recording = Recording::open(finished_path(self.directory.path(), "a")).expect("a recording");
        verify(&recording, Arc::new(Dots::default())).expect("the same match").ticks
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000)
}

fn options(stop: &AtomicBool) -> RecoveryOptions<'_> {
    static TICKS_DONE: AtomicU64 = AtomicU64::new(0);
    RecoveryOptions { grace_ticks: 50, now: now(), stop, ticks_done: &TICKS_DONE }
}

fn tick(session: &mut Session, recorder: &mut Recorder) -> Vec<SeatChange> {
    let record = Arc::new(session.begin_tick());
    recorder.tick_input(Arc::clone(&record));
    let output = session.finish_tick(&record).expect("the dots are sound");
    recorder.tick_result(output.result);
    record.seat_changes.clone()
}

fn play(session: &mut Session, recorder: &mut Recorder, ticks: u64) {
    (0..ticks).for_each(|_| drop(tick(session, recorder)));
}

#[test]
fn a_session_goes_on_in_the_same_recording_under_a_new_epoch() {
    let scene = Scene::of_ticks(90);
    let (mut session, mut recorder) = scene.resume();
    let original = play_match(90);
    let hash = original.ticks.last().and_then(|(_, result)| result.as_ref()).expect("a result").state_hash;
    assert_eq!((session.tick(), session.frame().epoch, session.frame().state_hash), (Tick(90), 1, hash));
    assert_eq!(scene.files(), ["a.live.mcap"], "no note is left of a recovery that went well");

    let (ada, eve) = (PlayerId(1), PlayerId(3));
    let lost = [ada, eve].map(|player| SeatChange::Disconnected { player });
    assert_eq!(tick(&mut session, &mut recorder), lost, "nobody is connected after a crash");
    assert_eq!(session.frame().epoch, 1);
    assert!(session.reconnect(ada));
    let sent = input(&session, session.consumed_input(ada) + 1, 93, &[8, 0, 0]);
    session.input(ada, sent);
    play(&mut session, &mut recorder, 60);
    let status = |player| session.frame().roster.rows.iter().find(|row| row.player == player).map(|row| row.status);
    assert_eq!(status(ada), Some(PlayerStatus::Connected));
    assert_eq!(status(eve), Some(PlayerStatus::Left), "the grace is over");

    let closed = recorder.close(EndReason::Shutdown);
    assert_eq!((closed.problem, closed.end.tick), (None, Tick(151)));
    assert_eq!(scene.verified(), 151);
    let recording = Recording::open(&closed.path).expect("a recording");
    let recovered = [Recovered { tick: Tick(90), epoch: 1, time: now() }];
    for summary in [recording.summary(), recording.scan()] {
        assert_eq!((summary.ticks, summary.recovered.as_slice()), (151, recovered.as_slice()));
        assert_eq!(summary.state, RecordingState::Complete(EndReason::Shutdown));
    }
    // Whoever watches it sees the epochs as those did who played.
    let mut replay = Replay::new(&recording, Arc::new(Dots::default())).expect("a replay");
    let epochs = replay.by_ref().map(|tick| tick.expect("sound").outcome.expect("sound").frame.epoch);
    assert_eq!(epochs.collect::<Vec<_>>(), [[0].repeat(90), [1].repeat(61)].concat());
}

#[test]
fn wherever_a_kill_tears_the_file_the_match_goes_on_time_and_again() {
    let bytes = play_match(64).bytes_with(Layout::Live, None);
    let header = {
        let meta = play_match(0);
        meta.bytes_with(Layout::Live, None).len()
    };
    for cut in (header..bytes.len()).step_by(211).chain([bytes.len() - 1]) {
        let scene = Scene::new(&bytes[..cut]);
        let readable = Recording::open(scene.live()).expect("a header").scan().ticks;
        let mut last = Tick(0);
        for epoch in 1..=3 {
            let (mut session, mut recorder) = scene.resume();
            assert_eq!(session.frame().epoch, epoch);
            // A tick whose input is on record belongs to it.
            assert!(session.tick().0.max(last.0) - readable.max(last.0) <= 1, "{} of {readable}", session.tick());
            play(&mut session, &mut recorder, 7);
            last = session.tick();
        }
        let (session, recorder) = scene.resume();
        assert_eq!((session.tick(), session.frame().epoch), (last, 4), "cut at {cut}");
        assert_eq!(recorder.close(EndReason::Shutdown).problem, None);
        assert_eq!(scene.verified(), last.0, "cut at {cut}");
        assert_eq!(scene.files(), ["a.mcap"], "cut at {cut}");
    }
}

#[test]
fn whoever_has_a_seat_comes_back_by_the_newest_tokens() {
    let scene = Scene::of_ticks(90);
    let (mut session, mut recorder) = scene.resume();
    let key = |id: u64| TokenKey { id, hash: [id as u8; 32] };
    let token = |player, newest, previous: Option<u64>| SeatToken {
        player: PlayerId(player),
        newest: key(newest),
        previous: previous.map(key),
    };
    for (tokens, ticks) in [(vec![token(1, 11, None), token(3, 31, None)], 1), (vec![token(1, 12, Some(11))], 20)] {
        for token in tokens {
            recorder.seat_token(session.tick().next(), token);
        }
        play(&mut session, &mut recorder, ticks);
    }
    // Who has no seat has no use for any.
    recorder.seat_token(session.tick().next(), token(2, 21, None));
    play(&mut session, &mut recorder, 1);
    drop(recorder);
    let goes_on = scene.goes_on();
    assert_eq!(goes_on.seat_tokens(), [token(1, 12, Some(11)), token(3, 31, None)]);
    drop(goes_on);
    repair(scene.live()).expect("a repair");
    assert_eq!(scene.verified(), 112);
}

#[test]
fn a_session_goes_on_from_the_newest_keyframe_and_records_more() {
    let scene = Scene::new(&play_match_with_keyframes(95, 30).bytes_with(Layout::Live, None));
    // Before the newest keyframe, at tick 90, nothing is played.
    let earlier = Dots { twist: Some((89, Twist::Panic)), ..Dots::default() };
    match scene.try_recover(earlier) {
        Ok(Recovery::GoesOn(resumable)) => assert_eq!(resumable.recovered().tick, Tick(95)),
        other => panic!("{other:?}"),
    }
    let mut last = Tick(95);
    for epoch in 1..=3 {
        let options = RecorderOptions { keyframe_ticks: 30, ..RecorderOptions::at(TickRate::DEFAULT) };
        let (mut session, mut recorder) = Recorders::new().resume(*scene.goes_on(), options).expect("a recorder");
        assert_eq!((session.tick(), session.frame().epoch), (last, epoch));
        for _ in 0..33 {
            drop(tick(&mut session, &mut recorder));
            if recorder.wants_keyframe() {
                recorder.keyframe(session.keyframe().expect("the dots can be saved"));
            }
        }
        last = session.tick();
    }
    let (session, recorder) = scene.resume();
    assert_eq!((session.tick(), session.frame().epoch), (Tick(194), 4));
    assert_eq!(recorder.close(EndReason::Shutdown).problem, None);
    assert_eq!(scene.verified(), 194);
    let path = finished_path(scene.directory.path(), "a");
    let summary = Recording::open(&path).expect("a recording").summary();
    assert_eq!((summary.keyframes, summary.recovered.len()), (6, 4));
    for at in [94, 95, 128, 161, 194] {
        Replay::at(&Recording::open(&path).expect("a recording"), Arc::new(Dots::default()), Tick(at))
            .expect("every tick can be had, across recoveries, too");
    }
}

#[test]
fn where_no_keyframe_is_of_use_all_is_played_again() {
    // Another build's: nothing that it has saved can be used.
    let mut others = play_match_with_keyframes(95, 30);
    others.keyframes.iter_mut().for_each(|keyframe| keyframe.layout ^= 1);
    for left in [others.bytes_with(Layout::Live, None), play_match(95).bytes_with(Layout::Live, None)] {
        let scene = Scene::new(&left);
        assert_eq!(scene.goes_on().recovered().tick, Tick(95));
    }
}

#[test]
fn ticks_without_players_go_on_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut session = crate::game::session();
    let meta = tickwire_recording::RecordingMeta::of(&session, "sessions/dots-1", now());
    let mut recorder =
        Recorder::start(directory.path(), "a", &meta, RecorderOptions::at(TickRate::DEFAULT)).expect("a recorder");
    play(&mut session, &mut recorder, 100);
    drop(recorder);
    let scene = Scene { directory };
    for killed in 0..3 {
        let (mut session, mut recorder) = scene.resume();
        assert_eq!(session.tick(), Tick(100 + killed * 20));
        play(&mut session, &mut recorder, 20);
    }
    repair(scene.live()).expect("a repair");
    assert_eq!(scene.verified(), 160);
}

#[test]
fn zeros_of_a_loss_of_power_are_cut_off() {
    // Nine of them look like a record.
    for zeros in [4096, 4095] {
        let mut bytes = play_match(40).bytes_with(Layout::Live, None);
        let sound = bytes.len();
        bytes.resize(sound + zeros, 0);
        let scene = Scene::new(&bytes);
        let (mut session, mut recorder) = scene.resume();
        assert_eq!(session.tick(), Tick(40));
        play(&mut session, &mut recorder, 10);
        assert_eq!(recorder.close(EndReason::Shutdown).problem, None);
        assert_eq!((scene.verified(), scene.files()), (50, vec!["a.mcap".to_owned()]));
    }
}

#[test]
fn a_session_goes_on_from_before_a_damaged_tick_and_the_file_is_kept() {
    let mut bytes = play_match(40).bytes_with(Layout::Live, None);
    let place = bytes.len() - 700;
    bytes[place] ^= 0x10;
    let scene = Scene::new(&bytes);
    let readable = Recording::open(scene.live()).expect("a header").scan().ticks;
    assert!((20..40).contains(&readable), "{readable}");
    let (session, _recorder) = scene.resume();
    assert!(session.tick().0 - readable <= 1, "{} of {readable}", session.tick());
    assert_eq!(scene.files(), ["a.damaged-0.mcap", "a.live.mcap"]);
    assert_eq!(fs::read(scene.directory.path().join("a.damaged-0.mcap")).expect("it is there"), bytes);
}

#[test]
fn what_is_appended_takes_the_number_of_no_schema_that_a_damaged_head_has() {
    let mut live = play_match(30).bytes_with(Layout::Live, None);
    // The channel of ends is gone, and the schema that it had is not what it was.
    let channel = records(&live, 4).find(|range| live[range.clone()].windows(7).any(|at| at == b"\x03\0\0\0end"));
    drop(live.drain(channel.expect("ends have a channel")));
    let is_of_ends = |range: &Range<usize>| live[range.clone()].windows(16).any(|at| at == b"v1.RecordingEnd\x08");
    let schema = records(&live, 3).find(is_of_ends).expect("ends have a schema");
    live[schema.end - 1] ^= 1;

    let scene = Scene::new(&live);
    let (mut session, mut recorder) = scene.resume();
    play(&mut session, &mut recorder, 5);
    let closed = recorder.close(EndReason::Shutdown);
    assert_eq!((closed.problem, closed.end.tick), (None, Tick(35)));
    assert_eq!(scene.verified(), 35);
}

/// Where the records of a kind are in a live file, each with its kind and its length.
fn records(live: &[u8], kind: u8) -> impl Iterator<Item = Range<usize>> + use<> {
    let (mut at, mut found) = (8, Vec::new());
    while at < live.len() {
        let length = u64::from_le_bytes(live[at + 1..at + 9].try_into().expect("8 bytes")) as usize;
        if live[at] == kind {
            found.push(at..at + 9 + length);
        }
        at += 9 + length;
    }
    found.into_iter()
}

#[test]
fn a_copy_of_what_is_damaged_replaces_none_and_the_same_one_is_kept_once() {
    let mut bytes = play_match(40).bytes_with(Layout::Live, None);
    let place = bytes.len() - 700;
    bytes[place] ^= 0x10;
    let scene = Scene::new(&bytes);
    let at = |name: &str| scene.directory.path().join(name);
    fs::write(at("a.damaged-0.mcap"), b"an earlier one").expect("it can be written");
    for _ in 0..2 {
        // As where it was killed behind the copy.
        fs::write(scene.live(), &bytes).expect("it can be written");
        drop(scene.goes_on());
        let read = ["a.damaged-0.mcap", "a.damaged-0-1.mcap"].map(|name| fs::read(at(name)).expect("it is there"));
        assert_eq!(read, [b"an earlier one".to_vec(), bytes.clone()]);
        let files = scene.files();
        assert_eq!(files.iter().filter(|name| name.contains("damaged")).count(), 2, "{files:?}");
    }
}

#[test]
fn a_rest_that_a_wrong_length_makes_one_torn_record_is_kept() {
    let mut bytes = play_match(40).bytes_with(Layout::Live, None);
    bytes.push(5);
    bytes.extend_from_slice(&(10_u64 << 20).to_le_bytes());
    bytes.resize(bytes.len() + (300 << 10), 7);
    let scene = Scene::new(&bytes);
    let (session, recorder) = scene.resume();
    assert_eq!(session.tick(), Tick(40));
    assert_eq!(scene.files(), ["a.damaged-0.mcap", "a.live.mcap"]);
    assert_eq!(fs::read(scene.directory.path().join("a.damaged-0.mcap")).expect("it is there"), bytes);
    drop(recorder);

    fs::write(scene.live(), &bytes).expect("it can be written");
    let repaired = repair(scene.live()).expect("a repair");
    assert!(matches!(repaired.lost, Some(RecordingError::Truncated { .. })), "{:?}", repaired.lost);
    assert_eq!(fs::read(repaired.kept.expect("kept")).expect("readable"), bytes);
}

#[test]
fn a_match_that_had_ended_is_finished_and_nobody_goes_on_with_it() {
    let played = play_match(40);
    let scene = Scene::new(&played.bytes(Layout::Live));
    match scene.try_recover(Dots::default()) {
        Ok(Recovery::Over { finished, end }) => assert_eq!((finished.ticks, end), (40, played.end)),
        other => panic!("{other:?}"),
    }
    assert_eq!(scene.files(), ["a.mcap"]);
}

#[test]
fn a_match_whose_last_tick_panics_has_failed() {
    let played = play_broken_match(40);
    let scene = Scene::new(&played.bytes_with(Layout::Live, None));
    match scene.try_recover(Dots::default()) {
        Ok(Recovery::Over { finished, end }) => assert_eq!((finished.ticks, end), (39, played.end)),
        other => panic!("{other:?}"),
    }
    let summary = Recording::open(finished_path(scene.directory.path(), "a")).expect("a recording").summary();
    let message = "player 1 broke the game".to_owned();
    assert_eq!(summary.state, RecordingState::Complete(EndReason::Failed { message }));
    assert_eq!(scene.files(), ["a.mcap"]);
}

#[test]
fn a_recording_of_another_build_is_set_aside_with_the_reason() {
    let scene = Scene::of_ticks(90);
    let another = Dots { twist: Some((37, Twist::Faster)), ..Dots::default() };
    let (error, unfinished) = scene.fails(another);
    let at = match &error {
        RecoveryError::Replay(VerifyError::Diverged(diverged)) => {
            let Divergence { tick, .. } = **diverged;
            tick
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(at, Tick(37));
    let left = fs::read(scene.live()).expect("it is there");
    let path = unfinished.set_aside(&error.to_string()).expect("a disk");
    drop(unfinished);
    assert_eq!(fs::read(&path).expect("it is there"), left, "it is as it was");
    assert_eq!(scene.files(), ["a.set-aside.mcap", "a.set-aside.txt"]);

    let [listed] = list(scene.directory.path()).expect("a directory").try_into().expect("one");
    let summary = listed.summary.expect("a header");
    assert_eq!((summary.ticks, &summary.state), (90, &RecordingState::SetAside(error.to_string())));
    let recording = Recording::open(&path).expect("a recording");
    assert_eq!(recording.scan().state, RecordingState::SetAside(error.to_string()));
    assert!(!recording.lacks_indexes(), "it needs none");
    assert_eq!(tidy(scene.directory.path()).expect("a directory"), Tidied::default(), "no start finds it again");

    let repaired = repair(&path).expect("a repair");
    assert_eq!((repaired.ticks, scene.files()), (90, vec!["a.mcap".to_owned()]));
    assert_eq!(scene.verified(), 90);
}

#[test]
fn a_game_that_panics_or_is_another_one_is_an_error_each() {
    let scene = Scene::of_ticks(90);
    let panics = Dots { twist: Some((37, Twist::Panic)), ..Dots::default() };
    let (error, unfinished) = scene.fails(panics);
    assert!(matches!(error, RecoveryError::Replay(VerifyError::Panicked(_))), "{error:?}");
    drop(unfinished);
    let (error, unfinished) = scene.fails(Dots { version: 2, ..Dots::default() });
    assert!(error.to_string().contains("replay it with the version that made it"), "{error}");
    drop(unfinished);
    // Each of them has been tried once, and died of nothing.
    assert_eq!(scene.goes_on().recovered().tick, Tick(90));
}

#[test]
fn a_recovery_that_is_told_to_stop_does() {
    let scene = Scene::of_ticks(90);
    let stop = AtomicBool::new(true);
    let unfinished = Unfinished::open(&scene.live()).expect("a recording");
    let (error, _) = unfinished.recover(Arc::new(Dots::default()), options(&stop)).map(drop).expect_err("too long");
    assert!(matches!(error, RecoveryError::Stopped { at: Tick(1), of: Tick(90) }), "{error:?}");
}

#[test]
fn a_process_that_dies_of_one_tick_does_so_three_times() {
    let scene = Scene::of_ticks(90);
    let note = scene.directory.path().join("a.attempt");
    let left = |suspect: u64, deaths: u64, now: u64| {
        let note_left = format!("suspect={suspect:020} deaths={deaths:020} restoring={:020} now={now:020}\n", 0);
        fs::write(&note, note_left).expect("a disk");
    };
    left(37, 1, 37);
    drop(scene.goes_on());
    left(37, 2, 36);
    drop(scene.goes_on());
    left(37, 2, 0);
    drop(scene.goes_on());
    left(37, 2, 37);
    let (error, unfinished) = scene.fails(Dots::default());
    assert!(matches!(error, RecoveryError::Died { tick: Tick(37), times: 3 }), "{error:?}");
    unfinished.set_aside(&error.to_string()).expect("a disk");
    assert_eq!(scene.files(), ["a.set-aside.mcap", "a.set-aside.txt"], "with it goes the note");
}

/// Leaves the note of an attempt behind so many that had died while they restored keyframes, and dies so itself.
fn die_restoring(scene: &Scene, name: &str, deaths: u32) {
    let note = scene.directory.path().join(format!("{name}.attempt"));
    let left = format!("suspect={:020} deaths={:020} restoring={:020} now={:020}\n", 0, 0, deaths - 1, u64::MAX);
    fs::write(note, left).expect("a disk");
}

#[test]
fn who_dies_of_keyframes_begins_with_an_older_one_and_then_with_the_first_tick() {
    let scene = Scene::new(&play_match_with_keyframes(95, 30).bytes_with(Layout::Live, None));
    let panics_at = |tick| Dots { twist: Some((tick, Twist::Panic)), ..Dots::default() };
    // Keyframes are after ticks 30, 60 and 90: the oldest tick that is played is the one that may not panic.
    for (deaths, begun_at) in [(1, 90), (2, 60), (3, 60), (4, 0), (50, 0)] {
        die_restoring(&scene, "a", deaths);
        match scene.try_recover(panics_at(begun_at)) {
            Ok(Recovery::GoesOn(resumable)) => assert_eq!(resumable.recovered().tick, Tick(95), "{deaths} deaths"),
            other => panic!("{deaths} deaths: {other:?}"),
        }
        die_restoring(&scene, "a", deaths);
        let (error, _) = scene.fails(panics_at(begun_at + 1));
        assert!(matches!(error, RecoveryError::Replay(VerifyError::Panicked(_))), "{deaths} deaths: {error:?}");
    }
}

/// A match of 150 ticks that is killed in its third segment, of which those with these numbers are there.
fn scene_of_segments(there: &[u32]) -> Scene {
    let scene = Scene { directory: tempfile::tempdir().expect("a directory") };
    let names = ["a", "a_00002", "a_00003"];
    let origins = [0, 60, 100, 150];
    for number in there {
        let index = *number as usize - 1;
        let mut played = play_match_with_keyframes(150, 20);
        let (origin, end) = (Tick(origins[index]), Tick(origins[index + 1]));
        if index > 0 {
            let predecessor = Some(names[index - 1].to_owned());
            played.meta.segment = Segment { number: *number, first_tick: origin.next(), predecessor };
        }
        played.ticks.retain(|(input, _)| origin < input.tick && input.tick <= end);
        played.end = End { reason: EndReason::Continued, tick: end, ticks_missing: 0 };
        let is_last = index == 2;
        let layout = if is_last { Layout::Live } else { Layout::Finished };
        let bytes = played.bytes_with(layout, Some(&played.end).filter(|_| !is_last));
        let directory = scene.directory.path();
        let path = if is_last { live_path(directory, names[index]) } else { finished_path(directory, names[index]) };
        fs::write(path, bytes).expect("it can be written");
    }
    scene
}

#[test]
fn who_dies_of_a_segments_keyframes_begins_with_the_segments_before_it() {
    let recover = |scene: &Scene, game: Dots| {
        let stop = AtomicBool::new(false);
        let path = live_path(scene.directory.path(), "a_00003");
        Unfinished::open(&path)
            .expect("a recording")
            .recover(Arc::new(game), options(&stop))
            .map_err(|(error, _)| error)
    };
    let panics_at = |tick| Dots { twist: Some((tick, Twist::Panic)), ..Dots::default() };
    // With the segments that are there, after so many deaths, it goes on from this tick on.
    let cases: &[(&[u32], u32, u64)] = &[
        (&[1, 2, 3], 1, 140),
        (&[1, 2, 3], 2, 120),
        (&[1, 2, 3], 4, 60),
        (&[1, 2, 3], 6, 0),
        (&[1, 2, 3], 99, 0),
        (&[2, 3], 11, 60),
        (&[1, 3], 11, 100),
        (&[3], 4, 100),
        (&[3], 11, 100),
    ];
    for (there, deaths, begun_at) in cases {
        let scene = scene_of_segments(there);
        die_restoring(&scene, "a_00003", *deaths);
        match recover(&scene, panics_at(*begun_at)) {
            Ok(Recovery::GoesOn(resumable)) => {
                let recovered = resumable.recovered();
                assert_eq!((recovered.tick, recovered.epoch), (Tick(150), 1), "{there:?}, {deaths} deaths");
            }
            other => panic!("{there:?}, {deaths} deaths: {other:?}"),
        }
        // Where it plays ticks of those before, and one of them is no good, it goes on from its own keyframe as long as it may.
        die_restoring(&scene, "a_00003", *deaths);
        let recovered = recover(&scene, panics_at(begun_at + 1));
        match (*begun_at < 100, *deaths < 12) {
            (true, true) => assert!(matches!(recovered, Ok(Recovery::GoesOn(_))), "{there:?}, {deaths}: {recovered:?}"),
            (true, false) => assert!(matches!(recovered, Err(RecoveryError::DiedRestoring { .. })), "{recovered:?}"),
            (false, _) => {
                assert!(matches!(recovered, Err(RecoveryError::Replay(_))), "{there:?}, {deaths}: {recovered:?}");
            }
        }
    }
    for there in [&[3][..], &[2, 3]] {
        let scene = scene_of_segments(there);
        die_restoring(&scene, "a_00003", 12);
        let error = recover(&scene, Dots::default()).map(drop).expect_err("no beginning is left");
        assert!(matches!(error, RecoveryError::DiedRestoring { tick: Tick(100), times: 12 }), "{error:?}");
    }
}

#[test]
fn what_is_taken_is_nobody_elses() {
    let scene = Scene::of_ticks(40);
    let taken = Unfinished::open(&scene.live()).expect("a recording");
    let in_use = |error: Option<RecordingError>| matches!(error, Some(RecordingError::InUse { .. }));
    assert!(in_use(Unfinished::open(&scene.live()).err()));
    assert!(in_use(repair(scene.live()).err()));
    drop(taken);
    let (_session, recorder) = scene.resume();
    assert!(in_use(Unfinished::open(&scene.live()).err()));
    drop(recorder);
    Unfinished::open(&scene.live()).expect("it is free");
}

#[test]
fn what_is_no_recording_is_an_error() {
    for left in [&b""[..], b"hello", &play_match(4).bytes_with(Layout::Live, None)[..100]] {
        let scene = Scene::new(left);
        assert!(Unfinished::open(&scene.live()).is_err());
    }
}

fn put(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("it can be written");
}

#[test]
fn notes_without_a_recording_and_reasons_of_deleted_ones_go() {
    let scene = Scene::of_ticks(40);
    put(&scene.directory.path().join("a.attempt"), b"of a recording that is there");
    put(&scene.directory.path().join("b.attempt"), b"of one that is not");
    let tidied = tidy(scene.directory.path()).expect("a directory");
    assert_eq!(tidied.removed, [scene.directory.path().join("b.attempt")]);
    assert_eq!(tidied.unfinished, [scene.live()]);

    Unfinished::open(&scene.live()).expect("a recording").set_aside("a reason").expect("a disk");
    let none = Retention { count_max: 0, ..Retention::UNLIMITED };
    assert_eq!(retain(scene.directory.path(), &none, now()).expect("a directory").deleted.len(), 1);
    assert_eq!(scene.files(), Vec::<String>::new());
}

#[test]
fn an_end_of_another_kind_stays_what_it_is() {
    let played = play_match(40);
    let end = End { reason: EndReason::Stopped { problem: "full".into() }, tick: Tick(45), ticks_missing: 5 };
    let scene = Scene::new(&played.bytes_with(Layout::Live, Some(&end)));
    assert!(matches!(scene.try_recover(Dots::default()), Ok(Recovery::Over { end: there, .. }) if there == end));
}
