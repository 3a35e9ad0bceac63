//! A spectator in the past: a thread plays a recording at the pace that is asked for, and what it plays stands in a
//! replicator, as a running session's frames do.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use tickwire_replication::{ReplicationConfig, Replicator};
use tickwire_shared::{Frame, Tick, TickRate};
use tokio::sync::watch;

use super::tape::{Deck, Played, Tape};
use crate::{limits::Permit, net::yield_to_others};

/// So many times as many frames as of a running session are kept: ticks go by faster.
const HISTORIES: usize = 8;

/// A spectator's place in the past. It ends when [stopped](Self::stop).
#[derive(Debug)]
pub(super) struct Past {
    orders: Mutex<Orders>,
    ordered: Condvar,
    state: watch::Sender<PastState>,
}

/// What the spectator has asked for and the thread has not taken up.
#[derive(Debug)]
struct Orders {
    stop: bool,
    seek: Option<Tick>,
    /// Ticks to be played while paused.
    steps: u32,
    speed: f64,
    paused: bool,
}

/// Where it stands.
#[derive(Clone, Debug)]
pub(super) struct PastState {
    /// None until the first place is reached. After a jump it is another.
    pub(super) stretch: Option<Arc<Stretch>>,
    /// The newest tick to be seen.
    pub(super) tick: Tick,
    /// Since when.
    pub(super) since: Instant,
    pub(super) speed: f64,
    pub(super) paused: bool,
    pub(super) outcome: Outcome,
    /// Where it could not go, of all times so far.
    pub(super) refused: Refused,
    /// The first tick that there was when it went somewhere, where the oldest may be deleted.
    pub(super) first_left: Option<Tick>,
}

/// Places that could not be gone to: it has stayed where it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) times: u64,
    /// Why, the last time.
    pub(super) reason: String,
}

/// What became of the playing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It goes on.
    Plays,
    /// It has come to the live edge.
    CaughtUp,
    /// It has come to the recording's end.
    Ended,
    /// It cannot go on; in words.
    Failed(String),
}

/// Frames of consecutive ticks.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) replicator: Replicator,
}

impl Past {
    /// Begins at `tick`. `place` is held for as long as the thread runs; `open` is called there.
    pub(super) fn begin(
        tick: Tick,
        speed: f64,
        paused: bool,
        place: Arc<Permit>,
        open: impl FnOnce() -> Result<Tape, String> + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let state = PastState {
            stretch: None,
            tick,
            since: Instant::now(),
            speed,
            paused,
            outcome: Outcome::Plays,
            refused: Refused::default(),
            first_left: None,
        };
        let past = Arc::new(Self {
            orders: Mutex::new(Orders { stop: false, seek: Some(tick), steps: 0, speed, paused }),
            ordered: Condvar::new(),
            state: watch::Sender::new(state),
        });
        let player = Arc::clone(&past);
        thread::Builder::new().name("tickwire-replay".into()).spawn(move || {
            yield_to_others();
            match open() {
                Ok(tape) => Player::new(player, tape).play(),
                Err(error) => player.state.send_modify(|state| state.outcome = Outcome::Failed(error)),
            }
            drop(place);
        })?;
        Ok(past)
    }

    /// Where it stands, and what tells of changes.
    pub(super) fn subscribe(&self) -> watch::Receiver<PastState> {
        self.state.subscribe()
    }

    /// Where it is, or will be: what steps back are counted from.
    pub(super) fn tick(&self) -> Tick {
        let sought = self.lock().seek;
        sought.unwrap_or_else(|| self.state.borrow().tick)
    }

    pub(super) fn seek(&self, tick: Tick) {
        self.order(|orders| {
            orders.seek = Some(tick);
            orders.steps = 0;
        });
    }

    /// Goes on, too.
    pub(super) fn set_speed(&self, speed: f64) {
        self.order(|orders| (orders.speed, orders.paused) = (speed, false));
    }

    pub(super) fn set_paused(&self, paused: bool) {
        self.order(|orders| (orders.paused, orders.steps) = (paused, 0));
    }

    /// Pauses, and plays so many ticks.
    pub(super) fn step(&self, ticks: u32) {
        self.order(|orders| (orders.paused, orders.steps) = (true, orders.steps.saturating_add(ticks)));
    }

    /// Ends the thread, soon.
    pub(super) fn stop(&self) {
        self.order(|orders| orders.stop = true);
    }

