//! Two sessions side by side, of which one is rebuilt every few ticks.

use std::sync::Arc;

use tickwire_arena::Arena;
use tickwire_recording::{Difference, SoakError, SoakOptions, assert_rebuilds, soak};
use tickwire_shared::{Game, Tick};
use tickwire_simulation::{SessionConfig, SessionLimits};

use crate::game::{Dots, Twist};

fn options() -> SoakOptions {
    let limits = SessionLimits { max_players: 6, grace_ticks: 40, ..SessionLimits::default() };
    SoakOptions {
        config: SessionConfig { seed: 4, limits, ..SessionConfig::default() },
        ticks: 200,
        ..SoakOptions::default()
    }
}

fn forgiving() -> Dots {
    Dots { forgiving: true, ..Dots::default() }
}

#[test]
fn an_arena_is_the_same_rebuilt_or_not() {
    assert_rebuilds(Arena, 300);
    let game: Arc<dyn Game> = Arc::new(Arena);
    let soaked =
        soak(&game, &SoakOptions { rebuild_every: 5, ..options() }, |_| {}).expect("the arena saves all of it");
    assert_eq!((soaked.ticks, soaked.rebuilds), (200, 40));
    assert!(soaked.keyframe_bytes > 500);
}

#[test]
fn the_soak_itself_is_the_same_again_and_another_for_another_seed() {
    let game: Arc<dyn Game> = Arc::new(forgiving());
    let hash = |seed| {
        let config = SessionConfig { seed, ..options().config };
        soak(&game, &SoakOptions { config, ..options() }, |_| {}).expect("the dots save all of them").state_hash
    };
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
}

#[test]
fn what_a_game_does_not_save_is_found_at_the_first_rebuild() {
    let game: Arc<dyn Game> = Arc::new(Dots { forgetful: true, ..forgiving() });
    let error = soak(&game, &options(), |_| {}).expect_err("it forgets its players' luck");
    let SoakError::Restore { tick, source } = &error else { panic!("{error}") };
    assert!(
        tick.0.is_multiple_of(7) && source.to_string().contains("does Game::saves leave something out?"),
        "{error}"
    );
}

/// Dots that leave something of a tick in a place that nobody saves or hashes.
struct Forgotten(Dots);

impl Game for Forgotten {
    fn name(&self) -> &str {
        "forgotten"
    }
    fn define(&self, definition: &mut tickwire_shared::Definition) {
        self.0.define(definition);
    }
    fn setup(&self, world: &mut bevy_ecs::world::World, settings: &tickwire_shared::Settings) {
        self.0.setup(world, settings);
        world.insert_resource(crate::game::Pace(0));
    }
    fn systems(&self, systems: &mut tickwire_shared::Systems) {
        self.0.systems(systems);
        systems.add(crate::game::quicken);
    }
    fn saves(&self, saves: &mut tickwire_shared::Saves) {
        self.0.saves(saves);
    }
}

#[test]
fn what_is_neither_saved_nor_hashed_is_found_where_it_shows() {
    let game: Arc<dyn Game> = Arc::new(Forgotten(forgiving()));
    let error = soak(&game, &options(), |_| {}).expect_err("it forgets its pace");
    let SoakError::Truth(divergence) = &error else { panic!("{error}") };
    // After the rebuild at tick 7 the pace starts anew, which shows at tick 8.
    assert_eq!(divergence.tick, Tick(8));
    assert!(matches!(&divergence.difference, Difference::Field { kind, field, .. } if kind == "dot" && field == "hue"));
    assert!(error.to_string().starts_with("at tick 8, dot 1, field hue: "), "{error}");
    // Without rebuilding nobody can tell.
    soak(&game, &SoakOptions { rebuild_every: 0, ..options() }, |_| {}).expect("both are the same");
}

#[test]
fn a_panic_ends_it() {
    let game: Arc<dyn Game> = Arc::new(Dots { twist: Some((30, Twist::Panic)), ..forgiving() });
    let error = soak(&game, &options(), |_| {}).expect_err("it panics");
    assert!(matches!(&error, SoakError::Panicked(panic) if panic.tick == Tick(30)), "{error}");
}

#[test]
#[should_panic(expected = "forgotten does not rebuild: at tick 8, dot 1, field hue")]
fn the_assertion_says_where() {
    assert_rebuilds(Forgotten(forgiving()), 100);
}
