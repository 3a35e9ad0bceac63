//! The messages of a file from any place on, with their places.

use std::{
    collections::BTreeMap,
    io::{Read, Seek, SeekFrom},
};

use mcap::{
    McapError,
    records::{Record, op},
    sans_io::{LinearReadEvent, LinearReader},
};

use crate::format::{self, Topic};

/// What is read of.
pub(super) trait File: Read + Seek + Send {}

impl<T: Read + Seek + Send> File for T {}

/// The messages of a file on topics of ours, from a place on.
pub(super) struct Messages {
    file: Box<dyn File>,
    reader: LinearReader,
    schemas: BTreeMap<u16, String>,
    topics: BTreeMap<u16, Topic>,
    /// Where the next record is, in a file without chunks.
    place: u64,
}

pub(super) struct Message {
    pub(super) topic: Topic,
    /// Where it is, in a file without chunks.
    pub(super) place: u64,
    /// In nanoseconds of the session.
    pub(super) time: u64,
    pub(super) data: Vec<u8>,
}

impl Messages {
    /// All of a file.
    pub(super) fn of(file: Box<dyn File>) -> Self {
        let options = format::read_options().with_validate_data_section_crc(false);
        let reader = LinearReader::new_with_options(options);
        Self { file, reader, schemas: BTreeMap::new(), topics: BTreeMap::new(), place: MAGIC_BYTES }
    }

    /// Those from a record, or a chunk, on.
    pub(super) fn from(mut file: Box<dyn File>, place: u64, topics: BTreeMap<u16, Topic>) -> Result<Self, McapError> {
        file.seek(SeekFrom::Start(place))?;
        let options = format::read_options().with_validate_data_section_crc(false).with_skip_start_magic(true);
        let reader = LinearReader::new_with_options(options);
        Ok(Self { file, reader, schemas: BTreeMap::new(), topics, place })
    }

    /// The topics so far, by channel.
    pub(super) fn topics(&self) -> &BTreeMap<u16, Topic> {
        &self.topics
    }

    pub(super) fn next(&mut self) -> Result<Option<Message>, McapError> {
        while let Some(event) = self.reader.next_event() {
            let (opcode, data) = match event? {
                LinearReadEvent::ReadRequest(bytes) => {
                    let read = self.file.read(self.reader.insert(bytes))?;
                    self.reader.notify_read(read);
                    continue;
                }
                LinearReadEvent::Record { opcode: op::DATA_END, .. } => break,
                LinearReadEvent::Record { opcode, data } => (opcode, data),
            };
            let place = self.place;
            self.place += RECORD_HEADER_BYTES + data.len() as u64;
            match mcap::parse_record(opcode, data)? {
                Record::Schema { header, .. } => drop(self.schemas.insert(header.id, header.name)),
                Record::Channel(channel) => {
                    let schema = self.schemas.get(&channel.schema_id).map_or("", String::as_str);
                    if let Some(topic) = Topic::named(&channel.topic, &channel.message_encoding, schema) {
                        self.topics.insert(channel.id, topic);
                    }
                }
                Record::Message { header, data } => {
                    if let Some(&topic) = self.topics.get(&header.channel_id) {
                        return Ok(Some(Message { topic, place, time: header.log_time, data: data.into_owned() }));
                    }
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

const MAGIC_BYTES: u64 = 8;
/// What stands before each record: its kind, and its length.
const RECORD_HEADER_BYTES: u64 = 9;
