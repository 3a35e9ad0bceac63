//! A client that stops reading: nothing stale piles up for it, and nobody else can tell.

use std::num::NonZeroUsize;

use tickwire_proto::v1::{PauseRequest, StepRequest};
use tickwire_server::ServerConfig;

use crate::{
    admin::administrator::Administered,
    harness::{ARENA_1, RawClient, config, patient},
    tls::self_signed,
};

/// The window of a client whose round trip is shorter than half a tick: the smallest of docs/wire.md.
const CREDIT: usize = 3;
/// For how many ticks it reads nothing: less than the 4 s of history.
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
    // One thread serves both: what it waited for, it would wait for before it served the other.
    let config = ServerConfig { timeouts: patient(), network_threads: NonZeroUsize::new(1), ..config };
    let administered = Administered::arena(config).await;
    let mut admin = administered.admin().await;
    let (mut stalled, _) = RawClient::join(&administered.server).await;
    let (mut other, _) = RawClient::join(&administered.server).await;
    let mut read = 0;
    let last_read = stalled
        .play_until(|_| {
            read += 1;
            read == 30
        })
        .await
        .tick;

    // From here `stalled` neither reads nor acknowledges. Ticks come one by one, each when the other has had the one before: so
    // that a busy machine costs it none, and the other reader can cost it some.
    let session = || ARENA_1.to_owned();
    let paused = admin.pause(PauseRequest { session: session() }).await.expect("it runs").into_inner();
    other.play_until(|snapshot| snapshot.tick == paused.tick).await;
    let newest = paused.tick + STALLED_TICKS;
    for tick in paused.tick + 1..=newest {
        let stepped =
            admin.step(StepRequest { session: session(), ticks: 1 }).await.expect("it is paused").into_inner();
        let snapshot = other.snapshot().await;
        other.ack(snapshot.tick).await;
        assert_eq!((stepped.tick, snapshot.tick, snapshot.reset), (tick, tick, false));
    }

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
    administered.server.stop().await;
}
