//! How one component, or one resource, is saved and loaded.

use std::marker::PhantomData;

use bevy_ecs::{
    change_detection::{ComponentTicks, DetectChangesMut},
    component::{Component, ComponentMutability as _, Mutable},
    entity::Entity,
    resource::Resource,
    world::World,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{ChangeTimes, Insertion, Load, LoadError, Reader, SavedTicks, inserting};
use crate::NetId;

pub(super) trait ComponentPart: Send + Sync {
    fn save(
        &self,
        world: &World,
        entities: &[(NetId, Entity)],
        times: &ChangeTimes,
        out: &mut Vec<u8>,
    ) -> Result<(), String>;
    fn read(&self, world: &mut World, from: &mut Reader<'_>, load: &mut Load) -> Result<(), LoadError>;
}

pub(super) trait ResourcePart: Send + Sync {
    fn save(&self, world: &World, times: &ChangeTimes, out: &mut Vec<u8>) -> Result<(), String>;
    fn read(&self, times: &ChangeTimes, from: &mut Reader<'_>, load: &mut Load) -> Result<(), LoadError>;
}

pub(super) struct OfComponent<C>(PhantomData<fn() -> C>);
pub(super) struct OfResource<R>(PhantomData<fn() -> R>);

impl<C> Default for OfComponent<C> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<R> Default for OfResource<R> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<C: Component + Serialize + DeserializeOwned> ComponentPart for OfComponent<C> {
    /// How many have it; for each the distance of its place from the one before, its times, and its value.
    fn save(
        &self,
        world: &World,
        entities: &[(NetId, Entity)],
        times: &ChangeTimes,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let having = || {
            entities.iter().zip(1_u32..).filter_map(|(&(_, entity), place)| {
                let entity = world.entity(entity);
                Some((place, entity.get_change_ticks::<C>()?, entity.get::<C>()?))
            })
        };
        put(out, &(having().count() as u32))?;
        let mut before = 0;
        for (place, ticks, value) in having() {
            put(out, &(place - before, times.saved(ticks)))?;
            put(out, value)?;
            before = place;
        }
        Ok(())
    }

    fn read(&self, world: &mut World, from: &mut Reader<'_>, load: &mut Load) -> Result<(), LoadError> {
        let component = world.register_component::<C>();
        let count: u32 = from.take()?;
        let mut before = 0;
        let mut without = Vec::new();
        for _ in 0..count {
            let (gap, ticks): (u32, SavedTicks) = from.take()?;
            let place = from.after(before, gap)?;
            let entity = load.entities.get(place as usize - 1).copied();
            let entity = entity.ok_or_else(|| LoadError::Entity { part: from.part.to_owned(), after: before, gap })?;
            without.extend_from_slice(&load.entities[before as usize..place as usize - 1]);
            before = place;
            let value: C = from.take()?;
            load.insertions.push(Insertion {
                entity,
                component,
                ticks,
                is_mutable: C::Mutability::MUTABLE,
                insert: inserting(value),
            });
        }
        without.extend_from_slice(&load.entities[before as usize..]);
        load.removals.push((component, without));
        Ok(())
    }
}

impl<R: Resource + Component<Mutability = Mutable> + Serialize + DeserializeOwned> ResourcePart for OfResource<R> {
    fn save(&self, world: &World, times: &ChangeTimes, out: &mut Vec<u8>) -> Result<(), String> {
        let ticks = world.get_resource_change_ticks::<R>().map(|ticks| times.saved(ticks));
        put(out, &ticks)?;
        world.get_resource::<R>().map_or(Ok(()), |value| put(out, value))
    }

    fn read(&self, times: &ChangeTimes, from: &mut Reader<'_>, load: &mut Load) -> Result<(), LoadError> {
        let Some(ticks) = from.take::<Option<SavedTicks>>()? else {
            load.resources.push(Box::new(|world| drop(world.remove_resource::<R>())));
            return Ok(());
        };
        let (value, ticks) = (from.take::<R>()?, times.ticks(ticks));
        load.resources.push(Box::new(|world| world.insert_resource(value)));
        load.timed_resources.push(Box::new(move |world| {
            if let Some(mut resource) = world.get_resource_mut::<R>() {
                set_ticks(&mut resource, ticks);
            }
        }));
        Ok(())
    }
}

pub(super) fn set_ticks(value: &mut impl DetectChangesMut, ComponentTicks { added, changed }: ComponentTicks) {
    value.set_last_added(added);
    // Last: the call before counts as a change.
    value.set_last_changed(changed);
}

pub(super) fn put(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) -> Result<(), String> {
    let bytes = std::mem::take(out);
    *out = postcard::to_extend(value, bytes).map_err(|error| error.to_string())?;
    Ok(())
}
