//! `GameService` on HTTP: mounted by hand, so that the codec is ours and the request's body can be watched.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use tickwire_proto::v1::{self as pb, game_service_server};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codegen::BoxFuture,
    server::{Grpc, NamedService, StreamingService},
};
use tower_service::Service;

use super::{
    body::UplinkBody,
    codec::{Down, PlayCodec, SpareSnapshot},
    downlink::Downlink,
    peer::Peer,
    uplink,
};
use crate::{net::Connection, server::Shared};

const PLAY: &str = "/tickwire.v1.GameService/Play";

/// `tickwire.v1.GameService`.
#[derive(Clone, Debug)]
pub(crate) struct GameService {
    shared: Arc<Shared>,
}

impl GameService {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl NamedService for GameService {
    const NAME: &'static str = game_service_server::SERVICE_NAME;
}

impl Service<http::Request<Body>> for GameService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let connection = request.extensions().get::<Arc<Connection>>().map(Arc::clone);
        let (true, Some(connection)) = (request.uri().path() == PLAY, connection) else {
            let status = Status::unimplemented(format!("{} is not a method of this server", request.uri().path()));
            return Box::pin(ready(Ok(status.into_http())));
        };
        let peer = Arc::new(Peer::new(Arc::clone(&self.shared), connection));
        let request = request.map(|body| UplinkBody::new(body, Arc::clone(&peer)));
        let spare = SpareSnapshot::default();
        let mut grpc =
            Grpc::new(PlayCodec::new(spare.clone())).max_decoding_message_size(self.shared.limits.message_bytes_max);
        Box::pin(async move { Ok(grpc.streaming(Play { peer, spare }, request).await) })
    }
}

/// The method `Play`, for one request.
struct Play {
    peer: Arc<Peer>,
    spare: SpareSnapshot,
}

impl StreamingService<pb::ClientMessage> for Play {
    type Response = Down;
    type ResponseStream = Downlink;
    type Future = Ready<Result<Response<Downlink>, Status>>;

    fn call(&mut self, request: Request<Streaming<pb::ClientMessage>>) -> Self::Future {
        tokio::spawn(uplink::run(Arc::clone(&self.peer), request.into_inner()));
        // Headers go out at once: clients that wait for them before they say hello need not be told apart.
        ready(Ok(Response::new(Downlink::new(Arc::clone(&self.peer), self.spare.clone()))))
    }
}
