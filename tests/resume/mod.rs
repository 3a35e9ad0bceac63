//! Seats that outlive their connections: how they are taken back, and by whom they are not.

mod library;

use std::{num::NonZeroU32, time::Duration};

use tickwire_proto::v1::{self as pb, client_message::Kind};
use tickwire_server::{ServerConfig, Timeouts};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{
    ARENA_1, Cable, RawClient, TestServer, Witness, config, eventually, field_of, hello, input, reason_of,
};

/// A hello that takes a seat back.
fn with_token(token: &[u8]) -> pb::Hello {
    pb::Hello { resume_token: token.to_vec(), ..hello() }
}

fn with_grace(grace: Duration) -> ServerConfig {
    ServerConfig { timeouts: Timeouts { grace, ..config().timeouts }, ..config() }
}

async fn resume(server: &TestServer, token: &[u8]) -> (RawClient, pb::Welcome) {
    let mut client = RawClient::greet(server, with_token(token)).await;
    let welcome = client.welcome().await;
    (client, welcome)
}

async fn refusal(server: &TestServer, hello: pb::Hello) -> Status {
    RawClient::greet(server, hello).await.end().await.1
}

fn assert_refused(status: &Status, code: Code, reason: &str, field: &str) {
    let found = (status.code(), reason_of(status), field_of(status));
    assert_eq!(found, (code, reason.to_owned(), field.to_owned()), "{status:?}");
}

async fn assert_unknown(server: &TestServer, token: &[u8]) {
    let status = refusal(server, with_token(token)).await;
    assert_refused(&status, Code::Unauthenticated, "UNKNOWN_TOKEN", "hello.resume_token");
}

/// Whose entity a stream is shown as its own.
async fn own_entity(client: &mut RawClient) -> u32 {
    let is_whole = |snapshot: &pb::Snapshot| snapshot.owner.as_ref().is_some_and(|owner| owner.net_id > 0);
    client.play_until(is_whole).await.owner.expect("just seen").net_id
}

/// Plays until an input of the client's has been consumed: its number.
async fn send_input(client: &mut RawClient, sequence: u64) {
    let mut target = 0;
    loop {
        let snapshot = client.snapshot().await;
        if snapshot.consumed_input >= sequence {
            client.ack(snapshot.tick).await;
            return;
        }
        if snapshot.tick >= target {
            target = snapshot.tick + 10;
            let inputs = vec![input(sequence, target)];
            client.send(Kind::Inputs(pb::Inputs { epoch: 0, newest_tick: snapshot.tick, inputs })).await;
        } else {
            client.ack(snapshot.tick).await;
        }
    }
}

async fn assert_displaced(client: &mut RawClient) {
    let (goodbye, status) = client.end().await;
    assert_eq!(goodbye.expect("who is displaced is told").reason(), pb::GoodbyeReason::Displaced);
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::Aborted, "DISPLACED"));
}

#[tokio::test]
async fn a_lost_player_finds_the_seat_the_entity_and_what_was_consumed() {
    let server = TestServer::arena(config()).await;
    let mut witness = Witness::join(&server).await;
    let cable = Cable::to(&server).await;
    let mut client = RawClient::open_on(cable.channel().await).await;
    client.send(Kind::Hello(pb::Hello { player_name: "Ada".into(), ..hello() })).await;
    let joined = client.welcome().await;
    let entity = own_entity(&mut client).await;
    send_input(&mut client, 1).await;
    cable.cut();
    drop(client);
    witness.plays_during(eventually("the stream is gone", || server.probe.streams() == 1)).await;
    assert_eq!(server.probe.seats(), 2);

    let wishes = pb::Hello { view_radius: 50.0, player_name: "Eve".into(), ..with_token(&joined.resume_token) };
    let mut client = RawClient::greet(&server, wishes).await;
    let resumed = client.welcome().await;
    assert_eq!((resumed.player, resumed.epoch, resumed.last_consumed_input), (joined.player, joined.epoch, 1));
    assert_eq!((resumed.view_radius, &resumed.schema), (50.0, &joined.schema));
    assert!(resumed.resume_token.len() >= 16 && resumed.resume_token != joined.resume_token);
    assert!(resumed.attach_token.len() >= 16 && resumed.attach_token != joined.attach_token);
    let first = client.snapshot().await;
    assert!(first.reset, "a stream starts with a reset");
    assert_eq!(first.owner.map(|owner| owner.net_id), Some(entity));
    send_input(&mut client, 2).await;
    assert_eq!(server.probe.seats(), 2);

    // The name is the seat's.
    let mut third = RawClient::join(&server).await.0;
    let row = |snapshot: &pb::Snapshot| snapshot.roster.iter().find(|row| row.player == joined.player).cloned();
    let row = row(&third.play_until(|snapshot| row(snapshot).is_some()).await).expect("just seen");
    assert_eq!((row.name.as_str(), row.status()), ("Ada", pb::PlayerStatus::Connected));
    witness.plays_on().await;
    server.stop().await;
}

