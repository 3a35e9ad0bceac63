//! The session as resources and messages.

use std::{sync::Arc, time::Instant};

use bevy_app::AppExit;
use bevy_ecs::prelude::*;
use tickwire_shared::PlayerId;

use crate::{ClientEvent, Core, GameClient, GameClientError, PlayerActions, Scene};

/// The player's connection, as a resource. It is marked as changed when its [state](Self::state) changes.
///
/// Another one in its place begins another session; the seat in the old one is given up, without waiting for the server:
/// `*connection = Connection::new(client)`, or `Connection::default()` for none.
#[derive(Resource, Debug, Default)]
pub struct Connection {
    client: Option<GameClient>,
    state: ConnectionState,
}

/// How a session stands.
#[derive(Clone, Debug, Default)]
pub enum ConnectionState {
    /// There is none.
    #[default]
    Idle,
    /// It is being connected to and joined.
    Connecting,
    /// It is played, as this player.
    Playing(PlayerId),
    /// This player's connection is lost, and the seat is being taken back: entities stand still, and actions are kept.
    Reconnecting(PlayerId),
    /// It could not be joined, or has ended.
    Ended(Arc<GameClientError>),
}

/// The session could not be joined, or has ended, without the app having asked for it.
#[derive(Message, Clone, Debug)]
pub struct ConnectionEnded(pub Arc<GameClientError>);

/// The moment that frames show, as a resource. `None`: the one at which each begins. An app that has its own clock of frames
/// sets it before [`TickwireSet::Receive`](super::TickwireSet::Receive); it never goes back.
#[derive(Resource, Clone, Copy, Debug, Default)]
pub struct FrameTime(pub Option<Instant>);

/// What the player does, as a resource: held fields until they are set again, edges once. Neutral when a session begins.
#[derive(Resource, Clone, Debug, Default)]
pub struct Actions(Option<PlayerActions>);

impl Connection {
    /// Plays by a client, which may still be connecting.
    #[must_use]
    pub fn new(client: GameClient) -> Self {
        Self { client: Some(client), state: ConnectionState::Connecting }
    }

    /// How the session stands.
    #[must_use]
    pub const fn state(&self) -> &ConnectionState {
        &self.state
    }

    /// The client, for what it counts and for the state behind it; `None` where there is no session.
    #[must_use]
    pub const fn client(&self) -> Option<&GameClient> {
        self.client.as_ref()
    }

    /// Gives the seat up, and waits until the server has heard of it: two seconds at most. A session that has ended by itself
    /// stays what it is.
    ///
    /// # Errors
    /// Why the session had ended before, where that was not told yet.
    pub fn leave(&mut self) -> Result<(), GameClientError> {
        let Some(client) = self.client.take() else { return Ok(()) };
        self.state = ConnectionState::Idle;
        client.leave()
    }

    /// What is to be drawn in this frame; `None` where there is no session.
    pub(super) fn view<'a>(&self, room: &'a mut Option<Scene>) -> Option<&'a Scene> {
        self.client.as_ref()?.view_into(room)
    }
}

impl Actions {
    /// Sets a field by its name, in its unit; see [`PlayerActions::set`]. While there is no session it does nothing.
    pub fn set(&mut self, field: &str, quantity: f64) -> &mut Self {
        if let Some(actions) = &mut self.0 {
            actions.set(field, quantity);
        }
        self
    }

    /// What is set so far; `None` while there is no session.
    #[must_use]
    pub const fn get(&self) -> Option<&PlayerActions> {
        self.0.as_ref()
    }
}

/// Tells what happened.
pub(super) fn receive(
    mut connection: ResMut<Connection>,
    mut actions: ResMut<Actions>,
    moment: Res<FrameTime>,
    mut events: MessageWriter<ClientEvent>,
    mut ended: MessageWriter<ConnectionEnded>,
) {
    let now = moment.0.unwrap_or_else(Instant::now);
    let has_session = matches!(connection.state, ConnectionState::Playing(_) | ConnectionState::Reconnecting(_));
    if !has_session && actions.0.is_some() {
        actions.0 = None;
    }
    let Some(client) = &mut connection.bypass_change_detection().client else { return };
    match client.update(now) {
        Ok(happened) => {
            let is_lost = client.with_core(Core::is_lost).unwrap_or(false);
            events.write_batch(happened);
            match connection.state {
                ConnectionState::Playing(player) if is_lost => {
                    connection.state = ConnectionState::Reconnecting(player);
                }
                ConnectionState::Reconnecting(player) if !is_lost => {
                    connection.state = ConnectionState::Playing(player);
                }
                _ => {}
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            *connection = Connection { client: None, state: ConnectionState::Ended(Arc::clone(&error)) };
            actions.0 = None;
            ended.write(ConnectionEnded(error));
            return;
        }
    }
    if matches!(connection.state, ConnectionState::Connecting)
        && let Some(player) = connection.client.as_ref().and_then(|client| client.with_core(Core::player))
    {
        actions.0 = connection.client.as_ref().and_then(GameClient::input);
        connection.state = ConnectionState::Playing(player);
    }
}

/// Hands over what the player does.
pub(super) fn send(mut connection: ResMut<Connection>, mut actions: ResMut<Actions>) {
    let Connection { client: Some(client), state: ConnectionState::Playing(_) } = connection.bypass_change_detection()
    else {
        return;
    };
    let Some(given) = &mut actions.bypass_change_detection().0 else { return };
    match client.send(given) {
        Ok(()) => given.release_edges(),
        // The app has put those of another session in their place.
        Err(_) => actions.0 = client.input(),
    }
}

/// Gives the seat up where the app exits.
pub(super) fn leave(mut exits: MessageReader<AppExit>, mut connection: ResMut<Connection>) {
    if exits.read().last().is_some()
        && let Err(error) = connection.leave()
    {
        connection.state = ConnectionState::Ended(Arc::new(error));
    }
}
