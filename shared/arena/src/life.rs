//! Health, death, the next life, and scores.

use std::collections::BTreeMap;

use bevy_ecs::{
    component::Component,
    entity::Entity,
    query::{Changed, With},
    resource::Resource,
    system::{Commands, Query, Res, ResMut},
};
use glam::Vec2;
use rand::Rng;
use serde::{Deserialize, Serialize};
use tickwire_shared::{Definition, NetId, NetIds, Owner, PlayerId, Randomness, ScoreId, Scores, Seats};

use crate::{
    aim::Aim,
    crowd::{Crowd, Member},
    events::{Died, Herald, Hit, Hurt, Landed},
    kinds::Player,
    map::Map,
    movement::{Course, MoveState},
    settings::Rules,
    weapons::{Cooldowns, Damage, Damages},
};

/// How often a player has killed another.
pub const KILLS: ScoreId = ScoreId(0);
/// How often a player has died.
pub const DEATHS: ScoreId = ScoreId(1);
/// Points of health at the start of a life.
pub const START_HEALTH: i32 = 100;

/// So many places are tried for a new life.
const SPAWN_TRIES: usize = 8;
/// A place with nobody within so many metres is good enough for a new life.
const SPAWN_ROOM: f32 = 16.0;

pub(crate) fn define(definition: &mut Definition) {
    definition.score("kills");
    definition.score("deaths");
}

/// How much more a player can take.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Health {
    /// 0 to [`START_HEALTH`].
    pub(crate) points: i32,
    /// Who brought the points to 0, between the blow and the death, which are in one tick.
    pub(crate) killer: Option<PlayerId>,
}

/// The players who wait for a life, with how many ticks longer.
#[derive(Resource, Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Spawns(pub(crate) BTreeMap<PlayerId, u64>);

/// The system: those who have come wait for a life, those who have gone leave theirs.
pub(crate) fn seat(
    seats: Res<Seats>,
    mut spawns: ResMut<Spawns>,
    mut commands: Commands,
    players: Query<(Entity, &Owner), With<Player>>,
) {
    spawns.0.extend(seats.joined.iter().map(|&player| (player, 0)));
    if seats.left.is_empty() {
        return;
    }
    for player in &seats.left {
        spawns.0.remove(player);
    }
    let has_left = |(_, owner): &(Entity, &Owner)| seats.left.binary_search(&owner.0).is_ok();
    let mut over: Vec<(PlayerId, Entity)> =
        players.iter().filter(has_left).map(|(entity, owner)| (owner.0, entity)).collect();
    over.sort_unstable();
    over.into_iter().for_each(|(_, entity)| commands.entity(entity).despawn());
}

/// The system: deals the damage that the weapons did. Who is dead already takes no more.
pub(crate) fn hurt(
    mut damages: ResMut<Damages>,
    mut herald: Herald,
    mut victims: Query<(&NetId, &Owner, &MoveState, &mut Health)>,
) {
    for Damage { victim, shooter, points, source } in damages.0.drain(..) {
        let (&net_id, owner, state, mut health) = victims.get_mut(victim).expect("weapons hit the living");
        if health.points == 0 {
            continue;
        }
        let damage = points.min(health.points);
        health.points -= damage;
        health.killer = (health.points == 0).then_some(shooter);

        herald.tell_at(state.position, &Hit { victim: net_id, shooter, damage });
        herald.tell(owner.0, &Hurt { damage, from: Aim::toward(source - state.position) });
        if shooter != owner.0 {
            herald.tell(shooter, &Landed { victim: net_id, damage });
        }
    }
}

/// The system: those without health die, and wait for their next life.
pub(crate) fn die(
    rules: Res<Rules>,
    seats: Res<Seats>,
    mut scores: ResMut<Scores>,
    mut spawns: ResMut<Spawns>,
    mut herald: Herald,
    mut commands: Commands,
    players: Query<(Entity, &NetId, &Owner, &MoveState, &Health), Changed<Health>>,
) {
    for (entity, _, owner, state, health) in players.iter().sort::<&NetId>() {
        let Some(killer) = health.killer else { continue };
        commands.entity(entity).despawn();
        spawns.0.insert(owner.0, rules.respawn_ticks);
        scores.add(owner.0, DEATHS, 1);
        // A rocket may kill after its owner has left the table.
        if killer != owner.0 && seats.players.contains_key(&killer) {
            scores.add(killer, KILLS, 1);
        }
        herald.tell_at(state.position, &Died { victim: owner.0, killer });
    }
}

/// The system: those whose wait is over begin a life, in order of player.
pub(crate) fn spawn(
    map: Res<Map>,
    randomness: Res<Randomness>,
    mut spawns: ResMut<Spawns>,
    mut net_ids: ResMut<NetIds>,
    mut crowd: ResMut<Crowd>,
    mut commands: Commands,
) {
    spawns.0.retain(|&player, ticks| {
        if *ticks > 0 {
            *ticks -= 1;
            return true;
        }
        let position = spawn_place(&map, &crowd, &mut randomness.stream("spawn", player.0.into()));
        let net_id = net_ids.allocate();
        let state = MoveState { position, ..MoveState::default() };
        let health = Health { points: START_HEALTH, killer: None };
        let bundle =
            (net_id, Owner(player), Player, state, Course::default(), Aim::default(), health, Cooldowns::default());
        let entity = commands.spawn(bundle).id();
        // So that the next one to begin a life keeps away.
        crowd.add(Member::new(entity, net_id, player, position));
        false
    });
}

/// A random place with nobody near, or else the loneliest of those tried.
fn spawn_place(map: &Map, crowd: &Crowd, rng: &mut impl Rng) -> Vec2 {
    let room = |place: Vec2| crowd.within(place, SPAWN_ROOM).map(|(distance, _)| distance).fold(SPAWN_ROOM, f32::min);
    let mut best = (f32::NEG_INFINITY, Vec2::ZERO);
    for _ in 0..SPAWN_TRIES {
        let place = map.random_place(rng);
        let room = room(place);
        if room > best.0 {
            best = (room, place);
        }
        if room >= SPAWN_ROOM {
            break;
        }
    }
    best.1
}
