//! Numbers that name things in a session.

use std::fmt;

use bevy_ecs::component::Component;
use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$meta:meta])* $name:ident($inner:ty)) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A replicated entity's number: from 1, in order of spawning, never used again in the session. 0 means "none".
    ///
    /// As a component it marks an entity for replication; [`NetIds`](crate::NetIds) hands numbers out.
    #[derive(Component)]
    #[component(immutable)]
    NetId(u32)
}
number! {
    /// A participant's number in a session, from 1. 0 means "none".
    PlayerId(u32)
}
number! {
    /// The game's own name for an area: whatever it packs into 64 bits, for example the two coordinates of a square.
    CellKey(u64)
}
number! {
    /// A cell's number in a session, in order of first use; 0 is the cell `always`.
    CellId(u32)
}
number! {
    /// A kind's place in the schema.
    KindId(u16)
}
number! {
    /// An event's place in the schema.
    EventId(u16)
}
number! {
    /// An input field's place in the schema.
    InputId(u16)
}

impl nohash_hasher::IsEnabled for NetId {}
impl nohash_hasher::IsEnabled for PlayerId {}
impl nohash_hasher::IsEnabled for CellId {}

/// A map keyed by a small number, hashed to itself. Its order is arbitrary: never iterate where order matters.
pub type NumberMap<K, V> = nohash_hasher::IntMap<K, V>;

impl NetId {
    /// No entity.
    pub const NONE: Self = Self(0);
}

impl CellId {
    /// The cell of entities without a place: in everyone's view.
    pub const ALWAYS: Self = Self(0);

    /// The cell's place in [`Frame::cells`](crate::Frame::cells).
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl KindId {
    /// The kind's place in [`Schema::kinds`](crate::Schema::kinds).
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl EventId {
    /// The event's place in [`Schema::events`](crate::Schema::events).
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl InputId {
    /// The field's place in [`Schema::inputs`](crate::Schema::inputs).
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where an entity is, in units of interest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Place {
    /// Nowhere in particular: in everyone's view.
    #[default]
    Always,
    /// In an area of the game's.
    Cell(CellKey),
}
