//! A session: its commands, and its two-step tick.

use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use tickwire_shared::{Blueprint, Frame, Game, PlayerId, SaveError, Saves, Schema, Settings, SettingsError, Tick};

use crate::{
    Input, InputCounters, InputVerdict, JoinError, Keyframe, RestoreError, SessionConfig, SessionError, SystemWatch,
    TickInput, TickInputError, TickOutput, TickPanic, intake::Intake, keyframe, simulation::Simulation,
};

/// The most characters of a panic's message that are kept.
const PANIC_MESSAGE_CHARS_MAX: usize = 1000;

/// One running match.
///
/// Commands ([`join`](Self::join), [`input`](Self::input), …) may come in any order between ticks, and take effect at the
/// next [`begin_tick`](Self::begin_tick). They cannot fail a tick.
///
/// A panic of the game ends this session and nothing else: the tick yields a [`TickPanic`], the world is dropped, and every
/// further tick yields the same.
pub struct Session {
    game: Arc<dyn Game>,
    config: SessionConfig,
    schema: Arc<Schema>,
    settings: Settings,
    saves: Saves,
    frame: Arc<Frame>,
    intake: Intake,
    simulation: Result<Box<Simulation>, TickPanic>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("game", &self.schema.game).field("intake", &self.intake).finish_non_exhaustive()
    }
}

impl Session {
    /// A session at tick 0: the game's world as created.
    ///
    /// # Errors
    /// Where the game's definition, the settings or the order of the game's systems are wrong, or the game panics.
    pub fn new(game: Arc<dyn Game>, config: SessionConfig) -> Result<Self, SessionError> {
        Self::create(game, config, None)
    }

