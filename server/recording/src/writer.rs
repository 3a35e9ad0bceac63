//! Writing recordings, in either form.

use std::{
    io::{self, Seek, Write},
    sync::Arc,
};

use mcap::{McapError, records::MessageHeader};
use tickwire_shared::{Schema, Tick, TickRate};
use tickwire_simulation::TickInput;

use crate::{
    ChatRecord, End, RECORD_BYTES_MAX, RecordedKeyframe, RecordedResult, RecordingMeta, Recovered, SeatToken,
    batch::{Batch, WholeTick},
    format::{self, Channels, Topic},
    record::{self, IdleTicks},
};

/// The form of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// While the session runs: one record after the other, so that whatever is in the file can be read.
    Live,
    /// For keeping: batches of some ticks in compressed chunks, with indexes and a summary.
    Finished,
}

/// The time that a batch is of, and a chunk, but where something comes between ticks. Readers find their way by chunks.
const BATCH_SECONDS: u64 = 2;

/// Writes a recording to anything, on the caller's thread.
///
/// A session's own recording is the business of a [`Recorder`](crate::Recorder), which never makes the session wait.
pub struct Writer<W: Write + Seek> {
    mcap: mcap::Writer<W>,
    channels: Channels,
    layout: Layout,
    rate: TickRate,
    /// Of a finished recording.
    batches: Option<Batches>,
    /// Whole ones.
    ticks: u64,
}

/// The ticks of a finished recording on their way.
struct Batches {
    batch: Batch,
    /// A tick without its result as yet.
    begun: Option<TickInput>,
    /// The first tick of the newest chunk.
    chunk: Tick,
}

impl Batches {
    fn new(schema: &Arc<Schema>) -> Self {
        Self { batch: Batch::new(Arc::clone(schema)), begun: None, chunk: Tick::ZERO }
    }
}

impl<W: Write + Seek> std::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("layout", &self.layout).field("ticks", &self.ticks).finish_non_exhaustive()
    }
}

