//! In which cells an entity stands.

use std::collections::BTreeMap;

use tickwire_shared::{CellId, NetId, NumberMap};

/// A cell of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) stripe: u8,
    pub(super) cell: CellId,
}

/// Where each entity stands: nearly always in one place.
#[derive(Debug, Default)]
pub(super) struct Locations {
    first: NumberMap<NetId, Location>,
    /// Further places of the few that stand in more than one.
    more: BTreeMap<NetId, Vec<Location>>,
}

impl Locations {
    pub(super) fn contains(&self, id: NetId) -> bool {
        self.first.contains_key(&id)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = NetId> + '_ {
        self.first.keys().copied()
    }

    pub(super) fn of(&self, id: NetId) -> impl Iterator<Item = Location> + '_ {
        // Hardly ever is there a second place to look at.
        let more = if self.more.is_empty() { None } else { self.more.get(&id) };
        self.first.get(&id).into_iter().chain(more.into_iter().flatten()).copied()
    }

    /// Entities that stand in more than one place.
    pub(super) fn crowded(&self) -> impl Iterator<Item = NetId> + '_ {
        self.more.keys().copied()
    }

    pub(super) fn insert(&mut self, id: NetId, location: Location) {
        if let Some(first) = self.first.insert(id, location) {
            self.more.entry(id).or_default().push(first);
        }
    }

    pub(super) fn remove(&mut self, id: NetId, location: Location) {
        let more = if self.more.is_empty() { None } else { self.more.get_mut(&id) };
        match (self.first.get_mut(&id), more) {
            (Some(first), None) if *first == location => {
                self.first.remove(&id);
            }
            (Some(first), Some(more)) => {
                if *first == location {
                    *first = more.pop().expect("not kept while empty");
                } else {
                    more.retain(|more| *more != location);
                }
                if more.is_empty() {
                    self.more.remove(&id);
                }
            }
            _ => {}
        }
    }

    /// All places of a stripe, with who stands there.
    pub(super) fn of_stripe(&self, stripe: u8) -> Vec<(NetId, Location)> {
        let more = self.more.iter().flat_map(|(id, more)| more.iter().map(move |at| (id, at)));
        let all = self.first.iter().chain(more).filter(|(_, at)| at.stripe == stripe);
        all.map(|(id, at)| (*id, *at)).collect()
    }
}
