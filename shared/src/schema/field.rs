//! Numbers of kinds and of inputs: how they are held, predicted and shown.

use crate::{
    Quantity, Ramp, TickRate,
    predictor::Line,
    quantize::{Quantizer, RateQuantizer},
};

/// One quantized number of a kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Lower-case letters, digits and `_`.
    pub name: String,
    /// Unit, quantum and range.
    pub quantity: Quantity,
    /// How receivers continue it between updates.
    pub predictor: Predictor,
    /// How far, in quanta, the held value may stand from the truth. 0 without a predictor.
    pub tolerance: i32,
    /// Who sees it.
    pub visibility: Visibility,
    /// The owner's copy, and the component itself where it is predicted, are in steps of `quantum / 2^owner_shift`.
    pub owner_shift: u8,
    /// For angles: quanta in one whole turn. The range is then `0..turn`.
    pub turn: Option<i32>,
    /// Whether a change of it says that the entity has jumped: clients do not show a way between the two ticks.
    pub teleport: bool,
}

/// How receivers continue a field between updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Predictor {
    /// It stays as it is; every change is sent.
    None,
    /// It moves on at the rate of its anchor, which has `shift` fraction bits.
    Linear {
        /// Fraction bits of the rate: 0 to 16.
        shift: u8,
    },
    /// Its rate changes evenly from one to another over a time that all ramped fields of the entity share, then stays. It
    /// is held at the owner's precision, and its rates have `shift` fraction bits below that.
    Ramp {
        /// Fraction bits of the rates: 0 to 16.
        shift: u8,
    },
}

/// Who sees a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// Every viewer of the entity's cell.
    Everyone,
    /// Only the entity's owner.
    Owner,
}

impl Field {
    /// A field whose every change is sent.
    #[must_use]
    pub fn plain(name: &str, quantity: Quantity) -> Self {
        Self {
            name: name.to_owned(),
            quantity,
            predictor: Predictor::None,
            tolerance: 0,
            visibility: Visibility::Everyone,
            owner_shift: 0,
            turn: None,
            teleport: false,
        }
    }

    /// A field that moves on by itself: sent only when the truth leaves the line by more than a tolerance of 1 quantum,
    /// the least at which a steady mover costs nothing. Rates have 4 fraction bits.
    #[must_use]
    pub fn linear(name: &str, quantity: Quantity) -> Self {
        Self { predictor: Predictor::Linear { shift: 4 }, tolerance: 1, ..Self::plain(name, quantity) }
    }

    /// A field of something that accelerates: as [`linear`](Self::linear), but a change of rate may take its time, and
    /// still is sent once. The game says what the rate is heading for with
    /// [`KindDefinition::heading`](crate::KindDefinition::heading).
    #[must_use]
    pub fn ramp(name: &str, quantity: Quantity) -> Self {
        Self { predictor: Predictor::Ramp { shift: 0 }, tolerance: 1, ..Self::plain(name, quantity) }
    }

    /// Sets how far, in quanta, the held value may stand from the truth.
    #[must_use]
    pub fn tolerance(mut self, quanta: i32) -> Self {
        self.tolerance = quanta;
        self
    }

    /// Sets the fraction bits of the rates of a field with a predictor; one without becomes linear.
    #[must_use]
    pub fn rate_shift(mut self, shift: u8) -> Self {
        self.predictor = match self.predictor {
            Predictor::None | Predictor::Linear { .. } => Predictor::Linear { shift },
            Predictor::Ramp { .. } => Predictor::Ramp { shift },
        };
        self
    }

    /// Sets the owner's precision: `quantum / 2^shift`.
    #[must_use]
    pub fn owner_shift(mut self, shift: u8) -> Self {
        self.owner_shift = shift;
        self
    }

    /// Shows the field to the entity's owner alone.
    #[must_use]
    pub fn owner_only(mut self) -> Self {
        self.visibility = Visibility::Owner;
        self
    }

    /// Makes it an angle of `quanta` steps to the turn. The quantum becomes one step's share of `turn_in_units`.
    #[must_use]
    pub fn angle(mut self, quanta: i32, turn_in_units: f64) -> Self {
        self.turn = Some(quanta);
        self.quantity.quantum = turn_in_units / f64::from(quanta);
        self.quantity.min = 0;
        self.quantity.max = quanta - 1;
        self
    }

    /// Makes it the word for a jump: whenever its value changes, such as that of a counter, the entity was somewhere else at
    /// the tick before, and clients do not show a way between.
    #[must_use]
    pub fn teleports(mut self) -> Self {
        self.teleport = true;
        self
    }

    /// Whether there are values between two of its values: it has a predictor, or is an angle. Others, such as numbers of
    /// players and points, change at once.
    #[must_use]
    pub fn is_continuous(&self) -> bool {
        self.predictor != Predictor::None || self.turn.is_some()
    }

    /// The predictor's numbers, where it is linear.
    #[must_use]
    pub fn line(&self) -> Option<Line> {
        let Predictor::Linear { shift } = self.predictor else { return None };
        let Quantity { min, max, .. } = self.quantity;
        Some(Line { shift, tolerance: self.tolerance, turn: self.turn, min, max })
    }

