//! What a start makes of what it finds.

use std::{fs, process::Command, sync::Arc, time::Instant};

use tickwire_proto::{
    PROTOCOL_VERSION,
    v1::{Hello, WatchRequest, game_service_client::GameServiceClient, server_message},
};
use tickwire_recording::{EndReason, Layout, Recording, RecordingMeta, RecordingState, Writer, live_path};
use tickwire_shared::{Schema, SchemaParts};

use crate::{
    program::{Seated, data, files, only_recording, stderr, take_a_seat, unaware, verified},
    server::{ARENA_1, LOOK_INTERVAL, Listening, PATIENCE, Server, run},
    swarm::Swarm,
    talk::{ARGUMENTS as SEGMENTS, newest_segment},
};

impl Seated {
    async fn snapshot_tick(&mut self) -> (u32, u64) {
        loop {
            let message = self.down.message().await.expect("the stream goes on").expect("it goes on");
            if let Some(server_message::Kind::Snapshot(snapshot)) = message.kind {
                return (snapshot.epoch, snapshot.tick);
            }
        }
    }
}

#[tokio::test]
async fn a_session_goes_on_after_a_kill_and_holds_its_seats_for_the_grace_period() {
    let data = data();
    let mut first = Listening::start(data.path(), &["--tick-rate", "30", "--max-players", "9"]).await;
    let mut ada = take_a_seat(&first.channel).await;
    first.until(ARENA_1, |session| session.tick > 20).await;
    let (epoch, seen) = ada.snapshot_tick().await;
    assert_eq!(epoch, 0);
    first.server.kill();
    let live = only_recording(data.path());

    // What the recording says counts, whatever is said now.
    let mut second = Listening::start(data.path(), &["--tick-rate", "60"]).await;
    let line = second.server.logs("session recovered").expect("it says so");
    let recovered = line["tick"].as_u64().expect("a tick");
    assert!(recovered + 1 >= seen, "tick {recovered}, where the player had seen {seen}");
    assert_eq!((line["session"].as_str(), line["epoch"].as_u64()), (Some(ARENA_1), Some(1)));
    let session = second.session(ARENA_1).await;
    assert_eq!((session.epoch, session.tick_rate, session.max_players, session.players), (1, 30, 9, 1));
    let mut newcomer = take_a_seat(&second.channel).await;
    let (epoch, tick) = newcomer.snapshot_tick().await;
    assert!(epoch == 1 && tick > recovered, "epoch {epoch}, tick {tick}");
    assert_eq!(second.session(ARENA_1).await.players, 2, "Ada's seat is held");
    second.server.end();

    assert!(!live.exists());
    let file = only_recording(data.path());
    let summary = Recording::open(&file).expect("a recording").scan();
    assert_eq!(summary.state, RecordingState::Complete(EndReason::Shutdown));
    assert_eq!(verified(&file).ticks, summary.ticks);
    let [there] = summary.recovered.try_into().expect("one");
    assert_eq!((there.tick.0, there.epoch), (recovered, 1));
    let shown = run(&["recordings", "show"], &file).1;
    assert!(shown.contains(&format!("after tick {recovered}, at ")), "{shown}");
    let shown = run(&["recordings", "show", "--json"], &file).1;
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["recovered"][0]["tick"].as_u64(), Some(recovered));
    assert_eq!(run(&["replay", "--verify"], &file).0, Some(0));
}

