//! Hellos that no server takes.

use futures_util::{FutureExt as _, future::BoxFuture};
use tickwire_proto::v1::{self as pb, client_message::Kind};
use tonic::Code;

use super::{Act, Expected, Misbehaviour, OUT_OF_RANGE, Verdict, it, verdict};
use crate::harness::{RawClient, TestServer};

const UNKNOWN_TOKEN: Expected = Expected::Status(Code::Unauthenticated, "UNKNOWN_TOKEN");

pub(super) const HELLOS: &[Misbehaviour] = &[
    it(
        "speaks another version",
        Act::Hello(|it| it.protocol_version = 99),
        Expected::Status(Code::FailedPrecondition, "PROTOCOL_VERSION"),
    ),
    it("has half a schema hash", Act::Hello(|it| it.schema_hash = vec![1; 31]), OUT_OF_RANGE),
    it(
        "has another schema",
        Act::Hello(|it| it.schema_hash = vec![1; 32]),
        Expected::Status(Code::FailedPrecondition, "OTHER_SCHEMA"),
    ),
    it(
        "names no session",
        Act::Hello(|it| it.session = "../../etc/passwd".into()),
        Expected::Status(Code::InvalidArgument, "MALFORMED_NAME"),
    ),
    it(
        "wants a session that is not there",
        Act::Hello(|it| it.session = "sessions/arena-999".into()),
        Expected::Status(Code::NotFound, "NOT_FOUND"),
    ),
    it(
        "wants a game that is not there",
        Act::Hello(|it| it.game = "x".repeat(10_000)),
        Expected::Status(Code::NotFound, "NOT_FOUND"),
    ),
    it(
        "has escapes in its name",
        Act::Hello(|it| it.player_name = "\u{1b}[2J".into()),
        Expected::Status(Code::InvalidArgument, "NAME"),
    ),
    it(
        "has a long name",
        Act::Hello(|it| it.player_name = "x".repeat(10_000)),
        Expected::Status(Code::InvalidArgument, "NAME"),
    ),
    it("sees as far as nobody", Act::Hello(|it| it.view_radius = f64::NAN), OUT_OF_RANGE),
    it("sees backwards", Act::Hello(|it| it.view_radius = -1.0), OUT_OF_RANGE),
    it("resumes nobody's seat", Act::Hello(|it| it.resume_token = vec![1; 32]), UNKNOWN_TOKEN),
    it(
        "resumes with half a token",
        Act::Hello(|it| it.resume_token = vec![1; 16]),
        Expected::Status(Code::InvalidArgument, "MALFORMED_TOKEN"),
    ),
    it("attaches to nobody", Act::Hello(|it| it.attach_token = vec![1; 32]), UNKNOWN_TOKEN),
    it(
        "attaches with a name",
        Act::Hello(|it| (it.attach_token, it.player_name) = (vec![1; 32], "Eve".into())),
        Expected::Status(Code::InvalidArgument, "NOT_OF_STRIPE"),
    ),
    it("says no hello", Act::Else(says_nothing), Expected::Status(Code::DeadlineExceeded, "NO_HELLO")),
    it(
        "pings before it says hello",
        Act::Else(pings_first),
        Expected::Status(Code::FailedPrecondition, "HELLO_MISSING"),
    ),
];

fn says_nothing(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move { verdict(&RawClient::open(server).await.end().await.1) }.boxed()
}

fn pings_first(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        let mut client = RawClient::open(server).await;
        client.send(Kind::Ping(pb::Ping { echo: 1 })).await;
        verdict(&client.end().await.1)
    }
    .boxed()
}
