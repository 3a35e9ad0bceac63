//! A client for a game loop: no `async`, and no call that waits.

use std::{
    future::{Future as _, poll_fn},
    io,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    thread,
    time::Instant,
};

use tickwire_shared::{Game, InputId, Schema, schema_of};
use tokio::{runtime, sync::Notify};

use crate::{
    connection::{Client, ClientError, ConnectOptions},
    core::{ClientEvent, Core, Event, Feed, InputError, JoinOptions, Scene, Stats},
};

/// A player's client, for a loop that draws frames.
///
/// Each frame: [`update`](Self::update) tells what happened, [`send`](Self::send) says what the player does, and
/// [`view`](Self::view) what is to be drawn. The connection runs beside, on a thread of its own: it reads, acknowledges, and
/// sends the player's inputs at their times, however the frames fall. No call waits for the network; at most for the few
/// microseconds in which a message is being taken in.
///
/// ```no_run
/// use std::{sync::Arc, time::Instant};
/// use tickwire_arena::Arena;
/// use tickwire_client::{ClientEvent, GameClient, JoinOptions};
///
/// # fn draw(_: tickwire_client::core::Entity<'_>) {}
/// # fn main() -> Result<(), tickwire_client::GameClientError> {
/// let mut client = GameClient::connect("http://127.0.0.1:7777", JoinOptions::default(), Some(Arc::new(Arena)))?;
/// loop {
///     for event in client.update(Instant::now())? {
///         if let ClientEvent::Predicted { action, .. } = event {
///             println!("{}!", action.0);
///         }
///     }
///     if let Some(mut input) = client.input() {
///         input.set("move_x", 1.0);
///         client.send(&input)?;
///     }
///     if let Some(scene) = client.view() {
///         scene.entities().for_each(draw);
///     }
///     # break Ok(());
/// }
/// # }
/// ```
///
/// Dropping it gives the seat up, without waiting for the server's answer; [`leave`](Self::leave) waits for it.
#[derive(Debug)]
pub struct GameClient {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
    /// The frame's moment.
    now: Instant,
    scene: Option<Scene>,
}

