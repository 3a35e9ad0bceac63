//! A player's streams: which are open, which are to be opened or closed, and what each has yet to say.

use std::{collections::VecDeque, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};
use tickwire_proto::v1 as pb;

use super::{
    pings::Pings,
    stripe_count::StripeCount,
    stripes::{StripeChange, Stripes},
};

/// Inputs go on so many stripes, and each message repeats so many that went before.
const INPUT_COPIES: usize = 2;
pub(super) const INPUTS_REPEATED: usize = 3;
/// A stream on which nothing comes for so long, while another is heard, is given up.
const SILENCE_MAX: Duration = Duration::from_secs(4);
const HEARD_WITHIN: Duration = Duration::from_secs(1);
/// Where nothing comes on any stream for so long, the connection is taken for lost: an answer to a ping is due twice a second.
const ALL_SILENT_MAX: Duration = Duration::from_secs(5);
/// Who was not asked for so long was asleep, and cannot say what would have come.
const ASLEEP_AFTER: Duration = Duration::from_secs(1);
/// Inputs that are sent again go in messages of so many, which none is longer than.
const RESENT_IN_ONE: usize = 1 + INPUTS_REPEATED;
/// How long to wait before a stream is opened again: from, to. It doubles with each failure, and is spread by half.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// A stream that was open for so long was no failure.
const GOOD_AFTER: Duration = Duration::from_secs(5);

/// All streams of a client.
#[derive(Debug)]
pub(super) struct Lanes {
    /// By stripe; there are more only where more may be.
    lanes: Vec<Lane>,
    count: StripeCount,
    token: Vec<u8>,
    jitter: Xoshiro256PlusPlus,
    polled_at: Duration,
    /// The newest inputs, oldest first, where there is more than one stream to repeat them on.
    recent: VecDeque<pb::Input>,
    /// Inputs that were lost with the last connection, oldest first.
    resent: VecDeque<pb::Input>,
    wish: Stripes,
    asked_at: Duration,
    /// Since when it has been asked all the time.
    awake_since: Duration,
}

/// One stream, or the place for one.
#[derive(Debug, Default)]
pub(super) struct Lane {
    state: State,
    pub(super) ack: Ack,
    pub(super) resync: Option<pb::ResyncReason>,
    pub(super) pings: Pings,
    /// The newest inputs are to go out on it.
    has_inputs: bool,
    opened_at: Duration,
    heard_at: Duration,
    snapshot_at: Option<Duration>,
    /// How often in a row it could not be opened, or did not last.
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not before then; `None`: never again.
    Closed {
        retry_at: Option<Duration>,
    },
    Opening,
    Open,
    Closing,
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { retry_at: Some(Duration::ZERO) }
    }
}

/// What the server has yet to be told was received.
#[derive(Debug, Default)]
pub(super) struct Ack {
    pub(super) newest_tick: u64,
    /// An acknowledgement that travels alone where no input takes it along before.
    pub(super) due: Option<Duration>,
}

impl Lanes {
    /// The first stream is open. The server allows `granted` in all, by `token`.
    pub(super) fn new(wish: Stripes, granted: u32, token: Vec<u8>, now: Duration) -> Self {
        let max = if token.is_empty() { 1 } else { wish.max().min((granted as usize).max(1)) };
        let mut seed = [0; 32];
        seed.iter_mut().zip(&token).for_each(|(seed, byte)| *seed = *byte);
        let mut lanes: Vec<Lane> = (0..max).map(|_| Lane::default()).collect();
        lanes[0].open(now);
        Self {
            lanes,
            count: StripeCount::new(wish, max),
            token,
            jitter: Xoshiro256PlusPlus::from_seed(seed),
            polled_at: Duration::ZERO,
            recent: VecDeque::new(),
            resent: VecDeque::new(),
            wish,
            asked_at: now,
            awake_since: now,
        }
    }

    /// All streams are lost.
    pub(super) fn lose(&mut self) {
        self.lanes
            .iter_mut()
            .for_each(|lane| *lane = Lane { state: State::Closed { retry_at: None }, ..Lane::default() });
        self.forget_inputs();
    }

    /// The first stream is open again; the server allows `granted` in all, by a new `token`.
    pub(super) fn restart(&mut self, granted: u32, token: Vec<u8>, now: Duration) {
        let mut next = Self::new(self.wish, granted, token, now);
        if next.lanes.len() == self.lanes.len() {
            // What is known of the loss on the way is as good as before.
            std::mem::swap(&mut next.count, &mut self.count);
        }
        *self = next;
    }

