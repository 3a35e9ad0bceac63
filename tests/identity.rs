//! Who is let in: tickets, API keys, and requests that pages in browsers make.

use std::{
    fs,
    num::NonZeroU32,
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use tempfile::TempDir;
use tickwire_arena::Arena;
use tickwire_client::{Client, Event, JoinOptions, Resume, Spectator, Stripes, WatchOptions};
use tickwire_proto::v1::{
    self as pb, client_message::Kind, game_service_client::GameServiceClient, join_session_request::Target,
    recording_service_client::RecordingServiceClient, session_service_client::SessionServiceClient,
};
use tickwire_server::{Auth, IdentityConfig, RunError, Server, ServerConfig};
use tickwire_ticket::{Algorithm, Claims, KeyRing, Role, Secret, new_key};
use tonic::{Code, Request, Status};

use crate::harness::{ARENA_1, RawClient, TestServer, config, eventually, field_of, hello, reason_of, within_patience};

pub(crate) const API_KEY: &str = "twk_a-key-of-a-test-and-of-nothing-else";
const OTHER_API_KEY: &str = "twk_another-key-of-a-test";
const OTHER_API_KEY_HASH: &str = "9edb80b98b8dbcf018018e18b22f74603a1611615a7e2293fa84be5a182f472a";
/// As `sha256sum` has it.
pub(crate) const API_KEY_HASH: &str = "a0ac2993367135d93e6897e8d59c41693b659d6e850737840099d0d02225062a";

/// A server that asks for tickets, and who issues them.
pub(crate) struct Gate {
    pub(crate) server: TestServer,
    pub(crate) keys: KeyRing,
    pub(crate) directory: TempDir,
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs()
}

/// Of a directory with one key of tickets, and two API keys.
fn identity(directory: &Path) -> IdentityConfig {
    IdentityConfig {
        auth: Auth::Ticket,
        ticket_keys: Some(directory.join("ticket-keys.json")),
        used_tickets: Some(directory.join("used-tickets")),
        api_keys: Some(directory.join("api-keys")),
        ..IdentityConfig::default()
    }
}

impl Gate {
    pub(crate) async fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let keys = new_key("first", Algorithm::EdDsa).expect("randomness");
        fs::write(directory.path().join("ticket-keys.json"), &keys).expect("written");
        let api_keys = format!("# Two.\nbackend {API_KEY_HASH}\nother {OTHER_API_KEY_HASH}\n");
        fs::write(directory.path().join("api-keys"), api_keys).expect("written");
        let mut config = ServerConfig { identity: identity(directory.path()), ..config() };
        change(&mut config);
        let server = TestServer::arena(config).await;
        Self { server, keys: KeyRing::from_jwks(&keys).expect("valid"), directory }
    }

    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A ticket of somebody who plays in the first session, or as it is changed.
    pub(crate) fn ticket(&self, change: impl FnOnce(&mut Claims)) -> Secret {
        let mut claims = Claims::new("tickwire", "player-81", Role::Player, now()).expect("randomness");
        claims.session = Some(ARENA_1.to_owned());
        change(&mut claims);
        self.keys.sign(&claims).expect("a server would take it")
    }

    pub(crate) async fn join(&self, ticket: &Secret) -> Result<(RawClient, pb::Welcome), Status> {
        join(&self.server, with_ticket(ticket)).await
    }

    async fn refusal(&self, ticket: &Secret) -> Status {
        self.join(ticket).await.map(drop).expect_err("it is refused")
    }

    fn refusals(&self, label: &str) -> u64 {
        let counts = self.server.probe.identity_refusals();
        counts.iter().find(|(name, _)| *name == label).unwrap_or_else(|| panic!("{label} is counted")).1
    }
}

pub(crate) fn with_ticket(ticket: &Secret) -> pb::Hello {
    pb::Hello { ticket: ticket.reveal().to_owned(), ..hello() }
}

pub(crate) async fn join(server: &TestServer, hello: pb::Hello) -> Result<(RawClient, pb::Welcome), Status> {
    let mut client = RawClient::greet(server, hello).await;
    match client.next().await? {
        pb::server_message::Kind::Welcome(welcome) => Ok((client, welcome)),
        other => panic!("{other:?} instead of a welcome"),
    }
}

