//! Reading recordings of either form, whole or broken.

mod channels;
mod messages;
mod records;
mod seek;

use std::{
    fs::{self, File},
    io::{BufReader, Cursor, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use tickwire_shared::{Schema, Tick};
use tickwire_simulation::TickInput;

pub(crate) use self::records::{Record, Records, Sound};
use crate::{
    End, RecordedResult, RecordingError, RecordingMeta, Recovered,
    batch::{self, BatchSpan, WholeTick},
    format::Topic,
    record::{self, IdleTicks},
};

/// A recording, of which the header has been read.
#[derive(Clone, Debug)]
pub struct Recording {
    source: Source,
    meta: RecordingMeta,
}

/// One tick of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedTick {
    /// What the tick consumed.
    pub input: TickInput,
    /// What came out of it. Only the last tick of a recording may have none: the session, or the server, failed in it.
    pub result: Option<RecordedResult>,
}

#[derive(Clone, Debug)]
pub(crate) enum Source {
    File(PathBuf),
    Bytes(Arc<[u8]>),
}

impl Source {
    /// Its bytes from the first on, and what they are called.
    fn read(&self) -> Result<(PathBuf, Box<dyn Read + Send>), RecordingError> {
        Ok(match self {
            Self::Bytes(bytes) => (PathBuf::from("memory"), Box::new(Cursor::new(Arc::clone(bytes)))),
            Self::File(path) => {
                let at = |source| RecordingError::Io { path: path.clone(), source };
                // A recording is read from its start again and again; and to open a pipe would wait for whoever writes it.
                let metadata = fs::metadata(path).map_err(at)?;
                if !metadata.is_file() && !metadata.is_dir() {
                    return Err(RecordingError::ReadOnce);
                }
                let file = File::open(path).map_err(at)?;
                (path.clone(), Box::new(BufReader::with_capacity(1 << 16, file)))
            }
        })
    }
}

impl Recording {
    /// Opens a recording by its path, finished or live.
    ///
    /// # Errors
    /// Where the file cannot be read, does not start as a recording does, or can be read only once, as a pipe.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, RecordingError> {
        Self::read(Source::File(path.as_ref().to_owned()))
    }

    /// A recording that is in memory.
    ///
    /// # Errors
    /// Where the bytes do not start as a recording does.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Result<Self, RecordingError> {
        Self::read(Source::Bytes(bytes.into()))
    }

    fn read(source: Source) -> Result<Self, RecordingError> {
        let meta = match Records::of(&source)?.next().transpose()? {
            Some(Record { topic: Topic::Header, data, .. }) => RecordingMeta::decode(&data)?,
            Some(Record { topic, .. }) => {
                return Err(RecordingError::NotARecording(format!("it starts with a {} record", topic.name())));
            }
            None => return Err(RecordingError::NotARecording("it has no records".to_owned())),
        };
        Ok(Self { source, meta })
    }

    /// Whether a file's bytes are sound, and end before any record of a recording.
    pub(crate) fn has_no_records(bytes: &[u8]) -> bool {
        Records::of(&Source::Bytes(bytes.into())).is_ok_and(|mut records| records.next().is_none())
    }

    /// What the session was created with.
    #[must_use]
    pub fn meta(&self) -> &RecordingMeta {
        &self.meta
    }

    /// Reads the ticks from the first.
    ///
    /// # Errors
    /// Where the file cannot be opened any more.
    pub fn ticks(&self) -> Result<Ticks, RecordingError> {
        Ok(Ticks::of(self.records()?, &self.meta))
    }

    /// The tick that its first one follows: 0, or that of the keyframe that a later segment begins with.
    pub(crate) fn origin_tick(&self) -> Tick {
        self.meta.segment.origin()
    }

    pub(crate) fn records(&self) -> Result<Records, RecordingError> {
        Records::of(&self.source)
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }
}

/// The ticks of a recording, one by one, in order from its [first](crate::Segment::first_tick), without a gap. An error is the
/// last item.
pub struct Ticks {
    records: Records,
    schema: Arc<Schema>,
    /// The input of a tick whose result has not come yet.
    begun: Option<TickInput>,
    /// Ticks that stand in one record, and the next one of them.
    idle: Option<(IdleTicks, Tick)>,
    /// What is left of the newest batch.
    batch: std::vec::IntoIter<WholeTick>,
    recovered: Vec<Recovered>,
    end: Option<End>,
    keyframes: u64,
    done: bool,
    /// What comes after the last tick.
    broken: Option<RecordingError>,
}

