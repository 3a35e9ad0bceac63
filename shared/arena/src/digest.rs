//! What decides a session's future and is not in its fields: a recording's state hash covers it through the digest.

use bevy_ecs::world::World;
use glam::Vec2;
use tickwire_shared::{Digest, NetId, NetIds};

use crate::{
    aim::Aim,
    life::Spawns,
    movement::MoveState,
    weapons::rockets::{Flight, Rocket},
};

/// Mixes it in: players and rockets in order of NetId, then those who wait for a life in order of player.
///
/// Fields are hashed as others see them, rounded, so the exact positions and aims belong here. The rest stands in fields
/// exactly: speeds, health and cooldowns.
pub(crate) fn hidden_state(world: &World, digest: &mut Digest) {
    digest.write(u64::from(next_net_id(world)));
    // Before the first of a kind is spawned there is no query for it.
    if let Some(mut players) = world.try_query::<(&NetId, &MoveState, &Aim)>() {
        // Copied and then sorted: to fetch each from its place in order costs more.
        let mut players: Vec<(NetId, Vec2, Aim)> =
            players.iter(world).map(|(&net_id, state, &aim)| (net_id, state.position, aim)).collect();
        players.sort_by_key(|(net_id, ..)| *net_id);
        for (net_id, position, aim) in players {
            digest.write(u64::from(net_id.0));
            write_vector(digest, position);
            digest.write(aim.turns().to_bits());
        }
    }
    if let Some(mut rockets) = world.try_query::<(&NetId, &Rocket, &Flight)>() {
        for (net_id, rocket, flight) in rockets.iter(world).sort::<&NetId>() {
            digest.write(u64::from(net_id.0));
            digest.write(rocket.expires.0);
            write_vector(digest, flight.position);
            write_vector(digest, flight.velocity);
        }
    }
    for (player, &ticks) in &world.resource::<Spawns>().0 {
        digest.write(u64::from(player.0));
        digest.write(ticks);
    }
}

fn next_net_id(world: &World) -> u32 {
    let mut copy = *world.resource::<NetIds>();
    copy.allocate().0
}

fn write_vector(digest: &mut Digest, vector: Vec2) {
    digest.write_f32(vector.x);
    digest.write_f32(vector.y);
}
