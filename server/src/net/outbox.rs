//! What goes out over HTTP/2: memory that comes back to its stream once it has been written, which also says when that was.

use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use bytes::{Buf, Bytes};

use super::Bell;

/// Memory that a stream keeps between two messages; after a longer one it is given back.
const KEPT_BYTES_MAX: usize = 8 * 1024;

/// The one message of a stream that may be on its way through HTTP/2, or its memory: while it is not here, it has not been
/// written whole.
#[derive(Debug)]
pub(crate) struct Outbox {
    memory: Mutex<Option<Vec<u8>>>,
    awaited: AtomicBool,
    /// Calls the stream that waits for it.
    bell: Arc<Bell>,
}

/// A part of a response's body.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// Of a `Play` stream.
    Message(Message),
    /// Of any other response.
    Bytes(Bytes),
}

/// A message under way. Dropped, by whoever wrote the last of it, it gives its memory back.
#[derive(Debug)]
pub(crate) struct Message {
    memory: Vec<u8>,
    written: usize,
    outbox: Arc<Outbox>,
}

impl Outbox {
    /// An outbox of a stream, which `bell` calls when it [waited](Self::take).
    pub(crate) fn new(bell: Arc<Bell>) -> Arc<Self> {
        Arc::new(Self { memory: Mutex::new(Some(Vec::new())), awaited: AtomicBool::new(false), bell })
    }

    /// Room for a message, once the one before has been written. Where it has not, the stream is called when it has.
    pub(crate) fn take(&self) -> Option<Vec<u8>> {
        let mut memory = self.lock();
        if memory.is_none() {
            self.awaited.store(true, Relaxed);
        }
        memory.take()
    }

    /// Gives back what was taken.
    pub(crate) fn give_back(&self, mut memory: Vec<u8>) {
        memory.clear();
        memory.shrink_to(KEPT_BYTES_MAX);
        let mut place = self.lock();
        *place = Some(memory);
        if self.awaited.swap(false, Relaxed) {
            drop(place);
            self.bell.ring();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.memory.lock().expect("no holder of this lock panics")
    }
}

impl Message {
    /// A message in memory that was taken of `outbox`.
    pub(crate) fn new(memory: Vec<u8>, outbox: &Arc<Outbox>) -> Self {
        Self { memory, written: 0, outbox: Arc::clone(outbox) }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.outbox.give_back(std::mem::take(&mut self.memory));
    }
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.chunk().len()
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Message(message) => &message.memory[message.written..],
            Self::Bytes(bytes) => bytes,
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Message(message) => {
                assert!(count <= message.memory.len() - message.written, "advanced beyond the end");
                message.written += count;
            }
            Self::Bytes(bytes) => bytes.advance(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_once_written_and_calls_who_waits() {
        let bell = Bell::rung(&Arc::default());
        assert!(bell.has_rung());
        let outbox = Outbox::new(Arc::clone(&bell));
        let mut memory = outbox.take().expect("nothing is under way");
        memory.extend_from_slice(b"message");
        let mut outgoing = Outgoing::Message(Message::new(memory, &outbox));
        outgoing.advance(3);
        assert_eq!(outgoing.chunk(), b"sage");
        assert!(outbox.take().is_none());
        drop(outgoing);
        assert!(bell.has_rung());
        let memory = outbox.take().expect("it has come back");
        assert!(memory.is_empty() && memory.capacity() >= 7);
        outbox.give_back(memory);
        assert!(!bell.has_rung(), "nobody waited");
    }
}
