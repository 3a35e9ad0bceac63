//! A data directory is one server's.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process,
};

/// The file that a server holds locked.
const LOCK: &str = "server.lock";

/// A data directory that no other server uses, as long as this is there: the operating system sees to it, whatever becomes of
/// the process.
#[derive(Debug)]
pub struct DirectoryLock {
    file: File,
}

/// Why a directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryLockError {
    /// Another process has it.
    #[error("{} is in use by {}", directory.display(), holder_words(*.holder))]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// The process's id, where it says so.
        holder: Option<u32>,
    },
    /// The file system's reason.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

fn holder_words(holder: Option<u32>) -> String {
    holder.map_or("another process".to_owned(), |holder| format!("process {holder}"))
}

impl DirectoryLock {
    /// Takes a directory, which is made where it is missing.
    ///
    /// # Errors
    /// Where another process has it, or this one; or the disk fails.
    pub fn take(directory: &Path) -> Result<Self, DirectoryLockError> {
        let path = directory.join(LOCK);
        let failed = |source| DirectoryLockError::Io { path: path.clone(), source };
        fs::create_dir_all(directory).map_err(failed)?;
        let options = File::options().read(true).write(true).create(true).truncate(false).clone();
        Self::lock(directory, &path, options.open(&path).map_err(failed)?)
    }

    /// Takes a directory, if servers have been using it.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn take_if_used(directory: &Path) -> Result<Option<Self>, DirectoryLockError> {
        let path = directory.join(LOCK);
        match File::options().read(true).write(true).open(&path) {
            Ok(file) => Self::lock(directory, &path, file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DirectoryLockError::Io { path, source }),
        }
    }

    fn lock(directory: &Path, path: &Path, mut file: File) -> Result<Self, DirectoryLockError> {
        let failed = |source| DirectoryLockError::Io { path: path.to_owned(), source };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
                return Err(DirectoryLockError::InUse { directory: directory.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // Only said, so that people know whom to end: a full disk is no reason to do without the lock.
        if let Err(error) = file.set_len(0).and_then(|()| writeln!(file, "{}", process::id())) {
            tracing::warn!("{}: {error}", path.display());
        }
        Ok(Self { file })
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // The process that it names has it no more.
        let _ = self.file.set_len(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_had_by_one_and_the_next_is_told_by_whom() {
        let directory = tempfile::tempdir().expect("a directory");
        let inner = directory.path().join("recordings");
        assert!(DirectoryLock::take_if_used(&inner).expect("nobody's").is_none());
        let taken = DirectoryLock::take(&inner).expect("nobody's");
        for error in [DirectoryLock::take(&inner).err(), DirectoryLock::take_if_used(&inner).err()] {
            let error = error.expect("it is taken");
            let said = format!("{} is in use by process {}", inner.display(), process::id());
            assert_eq!(error.to_string(), said);
        }
        drop(taken);
        assert!(DirectoryLock::take_if_used(&inner).expect("it is free").is_some());
    }
}
