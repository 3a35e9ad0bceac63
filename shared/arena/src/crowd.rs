//! Who is where: the players of the tick, found by place. Made anew each tick from their positions.

use std::cmp::Ordering;

use bevy_ecs::{entity::Entity, resource::Resource};
use glam::Vec2;
use tickwire_shared::{NetId, PastView, PlayerId};

use crate::{
    kinds,
    movement::PLAYER_RADIUS,
    tiles::{Span, around, spans, tile},
};

/// The side of a tile, in metres.
const TILE: f32 = 4.0;

/// All players, sorted by the tile that they stand on, so that neighbours stand together.
#[derive(Resource, Clone, Debug, Default)]
pub(crate) struct Crowd {
    members: Vec<Member>,
    /// The row of tiles that `starts` starts with.
    first_row: i32,
    /// Where among the members each row starts, and last where the last row ends.
    starts: Vec<u32>,
    /// Room for those who are to be sorted.
    unsorted: Vec<Member>,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) entity: Entity,
    pub(crate) net_id: NetId,
    pub(crate) player: PlayerId,
    pub(crate) position: Vec2,
    /// Of the tile.
    row: i32,
    column: i32,
}

impl Crowd {
    /// Begins anew with `members`.
    pub(crate) fn gather(&mut self, members: impl Iterator<Item = Member>) {
        self.unsorted.clear();
        self.unsorted.extend(members);
        self.sort();
    }

    /// Takes in where some stand now, whom their places in [`iter`](Self::iter) name.
    pub(crate) fn relocate(&mut self, moved: impl Iterator<Item = (usize, Vec2)>) {
        let mut is_sorted = true;
        for (i, position) in moved {
            let Member { entity, net_id, player, row, column, .. } = self.members[i];
            let member = Member::new(entity, net_id, player, position);
            is_sorted &= (member.row, member.column) == (row, column);
            self.members[i] = member;
        }
        if !is_sorted {
            std::mem::swap(&mut self.members, &mut self.unsorted);
            self.sort();
        }
    }

    /// Adds one.
    pub(crate) fn add(&mut self, member: Member) {
        if self.starts.is_empty() {
            self.first_row = member.row;
            self.starts.push(0);
        }
        while member.row < self.first_row {
            self.first_row -= 1;
            self.starts.insert(0, 0);
        }
        let row = (member.row - self.first_row) as usize;
        while self.starts.len() < row + 2 {
            self.starts.push(self.members.len() as u32);
        }
        let in_row = self.row(member.row).partition_point(|other| other.order() < member.order());
        self.members.insert(self.starts[row] as usize + in_row, member);
        self.starts[row + 1..].iter_mut().for_each(|start| *start += 1);
    }

    /// Sorts the unsorted: into rows by counting, since there are few, then each row, which is short.
    fn sort(&mut self) {
        self.members.clear();
        self.starts.clear();
        let rows = self.unsorted.iter().map(|member| member.row);
        let (Some(first), Some(last)) = (rows.clone().min(), rows.max()) else { return };
        self.first_row = first;
        // While members are being put in their places, `starts[row + 1]` is the next place in `row`.
        self.starts.resize((last - first) as usize + 3, 0);
        let row_of = |member: &Member| (member.row - first) as usize;
        self.unsorted.iter().for_each(|member| self.starts[row_of(member) + 2] += 1);
        for row in 2..self.starts.len() {
            self.starts[row] += self.starts[row - 1];
        }
        self.members.extend_from_slice(&self.unsorted);
        for member in &self.unsorted {
            let place = &mut self.starts[row_of(member) + 1];
            self.members[*place as usize] = *member;
            *place += 1;
        }
        self.starts.pop();
        for row in self.starts.windows(2) {
            self.members[row[0] as usize..row[1] as usize].sort_unstable_by_key(Member::order);
        }
    }

    /// All, in no order that means anything, but always the same.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    /// The one at place `i` of [`iter`](Self::iter).
    pub(crate) fn member(&self, i: usize) -> &Member {
        &self.members[i]
    }

    /// Those who stand with their middle within `reach` metres of `point`, each with how far.
    pub(crate) fn within(&self, point: Vec2, reach: f32) -> impl Iterator<Item = (f32, &Member)> {
        let (rows, columns) = around(point, reach, TILE);
        rows.flat_map(move |row| self.on(&Span { row, columns: columns.clone() }))
            .map(move |member| (point.distance(member.position), member))
            .filter(move |(distance, _)| *distance <= reach)
    }

