//! The linear predictor: what both ends compute from an anchor, and when the server sets a new one.
//!
//! Dead reckoning as in DIS (IEEE 1278.1): the sender runs the receiver's model beside the truth and speaks only when the
//! two part by more than a tolerance. In integers, so that both ends agree to the bit.

use crate::Tick;

/// An anchor grows no older than this: it is renewed before its age leaves 31 bits.
pub const ANCHOR_AGE_MAX: u64 = (1 << 31) - 1;

/// A moving value as it is held on both ends: `value(t) = value + ((rate · (t − tick)) >> shift)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Anchor {
    /// The value at `tick`, in quanta; for angles in `0..turn`.
    pub value: i32,
    /// Quanta · 2^shift per tick.
    pub rate: i32,
    /// When the value was `value`.
    pub tick: Tick,
}

/// The numbers of a linear field that its arithmetic needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Fraction bits of a rate.
    pub shift: u8,
    /// How far, in quanta, the prediction may leave the truth.
    pub tolerance: i32,
    /// Quanta in one whole turn, for angles.
    pub turn: Option<i32>,
    /// The smallest value when read, except for angles.
    pub min: i32,
    /// The largest value when read, except for angles.
    pub max: i32,
}

impl Line {
    /// P(t): the prediction at `tick`, neither clamped nor wrapped.
    ///
    /// Exact in 64 bits for any rate over any age up to [`ANCHOR_AGE_MAX`]; a tick before the anchor's is taken as the
    /// anchor's.
    #[must_use]
    pub const fn predict(&self, anchor: &Anchor, tick: Tick) -> i64 {
        let age = tick.since(anchor.tick) as i64;
        (anchor.value as i64).wrapping_add((anchor.rate as i64).wrapping_mul(age) >> self.shift)
    }

    /// The value at `tick` as anyone may use it: clamped to the range, or for angles within `0..turn`.
    #[must_use]
    pub fn read(&self, anchor: &Anchor, tick: Tick) -> i32 {
        let value = self.predict(anchor, tick);
        match self.turn {
            // Fits: a turn is an i32.
            Some(turn) => value.rem_euclid(i64::from(turn)) as i32,
            None => value.clamp(i64::from(self.min), i64::from(self.max)) as i32,
        }
    }

    /// The signed distance from `from` to `to`; for angles the shortest way round.
    #[must_use]
    pub fn distance(&self, from: i32, to: i32) -> i64 {
        let difference = i64::from(to) - i64::from(from);
        match self.turn {
            Some(turn) => shortest(difference, turn),
            None => difference,
        }
    }

    /// Whether `anchor`, read at `tick`, is still within tolerance of `truth`, and young enough.
    #[must_use]
    pub fn holds(&self, anchor: &Anchor, tick: Tick, truth: i32) -> bool {
        self.distance(self.read(anchor, tick), truth).abs() <= i64::from(self.tolerance)
            && tick.since(anchor.tick) < ANCHOR_AGE_MAX
    }

    /// d of a renewed anchor, as the wire carries it: `new.value − P(new.tick)` modulo 2^32, for angles the shortest way.
    #[must_use]
    pub fn difference(&self, base: &Anchor, new: &Anchor) -> i32 {
        let difference = i64::from(new.value) - self.predict(base, new.tick);
        match self.turn {
            Some(turn) => shortest(difference, turn) as i32,
            // Modulo 2^32 on purpose.
            None => difference as i32,
        }
    }

    /// The value of an anchor renewed at `tick` from its [`difference`](Self::difference).
    #[must_use]
    pub fn apply(&self, base: &Anchor, tick: Tick, difference: i32) -> i32 {
        let predicted = self.predict(base, tick);
        match self.turn {
            Some(turn) => predicted.wrapping_add(i64::from(difference)).rem_euclid(i64::from(turn)) as i32,
            // Modulo 2^32 on purpose.
            None => (predicted as i32).wrapping_add(difference),
        }
    }

    /// The rate of a new anchor for a truth that moved by `step` fine quanta (2^−`fine_shift` of a quantum) in one tick.
    #[must_use]
    pub fn rate_of_step(&self, step: i64, fine_shift: u8) -> i32 {
        let scaled = if self.shift >= fine_shift {
            step.saturating_mul(1 << (self.shift - fine_shift))
        } else {
            step >> (fine_shift - self.shift)
        };
        scaled.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
    }
}

