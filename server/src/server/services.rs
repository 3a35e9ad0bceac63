//! What is answered on the public port.

use std::sync::Arc;

use tickwire_proto::v1::session_service_server::SessionServiceServer;
use tonic::{codec::CompressionEncoding, server::NamedService as _, service::Routes};
use tonic_health::{ServingStatus, pb::health_server, server::HealthReporter};
use tonic_reflection::{
    pb::{v1, v1alpha},
    server::Builder,
};

use super::Shared;
use crate::{
    chat::ChatService,
    sessions::{Lobby, Sessions},
    watch::{GameService, RecordingService, rpc::Routed},
    well_formed::WellFormed,
};

/// Of all services that there are.
pub(super) const DESCRIPTORS: [&[u8]; 4] = [
    tickwire_proto::FILE_DESCRIPTOR_SET,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    v1::FILE_DESCRIPTOR_SET,
    v1alpha::FILE_DESCRIPTOR_SET,
];

/// What is served here of Tickwire's own services.
const SERVED: [&str; 4] =
    [GameService::NAME, ChatService::NAME, RecordingService::NAME, SessionServiceServer::<Sessions>::NAME];
/// What is served beside them.
const STANDARD: [&str; 3] = [
    health_server::SERVICE_NAME,
    v1::server_reflection_server::SERVICE_NAME,
    v1alpha::server_reflection_server::SERVICE_NAME,
];

pub(super) fn routes(shared: &Arc<Shared>, lobby: &Arc<Lobby>, health: &HealthReporter) -> Routes {
    let bytes_max = shared.limits().message_bytes_max;
    let reflection = || {
        let builder = Builder::configure()
            .register_encoded_file_descriptor_set(tickwire_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        // By default it lists what the descriptors have: also what only admins are answered.
        SERVED.into_iter().chain(STANDARD).fold(builder, Builder::with_service_name)
    };
    const VALID: &str = "the descriptors are compiled in";
    Routes::default()
        .add_service(Routed(GameService::new(Arc::clone(shared))))
        .add_service(Routed(ChatService::new(Arc::clone(shared))))
        .add_service(Routed(RecordingService::new(Arc::clone(shared))))
        .add_service(WellFormed(
            SessionServiceServer::new(Sessions::new(Arc::clone(shared), Arc::clone(lobby)))
                .max_decoding_message_size(bytes_max)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip),
        ))
        .add_service(WellFormed(health_server::HealthServer::new(
            tonic_health::server::HealthService::from_health_reporter(health.clone()),
        )))
        .add_service(reflection().build_v1().expect(VALID).max_decoding_message_size(bytes_max))
        .add_service(reflection().build_v1alpha().expect(VALID).max_decoding_message_size(bytes_max))
        .prepare()
}

/// Of all services but those that housekeeping tells of.
pub(crate) async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for service in std::iter::once("").chain(SERVED) {
        health.set_service_status(service, status).await;
    }
}
