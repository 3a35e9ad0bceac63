//! Spectators: live, late, in the past, and of recordings.

mod beside;
mod by_code;
mod endings;
mod gaps;
mod recordings;
mod segments;
pub(crate) mod spectator;

use std::{num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use tempfile::TempDir;
use tickwire_arena::Arena;
use tickwire_client::{
    Client, Event, JoinOptions,
    bots::{Behaviour, Moment, Role},
};
use tickwire_proto::v1::{self as pb, client_message::Kind, watch_control::Action};
use tickwire_recording::finished_path;
use tickwire_server::{Limits, ServerConfig, Timeouts};
use tokio::task::JoinHandle;
use tonic::Code;

use self::spectator::{Came, Spectator, watch_request};
use crate::harness::{RawClient, TestServer, Witness, config, eventually, field_of, hello, patient, reason_of};

/// A server that records its one session.
async fn recording_server(change: impl FnOnce(&mut ServerConfig)) -> (TestServer, TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let recordings = Some(directory.path().to_owned());
    let mut config = ServerConfig { recordings, timeouts: patient(), ..config() };
    change(&mut config);
    (TestServer::arena(config).await, directory)
}

/// Where the recording of a session is after its end.
fn finished(server: &TestServer, directory: &TempDir) -> PathBuf {
    let live = server.recordings[0].file_name().and_then(|name| name.to_str()).expect("it is recorded");
    finished_path(directory.path(), live.strip_suffix(".live.mcap").expect("it is live"))
}

/// Somebody who does anything, each tick.
fn play(server: &TestServer, seed: u64) -> JoinHandle<()> {
    play_as(server, JoinOptions::default(), seed)
}

fn play_as(server: &TestServer, options: JoinOptions, seed: u64) -> JoinHandle<()> {
    let url = format!("http://{}", server.address);
    tokio::spawn(async move {
        let mut client = Client::connect(&url, &options).await.expect("there is room");
        let mut mind = Behaviour::new(&Role::Chaos, client.core().schema(), seed);
        let mut input = client.core().schema().neutral_input();
        while let Some(event) = client.next().await.expect("the stream goes on") {
            if let Event::InputDue(tick) = event {
                mind.choose(&Moment { tick, rate: client.core().tick_rate(), mirror: client.mirror() }, &mut input);
                client.set_input(&input).expect("minds stay within the ranges");
            }
        }
    })
}

/// The session's newest tick.
fn newest(server: &TestServer) -> u64 {
    server.probe.ticks()[0].0
}

#[tokio::test]
async fn a_live_spectator_holds_what_the_frames_hold() {
    // So large that it is divided.
    let (server, directory) = recording_server(|config| config.settings = vec![("size".into(), 512.0)]).await;
    let players = [0, 1, 2].map(|seed| play(&server, seed));
    eventually("they are there", || server.probe.seats() == 3).await;
    let mut overview = Spectator::watch(&server, watch_request()).await.expect("there is room");
    let request = pb::WatchRequest { follow_player: 1, ..watch_request() };
    let mut follower = Spectator::watch(&server, request).await.expect("there is room");
    let enough = |spectator: &Spectator| spectator.hash_checks >= 5;
    tokio::join!(overview.until(enough), follower.until(enough));
    for spectator in [&overview, &follower] {
        assert!(spectator.state.live && !spectator.state.paused, "{:?}", spectator.state);
        assert!(spectator.mirror.shown_count() > 0, "somebody is there to be seen");
        assert_eq!(spectator.mirror.roster().len(), 3);
    }
    let cells = |spectator: &Spectator| spectator.mirror.cells(0).count();
    assert!(cells(&overview) > 1, "all cells: {}", cells(&overview));
    assert!(cells(&follower) > 1, "those around the player: {}", cells(&follower));
    // Whom the follower follows now is nobody.
    follower.steer(Action::FollowPlayer(99)).await.expect("it is taken");
    follower.until(|spectator| cells(spectator) == 1).await;
    players.iter().for_each(JoinHandle::abort);

    let path = finished(&server, &directory);
    server.stop().await;
    overview.check(&path, Arc::new(Arena));
    follower.check(&path, Arc::new(Arena));
}

#[tokio::test]
async fn a_late_spectator_never_sees_a_frame_that_is_too_new() {
    const DELAY_TICKS: u64 = 30;
    let (server, directory) = recording_server(|config| config.spectator_delay = Duration::from_millis(500)).await;
    let mut witness = Witness::join(&server).await;
    let mut spectator = Spectator::watch(&server, watch_request()).await.expect("there is room");
    let watch = async {
        while spectator.ticks.len() < 60 {
            spectator.next().await.expect("the stream goes on");
            let (shown, newest) = (spectator.mirror.tick().0, newest(&server));
            assert!(shown == 0 || shown + DELAY_TICKS <= newest, "tick {shown} is shown when {newest} is the newest");
        }
    };
    witness.plays_during(watch).await;
    assert_eq!((spectator.state.live, spectator.state.delay_ticks), (true, DELAY_TICKS));
    // Nor by going back and forth.
    spectator.steer_until(Action::SeekTick(5), |state| !state.live && state.jumps == 1).await;
    spectator.steer_until(Action::Speed(64.0), |state| state.live && state.jumps == 2).await;
    assert!(spectator.state.tick + DELAY_TICKS <= newest(&server));
    spectator.steer(Action::SeekTick(1 << 50)).await.expect("it is taken");
    spectator.snapshots(5).await;
    assert!(spectator.mirror.tick().0 + DELAY_TICKS <= newest(&server));

    let path = finished(&server, &directory);
    server.stop().await;
    spectator.check(&path, Arc::new(Arena));
}

#[tokio::test]
async fn a_delay_that_no_memory_keeps_is_played_from_the_recording() {
    let delay = Duration::from_millis(10_100);
    let (server, directory) = recording_server(|config| config.spectator_delay = delay).await;
    let _player = RawClient::join(&server).await;
    let mut spectator = Spectator::watch(&server, watch_request()).await.expect("there is room");
    spectator.until(|spectator| spectator.ticks.len() >= 30).await;
    assert_eq!((spectator.state.live, spectator.state.delay_ticks), (true, 606));
    assert!(spectator.mirror.tick().0 + 606 <= newest(&server));
    let path = finished(&server, &directory);
    server.stop().await;
    spectator.check(&path, Arc::new(Arena));
}

#[tokio::test]
async fn what_plays_the_past_of_an_idle_session_goes_on_as_that_does() {
    // All ticks without a player stand in one record, which becomes longer as the session goes on.
    let (server, _directory) = recording_server(|_| {}).await;
    eventually("there is a past", || newest(&server) > 40).await;
    let request = pb::WatchRequest { from_tick: 1, ..watch_request() };
    let mut spectator = Spectator::watch(&server, request).await.expect("there is room");
    spectator.snapshots(1).await;
    let read = newest(&server);
    spectator.until(|spectator| spectator.mirror.tick().0 > read + 10).await;
    assert!(!spectator.state.live && !spectator.state.ended, "{:?}", spectator.state);
    server.stop().await;
}

#[tokio::test]
async fn a_spectator_goes_back_in_time_stops_steps_and_comes_back_to_live() {
    let (server, directory) = recording_server(|_| {}).await;
    let mut witness = Witness::join(&server).await;
    let mut spectator = Spectator::watch(&server, watch_request()).await.expect("there is room");
    witness.plays_during(spectator.until(|spectator| spectator.mirror.tick().0 > 60)).await;
    assert_eq!((spectator.state.first_tick, spectator.state.jumps), (1, 0));

    spectator.steer_until(Action::SeekTick(20), |state| state.jumps == 1).await;
    let pb::WatchState { live, tick, last_tick, .. } = spectator.state;
    assert!(!live && tick >= 20 && tick < last_tick, "{:?}", spectator.state);
    spectator.snapshots(10).await;

    spectator.steer_until(Action::Paused(true), |state| state.paused).await;
    spectator.steer_until(Action::SeekTick(30), |state| state.jumps == 2).await;
    spectator.snapshots(1).await;
    assert_eq!((spectator.state.paused, &*spectator.ticks), (true, &[30][..]), "it stands still where it was sent to");
    for tick in 31..=33 {
        spectator.steer(Action::StepTicks(1)).await.expect("it is taken");
        spectator.snapshots(1).await;
        assert_eq!(spectator.ticks.last(), Some(&tick));
    }
    spectator.steer_until(Action::StepTicks(-10), |state| state.jumps == 3).await;
    spectator.snapshots(1).await;
    assert_eq!(&*spectator.ticks, [23]);

    spectator.steer_until(Action::Speed(0.1), |state| !state.paused && state.speed == 0.1).await;
    spectator.snapshots(2).await;
    // Faster than the match it comes to where that is.
    spectator.steer_until(Action::Speed(4.0), |state| state.live).await;
    spectator.snapshots(5).await;
    assert_eq!((spectator.state.speed, spectator.state.jumps), (1.0, 4));
    spectator.steer_until(Action::Paused(true), |state| state.paused && !state.live).await;
    spectator.steer_until(Action::Live(pb::WatchLive {}), |state| state.live && !state.paused).await;
    spectator.snapshots(5).await;
    witness.plays_on().await;

    let path = finished(&server, &directory);
    server.stop().await;
    spectator.check(&path, Arc::new(Arena));
}

#[tokio::test]
async fn a_stream_that_starts_in_the_past_is_there_from_its_first_snapshot() {
    let (server, _directory) = recording_server(|_| {}).await;
    eventually("there is a past", || newest(&server) > 100).await;
    let request = pb::WatchRequest { from_tick: 40, speed: 0.5, ..watch_request() };
    let mut spectator = Spectator::watch(&server, request).await.expect("there is room");
    assert_eq!(spectator.welcome.tick, 40);
    spectator.snapshots(1).await;
    let pb::WatchState { speed, live, jumps, .. } = spectator.state;
    assert_eq!((speed, live, jumps), (0.5, false, 0));
    let pb::WatchState { tick, last_tick, .. } = spectator.state;
    assert!(spectator.ticks[0] >= 40 && tick < last_tick, "{:?}", spectator.state);
    server.stop().await;
}

#[tokio::test]
async fn acknowledgements_of_before_are_ignored_and_those_of_the_future_refused() {
    let (server, _directory) = recording_server(|_| {}).await;
    let mut spectator = Spectator::watch(&server, watch_request()).await.expect("there is room");
    spectator.until(|spectator| spectator.mirror.tick().0 > 60).await;
    spectator.acknowledge(1).await.expect("it is older than others");
    let beyond = spectator.acknowledge(1 << 40).await.expect_err("nobody has sent that");
    assert_eq!((beyond.code(), field_of(&beyond).as_str()), (Code::InvalidArgument, "newest_tick"));

    let live = spectator.mirror.tick().0;
    spectator.steer_until(Action::SeekTick(10), |state| state.jumps == 1).await;
    spectator.acknowledge_of(0, live).await.expect("it was on its way when the stream jumped");
    spectator.snapshots(10).await;
    let beyond = spectator.acknowledge(live + 1000).await.expect_err("not of this time");
    assert_eq!(reason_of(&beyond), "ACK_BEYOND_SENT");

    spectator.welcome.stream_token[0] ^= 1;
    let unknown = spectator.acknowledge(1).await.expect_err("it is nobody's");
    assert_eq!((unknown.code(), field_of(&unknown).as_str()), (Code::Unauthenticated, "stream_token"));
    server.stop().await;
}

#[tokio::test]
async fn what_spectators_may_not_do_is_refused_precisely() {
    let server = TestServer::arena(config()).await;
    let mut spectator = Spectator::watch(&server, watch_request()).await.expect("there is room");
    spectator.until(|spectator| spectator.mirror.tick().0 > 10).await;
    let refused = spectator.steer(Action::SeekTick(1)).await.expect_err("there is no past");
    assert_eq!((refused.code(), reason_of(&refused).as_str()), (Code::FailedPrecondition, "NOT_RECORDED"));
    assert_eq!(spectator.state.first_tick, 0);
    let inputs = spectator.say(Kind::Inputs(pb::Inputs::default())).await.expect_err("nobody sits there");
    assert_eq!((reason_of(&inputs).as_str(), field_of(&inputs).as_str()), ("SPECTATOR", "messages[0].inputs"));
    let speed = spectator.steer(Action::Speed(65.0)).await.expect_err("too fast");
    assert_eq!(field_of(&speed), "messages[0].watch_control.speed");

    let refused = async |request| Spectator::watch(&server, request).await.err().expect("not let in");
    let silent = refused(pb::WatchRequest::default()).await;
    assert_eq!((reason_of(&silent).as_str(), field_of(&silent).as_str()), ("HELLO_MISSING", "hello"));
    let attached = pb::Hello { attach_token: vec![1], ..hello() };
    assert_eq!(
        field_of(&refused(pb::WatchRequest { hello: Some(attached), ..watch_request() }).await),
        "hello.attach_token"
    );
    let elsewhere = pb::Hello { session: "sessions/arena-9".into(), ..hello() };
    assert_eq!(
        field_of(&refused(pb::WatchRequest { hello: Some(elsewhere), ..watch_request() }).await),
        "hello.session"
    );
    assert_eq!(field_of(&refused(pb::WatchRequest { speed: 0.01, ..watch_request() }).await), "speed");
    let past = refused(pb::WatchRequest { from_tick: 1, ..watch_request() }).await;
    assert_eq!(reason_of(&past), "NOT_RECORDED");

    // And who plays does not steer.
    let (mut player, _) = RawClient::join(&server).await;
    let control = pb::WatchControl { action: Some(Action::Paused(true)) };
    player.send(Kind::WatchControl(control)).await;
    let (_, status) = player.end().await;
    assert_eq!((reason_of(&status).as_str(), field_of(&status).as_str()), ("NOT_WATCHING", "watch_control"));
    server.stop().await;
}

#[tokio::test]
async fn there_are_so_many_spectators_and_so_many_in_the_past() {
    let limits = Limits { spectators_max: 2, replays_max: 1, ..Limits::default() };
    let (server, _directory) = recording_server(|config| config.limits = limits).await;
    let mut first = Spectator::watch(&server, watch_request()).await.expect("there is room");
    let mut second = Spectator::watch(&server, watch_request()).await.expect("there is room");
    let full = Spectator::watch(&server, watch_request()).await.err().expect("there is none");
    assert_eq!((full.code(), reason_of(&full).as_str()), (Code::ResourceExhausted, "SPECTATORS"));
    server.counts("SPECTATORS", 1).await;

    first.until(|spectator| spectator.mirror.tick().0 > 60).await;
    second.snapshots(1).await;
    first.steer_until(Action::SeekTick(1), |state| state.jumps == 1).await;
    let full = second.steer(Action::SeekTick(1)).await.expect_err("somebody is in the past");
    assert_eq!((full.code(), reason_of(&full).as_str()), (Code::ResourceExhausted, "REPLAYS"));
    server.counts("REPLAYS", 1).await;
    second.snapshots(5).await;
    // Who comes back makes room, and so does who goes.
    first.steer_until(Action::Live(pb::WatchLive {}), |state| state.live).await;
    let mut is_there = false;
    while !is_there {
        is_there = second.steer(Action::SeekTick(1)).await.is_ok();
        second.snapshots(1).await;
    }
    second.until(|spectator| spectator.state.jumps == 1).await;
    first.say(Kind::Leave(pb::Leave {})).await.expect("it is taken");
    let (goodbye, status) = first.end().await;
    assert_eq!(goodbye.map(|goodbye| goodbye.reason()), Some(pb::GoodbyeReason::Left));
    assert_eq!(status.code(), Code::Ok);
    drop(second);
    let mut third = None;
    while third.is_none() {
        third = Spectator::watch(&server, watch_request()).await.ok();
    }
    server.stop().await;
}

#[tokio::test]
async fn who_rests_in_the_past_makes_room_for_others() {
    let limits = Limits { replays_max: 1, ..Limits::default() };
    let timeouts = Timeouts { replay_idle: Duration::from_millis(300), ..config().timeouts };
    let (server, _directory) = recording_server(|config| (config.limits, config.timeouts) = (limits, timeouts)).await;
    eventually("there is a past", || newest(&server) > 10).await;
    let request = pb::WatchRequest { from_tick: 1, speed: 0.1, ..watch_request() };
    let mut resting = Spectator::watch(&server, request.clone()).await.expect("there is room");
    // Who goes on, however slowly, does not rest.
    resting.snapshots(5).await;
    resting.steer(Action::Paused(true)).await.expect("it is taken");
    let (goodbye, status) = resting.end().await;
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::DeadlineExceeded, "REPLAY_IDLE"));
    assert!(goodbye.is_some() && server.probe.refusals()["REPLAY_IDLE"] == 1);
    let mut next = None;
    while next.is_none() {
        next = Spectator::watch(&server, request.clone()).await.ok();
    }
    server.stop().await;
}

