//! Many bots on few threads.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    io,
    net::IpAddr,
    panic,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Poll, Waker},
    thread,
    time::Duration,
};

use tickwire_arena::Arena;
use tokio::{
    runtime,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tonic::Code;

use super::{
    behaviour::{Behaviour, Moment},
    chatter::{ChatCounts, Chatter},
    report::Report,
    roles::{BehaviourChoice, Role, assign},
    tickets::{Tickets, TicketsError},
    timeline::{Diary, Second, Timeline},
    trace::TraceFileError,
};
use crate::{
    connection::{Client, ClientError, Conditions, ConnectOptions, Trust, code_name},
    core::{Event, JoinOptions, Resume, Stats, Stripes},
};

/// What a swarm is to do.
#[derive(Clone, Debug)]
pub struct SwarmConfig {
    /// The server, such as `http://127.0.0.1:7777`.
    pub url: String,
    /// How many bots.
    pub bots: usize,
    /// How long they all play together, once the last one was to join.
    pub duration: Duration,
    /// The session's name; empty: the server's first.
    pub session: String,
    /// What the bots do; they take these in turn. At least one.
    pub behaviours: Vec<BehaviourChoice>,
    /// One seed is one swarm: the same choices at the same moments.
    pub seed: u64,
    /// How many bots join each second; 0: all at once.
    pub ramp_per_second: u32,
    /// On how many threads, at least 1.
    pub threads: usize,
    /// Whether bots compute their own entity ahead of the server, where the session is of the arena.
    pub predict: bool,
    /// The addresses of this machine that bots connect from, in turn; empty: the system's choice.
    pub local_addresses: Vec<IpAddr>,
    /// What every bot's connection is made to suffer, each with a seed of its own made of this one.
    pub conditions: Conditions,
    /// How many streams each bot has.
    pub stripes: Stripes,
    /// On how many of them each snapshot is sent: 1 or 2.
    pub snapshot_copies: u32,
    /// How bots take back seats whose connections are lost.
    pub resume: Resume,
    /// Whom to trust to be the server of an `https` address.
    pub trust: Trust,
    /// What lets them in.
    pub tickets: Tickets,
    /// How many lines each bot says per minute; 0: none, and it hears none.
    pub chat_per_minute: u32,
}

impl SwarmConfig {
    /// Bots that wander about the server's first session: one stream each, all at once, on one thread, with seed 1, by a
    /// connection that suffers nothing.
    #[must_use]
    pub fn new(url: impl Into<String>, bots: usize, duration: Duration) -> Self {
        Self {
            url: url.into(),
            bots,
            duration,
            session: String::new(),
            behaviours: vec![BehaviourChoice::Wander],
            seed: 1,
            ramp_per_second: 0,
            threads: 1,
            predict: false,
            local_addresses: Vec::new(),
            conditions: Conditions::default(),
            stripes: Stripes::ONE,
            snapshot_copies: 1,
            resume: Resume::default(),
            trust: Trust::System,
            tickets: Tickets::None,
            chat_per_minute: 0,
        }
    }

    /// How long it takes until the last bot joins.
    #[must_use]
    pub fn ramp(&self) -> Duration {
        self.join_delay(self.bots.saturating_sub(1))
    }

    fn connect_options(&self, bot: usize) -> ConnectOptions {
        let seed = self.conditions.seed.wrapping_add(bot_seed(bot));
        ConnectOptions {
            local_address: self.local_addresses.get(bot % self.local_addresses.len().max(1)).copied(),
            conditions: Conditions { seed, ..self.conditions.clone() },
            trust: self.trust.clone(),
            ..ConnectOptions::default()
        }
    }

    fn join_delay(&self, bot: usize) -> Duration {
        match self.ramp_per_second {
            0 => Duration::ZERO,
            per_second => Duration::from_secs_f64(bot as f64 / f64::from(per_second)),
        }
    }
}

/// A swarm that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SwarmError {
    /// Bots without anything to do.
    #[error("behaviours: name at least one")]
    NoBehaviour,
    /// A trace that cannot be had.
    #[error(transparent)]
    Trace(#[from] TraceFileError),
    /// Tickets that cannot be issued.
    #[error(transparent)]
    Ticket(#[from] TicketsError),
    /// The operating system refused a thread or its event queue.
    #[error("cannot start a thread for the bots: {0}")]
    Thread(#[from] io::Error),
}

/// What a swarm's owner holds beside it: how it is going, and the means to end it early.
#[derive(Clone, Debug)]
pub struct SwarmHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    stop: watch::Sender<bool>,
    playing: AtomicU64,
    failed: AtomicU64,
    snapshots: AtomicU64,
    timeline: Timeline,
    notes: Mutex<BTreeSet<String>>,
}

impl Default for SwarmHandle {
    fn default() -> Self {
        let (stop, _) = watch::channel(false);
        let zero = || AtomicU64::new(0);
        Self {
            shared: Arc::new(Shared {
                stop,
                playing: zero(),
                failed: zero(),
                snapshots: zero(),
                timeline: Timeline::default(),
                notes: Mutex::default(),
            }),
        }
    }
}

impl SwarmHandle {
    /// Has all bots leave.
    pub fn stop(&self) {
        self.shared.stop.send_replace(true);
    }

    /// Bots in the session now.
    #[must_use]
    pub fn playing(&self) -> u64 {
        self.shared.playing.load(Ordering::Relaxed)
    }

    /// Bots that failed so far.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Snapshots that all bots have received so far.
    #[must_use]
    pub fn snapshots(&self) -> u64 {
        self.shared.snapshots.load(Ordering::Relaxed)
    }

    /// How the swarm fared, second by second since its start.
    #[must_use]
    pub fn seconds(&self) -> Vec<Second> {
        self.shared.timeline.seconds().clone()
    }

    /// What bots found to be otherwise than it was asked for, each once.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn note(&self, text: String) {
        self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner).insert(text);
    }

    /// Until the swarm is to end.
    async fn ended(&self, deadline: Instant) {
        let mut stopped = self.shared.stop.subscribe();
        tokio::select! {
            // The sender is in `self`, so that the channel is open.
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = sleep_until(deadline) => {}
        }
    }
}

