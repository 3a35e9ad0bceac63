//! A client that stops reading: nothing stale piles up for it, and nobody else can tell.

use tickwire_server::ServerConfig;

use crate::{
    harness::{RawClient, TestServer, config},
    tls::self_signed,
};

/// The window of a client whose round trip is shorter than half a tick: the smallest of docs/wire.md.
const CREDIT: usize = 3;
/// How long it reads nothing, by the ticks that another client sees.
const STALLED_TICKS: u64 = 150;

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stalls_gets_at_most_its_credit_of_stale_snapshots_and_others_go_on() {
    stall(config()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stalls_behind_tls_does_no_worse() {
    let directory = tempfile::tempdir().expect("there is room");
    stall(ServerConfig { tls: Some(self_signed(directory.path())), ..config() }).await;
}

async fn stall(config: ServerConfig) {
    let server = TestServer::arena(config).await;
    let (mut stalled, _) = RawClient::join(&server).await;
    let (mut other, _) = RawClient::join(&server).await;
    let mut read = 0;
    let last_read = stalled
        .play_until(|_| {
            read += 1;
            read == 30
        })
        .await
        .tick;

    // From here `stalled` neither reads nor acknowledges.
    let mut seen = Vec::new();
    let newest = other.play_until(|snapshot| {
        seen.push(snapshot.tick);
        snapshot.tick >= last_read + STALLED_TICKS
    });
    let newest = newest.await.tick;
    // A busy machine may cost a tick here and there; a peer that held others up would cost them all 150.
    let missed = seen.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    assert!(missed * 50 <= seen.len(), "the other missed {missed} of {} ticks", seen.len());

    let mut stale = 0;
    let fresh = stalled.play_until(|snapshot| {
        let is_stale = snapshot.tick < newest;
        stale += usize::from(is_stale);
        !is_stale
    });
    let fresh = fresh.await;
    // One more: HTTP/2 takes a message before it has room to send it.
    assert!(stale <= CREDIT + 1, "{stale} stale snapshots");
    // The history is 4 s long.
    assert!(!fresh.reset || fresh.tick > last_read + 240, "within the history it goes on from what it has");
    server.stop().await;
}
