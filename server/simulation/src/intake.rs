//! From commands to what a tick consumes: seats, grace, and inputs buffered by target tick.

mod saved;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use tickwire_shared::{HOLD_REPEAT_MS, INPUT_LEAD_MS_MAX, PlayerId, PlayerStatus, Provenance, Tick, TickRate};

use crate::{Input, NameError, SeatChange, SeatInput, SessionLimits, TickInput, name};

pub(crate) use saved::SavedIntake;

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputVerdict {
    /// It waits for its tick.
    Buffered,
    /// Another input has its tick or its sequence already: the first wins.
    Duplicate,
    /// Its tick has begun: dropped whole.
    Late,
    /// Its tick is more than a second ahead: dropped whole.
    TooEarly,
    /// The player has no seat, or is leaving.
    NotSeated,
}

/// What became of all inputs so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputCounters {
    /// Ticks of seats that had an input of their own.
    pub fresh: u64,
    /// Ticks of seats that repeated an older input.
    pub repeated: u64,
    /// Ticks of seats without any input.
    pub absent: u64,
    /// Inputs whose tick had begun.
    pub late: u64,
    /// Inputs whose tick was more than a second ahead.
    pub too_early: u64,
    /// Inputs whose tick or sequence was taken.
    pub duplicate: u64,
}

/// Why nobody sits down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// All seats are taken.
    #[error("all {max_players} seats are taken")]
    Full {
        /// How many there are.
        max_players: u32,
    },
    /// A name that nobody may bear.
    #[error("player_name: {0}")]
    Name(#[from] NameError),
    /// 2^32 − 1 players have joined this session.
    #[error("the session has used all player numbers; end it and start another")]
    NumbersUsed,
}

/// The half of a session that listens: it decides what each tick consumes.
#[derive(Debug)]
pub(crate) struct Intake {
    limits: SessionLimits,
    lead_ticks: u64,
    repeat_ticks: u64,
    /// The newest tick begun.
    tick: Tick,
    last_player: PlayerId,
    seats: BTreeMap<PlayerId, Seat>,
    counters: InputCounters,
}

#[derive(Debug)]
struct Seat {
    name: Arc<str>,
    /// What the ticks so far say of the player; `None` before the first.
    told: Option<PlayerStatus>,
    /// The newest tick begun when the connection was lost, while it is.
    lost_at: Option<Tick>,
    leaving: bool,
    /// Given to somebody else: it goes at the next tick.
    vacated: bool,
    /// In order of target tick; sequences rise with the ticks, and targets are ahead by at most the lead. Most often there is
    /// one or two.
    buffer: VecDeque<Input>,
    /// The newest input that a tick has consumed: sequence 0 before the first.
    consumed: (u64, Tick),
}

impl Intake {
    pub(crate) fn new(limits: SessionLimits, rate: TickRate) -> Self {
        Self {
            limits,
            lead_ticks: rate.ticks_in_ms(INPUT_LEAD_MS_MAX),
            repeat_ticks: rate.ticks_in_ms(HOLD_REPEAT_MS),
            tick: Tick::ZERO,
            last_player: PlayerId(0),
            seats: BTreeMap::new(),
            counters: InputCounters::default(),
        }
    }

    pub(crate) fn join(&mut self, name: &str) -> Result<PlayerId, JoinError> {
        let SessionLimits { max_players, .. } = self.limits;
        let player = PlayerId(self.last_player.0.checked_add(1).ok_or(JoinError::NumbersUsed)?);
        let name = name::choose(name, player)?;
        // Last: nobody loses a seat to somebody who does not get it.
        if self.seats_taken() >= max_players && !self.vacate_lost_seat() {
            return Err(JoinError::Full { max_players });
        }
        self.last_player = player;
        self.seats.insert(player, Seat::new(name, None));
        Ok(player)
    }