/// Plays a swarm to its end, on threads of its own, and reports. It blocks; do not call it from a task.
///
/// # Errors
/// Where it cannot be started. Bots that fail are reported, not returned.
pub fn run(config: &SwarmConfig, handle: &SwarmHandle) -> Result<(Report, Failures), SwarmError> {
    if config.behaviours.is_empty() {
        return Err(SwarmError::NoBehaviour);
    }
    let roles = assign(&config.behaviours, config.bots)?;
    // What keeps one bot from having a ticket keeps all.
    config.tickets.issue(tickwire_ticket::Role::Player, "nobody", &config.session)?;
    let cpu_before = process_cpu();
    let start = Instant::now();
    let all_joined = start + config.ramp();
    let deadline = all_joined + config.duration;

    let threads = config.threads.clamp(1, config.bots.max(1));
    let mut teams: Vec<Vec<Bot>> = (0..threads).map(|_| Vec::new()).collect();
    for (i, role) in roles.into_iter().enumerate() {
        teams[i % threads].push(Bot {
            url: config.url.clone(),
            options: JoinOptions {
                session: config.session.clone(),
                player_name: format!("bot-{}", i + 1),
                stripes: config.stripes,
                snapshot_copies: config.snapshot_copies,
                resume: config.resume,
                ..JoinOptions::default()
            },
            tickets: config.tickets.clone(),
            role,
            predict: config.predict,
            chat_per_minute: config.chat_per_minute,
            connect_options: config.connect_options(i),
            seed: config.seed.wrapping_add(bot_seed(i)),
            swarm_start: start,
            start: start + config.join_delay(i),
            deadline,
        });
    }
    let total = play_teams(teams, handle)?;
    let seconds = all_joined.elapsed().min(config.duration).as_secs_f64();
    let cpu = process_cpu().saturating_sub(cpu_before).as_secs_f64();
    let report = Report::of(config.bots, seconds, cpu, &total);
    Ok((report, total.errors))
}

/// What is added to a seed for a bot: distinct, and spread by the generator's own seeding.
fn bot_seed(bot: usize) -> u64 {
    (bot as u64) << 32
}

/// Why bots failed: gRPC status → how many, and what the first of them met with.
pub type Failures = BTreeMap<&'static str, (u64, String)>;

