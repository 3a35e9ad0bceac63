//! Time as the simulation knows it: ticks, and how many of them make a second.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// A session's time: the number of steps that its world has taken.
///
/// Tick 0 is the world as created; on the wire it means "none". The first step yields tick 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tick(pub u64);

impl Tick {
    /// The created world, before its first step; on the wire "none".
    pub const ZERO: Self = Self(0);
    /// The largest tick that a peer may name: 2^53, so that every language holds ticks exactly.
    pub const MAX: Self = Self(1 << 53);

    /// The tick after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The number of ticks from `earlier` to this one, 0 where `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Ticks per second: 1 to 240.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TickRate(u16);

/// A tick rate outside its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tick rate {0} Hz is out of range: choose 1 to 240")]
pub struct TickRateError(pub u32);

impl TickRate {
    /// 60 Hz.
    pub const DEFAULT: Self = Self(60);
    /// The lowest: 1 Hz.
    pub const LOWEST: Self = Self(1);
    /// The highest: 240 Hz.
    pub const HIGHEST: Self = Self(240);

    /// A rate of `hz` ticks per second.
    ///
    /// # Errors
    /// Where `hz` is not in 1 to 240.
    pub fn new(hz: u32) -> Result<Self, TickRateError> {
        match u16::try_from(hz) {
            Ok(rate) if (Self::LOWEST.0..=Self::HIGHEST.0).contains(&rate) => Ok(Self(rate)),
            _ => Err(TickRateError(hz)),
        }
    }

    /// Ticks per second.
    #[must_use]
    pub const fn hz(self) -> u32 {
        self.0 as u32
    }

    /// Seconds per tick, as a game's systems use it.
    #[must_use]
    pub fn dt(self) -> f32 {
        1.0 / f32::from(self.0)
    }

    /// The time from the start of the session's clock to the moment at which `ticks` are due, exact to the nanosecond:
    /// it is computed from the product, so that it does not drift.
    #[must_use]
    pub const fn duration_of(self, ticks: u64) -> Duration {
        let hz = self.0 as u64;
        let nanos = ((ticks % hz) * 1_000_000_000) / hz;
        Duration::new(ticks / hz, nanos as u32)
    }

    /// The number of ticks that begin within `milliseconds`, rounded up.
    #[must_use]
    pub const fn ticks_in_ms(self, milliseconds: u64) -> u64 {
        (milliseconds * self.0 as u64).div_ceil(1000)
    }
}

impl Default for TickRate {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for TickRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Hz", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_outside_the_range_are_refused_by_name() {
        assert_eq!(TickRate::new(0), Err(TickRateError(0)));
        assert_eq!(TickRate::new(241), Err(TickRateError(241)));
        assert_eq!(TickRate::new(65_596), Err(TickRateError(65_596)));
        assert_eq!(TickRate::new(240).map(TickRate::hz), Ok(240));
    }

    #[test]
    fn a_days_ticks_make_a_day() {
        let rate = TickRate::DEFAULT;
        assert_eq!(rate.duration_of(60 * 86_400), Duration::from_secs(86_400));
        assert_eq!(rate.duration_of(1), Duration::from_nanos(16_666_666));
    }

    #[test]
    fn milliseconds_round_up_to_ticks() {
        assert_eq!(TickRate::DEFAULT.ticks_in_ms(250), 15);
        assert_eq!(TickRate::new(30).map(|rate| rate.ticks_in_ms(250)), Ok(8));
        assert_eq!(TickRate::new(1).map(|rate| rate.ticks_in_ms(250)), Ok(1));
    }
}