fn assert_refused(status: &Status, code: Code, reason: &str, field: &str) {
    let found = (status.code(), reason_of(status), field_of(status));
    assert_eq!(found, (code, reason.to_owned(), field.to_owned()), "{status:?}");
}

#[tokio::test]
async fn a_ticket_lets_one_player_in_and_is_good_once() {
    let gate = Gate::new().await;
    let none = join(&gate.server, hello()).await.map(drop).expect_err("there is no ticket");
    assert_refused(&none, Code::Unauthenticated, "TICKET_MISSING", "hello.ticket");
    let ticket = gate.ticket(|_| {});
    let (_client, welcome) = gate.join(&ticket).await.expect("it is good");
    assert_eq!(welcome.session, ARENA_1);
    assert_refused(&gate.refusal(&ticket).await, Code::Unauthenticated, "TICKET_USED", "hello.ticket");
    assert_eq!(gate.server.probe.seats(), 1);
    assert_eq!((gate.refusals("TICKET_MISSING"), gate.refusals("TICKET_USED")), (1, 1));
    assert_eq!(gate.server.probe.tickets(), (1, 0));
    gate.server.stop().await;
}

#[tokio::test]
async fn of_many_who_come_with_one_ticket_at_once_one_gets_in() {
    let gate = Gate::new().await;
    let ticket = gate.ticket(|_| {});
    let joins: Vec<_> = std::iter::repeat_with(|| gate.join(&ticket)).take(16).collect();
    let joined = futures_util::future::join_all(joins).await;
    let (let_in, refused): (Vec<_>, Vec<_>) = joined.into_iter().partition(Result::is_ok);
    assert_eq!((let_in.len(), refused.len(), gate.server.probe.seats()), (1, 15, 1));
    for status in refused.into_iter().filter_map(Result::err) {
        assert_refused(&status, Code::Unauthenticated, "TICKET_USED", "hello.ticket");
    }
    gate.server.stop().await;
}

#[tokio::test]
async fn tickets_that_are_good_for_nothing_are_told_why_and_not_shown() {
    let gate = Gate::new().await;
    let other = KeyRing::from_jwks(&new_key("first", Algorithm::EdDsa).expect("randomness")).expect("valid");
    let unknown = KeyRing::from_jwks(&new_key("second", Algorithm::Hs256).expect("randomness")).expect("valid");
    let claims = || {
        let claims = Claims::new("tickwire", "player-81", Role::Player, now()).expect("randomness");
        Claims { session: Some(ARENA_1.to_owned()), ..claims }
    };
    let unauthenticated = [
        (other.sign(&claims()), "TICKET_SIGNATURE"),
        (unknown.sign(&claims()), "TICKET_KEY"),
        (Ok(gate.ticket(|claims| claims.audience = vec!["elsewhere".into()])), "TICKET_AUDIENCE"),
        (Ok(gate.ticket(|claims| (claims.issued_at, claims.expires_at) = (now() - 90, now() - 30))), "TICKET_EXPIRED"),
        (Ok(gate.ticket(|claims| (claims.issued_at, claims.expires_at) = (now() + 60, now() + 90))), "TICKET_NOT_YET"),
        (Ok(gate.ticket(|claims| claims.session = Some("arena-1".into()))), "TICKET_CLAIMS"),
        (Ok(Secret::from("let me in".to_owned())), "TICKET_MALFORMED"),
        (Ok(Secret::from("a.b.c".repeat(100))), "TICKET_MALFORMED"),
    ];
    let denied = [
        (Ok(gate.ticket(|claims| claims.role = Role::Spectator)), "TICKET_ROLE"),
        (Ok(gate.ticket(|claims| claims.role = Role::Operator)), "TICKET_ROLE"),
        (Ok(gate.ticket(|claims| claims.game = Some("beads".into()))), "TICKET_SESSION"),
    ];
    let all = unauthenticated.into_iter().map(|(ticket, reason)| (ticket, Code::Unauthenticated, reason));
    for (ticket, code, reason) in
        all.chain(denied.into_iter().map(|(ticket, reason)| (ticket, Code::PermissionDenied, reason)))
    {
        let ticket = ticket.expect("it is issued");
        let status = gate.refusal(&ticket).await;
        assert_refused(&status, code, reason, "hello.ticket");
        let shown = format!("{status:?} {}", String::from_utf8_lossy(status.details()));
        assert!(ticket.reveal().split('.').all(|part| part.len() < 8 || !shown.contains(part)), "{shown}");
    }
    let elsewhere = pb::Hello { session: "sessions/arena-2".into(), ..with_ticket(&gate.ticket(|_| {})) };
    let status = join(&gate.server, elsewhere).await.map(drop).expect_err("it is for another session");
    assert_refused(&status, Code::PermissionDenied, "TICKET_SESSION", "hello.ticket");
    assert_eq!((gate.server.probe.seats(), gate.server.probe.tickets()), (0, (0, 0)));
    gate.server.stop().await;
}

