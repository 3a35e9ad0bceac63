//! Makes a recording that fails as small as it can be, so that it becomes a test.

mod reduce;
mod script;

use std::{
    fmt,
    io::{self, Seek, Write},
    sync::Arc,
};

use tickwire_shared::{Game, Schema, Tick};
use tickwire_simulation::{Session, TickInput};

use self::{reduce::reduce, script::Script};
use crate::{
    End, EndReason, Layout, RecordedKeyframe, RecordedResult, Recording, RecordingMeta, ReplayError, Writer,
    origin::Origin,
};

/// How a recording fails, which is how each smaller one has to fail, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The game panics, with this message; numbers in it may be others.
    Panic {
        /// The message.
        message: String,
    },
    /// Two runs of the same inputs come out differently.
    Chance,
    /// The replay is not what was recorded, each time in the same way. What other inputs would have led to when it was recorded
    /// nobody knows, so that such a recording can only be cut behind the tick.
    Divergence,
}

/// How large a recording is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordingSize {
    /// Ticks.
    pub ticks: usize,
    /// Players who ever sat.
    pub players: usize,
    /// Inputs of players that are not absent.
    pub inputs: usize,
}

/// A recording that has been made smaller.
#[derive(Clone, Debug)]
pub struct Minimised {
    /// How both fail.
    pub failure: Failure,
    /// The size of the recording as it was.
    pub before: RecordingSize,
    /// Its size now.
    pub after: RecordingSize,
    /// How many matches were played for it.
    pub runs: u64,
    /// Whether it stopped at the limit of runs, so that more runs might make it smaller.
    pub stopped: bool,
    meta: RecordingMeta,
    /// What a segment behind the first one begins with, and so do all that are made of it.
    origin: Option<RecordedKeyframe>,
    ticks: Vec<(TickInput, Option<RecordedResult>)>,
    end: End,
}

/// Why a recording cannot be minimised.
#[derive(Debug, thiserror::Error)]
pub enum MinimiseError {
    /// It replays as it was recorded, to its last tick.
    #[error("the recording does not fail: its {ticks} ticks replay as they were recorded")]
    Sound {
        /// How many there are.
        ticks: u64,
    },
    /// It panicked when it was recorded, and does not now.
    #[error("tick {tick} panicked when it was recorded, and does not in this build: {message}")]
    Gone {
        /// The tick.
        tick: Tick,
        /// The panic's message.
        message: String,
    },
    /// It cannot be read or played.
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

/// What a run of a script came to.
#[derive(PartialEq)]
enum Outcome {
    /// It cannot be played: it contradicts itself.
    Impossible,
    Sound,
    Failed(Tick, Failure),
}

/// Makes a recording as small as it can be while it fails in the same way: cuts what comes after the failure, drops players and
/// ticks, and makes inputs absent or neutral. It plays at most `runs_max` matches; `progress` hears of each size that is reached.
/// A segment behind the first one stays that, with the keyframe that it begins with and whoever sat there.
///
/// # Errors
/// Where the recording does not fail, or cannot be played.
pub fn minimise(
    recording: &Recording,
    game: &Arc<dyn Game>,
    runs_max: u64,
    progress: impl FnMut(RecordingSize),
) -> Result<Minimised, MinimiseError> {
    let mut recorded = Vec::new();
    let mut ticks = recording.ticks().map_err(ReplayError::from)?;
    for tick in ticks.by_ref() {
        match tick {
            Ok(tick) => recorded.push((tick.input, tick.result)),
            // The readable part may well fail.
            Err(_) if !recorded.is_empty() => break,
            Err(error) => return Err(ReplayError::from(error).into()),
        }
    }
    let origin = Origin::of(recording)?;
    let player = Player { recording, game, origin };
    let (tick, failure) = player.failure_of(&recorded, ticks.end())?;
    let mut script = player.script(&recorded);
    let before = size(&script);
    script.cut(tick);

    let mut search = Search {
        player: &player,
        schema: &recording.meta().schema,
        failure,
        runs: 0,
        runs_max,
        smallest: script,
        progress,
    };
    let mut meta = recording.meta().clone();
    let ticks = if search.failure == Failure::Divergence {
        recorded.truncate(search.smallest.ticks.len());
        recorded
    } else {
        search.run();
        // What comes out of it now is this version's.
        meta.tickwire_version = env!("CARGO_PKG_VERSION").to_owned();
        player.results(&search.smallest)?
    };
    let Search { failure, runs, smallest, .. } = search;
    let last = smallest.last();
    let reason = match &failure {
        Failure::Panic { message } => EndReason::Failed { message: message.clone() },
        // It is whole up to there, and went on.
        Failure::Chance | Failure::Divergence => EndReason::Limited,
    };
    Ok(Minimised {
        failure,
        before,
        after: size(&smallest),
        runs,
        stopped: runs >= runs_max,
        meta,
        origin: player.origin.recorded().cloned(),
        ticks,
        end: End { reason, tick: last, ticks_missing: 0 },
    })
}

fn size(script: &Script) -> RecordingSize {
    RecordingSize { ticks: script.ticks.len(), players: script.players().len(), inputs: script.input_count() }
}

/// Plays scripts.
struct Player<'a> {
    recording: &'a Recording,
    game: &'a Arc<dyn Game>,
    origin: Origin,
}

