//! A segment behind the first one is a recording by itself: it begins with a keyframe, and its ticks have the match's numbers.

use std::{io::Cursor, sync::Arc};

use tickwire_recording::{
    Difference, EndReason, ExportPart, Failure, Layout, Recording, RecordingState, Recovered, Replay, ReplayError,
    Segment, Selection, VerifyError, Writer, byte_report, diff, dump_tick, export, export_csv, export_mcap, find_cause,
    minimise, repair, verify,
};
use tickwire_shared::{Game, Tick};

use crate::game::{Dots, Match, Twist, created, play_match_with_keyframes};

const ORIGIN: Tick = Tick(60);
const LAST: Tick = Tick(150);

fn dots() -> Arc<dyn Game> {
    Arc::new(Dots::default())
}

fn twisted(at: u64, twist: Twist) -> Arc<dyn Game> {
    Arc::new(Dots { twist: Some((at, twist)), ..Dots::default() })
}

/// A match of 150 ticks with a keyframe each 20.
fn whole() -> Match {
    play_match_with_keyframes(LAST.0, 20)
}

/// Its second segment, from tick 61 on.
fn segment() -> Match {
    let mut played = whole();
    played.meta.segment = Segment { number: 2, first_tick: ORIGIN.next(), predecessor: Some("dots-1".to_owned()) };
    played.ticks.retain(|(input, _)| input.tick > ORIGIN);
    played.keyframes.retain(|keyframe| keyframe.tick >= ORIGIN);
    played
}

/// As [`Match::bytes`], with what it begins with.
fn bytes(played: &Match, layout: Layout) -> Vec<u8> {
    let mut writer = Writer::new(Cursor::new(Vec::new()), &played.meta, layout).expect("memory takes it");
    writer.keyframe(&played.keyframes[0]).expect("memory takes it");
    for (input, result) in &played.ticks {
        writer.tick_input(input).expect("memory takes it");
        writer.tick_result(result.as_ref().expect("it is sound")).expect("memory takes it");
        for keyframe in played.keyframes.iter().filter(|keyframe| keyframe.tick == input.tick) {
            writer.keyframe(keyframe).expect("memory takes it");
        }
        if input.tick == Tick(100) {
            writer.recovered(&recovered()).expect("memory takes it");
        }
    }
    writer.end(&played.end).expect("memory takes it");
    writer.finish().expect("memory takes it").into_inner()
}

fn recovered() -> Recovered {
    Recovered { tick: Tick(100), epoch: 1, time: created() }
}

fn recording(layout: Layout) -> Recording {
    Recording::from_bytes(bytes(&segment(), layout)).expect("a recording")
}

#[test]
fn it_verifies_and_is_sought_from_its_keyframe() {
    let hashes: Vec<u64> =
        whole().ticks.iter().map(|(_, result)| result.as_ref().expect("it is sound").state_hash).collect();
    for layout in [Layout::Live, Layout::Finished] {
        let recording = recording(layout);
        assert_eq!(recording.meta().segment.origin(), ORIGIN);
        let verified = verify(&recording, dots()).expect("the same match");
        assert_eq!((verified.ticks, verified.state_hash), (90, hashes[149]));
        let summary = recording.summary();
        assert_eq!(summary, recording.scan());
        assert_eq!((summary.ticks, summary.last_tick(), summary.keyframes), (90, LAST, 5));
        assert_eq!(summary.state, RecordingState::Complete(EndReason::Ended { result_json: String::new() }));
        for tick in ORIGIN.0..=LAST.0 {
            let replay = Replay::at(&recording, dots(), Tick(tick)).expect("within it");
            assert_eq!(replay.session().frame().state_hash, hashes[tick as usize - 1]);
            assert_eq!(replay.begun_at().0, tick / 20 * 20);
        }
        let error = Replay::at(&recording, dots(), Tick(59)).expect_err("it is before");
        assert!(matches!(error, ReplayError::BeforeOrigin { tick: Tick(59), origin: ORIGIN }), "{error}");
        assert_eq!(byte_report(&recording, dots(), 30, 1000).expect("the same match").ticks, 90);
    }
}

#[test]
fn a_replay_of_it_that_differs_names_the_tick_and_the_system() {
    let recording = recording(Layout::Finished);
    let game = twisted(110, Twist::Faster);
    let error = verify(&recording, Arc::clone(&game)).expect_err("it is another game");
    let VerifyError::Diverged(divergence) = &error else { panic!("{error}") };
    assert_eq!(divergence.tick, Tick(110));
    assert!(matches!(&divergence.difference, Difference::Field { field, .. } if field == "x"), "{divergence}");
    let finding = find_cause(&recording, &game, &error).expect("there is a cause").expect("it is played again");
    assert!(finding.system().is_some_and(|system| system.ends_with("::twist")), "{finding}");

    let game = twisted(110, Twist::Panic);
    let error = verify(&recording, Arc::clone(&game)).expect_err("it panics");
    let finding = find_cause(&recording, &game, &error).expect("there is a cause").expect("it is played again");
    assert!(finding.system().is_some_and(|system| system.ends_with("::twist")), "{finding}");
}

