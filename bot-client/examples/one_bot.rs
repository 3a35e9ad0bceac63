//! Joins a server, walks in a circle for five seconds, says what it sees, and leaves.
//!
//! `cargo run --release` in one terminal, `cargo run --release -p tickwire-client --example one_bot` in another.
#![expect(clippy::print_stdout, reason = "an example speaks to the person who runs it")]

use std::{env, error::Error, f64::consts::TAU};

use tickwire_client::{Client, Event, JoinOptions, bots::Controls};

const SECONDS: u64 = 5;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:7777".to_owned());
    let mut client =
        Client::connect(&url, &JoinOptions { player_name: "circler".into(), ..Default::default() }).await?;
    let (schema, rate) = (client.core().schema().clone(), u64::from(client.core().tick_rate().hz()));
    println!("player {} of {}, game {:?} at {rate} Hz", client.core().player(), client.core().session(), schema.game);

    let controls = Controls::of(&schema).ok_or("this game has no move_x, move_y and aim; choose other inputs")?;
    let mut input = schema.neutral_input();
    let mut ticks = 0;
    while ticks < SECONDS * rate {
        match client.next().await?.ok_or("the server ended the session")? {
            Event::InputDue(_) => {
                let turns = ticks as f64 / (SECONDS * rate) as f64;
                controls.walk(&mut input, libm::cos(turns * TAU), libm::sin(turns * TAU));
                controls.aim(&mut input, turns);
                client.set_input(&input)?;
                ticks += 1;
            }
            Event::Snapshot(applied) if applied.tick.0.is_multiple_of(rate) => look(&client),
            _ => {}
        }
    }
    client.leave().await?;
    println!("{} snapshots, {} hashes agreed", client.stats().snapshots, client.stats().hash_checks);
    Ok(())
}

/// Prints all that is in view.
fn look(client: &Client) {
    let (mirror, schema) = (client.mirror(), client.core().schema());
    println!("tick {}: {} entities, {} players", mirror.tick(), mirror.shown_count(), mirror.roster().len());
    for shown in mirror.shown() {
        let place = ["x", "y"].map(|axis| shown.quantity(axis, mirror.tick()).unwrap_or_default());
        let own = mirror.owner().is_some_and(|own| own.net_id == shown.net_id());
        let kind = &schema.kinds[shown.kind().index()].name;
        println!("  {kind} {} at {:.1}, {:.1}{}", shown.net_id(), place[0], place[1], if own { ", me" } else { "" });
    }
}
