//! Simulation threads: few, for however many sessions. Each runs whichever task is due; a watchdog sees to it that a task
//! that does not come back costs the others nothing.

use std::{
    fmt, io,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use tracing::{debug, error};

use super::schedule::{Claim, Next, Schedule, TaskId};

/// Something that runs now and then, on any of the threads.
pub(super) trait Task: Send {
    /// Runs once: when it is to run again, and itself. `None`, and a panic: it is over.
    fn run(self: Box<Self>) -> Option<(Instant, Box<dyn Task>)>;
}

/// Is told what becomes of a task while it runs.
pub(super) trait Watched: Send + Sync {
    /// Whether the task has been running for so long that it may never end. Called under the pool's lock, in order.
    fn set_stuck(&self, stuck: bool);
    /// Called after that, without any lock: has people told.
    fn report(&self, stuck: bool);
}

/// The threads. There are as many as allowed, and no more than tasks. They end with the tasks.
#[derive(Debug)]
pub(super) struct SimulationThreads {
    pool: Arc<Pool>,
    watchdog: Mutex<Option<thread::JoinHandle<()>>>,
}

/// A task that has been handed over.
#[derive(Clone, Debug)]
pub(super) struct TaskHandle {
    pool: Arc<Pool>,
    id: TaskId,
}

struct Pool {
    threads_max: usize,
    /// How long a task may run before it counts as stuck.
    patience: Duration,
    state: Mutex<State>,
    /// For workers: there is something new to do, or less than before.
    changed: Condvar,
    /// For who waits for the workers' end.
    left: Condvar,
    /// For the watchdog: it is to end.
    closed: Condvar,
}

struct State {
    schedule: Schedule<Job>,
    /// Those that are there, with a stuck task or without.
    workers: usize,
    closing: bool,
}

struct Job {
    /// `None` while it runs.
    task: Option<Box<dyn Task>>,
    watched: Arc<dyn Watched>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("threads_max", &self.threads_max).finish_non_exhaustive()
    }
}

impl SimulationThreads {
    /// No threads as yet but for the watchdog: others come with the tasks. One that runs for `patience` is taken for stuck.
    pub(super) fn start(threads_max: NonZeroUsize, patience: Duration) -> io::Result<Self> {
        let pool = Arc::new(Pool {
            threads_max: threads_max.get(),
            patience,
            state: Mutex::new(State { schedule: Schedule::new(), workers: 0, closing: false }),
            changed: Condvar::new(),
            left: Condvar::new(),
            closed: Condvar::new(),
        });
        let watched = Arc::clone(&pool);
        let watchdog = thread::Builder::new().name("tickwire-watch".into()).spawn(move || watched.watch())?;
        Ok(Self { pool, watchdog: Mutex::new(Some(watchdog)) })
    }

    /// Runs a task from `due` on, until it is over.
    ///
    /// # Errors
    /// Where there is no thread that could run it.
    pub(super) fn add(&self, due: Instant, task: Box<dyn Task>, watched: Arc<dyn Watched>) -> io::Result<TaskHandle> {
        let mut state = self.pool.lock();
        let id = state.schedule.add(due, Job { task: Some(task), watched });
        if let Err(error) = self.pool.start_missing(&mut state)
            && state.workers == state.schedule.stuck()
        {
            state.schedule.withdraw(id);
            return Err(error);
        }
        drop(state);
        // Each worker looks whether it is the one to wait for the new task.
        self.pool.changed.notify_all();
        Ok(TaskHandle { pool: Arc::clone(&self.pool), id })
    }

    /// Waits until all tasks are over, but for those that are stuck: their threads are left behind.
    pub(super) fn wait(&self) {
        let mut state = self.pool.lock();
        while state.free_workers() > 0 {
            state = self.pool.wait(&self.pool.left, state);
        }
    }

    /// As [`wait`](Self::wait); and nobody looks for stuck tasks any more.
    pub(super) fn close(&self) {
        self.wait();
        self.pool.lock().closing = true;
        self.pool.closed.notify_one();
        let watchdog = self.watchdog.lock().expect("no holder of this lock panics").take();
        if let Some(watchdog) = watchdog {
            // A panic in there has been reported by the panic hook.
            let _ = watchdog.join();
        }
    }
}

impl Drop for SimulationThreads {
    fn drop(&mut self) {
        self.close();
    }
}