impl<W: Write + Seek> Writer<W> {
    /// Starts a recording with its header.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn new(to: W, meta: &RecordingMeta, layout: Layout) -> io::Result<Self> {
        let mut mcap = format::write_options(layout).create(to).map_err(io_error)?;
        let channels = format::add_missing_channels(&mut mcap, &[]).map_err(io_error)?;
        let batches = (layout == Layout::Finished).then(|| Batches::new(&meta.schema));
        let mut writer = Self { mcap, channels, layout, rate: meta.tick_rate, batches, ticks: 0 };
        writer.write(Topic::Header, Tick::ZERO, &meta.encode())?;
        if layout == Layout::Finished {
            // In a chunk of its own: it can be read whatever becomes of the first ticks.
            writer.flush()?;
        }
        Ok(writer)
    }

    /// Goes on with a live recording that has the channels `found`, and `schemas`. First, `to` gets what stands in it already,
    /// and then `seek` is called: from there on, `to` gets what is to be appended.
    pub(crate) fn resume(
        to: W,
        rate: TickRate,
        found: &[Arc<mcap::Channel<'static>>],
        schemas: &[mcap::Schema<'static>],
        seek: impl FnOnce(),
    ) -> io::Result<Self> {
        let mut mcap = format::write_options(Layout::Live).create(to).map_err(io_error)?;
        format::take_channels(&mut mcap, found, schemas).map_err(io_error)?;
        mcap.flush().map_err(io_error)?;
        seek();
        let channels = format::add_missing_channels(&mut mcap, found).map_err(io_error)?;
        Ok(Self { mcap, channels, layout: Layout::Live, rate, batches: None, ticks: 0 })
    }

    /// Appends what a tick consumes.
    ///
    /// # Errors
    /// Those of the file; and for a record of more than [`RECORD_BYTES_MAX`] bytes, after which nothing is written. Of a
    /// finished recording they may come with a later call, since ticks are collected.
    pub fn tick_input(&mut self, input: &TickInput) -> io::Result<()> {
        if self.batches.as_ref().is_some_and(|batches| batches.begun.is_some()) {
            self.write_collected()?;
        }
        match &mut self.batches {
            Some(batches) => batches.begun = Some(input.clone()),
            None => self.append(Topic::TickInput, input.tick, &record::encode_input(input))?,
        }
        Ok(())
    }

    /// Appends what came out of a tick.
    ///
    /// # Errors
    /// As [`tick_input`](Self::tick_input).
    pub fn tick_result(&mut self, result: &RecordedResult) -> io::Result<()> {
        self.ticks += 1;
        match self.batches.as_mut().and_then(|batches| batches.begun.take()) {
            Some(input) => self.collect(input, result),
            None => self.write(Topic::TickResult, result.tick, &record::encode_result(result)),
        }
    }

    /// Appends all that a session goes on from, behind its newest tick's result.
    ///
    /// # Errors
    /// Those of the file.
    pub fn keyframe(&mut self, keyframe: &RecordedKeyframe) -> io::Result<()> {
        self.write(Topic::Keyframe, keyframe.tick, &keyframe.encode())
    }

    /// Appends ticks without input, change or event.
    pub(crate) fn idle_ticks(&mut self, idle: &IdleTicks) -> io::Result<()> {
        self.write(Topic::IdleTicks, idle.first, &idle.encode())?;
        self.ticks += idle.count();
        Ok(())
    }

    /// Appends that a server was killed here, and another one goes on.
    ///
    /// # Errors
    /// Those of the file.
    pub fn recovered(&mut self, recovered: &Recovered) -> io::Result<()> {
        self.write(Topic::Recovered, recovered.tick, &recovered.encode())
    }

    /// Appends by which tokens a player comes back, from `tick` on.
    ///
    /// # Errors
    /// Those of the file.
    pub fn seat_token(&mut self, tick: Tick, token: &SeatToken) -> io::Result<()> {
        self.write(Topic::SeatToken, tick, &token.encode())
    }

    /// Appends what was said.
    ///
    /// # Errors
    /// Those of the file.
    pub fn chat(&mut self, line: &ChatRecord) -> io::Result<()> {
        self.write(Topic::Chat, line.tick, &line.encode())
    }

    /// Appends how the session ended.
    ///
    /// # Errors
    /// Those of the file.
    pub fn end(&mut self, end: &End) -> io::Result<()> {
        self.write(Topic::End, end.tick, &end.encode(self.ticks))
    }

    /// Hands everything to the file; of a finished recording, it ends the chunk.
    ///
    /// # Errors
    /// Those of the file.
    pub fn flush(&mut self) -> io::Result<()> {
        self.write_collected()?;
        self.mcap.flush().map_err(io_error)
    }

    /// Closes the file: with indexes and summary where it is a finished recording, as it is where it is a live one.
    ///
    /// # Errors
    /// Those of the file.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        if self.layout == Layout::Finished {
            self.mcap.finish().map_err(io_error)?;
        }
        Ok(self.mcap.into_inner())
    }

    /// Notes ticks that were added to a record of idle ones.
    pub(crate) fn add_ticks(&mut self, ticks: u64) {
        self.ticks += ticks;
    }

    /// Sets how many whole ticks the file has.
    pub(crate) fn set_ticks(&mut self, ticks: u64) {
        self.ticks = ticks;
    }

    /// How many whole ticks there are.
    pub(crate) fn ticks(&self) -> u64 {
        self.ticks
    }

    /// Appends an encoded record.
    pub(crate) fn write(&mut self, topic: Topic, tick: Tick, data: &[u8]) -> io::Result<()> {
        self.write_collected()?;
        self.append(topic, tick, data)
    }

    /// Adds a whole tick to the batch, or to the next one. What no batch holds stands in records of its own.
    fn collect(&mut self, input: TickInput, result: &RecordedResult) -> io::Result<()> {
        let Err(tick) = self.push((input, result.clone())) else { return Ok(()) };
        self.write_collected()?;
        let Err((input, result)) = self.push(tick) else { return Ok(()) };
        self.append(Topic::TickInput, input.tick, &record::encode_input(&input))?;
        self.append(Topic::TickResult, result.tick, &record::encode_result(&result))
    }

    /// Adds a whole tick to the batch, where that takes it.
    fn push(&mut self, tick: WholeTick) -> Result<(), WholeTick> {
        let ticks_max = BATCH_SECONDS * u64::from(self.rate.hz());
        match &mut self.batches {
            Some(Batches { batch, .. }) if batch.count() < ticks_max => batch.push(tick),
            _ => Err(tick),
        }
    }

    /// Appends the ticks that have been collected.
    fn write_collected(&mut self) -> io::Result<()> {
        let Some(Batches { batch, begun, .. }) = &mut self.batches else { return Ok(()) };
        let begun = begun.take();
        if let Some(first) = batch.first() {
            let record = batch.take_record();
            self.append(Topic::TickBatch, first, &record)?;
        }
        begun.map_or(Ok(()), |input| self.append(Topic::TickInput, input.tick, &record::encode_input(&input)))
    }

    /// Appends a record as it is.
    fn append(&mut self, topic: Topic, tick: Tick, data: &[u8]) -> io::Result<()> {
        if data.len() > RECORD_BYTES_MAX {
            let error = crate::RecordingError::TooLarge { tick, bytes: data.len() };
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, error));
        }
        if let Some(Batches { chunk, .. }) = &mut self.batches
            && matches!(topic, Topic::TickInput | Topic::IdleTicks | Topic::TickBatch)
            && tick.since(*chunk) >= BATCH_SECONDS * u64::from(self.rate.hz())
        {
            *chunk = tick;
            self.mcap.flush().map_err(io_error)?;
        }
        // 2^64 ns are 584 years.
        let log_time = u64::try_from(self.rate.duration_of(tick.0).as_nanos()).unwrap_or(u64::MAX);
        let header = MessageHeader {
            channel_id: self.channels[topic as usize],
            // The low bits: enough for a reader to see a gap.
            sequence: tick.0 as u32,
            log_time,
            publish_time: log_time,
        };
        self.mcap.write_to_known_channel(&header, data).map_err(io_error)
    }
}

fn io_error(error: McapError) -> io::Error {
    match error {
        McapError::Io(error) => error,
        error => io::Error::other(error),
    }
}
