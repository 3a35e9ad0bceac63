//! What a game saves of its world, so that a session can go on from a keyframe instead of from its start.

mod change;
mod parts;
mod shape;

use std::any::type_name;

use bevy_ecs::{
    component::{Component, ComponentId, Mutable},
    entity::Entity,
    query::With,
    resource::Resource,
    world::{EntityWorldMut, World},
};
use serde::{Serialize, de::DeserializeOwned};

use self::{
    parts::{ComponentPart, OfComponent, OfResource, ResourcePart, put},
    shape::shape_of,
};
use crate::{Digest, NetId, Owner, PlayerId};

pub use change::{ChangeTimes, SavedTicks};

/// The most entities of a keyframe.
const ENTITIES_MAX: u32 = 1 << 22;

/// What a [`Game`](crate::Game) saves: see [`Game::saves`](crate::Game::saves).
///
/// Saved are the entities that have a [`NetId`], in order of it: that number, the [`Owner`], and those of the components that
/// are named here; and the resources that are named here. Everything else of a restored world is as
/// [`Game::setup`](crate::Game::setup) has made it; what is neither made there nor saved must be made anew in each tick
/// before it is read.
///
/// - No saved value holds a bevy `Entity`, which is another one after a restore: refer to entities by `NetId`.
/// - Entities without a `NetId` are not saved. What is on them, and whatever else there is, can be saved
///   [by hand](Self::custom).
/// - Queries find restored entities in another order. That must not matter: where it does, iterate in order of `NetId`.
/// - `Added` and `Changed` in systems, and `is_changed` of resources, say the same as they would have said without the
///   restore, of all that is saved. Run conditions that ask so see everything as changed, once. What `RemovedComponents`,
///   messages and `Local` hold is lost.
/// - Hooks and observers of components run again while entities are restored.
///
/// What is missing here shows as a difference sooner or later: `tickwire_recording::assert_rebuilds` looks for it in a game
/// team's own tests, `tickwire-server soak --determinism` for as long as one likes.
#[derive(Default)]
pub struct Saves {
    parts: Vec<Part>,
}

struct Part {
    name: String,
    /// What it is made of.
    shape: u64,
    how: How,
}

enum How {
    Component(Box<dyn ComponentPart>),
    Resource(Box<dyn ResourcePart>),
    Custom { save: Box<SaveHook>, load: Box<LoadHook> },
}

type SaveHook = dyn Fn(&World) -> Result<Vec<u8>, String> + Send + Sync;
type LoadHook = dyn Fn(&mut World, &[u8]) -> Result<(), String> + Send + Sync;

/// A world that cannot be saved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaveError {
    /// A component, a resource or a hook that fails.
    #[error("{part} cannot be saved: {problem}")]
    Part {
        /// The type's name, or the hook's.
        part: String,
        /// In the words of who failed.
        problem: String,
    },
    /// Numbers are handed out by [`NetIds`](crate::NetIds), once each.
    #[error("two entities have the NetId {0}; take each one's from NetIds::allocate")]
    Twice(NetId),
    /// The game panicked.
    #[error("the game panicked while it was being saved: {0}")]
    Panicked(String),
}

/// Saved bytes of which no world can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Cut off, or no such values.
    #[error("{part}: {problem}")]
    Part {
        /// The type's name, or the hook's, or what of the engine it is.
        part: String,
        /// What is wrong.
        problem: String,
    },
    /// Not in rising order, or not there.
    #[error("{part}: after entity {after} there is none that is {gap} further")]
    Entity {
        /// The type's name, or what of the engine it is.
        part: String,
        /// The one before: a NetId, or a place among the entities.
        after: u32,
        /// How much further.
        gap: u32,
    },
    /// More than there should be.
    #[error("{0} bytes are left over")]
    Rest(usize),
}

impl Saves {
    /// A component of entities that have a [`NetId`].
    ///
    /// # Panics
    /// Where it is named twice.
    pub fn component<C: Component + Serialize + DeserializeOwned>(&mut self) -> &mut Self {
        self.add(type_name::<C>(), shape_of::<C>(), How::Component(Box::new(OfComponent::<C>::default())))
    }

    /// A resource.
    ///
    /// # Panics
    /// Where it is named twice.
    pub fn resource<R>(&mut self) -> &mut Self
    where
        R: Resource + Component<Mutability = Mutable> + Serialize + DeserializeOwned,
    {
        self.add(type_name::<R>(), shape_of::<R>(), How::Resource(Box::new(OfResource::<R>::default())))
    }

