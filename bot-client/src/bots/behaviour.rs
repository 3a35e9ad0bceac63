//! What bots do.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use tickwire_shared::{KindId, NetId, Schema, Tick, TickRate};
use tickwire_wire::Mirror;

use super::{
    controls::Controls,
    trace::{Trace, TraceFileError},
};

/// A choice of behaviour, as it is written on the command line: `idle`, `wander`, `chase`, `chaos` or `trace:FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BehaviourChoice {
    /// Does nothing.
    Idle,
    /// Walks at full speed, and turns about once a second.
    Wander,
    /// Runs at the nearest other player and fires; wanders while it sees none.
    Chase,
    /// Does anything that an input can say, each tick.
    Chaos,
    /// Plays back recorded human input.
    Trace(PathBuf),
}

/// A word that names no behaviour.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no behaviour: choose idle, wander, chase, chaos or trace:FILE")]
pub struct BehaviourChoiceError(pub String);

impl FromStr for BehaviourChoice {
    type Err = BehaviourChoiceError;

    fn from_str(word: &str) -> Result<Self, BehaviourChoiceError> {
        match (word, word.strip_prefix("trace:")) {
            ("idle", _) => Ok(Self::Idle),
            ("wander", _) => Ok(Self::Wander),
            ("chase", _) => Ok(Self::Chase),
            ("chaos", _) => Ok(Self::Chaos),
            (_, Some(file)) if !file.is_empty() => Ok(Self::Trace(file.into())),
            _ => Err(BehaviourChoiceError(word.to_owned())),
        }
    }
}

impl fmt::Display for BehaviourChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("idle"),
            Self::Wander => f.write_str("wander"),
            Self::Chase => f.write_str("chase"),
            Self::Chaos => f.write_str("chaos"),
            Self::Trace(file) => write!(f, "trace:{}", file.display()),
        }
    }
}

/// What one bot is to do, before it knows the game.
#[derive(Clone, Debug)]
pub enum Role {
    /// See [`BehaviourChoice::Idle`].
    Idle,
    /// See [`BehaviourChoice::Wander`].
    Wander,
    /// See [`BehaviourChoice::Chase`].
    Chase,
    /// See [`BehaviourChoice::Chaos`].
    Chaos,
    /// One player of a trace.
    Trace {
        /// The recorded match.
        trace: Arc<Trace>,
        /// Which of its players.
        player: usize,
        /// The tic to begin at.
        first_tic: u64,
    },
}

/// Gives each of `bots` bots its role: they take the choices in turn, so that one named twice gets twice the bots.
///
/// Bots on one trace take its players in turn. The second round begins elsewhere in the trace, and so on, so that no two
/// bots do the same at the same time.
///
/// # Errors
/// Where a trace cannot be read.
pub fn assign(choices: &[BehaviourChoice], bots: usize) -> Result<Vec<Role>, TraceFileError> {
    let mut traces: Vec<(&Path, Arc<Trace>, usize)> = Vec::new();
    for choice in choices {
        if let BehaviourChoice::Trace(file) = choice
            && !traces.iter().any(|(path, ..)| path == file)
        {
            traces.push((file, Arc::new(Trace::read(file)?), 0));
        }
    }
    let role = |choice: &BehaviourChoice| match choice {
        BehaviourChoice::Idle => Role::Idle,
        BehaviourChoice::Wander => Role::Wander,
        BehaviourChoice::Chase => Role::Chase,
        BehaviourChoice::Chaos => Role::Chaos,
        BehaviourChoice::Trace(file) => {
            let known = traces.iter_mut().find(|(path, ..)| path == file);
            let (_, trace, taken) = known.expect("all traces of the choices are read");
            let (round, player) = (*taken / trace.players(), *taken % trace.players());
            *taken += 1;
            Role::Trace { trace: Arc::clone(trace), player, first_tic: scattered(round as u64, trace.tics() as u64) }
        }
    };
    Ok(choices.iter().cycle().take(bots).map(role).collect())
}

