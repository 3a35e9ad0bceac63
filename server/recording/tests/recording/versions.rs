//! Recordings of other versions: older ones are read and replay, later ones are refused by name.

use std::{collections::BTreeMap, fs, io::Cursor, path::Path, sync::Arc};

use prost::Message as _;
use tickwire_arena::Arena;
use tickwire_proto::v1::RecordingHeader;
use tickwire_recording::{
    EndReason, FORMAT_VERSION, Layout, RecordedTick, Recording, RecordingError, RecordingState, ReplayError,
    VerifyError, Writer, live_path, repair, verify,
};

use crate::{damaged::messages, game::play_match};

/// The same match, written by servers of earlier formats. They are never made again.
fn older_formats() -> [Vec<u8>; 2] {
    ["format-1.mcap", "format-2.mcap"].map(|name| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recordings").join(name);
        fs::read(path).expect("it is in the repository")
    })
}

fn ticks(recording: &Recording) -> Vec<RecordedTick> {
    recording.ticks().expect("readable").map(|tick| tick.expect("whole")).collect()
}

fn header(mcap: &[u8]) -> RecordingHeader {
    let mut messages = mcap::MessageStream::new(mcap).expect("an MCAP file");
    let first = messages.next().expect("a message").expect("whole");
    RecordingHeader::decode(&*first.data).expect("a header")
}

#[test]
fn recordings_of_older_formats_are_read_to_their_end_and_repaired() {
    for (version, bytes) in (1..).zip(older_formats()) {
        assert_eq!((header(&bytes).format_version, header(&bytes).crc32 != 0), (version, version > 1));
        let recording = Recording::from_bytes(bytes.clone()).expect("it is read");
        let summary = recording.scan();
        let ended = RecordingState::Complete(EndReason::Ended { result_json: String::new() });
        assert_eq!((summary.ticks, &summary.state), (200, &ended));
        assert_eq!(recording.summary(), summary);

        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("old.mcap");
        fs::write(&path, &bytes[..bytes.len() / 2]).expect("a writable directory");
        let repaired = repair(&path).expect("its beginning is readable");
        let (whole, half) = (ticks(&recording), ticks(&Recording::open(&repaired.path).expect("it is read")));
        assert!(half.len() > 50 && half == whole[..half.len()], "{} ticks", half.len());
        assert_eq!(header(&fs::read(&repaired.path).expect("readable")).format_version, FORMAT_VERSION);
    }
}

#[test]
fn all_formats_tell_the_same_match() {
    let all = older_formats().map(|bytes| Recording::from_bytes(bytes).expect("it is read"));
    let first = ticks(&all[0]);
    assert!(first == ticks(&all[1]));
    let mut writer = Writer::new(Cursor::new(Vec::new()), all[0].meta(), Layout::Finished).expect("memory");
    for RecordedTick { input, result } in &first {
        writer.tick_input(input).expect("memory");
        writer.tick_result(result.as_ref().expect("whole")).expect("memory");
    }
    let newest = writer.finish().expect("memory").into_inner();
    assert!(newest.len() < older_formats()[1].len() * 2 / 3, "{} bytes", newest.len());
    assert!(first == ticks(&Recording::from_bytes(newest).expect("it is read")));
}

#[test]
fn a_live_recording_of_the_second_format_becomes_a_finished_one_of_the_newest() {
    let played = play_match(40);
    let mut live = played.bytes(Layout::Live);
    // Its records are the same: only the header says another version.
    let data = messages(&live)[0].clone();
    let second = RecordingHeader {
        format_version: 2,
        crc32: 0,
        ..RecordingHeader::decode(&live[data.clone()]).expect("a header")
    };
    let mut second = second.encode_to_vec();
    let crc32 = crc32fast::hash(&second);
    second.extend([15 << 3 | 5]);
    second.extend(crc32.to_le_bytes());
    assert_eq!(second.len(), data.len());
    live[data].copy_from_slice(&second);

    let directory = tempfile::tempdir().expect("a directory");
    let path = live_path(directory.path(), "old");
    fs::write(&path, live).expect("a writable directory");
    let summary = Recording::open(&path).expect("it is read").scan();
    let repaired = repair(&path).expect("it is whole");
    assert_eq!(header(&fs::read(&repaired.path).expect("readable")).format_version, FORMAT_VERSION);
    let finished = Recording::open(&repaired.path).expect("it is read");
    assert_eq!((finished.scan(), finished.summary()), (summary.clone(), summary));
    assert!(ticks(&finished) == ticks(&played.recording()));
}

#[test]
fn they_replay_or_say_which_version_would() {
    for bytes in older_formats() {
        let recording = Recording::from_bytes(bytes).expect("it is read");
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
