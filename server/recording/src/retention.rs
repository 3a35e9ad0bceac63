//! Which recordings are kept: a server that runs for months does not fill its disk.

use std::{
    cmp::Reverse,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{Recording, files, overlap::Overlap};

/// How much is kept. Of finished recordings only: one whose session runs, or that a killed server has left and nobody has
/// repaired, stays, and counts. What cannot be read as a recording stays, and counts for nothing: no sound one has to make room
/// for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Bytes of all recordings in a directory that can be read.
    pub bytes_max: u64,
    /// How many finished ones.
    pub count_max: usize,
    /// How long ago a recording was finished; none: any time.
    pub age_max: Option<Duration>,
}

impl Retention {
    /// All are kept.
    pub const UNLIMITED: Self = Self { bytes_max: u64::MAX, count_max: usize::MAX, age_max: None };
}

impl Default for Retention {
    /// 16 GiB, 10,000 recordings, of any age.
    fn default() -> Self {
        Self { bytes_max: 16 << 30, count_max: 10_000, age_max: None }
    }
}

/// What became of a directory whose recordings were to be within their limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// The recordings that are gone, in order, each with the size of its file in bytes.
    pub deleted: Vec<(PathBuf, u64)>,
    /// Files that take so many bytes, and are not deleted, since they cannot be read: recordings whose beginnings are damaged,
    /// and somebody else's files of such names. They are looked for where room is needed.
    pub unreadable: Vec<(PathBuf, u64)>,
}

#[derive(Debug)]
struct Finished {
    at: SystemTime,
    path: PathBuf,
    bytes: u64,
}

/// Deletes finished recordings of a directory, the oldest first, until the rest is within `retention`. Files that are no
/// recordings stay, and count for nothing. What the system does not delete is left, and the next one goes.
///
/// # Errors
/// Where the directory cannot be read.
pub fn retain(directory: &Path, retention: &Retention, now: SystemTime) -> io::Result<Retained> {
    let (mut finished, mut bytes) = (Vec::new(), 0_u64);
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        // One that has gone since counts for nothing.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if !files::is_recording(&path) || !files::is_own_file(&path) {
            continue;
        }
        bytes = bytes.saturating_add(metadata.len());
        if !files::is_live(&path) {
            finished.push(Finished { at: metadata.modified()?, path, bytes: metadata.len() });
        }
    }
    // The oldest last.
    finished.sort_by(|a, b| Reverse((a.at, &a.path)).cmp(&Reverse((b.at, &b.path))));
    let is_too_old = |at: SystemTime| {
        let age = now.duration_since(at).unwrap_or_default();
        retention.age_max.is_some_and(|age_max| age > age_max)
    };
    let is_within = |count: usize, bytes: u64, oldest: SystemTime| {
        count <= retention.count_max && bytes <= retention.bytes_max && !is_too_old(oldest)
    };
    let mut retained = Retained::default();
    // To look into all of them takes time, and is not needed where there is room even for those that do not count.
    if finished.last().is_none_or(|oldest| is_within(finished.len(), bytes, oldest.at)) {
        return Ok(retained);
    }
    // Somebody else's file of that name, and one whose beginning is damaged, is nothing to delete unasked.
    for file in finished.extract_if(.., |file| Recording::open(&file.path).is_err()) {
        bytes = bytes.saturating_sub(file.bytes);
        retained.unreadable.push((file.path, file.bytes));
    }
    let mut left = finished.len();
    while let Some(Finished { at, path, bytes: size }) = finished.pop() {
        if is_within(left, bytes, at) {
            break;
        }
        match fs::remove_file(&path) {
            Ok(()) => {
                if files::is_set_aside(&path) {
                    // Of no use without it. One that stays does no harm.
                    let _ = fs::remove_file(files::reason_path(&path));
                }
                bytes = bytes.saturating_sub(size);
                left -= 1;
                retained.deleted.push((path, size));
            }
            Err(error) => tracing::warn!("{} cannot be deleted: {error}", path.display()),
        }
    }
    Ok(retained)
}

/// What a killed process has left of its work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tidied {
    /// What is gone: halves of copies, live files of which there is a finished one that has all of them, and notes of attempts
    /// to go on with recordings that are not there any more.
    pub removed: Vec<PathBuf>,
    /// Live files that nobody writes: an [`Unfinished`](crate::Unfinished) session can go on, and [`repair`](crate::repair)
    /// finishes its recording.
    pub unfinished: Vec<PathBuf>,
}

/// Removes what a killed process has left of its work on recordings. What somebody works on stays.
///
/// # Errors
/// Where the directory cannot be read.
pub fn tidy(directory: &Path) -> io::Result<Tidied> {
    let mut tidied = Tidied::default();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        // Somebody else's pipe, or directory.
        if fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
            continue;
        }
        let is_of_no_use = || match files::attempted(&path) {
            Some(live) => !live.exists(),
            None if files::is_partial(&path) => is_left_partial(&path),
            None => is_left_live(&path),
        };
        let is_left = files::is_own_file(&path) && is_of_no_use();
        if is_left {
            match fs::remove_file(&path) {
                Ok(()) => tidied.removed.push(path),
                Err(error) => tracing::warn!("{} cannot be removed: {error}", path.display()),
            }
        } else if files::is_live(&path) && !files::is_in_use(&path) {
            tidied.unfinished.push(path);
        }
    }
    tidied.removed.sort();
    tidied.unfinished.sort();
    Ok(tidied)
}

fn is_left_partial(path: &Path) -> bool {
    File::options().write(true).open(path).is_ok_and(|file| file.try_lock().is_ok())
}

/// Whether a live file of which there is a finished one is of no use any more: one that may have something alone stays.
fn is_left_live(path: &Path) -> bool {
    let Some(finished) = files::finished_elsewhere(path) else { return false };
    let Ok(_lock) = files::lock(path) else { return false };
    let overlap = Recording::open(path).and_then(|live| Overlap::of(&finished, &live));
    let problem = match overlap {
        Ok(Overlap::HasAll(_)) => return true,
        Ok(Overlap::HasNoMore) => "it does not have all of it".to_owned(),
        Ok(Overlap::Other(problem)) => problem,
        Err(error) => error.to_string(),
    };
    tracing::warn!("{} stays beside {}: {problem}", path.display(), finished.display());
    false
}
