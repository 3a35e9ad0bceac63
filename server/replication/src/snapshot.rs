//! A snapshot on its way out: a small header and shared chunks, which together are an ordinary message.

use bytes::{BufMut, Bytes};
use tickwire_shared::Tick;
use tickwire_wire::varint_len;

/// `Snapshot.cells`, length-delimited.
const CELLS_TAG: u8 = 12 << 3 | 2;
/// `CellUpdate.tick_age`, varint.
const TICK_AGE_TAG: u8 = 7 << 3;
/// `ServerMessage.snapshot`, length-delimited.
const SNAPSHOT_TAG: u8 = 2 << 3 | 2;

/// A composed snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The frame that it was composed from.
    pub tick: Tick,
    /// Whether the receiver starts anew.
    pub reset: bool,
    header: Vec<u8>,
    updates: Vec<Update>,
    len: usize,
}

/// One `CellUpdate`: a shared body, and what this snapshot adds to it.
#[derive(Clone, Debug)]
struct Update {
    body: Bytes,
    tick_age: u32,
}

impl Update {
    fn len(&self) -> usize {
        let age = if self.tick_age == 0 { 0 } else { 1 + varint_len(u64::from(self.tick_age)) };
        self.body.len() + age
    }

    fn framed_len(&self) -> usize {
        1 + varint_len(self.len() as u64) + self.len()
    }
}

/// The bytes that a body takes in a snapshot, whatever its age.
pub(crate) fn framed_len_max(body: &Bytes) -> usize {
    Update { body: body.clone(), tick_age: u32::MAX }.framed_len()
}

impl Snapshot {
    /// A snapshot of cells alone; the header comes last, when it is known what was deferred.
    pub(crate) fn new(tick: Tick, reset: bool) -> Self {
        Self { tick, reset, header: Vec::new(), updates: Vec::new(), len: 0 }
    }

    pub(crate) fn push(&mut self, body: Bytes, tick_age: u32) {
        let update = Update { body, tick_age };
        self.len += update.framed_len();
        self.updates.push(update);
    }

    pub(crate) fn set_header(&mut self, header: Vec<u8>) {
        self.len += header.len();
        self.header = header;
    }

    /// The length of the `Snapshot` message, in bytes.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        self.len
    }

    /// The length of the `ServerMessage` around it, in bytes.
    #[must_use]
    pub const fn server_message_len(&self) -> usize {
        1 + varint_len(self.len as u64) + self.len
    }

    /// Writes a whole `ServerMessage`.
    pub fn encode_server_message(&self, buf: &mut impl BufMut) {
        buf.put_u8(SNAPSHOT_TAG);
        put_varint(self.len as u64, buf);
        self.encode(buf);
    }

    /// Writes the `Snapshot` message.
    pub fn encode(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.header);
        for update in &self.updates {
            buf.put_u8(CELLS_TAG);
            put_varint(update.len() as u64, buf);
            buf.put_slice(&update.body);
            if update.tick_age > 0 {
                buf.put_u8(TICK_AGE_TAG);
                put_varint(u64::from(update.tick_age), buf);
            }
        }
    }
}

fn put_varint(number: u64, buf: &mut impl BufMut) {
    prost::encoding::encode_varint(number, buf);
}
