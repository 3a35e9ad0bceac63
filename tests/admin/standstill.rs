//! Sessions that are paused, stepped, resumed and ended.

use std::sync::Arc;

use tickwire_arena::Arena;
use tickwire_proto::v1::{self as pb, client_message, server_message::Kind};
use tickwire_recording::{EndReason, Recording, RecordingState, verify};
use tickwire_shared::Tick;
use tonic::Code;

use super::administrator::{AdminClient, Administered};
use crate::harness::{ARENA_1, RawClient, Witness, config, eventually, hello, input, reason_of};

/// The next notice; snapshots before it are acknowledged.
async fn notice(client: &mut RawClient) -> pb::NoticeKind {
    loop {
        match client.next().await.expect("the stream goes on") {
            Kind::Notice(notice) => return notice.kind(),
            Kind::Snapshot(snapshot) => client.ack(snapshot.tick).await,
            _ => {}
        }
    }
}

async fn pong(client: &mut RawClient, echo: u64) -> pb::Pong {
    client.send(client_message::Kind::Ping(pb::Ping { echo })).await;
    loop {
        if let Kind::Pong(pong) = client.next().await.expect("the stream goes on") {
            return pong;
        }
    }
}

async fn pause(admin: &mut AdminClient) -> pb::Progress {
    admin.pause(pb::PauseRequest { session: ARENA_1.into() }).await.expect("it runs").into_inner()
}

async fn resume(admin: &mut AdminClient) -> pb::Progress {
    admin.resume(pb::ResumeRequest { session: ARENA_1.into() }).await.expect("it runs").into_inner()
}

async fn step(admin: &mut AdminClient, ticks: u32) -> Result<pb::Progress, tonic::Status> {
    Ok(admin.step(pb::StepRequest { session: ARENA_1.into(), ticks }).await?.into_inner())
}

#[tokio::test]
async fn a_paused_session_steps_only_what_it_is_told_and_goes_on_as_if_no_time_had_passed() {
    let administered = Administered::arena(config()).await;
    let mut admin = administered.admin().await;
    let (mut client, _) = RawClient::join(&administered.server).await;
    client.play_until(|snapshot| snapshot.tick > 5).await;
    let status = step(&mut admin, 1).await.expect_err("it is not paused");
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::FailedPrecondition, "NOT_PAUSED"));

    let paused = pause(&mut admin).await;
    assert!(paused.settled);
    assert_eq!(notice(&mut client).await, pb::NoticeKind::Paused);
    let before = pong(&mut client, 1).await;
    let overruns = administered.server.probe.sessions()[0].overruns;
    // The stream is there, and time is not.
    let after = pong(&mut client, 2).await;
    assert_eq!((before.tick, after.tick), (paused.tick, paused.tick));
    assert_eq!((before.phase_us, before.slip_us), (after.phase_us, after.slip_us));

    let stepped = step(&mut admin, 3).await.expect("it is paused");
    assert_eq!((stepped.tick, stepped.settled), (paused.tick + 3, true));
    let snapshot = client.play_until(|snapshot| snapshot.tick == stepped.tick).await;
    assert_eq!(pong(&mut client, 3).await.tick, snapshot.tick);

    let resumed = resume(&mut admin).await;
    assert!(resumed.settled && resumed.tick >= stepped.tick);
    assert_eq!(notice(&mut client).await, pb::NoticeKind::Resumed);
    let snapshot = client.play_until(|snapshot| snapshot.tick > stepped.tick + 10).await;
    assert!(snapshot.slip_us > before.slip_us, "the clock stood still: {} µs", snapshot.slip_us);
    let progress = &administered.server.probe.sessions()[0];
    // It gave nothing up to catch up: a standstill is no lateness. A busy machine may overrun a tick by itself.
    assert!(progress.overruns < overruns + 10 && !progress.stuck, "{progress:?}");
    administered.server.stop().await;
}

#[tokio::test]
async fn a_paused_session_takes_nobody_in_but_gives_those_who_come_back_their_seats() {
    let administered = Administered::arena(config()).await;
    let mut admin = administered.admin().await;
    let (mut client, welcome) = RawClient::join(&administered.server).await;
    client.play_until(|snapshot| snapshot.tick > 2).await;
    pause(&mut admin).await;
    let (_, status) = RawClient::greet(&administered.server, hello()).await.end().await;
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::Unavailable, "SESSION_PAUSED"));

    drop(client);
    let resume_hello = pb::Hello { resume_token: welcome.resume_token, ..hello() };
    let mut client = RawClient::greet(&administered.server, resume_hello).await;
    assert_eq!(client.welcome().await.player, welcome.player);
    // Who comes meanwhile is told, too.
    assert_eq!(notice(&mut client).await, pb::NoticeKind::Paused);
    resume(&mut admin).await;
    assert_eq!(notice(&mut client).await, pb::NoticeKind::Resumed);
    let newest = client.play_until(|_| true).await;
    let inputs = vec![input(1, newest.tick + 20)];
    let inputs = pb::Inputs { epoch: 0, newest_tick: newest.tick, inputs };
    client.send(client_message::Kind::Inputs(inputs)).await;
    client.play_until(|snapshot| snapshot.consumed_input == 1).await;
    let (mut newcomer, _) = RawClient::join(&administered.server).await;
    newcomer.play_until(|_| true).await;
    administered.server.stop().await;
}

