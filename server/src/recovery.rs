//! Before a server's first session: those that a killed one has left unfinished are played again, several at a time, each on
//! a thread of its own.

use std::{
    any::Any,
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
    io,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use tickwire_recording::{
    EndReason, Recorders, Recording, RecordingError, RecordingMeta, Recovery, RecoveryError, RecoveryOptions,
    Unfinished, game_of, is_lost, remove_stillborn, set_aside,
};
use tickwire_shared::{Game, Tick, TickRate};
use tracing::{error, error_span, info, warn};

use crate::{
    chat,
    config::ServerConfig,
    log_fields::millis,
    replay_command::{log_panic_command, replay_command},
    server::RunError,
    session::{RecoveredSession, SeatToken, SessionName, SessionTerms, grace_ticks, recorder_options},
};

/// How often somebody who waits looks whether the server is to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// For how long recordings that somebody else has are asked for again: whoever lists them has each for a moment.
const IN_USE_PATIENCE: Duration = Duration::from_secs(1);

/// Sessions that go on.
pub(crate) type RecoveredSessions = BTreeMap<SessionName, RecoveredSession>;

/// Plays unfinished recordings again.
pub(crate) struct Recoverer<'a> {
    pub(crate) config: &'a ServerConfig,
    pub(crate) directory: &'a Path,
    /// Those that the server hosts.
    pub(crate) hosted: &'a [Arc<dyn Game>],
    /// All that it was built with.
    pub(crate) games: &'a [Arc<dyn Game>],
    pub(crate) recorders: Recorders,
    /// How many at a time.
    pub(crate) threads: NonZeroUsize,
}

/// One of them.
struct Job {
    session: SessionName,
    /// Of one that was created while its server ran.
    terms: Option<SessionTerms>,
    unfinished: Unfinished,
    /// `None`: an older one of its session. It is only finished.
    game: Option<Arc<dyn Game>>,
    /// Of an older one: what the next newer one's header says, where that is there.
    next: Option<RecordingMeta>,
}

/// One that a thread has.
struct Running {
    session: SessionName,
    path: PathBuf,
    rate: TickRate,
    /// How far it was, and when, for as long as it may take without getting further.
    mark: (u64, Instant),
    shared: Arc<Shared>,
}

/// What a thread shares with who waits for it.
#[derive(Default)]
struct Shared {
    /// It is to come to an end.
    stop: AtomicBool,
    /// How many ticks have been read, or played.
    ticks_done: AtomicU64,
    /// Somebody has taken on what becomes of the recording: the thread, or who waited for it.
    decided: AtomicBool,
}

/// What has become of one.
enum Outcome {
    GoesOn(Box<RecoveredSession>),
    /// It is finished, or set aside.
    Gone,
    /// The disk does not do what is needed to go on. Nothing is lost as yet.
    DiskFails(io::Error),
}

impl Shared {
    /// Whether the caller is to see to the recording.
    fn decide(&self) -> bool {
        !self.decided.swap(true, Ordering::AcqRel)
    }
}

