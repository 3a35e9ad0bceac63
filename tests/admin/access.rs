//! Who is let in, and what is left for them to find.

use std::fs;

use tickwire_proto::v1::{GetServerInfoRequest, RecordingState, ServerPhase};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::Code;

use super::administrator::Administered;
use crate::harness::{RawClient, config, reason_of, within_patience};

#[tokio::test]
async fn who_has_the_token_of_the_data_directory_is_told_how_the_server_does() {
    let administered = Administered::arena(config()).await;
    let (_client, _) = RawClient::join(&administered.server).await;
    let address = fs::read_to_string(administered.data.path().join("admin.address")).expect("it is there");
    assert_eq!(address.trim(), administered.address.to_string());

    let info = administered.admin().await.get_server_info(GetServerInfoRequest {}).await.expect("it is the token");
    let info = info.into_inner();
    assert_eq!((info.sessions, info.sessions_running, info.players, info.streams), (1, 1, 1, 1));
    assert_eq!((info.phase(), info.recording()), (ServerPhase::Serving, RecordingState::Running));
    assert_eq!((info.version.as_str(), info.failed_attempts), (env!("CARGO_PKG_VERSION"), 0));

    let directory = administered.data.path().to_owned();
    administered.server.stop().await;
    for file in ["admin.address", "admin.token"] {
        assert!(!directory.join(file).exists(), "{file} is left");
    }
}

#[tokio::test]
async fn who_has_no_token_or_a_wrong_one_is_told_nothing_and_counted() {
    let administered = Administered::arena(config()).await;
    for token in [None, Some("0".repeat(64))] {
        let mut client = administered.admin_with(token).await;
        let status = client.get_server_info(GetServerInfoRequest {}).await.expect_err("it is no token");
        assert_eq!((status.code(), reason_of(&status).as_str()), (Code::Unauthenticated, "UNKNOWN_ADMIN_TOKEN"));
    }
    let info = administered.admin().await.get_server_info(GetServerInfoRequest {}).await.expect("it is the token");
    assert_eq!(info.into_inner().failed_attempts, 2);
    administered.server.stop().await;
}

#[tokio::test]
async fn plain_http_says_that_the_server_runs() {
    let administered = Administered::arena(config()).await;
    let mut socket = TcpStream::connect(administered.address).await.expect("it listens");
    socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.expect("it reads");
    let mut answer = String::new();
    within_patience(socket.read_to_string(&mut answer)).await.expect("it answers, and closes");
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ok\n"), "{answer}");
    administered.server.stop().await;
}