impl TaskHandle {
    /// Has the task run now, and not when it is due.
    pub(super) fn expedite(&self) {
        self.pool.lock().schedule.expedite(self.id, Instant::now());
        // One is enough: whoever wakes runs what is due.
        self.pool.changed.notify_one();
    }
}

impl Pool {
    /// A worker's life.
    fn work(&self) {
        let mut claim = Claim::default();
        let mut state = self.lock();
        while !state.has_too_many(self.threads_max) {
            let now = Instant::now();
            state = match state.schedule.next(now, &mut claim) {
                Next::Run(id) => self.run(state, id),
                Next::WaitUntil(due) => self.wait_for(&self.changed, state, due.saturating_duration_since(now)),
                Next::Wait => self.wait(&self.changed, state),
            };
        }
        state.schedule.release(&mut claim);
        state.workers -= 1;
        drop(state);
        // Another may have to wait for what this one did.
        self.changed.notify_all();
        self.left.notify_all();
    }

    fn run<'a>(&'a self, mut state: MutexGuard<'a, State>, id: TaskId) -> MutexGuard<'a, State> {
        let task = state.schedule.task(id).task.take().expect("a task that waits is there");
        drop(state);
        // A worker that went with its task would be waited for for ever. The panic hook reports what happened.
        let again = catch_unwind(AssertUnwindSafe(|| task.run())).unwrap_or(None);
        let mut state = self.lock();
        match again {
            Some((due, task)) => {
                state.schedule.task(id).task = Some(task);
                if state.schedule.put_back(id, due) {
                    let watched = Arc::clone(&state.schedule.task(id).watched);
                    watched.set_stuck(false);
                    drop(state);
                    watched.report(false);
                    return self.lock();
                }
            }
            None => {
                state.schedule.remove(id);
                // There may be more workers now than there is work.
                self.changed.notify_all();
            }
        }
        state
    }

    /// The watchdog's life.
    fn watch(self: &Arc<Self>) {
        let mut state = self.lock();
        while !state.closing {
            let now = Instant::now();
            let stuck = state.schedule.find_stuck(now, self.patience);
            let stuck = stuck.into_iter().map(|id| Arc::clone(&state.schedule.task(id).watched)).collect::<Vec<_>>();
            stuck.iter().for_each(|watched| watched.set_stuck(true));
            let started = self.start_missing(&mut state);
            drop(state);
            if let Err(error) = started {
                error!(%error, "cannot start a simulation thread in the place of one that is stuck");
            }
            for watched in stuck {
                watched.report(true);
                // Who waits for the others' end need not wait for this one.
                self.left.notify_all();
            }
            state = self.lock();
            if state.closing {
                return;
            }
            let next = state.schedule.next_stuck(now, self.patience);
            state = self.wait_for(&self.closed, state, next.saturating_duration_since(now));
        }
    }

    /// Starts workers, where there are fewer than there should be.
    fn start_missing(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        while state.free_workers() < state.workers_wanted(self.threads_max) {
            let pool = Arc::clone(self);
            thread::Builder::new().name("tickwire-sim".into()).spawn(move || pool.work())?;
            state.workers += 1;
            debug!(threads = state.workers, "started a simulation thread");
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn wait<'a>(&self, condition: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        condition.wait(state).expect("no holder of this lock panics")
    }

    fn wait_for<'a>(&self, condition: &Condvar, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        condition.wait_timeout(state, time).expect("no holder of this lock panics").0
    }
}

impl State {
    fn has_too_many(&self, threads_max: usize) -> bool {
        self.free_workers() > self.workers_wanted(threads_max)
    }

    fn workers_wanted(&self, threads_max: usize) -> usize {
        threads_max.min(self.schedule.tasks() - self.schedule.stuck())
    }

    /// Those whose task is not stuck.
    fn free_workers(&self) -> usize {
        self.workers - self.schedule.stuck()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    };

    use super::*;

    /// Never taken for stuck.
    const PATIENCE: Duration = Duration::from_secs(3600);

    #[derive(Default)]
    struct Noted {
        stuck: Mutex<Vec<bool>>,
        changed: Condvar,
    }

    impl Noted {
        /// Waits until this has been noted.
        fn wait_for(&self, noted: &[bool]) {
            let stuck = self.stuck.lock().expect("sound");
            drop(self.changed.wait_while(stuck, |stuck| stuck != noted).expect("sound"));
        }
    }

    impl Watched for Noted {
        fn set_stuck(&self, stuck: bool) {
            self.stuck.lock().expect("sound").push(stuck);
            self.changed.notify_all();
        }