/// `difference` modulo `turn`, in `−turn/2 .. turn/2`.
fn shortest(difference: i64, turn: i32) -> i64 {
    let turn = i64::from(turn);
    let half = turn / 2;
    (difference + half).rem_euclid(turn) - half
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const METRES: Line = Line { shift: 3, tolerance: 1, turn: None, min: -30_000, max: 30_000 };
    const AIM: Line = Line { shift: 4, tolerance: 1, turn: Some(256), min: 0, max: 255 };

    #[test]
    fn reading_clamps_or_wraps_and_predicting_does_neither() {
        let far = Anchor { value: 29_999, rate: 80, tick: Tick(10) };
        assert_eq!(METRES.predict(&far, Tick(20)), 30_099);
        assert_eq!(METRES.read(&far, Tick(20)), 30_000);
        let spin = Anchor { value: 250, rate: 16, tick: Tick(0) };
        assert_eq!(AIM.predict(&spin, Tick(10)), 260);
        assert_eq!(AIM.read(&spin, Tick(10)), 4);
    }

    #[test]
    fn the_shift_is_arithmetic() {
        assert_eq!(METRES.predict(&Anchor { value: 0, rate: -1, tick: Tick(0) }, Tick(1)), -1);
        assert_eq!(METRES.predict(&Anchor { value: 0, rate: -1, tick: Tick(0) }, Tick(8)), -1);
        assert_eq!(METRES.predict(&Anchor { value: 0, rate: -1, tick: Tick(0) }, Tick(9)), -2);
    }

    proptest! {
        #[test]
        fn whatever_a_server_says_can_be_read(
            value in any::<i32>(), rate in any::<i32>(), difference in any::<i32>(),
            age in prop_oneof![0..1_u64 << 53, (1_u64 << 32)..(1 << 32) + 9], shift in 0..=16_u8
        ) {
            let (anchor, tick) = (Anchor { value, rate, tick: Tick(0) }, Tick(age));
            for line in [METRES, AIM].map(|line| Line { shift, ..line }) {
                prop_assert!((line.min..=line.max).contains(&line.read(&anchor, tick)));
                let applied = line.apply(&anchor, tick, difference);
                prop_assert!(line.turn.is_none_or(|turn| (0..turn).contains(&applied)));
            }
        }

        #[test]
        fn a_difference_applies_to_the_same_anchor(
            value in any::<i32>(), rate in any::<i32>(), new in any::<i32>(), age in 0_u64..=ANCHOR_AGE_MAX
        ) {
            let base = Anchor { value, rate, tick: Tick(5) };
            let renewed = Anchor { value: new, rate: 0, tick: Tick(5 + age) };
            let difference = METRES.difference(&base, &renewed);
            prop_assert_eq!(METRES.apply(&base, renewed.tick, difference), new);
        }

        #[test]
        fn an_angles_difference_is_short_and_applies(
            value in 0..256_i32, rate in -100_000..100_000_i32, new in 0..256_i32, age in 0_u64..1_000_000
        ) {
            let base = Anchor { value, rate, tick: Tick(5) };
            let renewed = Anchor { value: new, rate: 0, tick: Tick(5 + age) };
            let difference = AIM.difference(&base, &renewed);
            prop_assert!((-128..128).contains(&difference));
            prop_assert_eq!(AIM.apply(&base, renewed.tick, difference), new);
        }

        #[test]
        fn a_steady_fine_motion_never_needs_a_second_anchor(start in -8000..8000_i32, step in -800..800_i64) {
            let line = Line { min: i32::MIN, max: i32::MAX, ..METRES };
            let anchor = Anchor { value: crate::coarse(start, 3), rate: line.rate_of_step(step, 3), tick: Tick(0) };
            for tick in 0..2000 {
                let fine = i64::from(start) + step * tick as i64;
                prop_assert!(line.holds(&anchor, Tick(tick), crate::coarse(fine as i32, 3)));
            }
        }
    }
}
