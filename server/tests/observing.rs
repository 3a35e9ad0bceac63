//! A server as a process, for who looks at it from outside: metrics, log lines and traces.

#![cfg(unix)]

#[allow(dead_code, reason = "each binary needs its part of it")]
mod program;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use tickwire_client::{Client, JoinOptions, Spectator, WatchOptions};
use tickwire_proto::{
    PROTOCOL_VERSION,
    v1::{ClientMessage, Hello, Leave, client_message::Kind, game_service_client::GameServiceClient},
};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Identity, ServerTlsConfig},
};

use self::program::{command, data, end};

/// Nothing on one machine takes so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that runs.
struct Running {
    child: Child,
    /// That it has printed: the first is its own.
    urls: Vec<String>,
}

impl Running {
    fn start(data: &Path, arguments: &[&str]) -> Self {
        Self::start_with(data, Stdio::null(), arguments)
    }

    fn start_with(data: &Path, stderr: Stdio, arguments: &[&str]) -> Self {
        Self::start_in(&[], data, stderr, arguments)
    }

    /// With these variables in its environment.
    fn start_in(variables: &[(&str, &Path)], data: &Path, stderr: Stdio, arguments: &[&str]) -> Self {
        let mut command = command();
        command.envs(variables.iter().copied());
        command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(data).args(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().expect("the binary runs");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let lines = lines.map(|line| line.expect("UTF-8")).take_while(|line| !line.contains("Ctrl-C"));
        let urls = lines.filter_map(|line| Some(line.split(' ').find(|word| word.starts_with("http://"))?.to_owned()));
        Self { child, urls: urls.collect() }
    }

    /// Joins as a player, and leaves.
    async fn play(&self) {
        let channel =
            Channel::from_shared(self.urls[0].clone()).expect("an address").connect().await.expect("it listens");
        let (up, messages) = mpsc::channel(4);
        let stream = GameServiceClient::new(channel).play(ReceiverStream::new(messages)).await;
        let mut down = stream.expect("it takes streams").into_inner();
        let hello = Kind::Hello(Hello { protocol_version: PROTOCOL_VERSION, ..Hello::default() });
        up.send(ClientMessage { kind: Some(hello) }).await.expect("it is open");
        down.message().await.expect("a seat is free").expect("a welcome");
        up.send(ClientMessage { kind: Some(Kind::Leave(Leave {})) }).await.expect("it is open");
        while down.message().await.expect("it ends as it should").is_some() {}
    }

    fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it is a child");
    }

    fn end(mut self) {
        end(&mut self.child);
    }
}

/// The answer to a request of HTTP/1.1: its status, and its body.
fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers in text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head, and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}

fn admin_address(data: &Path) -> SocketAddr {
    let address = fs::read_to_string(data.join("admin.address")).expect("the server says where");
    address.trim().trim_start_matches("http://").parse().expect("an address")
}

/// A port that nobody listens on, most likely.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port is free")
}

#[tokio::test]
async fn metrics_and_probes_are_answered_by_plain_http_on_both_listeners() {
    let data = data();
    let server = Running::start(data.path(), &["--metrics-listen", "127.0.0.1:0"]);
    server.play().await;
    let address = server.urls.iter().find_map(|url| url.strip_prefix("http://")?.strip_suffix("/metrics"));
    let address = address.and_then(|address| address.parse().ok()).expect("it says where");
    for address in [address, admin_address(data.path())] {
        assert_eq!(get(address, "/healthz"), (200, "ok\n".to_owned()));
        assert_eq!(get(address, "/readyz"), (200, "ready\n".to_owned()));
        assert_eq!(get(address, "/nothing").0, 404);
        let (status, metrics) = get(address, "/metrics");
        assert_eq!(status, 200);
        assert!(metrics.contains("\ntickwire_joins_total{how=\"join\",outcome=\"OK\"} 1\n"), "{metrics}");
    }
    server.end();
}

