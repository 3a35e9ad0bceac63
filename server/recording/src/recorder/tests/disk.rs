//! A disk with troubles, on real files.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
};

use super::super::lock;
use crate::storage::{Disk, FileSystem, Storage};

/// A file system whose troubles come and go.
#[derive(Debug)]
pub(super) struct Troubled {
    /// How many bytes files may grow by, all together.
    room: AtomicU64,
    /// The most bytes of a write.
    write_max: AtomicUsize,
    write: AtomicBool,
    sync: AtomicBool,
    open: AtomicBool,
    rename: AtomicBool,
    remove: AtomicBool,
    directory: AtomicBool,
    cut: AtomicBool,
    unreachable: AtomicBool,
    /// Writes wait for its end.
    stall: Mutex<Option<Receiver<()>>>,
    /// Files that a write to has waited for, or waits for still.
    stalled: Mutex<HashSet<PathBuf>>,
    /// How many more things are done.
    steps: AtomicU64,
    /// What was done, but for writes.
    log: Mutex<Vec<String>>,
    /// What each file was when it was synced last.
    synced: Mutex<BTreeMap<PathBuf, Vec<u8>>>,
    /// Files that are created are on this one.
    other: Mutex<Option<Arc<Self>>>,
    own: Mutex<std::sync::Weak<Self>>,
}

impl Troubled {
    /// None as yet.
    pub(super) fn new() -> Arc<Self> {
        let disk = Arc::new(Self {
            room: AtomicU64::new(u64::MAX / 2),
            write_max: AtomicUsize::new(usize::MAX),
            write: AtomicBool::new(false),
            sync: AtomicBool::new(false),
            open: AtomicBool::new(false),
            rename: AtomicBool::new(false),
            remove: AtomicBool::new(false),
            directory: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            unreachable: AtomicBool::new(false),
            stall: Mutex::default(),
            stalled: Mutex::default(),
            steps: AtomicU64::new(u64::MAX),
            log: Mutex::default(),
            synced: Mutex::default(),
            other: Mutex::default(),
            own: Mutex::default(),
        });
        *lock(&disk.own) = Arc::downgrade(&disk);
        disk
    }

    /// Has writes wait until what this returns is dropped.
    pub(super) fn stall(&self) -> Sender<()> {
        let (release, released) = channel();
        *lock(&self.stall) = Some(released);
        release
    }

    /// Whether a write to this file has met a stall.
    pub(super) fn has_stalled(&self, path: &Path) -> bool {
        lock(&self.stalled).contains(path)
    }

    /// Leaves room for so many bytes more.
    pub(super) fn fill(&self, room: u64) {
        self.room.store(room, Ordering::Relaxed);
    }

    pub(super) fn free(&self) {
        self.fill(u64::MAX / 2);
    }

    pub(super) fn write_at_most(&self, bytes: usize) {
        self.write_max.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn refuse_write(&self, refuse: bool) {
        self.write.store(refuse, Ordering::Relaxed);
    }

    pub(super) fn refuse_sync(&self, refuse: bool) {
        self.sync.store(refuse, Ordering::Relaxed);
    }

    pub(super) fn refuse_open(&self, refuse: bool) {
        self.open.store(refuse, Ordering::Relaxed);
    }

    pub(super) fn refuse_rename(&self, refuse: bool) {
        self.rename.store(refuse, Ordering::Relaxed);
    }

    pub(super) fn refuse_directory_sync(&self, refuse: bool) {
        self.directory.store(refuse, Ordering::Relaxed);
    }

    pub(super) fn refuse_remove(&self, refuse: bool) {
        self.remove.store(refuse, Ordering::Relaxed);
    }

    /// Has nobody see which files there are.
    pub(super) fn hide(&self, hide: bool) {
        self.unreachable.store(hide, Ordering::Relaxed);
    }

    pub(super) fn refuse_cut(&self, refuse: bool) {
        self.cut.store(refuse, Ordering::Relaxed);
    }

    /// Makes of each file of its name in a directory what it was when it was synced last, but for those that are kept: as a
    /// loss of power may.
    pub(super) fn lose_power(&self, directory: &Path, is_kept: impl Fn(&str) -> bool) {
        for (path, bytes) in &*lock(&self.synced) {
            let (name, path) = (name(path), directory.join(&*name(path)));
            if path.exists() && !is_kept(&name) {
                fs::write(path, bytes).expect("a disk");
            }
        }
    }

    /// Fails at everything after so many steps: for the files, the process is dead.
    pub(super) fn die_after(&self, steps: u64) {
        self.steps.store(steps, Ordering::Relaxed);
    }

    /// Creates files on another disk from now on.
    pub(super) fn create_next_on(&self, other: &Arc<Self>) {
        *lock(&self.other) = Some(Arc::clone(other));
    }

    /// What was done, but for writes.
    pub(super) fn log(&self) -> Vec<String> {
        lock(&self.log).clone()
    }

    fn step(&self, refused: &AtomicBool, done: Option<String>) -> io::Result<()> {
        let dead = self.steps.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |steps| steps.checked_sub(1)).is_err();
        if dead || refused.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        lock(&self.log).extend(done);
        Ok(())
    }

