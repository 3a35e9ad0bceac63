//! Events in lists of numbers.

use tickwire_shared::{Event, EventId, Schema, Tick};

use crate::{
    read::Numbers,
    varint::{unzigzag, zigzag},
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

/// Appends an event to a stream of numbers, for an update leading to `tick`.
pub fn write_event((happened, event): (Tick, &Event), tick: Tick, numbers: &mut Vec<u32>) {
    numbers.extend([u32::from(event.kind.0), tick.since(happened) as u32, event.ordinal]);
    numbers.extend(event.values.iter().map(|&value| zigzag(value)));
}
