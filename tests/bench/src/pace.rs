//! The machine's monotonic clock, which all processes of a run share, and ticks on it.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds on the monotonic clock: the same in every process.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // The clock starts at 0 with the machine, and never goes back.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Ticks that are due at moments that do not drift.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    start_ns: u64,
    rate: u32,
}

impl Pace {
    /// Ticks at `rate` a second from now on; tick 0 is due at once.
    pub(crate) fn start(rate: u32) -> Self {
        Self { start_ns: now_ns(), rate }
    }

    /// When a tick is due.
    pub(crate) fn due_ns(&self, tick: u64) -> u64 {
        self.start_ns + ticks_ns(tick, self.rate)
    }

    /// How long it is until a tick is due.
    pub(crate) fn until(&self, tick: u64) -> Duration {
        Duration::from_nanos(self.due_ns(tick).saturating_sub(now_ns()))
    }
}

/// The length of so many ticks.
pub(crate) fn ticks_ns(ticks: u64, rate: u32) -> u64 {
    (u128::from(ticks) * 1_000_000_000 / u128::from(rate)) as u64
}
