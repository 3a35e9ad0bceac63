//! The threads behind recorders: a few write, whatever the number of recordings, and one has what is written survive a loss
//! of power.

use std::{
    collections::VecDeque,
    io, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, available_parallelism},
    time::{Duration, Instant},
};

use super::Open;

/// How often what is written is made to survive a loss of power; less often where the disk takes longer than that for all.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// More do not make a disk faster.
const WRITERS_MAX: usize = 4;
/// From so many recordings on, a writer that is done waits for more to do before it sleeps until it is woken: being woken for
/// each input would cost more than writing it.
const GATHER_FROM: usize = 8;
/// For how long it waits: less than the shortest tick takes.
const GATHER_TIME: Duration = Duration::from_millis(2);

/// Threads that write recordings, to be shared by all recorders of a process. They end with the last recorder, and the last
/// clone of this.
#[derive(Clone, Debug)]
pub struct Recorders(Arc<Threads>);

/// Its end is the threads'.
#[derive(Debug)]
struct Threads {
    pool: Arc<Pool>,
    writers_max: usize,
}

#[derive(Debug, Default)]
struct Pool {
    state: Mutex<State>,
    /// For writers: there is something to write.
    written: Condvar,
    /// For the thread that syncs: there is something to sync.
    dirty: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Recordings with something to write, each once.
    ready: VecDeque<Arc<Open>>,
    /// Recordings with something to sync, each once.
    dirty: Vec<Arc<Open>>,
    /// Recordings that are open.
    open: usize,
    writers: usize,
    /// Writers that wait.
    idle: usize,
    syncs: bool,
    closing: bool,
}

impl Default for Recorders {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorders {
    /// No threads as yet: they come with recordings, one each at first, and a few in all.
    #[must_use]
    pub fn new() -> Self {
        Self::with_writers(available_parallelism().map_or(1, usize::from).min(WRITERS_MAX))
    }

    pub(super) fn with_writers(writers_max: usize) -> Self {
        Self(Arc::new(Threads { pool: Arc::default(), writers_max }))
    }

    /// Makes room for one more recording.
    pub(super) fn enter(&self) -> io::Result<()> {
        let Threads { pool, writers_max } = &*self.0;
        let mut state = pool.lock();
        if !state.syncs {
            let pool = Arc::clone(pool);
            thread::Builder::new().name("tickwire-sync".into()).spawn(move || pool.sync())?;
            state.syncs = true;
        }
        if state.writers < (state.open + 1).min(*writers_max) {
            let pool = Arc::clone(pool);
            thread::Builder::new().name("tickwire-write".into()).spawn(move || pool.write())?;
            state.writers += 1;
        }
        state.open += 1;
        Ok(())
    }

    /// A recording is over.
    pub(super) fn leave(&self) {
        self.0.pool.lock().open -= 1;
    }

    /// Has a recording written that says that it is ready.
    pub(super) fn write(&self, open: Arc<Open>) {
        let mut state = self.0.pool.lock();
        state.ready.push_back(open);
        if state.idle > 0 {
            drop(state);
            self.0.pool.written.notify_one();
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.pool.lock().closing = true;
        self.pool.written.notify_all();
        self.pool.dirty.notify_all();
    }
}

impl Pool {
    /// A writer's life.
    fn write(&self) {
        let mut state = self.lock();
        let mut gathers = false;
        while !state.closing {
            let Some(open) = state.ready.pop_front() else {
                if mem::take(&mut gathers) && state.open >= GATHER_FROM {
                    state = self.written.wait_timeout(state, GATHER_TIME).unwrap_or_else(PoisonError::into_inner).0;
                } else {
                    state.idle += 1;
                    state = self.written.wait(state).unwrap_or_else(PoisonError::into_inner);
                    state.idle -= 1;
                }
                continue;
            };
            gathers = true;
            drop(state);
            let Written { dirty, more } = open.write_some();
            state = self.lock();
            if more {
                // After all others that wait.
                state.ready.push_back(Arc::clone(&open));
            }
            if dirty {
                state.dirty.push(Arc::clone(&open));
                if state.dirty.len() == 1 {
                    self.dirty.notify_one();
                }
            }
            drop(state);
            // Here, without the lock: with the last recording goes the pool.
            drop(open);
            state = self.lock();
        }
    }

    /// The life of the thread that syncs.
    fn sync(&self) {
        let mut state = self.lock();
        let mut due = Instant::now() + SYNC_INTERVAL;
        while !state.closing {
            if state.dirty.is_empty() {
                state = self.dirty.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let wait = due.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                state = self.dirty.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            due = Instant::now() + SYNC_INTERVAL;
            let dirty = mem::take(&mut state.dirty);
            drop(state);
            dirty.into_iter().for_each(|open| open.sync());
            state = self.lock();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a turn of writing came to.
pub(super) struct Written {
    /// There is something to sync for the first time since the last sync.
    pub(super) dirty: bool,
    /// There is more to write.
    pub(super) more: bool,
}
