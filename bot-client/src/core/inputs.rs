//! A player's inputs on their way out: what is held, what is due once, numbers, and what was sent but not yet consumed.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tickwire_proto::v1 as pb;
use tickwire_shared::{InputMode, Schema, Tick};

/// Inputs that may be on their way at a time; of older ones no times are kept.
const SENT_MAX: usize = 1024;
/// A server takes inputs for a second ahead, at 240 ticks per second at most.
const ON_THEIR_WAY_MAX: usize = 256;
/// A press that a crash of the server has cost is due again, but for one that was sent longer ago: nobody expects anything of
/// that any more.
const EDGES_KEPT: Duration = Duration::from_secs(3);

/// Values that are no input of the session's game.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// Outside its field's range; the server would end the stream.
    #[error("input {name}: {value} is out of range: choose {min} to {max} quanta")]
    Range {
        /// The field.
        name: String,
        /// What was given, in quanta.
        value: i32,
        /// The least, in quanta.
        min: i32,
        /// The most, in quanta.
        max: i32,
    },
    /// More values than fields.
    #[error("{count} input values for a game of {fields} input fields: give one per field of the schema")]
    TooMany {
        /// How many were given.
        count: usize,
        /// How many the schema has.
        fields: usize,
    },
}

/// Numbers inputs and keeps edges until they are sent.
#[derive(Debug)]
pub(super) struct Inputs {
    schema: Arc<Schema>,
    values: Vec<i32>,
    sequence: u64,
    last_target: Tick,
    sent: VecDeque<Sent>,
    /// The newest of them, as they were sent: those that a server may still take.
    on_their_way: VecDeque<pb::Input>,
}

/// An input that no snapshot has named as consumed yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sent {
    pub(super) sequence: u64,
    pub(super) target: Tick,
    pub(super) at: Duration,
}

impl Inputs {
    /// Numbers go on from `last_sequence`.
    pub(super) fn new(schema: Arc<Schema>, last_sequence: u64) -> Self {
        let values = schema.neutral_input();
        Self {
            schema,
            values,
            sequence: last_sequence,
            last_target: Tick::ZERO,
            sent: VecDeque::new(),
            on_their_way: VecDeque::new(),
        }
    }

    /// Replaces what is held; an edge that is due stays due until it is sent.
    pub(super) fn set(&mut self, values: &[i32]) -> Result<(), InputError> {
        let fields = &self.schema.inputs;
        if values.len() > fields.len() {
            return Err(InputError::TooMany { count: values.len(), fields: fields.len() });
        }
        for (field, &value) in fields.iter().zip(values) {
            let (min, max) = (field.quantity.min, field.quantity.max);
            if !(min..=max).contains(&value) {
                return Err(InputError::Range { name: field.name.clone(), value, min, max });
            }
        }
        for (i, field) in fields.iter().enumerate() {
            let value = values.get(i).copied().unwrap_or(field.neutral);
            if field.mode == InputMode::Hold || value != field.neutral {
                self.values[i] = value;
            }
        }
        Ok(())
    }

    /// What the next input will hold.
    pub(super) fn values(&self) -> &[i32] {
        &self.values
    }

    /// The newest tick that an input was sent for. The next one is for a later tick.
    pub(super) fn last_target(&self) -> Tick {
        self.last_target
    }

    /// The next input. Edges are spent.
    pub(super) fn next(&mut self, target: Tick, now: Duration) -> pb::Input {
        debug_assert!(target > self.last_target, "target ticks rise strictly");
        self.sequence += 1;
        self.last_target = target;
        self.sent.push_back(Sent { sequence: self.sequence, target, at: now });
        if self.sent.len() > SENT_MAX {
            self.sent.pop_front();
        }
        let fields = self.schema.inputs.iter();
        let needed = fields.zip(&self.values).rposition(|(field, value)| *value != field.neutral).map_or(0, |i| i + 1);
        let values = self.values[..needed].to_vec();
        for (value, field) in self.values.iter_mut().zip(&self.schema.inputs) {
            if field.mode == InputMode::Edge {
                *value = field.neutral;
            }
        }
        pb::Input { sequence: self.sequence, target_tick: target.0, values, ..pb::Input::default() }
    }

