//! A session's recorder: others write and sync for it, so that no disk ever makes a tick wait.

mod live;
mod pool;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    fmt,
    fs::File,
    io, mem,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tickwire_shared::Tick;
use tickwire_simulation::{TickInput, TickResult};

use self::{
    live::{Disk, Live, Record},
    pool::Written,
};
use crate::{End, EndReason, RecordingMeta, files};

pub use pool::Recorders;

/// How much is written at once where the disk is behind.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// How much room for records is kept for the next ones; that of a stall is given back.
const QUEUE_RECORDS_KEPT: usize = 16;

/// How a recorder works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecorderOptions {
    /// For how many ticks the disk may stall before the recording is given up. A session that is stepped faster than real
    /// time may outrun a sound disk; record that with a [`Writer`](crate::Writer).
    pub queue_ticks_max: u64,
}

impl RecorderOptions {
    /// 10 s.
    #[must_use]
    pub const fn at(rate: tickwire_shared::TickRate) -> Self {
        Self { queue_ticks_max: rate.ticks_in_ms(10_000) }
    }
}

/// Records one session.
///
/// Hand over each [`TickInput`] before its tick is finished, and each [`TickResult`] after; at the end, [`close`](Self::close).
/// An input is written at once, a result with the next input. Nothing here waits for the disk, or fails: where the disk does,
/// or falls too far behind, the recording stops, and [`problem`](Self::problem) says why. What was written until then stays
/// readable.
///
/// Dropped without a close, it leaves the live file as a killed process would.
#[derive(Debug)]
pub struct Recorder {
    open: Arc<Open>,
}

/// Closes a session's recording for it, from any thread.
#[derive(Clone, Debug)]
pub struct RecorderCloser {
    open: Arc<Open>,
}

/// A recording that has been closed.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The finished recording; the live one where it could not be finished.
    pub path: PathBuf,
    /// What its last record says.
    pub end: End,
    /// Why it is not complete, or not finished.
    pub problem: Option<String>,
}

/// A recording, as the session and the threads that write share it.
struct Open {
    path: PathBuf,
    recorders: Recorders,
    queue_records_max: usize,
    queue: Mutex<Queue>,
    /// Whoever writes. `None` once the recording has stopped, or is over.
    live: Mutex<Option<Live>>,
    /// Whoever syncs. It holds the file's lock: kept until there is a finished recording.
    disk: Mutex<Option<Arc<dyn Disk>>>,
    /// Something has been written since the last sync.
    dirty: AtomicBool,
    progress: Progress,
    closed: Mutex<Option<Closed>>,
}

/// What waits to be written.
#[derive(Debug, Default)]
struct Queue {
    records: VecDeque<Record>,
    /// A writer has it, or will have.
    taken_on: bool,
    /// Nothing is taken in any more.
    closed: bool,
}

#[derive(Debug, Default)]
struct Progress {
    /// The newest tick begun.
    begun: AtomicU64,
    /// The newest tick whose input is in the file.
    inputs: AtomicU64,
    /// The newest tick whose result is in the file.
    results: AtomicU64,
    problem: OnceLock<String>,
}

impl Recorders {
    /// Starts a recording named `name` in `directory`, which is made where it is missing: see
    /// [`live_path`](crate::live_path).
    ///
    /// # Errors
    /// Where the file cannot be made, or there is a recording of that name; or a thread cannot be had.
    pub fn start(
        &self,
        directory: &Path,
        name: &str,
        meta: &RecordingMeta,
        options: RecorderOptions,
    ) -> io::Result<Recorder> {
        std::fs::create_dir_all(directory)?;
        let (path, finished) = (files::live_path(directory, name), files::finished_path(directory, name));
        if finished.try_exists()? {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} exists", finished.display())));
        }
        let file = File::create_new(&path)?;
        // So that nobody repairs it while it grows.
        file.try_lock()?;
        self.start_on(Arc::new(file), path, meta, options)
    }

    fn start_on(
        &self,
        disk: Arc<dyn Disk>,
        path: PathBuf,
        meta: &RecordingMeta,
        options: RecorderOptions,
    ) -> io::Result<Recorder> {
        let live = Live::new(Arc::clone(&disk), meta)?;
        disk.sync()?;
        self.enter()?;
        let records_max = usize::try_from(options.queue_ticks_max).unwrap_or(usize::MAX).saturating_mul(2).max(2);
        let open = Open {
            path,
            recorders: self.clone(),
            queue_records_max: records_max,
            queue: Mutex::default(),
            live: Mutex::new(Some(live)),
            disk: Mutex::new(Some(disk)),
            dirty: AtomicBool::new(false),
            progress: Progress::default(),
            closed: Mutex::default(),
        };
        Ok(Recorder { open: Arc::new(open) })
    }
}

