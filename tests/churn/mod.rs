//! Clients that come and vanish leave nothing behind.

mod mixed;

use std::{fs, num::NonZeroU32, pin::pin, sync::Arc, time::Duration};

use tickwire_client::{Client, Event, JoinOptions};
use tickwire_proto::v1::client_message::Kind;
use tickwire_server::{ServerConfig, Timeouts};
use tickwire_shared::TickRate;
use tokio::{
    sync::{Barrier, Semaphore},
    task::JoinSet,
};

use crate::harness::{RawClient, TestServer, Witness, config, eventually, hello, open_field};

const JOINS: usize = 1000;
const AT_ONCE: usize = 50;
/// Each plays for so long before it is dropped.
const SNAPSHOTS: usize = 2;
/// Of those that are to play together, so many join at once.
const JOINING: usize = 200;
/// Of so many players who are gone the server knows that they have been, so that it can tell them; of older ones it does not.
const REMEMBERED: usize = 4096;
/// Of so many rounds memory is judged.
const LAST: usize = 15;
/// The allocator keeps a MiB now and then, and gives it back: over the last rounds that is a slope of so much for few clients,
/// too.
const NOISE_KIB_PER_ROUND: f64 = 100.0;

fn with_room() -> ServerConfig {
    ServerConfig {
        max_players: NonZeroU32::new(2048).expect("not 0"),
        timeouts: Timeouts { grace: Duration::from_millis(50), ..config().timeouts },
        ..open_field()
    }
}

/// A server whose clients have time for each other, however many there are.
async fn slow_server() -> Arc<TestServer> {
    let tick_rate = TickRate::new(4).expect("in range");
    Arc::new(TestServer::arena(ServerConfig { tick_rate, ..with_room() }).await)
}

/// Tasks, connections, streams and seats.
fn counts(server: &TestServer) -> (usize, usize, usize, u32) {
    let probe = &server.probe;
    (probe.tasks(), probe.connections(), probe.streams(), probe.seats())
}

#[tokio::test]
async fn after_a_thousand_abrupt_ends_tasks_sockets_and_seats_are_as_before() {
    let server = Arc::new(TestServer::arena(ServerConfig { settings: Vec::new(), ..with_room() }).await);
    let mut witness = Witness::join(&server).await;
    let before = counts(&server);

    let all_vanish = async {
        let mut vanishing = JoinSet::new();
        for i in 0..JOINS {
            if vanishing.len() == AT_ONCE {
                vanishing.join_next().await.expect("there are some").expect("no client panics");
            }
            let server = Arc::clone(&server);
            vanishing.spawn(async move { vanish(&server, i % 4).await });
        }
        while let Some(vanished) = vanishing.join_next().await {
            vanished.expect("no client panics");
        }
        eventually(&format!("tasks, connections, streams and seats are {before:?}"), || counts(&server) == before)
            .await;
    };
    witness.plays_during(all_vanish).await;

    let (_, welcome) = RawClient::join(&server).await;
    assert!(welcome.player as usize > JOINS / 2, "half of them had a seat");
    let server = Arc::into_inner(server).expect("all clients are gone");
    server.stop().await;
}

/// Drops stream and connection at one of four moments.
async fn vanish(server: &TestServer, moment: usize) {
    let mut client = RawClient::open(server).await;
    if moment == 0 {
        return;
    }
    client.send(Kind::Hello(hello())).await;
    if moment == 1 {
        return;
    }
    client.welcome().await;
    if moment == 2 {
        return;
    }
    let snapshot = client.snapshot().await;
    client.ack(snapshot.tick).await;
}

/// What a process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    files: usize,
    /// Resident memory, in KiB.
    memory_kib: u64,
}

/// That of this process, on Linux.
fn held() -> Option<Held> {
    let files = fs::read_dir("/proc/self/fd").ok()?.count();
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(Held { files, memory_kib: resident.trim().strip_suffix(" kB")?.parse().ok()? })
}

