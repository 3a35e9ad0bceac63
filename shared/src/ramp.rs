//! The ramp predictor: a value whose rate changes evenly from one to another over a short time, and then stays.
//!
//! A mover that accelerates at a constant push parts from a straight line at each tick, but not from this: what a player
//! decides costs one update, not one for each tick until the new speed is reached. It is dead reckoning of the second order
//! (DIS, IEEE 1278.1, model RVW) whose acceleration ends by itself. In integers, so that both ends agree to the bit.

use crate::Tick;

/// A ramp's length is in 1/16 of a tick.
pub const RAMP_STEPS: i64 = 16;
/// A ramp is no longer than this, in 1/16 of a tick: 256 ticks.
pub const RAMP_MAX: u16 = 256 * 16 - 1;

/// When an entity's ramped values were last set, and for how long their rates change from then on: all share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Motion {
    /// When each value was its `value`, and its rate its `rate`.
    pub tick: Tick,
    /// In 1/16 of a tick, from `tick` on; 0: the rate is `to` at once.
    pub ramp: u16,
}

/// One ramped value as it is held on both ends, in quanta of `quantum / 2^owner_shift`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ramped {
    /// The value at the motion's tick.
    pub value: i32,
    /// The rate at the motion's tick, in fine quanta · 2^shift per tick; equal to `to` where the ramp is 0.
    pub rate: i32,
    /// The rate after the ramp.
    pub to: i32,
}

/// The numbers of a ramped field that its arithmetic needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ramp {
    /// Fraction bits of a rate, below a fine quantum.
    pub shift: u8,
    /// The field's `owner_shift`: a quantum has 2^fine_shift fine ones.
    pub fine_shift: u8,
    /// How far, in quanta, the prediction may leave the truth.
    pub tolerance: i32,
    /// Quanta in one whole turn, for angles.
    pub turn: Option<i32>,
    /// The smallest value when read, in quanta, except for angles.
    pub min: i32,
    /// The largest value when read, in quanta, except for angles.
    pub max: i32,
}

impl Ramp {
    /// P(t) in fine quanta, neither clamped nor wrapped. A tick before the motion's is taken as the motion's.
    ///
    /// With age a = t − tick, Δ = to − rate, and m the lesser of a and the ramp's whole ticks:
    /// `value + ((rate·a + ⌊8·Δ·m·(m + 1) / ramp⌋ + Δ·(a − m)) >> shift)`: the sum of the rates after each tick, where the
    /// rate after k ticks is rate + Δ · k / (ramp / 16), and `to` from the end of the ramp on.
    #[inline]
    #[must_use]
    pub const fn predict(&self, held: &Ramped, motion: &Motion, tick: Tick) -> i64 {
        let age = tick.since(motion.tick) as i64;
        if motion.ramp == 0 {
            return (held.value as i64).wrapping_add((held.to as i64).wrapping_mul(age) >> self.shift);
        }
        let (rate, change) = (held.rate as i64, held.to as i64 - held.rate as i64);
        let ramping = whole_ticks(motion.ramp, age);
        let on_ramp = change.wrapping_mul(8 * ramping * (ramping + 1)).div_euclid(motion.ramp as i64);
        let moved = rate.wrapping_mul(age).wrapping_add(on_ramp).wrapping_add(change.wrapping_mul(age - ramping));
        (held.value as i64).wrapping_add(moved >> self.shift)
    }

    /// The rate at `tick`, which a new ramp starts from unless it says otherwise: rate + ⌊Δ · 16·a / ramp⌋, and `to` after
    /// the ramp.
    #[inline]
    #[must_use]
    pub const fn slope(&self, held: &Ramped, motion: &Motion, tick: Tick) -> i32 {
        let age = tick.since(motion.tick) as i64;
        if age.saturating_mul(RAMP_STEPS) >= motion.ramp as i64 {
            return held.to;
        }
        let change = held.to as i64 - held.rate as i64;
        // Between the two rates, so it fits.
        (held.rate as i64 + (change * age * RAMP_STEPS).div_euclid(motion.ramp as i64)) as i32
    }

    /// The value at `tick` as anyone may use it, in quanta: clamped to the range, or for angles within `0..turn`.
    #[must_use]
    pub fn read(&self, held: &Ramped, motion: &Motion, tick: Tick) -> i32 {
        let fine = self.predict(held, motion, tick);
        let half = if self.fine_shift == 0 { 0 } else { 1 << (self.fine_shift - 1) };
        let value = fine.wrapping_add(half) >> self.fine_shift;
        match self.turn {
            // Fits: a turn is an i32.
            Some(turn) => value.rem_euclid(i64::from(turn)) as i32,
            None => value.clamp(i64::from(self.min), i64::from(self.max)) as i32,
        }
    }

