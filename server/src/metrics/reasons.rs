//! How often something happened for which reason. Reasons are words of the program, so that there are only so many.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard},
};

/// Counts by reason, for what does not happen all the time: a lock is held for each.
pub(crate) struct Reasons<R>(Mutex<BTreeMap<R, u64>>);

impl<R> Default for Reasons<R> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<R> fmt::Debug for Reasons<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reasons").finish_non_exhaustive()
    }
}

impl<R: Copy + Ord> Reasons<R> {
    /// Counts one.
    pub(crate) fn note(&self, reason: R) {
        *self.lock().entry(reason).or_default() += 1;
    }

    /// All reasons that there have been, and `known`, in order.
    pub(crate) fn counted(&self, known: impl IntoIterator<Item = R>) -> BTreeMap<R, u64> {
        let mut counted = self.lock().clone();
        for reason in known {
            counted.entry(reason).or_default();
        }
        counted
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<R, u64>> {
        self.0.lock().expect("no holder of this lock panics")
    }
}