fn play_teams(teams: Vec<Vec<Bot>>, handle: &SwarmHandle) -> Result<Outcome, SwarmError> {
    let mut threads = Vec::new();
    for (i, team) in teams.into_iter().enumerate() {
        let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let handle = handle.clone();
        let play = move || runtime.block_on(play_team(team, handle));
        threads.push(thread::Builder::new().name(format!("bots-{i}")).spawn(play)?);
    }
    let mut total = Outcome::default();
    for thread in threads {
        total.merge(thread.join().unwrap_or_else(|cause| panic::resume_unwind(cause)));
    }
    Ok(total)
}

async fn play_team(team: Vec<Bot>, handle: SwarmHandle) -> Outcome {
    let Some(deadline) = team.first().map(|bot| bot.deadline) else { return Outcome::default() };
    let end = Arc::new(End::default());
    let mut bots = JoinSet::new();
    for bot in team {
        bots.spawn(bot.play(handle.clone(), Arc::clone(&end)));
    }
    let mut total = Outcome::default();
    let mut ended = pin!(handle.ended(deadline));
    loop {
        tokio::select! {
            outcome = bots.join_next() => match outcome {
                // Nobody aborts bots, so that a task that did not return has panicked.
                Some(outcome) => total.merge(outcome.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))),
                None => return total,
            },
            () = &mut ended, if !end.has_come() => end.come(),
        }
    }
}

