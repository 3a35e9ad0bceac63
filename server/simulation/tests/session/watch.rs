//! A look at a session after each system sees what is there, and changes nothing.

use std::sync::Arc;

use proptest::prelude::*;
use tickwire_arena::Arena;
use tickwire_shared::{Game, KindId, NetId, Tick, Truth};
use tickwire_simulation::{Input, Session, SessionConfig, SystemWatch, TickInput, WatchedTick, WorldState};

use crate::{
    determinism::{assert_same_frame, config, play},
    game::{Dots, break_by, fault, input, session_with, tick},
};

fn watched(game: impl Game, config: SessionConfig) -> (Session, SystemWatch) {
    let watch = SystemWatch::default();
    (Session::watched(Arc::new(game), config, &watch).expect("a sound game"), watch)
}

/// Plays the same records in a session that is looked at in one tick of `period`, and in one that is not.
fn compare(mut plain: Session, (mut session, watch): (Session, SystemWatch), records: &[TickInput], period: u64) {
    let mut truth = Truth::default();
    for record in records {
        let looks = record.tick.0.is_multiple_of(period);
        if looks {
            watch.look();
        }
        let (expected, found) =
            (plain.finish_tick(record).expect("sound"), session.finish_tick(record).expect("sound"));
        assert_eq!(expected.result, found.result, "tick {}", record.tick);
        assert_same_frame(&expected.frame, &found.frame);
        let before = truth.clone();
        truth.apply(&found.result.truth).expect("a tick follows from the one before");
        let WatchedTick { systems, states } = watch.take();
        assert!(systems.len() > 3);
        let (Some(first), Some(last)) = (states.first(), states.last()) else {
            assert!(!looks, "it was looked at");
            continue;
        };
        assert_eq!((looks, states.len()), (true, systems.len() + 1));
        // What the game's setup has made stands in the truth of tick 1.
        if record.tick > Tick(1) {
            assert_eq!((&first.truth, first.events.len()), (&before, 0), "tick {}: before its systems", record.tick);
        }
        assert_eq!((&last.truth, &last.events), (&truth, &found.result.events), "tick {}: after them", record.tick);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_session_that_is_looked_at_is_the_same_session(
        choices in prop::collection::vec(any::<u32>(), 1..150), period in 1..4_u64
    ) {
        let records = play(&mut session_with(config()), &choices);
        compare(session_with(config()), watched(Dots::default(), config()), &records, period);
    }
}

#[test]
fn so_it_is_in_the_arena_whose_systems_spawn_despawn_and_ask_what_has_changed() {
    let config = SessionConfig { seed: 3, ..SessionConfig::default() };
    let mut session = Session::new(Arc::new(Arena), config.clone()).expect("the arena is sound");
    let schema = Arc::clone(session.schema());
    let players: Vec<_> = (0..6).map(|_| session.join("").expect("a free seat")).collect();
    let mut records = Vec::new();
    for now in 1..=900_u64 {
        for player in &players {
            let mut mixed = tickwire_shared::Digest::default();
            [u64::from(player.0), now / 7].into_iter().for_each(|word| mixed.write(word));
            let mixed = mixed.finish();
            let value = |(i, field): (usize, &tickwire_shared::InputField)| {
                let range = i64::from(field.quantity.max) - i64::from(field.quantity.min) + 1;
                (i64::from(field.quantity.min) + (mixed.rotate_left(i as u32 * 9) >> 16) as i64 % range) as i32
            };
            let values: Vec<i32> = schema.inputs.iter().enumerate().map(value).collect();
            session.input(*player, Input::new(&schema, now, now, values).expect("in range"));
        }
        if now == 500 {
            session.leave(players[2]);
        }
        records.push(tick(&mut session).0);
    }
    let plain = Session::new(Arc::new(Arena), config.clone()).expect("the arena is sound");
    compare(plain, watched(Arena, config), &records, 3);
}

#[test]
fn each_system_is_named_and_what_it_did_stands_behind_it() {
    let (mut session, watch) = watched(Dots::default(), config());
    let player = session.join("Ada").expect("a free seat");
    watch.look();
    tick(&mut session);
    let WatchedTick { systems, states } = watch.take();
    let short: Vec<String> = systems.iter().map(|name| name.replace("session::game::", "")).collect();
    assert_eq!(short, ["seat", "act", "push", "add_one, double"]);
    // The dot is there as soon as the commands of the first system are applied.
    let dots: Vec<usize> = states.iter().map(|state| state.truth.rows.len()).collect();
    assert!(dots[0] < dots[1] && dots[1..].iter().all(|&count| count == dots[1]), "{dots:?}");

    let sent = input(&session, 1, 2, &[8, 0]);
    session.input(player, sent);
    watch.look();
    tick(&mut session);
    let WatchedTick { states, .. } = watch.take();
    let own = session.frame().seat(player).and_then(|seat| seat.owner.as_ref()).expect("a dot").net_id;
    let row = |i: usize| states[i].truth.rows[&(KindId(0), own)].clone();
    assert_ne!(row(3), row(0), "it was pushed");
    assert_eq!(row(4), row(3), "the total is no field");
    assert_ne!(states[3].hidden, states[4].hidden);
    let hashes: Vec<u64> = states.iter().map(WorldState::hash).collect();
    assert!(hashes.windows(2).filter(|pair| pair[0] != pair[1]).count() >= 2, "{hashes:?}");
}

#[test]
fn nothing_is_seen_of_ticks_that_nobody_asked_for() {
    let (mut session, watch) = watched(Dots::default(), config());
    tick(&mut session);
    assert_eq!(watch.take().states, []);
    watch.look();
    tick(&mut session);
    assert_eq!(watch.take().states.len(), 5);
    tick(&mut session);
    assert_eq!(watch.take().states, []);
    assert_eq!(session.tick(), Tick(3));
}

#[test]
fn of_a_tick_that_panics_the_systems_before_are_seen() {
    let (mut session, watch) = watched(Dots::default(), config());
    let player = session.join("Ada").expect("a free seat");
    tick(&mut session);
    watch.look();
    break_by(&mut session, player, fault::SYSTEM).expect_err("it breaks the game");
    let WatchedTick { systems, states } = watch.take();
    assert!(systems[states.len() - 1].ends_with("::act"), "{systems:?}, {} states", states.len());
    assert!(states[0].truth.rows.contains_key(&(KindId(0), NetId(1))), "the dot that is there from the start");
}
