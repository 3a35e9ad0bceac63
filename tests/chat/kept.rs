//! What is kept of it: in recordings, and over a crash.

use std::{path::PathBuf, sync::Arc};

use tempfile::TempDir;
use tickwire_arena::Arena;
use tickwire_proto::v1::{self as pb, ChatChannel};
use tickwire_recording::{ChatRecord, ExportPart, Recording, Selection, Verified, export, export_csv, verify};
use tickwire_server::{RecordingConfig, ServerConfig};
use tickwire_shared::PlayerId;

use super::{chatty, talker::Guest};
use crate::{
    harness::{TestServer, Witness, hello},
    hosting::unfinish,
};

async fn recording_server(directory: &TempDir, change: impl FnOnce(&mut RecordingConfig)) -> TestServer {
    let mut recording = RecordingConfig::default();
    change(&mut recording);
    let recordings = Some(directory.path().to_owned());
    TestServer::arena(ServerConfig { recordings, recording, ..chatty(|_| {}) }).await
}

/// Lets Ada and Bob talk, and ends the server: the file that there is.
async fn talk(server: TestServer, directory: &TempDir) -> PathBuf {
    let mut witness = Witness::join(&server).await;
    let ada = Guest::join(&server, pb::Hello { player_name: "Ada".into(), ..hello() }).await;
    let mut bob = Guest::join(&server, pb::Hello { player_name: "Bob".into(), ..hello() }).await;
    ada.talker.say("hi all").await;
    bob.talker.line().await;
    let direct =
        pb::ChatSay { channel: ChatChannel::Direct.into(), to_player: 2, text: "psst".into(), ..Default::default() };
    bob.talker.say_with(direct).await;
    assert_eq!(bob.talker.line().await.text, "psst");
    witness.plays_on().await;
    // Of what is said last there is no tick any more, or there is.
    ada.talker.say("bye").await;
    bob.talker.line().await;
    server.stop().await;
    let [listed] = tickwire_recording::list(directory.path()).expect("it is there").try_into().expect("one recording");
    listed.path
}

fn replay(recording: &Recording) -> Verified {
    verify(recording, Arc::new(Arena)).expect("it replays as it was")
}

fn chat(recording: &Recording) -> Vec<ChatRecord> {
    recording.chat().expect("it opens").collect::<Result<_, _>>().expect("it is sound")
}

#[tokio::test]
async fn what_was_said_is_recorded_with_its_tick_and_the_match_replays_as_if_it_had_not_been() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = talk(recording_server(&directory, |_| {}).await, &directory).await;
    let recording = Recording::open(&path).expect("it is a recording");
    let lines = chat(&recording);
    let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts, ["hi all", "psst", "bye"]);
    assert_eq!(lines.iter().map(|line| line.id).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(lines.windows(2).all(|pair| pair[0].tick <= pair[1].tick) && lines[0].tick.0 > 0);
    let psst = &lines[1];
    assert_eq!((psst.from, psst.from_name.as_str(), psst.to), (Some(PlayerId(3)), "Bob", Some(PlayerId(2))));
    assert!(replay(&recording).ticks > 0);

    // Exported beside the rest, or alone, and of some players only.
    let exported = |selection: &Selection| {
        let mut out = Vec::new();
        export(&recording, selection, &mut out).expect("it is readable");
        String::from_utf8(out).expect("JSON is UTF-8")
    };
    let of_type =
        |text: &str, kind: &str| text.lines().filter(|line| line.contains(&format!(r#""type":"{kind}""#))).count();
    let all = exported(&Selection::default());
    assert_eq!(of_type(&all, "chat"), 3);
    assert!(of_type(&all, "input") > 0);
    let only_chat = Selection { parts: [ExportPart::Chat].into(), ..Selection::default() };
    let alone = exported(&only_chat);
    assert_eq!((of_type(&alone, "chat"), of_type(&alone, "input")), (3, 0));
    assert!(alone.contains(r#""text":"psst""#) && alone.contains(r#""channel":"direct""#), "{alone}");
    let bobs = Selection { players: vec![PlayerId(3)], ..only_chat.clone() };
    assert_eq!(of_type(&exported(&bobs), "chat"), 1);
    let mut table = Vec::new();
    export_csv(&recording, ExportPart::Chat, &only_chat, &mut table).expect("it is readable");
    let table = String::from_utf8(table).expect("UTF-8");
    assert!(table.starts_with("tick,seconds,id,unix_seconds,player,name,channel,to,team,text\n"), "{table}");
    assert_eq!(table.lines().count(), 4);
}

#[tokio::test]
async fn what_is_said_stays_out_of_recordings_where_the_operator_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = talk(recording_server(&directory, |recording| recording.chat = false).await, &directory).await;
    let recording = Recording::open(&path).expect("it is a recording");
    assert_eq!(chat(&recording), []);
    replay(&recording);
}

#[tokio::test]
async fn after_a_crash_the_room_goes_on_where_the_recording_has_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = talk(recording_server(&directory, |_| {}).await, &directory).await;
    unfinish(&path);
    let server = recording_server(&directory, |recording| recording.recovery = true).await;
    let mut eve = Guest::join(&server, hello()).await;
    let history: Vec<(u64, &str)> = eve.chat.history.iter().map(|line| (line.id, line.text.as_str())).collect();
    // What two had among themselves is not for her, and ids go on behind all that may have been said before.
    assert_eq!(history, [(1, "hi all"), (3, "bye")]);
    eve.talker.say("I am new").await;
    const NEXT_EPOCH: u64 = 1 << 32;
    assert_eq!(eve.talker.line().await.id, NEXT_EPOCH + 1);
    server.stop().await;
    let [listed] = tickwire_recording::list(directory.path()).expect("it is there").try_into().expect("one recording");
    let recording = Recording::open(&listed.path).expect("it is a recording");
    assert_eq!(chat(&recording).iter().map(|line| line.id).collect::<Vec<_>>(), [1, 2, 3, NEXT_EPOCH + 1]);
    replay(&recording);
}
