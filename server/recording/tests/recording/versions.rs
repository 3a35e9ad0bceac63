//! Recordings of other versions: older ones are read and replay, later ones are refused by name.

use std::{collections::BTreeMap, fs, io::Cursor, path::Path, sync::Arc};

use prost::Message as _;
use tickwire_arena::Arena;
use tickwire_proto::v1::RecordingHeader;
use tickwire_recording::{
    EndReason, FORMAT_VERSION, Layout, RecordedTick, Recording, RecordingError, RecordingState, ReplayError,
    VerifyError, repair, verify,
};

use crate::game::play_match;

/// Written by a server of the first format. It is never made again.
fn first_format() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recordings/format-1.mcap");
    fs::read(path).expect("it is in the repository")
}

fn header(mcap: &[u8]) -> RecordingHeader {
    let mut messages = mcap::MessageStream::new(mcap).expect("an MCAP file");
    let first = messages.next().expect("a message").expect("whole");
    RecordingHeader::decode(&*first.data).expect("a header")
}

#[test]
fn a_recording_of_the_first_format_is_read_to_its_end_and_repaired() {
    let bytes = first_format();
    assert_eq!((header(&bytes).format_version, header(&bytes).crc32), (1, 0));
    let recording = Recording::from_bytes(bytes.clone()).expect("it is read");
    let summary = recording.scan();
    assert_eq!(
        (summary.ticks, &summary.state),
        (200, &RecordingState::Complete(EndReason::Ended { result_json: String::new() }))
    );
    assert_eq!(recording.summary(), summary);

    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("old.mcap");
    fs::write(&path, &bytes[..bytes.len() / 2]).expect("a writable directory");
    let repaired = repair(&path).expect("its beginning is readable");
    let ticks = |recording: &Recording| -> Vec<RecordedTick> {
        recording.ticks().expect("readable").map(|tick| tick.expect("whole")).collect()
    };
    let (whole, half) = (ticks(&recording), ticks(&Recording::open(&repaired.path).expect("it is read")));
    assert!(half.len() > 50 && half == whole[..half.len()], "{} ticks", half.len());
}

#[test]
fn it_replays_or_says_which_version_would() {
    let recording = Recording::from_bytes(first_format()).expect("it is read");
    match verify(&recording, Arc::new(Arena)) {
        Ok(verified) => assert_eq!(verified.ticks, 200),
        // Once the arena is another game.
        Err(error @ VerifyError::Replay { source: ReplayError::Schema { .. }, .. }) => {
            let text = error.to_string();
            assert!(text.contains("replay it with the version that made it"), "{text}");
        }
        Err(error) => panic!("a change of the arena that changes matches needs another version of it: {error}"),
    }
}

#[test]
fn a_recording_of_a_later_format_is_refused_with_both_versions() {
    let sound = play_match(5).bytes(Layout::Finished);
    let later = FORMAT_VERSION + 1;
    let mut writer = mcap::WriteOptions::new().create(Cursor::new(Vec::new())).expect("memory");
    for message in mcap::MessageStream::new(&sound).expect("an MCAP file") {
        let message = message.expect("whole");
        let schema = message.channel.schema.as_ref().expect("each has one");
        let schema = writer.add_schema(&schema.name, &schema.encoding, &schema.data).expect("memory");
        let channel_id =
            writer.add_channel(schema, &message.channel.topic, "protobuf", &BTreeMap::new()).expect("memory");
        let mut data = message.data.to_vec();
        if message.channel.topic == "header" {
            data = RecordingHeader { format_version: later, crc32: 0, ..header(&sound) }.encode_to_vec();
        }
        let header = mcap::records::MessageHeader { channel_id, sequence: 0, log_time: 0, publish_time: 0 };
        writer.write_to_known_channel(&header, &data).expect("memory");
    }
    writer.finish().expect("memory");
    let error = Recording::from_bytes(writer.into_inner().into_inner()).expect_err("it is of a later version");
    assert!(matches!(error, RecordingError::FormatVersion { found } if found == later), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!("the recording's format version is {later}; this version of Tickwire reads 1 to {FORMAT_VERSION}")
    );
}
