//! What is played of the past: a recording, finished or of a session that runs.

use std::{fmt, io, path::Path, sync::Arc};

use tickwire_recording::{
    End, EndReason, Recording, RecordingError, RecordingMeta, Replay, ReplayError, Segment, Segments,
};
use tickwire_shared::{Frame, Game, Tick};

use crate::session::SessionHandle;

/// How often a tick that is said to be written is read in vain before the recording counts as broken.
const READS_MAX: u32 = 20;

/// A recording, and how far it may be played: of a session that runs all of its segments, else one.
#[derive(Clone)]
pub(crate) struct Tape {
    /// Of a session that runs, the newest segment when the tape was made.
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
        let last = recording.summary().last_tick();
        Self { recording, game, extent: Extent::Finished(last) }
    }

    /// That of a session that is being recorded to `path`, as its newest segment.
    pub(super) fn of_session(extent: Extent, session: &SessionHandle, path: &Path) -> Result<Self, TapeError> {
        let recording = Segments::beside(path)?.at(Tick::MAX)?;
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

    /// The first tick that there is; of a session that runs the first that there ever was: its oldest segments may be gone.
    pub(crate) fn first(&self) -> Tick {
        if self.is_live() { Tick(1) } else { self.recording.meta().segment.first_tick }
    }

    /// All segments, where they belong to it.
    fn segments(&self) -> io::Result<Option<Segments>> {
        match &self.extent {
            Extent::Finished(_) => Ok(None),
            Extent::Live(session) | Extent::Edge(session) => {
                session.recording.path().map(|path| Segments::beside(&path)).transpose()
            }
        }
    }

    fn is_live(&self) -> bool {
        !matches!(self.extent, Extent::Finished(_))
    }
}

/// Why there is no tape, or no more of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum TapeError {
    #[error(transparent)]
    Recording(#[from] RecordingError),
    #[error(transparent)]
    Replay(#[from] ReplayError),
    #[error("the segments of the recording cannot be listed: {0}")]
    Directory(#[from] io::Error),
    /// Older segments are deleted while newer ones are kept.
    #[error("there is no tick {tick} any more: the recording begins with tick {first}")]
    Deleted { tick: Tick, first: Tick },
}

/// Plays a tape.
#[derive(Debug)]
pub(super) struct Deck {
    tape: Tape,
    /// Which segment is being played.
    segment: Segment,
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
    pub(super) fn at(tape: &Tape, tick: Tick, stop: impl Fn() -> bool) -> Result<Self, TapeError> {
        let segments = tape.segments()?;
        let at = |tick| {
            let recording = match &segments {
                Some(segments) => segments.at(tick)?,
                None => tape.recording.clone(),
            };
            let replay = Replay::at_unless(&recording, Arc::clone(&tape.game), tick, &stop);
            Ok::<_, TapeError>((recording.meta().segment.clone(), replay))
        };
        let (segment, replay) = match at(tick)? {
            (_, Err(ReplayError::BeyondEnd { last, .. })) => at(last)?,
            (_, Err(ReplayError::BeforeOrigin { tick, origin })) => {
                return Err(TapeError::Deleted { tick, first: origin.next() });
            }
            found => found,
        };
        Ok(Self { tape: tape.clone(), segment, replay: replay?, missed: 0 })
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
            && let Err(error) = self.read_on()
        {
            return self.miss(Played::Failed(error.to_string()));
        }
        let mut next = self.replay.next();
        if next.is_none() && self.tape.is_live() {
            match self.turn_over() {
                Ok(true) => next = self.replay.next(),
                Ok(false) => {}
                Err(error) => return self.miss(Played::Failed(error.to_string())),
            }
        }
        let tick = match next {
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

    /// Reads the segment anew that is being played: its file has grown, or has been finished.
    fn read_on(&mut self) -> Result<(), TapeError> {
        let recording = match self.tape.segments()? {
            Some(segments) => segments.open(self.segment.number)?,
            None => self.tape.recording.clone(),
        };
        Ok(self.replay.read_on(&recording)?)
    }

    /// Goes on in the next segment, where this one is said to be over. False: it is not.
    fn turn_over(&mut self) -> Result<bool, TapeError> {
        let is_over = matches!(self.replay.end(), Some(End { reason: EndReason::Continued, .. }));
        let Some(segments) = is_over.then(|| self.tape.segments()).transpose()?.flatten() else { return Ok(false) };
        let numbers = segments.numbers();
        let next = numbers.iter().find(|number| **number > self.segment.number);
        let Some(&next) = next else { return Ok(false) };
        let recording = segments.open(next)?;
        self.replay.go_on_in(&recording)?;
        self.segment = recording.meta().segment.clone();
        Ok(true)
    }

    /// A file that grows is read up to its end now and then, and its last record may have become longer; reading it anew shows
    /// more. `otherwise` is said of one that does not.
    fn miss(&mut self, otherwise: Played) -> Played {
        self.missed += 1;
        if self.tape.is_live() && self.missed <= READS_MAX { Played::NotYet } else { otherwise }
    }
}