#[tokio::test]
async fn all_streams_that_still_have_the_seat_are_displaced_and_say_nothing_for_it_any_more() {
    let server = TestServer::arena(config()).await;
    let mut witness = Witness::join(&server).await;
    let (mut first, joined) = RawClient::join(&server).await;
    let attach = |welcome: &pb::Welcome| pb::Hello { attach_token: welcome.attach_token.clone(), ..hello() };
    let mut second = RawClient::greet(&server, attach(&joined)).await;
    second.welcome().await;
    first.play_until(|snapshot| snapshot.tick > joined.tick + 2).await;

    let (mut client, resumed) = resume(&server, &joined.resume_token).await;
    assert_eq!(resumed.player, joined.player);
    first.send(Kind::Leave(pb::Leave {})).await;
    second.send(Kind::Hello(hello())).await;
    assert_displaced(&mut first).await;
    drop((first, second));
    witness.plays_during(eventually("both are gone", || server.probe.streams() == 2)).await;
    send_input(&mut client, 1).await;
    assert_eq!(server.probe.seats(), 2);

    let status = refusal(&server, attach(&joined)).await;
    assert_refused(&status, Code::FailedPrecondition, "SEAT_ENDED", "hello.attach_token");
    let mut further = RawClient::greet(&server, attach(&resumed)).await;
    assert_eq!(further.welcome().await.player, joined.player);
    let (snapshot, other) = tokio::join!(further.snapshot(), client.play_until(|_| true));
    assert!(snapshot.reset && !other.reset);
    server.stop().await;
}

