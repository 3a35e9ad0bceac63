//! Requests of `GameService` that nobody answers.

use tonic::{Status, body::Body, metadata::MetadataValue};

use super::{ENCODING, PLAY};
use crate::watch::unimplemented;

const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// Says what is wrong with a request of `GameService` that no method takes: those of `Play` that are not
/// [played](super::is_played_here) among them.
pub(crate) fn refuse(request: &http::Request<Body>) -> http::Response<Body> {
    let path = request.uri().path();
    match request.headers().get(ENCODING) {
        Some(encoding) if path == PLAY => {
            let mut status = Status::unimplemented(format!("messages in the encoding {encoding:?} are not taken"));
            status.metadata_mut().insert(ACCEPT_ENCODING, MetadataValue::from_static("identity"));
            status.into_http()
        }
        _ => unimplemented(path),
    }
}
