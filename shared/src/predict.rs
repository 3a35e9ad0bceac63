//! What a game says of prediction: how clients step their own entity ahead of the server.

use std::fmt;

use crate::{KindId, PlayerInput, Tick};

/// Steps a player's own entity as the server will, so that players see what they do at once.
///
/// A client asks [`Game::predict`](crate::Game::predict) for it. With each snapshot it starts from the exact state of the
/// owner section, and steps through its inputs that the server has yet to consume. Let it call the very functions that the
/// game's systems call: any difference in a predicted field is a misprediction, which is counted and shown as a correction.
pub trait Predict: Send + fmt::Debug {
    /// What of entities of this kind is predicted; `None`: nothing, they are shown as the server says.
    fn predicted(&self, kind: KindId) -> Option<&Predicted>;

    /// Steps an entity from the tick before `tick` to `tick`. `state` holds every field of its kind, in quanta of
    /// `quantum / 2^owner_shift`, in the schema's order; fields that are not predicted are left as they are.
    ///
    /// A pure function: the same arguments make the same state. What the player does beyond the state, such as a shot, goes
    /// to `actions`; a client tells it at once, and once for each tick.
    fn step(&self, kind: KindId, tick: Tick, state: &mut [i32], input: &PlayerInput, actions: &mut Vec<Action>);

    /// Whether another entity may be in the way of the own one, whose `state` is as in [`step`](Self::step). Of `other`
    /// there are the public values in quanta, in the schema's order, and 0 for the owner's fields. Others are not predicted,
    /// so mispredictions in contact are counted apart.
    fn in_contact(&self, _kind: KindId, _state: &[i32], _other: KindId, _values: &[i32]) -> bool {
        false
    }
}

/// Which fields of a kind are predicted, by their places in the kind's fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Predicted {
    /// All that [`Predict::step`] computes.
    pub fields: Vec<usize>,
    /// Those of them that say where the entity is, of one unit: a correction's size is a distance between two of these, and
    /// they are what corrections are smoothed in.
    pub position: Vec<usize>,
}

/// Something that a player does, as a game names it, such as `"rifle"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Action(pub &'static str);
