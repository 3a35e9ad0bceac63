//! Files that are not what they should be: a clear error and the readable part, whatever is wrong with them.

use std::{collections::BTreeMap, io::Cursor, sync::OnceLock};

use proptest::prelude::*;
use tickwire_recording::{Layout, RecordedTick, Recording, RecordingError};

use crate::game::play_match;

const TICKS: u64 = 70;

/// The same match in both forms, and its ticks.
fn files() -> &'static ([Vec<u8>; 2], Vec<RecordedTick>) {
    static FILES: OnceLock<([Vec<u8>; 2], Vec<RecordedTick>)> = OnceLock::new();
    FILES.get_or_init(|| {
        let played = play_match(TICKS);
        let ticks = played.ticks.iter().cloned().map(|(input, result)| RecordedTick { input, result }).collect();
        ([Layout::Live, Layout::Finished].map(|layout| played.bytes(layout)), ticks)
    })
}

/// Reads all that can be read; whatever is read must be what was recorded.
fn check(bytes: Vec<u8>) -> (u64, Option<RecordingError>) {
    let (_, ticks) = files();
    let recording = match Recording::from_bytes(bytes) {
        Ok(recording) => recording,
        Err(error) => return (0, Some(error)),
    };
    let summary = recording.summary();
    assert!(summary.ticks <= TICKS || summary.state != tickwire_recording::RecordingState::Unfinished);
    let (mut whole, mut broken) = (0, None);
    for (i, tick) in recording.ticks().expect("memory").enumerate() {
        match tick {
            Ok(tick) => {
                assert!(broken.is_none(), "a tick after an error");
                assert_eq!(tick.input, ticks[i].input);
                if tick.result.is_some() {
                    assert_eq!(tick.result, ticks[i].result);
                    whole += 1;
                }
            }
            Err(error) => {
                assert!(broken.is_none(), "a second error");
                assert!(!error.to_string().is_empty());
                broken = Some(error);
            }
        }
    }
    (whole, broken)
}

#[test]
fn every_cut_of_a_live_recording_leaves_a_readable_beginning() {
    // The beginning of the match that `check` compares with.
    let live = play_match(20).bytes(Layout::Live);
    let header = (0..live.len()).find(|&cut| Recording::from_bytes(&live[..cut]).is_ok()).expect("a header");
    let mut before = 0;
    for cut in header..live.len() {
        let (whole, broken) = check(live[..cut].to_vec());
        assert!(whole == before || whole == before + 1, "{whole} ticks of {cut} bytes");
        before = whole;
        if let Some(error) = broken {
            assert!(matches!(error, RecordingError::Truncated { after } if after.0 == whole), "{error:?}");
        }
    }
    assert_eq!(before, 20);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_gets_through_and_none_panics(
        form in 0..2_usize,
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = files().0[form].clone();
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()) + 1);
        }
        for (at, mask) in flips {
            let i = at.index(bytes.len());
            bytes[i] ^= mask;
        }
        check(bytes);
    }

    #[test]
    fn lengths_and_counts_may_say_anything(
        form in 0..2_usize, at in any::<prop::sample::Index>(), value in prop_oneof![any::<u64>(), Just(u64::MAX)]
    ) {
        let mut bytes = files().0[form].clone();
        let i = at.index(bytes.len() - 8);
        bytes[i..i + 8].copy_from_slice(&value.to_le_bytes());
        check(bytes);
    }

    #[test]
    fn any_bytes_are_no_recording(mut bytes in prop::collection::vec(any::<u8>(), 0..300), magic in any::<bool>()) {
        if magic {
            bytes.splice(0..0, *b"\x89MCAP0\r\n");
        }
        prop_assert!(Recording::from_bytes(bytes).is_err());
    }
}

#[test]
fn what_is_no_recording_is_called_so() {
    let error = |bytes: &[u8]| Recording::from_bytes(bytes).expect_err("no recording").to_string();
    assert_eq!(error(b""), "not a Tickwire recording: it has no records");
    assert_eq!(error(b"hello, world"), "not a Tickwire recording: it is not an MCAP file");
    assert_eq!(error(&alien(&[])), "not a Tickwire recording: it has no records");
    let missing = Recording::open("no/such.mcap").expect_err("no file").to_string();
    assert!(missing.starts_with("no/such.mcap: "), "{missing}");
}

