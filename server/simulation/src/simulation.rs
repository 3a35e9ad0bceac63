//! From what a tick consumes to what comes out of it: the game's world, its systems, and the capture of its state.

mod saved;

use std::{collections::BTreeMap, sync::Arc};

use bevy_ecs::{
    change_detection::{DetectChanges as _, Tick as ChangeTick},
    error::FallbackErrorHandler,
    query::QueryState,
    schedule::{LogLevel, Schedule, ScheduleBuildSettings, SingleThreadedExecutor, SystemKey},
    system::System as _,
    world::World,
};
use tickwire_shared::{
    Blueprint, Clock, Digest, Frame, FrameBuilder, Game, Inputs, KindBinding, MatchEnd, NetId, NetIds, NumberMap,
    Outbox, Owner, Past, PlayerId, Provenance, Randomness, Schema, Scores, Seat, SeatExtras, Seats, Settings, Systems,
    Tick, TickExtras, TickRate,
};

use crate::{
    SeatChange, SeatInput, SessionConfig, SessionError, TickInput, TickInputError, TickOutput, TickResult,
    input::check_ranges, name, roster::RosterKeeper, session::guarded, sight::Sight, watch::SystemWatch,
};

pub(crate) use saved::SavedSimulation;

/// The most events of one tick; further ones are dropped, and their audience is told of a loss.
pub const EVENTS_PER_TICK_MAX: usize = 4096;

/// The half of a session that plays. It knows nothing but the `TickInput`s so far: what commands have been given since, it
/// cannot see.
pub(crate) struct Simulation {
    game: Arc<dyn Game>,
    schema: Arc<Schema>,
    rate: TickRate,
    max_players: u32,
    world: World,
    schedule: Schedule,
    /// The game's systems, in the order in which it has added them.
    systems: Vec<SystemKey>,
    kinds: Vec<KindBinding>,
    owners: QueryState<(&'static NetId, &'static Owner)>,
    /// Each player's own entity, at the newest tick.
    owned: NumberMap<PlayerId, NetId>,
    builder: FrameBuilder,
    tick: Tick,
    last_player: PlayerId,
    seats: BTreeMap<PlayerId, SeatState>,
    roster: RosterKeeper,
}

#[derive(Debug)]
struct SeatState {
    seat: Seat,
    /// The newest sequence consumed.
    consumed_input: u64,
    sight: Sight,
}

impl Simulation {
    /// A game's world as created, with its systems in order.
    pub(crate) fn new(
        game: Arc<dyn Game>,
        blueprint: Blueprint,
        settings: &Settings,
        config: &SessionConfig,
        watch: Option<&SystemWatch>,
    ) -> Result<Self, SessionError> {
        Self::with_runs(game, blueprint, settings, config, watch, |_, _| Vec::new())
    }

    /// As [`new`](Self::new), with systems that last ran at certain times of the world, which follow from how many there are.
    fn with_runs(
        game: Arc<dyn Game>,
        blueprint: Blueprint,
        settings: &Settings,
        config: &SessionConfig,
        watch: Option<&SystemWatch>,
        runs: impl FnOnce(&World, usize) -> Vec<ChangeTick>,
    ) -> Result<Self, SessionError> {
        let Blueprint { schema, kinds, events } = blueprint;
        let (rate, seed) = (config.tick_rate, config.seed);
        let mut world = World::new();
        world.insert_resource(FallbackErrorHandler(bevy_ecs::error::panic));
        world.insert_resource(Clock { tick: Tick::ZERO, rate });
        world.insert_resource(Randomness { seed, tick: Tick::ZERO });
        world.insert_resource(Inputs::new(schema.inputs.clone()));
        world.insert_resource(Past::new(&schema, rate, config.limits.rewind_ms));
        world.insert_resource(Seats::default());
        world.insert_resource(Scores::new(schema.scores.len()));
        world.insert_resource(Outbox::new(&events, EVENTS_PER_TICK_MAX));
        world.insert_resource(NetIds::default());
        world.insert_resource(settings.clone());
        world.insert_resource(MatchEnd::default());
        let panicked = |step| {
            let game = game.name().to_owned();
            move |message| SessionError::Panicked { game, step, message }
        };
        let (mut schedule, systems) = guarded(|| assemble(&game, &mut world, watch)).map_err(panicked("systems"))?;
        guarded(|| game.setup(&mut world, settings)).map_err(panicked("setup"))?;
        for (key, last_run) in systems.iter().zip(runs(&world, systems.len())) {
            if let Some(system) = schedule.graph_mut().systems.get_mut(*key) {
                system.set_last_run(last_run);
            }
        }
        build(&*game, &mut schedule, &mut world)?;
        if let Some(watch) = watch {
            watch.name_systems(&schedule);
        }
        Ok(Self {
            owners: QueryState::new(&mut world),
            owned: NumberMap::default(),
            builder: FrameBuilder::new(&schema, config.epoch),
            roster: RosterKeeper::new(schema.scores.len(), rate),
            max_players: config.limits.max_players,
            tick: Tick::ZERO,
            last_player: PlayerId(0),
            seats: BTreeMap::new(),
            game,
            schema,
            rate,
            world,
            schedule,
            systems,
            kinds,
        })
    }

