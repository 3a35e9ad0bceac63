//! What goes out over HTTP/2, and when it has been written.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering::SeqCst},
};

use bytes::{Buf, Bytes};

use super::Bell;

/// Whether a message of a stream is on its way through HTTP/2: one is at most.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: AtomicU8,
    /// Calls the stream that waits.
    bell: Bell,
}

const FREE: u8 = 0;
const TAKEN: u8 = 1;
/// The next message waits for the one that is under way.
const AWAITED: u8 = 2;

/// A part of a response's body.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// Of a `Play` stream.
    Message(Message),
    /// Of any other response.
    Bytes(Bytes),
}

/// A message under way, until it has been written whole.
#[derive(Debug)]
pub(crate) struct Message {
    bytes: Vec<u8>,
    written: usize,
    outbox: Arc<Outbox>,
}

impl Outbox {
    pub(crate) fn new(bell: Bell) -> Arc<Self> {
        Arc::new(Self { state: AtomicU8::new(FREE), bell })
    }

    /// Whether there is room for a message: the one before has been written. If not, the stream is called when it has.
    pub(crate) fn has_room(&self) -> bool {
        self.state.compare_exchange(TAKEN, AWAITED, SeqCst, SeqCst) == Err(FREE)
    }
}

impl Outbox {
    /// Whether there is room for a message, without a call for it.
    pub(crate) fn is_free(&self) -> bool {
        self.state.load(SeqCst) == FREE
    }
}

impl Message {
    /// A message that takes the room in `outbox`.
    pub(crate) fn new(bytes: Vec<u8>, outbox: &Arc<Outbox>) -> Self {
        outbox.state.store(TAKEN, SeqCst);
        Self { bytes, written: 0, outbox: Arc::clone(outbox) }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if self.outbox.state.swap(FREE, SeqCst) == AWAITED {
            self.outbox.bell.ring();
        }
    }
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.chunk().len()
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Message(message) => &message.bytes[message.written..],
            Self::Bytes(bytes) => bytes,
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Message(message) => {
                assert!(count <= message.bytes.len() - message.written, "advanced beyond the end");
                message.written += count;
            }
            Self::Bytes(bytes) => bytes.advance(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::wake::{
            Calls,
            tests::{is_called, resting},
        },
        *,
    };

    #[test]
    fn there_is_room_once_a_message_is_written_and_who_waits_is_called() {
        let task = resting();
        let outbox = Outbox::new(Bell::new(&task, Calls::stream(0)));
        assert!(outbox.has_room());
        let mut outgoing = Outgoing::Message(Message::new(b"message".to_vec(), &outbox));
        outgoing.advance(3);
        assert_eq!(outgoing.chunk(), b"sage");
        assert!(!outbox.has_room());
        drop(outgoing);
        assert!(is_called(&task, Calls::stream(0)));
        assert!(outbox.has_room());
        drop(Outgoing::Message(Message::new(Vec::new(), &outbox)));
        assert!(is_called(&task, Calls::NONE), "nobody waited");
    }
}
