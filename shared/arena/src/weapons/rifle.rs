//! The rifle: whoever is on the line of sight is hit at once. It is judged by what the shooter saw: who aims at somebody on
//! their screen hits them, whatever the way of screen and trigger through the network takes, up to the session's bound.
//! Rockets are not: they fly for a while, and can be dodged.

use crate::{
    events::Shot,
    weapons::{Battle, Shooters},
};

/// How far a rifle reaches, in metres.
pub(crate) const RANGE: f32 = 120.0;

/// The system: everyone who holds the trigger, and whose rifle is ready, shoots.
pub(crate) fn fire(mut battle: Battle, shooters: Shooters) {
    for i in 0..battle.volley.rifles.len() {
        let (_, entity) = battle.volley.rifles[i];
        let (&net_id, owner, state, aim) = shooters.get(entity).expect("who shoots is there");

        let from = state.position;
        let reach = from + aim.direction() * RANGE;
        let impact = battle.impact_as_seen(from, reach, owner.0);
        if let Some(victim) = impact.and_then(|impact| impact.victim) {
            let points = battle.rules.rifle_damage;
            battle.damage(victim.entity, owner.0, points, from);
        }
        let to = impact.map_or(reach, |impact| impact.point);
        battle.herald.tell_at(from, &Shot { shooter: net_id, from, to });
    }
}
