//! How a recording lies in its MCAP file: topics, embedded schemas, options.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use mcap::{
    Compression, McapResult, WriteOptions,
    sans_io::{LinearReaderOptions, SummaryReaderOptions},
};
use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::Layout;

/// The layout that this version writes. It reads those before, too.
pub const FORMAT_VERSION: u32 = 3;
/// The largest record, in bytes.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// Chunks are cut each few seconds, and where they reach this size, in bytes.
const CHUNK_BYTES_MAX: u64 = 4 << 20;
/// Of zstd, for a finished recording: more takes twice the time for a hundredth.
const COMPRESSION_LEVEL: u32 = 9;
const ENCODING: &str = "protobuf";
/// What the embedded descriptors consist of.
const DESCRIPTOR_FILES: [&str; 4] = [
    "google/protobuf/timestamp.proto",
    "tickwire/v1/schema.proto",
    "tickwire/v1/recording.proto",
    "tickwire/v1/recording_batch.proto",
];

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    Header,
    TickInput,
    TickResult,
    IdleTicks,
    End,
    Recovered,
    SeatToken,
    Keyframe,
    TickBatch,
    Chat,
}

impl Topic {
    pub(crate) const ALL: [Self; 10] = [
        Self::Header,
        Self::TickInput,
        Self::TickResult,
        Self::IdleTicks,
        Self::End,
        Self::Recovered,
        Self::SeatToken,
        Self::Keyframe,
        Self::TickBatch,
        Self::Chat,
    ];

    /// The topic's name, and that of its messages.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Header => ("header", "tickwire.v1.RecordingHeader"),
            Self::TickInput => ("tick_input", "tickwire.v1.TickInput"),
            Self::TickResult => ("tick_result", "tickwire.v1.TickResult"),
            Self::IdleTicks => ("idle_ticks", "tickwire.v1.IdleTicks"),
            Self::End => ("end", "tickwire.v1.RecordingEnd"),
            Self::Recovered => ("recovered", "tickwire.v1.Recovered"),
            Self::SeatToken => ("seat_token", "tickwire.v1.SeatToken"),
            Self::Keyframe => ("keyframe", "tickwire.v1.Keyframe"),
            Self::TickBatch => ("tick_batch", "tickwire.v1.TickBatch"),
            Self::Chat => ("chat", "tickwire.v1.ChatRecord"),
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        self.names().0
    }

    /// The topic of a channel; `None` for one of a later version, or of another program's.
    pub(crate) fn of(channel: &mcap::Channel<'_>) -> Option<Self> {
        let schema = channel.schema.as_ref()?;
        Self::named(&channel.topic, &channel.message_encoding, &schema.name)
    }

    /// The topic of this name, of messages of this encoding and schema.
    pub(crate) fn named(topic: &str, encoding: &str, schema: &str) -> Option<Self> {
        let is_it = |candidate: &Self| encoding == ENCODING && candidate.names() == (topic, schema);
        Self::ALL.into_iter().find(is_it)
    }
}

/// The channels of a file, by topic.
pub(crate) type Channels = [u16; Topic::ALL.len()];

