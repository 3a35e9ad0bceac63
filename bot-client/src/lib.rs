//! Tickwire's client library, and the bots that play by it.
//!
//! | layer | what it is |
//! |---|---|
//! | [`core`] | the player's side of a session as a state machine: messages and times in, messages and events out; no socket, no clock |
//! | [`connection`] | that core on a gRPC stream: [`Client`], with typed errors |
//! | [`GameClient`] | that client beside a game loop: no `async`, nothing to wait for |
//! | `bevy` | that again as a plugin for bevy: entities come, change and go by themselves; with the feature `bevy` |
//! | [`bots`] | headless players: behaviours, recorded human input, swarms, their report; the program `tickwire-bots` |
//!
//! A client needs nothing but the server's address: the schema that comes with the welcome says what the game replicates
//! and what a player can do.
//!
//! ```no_run
//! use tickwire_client::{Client, Event, JoinOptions};
//!
//! # async fn play() -> Result<(), tickwire_client::ClientError> {
//! let mut client = Client::connect("http://127.0.0.1:7777", &JoinOptions::default()).await?;
//! while let Some(event) = client.next().await? {
//!     match event {
//!         // One value per input field of the schema.
//!         Event::InputDue(_) => client.set_input(&[127])?,
//!         Event::Snapshot(applied) => println!("tick {}: {} entities", applied.tick, applied.entities),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

#[cfg(feature = "bevy")]
pub mod bevy;
pub mod bots;
pub mod connection;
pub mod core;
mod game_client;

pub use self::{
    connection::{
        Chat, ChatEvent, ChatTo, ChatToken, Client, ClientError, ConnectOptions, Spectator, WatchEvent, WatchOptions,
    },
    core::{ClientEvent, Core, Event, GaveUp, JoinOptions, Resume, Scene, Stats, Stripes},
    game_client::{GameClient, GameClientError, PlayerActions},
};
pub use tickwire_ticket::Secret;
