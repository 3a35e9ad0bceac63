//! What was said, on a disk that stalls.

use super::*;

pub(super) fn lines(count: u64) -> Vec<ChatRecord> {
    let line = |id| ChatRecord {
        id,
        tick: Tick(1),
        time: SystemTime::UNIX_EPOCH,
        from: None,
        from_name: String::new(),
        to: None,
        team: None,
        text: "hello".into(),
    };
    (1..=count).map(line).collect()
}

#[test]
fn what_is_said_while_the_disk_is_stalled_costs_the_recording_nothing() {
    let mut scene = Scene::new(RecorderOptions { queue_ticks_max: 60, behind_ticks: 10, ..OPTIONS });
    scene.paced_ticks(3);
    let release = scene.stall();
    for _ in 0..50 {
        scene.recorder.chat(lines(100));
        scene.tick();
    }
    // It does not count for ticks that wait, and of it no more is kept once the disk is behind.
    let status = scene.recorder.status();
    assert!(status.state == RecorderState::Behind && (51..=52).contains(&status.lag_ticks), "{status:?}");
    let kept = lock(&scene.recorder.open.queue).records.iter().filter(|record| record.count() == 0).count();
    assert!((1..=13).contains(&kept), "{kept} of 50");
    drop(release);
    let Scene { game, session, recorder, directory: _directory, .. } = scene;
    let closed = recorder.close(EndReason::Shutdown);
    assert_eq!((closed.problem.as_deref(), check(game, &closed, session.tick())), (None, 0));
    let said = Recording::open(&closed.path).expect("a recording").chat().expect("it opens").count();
    assert!((100..5000).contains(&said), "{said}");
}

#[test]
fn what_is_said_takes_no_more_than_half_of_the_memory_that_there_is() {
    let disk = Troubled::new();
    let options = RecordersOptions { queue_bytes_max: 20_000, ..RecordersOptions::default() };
    let recorders = Recorders::on(disk.clone(), 1, options, || {});
    let mut scene = Scene::with(&recorders, &disk, NOTHING, OPTIONS);
    scene.paced_ticks(3);
    let release = scene.stall();
    for _ in 0..100 {
        scene.recorder.chat(lines(1));
    }
    let kept = lock(&scene.recorder.open.queue).records.len();
    assert!(kept > 10 && kept < 100, "{kept}");
    assert!(recorders.take_room(9_000), "there is room for what matters more");
    recorders.give_room(9_000);
    drop(release);
    assert_eq!(scene.close().1, 0);
}
