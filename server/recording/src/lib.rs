//! Recordings of sessions: writing, reading, replay and verification.
//!
//! A recording is an [MCAP](https://mcap.dev) file of protobuf messages, with their descriptors inside: a header, for each
//! tick a `TickInput` (everything nondeterministic that the tick consumes) and a `TickResult` (its state hash, and how the
//! truth changed), or for several ticks a `TickBatch` that says both, or for several idle ones an `IdleTicks`; every few
//! seconds a `Keyframe`, and a `RecordingEnd`: at a clean end, where the disk does not take more, or from the repair of what a
//! killed server has left.
//!
//! - While a session runs, a [`Recorder`] writes `NAME.live.mcap`, without chunks, flushed at each tick: a killed process
//!   loses nothing that was written. A few threads, [`Recorders`], write for all sessions of a process.
//! - At the end the file is rewritten as `NAME.mcap`: batches of two seconds' ticks, as columns, in compressed chunks, with
//!   indexes. It is written as `NAME.mcap.partial` first, then renamed. [`repair`] does the same for what a killed process
//!   left behind.
//! - An [`Unfinished`] recording is one that a killed server has left: [`Unfinished::recover`] plays it again, and
//!   [`Recorders::resume`] goes on with it. A note beside it sees to it that a game that takes the process down with it does
//!   so a few times only.
//! - [`retain`] and [`tidy`] keep a directory of them within bounds.
//! - A [`Recording`] reads both forms, and of a broken file the part before the damage.
//! - A [`Replay`] plays a recording again through [`Session::finish_tick`](tickwire_simulation::Session::finish_tick), as
//!   the session itself did, and [`verify`] compares every tick.
//!
//! - A [`RecordedKeyframe`] holds all of a session after a tick, so that a [`Replay::at`] any tick need not play what comes
//!   before; [`soak`] shows that a game goes on from keyframes as it would have without.
//!
//! A game team's own tests need one line each:
//!
//! ```no_run
//! # fn test<MyGame: tickwire_shared::Game + Copy>(my_game: MyGame) {
//! tickwire_recording::assert_replays("tests/recordings/duel.mcap", my_game);
//! tickwire_recording::assert_rebuilds(my_game, 600);
//! # }
//! ```

#![forbid(unsafe_code)]

mod assertions;
mod attempt;
mod batch;
mod bytes;
mod chat;
mod diff;
mod directory;
mod divergence;
mod dump;
mod error;
mod export;
mod files;
mod format;
mod free_name;
mod keyframe;
mod list;
mod meta;
mod minimise;
mod origin;
mod overlap;
mod reader;
mod record;
mod recorder;
mod recovery;
mod replay;
mod retention;
mod segments;
mod soak;
mod stillborn;
mod storage;
mod systems;
mod truth;
mod words;
mod writer;

pub use assertions::{assert_deterministic, assert_plays, assert_replays};
pub use bytes::{ByteReport, byte_report};
pub use chat::ChatRecord;
pub use diff::{DiffError, OutcomeDiff, RecordingDiff, TickDiff, diff};
pub use directory::{DirectoryLock, DirectoryLockError};
pub use divergence::{Difference, Divergence, Value};
pub use dump::{DumpError, TickDump, dump_tick};
pub use error::{RecordingError, ReplayError, VerifyError};
pub use export::{ExportError, ExportPart, Selection, describe, export, export_csv, export_mcap};
pub use files::{Repaired, finished_path, is_own_file, live_path, repair};
pub use format::{FORMAT_VERSION, RECORD_BYTES_MAX};
pub use keyframe::{RecordedKeyframe, RecordedKeyframeError};
pub use list::{Listed, RecordingState, RecordingSummary, list};
pub use meta::{End, EndReason, RecordingMeta, Segment};
pub use minimise::{Failure, MinimiseError, Minimised, RecordingSize, minimise};
pub use reader::{RecordedTick, Recording, Ticks};
pub use record::{RecordedEvent, RecordedResult, Recovered, SeatToken, TokenKey};
pub use recorder::{
    Closed, Durability, Recorder, RecorderCloser, RecorderOptions, RecorderState, RecorderStatus, RecorderWatch,
    Recorders, RecordersOptions,
};
pub use recovery::{Recovery, RecoveryError, RecoveryOptions, Resumable, Unfinished, is_lost, set_aside};
pub use replay::{Replay, ReplayedTick, Verified, game_of, verify};
pub use retention::{Retained, Retention, Tidied, retain, tidy};
pub use segments::{Segments, is_same_recording};
pub use soak::{SoakError, SoakOptions, Soaked, assert_rebuilds, soak};
pub use stillborn::remove_stillborn;
pub use storage::{Disk, FileSystem, Storage};
pub use systems::{Repeated, SystemEvidence, SystemFinding, find_cause, find_panic, find_system};
pub use writer::{Layout, Writer};
