//! Who is let in, and what is left for them to find.

use std::fs;

use http::uri::PathAndQuery;
use tickwire_proto::v1::{
    GetServerInfoRequest, GetServerInfoResponse, RecordingState, ServerPhase, admin_service_client::AdminServiceClient,
};
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

use super::administrator::{Administered, Bearer, get};
use crate::harness::{RawClient, config, reason_of};

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
    // Also where there is nothing in the call to read, or no such method.
    let call = async |path: &'static str| {
        let mut grpc = tonic::client::Grpc::new(administered.endpoint().connect().await.expect("the server accepts"));
        grpc.ready().await.expect("it is connected");
        let nothing = Request::new(tokio_stream::empty::<GetServerInfoRequest>());
        let codec = ProstCodec::<GetServerInfoRequest, GetServerInfoResponse>::default();
        grpc.client_streaming(nothing, PathAndQuery::from_static(path), codec).await.map(drop)
    };
    for path in ["/tickwire.v1.AdminService/GetServerInfo", "/tickwire.v1.AdminService/Unheard"] {
        let status = call(path).await.expect_err("there is no token");
        assert_eq!((status.code(), reason_of(&status).as_str()), (Code::Unauthenticated, "UNKNOWN_ADMIN_TOKEN"));
    }
    let info = administered.admin().await.get_server_info(GetServerInfoRequest {}).await.expect("it is the token");
    assert_eq!(info.into_inner().failed_attempts, 4);
    administered.server.stop().await;
}

#[tokio::test]
async fn plain_http_says_that_the_server_runs_and_no_page_of_somebody_elses_reads_its_metrics() {
    let administered = Administered::arena(config()).await;
    let address = administered.address;
    let answer = get(address, "/healthz", "Host: localhost\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ok\n"), "{answer}");
    for own in ["127.0.0.1", "localhost:9464", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        let answer = get(address, "/metrics", &format!("Host: {own}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("tickwire_serving 1"), "{answer}");
    }
    for (path, headers) in [
        ("/metrics", "Host: evil.example\r\n"),
        ("/metrics", "Host: localhost\r\nHost: evil.example\r\n"),
        ("/metrics", "Host: localhost\r\nOrigin: https://evil.example\r\n"),
        ("http://evil.example/metrics", "Host: localhost\r\n"),
        ("/readyz", "Host: evil.example\r\n"),
    ] {
        let answer = get(address, path, headers).await;
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden"), "{path} {headers:?}: {answer}");
        assert!(!answer.contains("tickwire_serving"), "{answer}");
    }
    let refusals = administered.server.probe.identity_refusals();
    let count = |label| refusals.iter().find(|(reason, _)| *reason == label).map(|(_, count)| *count);
    assert_eq!((count("HOST_NOT_ALLOWED"), count("ORIGIN_NOT_ALLOWED")), (Some(4), Some(1)));

    // Calls, too, in their own words.
    let endpoint = administered.endpoint().origin("http://evil.example".parse().expect("a URI"));
    let channel = endpoint.connect().await.expect("the server accepts");
    let mut admin = AdminServiceClient::with_interceptor(channel, Bearer(Some(administered.token())));
    let status = admin.get_server_info(GetServerInfoRequest {}).await.expect_err("it is for another host");
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::PermissionDenied, "HOST_NOT_ALLOWED"));
    administered.server.stop().await;
}
