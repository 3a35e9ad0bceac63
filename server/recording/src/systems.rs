//! Which system made a replay part from its recording: the tick is played once more, with a look after each system.

use std::{fmt, sync::Arc};

use tickwire_shared::{Field, Game, KindId, Schema, Tick};
use tickwire_simulation::{SystemWatch, TickPanic, WatchedTick, WorldState};

use crate::{
    Difference, Divergence, Recording, ReplayError, Value, VerifyError,
    divergence::{Sides, event_difference, truth_difference},
    origin::Origin,
    record::RecordedEvent,
};

/// What playing a tick again, system by system, says about it.
#[derive(Clone, Debug, PartialEq)]
pub struct SystemFinding {
    /// The game's systems, in their order.
    pub systems: Vec<String>,
    /// What the systems of this build have done to what differs.
    pub evidence: SystemEvidence,
    /// Whether this build does the same each time.
    pub repeated: Repeated,
}

/// What a system, as it is now, has to do with a difference. How it was when the tick was recorded, nobody can see: there is
/// but a result of the whole tick.
#[derive(Clone, Debug, PartialEq)]
pub enum SystemEvidence {
    /// The field took its replayed value in a system.
    Took {
        /// Which.
        system: String,
        /// Before it.
        before: Value,
        /// After it.
        after: Value,
    },
    /// The entity was spawned by a system.
    Spawned {
        /// Which.
        system: String,
    },
    /// The entity was despawned by a system.
    Despawned {
        /// Which.
        system: String,
    },
    /// The event was emitted by a system.
    Emitted {
        /// Which.
        system: String,
    },
    /// No system did anything to it: what the recording has happen does not happen.
    Untouched,
    /// Hidden state differs, of which only a sum is recorded; these systems changed the scores or what `Game::digest` mixes in.
    Hidden {
        /// Which.
        systems: Vec<String>,
    },
    /// The tick panicked in a system, or in looking at what it has left.
    Panicked {
        /// Which; `None`: before the first one, or when the tick's outcome was captured.
        system: Option<String>,
    },
    /// Played again, the tick came out as it was recorded.
    Gone,
}

/// Whether a tick comes out the same each time that this build plays it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repeated {
    /// Two runs from the same state agreed after every system: no chance is in it. What differs is the build, the machine,
    /// or the file.
    Same,
    /// They did not.
    Differs {
        /// The first tick at which they differed.
        tick: Tick,
        /// The system after which they did, where the tick was played system by system.
        system: Option<String>,
        /// What differed, in words.
        difference: String,
    },
}

/// Finds the system that makes a recording fail to verify; `None` where no system can: the fault lies in the recording, or
/// nothing happens at all.
#[must_use]
pub fn find_cause(
    recording: &Recording,
    game: &Arc<dyn Game>,
    error: &VerifyError,
) -> Option<Result<SystemFinding, ReplayError>> {
    match error {
        VerifyError::Diverged(divergence) => Some(find_system(recording, game, divergence)),
        VerifyError::Panicked(panic) => Some(find_panic(recording, game, panic)),
        VerifyError::NotReproduced(_) | VerifyError::Replay { .. } => None,
    }
}

/// Plays the tick of a divergence twice more, from the start of the recording, with a look after each system.
///
/// # Errors
/// What keeps the recording from being played.
pub fn find_system(
    recording: &Recording,
    game: &Arc<dyn Game>,
    divergence: &Divergence,
) -> Result<SystemFinding, ReplayError> {
    find(recording, game, divergence.tick, |schema, run| evidence(schema, &divergence.difference, run))
}

/// As [`find_system`], for a tick that panics.
///
/// # Errors
/// What keeps the recording from being played.
pub fn find_panic(
    recording: &Recording,
    game: &Arc<dyn Game>,
    panic: &TickPanic,
) -> Result<SystemFinding, ReplayError> {
    find(recording, game, panic.tick, |_, Run { watched: WatchedTick { systems, states }, outcome, .. }| {
        match (outcome, states.len().checked_sub(1)) {
            (Outcome::Panicked(_), last) => {
                SystemEvidence::Panicked { system: last.and_then(|last| systems.get(last)).cloned() }
            }
            _ => SystemEvidence::Gone,
        }
    })
}

