//! Who plays in a recording.

use std::collections::BTreeSet;

use tickwire_shared::PlayerId;
use tickwire_simulation::Keyframe;

use super::ExportError;
use crate::{Recording, origin::Origin};

/// How many ranges of numbers an error names.
const RANGES_MAX: usize = 16;

/// Those who sit when it begins, who sit down later, and who say something or are told it, as far as it can be read.
pub(super) fn of(recording: &Recording) -> Result<BTreeSet<PlayerId>, ExportError> {
    let origin = Origin::of(recording).map_err(ExportError::Origin)?;
    let mut players: BTreeSet<PlayerId> =
        origin.keyframe().into_iter().flat_map(Keyframe::inputs).map(|(player, _)| player).collect();
    for tick in recording.ticks()?.map_while(Result::ok) {
        players.extend(tick.input.seat_changes.iter().map(|change| change.player()));
        players.extend(tick.input.inputs.iter().map(|input| input.player));
    }
    let said = recording.chat()?.filter_map(Result::ok);
    players.extend(said.flat_map(|line| line.from.into_iter().chain(line.to)));
    Ok(players)
}

/// As in "1 to 3, 7".
pub(super) fn words(players: &BTreeSet<PlayerId>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for PlayerId(player) in players {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*player) => *last = *player,
            _ => ranges.push((*player, *player)),
        }
    }
    let word =
        |(first, last): &(u32, u32)| if first == last { first.to_string() } else { format!("{first} to {last}") };
    let mut words: Vec<String> = ranges.iter().take(RANGES_MAX).map(word).collect();
    if words.is_empty() {
        words.push("none".to_owned());
    } else if ranges.len() > RANGES_MAX {
        words.push("and others".to_owned());
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn players_are_named_in_ranges_that_are_not_too_many() {
        let of = |players: &[u32]| words(&players.iter().copied().map(PlayerId).collect());
        assert_eq!(of(&[]), "none");
        assert_eq!(of(&[3, 1, 2, 7, 9, 10, u32::MAX]), format!("1 to 3, 7, 9 to 10, {}", u32::MAX));
        let odd: Vec<u32> = (0..100).map(|i| 2 * i + 1).collect();
        assert!(of(&odd).ends_with("29, 31, and others"), "{}", of(&odd));
    }
}
