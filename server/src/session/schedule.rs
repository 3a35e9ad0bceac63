//! Which of many tasks runs next, and which worker wakes for it: without clock, threads or locks of its own.
//!
//! The task that is due longest runs first, so that none starves: whoever runs moves on to a later time, who waits does
//! not. A worker that finds nothing due waits for the earliest task that no other worker waits for. So each task is begun
//! by a worker that wakes for it, no worker has to wake another, and a task that takes long holds up no other one while
//! there is a worker left.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use slab::Slab;

/// A task's number in its schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TaskId(usize);

/// Tasks that run now and then, each with one worker at a time.
#[derive(Debug)]
pub(super) struct Schedule<T> {
    tasks: Slab<Entry<T>>,
    /// All that wait, by the time at which they are due; and whether a worker waits for it.
    waiting: BTreeMap<Waiting, bool>,
    /// At most one per worker.
    running: Vec<Running>,
}

#[derive(Debug)]
struct Entry<T> {
    /// `None` while it runs.
    due: Option<Instant>,
    task: T,
}

type Waiting = (Instant, TaskId);

#[derive(Debug)]
struct Running {
    id: TaskId,
    since: Instant,
    stuck: bool,
    /// Somebody wanted it to run since it began to.
    expedited: Option<Instant>,
}

/// The task that a worker waits for. It goes from one [`Schedule::next`] to the worker's next one.
#[derive(Debug, Default)]
pub(super) struct Claim(Option<Waiting>);

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Runs this task, and puts it back or removes it.
    Run(TaskId),
    /// Asks again then, or when something has been added or expedited.
    WaitUntil(Instant),
    /// Asks again when something has been added or expedited.
    Wait,
}

impl<T> Schedule<T> {
    pub(super) const fn new() -> Self {
        Self { tasks: Slab::new(), waiting: BTreeMap::new(), running: Vec::new() }
    }

    /// Takes in a task that first runs at `due`.
    pub(super) fn add(&mut self, due: Instant, task: T) -> TaskId {
        let id = TaskId(self.tasks.insert(Entry { due: Some(due), task }));
        self.waiting.insert((due, id), false);
        id
    }

    /// Takes a task out that waits.
    pub(super) fn withdraw(&mut self, id: TaskId) {
        if let Some(due) = self.tasks.remove(id.0).due {
            self.waiting.remove(&(due, id));
        }
    }

    /// A task that is there.
    pub(super) fn task(&mut self, id: TaskId) -> &mut T {
        &mut self.tasks[id.0].task
    }

    /// What a worker does at `now`.
    pub(super) fn next(&mut self, now: Instant, claim: &mut Claim) -> Next {
        self.release(claim);
        if let Some(first) = self.waiting.first_entry()
            && first.key().0 <= now
        {
            let ((_, id), _) = first.remove_entry();
            self.tasks[id.0].due = None;
            self.running.push(Running { id, since: now, stuck: false, expedited: None });
            return Next::Run(id);
        }
        match self.waiting.iter_mut().find(|(_, claimed)| !**claimed) {
            Some((&waiting, claimed)) => {
                *claimed = true;
                claim.0 = Some(waiting);
                Next::WaitUntil(waiting.0)
            }
            None => Next::Wait,
        }
    }

    /// Gives up a claim: the worker waits no longer.
    pub(super) fn release(&mut self, claim: &mut Claim) {
        // It may have been run by another worker since.
        if let Some(claimed) = claim.0.take().and_then(|waiting| self.waiting.get_mut(&waiting)) {
            *claimed = false;
        }
    }

    /// Lets a task that has run wait until it is due again. True: it had been [stuck](Self::find_stuck).
    pub(super) fn put_back(&mut self, id: TaskId, due: Instant) -> bool {
        let Running { stuck, expedited, .. } = self.has_run(id);
        let due = expedited.map_or(due, |at| due.min(at));
        self.tasks[id.0].due = Some(due);
        self.waiting.insert((due, id), false);
        stuck
    }

    /// Forgets a task that has run for the last time.
    pub(super) fn remove(&mut self, id: TaskId) {
        self.tasks.remove(id.0);
        self.has_run(id);
    }

    fn has_run(&mut self, id: TaskId) -> Running {
        let place = self.running.iter().position(|running| running.id == id).expect("only who runs can have run");
        self.running.swap_remove(place)
    }

    /// Makes a task due at `now`, unless it is over. One that runs at the time runs once more.
    pub(super) fn expedite(&mut self, id: TaskId, now: Instant) {
        match self.tasks.get_mut(id.0) {
            Some(Entry { due: Some(due), .. }) if *due > now => {
                self.waiting.remove(&(*due, id));
                *due = now;
                self.waiting.insert((now, id), false);
            }
            Some(Entry { due: None, .. }) => {
                let running = self.running.iter_mut().filter(|running| running.id == id);
                running.for_each(|running| running.expedited = Some(now));
            }
            Some(_) | None => {}
        }
    }

