//! gRPC's framing: messages out of the bytes of HTTP/2's frames, and into them.

use bytes::{Buf as _, Bytes};
use prost::Message as _;
use tickwire_proto::v1::{self as pb, server_message};
use tickwire_replication::Snapshot;

/// Before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// Messages out of the bytes of frames.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// The rest of a frame; messages nearly always lie in it whole.
    frame: Bytes,
    /// What came otherwise, or in more than one frame for one message. `frame` is then empty.
    joined: Vec<u8>,
    /// How much of `joined` is of messages before.
    past: usize,
    /// How much of either has been handed out.
    taken: usize,
}

/// Room beyond this is not kept.
const KEPT_BYTES_MAX: usize = 4096;

/// Why bytes are no messages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FramingError {
    #[error("a message is marked as compressed, but no grpc-encoding was named")]
    Compressed,
    #[error("{0} is no flag of a message: 0 and 1 are")]
    Flag(u8),
    #[error("a message has at most {0} bytes")]
    TooLong(usize),
    #[error("the stream was closed within a message")]
    Torn,
}

impl Messages {
    pub(super) fn push(&mut self, frame: Bytes) {
        self.let_go();
        if self.frame.is_empty() && self.joined.is_empty() {
            self.frame = frame;
        } else {
            self.room().extend_from_slice(&frame);
        }
    }

    /// Where more bytes may be appended.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        self.let_go();
        self.joined.extend_from_slice(&std::mem::take(&mut self.frame));
        self.joined.drain(..std::mem::take(&mut self.past));
        &mut self.joined
    }

    /// The next message, if it is there whole.
    pub(super) fn next(&mut self, bytes_max: usize) -> Result<Option<&[u8]>, FramingError> {
        self.let_go();
        let held: &[u8] = if self.joined.is_empty() { &self.frame } else { &self.joined[self.past..] };
        let Some((&[flag, a, b, c, d], rest)) = held.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        match flag {
            0 => {}
            1 => return Err(FramingError::Compressed),
            flag => return Err(FramingError::Flag(flag)),
        }
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > bytes_max {
            return Err(FramingError::TooLong(bytes_max));
        }
        let message = rest.get(..length);
        if message.is_some() {
            self.taken = PREFIX_BYTES + length;
        }
        Ok(message)
    }

    /// Nothing more comes.
    pub(super) fn close(&mut self) -> Result<(), FramingError> {
        self.let_go();
        if self.frame.is_empty() && self.joined.is_empty() { Ok(()) } else { Err(FramingError::Torn) }
    }

    /// Lets go of the message that was handed out last.
    fn let_go(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        if self.joined.is_empty() {
            self.frame.advance(taken);
        } else {
            self.past += taken;
            if self.past == self.joined.len() {
                self.past = 0;
                self.joined.clear();
                if self.joined.capacity() > KEPT_BYTES_MAX {
                    self.joined = Vec::new();
                }
            }
        }
    }
}

/// Appends a snapshot with its prefix.
pub(super) fn put_snapshot(snapshot: &Snapshot, bytes: &mut Vec<u8>) {
    put_prefix(snapshot.server_message_len(), bytes);
    snapshot.encode_server_message(bytes);
}

/// Appends any other message with its prefix.
pub(super) fn put_message(kind: server_message::Kind, bytes: &mut Vec<u8>) {
    let message = pb::ServerMessage { kind: Some(kind) };
    put_prefix(message.encoded_len(), bytes);
    message.encode_raw(bytes);
}

/// Appends the prefix of a message of so many bytes, and makes room for those.
fn put_prefix(length: usize, bytes: &mut Vec<u8>) {
    bytes.reserve_exact(PREFIX_BYTES + length);
    bytes.push(0);
    bytes.extend_from_slice(&u32::try_from(length).expect("no message has 4 GiB").to_be_bytes());
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn messages_are_whole_however_they_are_cut_into_frames(
            messages in vec(vec(any::<u8>(), 0..40), 0..8),
            cuts in vec(1..50_usize, 1..60),
            in_room in vec(any::<bool>(), 1..20),
        ) {
            let mut bytes = BytesMut::new();
            for message in &messages {
                bytes.extend_from_slice(&[0, 0, 0, 0, message.len() as u8]);
                bytes.extend_from_slice(message);
            }
            let (mut bytes, mut cuts) = (bytes.freeze(), cuts.into_iter().cycle());
            let mut in_room = in_room.into_iter().cycle();
            let (mut inbox, mut found) = (Messages::default(), Vec::new());
            while !bytes.is_empty() {
                let frame = bytes.len().min(cuts.next().expect("endless"));
                let frame = bytes.split_to(frame);
                if in_room.next().expect("endless") {
                    inbox.room().extend_from_slice(&frame);
                } else {
                    inbox.push(frame);
                }
                while let Some(message) = inbox.next(40).expect("well-formed") {
                    found.push(message.to_vec());
                }
            }
            prop_assert_eq!(found, messages);
            prop_assert_eq!(inbox.close(), Ok(()));
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let refused = |prefix: [u8; 5]| {
            let mut messages = Messages::default();
            messages.push(Bytes::copy_from_slice(&prefix));
            messages.next(16 * 1024).map(|_| ()).expect_err("not taken")
        };
        assert_eq!(refused([1, 0, 0, 0, 1]), FramingError::Compressed);
        assert_eq!(refused([7, 0, 0, 0, 1]), FramingError::Flag(7));
        assert_eq!(refused([0, 0, 0, 0x40, 1]), FramingError::TooLong(16 * 1024));
    }

    #[test]
    fn a_stream_that_ends_within_a_message_is_torn() {
        for rest in [&[0, 0, 0, 0][..], &[0, 0, 0, 0, 2, 9]] {
            let mut messages = Messages::default();
            messages.push(Bytes::copy_from_slice(rest));
            assert_eq!(messages.next(100).map(|_| ()), Ok(()));
            assert_eq!(messages.close(), Err(FramingError::Torn));
        }
    }

    #[test]
    fn what_is_written_is_a_prefix_and_the_message() {
        let kind = server_message::Kind::Pong(pb::Pong { echo: 700, tick: 9, phase_us: 3, slip_us: -4 });
        let mut messages = Messages::default();
        let mut bytes = Vec::new();
        put_message(kind.clone(), &mut bytes);
        messages.push(Bytes::from(bytes));
        let message = messages.next(100).expect("well-formed").expect("whole");
        assert_eq!(pb::ServerMessage::decode(message), Ok(pb::ServerMessage { kind: Some(kind) }));
    }
}
