//! A server inside the test's process, and raw clients that say whatever a test wants them to.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

use bytes::{Buf as _, BufMut as _, Bytes};
use tickwire_arena::Arena;
use tickwire_proto::{
    PROTOCOL_VERSION,
    v1::{self as pb, client_message, game_service_client::GameServiceClient, server_message},
};
use tickwire_server::{Probe, Server, ServerConfig, Timeouts, TlsFiles};
use tickwire_shared::Game;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status, Streaming,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

/// The name of the first session of every test server with the arena.
pub(crate) const ARENA_1: &str = "sessions/arena-1";
/// Nothing on one machine takes so long; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server on a port of its own.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) probe: Probe,
    pub(crate) recordings: Vec<PathBuf>,
    /// Whom clients trust, where connections are encrypted.
    trust: Option<Certificate>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

/// A configuration for tests: nothing is recorded, and the server's end does not wait for players.
pub(crate) fn config() -> ServerConfig {
    ServerConfig {
        seed: Some(1),
        network_threads: NonZeroUsize::new(2),
        timeouts: Timeouts { drain: Duration::ZERO, close: PATIENCE, ..Timeouts::default() },
        ..ServerConfig::default()
    }
}

/// The same, of an arena in which players have nothing to walk into, and everybody is in view.
pub(crate) fn open_field() -> ServerConfig {
    ServerConfig { settings: vec![("cover".to_owned(), 0.0), ("size".to_owned(), 600.0)], ..config() }
}

/// The times of [`config`], but that nobody is taken for dead, however long a busy machine takes.
pub(crate) fn patient() -> Timeouts {
    let patience = Duration::from_secs(60);
    Timeouts { silence: patience, unacknowledged: patience, ..config().timeouts }
}

impl TestServer {
    /// Hosts the arena.
    pub(crate) async fn arena(config: ServerConfig) -> Self {
        Self::start(config, vec![Arc::new(Arena)]).await
    }

    pub(crate) async fn start(config: ServerConfig, games: Vec<Arc<dyn Game>>) -> Self {
        let tls = config.tls.clone();
        let server = Server::start(config, games).expect("the configuration is good");
        Self::serve(server).await.trusted(tls.as_ref())
    }

    /// The same, whose clients trust its certificates, where connections are encrypted.
    pub(crate) fn trusted(self, tls: Option<&TlsFiles>) -> Self {
        let trust = tls.map(|files| std::fs::read(&files.certificates).expect("it is there"));
        Self { trust: trust.map(Certificate::from_pem), ..self }
    }

    /// Serves on a port of its own.
    pub(crate) async fn serve(server: Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let probe = server.probe();
        let recordings = server.recordings().collect();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(server.serve(listener, async {
            // A test that fails drops the sender; that is a reason to stop, too.
            let _ = stopped.await;
        }));
        Self { address, probe, recordings, trust: None, stop, served }
    }

    /// A connection of its own.
    pub(crate) async fn channel(&self) -> Channel {
        self.endpoint().connect().await.expect("the server accepts")
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        let endpoint = Endpoint::from_shared(self.url()).expect("an address makes a URL");
        let Some(trust) = &self.trust else { return endpoint };
        let tls = ClientTlsConfig::new().ca_certificate(trust.clone());
        endpoint.tls_config(tls).expect("the certificate is good")
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}", if self.trust.is_some() { "https" } else { "http" }, self.address)
    }

    /// How a service's health is now, and how it changes.
    pub(crate) async fn health(&self, service: &str) -> Health {
        let request = HealthCheckRequest { service: service.into() };
        let mut client = HealthClient::new(self.channel().await);
        Health(within_patience(client.watch(request)).await.expect("it is known").into_inner())
    }

    /// Waits until so many refusals have been counted for this reason of docs/limits.md, also in the metrics.
    pub(crate) async fn counts(&self, reason: &str, times: u64) {
        eventually(reason, || self.probe.refusals().get(reason).is_some_and(|count| *count >= times)).await;
        assert_eq!(self.probe.refusals()[reason], times, "{reason}: {:?}", self.probe.refusals());
        let series = format!("\ntickwire_refusals_total{{reason=\"{reason}\"}} {times}\n");
        assert!(self.probe.metrics().contains(&series), "{series} is missing in the metrics");
    }

    /// Asks the server to end, and waits until it has.
    pub(crate) async fn stop(self) {
        within_patience(self.begin_stop()).await.expect("the server does not panic");
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(self) {
        self.served.await.expect("the server does not panic");
    }

    /// Drops the server while it serves.
    pub(crate) async fn abort(self) {
        self.served.abort();
        within_patience(self.served).await.expect_err("it had not ended by itself");
    }

    /// Asks the server to end.
    pub(crate) fn begin_stop(self) -> JoinHandle<()> {
        // An error says that the server has ended already.
        let _ = self.stop.send(());
        self.served
    }
}

