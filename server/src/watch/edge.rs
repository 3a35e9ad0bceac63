//! Keeps the live edge of a session: what its spectators see moves on as the session does, so much later as they are to be.

use std::{io, path::Path, sync::Arc, thread};

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

/// Keeps it until the session ends: on a network thread, or where it is played from the recording, on a thread of its own.
pub(crate) fn keep(session: &Arc<SessionHandle>, runtime: &Handle) -> io::Result<()> {
    if !session.live.is_played() {
        runtime.spawn(show(Arc::clone(session)));
        return Ok(());
    }
    let Some(path) = session.recording.path() else {
        session
            .live
            .fail("the session is not recorded, and its spectators' delay is longer than frames are kept".into());
        return Ok(());
    };
    let (session, runtime) = (Arc::clone(session), runtime.clone());
    thread::Builder::new().name("tickwire-edge".into()).spawn(move || {
        if let Err(problem) = play(&session, &path, &runtime) {
            warn!(session = %session.name, problem, "spectators see no more of a session");
            session.live.fail(problem);
        }
    })?;
    Ok(())
}

async fn show(session: Arc<SessionHandle>) {
    while session.state() == SessionState::Running {
        session.live.stepped().await;
        session.live.show_due(session.clock.tick());
        session.live.wake_spectators();
    }
}

fn play(session: &Arc<SessionHandle>, path: &Path, runtime: &Handle) -> Result<(), String> {
    yield_to_others();
    let mut late = session.live.late().expect("what is played is late");
    let shown = late.newest().tick;
    // What there is before that is for nobody, and the file may not have so much as a header.
    while session.live.due(session.clock.tick()) <= shown {
        if session.state() != SessionState::Running {
            return Ok(());
        }
        runtime.block_on(session.live.stepped());
    }
    let tape = Tape::of_session(Extent::Edge(Arc::clone(session)), session, path).map_err(|error| error.to_string())?;
    // Of a session that goes on after a crash nobody waits for more.
    let stop = || session.state() != SessionState::Running;
    let mut deck = match Deck::at(&tape, shown, stop) {
        Err(TapeError::Replay(ReplayError::Stopped { .. })) => return Ok(()),
        Err(error) => loop {
            match Deck::behind(&tape, 0, shown) {
                Ok(Behind::Deck(deck)) => break *deck,
                Ok(Behind::NotBefore(_)) if stop() => return Ok(()),
                Ok(Behind::NotBefore(_)) => runtime.block_on(session.live.stepped()),
                Err(_) => return Err(error.to_string()),
            }
        },
        Ok(deck) => deck,
    };
    if deck.frame().tick > shown {
        late = jump(session, deck.frame());
    }
    while session.state() == SessionState::Running {
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
        session.live.wake_spectators();
        runtime.block_on(session.live.stepped());
    }
    session.live.wake_spectators();
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
