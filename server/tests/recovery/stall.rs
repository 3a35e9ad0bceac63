//! What a real disk that stalls costs a match: a file system that is frozen for three seconds under a server with bots.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tickwire_client::{Client, Event, JoinOptions};
use tickwire_proto::v1::{CreateSessionRequest, RecordingState, session_service_client::SessionServiceClient};
use tickwire_recording::{EndReason, Recording, RecordingState as FileState};
use tokio::time::sleep;

use crate::{
    program::{BINARY, files, unaware, verified},
    server::{ARENA_1, Listening, Server},
    swarm::{Swarm, tell},
};

const BOTS: usize = 200;
const STALL: Duration = Duration::from_secs(3);
/// For how long ticks are counted before the disk stalls, and after it.
const BESIDE: Duration = Duration::from_secs(5);
/// Room for the match, and for a copy of it.
const DISK_BYTES: u64 = 256 << 20;

/// Lives in a mount namespace of its own, in which the file system is mounted: with this shell all of it goes. It ends when it
/// hears nothing any more, however the test has ended, and leaves nothing frozen: that would stay so until the machine restarts.
const KEEPER: &str = r#"
trap '' INT TERM HUP
mkfs.ext4 -q "$1" && mount -o loop "$1" "$2" && echo mounted || exit 1
while read -r order; do
  fsfreeze "$order" "$2" && echo done
done
fsfreeze --unfreeze "$2" 2>/dev/null
"#;

/// A file system on a file.
struct Volume {
    keeper: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// Of the file, and where it is mounted.
    directory: TempDir,
}

impl Volume {
    /// None where this machine, or this user, cannot have one.
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let (image, place) = (directory.path().join("image"), directory.path().join("mounted"));
        fs::File::create(&image).and_then(|file| file.set_len(DISK_BYTES)).expect("there is room");
        fs::create_dir(&place).expect("there is room");
        let mut keeper = Command::new("unshare");
        keeper.args(["--mount", "sh", "-c", KEEPER, "keeper"]).arg(&image).arg(&place);
        // Where tools of administrators are.
        keeper.env("PATH", format!("{}:/usr/sbin:/sbin", env::var("PATH").unwrap_or_default()));
        let mut keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let (orders, answers) = (keeper.stdin.take(), keeper.stdout.take().expect("it is piped"));
        let mut this = Self { keeper, orders, answers: BufReader::new(answers), directory };
        (this.answer() == "mounted\n").then_some(this)
    }

    /// As the server sees it.
    fn place(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }

    /// A file of it, as seen from here.
    fn seen(&self, path: &Path) -> PathBuf {
        Path::new("/proc")
            .join(self.keeper.id().to_string())
            .join("root")
            .join(path.strip_prefix("/").expect("absolute"))
    }

    fn freeze(&mut self) -> Frozen<'_> {
        self.order("--freeze");
        Frozen(self)
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders.as_mut().expect("it is open"), "{order}").expect("it listens");
        assert_eq!(self.answer(), "done\n", "fsfreeze {order}");
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("UTF-8");
        line
    }

    /// A server that records there, and logs there, too.
    async fn server(&self, data: &Path) -> Listening {
        let mut command = unaware(Command::new("nsenter"));
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.keeper.id()));
        command.args(["sh", "-c", r#"log=$1; shift; exec "$@" 2>"$log""#, "server"]);
        command.arg(self.place().join("server.log")).arg(BINARY);
        Server::spawn_by(command, data, &["--listen", "127.0.0.1:0", "--keyframe-seconds", "1"]).listening().await
    }
}

/// A file system that takes nothing. Dropped, it does again: nobody can end a process that waits for it.
struct Frozen<'a>(&'a mut Volume);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.order("--unfreeze");
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // That is its sign to end.
        self.orders = None;
        let _ = self.keeper.wait();
    }
}

/// A moment of the match.
#[derive(Clone, Copy)]
struct Moment {
    tick: u64,
    overruns: u64,
    slips: u64,
}

async fn moment(server: &Listening) -> Moment {
    let session = server.session(ARENA_1).await;
    Moment { tick: session.tick, overruns: session.overruns, slips: session.slips }
}

fn between(before: Moment, after: Moment) -> Json {
    json!({
        "ticks": after.tick - before.tick,
        "overruns": after.overruns - before.overruns,
        "slips": after.slips - before.slips,
    })
}

