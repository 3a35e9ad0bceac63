//! Several streams of one player.

use super::*;

/// A client with two streams open.
fn striped() -> (Core, Duration) {
    let now = Duration::from_secs(1);
    let mut first = welcome(6000);
    if let Some(Down::Welcome(welcome)) = &mut first.kind {
        (welcome.max_stripes, welcome.attach_token) = (2, vec![9; 32]);
    }
    let options = JoinOptions { stripes: Stripes::Fixed(4), ..JoinOptions::default() };
    let mut core = Core::new(&options, first, now).unwrap();
    assert_eq!(core.poll_stripe(now), Some(StripeChange::Open(1)));
    assert!(matches!(core.attach_hello().kind, Some(Up::Hello(hello)) if hello.attach_token == [9; 32]));
    let other = pb::Welcome { player: 2, ..pb::Welcome::default() };
    let other = pb::ServerMessage { kind: Some(Down::Welcome(other)) };
    assert_eq!(core.stripe_opened(1, &other, now), Err(ProtocolError::Player));
    core.stripe_opened(1, &welcome(6000), now).unwrap();
    (core, now)
}

#[test]
fn each_stream_acknowledges_what_came_on_it_and_asks_for_its_own_reset() {
    let (mut core, now) = striped();
    for stripe in 0..2 {
        assert!(matches!(transmit(&mut core, stripe, now)[..], [Up::Ping(_)]));
    }
    core.handle_on(0, snapshot(6002, true), now).unwrap();
    core.handle_on(1, snapshot(6001, true), now).unwrap();
    let ack = |tick| vec![Up::Ack(pb::Ack { epoch: 1, newest_tick: tick })];
    assert_eq!(transmit(&mut core, 0, now), ack(6002));
    assert_eq!(transmit(&mut core, 1, now), ack(6001));
    assert_eq!(core.mirror().tick(), Tick(6002));

    // A tick that does not rise on its stream breaks that one alone.
    core.handle_on(1, snapshot(6001, false), now).unwrap();
    core.handle_on(0, snapshot(6003, false), now).unwrap();
    assert_eq!(transmit(&mut core, 0, now), ack(6003));
    assert!(matches!(transmit(&mut core, 1, now)[..], [Up::Resync(_), Up::Ack(_)]));
    assert_eq!(core.stats().resyncs, 1);
}

#[test]
fn what_all_streams_say_is_told_once_and_one_that_was_to_close_says_nothing() {
    let (mut core, now) = striped();
    let say = |core: &mut Core, stripe, kind| core.handle_on(stripe, pb::ServerMessage { kind: Some(kind) }, now);
    let notice = || {
        let kind = pb::NoticeKind::Draining.into();
        Down::Notice(pb::Notice { kind, deadline_ms: 5, ..pb::Notice::default() })
    };
    let goodbye = |reason: pb::GoodbyeReason| {
        Down::Goodbye(pb::Goodbye { reason: reason.into(), text: String::new(), ..pb::Goodbye::default() })
    };
    for stripe in 0..2 {
        say(&mut core, stripe, notice()).unwrap();
    }
    say(&mut core, 1, goodbye(pb::GoodbyeReason::StripeClosed)).unwrap();
    core.stripe_closed(1, now);
    for stripe in 0..2 {
        say(&mut core, stripe, goodbye(pb::GoodbyeReason::Shutdown)).unwrap();
    }
    let events: Vec<Event> = std::iter::from_fn(|| core.poll_event(now)).collect();
    assert!(matches!(events[..], [Event::Draining(_), Event::Goodbye { .. }]), "{events:?}");
    assert_eq!((core.poll_stripe(now + Duration::from_secs(60)), core.stripes_open()), (None, 1));
}

#[test]
fn what_several_streams_tell_is_told_once_and_pausing_again_is_another_pause() {
    let mut game = Match::new(0.020, 0.0, 15);
    game.run(1.0);
    let now = Duration::from_secs_f64(game.now);
    let mut hear = |stripe: usize, kind: pb::NoticeKind, number: u64| {
        let notice = pb::Notice { kind: kind.into(), number, text: "again".into(), ..pb::Notice::default() };
        let message = pb::ServerMessage { kind: Some(Down::Notice(notice)) };
        game.core.handle_on(stripe, message, now).unwrap();
    };
    use pb::NoticeKind::{Announcement, Paused, Resumed};
    for stripe in [1, 0] {
        for (kind, number) in [(Paused, 1), (Announcement, 2), (Resumed, 3), (Announcement, 4)] {
            hear(stripe, kind, number);
        }
    }
    // The other one is gone.
    hear(0, Paused, 5);
    let said = || Event::Announcement("again".into());
    let told: Vec<Event> = std::iter::from_fn(|| game.core.poll_event(now))
        .filter(|event| !matches!(event, Event::InputDue(_) | Event::Snapshot(_)))
        .collect();
    assert_eq!(told, [Event::Paused, said(), Event::Resumed, said(), Event::Paused]);
}

#[test]
fn leaving_is_said_on_one_stream() {
    let (mut core, now) = striped();
    core.leave();
    assert_eq!(transmit(&mut core, 1, now), [Up::Leave(pb::Leave {})]);
    assert_eq!(transmit(&mut core, 0, now), []);
}
