//! What spectators see of a running session: its own frames, or the same frames later.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tickwire_replication::Replicator;
use tickwire_shared::{Frame, Tick, TickRate};
use tokio::sync::{Notify, watch};

use crate::limits::{Permit, Quota};

/// The longest delay whose frames wait in memory; those of a longer one are played from the recording.
pub(crate) const DELAY_IN_MEMORY_MAX: Duration = Duration::from_secs(10);

/// The ends of so many sessions are shown late at once.
const TAILS_MAX: usize = 256;
/// For so long after it is shown may spectators still get the last frame: there may be no bytes for it at first.
const LAST_FRAME_TIME: Duration = Duration::from_secs(1);
/// So much later than it should be may the last frame be shown: a disk may hold up what is played.
const TAIL_LATE_MAX: Duration = Duration::from_secs(10);

/// A session's live edge, as its spectators see it.
#[derive(Debug)]
pub(crate) struct LiveEdge {
    rate: TickRate,
    delay_ticks: u64,
    /// What is shown late.
    late: Option<Late>,
    /// The session has stepped, or has ended.
    stepped: Notify,
    /// Wakes spectators. The session's thread wakes one task, whatever their number, and that wakes them.
    moved: watch::Sender<()>,
    /// Why nothing more is shown.
    problem: OnceLock<String>,
    /// Once the session has ended, where those who see it late are to see that.
    tail: OnceLock<Tail>,
    /// Nothing more is shown.
    is_out: AtomicBool,
    spectators: AtomicUsize,
}

#[derive(Debug)]
struct Late {
    /// Another one after each jump in time.
    replicator: RwLock<Arc<Replicator>>,
    /// Oldest first; none, where they come from the recording.
    waiting: Option<Mutex<VecDeque<Arc<Frame>>>>,
}

/// The end of a session.
#[derive(Debug)]
struct Tail {
    last: Tick,
    /// When that tick was due.
    due: Instant,
    /// Since when it is shown.
    seen: OnceLock<Instant>,
    permit: Mutex<Option<Permit>>,
}