impl Player<'_> {
    fn session(&self) -> Result<Session, ReplayError> {
        self.origin.session(self.recording, self.game, self.recording.meta().session_config(), None)
    }

    /// What a match consumed.
    fn script(&self, recorded: &[(TickInput, Option<RecordedResult>)]) -> Script {
        Script {
            origin: self.recording.origin_tick(),
            ticks: recorded.iter().map(|(input, _)| input.clone()).collect(),
        }
    }

    /// How the recording fails, and at which tick.
    fn failure_of(
        &self,
        recorded: &[(TickInput, Option<RecordedResult>)],
        end: Option<&End>,
    ) -> Result<(Tick, Failure), MinimiseError> {
        let mut session = self.session()?;
        let mut diverged = None;
        for (input, result) in recorded {
            session.check_tick(input).map_err(ReplayError::from)?;
            match session.finish_tick(input) {
                Err(panic) => return Ok((panic.tick, Failure::Panic { message: panic.message })),
                Ok(output) if result.as_ref().is_some_and(|result| *result != output.result) => {
                    diverged = Some(input.tick);
                    break;
                }
                Ok(_) => {}
            }
        }
        let Some(tick) = diverged else {
            return Err(match end {
                Some(End { reason: EndReason::Failed { message }, tick, .. }) => {
                    MinimiseError::Gone { tick: *tick, message: message.clone() }
                }
                _ => MinimiseError::Sound { ticks: recorded.len() as u64 },
            });
        };
        let mut script = self.script(recorded);
        script.cut(tick);
        Ok(match self.play_twice(&script)? {
            Outcome::Failed(tick, failure) => (tick, failure),
            Outcome::Sound | Outcome::Impossible => (tick, Failure::Divergence),
        })
    }

    fn play(&self, script: &Script, failure: &Failure) -> Result<Outcome, ReplayError> {
        match failure {
            Failure::Panic { .. } => self.play_once(script),
            Failure::Chance | Failure::Divergence => self.play_twice(script),
        }
    }

    fn play_once(&self, script: &Script) -> Result<Outcome, ReplayError> {
        let mut session = self.session()?;
        for input in &script.ticks {
            if session.check_tick(input).is_err() {
                return Ok(Outcome::Impossible);
            }
            if let Err(panic) = session.finish_tick(input) {
                return Ok(Outcome::Failed(panic.tick, Failure::Panic { message: panic.message }));
            }
        }
        Ok(Outcome::Sound)
    }

    fn play_twice(&self, script: &Script) -> Result<Outcome, ReplayError> {
        let (mut one, mut other) = (self.session()?, self.session()?);
        for input in &script.ticks {
            if one.check_tick(input).is_err() {
                return Ok(Outcome::Impossible);
            }
            match (one.finish_tick(input), other.finish_tick(input)) {
                (Ok(one), Ok(other)) if one.result == other.result => {}
                (Err(one), Err(other)) if one == other => {
                    return Ok(Outcome::Failed(one.tick, Failure::Panic { message: one.message }));
                }
                _ => return Ok(Outcome::Failed(input.tick, Failure::Chance)),
            }
        }
        Ok(Outcome::Sound)
    }

    /// What comes out of the script's ticks; nothing of one that panics.
    fn results(&self, script: &Script) -> Result<Vec<(TickInput, Option<RecordedResult>)>, ReplayError> {
        let mut session = self.session()?;
        let mut ticks = Vec::with_capacity(script.ticks.len());
        for input in &script.ticks {
            session.check_tick(input)?;
            let result = session.finish_tick(input).ok().map(|output| output.result.into());
            let panicked = result.is_none();
            ticks.push((input.clone(), result));
            if panicked {
                break;
            }
        }
        Ok(ticks)
    }
}

/// The search for the smallest script that fails.
struct Search<'a, P> {
    player: &'a Player<'a>,
    schema: &'a Schema,
    failure: Failure,
    runs: u64,
    runs_max: u64,
    smallest: Script,
    progress: P,
}

