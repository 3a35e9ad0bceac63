use std::collections::BTreeMap;

use tickwire_proto::v1::{self as pb, client_message::Kind as Up, server_message::Kind as Down};
use tokio::task::spawn_blocking;

use super::{super::roles::BehaviourChoice, *};
use crate::{
    connection::{
        Conditions,
        scripted::{LOOPBACK, Peer, serve, snapshot, welcome},
    },
    core::{Resume, Stripes},
};

fn config(url: String, bots: usize) -> SwarmConfig {
    SwarmConfig {
        behaviours: vec![BehaviourChoice::Wander, BehaviourChoice::Idle],
        threads: 2,
        ..SwarmConfig::new(url, bots, Duration::from_secs(60))
    }
}

/// Lets a bot in, answers its first ping, consumes its inputs, and lets it go. Sends to `heard` once three of
/// its snapshots are acknowledged.
async fn host(mut peer: Peer, heard: tokio::sync::mpsc::Sender<()>) {
    peer.send(welcome()).await;
    let (mut tick, mut told) = (100, false);
    while let Some(message) = peer.receive().await {
        match message {
            Up::Ping(pb::Ping { echo }) => {
                peer.send(Down::Pong(pb::Pong { echo, tick, ..pb::Pong::default() })).await;
            }
            Up::Inputs(inputs) => {
                tick += 1;
                let consumed_input = inputs.inputs[0].sequence;
                peer.send(Down::Snapshot(pb::Snapshot { consumed_input, ..snapshot(tick) })).await;
                if inputs.newest_tick >= 103 && !std::mem::replace(&mut told, true) {
                    heard.send(()).await.unwrap();
                }
            }
            Up::Leave(_) => break,
            _ => {}
        }
    }
    peer.send(Down::Goodbye(pb::Goodbye {
        reason: pb::GoodbyeReason::Left.into(),
        text: String::new(),
        ..pb::Goodbye::default()
    }))
    .await;
}

#[tokio::test]
async fn a_swarm_joins_plays_leaves_when_it_is_stopped_and_reports() {
    const BOTS: usize = 3;
    let (url, mut accepted) = serve(None).await;
    let handle = SwarmHandle::default();
    let swarm = spawn_blocking({
        let handle = handle.clone();
        move || run(&config(url, BOTS), &handle)
    });
    let (heard, mut all) = tokio::sync::mpsc::channel(BOTS);
    let mut hosts = JoinSet::new();
    for _ in 0..BOTS {
        hosts.spawn(host(accepted.recv().await.unwrap(), heard.clone()));
    }
    for _ in 0..BOTS {
        all.recv().await.unwrap();
    }
    handle.stop();
    let (report, failures) = swarm.await.unwrap().unwrap();
    hosts.join_all().await;

    assert_eq!((report.bots_requested, report.bots_connected, report.bots_failed), (3, 3, 0));
    assert!(report.is_clean() && failures.is_empty() && report.errors.is_empty());
    assert!(report.snapshots_received >= 9 && report.input_to_ack_ms_p50 > 0.0);
    assert!(report.bytes_received > report.payload_bytes_received && report.payload_bytes_received > 0);
    assert!(report.seconds < 60.0 && report.tick_rate == 60);
    assert_eq!((handle.playing(), handle.snapshots()), (0, report.snapshots_received));
}

#[tokio::test]
async fn a_bot_that_takes_its_seat_back_has_not_failed_and_one_that_is_not_to_has() {
    for (resume, failed) in [(Resume::default(), 0), (Resume::OFF, 1)] {
        let (url, mut accepted) = serve(None).await;
        let handle = SwarmHandle::default();
        let config = SwarmConfig { resume, ..config(url, 1) };
        let swarm = spawn_blocking({
            let handle = handle.clone();
            move || run(&config, &handle)
        });
        let mut lost = accepted.recv().await.unwrap();
        let Down::Welcome(welcome) = welcome() else { panic!("a welcome") };
        lost.send(Down::Welcome(pb::Welcome { resume_token: vec![7; 32], ..welcome })).await;
        while !matches!(lost.receive().await, Some(Up::Ping(_))) {}
        drop(lost);
        if failed == 0 {
            let (heard, mut all) = tokio::sync::mpsc::channel(1);
            let back = tokio::spawn(host(accepted.recv().await.unwrap(), heard));
            all.recv().await.unwrap();
            handle.stop();
            back.await.unwrap();
        }
        let (report, _) = swarm.await.unwrap().unwrap();
        assert_eq!((report.bots_connected, report.bots_failed, report.resumes), (1, failed, 1 - failed));
        assert_eq!(report.is_clean(), failed == 0);
    }
}