/// The `i`-th of a sequence of places in `0..length` that lie far from each other however many there are; the first is 0.
fn scattered(i: u64, length: u64) -> u64 {
    // 2^64 over the golden ratio: multiples of it, modulo 2^64, divide the range evenly.
    let place = i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((u128::from(place) * u128::from(length)) >> 64) as u64
}

/// What a bot knows when it chooses an input.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// The tick that the input is for.
    pub tick: Tick,
    /// Ticks per second.
    pub rate: TickRate,
    /// What the bot sees.
    pub mirror: &'a Mirror,
}

/// A bot's mind: chooses one input per tick.
#[derive(Debug)]
pub struct Behaviour {
    rng: Xoshiro256PlusPlus,
    mind: Mind,
}

#[derive(Debug)]
enum Mind {
    Idle,
    Chaos,
    /// Of a game that is not known: anything, anew once in a while.
    Fidget(Walk),
    Wander(Controls, Walk),
    Chase(Controls, Walk, Hunt),
    Trace(Controls, Playback),
}

impl Behaviour {
    /// A mind for a game of this schema. Where its inputs are not known by name, bots choose at random from their ranges.
    #[must_use]
    pub fn new(role: &Role, schema: &Schema, seed: u64) -> Self {
        let mind = match (role, Controls::of(schema)) {
            (Role::Idle, _) => Mind::Idle,
            (Role::Chaos, _) => Mind::Chaos,
            (Role::Wander | Role::Chase | Role::Trace { .. }, None) => Mind::Fidget(Walk::default()),
            (Role::Wander, Some(controls)) => Mind::Wander(controls, Walk::default()),
            (Role::Chase, Some(controls)) => Mind::Chase(controls, Walk::default(), Hunt::default()),
            (Role::Trace { trace, player, first_tic }, Some(controls)) => {
                Mind::Trace(controls, Playback::new(Arc::clone(trace), *player, *first_tic))
            }
        };
        Self { rng: Xoshiro256PlusPlus::seed_from_u64(seed), mind }
    }

    /// Chooses the input for a tick: one value per input field of the schema, in quanta.
    ///
    /// `input` holds the last choice, or neutral values before the first.
    pub fn choose(&mut self, moment: &Moment<'_>, input: &mut [i32]) {
        let fields = &moment.mirror.schema().inputs;
        let neutral = |input: &mut [i32]| {
            for (value, field) in input.iter_mut().zip(fields) {
                *value = field.neutral;
            }
        };
        let rng = &mut self.rng;
        let random = |input: &mut [i32], rng: &mut Xoshiro256PlusPlus| {
            for (value, field) in input.iter_mut().zip(fields) {
                *value = rng.random_range(field.quantity.min..=field.quantity.max);
            }
        };
        match &mut self.mind {
            Mind::Idle => neutral(input),
            Mind::Chaos => random(input, rng),
            Mind::Fidget(walk) => {
                if walk.turns(moment, rng) {
                    random(input, rng);
                }
            }
            Mind::Wander(controls, walk) => {
                neutral(input);
                walk.go(controls, moment, rng, input);
            }
            Mind::Chase(controls, walk, hunt) => {
                neutral(input);
                match hunt.way(moment) {
                    Some(way) => hunt.attack(controls, moment, way, input),
                    None => walk.go(controls, moment, rng, input),
                }
            }
            Mind::Trace(controls, playback) => {
                neutral(input);
                playback.play(controls, moment, input);
            }
        }
    }
}

/// A straight walk that turns about once a second.
#[derive(Debug, Default)]
struct Walk {
    heading: f64,
    next_turn: Tick,
}

impl Walk {
    /// Whether it is time for another heading; that is then chosen.
    fn turns(&mut self, moment: &Moment<'_>, rng: &mut Xoshiro256PlusPlus) -> bool {
        if moment.tick < self.next_turn {
            return false;
        }
        let seconds = rng.random_range(0.75..1.25_f64);
        self.heading = rng.random::<f64>();
        self.next_turn = Tick(moment.tick.0 + (seconds * f64::from(moment.rate.hz())).ceil() as u64);
        true
    }

    fn go(&mut self, controls: &Controls, moment: &Moment<'_>, rng: &mut Xoshiro256PlusPlus, input: &mut [i32]) {
        self.turns(moment, rng);
        run_along(controls, self.heading, input);
    }
}