/// Why there is nothing to play any more.
#[derive(Debug, thiserror::Error)]
pub enum GameClientError {
    /// The operating system refused a thread or its event queue.
    #[error("cannot start a thread for the connection: {0}")]
    Thread(#[from] io::Error),
    /// The game's own definition is wrong.
    #[error("game.{0}")]
    Game(#[from] tickwire_shared::SchemaError),
    /// The connection could not be made, or ended.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Values that are no input of the game.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The end was told already.
    #[error("the client has ended")]
    Over,
}

/// What a player does, by the names of the schema: see [`GameClient::input`].
#[derive(Clone, Debug, PartialEq)]
pub struct PlayerActions {
    schema: Arc<Schema>,
    values: Vec<i32>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// The player leaves.
    leaving: Notify,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Connecting,
    Playing {
        client: Box<Client>,
        feed: Feed,
        is_joined_told: bool,
    },
    Ended(Option<ClientError>),
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GameClient {
    /// Begins to connect to a server, such as `http://127.0.0.1:7777`, and to join; [`update`](Self::update) tells how that
    /// went.
    ///
    /// With `game` the player's own entity is predicted by it, and sessions of another game, or another version of it, are
    /// refused. Without one, any session's entities are shown by its schema.
    ///
    /// # Errors
    /// Where no thread can be started, or the game's definition is wrong.
    pub fn connect(url: &str, options: JoinOptions, game: Option<Arc<dyn Game>>) -> Result<Self, GameClientError> {
        Self::connect_with(url, options, ConnectOptions::default(), game)
    }

    /// The same, as `connect_options` say.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_with(
        url: &str,
        mut options: JoinOptions,
        connect_options: ConnectOptions,
        game: Option<Arc<dyn Game>>,
    ) -> Result<Self, GameClientError> {
        if let Some(game) = &game {
            let schema = schema_of(&**game)?;
            options.schema_hash.get_or_insert(schema.hash());
        }
        let shared = Arc::new(Shared::default());
        let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (url, theirs) = (url.to_owned(), Arc::clone(&shared));
        let play = move || runtime.block_on(play(&url, &options, &connect_options, game.as_deref(), &theirs));
        let thread = thread::Builder::new().name("tickwire-client".into()).spawn(play)?;
        Ok(Self { shared, thread: Some(thread), now: Instant::now(), scene: None })
    }

    /// Begins a frame that shows the moment `now`: what happened since the last one, in order.
    ///
    /// # Errors
    /// Why the client has ended, once; from then on [`GameClientError::Over`].
    pub fn update(&mut self, now: Instant) -> Result<Vec<ClientEvent>, GameClientError> {
        self.now = now;
        match &mut *self.shared.state() {
            State::Connecting => Ok(Vec::new()),
            State::Playing { client, feed, is_joined_told } => {
                let joined = !std::mem::replace(is_joined_told, true);
                let joined = joined.then(|| ClientEvent::Joined(client.core().player()));
                Ok(joined.into_iter().chain(std::iter::from_fn(|| feed.poll(client.core()))).collect())
            }
            State::Ended(reason) => Err(reason.take().map_or(GameClientError::Over, GameClientError::Client)),
        }
    }

    /// What the player can do, all of it neutral; `None` while there is no session.
    #[must_use]
    pub fn input(&self) -> Option<PlayerActions> {
        self.with_core(|core| PlayerActions {
            schema: Arc::clone(core.schema()),
            values: core.schema().neutral_input(),
        })
    }

    /// What the player does from now on: held fields until they are set again, edges once. It is sent with the next tick's
    /// input, and shows in the next [`view`](Self::view). Without a session it is forgotten.
    ///
    /// # Errors
    /// Where the actions are of another session's game, and do not fit this one's.
    pub fn send(&mut self, actions: &PlayerActions) -> Result<(), InputError> {
        match &mut *self.shared.state() {
            State::Playing { client, .. } => client.set_input(&actions.values),
            State::Connecting | State::Ended(_) => Ok(()),
        }
    }

    /// What is to be drawn in the frame that [`update`](Self::update) began: see [`Core::view`]. `None` while there is no
    /// session.
    pub fn view(&mut self) -> Option<&Scene> {
        let mut room = self.scene.take();
        let is_shown = self.view_into(&mut room).is_some();
        self.scene = room;
        self.scene.as_ref().filter(|_| is_shown)
    }

    /// As [`view`](Self::view), into room that the caller keeps, whatever session it was of.
    pub(crate) fn view_into<'a>(&self, room: &'a mut Option<Scene>) -> Option<&'a Scene> {
        let State::Playing { client, .. } = &mut *self.shared.state() else { return None };
        let schema = client.core().schema();
        if room.as_ref().is_none_or(|scene| !Arc::ptr_eq(scene.schema(), schema)) {
            *room = Some(Scene::new(Arc::clone(schema)));
        }
        let scene = room.as_mut()?;
        client.view(self.now, scene);
        Some(scene)
    }

    /// What was counted so far; `None` while there is no session.
    #[must_use]
    pub fn stats(&self) -> Option<Stats> {
        self.with_core(|core| core.stats().clone())
    }

    /// Looks at the state behind the connection, such as the roster in its mirror; `None` while there is no session. The
    /// connection waits for as long as it is looked at.
    pub fn with_core<T>(&self, look: impl FnOnce(&Core) -> T) -> Option<T> {
        match &*self.shared.state() {
            State::Playing { client, .. } => Some(look(client.core())),
            State::Connecting | State::Ended(_) => None,
        }
    }

    /// Gives the seat up, and waits until the server has heard of it: two seconds at most.
    ///
    /// # Errors
    /// Why the client ended, where it was not by this.
    pub fn leave(mut self) -> Result<(), GameClientError> {
        self.shared.leaving.notify_one();
        if let Some(Err(panic)) = self.thread.take().map(thread::JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
        if matches!(*self.shared.state(), State::Ended(None)) {
            return Ok(());
        }
        self.update(self.now).map(drop)
    }
}

impl Drop for GameClient {
    fn drop(&mut self) {
        self.shared.leaving.notify_one();
    }
}

impl PlayerActions {
    /// Sets a field by its name, in its unit; a quantity out of its range becomes the nearest in it. A game that has no such
    /// field is told nothing.
    pub fn set(&mut self, field: &str, quantity: f64) -> &mut Self {
        if let Some(InputId(i)) = self.schema.input_named(field) {
            let place = usize::from(i);
            self.values[place] = self.schema.inputs[place].quantity.quantize(quantity);
        }
        self
    }

