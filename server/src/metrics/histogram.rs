//! How often something took how long: counted by bound, without a lock, and for the price of two additions.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Counts by bounds, which the caller names each time: as many as there are in `BOUNDS`, rising, in microseconds.
#[derive(Debug)]
pub(crate) struct Histogram<const BOUNDS: usize> {
    counts: [AtomicU64; BOUNDS],
    /// Of those beyond the last bound.
    beyond: AtomicU64,
    sum_us: AtomicU64,
}

/// What a histogram has counted by one moment. Several may be added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted<const BOUNDS: usize> {
    /// Of each bound those alone that are beyond the bound before.
    pub(crate) counts: [u64; BOUNDS],
    pub(crate) beyond: u64,
    pub(crate) sum_us: u64,
}

impl<const BOUNDS: usize> Default for Histogram<BOUNDS> {
    fn default() -> Self {
        let counts = std::array::from_fn(|_| AtomicU64::new(0));
        Self { counts, beyond: AtomicU64::new(0), sum_us: AtomicU64::new(0) }
    }
}

impl<const BOUNDS: usize> Histogram<BOUNDS> {
    /// Counts one. A bound holds what is as long as it.
    pub(crate) fn note(&self, duration: Duration, bounds_us: &[u64; BOUNDS]) {
        // Half a microsecond is one, so that nothing is taken for less than it was by more than that.
        let us = u64::try_from((duration.as_nanos() + 500) / 1000).unwrap_or(u64::MAX);
        let place = bounds_us.partition_point(|bound| *bound < us);
        self.counts.get(place).unwrap_or(&self.beyond).fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
    }

    pub(crate) fn counted(&self) -> Counted<BOUNDS> {
        Counted {
            counts: self.counts.each_ref().map(|count| count.load(Relaxed)),
            beyond: self.beyond.load(Relaxed),
            sum_us: self.sum_us.load(Relaxed),
        }
    }
}

impl<const BOUNDS: usize> Counted<BOUNDS> {
    pub(crate) const NOTHING: Self = Self { counts: [0; BOUNDS], beyond: 0, sum_us: 0 };

    pub(crate) fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.beyond += other.beyond;
        self.sum_us += other.sum_us;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_as_long_as_a_bound_counts_for_it_and_what_is_longer_for_the_next() {
        let histogram = Histogram::<2>::default();
        for us in [0, 100, 101, 1000, 1001, 1_000_000] {
            histogram.note(Duration::from_micros(us), &[100, 1000]);
        }
        let counted = histogram.counted();
        assert_eq!((counted.counts, counted.beyond, counted.sum_us), ([2, 2], 2, 1_002_202));
        let mut both = Counted::NOTHING;
        both.add(&counted);
        both.add(&counted);
        assert_eq!((both.counts, both.beyond, both.sum_us), ([4, 4], 4, 2_004_404));
    }
}
