//! Encrypted connections: who may trust whom, and certificates that are replaced.

use std::{fs, path::Path, time::Duration};

use tickwire_client::{
    Client, ClientError, Event, JoinOptions, Spectator, Stripes, WatchOptions,
    connection::{ConnectOptions, Trust},
};
use tickwire_server::{Limits, ServerConfig, Timeouts, TlsFiles};
use tokio::{io::AsyncReadExt as _, net::TcpStream};

use crate::harness::{RawClient, TestServer, Witness, config, within_patience};

/// How many snapshots say that a stream plays.
const SNAPSHOTS: u64 = 120;

/// A certificate of this machine's that has signed itself, with its key.
pub(crate) fn self_signed(directory: &Path) -> TlsFiles {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let own = rcgen::generate_simple_self_signed(names).expect("the names are good");
    let (certificates, key) = (directory.join("server.pem"), directory.join("server.key"));
    fs::write(&certificates, own.cert.pem()).expect("there is room");
    fs::write(&key, own.signing_key.serialize_pem()).expect("there is room");
    TlsFiles { certificates, key, client_authorities: None }
}

fn trusting(files: &TlsFiles) -> ConnectOptions {
    let trust = Trust::Certificates(fs::read(&files.certificates).expect("it was written"));
    ConnectOptions { trust, ..ConnectOptions::default() }
}

async fn play(client: &mut Client) {
    while client.stats().snapshots < SNAPSHOTS {
        let event = within_patience(client.next()).await.expect("the stream goes on").expect("it goes on");
        if let Event::InputDue(_) = event {
            let neutral = client.mirror().schema().neutral_input();
            client.set_input(&neutral).expect("neutral values are valid");
        }
    }
    let stats = client.stats();
    assert!(stats.hash_checks > 0);
    assert_eq!((stats.hash_mismatches, stats.resyncs), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn players_with_stripes_and_spectators_play_and_watch_over_tls() {
    let directory = tempfile::tempdir().expect("there is room");
    let files = self_signed(directory.path());
    let connect = trusting(&files);
    let server = TestServer::arena(ServerConfig { tls: Some(files), ..config() }).await;
    let url = server.url();
    assert!(url.starts_with("https://"));

    let join = JoinOptions { stripes: Stripes::Fixed(3), ..JoinOptions::default() };
    let mut client = Client::connect_with(&url, &join, &connect).await.expect("its certificate is trusted");
    play(&mut client).await;
    assert_eq!(client.stats().stripes_opened, 2);
    client.leave().await.expect("the server says goodbye");

    let watch = WatchOptions { connect, ..WatchOptions::default() };
    let mut spectator = Spectator::connect(&url, &watch).await.expect("its certificate is trusted");
    let mut witness = Witness::join(&server).await;
    witness.plays_on().await;
    while spectator.stats().snapshots < SNAPSHOTS {
        within_patience(spectator.next()).await.expect("the stream goes on").expect("it goes on");
    }
    assert_eq!(spectator.stats().desyncs, 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_trust_the_server_or_speaks_otherwise_is_told() {
    let directory = tempfile::tempdir().expect("there is room");
    let files = self_signed(directory.path());
    let other = tempfile::tempdir().expect("there is room");
    let other = trusting(&self_signed(other.path()));
    let server = TestServer::arena(ServerConfig { tls: Some(files.clone()), ..config() }).await;
    let join = JoinOptions::default();

    let error = Client::connect_with(&server.url(), &join, &other).await.expect_err("another certificate is trusted");
    assert!(matches!(&error, ClientError::Tls { reason, .. } if reason.contains("certificate")), "{error}");
    let other_name = server.url().replace("127.0.0.1", "127.0.0.2");
    let error = Client::connect_with(&other_name, &join, &trusting(&files)).await.expect_err("nobody is there");
    assert!(matches!(error, ClientError::Connect { .. } | ClientError::Tls { .. }), "{error}");
    let plain = server.url().replace("https", "http");
    let error = Client::connect(&plain, &join).await.expect_err("it does not encrypt");
    assert!(matches!(&error, ClientError::Lost { reason } if reason.contains("begin it with https://")), "{error}");

    let unencrypted = TestServer::arena(config()).await;
    let encrypted = unencrypted.url().replace("http", "https");
    let error = Client::connect_with(&encrypted, &join, &trusting(&files)).await.expect_err("it does not encrypt");
    assert!(matches!(error, ClientError::Tls { .. } | ClientError::Connect { .. }), "{error}");

    // It was no more than them.
    let mut witness = Witness::join(&server).await;
    witness.plays_on().await;
    assert_eq!(server.probe.streams(), 1);
    unencrypted.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_agree_on_encryption_in_time_is_cut_off() {
    let directory = tempfile::tempdir().expect("there is room");
    let timeouts = Timeouts { hello: Duration::from_millis(100), ..config().timeouts };
    let tls = Some(self_signed(directory.path()));
    let server = TestServer::arena(ServerConfig { tls, timeouts, ..config() }).await;
    let mut silent = TcpStream::connect(server.address).await.expect("it listens");
    let mut bytes = Vec::new();
    within_patience(silent.read_to_end(&mut bytes)).await.expect("it is closed");
    assert!(bytes.is_empty());
    server.counts("NO_HANDSHAKE", 1).await;

    // Nobody waits for one who takes long when the server ends.
    let timeouts = Timeouts { hello: Duration::from_secs(3600), ..config().timeouts };
    let tls = Some(self_signed(directory.path()));
    let server = TestServer::arena(ServerConfig { tls, timeouts, ..config() }).await;
    let _silent = TcpStream::connect(server.address).await.expect("it listens");
    let (_client, _) = RawClient::join(&server).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_beyond_the_limit_is_closed_without_a_word() {
    let directory = tempfile::tempdir().expect("there is room");
    let tls = Some(self_signed(directory.path()));
    let limits = Limits { connections_max: 1, ..Limits::default() };
    let server = TestServer::arena(ServerConfig { tls, limits, ..config() }).await;
    let (_client, _) = RawClient::join(&server).await;
    let mut more = TcpStream::connect(server.address).await.expect("it listens");
    let mut bytes = Vec::new();
    within_patience(more.read_to_end(&mut bytes)).await.expect("it is closed");
    assert!(bytes.is_empty(), "nobody has agreed on how to read {bytes:?}");
    assert_eq!(server.probe.refusals().get("CONNECTIONS"), Some(&1));
    server.stop().await;
}
