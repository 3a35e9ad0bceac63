//! A game that panics ends its session, and nothing else.

use tickwire_shared::{PlayerId, Tick};
use tickwire_simulation::Session;

use crate::game::{break_by, fault, session, tick, tick_until};

fn seated() -> (Session, PlayerId) {
    let mut session = session();
    let player = session.join("Ada").expect("a free seat");
    tick_until(&mut session, 10);
    (session, player)
}

#[test]
fn a_panic_anywhere_in_a_tick_is_that_ticks_outcome() {
    let faults = [
        (fault::SYSTEM, "player 1 broke the game"),
        (fault::CAPTURE, "a dot that cannot be read"),
        (fault::DIGEST, "a state that cannot be told"),
        (fault::DROP, "with a brittle world"),
        (fault::TWO_OWNED, "player 1 owns the entities 2 and 3; give each player one Owner at most"),
        (fault::MISSING_RESOURCE, "a system that cannot run"),
    ];
    for (fault, message) in faults {
        let (mut session, ada) = seated();
        let (mut other, _) = seated();
        let panic = break_by(&mut session, ada, fault).expect_err("it must break");
        assert_eq!(panic.tick, Tick(11));
        assert!(panic.message.contains(message), "{message:?} is not in: {panic}");
        tick(&mut other);
        assert_eq!(other.tick(), Tick(11));
    }
}

#[test]
fn after_a_panic_every_tick_is_the_same_panic() {
    let (mut session, ada) = seated();
    let panic = break_by(&mut session, ada, fault::SYSTEM).expect_err("it must break");
    assert_eq!(session.tick(), Tick(10));
    for _ in 0..3 {
        session.join("Bob").expect("commands are heard, and come to nothing");
        let record = session.begin_tick();
        assert_eq!(session.finish_tick(&record).map(drop), Err(panic.clone()));
    }
    assert_eq!(session.frame().tick, Tick(10));
}

#[test]
fn a_world_that_breaks_when_dropped_breaks_nothing_else() {
    let (mut session, ada) = seated();
    break_by(&mut session, ada, fault::DROP).expect_err("it must break");
    drop(session);
}

#[test]
fn events_beyond_the_limit_are_lost_and_said_to_be() {
    let (mut session, ada) = seated();
    let output = break_by(&mut session, ada, fault::EVENTS).expect("too many events are no panic");
    assert_eq!(output.result.events.len(), tickwire_simulation::EVENTS_PER_TICK_MAX);
    let seat = output.frame.seat(ada).expect("seated");
    assert_eq!((seat.events.as_ref().map(|events| events.len()), seat.events_lost), (Some(4096), 5000 - 4096));
}

#[test]
#[should_panic(expected = "finish tick 11 before the next one begins")]
fn a_tick_is_begun_once() {
    let (mut session, _) = seated();
    session.begin_tick();
    session.begin_tick();
}
