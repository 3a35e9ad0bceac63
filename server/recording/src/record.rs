//! A tick's two records, and what stands between ticks, as values and as messages with a checksum.

use std::time::SystemTime;

use prost::{
    Message,
    encoding::{self, WireType},
};
use tickwire_proto::v1 as pb;
use tickwire_shared::{Audience, Event, EventId, PlayerId, Provenance, Schema, Seen, Tick, TruthDelta};
use tickwire_simulation::{SeatChange, SeatInput, TickInput, TickResult};

use crate::truth;

/// What is recorded of a tick's outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordedResult {
    /// The tick.
    pub tick: Tick,
    /// The truth at field quanta, and all hidden state, in one number.
    pub state_hash: u64,
    /// How the truth changed since the tick before.
    pub truth: TruthDelta,
    /// In order of ordinal.
    pub events: Vec<RecordedEvent>,
}

/// An event as it is recorded: without its place, which only the game knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Its place in the schema.
    pub kind: EventId,
    /// Its place among all events of its tick.
    pub ordinal: u32,
    /// The player that it was for; `None`: all who see it.
    pub player: Option<PlayerId>,
    /// One value per field, in quanta.
    pub values: Vec<i32>,
}

impl From<TickResult> for RecordedResult {
    fn from(TickResult { tick, state_hash, truth, events }: TickResult) -> Self {
        Self { tick, state_hash, truth, events: events.into_iter().map(Into::into).collect() }
    }
}

impl From<(Audience, Event)> for RecordedEvent {
    fn from((audience, Event { kind, ordinal, values }): (Audience, Event)) -> Self {
        Self { kind, ordinal, player: recipient(&audience), values }
    }
}

/// Whether a result is the recorded one.
impl PartialEq<TickResult> for RecordedResult {
    fn eq(&self, result: &TickResult) -> bool {
        let event = |(recorded, (audience, event)): (&RecordedEvent, &(Audience, Event))| {
            recorded.kind == event.kind
                && recorded.ordinal == event.ordinal
                && recorded.player == recipient(audience)
                && recorded.values == event.values
        };
        self.tick == result.tick
            && self.state_hash == result.state_hash
            && self.truth == result.truth
            && self.events.len() == result.events.len()
            && self.events.iter().zip(&result.events).all(event)
    }
}

fn recipient(audience: &Audience) -> Option<PlayerId> {
    match audience {
        Audience::Player(player) => Some(*player),
        Audience::At(_) => None,
    }
}

/// Ticks without input, change or event, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IdleTicks {
    pub(crate) first: Tick,
    pub(crate) last: Tick,
    pub(crate) state_hash: u64,
}

impl IdleTicks {
    /// The most of one record.
    pub(crate) const MAX: u64 = 1 << 20;

    /// Whether a tick may be one of them, by what it consumes.
    pub(crate) fn may_have(TickInput { tick: _, seat_changes, inputs }: &TickInput) -> bool {
        seat_changes.is_empty() && inputs.is_empty()
    }

    /// Of one tick, by what came out of it.
    pub(crate) fn of(TickResult { tick, state_hash, truth, events }: &TickResult) -> Option<Self> {
        let is_idle = truth.kinds.is_empty() && events.is_empty();
        is_idle.then_some(Self { first: *tick, last: *tick, state_hash: *state_hash })
    }

    /// With the one that comes next.
    pub(crate) fn and(self, next: Self) -> Option<Self> {
        let follows = next.first == self.last.next() && next.state_hash == self.state_hash && self.count() < Self::MAX;
        follows.then_some(Self { last: next.last, ..self })
    }

    /// How many. Those of a file are at least one.
    pub(crate) fn count(&self) -> u64 {
        self.last.since(self.first) + 1
    }

