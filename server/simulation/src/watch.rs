//! A look at the world after each system of a tick: where in a tick something came to be as it is.

use std::{
    any::TypeId,
    mem,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
};

use bevy_ecs::{
    schedule::{ApplyDeferred, IntoScheduleConfigs as _, Schedule, ScheduleConfigs},
    system::{IntoSystem, ScheduleSystem, System},
    world::World,
};
use tickwire_shared::{Audience, Blueprint, Digest, Event, Game, Outbox, Place, PlayerId, Scores, Systems, Truth};

/// Looks at a session's world after each of the game's systems, at the ticks for which it is asked to.
///
/// A session that is watched runs the systems in the order, and applies their commands at the places, that any session does;
/// between them stands what looks, and does nothing at other ticks. It is there from the session's first tick, or from the
/// keyframe that it is restored from, since a system that is put in later takes everything for changed.
#[derive(Clone, Debug, Default)]
pub struct SystemWatch(Arc<Mutex<Watched>>);

#[derive(Debug, Default)]
struct Watched {
    is_looking: bool,
    systems: Vec<String>,
    states: Vec<WorldState>,
}

/// A tick, system by system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchedTick {
    /// The game's systems by name, in their order; several that were added at once are one.
    pub systems: Vec<String>,
    /// The world before the first system, then after each; where a system panicked, up to the one before it.
    pub states: Vec<WorldState>,
}

/// What of a world is recorded, or goes into the state hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorldState {
    /// Every field, in quanta.
    pub truth: Truth,
    /// The tick's events so far.
    pub events: Vec<(Audience, Event)>,
    /// The scores of all players who have any.
    pub scores: Vec<(PlayerId, Vec<i32>)>,
    /// What [`Game::digest`] makes of the rest.
    pub hidden: u64,
}

impl SystemWatch {
    /// Looks at the session's next tick.
    pub fn look(&self) {
        let mut watched = self.lock();
        watched.is_looking = true;
        watched.states.clear();
    }

    /// What was seen since [`look`](Self::look), also of a tick that panicked. It looks no further.
    #[must_use]
    pub fn take(&self) -> WatchedTick {
        let mut watched = self.lock();
        watched.is_looking = false;
        WatchedTick { systems: watched.systems.clone(), states: mem::take(&mut watched.states) }
    }

    /// The systems, with looks between them.
    pub(crate) fn chain(&self, systems: Systems, game: &Arc<dyn Game>) -> ScheduleConfigs<ScheduleSystem> {
        let eye = Arc::new(Eye { watch: self.clone(), game: Arc::clone(game), blueprint: OnceLock::new() });
        systems.into_chain_with(|_| look_through(Arc::clone(&eye)).into_configs())
    }

    /// Notes the names of the systems between the looks.
    pub(crate) fn name_systems(&self, schedule: &Schedule) {
        let mut groups: Vec<Vec<String>> = Vec::new();
        for (_, system) in schedule.systems().expect("the schedule has been initialized") {
            let name = system.name().to_string();
            if is_look(&name) {
                groups.push(Vec::new());
            } else if system.system_type() != TypeId::of::<ApplyDeferred>()
                && let Some(group) = groups.last_mut()
            {
                group.push(name);
            }
        }
        // Nothing runs after the last look.
        groups.pop();
        self.lock().systems = groups.into_iter().map(|group| group.join(", ")).collect();
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

/// How the names of the systems that look begin: they are closures of [`look_through`].
const LOOK: &str = concat!(module_path!(), "::look_through");

/// Whether a system of this name is no game's, but looks between them.
pub(crate) fn is_look(name: &str) -> bool {
    name.starts_with(LOOK)
}

/// What all looks of a session share.
struct Eye {
    watch: SystemWatch,
    game: Arc<dyn Game>,
    /// How fields are read. Made at the first look: by then the game's definition has been checked.
    blueprint: OnceLock<Blueprint>,
}

fn look_through(eye: Arc<Eye>) -> impl System<In = (), Out = ()> {
    IntoSystem::into_system(move |world: &mut World| {
        if eye.watch.lock().is_looking {
            let state = eye.state(world);
            eye.watch.lock().states.push(state);
        }
    })
}

impl Eye {
    fn state(&self, world: &mut World) -> WorldState {
        let blueprint = self
            .blueprint
            .get_or_init(|| Blueprint::of(&*self.game).expect("the session was created with the same definition"));
        let mut truth = Truth::default();
        for (kind, binding) in blueprint.schema.kinds.iter().zip(&blueprint.kinds) {
            binding.read(world, kind.fields.len(), &mut truth);
        }
        let mut hidden = Digest::default();
        self.game.digest(world, &mut hidden);
        WorldState {
            truth,
            events: world.resource::<Outbox>().emitted().events.clone(),
            scores: world.resource::<Scores>().rows().map(|(player, row)| (player, row.to_vec())).collect(),
            hidden: hidden.finish(),
        }
    }
}

impl WorldState {
    /// All of it in one number.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let mut digest = Digest::default();
        let Self { truth, events, scores, hidden } = self;
        digest.write(truth.rows.len() as u64);
        for ((kind, id), values) in &truth.rows {
            digest.write(u64::from(kind.0) << 32 | u64::from(id.0));
            values.iter().for_each(|&value| digest.write(value as u64));
        }
        digest.write(events.len() as u64);
        for (audience, event) in events {
            let (place, player) = match audience {
                Audience::At(Place::Always) => (0, 0),
                Audience::At(Place::Cell(key)) => (1, key.0),
                Audience::Player(player) => (2, player.0.into()),
            };
            [place, player, event.kind.0.into(), event.ordinal.into()].into_iter().for_each(|word| digest.write(word));
            event.values.iter().for_each(|&value| digest.write(value as u64));
        }
        digest.write(scores.len() as u64);
        for (player, row) in scores {
            digest.write(player.0.into());
            row.iter().for_each(|&score| digest.write(score as u64));
        }
        digest.write(*hidden);
        digest.finish()
    }
}
