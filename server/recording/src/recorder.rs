//! A session's recorder: others write and sync for it, so that no disk ever makes a tick wait.

mod live;
mod pool;
mod segments;
mod status;
#[cfg(test)]
mod tests;
mod told;

use std::{
    collections::VecDeque,
    fmt, io, mem,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tickwire_shared::{Tick, TickRate};
use tickwire_simulation::{Keyframe, Session, TickInput, TickResult};

use self::{
    live::{Live, Record, Ticks},
    pool::Written,
    segments::Place,
    status::{Fault, Misplaced, Progress, Stop},
    told::Told,
};
use crate::{
    ChatRecord, End, EndReason, RecordingMeta, SeatToken, files,
    record::IdleTicks,
    recovery::{Resumable, Unfinished},
    storage::Disk,
};

pub(crate) use segments::NAMES_MAX;

pub use pool::{Recorders, RecordersOptions};
pub use status::{RecorderState, RecorderStatus};

/// How much is written at once where the disk is behind.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// How much is gathered before it is written, where nothing has to survive a kill.
const BUFFER_BYTES_MAX: usize = 256 << 10;
/// Where no segment can be begun it is tried less and less often, down to once in so many times
/// [`RecorderOptions::behind_ticks`].
const SEGMENT_WAITS_MAX: u64 = 60;
/// How much room for records is kept for the next ones; that of a stall is given back.
const QUEUE_RECORDS_KEPT: usize = 16;

/// What a recording survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: records are written by the quarter of a mebibyte, and a killed process loses what has not been.
    None,
    /// A killed process: each tick is handed to the system at once. A loss of power loses what that has not written yet.
    Flush,
    /// A killed process, and a loss of power but for about the last second: beside that the file is synced each second.
    #[default]
    Sync,
}

/// How a recorder works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecorderOptions {
    /// For how many ticks the disk may stall or fail before the recording is given up. A session that is stepped faster than
    /// real time may outrun a sound disk; record that with a [`Writer`](crate::Writer).
    pub queue_ticks_max: u64,
    /// From how many ticks on that wait the recorder is said to be [behind](RecorderState::Behind).
    pub behind_ticks: u64,
    /// What the recording survives.
    pub durability: Durability,
    /// The size, in bytes of the live file, at which the recording ends: [`EndReason::Limited`].
    pub bytes_max: u64,
    /// How many ticks there are from one keyframe to the next, while something happens; 0: there are none.
    pub keyframe_ticks: u64,
    /// How many ticks after the multiples of that: sessions that have different ones do not save all at once.
    pub keyframe_offset_ticks: u64,
    /// The size, in bytes of the live file, from which on the recording goes on in another file, behind a keyframe.
    /// [`u64::MAX`], here and below: in none; a recording without keyframes does so at either.
    pub segment_bytes: u64,
    /// After how many ticks it does so whatever the size.
    pub segment_ticks: u64,
}

impl RecorderOptions {
    /// 10 s, 1 s, [`Durability::Sync`], no limit of size, keyframes every 10 s, one file.
    #[must_use]
    pub const fn at(rate: TickRate) -> Self {
        Self {
            queue_ticks_max: rate.ticks_in_ms(10_000),
            behind_ticks: rate.ticks_in_ms(1_000),
            durability: Durability::Sync,
            bytes_max: u64::MAX,
            keyframe_ticks: rate.ticks_in_ms(10_000),
            keyframe_offset_ticks: 0,
            segment_bytes: u64::MAX,
            segment_ticks: u64::MAX,
        }
    }

    /// The first tick after `finished` of which a keyframe is due.
    fn next_keyframe(&self, finished: u64) -> u64 {
        let interval = self.keyframe_ticks.max(1);
        let offset = self.keyframe_offset_ticks % interval;
        finished.checked_sub(offset).map_or(offset, |since| offset + (since / interval + 1) * interval)
    }
}

