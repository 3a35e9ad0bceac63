//! A session's thread: it owns the world, keeps the pace, and never waits for the network or the disk.

use std::{
    any::Any,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use tickwire_recording::EndReason;
use tickwire_replication::{ReplicationConfig, Replicator};
use tickwire_shared::{Game, Tick};
use tickwire_simulation::{JoinError, Session, SessionConfig, SessionError, SessionLimits, TickPanic};
use tickwire_wire::schema;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::{
    SeatGuard, SessionHandle, SessionName, SessionState, TickClock,
    clock::{Pace, Pacer},
    handle::SessionCounters,
    mailbox::{Command, Join, Letters, Mailbox, Parting},
    recording::SessionRecorder,
};
use crate::{config::ServerConfig, net::Relay};

/// A session that runs on a thread of its own. Dropped, it is stopped and waited for.
#[derive(Debug)]
pub(crate) struct SessionThread {
    pub(crate) handle: Arc<SessionHandle>,
    /// The file that it is being recorded to.
    pub(crate) recording: Option<PathBuf>,
    ended: Option<oneshot::Receiver<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Why a session does not start.
#[derive(Debug)]
pub(crate) enum StartError {
    Session(SessionError),
    Recording { directory: PathBuf, source: io::Error },
    Thread(io::Error),
}

/// Creates a session, and its recording, and starts its thread.
pub(crate) fn start(
    name: SessionName,
    game: Arc<dyn Game>,
    seed: u64,
    config: &ServerConfig,
    relays: Vec<Arc<Relay>>,
) -> Result<SessionThread, StartError> {
    let rate = config.tick_rate;
    let grace_ms = u64::try_from(config.timeouts.grace.as_millis()).unwrap_or(u64::MAX / 1000);
    let limits = SessionLimits { max_players: config.max_players.get(), grace_ticks: rate.ticks_in_ms(grace_ms) };
    let named_settings = config.settings.clone();
    let session_config = SessionConfig { named_settings, seed, tick_rate: rate, limits, ..SessionConfig::default() };
    let session = Session::new(Arc::clone(&game), session_config).map_err(StartError::Session)?;

    let create_time = SystemTime::now();
    let recorder = SessionRecorder::start(config.recordings.as_deref(), &name, &session, create_time)?;
    let recording = recorder.path();
    let handle = Arc::new(SessionHandle {
        schema: Arc::clone(session.schema()),
        schema_message: schema::to_proto(session.schema()),
        settings: session.settings().values().to_vec(),
        tick_rate: rate,
        epoch: session.config().epoch,
        max_players: limits.max_players,
        create_time,
        replicator: Replicator::new(
            game,
            Arc::clone(session.schema()),
            ReplicationConfig::new(rate),
            Arc::clone(session.frame()),
        ),
        clock: TickClock::new(Instant::now(), rate),
        mailbox: Mailbox::new(config.limits.mailbox_messages_max),
        relays,
        counters: SessionCounters::default(),
        state: AtomicU8::new(SessionState::Running as u8),
        seats_taken: AtomicU32::new(0),
        thread: OnceLock::new(),
        name,
    });

    let (tell_end, ended) = oneshot::channel();
    let thread = {
        let handle = Arc::clone(&handle);
        let run = move || {
            run(session, recorder, &handle);
            // Nobody may be waiting.
            let _ = tell_end.send(());
        };
        thread::Builder::new().name("tickwire-sim".into()).spawn(run).map_err(StartError::Thread)?
    };
    let _ = handle.thread.set(thread.thread().clone());
    Ok(SessionThread { handle, recording, ended: Some(ended), thread: Some(thread) })
}

impl SessionThread {
    /// Waits until the thread has ended and the recording is closed. The session must have been stopped.
    pub(crate) async fn ended(mut self) {
        if let Some(ended) = self.ended.take() {
            // An error says that the thread is gone, too.
            let _ = ended.await;
        }
    }
}

impl Drop for SessionThread {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            // What panics in there is caught in there.
            let _ = thread.join();
        }
    }
}

/// Steps a session to its end, and closes its recording.
fn run(session: Session, recorder: SessionRecorder, handle: &Arc<SessionHandle>) {
    let mut runner = Runner { session, recorder, handle, letters: Letters::default(), admitted: Vec::new() };
    // The engine catches what the game panics with; this is for the engine's own bugs, which are to cost one session too.
    let reason = catch_unwind(AssertUnwindSafe(|| runner.run())).unwrap_or_else(|panic| {
        let message = panic_message(&*panic);
        error!(session = %handle.name, message, "the session's thread panicked; this is a bug in Tickwire");
        EndReason::Failed { message: message.to_owned() }
    });
    handle.end(match reason {
        EndReason::Shutdown | EndReason::Ended => SessionState::Stopped,
        EndReason::Failed { .. } | EndReason::Killed => SessionState::Failed,
    });
    handle.mailbox.close();
    let Runner { session, recorder, .. } = runner;
    recorder.close(reason, &handle.name);
    log_totals(&session, handle);
    // What a game's world does when it is dropped is the game's code, too.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(session))) {
        error!(session = %handle.name, message = panic_message(&*panic), "the game panicked while its world was dropped");
    }
}

