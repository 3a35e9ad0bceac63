//! Clients that do what no client may, beside bots that play: each gets what it is to get, and no bot can tell.

mod encrypted;
mod misbehaviours;

use std::{collections::BTreeMap, fs, num::NonZeroU32, path::Path, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tempfile::TempDir;
use tickwire_client::bots::{self, Report, SwarmConfig, SwarmHandle};
use tickwire_server::{Limits, Probe, ServerConfig, Timeouts};
use tokio::task::{JoinHandle, JoinSet};

use self::misbehaviours::{Misbehaviour, all};
use crate::harness::{TestServer, config, eventually};

const BOTS_FEW: usize = 6;
const BOTS_MANY: usize = 100;
const HOSTILE: usize = 50;
/// A recording that everybody may have.
const RECORDING: &str = "recordings/deathmatch-60hz";
const PAUSE: Duration = Duration::from_secs(1);

/// Patience that a test can wait out, and limits that it can exceed without much ado.
async fn server(patience: Duration) -> (Arc<TestServer>, TempDir) {
    let number = |number| NonZeroU32::new(number).expect("not 0");
    let timeouts = Timeouts {
        hello: Duration::from_secs(3),
        request: Duration::from_secs(4),
        silence: patience,
        unacknowledged: patience,
        keep_alive: Duration::from_secs(2),
        grace: Duration::from_millis(200),
        end: Duration::from_millis(500),
        ..config().timeouts
    };
    let limits = Limits {
        received_bytes_per_second_max: number(32 * 1024),
        received_bytes_burst_max: number(64 * 1024),
        control_frames_per_second_max: number(500),
        frames_per_second_max: number(2500),
        streams_per_connection_max: 4,
        joins_per_second_max: number(100_000),
        joins_burst_max: number(100_000),
        ..Limits::default()
    };
    let directory = tempfile::tempdir().expect("a directory");
    let file = Path::new(RECORDING).file_name().expect("it has one").to_str().expect("UTF-8").to_owned() + ".mcap";
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings").join(&file);
    fs::copy(golden, directory.path().join(file)).expect("there is room");
    let recordings = Some(directory.path().to_owned());
    let config = ServerConfig { timeouts, limits, recordings, recordings_public: true, ..config() };
    (Arc::new(TestServer::arena(config).await), directory)
}

/// Bots that play until they are told to stop, or for so long.
fn play(server: &TestServer, bots: usize, duration: Duration) -> (SwarmHandle, JoinHandle<Report>) {
    play_as(SwarmConfig::new(server.url(), bots, duration))
}

fn play_as(config: SwarmConfig) -> (SwarmHandle, JoinHandle<Report>) {
    let handle = SwarmHandle::default();
    let bots = tokio::task::spawn_blocking({
        let handle = handle.clone();
        move || bots::run(&config, &handle).expect("threads can be had").0
    });
    (handle, bots)
}

async fn stop(server: Arc<TestServer>) {
    Arc::into_inner(server).expect("all clients are gone").stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_each_misbehaviour_gets_what_it_is_to_get_and_bots_play_on() {
    assert!(all().count() >= HOSTILE);
    let (server, _recordings) = server(Duration::from_secs(4)).await;
    let (handle, bots) = play(&server, BOTS_FEW, Duration::from_secs(120));
    eventually("the bots play", || handle.playing() == BOTS_FEW as u64).await;

    let acts = all().map(async |it| (it, it.act(&server).await));
    let wrong: BTreeMap<_, _> = join_all(acts)
        .await
        .into_iter()
        .filter(|(it, verdict)| *verdict != it.expected())
        .map(|(it, verdict)| (it.name, (verdict, it.expected())))
        .collect();
    assert!(wrong.is_empty(), "what it came to, and what it was to come to: {wrong:#?}");
    let probe = &server.probe;
    eventually("nothing of them is left", || {
        (probe.connections(), probe.streams(), probe.seats()) == (BOTS_FEW, BOTS_FEW, BOTS_FEW as u32)
    })
    .await;
    assert_counted(probe);
    let snapshots = handle.snapshots();
    eventually("the bots play on", || handle.snapshots() > snapshots + 60 * BOTS_FEW as u64).await;

    handle.stop();
    let report = bots.await.expect("bots do not panic");
    assert!(report.is_clean() && report.resumes == 0, "{report:?}");
    assert!(report.hash_checks > 0);
    stop(server).await;
}

/// That each refusal was counted as what it is: those without a name of their own together.
fn assert_counted(probe: &Probe) {
    let (metrics, refusals) = (probe.metrics(), probe.refusals());
    let is_named = |reason| metrics.contains(&format!("tickwire_refusals_total{{reason=\"{reason}\"}}"));
    let mut expected = BTreeMap::<&str, u64>::new();
    for reason in all().filter_map(Misbehaviour::reason) {
        *expected.entry(if is_named(reason) { reason } else { "OTHER" }).or_default() += 1;
    }
    let missing: Vec<_> =
        expected.into_iter().filter(|(reason, times)| refusals.get(reason).is_none_or(|found| found < times)).collect();
    assert!(missing.is_empty(), "{missing:?} are not among {refusals:?}");
}

/// How bots did, for people.
fn figures(what: &str, report: &Report) -> String {
    let Report { snapshot_age_ms_p50, snapshot_age_ms_p99, stall_percent, hash_checks, hash_mismatches, .. } = report;
    format!(
        "{what}: age p50 {snapshot_age_ms_p50} ms, p99 {snapshot_age_ms_p99} ms, stalls {stall_percent} %, \
         input to ack p99 {} ms, snapshots {} of {}, hash checks {hash_checks}, mismatches {hash_mismatches}, \
         resets {}, failed {}",
        report.input_to_ack_ms_p99,
        report.snapshots_received,
        report.snapshots_expected,
        report.resyncs,
        report.bots_failed,
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half a minute, and prints what is to be compared: --release -- --ignored --nocapture hostile"]
async fn fifty_hostile_streams_beside_a_hundred_bots() {
    // A busy machine has no time for so many.
    let count = std::env::var("HOSTILE_BOTS").map_or(BOTS_MANY, |bots| bots.parse().expect("a number"));
    // Whatever the server's patience takes is within that, too.
    let (seconds, patience) = (Duration::from_secs(15), Timeouts::default().silence);
    let (quiet, _recordings) = server(patience).await;
    let (_, bots) = play(&quiet, count, seconds);
    let alone = bots.await.expect("bots do not panic");
    stop(quiet).await;

    let (server, _recordings) = server(patience).await;
    let (_, mut bots) = play(&server, count, seconds);
    let mut hostile = JoinSet::new();
    let again = |hostile: &mut JoinSet<_>, it: &'static Misbehaviour, pause: Duration| {
        let server = Arc::clone(&server);
        hostile.spawn(async move {
            tokio::time::sleep(pause).await;
            (it, it.act(&server).await)
        });
    };
    // One of each, spread over the pause after which whoever is done does it again: as many as there are, the machine is to
    // have time for bots and server.
    for (it, place) in all().zip(0..) {
        again(&mut hostile, it, PAUSE * place / all().count() as u32);
    }
    let (mut done, mut wrong) = (BTreeMap::<&str, usize>::new(), BTreeMap::new());
    let beside = loop {
        tokio::select! {
            report = &mut bots => break report.expect("bots do not panic"),
            Some(it) = hostile.join_next() => {
                let (it, verdict) = it.expect("no client panics");
                *done.entry(it.name).or_default() += 1;
                if verdict != it.expected() {
                    wrong.insert(it.name, (verdict, it.expected()));
                }
                again(&mut hostile, it, PAUSE);
            }
        }
    };
    hostile.shutdown().await;
    let refusals = server.probe.refusals();
    drop(server);
    for line in [figures("alone ", &alone), figures("beside", &beside)] {
        say(&line);
    }
    say(&format!("{} kinds, {} times: {done:?}", all().count(), done.values().sum::<usize>()));
    say(&format!("refusals: {refusals:?}"));
    assert!(wrong.is_empty(), "what it came to, and what it was to come to: {wrong:#?}");
    let never: Vec<_> = all().map(|it| it.name).filter(|name| !done.contains_key(name)).collect();
    assert!(never.is_empty(), "{never:?} did not come to their end");
    assert!(alone.is_clean() && beside.is_clean(), "{beside:?}");
    assert!(beside.hash_checks > 0);
}

/// For whoever runs an ignored test.
#[expect(clippy::print_stderr, reason = "it is what the test is for")]
fn say(line: &str) {
    eprintln!("{line}");
}
