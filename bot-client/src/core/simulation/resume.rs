//! Connections that are lost, in simulated time.

use tickwire_shared::PlayerId;

use super::*;
use crate::core::{GaveUp, Resume, ResumeFailure};

const TOKEN: [u8; 32] = [1; 32];

/// What an attempt comes to.
enum Answer {
    Welcome(Box<pb::Welcome>),
    Failure(ResumeFailure),
}

fn welcome_of(kind: pb::ServerMessage) -> pb::Welcome {
    let Some(Down::Welcome(welcome)) = kind.kind else { panic!("no welcome") };
    welcome
}

impl Match {
    fn resumable(delay: f64, resume: Resume) -> Self {
        let mut game = Self::new(delay, 0.0, 1);
        let welcome = pb::Welcome { resume_token: TOKEN.to_vec(), ..welcome_of(welcome(game.server.tick)) };
        let options = JoinOptions { resume, ..JoinOptions::default() };
        let first = pb::ServerMessage { kind: Some(Down::Welcome(welcome)) };
        game.core = Core::new(&options, first, Duration::from_secs_f64(game.now)).unwrap();
        game.run(4.0);
        assert!(game.server.consumed > 100);
        game
    }

    fn at(&self) -> Duration {
        Duration::from_secs_f64(self.now)
    }

    /// The connection breaks, with all that is under way.
    fn lose(&mut self) {
        assert!(self.core.connection_lost(self.at()));
        self.cut();
    }

    fn cut(&mut self) {
        self.up.messages.clear();
        self.down.messages.clear();
    }

    /// What the server answers to who resumes: what the old stream left behind is dropped.
    fn let_in(&mut self) -> Answer {
        self.server.waiting.clear();
        self.server.received = (0, 0);
        Answer::Welcome(Box::new(pb::Welcome {
            epoch: self.server.epoch,
            last_consumed_input: self.server.consumed,
            resume_token: vec![2; 32],
            ..welcome_of(welcome(self.server.tick))
        }))
    }

    /// Makes attempts until one is over: by which token each was made, and when.
    fn attempt(&mut self, mut answer: impl FnMut(&mut Self, &[u8]) -> Answer) -> Vec<(f64, Vec<u8>)> {
        let mut attempts = Vec::new();
        while self.core.is_lost() {
            self.run(STEP);
            self.cut();
            match self.core.poll_stripe(self.at()) {
                Some(StripeChange::Resume) => {}
                None => continue,
                other => panic!("{other:?}"),
            }
            let Some(Up::Hello(hello)) = self.core.resume_hello().kind else { panic!("no hello") };
            assert_eq!(hello.schema_hash, self.core.schema().hash().0);
            attempts.push((self.now, hello.resume_token.clone()));
            let answer = answer(self, &hello.resume_token);
            let answered_at = self.now + 2.0 * self.delay;
            while self.now < answered_at {
                self.run(STEP);
                self.cut();
            }
            let now = self.at();
            match answer {
                Answer::Welcome(welcome) => {
                    let first = pb::ServerMessage { kind: Some(Down::Welcome(*welcome)) };
                    self.core.resumed(first, now).unwrap();
                    // Of the new stream nothing has been sent yet.
                    self.server.reset = true;
                }
                Answer::Failure(failure) => self.core.resume_failed(failure, now),
            }
        }
        attempts
    }

    fn take_events(&mut self) -> Vec<Event> {
        while let Some(event) = self.core.poll_event(self.at()) {
            self.events.push(event);
        }
        std::mem::take(&mut self.events)
    }
}

fn about_connections(events: &[Event]) -> Vec<Event> {
    let is_about = |event: &&Event| {
        matches!(event, Event::ConnectionLost | Event::Reconnected { .. } | Event::GaveUp(_) | Event::Desync(_))
    };
    events.iter().filter(is_about).cloned().collect()
}

