//! What is only passed over, or costs nobody but the client.

use futures_util::{FutureExt as _, future::BoxFuture};
use tickwire_proto::v1::{self as pb, client_message::Kind};
use tonic::Code;

use super::{Act, Expected, Misbehaviour, Verdict, inputs, it};
use crate::harness::{Cable, RawClient, TestServer, hello, input, within_patience};

pub(super) const PASSED_OVER: &[Misbehaviour] = &[
    it(
        "is of another epoch",
        Act::Else(|server| passed_over(server, vec![Kind::Ack(pb::Ack { epoch: 9, newest_tick: 1 << 40 })])),
        Expected::PassedOver,
    ),
    it(
        "aims a day ahead",
        Act::Else(|server| passed_over(server, inputs(vec![input(1, 1 << 40)]))),
        Expected::PassedOver,
    ),
    it("aims at the past", Act::Else(|server| passed_over(server, inputs(vec![input(1, 1)]))), Expected::PassedOver),
    it("comes and vanishes", Act::Else(vanishes), Expected::PassedOver),
    it("is half open", Act::Else(half_open), Expected::PassedOver),
    it("never gives room for anything", Act::Else(gives_no_room), Expected::PassedOver),
];

/// Joins, says that, and goes on as if nothing were wrong, for half a second of the session's.
fn passed_over(server: &TestServer, kinds: Vec<Kind>) -> BoxFuture<'_, Verdict> {
    async move {
        let (mut client, welcome) = RawClient::join(server).await;
        for kind in kinds {
            client.send(kind).await;
        }
        client.play_until(|snapshot| snapshot.tick >= welcome.tick + 30).await;
        client.send(Kind::Leave(pb::Leave {})).await;
        match client.end().await.1.code() {
            Code::Ok => Verdict::PassedOver,
            code => Verdict::Status(code, String::new()),
        }
    }
    .boxed()
}

fn vanishes(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        drop(RawClient::greet(server, hello()).await);
        drop(RawClient::join(server).await);
        Verdict::PassedOver
    }
    .boxed()
}

fn half_open(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        let cable = Cable::to(server).await;
        let mut client = RawClient::open_on(cable.channel().await).await;
        client.send(Kind::Hello(hello())).await;
        client.welcome().await;
        // Neither end is told; that the server finds out is seen by its connections.
        cable.pull();
        Verdict::PassedOver
    }
    .boxed()
}

fn gives_no_room(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        let endpoint = server.endpoint().initial_stream_window_size(16);
        let client = RawClient::open_on(endpoint.connect().await.expect("the server accepts")).await;
        client.send(Kind::Hello(hello())).await;
        // It is cut off: not even a status goes through.
        within_patience(client.up.closed()).await;
        Verdict::PassedOver
    }
    .boxed()
}
