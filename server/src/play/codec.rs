//! The codec of `Play`: the messages are those of the `.proto`, but snapshots are spliced from shared bytes.

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Buf as _;
use prost::Message as _;
use tickwire_proto::v1 as pb;
use tickwire_replication::Snapshot;
use tonic::{
    Code, Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use super::inputs;
use crate::status::Refusal;

/// The least room that a stream's buffers have: about a usual snapshot, and a usual message of inputs.
const SNAPSHOT_BYTES: usize = 1024;
const INPUTS_BYTES: usize = 256;
/// From so many bytes on, encoded messages are passed on without waiting for more.
const YIELD_BYTES: usize = 32 * 1024;

/// A message to a client.
#[derive(Debug)]
pub(super) enum Down {
    /// Composed of shared chunks.
    Snapshot(Snapshot),
    /// Any other.
    Message(Box<pb::ServerMessage>),
}

impl From<pb::server_message::Kind> for Down {
    fn from(kind: pb::server_message::Kind) -> Self {
        Self::Message(Box::new(pb::ServerMessage { kind: Some(kind) }))
    }
}

/// One stream's snapshot between two compositions: encoding gives back the buffers that composing takes.
#[derive(Clone, Debug, Default)]
pub(super) struct SpareSnapshot(Arc<Mutex<Snapshot>>);

#[derive(Debug, Default)]
pub(super) struct PlayCodec {
    spare: SpareSnapshot,
}

#[derive(Debug)]
pub(super) struct DownEncoder {
    spare: SpareSnapshot,
}

#[derive(Debug)]
pub(super) struct UpDecoder;

impl SpareSnapshot {
    pub(super) fn take(&self) -> Snapshot {
        std::mem::take(&mut *self.lock())
    }

    pub(super) fn give_back(&self, mut snapshot: Snapshot) {
        snapshot.clear();
        *self.lock() = snapshot;
    }

    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

impl PlayCodec {
    /// A codec for a stream that composes into what `spare` holds.
    pub(super) fn new(spare: SpareSnapshot) -> Self {
        Self { spare }
    }
}

impl Codec for PlayCodec {
    type Encode = Down;
    type Decode = pb::ClientMessage;
    type Encoder = DownEncoder;
    type Decoder = UpDecoder;

    fn encoder(&mut self) -> DownEncoder {
        DownEncoder { spare: self.spare.clone() }
    }

    fn decoder(&mut self) -> UpDecoder {
        UpDecoder
    }
}

impl Encoder for DownEncoder {
    type Item = Down;
    type Error = Status;

    fn encode(&mut self, item: Down, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        match item {
            Down::Snapshot(snapshot) => {
                buf.reserve(snapshot.server_message_len());
                snapshot.encode_server_message(buf);
                self.spare.give_back(snapshot);
            }
            Down::Message(message) => {
                buf.reserve(message.encoded_len());
                message.encode_raw(buf);
            }
        }
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(SNAPSHOT_BYTES, YIELD_BYTES)
    }
}

impl Decoder for UpDecoder {
    type Item = pb::ClientMessage;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<pb::ClientMessage>, Status> {
        let length = buf.remaining();
        if let Some(inputs) = Some(buf.chunk()).filter(|chunk| chunk.len() == length).and_then(inputs::read) {
            buf.advance(length);
            return Ok(Some(pb::ClientMessage { kind: Some(pb::client_message::Kind::Inputs(inputs)) }));
        }
        pb::ClientMessage::decode(buf).map(Some).map_err(|error| {
            let message = format!("{length} bytes are not a ClientMessage: {error}");
            Refusal::new(Code::InvalidArgument, "MALFORMED", message).into()
        })
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(INPUTS_BYTES, YIELD_BYTES)
    }
}
