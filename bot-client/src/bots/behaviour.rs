//! What bots do.

use std::sync::Arc;

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use tickwire_shared::{InputMode, KindId, NetId, Schema, Tick, TickRate};
use tickwire_wire::Mirror;

use super::{controls::Controls, roles::Role, trace::Trace};

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
    /// Of a game that is not known: anything, held for about a second.
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
                } else {
                    let edges = input.iter_mut().zip(fields).filter(|(_, field)| field.mode == InputMode::Edge);
                    edges.for_each(|(value, field)| *value = field.neutral);
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
    heading: Heading,
    next_turn: Tick,
}

/// A direction to run and to aim in.
#[derive(Clone, Copy, Debug)]
struct Heading {
    turns: f64,
    east: f64,
    north: f64,
}

impl Default for Heading {
    fn default() -> Self {
        Self::of(0.0)
    }
}

impl Heading {
    /// From turns: 0 is east, 0.25 north.
    fn of(turns: f64) -> Self {
        let angle = turns * std::f64::consts::TAU;
        Self { turns, east: libm::cos(angle), north: libm::sin(angle) }
    }

    /// Runs and aims along it.
    fn run(&self, controls: &Controls, input: &mut [i32]) {
        controls.walk(input, self.east, self.north);
        controls.aim(input, self.turns);
    }
}

impl Walk {
    /// Whether it is time for another heading; that is then chosen.
    fn turns(&mut self, moment: &Moment<'_>, rng: &mut Xoshiro256PlusPlus) -> bool {
        if moment.tick < self.next_turn {
            return false;
        }
        let seconds = rng.random_range(0.75..1.25_f64);
        self.heading = Heading::of(rng.random::<f64>());
        self.next_turn = Tick(moment.tick.0 + (seconds * f64::from(moment.rate.hz())).ceil() as u64);
        true
    }

