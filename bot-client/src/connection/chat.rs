//! Talk within a session: a stream of its own, on a connection that plays or watches, or on one of its own.

use std::{future::poll_fn, sync::Arc, time::Duration};

use h2::client::SendRequest;
use http::Uri;
use prost::Message as _;
use tickwire_proto::v1::{self as pb, chat_message::Kind};
use tickwire_shared::PlayerId;
use tokio::time::timeout;
use tonic::Status;

use super::{ClientError, ConnectOptions, WELCOME_TIMEOUT, play::PlayStream, server_uri, transport::Wire};
use crate::core::ProtocolError;

const CHAT: &str = "/tickwire.v1.ChatService/Chat";

/// Who talks or listens, as the server knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChatToken {
    /// A player's: [`Core::chat_token`](crate::Core::chat_token).
    Player(Vec<u8>),
    /// A spectator's: [`Spectator::token`](crate::Spectator::token).
    Spectator(Vec<u8>),
}

/// To whom something is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChatTo {
    /// All of the session.
    #[default]
    Everyone,
    /// The player's own team.
    Team,
    /// One player.
    Player(PlayerId),
}

/// What happened, as [`Chat::next`] tells it.
#[derive(Clone, Debug, PartialEq)]
pub enum ChatEvent {
    /// Somebody has said something; the reader too, by whose own number it is told.
    Line(pb::ChatLine),
    /// What the reader has said goes to nobody.
    Rejected(pb::ChatRejected),
    /// So many lines before the next one were dropped: read faster.
    Dropped(u64),
    /// Whom the reader does not hear any more, all of them.
    Mutes(Vec<PlayerId>),
    /// Whether who runs the server lets the reader talk.
    Silence(pb::ChatSilence),
}

/// Somebody who talks and listens. A newer stream of the same player or spectator takes the place of this one, which then ends
/// with `ABORTED`.
#[derive(Debug)]
pub struct Chat {
    stream: PlayStream,
    welcome: pb::ChatWelcome,
}

impl Chat {
    /// Connects to a server, such as `http://127.0.0.1:7777`, to talk and do nothing else: on the connection that plays, it is
    /// [`Client::chat`](crate::Client::chat).
    ///
    /// # Errors
    /// Where the address is none, nobody answers, or the server does not take the token.
    pub async fn connect(url: &str, token: ChatToken) -> Result<Self, ClientError> {
        let uri = server_uri(url)?;
        let (wire, connect) = (Arc::<Wire>::default(), ConnectOptions::default());
        let open = async {
            let (stream, _) = PlayStream::request(url, &uri, &connect, &wire, CHAT).await?;
            Self::greet(stream, token, 0).await
        };
        let opened = timeout(WELCOME_TIMEOUT, open).await;
        opened.map_err(|_| ClientError::Timeout { what: "chat", after: WELCOME_TIMEOUT })?
    }

    /// Opens a stream on a connection that is held open elsewhere.
    pub(super) async fn on(
        requests: &mut SendRequest<bytes::Bytes>,
        uri: &Uri,
        token: ChatToken,
        patience: Duration,
    ) -> Result<Self, ClientError> {
        let stream = PlayStream::further(requests, uri, CHAT)?;
        let opened = timeout(patience, Self::greet(stream, token, 0)).await;
        opened.map_err(|_| ClientError::Timeout { what: "chat", after: patience })?
    }

    async fn greet(mut stream: PlayStream, token: ChatToken, after_id: u64) -> Result<Self, ClientError> {
        let hello = match token {
            ChatToken::Player(chat_token) => pb::ChatHello { chat_token, after_id, ..pb::ChatHello::default() },
            ChatToken::Spectator(stream_token) => pb::ChatHello { stream_token, after_id, ..pb::ChatHello::default() },
        };
        stream.push(&pb::ChatMessage { kind: Some(Kind::Hello(hello)) });
        // It fails where the stream has ended already, as reading will tell.
        let _ = stream.flush(false);
        match read(&mut stream).await?.ok_or(ClientError::Ended)?.kind {
            Some(Kind::Welcome(welcome)) => Ok(Self { stream, welcome }),
            _ => Err(ProtocolError::NotWelcome.into()),
        }
    }

    /// Who the reader is, what was said before, and what the limits are.
    #[must_use]
    pub fn welcome(&self) -> &pb::ChatWelcome {
        &self.welcome
    }

    /// Says something. What becomes of it is told by [`next`](Self::next), with `client_ref`: as a line, or as a rejection.
    pub fn say(&mut self, to: ChatTo, text: impl Into<String>, client_ref: u64) {
        let (channel, to_player) = match to {
            ChatTo::Everyone => (pb::ChatChannel::Everyone, 0),
            ChatTo::Team => (pb::ChatChannel::Team, 0),
            ChatTo::Player(player) => (pb::ChatChannel::Direct, player.0),
        };
        self.send(Kind::Say(pb::ChatSay { channel: channel.into(), to_player, text: text.into(), client_ref }));
    }

    /// Hears nothing of a player any more, for as long as the reader's seat is kept.
    pub fn mute(&mut self, player: PlayerId) {
        self.send(Kind::Mute(pb::ChatMute { player: player.0 }));
    }

    /// Hears them again.
    pub fn unmute(&mut self, player: PlayerId) {
        self.send(Kind::Unmute(pb::ChatUnmute { player: player.0 }));
    }

    /// Says no more: the stream ends behind what is on its way.
    pub fn close(&mut self) {
        // It fails where the stream has ended already, as reading will tell.
        let _ = self.stream.flush(true);
    }

    /// Waits until something happened; `None` once the stream has ended as it should.
    ///
    /// Cancel safe: dropped before it is ready, it has lost nothing.
    ///
    /// # Errors
    /// Where the stream broke, or the server ended it with a status. It is of no more use then.
    pub async fn next(&mut self) -> Result<Option<ChatEvent>, ClientError> {
        loop {
            let Some(message) = read(&mut self.stream).await? else { return Ok(None) };
            return Ok(Some(match message.kind {
                Some(Kind::Line(line)) => ChatEvent::Line(line),
                Some(Kind::Rejected(rejected)) => ChatEvent::Rejected(rejected),
                Some(Kind::Dropped(pb::ChatDropped { lines })) => ChatEvent::Dropped(lines),
                Some(Kind::Mutes(mutes)) => ChatEvent::Mutes(mutes.players.into_iter().map(PlayerId).collect()),
                Some(Kind::Silence(silence)) => ChatEvent::Silence(silence),
                Some(Kind::Welcome(_)) => return Err(ProtocolError::SecondWelcome.into()),
                // Of a newer server; what is unknown is skipped.
                _ => continue,
            }));
        }
    }

    fn send(&mut self, kind: Kind) {
        self.stream.push(&pb::ChatMessage { kind: Some(kind) });
        // It fails where the stream has ended already, as reading will tell.
        let _ = self.stream.flush(false);
    }
}

async fn read(stream: &mut PlayStream) -> Result<Option<pb::ChatMessage>, ClientError> {
    let Some(message) = poll_fn(|cx| stream.poll_message(cx)).await? else { return Ok(None) };
    let undecodable = |error| Status::internal(format!("the server's message cannot be decoded: {error}"));
    Ok(Some(pb::ChatMessage::decode(message).map_err(undecodable)?))
}