#[tokio::test]
async fn bots_that_cannot_join_are_counted_by_status() {
    let listener = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let (report, failures) = spawn_blocking(|| run(&config(url, 4), &SwarmHandle::default())).await.unwrap().unwrap();
    assert_eq!((report.bots_connected, report.bots_failed, report.snapshots_expected), (0, 4, 0));
    assert_eq!(report.errors, BTreeMap::from([("UNAVAILABLE", 4)]));
    assert!(!report.is_clean() && failures["UNAVAILABLE"].1.contains("is a server running there?"));
}

#[tokio::test]
async fn bots_that_a_server_never_answers_have_failed_when_their_time_is_over() {
    let listener = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let config = SwarmConfig { duration: Duration::from_millis(50), ..config(url, 3) };
    let (report, failures) = spawn_blocking(move || run(&config, &SwarmHandle::default())).await.unwrap().unwrap();
    assert_eq!((report.bots_connected, report.bots_failed), (0, 3));
    assert_eq!(report.errors, BTreeMap::from([("DEADLINE_EXCEEDED", 3)]));
    assert!(failures["DEADLINE_EXCEEDED"].1.contains("before the server answered"));
}

#[tokio::test]
async fn what_cannot_be_had_is_noted_once() {
    let (url, mut accepted) = serve(None).await;
    let handle = SwarmHandle::default();
    let swarm = spawn_blocking({
        let (handle, config) =
            (handle.clone(), SwarmConfig { predict: true, stripes: Stripes::Fixed(4), ..config(url, 2) });
        move || run(&config, &handle)
    });
    let (heard, mut all) = tokio::sync::mpsc::channel(2);
    for _ in 0..2 {
        tokio::spawn(host(accepted.recv().await.unwrap(), heard.clone()));
    }
    for _ in 0..2 {
        all.recv().await.unwrap();
    }
    handle.stop();
    swarm.await.unwrap().unwrap();
    let notes = handle.notes();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert_eq!(notes[0], "--stripes 4: the server grants 1");
    assert!(notes[1].starts_with("nothing is predicted: the session is of test"), "{notes:?}");
}

#[test]
fn bots_take_addresses_in_turn_and_a_seed_each() {
    let addresses = ["127.0.0.2", "127.0.0.3"].map(|address| address.parse().unwrap());
    let conditions = Conditions { seed: 5, ..Conditions::default() };
    let config = SwarmConfig { local_addresses: addresses.to_vec(), conditions, ..config(String::new(), 3) };
    let options = [0, 1, 2].map(|bot| config.connect_options(bot));
    let taken = options.each_ref().map(|options| options.local_address);
    assert_eq!(taken, [Some(addresses[0]), Some(addresses[1]), Some(addresses[0])]);
    assert_eq!(options.map(|options| options.conditions.seed & 0xff_ffff_ffff), [5, 5 + (1 << 32), 5 + (2 << 32)]);
}

#[test]
fn a_swarm_without_behaviours_or_with_a_trace_that_is_not_there_does_not_start() {
    let handle = SwarmHandle::default();
    let start =
        |behaviours| run(&SwarmConfig { behaviours, ..config("http://127.0.0.1:1".into(), 1) }, &handle).map(drop);
    assert!(matches!(start(vec![]), Err(SwarmError::NoBehaviour)));
    assert!(matches!(start(vec![BehaviourChoice::Trace("/nowhere.lmp".into())]), Err(SwarmError::Trace(_))));
}
