//! What recordings there are, and what is in them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Cursor, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use mcap::{
    McapResult, Summary,
    records::{ChunkIndex, Record, op},
    sans_io::{LinearReadEvent, LinearReader, SummaryReadEvent, SummaryReader},
};

use tickwire_shared::Tick;

use crate::{
    End, EndReason, Recording, RecordingError, RecordingMeta, Recovered, files,
    format::{self, Topic},
    overlap::Overlap,
    reader::Source,
};

/// A recording found in a directory.
#[derive(Debug)]
pub struct Listed {
    /// Its file.
    pub path: PathBuf,
    /// The file's size.
    pub bytes: u64,
    /// What is in it, by its indexes: see [`Recording::summary`].
    pub summary: Result<RecordingSummary, RecordingError>,
    /// Whether those are missing: see [`Recording::lacks_indexes`].
    pub lacks_indexes: bool,
}

/// What is in a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordingSummary {
    /// What the session was created with.
    pub meta: RecordingMeta,
    /// How many ticks are whole: those from its [first](crate::Segment::first_tick) on.
    pub ticks: u64,
    /// The time that they took.
    pub length: Duration,
    /// How many keyframes there are: places at which a replay can begin.
    pub keyframes: u64,
    /// Whether it is all there.
    pub state: RecordingState,
    /// Where servers were killed, and others went on with the session.
    pub recovered: Vec<Recovered>,
    /// How many keyframes and lines of chat are damaged, and passed over: all ticks are there without them. By the indexes
    /// alone there are none.
    pub passed_over: u64,
}

impl RecordingSummary {
    /// The newest tick that is whole; that before its first one, where none is.
    #[must_use]
    pub fn last_tick(&self) -> Tick {
        Tick(self.meta.segment.origin().0.saturating_add(self.ticks))
    }
}

/// Whether a recording is all there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordingState {
    /// From the first tick to the last; or to the one that the session, or the server, went down in.
    Complete(EndReason),
    /// Ticks are missing.
    Incomplete {
        /// How many; or at least how many, where the session's own end could not be written.
        ticks_missing: u64,
        /// Why, where that is known.
        problem: Option<String>,
    },
    /// The session is running.
    Live,
    /// Nobody has ended it: the server was killed. Another one goes on with the session, or [`repair`](crate::repair) makes a
    /// finished recording of it.
    Unfinished,
    /// A server has tried to go on with it, and could not; in words.
    SetAside(String),
    /// The file is damaged; in words.
    Damaged(String),
}

/// The recordings in a directory, by name; what is no file, and links to elsewhere, are none. Of a live file that has been
/// finished, and not removed as yet, only the finished one.
///
/// # Errors
/// Where the directory cannot be read. What is wrong with a file stands in its entry.
pub fn list(directory: impl AsRef<Path>) -> io::Result<Vec<Listed>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if files::is_recording(&path) && files::is_own_file(&path) && !is_finished(&path) {
            paths.push(path);
        }
    }
    paths.sort();
    let listed = |path: PathBuf| {
        let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let recording = Recording::open(&path);
        let lacks_indexes = recording.as_ref().is_ok_and(Recording::lacks_indexes);
        let summary = recording.map(|recording| recording.summary());
        Listed { path, bytes, summary, lacks_indexes }
    };
    Ok(paths.into_iter().map(listed).collect())
}

/// Whether a finished recording holds all that a live one does.
fn is_finished(path: &Path) -> bool {
    let holds_all = |finished: PathBuf| {
        let overlap = Recording::open(path).and_then(|live| Overlap::of(&finished, &live));
        matches!(overlap, Ok(Overlap::HasAll(_)))
    };
    files::finished_elsewhere(path).is_some_and(holds_all)
}

impl Recording {
    /// What is in the recording: from its indexes where it has any, else by reading all of it. Damage between the first
    /// record and the indexes goes unseen; [`scan`](Self::scan) sees it.
    #[must_use]
    pub fn summary(&self) -> RecordingSummary {
        self.indexed().unwrap_or_else(|| self.scanned())
    }

    /// What is in the recording, by reading and checking all of it.
    #[must_use]
    pub fn scan(&self) -> RecordingSummary {
        self.scanned()
    }

    /// Whether the indexes of a finished recording are missing or damaged, as where the file's end is cut off. All ticks may
    /// be there nonetheless. [`repair`](crate::repair) restores them; a live file needs none.
    #[must_use]
    pub fn lacks_indexes(&self) -> bool {
        !self.is_live() && indexes(self.source()).is_none()
    }

