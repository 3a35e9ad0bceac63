//! What a developer brings: the [`Game`] trait, and the definition that binds a schema to components.

use std::{any::TypeId, sync::Arc};

use bevy_ecs::{
    component::Component,
    resource::Resource,
    schedule::{Chain, IntoScheduleConfigs, ScheduleConfigs},
    system::ScheduleSystem,
    world::World,
};

use crate::{
    CellKey, Digest, EventKind, Field, Frame, GameEvent, InputField, InputId, Kind, KindId, Place, PlayerId, Predict,
    Quantity, Saves, Schema, SchemaError, SchemaParts, ScoreId, Setting, TickRate,
    binding::{KindBinder, KindBinding},
};

/// A game: what is replicated, what players can do, and the rules.
///
/// Object-safe, so that one process hosts several games by name. The engine owns the loop: each tick it puts the players'
/// inputs into the world, runs the systems in their order, and captures what the definition binds.
///
/// Determinism is the game's part of the bargain: no clocks, no I/O, no iteration over hash maps, random numbers only from
/// [`Randomness`](crate::Randomness), no state outside the world, no state in `Local`, and where order matters iteration in
/// order of [`NetId`](crate::NetId).
pub trait Game: Send + Sync + 'static {
    /// The game's name: 1 to 64 lower-case letters, digits, `_` and `-`.
    fn name(&self) -> &str;

    /// The game's own version: part of the schema's hash, and of every recording.
    fn version(&self) -> u32 {
        1
    }

    /// Says what is replicated, what players can do and what can happen. Called whenever a session or a client needs it;
    /// always the same.
    fn define(&self, definition: &mut Definition);

    /// Says what is wrong with a session's settings beyond the ranges in the schema.
    ///
    /// # Errors
    /// A sentence for the person who asked for the session.
    fn check_settings(&self, _settings: &Settings) -> Result<(), String> {
        Ok(())
    }

    /// Fills a new session's world, where there is anything before the first player.
    fn setup(&self, _world: &mut World, _settings: &Settings) {}

    /// Hands over the systems of a tick, in their order.
    fn systems(&self, systems: &mut Systems);

    /// Appends the cells that lie within `radius` of any point of `from`, nearest first, `from` itself among them.
    ///
    /// It decides what a player sees, so it depends on nothing but its arguments.
    fn cells_in_view(&self, from: CellKey, _radius: f64, cells: &mut Vec<CellKey>) {
        cells.push(from);
    }

    /// At which share of a stream's snapshots `cell` is sent to a player in `from` who sees `radius` far: 1 in each, 2 in
    /// every other, 4 in every fourth; more counts as 4. What is near enough to react to belongs in each.
    ///
    /// It depends on nothing but its arguments.
    fn rate_divisor(&self, _from: CellKey, _cell: CellKey, _radius: f64) -> u32 {
        1
    }

    /// How much a change of an entity of `kind` matters beside those of other kinds, where a stream's bytes do not suffice
    /// for all: 1 to 16. It orders cells among those that wait equally long and are equally far.
    fn weight(&self, _kind: &Kind) -> u32 {
        1
    }

    /// Which team a player is in as of a frame, for talk within teams; `None`: in none. What a frame has of a player is a row
    /// of the roster, with scores, and their own entity.
    ///
    /// It is asked when somebody talks to a team, by threads that step nothing, and depends on nothing but its arguments.
    fn team(&self, _player: PlayerId, _frame: &Frame) -> Option<u32> {
        None
    }

    /// How clients step a player's own entity ahead of the server, in a session of these settings and this rate; `None`: they
    /// show it as the server says.
    fn predict(&self, _settings: &Settings, _rate: TickRate) -> Option<Box<dyn Predict>> {
        None
    }

    /// Says what of the world decides its future and is neither made by [`setup`](Self::setup) nor made anew each tick, so
    /// that a session can go on from a keyframe: after a crash, or for whoever looks at a moment of a recording.
    ///
    /// ```
    /// # use bevy_ecs::prelude::*;
    /// # use serde::{Deserialize, Serialize};
    /// # use tickwire_shared::Saves;
    /// #[derive(Component, Serialize, Deserialize)]
    /// struct Position(f32);
    /// #[derive(Resource, Serialize, Deserialize)]
    /// struct Wave(u32);
    ///
    /// fn saves(saves: &mut Saves) {
    ///     saves.component::<Position>().resource::<Wave>();
    /// }
    /// ```
    ///
    /// A game that saves nothing has no keyframes: its sessions can be played again from their first tick only.
    fn saves(&self, _saves: &mut Saves) {}

    /// Mixes in whatever of the world decides its future and is not replicated, in an order that does not depend on
    /// bevy's `Entity` numbers.
    fn digest(&self, _world: &World, _digest: &mut Digest) {}
}

