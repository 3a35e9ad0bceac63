//! `GameService` among tonic's services: its calls of spectators, and requests that are not [played](crate::play).

use std::sync::Arc;

use tickwire_proto::v1::{self as pb, game_service_server};
use tickwire_shared::Tick;
use tonic::{Status, body::Body, codec::EnabledCompressionEncodings, server::NamedService};

use super::{
    join,
    rpc::{self, Methods},
    words::{self, Word},
};
use crate::{metrics::Arrival, net::Connection, play, server::Shared};

/// `tickwire.v1.GameService`, without `Play`.
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

impl Methods for GameService {
    async fn answer(self, request: http::Request<Body>) -> http::Response<Body> {
        let Self { shared } = self;
        let bytes_max = shared.limits().message_bytes_max;
        // What is worth a packet is not worth compressing.
        let none = EnabledCompressionEncodings::default();
        match request.uri().path() {
            "/tickwire.v1.GameService/Watch" => {
                let connection = request.extensions().get::<Arc<Connection>>().cloned();
                let watch = async move |request| {
                    join::counted(&shared, Arrival::Watch, join::watch(&shared, connection.as_deref(), request).await)
                };
                let none = EnabledCompressionEncodings::default();
                rpc::streaming(request, bytes_max, none, watch).await
            }
            "/tickwire.v1.GameService/SendInputs" => {
                rpc::unary(request, bytes_max, none, async move |request| send_inputs(&shared, request)).await
            }
            "/tickwire.v1.GameService/Acknowledge" => {
                rpc::unary(request, bytes_max, none, async move |request| acknowledge(&shared, request)).await
            }
            _ => play::refuse(&request),
        }
    }
}

fn send_inputs(shared: &Shared, request: pb::SendInputsRequest) -> Result<pb::SendInputsResponse, Status> {
    let pb::SendInputsRequest { stream_token, messages, jumps } = request;
    let spectator = shared.spectators.find(&stream_token)?;
    spectator.take(&words::read(messages)?, jumps)?;
    Ok(pb::SendInputsResponse {})
}

fn acknowledge(shared: &Shared, request: pb::AcknowledgeRequest) -> Result<pb::AcknowledgeResponse, Status> {
    let pb::AcknowledgeRequest { stream_token, epoch, newest_tick, jumps } = request;
    let ack = Word::Ack { epoch, newest_tick: Tick(newest_tick) };
    shared.spectators.find(&stream_token)?.take(&[ack], jumps)?;
    Ok(pb::AcknowledgeResponse {})
}