#[tokio::test]
async fn log_lines_of_a_stream_name_connection_session_and_player() {
    let data = data();
    let mut server = Running::start_with(data.path(), Stdio::piped(), &["--log-format", "json"]);
    server.play().await;
    let log = BufReader::new(server.child.stderr.take().expect("it is piped"));
    let mut lines = log.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(&line.expect("UTF-8")).expect("JSON");
        line
    });
    let joined = lines.find(|line| line["fields"]["message"] == "joined").expect("it is logged");
    assert_eq!(joined["spans"][0], serde_json::json!({ "name": "connection", "connection": 1 }), "{joined}");
    assert!(joined["fields"]["from"].as_str().is_some_and(|from| from.starts_with("127.0.0.1:")), "{joined}");
    let parted = lines.find(|line| line["fields"]["message"] == "parted").expect("it is logged");
    let spans = serde_json::json!([
        { "name": "connection", "connection": 1 },
        { "name": "play", "session": "sessions/arena-1", "player": 1 },
    ]);
    assert_eq!(parted["spans"], spans, "{parted}");
    assert_eq!(joined["fields"]["player"], 1, "{joined}");
    server.end();
    // What is a number is one in JSON, too, with its unit in the name; and an address is one.
    let ended = lines.find(|line| line["fields"]["message"] == "session ended").expect("it is logged");
    assert!(ended["fields"]["ticks"].as_u64().is_some_and(|ticks| ticks > 0), "{ended}");
}

#[tokio::test]
async fn log_lines_of_watch_and_chat_name_theirs_too_in_either_format() {
    for format in ["json", "text"] {
        let data = data();
        let arguments = ["--log-format", format, "--log", "warn,tickwire_server=debug"];
        let mut server = Running::start_with(data.path(), Stdio::piped(), &arguments);
        let url = &server.urls[0];
        let mut player = Client::connect(url, &JoinOptions::default()).await.expect("a seat is free");
        let mut chat = player.chat().await.expect("there is a room");
        let spectator = Spectator::connect(url, &WatchOptions::default()).await.expect("there is room");
        player.leave().await.expect("it is open");
        while let Ok(Some(_)) = timeout(PATIENCE, chat.next()).await.expect("who has left talks no more") {}
        let log = BufReader::new(server.child.stderr.take().expect("it is piped"));
        let wanted = [
            ("joined", 1, "play", &[][..]),
            ("a chat stream is let in", 1, "chat", &[("session", "sessions/arena-1"), ("player", "1")]),
            ("a spectator has come", 2, "watch", &[("session", "sessions/arena-1")]),
            ("parted", 1, "play", &[("session", "sessions/arena-1"), ("player", "1")]),
            ("a chat stream ends", 1, "chat", &[("session", "sessions/arena-1"), ("player", "1")]),
        ];
        let mut left: Vec<_> = wanted.to_vec();
        for line in log.lines().map(|line| line.expect("UTF-8")) {
            let Some(place) = left.iter().position(|(message, ..)| line.contains(message)) else { continue };
            let (message, connection, span, fields) = left.remove(place);
            if format == "json" {
                let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
                let spans = &line["spans"];
                assert_eq!((&spans[0]["connection"], &spans[1]["name"]), (&connection.into(), &span.into()), "{line}");
                let is = |name: &str, value: &str| match value.parse::<u64>() {
                    Ok(number) => spans[1][name] == number,
                    Err(_) => spans[1][name] == value,
                };
                assert!(fields.iter().all(|(name, value)| is(name, value)), "{line}");
            } else {
                let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let fields = if fields.is_empty() { String::new() } else { format!("{{{}}}", fields.join(" ")) };
                let spans = format!("connection{{connection={connection}}}:{span}{fields}:");
                assert!(line.contains(&spans), "{message}: {spans} is missing in {line}");
            }
            if left.is_empty() {
                break;
            }
        }
        assert!(left.is_empty(), "no lines of {left:?}");
        drop(spectator);
        server.end();
    }
}

