//! What can be wrong with a recording, and with its replay.

use std::{io, path::PathBuf};

use tickwire_shared::{SchemaHash, Tick, TruthError};
use tickwire_simulation::{RestoreError, SessionError, TickInputError, TickPanic};

use crate::{Divergence, RecordedKeyframeError};

/// Why a recording, or the rest of one, cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file system's reason.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Another process, or this one, is still writing it.
    #[error("{}: the session is still being recorded; end it first", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Another file has the name that this one is to have, and may hold what this one does not.
    #[error("{} is in the way: {problem}; move it elsewhere, and try again", path.display())]
    InTheWay {
        /// That file.
        path: PathBuf,
        /// Why it is not replaced.
        problem: String,
    },
    /// A pipe or a device, where a recording is read more than once.
    #[error(
        "it is no file but a pipe or a device, which can be read only once: write what comes of it to a file first"
    )]
    ReadOnce,
    /// Not an MCAP file, or not of Tickwire's making.
    #[error("not a Tickwire recording: {0}")]
    NotARecording(String),
    /// Of a layout that this version does not know.
    #[error("the recording's format version is {found}; this version of Tickwire reads 1 to {}", crate::FORMAT_VERSION)]
    FormatVersion {
        /// In the header.
        found: u32,
    },
    /// A header that makes no sense.
    #[error("the recording's header: {0}")]
    Header(String),
    /// The file stops in the middle of a record.
    #[error("the file ends in the middle of a record; {}", readable(*.after))]
    Truncated {
        /// The last whole tick.
        after: Tick,
    },
    /// The file has been damaged.
    #[error("the file is damaged: {reason}; {}", readable(*.after))]
    Damaged {
        /// The last whole tick.
        after: Tick,
        /// What is wrong.
        reason: String,
    },
    /// A tick that is larger than any reader takes.
    #[error("a record of tick {tick} has {bytes} bytes, more than the {} allowed", crate::RECORD_BYTES_MAX)]
    TooLarge {
        /// The tick.
        tick: Tick,
        /// Its size.
        bytes: usize,
    },
}

fn readable(tick: Tick) -> String {
    if tick == Tick::ZERO { "no tick is readable".to_owned() } else { format!("its ticks up to {tick} are readable") }
}

/// Why a recording cannot be played again, or no further.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file's fault.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// A game that is not here.
    #[error("the recording is of the game {game:?}; this program has {known}")]
    UnknownGame {
        /// In the header.
        game: String,
        /// What there is.
        known: String,
    },
    /// The game is not what it was.
    #[error(
        "the recording is of {game} version {recorded_version} (schema {recorded}); this program has version \
         {present_version} (schema {present}): replay it with the version that made it"
    )]
    Schema {
        /// The game's name.
        game: String,
        /// The game's version in the header.
        recorded_version: u32,
        /// The schema's hash in the header.
        recorded: SchemaHash,
        /// The game's version here.
        present_version: u32,
        /// The schema's hash here.
        present: SchemaHash,
    },
    /// The session cannot be created as the header says.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A tick that does not follow from those before.
    #[error("the recording contradicts itself: {0}")]
    Input(#[from] TickInputError),
    /// A change of what is not there.
    #[error("the recording contradicts itself: tick {tick}: {source}")]
    Truth {
        /// The tick.
        tick: Tick,
        /// What does not fit.
        source: TruthError,
    },
    /// A keyframe that cannot be used. There may be older ones.
    #[error(transparent)]
    Keyframe(#[from] RecordedKeyframeError),
    /// A keyframe of which this build makes no session. There may be older ones.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// On the way to a tick one came out otherwise.
    #[error(transparent)]
    Diverged(Box<Divergence>),
    /// On the way to a tick the game panicked.
    #[error("in the replay, {0}")]
    Panicked(TickPanic),
    /// The recording is shorter.
    #[error("there is no tick {tick}: the recording ends with tick {last}")]
    BeyondEnd {
        /// What was asked for.
        tick: Tick,
        /// The last one.
        last: Tick,
    },
    /// The recording begins later: it is not the first segment of its session's.
    #[error("there is no tick {tick}: the recording begins with tick {}", .origin.next())]
    BeforeOrigin {
        /// What was asked for.
        tick: Tick,
        /// That of the keyframe that it begins with.
        origin: Tick,
    },
    /// A segment behind the first one whose first keyframe is missing or damaged: nothing says what its first tick follows.
    #[error("the recording does not begin with a sound keyframe of tick {tick}, which its ticks follow")]
    NoOrigin {
        /// The keyframe's.
        tick: Tick,
    },
    /// Whoever wanted it wants it no more.
    #[error("tick {at} of {of} had been played when it was told to stop")]
    Stopped {
        /// The newest tick.
        at: Tick,
        /// What was asked for.
        of: Tick,
    },
}

/// Why a recording is not what its replay yields.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A tick came out otherwise.
    #[error(transparent)]
    Diverged(#[from] Box<Divergence>),
    /// A tick panicked that had not.
    #[error("in the replay, and not in the recording, {0}")]
    Panicked(TickPanic),
    /// A tick had panicked that does not.
    #[error("tick {} panicked when it was recorded, and does not in the replay: {}", .0.tick, .0.message)]
    NotReproduced(TickPanic),
    /// The replay cannot go on.
    #[error("{}; then: {source}", verified_ticks(*.verified))]
    Replay {
        /// The last tick that was the same.
        verified: Tick,
        /// Why.
        source: ReplayError,
    },
}

fn verified_ticks(tick: Tick) -> String {
    if tick == Tick::ZERO { "no tick was verified".to_owned() } else { format!("its ticks up to {tick} are verified") }
}
