//! A worse network than there is: delay, jitter and stalls on the client's own side of its connection, for trying a game
//! as its distant players have it, without root and without another machine.
//!
//! Bytes pass through a [`DelayLine`] each way. TCP keeps their order whatever happens to packets, so that is kept here, too;
//! what a lost packet does to a stream is that everything behind it waits, which is a stall.

use std::{collections::VecDeque, io, time::Duration};

use bytes::{Bytes, BytesMut};
use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// What may be on the way in one direction; beyond that the sender waits, as it does for a full socket.
const HELD_BYTES_MAX: usize = 1 << 20;
/// What is taken from a socket at once.
const READ_BYTES: usize = 16 * 1024;
/// Between the delay lines and the connection.
const PIPE_BYTES: usize = 64 * 1024;

/// What a connection is made to suffer, beside what it suffers anyway. By default nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    /// Added to the round trip, half of it each way.
    pub latency: Duration,
    /// By how much that varies, up or down; half of it each way. Bytes stay in order.
    pub jitter: Duration,
    /// Times in which nothing passes.
    pub stalls: Option<Stalls>,
    /// The same seed makes the same delays and stalls.
    pub seed: u64,
}

impl Conditions {
    /// Whether there are any.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.latency.is_zero() && self.jitter.is_zero() && self.stalls.is_none()
    }
}

/// Times in which nothing passes in one direction, as on TCP while a lost packet is sent again. They come independently
/// in both directions, at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalls {
    every: Duration,
    length: Duration,
}

/// Stalls that would leave no time between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stalls of {length:?} every {every:?} leave no time between them: make them shorter or rarer")]
pub struct StallsError {
    every: Duration,
    length: Duration,
}

impl Stalls {
    /// Stalls of a length, one in so much time on average.
    ///
    /// # Errors
    /// Where `length` is not shorter than `every`, or is zero.
    pub fn new(every: Duration, length: Duration) -> Result<Self, StallsError> {
        if length.is_zero() || length >= every {
            return Err(StallsError { every, length });
        }
        Ok(Self { every, length })
    }
}

/// A socket under conditions. Dropped, it is cut without another byte.
#[derive(Debug)]
pub(super) struct Conditioned {
    near: DuplexStream,
    _carriers: JoinSet<io::Result<()>>,
}

impl Conditioned {
    pub(super) fn new(socket: TcpStream, conditions: &Conditions) -> Self {
        let (near, far) = duplex(PIPE_BYTES);
        let (far_read, far_write) = tokio::io::split(far);
        let (socket_read, socket_write) = socket.into_split();
        let started = Instant::now();
        let mut carriers = JoinSet::new();
        carriers.spawn(carry(socket_read, far_write, DelayLine::new(conditions, Way::Down), started));
        carriers.spawn(carry(far_read, socket_write, DelayLine::new(conditions, Way::Up), started));
        Self { near, _carriers: carriers }
    }

    pub(super) fn stream(&mut self) -> &mut DuplexStream {
        &mut self.near
    }

    pub(super) fn is_write_vectored(&self) -> bool {
        self.near.is_write_vectored()
    }
}

/// Takes bytes from one end to the other by the line's times, until the first one ends and all of it has arrived.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut line: DelayLine,
    started: Instant,
) -> io::Result<()> {
    let (mut read, mut is_open) = (BytesMut::new(), true);
    while is_open || line.next_due().is_some() {
        let due = line.next_due();
        read.reserve(READ_BYTES);
        tokio::select! {
            biased;
            () = sleep_until(started + due.unwrap_or_default()), if due.is_some() => {
                while let Some(bytes) = line.pop(started.elapsed()) {
                    to.write_all(&bytes).await?;
                }
            }
            length = from.read_buf(&mut read), if is_open && line.has_room() => match length? {
                0 => is_open = false,
                _ => line.push(read.split().freeze(), started.elapsed()),
            },
        }
    }
    to.shutdown().await
}

/// A direction; each has randomness of its own.
#[derive(Clone, Copy, Debug)]
enum Way {
    Down,
    Up,
}

