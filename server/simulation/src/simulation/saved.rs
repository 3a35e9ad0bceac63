//! A simulation as a keyframe has it.

use std::{collections::BTreeMap, sync::Arc};

use bevy_ecs::{
    change_detection::{ComponentTicks, DetectChangesMut as _, Tick as ChangeTick},
    component::{Component, Mutable},
    resource::Resource,
    schedule::SystemKey,
    world::World,
};
use serde::{Deserialize, Serialize};
use tickwire_shared::{
    Blueprint, ChangeTimes, Clock, FrameBuilder, FrameState, Game, Inputs, NetIds, Outbox, Past, PlayerId, PlayerInput,
    PlayerStatus, Randomness, Roster, RosterRow, SaveError, SavedTicks, Saves, Schema, Scores, Seat, Seats, Seen,
    Settings, Tick,
};

use super::{SeatState, Simulation};
use crate::{
    RestoreError, SessionConfig, SessionError, input::check_ranges, name, roster::RosterKeeper, session::guarded,
    sight::Sight, watch::SystemWatch,
};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SavedSimulation {
    last_player: PlayerId,
    seats: Vec<SavedSeat>,
    joined: Vec<PlayerId>,
    left: Vec<PlayerId>,
    roster: Vec<SavedRow>,
    left_rows: Vec<(Tick, PlayerId)>,
    scores: Scores,
    net_ids: NetIds,
    /// When the engine's own resources were added and changed, in the order of [`each_resource`].
    ticks: Vec<SavedTicks>,
    /// Each system's place in the order in which they last ran.
    runs: Vec<u32>,
    /// What the game saves.
    world: Vec<u8>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SavedSeat {
    player: PlayerId,
    name: String,
    connected: bool,
    consumed_input: u64,
    sight: Sight,
    input: PlayerInput,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SavedRow {
    player: PlayerId,
    name: String,
    status: PlayerStatus,
    scores: Vec<i32>,
    version: Tick,
}

impl SavedSimulation {
    /// The roster of its newest frame.
    pub(crate) fn roster(&self) -> Result<Arc<Roster>, String> {
        if !self.roster.is_sorted_by(|a, b| a.player < b.player) {
            return Err("the roster is not in order of player".to_owned());
        }
        let row = |row: &SavedRow| {
            name::check(&row.name).map_err(|error| format!("player {}: {error}", row.player))?;
            let SavedRow { player, ref name, status, ref scores, version } = *row;
            Ok(RosterRow { player, name: Arc::from(&**name), status, scores: scores.clone(), version })
        };
        Ok(Arc::new(Roster { rows: self.roster.iter().map(row).collect::<Result<_, String>>()? }))
    }

    /// What everybody who sits did last.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = (PlayerId, &PlayerInput)> {
        self.seats.iter().map(|seat| (seat.player, &seat.input))
    }

    /// About how much memory it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.world.len() + size_of_val(&*self.seats) + size_of_val(&*self.roster)
    }

    /// Who sits, and whether they are there.
    pub(crate) fn seated(&self) -> Vec<(PlayerId, bool)> {
        self.seats.iter().map(|seat| (seat.player, seat.connected)).collect()
    }
}

impl Simulation {
    /// What a keyframe has of it, between two ticks.
    pub(crate) fn save(&self, saves: &Saves) -> Result<(SavedSimulation, FrameState), SaveError> {
        let runs: BTreeMap<SystemKey, ChangeTick> = match self.schedule.systems() {
            Ok(systems) => systems.map(|(key, system)| (key, system.get_last_run())).collect(),
            Err(_) => BTreeMap::new(),
        };
        let runs: Vec<ChangeTick> = self.systems.iter().filter_map(|key| runs.get(key).copied()).collect();
        let (times, runs) = ChangeTimes::of(&self.world, &runs);
        let inputs = self.world.resource::<Inputs>();
        let seat = |(&player, state): (&PlayerId, &SeatState)| {
            let SeatState { seat: Seat { name, connected }, consumed_input, sight } = state;
            let input = inputs.get(player).expect("who sits has an input").clone();
            let (name, connected, consumed_input) = (name.to_string(), *connected, *consumed_input);
            SavedSeat { player, name, connected, consumed_input, sight: *sight, input }
        };
        let row = |row: &RosterRow| {
            let RosterRow { player, ref name, status, ref scores, version } = *row;
            SavedRow { player, name: name.to_string(), status, scores: scores.clone(), version }
        };
        let mut ticks = Vec::new();
        each_resource(&mut Reading { world: &self.world, times: &times, ticks: &mut ticks });
        let seats = self.world.resource::<Seats>();
        let world = guarded(|| saves.save(&self.world, &times)).map_err(SaveError::Panicked)??;
        let saved = SavedSimulation {
            last_player: self.last_player,
            seats: self.seats.iter().map(seat).collect(),
            joined: seats.joined.clone(),
            left: seats.left.clone(),
            roster: self.roster.roster().rows.iter().map(row).collect(),
            left_rows: self.roster.left().collect(),
            scores: self.world.resource::<Scores>().clone(),
            net_ids: *self.world.resource::<NetIds>(),
            ticks,
            runs,
            world,
        };
        Ok((saved, FrameState::of(&self.builder, self.world.resource::<Past>())))
    }

