//! Messages of a player that break a rule, or come without end.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use tickwire_proto::v1::{self as pb, client_message::Kind};
use tonic::Code;

use super::{Act, Expected, Misbehaviour, OUT_OF_RANGE, Verdict, inputs, it, verdict};
use crate::harness::{RawClient, TestServer, hello, input, within_patience};

const MALFORMED: Expected = Expected::Status(Code::InvalidArgument, "MALFORMED");
const INVALID_INPUT: Expected = Expected::Status(Code::InvalidArgument, "INVALID_INPUT");
const NOT_RISING: Expected = Expected::Status(Code::InvalidArgument, "NOT_RISING");
const ACK_BEYOND_SENT: Expected = Expected::Status(Code::InvalidArgument, "ACK_BEYOND_SENT");
const UNKNOWN_MESSAGE: Expected = Expected::Status(Code::InvalidArgument, "UNKNOWN_MESSAGE");
const FLOODING: Expected = Expected::Status(Code::ResourceExhausted, "FLOODING");

pub(super) const MESSAGES: &[Misbehaviour] = &[
    it(
        "says hello twice",
        Act::Says(|| vec![Kind::Hello(hello())]),
        Expected::Status(Code::FailedPrecondition, "HELLO_TWICE"),
    ),
    it("sends no inputs", Act::Says(|| inputs(Vec::new())), OUT_OF_RANGE),
    it(
        "sends a thousand inputs at once",
        Act::Says(|| inputs((1..=1000).map(|i| input(i, i)).collect())),
        OUT_OF_RANGE,
    ),
    it(
        "pushes too hard",
        Act::Says(|| inputs(vec![pb::Input { values: vec![i32::MAX], ..input(1, 1 << 20) }])),
        INVALID_INPUT,
    ),
    it(
        "has too many buttons",
        Act::Says(|| inputs(vec![pb::Input { values: vec![0; 99], ..input(1, 1 << 20) }])),
        INVALID_INPUT,
    ),
    it("counts from zero", Act::Says(|| inputs(vec![input(0, 5)])), INVALID_INPUT),
    it("aims at the end of time", Act::Says(|| inputs(vec![input(1, u64::MAX)])), INVALID_INPUT),
    it("aims at no tick", Act::Says(|| inputs(vec![input(1, 0)])), INVALID_INPUT),
    it("counts backwards", Act::Says(|| inputs(vec![input(2, 5), input(1, 6)])), NOT_RISING),
    it("aims backwards", Act::Says(|| inputs(vec![input(1, 6), input(2, 5)])), NOT_RISING),
    it(
        "has seen the future",
        Act::Says(|| inputs(vec![pb::Input { seen_tick: u64::MAX, ..input(1, 5) }])),
        INVALID_INPUT,
    ),
    it(
        "has seen too much of a tick",
        Act::Says(|| inputs(vec![pb::Input { seen_tick: 1, seen_fraction: 256, ..input(1, 5) }])),
        INVALID_INPUT,
    ),
    it(
        "acknowledges the future",
        Act::Says(|| vec![Kind::Ack(pb::Ack { epoch: 0, newest_tick: 1 << 40 })]),
        ACK_BEYOND_SENT,
    ),
    it(
        "acknowledges the future by its inputs",
        Act::Says(|| vec![Kind::Inputs(pb::Inputs { epoch: 0, newest_tick: 1 << 40, inputs: vec![input(1, 5)] })]),
        ACK_BEYOND_SENT,
    ),
    it("wants a reset for no reason", Act::Says(|| vec![Kind::Resync(pb::Resync { reason: 99 })]), OUT_OF_RANGE),
    it(
        "steers as a spectator",
        Act::Says(|| vec![Kind::WatchControl(pb::WatchControl { action: None })]),
        Expected::Status(Code::FailedPrecondition, "NOT_WATCHING"),
    ),
    it(
        "sends a message that is too long",
        Act::Says(|| vec![Kind::Hello(pb::Hello { player_name: "x".repeat(20_000), ..hello() })]),
        Expected::Status(Code::ResourceExhausted, "MESSAGE_TOO_LONG"),
    ),
    it("pings without end", Act::Says(|| (0..4000).map(|echo| Kind::Ping(pb::Ping { echo })).collect()), FLOODING),
    it("wants resets without end", Act::Says(|| vec![Kind::Resync(pb::Resync { reason: 1 }); 4000]), FLOODING),
    it(
        "sends bytes without end",
        Act::Says(|| {
            (0..400)
                .flat_map(|at| inputs((1 + 32 * at..33 + 32 * at).map(|i| input(i, (1 << 40) + i)).collect()))
                .collect()
        }),
        FLOODING,
    ),
    it("is silent", Act::Says(Vec::new), Expected::Status(Code::DeadlineExceeded, "SILENT")),
    it(
        "acknowledges nothing",
        Act::Else(acknowledges_nothing),
        Expected::Status(Code::DeadlineExceeded, "NOT_READING"),
    ),
    it("sends garbage", Act::Bytes(|| vec![Bytes::from_static(&[0xff; 40])]), MALFORMED),
    it("sends nothing as a message", Act::Bytes(|| vec![Bytes::new()]), UNKNOWN_MESSAGE),
    it("sends a message of no kind", Act::Bytes(|| vec![Bytes::from_static(&[0xfa, 1, 0])]), UNKNOWN_MESSAGE),
    it("sends half a field", Act::Bytes(|| vec![Bytes::from_static(&[0x12, 9, 1])]), MALFORMED),
];

fn acknowledges_nothing(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        let (client, _) = RawClient::join(server).await;
        let RawClient { up, mut down } = client;
        let pings = async {
            while up.send(pb::ClientMessage { kind: Some(Kind::Ping(pb::Ping { echo: 1 })) }).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            std::future::pending::<()>().await;
        };
        let reads = async {
            loop {
                if let Err(status) = within_patience(down.message()).await {
                    return verdict(&status);
                }
            }
        };
        tokio::select! {
            verdict = reads => verdict,
            () = pings => unreachable!("it is pending"),
        }
    }
    .boxed()
}
