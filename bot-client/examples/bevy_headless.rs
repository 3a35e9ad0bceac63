//! A bevy app without a window: joins, walks in a circle, says where others are.
//!
//! `cargo run --release` in one terminal, in another
//! `cargo run --release -p tickwire-client --features bevy --example bevy_headless`.
#![expect(clippy::print_stdout, reason = "an example speaks to the person who runs it")]

use std::{env, error::Error, f64::consts::TAU, process::ExitCode, sync::Arc, time::Duration};

use bevy_app::{App, AppExit, ScheduleRunnerPlugin, Update};
use bevy_ecs::prelude::*;
use tickwire_arena::Arena;
use tickwire_client::{
    ClientEvent, GameClient, JoinOptions,
    bevy::{
        Actions, Connection, ConnectionEnded, ConnectionState, Own, RemoteEntity, ReplicateExt as _, TickwirePlugin,
    },
};

const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 60);
const FRAMES: u32 = 4 * 60;
/// A server that does not answer for so long is not there.
const FRAMES_TO_JOIN: u32 = 10 * 60;

#[derive(Component, Clone, Copy, Debug, PartialEq)]
struct Place {
    x: f64,
    y: f64,
}

#[derive(Component, Clone, Copy, Debug, PartialEq)]
struct Player(u32);

/// Frames since the app began, and with a session.
#[derive(Resource, Default)]
struct Frames {
    all: u32,
    played: u32,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let url = env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:7777".to_owned());
    let options = JoinOptions { player_name: "beetle".into(), ..JoinOptions::default() };
    let client = GameClient::connect(&url, options, Some(Arc::new(Arena)))?;
    let place = |shown: &tickwire_client::core::Entity<'_>| Place {
        x: shown.get("x").unwrap_or_default(),
        y: shown.get("y").unwrap_or_default(),
    };
    let exit = App::new()
        .add_plugins((ScheduleRunnerPlugin::run_loop(FRAME), TickwirePlugin::new(client)))
        .replicate("player", place)
        .replicate("player", |shown| Player(shown.get("player").unwrap_or_default() as u32))
        .replicate("rocket", place)
        .init_resource::<Frames>()
        .add_systems(Update, (listen, (walk, look).chain()))
        .add_observer(greet)
        .run();
    Ok(match exit {
        AppExit::Success => ExitCode::SUCCESS,
        AppExit::Error(code) => code.get().into(),
    })
}

fn listen(
    mut events: MessageReader<ClientEvent>,
    mut ends: MessageReader<ConnectionEnded>,
    mut exit: MessageWriter<AppExit>,
) {
    for event in events.read() {
        match event {
            ClientEvent::Joined(player) => println!("joined as player {player}"),
            ClientEvent::Happened(event) if event.own => println!("{} at tick {}", event.name(), event.tick),
            _ => {}
        }
    }
    for ConnectionEnded(reason) in ends.read() {
        println!("{reason}");
        exit.write(AppExit::error());
    }
}

/// A circle in four seconds, and the end of it.
fn walk(
    mut frames: ResMut<Frames>,
    connection: Res<Connection>,
    mut actions: ResMut<Actions>,
    mut exit: MessageWriter<AppExit>,
) {
    frames.all += 1;
    if !matches!(connection.state(), ConnectionState::Playing(_)) {
        if frames.all == FRAMES_TO_JOIN {
            println!("no server answered in time");
            exit.write(AppExit::error());
        }
        return;
    }
    let turns = f64::from(frames.played) / f64::from(FRAMES);
    actions.set("move_x", libm::cos(turns * TAU)).set("move_y", libm::sin(turns * TAU)).set("aim", turns);
    frames.played += 1;
    if frames.played == FRAMES {
        if let Some(stats) = connection.client().and_then(GameClient::stats) {
            println!("{} of {} ticks mispredicted", stats.mispredictions, stats.ticks_compared);
        }
        exit.write(AppExit::Success);
    }
}

/// Once a second, what there is to draw.
fn look(frames: Res<Frames>, shown: Query<(&RemoteEntity, &Place, Option<&Player>, Has<Own>)>) {
    if frames.played % 60 != 30 {
        return;
    }
    println!("after {} frames:", frames.played);
    for (remote, place, player, own) in &shown {
        let what = player.map_or_else(|| "rocket".to_owned(), |player| format!("player {}", player.0));
        let own = if own { ", me" } else { "" };
        println!("  {what} (entity {}) at {:.2}, {:.2}{own}", remote.net_id, place.x, place.y);
    }
}

fn greet(added: On<Add<RemoteEntity>>, players: Query<&Player>) {
    if let Ok(player) = players.get(added.entity) {
        println!("player {} is there", player.0);
    }
}
