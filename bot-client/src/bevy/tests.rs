use std::{net::TcpListener, thread, time::Duration};

use bevy_app::Update;
use bevy_ecs::message::Messages;
use tickwire_arena::Arena;
use tickwire_shared::{KindId, NetId, schema_of};

use super::{entities::show, *};
use crate::{GameClientError, JoinOptions, Scene};

const PLAYER: KindId = KindId(0);
const ROCKET: KindId = KindId(1);

#[derive(Component, Clone, Copy, Debug, PartialEq)]
struct Place(f64, f64);

#[derive(Component, Debug, PartialEq)]
struct Cooldown(f64);

#[derive(Component, Debug, PartialEq)]
struct Rocket;

/// How many places changed and were added in a frame.
#[derive(Resource, Debug, Default, PartialEq)]
struct Counted {
    changed: usize,
    added: usize,
}

fn count(mut counted: ResMut<Counted>, changed: Query<(), Changed<Place>>, added: Query<(), Added<RemoteEntity>>) {
    *counted = Counted { changed: changed.iter().count(), added: added.iter().count() };
}

fn place(shown: &Shown<'_>) -> Place {
    Place(shown.get("x").unwrap(), shown.get("y").unwrap())
}

/// An app without a connection, to which tests show scenes.
fn app() -> App {
    let mut app = App::new();
    app.add_plugins(TickwirePlugin::default())
        .replicate("player", place)
        .replicate_some("player", |shown| shown.get("rifle_cooldown").map(Cooldown))
        .replicate("rocket", place)
        .replicate("rocket", |_| Rocket)
        .replicate("submarine", |_| Rocket)
        .init_resource::<Counted>()
        .add_systems(Update, count);
    app
}

/// A scene of the arena: number, kind, whether it is the player's own, and how far along x it is, in metres.
fn scene(entities: &[(u32, KindId, bool, f64)]) -> Scene {
    let mut scene = Scene::new(schema_of(&Arena).unwrap());
    fill(&mut scene, entities);
    scene
}

fn fill(scene: &mut Scene, entities: &[(u32, KindId, bool, f64)]) {
    scene.clear();
    for &(net_id, kind, is_own, x) in entities {
        let schema = scene.schema().clone();
        let fields = &schema.kinds[kind.index()].fields;
        let quanta = fields.iter().map(|field| match field.name.as_str() {
            "x" => x / field.quantity.quantum,
            name if name.ends_with("cooldown") && !is_own => f64::NAN,
            _ => 0.0,
        });
        scene.push(NetId(net_id), kind, is_own, quanta);
    }
}

/// Shows a scene, and has the app's systems see it.
fn frame(app: &mut App, scene: &Scene) -> Counted {
    show(app.world_mut(), scene);
    app.world_mut().run_schedule(Update);
    std::mem::take(&mut *app.world_mut().resource_mut::<Counted>())
}

/// Each entity's number, place along x, and whether it is marked as the player's own.
fn shown(app: &mut App) -> Vec<(u32, f64, bool)> {
    let world = app.world_mut();
    let mut query = world.query::<(Entity, &RemoteEntity, &Place, Has<Own>)>();
    let found = query.iter(world).map(|(entity, remote, place, own)| (entity, remote.net_id, place.0, own));
    let mut found: Vec<_> = found.collect();
    found.sort_unstable_by_key(|(_, net_id, ..)| *net_id);
    let remote = world.resource::<RemoteEntities>();
    assert!(remote.iter().eq(found.iter().map(|&(entity, net_id, ..)| (net_id, entity))), "{remote:?}");
    let own = found.iter().find(|(.., own)| *own).map(|(entity, ..)| *entity);
    assert_eq!(remote.own(), own);
    found.into_iter().map(|(_, net_id, x, own)| (net_id.0, x, own)).collect()
}

#[test]
fn entities_come_change_and_go_with_the_scene() {
    let mut app = app();
    let mut scene = scene(&[(7, PLAYER, true, 1.0), (3, PLAYER, false, 2.0), (9, ROCKET, false, 3.0)]);
    assert_eq!(frame(&mut app, &scene), Counted { changed: 3, added: 3 });
    assert_eq!(shown(&mut app), [(3, 2.0, false), (7, 1.0, true), (9, 3.0, false)]);
    let remote = app.world().resource::<RemoteEntities>();
    let (third, ninth) = (remote.get(NetId(3)).unwrap(), remote.get(NetId(9)).unwrap());
    assert_eq!(app.world().get::<RemoteEntity>(ninth).unwrap().kind, ROCKET);
    assert!(app.world().get::<Rocket>(ninth).is_some() && app.world().get::<Rocket>(third).is_none());

    fill(&mut scene, &[(7, PLAYER, true, 1.0), (3, PLAYER, false, 2.5), (11, ROCKET, false, 4.0)]);
    assert_eq!(frame(&mut app, &scene), Counted { changed: 2, added: 1 });
    assert_eq!(shown(&mut app), [(3, 2.5, false), (7, 1.0, true), (11, 4.0, false)]);
    assert_eq!(app.world().resource::<RemoteEntities>().get(NetId(3)), Some(third), "it is the same as before");
    assert!(app.world().get_entity(ninth).is_err());
}