    /// Gives up the seat whose connection has been lost for longest: in a full house, who is there goes before who is not.
    fn vacate_lost_seat(&mut self) -> bool {
        let lost = self.seats.iter_mut().filter(|(_, seat)| !seat.vacated);
        let longest =
            lost.filter_map(|(player, seat)| Some(((seat.lost_at?, *player), seat))).min_by_key(|(key, _)| *key);
        longest.map(|(_, seat)| seat.vacated = true).is_some()
    }

    pub(crate) fn disconnect(&mut self, player: PlayerId) {
        if let Some(seat) = self.seats.get_mut(&player) {
            seat.lost_at.get_or_insert(self.tick);
        }
    }

    pub(crate) fn reconnect(&mut self, player: PlayerId) -> bool {
        let Some(seat) = self.seats.get_mut(&player).filter(|seat| !seat.leaving && !seat.vacated) else {
            return false;
        };
        seat.lost_at = None;
        // The new stream goes on from the newest consumed sequence; what the old one left behind would stand in its way.
        seat.buffer.clear();
        true
    }

    pub(crate) fn leave(&mut self, player: PlayerId) {
        if let Some(seat) = self.seats.get_mut(&player) {
            seat.leaving = true;
        }
    }

    pub(crate) fn input(&mut self, player: PlayerId, input: Input) -> InputVerdict {
        let Some(seat) = self.seats.get_mut(&player).filter(|seat| !seat.leaving) else {
            return InputVerdict::NotSeated;
        };
        let (sequence, target) = (input.sequence(), input.target_tick());
        // First, so that an input that came in time by another stripe is not called late.
        if sequence <= seat.consumed.0 {
            self.counters.duplicate += 1;
            return InputVerdict::Duplicate;
        }
        if target <= self.tick {
            self.counters.late += 1;
            return InputVerdict::Late;
        }
        if target.since(self.tick) > self.lead_ticks {
            self.counters.too_early += 1;
            return InputVerdict::TooEarly;
        }
        let Some(place) = seat.place_for(sequence, target) else {
            self.counters.duplicate += 1;
            return InputVerdict::Duplicate;
        };
        seat.buffer.insert(place, input);
        InputVerdict::Buffered
    }

    pub(crate) fn seats_taken(&self) -> u32 {
        // Fits: never more than `max_players`.
        self.seats.values().filter(|seat| !seat.vacated).count() as u32
    }

    pub(crate) fn counters(&self) -> &InputCounters {
        &self.counters
    }

    /// The newest tick begun.
    pub(crate) fn tick(&self) -> Tick {
        self.tick
    }

    /// Decides what the next tick consumes.
    pub(crate) fn begin_tick(&mut self) -> TickInput {
        let tick = self.tick.next();
        self.tick = tick;
        let mut record = TickInput { tick, inputs: Vec::with_capacity(self.seats.len()), ..TickInput::default() };
        let (grace_ticks, repeat_ticks) = (self.limits.grace_ticks, self.repeat_ticks);
        self.seats.retain(|&player, seat| {
            if seat.is_over(tick, grace_ticks) {
                // A seat that no tick has heard of goes as it came.
                record.seat_changes.extend(seat.told.map(|_| SeatChange::Left { player }));
                return false;
            }
            seat.tell(player, &mut record.seat_changes);
            record.inputs.push(seat.consume(player, tick, repeat_ticks));
            true
        });
        self.counters.count(&record.inputs);
        record
    }

