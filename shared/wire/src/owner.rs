//! The owner section: the player's own entity, exactly, by plain differences against the stream's last snapshot.

mod account;

use tickwire_proto::v1 as pb;
use tickwire_shared::{Event, KindId, NetId, OwnerRow, Schema, Tick};

pub use self::account::OwnerAccount;
use crate::{
    chunk::{ReceivedEvent, read_events, write_newest},
    read::{Numbers, OwnerParts},
    varint::unzigzag,
};

/// The player's own entity as the client holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerState {
    /// The entity.
    pub net_id: NetId,
    /// Its kind.
    pub kind: KindId,
    /// Every field of the kind, in quanta of `quantum / 2^owner_shift`.
    pub values: Vec<i32>,
}

impl OwnerState {
    /// As cloning it, in the room that is there.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        (self.net_id, self.kind) = (other.net_id, other.kind);
        self.values.clone_from(&other.values);
    }
}

/// What a stream's last snapshot said of the owner, on the server's side.
#[derive(Clone, Debug, Default)]
pub struct OwnerBase {
    /// Of the last snapshot, where there was one.
    tick: Option<Tick>,
    state: Option<OwnerState>,
}

impl OwnerBase {
    /// Encodes the section of the snapshot of `tick` into `section`, whatever that held, and takes it as the next one's
    /// base. False: all is as before, and the section is to be left out. Buffers that have grown are used again.
    ///
    /// `events` are the owner's of (last snapshot, tick], oldest first, or of `tick` alone in a stream's first. The newest
    /// that take no more than `event_bytes_max` are kept; the others count as lost, like the `events_lost`.
    pub fn encode<'a>(
        &mut self,
        row: Option<&OwnerRow>,
        events: impl Iterator<Item = (Tick, &'a Event)> + Clone,
        events_lost: u32,
        event_bytes_max: usize,
        tick: Tick,
        section: &mut pb::OwnerSection,
    ) -> bool {
        let (mut values, mut numbers) = (std::mem::take(&mut section.values), std::mem::take(&mut section.events));
        values.clear();
        let left_out = write_newest(events, tick, event_bytes_max, &mut numbers);
        let events_lost = events_lost.saturating_add(left_out);
        *section = pb::OwnerSection { values, events: numbers, events_lost, ..pb::OwnerSection::default() };
        let is_silent = section.events.is_empty() && events_lost == 0;
        let base_tick = self.tick.replace(tick);
        match (&mut self.state, row) {
            (Some(base), Some(row)) if base.net_id == row.net_id => {
                let base_tick = base_tick.expect("what was sent was sent at a tick");
                let age = tick.since(base_tick) as u32;
                section.base_age = (age != 1).then_some(age);
                let mut mask = 0;
                section.values.push(mask);
                for (i, (held, &value)) in base.values.iter_mut().zip(row.values.iter()).enumerate() {
                    if *held != value {
                        mask |= 1 << i;
                        section.values.push(value.wrapping_sub(*held));
                        *held = value;
                    }
                }
                match mask {
                    0 => section.values.clear(),
                    mask => section.values[0] = mask,
                }
                mask != 0 || !is_silent
            }
            (None, None) => {
                section.base_age = Some(0);
                base_tick.is_none() || !is_silent
            }
            (state, row) => {
                *state = row.map(|row| OwnerState { net_id: row.net_id, kind: row.kind, values: row.values.to_vec() });
                section.base_age = Some(0);
                if let Some(row) = row {
                    section.net_id = row.net_id.0;
                    section.kind = u32::from(row.kind.0);
                    section.values.extend_from_slice(&row.values);
                }
                true
            }
        }
    }
}

/// What a stream's last snapshot said of the owner, on the client's side.
#[derive(Debug, Default)]
pub(crate) struct OwnerMirror {
    tick: Tick,
    state: Option<OwnerState>,
}

impl OwnerMirror {
    pub(crate) fn state(&self) -> Option<&OwnerState> {
        self.state.as_ref()
    }

    /// Takes in the section of the snapshot of `tick`, where it has one. The events in it.
    pub(crate) fn apply(
        &mut self,
        schema: &Schema,
        section: Option<&OwnerParts<'_>>,
        tick: Tick,
    ) -> Result<Vec<ReceivedEvent>, &'static str> {
        let base = std::mem::replace(&mut self.tick, tick);
        let Some(section) = section else { return Ok(Vec::new()) };
        let base_age = section.base_age.unwrap_or(1);
        let mut values = section.values.numbers();
        if base_age == 0 {
            self.state = Self::whole(schema, section, &mut values)?;
        } else {
            let state = self.state.as_mut().ok_or("differences without a base")?;
            if tick.since(base) != u64::from(base_age) {
                return Err("base_age: not the stream's last snapshot");
            }
            let mask = values.next().map_or(0, unzigzag);
            for i in (0..32).filter(|i| mask & (1 << i) != 0) {
                let value = state.values.get_mut(i).ok_or("values: a mask with a field beyond the kind's")?;
                *value = value.wrapping_add(unzigzag(values.next().ok_or("values: fewer than the mask says")?));
            }
        }
        if !values.is_empty() {
            return Err("values: more than the mask or the kind says");
        }
        read_events(schema, section.events.numbers(), tick)
    }

    fn whole(
        schema: &Schema,
        section: &OwnerParts<'_>,
        values: &mut Numbers<'_>,
    ) -> Result<Option<OwnerState>, &'static str> {
        if section.net_id == 0 {
            return Ok(None);
        }
        let kind = KindId(u16::try_from(section.kind).map_err(|_| "kind: not in the schema")?);
        let fields = &schema.kind(kind).ok_or("kind: not in the schema")?.fields;
        let values = fields.iter().map(|_| values.next().map(unzigzag)).collect::<Option<Vec<i32>>>();
        let values = values.ok_or("values: fewer than the kind has fields")?;
        Ok(Some(OwnerState { net_id: NetId(section.net_id), kind, values }))
    }
}