impl<P: FnMut(RecordingSize)> Search<'_, P> {
    /// Reduces in one way after the other, until none makes it smaller.
    fn run(&mut self) {
        loop {
            let before = self.smallest.clone();
            self.reduce_by(Script::players, Script::with_players);
            self.reduce_by(Script::spare_ticks, |script, kept| script.with_ticks(kept));
            self.reduce_by(Script::inputs, |script, kept| script.with_inputs(kept));
            self.reduce_by(Script::connections, |script, kept| script.with_connections(kept));
            let schema = self.schema;
            self.reduce_by(|script| script.values(schema), |script, kept| script.with_values(schema, kept));
            if self.smallest == before || self.runs >= self.runs_max {
                return;
            }
        }
    }

    /// Leaves out of the smallest script what it does not need of the given parts.
    fn reduce_by<T: Copy>(&mut self, parts: impl Fn(&Script) -> Vec<T>, with: impl Fn(&Script, &[T]) -> Script) {
        let whole = self.smallest.clone();
        let kept = reduce(parts(&whole), |kept| self.fails(&with(&whole, kept)));
        self.accept(with(&whole, &kept));
    }

    /// `None` where no more runs are left.
    fn fails(&mut self, script: &Script) -> Option<bool> {
        if self.runs >= self.runs_max {
            return None;
        }
        self.runs += 1;
        Some(self.failing_tick(script).is_some())
    }

    fn failing_tick(&self, script: &Script) -> Option<Tick> {
        match self.player.play(script, &self.failure) {
            Ok(Outcome::Failed(tick, failure)) if is_same(&failure, &self.failure) => Some(tick),
            // A session that could be created once can be again.
            Ok(_) | Err(_) => None,
        }
    }

    /// Takes a script that fails for the smallest, up to where it fails; one that fails by chance only, where it does again.
    fn accept(&mut self, mut script: Script) {
        self.runs += 1;
        let Some(tick) = self.failing_tick(&script) else { return };
        script.cut(tick);
        if script != self.smallest {
            self.smallest = script;
            (self.progress)(size(&self.smallest));
        }
    }
}

fn is_same(a: &Failure, b: &Failure) -> bool {
    match (a, b) {
        (Failure::Panic { message: a }, Failure::Panic { message: b }) => without_numbers(a) == without_numbers(b),
        (a, b) => a == b,
    }
}

/// A message as it is whoever and whatever it is about: each number is a `#`.
fn without_numbers(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for c in message.chars() {
        let c = if c.is_ascii_digit() { '#' } else { c };
        if c != '#' || !text.ends_with('#') {
            text.push(c);
        }
    }
    text
}

impl Minimised {
    /// Writes it as a finished recording.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn write<W: Write + Seek>(&self, to: W) -> io::Result<W> {
        let mut writer = Writer::new(to, &self.meta, Layout::Finished)?;
        if let Some(origin) = &self.origin {
            writer.keyframe(origin)?;
        }
        for (input, result) in &self.ticks {
            writer.tick_input(input)?;
            if let Some(result) = result {
                writer.tick_result(result)?;
            }
        }
        writer.end(&self.end)?;
        writer.finish()
    }

    /// What to paste into a game's tests, once the recording stands at `path`: the test passes when the bug is gone.
    #[must_use]
    pub fn test(&self, path: &str) -> String {
        let game = &self.meta.schema.game;
        let (about, name, assertion) = match &self.failure {
            Failure::Panic { message } => (format!("It panicked: {message}"), "plays_without_a_panic", "assert_plays"),
            Failure::Chance => (
                "Two runs of it came out differently.".to_owned(),
                "comes_out_the_same_each_time",
                "assert_deterministic",
            ),
            Failure::Divergence => ("It did not replay as it was recorded.".to_owned(), "replays", "assert_replays"),
        };
        let about = about.lines().collect::<Vec<_>>().join(" ");
        let game_words: String = game.chars().map(|c| if c == '-' { '_' } else { c }).collect();
        format!(
            "/// {about}\n#[test]\nfn a_match_of_{game_words}_{name}() {{\n    tickwire_recording::{assertion}({path:?}, MyGame);\n}}\n"
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic { message } => write!(f, "it panics: {message}"),
            Self::Chance => f.write_str("two runs of it come out differently"),
            Self::Divergence => f.write_str("it does not replay as it was recorded"),
        }
    }
}

impl fmt::Display for RecordingSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ticks, players, inputs } = self;
        write!(f, "{ticks} ticks, {players} players, {inputs} inputs")
    }
}
