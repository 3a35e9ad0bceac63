use std::fs;

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use tempfile::TempDir;
use tickwire_proto::{PROTOCOL_VERSION, v1 as pb};
use tickwire_ticket::{Claims, Role, Secret};
use tonic::Code;

use super::*;
use crate::play::{FirstHello, read_hello};

fn bearing(authorization: &str) -> HeaderMap {
    let value = HeaderValue::from_str(authorization).expect("it is ASCII");
    [(AUTHORIZATION, value)].into_iter().collect()
}

/// With one API key, where it is to have any: the key.
fn identity(auth: Auth, has_keys: bool) -> (Arc<Identity>, String, TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let (key, line) = new_api_key(&"backend".parse().expect("a name")).expect("randomness");
    let [tickets, api_keys] = ["tickets", "api"].map(|name| directory.path().join(name));
    fs::write(&tickets, tickwire_ticket::new_key("a", Default::default()).expect("randomness")).expect("written");
    fs::write(&api_keys, line).expect("written");
    let api_keys = has_keys.then_some(api_keys);
    let config = IdentityConfig { auth, ticket_keys: Some(tickets), api_keys, ..IdentityConfig::default() };
    (Arc::new(Identity::load(config).expect("valid")), key.reveal().to_owned(), directory)
}

#[test]
fn who_changes_sessions_has_an_api_key_where_the_server_has_any() {
    for auth in [Auth::Open, Auth::Ticket] {
        let (identity, key, _directory) = identity(auth, true);
        let caller = |headers: &HeaderMap| identity.caller(headers).map_err(|refusal| (refusal.code, refusal.reason));
        let named = Caller::Key("backend".parse().expect("a name"));
        assert_eq!(caller(&bearing(&format!("Bearer {key}"))), Ok(named.clone()));
        assert_eq!(caller(&bearing(&format!("bearer  {key} "))), Ok(named));
        let missing = Err((Code::Unauthenticated, "API_KEY_MISSING"));
        assert_eq!(caller(&HeaderMap::new()), missing);
        for scheme in ["Basic", "Bearer", ""] {
            let wrong = if scheme == "Basic" { format!("{scheme} {key}") } else { scheme.to_owned() };
            assert_eq!(caller(&bearing(&wrong)), missing, "{wrong}");
        }
        let unknown = Err((Code::Unauthenticated, "API_KEY_UNKNOWN"));
        assert_eq!(caller(&bearing(&format!("Bearer {key}x"))), unknown);
        assert_eq!(identity.counters.refusals(IdentityReason::ApiKeyUnknown), 1);
        assert_eq!(identity.counters.refusals(IdentityReason::ApiKeyMissing), 4);
    }
}

#[test]
fn without_api_keys_anybody_changes_sessions_of_an_open_server_and_nobody_those_of_another() {
    assert_eq!(
        identity(Auth::Open, false).0.caller(&HeaderMap::new()).map_err(|refusal| refusal.reason),
        Ok(Caller::Anyone)
    );
    let (closed, key, _directory) = identity(Auth::Ticket, false);
    for headers in [HeaderMap::new(), bearing(&format!("Bearer {key}"))] {
        let refusal = closed.caller(&headers).expect_err("nobody may");
        assert_eq!((refusal.code, refusal.reason), (Code::PermissionDenied, "API_KEYS_NONE"));
    }
}

#[test]
fn keys_that_were_taken_back_are_good_for_nothing_once_they_are_read_again() {
    let (identity, key, directory) = identity(Auth::Open, true);
    fs::write(directory.path().join("api"), "# nobody\n").expect("written");
    let headers = bearing(&format!("Bearer {key}"));
    assert!(identity.caller(&headers).is_ok(), "it is not read before it is asked for");
    identity.reload().expect("it is good");
    assert_eq!(identity.caller(&headers).expect_err("it is gone").reason, "API_KEY_UNKNOWN");
    fs::write(directory.path().join("api"), "x".repeat(300_000)).expect("written");
    assert!(matches!(identity.reload(), Err(IdentityError::TooLong { .. })));
}

#[test]
fn nothing_secret_is_shown() {
    let (identity, key, directory) = identity(Auth::Ticket, true);
    let shown = format!("{identity:?}");
    let set: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(directory.path().join("tickets")).expect("it is there"))
            .expect("it is JSON");
    let private = set["keys"][0]["d"].as_str().expect("a private key");
    assert!(!shown.contains(&key) && !shown.contains(private), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_lets_nobody_in_and_their_ticket_stays_good() {
    let (identity, _, directory) = identity(Auth::Ticket, false);
    let keys = read_ticket_keys(&directory.path().join("tickets")).expect("valid");
    let mut identity = Arc::into_inner(identity).expect("it is nobody else's");
    let (used, disk) = used::tests::HungDisk::new(8);
    identity.tickets.as_mut().expect("it asks for tickets").used = used;
    let claims = Claims::new("tickwire", "ann", Role::Operator, unix_now()).expect("randomness");
    let ticket = keys.sign(&claims).expect("it has a private key");

    let refusal = let_in(&identity, &ticket).await.expect_err("it is not on the disk");
    assert_eq!((refusal.code, refusal.reason), (Code::Unavailable, "TICKETS_UNRECORDED"));
    assert!(refusal.retry_after.is_some() && refusal.message.contains("within 2s"), "{refusal:?}");
    assert_eq!(identity.counters.refusals(IdentityReason::TicketsUnrecorded), 1);
    identity.admit_operator(&ticket).expect("calls let nobody in, and wait for no disk");

    let (admitted, text) = tokio::join!(let_in(&identity, &ticket), async { disk.write() });
    admitted.expect("the disk writes again");
    assert_eq!(let_in(&identity, &ticket).await.expect_err("it is good for once").reason, "TICKET_USED");
    let refusal = identity.admit_operator(&ticket).expect_err("it has let somebody in");
    assert_eq!((refusal.reason, refusal.field.as_deref()), ("TICKET_USED", Some("authorization")));
    assert_eq!(text.lines().filter_map(|line| line.chars().next()).collect::<String>(), "+-+");
}

/// Lets somebody in by a Hello.
async fn let_in(identity: &Identity, ticket: &Secret) -> Result<(), Refusal> {
    let ticket = ticket.reveal().to_owned();
    let hello = pb::Hello { protocol_version: PROTOCOL_VERSION, ticket, ..pb::Hello::default() };
    let message = pb::ClientMessage { kind: Some(pb::client_message::Kind::Hello(hello)) };
    let FirstHello::Join(mut hello) = read_hello(message)? else { panic!("it asks for a seat") };
    let mut admission = identity.admit(&mut hello, Purpose::Watch)?;
    admission.record().await?;
    admission.admitted();
    Ok(())
}
