//! Which recordings stay, and what a killed process leaves.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tickwire_recording::{Layout, Retained, Retention, finished_path, live_path, retain, tidy};

use crate::{game::play_match, names_in};

const NOW: SystemTime = SystemTime::UNIX_EPOCH;
const HOUR: Duration = Duration::from_secs(3600);

/// Finished recordings of these ages in hours, by name, and the size of each.
fn recordings(directory: &Path, ages: &[(&str, u32)]) -> u64 {
    let bytes = play_match(60).bytes(Layout::Finished);
    for (name, hours) in ages {
        put(&finished_path(directory, name), &bytes, *hours);
    }
    bytes.len() as u64
}

fn put(path: &Path, bytes: &[u8], hours: u32) {
    fs::write(path, bytes).expect("a writable directory");
    let file = File::options().write(true).open(path).expect("it is there");
    file.set_modified(now() - HOUR * hours).expect("a file system with times");
}

fn now() -> SystemTime {
    NOW + HOUR * 1_000_000
}

#[test]
fn the_oldest_go_first_until_the_rest_is_within_the_limits() {
    for (retention, left) in [
        (|_| Retention::UNLIMITED, ["a.mcap", "b.mcap", "c.mcap", "d.mcap"].as_slice()),
        (|_| Retention { count_max: 2, ..Retention::UNLIMITED }, &["a.mcap", "c.mcap"]),
        (|size| Retention { bytes_max: 3 * size, ..Retention::UNLIMITED }, &["a.mcap", "b.mcap", "c.mcap"]),
        (|size| Retention { bytes_max: 3 * size - 1, ..Retention::UNLIMITED }, &["a.mcap", "c.mcap"]),
        (|_| Retention { age_max: Some(HOUR * 3), ..Retention::UNLIMITED }, &["a.mcap", "c.mcap"]),
        (|_| Retention { bytes_max: 0, ..Retention::UNLIMITED }, &[]),
    ] as [(fn(u64) -> Retention, &[&str]); 6]
    {
        let directory = tempfile::tempdir().expect("a directory");
        let size = recordings(directory.path(), &[("a", 1), ("b", 4), ("c", 2), ("d", 9)]);
        let deleted = retain(directory.path(), &retention(size), now()).expect("a directory").deleted;
        assert_eq!(names_in(directory.path()), left);
        assert_eq!(deleted.len(), 4 - left.len());
        assert!(deleted.iter().all(|(_, bytes)| *bytes == size));
        assert!(deleted.first().is_none_or(|(path, _)| path.ends_with("d.mcap")), "the oldest first: {deleted:?}");
    }
}

#[test]
fn what_is_not_finished_stays_and_counts() {
    let directory = tempfile::tempdir().expect("a directory");
    let size = recordings(directory.path(), &[("a", 1), ("b", 2)]);
    let live = play_match(60).bytes_with(Layout::Live, None);
    put(&live_path(directory.path(), "c"), &live, 100);
    put(&directory.path().join("cat.mcap"), b"meow", 100);
    put(&directory.path().join("notes.txt"), b"not of interest", 100);
    let room = live.len() as u64 + size;
    let retention = Retention { bytes_max: room, ..Retention::UNLIMITED };
    let retained = retain(directory.path(), &retention, now()).expect("a directory");
    assert_eq!(retained.deleted.len(), 1);
    let others = ["c.live.mcap", "cat.mcap", "notes.txt"];
    assert_eq!(names_in(directory.path()), [&["a.mcap"], others.as_slice()].concat());
    retain(directory.path(), &Retention { bytes_max: 0, ..retention }, now()).expect("a directory");
    assert_eq!(names_in(directory.path()), others);
}

#[test]
fn no_sound_recording_makes_room_for_what_cannot_be_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let size = recordings(directory.path(), &[("a", 1), ("b", 2), ("c", 9)]);
    let headless = vec![0; 10 * size as usize];
    // One is older than all, one newer.
    put(&finished_path(directory.path(), "old"), &headless, 100);
    put(&finished_path(directory.path(), "new"), &headless, 0);
    let within = |bytes_max, count_max| Retention { bytes_max, count_max, ..Retention::UNLIMITED };
    let retain = |retention| retain(directory.path(), &retention, now()).expect("a directory");
    assert_eq!(retain(within(23 * size, 5)), Retained::default(), "there is room for all of it");
    let unreadable = ["new", "old"].map(|name| (finished_path(directory.path(), name), 10 * size)).to_vec();
    let sorted = |mut retained: Retained| {
        retained.unreadable.sort();
        retained
    };
    for retention in [within(3 * size, 5), within(23 * size, 3)] {
        let kept = Retained { deleted: Vec::new(), unreadable: unreadable.clone() };
        assert_eq!(sorted(retain(retention)), kept);
    }
    let deleted = vec![(finished_path(directory.path(), "c"), size)];
    assert_eq!(sorted(retain(within(3 * size - 1, 5))), Retained { deleted, unreadable });
    assert_eq!(names_in(directory.path()), ["a.mcap", "b.mcap", "new.mcap", "old.mcap"]);
}

#[test]
fn what_a_killed_process_has_left_of_its_work_is_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    let played = play_match(60);
    let at = |name: &str| directory.path().join(name);
    // One was copied when the process was killed, one had been renamed; the third is somebody's work.
    for name in ["copied", "finished", "worked-on", "torn"] {
        fs::write(live_path(directory.path(), name), played.bytes_with(Layout::Live, None)).expect("writable");
    }
    fs::write(at("copied.mcap.partial"), b"half").expect("writable");
    fs::write(finished_path(directory.path(), "finished"), played.bytes(Layout::Finished)).expect("writable");
    fs::write(at("worked-on.mcap.partial"), b"half").expect("writable");
    let worked_on = File::options().write(true).open(at("worked-on.mcap.partial")).expect("it is there");
    worked_on.try_lock().expect("nobody else has it");
    // Nobody knows where this one comes from: it is not whole, so that the live one stays.
    let bytes = played.bytes(Layout::Finished);
    fs::write(finished_path(directory.path(), "torn"), &bytes[..bytes.len() / 2]).expect("writable");

    let tidied = tidy(directory.path()).expect("a directory");
    assert_eq!(tidied.removed, [at("copied.mcap.partial"), at("finished.live.mcap")]);
    assert_eq!(tidied.unfinished, ["copied", "torn", "worked-on"].map(|name| live_path(directory.path(), name)));
    let left = [
        "copied.live.mcap",
        "finished.mcap",
        "torn.live.mcap",
        "torn.mcap",
        "worked-on.live.mcap",
        "worked-on.mcap.partial",
    ];
    assert_eq!(names_in(directory.path()), left);
    assert_eq!(tidy(directory.path()).expect("a directory").removed, Vec::<PathBuf>::new());
}