#[tokio::test]
async fn a_ticket_says_session_and_name_or_leaves_them_to_its_bearer() {
    let gate = Gate::with(|config| config.sessions = 2).await;
    let second = "sessions/arena-2";
    let named = gate.ticket(|claims| {
        claims.session = Some(second.into());
        claims.name = Some("Ada".into());
    });
    let hello = pb::Hello { player_name: "Eve".into(), ..with_ticket(&named) };
    let (mut client, welcome) = join(&gate.server, hello).await.expect("it is good");
    assert_eq!(welcome.session, second);
    let snapshot = client.play_until(|snapshot| !snapshot.roster.is_empty()).await;
    assert_eq!(snapshot.roster[0].name, "Ada");

    let any = |session: &str| {
        let ticket = gate.ticket(|claims| (claims.session, claims.game) = (None, Some("arena".into())));
        pb::Hello { session: session.into(), player_name: "Eve".into(), ..with_ticket(&ticket) }
    };
    let (mut client, welcome) = join(&gate.server, any("")).await.expect("it is good");
    assert_eq!(welcome.session, ARENA_1);
    let snapshot = client.play_until(|snapshot| !snapshot.roster.is_empty()).await;
    assert_eq!(snapshot.roster[0].name, "Eve");
    let (_client, welcome) = join(&gate.server, any(second)).await.expect("it is good");
    assert_eq!(welcome.session, second);
    gate.server.stop().await;
}

#[tokio::test]
async fn a_ticket_that_let_nobody_in_stays_good() {
    let gate = Gate::with(|config| config.max_players = NonZeroU32::MIN).await;
    let (first, _) = gate.join(&gate.ticket(|_| {})).await.expect("there is a seat");
    let ticket = gate.ticket(|_| {});
    assert_eq!(reason_of(&gate.refusal(&ticket).await), "FULL");
    let misnamed = pb::Hello { game: "chess".into(), ..with_ticket(&ticket) };
    assert_eq!(reason_of(&join(&gate.server, misnamed).await.map(drop).expect_err("no chess")), "OTHER_GAME");
    first.send(Kind::Leave(pb::Leave {})).await;
    eventually("the seat is free", || gate.server.probe.seats() == 0).await;
    gate.join(&ticket).await.expect("it was not used");
    assert_eq!(gate.server.probe.tickets(), (2, 1));
    gate.server.stop().await;
}

#[tokio::test]
async fn seats_are_taken_back_and_streams_added_without_a_ticket() {
    let gate = Gate::new().await;
    let url = format!("http://{}", gate.server.address);
    let options = JoinOptions { ticket: gate.ticket(|_| {}), stripes: Stripes::Fixed(2), ..JoinOptions::default() };
    let mut client = Client::connect(&url, &options).await.expect("the ticket is good");
    let both = async {
        while client.core().stripes_open() < 2 {
            client.next().await.expect("it goes on");
        }
    };
    within_patience(both).await;
    let token = client.core().resume_token().to_vec();
    drop(client);
    let options = JoinOptions { resume_token: token, resume: Resume::OFF, ..JoinOptions::default() };
    let mut client = Client::connect(&url, &options).await.expect("the token is enough");
    let played = async { while !matches!(client.next().await.expect("it goes on"), Some(Event::Snapshot(_))) {} };
    within_patience(played).await;
    assert_eq!((gate.server.probe.seats(), gate.server.probe.tickets()), (1, (1, 0)));
    gate.server.stop().await;
}