    /// The signed distance in fine quanta from the prediction at `tick` to `truth`; for angles the shortest way round.
    #[inline]
    #[must_use]
    pub fn error(&self, held: &Ramped, motion: &Motion, tick: Tick, truth: i32) -> i64 {
        let predicted = self.predict(held, motion, tick);
        let within = |value: i32| i64::from(value) << self.fine_shift;
        let predicted =
            if self.turn.is_some() { predicted } else { predicted.clamp(within(self.min), within(self.max)) };
        self.shortest(i64::from(truth) - predicted)
    }

    /// The tolerance in fine quanta.
    #[inline]
    #[must_use]
    pub const fn tolerance_fine(&self) -> i64 {
        (self.tolerance as i64) << self.fine_shift
    }

    /// d of a restated value, as the wire carries it: `value − P(tick)` modulo 2^32, for angles the shortest way.
    #[inline]
    #[must_use]
    pub fn difference(&self, base: (&Ramped, &Motion), value: i32, tick: Tick) -> i32 {
        // Modulo 2^32 on purpose.
        self.shortest(i64::from(value) - self.predict(base.0, base.1, tick)) as i32
    }

    /// The value restated at `tick` from its [`difference`](Self::difference).
    #[inline]
    #[must_use]
    pub fn apply(&self, base: (&Ramped, &Motion), tick: Tick, difference: i32) -> i32 {
        let value = self.predict(base.0, base.1, tick).wrapping_add(i64::from(difference));
        match self.turn {
            // Fits: the schema has checked it.
            Some(turn) => value.rem_euclid(i64::from(turn) << self.fine_shift) as i32,
            // Modulo 2^32 on purpose.
            None => value as i32,
        }
    }

    /// An angle within `0..turn` in fine quanta; any other value as it is.
    #[must_use]
    pub const fn wrap(&self, value: i32) -> i32 {
        match self.turn {
            // Fits: the schema has checked it.
            Some(turn) => value.rem_euclid(turn << self.fine_shift),
            None => value,
        }
    }

    #[inline]
    fn shortest(&self, difference: i64) -> i64 {
        let Some(turn) = self.turn else { return difference };
        let turn = i64::from(turn) << self.fine_shift;
        (difference + turn / 2).rem_euclid(turn) - turn / 2
    }
}

