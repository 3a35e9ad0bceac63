//! Both forms of a recording, and the way from one to the other.

use std::{fs, io::Cursor, path::Path, time::Duration};

use tickwire_recording::{
    End, EndReason, Layout, RecordedTick, Recording, RecordingError, RecordingState, Recovered, SeatToken, TokenKey,
    Writer, finished_path, list, live_path, repair,
};
use tickwire_shared::{PlayerId, Tick};
use tickwire_simulation::SeatChange;

use crate::game::{Match, play_broken_match, play_match};

#[test]
fn both_forms_hold_the_same_match() {
    let played = play_match(150);
    for layout in [Layout::Live, Layout::Finished] {
        let recording = Recording::from_bytes(played.bytes(layout)).expect("a recording");
        assert_eq!(*recording.meta(), played.meta);
        let mut ticks = recording.ticks().expect("ticks");
        for (input, result) in &played.ticks {
            let tick = ticks.next().expect("one tick more").expect("sound");
            assert_eq!((&tick.input, &tick.result), (input, result));
        }
        assert!(ticks.next().is_none());
        assert_eq!(ticks.end(), Some(&played.end));
    }
}

#[test]
fn a_finished_recording_has_a_chunk_for_each_two_seconds_and_is_smaller() {
    let played = play_match(200);
    let bytes = played.bytes(Layout::Finished);
    let summary = mcap::Summary::read(&bytes).expect("a sound file").expect("a summary");
    // One for the header.
    assert_eq!(summary.chunk_indexes.len(), 3);
    // Programs of others find messages by these only.
    assert!(summary.chunk_indexes.iter().all(|chunk| !chunk.message_index_offsets.is_empty()));
    let stats = summary.stats.expect("statistics");
    assert_eq!((stats.message_count, stats.message_end_time), (4, 3_333_333_333));
    assert!(bytes.len() < played.bytes(Layout::Live).len());
    for schema in summary.schemas.values() {
        assert_eq!(schema.encoding, "protobuf");
        assert!(schema.name.starts_with("tickwire.v1."), "{}", schema.name);
    }
}

#[test]
fn what_stands_between_ticks_parts_batches_and_stays_in_its_place() {
    let Match { meta, ticks, end, .. } = play_match(30);
    let token = SeatToken { player: PlayerId(1), newest: TokenKey { id: 7, hash: [1; 32] }, previous: None };
    let recovered = Recovered { tick: Tick(20), epoch: meta.epoch + 1, time: meta.created };
    let mut writer = Writer::new(Cursor::new(Vec::new()), &meta, Layout::Finished).expect("memory takes it");
    for (input, result) in &ticks {
        writer.tick_input(input).expect("memory takes it");
        if input.tick == Tick(10) {
            // Amid the tick: it is written as two records.
            writer.seat_token(input.tick, &token).expect("memory takes it");
        }
        match result {
            // The last one has none, as where the game panicked.
            Some(result) if input.tick != end.tick => writer.tick_result(result).expect("memory takes it"),
            _ => {}
        }
        if input.tick == recovered.tick {
            writer.recovered(&recovered).expect("memory takes it");
        }
    }
    writer.end(&End { reason: EndReason::Killed, ..end.clone() }).expect("memory takes it");
    let bytes = writer.finish().expect("memory takes it").into_inner();

    let messages = mcap::MessageStream::new(&bytes).expect("an MCAP file");
    let topics: Vec<String> = messages.map(|message| message.expect("whole").channel.topic.clone()).collect();
    let expected = [
        "header",
        "tick_batch",
        "tick_input",
        "seat_token",
        "tick_result",
        "tick_batch",
        "recovered",
        "tick_batch",
        "tick_input",
        "end",
    ];
    assert_eq!(topics, expected);
    let recording = Recording::from_bytes(bytes).expect("a recording");
    let summary = recording.summary();
    assert_eq!((summary.ticks, &summary.recovered), (29, &vec![recovered]));
    assert_eq!(summary, recording.scan());
    let read: Vec<RecordedTick> = recording.ticks().expect("ticks").map(|tick| tick.expect("whole")).collect();
    let mut whole: Vec<RecordedTick> =
        ticks.into_iter().map(|(input, result)| RecordedTick { input, result }).collect();
    whole[29].result = None;
    assert!(read == whole);
}

