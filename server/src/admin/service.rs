//! `AdminService`: who asks, whether they may, and what they are answered.

use std::{pin::Pin, sync::Arc};

use futures_util::Stream;
use serde_json::{Value as Json, json};
use tickwire_proto::v1::{
    self as pb,
    admin_service_server::{self, AdminServiceServer},
};
use tokio::sync::Semaphore;
use tonic::{Code, Request, Response, Status, async_trait};
use tracing::{field, info};

use super::{
    actions::{self, Action},
    audit::Audit,
    auth::{Caller, Role, Tokens},
    gate::Gate,
    info as server_info, players, stats,
    visits::{Held, Visit},
};
use crate::{server::Shared, status::Refusal, well_formed::WellFormed};

/// Streams of statistics at once.
const STATS_STREAMS_MAX: usize = 16;

/// `tickwire.v1.AdminService`.
#[derive(Debug)]
pub(super) struct Admin {
    shared: Arc<Shared>,
    tokens: Arc<Tokens>,
    audit: Audit,
    stats: Arc<Semaphore>,
}

impl Admin {
    /// The service, behind its gate.
    pub(super) fn service(
        shared: Arc<Shared>,
        tokens: Arc<Tokens>,
        audit: Audit,
        message_bytes_max: usize,
    ) -> Gate<WellFormed<AdminServiceServer<Self>>> {
        let stats = Arc::new(Semaphore::new(STATS_STREAMS_MAX));
        let admin = Self { shared, tokens: Arc::clone(&tokens), audit: audit.clone(), stats };
        let service = AdminServiceServer::new(admin).max_decoding_message_size(message_bytes_max);
        Gate::new(WellFormed(service), tokens, audit)
    }

    /// Who asks, where they may. Attempts at more are written down.
    async fn caller<T>(
        &self,
        request: &Request<T>,
        role: Role,
        what: &'static str,
        arguments: impl FnOnce() -> Json,
    ) -> Result<Caller, Refusal> {
        let caller = request.extensions().get::<Caller>().cloned().expect("the gate lets nobody in without");
        if let Err(refusal) = caller.needs(role) {
            if self.tokens.tells_of_denial() {
                self.audit.deny(caller, what, arguments(), &refusal).await;
            }
            return Err(refusal);
        }
        Ok(caller)
    }

    async fn observer<T>(&self, request: &Request<T>, what: &'static str) -> Result<Caller, Refusal> {
        self.caller(request, Role::Observer, what, || json!({})).await
    }

    /// Does what changes something, whether or not whoever asked waits for it.
    async fn act<M, R, F>(
        &self,
        request: Request<M>,
        act: impl FnOnce(Arc<Shared>, Caller, M) -> F + Send + 'static,
    ) -> Result<Response<R>, Status>
    where
        M: Action + Send + 'static,
        R: Send + 'static,
        F: Future<Output = Result<R, Refusal>> + Send,
    {
        self.act_noting(request, act, |_| None).await
    }

    /// The same, where the audit log is to have what it has come to, too.
    async fn act_noting<M, R, F>(
        &self,
        request: Request<M>,
        act: impl FnOnce(Arc<Shared>, Caller, M) -> F + Send + 'static,
        result_of: fn(&R) -> Option<Json>,
    ) -> Result<Response<R>, Status>
    where
        M: Action + Send + 'static,
        R: Send + 'static,
        F: Future<Output = Result<R, Refusal>> + Send,
    {
        let arguments = request.get_ref().arguments();
        let caller = self.caller(&request, M::ROLE, M::NAME, || arguments.clone()).await?;
        let held = held(&request);
        let (shared, audit, request) = (Arc::clone(&self.shared), self.audit.clone(), request.into_inner());
        let done = tokio::spawn(async move {
            info!(admin = caller.name, from = caller.from.map(field::display), action = M::NAME, %arguments, "an admin acts");
            let action = audit.begin(caller.clone(), M::NAME, arguments).await?;
            let result = act(shared, caller, request).await;
            audit.end(&action, result.as_ref().map(result_of)).await;
            drop(held);
            result
        });
        let result = done.await.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(result?))
    }
}

/// Keeps the connection of somebody with a token where it is.
fn held<T>(request: &Request<T>) -> Option<Held> {
    request.extensions().get::<Arc<Visit>>().map(Visit::hold)
}