#[test]
fn inputs_that_were_lost_with_the_connection_are_sent_again_where_they_can_still_come_in_time() {
    // Inputs are under way for long; the new connection is a quick one, so that most of them can be caught up with.
    let at_once = Resume { backoff_min: Duration::ZERO, ..Resume::default() };
    let mut game = Match::resumable(0.400, at_once);
    game.core.set_input(&[7, 1]).unwrap();
    game.run(0.1);
    let sent: BTreeMap<u64, pb::Input> =
        game.sent.iter().map(|sent| (sent.input.sequence, sent.input.clone())).collect();
    let consumed = game.server.consumed;
    game.take_events();
    game.lose();
    game.delay = 0.005;
    let attempts = game.attempt(|game, _| game.let_in());
    assert_eq!(attempts.len(), 1);
    let from = game.sent.len();
    let late = game.server.late;
    let begun = game.server.tick;
    game.resend(0.3);
    assert_eq!(
        about_connections(&game.take_events()),
        [Event::ConnectionLost, Event::Reconnected { epoch_changed: false }]
    );

    let again: Vec<&pb::Input> = game.sent[from..].iter().map(|sent| &sent.input).collect();
    let (resent, new): (Vec<&pb::Input>, Vec<&pb::Input>) =
        again.into_iter().partition(|input| sent.contains_key(&input.sequence));
    assert!(resent.len() > 15 && resent.iter().all(|input| sent[&input.sequence] == **input), "{resent:?}");
    assert!(resent.iter().all(|input| input.sequence > consumed && input.target_tick > begun));
    assert!(game.server.late <= late + 2, "but for the ticks on the way up none came late");
    // The jump that was under way is made, once.
    assert_eq!(resent.iter().filter(|input| input.values.get(1) == Some(&1)).count(), 1);
    // What follows is new, and for later ticks.
    let last = resent.last().expect("some");
    assert!(new.iter().all(|input| input.sequence > last.sequence && input.target_tick > last.target_tick));
}

impl Match {
    /// As [`run`](Self::run), where a message may have several inputs.
    fn resend(&mut self, seconds: f64) {
        let now = self.at();
        while let Some(message) = self.core.poll_transmit(now) {
            let kind = message.kind.unwrap();
            if let Up::Inputs(inputs) = &kind {
                assert!(inputs.inputs.len() <= 4);
                let sent = |input: &pb::Input| SentInput { at: self.now, input: input.clone() };
                self.sent.extend(inputs.inputs.iter().map(sent));
            }
            self.up.send(self.now, self.delay, kind);
        }
        self.run(seconds);
    }
}

#[test]
fn after_an_outage_the_player_goes_on_by_the_clock_that_they_had() {
    let mut game = Match::resumable(0.030, Resume::default());
    game.take_events();
    let before = game.sent.len();
    game.lose();
    let (lost_at, mut refused) = (game.now, 0);
    let attempts = game.attempt(|game, token| {
        assert_eq!(token, TOKEN);
        if game.now < lost_at + 12.0 {
            refused += 1;
            return Answer::Failure(ResumeFailure::Retry { after: None });
        }
        game.let_in()
    });
    assert!((5..60).contains(&refused), "{refused} attempts in 12 s");
    assert!(attempts[0].0 - lost_at <= 0.21 && attempts.windows(2).all(|pair| pair[1].0 - pair[0].0 <= 4.1));
    let events = game.take_events();
    assert_eq!(about_connections(&events), [Event::ConnectionLost, Event::Reconnected { epoch_changed: false }]);
    let due = events.iter().filter(|event| matches!(event, Event::InputDue(_))).count();
    assert!(due <= 2 && game.sent.len() == before, "without a connection no inputs are made: {due}");
    assert!(game.core.clock().tick(game.at()).is_some(), "the clock is what it was");
    assert_eq!(game.core.resume_token(), [2; 32]);

    let late = game.server.late;
    game.run(0.1);
    // One for the newest tick, and not those of the ticks in between.
    assert!((5..10).contains(&(game.sent.len() - before)), "{}", game.sent.len() - before);
    assert!(game.sent.is_sorted_by_key(|sent| (sent.input.target_tick, sent.input.sequence)));
    assert!(game.late_share(5.0) < 0.01 && game.server.late <= late + 1);
    assert_eq!((game.core.stats().resumes, game.core.stats().resyncs), (1, 0));
    assert_eq!(game.core.mirror().tick().0, game.server.tick - 2);
}

#[test]
fn others_are_shown_no_later_than_before_after_an_outage() {
    let mut game = Match::resumable(0.030, Resume::default());
    let show = |game: &mut Match| {
        for _ in 0..200 {
            game.run(0.010);
            let now = game.at();
            game.core.view(now);
        }
        (game.core.display_delay().expect("frames are drawn"), game.core.seen().expect("frames are drawn"))
    };
    let (before, seen) = show(&mut game);
    game.lose();
    let lost_at = game.now;
    game.attempt(|game, _| match game.now < lost_at + 8.0 {
        true => Answer::Failure(ResumeFailure::Retry { after: None }),
        false => game.let_in(),
    });
    let (after, seen_after) = show(&mut game);
    assert!(after < before + Duration::from_millis(20), "{after:?}, {before:?} before");
    assert!(seen_after > seen);
}

