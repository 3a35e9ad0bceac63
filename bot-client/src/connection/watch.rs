//! A spectator's connection: a mirror of what the server shows, live or of the past.

use std::{future::poll_fn, sync::Arc};

use bytes::Bytes;
use h2::client::SendRequest;
use http::Uri;
use prost::Message;
use tickwire_proto::v1::{self as pb, client_message, server_message::Kind, watch_control::Action};
use tickwire_shared::{PlayerId, Tick, TickRate};
use tickwire_wire::{Applied, Mirror, MirrorError};
use tokio::time::timeout;

use super::{Chat, ChatToken, ClientError, ConnectOptions, decode, play::PlayStream, server_uri, transport::Wire};
use crate::core::{JoinOptions, ProtocolError};

const WATCH: &str = "/tickwire.v1.GameService/Watch";
const SEND_INPUTS: &str = "/tickwire.v1.GameService/SendInputs";
const ACKNOWLEDGE: &str = "/tickwire.v1.GameService/Acknowledge";

/// What a spectator asks for. All of it may stay as it is by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WatchOptions {
    /// Session, game, schema and wishes; what is of players alone is left out.
    pub join: JoinOptions,
    /// Around whose entity to look; `None`: at all cells, as far as the bytes reach.
    pub follow: Option<PlayerId>,
    /// Where to start; 0: live, or where the server's replay starts.
    pub from: Tick,
    /// How fast the past goes by, 0.1 to 64; 0: as the server likes.
    pub speed: f64,
    /// How to connect.
    pub connect: ConnectOptions,
}

/// What happened, as [`Spectator::next`] tells it.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent {
    /// A snapshot was applied to the mirror, or ignored while it waits for a reset.
    Snapshot(Applied),
    /// Where the stream stands has changed: [`Spectator::state`]. After a jump in time the mirror is empty.
    State,
    /// A snapshot did not fit the mirror; a reset is asked for.
    Desync(MirrorError),
    /// What the server tells all.
    Notice(pb::Notice),
    /// The server's last message.
    Goodbye(pb::Goodbye),
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchStats {
    /// Snapshots that came.
    pub snapshots: u64,
    /// Hashes of cells that were compared.
    pub hash_checks: u64,
    /// Snapshots that did not fit.
    pub desyncs: u64,
    /// Jumps in time.
    pub jumps: u64,
}

/// Somebody who watches, connected. Call [`next`](Self::next) in a loop: it reads, and acknowledges what came.
#[derive(Debug)]
pub struct Spectator {
    uri: Uri,
    stream: PlayStream,
    requests: SendRequest<Bytes>,
    /// Acknowledgements and resyncs whose answer has not come.
    calls: Vec<PlayStream>,
    token: Vec<u8>,
    epoch: u32,
    rate: TickRate,
    mirror: Mirror,
    state: pb::WatchState,
    stats: WatchStats,
}

impl Spectator {
    /// Connects to a server, such as `http://127.0.0.1:7777`, and watches.
    ///
    /// # Errors
    /// Where the address is none, nobody answers, or the server does not let the spectator in.
    pub async fn connect(url: &str, options: &WatchOptions) -> Result<Self, ClientError> {
        let uri = server_uri(url)?;
        let Some(client_message::Kind::Hello(hello)) = options.join.hello().kind else {
            unreachable!("a stream's first message is a hello")
        };
        let request = pb::WatchRequest {
            hello: Some(pb::Hello { snapshot_copies: 0, resume_token: Vec::new(), ..hello }),
            follow_player: options.follow.map_or(0, |player| player.0),
            from_tick: options.from.0,
            speed: options.speed,
        };
        let wire = Arc::<Wire>::default();
        let greet = async {
            let (mut stream, requests) = PlayStream::request(url, &uri, &options.connect, &wire, WATCH).await?;
            stream.push(&request);
            stream.flush(true).map_err(|error| ClientError::Lost { reason: error.to_string() })?;
            let first = poll_fn(|cx| stream.poll_message(cx)).await?.ok_or(ClientError::Ended)?;
            Ok::<_, ClientError>((stream, requests, decode(&first)?))
        };
        let patience = options.connect.welcome_timeout;
        let greeted = timeout(patience, greet).await;
        let (stream, requests, first) =
            greeted.map_err(|_| ClientError::Timeout { what: "watch", after: patience })??;
        let Some(Kind::Welcome(welcome)) = first.kind else { return Err(ProtocolError::NotWelcome.into()) };
        let schema = welcome.schema.as_ref().ok_or(ProtocolError::NoSchema)?;
        let schema = tickwire_wire::schema::from_proto(schema).map_err(ProtocolError::from)?;
        Ok(Self {
            uri,
            stream,
            requests,
            calls: Vec::new(),
            token: welcome.stream_token,
            epoch: welcome.epoch,
            rate: TickRate::new(welcome.tick_rate).map_err(ProtocolError::from)?,
            mirror: Mirror::new(Arc::new(schema)),
            state: pb::WatchState::default(),
            stats: WatchStats::default(),
        })
    }

