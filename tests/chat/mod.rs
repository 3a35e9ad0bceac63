//! Talk beside the game: who hears what, what is not passed on, and that the match does not notice.

mod kept;
mod library;
mod limits;
mod moderated;
pub(crate) mod talker;

use std::{
    num::{NonZeroU32, NonZeroUsize},
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

use tickwire_proto::v1::{
    self as pb, ChatChannel, ChatRejection, chat_message::Kind, client_message, game_service_client::GameServiceClient,
};
use tickwire_server::{ChatLimits, Limits, ServerConfig, Timeouts};
use tickwire_shared::{Definition, Frame, Game, PlayerId, Systems};
use tonic::Code;

use self::talker::{Guest, Talker, token};
use crate::{
    harness::{RawClient, TestServer, config, eventually, field_of, hello, input, reason_of, within_patience},
    tiny_game::Beads,
};

/// Of a session in which nobody floods, unless a test says so.
pub(crate) fn chatty(change: impl FnOnce(&mut ChatLimits)) -> ServerConfig {
    let mut chat = ChatLimits { burst: NonZeroU32::new(1000).expect("not 0"), ..ChatLimits::default() };
    change(&mut chat);
    ServerConfig { limits: Limits { chat, ..Limits::default() }, ..config() }
}

/// Beads whose players are in the team of as many rings as they have rung; without any, in none.
struct Sides;

impl Game for Sides {
    fn name(&self) -> &'static str {
        "sides"
    }

    fn define(&self, definition: &mut Definition) {
        Beads.define(definition);
    }

    fn systems(&self, systems: &mut Systems) {
        Beads.systems(systems);
    }

    fn team(&self, player: PlayerId, frame: &Frame) -> Option<u32> {
        let rings = *frame.roster.row(player)?.scores.first()?;
        u32::try_from(rings).ok().filter(|rings| *rings > 0)
    }
}

/// Has a player ring once with each of these numbers of inputs.
async fn ring(client: &mut RawClient, sequences: RangeInclusive<u64>) {
    for sequence in sequences {
        loop {
            let newest = client.snapshot().await;
            // A late one comes again.
            let inputs = vec![pb::Input { values: vec![0, 1], ..input(sequence, newest.tick + 8) }];
            client.send(client_message::Kind::Inputs(pb::Inputs { epoch: 0, newest_tick: newest.tick, inputs })).await;
            let due = newest.tick + 8;
            let after = client.play_until(|snapshot| snapshot.tick >= due).await;
            if after.consumed_input >= sequence {
                break;
            }
        }
    }
}

#[tokio::test]
async fn two_players_talk_and_each_line_says_who_has_said_it_and_when() {
    let server = TestServer::arena(chatty(|_| {})).await;
    let hello = pb::Hello { player_name: "Ada".into(), ..hello() };
    let mut ada = Guest::join(&server, hello).await;
    let mut bob = Guest::join(&server, pb::Hello { player_name: "Bob".into(), ..crate::harness::hello() }).await;
    assert_eq!((ada.chat.session.as_str(), ada.chat.name.as_str()), ("sessions/arena-1", "Ada"));
    assert_eq!((ada.chat.player, bob.chat.player), (1, 2));
    assert_eq!(ada.chat.channels, [ChatChannel::Everyone as i32, ChatChannel::Direct as i32]);
    let limits = ada.chat.limits.expect("they are told");
    assert_eq!((limits.text_chars_max, limits.text_bytes_max, limits.per_minute), (500, 2000, 60));

    ada.talker.say_with(pb::ChatSay { text: "hi".into(), client_ref: 77, ..pb::ChatSay::default() }).await;
    let heard = bob.talker.line().await;
    assert_eq!((heard.id, heard.text.as_str(), heard.channel()), (1, "hi", ChatChannel::Everyone));
    assert_eq!((heard.from_player, heard.from_name.as_str(), heard.client_ref), (1, "Ada", 0));
    assert!(heard.tick >= ada.play_welcome.tick && heard.time.is_some_and(|time| time.seconds > 0));
    // The sender's own copy tells which of theirs it is.
    assert_eq!(ada.talker.line().await, pb::ChatLine { client_ref: 77, ..heard });
    bob.talker.say("¡hola! 🙂").await;
    let heard = ada.talker.line().await;
    assert_eq!((heard.id, heard.from_name.as_str(), heard.text.as_str()), (2, "Bob", "¡hola! 🙂"));
    server.stop().await;
}