impl Recorder {
    /// Starts a recording with threads of its own: see [`Recorders::start`].
    ///
    /// # Errors
    /// As there.
    pub fn start(directory: &Path, name: &str, meta: &RecordingMeta, options: RecorderOptions) -> io::Result<Self> {
        Recorders::new().start(directory, name, meta, options)
    }

    /// Records what a tick consumes. Call it before the tick is finished, so that the cause of a panic is on record.
    pub fn tick_input(&mut self, input: Arc<TickInput>) {
        self.open.progress.begun.store(input.tick.0, Ordering::Relaxed);
        self.open.record(Record::Input(input));
    }

    /// Records what came out of a tick.
    pub fn tick_result(&mut self, result: TickResult) {
        self.open.record(Record::Result(Box::new(result)));
    }

    /// How many ticks have begun whose input is not in the file yet: 0 or 1 on a healthy disk.
    #[must_use]
    pub fn lag_ticks(&self) -> u64 {
        let Progress { begun, inputs, .. } = &self.open.progress;
        begun.load(Ordering::Relaxed).saturating_sub(inputs.load(Ordering::Relaxed))
    }

    /// Why the recording has stopped, where it has.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.open.progress.problem()
    }

    /// The live file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.open.path
    }

    /// Closes the recording from elsewhere, as where its session never comes back.
    #[must_use]
    pub fn closer(&self) -> RecorderCloser {
        RecorderCloser { open: Arc::clone(&self.open) }
    }

    /// Ends the recording and makes a finished one of it. This waits for the disk: call it where that does no harm.
    #[must_use]
    pub fn close(self, reason: EndReason) -> Closed {
        self.closer().close(reason)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if self.open.stop_taking() {
            self.open.write_rest();
            self.open.sync();
            self.open.let_go();
        }
    }
}

impl RecorderCloser {
    /// As [`Recorder::close`]. What the session records from now on is dropped. Of two calls the first counts, and the second
    /// waits for it.
    #[must_use]
    pub fn close(&self, reason: EndReason) -> Closed {
        let mut closed = lock(&self.open.closed);
        closed.get_or_insert_with(|| self.open.close(reason)).clone()
    }
}

impl Open {
    fn record(self: &Arc<Self>, record: Record) {
        let is_input = matches!(record, Record::Input(_));
        let mut queue = lock(&self.queue);
        if queue.closed || self.progress.problem().is_some() {
            // A recording with a gap cannot be replayed beyond it.
            return;
        }
        if queue.records.len() >= self.queue_records_max {
            self.progress.give_up("the disk has stalled for longer than the recorder's queue".to_owned());
            return;
        }
        queue.records.push_back(record);
        // A result can wait for the next input: who has the inputs can have the results.
        if is_input && !mem::replace(&mut queue.taken_on, true) {
            drop(queue);
            self.recorders.write(Arc::clone(self));
        }
    }

    /// A writer's turn: writes what has queued up.
    fn write_some(&self) -> Written {
        self.write_rest();
        let mut queue = lock(&self.queue);
        queue.taken_on = !queue.records.is_empty();
        Written { dirty: !self.dirty.swap(true, Ordering::Relaxed), more: queue.taken_on }
    }