/// Takes over what stands in a file already, as far as it can be seen there, under its own numbers. What this writes is in
/// that file: it goes nowhere.
pub(crate) fn take_channels<W: io::Write + io::Seek>(
    writer: &mut mcap::Writer<W>,
    found: &[Arc<mcap::Channel<'static>>],
    schemas: &[mcap::Schema<'static>],
) -> McapResult<()> {
    for schema in schemas {
        writer.add_schema_with_id(schema.id, &schema.name, &schema.encoding, &schema.data)?;
    }
    for channel in found {
        let schema = match &channel.schema {
            Some(schema) => writer.add_schema_with_id(schema.id, &schema.name, &schema.encoding, &schema.data)?,
            None => 0,
        };
        writer.add_channel_with_id(channel.id, schema, &channel.topic, &channel.message_encoding, &channel.metadata)?;
    }
    Ok(())
}

/// Whether a file with the channels `found` has one for each topic.
pub(crate) fn has_all_channels(found: &[Arc<mcap::Channel<'static>>]) -> bool {
    Topic::ALL.into_iter().all(|topic| found.iter().any(|channel| Topic::of(channel) == Some(topic)))
}

/// Writes descriptors and channels of those topics that are not among the channels `found`.
pub(crate) fn add_missing_channels<W: io::Write + io::Seek>(
    writer: &mut mcap::Writer<W>,
    found: &[Arc<mcap::Channel<'static>>],
) -> McapResult<Channels> {
    let mut channels = Channels::default();
    for topic in Topic::ALL {
        let there = found.iter().find(|channel| Topic::of(channel) == Some(topic));
        channels[topic as usize] = match there {
            Some(channel) => channel.id,
            None => add_channel(writer, topic)?,
        };
    }
    Ok(channels)
}

fn add_channel<W: io::Write + io::Seek>(writer: &mut mcap::Writer<W>, topic: Topic) -> McapResult<u16> {
    let (name, message) = topic.names();
    let schema = writer.add_schema(message, ENCODING, &descriptors(message))?;
    writer.add_channel(schema, name, ENCODING, &BTreeMap::new())
}

/// The descriptors of a message and of all that it consists of, without comments: each topic has its own, so that others would
/// make every recording larger.
fn descriptors(message: &str) -> Vec<u8> {
    let mut set = FileDescriptorSet::decode(tickwire_proto::FILE_DESCRIPTOR_SET)
        .expect("the build has encoded the descriptors of the protocol");
    set.file.retain(|file| DESCRIPTOR_FILES.contains(&file.name()));
    let needed = needed_types(&set, message);
    for file in &mut set.file {
        let package = file.package().to_owned();
        let is_needed = |name: &str| needed.contains(&format!(".{package}.{name}"));
        file.message_type.retain(|message| is_needed(message.name()));
        file.enum_type.retain(|found| is_needed(found.name()));
        file.source_code_info = None;
    }
    set.file.retain(|file| !file.message_type.is_empty() || !file.enum_type.is_empty());
    let left: Vec<String> = set.file.iter().map(|file| file.name().to_owned()).collect();
    for file in &mut set.file {
        file.dependency.retain(|dependency| left.contains(dependency));
    }
    set.encode_to_vec()
}

/// The types that stand in files by themselves and that a message consists of, itself among them, as fields name them.
fn needed_types(set: &FileDescriptorSet, message: &str) -> BTreeSet<String> {
    let mut messages = BTreeMap::new();
    for file in &set.file {
        messages.extend(
            file.message_type.iter().map(|message| (format!(".{}.{}", file.package(), message.name()), message)),
        );
    }
    let (mut needed, mut waiting) = (BTreeSet::new(), vec![format!(".{message}")]);
    while let Some(name) = waiting.pop() {
        if let Some(message) = messages.get(&name)
            && !needed.contains(&name)
        {
            assert!(message.nested_type.is_empty(), "{name}: put its types beside it, where they are found");
            waiting.extend(message.field.iter().filter_map(|field| field.type_name.clone()));
        }
        needed.insert(name);
    }
    needed
}

pub(crate) fn write_options(layout: Layout) -> WriteOptions {
    let options = WriteOptions::new()
        .profile("tickwire")
        .library(concat!("tickwire-recording/", env!("CARGO_PKG_VERSION")))
        .compression_threads(0);
    match layout {
        Layout::Live => options.use_chunks(false).compression(None).calculate_data_section_crc(false),
        Layout::Finished => options
            .compression(Some(Compression::Zstd))
            .compression_level(COMPRESSION_LEVEL)
            .chunk_size(Some(CHUNK_BYTES_MAX)),
    }
}

/// A file may end after any record: a live one does.
pub(crate) fn read_options() -> LinearReaderOptions {
    LinearReaderOptions::default()
        .with_skip_end_magic(true)
        .with_validate_chunk_crcs(true)
        .with_validate_data_section_crc(true)
        .with_record_length_limit(RECORD_BYTES_MAX)
}

pub(crate) fn summary_options() -> SummaryReaderOptions {
    SummaryReaderOptions::default().with_record_length_limit(RECORD_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_descriptors_stand_on_their_own() {
        for topic in Topic::ALL {
            let (_, message) = topic.names();
            let set = FileDescriptorSet::decode(descriptors(message).as_slice()).expect("descriptors");
            let files: Vec<&str> = set.file.iter().map(|file| file.name()).collect();
            for dependency in set.file.iter().flat_map(|file| &file.dependency) {
                assert!(files.contains(&dependency.as_str()), "{message}: {dependency} is missing");
            }
            let mut types = BTreeSet::new();
            for file in &set.file {
                let names = file.message_type.iter().map(|message| message.name());
                let names = names.chain(file.enum_type.iter().map(|found| found.name()));
                types.extend(names.map(|name| format!(".{}.{name}", file.package())));
            }
            assert!(types.contains(&format!(".{message}")), "{message} is missing");
            let fields = set.file.iter().flat_map(|file| &file.message_type).flat_map(|message| &message.field);
            for name in fields.filter_map(|field| field.type_name.as_ref()) {
                assert!(types.contains(name), "{message}: {name} is missing");
            }
        }
    }

    #[test]
    fn what_says_nothing_of_the_schema_does_not_carry_it() {
        let bytes = |topic: Topic| descriptors(topic.names().1).len();
        assert!(bytes(Topic::Header) > 4 * bytes(Topic::IdleTicks));
    }
}