    /// The newest frame: before the first tick the empty one of tick 0.
    pub(crate) fn frame(&self) -> &Arc<Frame> {
        self.builder.frame()
    }

    /// Has the newest frame, and all that come, be of another epoch.
    pub(crate) fn set_epoch(&mut self, epoch: u32) {
        self.builder.set_epoch(epoch);
    }

    /// Whether `record` can be the next tick's: what a recording says is checked before the world sees it.
    pub(crate) fn check(&self, record: &TickInput) -> Result<(), TickInputError> {
        let (expected, tick) = (self.tick.next(), record.tick);
        if tick != expected {
            return Err(TickInputError::Tick { expected, given: tick });
        }
        let seated = self.check_seats(record)?;
        if !seated.iter().map(|(player, _)| player).eq(record.inputs.iter().map(|input| &input.player)) {
            return Err(TickInputError::Seats { tick });
        }
        let mut inputs = record.inputs.iter().zip(seated);
        inputs.try_for_each(|(input, (_, consumed))| self.check_input(tick, input, consumed))
    }

    /// Who sits after the record's seat changes, in order, each with the newest sequence consumed.
    fn check_seats(
        &self,
        TickInput { tick, seat_changes, .. }: &TickInput,
    ) -> Result<Vec<(PlayerId, u64)>, TickInputError> {
        let mut seated = Vec::with_capacity(self.seats.len() + seat_changes.len());
        seated.extend(self.seats.iter().map(|(player, state)| (*player, state.consumed_input)));
        let mut before: Option<&SeatChange> = None;
        let mut last_player = self.last_player;
        for change in seat_changes {
            let player = change.player();
            let wrong = |reason| Err(TickInputError::SeatChange { tick: *tick, player, reason });
            let joined_now = matches!(before, Some(SeatChange::Joined { player: joined, .. }) if *joined == player);
            if before.is_some_and(|before| before.player() >= player) && !joined_now {
                return wrong("it is not in order of player");
            }
            let connected = joined_now.then_some(true).or(self.seats.get(&player).map(|state| state.seat.connected));
            match (change, connected) {
                (SeatChange::Joined { name, .. }, None) if player > last_player => {
                    name::check(name).map_err(|source| TickInputError::Name { tick: *tick, player, source })?;
                    last_player = player;
                    seated.push((player, 0));
                }
                (SeatChange::Joined { .. }, _) => return wrong("joined, under a number that has been used"),
                (SeatChange::Disconnected { .. }, Some(true)) => {}
                (SeatChange::Reconnected { .. }, Some(false)) => {}
                (SeatChange::Left { .. }, Some(_)) if !joined_now => seated.retain(|(other, _)| *other != player),
                (_, None) => return wrong("the player has no seat"),
                _ => return wrong("the seat is so already"),
            }
            if seated.len() > self.max_players as usize {
                return wrong("joined, though all seats are taken");
            }
            before = Some(change);
        }
        Ok(seated)
    }

    fn check_input(&self, tick: Tick, input: &SeatInput, consumed: u64) -> Result<(), TickInputError> {
        let SeatInput { player, provenance, sequence, ref values, seen } = *input;
        let wrong = |reason| Err(TickInputError::Input { tick, player, reason });
        if provenance != Provenance::Fresh {
            let is_bare = sequence == 0 && values.is_empty() && seen.is_none();
            return if is_bare { Ok(()) } else { wrong("only fresh inputs have values") };
        }
        if sequence <= consumed {
            return wrong("its sequence does not rise");
        }
        if values.len() != self.schema.inputs.len() {
            return wrong("it has another number of values than the schema has input fields");
        }
        check_ranges(&self.schema, values).map_err(|source| TickInputError::Values { tick, player, source })
    }

    /// Plays one tick of a record that has been [checked](Self::check).
    ///
    /// # Panics
    /// Where the game does.
    pub(crate) fn step(&mut self, record: &TickInput) -> TickOutput {
        self.tick = record.tick;
        self.feed(record);
        self.schedule.run(&mut self.world);
        self.capture(record)
    }

