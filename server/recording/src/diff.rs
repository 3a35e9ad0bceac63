//! Where two recordings part: of one match played twice, by two builds, or on two machines.

use std::{collections::BTreeSet, fmt};

use tickwire_shared::{PlayerId, Schema, Tick, Truth, TruthError};
use tickwire_simulation::{SeatInput, TickInput};

use crate::{
    Difference, RecordedResult, Recording, RecordingError, RecordingMeta, ReplayError, Value,
    divergence::{Sides, event_difference, truth_difference},
    origin::Origin,
    words,
};

/// How two recordings differ.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordingDiff {
    /// What their sessions were created with that is not the same, in words.
    pub header: Vec<String>,
    /// How many ticks from the first are the same in both.
    pub ticks_same: u64,
    /// The first tick that is not.
    pub first: Option<TickDiff>,
}

/// A tick that two recordings have otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct TickDiff {
    /// The tick.
    pub tick: Tick,
    /// All that differs in what the tick consumed, in words. Where there is any, the rest follows from it.
    pub inputs: Vec<String>,
    /// What came out of it, where both have that and it differs.
    pub outcome: Option<OutcomeDiff>,
    /// Where one of them has no such tick, or no result of it, in words.
    pub missing: Option<String>,
}

/// How the outcomes of a tick differ.
#[derive(Clone, Debug, PartialEq)]
pub struct OutcomeDiff {
    /// The state hashes.
    pub hashes: [u64; 2],
    /// How many entities differ.
    pub entities: usize,
    /// The first difference; what is `recorded` there stands in A, what is `replayed` in B.
    pub difference: Difference,
}

/// Why two recordings cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// They have different schemas, so that their numbers mean different things.
    #[error("A is of {a}, B of {b}: recordings of different schemas have no ticks to compare")]
    Schema {
        /// The game of A.
        a: String,
        /// The game of B.
        b: String,
    },
    /// One of them cannot be read that far.
    #[error("{}: {source}; up to tick {same} they are the same", if *is_first { "A" } else { "B" })]
    Recording {
        /// Whether it is A.
        is_first: bool,
        /// The last tick that both have.
        same: Tick,
        /// What is wrong with it.
        source: RecordingError,
    },
    /// They are segments that begin at different ticks.
    #[error("A begins with tick {a}, B with tick {b}: compare segments that begin with the same one")]
    Segments {
        /// The first tick of A.
        a: Tick,
        /// The first tick of B.
        b: Tick,
    },
    /// What their first tick follows cannot be read.
    #[error(transparent)]
    Origin(ReplayError),
    /// They begin with keyframes that are not the same: they differ before their first tick.
    #[error("the keyframes of tick {tick} that they begin with are not the same: they differ before that")]
    Origins {
        /// Of the keyframes.
        tick: Tick,
    },
    /// Both change what is not there.
    #[error("both recordings contradict themselves: tick {tick}: {source}")]
    Truth {
        /// The tick.
        tick: Tick,
        /// What does not fit.
        source: TruthError,
    },
}

/// Compares two recordings up to the first tick at which they differ.
///
/// # Errors
/// Where they are of different schemas, or one cannot be read up to there.
pub fn diff(a: &Recording, b: &Recording) -> Result<RecordingDiff, DiffError> {
    let schema = &a.meta().schema;
    if schema.hash() != b.meta().schema.hash() {
        let [a, b] = [a, b].map(|recording| {
            let Schema { game, version, .. } = &*recording.meta().schema;
            format!("{game} version {version}, schema {:.12}", recording.meta().schema.hash().to_string())
        });
        return Err(DiffError::Schema { a, b });
    }
    if a.origin_tick() != b.origin_tick() {
        let [a, b] = [a, b].map(|recording| recording.meta().segment.first_tick);
        return Err(DiffError::Segments { a, b });
    }
    let mut found = RecordingDiff { header: header_diff(a.meta(), b.meta()), ticks_same: 0, first: None };
    let before = a.origin_tick().0;
    let unreadable = |is_first, same| move |source| DiffError::Recording { is_first, same: Tick(same), source };
    let mut ticks = [a.ticks().map_err(unreadable(true, before))?, b.ticks().map_err(unreadable(false, before))?];
    let mut truth = Origin::of(a).map_err(DiffError::Origin)?.truth(a);
    if Origin::of(b).map_err(DiffError::Origin)?.truth(b) != truth {
        return Err(DiffError::Origins { tick: a.origin_tick() });
    }
    loop {
        let same = before + found.ticks_same;
        let [ticks_a, ticks_b] = &mut ticks;
        let a = ticks_a.next().transpose().map_err(unreadable(true, same))?;
        let b = ticks_b.next().transpose().map_err(unreadable(false, same))?;
        let tick = Tick(same + 1);
        let (a, b) = match (a, b) {
            (None, None) => return Ok(found),
            (Some(a), Some(b)) => (a, b),
            (a, _) => {
                let [shorter, longer] = if a.is_some() { ["B", "A"] } else { ["A", "B"] };
                let missing = Some(format!("{shorter} ends after tick {same}, {longer} goes on"));
                found.first = Some(TickDiff { tick, inputs: Vec::new(), outcome: None, missing });
                return Ok(found);
            }
        };
        let inputs = input_diff(schema, &a.input, &b.input);
        let (outcome, missing) = match (&a.result, &b.result) {
            (Some(a), Some(b)) if a == b => (None, None),
            (Some(a), Some(b)) => (Some(outcome_diff(schema, &truth, a, b)?), None),
            (None, None) => (None, None),
            (a, _) => {
                let (without, rest) = if a.is_some() { ("B", ticks_b) } else { ("A", ticks_a) };
                let why = rest.next().and_then(Result::err).map_or_else(
                    || "the game panicked in it, or the server was killed".to_owned(),
                    |error| error.to_string(),
                );
                (None, Some(format!("{without} has no result of it: {why}")))
            }
        };
        if !inputs.is_empty() || outcome.is_some() || missing.is_some() {
            found.first = Some(TickDiff { tick, inputs, outcome, missing });
            return Ok(found);
        }
        if let Some(result) = &a.result {
            truth.apply(&result.truth).map_err(|source| DiffError::Truth { tick, source })?;
        }
        found.ticks_same += 1;
    }
}

