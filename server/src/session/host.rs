//! What runs sessions: threads that step them, threads that write their recordings, threads that close those.

use std::{
    io,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use tickwire_recording::Recorders;

use super::{SimulationThreads, closers::Closers};

/// What runs sessions. Dropped, it waits until all are over, but for those that are stuck; they must have been stopped.
#[derive(Debug)]
pub(crate) struct SessionHost {
    /// What all sessions' ticks are spread out from.
    pub(super) started: Instant,
    pub(super) threads: SimulationThreads,
    pub(super) recorders: Recorders,
    pub(super) closers: Closers,
}

impl SessionHost {
    /// A host without sessions. A session that takes `stuck` for one tick is taken for stuck.
    pub(crate) fn start(threads_max: NonZeroUsize, stuck: Duration) -> io::Result<Self> {
        let threads = SimulationThreads::start(threads_max, stuck)?;
        Ok(Self { started: Instant::now(), threads, recorders: Recorders::new(), closers: Closers::default() })
    }
}

impl Drop for SessionHost {
    fn drop(&mut self) {
        self.threads.wait();
        self.closers.wait();
    }
}
