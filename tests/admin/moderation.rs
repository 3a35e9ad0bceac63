//! Players who are looked at, taken out, kept out, and spoken to; and what is written down of it.

use std::{fs, net::IpAddr, sync::Arc, time::Duration};

use serde_json::Value as Json;
use tickwire_client::{Client, ClientError, Event, JoinOptions};
use tickwire_proto::v1::{self as pb, server_message::Kind};
use tokio::{net::TcpSocket, sync::Barrier};
use tonic::Code;

use super::administrator::{AdminClient, Administered};
use crate::chat::talker::Guest;
use crate::harness::{ARENA_1, RawClient, Witness, config, eventually, hello, reason_of, within_patience};

fn kick(player: u32, reason: &str) -> pb::KickRequest {
    pb::KickRequest { session: ARENA_1.into(), player, reason: reason.into() }
}

fn ban(network: &str) -> pb::BanRequest {
    let target = Some(pb::ban_request::Target::Network(network.into()));
    pb::BanRequest { target, reason: "cheats".into(), ..pb::BanRequest::default() }
}

async fn players(admin: &mut AdminClient) -> Vec<pb::Player> {
    let answer = admin.list_players(pb::ListPlayersRequest::default()).await.expect("it answers");
    answer.into_inner().players
}

/// The outcomes of all actions of this name.
fn audited(administered: &Administered, what: &str) -> Vec<String> {
    let log = fs::read_to_string(administered.data.path().join("audit.jsonl")).expect("it is there");
    let lines = log.lines().map(|line| serde_json::from_str::<Json>(line).expect("it is JSON"));
    lines.filter(|line| line["what"] == what).map(|line| line["outcome"].as_str().expect("text").to_owned()).collect()
}

/// A player who comes from another address of this machine.
async fn join_from(administered: &Administered, address: &str) -> Result<RawClient, tonic::transport::Error> {
    let local: IpAddr = address.parse().expect("an address");
    let channel = administered.server.endpoint().local_address(Some(local)).connect().await?;
    let mut client = RawClient::open_on(channel).await;
    client.send(pb::client_message::Kind::Hello(hello())).await;
    client.welcome().await;
    Ok(client)
}

#[tokio::test]
async fn players_are_listed_page_by_page_with_where_they_come_from_and_how_they_do() {
    let administered = Administered::arena(config()).await;
    let mut admin = administered.admin().await;
    let named = pb::Hello { player_name: "ada".into(), ..hello() };
    let mut first = RawClient::greet(&administered.server, named).await;
    first.welcome().await;
    let (mut second, _) = RawClient::join(&administered.server).await;
    first.play_until(|snapshot| snapshot.tick > 20).await;
    second.play_until(|snapshot| snapshot.tick > 20).await;

    let all = players(&mut admin).await;
    let [ada, other] = all.as_slice() else { panic!("{all:?} of two players") };
    assert_eq!((ada.session.as_str(), ada.player, ada.name.as_str()), (ARENA_1, 1, "ada"));
    assert_eq!((ada.status(), ada.streams, other.player), (pb::PlayerStatus::Connected, 1, 2));
    assert!(ada.address.starts_with("127.0.0.1:") && ada.address != other.address, "{ada:?} {other:?}");
    assert!(ada.round_trip.is_some() && ada.inputs_absent > 0, "{ada:?}");

    let page = pb::ListPlayersRequest { page_size: 1, ..pb::ListPlayersRequest::default() };
    let answer = admin.list_players(page.clone()).await.expect("it answers").into_inner();
    assert_eq!(answer.players.iter().map(|player| player.player).collect::<Vec<_>>(), [1]);
    let next = pb::ListPlayersRequest { page_token: answer.next_page_token, ..page };
    let answer = admin.list_players(next).await.expect("it answers").into_inner();
    assert_eq!((answer.players[0].player, answer.next_page_token.as_str()), (2, ""));
    administered.server.stop().await;
}

#[tokio::test]
async fn who_is_kicked_is_told_why_loses_the_seat_and_may_come_again() {
    let administered = Administered::arena(config()).await;
    let mut admin = administered.admin().await;
    let mut witness = Witness::join(&administered.server).await;
    let url = format!("http://{}", administered.server.address);
    let mut client = Client::connect(&url, &JoinOptions::default()).await.expect("there is a seat");
    let player = client.core().player().0;
    admin.kick(kick(player, "for swearing")).await.expect("they are there");

    // The client's library takes it for final.
    let told = within_patience(async {
        loop {
            match client.next().await {
                Ok(Some(Event::Goodbye { reason, text })) => break (reason, text),
                Ok(Some(_)) => {}
                other => panic!("{other:?} before the goodbye"),
            }
        }
    })
    .await;
    assert_eq!(told, (pb::GoodbyeReason::Kicked, "you were kicked: for swearing".into()));
    let error = within_patience(client.next()).await.expect_err("it is the end");
    let ClientError::Status(status) = &error else { panic!("{error}") };
    assert_eq!((status.code, status.reason.as_str()), (Code::PermissionDenied, "KICKED"));

    eventually("the seat is free", || administered.server.probe.seats() == 1).await;
    let status = admin.kick(kick(player, "")).await.expect_err("they are gone");
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::NotFound, "NOT_FOUND"));
    assert_eq!(audited(&administered, "Kick"), ["begun", "done", "begun", "failed"]);
    RawClient::join(&administered.server).await;
    witness.plays_on().await;
    administered.server.stop().await;
}

