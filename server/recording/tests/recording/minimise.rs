//! A recording that fails becomes a small one that fails in the same way.

use std::{fs, io::Cursor, panic::catch_unwind, path::PathBuf, sync::Arc};

use tempfile::TempDir;
use tickwire_recording::{
    EndReason, Failure, Minimised, RecordedTick, Recording, assert_deterministic, assert_plays, assert_replays,
    minimise, verify,
};
use tickwire_shared::{Game, Provenance, Tick};
use tickwire_simulation::SeatChange;

use crate::game::{Dots, Match, Twist, play_broken_match, play_match, play_match_of, play_match_with_jumps};

fn minimised(played: &Match, game: Dots) -> Minimised {
    let game: Arc<dyn Game> = Arc::new(game);
    minimise(&played.recording(), &game, 2_000, |_| {}).expect("it fails")
}

/// The small recording.
fn written(minimised: &Minimised) -> Recording {
    Recording::from_bytes(minimised.write(Cursor::new(Vec::new())).expect("memory takes it").into_inner())
        .expect("whole")
}

/// The same, on a disk.
fn on_disk(minimised: &Minimised) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("small.mcap");
    minimised.write(fs::File::create(&path).expect("a writable directory")).expect("a writable directory");
    (directory, path)
}

fn ticks(recording: &Recording) -> Vec<RecordedTick> {
    recording.ticks().expect("memory").map(|tick| tick.expect("whole")).collect()
}

#[test]
fn a_panic_is_reduced_to_the_one_input_that_brings_it_about() {
    let found = minimised(&play_broken_match(90), Dots::default());
    assert_eq!(found.failure, Failure::Panic { message: "player 1 broke the game".into() });
    assert_eq!((found.before.ticks, found.before.players), (90, 3));
    // The tick at which the player sits down, and the one that breaks the game.
    assert_eq!((found.after.ticks, found.after.players, found.after.inputs), (2, 1, 1));
    assert!(found.runs < 300 && !found.stopped, "{} runs", found.runs);

    let small = written(&found);
    let ticks = ticks(&small);
    let [joined, RecordedTick { input, result: None }] = ticks.as_slice() else { panic!("{ticks:?}") };
    assert!(matches!(joined.input.seat_changes.as_slice(), [SeatChange::Joined { name, .. }] if &**name == "Ada"));
    assert_eq!((input.tick, input.inputs[0].values.as_slice()), (Tick(2), [0, 0, 1].as_slice()));
    let verified = verify(&small, Arc::new(Dots::default())).expect("the same panic");
    assert_eq!(verified.panic.expect("a panic").message, "player 1 broke the game");
    assert!(matches!(verified.end.expect("an end").reason, EndReason::Failed { message } if message.contains("broke")));
}

#[test]
fn what_a_panic_needs_of_the_past_is_kept() {
    let found = minimised(&play_match_with_jumps(80, &[36, 48, 63]), Dots { jumps_max: Some(3), ..Dots::default() });
    let Failure::Panic { message } = &found.failure else { panic!("{}", found.failure) };
    assert!(message.ends_with("jumped too often"), "{message}");
    // One to sit down, and three to jump.
    assert_eq!((found.after.ticks, found.after.players, found.after.inputs), (4, 1, 3));
    let jumps = ticks(&written(&found)).iter().filter(|tick| tick.input.inputs[0].values == [0, 1, 0]).count();
    assert_eq!(jumps, 3, "nobody moves any more");
}

#[test]
fn a_panic_that_is_new_is_reduced_to_nothing_but_time() {
    let found = minimised(&play_match(80), Dots { twist: Some((30, Twist::Panic)), ..Dots::default() });
    // It comes at tick 30 whatever happens before.
    assert_eq!((found.after.ticks, found.after.players, found.after.inputs), (30, 0, 0));
}

#[test]
fn what_comes_out_otherwise_each_time_is_reduced_as_far() {
    let game = Dots { twist: Some((30, Twist::Chance)), ..Dots::default() };
    let found = minimised(&play_match(80), game);
    assert_eq!(found.failure, Failure::Chance);
    // Whoever has a dot has one that hops about.
    assert_eq!((found.after.ticks, found.after.players, found.after.inputs), (30, 1, 0));
    let small = ticks(&written(&found));
    assert!(small.iter().flat_map(|tick| &tick.input.inputs).all(|input| input.provenance == Provenance::Absent));

    let (_directory, path) = on_disk(&found);
    let failed = catch_unwind(|| assert_deterministic(&path, game)).expect_err("it is not").downcast::<String>();
    assert!(failed.expect("a message").ends_with("two runs of tick 30 come out differently"));
    assert_deterministic(&path, Dots::default());
}

#[test]
fn a_divergence_between_builds_is_cut_behind_its_tick() {
    let played = play_match_of(Dots { twist: Some((30, Twist::Faster)), ..Dots::default() }, 80);
    let found = minimised(&played, Dots::default());
    assert_eq!((&found.failure, found.after.ticks, found.runs), (&Failure::Divergence, 30, 0));
    assert_eq!(found.before.players, 3);
    let (small, whole) = (ticks(&written(&found)), ticks(&played.recording()));
    assert_eq!(small, whole[..30]);
    let error = verify(&written(&found), Arc::new(Dots::default())).expect_err("as before").to_string();
    assert!(error.starts_with("the replay diverges at tick 30: dot 2, field x: "), "{error}");
    // The build that made it still has it.
    let (_directory, path) = on_disk(&found);
    assert_replays(&path, Dots { twist: Some((30, Twist::Faster)), ..Dots::default() });
}

#[test]
fn the_test_fails_while_the_bug_is_there_and_passes_without_it() {
    let found = minimised(&play_broken_match(90), Dots::default());
    let (_directory, path) = on_disk(&found);
    let failed = catch_unwind(|| assert_plays(&path, Dots::default())).expect_err("the bug is there");
    let message = failed.downcast::<String>().expect("a message");
    assert!(message.ends_with("small.mcap does not play: tick 2 panicked: player 1 broke the game"), "{message}");
    assert_plays(&path, Dots { forgiving: true, ..Dots::default() });

    let test = found.test("tests/recordings/small.mcap");
    assert_eq!(
        test,
        "/// It panicked: player 1 broke the game\n#[test]\nfn a_match_of_dots_plays_without_a_panic() {\n    \
         tickwire_recording::assert_plays(\"tests/recordings/small.mcap\", MyGame);\n}\n"
    );
}

#[test]
fn with_few_runs_it_is_smaller_and_says_that_more_would_help() {
    let game: Arc<dyn Game> = Arc::new(Dots::default());
    let mut sizes = Vec::new();
    let found = minimise(&play_broken_match(90).recording(), &game, 12, |size| sizes.push(size)).expect("it fails");
    assert!(found.stopped && found.after.ticks <= 90 && found.after.players < 3, "{}", found.after);
    assert!(!sizes.is_empty());
    let verified = verify(&written(&found), Arc::new(Dots::default())).expect("the same panic");
    assert!(verified.panic.is_some());
}

#[test]
fn what_does_not_fail_is_refused_with_the_reason() {
    let game: Arc<dyn Game> = Arc::new(Dots { forgiving: true, ..Dots::default() });
    let error =
        |played: &Match| minimise(&played.recording(), &game, 100, |_| {}).expect_err("it is sound").to_string();
    assert_eq!(error(&play_match(40)), "the recording does not fail: its 40 ticks replay as they were recorded");
    assert_eq!(
        error(&play_broken_match(40)),
        "tick 40 panicked when it was recorded, and does not in this build: player 1 broke the game"
    );
}