    /// Finds tasks that have been running for `limit` and longer: each once per run.
    pub(super) fn find_stuck(&mut self, now: Instant, limit: Duration) -> Vec<TaskId> {
        let is_new = |running: &&mut Running| !running.stuck && now.saturating_duration_since(running.since) >= limit;
        let found = self.running.iter_mut().filter(is_new).map(|running| {
            running.stuck = true;
            running.id
        });
        found.collect()
    }

    /// The earliest time at which [`find_stuck`](Self::find_stuck) may find another one.
    pub(super) fn next_stuck(&self, now: Instant, limit: Duration) -> Instant {
        let earliest = self.running.iter().filter(|running| !running.stuck).map(|running| running.since).min();
        earliest.unwrap_or(now) + limit
    }

    /// How many tasks there are, those that run among them.
    pub(super) fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// How many tasks are stuck.
    pub(super) fn stuck(&self) -> usize {
        self.running.iter().filter(|running| running.stuck).count()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// A schedule of `dues`, in ms after the moment that is returned; each task is its own number.
    fn schedule(dues: &[u64]) -> (Schedule<usize>, Instant) {
        let start = Instant::now();
        let mut schedule = Schedule::new();
        for (task, due) in dues.iter().enumerate() {
            schedule.add(start + MS(*due), task);
        }
        (schedule, start)
    }

    fn run(schedule: &mut Schedule<usize>, now: Instant, claim: &mut Claim) -> (TaskId, usize) {
        match schedule.next(now, claim) {
            Next::Run(id) => (id, *schedule.task(id)),
            other => panic!("{other:?}, and nothing to run"),
        }
    }

    #[test]
    fn what_is_due_longest_runs_first() {
        let (mut schedule, start) = schedule(&[30, 10, 20]);
        let mut claim = Claim::default();
        assert_eq!(schedule.next(start, &mut claim), Next::WaitUntil(start + MS(10)));
        let order: Vec<usize> = (0..3).map(|_| run(&mut schedule, start + MS(40), &mut claim).1).collect();
        assert_eq!(order, [1, 2, 0]);
        assert_eq!(schedule.next(start + MS(40), &mut claim), Next::Wait);
    }

    #[test]
    fn each_worker_waits_for_a_task_of_its_own() {
        let (mut schedule, start) = schedule(&[10, 20]);
        let mut claims: [Claim; 3] = Default::default();
        let waits: Vec<_> = claims.iter_mut().map(|claim| schedule.next(start, claim)).collect();
        assert_eq!(waits, [Next::WaitUntil(start + MS(10)), Next::WaitUntil(start + MS(20)), Next::Wait]);
        // The second is late to wake, and the first, which is done, runs its task for it.
        let (first, _) = run(&mut schedule, start + MS(10), &mut claims[0]);
        schedule.put_back(first, start + MS(110));
        let (second, task) = run(&mut schedule, start + MS(20), &mut claims[0]);
        assert_eq!(task, 1);
        assert_eq!(schedule.next(start + MS(21), &mut claims[1]), Next::WaitUntil(start + MS(110)));
        schedule.put_back(second, start + MS(120));
        assert_eq!(schedule.next(start + MS(22), &mut claims[0]), Next::WaitUntil(start + MS(120)));
        // Who goes leaves its task to another.
        schedule.release(&mut claims[1]);
        assert_eq!(schedule.next(start + MS(23), &mut claims[2]), Next::WaitUntil(start + MS(110)));
    }

    #[test]
    fn an_expedited_task_is_due_at_once_or_once_more_where_it_runs() {
        let (mut schedule, start) = schedule(&[10, 20]);
        let mut claim = Claim::default();
        let (first, _) = run(&mut schedule, start + MS(10), &mut claim);
        schedule.expedite(first, start + MS(11));
        assert_eq!(schedule.next(start + MS(11), &mut claim), Next::WaitUntil(start + MS(20)));
        let second = schedule.waiting.first_key_value().expect("it waits").0.1;
        schedule.expedite(second, start + MS(12));
        assert_eq!(run(&mut schedule, start + MS(12), &mut claim), (second, 1));
        schedule.put_back(first, start + MS(110));
        assert_eq!(run(&mut schedule, start + MS(12), &mut claim), (first, 0));
        schedule.put_back(first, start + MS(110));
        schedule.remove(second);
        schedule.expedite(second, start + MS(13));
        assert_eq!(schedule.next(start + MS(13), &mut claim), Next::WaitUntil(start + MS(110)));
    }

    #[test]
    fn a_task_that_runs_for_too_long_is_found_once_and_goes_on_when_it_is_done() {
        let (mut schedule, start) = schedule(&[10, 10]);
        let mut claim = Claim::default();
        let limit = MS(1000);
        assert_eq!(schedule.next_stuck(start, limit), start + limit);
        let (first, _) = run(&mut schedule, start + MS(10), &mut claim);
        let (second, _) = run(&mut schedule, start + MS(500), &mut claim);
        assert_eq!(schedule.next_stuck(start + MS(500), limit), start + MS(1010));
        assert_eq!(schedule.find_stuck(start + MS(1009), limit), []);
        assert_eq!(schedule.find_stuck(start + MS(1010), limit), [first]);
        assert_eq!(schedule.find_stuck(start + MS(1011), limit), []);
        assert_eq!(schedule.next_stuck(start + MS(1011), limit), start + MS(1500));
        assert_eq!((schedule.stuck(), schedule.tasks()), (1, 2));
        assert!(!schedule.put_back(second, start + MS(1100)));
        assert!(schedule.put_back(first, start + MS(1100)));
        assert_eq!(schedule.stuck(), 0);
        // Another run, another time to be found.
        let (id, _) = run(&mut schedule, start + MS(1100), &mut claim);
        assert_eq!(schedule.find_stuck(start + MS(2100), limit), [id]);
        schedule.remove(id);
        assert_eq!((schedule.stuck(), schedule.tasks()), (0, 1));
    }

    /// Workers that run tasks in simulated time: a worker acts when its task is done, or when it wakes.
    struct Simulated {
        schedule: Schedule<usize>,
        now: Instant,
        workers: Vec<Worker>,
        /// The times at which each task was begun.
        begun: Vec<Vec<Instant>>,
    }

    enum Worker {
        Runs { until: Instant, id: TaskId, task: usize },
        Waits { until: Option<Instant>, claim: Claim },
    }

    impl Simulated {
        fn new(dues: &[u64], workers: usize) -> Self {
            let (schedule, now) = schedule(dues);
            let worker = || Worker::Waits { until: Some(now), claim: Claim::default() };
            let workers = std::iter::repeat_with(worker).take(workers).collect();
            Self { schedule, now, workers, begun: vec![Vec::new(); dues.len()] }
        }

        /// Steps whoever acts first. `again` says for how long a task that begins now runs, and when it is due after that.
        fn act(&mut self, cost: Duration, mut again: impl FnMut(usize, Instant) -> Instant) {
            let time = |worker: &Worker| match worker {
                Worker::Runs { until, .. } => Some(*until),
                Worker::Waits { until, .. } => *until,
            };
            let acting = (0..self.workers.len()).filter(|&i| time(&self.workers[i]).is_some());
            let acting = acting.min_by_key(|&i| time(&self.workers[i])).expect("somebody acts some time");
            self.now = time(&self.workers[acting]).expect("it acts").max(self.now);
            let mut claim = match std::mem::replace(
                &mut self.workers[acting],
                Worker::Waits { until: None, claim: Claim::default() },
            ) {
                Worker::Waits { claim, .. } => claim,
                Worker::Runs { id, task, .. } => {
                    self.schedule.put_back(id, again(task, self.now));
                    Claim::default()
                }
            };
            self.workers[acting] = match self.schedule.next(self.now, &mut claim) {
                Next::Run(id) => {
                    let task = *self.schedule.task(id);
                    self.begun[task].push(self.now);
                    Worker::Runs { until: self.now + cost, id, task }
                }
                Next::WaitUntil(due) => Worker::Waits { until: Some(due), claim },
                Next::Wait => Worker::Waits { until: None, claim },
            };
            let running: BTreeSet<usize> = self.workers.iter().filter_map(Worker::task).collect();
            assert_eq!(
                running.len(),
                self.workers.iter().filter_map(Worker::task).count(),
                "a task runs twice at once"
            );
        }
    }

    impl Worker {
        fn task(&self) -> Option<usize> {
            if let Self::Runs { task, .. } = self { Some(*task) } else { None }
        }
    }

    proptest! {
        /// Whatever the load: all get about as many turns, and where there is time enough for all, none is later than by one
        /// turn of each.
        #[test]
        fn no_task_starves(tasks in 1_usize..20, workers in 1_usize..5, cost_us in 1_u64..5_000) {
            let (period, cost) = (MS(20), Duration::from_micros(cost_us));
            let dues: Vec<u64> = (0..tasks as u64).map(|i| i * 20 / tasks as u64).collect();
            let mut simulated = Simulated::new(&dues, workers);
            let start = simulated.now;
            let mut due: Vec<Instant> = dues.iter().map(|due| start + MS(*due)).collect();
            let mut late_most = Duration::ZERO;
            for _ in 0..3_000 {
                simulated.act(cost, |task, now| {
                    // A tick that is far behind slips, as a session's does.
                    due[task] = (due[task] + period).max(now - period * 5);
                    due[task]
                });
                let waiting = simulated.schedule.waiting.first_key_value().map(|(waiting, _)| waiting.0);
                if let Some(first) = waiting {
                    late_most = late_most.max(simulated.now.saturating_duration_since(first));
                }
            }
            let turns: Vec<usize> = simulated.begun.iter().map(Vec::len).collect();
            let (least, most) = (turns.iter().min().expect("some"), turns.iter().max().expect("some"));
            prop_assert!(most - least <= 7, "{turns:?}");
            if cost * (tasks as u32) < period {
                prop_assert!(late_most <= cost * (tasks as u32), "{late_most:?} late at {tasks} times {cost:?}");
            }
        }
    }
}
