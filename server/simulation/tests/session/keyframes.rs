//! A session that goes on from a keyframe is the session that it was taken of.

use std::sync::{Arc, OnceLock};

use bevy_ecs::{
    component::Component,
    query::{Added, Changed},
    resource::Resource,
    system::{Commands, Query, Res, ResMut},
    world::World,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use tickwire_arena::Arena;
use tickwire_shared::{
    Clock, Definition, Digest, Field, Game, NetId, NetIds, Owner, PlayerId, Quantity, SaveError, Saves, Scores, Seats,
    Systems, Tick,
};
use tickwire_simulation::{Input, Keyframe, KeyframeError, RestoreError, Session, SessionConfig, SessionLimits};

use crate::{
    determinism::{assert_same_frame, config},
    game::{Dots, input, session_with, tick, ticks},
};

/// The session that goes on from another one's keyframe, by way of bytes.
fn rebuilt(session: &Session) -> Session {
    let bytes = keyframe(session).to_bytes();
    let keyframe = Keyframe::from_bytes(session.schema(), &bytes).expect("its own bytes");
    assert_eq!(keyframe.to_bytes(), bytes);
    let rebuilt =
        Session::restore(Arc::clone(session.game()), session.config().clone(), &keyframe).expect("it is sound");
    assert_same_frame(session.frame(), rebuilt.frame());
    assert_eq!(session.seats_taken(), rebuilt.seats_taken());
    rebuilt
}

fn keyframe(session: &Session) -> Keyframe {
    session.keyframe().expect("it can be saved").expect("there is one")
}

/// One thing that may happen to a session, as a number says: the same for each session that is in the same state.
fn happen(session: &mut Session, choice: u32, sequence: u64) {
    let now = session.tick().0;
    let seats = session.frame().seats.len();
    let player = session.frame().seats.get(choice as usize / 16 % seats.max(1)).map_or(PlayerId(1), |seat| seat.player);
    match choice % 16 {
        0 | 1 => drop(session.join("")),
        2 => session.leave(player),
        3 => session.disconnect(player),
        4 => drop(session.reconnect(player)),
        _ => {
            let fields = session.schema().inputs.clone();
            let value = |(i, field): (usize, &tickwire_shared::InputField)| {
                let (min, max) = (field.quantity.min, field.quantity.max);
                // Faults are for other tests.
                if field.name == "fault" {
                    return 0;
                }
                let dice = Digest::of(u64::from(choice) << 8 | i as u64);
                min + (dice % (i64::from(max) - i64::from(min) + 1) as u64) as i32
            };
            let values: Vec<i32> = fields.iter().enumerate().map(value).collect();
            let target = now + 1 + u64::from(choice % 7);
            let sent = Input::new(session.schema(), sequence, target, values).expect("in range");
            let seen = now.saturating_sub(u64::from(choice) % 20);
            session.input(player, sent.with_seen(seen, choice % 256).expect("in range"));
        }
    }
}

/// Plays two sessions side by side, of which the second is rebuilt every few ticks, and compares all of them.
fn play_side_by_side(new: impl Fn() -> Session, choices: &[u32], rebuild_every: u64) {
    let (mut first, mut second) = (new(), new());
    for (i, &choice) in choices.iter().enumerate() {
        for session in [&mut first, &mut second] {
            happen(session, choice, i as u64 + 1);
        }
        if choice % 5 < 2 {
            continue;
        }
        let ((record, output), (same_record, same_output)) = (tick(&mut first), tick(&mut second));
        assert_eq!(record, same_record);
        assert_eq!(output.result, same_output.result);
        assert_same_frame(&output.frame, &same_output.frame);
        assert_eq!(first.counters(), second.counters());
        let now = output.frame.tick;
        if now.0.is_multiple_of(rebuild_every) {
            second = rebuilt(&second);
            // All that there is: truth, rates, ramps, older frames, and what each system has seen change.
            assert_eq!(keyframe(&first).to_bytes(), keyframe(&second).to_bytes(), "after tick {now}");
        }
    }
}

fn arena(size: f64) -> Session {
    let limits = SessionLimits { max_players: 24, grace_ticks: 30, ..SessionLimits::default() };
    let named_settings = vec![("size".to_owned(), size), ("respawn_seconds".to_owned(), 0.2)];
    let config = SessionConfig { seed: 5, limits, named_settings, ..SessionConfig::default() };
    Session::new(Arc::new(Arena), config).expect("an arena")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn dots_go_on_from_keyframes_bit_for_bit(
        choices in prop::collection::vec(any::<u32>(), 1..250), rebuild_every in 1..9_u64
    ) {
        play_side_by_side(|| session_with(config()), &choices, rebuild_every);
    }

    #[test]
    fn arenas_go_on_from_keyframes_bit_for_bit(
        choices in prop::collection::vec(any::<u32>(), 1..300), rebuild_every in 2..9_u64, is_large: bool
    ) {
        play_side_by_side(|| arena(if is_large { 400.0 } else { 40.0 }), &choices, rebuild_every);
    }

    #[test]
    fn what_systems_see_change_is_the_same_from_keyframes(
        choices in prop::collection::vec(any::<u32>(), 1..200), rebuild_every in 1..4_u64
    ) {
        let new = || Session::new(Arc::new(Heedful), SessionConfig::default()).expect("a session");
        play_side_by_side(new, &choices, rebuild_every);
    }

    #[test]
    fn a_follower_of_records_goes_on_from_a_keyframe_as_who_recorded(
        choices in prop::collection::vec(any::<u32>(), 40..300), more in prop::collection::vec(any::<u32>(), 30)
    ) {
        let mut first = arena(40.0);
        let mut records = Vec::new();
        let mut kept = None;
        for (i, &choice) in choices.iter().enumerate() {
            happen(&mut first, choice, i as u64 + 1);
            if choice % 5 < 2 {
                continue;
            }
            records.push(tick(&mut first));
            if records.len() == 10 {
                kept = Some(keyframe(&first));
            }
        }
        // Until all that was sent and asked for is on record.
        records.extend((0..8).map(|_| tick(&mut first)));
        let Some(kept) = kept else { return Ok(()) };
        let mut second = Session::restore(Arc::new(Arena), first.config().clone(), &kept).expect("it is sound");
        for (record, output) in &records[10..] {
            second.check_tick(record).expect("what a session records fits");
            let same = second.finish_tick(record).expect("sound");
            prop_assert_eq!(&same.result, &output.result);
        }
        assert_same_frame(first.frame(), second.frame());
        // A follower goes on as the one that it followed.
        for session in [&mut first, &mut second] {
            for player in session.frame().seats.iter().map(|seat| seat.player).collect::<Vec<_>>() {
                let _ = session.reconnect(player);
            }
        }
        for (i, &choice) in more.iter().enumerate() {
            for session in [&mut first, &mut second] {
                happen(session, choice, (choices.len() + i) as u64 + 1);
            }
            prop_assert_eq!(tick(&mut first).0, tick(&mut second).0);
        }
    }
}

/// A session of some ticks, in bytes.
fn lively_keyframe() -> Vec<u8> {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    let play = || {
        let mut session = arena(40.0);
        (0..120).for_each(|i| {
            happen(&mut session, i * 7 + i % 3, u64::from(i) + 1);
            tick(&mut session);
        });
        keyframe(&session).to_bytes()
    };
    BYTES.get_or_init(play).clone()
}

proptest! {
    #[test]
    fn bytes_that_are_no_keyframe_are_refused_or_harmless(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(), is_cut: bool
    ) {
        let new = arena(40.0);
        let mut bytes = lively_keyframe();
        for (at, with) in flips {
            *at.get_mut(&mut bytes) ^= with;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(keyframe) = Keyframe::from_bytes(new.schema(), &bytes)
            && let Ok(mut session) = Session::restore(Arc::new(Arena), new.config().clone(), &keyframe)
        {
            for _ in 0..3 {
                let record = session.begin_tick();
                let _ = session.finish_tick(&record);
            }
        }
    }
}

#[test]
fn a_long_match_goes_on_from_keyframes_bit_for_bit() {
    let choices: Vec<u32> = (0..2000_u32).map(|i| i.wrapping_mul(2_654_435_761) >> 3).collect();
    play_side_by_side(|| arena(200.0), &choices, 17);
}

/// It counts what each of its systems sees change.
struct Heedful;

#[derive(Component, Serialize, Deserialize)]
struct Walker;

#[derive(Component, Clone, Copy, Serialize, Deserialize)]
struct Place(i32);

#[derive(Resource, Default, Serialize, Deserialize)]
struct Tally(u64);

impl Tally {
    fn note(&mut self, number: usize) {
        self.0 = Digest::of(self.0 ^ number as u64);
    }
}

impl Game for Heedful {
    fn name(&self) -> &str {
        "heedful"
    }

    fn define(&self, definition: &mut Definition) {
        let place = Field::plain("place", Quantity::count(0..=i32::MAX));
        definition.kind::<Walker>("walker").field(place, |place: &Place| place.0);
        definition.score("visits");
    }

    fn setup(&self, world: &mut World, _: &tickwire_shared::Settings) {
        world.init_resource::<Tally>();
    }

    fn systems(&self, systems: &mut Systems) {
        systems.add(heed).add(come).add(heed).add(walk).add(heed).add(go).add(heed);
    }

    fn saves(&self, saves: &mut Saves) {
        saves.component::<Walker>().component::<Place>().resource::<Tally>();
    }

    fn digest(&self, world: &World, digest: &mut Digest) {
        digest.write(world.resource::<Tally>().0);
    }
}

fn heed(
    mut tally: ResMut<Tally>,
    (scores, seats): (Res<Scores>, Res<Seats>),
    walkers: Query<(), Added<Walker>>,
    owners: Query<(), Added<Owner>>,
    numbers: Query<(), Changed<NetId>>,
    places: Query<&NetId, Changed<Place>>,
    new: Query<(), Added<Place>>,
) {
    use bevy_ecs::change_detection::DetectChanges as _;
    for count in [walkers.iter().count(), owners.iter().count(), numbers.iter().count(), new.iter().count()] {
        tally.note(count);
    }
    let mut changed: Vec<NetId> = places.iter().copied().collect();
    changed.sort_unstable();
    changed.iter().for_each(|id| tally.note(id.0 as usize));
    tally.note(usize::from(scores.is_changed()) * 2 + usize::from(seats.is_changed()));
}

fn come(mut commands: Commands, clock: Res<Clock>, seats: Res<Seats>, mut ids: ResMut<NetIds>) {
    if clock.tick.0.is_multiple_of(3) {
        commands.spawn((ids.allocate(), Walker, Place(clock.tick.0 as i32)));
    }
    for &player in &seats.joined {
        commands.spawn((ids.allocate(), Owner(player), Walker, Place(0)));
    }
}

fn walk(
    clock: Res<Clock>,
    mut scores: ResMut<Scores>,
    mut walkers: Query<(&NetId, Option<&Owner>, &mut Place)>,
    mut commands: Commands,
    all: Query<(bevy_ecs::entity::Entity, &NetId)>,
) {
    for (id, owner, mut place) in &mut walkers {
        if (clock.tick.0 + u64::from(id.0)).is_multiple_of(4) {
            place.0 += 1;
            if let Some(owner) = owner {
                scores.add(owner.0, tickwire_shared::ScoreId(0), 1);
            }
        }
    }
    // A component that comes later than its entity.
    for (entity, id) in &all {
        if (clock.tick.0 + u64::from(id.0)).is_multiple_of(11) {
            commands.entity(entity).insert(Walker);
        }
    }
}

fn go(
    mut commands: Commands,
    clock: Res<Clock>,
    seats: Res<Seats>,
    all: Query<(bevy_ecs::entity::Entity, &NetId, Option<&Owner>)>,
) {
    for (entity, id, owner) in &all {
        let has_left = owner.is_some_and(|owner| seats.left.contains(&owner.0));
        if has_left || owner.is_none() && clock.tick.0 > u64::from(id.0) * 3 + 40 {
            commands.entity(entity).despawn();
        }
    }
}

fn forgetful(forgets: &'static str) -> Session {
    let game = Dots { forgets: Some(forgets), ..Dots::default() };
    let mut session = Session::new(Arc::new(game), config()).expect("a session of dots");
    let ada = session.join("Ada").expect("a free seat");
    ticks(&mut session, 3);
    let sent = input(&session, 1, 4, &[8, 0]);
    session.input(ada, sent);
    ticks(&mut session, 3);
    session
}

#[test]
fn a_game_that_saves_nothing_has_no_keyframes() {
    let session = forgetful("all");
    assert!(session.keyframe().expect("nothing can fail").is_none());
    assert!(!session.has_keyframes());
    let sound = forgetful("nothing");
    let error = Session::restore(Arc::clone(session.game()), session.config().clone(), &keyframe(&sound));
    assert_eq!(error.map(drop), Err(RestoreError::NothingSaved { game: "dots".into() }));
}

#[test]
fn there_is_no_keyframe_before_the_first_tick() {
    assert!(session_with(config()).keyframe().expect("nothing can fail").is_none());
}

fn restore_error(session: &Session, keyframe: &Keyframe) -> RestoreError {
    let restored = Session::restore(Arc::clone(session.game()), session.config().clone(), keyframe);
    restored.map(drop).expect_err("it cannot go on")
}

#[test]
fn what_a_game_forgets_is_found_when_it_is_restored() {
    let session = forgetful("position");
    let found = matches!(
        restore_error(&session, &keyframe(&session)),
        RestoreError::Truth { kind, net_id: NetId(1), field: Some((field, _, 0)) } if kind == "dot" && field == "x"
    );
    assert!(found, "{}", restore_error(&session, &keyframe(&session)));
    let session = forgetful("total");
    assert!(matches!(restore_error(&session, &keyframe(&session)), RestoreError::Hash { tick: Tick(6), .. }));
}

#[test]
fn hooks_that_fail_say_so() {
    let part = |problem: &str| SaveError::Part { part: "oblivion".into(), problem: problem.into() };
    assert_eq!(forgetful("save").keyframe().map(drop), Err(part("forgotten")));
    assert_eq!(forgetful("panic").keyframe().map(drop), Err(SaveError::Panicked("what was it?".into())));
    let session = forgetful("load");
    assert_eq!(
        restore_error(&session, &keyframe(&session)).to_string(),
        "the world cannot be loaded: oblivion: [7], of what?"
    );
}

#[test]
fn a_keyframe_of_another_game_or_of_another_match_is_refused() {
    let (session, other) = (forgetful("nothing"), forgetful("total"));
    assert!(matches!(restore_error(&session, &keyframe(&other)), RestoreError::Layout { .. }));
    let config = SessionConfig { limits: SessionLimits { max_players: 1, ..config().limits }, ..config() };
    let bytes = keyframe(&session).to_bytes();
    assert!(matches!(Keyframe::from_bytes(arena(40.0).schema(), &bytes), Err(KeyframeError::Frames(_))));
    let restored = Session::restore(Arc::clone(session.game()), config, &keyframe(&session)).expect("it fits");
    assert_eq!(restored.tick(), Tick(6));
}

#[test]
fn a_recovered_session_has_another_epoch_and_the_same_state() {
    let session = forgetful("nothing");
    let config = SessionConfig { epoch: 3, ..session.config().clone() };
    let restored = Session::restore(Arc::clone(session.game()), config, &keyframe(&session)).expect("it is sound");
    assert_eq!((restored.frame().epoch, restored.frame().state_hash), (3, session.frame().state_hash));
}