/// Records one session.
///
/// Hand over each [`TickInput`] before its tick is finished, and each [`TickResult`] after; at the end, [`close`](Self::close).
/// An input is written at once, a result with the next input. Nothing here waits for the disk, or fails. Where the disk does,
/// what comes is kept in memory and tried again at each tick: a recording whose disk recovers in time has no gap. Where it does
/// not, the recording stops, since no replay could pass the gap; an end record says so, and what was written until then stays
/// readable. [`status`](Self::status) tells how it does.
///
/// Dropped without a close, it leaves the live file as a killed process would.
#[derive(Debug)]
pub struct Recorder {
    open: Arc<Open>,
    /// The newest tick finished.
    finished: u64,
    /// When the next keyframe is due.
    keyframe_due: u64,
    /// When the newest one was asked for.
    keyframe_asked: u64,
    /// For how many ticks from then on none is asked for to begin a segment with.
    segment_wait: u64,
    /// Whether anything has happened since the last one.
    is_eventful: bool,
}

/// Closes a session's recording for it, from any thread.
#[derive(Clone, Debug)]
pub struct RecorderCloser {
    open: Arc<Open>,
}

/// Tells how a recorder does, from any thread, also after its end.
#[derive(Clone, Debug)]
pub struct RecorderWatch {
    progress: Arc<Progress>,
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
    /// What each file's header says, but for its segment.
    meta: RecordingMeta,
    recorders: Recorders,
    options: RecorderOptions,
    queue: Mutex<Queue>,
    /// Whoever writes. `None` once the recording is over.
    live: Mutex<Option<Writing>>,
    /// Whoever syncs. It holds the file's lock: kept until there is a finished recording.
    disk: Mutex<Option<Arc<dyn Disk>>>,
    /// Something has been written since the last sync, or the last look for the file.
    dirty: AtomicBool,
    /// Somebody closes it, or has.
    taken_over: AtomicBool,
    progress: Arc<Progress>,
    closed: Mutex<Option<Closed>>,
}

/// What waits to be written.
#[derive(Debug, Default)]
struct Queue {
    records: VecDeque<Record>,
    /// A writer has it, or will have.
    taken_on: bool,
    /// Nothing is taken in any more: the session is over, or the recording has stopped.
    closed: bool,
}

