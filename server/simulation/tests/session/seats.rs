//! Who sits, and for how long.

use tickwire_shared::{PlayerId, PlayerStatus, Provenance, Tick};
use tickwire_simulation::{
    InputVerdict, JoinError, LEFT_ROWS_MAX, NameError, SeatChange, Session, SessionConfig, SessionLimits,
};

use crate::game::{field, input, net_id_of, session, session_with, tick, tick_until, ticks};

fn session_of(max_players: u32, grace_ticks: u64) -> Session {
    let limits = SessionLimits { max_players, grace_ticks, ..SessionLimits::default() };
    session_with(SessionConfig { limits, ..SessionConfig::default() })
}

fn status(session: &Session, player: PlayerId) -> Option<PlayerStatus> {
    session.frame().roster.row(player).map(|row| row.status)
}

#[test]
fn a_player_sits_down_at_the_next_tick() {
    let mut session = session();
    let ada = session.join("Ada").expect("a free seat");
    assert_eq!((session.seats_taken(), session.frame().seats.len()), (1, 0));
    let (record, output) = tick(&mut session);
    assert_eq!(record.seat_changes, [SeatChange::Joined { player: ada, name: "Ada".into() }]);
    assert_eq!(record.inputs[0].provenance, Provenance::Absent);
    let row = output.frame.roster.row(ada).expect("a row");
    assert_eq!((&*row.name, row.status, row.version), ("Ada", PlayerStatus::Connected, Tick(1)));
    assert!(net_id_of(&session, ada).is_some());
    assert!(tick(&mut session).0.seat_changes.is_empty());
}

#[test]
fn a_full_session_says_so_until_a_seat_is_free() {
    let mut session = session_of(2, 60);
    let ada = session.join("").expect("a free seat");
    session.join("").expect("a free seat");
    assert_eq!(session.join("Bob"), Err(JoinError::Full { max_players: 2 }));
    tick(&mut session);
    assert_eq!(&*session.frame().roster.row(ada).expect("a row").name, "player-1");
    session.leave(ada);
    assert_eq!(session.join("Bob"), Err(JoinError::Full { max_players: 2 }));
    tick(&mut session);
    assert_eq!(session.join("Bob"), Ok(PlayerId(3)));
}

#[test]
fn a_lost_seat_is_nobody_elses_before_its_grace_is_over() {
    let mut session = session_of(2, 30);
    let [ada, bob] = ["Ada", "Bob"].map(|name| session.join(name).expect("a free seat"));
    tick(&mut session);
    session.disconnect(bob);
    for _ in 0..30 {
        assert_eq!(session.join("Eve"), Err(JoinError::Full { max_players: 2 }));
        tick(&mut session);
    }
    assert!(session.reconnect(bob));
    tick(&mut session);
    session.disconnect(bob);
    ticks(&mut session, 31);
    let eve = session.join("Eve").expect("Bob's seat");
    let (record, _) = tick(&mut session);
    assert_eq!(record.inputs.iter().map(|input| input.player).collect::<Vec<_>>(), [ada, eve]);
}

#[test]
fn a_bad_name_takes_no_seat() {
    let mut session = session();
    assert_eq!(session.join(&"x".repeat(33)), Err(JoinError::Name(NameError::TooLong { chars: 33 })));
    assert_eq!(session.join("a\nb"), Err(JoinError::Name(NameError::ControlCharacter { character: '\n' })));
    assert_eq!((session.seats_taken(), session.join("ok")), (0, Ok(PlayerId(1))));
}

#[test]
fn a_lost_connection_keeps_its_seat_for_the_grace_ticks() {
    let mut session = session_of(4, 30);
    let ada = session.join("Ada").expect("a free seat");
    tick_until(&mut session, 10);
    session.disconnect(ada);
    session.disconnect(ada);
    let (record, output) = tick(&mut session);
    assert_eq!(record.seat_changes, [SeatChange::Disconnected { player: ada }]);
    let owner = output.frame.seat(ada).and_then(|seat| seat.owner.clone()).expect("the dot stays");
    assert_eq!((status(&session, ada), owner.values[field::CONNECTED]), (Some(PlayerStatus::Disconnected), 0));
    tick_until(&mut session, 40);
    assert_eq!(session.seats_taken(), 1);
    let (record, output) = tick(&mut session);
    assert_eq!((record.tick, record.seat_changes), (Tick(41), vec![SeatChange::Left { player: ada }]));
    assert_eq!((output.frame.seat(ada), session.seats_taken()), (None, 0));
    assert_eq!(status(&session, ada), Some(PlayerStatus::Left));
    assert!(!session.reconnect(ada));
}