    /// Whether nothing else is wanted of it than to go on as it does: what has come to the live edge goes on there.
    pub(super) fn is_content(&self) -> bool {
        let orders = self.lock();
        orders.seek.is_none() && !orders.paused && orders.speed >= 1.0
    }

    fn told(&self) -> (f64, bool) {
        let state = self.state.borrow();
        (state.speed, state.paused)
    }

    fn order(&self, order: impl FnOnce(&mut Orders)) {
        order(&mut self.lock());
        self.ordered.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().expect("no holder of this lock panics")
    }
}

/// The thread's part.
struct Player {
    past: Arc<Past>,
    tape: Tape,
    deck: Option<Deck>,
    stretch: Option<Arc<Stretch>>,
    pace: Pace,
    outcome: Outcome,
    refused: Refused,
    first_left: Option<Tick>,
}

/// What the thread is to do next.
enum Job {
    Stop,
    Seek(Tick),
    /// So many ticks at once.
    Play(u32),
    /// It was told something, and goes on as it does.
    Tell,
}

impl Player {
    fn new(past: Arc<Past>, tape: Tape) -> Self {
        let pace = Pace::new(tape.meta().tick_rate, Instant::now());
        let refused = Refused::default();
        Self { past, tape, deck: None, stretch: None, pace, outcome: Outcome::Plays, refused, first_left: None }
    }

    fn play(mut self) {
        loop {
            let (job, speed, paused) = self.next_job();
            match job {
                Job::Stop => return,
                Job::Seek(tick) => self.seek(tick),
                Job::Play(ticks) => self.advance(ticks, !paused && speed >= 1.0),
                // Who has stopped at the live edge stays in the past.
                Job::Tell if self.outcome == Outcome::CaughtUp => self.outcome = Outcome::Plays,
                Job::Tell => {}
            }
            self.tell(speed, paused);
        }
    }

    /// Waits for what is to be done, by order or because its time has come.
    fn next_job(&mut self) -> (Job, f64, bool) {
        let past = Arc::clone(&self.past);
        let mut orders = past.lock();
        loop {
            let told = past.told();
            let (speed, paused) = (orders.speed, orders.paused);
            let goes_on = self.outcome == Outcome::Plays;
            let now = Instant::now();
            let job = if orders.stop {
                Job::Stop
            } else if let Some(tick) = orders.seek.take() {
                Job::Seek(tick)
            } else if goes_on && paused && orders.steps > 0 {
                Job::Play(std::mem::take(&mut orders.steps))
            } else if told != (speed, paused) {
                self.pace.start(now);
                Job::Tell
            } else if goes_on && !paused && self.pace.is_due(now) {
                Job::Play(self.pace.take(speed, now))
            } else {
                let rest = (goes_on && !paused).then(|| self.pace.rest(now));
                const SOUND: &str = "no holder of this lock panics";
                orders = match rest {
                    Some(rest) => past.ordered.wait_timeout(orders, rest).expect(SOUND).0,
                    None => past.ordered.wait(orders).expect(SOUND),
                };
                continue;
            };
            return (job, speed, paused);
        }
    }

    fn seek(&mut self, tick: Tick) {
        // Where nothing may be seen yet, that is before the first.
        let tick = tick.max(self.tape.first()).min(self.tape.last());
        self.first_left = self.tape.first_left();
        match Deck::at(&self.tape, tick, || self.past.lock().stop) {
            Ok(deck) => {
                self.stretch = Some(self.stretch_from(Arc::clone(deck.frame())));
                self.deck = Some(deck);
                self.outcome = Outcome::Plays;
            }
            Err(error) if self.deck.is_some() => {
                self.refused.times += 1;
                self.refused.reason = error.to_string();
            }
            Err(error) => self.outcome = Outcome::Failed(error.to_string()),
        }
        self.pace.start(Instant::now());
    }

    fn stretch_from(&self, frame: Arc<Frame>) -> Arc<Stretch> {
        let meta = self.tape.meta();
        let usual = ReplicationConfig::new(meta.tick_rate);
        let config = ReplicationConfig { history_ticks: usual.history_ticks * HISTORIES, ..usual };
        let replicator = Replicator::new(Arc::clone(&self.tape.game), &meta.schema, config, frame);
        Arc::new(Stretch { replicator })
    }

