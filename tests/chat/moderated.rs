//! What who runs a server has to say about it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, SystemTime},
};

use tickwire_arena::Arena;
use tickwire_proto::v1::{self as pb, ChatChannel, ChatRejection, chat_message::Kind};
use tickwire_server::{ChatError, ModeratedLine, Moderator, Server, ServerConfig, Timeouts, Verdict};
use tickwire_shared::PlayerId;

use super::{
    chatty,
    talker::{Guest, Talker, token},
};
use crate::harness::{ARENA_1, RawClient, TestServer, config, hello, within_patience};

/// Does what a line begins with.
#[derive(Debug)]
struct Strict(Mutex<Receiver<()>>);

impl Moderator for Strict {
    fn judge(&self, line: &ModeratedLine) -> Verdict {
        assert_eq!(line.session, ARENA_1);
        match line.text.split_once(' ') {
            Some(("rewrite", rest)) => Verdict::Rewrite(format!("{}: {rest}", line.name)),
            Some(("spoil", _)) => Verdict::Rewrite("two\nlines".into()),
            Some(("reject", rest)) => Verdict::Reject(format!("no {rest} here")),
            Some(("panic", rest)) => panic!("{rest}"),
            Some(("wait", _)) => {
                // An error lets it go, too.
                let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).recv();
                Verdict::Allow
            }
            _ => Verdict::Allow,
        }
    }
}

async fn moderated(moderation: Duration) -> (TestServer, Sender<()>) {
    let (let_go, wait) = channel();
    let config = ServerConfig {
        moderator: Some(Arc::new(Strict(Mutex::new(wait)))),
        timeouts: Timeouts { moderation, ..config().timeouts },
        ..chatty(|_| {})
    };
    (TestServer::arena(config).await, let_go)
}

