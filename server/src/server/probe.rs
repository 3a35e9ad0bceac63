//! A server as it is seen from outside.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use tickwire_recording::RecorderStatus;

use super::Shared;
use crate::{
    LogControl,
    identity::{IdentityError, IdentityReason},
    limits::RefusalReason,
    metrics,
    net::NetworkThread,
    session::SessionHandle,
};

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
    /// Whether its game has been in one tick for longer than [`Timeouts::stuck`](crate::Timeouts::stuck).
    pub stuck: bool,
}

impl Probe {
    pub(super) fn new(shared: Arc<Shared>, threads: Vec<Arc<NetworkThread>>) -> Self {
        Self { shared, threads }
    }

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
