//! The control: what the same network leaves of datagrams. Its sender has a tick, and sends each player a datagram of a
//! snapshot's size; each player sends one of an input's size per tick. Nothing is sent again.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::lab::age::{AgeMeter, Ages, Clock};

/// What an input and its acknowledgement take.
const INPUT_BYTES: usize = 40;
/// The words of a datagram down.
const DOWN_BYTES_MIN: usize = 40;
const DATAGRAM_BYTES_MAX: usize = 1472;

/// Ticks that the two ends agree on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) start: Instant,
    pub(crate) hz: u32,
    pub(crate) end: Instant,
}

impl Schedule {
    fn due_us(&self, tick: u64) -> i64 {
        (tick * 1_000_000 / u64::from(self.hz)) as i64
    }

    fn now_us(&self) -> i64 {
        self.start.elapsed().as_micros() as i64
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }
}

/// What the players saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) ages: Ages,
    pub(crate) received: u64,
    pub(crate) received_bytes: u64,
}

/// Sends to whoever sends inputs, until the schedule's end.
pub(crate) fn serve(socket: &UdpSocket, schedule: Schedule, bytes: usize) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let mut players: Vec<Served> = Vec::new();
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    let mut tick = 0;
    while !schedule.is_over() {
        wait(&[socket], schedule.due_us(tick) - schedule.now_us())?;
        while let Some((length, from)) = receive(socket, &mut buffer)? {
            let Some([sequence, sent_us]) = words(&buffer[..length]) else { continue };
            let player = match players.iter_mut().find(|player| player.address == from) {
                Some(player) => player,
                None => players.push_mut(Served { address: from, sequence: 0, sent_us: 0, received_us: 0 }),
            };
            if sequence > player.sequence {
                *player = Served { sequence, sent_us, received_us: schedule.now_us() as u64, ..*player };
            }
        }
        if schedule.now_us() < schedule.due_us(tick) {
            continue;
        }
        for player in &players {
            let now_us = schedule.now_us() as u64;
            let down = [tick, now_us, player.sequence, player.sent_us, now_us - player.received_us];
            send(socket, player.address, &down, bytes.clamp(DOWN_BYTES_MIN, DATAGRAM_BYTES_MAX))?;
        }
        tick += 1;
    }
    Ok(())
}

/// A player as the sender knows it: the newest input, when it was sent by the player's clock, and received.
#[derive(Clone, Copy, Debug)]
struct Served {
    address: SocketAddr,
    sequence: u64,
    sent_us: u64,
    received_us: u64,
}

/// Plays from these addresses until the schedule's end.
pub(crate) fn play(addresses: &[Ipv4Addr], server: SocketAddr, schedule: Schedule) -> io::Result<Seen> {
    let mut players = Vec::new();
    for (i, &address) in addresses.iter().enumerate() {
        let socket = UdpSocket::bind((address, 0))?;
        socket.set_nonblocking(true)?;
        // Players send at moments of their own within the tick.
        let tick_us = 1_000_000 / i64::from(schedule.hz);
        players.push(Player::new(socket, tick_us * i as i64 / addresses.len() as i64));
    }
    let mut seen = Seen::default();
    while !schedule.is_over() {
        let next_us = players.iter().map(|player| player.due_us(&schedule)).min().unwrap_or_default();
        wait(&players.iter().map(|player| &player.socket).collect::<Vec<_>>(), next_us - schedule.now_us())?;
        for player in &mut players {
            player.receive(&schedule, &mut seen)?;
            player.send(server, &schedule)?;
        }
    }
    for player in &mut players {
        player.meter.sample(schedule.now_us(), &player.clock, &mut seen.ages);
    }
    Ok(seen)
}

struct Player {
    socket: UdpSocket,
    /// When within the tick it sends.
    phase_us: i64,
    sequence: u64,
    /// Inputs that are not acknowledged, with when they were sent.
    unacknowledged: VecDeque<(u64, i64)>,
    newest_tick: Option<u64>,
    clock: Clock,
    meter: AgeMeter,
}

