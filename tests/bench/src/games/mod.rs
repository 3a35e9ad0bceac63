//! Games that are there to be measured, on the public API alone.

pub(crate) mod fixed;
pub(crate) mod world;

pub(crate) use fixed::Fixed;
pub(crate) use world::World;
