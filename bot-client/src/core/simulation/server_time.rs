//! What is known of the server's time: its ticks, how old the newest is, and what stands still or begins anew.

use super::*;

#[test]
fn the_estimated_tick_is_the_servers() {
    let mut game = Match::new(0.030, 0.005, 4);
    game.run(3.0);
    let estimated = game.core.clock().tick(Duration::from_secs_f64(game.now)).unwrap();
    assert!(estimated.0.abs_diff(game.server.tick) <= 1);
    assert!((0.060..0.070).contains(&game.core.clock().min_rtt().unwrap().as_secs_f64()));
}

#[test]
fn the_age_is_the_way_down_and_what_passes_between_two_ticks() {
    let mut game = Match::new(0.030, 0.0, 9);
    game.run(10.0);
    let now = Duration::from_secs_f64(game.now);
    game.core.sample_age(now);
    let ages = &game.core.stats().snapshot_age_us;
    assert!((9_500..=10_000).contains(&ages.len()), "{}", ages.len());
    let ms = |quantile| ages.value_at_quantile(quantile) as f64 / 1000.0;
    assert!((ms(0.5) - 38.3).abs() < 1.0, "{}", ms(0.5));
    assert!((ms(0.99) - 46.5).abs() < 1.0, "{}", ms(0.99));
    assert_eq!(game.core.stats().stalled_ms, 0);
}

#[test]
fn a_server_that_stood_still_was_a_stall_for_as_long() {
    let mut game = Match::new(0.010, 0.0, 15);
    game.run(8.0);
    game.freeze(4.0);
    game.run(2.0);
    game.core.sample_age(Duration::from_secs_f64(game.now));
    let stats = game.core.stats();
    assert!((3_900..4_600).contains(&stats.stalled_ms), "{}", stats.stalled_ms);
    assert!(stats.snapshot_age_us.max() > 3_900_000, "{}", stats.snapshot_age_us.max());
    assert!(stats.snapshot_age_us.value_at_quantile(0.5) < 40_000);
}

#[test]
fn a_paused_session_freezes_the_clocks() {
    let mut game = Match::new(0.020, 0.0, 12);
    game.run(3.0);
    let notice = |kind: pb::NoticeKind| Down::Notice(pb::Notice { kind: kind.into(), ..pb::Notice::default() });
    game.down.send(game.now, 0.020, notice(pb::NoticeKind::Paused));
    game.run(0.05);
    let sent = game.sent.len();
    game.run(2.0);
    assert_eq!(game.sent.len(), sent);
    game.down.send(game.now, 0.020, notice(pb::NoticeKind::Resumed));
    game.run(1.0);
    assert!(game.sent.len() >= sent + 50);
    assert!(game.events.contains(&Event::Paused) && game.events.contains(&Event::Resumed));
}

#[test]
fn a_new_epoch_starts_ticks_and_clocks_anew() {
    let mut game = Match::new(0.020, 0.0, 13);
    game.run(3.0);
    let last = game.sent.last().unwrap().input.clone();
    game.server.epoch = 2;
    game.server.reset = true;
    game.server.tick -= 300;
    game.server.slip += 5.0;
    game.server.waiting.clear();
    game.run(2.0);
    let now = &game.sent.last().unwrap().input;
    assert!(now.target_tick < last.target_tick && now.sequence > last.sequence + 60);
    assert_eq!(game.core.mirror().epoch(), 2);
}
