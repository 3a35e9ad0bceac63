//! The link: takes each packet out of one namespace's TUN device, lets the player's [`Lane`] decide, and puts it into the
//! other one's when it is due.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    io,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use tun_rs::SyncDevice;

use crate::lab::link::{Counts, Fate, Lane, LinkConfig, Way};

/// Above all ordinary threads, below the kernel's own.
const REALTIME_PRIORITY: u8 = 30;
/// How long an idle link sleeps before it looks whether it is to end.
const IDLE: Duration = Duration::from_millis(50);
/// Packets that are read in a row before due ones are written again.
const READ_AT_ONCE: usize = 32;
const PACKET_BYTES_MAX: usize = 2048;

/// What passed over a link.
#[derive(Debug)]
pub(crate) struct Passed {
    /// By player's address and direction.
    pub(crate) lanes: BTreeMap<(Ipv4Addr, Way), Counts>,
    /// How late packets were written, in microseconds: the link's own share of every figure.
    pub(crate) late_us: Histogram<u64>,
    /// Whether the thread ran before all ordinary ones.
    pub(crate) is_realtime: bool,
}

/// A link that runs. Dropped, it ends.
pub(crate) struct Relay {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<Passed>>>,
}

impl Relay {
    /// Joins the two devices, in a thread.
    pub(crate) fn start(server: SyncDevice, players: SyncDevice, config: LinkConfig, seed: u64) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let link = Link {
            ends: [server, players],
            config,
            seed,
            started: Instant::now(),
            lanes: BTreeMap::new(),
            held: BinaryHeap::new(),
            taken: 0,
            late_us: Histogram::new_with_bounds(1, 60_000_000, 2).expect("the bounds are constants that fit"),
        };
        let thread = {
            let stop = Arc::clone(&stop);
            thread::Builder::new().name("link".to_owned()).spawn(move || link.run(&stop))?
        };
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends the link and says what passed.
    pub(crate) fn end(mut self) -> io::Result<Passed> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is taken only here and in the drop");
        thread.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been told on standard error.
            let _ = thread.join();
        }
    }
}

struct Link {
    /// The server's device, and the players'.
    ends: [SyncDevice; 2],
    config: LinkConfig,
    seed: u64,
    started: Instant,
    lanes: BTreeMap<(Ipv4Addr, Way), Lane>,
    held: BinaryHeap<Reverse<Held>>,
    taken: u64,
    late_us: Histogram<u64>,
}

/// A packet on its way. The order is that of arrival, then of departure.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    at: Duration,
    number: u64,
    way: Way,
    packet: Vec<u8>,
}

impl Link {
    fn run(mut self, stop: &AtomicBool) -> io::Result<Passed> {
        let is_realtime = run_before_others();
        while !stop.load(Ordering::Relaxed) {
            self.deliver()?;
            self.take(Way::Down)?;
            self.take(Way::Up)?;
            self.wait()?;
        }
        let lanes = self.lanes.into_iter().map(|(player, lane)| (player, lane.counts)).collect();
        Ok(Passed { lanes, late_us: self.late_us, is_realtime })
    }

    /// Writes what is due.
    fn deliver(&mut self) -> io::Result<()> {
        while self.held.peek().is_some_and(|Reverse(held)| held.at <= self.started.elapsed()) {
            let Some(Reverse(held)) = self.held.pop() else { break };
            let to = match held.way {
                Way::Down => &self.ends[1],
                Way::Up => &self.ends[0],
            };
            match to.send(&held.packet) {
                Err(error) if !is_full(&error) => return Err(error),
                // A full device drops, as any router does.
                _ => {}
            }
            let late = self.started.elapsed().saturating_sub(held.at);
            self.late_us.saturating_record(late.as_micros() as u64);
        }
        Ok(())
    }

    /// Reads what has come from one end.
    fn take(&mut self, way: Way) -> io::Result<()> {
        let mut buffer = [0; PACKET_BYTES_MAX];
        for _ in 0..READ_AT_ONCE {
            let from = match way {
                Way::Down => &self.ends[0],
                Way::Up => &self.ends[1],
            };
            let length = match from.recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if is_full(&error) => return Ok(()),
                Err(error) => return Err(error),
            };
            let packet = &buffer[..length];
            // What the kernel says in IPv6 by itself concerns nobody.
            let Some(player) = player_of(packet, way) else { continue };
            let (config, seed) = (self.config, self.seed);
            let lane =
                self.lanes.entry((player, way)).or_insert_with(|| Lane::new(config, seed, player.to_bits(), way));
            if let Fate::Arrives { at } = lane.take(length, self.started.elapsed()) {
                self.taken += 1;
                self.held.push(Reverse(Held { at, number: self.taken, way, packet: packet.to_vec() }));
            }
        }
        Ok(())
    }

    /// Until a packet comes or is due.
    fn wait(&self) -> io::Result<()> {
        let until_due = self.held.peek().map(|Reverse(held)| held.at.saturating_sub(self.started.elapsed()));
        let timeout = Timespec::try_from(until_due.unwrap_or(IDLE).min(IDLE)).map_err(io::Error::other)?;
        let mut polled = self.ends.each_ref().map(|end| PollFd::new(end, PollFlags::IN));
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A device that has nothing, or no room.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// The address of the player whose packet this is: an IPv4 packet's destination on the way down, its source on the way up.
fn player_of(packet: &[u8], way: Way) -> Option<Ipv4Addr> {
    let offset = match way {
        Way::Down => 16,
        Way::Up => 12,
    };
    let is_ipv4 = packet.first().is_some_and(|byte| byte >> 4 == 4);
    let address: [u8; 4] = packet.get(offset..offset + 4)?.try_into().ok()?;
    is_ipv4.then(|| address.into())
}

fn run_before_others() -> bool {
    let Ok(priority) = ThreadPriorityValue::try_from(REALTIME_PRIORITY) else { return false };
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Crossplatform(priority), policy).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_the_players_of_their_addresses() {
        let mut packet = [0; 20];
        packet[0] = 0x45;
        packet[12..16].copy_from_slice(&[10, 78, 1, 2]);
        packet[16..20].copy_from_slice(&[10, 77, 0, 1]);
        assert_eq!(player_of(&packet, Way::Up), Some(Ipv4Addr::new(10, 78, 1, 2)));
        assert_eq!(player_of(&packet, Way::Down), Some(Ipv4Addr::new(10, 77, 0, 1)));
        assert_eq!(player_of(&packet[..19], Way::Down), None);
        packet[0] = 0x60;
        assert_eq!(player_of(&packet, Way::Up), None);
    }

    #[test]
    fn packets_that_are_due_at_once_leave_as_they_came() {
        let held = |at, number| Reverse(Held { at: Duration::from_millis(at), number, way: Way::Up, packet: vec![] });
        let mut heap: BinaryHeap<_> = [held(5, 3), held(5, 1), held(4, 4), held(5, 2)].into();
        let order: Vec<u64> = std::iter::from_fn(|| heap.pop().map(|Reverse(held)| held.number)).collect();
        assert_eq!(order, [4, 1, 2, 3]);
    }
}
