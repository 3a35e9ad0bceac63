//! `serve`: hosts matches until interrupted.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    panic, process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tickwire_shared::Game;
use tokio::{
    net::TcpListener,
    runtime::Builder,
    task::{self, JoinHandle},
    time::{sleep_until, timeout_at},
};
use tracing::{error, info, warn};

use super::{
    CliError, INTERRUPTED,
    banner::{Banner, Started},
    log,
    options::{Layers, ServeConfig, ServeFlags},
    output, reload, soundness,
    traces::Traces,
};
use crate::{
    RunError,
    config::ServerConfig,
    ending::Step,
    reload::{Control, Staged},
    server::Server,
};

/// Hosts until the first signal, and ends cleanly then.
pub(super) fn serve(flags: &ServeFlags, games: Vec<Arc<dyn Game>>) -> Result<(), CliError> {
    let layers = Layers::new(flags)?;
    if flags.print_config {
        // It is printed where it is wrong, too: that is what somebody who asks for it may be looking for.
        for line in layers.describe()? {
            output::line(line)?;
        }
    }
    let mut config = layers.resolve()?;
    // Network threads and sessions have their own threads; this one accepts, and sends traces.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    if flags.print_config {
        let _entered = runtime.enter();
        return soundness::check(&layers, &config, &games);
    }
    let served = runtime.block_on(async {
        let traces = config.otlp.as_deref().map(Traces::start).transpose()?;
        config.server.log = log::start(config.log_format, &config.log, traces.as_ref())?;
        let log = config.server.log.clone();
        let reload = |control| {
            Ok::<_, CliError>(reload::of_options(flags.clone(), games.clone(), layers.values()?, control, log))
        };
        let hosted = host(config.clone(), games.clone(), reload).await.map_err(|error| match error {
            CliError::Run(source) => soundness::blame(&layers, &config, source),
            error => error,
        });
        if let Some(traces) = traces {
            // A panic in there has been reported by the panic hook.
            let _ = task::spawn_blocking(move || traces.finish()).await;
        }
        hosted
    });
    // What still asks a disk that hangs is left behind.
    runtime.shutdown_background();
    served
}

async fn host<R>(
    config: ServeConfig,
    games: Vec<Arc<dyn Game>>,
    reload: impl FnOnce(Control) -> Result<R, CliError>,
) -> Result<(), CliError>
where
    R: Fn() -> Result<Staged, String> + Send + Sync + 'static,
{
    let ServeConfig { listen, drain, server: config, .. } = config;
    // Before anything is created on disk: most often it is the port that is taken.
    let listener = TcpListener::bind(listen).await.map_err(|source| CliError::Listen { address: listen, source })?;
    let banner = Banner::of(&config);
    let patience = Patience { drain, interrupted: config.timeouts.drain, close: config.timeouts.close };
    let signals = Signals::new()?;
    let hangups = Hangups::new()?;
    let Some((server, mut signals)) = start(config, games, signals, patience).await? else { return Ok(()) };

    server.reloads().register("options", reload(server.control())?);
    task::spawn(reload_at(hangups, server.control()));
    // A server goes on though nobody reads what it prints.
    let _ = greet(&banner, listener.local_addr()?, &server);
    let shutdown = async move {
        let signal = signals.next().await;
        info!(signal, "ending");
        let within = patience.of(signal);
        guard(signals, Some(Instant::now() + within + LAST_RESORT));
        within
    };
    server.serve_until(listener, shutdown).await;
    Ok(())
}

/// Reads everything anew at each hangup.
async fn reload_at(mut hangups: Hangups, control: Control) {
    while hangups.next().await {
        info!("SIGHUP: reading the configuration anew");
        let control = control.clone();
        // The log says what has come of it.
        let _ = task::spawn_blocking(move || control.reload()).await;
    }
}

/// Says where to go.
fn greet(banner: &Banner, address: SocketAddr, server: &Server) -> io::Result<()> {
    let started = Started {
        address,
        sessions: server.sessions().collect(),
        admin: server.admin_address(),
        metrics: server.metrics_address(),
        signs_tickets: server.signs_tickets(),
    };
    banner.lines(&started).into_iter().try_for_each(output::line)
}

/// Waits for the first signal; from then on another one ends the program at once.
pub(super) async fn until_interrupted(mut signals: Signals) {
    let signal = signals.next().await;
    info!(signal, "ending");
    guard(signals, None);
}

