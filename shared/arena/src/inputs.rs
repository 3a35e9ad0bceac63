//! What a player can do: the fields of an input, in the schema's order.

use tickwire_shared::{Definition, InputField, InputId, Quantity};

use crate::aim::Aim;

/// Held: the east part of the direction to walk in, −1 to 1 in steps of 1/[`MOVE_STEPS`].
pub const MOVE_X: InputId = InputId(0);
/// Held: the north part of the direction to walk in, −1 to 1 in steps of 1/[`MOVE_STEPS`].
pub const MOVE_Y: InputId = InputId(1);
/// Held: where to aim, in steps of 1/4096 turn from east, counter-clockwise.
pub const AIM: InputId = InputId(2);
/// Held: whether the rifle's trigger is down, 0 or 1.
pub const FIRE: InputId = InputId(3);
/// One-shot: launch a rocket, 0 or 1.
pub const ROCKET: InputId = InputId(4);

/// Steps of a direction from 0 to 1.
pub const MOVE_STEPS: i32 = 127;

pub(crate) fn define(definition: &mut Definition) {
    let part = Quantity::new("", 1.0 / f64::from(MOVE_STEPS), -1.0..=1.0);
    let button = Quantity::count(0..=1);
    definition.input(InputField::hold("move_x", part.clone()));
    definition.input(InputField::hold("move_y", part));
    definition.input(InputField::hold("aim", Aim::quantity()));
    definition.input(InputField::hold("fire", button.clone()));
    definition.input(InputField::edge("rocket", button));
}

#[cfg(test)]
mod tests {
    use tickwire_shared::{InputMode, schema_of};

    use super::*;
    use crate::Arena;

    #[test]
    fn the_constants_are_the_schemas_numbers() {
        let schema = schema_of(&Arena).expect("the definition is valid");
        for (name, id) in [("move_x", MOVE_X), ("move_y", MOVE_Y), ("aim", AIM), ("fire", FIRE), ("rocket", ROCKET)] {
            assert_eq!(schema.input_named(name), Some(id), "{name}");
        }
        assert_eq!(schema.inputs.len(), 5);
        assert_eq!(schema.inputs[ROCKET.index()].mode, InputMode::Edge);
        let move_x = &schema.inputs[MOVE_X.index()].quantity;
        assert_eq!((move_x.min, move_x.max), (-MOVE_STEPS, MOVE_STEPS));
    }
}
