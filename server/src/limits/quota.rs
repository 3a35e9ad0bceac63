//! How many may do a thing at once. The most is said with each wish, so that it may change while some do it.

use std::sync::{
    Arc,
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

#[cfg(test)]
mod tests {
    use super::*;

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
