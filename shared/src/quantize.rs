//! Real numbers as integers: the only way a quantity enters or leaves replicated state.

use crate::TickRate;

/// How a real quantity is held in an integer: `quantity = integer · quantum`, with the integer in `min..=max`.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantity {
    /// The unit of the quantity, such as `"m"`; empty for a count.
    pub unit: String,
    /// The quantity that one step of the integer stands for: finite and positive.
    pub quantum: f64,
    /// The smallest integer.
    pub min: i32,
    /// The largest integer.
    pub max: i32,
}

impl Quantity {
    /// `range` in units, in steps of `quantum`; both ends are rounded to the nearest step.
    #[must_use]
    pub fn new(unit: &str, quantum: f64, range: std::ops::RangeInclusive<f64>) -> Self {
        let unbounded = Self { unit: unit.to_owned(), quantum, min: i32::MIN, max: i32::MAX };
        let (min, max) = (unbounded.quantize(*range.start()), unbounded.quantize(*range.end()));
        Self { min, max, ..unbounded }
    }

    /// Whole numbers of `range`.
    #[must_use]
    pub fn count(range: std::ops::RangeInclusive<i32>) -> Self {
        Self { unit: String::new(), quantum: 1.0, min: *range.start(), max: *range.end() }
    }

    /// The nearest integer, halves away from zero, saturating at `min` and `max`.
    ///
    /// NaN becomes the integer of the range that is nearest to 0: a game that computes one stays deterministic.
    #[must_use]
    pub fn quantize(&self, quantity: f64) -> i32 {
        nearest(quantity / self.quantum, self.min, self.max)
    }

    /// The quantity that `integer` stands for. It does not clamp.
    #[must_use]
    pub fn dequantize(&self, integer: i32) -> f64 {
        f64::from(integer) * self.quantum
    }

    /// The nearest quantity that can be held at a precision of `quantum / 2^shift`: what a game's predicted component is
    /// snapped to at the end of each tick.
    #[must_use]
    pub fn snap(&self, quantity: f64, shift: u8) -> f64 {
        let fine = self.quantize_fine(quantity, shift);
        f64::from(fine) * self.quantum / f64::from(1_u32 << shift)
    }

    /// [`quantize`](Self::quantize) in steps of `quantum / 2^shift`. The range is the same, in finer steps.
    ///
    /// # Panics
    /// Where the range does not fit an `i32` at that precision; a [`Schema`](crate::Schema) refuses such fields.
    #[inline]
    #[must_use]
    pub fn quantize_fine(&self, quantity: f64, shift: u8) -> i32 {
        Quantizer::new(self, shift, None).quantize(quantity)
    }

    /// `min` and `max` in steps of `quantum / 2^shift`, where they fit.
    #[must_use]
    pub fn fine_range(&self, shift: u8) -> Option<(i32, i32)> {
        let scale = 1_i32.checked_shl(u32::from(shift)).filter(|scale| *scale > 0)?;
        Some((self.min.checked_mul(scale)?, self.max.checked_mul(scale)?))
    }
}

/// A field's quantization, with what it takes worked out once.
#[derive(Clone, Debug)]
pub(crate) struct Quantizer {
    step: Step,
    min: i32,
    max: i32,
    /// For angles: fine quanta in one whole turn.
    turn: Option<f64>,
}

/// How units become steps: by a factor where that is exact, since a division takes several times as long.
#[derive(Clone, Copy, Debug)]
enum Step {
    Times(f64),
    Over(f64),
}

impl Step {
    fn of(quantum: f64) -> Self {
        let is_power_of_two = quantum.to_bits() & ((1 << (f64::MANTISSA_DIGITS - 1)) - 1) == 0;
        let factor = 1.0 / quantum;
        if is_power_of_two && factor.is_normal() { Self::Times(factor) } else { Self::Over(quantum) }
    }

    #[inline]
    fn count(self, quantity: f64) -> f64 {
        match self {
            Self::Times(factor) => quantity * factor,
            Self::Over(quantum) => quantity / quantum,
        }
    }
}

impl Quantizer {
    /// In steps of `quantum / 2^shift`.
    ///
    /// # Panics
    /// Where the range does not fit an `i32` at that precision.
    pub(crate) fn new(quantity: &Quantity, shift: u8, turn: Option<i32>) -> Self {
        let (min, max) = quantity.fine_range(shift).expect("the schema has checked that the range fits at owner_shift");
        let scale = f64::from(1_u32 << shift);
        Self { step: Step::of(quantity.quantum / scale), min, max, turn: turn.map(|turn| f64::from(turn) * scale) }
    }

