//! How connections end, for their counts.

use std::io;

use h2::Reason;

use crate::limits::RefusalReason;

/// Why a connection was lost.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http2(#[from] h2::Error),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("TLS was not agreed on in time")]
    NoHandshake,
    #[error("no request came in time")]
    NoRequest,
    #[error("no ping was answered in time")]
    Dead,
    #[error("the client sends more than it has room for")]
    FlowControl,
    /// With the limit's name.
    #[error("the client sends more frames or requests per second than it may: {0} is exceeded")]
    FrameFlood(&'static str),
    #[error("cut off")]
    Aborted,
}

/// The end of a connection that both sides have closed.
pub(super) const CLOSED: &str = "CLOSED";

impl ConnectionError {
    /// For counting.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Io(_) => "IO",
            // What the socket failed with comes through HTTP/2, too.
            Self::Http2(error) if error.is_io() => "IO",
            Self::Tls(_) => "TLS",
            Self::Aborted => "ABORTED",
            // By an error of the client's, where it was not lost to a limit.
            _ => self.refusal().map_or("HTTP2", RefusalReason::label),
        }
    }

    /// The limit that it was lost to.
    pub(super) fn refusal(&self) -> Option<RefusalReason> {
        match self {
            Self::NoRequest => Some(RefusalReason::NoRequest),
            Self::Dead => Some(RefusalReason::Dead),
            Self::FlowControl => Some(RefusalReason::FlowControl),
            Self::FrameFlood(_) => Some(RefusalReason::FrameFlood),
            Self::Http2(error) if error.is_library() => Some(match error.reason() {
                Some(Reason::ENHANCE_YOUR_CALM) => RefusalReason::Http2Flood,
                Some(Reason::FLOW_CONTROL_ERROR) => RefusalReason::FlowControl,
                _ => RefusalReason::Http2Protocol,
            }),
            Self::NoHandshake => Some(RefusalReason::NoHandshake),
            Self::Http2(_) | Self::Io(_) | Self::Tls(_) | Self::Aborted => None,
        }
    }
}

/// The ends that a connection may come to.
pub(crate) const CONNECTION_ENDS: [&str; 12] = [
    CLOSED,
    "IO",
    "TLS",
    "HTTP2",
    "ABORTED",
    RefusalReason::NoHandshake.label(),
    RefusalReason::NoRequest.label(),
    RefusalReason::Dead.label(),
    RefusalReason::FlowControl.label(),
    RefusalReason::FrameFlood.label(),
    RefusalReason::Http2Flood.label(),
    RefusalReason::Http2Protocol.label(),
];