#[test]
fn what_is_too_large_for_a_batch_stands_in_records_of_its_own() {
    let Match { meta, mut ticks, end, .. } = play_match(9);
    // No batch takes a name of this length, but a record does.
    let name = "a".repeat(9 << 20).into();
    ticks[4].0.seat_changes.push(SeatChange::Joined { player: PlayerId(99), name });
    let played = Match { meta, ticks, end, keyframes: Vec::new() };
    let bytes = played.bytes(Layout::Finished);
    let recording = Recording::from_bytes(bytes).expect("a recording");
    let read: Vec<_> = recording.ticks().expect("ticks").map(|tick| tick.expect("whole")).collect();
    assert_eq!((read.len(), recording.summary().ticks), (9, 9));
    assert!(
        read.iter().zip(&played.ticks).all(|(read, (input, result))| read.input == *input && read.result == *result)
    );
}

#[test]
fn a_live_recording_that_nobody_ended_is_read_to_its_last_record() {
    let played = play_match(20);
    let recording = Recording::from_bytes(played.bytes_with(Layout::Live, None)).expect("a recording");
    let mut ticks = recording.ticks().expect("ticks");
    assert_eq!(ticks.by_ref().filter(|tick| tick.as_ref().is_ok_and(|tick| tick.result.is_some())).count(), 20);
    assert_eq!(ticks.end(), None);
    assert_eq!(recording.summary().state, RecordingState::Unfinished);
}

/// Where the last chunk starts.
pub(crate) fn last_chunk(bytes: &[u8]) -> usize {
    let chunks = mcap::Summary::read(bytes).expect("sound").expect("a summary").chunk_indexes;
    chunks.iter().map(|chunk| chunk.chunk_start_offset).max().expect("chunks") as usize
}

fn put(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("a writable directory");
}

#[test]
fn what_a_killed_server_left_becomes_a_finished_recording() {
    let directory = tempfile::tempdir().expect("a directory");
    let (live, finished) = (live_path(directory.path(), "a"), finished_path(directory.path(), "a"));
    let mut bytes = play_match(90).bytes_with(Layout::Live, None);
    bytes.truncate(bytes.len() - 7);
    put(&live, &bytes);
    let repaired = repair(&live).expect("a repair");
    assert_eq!((repaired.path.as_path(), repaired.ticks), (finished.as_path(), 89));
    assert!(matches!(repaired.lost, Some(RecordingError::Truncated { .. })), "{:?}", repaired.lost);
    assert!(!live.exists());
    let summary = Recording::open(&finished).expect("a recording").summary();
    assert_eq!((summary.ticks, summary.length), (89, Duration::from_nanos(1_483_333_333)));
    assert_eq!(summary.state, RecordingState::Complete(EndReason::Killed));
    let (ticks, end) = ticks_and_end(&finished);
    assert_eq!((ticks, end), (90, End { reason: EndReason::Killed, tick: Tick(90), ticks_missing: 0 }));
    // A second repair finds nothing to do.
    let again = repair(&finished).expect("nothing to do");
    assert_eq!((again.ticks, again.lost.is_none(), again.kept), (89, true, None));
}

#[test]
fn a_live_recording_that_is_damaged_in_its_midst_is_kept_when_it_is_finished() {
    let directory = tempfile::tempdir().expect("a directory");
    let live = live_path(directory.path(), "a");
    let mut bytes = play_match(40).bytes_with(Layout::Live, None);
    let place = bytes.len() - 700;
    bytes[place] ^= 0x10;
    put(&live, &bytes);
    let repaired = repair(&live).expect("a repair");
    assert!((20..40).contains(&repaired.ticks), "{}", repaired.ticks);
    let kept = repaired.kept.expect("kept");
    assert_eq!(kept, directory.path().join("a.damaged.mcap"));
    assert_eq!(fs::read(kept).expect("readable"), bytes);
    assert!(!live.exists() && repaired.path.exists());
    let state = Recording::open(&repaired.path).expect("a recording").summary().state;
    let RecordingState::Incomplete { problem: Some(problem), .. } = state else { panic!("{state:?}") };
    assert!(problem.starts_with("the file was damaged when it was repaired: "), "{problem}");
}