    /// Anything else, under a name of its own: `save` puts it into bytes, and `load` finds a world in which all components
    /// and resources are restored.
    ///
    /// Neither may depend on bevy's `Entity` numbers, or on the order of queries. Where `save` fails the session goes without
    /// this keyframe; where `load` does, an older one is used.
    ///
    /// # Panics
    /// Where it is named twice.
    pub fn custom(
        &mut self,
        name: &str,
        save: impl Fn(&World) -> Result<Vec<u8>, String> + Send + Sync + 'static,
        load: impl Fn(&mut World, &[u8]) -> Result<(), String> + Send + Sync + 'static,
    ) -> &mut Self {
        self.add(name, 0, How::Custom { save: Box::new(save), load: Box::new(load) })
    }

    fn add(&mut self, name: &str, shape: u64, how: How) -> &mut Self {
        assert!(self.parts.iter().all(|part| part.name != name), "{name} is saved twice; name it once");
        self.parts.push(Part { name: name.to_owned(), shape, how });
        self
    }

    /// Whether there is nothing: such a game has no keyframes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// A number for what is saved, by name and in order, with the names of its fields: bytes of another one are not to be loaded.
    /// A field that has the same name and another type does not show in it: rename it, or raise the game's version.
    #[must_use]
    pub fn layout(&self) -> u64 {
        let mut digest = Digest::default();
        for Part { name, shape, .. } in &self.parts {
            name.bytes().for_each(|byte| digest.write(byte.into()));
            digest.write(u64::MAX);
            digest.write(*shape);
        }
        digest.finish()
    }

    /// Puts into bytes what is to be saved of a world. The engine does this, between ticks.
    ///
    /// # Errors
    /// Where two entities have one number, or a part fails.
    pub fn save(&self, world: &World, times: &ChangeTimes) -> Result<Vec<u8>, SaveError> {
        let mut entities: Vec<(NetId, Entity)> = Vec::new();
        if let Some(mut query) = world.try_query::<(Entity, &NetId)>() {
            entities.extend(query.iter(world).map(|(entity, &net_id)| (net_id, entity)));
        }
        entities.sort_unstable_by_key(|(net_id, _)| *net_id);
        if let Some(twice) = entities.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(SaveError::Twice(twice[0].0));
        }
        let mut out = Vec::new();
        let failed = |part: &str| {
            let part = part.to_owned();
            move |problem| SaveError::Part { part, problem }
        };
        put(&mut out, &(entities.len() as u32)).map_err(failed(ENTITIES))?;
        let mut before = 0;
        for &(net_id, entity) in &entities {
            let entity = world.entity(entity);
            let numbered = entity.get_change_ticks::<NetId>().map(|ticks| times.saved(ticks)).unwrap_or_default();
            let owned = entity.get_change_ticks::<Owner>().map(|ticks| times.saved(ticks));
            let owner = entity.get::<Owner>().zip(owned).map(|(owner, owned)| (owner.0, owned.changed));
            put(&mut out, &(net_id.0 - before, numbered.changed, owner)).map_err(failed(ENTITIES))?;
            before = net_id.0;
        }
        for Part { name, how, .. } in &self.parts {
            match how {
                How::Component(part) => part.save(world, &entities, times, &mut out),
                How::Resource(part) => part.save(world, times, &mut out),
                How::Custom { save, .. } => save(world).and_then(|bytes| put(&mut out, &bytes)),
            }
            .map_err(failed(name))?;
        }
        Ok(out)
    }

    /// Makes of a world as the game has set it up the one that was saved. The engine does this.
    ///
    /// # Errors
    /// Where the bytes are not of this layout. The world is then of no use.
    pub fn load(&self, world: &mut World, times: &ChangeTimes, bytes: &[u8]) -> Result<(), LoadError> {
        let set_up: Vec<Entity> = world.query_filtered::<Entity, With<NetId>>().iter(world).collect();
        for entity in set_up {
            world.despawn(entity);
        }
        let mut from = Reader { part: ENTITIES, rest: bytes };
        let mut load = Load::entities(world, &mut from)?;
        let mut hooks = Vec::new();
        for Part { name, how, .. } in &self.parts {
            from.part = name;
            match how {
                How::Component(part) => part.read(world, &mut from, &mut load)?,
                How::Resource(part) => part.read(times, &mut from, &mut load)?,
                How::Custom { load, .. } => hooks.push((name, load, from.take::<Vec<u8>>()?)),
            }
        }
        if !from.rest.is_empty() {
            return Err(LoadError::Rest(from.rest.len()));
        }
        load.apply(world, times);
        for (name, load, bytes) in hooks {
            load(world, &bytes).map_err(|problem| LoadError::Part { part: name.clone(), problem })?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Saves {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.parts.iter().map(|part| &part.name)).finish()
    }
}

