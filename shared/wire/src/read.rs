//! Reading the messages of the hot path where they lie: no values are made of them, and nothing is allocated.
//!
//! It takes what any protobuf encoder may write: fields in any order, packed lists in one piece, in several or unpacked,
//! fields that are not known.

use std::borrow::Cow;

use prost::encoding::encode_varint;

use crate::varint::unzigzag;

/// Bytes that are no protobuf message, or whose fields are of other types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}: not a protobuf message of that name")]
pub struct Malformed {
    message: &'static str,
}

/// A field's value as it lies in a message.
#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Varint(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
    /// Of a width that no field here has.
    Fixed64,
}

/// The fields of a message, as they come.
struct Fields<'a> {
    rest: &'a [u8],
    message: &'static str,
}

impl<'a> Fields<'a> {
    const fn of(rest: &'a [u8], message: &'static str) -> Self {
        Self { rest, message }
    }

    /// The bytes of the fields of one number, each of which is a message.
    fn messages(self, number: u32) -> impl Iterator<Item = Result<&'a [u8], Malformed>> {
        let message = self.message;
        self.filter_map(move |field| match field {
            Ok((found, _)) if found != number => None,
            Ok((_, Value::Bytes(bytes))) => Some(Ok(bytes)),
            Ok(_) => Some(Err(Malformed { message })),
            Err(error) => Some(Err(error)),
        })
    }

    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let key = u32::try_from(take_varint(&mut self.rest)?).ok()?;
        let value = match key & 7 {
            0 => Value::Varint(take_varint(&mut self.rest)?),
            1 => {
                self.rest.split_off(..8)?;
                Value::Fixed64
            }
            2 => {
                let length = usize::try_from(take_varint(&mut self.rest)?).ok()?;
                Value::Bytes(self.rest.split_off(..length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.rest.split_off(..4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((key >> 3, value)).filter(|(number, _)| *number > 0)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field().ok_or(Malformed { message: self.message });
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

#[inline]
fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        *bytes = rest;
        return Some(u64::from(first));
    }
    let mut number = u64::from(first & 0x7f);
    for (i, &byte) in rest.iter().enumerate().take(9) {
        number |= u64::from(byte & 0x7f) << (7 * (i + 1));
        if byte < 0x80 {
            *bytes = &rest[i + 1..];
            return Some(number);
        }
    }
    None
}

impl Value<'_> {
    fn number(self) -> Option<u64> {
        if let Self::Varint(number) = self { Some(number) } else { None }
    }

    /// Numbers beyond 32 bits lose what is above, as protobuf has it.
    fn number32(self) -> Option<u32> {
        self.number().map(|number| number as u32)
    }
}

/// A packed list of numbers, nearly always borrowed from its message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packed<'a>(Cow<'a, [u8]>);

impl<'a> Packed<'a> {
    fn take(&mut self, value: Value<'a>) -> Option<()> {
        match value {
            Value::Bytes(bytes) if self.0.is_empty() => self.0 = Cow::Borrowed(bytes),
            Value::Bytes(bytes) => self.0.to_mut().extend_from_slice(bytes),
            Value::Varint(number) => encode_varint(number, self.0.to_mut()),
            Value::Fixed32(_) | Value::Fixed64 => return None,
        }
        Some(())
    }

    pub(crate) fn numbers(&self) -> Numbers<'_> {
        Numbers { rest: &self.0 }
    }
}

/// The numbers of a packed list, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Numbers<'a> {
    rest: &'a [u8],
}

impl Numbers<'_> {
    /// The next number; `None` at the end, and where what follows is no number: ask [`is_empty`](Self::is_empty).
    #[inline]
    pub(crate) fn next(&mut self) -> Option<u32> {
        take_varint(&mut self.rest).map(|number| number as u32)
    }

    /// Whether all was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

/// A `Snapshot` as it lies in its message.
#[derive(Clone, Debug)]
pub struct SnapshotMessage<'a> {
    /// The session's epoch.
    pub epoch: u32,
    /// The snapshot's tick.
    pub tick: u64,
    /// The newest input sequence that a tick has consumed.
    pub consumed_input: u64,
    /// The newest input sequence that arrived.
    pub received_input: u64,
    /// By how much it was early, in µs; negative: late.
    pub received_margin_us: i32,
    /// How far the tick loop has slipped, in µs.
    pub slip_us: i64,
    /// Whether the stream starts anew.
    pub reset: bool,
    pub(crate) deferred_cells: Packed<'a>,
    pub(crate) dropped_cells: Packed<'a>,
    pub(crate) owner: Option<OwnerMessage<'a>>,
    body: &'a [u8],
}

const SNAPSHOT: &str = "Snapshot";