impl LiveEdge {
    /// The edge of a session whose spectators see each frame `delay` after it stood. `replicator` makes another one of its
    /// frames.
    pub(super) fn new(delay: Duration, rate: TickRate, replicator: impl FnOnce() -> Replicator) -> Self {
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX / 1000);
        let late = || Late {
            replicator: RwLock::new(Arc::new(replicator())),
            waiting: (delay <= DELAY_IN_MEMORY_MAX).then(Mutex::<VecDeque<_>>::default),
        };
        Self {
            rate,
            delay_ticks: rate.ticks_in_ms(delay_ms),
            late: (!delay.is_zero()).then(late),
            stepped: Notify::new(),
            moved: watch::Sender::new(()),
            problem: OnceLock::new(),
            tail: OnceLock::new(),
            is_out: AtomicBool::new(false),
            spectators: AtomicUsize::new(0),
        }
    }

    /// How many ticks after it stood a frame is shown.
    pub(crate) fn delay_ticks(&self) -> u64 {
        self.delay_ticks
    }

    /// The session has stepped its last tick, which was due then: without it time goes on for those who see it late, where
    /// that is not done for too many sessions at once.
    pub(super) fn begin_tail(&self, last: Tick, due: Instant, tails: &Arc<Quota>) {
        let Some(permit) = tails.take(TAILS_MAX) else { return self.note_out() };
        let _ = self.tail.set(Tail { last, due, seen: OnceLock::new(), permit: Mutex::new(Some(permit)) });
        self.stepped.notify_one();
    }

    /// The session's last tick, where its end is shown.
    pub(crate) fn last(&self) -> Option<Tick> {
        self.tail.get().map(|tail| tail.last)
    }

    /// Where its end is shown, the tick that the session would have come to by now, and the time since that would have been due.
    pub(super) fn since_last(&self, now: Instant) -> Option<(Tick, Duration)> {
        let tail = self.tail.get()?;
        let since = now.saturating_duration_since(tail.due);
        let ticks = since.as_nanos() * u128::from(self.rate.hz()) / Duration::from_secs(1).as_nanos();
        let ticks = u64::try_from(ticks).unwrap_or(u64::MAX);
        Some((Tick(tail.last.0.saturating_add(ticks)), since.saturating_sub(self.rate.duration_of(ticks))))
    }

    /// What there was to show has been: from the last tick on spectators have a while to get that.
    pub(crate) fn note_shown(&self, now: Instant) {
        if let (Some(tail), Some(late)) = (self.tail.get(), self.late())
            && late.newest().tick >= tail.last
        {
            tail.seen.get_or_init(|| now);
        }
    }

    /// Whether there has been time to see the end, too.
    pub(super) fn is_past_end(&self, now: Instant) -> bool {
        let Some(tail) = self.tail.get() else { return false };
        let seen = tail.seen.get().is_some_and(|seen| now.saturating_duration_since(*seen) >= LAST_FRAME_TIME);
        let longest = self.rate.duration_of(self.delay_ticks) + TAIL_LATE_MAX;
        seen || now.saturating_duration_since(tail.due) >= longest
    }

    /// Nothing more is shown.
    pub(crate) fn note_out(&self) {
        self.is_out.store(true, Ordering::Release);
        if let Some(tail) = self.tail.get() {
            tail.permit.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        self.wake_spectators();
    }

    /// Whether nothing more is shown.
    pub(super) fn is_out(&self) -> bool {
        self.is_out.load(Ordering::Acquire)
    }

    /// The newest tick that is old enough to be shown when `newest` is the session's.
    pub(crate) fn due(&self, newest: Tick) -> Tick {
        Tick(newest.0.saturating_sub(self.delay_ticks))
    }

    /// Whose frames are late, where any are. The first one of a session that goes on after a crash is not [due](Self::due) at
    /// first.
    pub(crate) fn late(&self) -> Option<Arc<Replicator>> {
        // A poisoned lock holds a whole Arc all the same: it is only ever replaced.
        let replicator = |late: &Late| Arc::clone(&late.replicator.read().unwrap_or_else(PoisonError::into_inner));
        self.late.as_ref().map(replicator)
    }

    /// What is shown late goes on with other frames, which do not follow those before: for spectators that is a jump in time.
    pub(crate) fn jump(&self, replicator: Arc<Replicator>) {
        if let Some(late) = &self.late {
            *late.replicator.write().unwrap_or_else(PoisonError::into_inner) = replicator;
        }
    }

    /// Whether late frames come from the recording.
    pub(crate) fn is_played(&self) -> bool {
        self.late.as_ref().is_some_and(|late| late.waiting.is_none())
    }

    /// Takes in the session's newest frame.
    pub(super) fn offer(&self, frame: &Arc<Frame>) {
        if let Some(mut waiting) = self.waiting() {
            waiting.push_back(Arc::clone(frame));
        }
    }

    /// The session has stepped, or has ended: where anybody is to be told, one task is.
    pub(super) fn note_step(&self) {
        if self.late.is_some() || self.spectators() > 0 {
            self.stepped.notify_one();
        }
    }

    /// The session has ended: whoever waits for its next step waits no longer.
    pub(super) fn note_end(&self) {
        self.stepped.notify_one();
    }

    /// Waits for the session's next step, or its end.
    pub(crate) async fn stepped(&self) {
        self.stepped.notified().await;
    }

    /// Shows what is old enough when `newest` is the session's newest tick.
    pub(crate) fn show_due(&self, newest: Tick) {
        let Some(late) = self.late() else { return };
        let due = self.due(newest);
        loop {
            let is_due = |frame: &mut Arc<Frame>| frame.tick <= due;
            let Some(frame) = self.waiting().and_then(|mut waiting| waiting.pop_front_if(is_due)) else { return };
            late.publish(frame);
        }
    }

    /// Nothing more is shown, and why.
    pub(crate) fn fail(&self, problem: String) {
        // The first is the reason for all others.
        let _ = self.problem.set(problem);
        self.wake_spectators();
    }

    /// Why nothing more is shown, where that is so.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.problem.get().map(String::as_str)
    }

    /// Wakes the spectators.
    pub(crate) fn wake_spectators(&self) {
        self.moved.send_replace(());
    }

    /// Is told whenever the edge may have moved.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.moved.subscribe()
    }

    /// Those who watch.
    pub(crate) fn spectators(&self) -> usize {
        self.spectators.load(Ordering::Acquire)
    }

    /// Lets one more in, where there are not `most` already.
    pub(crate) fn admit(&self, most: usize) -> bool {
        let more = |spectators| (spectators < most).then_some(spectators + 1);
        self.spectators.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// One of those who were let in has gone.
    pub(crate) fn dismiss(&self) {
        self.spectators.fetch_sub(1, Ordering::AcqRel);
    }

    fn waiting(&self) -> Option<MutexGuard<'_, VecDeque<Arc<Frame>>>> {
        let waiting = self.late.as_ref()?.waiting.as_ref()?;
        Some(waiting.lock().expect("no holder of this lock panics"))
    }
}