#[tokio::test]
async fn who_was_kicked_while_away_cannot_take_the_seat_back() {
    let administered = Administered::arena(config()).await;
    let mut admin = administered.admin().await;
    let (client, welcome) = RawClient::join(&administered.server).await;
    drop(client);
    eventually("the stream is gone", || administered.server.probe.streams() == 0).await;
    admin.kick(kick(welcome.player, "")).await.expect("the seat is kept");
    let resume = pb::Hello { resume_token: welcome.resume_token, ..hello() };
    let (_, status) = RawClient::greet(&administered.server, resume).await.end().await;
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::FailedPrecondition, "SEAT_ENDED"));
    administered.server.stop().await;
}

#[tokio::test]
async fn a_banned_network_is_out_for_as_long_as_it_is_banned_also_for_the_next_server() {
    let administered = Administered::arena(config()).await;
    let mut admin = administered.admin().await;
    let mut witness = Witness::join(&administered.server).await;
    let mut player = join_from(&administered, "127.0.0.2").await.expect("nobody is banned");
    let answer = admin.ban(ban("127.0.0.2/31")).await.expect("it is a network").into_inner();
    assert_eq!((answer.network.as_str(), answer.by.as_str()), ("127.0.0.2/31", "operator"));
    assert_eq!(answer.expire_time, None);

    let (goodbye, status) = player.end().await;
    assert_eq!(goodbye.expect("it says why").reason(), pb::GoodbyeReason::Banned);
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::PermissionDenied, "BANNED"));
    assert!(status.message().contains("cheats"), "{status}");
    eventually("the seat is free", || administered.server.probe.seats() == 1).await;
    eventually("the connection is closed", || administered.server.probe.connections() == 1).await;
    witness.plays_on().await;

    let Administered { server, data, .. } = administered;
    server.stop().await;
    let administered = Administered::start_in(data, config(), Arc::new(tickwire_arena::Arena)).await;
    let mut admin = administered.admin().await;
    let bans = admin.list_bans(pb::ListBansRequest::default()).await.expect("it answers").into_inner().bans;
    assert_eq!(bans, [answer]);
    let knocks = administered.server.endpoint().local_address(Some(IpAddr::from([127, 0, 0, 3])));
    // Whether the connection is made at all depends on who is faster.
    if let Ok(channel) = knocks.connect().await {
        let mut client = pb::session_service_client::SessionServiceClient::new(channel);
        client.list_sessions(pb::ListSessionsRequest::default()).await.expect_err("it is closed at once");
    }
    admin.unban(pb::UnbanRequest { network: "127.0.0.2/31".into() }).await.expect("it is banned");
    join_from(&administered, "127.0.0.3").await.expect("nobody is banned any more");
    administered.server.stop().await;
}

#[tokio::test]
async fn a_ban_that_comes_while_somebody_is_being_let_in_holds() {
    // A seat takes a tick, and nobody is cut off meanwhile.
    let tick_rate = tickwire_shared::TickRate::new(1).expect("in range");
    let timeouts = tickwire_server::Timeouts { end: Duration::from_secs(10), ..config().timeouts };
    let administered = Administered::arena(tickwire_server::ServerConfig { tick_rate, timeouts, ..config() }).await;
    let mut admin = administered.admin().await;
    let local = Some(IpAddr::from([127, 0, 0, 2]));
    let channel = administered.server.endpoint().local_address(local).connect().await.expect("nobody is banned");
    let mut client = RawClient::open_on(channel.clone()).await;
    client.send(pb::client_message::Kind::Hello(hello())).await;
    // What comes behind it has been read.
    let mut sessions = pb::session_service_client::SessionServiceClient::new(channel);
    sessions.list_sessions(pb::ListSessionsRequest::default()).await.expect("it is answered");
    admin.ban(ban("127.0.0.2")).await.expect("it is an address");

    let (_, status) = client.end().await;
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::PermissionDenied, "BANNED"));
    eventually("no seat is kept", || administered.server.probe.seats() == 0).await;
    drop((client, sessions));
    administered.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_that_comes_while_connections_do_leaves_none_of_them() {
    let timeouts = tickwire_server::Timeouts { hello: Duration::from_secs(3600), ..config().timeouts };
    let administered = Administered::arena(tickwire_server::ServerConfig { timeouts, ..config() }).await;
    let mut admin = administered.admin().await;
    for _ in 0..30 {
        let (server, begin) = (administered.server.address, Arc::new(Barrier::new(9)));
        let comers = (0..8).map(|_| {
            let begin = Arc::clone(&begin);
            tokio::spawn(async move {
                begin.wait().await;
                let mut open = Vec::new();
                for _ in 0..8 {
                    let socket = TcpSocket::new_v4().expect("a socket");
                    socket.bind(([127, 0, 0, 2], 0).into()).expect("a port is free");
                    open.push(socket.connect(server).await.expect("it listens"));
                }
                open
            })
        });
        let comers: Vec<_> = comers.collect();
        begin.wait().await;
        admin.ban(ban("127.0.0.2")).await.expect("it is an address");
        let mut open = Vec::new();
        for comer in comers {
            open.push(comer.await.expect("it does not panic"));
        }
        eventually("all are closed", || administered.server.probe.connections() == 0).await;
        admin.unban(pb::UnbanRequest { network: "127.0.0.2".into() }).await.expect("it is banned");
    }
    administered.server.stop().await;
}