impl<'a> SnapshotMessage<'a> {
    /// The body of the `Snapshot` that a `ServerMessage` consists of; `None` where it is another message, or written in
    /// another way than is usual.
    #[must_use]
    pub fn within(server_message: &'a [u8]) -> Option<&'a [u8]> {
        // Field 2, with a length.
        const KEY: u8 = 2 << 3 | 2;
        let mut rest = server_message.strip_prefix(&[KEY])?;
        let length = take_varint(&mut rest)?;
        (rest.len() as u64 == length).then_some(rest)
    }

    /// Reads a snapshot's own fields. What it says of cells is read when it is applied.
    ///
    /// # Errors
    /// Where the bytes are no protobuf message of its kind.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut message = Self {
            epoch: 0,
            tick: 0,
            consumed_input: 0,
            received_input: 0,
            received_margin_us: 0,
            slip_us: 0,
            reset: false,
            deferred_cells: Packed::default(),
            dropped_cells: Packed::default(),
            owner: None,
            body,
        };
        let mut owner: Option<Packed<'a>> = None;
        for field in Fields::of(body, SNAPSHOT) {
            let (number, value) = field?;
            let mut take = || {
                match number {
                    1 => message.epoch = value.number32()?,
                    2 => message.tick = value.number()?,
                    3 => message.consumed_input = value.number()?,
                    4 => message.received_input = value.number()?,
                    5 => message.received_margin_us = unzigzag(value.number32()?),
                    6 => message.slip_us = value.number()? as i64,
                    7 => message.reset = value.number()? != 0,
                    8 => message.deferred_cells.take(value)?,
                    9 => message.dropped_cells.take(value)?,
                    // Of a message that comes twice the parts are merged, which is what joining their bytes does.
                    10 => owner.get_or_insert_default().take(value)?,
                    _ => {}
                }
                Some(())
            };
            take().ok_or(Malformed { message: SNAPSHOT })?;
        }
        message.owner = owner.map(|Packed(body)| OwnerMessage { body });
        Ok(message)
    }

    /// The bodies of its `RosterRow`s.
    pub(crate) fn roster(&self) -> impl Iterator<Item = Result<&'a [u8], Malformed>> + use<'a> {
        Fields::of(self.body, SNAPSHOT).messages(11)
    }

    /// The bodies of its `CellUpdate`s.
    pub(crate) fn cells(&self) -> impl Iterator<Item = Result<&'a [u8], Malformed>> + use<'a> {
        Fields::of(self.body, SNAPSHOT).messages(12)
    }
}

/// An `OwnerSection`, not read yet.
#[derive(Clone, Debug)]
pub(crate) struct OwnerMessage<'a> {
    body: Cow<'a, [u8]>,
}

/// An `OwnerSection` as it lies in its message.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnerParts<'a> {
    pub(crate) net_id: u32,
    pub(crate) kind: u32,
    pub(crate) base_age: Option<u32>,
    pub(crate) values: Packed<'a>,
    pub(crate) events: Packed<'a>,
    pub(crate) events_lost: u32,
}

impl OwnerMessage<'_> {
    pub(crate) fn read(&self) -> Result<OwnerParts<'_>, Malformed> {
        const OWNER: &str = "OwnerSection";
        let mut parts = OwnerParts::default();
        for field in Fields::of(&self.body, OWNER) {
            let (number, value) = field?;
            let mut take = || {
                match number {
                    1 => parts.net_id = value.number32()?,
                    2 => parts.kind = value.number32()?,
                    3 => parts.base_age = Some(value.number32()?),
                    4 => parts.values.take(value)?,
                    5 => parts.events.take(value)?,
                    6 => parts.events_lost = value.number32()?,
                    _ => {}
                }
                Some(())
            };
            take().ok_or(Malformed { message: OWNER })?;
        }
        Ok(parts)
    }
}

/// A `CellUpdate` as it lies in its message.
#[derive(Clone, Debug, Default)]
pub(crate) struct UpdateMessage<'a> {
    pub(crate) cell: u32,
    pub(crate) base_age: Option<u32>,
    pub(crate) events: Packed<'a>,
    pub(crate) events_lost: u32,
    pub(crate) hash: Option<u32>,
    pub(crate) tick_age: u32,
    pub(crate) slice: u32,
    pub(crate) slices: u32,
    body: &'a [u8],
}

const UPDATE: &str = "CellUpdate";

