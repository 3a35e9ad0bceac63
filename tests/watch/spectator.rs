//! A spectator who checks all that comes, on an ordinary gRPC client.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use tickwire_proto::v1::{
    self as pb, client_message, game_service_client::GameServiceClient,
    recording_service_client::RecordingServiceClient, server_message::Kind, watch_control::Action,
};
use tickwire_recording::{Recording, Replay};
use tickwire_shared::{CellId, CellState, Frame, Game, Tick};
use tickwire_wire::{Mirror, schema};
use tonic::{Status, Streaming, transport::Channel};

use crate::harness::{TestServer, hello, reason_of, within_patience};

/// A spectator's stream, with what it has brought.
pub(crate) struct Spectator {
    service: GameServiceClient<Channel>,
    down: Streaming<pb::ServerMessage>,
    pub(crate) welcome: pb::Welcome,
    /// The newest.
    pub(crate) state: pb::WatchState,
    pub(crate) mirror: Mirror,
    pub(crate) hash_checks: u64,
    /// The ticks of snapshots since the last jump.
    pub(crate) ticks: Vec<u64>,
    /// Whether what comes is acknowledged.
    pub(crate) acknowledges: bool,
    /// Each cell as it was held, by tick.
    pub(crate) held: BTreeMap<(Tick, CellId), CellState>,
}

/// What came.
pub(crate) enum Came {
    State,
    Snapshot(pb::Snapshot),
    Other(Kind),
}

pub(crate) fn watch_request() -> pb::WatchRequest {
    pb::WatchRequest { hello: Some(hello()), ..pb::WatchRequest::default() }
}

impl Spectator {
    pub(crate) async fn watch(server: &TestServer, request: pb::WatchRequest) -> Result<Self, Status> {
        let channel = server.channel().await;
        let down = within_patience(GameServiceClient::new(channel.clone()).watch(request)).await?.into_inner();
        Self::open(channel, down).await
    }

    pub(crate) async fn replay(server: &TestServer, request: pb::ReplayRequest) -> Result<Self, Status> {
        let channel = server.channel().await;
        let down = within_patience(RecordingServiceClient::new(channel.clone()).replay(request)).await?.into_inner();
        Self::open(channel, down).await
    }

    async fn open(channel: Channel, mut down: Streaming<pb::ServerMessage>) -> Result<Self, Status> {
        let first = within_patience(down.message()).await?.and_then(|message| message.kind);
        let Some(Kind::Welcome(welcome)) = first else { panic!("{first:?} instead of a welcome") };
        assert_eq!(welcome.player, 0, "a spectator is nobody");
        let schema = schema::from_proto(welcome.schema.as_ref().expect("it comes with it")).expect("it is sound");
        Ok(Self {
            service: GameServiceClient::new(channel),
            down,
            welcome,
            state: pb::WatchState::default(),
            mirror: Mirror::new(Arc::new(schema)),
            hash_checks: 0,
            ticks: Vec::new(),
            acknowledges: true,
            held: BTreeMap::new(),
        })
    }

    /// The next message, or the status that the stream ended with.
    pub(crate) async fn next(&mut self) -> Result<Came, Status> {
        let message = within_patience(self.down.message()).await?.ok_or_else(|| Status::ok(""))?;
        match message.kind.expect("the server sends no empty message") {
            Kind::WatchState(state) => {
                if state.jumps != self.state.jumps {
                    assert_eq!(state.jumps, self.state.jumps + 1, "jumps are told one by one");
                    self.mirror = Mirror::new(Arc::clone(self.mirror.schema()));
                    self.ticks.clear();
                }
                self.state = state;
                Ok(Came::State)
            }
            Kind::Snapshot(snapshot) => {
                self.apply(&snapshot);
                if self.acknowledges {
                    // Where the stream has ended meanwhile, reading on tells how.
                    if let Err(status) = self.acknowledge(snapshot.tick).await {
                        assert_eq!(reason_of(&status), "UNKNOWN_TOKEN");
                    }
                }
                Ok(Came::Snapshot(snapshot))
            }
            other => Ok(Came::Other(other)),
        }
    }

