//! What is played of the past: a recording, finished or of a session that runs.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use tickwire_recording::{Recording, RecordingError, RecordingMeta, Replay, ReplayError};
use tickwire_shared::{Frame, Game, Tick};

use crate::session::SessionHandle;

/// How often a tick that is said to be written is read in vain before the recording counts as broken.
const READS_MAX: u32 = 20;

/// A recording, and how far it may be played.
#[derive(Clone)]
pub(crate) struct Tape {
    pub(super) recording: Recording,
    pub(super) game: Arc<dyn Game>,
    pub(super) extent: Extent,
}

/// How far a recording may be played.
#[derive(Clone, Debug)]
pub(super) enum Extent {
    /// To its end, which is this tick or a little later.
    Finished(Tick),
    /// As far as the session's spectators may see by now.
    Live(Arc<SessionHandle>),
    /// As far as they may see from now on: what plays it is what shows it to them.
    Edge(Arc<SessionHandle>),
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tape")
            .field("session", &self.recording.meta().session)
            .field("extent", &self.extent)
            .finish_non_exhaustive()
    }
}

impl Tape {
    /// That of a finished recording.
    pub(crate) fn finished(recording: Recording, game: Arc<dyn Game>) -> Self {
        let last = Tick(recording.summary().ticks);
        Self { recording, game, extent: Extent::Finished(last) }
    }

    /// That of a session that is being recorded to `path`.
    pub(super) fn of_session(extent: Extent, session: &SessionHandle, path: &Path) -> Result<Self, RecordingError> {
        let recording = match Recording::open(path) {
            // It has come to its end before the session has.
            Err(RecordingError::Io { .. }) => Recording::open(finished(path))?,
            opened => opened?,
        };
        let game = Arc::clone(session.replicator.game());
        Ok(Self { recording, game, extent })
    }

    /// What the session that it is of was created with.
    pub(crate) fn meta(&self) -> &RecordingMeta {
        self.recording.meta()
    }

    /// The newest tick that may be played by now.
    pub(crate) fn last(&self) -> Tick {
        match &self.extent {
            Extent::Finished(last) => *last,
            Extent::Live(session) => session.recorded_tick().min(session.live_tick()),
            Extent::Edge(session) => session.recorded_tick().min(session.live.due(session.clock.tick())),
        }
    }

    /// Whether who has come to [`last`](Self::last) goes on among live spectators.
    pub(super) fn leads_to_live(&self) -> bool {
        match &self.extent {
            Extent::Live(session) => session.is_live_due(),
            Extent::Finished(_) | Extent::Edge(_) => true,
        }
    }

    fn is_live(&self) -> bool {
        !matches!(self.extent, Extent::Finished(_))
    }
}

/// The name that a live file gets at its end.
fn finished(live: &Path) -> PathBuf {
    live.with_extension("").with_extension("mcap")
}

/// Plays a tape.
#[derive(Debug)]
pub(super) struct Deck {
    tape: Tape,
    replay: Replay,
    /// Times that the next tick was not there.
    missed: u32,
}

/// What comes next on a tape.
#[derive(Debug)]
pub(super) enum Played {
    /// The next tick.
    Frame(Arc<Frame>),
    /// Nothing yet: it may not be seen, or is not written.
    NotYet,
    /// Nothing any more.
    End,
    /// Nothing that could be played.
    Failed(String),
}

impl Deck {
    /// At `tick`, or at the last that there is before it. Where nobody wants that any more, `stop` is true.
    pub(super) fn at(tape: &Tape, tick: Tick, stop: impl Fn() -> bool) -> Result<Self, ReplayError> {
        let at = |tick| Replay::at_unless(&tape.recording, Arc::clone(&tape.game), tick, &stop);
        let replay = match at(tick) {
            Err(ReplayError::BeyondEnd { last, .. }) => at(last)?,
            replay => replay?,
        };
        Ok(Self { tape: tape.clone(), replay, missed: 0 })
    }

    /// The newest frame.
    pub(super) fn frame(&self) -> &Arc<Frame> {
        self.replay.session().frame()
    }

    /// Plays the next tick.
    pub(super) fn play(&mut self) -> Played {
        if self.tape.is_live() && self.frame().tick >= self.tape.last() {
            return Played::NotYet;
        }
        if self.missed > 0
            && let Err(error) = self.replay.read_on(&self.tape.recording)
        {
            return self.miss(Played::Failed(error.to_string()));
        }
        let tick = match self.replay.next() {
            None => return self.miss(Played::End),
            Some(Err(error)) => return self.miss(Played::Failed(error.to_string())),
            Some(Ok(tick)) => tick,
        };
        self.missed = 0;
        match (tick.divergence, tick.outcome) {
            (Some(divergence), _) => Played::Failed(divergence.to_string()),
            (None, Ok(output)) => Played::Frame(output.frame),
            // As it did when it was recorded.
            (None, Err(_)) => Played::End,
        }
    }

    /// A file that grows is read up to its end now and then, and its last record may have become longer; reading it anew shows
    /// more. `otherwise` is said of one that does not.
    fn miss(&mut self, otherwise: Played) -> Played {
        self.missed += 1;
        if self.tape.is_live() && self.missed <= READS_MAX { Played::NotYet } else { otherwise }
    }
}
