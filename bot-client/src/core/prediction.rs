//! The player's own entity ahead of the server: stepped with each input, and again from each snapshot.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tickwire_shared::{Action, KindId, NetId, Predict, Predicted, Schema, Tick, TickRate};
use tickwire_wire::OwnerState;

use super::{
    ledger::{Consumption, InputLedger},
    stats::Stats,
};

/// A correction is shown bit by bit for this long.
const SMOOTHING: Duration = Duration::from_millis(150);
/// No more is predicted ahead of the newest snapshot than this many seconds: the server takes no input that is more than a
/// second ahead of it, and further behind no snapshot is worth predicting from.
const AHEAD_SECONDS_MAX: u64 = 2;
/// Between two frames what is shown moves with the input clock; where that jumped by more than this, the jump is smoothed.
const CLOCK_JUMP_TICKS: f64 = 1.5;

/// What a player's client computes ahead of the server.
#[derive(Debug)]
pub(super) struct Prediction {
    predict: Box<dyn Predict>,
    schema: Arc<Schema>,
    ahead_ticks_max: u64,
    life: Option<Life>,
    corrections: VecDeque<Correction>,
    /// Actions of ticks up to this one were told.
    told: Tick,
    /// When the own entity was last shown, and the place in time at which.
    shown: Option<(Duration, f64)>,
    actions: Vec<Action>,
}

/// The own entity from the newest snapshot's tick to the newest input's.
#[derive(Debug)]
struct Life {
    net_id: NetId,
    kind: KindId,
    /// The tick of the first state, which is the server's.
    base: Tick,
    /// One per tick; every field of the kind, in the owner's quanta. Never empty.
    states: VecDeque<Vec<i32>>,
    /// What the newest tick consumed.
    at: Consumption,
}

/// By how much what was shown stood from what is right, when that became known. Only for display.
#[derive(Debug)]
struct Correction {
    at: Duration,
    /// One per position field, in quanta.
    offset: Vec<f64>,
}

/// The own entity as predicted, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnState<'a> {
    /// The entity.
    pub net_id: NetId,
    /// Its kind.
    pub kind: KindId,
    /// The tick of the newest input.
    pub tick: Tick,
    /// Every field of the kind, in quanta of `quantum / 2^owner_shift`.
    pub values: &'a [i32],
}

/// What the player does and when: the moment of the input clock in ticks since `origin`, and the values that are held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Present<'a> {
    pub(super) now: Duration,
    /// `None` while the clock stands still.
    pub(super) clock: Option<f64>,
    pub(super) origin: Tick,
    pub(super) values: &'a [i32],
}

/// A game that the session cannot be predicted with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PredictError {
    /// The game's own definition is wrong.
    #[error("game.{0}")]
    Schema(String),
    /// The session is of another game, or another version of it.
    #[error("the session is of {theirs}, this client's game is {ours}: connect to a session of the same version")]
    OtherGame {
        /// The session's game.
        theirs: String,
        /// The client's.
        ours: String,
    },
}

impl Prediction {
    pub(super) fn new(predict: Box<dyn Predict>, schema: Arc<Schema>, rate: TickRate) -> Self {
        Self {
            predict,
            schema,
            ahead_ticks_max: u64::from(rate.hz()) * AHEAD_SECONDS_MAX,
            life: None,
            corrections: VecDeque::new(),
            told: Tick::ZERO,
            shown: None,
            actions: Vec::new(),
        }
    }

    /// Forgets everything: ticks begin anew.
    pub(super) fn reset(&mut self) {
        self.life = None;
        self.corrections.clear();
        self.told = Tick::ZERO;
        self.shown = None;
    }

