//! Dots on a line: every player pushes one about, and can break the game. A twist makes the game another one from some tick
//! on, without changing its schema: what a team does to its rules between recording and replay.

#![expect(clippy::too_many_arguments, reason = "a system names what it uses")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use bevy_ecs::{
    component::Component,
    query::With,
    resource::Resource,
    system::{Commands, Query, Res, ResMut},
    world::World,
};
use serde::{Deserialize, Serialize};
use tickwire_recording::{End, EndReason, Layout, RecordedKeyframe, RecordedResult, Recording, RecordingMeta, Writer};
use tickwire_shared::{
    Audience, Clock, Definition, Digest, EventField, Field, Game, GameEvent, InputField, InputId, Inputs, NetId,
    NetIds, Outbox, Owner, Place, PlayerId, Quantity, Saves, Scores, Seats, Settings, Systems, Tick,
};
use tickwire_simulation::{Input, Session, SessionConfig, TickInput};

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dots {
    pub(crate) version: u32,
    pub(crate) twist: Option<(u64, Twist)>,
    /// Forgives the input that breaks the game.
    pub(crate) forgiving: bool,
    /// A player who jumps so often breaks the game.
    pub(crate) jumps_max: Option<i32>,
    /// Does not save how lucky the players are.
    pub(crate) forgetful: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Twist {
    Faster,
    Extra,
    OtherEvent,
    NoEvent,
    Hidden,
    Score,
    Panic,
    /// Each run of the tick comes out otherwise.
    Chance,
}

/// What no game may have: state that outlives its session.
static RUNS: AtomicU32 = AtomicU32::new(1);

#[derive(Resource)]
struct Rules(Dots);

#[derive(Resource, Serialize, Deserialize)]
struct Luck(u64);

#[derive(Component, Serialize, Deserialize)]
struct Dot;

#[derive(Component, Serialize, Deserialize)]
struct Position(f32);

#[derive(Component, Serialize, Deserialize)]
pub(crate) struct Hue(i32);

struct Jumped {
    player: PlayerId,
    height: f32,
}

impl GameEvent for Jumped {
    const NAME: &'static str = "jumped";
    fn fields() -> Vec<EventField> {
        vec![
            EventField::new("player", Quantity::count(0..=i32::MAX)),
            EventField::new("height", Quantity::new("m", 0.25, 0.0..=100.0)),
        ]
    }
    fn values(&self) -> Vec<f64> {
        vec![self.player.0.into(), self.height.into()]
    }
}

const PUSH: InputId = InputId(0);
const JUMP: InputId = InputId(1);
const BREAK: InputId = InputId(2);

impl Game for Dots {
    fn name(&self) -> &str {
        "dots"
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn define(&self, definition: &mut Definition) {
        let metres = Quantity::new("m", 1.0 / 128.0, -1000.0..=1000.0);
        definition
            .kind::<Dot>("dot")
            .field(Field::linear("x", metres).owner_shift(3), |position: &Position| position.0)
            .field(Field::plain("hue", Quantity::count(0..=255)), |hue: &Hue| hue.0);
        definition.input(InputField::hold("push", Quantity::new("", 1.0 / 8.0, -1.0..=1.0)));
        definition.input(InputField::edge("jump", Quantity::count(0..=1)));
        definition.input(InputField::edge("break", Quantity::count(0..=1)));
        definition.event::<Jumped>();
        definition.setting("speed", Quantity::new("m/s", 0.5, 0.0..=100.0), 5.0);
        definition.score("jumps");
    }

    fn setup(&self, world: &mut World, _: &Settings) {
        world.insert_resource(Rules(*self));
        world.insert_resource(Luck(1));
        let id = world.resource_mut::<NetIds>().allocate();
        world.spawn((id, Dot, Position(0.0), Hue(7)));
    }

    fn systems(&self, systems: &mut Systems) {
        systems.add(seat).add(play).add(twist);
    }

    fn saves(&self, saves: &mut Saves) {
        saves.component::<Dot>().component::<Position>().component::<Hue>();
        if !self.forgetful {
            saves.resource::<Luck>();
        }
    }

    fn digest(&self, world: &World, digest: &mut Digest) {
        digest.write(world.resource::<Luck>().0);
    }
}

fn seat(
    mut commands: Commands,
    seats: Res<Seats>,
    mut ids: ResMut<NetIds>,
    dots: Query<(bevy_ecs::entity::Entity, &Owner), With<Dot>>,
) {
    for &player in &seats.joined {
        let start = player.0 as f32;
        commands.spawn((ids.allocate(), Owner(player), Dot, Position(start), Hue(start as i32)));
    }
    for (entity, owner) in &dots {
        if seats.left.contains(&owner.0) {
            commands.entity(entity).despawn();
        }
    }
}

fn play(
    clock: Res<Clock>,
    rules: Res<Rules>,
    settings: Res<Settings>,
    inputs: Res<Inputs>,
    mut scores: ResMut<Scores>,
    mut outbox: ResMut<Outbox>,
    mut luck: ResMut<Luck>,
    mut dots: Query<(&NetId, &Owner, &mut Position, &mut Hue), With<Dot>>,
) {
    for (_, &Owner(player), mut position, mut hue) in dots.iter_mut().sort::<&NetId>() {
        let step = inputs.quantity(player, PUSH) * settings.get("speed") as f32 * clock.dt();
        if step != 0.0 {
            position.0 += step;
        }
        if inputs.pressed(player, JUMP) {
            hue.0 = (hue.0 + 1) % 256;
            luck.0 = luck.0.wrapping_mul(3);
            scores.add(player, tickwire_shared::ScoreId(0), 1);
            let jumps = scores.get(player, tickwire_shared::ScoreId(0));
            assert!(rules.0.jumps_max.is_none_or(|max| jumps < max), "player {player} jumped too often");
            if rules.0.twist.is_none_or(|(from, twist)| clock.tick.0 < from || twist != Twist::NoEvent) {
                outbox.emit(Audience::At(Place::Always), &Jumped { player, height: 1.5 });
                outbox.emit(Audience::Player(player), &Jumped { player, height: 0.5 });
            }
        }
        assert!(!inputs.pressed(player, BREAK) || rules.0.forgiving, "player {player} broke the game");
    }
}

fn twist(
    mut commands: Commands,
    clock: Res<Clock>,
    rules: Res<Rules>,
    mut ids: ResMut<NetIds>,
    mut scores: ResMut<Scores>,
    mut outbox: ResMut<Outbox>,
    mut luck: ResMut<Luck>,
    mut dots: Query<&mut Position, With<Owner>>,
) {
    let Some((_, twist)) = rules.0.twist.filter(|(at, _)| clock.tick.0 == *at) else { return };
    match twist {
        Twist::Faster => dots.iter_mut().for_each(|mut position| position.0 += 0.25),
        Twist::Extra => {
            commands.spawn((ids.allocate(), Dot, Position(0.0), Hue(0)));
        }
        Twist::OtherEvent => outbox.emit(Audience::Player(PlayerId(1)), &Jumped { player: PlayerId(1), height: 2.0 }),
        Twist::NoEvent => {}
        Twist::Hidden => luck.0 += 1,
        Twist::Score => scores.add(PlayerId(1), tickwire_shared::ScoreId(0), 5),
        Twist::Panic => panic!("a new bug"),
        Twist::Chance => {
            let run = RUNS.fetch_add(1, Ordering::Relaxed) as f32;
            dots.iter_mut().for_each(|mut position| position.0 += run);
        }
    }
}

/// A resource that no game saves.
#[derive(Resource)]
pub(crate) struct Pace(pub(crate) i32);

/// Colours the first dot by it.
pub(crate) fn quicken(mut pace: ResMut<Pace>, mut dots: Query<(&NetId, &mut Hue)>) {
    pace.0 += 1;
    for (_, mut hue) in dots.iter_mut().filter(|(id, _)| **id == NetId(1)) {
        hue.0 = pace.0 % 256;
    }
}

/// A match, with what it left behind.
pub(crate) struct Match {
    pub(crate) meta: RecordingMeta,
    pub(crate) ticks: Vec<(TickInput, Option<RecordedResult>)>,
    pub(crate) end: End,
    pub(crate) keyframes: Vec<RecordedKeyframe>,
}

/// A match of two players, three from tick 20 and two from tick 60 on; tick 30 has jumps.
pub(crate) fn play_match(ticks: u64) -> Match {
    play_match_of(Dots::default(), ticks)
}

/// The same, of another game.
pub(crate) fn play_match_of(game: Dots, ticks: u64) -> Match {
    play_until(session_of(game), ticks, |_, _| {})
}

/// The same match, with a keyframe every so often.
pub(crate) fn play_match_with_keyframes(ticks: u64, every: u64) -> Match {
    let mut keyframes = Vec::new();
    let mut played = play_until(session(), ticks, |session, _| {
        if session.tick().0.is_multiple_of(every) {
            let keyframe = session.keyframe().expect("the dots can be saved");
            keyframes.extend(keyframe.map(|keyframe| RecordedKeyframe::of(&keyframe).expect("a small one")));
        }
    });
    played.keyframes = keyframes;
    played
}

/// A match whose last tick breaks the game.
pub(crate) fn play_broken_match(ticks: u64) -> Match {
    play_with_input(ticks, &[ticks], &[0, 0, 1])
}

/// A match in which Ada jumps at these ticks, and at tick 30.
pub(crate) fn play_match_with_jumps(ticks: u64, jumps: &[u64]) -> Match {
    play_with_input(ticks, jumps, &[0, 1, 0])
}

/// A match in which Ada's input is `values` at some ticks.
fn play_with_input(ticks: u64, at: &[u64], values: &[i32]) -> Match {
    play_until(session(), ticks, move |session, ada| {
        let next = session.tick().0 + 1;
        if at.contains(&next) {
            // Before the one that every tick has, which is then late.
            let sent = input(session, next, next, values);
            session.input(ada, sent);
        }
    })
}

fn play_until(mut session: Session, ticks: u64, mut each: impl FnMut(&mut Session, PlayerId)) -> Match {
    let meta = RecordingMeta::of(&session, "sessions/dots-1", created());
    let [ada, bob] = ["Ada", "Bob"].map(|name| session.join(name).expect("a free seat"));
    let end = End { reason: EndReason::Ended { result_json: String::new() }, tick: Tick(ticks), ticks_missing: 0 };
    let mut played = Match { meta, ticks: Vec::new(), end, keyframes: Vec::new() };
    for now in 0..ticks {
        each(&mut session, ada);
        match now {
            20 => drop(session.join("Eve")),
            60 => session.leave(bob),
            70 => session.disconnect(ada),
            80 => assert!(session.reconnect(ada)),
            _ => {}
        }
        let push = ((now / 20) % 3) as i32 * 8 - 8;
        for player in [ada, bob] {
            let sent = input(&session, now + 1, now + 1, &[push, i32::from(now + 1 == 30)]);
            session.input(player, sent);
        }
        let record = session.begin_tick();
        let result = session.finish_tick(&record);
        if let Err(panic) = &result {
            played.end.reason = EndReason::Failed { message: panic.message.clone() };
        }
        played.ticks.push((record, result.ok().map(|output| output.result.into())));
    }
    played
}

pub(crate) fn session() -> Session {
    session_of(Dots::default())
}

fn session_of(game: Dots) -> Session {
    let config = SessionConfig { settings: vec![40], seed: 11, ..SessionConfig::default() };
    Session::new(Arc::new(game), config).expect("a session of dots")
}

pub(crate) fn created() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_500)
}