/// What of the engine entities and their numbers are, in errors.
const ENTITIES: &str = "entities";

/// What is on its way into a world.
#[derive(Default)]
struct Load {
    entities: Vec<Entity>,
    insertions: Vec<Insertion>,
    removals: Vec<(ComponentId, Vec<Entity>)>,
    resources: Vec<Box<Act>>,
    /// What sets the resources' ticks.
    timed_resources: Vec<Box<Act>>,
}

type Act = dyn FnOnce(&mut World);

struct Insertion {
    entity: Entity,
    component: ComponentId,
    ticks: SavedTicks,
    /// Where its ticks cannot be set, it is inserted when it is their time.
    is_mutable: bool,
    insert: Box<Insert>,
}

type Insert = dyn FnOnce(&mut EntityWorldMut<'_>);

fn inserting<C: Component>(value: C) -> Box<Insert> {
    Box::new(move |entity| {
        entity.insert(value);
    })
}

impl Load {
    fn entities(world: &mut World, from: &mut Reader<'_>) -> Result<Self, LoadError> {
        let count: u32 = from.take()?;
        if count > ENTITIES_MAX {
            return Err(from.wrong(format!("{count} are more than {ENTITIES_MAX}")));
        }
        let (numbers, owners) = (world.register_component::<NetId>(), world.register_component::<Owner>());
        let mut load = Self::default();
        let mut before = 0;
        for _ in 0..count {
            let (gap, numbered, owner): (u32, u32, Option<(PlayerId, u32)>) = from.take()?;
            let net_id = NetId(from.after(before, gap)?);
            before = net_id.0;
            let entity = world.spawn_empty().id();
            load.entities.push(entity);
            load.insert(entity, numbers, numbered, net_id);
            if let Some((player, owned)) = owner {
                load.insert(entity, owners, owned, Owner(player));
            }
        }
        Ok(load)
    }

    /// An immutable component.
    fn insert<C: Component>(&mut self, entity: Entity, component: ComponentId, changed: u32, value: C) {
        let ticks = SavedTicks { added: changed, changed };
        self.insertions.push(Insertion { entity, component, ticks, is_mutable: false, insert: inserting(value) });
    }

    fn apply(mut self, world: &mut World, times: &ChangeTimes) {
        let when = |insertion: &Insertion| if insertion.is_mutable { 0 } else { insertion.ticks.changed };
        // Stable: an entity's components come in the order in which the game names them.
        self.insertions.sort_by_key(when);
        let mut timed = Vec::new();
        self.resources.into_iter().for_each(|insert| insert(world));
        for insertion in self.insertions {
            ChangeTimes::advance(world, times.tick(when(&insertion)));
            let Insertion { entity, component, ticks, is_mutable, insert } = insertion;
            // Nobody despawns it but hooks of the game's.
            let Ok(mut entity) = world.get_entity_mut(entity) else { continue };
            insert(&mut entity);
            if is_mutable {
                timed.push((entity.id(), component, ticks));
            }
        }
        times.finish(world);
        // Only now: bevy takes a tick ahead of the world's for one that is long past.
        for (entity, component, ticks) in timed {
            if let Some(mut value) = world.get_mut_by_id(entity, component) {
                parts::set_ticks(&mut value, times.ticks(ticks));
            }
        }
        self.timed_resources.into_iter().for_each(|set| set(world));
        // What came along with another component, and was not there.
        for (component, entities) in self.removals {
            for entity in entities {
                if let Ok(mut entity) = world.get_entity_mut(entity) {
                    entity.remove_by_id(component);
                }
            }
        }
    }
}

/// Saved bytes, from their start to their end.
struct Reader<'a> {
    part: &'a str,
    rest: &'a [u8],
}

impl Reader<'_> {
    fn take<T: DeserializeOwned>(&mut self) -> Result<T, LoadError> {
        let (value, rest) = postcard::take_from_bytes(self.rest).map_err(|error| self.wrong(error.to_string()))?;
        self.rest = rest;
        Ok(value)
    }

    /// The number that comes `gap` after another one: ids rise.
    fn after(&self, before: u32, gap: u32) -> Result<u32, LoadError> {
        let next = before.checked_add(gap).filter(|_| gap > 0);
        next.ok_or_else(|| LoadError::Entity { part: self.part.to_owned(), after: before, gap })
    }

    fn wrong(&self, problem: String) -> LoadError {
        LoadError::Part { part: self.part.to_owned(), problem }
    }
}
