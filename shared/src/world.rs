//! What the engine puts into a game's world: components that mark entities, and resources that systems use.

use std::{any::TypeId, collections::BTreeMap, sync::Arc};

use bevy_ecs::{component::Component, resource::Resource};
use serde::{Deserialize, Serialize};

use crate::{Audience, Event, EventId, GameEvent, NetId, PlayerId, Quantity, Tick, TickRate};

/// Makes an entity a player's own: its owner section, and the middle of its view. At most one per player.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
#[component(immutable)]
pub struct Owner(pub PlayerId);

/// The session's time, as a resource.
#[derive(Resource, Clone, Copy, Debug)]
pub struct Clock {
    /// The tick that is being computed.
    pub tick: Tick,
    /// Ticks per second.
    pub rate: TickRate,
}

impl Clock {
    /// Seconds per tick.
    #[must_use]
    pub fn dt(&self) -> f32 {
        self.rate.dt()
    }
}

/// Hands out entities' numbers, as a resource. The order of calls is the order of spawning.
#[derive(Resource, Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct NetIds {
    last: u32,
}

impl NetIds {
    /// The next number.
    ///
    /// # Panics
    /// After 2^32 − 1 numbers: at a thousand spawns a second, 50 days.
    pub fn allocate(&mut self) -> NetId {
        self.last =
            self.last.checked_add(1).expect("the session has used all 2^32 - 1 NetIds; end it and start another");
        NetId(self.last)
    }
}

/// Who sits, and who has just sat down or left, as a resource.
#[derive(Resource, Clone, Debug, Default)]
pub struct Seats {
    /// Players whose first tick this is, in order of player.
    pub joined: Vec<PlayerId>,
    /// Players who left before this tick, in order of player. Their seats are gone.
    pub left: Vec<PlayerId>,
    /// All seated players, those without a connection among them, in order of player.
    pub players: BTreeMap<PlayerId, Seat>,
}

/// A player's seat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The name that others see.
    pub name: Arc<str>,
    /// False while the connection is lost and the seat is kept. The player's entity stays, with what was held for 250 ms and then
    /// nothing: a game for which that is wrong despawns it here, and spawns another when this is true again.
    pub connected: bool,
}

/// The longest result of a match, in bytes.
pub const RESULT_JSON_BYTES_MAX: usize = 4096;

/// Ends the match from within, as a resource: after the tick in which a system says so, the session ends, its players are told
/// `GOODBYE_REASON_SESSION_ENDED` with the result, and the recording is closed with it. What happens in that last tick most
/// players do not see any more: show them the result for some seconds first.
#[derive(Resource, Clone, Debug, Default, PartialEq, Eq)]
pub struct MatchEnd(Option<String>);

impl MatchEnd {
    /// Ends the session with a result: a JSON value, or empty for none. Of several the first counts. What is no JSON is left
    /// out, and the server's log says so.
    ///
    /// # Panics
    /// Where the result has more than [`RESULT_JSON_BYTES_MAX`] bytes.
    pub fn end(&mut self, result_json: impl Into<String>) {
        let result_json = result_json.into();
        let bytes = result_json.len();
        assert!(bytes <= RESULT_JSON_BYTES_MAX, "a result of {bytes} bytes; it may have {RESULT_JSON_BYTES_MAX}");
        self.0.get_or_insert(result_json);
    }

    /// What the session ends with; `None`: it goes on.
    #[must_use]
    pub fn result_json(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// The players' scores, as a resource: what the roster shows beside the names, in the order of the schema's scores.
#[derive(Resource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scores {
    columns: usize,
    rows: BTreeMap<PlayerId, Vec<i32>>,
}

impl Scores {
    /// No players yet, with `columns` scores each.
    #[must_use]
    pub fn new(columns: usize) -> Self {
        Self { columns, rows: BTreeMap::new() }
    }

