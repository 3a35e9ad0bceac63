//! `replay --serve` as a process.

#![cfg(unix)]

#[allow(dead_code, reason = "each binary needs its part of it")]
mod program;

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Output, Stdio},
};

use tickwire_proto::{
    PROTOCOL_VERSION,
    v1::{Hello, WatchRequest, game_service_client::GameServiceClient, server_message::Kind},
};
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use self::program::{address_in, command};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/recordings/crowd-20hz.mcap")
}

fn refused(arguments: &[&str]) -> Output {
    command().args(["replay", "--serve"]).args(arguments).output().expect("the binary runs")
}

#[tokio::test]
async fn a_recording_is_shown_to_whoever_watches_from_the_tick_and_at_the_speed_that_were_asked_for() {
    let mut child = command()
        .args(["replay", "--serve", "--listen", "127.0.0.1:0", "--from", "50", "--speed", "8"])
        .arg(golden())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("it is piped")).read_line(&mut line).expect("it prints");
    let _running = Running(child);
    let channel = Channel::from_shared(format!("http://{}", address_in(&line))).expect("an address").connect().await;
    let hello = Hello { protocol_version: PROTOCOL_VERSION, ..Hello::default() };
    let request = WatchRequest { hello: Some(hello), ..WatchRequest::default() };
    let channel = channel.expect("it listens where it says");
    let mut stream = GameServiceClient::new(channel.clone()).watch(request).await.expect("it shows").into_inner();
    let mut came = Vec::new();
    while came.len() < 3 {
        came.push(stream.message().await.expect("it goes on").and_then(|message| message.kind).expect("not empty"));
    }
    let [Kind::Welcome(welcome), Kind::WatchState(state), Kind::Snapshot(snapshot)] = &came[..] else {
        panic!("{came:?}");
    };
    assert_eq!((welcome.session.as_str(), welcome.tick), ("sessions/golden", 50));
    assert_eq!((state.speed, state.last_tick), (8.0, 200));
    assert!(snapshot.tick >= 50 && snapshot.reset);
    // It has no sessions, and needs none.
    for service in ["", "tickwire.v1.GameService"] {
        let health = HealthClient::new(channel.clone()).check(HealthCheckRequest { service: service.into() }).await;
        assert_eq!(health.expect("it is known").into_inner().status(), ServingStatus::Serving, "{service:?}");
    }
}

#[test]
fn what_cannot_be_shown_is_said() {
    let golden = golden();
    let golden = golden.to_str().expect("a plain path");
    let cases: [(&[&str], &str); 7] = [
        (&[golden, golden], "one recording"),
        (&[golden, "--speed", "100"], "0.1 to 64"),
        (&[golden, "--listen", "0.0.0.0:0"], "--insecure"),
        (&[golden, "--verify"], "--verify"),
        (&["/nowhere/x.mcap", "--listen", "127.0.0.1:0"], "error: /nowhere/x.mcap: No such file"),
        (&[golden, "--from", "201", "--listen", "127.0.0.1:0"], "there is no tick 201: choose --from 1 to 200"),
        (&[golden, "--from", "0", "--listen", "127.0.0.1:0"], "there is no tick 0: choose --from 1 to 200"),
    ];
    for (arguments, said) in cases {
        let output = refused(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(said), "{arguments:?}: {stderr}");
    }
}
