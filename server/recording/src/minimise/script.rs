//! What a match consumed, made smaller in such ways that it still could have been played.

use std::collections::BTreeSet;

use tickwire_shared::{PlayerId, Provenance, Schema, Seen, Tick};
use tickwire_simulation::{SeatChange, SeatInput, TickInput};

/// The inputs of all ticks behind `origin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Script {
    /// 0, or the tick of the keyframe that the recording begins with.
    pub(super) origin: Tick,
    pub(super) ticks: Vec<TickInput>,
}

/// An input that is not absent, by its place: the tick's, and that among its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct InputPlace(usize, usize);

impl Script {
    /// How many inputs there are that are not absent.
    pub(super) fn input_count(&self) -> usize {
        self.inputs().len()
    }

    /// Everybody who ever sat down.
    pub(super) fn players(&self) -> Vec<PlayerId> {
        let changes = self.ticks.iter().flat_map(|tick| &tick.seat_changes);
        let joined = changes.filter(|change| matches!(change, SeatChange::Joined { .. }));
        joined.map(SeatChange::player).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The last tick.
    pub(super) fn last(&self) -> Tick {
        Tick(self.origin.0 + self.ticks.len() as u64)
    }

    pub(super) fn cut(&mut self, last: Tick) {
        self.ticks.truncate(usize::try_from(last.0.saturating_sub(self.origin.0)).unwrap_or(usize::MAX));
    }

    /// With these of the [players](Self::players) only, beside those who sat before.
    pub(super) fn with_players(&self, kept: &[PlayerId]) -> Self {
        let mut dropped = self.players();
        dropped.retain(|player| !kept.contains(player));
        let mut script = self.clone();
        for tick in &mut script.ticks {
            tick.seat_changes.retain(|change| !dropped.contains(&change.player()));
            tick.inputs.retain(|input| !dropped.contains(&input.player));
        }
        script
    }

    /// The places of ticks that can be left out: at which nobody comes or goes.
    pub(super) fn spare_ticks(&self) -> Vec<usize> {
        (0..self.ticks.len()).filter(|&i| self.ticks[i].seat_changes.is_empty()).collect()
    }

    /// Without the spare ticks that are not in `kept`, which is in order. Later ticks move up, and so does what players saw.
    pub(super) fn with_ticks(&self, kept: &[usize]) -> Self {
        let stays = |i: usize| !self.ticks[i].seat_changes.is_empty() || kept.binary_search(&i).is_ok();
        // For each tick, how many of those up to it stay.
        let mut moved = vec![0_u64];
        let mut script = Self { origin: self.origin, ticks: Vec::new() };
        let origin = self.origin.0;
        for (i, tick) in self.ticks.iter().enumerate() {
            moved.push(moved[i] + u64::from(stays(i)));
            if !stays(i) {
                continue;
            }
            let mut tick = TickInput { tick: Tick(origin + moved[i + 1]), ..tick.clone() };
            for seen in tick.inputs.iter_mut().filter_map(|input| input.seen.as_mut()) {
                // What came before the script has not moved.
                let Some(at) = seen.tick.0.checked_sub(origin) else { continue };
                let at = usize::try_from(at).map_or(i, |at| at.min(i));
                *seen = Seen { tick: Tick(origin + moved[at]), ..*seen };
            }
            script.ticks.push(tick);
        }
        script
    }

    pub(super) fn inputs(&self) -> Vec<InputPlace> {
        let of_tick = |(i, tick): (usize, &TickInput)| {
            let inputs = tick.inputs.iter().enumerate();
            let present = inputs.filter(|(_, input)| input.provenance != Provenance::Absent);
            present.map(|(j, _)| InputPlace(i, j)).collect::<Vec<_>>()
        };
        self.ticks.iter().enumerate().flat_map(of_tick).collect()
    }

    /// With all inputs absent but these, which are in order.
    pub(super) fn with_inputs(&self, kept: &[InputPlace]) -> Self {
        let mut script = self.clone();
        for place @ InputPlace(i, j) in self.inputs() {
            if kept.binary_search(&place).is_err() {
                let input = &mut script.ticks[i].inputs[j];
                *input = SeatInput::without(input.player, Provenance::Absent);
            }
        }
        script
    }

    /// The values that are not neutral, by the input's place and their own; and what players said that they saw, which stands
    /// behind the values.
    pub(super) fn values(&self, schema: &Schema) -> Vec<(InputPlace, usize)> {
        let neutral = schema.neutral_input();
        let mut values = Vec::new();
        for place @ InputPlace(i, j) in self.inputs() {
            let input = &self.ticks[i].inputs[j];
            let is_set = |(at, value): &(usize, &i32)| neutral.get(*at) != Some(value);
            values.extend(input.values.iter().enumerate().filter(is_set).map(|(at, _)| (place, at)));
            values.extend(input.seen.map(|_| (place, neutral.len())));
        }
        values
    }

    /// With all values neutral but these, which are in order.
    pub(super) fn with_values(&self, schema: &Schema, kept: &[(InputPlace, usize)]) -> Self {
        let neutral = schema.neutral_input();
        let mut script = self.clone();
        for value @ (InputPlace(i, j), at) in self.values(schema) {
            if kept.binary_search(&value).is_err() {
                let input = &mut script.ticks[i].inputs[j];
                match input.values.get_mut(at) {
                    Some(value) => *value = neutral[at],
                    None => input.seen = None,
                }
            }
        }
        script
    }

    /// The places of seat changes that are neither a coming nor a going.
    pub(super) fn connections(&self) -> Vec<(usize, usize)> {
        let is_one = |change: &SeatChange| !matches!(change, SeatChange::Joined { .. } | SeatChange::Left { .. });
        let of_tick = |(i, tick): (usize, &TickInput)| {
            let changes = tick.seat_changes.iter().enumerate().filter(|(_, change)| is_one(change));
            changes.map(|(j, _)| (i, j)).collect::<Vec<_>>()
        };
        self.ticks.iter().enumerate().flat_map(of_tick).collect()
    }

    /// Without the lost and regained connections that are not in `kept`, which is in order.
    pub(super) fn with_connections(&self, kept: &[(usize, usize)]) -> Self {
        let mut script = self.clone();
        for (i, j) in self.connections().into_iter().rev() {
            if kept.binary_search(&(i, j)).is_err() {
                script.ticks[i].seat_changes.remove(j);
            }
        }
        script
    }
}
