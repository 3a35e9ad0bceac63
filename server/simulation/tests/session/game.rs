//! Dots on a line: every player pushes one about. It shows in its fields what the player's input was, and it breaks in
//! whatever way the player asks for.

use std::sync::Arc;

use bevy_ecs::{
    component::Component,
    query::With,
    resource::Resource,
    schedule::IntoScheduleConfigs as _,
    system::{Commands, Query, Res, ResMut},
    world::World,
};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use tickwire_shared::{
    Audience, CellKey, Clock, Definition, Digest, EventField, Field, Game, GameEvent, InputField, InputId, Inputs,
    NetId, NetIds, Outbox, Owner, Place, PlayerId, Provenance, Quantity, Randomness, Saves, ScoreId, Scores, Seats,
    Settings, Systems, Tick,
};
use tickwire_simulation::{Input, Session, SessionConfig, TickInput, TickOutput, TickPanic};

pub(crate) const PUSH: usize = 0;
pub(crate) const JUMP: usize = 1;

/// What a player can break: the value of the input `fault`.
pub(crate) mod fault {
    pub(crate) const SYSTEM: i32 = 1;
    pub(crate) const CAPTURE: i32 = 2;
    pub(crate) const DIGEST: i32 = 3;
    pub(crate) const DROP: i32 = 4;
    pub(crate) const TWO_OWNED: i32 = 5;
    pub(crate) const MISSING_RESOURCE: i32 = 6;
    pub(crate) const EVENTS: i32 = 7;
}

/// The places of the dot's fields.
pub(crate) mod field {
    pub(crate) const PUSH: usize = 1;
    pub(crate) const JUMP: usize = 2;
    pub(crate) const PROVENANCE: usize = 3;
    pub(crate) const CONNECTED: usize = 4;
}

#[derive(Default)]
pub(crate) struct Dots {
    /// Two systems that write one resource, in no order.
    pub(crate) ambiguous: bool,
    pub(crate) breaks_in: Option<&'static str>,
    /// What it saves badly, or not at all.
    pub(crate) forgets: Option<&'static str>,
}

#[derive(Component, Serialize, Deserialize)]
struct Dot;

#[derive(Component, Serialize, Deserialize)]
struct Position(f32);

#[derive(Component, Serialize, Deserialize)]
struct Seen {
    push: i32,
    jump: i32,
    provenance: i32,
    connected: bool,
    breaks_capture: bool,
}

/// Breaks when it is dropped, once by the world's own hand.
#[derive(Component)]
struct Brittle;

impl Drop for Brittle {
    fn drop(&mut self) {
        panic!("brittle");
    }
}

#[derive(Resource, Serialize, Deserialize)]
struct Total(u64);

#[derive(Resource)]
struct NeverInserted;

#[derive(Resource)]
struct BreaksDigest;

struct Jumped {
    player: PlayerId,
}

impl GameEvent for Jumped {
    const NAME: &'static str = "jumped";
    fn fields() -> Vec<EventField> {
        vec![EventField::new("player", Quantity::count(0..=i32::MAX))]
    }
    fn values(&self) -> Vec<f64> {
        vec![self.player.0.into()]
    }
}

const FIELD: InputId = InputId(PUSH as u16);
const FAULT: InputId = InputId(2);
const JUMPS: ScoreId = ScoreId(0);

impl Game for Dots {
    fn name(&self) -> &str {
        "dots"
    }