/// A session's settings, checked, as a resource too.
#[derive(Resource, Clone, Debug, PartialEq)]
pub struct Settings {
    settings: Vec<Setting>,
    values: Vec<i32>,
}

/// A setting that the game does not take.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// Not in the schema.
    #[error("settings.{name}: the game has no such setting; it has {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// Outside its range.
    #[error("settings.{name}: {value} is out of range: choose {min} to {max}{}", spaced(unit))]
    Range {
        /// Which.
        name: String,
        /// What was asked for, in units.
        value: f64,
        /// The least, in units.
        min: f64,
        /// The most, in units.
        max: f64,
        /// The unit.
        unit: String,
    },
    /// More values than settings.
    #[error("settings: {count} values for a game of {known} settings")]
    TooMany {
        /// How many were given.
        count: usize,
        /// How many there are.
        known: usize,
    },
    /// Refused by the game.
    #[error("settings: {0}")]
    Refused(String),
}

/// A unit behind its number; nothing where it has none.
fn spaced(unit: &str) -> String {
    if unit.is_empty() { String::new() } else { format!(" {unit}") }
}

impl Settings {
    /// All defaults.
    #[must_use]
    pub fn defaults(schema: &Schema) -> Self {
        let values = schema.settings.iter().map(|setting| setting.default).collect();
        Self { settings: schema.settings.clone(), values }
    }

    /// From values in the schema's order, in quanta; missing ones at the end take their defaults.
    ///
    /// # Errors
    /// Where a value is out of its range, or there are more than settings.
    pub fn from_values(schema: &Schema, values: &[i32]) -> Result<Self, SettingsError> {
        let mut settings = Self::defaults(schema);
        if values.len() > settings.values.len() {
            return Err(SettingsError::TooMany { count: values.len(), known: settings.values.len() });
        }
        for (i, &value) in values.iter().enumerate() {
            settings.check(i, settings.settings[i].quantity.dequantize(value))?;
            settings.values[i] = value;
        }
        Ok(settings)
    }

    /// Sets one by name, in units.
    ///
    /// # Errors
    /// Where the game has no such setting, or the value is out of its range.
    pub fn set(&mut self, name: &str, value: f64) -> Result<(), SettingsError> {
        let Some(i) = self.settings.iter().position(|setting| setting.name == name) else {
            let known: Vec<&str> = self.settings.iter().map(|setting| setting.name.as_str()).collect();
            return Err(SettingsError::Unknown { name: name.to_owned(), known: known.join(", ") });
        };
        self.check(i, value)?;
        self.values[i] = self.settings[i].quantity.quantize(value);
        Ok(())
    }

    fn check(&self, i: usize, value: f64) -> Result<(), SettingsError> {
        let Setting { name, quantity, .. } = &self.settings[i];
        let (min, max) = (quantity.dequantize(quantity.min), quantity.dequantize(quantity.max));
        if (min..=max).contains(&value) {
            return Ok(());
        }
        Err(SettingsError::Range { name: name.clone(), value, min, max, unit: quantity.unit.clone() })
    }

    /// A setting, in units.
    ///
    /// # Panics
    /// Where the game has no such setting.
    #[must_use]
    pub fn get(&self, name: &str) -> f64 {
        let i = self.settings.iter().position(|setting| setting.name == name);
        let i = i.unwrap_or_else(|| panic!("setting {name:?} is not in the game's definition; add it there"));
        self.settings[i].quantity.dequantize(self.values[i])
    }

    /// All values in the schema's order, in quanta.
    #[must_use]
    pub fn values(&self) -> &[i32] {
        &self.values
    }
}