#[tokio::test]
async fn nobody_talks_as_somebody_else() {
    let server = TestServer::arena(chatty(|_| {})).await;
    let ada = Guest::join(&server, hello()).await;
    let refused = async |hello: pb::ChatHello| Talker::greet(&server, hello).await.end().await;
    let with = |chat_token: Vec<u8>| pb::ChatHello { chat_token, ..pb::ChatHello::default() };
    let found = |status: &tonic::Status| (status.code(), reason_of(status), field_of(status));
    let unknown = (Code::Unauthenticated, "UNKNOWN_TOKEN".to_owned(), "hello.chat_token".to_owned());
    let pb::Welcome { chat_token, resume_token, attach_token, .. } = ada.play_welcome.clone();
    let mut almost = chat_token.clone();
    almost[31] ^= 1;
    assert_eq!(chat_token.len(), 32);
    for wrong in [almost, resume_token.clone(), attach_token, vec![0; 32], vec![1]] {
        assert_eq!(found(&refused(with(wrong)).await), unknown);
    }
    let status = refused(with(Vec::new())).await;
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::Unauthenticated, "TOKEN_MISSING"));
    let both = pb::ChatHello { stream_token: vec![1], ..with(chat_token.clone()) };
    assert_eq!(refused(both).await.code(), Code::InvalidArgument);
    let spectator = pb::ChatHello { stream_token: vec![1], ..pb::ChatHello::default() };
    assert_eq!(found(&refused(spectator).await).2, "hello.stream_token");
    let silent = Talker::open(server.channel().await).await;
    silent.send(Kind::Say(pb::ChatSay::default())).await;
    assert_eq!(reason_of(&silent.end().await), "HELLO_MISSING");

    // Who has the seat back has another token: what the one before let in is out.
    let mut back = RawClient::greet(&server, pb::Hello { resume_token, ..hello() }).await;
    let welcome = back.welcome().await;
    assert_ne!(welcome.chat_token, chat_token);
    let status = ada.talker.end().await;
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::Aborted, "DISPLACED"));
    assert_eq!(found(&refused(with(chat_token)).await), unknown);
    let (_talker, chat) = Talker::enter(&server, token(&welcome)).await;
    assert_eq!(chat.player, ada.chat.player);
    server.stop().await;
}

#[tokio::test]
async fn a_team_talks_among_itself_and_two_players_among_themselves() {
    let server = TestServer::start(chatty(|_| {}), vec![Arc::new(Sides)]).await;
    let mut guests = Vec::new();
    for rings in [1, 1, 2, 0] {
        let mut guest = Guest::join(&server, hello()).await;
        ring(&mut guest.play, 1..=rings).await;
        guests.push(guest);
    }
    // Their teams are known by now.
    let mut entered = Vec::new();
    for guest in &guests {
        entered.push(Talker::enter(&server, token(&guest.play_welcome)).await);
    }
    let teams: Vec<_> = entered.iter().map(|(_, welcome)| welcome.team).collect();
    assert_eq!(teams, [Some(1), Some(1), Some(2), None]);
    assert!(entered[0].1.channels.contains(&(ChatChannel::Team as i32)));
    assert!(!entered[3].1.channels.contains(&(ChatChannel::Team as i32)));
    let [mut ada, mut bob, mut eve, mut dan]: [Talker; 4] =
        entered.into_iter().map(|(talker, _)| talker).collect::<Vec<_>>().try_into().map_err(drop).expect("four");

    let team = |text: &str| pb::ChatSay { channel: ChatChannel::Team.into(), text: text.into(), ..Default::default() };
    let direct = |to_player, text: &str| pb::ChatSay {
        channel: ChatChannel::Direct.into(),
        to_player,
        text: text.into(),
        ..Default::default()
    };
    ada.say_with(team("rush b")).await;
    let heard = bob.line().await;
    assert_eq!((heard.channel(), heard.team, heard.text.as_str()), (ChatChannel::Team, Some(1), "rush b"));
    assert_eq!(ada.line().await, heard);
    bob.say_with(direct(4, "psst")).await;
    let heard = dan.line().await;
    assert_eq!((heard.channel(), heard.to_player, heard.from_player), (ChatChannel::Direct, 4, 2));
    assert_eq!(bob.line().await, heard);
    dan.say_with(team("anybody?")).await;
    assert_eq!(dan.rejection().await, ChatRejection::NoTeam);
    dan.say_with(direct(99, "anybody?")).await;
    assert_eq!(dan.rejection().await, ChatRejection::NoSuchPlayer);
    // What is next for each is what everyone gets: nothing else was for them.
    eve.say("hello").await;
    for talker in [&mut ada, &mut bob, &mut eve, &mut dan] {
        assert_eq!(talker.line().await.text, "hello");
    }

    // Nor does history tell.
    let mut histories = Vec::new();
    for guest in &guests {
        let (_, welcome) = Talker::enter(&server, token(&guest.play_welcome)).await;
        histories.push(welcome.history.into_iter().map(|line| line.text).collect::<Vec<_>>());
    }
    let expected: [&[&str]; 4] = [&["rush b", "hello"], &["rush b", "psst", "hello"], &["hello"], &["psst", "hello"]];
    assert_eq!(histories, expected);
    server.stop().await;
}