/// A collector, which hands on what it gets.
struct Collector(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        // The test may have seen enough.
        let _ = self.0.send(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// What a collector has got.
struct Collected {
    url: String,
    requests: mpsc::UnboundedReceiver<ExportTraceServiceRequest>,
    spans: Vec<Span>,
}

impl Collected {
    async fn start() -> Self {
        Self::start_with("http", tonic::transport::Server::builder()).await
    }

    async fn start_with(scheme: &str, mut server: tonic::transport::Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("{scheme}://{}", listener.local_addr().expect("it is bound"));
        let (tell, requests) = mpsc::unbounded_channel();
        let service = TraceServiceServer::new(Collector(tell));
        tokio::spawn(server.add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
        Self { url, requests, spans: Vec::new() }
    }

    /// Waits for a span.
    async fn find(&mut self, name: &str) -> Span {
        loop {
            if let Some(span) = self.spans.iter().find(|span| span.name == name) {
                return span.clone();
            }
            let next = timeout(PATIENCE, self.requests.recv()).await.unwrap_or_else(|_| panic!("no span {name}"));
            for of in next.expect("the collector goes on").resource_spans {
                let resource = of.resource.expect("it says whose");
                assert_eq!(attribute(&resource.attributes, "service.name"), "tickwire-server");
                self.spans.extend(of.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
        }
    }
}

fn attribute(attributes: &[KeyValue], key: &str) -> String {
    let of = attributes.iter().find(|attribute| attribute.key == key);
    match of.and_then(|of| of.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{key} is {other:?} among {attributes:?}"),
    }
}

// The collector answers while the test waits for the server's end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_of_connections_streams_and_sessions_reach_a_collector() {
    let (data, mut collected) = (data(), Collected::start().await);
    let otlp = collected.url.clone();
    let server = Running::start(data.path(), &["--otlp", &otlp]);
    let create = collected.find("create").await;
    assert_eq!(attribute(&create.attributes, "session"), "sessions/arena-1");
    server.play().await;
    let [connection, play, join] =
        [collected.find("connection").await, collected.find("play").await, collected.find("join").await];
    assert_eq!((&play.parent_span_id, &join.parent_span_id), (&connection.span_id, &play.span_id));
    assert_eq!(attribute(&connection.attributes, "connection"), "1");
    assert_eq!(attribute(&play.attributes, "session"), "sessions/arena-1");
    assert_eq!(attribute(&play.attributes, "player"), "1");
    assert!(
        play.start_time_unix_nano <= join.start_time_unix_nano && join.end_time_unix_nano <= play.end_time_unix_nano
    );
    assert_eq!(join.events.iter().map(|event| event.name.as_str()).collect::<Vec<_>>(), ["joined"]);
    server.kill();

    // The next one goes on with the session, and what ends with it is sent at its end.
    let server = Running::start(data.path(), &["--otlp", &otlp]);
    let recovery = collected.find("recovery").await;
    assert_eq!(attribute(&recovery.attributes, "session"), "sessions/arena-1");
    server.end();
    let session = collected.find("session").await;
    assert_eq!(attribute(&session.attributes, "session"), "sessions/arena-1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_are_encrypted_for_a_collector_whose_certificate_is_trusted_and_go_to_no_other() {
    let data = data();
    let [own, other] =
        [(); 2].map(|()| rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("the name is good"));
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(own.cert.pem(), own.signing_key.serialize_pem()));
    let server = tonic::transport::Server::builder().tls_config(tls).expect("they belong together");
    let mut collected = Collected::start_with("https", server).await;
    let [own, other] = [("own.pem", own), ("other.pem", other)].map(|(name, of)| {
        let path = data.path().join(name);
        fs::write(&path, of.cert.pem()).expect("a disk");
        path
    });
    let arguments = ["--otlp", &collected.url.clone()];
    // The system trusts another one.
    let system: &[(&str, &Path)] = &[("SSL_CERT_FILE", &other)];
    let mut server = Running::start_in(system, data.path(), Stdio::piped(), &arguments);
    let mut log = BufReader::new(server.child.stderr.take().expect("it is piped")).lines();
    let told = log.find(|line| line.as_ref().is_ok_and(|line| line.contains("does not take traces")));
    assert!(told.is_some(), "it is told of");
    server.end();
    assert!(collected.requests.try_recv().is_err(), "nothing has come");

    let told: &[(&str, &Path)] = &[("OTEL_EXPORTER_OTLP_CERTIFICATE", &own), ("SSL_CERT_FILE", &other)];
    let server = Running::start_in(told, data.path(), Stdio::null(), &arguments);
    collected.find("create").await;
    server.end();
}

#[tokio::test]
async fn a_collector_that_is_away_costs_nothing_and_is_told_of() {
    let data = data();
    let arguments = ["--otlp", &format!("http://{}", free_address()), "--log-format", "json"];
    let mut server = Running::start_with(data.path(), Stdio::piped(), &arguments);
    server.play().await;
    let log = BufReader::new(server.child.stderr.take().expect("it is piped"));
    let told = log.lines().find(|line| line.as_ref().is_ok_and(|line| line.contains("does not take traces")));
    let told: serde_json::Value = serde_json::from_str(&told.expect("it is told").expect("UTF-8")).expect("JSON");
    assert_eq!((&told["level"], &told["fields"]["failures"]), (&"WARN".into(), &1.into()));
    server.play().await;
    server.end();
}
