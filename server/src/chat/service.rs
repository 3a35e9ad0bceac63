//! `ChatService` among tonic's services.

use std::sync::Arc;

use tickwire_proto::v1::chat_service_server;
use tonic::{body::Body, server::NamedService};

use super::stream;
use crate::{
    server::Shared,
    watch::rpc::{self, Methods},
};

/// `tickwire.v1.ChatService`. What goes to many is encoded once, so that its answers are bytes.
#[derive(Clone, Debug)]
pub(crate) struct ChatService {
    shared: Arc<Shared>,
}

impl ChatService {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl NamedService for ChatService {
    const NAME: &'static str = chat_service_server::SERVICE_NAME;
}

impl Methods for ChatService {
    async fn answer(self, request: http::Request<Body>) -> http::Response<Body> {
        let Self { shared } = self;
        match request.uri().path() {
            "/tickwire.v1.ChatService/Chat" => {
                let bytes_max = shared.limits().message_bytes_max;
                rpc::bidirectional(request, bytes_max, async move |up| Ok(stream::open(shared, up))).await
            }
            path => rpc::unimplemented(path),
        }
    }
}
