//! One `Play` stream, on HTTP/2 itself.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use h2::{RecvStream, server::SendResponse};
use http::{HeaderValue, Response, header};

use super::{
    downlink::Downlink,
    peer::{Peer, Stage},
    uplink::{Progress, Uplink},
};
use crate::{
    net::{self, Bell, Connection, Lane, Outgoing},
    server::Shared,
};

/// A `Play` stream. Dropped, it takes the stream apart: a seat that was not given up counts as lost.
pub(crate) struct PlayStream {
    peer: Arc<Peer>,
    uplink: Uplink,
    downlink: Downlink,
    lane: Lane,
    /// What comes and goes takes the lane.
    is_in_lane: bool,
    /// Rings the stream's bell.
    waker: Waker,
}

impl PlayStream {
    /// Answers a request of `Play`. Headers go out at once: clients that wait for them before they say hello need not be
    /// told apart.
    pub(crate) fn open(
        shared: &Arc<Shared>,
        connection: &Arc<Connection>,
        bell: Bell,
        lane: Lane,
        body: RecvStream,
        mut respond: SendResponse<Outgoing>,
    ) -> Result<Self, h2::Error> {
        let mut response = Response::new(());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::DATE, net::date());
        let out = respond.send_response(response, false)?;
        let peer = Arc::new(Peer::new(Arc::clone(shared), Arc::clone(connection)));
        Ok(Self {
            uplink: Uplink::new(body, &peer, Instant::now()),
            waker: bell.waker(),
            downlink: Downlink::new(out, bell),
            lane,
            is_in_lane: false,
            peer,
        })
    }

    /// Takes in what has come, and sends what there is to send. Ready: the stream is over.
    pub(crate) fn poll(&mut self, now: Instant) -> Poll<()> {
        let mut cx = Context::from_waker(&self.waker);
        let lane = self.is_in_lane.then_some(&self.lane);
        match self.uplink.poll(&self.peer, lane, self.downlink.no_room_since(), now, &mut cx) {
            Progress::Lost => return Poll::Ready(()),
            Progress::Deaf if self.downlink.is_reset(&mut cx) => return Poll::Ready(()),
            Progress::Deaf | Progress::Reading => {}
        }
        if !self.is_in_lane && self.uplink.has_taken_all() && self.downlink.has_sent_all(&self.peer) {
            self.is_in_lane = self.lane.open();
        }
        let lane = self.is_in_lane.then_some(&self.lane);
        self.downlink.poll(&self.peer, lane, now, &mut cx)
    }

    /// When it must be polled, whatever comes.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.uplink.due()
    }
}

impl Drop for PlayStream {
    fn drop(&mut self) {
        let stage = std::mem::replace(&mut *self.peer.lock(), Stage::Ended);
        drop(stage);
    }
}
