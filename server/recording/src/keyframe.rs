//! Keyframes in recordings: as records, and where they are.

use prost::Message as _;
use tickwire_proto::v1 as pb;
use tickwire_shared::{Schema, Tick};
use tickwire_simulation::{Keyframe, KeyframeError};

use crate::{RECORD_BYTES_MAX, record};

/// The most bytes of a keyframe that is not compressed.
const KEYFRAME_BYTES_MAX: usize = 64 << 20;
/// Of zstd: what there is to gain beyond takes longer than it is worth.
const COMPRESSION_LEVEL: i32 = 6;

/// A keyframe as it stands in a recording: its checksum is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedKeyframe {
    /// The tick after which it stands.
    pub tick: Tick,
    /// What it is made of: see [`Keyframe::layout`].
    pub layout: u64,
    /// The state hash of its tick.
    pub state_hash: u64,
    /// Compressed.
    data: Vec<u8>,
}

/// A keyframe of which no session can be made.
#[derive(Debug, thiserror::Error)]
pub enum RecordedKeyframeError {
    /// What is compressed there is none, or too large.
    #[error("keyframe of tick {tick}: it cannot be decompressed: {source}")]
    Compression {
        /// Its tick.
        tick: Tick,
        /// The reason.
        source: std::io::Error,
    },
    /// What is in there is none.
    #[error("keyframe of tick {tick}: {source}")]
    Keyframe {
        /// Its tick.
        tick: Tick,
        /// The reason.
        source: KeyframeError,
    },
    /// It is not what its record says.
    #[error("keyframe of tick {tick}: inside it is of another tick, layout or state")]
    Label {
        /// Its tick, as the record says.
        tick: Tick,
    },
}

impl RecordedKeyframe {
    /// Compressed: this takes some milliseconds for a large world. `None` where it is larger than a record may be.
    #[must_use]
    pub fn of(keyframe: &Keyframe) -> Option<Self> {
        let bytes = keyframe.to_bytes();
        let data = (bytes.len() <= KEYFRAME_BYTES_MAX).then(|| zstd::bulk::compress(&bytes, COMPRESSION_LEVEL).ok());
        let data = data.flatten().filter(|data| data.len() <= RECORD_BYTES_MAX - LABEL_BYTES)?;
        let (tick, layout, state_hash) = (keyframe.tick(), keyframe.layout(), keyframe.state_hash());
        Some(Self { tick, layout, state_hash, data })
    }

    /// What it is, of a session of a schema.
    ///
    /// # Errors
    /// Where it is none.
    pub fn open(&self, schema: &Schema) -> Result<Keyframe, RecordedKeyframeError> {
        let tick = self.tick;
        let bytes = decompress(&self.data).map_err(|source| RecordedKeyframeError::Compression { tick, source })?;
        let keyframe =
            Keyframe::from_bytes(schema, &bytes).map_err(|source| RecordedKeyframeError::Keyframe { tick, source })?;
        if (keyframe.tick(), keyframe.layout(), keyframe.state_hash()) != (tick, self.layout, self.state_hash) {
            return Err(RecordedKeyframeError::Label { tick });
        }
        Ok(keyframe)
    }

    /// What it is, compressed: about its size in a recording.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { tick, layout, state_hash, data } = self;
        record::with_checksum(&pb::Keyframe {
            tick: tick.0,
            layout: *layout,
            state_hash: *state_hash,
            data: data.clone(),
            crc32: 0,
        })
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        record::check(bytes)?;
        let pb::Keyframe { tick, layout, state_hash, data, .. } =
            pb::Keyframe::decode(bytes).map_err(|error| error.to_string())?;
        Ok(Self { tick: Tick(tick), layout, state_hash, data })
    }
}

/// More than the fields beside the data take.
const LABEL_BYTES: usize = 256;

/// However large it says that it is, no more than may be.
fn decompress(data: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let mut decoder = zstd::stream::read::Decoder::new(data)?.take(KEYFRAME_BYTES_MAX as u64 + 1);
    decoder.read_to_end(&mut bytes)?;
    if bytes.len() > KEYFRAME_BYTES_MAX {
        return Err(std::io::Error::other(format!("it has more than {KEYFRAME_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}