/// What a writer has taken over.
#[derive(Debug)]
struct Writing {
    live: Live,
    /// Not encoded yet.
    records: VecDeque<Record>,
    /// Encoded, and not in the file: how many records, and their memory.
    encoded: (u64, u64),
    /// What the recorders count of the file.
    counted_bytes: u64,
    /// That it cannot go on in another file.
    grows: Told,
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
        let storage = self.storage();
        let disk = storage.create(&path)?;
        let begin = || {
            let live = Live::new(Arc::clone(&disk), meta)?;
            if options.durability == Durability::Sync {
                disk.sync()?;
                storage.sync_directory(directory)?;
            }
            self.enter()?;
            Ok(live)
        };
        // Nobody would know what it is.
        let live = begin().inspect_err(|_: &io::Error| files::take_back(&*storage, &path, &*disk))?;
        let place = Place { path, segment: meta.segment.clone() };
        Ok(self.record(place, meta.clone(), live, disk, options))
    }

    /// Goes on with the recording of a session that has been recovered, which follows from here on.
    ///
    /// What a later recovery needs to know of this one is on the disk when this returns, whatever the durability.
    ///
    /// # Errors
    /// Where the file cannot be written, or a thread cannot be had. The next start finds it as this one has.
    pub fn resume(&self, recovered: Resumable, options: RecorderOptions) -> io::Result<(Session, Recorder)> {
        let Resumable { session, unfinished, sound, pending, recovered, attempt, seat_tokens, said: _ } = recovered;
        let meta = RecordingMeta {
            epoch: recovered.epoch,
            tickwire_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..unfinished.meta().clone()
        };
        let Unfinished { path, disk, .. } = unfinished;
        let mut live = Live::resume(Arc::clone(&disk), &sound, &seat_tokens)?;
        if let Some(result) = pending {
            live.write(Record::Result(result))?;
        }
        live.write_recovered(&recovered)?;
        live.flush()?;
        disk.sync()?;
        self.enter()?;
        attempt.end(&*self.storage());
        let place = Place { path, segment: meta.segment.clone() };
        Ok((session, self.record(place, meta, live, disk, options)))
    }

    /// Records to a file whose beginning is on the disk.
    fn record(
        &self,
        place: Place,
        meta: RecordingMeta,
        live: Live,
        disk: Arc<dyn Disk>,
        options: RecorderOptions,
    ) -> Recorder {
        let progress = Arc::<Progress>::default();
        progress.note_place(place);
        let Ticks { input, result } = live.mark().ticks;
        progress.begun.store(input, Ordering::Relaxed);
        progress.note_written(live.mark());
        let counted_bytes = live.mark().bytes;
        self.note_live_bytes(0, counted_bytes);
        progress.note_synced(progress.written());
        let open = Open {
            meta,
            recorders: self.clone(),
            options,
            queue: Mutex::default(),
            live: Mutex::new(Some(Writing {
                live,
                records: VecDeque::new(),
                encoded: (0, 0),
                counted_bytes,
                grows: Told::default(),
            })),
            disk: Mutex::new(Some(disk)),
            dirty: AtomicBool::new(false),
            taken_over: AtomicBool::new(false),
            progress,
            closed: Mutex::default(),
        };
        let (finished, keyframe_due) = (result, options.next_keyframe(result));
        // Of a match that goes on nobody knows what has happened since its last keyframe.
        let (open, is_eventful) = (Arc::new(open), finished > 0);
        let segment_wait = options.behind_ticks;
        Recorder { open, finished, keyframe_due, keyframe_asked: finished, segment_wait, is_eventful }
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
        self.is_eventful |= !IdleTicks::may_have(&input);
        self.open.record(Record::Input(input));
    }

    /// Records by which tokens a player comes back to their seat from `tick` on. Call it before that tick's
    /// [`tick_input`](Self::tick_input), so that it is in the file as soon as that is.
    pub fn seat_token(&mut self, tick: Tick, token: SeatToken) {
        self.open.record(Record::Token(tick, Box::new(token)));
    }

    /// Records what was said, where there is time and room for it: none of it is kept while the disk is
    /// [behind](RecorderState::Behind), so that it cannot cost the recording.
    pub fn chat(&mut self, lines: Vec<ChatRecord>) {
        self.open.record(Record::Chat(lines));
    }

    /// Records what came out of a tick.
    pub fn tick_result(&mut self, result: TickResult) {
        self.finished = result.tick.0;
        if !self.open.progress.full.load(Ordering::Relaxed) {
            self.segment_wait = self.open.options.behind_ticks;
        }
        self.is_eventful |= IdleTicks::of(&result).is_none();
        self.open.record(Record::Result(Box::new(result)));
    }

    /// Whether a keyframe of the tick that has just been finished is due, or needed for the next segment to begin with: not
    /// where nothing has happened since the last one, nor while the disk is behind.
    #[must_use]
    pub fn wants_keyframe(&self) -> bool {
        let RecorderOptions { keyframe_ticks, behind_ticks, .. } = self.open.options;
        let is_behind = || self.open.progress.waiting.load(Ordering::Relaxed) > behind_ticks.saturating_mul(2).max(4);
        let is_due = || keyframe_ticks > 0 && self.finished >= self.keyframe_due;
        // A game may have none to give, and a disk no room for a segment: neither is asked at each tick.
        let may_ask = || self.finished >= self.keyframe_asked.saturating_add(self.segment_wait);
        let begins_segment = || may_ask() && self.open.progress.full.load(Ordering::Relaxed);
        self.is_eventful && (is_due() || begins_segment()) && !is_behind()
    }

    /// Records all that a session goes on from, as of the tick that has just been finished; `None`: it cannot be had, and the
    /// next one is asked for when it is due.
    pub fn keyframe(&mut self, keyframe: Option<Keyframe>) {
        self.keyframe_due = self.open.options.next_keyframe(self.finished);
        self.keyframe_asked = self.finished;
        if self.open.progress.full.load(Ordering::Relaxed) {
            let longest = self.open.options.behind_ticks.saturating_mul(SEGMENT_WAITS_MAX);
            self.segment_wait = self.segment_wait.saturating_mul(2).min(longest);
        }
        self.is_eventful = false;
        if let Some(keyframe) = keyframe {
            self.open.record(Record::Keyframe(Box::new(keyframe)));
        }
    }

    /// How it does.
    #[must_use]
    pub fn status(&self) -> RecorderStatus {
        self.open.progress.status()
    }

    /// The live file: that of the newest segment.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.open.progress.place().path.clone()
    }

    /// Watches it from elsewhere.
    #[must_use]
    pub fn watch(&self) -> RecorderWatch {
        RecorderWatch { progress: Arc::clone(&self.open.progress) }
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
            self.open.write_rest(true);
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
        closed.get_or_insert_with(|| self.open.close(&reason)).clone()
    }
}