/// The systems of a tick, in the order in which they run; a system's commands are applied before the next one runs.
#[derive(Default)]
pub struct Systems(Vec<ScheduleConfigs<ScheduleSystem>>);

impl Systems {
    /// Appends a system.
    pub fn add<M>(&mut self, system: impl IntoScheduleConfigs<ScheduleSystem, M>) -> &mut Self {
        self.0.push(system.into_configs());
        self
    }

    /// All systems, chained, for bevy's schedule.
    pub fn into_chain(self) -> ScheduleConfigs<ScheduleSystem> {
        ScheduleConfigs::Configs {
            configs: self.0,
            collective_conditions: Vec::new(),
            metadata: Chain::Chained(Default::default()),
        }
    }

    /// As [`into_chain`](Self::into_chain), with what `between` makes before the first system and after each one: the number
    /// of those that have run is its argument.
    pub fn into_chain_with(
        self,
        mut between: impl FnMut(usize) -> ScheduleConfigs<ScheduleSystem>,
    ) -> ScheduleConfigs<ScheduleSystem> {
        let mut chain = vec![between(0)];
        for (i, system) in self.0.into_iter().enumerate() {
            chain.extend([system, between(i + 1)]);
        }
        Self(chain).into_chain()
    }
}

impl std::fmt::Debug for Systems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Systems({})", self.0.len())
    }
}

/// What a game replicates, with the components that it is read from. Order is numbering.
#[derive(Default)]
pub struct Definition {
    parts: SchemaParts,
    kinds: Vec<KindBinding>,
    events: Vec<(TypeId, Vec<Quantity>)>,
}

impl Definition {
    /// A class of replicated entity: those with the marker component `M` and a [`NetId`](crate::NetId).
    pub fn kind<M: Component>(&mut self, name: &str) -> KindDefinition<'_, M> {
        let id = KindId(self.kinds.len() as u16);
        self.kinds.push(KindBinding::new::<M>(id));
        self.parts.kinds.push(Kind::new(name, Vec::new()));
        KindDefinition {
            kind: self.parts.kinds.last_mut().expect("just pushed"),
            binder: KindBinder::new(self.kinds.last_mut().expect("just pushed")),
        }
    }

    /// A number of a player's input.
    pub fn input(&mut self, field: InputField) -> InputId {
        self.parts.inputs.push(field);
        InputId(self.parts.inputs.len() as u16 - 1)
    }

    /// Something that can happen at a tick.
    pub fn event<E: GameEvent>(&mut self) {
        let fields = E::fields();
        self.events.push((TypeId::of::<E>(), fields.iter().map(|field| field.quantity.clone()).collect()));
        self.parts.events.push(EventKind { name: E::NAME.to_owned(), fields });
    }

    /// A number that a session is created with: `default` in units.
    pub fn setting(&mut self, name: &str, quantity: Quantity, default: f64) {
        let default = quantity.quantize(default);
        self.parts.settings.push(Setting { name: name.to_owned(), quantity, default });
    }

    /// A column of the roster.
    pub fn score(&mut self, name: &str) -> ScoreId {
        self.parts.scores.push(name.to_owned());
        ScoreId(self.parts.scores.len() - 1)
    }
}

/// Adds to a kind of a [`Definition`].
#[derive(Debug)]
pub struct KindDefinition<'a, M> {
    kind: &'a mut Kind,
    binder: KindBinder<'a, M>,
}

