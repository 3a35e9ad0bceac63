//! Players' inputs as the game sees them.

use bevy_ecs::resource::Resource;
use serde::{Deserialize, Serialize};

use crate::{InputField, InputId, InputMode, NumberMap, PlayerId, Quantity, Seen};

/// The most inputs of one message.
pub const INPUTS_PER_MESSAGE_MAX: usize = 32;
/// How long `hold` fields repeat where inputs are missing.
pub const HOLD_REPEAT_MS: u64 = 250;
/// How far ahead of the session's tick an input may be.
pub const INPUT_LEAD_MS_MAX: u64 = 1000;

/// Where a tick's input came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Provenance {
    /// An input for this very tick.
    Fresh,
    /// None arrived: `hold` fields are as before, `edge` fields neutral.
    Repeated,
    /// None arrived for so long that all fields are neutral.
    #[default]
    Absent,
}

/// One player's input at one tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlayerInput {
    /// Where it came from.
    pub provenance: Provenance,
    values: Vec<i32>,
    seen: Option<Seen>,
}

impl PlayerInput {
    /// The input of a player who has sent none.
    #[must_use]
    pub fn absent(fields: &[InputField]) -> Self {
        Self { provenance: Provenance::Absent, values: fields.iter().map(|field| field.neutral).collect(), seen: None }
    }

    /// What the player was shown of everybody else when they made the input, for [`Past::view`](crate::Past::view); `None`
    /// where their client does not say.
    ///
    /// It never goes back from one tick to the next, and is never after the newest frame. Where the input is repeated, it
    /// has moved on by as many ticks.
    #[must_use]
    pub const fn seen(&self) -> Option<Seen> {
        self.seen
    }

    /// The values of all fields, in quanta, in the schema's order.
    #[must_use]
    pub fn values(&self) -> &[i32] {
        &self.values
    }

    /// A field's value, in quanta.
    ///
    /// # Panics
    /// Where the game has no such field.
    #[must_use]
    pub fn get(&self, field: InputId) -> i32 {
        self.values[field.index()]
    }

    /// Whether a button is down, or an action due.
    ///
    /// # Panics
    /// Where the game has no such field.
    #[must_use]
    pub fn pressed(&self, field: InputId) -> bool {
        self.get(field) != 0
    }

    /// Moves on to a tick whose input is `provenance`, with `values` where it is fresh.
    pub fn advance(&mut self, fields: &[InputField], provenance: Provenance, values: &[i32]) {
        self.provenance = provenance;
        let given = if provenance == Provenance::Fresh { values } else { &[] };
        let given = &given[..given.len().min(self.values.len())];
        self.values[..given.len()].copy_from_slice(given);
        for (held, field) in self.values.iter_mut().zip(fields).skip(given.len()) {
            if provenance != Provenance::Repeated || field.mode == InputMode::Edge {
                *held = field.neutral;
            }
        }
    }
}

/// All players' inputs of the current tick, as a resource of the game's world.
#[derive(Resource, Debug)]
pub struct Inputs {
    fields: Vec<InputField>,
    /// In order.
    players: Vec<PlayerId>,
    by_player: NumberMap<PlayerId, PlayerInput>,
}

impl Inputs {
    /// No players yet, for a game of these fields.
    #[must_use]
    pub fn new(fields: Vec<InputField>) -> Self {
        Self { fields, players: Vec::new(), by_player: NumberMap::default() }
    }

    /// A seated player's input of this tick.
    #[must_use]
    pub fn get(&self, player: PlayerId) -> Option<&PlayerInput> {
        self.by_player.get(&player)
    }

    /// The quantity of a field of a seated player's input, in the field's unit; the neutral one for anybody else.
    ///
    /// # Panics
    /// Where the game has no such field.
    #[must_use]
    pub fn quantity(&self, player: PlayerId, field: InputId) -> f32 {
        let InputField { quantity, neutral, .. } = &self.fields[field.index()];
        let value = self.get(player).map_or(*neutral, |input| input.get(field));
        Quantity::dequantize(quantity, value) as f32
    }

    /// Whether a seated player has a button down, or an action due, at this tick.
    ///
    /// # Panics
    /// Where the game has no such field.
    #[must_use]
    pub fn pressed(&self, player: PlayerId, field: InputId) -> bool {
        self.get(player).is_some_and(|input| input.pressed(field))
    }

    /// All seated players' inputs, in order of player.
    pub fn iter(&self) -> impl Iterator<Item = (PlayerId, &PlayerInput)> {
        self.players.iter().map(|player| (*player, &self.by_player[player]))
    }

    /// Seats a player, with no input yet.
    pub fn seat(&mut self, player: PlayerId) {
        self.by_player.insert(player, PlayerInput::absent(&self.fields));
        if let Err(i) = self.players.binary_search(&player) {
            self.players.insert(i, player);
        }
    }

    /// Seats a player with the input that they had; false where it has another number of values than there are fields.
    pub fn seat_again(&mut self, player: PlayerId, input: PlayerInput) -> bool {
        if input.values.len() != self.fields.len() {
            return false;
        }
        self.seat(player);
        self.by_player.insert(player, input);
        true
    }

    /// Forgets a player.
    pub fn unseat(&mut self, player: PlayerId) {
        self.by_player.remove(&player);
        if let Ok(i) = self.players.binary_search(&player) {
            self.players.remove(i);
        }
    }

    /// Moves one player on to the current tick, with what they were shown when they made its input. A player who is not
    /// seated is ignored.
    pub fn advance(&mut self, player: PlayerId, provenance: Provenance, values: &[i32], seen: Option<Seen>) {
        if let Some(input) = self.by_player.get_mut(&player) {
            input.advance(&self.fields, provenance, values);
            input.seen = seen;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_repeat_and_edges_do_not() {
        let fields =
            vec![InputField::hold("walk", Quantity::count(-1..=1)), InputField::edge("jump", Quantity::count(0..=1))];
        let mut inputs = Inputs::new(fields);
        let (player, walk, jump) = (PlayerId(1), InputId(0), InputId(1));
        inputs.seat(player);
        inputs.advance(player, Provenance::Fresh, &[1, 1], None);
        assert_eq!((inputs.quantity(player, walk), inputs.pressed(player, jump)), (1.0, true));
        inputs.advance(player, Provenance::Repeated, &[], None);
        assert_eq!((inputs.quantity(player, walk), inputs.pressed(player, jump)), (1.0, false));
        inputs.advance(player, Provenance::Absent, &[], None);
        assert_eq!((inputs.quantity(player, walk), inputs.pressed(player, jump)), (0.0, false));
    }

    #[test]
    fn values_that_an_input_leaves_out_are_neutral() {
        let fields = [InputField { neutral: 7, ..InputField::hold("gear", Quantity::count(0..=9)) }];
        let mut input = PlayerInput::absent(&fields);
        input.advance(&fields, Provenance::Fresh, &[]);
        assert_eq!(input.values(), [7]);
    }
}
