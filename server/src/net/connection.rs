//! One connection: HTTP/2 over a socket, until either side ends it. One task does all of it, its `Play` streams among it.

mod keep_alive;
mod served;
mod timer;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering},
};

use tokio::{net::TcpStream, time::timeout};
use tonic::Code;
use tracing::{Span, debug, error_span};

use self::served::Served;
use super::{
    NetworkThread,
    connection_end::{CLOSED, ConnectionError},
    counters::REFUSED_AS_BANNED,
    transport::Transport,
    wake::{Calls, Task},
};
use crate::{
    config::Limits,
    limits::{Admitted, Permit, Quota},
    server::{Phase, Serving},
    status::Refusal,
};

/// Where a request's connection comes from, among the request's extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAddress(pub(crate) IpAddr);

/// What others know of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The network thread that serves it.
    pub(crate) thread: Arc<NetworkThread>,
    /// Who is at its other end.
    pub(crate) peer: SocketAddr,
    /// Log lines of all that goes on there belong to it.
    pub(crate) span: Span,
    /// Its place among those of its address.
    admitted: Admitted,
    /// Requests that have come and are not answered to their end.
    requests: Arc<Quota>,
    /// Those of them that are streams of `Play`, or of spectators.
    streams: Arc<Quota>,
    task: Arc<Task>,
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Pending {
    connection: Arc<Connection>,
    permit: Option<Permit>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.permit = None;
        if self.connection.requests.taken() == 0 {
            // From here on it is idle.
            self.connection.task.call(Calls::TIMER);
        }
    }
}

impl Connection {
    fn new(thread: Arc<NetworkThread>, (number, peer): (u64, SocketAddr), admitted: Admitted) -> Self {
        // Of the highest level, so that its lines name it whatever the filter.
        let span = error_span!(parent: None, "connection", connection = number);
        let (requests, streams) = (Arc::default(), Arc::default());
        Self { thread, peer, span, admitted, requests, streams, task: Task::new() }
    }

    fn begin_request(self: &Arc<Self>) -> Pending {
        Pending { connection: Arc::clone(self), permit: self.requests.take(usize::MAX) }
    }

    /// A place for one more stream of `Play`, or of a spectator.
    pub(crate) fn open_stream(&self, limits: &Limits) -> Result<Permit, Refusal> {
        let most = limits.streams_per_connection_max;
        self.streams.take(most).ok_or_else(|| {
            let message =
                format!("{most} streams are open on this connection, which is the most: open another connection");
            Refusal::new(Code::ResourceExhausted, "STREAMS", message)
        })
    }

    /// Counts a join that comes by this connection.
    pub(crate) fn join(&self, limits: &Limits) -> Result<(), Refusal> {
        self.admitted.join(limits).map_err(|wait| {
            let message = "there are too many joins per second, of your address or in all";
            Refusal::new(Code::ResourceExhausted, "JOINS", message).retry_after(wait)
        })
    }

    /// Cuts the connection off, with all its requests.
    pub(crate) fn abort(&self) {
        self.task.call(Calls::ABORT);
    }

    /// Has the connection end, once its requests have.
    pub(crate) fn end(&self) {
        self.task.call(Calls::END);
    }
}

/// An open connection, as its thread knows it.
#[derive(Debug)]
struct Registered {
    connection: Arc<Connection>,
    number: usize,
}

impl Registered {
    fn new(connection: Arc<Connection>) -> Self {
        let number = connection.thread.register(Arc::clone(&connection));
        Self { connection, number }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connection.thread.deregister(self.number);
    }
}

/// Counts an open connection.
#[derive(Debug)]
pub(super) struct ConnectionGuard {
    thread: Arc<NetworkThread>,
}

impl ConnectionGuard {
    pub(super) fn new(thread: Arc<NetworkThread>) -> Self {
        thread.connections.fetch_add(1, Ordering::Relaxed);
        Self { thread }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.thread.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves a connection to its end, on the thread that it was handed to.
pub(super) async fn serve(
    stream: std::net::TcpStream,
    (number, peer): (u64, SocketAddr),
    (guard, admitted): (ConnectionGuard, Admitted),
    server: Arc<Serving>,
) {
    let connection = Arc::new(Connection::new(Arc::clone(&guard.thread), (number, peer), admitted));
    let span = connection.span.clone();
    span.in_scope(|| debug!(%peer, "connected"));
    let registered = Registered::new(Arc::clone(&connection));
    // A ban of before is found now, and one that comes from now on finds the connection.
    if server.shared.bans.find(peer.ip()).is_some() {
        server.shared.connection_counters.refused.note(REFUSED_AS_BANNED);
        span.in_scope(|| debug!("a connection from an address that has just been banned is closed"));
        drop((registered, guard));
        server.shared.something_ended.notify_one();
        return;
    }
    let served = match establish(stream, &server).await {
        Ok(transport) => Served::new(transport, connection, Arc::clone(&server)).await,
        Err(error) => Err(error),
    };
    let reason = served.as_ref().map_or_else(ConnectionError::label, |()| CLOSED);
    server.shared.connection_counters.closed.note(reason);
    span.in_scope(|| match served {
        Ok(()) => debug!("connection closed"),
        Err(error) => {
            if let Some(reason) = error.refusal() {
                server.shared.refusals.count(reason);
            }
            debug!(%error, "connection lost");
        }
    });
    drop((registered, guard));
    server.shared.something_ended.notify_one();
}

/// Brings a socket to where HTTP/2 begins.
async fn establish(stream: std::net::TcpStream, server: &Serving) -> Result<Transport, ConnectionError> {
    let stream = TcpStream::from_std(stream)?;
    let Some(tls) = &server.tls else { return Ok(Transport::Plain(stream)) };
    let mut phase = server.shared.phase.subscribe();
    let agreed = timeout(server.shared.timeouts.hello, tls.accept(stream));
    tokio::select! {
        agreed = agreed => {
            let stream = agreed.map_err(|_| ConnectionError::NoHandshake)?.map_err(ConnectionError::Tls)?;
            Ok(Transport::encrypted(stream))
        }
        // An error says that the server is gone.
        _ = phase.wait_for(|phase| *phase == Phase::Ending) => Err(ConnectionError::Aborted),
    }
}
