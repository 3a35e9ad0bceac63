//! What runs sessions: threads that step them, threads that write their recordings, threads that start sessions and close
//! recordings. Sessions come and go while the server runs.

use std::{
    io,
    num::NonZeroUsize,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering},
    },
    time::{Instant, SystemTime},
};

use tickwire_recording::{ChatRecord, Recorder, Recorders};
use tickwire_shared::{Game, TickRate};
use tickwire_simulation::Session;
use tokio::sync::Notify;

use super::{
    Registry, ResumeTokens, SeatToken, SessionHandle, SessionName, SessionTerms, StartError,
    runner::{self, RunningSession},
    threads::SimulationThreads,
    workers::Workers,
};
use crate::{
    config::ServerConfig,
    limits::Quota,
    metrics::SessionMeters,
    net::{NetworkThread, Relay},
    watch,
};

/// The ticks of sessions that come while others run are spread over so many phases.
const PHASES: u32 = 256;

/// Owns what runs sessions. Dropped, it stops them and waits until they are over, but for those that are stuck.
#[derive(Debug)]
pub(crate) struct SessionHost(Arc<Host>);

/// What runs sessions.
#[derive(Debug)]
pub(crate) struct Host {
    running: Mutex<Running>,
    /// Places that have been given out.
    places: AtomicU32,
    pub(crate) config: ServerConfig,
    pub(crate) registry: Arc<Registry>,
    network: Vec<Arc<NetworkThread>>,
    /// What all sessions' ticks are spread out from.
    pub(super) started: Instant,
    pub(super) threads: SimulationThreads,
    pub(super) recorders: Recorders,
    pub(super) closers: Workers,
    /// Starts sessions while others run.
    makers: Workers,
    /// Of all sessions.
    pub(super) resume_tokens: Arc<ResumeTokens>,
    /// Rings when a session ends, gets stuck or goes on.
    pub(super) changed: Arc<Notify>,
    pub(super) meters: Arc<SessionMeters>,
    /// The ends of sessions that are being shown late.
    pub(super) tails: Arc<Quota>,
}

#[derive(Debug, Default)]
struct Running {
    sessions: Vec<RunningSession>,
    /// All that start from now on end at once.
    stopped: bool,
}

/// Which session to start.
#[derive(Debug)]
pub(crate) struct SessionOrder {
    pub(crate) name: SessionName,
    pub(crate) origin: Origin,
    pub(crate) shape: SessionShape,
    pub(crate) terms: SessionTerms,
    pub(crate) place: Place,
}

/// A session's place among all of them, in the order in which they were asked for; their ticks are spread out by it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// One of so many that start with the server.
    Of(u32, u32),
    /// The next.
    Next,
}

/// What decides a new session's ticks, beside its game and its seed.
#[derive(Clone, Debug)]
pub(crate) struct SessionShape {
    pub(crate) tick_rate: TickRate,
    pub(crate) max_players: u32,
    /// By name, in units; of several of a name the last counts.
    pub(crate) settings: Vec<(String, f64)>,
}

/// Where a session comes from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// It begins, and with this its randomness.
    Seed(u64),
    /// It goes on.
    Recovered(Box<RecoveredSession>),
}

/// A session of a server that was killed, with its recording, which goes on.
#[derive(Debug)]
pub(crate) struct RecoveredSession {
    pub(crate) session: Session,
    pub(crate) recorder: Recorder,
    pub(crate) created: SystemTime,
    /// Who may resume a seat.
    pub(crate) seat_tokens: Vec<SeatToken>,
    /// The newest lines that were said, oldest first.
    pub(crate) said: Vec<ChatRecord>,
    /// Of one that was created while its server ran.
    pub(crate) terms: Option<SessionTerms>,
}

impl SessionShape {
    /// What sessions have that are started with the server.
    pub(crate) fn of(config: &ServerConfig) -> Self {
        Self { tick_rate: config.tick_rate, max_players: config.max_players.get(), settings: config.settings.clone() }
    }
}

impl SessionHost {
    /// A host without sessions. One that takes `config.timeouts.stuck` for a tick is taken for stuck. `changed` rings when a
    /// session ends, gets stuck or goes on.
    pub(crate) fn new(
        threads_max: NonZeroUsize,
        config: ServerConfig,
        network: Vec<Arc<NetworkThread>>,
        recorders: Recorders,
        changed: Arc<Notify>,
    ) -> io::Result<Self> {
        Ok(Self(Arc::new(Host {
            running: Mutex::default(),
            places: AtomicU32::new(0),
            registry: Arc::default(),
            network,
            started: Instant::now(),
            threads: SimulationThreads::start(threads_max, config.timeouts.stuck)?,
            recorders,
            closers: Workers::new("tickwire-close"),
            makers: Workers::new("tickwire-create"),
            resume_tokens: Arc::default(),
            changed,
            meters: Arc::default(),
            tails: Arc::default(),
            config,
        })))
    }