#[tokio::test]
async fn who_changes_sides_hears_nothing_of_what_the_other_side_has_said_before() {
    let server = TestServer::start(chatty(|_| {}), vec![Arc::new(Sides)]).await;
    let team = |text: &str| pb::ChatSay { channel: ChatChannel::Team.into(), text: text.into(), ..Default::default() };
    let [mut ada, mut bob, mut eve] =
        [Guest::join(&server, hello()).await, Guest::join(&server, hello()).await, Guest::join(&server, hello()).await];
    ring(&mut ada.play, 1..=1).await;
    ring(&mut bob.play, 1..=1).await;
    ring(&mut eve.play, 1..=2).await;
    ada.talker.say_with(team("rush b")).await;
    eve.talker.say_with(team("they rush b, we wait")).await;
    for (guest, text) in [(&mut ada, "rush b"), (&mut bob, "rush b"), (&mut eve, "they rush b, we wait")] {
        assert_eq!(guest.talker.line().await.text, text);
    }
    ring(&mut bob.play, 2..=2).await;
    ada.talker.say_with(team("where is bob?")).await;
    eve.talker.say_with(team("welcome")).await;
    assert_eq!(
        (bob.talker.line().await.text.as_str(), ada.talker.line().await.text.as_str()),
        ("welcome", "where is bob?")
    );
    let (_talker, welcome) = Talker::enter(&server, token(&bob.play_welcome)).await;
    assert_eq!(welcome.team, Some(2));
    let history: Vec<&str> = welcome.history.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(history, ["rush b", "welcome"], "what he has heard, and nothing else");
    server.stop().await;
}

#[tokio::test]
async fn who_comes_later_gets_the_newest_of_what_was_said() {
    let server = TestServer::arena(chatty(|limits| limits.history_max = 3)).await;
    let mut ada = Guest::join(&server, hello()).await;
    for text in ["one", "two", "three", "four"] {
        ada.talker.say(text).await;
        assert_eq!(ada.talker.line().await.text, text);
    }
    let bob = Guest::join(&server, hello()).await;
    let texts = |welcome: &pb::ChatWelcome| welcome.history.iter().map(|line| line.text.clone()).collect::<Vec<_>>();
    assert_eq!(texts(&bob.chat), ["two", "three", "four"]);
    assert_eq!(bob.chat.history.iter().map(|line| line.id).collect::<Vec<_>>(), [2, 3, 4]);
    let again = pb::ChatHello { chat_token: token(&bob.play_welcome), after_id: 3, ..pb::ChatHello::default() };
    let mut talker = Talker::greet(&server, again).await;
    assert_eq!(texts(&talker.welcome().await), ["four"]);
    server.stop().await;
}

