//! A divergence is laid at a system's door, with the kind of evidence that there is.

use std::sync::Arc;

use tickwire_recording::{
    Divergence, Repeated, SystemEvidence, SystemFinding, VerifyError, find_panic, find_system, verify,
};
use tickwire_shared::{Game, Tick};

use crate::game::{Dots, Match, Twist, play_broken_match, play_match};

const SEAT: &str = "recording::game::seat";
const PLAY: &str = "recording::game::play";
const TWIST: &str = "recording::game::twist";

fn found(played: &Match, game: Dots) -> (Divergence, SystemFinding) {
    let (recording, game): (_, Arc<dyn Game>) = (played.recording(), Arc::new(game));
    match verify(&recording, Arc::clone(&game)) {
        Err(VerifyError::Diverged(divergence)) => {
            let finding = find_system(&recording, &game, &divergence).expect("it plays");
            assert_eq!(finding.systems, [SEAT, PLAY, TWIST]);
            (*divergence, finding)
        }
        other => panic!("it must diverge, but: {other:?}"),
    }
}

fn twisted(twist: Twist) -> SystemFinding {
    found(&play_match(60), Dots { twist: Some((30, twist)), ..Dots::default() }).1
}

#[test]
fn the_system_in_which_a_field_took_its_value_is_named() {
    let finding = twisted(Twist::Faster);
    let SystemEvidence::Took { system, before, after } = &finding.evidence else { panic!("{finding}") };
    assert_eq!((system.as_str(), after.quantity - before.quantity), (TWIST, 0.25));
    assert_eq!((finding.system(), &finding.repeated), (Some(TWIST), &Repeated::Same));
    let text = finding.to_string();
    assert!(
        text.starts_with(&format!("in this build the field took its replayed value in system {TWIST}: ")),
        "{text}"
    );
    assert!(text.contains("no chance is in it"), "{text}");
}

#[test]
fn an_altered_input_shows_in_the_system_that_reads_it() {
    let mut played = play_match(60);
    played.ticks[24].0.inputs[0].values[0] += 3;
    let (divergence, finding) = found(&played, Dots::default());
    assert_eq!((divergence.tick, finding.system()), (Tick(25), Some(PLAY)));
}

#[test]
fn what_was_recorded_and_does_not_happen_is_no_systems_doing() {
    let mut played = play_match(60);
    // In the recording, and nowhere else, a dot that stood still had moved.
    let result = played.ticks[10].1.as_mut().expect("a whole tick");
    let changed = result.truth.kinds[0].changed.len();
    assert!(changed > 0, "somebody moves");
    result.state_hash ^= 1;
    result.truth.kinds[0].changed.insert(0, (tickwire_shared::NetId(1), 1));
    result.truth.kinds[0].differences.insert(0, 7);
    let (_, finding) = found(&played, Dots::default());
    assert_eq!((&finding.evidence, finding.system()), (&SystemEvidence::Untouched, None));
}

#[test]
fn spawns_despawns_and_events_have_their_systems() {
    assert_eq!(twisted(Twist::Extra).evidence, SystemEvidence::Spawned { system: TWIST.into() });
    assert_eq!(twisted(Twist::OtherEvent).evidence, SystemEvidence::Emitted { system: TWIST.into() });
    assert_eq!(twisted(Twist::NoEvent).evidence, SystemEvidence::Untouched);

    // The recording has nothing of a dot's going.
    let mut played = play_match(70);
    let left = played.ticks.iter_mut().find_map(|(_, result)| {
        let result = result.as_mut()?;
        result.truth.kinds.iter().any(|kind| !kind.despawned.is_empty()).then_some(result)
    });
    let result = left.expect("a player leaves");
    result.truth.kinds[0].despawned.clear();
    let (_, finding) = found(&played, Dots::default());
    assert_eq!(finding.evidence, SystemEvidence::Despawned { system: SEAT.into() });
}

#[test]
fn of_hidden_state_those_are_named_that_changed_it() {
    for twist in [Twist::Hidden, Twist::Score] {
        let finding = twisted(twist);
        // At this tick somebody jumps, too, which scores.
        assert_eq!(finding.evidence, SystemEvidence::Hidden { systems: vec![PLAY.into(), TWIST.into()] });
        assert_eq!(finding.system(), None);
        assert!(finding.to_string().starts_with("of hidden state only a sum is recorded; "), "{finding}");
    }
}

#[test]
fn a_system_that_does_otherwise_each_time_is_found_by_playing_the_tick_twice() {
    let (_, finding) = found(&play_match(60), Dots { twist: Some((30, Twist::Chance)), ..Dots::default() });
    let Repeated::Differs { tick, system, difference } = &finding.repeated else { panic!("{finding}") };
    assert_eq!((*tick, system.as_deref()), (Tick(30), Some(TWIST)));
    assert!(difference.starts_with("dot 2, field x: once "), "{difference}");
    assert!(finding.to_string().contains("not deterministic: two runs from the same state differed at tick 30 after"));
}

#[test]
fn chance_in_an_earlier_tick_is_said_to_be_there() {
    // The tick that is looked into comes after the one that has the chance in it.
    let played = play_match(60);
    let (recording, game) = (played.recording(), Dots { twist: Some((40, Twist::Faster)), ..Dots::default() });
    let Err(VerifyError::Diverged(divergence)) = verify(&recording, Arc::new(game)) else { panic!("it diverges") };
    let game: Arc<dyn Game> = Arc::new(Dots { twist: Some((30, Twist::Chance)), ..Dots::default() });
    let finding = find_system(&recording, &game, &divergence).expect("it plays");
    assert!(matches!(finding.repeated, Repeated::Differs { tick: Tick(30), system: None, .. }), "{finding}");
    assert_eq!(finding.evidence, SystemEvidence::Gone);
}

#[test]
fn a_panic_has_its_system() {
    let (recording, game): (_, Arc<dyn Game>) = (play_broken_match(40).recording(), Arc::new(Dots::default()));
    let panic = verify(&recording, Arc::clone(&game)).expect("the same panic").panic.expect("a panic");
    let finding = find_panic(&recording, &game, &panic).expect("it plays");
    assert_eq!((finding.system(), &finding.repeated), (Some(PLAY), &Repeated::Same));

    let game: Arc<dyn Game> = Arc::new(Dots { forgiving: true, ..Dots::default() });
    let finding = find_panic(&recording, &game, &panic).expect("it plays");
    assert_eq!(finding.evidence, SystemEvidence::Gone);
}