    fn go(&mut self, controls: &Controls, moment: &Moment<'_>, rng: &mut Xoshiro256PlusPlus, input: &mut [i32]) {
        self.turns(moment, rng);
        self.heading.run(controls, input);
    }
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
            self.prey =
                ids.map(|id| (far(id), id)).min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))).map(|(_, id)| id);
        }
        let there = axes.place(mirror, self.prey?)?;
        Some((there.0 - here.0, there.1 - here.1))
    }

    fn attack(&mut self, controls: &Controls, moment: &Moment<'_>, (east, north): (f64, f64), input: &mut [i32]) {
        Heading::of(libm::atan2(north, east) / std::f64::consts::TAU).run(controls, input);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tickwire_proto::v1 as pb;
    use tickwire_shared::{Field, InputField, Kind, Quantity, SchemaParts, schema_of};
    use tickwire_wire::zigzag;

    use super::{super::roles::assign, *};

    const TRACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/traces/freedm_DEMO2.lmp");

    fn roles() -> Vec<Role> {
        let words = ["idle", "wander", "chase", "chaos", &format!("trace:{TRACE}")];
        assign(&words.map(|word| word.parse().unwrap()), 5).unwrap()
    }

    fn arena() -> Arc<Schema> {
        schema_of(&tickwire_arena::Arena).unwrap()
    }

    /// All inputs of a bot that sees nothing, tick by tick.
    fn inputs(role: &Role, schema: &Arc<Schema>, rate: u32, ticks: u64) -> Vec<Vec<i32>> {
        let mirror = Mirror::new(Arc::clone(schema));
        let mut behaviour = Behaviour::new(role, schema, 7);
        let mut input = schema.neutral_input();
        let rate = TickRate::new(rate).unwrap();
        let mut all = Vec::new();
        for tick in 0..ticks {
            behaviour.choose(&Moment { tick: Tick(1000 + tick), rate, mirror: &mirror }, &mut input);
            all.push(input.clone());
        }
        all
    }

    #[test]
    fn who_wanders_runs_at_full_speed_and_turns_about_once_a_second() {
        let seconds = 60;
        let walk = inputs(&Role::Wander, &arena(), 60, 60 * seconds);
        let turns = walk.windows(2).filter(|pair| pair[0] != pair[1]).count() as u64;
        assert!((seconds * 8 / 10..=seconds * 12 / 10).contains(&turns), "{turns}");
        for input in &walk {
            let speed = f64::from(input[0] * input[0] + input[1] * input[1]).sqrt();
            assert!((speed - 127.0).abs() < 1.0, "{speed}");
            assert_eq!(input[3..], [0, 0]);
        }
    }

    #[test]
    fn chaos_does_everything_and_idle_nothing() {
        let chaos = inputs(&Role::Chaos, &arena(), 60, 600);
        for (i, field) in arena().inputs.iter().enumerate() {
            let (min, max) = (field.quantity.min, field.quantity.max);
            let lowest = chaos.iter().map(|input| input[i]).min().unwrap();
            let highest = chaos.iter().map(|input| input[i]).max().unwrap();
            let slack = (max - min) / 20;
            assert!(lowest - min <= slack && max - highest <= slack, "{}: {lowest} to {highest}", field.name);
        }
        assert!(inputs(&Role::Idle, &arena(), 60, 60).iter().all(|input| *input == arena().neutral_input()));
    }

    #[test]
    fn a_trace_walks_aims_fires_and_launches() {
        let trace = assign(&[format!("trace:{TRACE}").parse().unwrap()], 1).unwrap().remove(0);
        let played = inputs(&trace, &arena(), 60, 60 * 106);
        let share = |counts: fn(&Vec<i32>) -> bool| {
            played.iter().filter(|input| counts(input)).count() as f64 / played.len() as f64
        };
        assert!(share(|input| input[0] != 0 || input[1] != 0) > 0.5);
        assert!(share(|input| input[3] != 0) > 0.05);
        assert!(played.iter().filter(|input| input[4] != 0).count() >= 1);
    }

    #[test]
    fn one_seed_is_one_walk() {
        assert_eq!(inputs(&Role::Wander, &arena(), 60, 300), inputs(&Role::Wander, &arena(), 60, 300));
    }

    #[test]
    fn who_chases_runs_at_the_nearest_other_player_and_fires() {
        let kind = |name: &str| {
            let axis = |name| Field::plain(name, Quantity::count(-100_000..=100_000));
            Kind::new(name, vec![axis("x"), axis("y")])
        };
        let arena = arena();
        let parts = SchemaParts {
            game: "test".into(),
            kinds: vec![kind("player"), kind("rocket")],
            inputs: arena.inputs.clone(),
            ..SchemaParts::default()
        };
        let schema = Arc::new(Schema::new(parts).unwrap());
        // Own entity 1 at (100, 0); 2 far to the west, 3 near to the north, a rocket nearer still.
        let at = |gap: u32, x: i32, y: i32| [gap, zigzag(x), zigzag(y)];
        let kinds = vec![
            pb::KindUpdate {
                kind: 0,
                arrivals: [at(0, 100, 0), at(0, -900, 0), at(0, 100, 50)].concat(),
                ..pb::KindUpdate::default()
            },
            pb::KindUpdate { kind: 1, arrivals: at(3, 101, 0).to_vec(), ..pb::KindUpdate::default() },
        ];
        let owner =
            pb::OwnerSection { base_age: Some(0), net_id: 1, values: vec![100, 0], ..pb::OwnerSection::default() };
        let snapshot = pb::Snapshot {
            tick: 5,
            reset: true,
            owner: Some(owner),
            cells: vec![pb::CellUpdate { base_age: Some(0), kinds, ..pb::CellUpdate::default() }],
            ..pb::Snapshot::default()
        };
        let mut mirror = Mirror::new(Arc::clone(&schema));
        assert_eq!(mirror.apply(0, &snapshot).unwrap().entities, 4);

        let mut behaviour = Behaviour::new(&Role::Chase, &schema, 1);
        let mut input = schema.neutral_input();
        let rate = TickRate::DEFAULT;
        behaviour.choose(&Moment { tick: Tick(6), rate, mirror: &mirror }, &mut input);
        assert_eq!(input, [0, 127, 1024, 1, 1]);
        behaviour.choose(&Moment { tick: Tick(7), rate, mirror: &mirror }, &mut input);
        assert_eq!(input, [0, 127, 1024, 1, 0]);
    }

    fn any_schema() -> impl Strategy<Value = Arc<Schema>> {
        let field = (any::<i32>(), any::<i32>(), 0.0..=1.0_f64, any::<bool>()).prop_map(|(a, b, place, edge)| {
            let (min, max) = (a.min(b), a.max(b));
            let neutral = (f64::from(min) + place * (f64::from(max) - f64::from(min))) as i32;
            let make = if edge { InputField::edge } else { InputField::hold };
            InputField { neutral, ..make("", Quantity::count(min..=max)) }
        });
        (proptest::collection::vec(field, 5), any::<bool>()).prop_map(|(mut inputs, known)| {
            let names = if known { ["move_x", "rocket", "aim", "fire", "move_y"] } else { ["a", "b", "c", "d", "e"] };
            for (input, name) in inputs.iter_mut().zip(names) {
                input.name = name.to_owned();
            }
            let parts = SchemaParts { game: "test".into(), inputs, ..SchemaParts::default() };
            Arc::new(Schema::new(parts).unwrap())
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_behaviour_stays_within_the_schemas_ranges(schema in any_schema(), rate in 1..=240_u32) {
            for role in roles() {
                for input in inputs(&role, &schema, rate, 200) {
                    for (value, field) in input.iter().zip(&schema.inputs) {
                        prop_assert!((field.quantity.min..=field.quantity.max).contains(value), "{role:?} {field:?}");
                    }
                }
            }
        }
    }
}