#[tokio::test]
async fn a_ban_of_a_player_is_one_of_where_they_come_from_and_wrong_ones_are_refused() {
    let administered = Administered::arena(config()).await;
    let mut admin = administered.admin().await;
    let mut player = join_from(&administered, "127.0.0.2").await.expect("nobody is banned");
    let of = pb::PlayerReference { session: ARENA_1.into(), player: 1 };
    let duration = Some(prost_types::Duration { seconds: 3600, nanos: 0 });
    let request = pb::BanRequest { target: Some(pb::ban_request::Target::Player(of)), duration, reason: String::new() };
    let answer = admin.ban(request.clone()).await.expect("they are there").into_inner();
    assert_eq!((answer.network.as_str(), answer.expire_time.is_some()), ("127.0.0.2/32", true));
    assert_eq!(player.end().await.0.expect("it says why").reason(), pb::GoodbyeReason::Banned);

    let no_time = pb::BanRequest { duration: Some(prost_types::Duration::default()), ..ban("192.0.2.7") };
    for (request, word) in [
        (ban("192.0.2.7/33"), "network"),
        (ban("example.org"), "network"),
        (no_time, "duration"),
        (pb::BanRequest { reason: "a\nb".into(), ..ban("192.0.2.7") }, "reason"),
        (pb::BanRequest { target: None, ..request }, "target"),
    ] {
        let status = admin.ban(request).await.expect_err("it makes no sense");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(word), "{status}");
    }
    administered.server.stop().await;
}

#[tokio::test]
async fn what_is_said_reaches_who_is_there_and_nobody_later() {
    let administered = Administered::arena(config()).await;
    let mut admin = administered.admin().await;
    let (mut client, _) = RawClient::join(&administered.server).await;
    for (session, text) in [("", "to all"), (ARENA_1, "to these")] {
        let request = pb::BroadcastRequest { session: session.into(), text: text.into() };
        admin.broadcast(request).await.expect("there is something to say");
        let notice = loop {
            match client.next().await.expect("the stream goes on") {
                Kind::Notice(notice) => break notice,
                Kind::Snapshot(snapshot) => client.ack(snapshot.tick).await,
                _ => {}
            }
        };
        assert_eq!((notice.kind(), notice.text.as_str()), (pb::NoticeKind::Announcement, text));
    }
    let (mut later, _) = RawClient::join(&administered.server).await;
    for _ in 0..5 {
        let next = later.next().await.expect("the stream goes on");
        assert!(!matches!(next, Kind::Notice(_)), "{next:?}");
        if let Kind::Snapshot(snapshot) = next {
            later.ack(snapshot.tick).await;
        }
    }
    let status = admin.broadcast(pb::BroadcastRequest::default()).await.expect_err("there is nothing to say");
    assert_eq!(status.code(), Code::InvalidArgument);
    let turned = pb::BroadcastRequest { session: String::new(), text: "a\u{202e}b".into() };
    let status = admin.broadcast(turned).await.expect_err("it reads otherwise than it is");
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::InvalidArgument, "OUT_OF_RANGE"));
    assert!(status.message().contains("text: U+202E is a control character, or nobody sees it"), "{status:?}");
    administered.server.stop().await;
}

