//! The processes of a run: this program again, each in a role of its own, with a line of JSON for each thing said.
//!
//! A child ends when its standard input does, so that none outlives the run, however that ends.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    process::{self, Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    drain::{self, DrainConfig},
    floor::{self, PlainConfig},
    host::{self, HostConfig},
    plain_tokio,
};

/// The hidden argument before a role.
pub(crate) const COMMAND: &str = "child";
/// No answer takes longer, unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a process is there for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Role {
    Floor(PlainConfig),
    Tokio(PlainConfig),
    Tickwire(HostConfig),
    Drain(DrainConfig),
}

/// What a child says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    /// A server: clients may come.
    Listening { address: SocketAddr },
    /// The drain: every client plays.
    Joined,
    /// The drain: counting has begun.
    Began,
    /// The drain: what was counted.
    Counted(Box<drain::Counted>),
    /// The child is at its end.
    Failed { message: String },
}

/// What a child is told.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Count from now on.
    Begin,
    /// Say what was counted.
    End,
}

/// What goes wrong with a child.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChildError {
    #[error("cannot start {role}: {source}")]
    Start { role: &'static str, source: io::Error },
    #[error("{role}: {message}")]
    Failed { role: &'static str, message: String },
    #[error("{role} said nothing for {PATIENCE:?}")]
    Silent { role: &'static str },
    #[error("{role} ended")]
    Ended { role: &'static str },
    #[error("{role} said {said}, and {wanted} was expected")]
    Unexpected { role: &'static str, said: String, wanted: &'static str },
}

impl Role {
    fn name(&self) -> &'static str {
        match self {
            Self::Floor(_) => "the floor",
            Self::Tokio(_) => "the tokio server",
            Self::Tickwire(_) => "Tickwire",
            Self::Drain(_) => "the drain",
        }
    }

    /// Does what the role is there for, until the standard input ends.
    pub(crate) fn run(self) -> io::Result<()> {
        match self {
            Self::Drain(config) => return drain::run(&config),
            Self::Floor(_) | Self::Tokio(_) | Self::Tickwire(_) => hear(|_| {}),
        }
        match self {
            Self::Floor(config) => floor::run(config),
            Self::Tokio(config) => plain_tokio::run(config),
            Self::Tickwire(config) => host::run(config),
            Self::Drain(_) => unreachable!("it has returned"),
        }
    }
}

/// In a child: says a line.
pub(crate) fn say(said: &Said) {
    let mut line = serde_json::to_vec(said).expect("it is plain data");
    line.push(b'\n');
    // Where nobody listens, the standard input has ended, too, and the process with it.
    let _ = io::stdout().lock().write_all(&line);
}

/// In a child: hands over what it is told, from a thread of its own, which ends the process when the standard input ends.
pub(crate) fn hear(mut obey: impl FnMut(Order) + Send + 'static) {
    thread::spawn(move || {
        let lines = BufReader::new(io::stdin()).lines();
        lines.map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok()).for_each(&mut obey);
        process::exit(0);
    });
}

/// A process of the run. Dropped, it is killed.
pub(crate) struct ChildProcess {
    role: &'static str,
    child: Child,
    orders: ChildStdin,
    said: Receiver<Said>,
}

impl ChildProcess {
    /// Starts this program in a role.
    pub(crate) fn start(role: &Role) -> Result<Self, ChildError> {
        let name = role.name();
        let start = || {
            let mut child = Command::new(std::env::current_exe()?)
                .arg(COMMAND)
                .arg(serde_json::to_string(role)?)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let (orders, lines) = child.stdin.take().zip(child.stdout.take()).expect("both are piped");
            let (tell, said) = channel();
            thread::spawn(move || {
                let lines = BufReader::new(lines).lines().map_while(Result::ok);
                // A receiver that is gone needs to hear no more.
                lines.filter_map(|line| serde_json::from_str(&line).ok()).all(|said| tell.send(said).is_ok())
            });
            Ok(Self { role: name, child, orders, said })
        };
        start().map_err(|source| ChildError::Start { role: name, source })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Tells the child something.
    pub(crate) fn tell(&mut self, order: Order) -> Result<(), ChildError> {
        let mut line = serde_json::to_vec(&order).expect("it is plain data");
        line.push(b'\n');
        self.orders.write_all(&line).map_err(|_| ChildError::Ended { role: self.role })
    }

    /// Waits for what the child has to say next, and takes what `wanted` makes of it.
    pub(crate) fn hear<T>(
        &self,
        wanted: &'static str,
        take: impl FnOnce(Said) -> Result<T, Said>,
    ) -> Result<T, ChildError> {
        let role = self.role;
        match self.said.recv_timeout(PATIENCE) {
            Ok(Said::Failed { message }) => Err(ChildError::Failed { role, message }),
            Ok(said) => take(said).map_err(|said| ChildError::Unexpected { role, said: format!("{said:?}"), wanted }),
            Err(RecvTimeoutError::Timeout) => Err(ChildError::Silent { role }),
            Err(RecvTimeoutError::Disconnected) => Err(ChildError::Ended { role }),
        }
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        // Errors say that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
