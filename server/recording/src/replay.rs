//! Playing a recording again, through the very code that played it first.

use std::sync::Arc;

use tickwire_shared::{Digest, Game, Schema, Tick, Truth};
use tickwire_simulation::{Session, SessionConfig, TickOutput, TickPanic};

use crate::{
    Divergence, End, EndReason, RecordedKeyframe, RecordedResult, RecordedTick, Recording, ReplayError, Ticks,
    VerifyError, origin::Origin,
};

/// A recording that is being played again, tick by tick.
///
/// An error, a panic or a divergence is the last item.
#[derive(Debug)]
pub struct Replay {
    session: Session,
    ticks: Ticks,
    last: Tick,
    /// What was recorded, up to this tick.
    truth: Truth,
    settled: Tick,
    /// Of the keyframe that it went on from, or 0.
    begun_at: Tick,
    over: bool,
}

/// One tick, played again.
#[derive(Debug)]
pub struct ReplayedTick {
    /// As it was recorded.
    pub recorded: RecordedTick,
    /// As it came out now.
    pub outcome: Result<TickOutput, TickPanic>,
    /// Where the two part.
    pub divergence: Option<Box<Divergence>>,
}

/// A recording whose replay yields what was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// How many ticks were compared.
    pub ticks: u64,
    /// The last state hash.
    pub state_hash: u64,
    /// All state hashes in one number: two replays of one recording print the same.
    pub digest: u64,
    /// The panic at the recording's last tick, which the replay reproduced.
    pub panic: Option<TickPanic>,
    /// How the recording ended; `None` where it just stops, or was not played to its end.
    pub end: Option<End>,
}

impl Replay {
    /// A session as the recording's was created; of a segment behind the first one, as it was before its first tick.
    ///
    /// # Errors
    /// Where `game` is not the recording's, or the session cannot be created.
    pub fn new(recording: &Recording, game: Arc<dyn Game>) -> Result<Self, ReplayError> {
        Self::with(recording, game, recording.meta().session_config(), |_| {})
    }

    /// As [`new`](Self::new), with what no tick's outcome depends on as `config` has it. `restoring` is told before the game
    /// restores a keyframe, and after it.
    pub(crate) fn with(
        recording: &Recording,
        game: Arc<dyn Game>,
        config: SessionConfig,
        mut restoring: impl FnMut(bool),
    ) -> Result<Self, ReplayError> {
        check_game(recording, &game)?;
        let origin = Origin::of(recording)?;
        restoring(origin.keyframe().is_some());
        let session = origin.session(recording, &game, config, None);
        restoring(false);
        let session = session?;
        let (ticks, truth, begun_at) = (recording.ticks()?, origin.truth(recording), recording.origin_tick());
        Ok(Self { session, ticks, last: Tick::MAX, truth, settled: begun_at, begun_at, over: false })
    }

    /// A session as the recording's was after `tick`: what is played from here on is the ticks after it.
    ///
    /// It goes on from the newest good keyframe up to there, and plays the rest. One that is damaged, or of another build of
    /// the game, or that does not come to what was recorded, is passed over for an older one, in the end for the first tick;
    /// the log says so.
    ///
    /// # Errors
    /// As [`new`](Self::new); and where the recording does not reach `tick`, cannot be read so far, or its replay panics or
    /// differs on the way.
    pub fn at(recording: &Recording, game: Arc<dyn Game>, tick: Tick) -> Result<Self, ReplayError> {
        Self::at_unless(recording, game, tick, || false)
    }

    /// As [`at`](Self::at), unless `stop` comes true on the way: it is asked before each tick.
    ///
    /// # Errors
    /// As there; [`ReplayError::Stopped`] where it did.
    pub fn at_unless(
        recording: &Recording,
        game: Arc<dyn Game>,
        tick: Tick,
        stop: impl Fn() -> bool,
    ) -> Result<Self, ReplayError> {
        let mut replay = match Self::nearest(recording, &game, tick, &recording.meta().session_config(), 0, |_| {}) {
            Some(replay) => replay,
            None => Self::new(recording, game)?,
        };
        if replay.session.tick() > tick {
            return Err(ReplayError::BeforeOrigin { tick, origin: replay.session.tick() });
        }
        while replay.session.tick() < tick {
            let last = replay.session.tick();
            if stop() {
                return Err(ReplayError::Stopped { at: last, of: tick });
            }
            let ReplayedTick { outcome, divergence, .. } =
                replay.next().unwrap_or(Err(ReplayError::BeyondEnd { tick, last }))?;
            outcome.map_err(ReplayError::Panicked)?;
            if let Some(divergence) = divergence {
                return Err(ReplayError::Diverged(divergence));
            }
        }
        Ok(replay)
    }

