//! A game loop at 60 frames a second, without anything to draw on: joins, walks in a circle, fires, says what it would draw.
//!
//! `cargo run --release` in one terminal, `cargo run --release -p tickwire-client --example game_loop` in another.
#![expect(clippy::print_stdout, reason = "an example speaks to the person who runs it")]

use std::{
    env,
    error::Error,
    f64::consts::TAU,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tickwire_arena::Arena;
use tickwire_client::{ClientEvent, GameClient, JoinOptions, Scene};

const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 60);
const FRAMES: u32 = 4 * 60;
/// A server that does not answer for so long is not there.
const FRAMES_TO_JOIN: u32 = 10 * 60;

fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:7777".to_owned());
    let options = JoinOptions { player_name: "looper".into(), ..JoinOptions::default() };
    let mut client = GameClient::connect(&url, options, Some(Arc::new(Arena)))?;

    let start = Instant::now();
    let (mut played, mut shots) = (0, 0);
    for frame in 0..FRAMES_TO_JOIN {
        // The frame's moment; a real loop waits for the screen.
        let now = start + FRAME * frame;
        thread::sleep(now.saturating_duration_since(Instant::now()));

        for event in client.update(now)? {
            match event {
                ClientEvent::Joined(player) => println!("joined as player {player}"),
                ClientEvent::Predicted { action, .. } => shots += u32::from(action.0 == "rifle"),
                ClientEvent::Happened(event) if event.own => println!("{} at tick {}", event.name(), event.tick),
                _ => {}
            }
        }
        let Some(mut input) = client.input() else { continue };
        let turns = f64::from(played) / f64::from(FRAMES);
        input.set("move_x", libm::cos(turns * TAU)).set("move_y", libm::sin(turns * TAU)).set("aim", turns);
        input.set("fire", 1.0);
        client.send(&input)?;
        match client.view() {
            Some(scene) if played % 60 == 30 => draw(scene),
            _ => {}
        }
        played += 1;
        if played == FRAMES {
            break;
        }
    }
    let stats = client.stats().ok_or("no server answered in time")?;
    println!("{shots} shots, {} of {} ticks mispredicted", stats.mispredictions, stats.ticks_compared);
    client.leave()?;
    Ok(())
}

fn draw(scene: &Scene) {
    let (tick, fraction) = scene.seen();
    println!("others as at tick {tick} and {fraction}/256:");
    for entity in scene.entities() {
        let [x, y] = ["x", "y"].map(|axis| entity.get(axis).unwrap_or_default());
        let own = if entity.is_own() { ", me" } else { "" };
        println!("  {} {} at {x:.2}, {y:.2}{own}", entity.kind().name, entity.net_id());
    }
}
