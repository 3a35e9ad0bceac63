//! Reads the one message that comes all the time, inputs, without the detours of a general decoder. Whatever is not
//! written as clients write it is left to that one.

use prost::encoding::decode_varint;
use smallvec::SmallVec;
use tickwire_proto::v1 as pb;
use tickwire_simulation::InputValues;

/// The key of `ClientMessage.inputs`, and those of the fields in it: number and wire type.
const INPUTS: u64 = 2 << 3 | 2;
const INPUTS_EPOCH: u64 = 1 << 3;
const INPUTS_NEWEST_TICK: u64 = 2 << 3;
const INPUTS_INPUT: u64 = 3 << 3 | 2;
const INPUT_SEQUENCE: u64 = 1 << 3;
const INPUT_TARGET_TICK: u64 = 2 << 3;
const INPUT_VALUES: u64 = 3 << 3 | 2;
const INPUT_SEEN_TICK: u64 = 4 << 3;
const INPUT_SEEN_FRACTION: u64 = 5 << 3;

/// Inputs as they stand on the wire, in place: what comes most of all is not to cost a trip to the heap.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RawInputs {
    pub(super) epoch: u32,
    pub(super) newest_tick: u64,
    pub(super) inputs: SmallVec<[RawInput; 1]>,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RawInput {
    pub(super) sequence: u64,
    pub(super) target_tick: u64,
    pub(super) values: InputValues,
    pub(super) seen_tick: u64,
    pub(super) seen_fraction: u32,
}

impl From<pb::Inputs> for RawInputs {
    fn from(pb::Inputs { epoch, newest_tick, inputs }: pb::Inputs) -> Self {
        let raw = |pb::Input { sequence, target_tick, values, seen_tick, seen_fraction }| RawInput {
            sequence,
            target_tick,
            values: values.into(),
            seen_tick,
            seen_fraction,
        };
        Self { epoch, newest_tick, inputs: inputs.into_iter().map(raw).collect() }
    }
}

/// What a whole `ClientMessage` of inputs says. `None`: it says something else, or in another way.
pub(super) fn read(mut message: &[u8]) -> Option<RawInputs> {
    if varint(&mut message)? != INPUTS {
        return None;
    }
    let mut fields = delimited(&mut message)?;
    if !message.is_empty() {
        return None;
    }
    let mut inputs = RawInputs::default();
    while !fields.is_empty() {
        match varint(&mut fields)? {
            INPUTS_EPOCH => inputs.epoch = varint(&mut fields)?.try_into().ok()?,
            INPUTS_NEWEST_TICK => inputs.newest_tick = varint(&mut fields)?,
            INPUTS_INPUT => inputs.inputs.push(input(delimited(&mut fields)?)?),
            _ => return None,
        }
    }
    Some(inputs)
}

fn input(mut fields: &[u8]) -> Option<RawInput> {
    let mut input = RawInput::default();
    while !fields.is_empty() {
        match varint(&mut fields)? {
            INPUT_SEQUENCE => input.sequence = varint(&mut fields)?,
            INPUT_TARGET_TICK => input.target_tick = varint(&mut fields)?,
            INPUT_SEEN_TICK => input.seen_tick = varint(&mut fields)?,
            INPUT_SEEN_FRACTION => input.seen_fraction = varint(&mut fields)?.try_into().ok()?,
            INPUT_VALUES => {
                let mut values = delimited(&mut fields)?;
                while !values.is_empty() {
                    let value: u32 = varint(&mut values)?.try_into().ok()?;
                    input.values.push((value >> 1) as i32 ^ -((value & 1) as i32));
                }
            }
            _ => return None,
        }
    }
    Some(input)
}

#[inline]
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    match **bytes {
        [byte @ 0..0x80, ref rest @ ..] => {
            *bytes = rest;
            Some(byte.into())
        }
        // Sequences and ticks, for the first minutes and for hours.
        [low, high @ 0..0x80, ref rest @ ..] => {
            *bytes = rest;
            Some(u64::from(high) << 7 | u64::from(low & 0x7f))
        }
        [low, middle, high @ 0..0x80, ref rest @ ..] => {
            *bytes = rest;
            Some(u64::from(high) << 14 | u64::from(middle & 0x7f) << 7 | u64::from(low & 0x7f))
        }
        _ => decode_varint(bytes).ok(),
    }
}

fn delimited<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint(bytes)?).ok()?;
    bytes.split_off(..length)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use prost::Message as _;

    use super::*;

    fn by_prost(bytes: &[u8]) -> Option<pb::Inputs> {
        match pb::ClientMessage::decode(bytes).ok()?.kind? {
            pb::client_message::Kind::Inputs(inputs) => Some(inputs),
            _ => None,
        }
    }

    fn inputs() -> impl Strategy<Value = pb::Inputs> {
        let input = (any::<u64>(), 0..1000_u64, vec(any::<i32>(), 0..8), 0..1000_u64, any::<u32>()).prop_map(
            |(sequence, target_tick, values, seen_tick, seen_fraction)| pb::Input {
                sequence,
                target_tick,
                values,
                seen_tick,
                seen_fraction,
            },
        );
        (any::<u32>(), any::<u64>(), vec(input, 0..5)).prop_map(|(epoch, newest_tick, inputs)| pb::Inputs {
            epoch,
            newest_tick,
            inputs,
        })
    }

    fn message(inputs: pb::Inputs) -> Vec<u8> {
        pb::ClientMessage { kind: Some(pb::client_message::Kind::Inputs(inputs)) }.encode_to_vec()
    }

    proptest! {
        #[test]
        fn what_clients_write_is_read(inputs in inputs()) {
            prop_assert_eq!(read(&message(inputs.clone())), Some(inputs.into()));
        }

        #[test]
        fn what_is_read_is_what_the_general_decoder_reads(
            inputs in inputs(),
            changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in any::<prop::sample::Index>(),
            rest in vec(any::<u8>(), 0..12),
        ) {
            let mut bytes = message(inputs);
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            bytes.extend(rest);
            if let Some(inputs) = read(&bytes) {
                prop_assert_eq!(by_prost(&bytes).map(RawInputs::from), Some(inputs));
            }
        }
    }

    #[test]
    fn other_messages_and_other_ways_to_write_them_are_left_alone() {
        let ack = pb::ClientMessage { kind: Some(pb::client_message::Kind::Ack(pb::Ack { epoch: 0, newest_tick: 7 })) };
        assert_eq!(read(&ack.encode_to_vec()), None);
        assert_eq!(read(&[]), None);
        // Values one by one, as proto2 wrote them; a field that is not known; and two messages in one, which add up.
        for bytes in [[0x12, 4, 0x1a, 2, 0x18, 2].as_slice(), &[0x12, 2, 0x20, 1], &[0x12, 2, 8, 1, 0x12, 2, 0x10, 5]] {
            assert!(by_prost(bytes).is_some());
            assert_eq!(read(bytes), None);
        }
    }
}
