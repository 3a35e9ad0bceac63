//! A server from its start to its clean end.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::{Future, pending},
    io,
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::available_parallelism,
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Guard};
use tickwire_proto::v1::session_service_server::SessionServiceServer;
use tickwire_recording::{DirectoryLockError, RecorderStatus, Recording, Replay, ReplayError, game_of};
use tickwire_shared::{Game, Tick};
use tokio::{
    net::TcpListener,
    runtime::Handle,
    sync::{Notify, Semaphore, watch as watched},
    time::{timeout, timeout_at},
};
use tonic::{codec::CompressionEncoding, server::NamedService as _, service::Routes};
use tonic_health::{ServingStatus, server::HealthReporter};
use tracing::{info, warn};

use crate::{
    LogControl,
    admin::{self, AdminError, AdminListener, Bans, BoundAdmin},
    chat::{ChatControl, ChatService, Moderation},
    config::{ConfigError, Limits, ServerConfig, Timeouts},
    drain::{DrainSwitch, until_drained},
    ending::{self, Step},
    housekeeping::Housekeeper,
    identity::{self, Identity, IdentityError, IdentityReason},
    limits::{Admission, Quota, RefusalCounters, RefusalReason},
    metrics::{self, MetricsError, MetricsListener, PeerCounters, SessionMeters},
    net::{self, ConnectionCounters, NetworkThread, NetworkThreads, RequestCounters, Tls, TlsError},
    notices::Notices,
    recovery::{RecoveredSessions, Recoverer},
    reload::{Control, Reloads},
    session::{
        self, AttachTokens, ChatTokens, Host, Origin, Place, RecoveredSession, Registry, Reservations, ResumeTokens,
        SessionHandle, SessionHost, SessionName, SessionOrder, SessionShape, SessionTerms, StartError, StreamCounters,
    },
    sessions::{Lobby, Sessions},
    watch::{GameService, Hosted, Library, RecordingService, Spectators, Tape, rpc::Routed},
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

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A value that makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server was built without games.
    #[error("there is no game to host: give the server at least one")]
    NoGames,
    /// A game that the server was not built with.
    #[error("games: there is no {name:?}; this server was built with {known}")]
    UnknownGame {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// Two games of one name, in the configuration or in the build.
    #[error("games: {0:?} is named twice")]
    GameTwice(String),
    /// A session that cannot be created.
    #[error("{name}: {source}")]
    Session {
        /// The session's name.
        name: String,
        /// Why.
        source: tickwire_simulation::SessionError,
    },
    /// A recording that cannot be created.
    #[error("cannot record to {}: {source}; choose a data directory that can be written to", .directory.display())]
    Recording {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another server has it.
    #[error("the data directory {source}: end that server first, or choose another data directory")]
    DirectoryInUse {
        /// Which, and by whom.
        source: DirectoryLockError,
    },
    /// A recording that cannot be shown.
    #[error("{}: {source}", .path.display())]
    Replay {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ReplayError,
    },
    /// A file that connections cannot be encrypted with.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// A file of keys that cannot be read, or used tickets that cannot be kept.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// An admin listener that cannot start.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A listener for metrics that cannot start.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A thread or runtime that cannot be created.
    #[error("cannot start threads: {0}")]
    Threads(io::Error),
    /// Somebody wanted it to end before all of its sessions had started.
    #[error("told to end before all sessions had started")]
    Stopped,
}

/// Those who watch which sessions there are.
const SESSION_WATCHERS_MAX: usize = 256;

/// What all of the server's threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) registry: Arc<Registry>,
    /// Seats that are kept for whoever has a ticket.
    pub(crate) reservations: Arc<Reservations>,
    pub(crate) timeouts: Timeouts,
    limits: ArcSwap<Limits>,
    pub(crate) phase: watched::Sender<Phase>,
    /// Of the server.
    pub(crate) notices: Notices,
    pub(crate) drain: DrainSwitch,
    /// How long streams have where an admin does not say.
    pub(crate) admin_drain: Duration,
    pub(crate) attach_tokens: Arc<AttachTokens>,
    pub(crate) resume_tokens: Arc<ResumeTokens>,
    pub(crate) chat_tokens: Arc<ChatTokens>,
    /// Judges what is said; none: all passes.
    pub(crate) moderation: Option<Moderation>,
    pub(crate) spectators: Arc<Spectators>,
    pub(crate) library: Library,
    /// Who may come in, and who may ask for what.
    pub(crate) identity: Arc<Identity>,
    /// A recording that is shown as if it were a session.
    pub(crate) hosted: Option<Hosted>,
    /// Spectators who may go to the past.
    pub(crate) replays: Arc<Quota>,
    pub(crate) downloads: Arc<Quota>,
    /// Callers may create sessions.
    creates_sessions: bool,
    /// Those who watch which sessions there are.
    pub(crate) session_watchers: Arc<Semaphore>,
    /// Calls that ask the disk what recordings there are.
    pub(crate) listings: Arc<Quota>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) refusals: RefusalCounters,
    /// What SIGHUP reads anew.
    pub(crate) reloads: Reloads,
    /// Open `Play` streams.
    pub(crate) streams: AtomicUsize,
    pub(crate) connection_counters: ConnectionCounters,
    pub(crate) requests: RequestCounters,
    pub(crate) peer_counters: PeerCounters,
    /// What spectators were sent, of sessions and of recordings.
    pub(crate) spectator_snapshots: StreamCounters,
    /// All sessions that there have been, for who adds them up.
    pub(crate) meters: Arc<SessionMeters>,
    /// A stream or a connection has ended.
    pub(crate) something_ended: Notify,
    pub(crate) started: Instant,
    /// Changes which log lines are written.
    pub(crate) log: LogControl,
    pub(crate) bans: Bans,
    pub(crate) network: Vec<Arc<NetworkThread>>,
}

