//! The clients: one process with one thread, which reads what comes on all connections, and says what must be said. They
//! share the machine with the server, so they decode nothing that they need not know.

mod h2;
mod plain;
mod play;
mod scan;
mod server_clock;
mod tally;

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::SocketAddr,
    sync::{
        Arc,
        mpsc::{self, TryRecvError},
    },
    time::Duration,
};

use mio::{Events, Interest, Poll, Token, Waker, net::TcpStream};
use serde::{Deserialize, Serialize};

pub(crate) use tally::Counted;

use self::{plain::Plain, tally::Tally};
use crate::{
    cases::Workload,
    child::{self, Order, Said, say},
    frame::FrameError,
    pace::{Pace, now_ns},
};

/// What the clients do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DrainConfig {
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Protocol,
    pub(crate) clients: usize,
    /// Ticks per second.
    pub(crate) rate: u32,
    pub(crate) uplink: Uplink,
}

/// How the server speaks.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Protocol {
    /// Messages with a length before them.
    Plain,
    /// `GameService.Play`, as players of a workload.
    Tickwire(Workload),
}

/// What clients send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Uplink {
    Nothing,
    /// An acknowledgement of every so-manieth message.
    Acks {
        every: u32,
    },
    /// An input per tick, each client at a moment of its own.
    Inputs,
}

impl Uplink {
    /// Whether about one message of each client has come since the last tick of which this was true.
    pub(crate) fn is_due(self, tick: u64) -> bool {
        match self {
            Self::Nothing => false,
            Self::Acks { every } => tick.is_multiple_of(every.into()),
            Self::Inputs => true,
        }
    }
}

/// Clients that try to join at the same time.
const JOINING_MAX: usize = 64;
/// As many of these as fit a tick are the moments at which clients send.
const SLOT_NS: u64 = 1_000_000;
const READ_BYTES: usize = 256 * 1024;
const WAKER: Token = Token(usize::MAX);

