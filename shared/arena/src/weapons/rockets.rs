//! Rockets: they fly straight, and explode at what they meet.

use bevy_ecs::{
    component::Component,
    entity::Entity,
    system::{Commands, Query, ResMut},
};
use glam::Vec2;
use serde::{Deserialize, Serialize};
use tickwire_shared::{NetId, NetIds, PlayerId, Tick};

use crate::{
    events::Explosion,
    movement::PLAYER_RADIUS,
    weapons::{Battle, Shooters},
};

/// In m/s.
pub(crate) const SPEED: f32 = 20.0;
/// How far from an explosion, in metres, a player's body must be to come to no harm.
pub(crate) const SPLASH_RADIUS: f32 = 4.0;
/// A rocket explodes this far, in metres, before what it meets: in the open, not in the face of a wall.
const FUSE: f32 = 1.0 / 32.0;

/// Marks a rocket, and says whose it is.
#[derive(Component, Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Rocket {
    pub(crate) owner: PlayerId,
    /// When it explodes in any case.
    pub(crate) expires: Tick,
}

/// Where a rocket is and how it moves, in metres and m/s; not snapped, since no client predicts it but along its line.
#[derive(Component, Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Flight {
    pub(crate) position: Vec2,
    pub(crate) velocity: Vec2,
}

/// The system: rockets fly on; those that meet something, or are too old, explode.
pub(crate) fn fly(
    mut battle: Battle,
    mut commands: Commands,
    mut rockets: Query<(Entity, &NetId, &Rocket, &mut Flight)>,
) {
    for (entity, _, rocket, mut flight) in rockets.iter_mut().sort::<&NetId>() {
        let Flight { position: from, velocity } = *flight;
        let to = from + velocity * battle.clock.dt();
        if let Some(impact) = battle.impact(from, to, rocket.owner) {
            let point = impact.point - velocity.normalize_or_zero() * FUSE;
            explode(&mut battle, point, rocket.owner);
        } else if battle.clock.tick >= rocket.expires {
            explode(&mut battle, to, rocket.owner);
        } else {
            flight.position = to;
            continue;
        }
        commands.entity(entity).despawn();
    }
}

/// The system: everyone who asks for it, and whose launcher is ready, launches a rocket. It flies from the next tick on.
pub(crate) fn launch(battle: Battle, mut commands: Commands, mut net_ids: ResMut<NetIds>, shooters: Shooters) {
    for &(_, entity) in &battle.volley.rockets {
        let (_, owner, state, aim) = shooters.get(entity).expect("who shoots is there");
        let expires = Tick(battle.clock.tick.0 + battle.rules.rocket_life_ticks);
        let flight = Flight { position: state.position, velocity: aim.direction() * SPEED };
        commands.spawn((net_ids.allocate(), Rocket { owner: owner.0, expires }, flight));
    }
}

/// Harms everyone near whom cover does not shield, the shooter among them.
fn explode(battle: &mut Battle, point: Vec2, owner: PlayerId) {
    battle.herald.tell_at(point, &Explosion { owner, point });
    let exposed: Vec<(Entity, f32)> = battle
        .crowd
        .within(point, SPLASH_RADIUS + PLAYER_RADIUS)
        .filter(|(_, member)| battle.map.free_share(point, member.position) >= 1.0)
        .map(|(distance, member)| (member.entity, harm(distance)))
        .collect();
    for (victim, harm) in exposed {
        let points = (battle.rules.rocket_damage as f32 * harm).round() as i32;
        battle.damage(victim, owner, points, point);
    }
}

/// The share of a rocket's damage that a player takes whose middle is `distance` metres from the explosion: all of it
/// when hit, and less and less towards the splash's edge.
fn harm(distance: f32) -> f32 {
    let gap = (distance - PLAYER_RADIUS - FUSE).max(0.0);
    (1.0 - gap / SPLASH_RADIUS).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harm_falls_off_from_a_hit_to_the_edge_of_the_splash() {
        assert_eq!(harm(0.0), 1.0);
        assert_eq!(harm(PLAYER_RADIUS + FUSE), 1.0);
        assert_eq!(harm(PLAYER_RADIUS + FUSE + SPLASH_RADIUS / 2.0), 0.5);
        assert_eq!(harm(PLAYER_RADIUS + FUSE + SPLASH_RADIUS), 0.0);
        assert_eq!(harm(100.0), 0.0);
    }
}
