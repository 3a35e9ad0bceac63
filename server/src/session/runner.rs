//! A session as a task of the simulation threads: it owns the world, keeps the pace, and never waits for network or disk.

use std::{
    any::Any,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use tickwire_proto::v1 as pb;
use tickwire_recording::EndReason;
use tickwire_replication::{ReplicationConfig, Replicator};
use tickwire_shared::{Game, Tick, TickRate};
use tickwire_simulation::{SeatChange, Session, SessionConfig, SessionError, SessionLimits, TickPanic};
use tickwire_wire::schema;
use tokio::{
    sync::{oneshot, watch},
    time::sleep_until,
};
use tracing::{Span, error, error_span, info};

use super::{
    Host, NotSeated, SeatLedger, SessionCounters, SessionEnding, SessionHandle, SessionShape, SessionState, TickClock,
    clock::{Pace, Pacer, staggered_origin},
    handle::SessionControl,
    host::{Origin, RecoveredSession, SessionOrder},
    live::LiveEdge,
    mailbox::{Command, Join, Letters, Mailbox, Resume},
    pause::Turn,
    recording::{RecordingCloser, SessionRecorder},
    seats::{Admitted, NotResumed, SeatKeeper},
    threads::Task,
    workers::Workers,
};
use crate::{chat::Room, config::ServerConfig, limits::Quota, metrics::SessionMeters, net::Relay};

/// How often a session that stands still looks for who comes back.
const STANDSTILL_LOOK: Duration = Duration::from_millis(50);

/// A session that runs.
#[derive(Debug)]
pub(super) struct RunningSession {
    pub(super) handle: Arc<SessionHandle>,
    /// The file that it is being recorded to.
    pub(super) recording: Option<PathBuf>,
    closer: RecordingCloser,
    ended: Option<oneshot::Receiver<()>>,
}

/// Why a session does not start.
#[derive(Debug)]
pub(crate) enum StartError {
    Session(SessionError),
    Recording { directory: PathBuf, source: io::Error },
    Thread(io::Error),
}

/// The world of a session, at tick 0.
pub(crate) fn create(
    game: Arc<dyn Game>,
    config: &ServerConfig,
    shape: SessionShape,
    seed: u64,
) -> Result<Session, SessionError> {
    let SessionShape { tick_rate: rate, max_players, settings: named_settings } = shape;
    let limits = SessionLimits { max_players, grace_ticks: grace_ticks(config, rate), rewind_ms: config.rewind_ms };
    Session::new(game, SessionConfig { named_settings, seed, tick_rate: rate, limits, ..SessionConfig::default() })
}

/// For how many ticks of a session at `rate` the seat of a lost connection is kept.
pub(crate) fn grace_ticks(config: &ServerConfig, rate: TickRate) -> u64 {
    rate.ticks_in_ms(u64::try_from(config.timeouts.grace.as_millis()).unwrap_or(u64::MAX / 1000))
}

/// Creates a session and its recording, where it does not go on, and has it stepped.
pub(super) fn start(
    host: &Host,
    order: SessionOrder,
    game: Arc<dyn Game>,
    (place, (phase, phases)): (u32, (u32, u32)),
    relays: Vec<Arc<Relay>>,
) -> Result<RunningSession, StartError> {
    let SessionOrder { name, origin, shape, terms, place: _ } = order;
    let _creating = error_span!("create", session = %name).entered();
    let config = &host.config;
    let (mut session, recorder, create_time, (seat_tokens, said)) = match origin {
        Origin::Seed(seed) => {
            let session = create(Arc::clone(&game), config, shape, seed).map_err(StartError::Session)?;
            let now = SystemTime::now();
            let recorder = SessionRecorder::start(&host.recorders, config, (&name, &terms), &session, now)?;
            (session, recorder, now, (Vec::new(), Vec::new()))
        }
        Origin::Recovered(recovered) => {
            let RecoveredSession { session, recorder, created, seat_tokens, said, terms: _ } = *recovered;
            (session, SessionRecorder::resume(recorder), created, (seat_tokens, said))
        }
    };
    let (rate, first) = (session.config().tick_rate, session.tick());
    let recording = recorder.path();
    let now = Instant::now();
    let origin = staggered_origin(host.started, now, rate, phase, phases);
    let replicator = || {
        Replicator::new(Arc::clone(&game), session.schema(), ReplicationConfig::new(rate), Arc::clone(session.frame()))
    };
    let handle = Arc::new(SessionHandle {
        schema: Arc::clone(session.schema()),
        schema_message: schema::to_proto(session.schema()),
        settings: session.settings().values().to_vec(),
        tick_rate: rate,
        epoch: session.config().epoch,
        max_players: session.config().limits.max_players,
        create_time,
        replicator: replicator(),
        live: LiveEdge::new(terms.spectator_delay, rate, replicator),
        seats: SeatLedger::new(session.config().limits.max_players, session.seats_taken(), now),
        clock: TickClock::new(origin, rate, first),
        mailbox: Mailbox::new(config.limits.mailbox_messages_max),
        relays,
        counters: Arc::<SessionCounters>::default(),
        chat: Room::new(
            session.config().epoch,
            config.recording.chat && recording.is_some(),
            said,
            &config.limits.chat,
        ),
        recording: recorder.watch(),
        control: SessionControl::default(),
        state: AtomicU8::new(SessionState::Running as u8),
        seats_taken: AtomicU32::new(session.seats_taken()),
        ending: OnceLock::new(),
        end_time: OnceLock::new(),
        over: watch::Sender::new(false),
        stuck: watch::Sender::new(false),
        task: OnceLock::new(),
        changed: Arc::clone(&host.changed),
        news: Arc::clone(host.registry.news()),
        name,
        place,
        terms,
    });

    let (tell_end, ended) = oneshot::channel();
    let closer = recorder.closer();
    let pacer = Pacer::new(rate, first);
    let due = handle.clock.instant(pacer.due(first.next()));
    let mut seats = SeatKeeper::new(Arc::clone(&host.resume_tokens), &session);
    seats.restore(&mut session, &handle, seat_tokens);
    let runner = Runner {
        session,
        seats,
        recorder,
        handle: Arc::clone(&handle),
        pacer,
        letters: Letters::default(),
        joins: Vec::new(),
        admitted: Vec::new(),
        closers: host.closers.clone(),
        meters: Arc::clone(&host.meters),
        tell_end,
        tails: Arc::clone(&host.tails),
        span: error_span!(parent: None, "session", session = %handle.name),
        stands: false,
    };
    host.meters.add(&handle);
    info!(session = %handle.name, rate_hz = rate.hz(), "session started");
    let task = host.threads.add(due, Box::new(runner), Arc::clone(&handle) as _).map_err(StartError::Thread)?;
    let _ = handle.task.set(task);
    Ok(RunningSession { handle, recording, closer, ended: Some(ended) })
}

impl RunningSession {
    /// Waits for its end: see [`SessionHost::ended`].
    pub(super) async fn ended(&mut self, closers: &Workers, deadline: Instant) {
        let Some(ended) = self.ended.take() else { return };
        let given_up = async {
            sleep_until(deadline.into()).await;
            self.handle.gets_stuck().await;
        };
        tokio::select! {
            // An error says that it is gone, too.
            _ = ended => return,
            () = given_up => {}
        }
        error!(session = %self.handle.name, "the game still does not come back from its tick: its thread is left behind");
        let (tell_end, closed) = oneshot::channel();
        let (closer, handle) = (self.closer.clone(), Arc::clone(&self.handle));
        closers.run(move || {
            closer.close(EndReason::Killed, &handle.name);
            handle.note_over();
            // Nobody may be waiting.
            let _ = tell_end.send(());
        });
        let _ = closed.await;
    }
}

struct Runner {
    session: Session,
    seats: SeatKeeper,
    recorder: SessionRecorder,
    handle: Arc<SessionHandle>,
    pacer: Pacer,
    letters: Letters,
    /// Came before the session stood still, and wait for its next tick.
    joins: Vec<Join>,
    /// Those who sit down at the tick being stepped, and wait for it.
    admitted: Vec<(Waiting, Admitted)>,
    closers: Workers,
    meters: Arc<SessionMeters>,
    tell_end: oneshot::Sender<()>,
    /// The ends of sessions that are shown late.
    tails: Arc<Quota>,
    /// From its start to its end. Log lines of its game belong to it.
    span: Span,
    /// No tick has been stepped since it began to stand still.
    stands: bool,
}

/// Who waits for a seat.
enum Waiting {
    Newcomer(oneshot::Sender<Result<Admitted, NotSeated>>),
    Returning(oneshot::Sender<Result<Admitted, NotResumed>>),
}

impl Task for Runner {
    fn run(mut self: Box<Self>) -> Option<(Instant, Box<dyn Task>)> {
        let span = self.span.clone();
        let _entered = span.enter();
        // The engine catches what the game panics with; this is for the engine's own bugs, which are to cost one session
        // too.
        let stepped = catch_unwind(AssertUnwindSafe(|| self.step_if_due())).unwrap_or_else(|panic| {
            let message = panic_message(&*panic);
            error!(message, "stepping a session panicked; this is a bug in Tickwire");
            Err(EndReason::Failed { message: message.to_owned() })
        });
        match stepped {
            Ok(due) => Some((due, self)),
            Err(reason) => {
                self.end(reason);
                None
            }
        }
    }
}

impl Runner {
    /// Steps the session, if its next tick is due: when the one after that is. An error ends it.
    fn step_if_due(&mut self) -> Result<Instant, EndReason> {
        match self.handle.state() {
            SessionState::Running => {}
            SessionState::Ended => {
                return Err(EndReason::Ended { result_json: self.handle.result_json().to_owned() });
            }
            SessionState::Stopped | SessionState::Failed => return Err(EndReason::Shutdown),
        }
        // A server may have been killed between the last tick and the end.
        self.check_match_end()?;
        let tick = self.session.tick().next();
        let begun = Instant::now();
        let now = self.handle.clock.since_start(begun);
        let turn = self.handle.control.pause.turn();
        if turn == Turn::Stand {
            self.stand_still(now);
            return Ok(begun + STANDSTILL_LOOK);
        }
        self.go_on(tick, turn, now);
        let due = self.pacer.due(tick);
        let late = match self.pacer.next(tick, now) {
            Pace::WaitUntil(due) => return Ok(self.handle.clock.instant(due)),
            Pace::Step => Duration::ZERO,
            Pace::CatchUp => now - due,
            Pace::Slip(by) => {
                self.handle.clock.set_slip(self.pacer.slip());
                self.handle.note_slip(tick, by, self.pacer.slip());
                by
            }
        };
        self.read_letters(false);
        if let Err(TickPanic { tick, message }) = self.step() {
            error!(tick = tick.0, message, "the game panicked; its session ends");
            return Err(EndReason::Failed { message });
        }
        self.answer_admitted();
        self.check_match_end()?;
        self.handle.wake_streams();
        if turn == Turn::Step {
            self.handle.control.pause.note_step();
        }
        // Last: nobody waits for it.
        self.recorder.keyframe(&self.session);
        let took = begun.elapsed();
        self.handle.counters.note_tick(now.saturating_sub(due), took);
        if !late.is_zero() || took > self.handle.tick_rate.duration_of(1) {
            self.handle.note_overrun(tick, late, took);
        }
        Ok(self.handle.clock.instant(self.pacer.due(tick.next())))
    }

    /// An error: the game has ended the match.
    fn check_match_end(&self) -> Result<(), EndReason> {
        let Some(result) = self.session.match_end() else { return Ok(()) };
        let mut result_json = result.to_owned();
        if !result.is_empty()
            && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(result)
        {
            error!(session = %self.handle.name, %error, "the game has ended the match with what is no JSON: it is left out");
            result_json.clear();
        }
        info!(session = %self.handle.name, tick = self.session.tick().0, result_json, "the game has ended the match");
        self.handle.finish(SessionEnding { result_json, ..SessionEnding::of(pb::SessionEndCause::Game) });
        Err(EndReason::Ended { result_json: self.handle.result_json().to_owned() })
    }

    /// Has nothing go by but what needs no tick: those who come back get their seats, so that a standstill costs nobody theirs.
    fn stand_still(&mut self, now: Duration) {
        if !std::mem::replace(&mut self.stands, true) {
            self.handle.clock.stand(Some(now));
        }
        if self.handle.control.pause.note(true) {
            self.tell(pb::NoticeKind::Paused, "the session is paused");
            info!(session = %self.handle.name, tick = self.session.tick().0, "paused");
        }
        self.read_letters(true);
        let frame = Arc::clone(self.session.frame());
        let (seated, waiting) =
            self.admitted.drain(..).partition(|(_, admitted)| frame.seat(admitted.seat.seat().player).is_some());
        self.admitted = seated;
        self.answer_admitted();
        self.admitted = waiting;
    }

    /// Goes on after a standstill, if there was one: for as long as it lasted the clock has not gone on.
    fn go_on(&mut self, tick: Tick, turn: Turn, now: Duration) {
        if std::mem::take(&mut self.stands) {
            self.pacer.go_on(tick, now);
            self.handle.clock.set_slip(self.pacer.slip());
            self.handle.clock.stand(None);
        }
        if turn == Turn::Go && self.handle.control.pause.note(false) {
            self.tell(pb::NoticeKind::Resumed, "the session goes on");
            info!(session = %self.handle.name, tick = self.session.tick().0, "resumed");
        }
    }

    fn tell(&self, kind: pb::NoticeKind, text: &str) {
        let notice = pb::Notice { kind: kind.into(), text: text.into(), ..pb::Notice::default() };
        match kind {
            pb::NoticeKind::Paused => self.handle.control.notices.begin(notice),
            _ => self.handle.control.notices.end(notice),
        }
        self.handle.wake_streams();
    }

    fn read_letters(&mut self, stands: bool) {
        self.handle.mailbox.swap(&mut self.letters);
        if !stands {
            let joins = std::mem::take(&mut self.joins);
            self.letters.commands.splice(0..0, joins.into_iter().map(Command::Join));
        }
        for command in self.letters.commands.drain(..) {
            match command {
                // Those of displaced streams are of nobody.
                Command::Inputs { player, sitting, inputs } if self.seats.is_current(player, sitting) => {
                    for input in inputs {
                        // What becomes of it is counted by the session, and told to the client in the next header.
                        self.session.input(player, input);
                    }
                }
                Command::Inputs { .. } => {}
                // A client that is gone needs no seat.
                Command::Join(Join { reply, .. }) if reply.is_closed() => {}
                Command::Resume(Resume { reply, .. }) if reply.is_closed() => {}
                Command::Join(join) if stands => self.joins.push(join),
                Command::Join(Join { name, reservation, reply }) => {
                    let session = &mut self.session;
                    let sit = || session.join(&name).map(|player| (player, session.seats_taken()));
                    match self.handle.seats.sit_down(reservation.as_ref(), Instant::now(), sit) {
                        Ok(player) => {
                            self.admitted.push((Waiting::Newcomer(reply), self.seats.admit(&self.handle, player)));
                        }
                        Err(error) => drop(reply.send(Err(error))),
                    }
                }
                Command::Resume(Resume { player, proof, reply }) => {
                    match self.seats.resume(&mut self.session, player, proof) {
                        Ok(admitted) => self.admitted.push((Waiting::Returning(reply), admitted)),
                        Err(error) => drop(reply.send(Err(error))),
                    }
                }
            }
        }
        for (player, sitting, news) in self.letters.news.drain(..) {
            self.seats.hear(&mut self.session, player, sitting, news);
        }
    }

    fn step(&mut self) -> Result<(), TickPanic> {
        let input = Arc::new(self.session.begin_tick());
        // Before the input, which has the writer write: whoever is told of a token may use it after a crash.
        for token in self.seats.take_changes() {
            self.recorder.seat_token(input.tick, &token);
        }
        self.recorder.chat(self.handle.chat.take_unrecorded());
        self.recorder.tick_input(&input);
        self.seats.note_inputs(&input);
        for change in &input.seat_changes {
            if let SeatChange::Left { player } = change {
                self.seats.vacate(*player);
            }
        }
        let output = self.session.finish_tick(&input)?;
        let tick = output.frame.tick;
        self.recorder.tick_result(output.result);
        // Before the frame: who sees there that a seat is gone finds it free.
        let seated = self.session.seats_taken();
        self.handle.seats_taken.store(seated, Ordering::Release);
        if !input.seat_changes.is_empty() {
            self.handle.seats.note_seated(seated, Instant::now());
            self.handle.note_news();
        }
        self.handle.live.offer(&output.frame);
        self.handle.replicator.publish(output.frame);
        self.handle.clock.publish(tick);
        self.handle.counters.note_inputs(self.session.counters());
        Ok(())
    }

    /// Tells those who sat down, now that their seats stand in a frame.
    fn answer_admitted(&mut self) {
        for (waiting, admitted) in self.admitted.drain(..) {
            // Of a client that is gone the seat comes back, and gives itself up, or is lost once more.
            match waiting {
                Waiting::Newcomer(reply) => drop(reply.send(Ok(admitted))),
                Waiting::Returning(reply) => drop(reply.send(Ok(admitted))),
            }
        }
    }

    /// Lets everybody know, and has the recording closed.
    fn end(self, reason: EndReason) {
        let Self {
            session,
            mut recorder,
            handle,
            closers,
            meters,
            tell_end,
            letters,
            joins,
            admitted,
            seats,
            tails,
            ..
        } = self;
        // Before the end can be seen.
        handle.begin_tail(&reason, &tails);
        handle.end(match reason {
            EndReason::Failed { .. } | EndReason::Killed => SessionState::Failed,
            EndReason::Ended { .. } => SessionState::Ended,
            _ => SessionState::Stopped,
        });
        if let Some(SessionEnding { cause, .. }) = handle.ending() {
            meters.note_end(cause);
        }
        handle.mailbox.close();
        handle.seats.close();
        seats.close();
        recorder.chat(handle.chat.take_unrecorded());
        drop((letters, joins, admitted));
        log_totals(&session, &handle);
        let over = Arc::clone(&handle);
        closers.run(move || {
            recorder.closer().close(reason, &over.name);
            // With its file, if this is the last that has it.
            drop(recorder);
            over.note_over();
            // Nobody may be waiting.
            let _ = tell_end.send(());
        });
        // What a game's world does when it is dropped is the game's code, too.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(session))) {
            let message = panic_message(&*panic);
            error!(message, "the game panicked while its world was dropped");
        }
    }
}

