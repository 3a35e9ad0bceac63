//! Recordings of which a part is missing, is cut short, or goes while somebody watches it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;
use tickwire_proto::v1::{
    self as pb, CreateSessionRequest, EndSessionRequest, NewSession, client_message::Kind, server_message,
    session_service_client::SessionServiceClient, watch_control::Action,
};
use tickwire_recording::{Recording, RecordingState, live_path, repair};
use tonic::Code;

use super::{
    newest, play, recording_server,
    segments::{list_of, replay, segmented_server, segments, until_segments},
    spectator::{Came, Spectator, watch_request},
};
use crate::harness::{eventually, hello, within_patience};

fn first_tick(segment: &Path) -> u64 {
    Recording::open(segment).expect("a recording").meta().segment.first_tick.0
}

/// What a kill would leave by now of the newest segment, once there are some ticks in it; its place among all, and its file.
async fn copy_of_newest(directory: &TempDir) -> (usize, PathBuf, Vec<u8>) {
    let aside = tempfile::tempdir().expect("a directory");
    let copy = live_path(aside.path(), "copy");
    let mut copied = None;
    eventually("some ticks are in the newest segment", || {
        let mut all = segments(directory);
        let newest = all.pop().expect("there is one");
        let Ok(bytes) = fs::read(&newest) else { return false };
        fs::write(&copy, &bytes).expect("there is room");
        let has_ticks = Recording::open(&copy).is_ok_and(|recording| recording.summary().ticks > 10);
        copied = has_ticks.then_some((all.len(), newest, bytes));
        copied.is_some()
    })
    .await;
    copied.expect("it has waited for that")
}

#[tokio::test]
async fn who_plays_the_past_goes_on_behind_what_is_missing_of_it() {
    let (server, directory) = segmented_server(|_| {}).await;
    until_segments(&directory, 2).await;
    let (killed_at, killed, copy) = copy_of_newest(&directory).await;
    until_segments(&directory, killed_at + 5).await;
    let all = segments(&directory);
    let [cut, second, missing, last] = &all[killed_at..killed_at + 4] else { panic!("there are so many: {all:?}") };
    fs::write(&killed, copy).expect("there is room");
    fs::remove_file(cut).expect("it is finished");
    assert_eq!(&repair(&killed).expect("it is a copy").path, cut);
    let summary = Recording::open(cut).expect("a recording").summary();
    let (cut_after, goes_on) = (summary.last_tick().0, first_tick(second));
    assert!(matches!(summary.state, RecordingState::Complete(_)) && cut_after + 1 < goes_on, "{summary:?}");
    fs::remove_file(missing).expect("it is finished");

    let request = pb::WatchRequest { from_tick: cut_after - 5, ..watch_request() };
    let mut spectator = Spectator::watch(&server, request).await.expect("there is room");
    spectator.until(|spectator| spectator.mirror.tick().0 + 3 >= cut_after).await;
    for (jumps, tick) in [(1, goes_on), (2, first_tick(last))] {
        spectator.until(|spectator| spectator.state.jumps == jumps).await;
        assert!(!spectator.state.ended && !spectator.state.live, "{:?}", spectator.state);
        spectator.snapshots(2).await;
        // The keyframe that it begins with is as of the tick before.
        assert!((tick - 1..tick + 60).contains(&spectator.ticks[0]), "{:?} instead of {tick}", spectator.ticks);
        if jumps == 1 {
            spectator.steer(Action::Speed(4.0)).await.expect("it is taken");
        }
    }
    spectator.steer_until(Action::Speed(64.0), |state| state.live).await;
    server.stop().await;
}

#[tokio::test]
async fn the_late_edge_goes_on_behind_a_segment_that_is_missing() {
    let delay = Duration::from_millis(10_100);
    let (server, directory) = segmented_server(|config| config.spectator_delay = delay).await;
    until_segments(&directory, 3).await;
    let [first, missing, third, ..] = &segments(&directory)[..] else { panic!("there are three") };
    assert!(newest(&server) < 606, "nobody has seen anything");
    let (before, behind) = (first_tick(missing) - 1, first_tick(third));
    fs::remove_file(missing).expect("it is finished");
    assert_eq!(first_tick(first), 1);
    let mut spectator = Spectator::watch(&server, watch_request()).await.expect("there is room");
    spectator.until(|spectator| spectator.mirror.tick().0 + 3 >= before).await;
    assert_eq!((spectator.ticks[0] < before, spectator.state.jumps), (true, 0), "{:?}", spectator.ticks);
    spectator.until(|spectator| spectator.state.jumps == 1).await;
    spectator.snapshots(10).await;
    assert!((behind - 1..behind + 60).contains(&spectator.ticks[0]), "{:?} instead of {behind}", spectator.ticks);
    assert!(spectator.state.live && spectator.mirror.tick().0 + 606 <= newest(&server), "{:?}", spectator.state);
    server.stop().await;
}