/// Bytes on their way in one direction, in order. Times are since the connection was made.
#[derive(Debug)]
struct DelayLine {
    delay: Duration,
    /// Delays differ by up to this from `delay`.
    jitter: Duration,
    stalls: Option<StallTimes>,
    rng: ChaCha8Rng,
    held: VecDeque<(Duration, Bytes)>,
    held_bytes: usize,
    newest_due: Duration,
}

impl DelayLine {
    fn new(conditions: &Conditions, way: Way) -> Self {
        let stream = |number: u64| {
            let mut rng = ChaCha8Rng::seed_from_u64(conditions.seed);
            rng.set_stream(2 * number + way as u64);
            rng
        };
        Self {
            delay: conditions.latency / 2,
            jitter: conditions.jitter / 2,
            stalls: conditions.stalls.map(|stalls| StallTimes::new(stalls, stream(1))),
            rng: stream(0),
            held: VecDeque::new(),
            held_bytes: 0,
            newest_due: Duration::ZERO,
        }
    }

    fn has_room(&self) -> bool {
        self.held_bytes < HELD_BYTES_MAX
    }

    /// Takes bytes in.
    fn push(&mut self, bytes: Bytes, now: Duration) {
        let jitter = self.rng.random_range(Duration::ZERO..=2 * self.jitter);
        let due = (now + self.delay + jitter).saturating_sub(self.jitter).max(now).max(self.newest_due);
        self.newest_due = self.stalls.as_mut().map_or(due, |stalls| stalls.after(due));
        self.held_bytes += bytes.len();
        self.held.push_back((self.newest_due, bytes));
    }

    /// When the next bytes are to arrive.
    fn next_due(&self) -> Option<Duration> {
        self.held.front().map(|(due, _)| *due)
    }

    /// The next bytes, once they are due.
    fn pop(&mut self, now: Duration) -> Option<Bytes> {
        let (_, bytes) = self.held.pop_front_if(|(due, _)| *due <= now)?;
        self.held_bytes -= bytes.len();
        Some(bytes)
    }
}

/// The stalls of one direction, one after the other.
#[derive(Debug)]
struct StallTimes {
    stalls: Stalls,
    rng: ChaCha8Rng,
    /// When the stall begins that has not ended yet.
    start: Duration,
}

impl StallTimes {
    fn new(stalls: Stalls, rng: ChaCha8Rng) -> Self {
        let mut times = Self { stalls, rng, start: Duration::ZERO };
        times.start = times.gap();
        times
    }

    /// How long it is from one stall to the next: exponentially distributed, as for events that know nothing of each other.
    fn gap(&mut self) -> Duration {
        let mean = self.stalls.every - self.stalls.length;
        // In (0, 1], so that the logarithm is finite.
        let share = 1.0 - self.rng.random::<f64>();
        mean.mul_f64(-libm::log(share))
    }