#[tokio::test]
async fn a_used_ticket_stays_used_after_a_restart() {
    let gate = Gate::new().await;
    let (ticket, unused) = (gate.ticket(|_| {}), gate.ticket(|_| {}));
    gate.join(&ticket).await.expect("it is good");
    let Gate { server, keys, directory } = gate;
    server.stop().await;
    let config = ServerConfig { identity: identity(directory.path()), ..config() };
    // As soon as the thread that writes the file has let it go.
    let server = loop {
        match Server::start(config.clone(), vec![Arc::new(Arena)]) {
            Err(RunError::Identity(_)) => tokio::task::yield_now().await,
            started => break started.expect("the configuration is good"),
        }
    };
    let gate = Gate { server: TestServer::serve(server).await, keys, directory };
    assert_eq!(reason_of(&gate.refusal(&ticket).await), "TICKET_USED");
    gate.join(&unused).await.expect("it is good");
    let kept = fs::read_to_string(gate.directory.path().join("used-tickets")).expect("it is there");
    assert_eq!(kept.lines().filter(|line| line.starts_with('+')).count(), 2, "{kept}");
    gate.server.stop().await;
}

#[tokio::test]
async fn keys_are_rotated_while_the_server_runs() {
    let gate = Gate::new().await;
    let file = gate.directory.path().join("ticket-keys.json");
    let old = fs::read_to_string(&file).expect("it is there");
    let new = new_key("second", Algorithm::Hs256).expect("randomness");
    let member = |set: &str| set[set.find('[').expect("a set") + 1..set.rfind(']').expect("a set")].to_owned();
    fs::write(&file, format!("{{\"keys\": [{}, {}]}}", member(&new), member(&old))).expect("written");
    let before = gate.ticket(|_| {});
    gate.server.probe.reload_keys().expect("they are good");
    gate.join(&before).await.expect("both keys verify");

    let (late, mut second) = (gate.ticket(|_| {}), Gate { keys: KeyRing::from_jwks(&new).expect("valid"), ..gate });
    second.join(&second.ticket(|_| {})).await.expect("both keys verify");
    fs::write(&file, &new).expect("written");
    second.server.probe.reload_keys().expect("they are good");
    assert_eq!(reason_of(&second.refusal(&late).await), "TICKET_KEY");

    fs::write(&file, "{\"keys\": [\"hunter2\"]}").expect("written");
    let error = second.server.probe.reload_keys().expect_err("that is no key").to_string();
    assert!(error.contains("keys[0].kty") && !error.contains("hunter2"), "{error}");
    second.join(&second.ticket(|_| {})).await.expect("the keys are what they were");
    second.keys = KeyRing::from_jwks(&old).expect("valid");
    assert_eq!(reason_of(&second.refusal(&second.ticket(|_| {})).await), "TICKET_KEY");
    second.server.stop().await;
}

#[tokio::test]
async fn any_ticket_lets_its_bearer_watch_and_each_once() {
    let gate = Gate::new().await;
    let url = format!("http://{}", gate.server.address);
    let watch = async |ticket: Secret| {
        let join = JoinOptions { ticket, ..JoinOptions::default() };
        Spectator::connect(&url, &WatchOptions { join, ..WatchOptions::default() }).await
    };
    for role in [Role::Player, Role::Spectator, Role::Operator] {
        let ticket = gate.ticket(|claims| claims.role = role);
        watch(ticket.clone()).await.expect("it is good");
        let again = watch(ticket).await.expect_err("it was used");
        assert!(again.to_string().contains("get a new one"), "{again}");
    }
    // An operator watches whatever there is.
    watch(gate.ticket(|claims| (claims.role, claims.session) = (Role::Operator, None))).await.expect("it is good");
    let missing = watch(Secret::default()).await.expect_err("there is none");
    assert_eq!((missing.code(), gate.refusals("TICKET_MISSING")), (Code::Unauthenticated, 1));
    gate.server.stop().await;
}

/// A call with what it is to bring as `authorization`.
pub(crate) fn bearing<T>(message: T, authorization: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", authorization.parse().expect("ASCII"));
    request
}

