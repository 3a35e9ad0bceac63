//! Reading recordings of either form, whole or broken.

mod messages;
mod seek;

use std::{
    fs::{self, File},
    io::{self, BufReader, Cursor, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use mcap::{
    McapError,
    sans_io::{LinearReadEvent, LinearReader},
};
use prost::Message as _;
use tickwire_proto::v1 as pb;
use tickwire_shared::{Schema, Tick, TickRate};
use tickwire_simulation::TickInput;

use self::messages::Messages;
use crate::{
    End, RecordedKeyframe, RecordedResult, RecordingError, RecordingMeta, Recovered,
    batch::{self, BatchSpan, WholeTick},
    format::{self, Topic},
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
                if !is_file_or_directory(&fs::metadata(path).map_err(at)?) {
                    return Err(RecordingError::ReadOnce);
                }
                let file = File::open(path).map_err(at)?;
                (path.clone(), Box::new(BufReader::with_capacity(1 << 16, file)))
            }
        })
    }
}

fn is_file_or_directory(metadata: &fs::Metadata) -> bool {
    metadata.is_file() || metadata.is_dir()
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

    /// The channels that stand in the first `bytes` of a file without chunks.
    pub(crate) fn channels_within(&self, bytes: u64) -> Result<FileChannels, RecordingError> {
        let (path, read) = self.source.read()?;
        let mut messages = mcap::io::MessageReader::new_with_options(read.take(bytes), format::read_options());
        loop {
            match messages.next() {
                None => return Ok(channels(&messages)),
                Some(Ok(_)) => {}
                Some(Err(McapError::Io(source))) => return Err(RecordingError::Io { path, source }),
                Some(Err(error)) => return Err(RecordingError::NotARecording(error.to_string())),
            }
        }
    }

    /// The schemas that stand in the first `bytes` of a file without chunks, with those that no channel there has.
    pub(crate) fn schemas_within(&self, bytes: u64) -> Result<Vec<FileSchema>, RecordingError> {
        let (path, read) = self.source.read()?;
        let io = |source| RecordingError::Io { path: path.clone(), source };
        let not_ours = |error: McapError| RecordingError::NotARecording(error.to_string());
        let mut read = read.take(bytes);
        let mut records = LinearReader::new_with_options(format::read_options());
        let mut schemas = Vec::new();
        while let Some(event) = records.next_event() {
            match event.map_err(not_ours)? {
                LinearReadEvent::ReadRequest(wanted) => {
                    // Nothing read would say that the file ends.
                    match read.read(records.insert(wanted)) {
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        got => records.notify_read(got.map_err(io)?),
                    }
                }
                LinearReadEvent::Record { data, opcode: mcap::records::op::SCHEMA } => {
                    let record = mcap::parse_record(mcap::records::op::SCHEMA, data).map_err(not_ours)?;
                    if let mcap::records::Record::Schema { header, data } = record.into_owned() {
                        let mcap::records::SchemaHeader { id, name, encoding } = header;
                        schemas.push(FileSchema { id, name, encoding, data });
                    }
                }
                LinearReadEvent::Record { .. } => {}
            }
        }
        Ok(schemas)
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

/// A record as it stands in the file; that of a tick has the right checksum.
pub(crate) struct Record {
    pub(crate) topic: Topic,
    /// The tick that it belongs to by its place in the file: 0 for the header, the last one for the end and of several.
    pub(crate) tick: Tick,
    pub(crate) data: Vec<u8>,
}

/// The records of a file, in their only order: a header, inputs and results by turns or several ticks in one, keyframes and
/// recoveries between ticks, an end; and tokens of seats and what was said anywhere. After an error there are none.
pub(crate) struct Records {
    path: PathBuf,
    messages: From,
    /// How many bytes the reader has taken: it takes no more of a file without chunks than what it has come to.
    taken: Arc<AtomicU64>,
    /// Where the newest record ends that has been read, in a file without chunks that is read from its start.
    sound_bytes: u64,
    /// Damaged records on which no tick depends.
    passed_over: u64,
    failed: bool,
    /// In the header.
    version: u32,
    before: Option<Topic>,
    /// The newest tick begun.
    begun: Tick,
    /// The newest tick whose result has been read: where damage is said to be.
    whole: Tick,
    epoch: u32,
}

/// How far a file without chunks is sound: all that it takes to append to it.
#[derive(Clone, Debug)]
pub(crate) struct Sound {
    /// Up to the end of a record.
    pub(crate) bytes: u64,
    /// The newest tick whose input is there.
    pub(crate) begun: Tick,
    /// The newest tick whose result is there.
    pub(crate) whole: Tick,
    /// The epoch of that tick.
    pub(crate) epoch: u32,
    pub(crate) rate: TickRate,
    /// What the first tick that there can be follows.
    pub(crate) origin: Tick,
    pub(crate) channels: FileChannels,
    /// Those in the file, where a channel that this build writes is not: what is appended takes none of their numbers.
    pub(crate) schemas: Vec<FileSchema>,
}

/// The channels of a file, as they stand in it.
pub(crate) type FileChannels = Vec<Arc<mcap::Channel<'static>>>;

/// A schema of a file, as it stands in it.
pub(crate) type FileSchema = mcap::Schema<'static>;

/// Those that have been read so far.
fn channels<R: Read>(messages: &mcap::io::MessageReader<R>) -> FileChannels {
    (0..=u16::MAX).filter_map(|id| messages.get_channel(id)).collect()
}

/// Counts what is read.
struct Counting<R>(R, Arc<AtomicU64>);

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        self.1.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Where reading has begun.
enum From {
    Start(mcap::io::MessageReader<Counting<Box<dyn Read + Send>>>),
    Midst(Messages),
}

impl From {
    /// The next message on a topic of ours.
    fn next(&mut self) -> Option<Result<(Topic, Vec<u8>), McapError>> {
        match self {
            Self::Midst(messages) => Some(messages.next().transpose()?.map(|message| (message.topic, message.data))),
            Self::Start(messages) => loop {
                match messages.next()? {
                    Err(error) => return Some(Err(error)),
                    Ok(message) => {
                        if let Some(topic) = Topic::of(&message.channel) {
                            return Some(Ok((topic, message.data.into_owned())));
                        }
                    }
                }
            },
        }
    }
}

impl Records {
    /// What follows a keyframe of `tick`.
    fn following(source: &Source, messages: Messages, tick: Tick) -> Self {
        let path = match source {
            Source::Bytes(_) => PathBuf::from("memory"),
            Source::File(path) => path.clone(),
        };
        let (messages, before) = (From::Midst(messages), Some(Topic::Keyframe));
        Self {
            path,
            messages,
            taken: Arc::default(),
            sound_bytes: 0,
            passed_over: 0,
            failed: false,
            version: format::FORMAT_VERSION,
            before,
            begun: tick,
            whole: tick,
            // Lower than any that follows.
            epoch: 0,
        }
    }

    fn of(source: &Source) -> Result<Self, RecordingError> {
        let (path, read) = source.read()?;
        let taken = Arc::<AtomicU64>::default();
        let read = Counting(read, Arc::clone(&taken));
        let messages = From::Start(mcap::io::MessageReader::new_with_options(read, format::read_options()));
        Ok(Self {
            path,
            messages,
            taken,
            sound_bytes: 0,
            passed_over: 0,
            failed: false,
            version: 0,
            before: None,
            begun: Tick::ZERO,
            whole: Tick::ZERO,
            epoch: 0,
        })
    }

    /// What has been read of a file without chunks, from its start.
    pub(crate) fn sound(&self, meta: &RecordingMeta) -> Sound {
        let channels = match &self.messages {
            From::Start(messages) => channels(messages),
            From::Midst(_) => Vec::new(),
        };
        let (rate, origin) = (meta.tick_rate, meta.segment.origin());
        Sound {
            bytes: self.sound_bytes,
            begun: self.begun,
            whole: self.whole,
            epoch: self.epoch,
            rate,
            origin,
            channels,
            schemas: Vec::new(),
        }
    }

    /// Where the newest record ends that has been read, of a file without chunks that is read from its start.
    pub(crate) fn sound_bytes(&self) -> u64 {
        self.sound_bytes
    }

    fn take(&mut self, topic: Topic, data: Vec<u8>) -> Result<Record, RecordingError> {
        let follows = match topic {
            Topic::Header => self.before.is_none(),
            Topic::TickInput | Topic::IdleTicks | Topic::TickBatch | Topic::Recovered => {
                use Topic::{Header, IdleTicks, Keyframe, Recovered, TickBatch, TickResult};
                matches!(self.before, Some(Header | TickResult | IdleTicks | TickBatch | Recovered | Keyframe))
            }
            // Of a session's segments all but the first begin with one.
            Topic::Keyframe if self.before == Some(Topic::Header) => self.whole > Tick::ZERO,
            Topic::Keyframe => {
                use Topic::{IdleTicks, Keyframe, TickBatch, TickResult};
                matches!(self.before, Some(TickResult | IdleTicks | TickBatch | Keyframe))
            }
            Topic::TickResult => self.before == Some(Topic::TickInput),
            Topic::End | Topic::SeatToken | Topic::Chat => !matches!(self.before, None | Some(Topic::End)),
        };
        if !follows {
            let before = self.before.map_or("nothing", Topic::name);
            return Err(self.damaged()(format!("a {} follows {before}", topic.name())));
        }
        match topic {
            Topic::Header => {
                let header = pb::RecordingHeader::decode(data.as_slice());
                let header = header.map_err(|error| RecordingError::Header(error.to_string()))?;
                (self.version, self.epoch) = (header.format_version, header.epoch);
                let origin = Tick(header.first_tick.saturating_sub(1));
                (self.begun, self.whole) = (origin, origin);
            }
            // The first version had no checksum there.
            Topic::End if self.version < 2 => {}
            Topic::End => record::check(&data).map_err(self.damaged())?,
            // Between any two others: what may follow stays what it was.
            Topic::SeatToken | Topic::Chat => {
                record::check(&data).map_err(self.damaged())?;
                return Ok(Record { topic, tick: self.begun, data });
            }
            Topic::IdleTicks => {
                let idle = IdleTicks::decode(&data).map_err(self.damaged())?;
                if idle.first != self.begun.next() {
                    return Err(self.damaged()(format!(
                        "idle ticks from {} instead of {}",
                        idle.first,
                        self.begun.next()
                    )));
                }
                (self.begun, self.whole) = (idle.last, idle.last);
            }
            Topic::TickBatch => {
                let span = BatchSpan::decode(&data).map_err(self.damaged())?;
                if span.first != self.begun.next() {
                    return Err(self.damaged()(format!(
                        "a batch of ticks from {} instead of {}",
                        span.first,
                        self.begun.next()
                    )));
                }
                (self.begun, self.whole) = (span.last, span.last);
            }
            Topic::Recovered => {
                let Recovered { tick, epoch, .. } = Recovered::decode(&data).map_err(self.damaged())?;
                if tick != self.whole {
                    return Err(self.damaged()(format!("a recovery of tick {tick} instead of {}", self.whole)));
                }
                if epoch <= self.epoch {
                    return Err(self.damaged()(format!("epoch {epoch} after {}", self.epoch)));
                }
                self.epoch = epoch;
            }
            Topic::TickInput => {
                record::check(&data).map_err(self.damaged())?;
                self.begun = self.begun.next();
            }
            Topic::TickResult => {
                record::check(&data).map_err(self.damaged())?;
                self.whole = self.begun;
            }
            Topic::Keyframe => {
                let keyframe = RecordedKeyframe::decode(&data).map_err(self.damaged())?;
                if keyframe.tick != self.whole {
                    return Err(self.damaged()(format!("a keyframe of tick {}", keyframe.tick)));
                }
            }
        }
        self.before = Some(topic);
        Ok(Record { topic, tick: self.begun, data })
    }

    /// Makes an error of what is wrong here.
    fn damaged(&self) -> impl Fn(String) -> RecordingError + use<> {
        let after = self.whole;
        move |reason| RecordingError::Damaged { after, reason }
    }

    fn error(&self, error: McapError) -> RecordingError {
        match error {
            McapError::Io(source) => RecordingError::Io { path: self.path.clone(), source },
            McapError::UnexpectedEof => RecordingError::Truncated { after: self.whole },
            McapError::BadMagic => RecordingError::NotARecording("it is not an MCAP file".to_owned()),
            error => self.damaged()(error.to_string()),
        }
    }
}

impl Iterator for Records {
    type Item = Result<Record, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            let record = match self.messages.next()? {
                Err(error) => Err(self.error(error)),
                // All ticks are there without it. One that a segment begins with is missed where that is to be played.
                Ok((topic @ (Topic::Keyframe | Topic::Chat), data)) if record::check(&data).is_err() => {
                    tracing::warn!(after = %self.whole, "a {} record is damaged, and passed over", topic.name());
                    self.passed_over += 1;
                    continue;
                }
                Ok((topic, data)) => self.take(topic, data),
            };
            self.failed = record.is_err();
            if !self.failed {
                self.sound_bytes = self.taken.load(Ordering::Relaxed);
            }
            return Some(record);
        }
        None
    }
}
