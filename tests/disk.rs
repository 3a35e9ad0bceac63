//! Disks that stall, fill up and may not be written to any more: matches go on, and all who ask are told.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tickwire_arena::Arena;
use tickwire_client::{
    Client, Event, JoinOptions,
    bots::{Behaviour, Moment, Role},
};
use tickwire_proto::v1::{
    GetSessionRequest, RecordingState, RecordingStatus, session_service_client::SessionServiceClient,
};
use tickwire_recording::{
    Disk, EndReason, FileSystem, Recording, RecordingState as FileState, Storage, finished_path, verify,
};
use tickwire_server::{ServerConfig, Timeouts};
use tokio::task::JoinHandle;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::harness::{ARENA_1, Health, RawClient, TestServer, Witness, config, eventually};

/// What is wrong with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// What it is asked for is not answered.
    Stalls,
    /// No file grows beyond what it has had.
    Full,
    /// Nothing may be written.
    Forbidden,
    /// Nobody may see what files there are; those that are open can be written.
    Hidden,
}

/// The file system, with a trouble or without.
#[derive(Debug, Default)]
struct Troubled {
    trouble: Mutex<Option<Trouble>>,
    ended: Condvar,
}

/// Its end is the trouble's.
struct InTrouble(Arc<Troubled>);

impl Troubled {
    fn begin(self: &Arc<Self>, trouble: Trouble) -> InTrouble {
        *self.lock() = Some(trouble);
        InTrouble(Arc::clone(self))
    }

    /// Whether something may be done; whether files may grow by it.
    fn change(&self) -> io::Result<bool> {
        match self.wait() {
            Some(Trouble::Forbidden) => Err(io::ErrorKind::PermissionDenied.into()),
            trouble => Ok(trouble != Some(Trouble::Full)),
        }
    }

    /// Waits for as long as it stalls.
    fn wait(&self) -> Option<Trouble> {
        *self.ended.wait_while(self.lock(), |trouble| *trouble == Some(Trouble::Stalls)).expect("sound")
    }

    fn lock(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().expect("sound")
    }
}

impl Drop for InTrouble {
    fn drop(&mut self) {
        *self.0.lock() = None;
        self.0.ended.notify_all();
    }
}

/// As a server has it.
#[derive(Debug)]
struct Mounted(Arc<Troubled>);

#[derive(Debug)]
struct TroubledFile {
    on: Arc<Troubled>,
    file: Arc<dyn Disk>,
    /// The most bytes that it has had: it may always have them again.
    most: AtomicU64,
}

impl Mounted {
    fn file(&self, open: impl FnOnce() -> io::Result<Arc<dyn Disk>>) -> io::Result<Arc<dyn Disk>> {
        self.0.change()?;
        Ok(Arc::new(TroubledFile { on: Arc::clone(&self.0), file: open()?, most: AtomicU64::new(0) }))
    }
}