#[test]
fn a_damaged_recording_is_kept_beside_its_readable_part() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = finished_path(directory.path(), "a");
    let mut bytes = play_match(150).bytes(Layout::Finished);
    let last = last_chunk(&bytes);
    bytes[last + 200..last + 240].fill(0x55);
    put(&path, &bytes);
    let repaired = repair(&path).expect("a repair");
    assert!((100..150).contains(&repaired.ticks), "{}", repaired.ticks);
    assert!(matches!(repaired.lost, Some(RecordingError::Damaged { .. })), "{:?}", repaired.lost);
    assert_eq!(fs::read(repaired.kept.expect("kept")).expect("readable"), bytes);
    let summary = Recording::open(&path).expect("a recording").summary();
    // The end is in the damaged chunk, but not in its damaged part.
    let ticks_missing = 150 - repaired.ticks;
    assert_eq!(
        (summary.ticks, summary.state),
        (repaired.ticks, RecordingState::Incomplete { ticks_missing, problem: None })
    );
}

#[test]
fn a_recording_of_which_no_tick_is_readable_is_left_as_it_is() {
    let whole = play_match(50).bytes(Layout::Finished);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.mcap");
    let mut without_ticks = 0;
    for at in (60..whole.len()).step_by(100) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x41;
        put(&path, &bytes);
        let summary = Recording::open(&path).map(|recording| recording.scan());
        if summary.is_ok_and(|summary| summary.ticks == 0) {
            without_ticks += 1;
            let error = repair(&path).expect_err("nothing can be saved");
            assert!(error.to_string().contains("no tick is readable"), "{error}");
            assert_eq!(fs::read(&path).expect("it is there"), bytes);
            assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 1);
        }
    }
    assert!(without_ticks > 0, "some damage leaves the header alone");
}

#[test]
fn what_damage_amid_a_recording_costs_is_counted() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = finished_path(directory.path(), "a");
    let mut bytes = play_match(200).bytes(Layout::Finished);
    let chunks = mcap::Summary::read(&bytes).expect("sound").expect("a summary").chunk_indexes;
    // Behind those of the header and of the first ticks.
    let third = chunks.iter().map(|chunk| chunk.chunk_start_offset).nth(2).expect("chunks") as usize;
    bytes[third + 200] ^= 1;
    put(&path, &bytes);
    let recording = Recording::open(&path).expect("a recording");
    assert_eq!(
        recording.summary().state,
        RecordingState::Complete(EndReason::Ended { result_json: String::new() }),
        "the indexes are sound"
    );
    let scanned = recording.scan();
    assert!(matches!(scanned.state, RecordingState::Damaged(_)), "{:?}", scanned.state);
    assert!(!recording.lacks_indexes());

    let repaired = repair(&path).expect("a repair");
    let summary = Recording::open(&path).expect("a recording").scan();
    assert!(repaired.ticks > 0);
    let ticks_missing = 200 - repaired.ticks;
    assert_eq!(
        (summary.ticks, summary.state),
        (repaired.ticks, RecordingState::Incomplete { ticks_missing, problem: None })
    );
}

#[test]
fn a_sound_recording_without_an_end_gets_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = finished_path(directory.path(), "a");
    put(&path, &play_match(40).bytes_with(Layout::Finished, None));
    assert_eq!(Recording::open(&path).expect("a recording").summary().state, RecordingState::Unfinished);
    let repaired = repair(&path).expect("a repair");
    assert_eq!((repaired.ticks, repaired.lost.is_none(), repaired.kept), (40, true, None));
    let (ticks, end) = ticks_and_end(&path);
    assert_eq!((ticks, end), (40, End { reason: EndReason::Killed, tick: Tick(40), ticks_missing: 0 }));
}

#[test]
fn a_live_file_that_ends_amid_a_record_is_unfinished() {
    let directory = tempfile::tempdir().expect("a directory");
    let live = live_path(directory.path(), "a");
    let bytes = play_match(40).bytes_with(Layout::Live, None);
    put(&live, &bytes[..bytes.len() - 7]);
    let recording = Recording::open(&live).expect("a recording");
    assert_eq!((recording.scan().ticks, recording.scan().state), (39, RecordingState::Unfinished));
    assert!(!recording.lacks_indexes(), "a live file needs none");
}

#[test]
fn a_finished_file_that_is_cut_off_was_not_killed_and_nobody_knows_what_it_lacks() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = finished_path(directory.path(), "a");
    let bytes = play_match(150).bytes(Layout::Finished);
    let last = last_chunk(&bytes);
    // Amid the last chunk, and where it would begin.
    for (length, problem) in [
        (
            last + 100,
            "the file was damaged when it was repaired: the file ends in the middle of a record; its ticks up to 120 are readable",
        ),
        (last, "the end of the file was missing when it was repaired"),
    ] {
        put(&path, &bytes[..length]);
        let repaired = repair(&path).expect("a repair");
        assert_eq!((repaired.ticks, repaired.kept.is_some()), (120, true));
        let recording = Recording::open(&path).expect("a recording");
        let problem = Some(problem.to_owned());
        assert_eq!(recording.summary().state, RecordingState::Incomplete { ticks_missing: 0, problem });
        assert_eq!(recording.summary(), recording.scan());
    }
}

