//! A bevy app beside a server.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bevy_app::{App, AppExit, Update};
use bevy_ecs::{message::Messages, prelude::*};
use tickwire_arena::Arena;
use tickwire_client::{
    ClientEvent, GameClient, JoinOptions,
    bevy::{
        Actions, Connection, ConnectionEnded, ConnectionState, Own, RemoteEntities, RemoteEntity, ReplicateExt as _,
        TickwirePlugin,
    },
};
use tickwire_server::{Server, ServerConfig, Timeouts};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::{oneshot, watch},
    task::JoinHandle,
};

/// A screen's pace.
const FRAME: Duration = Duration::from_millis(8);
/// Nothing on one machine takes so long; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Component, Clone, Copy, Debug, PartialEq)]
struct Along(f64);

/// How often the app was told that it has joined.
#[derive(Resource, Default)]
struct Joined(usize);

/// Holds the way, once the session has begun.
fn walk_east(mut actions: ResMut<Actions>) {
    actions.set("move_x", 1.0);
}

/// An arena on a port of its own.
struct TestServer {
    runtime: Runtime,
    url: String,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl TestServer {
    fn start() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let timeouts = Timeouts { drain: Duration::ZERO, ..Timeouts::default() };
        // Nothing to walk into, and everybody is in view.
        let settings = vec![("cover".to_owned(), 0.0), ("size".to_owned(), 600.0)];
        let config = ServerConfig { seed: Some(1), timeouts, settings, ..ServerConfig::default() };
        let (stop, stopped) = oneshot::channel();
        let guard = runtime.enter();
        let server = Server::start(config, vec![Arc::new(Arena)]).expect("the configuration is good");
        let served = runtime.spawn(server.serve(listener, async {
            // A test that fails drops the sender; that is a reason to stop, too.
            let _ = stopped.await;
        }));
        drop(guard);
        Self { runtime, url, stop, served }
    }

    /// A way to the server that carries bytes while it is open, and cuts all connections when it closes.
    fn gate(&self) -> (String, watch::Sender<bool>) {
        let listener = self.runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let (gate, open) = watch::channel(true);
        let server = self.url.trim_start_matches("http://").to_owned();
        self.runtime.spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (server, mut open) = (server.clone(), open.clone());
                tokio::spawn(async move {
                    let carry = async {
                        let mut far = TcpStream::connect(server).await?;
                        tokio::io::copy_bidirectional(&mut near, &mut far).await
                    };
                    tokio::select! {
                        biased;
                        // An error says that the test is over.
                        _ = open.wait_for(|open| !*open) => {}
                        _ = carry => {}
                    }
                });
            }
        });
        (url, gate)
    }

    fn client(&self) -> GameClient {
        self.client_by(&self.url)
    }

    fn client_by(&self, url: &str) -> GameClient {
        GameClient::connect(url, JoinOptions::default(), Some(Arc::new(Arena))).expect("a thread starts")
    }

    /// An app that walks east.
    fn app(&self) -> App {
        Self::app_of(self.client())
    }

    fn app_of(client: GameClient) -> App {
        let mut app = App::new();
        app.add_plugins(TickwirePlugin::new(client))
            .replicate("player", |shown| Along(shown.get("x").expect("everybody sees it")))
            .add_systems(Update, walk_east.run_if(resource_changed::<Connection>));
        app
    }

    fn stop(self) {
        self.stop.send(()).expect("it runs");
        self.runtime.block_on(self.served).expect("the server does not panic");
    }
}

/// Runs frames until something holds.
fn run_until(app: &mut App, mut holds: impl FnMut(&mut World) -> bool) {
    let start = Instant::now();
    loop {
        app.update();
        if holds(app.world_mut()) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "it takes too long: {:?}", app.world().resource::<Connection>());
        thread::sleep(FRAME);
    }
}

/// The one entity that is marked as the player's own, and how far along it is.
fn own(world: &mut World) -> Option<(Entity, f64)> {
    let mut marked = world.query_filtered::<(Entity, &Along), (With<Own>, With<RemoteEntity>)>();
    let marked: Vec<_> = marked.iter(world).map(|(entity, along)| (entity, along.0)).collect();
    assert!(marked.len() <= 1);
    assert_eq!(world.resource::<RemoteEntities>().own(), marked.first().map(|(entity, _)| *entity));
    marked.first().copied()
}

