//! How long a start takes that goes on with a long match.

use std::{
    fs,
    io::BufWriter,
    path::Path,
    sync::Arc,
    time::{Instant, SystemTime},
};

use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};
use serde_json::json;
use tickwire_arena::Arena;
use tickwire_recording::{Layout, RecordedKeyframe, RecordingMeta, Writer, live_path};
use tickwire_shared::PlayerId;
use tickwire_simulation::{Input, Session, SessionConfig};

use crate::{
    program::data,
    server::{ARENA_1, Server},
    swarm::tell,
};

const PLAYERS: usize = 16;
const MINUTES: u64 = 30;
/// For how long a player holds the same buttons.
const HELD_TICKS: u64 = 20;

/// `cargo test --release -p tickwire-server --test recovery -- --ignored --nocapture half_an_hour`, in a minute.
#[tokio::test]
#[ignore = "plays half an hour of a match, and needs a release build to be worth it"]
async fn a_session_of_half_an_hour_goes_on() {
    let data = data();
    let directory = data.path().join("recordings");
    fs::create_dir_all(&directory).expect("a disk");
    let live = live_path(&directory, "arena-1-long");
    let (ticks, keyframes) = leave_a_match(&live);
    let live_bytes = fs::metadata(&live).expect("it is there").len();

    let mut times_ms = Vec::new();
    for epoch in 1..=3 {
        let began = Instant::now();
        let mut server = Server::spawn(data.path(), &["--listen", "127.0.0.1:0"]).listening().await;
        times_ms.push(began.elapsed().as_millis());
        let line = server.server.logs("session recovered").expect("it says so");
        let tick: u64 = line["tick"].as_u64().expect("a tick");
        assert!(tick >= ticks, "{tick} of {ticks}");
        let session = server.session(ARENA_1).await;
        assert_eq!((session.epoch, session.players as usize), (epoch, PLAYERS));
        server.server.kill();
    }
    let told = json!({
        "players": PLAYERS,
        "ticks": ticks,
        "keyframes": keyframes,
        "live_bytes": live_bytes,
        "spawn_to_listening_ms": times_ms,
    });
    tell("recovery-of-half-an-hour", &told);
}

/// A match as a server records it, without the time that it would take: how many ticks, and keyframes.
fn leave_a_match(live: &Path) -> (u64, u64) {
    let config = SessionConfig { seed: 7, ..SessionConfig::default() };
    let rate = config.tick_rate;
    let mut session = Session::new(Arc::new(Arena), config).expect("a session");
    let file = BufWriter::new(fs::File::create(live).expect("a disk"));
    let meta = RecordingMeta::of(&session, ARENA_1, SystemTime::now());
    let mut writer = Writer::new(file, &meta, Layout::Live).expect("a disk");
    let players: Vec<PlayerId> =
        (0..PLAYERS).map(|number| session.join(&format!("player-{number}")).expect("a free seat")).collect();
    let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
    // As with `--keyframe-seconds 10`, killed just before the next one.
    let keyframe_ticks = u64::from(rate.hz()) * 10;
    let ticks = u64::from(rate.hz()) * 60 * MINUTES + keyframe_ticks - 1;
    let (mut held, mut keyframes) = (vec![Vec::new(); PLAYERS], 0);
    for tick in 1..=ticks {
        for (player, held) in players.iter().zip(&mut held) {
            if tick % HELD_TICKS == 1 {
                let fields = &session.schema().inputs;
                *held =
                    fields.iter().map(|field| random.random_range(field.quantity.min..=field.quantity.max)).collect();
            }
            let input = Input::new(session.schema(), tick, tick, held.clone()).expect("in range");
            session.input(*player, input);
        }
        let input = session.begin_tick();
        let output = session.finish_tick(&input).expect("the arena is sound");
        writer.tick_input(&input).expect("a disk");
        writer.tick_result(&output.result.into()).expect("a disk");
        if tick.is_multiple_of(keyframe_ticks) {
            let keyframe = session.keyframe().expect("it can be saved").expect("the arena saves");
            writer.keyframe(&RecordedKeyframe::of(&keyframe).expect("a small one")).expect("a disk");
            keyframes += 1;
        }
    }
    writer.finish().expect("a disk");
    (ticks, keyframes)
}