/// The ticks of a ramp that lie within `age`, the last one only if it is whole.
const fn whole_ticks(ramp: u16, age: i64) -> i64 {
    let whole = ramp as i64 / RAMP_STEPS;
    if age < whole { age } else { whole }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const METRES: Ramp = Ramp { shift: 0, fine_shift: 3, tolerance: 1, turn: None, min: -30_000, max: 30_000 };
    const AIM: Ramp = Ramp { shift: 2, fine_shift: 4, tolerance: 1, turn: Some(256), min: 0, max: 255 };

    /// The rate after `k` ticks, and what it adds up to, one tick at a time and without rounding.
    fn stepped(held: &Ramped, ramp: u16, age: u64) -> f64 {
        let (rate, change) = (f64::from(held.rate), f64::from(held.to) - f64::from(held.rate));
        let ticks = f64::from(ramp) / 16.0;
        let rate_after = |k: u64| if k as f64 <= ticks { rate + change * k as f64 / ticks } else { f64::from(held.to) };
        (1..=age).map(rate_after).sum()
    }

    #[test]
    fn without_a_ramp_it_is_a_line_of_the_final_rate() {
        let held = Ramped { value: 100, rate: 85, to: 85 };
        let motion = Motion { tick: Tick(10), ramp: 0 };
        assert_eq!(METRES.predict(&held, &motion, Tick(20)), 950);
        assert_eq!(METRES.read(&held, &motion, Tick(20)), 119);
        assert_eq!(METRES.slope(&held, &motion, Tick(10)), 85);
    }

    #[test]
    fn the_rate_ends_at_its_goal() {
        let held = Ramped { value: 0, rate: 0, to: 80 };
        let motion = Motion { tick: Tick(0), ramp: 4 * 16 };
        let at = |tick| METRES.predict(&held, &motion, Tick(tick));
        assert_eq!([0, 1, 2, 3, 4, 5, 6].map(at), [0, 20, 60, 120, 200, 280, 360]);
        assert_eq!([0, 1, 3, 4, 9].map(|tick| METRES.slope(&held, &motion, Tick(tick))), [0, 20, 60, 80, 80]);
    }

    #[test]
    fn a_ramp_may_end_within_a_tick() {
        // 2.5 ticks: 40 %, 80 %, then all of it.
        let held = Ramped { value: 0, rate: 100, to: -100 };
        let motion = Motion { tick: Tick(0), ramp: 40 };
        let at = |tick| METRES.predict(&held, &motion, Tick(tick));
        assert_eq!([1, 2, 3, 4].map(at), [20, -40, -140, -240]);
    }

    #[test]
    fn reading_clamps_or_wraps() {
        let motion = Motion { tick: Tick(10), ramp: 0 };
        let far = Ramped { value: 239_999, rate: 800, to: 800 };
        assert_eq!(METRES.read(&far, &motion, Tick(11)), 30_000);
        let spin = Ramped { value: 255 * 16, rate: 64, to: 64 };
        assert_eq!(AIM.read(&spin, &motion, Tick(12)), 1);
    }

    proptest! {
        #[test]
        fn a_prediction_is_the_sum_of_its_rates(
            value in -200_000..200_000_i32, rate in -3000..3000_i32, to in -3000..3000_i32, ramp in 0..=RAMP_MAX, age in 0..600_u64
        ) {
            let held = Ramped { value, rate: if ramp == 0 { to } else { rate }, to };
            let motion = Motion { tick: Tick(7), ramp };
            let predicted = METRES.predict(&held, &motion, Tick(7 + age)) - i64::from(value);
            let summed = stepped(&held, ramp, age);
            prop_assert!((predicted as f64 - summed).abs() < 1.0 + 1e-6, "{predicted} {summed}");
        }

        #[test]
        fn a_difference_applies_to_the_same_base(
            value in any::<i32>(), rate in any::<i32>(), to in any::<i32>(), ramp in any::<u16>(), new in any::<i32>(),
            age in 0_u64..(1 << 31)
        ) {
            let (held, motion) = (Ramped { value, rate, to }, Motion { tick: Tick(5), ramp });
            let tick = Tick(5 + age);
            let difference = METRES.difference((&held, &motion), new, tick);
            prop_assert_eq!(METRES.apply((&held, &motion), tick, difference), new);
        }

        #[test]
        fn an_angles_difference_is_short_and_applies(
            value in 0..4096_i32, rate in -9000..9000_i32, to in -9000..9000_i32, ramp in 0..=RAMP_MAX, new in 0..4096_i32,
            age in 0_u64..100_000
        ) {
            let (held, motion) = (Ramped { value, rate, to }, Motion { tick: Tick(5), ramp });
            let tick = Tick(5 + age);
            let difference = AIM.difference((&held, &motion), new, tick);
            prop_assert!((-2048..2048).contains(&difference));
            prop_assert_eq!(AIM.apply((&held, &motion), tick, difference), new);
        }

        #[test]
        fn whatever_a_server_says_can_be_read(
            value in any::<i32>(), rate in any::<i32>(), to in any::<i32>(), ramp in any::<u16>(), difference in any::<i32>(),
            age in prop_oneof![0..1_u64 << 53, (1_u64 << 32)..(1 << 32) + 9], fine_shift in 0..=16_u8
        ) {
            let (held, motion) = (Ramped { value, rate, to }, Motion { tick: Tick(0), ramp });
            for turn in [None, Some(256)] {
                let ramp = Ramp { fine_shift: if turn.is_some() { 4 } else { fine_shift }, turn, ..METRES };
                prop_assert!((rate.min(to)..=rate.max(to)).contains(&ramp.slope(&held, &motion, Tick(age))));
                let read = ramp.read(&held, &motion, Tick(age));
                prop_assert!(turn.map_or(METRES.min..=METRES.max, |turn| 0..=turn - 1).contains(&read));
                let applied = ramp.apply((&held, &motion), Tick(age), difference);
                prop_assert!(turn.is_none_or(|turn| (0..turn << 4).contains(&applied)));
            }
        }

        #[test]
        fn a_slope_lies_between_the_rates(rate in any::<i32>(), to in any::<i32>(), ramp in any::<u16>(), age in 0..5000_u64) {
            let (held, motion) = (Ramped { value: 0, rate, to }, Motion { tick: Tick(0), ramp });
            let slope = METRES.slope(&held, &motion, Tick(age));
            prop_assert!((rate.min(to)..=rate.max(to)).contains(&slope));
        }
    }
}
