//! What admins are refused since there is too much of it, or since it cannot be kept.

use std::{fmt::Write as _, fs, sync::Arc};

use tickwire_arena::Arena;
use tickwire_proto::v1 as pb;
use tickwire_server::{RecordingConfig, ServerConfig};
use tonic::{Code, Status};

use super::administrator::Administered;
use crate::{
    harness::{ARENA_1, Witness, config, reason_of},
    hosting::unfinish,
};

fn assert_refused(status: &Status, code: Code, reason: &str) {
    assert_eq!((status.code(), reason_of(status).as_str()), (code, reason), "{status:?}");
}

fn ban(network: &str) -> pb::BanRequest {
    let target = Some(pb::ban_request::Target::Network(network.into()));
    pb::BanRequest { target, ..pb::BanRequest::default() }
}

#[tokio::test]
async fn who_guesses_tokens_is_told_so_and_who_has_one_is_let_in_all_the_same() {
    let administered = Administered::arena(config()).await;
    let mut guesser = administered.admin_with(Some("0".repeat(64))).await;
    let mut reasons = Vec::new();
    while reasons.last().is_none_or(|reason| reason == "UNKNOWN_ADMIN_TOKEN") {
        let status = guesser.get_server_info(pb::GetServerInfoRequest {}).await.expect_err("it is no token");
        reasons.push(reason_of(&status));
    }
    assert_eq!(reasons.last().map(String::as_str), Some("TOO_MANY_ATTEMPTS"));
    assert!(reasons.len() > 10, "so many are told what is wrong: {}", reasons.len());
    administered.server.counts("TOO_MANY_ATTEMPTS", 1).await;
    administered.admin().await.get_server_info(pb::GetServerInfoRequest {}).await.expect("it is the token");
    administered.server.stop().await;
}

#[tokio::test]
async fn there_are_so_many_streams_of_statistics_and_so_many_ticks_to_step() {
    let administered = Administered::arena(config()).await;
    let mut admin = administered.admin().await;
    let mut streams = Vec::new();
    for _ in 0..16 {
        streams.push(admin.stream_stats(pb::StreamStatsRequest::default()).await.expect("there is room"));
    }
    let status = admin.stream_stats(pb::StreamStatsRequest::default()).await.expect_err("there is none");
    assert_refused(&status, Code::ResourceExhausted, "STATS");
    administered.server.counts("STATS", 1).await;
    drop(streams);

    admin.pause(pb::PauseRequest { session: ARENA_1.into() }).await.expect("it runs");
    let all = || pb::StepRequest { session: ARENA_1.into(), ticks: 10_000 };
    let [mut one, mut other] = [administered.admin().await, administered.admin().await];
    // Whichever comes second is refused at once; the first has minutes to go.
    let first_answer = tokio::select! {
        answer = one.step(all()) => answer,
        answer = other.step(all()) => answer,
    };
    assert_refused(&first_answer.expect_err("one of them waits"), Code::ResourceExhausted, "TOO_MANY_STEPS");
    administered.server.counts("TOO_MANY_STEPS", 1).await;
    administered.server.stop().await;
}

#[tokio::test]
async fn there_are_so_many_bans_and_none_that_cannot_be_written_down() {
    let data = tempfile::tempdir().expect("a directory");
    let mut bans = String::from("[");
    for number in 0..10_000 {
        let comma = if number == 0 { "" } else { "," };
        let network = format!("10.{}.{}.0/24", number / 256, number % 256);
        write!(bans, r#"{comma}{{"network":"{network}","reason":"","by":"a","created":"2026-01-01T00:00:00Z"}}"#)
            .expect("memory takes it");
    }
    fs::write(data.path().join("bans.json"), bans + "]").expect("a disk");
    let administered = Administered::start_in(data, config(), Arc::new(Arena)).await;
    let mut admin = administered.admin().await;
    let status = admin.ban(ban("203.0.113.0/24")).await.expect_err("there are as many as may be");
    assert_refused(&status, Code::ResourceExhausted, "BANS");
    administered.server.counts("BANS", 1).await;

    let file = administered.data.path().join("bans.json");
    fs::remove_file(&file).expect("a disk");
    fs::create_dir(&file).expect("it is in the way");
    let status = admin.ban(ban("10.0.0.0/24")).await.expect_err("it cannot be written down");
    assert_refused(&status, Code::Unavailable, "BANS_FILE");
    administered.server.stop().await;
}

#[tokio::test]
async fn whoever_has_not_come_back_since_a_crash_cannot_be_banned_by_where_they_come_from() {
    let administered = Administered::arena(config()).await;
    let mut witness = Witness::join(&administered.server).await;
    witness.plays_on().await;
    administered.server.stop().await;
    let recordings = administered.data.path().join("recordings");
    let [listed] = tickwire_recording::list(&recordings).expect("it is there").try_into().expect("one recording");
    unfinish(&listed.path);
    let recording = RecordingConfig { recovery: true, ..RecordingConfig::default() };
    let config = ServerConfig { recording, ..config() };
    let administered = Administered::start_in(administered.data, config, Arc::new(Arena)).await;
    let player = pb::PlayerReference { session: ARENA_1.into(), player: 1 };
    let request = pb::BanRequest { target: Some(pb::ban_request::Target::Player(player)), ..pb::BanRequest::default() };
    let status = administered.admin().await.ban(request).await.expect_err("nobody knows where they come from");
    assert_refused(&status, Code::FailedPrecondition, "NO_ADDRESS");
    administered.server.stop().await;
}