    /// The first whom a way from `from` to `to` meets, and after which share of it; `except` is passed through.
    pub(crate) fn first_met(&self, from: Vec2, to: Vec2, except: PlayerId) -> Option<(f32, &Member)> {
        self.near(from, to, PLAYER_RADIUS)
            .filter(|member| member.player != except)
            .filter_map(|member| Some((entry(from, to, member.position, PLAYER_RADIUS)?, member)))
            .min_by(nearest)
    }

    /// As [`first_met`](Self::first_met), with everybody who still lives where `view` shows them; nobody has moved further
    /// than `moved` metres since.
    pub(crate) fn first_met_in(
        &self,
        view: &PastView<'_>,
        moved: f32,
        from: Vec2,
        to: Vec2,
        except: PlayerId,
    ) -> Option<(f32, &Member)> {
        let met = |member: &Member| entry(from, to, kinds::shown_position(&view.entity(member.net_id)?), PLAYER_RADIUS);
        self.near(from, to, PLAYER_RADIUS + moved)
            .filter(|member| member.player != except)
            .filter_map(|member| Some((met(member)?, member)))
            .min_by(nearest)
    }

    /// All on tiles that come within `reach` metres of a segment.
    fn near(&self, from: Vec2, to: Vec2, reach: f32) -> impl Iterator<Item = &Member> {
        spans(from, to, reach, TILE).flat_map(|span| self.on(&span))
    }

    /// All on the tiles of a span.
    fn on(&self, Span { row, columns }: &Span) -> impl Iterator<Item = &Member> + use<'_> {
        let (row, last) = (self.row(*row), *columns.end());
        let start = row.partition_point(|member| member.column < *columns.start());
        row[start..].iter().take_while(move |member| member.column <= last)
    }

    /// All on the tiles of a row, in order of column.
    fn row(&self, row: i32) -> &[Member] {
        let i = usize::try_from(i64::from(row) - i64::from(self.first_row)).ok();
        match i.and_then(|i| self.starts.get(i..i + 2)) {
            Some(&[start, end]) => &self.members[start as usize..end as usize],
            _ => &[],
        }
    }
}

impl Member {
    pub(crate) fn new(entity: Entity, net_id: NetId, player: PlayerId, position: Vec2) -> Self {
        let (row, column) = (tile(position.y, TILE), tile(position.x, TILE));
        Self { entity, net_id, player, position, row, column }
    }

    /// Within a row: by column, then by NetId.
    fn order(&self) -> u64 {
        // Signed numbers in order, as unsigned ones.
        u64::from(self.column as u32 ^ 1 << 31) << 32 | u64::from(self.net_id.0)
    }
}

/// Of two who are met at one place the older is met.
fn nearest((a, who): &(f32, &Member), (b, other): &(f32, &Member)) -> Ordering {
    a.total_cmp(b).then(who.net_id.cmp(&other.net_id))
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
        fn a_crowd_is_in_order_however_it_came_about(
            positions in prop::collection::vec((-50.0..50.0_f32, -50.0..50.0_f32), 0..40),
            added in prop::collection::vec((-90.0..90.0_f32, -90.0..90.0_f32), 0..9),
            moved in prop::collection::vec((any::<prop::sample::Index>(), -50.0..50.0_f32), 0..9),
        ) {
            let mut crowd = crowd(&positions);
            for (&position, number) in added.iter().zip(100..) {
                crowd.add(Member::new(Entity::PLACEHOLDER, NetId(number), PlayerId(number), position.into()));
            }
            if !crowd.members.is_empty() {
                let len = crowd.members.len();
                crowd.relocate(moved.iter().map(|(i, at)| (i.index(len), Vec2::splat(*at))));
            }
            let is_before = |a: &Member, b: &Member| (a.row, a.column, a.net_id) < (b.row, b.column, b.net_id);
            prop_assert!(crowd.members.is_sorted_by(is_before));
            prop_assert_eq!(crowd.members.len(), positions.len() + added.len());
            for member in &crowd.members {
                let on_its_tile = Span { row: member.row, columns: member.column..=member.column };
                prop_assert!(crowd.on(&on_its_tile).any(|other| other.net_id == member.net_id));
            }
        }

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
