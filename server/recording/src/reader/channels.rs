//! The channels and schemas of a file: what a server that goes on with it writes by, and what it may not take again.

use std::{
    io::{self, Read},
    sync::Arc,
};

use mcap::{
    McapError,
    sans_io::{LinearReadEvent, LinearReader},
};

use super::Recording;
use crate::{RecordingError, format};

/// The channels of a file, as they stand in it.
pub(crate) type Channels = Vec<Arc<mcap::Channel<'static>>>;

impl Recording {
    /// The channels that stand in the first `bytes` of a file without chunks.
    pub(crate) fn channels_within(&self, bytes: u64) -> Result<Channels, RecordingError> {
        let (path, read) = self.source.read()?;
        let mut messages = mcap::io::MessageReader::new_with_options(read.take(bytes), format::read_options());
        loop {
            match messages.next() {
                None => return Ok(of(&messages)),
                Some(Ok(_)) => {}
                Some(Err(McapError::Io(source))) => return Err(RecordingError::Io { path, source }),
                Some(Err(error)) => return Err(RecordingError::NotARecording(error.to_string())),
            }
        }
    }

    /// The schemas that stand in the first `bytes` of a file without chunks, with those that no channel there has.
    pub(crate) fn schemas_within(&self, bytes: u64) -> Result<Vec<mcap::Schema<'static>>, RecordingError> {
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
                        schemas.push(mcap::Schema { id, name, encoding, data });
                    }
                }
                LinearReadEvent::Record { .. } => {}
            }
        }
        Ok(schemas)
    }
}

/// Those that have been read so far.
pub(super) fn of<R: Read>(messages: &mcap::io::MessageReader<R>) -> Channels {
    (0..=u16::MAX).filter_map(|id| messages.get_channel(id)).collect()
}
