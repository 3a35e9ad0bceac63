//! One line each for a game's own tests.

use std::{fmt::Display, path::Path, sync::Arc};

use tickwire_shared::Game;
use tickwire_simulation::Session;

use crate::{Recording, ReplayError, find_cause, origin::Origin, verify};

/// The recording at `path`, played again, is what was recorded, tick by tick.
///
/// # Panics
/// Where it is not, or cannot be played to its end, with a message that says where and why.
#[track_caller]
pub fn assert_replays(path: impl AsRef<Path>, game: impl Game) {
    let path = path.as_ref();
    let failed = |error: &dyn Display| -> ! { panic!("{} does not replay: {error}", path.display()) };
    let recording = Recording::open(path).unwrap_or_else(|error| failed(&error));
    let game: Arc<dyn Game> = Arc::new(game);
    let Err(error) = verify(&recording, Arc::clone(&game)) else { return };
    match find_cause(&recording, &game, &error) {
        Some(Ok(finding)) => failed(&format_args!("{error}; {finding}")),
        Some(Err(_)) | None => failed(&error),
    }
}

/// The inputs of the recording at `path` play to the end without a panic, whatever comes of them: for a bug that is fixed.
///
/// # Panics
/// Where the game panics, or the recording cannot be played, with a message that says where and why.
#[track_caller]
pub fn assert_plays(path: impl AsRef<Path>, game: impl Game) {
    play(path.as_ref(), Arc::new(game), 1);
}

/// The inputs of the recording at `path` come out the same in two runs, whatever that is, without a panic.
///
/// # Panics
/// Where they do not, or the recording cannot be played, with a message that says where and why.
#[track_caller]
pub fn assert_deterministic(path: impl AsRef<Path>, game: impl Game) {
    play(path.as_ref(), Arc::new(game), 2);
}

/// Plays the inputs in so many sessions side by side.
#[track_caller]
fn play(path: &Path, game: Arc<dyn Game>, runs: usize) {
    let failed = |error: &dyn Display| -> ! { panic!("{} does not play: {error}", path.display()) };
    let recording = Recording::open(path).unwrap_or_else(|error| failed(&error));
    let origin = Origin::of(&recording).unwrap_or_else(|error| failed(&error));
    let session = || origin.session(&recording, &game, recording.meta().session_config(), None);
    let sessions: Result<Vec<Session>, ReplayError> = (0..runs).map(|_| session()).collect();
    let mut sessions = sessions.unwrap_or_else(|error| failed(&error));
    for tick in recording.ticks().unwrap_or_else(|error| failed(&error)) {
        let input = tick.unwrap_or_else(|error| failed(&error)).input;
        let mut results = Vec::with_capacity(runs);
        for session in &mut sessions {
            session.check_tick(&input).unwrap_or_else(|error| failed(&error));
            results.push(session.finish_tick(&input).unwrap_or_else(|panic| failed(&panic)).result);
        }
        if results.windows(2).any(|pair| pair[0] != pair[1]) {
            failed(&format_args!("two runs of tick {} come out differently", input.tick));
        }
    }
}
