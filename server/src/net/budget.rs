//! How many frames a connection may bring: what costs the client nothing is not to cost the server much.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use crate::{config::Limits, play::MessageRate};

/// So many frames come before the time is looked at.
const BATCH: FrameCounts = FrameCounts { all: 256, control: 32 };

/// Frames, and control frames among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FrameCounts {
    pub(super) all: u32,
    pub(super) control: u32,
}

/// What a connection may bring: so much per second, and four seconds' worth at once.
#[derive(Debug)]
pub(super) struct FrameBudget {
    started: Instant,
    all: MessageRate,
    control: MessageRate,
    /// They have come, and have not been looked at.
    uncounted: FrameCounts,
}

impl FrameBudget {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            started: Instant::now(),
            all: rate(limits.frames_per_second_max),
            control: rate(limits.control_frames_per_second_max),
            uncounted: FrameCounts::default(),
        }
    }

    /// Whether so many more are within it.
    pub(super) fn allows(&mut self, more: FrameCounts) -> bool {
        let FrameCounts { all, control } = &mut self.uncounted;
        (*all, *control) = (*all + more.all, *control + more.control);
        *all < BATCH.all && *control < BATCH.control || self.allows_at(self.started.elapsed())
    }

    fn allows_at(&mut self, now: Duration) -> bool {
        let FrameCounts { all, control } = std::mem::take(&mut self.uncounted);
        self.all.allows_many(all, now) && self.control.allows_many(control, now)
    }
}

/// A bound with room for what comes together after a stall of the network.
pub(super) fn rate(per_second: NonZeroU32) -> MessageRate {
    const STALL_SECONDS: NonZeroU32 = NonZeroU32::new(4).expect("4 is not 0");
    MessageRate::new(per_second, per_second.saturating_mul(STALL_SECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_control_frames_have_a_bound_each_and_time_is_looked_at_now_and_then() {
        let number = |n| NonZeroU32::new(n).expect("not 0");
        let limits = Limits {
            frames_per_second_max: number(1000),
            control_frames_per_second_max: number(10),
            ..Limits::default()
        };
        let mut budget = FrameBudget::new(&limits);
        let at = Duration::from_secs(1);
        for _ in 0..4 {
            budget.uncounted = FrameCounts { all: 1000, control: 10 };
            assert!(budget.allows_at(at));
        }
        budget.uncounted = FrameCounts { all: 1, control: 0 };
        assert!(!budget.allows_at(at));
        budget.uncounted = FrameCounts { all: 1, control: 1 };
        assert!(!budget.allows_at(at + Duration::from_millis(50)), "there is room for frames, but not of that kind");
        budget.uncounted = FrameCounts { all: 1, control: 1 };
        assert!(budget.allows_at(at + Duration::from_millis(100)));
        assert!(budget.allows(FrameCounts { all: 255, control: 31 }));
        assert_eq!(budget.uncounted, FrameCounts { all: 255, control: 31 });
    }
}
