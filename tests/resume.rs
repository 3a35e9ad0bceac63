//! Seats that outlive their connections: how they are taken back, and by whom they are not.

use std::{
    collections::BTreeSet,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use tickwire_arena::Arena;
use tickwire_client::{Client, ClientError, ClientEvent, Event, GameClient, GaveUp, JoinOptions, Resume, Stripes};
use tickwire_proto::v1::{self as pb, client_message::Kind};
use tickwire_server::{ServerConfig, Timeouts};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    harness::{
        ARENA_1, Cable, RawClient, TestServer, Witness, config, eventually, field_of, hello, input, open_field,
        reason_of, within_patience,
    },
    stripes::{Exchange, play_until},
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

/// Inputs are consumed, and snapshots come, for a while.
async fn play_on(client: &mut Client) {
    let (tick, consumed) = (client.mirror().tick().0, client.stats().input_to_ack_us.len());
    let is_so =
        |client: &Client| client.stats().input_to_ack_us.len() > consumed + 20 && client.mirror().tick().0 > tick + 20;
    play_until(client, is_so).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_goes_on_after_each_loss_with_the_entity_and_the_mirror_that_it_had() {
    let server = TestServer::arena(config()).await;
    let mut witness = Witness::join(&server).await;
    let exchange = Exchange::to(&server).await;
    let mut client = Client::connect(&exchange.url, &JoinOptions::default()).await.expect("there is room");
    client.predict(&Arena).expect("it is of the arena");
    play_on(&mut client).await;
    let player = client.core().player();
    let entity = client.mirror().owner().expect("it has one").net_id;
    for lost in 1..=3 {
        let (token, hashes) = (client.core().resume_token().to_vec(), client.stats().hash_checks);
        exchange.cut(lost as usize - 1);
        play_until(&mut client, |client| client.core().is_lost()).await;
        play_until(&mut client, |client| client.stats().resumes == lost).await;
        assert_ne!(client.core().resume_token(), token);
        play_on(&mut client).await;
        assert!(client.stats().hash_checks > hashes, "each cell that enters has a hash");
        assert_eq!(client.mirror().owner().expect("it has one").net_id, entity);
        witness.plays_on().await;
    }
    let stats = client.stats();
    assert_eq!((stats.hash_mismatches, stats.resyncs, client.core().player()), (0, 0, player));
    assert_eq!(client.mirror().roster().len(), 2);
    client.leave().await.expect("the server says goodbye");
    drop(client);
    eventually("the seat is free", || server.probe.seats() == 1).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_game_loop_is_told_of_a_loss_and_walks_on() {
    let server = TestServer::arena(open_field()).await;
    let exchange = Exchange::to(&server).await;
    let url = exchange.url.clone();
    let (walked, mut has_walked) = tokio::sync::mpsc::unbounded_channel();
    let walk = move || {
        let game: Arc<dyn tickwire_shared::Game> = Arc::new(Arena);
        let mut client = GameClient::connect(&url, JoinOptions::default(), Some(game)).expect("a thread starts");
        let (mut told, mut from, mut entities) = (Vec::new(), None, BTreeSet::new());
        loop {
            let is_told = |event: &ClientEvent| {
                matches!(event, ClientEvent::Joined(_) | ClientEvent::ConnectionLost | ClientEvent::Reconnected { .. })
            };
            told.extend(client.update(Instant::now()).expect("the session goes on").into_iter().filter(is_told));
            if let Some(mut actions) = client.input() {
                // Another way than before.
                let way = if told.len() < 3 { 1.0 } else { -1.0 };
                client.send(actions.set("move_x", way)).expect("within the ranges");
            }
            let own = client.view().and_then(|scene| scene.own()).and_then(|own| Some((own.net_id(), own.get("x")?)));
            if let Some((entity, x)) = own {
                entities.insert(entity);
                let (stretch, start) = *from.get_or_insert((told.len(), x));
                if stretch != told.len() {
                    from = None;
                } else if (x - start).abs() > 1.0 {
                    // An error says that nobody waits any more.
                    let _ = walked.send(());
                    if told.len() == 3 {
                        client.leave().expect("the server says goodbye");
                        return (told, entities.len());
                    }
                }
            }
            // A screen's pace.
            std::thread::sleep(Duration::from_millis(8));
        }
    };
    let walking = tokio::task::spawn_blocking(walk);
    within_patience(has_walked.recv()).await.expect("it walks");
    exchange.cut(0);
    let (told, entities) = within_patience(walking).await.expect("it does not panic");
    assert!(matches!(
        told[..],
        [ClientEvent::Joined(_), ClientEvent::ConnectionLost, ClientEvent::Reconnected { epoch_changed: false }]
    ));
    assert_eq!((entities, server.probe.seats()), (1, 0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_several_streams_that_loses_all_has_all_again() {
    let server = TestServer::arena(config()).await;
    let exchange = Exchange::to(&server).await;
    let options = JoinOptions { stripes: Stripes::Fixed(3), ..JoinOptions::default() };
    let mut client = Client::connect(&exchange.url, &options).await.expect("there is room");
    play_until(&mut client, |client| client.core().stripes_open() == 3).await;
    play_on(&mut client).await;
    (0..3).for_each(|line| exchange.cut(line));
    play_until(&mut client, |client| client.stats().resumes == 1 && client.core().stripes_open() == 3).await;
    play_on(&mut client).await;
    let stats = client.stats();
    assert_eq!((stats.hash_mismatches, stats.resyncs), (0, 0));
    assert_eq!((server.probe.seats(), client.core().stripes_open()), (1, 3));
    client.leave().await.expect("the server says goodbye");
    server.stop().await;
}

/// Neither side is told of the loss.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_cable_is_pulled_finds_out_and_comes_back_before_the_server_knows() {
    let server = TestServer::arena(config()).await;
    let cable = Cable::to(&server).await;
    let mut client = Client::connect(&cable.url(), &JoinOptions::default()).await.expect("there is room");
    play_on(&mut client).await;
    cable.pull();
    let lost = async {
        loop {
            match client.next().await.expect("the client goes on") {
                Some(Event::ConnectionLost) => break,
                Some(_) => {}
                None => panic!("the match ended"),
            }
        }
    };
    within_patience(lost).await;
    assert_eq!(server.probe.seats(), 1);
    // The cable takes nobody any more, so that in the end nobody is there.
    let (url, token) = (format!("http://{}", server.address), client.core().resume_token().to_vec());
    let options = JoinOptions { resume_token: token, ..JoinOptions::default() };
    let mut back = Client::connect(&url, &options).await.expect("the seat is kept");
    assert_eq!(back.core().player(), client.core().player());
    play_on(&mut back).await;
    drop(client);
    play_on(&mut back).await;
    assert_eq!(server.probe.seats(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_seat_was_taken_back_by_another_does_not_fight_for_it() {
    let server = TestServer::arena(config()).await;
    let url = format!("http://{}", server.address);
    let mut first = Client::connect(&url, &JoinOptions::default()).await.expect("there is room");
    play_on(&mut first).await;
    let resume_token = first.core().resume_token().to_vec();
    let options = JoinOptions { resume_token, ..JoinOptions::default() };
    let mut second = Client::connect(&url, &options).await.expect("the seat is kept");
    let end = async {
        loop {
            match first.next().await {
                Ok(Some(Event::Goodbye { reason, .. })) => assert_eq!(reason, pb::GoodbyeReason::Displaced),
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ends by a status"),
                Err(error) => return error,
            }
        }
    };
    let ClientError::Status(status) = within_patience(end).await else { panic!("a status") };
    assert_eq!((status.code, status.reason.as_str()), (Code::Aborted, "DISPLACED"));
    drop(first);
    play_on(&mut second).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_too_late_is_told_and_gives_up() {
    let server = TestServer::arena(with_grace(Duration::from_millis(200))).await;
    let mut witness = Witness::join(&server).await;
    let exchange = Exchange::to(&server).await;
    let late = Duration::from_secs(600);
    // It never comes by itself: the test has it come.
    let resume = Resume { backoff_min: late, backoff_max: late, ..Resume::default() };
    let options = JoinOptions { resume, ..JoinOptions::default() };
    let mut client = Client::connect(&exchange.url, &options).await.expect("there is room");
    play_on(&mut client).await;
    exchange.cut(0);
    play_until(&mut client, |client| client.core().is_lost()).await;
    witness.plays_during(eventually("the seat is free", || server.probe.seats() == 1)).await;
    let options = JoinOptions { resume_token: client.core().resume_token().to_vec(), ..JoinOptions::default() };
    let error = Client::connect(&exchange.url, &options).await.expect_err("the grace is over");
    let ClientError::Status(status) = error else { panic!("{error:?}") };
    assert_eq!((status.code, status.reason.as_str()), (Code::FailedPrecondition, "GRACE_OVER"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_server_is_gone_gives_up_in_time() {
    let server = TestServer::arena(config()).await;
    let exchange = Exchange::to(&server).await;
    let resume = Resume {
        give_up_after: Duration::from_millis(300),
        backoff_min: Duration::from_millis(20),
        backoff_max: Duration::from_millis(50),
    };
    let options = JoinOptions { resume, ..JoinOptions::default() };
    let mut client = Client::connect(&exchange.url, &options).await.expect("there is room");
    play_on(&mut client).await;
    exchange.close(0);
    let mut told = Vec::new();
    let end = async {
        loop {
            match client.next().await {
                Ok(Some(event @ (Event::ConnectionLost | Event::GaveUp(_)))) => told.push(event),
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ends by an error"),
                Err(error) => return error,
            }
        }
    };
    assert_eq!(within_patience(end).await.code(), Code::Unavailable);
    assert_eq!(told, [Event::ConnectionLost, Event::GaveUp(GaveUp::TooLong)]);
    server.stop().await;
}
