//! Sessions that callers create, find, join and end.

mod creating;
mod ending;
mod finding;
mod joining;
mod recovery;

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc};

use tickwire_proto::v1::{
    self as pb, CreateSessionRequest, DeleteSessionRequest, EndSessionRequest, GetSessionRequest, JoinSessionRequest,
    NewSession, Session, join_session_request::Target, session_service_client::SessionServiceClient,
};
use tickwire_server::ServerConfig;
use tonic::{Code, Status, transport::Channel};

use crate::{
    harness::{TestServer, config, field_of, hello, reason_of, within_patience},
    tiny_game::Beads,
};

type Client = SessionServiceClient<Channel>;

/// A server that starts without sessions.
fn empty() -> ServerConfig {
    ServerConfig { sessions: 0, ..config() }
}

async fn beads(config: ServerConfig) -> (TestServer, Client) {
    let server = TestServer::start(config, vec![Arc::new(Beads)]).await;
    let client = SessionServiceClient::new(server.channel().await);
    (server, client)
}

fn request(id: &str, session: NewSession) -> CreateSessionRequest {
    CreateSessionRequest { session_id: id.into(), session: Some(session), request_id: String::new() }
}

async fn create(client: &mut Client, id: &str, session: NewSession) -> Session {
    within_patience(client.create_session(request(id, session))).await.expect("it is created").into_inner()
}

fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

async fn get(client: &mut Client, name: &str) -> Result<Session, Status> {
    within_patience(client.get_session(GetSessionRequest { name: name.into() })).await.map(tonic::Response::into_inner)
}

async fn end(client: &mut Client, name: &str, result_json: &str) -> Result<Session, Status> {
    let request = EndSessionRequest { name: name.into(), result_json: result_json.into() };
    within_patience(client.end_session(request)).await.map(tonic::Response::into_inner)
}

async fn delete(client: &mut Client, name: &str) -> Result<(), Status> {
    within_patience(client.delete_session(DeleteSessionRequest { name: name.into() })).await.map(drop)
}

async fn join(client: &mut Client, target: Target, request_id: &str) -> Result<(String, String), Status> {
    let request =
        JoinSessionRequest { target: Some(target), request_id: request_id.into(), ..JoinSessionRequest::default() };
    let answer = within_patience(client.join_session(request)).await?.into_inner();
    let session = answer.session.expect("it says where");
    assert!(answer.expire_time.is_some());
    Ok((session.name, answer.ticket))
}

fn to(session: &str) -> pb::Hello {
    pb::Hello { session: session.into(), ..hello() }
}

fn with(ticket: &str) -> pb::Hello {
    pb::Hello { ticket: ticket.into(), ..hello() }
}

fn assert_refused(status: &Status, code: Code, reason: &str, field: &str) {
    assert_eq!((status.code(), &*reason_of(status), &*field_of(status)), (code, reason, field), "{status:?}");
}

fn seats(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).expect("not 0")
}
