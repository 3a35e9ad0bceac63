//! Metrics, and whether the server lives and serves, by plain HTTP: on the admin's listener, and on one of their own.

use std::{io, net::SocketAddr, sync::Arc, thread, time::Duration};

use axum::{
    Extension, Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::get,
};
use tokio::{net::TcpListener, runtime::Builder, sync::oneshot};
use tonic::{service::Routes, transport::server::TcpConnectInfo};
use tracing::info;

use super::render;
use crate::{
    admin::{Site, serve_http},
    net::is_loopback,
    server::{Phase, Shared},
};

/// The text format of Prometheus.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// How long a stopping thread waits for blocking work, of which there is none.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// Whose questions are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Those of programs on this machine. Metrics say who hosts what, and how much.
    Here,
    /// Everybody's: the operator has said so.
    Anywhere,
}

/// A listener for metrics that does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// An address that cannot be listened on.
    #[error("cannot listen for who asks for metrics on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A thread or runtime that cannot be created.
    #[error("cannot start the thread for metrics: {0}")]
    Thread(io::Error),
}

/// Answers who asks for metrics until it is dropped, on a thread of its own: also while all others are busy.
#[derive(Debug)]
pub(crate) struct MetricsListener {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// `/metrics`; `/healthz`: the process lives; `/readyz`: players may join.
pub(crate) fn routes(shared: &Arc<Shared>, asked: Asked) -> Router {
    let (measured, ready) = (Arc::clone(shared), Arc::clone(shared));
    let metrics = async move |info: Option<Extension<TcpConnectInfo>>| -> Response {
        let from = info.and_then(|Extension(info)| info.remote_addr());
        if asked == Asked::Here && !from.is_some_and(|from| is_loopback(from.ip())) {
            let advice =
                "metrics are told on the server's own machine alone, or to all where it has --metrics-listen\n";
            return (StatusCode::FORBIDDEN, advice).into_response();
        }
        ([(CONTENT_TYPE, TEXT)], render(&measured)).into_response()
    };
    let is_ready = async move || match is_ready(&ready) {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    };
    // It answers, so that it runs.
    let lives = async || "ok\n";
    Router::new().route("/metrics", get(metrics)).route("/healthz", get(lives)).route("/readyz", get(is_ready))
}

/// What `grpc.health.v1` says of the server as a whole.
fn is_ready(shared: &Shared) -> bool {
    *shared.phase.borrow() == Phase::Serving && shared.plays()
}

impl MetricsListener {
    /// Listens from now on.
    ///
    /// # Errors
    /// Where the address, or a thread, cannot be had.
    pub(crate) fn start(address: SocketAddr, shared: &Arc<Shared>) -> Result<Self, MetricsError> {
        let failed = |source| MetricsError::Listen { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let runtime = Builder::new_current_thread().enable_all().build().map_err(MetricsError::Thread)?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener).map_err(MetricsError::Thread)?
        };
        let routes = Routes::from(routes(shared, Asked::Anywhere)).prepare();
        let site = Site { shared: Arc::clone(shared), routes, tls: None };
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("tickwire-metrics".into()).spawn(move || {
            runtime.block_on(serve_http(listener, site, stopped));
            runtime.shutdown_timeout(STOP_TIMEOUT);
        });
        let thread = thread.map_err(MetricsError::Thread)?;
        info!(%address, "listening for who asks for metrics");
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MetricsListener {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}