    /// What it owns.
    pub(crate) fn shared(&self) -> &Arc<Host> {
        &self.0
    }
}

impl Host {
    /// What seats are taken back by.
    pub(crate) fn resume_tokens(&self) -> &Arc<ResumeTokens> {
        &self.resume_tokens
    }

    /// Of all sessions that there have been.
    pub(crate) fn meters(&self) -> &Arc<SessionMeters> {
        &self.meters
    }

    /// Starts a session, and has it stepped from now on; `publish` is to take it into the registry. This waits for the game and
    /// for the disk.
    pub(crate) fn start(
        &self,
        order: SessionOrder,
        game: Arc<dyn Game>,
        publish: impl FnOnce(&Arc<SessionHandle>),
    ) -> Result<Arc<SessionHandle>, StartError> {
        let (place, phase) = match order.place {
            Place::Of(place, count) => {
                self.places.fetch_max(place + 1, Ordering::Relaxed);
                (place, (place, count))
            }
            Place::Next => {
                let place = self.places.fetch_add(1, Ordering::Relaxed);
                // Far from those before, however many there are.
                (place, (place.reverse_bits() >> (u32::BITS - PHASES.ilog2()), PHASES))
            }
        };
        let relay = |thread: &Arc<NetworkThread>| {
            let relay = Arc::new(Relay::new(thread.sleeper.clone()));
            thread.runtime.spawn(Arc::clone(&relay).run());
            relay
        };
        let relays: Vec<_> = self.network.iter().map(relay).collect();
        let started = runner::start(self, order, game, (place, phase), relays.clone());
        // Their tasks wait for a session that never comes else.
        let session = started.inspect_err(|_| relays.iter().for_each(|relay| relay.close()))?;
        let handle = Arc::clone(&session.handle);
        let mut running = self.lock();
        running.sessions.push(session);
        if running.stopped {
            handle.stop();
        }
        drop(running);
        // Without network threads nobody watches.
        if let Some(thread) = self.network.get(place as usize % self.network.len().max(1))
            && let Err(error) = watch::keep_edge(&handle, &thread.runtime)
        {
            handle.stop();
            self.lock().sessions.retain(|running| !Arc::ptr_eq(&running.handle, &handle));
            return Err(StartError::Thread(error));
        }
        publish(&handle);
        Ok(handle)
    }

    /// Runs `work` soon, on a thread for what may take its time: it starts a session.
    ///
    /// # Errors
    /// Where there is no thread for it, and none can be had: it is dropped then.
    pub(crate) fn make(&self, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.makers.try_run(work)
    }

    /// Forgets a session that is over.
    pub(crate) fn forget(&self, session: &Arc<SessionHandle>) {
        self.registry.remove(session);
        self.lock().sessions.retain(|running| !Arc::ptr_eq(&running.handle, session));
    }

    /// The files that sessions are being recorded to, in order of the sessions' places.
    pub(crate) fn recordings(&self) -> Vec<PathBuf> {
        let running = self.lock();
        let mut recordings: Vec<_> = running
            .sessions
            .iter()
            .filter_map(|session| Some((session.handle.place, session.recording.clone()?)))
            .collect();
        recordings.sort_by_key(|(place, _)| *place);
        recordings.into_iter().map(|(_, path)| path).collect()
    }

    /// Has all sessions stop, those that come later too.
    pub(crate) fn stop(&self) {
        let mut running = self.lock();
        running.stopped = true;
        running.sessions.iter().for_each(|session| session.handle.stop());
    }

    /// Waits until all sessions are over and their recordings closed. One that is stuck at `deadline` is left behind, and
    /// its recording closed as that of a server that was killed. They must have been stopped.
    pub(crate) async fn ended(&self, deadline: Instant) {
        loop {
            let sessions = std::mem::take(&mut self.lock().sessions);
            if sessions.is_empty() {
                return;
            }
            for mut session in sessions {
                session.ended(&self.closers, deadline).await;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().expect("no holder of this lock panics")
    }
}

impl Drop for SessionHost {
    fn drop(&mut self) {
        self.0.stop();
        // What they start from now on ends at once.
        self.0.makers.wait();
        self.0.threads.close();
        self.0.closers.wait();
    }
}