impl<'a> UpdateMessage<'a> {
    pub(crate) fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut message = Self { body, ..Self::default() };
        for field in Fields::of(body, UPDATE) {
            let (number, value) = field?;
            let mut take = || {
                match (number, value) {
                    (1, _) => message.cell = value.number32()?,
                    (2, _) => message.base_age = Some(value.number32()?),
                    (4, _) => message.events.take(value)?,
                    (5, _) => message.events_lost = value.number32()?,
                    (6, Value::Fixed32(hash)) => message.hash = Some(hash),
                    (6, _) => return None,
                    (7, _) => message.tick_age = value.number32()?,
                    (8, _) => message.slice = value.number32()?,
                    (9, _) => message.slices = value.number32()?,
                    _ => {}
                }
                Some(())
            };
            take().ok_or(Malformed { message: UPDATE })?;
        }
        Ok(message)
    }

    /// T − base tick; 0: from nothing.
    pub(crate) fn base_age(&self) -> u32 {
        self.base_age.unwrap_or(1)
    }

    pub(crate) fn kinds(&self) -> impl Iterator<Item = Result<KindMessage<'a>, Malformed>> + use<'a> {
        Fields::of(self.body, UPDATE).messages(3).map(|body| KindMessage::read(body?))
    }
}

/// A `KindUpdate` as it lies in its message.
#[derive(Clone, Debug, Default)]
pub(crate) struct KindMessage<'a> {
    pub(crate) kind: u32,
    pub(crate) despawned: Packed<'a>,
    pub(crate) left: Packed<'a>,
    pub(crate) arrivals: Packed<'a>,
    pub(crate) changes: Packed<'a>,
}

impl<'a> KindMessage<'a> {
    fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        const KIND: &str = "KindUpdate";
        let mut message = Self::default();
        for field in Fields::of(body, KIND) {
            let (number, value) = field?;
            let mut take = || {
                match number {
                    1 => message.kind = value.number32()?,
                    2 => message.despawned.take(value)?,
                    3 => message.left.take(value)?,
                    4 => message.arrivals.take(value)?,
                    5 => message.changes.take(value)?,
                    _ => {}
                }
                Some(())
            };
            take().ok_or(Malformed { message: KIND })?;
        }
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use prost::Message as _;
    use tickwire_proto::v1 as pb;

    use super::*;

    fn all(packed: &Packed<'_>) -> Vec<u32> {
        let mut numbers = packed.numbers();
        let all = std::iter::from_fn(|| numbers.next()).collect();
        assert!(numbers.is_empty());
        all
    }

    prop_compose! {
        fn kind_update()(
            kind in any::<u32>(), despawned in vec(any::<u32>(), 0..5), left in vec(0..200_u32, 0..5),
            arrivals in vec(any::<u32>(), 0..5), changes in vec(0..40_000_u32, 0..5)
        ) -> pb::KindUpdate {
            pb::KindUpdate { kind, despawned, left, arrivals, changes }
        }
    }

    prop_compose! {
        fn cell_update()(
            numbers in any::<[u32; 5]>(), base_age in any::<Option<u32>>(), hash in any::<Option<u32>>(),
            kinds in vec(kind_update(), 0..3), events in vec(any::<u32>(), 0..4)
        ) -> pb::CellUpdate {
            let [cell, events_lost, tick_age, slice, slices] = numbers;
            pb::CellUpdate { cell, base_age, kinds, events, events_lost, hash, tick_age, slice, slices }
        }
    }

    prop_compose! {
        fn owner()(
            numbers in any::<[u32; 3]>(), base_age in any::<Option<u32>>(), values in vec(any::<i32>(), 0..4),
            events in vec(any::<u32>(), 0..4)
        ) -> pb::OwnerSection {
            let [net_id, kind, events_lost] = numbers;
            pb::OwnerSection { net_id, kind, base_age, values, events, events_lost }
        }
    }

    prop_compose! {
        fn snapshot()(
            epoch in any::<u32>(), numbers in any::<[u64; 3]>(), received_margin_us in any::<i32>(), slip_us in any::<i64>(),
            reset in any::<bool>(), deferred_cells in vec(any::<u32>(), 0..4), dropped_cells in vec(any::<u32>(), 0..4),
            owner in proptest::option::of(owner()), cells in vec(cell_update(), 0..3)
        ) -> pb::Snapshot {
            let [tick, consumed_input, received_input] = numbers;
            let roster = vec![pb::RosterRow { player: epoch, name: "n".into(), ..pb::RosterRow::default() }];
            pb::Snapshot {
                epoch, tick, consumed_input, received_input, received_margin_us, slip_us, reset, deferred_cells,
                dropped_cells, owner, roster, cells,
            }
        }
    }

