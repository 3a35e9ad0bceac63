//! What runs sessions: threads that step them, threads that write their recordings, threads that close those.

use std::{
    io,
    num::NonZeroUsize,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tickwire_recording::{Recorder, Recorders};
use tickwire_shared::Game;
use tickwire_simulation::Session;
use tokio::sync::Notify;

use super::{
    ResumeTokens, SeatToken, SessionHandle, SessionName, StartError,
    closers::Closers,
    runner::{self, RunningSession},
    threads::SimulationThreads,
};
use crate::{config::ServerConfig, metrics::SessionMeters, net::Relay};

/// Sessions, and what runs them. Dropped, it stops them and waits until they are over, but for those that are stuck.
#[derive(Debug)]
pub(crate) struct SessionHost {
    /// In order of their places.
    sessions: Vec<(u32, RunningSession)>,
    /// What all sessions' ticks are spread out from.
    pub(super) started: Instant,
    pub(super) threads: SimulationThreads,
    pub(super) recorders: Recorders,
    pub(super) closers: Closers,
    /// Of all sessions.
    pub(super) resume_tokens: Arc<ResumeTokens>,
    /// Rings when a session ends, gets stuck or goes on.
    pub(super) changed: Arc<Notify>,
    pub(super) meters: Arc<SessionMeters>,
}

/// Which session to create.
#[derive(Debug)]
pub(crate) struct SessionOrder {
    pub(crate) name: SessionName,
    pub(crate) origin: Origin,
    /// Its number, and how many there will be: their ticks are spread out evenly.
    pub(crate) place: (u32, u32),
    /// One per network thread.
    pub(crate) relays: Vec<Arc<Relay>>,
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
}

impl SessionHost {
    /// A host without sessions. One that takes `stuck` for a tick is taken for stuck. `changed` rings when a session ends,
    /// gets stuck or goes on.
    pub(crate) fn new(
        threads_max: NonZeroUsize,
        stuck: Duration,
        recorders: Recorders,
        changed: Arc<Notify>,
    ) -> io::Result<Self> {
        Ok(Self {
            sessions: Vec::new(),
            started: Instant::now(),
            threads: SimulationThreads::start(threads_max, stuck)?,
            recorders,
            closers: Closers::default(),
            resume_tokens: Arc::default(),
            changed,
            meters: Arc::default(),
        })
    }

    /// What seats are taken back by.
    pub(crate) fn resume_tokens(&self) -> &Arc<ResumeTokens> {
        &self.resume_tokens
    }

    /// Of all sessions that there have been.
    pub(crate) fn meters(&self) -> &Arc<SessionMeters> {
        &self.meters
    }

    /// Creates a session, and has it stepped from now on.
    pub(crate) fn start(
        &mut self,
        order: SessionOrder,
        game: Arc<dyn Game>,
        config: &ServerConfig,
    ) -> Result<(), StartError> {
        let place = order.place.0;
        let session = runner::start(self, order, game, config)?;
        self.sessions.insert(self.sessions.partition_point(|(other, _)| *other <= place), (place, session));
        Ok(())
    }

    /// The sessions, in order of their places.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = &Arc<SessionHandle>> {
        self.sessions.iter().map(|(_, session)| &session.handle)
    }

    /// The files that they are being recorded to.
    pub(crate) fn recordings(&self) -> impl Iterator<Item = &Path> {
        self.sessions.iter().filter_map(|(_, session)| session.recording.as_deref())
    }

    /// Has all sessions stop.
    pub(crate) fn stop(&self) {
        self.sessions().for_each(|session| session.stop());
    }

    /// Waits until all sessions are over and their recordings closed. One that is stuck at `deadline` is left behind, and
    /// its recording closed as that of a server that was killed. They must have been stopped.
    pub(crate) async fn ended(&mut self, deadline: Instant) {
        for (_, session) in &mut self.sessions {
            session.ended(&self.closers, deadline).await;
        }
    }
}

impl Drop for SessionHost {
    fn drop(&mut self) {
        self.stop();
        self.threads.wait();
        self.closers.wait();
    }
}
