//! From one wake-up per network thread and tick to that thread's streams.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::Thread,
};

use slab::Slab;
use tokio::sync::Notify;

use super::Bell;
use crate::session::StreamCounters;

/// A session's streams on one network thread. The session's thread notifies the relay, at a cost that does not depend on
/// how many streams there are; the relay's task, on the network thread, wakes them.
#[derive(Debug)]
pub(crate) struct Relay {
    notify: Notify,
    /// The network thread, which may be asleep.
    sleeper: Thread,
    streams: Mutex<Slab<Bell>>,
    count: AtomicUsize,
    /// Its session is gone.
    closed: AtomicBool,
    /// What is sent on them.
    pub(crate) counters: Arc<StreamCounters>,
}

impl Relay {
    /// A relay without streams on the network thread `sleeper`.
    pub(crate) fn new(sleeper: Thread) -> Self {
        Self {
            notify: Notify::new(),
            sleeper,
            streams: Mutex::default(),
            count: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            counters: Arc::default(),
        }
    }

    /// Has all streams woken soon. Calls that come before the relay's task runs are one; where there are no streams, the
    /// network thread sleeps on.
    pub(crate) fn notify(&self) {
        if self.count.load(Ordering::SeqCst) > 0 {
            self.notify.notify_one();
            self.sleeper.unpark();
        }
    }

    /// Ends its task, once there is nobody whom it could wake.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    /// Wakes streams whenever notified, until it is closed.
    pub(crate) async fn run(self: Arc<Self>) {
        while !self.closed.load(Ordering::Acquire) {
            self.notify.notified().await;
            for (_, stream) in self.lock().iter() {
                stream.ring();
            }
        }
    }

    /// Takes a stream in. What was published before, it must look for itself.
    pub(crate) fn add(&self, stream: Bell) -> usize {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.lock().insert(stream)
    }

    /// Lets the stream go that [`add`](Self::add) numbered so.
    pub(crate) fn remove(&self, number: usize) {
        let stream = self.lock().remove(number);
        self.count.fetch_sub(1, Ordering::SeqCst);
        // Outside the lock: it may be the last reference.
        drop(stream);
    }

    /// How many streams there are.
    pub(crate) fn streams(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Bell>> {
        self.streams.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::wake::{
            Calls,
            tests::{is_called, resting},
        },
        *,
    };

    #[tokio::test]
    async fn a_notice_reaches_every_stream_that_is_there() {
        let relay = Arc::new(Relay::new(std::thread::current()));
        let tasks = [(); 3].map(|()| resting());
        let numbers = tasks.each_ref().map(|task| relay.add(Bell::new(task, Calls::stream(0))));
        relay.remove(numbers[1]);
        let task = tokio::spawn(Arc::clone(&relay).run());
        relay.notify();
        // The task runs, and waits again, before this one does.
        tokio::task::yield_now().await;
        let called = tasks.each_ref().map(|task| is_called(task, Calls::stream(0)));
        assert_eq!(called, [true, false, true]);
        relay.close();
        task.await.expect("it ends");
    }
}
