//! A scene as a world's entities.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bevy_ecs::{component::Mutable, prelude::*};
use tickwire_shared::{KindId, NetId, Schema};

use super::connection::Connection;
use crate::{Scene, core::Entity as Shown};

/// An entity of the session. The plugin spawns and despawns it; it is there, with this as its last component, in the frames in
/// which it is shown.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteEntity {
    /// Its number in the session.
    pub net_id: NetId,
    /// Its kind's number in the schema.
    pub kind: KindId,
}

/// The player's own entity.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Own;

/// The session's entities by their numbers, as a resource.
#[derive(Resource, Debug, Default)]
pub struct RemoteEntities {
    /// That their kinds are of.
    schema: Option<Arc<Schema>>,
    entities: BTreeMap<NetId, Known>,
    own: Option<Entity>,
    frame: u64,
}

#[derive(Debug)]
struct Known {
    entity: Entity,
    kind: KindId,
    /// The newest frame that showed it.
    frame: u64,
}

/// Reads one component off an entity that is shown.
type Binding = Arc<dyn Fn(&Shown<'_>, &mut EntityWorldMut<'_>) + Send + Sync>;

/// What components the entities of each kind have.
#[derive(Resource, Clone, Default)]
pub(super) struct Bindings(Arc<BTreeMap<String, Vec<Binding>>>);

impl fmt::Debug for Bindings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(kind, bindings)| (kind, bindings.len()))).finish()
    }
}

impl RemoteEntities {
    /// The world's entity that is this one of the session, where it is shown.
    #[must_use]
    pub fn get(&self, net_id: NetId) -> Option<Entity> {
        self.entities.get(&net_id).map(|known| known.entity)
    }

    /// The player's own, where it is alive.
    #[must_use]
    pub const fn own(&self) -> Option<Entity> {
        self.own
    }

    /// All that are shown, in order of NetId.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (NetId, Entity)> {
        self.entities.iter().map(|(&net_id, known)| (net_id, known.entity))
    }

    /// Takes out all that a scene does not show.
    fn take_gone(&mut self, scene: &Scene) -> Vec<Entity> {
        if self.schema.as_ref().is_none_or(|schema| !Arc::ptr_eq(schema, scene.schema())) {
            let gone = self.take_all();
            self.schema = Some(Arc::clone(scene.schema()));
            return gone;
        }
        self.frame += 1;
        for shown in scene.entities() {
            if let Some(known) = self.entities.get_mut(&shown.net_id()).filter(|known| known.kind == shown.kind_id()) {
                known.frame = self.frame;
            }
        }
        let frame = self.frame;
        self.entities.extract_if(.., |_, known| known.frame != frame).map(|(_, known)| known.entity).collect()
    }

    fn take_all(&mut self) -> Vec<Entity> {
        self.own = None;
        std::mem::take(&mut self.entities).into_values().map(|known| known.entity).collect()
    }
}

impl Bindings {
    pub(super) fn add<C: Component<Mutability = Mutable> + PartialEq>(
        &mut self,
        kind: &str,
        read: impl Fn(&Shown<'_>) -> Option<C> + Send + Sync + 'static,
    ) {
        let binding: Binding = Arc::new(move |shown, entity| match read(shown) {
            Some(value) => match entity.get_mut::<C>() {
                Some(mut component) => {
                    component.set_if_neq(value);
                }
                None => {
                    entity.insert(value);
                }
            },
            None => {
                entity.remove::<C>();
            }
        });
        Arc::make_mut(&mut self.0).entry(kind.to_owned()).or_default().push(binding);
    }
}

/// Draws the connection's frame. All resources stay in their places meanwhile, for the observers of what comes and goes.
pub(super) fn show_frame(world: &mut World, mut room: Local<Option<Scene>>) {
    match world.resource::<Connection>().view(&mut room) {
        Some(scene) => show(world, scene),
        None => {
            let gone = world.resource_mut::<RemoteEntities>().take_all();
            despawn(world, gone);
        }
    }
}

/// Makes the world's entities those of a scene.
pub(super) fn show(world: &mut World, scene: &Scene) {
    let gone = world.resource_mut::<RemoteEntities>().take_gone(scene);
    despawn(world, gone);
    let bindings = world.resource::<Bindings>().clone();
    for shown in scene.entities() {
        let known = world.resource::<RemoteEntities>().get(shown.net_id());
        let entity = known.filter(|entity| world.get_entity(*entity).is_ok()).unwrap_or_else(|| spawn(world, &shown));
        let of_kind = bindings.0.get(&shown.kind().name).map_or(&[][..], Vec::as_slice);
        for binding in of_kind {
            with(world, entity, |entity| binding(&shown, entity));
        }
        with(world, entity, |entity| mark(entity, &shown));
    }
    let own = scene.own().and_then(|own| world.resource::<RemoteEntities>().get(own.net_id()));
    world.resource_mut::<RemoteEntities>().own = own;
}

/// An entity without components, which the index knows.
fn spawn(world: &mut World, shown: &Shown<'_>) -> Entity {
    let entity = world.spawn_empty().id();
    let mut remote = world.resource_mut::<RemoteEntities>();
    let known = Known { entity, kind: shown.kind_id(), frame: remote.frame };
    remote.entities.insert(shown.net_id(), known);
    entity
}

/// Says what an entity is, where it is not said yet.
fn mark(entity: &mut EntityWorldMut<'_>, shown: &Shown<'_>) {
    if shown.is_own() != entity.contains::<Own>() {
        match shown.is_own() {
            true => entity.insert(Own),
            false => entity.remove::<Own>(),
        };
    }
    let remote = RemoteEntity { net_id: shown.net_id(), kind: shown.kind_id() };
    if !entity.is_despawned() && entity.get() != Some(&remote) {
        entity.insert(remote);
    }
}

/// Changes an entity, unless an observer of the change before has despawned it.
fn with(world: &mut World, entity: Entity, change: impl FnOnce(&mut EntityWorldMut<'_>)) {
    if let Ok(mut entity) = world.get_entity_mut(entity) {
        change(&mut entity);
    }
}

fn despawn(world: &mut World, entities: Vec<Entity>) {
    for entity in entities {
        // The app may have done it.
        let _ = world.try_despawn(entity);
    }
}
