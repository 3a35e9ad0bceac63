//! Several streams of one player: how they come, share, go, and come again, and who may not.

use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use tickwire_client::{Client, Event, JoinOptions, Resume, Stripes};
use tickwire_proto::v1::{self as pb, client_message::Kind};
use tickwire_server::{Limits, ServerConfig, Timeouts};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tonic::{Code, Status};

use crate::harness::{
    Cable, RawClient, TestServer, Witness, config, eventually, field_of, hello, input, reason_of, within_patience,
};

/// A hello that attaches.
fn with_token(token: &[u8]) -> pb::Hello {
    pb::Hello { attach_token: token.to_vec(), ..hello() }
}

async fn refusal(server: &TestServer, hello: pb::Hello) -> Status {
    RawClient::greet(server, hello).await.end().await.1
}

fn assert_refused(status: &Status, code: Code, reason: &str, field: &str) {
    let found = (status.code(), reason_of(status), field_of(status));
    assert_eq!(found, (code, reason.to_owned(), field.to_owned()), "{status:?}");
}

/// A player with so many streams.
struct Player {
    streams: Vec<RawClient>,
    token: Vec<u8>,
    player: u32,
}

impl Player {
    async fn join(server: &TestServer, streams: usize) -> Self {
        Self::join_with(server, hello(), streams).await
    }

    async fn join_with(server: &TestServer, hello: pb::Hello, streams: usize) -> Self {
        let mut first = RawClient::greet(server, hello).await;
        let welcome = first.welcome().await;
        let mut player = Self { streams: vec![first], token: welcome.attach_token, player: welcome.player };
        for _ in 1..streams {
            player.attach(server).await;
        }
        player
    }

    async fn attach(&mut self, server: &TestServer) {
        let mut stream = RawClient::greet(server, with_token(&self.token)).await;
        let welcome = stream.welcome().await;
        assert_eq!(welcome.player, self.player);
        assert!(welcome.schema.is_none() && welcome.attach_token.is_empty(), "once is enough");
        self.streams.push(stream);
    }

    /// Reads and acknowledges on all streams until `count` snapshots have come to each after all took their turns; the
    /// ticks by stream.
    async fn ticks(&mut self, count: usize) -> Vec<Vec<u64>> {
        let read = self.streams.iter_mut().map(|stream| async move {
            let mut ticks = Vec::new();
            let mut first = true;
            while ticks.len() < count + 8 {
                let snapshot = stream.snapshot().await;
                stream.ack(snapshot.tick).await;
                assert!(first || !snapshot.reset, "a stream was reset");
                first = false;
                ticks.push(snapshot.tick);
            }
            ticks
        });
        let mut ticks: Vec<Vec<u64>> = within_patience(futures_util::future::join_all(read)).await;
        // Before the last one had its first turn, they were fewer. And the first to be done acknowledges no more.
        let from = ticks.iter().map(|ticks| ticks[4]).max().expect("streams");
        let to = ticks.iter().map(|ticks| ticks[ticks.len() - 1]).min().expect("streams");
        ticks.iter_mut().for_each(|ticks| ticks.retain(|tick| (from..=to).contains(tick)));
        ticks
    }
}

#[tokio::test]
async fn streams_of_a_player_share_its_snapshots_in_strict_turn() {
    let server = TestServer::arena(config()).await;
    let mut player = Player::join(&server, 3).await;
    assert_eq!((server.probe.seats(), server.probe.streams()), (1, 3));
    let ticks = player.ticks(40).await;
    for (i, stream) in ticks.iter().enumerate() {
        assert!(stream.len() > 10, "stream {i} has {} of {ticks:?}", stream.len());
        // A machine that is too busy skips turns, but gives none away.
        let place = stream[0] % 3;
        assert!(stream.iter().all(|tick| tick % 3 == place), "stream {i}: {stream:?}");
    }
    let all: Vec<u64> = ticks.concat();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "a tick came twice");
    server.stop().await;
}