#[test]
fn a_new_epoch_voids_what_was_held_the_clock_and_what_was_under_way() {
    let mut game = Match::resumable(0.030, Resume::default());
    game.lose();
    game.server.epoch = 2;
    game.server.slip += 5.0 / f64::from(HZ);
    game.server.tick -= 5;
    let consumed = game.server.consumed;
    game.attempt(|game, _| {
        game.server.consumed = consumed - 3;
        game.let_in()
    });
    assert_eq!(
        about_connections(&game.take_events()),
        [Event::ConnectionLost, Event::Reconnected { epoch_changed: true }]
    );
    assert_eq!((game.core.mirror().tick(), game.core.mirror().cells(0).count()), (Tick::ZERO, 0));
    assert_eq!(game.core.clock().tick(game.at()), None);
    let from = game.sent.len();
    game.run(3.0);
    let new = &game.sent[from..];
    assert!(new.len() > 100 && new[0].input.sequence > consumed, "numbers go on rising");
    assert_eq!(game.late_share(3.0), 0.0);
    assert_eq!(game.core.stats().resyncs, 0);
}

#[test]
fn a_press_that_a_crash_has_cost_takes_effect_once_and_one_that_was_consumed_is_not_repeated() {
    let resume =
        Resume { backoff_min: Duration::from_millis(20), backoff_max: Duration::from_millis(50), ..Resume::default() };
    // How long before the crash the button was pressed, whether a tick had consumed that, how long the server is away, and
    // whether the press is sent again.
    for (ago, consumed, away, again) in
        [(0.05, false, 0.5, true), (0.05, false, 2.0, true), (0.05, false, 3.5, false), (0.5, true, 0.5, false)]
    {
        // Inputs, and what is told of them, are under way for long.
        let mut game = Match::resumable(0.100, resume);
        let from = game.sent.len();
        game.core.set_input(&[7, 1]).unwrap();
        game.run(0.02);
        game.core.set_input(&[7]).unwrap();
        game.run(ago - 0.02);
        let is_press = |sent: &&SentInput| sent.input.values.get(1) == Some(&1);
        let presses: Vec<u64> = game.sent[from..].iter().filter(is_press).map(|sent| sent.input.sequence).collect();
        assert_eq!((presses.len(), game.server.consumed >= presses[0]), (1, consumed));
        game.lose();
        let lost_at = game.now;
        game.server.epoch = 2;
        game.server.waiting.clear();
        let attempts = game.attempt(|game, _| match game.now < lost_at + away {
            true => Answer::Failure(ResumeFailure::Retry { after: None }),
            false => game.let_in(),
        });
        assert!(!attempts.is_empty());
        let from = game.sent.len();
        game.run(2.0);
        let new = &game.sent[from..];
        let presses: Vec<&SentInput> = new.iter().filter(is_press).collect();
        assert_eq!(presses.len(), usize::from(again), "{away} s: {presses:?}");
        if again {
            // With the first one, in time for its tick.
            assert_eq!((presses[0].input.sequence, presses[0].input.values[0]), (new[0].input.sequence, 7));
            assert_eq!(game.late_share(2.0), 0.0);
        }
    }
}

#[test]
fn who_is_never_let_in_gives_up_and_asks_for_nothing_more() {
    let resume = Resume { give_up_after: Duration::from_secs(10), ..Resume::default() };
    let mut game = Match::resumable(0.030, resume);
    game.lose();
    let lost_at = game.now;
    let attempts = game.attempt(|_, _| Answer::Failure(ResumeFailure::Retry { after: None }));
    assert!(attempts.last().expect("some").0 - lost_at <= 10.0 + STEP);
    assert_eq!(about_connections(&game.take_events())[1..], [Event::GaveUp(GaveUp::TooLong)]);
    assert!(game.core.has_given_up() && game.core.next_timeout().is_none());
    let now = game.at() + Duration::from_secs(99);
    assert_eq!(
        (game.core.poll_stripe(now), game.core.poll_transmit(now), game.core.poll_event(now)),
        (None, None, None)
    );

    let mut game = Match::resumable(0.030, resume);
    game.lose();
    let attempts = game.attempt(|_, _| Answer::Failure(ResumeFailure::Refused));
    assert_eq!(attempts.len(), 1);
    assert_eq!(about_connections(&game.take_events())[1..], [Event::GaveUp(GaveUp::Refused)]);
}

