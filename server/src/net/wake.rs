//! What wakes a connection's task, and for what: the task does several things, and looks only at those that are called for.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, Ordering::SeqCst},
    },
    task::{Wake, Waker},
};

/// A task that parts of it, and others, wake. Woken while it runs it is not scheduled once more: it looks again before it
/// rests.
#[derive(Debug, Default)]
pub(crate) struct Task {
    state: AtomicU8,
    /// Of the one task that ever [runs](Self::begin): a spawned task has one waker for its whole life.
    waker: OnceLock<Waker>,
}

const RESTING: u8 = 0;
const RUNNING: u8 = 1;
/// It runs, and something has rung that it may have looked at already.
const CALLED: u8 = 2;

impl Task {
    /// The task runs.
    pub(super) fn begin(&self, waker: &Waker) {
        self.waker.get_or_init(|| waker.clone());
        self.state.store(RUNNING, SeqCst);
    }

    /// The task has looked at everything: whether it may rest now. If not, it is to look again.
    pub(super) fn rest(&self) -> bool {
        let rests = self.state.compare_exchange(RUNNING, RESTING, SeqCst, SeqCst).is_ok();
        if !rests {
            self.state.store(RUNNING, SeqCst);
        }
        rests
    }

    /// The task lets others run before it looks again.
    pub(super) fn pause(&self) {
        self.state.store(RESTING, SeqCst);
        self.wake();
    }

    /// Has the task look at everything once more.
    pub(super) fn wake(&self) {
        if self.state.compare_exchange(RUNNING, CALLED, SeqCst, SeqCst) == Err(RESTING)
            && let Some(waker) = self.waker.get()
        {
            waker.wake_by_ref();
        }
    }
}

/// Calls a task for one of the things that it does.
#[derive(Debug)]
pub(crate) struct Bell {
    /// Set before the task is woken, and looked at before it rests: a ring is never lost.
    rung: AtomicBool,
    task: Arc<Task>,
}

impl Bell {
    /// A bell that has rung: nothing has been looked at yet.
    pub(crate) fn rung(task: &Arc<Task>) -> Arc<Self> {
        Arc::new(Self { rung: AtomicBool::new(true), task: Arc::clone(task) })
    }

    /// Calls the task, unless it has been called and has not looked yet.
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, SeqCst) {
            self.task.wake();
        }
    }

    /// Whether it has rung since this was asked last.
    pub(crate) fn has_rung(&self) -> bool {
        self.rung.load(SeqCst) && self.rung.swap(false, SeqCst)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Debug, Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn a_resting_task_is_woken_once_for_many_rings() {
        let (task, wakes) = (Arc::<Task>::default(), Arc::<Wakes>::default());
        let bell = Bell::rung(&task);
        task.begin(&Waker::from(Arc::clone(&wakes)));
        assert!(bell.has_rung());
        assert!(!bell.has_rung());
        assert!(task.rest());
        bell.ring();
        bell.ring();
        assert_eq!(wakes.0.load(SeqCst), 1);
        assert!(bell.has_rung());
    }

    #[test]
    fn a_running_task_is_not_scheduled_again_but_looks_again() {
        let (task, wakes) = (Arc::<Task>::default(), Arc::<Wakes>::default());
        let bell = Bell::rung(&task);
        task.begin(&Waker::from(Arc::clone(&wakes)));
        assert!(bell.has_rung());
        bell.ring();
        assert!(!task.rest());
        assert!(bell.has_rung());
        assert!(task.rest());
        assert_eq!(wakes.0.load(SeqCst), 0);
    }

    #[test]
    fn a_task_that_pauses_is_scheduled_once_more() {
        let (task, wakes) = (Arc::<Task>::default(), Arc::<Wakes>::default());
        task.begin(&Waker::from(Arc::clone(&wakes)));
        task.pause();
        assert_eq!(wakes.0.load(SeqCst), 1);
    }
}