#[tokio::test]
async fn the_recording_of_a_session_that_was_paused_is_that_of_one_that_was_not() {
    let administered = Administered::arena(config()).await;
    let mut admin = administered.admin().await;
    let mut witness = Witness::join(&administered.server).await;
    witness.plays_on().await;
    for _ in 0..3 {
        pause(&mut admin).await;
        step(&mut admin, 2).await.expect("it is paused");
        resume(&mut admin).await;
        witness.plays_on().await;
    }
    pause(&mut admin).await;
    let directory = administered.data.path().join("recordings");
    let Administered { server, data: _data, .. } = administered;
    server.stop().await;
    let listed = tickwire_recording::list(&directory).expect("it is there");
    let recording = Recording::open(&listed[0].path).expect("it opens");
    let verified = verify(&recording, Arc::new(Arena)).expect("it replays");
    assert!(Tick(verified.ticks) > Tick(6));
}

#[tokio::test]
async fn a_session_that_is_ended_says_why_and_leaves_a_whole_recording() {
    let administered = Administered::arena(tickwire_server::ServerConfig { sessions: 2, ..config() }).await;
    let mut admin = administered.admin().await;
    let mut witness = Witness::join(&administered.server).await;
    let second = pb::Hello { session: "sessions/arena-2".into(), ..hello() };
    let mut client = RawClient::greet(&administered.server, second.clone()).await;
    client.welcome().await;
    // A pause is in nobody's way.
    admin.pause(pb::PauseRequest { session: "sessions/arena-2".into() }).await.expect("it runs");
    let end = pb::TerminateSessionRequest { session: "sessions/arena-2".into(), reason: "maintenance".into() };
    admin.terminate_session(end.clone()).await.expect("it runs");
    let (goodbye, status) = client.end().await;
    let goodbye = goodbye.expect("it says why");
    assert_eq!(goodbye.reason(), pb::GoodbyeReason::Terminated);
    assert_eq!(goodbye.text, "the session was ended: maintenance");
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::Aborted, "TERMINATED"));
    witness.plays_on().await;
    let (_, status) = RawClient::greet(&administered.server, second).await.end().await;
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::FailedPrecondition, "TERMINATED"));

    let status = admin.terminate_session(end).await.expect_err("it has ended");
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::FailedPrecondition, "SESSION_ENDED"));
    let directory = administered.data.path().join("recordings");
    let ends = || {
        let listed = tickwire_recording::list(&directory).expect("it is there");
        listed.into_iter().filter_map(|listed| listed.summary.ok().map(|summary| summary.state)).collect::<Vec<_>>()
    };
    eventually("its recording is closed", || {
        ends().contains(&RecordingState::Complete(EndReason::Ended { result_json: String::new() }))
    })
    .await;
    administered.server.stop().await;
}

#[tokio::test]
async fn statistics_come_again_and_again_until_the_server_ends() {
    let administered = Administered::arena(config()).await;
    let mut admin = administered.admin().await;
    let _witness = Witness::join(&administered.server).await;
    let interval = |nanos| Some(prost_types::Duration { seconds: 0, nanos });
    let request = pb::StreamStatsRequest { interval: interval(1_000_000) };
    let status = admin.stream_stats(request).await.expect_err("it is too often");
    assert_eq!(status.code(), Code::InvalidArgument);
    let request = pb::StreamStatsRequest { interval: interval(100_000_000) };
    let mut stats = admin.stream_stats(request).await.expect("it is allowed").into_inner();
    let mut last = 0;
    for _ in 0..3 {
        let stats = stats.message().await.expect("it goes on").expect("it goes on");
        let [session] = stats.sessions.as_slice() else { panic!("{stats:?} of one session") };
        assert_eq!((session.session.as_str(), session.players, stats.streams), (ARENA_1, 1, 1));
        assert!(session.tick > last, "tick {} after {last}", session.tick);
        last = session.tick;
    }
    administered.server.stop().await;
    while let Ok(Some(_)) = stats.message().await {}
}