#[async_trait]
impl admin_service_server::AdminService for Admin {
    async fn get_server_info(
        &self,
        request: Request<pb::GetServerInfoRequest>,
    ) -> Result<Response<pb::GetServerInfoResponse>, Status> {
        self.observer(&request, "GetServerInfo").await?;
        Ok(Response::new(server_info::server_info(&self.shared, self.tokens.failures())))
    }

    type StreamStatsStream = Pin<Box<dyn Stream<Item = Result<pb::Stats, Status>> + Send>>;

    async fn stream_stats(
        &self,
        request: Request<pb::StreamStatsRequest>,
    ) -> Result<Response<Self::StreamStatsStream>, Status> {
        let caller = self.observer(&request, "StreamStats").await?;
        let interval = stats::interval_of(request.get_ref())?;
        let permit = Arc::clone(&self.stats).try_acquire_owned().map_err(|_| {
            let message = format!("{STATS_STREAMS_MAX} streams of statistics are open, which is the most");
            Refusal::new(Code::ResourceExhausted, "STATS", message)
        })?;
        let tokens = Arc::clone(&self.tokens);
        let places = (permit, held(&request));
        let stream = stats::stream(Arc::clone(&self.shared), interval, places, move || tokens.is_good(&caller));
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_players(
        &self,
        request: Request<pb::ListPlayersRequest>,
    ) -> Result<Response<pb::ListPlayersResponse>, Status> {
        self.observer(&request, "ListPlayers").await?;
        Ok(Response::new(players::list(&self.shared, request.get_ref())?))
    }

    async fn list_bans(&self, request: Request<pb::ListBansRequest>) -> Result<Response<pb::ListBansResponse>, Status> {
        self.observer(&request, "ListBans").await?;
        Ok(Response::new(actions::list_bans(&self.shared, request.get_ref())?))
    }

    async fn kick(&self, request: Request<pb::KickRequest>) -> Result<Response<pb::KickResponse>, Status> {
        self.act(request, actions::kick).await
    }

    async fn ban(&self, request: Request<pb::BanRequest>) -> Result<Response<pb::Ban>, Status> {
        self.act_noting(request, actions::ban, actions::ban_result).await
    }

    async fn unban(&self, request: Request<pb::UnbanRequest>) -> Result<Response<pb::UnbanResponse>, Status> {
        self.act_noting(request, actions::unban, actions::unban_result).await
    }

    async fn mute(&self, request: Request<pb::MuteRequest>) -> Result<Response<pb::MuteResponse>, Status> {
        self.act(request, actions::mute).await
    }

    async fn unmute(&self, request: Request<pb::UnmuteRequest>) -> Result<Response<pb::UnmuteResponse>, Status> {
        self.act(request, actions::unmute).await
    }

    async fn broadcast(
        &self,
        request: Request<pb::BroadcastRequest>,
    ) -> Result<Response<pb::BroadcastResponse>, Status> {
        self.act(request, actions::broadcast).await
    }

    async fn pause(&self, request: Request<pb::PauseRequest>) -> Result<Response<pb::Progress>, Status> {
        self.act(request, actions::pause).await
    }

    async fn resume(&self, request: Request<pb::ResumeRequest>) -> Result<Response<pb::Progress>, Status> {
        self.act(request, actions::resume).await
    }

    async fn step(&self, request: Request<pb::StepRequest>) -> Result<Response<pb::Progress>, Status> {
        self.act(request, actions::step).await
    }

    async fn terminate_session(
        &self,
        request: Request<pb::TerminateSessionRequest>,
    ) -> Result<Response<pb::TerminateSessionResponse>, Status> {
        self.act(request, actions::terminate).await
    }

    async fn drain(&self, request: Request<pb::DrainRequest>) -> Result<Response<pb::DrainResponse>, Status> {
        self.act(request, actions::drain).await
    }

    async fn cancel_drain(
        &self,
        request: Request<pb::CancelDrainRequest>,
    ) -> Result<Response<pb::CancelDrainResponse>, Status> {
        self.act(request, actions::cancel_drain).await
    }

    async fn set_log_filter(
        &self,
        request: Request<pb::SetLogFilterRequest>,
    ) -> Result<Response<pb::SetLogFilterResponse>, Status> {
        self.act(request, actions::set_log_filter).await
    }
}
