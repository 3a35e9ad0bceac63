//! A session's recorder: a thread of its own, so that no disk ever makes a tick wait.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    mem,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tickwire_shared::Tick;
use tickwire_simulation::{TickInput, TickResult};

use crate::{End, EndReason, Layout, RecordingMeta, Writer, files};

/// How often what is written is made to survive a loss of power.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// How much is written at once where the disk is behind.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// How a recorder works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecorderOptions {
    /// For how many ticks the disk may stall before the recording is given up. A session that is stepped faster than real
    /// time may outrun a sound disk; record that with a [`Writer`].
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
/// Nothing here waits for the disk, or fails: where the disk does, or falls too far behind, the recording stops, and
/// [`problem`](Self::problem) says why. What was written until then stays readable.
///
/// Dropped without a close, it leaves the live file as a killed process would.
#[derive(Debug)]
pub struct Recorder {
    /// `None` once the recording has stopped.
    queue: Option<SyncSender<Record>>,
    progress: Arc<Progress>,
    /// The newest tick begun.
    begun: Tick,
    thread: Option<JoinHandle<Option<Live>>>,
    path: PathBuf,
}

/// A recording that has been closed.
#[derive(Debug)]
pub struct Closed {
    /// The finished recording; the live one where it could not be finished.
    pub path: PathBuf,
    /// What its last record says.
    pub end: End,
    /// Why it is not complete, or not finished.
    pub problem: Option<String>,
}

#[derive(Debug)]
enum Record {
    Input(Arc<TickInput>),
    Result(Box<TickResult>),
}

/// What the recorder's thread tells.
#[derive(Debug, Default)]
struct Progress {
    /// The newest tick whose input is in the file.
    inputs: AtomicU64,
    /// The newest tick whose result is in the file.
    results: AtomicU64,
    problem: OnceLock<String>,
}

impl Progress {
    fn give_up(&self, problem: String) {
        // Only the first reason matters.
        if self.problem.set(problem).is_ok() {
            tracing::error!("the recording stops: {}", self.problem.get().map_or("", String::as_str));
        }
    }
}

