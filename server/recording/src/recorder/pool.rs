//! The threads behind recorders: a few write, whatever the number of recordings, and one has what is written survive a loss
//! of power.

use std::{
    collections::VecDeque,
    fmt, io, mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, available_parallelism},
    time::{Duration, Instant},
};

use super::{Open, segments::EndedSegments};
use crate::storage::{FileSystem, Storage};

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

/// What all recorders of a process may take together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordersOptions {
    /// Bytes of memory for what waits to be written, about. The recording that finds none left ends:
    /// [`RecorderState::Stopped`](crate::RecorderState::Stopped).
    pub queue_bytes_max: u64,
    /// Bytes of live files. The recording that goes beyond it ends:
    /// [`RecorderState::Limited`](crate::RecorderState::Limited).
    pub live_bytes_max: u64,
}

impl Default for RecordersOptions {
    /// 256 MiB of memory, no limit of files.
    fn default() -> Self {
        Self { queue_bytes_max: 256 << 20, live_bytes_max: u64::MAX }
    }
}

/// Its end is the threads'.
struct Threads {
    pool: Arc<Pool>,
    writers_max: usize,
    options: RecordersOptions,
    storage: Arc<dyn Storage>,
    queue_bytes: AtomicU64,
    live_bytes: AtomicU64,
    /// Recordings that are open.
    open: AtomicU64,
    ended: Mutex<EndedSegments>,
    /// Whoever finishes those holds it.
    finishing: Mutex<()>,
    /// Told when a recorder's state has changed.
    changed: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").field("options", &self.options).finish_non_exhaustive()
    }
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
        Self::with(RecordersOptions::default(), || {})
    }

    /// As [`new`](Self::new). `changed` is called whenever the state of a recorder has changed, on any thread, the session's
    /// among them: it must not take any time.
    #[must_use]
    pub fn with(options: RecordersOptions, changed: impl Fn() + Send + Sync + 'static) -> Self {
        Self::with_storage(Arc::new(FileSystem), options, changed)
    }

    /// As [`with`](Self::with), writing through `storage`.
    #[must_use]
    pub fn with_storage(
        storage: Arc<dyn Storage>,
        options: RecordersOptions,
        changed: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let writers_max = available_parallelism().map_or(1, usize::from).min(WRITERS_MAX);
        Self::on(storage, writers_max, options, changed)
    }

    pub(super) fn on(
        storage: Arc<dyn Storage>,
        writers_max: usize,
        options: RecordersOptions,
        changed: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Threads {
            pool: Arc::default(),
            writers_max,
            options,
            storage,
            queue_bytes: AtomicU64::new(0),
            live_bytes: AtomicU64::new(0),
            open: AtomicU64::new(0),
            ended: Mutex::default(),
            finishing: Mutex::default(),
            changed: Box::new(changed),
        }))
    }

    /// Bytes of the live files of all recorders.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.0.live_bytes.load(Ordering::Relaxed)
    }

    /// How large a recording's live file may be, so that those of all fit, and a second one of each that is being finished.
    pub(super) fn live_bytes_share(&self) -> u64 {
        self.0.options.live_bytes_max / 4 / self.0.open.load(Ordering::Relaxed).max(1)
    }

    pub(super) fn ended_segments(&self) -> MutexGuard<'_, EndedSegments> {
        self.0.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn finishing(&self) -> MutexGuard<'_, ()> {
        self.0.finishing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.0.storage)
    }

    pub(super) fn tell_change(&self) {
        (self.0.changed)();
    }

    /// Takes memory for what waits to be written, if there is any left.
    pub(super) fn take_room(&self, bytes: u64) -> bool {
        let before = self.0.queue_bytes.fetch_add(bytes, Ordering::Relaxed);
        let is_room = before.saturating_add(bytes) <= self.0.options.queue_bytes_max;
        if !is_room {
            self.give_room(bytes);
        }
        is_room
    }

    /// Whether there is memory for so much, and as much again for what matters more.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        let taken = self.0.queue_bytes.load(Ordering::Relaxed);
        taken.saturating_add(bytes) <= self.0.options.queue_bytes_max / 2
    }

    pub(super) fn give_room(&self, bytes: u64) {
        self.0.queue_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Notes how a live file has grown, or that it is gone.
    pub(super) fn note_live_bytes(&self, before: u64, now: u64) {
        // What goes below 0 on the way comes back as it wraps.
        self.0.live_bytes.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Whether there is more than the half that recordings in segments take, with those of them that are being finished.
    pub(super) fn lacks_live_bytes(&self) -> bool {
        self.live_bytes() > self.0.options.live_bytes_max / 2
    }

    /// Whether so many bytes more would be too many.
    pub(super) fn is_at_limit(&self, more: u64) -> bool {
        self.live_bytes().saturating_add(more) >= self.0.options.live_bytes_max
    }

    /// Makes room for one more recording.
    pub(super) fn enter(&self) -> io::Result<()> {
        let Threads { pool, writers_max, .. } = &*self.0;
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
        self.0.open.store(state.open as u64, Ordering::Relaxed);
        Ok(())
    }

    /// A recording is over.
    pub(super) fn leave(&self) {
        let mut state = self.0.pool.lock();
        state.open -= 1;
        self.0.open.store(state.open as u64, Ordering::Relaxed);
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
            let mut dirty = mem::take(&mut state.dirty);
            drop(state);
            // Where the disk refuses, it is asked again.
            dirty.retain(|open| !open.sync());
            state = self.lock();
            state.dirty.append(&mut dirty);
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
