//! What an admin does from the shell to one player, looks at for longer, and ends at once.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    time::Duration,
};

use serde_json::Value as Json;
use tickwire_client::{Chat, ChatEvent, ChatTo, ChatToken, Client, Event, JoinOptions};
use tickwire_proto::v1::{ChatRejection, GoodbyeReason};
use tokio::time::{sleep, timeout};

use super::{
    Running,
    program::{command, stderr, stdout},
};

/// Nothing on one machine takes so long.
const PATIENCE: Duration = Duration::from_secs(30);

async fn player(server: &Running) -> Client {
    Client::connect(&server.url, &JoinOptions::default()).await.expect("it is let in")
}

/// Says something: whether others hear it, or why not.
async fn say(chat: &mut Chat) -> Result<(), (ChatRejection, u64)> {
    chat.say(ChatTo::Everyone, "hello", 1);
    let told = async {
        loop {
            match chat.next().await.expect("it goes on") {
                Some(ChatEvent::Line(_)) => return Ok(()),
                Some(ChatEvent::Rejected(rejected)) => return Err((rejected.reason(), rejected.retry_after_ms)),
                Some(_) => {}
                None => panic!("it ends"),
            }
        }
    };
    timeout(PATIENCE, told).await.expect("it is told")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mute_ends_when_its_time_is_over_or_when_an_admin_says_so() {
    let server = Running::start(&[]);
    let client = player(&server).await;
    let token = ChatToken::Player(client.core().chat_token().to_vec());
    let mut chat = Chat::connect(&server.url, token).await.expect("it has a seat");
    say(&mut chat).await.expect("nobody is muted");

    let muted = server.admin(&["mute", "arena-1", "1"]);
    assert!(muted.status.success(), "{}", stderr(&muted));
    assert_eq!(say(&mut chat).await, Err((ChatRejection::Silenced, 0)), "until further notice");
    assert!(server.admin(&["unmute", "arena-1", "1"]).status.success());
    say(&mut chat).await.expect("it may talk again");

    assert!(server.admin(&["mute", "arena-1", "1", "--for", "3s"]).status.success());
    let Err((ChatRejection::Silenced, left_ms)) = say(&mut chat).await else { panic!("it is muted") };
    assert!((1..=3000).contains(&left_ms), "{left_ms} of 3 s");
    let heard = async {
        loop {
            match say(&mut chat).await {
                Ok(()) => break,
                // Whoever tries again sooner is sent away.
                Err((ChatRejection::Silenced, left_ms)) => sleep(Duration::from_millis(left_ms.max(1))).await,
                Err(other) => panic!("{other:?}"),
            }
        }
    };
    timeout(PATIENCE, heard).await.expect("its time is over");
    let nobody = server.admin(&["mute", "arena-1", "9"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(stderr(&nobody).contains("NOT_FOUND"), "{}", stderr(&nobody));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_of_a_player_keeps_out_where_they_come_from() {
    let server = Running::start(&[]);
    let mut client = player(&server).await;
    let banned = server.json(&["ban", "arena-1", "1", "--for", "1h", "--reason", "cheats"]);
    assert_eq!((&banned["network"], &banned["reason"]), (&Json::from("127.0.0.1/32"), &Json::from("cheats")));
    let reason = loop {
        match client.next().await.expect("it is told") {
            Some(Event::Goodbye { reason, .. }) => break reason,
            Some(_) => {}
            None => panic!("it ends without a goodbye"),
        }
    };
    assert_eq!(reason, GoodbyeReason::Banned);
    drop(client);
    Client::connect(&server.url, &JoinOptions::default()).await.map(drop).expect_err("it is kept out");
    // Admins come another way.
    assert!(stdout(&server.admin(&["bans"])).contains("127.0.0.1/32"));
    assert!(server.admin(&["unban", "127.0.0.1/32"]).status.success());
    player(&server).await;
}

/// A command that goes on. Dropped, it is ended.
struct GoesOn(Child);

impl Drop for GoesOn {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn statistics_that_are_watched_come_again_and_again() {
    let mut server = Running::start(&[]);
    let watch = ["admin", "stats", "--watch", "--interval", "100ms", "--json", "--data-dir"];
    let mut watch = command().args(watch).arg(server.data.path()).stdout(Stdio::piped()).spawn().expect("it runs");
    let lines = BufReader::new(watch.stdout.take().expect("it is piped")).lines();
    let _watch = GoesOn(watch);
    let mut ticks = lines.map(|line| {
        let stats: Json = serde_json::from_str(&line.expect("UTF-8")).expect("a value a line");
        stats["sessions"][0]["tick"].as_u64().expect("a tick")
    });
    let seen: Vec<u64> = ticks.by_ref().take(4).collect();
    assert!(seen.len() == 4 && seen.is_sorted() && seen[0] < seen[3], "{seen:?}");
    server.signal("-TERM");
    assert_eq!(server.code(), Some(0), "a stream of statistics holds up no end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_program_at_once() {
    let mut server = Running::start(&["--drain-seconds", "3600"]);
    let client = player(&server).await;
    server.signal("-TERM");
    // Those that come close behind the first are the same one.
    while server.child.try_wait().expect("it is a child").is_none() {
        server.signal("-TERM");
    }
    assert_eq!(server.code(), Some(130), "{:?} plays on", client.core().player());
}
