//! Keeps the live edge of a session: what its spectators see moves on as the session does, so much later as they are to be.

use std::{
    io,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tickwire_recording::ReplayError;
use tickwire_replication::Replicator;
use tickwire_shared::Frame;
use tokio::runtime::Handle;
use tracing::warn;

use super::tape::{Behind, Deck, Extent, Played, Tape, TapeError};
use crate::{
    net::yield_to_others,
    session::{SessionHandle, SessionState},
};

/// A thread that looks for what is to be shown rests at least so long.
const REST_MIN: Duration = Duration::from_millis(1);

/// Keeps it until the session's end has been shown: on a network thread, or where it is played from the recording, on a thread
/// of its own.
pub(crate) fn keep(session: &Arc<SessionHandle>, runtime: &Handle) -> io::Result<()> {
    if !session.live.is_played() {
        let keeper = Keeper(Arc::clone(session));
        runtime.spawn(async move { show(&keeper).await });
        return Ok(());
    }
    let Some(path) = session.recording.path() else {
        session
            .live
            .fail("the session is not recorded, and its spectators' delay is longer than frames are kept".into());
        return Ok(());
    };
    let (keeper, runtime) = (Keeper(Arc::clone(session)), runtime.clone());
    thread::Builder::new().name("tickwire-edge".into()).spawn(move || {
        let Keeper(session) = &keeper;
        if let Err(problem) = play(session, &path, &runtime) {
            warn!(session = %session.name, problem, "spectators see no more of a session");
            session.live.fail(problem);
        }
    })?;
    Ok(())
}

/// However it ends, spectators are told that nothing more is shown.
struct Keeper(Arc<SessionHandle>);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.live.note_out();
    }
}

async fn show(Keeper(session): &Keeper) {
    while session.has_more_to_show() {
        if session.state() == SessionState::Running {
            session.live.stepped().await;
        } else {
            tokio::time::sleep(until_next_tick(session)).await;
        }
        session.live.show_due(session.tick_by_now());
        session.live.note_shown(Instant::now());
        session.live.wake_spectators();
    }
}

/// How long a session that has ended would take to its next tick.
fn until_next_tick(session: &SessionHandle) -> Duration {
    session.tick_rate.duration_of(1).saturating_sub(session.phase_by_now()).max(REST_MIN)
}

fn play(session: &Arc<SessionHandle>, path: &Path, runtime: &Handle) -> Result<(), String> {
    yield_to_others();
    let rest = || {
        if session.state() == SessionState::Running {
            runtime.block_on(session.live.stepped());
        } else {
            // The server may be ending, and that runtime with it.
            thread::sleep(until_next_tick(session));
        }
    };
    let mut late = session.live.late().expect("what is played is late");
    let shown = late.newest().tick;
    // What there is before that is for nobody, and the file may not have so much as a header.
    while session.live.due(session.tick_by_now()) <= shown {
        if !session.has_more_to_show() {
            return Ok(());
        }
        rest();
    }
    let tape = Tape::of_session(Extent::Edge(Arc::clone(session)), session, path).map_err(|error| error.to_string())?;
    // Of a session that goes on after a crash nobody waits for more.
    let stop = || !session.has_more_to_show();
    let mut deck = match Deck::at(&tape, shown, stop) {
        Err(TapeError::Replay(ReplayError::Stopped { .. })) => return Ok(()),
        Err(error) => loop {
            match Deck::behind(&tape, 0, shown) {
                Ok(Behind::Deck(deck)) => break *deck,
                Ok(Behind::NotBefore(_)) if stop() => return Ok(()),
                Ok(Behind::NotBefore(_)) => rest(),
                Err(_) => return Err(error.to_string()),
            }
        },
        Ok(deck) => deck,
    };
    if deck.frame().tick > shown {
        late = jump(session, deck.frame());
    }
    while session.has_more_to_show() {
        loop {
            match deck.play() {
                Played::Frame(frame) if frame.tick > late.newest().tick => late.publish(frame),
                // Its frames begin where the session went on.
                Played::Frame(_) => {}
                Played::Jump(frame) => late = jump(session, &frame),
                Played::NotYet => break,
                Played::End => return Err("the recording has ended before the session".into()),
                Played::Failed(reason) => return Err(reason),
            }
        }
        session.live.note_shown(Instant::now());
        session.live.wake_spectators();
        rest();
    }
    Ok(())
}

/// Has live spectators go on at a frame that does not follow those before.
fn jump(session: &SessionHandle, frame: &Arc<Frame>) -> Arc<Replicator> {
    warn!(session = %session.name, tick = frame.tick.0, "spectators go on here: what was before cannot be played");
    let before = session.live.late().expect("what is played is late");
    let game = Arc::clone(before.game());
    let late = Arc::new(Replicator::new(game, &session.schema, *before.config(), Arc::clone(frame)));
    session.live.jump(Arc::clone(&late));
    late
}