impl<M: Component> KindDefinition<'_, M> {
    /// A field, read in its unit from a component that every entity of the kind has.
    ///
    /// Fields that receivers see move should come first: that makes the common masks one byte.
    pub fn field<C: Component, V: Into<f64>>(
        mut self,
        field: Field,
        read: impl Fn(&C) -> V + Send + Sync + 'static,
    ) -> Self {
        let index = self.kind.fields.len();
        self.binder.field(index, field.clone(), move |component| read(component).into());
        let mut fields = std::mem::take(&mut self.kind.fields);
        fields.push(field);
        *self.kind = Kind::new(&self.kind.name, fields);
        self
    }

    /// The rate at which a linear field moves, in its unit per second, for components that are not snapped: the encoder
    /// then needs no guess. A predicted, snapped component does better without.
    ///
    /// # Panics
    /// Where the kind has no linear field of this name yet.
    pub fn rate<C: Component, V: Into<f64>>(
        mut self,
        field: &str,
        read: impl Fn(&C) -> V + Send + Sync + 'static,
    ) -> Self {
        let index = self.kind.fields.iter().position(|candidate| candidate.name == field && candidate.line().is_some());
        let index = index.unwrap_or_else(|| panic!("no linear field {field:?} in this kind; add the field first"));
        self.binder.rate(index, self.kind.fields[index].clone(), move |component| read(component).into());
        self
    }

    /// The rate that a ramped field is heading for, in its unit per second: for a mover the velocity that it wants. 0 where
    /// something keeps it from getting there.
    ///
    /// # Panics
    /// Where the kind has no ramped field of this name yet.
    pub fn heading<C: Component, V: Into<f64>>(
        mut self,
        field: &str,
        read: impl Fn(&C) -> V + Send + Sync + 'static,
    ) -> Self {
        let is_it = |candidate: &Field| candidate.name == field && candidate.ramp_line().is_some();
        let index = self.kind.fields.iter().position(is_it);
        let index = index.unwrap_or_else(|| panic!("no ramped field {field:?} in this kind; add the field first"));
        self.binder.rate(index, self.kind.fields[index].clone(), move |component| read(component).into());
        self
    }

    /// For how many seconds the rates of an entity's ramped fields still change, evenly, until they are what they head for.
    /// From a component that changes at every tick at which this does not just run down.
    pub fn ramp_time<C: Component, V: Into<f64>>(mut self, read: impl Fn(&C) -> V + Send + Sync + 'static) -> Self {
        self.binder.ramp(move |component| read(component).into());
        self
    }

    /// Where entities of the kind are, from a component and the area that each is in now: a game keeps an entity there
    /// until it is well outside, so that one that walks along an edge does not cross it each tick. Kinds without a place
    /// are in the cell `always`.
    pub fn place<C: Component>(
        mut self,
        read: impl Fn(&C, Option<CellKey>) -> CellKey + Send + Sync + 'static,
    ) -> Self {
        self.binder.place(move |component, _, current| Place::Cell(read(component, current)));
        self
    }

    /// As [`place`](Self::place), with a resource that knows the ground: such as a map that is divided into cells only where
    /// it is large, and else is one [`Place::Always`], which every view shows.
    ///
    /// # Panics
    /// Each tick, where the world has no such resource.
    pub fn place_on<C: Component, R: Resource>(
        mut self,
        read: impl Fn(&C, &R, Option<CellKey>) -> Place + Send + Sync + 'static,
    ) -> Self {
        self.binder.place(move |component, world, current| read(component, world.resource::<R>(), current));
        self
    }
}

impl std::fmt::Debug for Definition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Definition").field("parts", &self.parts).finish_non_exhaustive()
    }
}

/// A game's definition, checked: its schema, and how it is read from a world.
#[derive(Debug)]
pub struct Blueprint {
    /// What is replicated, in numbers.
    pub schema: Arc<Schema>,
    /// One per kind of the schema.
    pub kinds: Vec<KindBinding>,
    /// One per event of the schema.
    pub events: Vec<(TypeId, Vec<Quantity>)>,
}

impl Blueprint {
    /// Asks a game for its definition.
    ///
    /// # Errors
    /// Where the definition breaks a rule of schemas.
    pub fn of(game: &dyn Game) -> Result<Self, SchemaError> {
        let mut definition = Definition::default();
        game.define(&mut definition);
        let Definition { parts, kinds, events } = definition;
        let parts = SchemaParts { game: game.name().to_owned(), version: game.version(), ..parts };
        Ok(Self { schema: Arc::new(Schema::new(parts)?), kinds, events })
    }
}

/// The schema of a game, for clients that are built with it.
///
/// # Errors
/// Where the game's definition breaks a rule of schemas.
pub fn schema_of(game: &dyn Game) -> Result<Arc<Schema>, SchemaError> {
    Blueprint::of(game).map(|blueprint| blueprint.schema)
}
