//! The admin's listener, and its thread.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use futures_util::{Stream, stream};
use tickwire_proto::v1::admin_service_server::AdminServiceServer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{sleep, timeout},
};
use tonic::{
    service::Routes,
    transport::{
        Server,
        server::{Connected, TcpConnectInfo},
    },
};
use tracing::{info, warn};

use super::{AdminError, audit::Audit, auth::Tokens, files::AdminFiles, http, service::Admin};
use crate::{config::AdminConfig, server::Shared};

const CONNECTIONS_MAX: usize = 64;
const REQUESTS_PER_CONNECTION_MAX: u32 = 32;
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long to wait where the process has no descriptor or memory left for one more socket.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// How long requests that are under way have at the server's end.
const END_TIMEOUT: Duration = Duration::from_millis(500);

/// Listens for admins until it is dropped.
#[derive(Debug)]
pub(crate) struct AdminListener {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    _files: AdminFiles,
}

/// A socket that has been bound, and those who may use it.
pub(crate) struct BoundAdmin {
    listener: std::net::TcpListener,
    tokens: Tokens,
    /// The token that was made.
    made: Option<String>,
    address: SocketAddr,
}

impl BoundAdmin {
    /// Binds the listener that is asked for.
    ///
    /// # Errors
    /// Where the address cannot be had, or the file of tokens is no such file.
    pub(crate) fn bind(config: &AdminConfig, listen: SocketAddr) -> Result<Self, AdminError> {
        let (tokens, made) = match &config.tokens {
            Some(path) => (Tokens::read(path)?, None),
            None => {
                let (tokens, made) = Tokens::generate()?;
                (tokens, Some(made))
            }
        };
        let failed = |source| AdminError::Listen { address: listen, source };
        let listener = std::net::TcpListener::bind(listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, tokens, made, address })
    }

    /// Answers from now on, and says in `directory` where and to whom.
    ///
    /// # Errors
    /// Where there is no thread, or the files cannot be written.
    pub(crate) fn serve(self, shared: &Arc<Shared>, directory: &Path) -> Result<AdminListener, AdminError> {
        let Self { listener, tokens, made, address } = self;
        let files = AdminFiles::write(directory, address, made.as_deref())?;
        let runtime = Builder::new_current_thread().enable_all().build().map_err(AdminError::Thread)?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener).map_err(AdminError::Thread)?
        };
        let admin = Admin::new(Arc::clone(shared), tokens, Audit::new(directory));
        let service = AdminServiceServer::new(admin);
        let routes = Routes::from(http::http_routes(shared))
            .add_service(service.max_decoding_message_size(MESSAGE_BYTES_MAX))
            .prepare();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new()
            .name("tickwire-admin".into())
            .spawn(move || {
                runtime.block_on(serve(listener, routes, stopped));
                runtime.shutdown_timeout(END_TIMEOUT);
            })
            .map_err(AdminError::Thread)?;
        info!(%address, "listening for admins");
        Ok(AdminListener { address, stop: Some(stop), thread: Some(thread), _files: files })
    }
}

impl AdminListener {
    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminListener {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// Answers until it is told to stop.
pub(crate) async fn serve(listener: TcpListener, routes: Routes, stopped: oneshot::Receiver<()>) {
    // Whether it is told or the sender is gone: it is to stop.
    let (begin_end, ends) = oneshot::channel::<()>();
    let serving = Server::builder()
        // For those who ask with plain HTTP.
        .accept_http1(true)
        .max_concurrent_streams(REQUESTS_PER_CONNECTION_MAX)
        .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .serve_with_incoming_shutdown(routes, incoming(listener), async {
            let _ = ends.await;
        });
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        _ = stopped => {
            drop(begin_end);
            // Those who do not come to an end are cut off.
            timeout(END_TIMEOUT, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        warn!(%error, "nobody listens for admins, or for who asks for metrics, any more");
    }
}

/// Connections as they come, up to [`CONNECTIONS_MAX`] at a time; more wait.
fn incoming(listener: TcpListener) -> impl Stream<Item = io::Result<AdminConnection>> {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    stream::unfold((listener, room), |(listener, room)| async {
        let permit = Arc::clone(&room).acquire_owned().await.expect("it is never closed");
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // Without it answers come a little later.
                    let _ = stream.set_nodelay(true);
                    return Some((Ok(AdminConnection { stream, _permit: permit }), (listener, room)));
                }
                Err(error) => {
                    warn!(%error, "cannot accept an admin's connection");
                    sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    })
}

/// A connection that counts.
struct AdminConnection {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
}

impl Connected for AdminConnection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for AdminConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for AdminConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
