//! `GameService` among tonic's services: for requests of it that are not [played](super::is_played_here).

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use tickwire_proto::v1::game_service_server;
use tonic::{Status, body::Body, metadata::MetadataValue, server::NamedService};
use tower_service::Service;

use super::{ENCODING, PLAY};

const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// `tickwire.v1.GameService`, without its one method.
#[derive(Clone, Debug)]
pub(crate) struct GameService;

impl NamedService for GameService {
    const NAME: &'static str = game_service_server::SERVICE_NAME;
}

impl Service<http::Request<Body>> for GameService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let status = match request.headers().get(ENCODING) {
            Some(encoding) if path == PLAY => {
                let mut status = Status::unimplemented(format!("messages in the encoding {encoding:?} are not taken"));
                status.metadata_mut().insert(ACCEPT_ENCODING, MetadataValue::from_static("identity"));
                status
            }
            _ => Status::unimplemented(format!("{path} is not a method of this server")),
        };
        ready(Ok(status.into_http()))
    }
}
