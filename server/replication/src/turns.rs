//! The streams of one player, its stripes: whose turn it is, and the budget that they share.
//!
//! Snapshots go round in strict turn. A stripe that seems stuck keeps its turns for a while: what is sent on it is what
//! makes its connection recover; and without credit it lets them pass. Who has acknowledged nothing for longer is left out
//! until it does. A new stripe sends beside the others' turns, and has turns of its own once its first snapshot is
//! acknowledged: so that it takes nothing from the others before it is known to carry anything.

use std::time::Duration;

use tickwire_shared::{CellId, TickRate};

use crate::budget::Budget;

/// The most streams of one player.
pub const STRIPES_MAX: usize = tickwire_wire::STRIPES_MAX;
/// The most stripes that one snapshot is sent on.
pub const COPIES_MAX: u32 = 2;
/// How long a stripe may acknowledge nothing of what it was sent before it is left out.
const QUIET_MAX: Duration = Duration::from_millis(500);

/// What a player's stripes have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnsConfig {
    /// The session's rate.
    pub tick_rate: TickRate,
    /// A snapshot for each so many ticks at most: 1 for a snapshot of every tick.
    pub ticks_per_snapshot: u32,
    /// On how many stripes each snapshot is sent, where there are so many: 1 to [`COPIES_MAX`].
    pub copies: u32,
    /// Bytes of snapshots per second, over all stripes; `None`: no limit.
    pub bytes_per_second: Option<u32>,
}

/// The stripes of one player.
#[derive(Debug)]
pub struct Turns {
    copies: usize,
    pub(crate) budget: Budget,
    stripes: [Option<Stripe>; STRIPES_MAX],
    /// The newest turn in which anything was sent, by epoch and number, and on how many stripes.
    newest: (u32, u64),
    sent_in_newest: usize,
}

#[derive(Clone, Copy, Debug)]
struct Stripe {
    stage: Stage,
    /// Since when it has acknowledged nothing, though something is unacknowledged.
    quiet_since: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It has sent nothing.
    New,
    /// What it has sent is not acknowledged yet.
    Unproven,
    Proven,
}

/// A stripe's part in the rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Its place among those that take turns, from 0.
    place: u64,
    /// How many they are.
    of: u64,
    /// On how many of them each snapshot goes.
    copies: u64,
}

impl Turns {
    /// No stripes yet.
    #[must_use]
    pub fn new(config: TurnsConfig) -> Self {
        let interval = config.tick_rate.duration_of(u64::from(config.ticks_per_snapshot.max(1)));
        Self {
            copies: config.copies.clamp(1, COPIES_MAX) as usize,
            budget: Budget::new(config.bytes_per_second, interval),
            stripes: [None; STRIPES_MAX],
            newest: (0, 0),
            sent_in_newest: 0,
        }
    }

    /// Takes a stripe in: the number that it has from now on, the lowest that is free below `stripes_max`.
    pub fn open(&mut self, stripes_max: usize) -> Option<usize> {
        let number = self.stripes.iter().take(stripes_max).position(Option::is_none)?;
        self.stripes[number] = Some(Stripe { stage: Stage::New, quiet_since: None });
        Some(number)
    }

    /// Lets a stripe go. The others take its turns from the next one on.
    pub fn close(&mut self, stripe: usize) {
        self.stripes[stripe] = None;
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.stripes.iter().flatten().count()
    }

    /// How many of them take turns at `now`.
    #[must_use]
    pub fn taking_turns(&self, now: Duration) -> usize {
        self.rotation(now).count()
    }

    /// Whether a stripe has this turn, which nobody else has taken: then its part in it.
    pub(crate) fn share(&self, stripe: usize, epoch: u32, turn: u64, now: Duration) -> Option<Share> {
        let own = self.stripes[stripe].as_ref()?;
        let of = self.rotation(now).count();
        let copies = self.copies.min(of);
        let Some(place) = self.rotation(now).position(|number| number == stripe) else {
            let is_beside = match own.stage {
                Stage::New => true,
                // No more often than it will have turns. Who has just joined has one stripe, on which every loss shows.
                Stage::Unproven => turn % STRIPES_MAX as u64 == stripe as u64,
                Stage::Proven => false,
            };
            return is_beside.then_some(Share::ALONE);
        };
        let first = turn * copies as u64;
        let has_turn = (first..first + copies as u64).any(|slot| slot % of as u64 == place as u64);
        let is_taken = (epoch, turn) == self.newest && self.sent_in_newest >= copies;
        (has_turn && !is_taken).then_some(Share { place: place as u64, of: of as u64, copies: copies as u64 })
    }

