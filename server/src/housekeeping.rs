//! Looks after recordings: those that are too many, too large or too old go; and whoever asks for health is told when the
//! disk does not take the new ones, and when no session runs.

use std::{
    convert::Infallible,
    io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tickwire_recording::{
    DirectoryLock, DirectoryLockError, RecorderState, RecorderStatus, Recorders, RecordersOptions, Retention, Tidied,
    retain, tidy,
};
use tokio::{
    sync::{Notify, watch},
    task,
    time::{Interval, MissedTickBehavior, interval},
};
use tonic::server::NamedService as _;
use tonic_health::{ServingStatus, server::HealthReporter};
use tracing::{error, info, warn};

use crate::{
    config::ServerConfig,
    server::{Phase, RunError},
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
        let recorders = Recorders::with(options, move || tell.notify_one());
        let (directory, recovery) = (config.recordings.clone(), config.recording.recovery);
        Ok(Self { directory, retention, recorders, changed, recovery, _lock: lock })
    }

    /// Whose recordings these are.
    pub(crate) fn recorders(&self) -> Recorders {
        self.recorders.clone()
    }

    /// For the sessions that are looked after.
    pub(crate) fn host(&self, threads_max: NonZeroUsize, stuck: Duration) -> io::Result<SessionHost> {
        SessionHost::new(threads_max, stuck, self.recorders(), Arc::clone(&self.changed))
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
        make_room(directory, &self.retention);
        unfinished
    }

    /// While sessions run.
    pub(crate) async fn keep(
        &self,
        sessions: &Registry,
        health: &HealthReporter,
        phase: &watch::Sender<Phase>,
    ) -> Infallible {
        let Some(directory) = &self.directory else { return self.report(sessions, health, phase).await };
        tokio::select! {
            never = self.report(sessions, health, phase) => never,
            never = self.keep_room(directory) => never,
        }
    }

    async fn report(&self, registry: &Registry, health: &HealthReporter, phase: &watch::Sender<Phase>) -> Infallible {
        let mut told: Vec<RecorderState> = Vec::new();
        let mut plays = true;
        loop {
            let now_plays = is_played(registry);
            if plays != now_plays {
                plays = now_plays;
                log_plays(plays);
                // What drains says that it does not serve, and stays with that.
                if *phase.borrow() == Phase::Serving {
                    note_plays(registry, health).await;
                }
            }
            let sessions = registry.all();
            let mut fails = false;
            let recorded = sessions.iter().filter_map(|session| Some((session, session.recording.status()?)));
            for (i, (session, status)) in recorded.enumerate() {
                fails |= matches!(status.state, RecorderState::Behind | RecorderState::Stopped);
                if i == told.len() {
                    told.push(RecorderState::Running);
                }
                if told[i] != status.state {
                    log_change(&session.name, &status);
                    told[i] = status.state;
                }
            }
            if self.directory.is_some() {
                health.set_service_status(HEALTH_SERVICE, serving(!fails)).await;
            }
            self.changed.notified().await;
        }
    }

    async fn keep_room(&self, directory: &Path) -> Infallible {
        let mut due = retention_interval();
        loop {
            due.tick().await;
            let (directory, retention) = (directory.to_owned(), self.retention);
            // A panic in there has been reported by the panic hook.
            let _ = task::spawn_blocking(move || make_room(&directory, &retention)).await;
        }
    }
}

/// Has health say whether any session can be played.
pub(crate) async fn note_plays(sessions: &Registry, health: &HealthReporter) {
    for service in ["", GameService::NAME] {
        health.set_service_status(service, serving(is_played(sessions))).await;
    }
}

fn is_played(sessions: &Registry) -> bool {
    let sessions = sessions.all();
    // A server that shows a recording has no sessions.
    sessions.iter().next().is_none() || sessions.iter().any(|session| session.runs())
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

fn make_room(directory: &Path, retention: &Retention) {
    match retain(directory, retention, SystemTime::now()) {
        Ok(deleted) => {
            for deleted in deleted {
                let (path, bytes) = (deleted.path.display(), deleted.bytes);
                info!(%path, bytes, "deleted an old recording, to keep within the limits of what is retained");
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
