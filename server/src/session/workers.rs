//! Threads for what waits for the disk or for a game, and with which nobody may wait who keeps a pace: recordings are closed
//! there, and sessions started. They come with the work, and go with it.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
};

/// Disks do several syncs in about the time of one.
const THREADS_MAX: usize = 8;

type Job = Box<dyn FnOnce() + Send>;

/// Runs what takes its time.
#[derive(Clone)]
pub(super) struct Workers(Arc<Shared>);

struct Shared {
    /// The threads' name.
    name: &'static str,
    state: Mutex<State>,
    idle: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    threads: usize,
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers").finish_non_exhaustive()
    }
}

impl Workers {
    /// No threads as yet.
    pub(super) fn new(name: &'static str) -> Self {
        Self(Arc::new(Shared { name, state: Mutex::default(), idle: Condvar::new() }))
    }

    /// Runs `job` soon; now, where no thread can be had.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.0.lock();
        state.waiting.push_back(Box::new(job));
        if self.grow(&mut state).is_err() {
            state.threads += 1;
            drop(state);
            self.0.work();
        }
    }

    /// Runs `job` soon, and never on the caller's thread, who may hold what it needs.
    ///
    /// # Errors
    /// Where there is no thread, and none can be had: the job is dropped then.
    pub(super) fn try_run(&self, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let mut state = self.0.lock();
        self.grow(&mut state)?;
        state.waiting.push_back(Box::new(job));
        Ok(())
    }

    /// Has one thread more, where there may be one: otherwise those that there are do.
    fn grow(&self, state: &mut State) -> io::Result<()> {
        if state.threads < THREADS_MAX {
            let shared = Arc::clone(&self.0);
            match thread::Builder::new().name(self.0.name.into()).spawn(move || shared.work()) {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => return Err(error),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Waits until all is done.
    pub(super) fn wait(&self) {
        let mut state = self.0.lock();
        while state.threads > 0 {
            state = self.0.idle.wait(state).expect("no holder of this lock panics");
        }
    }
}

impl Shared {
    fn work(&self) {
        let mut state = self.lock();
        while let Some(job) = state.waiting.pop_front() {
            drop(state);
            // The panic hook reports it; the other jobs are to be done all the same.
            let _ = catch_unwind(AssertUnwindSafe(job));
            state = self.lock();
        }
        state.threads -= 1;
        self.idle.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_job_is_done_though_one_panics() {
        let workers = Workers::new("test");
        let done = Arc::new(AtomicUsize::new(0));
        for i in 0..100 {
            let done = Arc::clone(&done);
            workers.run(move || {
                done.fetch_add(1, Ordering::Relaxed);
                assert_ne!(i, 50, "this one fails");
            });
        }
        workers.wait();
        assert_eq!(done.load(Ordering::Relaxed), 100);
    }
}
