//! Events in lists of numbers.

use tickwire_shared::{Event, EventId, Schema, Tick};

use crate::{
    read::Numbers,
    varint::{unzigzag, varint_len, zigzag},
};

/// An event as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedEvent {
    /// When it happened.
    pub tick: Tick,
    /// The event.
    pub event: Event,
}

/// Reads a stream of events that was sent with an update leading to `tick`. It fails where a kind is not in the schema, an
/// age leads before tick 0, or the stream ends within an event.
pub(crate) fn read_events(
    schema: &Schema,
    mut numbers: Numbers<'_>,
    tick: Tick,
) -> Result<Vec<ReceivedEvent>, &'static str> {
    let mut events = Vec::new();
    while let Some(kind) = numbers.next() {
        let mut next = || numbers.next().ok_or("it ends within an event");
        let (age, ordinal) = (u64::from(next()?), next()?);
        let kind = EventId(u16::try_from(kind).map_err(|_| "a kind of event beyond the schema")?);
        let fields = &schema.event(kind).ok_or("a kind of event beyond the schema")?.fields;
        let tick = Tick(tick.0.checked_sub(age).ok_or("an event from before tick 0")?);
        let values = fields.iter().map(|_| next().map(unzigzag)).collect::<Result<_, _>>()?;
        events.push(ReceivedEvent { tick, event: Event { kind, ordinal, values } });
    }
    if numbers.is_empty() { Ok(events) } else { Err("it ends within a number") }
}

/// Writes the newest of `events`, which are oldest first, that take no more than `bytes_max`. How many it leaves out.
pub(crate) fn write_newest<'a>(
    mut events: impl Iterator<Item = (Tick, &'a Event)> + Clone,
    tick: Tick,
    bytes_max: usize,
    numbers: &mut Vec<u32>,
) -> u32 {
    let mut bytes_of = |event| {
        numbers.clear();
        write_event(event, tick, numbers);
        numbers_len(numbers)
    };
    let mut bytes: usize = events.clone().map(&mut bytes_of).sum();
    let mut left_out = 0_u32;
    while bytes > bytes_max {
        bytes -= events.next().map_or(bytes, &mut bytes_of);
        left_out = left_out.saturating_add(1);
    }
    numbers.clear();
    events.for_each(|event| write_event(event, tick, numbers));
    left_out
}

/// The bytes that packed numbers take.
pub(crate) fn numbers_len(numbers: &[u32]) -> usize {
    numbers.iter().map(|&number| varint_len(u64::from(number))).sum()
}

/// Appends an event to a stream of numbers, for an update leading to `tick`.
pub fn write_event((happened, event): (Tick, &Event), tick: Tick, numbers: &mut Vec<u32>) {
    numbers.extend([u32::from(event.kind.0), tick.since(happened) as u32, event.ordinal]);
    numbers.extend(event.values.iter().map(|&value| zigzag(value)));
}
