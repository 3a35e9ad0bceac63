//! The client library: it takes its seat back by itself.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use tickwire_arena::Arena;
use tickwire_client::{Client, ClientError, ClientEvent, Event, GameClient, GaveUp, JoinOptions, Resume, Stripes};
use tickwire_proto::v1 as pb;
use tonic::Code;

use super::with_grace;
use crate::{
    harness::{Cable, TestServer, Witness, config, eventually, open_field, within_patience},
    stripes::{Exchange, play_until},
};

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
