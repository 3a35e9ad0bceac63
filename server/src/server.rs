//! A server from its start to its clean end.

mod error;
mod first_sessions;
mod probe;
mod services;
mod shared;
mod soundness;

use std::{
    convert::Infallible,
    future::{Future, pending},
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    thread::available_parallelism,
    time::{Duration, Instant},
};

use tickwire_recording::{Recording, Replay, ReplayError, game_of};
use tickwire_shared::{Game, Tick};
use tickwire_ticket::Role;
use tokio::{
    net::TcpListener,
    time::{timeout, timeout_at},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tracing::{info, warn};

pub use self::{
    error::RunError,
    probe::{Probe, SessionProgress},
};
pub(crate) use self::{
    first_sessions::random_seed,
    services::set_health,
    shared::{Phase, Serving, Shared},
    soundness::check,
};
use self::{
    first_sessions::{choose_games, start_sessions},
    services::routes,
    shared::{Access, Shown},
};
use crate::{
    admin::{AdminListener, Bans, BoundAdmin},
    chat::ChatControl,
    config::ServerConfig,
    drain::until_drained,
    ending::{self, Step},
    housekeeping::Housekeeper,
    identity::Identity,
    metrics::MetricsListener,
    net::{self, NetworkThreads, Tls},
    recovery::{RecoveredSessions, Recoverer},
    reload::{Control, Reloads},
    session::SessionHost,
    sessions::Lobby,
    watch::{Hosted, Library, Tape},
};

/// A server whose sessions run. [`serve`](Self::serve) lets clients in.
#[derive(Debug)]
pub struct Server {
    serving: Arc<Serving>,
    lobby: Arc<Lobby>,
    host: SessionHost,
    health: HealthReporter,
    housekeeper: Housekeeper,
    threads: NetworkThreads,
    admin: Option<AdminListener>,
    metrics: Option<MetricsListener>,
}

/// What a server is put together from.
struct Parts {
    access: Access,
    tls: Option<Tls>,
    shown: Shown,
    host: SessionHost,
    games: Vec<Arc<dyn Game>>,
    housekeeper: Housekeeper,
    threads: NetworkThreads,
}

/// Serves games until `shutdown` comes true, and ends cleanly: streams get a goodbye and a status, connections are closed,
/// recordings too.
///
/// # Errors
/// Where the server cannot start.
///
/// # Panics
/// Outside a tokio runtime.
pub async fn run(
    listener: TcpListener,
    config: ServerConfig,
    games: Vec<Arc<dyn Game>>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    Server::start(config, games)?.serve(listener, shutdown).await;
    Ok(())
}

impl Server {
    /// Starts the sessions, the threads that step them, and the network's threads.
    ///
    /// # Errors
    /// Where a value makes no sense, a game is unknown, or a session, a recording or a thread cannot be created.
    pub fn start(config: ServerConfig, games: Vec<Arc<dyn Game>>) -> Result<Self, RunError> {
        Self::start_unless(&AtomicBool::new(false), config, games)
    }

    /// As [`start`](Self::start), until `stop` comes true: the sessions that have started end cleanly then.
    pub(crate) fn start_unless(
        stop: &AtomicBool,
        config: ServerConfig,
        games: Vec<Arc<dyn Game>>,
    ) -> Result<Self, RunError> {
        config.check()?;
        let library = Library::new(config.recordings.clone(), config.recordings_public, games.as_slice().into());
        let hosted = choose_games(&config.games, &games)?;
        let tls = config.tls.clone().map(Tls::load).transpose()?;
        let identity = Identity::load(config.identity.clone())?;
        // Before what reads files there, so that a directory that cannot be had is named itself.
        let housekeeper = Housekeeper::new(&config)?;
        let bans = match &config.admin {
            Some(admin) => Bans::load(&admin.directory)?,
            None => Bans::default(),
        };
        let cores = available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let threads =
            NetworkThreads::start(config.network_threads.unwrap_or(cores).get()).map_err(RunError::Threads)?;
        let bound = match config.admin.as_ref().and_then(|admin| Some((admin, admin.listen?))) {
            Some((admin, listen)) => Some((BoundAdmin::bind(admin, listen)?, admin.directory.clone())),
            None => None,
        };
        let unfinished = housekeeper.begin();
        let simulation_threads = config.simulation_threads.unwrap_or(cores);
        let recovered = match &config.recordings {
            Some(directory) if config.recording.recovery => {
                let (config, hosted, games) = (&config, &hosted, &games);
                let (recorders, threads) = (housekeeper.recorders(), simulation_threads);
                Recoverer { config, directory, hosted, games, recorders, threads }.recover(unfinished, stop)?
            }
            _ => RecoveredSessions::new(),
        };
        let host = housekeeper.host(simulation_threads, &config, &threads).map_err(RunError::Threads)?;
        start_sessions(stop, &hosted, recovered, host.shared())?;
        let metrics_listen = config.metrics_listen;
        let (access, shown) = (Access { identity, bans }, Shown { library, hosted: None });
        let parts = Parts { access, tls, shown, host, games: hosted, housekeeper, threads };
        let mut server = Self::of(config, parts);
        server.admin = bound.map(|(bound, directory)| bound.serve(&server.serving.shared, &directory)).transpose()?;
        server.metrics = metrics_listen.map(|at| MetricsListener::start(at, &server.serving.shared)).transpose()?;
        Ok(server)
    }

    /// A server that shows a recording as if it were a session: spectators who do not say start at `from` (0: the first
    /// tick), and go at `speed`. It has no sessions, and records nothing.
    ///
    /// # Errors
    /// Where the recording is of no game of `games`, or has no tick `from`, or a thread cannot be created.
    pub fn of_recording(
        config: ServerConfig,
        games: Vec<Arc<dyn Game>>,
        path: &Path,
        from: Tick,
        speed: f64,
    ) -> Result<Self, RunError> {
        let config = ServerConfig { recordings: None, create_sessions: false, ..config };
        config.check()?;
        let unplayable = |source: ReplayError| RunError::Replay { path: path.to_owned(), source };
        let recording = Recording::open(path).map_err(ReplayError::from).map_err(unplayable)?;
        let game = game_of(&recording, &games).map_err(unplayable)?;
        // Whether it can be played at all is found out before anybody watches.
        Replay::new(&recording, Arc::clone(&game)).map_err(unplayable)?;
        let tls = config.tls.clone().map(Tls::load).transpose()?;
        let origin = recording.meta().segment.origin();
        if from > Tick::ZERO && from <= origin {
            return Err(unplayable(ReplayError::BeforeOrigin { tick: from, origin }));
        }
        let last = recording.summary().last_tick();
        if from > last {
            return Err(unplayable(ReplayError::BeyondEnd { tick: from, last }));
        }
        let hosted = Hosted { tape: Arc::new(Tape::finished(recording, game)), from, speed };
        let library = Library::of_file(path.to_owned(), games.into());
        let identity = Identity::load(config.identity.clone())?;
        let cores = available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let threads =
            NetworkThreads::start(config.network_threads.unwrap_or(cores).get()).map_err(RunError::Threads)?;
        let housekeeper = Housekeeper::new(&config)?;
        let host = housekeeper.host(NonZeroUsize::MIN, &config, &threads).map_err(RunError::Threads)?;
        let access = Access { identity, bans: Bans::default() };
        let shown = Shown { library, hosted: Some(hosted) };
        Ok(Self::of(config, Parts { access, tls, shown, host, games: Vec::new(), housekeeper, threads }))
    }

    fn of(config: ServerConfig, parts: Parts) -> Self {
        let Parts { access, tls, shown, host, games, housekeeper, threads } = parts;
        let shared = Arc::new(Shared::new(config, access, shown, host.shared(), &threads));
        let tls = tls.map(Arc::new);
        register_files(&shared, tls.as_ref());
        let health = HealthReporter::new();
        let lobby = Arc::new(Lobby::new(Arc::clone(host.shared()), games));
        let routes = routes(&shared, &lobby, &health);
        let bulk = threads.bulk().clone();
        Self {
            serving: Arc::new(Serving { shared, routes, tls, bulk }),
            lobby,
            host,
            health,
            housekeeper,
            threads,
            admin: None,
            metrics: None,
        }
    }

    /// Watches the server from outside.
    #[must_use]
    pub fn probe(&self) -> Probe {
        Probe::new(Arc::clone(&self.serving.shared), self.threads.iter().map(Arc::clone).collect())
    }

    /// Has a hand in what is said.
    #[must_use]
    pub fn chat(&self) -> ChatControl {
        ChatControl::new(Arc::clone(&self.serving.shared))
    }

    /// Changes the server while it runs.
    #[must_use]
    pub fn control(&self) -> Control {
        Control::new(Arc::clone(&self.serving.shared))
    }

    /// What can be read anew while the server runs.
    pub(crate) fn reloads(&self) -> &Reloads {
        &self.serving.shared.reloads
    }

    /// The sessions' names, in the order in which they were asked for.
    pub fn sessions(&self) -> impl Iterator<Item = String> {
        let names: Vec<String> =
            self.serving.shared.registry.all().iter().map(|session| session.name.to_string()).collect();
        names.into_iter()
    }

    /// The files that the sessions are being recorded to, in the order in which they were asked for.
    pub fn recordings(&self) -> impl Iterator<Item = PathBuf> {
        self.host.shared().recordings().into_iter()
    }

    /// Where `AdminService` listens, where it does.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(AdminListener::address)
    }

    /// Whether the keys of its tickets sign, too.
    pub(crate) fn signs_tickets(&self) -> bool {
        self.serving.shared.identity.check_can_issue(Role::Operator).is_ok()
    }

    /// Where metrics are answered to whoever asks, where they are.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(MetricsListener::address)
    }

    /// Lets clients in until `shutdown` comes true, and ends cleanly. An admin's drain has the same end.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let drain = self.serving.shared.timeouts.drain;
        let shutdown = async move {
            shutdown.await;
            drain
        };
        self.serve_until(listener, shutdown).await;
    }

    /// As [`serve`](Self::serve), where `shutdown` says how long the streams that there are then have.
    pub(crate) async fn serve_until(self, listener: TcpListener, shutdown: impl Future<Output = Duration>) {
        // The directory of recordings is held for longer than the sessions.
        let Self { housekeeper, serving, lobby, host, health, threads, admin, metrics } = self;
        let shared = &serving.shared;
        match listener.local_addr() {
            Ok(address) => shared.identity.listen_on(address.ip()),
            Err(error) => warn!(%error, "the address is not known, so that hosts of requests are not looked at"),
        }
        set_health(&health, ServingStatus::Serving).await;
        let shut_down = async {
            shared.drain.end(shutdown.await);
            pending::<Infallible>().await
        };
        tokio::select! {
            // While it drains, too: health is still asked for.
            never = net::accept(&listener, &threads, &serving) => match never {},
            never = housekeeper.keep(shared, &health) => match never {},
            never = lobby.keep(shared) => match never {},
            never = keep_fresh(serving.tls.as_deref()) => match never {},
            never = shut_down => match never {},
            () = until_drained(shared, &health) => {}
        }
        drop(listener);

        let latest = ending::latest(shared, shared.timeouts.close);
        info!("ending sessions and streams");
        host.shared().stop();
        shared.phase.send_replace(Phase::Ending);
        threads.end_connections();
        let connections = async {
            // Each connection keeps to the time that it has; a little more is for those that close at its very end.
            if timeout(shared.timeouts.end * 2, connections_closed(shared, &threads)).await.is_err() {
                warn!(connections = threads.connections(), "connections are still open; they are cut off");
            }
        };
        let sessions = host.shared().ended(Instant::now() + shared.timeouts.end);
        // Who does not come back by then is complained of below.
        let (_, _) = tokio::join!(connections, timeout_at(latest.into(), sessions));
        let identity = Arc::clone(&shared.identity);
        let steps = [
            Step::start("used tickets", move || identity.close()),
            Step::start("sessions", move || drop((host, lobby, housekeeper))),
            Step::start("listeners", move || drop((admin, metrics))),
            Step::start("network threads", move || drop(threads)),
        ];
        for step in steps {
            step.wait_until(latest).await;
        }
        info!("ended");
    }
}

/// Has files that connections are encrypted with, and those of keys, read anew with all else.
fn register_files(shared: &Shared, tls: Option<&Arc<Tls>>) {
    if let Some(tls) = tls.map(Arc::clone) {
        shared.reloads.register("TLS", move || tls.prepare().map_err(|error| error.to_string()));
    }
    let identity = Arc::clone(&shared.identity);
    shared.reloads.register("keys", move || identity.prepare().map_err(|error| error.to_string()));
}

/// Sees to it that connections are encrypted with the certificates that there are now.
pub(crate) async fn keep_fresh(tls: Option<&Tls>) -> Infallible {
    match tls {
        Some(tls) => tls.keep_fresh().await,
        None => pending().await,
    }
}

async fn connections_closed(shared: &Shared, threads: &NetworkThreads) {
    while threads.connections() > 0 {
        shared.something_ended.notified().await;
    }
}
