//! A segment that was being begun when its server was killed, or that could not be begun: the session goes on from the one
//! before it.

use std::path::Path;

use tickwire_shared::Tick;

use crate::{
    Recording, RecordingError, RecordingMeta, files,
    format::Topic,
    reader::Record,
    recorder::NAMES_MAX,
    recovery::is_lost,
    segments::{recording_of, segment_name},
    storage::{FileSystem, Storage},
};

/// How far a segment has come.
enum Begun {
    /// It has ticks.
    Ticks,
    /// All that a session goes on from, behind this tick.
    Head(Tick),
    /// It ends before that, as a kill or a loss of power leaves it.
    Torn,
    /// What there is before that is damaged.
    Damaged(String),
}

/// The file that a segment follows.
struct Before {
    /// Its newest tick.
    tick: Tick,
    ended: bool,
}

/// Takes a live file out of the way, if it is a segment that was being begun when its server was killed, or that could not be
/// begun: the file before it is there still, was not said to have ended, or has gone on itself. Of a segment whose predecessor
/// has made way for it nothing is removed, whatever is left of it.
///
/// So is any file that is empty: there is nothing in it.
///
/// What could be removed and is damaged, and not only torn, is kept as `NAME.damaged.mcap`. An empty file counts as none where
/// it cannot be removed.
///
/// # Errors
/// Where somebody else has it, or it cannot be read, or removed.
pub fn remove_stillborn(live: &Path) -> Result<bool, RecordingError> {
    remove_on(&FileSystem, live)
}

pub(crate) fn remove_on(storage: &dyn Storage, live: &Path) -> Result<bool, RecordingError> {
    let is_first = recording_of(&files::recording_name(live)).1 <= 1;
    if is_first && !files::is_empty(live).map_err(files::at(live))? {
        return Ok(false);
    }
    // Held until it is gone.
    let _lock = files::open(storage, live)?;
    if files::is_empty(live).map_err(files::at(live))? {
        // What a kill leaves of a file that was being made, or a failed switch on a disk that does not remove it.
        if let Err(error) = storage.remove(live) {
            tracing::warn!("{} is empty, and cannot be removed: {error}", live.display());
        }
        return Ok(true);
    }
    if is_first {
        // Somebody has begun it just now.
        return Ok(false);
    }
    let (begun, meta) = match Recording::open(live) {
        Ok(recording) => (Begun::of(&recording, live)?, Some(recording.meta().clone())),
        Err(error @ RecordingError::Io { .. }) => return Err(error),
        Err(error) if files::is_without_header(live).map_err(files::at(live))? => {
            tracing::debug!("{}: {error}", live.display());
            (Begun::Torn, None)
        }
        Err(error) => (Begun::Damaged(error.to_string()), None),
    };
    if let Begun::Ticks = begun {
        return Ok(false);
    }
    let Some(before) = Before::of(live, meta.as_ref())? else { return Ok(false) };
    match begun {
        Begun::Head(origin) if before.tick > origin => remove(storage, live)?,
        Begun::Torn if !before.ended => remove(storage, live)?,
        Begun::Damaged(reason) if !before.ended => {
            let kept = files::keep_damaged(storage, live)?;
            tracing::warn!("{}: {reason}; it is kept as {}", live.display(), kept.display());
        }
        _ => return Ok(false),
    }
    storage.sync_directory(files::directory_of(live)).map_err(files::at(live))?;
    Ok(true)
}

fn remove(storage: &dyn Storage, live: &Path) -> Result<(), RecordingError> {
    storage.remove(live).map_err(files::at(live))
}

impl Begun {
    fn of(recording: &Recording, live: &Path) -> Result<Self, RecordingError> {
        let mut records = recording.records()?;
        let (mut head, mut damage) = (false, None);
        for record in records.by_ref() {
            match record {
                Ok(Record { topic: Topic::Header | Topic::SeatToken | Topic::Chat, .. }) => {}
                Ok(Record { topic: Topic::Keyframe, .. }) => head = true,
                Ok(_) => return Ok(Self::Ticks),
                Err(error @ RecordingError::Io { .. }) => return Err(error),
                Err(error) => damage = Some(error),
            }
        }
        if head {
            return Ok(Self::Head(recording.origin_tick()));
        }
        let is_torn = files::is_torn(live, damage.as_ref(), records.sound_bytes()).map_err(files::at(live))?;
        let reason = || damage.map_or_else(|| "it has no whole keyframe".to_owned(), |damage| damage.to_string());
        Ok(if is_torn { Self::Torn } else { Self::Damaged(reason()) })
    }
}

impl Before {
    /// `None` where there is none any more, or it cannot be read. Without the segment's header it is found by its name.
    fn of(live: &Path, next: Option<&RecordingMeta>) -> Result<Option<Self>, RecordingError> {
        let (directory, name) = (files::directory_of(live), files::recording_name(live));
        let (recording, number) = recording_of(&name);
        for number in (number.saturating_sub(NAMES_MAX).max(1)..number).rev() {
            let name = segment_name(recording, number);
            if next.is_some_and(|next| next.segment.predecessor.as_deref() != Some(&name)) {
                continue;
            }
            let (live, finished) = (files::live_path(directory, &name), files::finished_path(directory, &name));
            let path = if finished.exists() { finished } else { live };
            // One that a failed switch has left is none.
            if !path.exists() || files::is_empty(&path).map_err(files::at(&path))? {
                continue;
            }
            return match Recording::open(&path) {
                Ok(found) if next.is_none_or(|next| is_same_session(found.meta(), next)) => {
                    Self::read(&found).map(Some)
                }
                Err(RecordingError::Io { path, source }) if !is_lost(&source) => {
                    Err(RecordingError::Io { path, source })
                }
                _ => Ok(None),
            };
        }
        Ok(None)
    }

    fn read(recording: &Recording) -> Result<Self, RecordingError> {
        let (mut tick, mut ended) = (recording.origin_tick(), false);
        for record in recording.records()? {
            match record {
                Ok(record) => {
                    tick = tick.max(record.tick);
                    ended |= record.topic == Topic::End;
                }
                Err(RecordingError::Io { path, source }) if !is_lost(&source) => {
                    return Err(RecordingError::Io { path, source });
                }
                Err(_) => {}
            }
        }
        Ok(Self { tick, ended })
    }
}

/// Whether two recordings are of one session.
pub(crate) fn is_same_session(one: &RecordingMeta, other: &RecordingMeta) -> bool {
    (&one.session, one.created) == (&other.session, other.created)
}