#[tokio::test]
async fn who_floods_is_told_when_to_go_on_and_who_does_not_care_is_let_go() {
    let server = TestServer::arena(chatty(|limits| {
        limits.burst = NonZeroU32::new(2).expect("not 0");
        limits.per_minute = NonZeroU32::MIN;
        limits.rejections_max = NonZeroU32::new(3).expect("not 0");
    }))
    .await;
    let mut ada = Guest::join(&server, hello()).await;
    let mut bob = Guest::join(&server, hello()).await;
    for (client_ref, text) in (1..).zip(["one", "two", "three"]) {
        ada.talker.say_with(pb::ChatSay { text: text.into(), client_ref, ..Default::default() }).await;
    }
    assert_eq!([ada.talker.line().await.text, ada.talker.line().await.text], ["one", "two"]);
    let rejected = ada.talker.rejected().await;
    assert_eq!((rejected.reason(), rejected.client_ref), (ChatRejection::Flooding, 3));
    assert!((50_000..=60_000).contains(&rejected.retry_after_ms), "{rejected:?}");
    // It is the seat's allowance, not the stream's.
    let (mut talker, _) = Talker::enter(&server, token(&ada.play_welcome)).await;
    for _ in 0..4 {
        talker.say("me again").await;
    }
    for _ in 0..4 {
        assert_eq!(talker.rejection().await, ChatRejection::Flooding);
    }
    let status = talker.end().await;
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::ResourceExhausted, "FLOODING"));
    bob.talker.say("quiet").await;
    let mut texts = Vec::new();
    while texts.len() < 3 {
        texts.push(bob.talker.line().await.text);
    }
    assert_eq!(texts, ["one", "two", "quiet"]);
    server.stop().await;
}

#[tokio::test]
async fn texts_that_are_too_long_empty_or_with_control_characters_go_nowhere_and_the_stream_goes_on() {
    let server = TestServer::arena(chatty(|limits| limits.chars_max = 10)).await;
    let mut ada = Guest::join(&server, hello()).await;
    let cases = [
        ("äöüäöüäöüäö", ChatRejection::TooLong),
        ("", ChatRejection::Empty),
        ("  ", ChatRejection::Empty),
        ("a\nb", ChatRejection::ControlCharacter),
        ("a\u{1b}[2J", ChatRejection::ControlCharacter),
        ("\u{202e}abc", ChatRejection::ControlCharacter),
    ];
    for (text, reason) in cases {
        ada.talker.say(text).await;
        assert_eq!(ada.talker.rejection().await, reason, "{text:?}");
    }
    // Ten characters, of 40 bytes.
    ada.talker.say("🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂").await;
    assert_eq!(ada.talker.line().await.id, 1);
    // What is no message of this stream ends it.
    for (kind, field) in [
        (Kind::Line(pb::ChatLine { from_player: 2, text: "I am Bob".into(), ..Default::default() }), "kind"),
        (Kind::Say(pb::ChatSay { channel: ChatChannel::System.into(), ..Default::default() }), "say.channel"),
        (Kind::Hello(pb::ChatHello::default()), "hello"),
    ] {
        let (talker, _) = Talker::enter(&server, token(&ada.play_welcome)).await;
        talker.send(kind).await;
        let status = talker.end().await;
        assert_eq!((status.code(), field_of(&status).as_str()), (Code::InvalidArgument, field));
    }
    let (talker, _) = Talker::enter(&server, token(&ada.play_welcome)).await;
    talker.say(&"x".repeat(17_000)).await;
    let status = talker.end().await;
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::ResourceExhausted, "MESSAGE_TOO_LONG"));
    server.stop().await;
}

#[tokio::test]
async fn a_muted_player_is_not_heard_by_who_has_muted_them_wherever_that_one_comes_back() {
    let server = TestServer::arena(chatty(|limits| limits.mutes_max = 1)).await;
    let mut ada = Guest::join(&server, hello()).await;
    let mut bob = Guest::join(&server, hello()).await;
    ada.talker.send(Kind::Mute(pb::ChatMute { player: 2 })).await;
    assert_eq!(ada.talker.next().await.expect("an answer"), Kind::Mutes(pb::ChatMutes { players: vec![2] }));
    ada.talker.send(Kind::Mute(pb::ChatMute { player: 3 })).await;
    assert_eq!(ada.talker.rejection().await, ChatRejection::MutesFull);
    let psst =
        pb::ChatSay { channel: ChatChannel::Direct.into(), to_player: 1, text: "psst".into(), ..Default::default() };
    bob.talker.say("hey").await;
    bob.talker.say_with(psst).await;
    assert_eq!([bob.talker.line().await.text, bob.talker.line().await.text], ["hey", "psst"]);
    ada.talker.say("silence at last").await;
    assert_eq!(ada.talker.line().await.text, "silence at last");

    let resume_token = ada.play_welcome.resume_token.clone();
    let mut back = RawClient::greet(&server, pb::Hello { resume_token, ..hello() }).await;
    let (mut talker, welcome) = Talker::enter(&server, token(&back.welcome().await)).await;
    assert_eq!(welcome.muted_players, [2]);
    assert_eq!(welcome.history.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["silence at last"]);
    talker.send(Kind::Unmute(pb::ChatUnmute { player: 2 })).await;
    assert_eq!(talker.next().await.expect("an answer"), Kind::Mutes(pb::ChatMutes::default()));
    bob.talker.say("hey again").await;
    assert_eq!(talker.line().await.text, "hey again");
    server.stop().await;
}

