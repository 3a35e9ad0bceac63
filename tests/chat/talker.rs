//! A raw chat stream that says whatever a test wants it to.

use tickwire_proto::v1::{self as pb, chat_message::Kind, chat_service_client::ChatServiceClient};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use crate::harness::{RawClient, TestServer, within_patience};

/// A chat stream.
pub(crate) struct Talker {
    up: mpsc::Sender<pb::ChatMessage>,
    down: Streaming<pb::ChatMessage>,
}

/// A player who talks.
pub(crate) struct Guest {
    pub(crate) play: RawClient,
    pub(crate) play_welcome: pb::Welcome,
    pub(crate) talker: Talker,
    pub(crate) chat: pb::ChatWelcome,
}

pub(crate) fn token(welcome: &pb::Welcome) -> Vec<u8> {
    welcome.chat_token.clone()
}

impl Guest {
    pub(crate) async fn join(server: &TestServer, hello: pb::Hello) -> Self {
        let mut play = RawClient::greet(server, hello).await;
        let play_welcome = play.welcome().await;
        let (talker, chat) = Talker::enter(server, token(&play_welcome)).await;
        Self { play, play_welcome, talker, chat }
    }
}

impl Talker {
    /// A stream on which nothing has been said.
    pub(crate) async fn open(channel: Channel) -> Self {
        let (up, messages) = mpsc::channel(4096);
        let mut service = ChatServiceClient::new(channel);
        let chat = service.chat(ReceiverStream::new(messages));
        let down = within_patience(chat).await.expect("headers come at once").into_inner();
        Self { up, down }
    }

    pub(crate) async fn greet(server: &TestServer, hello: pb::ChatHello) -> Self {
        let talker = Self::open(server.channel().await).await;
        talker.send(Kind::Hello(hello)).await;
        talker
    }

    /// A player's stream that has been let in.
    pub(crate) async fn enter(server: &TestServer, chat_token: Vec<u8>) -> (Self, pb::ChatWelcome) {
        let mut talker = Self::greet(server, pb::ChatHello { chat_token, ..pb::ChatHello::default() }).await;
        let welcome = talker.welcome().await;
        (talker, welcome)
    }

    pub(crate) async fn send(&self, kind: Kind) {
        // An error says that the stream has ended; the test reads its status.
        let _ = self.up.send(pb::ChatMessage { kind: Some(kind) }).await;
    }

    pub(crate) async fn say(&self, text: &str) {
        self.say_with(pb::ChatSay { text: text.into(), ..pb::ChatSay::default() }).await;
    }

    pub(crate) async fn say_with(&self, say: pb::ChatSay) {
        self.send(Kind::Say(say)).await;
    }

    /// The next message, or the status that the stream ended with.
    pub(crate) async fn next(&mut self) -> Result<Kind, Status> {
        match within_patience(self.down.message()).await {
            Ok(Some(message)) => Ok(message.kind.expect("the server sends no empty message")),
            Ok(None) => Err(Status::ok("")),
            Err(status) => Err(status),
        }
    }

    pub(crate) async fn welcome(&mut self) -> pb::ChatWelcome {
        match self.next().await {
            Ok(Kind::Welcome(welcome)) => welcome,
            other => panic!("{other:?} instead of a welcome"),
        }
    }

    pub(crate) async fn line(&mut self) -> pb::ChatLine {
        match self.next().await {
            Ok(Kind::Line(line)) => line,
            other => panic!("{other:?} instead of a line"),
        }
    }

    pub(crate) async fn rejected(&mut self) -> pb::ChatRejected {
        match self.next().await {
            Ok(Kind::Rejected(rejected)) => rejected,
            other => panic!("{other:?} instead of a rejection"),
        }
    }

    pub(crate) async fn rejection(&mut self) -> pb::ChatRejection {
        self.rejected().await.reason()
    }

    /// Reads to the end of the stream, which is not the client's: its status.
    pub(crate) async fn end(mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }

    /// Closes the client's side, and reads to the end.
    pub(crate) async fn close(self) -> Status {
        let Self { up, down } = self;
        drop(up);
        let (up, _) = mpsc::channel(1);
        Self { up, down }.end().await
    }
}