#[test]
fn both_tokens_are_tried_where_the_server_has_lost_the_newest() {
    let mut game = Match::resumable(0.030, Resume::default());
    game.lose();
    game.attempt(|game, _| game.let_in());
    game.run(1.0);
    game.lose();
    let attempts = game.attempt(|game, token| match token == TOKEN {
        false => Answer::Failure(ResumeFailure::UnknownToken),
        true => game.let_in(),
    });
    let tokens: Vec<&[u8]> = attempts.iter().map(|(_, token)| token.as_slice()).collect();
    assert_eq!(tokens, [&[2; 32], &TOKEN[..]]);
    assert!(attempts[1].0 - attempts[0].0 < 0.1, "at once");
}

#[test]
fn a_connection_on_which_nothing_comes_is_lost_and_one_that_nobody_read_is_not() {
    let mut game = Match::resumable(0.030, Resume::default());
    game.asleep = true;
    game.run(20.0);
    game.asleep = false;
    assert_eq!(game.core.poll_stripe(game.at()), None, "what came meanwhile is still to be read");
    game.run(1.0);
    assert_eq!(game.core.poll_stripe(game.at()), None);

    let from = game.now;
    let lost_at = loop {
        assert!(game.now < from + 9.0, "it is not found out");
        // Less than the way down takes.
        game.run(0.010);
        game.cut();
        match game.core.poll_stripe(game.at()) {
            None => {}
            Some(StripeChange::DropAll) => break game.now,
            other => panic!("{other:?}"),
        }
    };
    assert!((4.9..5.2).contains(&(lost_at - from)), "after {} s", lost_at - from);
    assert!(game.core.is_lost());
    assert_eq!(about_connections(&game.take_events()), [Event::ConnectionLost]);
}

/// A stream's first snapshot, with rows of these players.
fn with_players(tick: u64, players: &[u32]) -> pb::ServerMessage {
    let row = |&player: &u32| pb::RosterRow { player, status: 1, ..pb::RosterRow::default() };
    let roster = players.iter().map(row).collect();
    let snapshot = pb::Snapshot { epoch: 1, tick, reset: true, roster, ..pb::Snapshot::default() };
    pb::ServerMessage { kind: Some(Down::Snapshot(snapshot)) }
}

#[test]
fn further_streams_are_opened_anew_by_the_new_token_and_talk_goes_by_a_new_one_too() {
    let options = JoinOptions { stripes: Stripes::Fixed(2), ..JoinOptions::default() };
    let granted = |token: u8| pb::Welcome {
        resume_token: vec![token; 32],
        attach_token: vec![token + 100; 32],
        chat_token: vec![token + 200; 32],
        max_stripes: 4,
        ..welcome_of(welcome(6000))
    };
    let first = |welcome| pb::ServerMessage { kind: Some(Down::Welcome(welcome)) };
    let now = Duration::from_secs(10);
    let mut core = Core::new(&options, first(granted(1)), now).unwrap();
    assert_eq!(core.poll_stripe(now), Some(StripeChange::Open(1)));
    core.stripe_opened(1, &first(pb::Welcome { player: 1, ..pb::Welcome::default() }), now).unwrap();
    core.handle_on(0, with_players(6001, &[1, 2]), now).unwrap();
    core.handle_on(1, snapshot(6002, true), now).unwrap();

    core.stripe_closed(1, now);
    assert!(core.connection_lost(now));
    assert_eq!((core.stripes_open(), core.poll_stripe(now)), (0, None));
    let now = now + Duration::from_secs(1);
    assert_eq!((core.poll_stripe(now), core.poll_stripe(now)), (Some(StripeChange::Resume), None));
    let other = first(pb::Welcome { player: 2, ..granted(2) });
    assert_eq!(core.resumed(other, now), Err(ProtocolError::Player));
    core.resumed(first(granted(2)), now).unwrap();
    assert_eq!((core.stripes_open(), core.poll_stripe(now)), (1, Some(StripeChange::Open(1))));
    let Some(Up::Hello(hello)) = core.attach_hello().kind else { panic!("no hello") };
    assert_eq!((hello.attach_token, core.chat_token()), (vec![102; 32], [202; 32].as_slice()));
    // It starts with a reset, as all streams do; who left meanwhile is not in it.
    assert_eq!(core.mirror().roster().len(), 2);
    core.handle_on(0, with_players(6061, &[1]), now).unwrap();
    assert_eq!((core.mirror().tick(), core.stats().resyncs), (Tick(6061), 0));
    assert!(core.mirror().roster().keys().eq(&[PlayerId(1)]));
}

#[test]
fn without_a_token_a_loss_is_the_end() {
    let mut game = Match::new(0.030, 0.0, 1);
    game.run(1.0);
    assert!(!game.core.connection_lost(game.at()));
    assert!(!game.core.is_lost() && about_connections(&game.take_events()).is_empty());
}