#[tokio::test]
async fn recordings_are_for_api_keys_and_operators() {
    let recordings = tempfile::tempdir().expect("a directory");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings/crowd-20hz.mcap");
    fs::copy(golden, recordings.path().join("golden.mcap")).expect("there is room");
    let gate = Gate::with(|config| config.recordings = Some(recordings.path().to_owned())).await;
    let mut service = RecordingServiceClient::new(gate.server.channel().await);
    let operator = |session: Option<&str>| {
        gate.ticket(|claims| (claims.role, claims.session) = (Role::Operator, session.map(str::to_owned)))
    };
    let mut list = async |authorization: &str| {
        let request = bearing(pb::ListRecordingsRequest::default(), authorization);
        service.list_recordings(request).await.map(|listed| listed.into_inner().recordings.len())
    };
    assert_eq!(list(&format!("Bearer {API_KEY}")).await.expect("it is good"), 2);
    for (authorization, code, reason, field) in [
        (format!("Bearer {}", gate.ticket(|_| {}).reveal()), Code::PermissionDenied, "TICKET_ROLE", "authorization"),
        (
            format!("Bearer {}", operator(Some(ARENA_1)).reveal()),
            Code::PermissionDenied,
            "TICKET_ROLE",
            "authorization",
        ),
        ("Bearer a.b.c".to_owned(), Code::Unauthenticated, "TICKET_MALFORMED", "authorization"),
        (format!("Bearer {API_KEY}x"), Code::Unauthenticated, "API_KEY_UNKNOWN", ""),
        ("Bearer anything".to_owned(), Code::Unauthenticated, "API_KEY_UNKNOWN", ""),
        (format!("Basic {API_KEY}"), Code::PermissionDenied, "RECORDINGS_PRIVATE", ""),
    ] {
        assert_refused(&list(&authorization).await.expect_err("it is refused"), code, reason, field);
    }
    // By calls a ticket is not used up; by a Hello it is, for calls, too.
    let ticket = operator(None);
    let bearer = format!("bearer {}", ticket.reveal());
    for _ in 0..3 {
        assert_eq!(list(&bearer).await.expect("it is good until it expires"), 2);
    }
    let mut downloads = RecordingServiceClient::new(gate.server.channel().await);
    let download = pb::DownloadRecordingRequest { name: "recordings/golden".into() };
    let mut parts = downloads.download_recording(bearing(download, &bearer)).await.expect("it is good").into_inner();
    assert!(parts.message().await.expect("it is sent").is_some_and(|part| !part.data.is_empty()));
    let url = format!("http://{}", gate.server.address);
    let join = JoinOptions { ticket, ..JoinOptions::default() };
    Spectator::connect(&url, &WatchOptions { join, ..WatchOptions::default() }).await.expect("it has let nobody in");
    let used = list(&bearer).await.expect_err("it has let somebody in");
    assert_refused(&used, Code::Unauthenticated, "TICKET_USED", "authorization");

    let mut replay = async |ticket: &Secret, authorization: Option<&str>| {
        let hello = Some(with_ticket(ticket));
        let request = pb::ReplayRequest { name: "recordings/golden".into(), hello, ..pb::ReplayRequest::default() };
        let request = match authorization {
            Some(authorization) => bearing(request, authorization),
            None => Request::new(request),
        };
        service.replay(request).await?.into_inner().message().await.map(|first| first.and_then(|first| first.kind))
    };
    let welcomed = |first: Result<Option<_>, Status>| matches!(first, Ok(Some(pb::server_message::Kind::Welcome(_))));
    assert!(welcomed(replay(&operator(None), None).await));
    assert!(welcomed(replay(&Secret::default(), Some(&format!("Bearer {API_KEY}"))).await));
    let refused = replay(&operator(Some("sessions/elsewhere")), None).await.expect_err("it is for another session");
    assert_eq!(reason_of(&refused), "TICKET_SESSION");
    let refused = replay(&gate.ticket(|_| {}), None).await.expect_err("it is for players");
    assert_eq!(reason_of(&refused), "TICKET_ROLE");
    let refused = replay(&Secret::default(), None).await.expect_err("there is neither key nor ticket");
    assert_eq!(reason_of(&refused), "RECORDINGS_PRIVATE");
    gate.server.stop().await;
}

