//! A seat whose connection is lost: when it is asked for again, by which token, and until when.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};

#[cfg(doc)]
use super::{Core, Event};

/// A connection that has lasted so long was a good one: when it is lost, the back-off begins anew.
const GOOD_AFTER: Duration = Duration::from_secs(5);

/// How a client takes its seat back when its last connection is lost.
///
/// The first attempt follows within [`backoff_min`](Self::backoff_min), at a random time; with each that fails the bound
/// doubles, up to [`backoff_max`](Self::backoff_max). A connection that does not last 5 s counts as one that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// From the loss to the last attempt; 0: a loss is the end. The server keeps a seat for its grace period, 30 s by default.
    pub give_up_after: Duration,
    /// The longest time to the first attempt.
    pub backoff_min: Duration,
    /// The longest time between two attempts, where the server asks for no longer one.
    pub backoff_max: Duration,
}

/// What became of an attempt to take a seat back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeFailure {
    /// Another may fare better; not before this time from now, where the server says so.
    Retry {
        /// The server's `RetryInfo`.
        after: Option<Duration>,
    },
    /// The server does not know the token: it may know the one before.
    UnknownToken,
    /// The server gives the seat to this client no more.
    Refused,
}

/// Why a client does not try any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GaveUp {
    /// For [`Resume::give_up_after`] nobody let it in.
    TooLong,
    /// The server refused for good: the seat is gone.
    Refused,
}

impl Resume {
    /// A loss is the end.
    pub const OFF: Self = Self { give_up_after: Duration::ZERO, ..Self::ON };
    const ON: Self = Self {
        give_up_after: Duration::from_secs(30),
        backoff_min: Duration::from_millis(200),
        backoff_max: Duration::from_secs(4),
    };
}

impl Default for Resume {
    /// For 30 s, with up to 200 ms before the first attempt, and up to 4 s between two.
    fn default() -> Self {
        Self::ON
    }
}

/// The tokens of a seat, and where a client stands that has lost it.
#[derive(Debug)]
pub(super) struct Resumption {
    policy: Resume,
    newest: Vec<u8>,
    /// The one that the newest was given for: a crash of the server may have lost the newest.
    previous: Vec<u8>,
    state: State,
    /// When the seat was taken back last, and how many attempts had failed before.
    resumed: Option<(Duration, u32)>,
    jitter: Xoshiro256PlusPlus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connected,
    Lost(Lost),
    GivenUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lost {
    since: Duration,
    failures: u32,
    /// None: an attempt is under way.
    next_at: Option<Duration>,
    by_previous: bool,
}

impl Resumption {
    /// A client that was let in, with the token that it was given, and the one that it came by, which may be empty.
    pub(super) fn new(policy: Resume, newest: Vec<u8>, previous: Vec<u8>) -> Self {
        let mut seed = [0; 8];
        seed.iter_mut().zip(&newest).for_each(|(seed, byte)| *seed = *byte);
        let jitter = Xoshiro256PlusPlus::seed_from_u64(u64::from_le_bytes(seed));
        Self { policy, newest, previous, state: State::Connected, resumed: None, jitter }
    }

    /// The newest token; empty where seats are not kept.
    pub(super) fn newest(&self) -> &[u8] {
        &self.newest
    }

    /// Whether a loss would not be the end.
    pub(super) fn is_possible(&self) -> bool {
        !self.policy.give_up_after.is_zero() && !self.newest.is_empty()
    }

    /// Whether the seat has no connection.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost(_))
    }

    pub(super) fn has_given_up(&self) -> bool {
        self.state == State::GivenUp
    }

    /// The last connection is lost: true where the seat is to be taken back.
    pub(super) fn lose(&mut self, now: Duration) -> bool {
        if !self.is_possible() || self.state != State::Connected {
            return false;
        }
        let failures = match self.resumed.take() {
            Some((at, failures)) if now.saturating_sub(at) < GOOD_AFTER => failures.saturating_add(1),
            _ => 0,
        };
        let next_at = now + self.backoff(failures);
        self.state = State::Lost(Lost { since: now, failures, next_at: Some(next_at), by_previous: false });
        true
    }

    /// Whether an attempt is to be made now.
    pub(super) fn poll(&mut self, now: Duration) -> bool {
        match &mut self.state {
            State::Lost(Lost { next_at, .. }) => next_at.take_if(|at| *at <= now).is_some(),
            State::Connected | State::GivenUp => false,
        }
    }