/// The client is back before the server knows that it was gone.
#[tokio::test]
async fn a_half_open_stream_keeps_nobody_from_their_seat() {
    let silence = Duration::from_secs(2);
    let timeouts = Timeouts { silence, unacknowledged: silence, ..config().timeouts };
    let server = TestServer::arena(ServerConfig { timeouts, ..config() }).await;
    let cable = Cable::to(&server).await;
    let mut client = RawClient::open_on(cable.channel().await).await;
    client.send(Kind::Hello(hello())).await;
    let joined = client.welcome().await;
    let entity = own_entity(&mut client).await;
    cable.pull();

    let (mut back, resumed) = resume(&server, &joined.resume_token).await;
    assert_eq!((resumed.player, server.probe.seats()), (joined.player, 1));
    assert_eq!(own_entity(&mut back).await, entity);
    let mut play = std::pin::pin!(back.play_until(|snapshot| snapshot.reset));
    tokio::select! {
        _ = &mut play => panic!("it was reset"),
        () = eventually("the old one has ended", || server.probe.streams() == 1) => {}
    }
    assert_eq!(server.probe.seats(), 1);
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn the_token_before_the_newest_is_good_until_the_first_input() {
    let server = TestServer::arena(config()).await;
    let (client, joined) = RawClient::join(&server).await;
    let first = joined.resume_token;
    drop(client);
    // Whoever has not heard of the newest comes by the one before, which supersedes what was not heard of.
    let (unheard, resumed) = resume(&server, &first).await;
    drop(unheard);
    let unheard = resumed.resume_token;
    let (mut client, resumed) = resume(&server, &first).await;
    assert_unknown(&server, &unheard).await;
    send_input(&mut client, 1).await;
    assert_unknown(&server, &first).await;
    assert_eq!(server.probe.seats(), 1);
    let (_client, again) = resume(&server, &resumed.resume_token).await;
    assert_eq!((again.player, again.last_consumed_input), (joined.player, 1));
    server.stop().await;
}

#[tokio::test]
async fn wrong_tokens_touch_nothing_and_displace_nobody() {
    let server = TestServer::arena(ServerConfig { sessions: 2, ..config() }).await;
    let mut witness = Witness::join(&server).await;
    let (mut client, joined) = RawClient::join(&server).await;
    let token = joined.resume_token.clone();
    let wrong = async {
        let mut other = token.clone();
        *other.last_mut().expect("it is long") ^= 1;
        // What lets a stream in as a stripe gives no seat back.
        for wrong in [other, vec![0; 32], joined.attach_token.clone()] {
            assert_unknown(&server, &wrong).await;
        }
        for wrong in [vec![0], token[1..].to_vec(), vec![7; 4000]] {
            let status = refusal(&server, with_token(&wrong)).await;
            assert_refused(&status, Code::InvalidArgument, "MALFORMED_TOKEN", "hello.resume_token");
        }
        let elsewhere = pb::Hello { session: "sessions/arena-2".into(), ..with_token(&token) };
        assert_refused(&refusal(&server, elsewhere).await, Code::PermissionDenied, "OTHER_SESSION", "hello.session");
        let game = pb::Hello { game: "chess".into(), ..with_token(&token) };
        assert_refused(&refusal(&server, game).await, Code::FailedPrecondition, "OTHER_GAME", "hello.game");
        let schema = pb::Hello { schema_hash: vec![7; 32], ..with_token(&token) };
        let status = refusal(&server, schema).await;
        assert_refused(&status, Code::FailedPrecondition, "OTHER_SCHEMA", "hello.schema_hash");
        let both = pb::Hello { attach_token: joined.attach_token.clone(), ..with_token(&token) };
        let status = refusal(&server, both).await;
        assert_refused(&status, Code::InvalidArgument, "NOT_OF_STRIPE", "hello.resume_token");
    };
    // The player plays on, on the stream that they have.
    let mut sequence = 0;
    tokio::select! {
        () = witness.plays_during(wrong) => {}
        () = async { loop {
            sequence += 1;
            send_input(&mut client, sequence).await;
        } } => {}
    }
    assert!(!client.play_until(|_| true).await.reset);
    assert_eq!(server.probe.seats(), 2);
    let here = pb::Hello { session: ARENA_1.into(), game: "arena".into(), ..with_token(&token) };
    assert_eq!(RawClient::greet(&server, here).await.welcome().await.player, joined.player);
    server.stop().await;
}

#[tokio::test]
async fn a_full_house_keeps_the_seats_of_the_lost_for_their_grace() {
    let grace = Duration::from_secs(2);
    let server = TestServer::arena(ServerConfig { max_players: NonZeroU32::MIN, ..with_grace(grace) }).await;
    let (client, joined) = RawClient::join(&server).await;
    drop(client);
    eventually("the stream is gone", || server.probe.streams() == 0).await;
    let status = refusal(&server, hello()).await;
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::ResourceExhausted, "FULL"));
    assert!(status.get_error_details().retry_info().is_some_and(|retry| retry.retry_delay.is_some()));
    let (client, resumed) = resume(&server, &joined.resume_token).await;
    assert_eq!(resumed.player, joined.player);
    drop(client);
    eventually("the grace is over", || server.probe.seats() == 0).await;
    let status = refusal(&server, with_token(&resumed.resume_token)).await;
    assert_refused(&status, Code::FailedPrecondition, "GRACE_OVER", "hello.resume_token");
    let (_newcomer, welcome) = RawClient::join(&server).await;
    assert_eq!(welcome.player, joined.player + 1);
    server.stop().await;
}

#[tokio::test]
async fn who_left_or_broke_a_rule_cannot_resume() {
    let server = TestServer::arena(config()).await;
    for (goes, reason) in [(Kind::Leave(pb::Leave {}), ""), (Kind::Hello(hello()), "HELLO_TWICE")] {
        let (mut client, joined) = RawClient::join(&server).await;
        client.play_until(|snapshot| snapshot.tick > joined.tick + 2).await;
        client.send(goes).await;
        assert_eq!(reason_of(&client.end().await.1), reason);
        eventually("the seat is free", || server.probe.seats() == 0).await;
        let status = refusal(&server, with_token(&joined.resume_token)).await;
        assert_refused(&status, Code::FailedPrecondition, "SEAT_ENDED", "hello.resume_token");
    }
    server.stop().await;
}

#[tokio::test]
async fn without_a_grace_there_is_nothing_to_resume() {
    let server = TestServer::arena(with_grace(Duration::ZERO)).await;
    let mut witness = Witness::join(&server).await;
    let (client, joined) = RawClient::join(&server).await;
    assert_eq!((joined.resume_token.len(), server.probe.seats()), (0, 2));
    drop(client);
    witness.plays_during(eventually("the seat is free", || server.probe.seats() == 1)).await;
    server.stop().await;
}