#[tokio::test]
async fn nobody_in_the_past_is_shown_a_tick_before_its_time() {
    let (server, _directory) = recording_server(|config| config.spectator_delay = Duration::from_secs(3600)).await;
    play(&server, 3);
    eventually("there is what is not to be seen", || newest(&server) > 10).await;
    let mut spectator = Spectator::watch(&server, watch_request()).await.expect("there is room");
    spectator.steer_until(Action::Paused(true), |state| state.paused).await;
    assert_eq!((spectator.state.tick, spectator.state.last_tick), (0, 0));
    for action in [Action::SeekTick(1), Action::Paused(true), Action::StepTicks(5), Action::Speed(0.5)] {
        spectator.steer(action).await.expect("it is taken");
        spectator.say(Kind::Ping(pb::Ping { echo: 9 })).await.expect("it is taken");
        loop {
            match spectator.next().await.expect("the stream goes on") {
                Came::Snapshot(snapshot) => panic!("tick {} is shown: {action:?}", snapshot.tick),
                Came::Other(server_message::Kind::Pong(_)) => break,
                Came::State | Came::Other(_) => {}
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn who_seeks_a_deleted_tick_stays_in_the_past_and_is_told_the_first_one() {
    let (server, directory) = segmented_server(|_| {}).await;
    until_segments(&directory, 4).await;
    let [first, second, ..] = &segments(&directory)[..] else { panic!("there are four") };
    let first_left = first_tick(second);
    let request = pb::WatchRequest { from_tick: first_left + 5, ..watch_request() };
    let mut spectator = Spectator::watch(&server, request).await.expect("there is room");
    spectator.steer_until(Action::Paused(true), |state| state.paused).await;
    let tick = first_left + 8;
    spectator.steer_until(Action::SeekTick(tick), |state| state.jumps == 1).await;
    spectator.snapshots(1).await;
    assert_eq!((spectator.state.tick, spectator.state.first_tick), (tick, 1));
    fs::remove_file(first).expect("it is finished");

    for gone in [5, 6] {
        let problem = format!("there is no tick {gone} any more: the recording begins with tick {first_left}");
        spectator.steer_until(Action::SeekTick(gone), |state| state.problem == problem).await;
        let state = &spectator.state;
        assert_eq!((state.live, state.paused, state.jumps, state.tick), (false, true, 1, tick));
        assert_eq!(state.first_tick, first_left);
    }
    // They go on from where they were.
    spectator.steer(Action::StepTicks(1)).await.expect("it is taken");
    spectator.snapshots(1).await;
    assert_eq!(spectator.state.problem, "");
    assert_eq!(&*spectator.ticks, [tick, tick + 1]);
    spectator.steer_until(Action::SeekTick(first_left), |state| state.jumps == 2).await;
    spectator.snapshots(1).await;
    assert_eq!(&*spectator.ticks, [first_left]);
    server.stop().await;
}

#[tokio::test]
async fn seeks_find_their_ticks_while_segments_are_being_finished() {
    let (server, directory) = segmented_server(|_| {}).await;
    eventually("there is a past", || newest(&server) > 120).await;
    // So slow that nobody comes to the live edge.
    let request = pb::WatchRequest { from_tick: 1, speed: 0.5, ..watch_request() };
    let mut spectator = Spectator::watch(&server, request).await.expect("there is room");
    spectator.snapshots(1).await;
    for jumps in 1.. {
        if segments(&directory).len() >= 6 {
            break;
        }
        let tick = newest(&server) - [60, 30, 45, 37][jumps as usize % 4];
        spectator.steer_until(Action::SeekTick(tick), |state| state.jumps == jumps || !state.problem.is_empty()).await;
        assert_eq!((&*spectator.state.problem, spectator.state.live), ("", false));
        spectator.snapshots(1).await;
        // A recorder may lag behind.
        assert!(spectator.ticks[0].abs_diff(tick) < 60, "{:?} instead of {tick}", spectator.ticks);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_recording_that_is_deleted_while_somebody_watches_it_is_watched_to_its_end() {
    let (server, directory) = segmented_server(|_| {}).await;
    until_segments(&directory, 3).await;
    let second = &list_of(&server).await[1];
    let mut spectator = replay(&server, &second.name, 0).await.expect("it is public");
    spectator.steer_until(Action::Paused(true), |state| state.paused).await;
    spectator.steer_until(Action::SeekTick(second.first_tick + 3), |state| state.jumps == 1).await;
    spectator.snapshots(1).await;
    fs::remove_file(&segments(&directory)[1]).expect("it is finished");
    spectator.steer_until(Action::SeekTick(second.first_tick), |state| !state.problem.is_empty()).await;
    assert_eq!((spectator.state.jumps, spectator.state.paused), (1, true));
    spectator.steer_until(Action::Speed(4.0), |state| state.ended).await;
    let last = second.first_tick + second.ticks - 1;
    assert_eq!((spectator.state.tick, spectator.state.jumps), (last, 1));
    server.stop().await;
}

#[tokio::test]
async fn who_steps_at_the_live_edge_stays_there_until_there_is_more() {
    steps_at_the_live_edge(true).await;
}

#[tokio::test]
async fn who_steps_at_the_live_edge_of_an_idle_session_goes_on_as_that_does() {
    // All ticks without a player stand in one record, which has become longer since it was read.
    steps_at_the_live_edge(false).await;
}

async fn steps_at_the_live_edge(is_played: bool) {
    let (server, _directory) = recording_server(|_| {}).await;
    if is_played {
        play(&server, 3);
    }
    let mut spectator = Spectator::watch(&server, watch_request()).await.expect("there is room");
    spectator.until(|spectator| spectator.mirror.tick().0 > 60).await;
    spectator.steer_until(Action::Paused(true), |state| state.paused).await;
    spectator.snapshots(1).await;
    let stopped_at = spectator.mirror.tick().0;
    eventually("the match goes on", || newest(&server) > stopped_at + 30).await;
    // As far as there is, and no further: it is not the live edge that they come to.
    spectator.steer(Action::StepTicks(1000)).await.expect("it is taken");
    spectator.until(|spectator| spectator.mirror.tick().0 > stopped_at + 20).await;
    for _ in 0..5 {
        let before = spectator.mirror.tick().0;
        eventually("the match goes on", || newest(&server) > before + 10).await;
        spectator.steer(Action::StepTicks(1)).await.expect("it is taken");
        spectator.until(|spectator| spectator.mirror.tick().0 > before).await;
    }
    let state = &spectator.state;
    assert!(state.paused && !state.live && state.problem.is_empty(), "{state:?}");
    spectator.steer_until(Action::StepTicks(-1000), |state| state.tick == 1).await;
    spectator.steer_until(Action::Live(pb::WatchLive {}), |state| state.live && !state.paused).await;
    spectator.snapshots(5).await;
    server.stop().await;
}

#[tokio::test]
async fn who_is_in_the_past_when_the_session_ends_is_told_its_result() {
    let (server, _directory) = recording_server(|_| {}).await;
    let mut sessions = SessionServiceClient::new(server.channel().await);
    let create = CreateSessionRequest { session: Some(NewSession::default()), ..CreateSessionRequest::default() };
    let session = within_patience(sessions.create_session(create)).await.expect("there is room").into_inner().name;
    let hello = Some(pb::Hello { session: session.clone(), ..hello() });
    let request = pb::WatchRequest { hello, ..watch_request() };
    let mut spectator = Spectator::watch(&server, request).await.expect("there is room");
    spectator.until(|spectator| spectator.mirror.tick().0 > 60).await;
    spectator.steer(Action::SeekTick(1)).await.expect("it is taken");
    spectator.steer_until(Action::Speed(0.1), |state| state.jumps == 1 && state.speed == 0.1).await;
    spectator.snapshots(2).await;
    let end = EndSessionRequest { name: session, result_json: r#"{"winner":7}"#.into() };
    within_patience(sessions.end_session(end)).await.expect("it runs");
    let (goodbye, status) = spectator.end().await;
    let goodbye = goodbye.expect("it is told");
    assert_eq!((goodbye.reason(), &*goodbye.result_json), (pb::GoodbyeReason::SessionEnded, r#"{"winner":7}"#));
    assert_eq!(status.code(), Code::Ok);
    server.stop().await;
}
