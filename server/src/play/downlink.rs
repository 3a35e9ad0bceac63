//! The way down: composes late. Nothing is prepared before HTTP/2 has room, and what is composed then is the newest.

use std::{
    cell::RefCell,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use h2::{Reason, SendStream};
use http::HeaderMap;
use tickwire_proto::v1::{self as pb, server_message::Kind};
use tickwire_replication::Snapshot;
use tonic::{Code, Status};

use super::{
    framing::{put_message, put_snapshot},
    peer::{Peer, Playing, Stage},
};
use crate::{
    metrics::of_goodbye,
    net::{Bell, Framed, Lane, Message, Outbox, Outgoing, Relay},
    server::Shared,
    session::{Going, SessionHandle, SessionState},
    status::Refusal,
};

/// The response of a `Play` request.
pub(super) struct Downlink {
    out: SendStream<Outgoing>,
    /// One message is under way at most: what waited behind it would be stale.
    outbox: Arc<Outbox>,
    bell: Bell,
    /// The relay that rings at each tick, and the bell's number there.
    relay: Option<(Arc<Relay>, usize)>,
    /// Something waits for room since then.
    no_room_since: Option<Instant>,
}

/// Nothing more can be sent.
struct Over;

impl Downlink {
    pub(super) fn new(out: SendStream<Outgoing>, bell: Bell) -> Self {
        let outbox = Outbox::new(bell.clone());
        Self { out, outbox, bell, relay: None, no_room_since: None }
    }

    /// Whether the client has reset the stream, or its connection is lost. If not, `cx` is woken then.
    pub(super) fn is_reset(&mut self, cx: &mut Context<'_>) -> bool {
        self.out.poll_reset(cx).is_ready()
    }

    /// Since when there has been something to send, and no room for it.
    pub(super) fn no_room_since(&self) -> Option<Instant> {
        self.no_room_since
    }

    /// Sends what there is to send, as far as there is room. Ready: the last has been handed over.
    pub(super) fn poll(&mut self, peer: &Peer, lane: Option<&Lane>, now: Instant, cx: &mut Context<'_>) -> Poll<()> {
        self.subscribe(peer);
        match ready!(self.poll_stage(peer, &mut peer.lock(), lane, now, cx)) {
            Ok(()) | Err(Over) => Poll::Ready(()),
        }
    }

    fn poll_stage(
        &mut self,
        peer: &Peer,
        stage: &mut Stage,
        lane: Option<&Lane>,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Over>> {
        loop {
            match stage {
                Stage::Arriving | Stage::Ended => return Poll::Pending,
                Stage::Playing(playing) => {
                    let session = peer.session().expect("who plays has a session");
                    let (goodbye, status) = ready!(self.poll_playing(playing, session, &peer.shared, lane, now, cx))?;
                    peer.note_end(of_goodbye(goodbye.reason()));
                    *stage = Stage::Ending(Some(Box::new(Kind::Goodbye(goodbye))), status);
                }
                Stage::Ending(last @ Some(_), _) => {
                    ready!(self.poll_room(lane, now, cx))?;
                    if let Some(last) = last.take() {
                        self.send(lane, |bytes| put_message(*last, bytes))?;
                    }
                }
                Stage::Ending(None, status) => {
                    // Trailers take no room, but they wait for theirs: a peer that reads nothing is to be found out.
                    if !self.outbox.has_room() || !lane.is_none_or(Lane::has_sent_all) {
                        self.no_room_since.get_or_insert(now);
                        return Poll::Pending;
                    }
                    self.send_status(status)?;
                    peer.note_status(status.code());
                    *stage = Stage::Ended;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Ready: the stream is to end so.
    fn poll_playing(
        &mut self,
        playing: &mut Playing,
        session: &SessionHandle,
        shared: &Shared,
        lane: Option<&Lane>,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(pb::Goodbye, Status), Over>> {
        loop {
            let message = match what_is_next(playing, session, shared) {
                Next::Nothing => {
                    self.no_room_since = None;
                    return Poll::Pending;
                }
                Next::End(goodbye, status) => return Poll::Ready(Ok((goodbye, status))),
                message => message,
            };
            ready!(self.poll_room(lane, now, cx))?;
            let kind = match message {
                Next::Welcome => playing.welcome.take().map(|welcome| Kind::Welcome(*welcome)),
                Next::Notice => playing.told.next(&shared.notices, Some(&session.control.notices)).map(Kind::Notice),
                Next::Pong => playing.pings.pop_front().map(|echo| Kind::Pong(pong(session, echo, now))),
                Next::Snapshot => {
                    self.send_snapshot(playing, lane, now)?;
                    // Of a newer one the relay will tell.
                    return Poll::Pending;
                }
                Next::Nothing | Next::End(..) => None,
            };
            if let Some(kind) = kind {
                self.send(lane, |bytes| put_message(kind, bytes))?;
            }
        }
    }

    /// Sends the newest snapshot, where it is the stream's turn and the view is ready for one.
    fn send_snapshot(&mut self, playing: &mut Playing, lane: Option<&Lane>, now: Instant) -> Result<(), Over> {
        SNAPSHOT.with_borrow_mut(|snapshot| {
            let (relay, _) = self.relay.as_ref().expect("who plays has subscribed");
            if !playing.stripe.compose(&mut playing.view, now, snapshot, &relay.counters) {
                return Ok(());
            }
            let sent = self.send(lane, |bytes| put_snapshot(snapshot, bytes));
            snapshot.clear();
            sent
        })
    }

    /// Whether it plays, and the client has been welcomed, and has all that was sent.
    pub(super) fn has_sent_all(&self, peer: &Peer) -> bool {
        let is_welcome = matches!(&*peer.lock(), Stage::Playing(playing) if playing.welcome.is_none());
        is_welcome && self.outbox.is_free()
    }

    /// Waits for room for a message: the one before has been written, and the client takes more.
    fn poll_room(&mut self, lane: Option<&Lane>, now: Instant, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
        let room = self.poll_capacity(lane, cx);
        if room.is_ready() {
            self.no_room_since = None;
        } else {
            self.no_room_since.get_or_insert(now);
        }
        room
    }

    fn poll_capacity(&mut self, lane: Option<&Lane>, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
        if let Some(lane) = lane {
            return if lane.has_room() { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        if !self.outbox.has_room() {
            return Poll::Pending;
        }
        self.out.reserve_capacity(1);
        while self.out.capacity() == 0 {
            match ready!(self.out.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(Over)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, lane: Option<&Lane>, put: impl FnOnce(&mut Vec<u8>)) -> Result<(), Over> {
        if let Some(lane) = lane {
            FRAMED.with_borrow_mut(|framed| {
                put(framed.start());
                lane.send(framed);
            });
            return Ok(());
        }
        let mut bytes = Vec::new();
        put(&mut bytes);
        let message = Outgoing::Message(Message::new(bytes, &self.outbox));
        self.out.send_data(message, false).map_err(|_| Over)
    }

    fn send_status(&mut self, status: &Status) -> Result<(), Over> {
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            self.out.send_reset(Reason::INTERNAL_ERROR);
            return Err(Over);
        }
        self.out.send_trailers(trailers).map_err(|_| Over)
    }

    /// Has itself called at each tick, from when it plays.
    fn subscribe(&mut self, peer: &Peer) {
        if self.relay.is_none()
            && let Some(session) = peer.session()
        {
            let relay = Arc::clone(&session.relays[peer.connection.thread.index]);
            let number = relay.add(self.bell.clone());
            self.relay = Some((relay, number));
        }
    }
}

impl Drop for Downlink {
    fn drop(&mut self) {
        if let Some((relay, number)) = self.relay.take() {
            relay.remove(number);
        }
    }
}

enum Next {
    Nothing,
    Welcome,
    Notice,
    Pong,
    Snapshot,
    End(pb::Goodbye, Status),
}

thread_local! {
    /// Room to compose in. That of the stream before is still in the core's cache.
    static SNAPSHOT: RefCell<Snapshot> = RefCell::default();
    static FRAMED: RefCell<Framed> = const { RefCell::new(Framed::new()) };
}

/// What a stream that plays is to send next.
fn what_is_next(playing: &Playing, session: &SessionHandle, shared: &Shared) -> Next {
    if playing.welcome.is_some() {
        return Next::Welcome;
    }
    match session.state() {
        SessionState::Running => {}
        SessionState::Stopped => return stopped(),
        SessionState::Failed => return failed(session),
        SessionState::Ended => return ended(session),
    }
    if let Some(ousted) = playing.stripe.ousted() {
        return Next::End(goodbye(ousted.kind.reason(), &ousted.text), ousted.refusal().into());
    }
    if playing.told.is_behind(&shared.notices, Some(&session.control.notices)) {
        return Next::Notice;
    }
    if !playing.pings.is_empty() {
        return Next::Pong;
    }
    match playing.stripe.going() {
        Going::On => {}
        Going::Leaving if session.replicator.newest().seat(playing.stripe.player()).is_some() => {}
        Going::Leaving => return left(),
        Going::Displaced => return displaced(),
    }
    if playing.view.sent() < session.clock.tick() { Next::Snapshot } else { Next::Nothing }
}

fn pong(session: &SessionHandle, echo: u64, now: Instant) -> pb::Pong {
    let clock = &session.clock;
    pb::Pong { echo, tick: clock.tick().0, phase_us: clock.phase_us(now), slip_us: clock.slip_us() }
}

fn left() -> Next {
    Next::End(goodbye(pb::GoodbyeReason::Left, "you left"), Status::ok(""))
}

fn displaced() -> Next {
    let text = "the seat was resumed by another stream";
    let refusal = Refusal::new(Code::Aborted, "DISPLACED", text);
    Next::End(goodbye(pb::GoodbyeReason::Displaced, text), refusal.into())
}

fn stopped() -> Next {
    Next::End(goodbye(pb::GoodbyeReason::Shutdown, "the server is shutting down"), Refusal::shutting_down().into())
}

fn failed(session: &SessionHandle) -> Next {
    let text = "the game of this session failed; its recording replays to the failure";
    let refusal = Refusal::new(Code::Aborted, "SESSION_FAILED", format!("{}: {text}", session.name));
    Next::End(goodbye(pb::GoodbyeReason::SessionFailed, text), refusal.into())
}

fn ended(session: &SessionHandle) -> Next {
    if let Some(text) = session.termination() {
        let refusal = Refusal::new(Code::Aborted, "TERMINATED", format!("{}: {text}", session.name));
        return Next::End(goodbye(pb::GoodbyeReason::Terminated, text), refusal.into());
    }
    let goodbye = goodbye(pb::GoodbyeReason::SessionEnded, "the session has come to its end");
    let goodbye = pb::Goodbye { result_json: session.result_json().to_owned(), ..goodbye };
    Next::End(goodbye, Status::ok(""))
}

fn goodbye(reason: pb::GoodbyeReason, text: &str) -> pb::Goodbye {
    pb::Goodbye { reason: reason.into(), text: text.into(), ..pb::Goodbye::default() }
}
