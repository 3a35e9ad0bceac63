//! What is measured: workloads, and the grid of cases.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use tickwire_arena::{Arena, cells, settings};
use tickwire_client::bots::BehaviourChoice;
use tickwire_shared::Game;

use crate::games::{Fixed, World, fixed, world};

/// A world, and what its players do. Names are stable: `fixed-N-B`, `arena-N`, `trace-N`, `world-N-E`, `crowd-N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Workload {
    /// Every client gets the same snapshots of about so many bytes.
    Fixed { clients: usize, bytes: usize },
    /// Walkers at 5 m/s in 200 × 200 m who turn about once a second; everyone sees everyone.
    Arena { clients: usize },
    /// The same, moved by recorded human inputs.
    Trace { clients: usize },
    /// So many entities, of which a random tenth moves each tick; everyone sees all.
    World { clients: usize, entities: usize },
    /// Walkers in an arena so large that each sees about [`CROWD_IN_VIEW`] of them.
    Crowd { clients: usize },
}

/// What clients send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Direction {
    /// As few acknowledgements as Tickwire's credit allows.
    Down,
    /// An input per tick.
    DownUp,
}

/// A workload at a tick rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Case {
    pub(crate) workload: Workload,
    /// Ticks per second.
    pub(crate) rate: u32,
    pub(crate) direction: Direction,
}

/// How many a player of `crowd-N` sees, walls aside.
const CROWD_IN_VIEW: usize = 50;
/// What clients of `crowd-N` ask for, in metres. With the squares of the arena it comes to the own square and the eight
/// around it.
const CROWD_RADIUS: f64 = 50.0;
/// The squares on a side of that view.
const CROWD_SQUARES: f64 = 3.0;
/// The side of the arena elsewhere, in metres.
const ARENA_SIZE: f64 = 200.0;
const TRACES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bot-client/traces");
const TRACE_FILES: [&str; 4] = ["freedm_DEMO1.lmp", "freedm_DEMO2.lmp", "freedoom1_DEMO4.lmp", "freedoom2_DEMO2.lmp"];

impl Workload {
    pub(crate) fn clients(&self) -> usize {
        match *self {
            Self::Fixed { clients, .. }
            | Self::Arena { clients }
            | Self::Trace { clients }
            | Self::World { clients, .. }
            | Self::Crowd { clients } => clients,
        }
    }

    /// How many entities each client sees; none where entities mean nothing.
    pub(crate) fn entities_in_view(&self) -> Option<usize> {
        match *self {
            Self::Fixed { .. } => None,
            Self::Arena { clients } | Self::Trace { clients } => Some(clients),
            Self::World { entities, .. } => Some(entities),
            Self::Crowd { clients } => Some(clients.min(CROWD_IN_VIEW)),
        }
    }

    pub(crate) fn game(&self) -> Arc<dyn Game> {
        match self {
            Self::Fixed { .. } => Arc::new(Fixed),
            Self::World { .. } => Arc::new(World),
            Self::Arena { .. } | Self::Trace { .. } | Self::Crowd { .. } => Arc::new(Arena),
        }
    }

    /// What the session is created with beside defaults.
    pub(crate) fn settings(&self) -> Vec<(String, f64)> {
        let set = |settings: &[(&str, f64)]| settings.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        match *self {
            Self::Fixed { bytes, .. } => set(&[(fixed::BYTES, bytes as f64)]),
            Self::World { entities, .. } => set(&[(world::ENTITIES, entities as f64)]),
            Self::Arena { .. } | Self::Trace { .. } => set(&[(settings::SIZE, ARENA_SIZE), (settings::COVER, 0.0)]),
            Self::Crowd { clients } => set(&[(settings::SIZE, crowd_size(clients)), (settings::COVER, 0.0)]),
        }
    }

    /// What clients ask for, in metres; 0: all that there is.
    pub(crate) fn view_radius(&self) -> f64 {
        match self {
            Self::Crowd { .. } => CROWD_RADIUS,
            Self::Fixed { .. } | Self::Arena { .. } | Self::Trace { .. } | Self::World { .. } => 0.0,
        }
    }

    /// What the players do, in turn.
    pub(crate) fn behaviours(&self) -> Vec<BehaviourChoice> {
        match self {
            Self::Trace { .. } => {
                let trace = |file: &&str| BehaviourChoice::Trace(PathBuf::from(TRACES).join(file));
                TRACE_FILES.iter().map(trace).collect()
            }
            // Of games that are not known to have controls, it means any input that is held for about a second.
            Self::Fixed { .. } | Self::Arena { .. } | Self::World { .. } | Self::Crowd { .. } => {
                vec![BehaviourChoice::Wander]
            }
        }
    }
}