    /// A player's score; 0 for a player who has none.
    #[must_use]
    pub fn get(&self, player: PlayerId, score: ScoreId) -> i32 {
        self.rows.get(&player).map_or(0, |row| row[score.0])
    }

    /// Adds to a player's score, saturating.
    ///
    /// # Panics
    /// Where the game has no such score.
    pub fn add(&mut self, player: PlayerId, score: ScoreId, points: i32) {
        let row = self.rows.entry(player).or_insert_with(|| vec![0; self.columns]);
        row[score.0] = row[score.0].saturating_add(points);
    }

    /// All scores of a player, in the schema's order.
    #[must_use]
    pub fn row(&self, player: PlayerId) -> Vec<i32> {
        self.rows.get(&player).cloned().unwrap_or_else(|| vec![0; self.columns])
    }

    /// The scores of all players who have any, in order of player.
    pub fn rows(&self) -> impl Iterator<Item = (PlayerId, &[i32])> {
        self.rows.iter().map(|(&player, row)| (player, row.as_slice()))
    }

    /// Whether each player has as many scores as `columns`: what comes from a file may be anything.
    #[must_use]
    pub fn are_of(&self, columns: usize) -> bool {
        self.columns == columns && self.rows.values().all(|row| row.len() == columns)
    }

    /// Forgets a player who left.
    pub fn remove(&mut self, player: PlayerId) {
        self.rows.remove(&player);
    }
}

/// A score's place in the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScoreId(pub usize);

/// Takes events from systems, as a resource.
#[derive(Resource, Debug)]
pub struct Outbox {
    kinds: BTreeMap<TypeId, (EventId, Vec<Quantity>)>,
    events_max: usize,
    next_ordinal: u32,
    emitted: Emitted,
}

/// The events of one tick.
#[derive(Clone, Debug, Default)]
pub struct Emitted {
    /// In order of emission.
    pub events: Vec<(Audience, Event)>,
    /// How many did not fit the tick's limit, by audience.
    pub lost: BTreeMap<Audience, u32>,
}

impl Outbox {
    /// An outbox for the events of a game's definition, taking at most `events_max` of them per tick.
    #[must_use]
    pub fn new(kinds: &[(TypeId, Vec<Quantity>)], events_max: usize) -> Self {
        let number =
            |(i, (id, quantities)): (usize, &(TypeId, Vec<Quantity>))| (*id, (EventId(i as u16), quantities.clone()));
        Self {
            kinds: kinds.iter().enumerate().map(number).collect(),
            events_max,
            next_ordinal: 0,
            emitted: Emitted::default(),
        }
    }

    /// Emits an event at the current tick. Beyond the tick's limit it is dropped, and its audience is told of a loss.
    ///
    /// # Panics
    /// Where the game's definition does not have the event, or its values are not as many as its fields.
    pub fn emit<E: GameEvent>(&mut self, audience: Audience, event: &E) {
        let Some((kind, quantities)) = self.kinds.get(&TypeId::of::<E>()) else {
            panic!("event {:?} is not in the game's definition; add it with Definition::event", E::NAME);
        };
        if self.emitted.events.len() >= self.events_max {
            *self.emitted.lost.entry(audience).or_default() += 1;
            return;
        }
        let values = event.values();
        assert_eq!(values.len(), quantities.len(), "event {:?} has another number of values than fields", E::NAME);
        let values = quantities.iter().zip(values).map(|(quantity, value)| quantity.quantize(value)).collect();
        let event = Event { kind: *kind, ordinal: self.next_ordinal, values };
        self.next_ordinal += 1;
        self.emitted.events.push((audience, event));
    }

    /// The tick's events so far.
    #[must_use]
    pub fn emitted(&self) -> &Emitted {
        &self.emitted
    }

    /// Takes the tick's events out; ordinals start again.
    pub fn take(&mut self) -> Emitted {
        self.next_ordinal = 0;
        std::mem::take(&mut self.emitted)
    }
}
