//! Accepts sockets and hands them over to the network threads.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use super::{NetworkThreads, connection, socket};
use crate::server::Serving;

/// How long to wait where the process has no descriptor or memory left for one more socket.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until it is dropped.
pub(crate) async fn accept(listener: &TcpListener, threads: &NetworkThreads, server: &Arc<Serving>) -> Infallible {
    socket::prepare_listener(listener);
    loop {
        match listener.accept().await {
            Ok((_, peer)) if server.shared.bans.find(peer.ip()).is_some() => {
                debug!(%peer, "a connection from a banned address is closed at once");
            }
            Ok((stream, peer)) => match hand_over(stream, peer, threads, server) {
                Ok(()) => debug!(%peer, "connected"),
                Err(error) => debug!(%peer, %error, "a connection was lost before it was served"),
            },
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

fn hand_over(stream: TcpStream, peer: SocketAddr, threads: &NetworkThreads, server: &Arc<Serving>) -> io::Result<()> {
    let open = threads.connections();
    if open >= server.shared.limits().connections_max {
        warn!(open, "connections_max is reached: a connection is closed at once");
        return Ok(());
    }
    socket::prepare(&stream);
    // It leaves this runtime's reactor, and enters that of the thread which will serve it.
    let stream = stream.into_std()?;
    let thread = threads.least_busy();
    let guard = connection::ConnectionGuard::new(Arc::clone(thread));
    thread.runtime.spawn(connection::serve(stream, peer, guard, Arc::clone(server)));
    Ok(())
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