struct Runner<'a> {
    session: Session,
    recorder: SessionRecorder,
    handle: &'a Arc<SessionHandle>,
    letters: Letters,
    /// Those who sit down at the tick being stepped, and wait for it.
    admitted: Vec<(oneshot::Sender<Result<SeatGuard, JoinError>>, SeatGuard)>,
}

impl Runner<'_> {
    fn run(&mut self) -> EndReason {
        info!(session = %self.handle.name, rate = %self.handle.tick_rate, "session started");
        let mut pacer = Pacer::new(self.handle.tick_rate);
        loop {
            let tick = self.session.tick().next();
            if !self.wait_for(tick, &mut pacer) {
                return EndReason::Shutdown;
            }
            self.read_letters();
            if let Err(TickPanic { tick, message }) = self.step() {
                error!(session = %self.handle.name, %tick, message, "the game panicked; its session ends");
                return EndReason::Failed { message };
            }
            self.answer_admitted();
            self.handle.wake_streams();
        }
    }

    /// Sleeps until `tick` is due. False: the session has been stopped.
    fn wait_for(&self, tick: Tick, pacer: &mut Pacer) -> bool {
        let SessionHandle { clock, state: _, .. } = &**self.handle;
        while self.handle.state() == SessionState::Running {
            let now = Instant::now();
            match pacer.next(tick, clock.since_start(now)) {
                // Unparked where the session is stopped.
                Pace::WaitUntil(due) => thread::park_timeout(clock.instant(due).saturating_duration_since(now)),
                Pace::Step => return true,
                Pace::Slipped(by) => {
                    clock.set_slip(pacer.slip());
                    self.note_slip(tick, by, pacer.slip());
                    return true;
                }
            }
        }
        false
    }

    fn note_slip(&self, tick: Tick, by: Duration, in_all: Duration) {
        let slips = self.handle.counters.slips.fetch_add(1, Ordering::Relaxed) + 1;
        // Each doubling: a session that always slips does not fill the log.
        if slips.is_power_of_two() {
            warn!(session = %self.handle.name, %tick, slips, ?by, ?in_all, "the tick loop is late; its clock slips");
        }
    }

    fn read_letters(&mut self) {
        self.handle.mailbox.swap(&mut self.letters);
        for command in self.letters.commands.drain(..) {
            match command {
                Command::Inputs { player, inputs } => {
                    for input in inputs {
                        // What becomes of it is counted by the session, and told to the client in the next header.
                        self.session.input(player, input);
                    }
                }
                Command::Join(Join { name, reply }) => match self.session.join(&name) {
                    Ok(player) => self.admitted.push((reply, SeatGuard::new(Arc::clone(self.handle), player))),
                    // A client that is gone needs no answer.
                    Err(error) => drop(reply.send(Err(error))),
                },
            }
        }
        for (player, parting) in self.letters.partings.drain(..) {
            match parting {
                Parting::Lost => self.session.disconnect(player),
                Parting::Left => self.session.leave(player),
            }
        }
    }

    fn step(&mut self) -> Result<(), TickPanic> {
        let input = Arc::new(self.session.begin_tick());
        self.recorder.tick_input(&input);
        let output = self.session.finish_tick(&input)?;
        let tick = output.frame.tick;
        self.recorder.tick_result(output.result);
        // Before the frame: who sees there that a seat is gone finds it free.
        self.handle.seats_taken.store(self.session.seats_taken(), Ordering::Release);
        self.handle.replicator.publish(output.frame);
        self.handle.clock.publish(tick);
        Ok(())
    }

    /// Tells those who sat down, now that their seats stand in a frame.
    fn answer_admitted(&mut self) {
        for (reply, seat) in self.admitted.drain(..) {
            // Of a client that is gone the seat comes back, and gives itself up.
            drop(reply.send(Ok(seat)));
        }
    }
}

fn log_totals(session: &Session, handle: &SessionHandle) {
    let counters = session.counters();
    let SessionCounters { inputs_dropped, stale_epochs, resyncs, slips } = &handle.counters;
    info!(
        session = %handle.name,
        ticks = %session.tick(),
        slips = slips.load(Ordering::Relaxed),
        inputs_fresh = counters.fresh,
        inputs_repeated = counters.repeated,
        inputs_late = counters.late,
        inputs_too_early = counters.too_early,
        inputs_duplicate = counters.duplicate,
        inputs_dropped = inputs_dropped.load(Ordering::Relaxed),
        stale_epochs = stale_epochs.load(Ordering::Relaxed),
        resyncs = resyncs.load(Ordering::Relaxed),
        "session ended"
    );
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a message")
}
