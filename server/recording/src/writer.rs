//! Writing recordings, in either form.

use std::{
    io::{self, Seek, Write},
    sync::Arc,
};

use mcap::{McapError, records::MessageHeader};
use tickwire_shared::{Tick, TickRate};
use tickwire_simulation::TickInput;

use crate::{
    ChatRecord, End, RECORD_BYTES_MAX, RecordedKeyframe, RecordedResult, RecordingMeta, Recovered, SeatToken,
    format::{self, Channels, Topic},
    record::{self, IdleTicks},
};

/// The form of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// While the session runs: one record after the other, so that whatever is in the file can be read.
    Live,
    /// For keeping: compressed chunks of about a second, with indexes and a summary.
    Finished,
}

/// Writes a recording to anything, on the caller's thread.
///
/// A session's own recording is the business of a [`Recorder`](crate::Recorder), which never makes the session wait.
pub struct Writer<W: Write + Seek> {
    mcap: mcap::Writer<W>,
    channels: Channels,
    layout: Layout,
    rate: TickRate,
    /// The second, since the session's creation, that the newest chunk holds.
    second: u64,
    /// Whole ones.
    ticks: u64,
}

impl<W: Write + Seek> std::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("layout", &self.layout).field("second", &self.second).finish_non_exhaustive()
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
        let mut writer = Self { mcap, channels, layout, rate: meta.tick_rate, second: 0, ticks: 0 };
        writer.write(Topic::Header, Tick::ZERO, &meta.encode())?;
        Ok(writer)
    }

    /// Goes on with a live recording that has `channels`. First, `to` gets what stands in it already, and then `seek` is
    /// called: from there on, `to` gets what is to be appended.
    pub(crate) fn resume(
        to: W,
        rate: TickRate,
        found: &[Arc<mcap::Channel<'static>>],
        seek: impl FnOnce(),
    ) -> io::Result<Self> {
        let mut mcap = format::write_options(Layout::Live).create(to).map_err(io_error)?;
        format::take_channels(&mut mcap, found).map_err(io_error)?;
        mcap.flush().map_err(io_error)?;
        seek();
        let channels = format::add_missing_channels(&mut mcap, found).map_err(io_error)?;
        Ok(Self { mcap, channels, layout: Layout::Live, rate, second: 0, ticks: 0 })
    }

    /// Appends what a tick consumes.
    ///
    /// # Errors
    /// Those of the file; and for a record of more than [`RECORD_BYTES_MAX`] bytes, after which nothing is written.
    pub fn tick_input(&mut self, input: &TickInput) -> io::Result<()> {
        self.write(Topic::TickInput, input.tick, &record::encode_input(input))
    }

    /// Appends what came out of a tick.
    ///
    /// # Errors
    /// As [`tick_input`](Self::tick_input).
    pub fn tick_result(&mut self, result: &RecordedResult) -> io::Result<()> {
        self.write(Topic::TickResult, result.tick, &record::encode_result(result))?;
        self.ticks += 1;
        Ok(())
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

    /// Appends an encoded record.
    pub(crate) fn write(&mut self, topic: Topic, tick: Tick, data: &[u8]) -> io::Result<()> {
        if data.len() > RECORD_BYTES_MAX {
            let error = crate::RecordingError::TooLarge { tick, bytes: data.len() };
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, error));
        }
        let second = tick.0 / u64::from(self.rate.hz());
        let begins = matches!(topic, Topic::TickInput | Topic::IdleTicks);
        if self.layout == Layout::Finished && begins && second != self.second {
            self.second = second;
            self.flush()?;
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
