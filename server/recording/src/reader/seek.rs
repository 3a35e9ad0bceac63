//! Finding keyframes, newest first: by the indexes of a finished recording, else by looking through all of it.

use std::collections::BTreeMap;

use mcap::McapError;
use tickwire_shared::Tick;

use super::{Recording, Records, Source, Ticks, messages::Messages};
use crate::{
    RecordedKeyframe,
    batch::BatchSpan,
    format::Topic,
    list,
    record::{self, IdleTicks},
};

/// The keyframes of a recording, newest first, each with the ticks that follow it. What is damaged is passed over.
pub(crate) struct Keyframes<'a> {
    recording: &'a Recording,
    until: Tick,
    topics: BTreeMap<u16, Topic>,
    /// Those that are left, the newest last.
    spots: Vec<Spot>,
}

enum Spot {
    /// A chunk with keyframes, and the time of its last message.
    Chunk { place: u64, end_time: u64 },
    /// A keyframe, in a chunk or by itself.
    Keyframe { place: u64, tick: Tick },
}

impl Recording {
    /// The keyframes up to a tick.
    pub(crate) fn keyframes_until(&self, until: Tick) -> Keyframes<'_> {
        let mut keyframes = Keyframes { recording: self, until, topics: BTreeMap::new(), spots: Vec::new() };
        if let Some(summary) = list::indexes(self.source()) {
            keyframes.topics = list::topics(&summary);
            let last_time = self.meta().tick_rate.duration_of(until.0).as_nanos();
            let channel = keyframes.topics.iter().find(|(_, topic)| **topic == Topic::Keyframe).map(|(id, _)| *id);
            let has_any = |chunk: &&mcap::records::ChunkIndex| {
                channel.is_some_and(|channel| chunk.message_index_offsets.contains_key(&channel))
                    && u128::from(chunk.message_start_time) <= last_time
            };
            let spot = |chunk: &mcap::records::ChunkIndex| Spot::Chunk {
                place: chunk.chunk_start_offset,
                end_time: chunk.message_end_time,
            };
            keyframes.spots = summary.chunk_indexes.iter().filter(has_any).map(spot).collect();
            keyframes.spots.sort_by_key(Spot::place);
        } else {
            keyframes.look_through();
        }
        keyframes
    }
}

impl Spot {
    fn place(&self) -> u64 {
        match self {
            Self::Chunk { place, .. } | Self::Keyframe { place, .. } => *place,
        }
    }
}

impl Keyframes<'_> {
    /// A file without indexes: as far as it can be read.
    fn look_through(&mut self) {
        let Ok(file) = self.recording.source().open() else { return };
        let mut messages = Messages::of(file);
        // In a finished file whose indexes are lost there are chunks, whose places nobody has told.
        let is_live = list::is_live(self.recording);
        while let Ok(Some(message)) = messages.next() {
            if message.topic == Topic::Keyframe
                && let Ok(keyframe) = RecordedKeyframe::decode(&message.data)
                && keyframe.tick <= self.until
            {
                let place = if is_live { message.place } else { 0 };
                self.spots.push(Spot::Keyframe { place, tick: keyframe.tick });
            }
        }
        self.topics = messages.topics().clone();
    }

    /// The ticks of the keyframes in a chunk.
    fn in_chunk(&self, place: u64, end_time: u64) -> Result<Vec<Tick>, McapError> {
        let mut ticks = Vec::new();
        let mut messages = self.messages(place)?;
        while let Some(message) = messages.next()? {
            if message.time > end_time {
                break;
            }
            if message.topic == Topic::Keyframe
                && let Ok(keyframe) = RecordedKeyframe::decode(&message.data)
                && keyframe.tick <= self.until
            {
                ticks.push(keyframe.tick);
            }
        }
        Ok(ticks)
    }

    fn messages(&self, place: u64) -> Result<Messages, McapError> {
        let file = self.recording.source().open()?;
        if place == 0 { Ok(Messages::of(file)) } else { Messages::from(file, place, self.topics.clone()) }
    }

    /// The keyframe of a tick, and what follows it.
    fn open(&self, place: u64, tick: Tick) -> Result<Option<(RecordedKeyframe, Ticks)>, McapError> {
        let mut messages = self.messages(place)?;
        // What the tick before it came to, where that is in the same chunk.
        let mut came_to = None;
        while let Some(message) = messages.next()? {
            match message.topic {
                Topic::Keyframe => {
                    let keyframe =
                        RecordedKeyframe::decode(&message.data).ok().filter(|keyframe| keyframe.tick == tick);
                    let Some(keyframe) = keyframe else { continue };
                    if came_to.is_some_and(|hash| hash != keyframe.state_hash) {
                        return Ok(None);
                    }
                    let records = Records::following(self.recording.source(), messages, tick);
                    return Ok(Some((keyframe, Ticks::of(records, self.recording.meta()))));
                }
                Topic::TickResult => {
                    let result = record::decode_result(&self.recording.meta().schema, &message.data);
                    came_to = result.ok().filter(|result| result.tick == tick).map(|result| result.state_hash);
                }
                Topic::IdleTicks => {
                    let idle = IdleTicks::decode(&message.data).ok().filter(|idle| idle.last == tick);
                    came_to = idle.map(|idle| idle.state_hash);
                }
                Topic::TickBatch => {
                    let span = BatchSpan::decode(&message.data).ok().filter(|span| span.last == tick);
                    came_to = span.map(|span| span.state_hash);
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

impl Iterator for Keyframes<'_> {
    type Item = (RecordedKeyframe, Ticks);

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(spot) = self.spots.pop() {
            let passed = match spot {
                Spot::Chunk { place, end_time } => self.in_chunk(place, end_time).map(|ticks| {
                    self.spots.extend(ticks.into_iter().map(|tick| Spot::Keyframe { place, tick }));
                }),
                Spot::Keyframe { place, tick } => match self.open(place, tick) {
                    Ok(Some(found)) => return Some(found),
                    Ok(None) => Ok(()),
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = passed {
                tracing::warn!("a keyframe cannot be read, and is passed over: {error}");
            }
        }
        None
    }
}

impl Source {
    fn open(&self) -> std::io::Result<Box<dyn super::messages::File>> {
        Ok(match self {
            Self::File(path) => Box::new(std::io::BufReader::with_capacity(1 << 16, std::fs::File::open(path)?)),
            Self::Bytes(bytes) => Box::new(std::io::Cursor::new(std::sync::Arc::clone(bytes))),
        })
    }
}