    /// When the next attempt is to be made.
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        match self.state {
            State::Lost(Lost { next_at, .. }) => next_at,
            State::Connected | State::GivenUp => None,
        }
    }

    /// The token of the attempt that is under way, or of the next.
    pub(super) fn token(&self) -> &[u8] {
        match self.state {
            State::Lost(Lost { by_previous: true, .. }) => &self.previous,
            _ => &self.newest,
        }
    }

    /// An attempt failed: why there is no further one, if there is none.
    pub(super) fn failed(&mut self, failure: ResumeFailure, now: Duration) -> Option<GaveUp> {
        let State::Lost(mut lost) = self.state else { return None };
        let deadline = lost.since + self.policy.give_up_after;
        let next = match failure {
            ResumeFailure::UnknownToken if !lost.by_previous && !self.previous.is_empty() => {
                lost.by_previous = true;
                Ok(now)
            }
            ResumeFailure::UnknownToken | ResumeFailure::Refused => Err(GaveUp::Refused),
            ResumeFailure::Retry { .. } if now >= deadline => Err(GaveUp::TooLong),
            ResumeFailure::Retry { after } => {
                lost.failures = lost.failures.saturating_add(1);
                lost.by_previous = false;
                // The last attempt is made at the very end.
                Ok((now + after.unwrap_or_default() + self.backoff(lost.failures)).min(deadline))
            }
        };
        match next {
            Ok(at) => {
                self.state = State::Lost(Lost { next_at: Some(at), ..lost });
                None
            }
            Err(why) => {
                self.state = State::GivenUp;
                Some(why)
            }
        }
    }

    /// The seat is taken back, and the server has given a new token for it.
    pub(super) fn resumed(&mut self, token: &[u8], now: Duration) {
        if let State::Lost(Lost { failures, .. }) = self.state {
            self.resumed = Some((now, failures));
        }
        let used = self.token().to_vec();
        if token.is_empty() {
            // It could make none; the one that was good for this is good for more.
            (self.newest, self.previous) = (used, Vec::new());
        } else {
            (self.newest, self.previous) = (token.to_vec(), used);
        }
        self.state = State::Connected;
    }

    /// A random time up to a bound that doubles with each failure: clients that were lost together do not come back together.
    fn backoff(&mut self, failures: u32) -> Duration {
        let Resume { backoff_min, backoff_max, .. } = self.policy;
        let bound = backoff_min.saturating_mul(1 << failures.min(16)).min(backoff_max);
        bound.mul_f64(self.jitter.random_range(0.0..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn lost() -> Resumption {
        let mut resumption = Resumption::new(Resume::default(), vec![2; 32], vec![1; 32]);
        assert!(resumption.lose(MS(1000)) && resumption.is_lost());
        resumption
    }

    /// Makes the next attempt, which fails: when that was.
    fn fail(resumption: &mut Resumption, failure: ResumeFailure) -> (Duration, Option<GaveUp>) {
        let at = resumption.next_timeout().expect("one is due");
        assert!(at.is_zero() || !resumption.poll(at - Duration::from_nanos(1)));
        assert!(resumption.poll(at) && !resumption.poll(at), "once");
        (at, resumption.failed(failure, at))
    }

    #[test]
    fn attempts_follow_within_bounds_that_double_until_the_time_is_over() {
        let mut resumption = lost();
        let (mut before, mut waits) = (MS(1000), Vec::new());
        let why = loop {
            let (at, gave_up) = fail(&mut resumption, ResumeFailure::Retry { after: None });
            waits.push(at - before);
            before = at;
            if let Some(why) = gave_up {
                break why;
            }
        };
        assert_eq!((why, before), (GaveUp::TooLong, MS(31_000)), "the last attempt is at the very end");
        for (i, wait) in waits.iter().enumerate() {
            assert!(*wait <= MS(200 << i.min(5)).min(MS(4000)), "{i}: {waits:?}");
        }
        assert!(waits.len() > 8 && waits.iter().any(|wait| *wait > MS(1000)), "{waits:?}");
        assert!(resumption.has_given_up() && resumption.next_timeout().is_none() && !resumption.poll(MS(99_000)));
    }

    #[test]
    fn a_connection_that_does_not_last_is_a_failure_too() {
        let mut resumption = lost();
        let mut waits = Vec::new();
        for _ in 0..20 {
            let at = resumption.next_timeout().expect("one is due");
            assert!(resumption.poll(at));
            resumption.resumed(&[3; 32], at);
            let lost_at = at + MS(1);
            assert!(resumption.lose(lost_at));
            waits.push(resumption.next_timeout().expect("one is due") - lost_at);
        }
        for (i, wait) in waits.iter().enumerate() {
            assert!(*wait <= MS(400 << i.min(4)).min(MS(4000)), "{i}: {waits:?}");
        }
        assert!(waits.iter().any(|wait| *wait > MS(1000)), "{waits:?}");
        // One that lasts begins anew.
        let at = resumption.next_timeout().expect("one is due");
        assert!(resumption.poll(at));
        resumption.resumed(&[4; 32], at);
        assert!(resumption.lose(at + GOOD_AFTER));
        assert!(resumption.next_timeout().expect("one is due") <= at + GOOD_AFTER + MS(200));
    }

    #[test]
    fn clients_that_were_lost_together_come_back_one_by_one() {
        let first = |seed: u8| {
            let mut resumption = Resumption::new(Resume::default(), vec![seed; 32], Vec::new());
            assert!(resumption.lose(Duration::ZERO));
            resumption.next_timeout().expect("one is due")
        };
        let times: std::collections::BTreeSet<Duration> = (1..=50).map(first).collect();
        assert_eq!(times.len(), 50);
        // Over all of the time that there is.
        assert!(times.first().is_some_and(|at| *at < MS(40)) && times.last().is_some_and(|at| *at > MS(160)));
    }

    #[test]
    fn the_server_says_how_long_to_wait_at_least() {
        let mut resumption = lost();
        let (at, _) = fail(&mut resumption, ResumeFailure::Retry { after: Some(MS(7000)) });
        let next = resumption.next_timeout().expect("one is due");
        assert!((at + MS(7000)..=at + MS(7400)).contains(&next), "{next:?} after {at:?}");
    }

    #[test]
    fn the_newest_token_goes_first_and_the_one_before_at_once_where_the_newest_is_not_known() {
        let mut resumption = lost();
        assert_eq!(resumption.token(), [2; 32]);
        let (at, gave_up) = fail(&mut resumption, ResumeFailure::UnknownToken);
        assert_eq!((resumption.next_timeout(), gave_up, resumption.token()), (Some(at), None, &[1; 32][..]));
        // What comes between says nothing of either.
        fail(&mut resumption, ResumeFailure::Retry { after: None });
        assert_eq!(resumption.token(), [2; 32]);
        fail(&mut resumption, ResumeFailure::UnknownToken);
        assert_eq!(fail(&mut resumption, ResumeFailure::UnknownToken).1, Some(GaveUp::Refused));
    }

    #[test]
    fn who_comes_by_the_one_before_keeps_that_beside_the_new_one() {
        let mut resumption = lost();
        fail(&mut resumption, ResumeFailure::UnknownToken);
        assert!(resumption.poll(MS(99_000)));
        resumption.resumed(&[3; 32], MS(99_000));
        assert_eq!((resumption.newest.as_slice(), resumption.previous.as_slice()), (&[3; 32][..], &[1; 32][..]));
        assert!(!resumption.is_lost() && resumption.lose(MS(104_000)), "it may be lost again");
        // A server that has no token to give takes the same again.
        assert!(resumption.poll(MS(104_200)));
        resumption.resumed(&[], MS(104_200));
        assert_eq!((resumption.newest.as_slice(), resumption.previous.len()), (&[3; 32][..], 0));
    }

    #[test]
    fn a_seat_that_is_gone_is_asked_for_no_more() {
        let mut resumption = lost();
        assert_eq!(fail(&mut resumption, ResumeFailure::Refused).1, Some(GaveUp::Refused));
        assert!(resumption.has_given_up());
    }

    #[test]
    fn without_a_token_or_where_it_is_off_a_loss_is_the_end() {
        assert!(!Resumption::new(Resume::default(), Vec::new(), Vec::new()).lose(Duration::ZERO));
        assert!(!Resumption::new(Resume::OFF, vec![1; 32], Vec::new()).lose(Duration::ZERO));
    }
}
