//! Who aims at what their screen shows hits it: a match in simulated time. The server's session, replication and recording
//! are the real ones, and so is the shooter's mirror; between them lies a link of 100 ms there and back.

use std::{
    collections::{BTreeMap, VecDeque},
    io::Cursor,
    sync::Arc,
    time::SystemTime,
};

use tickwire_arena::{
    Arena,
    aim::Aim,
    events::Landed,
    map::Map,
    movement::{FINE_STEPS, MoveInput, MoveState, PLAYER_RADIUS, step},
};
use tickwire_recording::{
    End, EndReason, Layout, RecordedTick, Recording, RecordingMeta, Verified, VerifyError, Writer, verify,
};
use tickwire_replication::{InputFeedback, ReplicationConfig, Replicator, View, ViewConfig};
use tickwire_shared::{EventId, Frame, GameEvent as _, PlayerId, Schema, Seen, Tick, TickRate};
use tickwire_simulation::{Input, InputVerdict, Session, SessionConfig};
use tickwire_wire::{Mirror, SnapshotMessage};

const RATE: TickRate = TickRate::DEFAULT;
/// One way through the network, in ticks: 50 ms.
const WAY: f64 = 3.0;
/// How much of a tick after the server's the client's falls.
const PHASE: f64 = 0.37;
/// The tick that an input is for is so many after the client's: it arrives two thirds of a tick before that is computed.
const LEAD: u64 = 5;
const TICKS: u64 = 900;
/// From one shot to the next, in ticks: the rifle's pause, and one more so that each leg is shot at all over.
const PAUSE: u64 = 9;
/// The target walks to and fro, so many ticks each way.
const LEG: u64 = 120;
/// Of these at the beginning it has not been at full speed on every screen.
const TURNING: u64 = 45;
/// Nearer to the edge than this, in metres, a shot may go either way: a moment is told in 1/256 ticks, rounded down.
const EDGE: f64 = 0.002;

/// How the shooter plays.
#[derive(Clone, Copy)]
struct Shooter {
    /// By how many ticks their screen is behind what has arrived.
    display_delay: f64,
    says_what_they_see: bool,
    /// Shoots at the middle alone, and only at a target at full speed; else all over it and beside it, at all times.
    at_full_speed: bool,
}

/// A shot, as the shooter saw it, and what became of it.
#[derive(Clone, Copy, Debug)]
struct Shot {
    /// How old the screen was when the shot was computed, in ticks.
    age: f64,
    /// From the target's edge on the screen to the bullet, in metres; negative: a hit.
    passed: f64,
    is_hit: bool,
}

struct Played {
    shots: Vec<Shot>,
    recording: Recording,
}

/// What is under way on one direction of the link, by the time at which it arrives.
type Link<T> = VecDeque<(f64, T)>;
/// The newest tick that has arrived, and an input.
type Upward = (Tick, Option<Input>);

/// The shooter's client.
struct Client {
    mirror: Mirror,
    map: Map,
    /// Where the target stood at each tick that has arrived, in quanta.
    target: BTreeMap<u64, [i32; 2]>,
    /// The own state at each tick for which an input was made, predicted from the first state that arrived.
    own: BTreeMap<Tick, MoveState>,
    unacknowledged: Tick,
}

#[test]
fn every_shot_that_hits_on_a_screen_at_100_ms_hits_on_the_server_and_the_match_replays() {
    let shooter = Shooter { display_delay: 2.0, says_what_they_see: true, at_full_speed: false };
    let Played { shots, recording } = play(shooter);
    let clear: Vec<&Shot> = shots.iter().filter(|shot| shot.passed.abs() > EDGE).collect();
    assert!(clear.iter().all(|shot| shot.is_hit == (shot.passed < 0.0)), "{clear:?}");
    let hits = clear.iter().filter(|shot| shot.is_hit).count();
    assert!(hits >= 50 && clear.len() - hits >= 10, "{hits} of {} shots hit", clear.len());
    assert!(shots.iter().all(|shot| (9.0..11.0).contains(&shot.age)));

    let Verified { ticks, .. } = verify(&recording, Arc::new(Arena)).expect("the match replays bit for bit");
    assert_eq!((ticks, recording.meta().rewind_ms), (TICKS, 250));
    // It is what was seen that decided it.
    let blind = rewritten(&recording, |seen| *seen = None);
    assert!(matches!(verify(&blind, Arc::new(Arena)), Err(VerifyError::Diverged(_))));
    // And how far the session rewinds: 160 ms are within the bound, and not within half of it.
    let meta = RecordingMeta { rewind_ms: 125, ..recording.meta().clone() };
    let shorter = rewritten_as(&recording, &meta, |_| {});
    assert!(matches!(verify(&shorter, Arc::new(Arena)), Err(VerifyError::Diverged(_))));
}