impl RecorderWatch {
    /// As [`Recorder::status`].
    #[must_use]
    pub fn status(&self) -> RecorderStatus {
        self.progress.status()
    }

    /// As [`Recorder::path`].
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.progress.place().path.clone()
    }
}

impl Open {
    fn record(self: &Arc<Self>, record: Record) {
        // A keyframe takes a while to be compressed: between two ticks, so that the next input does not wait for it.
        let is_urgent = matches!(record, Record::Input(_) | Record::Keyframe(_));
        let mut queue = lock(&self.queue);
        if queue.closed {
            return;
        }
        let RecorderOptions { queue_ticks_max, behind_ticks, .. } = self.options;
        let waiting = self.progress.waiting.load(Ordering::Relaxed);
        if let Record::Chat(_) = record
            && (waiting > behind_ticks.saturating_mul(2) || !self.recorders.has_room(record.bytes()))
        {
            return;
        }
        let is_full = waiting >= queue_ticks_max.saturating_mul(2).max(2);
        if is_full || !self.recorders.take_room(record.bytes()) {
            queue.closed = true;
            let newest = self.progress.problem();
            let problem =
                newest.unwrap_or_else(|| "the disk has stalled for longer than the recorder's queue".to_owned());
            self.progress.stop(Stop::Stopped(problem));
            self.recorders.tell_change();
        } else {
            self.progress.waiting.fetch_add(record.count(), Ordering::Relaxed);
            self.progress.waiting_bytes.fetch_add(record.bytes(), Ordering::Relaxed);
            queue.records.push_back(record);
            if waiting > behind_ticks.saturating_mul(2)
                && self.progress.note_fault(Fault::Slow, || "the disk has stalled".to_owned())
            {
                self.recorders.tell_change();
            }
        }
        // A result can wait for the next input: who has the inputs can have the results.
        if (is_urgent || queue.closed) && !mem::replace(&mut queue.taken_on, true) {
            drop(queue);
            self.recorders.write(Arc::clone(self));
        }
    }

    /// A writer's turn: writes what has queued up.
    fn write_some(self: &Arc<Self>) -> Written {
        let mut written = self.write_rest(false);
        if let Some(stop) = self.progress.stopped() {
            // With what had come before.
            written = self.write_rest(true);
            self.wind_up(&stop);
        }
        let mut queue = lock(&self.queue);
        // What a disk refuses is tried again with the next tick.
        queue.taken_on = written && !queue.records.is_empty();
        Written { dirty: !self.dirty.swap(true, Ordering::Relaxed), more: queue.taken_on }
    }

    /// Writes what has queued up, all of it or what is due. False: the disk does not take it.
    fn write_rest(&self, all: bool) -> bool {
        let mut live = lock(&self.live);
        let Some(writing) = live.as_mut() else {
            self.drop_records(&mut lock(&self.queue).records);
            return true;
        };
        self.take_queue(writing);
        if writing.live.has_ended() || self.progress.stopped() == Some(Stop::Limited) {
            self.drop_records(&mut writing.records);
        }
        let written = self.write(writing, all);
        self.note_written(writing);
        let changed = match &written {
            Err(error) => self.progress.note_fault(Fault::Write, || format!("writing failed: {error}")),
            Ok(()) => self.progress.note_well(Fault::Write) | self.progress.note_well(Fault::Slow),
        };
        if changed {
            self.recorders.tell_change();
        }
        written.is_ok()
    }

    fn take_queue(&self, Writing { records, .. }: &mut Writing) {
        records.shrink_to(QUEUE_RECORDS_KEPT);
        let mut queue = lock(&self.queue);
        if records.is_empty() {
            // Its room serves the next ones.
            mem::swap(records, &mut queue.records);
        } else {
            records.append(&mut queue.records);
        }
    }