impl Recoverer<'_> {
    /// What becomes of recordings that nobody has ended: sessions, of which nobody plays as yet.
    ///
    /// # Errors
    /// Where the disk does not let a session go on that could, or `stop` comes true. All can be tried again then.
    pub(crate) fn recover(&self, unfinished: Vec<PathBuf>, stop: &AtomicBool) -> Result<RecoveredSessions, RunError> {
        let began = Instant::now();
        let mut waiting = self.jobs(unfinished)?;
        let mut sessions = RecoveredSessions::new();
        let mut running = BTreeMap::new();
        let mut gone = 0_usize;
        let (tell, told) = channel();
        let mut numbers = 0_usize..;
        let result = 'all: loop {
            while running.len() < self.threads.get()
                && let Some(job) = waiting.pop_front()
            {
                let number = numbers.next().expect("as good as endless");
                match self.start(number, job, tell.clone()) {
                    Ok(started) => drop(running.insert(number, started)),
                    Err(error) => break 'all Err(error),
                }
            }
            if running.is_empty() {
                break Ok(());
            }
            if stop.load(Ordering::Relaxed) {
                break Err(RunError::Stopped);
            }
            match self.next(&told, &mut running) {
                None => {}
                Some((session, Outcome::GoesOn(recovered))) => drop(sessions.insert(session, *recovered)),
                Some((_, Outcome::Gone)) => gone += 1,
                Some((_, Outcome::DiskFails(source))) => {
                    break Err(RunError::Recording { directory: self.directory.to_owned(), source });
                }
            }
        };
        if result.is_err() {
            self.leave(&told, running);
        }
        result?;
        if !sessions.is_empty() || gone > 0 {
            info!(sessions = sessions.len(), not_recovered = gone, took_ms = millis(began.elapsed()), "recovered");
        }
        Ok(sessions)
    }

    /// Takes the recordings. Of each session the newest goes on.
    ///
    /// # Errors
    /// Where one cannot be read now, so that nobody knows whose it is: its session is not to begin anew beside it.
    fn jobs(&self, paths: Vec<PathBuf>) -> Result<VecDeque<Job>, RunError> {
        let patience = Instant::now() + IN_USE_PATIENCE;
        let fails = |source| RunError::Recording { directory: self.directory.to_owned(), source };
        let mut jobs: Vec<Job> = Vec::new();
        for path in &paths {
            jobs.extend(self.job(path, patience).map_err(fails)?);
        }
        let age = |job: &Job| {
            let meta = job.unfinished.meta();
            (job.session.clone(), Reverse((meta.created, meta.segment.number)))
        };
        jobs.sort_by_key(age);
        // Copies of one file: the one with which the match has gone on furthest.
        for copies in jobs.chunk_by_mut(|a, b| age(a) == age(b)).filter(|copies| copies.len() > 1) {
            copies.sort_by_cached_key(|job| Reverse(reach(job.unfinished.recording())));
        }
        for i in (0..jobs.len()).rev() {
            let newer = i.checked_sub(1).map(|newer| &jobs[newer]).filter(|newer| newer.session == jobs[i].session);
            let next = newer.map(|newer| newer.unfinished.meta().clone());
            // One whose end could not be written may still be here, and the next segment finished.
            if next.is_some() || jobs[i].unfinished.has_successor() {
                (jobs[i].game, jobs[i].next) = (None, next);
            }
        }
        Ok(jobs.into())
    }

    fn job(&self, path: &Path, patience: Instant) -> io::Result<Option<Job>> {
        let opened = loop {
            let opened = match remove_stillborn(path) {
                Ok(true) => {
                    info!(path = %path.display(), "removed a recording, or a segment of one, that a killed server was beginning");
                    return Ok(None);
                }
                Ok(false) => Unfinished::on(Arc::clone(&self.config.storage), path),
                Err(error) => Err(error),
            };
            match opened {
                Err(RecordingError::InUse { .. }) if Instant::now() < patience => thread::sleep(LOOK_INTERVAL),
                opened => break opened,
            }
        };
        let unfinished = match opened {
            Ok(unfinished) => unfinished,
            // Somebody has taken it away.
            Err(RecordingError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(RecordingError::Io { source, .. }) if !is_lost(&source) => {
                let problem = format!("the unfinished recording {} cannot be read now: {source}", path.display());
                return Err(io::Error::new(source.kind(), problem));
            }
            Err(error @ RecordingError::InUse { .. }) => {
                return Err(io::Error::new(io::ErrorKind::WouldBlock, error));
            }
            Err(error) => {
                put_aside(path, &error.to_string());
                return Ok(None);
            }
        };
        let terms = match unfinished.meta().terms.clone().map(SessionTerms::from_proto).transpose() {
            Ok(terms) => terms,
            Err(error) => {
                put_aside(path, &error.to_string());
                return Ok(None);
            }
        };
        let session = match unfinished.meta().session.parse::<SessionName>() {
            Ok(session) => session,
            Err(error) => {
                put_aside(path, &error.to_string());
                return Ok(None);
            }
        };
        match game_of(unfinished.recording(), self.games) {
            Err(error) => {
                put_aside(path, &error.to_string());
                Ok(None)
            }
            Ok(game) if !self.hosted.iter().any(|hosted| hosted.name() == game.name()) => {
                warn!(%session, path = %path.display(), "its game is not hosted: the unfinished recording is left as it is");
                Ok(None)
            }
            Ok(game) => Ok(Some(Job { session, terms, unfinished, game: Some(game), next: None })),
        }
    }

    fn start(&self, number: usize, job: Job, tell: Sender<(usize, Outcome)>) -> Result<Running, RunError> {
        let (session, path) = (job.session.clone(), job.unfinished.path().to_owned());
        let span = error_span!(parent: None, "recovery", %session);
        let shared = Arc::<Shared>::default();
        let rate = job.unfinished.meta().tick_rate;
        let mark = (0, Instant::now());
        let running = Running { session, path: path.clone(), rate, mark, shared: Arc::clone(&shared) };
        let (config, recorders) = (self.config.clone(), self.recorders.clone());
        let work = move || {
            let _entered = span.entered();
            let outcome = catch_unwind(AssertUnwindSafe(|| job.run(&config, &recorders, &shared)));
            let outcome = outcome.unwrap_or_else(|panic| {
                put_aside(&path, &format!("recovering it panicked; this is a bug in Tickwire: {}", message(&*panic)));
                Outcome::Gone
            });
            // Nobody may be waiting any more.
            let _ = tell.send((number, outcome));
        };
        thread::Builder::new().name("tickwire-recover".into()).spawn(work).map_err(RunError::Threads)?;
        Ok(running)
    }

    /// Waits for a while for what becomes of one.
    fn next(
        &self,
        told: &Receiver<(usize, Outcome)>,
        running: &mut BTreeMap<usize, Running>,
    ) -> Option<(SessionName, Outcome)> {
        match told.recv_timeout(LOOK_INTERVAL) {
            // One that was given up comes too late.
            Ok((number, outcome)) => return running.remove(&number).map(|running| (running.session, outcome)),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        let (limit, now) = (self.config.timeouts.recovery, Instant::now());
        let late = |running: &Running| now.saturating_duration_since(running.mark.1);
        for running in running.values_mut().filter(|running| late(running) > limit) {
            // As long as it is faster than the match was, it comes to an end some day.
            let done = running.shared.ticks_done.load(Ordering::Relaxed);
            let least = u128::from(running.rate.hz()) * late(running).as_millis() / 1000;
            if !running.shared.stop.load(Ordering::Relaxed) && u128::from(done - running.mark.0) > least {
                running.mark = (done, now);
            } else {
                running.shared.stop.store(true, Ordering::Relaxed);
            }
        }
        // It has been told to stop between two ticks, and does not come back from one.
        let given_up = limit.saturating_add(self.config.timeouts.end);
        let is_given_up = |running: &Running| late(running) > given_up && running.shared.decide();
        let number = *running.iter().find(|(_, running)| is_given_up(running))?.0;
        let Running { session, path, .. } = running.remove(&number)?;
        put_aside(&path, &format!("the game does not come back from a tick that is played again, for {given_up:?}"));
        Some((session, Outcome::Gone))
    }

    /// Leaves what is under way as it was.
    fn leave(&self, told: &Receiver<(usize, Outcome)>, mut running: BTreeMap<usize, Running>) {
        for Running { shared, .. } in running.values() {
            // First, so that no thread takes its being stopped for the recording's fault.
            shared.decided.store(true, Ordering::Release);
            shared.stop.store(true, Ordering::Release);
        }
        let deadline = Instant::now() + self.config.timeouts.end;
        while !running.is_empty()
            && let Ok((number, _)) = told.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            running.remove(&number);
        }
    }
}