/// The side of an arena in which so many stand as thinly as [`CROWD_IN_VIEW`] in the squares of a view.
fn crowd_size(clients: usize) -> f64 {
    let view = CROWD_SQUARES * f64::from(cells::SIDE);
    let side = view * (clients as f64 / CROWD_IN_VIEW as f64).sqrt();
    side.round().clamp(32.0, f64::from(settings::SIZE_MAX))
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed { clients, bytes } => write!(f, "fixed-{clients}-{bytes}"),
            Self::Arena { clients } => write!(f, "arena-{clients}"),
            Self::Trace { clients } => write!(f, "trace-{clients}"),
            Self::World { clients, entities } => write!(f, "world-{clients}-{entities}"),
            Self::Crowd { clients } => write!(f, "crowd-{clients}"),
        }
    }
}

impl FromStr for Workload {
    type Err = CaseError;

    fn from_str(text: &str) -> Result<Self, CaseError> {
        let wrong = || CaseError::Unknown(text.to_owned());
        let number = |what, digits: &str, max: usize| {
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(wrong());
            }
            // What does not fit is out of range, too.
            let number = digits.parse().ok().filter(|number| (1..=max).contains(number));
            number.ok_or_else(|| CaseError::OutOfRange { word: text.to_owned(), what, max })
        };
        let clients = |digits| number("clients", digits, CLIENTS_MAX);
        match text.split('-').collect::<Vec<_>>()[..] {
            ["fixed", n, bytes] => {
                Ok(Self::Fixed { clients: clients(n)?, bytes: number("bytes", bytes, fixed::BYTES_MAX)? })
            }
            ["arena", n] => Ok(Self::Arena { clients: clients(n)? }),
            ["trace", n] => Ok(Self::Trace { clients: clients(n)? }),
            ["world", n, entities] => {
                Ok(Self::World { clients: clients(n)?, entities: number("entities", entities, world::ENTITIES_MAX)? })
            }
            ["crowd", n] => Ok(Self::Crowd { clients: clients(n)? }),
            _ => Err(wrong()),
        }
    }
}

/// More do not fit the ports of one address.
const CLIENTS_MAX: usize = 20_000;
/// Ticks per second.
const RATE_MAX: usize = 240;

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Down => "down",
            Self::DownUp => "down+up",
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workload, rate, direction } = self;
        write!(f, "{workload}/{rate}/{direction}")
    }
}

/// A word that names no case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CaseError {
    #[error(
        "{0:?} names no case: write a workload (fixed-N-B, arena-N, trace-N, world-N-E, crowd-N) or the first word of one, \
         then a rate and a direction if you like, such as arena-400/30/down+up"
    )]
    Unknown(String),
    #[error("{word:?}: the number of {what} is out of range: choose 1 to {max}")]
    OutOfRange { word: String, what: &'static str, max: usize },
}

/// A choice of cases, as it is written: `arena`, `arena-400`, `arena-400/30`, `arena-400/30/down+up`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    name: Name,
    rate: Option<u32>,
    direction: Option<Direction>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Family(String),
    Workload(Workload),
}

impl FromStr for Choice {
    type Err = CaseError;

    fn from_str(text: &str) -> Result<Self, CaseError> {
        let wrong = || CaseError::Unknown(text.to_owned());
        let mut parts = text.split('/');
        let name = match parts.next().unwrap_or_default() {
            family @ ("fixed" | "arena" | "trace" | "world" | "crowd") => Name::Family(family.to_owned()),
            workload => Name::Workload(workload.parse().map_err(|error| match error {
                CaseError::Unknown(_) => wrong(),
                out_of_range => out_of_range,
            })?),
        };
        let rate = parts.next().map(|rate| {
            let rate: usize = rate.parse().map_err(|_| wrong())?;
            let out_of_range =
                || CaseError::OutOfRange { word: text.to_owned(), what: "ticks per second", max: RATE_MAX };
            u32::try_from(rate).ok().filter(|_| (1..=RATE_MAX).contains(&rate)).ok_or_else(out_of_range)
        });
        let direction = parts.next().map(|direction| match direction {
            "down" => Ok(Direction::Down),
            "down+up" => Ok(Direction::DownUp),
            _ => Err(wrong()),
        });
        match parts.next() {
            None => Ok(Self { name, rate: rate.transpose()?, direction: direction.transpose()? }),
            Some(_) => Err(wrong()),
        }
    }
}

impl Choice {
    /// The cases of `grid` that are meant. A workload that is named in full need not be in the grid.
    fn of(&self, grid: &[Case]) -> Vec<Case> {
        let meant = |case: &&Case| {
            let is_named = match &self.name {
                Name::Family(family) => case.workload.to_string().split('-').next() == Some(family),
                Name::Workload(workload) => case.workload == *workload,
            };
            is_named
                && self.rate.is_none_or(|rate| case.rate == rate)
                && self.direction.is_none_or(|direction| case.direction == direction)
        };
        let cases: Vec<Case> = grid.iter().filter(meant).copied().collect();
        match &self.name {
            Name::Workload(workload) if cases.is_empty() => vec![Case {
                workload: *workload,
                rate: self.rate.unwrap_or(60),
                direction: self.direction.unwrap_or(Direction::DownUp),
            }],
            Name::Workload(_) | Name::Family(_) => cases,
        }
    }
}

