//! The own entity ahead of the server.

use tickwire_client::{Event, Stats};
use tickwire_shared::{Action, Tick};

use crate::harness::{Link, Match, Mind, rtt};

const TRACE: &str = concat!("trace:", env!("CARGO_MANIFEST_DIR"), "/traces/freedm_DEMO2.lmp");
/// Metres and shares as the arena's inputs have them.
const EAST: [i32; 5] = [127, 0, 0, 0, 0];
const WEST: [i32; 5] = [-127, 0, 0, 0, 0];

fn script(choose: impl FnMut(Tick) -> Vec<i32> + 'static) -> Mind {
    Mind::Script(Box::new(choose))
}

/// A match of one player, who predicts, once the clocks have settled.
fn alone(link: Link, choose: impl FnMut(Tick) -> Vec<i32> + 'static) -> Match {
    let mut game = Match::of_arena(&[("cover", 0.3)], 1);
    let player = game.join(link, script(choose));
    assert!(game.clients[player].core.predict(&tickwire_arena::Arena).unwrap());
    game.run(3.0);
    game
}

fn stats(game: &Match) -> Stats {
    let mut total = Stats::default();
    game.clients.iter().for_each(|client| total.merge(client.core.stats()));
    total
}

#[test]
fn on_a_perfect_link_nothing_is_mispredicted() {
    let mut game = Match::of_arena(&[("size", 200.0), ("rifle_damage", 0.0), ("rocket_damage", 0.0)], 3);
    game.join_bots(&[TRACE, "chaos"], 2, rtt(100.0, 0.0));
    game.run(20.0);
    let stats = stats(&game);
    assert!(stats.ticks_compared > 2 * 18 * 60, "{}", stats.ticks_compared);
    assert!(stats.ticks_predicted >= stats.ticks_compared);
    assert_eq!((stats.mispredictions - stats.mispredictions_in_contact, stats.inputs_late), (0, 0));
}

#[test]
fn what_is_computed_for_a_tick_is_what_the_server_has_at_it() {
    let turn = |tick: Tick| if (tick.0 / 20).is_multiple_of(2) { EAST.to_vec() } else { vec![0, 127, 900, 1, 0] };
    let mut game = alone(rtt(100.0, 0.0), turn);
    let mut compared = 0;
    let mut foretold: Vec<(Tick, Vec<i32>)> = Vec::new();
    game.run_with(2.0, |game| {
        let state = game.clients[0].core.own_state().unwrap();
        if foretold.last().is_none_or(|(tick, _)| *tick < state.tick) {
            foretold.push((state.tick, state.values.to_vec()));
        }
    });
    for (tick, values) in foretold {
        let Some(frame) = game.frames.get(&tick) else { continue };
        let owner = frame.seat(game.clients[0].player).unwrap().owner.clone().unwrap();
        assert_eq!(owner.values.to_vec(), values, "{tick}");
        compared += 1;
    }
    assert!(compared > 100, "{compared}");
}

#[test]
fn what_a_player_does_shows_in_the_same_tick() {
    let mut game = alone(rtt(100.0, 0.0), |_| vec![0; 5]);
    let at = std::time::Duration::from_secs_f64(game.now);
    let x = |game: &mut Match, at| game.clients[0].core.view(at).own().unwrap().get("x").unwrap();
    let before = x(&mut game, at);
    game.clients[0].mind = script(|_| EAST.to_vec());
    let tick = game.clients[0].core.own_state().unwrap().tick;
    game.run(1.0 / 60.0 + 0.001);
    let state = game.clients[0].core.own_state().unwrap();
    assert_eq!(state.tick, tick.next());
    // Acceleration: 40 m/s² for a tick.
    assert!(state.values[5] > 0);
    let at = std::time::Duration::from_secs_f64(game.now);
    assert!(x(&mut game, at) > before);
}

#[test]
fn a_shot_is_told_when_its_input_is_sent_and_once() {
    let mut game = alone(rtt(100.0, 0.0), |tick| vec![0, 0, 0, 1, i32::from(tick.0.is_multiple_of(60))]);
    let from = game.clients[0].events.len();
    game.run(2.0);
    let told: Vec<(Tick, Action)> = game.clients[0].events[from..]
        .iter()
        .filter_map(|(_, event)| match event {
            Event::Predicted { tick, action } => Some((*tick, *action)),
            _ => None,
        })
        .collect();
    let rifle: Vec<Tick> =
        told.iter().filter(|(_, action)| *action == Action("rifle")).map(|(tick, _)| *tick).collect();
    // Every 120 ms, which are eight ticks.
    assert!((14..=16).contains(&rifle.len()) && rifle.windows(2).all(|pair| pair[1].since(pair[0]) == 8), "{rifle:?}");
    assert_eq!(told.iter().filter(|(_, action)| *action == Action("rocket")).count(), 2);
    assert_eq!(stats(&game).mispredictions, 0);
}