    /// An input that is still on its way, by its number.
    pub(super) fn sent(&self, sequence: u64) -> Option<&Sent> {
        let oldest = self.sent.front()?.sequence;
        // Numbers are contiguous.
        self.sent.get(usize::try_from(sequence.checked_sub(oldest)?).ok()?)
    }

    /// Takes out the oldest input that is consumed or passed over, given the newest number that was consumed.
    pub(super) fn pop_consumed(&mut self, consumed: u64) -> Option<Sent> {
        while self.on_their_way.pop_front_if(|input| input.sequence <= consumed).is_some() {}
        self.sent.pop_front_if(|sent| sent.sequence <= consumed)
    }

    /// Keeps an input as it is sent, for the case that it is lost with its connection.
    pub(super) fn note(&mut self, input: pb::Input) {
        if self.on_their_way.len() >= ON_THEIR_WAY_MAX {
            self.on_their_way.pop_front();
        }
        self.on_their_way.push_back(input);
    }

    /// Goes on with a seat that has consumed inputs up to a number: numbers rise from there, too.
    pub(super) fn resume(&mut self, consumed: u64) {
        self.sequence = self.sequence.max(consumed);
    }

    /// The newest number, and the inputs after `consumed` for ticks after `tick`, oldest first.
    pub(super) fn after(&self, consumed: u64, tick: Tick) -> (u64, Vec<pb::Input>) {
        let is_of_use = |input: &&pb::Input| input.sequence > consumed && input.target_tick > tick.0;
        (self.sequence, self.on_their_way.iter().filter(is_of_use).cloned().collect())
    }

    /// Ticks begin anew, and what was on its way is lost; `consumed` is the newest input that a tick of before has taken. Numbers
    /// go on rising.
    ///
    /// What was held then is held now or not. A press is no state that the next input says again: an edge that no tick has taken
    /// is due once more, the newest one of each field, unless the player has pressed anew.
    pub(super) fn new_epoch(&mut self, consumed: u64, now: Duration) {
        let is_lost = |input: &&pb::Input| {
            let sent = self.sent(input.sequence);
            input.sequence > consumed && sent.is_some_and(|sent| now.saturating_sub(sent.at) <= EDGES_KEPT)
        };
        let lost: Vec<&pb::Input> = self.on_their_way.iter().filter(is_lost).collect();
        for (i, field) in self.schema.inputs.iter().enumerate().filter(|(_, field)| field.mode == InputMode::Edge) {
            let newest =
                lost.iter().rev().filter_map(|input| input.values.get(i)).find(|value| **value != field.neutral);
            if let Some(value) = newest.filter(|_| self.values[i] == field.neutral) {
                self.values[i] = *value;
            }
        }
        self.last_target = Tick::ZERO;
        self.sent.clear();
        self.on_their_way.clear();
    }
}

#[cfg(test)]
mod tests {
    use tickwire_shared::{InputField, Quantity, SchemaParts};

    use super::*;

    fn inputs() -> Inputs {
        let parts = SchemaParts {
            game: "test".into(),
            inputs: vec![
                InputField::hold("walk", Quantity::count(-100..=100)),
                InputField::edge("jump", Quantity::count(0..=1)),
                InputField { neutral: 3, ..InputField::hold("gear", Quantity::count(1..=9)) },
            ],
            ..SchemaParts::default()
        };
        Inputs::new(Arc::new(Schema::new(parts).unwrap()), 7)
    }

    const NOW: Duration = Duration::from_secs(1);

    #[test]
    fn an_edge_is_sent_once_even_where_the_next_frame_lets_it_go() {
        let mut inputs = inputs();
        inputs.set(&[5, 1, 4]).unwrap();
        inputs.set(&[6, 0, 4]).unwrap();
        assert_eq!(inputs.next(Tick(10), NOW).values, [6, 1, 4]);
        assert_eq!(inputs.next(Tick(11), NOW).values, [6, 0, 4]);
    }