    fn define(&self, definition: &mut Definition) {
        assert_ne!(self.breaks_in, Some("define"), "no definition");
        let small = || Quantity::count(-100..=100);
        definition
            .kind::<Dot>("dot")
            .field(
                Field::linear("x", Quantity::new("m", 1.0 / 128.0, -1000.0..=1000.0)).owner_shift(3),
                |position: &Position| position.0,
            )
            .field(Field::plain("push", small()), |seen: &Seen| {
                assert!(!seen.breaks_capture, "a dot that cannot be read");
                seen.push
            })
            .field(Field::plain("jump", small()), |seen: &Seen| seen.jump)
            .field(Field::plain("provenance", small()), |seen: &Seen| seen.provenance)
            .field(Field::plain("connected", small()), |seen: &Seen| f64::from(u8::from(seen.connected)))
            .place(|position: &Position, _| cell(position.0));
        definition.input(InputField::hold("push", Quantity::new("", 1.0 / 8.0, -1.0..=1.0)));
        definition.input(InputField::edge("jump", Quantity::count(0..=1)));
        definition.input(InputField::edge("fault", Quantity::count(0..=9)));
        definition.event::<Jumped>();
        definition.setting("speed", Quantity::new("m/s", 0.5, 0.0..=100.0), 5.0);
        definition.score("jumps");
    }

    fn check_settings(&self, settings: &Settings) -> Result<(), String> {
        if settings.get("speed") == 13.0 { Err("speed: 13 brings bad luck".into()) } else { Ok(()) }
    }

    fn setup(&self, world: &mut World, _: &Settings) {
        assert_ne!(self.breaks_in, Some("setup"), "no world");
        world.insert_resource(Total(0));
        let id = world.resource_mut::<NetIds>().allocate();
        world.spawn((id, Dot, Position(0.5), seen()));
    }

    fn systems(&self, systems: &mut Systems) {
        systems.add(seat).add(act).add(push);
        if self.ambiguous {
            systems.add((add_one, double));
        } else {
            systems.add((add_one, double).chain());
        }
    }

    fn saves(&self, saves: &mut Saves) {
        let forgets = self.forgets.unwrap_or_default();
        match forgets {
            "all" => return,
            "save" => {
                saves.custom("oblivion", |_| Err("forgotten".into()), |_, _| Ok(()));
            }
            "load" => {
                saves.custom("oblivion", |_| Ok(vec![7]), |_, bytes| Err(format!("{bytes:?}, of what?")));
            }
            "panic" => {
                saves.custom("oblivion", |_| panic!("what was it?"), |_, _| Ok(()));
            }
            _ => {}
        }
        saves.component::<Dot>();
        if forgets != "position" {
            saves.component::<Position>();
        }
        saves.component::<Seen>();
        if forgets == "total" {
            saves.custom("a total", |_| Ok(Vec::new()), |_, _| Ok(()));
        } else {
            saves.resource::<Total>();
        }
    }

    fn digest(&self, world: &World, digest: &mut Digest) {
        assert!(!world.contains_resource::<BreaksDigest>(), "a state that cannot be told");
        digest.write(world.resource::<Total>().0);
    }
}

fn cell(x: f32) -> CellKey {
    CellKey((x / 8.0 + 1000.0) as u64)
}

fn seen() -> Seen {
    Seen { push: 0, jump: 0, provenance: 0, connected: true, breaks_capture: false }
}

fn seat(
    mut commands: Commands,
    seats: Res<Seats>,
    mut ids: ResMut<NetIds>,
    random: Res<Randomness>,
    dots: Query<(bevy_ecs::entity::Entity, &Owner), With<Dot>>,
) {
    for &player in &seats.joined {
        let x = random.stream("spawn", player.0.into()).random_range(-50..50);
        commands.spawn((ids.allocate(), Owner(player), Dot, Position(x as f32), seen()));
    }
    for (entity, owner) in &dots {
        if seats.left.contains(&owner.0) {
            commands.entity(entity).despawn();
        }
    }
}