/// What is told of a service's health.
pub(crate) struct Health(Streaming<HealthCheckResponse>);

impl Health {
    pub(crate) async fn next(&mut self) -> ServingStatus {
        within_patience(self.0.message()).await.expect("the stream goes on").expect("it goes on").status()
    }
}

/// A `Play` stream on a connection of its own.
pub(crate) struct RawClient {
    pub(crate) up: mpsc::Sender<pb::ClientMessage>,
    pub(crate) down: Streaming<pb::ServerMessage>,
}

/// A hello that any server takes.
pub(crate) fn hello() -> pb::Hello {
    pb::Hello { protocol_version: PROTOCOL_VERSION, ..pb::Hello::default() }
}

pub(crate) fn input(sequence: u64, target_tick: u64) -> pb::Input {
    pb::Input { sequence, target_tick, ..pb::Input::default() }
}

impl RawClient {
    /// A stream on which nothing has been said.
    pub(crate) async fn open(server: &TestServer) -> Self {
        Self::open_on(server.channel().await).await
    }

    pub(crate) async fn open_on(channel: Channel) -> Self {
        let (up, messages) = mpsc::channel(4096);
        let mut service = GameServiceClient::new(channel);
        let play = service.play(ReceiverStream::new(messages));
        let down = within_patience(play).await.expect("headers come at once").into_inner();
        Self { up, down }
    }

    /// A stream that has said `hello`.
    pub(crate) async fn greet(server: &TestServer, hello: pb::Hello) -> Self {
        let client = Self::open(server).await;
        client.send(client_message::Kind::Hello(hello)).await;
        client
    }

    /// A stream that plays.
    pub(crate) async fn join(server: &TestServer) -> (Self, pb::Welcome) {
        let mut client = Self::greet(server, hello()).await;
        let welcome = client.welcome().await;
        (client, welcome)
    }

    pub(crate) async fn send(&self, kind: client_message::Kind) {
        // An error says that the stream has ended; the test reads its status.
        let _ = self.up.send(pb::ClientMessage { kind: Some(kind) }).await;
    }

    pub(crate) async fn ack(&self, newest_tick: u64) {
        self.send(client_message::Kind::Ack(pb::Ack { epoch: 0, newest_tick })).await;
    }

    /// The next message, or the status that the stream ended with.
    pub(crate) async fn next(&mut self) -> Result<server_message::Kind, Status> {
        match within_patience(self.down.message()).await {
            Ok(Some(message)) => Ok(message.kind.expect("the server sends no empty message")),
            Ok(None) => Err(Status::ok("")),
            Err(status) => Err(status),
        }
    }

    pub(crate) async fn welcome(&mut self) -> pb::Welcome {
        match self.next().await {
            Ok(server_message::Kind::Welcome(welcome)) => welcome,
            other => panic!("{other:?} instead of a welcome"),
        }
    }

    /// The next snapshot; what else comes is passed over.
    pub(crate) async fn snapshot(&mut self) -> pb::Snapshot {
        loop {
            if let server_message::Kind::Snapshot(snapshot) = self.next().await.expect("the stream goes on") {
                return snapshot;
            }
        }
    }

    /// Reads, and acknowledges, until a snapshot is as wanted.
    pub(crate) async fn play_until(&mut self, mut wanted: impl FnMut(&pb::Snapshot) -> bool) -> pb::Snapshot {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::Instant::now() < deadline {
            let snapshot = self.snapshot().await;
            self.ack(snapshot.tick).await;
            if wanted(&snapshot) {
                return snapshot;
            }
        }
        panic!("no snapshot was as wanted within {PATIENCE:?}");
    }

    /// Closes the client's side, and reads to the end: the goodbye, if there was one, and the status.
    pub(crate) async fn close(self) -> (Option<pb::Goodbye>, Status) {
        let Self { up, down } = self;
        drop(up);
        let (up, _) = mpsc::channel(1);
        Self { up, down }.end().await
    }

    /// Reads to the end of the stream: its goodbye, if any, and its status.
    pub(crate) async fn end(&mut self) -> (Option<pb::Goodbye>, Status) {
        let mut goodbye = None;
        loop {
            match self.next().await {
                Ok(server_message::Kind::Goodbye(message)) => goodbye = Some(message),
                Ok(_) => {}
                Err(status) => return (goodbye, status),
            }
        }
    }
}