    /// The own entity with the newest input.
    pub(super) fn state(&self) -> Option<OwnState<'_>> {
        let life = self.life.as_ref()?;
        Some(OwnState { net_id: life.net_id, kind: life.kind, tick: life.newest(), values: life.states.back()? })
    }

    /// Computes up to the tick of the newest input, which was just sent.
    pub(super) fn advance(
        &mut self,
        target: Tick,
        ledger: &InputLedger,
        stats: &mut Stats,
        mut tell: impl FnMut(Tick, Action),
    ) {
        let before = self.life.as_ref().map_or(Tick::MAX, Life::newest);
        self.compute(target, ledger, &mut tell);
        stats.ticks_predicted += self.life.as_ref().map_or(0, |life| life.newest().since(before));
    }

    fn compute(&mut self, target: Tick, ledger: &InputLedger, tell: &mut impl FnMut(Tick, Action)) {
        let Some(life) = &mut self.life else { return };
        let end = target.min(Tick(life.base.0.saturating_add(self.ahead_ticks_max)));
        while life.newest() < end {
            ledger.advance(&mut life.at);
            let mut state = life.states.back().expect("never empty").clone();
            self.actions.clear();
            self.predict.step(life.kind, life.at.tick, &mut state, &life.at.input, &mut self.actions);
            life.states.push_back(state);
            if life.at.tick > self.told {
                self.told = life.at.tick;
                self.actions.iter().for_each(|&action| tell(life.at.tick, action));
            }
        }
    }

    /// Takes in the exact state of a snapshot's tick: compares it with what was predicted, and computes from there on anew.
    #[expect(clippy::too_many_arguments, reason = "a snapshot's news meets all that the client holds")]
    pub(super) fn reconcile(
        &mut self,
        owner: Option<&OwnerState>,
        target: Tick,
        ledger: &InputLedger,
        present: &Present<'_>,
        in_contact: impl Fn(&dyn Predict, &OwnerState) -> bool,
        stats: &mut Stats,
        mut tell: impl FnMut(Tick, Action),
    ) {
        let settled = ledger.settled();
        let owned = owner.and_then(|owner| Some((owner, self.predict.predicted(owner.kind)?.clone())));
        let Some((owner, predicted)) = owned else {
            self.life = None;
            self.corrections.clear();
            return;
        };
        let before = self.life.take_if(|life| life.net_id == owner.net_id && life.kind == owner.kind);
        let mispredicted = before.as_ref().and_then(|life| life.state(settled.tick)).map(|state| {
            let differs = predicted.fields.iter().any(|&i| state[i] != owner.values[i]);
            let in_contact = in_contact(&*self.predict, owner);
            stats.ticks_compared += 1;
            stats.ticks_in_contact += u64::from(in_contact);
            stats.mispredictions += u64::from(differs);
            stats.mispredictions_in_contact += u64::from(differs && in_contact);
            differs && !in_contact
        });

        self.life = Some(Life {
            net_id: owner.net_id,
            kind: owner.kind,
            base: settled.tick,
            states: VecDeque::from([owner.values.clone()]),
            at: settled.clone(),
        });
        self.compute(target, ledger, &mut tell);
        let after = self.life.as_ref().expect("just made");
        // What was computed before is not counted again.
        stats.ticks_predicted += after.newest().since(before.as_ref().map_or(after.base, Life::newest));
        let Some(before) = before else {
            self.corrections.clear();
            return;
        };
        if before.agrees_with(after) {
            return;
        }
        let kind = &self.schema.kinds[owner.kind.index()];
        if kind.teleport_fields().any(|i| before.state(settled.tick).is_some_and(|state| state[i] != owner.values[i])) {
            self.corrections.clear();
            return;
        }
        let place = |life: &Life| self.position(life, &predicted, ledger, present);
        let (old, new) = (place(&before), place(after));
        if mispredicted == Some(true) {
            stats.record_correction(self.distance(owner.kind, &predicted, &old, &new));
        }
        correct(&mut self.corrections, present.now, old, &new);
    }

    /// Takes in that the player does something else from now on. What was last shown was on its way to the next tick already:
    /// the difference is smoothed.
    pub(super) fn turn(&mut self, ledger: &InputLedger, origin: Tick, old: &[i32], new: &[i32]) {
        let (Some(life), Some((now, clock))) = (&self.life, self.shown) else { return };
        let Some(predicted) = self.predict.predicted(life.kind) else { return };
        let place =
            |values| self.position(life, predicted, ledger, &Present { now, clock: Some(clock), origin, values });
        let (old, new) = (place(old), place(new));
        correct(&mut self.corrections, now, old, &new);
    }

    /// The own entity at the moment of the input clock, corrections smoothed: every field of the kind in quanta.
    ///
    /// What is shown lies between two ticks, of which the later one may have no input yet: it is computed from what the
    /// player does now, so that it shows at once.
    pub(super) fn show(
        &mut self,
        ledger: &InputLedger,
        present: &Present<'_>,
        rate: TickRate,
        values: &mut Vec<f64>,
    ) -> Option<(NetId, KindId)> {
        let now = present.now;
        forget_shown(&mut self.corrections, now);
        let life = self.life.as_ref()?;
        let predicted = self.predict.predicted(life.kind)?;
        let clock = present.clock.unwrap_or_else(|| ticks_since(present.origin, life.newest()));
        if let Some((at, place)) = self.shown.replace((now, clock)) {
            let expected = place + (now.saturating_sub(at)).as_secs_f64() * f64::from(rate.hz());
            if (clock - expected).abs() > CLOCK_JUMP_TICKS {
                let place = |clock| self.position(life, predicted, ledger, &Present { clock: Some(clock), ..*present });
                let (old, new) = (place(expected), place(clock));
                correct(&mut self.corrections, now, old, &new);
            }
        }
        self.blend(life, ledger, present, values);
        for correction in &self.corrections {
            let share = correction.share(now);
            for (&i, offset) in predicted.position.iter().zip(&correction.offset) {
                values[i] += offset * share;
            }
        }
        Some((life.net_id, life.kind))
    }

    fn position(&self, life: &Life, predicted: &Predicted, ledger: &InputLedger, present: &Present<'_>) -> Vec<f64> {
        let mut values = Vec::new();
        self.blend(life, ledger, present, &mut values);
        predicted.position.iter().map(|&i| values[i]).collect()
    }

    /// All fields at the moment of the clock, in quanta.
    fn blend(&self, life: &Life, ledger: &InputLedger, present: &Present<'_>, values: &mut Vec<f64>) {
        /// An input is sent at most this many ticks after its tick began.
        const LATE_TICKS_MAX: f64 = 2.0;

        let newest = ticks_since(present.origin, life.newest());
        let first = ticks_since(present.origin, life.base);
        let clock = present.clock.unwrap_or(newest).clamp(first, newest.max(first) + LATE_TICKS_MAX);
        let from = Tick(present.origin.0.saturating_add_signed(clock.floor() as i64));
        let (from, to) =
            (self.state_at(life, from, ledger, present), self.state_at(life, from.next(), ledger, present));
        let fields = &self.schema.kinds[life.kind.index()].fields;
        values.clear();
        values.extend(fields.iter().zip(from.iter().zip(&*to)).map(|(field, (&from, &to))| {
            let share = if field.is_continuous() { clock - clock.floor() } else { 0.0 };
            field.blend_fine(from, to, share)
        }));
    }

    /// The state of a tick; of one without an input yet as it will be by what the player does now.
    fn state_at<'a>(
        &self,
        life: &'a Life,
        tick: Tick,
        ledger: &InputLedger,
        present: &Present<'_>,
    ) -> std::borrow::Cow<'a, [i32]> {
        if let Some(state) = life.state(tick) {
            return state.into();
        }
        let mut state = life.states.back().expect("never empty").clone();
        let (mut at, mut unheard) = (life.at.clone(), Vec::new());
        while at.tick < tick {
            ledger.advance_with(&mut at, present.values);
            self.predict.step(life.kind, at.tick, &mut state, &at.input, &mut unheard);
        }
        state.into()
    }

    /// In the fields' unit.
    fn distance(&self, kind: KindId, predicted: &Predicted, from: &[f64], to: &[f64]) -> f64 {
        let fields = &self.schema.kinds[kind.index()].fields;
        let squares = predicted.position.iter().zip(from.iter().zip(to)).map(|(&i, (from, to))| {
            let distance = (to - from) * fields[i].quantity.quantum;
            distance * distance
        });
        squares.sum::<f64>().sqrt()
    }
}

