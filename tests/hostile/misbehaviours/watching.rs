//! Spectators and readers of recordings who take more than they may, or nothing of what they asked for.

use futures_util::{FutureExt as _, future::BoxFuture};
use prost::Message as _;
use tickwire_proto::v1::{
    self as pb, client_message, game_service_client::GameServiceClient,
    recording_service_client::RecordingServiceClient, watch_control::Action,
};
use tonic::Code;

use super::{Act, Expected, Misbehaviour, NOT_READ, OUT_OF_RANGE, Verdict, framed, it, nobody_reads, verdict};
use crate::{
    harness::{TestServer, hello, within_patience},
    hostile::RECORDING,
    watch::spectator::{Spectator, watch_request},
};

/// As many as one call may have.
const SEEKS_OF_CALL: u64 = 64;
const CALLS: u64 = 20;
/// In [`RECORDING`].
const TICKS_RECORDED: u64 = 1800;

pub(super) const WATCHING: &[Misbehaviour] = &[
    it("seeks without end", Act::Else(|server| storms(server, false)), Expected::PassedOver),
    it("seeks without end in a recording", Act::Else(|server| storms(server, true)), Expected::PassedOver),
    it("watches and acknowledges nothing", Act::Else(ignores), Expected::Status(Code::DeadlineExceeded, "NOT_READING")),
    it(
        "watches and takes nothing",
        Act::Else(|server| takes_nothing(server, "GameService/Watch", watch_request().encode_to_vec())),
        NOT_READ,
    ),
    it(
        "replays and takes nothing",
        Act::Else(|server| takes_nothing(server, "RecordingService/Replay", replay().encode_to_vec())),
        NOT_READ,
    ),
    it(
        "downloads and takes nothing",
        Act::Else(|server| {
            let request = pb::DownloadRecordingRequest { name: RECORDING.into() };
            takes_nothing(server, "RecordingService/DownloadRecording", request.encode_to_vec())
        }),
        NOT_READ,
    ),
    it(
        "follows the list of sessions and takes nothing",
        Act::Else(|server| takes_nothing(server, "SessionService/WatchSessions", Vec::new())),
        NOT_READ,
    ),
    it(
        "downloads what is not there",
        Act::Else(downloads_what_is_not_there),
        Expected::Status(Code::InvalidArgument, "MALFORMED_NAME"),
    ),
    it("watches at no speed", Act::Else(watches_at_no_speed), OUT_OF_RANGE),
    it(
        "steers somebody else",
        Act::Else(steers_somebody_else),
        Expected::Status(Code::Unauthenticated, "UNKNOWN_TOKEN"),
    ),
];

fn replay() -> pb::ReplayRequest {
    pb::ReplayRequest { name: RECORDING.into(), hello: Some(hello()), speed: 64.0, ..pb::ReplayRequest::default() }
}

/// Wants to be everywhere at once, until it is sent away or has had enough.
fn storms(server: &TestServer, in_recording: bool) -> BoxFuture<'_, Verdict> {
    async move {
        let spectator = if in_recording {
            Spectator::replay(server, replay()).await
        } else {
            Spectator::watch(server, pb::WatchRequest { from_tick: 1, ..watch_request() }).await
        };
        let spectator = match spectator {
            Ok(spectator) => spectator,
            Err(status) => return verdict(&status),
        };
        // Of the past, all of them: the live edge is further on by the time it gets there.
        let ticks = if in_recording { TICKS_RECORDED } else { server.probe.ticks()[0].0 - 1 };
        let mut steering = GameServiceClient::new(server.channel().await);
        for call in 0..CALLS {
            let seek = |place: u64| {
                let tick = 1 + (call * SEEKS_OF_CALL + place) * 7919 % ticks;
                let action = Some(Action::SeekTick(tick));
                pb::ClientMessage { kind: Some(client_message::Kind::WatchControl(pb::WatchControl { action })) }
            };
            let request = pb::SendInputsRequest {
                stream_token: spectator.welcome.stream_token.clone(),
                messages: (0..SEEKS_OF_CALL).map(seek).collect(),
                jumps: 0,
            };
            if let Err(status) = within_patience(steering.send_inputs(request)).await {
                return verdict(&status);
            }
        }
        Verdict::PassedOver
    }
    .boxed()
}

fn ignores(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        let mut spectator = Spectator::watch(server, watch_request()).await.expect("there is room");
        spectator.acknowledges = false;
        verdict(&spectator.end().await.1)
    }
    .boxed()
}

fn takes_nothing<'a>(server: &'a TestServer, method: &'static str, request: Vec<u8>) -> BoxFuture<'a, Verdict> {
    async move { nobody_reads(server, &format!("/tickwire.v1.{method}"), framed(&request), true).await }.boxed()
}

fn downloads_what_is_not_there(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        let mut service = RecordingServiceClient::new(server.channel().await);
        let request = pb::DownloadRecordingRequest { name: "recordings/../../etc/passwd".into() };
        verdict(&within_patience(service.download_recording(request)).await.expect_err("it is not there"))
    }
    .boxed()
}

fn watches_at_no_speed(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        let request = pb::WatchRequest { from_tick: 1, speed: f64::NAN, ..watch_request() };
        verdict(&Spectator::watch(server, request).await.err().expect("there is no such speed"))
    }
    .boxed()
}

fn steers_somebody_else(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        let mut service = GameServiceClient::new(server.channel().await);
        let leave = pb::ClientMessage { kind: Some(client_message::Kind::Leave(pb::Leave {})) };
        let request = pb::SendInputsRequest { stream_token: vec![1; 32], messages: vec![leave], jumps: 0 };
        verdict(&within_patience(service.send_inputs(request)).await.expect_err("nobody has it"))
    }
    .boxed()
}