    /// Whether nothing has come on any stream for so long that the connection is as good as lost.
    pub(super) fn are_silent(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.asked_at) > ASLEEP_AFTER {
            self.awake_since = now;
        }
        self.asked_at = now;
        let open = self.lanes.iter().filter(|lane| lane.state == State::Open);
        let heard_at = open.map(|lane| lane.heard_at.max(self.awake_since)).max();
        heard_at.is_some_and(|at| now.saturating_sub(at) >= ALL_SILENT_MAX)
    }

    /// Has inputs sent again, before all others.
    pub(super) fn resend(&mut self, inputs: Vec<pb::Input>) {
        self.resent = inputs.into();
    }

    /// The next message's inputs of those that are sent again.
    pub(super) fn take_resent(&mut self, stripe: usize) -> Option<Vec<pb::Input>> {
        if self.resent.is_empty() {
            return None;
        }
        self.lanes.get_mut(stripe)?.ack.due = None;
        let count = self.resent.len().min(RESENT_IN_ONE);
        Some(self.resent.drain(..count).collect())
    }

    pub(super) fn token(&self) -> &[u8] {
        &self.token
    }

    pub(super) fn count(&mut self) -> &mut StripeCount {
        &mut self.count
    }

    pub(super) fn get(&mut self, stripe: usize) -> Option<&mut Lane> {
        self.lanes.get_mut(stripe)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.lanes.iter_mut()
    }

    /// Streams that are open.
    pub(super) fn most(&self) -> usize {
        self.lanes.len()
    }

    pub(super) fn open_count(&self) -> usize {
        self.lanes.iter().filter(|lane| lane.state == State::Open).count()
    }

    /// What is to be done about streams.
    pub(super) fn poll(&mut self, now: Duration) -> Option<StripeChange> {
        if self.lanes.len() == 1 {
            return None;
        }
        self.polled_at = now;
        if let Some(stripe) = self.silent(now) {
            self.closed(stripe, now);
            return Some(StripeChange::Drop(stripe));
        }
        let wanted = self.count.wanted(now);
        let is_there = |lane: &Lane| matches!(lane.state, State::Open | State::Opening);
        let there = self.lanes.iter().filter(|lane| is_there(lane)).count();
        if there < wanted {
            let is_due = |lane: &Lane| matches!(lane.state, State::Closed { retry_at: Some(at) } if at <= now);
            let stripe = self.lanes.iter().position(is_due)?;
            self.lanes[stripe].state = State::Opening;
            return Some(StripeChange::Open(stripe));
        }
        if self.open_count() > wanted {
            let open = self.lanes.iter().enumerate().filter(|(_, lane)| lane.state == State::Open);
            // The one that was heard least lately.
            let (stripe, _) = open.min_by_key(|(stripe, lane)| (lane.heard_at, usize::MAX - stripe))?;
            self.lanes[stripe].state = State::Closing;
            return Some(StripeChange::Close(stripe));
        }
        None
    }

    /// When [`poll`](Self::poll) may have something that it has not now.
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        if self.lanes.len() == 1 {
            return None;
        }
        let retries = self.lanes.iter().filter_map(|lane| match lane.state {
            State::Closed { retry_at } => retry_at,
            State::Open if self.open_count() > 1 => Some(lane.heard_at + SILENCE_MAX),
            State::Open | State::Opening | State::Closing => None,
        });
        // What was due when it was asked, and brought nothing, waits for something else.
        retries.chain(self.count.next_review()).filter(|at| *at > self.polled_at).min()
    }

    /// When a stream has something to say by itself.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let open = self.lanes.iter().filter(|lane| lane.state == State::Open);
        open.flat_map(|lane| [Some(lane.pings.next_at), lane.ack.due]).flatten().min()
    }

    /// A stream that is as good as dead, while another lives.
    fn silent(&self, now: Duration) -> Option<usize> {
        let open = || self.lanes.iter().enumerate().filter(|(_, lane)| lane.state == State::Open);
        let is_heard = open().any(|(_, lane)| now.saturating_sub(lane.heard_at) < HEARD_WITHIN);
        let silent = |(_, lane): &(usize, &Lane)| now.saturating_sub(lane.heard_at) >= SILENCE_MAX;
        open().find(silent).filter(|_| is_heard).map(|(stripe, _)| stripe)
    }

    pub(super) fn opened(&mut self, stripe: usize, now: Duration) {
        self.lanes[stripe].open(now);
    }

    /// A stream could not be opened; `may_retry`: another attempt may fare better.
    pub(super) fn failed(&mut self, stripe: usize, may_retry: bool, now: Duration) {
        let delay = self.next_delay(stripe);
        self.lanes[stripe].state = State::Closed { retry_at: may_retry.then(|| now + delay) };
    }

    /// A stream is gone; true where it was lost and not closed.
    pub(super) fn closed(&mut self, stripe: usize, now: Duration) -> bool {
        let lane = &mut self.lanes[stripe];
        let was_lost = lane.state == State::Open;
        if now.saturating_sub(lane.opened_at) >= GOOD_AFTER {
            lane.failures = 0;
        }
        let delay = self.next_delay(stripe);
        let failures = self.lanes[stripe].failures;
        let state = State::Closed { retry_at: Some(now + delay) };
        self.lanes[stripe] = Lane { state, failures, ..Lane::default() };
        was_lost
    }

    fn next_delay(&mut self, stripe: usize) -> Duration {
        let failures = &mut self.lanes[stripe].failures;
        let delay = RETRY_MIN.saturating_mul(1 << (*failures).min(8)).min(RETRY_MAX);
        *failures += 1;
        delay.mul_f64(self.jitter.random_range(0.5..1.5))
    }

    /// Has an input sent: on the streams that were heard from last, and that have taken what was sent before.
    pub(super) fn send_input(&mut self, input: pb::Input) {
        if self.recent.len() > INPUTS_REPEATED {
            self.recent.pop_front();
        }
        self.recent.push_back(input);
        let mut chosen = [None; INPUT_COPIES];
        for place in 0..INPUT_COPIES {
            let free = self
                .lanes
                .iter()
                .enumerate()
                .filter(|(stripe, lane)| lane.state == State::Open && !chosen.contains(&Some(*stripe)));
            chosen[place] = free.max_by_key(|(_, lane)| (!lane.has_inputs, lane.snapshot_at)).map(|(stripe, _)| stripe);
        }
        for (stripe, lane) in self.lanes.iter_mut().enumerate() {
            lane.has_inputs = chosen.contains(&Some(stripe));
        }
    }

    /// The inputs that are to go out on a stream now: those of several streams are repeated.
    pub(super) fn take_inputs(&mut self, stripe: usize) -> Option<Vec<pb::Input>> {
        let open = self.open_count();
        let lane = self.lanes.get_mut(stripe)?;
        if !std::mem::take(&mut lane.has_inputs) {
            return None;
        }
        lane.ack.due = None;
        if open > 1 {
            Some(self.recent.iter().cloned().collect())
        } else {
            self.recent.pop_back().map(|input| vec![input])
        }
    }

    /// Ticks begin anew: what was sent is of no use.
    pub(super) fn forget_inputs(&mut self) {
        self.recent.clear();
        self.resent.clear();
        self.lanes.iter_mut().for_each(|lane| lane.has_inputs = false);
    }
}