    /// Lets go of what happens once.
    #[cfg(feature = "bevy")]
    pub(crate) fn release_edges(&mut self) {
        for (value, field) in self.values.iter_mut().zip(&self.schema.inputs) {
            if field.mode == tickwire_shared::InputMode::Edge {
                *value = field.neutral;
            }
        }
    }

    /// One value per input field of the schema, in quanta.
    #[must_use]
    pub fn values(&self) -> &[i32] {
        &self.values
    }
}

/// The connection's thread.
async fn play(
    url: &str,
    options: &JoinOptions,
    connect_options: &ConnectOptions,
    game: Option<&dyn Game>,
    shared: &Shared,
) {
    let joined = tokio::select! {
        biased;
        () = shared.leaving.notified() => Ok(None),
        joined = Client::connect_with(url, options, connect_options) => joined.map(Some),
    };
    let mut client = match joined {
        Ok(Some(client)) => Box::new(client),
        Ok(None) => return *shared.state() = State::Ended(None),
        Err(error) => return *shared.state() = State::Ended(Some(error)),
    };
    if let Some(game) = game {
        client.predict(game).expect("a session of another game was refused by its schema's hash");
    }
    *shared.state() = State::Playing { client, feed: Feed::default(), is_joined_told: false };

    let ended = tokio::select! {
        biased;
        () = shared.leaving.notified() => Ok(()),
        ended = attend(shared) => ended,
    };
    // What the loop has yet to be told of the session is void with it.
    let State::Playing { mut client, .. } = std::mem::take(&mut *shared.state()) else { return };
    let ended = match ended {
        Ok(()) => client.leave().await,
        Err(error) => Err(error),
    };
    *shared.state() = State::Ended(ended.err());
}

/// Plays on until the stream ends.
async fn attend(shared: &Shared) -> Result<(), ClientError> {
    let mut goodbye = None;
    poll_fn(|cx| {
        let mut state = shared.state();
        let State::Playing { client, feed, .. } = &mut *state else { return Poll::Ready(Ok(())) };
        loop {
            // Made anew for each poll, so that the game loop has its turns: it loses nothing when it is dropped.
            let next = pin!(client.next()).poll(cx);
            match next {
                Poll::Ready(Ok(Some(Event::Goodbye { reason, text }))) => {
                    goodbye = Some(ClientError::Goodbye { reason, text });
                }
                Poll::Ready(Ok(Some(event))) => feed.take(event, client.core()),
                Poll::Ready(Ok(None)) => return Poll::Ready(Err(goodbye.take().unwrap_or(ClientError::Ended))),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_can_be_a_resource_of_a_world() {
        fn is_resource<T: Send + Sync + 'static>() {}
        is_resource::<GameClient>();
        is_resource::<Scene>();
    }

    #[cfg(feature = "bevy")]
    #[test]
    fn what_happens_once_is_let_go_of_and_the_rest_is_held() {
        let schema = schema_of(&tickwire_arena::Arena).unwrap();
        let neutral = PlayerActions { values: schema.neutral_input(), schema };
        let (mut actions, mut held) = (neutral.clone(), neutral);
        actions.set("rocket", 1.0).set("fire", 1.0);
        actions.release_edges();
        assert_eq!(actions, *held.set("fire", 1.0));
    }

    #[test]
    fn where_no_server_is_the_end_says_so() {
        // A port that was free a moment ago.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let mut client = GameClient::connect(&url, JoinOptions::default(), None).unwrap();
        client.thread.take().unwrap().join().unwrap();
        assert!(client.input().is_none() && client.view().is_none());
        let end = client.update(Instant::now()).unwrap_err();
        assert!(matches!(end, GameClientError::Client(ClientError::Connect { .. })), "{end}");
        assert!(matches!(client.update(Instant::now()), Err(GameClientError::Over)));
    }
}
