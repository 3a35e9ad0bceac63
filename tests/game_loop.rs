//! A game loop beside a server: no `async`, its own thread.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tickwire_arena::Arena;
use tickwire_client::{ClientEvent, GameClient, GameClientError, JoinOptions};
use tokio::task::spawn_blocking;

use crate::{
    harness::{TestServer, config, open_field, within_patience},
    tiny_game::Beads,
};

const FRAME: Duration = Duration::from_millis(8);

/// A loop that walks east until it has been shown a metre on its way, and has been compared with the server; how often it
/// was mispredicted.
fn walk(url: &str) -> u64 {
    let mut client = GameClient::connect(url, JoinOptions::default(), Some(Arc::new(Arena))).expect("a thread starts");
    let (mut joined, mut start) = (0, None);
    loop {
        let now = Instant::now();
        for event in client.update(now).expect("the session goes on") {
            joined += u32::from(matches!(event, ClientEvent::Joined(_)));
        }
        if let Some(mut actions) = client.input() {
            client.send(actions.set("move_x", 1.0)).expect("within the ranges");
        }
        let own = client.view().and_then(|scene| scene.own()).and_then(|own| own.get("x"));
        let way = own.map(|x| x - *start.get_or_insert(x));
        let stats = client.stats();
        if let (Some(way), Some(stats)) = (way, stats)
            && way.abs() > 1.0
            && stats.ticks_compared > 30
        {
            assert_eq!(joined, 1);
            client.leave().expect("the server says goodbye");
            return stats.mispredictions;
        }
        // A screen's pace.
        thread::sleep(FRAME);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_game_loop_plays_without_waiting_for_anything() {
    let server = TestServer::arena(open_field()).await;
    let url = format!("http://{}", server.address);
    let mispredictions = within_patience(spawn_blocking(move || walk(&url))).await.expect("it does not panic");
    // A machine that is busy may have inputs come late; nothing else is there to differ by.
    assert!(mispredictions < 30, "{mispredictions}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_another_game_is_refused_and_the_end_is_told_once() {
    let server = TestServer::start(config(), vec![Arc::new(Beads)]).await;
    let url = format!("http://{}", server.address);
    let end = spawn_blocking(move || {
        let mut client =
            GameClient::connect(&url, JoinOptions::default(), Some(Arc::new(Arena))).expect("a thread starts");
        let end = loop {
            match client.update(Instant::now()) {
                Ok(_) => thread::sleep(FRAME),
                Err(error) => break error,
            }
        };
        assert!(client.view().is_none() && client.stats().is_none());
        assert!(matches!(client.update(Instant::now()), Err(GameClientError::Over)));
        end
    });
    let end = within_patience(end).await.expect("it does not panic");
    assert!(matches!(end, GameClientError::Client(_)), "{end}");
    server.stop().await;
}
