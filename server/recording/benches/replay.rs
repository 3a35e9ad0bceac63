//! How fast recordings are written, read and played again: ticks per second, of an arena with 16 players.
//!
//! Divide by the tick rate, 60, for the speed over real time.

use std::{hint::black_box, io::Cursor, sync::Arc, time::SystemTime};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tickwire_arena::Arena;
use tickwire_recording::{Layout, RecordedTick, Recording, RecordingMeta, Writer, verify};
use tickwire_shared::PlayerId;
use tickwire_simulation::{Input, Session, SessionConfig};

const PLAYERS: u32 = 16;
const TICKS: u64 = 3600;

/// A minute in which everyone walks about, turning, firing, and launching rockets.
fn play() -> (RecordingMeta, Vec<RecordedTick>) {
    let mut session = Session::new(Arc::new(Arena), SessionConfig::default()).expect("an arena");
    let meta = RecordingMeta::of(&session, "sessions/bench-1", SystemTime::UNIX_EPOCH);
    let players: Vec<PlayerId> = (0..PLAYERS).map(|_| session.join("").expect("a free seat")).collect();
    let tick = |now: u64| {
        for &player in &players {
            let choice = (now / 30 + 1).wrapping_mul(2_654_435_761) ^ u64::from(player.0).wrapping_mul(0x9e37_79b9);
            let walk = |shift: u32| ((choice >> shift) % 255) as i32 - 127;
            let aim = ((now * 40 + choice) % 4096) as i32;
            let rocket = i32::from(now % 60 == choice % 60);
            let values = vec![walk(3), walk(11), aim, i32::from(choice.is_multiple_of(2)), rocket];
            let input = Input::new(session.schema(), now + 1, now + 1, values).expect("within the ranges");
            session.input(player, input);
        }
        let input = session.begin_tick();
        let result = session.finish_tick(&input).expect("the arena is sound").result;
        RecordedTick { input, result: Some(result.into()) }
    };
    (meta, (0..TICKS).map(tick).collect())
}

fn write(meta: &RecordingMeta, ticks: &[RecordedTick], layout: Layout) -> Vec<u8> {
    let mut writer = Writer::new(Cursor::new(Vec::new()), meta, layout).expect("memory takes it");
    for RecordedTick { input, result } in ticks {
        writer.tick_input(input).expect("memory takes it");
        writer.tick_result(result.as_ref().expect("a whole tick")).expect("memory takes it");
    }
    writer.finish().expect("memory takes it").into_inner()
}

fn replays(c: &mut Criterion) {
    let (meta, ticks) = play();
    let recording = Recording::from_bytes(write(&meta, &ticks, Layout::Finished)).expect("a recording");
    let mut group = c.benchmark_group("recording");
    group.throughput(Throughput::Elements(TICKS)).sample_size(10);
    group.bench_function("write live", |b| b.iter(|| black_box(write(&meta, &ticks, Layout::Live))));
    group.bench_function("write finished", |b| b.iter(|| black_box(write(&meta, &ticks, Layout::Finished))));
    group.bench_function("read", |b| b.iter(|| recording.ticks().expect("memory").map(black_box).count()));
    group.bench_function("verify", |b| b.iter(|| verify(&recording, Arc::new(Arena)).expect("the same match")));
    group.finish();
}

criterion_group!(benches, replays);
criterion_main!(benches);