    /// The nearest step, halves away from zero. Angles wrap, all else saturates.
    #[inline]
    pub(crate) fn quantize(&self, quantity: f64) -> i32 {
        let steps = self.step.count(quantity);
        let Some(turn) = self.turn else { return nearest(steps, self.min, self.max) };
        let steps = steps.round();
        let wrapped = steps - (steps / turn).floor() * turn;
        // NaN casts to 0; a wrapped value fits, since the schema has checked the range.
        wrapped.clamp(0.0, turn - 1.0) as i32
    }
}

/// The quantization of a field's rates, likewise.
#[derive(Clone, Debug)]
pub(crate) struct RateQuantizer {
    step: Step,
    hz: f64,
}

impl RateQuantizer {
    /// In steps of `quantum / 2^shift` per tick.
    pub(crate) fn new(quantum: f64, shift: u8, rate: TickRate) -> Self {
        Self { step: Step::of(quantum / (1_u64 << shift) as f64), hz: f64::from(rate.hz()) }
    }

    /// Units per second as the nearest steps per tick, saturating; NaN is 0.
    #[inline]
    pub(crate) fn quantize(&self, per_second: f64) -> i32 {
        nearest(self.step.count(per_second) / self.hz, i32::MIN, i32::MAX)
    }
}

/// The nearest integer of a range, halves away from zero. NaN is taken for 0.
#[inline]
fn nearest(steps: f64, min: i32, max: i32) -> i32 {
    let steps = steps.clamp(f64::from(min) - 1.0, f64::from(max) + 1.0);
    // NaN stays NaN, and becomes 0 in the cast.
    let whole = steps as i64;
    // Exact, and without the library call that `round` is on x86-64's base line.
    let rest = steps - whole as f64;
    let rounded = whole + i64::from(rest >= 0.5) - i64::from(rest <= -0.5);
    rounded.clamp(i64::from(min), i64::from(max)) as i32
}

/// The public value of a fine one: `fine / 2^shift`, rounded to the nearest, halves up.
#[must_use]
pub const fn coarse(fine: i32, shift: u8) -> i32 {
    if shift == 0 {
        return fine;
    }
    let half = 1_i64 << (shift - 1);
    ((fine as i64 + half) >> shift) as i32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rounds_halves_away_from_zero_and_saturates() {
        let metres = Quantity::new("m", 0.5, -10.0..=10.0);
        assert_eq!((metres.min, metres.max), (-20, 20));
        assert_eq!(metres.quantize(0.25), 1);
        assert_eq!(metres.quantize(-0.25), -1);
        assert_eq!(metres.quantize(0.24), 0);
        assert_eq!(metres.quantize(1e300), 20);
        assert_eq!(metres.quantize(f64::NEG_INFINITY), -20);
    }

    #[test]
    fn nan_becomes_what_is_nearest_to_nothing() {
        assert_eq!(Quantity::new("m", 0.5, -10.0..=10.0).quantize(f64::NAN), 0);
        assert_eq!(Quantity::count(3..=9).quantize(f64::NAN), 3);
        assert_eq!(Quantity::count(-9..=-3).quantize(f64::NAN), -3);
    }

    proptest! {
        #[test]
        fn an_integer_survives_the_way_there_and_back(integer in -1_000_000..=1_000_000_i32, power in 0..12) {
            let quantity = Quantity { unit: "m".into(), quantum: 1.0 / f64::from(1 << power), min: -1_000_000, max: 1_000_000 };
            prop_assert_eq!(quantity.quantize(quantity.dequantize(integer)), integer);
        }

        #[test]
        fn the_error_is_at_most_half_a_quantum(value in -1000.0..1000.0_f64) {
            let quantity = Quantity::new("m", 0.01, -1000.0..=1000.0);
            prop_assert!((quantity.dequantize(quantity.quantize(value)) - value).abs() <= 0.005 + 1e-9);
        }

        #[test]
        fn snapping_twice_is_snapping_once_and_f32_holds_it(value in -256.0..256.0_f64) {
            let quantity = Quantity::new("m", 1.0 / 128.0, -256.0..=256.0);
            let snapped = quantity.snap(value, 3);
            prop_assert_eq!(quantity.snap(snapped, 3), snapped);
            prop_assert_eq!(f64::from(snapped as f32), snapped);
        }

        #[test]
        fn the_coarse_value_is_nearest(fine in any::<i32>(), shift in 0_u8..8) {
            let distance = (i64::from(coarse(fine, shift)) << shift) - i64::from(fine);
            prop_assert!(distance.abs() * 2 <= 1 << shift);
        }
    }
}