    /// Writes what has queued up, if the recording has not stopped.
    fn write_rest(&self) {
        let mut live = lock(&self.live);
        let mut records = mem::take(&mut lock(&self.queue).records);
        let written = live.as_mut().map_or(Ok(()), |live| self.write(live, &mut records));
        if let Err(error) = written {
            self.progress.give_up(format!("writing failed: {error}"));
            live.take().into_iter().for_each(Live::cut);
        }
        records.clear();
        records.shrink_to(QUEUE_RECORDS_KEPT);
        // Its room serves the next ones, unless some have come already.
        let mut queue = lock(&self.queue);
        if queue.records.is_empty() {
            queue.records = records;
        }
    }

    fn write(&self, live: &mut Live, records: &mut VecDeque<Record>) -> io::Result<()> {
        let Progress { inputs, results, .. } = &self.progress;
        let (mut input, mut result) = (inputs.load(Ordering::Relaxed), results.load(Ordering::Relaxed));
        while !records.is_empty() {
            // What has queued up goes out in one piece.
            while live.unwritten_bytes() < BATCH_BYTES_MAX
                && let Some(record) = records.pop_front()
            {
                match &record {
                    Record::Input(record) => input = record.tick.0,
                    Record::Result(record) => result = record.tick.0,
                }
                live.write(record)?;
            }
            live.flush()?;
            inputs.store(input, Ordering::Relaxed);
            results.store(result, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Has what is written survive a loss of power.
    fn sync(&self) {
        let disk = lock(&self.disk);
        if self.dirty.swap(false, Ordering::Relaxed)
            && let Some(Err(error)) = disk.as_ref().map(|disk| disk.sync())
        {
            self.progress.give_up(format!("writing failed: {error}"));
        }
    }

    /// Takes nothing in any more. False: it did not before.
    fn stop_taking(&self) -> bool {
        !mem::replace(&mut lock(&self.queue).closed, true)
    }

    fn close(&self, reason: EndReason) -> Closed {
        let is_open = self.stop_taking();
        self.write_rest();
        let end = self.progress.end(reason);
        let ended = lock(&self.live).as_mut().map_or(Ok(()), |live| live.end(&end));
        self.dirty.store(true, Ordering::Relaxed);
        self.sync();
        let mut problem = self.progress.problem().map(str::to_owned);
        if let Err(error) = ended {
            problem.get_or_insert(format!("its end could not be written: {error}"));
        }
        let path = match files::finalize(&self.path, Some(&end)) {
            Ok(finished) => {
                if let Some(lost) = finished.lost {
                    problem.get_or_insert(lost.to_string());
                }
                finished.path
            }
            Err(error) => {
                tracing::error!("{} could not be finished: {error}", self.path.display());
                problem.get_or_insert(format!("it could not be finished, repair it later: {error}"));
                self.path.clone()
            }
        };
        if is_open {
            self.let_go();
        }
        Closed { path, end, problem }
    }

    /// Gives up the file, and the lock on it.
    fn let_go(&self) {
        *lock(&self.live) = None;
        *lock(&self.disk) = None;
        self.recorders.leave();
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open").field("path", &self.path).field("progress", &self.progress).finish_non_exhaustive()
    }
}

impl Progress {
    fn problem(&self) -> Option<&str> {
        self.problem.get().map(String::as_str)
    }

    fn give_up(&self, problem: String) {
        // Only the first reason matters.
        if self.problem.set(problem).is_ok() {
            tracing::error!("the recording stops: {}", self.problem().unwrap_or_default());
        }
    }

    /// The end record: how many ticks the file lacks follows from what is in it.
    fn end(&self, reason: EndReason) -> End {
        let [begun, inputs, results] =
            [&self.begun, &self.inputs, &self.results].map(|number| number.load(Ordering::Relaxed));
        let lacking = match reason {
            // The tick that it went down in has no result, only a cause.
            EndReason::Failed { .. } | EndReason::Killed => {
                begun.saturating_sub(1).saturating_sub(results).max(begun - inputs)
            }
            EndReason::Shutdown | EndReason::Ended => begun - results,
        };
        End { reason, tick: Tick(begun), ticks_missing: lacking }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
