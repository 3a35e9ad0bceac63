//! Which recordings are kept: a server that runs for months does not fill its disk.

use std::{
    cmp::Reverse,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{Recording, files, list};

/// How much is kept. Of finished recordings only: one whose session runs, or that a killed server has left and nobody has
/// repaired, stays, and counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Bytes of all recordings in a directory.
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

/// A recording that has been deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Its file.
    pub path: PathBuf,
    /// The file's size.
    pub bytes: u64,
}

#[derive(Debug)]
struct Finished {
    at: SystemTime,
    path: PathBuf,
    bytes: u64,
}

/// Deletes finished recordings of a directory, the oldest first, until the rest is within `retention`. Files that are no
/// recordings stay. What cannot be deleted is left, and the next one goes.
///
/// # Errors
/// Where the directory cannot be read.
pub fn retain(directory: &Path, retention: &Retention, now: SystemTime) -> io::Result<Vec<Deleted>> {
    let (mut finished, mut bytes) = (Vec::new(), 0_u64);
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        // One that has gone since counts for nothing.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if !files::is_recording(&path) || !metadata.is_file() {
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
    let (mut deleted, mut left) = (Vec::new(), finished.len());
    while let Some(Finished { at, path, bytes: size }) = finished.pop() {
        if left <= retention.count_max && bytes <= retention.bytes_max && !is_too_old(at) {
            break;
        }
        // Somebody else's file of that name, and one whose beginning is damaged, is nothing to delete unasked.
        if Recording::open(&path).is_err() {
            continue;
        }
        match fs::remove_file(&path) {
            Ok(()) => {
                if files::is_set_aside(&path) {
                    // Of no use without it. One that stays does no harm.
                    let _ = fs::remove_file(files::reason_path(&path));
                }
                bytes = bytes.saturating_sub(size);
                left -= 1;
                deleted.push(Deleted { path, bytes: size });
            }
            Err(error) => tracing::warn!("{} cannot be deleted: {error}", path.display()),
        }
    }
    Ok(deleted)
}

/// What a killed process has left of its work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tidied {
    /// What is gone: halves of copies, live files of which there is a whole finished one, and notes of attempts to go on with
    /// recordings that are not there any more.
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
        let is_left = match files::attempted(&path) {
            Some(live) => !live.exists(),
            None if files::is_partial(&path) => is_left_partial(&path),
            None => is_left_live(&path),
        };
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

fn is_left_live(path: &Path) -> bool {
    let Some(finished) = files::finished_elsewhere(path) else { return false };
    let is_whole = Recording::open(finished).is_ok_and(|recording| list::indexes(recording.source()).is_some());
    is_whole && files::lock(path).is_ok()
}
