//! Accepts sockets and hands them over to the network threads.

use std::{io, sync::Arc, time::Duration};

use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use super::{connection, socket};
use crate::server::Shared;

/// How long to wait where the process has no descriptor or memory left for one more socket.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until it is dropped.
pub(crate) async fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    socket::prepare_listener(listener);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => match hand_over(stream, shared) {
                Ok(()) => debug!(%peer, "connected"),
                Err(error) => debug!(%peer, %error, "a connection was lost before it was served"),
            },
            Err(error) if is_of_one_connection(&error) => debug!(%error, "a connection was lost before it was accepted"),
            Err(error) => {
                warn!(%error, "cannot accept connections; is the limit of open files too low?");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

fn hand_over(stream: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let open = shared.probe.connections();
    if open >= shared.limits.connections_max {
        warn!(open, "connections_max is reached: a connection is closed at once");
        return Ok(());
    }
    socket::prepare(&stream);
    // It leaves this runtime's reactor, and enters that of the thread which will serve it.
    let stream = stream.into_std()?;
    let thread = shared.threads.least_busy();
    let guard = connection::ConnectionGuard::new(Arc::clone(thread));
    thread.runtime.spawn(connection::serve(stream, guard, Arc::clone(shared)));
    Ok(())
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