impl Job {
    fn run(self, config: &ServerConfig, recorders: &Recorders, shared: &Shared) -> Outcome {
        let Self { session, terms, unfinished, game, next } = self;
        let Some(game) = game else { return finish(&session, &unfinished, next.as_ref(), shared) };
        let began = Instant::now();
        let (path, rate) = (unfinished.path().to_owned(), unfinished.meta().tick_rate);
        let created = unfinished.meta().created;
        let file = path.display();
        info!(%session, %file, "recovering a session that a killed server has left");
        let options = RecoveryOptions {
            grace_ticks: grace_ticks(config, rate),
            now: SystemTime::now(),
            stop: &shared.stop,
            ticks_done: &shared.ticks_done,
        };
        let recovered = unfinished.recover(game, options);
        if !shared.decide() {
            return Outcome::Gone;
        }
        let resumable = match recovered {
            Ok(Recovery::GoesOn(resumable)) => resumable,
            Ok(Recovery::Over { finished, end }) => {
                let file = finished.path.display();
                info!(%session, %file, reason = end.reason.word(), tick = end.tick.0, "the session had ended");
                if let EndReason::Failed { .. } = end.reason {
                    log_panic_command(&session, end.tick, &finished.path);
                }
                return Outcome::Gone;
            }
            Err((RecoveryError::Disk { source, .. }, _)) => {
                error!(%session, %file, error = %source, "the session cannot be recovered now");
                return Outcome::DiskFails(source);
            }
            Err((error, unfinished)) => {
                put_aside(unfinished.path(), &error.to_string());
                return Outcome::Gone;
            }
        };
        let recovered = *resumable.recovered();
        let said = chat::said(&path, resumable.meta(), resumable.said().cloned().collect());
        let seat_tokens = resumable.seat_tokens().iter().map(SeatToken::from).collect();
        match recorders.resume(*resumable, recorder_options(config, rate, &session)) {
            Ok((state, recorder)) => {
                let (tick, epoch, seats) = (recovered.tick, recovered.epoch, state.seats_taken());
                let took_ms = millis(began.elapsed());
                info!(%session, tick = tick.0, epoch, seats, took_ms, "session recovered");
                Outcome::GoesOn(Box::new(RecoveredSession {
                    session: state,
                    recorder,
                    created,
                    seat_tokens,
                    said,
                    terms,
                }))
            }
            Err(source) => {
                error!(%session, %file, error = %source, "the session cannot be recorded now");
                Outcome::DiskFails(source)
            }
        }
    }
}

/// Makes a finished recording of one that another has taken the place of.
fn finish(session: &SessionName, unfinished: &Unfinished, next: Option<&RecordingMeta>, shared: &Shared) -> Outcome {
    if !shared.decide() {
        return Outcome::Gone;
    }
    match next.map_or_else(|| unfinished.finish(), |next| unfinished.finish_before(next)) {
        Ok(finished) => info!(%session, path = %finished.path.display(), "finished an older recording of the session"),
        Err(error) => error!(%session, %error, "an older recording of the session cannot be finished"),
    }
    Outcome::Gone
}

/// In how many servers' lives a match has gone on in this file, and up to which tick.
fn reach(recording: &Recording) -> (usize, Tick) {
    let summary = recording.scan();
    (summary.recovered.len(), summary.last_tick())
}

fn put_aside(path: &Path, reason: &str) {
    match set_aside(path, reason) {
        Ok(to) => {
            let replay = replay_command(&to);
            error!(path = %to.display(), reason, replay, "an unfinished recording is set aside");
        }
        Err(error) => error!(path = %path.display(), reason, %error, "an unfinished recording cannot be set aside"),
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a message")
}
