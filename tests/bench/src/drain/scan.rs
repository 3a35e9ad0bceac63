//! A shallow look into Tickwire's messages: what a client must know to acknowledge, and nothing of the state.

/// Bytes that are no protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a protobuf message")]
pub(crate) struct ScanError;

/// A `ServerMessage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Snapshot(Snapshot),
    Pong(Pong),
    /// The server ends the stream.
    Goodbye,
    Other,
}

/// The header of a `Snapshot`, as far as it matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) epoch: u32,
    pub(crate) tick: u64,
    /// Whether the newest input had come too late for its tick.
    pub(crate) input_late: bool,
    pub(crate) slip_us: i64,
    pub(crate) parts: Parts,
}

/// The bytes of a message `Snapshot`, by what they say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) all: usize,
    pub(crate) owner: usize,
    pub(crate) roster: usize,
    pub(crate) cells: usize,
    /// How many cells are updated.
    pub(crate) cell_updates: usize,
}

/// A `Pong`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pong {
    pub(crate) echo: u64,
    pub(crate) tick: u64,
    pub(crate) phase_us: u32,
    pub(crate) slip_us: i64,
}

/// Looks into a `ServerMessage`.
pub(crate) fn server_message(bytes: &[u8]) -> Result<Message, ScanError> {
    let mut message = Message::Other;
    for field in Fields(bytes) {
        message = match field? {
            (2, Value::Bytes(snapshot)) => Message::Snapshot(self::snapshot(snapshot)?),
            (3, Value::Bytes(pong)) => Message::Pong(self::pong(pong)?),
            (5, Value::Bytes(_)) => Message::Goodbye,
            _ => Message::Other,
        };
    }
    Ok(message)
}

fn snapshot(bytes: &[u8]) -> Result<Snapshot, ScanError> {
    let mut snapshot = Snapshot { parts: Parts { all: bytes.len(), ..Parts::default() }, ..Snapshot::default() };
    let mut fields = Fields(bytes);
    let mut left = bytes.len();
    while let Some(field) = fields.next() {
        let field_bytes = left - fields.0.len();
        left = fields.0.len();
        match field? {
            (1, Value::Number(epoch)) => snapshot.epoch = epoch as u32,
            (2, Value::Number(tick)) => snapshot.tick = tick,
            // Zigzag: odd numbers are negative.
            (5, Value::Number(margin_us)) => snapshot.input_late = margin_us % 2 == 1,
            (6, Value::Number(slip_us)) => snapshot.slip_us = slip_us as i64,
            (10, Value::Bytes(_)) => snapshot.parts.owner += field_bytes,
            (11, Value::Bytes(_)) => snapshot.parts.roster += field_bytes,
            (12, Value::Bytes(_)) => {
                snapshot.parts.cells += field_bytes;
                snapshot.parts.cell_updates += 1;
            }
            _ => {}
        }
    }
    Ok(snapshot)
}

fn pong(bytes: &[u8]) -> Result<Pong, ScanError> {
    let mut pong = Pong::default();
    for field in Fields(bytes) {
        match field? {
            (1, Value::Number(echo)) => pong.echo = echo,
            (2, Value::Number(tick)) => pong.tick = tick,
            (3, Value::Number(phase_us)) => pong.phase_us = phase_us as u32,
            (4, Value::Number(slip_us)) => pong.slip_us = slip_us as i64,
            _ => {}
        }
    }
    Ok(pong)
}

/// The fields of a message, one after the other; nothing below them is read.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), ScanError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or(ScanError))
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Bytes(self.take(8)?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((tag >> 3, value))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;
    use tickwire_proto::v1::{self as pb, server_message::Kind};

    use super::*;

    fn scan(kind: Kind) -> Message {
        server_message(&pb::ServerMessage { kind: Some(kind) }.encode_to_vec()).expect("it is one")
    }

    proptest! {
        #[test]
        fn the_header_of_a_snapshot_is_found_among_all_else(
            epoch: u32, tick: u64, slip_us: i64, margin_us: i32, deferred: Vec<u32>, hash: Option<u32>,
            changes: Vec<u32>, values: Vec<i32>
        ) {
            let kinds = vec![pb::KindUpdate { kind: 3, changes, ..pb::KindUpdate::default() }];
            let cell = pb::CellUpdate { cell: 9, kinds, hash, ..pb::CellUpdate::default() };
            let snapshot = pb::Snapshot {
                epoch,
                tick,
                slip_us,
                received_margin_us: margin_us,
                deferred_cells: deferred,
                owner: Some(pb::OwnerSection { values, ..pb::OwnerSection::default() }),
                roster: vec![pb::RosterRow { player: 7, name: "seven".into(), ..pb::RosterRow::default() }],
                cells: vec![cell.clone(), cell],
                ..pb::Snapshot::default()
            };
            let without = |clear: fn(&mut pb::Snapshot)| {
                let mut cleared = snapshot.clone();
                clear(&mut cleared);
                snapshot.encoded_len() - cleared.encoded_len()
            };
            let parts = Parts {
                all: snapshot.encoded_len(),
                owner: without(|snapshot| snapshot.owner = None),
                roster: without(|snapshot| snapshot.roster.clear()),
                cells: without(|snapshot| snapshot.cells.clear()),
                cell_updates: 2,
            };
            let header = Snapshot { epoch, tick, input_late: margin_us < 0, slip_us, parts };
            prop_assert_eq!(scan(Kind::Snapshot(snapshot)), Message::Snapshot(header));
        }

        #[test]
        fn a_pong_is_read_whole(echo: u64, tick: u64, phase_us: u32, slip_us: i64) {
            let pong = pb::Pong { echo, tick, phase_us, slip_us };
            prop_assert_eq!(scan(Kind::Pong(pong)), Message::Pong(Pong { echo, tick, phase_us, slip_us }));
        }

        #[test]
        fn no_bytes_are_too_wild(bytes: Vec<u8>) {
            // Whether they are a message does not matter; that it returns does.
            let _ = server_message(&bytes);
        }
    }

    #[test]
    fn the_rest_is_told_apart_no_further_than_it_matters() {
        assert_eq!(scan(Kind::Goodbye(pb::Goodbye::default())), Message::Goodbye);
        assert_eq!(scan(Kind::Welcome(pb::Welcome { tick: 5, ..pb::Welcome::default() })), Message::Other);
        assert_eq!(scan(Kind::Notice(pb::Notice::default())), Message::Other);
    }

    #[test]
    fn what_is_cut_is_an_error() {
        let message =
            pb::ServerMessage { kind: Some(Kind::Snapshot(pb::Snapshot { tick: 300, ..pb::Snapshot::default() })) };
        let bytes = message.encode_to_vec();
        for cut in 1..bytes.len() {
            assert_eq!(server_message(&bytes[..cut]), Err(ScanError), "{cut}");
        }
    }
}