#[test]
fn up_to_the_bound_all_shots_at_full_speed_hit_and_beyond_it_none() {
    let play = |display_delay| play(Shooter { display_delay, says_what_they_see: true, at_full_speed: true }).shots;
    let just_within = play(7.0);
    assert!(just_within.iter().all(|shot| shot.age <= 15.0 && shot.age > 14.0));
    assert!(just_within.len() >= 40 && just_within.iter().all(|shot| shot.is_hit), "{just_within:?}");
    for delay in [7.8, 12.0, 20.0] {
        let beyond = play(delay);
        assert!(beyond.iter().all(|shot| shot.age > 15.0));
        assert!(beyond.len() >= 40 && beyond.iter().all(|shot| !shot.is_hit), "{delay}: {beyond:?}");
    }
}

#[test]
fn without_compensation_nearly_all_shots_at_full_speed_miss() {
    let shots = play(Shooter { display_delay: 2.0, says_what_they_see: false, at_full_speed: true }).shots;
    assert!(shots.len() >= 40 && shots.iter().all(|shot| shot.passed < 0.0));
    let hits = shots.iter().filter(|shot| shot.is_hit).count();
    assert!(hits * 10 <= shots.len(), "{hits} of {} shots hit", shots.len());
}

/// A session in which the two begin 20 to 40 m apart, far from all walls, at tick 1.
fn session() -> (Session, PlayerId, PlayerId) {
    let is_fit = |seed: &u64| {
        let (mut session, shooter, target) = session_of(*seed);
        let first = session.begin_tick();
        let frame = session.finish_tick(&first).expect("the arena is sound").frame;
        let [[a_x, a_y], [b_x, b_y]] = [shooter, target].map(|player| exact(&frame, player));
        let is_inside = [a_x, a_y, b_x, b_y].iter().all(|metres| metres.abs() < 70.0);
        let (x, y) = (a_x - b_x, a_y - b_y);
        is_inside && (400.0..1600.0).contains(&(x * x + y * y))
    };
    session_of((0..1000).find(is_fit).expect("one in a few seeds is fit"))
}

fn session_of(seed: u64) -> (Session, PlayerId, PlayerId) {
    let named_settings = [("cover", 0.0), ("rifle_damage", 1.0)].map(|(name, value)| (name.to_owned(), value)).to_vec();
    let config = SessionConfig { seed, named_settings, ..SessionConfig::default() };
    let mut session = Session::new(Arc::new(Arena), config).expect("the arena is sound");
    let [shooter, target] = ["shooter", "target"].map(|name| session.join(name).expect("a free seat"));
    (session, shooter, target)
}

/// Where a player is, in metres.
fn exact(frame: &Frame, player: PlayerId) -> [f32; 2] {
    let owner = frame.seat(player).and_then(|seat| seat.owner.as_ref()).expect("alive");
    [owner.values[0], owner.values[1]].map(|fine| fine as f32 / FINE_STEPS)
}

