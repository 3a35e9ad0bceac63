//! The stream's messages, and how long they were on the wire.

use prost::{Message as _, length_delimiter_len};
use tickwire_proto::v1 as pb;
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstEncoder};

/// Inputs are some tens of bytes; a buffer of tonic's default size per stream would lie idle.
const UPLINK_BUFFER_BYTES: usize = 512;
/// A usual snapshot; the buffer grows for larger ones.
const DOWNLINK_BUFFER_BYTES: usize = 4096;
const YIELD_THRESHOLD_BYTES: usize = 32 * 1024;

/// A message of the server.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) message: pb::ServerMessage,
    /// The bytes of its snapshot as they came; 0 for other messages.
    pub(super) snapshot_bytes: u64,
}

#[derive(Debug)]
pub(super) struct PlayCodec;

impl Codec for PlayCodec {
    type Encode = pb::ClientMessage;
    type Decode = Received;
    type Encoder = ProstEncoder<pb::ClientMessage>;
    type Decoder = ReceivedDecoder;

    fn encoder(&mut self) -> Self::Encoder {
        let settings = BufferSettings::new(UPLINK_BUFFER_BYTES, YIELD_THRESHOLD_BYTES);
        ProstCodec::<pb::ClientMessage, pb::ServerMessage>::raw_encoder(settings)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ReceivedDecoder
    }
}

#[derive(Debug)]
pub(super) struct ReceivedDecoder;

impl Decoder for ReceivedDecoder {
    type Item = Received;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Received>, Status> {
        use prost::bytes::Buf as _;

        let bytes = source.remaining();
        let message = pb::ServerMessage::decode(source)
            .map_err(|error| Status::internal(format!("the server's message cannot be decoded: {error}")))?;
        let is_snapshot = matches!(message.kind, Some(pb::server_message::Kind::Snapshot(_)));
        let snapshot_bytes = if is_snapshot { field_bytes(bytes) as u64 } else { 0 };
        Ok(Some(Received { message, snapshot_bytes }))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(DOWNLINK_BUFFER_BYTES, YIELD_THRESHOLD_BYTES)
    }
}

/// The bytes of the one field, of a one-byte key, that makes up a message of `bytes`: the rest are its key and length.
fn field_bytes(bytes: usize) -> usize {
    let after_key = bytes.saturating_sub(1);
    (1..=5)
        .map(|prefix| after_key.saturating_sub(prefix))
        .find(|&field| length_delimiter_len(field) + field == after_key)
        .unwrap_or(after_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_snapshot_are_told_from_those_of_its_message() {
        for roster in (0..400).chain([3_000, 20_000]) {
            let row = pb::RosterRow { name: "x".repeat(roster), ..pb::RosterRow::default() };
            let snapshot = pb::Snapshot { roster: vec![row], ..pb::Snapshot::default() };
            let expected = snapshot.encoded_len();
            let message = pb::ServerMessage { kind: Some(pb::server_message::Kind::Snapshot(snapshot)) };
            assert_eq!(field_bytes(message.encoded_len()), expected);
        }
    }
}