fn count(world: &mut World) -> usize {
    let count = world.query::<&RemoteEntity>().iter(world).count();
    assert_eq!(world.resource::<RemoteEntities>().iter().len(), count);
    count
}

/// Plays until the player has been shown a metre on its way, as one entity.
fn run_until_walked(app: &mut App) {
    let mut start = None;
    run_until(app, |world| {
        let Some((entity, along)) = own(world) else { return false };
        let &mut (first, from) = start.get_or_insert((entity, along));
        assert_eq!(entity, first);
        (along - from).abs() > 1.0
    });
    assert!(matches!(app.world().resource::<Connection>().state(), ConnectionState::Playing(_)));
}

#[test]
fn an_app_plays_sees_others_come_and_go_and_leaves_when_it_exits() {
    let server = TestServer::start();
    let mut app = server.app();
    app.init_resource::<Joined>().add_systems(
        Update,
        |mut events: MessageReader<ClientEvent>, mut joined: ResMut<Joined>| {
            joined.0 += events.read().filter(|event| matches!(event, ClientEvent::Joined(_))).count();
        },
    );
    run_until_walked(&mut app);
    let mine = own(app.world_mut()).expect("it walks").0;

    let other = server.client();
    run_until(&mut app, |world| count(world) == 2);
    other.leave().expect("the server says goodbye");
    run_until(&mut app, |world| count(world) == 1);
    assert_eq!(own(app.world_mut()).map(|(entity, _)| entity), Some(mine));
    assert_eq!(app.world().resource::<Joined>().0, 1);

    app.world_mut().write_message(AppExit::Success);
    app.update();
    let connection = app.world().resource::<Connection>();
    assert!(matches!(connection.state(), ConnectionState::Idle), "the server said goodbye: {connection:?}");
    assert!(app.world().resource::<Messages<ConnectionEnded>>().is_empty());
    app.update();
    assert_eq!(count(app.world_mut()), 0);
    server.stop();
}

#[test]
fn a_session_that_ends_is_told_of_once_and_another_one_takes_its_place() {
    let [first, second] = [TestServer::start(), TestServer::start()];
    let mut app = first.app();
    run_until_walked(&mut app);
    let mut cursor = app.world().resource::<Messages<ConnectionEnded>>().get_cursor();
    first.stop();
    run_until(&mut app, |world| matches!(world.resource::<Connection>().state(), ConnectionState::Ended(_)));
    assert_eq!(cursor.read(app.world().resource()).count(), 1);
    assert_eq!(count(app.world_mut()), 0);
    assert!(app.world().resource::<Actions>().get().is_none());
    app.update();
    assert_eq!(cursor.read(app.world().resource()).count(), 0);

    *app.world_mut().resource_mut::<Connection>() = Connection::new(second.client());
    run_until_walked(&mut app);
    second.stop();
}

#[test]
fn an_app_whose_connection_is_lost_goes_on_with_the_same_entity_and_actions() {
    let server = TestServer::start();
    let (url, gate) = server.gate();
    let mut app = TestServer::app_of(server.client_by(&url));
    run_until_walked(&mut app);
    let mine = own(app.world_mut()).expect("it walks").0;
    let mut cursor = app.world().resource::<Messages<ClientEvent>>().get_cursor();
    cursor.clear(app.world().resource());
    let mut told = Vec::new();
    gate.send_replace(false);
    run_until(&mut app, |world| {
        told.extend(cursor.read(world.resource()).cloned());
        matches!(world.resource::<Connection>().state(), ConnectionState::Reconnecting(_))
    });
    assert_eq!(own(app.world_mut()).map(|(entity, _)| entity), Some(mine), "it stands still");
    assert!(app.world().resource::<Actions>().get().is_some());

    gate.send_replace(true);
    run_until(&mut app, |world| {
        told.extend(cursor.read(world.resource()).cloned());
        matches!(world.resource::<Connection>().state(), ConnectionState::Playing(_))
    });
    told.retain(|event| matches!(event, ClientEvent::ConnectionLost | ClientEvent::Reconnected { .. }));
    assert_eq!(told, [ClientEvent::ConnectionLost, ClientEvent::Reconnected { epoch_changed: false }]);
    // Nobody sets the way again: it is held.
    run_until_walked(&mut app);
    assert_eq!(own(app.world_mut()).map(|(entity, _)| entity), Some(mine));
    server.stop();
}
