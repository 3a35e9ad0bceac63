//! What all of the server's threads share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Guard};
use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore, watch as watched},
};
use tonic::service::Routes;

use super::services::DESCRIPTORS;
use crate::{
    LogControl,
    admin::Bans,
    chat::Moderation,
    config::{Limits, ServerConfig, Timeouts},
    drain::DrainSwitch,
    identity::Identity,
    limits::{Admission, Quota, RefusalCounters},
    metrics::{PeerCounters, SessionMeters},
    net::{ConnectionCounters, NetworkThread, NetworkThreads, RequestCounters, Tls},
    notices::Notices,
    reload::Reloads,
    session::{AttachTokens, ChatTokens, Host, Registry, Reservations, ResumeTokens, StreamCounters},
    watch::{Hosted, Library, Spectators},
};

/// Who may come in.
pub(super) struct Access {
    pub(super) identity: Identity,
    pub(super) bans: Bans,
}

/// Which recordings there are to be seen.
pub(super) struct Shown {
    pub(super) library: Library,
    /// One that is shown as if it were a session.
    pub(super) hosted: Option<Hosted>,
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
    pub(super) fn new(
        config: ServerConfig,
        access: Access,
        shown: Shown,
        host: &Host,
        threads: &NetworkThreads,
    ) -> Self {
        let Access { identity, bans } = access;
        let Shown { library, hosted } = shown;
        Self {
            registry: Arc::clone(&host.registry),
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
            resume_tokens: Arc::clone(host.resume_tokens()),
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
            meters: Arc::clone(host.meters()),
            something_ended: Notify::new(),
            started: Instant::now(),
            log: config.log,
            bans,
            network: threads.iter().map(Arc::clone).collect(),
        }
    }

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
