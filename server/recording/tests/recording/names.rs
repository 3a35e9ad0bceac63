//! Files whose names meet: none is replaced or removed that may have something alone.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tickwire_recording::{
    EndReason, Layout, Recording, RecordingError, RecordingState, Repaired, Unfinished, finished_path, list, live_path,
    remove_stillborn, repair, tidy,
};

use crate::{
    files::last_chunk,
    game::{Dots, Match, Twist, play_match, play_match_of},
    names_in,
};

/// Another match, of the same session's name.
fn another_match(ticks: u64) -> Match {
    let mut played = play_match(ticks);
    played.meta.created += Duration::from_secs(1);
    played
}

/// The same match, which has gone on otherwise from tick 37 on.
fn forked_match(ticks: u64) -> Match {
    let forked = play_match_of(Dots { twist: Some((37, Twist::Faster)), ..Dots::default() }, ticks);
    Match { meta: play_match(0).meta, ..forked }
}

fn left(played: &Match) -> Vec<u8> {
    played.bytes_with(Layout::Live, None)
}

struct Scene {
    directory: tempfile::TempDir,
}

impl Scene {
    /// Of files by their names.
    fn new(files: &[(&str, &[u8])]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, bytes) in files {
            fs::write(directory.path().join(name), bytes).expect("a disk");
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn files(&self) -> Vec<String> {
        names_in(self.directory.path())
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("it is there")
    }

    fn repair(&self, name: &str) -> Result<Repaired, RecordingError> {
        repair(self.path(name))
    }
}

#[test]
fn a_repair_replaces_no_finished_recording_of_another_match_nor_one_that_parts_from_it_or_is_damaged() {
    let mut damaged = play_match(60).bytes(Layout::Finished);
    let place = last_chunk(&damaged) + 200;
    damaged[place] ^= 1;
    for (finished, problem) in [
        (another_match(60).bytes(Layout::Finished), "it is of another match"),
        (forked_match(60).bytes(Layout::Finished), "tick 37 of it is another one"),
        (damaged, "it is damaged"),
        (b"of somebody else".to_vec(), "it cannot be read"),
    ] {
        for name in ["a.live.mcap", "a.set-aside.mcap"] {
            let unfinished = left(&play_match(90));
            let scene = Scene::new(&[(name, &unfinished), ("a.mcap", &finished)]);
            let error = scene.repair(name).expect_err("it is in the way");
            assert!(matches!(error, RecordingError::InTheWay { .. }), "{error:?}");
            let said = error.to_string();
            let named = scene.path("a.mcap").display().to_string();
            assert!(said.starts_with(&format!("{named} is in the way: {problem}")), "{said}");
            assert!(said.ends_with("; move it elsewhere, and try again"), "{said}");
            assert_eq!((scene.bytes(name), scene.bytes("a.mcap")), (unfinished, finished.clone()));
            assert_eq!(scene.files().len(), 2, "{:?}", scene.files());
        }
    }
}

#[test]
fn a_finished_recording_makes_way_for_one_that_holds_all_of_it_and_stays_where_it_has_all() {
    for name in ["a.live.mcap", "a.set-aside-1.mcap"] {
        let short = play_match(60).bytes(Layout::Finished);
        let scene = Scene::new(&[(name, &left(&play_match(90))), ("a.mcap", &short)]);
        assert_eq!(scene.repair(name).expect("a repair").ticks, 90);
        assert_eq!(scene.files(), ["a.mcap"]);
        assert_eq!(Recording::open(scene.path("a.mcap")).expect("a recording").scan().ticks, 90);

        let long = play_match(90).bytes(Layout::Finished);
        let scene = Scene::new(&[(name, &left(&play_match(60))), ("a.mcap", &long)]);
        assert_eq!(scene.repair(name).expect("a repair").ticks, 90);
        assert_eq!((scene.files(), scene.bytes("a.mcap")), (vec!["a.mcap".to_owned()], long));
    }
}

#[test]
fn what_is_damaged_is_kept_under_a_name_that_nothing_has() {
    let mut bytes = left(&play_match(40));
    let place = bytes.len() - 700;
    bytes[place] ^= 0x10;
    let (earlier, other) = (b"an earlier one".as_slice(), b"another".as_slice());
    let scene = Scene::new(&[("a.live.mcap", &bytes), ("a.damaged.mcap", earlier), ("a.damaged-1.mcap", other)]);
    let kept = scene.repair("a.live.mcap").expect("a repair").kept;
    assert_eq!(kept, Some(scene.path("a.damaged-2.mcap")));
    assert_eq!(scene.files(), ["a.damaged-1.mcap", "a.damaged-2.mcap", "a.damaged.mcap", "a.mcap"]);
    let kept = ["a.damaged.mcap", "a.damaged-1.mcap", "a.damaged-2.mcap"].map(|name| scene.bytes(name));
    assert_eq!(kept, [earlier.to_vec(), other.to_vec(), bytes]);

    // The finished one is damaged later.
    let mut finished = scene.bytes("a.mcap");
    finished.truncate(finished.len() / 2);
    fs::write(scene.path("a.mcap"), &finished).expect("a disk");
    let repaired = scene.repair("a.mcap").expect("a repair");
    assert_eq!(repaired.kept, Some(scene.path("a.damaged-3.mcap")));
    assert_eq!(scene.bytes("a.damaged-3.mcap"), finished);
}

#[test]
fn what_is_set_aside_replaces_nothing_that_was_set_aside_before() {
    let earlier = b"an earlier one".as_slice();
    let bytes = left(&play_match(20));
    let scene = Scene::new(&[("a.set-aside.mcap", earlier), ("a.set-aside.txt", b"why"), ("a.live.mcap", &bytes)]);
    let unfinished = Unfinished::open(&scene.path("a.live.mcap")).expect("a recording");
    let path = unfinished.set_aside("another reason").expect("a disk");
    drop(unfinished);
    assert_eq!(path, scene.path("a.set-aside-1.mcap"));
    let files = ["a.set-aside-1.mcap", "a.set-aside-1.txt", "a.set-aside.mcap", "a.set-aside.txt"];
    assert_eq!(scene.files(), files);
    assert_eq!([scene.bytes("a.set-aside.mcap"), scene.bytes("a.set-aside.txt")], [earlier, b"why".as_slice()]);
    let recording = Recording::open(&path).expect("a recording");
    assert_eq!(recording.scan().state, RecordingState::SetAside("another reason".to_owned()));
    assert_eq!(tidy(scene.directory.path()).expect("a directory").unfinished, Vec::<PathBuf>::new());

    // The reason goes with what it is of, and no other one does.
    assert_eq!(repair(&path).expect("a repair").path, scene.path("a.mcap"));
    assert_eq!(scene.files(), ["a.mcap", "a.set-aside.mcap", "a.set-aside.txt"]);
    fs::remove_file(scene.path("a.mcap")).expect("it is there");
    fs::write(scene.path("a.live.mcap"), &bytes).expect("a disk");
    scene.repair("a.live.mcap").expect("a repair");
    assert_eq!(scene.files(), ["a.mcap", "a.set-aside.mcap", "a.set-aside.txt"]);
}

/// A live file beside a finished one: whether a start removes it, and a list leaves it out.
fn is_left(live: &[u8], finished: &[u8]) -> bool {
    let scene = Scene::new(&[("a.live.mcap", live), ("a.mcap", finished)]);
    let directory: &Path = scene.directory.path();
    let listed = list(directory).expect("a directory").len();
    let tidied = tidy(directory).expect("a directory");
    assert_eq!(scene.bytes("a.mcap"), finished);
    let is_left = tidied.removed == [live_path(directory, "a")];
    let unfinished = if is_left { Vec::new() } else { vec![live_path(directory, "a")] };
    assert_eq!((tidied.unfinished, listed), (unfinished, if is_left { 1 } else { 2 }));
    assert_eq!(live_path(directory, "a").exists(), !is_left);
    assert!(finished_path(directory, "a").exists());
    is_left
}

#[test]
fn a_start_removes_a_live_file_only_where_a_whole_finished_one_holds_all_of_it() {
    let played = play_match(60);
    let finished = played.bytes(Layout::Finished);
    let mut torn = left(&played);
    torn.truncate(torn.len() - 7);
    for live in [left(&played), played.bytes(Layout::Live), left(&play_match(40)), torn] {
        assert!(is_left(&live, &finished));
    }
    let mut damaged = left(&played);
    let place = damaged.len() - 700;
    damaged[place] ^= 1;
    for live in [left(&play_match(61)), left(&another_match(60)), left(&forked_match(60)), damaged, Vec::new()] {
        assert!(!is_left(&live, &finished));
    }
    let without_end = played.bytes_with(Layout::Finished, None);
    let without_indexes = &finished[..finished.len() - 40];
    for finished in [&without_end, without_indexes, &finished[..finished.len() / 2]] {
        assert!(!is_left(&left(&played), finished));
    }
}

#[test]
fn a_session_whose_name_is_taken_by_another_match_ends_in_its_live_file() {
    let other = another_match(60).bytes(Layout::Finished);
    let end = tickwire_recording::End { reason: EndReason::Shutdown, ..play_match(60).end };
    let scene =
        Scene::new(&[("a.live.mcap", &play_match(60).bytes_with(Layout::Live, Some(&end))), ("a.mcap", &other)]);
    let unfinished = Unfinished::open(&scene.path("a.live.mcap")).expect("a recording");
    assert!(matches!(unfinished.finish(), Err(RecordingError::InTheWay { .. })));
    assert_eq!((scene.files(), scene.bytes("a.mcap")), (vec!["a.live.mcap".to_owned(), "a.mcap".to_owned()], other));
}

#[test]
fn a_live_file_that_is_empty_is_removed_and_none_that_has_anything() {
    let begun = left(&play_match(0));
    let scene = Scene::new(&[("a.live.mcap", b""), ("b.live.mcap", &begun), ("c.live.mcap", b"of somebody else")]);
    let removed = ["a.live.mcap", "b.live.mcap", "c.live.mcap"].map(|name| remove_stillborn(&scene.path(name)));
    assert_eq!(removed.map(|removed| removed.expect("a disk")), [true, false, false]);
    assert_eq!(scene.files(), ["b.live.mcap", "c.live.mcap"]);
    let written = fs::File::create(scene.path("a.live.mcap")).expect("a disk");
    written.try_lock().expect("nobody else has it");
    let in_use = remove_stillborn(&scene.path("a.live.mcap"));
    assert!(matches!(in_use, Err(RecordingError::InUse { .. })), "{in_use:?}");
}

/// Whoever opened the pipe would wait for ever.
#[cfg(target_os = "linux")]
#[test]
fn pipes_and_links_to_elsewhere_are_no_recordings() {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, Mode, mkfifoat};
    use tickwire_recording::{Retention, Segments, retain};

