//! An intake as a keyframe has it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tickwire_shared::{PlayerId, PlayerStatus, Schema, Tick, TickRate};

use super::{InputCounters, Intake, Seat};
use crate::{Input, SessionLimits, name};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SavedIntake {
    last_player: PlayerId,
    counters: InputCounters,
    seats: Vec<SavedSeat>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SavedSeat {
    player: PlayerId,
    name: String,
    told: Option<PlayerStatus>,
    lost_at: Option<Tick>,
    leaving: bool,
    vacated: bool,
    buffer: Vec<Input>,
    consumed: (u64, Tick),
}

impl Intake {
    /// Between two ticks.
    pub(crate) fn save(&self) -> SavedIntake {
        let seat = |(&player, seat): (&PlayerId, &Seat)| SavedSeat {
            player,
            name: seat.name.to_string(),
            told: seat.told,
            lost_at: seat.lost_at,
            leaving: seat.leaving,
            vacated: seat.vacated,
            buffer: seat.buffer.iter().cloned().collect(),
            consumed: seat.consumed,
        };
        let Self { last_player, counters, ref seats, .. } = *self;
        SavedIntake { last_player, counters, seats: seats.iter().map(seat).collect() }
    }

    /// One that goes on from a saved one at `tick`, at which the players of `seated` have seats, connected or not.
    pub(crate) fn restore(
        saved: &SavedIntake,
        (limits, rate): (SessionLimits, TickRate),
        schema: &Schema,
        tick: Tick,
        seated: &[(PlayerId, bool)],
    ) -> Result<Self, String> {
        let SavedIntake { last_player, counters, ref seats } = *saved;
        let mut intake = Self::new(limits, rate);
        (intake.tick, intake.last_player, intake.counters) = (tick, last_player, counters);
        for saved in seats {
            let player = saved.player;
            let in_order = intake.seats.last_key_value().is_none_or(|(before, _)| *before < player);
            if !in_order || player.0 == 0 || player > last_player {
                return Err(format!("player {player} is not the next one, of up to {last_player}"));
            }
            let seat = intake.seat(saved, schema).map_err(|problem| format!("player {player}: {problem}"))?;
            intake.seats.insert(player, seat);
        }
        let told = intake.seats.iter().filter_map(|(player, seat)| Some((*player, seat.told?)));
        let told = told.map(|(player, status)| (player, status == PlayerStatus::Connected));
        if !told.eq(seated.iter().copied()) {
            return Err("those who sit are not those who are said to".to_owned());
        }
        Ok(intake)
    }

    fn seat(&self, saved: &SavedSeat, schema: &Schema) -> Result<Seat, String> {
        name::check(&saved.name).map_err(|error| error.to_string())?;
        let (sequence, at) = saved.consumed;
        if saved.lost_at.max(Some(at)) > Some(self.tick) || saved.told == Some(PlayerStatus::Left) {
            return Err(format!("what is said of the seat is not of tick {}", self.tick));
        }
        let mut seat = Seat::new(Arc::from(&*saved.name), saved.told);
        (seat.lost_at, seat.leaving, seat.vacated) = (saved.lost_at, saved.leaving, saved.vacated);
        seat.consumed = saved.consumed;
        let (mut before, mut target) = (sequence, self.tick);
        for input in &saved.buffer {
            let input = input.clone().checked(schema).map_err(|error| error.to_string())?;
            if input.sequence() <= before || input.target_tick() <= target {
                return Err(format!("input {} for tick {} is out of order", input.sequence(), input.target_tick()));
            }
            (before, target) = (input.sequence(), input.target_tick());
            seat.buffer.push_back(input);
        }
        Ok(seat)
    }
}