#[tokio::test]
async fn spectators_see_a_session_that_goes_on_no_earlier_than_before() {
    const DELAY_TICKS: u64 = 60;
    let data = data();
    let arguments = ["--spectator-delay-seconds", "1"];
    let mut first = Listening::start(data.path(), &arguments).await;
    first.until(ARENA_1, |session| session.tick > 20).await;
    first.server.kill();

    let second = Listening::start(data.path(), &arguments).await;
    let hello = Hello { protocol_version: PROTOCOL_VERSION, ..Hello::default() };
    let request = WatchRequest { hello: Some(hello), ..WatchRequest::default() };
    let stream = GameServiceClient::new(second.channel.clone()).watch(request).await.expect("there is room");
    let mut spectator = stream.into_inner();
    loop {
        let message = spectator.message().await.expect("the stream goes on").expect("it goes on");
        let shown = match message.kind {
            Some(server_message::Kind::Snapshot(snapshot)) => Some(snapshot.tick),
            Some(server_message::Kind::Welcome(welcome)) => {
                assert!(welcome.tick + DELAY_TICKS <= second.session(ARENA_1).await.tick.max(DELAY_TICKS));
                None
            }
            _ => None,
        };
        if let Some(shown) = shown {
            let newest = second.session(ARENA_1).await.tick;
            assert!(shown + DELAY_TICKS <= newest, "tick {shown} is shown when {newest} is the newest");
            break;
        }
    }
}

#[tokio::test]
async fn sessions_keep_their_names_and_new_ones_come_in_between() {
    let data = data();
    let mut first = Listening::start(data.path(), &["--sessions", "3"]).await;
    for name in first.sessions().await {
        first.until(&name, |session| session.tick > 3).await;
    }
    first.server.kill();
    let second = files(data.path()).into_iter().find(|file| file.to_string_lossy().contains("arena-2"));
    fs::remove_file(second.expect("it is there")).expect("it can be removed");

    let mut second = Listening::start(data.path(), &["--sessions", "4"]).await;
    let names = second.sessions().await;
    assert_eq!(names, [1, 2, 3, 4].map(|number| format!("sessions/arena-{number}")));
    let mut epochs = Vec::new();
    for name in &names {
        epochs.push(second.session(name).await.epoch);
    }
    assert_eq!(epochs, [1, 0, 1, 0]);
    second.server.kill();

    // Fewer are asked for than there are: all go on.
    let third = Listening::start(data.path(), &[]).await;
    assert_eq!(third.sessions().await, names);
}

#[tokio::test]
async fn a_second_server_does_not_start_in_the_same_directory() {
    let data = data();
    let mut first = Listening::start(data.path(), &[]).await;
    first.until(ARENA_1, |session| session.tick > 3).await;
    let arguments = ["--listen", "127.0.0.1:0", "--data-dir"];
    let (code, said) = run(&arguments, data.path());
    assert_eq!(code, Some(1), "{said}");
    let holder = format!("{} is in use by process {}", data.path().display(), first.server.id());
    assert!(said.contains(&holder) && said.contains("choose another data directory"), "{said}");
    let (code, said) = run(&["recordings", "repair"], &only_recording(data.path()));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&holder), "{said}");
    first.server.kill();
    // A lock does not outlive its process.
    let mut second = Listening::start(data.path(), &[]).await;
    assert_eq!(second.session(ARENA_1).await.epoch, 1);
    second.server.end();
}

#[tokio::test]
async fn nothing_goes_on_where_recovery_is_off_and_later_the_newest_does() {
    let data = data();
    for sessions in 0..2 {
        let mut server = Listening::start(data.path(), &["--recovery", "off"]).await;
        let session = server.until(ARENA_1, |session| session.tick > 3).await;
        assert_eq!((session.epoch, files(data.path()).len()), (0, sessions + 1));
        server.server.kill();
    }
    let newest = files(data.path()).pop().expect("two");
    let server = Listening::start(data.path(), &[]).await;
    server.server.logs("finished an older recording of the session").expect("the other is of no more use");
    assert_eq!(server.session(ARENA_1).await.epoch, 1);
    let [older, there] = files(data.path()).try_into().expect("two");
    assert_eq!(there, newest);
    let summary = Recording::open(older).expect("a recording").summary();
    assert_eq!(summary.state, RecordingState::Complete(EndReason::Killed));
}