    /// As [`new`](Self::new), with `watch` between its systems: all ticks come out as those of any other session.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn watched(game: Arc<dyn Game>, config: SessionConfig, watch: &SystemWatch) -> Result<Self, SessionError> {
        Self::create(game, config, Some(watch))
    }

    fn create(game: Arc<dyn Game>, config: SessionConfig, watch: Option<&SystemWatch>) -> Result<Self, SessionError> {
        let Plan { blueprint, settings, saves } = Plan::of(&*game, &config)?;
        let schema = Arc::clone(&blueprint.schema);
        let simulation = Simulation::new(Arc::clone(&game), blueprint, &settings, &config, watch)?;
        let intake = Intake::new(config.limits, config.tick_rate);
        Ok(Self::of(game, config, (schema, settings, saves), intake, simulation))
    }

    fn of(
        game: Arc<dyn Game>,
        config: SessionConfig,
        (schema, settings, saves): (Arc<Schema>, Settings, Saves),
        intake: Intake,
        simulation: Simulation,
    ) -> Self {
        let frame = Arc::clone(simulation.frame());
        Self { intake, frame, simulation: Ok(Box::new(simulation)), game, config, schema, settings, saves }
    }

    /// The session that `keyframe` was taken of, at its tick: from here on it yields the same as the other one, for the same
    /// commands. `config` is that of the other one, except for the epoch.
    ///
    /// Inputs that waited for their ticks still do, and the seats of lost connections are kept for what is left of their
    /// grace.
    ///
    /// # Errors
    /// Where there could be no new session either; where the game's build is not the one that saved, or the keyframe is not
    /// of this session; and where the restored world is not exactly what it was.
    pub fn restore(game: Arc<dyn Game>, config: SessionConfig, keyframe: &Keyframe) -> Result<Self, RestoreError> {
        let Plan { blueprint, settings, saves } = Plan::of(&*game, &config)?;
        if saves.is_empty() {
            return Err(RestoreError::NothingSaved { game: game.name().to_owned() });
        }
        let (expected, found) = (keyframe::layout(&saves), keyframe.layout());
        if expected != found {
            return Err(RestoreError::Layout { expected, found });
        }
        let schema = Arc::clone(&blueprint.schema);
        if keyframe.schema() != schema.hash() {
            return Err(RestoreError::Schema { expected: schema.hash(), found: keyframe.schema() });
        }
        let (simulation, intake, frames) = keyframe.parts();
        let limits = (config.limits, config.tick_rate);
        let intake = Intake::restore(intake, limits, &schema, keyframe.tick(), &simulation.seated());
        let intake = intake.map_err(RestoreError::State)?;
        let simulation =
            Simulation::restore(Arc::clone(&game), (blueprint, &saves), (&settings, &config), simulation, frames)?;
        Ok(Self::of(game, config, (schema, settings, saves), intake, simulation))
    }

    /// All of the session as it stands between two ticks; `None` before the first tick, at the session's end, and where the
    /// game [saves](Game::saves) nothing.
    ///
    /// # Errors
    /// Where the game's part cannot be saved.
    ///
    /// # Panics
    /// Where a tick was begun and not finished.
    pub fn keyframe(&self) -> Result<Option<Keyframe>, SaveError> {
        let Ok(simulation) = &self.simulation else { return Ok(None) };
        assert_eq!(self.intake.tick(), self.tick(), "finish the tick that was begun before a keyframe is taken");
        if self.saves.is_empty() || self.tick() == Tick::ZERO {
            return Ok(None);
        }
        Ok(Some(Keyframe::new((&self.schema, &self.saves), simulation.save(&self.saves)?, self.intake.save())))
    }

    /// Whether the game saves anything, so that there can be keyframes.
    #[must_use]
    pub fn has_keyframes(&self) -> bool {
        !self.saves.is_empty()
    }

    /// What the session is of.
    #[must_use]
    pub fn game(&self) -> &Arc<dyn Game> {
        &self.game
    }

    /// What the session was created with.
    #[must_use]
    pub fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// The game's schema.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// All settings, defaults among them.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The newest frame: before the first tick the empty one of tick 0.
    #[must_use]
    pub fn frame(&self) -> &Arc<Frame> {
        &self.frame
    }

    /// The newest finished tick.
    #[must_use]
    pub fn tick(&self) -> Tick {
        self.frame.tick
    }

    /// What the game has ended the match with: a result as JSON, which may be empty, or be none. `None`: it goes on. Whoever
    /// steps the session is to stop then.
    #[must_use]
    pub fn match_end(&self) -> Option<&str> {
        self.simulation.as_ref().ok()?.match_end()
    }

    /// Seats a player at the next tick. An empty name is replaced by `player-N`.
    ///
    /// # Errors
    /// Where all seats are taken, those of lost connections within their grace period among them, or nobody may bear the name.
    pub fn join(&mut self, name: &str) -> Result<PlayerId, JoinError> {
        self.intake.join(name)
    }

    /// Notes the loss of a player's connection: the seat is kept for the grace period, and inputs that have come are
    /// used.
    pub fn disconnect(&mut self, player: PlayerId) {
        self.intake.disconnect(player);
    }

    /// Notes that everybody has lost their connection, as with the server that a recovered session was on: all seats are kept
    /// for the grace period from here on, those of who had been lost before, too. Inputs that wait for their ticks are dropped.
    pub fn disconnect_all(&mut self) {
        self.intake.disconnect_all();
    }

    /// Has the newest frame, and all that come, be of `epoch`: whoever has seen frames of another one is to forget them. What
    /// ticks yield does not depend on it.
    pub fn begin_epoch(&mut self, epoch: u32) {
        self.config.epoch = epoch;
        if let Ok(simulation) = &mut self.simulation {
            simulation.set_epoch(epoch);
            self.frame = Arc::clone(simulation.frame());
        }
    }

    /// Gives a player their seat back, if it still is theirs. Inputs of the old connection that no tick has consumed are
    /// dropped.
    #[must_use]
    pub fn reconnect(&mut self, player: PlayerId) -> bool {
        self.intake.reconnect(player)
    }

    /// Gives a seat up, as soon as what the player has sent is consumed: within the second that inputs may be ahead.
    pub fn leave(&mut self, player: PlayerId) {
        self.intake.leave(player);
    }

    /// Buffers a player's input until its tick.
    pub fn input(&mut self, player: PlayerId, input: Input) -> InputVerdict {
        self.intake.input(player, input)
    }

    /// The seats that are taken: of those who play, who have lost their connection, and who sit down at the next tick.
    #[must_use]
    pub fn seats_taken(&self) -> u32 {
        self.intake.seats_taken()
    }

    /// The newest input sequence of a player that a tick has consumed; 0 where there is none.
    #[must_use]
    pub fn consumed_input(&self, player: PlayerId) -> u64 {
        self.frame.seat(player).map_or(0, |seat| seat.consumed_input)
    }

    /// What became of all inputs so far.
    #[must_use]
    pub fn counters(&self) -> &InputCounters {
        self.intake.counters()
    }

    /// The tick's first step: decides what it consumes. Record it before the second step, so that the cause of a panic is
    /// in the log.
    ///
    /// # Panics
    /// Where the tick before was begun and not finished.
    pub fn begin_tick(&mut self) -> TickInput {
        let unfinished = self.simulation.is_ok() && self.intake.tick() != self.tick();
        assert!(!unfinished, "finish tick {} before the next one begins", self.intake.tick());
        self.intake.begin_tick()
    }

    /// Whether `input` can be the next tick's. Ask before [`finish_tick`](Self::finish_tick) where it comes from a file.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check_tick(&self, input: &TickInput) -> Result<(), TickInputError> {
        self.simulation.as_ref().map_or(Ok(()), |simulation| simulation.check(input))
    }

    /// The tick's second step: plays it. Replay calls it with recorded inputs, and never the first step.
    ///
    /// # Errors
    /// Where the game panics, at this tick or before. The session is then at its end.
    ///
    /// # Panics
    /// Where [`check_tick`](Self::check_tick) refuses `input`.
    pub fn finish_tick(&mut self, input: &TickInput) -> Result<TickOutput, TickPanic> {
        let simulation = self.simulation.as_mut().map_err(|panic| panic.clone())?;
        if let Err(error) = simulation.check(input) {
            panic!("not the session's next tick: {error}");
        }
        if self.intake.tick() < input.tick {
            self.intake.follow(input);
        }
        match guarded(|| simulation.step(input)) {
            Ok(output) => {
                self.frame = Arc::clone(&output.frame);
                Ok(output)
            }
            Err(message) => {
                let panic = TickPanic { tick: input.tick, message };
                tracing::error!(game = self.schema.game, tick = input.tick.0, "the session ended: {}", panic.message);
                self.simulation = Err(panic.clone());
                Err(panic)
            }
        }
    }
}