/// The field that a status blames.
pub(crate) fn field_of(status: &Status) -> String {
    let details = status.get_error_details();
    let violations = details.bad_request().map(|request| request.field_violations.as_slice());
    violations.and_then(<[_]>::first).map(|violation| violation.field.clone()).unwrap_or_default()
}

/// The reason that a status gives to programs.
pub(crate) fn reason_of(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

/// A player who behaves, beside one who does not.
pub(crate) struct Witness {
    client: RawClient,
    sequence: u64,
}

impl Witness {
    pub(crate) async fn join(server: &TestServer) -> Self {
        let (mut client, _) = RawClient::join(server).await;
        let first = client.snapshot().await;
        assert!(first.reset, "a stream starts with a reset");
        client.ack(first.tick).await;
        Self { client, sequence: 0 }
    }

    /// Plays until an input that it sends now has been consumed: the session steps, takes inputs and sends snapshots. The
    /// stream must be what it was: no reset, ticks that rise.
    pub(crate) async fn plays_on(&mut self) {
        let mut last = self.client.snapshot().await;
        self.sequence += 1;
        let sent = self.sequence;
        loop {
            let inputs = pb::Inputs {
                epoch: last.epoch,
                newest_tick: last.tick,
                // Where the machine is so busy that this one is late, one of the next is not.
                inputs: vec![input(self.sequence, last.tick + 10)],
            };
            self.client.send(client_message::Kind::Inputs(inputs)).await;
            self.sequence += 1;
            let next = self.client.snapshot().await;
            assert!(!next.reset, "the witness's stream was reset");
            assert!(next.tick > last.tick, "tick {} after tick {}", next.tick, last.tick);
            if next.consumed_input >= sent {
                self.client.ack(next.tick).await;
                return;
            }
            last = next;
        }
    }
}

impl Witness {
    /// Plays on until `other` is done, and a little longer.
    pub(crate) async fn plays_during<T>(&mut self, other: impl Future<Output = T>) -> T {
        let plays = async {
            loop {
                self.plays_on().await;
            }
        };
        let done = tokio::select! {
            () = plays => unreachable!("it plays on and on"),
            done = other => done,
        };
        self.plays_on().await;
        done
    }
}

/// Waits until something that no message tells of has come true.
pub(crate) async fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_true() {
        assert!(tokio::time::Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits for what must come.
pub(crate) async fn within_patience<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it comes within the test's patience")
}

/// Opens a `Play` stream that sends bytes as they are, one gRPC message each.
pub(crate) async fn play_bytes(channel: Channel, messages: Vec<Bytes>) -> Streaming<Bytes> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.expect("it is connected");
    let (up, down) = mpsc::channel(messages.len().max(1));
    for message in messages {
        up.try_send(message).expect("there is room for all");
    }
    let path = http::uri::PathAndQuery::from_static("/tickwire.v1.GameService/Play");
    // The stream stays open: the server is to end it.
    let open = async move {
        let _up = up;
        std::future::pending::<Bytes>().await
    };
    use tokio_stream::StreamExt as _;
    let messages = ReceiverStream::new(down).merge(futures_util::stream::once(open));
    grpc.streaming(Request::new(messages), path, BytesCodec).await.expect("headers come at once").into_inner()
}

/// Messages as bytes.
pub(crate) struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.put(item);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buf.copy_to_bytes(buf.remaining())))
    }
}

/// A cable between a client and the server.
pub(crate) struct Cable {
    address: SocketAddr,
    pulled: watch::Sender<bool>,
    carrying: JoinHandle<()>,
}

impl Cable {
    pub(crate) async fn to(server: &TestServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (pulled, state) = watch::channel(false);
        let server = server.address;
        let carrying = tokio::spawn(async move {
            let (near, _) = listener.accept().await.expect("a client comes");
            let far = TcpStream::connect(server).await.expect("the server accepts");
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::join!(carry(near_in, far_out, state.clone()), carry(far_in, near_out, state));
        });
        Self { address, pulled, carrying }
    }

    /// Where it is plugged in.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The connection over it.
    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(self.url()).expect("an address makes a URL");
        endpoint.connect().await.expect("the cable connects")
    }

    /// From now on bytes go nowhere, and neither side is told.
    pub(crate) fn pull(&self) {
        self.pulled.send_replace(true);
    }

    /// Closes both sides, with whatever was under way.
    pub(crate) fn cut(self) {
        self.carrying.abort();
    }
}

/// Carries bytes until either side closes, and then does not pass that on; it swallows them once the cable is pulled.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, pulled: watch::Receiver<bool>) {
    use tokio::io::AsyncReadExt as _;
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if !*pulled.borrow() && to.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
    if *pulled.borrow() {
        // Nobody is told of the end.
        std::future::pending::<()>().await;
    }
}
