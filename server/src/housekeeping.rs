//! Looks after recordings: those that are too many, too large or too old go; and whoever asks for health is told when the
//! disk does not take the new ones, and when no session runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tickwire_recording::{
    DirectoryLock, DirectoryLockError, RecorderState, RecorderStatus, Recorders, RecordersOptions, Retained, Retention,
    Tidied, retain, tidy,
};
use tokio::{
    sync::Notify,
    task,
    time::{Interval, MissedTickBehavior, interval},
};
use tonic::server::NamedService as _;
use tonic_health::{ServingStatus, server::HealthReporter};
use tracing::{error, info, warn};

use crate::{
    config::ServerConfig,
    net::NetworkThreads,
    server::{Phase, RunError, Shared},
    session::{Registry, SessionHost, SessionName},
    watch::GameService,
};

/// The name by which `grpc.health.v1` tells whether the disk takes the recordings of all sessions. Where it does not, matches
/// go on, and the server serves.
const HEALTH_SERVICE: &str = "tickwire.recording";
/// How often files are counted: running sessions grow all the time.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60);

/// Looks after the recordings of a server.
#[derive(Debug)]
pub(crate) struct Housekeeper {
    /// `None`: nothing is recorded.
    directory: Option<PathBuf>,
    retention: Retention,
    recorders: Recorders,
    /// A recorder's or a session's state has changed.
    changed: Arc<Notify>,
    recovery: bool,
    /// Files without use that the log has told of.
    unreadable: Arc<Mutex<BTreeSet<PathBuf>>>,
    /// Nobody else records there.
    _lock: Option<DirectoryLock>,
}

impl Housekeeper {
    /// Takes the directory that is to be this server's alone.
    ///
    /// # Errors
    /// Where another server has it, or it cannot be had.
    pub(crate) fn new(config: &ServerConfig) -> Result<Self, RunError> {
        let has_files = config.recordings.is_some() || config.admin.is_some();
        let exclusive = config.exclusive_dir.as_deref().filter(|_| has_files);
        let lock = exclusive.map(take_directory).transpose()?;
        let retention = config.recording.retention;
        let changed = Arc::<Notify>::default();
        let options = RecordersOptions { live_bytes_max: retention.bytes_max, ..RecordersOptions::default() };
        let tell = Arc::clone(&changed);
        let recorders = Recorders::with_storage(Arc::clone(&config.storage), options, move || tell.notify_one());
        let (directory, recovery) = (config.recordings.clone(), config.recording.recovery);
        let unreadable = Arc::default();
        Ok(Self { directory, retention, recorders, changed, recovery, unreadable, _lock: lock })
    }

    /// Whose recordings these are.
    pub(crate) fn recorders(&self) -> Recorders {
        self.recorders.clone()
    }

    /// For the sessions that are looked after.
    pub(crate) fn host(
        &self,
        threads_max: NonZeroUsize,
        config: &ServerConfig,
        network: &NetworkThreads,
    ) -> io::Result<SessionHost> {
        let network = network.iter().map(Arc::clone).collect();
        SessionHost::new(threads_max, config.clone(), network, self.recorders(), Arc::clone(&self.changed))
    }

    /// Before the first session: removes what a killed server has left of its work, and makes room. The recordings that it
    /// has left unfinished.
    pub(crate) fn begin(&self) -> Vec<PathBuf> {
        let Some(directory) = self.directory.as_deref() else { return Vec::new() };
        let unfinished = match tidy(directory) {
            Ok(Tidied { removed, unfinished }) => {
                for path in removed {
                    info!(path = %path.display(), "removed what a server that was killed had left of its work");
                }
                if !unfinished.is_empty() && !self.recovery {
                    let count = unfinished.len();
                    warn!(
                        count,
                        "recordings of a killed server are kept until a server with recovery goes on with them, or \
                         `recordings repair` finishes them"
                    );
                }
                unfinished
            }
            Err(error) => {
                complain(directory, &error);
                Vec::new()
            }
        };
        make_room(directory, &self.retention, &self.unreadable);
        unfinished
    }

    /// While sessions run.
    pub(crate) async fn keep(&self, shared: &Shared, health: &HealthReporter) -> Infallible {
        let Some(directory) = &self.directory else { return self.report(shared, health).await };
        tokio::select! {
            never = self.report(shared, health) => never,
            never = self.keep_room(directory) => never,
        }
    }

