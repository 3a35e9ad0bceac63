//! How a bot's wishes become the input of a game on a plane, by the names of its input fields.

use tickwire_shared::{InputId, Quantity, Schema};

/// The input fields that a bot knows what to do with.
///
/// A game is played by purpose if its inputs have `move_x` and `move_y`, the east and north parts of a direction, and
/// `aim`, an angle whose range is one turn from east, counter-clockwise. `fire` (held) and `rocket` (an edge) are used
/// where they are there.
#[derive(Clone, Debug, PartialEq)]
pub struct Controls {
    move_x: Control,
    move_y: Control,
    aim: Control,
    fire: Option<Control>,
    rocket: Option<Control>,
}

/// An input field, and what it can hold.
#[derive(Clone, Debug, PartialEq)]
struct Control {
    id: InputId,
    quantity: Quantity,
    neutral: i32,
}

impl Control {
    fn named(schema: &Schema, name: &str) -> Option<Self> {
        let id = schema.input_named(name)?;
        let field = &schema.inputs[id.index()];
        Some(Self { id, quantity: field.quantity.clone(), neutral: field.neutral })
    }

    /// From −1, the least, to 1, the most; 0 is neutral.
    fn set_share(&self, input: &mut [i32], share: f64) {
        let share = share.clamp(-1.0, 1.0);
        let (neutral, end) = (f64::from(self.neutral), if share < 0.0 { self.quantity.min } else { self.quantity.max });
        // Between two integers of the range, so the cast is one of it.
        input[self.id.index()] = (neutral + share.abs() * (f64::from(end) - neutral)).round() as i32;
    }

    fn set_turn(&self, input: &mut [i32], turns: f64) {
        let (min, max) = (i64::from(self.quantity.min), i64::from(self.quantity.max));
        let steps = max - min + 1;
        let step = (turns * steps as f64).round() as i64;
        // Within the range by the modulo.
        input[self.id.index()] = (min + step.rem_euclid(steps)) as i32;
    }

    fn press(&self, input: &mut [i32]) {
        input[self.id.index()] = self.quantity.max;
    }
}

impl Controls {
    /// The controls of a game, if it is one that bots know how to play.
    #[must_use]
    pub fn of(schema: &Schema) -> Option<Self> {
        Some(Self {
            move_x: Control::named(schema, "move_x")?,
            move_y: Control::named(schema, "move_y")?,
            aim: Control::named(schema, "aim")?,
            fire: Control::named(schema, "fire"),
            rocket: Control::named(schema, "rocket"),
        })
    }

    /// Walks: each part from −1 to 1.
    pub fn walk(&self, input: &mut [i32], east: f64, north: f64) {
        self.move_x.set_share(input, east);
        self.move_y.set_share(input, north);
    }

    /// Aims: in turns from east, counter-clockwise.
    pub fn aim(&self, input: &mut [i32], turns: f64) {
        self.aim.set_turn(input, turns);
    }

    /// Holds the trigger down, where there is one.
    pub fn fire(&self, input: &mut [i32]) {
        if let Some(fire) = &self.fire {
            fire.press(input);
        }
    }

    /// Launches a rocket, where there are any.
    pub fn rocket(&self, input: &mut [i32]) {
        if let Some(rocket) = &self.rocket {
            rocket.press(input);
        }
    }
}

#[cfg(test)]
mod tests {
    use tickwire_shared::{InputField, SchemaParts};

    use super::*;

    fn schema(inputs: Vec<InputField>) -> Schema {
        Schema::new(SchemaParts { game: "test".into(), inputs, ..SchemaParts::default() }).unwrap()
    }

    #[test]
    fn shares_and_turns_reach_the_ends_of_their_ranges_and_no_further() {
        let part = || Quantity::count(-100..=50);
        let schema = schema(vec![
            InputField::hold("aim", Quantity::count(-4..=3)),
            InputField { neutral: 10, ..InputField::hold("move_x", part()) },
            InputField::hold("move_y", part()),
        ]);
        let controls = Controls::of(&schema).unwrap();
        let walked = |share: f64| {
            let mut input = schema.neutral_input();
            controls.walk(&mut input, share, 0.0);
            input[1]
        };
        assert_eq!([-9.0, -1.0, -0.5, 0.0, 0.5, 1.0, 9.0].map(walked), [-100, -100, -45, 10, 30, 50, 50]);
        let aimed = |turns: f64| {
            let mut input = schema.neutral_input();
            controls.aim(&mut input, turns);
            input[0]
        };
        assert_eq!([0.0, 0.25, 0.5, 0.99, 1.0, -0.125, 7.125].map(aimed), [-4, -2, 0, -4, -4, 3, -3]);
    }

    #[test]
    fn a_game_of_other_inputs_is_not_known() {
        assert_eq!(Controls::of(&schema(vec![InputField::hold("throttle", Quantity::count(0..=9))])), None);
    }

    #[test]
    fn the_arena_is_known_whole() {
        let schema = tickwire_shared::schema_of(&tickwire_arena::Arena).unwrap();
        let controls = Controls::of(&schema).unwrap();
        assert!(controls.fire.is_some() && controls.rocket.is_some());
        assert_eq!(
            (controls.aim.quantity.min, controls.aim.quantity.max + 1),
            (0, schema.inputs[controls.aim.id.index()].quantity.max + 1)
        );
        let turn = controls.aim.quantity.dequantize(controls.aim.quantity.max - controls.aim.quantity.min + 1);
        assert!((turn - 1.0).abs() < 1e-9, "aim spans {turn} turns");
    }
}