pub(crate) fn input(session: &Session, sequence: u64, target: u64, values: &[i32]) -> Input {
    Input::new(session.schema(), sequence, target, values.to_vec()).expect("a valid input")
}

impl Match {
    /// As a recording's file.
    pub(crate) fn bytes(&self, layout: Layout) -> Vec<u8> {
        self.bytes_with(layout, Some(&self.end))
    }

    pub(crate) fn bytes_with(&self, layout: Layout, end: Option<&End>) -> Vec<u8> {
        let mut writer = Writer::new(std::io::Cursor::new(Vec::new()), &self.meta, layout).expect("memory takes it");
        // What a segment behind the first one begins with.
        let origin = self.meta.segment.origin();
        for keyframe in self.keyframes.iter().filter(|keyframe| keyframe.tick == origin) {
            writer.keyframe(keyframe).expect("memory takes it");
        }
        for (input, result) in &self.ticks {
            writer.tick_input(input).expect("memory takes it");
            if let Some(result) = result {
                writer.tick_result(result).expect("memory takes it");
            }
            for keyframe in self.keyframes.iter().filter(|keyframe| keyframe.tick == input.tick) {
                writer.keyframe(keyframe).expect("memory takes it");
            }
        }
        if let Some(end) = end {
            writer.end(end).expect("memory takes it");
        }
        writer.finish().expect("memory takes it").into_inner()
    }

    pub(crate) fn recording(&self) -> Recording {
        Recording::from_bytes(self.bytes(Layout::Finished)).expect("a recording")
    }
}
