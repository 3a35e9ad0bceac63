//! What recordings ask of a file system: all that writes passes here, so that a program can throttle, count or refuse it, and
//! tests can have any of it fail.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Seek, SeekFrom, Write},
    path::Path,
    sync::Arc,
};

/// A file that is being written. Any of it may take its time, or fail: see [`Storage`].
pub trait Disk: fmt::Debug + Send + Sync {
    /// Puts bytes at a place, over what stands there; how many of them.
    ///
    /// # Errors
    /// Where the disk takes none of them.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize>;
    /// Returns once all that was written survives a loss of power.
    ///
    /// # Errors
    /// Where that cannot be said.
    fn sync(&self) -> io::Result<()>;
    /// Drops all beyond the first `length` bytes.
    ///
    /// # Errors
    /// Where the file stays as it was.
    fn cut(&self, length: u64) -> io::Result<()>;
    /// Whether it is this file that has a name, so that whoever looks there finds what is written: it may have been removed,
    /// renamed or replaced.
    ///
    /// # Errors
    /// Where that cannot be said now, as of a directory that may not be entered.
    fn is_at(&self, path: &Path) -> io::Result<bool>;
}

/// What recordings are written through: the [`FileSystem`], or what stands before it.
///
/// Recordings are read by their paths, so that what is written must come to stand there. Sessions wait for nothing here, however
/// long it takes and whatever it refuses: see [`Recorder`](crate::Recorder).
pub trait Storage: fmt::Debug + Send + Sync {
    /// A live file, which was not there before. While it is open nobody else can lock it.
    ///
    /// # Errors
    /// Where there is one, or none can be made.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn Disk>>;
    /// A file that is there, to go on with it. It is locked, too.
    ///
    /// # Errors
    /// Where there is none, or it cannot be written, or somebody else has it.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Disk>>;
    /// A file that replaces another one later: empty, whatever somebody has left there. It is locked, too.
    ///
    /// # Errors
    /// Where none can be made, or somebody else has it.
    fn create_partial(&self, path: &Path) -> io::Result<Arc<dyn Disk>>;
    /// Has one file take the place of another.
    ///
    /// # Errors
    /// Where both stay what they were.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a name that nothing has.
    ///
    /// # Errors
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) where something has it; or where the file keeps its own.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// Where it stays, or was not there.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Returns once what was created, renamed and removed in a directory survives a loss of power.
    ///
    /// # Errors
    /// Where that cannot be said.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
}

/// That of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileSystem;

impl Storage for FileSystem {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        let file = File::create_new(path)?;
        // So that nobody repairs it while it grows.
        file.try_lock()?;
        Ok(Arc::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        // Not to append: then each write would go to the end, wherever it is said to go.
        let file = File::options().read(true).write(true).open(path)?;
        file.try_lock()?;
        Ok(Arc::new(file))
    }

    fn create_partial(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        let file = File::options().write(true).create(true).truncate(false).open(path)?;
        // So that nobody takes it for a left one, or writes it, too.
        file.try_lock()?;
        file.set_len(0)?;
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            use rustix::{
                fs::{CWD, RenameFlags, renameat_with},
                io::Errno,
            };
            match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
                // Some file systems cannot do both at once.
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
                renamed => return Ok(renamed?),
            }
        }
        // Between the two there is nobody else: a server has its directory alone.
        match fs::symlink_metadata(to) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
            Err(error) => Err(error),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        // An empty path is the directory that the program is in.
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        File::open(directory)?.sync_all()
    }
}

impl Disk for File {
    #[cfg(unix)]
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(self, bytes, offset)
    }

    #[cfg(windows)]
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_write(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let own = self.metadata()?;
        match fs::metadata(path) {
            Ok(found) => Ok(is_same_file(&own, &found)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(unix)]
fn is_same_file(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Where files have no numbers: an open one cannot be removed there, either.
#[cfg(not(unix))]
fn is_same_file(_: &fs::Metadata, other: &fs::Metadata) -> bool {
    other.is_file()
}

/// Puts all of `bytes` at a place.
pub(crate) fn write_all_at(disk: &dyn Disk, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match disk.write_at(offset, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                bytes = &bytes[written..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes a file from its start to its end.
#[derive(Debug)]
pub(crate) struct Sequential {
    disk: Arc<dyn Disk>,
    position: u64,
    length: u64,
}

impl Sequential {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, position: 0, length: 0 }
    }

    pub(crate) fn into_inner(self) -> Arc<dyn Disk> {
        self.disk
    }
}

impl Write for Sequential {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.disk.write_at(self.position, bytes)?;
        self.position += written as u64;
        self.length = self.length.max(self.position);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Sequential {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