#[tokio::test]
async fn each_role_may_what_it_may_and_denied_attempts_are_written_down() {
    let data = tempfile::tempdir().expect("a directory");
    let token = |role: &str| format!("{role}-0123456789abcdef0123");
    let entry = |role: &str| format!("[[token]]\nname = \"{role}\"\nrole = \"{role}\"\ntoken = \"{}\"\n", token(role));
    let roles = ["observer", "moderator", "operator"];
    fs::write(data.path().join("tokens.toml"), roles.map(entry).concat()).expect("it can be written");
    let administered = Administered::start_in(data, config(), Arc::new(tickwire_arena::Arena)).await;
    assert!(!administered.data.path().join("admin.token").exists(), "none is made beside those of the file");

    let mut codes = Vec::new();
    for role in roles {
        let mut admin = administered.admin_with(Some(token(role))).await;
        let code = |result: Result<(), tonic::Status>| result.map_or_else(|status| status.code(), |()| Code::Ok);
        let say = pb::BroadcastRequest { session: String::new(), text: "hello".into() };
        let pause = pb::PauseRequest { session: ARENA_1.into() };
        codes.push([
            code(admin.list_players(pb::ListPlayersRequest::default()).await.map(drop)),
            code(admin.broadcast(say).await.map(drop)),
            code(admin.pause(pause).await.map(drop)),
        ]);
    }
    let (ok, denied) = (Code::Ok, Code::PermissionDenied);
    assert_eq!(codes, [[ok, denied, denied], [ok, ok, denied], [ok, ok, ok]]);
    assert_eq!(audited(&administered, "Broadcast"), ["denied", "begun", "done", "begun", "done"]);
    assert_eq!(audited(&administered, "Pause"), ["denied", "denied", "begun", "done"]);
    assert_eq!(audited(&administered, "ListPlayers"), [""; 0]);
    administered.server.stop().await;
}

#[tokio::test]
async fn who_is_muted_is_not_heard_until_they_may_talk_again() {
    use pb::chat_message::Kind;
    let administered = Administered::arena(config()).await;
    let mut admin = administered.admin().await;
    let mut ada = Guest::join(&administered.server, hello()).await;
    let mute = |player| pb::MuteRequest { session: ARENA_1.into(), player, duration: None };
    admin.mute(mute(1)).await.expect("she is there");
    let silence = |silenced| Kind::Silence(pb::ChatSilence { silenced, until: None });
    assert_eq!(ada.talker.next().await.expect("she is told"), silence(true));
    ada.talker.say("what?").await;
    assert_eq!(ada.talker.rejection().await, pb::ChatRejection::Silenced);
    admin.unmute(pb::UnmuteRequest { session: ARENA_1.into(), player: 1 }).await.expect("she is there");
    assert_eq!(ada.talker.next().await.expect("she is told"), silence(false));
    ada.talker.say("at last").await;
    assert_eq!(ada.talker.line().await.text, "at last");
    let status = admin.mute(mute(2)).await.expect_err("nobody sits there");
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::NotFound, "NOT_FOUND"));
    assert_eq!(audited(&administered, "Mute"), ["begun", "done", "begun", "failed"]);
    administered.server.stop().await;
}

#[tokio::test]
async fn who_is_kicked_while_the_session_stands_still_is_out_of_its_chat_at_once() {
    let administered = Administered::arena(config()).await;
    let mut admin = administered.admin().await;
    let mut ada = Guest::join(&administered.server, hello()).await;
    admin.pause(pb::PauseRequest { session: ARENA_1.into() }).await.expect("it runs");
    admin.kick(kick(1, "")).await.expect("she is there");
    assert_eq!(ada.play.end().await.0.expect("it says why").reason(), pb::GoodbyeReason::Kicked);
    assert_ne!(ada.talker.end().await.code(), Code::Ok);
    administered.server.stop().await;
}

#[tokio::test]
async fn the_log_of_a_program_around_the_server_is_not_the_admins() {
    let administered = Administered::arena(config()).await;
    let mut admin = administered.admin().await;
    let filter = |filter: &str| pb::SetLogFilterRequest { filter: filter.into() };
    let status = admin.set_log_filter(filter("debug")).await.expect_err("it is not the server's");
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::FailedPrecondition, "OTHER_LOG"));
    let status = admin.set_log_filter(filter("tickwire_server=loud")).await.expect_err("it is no filter");
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::InvalidArgument, "OUT_OF_RANGE"));
    administered.server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_written_down_is_not_done() {
    let data = tempfile::tempdir().expect("a directory");
    fs::create_dir(data.path().join("audit.jsonl")).expect("it is in the way");
    let administered = Administered::start_in(data, config(), Arc::new(tickwire_arena::Arena)).await;
    let mut admin = administered.admin().await;
    let mut witness = Witness::join(&administered.server).await;
    let status = admin.kick(kick(1, "")).await.expect_err("it cannot be written down");
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::Unavailable, "AUDIT_LOG"));
    witness.plays_on().await;
    assert_eq!(players(&mut admin).await.len(), 1, "what is only read is not written down");
    administered.server.stop().await;
}
