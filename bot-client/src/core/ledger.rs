//! What became of each tick's input, as far as the server has told: the engine's rule, followed on the client's side.

use std::{collections::VecDeque, sync::Arc};

use tickwire_proto::v1 as pb;
use tickwire_shared::{HOLD_REPEAT_MS, INPUT_LEAD_MS_MAX, PlayerInput, Provenance, Schema, Tick, TickRate};

use super::stats::Stats;

/// Inputs whose ticks are to come; beyond it the oldest are forgotten.
const SENT_MAX: usize = 1024;
/// The most ticks of a gap between two snapshots that are gone through one by one.
const GAP_TICKS_MAX: u64 = 1024;

/// Follows the server's input buffer: what each tick consumed up to the newest snapshot's, and what is on its way to later
/// ticks.
#[derive(Debug)]
pub(super) struct InputLedger {
    schema: Arc<Schema>,
    repeat_ticks: u64,
    lead_ticks: u64,
    sent: VecDeque<Sent>,
    /// The first tick that an input was sent for.
    first_target: Option<Tick>,
    /// What the newest snapshot's tick consumed.
    settled: Consumption,
}

#[derive(Debug)]
struct Sent {
    sequence: u64,
    target: Tick,
    values: Vec<i32>,
    /// It arrived long before its tick: if that does not consume it, it was dropped as too early.
    came_early: bool,
}

/// What a tick consumes.
#[derive(Clone, Debug)]
pub(super) struct Consumption {
    pub(super) tick: Tick,
    pub(super) input: PlayerInput,
    /// The newest tick, up to this one, that had an input of its own.
    fresh_at: Option<Tick>,
}

impl InputLedger {
    pub(super) fn new(schema: Arc<Schema>, rate: TickRate) -> Self {
        let input = PlayerInput::absent(&schema.inputs);
        Self {
            schema,
            repeat_ticks: rate.ticks_in_ms(HOLD_REPEAT_MS),
            lead_ticks: rate.ticks_in_ms(INPUT_LEAD_MS_MAX),
            sent: VecDeque::new(),
            first_target: None,
            settled: Consumption { tick: Tick::ZERO, input, fresh_at: None },
        }
    }

    /// Ticks begin anew.
    pub(super) fn new_epoch(&mut self) {
        self.sent.clear();
        self.first_target = None;
        let input = PlayerInput::absent(&self.schema.inputs);
        self.settled = Consumption { tick: Tick::ZERO, input, fresh_at: None };
    }

    /// Takes down an input that is sent.
    pub(super) fn sent(&mut self, input: &pb::Input) {
        let target = Tick(input.target_tick);
        self.first_target.get_or_insert(target);
        self.sent.push_back(Sent { sequence: input.sequence, target, values: input.values.clone(), came_early: false });
        if self.sent.len() > SENT_MAX {
            self.sent.pop_front();
        }
    }

    /// Takes in that inputs up to a number had arrived when a tick's snapshot was sent.
    pub(super) fn received(&mut self, tick: Tick, received_input: u64) {
        // Far enough ahead that no tick can have begun between the two.
        let early = tick.0.saturating_add(self.lead_ticks / 2);
        for sent in self.sent.iter_mut().rev().take_while(|sent| sent.target.0 > early) {
            sent.came_early |= sent.sequence <= received_input;
        }
    }

    /// Takes in a snapshot's header: the newest input that ticks up to its own have consumed.
    ///
    /// Of a tick without a snapshot of its own an input that came late is told from one in time only where no later one was
    /// consumed since; it then counts as in time.
    pub(super) fn settle(&mut self, tick: Tick, consumed_input: u64, stats: &mut Stats) {
        if self.first_target.is_none() {
            self.settled.tick = self.settled.tick.max(tick);
        }
        let skipped = tick.since(self.settled.tick).saturating_sub(GAP_TICKS_MAX);
        if skipped > 0 {
            stats.inputs_absent += skipped;
            self.settled.tick = Tick(self.settled.tick.0 + skipped);
        }
        while self.settled.tick < tick {
            let next = self.settled.tick.next();
            while self.sent.pop_front_if(|sent| sent.target < next).is_some() {}
            let sent = self.sent.pop_front_if(|sent| sent.target == next);
            let fresh = sent.as_ref().filter(|sent| sent.sequence <= consumed_input);
            if let (Some(sent), None) = (&sent, fresh) {
                let dropped = if sent.came_early { &mut stats.inputs_too_early } else { &mut stats.inputs_late };
                *dropped += 1;
            }
            self.settled.advance(fresh.map(|sent| sent.values.as_slice()), &self.schema, self.repeat_ticks);
            if self.first_target.is_some_and(|first| next >= first) {
                match self.settled.input.provenance {
                    Provenance::Fresh => {}
                    Provenance::Repeated => stats.inputs_repeated += 1,
                    Provenance::Absent => stats.inputs_absent += 1,
                }
            }
        }
    }

    /// What the newest snapshot's tick consumed: where a replay starts.
    pub(super) fn settled(&self) -> &Consumption {
        &self.settled
    }