    /// A replay from the newest good keyframe up to a tick behind `passed_over` others, as with [`with`](Self::with).
    pub(crate) fn nearest(
        recording: &Recording,
        game: &Arc<dyn Game>,
        tick: Tick,
        config: &SessionConfig,
        passed_over: usize,
        mut restoring: impl FnMut(bool),
    ) -> Option<Self> {
        if game.name() != recording.meta().schema.game {
            return None;
        }
        recording.keyframes_until(tick).skip(passed_over).find_map(|(keyframe, ticks)| {
            let game = (Arc::clone(game), config.clone());
            let replay = Self::from_keyframe(recording, game, &keyframe, ticks, &mut restoring);
            replay
                .inspect_err(|error| tracing::warn!(tick = keyframe.tick.0, "a keyframe is passed over: {error}"))
                .ok()
        })
    }

    fn from_keyframe(
        recording: &Recording,
        (game, config): (Arc<dyn Game>, SessionConfig),
        keyframe: &RecordedKeyframe,
        ticks: Ticks,
        mut restoring: impl FnMut(bool),
    ) -> Result<Self, ReplayError> {
        let meta = recording.meta();
        let keyframe = keyframe.open(&meta.schema)?;
        restoring(true);
        let session = Session::restore(game, config, &keyframe);
        restoring(false);
        let session = session?;
        check_schema(&meta.schema, session.schema())?;
        let (truth, begun_at) = (keyframe.truth(&meta.schema), keyframe.tick());
        Ok(Self { session, ticks, last: Tick::MAX, truth, settled: begun_at, begun_at, over: false })
    }

    /// Plays no further than `last`.
    #[must_use]
    pub fn until(mut self, last: Tick) -> Self {
        self.last = last;
        self
    }

    /// Goes on in a recording that has grown since this had come to its end: the file is read anew, up to the tick that is
    /// next. Not after a tick that broke.
    ///
    /// # Errors
    /// Where the recording cannot be read up to there.
    pub fn read_on(&mut self, recording: &Recording) -> Result<(), ReplayError> {
        let mut ticks = recording.ticks()?;
        for _ in recording.origin_tick().0..self.session.tick().0 {
            let Some(tick) = ticks.next().transpose()? else { break };
            // The newest may have been read before its result was written.
            if let Some(result) = tick.result.filter(|result| result.tick > self.settled) {
                self.settle(&result)?;
            }
        }
        (self.ticks, self.over) = (ticks, false);
        Ok(())
    }

    /// Goes on in the next segment of the session's recording, once all ticks of this one are played. Not after a tick that
    /// broke.
    ///
    /// # Errors
    /// Where it cannot be read, or is not the next one.
    pub fn go_on_in(&mut self, next: &Recording) -> Result<(), ReplayError> {
        let (tick, origin) = (self.session.tick(), next.origin_tick());
        if origin != tick {
            return Err(ReplayError::BeforeOrigin { tick, origin });
        }
        (self.ticks, self.over) = (next.ticks()?, false);
        Ok(())
    }

    /// The keyframe's tick that it went on from; 0: it plays from the first tick.
    #[must_use]
    pub fn begun_at(&self) -> Tick {
        self.begun_at
    }

    /// The session, at the newest tick.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// How the recording ended, once all ticks are played.
    #[must_use]
    pub fn end(&self) -> Option<&End> {
        self.ticks.end()
    }

    /// Plays all ticks and compares each with the recorded one, handing it to `each` first.
    ///
    /// A panic at the last tick of a recording that has no result for it is what was recorded, and counts as reproduced.
    /// Where the server was killed, that tick may as well go well now.
    ///
    /// # Errors
    /// The first divergence, or what keeps the replay from going on.
    pub fn verify(mut self, mut each: impl FnMut(&ReplayedTick)) -> Result<Verified, VerifyError> {
        let mut verified = Verified { ticks: 0, state_hash: 0, digest: 0, panic: None, end: None };
        let first = self.session.tick().0;
        let mut hashes = Digest::default();
        // A tick without result, that went well now.
        let mut unfinished = None;
        for tick in self.by_ref() {
            let tick = tick.map_err(|source| VerifyError::Replay { verified: Tick(first + verified.ticks), source })?;
            each(&tick);
            let ReplayedTick { recorded: RecordedTick { input, result }, outcome, divergence } = tick;
            if let Some(divergence) = divergence {
                return Err(VerifyError::Diverged(divergence));
            }
            match (result, outcome) {
                (Some(_), Err(panic)) => return Err(VerifyError::Panicked(panic)),
                (None, Err(panic)) => verified.panic = Some(panic),
                (None, Ok(_)) => unfinished = Some(input.tick),
                (Some(recorded), Ok(_)) => {
                    hashes.write(recorded.state_hash);
                    verified.ticks += 1;
                    verified.state_hash = recorded.state_hash;
                }
            }
        }
        verified.digest = hashes.finish();
        verified.end = self.end().cloned();
        let failed = match &verified.end {
            Some(End { reason: EndReason::Failed { message }, tick, .. }) => {
                Some(TickPanic { tick: *tick, message: message.clone() })
            }
            _ => None,
        };
        match (&verified.panic, failed) {
            (None, Some(failed)) if unfinished == Some(failed.tick) => Err(VerifyError::NotReproduced(failed)),
            // Without an end of its own, the server itself may have gone down with the panic.
            (Some(panic), failed)
                if verified.end.as_ref().is_some_and(|end| end.reason != EndReason::Killed)
                    && failed.as_ref().map(|failed| failed.tick) != Some(panic.tick) =>
            {
                Err(VerifyError::Panicked(panic.clone()))
            }
            _ => Ok(verified),
        }
    }

