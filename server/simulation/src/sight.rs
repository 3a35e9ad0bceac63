//! What a player is taken to have seen: what their client says, within what is possible.

use serde::{Deserialize, Serialize};
use tickwire_shared::{Provenance, SEEN_STEPS, Seen, Tick};

/// One player's, from tick to tick.
///
/// A client may say what it likes. What the game is given never goes back, so that nobody picks for each shot the most
/// favourable of the last moments, and it is never after the newest frame. How far back it may be,
/// [`Past`](tickwire_shared::Past) decides.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sight {
    /// What the newest tick was given.
    now: Option<Seen>,
    /// The newest moment that any tick was given.
    newest: Option<Seen>,
}

impl Sight {
    /// Whether its moments are any that there can be: what comes from a file may be anything.
    pub(crate) fn is_sound(&self) -> bool {
        [self.now, self.newest].into_iter().flatten().all(|seen| seen.tick <= Tick::MAX)
    }

    /// Moves on to `tick`, whose input says `said`: what the game is given.
    pub(crate) fn advance(&mut self, tick: Tick, provenance: Provenance, said: Option<Seen>) -> Option<Seen> {
        let newest_frame = Seen::at(Tick(tick.0.saturating_sub(1)));
        let seen = match provenance {
            Provenance::Fresh => said,
            // Who is not heard of has a screen all the same, and it moves on.
            Provenance::Repeated => self.now.map(|seen| Seen::from_steps(seen.steps() + SEEN_STEPS)),
            Provenance::Absent => None,
        };
        // What nobody can have seen yet counts as not said: it must not bar what comes after it.
        self.now =
            seen.filter(|seen| *seen <= newest_frame).map(|seen| self.newest.map_or(seen, |newest| newest.max(seen)));
        self.newest = self.newest.max(self.now);
        self.now
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FRESH: Provenance = Provenance::Fresh;

    fn seen(tick: u64, fraction: u8) -> Option<Seen> {
        Some(Seen { tick: Tick(tick), fraction })
    }

    #[test]
    fn what_is_said_counts_and_goes_on_while_inputs_are_missing() {
        let mut sight = Sight::default();
        assert_eq!(sight.advance(Tick(20), FRESH, seen(11, 70)), seen(11, 70));
        assert_eq!(sight.advance(Tick(21), Provenance::Repeated, None), seen(12, 70));
        assert_eq!(sight.advance(Tick(22), Provenance::Repeated, None), seen(13, 70));
        assert_eq!(sight.advance(Tick(23), FRESH, seen(14, 60)), seen(14, 60));
        assert_eq!(sight.advance(Tick(24), Provenance::Absent, None), None);
        assert_eq!(sight.advance(Tick(25), FRESH, None), None);
        assert_eq!(sight.advance(Tick(26), Provenance::Repeated, None), None);
        assert_eq!(sight.advance(Tick(27), FRESH, seen(17, 0)), seen(17, 0));
    }

    #[test]
    fn nothing_that_is_said_goes_back() {
        let mut sight = Sight::default();
        sight.advance(Tick(20), FRESH, seen(18, 0));
        assert_eq!(sight.advance(Tick(21), FRESH, seen(9, 255)), seen(18, 0));
        // Nor after a silence.
        sight.advance(Tick(22), Provenance::Absent, None);
        assert_eq!(sight.advance(Tick(23), FRESH, seen(17, 255)), seen(18, 0));
    }

    #[test]
    fn the_future_counts_as_not_said_and_is_forgotten() {
        let mut sight = Sight::default();
        assert_eq!(sight.advance(Tick(20), FRESH, seen(19, 0)), seen(19, 0));
        assert_eq!(sight.advance(Tick(21), FRESH, seen(20, 1)), None);
        assert_eq!(sight.advance(Tick(22), FRESH, seen(Tick::MAX.0, 255)), None);
        assert_eq!(sight.advance(Tick(23), FRESH, seen(19, 9)), seen(19, 9));
    }

    proptest! {
        #[test]
        fn whatever_a_client_says_the_moment_never_goes_back_nor_ahead(
            said in prop::collection::vec(
                (0..3_u8, prop_oneof![Just(None), (0..1400_u64, any::<u8>()).prop_map(Some)]), 1..200
            ),
        ) {
            let (mut sight, mut newest) = (Sight::default(), None);
            for (tick, (provenance, said)) in (1000..).map(Tick).zip(said) {
                let provenance = [FRESH, Provenance::Repeated, Provenance::Absent][usize::from(provenance)];
                let said = said.filter(|_| provenance == FRESH).and_then(|(tick, fraction)| seen(tick, fraction));
                let given = sight.advance(tick, provenance, said);
                if let Some(given) = given {
                    prop_assert!(given < Seen::at(tick) && Some(given) >= newest);
                    newest = Some(given);
                }
            }
        }
    }
}
