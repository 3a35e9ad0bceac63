//! Players who talk and spectators, over TLS and by tickets, beside a recording: those that vanish leave nothing behind either.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use tempfile::TempDir;
use tickwire_arena::Arena;
use tickwire_proto::v1::{
    self as pb, JoinSessionRequest, chat_message::Kind, join_session_request::Target,
    session_service_client::SessionServiceClient,
};
use tickwire_recording::{Recording, finished_path, verify};
use tickwire_server::Timeouts;
use tickwire_ticket::{Role, Secret};
use tokio::{
    sync::{Barrier, Semaphore},
    task::JoinSet,
};

use super::{JOINING, LAST, REMEMBERED, Rounds, counts, held};
use crate::{
    chat::talker::Talker,
    harness::{ARENA_1, RawClient, eventually, patient, within_patience},
    identity::{API_KEY, Gate, bearing, with_ticket},
    tls::self_signed,
    watch::spectator::{Spectator, watch_request},
};

const ROUNDS: usize = 3;
const FEW: Crowd = Crowd { players: 10, spectators: 5 };
const MANY: Crowd = Crowd { players: 250, spectators: 50 };
/// Each plays, or watches, for so long before it vanishes.
const SNAPSHOTS: usize = 3;

/// Who comes in a round, with a chat each. The first spectator is in the past.
#[derive(Clone, Copy)]
struct Crowd {
    players: usize,
    spectators: usize,
}

/// A server that records, and where.
struct Venue {
    gate: Arc<Gate>,
    before: (usize, usize, usize, u32),
    recordings: TempDir,
    _certificates: TempDir,
}