#[test]
fn who_comes_back_in_time_finds_the_seat_and_the_dot() {
    let mut session = session_of(4, 30);
    let ada = session.join("Ada").expect("a free seat");
    tick_until(&mut session, 10);
    let dot = net_id_of(&session, ada);
    session.disconnect(ada);
    tick_until(&mut session, 40);
    assert!(session.reconnect(ada));
    let (record, _) = tick(&mut session);
    assert_eq!(record.seat_changes, [SeatChange::Reconnected { player: ada }]);
    ticks(&mut session, 100);
    assert_eq!((status(&session, ada), net_id_of(&session, ada)), (Some(PlayerStatus::Connected), dot));
}

#[test]
fn without_a_grace_a_lost_connection_is_the_end_of_its_seat() {
    let mut session = session_of(1, 0);
    let ada = session.join("Ada").expect("a free seat");
    tick(&mut session);
    session.disconnect(ada);
    assert_eq!(tick(&mut session).0.seat_changes, [SeatChange::Left { player: ada }]);
    assert!(session.join("Bob").is_ok());
}

#[test]
fn a_blink_between_two_ticks_is_no_change() {
    let mut session = session();
    let ada = session.join("Ada").expect("a free seat");
    tick(&mut session);
    session.disconnect(ada);
    assert!(session.reconnect(ada));
    assert!(tick(&mut session).0.seat_changes.is_empty());
}

#[test]
fn who_joins_and_goes_between_two_ticks_was_never_there() {
    let mut session = session_of(1, 30);
    let ada = session.join("Ada").expect("a free seat");
    session.leave(ada);
    let (record, output) = tick(&mut session);
    assert!(record.seat_changes.is_empty() && output.frame.roster.rows.is_empty());
    assert_eq!(session.join("Bob"), Ok(PlayerId(2)));
    session.disconnect(PlayerId(2));
    let (record, _) = tick(&mut session);
    let player = PlayerId(2);
    let joined = SeatChange::Joined { player, name: "Bob".into() };
    assert_eq!(record.seat_changes, [joined, SeatChange::Disconnected { player }]);
}

#[test]
fn a_leave_waits_until_what_was_sent_is_consumed() {
    let mut session = session();
    let ada = session.join("Ada").expect("a free seat");
    tick_until(&mut session, 10);
    for (sequence, target) in [(1, 12), (2, 14)] {
        let sent = input(&session, sequence, target, &[8]);
        assert_eq!(session.input(ada, sent), InputVerdict::Buffered);
    }
    session.leave(ada);
    let more = input(&session, 3, 15, &[8]);
    assert_eq!(session.input(ada, more), InputVerdict::NotSeated);
    assert!(!session.reconnect(ada));
    tick_until(&mut session, 14);
    assert_eq!(session.consumed_input(ada), 2);
    assert_eq!(tick(&mut session).0.seat_changes, [SeatChange::Left { player: ada }]);
    assert_eq!(session.seats_taken(), 0);
}

#[test]
fn rows_of_leavers_stay_ten_seconds_and_are_bounded() {
    let mut session = session_of(512, 0);
    let ada = session.join("Ada").expect("a free seat");
    tick(&mut session);
    session.leave(ada);
    tick(&mut session);
    tick_until(&mut session, 2 + 599);
    assert_eq!(status(&session, ada), Some(PlayerStatus::Left));
    tick(&mut session);
    assert_eq!(status(&session, ada), None);
    for _ in 0..4 {
        let players: Vec<_> = (0..512).map(|_| session.join("").expect("a free seat")).collect();
        tick(&mut session);
        players.into_iter().for_each(|player| session.leave(player));
        tick(&mut session);
    }
    assert_eq!(session.frame().roster.rows.len(), LEFT_ROWS_MAX);
}

#[test]
fn a_score_moves_its_row_alone() {
    let mut session = session();
    let [ada, bob] = ["Ada", "Bob"].map(|name| session.join(name).expect("a free seat"));
    tick_until(&mut session, 4);
    let before = session.frame().clone();
    let jump = input(&session, 1, 5, &[0, 1]);
    session.input(ada, jump);
    let (_, output) = tick(&mut session);
    let row = output.frame.roster.row(ada).expect("a row");
    assert_eq!((row.scores.as_slice(), row.version), ([1].as_slice(), Tick(5)));
    assert_eq!(output.frame.roster.row(bob), before.roster.row(bob));
    assert_eq!(output.result.events[0].1.values, [1]);
    let (_, output) = tick(&mut session);
    assert!(std::sync::Arc::ptr_eq(&output.frame.roster, &session.frame().roster));
    assert_eq!(output.frame.roster.row(ada).map(|row| row.version), Some(Tick(5)));
}