    /// Goes from a tick after the newest snapshot's to the next: its own input where one was sent, which is taken to come in
    /// time, and else what the engine puts in its place.
    pub(super) fn advance(&self, at: &mut Consumption) {
        let next = at.tick.next();
        let place = self.sent.partition_point(|sent| sent.target < next);
        let sent = self.sent.get(place).filter(|sent| sent.target == next);
        at.advance(sent.map(|sent| sent.values.as_slice()), &self.schema, self.repeat_ticks);
    }

    /// As [`advance`](Self::advance), where the next tick's input is what the player does now.
    pub(super) fn advance_with(&self, at: &mut Consumption, values: &[i32]) {
        at.advance(Some(values), &self.schema, self.repeat_ticks);
    }
}

impl Consumption {
    fn advance(&mut self, fresh: Option<&[i32]>, schema: &Schema, repeat_ticks: u64) {
        self.tick = self.tick.next();
        let provenance = match fresh {
            Some(_) => Provenance::Fresh,
            None if self.fresh_at.is_some_and(|at| self.tick.since(at) <= repeat_ticks) => Provenance::Repeated,
            None => Provenance::Absent,
        };
        if fresh.is_some() {
            self.fresh_at = Some(self.tick);
        }
        self.input.advance(&schema.inputs, provenance, fresh.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use tickwire_shared::{InputField, Quantity, SchemaParts};

    use super::*;

    fn ledger() -> InputLedger {
        let parts = SchemaParts {
            game: "test".into(),
            inputs: vec![
                InputField::hold("walk", Quantity::count(-100..=100)),
                InputField::edge("jump", Quantity::count(0..=1)),
            ],
            ..SchemaParts::default()
        };
        InputLedger::new(Arc::new(Schema::new(parts).unwrap()), TickRate::DEFAULT)
    }

    fn sent(ledger: &mut InputLedger, sequence: u64, target_tick: u64, values: &[i32]) {
        ledger.sent(&pb::Input { sequence, target_tick, values: values.to_vec(), ..pb::Input::default() });
    }

    #[test]
    fn an_input_that_its_ticks_snapshot_has_not_consumed_was_late_and_the_one_before_repeats() {
        let (mut ledger, mut stats) = (ledger(), Stats::default());
        ledger.settle(Tick(9), 0, &mut stats);
        for (sequence, target) in [(1, 10), (2, 11), (3, 12)] {
            sent(&mut ledger, sequence, target, &[sequence as i32, 1]);
        }
        ledger.settle(Tick(10), 1, &mut stats);
        assert_eq!((ledger.settled().input.values(), stats.inputs_late), ([1, 1].as_slice(), 0));
        ledger.settle(Tick(11), 1, &mut stats);
        assert_eq!(ledger.settled().input.values(), [1, 0]);
        ledger.settle(Tick(12), 3, &mut stats);
        assert_eq!(ledger.settled().input.values(), [3, 1]);
        assert_eq!((stats.inputs_late, stats.inputs_repeated, stats.inputs_absent), (1, 1, 0));
    }

    #[test]
    fn an_input_that_had_arrived_long_before_its_tick_was_dropped_as_too_early() {
        let (mut ledger, mut stats) = (ledger(), Stats::default());
        ledger.settle(Tick(9), 0, &mut stats);
        for (sequence, target) in [(1, 10), (2, 60), (3, 80), (4, 81)] {
            sent(&mut ledger, sequence, target, &[1]);
        }
        ledger.received(Tick(10), 3);
        ledger.settle(Tick(10), 1, &mut stats);
        ledger.settle(Tick(60), 2, &mut stats);
        ledger.settle(Tick(80), 2, &mut stats);
        assert_eq!((stats.inputs_too_early, stats.inputs_late), (1, 0));
        ledger.received(Tick(81), 4);
        ledger.settle(Tick(81), 2, &mut stats);
        assert_eq!((stats.inputs_too_early, stats.inputs_late), (1, 1));
    }

    #[test]
    fn holds_repeat_for_a_quarter_of_a_second_and_then_nothing_is_held() {
        let (mut ledger, mut stats) = (ledger(), Stats::default());
        sent(&mut ledger, 1, 10, &[7]);
        ledger.settle(Tick(25), 1, &mut stats);
        assert_eq!((ledger.settled().input.values(), stats.inputs_repeated), ([7, 0].as_slice(), 15));
        ledger.settle(Tick(30), 1, &mut stats);
        assert_eq!((ledger.settled().input.values(), stats.inputs_absent), ([0, 0].as_slice(), 5));
    }

    #[test]
    fn a_replay_takes_what_is_on_its_way_and_fills_gaps_as_the_engine_does() {
        let (mut ledger, mut stats) = (ledger(), Stats::default());
        sent(&mut ledger, 1, 10, &[1]);
        sent(&mut ledger, 2, 12, &[2, 1]);
        ledger.settle(Tick(10), 1, &mut stats);
        let mut at = ledger.settled().clone();
        let mut next = || {
            ledger.advance(&mut at);
            at.input.values().to_vec()
        };
        assert_eq!([next(), next(), next()], [[1, 0], [2, 1], [2, 0]]);
    }

    #[test]
    fn no_tick_is_too_far() {
        let (mut ledger, mut stats) = (ledger(), Stats::default());
        sent(&mut ledger, 1, 10, &[1]);
        ledger.settle(Tick::MAX, 0, &mut stats);
        ledger.settle(Tick(5), 0, &mut stats);
        assert_eq!(ledger.settled().tick, Tick::MAX);
    }
}
