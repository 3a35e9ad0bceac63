//! A scripted server over loopback: each test holds the server's half of its streams.

use std::{net::Ipv4Addr, pin::Pin};

use tickwire_proto::v1::{
    self as pb,
    client_message::Kind as Up,
    game_service_server::{GameService, GameServiceServer},
    server_message::Kind as Down,
};
use tickwire_shared::{InputField, Quantity, Schema, SchemaParts};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming, transport::Server};

pub(crate) const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// The server's half of a stream.
pub(crate) struct Peer {
    pub(crate) up: Streaming<pb::ClientMessage>,
    pub(crate) down: mpsc::Sender<Result<pb::ServerMessage, Status>>,
}

impl Peer {
    pub(crate) async fn send(&self, kind: Down) {
        self.down.send(Ok(pb::ServerMessage { kind: Some(kind) })).await.unwrap();
    }

    pub(crate) async fn receive(&mut self) -> Option<Up> {
        self.up.message().await.ok()?.map(|message| message.kind.unwrap())
    }

    /// The next message that is not a ping, which come when they come.
    pub(crate) async fn receive_news(&mut self) -> Option<Up> {
        loop {
            match self.receive().await {
                Some(Up::Ping(_)) => {}
                other => return other,
            }
        }
    }
}

struct Script {
    peers: mpsc::Sender<Peer>,
    refuse: Option<fn() -> Status>,
}

#[tonic::async_trait]
impl GameService for Script {
    type PlayStream = Pin<Box<dyn Stream<Item = Result<pb::ServerMessage, Status>> + Send>>;

    async fn play(&self, request: Request<Streaming<pb::ClientMessage>>) -> Result<Response<Self::PlayStream>, Status> {
        if let Some(refuse) = self.refuse {
            return Err(refuse());
        }
        let (down, messages) = mpsc::channel(64);
        self.peers.send(Peer { up: request.into_inner(), down }).await.unwrap();
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }

    type WatchStream = Self::PlayStream;

    async fn watch(&self, _: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("players only"))
    }

    async fn send_inputs(&self, _: Request<pb::SendInputsRequest>) -> Result<Response<pb::SendInputsResponse>, Status> {
        Err(Status::unimplemented("players only"))
    }

    async fn acknowledge(
        &self,
        _: Request<pb::AcknowledgeRequest>,
    ) -> Result<Response<pb::AcknowledgeResponse>, Status> {
        Err(Status::unimplemented("players only"))
    }
}

/// The address of a server, and the streams that come to it; or it refuses them all.
pub(crate) async fn serve(refuse: Option<fn() -> Status>) -> (String, mpsc::Receiver<Peer>) {
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (peers, accepted) = mpsc::channel(4);
    let service = GameServiceServer::new(Script { peers, refuse });
    tokio::spawn(async move {
        Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
    });
    (url, accepted)
}

/// Lets player 3 into a game of one input, at tick 100.
pub(crate) fn welcome() -> Down {
    let inputs = vec![InputField::hold("walk", Quantity::count(-9..=9))];
    let schema = Schema::new(SchemaParts { game: "test".into(), inputs, ..SchemaParts::default() }).unwrap();
    Down::Welcome(pb::Welcome {
        player: 3,
        epoch: 1,
        tick: 100,
        tick_rate: 60,
        schema: Some(tickwire_wire::schema::to_proto(&schema)),
        session: "sessions/test-1".into(),
        ..pb::Welcome::default()
    })
}

/// Nothing is in view; tick 101 is the first.
pub(crate) fn snapshot(tick: u64) -> pb::Snapshot {
    pb::Snapshot { epoch: 1, tick, reset: tick == 101, ..pb::Snapshot::default() }
}