fn act(
    mut commands: Commands,
    inputs: Res<Inputs>,
    seats: Res<Seats>,
    mut ids: ResMut<NetIds>,
    mut scores: ResMut<Scores>,
    mut outbox: ResMut<Outbox>,
    mut dots: Query<(&NetId, &Owner, &mut Seen), With<Dot>>,
) {
    for (_, &Owner(player), mut seen) in dots.iter_mut().sort::<&NetId>() {
        let Some(input) = inputs.get(player) else { continue };
        let provenance = match input.provenance {
            Provenance::Fresh => 1,
            Provenance::Repeated => 2,
            Provenance::Absent => 3,
        };
        let fault = input.get(FAULT);
        *seen = Seen {
            push: input.get(FIELD),
            jump: input.get(InputId(JUMP as u16)),
            provenance,
            connected: seats.players[&player].connected,
            breaks_capture: fault == fault::CAPTURE,
        };
        if seen.jump == 1 {
            scores.add(player, JUMPS, 1);
            outbox.emit(Audience::At(Place::Always), &Jumped { player });
        }
        match fault {
            fault::SYSTEM => panic!("player {player} broke the game"),
            fault::DIGEST => commands.insert_resource(BreaksDigest),
            fault::DROP => {
                commands.spawn(Brittle);
                commands.queue(|_: &mut World| panic!("with a brittle world"));
            }
            fault::TWO_OWNED => {
                commands.spawn((ids.allocate(), Owner(player), Dot, Position(0.0), self::seen()));
            }
            fault::MISSING_RESOURCE => commands.queue(|world: &mut World| {
                world.run_system_cached(|_: Res<NeverInserted>| {}).expect("a system that cannot run");
            }),
            fault::EVENTS => (0..5000).for_each(|_| outbox.emit(Audience::Player(player), &Jumped { player })),
            _ => {}
        }
    }
}

fn push(
    clock: Res<Clock>,
    settings: Res<Settings>,
    inputs: Res<Inputs>,
    mut dots: Query<(&Owner, &mut Position), With<Dot>>,
) {
    for (owner, mut position) in &mut dots {
        let step = inputs.quantity(owner.0, FIELD) * settings.get("speed") as f32 * clock.dt();
        if step != 0.0 {
            position.0 += step;
        }
    }
}

fn add_one(mut total: ResMut<Total>, inputs: Res<Inputs>) {
    total.0 = total.0.wrapping_add(1 + inputs.iter().count() as u64);
}

fn double(mut total: ResMut<Total>) {
    total.0 = total.0.wrapping_mul(2);
}

pub(crate) fn session() -> Session {
    session_with(SessionConfig::default())
}

pub(crate) fn session_with(config: SessionConfig) -> Session {
    Session::new(Arc::new(Dots::default()), config).expect("a session of dots")
}

pub(crate) fn tick(session: &mut Session) -> (TickInput, TickOutput) {
    let input = session.begin_tick();
    let output = session.finish_tick(&input).expect("the dots are sound");
    (input, output)
}

pub(crate) fn ticks(session: &mut Session, count: u64) {
    for _ in 0..count {
        tick(session);
    }
}

pub(crate) fn tick_until(session: &mut Session, last: u64) {
    ticks(session, last - session.tick().0);
}

pub(crate) fn input(session: &Session, sequence: u64, target: u64, values: &[i32]) -> Input {
    Input::new(session.schema(), sequence, target, values.to_vec()).expect("a valid input")
}

/// What the player's own dot says of their input: push, jump, provenance (1 fresh, 2 repeated, 3 absent).
pub(crate) fn seen_of(session: &Session, player: PlayerId) -> (i32, i32, i32) {
    let seat = session.frame().seat(player).expect("seated");
    let values = &seat.owner.as_ref().expect("every player has a dot").values;
    (values[field::PUSH], values[field::JUMP], values[field::PROVENANCE])
}

/// Breaks the game at its next tick.
pub(crate) fn break_by(session: &mut Session, player: PlayerId, fault: i32) -> Result<TickOutput, TickPanic> {
    let Tick(now) = session.tick();
    let broken = input(session, now + 1, now + 1, &[0, 0, fault]);
    session.input(player, broken);
    let record = session.begin_tick();
    session.finish_tick(&record)
}

pub(crate) fn net_id_of(session: &Session, player: PlayerId) -> Option<NetId> {
    session.frame().seat(player)?.owner.as_ref().map(|owner| owner.net_id)
}
