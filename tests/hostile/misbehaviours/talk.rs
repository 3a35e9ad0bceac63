//! Chat that nobody wants.

use futures_util::{FutureExt as _, future::BoxFuture};
use prost::Message as _;
use tickwire_proto::v1::{self as pb, chat_message::Kind};
use tonic::Code;

use super::{Act, Expected, Misbehaviour, NOT_READ, Verdict, call, framed, it, nobody_reads, verdict};
use crate::{
    chat::talker::{Guest, Talker},
    harness::{TestServer, hello},
};

const CHAT: &str = "/tickwire.v1.ChatService/Chat";
const FLOODING: Expected = Expected::Status(Code::ResourceExhausted, "FLOODING");

pub(super) const TALK: &[Misbehaviour] = &[
    it("floods the chat", Act::Else(|server| says(server, 1000, "spam")), FLOODING),
    it("says what is empty without end", Act::Else(|server| says(server, 1000, "")), FLOODING),
    it("says what is no text", Act::Else(|server| says(server, 1000, "\u{1b}[2J")), FLOODING),
    it(
        "says too much at once",
        Act::Else(says_too_much),
        Expected::Status(Code::ResourceExhausted, "MESSAGE_TOO_LONG"),
    ),
    it(
        "talks gibberish",
        Act::Else(|server| async move { verdict(&call(server, CHAT, None, framed(&[0xff; 64]), true).await) }.boxed()),
        Expected::Status(Code::InvalidArgument, "MALFORMED"),
    ),
    it(
        "talks before it says hello",
        Act::Else(|server| greets(server, Kind::Say(pb::ChatSay { text: "hi".into(), ..pb::ChatSay::default() }))),
        Expected::Status(Code::FailedPrecondition, "HELLO_MISSING"),
    ),
    it(
        "talks as somebody else",
        Act::Else(|server| greets(server, Kind::Hello(with_token(vec![1; 32])))),
        Expected::Status(Code::Unauthenticated, "UNKNOWN_TOKEN"),
    ),
    it(
        "opens the chat and says nothing",
        Act::Else(says_nothing),
        Expected::Status(Code::DeadlineExceeded, "NO_HELLO"),
    ),
    it(
        "begins a line and lets it lie",
        Act::Else(lets_a_line_lie),
        Expected::Status(Code::DeadlineExceeded, "NO_MESSAGE"),
    ),
    it("talks and listens to nobody", Act::Else(never_listens), NOT_READ),
];

fn with_token(chat_token: Vec<u8>) -> pb::ChatHello {
    pb::ChatHello { chat_token, ..pb::ChatHello::default() }
}

fn greets(server: &TestServer, first: Kind) -> BoxFuture<'_, Verdict> {
    async move {
        let talker = Talker::open(server.channel().await).await;
        talker.send(first).await;
        verdict(&talker.end().await)
    }
    .boxed()
}

fn says<'a>(server: &'a TestServer, times: usize, text: &'static str) -> BoxFuture<'a, Verdict> {
    async move {
        let guest = Guest::join(server, hello()).await;
        for _ in 0..times {
            guest.talker.say(text).await;
        }
        verdict(&guest.talker.end().await)
    }
    .boxed()
}

fn says_too_much(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        let guest = Guest::join(server, hello()).await;
        guest.talker.say(&"x".repeat(1 << 20)).await;
        verdict(&guest.talker.end().await)
    }
    .boxed()
}

fn says_nothing(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move { verdict(&Talker::open(server.channel().await).await.end().await) }.boxed()
}

fn lets_a_line_lie(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        let mut guest = Guest::join(server, hello()).await;
        let hello = Kind::Hello(with_token(guest.play_welcome.chat_token.clone()));
        let mut body = framed(&pb::ChatMessage { kind: Some(hello) }.encode_to_vec());
        body.extend([0; 3]);
        tokio::select! {
            status = call(server, CHAT, None, body, false) => verdict(&status),
            // Its seat is to be there for as long.
            _ = guest.play.play_until(|_| false) => unreachable!("it plays on and on"),
        }
    }
    .boxed()
}

/// What it says comes back to it, as does what is wrong with that.
fn never_listens(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        let guest = Guest::join(server, hello()).await;
        let hello = Kind::Hello(with_token(guest.play_welcome.chat_token.clone()));
        let say = Kind::Say(pb::ChatSay { text: "spam".into(), ..pb::ChatSay::default() });
        let mut body = Vec::new();
        for kind in std::iter::once(hello).chain(std::iter::repeat_n(say, 300)) {
            body.extend(framed(&pb::ChatMessage { kind: Some(kind) }.encode_to_vec()));
        }
        nobody_reads(server, CHAT, body, false).await
    }
    .boxed()
}