fn log_totals(session: &Session, handle: &SessionHandle) {
    let counters = session.counters();
    let SessionCounters {
        inputs_dropped,
        inputs_sent_again,
        seats_resumed,
        stripes_attached,
        stripes_lost,
        stale_epochs,
        resyncs,
        overruns,
        slips,
        stuck,
        ..
    } = &*handle.counters;
    info!(
        ticks = session.tick().0,
        overruns = overruns.load(Ordering::Relaxed),
        slips = slips.load(Ordering::Relaxed),
        stuck = stuck.load(Ordering::Relaxed),
        inputs_fresh = counters.fresh,
        inputs_repeated = counters.repeated,
        inputs_absent = counters.absent,
        inputs_late = counters.late,
        inputs_too_early = counters.too_early,
        inputs_duplicate = counters.duplicate,
        inputs_dropped = inputs_dropped.load(Ordering::Relaxed),
        inputs_sent_again = inputs_sent_again.load(Ordering::Relaxed),
        seats_resumed = seats_resumed.load(Ordering::Relaxed),
        stripes_attached = stripes_attached.load(Ordering::Relaxed),
        stripes_lost = stripes_lost.load(Ordering::Relaxed),
        stale_epochs = stale_epochs.load(Ordering::Relaxed),
        resyncs = resyncs.load(Ordering::Relaxed),
        "session ended"
    );
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a message")
}
