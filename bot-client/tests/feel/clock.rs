//! Whether inputs come in time.

use crate::harness::{Link, Match, Mind, rtt};

fn walker(link: Link, seed: u64) -> Match {
    let mut game = Match::of_arena(&[("cover", 0.0)], seed);
    game.join(link, Mind::Script(Box::new(|tick| vec![(tick.0 % 255) as i32 - 127, 0, 0, 0, 0])));
    game.run(3.0);
    game
}

/// Late inputs of those sent within so many seconds, in percent, as both sides count them.
fn late_percent(game: &mut Match, seconds: f64) -> f64 {
    let stats = |game: &Match| (game.clients[0].core.stats().inputs_late, game.clients[0].core.stats().inputs_sent);
    let (ours, theirs) = (stats(game), game.counters().late);
    game.run(seconds);
    let (late, sent) = (stats(game).0 - ours.0, stats(game).1 - ours.1);
    assert!(late.abs_diff(game.counters().late - theirs) <= 2, "those on their way may differ");
    late as f64 * 100.0 / sent as f64
}

#[test]
fn at_50_ms_give_or_take_10_no_input_of_a_thousand_is_late() {
    for seed in 0..2 {
        let mut game = walker(rtt(50.0, 10.0), seed);
        let late = late_percent(&mut game, 20.0);
        assert!(late <= 0.1, "{late} %");
    }
}

#[test]
fn two_seconds_after_a_step_from_30_to_120_ms_less_than_one_percent_is_late() {
    for seed in 0..2 {
        let mut game = walker(rtt(30.0, 2.0), seed);
        game.clients[0].link = rtt(120.0, 2.0);
        game.run(2.0);
        let late = late_percent(&mut game, 4.0);
        assert!(late < 1.0, "{late} %");
    }
}