#[cfg(test)]
mod tests {
    use tickwire_arena::Arena;
    use tickwire_replication::ReplicationConfig;
    use tickwire_simulation::{Session, SessionConfig};

    use super::*;

    const DELAY: Duration = Duration::from_secs(2);

    /// The edge of a session that has not stepped yet, and the session.
    fn edge() -> (LiveEdge, Session) {
        let (game, rate) = (Arc::new(Arena), TickRate::new(50).expect("in range"));
        let session = Session::new(game.clone(), SessionConfig { tick_rate: rate, ..SessionConfig::default() });
        let session = session.expect("it can be created");
        let frame = Arc::clone(session.frame());
        let replicator = || Replicator::new(game, session.schema(), ReplicationConfig::new(rate), frame);
        (LiveEdge::new(DELAY, rate, replicator), session)
    }

    #[test]
    fn time_goes_on_for_those_who_see_an_end_late_until_they_have_had_time_to() {
        let (edge, mut session) = edge();
        for _ in 0..5 {
            let input = session.begin_tick();
            edge.offer(&session.finish_tick(&input).expect("it does not panic").frame);
        }
        let (due, tails) = (Instant::now(), Arc::<Quota>::default());
        assert_eq!((edge.since_last(due), edge.is_past_end(due + DELAY * 100)), (None, false), "it has not ended");
        edge.begin_tail(Tick(5), due, &tails);
        assert_eq!(edge.since_last(due + Duration::from_millis(70)), Some((Tick(8), Duration::from_millis(10))));
        let (by_now, _) = edge.since_last(due + DELAY - Duration::from_millis(1)).expect("it has ended");
        edge.show_due(by_now);
        edge.note_shown(due + DELAY);
        let seen = edge.late().expect("it is late").newest().tick;
        assert_eq!((seen, edge.is_past_end(due + DELAY + LAST_FRAME_TIME * 2)), (Tick(4), false), "one is left");
        assert!(edge.is_past_end(due + DELAY + TAIL_LATE_MAX), "nobody waits for ever");
        edge.show_due(edge.since_last(due + DELAY).expect("it has ended").0);
        let shown = due + DELAY;
        edge.note_shown(shown);
        assert_eq!(edge.late().expect("it is late").newest().tick, Tick(5));
        assert!(!edge.is_past_end(shown) && edge.is_past_end(shown + LAST_FRAME_TIME));
    }

    #[test]
    fn so_many_ends_are_shown_late_at_once() {
        let (tails, now) = (Arc::<Quota>::default(), Instant::now());
        let others: Vec<_> = (1..TAILS_MAX).map(|_| tails.take(TAILS_MAX).expect("there is room")).collect();
        let [last, beyond, later] = [(); 3].map(|()| edge().0);
        last.begin_tail(Tick(5), now, &tails);
        beyond.begin_tail(Tick(5), now, &tails);
        assert_eq!([last.is_out(), beyond.is_out()], [false, true]);
        last.note_out();
        later.begin_tail(Tick(5), now, &tails);
        assert!(!later.is_out() && last.is_out(), "it has been shown");
        drop(others);
        assert_eq!(tails.taken(), 1);
    }
}
