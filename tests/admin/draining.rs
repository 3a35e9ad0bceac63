//! A server that is to end, and comes to its end whatever its clients do.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tickwire_arena::Arena;
use tickwire_proto::v1::{self as pb, client_message, server_message::Kind};
use tickwire_recording::{Recording, verify};
use tickwire_server::ServerConfig;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

use super::administrator::Administered;
use crate::harness::{Cable, RawClient, Witness, config, eventually, hello, reason_of, within_patience};

fn drain(seconds: u64) -> pb::DrainRequest {
    let deadline = Duration::from_secs(seconds).try_into().expect("in range");
    pb::DrainRequest { deadline: Some(deadline) }
}

/// A stream that never reads, in a window that takes nothing, and one that reads and says nothing.
async fn ignoring(administered: &Administered, number: usize) -> RawClient {
    let endpoint = administered.server.endpoint();
    let endpoint = if number.is_multiple_of(2) { endpoint.initial_stream_window_size(16) } else { endpoint };
    let client = RawClient::open_on(endpoint.connect().await.expect("the server accepts")).await;
    client.send(client_message::Kind::Hello(hello())).await;
    client
}

#[tokio::test]
async fn a_drain_ends_though_some_ignore_everything_and_the_recording_is_whole() {
    ends(6, 4, 1).await;
}

/// For figures: `cargo test --release --test tests -- --ignored --nocapture two_hundred`.
#[tokio::test]
#[ignore = "it takes a while, and says how long"]
#[expect(clippy::print_stderr, reason = "the figure is for who asked for it")]
async fn a_drain_with_two_hundred_players_of_whom_twenty_ignore_everything_ends_in_time() {
    let deadline_seconds = 5;
    let took = ends(180, 20, deadline_seconds).await;
    eprintln!("200 players, 20 of them ignore everything, deadline {deadline_seconds} s: ended after {took:?}");
}

/// How long it takes.
async fn ends(playing: usize, ignorant: usize, deadline_seconds: u64) -> Duration {
    let administered = Administered::arena(config()).await;
    let mut admin = administered.admin().await;
    let mut ignorants = Vec::new();
    for number in 0..ignorant {
        ignorants.push(ignoring(&administered, number).await);
    }
    // And one that is not there any more, of which nobody has told.
    let cable = Cable::to(&administered.server).await;
    let half_open = RawClient::open_on(cable.channel().await).await;
    half_open.send(client_message::Kind::Hello(hello())).await;
    let mut players = Vec::new();
    for _ in 0..playing {
        let (mut client, _) = RawClient::join(&administered.server).await;
        players.push(tokio::spawn(async move {
            let mut noticed = false;
            loop {
                match client.next().await {
                    Ok(Kind::Snapshot(snapshot)) => client.ack(snapshot.tick).await,
                    Ok(Kind::Notice(notice)) => noticed |= notice.kind() == pb::NoticeKind::Draining,
                    Ok(Kind::Goodbye(goodbye)) => return (noticed, goodbye.reason()),
                    Ok(_) => {}
                    Err(status) => panic!("{status} before a goodbye"),
                }
            }
        }));
    }
    let seats = u32::try_from(playing + ignorant + 1).expect("few");
    eventually("all sit", || administered.server.probe.seats() == seats).await;
    cable.pull();

    let directory = administered.data.path().join("recordings");
    let began = Instant::now();
    admin.drain(drain(deadline_seconds)).await.expect("it is the token");
    let Administered { server, data: _data, .. } = administered;
    within_patience(server.ended()).await;
    let took = began.elapsed();
    for player in players {
        let told = within_patience(player).await.expect("it plays to the end");
        assert_eq!(told, (true, pb::GoodbyeReason::Shutdown));
    }
    let listed = tickwire_recording::list(&directory).expect("it is there");
    let recording = Recording::open(&listed[0].path).expect("it opens");
    let verified = verify(&recording, Arc::new(Arena)).expect("it replays");
    assert!(verified.ticks > 0);
    took
}

#[tokio::test]
async fn a_drain_waits_no_longer_than_anybody_plays() {
    let administered = Administered::arena(config()).await;
    let mut admin = administered.admin().await;
    let (client, _) = RawClient::join(&administered.server).await;
    // So long that waiting for it would fail the test.
    admin.drain(drain(3600)).await.expect("it is the token");
    let info = admin.get_server_info(pb::GetServerInfoRequest {}).await.expect("it answers").into_inner();
    assert!(info.drain_deadline.is_some());
    client.send(client_message::Kind::Leave(pb::Leave {})).await;
    within_patience(administered.server.ended()).await;
}

#[tokio::test]
async fn a_drain_that_is_called_off_lets_players_in_again_and_tells_those_who_are_there() {
    let administered = Administered::arena(config()).await;
    let mut admin = administered.admin().await;
    let mut health = administered.server.health("").await;
    assert_eq!(health.next().await, ServingStatus::Serving);
    let status = admin.cancel_drain(pb::CancelDrainRequest {}).await.expect_err("nothing drains");
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::FailedPrecondition, "NOT_DRAINING"));
    let (mut client, _) = RawClient::join(&administered.server).await;
    let mut notice = async || loop {
        match client.next().await.expect("the stream goes on") {
            Kind::Notice(notice) => return (notice.kind(), notice.deadline_ms),
            Kind::Snapshot(snapshot) => client.ack(snapshot.tick).await,
            _ => {}
        }
    };
    admin.drain(drain(3600)).await.expect("it is the token");
    assert_eq!(notice().await, (pb::NoticeKind::Draining, 3_600_000));
    assert_eq!(health.next().await, ServingStatus::NotServing);
    let (_, status) = RawClient::greet(&administered.server, hello()).await.end().await;
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::Unavailable, "SHUTTING_DOWN"));
    // The newest deadline counts.
    admin.drain(drain(1800)).await.expect("it is the token");
    assert_eq!(notice().await, (pb::NoticeKind::Draining, 1_800_000));

    admin.cancel_drain(pb::CancelDrainRequest {}).await.expect("it drains");
    assert_eq!(notice().await, (pb::NoticeKind::DrainCancelled, 0));
    assert_eq!(health.next().await, ServingStatus::Serving);
    let mut witness = Witness::join(&administered.server).await;
    witness.plays_on().await;
    administered.server.stop().await;
}

#[tokio::test]
async fn an_end_that_whoever_runs_the_server_wants_is_not_called_off() {
    let timeouts = tickwire_server::Timeouts { drain: Duration::from_secs(3600), ..config().timeouts };
    let administered = Administered::arena(ServerConfig { timeouts, ..config() }).await;
    let mut admin = administered.admin().await;
    let (client, _) = RawClient::join(&administered.server).await;
    let mut health = administered.server.health("").await;
    assert_eq!(health.next().await, ServingStatus::Serving);
    let ended = administered.server.begin_stop();
    assert_eq!(health.next().await, ServingStatus::NotServing);
    let status = admin.cancel_drain(pb::CancelDrainRequest {}).await.expect_err("it is not an admin's");
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::FailedPrecondition, "ENDING"));
    client.send(client_message::Kind::Leave(pb::Leave {})).await;
    within_patience(ended).await.expect("the server does not panic");
}
