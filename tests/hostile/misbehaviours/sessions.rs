//! Sessions made and ended without end, and seats that nobody comes for.

use futures_util::{FutureExt as _, future::BoxFuture};
use tickwire_proto::v1::{
    CreateSessionRequest, DeleteSessionRequest, EndSessionRequest, JoinSessionRequest, NewSession, Session,
    SessionVisibility, join_session_request::Target, session_service_client::SessionServiceClient,
};
use tonic::{Code, Status, transport::Channel};

use super::{Act, Expected, Misbehaviour, Verdict, it, verdict};
use crate::harness::{TestServer, within_patience};

type Client = SessionServiceClient<Channel>;

/// Each with a recording of its own.
const ROUNDS: usize = 5;

pub(super) const SESSIONS: &[Misbehaviour] = &[
    it("makes and ends sessions", Act::Else(makes_and_ends), Expected::PassedOver),
    it("takes all seats and comes to none", Act::Else(reserves_all), Expected::Status(Code::ResourceExhausted, "FULL")),
    it("guesses the codes of sessions", Act::Else(guesses), Expected::Status(Code::ResourceExhausted, "ATTEMPTS")),
];

/// One that nobody finds by chance.
async fn create(client: &mut Client) -> Result<Session, Status> {
    let visibility = SessionVisibility::Unlisted.into();
    let session = Some(NewSession { visibility, max_players: 2, ..NewSession::default() });
    let request = CreateSessionRequest { session, ..CreateSessionRequest::default() };
    within_patience(client.create_session(request)).await.map(tonic::Response::into_inner)
}

async fn reserve(client: &mut Client, target: Target) -> Result<(), Status> {
    let request = JoinSessionRequest { target: Some(target), ..JoinSessionRequest::default() };
    within_patience(client.join_session(request)).await.map(drop)
}

async fn delete(client: &mut Client, name: String) -> Result<(), Status> {
    within_patience(client.delete_session(DeleteSessionRequest { name })).await.map(drop)
}

fn makes_and_ends(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        let mut client = Client::new(server.channel().await);
        let rounds = async {
            for _ in 0..ROUNDS {
                let name = create(&mut client).await?.name;
                reserve(&mut client, Target::Name(name.clone())).await?;
                let request = EndSessionRequest { name: name.clone(), ..EndSessionRequest::default() };
                within_patience(client.end_session(request)).await?;
                delete(&mut client, name).await?;
            }
            Ok(())
        };
        match rounds.await {
            Ok(()) => Verdict::PassedOver,
            Err(status) => verdict(&status),
        }
    }
    .boxed()
}

fn reserves_all(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        let mut client = Client::new(server.channel().await);
        let name = create(&mut client).await.expect("there is room").name;
        let refused = loop {
            if let Err(status) = reserve(&mut client, Target::Name(name.clone())).await {
                break status;
            }
        };
        delete(&mut client, name).await.expect("it is there");
        verdict(&refused)
    }
    .boxed()
}

fn guesses(server: &TestServer) -> BoxFuture<'_, Verdict> {
    async move {
        let mut client = Client::new(server.channel().await);
        loop {
            let refused = reserve(&mut client, Target::JoinCode("0000-00000".into())).await.expect_err("it is wrong");
            if refused.code() != Code::NotFound {
                return verdict(&refused);
            }
        }
    }
    .boxed()
}
