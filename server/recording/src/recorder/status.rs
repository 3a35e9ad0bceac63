//! How a recorder does, for whoever asks.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tickwire_shared::Tick;

use super::{
    live::{Mark, Ticks},
    segments::Place,
};
use crate::{End, EndReason, Segment};

/// How a recorder does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecorderStatus {
    /// Whether it records.
    pub state: RecorderState,
    /// Why it is behind, or has stopped; or which segment could not be finished.
    pub problem: Option<String>,
    /// Ticks begun whose input is not in the file, so that a kill would lose them: 0 or 1 on a healthy disk that is written
    /// to at each tick. Where the recording has stopped: all that it lacks. Where the file has lost its name: all that are in it.
    pub lag_ticks: u64,
    /// About how much memory they take, and the results that wait with them.
    pub lag_bytes: u64,
    /// Ticks in the file that a loss of power may lose.
    pub unsynced_ticks: u64,
    /// Bytes of the file that a loss of power may lose.
    pub unsynced_bytes: u64,
    /// The size of the file.
    pub bytes: u64,
    /// How often the disk has refused something.
    pub failures: u64,
    /// Which segment of the session's recording that file is, from 1.
    pub segment: u32,
    /// The first tick that there can be in it.
    pub first_tick: Tick,
    /// How many segments of it could not be finished, and are left as they are: live files that the next start of a server
    /// finishes, or [`repair`](crate::repair).
    pub segments_left: u64,
}

/// Whether a recorder records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecorderState {
    /// It does.
    Running,
    /// The disk fails or stalls, or the file is not where it belongs. It is tried again, and looked for.
    Behind,
    /// The disk has failed or stalled for too long. What comes is not recorded: no replay could pass the gap.
    Stopped,
    /// The recording has reached its limit of size. What comes is not recorded.
    Limited,
    /// The session is over, and so is its recording.
    Closed,
}

/// Why a recording ends before its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Limited,
    Stopped(String),
}

/// How far a recording has come: written by those who record and write, read by whoever asks. Nothing here is logged: a log
/// may be on the very disk that stalls, and the session's thread is not to wait for it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The newest tick begun.
    pub(super) begun: AtomicU64,
    /// The newest tick whose input is in the file.
    inputs: AtomicU64,
    /// The newest tick whose result is in the file.
    results: AtomicU64,
    bytes: AtomicU64,
    /// As of the last sync.
    synced_inputs: AtomicU64,
    synced_bytes: AtomicU64,
    /// Records handed over that are not in the file, and about how much memory they take.
    pub(super) waiting: AtomicU64,
    pub(super) waiting_bytes: AtomicU64,
    failures: AtomicU64,
    segments_left: AtomicU64,
    /// The newest write has failed.
    write_fails: AtomicBool,
    /// The newest sync has failed.
    sync_fails: AtomicBool,
    /// More has come than the disk takes in good time.
    slow: AtomicBool,
    closed: AtomicBool,
    /// The file has all that a segment is to have.
    pub(super) full: AtomicBool,
    trouble: Mutex<Trouble>,
    place: Mutex<Arc<Place>>,
}

#[derive(Debug, Default)]
struct Trouble {
    newest: Option<String>,
    stop: Option<Stop>,
    /// What became of a segment that could not be finished.
    segment: Option<String>,
    misplaced: Option<Misplaced>,
}

/// Why nobody finds a file that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Misplaced {
    pub(super) problem: String,
    /// It has lost its name. Else that cannot be said.
    pub(super) is_gone: bool,
}

/// What the disk does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Write,
    Sync,
    Slow,
}

impl Progress {
    pub(super) fn status(&self) -> RecorderStatus {
        let [begun, inputs, synced_inputs, bytes, synced_bytes, failures, lag_bytes, segments_left] = [
            &self.begun,
            &self.inputs,
            &self.synced_inputs,
            &self.bytes,
            &self.synced_bytes,
            &self.failures,
            &self.waiting_bytes,
            &self.segments_left,
        ]
        .map(|number| number.load(Ordering::Relaxed));
        let Segment { number, first_tick, .. } = self.place().segment;
        let trouble = self.trouble();
        let is_gone = trouble.misplaced.as_ref().is_some_and(|misplaced| misplaced.is_gone);
        let state = match &trouble.stop {
            Some(Stop::Limited) => RecorderState::Limited,
            Some(Stop::Stopped(_)) => RecorderState::Stopped,
            None if self.closed.load(Ordering::Relaxed) => RecorderState::Closed,
            None if self.has_trouble() || trouble.misplaced.is_some() => RecorderState::Behind,
            None => RecorderState::Running,
        };
        let problem = match &trouble.stop {
            Some(Stop::Limited) => None,
            Some(Stop::Stopped(problem)) => Some(problem.clone()),
            None if state == RecorderState::Behind => {
                let misplaced = trouble.misplaced.as_ref().map(|misplaced| misplaced.problem.clone());
                misplaced.or_else(|| trouble.newest.clone())
            }
            None => trouble.segment.clone(),
        };
        // What is closed is synced as a whole, in a file of its own.
        let unsynced = |written: u64, synced: u64| match state {
            RecorderState::Closed => 0,
            _ => written.saturating_sub(synced),
        };
        RecorderStatus {
            state,
            problem,
            lag_ticks: match state {
                RecorderState::Limited | RecorderState::Closed => 0,
                // What has no name goes with the process.
                _ if is_gone => (begun + 1).saturating_sub(first_tick.0),
                _ => begun.saturating_sub(inputs),
            },
            lag_bytes,
            unsynced_ticks: unsynced(inputs, synced_inputs),
            unsynced_bytes: unsynced(bytes, synced_bytes),
            bytes,
            failures,
            segment: number,
            first_tick,
            segments_left,
        }
    }

