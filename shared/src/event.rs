//! Events: things that happened at one tick, sent once.

use serde::{Deserialize, Serialize};

use crate::{EventField, EventId, Place, PlayerId};

/// An event of a game, as a type: its name and fields stand in the schema, its values go out quantized.
///
/// ```
/// use tickwire_shared::{EventField, GameEvent, Quantity};
///
/// struct Hit { damage: f32 }
///
/// impl GameEvent for Hit {
///     const NAME: &'static str = "hit";
///     fn fields() -> Vec<EventField> {
///         vec![EventField::new("damage", Quantity::count(0..=1000))]
///     }
///     fn values(&self) -> Vec<f64> {
///         vec![self.damage.into()]
///     }
/// }
/// ```
pub trait GameEvent: Send + Sync + 'static {
    /// The event's name in the schema.
    const NAME: &'static str;

    /// The event's numbers.
    fn fields() -> Vec<EventField>;

    /// One quantity per field, in the fields' units.
    fn values(&self) -> Vec<f64>;
}

/// Who an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Audience {
    /// All who view the place.
    At(Place),
    /// One player.
    Player(PlayerId),
}

/// An event as it is held in a frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place in the schema.
    pub kind: EventId,
    /// Its place among all events of its tick: (tick, ordinal) names it in the session.
    pub ordinal: u32,
    /// One value per field, in quanta.
    pub values: Vec<i32>,
}
