//! One connection: HTTP/2 over a socket, until either side ends it.

use std::{
    convert::Infallible,
    future::{Future as _, poll_fn},
    io,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::{Poll, Waker},
};

use hyper::{body::Incoming, server::conn::http2, service::Service};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tonic::service::Routes;
use tracing::debug;

use super::NetworkThread;
use crate::server::{Phase, Serving, Shared};

const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// Room for thousands of small unread messages: below that a burst of inputs trips HTTP/2's flood protection.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const HEADER_LIST_BYTES_MAX: u32 = 8 * 1024;
const PENDING_RESETS_MAX: usize = 20;
const LOCAL_RESETS_MAX: usize = 64;

/// What a connection's requests know of it. It is in each request's extensions.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The network thread that serves it.
    pub(crate) thread: Arc<NetworkThread>,
    requested: AtomicBool,
    signal: Signal,
}

impl Connection {
    /// Cuts the connection off, with all its requests.
    pub(crate) fn abort(&self) {
        self.signal.raise(Told::Abort);
    }

    /// Has the connection end, once its requests have.
    pub(super) fn end(&self) {
        self.signal.raise(Told::End);
    }
}

/// What a connection is told by others. It looks at it each time that it has something to do: that must cost nothing.
#[derive(Debug, Default)]
struct Signal {
    told: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Told {
    Nothing = 0,
    End = 1,
    Abort = 2,
}

impl Signal {
    /// Tells it. Of two words the stronger counts.
    fn raise(&self, told: Told) {
        self.told.fetch_max(told as u8, Ordering::SeqCst);
        if let Some(waker) = &*self.waker.lock().expect("no holder of this lock panics") {
            waker.wake_by_ref();
        }
    }

    /// Has this task woken when it is told something.
    fn register(&self, waker: &Waker) {
        *self.waker.lock().expect("no holder of this lock panics") = Some(waker.clone());
    }

    fn told(&self) -> Told {
        match self.told.load(Ordering::SeqCst) {
            0 => Told::Nothing,
            1 => Told::End,
            _ => Told::Abort,
        }
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
pub(super) async fn serve(stream: std::net::TcpStream, guard: ConnectionGuard, server: Arc<Serving>) {
    let connection = Arc::new(Connection {
        thread: Arc::clone(&guard.thread),
        requested: AtomicBool::new(false),
        signal: Signal::default(),
    });
    let registered = Registered::new(Arc::clone(&connection));
    match serve_http2(stream, &connection, &server).await {
        Ok(()) => debug!("connection closed"),
        Err(error) => debug!(%error, "connection lost"),
    }
    drop((registered, guard));
    server.shared.something_ended.notify_one();
}

async fn serve_http2(
    stream: std::net::TcpStream,
    connection: &Arc<Connection>,
    server: &Serving,
) -> Result<(), ConnectionError> {
    let shared = &server.shared;
    let stream = TcpStream::from_std(stream)?;
    let requests = Requests { routes: server.routes.clone(), connection: Arc::clone(connection) };
    let mut served = pin!(http2_builder(shared).serve_connection(TokioIo::new(stream), requests));
    let mut first_request_due = Some(Box::pin(tokio::time::sleep(shared.timeouts.hello)));
    let registered = poll_fn(|cx| {
        connection.signal.register(cx.waker());
        Poll::Ready(())
    });
    registered.await;
    if *shared.phase.borrow() == Phase::Ending {
        // It came too late to be told.
        connection.end();
    }
    let ended = poll_fn(|cx| {
        if let Poll::Ready(result) = served.as_mut().poll(cx) {
            return Poll::Ready(Some(result.map_err(ConnectionError::from)));
        }
        match connection.signal.told() {
            Told::Nothing => {}
            Told::End => return Poll::Ready(None),
            Told::Abort => return Poll::Ready(Some(Err(ConnectionError::Aborted))),
        }
        if let Some(due) = &mut first_request_due {
            if connection.requested.load(Ordering::Relaxed) {
                first_request_due = None;
            } else if due.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Some(Err(ConnectionError::NoRequest)));
            }
        }
        Poll::Pending
    });
    if let Some(result) = ended.await {
        return result;
    }
    // GOAWAY: requests that are under way may end, and get a little time for that.
    served.as_mut().graceful_shutdown();
    let aborted = poll_fn(|_| if connection.signal.told() == Told::Abort { Poll::Ready(()) } else { Poll::Pending });
    tokio::select! {
        result = served => Ok(result?),
        () = aborted => Err(ConnectionError::Aborted),
        () = tokio::time::sleep(shared.timeouts.end) => Err(ConnectionError::Aborted),
    }
}

#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("no request came in time")]
    NoRequest,
    #[error("cut off")]
    Aborted,
}

fn http2_builder(shared: &Shared) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        // What is buffered behind a slow receiver is stale by the time that it is sent.
        .max_send_buf_size(1)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(shared.limits.requests_per_connection_max)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .keep_alive_interval(shared.timeouts.keep_alive)
        .keep_alive_timeout(shared.timeouts.keep_alive);
    builder
}

/// Routes requests, and tells each of its connection.
struct Requests {
    routes: Routes,
    connection: Arc<Connection>,
}

impl Service<http::Request<Incoming>> for Requests {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = <Routes as tower_service::Service<http::Request<Incoming>>>::Future;

    fn call(&self, mut request: http::Request<Incoming>) -> Self::Future {
        self.connection.requested.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(Arc::clone(&self.connection));
        tower_service::Service::call(&mut self.routes.clone(), request)
    }
}