    /// A simulation that goes on from there.
    pub(crate) fn restore(
        game: Arc<dyn Game>,
        (blueprint, saves): (Blueprint, &Saves),
        (settings, config): (&Settings, &SessionConfig),
        saved: &SavedSimulation,
        frames: &FrameState,
        watch: Option<&SystemWatch>,
    ) -> Result<Self, RestoreError> {
        let mut times = None;
        let runs = |world: &World, systems: usize| {
            let times: &ChangeTimes = times.insert(ChangeTimes::ahead(world, systems));
            let fits = saved.runs.len() == systems;
            saved.runs.iter().map_while(|place| times.run(*place)).filter(|_| fits).collect()
        };
        let schema = Arc::clone(&blueprint.schema);
        let mut simulation = Self::with_runs(game, blueprint, settings, config, watch, runs)?;
        let times = times.expect("it was asked for");
        if saved.runs.len() != simulation.systems.len() {
            let (there, here) = (saved.runs.len(), simulation.systems.len());
            return Err(RestoreError::State(format!("it is of {there} systems, the game has {here}")));
        }
        let tick = frames.frame().tick;
        simulation.restore_state(saved, tick, &schema).map_err(RestoreError::State)?;
        simulation.builder = frames.builder(&schema, config.epoch);
        let past = frames.past(&schema, config.tick_rate, config.limits.rewind_ms);
        simulation.world.insert_resource(past);

        let world = &mut simulation.world;
        let panicked = |step| {
            let game = schema.game.clone();
            move |message| RestoreError::Session(SessionError::Panicked { game, step, message })
        };
        guarded(|| saves.load(world, &times, &saved.world)).map_err(panicked("saves"))?.map_err(RestoreError::World)?;
        each_resource(&mut Writing { world, times: &times, ticks: saved.ticks.iter() });
        guarded(|| simulation.check_truth()).map_err(panicked("define"))??;
        guarded(|| simulation.find_owned()).map_err(panicked("saves"))?;
        let hidden = guarded(|| simulation.hidden()).map_err(panicked("digest"))?;
        let (kept, rebuilt) = (frames.frame().state_hash, simulation.builder.state_hash(hidden));
        if kept != rebuilt {
            return Err(RestoreError::Hash { tick, kept, rebuilt });
        }
        simulation.world.clear_trackers();
        Ok(simulation)
    }