    fn apply(&mut self, snapshot: &pb::Snapshot) {
        let before = self.ticks.last().copied().unwrap_or(0);
        assert!(snapshot.tick > before, "tick {} after {before}", snapshot.tick);
        assert!(snapshot.reset || !self.ticks.is_empty(), "after a jump comes a reset");
        assert!(snapshot.owner.is_none(), "a spectator owns nothing");
        let applied = self.mirror.apply(0, snapshot).expect("it fits, and its hashes are right");
        self.hash_checks += u64::from(applied.hash_checks);
        self.ticks.push(snapshot.tick);
        for cell in self.mirror.cells(0) {
            let (tick, state) = self.mirror.cell_state(0, cell).expect("it is listed");
            self.held.entry((tick, cell)).or_insert(state);
        }
    }

    /// Reads until what is held is as wanted.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Self) -> bool) {
        while !wanted(self) {
            if let Err(status) = self.next().await {
                panic!("the stream has ended before: {status:?}");
            }
        }
    }

    /// Reads so many more snapshots.
    pub(crate) async fn snapshots(&mut self, mut count: usize) {
        while count > 0 {
            count -= usize::from(matches!(self.next().await.expect("the stream goes on"), Came::Snapshot(_)));
        }
    }

    /// Reads to the end: the goodbye, if any, and the status.
    pub(crate) async fn end(&mut self) -> (Option<pb::Goodbye>, Status) {
        let mut goodbye = None;
        loop {
            match self.next().await {
                Ok(Came::Other(Kind::Goodbye(message))) => goodbye = Some(message),
                Ok(_) => {}
                Err(status) => return (goodbye, status),
            }
        }
    }

    pub(crate) async fn acknowledge(&self, newest_tick: u64) -> Result<(), Status> {
        self.acknowledge_of(self.state.jumps, newest_tick).await
    }

    pub(crate) async fn acknowledge_of(&self, jumps: u32, newest_tick: u64) -> Result<(), Status> {
        let epoch = self.welcome.epoch;
        let stream_token = self.welcome.stream_token.clone();
        let request = pb::AcknowledgeRequest { stream_token, epoch, newest_tick, jumps };
        within_patience(self.service.clone().acknowledge(request)).await.map(drop)
    }

    pub(crate) async fn say(&self, kind: client_message::Kind) -> Result<(), Status> {
        let messages = vec![pb::ClientMessage { kind: Some(kind) }];
        let stream_token = self.welcome.stream_token.clone();
        let request = pb::SendInputsRequest { stream_token, messages, jumps: self.state.jumps };
        within_patience(self.service.clone().send_inputs(request)).await.map(drop)
    }

    pub(crate) async fn steer(&self, action: Action) -> Result<(), Status> {
        let control = pb::WatchControl { action: Some(action) };
        self.say(client_message::Kind::WatchControl(control)).await
    }

    /// Steers, and reads until the state is as wanted.
    pub(crate) async fn steer_until(&mut self, action: Action, wanted: impl Fn(&pb::WatchState) -> bool) {
        self.steer(action).await.expect("it is taken");
        self.until(|spectator| wanted(&spectator.state)).await;
    }

    /// Checks all cells that were ever held against the frames that a recording replays to.
    pub(crate) fn check(&self, path: &Path, game: Arc<dyn Game>) {
        let frames = frames(path, game);
        for ((tick, cell), state) in &self.held {
            // A segment behind the first one begins with its keyframe's.
            let frame = &frames[tick.since(frames[0].tick) as usize];
            assert_eq!(
                state,
                frame.cell(*cell).expect("it is in the frame").state.as_ref(),
                "cell {cell} at tick {tick}"
            );
        }
    }
}

/// The frames of a recording, by tick.
fn frames(path: &Path, game: Arc<dyn Game>) -> Vec<Arc<Frame>> {
    let recording = Recording::open(path).expect("it opens");
    let replay = Replay::new(&recording, game).expect("it is of this game");
    let mut frames = vec![Arc::clone(replay.session().frame())];
    frames.extend(replay.map(|tick| tick.expect("it is whole").outcome.expect("it goes well").frame));
    frames
}