impl Life {
    fn newest(&self) -> Tick {
        self.at.tick
    }

    fn state(&self, tick: Tick) -> Option<&[i32]> {
        let age = usize::try_from(tick.0.checked_sub(self.base.0)?).ok()?;
        self.states.get(age).map(Vec::as_slice)
    }

    /// Whether both say the same of all ticks that both know.
    fn agrees_with(&self, after: &Self) -> bool {
        let ticks = after.base.0..=after.newest().0;
        self.newest() >= after.base
            && ticks.map(Tick).all(|tick| self.state(tick).is_none_or(|state| after.state(tick) == Some(state)))
    }
}

impl Correction {
    /// How much of it is still shown: from 1 to exactly 0, beginning and ending gently.
    fn share(&self, now: Duration) -> f64 {
        let passed = now.saturating_sub(self.at).as_secs_f64() / SMOOTHING.as_secs_f64();
        if passed >= 1.0 { 0.0 } else { 1.0 - passed * passed * (3.0 - 2.0 * passed) }
    }
}

/// Has the way from one place to another shown bit by bit.
fn correct(corrections: &mut VecDeque<Correction>, now: Duration, old: Vec<f64>, new: &[f64]) {
    let mut offset = old;
    offset.iter_mut().zip(new).for_each(|(old, new)| *old -= new);
    if offset.iter().any(|offset| *offset != 0.0) {
        forget_shown(corrections, now);
        corrections.push_back(Correction { at: now, offset });
    }
}

/// Takes out corrections that have been shown whole.
fn forget_shown(corrections: &mut VecDeque<Correction>, now: Duration) {
    while corrections.pop_front_if(|correction| correction.at + SMOOTHING <= now).is_some() {}
}

pub(super) fn ticks_since(origin: Tick, tick: Tick) -> f64 {
    // Wrapping: a tick before the origin is a negative number.
    tick.0.wrapping_sub(origin.0) as i64 as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_correction_fades_without_a_jump_and_is_gone_after_150_ms() {
        let correction = Correction { at: Duration::from_secs(5), offset: vec![1.0] };
        let share = |ms: u64| correction.share(Duration::from_millis(5000 + ms));
        assert_eq!((share(0), share(75), share(150), share(9000)), (1.0, 0.5, 0.0, 0.0));
        let steps: Vec<f64> = (0..150).map(|ms| share(ms) - share(ms + 1)).collect();
        assert!(steps.iter().all(|step| (0.0..0.0101).contains(step)));
    }
}
