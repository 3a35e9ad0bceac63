//! `AdminService`: who asks, whether they may, and what they are answered.

use std::sync::Arc;

use tickwire_proto::v1::{GetServerInfoRequest, GetServerInfoResponse, admin_service_server};
use tonic::{Request, Response, Status, async_trait};
use tracing::warn;

use super::{
    auth::{Caller, Role, Tokens},
    info,
};
use crate::{server::Shared, status::Refusal};

/// `tickwire.v1.AdminService`.
#[derive(Debug)]
pub(super) struct Admin {
    shared: Arc<Shared>,
    tokens: Tokens,
}

impl Admin {
    pub(super) fn new(shared: Arc<Shared>, tokens: Tokens) -> Self {
        Self { shared, tokens }
    }

    /// Who asks, where they may read.
    fn observer<T>(&self, request: &Request<T>) -> Result<Caller, Refusal> {
        let caller = self.tokens.identify(request).map_err(|unknown| {
            if !unknown.is_flood {
                let from = request.remote_addr();
                warn!(?from, has_token = unknown.has_token, "somebody without a good token has asked as an admin");
            }
            Refusal::from(unknown)
        })?;
        caller.needs(Role::Observer)?;
        Ok(caller)
    }
}

#[async_trait]
impl admin_service_server::AdminService for Admin {
    async fn get_server_info(
        &self,
        request: Request<GetServerInfoRequest>,
    ) -> Result<Response<GetServerInfoResponse>, Status> {
        self.observer(&request)?;
        Ok(Response::new(info::server_info(&self.shared, self.tokens.failures())))
    }
}