fn find(
    recording: &Recording,
    game: &Arc<dyn Game>,
    tick: Tick,
    evidence: impl Fn(&Schema, &Run) -> SystemEvidence,
) -> Result<SystemFinding, ReplayError> {
    let [first, second] = [run(recording, game, tick)?, run(recording, game, tick)?];
    let schema = &recording.meta().schema;
    Ok(SystemFinding {
        evidence: evidence(schema, &first),
        repeated: compare(schema, tick, &first, &second),
        systems: first.watched.systems,
    })
}

/// A recording played up to a tick, and that one system by system.
struct Run {
    watched: WatchedTick,
    outcome: Outcome,
}

#[derive(PartialEq)]
enum Outcome {
    /// As recorded, as far as the result tells.
    Same,
    /// Not as recorded.
    Other,
    Panicked(TickPanic),
    /// The recording was left before the tick, though it had been followed there before.
    LeftAt(Tick),
}

fn run(recording: &Recording, game: &Arc<dyn Game>, tick: Tick) -> Result<Run, ReplayError> {
    let watch = SystemWatch::default();
    let config = recording.meta().session_config();
    let mut session = Origin::of(recording)?.session(recording, game, config, Some(&watch))?;
    let mut outcome = Outcome::Same;
    for recorded in recording.ticks()? {
        let recorded = recorded?;
        let now = recorded.input.tick;
        session.check_tick(&recorded.input)?;
        if now == tick {
            watch.look();
        }
        outcome = match (session.finish_tick(&recorded.input), recorded.result) {
            (Err(panic), _) => Outcome::Panicked(panic),
            (Ok(output), Some(result)) if result != output.result => Outcome::Other,
            (Ok(_), _) => Outcome::Same,
        };
        if now == tick {
            break;
        }
        if outcome != Outcome::Same {
            outcome = Outcome::LeftAt(now);
            break;
        }
    }
    Ok(Run { watched: watch.take(), outcome })
}

fn compare(schema: &Schema, tick: Tick, first: &Run, second: &Run) -> Repeated {
    for run in [first, second] {
        if let Outcome::LeftAt(tick) = run.outcome {
            let difference = "this time the tick did not come out as it was recorded".to_owned();
            return Repeated::Differs { tick, system: None, difference };
        }
    }
    let (WatchedTick { systems, states: a }, WatchedTick { states: b, .. }) = (&first.watched, &second.watched);
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        if a.hash() != b.hash() {
            let system = i.checked_sub(1).map(|i| systems[i].clone());
            return Repeated::Differs { tick, system, difference: state_difference(schema, a, b) };
        }
    }
    if first.outcome != second.outcome {
        let system = systems.get(a.len().min(b.len()).saturating_sub(1)).cloned();
        return Repeated::Differs { tick, system, difference: "one run panicked where the other did not".to_owned() };
    }
    Repeated::Same
}

const RUNS: Sides = Sides { values: ["once", "and once"], places: ["the one run", "the other"] };

fn state_difference(schema: &Schema, a: &WorldState, b: &WorldState) -> String {
    let events = |state: &WorldState| -> Vec<RecordedEvent> { state.events.iter().cloned().map(Into::into).collect() };
    let (_, fields) = truth_difference(schema, &a.truth, &b.truth);
    let found = fields.or_else(|| event_difference(schema, &events(a), &events(b)));
    match found {
        Some(difference) => difference.words(&RUNS),
        None if a.scores != b.scores => "the scores".to_owned(),
        None => "hidden state, as Game::digest tells it".to_owned(),
    }
}