#[tokio::test]
async fn a_moderator_lets_lines_pass_changes_them_or_does_not() {
    let (server, _let_go) = moderated(Duration::from_secs(20)).await;
    let mut ada = Guest::join(&server, pb::Hello { player_name: "Ada".into(), ..hello() }).await;
    let mut bob = Guest::join(&server, hello()).await;
    for text in ["all well", "rewrite this"] {
        ada.talker.say(text).await;
    }
    assert_eq!([ada.talker.line().await.text, ada.talker.line().await.text], ["all well", "Ada: this"]);
    ada.talker.say_with(pb::ChatSay { text: "reject shouting".into(), client_ref: 5, ..Default::default() }).await;
    let rejected = ada.talker.rejected().await;
    assert_eq!((rejected.reason(), rejected.client_ref), (ChatRejection::Moderated, 5));
    assert_eq!(rejected.text, "no shouting here");
    for text in ["panic as the test wants it", "spoil it"] {
        ada.talker.say(text).await;
        assert_eq!(ada.talker.rejection().await, ChatRejection::Unmoderated);
    }
    ada.talker.say("and on").await;
    for text in ["all well", "Ada: this", "and on"] {
        assert_eq!(bob.talker.line().await.text, text);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_slow_moderator_delays_the_line_and_what_its_sender_says_next_and_nobody_else() {
    let (server, let_go) = moderated(Duration::from_secs(20)).await;
    let mut ada = Guest::join(&server, hello()).await;
    let mut bob = Guest::join(&server, hello()).await;
    ada.talker.say("wait for it").await;
    ada.talker.say("then this").await;
    bob.talker.say("meanwhile").await;
    for guest in [&mut ada, &mut bob] {
        assert_eq!(guest.talker.line().await.text, "meanwhile");
    }
    let ticks = server.probe.ticks()[0].0;
    // The match does not wait either.
    bob.play.play_until(|snapshot| snapshot.tick > ticks + 5).await;
    let_go.send(()).expect("it is waited for");
    for guest in [&mut ada, &mut bob] {
        assert_eq!([guest.talker.line().await.text, guest.talker.line().await.text], ["wait for it", "then this"]);
    }
    server.stop().await;

    let (server, let_go) = moderated(Duration::from_millis(50)).await;
    let mut ada = Guest::join(&server, hello()).await;
    ada.talker.say("wait for ever").await;
    assert_eq!(ada.talker.rejection().await, ChatRejection::Unmoderated);
    drop(let_go);
    server.stop().await;
}

#[tokio::test]
async fn a_silenced_player_says_nothing_until_the_silence_is_lifted_also_by_another_stream() {
    let server = Server::start(chatty(|_| {}), vec![Arc::new(Arena)]).expect("the configuration is good");
    let control = server.chat();
    let server = TestServer::serve(server).await;
    let mut ada = Guest::join(&server, hello()).await;
    let (player, hour) = (PlayerId(1), SystemTime::now() + Duration::from_secs(3600));
    control.silence(ARENA_1, player, Some(hour)).expect("she is there");
    match ada.talker.next().await.expect("she is told") {
        Kind::Silence(pb::ChatSilence { silenced: true, until: Some(until) }) => {
            assert_eq!(SystemTime::try_from(until).expect("a time"), hour);
        }
        other => panic!("{other:?}"),
    }
    ada.talker.say("what?").await;
    let rejected = ada.talker.rejected().await;
    assert_eq!(rejected.reason(), ChatRejection::Silenced);
    assert!((3_000_000..=3_600_000).contains(&rejected.retry_after_ms), "{rejected:?}");

    let resume_token = ada.play_welcome.resume_token.clone();
    let mut back = RawClient::greet(&server, pb::Hello { resume_token, ..hello() }).await;
    let (mut talker, welcome) = Talker::enter(&server, token(&back.welcome().await)).await;
    assert!(welcome.silence.is_some_and(|silence| silence.silenced));
    talker.say("and now?").await;
    assert_eq!(talker.rejection().await, ChatRejection::Silenced);
    control.lift_silence(ARENA_1, player).expect("she is there");
    assert_eq!(talker.next().await.expect("she is told"), Kind::Silence(pb::ChatSilence::default()));
    talker.say("thank you").await;
    assert_eq!(talker.line().await.text, "thank you");
    // One that is over is none.
    control.silence(ARENA_1, player, Some(SystemTime::UNIX_EPOCH)).expect("she is there");
    assert!(matches!(talker.next().await, Ok(Kind::Silence(_))));
    talker.say("still here").await;
    assert_eq!(talker.line().await.text, "still here");

    let nobody = ChatError::NoPlayer { session: ARENA_1.into(), player: PlayerId(9) };
    assert_eq!(control.silence(ARENA_1, PlayerId(9), None), Err(nobody));
    assert!(matches!(control.announce("sessions/none", "hi"), Err(ChatError::NoSession(_))));
    assert!(matches!(control.announce("none", "hi"), Err(ChatError::SessionName(_))));
    assert!(matches!(control.announce(ARENA_1, "a\nb"), Err(ChatError::Text(_))));
    let totals = control.totals(ARENA_1).expect("it is there");
    assert_eq!((totals.sent, totals.rejected["silenced"], totals.rejected["flooding"]), (2, 2, 0));
    assert_eq!((totals.delivered, totals.dropped, totals.unrecorded), (2, 0, 0));
    server.stop().await;
}

#[tokio::test]
async fn an_announcement_reaches_all_and_nobody_can_mute_it() {
    let server = Server::start(chatty(|_| {}), vec![Arc::new(Arena)]).expect("the configuration is good");
    let control = server.chat();
    let server = TestServer::serve(server).await;
    let mut ada = Guest::join(&server, hello()).await;
    control.announce(ARENA_1, "five minutes left").expect("it is a text");
    let line = ada.talker.line().await;
    assert_eq!((line.channel(), line.from_player, line.text.as_str()), (ChatChannel::System, 0, "five minutes left"));
    let bob = within_patience(Guest::join(&server, hello())).await;
    assert_eq!(bob.chat.history, [line]);
    server.stop().await;
}