    fn write(&self, writing: &mut Writing, all: bool) -> io::Result<()> {
        let gathers = self.options.durability == Durability::None && !all;
        loop {
            // What has queued up goes out in one piece.
            while writing.live.unwritten_bytes() < BATCH_BYTES_MAX
                && let Some(record) = writing.records.pop_front()
            {
                let (is_result, count, bytes) = (matches!(record, Record::Result(_)), record.count(), record.bytes());
                let encoded = match &record {
                    Record::Keyframe(keyframe)
                        if !all && self.is_segment_full(&writing.live) && self.begin_segment(writing, keyframe) =>
                    {
                        Ok(())
                    }
                    _ => writing.live.write(record),
                };
                if gathers {
                    self.note_taken(count, bytes);
                } else {
                    writing.encoded = (writing.encoded.0 + count, writing.encoded.1 + bytes);
                }
                // The recording is to end with a whole tick.
                let stop = match encoded {
                    Err(error) => Some(Stop::Stopped(error.to_string())),
                    Ok(()) => (is_result && self.is_at_limit(writing.live.bytes())).then_some(Stop::Limited),
                };
                if let Some(stop) = stop
                    && self.progress.stop(stop)
                {
                    lock(&self.queue).closed = true;
                    self.drop_records(&mut writing.records);
                    self.recorders.tell_change();
                }
            }
            if gathers && writing.live.unwritten_bytes() < BUFFER_BYTES_MAX && self.progress.stopped().is_none() {
                return Ok(());
            }
            writing.live.flush()?;
            let (records, bytes) = mem::take(&mut writing.encoded);
            self.note_taken(records, bytes);
            if writing.records.is_empty() {
                return Ok(());
            }
        }
    }

    fn is_at_limit(&self, bytes: u64) -> bool {
        bytes >= self.options.bytes_max || self.recorders.is_at_limit(bytes.saturating_sub(self.progress.written().1))
    }

    /// Notes that records do not wait any more.
    fn note_taken(&self, records: u64, bytes: u64) {
        self.progress.waiting.fetch_sub(records, Ordering::Relaxed);
        self.progress.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.recorders.give_room(bytes);
    }

    fn drop_records(&self, records: &mut VecDeque<Record>) {
        let dropped = mem::take(records);
        self.note_taken(dropped.iter().map(Record::count).sum(), dropped.iter().map(Record::bytes).sum());
    }

    /// Ends a recording whose session goes on.
    fn wind_up(self: &Arc<Self>, stop: &Stop) {
        let ended = self.end(&EndReason::Killed);
        if let Err(error) = ended {
            tracing::warn!("the recording's end cannot be written now: {error}");
        } else if *stop == Stop::Limited {
            // It is of no use to the session any more, and smaller when it is finished. Where no thread can be had, that is
            // done at the session's end.
            let open = Arc::clone(self);
            let _ = thread::Builder::new().name("tickwire-close".into()).spawn(move || {
                let closer = RecorderCloser { open };
                let Closed { path, end, problem } = closer.close(EndReason::Limited);
                let (path, tick) = (path.display(), end.tick);
                tracing::info!(%path, tick = tick.0, problem, "the recording is closed, at its limit of size");
            });
        }
    }

    /// Writes the end record, once.
    fn end(&self, reason: &EndReason) -> io::Result<()> {
        let mut live = lock(&self.live);
        let Some(writing) = live.as_mut() else { return Ok(()) };
        // What could be written has been.
        self.drop_records(&mut writing.records);
        let (records, bytes) = mem::take(&mut writing.encoded);
        self.note_taken(records, bytes);
        let ended = writing.live.end(|ticks| self.progress.end(reason, ticks));
        self.note_written(writing);
        ended
    }

    fn note_written(&self, Writing { live, counted_bytes, .. }: &mut Writing) {
        self.progress.note_written(live.mark());
        self.progress.full.store(self.is_segment_full(live), Ordering::Relaxed);
        // One that is at its limit gives its room to the others at once.
        let bytes = if self.progress.stopped() == Some(Stop::Limited) { 0 } else { live.mark().bytes };
        self.recorders.note_live_bytes(mem::replace(counted_bytes, bytes), bytes);
    }

    /// Has what is written survive a loss of power, where it is to, and sees whether the file is where it belongs. False: that
    /// is to be done again.
    fn sync(&self) -> bool {
        let disk = lock(&self.disk);
        let Some(disk) = disk.as_ref().filter(|_| self.dirty.swap(false, Ordering::Relaxed)) else { return true };
        let written = self.progress.written();
        let synced = if self.options.durability == Durability::Sync { disk.sync().map(Some) } else { Ok(None) };
        let mut changed = match &synced {
            Ok(Some(())) => {
                self.progress.note_synced(written);
                self.progress.note_well(Fault::Sync)
            }
            Ok(None) => false,
            Err(error) => self.progress.note_fault(Fault::Sync, || format!("syncing failed: {error}")),
        };
        let misplaced = self.misplaced(&**disk);
        let is_done = synced.is_ok() && misplaced.is_none();
        // Whoever closes it gives the file another name.
        if !self.taken_over.load(Ordering::Acquire) {
            changed |= self.progress.note_misplaced(misplaced);
        }
        if !is_done {
            self.dirty.store(true, Ordering::Relaxed);
        }
        if changed {
            self.recorders.tell_change();
        }
        is_done
    }

