//! How a kind's fields are read from components: one query per component, which skips what did not change.

use std::{any::Any, marker::PhantomData};

use bevy_ecs::{
    component::Component,
    query::{Added, Changed, Or, QueryState, With},
    world::World,
};

use crate::{
    CellKey, Field, FrameBuilder, KindId, NetId, Place, RAMP_MAX, RAMP_STEPS, TickRate, Truth,
    quantize::{Quantizer, RateQuantizer},
};

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

    /// Sets in `truth` every field of every entity of the kind as it is now, whether it changed or not: for a look into the
    /// middle of a tick. `fields` is how many the kind has.
    pub fn read(&self, world: &mut World, fields: usize, truth: &mut Truth) {
        let Self { kind, members, groups } = self;
        members.read(world, &mut |id, _| {
            truth.rows.insert((*kind, id), vec![0; fields]);
        });
        for group in groups {
            group.read(world, &mut |id, values| {
                let Some(row) = truth.rows.get_mut(&(*kind, id)) else { return };
                for &(field, value) in values {
                    row[field] = value;
                }
            });
        }
    }
}

/// Takes an entity, and what of its fields one component has.
type EachEntity<'a> = dyn FnMut(NetId, &[(usize, i32)]) + 'a;

trait Capture: Any + Send + Sync {
    fn capture(&mut self, kind: KindId, world: &mut World, rate: TickRate, builder: &mut FrameBuilder);

    /// Hands over every entity with its fields, by their places, in quanta.
    fn read(&self, world: &mut World, each: &mut EachEntity<'_>);
}

/// Which entities there are: looked at one by one only where some came or went.
struct Membership<M: Component> {
    all: Option<QueryState<&'static NetId, With<M>>>,
    new: Option<NewMembers<M>>,
}

type NewMembers<M> = QueryState<&'static NetId, (With<M>, Or<(Added<M>, Changed<NetId>)>)>;

impl<M: Component> Default for Membership<M> {
    fn default() -> Self {
        Self { all: None, new: None }
    }
}

impl<M: Component> Capture for Membership<M> {
    fn capture(&mut self, kind: KindId, world: &mut World, _: TickRate, builder: &mut FrameBuilder) {
        let new = self.new.get_or_insert_with(|| QueryState::new(world));
        for &id in new.iter(world) {
            builder.entity(kind, id);
        }
        let all = self.all.get_or_insert_with(|| QueryState::new(world)).iter(world);
        if all.len() != builder.count(kind) {
            builder.retain(kind, all.copied());
        }
    }

    fn read(&self, world: &mut World, each: &mut EachEntity<'_>) {
        for &id in QueryState::<&'static NetId, With<M>>::new(world).iter(world) {
            each(id, &[]);
        }
    }
}

type Query<M, C> = QueryState<(&'static NetId, &'static C), (With<M>, Changed<C>)>;
type Read<C> = Box<dyn Fn(&C) -> f64 + Send + Sync>;
type ReadPlace<C> = Box<dyn Fn(&C, &World, Option<CellKey>) -> Place + Send + Sync>;

/// What is read from one component.
struct Group<M: Component, C: Component> {
    /// Made at the first capture: by then the schema has been checked.
    ready: Option<Ready<M, C>>,
    fields: Vec<(usize, Field, Read<C>)>,
    rates: Vec<(usize, Field, Read<C>)>,
    ramp: Option<Read<C>>,
    place: Option<ReadPlace<C>>,
}

/// What reading takes; a quantizer for each of the group's fields and rates.
struct Ready<M: Component, C: Component> {
    query: Query<M, C>,
    quantizers: Vec<Quantizer>,
    rates: Vec<RateQuantizer>,
}

impl<M: Component, C: Component> Default for Group<M, C> {
    fn default() -> Self {
        Self { ready: None, fields: Vec::new(), rates: Vec::new(), ramp: None, place: None }
    }
}

impl<M: Component, C: Component> Capture for Group<M, C> {
    fn capture(&mut self, kind: KindId, world: &mut World, rate: TickRate, builder: &mut FrameBuilder) {
        let Ready { query, quantizers, rates } = self.ready.get_or_insert_with(|| Ready {
            query: QueryState::new(world),
            quantizers: self.fields.iter().map(|(_, field, _)| field.quantizer()).collect(),
            rates: self.rates.iter().map(|(_, field, _)| field.rate_quantizer(rate)).collect(),
        });
        let world = &*world;
        for (&id, component) in query.iter(world) {
            let mut entity = builder.entity(kind, id);
            for ((index, _, read), quantizer) in self.fields.iter().zip(&*quantizers) {
                entity.set(*index, quantizer.quantize(read(component)));
            }
            for ((index, _, read), quantizer) in self.rates.iter().zip(&*rates) {
                entity.set_rate(*index, quantizer.quantize(read(component)));
            }
            if let Some(read) = &self.ramp {
                let ticks = read(component) * f64::from(rate.hz());
                // NaN and what is negative become 0.
                entity.set_ramp((ticks * RAMP_STEPS as f64).round().clamp(0.0, f64::from(RAMP_MAX)) as u16);
            }
            if let Some(read) = &self.place {
                let current = entity.cell_key();
                entity.set_place(read(component, world, current));
            }
        }
    }

    fn read(&self, world: &mut World, each: &mut EachEntity<'_>) {
        let mut values = Vec::new();
        for (&id, component) in QueryState::<(&'static NetId, &'static C), With<M>>::new(world).iter(world) {
            let value = |(index, field, read): &(usize, Field, Read<C>)| {
                (*index, field.coarse(field.quantizer().quantize(read(component))))
            };
            values.clear();
            values.extend(self.fields.iter().map(value));
            each(id, &values);
        }
    }
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

    pub(crate) fn ramp<C: Component>(&mut self, read: impl Fn(&C) -> f64 + Send + Sync + 'static) {
        self.group::<C>().ramp = Some(Box::new(read));
    }

    pub(crate) fn place<C: Component>(
        &mut self,
        read: impl Fn(&C, &World, Option<CellKey>) -> Place + Send + Sync + 'static,
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