    fn move_file(&self, from: &Path, to: &Path, rename: impl FnOnce(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
        self.step(&self.rename, Some(format!("rename {}", name(to))))?;
        rename(from, to)?;
        let mut synced = lock(&self.synced);
        if let Some(bytes) = synced.remove(from) {
            synced.insert(to.to_owned(), bytes);
        }
        Ok(())
    }

    fn file(&self, path: &Path, file: File) -> Arc<dyn Disk> {
        let disk = lock(&self.other).clone().or_else(|| lock(&self.own).upgrade()).expect("it is in use");
        Arc::new(TroubledFile { disk, path: path.to_owned(), file })
    }
}

fn name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().expect("a file").to_string_lossy()
}

impl Storage for Troubled {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        self.step(&self.open, Some(format!("create {}", name(path))))?;
        let file = File::create_new(path)?;
        lock(&self.synced).insert(path.to_owned(), Vec::new());
        Ok(self.file(path, file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        self.step(&self.open, Some(format!("open {}", name(path))))?;
        Ok(self.file(path, File::options().read(true).write(true).open(path)?))
    }

    fn create_partial(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        self.step(&self.open, Some(format!("create {}", name(path))))?;
        let file = File::create(path)?;
        lock(&self.synced).insert(path.to_owned(), Vec::new());
        Ok(self.file(path, file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.move_file(from, to, |from, to| FileSystem.rename(from, to))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.move_file(from, to, |from, to| FileSystem.rename_new(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(&self.remove, Some(format!("remove {}", name(path))))?;
        let length = fs::metadata(path)?.len();
        self.room.fetch_add(length, Ordering::Relaxed);
        FileSystem.remove(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let refused = AtomicBool::new([&self.sync, &self.directory].iter().any(|of| of.load(Ordering::Relaxed)));
        self.step(&refused, Some("sync directory".to_owned()))?;
        FileSystem.sync_directory(directory)
    }
}

#[derive(Debug)]
struct TroubledFile {
    disk: Arc<Troubled>,
    path: PathBuf,
    file: File,
}

impl Disk for TroubledFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        if let Some(released) = &*lock(&self.disk.stall) {
            lock(&self.disk.stalled).insert(self.path.clone());
            // An error is the end of it.
            let _ = released.recv();
        }
        self.disk.step(&self.disk.write, None)?;
        let length = self.file.metadata()?.len();
        let over = length.saturating_sub(offset);
        let fits = usize::try_from(over.saturating_add(self.disk.room.load(Ordering::Relaxed))).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(fits).min(self.disk.write_max.load(Ordering::Relaxed))];
        if bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.disk.room.fetch_sub((bytes.len() as u64).saturating_sub(over), Ordering::Relaxed);
        self.file.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.step(&self.disk.sync, Some(format!("sync {}", name(&self.path))))?;
        // What is written meanwhile may be lost.
        let bytes = fs::read(&self.path)?;
        Disk::sync(&self.file)?;
        lock(&self.disk.synced).insert(self.path.clone(), bytes);
        Ok(())
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.disk.step(&self.disk.cut, None)?;
        let cut = self.file.metadata()?.len().saturating_sub(length);
        self.disk.room.fetch_add(cut, Ordering::Relaxed);
        self.file.cut(length)
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        match self.disk.unreachable.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::PermissionDenied.into()),
            false => self.file.is_at(path),
        }
    }
}