impl Player {
    fn new(socket: UdpSocket, phase_us: i64) -> Self {
        Self {
            socket,
            phase_us,
            sequence: 0,
            unacknowledged: VecDeque::new(),
            newest_tick: None,
            clock: Clock::default(),
            meter: AgeMeter::default(),
        }
    }

    fn due_us(&self, schedule: &Schedule) -> i64 {
        schedule.due_us(self.sequence) + self.phase_us
    }

    fn send(&mut self, server: SocketAddr, schedule: &Schedule) -> io::Result<()> {
        while self.due_us(schedule) <= schedule.now_us() {
            self.sequence += 1;
            let now_us = schedule.now_us();
            self.unacknowledged.push_back((self.sequence, now_us));
            send(&self.socket, server, &[self.sequence, now_us as u64], INPUT_BYTES)?;
        }
        Ok(())
    }

    fn receive(&mut self, schedule: &Schedule, seen: &mut Seen) -> io::Result<()> {
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        while let Some((length, _)) = receive(&self.socket, &mut buffer)? {
            let Some([tick, theirs_us, sequence, sent_us, held_us]) = words(&buffer[..length]) else { continue };
            let now_us = schedule.now_us();
            seen.received += 1;
            seen.received_bytes += length as u64;
            self.clock.answered(sent_us as i64, held_us as i64, theirs_us as i64, now_us);
            while let Some((_, sent_us)) = self.unacknowledged.pop_front_if(|(sent, _)| *sent <= sequence) {
                seen.ages.input_to_ack_us.saturating_record((now_us - sent_us) as u64);
            }
            if self.newest_tick.is_none_or(|newest| newest < tick) {
                self.newest_tick = Some(tick);
                self.meter.applied(schedule.due_us(tick), now_us, &self.clock, &mut seen.ages);
            }
        }
        Ok(())
    }
}

/// Until something can be received, or so much time has passed.
fn wait(sockets: &[&UdpSocket], us: i64) -> io::Result<()> {
    let timeout = Timespec::try_from(Duration::from_micros(us.try_into().unwrap_or(0))).map_err(io::Error::other)?;
    let mut polled: Vec<PollFd<'_>> = sockets.iter().map(|socket| PollFd::new(*socket, PollFlags::IN)).collect();
    match poll(&mut polled, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>> {
    match socket.recv_from(buffer) {
        Ok(received) => Ok(Some(received)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        // Of an earlier datagram: nobody listened yet, or any more.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(None),
        Err(error) => Err(error),
    }
}

fn send(socket: &UdpSocket, to: SocketAddr, words: &[u64], bytes: usize) -> io::Result<()> {
    let mut datagram = [0; DATAGRAM_BYTES_MAX];
    for (bytes, word) in datagram.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    match socket.send_to(&datagram[..bytes], to) {
        // A full buffer loses a datagram, as a network does.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

/// The words at the beginning of a datagram; none where it is too short.
fn words<const N: usize>(datagram: &[u8]) -> Option<[u64; N]> {
    let mut words = [0; N];
    for (i, word) in words.iter_mut().enumerate() {
        *word = u64::from_be_bytes(datagram.get(i * 8..i * 8 + 8)?.try_into().ok()?);
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn over_a_good_network_every_tick_arrives_and_every_input_is_acknowledged() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let server = socket.local_addr().expect("an address");
        let start = Instant::now();
        let schedule = Schedule { start, hz: 100, end: start + Duration::from_millis(500) };
        let sender = thread::spawn(move || serve(&socket, schedule, 300));
        let seen = play(&[Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)], server, schedule).expect("it plays");
        sender.join().expect("no panic").expect("it serves");
        assert!((1..=102).contains(&seen.received), "{} datagrams", seen.received);
        assert_eq!(seen.received_bytes, seen.received * 300);
        assert!(!seen.ages.age_us.is_empty() && !seen.ages.input_to_ack_us.is_empty());
    }

    #[test]
    fn short_datagrams_hold_no_words() {
        assert_eq!(words::<2>(&[0; 15]), None);
        assert_eq!(words::<2>(&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 9]), Some([1, 2]));
    }
}
