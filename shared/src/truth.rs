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
    /// Which entities changed, rising, and in what fields: bit i of the mask is field i.
    pub changed: Vec<(NetId, u32)>,
    /// new − old, modulo 2^32: for each of `changed`, for each bit of its mask from the lowest.
    pub differences: Vec<i32>,
}

impl KindTruth {
    /// Whether nothing came, went or changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.despawned.is_empty() && self.spawned.is_empty() && self.changed.is_empty()
    }

    /// The changes one by one: the entity, its mask, and its differences; fewer of these where some are missing.
    pub fn changes(&self) -> impl Iterator<Item = (NetId, u32, &[i32])> {
        let mut rest = self.differences.as_slice();
        self.changed.iter().map(move |&(id, mask)| {
            let (own, others) = rest.split_at(rest.len().min(mask.count_ones() as usize));
            rest = others;
            (id, mask, own)
        })
    }
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
        for truth in &delta.kinds {
            let KindTruth { kind, despawned, spawned, .. } = truth;
            let wrong = |net_id, reason| TruthError { kind: *kind, net_id, reason };
            for &id in despawned {
                self.rows.remove(&(*kind, id)).ok_or(wrong(id, "despawned, but not there"))?;
            }
            for (id, values) in spawned {
                if self.rows.insert((*kind, *id), values.clone()).is_some() {
                    return Err(wrong(*id, "spawned, but already there"));
                }
            }
            for (net_id, mask, differences) in truth.changes() {
                let wrong = |reason| wrong(net_id, reason);
                let row = self.rows.get_mut(&(*kind, net_id)).ok_or(wrong("changed, but not there"))?;
                let mut differences = differences.iter();
                for field in (0..32).filter(|field| mask & (1 << field) != 0) {
                    let value = row.get_mut(field).ok_or(wrong("a field beyond the kind's"))?;
                    let difference = differences.next().ok_or(wrong("fewer differences than fields"))?;
                    *value = value.wrapping_add(*difference);
                }
            }
        }
        Ok(())
    }
}
