//! What is asked for on the admin's listener without gRPC.

use std::sync::Arc;

use axum::Router;

use crate::{
    metrics::{self, Asked},
    server::Shared,
};

/// Plain HTTP beside the service: what a program that has no token may ask. Add routes here.
pub(super) fn http_routes(shared: &Arc<Shared>) -> Router {
    Router::new().merge(metrics::routes(shared, Asked::Here))
}