#[tokio::test]
async fn who_reads_nothing_is_sent_away_and_costs_no_player_a_tick() {
    let timeouts = Timeouts { unacknowledged: Duration::from_millis(300), ..config().timeouts };
    let (server, _directory) = recording_server(|config| config.timeouts = timeouts).await;
    let mut witness = Witness::join(&server).await;
    let mut spectator = Spectator::watch(&server, watch_request()).await.expect("there is room");
    spectator.acknowledges = false;
    let (goodbye, status) = witness.plays_during(spectator.end()).await;
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::DeadlineExceeded, "NOT_READING"));
    assert!(goodbye.is_some());
    let most = config().tick_rate.hz() as usize / 6;
    assert!(spectator.ticks.len() <= most, "{most} snapshots before the first acknowledgement: {:?}", spectator.ticks);
    server.stop().await;
}

#[tokio::test]
async fn spectators_are_told_of_the_end_and_answered() {
    let timeouts = Timeouts { drain: Duration::from_millis(50), ..config().timeouts };
    let (server, _directory) = recording_server(|config| config.timeouts = timeouts).await;
    let mut spectator = Spectator::watch(&server, watch_request()).await.expect("there is room");
    spectator.snapshots(1).await;
    spectator.say(Kind::Ping(pb::Ping { echo: 77 })).await.expect("it is taken");
    let pong = loop {
        if let Came::Other(pb::server_message::Kind::Pong(pong)) = spectator.next().await.expect("it goes on") {
            break pong;
        }
    };
    assert_eq!((pong.echo, pong.tick > 0), (77, true));
    spectator.say(Kind::Resync(pb::Resync { reason: 1 })).await.expect("it is taken");
    loop {
        if let Came::Snapshot(snapshot) = spectator.next().await.expect("it goes on")
            && snapshot.reset
        {
            break;
        }
    }
    let stopped = server.begin_stop();
    let (goodbye, status) = spectator.end().await;
    assert_eq!(goodbye.map(|goodbye| goodbye.reason()), Some(pb::GoodbyeReason::Shutdown));
    assert_eq!(status.code(), Code::Unavailable);
    stopped.await.expect("it ends");
}

#[tokio::test]
async fn wishes_are_granted_within_the_sessions_limits() {
    let server = TestServer::arena(config()).await;
    let wishes = pb::Hello { max_rate: 10, max_bytes_per_second: 1, view_radius: 1e9, ..hello() };
    let request = pb::WatchRequest { hello: Some(wishes), ..watch_request() };
    let mut spectator = Spectator::watch(&server, request).await.expect("there is room");
    let pb::Welcome { max_rate, max_bytes_per_second, view_radius, max_stripes, .. } = spectator.welcome;
    assert_eq!((max_rate, max_bytes_per_second, view_radius, max_stripes), (10, 4096, 1000.0, 1));
    spectator.snapshots(4).await;
    assert!(spectator.ticks.windows(2).all(|pair| pair[1] / 6 > pair[0] / 6), "{:?}", spectator.ticks);
    assert!(NonZeroU32::new(spectator.welcome.hash_interval).is_some());
    server.stop().await;
}
