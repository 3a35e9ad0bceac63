//! Which bot does what.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use super::trace::{Trace, TraceFileError};

/// A choice of behaviour, as it is written on the command line: `idle`, `wander`, `chase`, `chaos` or `trace:FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BehaviourChoice {
    /// Does nothing.
    Idle,
    /// Walks at full speed, and turns about once a second.
    Wander,
    /// Runs at the nearest other player and fires; wanders while it sees none.
    Chase,
    /// Does anything that an input can say, each tick.
    Chaos,
    /// Plays back recorded human input.
    Trace(PathBuf),
}

/// A word that names no behaviour.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no behaviour: choose idle, wander, chase, chaos or trace:FILE")]
pub struct BehaviourChoiceError(pub String);

impl FromStr for BehaviourChoice {
    type Err = BehaviourChoiceError;

    fn from_str(word: &str) -> Result<Self, BehaviourChoiceError> {
        match (word, word.strip_prefix("trace:")) {
            ("idle", _) => Ok(Self::Idle),
            ("wander", _) => Ok(Self::Wander),
            ("chase", _) => Ok(Self::Chase),
            ("chaos", _) => Ok(Self::Chaos),
            (_, Some(file)) if !file.is_empty() => Ok(Self::Trace(file.into())),
            _ => Err(BehaviourChoiceError(word.to_owned())),
        }
    }
}

impl fmt::Display for BehaviourChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("idle"),
            Self::Wander => f.write_str("wander"),
            Self::Chase => f.write_str("chase"),
            Self::Chaos => f.write_str("chaos"),
            Self::Trace(file) => write!(f, "trace:{}", file.display()),
        }
    }
}

/// What one bot is to do, before it knows the game.
#[derive(Clone, Debug)]
pub enum Role {
    /// See [`BehaviourChoice::Idle`].
    Idle,
    /// See [`BehaviourChoice::Wander`].
    Wander,
    /// See [`BehaviourChoice::Chase`].
    Chase,
    /// See [`BehaviourChoice::Chaos`].
    Chaos,
    /// One player of a trace.
    Trace {
        /// The recorded match.
        trace: Arc<Trace>,
        /// Which of its players.
        player: usize,
        /// The tic to begin at.
        first_tic: u64,
    },
}

/// Gives each of `bots` bots its role: they take the choices in turn, so that one named twice gets twice the bots.
///
/// Bots on one trace take its players in turn. The second round begins elsewhere in the trace, and so on, so that no two
/// bots do the same at the same time.
///
/// # Errors
/// Where a trace cannot be read.
pub fn assign(choices: &[BehaviourChoice], bots: usize) -> Result<Vec<Role>, TraceFileError> {
    let mut traces: Vec<(&Path, Arc<Trace>, usize)> = Vec::new();
    for choice in choices {
        if let BehaviourChoice::Trace(file) = choice
            && !traces.iter().any(|(path, ..)| path == file)
        {
            traces.push((file, Arc::new(Trace::read(file)?), 0));
        }
    }
    let role = |choice: &BehaviourChoice| match choice {
        BehaviourChoice::Idle => Role::Idle,
        BehaviourChoice::Wander => Role::Wander,
        BehaviourChoice::Chase => Role::Chase,
        BehaviourChoice::Chaos => Role::Chaos,
        BehaviourChoice::Trace(file) => {
            let known = traces.iter_mut().find(|(path, ..)| path == file);
            let (_, trace, taken) = known.expect("all traces of the choices are read");
            let (round, player) = (*taken / trace.players(), *taken % trace.players());
            *taken += 1;
            Role::Trace { trace: Arc::clone(trace), player, first_tic: scattered(round as u64, trace.tics() as u64) }
        }
    };
    Ok(choices.iter().cycle().take(bots).map(role).collect())
}

/// The `i`-th of a sequence of places in `0..length` that lie far from each other however many there are; the first is 0.
fn scattered(i: u64, length: u64) -> u64 {
    // 2^64 over the golden ratio: multiples of it, modulo 2^64, divide the range evenly.
    let place = i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((u128::from(place) * u128::from(length)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/traces/freedm_DEMO2.lmp");

    #[test]
    fn choices_are_written_as_they_are_read() {
        for word in ["idle", "wander", "chase", "chaos", "trace:some/file.lmp"] {
            assert_eq!(word.parse::<BehaviourChoice>().unwrap().to_string(), word);
        }
        for word in ["", "trace", "trace:", "Wander", "run"] {
            assert_eq!(word.parse::<BehaviourChoice>(), Err(BehaviourChoiceError(word.to_owned())));
        }
    }

    #[test]
    fn bots_take_choices_in_turn_and_a_traces_players_too() {
        let trace: BehaviourChoice = format!("trace:{TRACE}").parse().unwrap();
        let roles = assign(&[BehaviourChoice::Wander, trace], 14).unwrap();
        assert_eq!(roles.iter().filter(|role| matches!(role, Role::Wander)).count(), 7);
        let traced: Vec<(usize, u64)> = roles
            .iter()
            .filter_map(|role| match role {
                Role::Trace { player, first_tic, .. } => Some((*player, *first_tic)),
                _ => None,
            })
            .collect();
        assert_eq!(traced.iter().map(|(player, _)| *player).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(traced[..3].iter().map(|(_, tic)| *tic).collect::<Vec<_>>(), [0, 0, 0]);
        assert!(traced[3].1.abs_diff(traced[6].1) > 500 && traced[3].1 > 500);
    }

    #[test]
    fn a_trace_that_is_not_there_is_an_error() {
        let choice = BehaviourChoice::Trace("/nowhere.lmp".into());
        assert!(matches!(assign(&[choice], 1), Err(TraceFileError::Read { .. })));
    }
}
