//! A session in a bevy world: a plugin that spawns, updates and despawns entities as the player is shown them.
//!
//! The player's own entity is predicted, others are interpolated: see [`GameClient`]. A game says what each kind of entity
//! looks like in its world, and reads what happens as messages:
//!
//! ```no_run
//! use std::sync::Arc;
//! use bevy_app::{App, ScheduleRunnerPlugin, Update};
//! use bevy_ecs::prelude::*;
//! use tickwire_arena::Arena;
//! use tickwire_client::{
//!     ClientEvent, GameClient, GameClientError, JoinOptions,
//!     bevy::{Actions, ReplicateExt as _, TickwirePlugin},
//! };
//!
//! #[derive(Component, PartialEq)]
//! struct Place(f64, f64);
//!
//! fn play(mut actions: ResMut<Actions>, mut events: MessageReader<ClientEvent>, places: Query<&Place, Changed<Place>>) {
//!     actions.set("move_x", 1.0);
//!     for event in events.read() {
//!         if let ClientEvent::Predicted { action, .. } = event {
//!             println!("{}!", action.0);
//!         }
//!     }
//!     places.iter().for_each(|place| println!("{}, {}", place.0, place.1));
//! }
//!
//! # fn main() -> Result<(), GameClientError> {
//! let client = GameClient::connect("http://127.0.0.1:7777", JoinOptions::default(), Some(Arc::new(Arena)))?;
//! App::new()
//!     .add_plugins((ScheduleRunnerPlugin::default(), TickwirePlugin::new(client)))
//!     .replicate("player", |shown| Place(shown.get("x").unwrap_or_default(), shown.get("y").unwrap_or_default()))
//!     .add_systems(Update, play)
//!     .run();
//! # Ok(())
//! # }
//! ```
//!
//! No system waits for the network; at the app's end alone the plugin waits until the server has heard of it.

mod connection;
mod entities;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};

use bevy_app::{App, Last, Plugin, PostUpdate, PreUpdate};
use bevy_ecs::{component::Mutable, prelude::*};

pub use self::{
    connection::{Actions, Connection, ConnectionEnded, ConnectionState, FrameTime},
    entities::{Own, RemoteEntities, RemoteEntity},
};
use crate::{ClientEvent, GameClient, core::Entity as Shown};

/// Keeps a world in step with a session.
///
/// It adds the resources [`Connection`], [`Actions`], [`RemoteEntities`] and [`FrameTime`], the messages [`ClientEvent`] and
/// [`ConnectionEnded`], and the systems of [`TickwireSet`].
#[derive(Debug, Default)]
pub struct TickwirePlugin {
    /// Until the app is built.
    client: Mutex<Option<GameClient>>,
}

/// The plugin's systems, in order.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TickwireSet {
    /// In `PreUpdate`: what happened becomes messages, and [`Connection`] says how the session stands.
    Receive,
    /// In `PreUpdate`, after that: entities are spawned, updated and despawned as they are shown in this frame.
    Show,
    /// In `PostUpdate`: the player's [`Actions`] are handed over, to be sent with the next tick's input.
    Send,
    /// In `Last`: where the app exits, the seat is given up.
    Leave,
}

impl TickwirePlugin {
    /// Plays by a client, which may still be connecting. `TickwirePlugin::default()` has none, until the app puts a
    /// [`Connection`] in the place of the one that there is.
    #[must_use]
    pub fn new(client: GameClient) -> Self {
        Self { client: Mutex::new(Some(client)) }
    }
}

impl Plugin for TickwirePlugin {
    fn build(&self, app: &mut App) {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).take();
        app.insert_resource(client.map_or_else(Connection::default, Connection::new))
            .init_resource::<Actions>()
            .init_resource::<FrameTime>()
            .init_resource::<RemoteEntities>()
            .init_resource::<entities::Bindings>()
            .add_message::<ClientEvent>()
            .add_message::<ConnectionEnded>()
            .configure_sets(PreUpdate, (TickwireSet::Receive, TickwireSet::Show).chain())
            .add_systems(PreUpdate, connection::receive.in_set(TickwireSet::Receive))
            .add_systems(PreUpdate, entities::show_frame.in_set(TickwireSet::Show))
            .add_systems(PostUpdate, connection::send.in_set(TickwireSet::Send))
            .add_systems(Last, connection::leave.in_set(TickwireSet::Leave));
    }
}

impl Message for ClientEvent {}

/// What an app says of its components.
pub trait ReplicateExt {
    /// Gives each entity of a kind of the schema, such as `"player"`, a component made of its values as they are shown. It is
    /// inserted when the entity is spawned, and changed in the frames in which its value is another. A kind that the session's
    /// game does not have is never shown.
    fn replicate<C: Component<Mutability = Mutable> + PartialEq>(
        &mut self,
        kind: &str,
        read: impl Fn(&Shown<'_>) -> C + Send + Sync + 'static,
    ) -> &mut Self;

    /// As [`replicate`](Self::replicate), for a component that an entity has at some times and not at others, such as one of
    /// fields that only the owner sees.
    fn replicate_some<C: Component<Mutability = Mutable> + PartialEq>(
        &mut self,
        kind: &str,
        read: impl Fn(&Shown<'_>) -> Option<C> + Send + Sync + 'static,
    ) -> &mut Self;
}

impl ReplicateExt for App {
    fn replicate<C: Component<Mutability = Mutable> + PartialEq>(
        &mut self,
        kind: &str,
        read: impl Fn(&Shown<'_>) -> C + Send + Sync + 'static,
    ) -> &mut Self {
        self.replicate_some(kind, move |shown| Some(read(shown)))
    }

    fn replicate_some<C: Component<Mutability = Mutable> + PartialEq>(
        &mut self,
        kind: &str,
        read: impl Fn(&Shown<'_>) -> Option<C> + Send + Sync + 'static,
    ) -> &mut Self {
        self.init_resource::<entities::Bindings>();
        self.world_mut().resource_mut::<entities::Bindings>().add(kind, read);
        self
    }
}
