//! A snapshot on its way out: a small header and shared chunks, which together are an ordinary message.

use bytes::{BufMut, Bytes};
use prost::{Message as _, encoding};
use tickwire_proto::v1 as pb;
use tickwire_shared::{CellId, Tick};
use tickwire_wire::varint_len;

/// Fields of `Snapshot`.
const DEFERRED_CELLS: u32 = 8;
const DROPPED_CELLS: u32 = 9;
const OWNER: u32 = 10;
const ROSTER: u32 = 11;
/// `Snapshot.cells`, length-delimited.
const CELLS_TAG: u8 = 12 << 3 | 2;
/// `CellUpdate.tick_age`, varint.
const TICK_AGE_TAG: u8 = 7 << 3;
/// `ServerMessage.snapshot`, length-delimited.
const SNAPSHOT_TAG: u8 = 2 << 3 | 2;

/// A composed snapshot, or room for one: its buffers serve one after the other.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The frame that it was composed from.
    pub tick: Tick,
    /// Whether the receiver starts anew.
    pub reset: bool,
    header: Vec<u8>,
    updates: Vec<Update>,
    updates_len: usize,
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
    const AGE_BYTES: usize = 6;
    let len = body.len() + AGE_BYTES;
    1 + varint_len(len as u64) + len
}

/// The bytes that a list of cells takes at most.
pub(crate) fn cells_len_max(cells: impl Iterator<Item = CellId>) -> usize {
    const LIST_BYTES: usize = 4;
    LIST_BYTES + cells.map(|cell| varint_len(u64::from(cell.0))).sum::<usize>()
}

impl Snapshot {
    /// Lets go of what it holds, and keeps its buffers.
    pub fn clear(&mut self) {
        self.header.clear();
        self.clear_updates();
    }

    /// Begins anew with the header's numbers; `header` has no lists.
    pub(crate) fn start(&mut self, header: &pb::Snapshot) {
        self.clear();
        self.tick = Tick(header.tick);
        self.reset = header.reset;
        header.encode_raw(&mut self.header);
    }

    pub(crate) fn put_dropped(&mut self, cells: &[u32]) {
        encoding::uint32::encode_packed(DROPPED_CELLS, cells, &mut self.header);
    }

    pub(crate) fn put_deferred(&mut self, cells: &[u32]) {
        encoding::uint32::encode_packed(DEFERRED_CELLS, cells, &mut self.header);
    }

    pub(crate) fn put_owner(&mut self, section: &pb::OwnerSection) {
        encoding::message::encode(OWNER, section, &mut self.header);
    }

    pub(crate) fn put_roster_row(&mut self, row: &pb::RosterRow) {
        encoding::message::encode(ROSTER, row, &mut self.header);
    }

    pub(crate) fn push(&mut self, body: Bytes, tick_age: u32) {
        let update = Update { body, tick_age };
        self.updates_len += update.framed_len();
        self.updates.push(update);
    }

    pub(crate) fn clear_updates(&mut self) {
        self.updates.clear();
        self.updates_len = 0;
    }

    pub(crate) fn header_len(&self) -> usize {
        self.header.len()
    }

    pub(crate) fn has_updates(&self) -> bool {
        !self.updates.is_empty()
    }

    /// The length of the `Snapshot` message, in bytes.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        self.header.len() + self.updates_len
    }

    /// The length of the `ServerMessage` around it, in bytes.
    #[must_use]
    pub const fn server_message_len(&self) -> usize {
        1 + varint_len(self.encoded_len() as u64) + self.encoded_len()
    }

    /// Writes a whole `ServerMessage`.
    pub fn encode_server_message(&self, buf: &mut impl BufMut) {
        buf.put_u8(SNAPSHOT_TAG);
        put_varint(self.encoded_len() as u64, buf);
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
    encoding::encode_varint(number, buf);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_together_is_what_the_generated_types_read() {
        let header = pb::Snapshot { epoch: 1, tick: 700, slip_us: -3, reset: true, ..pb::Snapshot::default() };
        let owner = pb::OwnerSection { base_age: Some(3), values: vec![5, -4, 900], ..pb::OwnerSection::default() };
        let row = pb::RosterRow { player: 7, name: "ann".into(), status: 1, scores: vec![-2] };
        let update = pb::CellUpdate { cell: 300, base_age: Some(9), hash: Some(5), ..pb::CellUpdate::default() };
        let body = Bytes::from(update.encode_to_vec());

        let mut snapshot = Snapshot::default();
        for _ in 0..2 {
            snapshot.start(&header);
            snapshot.put_dropped(&[4, 1 << 15]);
            snapshot.put_owner(&owner);
            snapshot.put_roster_row(&row);
            snapshot.put_roster_row(&row);
            snapshot.push(body.clone(), 0);
            snapshot.push(body.clone(), 300);
            snapshot.put_deferred(&[3, 9]);
        }
        let expected = pb::Snapshot {
            dropped_cells: vec![4, 1 << 15],
            owner: Some(owner),
            roster: vec![row.clone(), row],
            cells: vec![update.clone(), pb::CellUpdate { tick_age: 300, ..update }],
            deferred_cells: vec![3, 9],
            ..header
        };
        let mut bytes = Vec::new();
        snapshot.encode_server_message(&mut bytes);
        let kind = Some(pb::server_message::Kind::Snapshot(expected.clone()));
        assert_eq!(pb::ServerMessage::decode(bytes.as_slice()), Ok(pb::ServerMessage { kind }));
        assert_eq!((snapshot.encoded_len(), snapshot.server_message_len()), (expected.encoded_len(), bytes.len()));
        assert!(framed_len_max(&body) >= snapshot.updates[1].framed_len());
        assert!(cells_len_max([CellId(3), CellId(1 << 15)].into_iter()) >= 2 + 1 + 3);
    }
}
