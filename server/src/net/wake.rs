//! What wakes a connection's task, and for what: the task does several things, and looks only at those that are called for.
//! Among a thousand connections none is in a core's cache, so that all of it stands in one word.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::{Wake, Waker},
};

/// What a task is called for: one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Calls(u64);

impl Calls {
    pub(super) const NONE: Self = Self(0);
    /// HTTP/2 has been given something to read or to send.
    pub(super) const HTTP: Self = Self(1);
    pub(super) const TIMER: Self = Self(1 << 1);
    /// To end, once the requests have.
    pub(super) const END: Self = Self(1 << 2);
    /// To end at once.
    pub(super) const ABORT: Self = Self(1 << 3);
    /// The task runs: it looks once more before it rests.
    const RUNNING: u64 = 1 << 4;
    pub(super) const SOCKET: Self = Self(1 << 5);
    const STREAMS_FROM: u32 = 6;

    /// The call for a stream. With dozens of them some share one, and are looked at together.
    pub(super) const fn stream(number: usize) -> Self {
        let bits = u64::BITS - Self::STREAMS_FROM;
        Self(1 << (Self::STREAMS_FROM + (number % bits as usize) as u32))
    }

    /// Those for streams.
    pub(super) const fn streams(self) -> Self {
        Self(self.0 >> Self::STREAMS_FROM << Self::STREAMS_FROM)
    }

    pub(super) const fn has(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }

    pub(super) const fn and(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    pub(super) const fn without(self, done: Self) -> Self {
        Self(self.0 & !done.0)
    }
}

/// A task that parts of it, and others, call. Called while it runs it is not scheduled once more: it looks again before it
/// rests. As a waker, it calls for [`Calls::HTTP`].
#[derive(Debug)]
pub(crate) struct Task {
    calls: AtomicU64,
    /// Whether bytes have come in since this was asked last.
    received: AtomicBool,
    /// Of the one task that ever [runs](Self::begin): a spawned task has one waker for its whole life.
    waker: OnceLock<Waker>,
}

impl Task {
    /// A task that has looked at nothing yet.
    pub(super) fn new() -> Arc<Self> {
        let calls = AtomicU64::new(Calls::SOCKET.and(Calls::HTTP).and(Calls::TIMER).0);
        Arc::new(Self { calls, received: AtomicBool::new(false), waker: OnceLock::new() })
    }

    /// The task runs: what it has been called for.
    pub(super) fn begin(&self, waker: &Waker) -> Calls {
        self.waker.get_or_init(|| waker.clone());
        self.take()
    }

    /// What the running task has been called for since it looked last.
    pub(super) fn take(&self) -> Calls {
        Calls(self.calls.swap(Calls::RUNNING, SeqCst) & !Calls::RUNNING)
    }

    /// The running task has looked at everything: it rests, or it has been called once more.
    pub(super) fn rest(&self) -> bool {
        self.calls.compare_exchange(Calls::RUNNING, 0, SeqCst, SeqCst).is_ok()
    }

    /// The running task lets others run before it looks at the rest.
    pub(super) fn pause(&self, rest: Calls) {
        self.calls.fetch_or(rest.0, SeqCst);
        self.calls.fetch_and(!Calls::RUNNING, SeqCst);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// Has the task look.
    pub(super) fn call(&self, calls: Calls) {
        let before = self.calls.fetch_or(calls.0, SeqCst);
        // Else it runs, or has been woken and has not run yet.
        if before == 0
            && let Some(waker) = self.waker.get()
        {
            waker.wake_by_ref();
        }
    }

    /// Bytes have come in.
    pub(super) fn note_received(&self) {
        self.received.store(true, Relaxed);
    }

    /// Whether bytes have come in since this was asked last.
    pub(super) fn has_received(&self) -> bool {
        let received = self.received.load(Relaxed);
        if received {
            self.received.store(false, Relaxed);
        }
        received
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.call(Calls::HTTP);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.call(Calls::HTTP);
    }
}

/// Calls a task for one of the things that it does.
#[derive(Clone, Debug)]
pub(crate) struct Bell {
    task: Arc<Task>,
    calls: Calls,
}

impl Bell {
    pub(super) fn new(task: &Arc<Task>, calls: Calls) -> Self {
        Self { task: Arc::clone(task), calls }
    }

    pub(crate) fn ring(&self) {
        self.task.call(self.calls);
    }

    /// As a waker.
    pub(crate) fn waker(&self) -> Waker {
        Arc::new(self.clone()).into()
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
pub(super) mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Debug, Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    /// A task that rests.
    pub(in super::super) fn resting() -> Arc<Task> {
        running().0
    }

    fn running() -> (Arc<Task>, Arc<Wakes>) {
        let (task, wakes) = (Task::new(), Arc::<Wakes>::default());
        assert_eq!(task.begin(&Waker::from(Arc::clone(&wakes))), Calls::SOCKET.and(Calls::HTTP).and(Calls::TIMER));
        (task, wakes)
    }

    /// Whether a task that rested has been called for this, and nothing else.
    pub(in super::super) fn is_called(task: &Task, calls: Calls) -> bool {
        let taken = task.take();
        assert!(task.rest());
        taken == calls
    }

    #[test]
    fn a_resting_task_is_woken_once_for_many_calls() {
        let (task, wakes) = running();
        assert!(task.rest());
        Bell::new(&task, Calls::TIMER).ring();
        Bell::new(&task, Calls::stream(3)).ring();
        assert_eq!(wakes.0.load(SeqCst), 1);
        let calls = task.take();
        assert_eq!(calls, Calls::TIMER.and(Calls::stream(3)));
        assert_eq!(calls.streams(), Calls::stream(3));
    }

    #[test]
    fn a_running_task_is_not_scheduled_again_but_looks_again() {
        let (task, wakes) = running();
        Arc::clone(&task).wake();
        assert!(!task.rest());
        assert_eq!(task.take(), Calls::HTTP);
        assert!(task.rest());
        assert_eq!(wakes.0.load(SeqCst), 0);
    }

    #[test]
    fn a_task_that_pauses_is_scheduled_once_more_with_what_is_left() {
        let (task, wakes) = running();
        task.call(Calls::END);
        task.pause(Calls::HTTP);
        task.call(Calls::TIMER);
        assert_eq!(wakes.0.load(SeqCst), 1);
        assert_eq!(task.take(), Calls::HTTP.and(Calls::END).and(Calls::TIMER));
    }

    #[test]
    fn every_stream_has_a_call() {
        for number in 0..200 {
            let call = Calls::stream(number);
            assert!(call.streams() == call && !call.has(Calls(Calls::RUNNING)), "{number}");
        }
    }
}