/// The end of a team's play. Each bot asks for it whenever it is polled, so that asking is all but free.
#[derive(Debug, Default)]
struct End {
    has_come: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl End {
    fn has_come(&self) -> bool {
        self.has_come.load(Ordering::Acquire)
    }

    fn come(&self) {
        self.has_come.store(true, Ordering::Release);
        self.waiting().drain(..).for_each(Waker::wake);
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves with the end. Poll it from one task only.
    async fn wait(&self) {
        let mut is_known = false;
        poll_fn(|cx| {
            if !is_known {
                is_known = true;
                self.waiting().push(cx.waker().clone());
            }
            if self.has_come() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// What became of one bot, or of many.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) connected: u64,
    pub(super) failed: u64,
    pub(super) connected_seconds: f64,
    pub(super) tick_rate: u32,
    pub(super) snapshots_expected: u64,
    pub(super) bytes_received: u64,
    pub(super) payload_bytes_received: u64,
    pub(super) late_timers: u64,
    pub(super) stripes_open: u64,
    pub(super) stats: Stats,
    pub(super) chat: ChatCounts,
    pub(super) errors: Failures,
}

impl Outcome {
    fn merge(&mut self, other: Self) {
        self.connected += other.connected;
        self.failed += other.failed;
        self.connected_seconds += other.connected_seconds;
        self.tick_rate = self.tick_rate.max(other.tick_rate);
        self.snapshots_expected += other.snapshots_expected;
        self.bytes_received += other.bytes_received;
        self.payload_bytes_received += other.payload_bytes_received;
        self.late_timers += other.late_timers;
        self.stripes_open += other.stripes_open;
        self.stats.merge(&other.stats);
        self.chat.merge(other.chat);
        for (code, (count, first)) in other.errors {
            self.errors.entry(code).or_insert((0, first)).0 += count;
        }
    }

    pub(super) fn fail(&mut self, code: &'static str, first: String) {
        self.failed += 1;
        self.errors.entry(code).or_insert((0, first)).0 += 1;
    }

    fn measure(&mut self, client: &Client, snapshot_copies: u32) {
        let (core, connected) = (client.core(), client.connected_for().as_secs_f64());
        self.connected = 1;
        self.connected_seconds = connected;
        self.tick_rate = core.tick_rate().hz();
        // The second copy takes a second stream.
        let copies = snapshot_copies.clamp(1, core.stripes_open().max(1) as u32);
        self.snapshots_expected = (connected * f64::from(core.snapshot_rate() * copies)).ceil() as u64;
        self.bytes_received = client.bytes_received();
        self.payload_bytes_received = client.snapshot_bytes_received();
        self.late_timers = client.late_timers();
        self.stripes_open = core.stripes_open() as u64;
        self.stats = client.stats().clone();
    }
}

struct Bot {
    url: String,
    options: JoinOptions,
    tickets: Tickets,
    connect_options: ConnectOptions,
    role: Role,
    predict: bool,
    chat_per_minute: u32,
    seed: u64,
    swarm_start: Instant,
    start: Instant,
    deadline: Instant,
}

impl Bot {
    async fn play(self, handle: SwarmHandle, end: Arc<End>) -> Outcome {
        let mut outcome = Outcome::default();
        let mut end = pin!(end.wait());
        let join = async {
            sleep_until(self.start).await;
            // Only now: it would expire meanwhile.
            let JoinOptions { player_name, session, .. } = &self.options;
            let ticket = self.tickets.issue(tickwire_ticket::Role::Player, player_name, session);
            let ticket = ticket.map_err(|error| (Code::Internal, error.to_string()))?;
            let options = JoinOptions { ticket, ..self.options.clone() };
            let client = Client::connect_with(&self.url, &options, &self.connect_options).await;
            client.map_err(|failure| (failure.code(), failure.to_string()))
        };
        let joined = tokio::select! {
            biased;
            () = &mut end => {
                // One that an early end kept from joining has not failed.
                if Instant::now() >= self.deadline {
                    handle.shared.failed.fetch_add(1, Ordering::Relaxed);
                    let text = "the time was over before the server answered: is it a Tickwire server?";
                    outcome.fail(code_name(Code::DeadlineExceeded), text.to_owned());
                }
                return outcome;
            }
            joined = join => joined,
        };
        let failure = match joined {
            Ok(mut client) => {
                handle.shared.playing.fetch_add(1, Ordering::Relaxed);
                let mut chatter = Chatter::new(self.chat_per_minute, self.seed);
                let played = tokio::select! {
                    biased;
                    () = &mut end => Ok(()),
                    Err(failure) = self.act(&mut client, &mut chatter, &handle) => Err(failure),
                };
                outcome.chat = chatter.map(|chatter| chatter.counts).unwrap_or_default();
                client.sample_age();
                outcome.measure(&client, self.options.snapshot_copies);
                handle.shared.playing.fetch_sub(1, Ordering::Relaxed);
                let ended = match played {
                    Ok(()) => client.leave().await,
                    Err(failure) => Err(failure),
                };
                ended.map_err(|failure| (failure.code(), failure.to_string()))
            }
            Err(failure) => Err(failure),
        };
        if let Err((code, text)) = failure {
            handle.shared.failed.fetch_add(1, Ordering::Relaxed);
            outcome.fail(code_name(code), text);
        }
        outcome
    }

    /// Plays until the stream ends, which for a bot is a failure.
    async fn act(
        &self,
        client: &mut Client,
        chatter: &mut Option<Chatter>,
        handle: &SwarmHandle,
    ) -> Result<Never, ClientError> {
        if self.predict {
            match client.predict(&Arena) {
                Ok(_) => {}
                Err(error) => handle.note(format!("nothing is predicted: {error}")),
            }
        }
        let granted = client.core().stripes_max();
        if let Stripes::Fixed(wanted) = self.options.stripes
            && (granted as u64) < u64::from(wanted)
        {
            handle.note(format!("--stripes {wanted}: the server grants {granted}"));
        }
        let mut behaviour = Behaviour::new(&self.role, client.core().schema(), self.seed);
        let mut input = client.core().schema().neutral_input();
        let rate = client.core().tick_rate();
        let mut diary = Diary::new(self.swarm_start.elapsed().saturating_sub(client.connected_for()));
        talk(client, chatter, handle).await;
        loop {
            let event = match chatter {
                None => client.next().await?,
                Some(chatter) => tokio::select! {
                    biased;
                    event = client.next() => event?,
                    () = chatter.talk() => {
                        chatter.lose();
                        continue;
                    }
                },
            };
            match event {
                Some(Event::InputDue(tick)) => {
                    behaviour.choose(&Moment { tick, rate, mirror: client.mirror() }, &mut input);
                    client.set_input(&input)?;
                }
                Some(Event::Snapshot(_)) => {
                    handle.shared.snapshots.fetch_add(1, Ordering::Relaxed);
                    diary.keep(client, &handle.shared.timeline);
                }
                Some(Event::Goodbye { reason, text }) => return Err(ClientError::Goodbye { reason, text }),
                Some(Event::Reconnected { .. }) => talk(client, chatter, handle).await,
                // Of a seat that is not taken back the next call says why.
                Some(Event::ConnectionLost | Event::GaveUp(_)) => {}
                Some(
                    Event::Desync(_)
                    | Event::Predicted { .. }
                    | Event::Draining(_)
                    | Event::DrainCancelled
                    | Event::Announcement(_)
                    | Event::Paused
                    | Event::Resumed,
                ) => {}
                None => return Err(ClientError::Ended),
            }
        }
    }
}

/// Has a bot begin to talk, where it is to.
async fn talk(client: &mut Client, chatter: &mut Option<Chatter>, handle: &SwarmHandle) {
    if let Some(chatter) = chatter
        && let Err(error) = chatter.join(client).await
    {
        handle.note(format!("nobody talks: {error}"));
    }
}

/// What there is none of.
enum Never {}

/// The CPU time that this process has used, user and system.
fn process_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tickwire_proto::v1::{self as pb, client_message::Kind as Up, server_message::Kind as Down};
    use tokio::task::spawn_blocking;

    use super::*;
    use crate::connection::scripted::{LOOPBACK, Peer, serve, snapshot, welcome};

    fn config(url: String, bots: usize) -> SwarmConfig {
        SwarmConfig {
            behaviours: vec![BehaviourChoice::Wander, BehaviourChoice::Idle],
            threads: 2,
            ..SwarmConfig::new(url, bots, Duration::from_secs(60))
        }
    }

    /// Lets a bot in, answers its first ping, consumes its inputs, and lets it go. Sends to `heard` once three of
    /// its snapshots are acknowledged.
    async fn host(mut peer: Peer, heard: tokio::sync::mpsc::Sender<()>) {
        peer.send(welcome()).await;
        let (mut tick, mut told) = (100, false);
        while let Some(message) = peer.receive().await {
            match message {
                Up::Ping(pb::Ping { echo }) => {
                    peer.send(Down::Pong(pb::Pong { echo, tick, ..pb::Pong::default() })).await;
                }
                Up::Inputs(inputs) => {
                    tick += 1;
                    let consumed_input = inputs.inputs[0].sequence;
                    peer.send(Down::Snapshot(pb::Snapshot { consumed_input, ..snapshot(tick) })).await;
                    if inputs.newest_tick >= 103 && !std::mem::replace(&mut told, true) {
                        heard.send(()).await.unwrap();
                    }
                }
                Up::Leave(_) => break,
                _ => {}
            }
        }
        peer.send(Down::Goodbye(pb::Goodbye {
            reason: pb::GoodbyeReason::Left.into(),
            text: String::new(),
            ..pb::Goodbye::default()
        }))
        .await;
    }

    #[tokio::test]
    async fn a_swarm_joins_plays_leaves_when_it_is_stopped_and_reports() {
        const BOTS: usize = 3;
        let (url, mut accepted) = serve(None).await;
        let handle = SwarmHandle::default();
        let swarm = spawn_blocking({
            let handle = handle.clone();
            move || run(&config(url, BOTS), &handle)
        });
        let (heard, mut all) = tokio::sync::mpsc::channel(BOTS);
        let mut hosts = JoinSet::new();
        for _ in 0..BOTS {
            hosts.spawn(host(accepted.recv().await.unwrap(), heard.clone()));
        }
        for _ in 0..BOTS {
            all.recv().await.unwrap();
        }
        handle.stop();
        let (report, failures) = swarm.await.unwrap().unwrap();
        hosts.join_all().await;

        assert_eq!((report.bots_requested, report.bots_connected, report.bots_failed), (3, 3, 0));
        assert!(report.is_clean() && failures.is_empty() && report.errors.is_empty());
        assert!(report.snapshots_received >= 9 && report.input_to_ack_ms_p50 > 0.0);
        assert!(report.bytes_received > report.payload_bytes_received && report.payload_bytes_received > 0);
        assert!(report.seconds < 60.0 && report.tick_rate == 60);
        assert_eq!((handle.playing(), handle.snapshots()), (0, report.snapshots_received));
    }

    #[tokio::test]
    async fn a_bot_that_takes_its_seat_back_has_not_failed_and_one_that_is_not_to_has() {
        for (resume, failed) in [(Resume::default(), 0), (Resume::OFF, 1)] {
            let (url, mut accepted) = serve(None).await;
            let handle = SwarmHandle::default();
            let config = SwarmConfig { resume, ..config(url, 1) };
            let swarm = spawn_blocking({
                let handle = handle.clone();
                move || run(&config, &handle)
            });
            let mut lost = accepted.recv().await.unwrap();
            let Down::Welcome(welcome) = welcome() else { panic!("a welcome") };
            lost.send(Down::Welcome(pb::Welcome { resume_token: vec![7; 32], ..welcome })).await;
            while !matches!(lost.receive().await, Some(Up::Ping(_))) {}
            drop(lost);
            if failed == 0 {
                let (heard, mut all) = tokio::sync::mpsc::channel(1);
                let back = tokio::spawn(host(accepted.recv().await.unwrap(), heard));
                all.recv().await.unwrap();
                handle.stop();
                back.await.unwrap();
            }
            let (report, _) = swarm.await.unwrap().unwrap();
            assert_eq!((report.bots_connected, report.bots_failed, report.resumes), (1, failed, 1 - failed));
            assert_eq!(report.is_clean(), failed == 0);
        }
    }

    #[tokio::test]
    async fn bots_that_cannot_join_are_counted_by_status() {
        let listener = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let (report, failures) =
            spawn_blocking(|| run(&config(url, 4), &SwarmHandle::default())).await.unwrap().unwrap();
        assert_eq!((report.bots_connected, report.bots_failed, report.snapshots_expected), (0, 4, 0));
        assert_eq!(report.errors, BTreeMap::from([("UNAVAILABLE", 4)]));
        assert!(!report.is_clean() && failures["UNAVAILABLE"].1.contains("is a server running there?"));
    }

    #[tokio::test]
    async fn bots_that_a_server_never_answers_have_failed_when_their_time_is_over() {
        let listener = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let config = SwarmConfig { duration: Duration::from_millis(50), ..config(url, 3) };
        let (report, failures) = spawn_blocking(move || run(&config, &SwarmHandle::default())).await.unwrap().unwrap();
        assert_eq!((report.bots_connected, report.bots_failed), (0, 3));
        assert_eq!(report.errors, BTreeMap::from([("DEADLINE_EXCEEDED", 3)]));
        assert!(failures["DEADLINE_EXCEEDED"].1.contains("before the server answered"));
    }

    #[tokio::test]
    async fn what_cannot_be_had_is_noted_once() {
        let (url, mut accepted) = serve(None).await;
        let handle = SwarmHandle::default();
        let swarm = spawn_blocking({
            let (handle, config) =
                (handle.clone(), SwarmConfig { predict: true, stripes: Stripes::Fixed(4), ..config(url, 2) });
            move || run(&config, &handle)
        });
        let (heard, mut all) = tokio::sync::mpsc::channel(2);
        for _ in 0..2 {
            tokio::spawn(host(accepted.recv().await.unwrap(), heard.clone()));
        }
        for _ in 0..2 {
            all.recv().await.unwrap();
        }
        handle.stop();
        swarm.await.unwrap().unwrap();
        let notes = handle.notes();
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert_eq!(notes[0], "--stripes 4: the server grants 1");
        assert!(notes[1].starts_with("nothing is predicted: the session is of test"), "{notes:?}");
    }

    #[test]
    fn bots_take_addresses_in_turn_and_a_seed_each() {
        let addresses = ["127.0.0.2", "127.0.0.3"].map(|address| address.parse().unwrap());
        let conditions = Conditions { seed: 5, ..Conditions::default() };
        let config = SwarmConfig { local_addresses: addresses.to_vec(), conditions, ..config(String::new(), 3) };
        let options = [0, 1, 2].map(|bot| config.connect_options(bot));
        let taken = options.each_ref().map(|options| options.local_address);
        assert_eq!(taken, [Some(addresses[0]), Some(addresses[1]), Some(addresses[0])]);
        assert_eq!(options.map(|options| options.conditions.seed & 0xff_ffff_ffff), [5, 5 + (1 << 32), 5 + (2 << 32)]);
    }

    #[test]
    fn a_swarm_without_behaviours_or_with_a_trace_that_is_not_there_does_not_start() {
        let handle = SwarmHandle::default();
        let start =
            |behaviours| run(&SwarmConfig { behaviours, ..config("http://127.0.0.1:1".into(), 1) }, &handle).map(drop);
        assert!(matches!(start(vec![]), Err(SwarmError::NoBehaviour)));
        assert!(matches!(start(vec![BehaviourChoice::Trace("/nowhere.lmp".into())]), Err(SwarmError::Trace(_))));
    }
}
