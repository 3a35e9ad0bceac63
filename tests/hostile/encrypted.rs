//! Handshakes that stall and tickets that are forged, beside bots with good ones.

use std::{fs, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tickwire_client::{
    bots::{SwarmConfig, Tickets},
    connection::Trust,
};
use tickwire_server::Timeouts;
use tickwire_ticket::{Algorithm, Claims, KeyRing, Role, Secret, new_key};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::Code;

use super::{BOTS_FEW, play_as};
use crate::{
    harness::{ARENA_1, RawClient, TestServer, eventually, hello, patient, reason_of, within_patience},
    identity::{Gate, now, with_ticket},
    tls::self_signed,
};

/// Of each way to stall.
const STALLS: usize = 12;
/// Of each ticket.
const FORGERIES: usize = 8;
/// The start of a record of a handshake that is longer.
const CLIENT_HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_stall_and_forged_tickets_cost_no_player_anything() {
    let directory = tempfile::tempdir().expect("a directory");
    let tls = self_signed(directory.path());
    let trust = Trust::Certificates(fs::read(&tls.certificates).expect("it was written"));
    let timeouts = Timeouts { hello: Duration::from_secs(3), ..patient() };
    let Gate { server, keys, directory: _keys } =
        Gate::with(|config| (config.tls, config.timeouts) = (Some(tls), timeouts)).await;
    let keys = Arc::new(keys);
    let tickets = Tickets::Minted { keys: Arc::clone(&keys), audience: "tickwire".into() };
    let swarm = SwarmConfig { trust, tickets, ..SwarmConfig::new(server.url(), BOTS_FEW, Duration::from_secs(120)) };
    let (handle, bots) = play_as(swarm);
    eventually("the bots play", || handle.playing() == BOTS_FEW as u64).await;

    let stalls = (0..STALLS).flat_map(|_| [Vec::new(), CLIENT_HELLO[..3].to_vec(), CLIENT_HELLO.to_vec()]);
    let stalls = stalls.map(async |bytes| stall(&server, &bytes).await);
    let forgeries = (0..FORGERIES).flat_map(|_| forged()).map(async |(ticket, expected)| {
        let status = RawClient::greet(&server, with_ticket(&ticket)).await.end().await.1;
        assert_eq!((status.code(), reason_of(&status).as_str()), (Code::Unauthenticated, expected));
    });
    tokio::join!(join_all(stalls), join_all(forgeries));
    server.counts("NO_HANDSHAKE", 3 * STALLS as u64).await;
    let status = RawClient::greet(&server, hello()).await.end().await.1;
    assert_eq!(reason_of(&status), "TICKET_MISSING");

    let probe = &server.probe;
    let left = || (probe.connections(), probe.streams(), probe.seats());
    eventually("nothing of them is left", || left() == (BOTS_FEW, BOTS_FEW, BOTS_FEW as u32)).await;
    let snapshots = handle.snapshots();
    eventually("the bots play on", || handle.snapshots() > snapshots + 60 * BOTS_FEW as u64).await;
    handle.stop();
    let report = bots.await.expect("bots do not panic");
    assert!(report.is_clean() && report.resumes == 0 && report.hash_checks > 0, "{report:?}");
    server.stop().await;
}

/// Says that, and waits for what comes of it.
async fn stall(server: &TestServer, bytes: &[u8]) {
    let mut socket = TcpStream::connect(server.address).await.expect("it listens");
    socket.write_all(bytes).await.expect("it is open");
    let mut answer = Vec::new();
    // Closed or reset: either says that the server has let go.
    let _ = within_patience(socket.read_to_end(&mut answer)).await;
}

/// Tickets that no key of the server's has signed, and what is wrong with each.
fn forged() -> [(Secret, &'static str); 4] {
    let signed = |key: &str, algorithm| {
        let keys = KeyRing::from_jwks(&new_key(key, algorithm).expect("randomness")).expect("valid");
        let claims = Claims::new("tickwire", "player-81", Role::Player, now()).expect("randomness");
        keys.sign(&Claims { session: Some(ARENA_1.to_owned()), ..claims }).expect("it is issued")
    };
    [
        (signed("first", Algorithm::EdDsa), "TICKET_SIGNATURE"),
        (signed("second", Algorithm::Hs256), "TICKET_KEY"),
        (Secret::from("let me in".to_owned()), "TICKET_MALFORMED"),
        (Secret::from("a.b.c".repeat(100)), "TICKET_MALFORMED"),
    ]
}