#[tokio::test(flavor = "multi_thread")]
async fn rounds_of_players_who_talk_and_of_spectators_leave_nothing_behind() {
    let venue = Venue::open().await;
    for _ in 0..ROUNDS {
        venue.a_round(FEW).await;
    }
    let (recording, _recordings) = venue.close().await;
    let players = ROUNDS * FEW.players;
    assert_eq!(recording.chat().expect("it opens").count(), players, "each has said one line");
    assert!(verify(&recording, Arc::new(Arena)).expect("it replays").ticks > 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes and 2,000 files, and prints what is held: --release -- --ignored --nocapture churn"]
async fn rounds_of_hundreds_who_play_talk_and_watch_leave_files_and_memory_as_they_were() {
    // A busy machine has no time for so many.
    let players = std::env::var("CHURN_CLIENTS").map_or(MANY.players, |players| players.parse().expect("a number"));
    let venue = Venue::open().await;
    let mut rounds = Rounds::default();
    for _ in 0..REMEMBERED.div_ceil(players) + LAST {
        // One who does not come, beside those who do.
        reserve(&venue.gate).await;
        venue.a_round(Crowd { players, ..MANY }).await;
        rounds.note(held());
    }
    // Less than a KiB of each client would stay. In that are the recording's index, which grows with its length, and used
    // tickets, which are kept in mind until they expire.
    rounds.judge((players + MANY.spectators) as f64);
    eventually("no seat is kept for anybody", || venue.gate.server.probe.seats_reserved() == 0).await;
    venue.close().await;
}

impl Venue {
    async fn open() -> Self {
        let directory = || tempfile::tempdir().expect("a directory");
        let (certificates, recordings) = (directory(), directory());
        let gate = Gate::with(|config| {
            config.tls = Some(self_signed(certificates.path()));
            config.recordings = Some(recordings.path().to_owned());
            config.max_players = NonZeroU32::new(2048).expect("not 0");
            config.timeouts = Timeouts { grace: Duration::from_millis(50), ..patient() };
        });
        let gate = Arc::new(gate.await);
        eventually("there is a past", || gate.server.probe.ticks()[0].0 > 10).await;
        Self { before: counts(&gate.server), gate, recordings, _certificates: certificates }
    }

    /// Ends the server: what it has recorded.
    async fn close(self) -> (Recording, TempDir) {
        let Self { gate, before, recordings, .. } = self;
        assert_eq!(counts(&gate.server), before);
        let Gate { server, directory: _directory, .. } = Arc::into_inner(gate).expect("all clients are gone");
        let live = server.recordings[0].file_name().and_then(|name| name.to_str()).expect("it is recorded").to_owned();
        server.stop().await;
        let file = finished_path(recordings.path(), live.strip_suffix(".live.mcap").expect("it is live"));
        (Recording::open(&file).expect("it is closed"), recordings)
    }

    /// Has all of them come, and when all are there, drops them.
    async fn a_round(&self, crowd: Crowd) {
        let Self { gate, before, .. } = self;
        let joining = Arc::new(Semaphore::new(JOINING));
        let all_there = Arc::new(Barrier::new(crowd.players + crowd.spectators + 1));
        let mut there = JoinSet::new();
        for number in 0..crowd.players {
            let (gate, there_too) = (Arc::clone(gate), (Arc::clone(&joining), Arc::clone(&all_there)));
            there.spawn(async move { stay(play(&gate, number), there_too).await });
        }
        for number in 0..crowd.spectators {
            let (gate, there_too) = (Arc::clone(gate), (Arc::clone(&joining), Arc::clone(&all_there)));
            there.spawn(async move { stay(watch(&gate, number), there_too).await });
        }
        tokio::select! {
            _ = all_there.wait() => {}
            ended = there.join_next() => panic!("a client has ended: {ended:?}"),
        }
        let probe = &gate.server.probe;
        assert_eq!(probe.seats() as usize, crowd.players);
        there.shutdown().await;
        let gone = || counts(&gate.server) == *before;
        eventually(&format!("tasks, connections, streams and seats are {before:?}"), gone).await;
    }
}

/// A ticket for a seat that is kept.
async fn reserve(gate: &Gate) -> Secret {
    let request = JoinSessionRequest { target: Some(Target::Name(ARENA_1.into())), ..JoinSessionRequest::default() };
    let request = bearing(request, &format!("Bearer {API_KEY}"));
    let mut sessions = SessionServiceClient::new(gate.server.channel().await);
    Secret::from(within_patience(sessions.join_session(request)).await.expect("there is room").into_inner().ticket)
}

/// Comes when there is a turn, and stays until it is dropped.
async fn stay<T>(comes: impl Future<Output = T>, (joining, all_there): (Arc<Semaphore>, Arc<Barrier>)) {
    let turn = joining.acquire().await.expect("it is never closed");
    let _open = comes.await;
    drop(turn);
    all_there.wait().await;
    std::future::pending::<()>().await;
}

/// Somebody who plays and talks.
async fn play(gate: &Gate, number: usize) -> (RawClient, Talker) {
    let ticket = if number.is_multiple_of(2) { gate.ticket(|_| {}) } else { reserve(gate).await };
    let mut client = RawClient::greet(&gate.server, with_ticket(&ticket)).await;
    let welcome = client.welcome().await;
    let (mut talker, _) = Talker::enter(&gate.server, welcome.chat_token).await;
    let said = format!("player {} is here", welcome.player);
    talker.say(&said).await;
    loop {
        match talker.next().await.expect("the stream goes on") {
            Kind::Line(line) if line.text == said => break,
            // Where many talk at once, it may be among these.
            Kind::Dropped(_) => break,
            _ => {}
        }
    }
    for _ in 0..SNAPSHOTS {
        let snapshot = client.snapshot().await;
        client.ack(snapshot.tick).await;
    }
    (client, talker)
}

/// Somebody who watches and listens.
async fn watch(gate: &Gate, number: usize) -> (Spectator, Talker) {
    let ticket = gate.ticket(|claims| claims.role = Role::Spectator);
    let from_tick = u64::from(number == 0);
    let request = pb::WatchRequest { hello: Some(with_ticket(&ticket)), from_tick, ..watch_request() };
    let mut spectator = Spectator::watch(&gate.server, request).await.expect("there is room");
    let hello = pb::ChatHello { stream_token: spectator.welcome.stream_token.clone(), ..pb::ChatHello::default() };
    let mut talker = Talker::greet(&gate.server, hello).await;
    talker.welcome().await;
    spectator.snapshots(SNAPSHOTS).await;
    (spectator, talker)
}