#[tokio::test]
async fn each_snapshot_goes_on_two_streams_where_that_is_wished_for() {
    let server = TestServer::arena(config()).await;
    let mut first = RawClient::greet(&server, pb::Hello { snapshot_copies: 9, ..hello() }).await;
    let welcome = first.welcome().await;
    assert_eq!(welcome.snapshot_copies, 2, "the most");
    let mut player = Player { streams: vec![first], token: welcome.attach_token, player: welcome.player };
    player.attach(&server).await;
    let [a, b] = <[Vec<u64>; 2]>::try_from(player.ticks(40).await).expect("two");
    let [a, b] = [a, b].map(BTreeSet::from_iter);
    let twice = a.intersection(&b).count();
    // On a busy machine a stream may miss a tick; on one each in turn there would be none.
    assert!(a.len() > 20 && twice * 2 > a.len(), "{twice} of {} and {}", a.len(), b.len());
    server.stop().await;
}

#[tokio::test]
async fn a_stream_that_is_lost_costs_the_others_nothing_and_another_takes_its_place() {
    let server = TestServer::arena(config()).await;
    let mut witness = Witness::join(&server).await;
    let mut player = Player::join(&server, 1).await;
    let cable = Cable::to(&server).await;
    let mut second = RawClient::open_on(cable.channel().await).await;
    second.send(Kind::Hello(with_token(&player.token))).await;
    second.welcome().await;
    player.streams.push(second);
    player.ticks(10).await;
    cable.cut();
    player.streams.pop();
    witness.plays_during(eventually("it is known to be lost", || server.probe.streams() == 2)).await;

    // The stream that is left has all turns, and was not reset; the seat was never in doubt.
    let alone = player.ticks(10).await;
    assert!(alone[0].windows(2).any(|pair| pair[1] == pair[0] + 1), "{alone:?}");
    assert_eq!(server.probe.seats(), 2);
    player.attach(&server).await;
    let ticks = player.ticks(20).await;
    assert!(ticks.iter().all(|ticks| ticks.len() > 3), "{ticks:?}");

    // The first one goes, too: the player stays by the one that was attached.
    player.streams.remove(0);
    witness.plays_during(eventually("the first is lost", || server.probe.streams() == 2)).await;
    assert_eq!(server.probe.seats(), 2);
    player.ticks(10).await;
    player.attach(&server).await;
    player.ticks(10).await;
    server.stop().await;
}