    /// The predictor's numbers, where it is a ramp.
    #[must_use]
    pub fn ramp_line(&self) -> Option<Ramp> {
        let Predictor::Ramp { shift } = self.predictor else { return None };
        let Quantity { min, max, .. } = self.quantity;
        Some(Ramp { shift, fine_shift: self.owner_shift, tolerance: self.tolerance, turn: self.turn, min, max })
    }

    /// A quantity at the owner's precision: what capture reads from the component. Angles wrap, all else saturates.
    #[must_use]
    pub fn quantize_fine(&self, quantity: f64) -> i32 {
        self.quantizer().quantize(quantity)
    }

    /// [`quantize_fine`](Self::quantize_fine) for many quantities.
    pub(crate) fn quantizer(&self) -> Quantizer {
        Quantizer::new(&self.quantity, self.owner_shift, self.turn)
    }

    /// For rates, of which those of a ramped field are held at the owner's precision.
    pub(crate) fn rate_quantizer(&self, rate: TickRate) -> RateQuantizer {
        let shift = match self.predictor {
            Predictor::None => 0,
            Predictor::Linear { shift } => shift,
            Predictor::Ramp { shift } => shift + self.owner_shift,
        };
        RateQuantizer::new(self.quantity.quantum, shift, rate)
    }

    /// Between two public values, in quanta, `share` of the way from `from` (0) to `to` (1): angles the short way round, and
    /// within their turn; where both ways are equally long, upwards. What is between two ticks, clients show and servers
    /// that rewind aim at alike.
    #[must_use]
    pub fn blend(&self, from: i32, to: i32, share: f64) -> f64 {
        blend(self.turn, from, to, share)
    }

    /// As [`blend`](Self::blend), between two values at the owner's precision; the result is in public quanta.
    #[must_use]
    pub fn blend_fine(&self, from: i32, to: i32, share: f64) -> f64 {
        // Fits: the schema has checked it.
        let turn = self.turn.map(|turn| turn << self.owner_shift);
        blend(turn, from, to, share) / f64::from(1_u32 << self.owner_shift)
    }

    /// The public value of a fine one.
    #[must_use]
    pub fn coarse(&self, fine: i32) -> i32 {
        public_value(fine, self.owner_shift, self.turn)
    }
}

/// As [`Field::coarse`], of a field of that shift and turn.
#[inline]
pub(crate) fn public_value(fine: i32, owner_shift: u8, turn: Option<i32>) -> i32 {
    let coarse = crate::coarse(fine, owner_shift);
    turn.map_or(coarse, |turn| coarse.rem_euclid(turn))
}

fn blend(turn: Option<i32>, from: i32, to: i32, share: f64) -> f64 {
    let (from, step) = (f64::from(from), i64::from(to) - i64::from(from));
    let Some(turn) = turn.map(i64::from) else { return from + step as f64 * share };
    let short = (step + (turn - 1) / 2).rem_euclid(turn) - (turn - 1) / 2;
    let (blended, turn) = (from + short as f64 * share, turn as f64);
    blended - (blended / turn).floor() * turn
}

/// One number of a player's input.
#[derive(Clone, Debug, PartialEq)]
pub struct InputField {
    /// Lower-case letters, digits and `_`.
    pub name: String,
    /// Unit, quantum and range.
    pub quantity: Quantity,
    /// What becomes of it where an input is missing.
    pub mode: InputMode,
    /// The value of a player who does nothing, in quanta.
    pub neutral: i32,
}

/// What becomes of an input field where a tick's input is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputMode {
    /// It repeats for up to 250 ms, then turns neutral.
    Hold,
    /// A one-shot action: it never repeats.
    Edge,
}

impl InputField {
    /// A field that is held, such as a direction; neutral at 0.
    #[must_use]
    pub fn hold(name: &str, quantity: Quantity) -> Self {
        Self { name: name.to_owned(), quantity, mode: InputMode::Hold, neutral: 0 }
    }

    /// A one-shot action, such as a jump; neutral at 0.
    #[must_use]
    pub fn edge(name: &str, quantity: Quantity) -> Self {
        Self { mode: InputMode::Edge, ..Self::hold(name, quantity) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_blend_straight_and_angles_the_short_way_round() {
        let x = Field::plain("x", Quantity::count(-900..=900));
        assert_eq!((x.blend(-10, 30, 0.25), x.blend(5, 5, 0.7)), (0.0, 5.0));
        let aim = Field::plain("aim", Quantity::count(0..=0)).angle(256, 1.0);
        assert_eq!((aim.blend(250, 6, 0.5), aim.blend(6, 250, 0.75)), (0.0, 253.0));
        assert_eq!((aim.blend(0, 128, 0.5), aim.blend(0, 129, 1.0)), (64.0, 129.0));
        let odd = Field::plain("aim", Quantity::count(0..=0)).angle(3, 1.0);
        assert_eq!((odd.blend(0, 2, 0.5), odd.blend(2, 0, 0.5)), (2.5, 2.5));
        let fine = aim.owner_shift(4);
        assert_eq!((fine.blend_fine(4000, 96, 0.5), fine.blend_fine(16, 24, 0.25)), (0.0, 1.125));
    }
}
