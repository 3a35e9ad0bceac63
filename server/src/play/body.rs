//! The request's body, watched: when bytes came, and whether it ended or was cut off.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::peer::Peer;

/// A request's body that tells its peer what it sees. gRPC's reader takes a cancelled stream for one that was closed by
/// the client; for a seat that is the difference between leaving and being lost.
pub(super) struct UplinkBody {
    inner: tonic::body::Body,
    peer: Arc<Peer>,
}

/// The stream was reset, or its connection was lost.
#[derive(Debug, thiserror::Error)]
#[error("the stream was reset or its connection lost")]
pub(super) struct Lost;

impl UplinkBody {
    pub(super) fn new(inner: tonic::body::Body, peer: Arc<Peer>) -> Self {
        Self { inner, peer }
    }
}

impl Body for UplinkBody {
    type Data = Bytes;
    type Error = Lost;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Lost>>> {
        match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Ok(frame)) => {
                self.peer.heard(Instant::now());
                Poll::Ready(Some(Ok(frame)))
            }
            None if self.inner.is_end_stream() => Poll::Ready(None),
            Some(Err(_)) | None => {
                self.peer.uplink_lost();
                Poll::Ready(Some(Err(Lost)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