/// The server's threads that wait for a disk, or for whatever else no signal ends.
fn waiting_for_a_disk(process: u32) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let states = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("stat")).ok());
    // Number, name in brackets, state.
    let waits = |stat: String| {
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        rest.starts_with('D').then(|| name.to_owned())
    };
    let mut names: Vec<String> = states.filter_map(waits).collect();
    names.sort();
    names
}

/// Somebody comes, and plays.
async fn come_and_play(url: &str) {
    let mut newcomer = Client::connect(url, &JoinOptions::default()).await.expect("there is room");
    let mut snapshots = 0;
    while snapshots < 10 {
        snapshots +=
            usize::from(matches!(newcomer.next().await.expect("the stream goes on"), Some(Event::Snapshot(_))));
    }
    newcomer.leave().await.expect("the server says goodbye");
}

/// `cargo test --release -p tickwire-server --test recovery -- --ignored --nocapture disk_stalls`, as root, in half a minute;
/// `STALL_BOTS=20` where the machine has no time for more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, a loop device and a quiet machine, and prints what a stalled disk costs"]
async fn two_hundred_bots_play_on_while_the_disk_stalls_for_three_seconds() {
    let bots = env::var("STALL_BOTS").map_or(BOTS, |bots| bots.parse().expect("a number"));
    let Some(mut volume) = Volume::mount() else {
        return tell(
            "stalled-disk",
            &json!("SKIPPED: no file system can be mounted from a file here, for the reason above"),
        );
    };
    let data = volume.place().join("data");
    let mut server = volume.server(&data).await;
    let url = format!("http://{}", server.address);
    let swarm = Swarm::start(&url, bots, 21);
    server.until(ARENA_1, |session| session.players as usize == bots).await;

    let began = moment(&server).await;
    sleep(BESIDE).await;
    let stalls = moment(&server).await;
    let stalled = volume.freeze();
    // All that there is for who plays goes on, but for what needs the disk itself, and that waits alone.
    let creating = tokio::spawn(create_session(server.channel.clone()));
    let frozen = Instant::now();
    come_and_play(&url).await;
    sleep(STALL.saturating_sub(frozen.elapsed())).await;
    let waiting = waiting_for_a_disk(server.server.id());
    let recording = server.session(ARENA_1).await.recording.expect("it is recorded");
    let was_created = creating.is_finished();
    drop(stalled);
    let ended = moment(&server).await;
    creating.await.expect("it does not panic");
    server
        .until(ARENA_1, |session| {
            session.recording.as_ref().is_some_and(|recording| recording.state() == RecordingState::Running)
        })
        .await;
    sleep(BESIDE).await;
    let last = moment(&server).await;

    let report = swarm.end();
    server.server.end();
    let files = files(&volume.seen(&data));
    let mut ticks = Vec::new();
    for file in &files {
        let summary = Recording::open(file).expect("a recording").scan();
        assert_eq!(summary.state, FileState::Complete(EndReason::Shutdown), "{}", file.display());
        assert_eq!(verified(file).ticks, summary.ticks);
        ticks.push(summary.ticks);
    }
    let told = json!({
        "before": between(began, stalls),
        "stalled": between(stalls, ended),
        "after": between(ended, last),
        "threads_waiting_for_the_disk": waiting,
        "recorder_lag_ticks": recording.lag_ticks,
        "recorder_lag_bytes": recording.lag_bytes,
        "ticks_recorded": ticks,
        "bots": report,
    });
    tell("stalled-disk", &told);
    assert_eq!((recording.state(), recording.problem.as_str()), (RecordingState::Behind, "the disk has stalled"));
    assert!(ended.tick - stalls.tick > recording.lag_ticks / 2 && recording.lag_ticks > 60, "{told}");
    assert!(!was_created && waiting.contains(&"tickwire-write".to_owned()), "the disk has stalled: {told}");
    let plays = |name: &String| name.starts_with("tickwire-sim") || name.starts_with("tickwire-net");
    assert!(!waiting.iter().any(plays), "{waiting:?}");
    assert_eq!((files.len(), report.bots_failed, report.hash_mismatches, report.resumes), (2, 0, 0, 0), "{told}");
    assert!(ticks[0].max(ticks[1]) >= last.tick, "{told}");
}

async fn create_session(channel: tonic::transport::Channel) {
    let request = CreateSessionRequest::default();
    SessionServiceClient::new(channel).create_session(request).await.expect("it is created in the end");
}
