//! Files that lose their names while they are written.

use super::*;
use crate::FileSystem;

const GONE: &str = "has been removed, renamed or replaced while it was written";

/// A scene on the very file system, with any durability.
fn on_file_system(durability: Durability) -> Scene {
    let recorders = Recorders::on(Arc::new(FileSystem), 1, RecordersOptions::default(), || {});
    Scene::with(&recorders, &Troubled::new(), NOTHING, RecorderOptions { durability, ..OPTIONS })
}

impl Scene {
    fn is_told(&mut self, problem: &str) {
        self.tick_until(RecorderState::Behind);
        let status = self.recorder.status();
        let told = status.problem.expect("it is told");
        assert!(told.starts_with(&*self.live().to_string_lossy()) && told.ends_with(problem), "{told}");
        assert_eq!(status.failures, 1, "it is counted once");
    }
}

#[test]
fn a_file_that_is_removed_is_missed_within_a_second_whatever_it_is_to_survive() {
    for durability in [Durability::None, Durability::Flush, Durability::Sync] {
        let mut scene = on_file_system(durability);
        scene.ticks(20);
        let directory = scene.directory.path().to_owned();
        fs::remove_dir_all(&directory).expect("it is there");
        scene.is_told(GONE);
        let (begun, live) = (scene.session.tick(), scene.live());
        assert_eq!(scene.recorder.status().lag_ticks, begun.0, "a kill loses all of them");
        let Closed { path, end, problem } = scene.recorder.close(EndReason::Shutdown);
        let told = format!("{} {GONE}", live.display());
        assert_eq!((path, problem.as_ref()), (live, Some(&told)));
        assert_eq!(end, End { reason: EndReason::Stopped { problem: told }, tick: begun, ticks_missing: begun.0 });
        assert!(!directory.exists(), "nothing is made up");
    }
}

#[test]
fn a_file_that_another_one_has_taken_the_name_of_leaves_that_one_alone() {
    let mut scene = on_file_system(Durability::Sync);
    scene.ticks(20);
    let (live, elsewhere) = (scene.live(), scene.directory.path().join("elsewhere"));
    fs::rename(&live, &elsewhere).expect("it is there");
    fs::write(&live, "of somebody else").expect("a disk");
    scene.is_told(GONE);
    let (begun, game) = (scene.session.tick(), scene.game);
    let Closed { path, end, .. } = scene.recorder.close(EndReason::Shutdown);
    assert_eq!((&path, end.ticks_missing), (&live, begun.0));
    assert_eq!(fs::read_to_string(&live).expect("it is there"), "of somebody else");
    // It is whole, and says so: whoever has moved it has all of it.
    let moved = Recording::open(&elsewhere).expect("a recording");
    let verified = verify(&moved, Arc::new(game)).expect("the same match");
    let own = End { reason: EndReason::Shutdown, tick: begun, ticks_missing: 0 };
    assert_eq!((verified.ticks, verified.end), (begun.0, Some(own)));
}

#[test]
fn a_file_that_comes_back_has_never_been_away() {
    let mut scene = on_file_system(Durability::Sync);
    scene.ticks(20);
    let (live, elsewhere) = (scene.live(), scene.directory.path().join("elsewhere"));
    fs::rename(&live, &elsewhere).expect("it is there");
    scene.is_told(GONE);
    fs::rename(&elsewhere, &live).expect("it is there");
    scene.tick_until(RecorderState::Running);
    assert_eq!(scene.recorder.status().problem, None);
    let (closed, missing) = scene.close();
    assert_eq!((closed.problem, missing), (None, 0));
}

#[test]
fn a_file_that_nobody_may_look_for_is_told_of_and_loses_nothing() {
    let mut scene = Scene::new(OPTIONS);
    scene.paced_ticks(20);
    scene.disk.hide(true);
    scene.is_told("cannot be reached: permission denied");
    scene.settle();
    assert!(scene.recorder.status().lag_ticks <= 1, "it is written all the same");
    let (closed, missing) = scene.close();
    assert_eq!((closed.problem, missing), (None, 0));
}
