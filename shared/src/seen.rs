//! What a player was shown when they acted: the moment that a server rewinds to for their shots.

use serde::{Deserialize, Serialize};

use crate::Tick;

/// Steps of a tick in which a moment between two ticks is told.
pub const SEEN_STEPS: u64 = 256;

/// A moment of the session's time, as a player's screen had it of everybody else: between two ticks, most often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seen {
    /// The tick, rounded down.
    pub tick: Tick,
    /// How far from there to the next one, in 1/256 ticks.
    pub fraction: u8,
}

/// A moment that no client may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeenError {
    /// Beyond [`Tick::MAX`].
    #[error("seen_tick: {0} is not a tick from 1 to 2^53, nor 0 for \"not said\"")]
    Tick(u64),
    /// A whole tick or more.
    #[error("seen_fraction: {0} is out of range: 0 to 255, in 1/256 of a tick")]
    Fraction(u32),
}

impl Seen {
    /// From its two numbers as they travel: tick 0 is "not said".
    ///
    /// # Errors
    /// Where either is out of its range.
    pub const fn parse(tick: u64, fraction: u32) -> Result<Option<Self>, SeenError> {
        if tick > Tick::MAX.0 {
            return Err(SeenError::Tick(tick));
        }
        if fraction as u64 >= SEEN_STEPS {
            return Err(SeenError::Fraction(fraction));
        }
        if tick == 0 { Ok(None) } else { Ok(Some(Self { tick: Tick(tick), fraction: fraction as u8 })) }
    }

    /// The two numbers as they travel, both 0 for "not said".
    #[must_use]
    pub const fn to_wire(seen: Option<Self>) -> (u64, u32) {
        match seen {
            Some(Self { tick, fraction }) => (tick.0, fraction as u32),
            None => (0, 0),
        }
    }

    /// The moment of a tick itself.
    #[must_use]
    pub const fn at(tick: Tick) -> Self {
        Self { tick, fraction: 0 }
    }

    /// How far between its tick (0) and the next (1) it is.
    #[must_use]
    pub fn share(self) -> f64 {
        f64::from(self.fraction) / SEEN_STEPS as f64
    }

    /// From the start of the session, in 1/256 ticks.
    #[must_use]
    pub const fn steps(self) -> u64 {
        self.tick.0.saturating_mul(SEEN_STEPS).saturating_add(self.fraction as u64)
    }

    /// The moment `steps` 1/256 ticks after the start of the session.
    #[must_use]
    pub const fn from_steps(steps: u64) -> Self {
        Self { tick: Tick(steps / SEEN_STEPS), fraction: (steps % SEEN_STEPS) as u8 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn moments_out_of_range_are_refused_by_name() {
        let parse = |tick, fraction| Seen::parse(tick, fraction);
        assert_eq!((parse(0, 0), parse(0, 255)), (Ok(None), Ok(None)));
        assert_eq!(parse(1 << 53, 255), Ok(Some(Seen { tick: Tick::MAX, fraction: 255 })));
        assert_eq!(parse((1 << 53) + 1, 0), Err(SeenError::Tick((1 << 53) + 1)));
        assert_eq!((parse(7, 256), parse(0, 256)), (Err(SeenError::Fraction(256)), Err(SeenError::Fraction(256))));
        assert!(parse(7, 300).expect_err("out of range").to_string().starts_with("seen_fraction: 300"));
    }

    proptest! {
        #[test]
        fn a_moment_survives_the_way_there_and_back(tick in 1..=Tick::MAX.0, fraction: u8) {
            let seen = Seen { tick: Tick(tick), fraction };
            let (tick, fraction) = Seen::to_wire(Some(seen));
            prop_assert_eq!(Seen::parse(tick, fraction), Ok(Some(seen)));
            prop_assert_eq!(Seen::from_steps(seen.steps()), seen);
        }
    }
}