#[tokio::test]
async fn a_slow_reader_is_told_of_what_was_dropped_and_nobody_waits_for_them() {
    const LINES: u64 = 300;
    let server = TestServer::arena(chatty(|limits| {
        limits.waiting_max = NonZeroUsize::new(4).expect("not 0");
        limits.per_minute = NonZeroU32::MAX;
    }))
    .await;
    let slow = Guest::join(&server, hello()).await;
    // Whose stream has no more room than it must have.
    let narrow = server.endpoint().initial_stream_window_size(1024);
    let channel = narrow.connect().await.expect("the server accepts");
    let mut slow_talker = Talker::open(channel).await;
    slow_talker.send(Kind::Hello(pb::ChatHello { chat_token: token(&slow.play_welcome), ..Default::default() })).await;
    slow_talker.welcome().await;
    let mut ada = Guest::join(&server, hello()).await;
    let mut bob = Guest::join(&server, hello()).await;
    let text = "x".repeat(500);
    for id in 1..=LINES {
        ada.talker.say(&text).await;
        assert_eq!([ada.talker.line().await.id, bob.talker.line().await.id], [id, id]);
    }
    let (mut heard, mut dropped) = (0, 0);
    while heard + dropped < LINES {
        match slow_talker.next().await.expect("the stream goes on") {
            Kind::Dropped(told) => dropped += told.lines,
            Kind::Line(line) => {
                heard += 1;
                assert_eq!(line.id, heard + dropped, "what is missing before a line has been told of");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(dropped > 0 && heard >= 4, "{heard} heard, {dropped} dropped");
    server.stop().await;
}

#[tokio::test]
async fn a_reader_who_reads_nothing_is_let_go() {
    let config = ServerConfig {
        timeouts: Timeouts { unacknowledged: Duration::from_millis(200), ..config().timeouts },
        ..chatty(|limits| limits.per_minute = NonZeroU32::MAX)
    };
    let server = TestServer::arena(config).await;
    let (_ada, welcome) = RawClient::join(&server).await;
    let channel = server.endpoint().initial_stream_window_size(1024).connect().await.expect("the server accepts");
    let mut talker = Talker::open(channel).await;
    talker.send(Kind::Hello(pb::ChatHello { chat_token: token(&welcome), ..Default::default() })).await;
    talker.welcome().await;
    let before = server.probe.tasks();
    for _ in 0..100 {
        talker.say(&"x".repeat(500)).await;
    }
    // One of them answered, the other one took in what came.
    eventually("the stream's two tasks are gone", || server.probe.tasks() + 2 <= before).await;
    assert_eq!(talker.end().await.code(), Code::Cancelled);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_ends_by_its_side_by_a_newer_one_with_the_seat_and_with_the_server() {
    let server = TestServer::arena(chatty(|_| {})).await;
    let ada = Guest::join(&server, hello()).await;
    let (closed, _) = Talker::enter(&server, token(&ada.play_welcome)).await;
    let status = ada.talker.end().await;
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::Aborted, "DISPLACED"));
    assert_eq!(closed.close().await.code(), Code::Ok);

    let (talker, _) = Talker::enter(&server, token(&ada.play_welcome)).await;
    ada.play.send(client_message::Kind::Leave(pb::Leave {})).await;
    let status = talker.end().await;
    let ended = (Code::FailedPrecondition, "SEAT_ENDED".to_owned());
    assert_eq!((status.code(), reason_of(&status)), ended);
    let again = pb::ChatHello { chat_token: token(&ada.play_welcome), ..pb::ChatHello::default() };
    let status = Talker::greet(&server, again).await.end().await;
    assert_eq!((status.code(), reason_of(&status)), ended);

    let bob = Guest::join(&server, hello()).await;
    server.stop().await;
    let status = bob.talker.end().await;
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::Unavailable, "SHUTTING_DOWN"));
}