/// The cases of a run.
pub(crate) fn chosen(full: bool, choices: &[Choice]) -> Vec<Case> {
    let quick = quick();
    if choices.is_empty() {
        return if full { self::full() } else { quick };
    }
    // What is named is looked for in all that there is; a family means the few, unless all are asked for.
    let mut cases = Vec::new();
    for choice in choices {
        let grid = match choice.name {
            Name::Family(_) if !full => quick.clone(),
            Name::Family(_) | Name::Workload(_) => self::full(),
        };
        cases.extend(choice.of(&grid));
    }
    let mut seen = Vec::new();
    cases.retain(|case| {
        !seen.contains(case) && {
            seen.push(*case);
            true
        }
    });
    cases
}

/// A few cases that say most, in about three minutes.
fn quick() -> Vec<Case> {
    let case = |workload, rate, direction| Case { workload, rate, direction };
    let fixed = Workload::Fixed { clients: 500, bytes: 600 };
    vec![
        case(fixed, 60, Direction::Down),
        case(fixed, 60, Direction::DownUp),
        case(Workload::Arena { clients: 100 }, 30, Direction::DownUp),
        case(Workload::Arena { clients: 400 }, 30, Direction::DownUp),
        case(Workload::Trace { clients: 100 }, 60, Direction::DownUp),
        case(Workload::World { clients: 400, entities: 2000 }, 30, Direction::DownUp),
        case(Workload::Crowd { clients: 500 }, 30, Direction::DownUp),
    ]
}

/// All: three numbers of clients at two rates, and what other engines were measured with.
fn full() -> Vec<Case> {
    let mut cases = Vec::new();
    for rate in [30, 60] {
        for clients in [100, 500, 1000] {
            for bytes in [100, 600, 3000] {
                let workload = Workload::Fixed { clients, bytes };
                cases.extend([Direction::Down, Direction::DownUp].map(|direction| Case { workload, rate, direction }));
            }
            let worlds = [
                Workload::Arena { clients },
                Workload::Trace { clients },
                Workload::World { clients, entities: 2000 },
                Workload::Crowd { clients },
            ];
            cases.extend(worlds.map(|workload| Case { workload, rate, direction: Direction::DownUp }));
        }
    }
    let peers = [
        Workload::Arena { clients: 200 },
        Workload::Arena { clients: 400 },
        Workload::World { clients: 400, entities: 2000 },
        Workload::World { clients: 100, entities: 10_000 },
        Workload::Crowd { clients: 2000 },
    ];
    cases.extend(peers.map(|workload| Case { workload, rate: 30, direction: Direction::DownUp }));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_chosen_as_they_are_written() {
        let chosen = |full, words: &[&str]| -> Vec<String> {
            let choices: Vec<Choice> = words.iter().map(|word| word.parse().expect("a choice")).collect();
            chosen(full, &choices).iter().map(ToString::to_string).collect()
        };
        assert_eq!(chosen(false, &["crowd", "crowd-500/30"]), ["crowd-500/30/down+up"]);
        assert_eq!(chosen(false, &["fixed-500-600/60/down"]), ["fixed-500-600/60/down"]);
        assert_eq!(chosen(false, &["arena-100"]), ["arena-100/30/down+up", "arena-100/60/down+up"]);
        assert_eq!(chosen(false, &["world-4-50"]), ["world-4-50/60/down+up"]);
        assert_eq!(chosen(true, &["trace"]).len(), 6);
        for case in chosen(true, &[]) {
            assert_eq!(chosen(false, &[&case]), [case]);
        }
    }

    #[test]
    fn what_names_no_case_is_refused() {
        for word in [
            "",
            "arena-",
            "arena-0",
            "arena-99999",
            "fixed-5",
            "world-5-0",
            "chess-5",
            "arena-5/0",
            "arena-5/60/up",
            "arena-5/60/down/x",
        ] {
            assert!(word.parse::<Choice>().is_err(), "{word:?}");
        }
    }

    #[test]
    fn a_size_that_is_out_of_range_is_told_with_its_range() {
        let cases = [
            ("arena-100000/30/down", "clients", CLIENTS_MAX),
            ("arena-99999999999999999999999", "clients", CLIENTS_MAX),
            ("fixed-5-0", "bytes", fixed::BYTES_MAX),
            ("world-5-0", "entities", world::ENTITIES_MAX),
            ("arena-5/241", "ticks per second", RATE_MAX),
        ];
        for (word, what, max) in cases {
            let error = word.parse::<Choice>().expect_err("out of range").to_string();
            assert!(error.contains(what) && error.ends_with(&format!("choose 1 to {max}")), "{word:?}: {error}");
        }
        let error = "arena-x/30".parse::<Choice>().expect_err("no number").to_string();
        assert!(error.contains("names no case"), "{error}");
    }

    #[test]
    fn a_crowds_arena_grows_with_it() {
        assert_eq!(crowd_size(50), 192.0);
        assert_eq!(crowd_size(2000), 1214.0);
        let view = &mut Vec::new();
        cells::in_view(cells::key_of(Default::default(), None), CROWD_RADIUS, view);
        assert_eq!(view.len() as f64, CROWD_SQUARES * CROWD_SQUARES);
    }
}