/// Runs and aims along a heading, in turns.
fn run_along(controls: &Controls, heading: f64, input: &mut [i32]) {
    let angle = heading * std::f64::consts::TAU;
    controls.walk(input, libm::cos(angle), libm::sin(angle));
    controls.aim(input, heading);
}

/// The pursuit of another player.
#[derive(Debug, Default)]
struct Hunt {
    prey: Option<NetId>,
    next_look: Tick,
    next_rocket: Tick,
}

/// How often a hunter looks for who is nearest now.
const LOOKS_PER_SECOND: u64 = 4;
const SECONDS_PER_ROCKET: u64 = 2;

impl Hunt {
    /// East and north to the nearest other player, in quanta of the kind's `x` and `y`.
    fn way(&mut self, moment: &Moment<'_>) -> Option<(f64, f64)> {
        let mirror = moment.mirror;
        let own = mirror.owner()?;
        let axes = Axes::of(mirror.schema(), own.kind)?;
        let here = axes.place(mirror, own.net_id)?;
        if moment.tick >= self.next_look {
            self.next_look = Tick(moment.tick.0 + u64::from(moment.rate.hz()) / LOOKS_PER_SECOND);
            let others = mirror.shown().filter(|shown| shown.kind() == own.kind && shown.net_id() != own.net_id);
            let far = |id: NetId| axes.place(mirror, id).map_or(f64::INFINITY, |place| distance(here, place));
            let ids = others.map(|shown| shown.net_id());
            self.prey = ids.map(|id| (far(id), id)).min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))).map(|(_, id)| id);
        }
        let there = axes.place(mirror, self.prey?)?;
        Some((there.0 - here.0, there.1 - here.1))
    }

    fn attack(&mut self, controls: &Controls, moment: &Moment<'_>, (east, north): (f64, f64), input: &mut [i32]) {
        run_along(controls, libm::atan2(north, east) / std::f64::consts::TAU, input);
        controls.fire(input);
        if moment.tick >= self.next_rocket {
            self.next_rocket = Tick(moment.tick.0 + u64::from(moment.rate.hz()) * SECONDS_PER_ROCKET);
            controls.rocket(input);
        }
    }
}

/// The fields of a kind that say where an entity is on a plane.
#[derive(Clone, Copy, Debug)]
struct Axes {
    x: usize,
    y: usize,
}

impl Axes {
    fn of(schema: &Schema, kind: KindId) -> Option<Self> {
        let fields = &schema.kind(kind)?.fields;
        let named = |name| fields.iter().position(|field| field.name == name);
        Some(Self { x: named("x")?, y: named("y")? })
    }

    fn place(&self, mirror: &Mirror, id: NetId) -> Option<(f64, f64)> {
        let (shown, now) = (mirror.get(id)?, mirror.tick());
        Some((shown.value(self.x, now)?.into(), shown.value(self.y, now)?.into()))
    }
}

fn distance(a: (f64, f64), b: (f64, f64)) -> f64 {
    let (x, y) = (a.0 - b.0, a.1 - b.1);
    (x * x + y * y).sqrt()
}

/// One player of a trace, played back without end.
#[derive(Debug)]
struct Playback {
    trace: Arc<Trace>,
    player: usize,
    first_tic: u64,
    start: Option<Tick>,
    last: Option<u64>,
}

impl Playback {
    fn new(trace: Arc<Trace>, player: usize, first_tic: u64) -> Self {
        Self { trace, player, first_tic, start: None, last: None }
    }

    fn play(&mut self, controls: &Controls, moment: &Moment<'_>, input: &mut [i32]) {
        let start = *self.start.get_or_insert(moment.tick);
        let tick = Trace::tick_of(self.first_tic, moment.rate) + moment.tick.since(start);
        let sample = self.trace.sample(self.player, tick, self.last, moment.rate);
        self.last = Some(tick);
        controls.walk(input, sample.move_x, sample.move_y);
        controls.aim(input, sample.aim);
        if sample.attack {
            controls.fire(input);
        }
        if sample.use_pressed {
            controls.rocket(input);
        }
    }
}
