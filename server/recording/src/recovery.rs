//! Going on with the session of a server that was killed: its live recording is played again, and recording goes on in the
//! same file.

use std::{
    collections::{BTreeMap, VecDeque},
    fs, io, mem,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::SystemTime,
};

use tickwire_shared::{Game, PlayerId, Tick};
use tickwire_simulation::{Session, SessionConfig, SessionLimits, TickPanic, TickResult};

use crate::{
    ChatRecord, End, EndReason, Recording, RecordingError, RecordingMeta, Recovered, Repaired, Replay, ReplayError,
    ReplayedTick, SeatToken, VerifyError,
    attempt::{Attempt, Beginning, Died},
    files,
    format::{self, Topic},
    list,
    reader::{Record, Sound},
    recorder::NAMES_MAX,
    segments::{Segments, recording_of, segment_name},
    stillborn::is_same_session,
    storage::{Disk, FileSystem, Storage},
};

/// So many of the lines that were said are taken over.
const SAID_MAX: usize = 256;

/// A live recording that no server writes any more, taken for the caller alone.
#[derive(Debug)]
pub struct Unfinished {
    pub(crate) path: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    storage: Arc<dyn Storage>,
    recording: Recording,
}

/// How to go on with a session.
#[derive(Clone, Copy, Debug)]
pub struct RecoveryOptions<'a> {
    /// For how many ticks the seat of a lost connection is kept: of all seats from here on, since everybody has lost it.
    pub grace_ticks: u64,
    /// The time.
    pub now: SystemTime,
    /// Comes true where it takes too long.
    pub stop: &'a AtomicBool,
    /// How many ticks have been read, or played, so far: who waits sees whether it comes any further.
    pub ticks_done: &'a AtomicU64,
}

/// What has become of an unfinished recording.
#[derive(Debug)]
pub enum Recovery {
    /// The session is as it was, at the last tick of the recording: see [`Recorders::resume`](crate::Recorders::resume).
    GoesOn(Box<Resumable>),
    /// The session had ended, or ends in the tick that it was killed in: there is nothing to go on with, and a finished
    /// recording.
    Over {
        /// What was made of the recording.
        finished: Repaired,
        /// How it ends.
        end: End,
    },
}

/// A session that is as it was when its server was killed, and its recording.
#[derive(Debug)]
pub struct Resumable {
    pub(crate) session: Session,
    pub(crate) unfinished: Unfinished,
    pub(crate) sound: Sound,
    /// Of a tick whose input only was on record.
    pub(crate) pending: Option<Box<TickResult>>,
    pub(crate) recovered: Recovered,
    pub(crate) attempt: Attempt,
    pub(crate) seat_tokens: Vec<SeatToken>,
    pub(crate) said: VecDeque<ChatRecord>,
}

