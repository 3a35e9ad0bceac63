//! The gate of `AdminService`: who calls is known before anything of the call is read.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use serde_json::json;
use tonic::{Status, body::Body, server::NamedService, transport::server::TcpConnectInfo};
use tower_service::Service;
use tracing::warn;

use super::{
    audit::Audit,
    auth::{Caller, Tokens, Unknown},
};
use crate::status::Refusal;

/// Of a method's name that somebody without a token has sent, so much is written down.
const METHOD_CHARS_MAX: usize = 64;

/// A service that only calls with a good token reach, and each with its [`Caller`]. Who has none is told so, whatever else is
/// wrong with the call; attempts are written down.
#[derive(Clone, Debug)]
pub(super) struct Gate<S> {
    service: S,
    tokens: Arc<Tokens>,
    audit: Audit,
}

impl<S> Gate<S> {
    pub(super) fn new(service: S, tokens: Arc<Tokens>, audit: Audit) -> Self {
        Self { service, tokens, audit }
    }
}

impl<S: NamedService> NamedService for Gate<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let from = request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
        match self.tokens.identify(request.headers(), from) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                Box::pin(self.service.call(request))
            }
            Err(unknown) => {
                let (audit, what) = (self.audit.clone(), method_of(request.uri().path()));
                Box::pin(async move { Ok(deny(unknown, from, what, &audit).await) })
            }
        }
    }
}

async fn deny(unknown: Unknown, from: Option<SocketAddr>, what: String, audit: &Audit) -> Response<Body> {
    let refusal = Refusal::from(unknown);
    if !unknown.is_flood {
        warn!(
            from = from.map(tracing::field::display),
            what,
            has_token = unknown.has_token,
            "somebody without a good token has asked as an admin"
        );
        // What they have sent is nobody's.
        audit.deny(Caller::nobody(from), what, json!({}), &refusal).await;
    }
    Status::from(refusal).into_http()
}

/// What is asked for by a path, which may be anything.
fn method_of(path: &str) -> String {
    let method = path.rsplit('/').next().unwrap_or_default();
    method.chars().filter(char::is_ascii_alphanumeric).take(METHOD_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_path_so_much_is_written_down_as_a_methods_name_has() {
        assert_eq!(method_of("/tickwire.v1.AdminService/GetServerInfo"), "GetServerInfo");
        assert_eq!(method_of("/tickwire.v1.AdminService/%0a\"who\":1"), "0awho1");
        assert_eq!(method_of(&format!("/a/{}", "x".repeat(8000))).len(), METHOD_CHARS_MAX);
        assert_eq!(method_of(""), "");
    }
}