/// Where the player is shown at each millisecond.
fn shown(game: &mut Match, seconds: f64) -> Vec<(f64, f64, f64)> {
    let mut places = Vec::new();
    game.run_with(seconds, |game| {
        let at = std::time::Duration::from_secs_f64(game.now);
        let own = game.clients[0].core.view(at).own().unwrap();
        places.push((game.now, own.get("x").unwrap(), own.get("y").unwrap()));
    });
    places
}

#[test]
fn lost_time_is_a_misprediction_that_is_replayed_and_shown_bit_by_bit() {
    let mut game =
        alone(rtt(100.0, 0.0), |tick| if (tick.0 / 8).is_multiple_of(2) { EAST.to_vec() } else { WEST.to_vec() });
    // The way up stands still for longer than the lead.
    game.stall(0, 0.12, true, false);
    let places = shown(&mut game, 0.6);
    let stats = stats(&game);
    assert!(stats.inputs_late >= 3 && stats.mispredictions >= 1, "{} {}", stats.inputs_late, stats.mispredictions);
    assert_eq!(stats.inputs_late, game.counters().late);
    assert!(stats.correction_micros.max() > 10_000, "{} {}", stats.correction_micros.max(), stats.mispredictions);
    let steps = places.windows(2).map(|pair| (pair[1].1 - pair[0].1).abs());
    let longest = steps.fold(0.0, f64::max);
    let corrected = stats.correction_micros.max() as f64 * 1e-6;
    assert!(longest < corrected / 20.0, "{longest} of {corrected}");
    // In the end what is shown is what is computed.
    let own = game.clients[0].core.own_state().unwrap();
    let (now, x) = (std::time::Duration::from_secs_f64(game.now), f64::from(own.values[0]) / 1024.0);
    let shown = game.clients[0].core.view(now).own().unwrap().get("x").unwrap();
    assert!((shown - x).abs() < 0.09, "{shown} {x}");
    let before = game.clients[0].core.stats().mispredictions;
    game.run(2.0);
    assert_eq!(game.clients[0].core.stats().mispredictions, before);
}

#[test]
fn both_sides_count_the_same_ticks_without_inputs() {
    let mut game = alone(Link { delay: 0.03, jitter: 0.0 }, |_| EAST.to_vec());
    let (ours_before, before) = (stats(&game), game.counters());
    for _ in 0..5 {
        game.stall(0, 0.09, true, false);
        game.run(0.7);
    }
    game.clients[0].asleep = true;
    game.run(0.6);
    game.clients[0].asleep = false;
    game.run(2.0);
    let (ours, theirs) = (stats(&game), game.counters());
    let [late, repeated, absent] =
        [theirs.late - before.late, theirs.repeated - before.repeated, theirs.absent - before.absent];
    assert!(late > 5 && repeated > 15 && absent > 10, "{late} {repeated} {absent}");
    assert_eq!(ours.inputs_late - ours_before.inputs_late, late);
    assert_eq!(ours.inputs_repeated - ours_before.inputs_repeated, repeated);
    assert_eq!(ours.inputs_absent - ours_before.inputs_absent, absent);
}

/// Two who chase each other on flat ground.
#[test]
fn what_another_player_does_is_mispredicted_in_contact_and_counted_apart() {
    let mut game = Match::of_arena(&[("size", 32.0), ("cover", 0.0), ("rifle_damage", 0.0), ("rocket_damage", 0.0)], 6);
    game.join_bots(&["chase"], 2, rtt(100.0, 0.0));
    game.run(10.0);
    let stats = stats(&game);
    assert!(stats.mispredictions_in_contact > 10 && stats.ticks_in_contact >= stats.mispredictions_in_contact);
    assert_eq!(stats.mispredictions, stats.mispredictions_in_contact);
    assert_eq!((stats.misprediction_percent(), stats.correction_micros.len()), (0.0, 0));
}

#[test]
fn on_human_inputs_at_100_ms_corrections_are_few_and_small() {
    let mut game = Match::of_arena(&[("size", 60.0)], 5);
    game.join_bots(&[TRACE], 6, rtt(100.0, 10.0));
    game.run(20.0);
    let stats = stats(&game);
    let p99 = stats.correction_micros.value_at_quantile(0.99) as f64 * 1e-4;
    assert!(stats.ticks_compared > 6 * 17 * 60);
    assert!(stats.misprediction_percent() <= 1.0, "{} %", stats.misprediction_percent());
    assert!(p99 <= 5.0, "{p99}");
}
