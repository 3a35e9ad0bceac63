//! The way down: composes late. Nothing is prepared before HTTP/2 asks, and what is composed then is the newest.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use tickwire_proto::v1::{self as pb, server_message::Kind};
use tokio_stream::Stream;
use tonic::{Code, Status};

use super::{
    codec::{Down, SpareSnapshot},
    peer::{Peer, Playing, Stage},
};
use crate::{
    net::Relay,
    server::Shared,
    session::{SessionHandle, SessionState},
    status::Refusal,
};

/// The response of a `Play` request. Dropped, it takes the stream apart.
#[derive(Debug)]
pub(super) struct Downlink {
    peer: Arc<Peer>,
    spare: SpareSnapshot,
    /// The relay that wakes it, and its number there.
    relay: Option<(Arc<Relay>, usize)>,
}

impl Downlink {
    pub(super) fn new(peer: Arc<Peer>, spare: SpareSnapshot) -> Self {
        Self { peer, spare, relay: None }
    }

    /// Has itself woken at each tick, from when it plays.
    fn subscribe(&mut self) {
        if self.relay.is_none()
            && let Some(session) = self.peer.session()
        {
            let relay = Arc::clone(&session.relays[self.peer.connection.thread.index]);
            let number = relay.add(Arc::clone(&self.peer) as _);
            self.relay = Some((relay, number));
        }
    }
}

impl Stream for Downlink {
    type Item = Result<Down, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.subscribe();
        let peer = &*self.peer;
        let mut state = peer.lock();
        if state.waits {
            // HTTP/2 asks after each message for one more, and nothing has come since that it could be.
            state.wait(cx);
            return Poll::Pending;
        }
        if let (Stage::Playing(playing), Some(session)) = (&mut state.stage, peer.session()) {
            match next(playing, session, &peer.shared, &self.spare) {
                Next::Send(message) => return Poll::Ready(Some(Ok(message))),
                Next::End(goodbye, status) => {
                    state.stage = Stage::Ending(Some(Box::new(Kind::Goodbye(goodbye))), status);
                }
                Next::Nothing => {}
            }
        }
        match &mut state.stage {
            Stage::Arriving | Stage::Playing(_) => {
                state.wait(cx);
                Poll::Pending
            }
            Stage::Ending(last, status) => {
                if let Some(last) = last.take() {
                    return Poll::Ready(Some(Ok((*last).into())));
                }
                let status = std::mem::replace(status, Status::ok(""));
                state.stage = Stage::Ended;
                Poll::Ready(if status.code() == Code::Ok { None } else { Some(Err(status)) })
            }
            Stage::Ended => Poll::Ready(None),
        }
    }
}

impl Drop for Downlink {
    fn drop(&mut self) {
        if let Some((relay, number)) = self.relay.take() {
            relay.remove(number);
        }
        // The seat goes now, and not when the uplink's task notices.
        self.peer.lock().stage = Stage::Ended;
        self.peer.gone.notify_one();
    }
}

enum Next {
    Send(Down),
    End(pb::Goodbye, Status),
    Nothing,
}

/// What a stream that plays sends next.
fn next(playing: &mut Playing, session: &SessionHandle, shared: &Shared, spare: &SpareSnapshot) -> Next {
    if let Some(welcome) = playing.welcome.take() {
        return Next::Send(Kind::Welcome(*welcome).into());
    }
    match session.state() {
        SessionState::Running => {}
        SessionState::Stopped => return stopped(),
        SessionState::Failed => return failed(session),
    }
    if let Some(notice) = shared.notices.newer_than(&mut playing.noticed) {
        return Next::Send(Kind::Notice(notice).into());
    }
    if let Some(echo) = playing.pings.pop_front() {
        return Next::Send(Kind::Pong(pong(session, echo, Instant::now())).into());
    }
    if playing.stripe.is_leaving() && session.replicator.newest().seat(playing.stripe.player()).is_none() {
        return left();
    }
    if playing.view.sent() >= session.clock.tick() {
        return Next::Nothing;
    }
    let mut snapshot = spare.take();
    if playing.stripe.compose(&mut playing.view, Instant::now(), &mut snapshot) {
        return Next::Send(Down::Snapshot(snapshot));
    }
    spare.give_back(snapshot);
    Next::Nothing
}

fn pong(session: &SessionHandle, echo: u64, now: Instant) -> pb::Pong {
    let clock = &session.clock;
    pb::Pong { echo, tick: clock.tick().0, phase_us: clock.phase_us(now), slip_us: clock.slip_us() }
}

fn left() -> Next {
    Next::End(goodbye(pb::GoodbyeReason::Left, "you left"), Status::ok(""))
}

fn stopped() -> Next {
    Next::End(goodbye(pb::GoodbyeReason::Shutdown, "the server is shutting down"), Refusal::shutting_down().into())
}

fn failed(session: &SessionHandle) -> Next {
    let text = "the game of this session failed; its recording replays to the failure";
    let refusal = Refusal::new(Code::Aborted, "SESSION_FAILED", format!("{}: {text}", session.name));
    Next::End(goodbye(pb::GoodbyeReason::SessionFailed, text), refusal.into())
}

fn goodbye(reason: pb::GoodbyeReason, text: &str) -> pb::Goodbye {
    pb::Goodbye { reason: reason.into(), text: text.into() }
}
