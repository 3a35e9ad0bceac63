//! How players go: by a word, by closing their side, or by vanishing.

use std::time::Duration;

use tickwire_proto::v1::{self as pb, client_message::Kind, game_service_client::GameServiceClient};
use tickwire_recording::Recording;
use tickwire_server::{ServerConfig, Timeouts};
use tickwire_shared::{PlayerId, Provenance};
use tickwire_simulation::SeatChange;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};

use crate::harness::{Cable, RawClient, TestServer, Witness, config, eventually, hello, input, within_patience};

fn status_in(snapshot: &pb::Snapshot, player: u32) -> Option<pb::PlayerStatus> {
    let row = snapshot.roster.iter().find(|row| row.player == player)?;
    pb::PlayerStatus::try_from(row.status).ok()
}

#[tokio::test]
async fn who_says_that_they_leave_gets_a_goodbye_once_their_seat_is_free() {
    let server = TestServer::arena(config()).await;
    let (mut client, _) = RawClient::join(&server).await;
    client.snapshot().await;
    client.send(Kind::Leave(pb::Leave {})).await;
    let (goodbye, status) = client.end().await;
    assert_eq!(goodbye.expect("a clean end has a goodbye").reason(), pb::GoodbyeReason::Left);
    assert_eq!(status.code(), Code::Ok);
    assert_eq!(server.probe.seats(), 0);
    server.stop().await;
}

#[tokio::test]
async fn who_closes_their_side_leaves_once_what_they_sent_is_consumed() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = TestServer::arena(ServerConfig { recordings: Some(directory.path().to_owned()), ..config() }).await;
    let (mut client, welcome) = RawClient::join(&server).await;
    let newest = client.play_until(|snapshot| snapshot.tick > welcome.tick + 2).await.tick;
    let target = newest + 30;
    client.send(Kind::Inputs(pb::Inputs { epoch: 0, newest_tick: newest, inputs: vec![input(1, target)] })).await;

    let RawClient { up, mut down } = client;
    drop(up);
    let mut goodbye = None;
    while let Some(message) = within_patience(down.message()).await.expect("a clean end has status OK") {
        if let Some(pb::server_message::Kind::Goodbye(message)) = message.kind {
            goodbye = Some(message.reason());
        }
    }
    assert_eq!(goodbye, Some(pb::GoodbyeReason::Left));
    assert_eq!(server.probe.seats(), 0);
    server.stop().await;

    let file = std::fs::read_dir(directory.path()).expect("it is there").next().expect("one recording");
    let recording = Recording::open(file.expect("it is there").path()).expect("it is whole");
    let (mut consumed, mut left) = (None, None);
    for tick in recording.ticks().expect("it is there") {
        let input = tick.expect("it is whole").input;
        for seat in input.inputs.iter().filter(|seat| seat.provenance == Provenance::Fresh) {
            consumed = Some((input.tick.0, seat.sequence));
        }
        if input.seat_changes.contains(&SeatChange::Left { player: PlayerId(welcome.player) }) {
            left = Some(input.tick.0);
        }
    }
    assert_eq!((consumed, left), (Some((target, 1)), Some(target + 1)));
}

#[tokio::test]
async fn who_vanishes_keeps_their_seat_for_the_grace_period() {
    let grace = Duration::from_millis(500);
    let config = ServerConfig { timeouts: Timeouts { grace, ..config().timeouts }, ..config() };
    let server = TestServer::arena(config).await;
    let (mut other, _) = RawClient::join(&server).await;
    let cable = Cable::to(&server).await;
    let mut client = RawClient::open_on(cable.channel().await).await;
    client.send(Kind::Hello(hello())).await;
    let player = client.welcome().await.player;
    cable.cut();
    other.play_until(|snapshot| status_in(snapshot, player) == Some(pb::PlayerStatus::Disconnected)).await;
    assert_eq!(server.probe.seats(), 2);
    other.play_until(|snapshot| status_in(snapshot, player) == Some(pb::PlayerStatus::Left)).await;
    assert_eq!(server.probe.seats(), 1);
    server.stop().await;
}

