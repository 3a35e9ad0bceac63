//! A long recording goes on in another file, which begins with a keyframe: so that one that is full can be finished, and deleted
//! some day, while its session runs.

use std::{
    collections::VecDeque,
    io, mem,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    thread,
};

use tickwire_simulation::Keyframe;

use super::{Open, RecorderOptions, Recorders, Writing, live::Live, lock, status::Progress};
use crate::{
    End, EndReason, RecordedKeyframe, RecordingMeta, Segment, files,
    segments::{recording_of, segment_name},
    storage::Disk,
};

/// How many names are tried for a segment: a disk that has failed may have left a file that could not be removed either.
pub(crate) const NAMES_MAX: u32 = 4;

/// So often it is tried to finish a segment, once with each of those after it, before it is left for the next start.
const ATTEMPTS_MAX: u32 = 5;
/// So often where those that are left take the room of recordings that grow.
const ATTEMPTS_MIN: u32 = 2;

/// The file that grows.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    /// As its header says.
    pub(super) segment: Segment,
}

/// A segment whose session goes on elsewhere.
#[derive(Debug)]
pub(super) struct Ended {
    path: PathBuf,
    end: End,
    /// Holds the file's lock.
    disk: Option<Arc<dyn Disk>>,
    /// What the recorders count of the file.
    counted_bytes: u64,
    /// How often it could not be done.
    attempts: u32,
    /// Of its session's recording.
    progress: Arc<Progress>,
}

/// Segments that are to be finished.
#[derive(Debug, Default)]
pub(super) struct EndedSegments {
    waiting: VecDeque<Ended>,
    /// The disk has not let them be finished: tried again with the next ones, for some times.
    failed: Vec<Ended>,
    /// A thread is at it.
    has_finisher: bool,
}

impl Open {
    /// Whether the file has all that a segment is to have.
    pub(super) fn is_segment_full(&self, live: &Live) -> bool {
        let RecorderOptions { segment_bytes, segment_ticks, bytes_max, .. } = self.options;
        let (ticks, bytes) = live.length();
        if ticks == 0 || segment_bytes == u64::MAX && segment_ticks == u64::MAX {
            return false;
        }
        // Before the limits at which the recording would end.
        let bytes_max = segment_bytes.min(bytes_max / 2).min(self.recorders.live_bytes_share());
        bytes >= bytes_max || ticks >= segment_ticks
    }

    /// Goes on in another file, behind `keyframe`. False: that cannot be now, and the file goes on.
    ///
    /// At any moment there is a file from which the session can go on: the new one is whole on the disk, down to its entry in
    /// the directory, before the other one is said to have ended. And at any moment what is before it is whole: whatever the
    /// recording is to survive, the other one is synced before there is a new one.
    pub(super) fn begin_segment(&self, writing: &mut Writing, keyframe: &Keyframe) -> bool {
        let recorded = RecordedKeyframe::of(keyframe).filter(|_| writing.live.stands_at(keyframe.tick()));
        let Some(recorded) = recorded else { return false };
        // A disk that refuses this refuses the keyframe, too: who writes that tells of it.
        if writing.live.flush().is_err() {
            return false;
        }
        let (records, bytes) = mem::take(&mut writing.encoded);
        self.note_taken(records, bytes);
        let before = self.progress.place();
        let next = writing.live.sync().and_then(|()| self.next_segment(&writing.live, &before, &recorded));
        let (place, disk, live) = match next {
            Ok(next) => next,
            Err(error) => {
                self.progress.note_failure();
                let (file, error) = (before.path.display(), error.to_string());
                if writing.grows.begins(&error) {
                    tracing::warn!(%file, "the recording cannot go on in another file, and grows; it is tried again: {error}");
                }
                return false;
            }
        };
        if writing.grows.ends() {
            tracing::info!(file = %place.path.display(), "the recording goes on in another file again");
        }
        let end = End { reason: EndReason::Continued, tick: recorded.tick, ticks_missing: 0 };
        let mark = live.mark();
        if let Err(error) = mem::replace(&mut writing.live, live).end_whole(&end) {
            // Its finished form has it.
            tracing::warn!(file = %before.path.display(), "the segment's end cannot be written now: {error}");
        }
        let counted_bytes = mem::replace(&mut writing.counted_bytes, mark.bytes);
        self.recorders.note_live_bytes(0, mark.bytes);
        // What syncs meanwhile syncs the one or the other, and notes it of that.
        let mut current = lock(&self.disk);
        let disk = current.replace(disk);
        self.progress.note_place(place);
        self.progress.note_written(mark);
        self.progress.note_synced(self.progress.written());
        self.progress.full.store(false, Ordering::Relaxed);
        drop(current);
        let (path, progress) = (before.path.clone(), Arc::clone(&self.progress));
        self.recorders.finish_later(Ended { path, end, disk, counted_bytes, attempts: 0, progress });
        true
    }

