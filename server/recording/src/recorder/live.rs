//! A live recording: what is written while its session runs.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    sync::{Arc, Mutex, PoisonError},
};

use tickwire_simulation::{TickInput, TickResult};

use crate::{End, Layout, RecordingMeta, Writer};

/// What the buffer of encoded records keeps for the next ones; a burst's room is given back.
const BUFFER_BYTES_MAX: usize = 16 * 1024;

/// Where a live recording goes.
pub(super) trait Disk: Send + Sync + 'static {
    fn append(&self, bytes: &[u8]) -> io::Result<()>;
    /// Returns once all that was appended survives a loss of power.
    fn sync(&self) -> io::Result<()>;
    /// Drops all beyond the first `length` bytes.
    fn cut(&self, length: u64) -> io::Result<()>;
}

impl Disk for File {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut file = self;
        file.write_all(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

/// What is to be written.
#[derive(Debug)]
pub(super) enum Record {
    Input(Arc<TickInput>),
    Result(Box<TickResult>),
}

/// A live recording, and how far it has come.
pub(super) struct Live {
    writer: Writer<Encoded>,
    /// What the writer has encoded and the disk has not taken.
    encoded: Encoded,
    disk: Arc<dyn Disk>,
    /// The length of what is whole on the disk.
    length: u64,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Live {
    /// Starts it with its header.
    pub(super) fn new(disk: Arc<dyn Disk>, meta: &RecordingMeta) -> io::Result<Self> {
        let encoded = Encoded::default();
        let writer = Writer::new(encoded.clone(), meta, Layout::Live)?;
        let mut live = Self { writer, encoded, disk, length: 0 };
        live.flush()?;
        Ok(live)
    }

    /// Encodes a record, for the next flush.
    pub(super) fn write(&mut self, record: Record) -> io::Result<()> {
        match record {
            Record::Input(input) => self.writer.tick_input(&input),
            Record::Result(result) => self.writer.tick_result(&(*result).into()),
        }
    }

    /// Writes the end record.
    pub(super) fn end(&mut self, end: &End) -> io::Result<()> {
        self.writer.end(end)?;
        self.flush()
    }

    /// How much a flush would write.
    pub(super) fn unwritten_bytes(&self) -> usize {
        self.encoded.with(|encoded| encoded.bytes.len())
    }

    /// Has the disk take what has been encoded.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        let disk = &*self.disk;
        self.length += self.encoded.drain(|bytes| disk.append(bytes))?;
        Ok(())
    }

    /// Takes back what a failed write may have left: half a record would hide what may still be appended, and what stands
    /// before needs no repair.
    pub(super) fn cut(self) {
        if let Err(error) = self.disk.cut(self.length) {
            tracing::warn!("the recording's last record stays torn: {error}");
        }
    }
}

/// Encoded records between the writer and the disk, so that a failed write does not end the writer.
#[derive(Clone, Default)]
struct Encoded(Arc<Mutex<EncodedBytes>>);

#[derive(Default)]
struct EncodedBytes {
    bytes: Vec<u8>,
    taken: u64,
}

impl Encoded {
    fn with<T>(&self, act: impl FnOnce(&mut EncodedBytes) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Empties it into `take`; how many bytes there were.
    fn drain(&self, take: impl FnOnce(&[u8]) -> io::Result<()>) -> io::Result<u64> {
        self.with(|EncodedBytes { bytes, taken }| {
            let length = bytes.len() as u64;
            if length > 0 {
                *taken += length;
                take(bytes)?;
                bytes.clear();
                bytes.shrink_to(BUFFER_BYTES_MAX);
            }
            Ok(length)
        })
    }
}

impl Write for Encoded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|encoded| encoded.bytes.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Encoded {
    /// Only tells where it is: records are appended.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::Current(0) => Ok(self.with(|encoded| encoded.taken + encoded.bytes.len() as u64)),
            _ => Err(io::ErrorKind::NotSeekable.into()),
        }
    }
}