#[tokio::test]
async fn a_seat_that_is_lost_for_too_long_takes_its_stream_along_and_not_before() {
    let config =
        ServerConfig { timeouts: Timeouts { grace: Duration::from_secs(2), ..config().timeouts }, ..chatty(|_| {}) };
    let server = TestServer::arena(config).await;
    let Guest { play, mut talker, .. } = Guest::join(&server, hello()).await;
    drop(play);
    talker.say("still here").await;
    assert_eq!(talker.line().await.text, "still here");
    let status = talker.end().await;
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::FailedPrecondition, "GRACE_OVER"));
    server.stop().await;
}

#[tokio::test]
async fn a_stream_without_a_hello_is_not_waited_for() {
    let config = ServerConfig { timeouts: Timeouts { hello: Duration::from_secs(1), ..config().timeouts }, ..config() };
    let server = TestServer::arena(config).await;
    let talker = Talker::open(server.channel().await).await;
    let status = talker.end().await;
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::DeadlineExceeded, "NO_HELLO"));
    server.stop().await;
}

#[tokio::test]
async fn a_spectator_hears_what_is_said_to_everyone_and_says_nothing() {
    let server = TestServer::arena(chatty(|_| {})).await;
    let ada = Guest::join(&server, hello()).await;
    let request = pb::WatchRequest { hello: Some(hello()), ..pb::WatchRequest::default() };
    let mut watching = GameServiceClient::new(server.channel().await).watch(request).await.expect("room").into_inner();
    let first = within_patience(watching.message()).await.expect("the stream goes on").expect("a welcome");
    let Some(pb::server_message::Kind::Welcome(welcome)) = first.kind else { panic!("{first:?}") };
    let hello = pb::ChatHello { stream_token: welcome.stream_token, ..pb::ChatHello::default() };
    let mut before = Talker::greet(&server, hello.clone()).await;
    before.welcome().await;
    let mut spectator = Talker::greet(&server, hello.clone()).await;
    let chat = spectator.welcome().await;
    assert_eq!((chat.player, chat.channels.as_slice()), (0, &[][..]));
    assert_eq!(reason_of(&before.end().await), "DISPLACED", "one stream each");
    spectator.say("hi").await;
    assert_eq!(spectator.rejection().await, ChatRejection::ReadOnly);
    let direct =
        pb::ChatSay { channel: ChatChannel::Direct.into(), to_player: 1, text: "me".into(), ..Default::default() };
    ada.talker.say_with(direct).await;
    ada.talker.say("all").await;
    assert_eq!(spectator.line().await.text, "all");
    drop(watching);
    let status = spectator.end().await;
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::FailedPrecondition, "STREAM_ENDED"));
    let status = Talker::greet(&server, hello).await.end().await;
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::Unauthenticated, "UNKNOWN_TOKEN"));
    server.stop().await;

    // Where spectators see the match later, what is said would tell them what comes.
    let late = ServerConfig { spectator_delay: Duration::from_secs(1), ..config() };
    let server = TestServer::arena(late).await;
    let request = pb::WatchRequest { hello: Some(crate::harness::hello()), ..pb::WatchRequest::default() };
    let mut watching = GameServiceClient::new(server.channel().await).watch(request).await.expect("room").into_inner();
    let first = within_patience(watching.message()).await.expect("the stream goes on").expect("a welcome");
    let Some(pb::server_message::Kind::Welcome(welcome)) = first.kind else { panic!("{first:?}") };
    let hello = pb::ChatHello { stream_token: welcome.stream_token, ..pb::ChatHello::default() };
    assert_eq!(reason_of(&Talker::greet(&server, hello).await.end().await), "SPECTATOR_DELAY");
    server.stop().await;
}