    fn next_segment(
        &self,
        live: &Live,
        before: &Place,
        keyframe: &RecordedKeyframe,
    ) -> io::Result<(Place, Arc<dyn Disk>, Live)> {
        let (directory, predecessor) = (files::directory_of(&before.path), files::recording_name(&before.path));
        let recording = recording_of(&predecessor).0;
        let first = before.segment.number.saturating_add(1);
        let storage = self.recorders.storage();
        let mut numbers = first..first.saturating_add(NAMES_MAX);
        let (number, path, disk) = loop {
            let number = numbers.next().ok_or(io::ErrorKind::AlreadyExists)?;
            let name = segment_name(recording, number);
            let path = files::live_path(directory, &name);
            if files::finished_path(directory, &name).try_exists()? {
                continue;
            }
            // Left by a switch that failed.
            if files::is_empty(&path).unwrap_or(false) {
                // Where that is refused, so is the next thing.
                let _ = storage.remove(&path);
            }
            match storage.create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                created => break (number, path, created?),
            }
        };
        let segment = Segment { number, first_tick: keyframe.tick.next(), predecessor: Some(predecessor.clone()) };
        let meta = RecordingMeta { segment: segment.clone(), ..self.meta.clone() };
        let begin = || {
            let next = live.next(Arc::clone(&disk), &meta, keyframe)?;
            // Whatever the recording is to survive: this is for as long as a segment.
            disk.sync()?;
            storage.sync_directory(directory)?;
            Ok(next)
        };
        let next = begin().inspect_err(|_: &io::Error| files::take_back(&*storage, &path, &*disk))?;
        Ok((Place { path, segment }, disk, next))
    }
}

impl Recorders {
    /// Makes a finished recording of a segment, on a thread that does one after the other.
    fn finish_later(&self, ended: Ended) {
        let mut segments = self.ended_segments();
        segments.waiting.push_back(ended);
        if !mem::replace(&mut segments.has_finisher, true) {
            let recorders = self.clone();
            let spawned = thread::Builder::new().name("tickwire-finish".into()).spawn(move || recorders.finish_ended());
            // Without a thread, it is done with the next one, or at a session's end.
            segments.has_finisher = spawned.is_ok();
        }
    }

    /// Makes finished recordings of all segments that have ended. This waits for the disk, and for whoever is at it.
    pub(super) fn finish_ended(&self) {
        let _one_at_a_time = self.finishing();
        let mut segments = self.ended_segments();
        let failed = mem::take(&mut segments.failed);
        segments.waiting.extend(failed);
        while let Some(ended) = segments.waiting.pop_front() {
            drop(segments);
            let kept = self.finish(ended);
            segments = self.ended_segments();
            segments.failed.extend(kept);
        }
        segments.has_finisher = false;
    }

    /// Where the disk does not let it be done: what is left to do.
    fn finish(&self, mut ended: Ended) -> Option<Ended> {
        let error = match files::finalize(&*self.storage(), &ended.path, Some(&ended.end)) {
            Ok(finished) => {
                self.note_live_bytes(ended.counted_bytes, 0);
                let (path, last_tick) = (finished.path.display(), ended.end.tick.0);
                let lost = finished.lost.map(|lost| lost.to_string());
                tracing::info!(%path, last_tick, lost, "a segment of a recording is finished; its session goes on");
                return None;
            }
            Err(error) => error,
        };
        ended.attempts += 1;
        ended.progress.note_failure();
        let path = ended.path.display();
        if ended.attempts < ATTEMPTS_MAX && !(ended.attempts >= ATTEMPTS_MIN && self.lacks_live_bytes()) {
            tracing::error!("{path} could not be finished, and is tried again later: {error}");
            return Some(ended);
        }
        tracing::error!("{path} could not be finished {} times, and is left as it is: {error}", ended.attempts);
        let name = ended.path.file_name().unwrap_or_default().display();
        ended.progress.note_left_segment(format!("{name} could not be finished, repair it later: {error}"));
        if let Some(Err(error)) = ended.disk.as_ref().map(|disk| disk.sync()) {
            tracing::warn!("{path} cannot be synced: {error}");
        }
        self.note_live_bytes(ended.counted_bytes, 0);
        None
    }
}