    fn advance(&mut self, ticks: u32, catches_up: bool) {
        let (Some(deck), Some(stretch)) = (&mut self.deck, &self.stretch) else { return };
        for _ in 0..ticks {
            match deck.play() {
                Played::Frame(frame) => stretch.replicator.publish(frame),
                Played::Jump(frame) => {
                    self.stretch = Some(self.stretch_from(frame));
                    return;
                }
                Played::NotYet => {
                    if catches_up && deck.frame().tick >= self.tape.last() && self.tape.leads_to_live() {
                        self.outcome = Outcome::CaughtUp;
                    }
                    return;
                }
                Played::End => {
                    self.outcome = Outcome::Ended;
                    return;
                }
                Played::Failed(reason) => {
                    self.outcome = Outcome::Failed(reason);
                    return;
                }
            }
            if self.past.lock().stop {
                return;
            }
        }
    }

    fn tell(&self, speed: f64, paused: bool) {
        let tick = self.deck.as_ref().map(|deck| deck.frame().tick);
        self.past.state.send_modify(|state| {
            if let Some(tick) = tick {
                if tick != state.tick {
                    state.since = Instant::now();
                }
                state.tick = tick;
            }
            state.stretch.clone_from(&self.stretch);
            (state.speed, state.paused) = (speed, paused);
            state.outcome.clone_from(&self.outcome);
            state.refused.clone_from(&self.refused);
            state.first_left = self.first_left;
        });
    }
}

/// When how many ticks are due: some at each time of a tick, as many as the speed asks for. Who is late does not hurry.
#[derive(Debug)]
struct Pace {
    beat: Duration,
    due: Instant,
    /// Parts of a tick.
    owed: f64,
}

impl Pace {
    fn new(rate: TickRate, now: Instant) -> Self {
        Self { beat: rate.duration_of(1), due: now, owed: 0.0 }
    }

    fn start(&mut self, now: Instant) {
        (self.due, self.owed) = (now + self.beat, 0.0);
    }

    fn is_due(&self, now: Instant) -> bool {
        now >= self.due
    }

    fn rest(&self, now: Instant) -> Duration {
        self.due.saturating_duration_since(now)
    }

    /// The ticks that are due now.
    fn take(&mut self, speed: f64, now: Instant) -> u32 {
        let next = self.due + self.beat;
        self.due = if next > now { next } else { now + self.beat };
        self.owed += speed;
        let ticks = self.owed.floor();
        self.owed -= ticks;
        // A speed is 64 at most.
        ticks as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(speed: f64, beats: u32) -> u32 {
        let start = Instant::now();
        let mut pace = Pace::new(TickRate::DEFAULT, start);
        pace.start(start);
        (1..=beats).map(|beat| pace.take(speed, start + pace.beat * beat)).sum()
    }

    #[test]
    fn in_the_time_of_a_tick_as_many_are_due_as_the_speed_asks_for() {
        assert_eq!([0.1, 0.25, 1.0, 1.5, 64.0].map(|speed| ticks(speed, 601)), [60, 150, 601, 901, 64 * 601]);
    }

    #[test]
    fn who_has_come_to_the_live_edge_goes_on_there_unless_something_else_is_wanted() {
        let orders = Orders { stop: false, seek: None, steps: 0, speed: 64.0, paused: false };
        let state = PastState {
            stretch: None,
            tick: Tick(7),
            since: Instant::now(),
            speed: 64.0,
            paused: false,
            outcome: Outcome::CaughtUp,
            refused: Refused::default(),
            first_left: None,
        };
        let past = Past { orders: Mutex::new(orders), ordered: Condvar::new(), state: watch::Sender::new(state) };
        assert!(past.is_content());
        past.set_paused(true);
        assert!(!past.is_content());
        past.set_speed(0.5);
        assert!(!past.is_content(), "the edge is faster");
        past.set_speed(1.0);
        assert!(past.is_content());
        past.seek(Tick(3));
        assert!(!past.is_content());
    }

    #[test]
    fn who_is_late_does_not_hurry() {
        let start = Instant::now();
        let mut pace = Pace::new(TickRate::DEFAULT, start);
        pace.start(start);
        assert!(!pace.is_due(start));
        let late = start + Duration::from_secs(3);
        assert!(pace.is_due(late));
        assert_eq!(pace.take(2.0, late), 2);
        let next = late + pace.beat;
        assert_eq!(pace.take(2.0, next), 2);
        assert!(!pace.is_due(next));
    }
}
