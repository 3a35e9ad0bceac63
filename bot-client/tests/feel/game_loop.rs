//! What a game loop is told, and when.

use std::time::Duration;

use tickwire_client::ClientEvent;
use tickwire_shared::{Action, Tick};

use crate::harness::{Match, Mind, rtt};

/// Who stands still, and shoots at each 60th tick.
fn shooter() -> Mind {
    Mind::Script(Box::new(|tick| vec![0, 0, 0, i32::from(tick.0.is_multiple_of(60)), 0]))
}

#[test]
fn what_happens_to_others_is_told_when_it_is_seen_and_what_the_player_does_at_once() {
    let mut game = Match::of_arena(&[("cover", 0.0), ("rifle_damage", 0.0)], 7);
    for _ in 0..2 {
        let player = game.join(rtt(100.0, 5.0), shooter());
        assert!(game.clients[player].core.predict(&tickwire_arena::Arena).unwrap());
    }
    game.run(1.0);
    game.clients[0].news();
    let mut next = game.now;
    let (mut heard, mut foretold) = (Vec::new(), Vec::new());
    game.run_with(4.0, |game| {
        if game.now < next {
            return;
        }
        next += 1.0 / 60.0;
        let (server, client) = (game.session.tick(), &mut game.clients[0]);
        for event in client.news() {
            match event {
                ClientEvent::Happened(event) => {
                    assert_eq!((event.name(), event.own), ("shot", false));
                    assert!(event.get("from_x").is_some() && event.get("nothing").is_none());
                    heard.push((client.core.seen(), event.tick));
                }
                ClientEvent::Predicted { tick, action } => foretold.push((server, tick, action)),
                _ => {}
            }
        }
        client.core.view(Duration::from_secs_f64(game.now));
    });
    // Both shoot at each 60th tick.
    let told = heard.iter().filter_map(|(seen, tick)| Some(((*seen)?.0, *tick)));
    let delays: Vec<u64> = told.filter(|(seen, _)| seen.0 > 120).map(|(seen, tick)| seen.0 - tick.0).collect();
    assert!(delays.len() >= 4 && delays.iter().all(|delay| *delay <= 2), "{delays:?}");
    assert!(foretold.len() >= 3);
    for (server, tick, action) in foretold {
        assert!(action == Action("rifle") && tick > server && tick.0.is_multiple_of(60), "{server} {tick}");
    }
}

#[test]
fn where_nothing_is_drawn_everything_is_told_at_once() {
    let mut game = Match::of_arena(&[("cover", 0.0), ("rifle_damage", 0.0)], 8);
    for _ in 0..2 {
        game.join(rtt(60.0, 0.0), shooter());
    }
    let mut late = Vec::new();
    game.run_with(3.0, |game| {
        let client = &mut game.clients[0];
        let newest = client.core.mirror().tick();
        for event in client.news() {
            if let ClientEvent::Happened(event) = event {
                late.push(newest.since(Tick(event.tick.0)));
            }
        }
    });
    assert!(late.len() >= 4 && late.iter().all(|late| *late <= 3), "{late:?}");
}
