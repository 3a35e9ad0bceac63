//! What is asked for on the admin's listener without gRPC.

use std::sync::Arc;

use axum::{Router, routing::get};

use crate::server::Shared;

/// Plain HTTP beside the service: what a program that has no token may ask. Add routes here.
pub(super) fn http_routes(_shared: &Arc<Shared>) -> Router {
    // It answers, so that it runs.
    Router::new().route("/healthz", get(async || "ok\n"))
}
