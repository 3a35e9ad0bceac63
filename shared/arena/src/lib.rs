//! The arena: the game that Tickwire ships, and the one to copy for your own.
//!
//! Players with a rifle and a rocket launcher on a walled, flat map with cover. It uses nothing but the public API of
//! `tickwire-shared`, and shows each part of it once:
//!
//! | read | to learn |
//! |---|---|
//! | this file | what a game hands to the engine, and the order of a tick |
//! | `kinds` | how components become what clients see |
//! | [`inputs`], [`events`], [`settings`] | what players do, what happens, what a session is created with |
//! | [`movement`] | predicted movement: one pure function over snapped state |
//! | [`predict`] | what clients compute ahead of the server, with the very functions of the systems |
//! | [`cells`] | who sees what: areas of interest |
//! | [`map`] | a world that clients build again from the settings alone |
//! | `Arena::saves` | what a session needs to go on from a keyframe |
//! | `crowd`, `collision`, `weapons`, `life` | the rules |

#![forbid(unsafe_code)]

pub mod aim;
pub mod cells;
mod collision;
mod crowd;
mod digest;
pub mod events;
pub mod inputs;
mod kinds;
pub mod life;
pub mod map;
pub mod movement;
pub mod predict;
pub mod settings;
mod tiles;
mod weapons;

#[cfg(test)]
mod tests;

use bevy_ecs::world::World;
use tickwire_shared::{CellKey, Clock, Definition, Digest, Game, Kind, Predict, Saves, Settings, Systems, TickRate};

use crate::{
    aim::Aim,
    cells::Squares,
    crowd::Crowd,
    kinds::Player,
    life::{Health, Spawns},
    map::Map,
    movement::{Course, MoveState},
    predict::ArenaPredict,
    settings::Rules,
    weapons::{
        Cooldowns, Damages, Volley, rifle,
        rockets::{self, Flight, Rocket},
    },
};

/// The game.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arena;

impl Game for Arena {
    fn name(&self) -> &str {
        "arena"
    }

    fn define(&self, definition: &mut Definition) {
        kinds::define(definition);
        inputs::define(definition);
        events::define(definition);
        settings::define(definition);
        life::define(definition);
    }

    fn setup(&self, world: &mut World, settings: &Settings) {
        let rate = world.resource::<Clock>().rate;
        world.insert_resource(Map::of(settings));
        world.insert_resource(Squares::of(settings));
        world.insert_resource(Rules::of(settings, rate));
        world.init_resource::<Spawns>();
        world.init_resource::<Crowd>();
        world.init_resource::<Volley>();
        world.init_resource::<Damages>();
    }

    fn systems(&self, systems: &mut Systems) {
        systems
            .add(life::seat)
            .add(movement::walk)
            .add(collision::part)
            .add(weapons::ready)
            .add(rockets::fly)
            .add(rifle::fire)
            .add(rockets::launch)
            .add(life::hurt)
            .add(life::die)
            .add(life::spawn);
    }

    fn cells_in_view(&self, from: CellKey, radius: f64, cells: &mut Vec<CellKey>) {
        cells::in_view(from, radius, cells);
    }

    fn rate_divisor(&self, from: CellKey, cell: CellKey, radius: f64) -> u32 {
        cells::rate_divisor(from, cell, radius)
    }

    fn weight(&self, kind: &Kind) -> u32 {
        // Of a rocket there is one word in its whole flight; of a player the next comes soon.
        if kind.name == "rocket" { 2 } else { 1 }
    }

    fn predict(&self, settings: &Settings, rate: TickRate) -> Option<Box<dyn Predict>> {
        Some(Box::new(ArenaPredict::new(settings, rate)))
    }

    fn saves(&self, saves: &mut Saves) {
        // The map and the rules follow from the settings; who is where, who shoots and who is hurt is found anew each tick.
        saves.component::<Player>().component::<MoveState>().component::<Course>().component::<Aim>();
        saves.component::<Health>().component::<Cooldowns>();
        saves.component::<Rocket>().component::<Flight>();
        saves.resource::<Spawns>();
    }

    fn digest(&self, world: &World, digest: &mut Digest) {
        digest::hidden_state(world, digest);
    }
}
