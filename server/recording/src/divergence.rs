//! Where a replay parts from its recording, in words that name it.

use std::{collections::BTreeSet, fmt};

use tickwire_shared::{EventId, KindId, NetId, Quantity, Schema, Tick, Truth, TruthError};

use crate::{RecordedEvent, RecordedResult};

/// The first tick at which a replay is not what was recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Divergence {
    /// The tick.
    pub tick: Tick,
    /// The state hash in the recording.
    pub recorded_hash: u64,
    /// The state hash of the replay.
    pub replayed_hash: u64,
    /// How many entities differ.
    pub entities: usize,
    /// The first difference: of the kind, the entity and the field that come first.
    pub difference: Difference,
}

/// What differs.
#[derive(Clone, Debug, PartialEq)]
pub enum Difference {
    /// A field's value.
    Field {
        /// The entity's kind.
        kind: String,
        /// The entity.
        net_id: NetId,
        /// The field.
        field: String,
        /// As recorded.
        recorded: Value,
        /// As replayed.
        replayed: Value,
    },
    /// An entity is in one of them only.
    Entity {
        /// The entity's kind.
        kind: String,
        /// The entity.
        net_id: NetId,
        /// Whether it is in the recording; if not, it is in the replay.
        recorded: bool,
    },
    /// An event, in words; `None` where there is none.
    Event {
        /// Its place among all events of the tick.
        ordinal: usize,
        /// As recorded.
        recorded: Option<String>,
        /// As replayed.
        replayed: Option<String>,
    },
    /// Nothing that is replicated: the game's hidden state, or the roster.
    Hidden,
}

/// A field's value.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// As it is held.
    pub quanta: i32,
    /// In the field's unit.
    pub quantity: f64,
    /// The unit; empty for a count.
    pub unit: String,
}

impl Divergence {
    /// Says how a tick's outcome differs from the recorded one, from the truth that both had before.
    pub(crate) fn between(
        schema: &Schema,
        before: &Truth,
        recorded: &RecordedResult,
        replayed: &RecordedResult,
    ) -> Result<Self, TruthError> {
        let (mut there, mut here) = (before.clone(), before.clone());
        there.apply(&recorded.truth)?;
        here.apply(&replayed.truth)?;
        let (entities, difference) = truth_difference(schema, &there, &here);
        let difference = difference
            .or_else(|| event_difference(schema, &recorded.events, &replayed.events))
            .unwrap_or(Difference::Hidden);
        Ok(Self {
            tick: recorded.tick,
            recorded_hash: recorded.state_hash,
            replayed_hash: replayed.state_hash,
            entities,
            difference,
        })
    }
}

/// How many entities differ, and the first difference.
pub(crate) fn truth_difference(schema: &Schema, there: &Truth, here: &Truth) -> (usize, Option<Difference>) {
    let ids: BTreeSet<(KindId, NetId)> = there.rows.keys().chain(here.rows.keys()).copied().collect();
    let mut different = ids.into_iter().filter(|id| there.rows.get(id) != here.rows.get(id)).peekable();
    let first = different.peek().map(|&id| entity_difference(schema, id, there.rows.get(&id), here.rows.get(&id)));
    (different.count(), first)
}

fn entity_difference(
    schema: &Schema,
    (kind, net_id): (KindId, NetId),
    recorded: Option<&Vec<i32>>,
    replayed: Option<&Vec<i32>>,
) -> Difference {
    let Some(definition) = schema.kind(kind) else { return Difference::Hidden };
    let kind = definition.name.clone();
    let (Some(there), Some(here)) = (recorded, replayed) else {
        return Difference::Entity { kind, net_id, recorded: recorded.is_some() };
    };
    let mut values = definition.fields.iter().zip(there.iter().zip(here));
    match values.find(|(_, (there, here))| there != here) {
        None => Difference::Hidden,
        Some((field, (&there, &here))) => Difference::Field {
            kind,
            net_id,
            field: field.name.clone(),
            recorded: Value::of(&field.quantity, there),
            replayed: Value::of(&field.quantity, here),
        },
    }
}

pub(crate) fn event_difference(
    schema: &Schema,
    recorded: &[RecordedEvent],
    replayed: &[RecordedEvent],
) -> Option<Difference> {
    let ordinal = (0..recorded.len().max(replayed.len())).find(|&i| recorded.get(i) != replayed.get(i))?;
    let in_words = |events: &[RecordedEvent]| events.get(ordinal).map(|event| event_in_words(schema, event));
    Some(Difference::Event { ordinal, recorded: in_words(recorded), replayed: in_words(replayed) })
}

pub(crate) fn event_in_words(
    schema: &Schema,
    RecordedEvent { kind: EventId(kind), player, values, .. }: &RecordedEvent,
) -> String {
    let Some(definition) = schema.event(EventId(*kind)) else { return format!("event {kind}") };
    let value = |(field, &value): (&tickwire_shared::EventField, &i32)| {
        format!("{} {}", field.name, Value::of(&field.quantity, value))
    };
    let values: Vec<String> = definition.fields.iter().zip(values).map(value).collect();
    let to = player.map_or(String::new(), |player| format!(" to player {player}"));
    format!("{}{to} ({})", definition.name, values.join(", "))
}

impl Value {
    pub(crate) fn of(quantity: &Quantity, quanta: i32) -> Self {
        Self { quanta, quantity: quantity.dequantize(quanta), unit: quantity.unit.clone() }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { quanta, quantity, unit } = self;
        if unit.is_empty() && *quantity == f64::from(*quanta) {
            return write!(f, "{quanta}");
        }
        let space = if unit.is_empty() { "" } else { " " };
        write!(f, "{quantity}{space}{unit} ({quanta} quanta)")
    }
}

/// What the two sides of a difference are called.
pub(crate) struct Sides {
    /// Before a value.
    pub(crate) values: [&'static str; 2],
    /// Where something is.
    pub(crate) places: [&'static str; 2],
}

impl Sides {
    const REPLAY: Self = Self { values: ["recorded", "replayed"], places: ["the recording", "the replay"] };
}

impl Difference {
    /// In words, with other names for what is recorded and what is replayed.
    pub(crate) fn words(&self, Sides { values: [first, second], places: [there, here] }: &Sides) -> String {
        let event = |event: &Option<String>| event.clone().unwrap_or_else(|| "none".to_owned());
        match self {
            Self::Field { kind, net_id, field, recorded, replayed } => {
                format!("{kind} {net_id}, field {field}: {first} {recorded}, {second} {replayed}")
            }
            Self::Entity { kind, net_id, recorded: true } => format!("{kind} {net_id} is in {there} and not in {here}"),
            Self::Entity { kind, net_id, recorded: false } => {
                format!("{kind} {net_id} is in {here} and not in {there}")
            }
            Self::Event { ordinal, recorded, replayed } => {
                format!("event {ordinal}: {first} {}, {second} {}", event(recorded), event(replayed))
            }
            Self::Hidden => "all that is replicated is the same; what differs is hidden state: the roster, or what \
                             Game::digest mixes in"
                .to_owned(),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words(&Sides::REPLAY))
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tick, recorded_hash, replayed_hash, entities, difference } = self;
        write!(f, "the replay diverges at tick {tick}: {difference}")?;
        if *entities > 1 {
            write!(f, " (the first of {entities} entities that differ)")?;
        }
        write!(f, "; state hash recorded {recorded_hash:016x}, replayed {replayed_hash:016x}")
    }
}

impl std::error::Error for Divergence {}
