//! Which ticks of a recording a command is asked for.

use std::{fmt, ops::RangeInclusive, path::Path};

use tickwire_recording::Recording;
use tickwire_shared::Tick;

use super::CliError;

/// What `--from` and `--to` say.
#[derive(Clone, Copy, Debug)]
pub(super) struct AskedTicks {
    from: Option<Tick>,
    to: Option<Tick>,
}

impl AskedTicks {
    /// Those that are in order.
    pub(super) fn new(from: Option<u64>, to: Option<u64>) -> Result<Self, CliError> {
        match (from, to) {
            (Some(from), Some(to)) if from > to => Err(CliError::Range { from, to }),
            _ => Ok(Self { from: from.map(Tick), to: to.map(Tick) }),
        }
    }

    /// Which ones of a recording that is. It must have some of them; it may end before the last.
    pub(super) fn of(self, path: &Path, recording: &Recording) -> Result<RangeInclusive<Tick>, CliError> {
        let first = recording.meta().segment.first_tick;
        if let Some(to) = self.to.filter(|to| *to < first) {
            return Err(no_such_tick(path, recording, ("--to", to)));
        }
        if let Some(from) = self.from {
            check(path, recording, ("--from", from))?;
        }
        Ok(self.from.unwrap_or(first)..=self.to.unwrap_or(Tick::MAX))
    }
}

impl fmt::Display for AskedTicks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.to) {
            (None, None) => f.write_str("any tick"),
            (None, Some(to)) => write!(f, "any tick up to {to}"),
            (Some(from), None) => write!(f, "any tick from {from} on"),
            (Some(from), Some(to)) => write!(f, "any tick from {from} to {to}"),
        }
    }
}

/// Whether a recording has the tick that an option names. One that is damaged before that is said to be damaged.
pub(super) fn check(path: &Path, recording: &Recording, asked: (&'static str, Tick)) -> Result<(), CliError> {
    let (_, tick) = asked;
    if tick < recording.meta().segment.first_tick {
        return Err(no_such_tick(path, recording, asked));
    }
    // Behind the last whole one there may be one that was begun.
    if tick <= recording.summary().last_tick() {
        return Ok(());
    }
    for read in recording.ticks().map_err(CliError::of_recording(path))? {
        if read.map_err(CliError::of_recording(path))?.input.tick >= tick {
            return Ok(());
        }
    }
    Err(no_such_tick(path, recording, asked))
}

/// With those that are readable.
fn no_such_tick(path: &Path, recording: &Recording, (option, tick): (&'static str, Tick)) -> CliError {
    let first = recording.meta().segment.first_tick;
    let readable = recording.ticks().ok().into_iter().flatten().map_while(Result::ok);
    let last = readable.last().map_or(0, |tick| tick.input.tick.0);
    CliError::NoSuchTick { path: path.to_owned(), option, tick: tick.0, first: first.0, last }
}

/// A recording's ticks; `last` is 0 where it has none.
pub(super) fn words(first: u64, last: u64) -> String {
    if last == 0 { "of another recording, this one has no ticks".to_owned() } else { format!("{first} to {last}") }
}
