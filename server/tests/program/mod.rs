//! The server's program, run as a process: what its tests share.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output},
    sync::Arc,
};

use tempfile::TempDir;
use tickwire_arena::Arena;
use tickwire_proto::{
    PROTOCOL_VERSION,
    v1::{ClientMessage, Hello, ServerMessage, client_message, game_service_client::GameServiceClient},
};
use tickwire_recording::{Recording, Verified, verify};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_tickwire-server");

pub(crate) fn command() -> Command {
    unaware(Command::new(BINARY))
}

/// What the test's own environment says of servers and collectors is not for this one.
pub(crate) fn unaware(mut command: Command) -> Command {
    let is_told = |name: &str| name.starts_with("TICKWIRE_") || name.starts_with("OTEL_");
    for (name, _) in std::env::vars().filter(|(name, _)| is_told(name)) {
        command.env_remove(name);
    }
    command
}

/// Runs it to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    command().args(arguments).output().expect("the binary runs")
}

/// Runs it to its end, with a path as its last argument.
pub(crate) fn run_on(arguments: &[&str], path: &Path) -> Output {
    command().args(arguments).arg(path).output().expect("the binary runs")
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// Where a server listens, by the first line that it prints.
pub(crate) fn address_in(line: &str) -> &str {
    let address = line.split("://").nth(1).and_then(|rest| rest.split(' ').next());
    address.unwrap_or_else(|| panic!("{line:?} names no address"))
}

/// Asks it to end, and waits until it has.
pub(crate) fn end(child: &mut Child) {
    let status = Command::new("kill").arg(child.id().to_string()).status().expect("kill runs");
    assert!(status.success());
    assert_eq!(child.wait().expect("it is a child").code(), Some(0));
}

/// A data directory.
pub(crate) fn data() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// The files in a data directory's directory of recordings.
pub(crate) fn files(data: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(data.join("recordings")).expect("it is there");
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("it is there").path()).collect();
    files.sort();
    files
}

pub(crate) fn only_recording(data: &Path) -> PathBuf {
    let [file] = files(data).try_into().expect("only one");
    file
}

pub(crate) fn verified(file: &Path) -> Verified {
    verify(&Recording::open(file).expect("a recording"), Arc::new(Arena)).expect("the same match")
}

/// Who has a seat. It is kept for a while when this is dropped.
pub(crate) struct Seated {
    _up: mpsc::Sender<ClientMessage>,
    pub(crate) down: Streaming<ServerMessage>,
}

/// Takes a seat in a server's first session.
pub(crate) async fn take_a_seat(channel: &Channel) -> Seated {
    let (up, hellos) = mpsc::channel(4);
    let hello = Hello { protocol_version: PROTOCOL_VERSION, ..Hello::default() };
    let hello = ClientMessage { kind: Some(client_message::Kind::Hello(hello)) };
    up.send(hello).await.expect("the stream is open");
    let stream = GameServiceClient::new(channel.clone()).play(ReceiverStream::new(hellos)).await;
    let mut down = stream.expect("it takes streams").into_inner();
    down.message().await.expect("a seat is free").expect("a welcome");
    Seated { _up: up, down }
}
