//! What clients see: how components become fields. What moves stands first in each kind, which makes updates short.

use bevy_ecs::component::Component;
use glam::Vec2;
use serde::{Deserialize, Serialize};
use tickwire_shared::{Definition, Field, KindId, Owner, PastEntity, Quantity};

use crate::{
    aim::Aim,
    cells::Squares,
    life::{Health, START_HEALTH},
    movement::{Course, MoveState},
    weapons::{
        Cooldowns,
        rockets::{Flight, Rocket},
    },
};

/// The kind of players' entities.
pub(crate) const PLAYER: KindId = KindId(0);
/// Public quanta to the metre.
pub(crate) const METRE_STEPS: f32 = 128.0;

/// The places of a player's fields.
pub(crate) mod player_fields {
    pub(crate) const X: usize = 0;
    pub(crate) const Y: usize = 1;
    pub(crate) const AIM: usize = 2;
    pub(crate) const VX: usize = 5;
    pub(crate) const VY: usize = 6;
    pub(crate) const RIFLE_COOLDOWN: usize = 7;
    pub(crate) const ROCKET_COOLDOWN: usize = 8;
}

/// Marks a player's entity.
#[derive(Component, Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Player;

/// The places of the coordinates among the fields of each kind.
const X: usize = 0;
const Y: usize = 1;

pub(crate) fn define(definition: &mut Definition) {
    define_player(definition);
    define_rocket(definition);
}

fn define_player(definition: &mut Definition) {
    // The owner's copy is 8 times finer: exactly the steps of a snapped state, which prediction starts from.
    let coordinate = |name| Field::ramp(name, metres()).owner_shift(3);
    let speed = |name| Field::plain(name, Quantity::new("m/s", 1.0 / 1024.0, -64.0..=64.0)).owner_only();
    let cooldown = |name| Field::plain(name, ticks()).owner_only();
    // Without a predictor: a hand's turns are too sudden for one, and its rates would cost what it saves.
    let aim = Field::plain("aim", turn()).angle(256, 1.0).owner_shift(4);

    definition
        .kind::<Player>("player")
        .field(coordinate("x"), |state: &MoveState| state.position.x)
        .field(coordinate("y"), |state: &MoveState| state.position.y)
        .field(aim, |aim: &Aim| aim.turns())
        .field(Field::plain("health", Quantity::count(0..=START_HEALTH)), |health: &Health| health.points)
        .field(number("player"), |owner: &Owner| owner.0.0)
        .field(speed("vx"), |state: &MoveState| state.velocity.x)
        .field(speed("vy"), |state: &MoveState| state.velocity.y)
        .field(cooldown("rifle_cooldown"), |cooldowns: &Cooldowns| cooldowns.rifle)
        .field(cooldown("rocket_cooldown"), |cooldowns: &Cooldowns| cooldowns.rocket)
        .heading("x", |course: &Course| course.speed.x)
        .heading("y", |course: &Course| course.speed.y)
        .ramp_time(|course: &Course| course.seconds)
        .place_on(|state: &MoveState, squares: &Squares, current| squares.place_of(state.position, current));
}

fn define_rocket(definition: &mut Definition) {
    // The rate's fraction is fine enough that a rocket's line holds for its whole life.
    let coordinate = |name| Field::linear(name, metres()).rate_shift(10);

    definition
        .kind::<Rocket>("rocket")
        .field(coordinate("x"), |flight: &Flight| flight.position.x)
        .field(coordinate("y"), |flight: &Flight| flight.position.y)
        .field(number("owner"), |rocket: &Rocket| rocket.owner.0)
        .rate("x", |flight: &Flight| flight.velocity.x)
        .rate("y", |flight: &Flight| flight.velocity.y)
        .place_on(|flight: &Flight, squares: &Squares, current| squares.place_of(flight.position, current));
}

/// Where clients were shown a player or a rocket, in metres: their first two fields.
pub(crate) fn shown_position(entity: &PastEntity<'_>) -> Vec2 {
    // A cast of a float is to the nearest.
    Vec2::new(entity.quantity(X) as f32, entity.quantity(Y) as f32)
}

/// The largest arena, and a little more.
fn metres() -> Quantity {
    Quantity::new("m", f64::from(1.0 / METRE_STEPS), -1024.0..=1024.0)
}

fn turn() -> Quantity {
    Quantity { unit: "turn".into(), ..Quantity::count(0..=0) }
}

fn ticks() -> Quantity {
    Quantity { unit: "ticks".into(), ..Quantity::count(0..=i32::from(u16::MAX)) }
}

/// A player's number.
fn number(name: &str) -> Field {
    Field::plain(name, Quantity::count(0..=i32::MAX))
}