    /// Always of the same length, whatever the last one.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { first, last, state_hash } = *self;
        with_checksum(&pb::IdleTicks { first: first.0, last: last.0, state_hash, crc32: 0 })
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let pb::IdleTicks { first, last, state_hash, .. } = checked(bytes)?;
        match last.checked_sub(first) {
            Some(more) if more < Self::MAX => Ok(Self { first: Tick(first), last: Tick(last), state_hash }),
            _ => Err(format!("idle ticks from {first} to {last}")),
        }
    }

    /// What one of them would stand as by itself.
    pub(crate) fn tick(&self, tick: Tick) -> (TickInput, RecordedResult) {
        let input = TickInput { tick, ..TickInput::default() };
        (input, RecordedResult { tick, state_hash: self.state_hash, ..RecordedResult::default() })
    }
}

/// A place in a recording at which a server was killed, and another one went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The last tick before.
    pub tick: Tick,
    /// The session's epoch from there on.
    pub epoch: u32,
    /// When that was.
    pub time: SystemTime,
}

impl Recovered {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { tick, epoch, time } = *self;
        with_checksum(&pb::Recovered { tick: tick.0, epoch, time: Some(time.into()), crc32: 0 })
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let pb::Recovered { tick, epoch, time, .. } = checked(bytes)?;
        let time = SystemTime::try_from(time.unwrap_or_default()).map_err(|error| format!("time: {error}"))?;
        Ok(Self { tick: Tick(tick), epoch, time })
    }
}

/// By which tokens a player comes back to their seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatToken {
    /// Whose seat.
    pub player: PlayerId,
    /// The newest token.
    pub newest: TokenKey,
    /// The one before, as long as it is good.
    pub previous: Option<TokenKey>,
}

/// What a server keeps of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenKey {
    /// By which it is looked up.
    pub id: u64,
    /// SHA-256 of the whole token.
    pub hash: [u8; 32],
}

impl SeatToken {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let key = |TokenKey { id, hash }: TokenKey| pb::TokenKey { id, hash: hash.to_vec() };
        let Self { player, newest, previous } = *self;
        with_checksum(&pb::SeatToken {
            player: player.0,
            newest: Some(key(newest)),
            previous: previous.map(key),
            crc32: 0,
        })
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let pb::SeatToken { player, newest, previous, .. } = checked(bytes)?;
        let key = |field: &'static str, pb::TokenKey { id, hash }| match hash.try_into() {
            Ok(hash) => Ok(TokenKey { id, hash }),
            Err(hash) => Err(format!("{field}.hash: {} bytes instead of 32", Vec::len(&hash))),
        };
        Ok(Self {
            player: PlayerId(player),
            newest: key("newest", newest.ok_or("newest: missing")?)?,
            previous: previous.map(|previous| key("previous", previous)).transpose()?,
        })
    }
}

pub(crate) fn encode_input(input: &TickInput) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + input.inputs.len() * SEAT_INPUT_BYTES);
    if input.tick.0 != 0 {
        encoding::uint64::encode(1, &input.tick.0, &mut bytes);
    }
    for change in &input.seat_changes {
        let (kind, name) = match change {
            SeatChange::Joined { name, .. } => (pb::SeatChangeKind::Joined, name.to_string()),
            SeatChange::Disconnected { .. } => (pb::SeatChangeKind::Disconnected, String::new()),
            SeatChange::Reconnected { .. } => (pb::SeatChangeKind::Reconnected, String::new()),
            SeatChange::Left { .. } => (pb::SeatChangeKind::Left, String::new()),
        };
        let change = pb::SeatChange { player: change.player().0, kind: kind as i32, name };
        encoding::message::encode(2, &change, &mut bytes);
    }
    // Without a message for each: there may be a thousand at each tick.
    for input in &input.inputs {
        encode_seat_input(3, input, &mut bytes);
    }
    checksummed(bytes)
}

/// About what a seat's fresh input takes.
const SEAT_INPUT_BYTES: usize = 40;

