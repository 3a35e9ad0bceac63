//! Others, a little in the past.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proptest::prelude::*;
use tickwire_shared::{Frame, NetId, Reading, Schema, Tick};

use crate::{
    harness::{Link, Match, Mind, rtt},
    movers::{COURSES, Course, Movers, QUANTUM, SPEED, ZONES, mover},
};

fn idle() -> Mind {
    Mind::Script(Box::new(|_| vec![0]))
}

fn watch(link: Link, ticks_per_snapshot: u32, seed: u64) -> Match {
    let mut game = Match::new(Arc::new(Movers), &[], seed);
    game.join_with(link, idle(), 10.0, ticks_per_snapshot);
    game
}

/// An entity's fields as they are shown.
#[derive(Clone, Copy, Debug)]
struct Pose {
    x: f64,
    y: f64,
    jumps: f64,
}

/// What a frame shows.
struct Picture {
    now: f64,
    seen: (Tick, u8),
    poses: BTreeMap<NetId, Pose>,
}

/// Draws at `fps` for so many seconds.
fn draw(game: &mut Match, seconds: f64, fps: f64) -> Vec<Picture> {
    let (mut pictures, mut next) = (Vec::new(), game.now);
    game.run_with(seconds, |game| {
        if game.now >= next {
            next += 1.0 / fps;
            pictures.push(picture(game));
        }
    });
    pictures
}

fn picture(game: &mut Match) -> Picture {
    let scene = game.clients[0].core.view(Duration::from_secs_f64(game.now));
    let pose = |entity: tickwire_client::core::Entity<'_>| {
        let [x, y, jumps] = ["x", "y", "jumps"].map(|name| entity.get(name).unwrap());
        (entity.net_id(), Pose { x, y, jumps })
    };
    Picture { now: game.now, seen: scene.seen(), poses: scene.entities().map(pose).collect() }
}

/// The canonical value of a field in a frame, in quanta.
fn canonical(schema: &Schema, frame: &Frame, id: NetId, field: &str) -> i32 {
    let (kind, cell) = frame.places.get(id).unwrap();
    let columns = &frame.cell(cell).unwrap().state.kinds[kind.index()];
    let mut fields = schema.kinds[kind.index()].public_fields().enumerate();
    let (column, (_, field)) = fields.find(|(_, (_, candidate))| candidate.name == field).unwrap();
    columns.read(columns.row(id).unwrap(), column, Reading::of(field), frame.tick)
}

#[test]
fn what_is_shown_is_the_blend_of_the_canonical_values_at_the_tick_and_fraction_that_inputs_name() {
    let mut game = watch(rtt(80.0, 0.0), 1, 1);
    game.run(2.0);
    picture(&mut game);
    game.run(1.0);
    let pictures = draw(&mut game, 2.0, 75.0);
    let schema = Arc::clone(game.session.schema());
    let fields = &schema.kinds[0].fields;
    let mut fractions = std::collections::BTreeSet::new();
    for picture in &pictures {
        let (tick, fraction) = picture.seen;
        fractions.insert(fraction);
        for course in COURSES {
            let id = mover(0, course);
            let at = |tick: Tick, name| canonical(&schema, &game.frames[&tick], id, name);
            for (name, shown) in [("x", picture.poses[&id].x), ("y", picture.poses[&id].y)] {
                let field = fields.iter().find(|field| field.name == name).unwrap();
                let share =
                    if at(tick, "jumps") == at(tick.next(), "jumps") { f64::from(fraction) / 256.0 } else { 0.0 };
                let blended = field.blend(at(tick, name), at(tick.next(), name), share);
                assert_eq!(shown, blended * QUANTUM, "{course:?} {name} at {tick} {fraction}");
            }
        }
    }
    assert!(fractions.len() > 2, "{fractions:?}");
    // Inputs say so.
    let (at, input) = game.clients[0].sent.last().unwrap();
    let before = pictures.iter().rfind(|picture| picture.now <= *at).unwrap();
    let (tick, fraction) = before.seen;
    assert_eq!((input.seen_tick, input.seen_fraction), (tick.0, u32::from(fraction)));
}