/// A request that is cancelled, on a connection that stays, is lost, and not closed.
#[tokio::test]
async fn a_reset_is_no_leave() {
    let server = TestServer::arena(config()).await;
    let mut witness = Witness::join(&server).await;
    let channel = server.channel().await;
    let (up, messages) = mpsc::channel(1);
    let mut request = Request::new(ReceiverStream::new(messages));
    let cancellation = request.cancellation_handle();
    let down = GameServiceClient::new(channel.clone()).play(request).await.expect("headers come at once").into_inner();
    let mut client = RawClient { up, down };
    client.send(Kind::Hello(hello())).await;
    client.welcome().await;
    cancellation.cancel();
    witness.plays_during(eventually("the stream is gone", || server.probe.streams() == 1)).await;
    assert_eq!((server.probe.seats(), server.probe.connections()), (2, 2));
    drop(channel);
    server.stop().await;
}

#[tokio::test]
async fn a_ping_is_answered_with_the_servers_time() {
    let server = TestServer::arena(config()).await;
    let (mut client, _) = RawClient::join(&server).await;
    let seen = client.play_until(|snapshot| snapshot.tick > 3).await.tick;
    client.send(Kind::Ping(pb::Ping { echo: u64::MAX })).await;
    let pong = loop {
        if let pb::server_message::Kind::Pong(pong) = client.next().await.expect("the stream goes on") {
            break pong;
        }
    };
    assert_eq!(pong.echo, u64::MAX);
    assert!(pong.tick >= seen, "tick {} after tick {seen}", pong.tick);
    server.stop().await;
}

#[tokio::test]
async fn a_resync_is_answered_with_a_reset() {
    let server = TestServer::arena(config()).await;
    let (mut client, _) = RawClient::join(&server).await;
    assert!(client.play_until(|_| true).await.reset, "a stream starts with a reset");
    client.play_until(|snapshot| !snapshot.reset).await;
    client.send(Kind::Resync(pb::Resync { reason: pb::ResyncReason::HashMismatch.into() })).await;
    client.play_until(|snapshot| snapshot.reset).await;
    client.play_until(|snapshot| !snapshot.reset).await;
    server.stop().await;
}

#[tokio::test]
async fn welcome_says_what_was_granted() {
    let server = TestServer::arena(config()).await;
    let mut wishes = hello();
    wishes.session = crate::harness::ARENA_1.into();
    wishes.game = "arena".into();
    wishes.player_name = "Ada".into();
    wishes.view_radius = 1e9;
    wishes.max_bytes_per_second = u32::MAX;
    let mut client = RawClient::greet(&server, wishes).await;
    let welcome = client.welcome().await;
    let schema = tickwire_shared::schema_of(&tickwire_arena::Arena).expect("it is valid");
    assert_eq!(welcome.session, crate::harness::ARENA_1);
    assert_eq!(welcome.view_radius, config().limits.view_radius_max);
    // What 60 snapshots of 64 KiB carry, which is less than the limit.
    assert_eq!(welcome.max_bytes_per_second, 60 * (64 << 10));
    assert_eq!((welcome.epoch, welcome.tick_rate, welcome.last_consumed_input), (0, 60, 0));
    assert_eq!(welcome.settings.len(), schema.settings.len());
    assert_eq!(welcome.schema.expect("a player gets it").hash, schema.hash().0);
    assert!(welcome.resume_token.len() >= 16 && welcome.attach_token.len() >= 16);
    assert_eq!((welcome.max_stripes, welcome.snapshot_copies), (4, 1));
    let snapshot = client.play_until(|snapshot| !snapshot.roster.is_empty()).await;
    assert_eq!(snapshot.roster[0].name, "Ada");
    server.stop().await;
}