    /// Reads and acknowledges until something happened; `None` once the stream has ended as it should.
    ///
    /// # Errors
    /// Where the stream broke or the server ended it with a status. The spectator is of no more use then.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, ClientError> {
        loop {
            let Self { stream, calls, .. } = self;
            let message = poll_fn(|cx| {
                // What is wrong with one of them is wrong with the stream, too, and is told there.
                calls.retain_mut(|call| matches!(call.poll_message(cx), std::task::Poll::Pending));
                stream.poll_message(cx)
            });
            let Some(message) = message.await? else { return Ok(None) };
            match decode(&message)?.kind {
                Some(Kind::Snapshot(snapshot)) => return self.apply(&snapshot).map(Some),
                Some(Kind::WatchState(state)) => {
                    if state.jumps != self.state.jumps {
                        self.stats.jumps += 1;
                        self.mirror = Mirror::new(Arc::clone(self.mirror.schema()));
                    }
                    self.state = state;
                    return Ok(Some(WatchEvent::State));
                }
                Some(Kind::Notice(notice)) => return Ok(Some(WatchEvent::Notice(notice))),
                Some(Kind::Goodbye(goodbye)) => return Ok(Some(WatchEvent::Goodbye(goodbye))),
                Some(Kind::Welcome(_)) => return Err(ProtocolError::SecondWelcome.into()),
                Some(Kind::Pong(_)) | None => {}
            }
        }
    }

    /// Goes elsewhere in time, or looks elsewhere. What comes of it is told by [`WatchEvent::State`].
    ///
    /// # Errors
    /// Where the server does not take it, and says why.
    pub async fn steer(&mut self, action: Action) -> Result<(), ClientError> {
        let control = pb::WatchControl { action: Some(action) };
        let mut call = self.say(client_message::Kind::WatchControl(control))?;
        poll_fn(|cx| call.poll_message(cx)).await.map(drop)
    }

    /// Opens a stream to listen by, on the same connection: spectators hear what is said to everyone.
    ///
    /// # Errors
    /// Where the connection is lost, or spectators hear nothing there.
    pub async fn chat(&mut self) -> Result<Chat, ClientError> {
        let token = ChatToken::Spectator(self.token.clone());
        Chat::on(&mut self.requests, &self.uri, token, super::WELCOME_TIMEOUT).await
    }

    /// Names the stream: for [`Chat::connect`].
    #[must_use]
    pub fn token(&self) -> &[u8] {
        &self.token
    }

    /// Where the stream stands.
    #[must_use]
    pub fn state(&self) -> &pb::WatchState {
        &self.state
    }

    /// What the spectator holds of the session. There is no own entity in it.
    #[must_use]
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// Ticks per second, at speed 1.
    #[must_use]
    pub fn tick_rate(&self) -> TickRate {
        self.rate
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> &WatchStats {
        &self.stats
    }

    fn apply(&mut self, snapshot: &pb::Snapshot) -> Result<WatchEvent, ClientError> {
        if snapshot.tick > Tick::MAX.0 {
            return Err(ProtocolError::Tick { field: "snapshot.tick", tick: snapshot.tick }.into());
        }
        self.stats.snapshots += 1;
        self.epoch = snapshot.epoch;
        let acknowledge = pb::AcknowledgeRequest {
            stream_token: self.token.clone(),
            epoch: self.epoch,
            newest_tick: snapshot.tick,
            jumps: self.state.jumps,
        };
        self.call(ACKNOWLEDGE, &acknowledge);
        Ok(match self.mirror.apply(0, snapshot) {
            Ok(applied) => {
                self.stats.hash_checks += u64::from(applied.hash_checks);
                WatchEvent::Snapshot(applied)
            }
            Err(error) => {
                self.stats.desyncs += 1;
                let reason = error.resync_reason().into();
                if let Ok(call) = self.say(client_message::Kind::Resync(pb::Resync { reason })) {
                    self.calls.push(call);
                }
                WatchEvent::Desync(error)
            }
        })
    }

    fn say(&mut self, kind: client_message::Kind) -> Result<PlayStream, ClientError> {
        let messages = vec![pb::ClientMessage { kind: Some(kind) }];
        let request = pb::SendInputsRequest { stream_token: self.token.clone(), messages, jumps: self.state.jumps };
        PlayStream::call(&mut self.requests, &self.uri, SEND_INPUTS, &request)
    }

    /// Calls without waiting. Where that fails the connection is lost, as reading will tell.
    fn call(&mut self, method: &'static str, request: &impl Message) {
        if let Ok(call) = PlayStream::call(&mut self.requests, &self.uri, method, request) {
            self.calls.push(call);
        }
    }
}