#[tokio::test]
async fn tokens_of_nobody_of_others_and_of_those_who_left_let_nobody_in() {
    let server = TestServer::arena(ServerConfig { sessions: 2.try_into().expect("not 0"), ..config() }).await;
    let mut player = Player::join(&server, 2).await;
    let token = player.token.clone();

    let mut wrong = token.clone();
    *wrong.last_mut().expect("it is long") ^= 1;
    for wrong in [wrong, vec![0], vec![7; 32], vec![0; 4000], token[1..].to_vec()] {
        let status = refusal(&server, with_token(&wrong)).await;
        assert_refused(&status, Code::Unauthenticated, "UNKNOWN_TOKEN", "hello.attach_token");
    }
    let elsewhere = pb::Hello { session: "sessions/arena-2".into(), ..with_token(&token) };
    assert_refused(&refusal(&server, elsewhere).await, Code::PermissionDenied, "OTHER_SESSION", "hello.session");
    let renamed = pb::Hello { player_name: "Eve".into(), ..with_token(&token) };
    let status = refusal(&server, renamed).await;
    assert_refused(&status, Code::InvalidArgument, "NOT_OF_STRIPE", "hello.player_name");
    let game = pb::Hello { game: "chess".into(), ..with_token(&token) };
    assert_refused(&refusal(&server, game).await, Code::FailedPrecondition, "OTHER_GAME", "hello.game");

    // One player's token leads to that player, whoever else is there.
    let other = Player::join(&server, 1).await;
    assert_ne!(other.token, token);
    player.attach(&server).await;
    player.attach(&server).await;
    let status = refusal(&server, with_token(&token)).await;
    assert_refused(&status, Code::ResourceExhausted, "STRIPES", "hello.attach_token");
    player.ticks(10).await;

    player.streams[2].send(Kind::Leave(pb::Leave {})).await;
    for stream in &mut player.streams {
        let (goodbye, status) = stream.end().await;
        assert_eq!(goodbye.expect("all are told").reason(), pb::GoodbyeReason::Left);
        assert_eq!(status.code(), Code::Ok);
    }
    drop(player);
    let status = refusal(&server, with_token(&token)).await;
    assert_refused(&status, Code::FailedPrecondition, "SEAT_ENDED", "hello.attach_token");
    assert_eq!(server.probe.seats(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_seat_whose_last_stream_is_lost_takes_no_more_streams() {
    let timeouts = Timeouts { grace: Duration::from_secs(60), ..config().timeouts };
    let server = TestServer::arena(ServerConfig { timeouts, ..config() }).await;
    let mut witness = Witness::join(&server).await;
    let player = Player::join(&server, 2).await;
    let token = player.token.clone();
    drop(player);
    witness.plays_during(eventually("both are lost", || server.probe.streams() == 1)).await;
    let status = refusal(&server, with_token(&token)).await;
    assert_refused(&status, Code::FailedPrecondition, "SEAT_ENDED", "hello.attach_token");
    assert_eq!(server.probe.seats(), 2, "the seat is kept for the grace period");
    server.stop().await;
}

#[tokio::test]
async fn a_server_may_allow_fewer_streams_or_no_more_than_one() {
    let limits = |stripes| Limits { stripes_max: NonZeroUsize::new(stripes).expect("not 0"), ..Limits::default() };
    let server = TestServer::arena(ServerConfig { limits: limits(2), ..config() }).await;
    let player = Player::join(&server, 2).await;
    let status = refusal(&server, with_token(&player.token)).await;
    assert_refused(&status, Code::ResourceExhausted, "STRIPES", "hello.attach_token");
    server.counts("STRIPES", 1).await;
    drop(player);
    server.stop().await;

    let server = TestServer::arena(ServerConfig { limits: limits(1), ..config() }).await;
    let mut client = RawClient::greet(&server, pb::Hello { snapshot_copies: 2, ..hello() }).await;
    let welcome = client.welcome().await;
    assert_eq!((welcome.max_stripes, welcome.snapshot_copies, welcome.attach_token.len()), (1, 1, 0));
    server.stop().await;
}

#[tokio::test]
async fn who_closes_one_of_several_streams_plays_on_and_with_the_last_one_leaves() {
    let server = TestServer::arena(config()).await;
    let mut player = Player::join(&server, 2).await;
    player.ticks(10).await;
    let end_of = async |RawClient { up, mut down }: RawClient| {
        drop(up);
        let mut goodbye = None;
        while let Some(message) = within_patience(down.message()).await.expect("a clean end has status OK") {
            if let Some(pb::server_message::Kind::Goodbye(message)) = message.kind {
                goodbye = Some(message.reason());
            }
        }
        goodbye
    };
    // The first stream is nothing special.
    assert_eq!(end_of(player.streams.remove(0)).await, Some(pb::GoodbyeReason::StripeClosed));
    assert_eq!(server.probe.seats(), 1);
    player.ticks(10).await;
    player.attach(&server).await;
    player.ticks(10).await;
    assert_eq!(end_of(player.streams.remove(1)).await, Some(pb::GoodbyeReason::StripeClosed));
    assert_eq!(end_of(player.streams.remove(0)).await, Some(pb::GoodbyeReason::Left));
    assert_eq!(server.probe.seats(), 0);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_that_breaks_a_rule_ends_alone_where_the_player_has_others() {
    let server = TestServer::arena(config()).await;
    let mut player = Player::join(&server, 2).await;
    player.ticks(10).await;
    player.streams[1].send(Kind::Hello(hello())).await;
    let (_, status) = player.streams[1].end().await;
    assert_eq!(reason_of(&status), "HELLO_TWICE");
    player.streams.pop();
    player.ticks(10).await;
    assert_eq!(server.probe.seats(), 1);
    player.streams[0].send(Kind::Hello(hello())).await;
    assert_eq!(reason_of(&player.streams[0].end().await.1), "HELLO_TWICE");
    eventually("the seat is free", || server.probe.seats() == 0).await;
    server.stop().await;
}

/// The first arrival counts, and the header of whichever stream's snapshot comes next says so.
#[tokio::test]
async fn an_input_that_comes_on_two_streams_counts_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = TestServer::arena(ServerConfig { recordings: Some(directory.path().to_owned()), ..config() }).await;
    let mut player = Player::join(&server, 2).await;
    let mut newest = player.ticks(10).await.concat().into_iter().max().expect("some");
    let (mut consumed, mut sequence) = ([0; 2], 0);
    while consumed.iter().any(|consumed| *consumed < 8) {
        // Both say the same, with what was said before.
        sequence += 4;
        let inputs: Vec<pb::Input> = (0..8).map(|i| input(sequence + i, newest + 2 + i)).collect();
        for stream in &player.streams {
            let inputs = inputs.clone();
            stream.send(Kind::Inputs(pb::Inputs { epoch: 0, newest_tick: 0, inputs })).await;
        }
        for (stream, consumed) in player.streams.iter_mut().zip(&mut consumed) {
            let snapshot = stream.snapshot().await;
            stream.ack(snapshot.tick).await;
            assert!(snapshot.received_input <= sequence + 7);
            newest = newest.max(snapshot.tick);
            *consumed = snapshot.consumed_input;
        }
    }
    server.stop().await;
    let file = std::fs::read_dir(directory.path()).expect("it is there").next().expect("one recording");
    let recording = tickwire_recording::Recording::open(file.expect("it is there").path()).expect("it is whole");
    let mut last = 0;
    for tick in recording.ticks().expect("readable").flatten() {
        for seat in tick.input.inputs.iter().filter(|seat| seat.sequence > 0) {
            assert!(seat.sequence > last, "input {} was consumed twice", seat.sequence);
            last = seat.sequence;
        }
    }
    assert!(last >= 8);
}

/// A stream that carries nothing any more is left out, is found in time, and displaces nobody.
#[tokio::test]
async fn a_stream_whose_cable_is_pulled_leaves_the_turns_to_the_others() {
    let unacknowledged = Duration::from_secs(2);
    let timeouts = Timeouts { unacknowledged, silence: unacknowledged, ..config().timeouts };
    let server = TestServer::arena(ServerConfig { timeouts, ..config() }).await;
    let mut player = Player::join(&server, 1).await;
    let cable = Cable::to(&server).await;
    let mut second = RawClient::open_on(cable.channel().await).await;
    second.send(Kind::Hello(with_token(&player.token))).await;
    second.welcome().await;
    player.streams.push(second);
    player.ticks(10).await;
    cable.pull();
    let second = player.streams.pop();
    // Half of the ticks come until it is given up, then all.
    let stream = &mut player.streams[0];
    let mut running = 0;
    let mut last = 0;
    stream
        .play_until(|snapshot| {
            assert!(!snapshot.reset);
            running = if snapshot.tick == last + 1 { running + 1 } else { 0 };
            last = snapshot.tick;
            running > 20
        })
        .await;
    let mut play = std::pin::pin!(stream.play_until(|_| false));
    tokio::select! {
        _ = &mut play => unreachable!("it is never as wanted"),
        () = eventually("it is found", || server.probe.streams() == 1) => {}
    }
    assert_eq!(server.probe.seats(), 1);
    drop(second);
    server.stop().await;
}

/// Wires a client's connections to the server, one line each, in the order in which they come.
pub(crate) struct Exchange {
    pub(crate) url: String,
    lines: Arc<Mutex<Vec<JoinHandle<()>>>>,
    accepting: JoinHandle<()>,
}

impl Exchange {
    pub(crate) async fn to(server: &TestServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let lines = Arc::<Mutex<Vec<JoinHandle<()>>>>::default();
        let (server, opened) = (server.address, Arc::clone(&lines));
        let accepting = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let line = tokio::spawn(async move {
                    let mut far = TcpStream::connect(server).await.expect("the server accepts");
                    // An error says that either side is gone.
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
                opened.lock().expect("nobody panics with it").push(line);
            }
        });
        Self { url, lines, accepting }
    }

    /// Takes no more connections, and cuts one.
    pub(crate) fn close(&self, line: usize) {
        self.accepting.abort();
        self.cut(line);
    }

    pub(crate) fn cut(&self, line: usize) {
        self.lines.lock().expect("nobody panics with it")[line].abort();
    }
}

/// Plays until something is so.
pub(crate) async fn play_until(client: &mut Client, mut is_so: impl FnMut(&Client) -> bool) {
    within_patience(async {
        while !is_so(client) {
            match client.next().await.expect("the client goes on") {
                Some(Event::Desync(error)) => panic!("the mirror differs: {error}"),
                Some(Event::InputDue(tick)) => client.set_input(&[(tick.0 % 100) as i32]).expect("in range"),
                Some(_) => {}
                None => panic!("the match ended"),
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_plays_on_whichever_of_its_connections_is_lost_and_opens_it_again() {
    let server = TestServer::arena(config()).await;
    let exchange = Exchange::to(&server).await;
    let options = JoinOptions { stripes: Stripes::Fixed(3), ..JoinOptions::default() };
    let mut client = Client::connect(&exchange.url, &options).await.expect("there is room");
    play_until(&mut client, |client| client.core().stripes_open() == 3).await;
    let hashes = client.stats().hash_checks;
    play_until(&mut client, |client| client.stats().hash_checks > hashes + 3).await;
    assert_eq!((server.probe.seats(), server.probe.streams()), (1, 3));

    // The first stream is the first connection; then one that was attached.
    for (lost, line) in [(1, 0), (2, 2)] {
        let snapshots = client.stats().snapshots;
        exchange.cut(line);
        play_until(&mut client, |client| client.stats().stripes_lost == lost && client.core().stripes_open() == 3)
            .await;
        assert!(client.stats().snapshots > snapshots, "the others went on");
        let hashes = client.stats().hash_checks;
        play_until(&mut client, |client| client.stats().hash_checks > hashes + 3).await;
    }
    let stats = client.stats();
    assert_eq!((stats.hash_mismatches, stats.resyncs, stats.snapshots_ignored, stats.stripes_opened), (0, 0, 0, 4));
    assert!(!stats.input_to_ack_us.is_empty() && stats.inputs_sent > 60);
    assert_eq!(server.probe.seats(), 1);
    client.leave().await.expect("the server says goodbye");
    drop(client);
    eventually("all streams are gone", || server.probe.streams() == 0).await;
    assert_eq!(server.probe.seats(), 0);
    exchange.accepting.abort();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_connections_are_all_lost_ends_where_it_is_not_to_resume() {
    let server = TestServer::arena(config()).await;
    let exchange = Exchange::to(&server).await;
    let stripes = Stripes::Fixed(2);
    let options = JoinOptions { stripes, snapshot_copies: 2, resume: Resume::OFF, ..JoinOptions::default() };
    let mut client = Client::connect(&exchange.url, &options).await.expect("there is room");
    play_until(&mut client, |client| client.core().stripes_open() == 2).await;
    exchange.close(0);
    exchange.cut(1);
    let error = within_patience(async {
        loop {
            if let Err(error) = client.next().await {
                return error;
            }
        }
    });
    assert_eq!(error.await.code(), Code::Unavailable);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_asks_for_no_more_connections_than_the_server_allows() {
    let limits = Limits { stripes_max: NonZeroUsize::new(2).expect("not 0"), ..Limits::default() };
    let server = TestServer::arena(ServerConfig { limits, ..config() }).await;
    let options = JoinOptions { stripes: Stripes::Fixed(4), ..JoinOptions::default() };
    let mut client = Client::connect(&format!("http://{}", server.address), &options).await.expect("there is room");
    play_until(&mut client, |client| client.core().stripes_open() == 2).await;
    play_until(&mut client, |client| client.stats().hash_checks > 4).await;
    assert_eq!((client.core().stripes_open(), client.stats().stripes_opened), (2, 1));
    client.leave().await.expect("the server says goodbye");
    server.stop().await;
}
