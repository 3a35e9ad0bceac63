//! Bots that play on while their server is killed, time and again: at any moment of the match, and while it recovers.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};
use serde_json::{Value as Json, json};
use tickwire_client::{Client, Event, JoinOptions};
use tickwire_proto::v1::Session;
use tickwire_recording::{EndReason, Recording, RecordingState};
use tickwire_shared::PlayerStatus;
use tokio::{sync::watch, time::timeout};

use crate::{
    program::{data, files, verified},
    server::{ARENA_1, Listening, PATIENCE, Server},
    swarm::{Swarm, tell},
};

/// What is done to a server.
struct Plan {
    /// How often it is killed,
    kills: usize,
    /// and how many of these times while it recovers.
    recovering: usize,
    bots: usize,
    seed: u64,
    arguments: &'static [&'static str],
}

/// What an onlooker, who plays, too, sees of the match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    epoch: u32,
    tick: u64,
    /// Players whose connection stands.
    connected: usize,
    /// Of all epochs.
    snapshots: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bots_play_on_over_kills_at_any_moment() {
    torment(Plan { kills: 6, recovering: 3, bots: 4, seed: 11, arguments: &[] }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bots_play_on_over_kills_while_the_recording_goes_from_file_to_file() {
    let arguments = &["--segment-bytes", "65536", "--keyframe-seconds", "1"];
    let segments = torment(Plan { kills: 8, recovering: 2, bots: 12, seed: 13, arguments }).await;
    assert!(segments > 2, "{segments}");
}

/// `cargo test --release -p tickwire-server --test recovery -- --ignored --nocapture kills`, in a few minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes, and needs a release build to be worth them"]
async fn thirty_two_bots_play_on_over_a_hundred_kills() {
    torment(Plan { kills: 100, recovering: 50, bots: 32, seed: 12, arguments: &[] }).await;
}

/// In how many files the match is at its end.
async fn torment(Plan { kills, recovering, bots, seed, arguments }: Plan) -> usize {
    let data = data();
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut server = Listening::start(data.path(), arguments).await;
    let (address, url) = (server.address.clone(), format!("http://{}", server.address));
    let created = server.session(ARENA_1).await.create_time;
    let swarm = Swarm::start(&url, bots, seed);
    let mut seen = look_on(&url).await;
    let players = bots + 1;

    // Who comes in at the very tick that a kill loses has no seat to come back to.
    until(&mut seen, "all are in", |seen| seen.connected == players).await;

    let mut left = [recovering, kills - recovering];
    let mut losses: Vec<u64> = Vec::new();
    let mut took: Vec<Duration> = Vec::new();
    let mut listening: Vec<Duration> = Vec::new();
    let (mut amid_recovery, mut sessions_lost) = (0, 0);
    // How long a recovery takes, about.
    let mut recovery = Duration::from_millis(5);
    while left.iter().sum::<usize>() > 0 {
        // In the match: from the moment at which somebody plays again, to that at which all have for a while.
        let all = random.random_bool(0.5);
        until(&mut seen, "they play", |seen| !all || seen.connected == players).await;
        let from = seen.borrow().snapshots;
        let snapshots = random.random_range(1..60);
        until(&mut seen, "the match goes on", |seen| seen.snapshots >= from + snapshots).await;
        let promised = recorded_at_least(&server.session(ARENA_1).await);
        // Any moment of a tick: what is waited for is nothing but the time.
        thread::sleep(Duration::from_micros(random.random_range(0..16_000)));
        server.server.kill();
        left[1] = left[1].saturating_sub(1);

        let mut began = Instant::now();
        let mut next = respawn(data.path(), &address, arguments);
        // Some of them while they recover, several in a row now and then.
        while left[0] > 0 && (left[1] == 0 || random.random_bool(0.6)) {
            next.logs("recovering a session that a killed server has left").expect("it finds it");
            thread::sleep(recovery.mul_f64(random.random_range(0.0..1.0)));
            next.kill();
            if next.logged("session recovered").is_empty() {
                left[0] -= 1;
                amid_recovery += 1;
            }
            assert_nothing_is_lost(&next);
            began = Instant::now();
            next = respawn(data.path(), &address, arguments);
        }
        next.logs("recovering a session that a killed server has left").expect("it finds it");
        // Nobody can be back as yet.
        let before = *seen.borrow();
        let recovering = Instant::now();
        let recovered = next.logs("session recovered").expect("it says so");
        recovery = recovering.elapsed().max(Duration::from_millis(1));
        server = next.listening().await;
        listening.push(began.elapsed());
        assert_nothing_is_lost(&server.server);
        let tick: u64 = recovered["tick"].as_u64().expect("a tick");
        let epoch = recovered["epoch"].as_u64().expect("an epoch") as u32;
        assert!(before.epoch < epoch, "{before:?} before epoch {epoch}");
        assert!(tick >= promised, "tick {tick}, where {promised} had been recorded: {before:?}");
        // This has the recorder's lag at the moment of the kill in it, which on a busy machine is as long as its threads had to
        // wait for a core. So it is told; what holds wherever it runs is the line before.
        losses.push(before.tick.saturating_sub(tick));
        until(&mut seen, "somebody plays again", |seen| seen.epoch == epoch).await;
        took.push(began.elapsed());
        sessions_lost += u64::from(server.session(ARENA_1).await.create_time != created);
    }
    until(&mut seen, "all play again", |seen| seen.connected == players).await;
    swarm.all_play(bots).await;
    let session = server.session(ARENA_1).await;
    assert_eq!((session.create_time, session.players as usize), (created, players), "it is the one that it was");
    let report = swarm.end();
    server.server.end();

    let files = files(data.path());
    let (mut ticks, mut epochs) = (0, 0);
    for file in &files {
        let summary = Recording::open(file).expect("a recording").scan();
        assert_eq!(summary.meta.segment.origin().0, ticks, "{}", file.display());
        let is_last = Some(file) == files.last();
        let reason = if is_last { EndReason::Shutdown } else { EndReason::Continued };
        assert_eq!(summary.state, RecordingState::Complete(reason), "{}", file.display());
        assert_eq!(verified(file).ticks, summary.ticks);
        ticks += summary.ticks;
        epochs += summary.recovered.len();
    }
    let told = json!({
        "kills": kills,
        "kills_amid_recovery": amid_recovery,
        "sessions_lost": sessions_lost,
        "ticks": ticks,
        "epochs": epochs,
        "segments": files.len(),
        "ticks_lost_per_kill": losses,
        "ticks_lost_max": losses.iter().max(),
        "hash_mismatches": report.hash_mismatches,
        "spawn_to_listening_ms": spread(&listening),
        "spawn_to_playing_ms": spread(&took),
        "bots": report,
    });
    tell(&format!("kills-{kills}"), &told);
    assert_eq!((report.bots_connected, report.bots_failed, report.hash_mismatches), (bots as u64, 0, 0), "{told}");
    assert_eq!(sessions_lost, 0, "{told}");
    assert!(report.hash_checks > 0 && report.resumes >= bots as u64, "{told}");
    files.len()
}

pub(crate) fn respawn(data: &Path, address: &str, arguments: &[&str]) -> Server {
    Server::spawn(data, &[&["--listen", address], arguments].concat())
}

/// Up to which tick a kill from now on loses nothing: one tick beyond the recorder's lag may be lost.
fn recorded_at_least(session: &Session) -> u64 {
    let recording = session.recording.as_ref().expect("it is recorded");
    session.tick.saturating_sub(recording.lag_ticks + 1)
}

/// Of a recovery that fails the log tells.
fn assert_nothing_is_lost(server: &Server) {
    for message in
        ["an unfinished recording is set aside", "the session had ended", "the session cannot be recovered now"]
    {
        assert_eq!(server.logged(message), Vec::<Json>::new());
    }
}

/// The least, the median and the most.
fn spread(times: &[Duration]) -> [u128; 3] {
    let mut ms: Vec<u128> = times.iter().map(Duration::as_millis).collect();
    ms.sort_unstable();
    [ms[0], ms[ms.len() / 2], ms[ms.len() - 1]]
}

async fn until(seen: &mut watch::Receiver<Seen>, what: &str, wanted: impl Fn(&Seen) -> bool) {
    let waited = timeout(PATIENCE, seen.wait_for(|seen| wanted(seen))).await.map(|seen| seen.is_ok());
    let newest = *seen.borrow();
    assert!(waited.is_ok_and(|seen| seen), "{what}: not within {PATIENCE:?}: {newest:?}");
}

/// Plays, and tells what it sees, for as long as anybody looks.
async fn look_on(url: &str) -> watch::Receiver<Seen> {
    let options = JoinOptions { player_name: "onlooker".into(), ..JoinOptions::default() };
    let mut client = Client::connect(url, &options).await.expect("a seat is free");
    let (tell, seen) = watch::channel(Seen::default());
    tokio::spawn(async move {
        while !tell.is_closed() {
            match client.next().await {
                Ok(Some(Event::Snapshot(applied))) if !applied.ignored => {
                    let mirror = client.mirror();
                    let rows = mirror.roster().values();
                    let connected = rows.filter(|row| row.status == PlayerStatus::Connected).count();
                    let snapshots = tell.borrow().snapshots + 1;
                    tell.send_replace(Seen { epoch: mirror.epoch(), tick: applied.tick.0, connected, snapshots });
                }
                Ok(Some(_)) => {}
                // Whoever looks finds that nothing comes any more.
                Ok(None) | Err(_) => return,
            }
        }
    });
    seen
}
