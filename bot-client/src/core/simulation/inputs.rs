//! When inputs are sent, and whether they come in time.

use proptest::prelude::*;

use super::*;

#[test]
fn at_50_ms_with_10_ms_of_jitter_one_input_in_a_thousand_may_be_late() {
    let mut game = Match::new(0.040, 0.020, 1);
    game.run(3.0);
    assert!(game.late_share(30.0) <= 0.001);
}

#[test]
fn after_a_step_from_30_to_120_ms_less_than_one_percent_is_late_within_two_seconds() {
    let mut game = Match::new(0.015, 0.002, 2);
    game.run(4.0);
    game.delay = 0.060;
    game.run(2.0);
    assert!(game.late_share(4.0) < 0.01);
}

#[test]
fn inputs_arrive_about_two_ticks_before_they_are_due() {
    for delay in [0.001, 0.020, 0.200] {
        let mut game = Match::new(delay, 0.0, 3);
        game.run(6.0);
        let margin_ticks = f64::from(game.server.received.1) * 1e-6 * f64::from(HZ);
        assert!((1.4..2.7).contains(&margin_ticks), "{delay}: {margin_ticks}");
    }
}

#[test]
fn a_client_that_slept_sends_one_input_and_not_those_that_it_missed() {
    let mut game = Match::new(0.020, 0.0, 5);
    game.run(3.0);
    game.core.set_input(&[7, 1]).unwrap();
    game.asleep = true;
    game.run(0.5);
    game.asleep = false;
    let before = game.sent.len();
    game.run(0.001);
    assert_eq!(game.sent.len() - before, 1);
    let (last, next) = (&game.sent[before - 1].input, &game.sent[before].input);
    assert_eq!(next.sequence, last.sequence + 1);
    assert!(next.target_tick > last.target_tick + 20);
    assert_eq!(next.values, [7, 1]);
}

#[test]
fn a_clock_that_steps_back_waits_for_a_new_tick_and_carries_edges_over() {
    let mut game = Match::new(0.400, 0.0, 6);
    game.run(4.0);
    let lead = game.sent.last().unwrap().input.target_tick - game.server.tick;
    game.delay = 0.010;
    // Until the last long way is out of the window and the clock has jumped.
    let mut quiet = 0;
    for _ in 0..400 {
        let before = game.sent.len();
        game.run(0.01);
        if game.sent.len() == before {
            quiet += 1;
            if quiet == 5 {
                game.core.set_input(&[0, 1]).unwrap();
                game.core.set_input(&[0, 0]).unwrap();
            }
        } else {
            quiet = 0;
        }
    }
    assert!(game.sent.last().unwrap().input.target_tick - game.server.tick + 15 < lead);
    assert_eq!(jumps(&game.sent), 1);
    assert!(game.sent.is_sorted_by_key(|sent| sent.input.target_tick));
}

#[test]
fn a_server_that_slipped_is_followed_without_late_inputs() {
    let mut game = Match::new(0.020, 0.002, 7);
    game.run(4.0);
    game.server.slip += 1.0;
    game.run(3.0);
    assert_eq!(game.late_share(3.0), 0.0);
    assert!(f64::from(game.server.received.1) * 1e-6 < 0.100);
}

#[test]
fn after_a_server_stood_still_control_is_back_within_about_a_second() {
    for (seed, delay) in [(16, 0.001), (17, 0.020), (18, 0.150)] {
        let mut game = Match::new(delay, 0.002, seed);
        game.run(5.0);
        game.freeze(2.0);
        game.run(3.0);
        let room = ((2.0 * delay + 0.004) * f64::from(HZ)).ceil() as u64;
        let reached = game.server.tick;
        // Edges are kept for the first input that is sent again.
        game.server.frozen = true;
        game.run(3.5);
        let newest = game.sent.last().unwrap().input.target_tick;
        assert!(newest <= reached + u64::from(HZ) + room + 1, "{delay}: {newest} at {reached}");
        let jumped = jumps(&game.sent);
        game.core.set_input(&[7, 1]).unwrap();
        game.core.set_input(&[7, 0]).unwrap();
        game.freeze(0.5);
        game.run(1.0 + 4.0 * delay + 0.1);
        assert_eq!(jumps(&game.sent), jumped + 1, "{delay}");
        let consumed = game.server.consumed;
        game.run(1.0);
        assert!(game.server.consumed >= consumed + 57, "{delay}: {}", game.server.consumed - consumed);
        assert!(f64::from(game.server.received.1) * 1e-6 < 0.100, "{delay}: {:?}", game.server.received);
        assert!(game.server.too_early <= 2 * room + 2, "{delay}: {}", game.server.too_early);
    }
}