#[test]
fn a_client_that_draws_nothing_says_that_it_sees_the_newest_tick() {
    let mut game = watch(rtt(40.0, 0.0), 1, 2);
    game.run(1.0);
    let (_, input) = game.clients[0].sent.last().unwrap();
    let newest = game.clients[0].core.mirror().tick().0;
    assert!(newest - input.seen_tick <= 1 && input.seen_fraction == 0);
}

#[test]
fn the_delay_is_the_way_down_and_an_interval() {
    for (ticks_per_snapshot, ms) in [(1, 56.7), (3, 90.0)] {
        let mut game = watch(rtt(80.0, 0.0), ticks_per_snapshot, 3);
        // Until the stream's window has grown, and that is forgotten.
        game.run(1.0);
        draw(&mut game, 6.0, 60.0);
        let delay = game.clients[0].core.display_delay().unwrap().as_secs_f64() * 1000.0;
        assert!((delay - ms).abs() < 3.0, "{ticks_per_snapshot}: {delay}");
    }
}

#[test]
fn an_own_entity_that_is_not_predicted_is_shown_as_others_are_with_what_its_owner_sees() {
    let mut game = Match::of_arena(&[], 1);
    for _ in 0..2 {
        game.join(rtt(40.0, 0.0), Mind::Script(Box::new(|_| vec![0; 5])));
    }
    game.run(1.0);
    for core in game.clients.iter_mut().map(|client| &mut client.core) {
        core.view(Duration::from_secs_f64(game.now));
    }
    game.run(1.0);
    let core = &mut game.clients[1].core;
    let id = core.mirror().owner().unwrap().net_id;
    let scene = core.view(Duration::from_secs_f64(game.now));
    let own = scene.own().unwrap();
    assert_eq!((own.net_id(), own.get("vx"), own.get("health")), (id, Some(0.0), Some(100.0)));
    let other = scene.entities().nth(1).unwrap();
    assert_eq!((other.is_own(), other.get("vx"), other.get("nothing")), (false, None, None));
    assert_eq!(scene.entities().len(), 2);
}

#[test]
fn who_draws_before_anything_has_come_is_shown_it_as_soon_as_it_has() {
    let mut game = watch(rtt(80.0, 0.0), 1, 9);
    let pictures = draw(&mut game, 3.0, 60.0);
    assert!(pictures[0].poses.is_empty() && pictures[0].seen == (Tick::ZERO, 0));
    assert!(pictures[20].poses.len() > 10);
    let delay = game.clients[0].core.display_delay().unwrap();
    assert!(delay < Duration::from_millis(120), "{delay:?}");
}

#[test]
fn who_comes_and_goes_is_shown_when_that_is_seen_to_happen() {
    let settings = [("cover", 0.0), ("rocket_damage", 0.0)];
    let mut game = Match::of_arena(&settings, 4);
    game.join(rtt(100.0, 5.0), Mind::Script(Box::new(|_| vec![0; 5])));
    game.join(rtt(20.0, 0.0), Mind::Script(Box::new(|tick| vec![0, 0, 0, 0, i32::from(tick.0.is_multiple_of(100))])));
    game.run(1.0);
    let mut shown: BTreeMap<NetId, (Tick, Tick)> = BTreeMap::new();
    game.run_with(8.0, |game| {
        let scene = game.clients[0].core.view(Duration::from_secs_f64(game.now));
        let rockets = scene.entities().filter(|entity| entity.kind().name == "rocket").map(|rocket| rocket.net_id());
        for id in rockets {
            shown.entry(id).or_insert((scene.seen().0, scene.seen().0)).1 = scene.seen().0;
        }
    });
    let newest = game.session.tick().0;
    let mut gone = 0;
    for (id, (first, last)) in shown {
        let there: Vec<Tick> =
            game.frames.values().filter(|frame| frame.places.get(id).is_some()).map(|frame| frame.tick).collect();
        assert_eq!(first, there[0], "{id}");
        let went = there[there.len() - 1];
        if went.0 + 30 < newest {
            gone += 1;
            assert_eq!(last, went, "{id}");
        }
    }
    assert!(gone >= 2, "{gone}");
}