fn header_diff(a: &RecordingMeta, b: &RecordingMeta) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |name: &str, a: String, b: String| {
        if a != b {
            found.push(format!("{name}: A {a}, B {b}"));
        }
    };
    compare("session", a.session.clone(), b.session.clone());
    compare("tickwire", a.tickwire_version.clone(), b.tickwire_version.clone());
    compare("seed", a.seed.to_string(), b.seed.to_string());
    compare("rate", a.tick_rate.to_string(), b.tick_rate.to_string());
    compare("epoch", a.epoch.to_string(), b.epoch.to_string());
    compare("seats", a.max_players.to_string(), b.max_players.to_string());
    compare("rewinds", format!("{} ms", a.rewind_ms), format!("{} ms", b.rewind_ms));
    for (i, setting) in a.schema.settings.iter().enumerate() {
        let value = |settings: &[i32]| {
            settings.get(i).map_or("its default".to_owned(), |&value| Value::of(&setting.quantity, value).to_string())
        };
        compare(&format!("settings.{}", setting.name), value(&a.settings), value(&b.settings));
    }
    found
}

/// All that differs in what a tick consumed.
fn input_diff(schema: &Schema, a: &TickInput, b: &TickInput) -> Vec<String> {
    if a == b {
        return Vec::new();
    }
    let mut found = Vec::new();
    if a.seat_changes != b.seat_changes {
        let changes = |input: &TickInput| {
            let words: Vec<String> = input.seat_changes.iter().map(words::seat_change).collect();
            if words.is_empty() { "none".to_owned() } else { words.join(", ") }
        };
        found.push(format!("seat changes: A {}, B {}", changes(a), changes(b)));
    }
    let of = |input: &TickInput, player| input.inputs.iter().find(|input| input.player == player).cloned();
    let players: BTreeSet<PlayerId> = a.inputs.iter().chain(&b.inputs).map(|input| input.player).collect();
    for player in players {
        match (of(a, player), of(b, player)) {
            (Some(a), Some(b)) => seat_input_diff(schema, &a, &b, &mut found),
            (a, _) => found.push(format!("player {player} sits in {} only", if a.is_some() { "A" } else { "B" })),
        }
    }
    found
}

fn seat_input_diff(schema: &Schema, a: &SeatInput, b: &SeatInput, found: &mut Vec<String>) {
    let player = a.player;
    if a.provenance != b.provenance {
        let [a, b] = [a, b].map(|input| words::provenance(input.provenance));
        found.push(format!("player {player}: A {a}, B {b}"));
        return;
    }
    for (field, (&a, &b)) in schema.inputs.iter().zip(a.values.iter().zip(&b.values)) {
        if a != b {
            let [a, b] = [a, b].map(|value| Value::of(&field.quantity, value));
            found.push(format!("player {player}, input {}: A {a}, B {b}", field.name));
        }
    }
    if a.sequence != b.sequence {
        found.push(format!("player {player}, sequence: A {}, B {}", a.sequence, b.sequence));
    }
    if a.seen != b.seen {
        let [a, b] = [a, b].map(|input| match input.seen {
            Some(seen) => format!("tick {} + {:.3}", seen.tick, seen.share()),
            None => "not said".to_owned(),
        });
        found.push(format!("player {player}, what was seen: A {a}, B {b}"));
    }
}

const SIDES: Sides = Sides { values: ["A", "B"], places: ["A", "B"] };

fn outcome_diff(
    schema: &Schema,
    before: &Truth,
    a: &RecordedResult,
    b: &RecordedResult,
) -> Result<OutcomeDiff, DiffError> {
    let after = |result: &RecordedResult| {
        let mut truth = before.clone();
        truth.apply(&result.truth).map_err(|source| DiffError::Truth { tick: result.tick, source })?;
        Ok(truth)
    };
    let (entities, difference) = truth_difference(schema, &after(a)?, &after(b)?);
    let difference = difference.or_else(|| event_difference(schema, &a.events, &b.events));
    Ok(OutcomeDiff {
        hashes: [a.state_hash, b.state_hash],
        entities,
        difference: difference.unwrap_or(Difference::Hidden),
    })
}

impl RecordingDiff {
    /// Whether both are of the same match: what their headers say beside the ticks may differ.
    #[must_use]
    pub fn is_same_match(&self) -> bool {
        self.first.is_none()
    }
}

impl fmt::Display for OutcomeDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hashes: [a, b], entities, difference } = self;
        f.write_str(&difference.words(&SIDES))?;
        if *entities > 1 {
            write!(f, " (the first of {entities} entities that differ)")?;
        }
        write!(f, "; state hash A {a:016x}, B {b:016x}")
    }
}

impl fmt::Display for TickDiff {
    /// A line for each difference.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tick, inputs, outcome, missing } = self;
        write!(f, "the first difference is at tick {tick}")?;
        for input in inputs {
            write!(f, "\n  input: {input}")?;
        }
        if let Some(outcome) = outcome {
            write!(f, "\n  outcome: {outcome}")?;
        }
        if let Some(missing) = missing {
            write!(f, "\n  {missing}")?;
        }
        Ok(())
    }
}