/// A `pb::SeatInput`, as the field `tag` of another message.
fn encode_seat_input(tag: u32, input: &SeatInput, bytes: &mut Vec<u8>) {
    use encoding::{int32, sint32, uint32, uint64};
    let SeatInput { player, provenance, sequence, values, seen } = input;
    let provenance = match provenance {
        Provenance::Absent => pb::Provenance::Unspecified,
        Provenance::Fresh => pb::Provenance::Fresh,
        Provenance::Repeated => pb::Provenance::Repeated,
    } as i32;
    let (seen_tick, seen_fraction) = Seen::to_wire(*seen);
    let (has_player, has_provenance, has_sequence) = (player.0 != 0, provenance != 0, *sequence != 0);
    let (has_seen_tick, has_seen_fraction) = (seen_tick != 0, seen_fraction != 0);
    let length = usize::from(has_player) * uint32::encoded_len(1, &player.0)
        + usize::from(has_provenance) * int32::encoded_len(2, &provenance)
        + usize::from(has_sequence) * uint64::encoded_len(3, sequence)
        + sint32::encoded_len_packed(4, values)
        + usize::from(has_seen_tick) * uint64::encoded_len(5, &seen_tick)
        + usize::from(has_seen_fraction) * uint32::encoded_len(6, &seen_fraction);
    encoding::encode_key(tag, WireType::LengthDelimited, bytes);
    encoding::encode_varint(length as u64, bytes);
    if has_player {
        uint32::encode(1, &player.0, bytes);
    }
    if has_provenance {
        int32::encode(2, &provenance, bytes);
    }
    if has_sequence {
        uint64::encode(3, sequence, bytes);
    }
    sint32::encode_packed(4, values, bytes);
    if has_seen_tick {
        uint64::encode(5, &seen_tick, bytes);
    }
    if has_seen_fraction {
        uint32::encode(6, &seen_fraction, bytes);
    }
}

pub(crate) fn decode_input(bytes: &[u8]) -> Result<TickInput, String> {
    let message: pb::TickInput = checked(bytes)?;
    let seat_change = |change: pb::SeatChange| {
        let player = PlayerId(change.player);
        Ok(match change.kind() {
            pb::SeatChangeKind::Unspecified => return Err(format!("seat_changes.kind: {} is unknown", change.kind)),
            pb::SeatChangeKind::Joined => SeatChange::Joined { player, name: change.name.into() },
            pb::SeatChangeKind::Disconnected => SeatChange::Disconnected { player },
            pb::SeatChangeKind::Reconnected => SeatChange::Reconnected { player },
            pb::SeatChangeKind::Left => SeatChange::Left { player },
        })
    };
    let seat_input = |input: pb::SeatInput| {
        let provenance = match pb::Provenance::try_from(input.provenance) {
            Ok(pb::Provenance::Unspecified) => Provenance::Absent,
            Ok(pb::Provenance::Fresh) => Provenance::Fresh,
            Ok(pb::Provenance::Repeated) => Provenance::Repeated,
            Err(_) => return Err(format!("inputs.provenance: {} is unknown", input.provenance)),
        };
        let seen = Seen::parse(input.seen_tick, input.seen_fraction).map_err(|error| format!("inputs.{error}"))?;
        let (player, sequence, values) = (PlayerId(input.player), input.sequence, input.values);
        Ok(SeatInput { player, provenance, sequence, values, seen })
    };
    Ok(TickInput {
        tick: Tick(message.tick),
        seat_changes: message.seat_changes.into_iter().map(seat_change).collect::<Result<_, _>>()?,
        inputs: message.inputs.into_iter().map(seat_input).collect::<Result<_, _>>()?,
    })
}

pub(crate) fn encode_result(result: &RecordedResult) -> Vec<u8> {
    let event = |event: &RecordedEvent| pb::RecordedEvent {
        kind: event.kind.0.into(),
        ordinal: event.ordinal,
        player: event.player.map_or(0, |player| player.0),
        values: event.values.clone(),
    };
    with_checksum(&pb::TickResult {
        tick: result.tick.0,
        state_hash: result.state_hash,
        truth: truth::encode(&result.truth),
        events: result.events.iter().map(event).collect(),
        crc32: 0,
    })
}