    /// Or was, until it was set aside: such a file has no indexes.
    fn is_live(&self) -> bool {
        matches!(self.source(), Source::File(path) if files::is_live(path) || files::is_set_aside(path))
    }

    fn indexed(&self) -> Option<RecordingSummary> {
        let summary = indexes(self.source())?;
        let (end, ticks) = last_end(self.source(), &summary).ok()??;
        let count = |topic| {
            let counts = &summary.stats.as_ref()?.channel_message_counts;
            Some(channel(&summary, topic).and_then(|channel| counts.get(&channel).copied()).unwrap_or(0))
        };
        let ticks = match ticks {
            Some(ticks) => ticks,
            None => count(Topic::TickResult)?,
        };
        let recovered = recovered(self.source(), &summary).ok()?;
        let (keyframes, state) = (count(Topic::Keyframe)?, self.state_of(ticks, Some(&end)));
        Some(self.summary_of(ticks, keyframes, state, recovered, 0))
    }

    fn scanned(&self) -> RecordingSummary {
        let in_use = matches!(self.source(), Source::File(path) if files::is_in_use(path));
        let Scan { ticks, keyframes, end, broken, recovered, passed_over } = scan(self);
        let set_aside = match self.source() {
            Source::File(path) if files::is_set_aside(path) => fs::read_to_string(files::reason_path(path)).ok(),
            _ => None,
        };
        let state = match broken {
            _ if let Some(reason) = set_aside => RecordingState::SetAside(reason.trim_end().to_owned()),
            // Its last record may be half written.
            _ if in_use && end.is_none() => RecordingState::Live,
            // So it is where the server was killed while it wrote.
            Some(RecordingError::Truncated { .. }) if self.is_live() => RecordingState::Unfinished,
            Some(error) => RecordingState::Damaged(error.to_string()),
            None => self.state_of(ticks, end.as_ref()),
        };
        self.summary_of(ticks, keyframes, state, recovered, passed_over)
    }

    fn summary_of(
        &self,
        ticks: u64,
        keyframes: u64,
        state: RecordingState,
        recovered: Vec<Recovered>,
        passed_over: u64,
    ) -> RecordingSummary {
        let length = self.meta().tick_rate.duration_of(ticks);
        RecordingSummary { meta: self.meta().clone(), ticks, length, keyframes, state, recovered, passed_over }
    }

    fn state_of(&self, ticks: u64, end: Option<&End>) -> RecordingState {
        let Some(End { reason, tick, ticks_missing }) = end else { return RecordingState::Unfinished };
        // A tick that panicked, or was cut short, is not whole, and not missing.
        let cut_short = u64::from(matches!(reason, EndReason::Failed { .. } | EndReason::Killed));
        let here = self.origin_tick().0.saturating_add(ticks).saturating_add(cut_short);
        let ticks_missing = tick.0.saturating_sub(here).max(*ticks_missing);
        match reason {
            EndReason::Stopped { problem } => {
                RecordingState::Incomplete { ticks_missing, problem: Some(problem.clone()) }
            }
            reason if ticks_missing == 0 => RecordingState::Complete(reason.clone()),
            _ => RecordingState::Incomplete { ticks_missing, problem: None },
        }
    }
}

/// What reading all of a recording tells.
pub(crate) struct Scan {
    /// Whole ones.
    pub(crate) ticks: u64,
    pub(crate) keyframes: u64,
    pub(crate) end: Option<End>,
    pub(crate) broken: Option<RecordingError>,
    pub(crate) recovered: Vec<Recovered>,
    pub(crate) passed_over: u64,
}

pub(crate) fn scan(recording: &Recording) -> Scan {
    let mut scan = Scan { ticks: 0, keyframes: 0, end: None, broken: None, recovered: Vec::new(), passed_over: 0 };
    let mut ticks = match recording.ticks() {
        Ok(ticks) => ticks,
        Err(error) => return Scan { broken: Some(error), ..scan },
    };
    for tick in ticks.by_ref() {
        match tick {
            Ok(tick) => scan.ticks += u64::from(tick.result.is_some()),
            Err(error) => scan.broken = Some(error),
        }
    }
    let (end, recovered) = (ticks.end().cloned(), ticks.recovered().to_vec());
    Scan { keyframes: ticks.keyframes(), end, recovered, passed_over: ticks.passed_over(), ..scan }
}