#[tokio::test]
async fn of_copies_of_a_live_file_the_one_that_has_gone_furthest_goes_on_whatever_it_is_called() {
    let data = data();
    let path = |name| live_path(&data.path().join("recordings"), name);
    let mut first = Listening::start(data.path(), &[]).await;
    first.until(ARENA_1, |session| session.tick > 10).await;
    let live = only_recording(data.path());
    for name in ["aa", "zz"] {
        fs::copy(&live, path(name)).expect("a disk");
    }
    first.until(ARENA_1, |session| session.tick > 40).await;
    first.server.kill();
    let there = Recording::open(&live).expect("a recording").scan().last_tick();
    let before = fs::read(&live).expect("a disk");

    let mut second = Listening::start(data.path(), &[]).await;
    let line = second.server.logs("session recovered").expect("it says so");
    let recovered = line["tick"].as_u64().expect("a tick");
    assert!(recovered >= there.0, "tick {recovered}, where {there} was on record");
    second.until(ARENA_1, |session| session.tick > recovered).await;
    second.server.kill();

    // One with as many ticks as another server has gone on from.
    fs::write(path("ab"), before).expect("a disk");
    let third = Listening::start(data.path(), &[]).await;
    let line = third.server.logs("session recovered").expect("it says so");
    assert!(line["tick"].as_u64() >= Some(recovered) && line["epoch"].as_u64() == Some(2), "{line}");
}

#[tokio::test]
async fn what_cannot_go_on_is_set_aside_and_the_server_starts_all_the_same() {
    let data = data();
    let directory = data.path().join("recordings");
    let mut first = Listening::start(data.path(), &["--sessions", "4"]).await;
    for name in first.sessions().await {
        first.until(&name, |session| session.tick > 30).await;
    }
    first.server.kill();
    let [forged, headless, died, _sound] = files(data.path()).try_into().expect("four");
    // Another build's: its ticks come out otherwise.
    let whole = Recording::open(&forged).expect("a recording");
    let meta = RecordingMeta { seed: whole.meta().seed + 1, ..whole.meta().clone() };
    let ticks = whole.ticks().expect("readable").map(|tick| tick.expect("sound")).collect::<Vec<_>>();
    let mut writer = Writer::new(fs::File::create(&forged).expect("a disk"), &meta, Layout::Live).expect("a disk");
    for tick in &ticks {
        writer.tick_input(&tick.input).expect("a disk");
        let mut result = tick.result.clone().expect("a result");
        result.state_hash ^= u64::from(tick.input.tick.0 == 7);
        writer.tick_result(&result).expect("a disk");
    }
    writer.finish().expect("a disk");
    fs::write(&headless, b"no recording").expect("a disk");
    let note = died.to_string_lossy().replace(".live.mcap", ".attempt");
    let left = format!("suspect={:020} deaths={:020} restoring={:020} now={:020}\n", 20, 2, 0, 20);
    fs::write(&note, left).expect("a disk");
    // Of a game that no program has.
    let strange = SchemaParts { game: "strange".into(), ..SchemaParts::default() };
    let schema = Arc::new(Schema::new(strange).expect("valid"));
    let meta = RecordingMeta { session: "sessions/strange-1".into(), schema, ..meta };
    let file = fs::File::create(live_path(&directory, "strange-1")).expect("a disk");
    Writer::new(file, &meta, Layout::Live).and_then(Writer::finish).expect("a disk");

    let server = Listening::start(data.path(), &["--sessions", "4"]).await;
    let mut epochs = Vec::new();
    for name in server.sessions().await {
        epochs.push(server.session(&name).await.epoch);
    }
    assert_eq!(epochs, [0, 0, 0, 1], "three have new ones in their places");
    let listed = run(&["recordings", "list", "--data-dir"], data.path()).1;
    let reasons = [
        "the replay diverges at tick 7",
        "not a Tickwire recording",
        "the server has died 3 times while tick 20 was played again",
        "the recording is of the game \"strange\"",
    ];
    for reason in reasons {
        assert!(listed.contains(reason), "{reason:?} is not in\n{listed}");
    }
    // Each says how it is seen again.
    let aside = server.server.logged("an unfinished recording is set aside");
    let diverges = aside.iter().find(|line| line["reason"].as_str().is_some_and(|reason| reason.contains("tick 7")));
    let replay = diverges.and_then(|line| line["replay"].as_str()).expect("a command");
    let seen = unaware(Command::new("sh")).args(["-c", replay]).output().expect("there is a shell");
    assert!(!seen.status.success() && stderr(&seen).contains("the replay diverges at tick 7"), "{}", stderr(&seen));
    let names = files(data.path());
    let count = |ending: &str| names.iter().filter(|name| name.to_string_lossy().ends_with(ending)).count();
    assert_eq!((count(".set-aside.mcap"), count(".set-aside.txt"), count(".attempt")), (4, 4, 0), "{names:?}");
}

