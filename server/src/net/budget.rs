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

    /// Takes so many more.
    ///
    /// # Errors
    /// The limit that they are beyond.
    pub(super) fn take(&mut self, more: FrameCounts) -> Result<(), &'static str> {
        let FrameCounts { all, control } = &mut self.uncounted;
        (*all, *control) = (*all + more.all, *control + more.control);
        if *all < BATCH.all && *control < BATCH.control { Ok(()) } else { self.take_at(self.started.elapsed()) }
    }

    fn take_at(&mut self, now: Duration) -> Result<(), &'static str> {
        let FrameCounts { all, control } = std::mem::take(&mut self.uncounted);
        if !self.all.allows_many(all, now) {
            return Err("frames_per_second_max");
        }
        if self.control.allows_many(control, now) { Ok(()) } else { Err("control_frames_per_second_max") }
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
            assert_eq!(budget.take_at(at), Ok(()));
        }
        budget.uncounted = FrameCounts { all: 1, control: 0 };
        assert_eq!(budget.take_at(at), Err("frames_per_second_max"));
        budget.uncounted = FrameCounts { all: 1, control: 1 };
        let soon = at + Duration::from_millis(50);
        assert_eq!(
            budget.take_at(soon),
            Err("control_frames_per_second_max"),
            "there is room for frames of other kinds"
        );
        budget.uncounted = FrameCounts { all: 1, control: 1 };
        assert_eq!(budget.take_at(at + Duration::from_millis(100)), Ok(()));
        assert_eq!(budget.take(FrameCounts { all: 255, control: 31 }), Ok(()));
        assert_eq!(budget.uncounted, FrameCounts { all: 255, control: 31 });
    }
}