/// The summary at the end of a finished file; `None` where it is missing or damaged.
pub(crate) fn indexes(source: &Source) -> Option<Summary> {
    match source {
        Source::File(path) => read_summary(File::open(path).ok()?).ok()?,
        Source::Bytes(bytes) => read_summary(Cursor::new(bytes)).ok()?,
    }
}

fn read_summary(mut file: impl Read + Seek) -> McapResult<Option<Summary>> {
    let size = file.seek(SeekFrom::End(0))?;
    let mut reader = SummaryReader::new_with_options(format::summary_options().with_file_size(size));
    // The reader starts where the file does.
    file.rewind()?;
    while let Some(event) = reader.next_event() {
        match event? {
            SummaryReadEvent::ReadRequest(bytes) => {
                let read = file.read(reader.insert(bytes))?;
                reader.notify_read(read);
            }
            SummaryReadEvent::SeekRequest(to) => reader.notify_seeked(file.seek(to)?),
        }
    }
    Ok(reader.finish())
}

/// The topics of a file's channels.
pub(crate) fn topics(summary: &Summary) -> BTreeMap<u16, Topic> {
    summary.channels.iter().filter_map(|(&id, channel)| Some((id, Topic::of(channel)?))).collect()
}

/// Whether it is a live file: one record after the other, without chunks.
pub(crate) fn is_live(recording: &Recording) -> bool {
    recording.is_live()
}

pub(crate) fn channel(summary: &Summary, topic: Topic) -> Option<u16> {
    summary.channels.iter().find(|(_, channel)| Topic::of(channel) == Some(topic)).map(|(&id, _)| id)
}

/// The end record, which is in the last chunk, and how many ticks it says that there are.
pub(crate) fn last_end(source: &Source, summary: &Summary) -> io::Result<Option<(End, Option<u64>)>> {
    let Some(channel) = channel(summary, Topic::End) else { return Ok(None) };
    let Some(offset) = summary.chunk_indexes.iter().map(|chunk| chunk.chunk_start_offset).max() else {
        return Ok(None);
    };
    let found = first_messages(source, offset, channel, Some(1))?;
    found.first().map(|data| End::decode(data).map_err(io::Error::other)).transpose()
}

/// The recoveries, by the chunks that have some.
fn recovered(source: &Source, summary: &Summary) -> io::Result<Vec<Recovered>> {
    let mut recovered = Vec::new();
    let Some(channel) = channel(summary, Topic::Recovered) else { return Ok(recovered) };
    let has_some = |chunk: &&ChunkIndex| chunk.message_index_offsets.contains_key(&channel);
    for chunk in summary.chunk_indexes.iter().filter(has_some) {
        for data in first_messages(source, chunk.chunk_start_offset, channel, None)? {
            recovered.push(Recovered::decode(&data).map_err(io::Error::other)?);
        }
    }
    Ok(recovered)
}

/// The messages of a channel in the chunk at `offset`, or so many of them.
pub(crate) fn first_messages(
    source: &Source,
    offset: u64,
    channel: u16,
    count: Option<usize>,
) -> io::Result<Vec<Vec<u8>>> {
    match source {
        Source::File(path) => messages_in_chunk(File::open(path)?, offset, channel, count),
        Source::Bytes(bytes) => messages_in_chunk(Cursor::new(bytes), offset, channel, count),
    }
}

fn messages_in_chunk(
    mut file: impl Read + Seek,
    offset: u64,
    channel: u16,
    count: Option<usize>,
) -> io::Result<Vec<Vec<u8>>> {
    file.seek(SeekFrom::Start(offset))?;
    let options = format::read_options().with_skip_start_magic(true).with_validate_data_section_crc(false);
    let mut reader = LinearReader::new_with_options(options);
    let mut found = Vec::new();
    while let Some(event) = reader.next_event() {
        match event.map_err(io::Error::other)? {
            LinearReadEvent::ReadRequest(bytes) => {
                let read = file.read(reader.insert(bytes))?;
                reader.notify_read(read);
            }
            // The chunk is over.
            LinearReadEvent::Record { opcode: op::MESSAGE_INDEX | op::DATA_END, .. } => break,
            LinearReadEvent::Record { opcode, data } => {
                let record = mcap::parse_record(opcode, data).map_err(io::Error::other)?;
                if let Record::Message { header, data } = record
                    && header.channel_id == channel
                {
                    found.push(data.into_owned());
                    if count == Some(found.len()) {
                        break;
                    }
                }
            }
        }
    }
    Ok(found)
}
