//! How a recording lies in its MCAP file: topics, embedded schemas, options.

use std::{collections::BTreeMap, io};

use mcap::{
    Compression, McapResult, WriteOptions,
    sans_io::{LinearReaderOptions, SummaryReaderOptions},
};
use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::Layout;

/// The layout that this version writes. It reads those before, too.
pub const FORMAT_VERSION: u32 = 2;
/// The largest record, in bytes.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// Chunks are cut each second, and where they reach this size, in bytes.
const CHUNK_BYTES_MAX: u64 = 4 << 20;
const ENCODING: &str = "protobuf";
/// What the embedded descriptors consist of.
const DESCRIPTOR_FILES: [&str; 3] =
    ["google/protobuf/timestamp.proto", "tickwire/v1/schema.proto", "tickwire/v1/recording.proto"];

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    Header,
    TickInput,
    TickResult,
    IdleTicks,
    End,
    Keyframe,
}

impl Topic {
    pub(crate) const ALL: [Self; 6] =
        [Self::Header, Self::TickInput, Self::TickResult, Self::IdleTicks, Self::End, Self::Keyframe];

    /// The topic's name, and that of its messages.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Header => ("header", "tickwire.v1.RecordingHeader"),
            Self::TickInput => ("tick_input", "tickwire.v1.TickInput"),
            Self::TickResult => ("tick_result", "tickwire.v1.TickResult"),
            Self::IdleTicks => ("idle_ticks", "tickwire.v1.IdleTicks"),
            Self::End => ("end", "tickwire.v1.RecordingEnd"),
            Self::Keyframe => ("keyframe", "tickwire.v1.Keyframe"),
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

/// Writes descriptors and channels.
pub(crate) fn add_channels<W: io::Write + io::Seek>(writer: &mut mcap::Writer<W>) -> McapResult<Channels> {
    let descriptors = descriptors();
    let mut channels = Channels::default();
    for topic in Topic::ALL {
        let (name, message) = topic.names();
        let schema = writer.add_schema(message, ENCODING, &descriptors)?;
        channels[topic as usize] = writer.add_channel(schema, name, ENCODING, &BTreeMap::new())?;
    }
    Ok(channels)
}

/// The descriptors of a recording's messages, without comments.
fn descriptors() -> Vec<u8> {
    let mut set = FileDescriptorSet::decode(tickwire_proto::FILE_DESCRIPTOR_SET)
        .expect("the build has encoded the descriptors of the protocol");
    set.file.retain(|file| DESCRIPTOR_FILES.contains(&file.name()));
    for file in &mut set.file {
        file.source_code_info = None;
    }
    set.encode_to_vec()
}

pub(crate) fn write_options(layout: Layout) -> WriteOptions {
    let options = WriteOptions::new()
        .profile("tickwire")
        .library(concat!("tickwire-recording/", env!("CARGO_PKG_VERSION")))
        .compression_threads(0);
    match layout {
        Layout::Live => options.use_chunks(false).compression(None).calculate_data_section_crc(false),
        Layout::Finished => options.compression(Some(Compression::Zstd)).chunk_size(Some(CHUNK_BYTES_MAX)),
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
        let set = FileDescriptorSet::decode(descriptors().as_slice()).expect("descriptors");
        let files: Vec<&str> = set.file.iter().map(|file| file.name()).collect();
        assert_eq!(files.len(), DESCRIPTOR_FILES.len());
        for dependency in set.file.iter().flat_map(|file| &file.dependency) {
            assert!(files.contains(&dependency.as_str()), "{dependency} is missing");
        }
        for topic in Topic::ALL {
            let (_, message) = topic.names();
            let has_it = |file: &prost_types::FileDescriptorProto| {
                file.message_type.iter().any(|candidate| format!("{}.{}", file.package(), candidate.name()) == message)
            };
            assert!(set.file.iter().any(has_it), "{message} is missing");
        }
    }
}
