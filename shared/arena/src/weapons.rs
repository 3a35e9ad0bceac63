//! What both weapons share: the pause between shots, what a shot meets, and the damage that it does.

pub(crate) mod rifle;
pub(crate) mod rockets;

use bevy_ecs::{
    change_detection::DetectChangesMut as _,
    component::Component,
    entity::Entity,
    resource::Resource,
    system::{Query, Res, ResMut, SystemParam},
};
use glam::Vec2;
use serde::{Deserialize, Serialize};
use tickwire_shared::{Clock, Inputs, NetId, Owner, Past, PlayerId, PlayerInput};

use crate::{
    aim::Aim,
    crowd::{Crowd, Member},
    events::Herald,
    inputs::{FIRE, ROCKET},
    map::Map,
    movement::{MoveState, reach},
    settings::Rules,
};

/// How far from where somebody is they may be shown, in metres: a quantum, and its rounding, in each direction.
const SHOWN_TOLERANCE: f32 = 3.0 / 128.0;

/// How many ticks it takes until a player's weapons can be used again; 0 is now.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cooldowns {
    pub(crate) rifle: u16,
    pub(crate) rocket: u16,
}

/// A choice of weapons: what a player's triggers ask for, or what shoots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weapons {
    pub(crate) rifle: bool,
    pub(crate) rocket: bool,
}

impl Weapons {
    pub(crate) fn asked_for(input: &PlayerInput) -> Self {
        Self { rifle: input.pressed(FIRE), rocket: input.pressed(ROCKET) }
    }
}

impl Cooldowns {
    /// A tick less to wait; what shoots of what is asked for; and the wait that follows. The server and predicting clients
    /// both call it.
    pub(crate) fn step(self, asked: Weapons, rules: &Rules) -> (Self, Weapons) {
        let (rifle, rocket) = (self.rifle.saturating_sub(1), self.rocket.saturating_sub(1));
        let shoots = Weapons { rifle: asked.rifle && rifle == 0, rocket: asked.rocket && rocket == 0 };
        let after = |shoots, pause, left| if shoots { pause } else { left };
        let next = Self {
            rifle: after(shoots.rifle, rules.rifle_ticks, rifle),
            rocket: after(shoots.rocket, rules.rocket_ticks, rocket),
        };
        (next, shoots)
    }
}

/// Whoever may shoot, with what a shot needs to know of them.
pub(crate) type Shooters<'w, 's> = Query<'w, 's, (&'static NetId, &'static Owner, &'static MoveState, &'static Aim)>;

/// Who shoots at this tick, with what, in order of NetId: found once for all weapons, since few do of many.
#[derive(Resource, Debug, Default)]
pub(crate) struct Volley {
    pub(crate) rifles: Vec<(NetId, Entity)>,
    pub(crate) rockets: Vec<(NetId, Entity)>,
}

/// The damage of a tick, in the order in which it was done: gathered by the weapons, dealt by
/// [`life::hurt`](crate::life::hurt), so that two who shoot each other at one tick both hit.
#[derive(Resource, Debug, Default)]
pub(crate) struct Damages(pub(crate) Vec<Damage>);

/// Damage done to one player.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Damage {
    pub(crate) victim: Entity,
    pub(crate) shooter: PlayerId,
    pub(crate) points: i32,
    /// Where it came from.
    pub(crate) source: Vec2,
}

/// What a weapon works with.
#[derive(SystemParam)]
pub(crate) struct Battle<'w> {
    pub(crate) clock: Res<'w, Clock>,
    pub(crate) rules: Res<'w, Rules>,
    pub(crate) volley: Res<'w, Volley>,
    pub(crate) herald: Herald<'w>,
    damages: ResMut<'w, Damages>,
    map: Res<'w, Map>,
    crowd: Res<'w, Crowd>,
    inputs: Res<'w, Inputs>,
    past: Res<'w, Past>,
}

/// What a way meets first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Impact {
    pub(crate) point: Vec2,
    /// None where it is a wall or cover.
    pub(crate) victim: Option<Member>,
}

impl Battle<'_> {
    /// The first thing on the way from `from` to `to` that is not the shooter, if there is one.
    pub(crate) fn impact(&self, from: Vec2, to: Vec2, shooter: PlayerId) -> Option<Impact> {
        self.impact_among(from, to, |end| self.crowd.first_met(from, end, shooter))
    }

    /// As [`impact`](Self::impact), with everybody where the shooter saw them, if their client says when that was and it is
    /// not too long ago. Walls and cover have not moved; the shooter is where they are; and the dead are not met.
    pub(crate) fn impact_as_seen(&self, from: Vec2, to: Vec2, shooter: PlayerId) -> Option<Impact> {
        let seen = self.inputs.get(shooter).and_then(PlayerInput::seen);
        let Some(view) = seen.and_then(|seen| self.past.view(seen)) else { return self.impact(from, to, shooter) };
        let moved = reach(self.clock.tick.since(view.seen().tick), self.clock.dt()) + SHOWN_TOLERANCE;
        self.impact_among(from, to, |end| self.crowd.first_met_in(&view, moved, from, end, shooter))
    }

    /// What `first_met` finds on the way up to the first wall or cover, or else that.
    fn impact_among<'a>(
        &'a self,
        from: Vec2,
        to: Vec2,
        first_met: impl FnOnce(Vec2) -> Option<(f32, &'a Member)>,
    ) -> Option<Impact> {
        let free = self.map.free_share(from, to);
        let end = from.lerp(to, free);
        match first_met(end) {
            Some((share, member)) => Some(Impact { point: from.lerp(end, share), victim: Some(*member) }),
            None => (free < 1.0).then_some(Impact { point: end, victim: None }),
        }
    }

    /// Does damage. None at all is not even a hit.
    pub(crate) fn damage(&mut self, victim: Entity, shooter: PlayerId, points: i32, source: Vec2) {
        if points > 0 {
            self.damages.0.push(Damage { victim, shooter, points, source });
        }
    }
}

/// The system: a tick less to wait; and who shoots.
pub(crate) fn ready(
    inputs: Res<Inputs>,
    rules: Res<Rules>,
    mut volley: ResMut<Volley>,
    mut players: Query<(Entity, &NetId, &Owner, &mut Cooldowns)>,
) {
    let Volley { rifles, rockets } = &mut *volley;
    rifles.clear();
    rockets.clear();
    for (entity, &net_id, owner, mut cooldowns) in &mut players {
        let asked = inputs.get(owner.0).map_or(Weapons::default(), Weapons::asked_for);
        let (next, shoots) = cooldowns.step(asked, &rules);
        cooldowns.set_if_neq(next);
        if shoots.rifle {
            rifles.push((net_id, entity));
        }
        if shoots.rocket {
            rockets.push((net_id, entity));
        }
    }
    for shooters in [rifles, rockets] {
        shooters.sort_unstable_by_key(|(net_id, _)| *net_id);
    }
}
