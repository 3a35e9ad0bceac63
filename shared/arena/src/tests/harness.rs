//! A match for tests: joins, inputs, ticks, and a look at what came of it.

use std::{collections::BTreeMap, sync::Arc};

use bevy_ecs::{
    entity::Entity,
    schedule::{Schedule, SingleThreadedExecutor},
    world::World,
};
use glam::Vec2;
use tickwire_shared::{
    Audience, Blueprint, Clock, Digest, Event, Frame, FrameBuilder, Game as _, GameEvent, Inputs, NetId, NetIds,
    Outbox, Owner, Past, PlayerId, Provenance, REWIND_MS_DEFAULT, Randomness, ScoreId, Scores, Seat, SeatExtras, Seats,
    Seen, Settings, Systems, Tick, TickExtras, TickRate,
};

use crate::{
    Arena,
    life::Health,
    movement::{MoveState, PLAYER_RADIUS},
    weapons::rockets::Rocket,
};

pub(crate) struct Match {
    pub(crate) world: World,
    pub(crate) blueprint: Blueprint,
    schedule: Schedule,
    builder: FrameBuilder,
    joining: Vec<PlayerId>,
    leaving: Vec<PlayerId>,
    /// What each player sends, until told otherwise; None is a lost connection.
    sent: BTreeMap<PlayerId, Option<Vec<i32>>>,
    /// What each player says that they see, until told otherwise.
    seen: BTreeMap<PlayerId, Seen>,
    /// Everything that happened, in order.
    pub(crate) events: Vec<(Tick, Audience, Event)>,
}

/// A player's input.
#[derive(Clone, Copy, Default)]
pub(crate) struct Hands {
    pub(crate) walk: (i32, i32),
    pub(crate) aim: i32,
    pub(crate) fire: bool,
    pub(crate) rocket: bool,
}

/// Flat ground at 60 Hz, with the default rules.
pub(crate) fn flat() -> Match {
    Match::new(&[("cover", 0.0)], 60)
}

