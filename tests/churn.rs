//! Clients that come and vanish leave nothing behind.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use tickwire_proto::v1::client_message::Kind;
use tickwire_server::{ServerConfig, Timeouts};
use tokio::task::JoinSet;

use crate::harness::{RawClient, TestServer, Witness, config, eventually, hello};

const JOINS: usize = 1000;
const AT_ONCE: usize = 50;

#[tokio::test]
async fn after_a_thousand_abrupt_ends_tasks_sockets_and_seats_are_as_before() {
    let config = ServerConfig {
        max_players: NonZeroU32::new(2048).expect("not 0"),
        timeouts: Timeouts { grace: Duration::from_millis(50), ..config().timeouts },
        ..config()
    };
    let server = Arc::new(TestServer::arena(config).await);
    let mut witness = Witness::join(&server).await;
    let counts = |server: &TestServer| {
        let probe = &server.probe;
        (probe.tasks(), probe.connections(), probe.streams(), probe.seats())
    };
    let before = counts(&server);

    let all_vanish = async {
        let mut vanishing = JoinSet::new();
        for i in 0..JOINS {
            if vanishing.len() == AT_ONCE {
                vanishing.join_next().await.expect("there are some").expect("no client panics");
            }
            let server = Arc::clone(&server);
            vanishing.spawn(async move { vanish(&server, i % 4).await });
        }
        while let Some(vanished) = vanishing.join_next().await {
            vanished.expect("no client panics");
        }
        eventually(&format!("tasks, connections, streams and seats are {before:?}"), || counts(&server) == before)
            .await;
    };
    witness.plays_during(all_vanish).await;

    let (_, welcome) = RawClient::join(&server).await;
    assert!(welcome.player as usize > JOINS / 2, "half of them had a seat");
    let server = Arc::into_inner(server).expect("all clients are gone");
    server.stop().await;
}

/// Drops stream and connection at one of four moments.
async fn vanish(server: &TestServer, moment: usize) {
    let mut client = RawClient::open(server).await;
    if moment == 0 {
        return;
    }
    client.send(Kind::Hello(hello())).await;
    if moment == 1 {
        return;
    }
    client.welcome().await;
    if moment == 2 {
        return;
    }
    let snapshot = client.snapshot().await;
    client.ack(snapshot.tick).await;
}