    #[test]
    fn neutral_values_at_the_end_are_left_out() {
        let mut inputs = inputs();
        inputs.set(&[5, 1]).unwrap();
        assert_eq!(inputs.next(Tick(10), NOW).values, [5, 1]);
        inputs.set(&[]).unwrap();
        assert_eq!(inputs.next(Tick(11), NOW).values, [0_i32; 0]);
    }

    #[test]
    fn values_out_of_range_are_refused_by_name_and_change_nothing() {
        let mut inputs = inputs();
        inputs.set(&[5, 0, 4]).unwrap();
        let error = inputs.set(&[9, 0, 10]).unwrap_err();
        assert_eq!(error.to_string(), "input gear: 10 is out of range: choose 1 to 9 quanta");
        assert_eq!(inputs.set(&[0; 4]), Err(InputError::TooMany { count: 4, fields: 3 }));
        assert_eq!(inputs.next(Tick(10), NOW).values, [5, 0, 4]);
    }

    #[test]
    fn numbers_go_on_from_those_the_seat_has_consumed() {
        let mut inputs = inputs();
        let first = inputs.next(Tick(10), NOW);
        let second = inputs.next(Tick(12), NOW);
        assert_eq!((first.sequence, second.sequence), (8, 9));
        assert_eq!(inputs.sent(9).map(|sent| sent.target), Some(Tick(12)));
        assert_eq!((inputs.sent(7), inputs.sent(10)), (None, None));
        assert_eq!(inputs.pop_consumed(8).map(|sent| sent.target), Some(Tick(10)));
        assert_eq!(inputs.pop_consumed(8), None);
        assert_eq!(inputs.sent(9).map(|sent| sent.target), Some(Tick(12)));
    }

    /// Sends the next input, as a client does.
    fn send(inputs: &mut Inputs, target: u64, at: Duration) -> Vec<i32> {
        let input = inputs.next(Tick(target), at);
        inputs.note(input.clone());
        input.values
    }

    #[test]
    fn an_edge_that_no_tick_has_taken_is_due_once_more_at_a_new_epoch() {
        let after = Duration::from_secs(2);
        for (consumed, resent) in [(7, true), (8, true), (9, false), (10, false)] {
            let mut inputs = inputs();
            send(&mut inputs, 10, NOW);
            inputs.set(&[5, 1]).unwrap();
            assert_eq!(send(&mut inputs, 11, NOW), [5, 1], "number 9");
            inputs.set(&[6]).unwrap();
            send(&mut inputs, 12, NOW);
            inputs.new_epoch(consumed, NOW + after);
            // With what is held by now, and not again.
            let edge: &[i32] = if resent { &[6, 1] } else { &[6] };
            assert_eq!(send(&mut inputs, 3, NOW + after), edge, "{consumed} were consumed");
            assert_eq!(send(&mut inputs, 4, NOW + after), [6]);
            inputs.new_epoch(11, NOW + after);
            assert_eq!(send(&mut inputs, 3, NOW + after), [6]);
        }
    }

    #[test]
    fn an_edge_that_was_sent_long_ago_stays_lost() {
        for (age, values) in [(EDGES_KEPT, &[0, 1][..]), (EDGES_KEPT + Duration::from_millis(1), &[][..])] {
            let mut inputs = inputs();
            inputs.set(&[0, 1]).unwrap();
            send(&mut inputs, 10, NOW);
            inputs.set(&[]).unwrap();
            inputs.new_epoch(7, NOW + age);
            assert_eq!(send(&mut inputs, 3, NOW + age), values, "{age:?}");
        }
    }

    #[test]
    fn what_is_never_consumed_is_forgotten_in_the_end() {
        let mut inputs = inputs();
        for tick in 1..=5000 {
            inputs.next(Tick(tick), NOW);
        }
        assert_eq!(inputs.sent.len(), SENT_MAX);
        assert_eq!(inputs.sent(7 + 5000).map(|sent| sent.target), Some(Tick(5000)));
    }
}