    /// A stripe has sent a snapshot in a turn.
    pub(crate) fn sent(&mut self, stripe: usize, epoch: u32, turn: u64, now: Duration) {
        let is_beside = self.rotation(now).all(|number| number != stripe);
        if !is_beside {
            if self.newest != (epoch, turn) {
                (self.newest, self.sent_in_newest) = ((epoch, turn), 0);
            }
            self.sent_in_newest += 1;
        }
        if let Some(own) = &mut self.stripes[stripe] {
            own.quiet_since.get_or_insert(now);
            if own.stage == Stage::New {
                own.stage = Stage::Unproven;
            }
        }
    }

    /// A stripe has acknowledged something; whether anything on it is still unacknowledged.
    pub(crate) fn acknowledged(&mut self, stripe: usize, is_waiting: bool, now: Duration) {
        if let Some(own) = &mut self.stripes[stripe] {
            own.stage = Stage::Proven;
            own.quiet_since = is_waiting.then_some(now);
        }
    }

    /// Those that take turns, in order: all that are known to carry something and have not been quiet for long; where there
    /// are none, all.
    fn rotation(&self, now: Duration) -> impl Iterator<Item = usize> + '_ {
        let is_well = move |stripe: &Stripe| {
            let is_quiet = stripe.quiet_since.is_some_and(|since| now.saturating_sub(since) >= QUIET_MAX);
            stripe.stage == Stage::Proven && !is_quiet
        };
        let any_well = self.stripes.iter().flatten().any(is_well);
        let takes_turns = move |stripe: &Option<Stripe>| stripe.as_ref().is_some_and(|own| !any_well || is_well(own));
        self.stripes.iter().enumerate().filter(move |(_, stripe)| takes_turns(stripe)).map(|(number, _)| number)
    }
}

impl Share {
    /// Of a stream that is a player's only one.
    pub(crate) const ALONE: Self = Self { place: 0, of: 1, copies: 1 };

    /// How many times as many snapshots the player gets as this stripe carries.
    pub(crate) fn scale(self) -> f64 {
        self.of as f64 / self.copies as f64
    }