pub(crate) fn decode_result(schema: &Schema, bytes: &[u8]) -> Result<RecordedResult, String> {
    let message: pb::TickResult = checked(bytes)?;
    let event = |event: pb::RecordedEvent| {
        let id = u16::try_from(event.kind).ok().map(EventId);
        let found = id.and_then(|id| Some((id, schema.event(id)?)));
        let (kind, definition) = found.ok_or_else(|| format!("events.kind: {} is not in the schema", event.kind))?;
        if event.values.len() != definition.fields.len() {
            return Err(format!("event {} has {} values", definition.name, event.values.len()));
        }
        let player = Some(PlayerId(event.player)).filter(|player| player.0 != 0);
        Ok(RecordedEvent { kind, ordinal: event.ordinal, player, values: event.values })
    };
    Ok(RecordedResult {
        tick: Tick(message.tick),
        state_hash: message.state_hash,
        truth: truth::decode(schema, &message.truth)?,
        events: message.events.into_iter().map(event).collect::<Result<_, _>>()?,
    })
}

/// The tag of a record's `fixed32 crc32 = 15`, its last field.
const CHECKSUM_TAG: u8 = 15 << 3 | 5;
const CHECKSUM_BYTES: usize = 5;

/// The message, whose checksum field is not set, with the checksum of all that stands before it.
pub(crate) fn with_checksum(message: &impl Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.encoded_len() + CHECKSUM_BYTES);
    message.encode(&mut bytes).expect("a Vec takes any number of bytes");
    checksummed(bytes)
}

/// A message's bytes with the field that checks them.
fn checksummed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc32 = crc32fast::hash(&bytes);
    bytes.push(CHECKSUM_TAG);
    bytes.extend_from_slice(&crc32.to_le_bytes());
    bytes
}

/// A message whose checksum is right. It is decoded only then: no accident of a disk gets any further.
pub(crate) fn checked<M: Message + Default>(bytes: &[u8]) -> Result<M, String> {
    check(bytes)?;
    M::decode(bytes).map_err(|error| error.to_string())
}