#[test]
fn a_downlink_that_stalls_for_a_while_holds_no_input_back() {
    for delay in [0.005, 0.150] {
        let mut game = Match::new(delay, 0.002, 19);
        game.run(5.0);
        let sent = game.sent.len();
        // What comes after waits as long: the link keeps its order.
        game.down.messages.back_mut().unwrap().0 += 0.7;
        game.run(0.7);
        assert!((41..=43).contains(&(game.sent.len() - sent)), "{delay}: {}", game.sent.len() - sent);
        game.run(2.0);
        assert_eq!((game.late_share(2.0), game.server.too_early), (0.0, 0));
    }
}

#[test]
fn inputs_take_acknowledgements_along_and_only_a_client_without_any_sends_them_alone() {
    let mut game = Match::new(0.020, 0.002, 8);
    game.run(3.0);
    let (acks, snapshots) = (game.lone_acks, game.core.stats().snapshots);
    game.run(3.0);
    assert!(game.core.stats().snapshots - snapshots >= 175);
    assert_eq!(game.lone_acks, acks);

    let mut silent = Match::new(0.020, 0.002, 8);
    silent.core.lanes.get(0).unwrap().pings.next_at = Duration::MAX;
    silent.run(1.0);
    assert_eq!((silent.sent.len(), silent.lone_acks), (0, silent.core.stats().snapshots));
}

#[test]
fn inputs_are_sent_with_the_snapshots_that_arrive_near_their_time() {
    for (seed, delay) in [(10, 0.001), (11, 0.021), (12, 0.0375), (13, 0.2)] {
        let mut game = Match::new(delay, 0.002, seed);
        game.run(5.0);
        let (sent, paired) = (game.sent.len(), game.paired);
        game.run(5.0);
        let (sent, paired) = (game.sent.len() - sent, game.paired - paired);
        assert!((295..=305).contains(&sent) && paired * 10 >= 9 * sent as u64, "{delay}: {paired} of {sent}");
        assert_eq!(game.late_share(1.0), 0.0);
    }
}

#[test]
fn an_input_is_acknowledged_by_the_first_snapshot_that_consumed_it() {
    let mut game = Match::new(0.030, 0.0, 10);
    game.run(10.0);
    let stats = game.core.stats();
    assert!(stats.input_to_ack_us.len() >= stats.inputs_sent - 10);
    // Up, two ticks of margin and a part of one, down.
    let ms = stats.input_to_ack_us.value_at_quantile(0.5) as f64 / 1000.0;
    assert!((80.0..120.0).contains(&ms), "{ms}");
    assert_eq!(stats.inputs_late, game.server.late);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn target_ticks_rise_and_inputs_never_come_in_bursts(
        delay in 0.0..0.2_f64, jitter in 0.0..0.05_f64, seed in any::<u64>(),
        steps in proptest::collection::vec((0.0..0.5_f64, 0.0..0.4_f64, any::<bool>(), 0.0..0.3_f64), 1..6)
    ) {
        let mut game = Match::new(delay, jitter, seed);
        game.run(1.0);
        for (seconds, delay, asleep, slip) in steps {
            game.delay = delay;
            game.asleep = asleep;
            game.server.slip += slip;
            game.core.set_input(&[1, 1]).unwrap();
            game.run(seconds);
            game.asleep = false;
            game.run(0.3);
        }
        for pair in game.sent.windows(2) {
            prop_assert!(pair[0].input.target_tick < pair[1].input.target_tick);
            prop_assert_eq!(pair[0].input.sequence + 1, pair[1].input.sequence);
        }
        // At 10 % more speed ten inputs span eight ticks; a sleep's or a jump's first one may come in between.
        for ten in game.sent.windows(10) {
            prop_assert!(ten[9].at - ten[0].at >= 6.0 / f64::from(HZ), "{:?}", ten);
        }
    }
}
