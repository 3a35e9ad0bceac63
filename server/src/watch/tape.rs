//! What is played of the past: a recording, finished or of a session that runs.

use std::{fmt, io, path::Path, sync::Arc};

use tickwire_recording::{Recording, RecordingError, RecordingMeta, Replay, ReplayError, Segment, Segments};
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
            Extent::Edge(session) => session.recorded_tick().min(session.live.due(session.tick_by_now())),
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

    /// The first tick that there is left of a session that runs.
    pub(super) fn first_left(&self) -> Option<Tick> {
        let segments = self.segments().ok()??;
        let oldest = segments.numbers().iter().find_map(|number| segments.open(*number).ok())?;
        Some(oldest.meta().segment.first_tick)
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
    #[error("no later segment of the recording can be played")]
    NoLater,
}

impl TapeError {
    /// A file that was there when it was looked for is not any more.
    fn is_gone(&self) -> bool {
        let (Self::Recording(error) | Self::Replay(ReplayError::Recording(error))) = self else { return false };
        matches!(error, RecordingError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
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
    /// Of what comes next this is the first tick: those before cannot be played.
    not_before: Option<Tick>,
}

/// What there is behind a segment that cannot be played on.
#[derive(Debug)]
pub(super) enum Behind {
    /// It stands at the first tick that there is.
    Deck(Box<Deck>),
    /// That is this tick, which may not be seen yet.
    NotBefore(Tick),
}

/// What comes next on a tape.
#[derive(Debug)]
pub(super) enum Played {
    /// The next tick.
    Frame(Arc<Frame>),
    /// A later one: those between cannot be played.
    Jump(Arc<Frame>),
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
        let find = || -> Result<Find, TapeError> {
            Ok(match tape.segments()? {
                Some(segments) => Box::new(move |tick| segments.at(tick)),
                None => {
                    let recording = tape.recording.clone();
                    Box::new(move |_| Ok(recording.clone()))
                }
            })
        };
        let (segment, replay) = replay_at(find, &tape.game, tick, &stop)?;
        Ok(Self::of(tape, segment, replay))
    }

    /// At the first tick behind `tick` that there is in segments of higher numbers than `number`.
    pub(super) fn behind(tape: &Tape, number: u32, tick: Tick) -> Result<Behind, TapeError> {
        let segments = tape.segments()?.ok_or(TapeError::NoLater)?;
        for &number in segments.numbers().iter().filter(|later| **later > number) {
            let Ok(recording) = segments.open(number) else { continue };
            let segment = recording.meta().segment.clone();
            let first = segment.origin().max(tick);
            if tape.last() < first {
                return Ok(Behind::NotBefore(first));
            }
            // One that ends before is no use, either.
            if let Ok(replay) = Replay::at(&recording, Arc::clone(&tape.game), first) {
                return Ok(Behind::Deck(Box::new(Self::of(tape, segment, replay))));
            }
        }
        Err(TapeError::NoLater)
    }

    fn of(tape: &Tape, segment: Segment, replay: Replay) -> Self {
        Self { tape: tape.clone(), segment, replay, missed: 0, not_before: None }
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
        if let Some(first) = self.not_before {
            return if self.tape.last() < first { Played::NotYet } else { self.skip(Played::End) };
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
            // The file, or its last record, has grown since it was read.
            if next.is_none() && self.missed == 0 && self.read_on().is_ok() {
                next = self.replay.next();
            }
        }
        let tick = match next {
            None => return self.miss(Played::End),
            Some(Err(error)) => return self.miss(Played::Failed(error.to_string())),
            Some(Ok(tick)) => tick,
        };
        self.missed = 0;
        match (tick.divergence, tick.outcome) {
            (Some(divergence), _) => self.skip(Played::Failed(divergence.to_string())),
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

    /// Goes on in the next segment, where this one is said to be over, for whatever reason. False: it is not.
    fn turn_over(&mut self) -> Result<bool, TapeError> {
        let is_over = self.replay.end().is_some();
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
        if self.tape.is_live() && self.missed <= READS_MAX { Played::NotYet } else { self.skip(otherwise) }
    }

    /// Goes on in the next segment that can be played, once its first tick may be seen. `otherwise` is said where there is none.
    fn skip(&mut self, otherwise: Played) -> Played {
        let before = self.frame().tick;
        match Self::behind(&self.tape, self.segment.number, before) {
            Ok(Behind::Deck(deck)) => *self = *deck,
            Ok(Behind::NotBefore(first)) => {
                self.not_before = Some(first);
                return Played::NotYet;
            }
            Err(_) => return otherwise,
        }
        if self.frame().tick > before { Played::Jump(Arc::clone(self.frame())) } else { Played::NotYet }
    }
}

/// Finds the recording to play from to a tick.
type Find = Box<dyn Fn(Tick) -> Result<Recording, RecordingError>>;

/// A replay that stands at `tick`, or at the last that there is before it, and the segment that it is of. `find` looks for what
/// there is.
fn replay_at(
    find: impl Fn() -> Result<Find, TapeError>,
    game: &Arc<dyn Game>,
    tick: Tick,
    stop: &dyn Fn() -> bool,
) -> Result<(Segment, Replay), TapeError> {
    let look = || {
        let find = find()?;
        let at = |tick| -> Result<(Segment, Replay), TapeError> {
            let recording = find(tick)?;
            let replay = Replay::at_unless(&recording, Arc::clone(game), tick, stop)?;
            Ok((recording.meta().segment.clone(), replay))
        };
        match at(tick) {
            Err(TapeError::Replay(ReplayError::BeyondEnd { last, .. })) => at(last),
            Err(TapeError::Replay(ReplayError::BeforeOrigin { tick, origin })) => {
                Err(TapeError::Deleted { tick, first: origin.next() })
            }
            found => found,
        }
    };
    match look() {
        // Its segment has been finished since it was found, which gives it another name, or deleted.
        Err(error) if error.is_gone() => look(),
        found => found,
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, fs};

    use tickwire_arena::Arena;
    use tickwire_recording::{finished_path, live_path};

    use super::*;

    const RECORDED: &[u8] = include_bytes!("../../../tests/recordings/deathmatch-60hz.mcap");

    #[test]
    fn a_segment_that_is_finished_while_it_is_opened_is_found_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let [live, finished] = [live_path, finished_path].map(|path| path(directory.path(), "arena-1"));
        fs::write(&live, RECORDED).expect("a file");
        let looks = Cell::new(0);
        let find = || {
            looks.set(looks.get() + 1);
            let (live, finished) = (live.clone(), finished.clone());
            Ok(Box::new(move |_| {
                let recording = Recording::open(if live.exists() { &live } else { &finished });
                if live.exists() {
                    fs::rename(&live, &finished).expect("it is there");
                }
                recording
            }) as Find)
        };
        let game: Arc<dyn Game> = Arc::new(Arena);
        let (_, replay) = replay_at(find, &game, Tick(5), &|| false).expect("it is there, by another name");
        assert_eq!((replay.session().tick(), looks.get()), (Tick(5), 2));
        // What is nowhere is not looked for for ever.
        fs::remove_file(&finished).expect("it is there");
        let gone = || {
            let finished = finished.clone();
            Ok(Box::new(move |_| Recording::open(&finished)) as Find)
        };
        assert!(replay_at(gone, &game, Tick(5), &|| false).expect_err("it is nowhere").is_gone());
    }
}