    /// The generated message of what was read.
    fn generated(message: &SnapshotMessage<'_>) -> Result<pb::Snapshot, Malformed> {
        let kind = |kind: KindMessage<'_>| pb::KindUpdate {
            kind: kind.kind,
            despawned: all(&kind.despawned),
            left: all(&kind.left),
            arrivals: all(&kind.arrivals),
            changes: all(&kind.changes),
        };
        let cell = |body: Result<_, _>| {
            let update = UpdateMessage::read(body?)?;
            Ok(pb::CellUpdate {
                cell: update.cell,
                base_age: update.base_age,
                kinds: update.kinds().map(|update| update.map(kind)).collect::<Result<_, _>>()?,
                events: all(&update.events),
                events_lost: update.events_lost,
                hash: update.hash,
                tick_age: update.tick_age,
                slice: update.slice,
                slices: update.slices,
            })
        };
        let owner = match &message.owner {
            None => None,
            Some(owner) => {
                let parts = owner.read()?;
                Some(pb::OwnerSection {
                    net_id: parts.net_id,
                    kind: parts.kind,
                    base_age: parts.base_age,
                    values: all(&parts.values).into_iter().map(unzigzag).collect(),
                    events: all(&parts.events),
                    events_lost: parts.events_lost,
                })
            }
        };
        Ok(pb::Snapshot {
            epoch: message.epoch,
            tick: message.tick,
            consumed_input: message.consumed_input,
            received_input: message.received_input,
            received_margin_us: message.received_margin_us,
            slip_us: message.slip_us,
            reset: message.reset,
            deferred_cells: all(&message.deferred_cells),
            dropped_cells: all(&message.dropped_cells),
            owner,
            roster: message
                .roster()
                .map(|row| Ok(pb::RosterRow::decode(row?).expect("encoded")))
                .collect::<Result<_, _>>()?,
            cells: message.cells().map(cell).collect::<Result<_, _>>()?,
        })
    }

    proptest! {
        #[test]
        fn what_is_read_in_place_is_what_the_generated_types_read(snapshot in snapshot()) {
            let bytes = snapshot.encode_to_vec();
            let message = SnapshotMessage::read(&bytes).expect("an ordinary message");
            prop_assert_eq!(generated(&message), Ok(snapshot.clone()));

            let whole = pb::ServerMessage { kind: Some(pb::server_message::Kind::Snapshot(snapshot)) }.encode_to_vec();
            prop_assert_eq!(SnapshotMessage::within(&whole), Some(bytes.as_slice()));
        }

        #[test]
        fn a_message_in_two_parts_is_read_as_one(first in snapshot(), second in snapshot()) {
            let bytes = [first.encode_to_vec(), second.encode_to_vec()].concat();
            let merged = pb::Snapshot::decode(bytes.as_slice()).expect("messages concatenate");
            let message = SnapshotMessage::read(&bytes).expect("an ordinary message");
            prop_assert_eq!(generated(&message), Ok(merged));
        }

        #[test]
        fn hostile_bytes_never_panic(snapshot in snapshot(), at in any::<prop::sample::Index>(), flip in any::<u8>()) {
            let mut bytes = snapshot.encode_to_vec();
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] ^= flip;
                let Ok(message) = SnapshotMessage::read(&bytes) else { return Ok(()) };
                for update in message.cells().flatten().filter_map(|body| UpdateMessage::read(body).ok()) {
                    let read = update.kinds().flatten().filter_map(|kind| kind.changes.numbers().next()).count();
                    prop_assert!(read <= bytes.len());
                }
            }
        }
    }

    #[test]
    fn lists_are_read_packed_in_pieces_and_unpacked() {
        // changes: packed [1, 2], then 300 unpacked, then packed [4].
        let bytes = [0x2a, 2, 1, 2, 0x28, 0xac, 0x02, 0x2a, 1, 4];
        let kind = KindMessage::read(&bytes).expect("any encoder may write so");
        assert_eq!(all(&kind.changes), [1, 2, 300, 4]);
    }

    #[test]
    fn unknown_fields_are_skipped_and_other_types_refused() {
        // Fields 100 to 102 of three types, then kind: 7.
        let unknown = [0xa0, 0x06, 1, 0xad, 0x06, 0, 0, 0, 0, 0xb1, 0x06, 0, 0, 0, 0, 0, 0, 0, 0, 0x08, 7];
        assert_eq!(KindMessage::read(&unknown).map(|kind| kind.kind), Ok(7));
        let malformed = [&[0x0a_u8, 1, 7][..], &[0x08], &[0x2a, 9, 1], &[0x2d, 0, 0, 0, 0], &[0x0b], &[0x00, 1]];
        for bytes in malformed {
            assert_eq!(KindMessage::read(bytes).err(), Some(Malformed { message: "KindUpdate" }), "{bytes:?}");
        }
        assert_eq!(SnapshotMessage::within(&[0x12, 2, 8]), None);
        assert_eq!(SnapshotMessage::within(&[0x1a, 0]), None);
    }
}
