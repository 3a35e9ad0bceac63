//! The client library's part in it, and bots'.

use std::{sync::Arc, time::Duration};

use tickwire_arena::Arena;
use tickwire_client::{
    Chat, ChatEvent, ChatTo, ChatToken, Client, ClientError, Event, JoinOptions, Spectator, WatchOptions,
    bots::{SwarmConfig, SwarmHandle, run},
};
use tickwire_proto::v1::ChatRejection;
use tickwire_recording::{Recording, verify};
use tickwire_server::ServerConfig;
use tickwire_shared::PlayerId;
use tokio::task::spawn_blocking;
use tonic::Code;

use super::chatty;
use crate::harness::{TestServer, within_patience};

async fn next(chat: &mut Chat) -> ChatEvent {
    within_patience(chat.next()).await.expect("the stream goes on").expect("it goes on")
}

async fn heard(chat: &mut Chat) -> (u32, String) {
    match next(chat).await {
        ChatEvent::Line(line) => (line.from_player, line.text),
        other => panic!("{other:?} instead of a line"),
    }
}

async fn join(server: &TestServer) -> Client {
    let options = JoinOptions::default();
    Client::connect(&format!("http://{}", server.address), &options).await.expect("there is room")
}

#[tokio::test]
async fn a_client_talks_on_the_connection_that_it_plays_by() {
    let server = TestServer::arena(chatty(|_| {})).await;
    let (mut ada, mut bob) = (join(&server).await, join(&server).await);
    let mut adas = ada.chat().await.expect("she may talk");
    let mut bobs = bob.chat().await.expect("he may talk");
    assert_eq!((adas.welcome().player, server.probe.connections()), (1, 2));
    adas.say(ChatTo::Everyone, "hi", 7);
    assert_eq!(heard(&mut bobs).await, (1, "hi".to_owned()));
    assert!(matches!(next(&mut adas).await, ChatEvent::Line(line) if line.client_ref == 7));
    bobs.say(ChatTo::Player(PlayerId(1)), "psst", 0);
    assert_eq!(heard(&mut adas).await, (2, "psst".to_owned()));
    bobs.say(ChatTo::Team, "anybody?", 9);
    assert_eq!(heard(&mut bobs).await, (2, "psst".to_owned()));
    assert!(
        matches!(next(&mut bobs).await, ChatEvent::Rejected(no) if no.reason() == ChatRejection::NoTeam && no.client_ref == 9)
    );
    adas.mute(PlayerId(2));
    assert_eq!(next(&mut adas).await, ChatEvent::Mutes(vec![PlayerId(2)]));
    adas.unmute(PlayerId(2));
    assert_eq!(next(&mut adas).await, ChatEvent::Mutes(Vec::new()));

    // The game goes on meanwhile, on the same connections.
    let mut snapshots = 0;
    while snapshots < 10 {
        match ada.next().await.expect("the stream goes on").expect("it goes on") {
            Event::Snapshot(_) => snapshots += 1,
            Event::Desync(error) => panic!("{error}"),
            _ => {}
        }
    }
    adas.close();
    assert!(within_patience(adas.next()).await.expect("it ends in order").is_none());

    // From elsewhere by the token; the stream before is displaced.
    let url = format!("http://{}", server.address);
    let token = ChatToken::Player(bob.core().chat_token().to_vec());
    let elsewhere = Chat::connect(&url, token).await.expect("the token is good");
    assert_eq!(elsewhere.welcome().player, 2);
    match within_patience(bobs.next()).await {
        Err(ClientError::Status(status)) => {
            assert_eq!((status.code, status.reason.as_str()), (Code::Aborted, "DISPLACED"));
        }
        other => panic!("{other:?}"),
    }
    let mut spectator = Spectator::connect(&url, &WatchOptions::default()).await.expect("there is room");
    let mut listens = spectator.chat().await.expect("spectators listen");
    assert_eq!(listens.welcome().history.len(), 1);
    listens.say(ChatTo::Everyone, "hi", 0);
    assert!(matches!(next(&mut listens).await, ChatEvent::Rejected(no) if no.reason() == ChatRejection::ReadOnly));
    server.stop().await;
}

#[tokio::test]
async fn bots_talk_all_they_can_and_the_match_is_as_it_would_be() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = chatty(|limits| limits.per_minute = 60_000.try_into().expect("not 0"));
    let config = ServerConfig { recordings: Some(directory.path().to_owned()), ..config };
    let server = TestServer::arena(config).await;
    let swarm = SwarmConfig {
        chat_per_minute: 1200,
        ..SwarmConfig::new(format!("http://{}", server.address), 4, Duration::from_secs(2))
    };
    let (report, failures) =
        spawn_blocking(move || run(&swarm, &SwarmHandle::default())).await.expect("no panic").expect("it starts");
    assert!(report.is_clean(), "{failures:?}");
    assert!(report.chat_sent > 20 && report.chat_received >= report.chat_sent, "{report:?}");
    assert_eq!((report.chat_rejected, report.chat_lost), (0, 0));
    let slips = server.probe.ticks()[0].1;
    server.stop().await;
    let [listed] = tickwire_recording::list(directory.path()).expect("it is there").try_into().expect("one recording");
    let recording = Recording::open(&listed.path).expect("it is a recording");
    let said = recording.chat().expect("it opens").count() as u64;
    assert!(said > 20 && said <= report.chat_sent, "{said} of {}", report.chat_sent);
    let verified = verify(&recording, Arc::new(Arena)).expect("it replays as it was");
    assert!(verified.ticks > 60, "{} ticks, {slips} slips", verified.ticks);
}
