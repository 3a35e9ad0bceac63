//! The truth at field quanta, as a difference from the tick before: what recordings hold beside the inputs.

use std::collections::BTreeMap;

use crate::{KindId, NetId};

/// How the truth changed in one tick. Kinds in order, entities in order of NetId; kinds without change are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TruthDelta {
    /// By kind, rising.
    pub kinds: Vec<KindTruth>,
}

/// How the entities of one kind changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KindTruth {
    /// Which kind.
    pub kind: KindId,
    /// Rising.
    pub despawned: Vec<NetId>,
    /// Rising, each with the value of every field, in quanta.
    pub spawned: Vec<(NetId, Vec<i32>)>,
    /// Rising.
    pub changed: Vec<TruthChange>,
}

/// How one entity changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TruthChange {
    /// Which entity.
    pub net_id: NetId,
    /// Bit i: field i changed.
    pub mask: u32,
    /// new − old, modulo 2^32, for each bit of the mask from the lowest.
    pub differences: Vec<i32>,
}

/// The truth itself: what all deltas up to a tick add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// The value of every field, in quanta.
    pub rows: BTreeMap<(KindId, NetId), Vec<i32>>,
}

/// A delta that does not fit the truth that it is applied to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a truth delta does not fit: kind {kind}, entity {net_id}: {reason}")]
pub struct TruthError {
    /// The kind.
    pub kind: KindId,
    /// The entity.
    pub net_id: NetId,
    /// What does not fit.
    pub reason: &'static str,
}

impl Truth {
    /// Moves on by one tick.
    ///
    /// # Errors
    /// Where the delta spawns an entity that is there, or touches one, or a field, that is not.
    pub fn apply(&mut self, delta: &TruthDelta) -> Result<(), TruthError> {
        for KindTruth { kind, despawned, spawned, changed } in &delta.kinds {
            let wrong = |net_id, reason| TruthError { kind: *kind, net_id, reason };
            for &id in despawned {
                self.rows.remove(&(*kind, id)).ok_or(wrong(id, "despawned, but not there"))?;
            }
            for (id, values) in spawned {
                if self.rows.insert((*kind, *id), values.clone()).is_some() {
                    return Err(wrong(*id, "spawned, but already there"));
                }
            }
            for change in changed {
                let wrong = |reason| wrong(change.net_id, reason);
                let row = self.rows.get_mut(&(*kind, change.net_id)).ok_or(wrong("changed, but not there"))?;
                let mut differences = change.differences.iter();
                for field in (0..32).filter(|field| change.mask & (1 << field) != 0) {
                    let value = row.get_mut(field).ok_or(wrong("a field beyond the kind's"))?;
                    let difference = differences.next().ok_or(wrong("fewer differences than fields"))?;
                    *value = value.wrapping_add(*difference);
                }
            }
        }
        Ok(())
    }
}
