//! What is to be drawn at a moment: every entity with its values, in the units of its fields.

use std::sync::Arc;

use tickwire_shared::{Kind, KindId, NetId, Schema, Tick};
use tickwire_wire::OwnerState;

/// What a player is shown at one moment: see [`Core::view`](super::Core::view).
#[derive(Clone, Debug)]
pub struct Scene {
    schema: Arc<Schema>,
    entities: Vec<Item>,
    /// One per field of each entity; NaN where the player does not see it.
    values: Vec<f64>,
    seen: (Tick, u8),
}

#[derive(Clone, Copy, Debug)]
struct Item {
    net_id: NetId,
    kind: KindId,
    is_own: bool,
    first_value: usize,
}

/// An entity of a [`Scene`].
#[derive(Clone, Copy, Debug)]
pub struct Entity<'a> {
    scene: &'a Scene,
    item: Item,
}

impl Scene {
    /// Nothing, for [`Core::view_into`](super::Core::view_into) to fill.
    #[must_use]
    pub fn new(schema: Arc<Schema>) -> Self {
        Self { schema, entities: Vec::new(), values: Vec::new(), seen: (Tick::ZERO, 0) }
    }

    pub(crate) fn clear(&mut self) {
        self.entities.clear();
        self.values.clear();
    }

    /// The last step: an own entity that is not predicted gets what the owner alone sees, and comes first.
    pub(super) fn finish(&mut self, seen: (Tick, u8), owner: Option<&OwnerState>) {
        self.seen = seen;
        let Some(owner) = owner.filter(|_| self.own().is_none()) else { return };
        let Some(i) = self.entities.iter().position(|item| item.net_id == owner.net_id) else { return };
        self.entities[..=i].rotate_right(1);
        self.entities[0].is_own = true;
        let fields = &self.schema.kinds[owner.kind.index()].fields;
        for ((value, field), &fine) in
            self.values[self.entities[0].first_value..].iter_mut().zip(fields).zip(&owner.values)
        {
            if value.is_nan() {
                *value = field.blend_fine(fine, fine, 0.0) * field.quantity.quantum;
            }
        }
    }

    /// Adds an entity, given all fields of its kind in quanta; those that the player does not see are NaN.
    pub(crate) fn push(&mut self, net_id: NetId, kind: KindId, is_own: bool, quanta: impl Iterator<Item = f64>) {
        self.entities.push(Item { net_id, kind, is_own, first_value: self.values.len() });
        let fields = &self.schema.kinds[kind.index()].fields;
        self.values.extend(fields.iter().zip(quanta).map(|(field, value)| value * field.quantity.quantum));
    }

    /// All entities, each once: the player's own first, where there is one, and the others in order of NetId.
    pub fn entities(&self) -> impl ExactSizeIterator<Item = Entity<'_>> {
        self.entities.iter().map(|&item| Entity { scene: self, item })
    }

    /// The player's own entity, where it is alive.
    #[must_use]
    pub fn own(&self) -> Option<Entity<'_>> {
        self.entities().next().filter(Entity::is_own)
    }

    /// An entity by its number, where it is shown.
    #[must_use]
    pub fn get(&self, net_id: NetId) -> Option<Entity<'_>> {
        self.entities().find(|entity| entity.net_id() == net_id)
    }

    /// The moment in the session's time at which others are shown: a tick, and 1/256 of the way to the next. Tick 0 before
    /// there is one. What happened at a tick up to this one has been seen to happen.
    #[must_use]
    pub const fn seen(&self) -> (Tick, u8) {
        self.seen
    }

    /// What kinds and fields there are.
    #[must_use]
    pub const fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }
}

impl<'a> Entity<'a> {
    /// The entity's number, which stays its own.
    #[must_use]
    pub const fn net_id(&self) -> NetId {
        self.item.net_id
    }

    /// Its kind's number.
    #[must_use]
    pub const fn kind_id(&self) -> KindId {
        self.item.kind
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> &'a Kind {
        &self.scene.schema.kinds[self.item.kind.index()]
    }

    /// Whether it is the player's own.
    #[must_use]
    pub const fn is_own(&self) -> bool {
        self.item.is_own
    }

    /// The value of a field, by its place among the kind's fields, in the field's unit. `None` for a field that the player
    /// does not see, or that there is not.
    #[must_use]
    pub fn value(&self, field: usize) -> Option<f64> {
        self.values().get(field).copied().filter(|value| !value.is_nan())
    }

    /// The value of a field by its name, in the field's unit.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<f64> {
        self.value(self.kind().fields.iter().position(|candidate| candidate.name == field)?)
    }

    /// The values of all fields of the kind, each in its field's unit; NaN for those that the player does not see.
    #[must_use]
    pub fn values(&self) -> &'a [f64] {
        let first = self.item.first_value;
        &self.scene.values[first..first + self.kind().fields.len()]
    }
}
