//! When things changed, in the only terms that matter: which systems have run since.

use bevy_ecs::{
    change_detection::{ComponentTicks, Tick},
    world::World,
};
use serde::{Deserialize, Serialize};

/// So far ahead of a new world's time its restored systems' times begin: what is done to it until then comes before.
const MARGIN: u32 = 256;

/// The times at which a world's systems last ran, oldest first: what bevy's change detection compares with.
#[derive(Clone, Debug)]
pub struct ChangeTimes {
    runs: Vec<Tick>,
    now: Tick,
}

/// When a component or resource was added, and last changed: before how many of [`ChangeTimes`] systems' runs it was not.
/// In other words, how many systems have not seen it; those that ran longest ago.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedTicks {
    pub(super) added: u32,
    pub(super) changed: u32,
}

impl ChangeTimes {
    /// Those of a world whose systems last ran at `runs`, with the place of each among them.
    #[must_use]
    pub fn of(world: &World, runs: &[Tick]) -> (Self, Vec<u32>) {
        let now = world.read_change_tick();
        let mut order: Vec<u32> = (0..runs.len() as u32).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(age(runs[i as usize], now)));
        let mut places = vec![0; runs.len()];
        order.iter().zip(0..).for_each(|(&i, place)| places[i as usize] = place);
        (Self { runs: order.iter().map(|&i| runs[i as usize]).collect(), now }, places)
    }

    /// Times for `systems` systems of a new world, from now on: [`finish`](Self::finish) has the world get there.
    #[must_use]
    pub fn ahead(world: &World, systems: usize) -> Self {
        let now = Tick::new(world.read_change_tick().get().wrapping_add(MARGIN));
        // Between each two there is one more, for what changed between them.
        let run = |i: usize| Tick::new(now.get().wrapping_add(2 * i as u32 + 2));
        Self { runs: (0..systems).map(run).collect(), now }
    }

    /// The time of the system at a place.
    #[must_use]
    pub fn run(&self, place: u32) -> Option<Tick> {
        self.runs.get(place as usize).copied()
    }

    /// Has a world's time come to where all of these are past.
    pub fn finish(&self, world: &mut World) {
        let last = self.tick(u32::MAX);
        Self::advance(world, Tick::new(last.get().wrapping_add(1)));
    }

    pub(super) fn advance(world: &mut World, to: Tick) {
        let ahead = to.get().wrapping_sub(world.change_tick().get());
        // Where hooks have run systems it may be past already.
        if ahead < u32::MAX / 2 {
            for _ in 0..ahead {
                world.increment_change_tick();
            }
        }
    }

    /// What bevy says, in terms of systems.
    #[must_use]
    pub fn saved(&self, ComponentTicks { added, changed }: ComponentTicks) -> SavedTicks {
        let unseen = |tick: Tick| self.runs.partition_point(|run| tick.is_newer_than(*run, self.now)) as u32;
        SavedTicks { added: unseen(added), changed: unseen(changed) }
    }

    /// The same for bevy.
    #[must_use]
    pub fn ticks(&self, SavedTicks { added, changed }: SavedTicks) -> ComponentTicks {
        ComponentTicks { added: self.tick(added), changed: self.tick(changed) }
    }

    /// A time before which just `unseen` systems ran.
    pub(super) fn tick(&self, unseen: u32) -> Tick {
        let before = self.runs.len().min(unseen as usize).checked_sub(1).map(|i| self.runs[i]);
        Tick::new(before.unwrap_or(self.now).get().wrapping_add(1))
    }
}

fn age(tick: Tick, now: Tick) -> u32 {
    now.get().wrapping_sub(tick.get())
}
