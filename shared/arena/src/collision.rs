//! Players cannot stand in one another: those who overlap are pushed apart.

use bevy_ecs::{
    entity::Entity,
    query::With,
    system::{Query, Res, ResMut},
};
use glam::Vec2;
use tickwire_shared::{NetId, Owner};

use crate::{
    crowd::{Crowd, Member},
    kinds::Player,
    map::Map,
    movement::{MoveState, PLAYER_RADIUS, PUSH_MAX, snap},
};

/// The system: takes stock of where all players are, pushes them apart, and leaves the crowd as it then stands.
///
/// All pushes follow from the same positions, so that nobody gains from the order in which they are made.
pub(crate) fn part(
    map: Res<Map>,
    mut crowd: ResMut<Crowd>,
    mut players: Query<(Entity, &NetId, &Owner, &mut MoveState), With<Player>>,
) {
    crowd.gather(players.iter().map(member));
    let mut pushed: Vec<(usize, Vec2)> = crowd
        .iter()
        .enumerate()
        .map(|(i, member)| (i, push(member, &crowd)))
        .filter(|(_, push)| *push != Vec2::ZERO)
        .collect();
    for (i, push) in &mut pushed {
        let (.., mut state) = players.get_mut(crowd.member(*i).entity).expect("gathered from this very query");
        *state = after_push(*state, *push, &map);
        *push = state.position;
    }
    crowd.relocate(pushed.into_iter());
}

fn member((entity, &net_id, owner, state): (Entity, &NetId, &Owner, &MoveState)) -> Member {
    Member::new(entity, net_id, owner.0, state.position)
}

/// How far a player is to give way: half of each overlap, and in a throng no more than their own radius.
fn push(member: &Member, crowd: &Crowd) -> Vec2 {
    let overlaps =
        crowd.within(member.position, 2.0 * PLAYER_RADIUS).filter(|(_, other)| other.net_id != member.net_id);
    let away = |(distance, other): (f32, &Member)| {
        // At one and the same place the older one goes west.
        let side = if member.net_id < other.net_id { Vec2::NEG_X } else { Vec2::X };
        (member.position - other.position).normalize_or(side) * (PLAYER_RADIUS - distance / 2.0)
    };
    snap(overlaps.map(away).sum::<Vec2>().clamp_length_max(PUSH_MAX))
}

/// A player after a push: moved as far as the map allows, and without the speed that led against it.
fn after_push(state: MoveState, push: Vec2, map: &Map) -> MoveState {
    let against = state.velocity.dot(push.normalize()).min(0.0);
    MoveState {
        position: map.slide(state.position, push).position,
        velocity: snap(state.velocity - push.normalize() * against),
    }
}
