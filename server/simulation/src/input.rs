//! A player's input, as the network's edge hands it over.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use tickwire_shared::{Schema, Seen, SeenError, Tick};

/// One value per input field, in quanta. Those of most games lie in the input itself, which goes from one thread to another.
pub type InputValues = SmallVec<[i32; 8]>;

/// A player's input for one tick, valid for the schema that it was made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    sequence: u64,
    target_tick: Tick,
    values: InputValues,
    seen: Option<Seen>,
}

/// An input that no client of this schema may send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// Sequences start at 1.
    #[error("sequence: 0 means \"none\"; the first input is 1")]
    SequenceZero,
    /// Outside `1..=Tick::MAX`.
    #[error("target_tick: {0} is not a tick from 1 to 2^53")]
    TargetTick(u64),
    /// More values than input fields.
    #[error("values: {count} values for a game of {fields} input fields")]
    TooManyValues {
        /// How many came.
        count: usize,
        /// How many the schema has.
        fields: usize,
    },
    /// A value outside its field's range.
    #[error("values.{field}: {value} is out of range: {min} to {max} quanta")]
    Range {
        /// The field's name.
        field: String,
        /// In quanta.
        value: i32,
        /// The least.
        min: i32,
        /// The most.
        max: i32,
    },
    /// A moment that no client may name.
    #[error(transparent)]
    Seen(#[from] SeenError),
}

impl Input {
    /// An input as it stands on the wire: values in quanta, in the schema's order; missing ones at the end are neutral.
    ///
    /// # Errors
    /// The first number that is out of its range.
    pub fn new(
        schema: &Schema,
        sequence: u64,
        target_tick: u64,
        values: impl IntoIterator<Item = i32>,
    ) -> Result<Self, InputError> {
        if sequence == 0 {
            return Err(InputError::SequenceZero);
        }
        if !(1..=Tick::MAX.0).contains(&target_tick) {
            return Err(InputError::TargetTick(target_tick));
        }
        let mut values: InputValues = values.into_iter().collect();
        if values.len() > schema.inputs.len() {
            return Err(InputError::TooManyValues { count: values.len(), fields: schema.inputs.len() });
        }
        values.extend(schema.inputs[values.len()..].iter().map(|field| field.neutral));
        check_ranges(schema, &values)?;
        Ok(Self { sequence, target_tick: Tick(target_tick), values, seen: None })
    }

    /// The same input, with what the player was shown of everybody else when they made it, as it stands on the wire; tick 0
    /// is "not said".
    ///
    /// # Errors
    /// Where either number is out of its range.
    pub fn with_seen(self, tick: u64, fraction: u32) -> Result<Self, InputError> {
        Ok(Self { seen: Seen::parse(tick, fraction)?, ..self })
    }

    /// The client's number for it, from 1, rising.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The tick that is to consume it.
    #[must_use]
    pub const fn target_tick(&self) -> Tick {
        self.target_tick
    }

    /// One value per input field, in quanta.
    #[must_use]
    pub fn values(&self) -> &[i32] {
        &self.values
    }

    /// What the player was shown, where their client says so.
    #[must_use]
    pub const fn seen(&self) -> Option<Seen> {
        self.seen
    }

    /// The same one, from a file, if anybody may send it.
    pub(crate) fn checked(self, schema: &Schema) -> Result<Self, InputError> {
        let (tick, fraction) = Seen::to_wire(self.seen);
        Self::new(schema, self.sequence, self.target_tick.0, self.values)?.with_seen(tick, fraction)
    }

    pub(crate) fn into_values(self) -> Vec<i32> {
        self.values.into_vec()
    }
}

/// Whether each value is in its field's range.
pub(crate) fn check_ranges(schema: &Schema, values: &[i32]) -> Result<(), InputError> {
    for (field, &value) in schema.inputs.iter().zip(values) {
        let (min, max) = (field.quantity.min, field.quantity.max);
        if !(min..=max).contains(&value) {
            return Err(InputError::Range { field: field.name.clone(), value, min, max });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tickwire_shared::{InputField, Quantity, SchemaParts};

    use super::*;

    fn schema() -> Schema {
        let gear = InputField { neutral: 2, ..InputField::hold("gear", Quantity::count(1..=5)) };
        let inputs = vec![InputField::hold("walk", Quantity::count(-1..=1)), gear];
        Schema::new(SchemaParts { game: "t".into(), inputs, ..SchemaParts::default() }).expect("valid")
    }

    #[test]
    fn missing_values_at_the_end_are_neutral() {
        let input = Input::new(&schema(), 1, 5, vec![-1]).expect("valid");
        assert_eq!((input.sequence(), input.target_tick(), input.values()), (1, Tick(5), [-1, 2].as_slice()));
    }

    #[test]
    fn errors_name_the_field_and_the_value() {
        let error = |sequence, tick, values| Input::new(&schema(), sequence, tick, values).map(drop);
        assert_eq!(error(0, 5, vec![]), Err(InputError::SequenceZero));
        assert_eq!(error(1, 0, vec![]), Err(InputError::TargetTick(0)));
        assert_eq!(error(1, 1 << 53, vec![]), Ok(()));
        assert_eq!(error(1, (1 << 53) + 1, vec![]), Err(InputError::TargetTick((1 << 53) + 1)));
        assert_eq!(error(1, 5, vec![0, 2, 0]), Err(InputError::TooManyValues { count: 3, fields: 2 }));
        let message = Input::new(&schema(), 1, 5, vec![0, 9]).expect_err("out of range").to_string();
        assert_eq!(message, "values.gear: 9 is out of range: 1 to 5 quanta");
        let sees = |tick, fraction| Input::new(&schema(), 1, 5, vec![])?.with_seen(tick, fraction);
        assert_eq!(sees(u64::MAX, 0), Err(InputError::Seen(SeenError::Tick(u64::MAX))));
        assert_eq!(sees(3, 256), Err(InputError::Seen(SeenError::Fraction(256))));
        assert_eq!(sees(3, 9).map(|input| input.seen()), Ok(Some(Seen { tick: Tick(3), fraction: 9 })));
    }
}