/// How long a server's end may take.
#[derive(Clone, Copy)]
struct Patience {
    /// Who manages processes has said when it is to come.
    drain: Duration,
    /// Who types Ctrl-C waits for it.
    interrupted: Duration,
    /// See [`Timeouts::close`](crate::Timeouts::close).
    close: Duration,
}

impl Patience {
    /// How long streams have after a signal.
    fn of(self, signal: &str) -> Duration {
        if signal == TERMINATE { self.drain } else { self.interrupted }
    }
}

/// Starts the server beside the signals: many sessions take their time. `None` where one came first, and all is ended, or left
/// behind that does not come back.
async fn start(
    config: ServerConfig,
    games: Vec<Arc<dyn Game>>,
    mut signals: Signals,
    patience: Patience,
) -> Result<Option<(Server, Signals)>, CliError> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut starting = task::spawn_blocking({
        let stop = Arc::clone(&stop);
        move || Server::start_unless(&stop, config, games)
    });
    let started = tokio::select! {
        started = &mut starting => started,
        signal = signals.next() => {
            info!(signal, "ending, before all sessions have started");
            stop.store(true, Ordering::Relaxed);
            let latest = Instant::now() + patience.of(signal);
            guard(signals, Some(latest + LAST_RESORT));
            return end_start(starting, latest + patience.close).await.map(|()| None);
        }
    };
    let server = started.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))?;
    Ok(Some((server, signals)))
}

/// Waits for a start that was told to stop, and for the end of what has started until then. At `latest` it is left behind.
async fn end_start(starting: JoinHandle<Result<Server, RunError>>, latest: Instant) -> Result<(), CliError> {
    let Ok(started) = timeout_at(latest.into(), starting).await else {
        error!("a game does not come back from its set-up, or a disk from its start: it is left behind");
        return Ok(());
    };
    match started.unwrap_or_else(|error| panic::resume_unwind(error.into_panic())) {
        Err(RunError::Stopped) => {}
        Err(error) => return Err(error.into()),
        // Its sessions end when it is dropped.
        Ok(server) => Step::start("sessions", move || drop(server)).wait_until(latest).await,
    }
    Ok(())
}

/// Signals that come this close behind the first are taken for the same one: process managers, and GNU `timeout`, send one
/// to a process and one to its group.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

/// So long after the deadline of streams the program ends whatever holds it up: what is left of 5 s is for the log's last lines.
const LAST_RESORT: Duration = Duration::from_millis(3800);

/// From now on another signal ends the program at once, and so does this time, whatever its other threads are waiting for.
fn guard(mut signals: Signals, latest: Option<Instant>) {
    let waits = async move {
        match latest {
            None => exit_at_once(&mut signals).await,
            Some(latest) => tokio::select! {
                never = exit_at_once(&mut signals) => never,
                () = sleep_until(latest.into()) => exit("it takes too long"),
            },
        }
    };
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            warn!(%error, "a second signal may have to wait for what holds up the end");
            tokio::spawn(waits);
            return;
        }
    };
    let spawned =
        thread::Builder::new().name("tickwire-signals".into()).spawn(move || match runtime.block_on(waits) {});
    if let Err(error) = spawned {
        warn!(%error, "a second signal does not end the program at once");
    }
}

/// Waits for one more signal, and for nothing after it.
async fn exit_at_once(signals: &mut Signals) -> Infallible {
    let first = Instant::now();
    let mut signal = signals.next().await;
    while first.elapsed() < SAME_SIGNAL {
        info!(signal, "so soon, that is taken for the same signal once more: another one ends the program at once");
        signal = signals.next().await;
    }
    exit(signal)
}

fn exit(why: &str) -> ! {
    warn!(why, "ending without a clean end; recordings may need `recordings repair`");
    log::finish();
    process::exit(INTERRUPTED)
}

/// The signal of process managers.
const TERMINATE: &str = "SIGTERM";
/// The signal that asks a server to read its configuration anew.
struct Hangups {
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Hangups {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { hangup: signal(SignalKind::hangup())? })
    }

    /// Whether there is another.
    async fn next(&mut self) -> bool {
        self.hangup.recv().await.is_some()
    }
}

#[cfg(not(unix))]
impl Hangups {
    fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) -> bool {
        false
    }
}

/// The signals that ask a server to end.
pub(super) struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => TERMINATE,
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) -> &'static str {
        // Where it cannot be listened for, the program ends by the system's own ways.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        "Ctrl-C"
    }
}