    fn restore_state(&mut self, saved: &SavedSimulation, tick: Tick, schema: &Schema) -> Result<(), String> {
        let columns = schema.scores.len();
        let roster = saved.roster()?;
        if !saved.scores.are_of(columns) || roster.rows.iter().any(|row| row.scores.len() != columns) {
            return Err(format!("scores are not of {columns} columns"));
        }
        self.tick = tick;
        self.last_player = saved.last_player;
        let mut inputs = Inputs::new(schema.inputs.clone());
        for SavedSeat { player, name, connected, consumed_input, sight, input } in &saved.seats {
            let player = *player;
            let wrong = |problem: String| Err(format!("player {player}: {problem}"));
            let in_order = self.seats.last_key_value().is_none_or(|(before, _)| *before < player);
            if !in_order || player > saved.last_player {
                return wrong(format!("not the next one, of up to {}", saved.last_player));
            }
            if roster.row(player).is_none_or(|row| row.status == PlayerStatus::Left) {
                return wrong("who sits has no row in the roster".to_owned());
            }
            let (seen_tick, seen_fraction) = Seen::to_wire(input.seen());
            let is_seen = Seen::parse(seen_tick, seen_fraction).is_ok() && sight.is_sound();
            if !is_seen || check_ranges(schema, input.values()).is_err() || !inputs.seat_again(player, input.clone()) {
                return wrong("the input is none of this schema".to_owned());
            }
            let seat = Seat { name: Arc::from(&**name), connected: *connected };
            self.seats.insert(player, SeatState { seat, consumed_input: *consumed_input, sight: *sight });
        }
        let has_left = |player: &PlayerId| roster.row(*player).is_some_and(|row| row.status == PlayerStatus::Left);
        if !saved.left_rows.iter().all(|(at, player)| *at <= tick && has_left(player)) {
            return Err("who has left has no such row in the roster".to_owned());
        }
        self.roster = RosterKeeper::going_on(columns, self.rate, roster.rows.clone(), &saved.left_rows);
        let players = self.seats.iter().map(|(&player, state)| (player, state.seat.clone())).collect();
        let world = &mut self.world;
        world.resource_mut::<Clock>().tick = tick;
        world.resource_mut::<Randomness>().tick = tick;
        world.insert_resource(inputs);
        world.insert_resource(Seats { joined: saved.joined.clone(), left: saved.left.clone(), players });
        world.insert_resource(saved.scores.clone());
        world.insert_resource(saved.net_ids);
        Ok(())
    }

    /// Whether the world shows what the frame was made of: nothing that is replicated has been forgotten.
    fn check_truth(&mut self) -> Result<(), RestoreError> {
        let Self { world, kinds, rate, schema, builder, tick, .. } = self;
        let mut seen = FrameBuilder::new(schema, 0);
        seen.begin(*tick);
        // So long ago that all is newer.
        let long_ago = ChangeTick::new(world.change_tick().get().wrapping_sub(ChangeTick::MAX.get()));
        world.last_change_tick_scope(long_ago, |world| {
            kinds.iter_mut().for_each(|kind| kind.capture(world, *rate, &mut seen));
        });
        builder.first_difference(&seen).map_or(Ok(()), |difference| {
            let kind = &schema.kinds[difference.kind.index()];
            let field = difference.field.map(|(field, kept, rebuilt)| (kind.fields[field].name.clone(), kept, rebuilt));
            Err(RestoreError::Truth { kind: kind.name.clone(), net_id: difference.net_id, field })
        })
    }
}

/// What each resource of the engine's own is to be asked, or told.
trait OfResource {
    fn of<R: Resource + Component<Mutability = Mutable>>(&mut self);
}

/// Always in the same order.
fn each_resource(act: &mut impl OfResource) {
    act.of::<Clock>();
    act.of::<Randomness>();
    act.of::<Inputs>();
    act.of::<Past>();
    act.of::<Seats>();
    act.of::<Scores>();
    act.of::<Outbox>();
    act.of::<NetIds>();
    act.of::<Settings>();
}

struct Reading<'a> {
    world: &'a World,
    times: &'a ChangeTimes,
    ticks: &'a mut Vec<SavedTicks>,
}

impl OfResource for Reading<'_> {
    fn of<R: Resource + Component<Mutability = Mutable>>(&mut self) {
        let ticks: Option<ComponentTicks> = self.world.get_resource_change_ticks::<R>();
        self.ticks.push(ticks.map(|ticks| self.times.saved(ticks)).unwrap_or_default());
    }
}

struct Writing<'a> {
    world: &'a mut World,
    times: &'a ChangeTimes,
    ticks: std::slice::Iter<'a, SavedTicks>,
}

impl OfResource for Writing<'_> {
    fn of<R: Resource + Component<Mutability = Mutable>>(&mut self) {
        if let Some((mut resource, ticks)) = self.world.get_resource_mut::<R>().zip(self.ticks.next()) {
            let ComponentTicks { added, changed } = self.times.ticks(*ticks);
            resource.set_last_added(added);
            // Last: the call before counts as a change.
            resource.set_last_changed(changed);
        }
    }
}