    /// The file that grows.
    pub(super) fn place(&self) -> Arc<Place> {
        Arc::clone(&self.place.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn note_place(&self, place: Place) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(place);
    }

    /// What is in the file.
    pub(super) fn note_written(&self, Mark { bytes, ticks: Ticks { input, result } }: Mark) {
        self.inputs.store(input, Ordering::Relaxed);
        self.results.store(result, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// What is in the file by now, for [`note_synced`](Self::note_synced).
    pub(super) fn written(&self) -> (u64, u64) {
        (self.inputs.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    pub(super) fn note_synced(&self, (inputs, bytes): (u64, u64)) {
        self.synced_inputs.store(inputs, Ordering::Relaxed);
        self.synced_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Notes that the disk fails at something. True: it did not before.
    pub(super) fn note_fault(&self, fault: Fault, problem: impl FnOnce() -> String) -> bool {
        if fault != Fault::Slow {
            self.note_failure();
        }
        if self.flag(fault).load(Ordering::Relaxed) {
            return false;
        }
        let problem = problem();
        // Under the lock, so that whoever sees that it is behind sees why.
        let mut trouble = self.trouble();
        // That it is slow says less than why.
        if fault != Fault::Slow || !self.write_fails.load(Ordering::Relaxed) {
            trouble.newest = Some(problem);
        }
        self.flag(fault).store(true, Ordering::Relaxed);
        true
    }

    /// Notes that the disk has refused something.
    pub(super) fn note_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes what becomes of a segment that cannot be finished.
    pub(super) fn note_left_segment(&self, problem: String) {
        self.trouble().segment = Some(problem);
        self.segments_left.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes whether the file is where it belongs. True: that has changed.
    pub(super) fn note_misplaced(&self, misplaced: Option<Misplaced>) -> bool {
        let mut trouble = self.trouble();
        let has_changed = trouble.misplaced != misplaced;
        if has_changed && misplaced.is_some() {
            self.note_failure();
        }
        trouble.misplaced = misplaced;
        has_changed
    }

    /// Notes that the disk does it again. True: it had failed before.
    pub(super) fn note_well(&self, fault: Fault) -> bool {
        // Most often it was well: a look is cheaper than a write.
        let flag = self.flag(fault);
        flag.load(Ordering::Relaxed) && flag.swap(false, Ordering::Relaxed)
    }

    fn flag(&self, fault: Fault) -> &AtomicBool {
        match fault {
            Fault::Write => &self.write_fails,
            Fault::Sync => &self.sync_fails,
            Fault::Slow => &self.slow,
        }
    }

    fn has_trouble(&self) -> bool {
        [&self.write_fails, &self.sync_fails, &self.slow].into_iter().any(|flag| flag.load(Ordering::Relaxed))
    }

    /// Ends the recording before its session. True: it had not ended before. Only the first reason matters.
    pub(super) fn stop(&self, stop: Stop) -> bool {
        let mut trouble = self.trouble();
        if trouble.stop.is_some() {
            return false;
        }
        trouble.stop = Some(stop);
        true
    }

    /// Why a recording fails that has not stopped: what is wrong with the disk.
    pub(super) fn problem(&self) -> Option<String> {
        self.trouble().newest.clone()
    }

    pub(super) fn stopped(&self) -> Option<Stop> {
        self.trouble().stop.clone()
    }

    pub(super) fn note_closed(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// The end record of a file that has come so far.
    pub(super) fn end(&self, reason: &EndReason, Ticks { input, result }: Ticks) -> End {
        let stopped = |problem| EndReason::Stopped { problem };
        let (reason, begun) = match self.stopped() {
            Some(Stop::Limited) => (EndReason::Limited, result),
            Some(Stop::Stopped(problem)) => (stopped(problem), self.begun.load(Ordering::Relaxed)),
            None => (reason.clone(), self.begun.load(Ordering::Relaxed)),
        };
        let lacking = match reason {
            // The tick that it went down in has no result, only a cause.
            EndReason::Failed { .. } | EndReason::Killed => {
                begun.saturating_sub(1).saturating_sub(result).max(begun.saturating_sub(input))
            }
            _ => begun.saturating_sub(result),
        };
        // What the disk has not taken though nobody has given it up yet, or what had to give way to the end.
        let reason = match (&reason, lacking) {
            (EndReason::Stopped { .. } | EndReason::Limited, _) | (_, 0) => reason,
            _ => stopped(self.problem().unwrap_or_else(|| "the disk has no room left".to_owned())),
        };
        End { reason, tick: Tick(begun), ticks_missing: lacking }
    }

    fn trouble(&self) -> std::sync::MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
