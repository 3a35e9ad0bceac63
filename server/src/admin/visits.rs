//! The connections of admins, and of who asks for metrics: few at a time, so that each has little time to say what it wants, and
//! the one that has wanted nothing for longest makes room for the newest.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::{config::Timeouts, limits::RefusalReason};

/// The connections that there are.
#[derive(Debug)]
pub(super) struct Visits {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By number, from the oldest on.
    visits: BTreeMap<u64, Arc<Visit>>,
    next: u64,
}

/// A connection, as others know it.
#[derive(Debug)]
pub(crate) struct Visit {
    wants: Mutex<Wants>,
    leave: Notify,
}

#[derive(Debug)]
struct Wants {
    /// Of the connection, of its newest request, or of the end of what was held.
    since: Instant,
    has_asked: bool,
    /// Calls and streams of somebody with a token that are under way.
    held: usize,
}

/// A connection's place among all. Dropped, it is another's.
#[derive(Debug)]
pub(super) struct Place {
    all: Arc<Visits>,
    number: u64,
    pub(super) visit: Arc<Visit>,
}

/// What keeps a connection where it is: somebody with a token has it do something.
#[derive(Debug)]
pub(super) struct Held(Arc<Visit>);

/// Nobody makes room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AllHeld;

impl Visits {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, state: Mutex::default() })
    }

    /// A place for a connection; and whether another one has to leave for it.
    pub(super) fn enter(self: &Arc<Self>) -> Result<(Place, bool), AllHeld> {
        let mut state = self.lock();
        let is_full = state.visits.len() >= self.most;
        if is_full {
            let wait = |(number, visit): (&u64, &Arc<Visit>)| Some((visit.idle_since()?, *number));
            let (_, longest) = state.visits.iter().filter_map(wait).min().ok_or(AllHeld)?;
            if let Some(visit) = state.visits.remove(&longest) {
                visit.leave.notify_one();
            }
        }
        let (number, visit) = (state.next, Arc::new(Visit::new()));
        state.next += 1;
        state.visits.insert(number, Arc::clone(&visit));
        Ok((Place { all: Arc::clone(self), number, visit }, is_full))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.lock().visits.remove(&self.number);
    }
}

impl Visit {
    fn new() -> Self {
        let wants = Wants { since: Instant::now(), has_asked: false, held: 0 };
        Self { wants: Mutex::new(wants), leave: Notify::new() }
    }

    /// A request has come.
    pub(super) fn ask(&self) {
        let mut wants = self.lock();
        (wants.since, wants.has_asked) = (Instant::now(), true);
    }

    /// Somebody with a token has it do something, until what this returns is dropped.
    pub(super) fn hold(self: &Arc<Self>) -> Held {
        self.lock().held += 1;
        Held(Arc::clone(self))
    }

    /// Waits until another connection needs its place.
    pub(super) async fn is_to_leave(&self) {
        self.leave.notified().await;
    }

    /// Waits until it has wanted nothing for too long: what that is called.
    pub(super) async fn is_idle(&self, timeouts: &Timeouts) -> RefusalReason {
        loop {
            let (due, reason) = self.due(timeouts);
            let now = Instant::now();
            if due <= now {
                return reason;
            }
            // A request that comes meanwhile may have it due sooner.
            sleep_until(due.min(now + timeouts.admin_idle)).await;
        }
    }

    fn due(&self, timeouts: &Timeouts) -> (Instant, RefusalReason) {
        match *self.lock() {
            Wants { since, has_asked: false, .. } => (since + timeouts.hello, RefusalReason::NoRequest),
            Wants { since, held: 0, .. } => (since + timeouts.admin_idle, RefusalReason::Idle),
            Wants { .. } => (Instant::now() + timeouts.admin_idle, RefusalReason::Idle),
        }
    }

    /// None: it is held.
    fn idle_since(&self) -> Option<Instant> {
        let wants = self.lock();
        (wants.held == 0).then_some(wants.since)
    }

    fn lock(&self) -> MutexGuard<'_, Wants> {
        self.wants.lock().expect("no holder of this lock panics")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut wants = self.0.lock();
        wants.held -= 1;
        wants.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{advance, timeout};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn timeouts() -> Timeouts {
        Timeouts { hello: 5 * SECOND, admin_idle: 60 * SECOND, ..Timeouts::default() }
    }

    async fn has_to_leave(place: &Place) -> bool {
        timeout(Duration::ZERO, place.visit.is_to_leave()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_wanted_nothing_for_longest_makes_room_unless_it_is_held() {
        let all = Visits::new(3);
        let enter = || all.enter().expect("there is room, or somebody makes it");
        let [(first, _), (second, _)] = [enter(), enter()];
        advance(SECOND).await;
        let (third, is_anothers) = enter();
        assert!(!is_anothers);
        first.visit.ask();
        let held = third.visit.hold();

        let (fourth, is_anothers) = enter();
        assert!(is_anothers && has_to_leave(&second).await);
        assert!(!has_to_leave(&first).await && !has_to_leave(&third).await);
        // Its place is the fourth's, and gone with that alone.
        drop(second);
        advance(SECOND).await;
        let (_fifth, is_anothers) = enter();
        assert!(is_anothers && has_to_leave(&first).await && !has_to_leave(&fourth).await);
        drop(fourth);
        let (sixth, is_anothers) = enter();
        assert!(!is_anothers && !has_to_leave(&sixth).await);
        drop(held);
        assert_eq!(third.visit.idle_since(), Some(Instant::now()));
    }

    #[tokio::test]
    async fn where_all_are_held_nobody_makes_room() {
        let all = Visits::new(1);
        let (place, _) = all.enter().expect("there is room");
        let held = place.visit.hold();
        assert_eq!(all.enter().map(drop), Err(AllHeld));
        drop(held);
        assert!(all.enter().expect("it makes room").1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_request_and_each_further_one_have_their_time_and_what_is_held_stands() {
        let (place, _) = Visits::new(1).enter().expect("there is room");
        let (visit, timeouts) = (&place.visit, timeouts());
        let start = Instant::now();
        assert_eq!(visit.is_idle(&timeouts).await, RefusalReason::NoRequest);
        assert_eq!(start.elapsed(), 5 * SECOND);
        let patient = Timeouts { hello: 6000 * SECOND, ..timeouts.clone() };
        let asks = async {
            visit.ask();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            reason = visit.is_idle(&patient) => assert_eq!(reason, RefusalReason::Idle),
            () = asks => {}
        }
        assert_eq!(start.elapsed(), 65 * SECOND);
        let held = visit.hold();
        timeout(600 * SECOND, visit.is_idle(&timeouts)).await.expect_err("it is held");
        drop(held);
        let start = Instant::now();
        assert_eq!(visit.is_idle(&timeouts).await, RefusalReason::Idle);
        assert_eq!(start.elapsed(), 60 * SECOND);
    }
}
