//! Accepts sockets and hands them over to the network threads.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use super::{
    NetworkThreads, connection,
    counters::{REFUSED_AS_BANNED, REFUSED_AS_LOST},
    frames, socket,
};
use crate::{
    limits::{RefusalReason, TooMany},
    server::Serving,
};

/// How long to wait where the process has no descriptor or memory left for one more socket.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until it is dropped.
pub(crate) async fn accept(listener: &TcpListener, threads: &NetworkThreads, server: &Arc<Serving>) -> Infallible {
    socket::prepare_listener(listener);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let counters = &server.shared.connection_counters;
                let number = counters.accepted.fetch_add(1, Ordering::Relaxed) + 1;
                if server.shared.bans.find(peer.ip()).is_some() {
                    counters.refused.note(REFUSED_AS_BANNED);
                    debug!(%peer, "a connection from a banned address is closed at once");
                } else if let Err(error) = hand_over(stream, (number, peer), threads, server) {
                    counters.refused.note(REFUSED_AS_LOST);
                    debug!(%peer, %error, "a connection was lost before it was served");
                }
            }
            Err(error) if is_of_one_connection(&error) => {
                debug!(%error, "a connection was lost before it was accepted");
            }
            Err(error) => {
                warn!(%error, "cannot accept connections; is the limit of open files too low?");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

/// The connection goes by its number in the log.
fn hand_over(
    stream: TcpStream,
    (number, peer): (u64, SocketAddr),
    threads: &NetworkThreads,
    server: &Arc<Serving>,
) -> io::Result<()> {
    let (shared, open) = (&server.shared, threads.connections());
    let limits = shared.limits();
    if open >= limits.connections_max {
        turn_away(&stream, server, RefusalReason::Connections, open, "connections_max is reached");
        return Ok(());
    }
    let admitted = match shared.admission.connect(peer.ip(), &limits) {
        Ok(admitted) => admitted,
        Err(TooMany(open)) => {
            let reason = RefusalReason::ConnectionsPerAddress;
            turn_away(&stream, server, reason, open, "connections_per_address_max is reached");
            return Ok(());
        }
    };
    socket::prepare(&stream);
    // It leaves this runtime's reactor, and enters that of the thread which will serve it.
    let stream = stream.into_std()?;
    let thread = threads.least_busy();
    let guard = connection::ConnectionGuard::new(Arc::clone(thread));
    thread.runtime.spawn(connection::serve(stream, (number, peer), (guard, admitted), Arc::clone(server)));
    Ok(())
}

/// Says why, as far as that can be said at once, and closes the connection.
fn turn_away(stream: &TcpStream, server: &Serving, reason: RefusalReason, open: usize, why: &'static str) {
    server.shared.connection_counters.refused.note(reason.label());
    let times = server.shared.refusals.count(reason);
    // Whoever can make connections could fill the log with them.
    if times.is_power_of_two() {
        warn!(open, times, "{why}: a connection is closed at once");
    }
    // Who waits for encryption understands nothing else, and to agree on it is what there is no room for.
    if server.tls.is_none() {
        // Without SETTINGS before it: with them a client of gRPC counts as connected, and comes again at once, many times a
        // second; without, its attempt has failed, and it waits longer from each to the next. One that has not read it by the
        // time that it is reset learns no more than that.
        let _ = stream.try_write(&frames::calm_down(0, why));
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
