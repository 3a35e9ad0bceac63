//! Names of recordings, and the way from a live one to one for keeping.

use std::{
    fs::{self, File, TryLockError},
    io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};

use tickwire_shared::Tick;

use crate::{
    End, EndReason, Layout, Recording, RecordingError, Writer,
    batch::{self, BatchSpan},
    format::Topic,
    free_name, list,
    overlap::Overlap,
    reader::{Record, Source},
    record::{self, IdleTicks},
    recovery::is_lost,
    storage::{Disk, FileSystem, Sequential, Storage, write_all_at},
};

const LIVE: &str = ".live.mcap";
const FINISHED: &str = ".mcap";
const PARTIAL: &str = ".mcap.partial";
const DAMAGED: &str = ".damaged";
const SET_ASIDE: &str = ".set-aside";
/// A kill tears less than this off a file's end.
const TORN_BYTES_MAX: u64 = 256 * 1024;
const ATTEMPT: &str = ".attempt";
/// How much of a copy is written at once.
const COPY_BYTES: usize = 64 * 1024;

/// Where a session's recording is while the session runs.
#[must_use]
pub fn live_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}{LIVE}"))
}

/// Where a session's recording is after its end.
#[must_use]
pub fn finished_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}{FINISHED}"))
}

pub(crate) fn is_live(path: &Path) -> bool {
    name_of(path).ends_with(LIVE)
}

/// Whether a recording was live once, and nobody may go on with it.
pub(crate) fn is_set_aside(path: &Path) -> bool {
    free_name::name_of(&name_of(path), SET_ASIDE).is_some()
}

/// The note beside a live file that somebody tries to go on with it.
pub(crate) fn attempt_path(live: &Path) -> PathBuf {
    with_ending(live, ATTEMPT)
}

/// The live file that such a note is of.
pub(crate) fn attempted(path: &Path) -> Option<PathBuf> {
    let name = name_of(path);
    name.strip_suffix(ATTEMPT).map(|name| path.with_file_name(format!("{name}{LIVE}")))
}

/// Keeps a copy of a live file that is damaged, and that a session of this epoch goes on in: where.
pub(crate) fn copy_damaged(storage: &dyn Storage, live: &Path, epoch: u32) -> io::Result<PathBuf> {
    let (partial, kind) = (with_ending(live, PARTIAL), format!("{DAMAGED}-{epoch}"));
    for copy in numbered(live, &kind).take_while(|copy| free_name::is_taken(copy)) {
        // By a start that has come no further.
        if have_same_bytes(live, &copy)? {
            return Ok(copy);
        }
    }
    fs::copy(live, &partial)?;
    File::open(&partial)?.sync_all()?;
    let copy = free_name::rename(storage, &partial, numbered(live, &kind))?;
    storage.sync_directory(directory_of(&copy))?;
    Ok(copy)
}

fn have_same_bytes(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let [mut one, mut other] = [one, other].map(|file| BufReader::with_capacity(COPY_BYTES, file).bytes());
    loop {
        match (one.next().transpose()?, other.next().transpose()?) {
            (None, None) => return Ok(true),
            (one, other) if one != other => return Ok(false),
            _ => {}
        }
    }
}

/// The text that says why a recording was set aside.
pub(crate) fn reason_path(set_aside: &Path) -> PathBuf {
    set_aside.with_extension("txt")
}

/// Takes a live file out of the way of servers, and leaves it whole: where to. The reason is for people.
pub(crate) fn set_aside(storage: &dyn Storage, live: &Path, reason: &str) -> io::Result<PathBuf> {
    let is_free = |path: &PathBuf| !free_name::is_taken(path) && !free_name::is_taken(&reason_path(path));
    let path = numbered(live, SET_ASIDE).find(is_free).ok_or_else(free_name::none_left)?;
    let text = reason_path(&path);
    // First, so that there is none without.
    let disk = storage.create(&text)?;
    let write = || {
        write_all_at(&*disk, 0, format!("{reason}\n").as_bytes())?;
        disk.sync()?;
        storage.rename_new(live, &path)
    };
    if let Err(error) = write() {
        // A reason for nothing.
        let _ = storage.remove(&text);
        return Err(error);
    }
    storage.sync_directory(directory_of(live))?;
    Ok(path)
}

/// What has been set aside of the recordings in a directory, each with its recording's name.
pub(crate) fn all_set_aside(directory: &Path) -> Vec<(String, PathBuf)> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let paths = fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| is_set_aside(path)).map(|path| (recording_name(&path), path)).collect()
}

/// The paths of a recording's files of a kind: see [`free_name`].
fn numbered(path: &Path, kind: &str) -> impl Iterator<Item = PathBuf> + use<> {
    free_name::numbered(directory_of(path), &recording_name(path), kind)
}