impl std::fmt::Debug for Ticks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticks").field("begun", &self.begun).field("end", &self.end).finish_non_exhaustive()
    }
}

impl Ticks {
    fn of(records: Records, meta: &RecordingMeta) -> Self {
        let schema = Arc::clone(&meta.schema);
        Self {
            records,
            schema,
            begun: None,
            idle: None,
            batch: Vec::new().into_iter(),
            recovered: Vec::new(),
            end: None,
            keyframes: 0,
            done: false,
            broken: None,
        }
    }

    /// How many keyframes stand among the ticks that have been read.
    #[must_use]
    pub fn keyframes(&self) -> u64 {
        self.keyframes
    }

    /// How the recording ended, once all ticks are read; `None` where it just stops.
    #[must_use]
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Where servers were killed and others went on: all before the newest tick, and at the end those after it.
    #[must_use]
    pub fn recovered(&self) -> &[Recovered] {
        &self.recovered
    }

    /// How many damaged records have been passed over.
    pub(crate) fn passed_over(&self) -> u64 {
        self.records.passed_over
    }

    /// Where the newest record ends that has been read, in a file without chunks.
    pub(crate) fn sound_bytes(&self) -> u64 {
        self.records.sound_bytes()
    }

    /// Reads up to the next whole tick. `Ok(None)` where the records end.
    fn read(&mut self) -> Result<Option<RecordedTick>, RecordingError> {
        if let Some((idle, tick)) = self.idle.take() {
            return Ok(Some(self.idle_tick(idle, tick)));
        }
        if let Some((input, result)) = self.batch.next() {
            return Ok(Some(RecordedTick { input, result: Some(result) }));
        }
        while let Some(record) = self.records.next().transpose()? {
            let damaged = self.records.damaged();
            let Record { topic, tick, data } = record;
            let wrong_tick = |found: Tick| damaged(format!("a {} of tick {found} instead of {tick}", topic.name()));
            match topic {
                // Whoever starts at a keyframe has found it before.
                Topic::Header | Topic::SeatToken | Topic::Chat => {}
                Topic::Keyframe => self.keyframes += 1,
                Topic::TickInput => {
                    let input = record::decode_input(&data).map_err(&damaged)?;
                    if input.tick != tick {
                        return Err(wrong_tick(input.tick));
                    }
                    self.begun = Some(input);
                }
                Topic::TickResult => {
                    let result = record::decode_result(&self.schema, &data).map_err(&damaged)?;
                    if result.tick != tick {
                        return Err(wrong_tick(result.tick));
                    }
                    let input = self.begun.take().expect("a result follows its input: the records' order is checked");
                    return Ok(Some(RecordedTick { input, result: Some(result) }));
                }
                Topic::IdleTicks => {
                    let idle = IdleTicks::decode(&data).map_err(damaged)?;
                    return Ok(Some(self.idle_tick(idle, idle.first)));
                }
                Topic::TickBatch => {
                    let ticks = batch::decode(&self.schema, &data).map_err(|reason| {
                        let first = BatchSpan::decode(&data).map_or(tick, |span| span.first);
                        RecordingError::Damaged { after: Tick(first.0.saturating_sub(1)), reason }
                    })?;
                    self.batch = ticks.into_iter();
                    let (input, result) = self.batch.next().expect("a batch has at least one tick");
                    return Ok(Some(RecordedTick { input, result: Some(result) }));
                }
                Topic::Recovered => self.recovered.push(Recovered::decode(&data).map_err(damaged)?),
                Topic::End => self.end = Some(End::decode(&data).map_err(damaged)?.0),
            }
        }
        Ok(None)
    }

    fn idle_tick(&mut self, idle: IdleTicks, tick: Tick) -> RecordedTick {
        self.idle = (tick < idle.last).then_some((idle, tick.next()));
        let (input, result) = idle.tick(tick);
        RecordedTick { input, result: Some(result) }
    }
}

impl Iterator for Ticks {
    type Item = Result<RecordedTick, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        if !self.done {
            match self.read() {
                Ok(Some(tick)) => return Some(Ok(tick)),
                Ok(None) => {}
                Err(error) => self.broken = Some(error),
            }
            self.done = true;
            // A tick that was begun is readable, whatever became of its result.
            if let Some(input) = self.begun.take() {
                return Some(Ok(RecordedTick { input, result: None }));
            }
        }
        self.broken.take().map(Err)
    }
}