    /// Why nobody finds what is written.
    fn misplaced(&self, disk: &dyn Disk) -> Option<Misplaced> {
        let place = self.progress.place();
        let path = place.path.display();
        match disk.is_at(&place.path) {
            Ok(true) => None,
            Ok(false) => {
                let problem = format!("{path} has been removed, renamed or replaced while it was written");
                Some(Misplaced { problem, is_gone: true })
            }
            Err(error) => Some(Misplaced { problem: format!("{path} cannot be reached: {error}"), is_gone: false }),
        }
    }

    /// Takes nothing in any more, and leaves the file to the caller. False: somebody else has.
    fn stop_taking(&self) -> bool {
        lock(&self.queue).closed = true;
        !self.taken_over.swap(true, Ordering::AcqRel)
    }

    fn close(&self, reason: &EndReason) -> Closed {
        let is_open = self.stop_taking();
        self.write_rest(true);
        self.write_held();
        let ended = self.end(reason);
        let mark = lock(&self.live).as_ref().map(|writing| writing.live.mark()).unwrap_or_default();
        let mut end = self.progress.end(reason, mark.ticks);
        self.progress.note_closed();
        let misplaced = lock(&self.disk).as_ref().and_then(|disk| self.misplaced(&**disk));
        let gone = misplaced.filter(|misplaced| misplaced.is_gone);
        if let Some(Misplaced { problem, .. }) = &gone {
            // What has no name goes with the last who has it open. The file itself says what is in it: it may only have moved.
            let ticks_missing = end.tick.since(self.progress.place().segment.origin());
            end = End { reason: EndReason::Stopped { problem: problem.clone() }, ticks_missing, ..end };
        }
        let mut problem = match &end.reason {
            EndReason::Stopped { problem } => Some(problem.clone()),
            _ => None,
        };
        if let Err(error) = ended {
            problem.get_or_insert(format!("its end could not be written: {error}"));
        }
        let live = self.progress.place().path.clone();
        // What has the name now is somebody else's.
        let finished =
            if gone.is_some() { None } else { Some(files::finalize(&*self.recorders.storage(), &live, Some(&end))) };
        let path = match finished {
            None => live,
            Some(Ok(finished)) => {
                if let Some(lost) = finished.lost {
                    problem.get_or_insert(lost.to_string());
                }
                finished.path
            }
            Some(Err(error)) => {
                tracing::error!("{} could not be finished: {error}", live.display());
                // It stays as it is, with its end.
                let synced = lock(&self.disk).as_ref().map_or(Ok(()), |disk| disk.sync());
                if let Err(error) = synced {
                    tracing::warn!("{} cannot be synced: {error}", live.display());
                }
                problem.get_or_insert(format!("it could not be finished, repair it later: {error}"));
                live
            }
        };
        // The segments before it, which may be on their way.
        self.recorders.finish_ended();
        if is_open {
            self.let_go();
        }
        Closed { path, end, problem }
    }

    /// Writes an input that has no result, as where its tick panicked.
    fn write_held(&self) {
        let mut live = lock(&self.live);
        let Some(Writing { live, .. }) = live.as_mut() else { return };
        if self.progress.stopped().is_none()
            && let Err(error) = live.write_held().and_then(|()| live.flush())
        {
            self.progress.note_fault(Fault::Write, || format!("writing failed: {error}"));
        }
        self.progress.note_written(live.mark());
    }

    /// Gives up the file, and the lock on it.
    fn let_go(&self) {
        if let Some(Writing { live, mut records, encoded, counted_bytes, .. }) = lock(&self.live).take() {
            self.drop_records(&mut records);
            self.note_taken(encoded.0, encoded.1);
            self.recorders.note_live_bytes(counted_bytes, 0);
            live.cut();
        }
        *lock(&self.disk) = None;
        self.recorders.leave();
        self.recorders.tell_change();
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open").field("progress", &self.progress).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
