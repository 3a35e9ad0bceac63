//! What a swarm's owner holds beside it, and its bots count in.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::super::timeline::{Second, Timeline};

/// What a swarm's owner holds beside it: how it is going, and the means to end it early.
#[derive(Clone, Debug)]
pub struct SwarmHandle {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    stop: watch::Sender<bool>,
    pub(super) playing: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) snapshots: AtomicU64,
    pub(super) timeline: Timeline,
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

    /// Bots in the session now, without those that have lost their connection and are coming back.
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

    pub(super) fn note(&self, text: String) {
        self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner).insert(text);
    }

    /// Until the swarm is to end.
    pub(super) async fn ended(&self, deadline: Instant) {
        let mut stopped = self.shared.stop.subscribe();
        tokio::select! {
            // The sender is in `self`, so that the channel is open.
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = sleep_until(deadline) => {}
        }
    }
}