impl Shared {
    /// The limits of now: they may change while the server runs.
    pub(crate) fn limits(&self) -> Guard<Arc<Limits>> {
        self.limits.load()
    }

    pub(crate) fn set_limits(&self, limits: Limits) {
        self.limits.store(Arc::new(limits));
    }

    /// Whether there is something to play or watch. A server that shows a recording has no sessions, and one that callers create
    /// sessions on need not have one.
    pub(crate) fn plays(&self) -> bool {
        let sessions = self.registry.all();
        let plays_without = self.creates_sessions || self.hosted.is_some();
        sessions.iter().any(|session| session.runs()) || (plays_without && sessions.iter().next().is_none())
    }

    /// Open connections of players and spectators.
    pub(crate) fn connections(&self) -> usize {
        self.network.iter().map(|thread| thread.connections.load(Ordering::Relaxed)).sum()
    }
}

/// What a connection needs.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) shared: Arc<Shared>,
    pub(crate) routes: Routes,
    pub(crate) tls: Option<Arc<Tls>>,
    /// Where requests are answered that ask the disk, or compress much: no player waits for its thread.
    pub(crate) bulk: Handle,
}

/// How far a server is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// Nobody may join; who plays has been told.
    Draining,
    /// Streams end, then connections.
    Ending,
}

/// Watches a server from outside, also after its end.
#[derive(Clone, Debug)]
pub struct Probe {
    shared: Arc<Shared>,
    threads: Vec<Arc<NetworkThread>>,
}

