//! What was said: beside the match, wherever it stands, and of no consequence to it.

use std::{io::Cursor, path::Path, sync::Arc};

use proptest::prelude::*;
use tickwire_recording::{
    ChatRecord, EndReason, Layout, RecordedTick, Recorder, RecorderOptions, Recording, RecordingMeta, Writer, repair,
    verify,
};
use tickwire_shared::{PlayerId, Tick, TickRate};

use crate::game::{Dots, Match, created, play_match, session};

fn line(id: u64, tick: u64) -> ChatRecord {
    ChatRecord {
        id,
        tick: Tick(tick),
        time: created(),
        from: Some(PlayerId(1)),
        from_name: "Ada".into(),
        to: None,
        team: None,
        text: format!("line number {id}"),
    }
}

/// The match with lines before those records, from the first input on.
fn bytes_with_chat(played: &Match, layout: Layout, before: &[usize]) -> Vec<u8> {
    let mut writer = Writer::new(Cursor::new(Vec::new()), &played.meta, layout).expect("memory takes it");
    let (mut records, mut ids) = (0.., 1..);
    let mut talk = |writer: &mut Writer<Cursor<Vec<u8>>>, tick: Tick| {
        let record = records.next().expect("endless");
        for _ in before.iter().filter(|before| **before == record) {
            writer.chat(&line(ids.next().expect("endless"), tick.0)).expect("memory takes it");
        }
    };
    for (input, result) in &played.ticks {
        talk(&mut writer, input.tick);
        writer.tick_input(input).expect("memory takes it");
        talk(&mut writer, input.tick);
        writer.tick_result(result.as_ref().expect("it is whole")).expect("memory takes it");
    }
    talk(&mut writer, played.end.tick);
    writer.end(&played.end).expect("memory takes it");
    writer.finish().expect("memory takes it").into_inner()
}

fn open(bytes: Vec<u8>) -> Recording {
    Recording::from_bytes(bytes).expect("a recording")
}

fn ticks(recording: &Recording) -> Vec<RecordedTick> {
    recording.ticks().expect("it opens").collect::<Result<_, _>>().expect("it is sound")
}

fn ids(recording: &Recording) -> Vec<u64> {
    recording.chat().expect("it opens").map(|line| line.expect("it is sound").id).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn the_match_is_the_same_wherever_lines_stand(
        before in proptest::collection::vec(0..=60_usize, 0..20), is_live in any::<bool>(), most in 0..25_usize
    ) {
        let played = play_match(30);
        let layout = if is_live { Layout::Live } else { Layout::Finished };
        let (silent, talked) = (open(played.bytes(layout)), open(bytes_with_chat(&played, layout, &before)));
        prop_assert_eq!(ticks(&silent), ticks(&talked));
        let all: Vec<u64> = (1..=before.len() as u64).collect();
        prop_assert_eq!(ids(&talked), all.clone());
        let newest: Vec<u64> = talked.newest_chat(most).expect("it opens").iter().map(|line| line.id).collect();
        prop_assert_eq!(newest, &all[all.len().saturating_sub(most)..]);
        let verified = verify(&talked, Arc::new(Dots::default())).expect("the same match");
        prop_assert_eq!((verified.ticks, silent.summary()), (30, talked.summary()));
    }
}

#[test]
fn a_reader_that_knows_nothing_of_lines_passes_them_over() {
    let played = play_match(30);
    let mut bytes = bytes_with_chat(&played, Layout::Live, &[0, 7, 60]);
    // Of what it does not know a reader sees a topic of another name.
    let name = b"\x04\x00\x00\x00chat";
    let at = bytes.windows(name.len()).position(|window| window == name).expect("the channel's name");
    bytes[at + 4..at + name.len()].copy_from_slice(b"talk");
    let recording = open(bytes);
    assert_eq!((ticks(&recording), ids(&recording)), (ticks(&played.recording()), Vec::new()));
}

#[test]
fn a_line_that_is_damaged_is_passed_over_and_the_match_is_not() {
    let played = play_match(30);
    let mut bytes = bytes_with_chat(&played, Layout::Live, &[3, 9, 20]);
    let text = b"line number 2";
    let at = bytes.windows(text.len()).position(|window| window == text).expect("it is there");
    bytes[at] ^= 1;
    let recording = open(bytes);
    assert_eq!((ticks(&recording).len(), ids(&recording)), (30, vec![1, 3]));
}

/// Ticks and lines by turns, with and without players; the file is that of a killed server, or of one that has ended.
fn talk(directory: &Path, is_killed: bool) -> Recording {
    let mut session = session();
    let meta = RecordingMeta::of(&session, "sessions/dots-1", created());
    // Ticks come faster here than in real time.
    let options = RecorderOptions { behind_ticks: 1000, ..RecorderOptions::at(TickRate::DEFAULT) };
    let recorder = Recorder::start(directory, "dots-1", &meta, options);
    let mut recorder = recorder.expect("a recorder");
    let mut ids = 1..;
    for tick in 1..=90 {
        match tick {
            30 => drop(session.join("Ada")),
            60 => session.leave(PlayerId(1)),
            _ => {}
        }
        if tick % 5 == 0 {
            recorder.chat(ids.by_ref().take(2).map(|id| line(id, tick)).collect());
        }
        let record = Arc::new(session.begin_tick());
        recorder.tick_input(Arc::clone(&record));
        if tick % 7 == 0 {
            recorder.chat(vec![line(ids.next().expect("endless"), tick)]);
        }
        let output = session.finish_tick(&record).expect("the dots are sound");
        recorder.tick_result(output.result);
    }
    recorder.chat(vec![line(ids.next().expect("endless"), 90)]);
    let path = if is_killed {
        let live = recorder.path().to_owned();
        drop(recorder);
        repair(live).expect("it can be repaired").path
    } else {
        recorder.close(EndReason::Shutdown).path
    };
    Recording::open(path).expect("a recording")
}

#[test]
fn a_recorder_takes_lines_between_any_records_also_while_nothing_happens() {
    for is_killed in [false, true] {
        let directory = tempfile::tempdir().expect("a directory");
        let recording = talk(directory.path(), is_killed);
        let expected = 90 / 5 * 2 + 90 / 7 + 1;
        assert_eq!(ids(&recording), (1..=expected).collect::<Vec<_>>());
        assert_eq!(verify(&recording, Arc::new(Dots::default())).expect("the same match").ticks, 90);
    }
}