impl Recorder {
    /// Starts a recording named `name` in `directory`, which is made where it is missing: see
    /// [`live_path`](crate::live_path).
    ///
    /// # Errors
    /// Where the file cannot be made, or there is a recording of that name.
    pub fn start(directory: &Path, name: &str, meta: &RecordingMeta, options: RecorderOptions) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let (path, finished) = (files::live_path(directory, name), files::finished_path(directory, name));
        if finished.try_exists()? {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} exists", finished.display())));
        }
        let file = File::create_new(&path)?;
        // So that nobody repairs it while it grows.
        file.try_lock()?;
        Self::start_on(file, path, meta, options)
    }

    fn start_on(disk: impl Disk, path: PathBuf, meta: &RecordingMeta, options: RecorderOptions) -> io::Result<Self> {
        let mut live = Live::new(Box::new(disk), meta)?;
        live.sync()?;
        let progress = Arc::new(Progress::default());
        let capacity = usize::try_from(options.queue_ticks_max).unwrap_or(usize::MAX).saturating_mul(2).max(2);
        let (queue, records) = sync_channel(capacity);
        let shared = Arc::clone(&progress);
        let thread = thread::Builder::new().name("recorder".to_owned()).spawn(move || live.run(&records, &shared))?;
        Ok(Self { queue: Some(queue), progress, begun: Tick::ZERO, thread: Some(thread), path })
    }

    /// Records what a tick consumes. Call it before the tick is finished, so that the cause of a panic is on record.
    pub fn tick_input(&mut self, input: Arc<TickInput>) {
        self.begun = input.tick;
        self.record(Record::Input(input));
    }

    /// Records what came out of a tick.
    pub fn tick_result(&mut self, result: TickResult) {
        self.record(Record::Result(Box::new(result)));
    }

    /// How many ticks have begun whose input is not in the file yet: 0 or 1 on a healthy disk.
    #[must_use]
    pub fn lag_ticks(&self) -> u64 {
        self.begun.since(Tick(self.progress.inputs.load(Ordering::Relaxed)))
    }

    /// Why the recording has stopped, where it has.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.progress.problem.get().map(String::as_str)
    }

    /// The live file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends the recording and makes a finished one of it. This waits for the disk: call it where that does no harm.
    #[must_use]
    pub fn close(mut self, reason: EndReason) -> Closed {
        self.queue = None;
        // Kept, and with it the file's lock, until there is a finished recording.
        let mut live = self.thread.take().and_then(|thread| thread.join().ok()).flatten();
        let mut problem = self.problem().map(str::to_owned);
        let end = self.end(reason);
        if let Some(Err(error)) = live.as_mut().map(|live| live.end(&end)) {
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
        Closed { path, end, problem }
    }

    fn record(&mut self, record: Record) {
        let Some(queue) = &self.queue else { return };
        let full = queue.try_send(record).is_err();
        if full {
            self.progress.give_up("the disk has stalled for longer than the recorder's queue".to_owned());
        }
        // A recording with a gap cannot be replayed beyond it.
        if self.problem().is_some() {
            self.queue = None;
        }
    }

    /// The end record: how many ticks the file lacks follows from what is in it.
    fn end(&self, reason: EndReason) -> End {
        let [inputs, results] = [&self.progress.inputs, &self.progress.results].map(|n| n.load(Ordering::Relaxed));
        // A tick that panicked has no result, only a cause.
        let lacking = match reason {
            EndReason::Failed { .. } => {
                self.begun.0.saturating_sub(1).saturating_sub(results).max(self.begun.0 - inputs)
            }
            EndReason::Shutdown | EndReason::Ended | EndReason::Killed => self.begun.0 - results,
        };
        End { reason, tick: self.begun, ticks_missing: lacking }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by its hook; the file is as it is.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests;

/// Where a live recording goes.
trait Disk: Send + 'static {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns once all that was appended survives a loss of power.
    fn sync(&mut self) -> io::Result<()>;
    /// Drops all beyond the first `length` bytes.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

impl Disk for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

/// A live recording on its thread.
struct Live {
    writer: Writer<Encoded>,
    /// What the writer has encoded and the disk has not taken.
    encoded: Encoded,
    disk: Box<dyn Disk>,
    /// The length of what is whole on the disk.
    length: u64,
    synced: Instant,
    dirty: bool,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Live {
    fn new(disk: Box<dyn Disk>, meta: &RecordingMeta) -> io::Result<Self> {
        let encoded = Encoded::default();
        let writer = Writer::new(encoded.clone(), meta, Layout::Live)?;
        let mut live = Self { writer, encoded, disk, length: 0, synced: Instant::now(), dirty: false };
        live.flush()?;
        Ok(live)
    }

    /// Writes until there is no more to come; itself where all went well.
    fn run(mut self, records: &Receiver<Record>, progress: &Progress) -> Option<Self> {
        if let Err(error) = self.write_all(records, progress) {
            progress.give_up(format!("writing failed: {error}"));
            // Half a record would hide what may still be appended, and what stands before needs no repair.
            if let Err(error) = self.disk.cut(self.length) {
                tracing::warn!("the recording's last record stays torn: {error}");
            }
            return None;
        }
        Some(self)
    }

    fn write_all(&mut self, records: &Receiver<Record>, progress: &Progress) -> io::Result<()> {
        loop {
            let first = match records.recv_timeout(SYNC_INTERVAL) {
                Ok(record) => Some(record),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return self.sync(),
            };
            let (mut input, mut result) = (None, None);
            let mut next = first;
            while let Some(record) = next {
                match record {
                    Record::Input(record) => {
                        self.writer.tick_input(&record)?;
                        input = Some(record.tick.0);
                    }
                    Record::Result(record) => {
                        let tick = record.tick.0;
                        self.writer.tick_result(&(*record).into())?;
                        result = Some(tick);
                    }
                }
                // What has queued up goes out in one piece.
                next = if self.encoded.len() < BATCH_BYTES_MAX { records.try_recv().ok() } else { None };
            }
            self.flush()?;
            if let Some(tick) = input {
                progress.inputs.store(tick, Ordering::Relaxed);
            }
            if let Some(tick) = result {
                progress.results.store(tick, Ordering::Relaxed);
            }
            if self.synced.elapsed() >= SYNC_INTERVAL {
                self.sync()?;
            }
        }
    }

    fn end(&mut self, end: &End) -> io::Result<()> {
        self.writer.end(end)?;
        self.flush()?;
        self.sync()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        let bytes = self.encoded.take();
        if !bytes.is_empty() {
            self.disk.append(&bytes)?;
            self.length += bytes.len() as u64;
            self.dirty = true;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if mem::take(&mut self.dirty) {
            self.disk.sync()?;
        }
        self.synced = Instant::now();
        Ok(())
    }
}

/// Encoded records between the writer and the disk, so that a failed write does not end the writer.
#[derive(Clone, Default)]
struct Encoded(Arc<Mutex<EncodedBytes>>);

#[derive(Default)]
struct EncodedBytes {
    bytes: Vec<u8>,
    taken: u64,
}

impl Encoded {
    fn with<T>(&self, act: impl FnOnce(&mut EncodedBytes) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn len(&self) -> usize {
        self.with(|encoded| encoded.bytes.len())
    }

    fn take(&self) -> Vec<u8> {
        self.with(|encoded| {
            encoded.taken += encoded.bytes.len() as u64;
            mem::take(&mut encoded.bytes)
        })
    }
}

impl Write for Encoded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|encoded| encoded.bytes.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Encoded {
    /// Only tells where it is: records are appended.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::Current(0) => Ok(self.with(|encoded| encoded.taken + encoded.bytes.len() as u64)),
            _ => Err(io::ErrorKind::NotSeekable.into()),
        }
    }
}
