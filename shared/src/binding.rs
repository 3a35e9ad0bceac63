//! How a kind's fields are read from components: one query per component, which skips what did not change.

use std::{any::Any, marker::PhantomData};

use bevy_ecs::{
    change_detection::{DetectChanges as _, Ref},
    component::Component,
    query::{QueryState, With},
    world::World,
};

use crate::{CellKey, Field, FrameBuilder, KindId, NetId, Place, TickRate};

/// Reads the entities of one kind from a world.
pub struct KindBinding {
    kind: KindId,
    members: Box<dyn Capture>,
    groups: Vec<Box<dyn Capture>>,
}

impl std::fmt::Debug for KindBinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KindBinding({:?}, {} components)", self.kind, self.groups.len())
    }
}

impl KindBinding {
    pub(crate) fn new<M: Component>(kind: KindId) -> Self {
        Self { kind, members: Box::new(Membership::<M>::default()), groups: Vec::new() }
    }

    /// Hands every entity of the kind to `builder`, with what changed since the world's trackers were last cleared.
    pub fn capture(&mut self, world: &mut World, rate: TickRate, builder: &mut FrameBuilder) {
        self.members.capture(self.kind, world, rate, builder);
        for group in &mut self.groups {
            group.capture(self.kind, world, rate, builder);
        }
    }
}

trait Capture: Any + Send + Sync {
    fn capture(&mut self, kind: KindId, world: &mut World, rate: TickRate, builder: &mut FrameBuilder);
}

/// Which entities there are.
struct Membership<M: Component>(Option<QueryState<&'static NetId, With<M>>>);

impl<M: Component> Default for Membership<M> {
    fn default() -> Self {
        Self(None)
    }
}

impl<M: Component> Capture for Membership<M> {
    fn capture(&mut self, kind: KindId, world: &mut World, _: TickRate, builder: &mut FrameBuilder) {
        let query = self.0.get_or_insert_with(|| QueryState::new(world));
        for &id in query.iter(world) {
            builder.entity(kind, id);
        }
    }
}

type Query<M, C> = QueryState<(&'static NetId, Ref<'static, C>), With<M>>;
type Read<C> = Box<dyn Fn(&C) -> f64 + Send + Sync>;
type ReadPlace<C> = Box<dyn Fn(&C, Option<CellKey>) -> CellKey + Send + Sync>;

/// What is read from one component.
struct Group<M: Component, C: Component> {
    query: Option<Query<M, C>>,
    fields: Vec<(usize, Field, Read<C>)>,
    rates: Vec<(usize, Field, Read<C>)>,
    place: Option<ReadPlace<C>>,
}

impl<M: Component, C: Component> Default for Group<M, C> {
    fn default() -> Self {
        Self { query: None, fields: Vec::new(), rates: Vec::new(), place: None }
    }
}

impl<M: Component, C: Component> Capture for Group<M, C> {
    fn capture(&mut self, kind: KindId, world: &mut World, rate: TickRate, builder: &mut FrameBuilder) {
        let query = self.query.get_or_insert_with(|| QueryState::new(world));
        for (&id, component) in query.iter(world) {
            if !component.is_changed() {
                continue;
            }
            let mut entity = builder.entity(kind, id);
            for (index, field, read) in &self.fields {
                entity.set(*index, field.quantize_fine(read(&component)));
            }
            for (index, field, read) in &self.rates {
                entity.set_rate(*index, quantize_rate(field, read(&component), rate));
            }
            if let Some(read) = &self.place {
                let current = entity.cell_key();
                entity.set_place(Place::Cell(read(&component, current)));
            }
        }
    }
}

/// Units per second as quanta · 2^shift per tick, saturating; NaN is 0.
fn quantize_rate(field: &Field, per_second: f64, rate: TickRate) -> i32 {
    let shift = field.line().map_or(0, |line| line.shift);
    let per_tick = per_second / field.quantity.quantum / f64::from(rate.hz()) * f64::from(1_u32 << shift);
    // A cast of a float saturates, and makes NaN 0.
    per_tick.round() as i32
}

/// Adds to a binding while the kind is being defined.
#[derive(Debug)]
pub(crate) struct KindBinder<'a, M> {
    binding: &'a mut KindBinding,
    marker: PhantomData<M>,
}

impl<'a, M: Component> KindBinder<'a, M> {
    pub(crate) fn new(binding: &'a mut KindBinding) -> Self {
        Self { binding, marker: PhantomData }
    }

    pub(crate) fn field<C: Component>(
        &mut self,
        index: usize,
        field: Field,
        read: impl Fn(&C) -> f64 + Send + Sync + 'static,
    ) {
        self.group::<C>().fields.push((index, field, Box::new(read)));
    }

    pub(crate) fn rate<C: Component>(
        &mut self,
        index: usize,
        field: Field,
        read: impl Fn(&C) -> f64 + Send + Sync + 'static,
    ) {
        self.group::<C>().rates.push((index, field, Box::new(read)));
    }

    pub(crate) fn place<C: Component>(
        &mut self,
        read: impl Fn(&C, Option<CellKey>) -> CellKey + Send + Sync + 'static,
    ) {
        self.group::<C>().place = Some(Box::new(read));
    }

    fn group<C: Component>(&mut self) -> &mut Group<M, C> {
        let is_it = |group: &dyn Capture| (group as &dyn Any).is::<Group<M, C>>();
        let i = self.binding.groups.iter().position(|group| is_it(group.as_ref())).unwrap_or_else(|| {
            self.binding.groups.push(Box::new(Group::<M, C>::default()));
            self.binding.groups.len() - 1
        });
        let group: &mut dyn Any = self.binding.groups[i].as_mut();
        group.downcast_mut().expect("found by this very type")
    }
}