    /// When bytes arrive that would have arrived at `due`, which never goes back.
    fn after(&mut self, due: Duration) -> Duration {
        while due >= self.start + self.stalls.length {
            let gap = self.gap();
            self.start += self.stalls.length + gap;
        }
        if due >= self.start { self.start + self.stalls.length } else { due }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn conditions() -> Conditions {
        Conditions { latency: ms(100), jitter: ms(20), stalls: Some(Stalls::new(ms(2000), ms(200)).unwrap()), seed: 7 }
    }

    /// When each of many writes, 16 ms apart, arrives.
    fn arrivals(conditions: &Conditions, way: Way, writes: u64) -> Vec<(Duration, Duration)> {
        let mut line = DelayLine::new(conditions, way);
        let mut all = Vec::new();
        for i in 0..writes {
            line.push(Bytes::copy_from_slice(&i.to_be_bytes()), ms(i * 16));
        }
        for i in 0..writes {
            let due = line.next_due().unwrap();
            assert!(line.pop(due.saturating_sub(Duration::from_nanos(1))).is_none(), "not before its time");
            assert_eq!(line.pop(due).unwrap(), i.to_be_bytes().as_slice());
            all.push((ms(i * 16), due));
        }
        assert!(line.next_due().is_none() && line.has_room() && line.held_bytes == 0);
        all
    }

    #[test]
    fn half_the_latency_passes_each_way() {
        let plain = Conditions { latency: ms(100), ..Conditions::default() };
        for way in [Way::Down, Way::Up] {
            assert!(arrivals(&plain, way, 100).iter().all(|(sent, due)| *due - *sent == ms(50)));
        }
    }

    #[test]
    fn jitter_varies_the_delay_both_ways_and_keeps_the_order() {
        let jittery = Conditions { stalls: None, ..conditions() };
        let all = arrivals(&jittery, Way::Down, 2000);
        let delays: Vec<Duration> = all.iter().map(|(sent, due)| *due - *sent).collect();
        assert!(delays.iter().all(|delay| (ms(40)..=ms(60)).contains(delay)));
        let mean = delays.iter().sum::<Duration>() / delays.len() as u32;
        assert!(ms(49) < mean && mean < ms(52), "{mean:?}");
        assert!(all.is_sorted_by_key(|(_, due)| *due));
        // More jitter than delay: nothing arrives before it was sent.
        let wild = Conditions { latency: ms(10), jitter: ms(100), ..Conditions::default() };
        assert!(arrivals(&wild, Way::Up, 200).iter().all(|(sent, due)| due >= sent));
    }

    #[test]
    fn nothing_arrives_during_a_stall_and_stalls_are_as_frequent_as_they_should_be() {
        let all = arrivals(&Conditions { jitter: Duration::ZERO, ..conditions() }, Way::Down, 100_000);
        let mut held = std::collections::BTreeMap::<Duration, Duration>::new();
        for (sent, due) in &all {
            let delay = *due - *sent;
            assert!((ms(50)..=ms(250)).contains(&delay), "{delay:?}");
            if delay > ms(50) {
                held.entry(*due).or_insert(delay);
            }
        }
        // In 1600 s some 800 stalls begin, of which each holds up the write that is due within 16 ms of its beginning.
        assert!((650..=950).contains(&held.len()), "{} stalls", held.len());
        assert!(held.values().all(|longest| *longest > ms(50 + 200 - 17)));
        for (_, due) in &all {
            let within = held.range(*due + Duration::from_nanos(1)..*due + ms(180)).next();
            assert!(within.is_none(), "at {due:?} something arrives within the stall that ends at {within:?}");
        }
    }

    #[test]
    fn a_seed_makes_the_same_delays_again_and_others_each_way() {
        let down = arrivals(&conditions(), Way::Down, 500);
        assert_eq!(down, arrivals(&conditions(), Way::Down, 500));
        assert_ne!(down, arrivals(&conditions(), Way::Up, 500));
        assert_ne!(down, arrivals(&Conditions { seed: 8, ..conditions() }, Way::Down, 500));
    }

    #[test]
    fn a_full_line_takes_no_more() {
        let mut line = DelayLine::new(&conditions(), Way::Up);
        line.push(Bytes::from(vec![0; HELD_BYTES_MAX]), Duration::ZERO);
        assert!(!line.has_room());
        line.pop(ms(10_000)).unwrap();
        assert!(line.has_room());
    }

    #[test]
    fn stalls_without_time_between_them_are_refused() {
        let error = Stalls::new(ms(200), ms(200)).unwrap_err();
        assert!(error.to_string().contains("stalls of 200ms every 200ms leave no time"), "{error}");
        assert!(Stalls::new(ms(200), Duration::ZERO).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_are_carried_whole_and_late_and_the_end_comes_behind_them() {
        let (mut sender, carried) = duplex(8);
        let (delivered, mut receiver) = duplex(8);
        let line = DelayLine::new(&Conditions { latency: ms(100), ..Conditions::default() }, Way::Down);
        let started = Instant::now();
        let carrier = tokio::spawn(carry(carried, delivered, line, started));
        let text: Vec<u8> = (0..=255).collect();
        let send = async {
            sender.write_all(&text).await.unwrap();
            sender.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let (_, length) = tokio::join!(send, receiver.read_to_end(&mut received));
        assert_eq!((length.unwrap(), &received), (256, &text));
        assert!(started.elapsed() >= ms(50));
        carrier.await.unwrap().unwrap();
    }
}