pub(crate) fn check(bytes: &[u8]) -> Result<(), String> {
    // Other writers leave out a checksum that happens to be 0, as protobuf does with fields.
    let (message, recorded) = match bytes.split_last_chunk::<5>() {
        Some((message, [CHECKSUM_TAG, crc32 @ ..])) => (message, u32::from_le_bytes(*crc32)),
        _ => (bytes, 0),
    };
    let computed = crc32fast::hash(message);
    if computed == recorded {
        return Ok(());
    }
    Err(format!("the checksum is {recorded:08x}, that of the bytes {computed:08x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input() -> TickInput {
        let player = PlayerId(3);
        TickInput {
            tick: Tick(7),
            seat_changes: vec![
                SeatChange::Left { player: PlayerId(1) },
                SeatChange::Disconnected { player: PlayerId(2) },
                SeatChange::Joined { player, name: "Ada".into() },
                SeatChange::Reconnected { player: PlayerId(4) },
            ],
            inputs: vec![
                SeatInput::without(PlayerId(2), Provenance::Repeated),
                SeatInput {
                    player,
                    provenance: Provenance::Fresh,
                    sequence: 300,
                    values: vec![-5, 0, i32::MAX],
                    seen: Some(Seen { tick: Tick::MAX, fraction: 255 }),
                },
                SeatInput::without(PlayerId(4), Provenance::Absent),
            ],
        }
    }

    #[test]
    fn an_input_survives_the_way_there_and_back() {
        assert_eq!(decode_input(&encode_input(&input())), Ok(input()));
        assert_eq!(decode_input(&encode_input(&TickInput::default())), Ok(TickInput::default()));
    }

    #[test]
    fn the_checksum_is_that_of_the_message_without_it() {
        let bytes = encode_input(&input());
        let message = pb::TickInput::decode(bytes.as_slice()).expect("a message");
        let crc32 = message.crc32;
        assert_eq!(crc32, crc32fast::hash(&pb::TickInput { crc32: 0, ..message }.encode_to_vec()));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let bytes = encode_input(&input());
        for i in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[i] ^= 1;
            assert!(decode_input(&broken).is_err(), "byte {i}");
        }
    }

    #[test]
    fn idle_ticks_are_as_long_whatever_the_last_and_every_changed_byte_is_noticed() {
        let one = IdleTicks { first: Tick(7), last: Tick(7), state_hash: 9 };
        let bytes = one.encode();
        assert_eq!((IdleTicks::decode(&bytes), one.count()), (Ok(one), 1));
        let next = |tick| IdleTicks { first: Tick(tick), last: Tick(tick), ..one };
        let more = one.and(next(8)).expect("it follows");
        assert_eq!((more.last, more.count(), more.encode().len()), (Tick(8), 2, bytes.len()));
        assert_eq!(more.and(next(10)), None);
        assert_eq!(more.and(IdleTicks { state_hash: 1, ..next(9) }), None);
        for i in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[i] ^= 1;
            assert!(IdleTicks::decode(&broken).is_err(), "byte {i}");
        }
    }

    #[test]
    fn idle_ticks_that_run_backwards_or_for_too_long_are_refused() {
        let longest = IdleTicks { first: Tick(7), last: Tick(7 + IdleTicks::MAX - 1), state_hash: 0 };
        assert_eq!(IdleTicks::decode(&longest.encode()), Ok(longest));
        let next = longest.last.next();
        assert_eq!(longest.and(IdleTicks { first: next, last: next, state_hash: 0 }), None);
        for last in [0, 6, 7 + IdleTicks::MAX, u64::MAX] {
            let wrong = IdleTicks { last: Tick(last), ..longest };
            assert_eq!(IdleTicks::decode(&wrong.encode()), Err(format!("idle ticks from 7 to {last}")));
        }
    }

    #[test]
    fn a_seats_tokens_survive_the_way_there_and_back_or_say_what_is_wrong() {
        let key = |id| TokenKey { id, hash: [7; 32] };
        for previous in [None, Some(key(1))] {
            let token = SeatToken { player: PlayerId(3), newest: key(u64::MAX), previous };
            assert_eq!(SeatToken::decode(&token.encode()), Ok(token));
        }
        let error = |newest| SeatToken::decode(&with_checksum(&pb::SeatToken { newest, ..pb::SeatToken::default() }));
        assert_eq!(error(None), Err("newest: missing".into()));
        let short = pb::TokenKey { id: 1, hash: vec![0; 31] };
        assert_eq!(error(Some(short)), Err("newest.hash: 31 bytes instead of 32".into()));
    }

    #[test]
    fn a_message_without_checksum_is_one_whose_checksum_is_zero() {
        assert_eq!(crc32fast::hash(&[]), 0);
        assert_eq!(decode_input(&[]), Ok(TickInput::default()));
        assert!(decode_input(&pb::TickInput { tick: 1, ..pb::TickInput::default() }.encode_to_vec()).is_err());
    }

    #[test]
    fn unknown_numbers_are_named() {
        let change = pb::SeatChange { kind: 9, ..pb::SeatChange::default() };
        let message = pb::TickInput { seat_changes: vec![change], ..pb::TickInput::default() };
        assert_eq!(decode_input(&with_checksum(&message)), Err("seat_changes.kind: 9 is unknown".into()));
        let input = pb::SeatInput { seen_fraction: 256, ..pb::SeatInput::default() };
        let message = pb::TickInput { inputs: vec![input], ..pb::TickInput::default() };
        assert!(
            decode_input(&with_checksum(&message)).is_err_and(|error| error.starts_with("inputs.seen_fraction: 256"))
        );
        let input = pb::SeatInput { provenance: -1, ..pb::SeatInput::default() };
        let message = pb::TickInput { inputs: vec![input], ..pb::TickInput::default() };
        assert_eq!(decode_input(&with_checksum(&message)), Err("inputs.provenance: -1 is unknown".into()));
    }
}
