//! Which role each call of `AdminService` takes: all of them, as the protocol lists them.

use std::{collections::BTreeMap, fs, sync::Arc};

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::{Code, client::Grpc};
use tonic_prost::ProstCodec;

use super::administrator::Administered;
use crate::{
    harness::{RawClient, config, reason_of, within_patience},
    identity::bearing,
};

/// From the least to the most.
const ROLES: [&str; 3] = ["observer", "moderator", "operator"];

/// What each call takes, at least.
const CALLS: &[(&str, &str)] = &[
    ("GetServerInfo", "observer"),
    ("StreamStats", "observer"),
    ("ListPlayers", "observer"),
    ("ListBans", "observer"),
    ("Kick", "moderator"),
    ("Ban", "moderator"),
    ("Unban", "moderator"),
    ("Mute", "moderator"),
    ("Unmute", "moderator"),
    ("Broadcast", "moderator"),
    ("Pause", "operator"),
    ("Resume", "operator"),
    ("Step", "operator"),
    ("TerminateSession", "operator"),
    ("Drain", "operator"),
    ("CancelDrain", "operator"),
    ("SetLogFilter", "operator"),
];

/// The calls that there are, in the protocol's order.
fn methods() -> Vec<String> {
    let set = FileDescriptorSet::decode(tickwire_proto::FILE_DESCRIPTOR_SET).expect("the protocol");
    let services = set.file.into_iter().flat_map(|file| file.service);
    let admin = services.into_iter().find(|service| service.name() == "AdminService").expect("it is there");
    admin.method.iter().map(|method| method.name().to_owned()).collect()
}

#[tokio::test]
async fn every_call_takes_the_role_that_it_says_and_no_other() {
    let methods = methods();
    let needed: BTreeMap<&str, usize> = CALLS
        .iter()
        .map(|(call, role)| (*call, ROLES.iter().position(|it| it == role).expect("it is a role")))
        .collect();
    assert!(methods.iter().map(String::as_str).eq(CALLS.iter().map(|(call, _)| *call)), "{methods:?}: each has a row");

    let data = tempfile::tempdir().expect("a directory");
    let token = |role: &str| format!("{role}-0123456789abcdef0123");
    let entry = |role: &str| format!("[[token]]\nname = \"{role}\"\nrole = \"{role}\"\ntoken = \"{}\"\n", token(role));
    fs::write(data.path().join("tokens.toml"), ROLES.map(entry).concat()).expect("it can be written");
    let administered = Administered::start_in(data, config(), Arc::new(tickwire_arena::Arena)).await;
    // As long as somebody plays, a drain waits, and can be called off.
    let (_player, _) = RawClient::join(&administered.server).await;
    let channel = administered.endpoint().connect().await.expect("it listens");

    // All that is left out of a request says nothing, and whoever may not ask is not told what is wrong with it.
    let call = async |method: &str, authorization: &str| {
        let mut client = Grpc::new(channel.clone());
        client.ready().await.expect("it is connected");
        let path = format!("/tickwire.v1.AdminService/{method}").parse().expect("a path");
        let answer = client.server_streaming(bearing((), authorization), path, ProstCodec::<(), ()>::default());
        within_patience(answer).await.map(drop)
    };
    for (index, role) in ROLES.into_iter().enumerate() {
        for method in &methods {
            let answer = call(method, &format!("Bearer {}", token(role))).await;
            let is_denied = answer
                .as_ref()
                .is_err_and(|status| status.code() == Code::PermissionDenied && reason_of(status) == "ROLE");
            assert_eq!(is_denied, index < needed[&**method], "{role}, {method}: {answer:?}");
            let code = answer.map_or_else(|status| status.code(), |()| Code::Ok);
            assert!(!matches!(code, Code::Unimplemented | Code::Internal | Code::Unknown), "{role}, {method}: {code}");
        }
    }
    for method in &methods {
        let status = call(method, "Bearer nobody-0123456789abcdef0123").await.expect_err("it is no token");
        assert!(matches!(status.code(), Code::Unauthenticated | Code::ResourceExhausted), "{method}: {status:?}");
    }
    administered.server.stop().await;
}