#[tokio::test]
async fn who_has_an_api_key_changes_sessions_and_gets_tickets_for_others() {
    let gate = Gate::new().await;
    let mut sessions = SessionServiceClient::new(gate.server.channel().await);
    let key = format!("Bearer {API_KEY}");
    let create = |visibility: pb::SessionVisibility| {
        let session = pb::NewSession { visibility: visibility.into(), ..pb::NewSession::default() };
        pb::CreateSessionRequest { session: Some(session), ..pb::CreateSessionRequest::default() }
    };
    let status = sessions.create_session(create(pb::SessionVisibility::Public)).await.expect_err("there is no key");
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::Unauthenticated, "API_KEY_MISSING"));
    let join = |session: &str| pb::JoinSessionRequest {
        target: Some(Target::Name(session.into())),
        subject: "player-82".into(),
        player_name: "Ada".into(),
        ..pb::JoinSessionRequest::default()
    };
    let player = gate.ticket(|_| {});
    let status = sessions.join_session(bearing(join(ARENA_1), &format!("Bearer {}", player.reveal()))).await;
    assert_eq!(reason_of(&status.expect_err("a ticket is no key")), "API_KEY_UNKNOWN");
    let status = sessions.delete_session(pb::DeleteSessionRequest { name: ARENA_1.into() }).await;
    assert_eq!(reason_of(&status.expect_err("there is no key")), "API_KEY_MISSING");
    // Who only looks needs none.
    sessions.list_sessions(pb::ListSessionsRequest::default()).await.expect("anybody may");

    let joined = sessions.join_session(bearing(join(ARENA_1), &key)).await.expect("the key is good").into_inner();
    let ticket = Secret::from(joined.ticket);
    let claims = gate.keys.verify(ticket.reveal(), "tickwire", now()).expect("the server has signed it");
    assert_eq!((claims.subject.as_str(), claims.session.as_deref()), ("player-82", Some(ARENA_1)));
    assert!(claims.expires_at <= now() + 20, "it is good for as long as the seat is kept");
    let (mut client, _) = gate.join(&ticket).await.expect("the seat is kept");
    let snapshot = client.play_until(|snapshot| !snapshot.roster.is_empty()).await;
    assert_eq!(snapshot.roster[0].name, "Ada");
    assert_eq!(reason_of(&gate.refusal(&ticket).await), "TICKET_USED");

    // Whoever signs tickets may let others into a session that is joined by its code.
    let create = bearing(create(pb::SessionVisibility::ByCode), &key);
    let pb::Session { name: hidden, join_code, .. } =
        sessions.create_session(create).await.expect("the key is good").into_inner();
    let mut code = async |authorization: &str| {
        let request = bearing(pb::GetSessionRequest { name: hidden.clone() }, authorization);
        sessions.get_session(request).await.expect("anybody may").into_inner().join_code
    };
    assert!(!join_code.is_empty() && code(&key).await == join_code, "it is for its creator");
    for other in ["Basic QQ==".to_owned(), format!("{key}x"), format!("Bearer {OTHER_API_KEY}")] {
        assert_eq!(code(&other).await, "", "{other}");
    }
    let named = gate.ticket(|claims| claims.session = Some(hidden.clone()));
    assert_eq!(gate.join(&named).await.expect("it is for that session").1.session, hidden);
    let any = gate.ticket(|claims| (claims.session, claims.game) = (None, Some("arena".into())));
    let hello = pb::Hello { session: hidden, ..with_ticket(&any) };
    let status = self::join(&gate.server, hello).await.map(drop).expect_err("it is for no hidden one");
    assert_eq!(reason_of(&status), "TICKET_NEEDED");

    let public = gate.keys.public_jwks().expect("it has a public half");
    fs::write(gate.directory.path().join("ticket-keys.json"), public).expect("written");
    gate.server.probe.reload_keys().expect("they are good");
    let status = sessions.join_session(bearing(join(ARENA_1), &key)).await.expect_err("it cannot sign");
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::FailedPrecondition, "NO_SIGNING_KEY"));
    gate.join(&gate.ticket(|_| {})).await.expect("it can verify");
    gate.server.stop().await;
}