    /// When it carries a cell that changes all the time and is to come in every `divisor`th snapshot of the player's: period
    /// and phase. It is due where ⌊(turn + phase) / period⌋ rises.
    ///
    /// Each stripe carries such a cell in every `divisor`th of its own snapshots. The phases have the stripes do so one after
    /// the other: the ticks 0, d, 2d … of n · d, each n/gcd(n, d) of them moved by one tick more, are of all stripes one each.
    pub(crate) fn phase(self, divisor: u64, cell: CellId) -> (u64, u64) {
        let cell = u64::from(cell.0);
        let Self { mut place, mut of, copies } = self;
        if !of.is_multiple_of(copies) {
            // Two of three: no stripe misses two turns running.
            return ((divisor * of).div_ceil(copies), cell + place * divisor / copies);
        }
        (place, of) = (place / copies, of / copies);
        let period = divisor * of;
        let cycle = of / gcd(of, divisor);
        let mut slots = (0..of).map(|slot| slot * divisor + slot / cycle);
        let own = slots.find(|tick| tick % of == (place + cell) % of).unwrap_or_default();
        (period, cell + period - own)
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_secs(9);

    fn turns(stripes: usize, copies: u32) -> Turns {
        let config =
            TurnsConfig { tick_rate: TickRate::DEFAULT, ticks_per_snapshot: 1, copies, bytes_per_second: None };
        let mut turns = Turns::new(config);
        for number in 0..stripes {
            assert_eq!(turns.open(STRIPES_MAX), Some(number));
            turns.acknowledged(number, false, Duration::ZERO);
        }
        turns
    }

    /// Who sends in a turn, if all can; each sends at `at`.
    fn senders(turns: &mut Turns, turn: u64, at: Duration) -> Vec<usize> {
        let mut senders = Vec::new();
        for stripe in 0..STRIPES_MAX {
            if turns.share(stripe, 0, turn, at).is_some() {
                turns.sent(stripe, 0, turn, at);
                senders.push(stripe);
            }
        }
        senders
    }

    fn play(turns: &mut Turns, from: u64, count: u64) -> Vec<Vec<usize>> {
        let answered = |turns: &mut Turns, turn| {
            let senders = senders(turns, turn, NOW);
            senders.iter().for_each(|stripe| turns.acknowledged(*stripe, false, NOW));
            senders
        };
        (from..from + count).map(|turn| answered(turns, turn)).collect()
    }

    #[test]
    fn snapshots_go_round_in_strict_turn_once_or_twice() {
        assert_eq!(play(&mut turns(1, 1), 7, 3), [[0], [0], [0]]);
        assert_eq!(play(&mut turns(3, 1), 6, 5), [[0], [1], [2], [0], [1]]);
        assert_eq!(play(&mut turns(4, 2), 0, 3), [[0, 1], [2, 3], [0, 1]]);
        assert_eq!(play(&mut turns(3, 2), 0, 3), [vec![0, 1], vec![0, 2], vec![1, 2]]);
        assert_eq!(play(&mut turns(2, 2), 5, 2), [[0, 1], [0, 1]]);
        assert_eq!(play(&mut turns(1, 2), 5, 2), [[0], [0]]);
    }

    #[test]
    fn who_does_not_acknowledge_for_half_a_second_is_left_out_until_it_does() {
        let mut turns = turns(2, 1);
        let ms = Duration::from_millis;
        assert_eq!(senders(&mut turns, 0, ms(0)), [0]);
        assert_eq!(senders(&mut turns, 1, ms(10)), [1]);
        turns.acknowledged(1, false, ms(20));
        // It has its turns for a while, whether it can use them or not.
        assert_eq!(senders(&mut turns, 2, ms(499)), [0]);
        assert_eq!((senders(&mut turns, 3, ms(500)), turns.taking_turns(ms(500))), (vec![1], 1));
        assert_eq!(senders(&mut turns, 4, ms(520)), [1]);
        turns.acknowledged(0, true, ms(530));
        assert_eq!(turns.taking_turns(ms(530)), 2);
        assert_eq!(senders(&mut turns, 6, ms(540)), [0]);
    }

    #[test]
    fn where_all_are_quiet_all_keep_their_turns() {
        let mut turns = turns(2, 1);
        senders(&mut turns, 0, Duration::ZERO);
        senders(&mut turns, 1, Duration::ZERO);
        assert_eq!(turns.taking_turns(NOW), 2);
        assert_eq!((senders(&mut turns, 2, NOW), senders(&mut turns, 3, NOW)), (vec![0], vec![1]));
    }

    #[test]
    fn a_new_stripe_sends_beside_the_others_and_has_turns_once_anything_of_that_is_acknowledged() {
        let mut turns = turns(1, 1);
        assert_eq!(turns.open(2), Some(1));
        assert_eq!(turns.open(2), None, "two at most");
        // At once, and then as one of four.
        let sent: Vec<_> = (4..=9).map(|turn| senders(&mut turns, turn, NOW)).collect();
        assert_eq!(sent, [vec![0, 1], vec![0, 1], vec![0], vec![0], vec![0], vec![0, 1]]);
        turns.acknowledged(0, false, NOW);
        assert_eq!(play(&mut turns, 10, 2), [[0], [0]]);
        turns.acknowledged(1, false, NOW);
        assert_eq!(play(&mut turns, 12, 4), [[0], [1], [0], [1]]);
        turns.close(0);
        assert_eq!(play(&mut turns, 16, 2), [[1], [1]]);
        assert_eq!((turns.open(4), turns.count()), (Some(0), 2));
    }

    #[test]
    fn a_turn_that_changes_hands_is_used_once() {
        let mut turns = turns(2, 1);
        assert_eq!(senders(&mut turns, 4, NOW), [0]);
        turns.open(4);
        turns.acknowledged(2, false, NOW);
        // Turn 4 of three would be stripe 1's.
        assert_eq!(senders(&mut turns, 4, NOW), [] as [usize; 0]);
    }

    proptest! {
        #[test]
        fn every_stripe_carries_a_far_cell_and_they_do_so_one_after_the_other(
            of in 1..=4_u64, copies in 1..=2_u64, divisor in 1..=8_u64, cell in 0..64_u32, start in 0..1000_u64
        ) {
            let copies = copies.min(of);
            let carries = |place: u64, turn: u64| {
                let (period, phase) = Share { place, of, copies }.phase(divisor, CellId(cell));
                let of_turn = |turn: u64| (turn + phase) / period;
                // Its own turns, and the one before this.
                let has = |turn: u64| (turn * copies..(turn + 1) * copies).any(|slot| slot % of == place);
                let before = (1..).map(|back| turn - back).find(|turn| has(*turn)).expect("it has turns");
                has(turn) && of_turn(turn) > of_turn(before)
            };
            let span = divisor * of * 2;
            let mut carried = [0_u64; 4];
            let mut last: Option<u64> = None;
            for turn in start + 100..start + 100 + span {
                for place in 0..of {
                    carried[place as usize] += u64::from(carries(place, turn));
                }
                if (0..of).any(|place| carries(place, turn)) {
                    // As often as on a single stream, but for what turns must be shifted.
                    let slack = if of.is_multiple_of(copies) { 1 } else { divisor };
                    prop_assert!(last.is_none_or(|last| turn - last <= divisor + slack), "{turn} after {last:?}");
                    last = Some(turn);
                }
            }
            prop_assert!(last.is_some());
            if of.is_multiple_of(copies) {
                for place in 0..of {
                    prop_assert_eq!(carried[place as usize], 2 * copies, "stripe {} of {:?}", place, carried);
                }
            } else {
                prop_assert!((0..of).all(|place| carried[place as usize] > 0), "{:?}", carried);
            }
        }
    }
}
