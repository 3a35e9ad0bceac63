//! Who is where: the players of the tick, found by place. Made anew each tick from their positions.

use bevy_ecs::{entity::Entity, resource::Resource};
use glam::Vec2;
use tickwire_shared::{NetId, PlayerId};

use crate::{
    movement::PLAYER_RADIUS,
    tiles::{spans, tile},
};

/// The side of a tile, in metres.
const TILE: f32 = 4.0;

/// All players, sorted by the tile that they stand on, so that neighbours stand together.
#[derive(Resource, Clone, Debug, Default)]
pub(crate) struct Crowd {
    members: Vec<Member>,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) entity: Entity,
    pub(crate) net_id: NetId,
    pub(crate) player: PlayerId,
    pub(crate) position: Vec2,
    /// The row and column of the tile.
    tile: (i32, i32),
}

impl Crowd {
    /// Begins anew with `members`.
    pub(crate) fn gather(&mut self, members: impl Iterator<Item = Member>) {
        self.members.clear();
        self.members.extend(members);
        self.members.sort_unstable_by_key(Member::order);
    }

    /// Adds one.
    pub(crate) fn add(&mut self, member: Member) {
        let i = self.members.partition_point(|other| other.order() < member.order());
        self.members.insert(i, member);
    }

    /// All, in no order that means anything, but always the same.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    /// Those who stand with their middle within `reach` metres of `point`, each with how far.
    pub(crate) fn within(&self, point: Vec2, reach: f32) -> impl Iterator<Item = (f32, &Member)> {
        self.near(point, point, reach)
            .map(move |member| (point.distance(member.position), member))
            .filter(move |(distance, _)| *distance <= reach)
    }

    /// The first whom a way from `from` to `to` meets, and after which share of it; `except` is passed through.
    pub(crate) fn first_met(&self, from: Vec2, to: Vec2, except: PlayerId) -> Option<(f32, &Member)> {
        self.near(from, to, PLAYER_RADIUS)
            .filter(|member| member.player != except)
            .filter_map(|member| Some((entry(from, to, member.position, PLAYER_RADIUS)?, member)))
            .min_by(|(a, who), (b, other)| a.total_cmp(b).then(who.net_id.cmp(&other.net_id)))
    }

    /// All on tiles that come within `reach` metres of a segment.
    fn near(&self, from: Vec2, to: Vec2, reach: f32) -> impl Iterator<Item = &Member> {
        spans(from, to, reach, TILE).flat_map(|span| {
            let (first, last) = ((span.row, *span.columns.start()), (span.row, *span.columns.end()));
            let start = self.members.partition_point(|member| member.tile < first);
            self.members[start..].iter().take_while(move |member| member.tile <= last)
        })
    }
}

impl Member {
    pub(crate) fn new(entity: Entity, net_id: NetId, player: PlayerId, position: Vec2) -> Self {
        let tile = (tile(position.y, TILE), tile(position.x, TILE));
        Self { entity, net_id, player, position, tile }
    }

    fn order(&self) -> ((i32, i32), NetId) {
        (self.tile, self.net_id)
    }
}

/// After which share of the segment from `from` to `to` it enters a circle: 0 where it starts inside.
fn entry(from: Vec2, to: Vec2, middle: Vec2, radius: f32) -> Option<f32> {
    let (way, start) = (to - from, from - middle);
    if start.length_squared() <= radius * radius {
        return Some(0.0);
    }
    // By way of the nearest point of the line: for a long segment the textbook's discriminant loses too many digits.
    let length_squared = way.length_squared();
    let nearest = -start.dot(way) / length_squared;
    let height_squared = (start + way * nearest).length_squared();
    // Where the segment has no length, all of this is NaN or infinite, and no share is within 0 to 1.
    let share = nearest - libm::sqrtf((radius * radius - height_squared) / length_squared);
    (0.0..=1.0).contains(&share).then_some(share)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::aim::Aim;

    fn crowd(positions: &[(f32, f32)]) -> Crowd {
        let mut crowd = Crowd::default();
        let member = |(&position, number): (&(f32, f32), u32)| {
            Member::new(Entity::PLACEHOLDER, NetId(number), PlayerId(number), position.into())
        };
        crowd.gather(positions.iter().zip(1..).map(member));
        crowd
    }

    fn met(crowd: &Crowd, from: (f32, f32), to: (f32, f32)) -> Option<(f32, u32)> {
        crowd.first_met(from.into(), to.into(), PlayerId(1)).map(|(share, member)| (share, member.net_id.0))
    }

    #[test]
    fn the_nearest_on_the_way_is_met_first() {
        let crowd = crowd(&[(0.0, 0.0), (20.0, 0.3), (10.0, -0.3), (-5.0, 0.0), (7.0, 1.0)]);
        let (share, who) = met(&crowd, (0.0, 0.0), (100.0, 0.0)).expect("two stand there");
        assert_eq!(who, 3);
        assert!((share * 100.0 - 9.726).abs() < 0.001, "{share}");
        assert_eq!(met(&crowd, (0.0, 0.0), (9.0, 0.0)), None);
        assert_eq!(met(&crowd, (0.0, 0.0), (0.0, 0.0)), None);
        assert_eq!(met(&crowd, (10.1, 0.0), (100.0, 0.0)), Some((0.0, 3)));
    }

    #[test]
    fn of_two_at_one_place_the_older_is_met() {
        let crowd = crowd(&[(0.0, 0.0), (5.0, 0.0), (5.0, 0.0)]);
        assert_eq!(met(&crowd, (0.0, 0.0), (9.0, 0.0)).map(|(_, who)| who), Some(2));
    }

    proptest! {
        #[test]
        fn looking_by_place_finds_what_looking_at_all_finds(
            positions in prop::collection::vec((-50.0..50.0_f32, -50.0..50.0_f32), 1..40),
            x in -50.0..50.0_f32, y in -50.0..50.0_f32, angle in 0..Aim::STEPS,
            length in 0.0..120.0_f32, reach in 0.0..20.0_f32,
        ) {
            let (crowd, from) = (crowd(&positions), Vec2::new(x, y));
            let to = from + Aim::from_steps(angle).direction() * length;

            let mut found: Vec<u32> = crowd.within(from, reach).map(|(_, member)| member.net_id.0).collect();
            found.sort_unstable();
            let at = |position: (f32, f32)| from.distance(position.into());
            let all: Vec<u32> =
                positions.iter().zip(1..).filter(|(p, _)| at(**p) <= reach).map(|(_, number)| number).collect();
            prop_assert_eq!(found, all);

            let shares = positions.iter().skip(1).filter_map(|&p| entry(from, to, p.into(), PLAYER_RADIUS));
            let nearest = shares.min_by(f32::total_cmp);
            prop_assert_eq!(crowd.first_met(from, to, PlayerId(1)).map(|(share, _)| share), nearest);
        }
    }
}