#[tokio::test]
async fn who_has_an_api_key_gets_tickets_for_spectators_and_operators_which_take_no_seat() {
    let gate = Gate::with(|config| config.max_players = NonZeroU32::MIN).await;
    let mut sessions = SessionServiceClient::new(gate.server.channel().await);
    let key = format!("Bearer {API_KEY}");
    let session = pb::NewSession { visibility: pb::SessionVisibility::ByCode.into(), ..pb::NewSession::default() };
    let create = pb::CreateSessionRequest { session: Some(session), ..pb::CreateSessionRequest::default() };
    let hidden = sessions.create_session(bearing(create, &key)).await.expect("the key is good").into_inner();
    let mut pass = async |role: pb::TicketRole, target: Option<Target>| {
        let request =
            pb::JoinSessionRequest { target, role: role.into(), subject: "guest".into(), ..Default::default() };
        let joined = sessions.join_session(bearing(request, &key)).await?.into_inner();
        let ticket = Secret::from(joined.ticket);
        let claims = gate.keys.verify(ticket.reveal(), "tickwire", now()).expect("the server has signed it");
        let expires = joined.expire_time.expect("it says when").seconds as u64;
        assert_eq!((claims.subject.as_str(), claims.expires_at, claims.reservation), ("guest", expires, None));
        assert_eq!(claims.session, joined.session.map(|session| session.name));
        Ok::<_, Status>((ticket, claims.role))
    };
    let named = |name: &str| Some(Target::Name(name.to_owned()));
    let watch = async |ticket: &Secret, session: &str| {
        let hello = Some(pb::Hello { session: session.to_owned(), ..with_ticket(ticket) });
        let request = pb::WatchRequest { hello, ..pb::WatchRequest::default() };
        let mut service = GameServiceClient::new(gate.server.channel().await);
        match within_patience(service.watch(request).await?.into_inner().message()).await?.and_then(|it| it.kind) {
            Some(pb::server_message::Kind::Welcome(welcome)) => Ok::<_, Status>(welcome.session),
            other => panic!("{other:?} instead of a welcome"),
        }
    };

    // They are not held up where all seats are taken, and take none.
    let (_player, _) = gate.join(&gate.ticket(|_| {})).await.expect("there is a seat");
    let (ticket, role) = pass(pb::TicketRole::Spectator, named(ARENA_1)).await.expect("it runs");
    assert_eq!(role, Role::Spectator);
    assert_refused(&gate.refusal(&ticket).await, Code::PermissionDenied, "TICKET_ROLE", "hello.ticket");
    assert_eq!(watch(&ticket, "").await.expect("to watch it is good"), ARENA_1);
    assert_eq!(reason_of(&watch(&ticket, "").await.expect_err("it is good once")), "TICKET_USED");
    let refused = pass(pb::TicketRole::Spectator, named(&hidden.name)).await.map(drop).expect_err("it takes the code");
    assert_refused(&refused, Code::PermissionDenied, "CODE_NEEDED", "name");
    let code = Some(Target::JoinCode(hidden.join_code));
    let (ticket, _) = pass(pb::TicketRole::Spectator, code).await.expect("it is the code");
    assert_eq!(watch(&ticket, "").await.expect("to watch it is good"), hidden.name);

    let (ticket, role) = pass(pb::TicketRole::Operator, named(&hidden.name)).await.expect("operators need no code");
    assert_eq!(role, Role::Operator);
    let elsewhere = watch(&ticket, ARENA_1).await.expect_err("it is for the hidden one");
    assert_refused(&elsewhere, Code::PermissionDenied, "TICKET_SESSION", "hello.ticket");
    assert_eq!(watch(&ticket, "").await.expect("to watch it is good"), hidden.name);
    let (ticket, _) = pass(pb::TicketRole::Operator, None).await.expect("for all");
    let mut recordings = RecordingServiceClient::new(gate.server.channel().await);
    for _ in 0..2 {
        let list = bearing(pb::ListRecordingsRequest::default(), &format!("Bearer {}", ticket.reveal()));
        recordings.list_recordings(list).await.expect("operators may");
    }

    let refused = pass(pb::TicketRole::Spectator, None).await.map(drop).expect_err("it says no session");
    assert_refused(&refused, Code::InvalidArgument, "NO_TARGET", "target");
    let refused = pass(pb::TicketRole::Operator, Some(Target::QuickMatch(pb::QuickMatch::default()))).await;
    assert_refused(
        &refused.map(drop).expect_err("it is for players"),
        Code::InvalidArgument,
        "OUT_OF_RANGE",
        "quick_match",
    );
    let refused =
        pass(pb::TicketRole::Spectator, named("sessions/arena-9")).await.map(drop).expect_err("there is none");
    assert_eq!((refused.code(), reason_of(&refused).as_str()), (Code::NotFound, "NOT_FOUND"));
    assert_eq!((gate.server.probe.seats(), gate.server.probe.seats_reserved()), (1, 0));
    gate.server.stop().await;
}

