//! Each limit of chat exceeded: what the sender gets, that it is counted, and that a change holds for streams that are open.

use std::{num::NonZeroU32, sync::Arc};

use tickwire_arena::Arena;
use tickwire_proto::v1::{self as pb, ChatRejection, chat_message::Kind};
use tickwire_server::{ChatLimits, Limits, Server};
use tonic::Code;

use super::{
    chatty,
    talker::{Guest, Talker, token},
};
use crate::harness::{ARENA_1, TestServer, eventually, hello, reason_of};

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("not 0")
}

#[tokio::test]
async fn limits_of_chat_that_change_hold_for_streams_that_are_open_and_what_exceeds_them_is_counted() {
    let server = Server::start(chatty(|_| {}), vec![Arc::new(Arena)]).expect("the configuration is good");
    let (chat, control) = (server.chat(), server.control());
    let server = TestServer::serve(server).await;
    let mut ada = Guest::join(&server, hello()).await;
    let set = |change: fn(&mut ChatLimits)| {
        let mut limits = ChatLimits { burst: number(1000), per_minute: number(1), ..ChatLimits::default() };
        change(&mut limits);
        control.set_limits(Limits { chat: limits, ..Limits::default() }).expect("they make sense");
    };
    let rejections = |reason: &str| chat.totals(ARENA_1).expect("it is there").rejected[reason];
    for (text, is_said) in [("12345", true), ("123456", false), ("äöüäö", true)] {
        set(|limits| limits.chars_max = 5);
        ada.talker.say(text).await;
        match ada.talker.next().await.expect("the stream goes on") {
            Kind::Line(line) => assert!(is_said && line.text == text, "{line:?}"),
            Kind::Rejected(no) => assert!(!is_said && no.reason() == ChatRejection::TooLong, "{no:?}"),
            other => panic!("{other:?}"),
        }
    }
    set(|limits| limits.bytes_max = 6);
    ada.talker.say("äöüä").await;
    assert_eq!((ada.talker.rejection().await, rejections("too_long")), (ChatRejection::TooLong, 2));

    // She has said more by now than may be said at once.
    set(|limits| (limits.burst, limits.per_minute) = (number(1), number(1)));
    ada.talker.say("hi").await;
    let rejected = ada.talker.rejected().await;
    assert_eq!((rejected.reason(), rejections("flooding")), (ChatRejection::Flooding, 1));
    assert!(rejected.retry_after_ms > 1000, "{rejected:?}");

    set(|limits| limits.mutes_max = 0);
    ada.talker.send(Kind::Mute(pb::ChatMute { player: 9 })).await;
    assert_eq!((ada.talker.rejection().await, rejections("mutes_full")), (ChatRejection::MutesFull, 1));
    set(|limits| limits.history_max = 1);
    let bob = Guest::join(&server, hello()).await;
    assert_eq!(bob.chat.history.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["äöüäö"]);

    set(|limits| limits.rejections_max = number(2));
    let (talker, _) = Talker::enter(&server, token(&ada.play_welcome)).await;
    for _ in 0..3 {
        talker.say("").await;
    }
    let status = talker.end().await;
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::ResourceExhausted, "FLOODING"));
    assert_eq!(rejections("empty"), 3);
    eventually("it is counted", || server.probe.refusals().get("FLOODING") == Some(&1)).await;
    server.stop().await;
}
