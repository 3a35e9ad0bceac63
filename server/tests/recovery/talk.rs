//! What was said in a match that is killed when its recording has gone on to another file since.

use std::{path::Path, time::Instant};

use tickwire_client::{Chat, ChatEvent, ChatTo, Client, JoinOptions};
use tickwire_recording::Recording;
use tokio::time::timeout;

use crate::{
    kill::respawn,
    program::{data, files},
    server::{LOOK_INTERVAL, Listening, PATIENCE},
    swarm::Swarm,
};

pub(crate) const ARGUMENTS: &[&str] = &["--segment-bytes", "65536", "--keyframe-seconds", "1"];

/// The number of the newest segment that can be read.
pub(crate) fn newest_segment(data: &Path) -> u32 {
    let numbers = files(data).into_iter().filter_map(|file| Some(Recording::open(file).ok()?.meta().segment.number));
    numbers.max().unwrap_or_default()
}

/// Lines with their ids.
type Lines = Vec<(u64, String)>;

/// Somebody who has not been there before: what they are told was said.
async fn come_in(url: &str) -> (Client, Chat, Lines) {
    let mut client = Client::connect(url, &JoinOptions::default()).await.expect("a seat is free");
    let chat = client.chat().await.expect("players talk");
    let lines = chat.welcome().history.iter().map(|line| (line.id, line.text.clone())).collect();
    (client, chat, lines)
}

async fn say(chat: &mut Chat, text: &str) -> (u64, String) {
    chat.say(ChatTo::Everyone, text, 1);
    match timeout(PATIENCE, chat.next()).await.expect("it comes").expect("the stream goes on").expect("it goes on") {
        ChatEvent::Line(line) => (line.id, line.text),
        other => panic!("{other:?} instead of a line"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_and_the_ids_of_lines_outlive_kills_whatever_file_the_match_is_in() {
    let data = data();
    let mut server = Listening::start(data.path(), ARGUMENTS).await;
    let (address, url) = (server.address.clone(), format!("http://{}", server.address));
    let swarm = Swarm::start(&url, 12, 17);
    let mut said = Lines::new();
    for round in 0..3 {
        let (_client, mut chat, told) = come_in(&url).await;
        assert_eq!(told, said, "round {round}");
        for text in [format!("round {round}"), format!("{round} is the round")] {
            said.push(say(&mut chat, &text).await);
        }
        // The file in which that stands is finished, and so is the next one, in which nobody has said anything.
        let (before, deadline) = (newest_segment(data.path()), Instant::now() + PATIENCE);
        while newest_segment(data.path()) < before + 2 {
            assert!(Instant::now() < deadline, "the recording does not go on in other files");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        server.server.kill();
        server = respawn(data.path(), &address, ARGUMENTS).listening().await;
    }
    let (client, chat, told) = come_in(&url).await;
    assert_eq!(told, said);
    assert!(said.is_sorted_by(|(one, _), (next, _)| one < next), "{said:?}");
    drop((chat, client));
    swarm.end();
    server.server.end();
}
