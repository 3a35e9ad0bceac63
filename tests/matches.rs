//! Whole matches, of the arena and of the tiny game alike: hosted, played, recorded, replayed.

use std::sync::Arc;

use futures_util::future::join_all;
use tickwire_arena::Arena;
use tickwire_client::{
    bots::{Behaviour, Moment, Role},
    connection::Client,
    core::{Event, JoinOptions, Stats},
};
use tickwire_recording::{EndReason, Recording, Verified, verify};
use tickwire_server::ServerConfig;
use tickwire_shared::{Game, PlayerId, Tick};

use crate::{
    harness::{TestServer, config, within_patience},
    tiny_game::Beads,
};

/// Who has played to the end: what they counted, and how many players their roster had.
struct Played {
    stats: Stats,
    roster: usize,
    entities: usize,
    owned: bool,
}

/// Plays until a tick, and leaves.
async fn play_to(url: String, session: &'static str, role: Role, seed: u64, last: Tick) -> Played {
    let options = JoinOptions { session: session.into(), ..JoinOptions::default() };
    let mut client = Client::connect(&url, &options).await.expect("there is room");
    let mut mind = Behaviour::new(&role, client.core().schema(), seed);
    let mut input = client.core().schema().neutral_input();
    while client.mirror().tick() < last {
        match client.next().await.expect("the stream goes on") {
            Some(Event::InputDue(tick)) => {
                let moment = Moment { tick, rate: client.core().tick_rate(), mirror: client.mirror() };
                mind.choose(&moment, &mut input);
                client.set_input(&input).expect("minds stay within the ranges");
            }
            Some(Event::Desync(error)) => panic!("the mirror differs: {error}"),
            Some(_) => {}
            None => panic!("the server ended the match"),
        }
    }
    let played = Played {
        stats: client.stats().clone(),
        roster: client.mirror().roster().len(),
        entities: client.mirror().shown_count(),
        owned: client.mirror().owner().is_some(),
    };
    client.leave().await.expect("the server says goodbye");
    played
}

/// A match of eight, of which four do anything at all; its recording's path and what the players counted.
async fn a_match(game: Arc<dyn Game>, session: &'static str, directory: &tempfile::TempDir) -> (String, Vec<Played>) {
    let config = ServerConfig { recordings: Some(directory.path().to_owned()), ..config() };
    let server = TestServer::start(config, vec![game]).await;
    let url = format!("http://{}", server.address);
    let roles = [Role::Wander, Role::Chaos, Role::Chase, Role::Chaos];
    let players = (0..8).map(|i| {
        let role = roles[i % roles.len()].clone();
        play_to(url.clone(), session, role, i as u64, Tick(240))
    });
    let played = within_patience(join_all(players)).await;
    server.stop().await;
    let mut files =
        std::fs::read_dir(directory.path()).expect("it is there").map(|entry| entry.expect("readable").path());
    let file = files.next().expect("the match was recorded");
    assert_eq!(files.next(), None, "one session makes one file, once it is closed");
    (file.to_str().expect("a plain path").to_owned(), played)
}

fn check(played: &[Played]) {
    for Played { stats, roster, entities, .. } in played {
        assert!(stats.snapshots > 60, "{} snapshots", stats.snapshots);
        assert!(stats.hash_checks > 5, "{} hashes checked", stats.hash_checks);
        assert_eq!((stats.hash_mismatches, stats.resyncs, stats.snapshots_ignored), (0, 0, 0));
        assert!(stats.inputs_sent > 60, "{} inputs", stats.inputs_sent);
        assert!(*roster > 1 && *entities > 1, "{roster} players, {entities} entities");
        assert!(!stats.input_to_ack_us.is_empty(), "no input was consumed");
    }
}

/// Replays a recording twice; both times every tick is what it was.
fn replayed(file: &str, game: impl Fn() -> Arc<dyn Game>) -> Verified {
    let recording = Recording::open(file).expect("the file is closed and whole");
    let once = verify(&recording, game()).expect("every tick is what was recorded");
    let twice = verify(&recording, game()).expect("every tick is what was recorded");
    assert_eq!(once, twice);
    let end = once.end.as_ref().expect("a clean end");
    assert_eq!((&end.reason, end.ticks_missing), (&EndReason::Shutdown, 0));
    assert!(once.ticks >= 240, "{} ticks", once.ticks);
    let fresh = recording.ticks().expect("readable").flatten().flat_map(|tick| tick.input.inputs);
    let players: std::collections::BTreeSet<PlayerId> =
        fresh.filter(|input| input.sequence > 0).map(|input| input.player).collect();
    assert_eq!(players.len(), 8, "all eight have played");
    once
}

#[tokio::test(flavor = "multi_thread")]
async fn an_arena_match_is_played_recorded_and_replayed() {
    let directory = tempfile::tempdir().expect("a directory");
    let (file, played) = a_match(Arc::new(Arena), "sessions/arena-1", &directory).await;
    check(&played);
    replayed(&file, || Arc::new(Arena));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tiny_game_is_played_recorded_and_replayed() {
    let directory = tempfile::tempdir().expect("a directory");
    let (file, played) = a_match(Arc::new(Beads), "sessions/beads-1", &directory).await;
    check(&played);
    assert!(played.iter().any(|played| played.stats.events > 0), "somebody rang and was heard");
    replayed(&file, || Arc::new(Beads));
    tickwire_recording::assert_replays(&file, Beads);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_hosts_several_games_by_name() {
    let config = ServerConfig { games: vec!["arena".into(), "beads".into()], ..config() };
    let server = TestServer::start(config, vec![Arc::new(Arena), Arc::new(Beads)]).await;
    let url = format!("http://{}", server.address);
    let arena = play_to(url.clone(), "sessions/arena-1", Role::Wander, 1, Tick(30));
    let beads = play_to(url, "sessions/beads-1", Role::Chaos, 2, Tick(30));
    let (arena, beads) = within_patience(async { tokio::join!(arena, beads) }).await;
    assert!(arena.owned && beads.owned);
    server.stop().await;
}