/// Has so many clients join and play, and when all do, drops them all; what this process holds when nothing of them is left.
async fn a_round(server: &Arc<TestServer>, clients: usize, before: (usize, usize, usize, u32)) -> Option<Held> {
    let all_play = Arc::new(Barrier::new(clients + 1));
    let joining = Arc::new(Semaphore::new(JOINING));
    let mut playing = JoinSet::new();
    for _ in 0..clients {
        let (url, all_play) = (format!("http://{}", server.address), Arc::clone(&all_play));
        let joining = Arc::clone(&joining);
        playing.spawn(async move {
            let turn = joining.acquire().await.expect("it is never closed");
            let options = JoinOptions { view_radius: 30.0, snapshots_per_second_max: 2, ..JoinOptions::default() };
            let mut client = Client::connect(&url, &options).await.expect("there is room");
            drop(turn);
            let mut snapshots = 0;
            while snapshots < SNAPSHOTS {
                let event = client.next().await.expect("the stream goes on");
                snapshots += usize::from(matches!(event, Some(Event::Snapshot(_))));
            }
            let mut others = pin!(all_play.wait());
            loop {
                tokio::select! {
                    _ = &mut others => break,
                    event = client.next() => drop(event.expect("the stream goes on")),
                }
            }
            // Until it is cut.
            while client.next().await.expect("the stream goes on").is_some() {}
        });
    }
    tokio::select! {
        _ = all_play.wait() => {}
        ended = playing.join_next() => panic!("a client has ended: {ended:?}"),
    }
    assert_eq!(server.probe.seats() as usize, clients);
    // Cut, without another byte.
    playing.shutdown().await;
    eventually(&format!("tasks, connections, streams and seats are {before:?}"), || counts(server) == before).await;
    held()
}

#[tokio::test(flavor = "multi_thread")]
async fn rounds_of_clients_that_play_and_are_cut_leave_no_file_open() {
    let server = slow_server().await;
    let before = counts(&server);
    for _ in 0..3 {
        a_round(&server, 60, before).await;
    }
    let server = Arc::into_inner(server).expect("all clients are gone");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes and 2,000 files, and prints what is held: --release -- --ignored --nocapture churn"]
async fn twenty_rounds_of_a_thousand_clients_leave_files_and_memory_as_they_were() {
    // A busy machine has no time for so many.
    let clients = std::env::var("CHURN_CLIENTS").map_or(JOINS, |clients| clients.parse().expect("a number"));
    let server = slow_server().await;
    let before = counts(&server);
    let mut rounds = Rounds::default();
    for _ in 0..REMEMBERED.div_ceil(clients) + LAST {
        rounds.note(a_round(&server, clients, before).await);
    }
    // Less than a quarter of a KiB of each client would stay.
    rounds.judge(clients as f64 / 4.0);
    let server = Arc::into_inner(server).expect("all clients are gone");
    server.stop().await;
}

/// What was held after each round.
#[derive(Default)]
struct Rounds(Vec<Held>);

impl Rounds {
    /// Notes what is held now.
    fn note(&mut self, held: Option<Held>) {
        let held = held.expect("it runs on Linux");
        self.0.push(held);
        say(&format!("round {:2}: {} files, {} KiB", self.0.len(), held.files, held.memory_kib));
    }

    /// That the last ones have left no file open, and less than so much memory each, or than what is noise.
    fn judge(&self, kib_per_round_max: f64) {
        let last = &self.0[self.0.len() - LAST..];
        let slope = slope(&last.iter().map(|held| held.memory_kib as f64).collect::<Vec<_>>());
        say(&format!("slope over the last {LAST} rounds: {slope:.1} KiB per round"));
        assert!(last.iter().all(|held| held.files == last[0].files), "{:?}", self.0);
        assert!(slope < kib_per_round_max.max(NOISE_KIB_PER_ROUND), "{slope} KiB per round: {:?}", self.0);
    }
}

/// By how much values rise from one to the next: the line of the least squares.
fn slope(values: &[f64]) -> f64 {
    let middle = (values.len() - 1) as f64 / 2.0;
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let (mut above, mut below) = (0.0, 0.0);
    for (place, value) in values.iter().enumerate() {
        let x = place as f64 - middle;
        above += x * (value - mean);
        below += x * x;
    }
    above / below
}

/// For whoever runs an ignored test.
#[expect(clippy::print_stderr, reason = "it is what the test is for")]
fn say(line: &str) {
    eprintln!("{line}");
}