/// How a session does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionProgress {
    /// Its name.
    pub name: String,
    /// The newest tick.
    pub tick: u64,
    /// Ticks that began later than a tick's time after they were due, or took longer than that.
    pub overruns: u64,
    /// How often the tick loop has given up catching up.
    pub slips: u64,
    /// Whether its game has been in one tick for longer than [`Timeouts::stuck`].
    pub stuck: bool,
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
        let bans = match &config.admin {
            Some(admin) => Bans::load(&admin.directory)?,
            None => Bans::default(),
        };
        let cores = available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let threads =
            NetworkThreads::start(config.network_threads.unwrap_or(cores).get()).map_err(RunError::Threads)?;
        let housekeeper = Housekeeper::new(&config)?;
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
        let who = (identity, tls, bans);
        let mut server = Self::of(config, library, who, None, (host, hosted), housekeeper, threads);
        server.admin = bound.map(|(bound, directory)| bound.serve(&server.serving.shared, &directory)).transpose()?;
        server.metrics = metrics_listen.map(|at| MetricsListener::start(at, &server.serving.shared)).transpose()?;
        Ok(server)
    }

    /// A server that shows a recording as if it were a session: spectators who do not say start at `from` (0: the first
    /// tick), and go at `speed`. It has no sessions, and records nothing.
    ///
    /// # Errors
    /// Where the recording is of no game of `games`, or a thread cannot be created.
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
        let hosted = Hosted { tape: Arc::new(Tape::finished(recording, game)), from, speed };
        let library = Library::of_file(path.to_owned(), games.into());
        let identity = Identity::load(config.identity.clone())?;
        let cores = available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let threads =
            NetworkThreads::start(config.network_threads.unwrap_or(cores).get()).map_err(RunError::Threads)?;
        let housekeeper = Housekeeper::new(&config)?;
        let host = housekeeper.host(NonZeroUsize::MIN, &config, &threads).map_err(RunError::Threads)?;
        let who = (identity, tls, Bans::default());
        Ok(Self::of(config, library, who, Some(hosted), (host, Vec::new()), housekeeper, threads))
    }

    fn of(
        config: ServerConfig,
        library: Library,
        (identity, tls, bans): (Identity, Option<Tls>, Bans),
        hosted: Option<Hosted>,
        (host, games): (SessionHost, Vec<Arc<dyn Game>>),
        housekeeper: Housekeeper,
        threads: NetworkThreads,
    ) -> Self {
        let shared = Arc::new(Shared {
            registry: Arc::clone(&host.shared().registry),
            reservations: Arc::default(),
            admin_drain: config.admin.as_ref().map_or(config.timeouts.drain, |admin| admin.drain),
            timeouts: config.timeouts,
            replays: Arc::default(),
            downloads: Arc::default(),
            creates_sessions: config.create_sessions,
            session_watchers: Arc::new(Semaphore::new(SESSION_WATCHERS_MAX)),
            listings: Arc::default(),
            admission: Admission::new(),
            refusals: RefusalCounters::default(),
            reloads: Reloads::default(),
            limits: ArcSwap::from_pointee(config.limits),
            phase: watched::Sender::new(Phase::Serving),
            notices: Notices::default(),
            drain: DrainSwitch::default(),
            attach_tokens: Arc::default(),
            resume_tokens: Arc::clone(host.shared().resume_tokens()),
            chat_tokens: Arc::default(),
            moderation: config.moderator.map(Moderation::new),
            spectators: Arc::default(),
            library,
            identity: Arc::new(identity),
            hosted,
            streams: AtomicUsize::new(0),
            connection_counters: ConnectionCounters::default(),
            requests: RequestCounters::new(&DESCRIPTORS),
            peer_counters: PeerCounters::default(),
            spectator_snapshots: StreamCounters::default(),
            meters: Arc::clone(host.shared().meters()),
            something_ended: Notify::new(),
            started: Instant::now(),
            log: config.log,
            bans,
            network: threads.iter().map(Arc::clone).collect(),
        });
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
        Probe { shared: Arc::clone(&self.serving.shared), threads: self.threads.iter().map(Arc::clone).collect() }
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

/// Of all services but those that housekeeping tells of.
pub(crate) async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for service in
        ["", GameService::NAME, ChatService::NAME, RecordingService::NAME, SessionServiceServer::<Sessions>::NAME]
    {
        health.set_service_status(service, status).await;
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

/// The games to host, in the order in which they were asked for.
fn choose_games(names: &[String], games: &[Arc<dyn Game>]) -> Result<Vec<Arc<dyn Game>>, RunError> {
    if let Some(twice) = first_repeated(games.iter().map(|game| game.name())) {
        return Err(RunError::GameTwice(twice.to_owned()));
    }
    if let Some(twice) = first_repeated(names.iter().map(String::as_str)) {
        return Err(RunError::GameTwice(twice.to_owned()));
    }
    if names.is_empty() {
        return games.first().map(|game| vec![Arc::clone(game)]).ok_or(RunError::NoGames);
    }
    let find = |name: &String| {
        games.iter().find(|game| game.name() == name).map(Arc::clone).ok_or_else(|| {
            let known: Vec<&str> = games.iter().map(|game| game.name()).collect();
            RunError::UnknownGame { name: name.clone(), known: known.join(", ") }
        })
    };
    names.iter().map(find).collect()
}

/// Whether the sessions that are asked for can be created: as far as that can be said without hosting them.
pub(crate) fn check(config: &ServerConfig, games: Vec<Arc<dyn Game>>) -> Result<(), RunError> {
    config.check()?;
    config.tls.clone().map(Tls::load).transpose()?;
    identity::check(&config.identity)?;
    config.admin.as_ref().map(admin::check).transpose()?;
    for game in choose_games(&config.games, &games)? {
        let name = game.name().to_owned();
        session::create(game, config, SessionShape::of(config), config.seed.unwrap_or(0))
            .map_err(|source| RunError::Session { name, source })?;
    }
    Ok(())
}

fn first_repeated<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = std::collections::BTreeSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}

/// Starts sessions: those that go on, and new ones until there are as many of each game as are asked for.
fn start_sessions(
    stop: &AtomicBool,
    games: &[Arc<dyn Game>],
    recovered: RecoveredSessions,
    host: &Host,
) -> Result<(), RunError> {
    let config = &host.config;
    let mut seeds = config.seed.unwrap_or_else(random_seed)..;
    let mut planned = plan_sessions(games, config.sessions, recovered);
    let count = u32::try_from(planned.len()).unwrap_or(u32::MAX);
    for (place, planned) in (0..).zip(&mut planned) {
        planned.place = place;
        planned.seed = seeds.next().expect("as good as endless");
    }
    // New ones first: where one of them cannot be had, those that go on are left for the next start.
    planned.sort_by_key(|planned| planned.recovered.is_some());
    for Planned { game, name, recovered, place, seed } in planned {
        if stop.load(Ordering::Relaxed) {
            return Err(RunError::Stopped);
        }
        let terms = recovered.as_ref().and_then(|recovered| recovered.terms.clone());
        let order = SessionOrder {
            name: name.clone(),
            origin: recovered.map_or(Origin::Seed(seed), |recovered| Origin::Recovered(Box::new(recovered))),
            shape: SessionShape::of(config),
            terms: terms.unwrap_or_else(|| SessionTerms::of_start(config)),
            place: Place::Of(place, count),
        };
        let publish = |session: &Arc<SessionHandle>| host.registry.insert(session);
        host.start(order, game, publish).map_err(|error| match error {
            StartError::Session(source) => RunError::Session { name: name.to_string(), source },
            StartError::Recording { directory, source } => RunError::Recording { directory, source },
            StartError::Thread(error) => RunError::Threads(error),
        })?;
    }
    Ok(())
}

/// A session to be started.
struct Planned {
    game: Arc<dyn Game>,
    name: SessionName,
    recovered: Option<RecoveredSession>,
    place: u32,
    seed: u64,
}

/// The sessions of each game, in order of their numbers; then those that go on and that callers had created.
fn plan_sessions(games: &[Arc<dyn Game>], count: u32, mut recovered: RecoveredSessions) -> Vec<Planned> {
    let mut planned = Vec::new();
    let mut created: RecoveredSessions =
        recovered.extract_if(.., |_, session: &mut RecoveredSession| session.terms.is_some()).collect();
    for game in games {
        let is_of_game = |_: &SessionName, session: &mut RecoveredSession| session.session.game().name() == game.name();
        let mut sessions: BTreeMap<(u32, SessionName), Option<RecoveredSession>> = recovered
            .extract_if(.., is_of_game)
            .map(|(name, session)| ((name.number(game.name()).unwrap_or(u32::MAX), name), Some(session)))
            .collect();
        for number in 1.. {
            if sessions.len() >= count as usize {
                break;
            }
            let name = SessionName::numbered(game.name(), number);
            if !created.contains_key(&name) {
                sessions.entry((number, name)).or_insert(None);
            }
        }
        let plan = |((_, name), recovered)| Planned { game: Arc::clone(game), name, recovered, place: 0, seed: 0 };
        planned.extend(sessions.into_iter().map(plan));
    }
    for game in games {
        let is_of_game = |_: &SessionName, session: &mut RecoveredSession| session.session.game().name() == game.name();
        let plan =
            |(name, recovered)| Planned { game: Arc::clone(game), name, recovered: Some(recovered), place: 0, seed: 0 };
        planned.extend(created.extract_if(.., is_of_game).map(plan));
    }
    planned
}

/// Another number at each start, from where the standard library takes the keys of its hash maps.
pub(crate) fn random_seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    RandomState::new().build_hasher().finish()
}

