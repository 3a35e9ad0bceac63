//! The floor: one thread, and one `send` per connection and tick. No server that talks to each client each tick can cost
//! less without leaving TCP.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use serde::{Deserialize, Serialize};

use crate::{
    child::{Said, say},
    drain::Uplink,
    frame,
    pace::Pace,
};

/// What a plain server does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct PlainConfig {
    /// Messages per second and client.
    pub(crate) rate: u32,
    /// Bytes of a message's body.
    pub(crate) body_bytes: usize,
    /// What clients send.
    pub(crate) uplink: Uplink,
}

struct Peer {
    socket: TcpStream,
    /// What the kernel did not take at once.
    rest: Vec<u8>,
}

/// Serves until the process is ended.
pub(crate) fn run(config: PlainConfig) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    say(&Said::Listening { address: listener.local_addr()? });

    let mut peers: Vec<Peer> = Vec::new();
    let mut message = frame::message(config.body_bytes);
    let pace = Pace::start(config.rate);
    for tick in 1.. {
        thread::sleep(pace.until(tick));
        accept(&listener, &mut peers)?;
        if config.uplink.is_due(tick) {
            peers.retain_mut(|peer| peer.read());
        }
        frame::stamp(&mut message, pace.due_ns(tick));
        peers.retain_mut(|peer| peer.send(&message));
    }
    Ok(())
}

fn accept(listener: &TcpListener, peers: &mut Vec<Peer>) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((socket, _)) => {
                socket.set_nonblocking(true)?;
                socket.set_nodelay(true)?;
                peers.push(Peer { socket, rest: Vec::new() });
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

impl Peer {
    /// Takes in what has come, unseen. False: the peer is gone.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 1024];
        match self.socket.read(&mut buffer) {
            Ok(length) => length > 0,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }

    /// False: the peer is gone.
    fn send(&mut self, message: &[u8]) -> bool {
        let is_whole = self.rest.is_empty();
        if !is_whole {
            self.rest.extend_from_slice(message);
        }
        let bytes = if is_whole { message } else { &self.rest };
        let sent = match self.socket.write(bytes) {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => return false,
        };
        if is_whole {
            self.rest.extend_from_slice(&message[sent..]);
        } else {
            self.rest.drain(..sent);
        }
        true
    }
}