    /// Puts into the world what the tick consumes.
    fn feed(&mut self, record: &TickInput) {
        self.world.resource_mut::<Clock>().tick = self.tick;
        self.world.resource_mut::<Randomness>().tick = self.tick;
        let mut inputs = self.world.resource_mut::<Inputs>();
        let (mut joined, mut left) = (Vec::new(), Vec::new());
        for change in &record.seat_changes {
            match change {
                SeatChange::Joined { player, name } => {
                    let seat = Seat { name: Arc::clone(name), connected: true };
                    self.seats.insert(*player, SeatState { seat, consumed_input: 0, sight: Sight::default() });
                    self.last_player = *player;
                    inputs.seat(*player);
                    joined.push(*player);
                }
                SeatChange::Left { player } => {
                    self.seats.remove(player);
                    inputs.unseat(*player);
                    left.push(*player);
                }
                SeatChange::Disconnected { player } | SeatChange::Reconnected { player } => {
                    let state = self.seats.get_mut(player).expect("the record was checked: the player sits");
                    state.seat.connected = matches!(change, SeatChange::Reconnected { .. });
                }
            }
        }
        // The record was checked: it has an input for each seat, in the same order.
        for (input, (seated, state)) in record.inputs.iter().zip(&mut self.seats) {
            let SeatInput { player, provenance, sequence, values, seen } = input;
            debug_assert_eq!(player, seated);
            let seen = state.sight.advance(record.tick, *provenance, *seen);
            inputs.advance(*player, *provenance, values, seen);
            state.consumed_input = state.consumed_input.max(*sequence);
        }
        // Written only where it changes, so that a game can ask whether it did.
        let seats = self.world.resource_ref::<Seats>();
        if !record.seat_changes.is_empty() || !seats.joined.is_empty() || !seats.left.is_empty() {
            let players = self.seats.iter().map(|(&player, state)| (player, state.seat.clone())).collect();
            *self.world.resource_mut::<Seats>() = Seats { joined, left, players };
        }
    }

    /// Freezes what the systems have made of the world.
    fn capture(&mut self, record: &TickInput) -> TickOutput {
        let tick = self.tick;
        self.builder.begin(tick);
        for kind in &mut self.kinds {
            kind.capture(&mut self.world, self.rate, &mut self.builder);
        }
        self.find_owned();
        let seat = |(&player, state): (&PlayerId, &SeatState)| SeatExtras {
            player,
            consumed_input: state.consumed_input,
            entity: self.owned.get(&player).copied(),
        };
        let seats = self.seats.iter().map(seat).collect();

        let scores = self.world.resource_ref::<Scores>();
        self.roster.update(tick, &record.seat_changes, scores.is_changed().then_some(&scores));
        for player in self.roster.forget(tick) {
            self.world.resource_mut::<Scores>().remove(player);
        }
        let hidden = self.hidden();
        let emitted = self.world.resource_mut::<Outbox>().take();
        let events = emitted.events.clone();
        let roster = Arc::clone(self.roster.roster());
        let (frame, truth) = self.builder.finish(TickExtras { seats, emitted, roster, hidden });
        self.world.resource_mut::<Past>().push(&frame);
        self.world.clear_trackers();
        TickOutput { result: TickResult { tick, state_hash: frame.state_hash, truth, events }, frame }
    }

    /// The digest of all that is not replicated as fields.
    fn hidden(&self) -> u64 {
        let mut game = Digest::default();
        self.game.digest(&self.world, &mut game);
        let mut hidden = Digest::default();
        hidden.write(game.finish());
        hidden.write(self.roster.digest());
        if let Some(result) = self.match_end() {
            hidden.write(result.len() as u64);
            result.bytes().for_each(|byte| hidden.write(byte.into()));
        }
        hidden.finish()
    }

    /// What the game has ended the match with.
    pub(crate) fn match_end(&self) -> Option<&str> {
        self.world.resource::<MatchEnd>().result_json()
    }

    /// Notes each player's own entity.
    fn find_owned(&mut self) {
        self.owned.clear();
        for (&id, &Owner(player)) in self.owners.iter(&self.world) {
            if let Some(other) = self.owned.insert(player, id) {
                let (first, second) = (id.min(other), id.max(other));
                panic!("player {player} owns the entities {first} and {second}; give each player one Owner at most");
            }
        }
    }
}

impl Drop for Simulation {
    /// Components and systems are the game's: those of a broken world may panic once more.
    fn drop(&mut self) {
        let (world, schedule) = (std::mem::take(&mut self.world), std::mem::take(&mut self.schedule));
        if let Err(message) = guarded(|| drop((schedule, world))) {
            tracing::warn!(game = self.schema.game, "dropping a session's world panicked: {message}");
        }
    }
}

/// The game's systems, initialised, and which they are in the order in which they were added.
fn assemble(game: &Arc<dyn Game>, world: &mut World, watch: Option<&SystemWatch>) -> (Schedule, Vec<SystemKey>) {
    let mut systems = Systems::default();
    game.systems(&mut systems);
    let mut schedule = Schedule::default();
    schedule.set_executor(SingleThreadedExecutor::new());
    schedule.set_build_settings(ScheduleBuildSettings { ambiguity_detection: LogLevel::Error, ..Default::default() });
    schedule.add_systems(match watch {
        None => systems.into_chain(),
        Some(watch) => watch.chain(systems, game),
    });
    schedule.graph_mut().initialize(world);
    let mut keys: Vec<SystemKey> = schedule.graph().systems.iter().map(|(key, ..)| key).collect();
    keys.sort_unstable();
    (schedule, keys)
}

/// Puts the systems in an order that nothing leaves open.
fn build(game: &dyn Game, schedule: &mut Schedule, world: &mut World) -> Result<(), SessionError> {
    match schedule.initialize(world) {
        Ok(_) => Ok(()),
        Err(error) => {
            let report = error.to_string(schedule.graph(), world);
            Err(SessionError::Systems { game: game.name().to_owned(), report })
        }
    }
}
