//! The difference of two lists of entities, both in order of NetId.

use crate::NetId;

/// One step of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// In the base alone, at this row.
    Gone(usize),
    /// In the new list alone, at this row.
    Arrived(usize),
    /// In both: its row in the base, and its row in the new list.
    Stayed(usize, usize),
}

/// Walks two rising lists side by side, in order of NetId.
pub fn merge<'a>(base: &'a [NetId], new: &'a [NetId]) -> impl Iterator<Item = Step> + 'a {
    let (mut b, mut n) = (0, 0);
    std::iter::from_fn(move || {
        let step = match (base.get(b), new.get(n)) {
            (None, None) => return None,
            (Some(old), Some(id)) if old == id => Step::Stayed(b, n),
            (Some(old), Some(id)) if old > id => Step::Arrived(n),
            (Some(_), _) => Step::Gone(b),
            (None, Some(_)) => Step::Arrived(n),
        };
        b += usize::from(!matches!(step, Step::Arrived(_)));
        n += usize::from(!matches!(step, Step::Gone(_)));
        Some(step)
    })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_set, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn every_entity_is_met_once_and_in_order(base in btree_set(0..60_u32, 0..40), new in btree_set(0..60_u32, 0..40)) {
            let base: Vec<NetId> = base.into_iter().map(NetId).collect();
            let new: Vec<NetId> = new.into_iter().map(NetId).collect();
            let mut met = Vec::new();
            for step in merge(&base, &new) {
                match step {
                    Step::Gone(b) => { prop_assert!(!new.contains(&base[b])); met.push(base[b]); }
                    Step::Arrived(n) => { prop_assert!(!base.contains(&new[n])); met.push(new[n]); }
                    Step::Stayed(b, n) => { prop_assert_eq!(base[b], new[n]); met.push(base[b]); }
                }
            }
            let all: std::collections::BTreeSet<NetId> = base.into_iter().chain(new).collect();
            prop_assert_eq!(met, all.into_iter().collect::<Vec<_>>());
        }
    }
}
