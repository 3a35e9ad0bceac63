//! What two files of one name have of each other: none is replaced or removed that may have something alone.

use std::path::Path;

use crate::{
    RecordedTick, Recording, RecordingError, RecordingMeta, Segment, Ticks, files, list, reader::Source,
    stillborn::is_same_session,
};

/// A finished recording, beside what another one of its name is to be made of.
#[derive(Debug)]
pub(crate) enum Overlap {
    /// It holds all that the other one does, and is whole: so many ticks.
    HasAll(u64),
    /// It holds nothing that the other one does not.
    HasNoMore,
    /// Neither is known; in words.
    Other(String),
}

impl Overlap {
    /// Reads all of both.
    ///
    /// # Errors
    /// Where the disk does not let them be read.
    pub(crate) fn of(finished: &Path, other: &Recording) -> Result<Self, RecordingError> {
        let finished = match Recording::open(finished) {
            Ok(finished) => finished,
            Err(error @ RecordingError::Io { .. }) => return Err(error),
            Err(error) => return Ok(Self::Other(format!("it cannot be read ({error})"))),
        };
        if !is_same_file(finished.meta(), other.meta()) {
            return Ok(Self::Other("it is of another match".to_owned()));
        }
        let (mut ticks, mut others) = (finished.ticks()?, other.ticks()?);
        let (mut whole, mut has_more, mut lacks, mut damage) = (0, false, false, None);
        loop {
            let (own, its) = match (ticks.next().transpose(), others.next().transpose()) {
                (Err(error), _) => return Ok(Self::Other(format!("it is damaged ({error})"))),
                (Ok(own), Err(error)) => {
                    damage = Some(error);
                    (own, None)
                }
                (Ok(None), Ok(None)) => break,
                (Ok(own), Ok(its)) => (own, its),
            };
            whole += u64::from(own.as_ref().is_some_and(|own| own.result.is_some()));
            match (own, its) {
                (Some(own), Some(its)) if !is_same_tick(&own, &its) => {
                    return Ok(Self::Other(format!("tick {} of it is another one", own.input.tick)));
                }
                (own, its) => {
                    let results =
                        |tick: Option<RecordedTick>| tick.map_or(0, |tick| 1 + u8::from(tick.result.is_some()));
                    let (own, its) = (results(own), results(its));
                    (has_more, lacks) = (has_more || own > its, lacks || its > own);
                }
            }
        }
        let [own, its] = [&ticks, &others].map(|ticks: &Ticks| ticks.recovered().len());
        (has_more, lacks) = (has_more || own > its, lacks || its > own || !is_read(other, damage.as_ref(), &others)?);
        let is_whole = ticks.end().is_some() && list::indexes(finished.source()).is_some();
        Ok(match (lacks || !is_whole, has_more) {
            (false, _) => Self::HasAll(whole),
            (true, false) => Self::HasNoMore,
            (true, true) => Self::Other("each has something that the other one has not".to_owned()),
        })
    }
}

/// Whether there is nothing behind what has been read of a recording.
fn is_read(recording: &Recording, damage: Option<&RecordingError>, ticks: &Ticks) -> Result<bool, RecordingError> {
    match recording.source() {
        Source::File(path) => files::is_torn(path, damage, ticks.sound_bytes()).map_err(files::at(path)),
        Source::Bytes(_) => Ok(damage.is_none()),
    }
}

fn is_same_file(one: &RecordingMeta, other: &RecordingMeta) -> bool {
    let segment = |meta: &RecordingMeta| -> Segment { meta.segment.clone() };
    is_same_session(one, other)
        && (segment(one), one.seed, one.schema.hash()) == (segment(other), other.seed, other.schema.hash())
}

/// Whether they are the same as far as both go: the last one may have no result.
fn is_same_tick(one: &RecordedTick, other: &RecordedTick) -> bool {
    one.input == other.input && (one.result == other.result || one.result.is_none() || other.result.is_none())
}