    /// The session, at the newest tick.
    pub(crate) fn into_session(self) -> Session {
        self.session
    }

    fn play(&mut self, recorded: RecordedTick) -> Result<ReplayedTick, ReplayError> {
        if let Some(recovered) = self.ticks.recovered().last()
            && recovered.epoch != self.session.config().epoch
        {
            self.session.begin_epoch(recovered.epoch);
        }
        self.session.check_tick(&recorded.input)?;
        let outcome = self.session.finish_tick(&recorded.input);
        let mut divergence = None;
        if let (Some(there), Ok(output)) = (&recorded.result, &outcome) {
            if *there != output.result {
                let here = RecordedResult::from(output.result.clone());
                let found = Divergence::between(self.session.schema(), &self.truth, there, &here);
                divergence = Some(Box::new(found.map_err(|source| ReplayError::Truth { tick: there.tick, source })?));
            }
            self.settle(there)?;
        }
        self.over = divergence.is_some() || outcome.is_err();
        Ok(ReplayedTick { recorded, outcome, divergence })
    }
}

impl Replay {
    /// Takes in what was recorded of the next tick.
    fn settle(&mut self, there: &RecordedResult) -> Result<(), ReplayError> {
        self.truth.apply(&there.truth).map_err(|source| ReplayError::Truth { tick: there.tick, source })?;
        self.settled = there.tick;
        Ok(())
    }

    /// The next tick; `before` is called with its number before the game is.
    pub(crate) fn next_after(&mut self, before: impl FnOnce(Tick)) -> Option<Result<ReplayedTick, ReplayError>> {
        if self.session.tick() >= self.last {
            return None;
        }
        let played = match self.ticks.next()? {
            // After a tick that broke, only how the recording ends is of interest.
            Ok(_) if self.over => return None,
            Ok(tick) => {
                before(tick.input.tick);
                self.play(tick)
            }
            Err(error) => Err(error.into()),
        };
        self.over |= played.is_err();
        Some(played)
    }
}

impl Iterator for Replay {
    type Item = Result<ReplayedTick, ReplayError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_after(|_| {})
    }
}

pub(crate) fn check_game(recording: &Recording, game: &Arc<dyn Game>) -> Result<(), ReplayError> {
    if game.name() == recording.meta().schema.game {
        return Ok(());
    }
    Err(unknown_game(recording, std::slice::from_ref(game)))
}

pub(crate) fn check_schema(recorded: &Schema, present: &Schema) -> Result<(), ReplayError> {
    if recorded.hash() == present.hash() {
        return Ok(());
    }
    Err(ReplayError::Schema {
        game: recorded.game.clone(),
        recorded_version: recorded.version,
        recorded: recorded.hash(),
        present_version: present.version,
        present: present.hash(),
    })
}

/// Plays a recording again and compares every tick.
///
/// # Errors
/// The first divergence, or what keeps the replay from going on.
pub fn verify(recording: &Recording, game: Arc<dyn Game>) -> Result<Verified, VerifyError> {
    let replay = Replay::new(recording, game);
    replay.map_err(|source| VerifyError::Replay { verified: Tick::ZERO, source })?.verify(|_| {})
}

/// The game that a recording is of.
///
/// # Errors
/// Where it is not among `games`.
pub fn game_of(recording: &Recording, games: &[Arc<dyn Game>]) -> Result<Arc<dyn Game>, ReplayError> {
    let found = games.iter().find(|game| game.name() == recording.meta().schema.game);
    found.cloned().ok_or_else(|| unknown_game(recording, games))
}

fn unknown_game(recording: &Recording, games: &[Arc<dyn Game>]) -> ReplayError {
    let known: Vec<&str> = games.iter().map(|game| game.name()).collect();
    ReplayError::UnknownGame { game: recording.meta().schema.game.clone(), known: known.join(", ") }
}