    /// Follows a tick that was decided elsewhere: what a recording says was consumed.
    pub(crate) fn follow(&mut self, record: &TickInput) {
        self.tick = record.tick;
        for change in &record.seat_changes {
            let player = change.player();
            match change {
                SeatChange::Joined { name, .. } => {
                    self.last_player = player;
                    self.seats.insert(player, Seat::new(Arc::clone(name), Some(PlayerStatus::Connected)));
                }
                SeatChange::Left { .. } => {
                    self.seats.remove(&player);
                }
                SeatChange::Disconnected { .. } | SeatChange::Reconnected { .. } => {
                    if let Some(seat) = self.seats.get_mut(&player) {
                        let lost = matches!(change, SeatChange::Disconnected { .. });
                        seat.lost_at = lost.then_some(Tick(record.tick.0 - 1));
                        seat.told = Some(seat.status());
                    }
                }
            }
        }
        for input in record.inputs.iter().filter(|input| input.provenance == Provenance::Fresh) {
            if let Some(seat) = self.seats.get_mut(&input.player) {
                seat.consumed = (input.sequence, record.tick);
            }
        }
        // What a keyframe had in store for these ticks.
        for seat in self.seats.values_mut() {
            while seat.buffer.pop_front_if(|input| input.target_tick() <= record.tick).is_some() {}
        }
        self.counters.count(&record.inputs);
    }
}

impl Seat {
    fn new(name: Arc<str>, told: Option<PlayerStatus>) -> Self {
        Self {
            name,
            told,
            lost_at: None,
            leaving: false,
            vacated: false,
            buffer: VecDeque::new(),
            consumed: (0, Tick::ZERO),
        }
    }

    fn status(&self) -> PlayerStatus {
        match self.lost_at {
            None => PlayerStatus::Connected,
            Some(_) => PlayerStatus::Disconnected,
        }
    }

    /// Where in the buffer an input belongs, if sequence and target rise together with those around it.
    fn place_for(&self, sequence: u64, target: Tick) -> Option<usize> {
        let place = self.buffer.partition_point(|input| input.target_tick() < target);
        let before = place.checked_sub(1).map(|before| &self.buffer[before]);
        let rises = before.is_none_or(|earlier| earlier.sequence() < sequence)
            && self.buffer.get(place).is_none_or(|later| later.target_tick() > target && later.sequence() > sequence);
        rises.then_some(place)
    }

    /// Whether the seat is given up at `tick`: the player has left and all that they sent is consumed, the grace is over, or
    /// somebody else has it.
    fn is_over(&self, tick: Tick, grace_ticks: u64) -> bool {
        self.vacated
            || (self.leaving && self.buffer.is_empty())
            || self.lost_at.is_some_and(|lost| tick.since(lost) > grace_ticks)
    }

    /// Writes down what has become of the seat since the tick before.
    fn tell(&mut self, player: PlayerId, changes: &mut Vec<SeatChange>) {
        if self.told.is_none() {
            changes.push(SeatChange::Joined { player, name: Arc::clone(&self.name) });
        }
        let (told, now) = (self.told.unwrap_or(PlayerStatus::Connected), self.status());
        if told != now {
            changes.push(match now {
                PlayerStatus::Connected => SeatChange::Reconnected { player },
                _ => SeatChange::Disconnected { player },
            });
        }
        self.told = Some(now);
    }

    fn consume(&mut self, player: PlayerId, tick: Tick, repeat_ticks: u64) -> SeatInput {
        // What is before the tick was consumed or never taken.
        if let Some(input) = self.buffer.pop_front_if(|input| input.target_tick() == tick) {
            let sequence = input.sequence();
            self.consumed = (sequence, tick);
            let (provenance, seen) = (Provenance::Fresh, input.seen());
            return SeatInput { player, provenance, sequence, values: input.into_values(), seen };
        }
        let (newest, at) = self.consumed;
        let repeats = newest > 0 && tick.since(at) <= repeat_ticks;
        SeatInput::without(player, if repeats { Provenance::Repeated } else { Provenance::Absent })
    }
}

impl InputCounters {
    fn count(&mut self, inputs: &[SeatInput]) {
        for input in inputs {
            match input.provenance {
                Provenance::Fresh => self.fresh += 1,
                Provenance::Repeated => self.repeated += 1,
                Provenance::Absent => self.absent += 1,
            }
        }
    }
}