fn evidence(schema: &Schema, difference: &Difference, Run { watched, outcome }: &Run) -> SystemEvidence {
    let WatchedTick { systems, states } = watched;
    if matches!(outcome, Outcome::Same | Outcome::LeftAt(_)) {
        return SystemEvidence::Gone;
    }
    // The last system behind which something is as it is in the end, and before which it was not.
    let last_change = |is_so: &dyn Fn(&WorldState) -> bool| {
        states.windows(2).rposition(|pair| !is_so(&pair[0]) && is_so(&pair[1])).filter(|&i| i < systems.len())
    };
    let name = |i: usize| systems[i].clone();
    match difference {
        Difference::Field { kind, net_id, field, replayed, .. } => {
            let Some((id, index, definition)) = find_field(schema, kind, field) else {
                return SystemEvidence::Untouched;
            };
            let value = |state: &WorldState| state.truth.rows.get(&(id, *net_id)).map(|row| row[index]);
            let Some(i) = last_change(&|state| value(state) == Some(replayed.quanta)) else {
                return SystemEvidence::Untouched;
            };
            match value(&states[i]) {
                None => SystemEvidence::Spawned { system: name(i) },
                Some(before) => SystemEvidence::Took {
                    system: name(i),
                    before: Value::of(&definition.quantity, before),
                    after: replayed.clone(),
                },
            }
        }
        Difference::Entity { kind, net_id, recorded } => {
            let is_there = |state: &WorldState| {
                find_kind(schema, kind).is_some_and(|(id, _)| state.truth.rows.contains_key(&(id, *net_id)))
            };
            match last_change(&|state| is_there(state) != *recorded) {
                None => SystemEvidence::Untouched,
                Some(i) if *recorded => SystemEvidence::Despawned { system: name(i) },
                Some(i) => SystemEvidence::Spawned { system: name(i) },
            }
        }
        Difference::Event { ordinal, replayed, .. } => match last_change(&|state| state.events.len() > *ordinal) {
            Some(i) if replayed.is_some() => SystemEvidence::Emitted { system: name(i) },
            _ => SystemEvidence::Untouched,
        },
        Difference::Hidden => {
            let is_other = |pair: &[WorldState]| (&pair[0].scores, pair[0].hidden) != (&pair[1].scores, pair[1].hidden);
            let changes = states.windows(2).zip(systems).filter(|(pair, _)| is_other(pair));
            SystemEvidence::Hidden { systems: changes.map(|(_, system)| system.clone()).collect() }
        }
    }
}

fn find_kind<'a>(schema: &'a Schema, name: &str) -> Option<(KindId, &'a [Field])> {
    let index = schema.kinds.iter().position(|kind| kind.name == name)?;
    Some((KindId(index as u16), &schema.kinds[index].fields))
}

fn find_field<'a>(schema: &'a Schema, kind: &str, name: &str) -> Option<(KindId, usize, &'a Field)> {
    let (id, fields) = find_kind(schema, kind)?;
    let index = fields.iter().position(|field| field.name == name)?;
    Some((id, index, &fields[index]))
}

impl SystemFinding {
    /// The system that the evidence names.
    #[must_use]
    pub fn system(&self) -> Option<&str> {
        match &self.evidence {
            SystemEvidence::Took { system, .. }
            | SystemEvidence::Spawned { system }
            | SystemEvidence::Despawned { system }
            | SystemEvidence::Emitted { system } => Some(system),
            SystemEvidence::Panicked { system } => system.as_deref(),
            SystemEvidence::Hidden { systems } => match systems.as_slice() {
                [system] => Some(system),
                _ => None,
            },
            SystemEvidence::Untouched | SystemEvidence::Gone => None,
        }
    }
}

impl fmt::Display for SystemEvidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Took { system, before, after } => {
                write!(
                    f,
                    "in this build the field took its replayed value in system {system}: {before} before it, {after} after it"
                )
            }
            Self::Spawned { system } => write!(f, "in this build system {system} spawned it"),
            Self::Despawned { system } => write!(f, "in this build system {system} despawned it"),
            Self::Emitted { system } => write!(f, "in this build system {system} emitted the event"),
            Self::Untouched => f.write_str(
                "in this build no system touched it in this tick: whatever did so when it was recorded does so no more",
            ),
            Self::Hidden { systems } if systems.is_empty() => {
                f.write_str("in this build no system changed scores or hidden state in this tick")
            }
            Self::Hidden { systems } => write!(
                f,
                "of hidden state only a sum is recorded; in this build it was changed in this tick by {}",
                systems.join(", then ")
            ),
            Self::Panicked { system: Some(system) } => {
                write!(f, "it panicked in system {system}, or in reading what that left")
            }
            Self::Panicked { system: None } => f.write_str("it panicked outside of the game's systems"),
            Self::Gone => f.write_str("played again, the tick came out as it was recorded"),
        }
    }
}

impl fmt::Display for Repeated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => f.write_str(
                "two more runs of the tick agreed after each system: no chance is in it; the build, the machine or the file \
                 is another",
            ),
            Self::Differs { tick, system, difference } => {
                write!(f, "not deterministic: two runs from the same state differed at tick {tick}")?;
                if let Some(system) = system {
                    write!(f, " after system {system}")?;
                }
                write!(f, ": {difference}")
            }
        }
    }
}

impl fmt::Display for SystemFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.evidence, self.repeated)
    }
}