impl Storage for Mounted {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        self.file(|| FileSystem.create(path))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        self.file(|| FileSystem.open(path))
    }

    fn create_partial(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        self.file(|| FileSystem.create_partial(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.change().and_then(|_| FileSystem.rename(from, to))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.change().and_then(|_| FileSystem.rename_new(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.change().and_then(|_| FileSystem.remove(path))
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.0.change().and_then(|_| FileSystem.sync_directory(directory))
    }
}

impl Disk for TroubledFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let room = if self.on.change()? { u64::MAX } else { self.most.load(Ordering::Relaxed).saturating_sub(offset) };
        let bytes = &bytes[..bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        if bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = self.file.write_at(offset, bytes)?;
        self.most.fetch_max(offset + written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn sync(&self) -> io::Result<()> {
        self.on.change().and_then(|_| self.file.sync())
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.on.change().and_then(|_| self.file.cut(length))
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        match self.on.wait() {
            Some(Trouble::Hidden) => Err(io::ErrorKind::PermissionDenied.into()),
            _ => self.file.is_at(path),
        }
    }
}

/// A match of a few players that is recorded to a disk with troubles.
struct Match {
    server: TestServer,
    disk: Arc<Troubled>,
    directory: tempfile::TempDir,
    /// Of recordings.
    health: Health,
    players: Vec<JoinHandle<()>>,
    witness: Witness,
}

impl Match {
    /// Recordings stop when the disk has taken nothing for so long.
    async fn start(patience: Duration) -> Self {
        let (disk, directory) = (Arc::<Troubled>::default(), tempfile::tempdir().expect("a directory"));
        let server = TestServer::arena(ServerConfig {
            recordings: Some(directory.path().to_owned()),
            storage: Arc::new(Mounted(Arc::clone(&disk))),
            timeouts: Timeouts { disk: patience, ..config().timeouts },
            ..config()
        })
        .await;
        let players = (0..4).map(|seed| play(&server, seed)).collect();
        let witness = Witness::join(&server).await;
        let health = server.health("tickwire.recording").await;
        let mut this = Self { server, disk, directory, health, players, witness };
        eventually("all have a seat", || this.server.probe.seats() == 5).await;
        this.until_health(ServingStatus::Serving).await;
        assert_eq!(this.recording().await.state(), RecordingState::Running);
        this
    }

    /// What is told now. Neither this nor anything that a player does waits for the disk.
    async fn recording(&self) -> RecordingStatus {
        let mut sessions = SessionServiceClient::new(self.server.channel().await);
        let session = sessions.get_session(GetSessionRequest { name: ARENA_1.into() }).await.expect("it is there");
        session.into_inner().recording.expect("it is recorded")
    }

    async fn until_health(&mut self, wanted: ServingStatus) {
        while self.health.next().await != wanted {}
    }

    /// Waits until the recording's state is told as it should be.
    async fn until_recording(&self, state: RecordingState) -> RecordingStatus {
        loop {
            let recording = self.recording().await;
            if recording.state() == state {
                return recording;
            }
            assert_ne!(recording.state(), RecordingState::Stopped, "{recording:?}");
        }
    }

    fn tick(&self) -> u64 {
        self.server.probe.ticks()[0].0
    }

    /// Has the match go on by so many ticks, in which a player's inputs are consumed.
    async fn goes_on(&mut self, ticks: u64) {
        let until = self.tick() + ticks;
        while self.tick() < until {
            self.witness.plays_on().await;
        }
    }

    /// What a metric says; with labels, those that it has beside the game's.
    fn metric(&self, name: &str, label: &str) -> f64 {
        let metrics = self.server.probe.metrics();
        let prefix = format!("{name}{{game=\"arena\",{label}}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&prefix)).expect("it is told of");
        value.parse().expect("a number")
    }

    /// Ends it: the file that there is then.
    async fn end(self) -> (PathBuf, tempfile::TempDir) {
        let live = self.server.recordings[0].file_name().and_then(|name| name.to_str()).expect("it is recorded");
        let name = live.strip_suffix(".live.mcap").expect("it is live").to_owned();
        for player in &self.players {
            assert!(!player.is_finished(), "nobody's stream has ended, and no mirror differed");
            player.abort();
        }
        self.server.stop().await;
        (finished_path(self.directory.path(), &name), self.directory)
    }
}

/// Somebody who does anything, each tick, and holds exactly what the server says.
fn play(server: &TestServer, seed: u64) -> JoinHandle<()> {
    let url = server.url();
    tokio::spawn(async move {
        let mut client = Client::connect(&url, &JoinOptions::default()).await.expect("there is room");
        let mut mind = Behaviour::new(&Role::Chaos, client.core().schema(), seed);
        let mut input = client.core().schema().neutral_input();
        while let Some(event) = client.next().await.expect("the stream goes on") {
            match event {
                Event::InputDue(tick) => {
                    mind.choose(&Moment { tick, rate: client.core().tick_rate(), mirror: client.mirror() }, &mut input);
                    client.set_input(&input).expect("minds stay within the ranges");
                }
                Event::Desync(error) => panic!("the mirror differs: {error}"),
                _ => {}
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_stalls_fills_up_and_is_forbidden_for_a_while_costs_nobody_a_tick_and_the_recording_nothing() {
    // Longer than any trouble here lasts.
    let mut played = Match::start(Duration::from_secs(600)).await;
    for (trouble, problem) in [
        (Trouble::Stalls, "the disk has stalled"),
        (Trouble::Full, "writing failed: no storage space"),
        // Neither can be written nor synced.
        (Trouble::Forbidden, "ing failed: permission denied"),
    ] {
        let ended = played.disk.begin(trouble);
        // A tick that waited for the disk would wait for ever: the trouble ends when ticks have gone by.
        played.goes_on(90).await;
        played.until_health(ServingStatus::NotServing).await;
        let told = played.until_recording(RecordingState::Behind).await;
        assert!(told.problem.ends_with(problem), "{trouble:?}: {told:?}");
        assert!(told.lag_ticks > 60 && told.lag_bytes > 0, "{trouble:?}: {told:?}");
        assert!(played.metric("tickwire_recorder_lag_ticks", r#"session="arena-1""#) > 60.0);
        assert_eq!(played.metric("tickwire_recorders", r#"state="behind""#), 1.0);
        assert_eq!(played.server.health("").await.next().await, ServingStatus::Serving, "{trouble:?}");
        // Somebody else may come.
        let (mut newcomer, _) = RawClient::join(&played.server).await;
        newcomer.play_until(|snapshot| snapshot.tick > 0).await;
        drop(ended);

        played.until_health(ServingStatus::Serving).await;
        let told = played.until_recording(RecordingState::Running).await;
        assert_eq!((told.problem.as_str(), told.failures > 0), ("", trouble != Trouble::Stalls), "{trouble:?}");
        eventually("the disk has all but the newest tick", || {
            played.metric("tickwire_recorder_lag_ticks", r#"session="arena-1""#) <= 1.0
        })
        .await;
        assert_eq!(played.metric("tickwire_recorders", r#"state="running""#), 1.0);
        played.goes_on(10).await;
    }
    let last = played.tick();
    let (file, _directory) = played.end().await;
    let recording = Recording::open(&file).expect("a recording");
    let summary = recording.scan();
    assert_eq!(summary.state, FileState::Complete(EndReason::Shutdown));
    assert!(summary.ticks >= last, "{} of {last} ticks", summary.ticks);
    assert_eq!(verify(&recording, Arc::new(Arena)).expect("the same match").ticks, summary.ticks);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_whose_disk_does_not_come_back_stops_and_says_how_much_it_lacks() {
    for (trouble, problem) in [
        (Trouble::Stalls, "the disk has stalled"),
        (Trouble::Full, "writing failed: no storage space"),
        // Neither can be written nor synced.
        (Trouble::Forbidden, "ing failed: permission denied"),
    ] {
        let mut played = Match::start(Duration::from_millis(1500)).await;
        played.goes_on(20).await;
        let ended = played.disk.begin(trouble);
        played.until_health(ServingStatus::NotServing).await;
        let state = r#"state="stopped""#;
        eventually("the recording stops", || played.metric("tickwire_recorders", state) == 1.0).await;
        played.goes_on(30).await;
        let told = played.recording().await;
        assert!(told.state() == RecordingState::Stopped && told.problem.ends_with(problem), "{trouble:?}: {told:?}");
        assert!(told.lag_ticks > 90, "{trouble:?}: {told:?}");
        drop(ended);
        // Nothing is recorded behind the gap, and nobody says that all is well.
        played.goes_on(10).await;
        assert_eq!(played.recording().await.state(), RecordingState::Stopped);
        assert_eq!(played.server.health("tickwire.recording").await.next().await, ServingStatus::NotServing);
        assert_eq!(played.server.health("").await.next().await, ServingStatus::Serving);

        let last = played.tick();
        let (file, _directory) = played.end().await;
        let recording = Recording::open(&file).expect("a recording");
        let summary = recording.scan();
        let FileState::Incomplete { ticks_missing, problem: Some(told) } = &summary.state else {
            panic!("{trouble:?}: {:?}", summary.state)
        };
        assert!(told.ends_with(problem), "{trouble:?}: {told}");
        let whole = verify(&recording, Arc::new(Arena)).expect("the same match").ticks;
        assert!((1..last).contains(&whole) && whole + ticks_missing >= last, "{whole} + {ticks_missing}, of {last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_nobody_may_enter_for_a_while_is_told_of_and_costs_nothing() {
    let mut played = Match::start(Duration::from_secs(600)).await;
    let ended = played.disk.begin(Trouble::Hidden);
    played.until_health(ServingStatus::NotServing).await;
    let told = played.until_recording(RecordingState::Behind).await;
    assert!(told.problem.ends_with(".live.mcap cannot be reached: permission denied"), "{told:?}");
    assert!(told.failures == 1 && told.lag_ticks <= 1, "it is written all the same: {told:?}");
    assert_eq!(played.metric("tickwire_recorders", r#"state="behind""#), 1.0);
    played.goes_on(10).await;
    drop(ended);
    played.until_health(ServingStatus::Serving).await;
    assert_eq!(played.until_recording(RecordingState::Running).await.problem, "");
    let last = played.tick();
    let (file, _directory) = played.end().await;
    let summary = Recording::open(&file).expect("a recording").scan();
    assert_eq!(summary.state, FileState::Complete(EndReason::Shutdown));
    assert!(summary.ticks >= last, "{} of {last} ticks", summary.ticks);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_removed_under_a_match_is_told_of_and_the_match_goes_on() {
    let mut played = Match::start(Duration::from_secs(600)).await;
    std::fs::remove_dir_all(played.directory.path()).expect("it is there");
    played.until_health(ServingStatus::NotServing).await;
    let told = played.until_recording(RecordingState::Behind).await;
    assert!(
        told.problem.ends_with(".live.mcap has been removed, renamed or replaced while it was written"),
        "{told:?}"
    );
    played.goes_on(10).await;
    let told = played.recording().await;
    assert!(told.lag_ticks > 10 && told.failures == 1, "all of it has no name: {told:?}");
    assert_eq!(played.metric("tickwire_recorders", r#"state="behind""#), 1.0);
    assert_eq!(played.server.health("").await.next().await, ServingStatus::Serving);
    let (file, _directory) = played.end().await;
    assert!(!file.exists(), "nothing is made up");
}