#[tokio::test]
async fn requests_for_other_hosts_and_of_pages_are_refused_on_every_way_in() {
    let server = TestServer::arena(config()).await;
    let elsewhere = server.endpoint().origin("http://evil.example:7777".parse().expect("a URL"));
    let elsewhere = elsewhere.connect().await.expect("it is this machine after all");
    let refused = |status: Status, reason: &str| {
        assert_eq!((status.code(), reason_of(&status).as_str()), (Code::PermissionDenied, reason), "{status:?}");
        let headers = status.metadata().clone().into_headers();
        assert!(!headers.keys().any(|name| name.as_str().starts_with("access-control")), "{headers:?}");
    };
    let play = async |channel, origin: Option<&str>| {
        let mut request = Request::new(tokio_stream::pending());
        if let Some(origin) = origin {
            request.metadata_mut().insert("origin", origin.parse().expect("ASCII"));
        }
        within_patience(GameServiceClient::new(channel).play(request)).await.map(drop)
    };
    let list = async |channel, origin: &str| {
        let mut request = Request::new(pb::ListSessionsRequest::default());
        request.metadata_mut().insert("origin", origin.parse().expect("ASCII"));
        SessionServiceClient::new(channel).list_sessions(request).await.map(drop)
    };
    refused(play(elsewhere.clone(), None).await.expect_err("another host"), "HOST_NOT_ALLOWED");
    let sessions = SessionServiceClient::new(elsewhere).list_sessions(pb::ListSessionsRequest::default()).await;
    refused(sessions.expect_err("another host"), "HOST_NOT_ALLOWED");
    let here = server.channel().await;
    refused(play(here.clone(), Some("https://game.example")).await.expect_err("a page"), "ORIGIN_NOT_ALLOWED");
    refused(list(here.clone(), "https://game.example").await.expect_err("a page"), "ORIGIN_NOT_ALLOWED");
    // The connection is as good as it was.
    assert_eq!(server.probe.streams(), 0, "none was opened");
    play(here, None).await.expect("no page, and this machine");
    let counts = server.probe.identity_refusals();
    let count = |label| counts.iter().find(|(name, _)| *name == label).map(|(_, count)| *count);
    assert_eq!((count("HOST_NOT_ALLOWED"), count("ORIGIN_NOT_ALLOWED")), (Some(2), Some(2)));
    server.stop().await;

    let identity = IdentityConfig {
        allowed_hosts: Some(vec!["evil.example".into()]),
        allowed_origins: vec!["https://game.example".into()],
        ..IdentityConfig::default()
    };
    let server = TestServer::arena(ServerConfig { identity, ..config() }).await;
    let named = server.endpoint().origin("http://evil.example".parse().expect("a URL")).connect().await;
    list(named.expect("it accepts"), "https://game.example").await.expect("both are allowed");
    refused(list(server.channel().await, "https://game.example").await.expect_err("by address"), "HOST_NOT_ALLOWED");
    server.stop().await;
}

#[tokio::test]
async fn a_server_does_not_start_without_the_keys_that_it_is_to_have() {
    let directory = tempfile::tempdir().expect("a directory");
    let start = |identity: IdentityConfig| {
        let config = ServerConfig { identity, ..config() };
        let games: Vec<Arc<dyn tickwire_shared::Game>> = vec![Arc::new(Arena)];
        Server::start(config, games).map(drop).expect_err("it does not start").to_string()
    };
    let none = start(IdentityConfig { auth: Auth::Ticket, ..IdentityConfig::default() });
    assert!(none.starts_with("ticket_keys: "), "{none}");
    let missing = start(identity(directory.path()));
    assert!(missing.contains("ticket-keys.json") && missing.starts_with("cannot read"), "{missing}");
    fs::write(directory.path().join("api-keys"), "backend hunter2").expect("written");
    let wrong = start(IdentityConfig { auth: Auth::Open, ..identity(directory.path()) });
    assert!(wrong.contains("line 1") && !wrong.contains("hunter2"), "{wrong}");
    let host = start(IdentityConfig { allowed_hosts: Some(vec!["a b".into()]), ..IdentityConfig::default() });
    assert!(host.starts_with("allowed_hosts: \"a b\""), "{host}");
}