/// How many ticks can be read, and the end.
fn ticks_and_end(path: &Path) -> (usize, End) {
    let mut ticks = Recording::open(path).expect("a recording").ticks().expect("ticks");
    let read = ticks.by_ref().filter(Result::is_ok).count();
    (read, ticks.end().expect("an end").clone())
}

#[test]
fn a_recording_without_its_indexes_gets_them_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = finished_path(directory.path(), "a");
    let played = play_match(90);
    let bytes = played.bytes(Layout::Finished);
    put(&path, &bytes[..bytes.len() - 40]);
    assert!(Recording::open(&path).expect("a recording").lacks_indexes());
    let repaired = repair(&path).expect("a repair");
    assert_eq!((repaired.ticks, repaired.lost.is_none()), (90, true));
    let repaired = fs::read(&path).expect("readable");
    assert!(mcap::Summary::read(&repaired).expect("sound").is_some());
    assert_eq!(
        Recording::open(&path).expect("a recording").summary().state,
        RecordingState::Complete(EndReason::Ended { result_json: String::new() })
    );
}

#[test]
fn a_list_tells_each_recordings_state() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| finished_path(directory.path(), name);
    let played = play_match(120);
    put(&at("a-complete"), &played.bytes(Layout::Finished));
    let end = End { ticks_missing: 5, ..played.end.clone() };
    put(&at("b-incomplete"), &played.bytes_with(Layout::Finished, Some(&end)));
    put(&at("c-failed"), &play_broken_match(40).bytes(Layout::Finished));
    put(&live_path(directory.path(), "d-unfinished"), &played.bytes_with(Layout::Live, None));
    let bytes = play_match(150).bytes(Layout::Finished);
    put(&at("e-damaged"), &bytes[..last_chunk(&bytes) + 100]);
    put(&at("f-alien"), b"hello");
    // Finished, but for the removal of its live file.
    put(&live_path(directory.path(), "a-complete"), &played.bytes(Layout::Live));
    put(&directory.path().join("notes.txt"), b"not of interest");

    let listed = list(directory.path()).expect("a readable directory");
    let names: Vec<_> =
        listed.iter().map(|listed| listed.path.file_name().unwrap_or_default().to_string_lossy()).collect();
    let expected = ["a-complete.mcap", "b-incomplete.mcap", "c-failed.mcap", "d-unfinished.live.mcap"];
    assert_eq!(names[..4], expected);
    let summary = |i: usize| listed[i].summary.as_ref().expect("a header");
    assert_eq!((summary(0).ticks, summary(0).length), (120, Duration::from_secs(2)));
    assert_eq!(summary(0).meta.session, "sessions/dots-1");
    assert_eq!(summary(0).state, RecordingState::Complete(EndReason::Ended { result_json: String::new() }));
    assert_eq!(summary(1).state, RecordingState::Incomplete { ticks_missing: 5, problem: None });
    let message = "player 1 broke the game".to_owned();
    assert_eq!(summary(2).state, RecordingState::Complete(EndReason::Failed { message }));
    assert_eq!((summary(2).ticks, &summary(3).state), (39, &RecordingState::Unfinished));
    let reason = "the file ends in the middle of a record; its ticks up to 120 are readable".to_owned();
    assert_eq!((summary(4).ticks, &summary(4).state), (120, &RecordingState::Damaged(reason)));
    let lack_indexes: Vec<bool> = listed.iter().map(|listed| listed.lacks_indexes).collect();
    assert_eq!(lack_indexes, [false, false, false, false, true, false]);
    assert!(matches!(listed[5].summary, Err(RecordingError::NotARecording(_) | RecordingError::Truncated { .. })));
    assert_eq!(listed.len(), 6);
}

#[test]
fn an_empty_match_is_a_recording_too() {
    let Match { meta, end, .. } = play_match(0);
    let empty = Match { meta, ticks: Vec::new(), end, keyframes: Vec::new() };
    for layout in [Layout::Live, Layout::Finished] {
        let summary = Recording::from_bytes(empty.bytes(layout)).expect("a recording").summary();
        assert_eq!(
            (summary.ticks, summary.state),
            (0, RecordingState::Complete(EndReason::Ended { result_json: String::new() }))
        );
    }
}