impl Match {
    pub(crate) fn new(changed: &[(&str, f64)], hz: u32) -> Self {
        let blueprint = Blueprint::of(&Arena).expect("the definition is valid");
        let schema = &blueprint.schema;
        let mut settings = Settings::defaults(schema);
        for (name, value) in changed {
            settings.set(name, *value).expect("in range");
        }

        let mut world = World::new();
        let rate = TickRate::new(hz).expect("in range");
        world.insert_resource(Clock { tick: Tick::ZERO, rate });
        world.insert_resource(Past::new(schema, rate, REWIND_MS_DEFAULT));
        world.insert_resource(Inputs::new(schema.inputs.clone()));
        world.insert_resource(Seats::default());
        world.insert_resource(Scores::new(schema.scores.len()));
        world.insert_resource(Outbox::new(&blueprint.events, 4096));
        world.insert_resource(NetIds::default());
        world.insert_resource(Randomness { seed: 5, tick: Tick::ZERO });
        Arena.setup(&mut world, &settings);
        world.insert_resource(settings);

        let mut systems = Systems::default();
        Arena.systems(&mut systems);
        let mut schedule = Schedule::default();
        schedule.set_executor(SingleThreadedExecutor::new());
        schedule.add_systems(systems.into_chain());

        let builder = FrameBuilder::new(schema, 0);
        Self {
            world,
            blueprint,
            schedule,
            builder,
            joining: Vec::new(),
            leaving: Vec::new(),
            sent: BTreeMap::new(),
            seen: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    /// Seats players from the next tick on, who then do nothing.
    pub(crate) fn join<const N: usize>(&mut self) -> [PlayerId; N] {
        std::array::from_fn(|_| {
            let player = PlayerId(self.sent.len() as u32 + 1);
            self.joining.push(player);
            self.act(player, Hands::default());
            player
        })
    }

    /// Has a player leave before the next tick.
    pub(crate) fn leave(&mut self, player: PlayerId) {
        self.leaving.push(player);
    }

    pub(crate) fn act(&mut self, player: PlayerId, hands: Hands) {
        let Hands { walk, aim, fire, rocket } = hands;
        self.sent.insert(player, Some(vec![walk.0, walk.1, aim, fire.into(), rocket.into()]));
    }

    /// Says what a player sees.
    pub(super) fn see(&mut self, player: PlayerId, seen: Seen) {
        self.seen.insert(player, seen);
    }

    /// Loses a player's connection.
    pub(crate) fn disconnect(&mut self, player: PlayerId) {
        self.sent.insert(player, None);
    }

    pub(crate) fn ticks(&mut self, count: u64) {
        for _ in 0..count {
            self.tick();
        }
    }

    pub(crate) fn tick(&mut self) -> Arc<Frame> {
        self.take_inputs();
        self.schedule.run(&mut self.world);
        self.capture()
    }

    fn take_inputs(&mut self) {
        let tick = self.builder.frame().tick.next();
        self.world.resource_mut::<Clock>().tick = tick;
        self.world.resource_mut::<Randomness>().tick = tick;

        let (joined, left) = (std::mem::take(&mut self.joining), std::mem::take(&mut self.leaving));
        let mut inputs = self.world.resource_mut::<Inputs>();
        joined.iter().for_each(|&player| inputs.seat(player));
        left.iter().for_each(|&player| inputs.unseat(player));
        for (&player, sent) in &self.sent {
            match sent {
                Some(values) => inputs.advance(player, Provenance::Fresh, values, self.seen.get(&player).copied()),
                None => inputs.advance(player, Provenance::Absent, &[], None),
            }
        }
        let mut seats = self.world.resource_mut::<Seats>();
        for &player in &joined {
            seats.players.insert(player, Seat { name: format!("player-{player}").into(), connected: true });
        }
        left.iter().for_each(|player| drop(seats.players.remove(player)));
        seats.joined = joined;
        seats.left = left;
    }

    fn capture(&mut self) -> Arc<Frame> {
        let Clock { tick, rate } = *self.world.resource::<Clock>();
        self.builder.begin(tick);
        for kind in &mut self.blueprint.kinds {
            kind.capture(&mut self.world, rate, &mut self.builder);
        }
        self.world.clear_trackers();

        let emitted = self.world.resource_mut::<Outbox>().take();
        self.events.extend(emitted.events.iter().map(|(audience, event)| (tick, *audience, event.clone())));
        let mut hidden = Digest::default();
        Arena.digest(&self.world, &mut hidden);
        let lives: BTreeMap<PlayerId, NetId> = self.living().into_iter().map(|(id, player, _)| (player, id)).collect();
        let players = self.world.resource::<Seats>().players.keys();
        let seats = players
            .map(|&player| SeatExtras { player, consumed_input: 0, entity: lives.get(&player).copied() })
            .collect();
        let extras = TickExtras { seats, emitted, hidden: hidden.finish(), ..TickExtras::default() };
        let frame = self.builder.finish(extras).0;
        self.world.resource_mut::<Past>().push(&frame);
        frame
    }

    /// Players with a life, in order of NetId.
    pub(crate) fn living(&mut self) -> Vec<(NetId, PlayerId, Entity)> {
        let mut query = self.world.query::<(&NetId, &Owner, Entity)>();
        query.iter(&self.world).sort::<&NetId>().map(|(&id, owner, entity)| (id, owner.0, entity)).collect()
    }

    pub(crate) fn net_id(&mut self, player: PlayerId) -> Option<NetId> {
        self.living().into_iter().find(|life| life.1 == player).map(|life| life.0)
    }

    fn entity(&mut self, player: PlayerId) -> Entity {
        self.living().into_iter().find(|life| life.1 == player).expect("the player has a life").2
    }

    pub(crate) fn state(&mut self, player: PlayerId) -> MoveState {
        let entity = self.entity(player);
        *self.world.get(entity).expect("players have a state")
    }

    pub(crate) fn health(&mut self, player: PlayerId) -> i32 {
        let entity = self.entity(player);
        self.world.get::<Health>(entity).expect("players have health").points
    }

    /// Puts a player somewhere, at rest.
    pub(crate) fn put(&mut self, player: PlayerId, x: f32, y: f32) {
        let entity = self.entity(player);
        let state = MoveState { position: Vec2::new(x, y), velocity: Vec2::ZERO };
        self.world.entity_mut(entity).insert(state);
    }

    pub(crate) fn score(&self, player: PlayerId, score: ScoreId) -> i32 {
        self.world.resource::<Scores>().get(player, score)
    }

    pub(crate) fn rockets(&mut self) -> usize {
        self.world.query::<&Rocket>().iter(&self.world).count()
    }

    /// All events of one sort so far: when, for whom, and their values in quanta.
    pub(crate) fn events_of<E: GameEvent>(&self) -> Vec<(Tick, Audience, Vec<i32>)> {
        let kind = self.blueprint.schema.event_named(E::NAME).expect("in the definition");
        let of_kind = self.events.iter().filter(|(_, _, event)| event.kind == kind);
        of_kind.map(|(tick, audience, event)| (*tick, *audience, event.values.clone())).collect()
    }
}

/// How far two players are apart beyond touching, in metres.
pub(crate) fn gap(game: &mut Match, a: PlayerId, b: PlayerId) -> f32 {
    game.state(a).position.distance(game.state(b).position) - 2.0 * PLAYER_RADIUS
}