/// Why nobody can go on with a session.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// It is not what was recorded, as with another build of the game; or the file is damaged from the start.
    #[error(transparent)]
    Replay(#[from] VerifyError),
    /// The process has died of it, time and again.
    #[error("the server has died {times} times while tick {tick} was played again")]
    Died {
        /// Of this tick.
        tick: Tick,
        /// How often, in a row.
        times: u32,
    },
    /// The process has died of the keyframe that the segment begins with, and there is no segment before it to begin with.
    #[error("the server has died {times} times while a keyframe was restored, at last that of tick {tick}")]
    DiedRestoring {
        /// Of the keyframe that is left.
        tick: Tick,
        /// How often in all, none of them with another outcome between.
        times: u32,
    },
    /// It was told to stop.
    #[error("tick {at} of {of} had been played again when the time for it was over")]
    Stopped {
        /// The newest tick.
        at: Tick,
        /// The last one.
        of: Tick,
    },
    /// The file's header, or the numbers in it.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// It cannot be read now, or what is to be written beside it, or into it, cannot be. It can be tried again as it is.
    #[error("{}: {source}", path.display())]
    Disk {
        /// The recording.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Unfinished {
    /// Takes a live recording.
    ///
    /// # Errors
    /// Where somebody else has it, or its header cannot be read.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        Self::on(Arc::new(FileSystem), path)
    }

    /// As [`open`](Self::open), to write through `storage`.
    ///
    /// # Errors
    /// As there.
    pub fn on(storage: Arc<dyn Storage>, path: &Path) -> Result<Self, RecordingError> {
        let disk = files::open(&*storage, path)?;
        Ok(Self { path: path.to_owned(), disk, storage, recording: Recording::open(path)? })
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What stands in it, to its last whole record.
    #[must_use]
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// What the session was created with.
    #[must_use]
    pub fn meta(&self) -> &RecordingMeta {
        self.recording.meta()
    }

    /// Whether there is a next segment of the session's recording, in whatever state, so that nobody is to go on with this
    /// one. An empty file is none.
    #[must_use]
    pub fn has_successor(&self) -> bool {
        let is_one = |path: PathBuf| match files::is_empty(&path) {
            Ok(is_empty) => !(is_empty && files::is_live(&path)),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        self.successors().any(is_one)
    }

    /// Where the next segment may be: one that is being finished is found as a finished one.
    fn successors(&self) -> impl Iterator<Item = PathBuf> + use<> {
        let (directory, name) = (files::directory_of(&self.path).to_owned(), files::recording_name(&self.path));
        let (recording, number) = recording_of(&name);
        let (recording, next) = (recording.to_owned(), number.saturating_add(1));
        let set_aside = files::all_set_aside(&directory);
        (next..next.saturating_add(NAMES_MAX)).flat_map(move |number| {
            let name = segment_name(&recording, number);
            let aside = set_aside.iter().filter(|(of, _)| *of == name).map(|(_, path)| path.clone());
            let others = [files::live_path(&directory, &name), files::finished_path(&directory, &name)];
            aside.chain(others).collect::<Vec<_>>()
        })
    }

    /// Makes a finished recording of it, which nobody goes on with. Where there is a next segment, its session has not ended
    /// with this one.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn finish(&self) -> Result<Repaired, RecordingError> {
        let opened = self.successors().filter_map(|path| Recording::open(path).ok());
        let next = opened.map(|recording| recording.meta().clone()).find(|meta| self.is_followed_by(meta));
        let end = next.map(|next| self.end_before(&next)).transpose()?.flatten();
        self.finish_with(end.as_ref())
    }

    /// As [`finish`](Self::finish), where `next` may be what the next segment's header says.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn finish_before(&self, next: &RecordingMeta) -> Result<Repaired, RecordingError> {
        if self.is_followed_by(next) { self.finish_with(self.end_before(next)?.as_ref()) } else { self.finish() }
    }

    fn is_followed_by(&self, next: &RecordingMeta) -> bool {
        let predecessor = next.segment.predecessor.as_deref();
        is_same_session(self.meta(), next) && predecessor == Some(&*files::recording_name(&self.path))
    }

    /// The end of one that has none, and that `next` follows.
    fn end_before(&self, next: &RecordingMeta) -> Result<Option<End>, RecordingError> {
        let list::Scan { ticks, end, broken, .. } = list::scan(&self.recording);
        let problem = match broken {
            // It may have more ticks another time.
            Some(RecordingError::Io { path, source }) if !is_lost(&source) => {
                return Err(RecordingError::Io { path, source });
            }
            None | Some(RecordingError::Truncated { .. }) => {
                "its end was not on the disk when the server was killed".to_owned()
            }
            Some(damage) => damage.to_string(),
        };
        let whole = self.recording.origin_tick().0.saturating_add(ticks);
        let tick = next.segment.origin();
        let end_missing = |ticks_missing| match ticks_missing {
            0 => End { reason: EndReason::Continued, tick, ticks_missing },
            _ => End { reason: EndReason::Stopped { problem }, tick, ticks_missing },
        };
        Ok(tick.0.checked_sub(whole).filter(|_| end.is_none()).map(end_missing))
    }

    fn finish_with(&self, end: Option<&End>) -> Result<Repaired, RecordingError> {
        let finished = files::finalize(&*self.storage, &self.path, end)?;
        remove_attempt(&*self.storage, &self.path);
        Ok(finished)
    }

    /// Plays the recording again, and compares each tick.
    ///
    /// What a kill has torn at its end is cut off. A tick whose input only is on record is played, and belongs to it. Where
    /// there is damage, the session goes on from before it, and the file is kept as `NAME.damaged-EPOCH.mcap`, or as
    /// `NAME.damaged-EPOCH-1.mcap`, and so on, where that is another file.
    ///
    /// While this runs, a note lies beside the file. Where the process has died at one tick three times in a row, this is an
    /// error. A process that is killed from outside does not die at one tick again and again. Where it has died while a keyframe
    /// was restored, the next ones begin further back: with an older keyframe, with the file's first tick, or with a segment
    /// before it. Only where there is none, and after many such deaths, this is an error, too.
    ///
    /// # Errors
    /// Why nobody can go on with it, and the recording.
    pub fn recover(
        self,
        game: Arc<dyn Game>,
        options: RecoveryOptions<'_>,
    ) -> Result<Recovery, (RecoveryError, Box<Self>)> {
        let (mut seat_tokens, mut said) = (BTreeMap::new(), VecDeque::new());
        let recovered = self.sound(&mut seat_tokens, &mut said, options.ticks_done).and_then(|sound| match sound {
            Ok(sound) => self.play(sound, game, options),
            Err(end) => Ok(Err(end)),
        });
        let finished = match recovered {
            Ok(Ok(Played { session, sound, pending, recovered, attempt })) => {
                let seats = &session.frame().seats;
                seat_tokens.retain(|player, _| seats.iter().any(|seat| seat.player == *player));
                let seat_tokens = seat_tokens.into_values().collect();
                let resumable =
                    Resumable { session, unfinished: self, sound, pending, recovered, attempt, seat_tokens, said };
                return Ok(Recovery::GoesOn(Box::new(resumable)));
            }
            Ok(Err(end)) => self.finish_with(Some(&end)).map(|finished| Recovery::Over { finished, end }),
            Err(error) => return Err((error.or_disk(), Box::new(self))),
        };
        finished.map_err(|error| (RecoveryError::from(error).or_disk(), Box::new(self)))
    }

    /// Reads all of it, and cuts off what cannot be read. The inner error is the session's end, where that is on record. Of
    /// each player the newest tokens are put among `seat_tokens`, and the newest lines in `said`.
    fn sound(
        &self,
        seat_tokens: &mut BTreeMap<PlayerId, SeatToken>,
        said: &mut VecDeque<ChatRecord>,
        ticks_done: &AtomicU64,
    ) -> Result<Result<Sound, End>, RecoveryError> {
        let (mut end, mut damage) = (None, None);
        let mut records = self.recording.records()?;
        let mut before = self.recording.origin_tick();
        for record in records.by_ref() {
            if let Ok(Record { tick, .. }) = &record {
                ticks_done.fetch_add(tick.since(before), Ordering::Relaxed);
                before = before.max(*tick);
            }
            match record {
                Ok(Record { topic: Topic::End, data, .. }) => end = End::decode(&data).ok().map(|(end, _)| end),
                Ok(Record { topic: Topic::SeatToken, data, .. }) => {
                    // The checksum is right. What it says in a later version's words is passed over.
                    seat_tokens.extend(SeatToken::decode(&data).ok().map(|token| (token.player, token)));
                }
                Ok(Record { topic: Topic::Chat, data, .. }) => {
                    said.extend(ChatRecord::decode(&data).ok());
                    if said.len() > SAID_MAX {
                        said.pop_front();
                    }
                }
                Ok(_) => {}
                Err(error @ RecordingError::Io { .. }) => return Err(error.into()),
                Err(error) => damage = Some(error),
            }
        }
        if let Some(end) = end {
            return Ok(Err(end));
        }
        let mut sound = records.sound(self.meta());
        let length = fs::metadata(&self.path).map_err(self.disk_error())?.len();
        if length > sound.bytes {
            if !files::is_torn(&self.path, damage.as_ref(), sound.bytes).map_err(self.disk_error())? {
                let copy = files::copy_damaged(&*self.storage, &self.path, sound.epoch).map_err(self.disk_error())?;
                let damage = damage.map(|damage| format!("{damage}; ")).unwrap_or_default();
                tracing::warn!("{}: {damage}it is kept as {}", self.path.display(), copy.display());
            }
            self.disk.cut(sound.bytes).map_err(self.disk_error())?;
            // Some of those that were read may have stood behind that.
            sound.channels = self.recording.channels_within(sound.bytes)?;
        }
        if !format::has_all_channels(&sound.channels) {
            sound.schemas = self.recording.schemas_within(sound.bytes)?;
        }
        Ok(Ok(sound))
    }

    /// Plays what is sound. The inner error is how the session ends, where its last tick panics.
    fn play(
        &self,
        sound: Sound,
        game: Arc<dyn Game>,
        options: RecoveryOptions<'_>,
    ) -> Result<Result<Played, End>, RecoveryError> {
        let attempt = Attempt::begin(&*self.storage, &files::attempt_path(&self.path)).map_err(self.disk_error())?;
        let mut attempt = attempt.map_err(|Died { tick, times }| RecoveryError::Died { tick, times })?;
        let config = self.meta().session_config();
        let limits = SessionLimits { grace_ticks: options.grace_ticks, ..config.limits };
        let config = SessionConfig { limits, ..config };
        let replayed = match self.replay_from_keyframe(&sound, &game, &config, options, &mut attempt) {
            Some(replayed) => replayed,
            None => match self.replay_from_before(&sound, &game, &config, options, &mut attempt) {
                Some(replayed) => replayed,
                None => self.replay_from_origin(&sound, game, config, options, &mut attempt),
            },
        };
        attempt.rests().map_err(self.disk_error())?;
        let Replayed { mut session, pending } = match replayed? {
            Ok(replayed) => replayed,
            Err(TickPanic { tick, message }) => {
                return Ok(Err(End { reason: EndReason::Failed { message }, tick, ticks_missing: 0 }));
            }
        };
        let used = || RecordingError::Header(format!("epoch: {} is the last that there can be", sound.epoch));
        let epoch = sound.epoch.checked_add(1).ok_or_else(used)?;
        session.begin_epoch(epoch);
        session.disconnect_all();
        let recovered = Recovered { tick: session.tick(), epoch, time: options.now };
        Ok(Ok(Played { session, sound, pending, recovered, attempt }))
    }

    /// `None` where there is no keyframe that is of use, or its replay does not come to what was recorded: the whole match may.
    fn replay_from_keyframe(
        &self,
        sound: &Sound,
        game: &Arc<dyn Game>,
        config: &SessionConfig,
        options: RecoveryOptions<'_>,
        attempt: &mut Attempt,
    ) -> Option<Result<Result<Replayed, TickPanic>, RecoveryError>> {
        let Beginning::Keyframe { passed_over } = attempt.beginning() else { return None };
        let replay = attempt.noting_restores(|restoring| {
            Replay::nearest(&self.recording, game, sound.whole, config, passed_over, restoring)
        });
        let replay = match replay {
            Ok(replay) => replay,
            Err(error) => return Some(Err(self.disk_error()(error))),
        };
        let replay = replay?;
        let tick = replay.session().tick();
        match self.replay(replay, sound.begun, options, attempt) {
            Err(RecoveryError::Replay(error)) if tick > self.recording.origin_tick() => {
                tracing::warn!(tick = tick.0, "a keyframe is of no use, all is played again: {error}");
                None
            }
            replayed => Some(replayed),
        }
    }

    /// From the first tick of a segment before this one, through all between, where the process has died of keyframes of this
    /// one. `None` where there is none any more, or it does not come to this one's first tick.
    fn replay_from_before(
        &self,
        sound: &Sound,
        game: &Arc<dyn Game>,
        config: &SessionConfig,
        options: RecoveryOptions<'_>,
        attempt: &mut Attempt,
    ) -> Option<Result<Result<Replayed, TickPanic>, RecoveryError>> {
        let Beginning::Origin { segments_back } = attempt.beginning() else { return None };
        for tries in 0.. {
            let before = self.segments_before(segments_back);
            let began = before.last()?.origin_tick();
            if began > Tick::ZERO && attempt.deaths_of_keyframes().is_some() {
                return None;
            }
            let replayed = self.replay_through(&before, sound, game, config, options, attempt);
            match replayed.map_err(RecoveryError::or_disk) {
                // A live file has become a finished one meanwhile.
                Err(RecoveryError::Disk { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && tries < before.len() => {}
                // It may be the fault of those before.
                Err(RecoveryError::Replay(error)) => {
                    tracing::warn!(tick = began.0, "a segment before this one is of no use to begin with: {error}");
                    return None;
                }
                replayed => return Some(replayed),
            }
        }
        None
    }

    /// Plays these segments, newest first, and then this one.
    fn replay_through(
        &self,
        before: &[Recording],
        sound: &Sound,
        game: &Arc<dyn Game>,
        config: &SessionConfig,
        options: RecoveryOptions<'_>,
        attempt: &mut Attempt,
    ) -> Result<Result<Replayed, TickPanic>, RecoveryError> {
        let at = |verified: Tick| move |source| VerifyError::Replay { verified, source };
        let (oldest, newer) = before.split_last().expect("the caller has found one");
        let (began, game, config) = (oldest.origin_tick(), Arc::clone(game), config.clone());
        let replay = attempt.noting_restores(|restoring| Replay::with(oldest, game, config, restoring));
        let mut replay = replay.map_err(self.disk_error())?.map_err(at(began))?;
        for next in newer.iter().rev().chain([&self.recording]) {
            let origin = next.origin_tick();
            replay = replay.until(origin);
            if let Err(panic) = self.play_on(&mut replay, origin, options, attempt)? {
                return Err(VerifyError::Panicked(panic).into());
            }
            replay.go_on_in(next).map_err(at(origin))?;
        }
        self.replay(replay.until(Tick::MAX), sound.begun, options, attempt)
    }

    /// At most so many segments before this one, newest first, as far as they can be opened.
    fn segments_before(&self, count: usize) -> Vec<Recording> {
        let mut found = Vec::new();
        let Ok(segments) = Segments::beside(&self.path) else { return found };
        while found.len() < count {
            let newest = found.last().unwrap_or(&self.recording).meta();
            let Some(name) = newest.segment.predecessor.as_deref() else { break };
            match segments.open(recording_of(name).1) {
                Ok(before) if is_same_session(before.meta(), newest) => found.push(before),
                _ => break,
            }
        }
        found
    }

    /// From the first tick: of a segment behind the first one that is from the keyframe that it begins with.
    fn replay_from_origin(
        &self,
        sound: &Sound,
        game: Arc<dyn Game>,
        config: SessionConfig,
        options: RecoveryOptions<'_>,
        attempt: &mut Attempt,
    ) -> Result<Result<Replayed, TickPanic>, RecoveryError> {
        let origin = self.recording.origin_tick();
        if let Some(times) = attempt.deaths_of_keyframes().filter(|_| origin > Tick::ZERO) {
            return Err(RecoveryError::DiedRestoring { tick: origin, times });
        }
        let replay = attempt.noting_restores(|restoring| Replay::with(&self.recording, game, config, restoring));
        let replay = replay.map_err(self.disk_error())?;
        let replay = replay.map_err(|source| VerifyError::Replay { verified: origin, source })?;
        self.replay(replay, sound.begun, options, attempt)
    }

    fn replay(
        &self,
        mut replay: Replay,
        last: Tick,
        options: RecoveryOptions<'_>,
        attempt: &mut Attempt,
    ) -> Result<Result<Replayed, TickPanic>, RecoveryError> {
        let pending = self.play_on(&mut replay, last, options, attempt)?;
        Ok(pending.map(|pending| Replayed { session: replay.into_session(), pending }))
    }

    /// Plays all that there is to play, and yields what came of a tick whose input only is on record.
    fn play_on(
        &self,
        replay: &mut Replay,
        last: Tick,
        RecoveryOptions { stop, ticks_done, .. }: RecoveryOptions<'_>,
        attempt: &mut Attempt,
    ) -> Result<Result<Option<Box<TickResult>>, TickPanic>, RecoveryError> {
        let (mut pending, mut noted) = (None, Ok(()));
        while let Some(played) = replay.next_after(|tick| noted = attempt.plays(tick)) {
            mem::replace(&mut noted, Ok(())).map_err(self.disk_error())?;
            let at = replay.session().tick();
            let played = played.map_err(|source| VerifyError::Replay { verified: at, source })?;
            let ReplayedTick { recorded, outcome, divergence } = played;
            if let Some(divergence) = divergence {
                return Err(VerifyError::Diverged(divergence).into());
            }
            match (recorded.result, outcome) {
                (Some(_), Ok(_)) => {}
                (Some(_), Err(panic)) => return Err(VerifyError::Panicked(panic).into()),
                (None, Ok(output)) => pending = Some(Box::new(output.result)),
                (None, Err(panic)) => return Ok(Err(panic)),
            }
            ticks_done.fetch_add(1, Ordering::Relaxed);
            if stop.load(Ordering::Relaxed) && at < last {
                return Err(RecoveryError::Stopped { at, of: last });
            }
        }
        Ok(Ok(pending))
    }

    /// Leaves the recording where no server goes on with it, as `NAME.set-aside.mcap`, or `NAME.set-aside-1.mcap` and so on
    /// where that is another one: where it is then. The reason is for people.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn set_aside(&self, reason: &str) -> io::Result<PathBuf> {
        set_aside_on(&*self.storage, &self.path, reason)
    }

    fn disk_error(&self) -> impl Fn(io::Error) -> RecoveryError + use<> {
        let path = self.path.clone();
        move |source| RecoveryError::Disk { path: path.clone(), source }
    }
}

impl Resumable {
    /// Where the session is, and what it has become.
    #[must_use]
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// What the session was created with.
    #[must_use]
    pub fn meta(&self) -> &RecordingMeta {
        self.unfinished.meta()
    }

    /// The newest lines that were said, oldest first.
    pub fn said(&self) -> impl Iterator<Item = &ChatRecord> {
        self.said.iter()
    }

    /// By which tokens those come back who have a seat.
    #[must_use]
    pub fn seat_tokens(&self) -> &[SeatToken] {
        &self.seat_tokens
    }
}

impl RecoveryError {
    /// What the disk has not let be read says nothing of the recording: it may be read the next time. What the disk has lost
    /// will not be.
    fn or_disk(self) -> Self {
        match self {
            Self::Recording(RecordingError::Io { path, source })
            | Self::Replay(VerifyError::Replay {
                source: ReplayError::Recording(RecordingError::Io { path, source }),
                ..
            }) if !is_lost(&source) => Self::Disk { path, source },
            error => error,
        }
    }
}

/// A session at the last tick on record.
struct Replayed {
    session: Session,
    pending: Option<Box<TickResult>>,
}

/// What playing came to.
struct Played {
    session: Session,
    sound: Sound,
    pending: Option<Box<TickResult>>,
    recovered: Recovered,
    attempt: Attempt,
}

/// Whether an error of reading says that the disk has lost what stood there, as where a sector is bad: it is no use to wait
/// until it can be read.
#[must_use]
pub fn is_lost(error: &io::Error) -> bool {
    #[cfg(unix)]
    const LOST: &[i32] = &[5]; // EIO
    #[cfg(windows)]
    const LOST: &[i32] = &[23, 27, 30]; // ERROR_CRC, ERROR_SECTOR_NOT_FOUND, ERROR_READ_FAULT
    error.raw_os_error().is_some_and(|code| LOST.contains(&code))
}

/// As [`Unfinished::set_aside`], of a live file that cannot even be opened.
///
/// # Errors
/// Those of the disk.
pub fn set_aside(live: &Path, reason: &str) -> io::Result<PathBuf> {
    set_aside_on(&FileSystem, live, reason)
}

fn set_aside_on(storage: &dyn Storage, live: &Path, reason: &str) -> io::Result<PathBuf> {
    let path = files::set_aside(storage, live, reason)?;
    remove_attempt(storage, live);
    Ok(path)
}

fn remove_attempt(storage: &dyn Storage, live: &Path) {
    let path = files::attempt_path(live);
    if path.exists()
        && let Err(error) = storage.remove(&path)
    {
        tracing::warn!("{} cannot be removed: {error}", path.display());
    }
}