    let played = play_match(20);
    let elsewhere = Scene::new(&[("secret.mcap", &played.bytes(Layout::Finished))]);
    let scene = Scene::new(&[("a.mcap", &played.bytes(Layout::Finished))]);
    for name in ["pipe.mcap", "pipe.live.mcap", "pipe.mcap.partial", "pipe.attempt", "a_00002.live.mcap"] {
        mkfifoat(CWD, scene.path(name), Mode::RUSR | Mode::WUSR).expect("a file system with pipes");
    }
    for (name, to) in [
        ("away.mcap", elsewhere.path("secret.mcap")),
        ("away.live.mcap", elsewhere.path("secret.mcap")),
        ("within.mcap", PathBuf::from("a.mcap")),
        ("nowhere.mcap", PathBuf::from("/nowhere/b.mcap")),
    ] {
        symlink(to, scene.path(name)).expect("a file system with links");
    }
    let directory = scene.directory.path();
    let before = scene.files();
    let listed: Vec<PathBuf> = list(directory).expect("a directory").into_iter().map(|listed| listed.path).collect();
    assert_eq!(listed, [scene.path("a.mcap"), scene.path("within.mcap")]);
    let tidied = tidy(directory).expect("a directory");
    assert_eq!((tidied.removed, tidied.unfinished), (Vec::new(), vec![scene.path("away.live.mcap")]));
    let second = Segments::beside(&scene.path("a.mcap")).expect("a directory").open(2);
    assert!(matches!(second, Err(RecordingError::ReadOnce)), "{second:?}");
    for name in ["pipe.mcap", "pipe.live.mcap"] {
        let error = scene.repair(name).expect_err("there is nothing to repair");
        assert!(matches!(error, RecordingError::ReadOnce), "{error:?}");
    }
    assert_eq!(scene.files(), before);
    retain(directory, &Retention { bytes_max: 0, ..Retention::UNLIMITED }, std::time::SystemTime::now())
        .expect("a directory");
    let gone = ["a.mcap", "within.mcap"];
    assert_eq!(scene.files(), before.into_iter().filter(|name| !gone.contains(&&**name)).collect::<Vec<_>>());
    assert!(elsewhere.path("secret.mcap").exists());
}
