//! `SessionService`: sessions are listed, created, joined and ended by whoever may.

mod attempts;
mod authorise;
mod callers;
mod catalogue;
mod create;
mod describe;
mod filter;
mod join;
mod lobby;
mod pass;
mod request;
mod watch;

use std::sync::Arc;

use tickwire_proto::v1::{
    CreateSessionRequest, DeleteSessionRequest, DeleteSessionResponse, EndSessionRequest, GetSessionRequest,
    JoinSessionRequest, JoinSessionResponse, ListGamesRequest, ListGamesResponse, ListSessionsRequest,
    ListSessionsResponse, Session, WatchSessionsRequest, session_service_server,
};
use tonic::{Request, Response, Status, async_trait};

use self::authorise::{Action, authorise, recognise};
pub(crate) use self::{
    describe::{describe_recording, state_of},
    lobby::Lobby,
};
use crate::server::Shared;

/// `tickwire.v1.SessionService`.
#[derive(Debug)]
pub(crate) struct Sessions {
    shared: Arc<Shared>,
    lobby: Arc<Lobby>,
}

impl Sessions {
    pub(crate) fn new(shared: Arc<Shared>, lobby: Arc<Lobby>) -> Self {
        Self { shared, lobby }
    }
}

#[async_trait]
impl session_service_server::SessionService for Sessions {
    type WatchSessionsStream = watch::Changes;

    async fn list_games(&self, _request: Request<ListGamesRequest>) -> Result<Response<ListGamesResponse>, Status> {
        Ok(Response::new(self.lobby.list_games()))
    }

    async fn create_session(&self, request: Request<CreateSessionRequest>) -> Result<Response<Session>, Status> {
        let creator = authorise(&self.shared, &request, Action::Create)?.creator;
        Ok(Response::new(self.lobby.create(&self.shared, creator, request.into_inner()).await?))
    }

    async fn get_session(&self, request: Request<GetSessionRequest>) -> Result<Response<Session>, Status> {
        let caller = recognise(&self.shared, &request);
        Ok(Response::new(filter::get(&self.shared, caller.as_ref(), request.get_ref())?))
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        Ok(Response::new(filter::list(&self.shared, request.into_inner())?))
    }

    async fn watch_sessions(&self, request: Request<WatchSessionsRequest>) -> Result<Response<watch::Changes>, Status> {
        Ok(Response::new(watch::watch(&self.shared, request.into_inner())?))
    }

    async fn end_session(&self, request: Request<EndSessionRequest>) -> Result<Response<Session>, Status> {
        let caller = authorise(&self.shared, &request, Action::End)?.creator;
        Ok(Response::new(self.lobby.end(&self.shared, &caller, request.into_inner()).await?))
    }

    async fn delete_session(
        &self,
        request: Request<DeleteSessionRequest>,
    ) -> Result<Response<DeleteSessionResponse>, Status> {
        let caller = authorise(&self.shared, &request, Action::Delete)?.creator;
        self.lobby.delete(&self.shared, &caller, request.get_ref()).await?;
        Ok(Response::new(DeleteSessionResponse {}))
    }

    async fn join_session(
        &self,
        request: Request<JoinSessionRequest>,
    ) -> Result<Response<JoinSessionResponse>, Status> {
        let caller = authorise(&self.shared, &request, Action::Join)?;
        Ok(Response::new(self.lobby.join(&self.shared, caller, request.into_inner()).await?))
    }
}
