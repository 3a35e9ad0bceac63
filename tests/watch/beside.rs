//! Spectators beside players, who cannot tell.

use std::{sync::Arc, time::Duration};

use tickwire_arena::Arena;
use tickwire_client::bots::{self, Report, SwarmConfig, SwarmHandle};
use tickwire_proto::v1::{self as pb, watch_control::Action};
use tickwire_recording::{Recording, verify};
use tickwire_server::Limits;
use tokio::task::JoinSet;

use super::{
    finished, newest, recording_server,
    spectator::{Spectator, watch_request},
};
use crate::harness::{TestServer, eventually, patient};

const BOTS: usize = 8;
const LIVE: usize = 6;
/// At 64 times the speed, over and over again.
const PAST: usize = 3;
const SPEED: f64 = 64.0;
/// Of the session, with all of them there.
const TICKS: u64 = 180;

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "how late a tick may be is for people")]
async fn players_play_on_beside_live_spectators_and_those_who_race_through_the_past() {
    let limits = Limits { replays_max: PAST, ..Limits::default() };
    let (server, directory) = recording_server(|config| (config.limits, config.timeouts) = (limits, patient())).await;
    let (handle, bots) = play(&server);
    eventually("the bots play", || handle.playing() == BOTS as u64).await;
    eventually("there is a past", || newest(&server) > 120).await;

    let server = Arc::new(server);
    let mut watching = JoinSet::new();
    for _ in 0..LIVE {
        let server = Arc::clone(&server);
        watching.spawn(async move { live(&server).await });
    }
    for _ in 0..PAST {
        let server = Arc::clone(&server);
        watching.spawn(async move { race(&server).await });
    }
    let mut seen = Vec::new();
    while let Some(watched) = watching.join_next().await {
        let (spectator, snapshots) = watched.expect("no spectator panics");
        assert!(spectator.hash_checks > 0 && snapshots > 0);
        seen.push((spectator, snapshots));
    }
    handle.stop();
    let report = bots.await.expect("bots do not panic");
    let progress = server.probe.sessions().remove(0);
    let path = finished(&server, &directory);
    Arc::into_inner(server).expect("nobody else has it").stop().await;

    eprintln!(
        "{LIVE} live and {PAST} at speed {SPEED}: {} ticks, of which {} took too long, {} of {} snapshots of players",
        progress.tick, progress.overruns, report.snapshots_received, report.snapshots_expected,
    );
    assert!(report.is_clean() && report.resumes == 0 && report.resyncs == 0, "{report:?}");
    assert!(report.hash_checks > 0 && report.snapshots_received > 0);
    let verified = verify(&Recording::open(&path).expect("it is closed"), Arc::new(Arena)).expect("it replays");
    assert!(verified.ticks >= progress.tick, "{} of {} ticks are on record", verified.ticks, progress.tick);
    for (spectator, _) in &seen {
        spectator.check(&path, Arc::new(Arena));
    }
}

fn play(server: &TestServer) -> (SwarmHandle, tokio::task::JoinHandle<Report>) {
    let config = SwarmConfig::new(server.url(), BOTS, Duration::from_secs(120));
    let handle = SwarmHandle::default();
    let bots = tokio::task::spawn_blocking({
        let handle = handle.clone();
        move || bots::run(&config, &handle).expect("threads can be had").0
    });
    (handle, bots)
}

/// Watches for so many ticks of the session.
async fn live(server: &TestServer) -> (Spectator, usize) {
    let mut spectator = Spectator::watch(server, watch_request()).await.expect("there is room");
    let end = newest(server) + TICKS;
    spectator.until(|spectator| spectator.state.live && spectator.mirror.tick().0 >= end).await;
    let snapshots = spectator.ticks.len();
    (spectator, snapshots)
}

/// Begins again from the first tick whenever it has come to the newest, for as long.
async fn race(server: &TestServer) -> (Spectator, usize) {
    let request = pb::WatchRequest { from_tick: 1, speed: SPEED, ..watch_request() };
    let mut spectator = Spectator::watch(server, request).await.expect("there is room");
    let end = newest(server) + TICKS;
    let mut snapshots = 0;
    while newest(server) < end {
        spectator.until(|spectator| spectator.state.live && !spectator.ticks.is_empty()).await;
        snapshots += spectator.ticks.len();
        let jumps = spectator.state.jumps;
        spectator.steer_until(Action::SeekTick(1), |state| !state.live && state.jumps > jumps).await;
        spectator.steer(Action::Speed(SPEED)).await.expect("it is taken");
    }
    (spectator, snapshots)
}