/// Plays, records, and takes down all shots. Time is in ticks.
fn play(shooter: Shooter) -> Played {
    let (mut session, player, target) = session();
    let schema = Arc::clone(session.schema());
    let landed = event(&schema, Landed::NAME);
    let replicator =
        Replicator::new(Arc::clone(session.game()), &schema, ReplicationConfig::new(RATE), Arc::clone(session.frame()));
    let mut view = View::new(ViewConfig {
        player: Some(player),
        view_radius: 100.0,
        tick_rate: RATE,
        ticks_per_snapshot: 1,
        bytes_per_second: None,
        in_flight_bytes_max: 1 << 20,
    });
    let meta = RecordingMeta::of(&session, "sessions/range", SystemTime::UNIX_EPOCH);
    let mut writer = Writer::new(Cursor::new(Vec::new()), &meta, Layout::Finished).expect("memory takes it");
    let mut client = Client {
        mirror: Mirror::new(Arc::clone(&schema)),
        map: Map::of(session.settings()),
        target: BTreeMap::new(),
        own: BTreeMap::new(),
        unacknowledged: Tick::ZERO,
    };
    let (mut down, mut up): (Link<Vec<u8>>, Link<Upward>) = (VecDeque::new(), VecDeque::new());
    let mut shots: BTreeMap<Tick, Shot> = BTreeMap::new();
    for now in 1..=TICKS {
        // The server, at the tick.
        let time = now as f64;
        while let Some((_, (acknowledged, input))) = up.pop_front_if(|(at, _)| *at <= time) {
            view.acknowledge(0, acknowledged, RATE.duration_of(now)).expect("it was sent");
            if let Some(input) = input {
                assert_eq!(session.input(player, input), InputVerdict::Buffered);
            }
        }
        let strafes = strafe(&session, player, target);
        session.input(target, Input::new(&schema, now, now, strafes).expect("in range"));
        let record = session.begin_tick();
        writer.tick_input(&record).expect("memory takes it");
        let output = session.finish_tick(&record).expect("the arena does not panic");
        if let Some(shot) = shots.get_mut(&Tick(now)) {
            shot.is_hit = output.result.events.iter().any(|(_, event)| event.kind == landed);
        }
        if let Some(own) = client.own.get(&Tick(now)) {
            assert_eq!(
                exact(&output.frame, player),
                [own.position.x, own.position.y],
                "the own place is predicted exactly"
            );
        }
        writer.tick_result(&output.result.into()).expect("memory takes it");
        replicator.publish(output.frame);
        // Not at every tick until the window has grown to the round trip.
        if let Some(snapshot) = view.compose(&replicator, InputFeedback::default(), RATE.duration_of(now)) {
            let mut bytes = Vec::new();
            snapshot.encode(&mut bytes);
            down.push_back((time + WAY, bytes));
        }

        // The client, a part of a tick later.
        let time = time + PHASE;
        while let Some((_, snapshot)) = down.pop_front_if(|(at, _)| *at <= time) {
            client.receive(&snapshot, target);
        }
        let input = client.play(time, shooter, &schema, &mut shots);
        up.push_back((time + WAY, (client.unacknowledged, input)));
    }
    writer
        .end(&End { reason: EndReason::Ended { result_json: String::new() }, tick: Tick(TICKS), ticks_missing: 0 })
        .expect("memory takes it");
    let bytes = writer.finish().expect("memory takes it").into_inner();
    // Whose tick has not come is no shot.
    shots.retain(|tick, _| *tick <= Tick(TICKS));
    Played { shots: shots.into_values().collect(), recording: Recording::from_bytes(bytes).expect("a recording") }
}

/// The target's input: to and fro at full speed, across the shooter's line of sight.
fn strafe(session: &Session, shooter: PlayerId, target: PlayerId) -> Vec<i32> {
    let next = session.tick().next();
    if session.tick() == Tick::ZERO {
        return Vec::new();
    }
    let [[a_x, a_y], [b_x, b_y]] = [shooter, target].map(|player| exact(session.frame(), player));
    let sight = Aim::toward([b_x - a_x, b_y - a_y].into()).direction();
    let turn = if (next.0 / LEG).is_multiple_of(2) { 127.0 } else { -127.0 };
    [-sight.y, sight.x].map(|part| (part * turn).round() as i32).to_vec()
}