#[tokio::test]
async fn a_kill_amid_a_recovery_is_no_loss() {
    let data = data();
    let mut first = Listening::start(data.path(), &[]).await;
    let _ada = take_a_seat(&first.channel).await;
    let session = first.until(ARENA_1, |session| session.tick > 200).await;
    first.server.kill();
    for _ in 0..8 {
        let mut server = Server::spawn(data.path(), &["--listen", "127.0.0.1:0"]);
        server.logs("recovering a session that a killed server has left").expect("it finds it");
        server.kill();
    }
    let mut last = Listening::start(data.path(), &[]).await;
    let there = last.session(ARENA_1).await;
    assert!(there.epoch >= 1 && there.tick + 1 >= session.tick, "{there:?}");
    assert_eq!(there.players, 1);
    last.server.end();
    assert!(verified(&only_recording(data.path())).ticks >= there.tick);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_while_a_segments_keyframe_is_restored_are_no_loss() {
    let data = data();
    let mut server = Listening::start(data.path(), SEGMENTS).await;
    let swarm = Swarm::start(&format!("http://{}", server.address), 12, 19);
    let deadline = Instant::now() + PATIENCE;
    while newest_segment(data.path()) < 3 {
        assert!(Instant::now() < deadline, "the recording does not go on in other files");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    server.server.kill();
    swarm.end();
    // What so many kills leave that come just then: fewer than lose time, and many more.
    for (epoch, deaths) in [(1, 1), (2, 2), (3, 4), (4, 6), (5, 40)] {
        let live = files(data.path()).into_iter().rfind(|file| file.to_string_lossy().ends_with(".live.mcap"));
        let live = live.expect("there is one");
        assert!(Recording::open(&live).expect("a recording").meta().segment.number >= 3);
        let note = live.to_string_lossy().replace(".live.mcap", ".attempt");
        let left = format!("suspect={:020} deaths={:020} restoring={:020} now={:020}\n", 0, 0, deaths - 1, u64::MAX);
        fs::write(&note, left).expect("a disk");
        let mut next = Listening::start(data.path(), SEGMENTS).await;
        next.server.logs("session recovered").expect("it says so");
        assert_eq!(next.session(ARENA_1).await.epoch, epoch, "after {deaths} deaths");
        next.server.kill();
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_that_the_disk_has_lost_is_set_aside_and_one_that_cannot_be_opened_keeps_its_sessions_name() {
    use std::os::unix::fs::symlink;

    let data = data();
    Listening::start(data.path(), &[]).await.server.end();
    let lost = live_path(&data.path().join("recordings"), "arena-1-lost");
    // Whoever reads its own memory from 0 on is told that it is not there: EIO.
    symlink("/proc/self/mem", &lost).expect("a disk");
    let mut server = Listening::start(data.path(), &[]).await;
    let line = server.server.logs("an unfinished recording is set aside").expect("it says so");
    assert!(line["reason"].as_str().is_some_and(|reason| reason.contains("os error 5")), "{line}");
    assert_eq!(server.session(ARENA_1).await.epoch, 0);
    server.server.end();
    assert!(!lost.is_symlink());

    let unknown = live_path(&data.path().join("recordings"), "arena-1-unknown");
    symlink(&unknown, &unknown).expect("a disk");
    let before = files(data.path());
    let mut server = Server::spawn(data.path(), &["--listen", "127.0.0.1:0"]);
    assert_ne!(server.wait().code(), Some(0), "nobody knows whose it is");
    assert_eq!(files(data.path()), before, "no new session takes its place");
}
