//! The rifle: whoever is on the line of sight is hit at once.

use crate::{
    events::Shot,
    inputs::FIRE,
    weapons::{Battle, Shooters},
};
use tickwire_shared::NetId;

/// How far a rifle reaches, in metres.
pub(crate) const RANGE: f32 = 120.0;

/// The system: everyone who holds the trigger, and whose rifle is ready, shoots.
pub(crate) fn fire(mut battle: Battle, mut shooters: Shooters) {
    for (&net_id, owner, state, aim, mut cooldowns) in shooters.iter_mut().sort::<&NetId>() {
        if cooldowns.rifle > 0 || !battle.inputs.pressed(owner.0, FIRE) {
            continue;
        }
        cooldowns.rifle = battle.rules.rifle_ticks;

        let from = state.position;
        let reach = from + aim.direction() * RANGE;
        let impact = battle.impact(from, reach, owner.0);
        if let Some(victim) = impact.and_then(|impact| impact.victim) {
            let points = battle.rules.rifle_damage;
            battle.damage(victim.entity, owner.0, points, from);
        }
        let to = impact.map_or(reach, |impact| impact.point);
        battle.herald.tell_at(from, &Shot { shooter: net_id, from, to });
    }
}