/// What ends one client.
#[derive(Debug, thiserror::Error)]
enum ClientError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the server closed the connection")]
    Closed,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    H2(#[from] h2::H2Error),
    #[error(transparent)]
    Scan(#[from] scan::ScanError),
    #[error("a compressed message, or one of {0} bytes")]
    Message(usize),
    #[error("the server said goodbye")]
    Goodbye,
}

/// One client's side of a protocol, without its socket.
trait Speaker {
    /// What all clients share.
    type Shared;

    /// Says what is to be said first.
    fn open(&mut self, out: &mut Vec<u8>) -> Result<(), ClientError>;

    /// Takes in what is whole of `bytes`, and answers; returns how much that was.
    fn receive(&mut self, bytes: &[u8], desk: &mut Desk<'_, Self::Shared>) -> Result<usize, ClientError>;

    /// Sends the input of a tick.
    fn input(&mut self, desk: &mut Desk<'_, Self::Shared>) -> Result<(), ClientError>;

    /// Whether messages come.
    fn plays(&self) -> bool;
}

/// What a speaker works with.
struct Desk<'a, S> {
    now_ns: u64,
    shared: &'a mut S,
    tally: &'a mut Tally,
    out: &'a mut Vec<u8>,
}

/// Reads until the process is ended.
pub(crate) fn run(config: &DrainConfig) -> io::Result<()> {
    match config.protocol {
        Protocol::Plain => Drain::new(config, (), |_| Plain::new(config.uplink))?.run(),
        Protocol::Tickwire(workload) => {
            let players = play::Players::new(&workload, config).map_err(io::Error::other)?;
            let speakers = |i| players.speaker(i);
            Drain::new(config, players.shared(), speakers)?.run()
        }
    }
}

struct Drain<'a, S: Speaker> {
    config: &'a DrainConfig,
    poll: Poll,
    orders: mpsc::Receiver<Order>,
    clients: Vec<Client<S>>,
    shared: S::Shared,
    tally: Tally,
    /// Clients that have begun to connect, and those of them that play.
    begun: usize,
    joined: usize,
    buffer: Vec<u8>,
    out: Vec<u8>,
}

struct Client<S> {
    speaker: S,
    link: Link,
    /// A message that is not whole.
    tail: Vec<u8>,
    /// What the kernel did not take at once.
    pending: Vec<u8>,
}

enum Link {
    Unused,
    Connecting(TcpStream),
    Open(TcpStream),
    Lost,
}

impl<'a, S: Speaker> Drain<'a, S> {
    fn new(config: &'a DrainConfig, shared: S::Shared, speaker: impl Fn(usize) -> S) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (tell, orders) = mpsc::channel();
        child::hear(move |order| {
            // Where the loop is gone, the process is at its end.
            let _ = tell.send(order);
            let _ = waker.wake();
        });
        let client = |i| Client { speaker: speaker(i), link: Link::Unused, tail: Vec::new(), pending: Vec::new() };
        Ok(Self {
            config,
            poll,
            orders,
            clients: (0..config.clients).map(client).collect(),
            shared,
            tally: Tally::new(),
            begun: 0,
            joined: 0,
            buffer: vec![0; READ_BYTES],
            out: Vec::new(),
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let slots = (1_000_000_000 / SLOT_NS / u64::from(self.config.rate)).max(1);
        let pace = Pace::start(self.config.rate * slots as u32);
        let mut slot = 1;
        loop {
            self.join_more()?;
            let wait = self.sends().then(|| pace.until(slot));
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                match event.token() {
                    WAKER => self.obey(),
                    Token(i) => self.serve(i, event.is_readable(), event.is_writable())?,
                }
            }
            while self.sends() && pace.until(slot) == Duration::ZERO {
                self.send_inputs(slot, slots)?;
                slot += 1;
            }
        }
    }

    /// Whether clients send of themselves, not only in answer.
    fn sends(&self) -> bool {
        matches!(self.config.protocol, Protocol::Tickwire(_)) || self.config.uplink == Uplink::Inputs
    }

    fn join_more(&mut self) -> io::Result<()> {
        while self.begun < self.clients.len() && self.begun - self.joined < JOINING_MAX {
            let mut socket = TcpStream::connect(self.config.address)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut socket, Token(self.begun), interest)?;
            self.clients[self.begun].link = Link::Connecting(socket);
            self.begun += 1;
        }
        Ok(())
    }

    fn obey(&mut self) {
        loop {
            match self.orders.try_recv() {
                Ok(Order::Begin) => {
                    self.tally.begin();
                    say(&Said::Began);
                }
                Ok(Order::End) => say(&Said::Counted(Box::new(self.tally.counted()))),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    /// Does what a socket is ready for.
    fn serve(&mut self, i: usize, readable: bool, writable: bool) -> io::Result<()> {
        self.with(i, |client, buffer, desk| {
            if writable {
                client.connected(desk)?;
                client.flush(desk)?;
            }
            if readable { client.read(buffer, desk) } else { Ok(()) }
        })
    }

    /// Has the clients send whose turn it is.
    fn send_inputs(&mut self, slot: u64, slots: u64) -> io::Result<()> {
        let first = (slot % slots) as usize;
        for i in (first..self.begun).step_by(slots as usize) {
            if self.clients[i].speaker.plays() && matches!(self.clients[i].link, Link::Open(_)) {
                self.with(i, |client, _, desk| {
                    client.speaker.input(desk)?;
                    client.flush(desk)
                })?;
            }
        }
        Ok(())
    }

    /// Lets one client work, and takes note of its end.
    fn with(
        &mut self,
        i: usize,
        work: impl FnOnce(&mut Client<S>, &mut [u8], &mut Desk<'_, S::Shared>) -> Result<(), ClientError>,
    ) -> io::Result<()> {
        let count = self.clients.len();
        let client = &mut self.clients[i];
        let played = client.speaker.plays();
        self.out.clear();
        let mut desk = Desk { now_ns: now_ns(), shared: &mut self.shared, tally: &mut self.tally, out: &mut self.out };
        if let Err(error) = work(client, &mut self.buffer, &mut desk) {
            if self.joined < count {
                return Err(io::Error::other(format!("client {i} did not join: {error}")));
            }
            client.link = Link::Lost;
            self.tally.lost(&error.to_string());
        }
        if !played && client.speaker.plays() {
            self.joined += 1;
            if self.joined == count {
                say(&Said::Joined);
            }
        }
        Ok(())
    }
}

impl<S: Speaker> Client<S> {
    /// Opens the link, where its socket has just come to be connected.
    fn connected(&mut self, desk: &mut Desk<'_, S::Shared>) -> Result<(), ClientError> {
        if !matches!(self.link, Link::Connecting(_)) {
            return Ok(());
        }
        let Link::Connecting(socket) = std::mem::replace(&mut self.link, Link::Lost) else { return Ok(()) };
        if let Some(error) = socket.take_error()? {
            return Err(error.into());
        }
        socket.set_nodelay(true)?;
        self.link = Link::Open(socket);
        self.speaker.open(desk.out)
    }

    /// Reads what there is, and answers.
    fn read(&mut self, buffer: &mut [u8], desk: &mut Desk<'_, S::Shared>) -> Result<(), ClientError> {
        loop {
            let Link::Open(socket) = &mut self.link else { return Ok(()) };
            let length = match socket.read(buffer) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            desk.tally.read(length);
            self.take(&buffer[..length], desk)?;
            self.flush(desk)?;
            // The poll tells of what comes from here on.
            if length < buffer.len() {
                return Ok(());
            }
        }
    }

    fn take(&mut self, bytes: &[u8], desk: &mut Desk<'_, S::Shared>) -> Result<(), ClientError> {
        if self.tail.is_empty() {
            let taken = self.speaker.receive(bytes, desk)?;
            self.tail.extend_from_slice(&bytes[taken..]);
        } else {
            self.tail.extend_from_slice(bytes);
            let taken = self.speaker.receive(&self.tail, desk)?;
            self.tail.drain(..taken);
        }
        Ok(())
    }

    /// Writes what is to be said, after what the kernel has not taken yet.
    fn flush(&mut self, desk: &mut Desk<'_, S::Shared>) -> Result<(), ClientError> {
        let Link::Open(socket) = &mut self.link else { return Ok(()) };
        let waited = !self.pending.is_empty();
        if waited {
            self.pending.append(desk.out);
        }
        let bytes = if waited { &mut self.pending } else { &mut *desk.out };
        if bytes.is_empty() {
            return Ok(());
        }
        let written = match socket.write(bytes) {
            Ok(written) => written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error.into()),
        };
        desk.tally.written(written);
        bytes.drain(..written);
        if !waited {
            self.pending.append(desk.out);
        }
        Ok(())
    }
}