pub(crate) fn is_partial(path: &Path) -> bool {
    name_of(path).ends_with(PARTIAL)
}

pub(crate) fn is_recording(path: &Path) -> bool {
    name_of(path).ends_with(FINISHED)
}

/// Whether a path is that of a file in its very directory: no pipe, socket or device, and no link to elsewhere.
#[must_use]
pub fn is_own_file(path: &Path) -> bool {
    let is_link_within = || {
        let directory = directory_of(path);
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let (file, directory) = (fs::canonicalize(path).ok()?, fs::canonicalize(directory).ok()?);
        Some(file.parent()? == directory && file.is_file())
    };
    let metadata = fs::symlink_metadata(path);
    metadata.is_ok_and(|own| own.is_file() || own.is_symlink() && is_link_within().unwrap_or(false))
}

/// The finished recording that has a live file's name: most often what was made of it, where only its removal was missed.
pub(crate) fn finished_elsewhere(path: &Path) -> Option<PathBuf> {
    is_live(path).then(|| with_ending(path, FINISHED)).filter(|finished| finished.exists())
}

/// A recording's name: that of its file, without directory and ending.
pub(crate) fn recording_name(path: &Path) -> String {
    let name = name_of(path);
    let live = name.strip_suffix(LIVE).or_else(|| free_name::name_of(&name, SET_ASIDE));
    live.or_else(|| name.strip_suffix(FINISHED)).unwrap_or(&name).to_owned()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The recording's file with another ending.
fn with_ending(path: &Path, ending: &str) -> PathBuf {
    path.with_file_name(format!("{}{ending}", recording_name(path)))
}

/// What became of a recording that was repaired.
#[derive(Debug)]
pub struct Repaired {
    /// The finished recording.
    pub path: PathBuf,
    /// How many whole ticks it has.
    pub ticks: u64,
    /// Why the rest could not be saved.
    pub lost: Option<RecordingError>,
    /// The damaged file, where it was kept.
    pub kept: Option<PathBuf>,
}

/// Makes a finished recording of what a killed process, or a bad disk, has left of one.
///
/// A live file becomes a finished one, and so does one that was set aside; a finished one that is damaged is rewritten with its
/// readable part. What is damaged, and not only torn at its end, is kept as `NAME.damaged.mcap`, or `NAME.damaged-1.mcap`, and
/// so on. A finished one that is sound is left as it is. A recording without an end gets one: [`EndReason::Killed`] where it is
/// what a kill leaves, else [`EndReason::Stopped`], since nobody knows how many ticks damage has taken.
///
/// No other file is replaced: a finished one of the name, only where it is of the same match and holds nothing that the new one
/// does not. Where it holds all that is to be finished, that goes, and it stays.
///
/// # Errors
/// Where a session is still writing the file, its header or no tick of it can be read, or the disk fails; and where a finished
/// recording of its name is in the way.
pub fn repair(path: impl AsRef<Path>) -> Result<Repaired, RecordingError> {
    let (path, storage) = (path.as_ref(), &FileSystem);
    if is_live(path) || is_set_aside(path) {
        // Held until the end, so that nobody repairs it twice at once.
        let _lock = lock(path)?;
        let repaired = finalize(storage, path, None)?;
        let beside = if is_live(path) { attempt_path(path) } else { reason_path(path) };
        // Most often there is none; one that stays does no harm.
        let _ = fs::remove_file(beside);
        return Ok(repaired);
    }
    let recording = Recording::open(path)?;
    let scan = list::scan(&recording);
    let indexes = list::indexes(recording.source());
    let sound = scan.broken.is_none() && indexes.is_some();
    if let (0, Some(nothing_readable)) = (scan.ticks, scan.broken) {
        return Err(nothing_readable);
    }
    if sound && scan.end.is_some() {
        return Ok(Repaired { path: path.to_owned(), ticks: scan.ticks, lost: None, kept: None });
    }
    // Where the damage is in the midst of the file, how the session ended may be readable beyond it.
    let end = scan.end.or_else(|| Some(list::last_end(recording.source(), &indexes?).ok()??.0));
    let partial = with_ending(path, PARTIAL);
    let Copied { ticks, lost, .. } = rewrite(storage, &recording, &partial, end.as_ref())?;
    let kept = (!sound).then(|| keep_damaged(storage, path)).transpose()?;
    // A sound one makes way for a copy that has an end, too.
    put_in_place(storage, &partial, path, sound)?;
    Ok(Repaired { path: path.to_owned(), ticks, lost, kept })
}

/// Takes a live file for the caller alone.
pub(crate) fn lock(path: &Path) -> Result<File, RecordingError> {
    let file = File::options().read(true).append(true).open(path).map_err(at(path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(RecordingError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(at(path)(source)),
    }
}

/// As [`lock`], to write it.
pub(crate) fn open(storage: &dyn Storage, path: &Path) -> Result<Arc<dyn Disk>, RecordingError> {
    storage.open(path).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => RecordingError::InUse { path: path.to_owned() },
        _ => at(path)(source),
    })
}

/// Takes back a live file that could not be begun. One that cannot be removed is empty at least, and so no recording.
pub(crate) fn take_back(storage: &dyn Storage, path: &Path, disk: &dyn Disk) {
    for taken_back in [disk.cut(0), storage.remove(path)] {
        if let Err(error) = taken_back {
            tracing::warn!("{}: {error}", path.display());
        }
    }
}

pub(crate) fn is_empty(path: &Path) -> io::Result<bool> {
    // A file of which the length is not known has none either.
    Ok(fs::metadata(path)?.len() == 0 && File::open(path)?.read(&mut [0])? == 0)
}

/// Leaves a damaged file where no server takes it up: where to.
pub(crate) fn keep_damaged(storage: &dyn Storage, path: &Path) -> Result<PathBuf, RecordingError> {
    free_name::rename(storage, path, numbered(path, DAMAGED)).map_err(at(path))
}

/// Makes a finished recording of a live file, which then is gone. `end` goes before the one in the file.
///
/// Whenever it breaks off, the live file or the finished one is there, and whole: the copy is synced before it gets the
/// finished one's name, and its name before the live file goes.
pub(crate) fn finalize(storage: &dyn Storage, live: &Path, end: Option<&End>) -> Result<Repaired, RecordingError> {
    let recording = Recording::open(live)?;
    let (path, partial) = (with_ending(live, FINISHED), with_ending(live, PARTIAL));
    let replaces = free_name::is_taken(&path);
    if replaces {
        match Overlap::of(&path, &recording)? {
            Overlap::HasNoMore => {}
            Overlap::HasAll(ticks) => {
                storage.remove(live).map_err(at(live))?;
                return Ok(Repaired { path, ticks, lost: None, kept: None });
            }
            Overlap::Other(problem) => return Err(RecordingError::InTheWay { path, problem }),
        }
    }
    let Copied { ticks, lost, sound_bytes } = rewrite(storage, &recording, &partial, end)?;
    // What follows damage may be of use to somebody.
    let is_damaged = lost.is_some() && !is_torn(live, lost.as_ref(), sound_bytes).map_err(at(live))?;
    put_in_place(storage, &partial, &path, replaces)?;
    let kept = if is_damaged {
        Some(keep_damaged(storage, live)?)
    } else {
        storage.remove(live).map_err(at(live))?;
        None
    };
    Ok(Repaired { path, ticks, lost, kept })
}

/// What is readable of a recording.
struct Copied {
    /// Whole ones.
    ticks: u64,
    /// Why the rest is not.
    lost: Option<RecordingError>,
    /// Where that begins, in a file without chunks.
    sound_bytes: u64,
}

/// Copies what is readable of a recording into a finished one. `end` goes before the one in the file; where there is none, it
/// is said to have been cut short.
fn rewrite(
    storage: &dyn Storage,
    recording: &Recording,
    to: &Path,
    end: Option<&End>,
) -> Result<Copied, RecordingError> {
    let copied = copy(storage, recording, to, end).map_err(at(to));
    if copied.is_err() {
        // It would take room on a disk that may be full. If it cannot be removed, the next start does it.
        let _ = storage.remove(to);
    }
    copied
}

fn copy(storage: &dyn Storage, recording: &Recording, to: &Path, end: Option<&End>) -> io::Result<Copied> {
    let file = BufWriter::with_capacity(COPY_BYTES, Sequential::new(storage.create_partial(to)?));
    let mut writer = Writer::new(file, &recording.meta().finished(), Layout::Finished)?;
    let schema = &recording.meta().schema;
    let (mut begun, mut ended, mut lost) = (recording.origin_tick(), false, None);
    let mut records = recording.records().map_err(io::Error::other)?;
    for record in records.by_ref() {
        let Record { topic, tick, data } = match record {
            Ok(record) => record,
            // It may be read another time: what is behind it is not to be given up.
            Err(RecordingError::Io { source, .. }) if !is_lost(&source) => return Err(source),
            Err(error) => {
                lost = Some(error);
                continue;
            }
        };
        match topic {
            Topic::Header => continue,
            // Written anew, so that it has all that an end has by now.
            Topic::End => {
                let own = || End::decode(&data).map(|(end, _)| end).map_err(io::Error::other);
                writer.end(&end.map_or_else(own, |end| Ok(end.clone()))?)?;
                ended = true;
                continue;
            }
            Topic::TickInput
                if let Ok(input) = record::decode_input(&data)
                    && input.tick == tick =>
            {
                writer.tick_input(&input)?;
            }
            Topic::TickResult
                if let Ok(result) = record::decode_result(schema, &data)
                    && result.tick == tick =>
            {
                writer.tick_result(&result)?;
            }
            Topic::TickBatch if let Ok(whole) = batch::decode(schema, &data) => {
                for (input, result) in whole {
                    writer.tick_input(&input)?;
                    writer.tick_result(&result)?;
                }
            }
            Topic::IdleTicks => writer.idle_ticks(&IdleTicks::decode(&data).map_err(io::Error::other)?)?,
            // What its checksum says is whole, whoever has written it, stays as it is.
            Topic::TickResult => {
                writer.write(topic, tick, &data)?;
                writer.add_ticks(1);
            }
            Topic::TickBatch => {
                let span = BatchSpan::decode(&data).map_err(io::Error::other)?;
                writer.write(topic, span.first, &data)?;
                writer.add_ticks(span.count());
            }
            Topic::TickInput | Topic::Keyframe | Topic::Recovered | Topic::SeatToken | Topic::Chat => {
                writer.write(topic, tick, &data)?;
            }
        }
        begun = tick;
    }
    let sound_bytes = records.sound_bytes();
    if !ended {
        let lacking = || end_of_none(recording, begun, lost.as_ref(), sound_bytes);
        writer.end(&end.map_or_else(lacking, |end| Ok(end.clone()))?)?;
    }
    let ticks = writer.ticks();
    let file = writer.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.into_inner().sync()?;
    Ok(Copied { ticks, lost, sound_bytes })
}

/// The end of a recording whose own cannot be read: a kill takes that of a live file, and only damage that of a finished one.
fn end_of_none(recording: &Recording, tick: Tick, lost: Option<&RecordingError>, sound: u64) -> io::Result<End> {
    let is_killed = match recording.source() {
        Source::File(path) if list::is_live(recording) => is_torn(path, lost, sound)?,
        source => lost.is_none() && list::indexes(source).is_some(),
    };
    let reason = match lost {
        _ if is_killed => EndReason::Killed,
        Some(lost) => EndReason::Stopped { problem: format!("the file was damaged when it was repaired: {lost}") },
        None => EndReason::Stopped { problem: "the end of the file was missing when it was repaired".to_owned() },
    };
    Ok(End { reason, tick, ticks_missing: 0 })
}

/// Renames a file that is whole and on disk; the directory's entry is, too, when this returns.
fn put_in_place(storage: &dyn Storage, partial: &Path, path: &Path, replaces: bool) -> Result<(), RecordingError> {
    let renamed = if replaces { storage.rename(partial, path) } else { storage.rename_new(partial, path) };
    if let Err(error) = renamed {
        let _ = storage.remove(partial);
        return Err(at(path)(error));
    }
    storage.sync_directory(directory_of(path)).map_err(at(path))
}

/// Whether there is nothing in what follows the first `sound` bytes of a live file, whose reading ended with `damage`. A kill
/// leaves half a record, a loss of power zeros; where a wrong length says that all of the rest is one record, there may be more.
pub(crate) fn is_torn(live: &Path, damage: Option<&RecordingError>, sound: u64) -> io::Result<bool> {
    if !matches!(damage, None | Some(RecordingError::Truncated { .. })) {
        return Ok(false);
    }
    let mut file = File::open(live)?;
    if file.metadata()?.len().saturating_sub(sound) <= TORN_BYTES_MAX {
        return Ok(true);
    }
    file.seek(SeekFrom::Start(sound))?;
    let mut bytes = vec![0; COPY_BYTES];
    loop {
        match file.read(&mut bytes)? {
            0 => return Ok(true),
            read if bytes[..read].iter().any(|byte| *byte != 0) => return Ok(false),
            _ => {}
        }
    }
}

/// Whether a live file, which does not start as a recording does, ends where its header would: a kill leaves that of one that
/// was being begun, a loss of power zeros.
pub(crate) fn is_without_header(live: &Path) -> io::Result<bool> {
    if fs::metadata(live)?.len() > TORN_BYTES_MAX {
        return Ok(false);
    }
    let bytes = fs::read(live)?;
    let is_cut_off = matches!(Recording::from_bytes(bytes.as_slice()), Err(RecordingError::Truncated { .. }));
    // What stands before the header is schemas and channels: whatever ends there has no records.
    let has_none = || Recording::has_no_records(&bytes);
    Ok(is_cut_off || bytes.iter().all(|byte| *byte == 0) || has_none())
}

pub(crate) fn directory_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> RecordingError + use<> {
    let path = path.to_owned();
    move |source| RecordingError::Io { path: path.clone(), source }
}

/// Whether a live file has its session still running.
pub(crate) fn is_in_use(path: &Path) -> bool {
    is_live(path) && matches!(lock(path), Err(RecordingError::InUse { .. }))
}
