//! Delta debugging: leaves out of a list whatever is not needed.

/// Leaves out all items that `still_fails` can do without: first in large groups, then in smaller ones, in the end one by one.
/// The items that are left stand in their order. It stops early where `still_fails` gives up with `None`.
pub(super) fn reduce<T: Copy>(items: Vec<T>, mut still_fails: impl FnMut(&[T]) -> Option<bool>) -> Vec<T> {
    let mut kept = items;
    let mut group = kept.len();
    while group > 0 && !kept.is_empty() {
        let (mut at, before) = (0, kept.len());
        while at < kept.len() {
            let end = (at + group).min(kept.len());
            let without: Vec<T> = kept[..at].iter().chain(&kept[end..]).copied().collect();
            match still_fails(&without) {
                None => return kept,
                Some(true) => kept = without,
                Some(false) => at = end,
            }
        }
        // What could not go at first may be able to once others have gone.
        let again = group == 1 && kept.len() < before;
        if !again {
            group /= 2;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn exactly_what_is_needed_is_left(needed in prop::collection::btree_set(0..300_u32, 0..6)) {
            let left = reduce((0..300).collect(), |items| Some(needed.iter().all(|item| items.contains(item))));
            prop_assert_eq!(left, needed.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_only_goes_after_something_else_goes_too() {
        // 7 is needed as long as 9 is there.
        let fails = |items: &[u32]| Some(items.contains(&3) && (!items.contains(&9) || items.contains(&7)));
        assert_eq!(reduce((0..10).collect(), fails), [3]);
        // No two can go one by one; together they do.
        let pairs = |items: &[u32]| Some(items.contains(&4) == items.contains(&5));
        assert!(reduce((0..8).collect(), pairs).is_empty());
    }

    #[test]
    fn few_of_many_are_found_in_few_runs_and_it_can_be_stopped() {
        let runs = Cell::new(0);
        let left = reduce((0..10_000).collect(), |items: &[u32]| {
            runs.set(runs.get() + 1);
            Some(items.contains(&7_777))
        });
        assert_eq!(left, [7_777]);
        assert!(runs.get() < 60, "{} runs", runs.get());

        let mut runs = 0;
        let left = reduce((0..64).collect(), |items: &[u32]| {
            runs += 1;
            (runs <= 2).then(|| items.contains(&1))
        });
        // Nothing could go in the first two: all of it, and its first half.
        assert_eq!(left.len(), 64);
    }
}
