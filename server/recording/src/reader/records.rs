//! The records of a file, one after the other, and whether they follow each other as they must.

use std::{
    io::{self, Read},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use mcap::McapError;
use prost::Message as _;
use tickwire_proto::v1 as pb;
use tickwire_shared::{Tick, TickRate};

use super::{
    Source,
    channels::{self, Channels},
    messages::Messages,
};
use crate::{
    RecordedKeyframe, RecordingError, RecordingMeta, Recovered,
    batch::BatchSpan,
    format::{self, Topic},
    record::{self, IdleTicks},
};

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
    pub(super) passed_over: u64,
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
    pub(crate) channels: Channels,
    /// Those in the file, where a channel that this build writes is not: what is appended takes none of their numbers.
    pub(crate) schemas: Vec<mcap::Schema<'static>>,
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
    pub(super) fn following(source: &Source, messages: Messages, tick: Tick) -> Self {
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

    pub(super) fn of(source: &Source) -> Result<Self, RecordingError> {
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
            From::Start(messages) => channels::of(messages),
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
                let IdleTicks { first, last, .. } = IdleTicks::decode(&data).map_err(self.damaged())?;
                self.take_ticks("idle ticks", first, last)?;
            }
            Topic::TickBatch => {
                let BatchSpan { first, last, .. } = BatchSpan::decode(&data).map_err(self.damaged())?;
                self.take_ticks("a batch of ticks", first, last)?;
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

    /// Takes whole ticks that stand in one record.
    fn take_ticks(&mut self, what: &str, first: Tick, last: Tick) -> Result<(), RecordingError> {
        let next = self.begun.next();
        if first != next {
            return Err(self.damaged()(format!("{what} from {first} instead of {next}")));
        }
        (self.begun, self.whole) = (last, last);
        Ok(())
    }

    /// Makes an error of what is wrong here.
    pub(super) fn damaged(&self) -> impl Fn(String) -> RecordingError + use<> {
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