impl Lane {
    fn open(&mut self, now: Duration) {
        let failures = self.failures;
        *self = Self { state: State::Open, opened_at: now, heard_at: now, failures, ..Self::default() };
        self.pings.next_at = now;
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Something came on it.
    pub(super) fn heard(&mut self, now: Duration) {
        self.heard_at = now;
    }

    /// A snapshot came on it.
    pub(super) fn received(&mut self, tick: u64, now: Duration) {
        self.ack.newest_tick = tick;
        self.snapshot_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use tickwire_wire::STRIPES_MAX;

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn lanes(count: u32) -> Lanes {
        let mut lanes = Lanes::new(Stripes::Fixed(count), 4, vec![7; 32], Duration::ZERO);
        for stripe in 1..count as usize {
            assert_eq!(lanes.poll(Duration::ZERO), Some(StripeChange::Open(stripe)));
            lanes.opened(stripe, Duration::ZERO);
        }
        assert_eq!(lanes.poll(Duration::ZERO), None);
        lanes
    }

    fn send(lanes: &mut Lanes, sequence: u64) -> Vec<(usize, Vec<u64>)> {
        lanes.send_input(pb::Input { sequence, ..pb::Input::default() });
        let taken = (0..STRIPES_MAX).filter_map(|stripe| Some((stripe, lanes.take_inputs(stripe)?)));
        taken.map(|(stripe, inputs)| (stripe, inputs.iter().map(|input| input.sequence).collect())).collect()
    }

    #[test]
    fn a_single_stream_repeats_nothing_and_asks_for_nothing() {
        let mut lanes = Lanes::new(Stripes::AUTO, 4, Vec::new(), Duration::ZERO);
        assert_eq!((lanes.poll(MS(60_000)), lanes.next_timeout()), (None, None), "no token, no more streams");
        assert_eq!(send(&mut lanes, 1), [(0, vec![1])]);
        assert_eq!(send(&mut lanes, 2), [(0, vec![2])]);
        let old_server = Lanes::new(Stripes::Fixed(4), 0, vec![1; 32], Duration::ZERO);
        assert_eq!(old_server.lanes.len(), 1);
    }

    #[test]
    fn inputs_go_on_the_two_streams_heard_last_with_the_three_before() {
        let mut lanes = lanes(3);
        for (stripe, at) in [(0, 10), (2, 20), (1, 30)] {
            lanes.get(stripe).unwrap().received(1, MS(at));
        }
        assert_eq!(send(&mut lanes, 1), [(1, vec![1]), (2, vec![1])]);
        lanes.get(0).unwrap().received(2, MS(40));
        assert_eq!(send(&mut lanes, 2), [(0, vec![1, 2]), (1, vec![1, 2])]);
        for sequence in 3..6 {
            send(&mut lanes, sequence);
        }
        assert_eq!(send(&mut lanes, 6), [(0, vec![3, 4, 5, 6]), (1, vec![3, 4, 5, 6])]);

        // The transport of one takes no more: what it was to send waits, and the next goes where there is room.
        lanes.send_input(pb::Input { sequence: 7, ..pb::Input::default() });
        assert!(lanes.take_inputs(1).is_some());
        let sent: Vec<usize> = send(&mut lanes, 8).into_iter().map(|(stripe, _)| stripe).collect();
        assert_eq!(sent, [1, 2]);
    }

    #[test]
    fn a_stream_that_is_lost_is_opened_again_later_and_later_while_it_does_not_last() {
        let mut lanes = lanes(2);
        let mut now = MS(1000);
        let mut waits = Vec::new();
        for _ in 0..9 {
            assert!(lanes.closed(1, now), "it was open");
            let again = lanes.next_timeout().unwrap();
            waits.push(again - now);
            assert_eq!(lanes.poll(again - MS(1)), None);
            lanes.get(0).unwrap().heard(again);
            assert_eq!(lanes.poll(again), Some(StripeChange::Open(1)));
            now = again;
            lanes.opened(1, now);
        }
        assert!(waits[0] >= RETRY_MIN / 2 && waits[0] <= RETRY_MIN * 3 / 2, "{waits:?}");
        assert!(waits[8] >= RETRY_MAX / 2 && waits[8] <= RETRY_MAX * 3 / 2, "{waits:?}");
        lanes.closed(1, now + GOOD_AFTER);
        assert!(lanes.next_timeout().unwrap() <= now + GOOD_AFTER + RETRY_MIN * 3 / 2, "it had lasted");
        // One that the server will never let in is not asked for again.
        lanes.get(0).unwrap().heard(MS(90_000));
        assert_eq!(lanes.poll(MS(90_000)), Some(StripeChange::Open(1)));
        lanes.failed(1, false, MS(90_000));
        lanes.get(0).unwrap().heard(MS(900_000));
        assert_eq!((lanes.poll(MS(900_000)), lanes.next_timeout()), (None, None));
    }

    #[test]
    fn a_silent_stream_is_dropped_only_while_another_is_heard() {
        let mut lanes = lanes(2);
        assert_eq!(lanes.poll(MS(6000)), None, "the link is down; so would be another stream");
        assert_eq!(lanes.next_timeout(), None, "only what comes changes that");
        lanes.get(0).unwrap().heard(MS(6000));
        assert_eq!(lanes.poll(MS(6000)), Some(StripeChange::Drop(1)));
        assert_eq!(lanes.open_count(), 1);
    }

    #[test]
    fn fewer_streams_are_closed_one_by_one_the_least_heard_first() {
        let mut lanes = lanes(3);
        lanes.count = StripeCount::new(Stripes::AUTO, 3);
        for (stripe, at) in [(0, 100), (1, 80), (2, 90)] {
            lanes.get(stripe).unwrap().heard(MS(at));
        }
        assert_eq!(lanes.poll(MS(100)), Some(StripeChange::Close(1)));
        assert!(!lanes.closed(1, MS(120)), "it was to close");
        assert_eq!(lanes.poll(MS(120)), Some(StripeChange::Close(2)));
        assert_eq!(lanes.poll(MS(120)), None);
    }
}