/// Of all services that there are.
const DESCRIPTORS: [&[u8]; 4] = [
    tickwire_proto::FILE_DESCRIPTOR_SET,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
];

fn routes(shared: &Arc<Shared>, lobby: &Arc<Lobby>, health: &HealthReporter) -> Routes {
    let bytes_max = shared.limits().message_bytes_max;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tickwire_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    const VALID: &str = "the descriptors are compiled in";
    Routes::default()
        .add_service(Routed(GameService::new(Arc::clone(shared))))
        .add_service(Routed(ChatService::new(Arc::clone(shared))))
        .add_service(Routed(RecordingService::new(Arc::clone(shared))))
        .add_service(
            SessionServiceServer::new(Sessions::new(Arc::clone(shared), Arc::clone(lobby)))
                .max_decoding_message_size(bytes_max)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip),
        )
        .add_service(tonic_health::pb::health_server::HealthServer::new(
            tonic_health::server::HealthService::from_health_reporter(health.clone()),
        ))
        .add_service(reflection().build_v1().expect(VALID).max_decoding_message_size(bytes_max))
        .add_service(reflection().build_v1alpha().expect(VALID).max_decoding_message_size(bytes_max))
        .prepare()
}

impl Probe {
    /// Everything that the server measures, in the text format of Prometheus: docs/metrics.md describes it.
    #[must_use]
    pub fn metrics(&self) -> String {
        metrics::render(&self.shared)
    }