#[test]
fn a_header_of_another_time_is_named() {
    let error = |header: &[u8]| Recording::from_bytes(alien(&[header])).expect_err("no recording").to_string();
    assert_eq!(error(&[8, 4]), "the recording's format version is 4; this version of Tickwire reads 1 to 3");
    assert_eq!(error(&[8, 1]), "the recording's header: schema: missing");
    assert!(error(&[8]).starts_with("the recording's header: "));
    for version in [2, 3] {
        assert!(error(&[8, version]).starts_with("the recording's header: the checksum is "));
    }
}

/// Where the messages of a live file are that are neither a tick's input nor its result: header, and end.
fn first_and_last_message(live: &[u8]) -> [std::ops::Range<usize>; 2] {
    let messages = crate::damaged::messages(live);
    [messages[0].clone(), messages[messages.len() - 1].clone()]
}

#[test]
fn a_changed_byte_of_header_or_end_is_noticed() {
    let live = play_match(3).bytes(Layout::Live);
    let [header, end] = first_and_last_message(&live);
    for i in header.chain(end) {
        for mask in [1, 2, 0x80] {
            let mut bytes = live.clone();
            bytes[i] ^= mask;
            let noticed = match Recording::from_bytes(bytes) {
                Err(_) => true,
                Ok(recording) => recording.ticks().expect("memory").any(|tick| tick.is_err()),
            };
            assert!(noticed, "byte {i}, {mask:#x}");
        }
    }
}

#[test]
fn messages_on_topics_of_later_versions_are_skipped() {
    let played = play_match(3);
    let live = played.bytes(Layout::Live);
    let mut alien = mcap::WriteOptions::new().use_chunks(false).create(Cursor::new(Vec::new())).expect("memory");
    let mut counts = [0; 2];
    let ends_anywhere = mcap::read::Options::IgnoreEndMagic.into();
    for message in mcap::MessageStream::new_with_options(&live, ends_anywhere).expect("sound") {
        let message = message.expect("sound");
        let schema = message.channel.schema.as_ref().expect("each has one");
        let schema = alien.add_schema(&schema.name, &schema.encoding, &schema.data).expect("memory");
        for topic in [message.channel.topic.as_str(), "keyframe"] {
            let channel_id = alien.add_channel(schema, topic, "protobuf", &BTreeMap::new()).expect("memory");
            let (log_time, publish_time) = (message.log_time, message.publish_time);
            let header = mcap::records::MessageHeader { channel_id, sequence: 0, log_time, publish_time };
            alien.write_to_known_channel(&header, &message.data).expect("memory");
        }
        counts[0] += 1;
    }
    alien.flush().expect("memory");
    let recording = Recording::from_bytes(alien.into_inner().into_inner()).expect("a recording");
    for tick in recording.ticks().expect("memory") {
        counts[1] += 2 * u64::from(tick.expect("sound").result.is_some());
    }
    // Two messages for a tick, and header and end.
    assert_eq!((counts, recording.summary().ticks), ([8, 6], 3));
}

/// An MCAP file with the given messages where a recording has its header.
fn alien(headers: &[&[u8]]) -> Vec<u8> {
    let mut writer = mcap::WriteOptions::new().use_chunks(false).create(Cursor::new(Vec::new())).expect("memory");
    let schema = writer.add_schema("tickwire.v1.RecordingHeader", "protobuf", &[]).expect("memory");
    let channel_id = writer.add_channel(schema, "header", "protobuf", &BTreeMap::new()).expect("memory");
    for header in headers {
        let message = mcap::records::MessageHeader { channel_id, sequence: 0, log_time: 0, publish_time: 0 };
        writer.write_to_known_channel(&message, header).expect("memory");
    }
    writer.finish().expect("memory");
    writer.into_inner().into_inner()
}
