//! Golden recordings: human inputs in the arena, replayed by every build.
//!
//! `tests/recordings/*.mcap` are made by `TICKWIRE_BLESS=1 cargo test --test golden`. Bless them when a change of
//! the arena or of the engine is meant to change matches, and say so in the changelog: recordings of older versions then
//! no longer replay.

use std::{
    fs,
    io::Cursor,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use tickwire_arena::Arena;
use tickwire_client::bots::{Behaviour, BehaviourChoice, Moment, assign};
use tickwire_recording::{
    Difference, End, EndReason, Layout, RecordedTick, Recording, RecordingError, RecordingMeta, VerifyError, Writer,
    byte_report, repair, verify,
};
use tickwire_shared::{PlayerId, Provenance, Tick, TickRate};
use tickwire_simulation::{Input, Session, SessionConfig, TickInput};
use tickwire_wire::Mirror;

/// Name, trace, players, rate and length of each.
const GOLDEN: [(&str, &str, usize, u32, u64); 3] = [
    ("deathmatch-60hz.mcap", "freedm_DEMO1.lmp", 4, 60, 1800),
    ("deathmatch-30hz.mcap", "freedm_DEMO2.lmp", 6, 30, 900),
    ("crowd-20hz.mcap", "freedoom1_DEMO4.lmp", 24, 20, 200),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings")
}

/// Plays a trace in a session without a server, and records it.
fn film(trace: &str, players: usize, rate: u32, ticks: u64) -> Vec<u8> {
    let trace = Path::new(env!("CARGO_MANIFEST_DIR")).join("bot-client/traces").join(trace);
    let roles = assign(&[BehaviourChoice::Trace(trace)], players).expect("a trace");
    let tick_rate = TickRate::new(rate).expect("a rate");
    let config = SessionConfig { seed: 0x5EED, tick_rate, ..SessionConfig::default() };
    let mut session = Session::new(Arc::new(Arena), config).expect("the arena is sound");
    let schema = Arc::clone(session.schema());
    let mirror = Mirror::new(Arc::clone(&schema));
    let meta = RecordingMeta::of(&session, "sessions/golden", SystemTime::UNIX_EPOCH);
    let mut writer = Writer::new(Cursor::new(Vec::new()), &meta, Layout::Finished).expect("memory takes it");
    let mut minds: Vec<(PlayerId, Behaviour, Vec<i32>)> = roles
        .iter()
        .enumerate()
        .map(|(i, role)| {
            let player = session.join("").expect("there is room");
            (player, Behaviour::new(role, &schema, i as u64), schema.neutral_input())
        })
        .collect();
    for tick in 1..=ticks {
        for (player, mind, input) in &mut minds {
            // One input in 20 never comes: goldens hold repeats and gaps too.
            mind.choose(&Moment { tick: Tick(tick), rate: tick_rate, mirror: &mirror }, input);
            if (tick + u64::from(player.0) * 7) % 20 != 0 {
                session.input(*player, Input::new(&schema, tick, tick, input.clone()).expect("in range"));
            }
        }
        let input = session.begin_tick();
        writer.tick_input(&input).expect("memory takes it");
        let output = session.finish_tick(&input).expect("the arena does not panic");
        writer.tick_result(&output.result.into()).expect("memory takes it");
    }
    let end = End { reason: EndReason::Ended { result_json: String::new() }, tick: Tick(ticks), ticks_missing: 0 };
    writer.end(&end).expect("memory takes it");
    writer.finish().expect("memory takes it").into_inner()
}

fn ticks_of(recording: &Recording) -> Vec<RecordedTick> {
    recording.ticks().expect("readable").map(|tick| tick.expect("whole")).collect()
}

#[test]
fn golden_recordings_replay_and_the_same_inputs_make_them_again() {
    for (name, trace, players, rate, ticks) in GOLDEN {
        let path = folder().join(name);
        let film = film(trace, players, rate, ticks);
        if std::env::var_os("TICKWIRE_BLESS").is_some() {
            fs::write(&path, &film).expect("tests/recordings is writable");
        }
        tickwire_recording::assert_replays(&path, Arena);
        let (golden, again) = (Recording::open(&path).expect("blessed"), Recording::from_bytes(film).expect("whole"));
        assert!(ticks_of(&golden) == ticks_of(&again), "{name}: the same inputs made another match");
        let events: usize = ticks_of(&golden).iter().filter_map(|tick| Some(tick.result.as_ref()?.events.len())).sum();
        assert!(events > 10, "{name}: {events} events: hardly a match");
    }
}

#[test]
fn every_byte_of_a_golden_match_is_accounted_for() {
    for (name, _, players, _, ticks) in GOLDEN {
        let golden = Recording::open(folder().join(name)).expect("blessed");
        for (hash_interval, slice_bytes_max) in [(30, 16 << 10), (1, 80)] {
            let report = byte_report(&golden, Arc::new(Arena), hash_interval, slice_bytes_max).expect("it replays");
            assert_eq!((report.ticks, report.cells.bytes()), (ticks, report.cell_bytes), "{name}");
            assert_eq!(report.owners.bytes(), report.owner_bytes, "{name}");
            // Everybody sits from the first tick to the last, and moves.
            assert_eq!(report.player_ticks, players as u64 * ticks, "{name}");
            assert!(report.cells.kinds[0].fields[..2].iter().all(|spent| spent.times > ticks / 10), "{name}");
            assert!(report.entity_ticks[0] > ticks && report.owner_bytes > ticks, "{name}");
        }
    }
}

/// Writes a golden recording's ticks anew, some changed on the way.
fn rewritten(golden: &Recording, change: impl Fn(&mut TickInput)) -> Recording {
    let mut writer = Writer::new(Cursor::new(Vec::new()), golden.meta(), Layout::Live).expect("memory takes it");
    for RecordedTick { mut input, result } in ticks_of(golden) {
        change(&mut input);
        writer.tick_input(&input).expect("memory takes it");
        writer.tick_result(&result.expect("whole")).expect("memory takes it");
    }
    Recording::from_bytes(writer.finish().expect("memory takes it").into_inner()).expect("whole")
}

#[test]
fn one_altered_input_is_named_by_its_tick_entity_field_and_values() {
    let golden = Recording::open(folder().join(GOLDEN[0].0)).expect("blessed");
    // An input of a moving player is turned round.
    let is_moving = |tick: &RecordedTick| {
        let moving = |input: &&tickwire_simulation::SeatInput| {
            input.provenance == Provenance::Fresh && input.values[0].abs() > 60
        };
        tick.input.tick > Tick(300) && tick.input.inputs.first().as_ref().is_some_and(moving)
    };
    let altered = ticks_of(&golden).into_iter().find(is_moving).expect("somebody moves").input.tick;
    let forged = rewritten(&golden, |input| {
        if input.tick == altered {
            input.inputs[0].values[0] *= -1;
        }
    });
    match verify(&forged, Arc::new(Arena)) {
        Err(VerifyError::Diverged(divergence)) => {
            // A step of one tick may show a tick later at field quanta, but the hash sees it at once.
            assert_eq!(divergence.tick, altered);
            let text = divergence.to_string();
            assert!(text.contains(&altered.to_string()), "{text}");
            match &divergence.difference {
                Difference::Field { kind, field, recorded, replayed, .. } => {
                    assert_eq!(kind, "player");
                    assert!(text.contains(field.as_str()) && recorded != replayed, "{text}");
                }
                other => panic!("no field is named: {other:?}"),
            }
        }
        other => panic!("the altered input was not noticed: {other:?}"),
    }
    // Unaltered, the same rewriting verifies.
    verify(&rewritten(&golden, |_| {}), Arc::new(Arena)).expect("nothing was changed");
}

#[test]
fn truncated_and_corrupted_goldens_give_an_error_and_the_readable_part() {
    let golden = fs::read(folder().join(GOLDEN[2].0)).expect("blessed");
    let whole = ticks_of(&Recording::from_bytes(golden.clone()).expect("whole"));
    let (mut opened, mut with_ticks, mut refused) = (0, 0, 0);
    for cut in (0..golden.len()).step_by(golden.len() / 97) {
        let truncated = golden[..cut].to_vec();
        let mut corrupted = golden.clone();
        corrupted[cut] ^= 0x55;
        for bytes in [truncated, corrupted] {
            match Recording::from_bytes(bytes) {
                Ok(recording) => {
                    opened += 1;
                    let read: Vec<Result<RecordedTick, RecordingError>> =
                        recording.ticks().expect("memory does not go away").collect();
                    let good: Vec<&RecordedTick> = read.iter().flatten().collect();
                    // Of the last one the result may be torn off.
                    let same = |(read, whole): (&&RecordedTick, &RecordedTick)| {
                        read.input == whole.input && (read.result.is_none() || read.result == whole.result)
                    };
                    assert!(good.iter().zip(&whole).all(same), "cut at {cut}: other ticks");
                    assert!(good.iter().rev().skip(1).all(|tick| tick.result.is_some()), "cut at {cut}: a gap");
                    assert!(read.iter().rev().skip(1).all(Result::is_ok), "an error is the last item");
                    with_ticks += usize::from(!good.is_empty());
                }
                Err(error) => {
                    refused += 1;
                    assert!(!error.to_string().is_empty());
                }
            }
        }
    }
    assert!(
        opened > 20 && with_ticks > 20 && refused > 1,
        "{opened} opened, {with_ticks} with ticks, {refused} refused"
    );
}

#[test]
fn what_a_killed_server_leaves_is_repaired() {
    let golden = Recording::open(folder().join(GOLDEN[1].0)).expect("blessed");
    let mut writer = Writer::new(Cursor::new(Vec::new()), golden.meta(), Layout::Live).expect("memory takes it");
    for RecordedTick { input, result } in ticks_of(&golden) {
        writer.tick_input(&input).expect("memory takes it");
        writer.tick_result(&result.expect("whole")).expect("memory takes it");
    }
    let mut bytes = writer.finish().expect("memory takes it").into_inner();
    bytes.truncate(bytes.len() - 13);

    let directory = tempfile::tempdir().expect("a directory");
    let live = directory.path().join("match.live.mcap");
    fs::write(&live, bytes).expect("writable");
    let repaired = repair(&live).expect("all but the last record is readable");
    tickwire_recording::assert_replays(&repaired.path, Arena);
    let left = ticks_of(&Recording::open(&repaired.path).expect("whole"));
    let whole = ticks_of(&golden);
    assert_eq!(left.len(), whole.len());
    assert_eq!(left[..left.len() - 1], whole[..whole.len() - 1]);
    assert_eq!(left.last().expect("ticks").result, None, "the torn record was the last tick's result");
}