impl Client {
    fn receive(&mut self, snapshot: &[u8], target: PlayerId) {
        let message = SnapshotMessage::read(snapshot).expect("a snapshot");
        let applied = self.mirror.apply_message(0, &message).expect("it fits the mirror");
        let tick = applied.tick;
        self.unacknowledged = tick;
        let is_target = |shown: &tickwire_wire::Shown<'_>| {
            shown.kind().0 == 0 && shown.quantity("player", tick) == Some(f64::from(target.0))
        };
        let shown = self.mirror.shown().find(is_target).expect("all are in view of all");
        let place = [0, 1].map(|field| shown.value(field, tick).expect("everybody sees places"));
        self.target.insert(tick.0, place);
    }

    /// One turn of the client's loop: what it sends, and a shot that it takes at what it shows.
    fn play(
        &mut self,
        time: f64,
        shooter: Shooter,
        schema: &Arc<Schema>,
        shots: &mut BTreeMap<Tick, Shot>,
    ) -> Option<Input> {
        let owner = self.mirror.owner()?;
        let fine = |field: usize| owner.values[field] as f32 / FINE_STEPS;
        let state = || MoveState { position: [fine(0), fine(1)].into(), velocity: [fine(5), fine(6)].into() };
        let before = self.own.last_key_value().map_or_else(state, |(_, own)| *own);
        let target_tick = time as u64 + LEAD;
        // In a circle, so that the own place has to be predicted.
        let angle = Aim::from_steps((time * 30.0) as i32).direction();
        let walk = [angle.x, angle.y].map(|part| (part * 127.0).round() as i32);
        let own = step(before, MoveInput::of(&walk), &self.map, RATE.dt());
        self.own.insert(Tick(target_tick), own);

        // The screen: what has arrived, some time ago, at a clock that is never quite even.
        let display =
            time - WAY - shooter.display_delay + 0.2 * (Aim::from_steps((time * 8.0) as i32).direction().x as f64);
        let seen = Seen::from_steps((display.max(1.0) * 256.0) as u64);
        let is_due = target_tick.is_multiple_of(PAUSE);
        let is_fast = (TURNING..LEG).contains(&(target_tick % LEG)) && target_tick > LEG;
        let shot = (is_due && (is_fast || !shooter.at_full_speed)).then(|| self.shown(schema, display)).flatten();
        let mut values = vec![walk[0], walk[1], 0, 0];
        if let Some([x, y]) = shot {
            let (x, y) = (x - f64::from(own.position.x), y - f64::from(own.position.y));
            // Radius and distance make a hit of up to 6 to 14 steps beside the middle.
            let off = if shooter.at_full_speed { 0 } else { (target_tick / PAUSE * 5 % 23) as i32 - 11 };
            let aim = (Aim::toward([x as f32, y as f32].into()).turns() * f64::from(Aim::STEPS)) as i32 + off;
            let aim = aim.rem_euclid(Aim::STEPS);
            let way = Aim::from_steps(aim).direction();
            let passed = (f64::from(way.x) * y - f64::from(way.y) * x).abs() - f64::from(PLAYER_RADIUS);
            shots.insert(Tick(target_tick), Shot { age: target_tick as f64 - display, passed, is_hit: false });
            (values[2], values[3]) = (aim, 1);
        }
        let (seen_tick, seen_fraction) = Seen::to_wire(Some(seen).filter(|_| shooter.says_what_they_see));
        let input = Input::new(schema, target_tick, target_tick, values).expect("in range");
        Some(input.with_seen(seen_tick, seen_fraction).expect("in range"))
    }

    /// Where the target is shown, in metres, if that much has arrived.
    fn shown(&self, schema: &Schema, display: f64) -> Option<[f64; 2]> {
        let (tick, share) = (display as u64, display.fract());
        let (from, to) = (self.target.get(&tick)?, self.target.get(&(tick + 1))?);
        let field = |i: usize| &schema.kinds[0].fields[i];
        Some([0, 1].map(|i| field(i).blend(from[i], to[i], share) * field(i).quantity.quantum))
    }
}

fn event(schema: &Schema, name: &str) -> EventId {
    schema.event_named(name).expect("the arena has it")
}

/// A recording's ticks, with something else in the place of what was seen.
fn rewritten(recording: &Recording, change: impl Fn(&mut Option<Seen>)) -> Recording {
    rewritten_as(recording, recording.meta(), change)
}

fn rewritten_as(recording: &Recording, meta: &RecordingMeta, change: impl Fn(&mut Option<Seen>)) -> Recording {
    let mut writer = Writer::new(Cursor::new(Vec::new()), meta, Layout::Live).expect("memory takes it");
    for tick in recording.ticks().expect("readable") {
        let RecordedTick { mut input, result } = tick.expect("whole");
        input.inputs.iter_mut().for_each(|input| change(&mut input.seen));
        writer.tick_input(&input).expect("memory takes it");
        writer.tick_result(&result.expect("whole")).expect("memory takes it");
    }
    Recording::from_bytes(writer.finish().expect("memory takes it").into_inner()).expect("whole")
}