        fn report(&self, _stuck: bool) {}
    }

    /// Runs until told to stop, as soon as it can.
    struct Counts {
        runs: Arc<AtomicUsize>,
        at_once: Arc<AtomicBool>,
        stop: Arc<AtomicBool>,
    }

    impl Task for Counts {
        fn run(self: Box<Self>) -> Option<(Instant, Box<dyn Task>)> {
            assert!(!self.at_once.swap(true, Ordering::SeqCst), "it runs twice at once");
            self.runs.fetch_add(1, Ordering::SeqCst);
            self.at_once.store(false, Ordering::SeqCst);
            (!self.stop.load(Ordering::SeqCst)).then(|| (Instant::now(), self as _))
        }
    }

    fn threads(count: usize, patience: Duration) -> SimulationThreads {
        SimulationThreads::start(NonZeroUsize::new(count).expect("some"), patience).expect("there are threads")
    }

    fn count(threads: &SimulationThreads, stop: &Arc<AtomicBool>) -> Arc<AtomicUsize> {
        let runs = Arc::<AtomicUsize>::default();
        let task = Counts { runs: Arc::clone(&runs), at_once: Arc::default(), stop: Arc::clone(stop) };
        threads.add(Instant::now(), Box::new(task), Arc::new(Noted::default())).expect("there is a thread");
        runs
    }

    #[test]
    fn all_tasks_run_on_a_few_threads_and_none_twice_at_once() {
        let threads = threads(3, PATIENCE);
        let stop = Arc::default();
        let runs: Vec<_> = (0..20).map(|_| count(&threads, &stop)).collect();
        while runs.iter().any(|runs| runs.load(Ordering::SeqCst) < 100) {
            thread::yield_now();
        }
        assert_eq!(threads.pool.lock().workers, 3);
        stop.store(true, Ordering::SeqCst);
        threads.wait();
        assert_eq!(threads.pool.lock().workers, 0);
    }

    struct Panics;

    impl Task for Panics {
        fn run(self: Box<Self>) -> Option<(Instant, Box<dyn Task>)> {
            panic!("this task fails")
        }
    }

    #[test]
    fn a_task_that_panics_is_over_and_its_thread_goes_on() {
        let threads = threads(1, PATIENCE);
        let stop = Arc::default();
        threads.add(Instant::now(), Box::new(Panics), Arc::new(Noted::default())).expect("there is a thread");
        let runs = count(&threads, &stop);
        while runs.load(Ordering::SeqCst) < 10 {
            thread::yield_now();
        }
        stop.store(true, Ordering::SeqCst);
        threads.wait();
        assert_eq!(threads.pool.lock().workers, 0);
    }

    /// Runs whenever there is a word for it, and for as long as there is none.
    struct Obeys {
        began: Sender<()>,
        go: Receiver<Option<Duration>>,
    }

    impl Task for Obeys {
        fn run(self: Box<Self>) -> Option<(Instant, Box<dyn Task>)> {
            self.began.send(()).expect("the test waits");
            let wait = self.go.recv().expect("the test speaks")?;
            Some((Instant::now() + wait, self as _))
        }
    }

    #[test]
    fn a_task_that_is_stuck_costs_the_others_no_thread_and_goes_on_when_it_comes_back() {
        let threads = threads(1, Duration::from_millis(20));
        let noted = Arc::new(Noted::default());
        let ((began, begins), (word, go)) = (channel(), channel());
        let task = Box::new(Obeys { began, go });
        let handle = threads.add(Instant::now(), task, Arc::clone(&noted) as _).expect("there is a thread");
        begins.recv().expect("it begins");
        noted.wait_for(&[true]);
        let stop = Arc::default();
        let runs = count(&threads, &stop);
        while runs.load(Ordering::SeqCst) < 100 {
            thread::yield_now();
        }
        assert_eq!(threads.pool.lock().workers, 2);
        word.send(Some(PATIENCE)).expect("it listens");
        noted.wait_for(&[true, false]);
        while threads.pool.lock().workers > 1 {
            thread::yield_now();
        }
        // It is not due for an hour.
        handle.expedite();
        begins.recv().expect("it begins");
        stop.store(true, Ordering::SeqCst);
        noted.wait_for(&[true, false, true]);
        // The others are over; nobody waits for this one.
        threads.wait();
        assert_eq!(threads.pool.lock().workers, 1);
        word.send(None).expect("it listens");
        while threads.pool.lock().workers > 0 {
            thread::yield_now();
        }
    }
}