/// What a game says of itself, for one session.
struct Plan {
    blueprint: Blueprint,
    settings: Settings,
    saves: Saves,
}

impl Plan {
    fn of(game: &dyn Game, config: &SessionConfig) -> Result<Self, SessionError> {
        let name = || game.name().to_owned();
        let panicked = |step| move |message| SessionError::Panicked { game: name(), step, message };
        let blueprint = guarded(|| Blueprint::of(game))
            .map_err(panicked("define"))?
            .map_err(|source| SessionError::Schema { game: name(), source })?;
        let mut settings = Settings::from_values(&blueprint.schema, &config.settings)?;
        for (name, value) in &config.named_settings {
            settings.set(name, *value)?;
        }
        guarded(|| game.check_settings(&settings))
            .map_err(panicked("check_settings"))?
            .map_err(SettingsError::Refused)?;
        let mut saves = Saves::default();
        guarded(|| game.saves(&mut saves)).map_err(panicked("saves"))?;
        Ok(Self { blueprint, settings, saves })
    }
}

/// Calls the game; what it panics with, in words.
pub(crate) fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    // Whatever a panic leaves half done is dropped, never used again.
    catch_unwind(AssertUnwindSafe(call)).map_err(message)
}

fn message(payload: Box<dyn Any + Send>) -> String {
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text.as_str(),
        (None, None) => "a panic without a message",
    };
    let message = text.chars().take(PANIC_MESSAGE_CHARS_MAX).collect();
    // A payload of the game's own may panic when it is dropped.
    std::mem::forget(payload);
    message
}
