//! How many may do a thing at once. The most is said with each wish, so that it may change while some do it.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicUsize, Ordering},
};

/// How many do a thing now.
#[derive(Debug, Default)]
pub(crate) struct Quota(AtomicUsize);

/// One of them. Dropped, it is done.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Quota>);

impl Quota {
    /// One more, unless there are `most` already.
    pub(crate) fn take(self: &Arc<Self>, most: usize) -> Option<Permit> {
        let more = |count| (count < most).then_some(count + 1);
        self.0.try_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Permit(Arc::clone(self)))
    }

    /// How many there are.
    pub(crate) fn taken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The place of one who comes and goes: whoever is back while what they did is still ending has the same one.
#[derive(Debug, Default)]
pub(crate) struct Place(Weak<Permit>);

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// Others have them all.
    Full,
    /// As many things as may be have not ended yet.
    StillLeaving,
}

impl Place {
    /// For one more thing, which lasts until what is returned is dropped; `at_once` of them may there be, ending ones among them.
    pub(crate) fn take(&mut self, quota: &Arc<Quota>, most: usize, at_once: usize) -> Result<Arc<Permit>, NoPlace> {
        if let Some(held) = self.0.upgrade() {
            let others = Arc::strong_count(&held) - 1;
            return if others < at_once { Ok(held) } else { Err(NoPlace::StillLeaving) };
        }
        let permit = Arc::new(quota.take(most).ok_or(NoPlace::Full)?);
        self.0 = Arc::downgrade(&permit);
        Ok(permit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_back_while_still_leaving_has_one_place_up_to_so_many_times() {
        let (quota, mut place, mut other) = (Arc::<Quota>::default(), Place::default(), Place::default());
        let mut leaving: Vec<_> = (0..3).map(|_| place.take(&quota, 1, 3).expect("it is its own")).collect();
        assert_eq!(quota.taken(), 1);
        assert_eq!(place.take(&quota, 1, 3).err(), Some(NoPlace::StillLeaving));
        leaving.pop();
        assert!(place.take(&quota, 1, 3).is_ok(), "one has ended");
        assert_eq!(other.take(&quota, 1, 3).err(), Some(NoPlace::Full));
        drop(leaving);
        assert!(other.take(&quota, 1, 3).is_ok(), "all have ended, and so is the place free");
    }

    #[test]
    fn there_are_never_more_than_the_most_of_the_moment() {
        let quota = Arc::<Quota>::default();
        let (first, second) = (quota.take(2), quota.take(2));
        assert!(first.is_some() && second.is_some() && quota.take(2).is_none());
        assert!(quota.take(3).is_some(), "the most has been raised, and that one is dropped");
        drop(first);
        assert!(quota.take(1).is_none(), "it has been lowered");
        assert_eq!(quota.taken(), 1);
    }
}