    /// Changes which log lines are written: what the server was told of in its configuration.
    #[must_use]
    pub fn log_control(&self) -> &LogControl {
        &self.shared.log
    }

    /// Open connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.threads.iter().map(|thread| thread.connections.load(Ordering::Relaxed)).sum()
    }

    /// Open `Play` streams.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.shared.streams.load(Ordering::Relaxed)
    }

    /// How often limits have told somebody no, by what docs/limits.md calls the reason; those that never have are left out.
    #[must_use]
    pub fn refusals(&self) -> BTreeMap<&'static str, u64> {
        let counts = RefusalReason::ALL.iter().map(|reason| (reason.label(), self.shared.refusals.get(*reason)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// Tasks on the network's threads.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.threads.iter().map(|thread| thread.runtime.metrics().num_alive_tasks()).sum()
    }

    /// Seats taken in all sessions, those of lost connections within their grace period among them.
    #[must_use]
    pub fn seats(&self) -> u32 {
        self.shared.registry.all().iter().map(|session| session.seats_taken()).sum()
    }

    /// Seats that are kept for whoever has a ticket, in all sessions.
    #[must_use]
    pub fn seats_reserved(&self) -> u32 {
        self.shared.registry.all().iter().map(|session| session.seats.counts().reserved).sum()
    }

    /// The newest tick of each session, and how often its loop has given up catching up.
    #[must_use]
    pub fn ticks(&self) -> Vec<(u64, u64)> {
        self.sessions().into_iter().map(|session| (session.tick, session.slips)).collect()
    }

    /// How each session's recording does, where it has one, in the same order as [`sessions`](Self::sessions).
    #[must_use]
    pub fn recordings(&self) -> Vec<Option<RecorderStatus>> {
        self.shared.registry.all().iter().map(|session| session.recording.status()).collect()
    }

    /// Reads the files of [`IdentityConfig`](crate::IdentityConfig) again: keys of tickets, and API keys. What has been signed
    /// by a key that is gone is not taken any more; who is in stays in.
    ///
    /// # Errors
    /// Where one of them cannot be read, or makes no sense; then nothing changes.
    pub fn reload_keys(&self) -> Result<(), IdentityError> {
        self.shared.identity.reload()
    }

    /// How often somebody was refused for who they are or are not, by reason.
    #[must_use]
    pub fn identity_refusals(&self) -> Vec<(&'static str, u64)> {
        let counters = &self.shared.identity.counters;
        IdentityReason::ALL.iter().map(|reason| (reason.reason(), counters.refusals(*reason))).collect()
    }

    /// Tickets that have let somebody in, and those that stayed good, since what they were for did not come about.
    #[must_use]
    pub fn tickets(&self) -> (u64, u64) {
        let counters = &self.shared.identity.counters;
        (counters.tickets_admitted.load(Ordering::Relaxed), counters.tickets_given_back.load(Ordering::Relaxed))
    }

    /// How each session does, in the order in which they were asked for.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionProgress> {
        let of = |session: &Arc<SessionHandle>| SessionProgress {
            name: session.name.to_string(),
            tick: session.clock.tick().0,
            overruns: session.counters.overruns.load(Ordering::Relaxed),
            slips: session.counters.slips.load(Ordering::Relaxed),
            stuck: session.is_stuck(),
        };
        self.shared.registry.all().iter().map(of).collect()
    }
}