    async fn report(&self, shared: &Shared, health: &HealthReporter) -> Infallible {
        let mut told: BTreeMap<u32, RecorderState> = BTreeMap::new();
        let mut session_health = SessionHealth { health: health.clone(), told: BTreeMap::new() };
        let mut plays = true;
        let mut told_plays = Some(true);
        let mut phase = shared.phase.subscribe();
        let mut news = shared.registry.news().subscribe();
        loop {
            news.mark_unchanged();
            let is_serving = *phase.borrow_and_update() == Phase::Serving;
            session_health.tell(&shared.registry, is_serving).await;
            let sessions = shared.registry.all();
            let now_plays = shared.plays();
            if plays != now_plays {
                plays = now_plays;
                log_plays(plays);
            }
            // What drains says that it does not serve, and stays with that.
            if is_serving && told_plays != Some(plays) {
                for service in ["", GameService::NAME] {
                    health.set_service_status(service, serving(plays)).await;
                }
            }
            told_plays = is_serving.then_some(plays);
            let mut fails = false;
            let recorded = sessions.iter().filter_map(|session| Some((session, session.recording.status()?)));
            let mut telling = BTreeMap::new();
            for (session, status) in recorded {
                fails |= matches!(status.state, RecorderState::Behind | RecorderState::Stopped);
                let before = told.get(&session.place).unwrap_or(&RecorderState::Running);
                if *before != status.state {
                    log_change(&session.name, &status);
                }
                telling.insert(session.place, status.state);
            }
            // Those of sessions that are gone are forgotten.
            told = telling;
            if self.directory.is_some() {
                health.set_service_status(HEALTH_SERVICE, serving(!fails)).await;
            }
            tokio::select! {
                () = self.changed.notified() => {}
                // The registry outlives this, and so does what knows the phase.
                _ = news.changed() => {}
                _ = phase.changed() => {}
            }
        }
    }

    async fn keep_room(&self, directory: &Path) -> Infallible {
        let mut due = retention_interval();
        loop {
            due.tick().await;
            let (directory, retention, unreadable) =
                (directory.to_owned(), self.retention, Arc::clone(&self.unreadable));
            // A panic in there has been reported by the panic hook.
            let _ = task::spawn_blocking(move || make_room(&directory, &retention, &unreadable)).await;
        }
    }
}

/// Tells of each session whether it can be played, under a name of its own.
struct SessionHealth {
    health: HealthReporter,
    told: BTreeMap<SessionName, bool>,
}

impl SessionHealth {
    async fn tell(&mut self, sessions: &Registry, is_serving: bool) {
        let listing = sessions.all();
        for session in listing.iter() {
            let runs = is_serving && session.runs();
            if self.told.get(&session.name) != Some(&runs) {
                self.told.insert(session.name.clone(), runs);
                self.health.set_service_status(health_service(&session.name), serving(runs)).await;
            }
        }
        let gone: Vec<SessionName> =
            self.told.keys().filter(|name| sessions.get(name).is_none()).map(SessionName::clone).collect();
        for name in gone {
            self.told.remove(&name);
            self.health.clear_service_status(&health_service(&name)).await;
        }
    }
}

/// Tells that no session can be joined any more: the server drains.
pub(crate) async fn close_sessions(sessions: &Registry, health: &HealthReporter) {
    for session in sessions.all().iter() {
        health.set_service_status(health_service(&session.name), ServingStatus::NotServing).await;
    }
}

/// The name by which `grpc.health.v1` tells of a session.
fn health_service(session: &SessionName) -> String {
    format!("{}/{session}", GameService::NAME)
}

fn serving(is_well: bool) -> ServingStatus {
    if is_well { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn log_plays(plays: bool) {
    if plays {
        info!("a session runs again; the server's health is SERVING");
    } else {
        error!("no session runs any more; the server's health is NOT_SERVING until one does");
    }
}

fn take_directory(directory: &Path) -> Result<DirectoryLock, RunError> {
    DirectoryLock::take(directory).map_err(|error| match error {
        DirectoryLockError::Io { source, .. } => RunError::Recording { directory: directory.to_owned(), source },
        source @ DirectoryLockError::InUse { .. } => RunError::DirectoryInUse { source },
    })
}

/// Here, and not where it happens: a session's thread is not to wait for a log that may be on the disk that stalls.
fn log_change(session: &SessionName, RecorderStatus { state, problem, lag_ticks, bytes, .. }: &RecorderStatus) {
    let problem = problem.as_deref().unwrap_or_default();
    match state {
        RecorderState::Running => info!(%session, "the recording has caught up"),
        RecorderState::Behind => error!(%session, problem, lag_ticks, "the recording is behind; it is tried again"),
        RecorderState::Stopped => error!(%session, problem, "the recording has stopped; the match goes on without"),
        RecorderState::Limited => warn!(%session, bytes, "the recording has reached its limit of size, and ends"),
        // Whoever closes it says how it ended.
        RecorderState::Closed => {}
    }
}

fn retention_interval() -> Interval {
    let mut due = interval(RETENTION_INTERVAL);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    due
}

fn make_room(directory: &Path, retention: &Retention, told: &Mutex<BTreeSet<PathBuf>>) {
    match retain(directory, retention, SystemTime::now()) {
        Ok(Retained { deleted, unreadable }) => {
            for (path, bytes) in deleted {
                info!(path = %path.display(), bytes, "deleted an old recording, to keep within the limits of what is retained");
            }
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            for (path, bytes) in unreadable {
                if told.insert(path.clone()) {
                    warn!(path = %path.display(), bytes, "this cannot be read as a recording, takes room and is not deleted: look at it");
                }
            }
        }
        Err(error) => complain(directory, &error),
    }
}

fn complain(directory: &Path, error: &io::Error) {
    // A server that has never run here.
    if error.kind() != io::ErrorKind::NotFound {
        warn!(directory = %directory.display(), %error, "cannot look after recordings");
    }
}