/// Whether an entity may be shown at rest: it was at a tick as much as an entity in a far cell may lag behind, which comes in
/// every fourth snapshot.
fn may_rest(game: &Match, id: NetId, seen: Tick, ticks_per_snapshot: u32) -> bool {
    let x = |tick| game.frames.get(&Tick(tick)).map(|frame| canonical(game.session.schema(), frame, id, "x"));
    let lag_max = u64::from(3 * ticks_per_snapshot) + 1;
    (seen.0.saturating_sub(lag_max)..=seen.0).any(|tick| match (x(tick), x(tick + 1)) {
        (Some(from), Some(to)) => from.abs_diff(to) <= 2,
        _ => true,
    })
}

/// Checks that nobody steps back along their way or moves by more than twice the way of a frame, except at jumps that the
/// game tells of. Where somebody turned out to stand still who was taken to go on, they may come back while they stand.
fn assert_smooth(
    game: &Match,
    pictures: &[Picture],
    ticks_per_snapshot: u32,
    zones: impl Iterator<Item = u64> + Clone,
) {
    // A canonical value may stand a quantum beside the truth, on either side.
    let slack = 2.0 * QUANTUM;
    for pair in pictures.windows(2) {
        let longest = 2.0 * SPEED * (pair[1].now - pair[0].now) + slack;
        for zone in zones.clone() {
            for course in COURSES {
                let id = mover(zone, course);
                let (Some(from), Some(to)) = (pair[0].poses.get(&id), pair[1].poses.get(&id)) else { continue };
                if from.jumps != to.jumps {
                    assert_eq!(course, Course::Jumping);
                    assert!(to.x < from.x, "{from:?} {to:?}");
                    continue;
                }
                let (x, y) = (to.x - from.x, to.y - from.y);
                let (at, seen) = (pair[1].now, pair[1].seen);
                assert!((x * x + y * y).sqrt() <= longest, "{course:?} {zone} jumps at {at} {seen:?}: {from:?} {to:?}");
                if course != Course::Circling && x < -slack {
                    assert!(
                        may_rest(game, id, seen.0, ticks_per_snapshot),
                        "{course:?} {zone} steps back at {at} {seen:?}: {from:?} {to:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn far_cells_at_a_reduced_rate_move_smoothly_too() {
    for (link, fps) in [(rtt(60.0, 0.0), 60.0), (rtt(100.0, 20.0), 144.0)] {
        let mut game = watch(link, 1, 5);
        game.run(0.5);
        let pictures = draw(&mut game, 8.0, fps);
        assert_smooth(&game, &pictures, 1, 0..ZONES);
        let moved = |id: NetId| pictures[pictures.len() - 1].poses[&id].x - pictures[0].poses[&id].x;
        for zone in 0..ZONES {
            assert!(moved(mover(zone, Course::Uneven)) > 20.0, "{zone}");
        }
    }
}

/// Watches over a link with stalls, each after a pause, and checks that all move smoothly.
fn assert_smooth_over(link: Link, seed: u64, ticks_per_snapshot: u32, fps: f64, stalls: &[(f64, f64)]) {
    let mut game = watch(link, ticks_per_snapshot, seed);
    game.run(0.5);
    let mut pictures = draw(&mut game, 1.0, fps);
    for &(pause, stall) in stalls {
        game.stall(0, stall, false, true);
        pictures.extend(draw(&mut game, pause, fps));
    }
    pictures.extend(draw(&mut game, 1.0, fps));
    assert_smooth(&game, &pictures, ticks_per_snapshot, 0..ZONES);
}

#[test]
fn who_is_shown_ahead_of_their_way_waits_while_the_clock_stands() {
    // In the second stall the clock comes to where it stops with an error left that the first one has made.
    let stalls = [(0.583, 0.120), (0.735, 0.390), (0.559, 0.172), (0.229, 0.443), (0.916, 0.396)];
    let link = || rtt(106.959_762_274_673_71 + 28.288_044_198_308_29, 28.288_044_198_308_29);
    assert_smooth_over(link(), 8_217_127_233_405_238_186, 1, 124.78, &stalls);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn nobody_steps_back_or_jumps_whatever_the_link_does(
        delay in 5.0..150.0_f64, jitter in 0.0..40.0_f64, seed in any::<u64>(), ticks_per_snapshot in 1..3_u32,
        fps in 30.0..160.0_f64, stalls in prop::collection::vec((0.2..1.0_f64, 0.0..0.5_f64), 0..6),
    ) {
        assert_smooth_over(rtt(delay + jitter, jitter), seed, ticks_per_snapshot, fps, &stalls);
    }
}
