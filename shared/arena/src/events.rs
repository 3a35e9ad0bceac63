//! What can happen at a tick: told once, to those who see the place or to one player.

use bevy_ecs::system::{Res, ResMut, SystemParam};
use glam::Vec2;
use tickwire_shared::{Audience, Definition, EventField, GameEvent, NetId, Outbox, PlayerId, Quantity};

use crate::{aim::Aim, cells::Squares};

pub(crate) fn define(definition: &mut Definition) {
    definition.event::<Shot>();
    definition.event::<Hit>();
    definition.event::<Explosion>();
    definition.event::<Died>();
    definition.event::<Hurt>();
    definition.event::<Landed>();
}

/// Tells what happens to whom it concerns.
#[derive(SystemParam)]
pub(crate) struct Herald<'w> {
    squares: Res<'w, Squares>,
    outbox: ResMut<'w, Outbox>,
}

impl Herald<'_> {
    /// To all who see a place.
    pub(crate) fn tell_at(&mut self, position: Vec2, event: &impl GameEvent) {
        self.outbox.emit(Audience::At(self.squares.place_of(position, None)), event);
    }

    /// To one player alone.
    pub(crate) fn tell(&mut self, player: PlayerId, event: &impl GameEvent) {
        self.outbox.emit(Audience::Player(player), event);
    }
}

/// A rifle was fired: for all who see the shooter's place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shot {
    /// The shooter's entity.
    pub shooter: NetId,
    /// Where the shooter stood, in metres.
    pub from: Vec2,
    /// Where the shot ended, in metres.
    pub to: Vec2,
}

impl GameEvent for Shot {
    const NAME: &'static str = "shot";

    fn fields() -> Vec<EventField> {
        let [from_x, from_y] = point("from_x", "from_y");
        let [to_x, to_y] = point("to_x", "to_y");
        vec![number("shooter"), from_x, from_y, to_x, to_y]
    }

    fn values(&self) -> Vec<f64> {
        let Self { shooter, from, to } = self;
        vec![shooter.0.into(), from.x.into(), from.y.into(), to.x.into(), to.y.into()]
    }
}

/// A player was hit: for all who see the victim's place. The shooter, who may be far away, is told by [`Landed`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// The victim's entity.
    pub victim: NetId,
    /// The player whose weapon it was.
    pub shooter: PlayerId,
    /// In points of health.
    pub damage: i32,
}

impl GameEvent for Hit {
    const NAME: &'static str = "hit";

    fn fields() -> Vec<EventField> {
        vec![number("victim"), number("shooter"), number("damage")]
    }

    fn values(&self) -> Vec<f64> {
        vec![self.victim.0.into(), self.shooter.0.into(), self.damage.into()]
    }
}

/// A rocket exploded: for all who see the place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Explosion {
    /// The player whose rocket it was.
    pub owner: PlayerId,
    /// Where, in metres.
    pub point: Vec2,
}

impl GameEvent for Explosion {
    const NAME: &'static str = "explosion";

    fn fields() -> Vec<EventField> {
        let [x, y] = point("x", "y");
        vec![number("owner"), x, y]
    }

    fn values(&self) -> Vec<f64> {
        vec![self.owner.0.into(), self.point.x.into(), self.point.y.into()]
    }
}

/// A player died: for all who see the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Died {
    /// The player who died.
    pub victim: PlayerId,
    /// The player whose weapon it was: the victim's own, at times.
    pub killer: PlayerId,
}

impl GameEvent for Died {
    const NAME: &'static str = "died";

    fn fields() -> Vec<EventField> {
        vec![number("victim"), number("killer")]
    }

    fn values(&self) -> Vec<f64> {
        vec![self.victim.0.into(), self.killer.0.into()]
    }
}

/// For the victim alone: where it hurts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hurt {
    /// In points of health.
    pub damage: i32,
    /// From the victim towards where it came from.
    pub from: Aim,
}

impl GameEvent for Hurt {
    const NAME: &'static str = "hurt";

    fn fields() -> Vec<EventField> {
        vec![number("damage"), EventField::new("from", Aim::quantity())]
    }

    fn values(&self) -> Vec<f64> {
        vec![self.damage.into(), self.from.turns()]
    }
}

/// For the shooter alone: a hit landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landed {
    /// The victim's entity.
    pub victim: NetId,
    /// In points of health.
    pub damage: i32,
}

impl GameEvent for Landed {
    const NAME: &'static str = "landed";

    fn fields() -> Vec<EventField> {
        vec![number("victim"), number("damage")]
    }

    fn values(&self) -> Vec<f64> {
        vec![self.victim.0.into(), self.damage.into()]
    }
}

fn number(name: &str) -> EventField {
    EventField::new(name, Quantity::count(0..=i32::MAX))
}

/// To 1/16 m: what is drawn for a moment needs no more.
fn point(x: &str, y: &str) -> [EventField; 2] {
    [x, y].map(|name| EventField::new(name, Quantity::new("m", 1.0 / 16.0, -1024.0..=1024.0)))
}