#[test]
fn it_is_minimised_to_a_segment_that_fails_as_it_does() {
    let game = twisted(110, Twist::Panic);
    let minimised = minimise(&recording(Layout::Finished), &game, 10_000, |_| {}).expect("it fails");
    assert_eq!(minimised.failure, Failure::Panic { message: "a new bug".to_owned() });
    // The panic comes at its tick, whatever was done before.
    assert_eq!((minimised.before.ticks, minimised.after.ticks, minimised.after.inputs), (90, 50, 0));
    let written = minimised.write(Cursor::new(Vec::new())).expect("memory takes it").into_inner();
    let small = Recording::from_bytes(written).expect("a recording");
    assert_eq!(small.meta().segment, segment().meta.segment);
    let verified = verify(&small, game).expect("the same panic");
    assert_eq!((verified.ticks, verified.panic.map(|panic| panic.tick)), (49, Some(Tick(110))));
    // Who sat when it began cannot be left out.
    let seats = |recording: &Recording| {
        let tick = recording.ticks().expect("readable").next().expect("it has ticks").expect("sound");
        tick.input.inputs.iter().map(|input| input.player).collect::<Vec<_>>()
    };
    assert_eq!(seats(&small), seats(&recording(Layout::Live)));
}

#[test]
fn its_export_is_the_part_of_the_whole_ones() {
    let (whole, segment) = (whole().recording(), recording(Layout::Finished));
    let selection = Selection { ticks: ORIGIN.next()..=Tick::MAX, ..Selection::default() };
    let lines = |recording: &Recording| {
        let mut out = Vec::new();
        export(recording, &selection, &mut out).expect("a sound recording");
        let text = String::from_utf8(out).expect("text");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<serde_json::Value>>()
    };
    let (all, mut part) = (lines(&whole), lines(&segment));
    let header = part.remove(0);
    assert_eq!(
        (&header["segment"], &header["first_tick"], &header["predecessor"]),
        (&2.into(), &61.into(), &"dots-1".into())
    );
    assert_eq!(
        (&all[0]["segment"], &all[0]["first_tick"], all[0]["predecessor"].is_null()),
        (&1.into(), &1.into(), true)
    );
    let place = part.iter().position(|line| line["type"] == "recovered").expect("a server was killed");
    assert_eq!((&part[place - 1]["type"], &part[place - 1]["tick"]), (&"tick".into(), &100.into()));
    let mark = part.remove(place);
    assert_eq!(
        (&mark["tick"], &mark["epoch"], &mark["unix_seconds"]),
        (&100.into(), &1.into(), &1_700_000_000.5.into())
    );
    assert_eq!(all[1..], part);

    for part in [ExportPart::Fields, ExportPart::Inputs, ExportPart::Events] {
        let table = |recording: &Recording| {
            let mut out = Vec::new();
            export_csv(recording, part, &selection, &mut out).expect("a sound recording");
            String::from_utf8(out).expect("text")
        };
        // What players hold who sat down long before among it.
        assert_eq!(table(&whole), table(&segment), "{part:?}");
    }
    let plots = |recording| export_mcap(recording, &selection, Cursor::new(Vec::new())).expect("memory").into_inner();
    assert_eq!(plots(&whole), plots(&segment));
}

#[test]
fn its_ticks_are_dumped_as_the_whole_ones_are() {
    let (whole, segment) = (whole().recording(), recording(Layout::Finished));
    for tick in [61, 80, 150] {
        let dump = |recording| dump_tick(recording, Ok(dots()), Tick(tick)).expect("it is there").json();
        assert_eq!(dump(&whole), dump(&segment));
    }
    let error = dump_tick(&segment, Ok(dots()), ORIGIN).expect_err("it is before");
    assert_eq!(error.to_string(), "there is no tick 60: the recording begins with tick 61");
}

#[test]
fn it_is_compared_with_segments_that_begin_with_the_same_tick() {
    let one = recording(Layout::Finished);
    assert!(diff(&one, &recording(Layout::Live)).expect("the same schema").is_same_match());
    let mut other = segment();
    other.ticks[40].0.inputs[0].sequence += 1;
    let other = Recording::from_bytes(bytes(&other, Layout::Finished)).expect("a recording");
    let found = diff(&one, &other).expect("the same schema");
    assert_eq!((found.ticks_same, found.first.expect("they differ").tick), (40, Tick(101)));
    let error = diff(&whole().recording(), &one).expect_err("they begin at different ticks");
    assert_eq!(
        error.to_string(),
        "A begins with tick 1, B with tick 61: compare segments that begin with the same one"
    );
}

#[test]
fn without_its_first_keyframe_it_is_readable_and_played_from_the_next_one() {
    let mut bytes = bytes(&segment(), Layout::Live);
    let data = segment().keyframes[0].data().to_vec();
    let place = bytes.windows(data.len()).position(|window| window == data).expect("it is in there");
    bytes[place + data.len() / 2] ^= 4;
    let recording = Recording::from_bytes(bytes).expect("a recording");
    assert_eq!((recording.scan().ticks, recording.scan().keyframes), (90, 4));
    let error = verify(&recording, dots()).expect_err("nothing says what the first tick follows").to_string();
    assert!(error.ends_with("does not begin with a sound keyframe of tick 60, which its ticks follow"), "{error}");
    let replay = Replay::at(&recording, dots(), Tick(100)).expect("there is a keyframe before");
    assert_eq!(replay.verify(|_| {}).expect("the same match").ticks, 50);
}

#[test]
fn it_is_repaired_as_any_recording_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let live = directory.path().join("dots-1_00002.live.mcap");
    let whole = bytes(&segment(), Layout::Live);
    std::fs::write(&live, &whole[..whole.len() * 2 / 3]).expect("a disk");
    let repaired = repair(&live).expect("a repair");
    let recording = Recording::open(&repaired.path).expect("a recording");
    let summary = recording.summary();
    assert_eq!((summary.ticks, summary.state), (repaired.ticks, RecordingState::Complete(EndReason::Killed)));
    assert!((61..150).contains(&summary.meta.segment.origin().0.saturating_add(summary.ticks)));
    assert_eq!(verify(&recording, dots()).expect("the same match").ticks, repaired.ticks);
}