#[test]
fn a_frame_in_which_nothing_moves_changes_nothing() {
    let mut app = app();
    let scene = scene(&[(7, PLAYER, true, 1.0), (3, PLAYER, false, 2.0)]);
    frame(&mut app, &scene);
    assert_eq!(frame(&mut app, &scene), Counted::default());
}

#[test]
fn a_component_of_what_only_the_owner_sees_comes_and_goes_with_the_mark() {
    let mut app = app();
    let mut scene = scene(&[(3, PLAYER, false, 2.0)]);
    frame(&mut app, &scene);
    let entity = app.world().resource::<RemoteEntities>().get(NetId(3)).unwrap();
    assert!(!app.world().entity(entity).contains::<Cooldown>());
    fill(&mut scene, &[(3, PLAYER, true, 2.0)]);
    frame(&mut app, &scene);
    assert_eq!(app.world().get::<Cooldown>(entity), Some(&Cooldown(0.0)));
    assert_eq!(shown(&mut app), [(3, 2.0, true)]);
    fill(&mut scene, &[(3, PLAYER, false, 2.0)]);
    frame(&mut app, &scene);
    assert!(!app.world().entity(entity).contains::<Cooldown>());
    assert_eq!(shown(&mut app), [(3, 2.0, false)]);
}

#[test]
fn another_session_or_another_kind_under_the_same_number_is_another_entity() {
    let mut app = app();
    let mut first = scene(&[(3, PLAYER, false, 2.0), (4, PLAYER, true, 1.0)]);
    frame(&mut app, &first);
    let entity = |app: &App, net_id| app.world().resource::<RemoteEntities>().get(NetId(net_id)).unwrap();
    let (third, fourth) = (entity(&app, 3), entity(&app, 4));
    fill(&mut first, &[(3, ROCKET, false, 2.0), (4, PLAYER, true, 1.0)]);
    frame(&mut app, &first);
    assert!(entity(&app, 3) != third && entity(&app, 4) == fourth);
    frame(&mut app, &scene(&[(4, PLAYER, true, 1.0)]));
    assert!(entity(&app, 4) != fourth);
    assert_eq!(shown(&mut app), [(4, 1.0, true)]);
}

#[test]
fn an_entity_that_the_app_or_an_observer_despawns_is_spawned_anew_and_hurts_nothing() {
    let mut app = app();
    let scene = scene(&[(3, PLAYER, false, 2.0)]);
    frame(&mut app, &scene);
    let entity = app.world().resource::<RemoteEntities>().get(NetId(3)).unwrap();
    app.world_mut().despawn(entity);
    frame(&mut app, &scene);
    assert_eq!(shown(&mut app), [(3, 2.0, false)]);

    app.add_observer(|added: On<Add<Rocket>>, mut commands: Commands, remote: Res<RemoteEntities>| {
        assert!(remote.iter().any(|(_, entity)| entity == added.entity));
        commands.entity(added.entity).despawn();
    });
    let rocket = self::scene(&[(9, ROCKET, false, 2.0)]);
    frame(&mut app, &rocket);
    let world = app.world_mut();
    assert_eq!(world.query::<&RemoteEntity>().iter(world).count(), 0);
    frame(&mut app, &self::scene(&[]));
    assert_eq!(shown(&mut app), []);
}

#[test]
fn what_is_added_last_says_that_all_is_there() {
    #[derive(Resource, Default)]
    struct Found(Vec<(NetId, Place, bool)>);
    let mut app = app();
    app.init_resource::<Found>().add_observer(
        |added: On<Add<RemoteEntity>>, found: Query<(&RemoteEntity, &Place, Has<Own>)>, mut all: ResMut<Found>| {
            let (remote, place, own) = found.get(added.entity).unwrap();
            all.0.push((remote.net_id, *place, own));
        },
    );
    frame(&mut app, &scene(&[(3, PLAYER, true, 2.0)]));
    assert_eq!(app.world().resource::<Found>().0, [(NetId(3), Place(2.0, 0.0), true)]);
}

#[test]
fn without_a_connection_nothing_is_shown_and_actions_are_forgotten() {
    let mut app = app();
    frame(&mut app, &scene(&[(3, PLAYER, true, 2.0)]));
    app.update();
    assert_eq!(shown(&mut app), []);
    assert!(matches!(app.world().resource::<Connection>().state(), ConnectionState::Idle));
    assert!(app.world_mut().resource_mut::<Actions>().set("move_x", 1.0).get().is_none());
}

#[test]
fn where_no_server_is_the_end_is_told_once_and_stands_in_the_state() {
    // A port that was free a moment ago.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let mut app = app();
    let client = GameClient::connect(&url, JoinOptions::default(), None).unwrap();
    app.insert_resource(Connection::new(client));
    assert!(matches!(app.world().resource::<Connection>().state(), ConnectionState::Connecting));
    let mut cursor = app.world().resource::<Messages<ConnectionEnded>>().get_cursor();
    let mut told = 0;
    let mut frames_after = 0;
    while frames_after < 3 {
        app.update();
        told += cursor.read(app.world().resource()).count();
        frames_after += told;
        // A screen's pace.
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(told, 1);
    let ConnectionState::Ended(reason) = app.world().resource::<Connection>().state() else { panic!("it has ended") };
    assert!(matches!(**reason, GameClientError::Client(_)), "{reason}");
    assert!(app.world().resource::<Connection>().client().is_none());
}
