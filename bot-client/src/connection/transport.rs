//! The TCP connection under a client: it counts its bytes, which only the transport sees.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Uri;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpSocket, TcpStream, lookup_host},
    time::timeout,
};

use super::{
    WELCOME_TIMEOUT,
    conditioner::{Conditioned, Conditions},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The port of an address that names none.
const DEFAULT_PORT: u16 = 80;

/// How a client connects. All of it may stay as it is by default.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectOptions {
    /// The address of this machine to connect from; `None`: the system's choice.
    pub local_address: Option<IpAddr>,
    /// What the connection is made to suffer; by default nothing, which costs nothing either.
    pub conditions: Conditions,
    /// How long the server may take to let the player in, from connecting on; by default 10 s.
    pub welcome_timeout: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self { local_address: None, conditions: Conditions::default(), welcome_timeout: WELCOME_TIMEOUT }
    }
}

/// What client and transport share.
#[derive(Debug, Default)]
pub(super) struct Wire {
    received: AtomicU64,
    sent: AtomicU64,
}

impl Wire {
    pub(super) fn bytes_received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn bytes_sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// Opens a client's one connection.
pub(super) async fn connect(uri: &Uri, options: &ConnectOptions, wire: &Arc<Wire>) -> io::Result<Connection> {
    // A literal IPv6 address stands in brackets.
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let server = (host, uri.port_u16().unwrap_or(DEFAULT_PORT));
    let connect = async {
        match options.local_address {
            None => TcpStream::connect(server).await,
            Some(local) => connect_from(local, server).await,
        }
    };
    let socket = timeout(CONNECT_TIMEOUT, connect).await.map_err(|_| io::ErrorKind::TimedOut)??;
    // Inputs are small, and due now.
    socket.set_nodelay(true)?;
    let stream = match options.conditions.is_none() {
        true => Transport::Plain(socket),
        false => Transport::Conditioned(Conditioned::new(socket, &options.conditions)),
    };
    Ok(Connection { stream, wire: Arc::clone(wire) })
}

async fn connect_from(local: IpAddr, server: (&str, u16)) -> io::Result<TcpStream> {
    let nowhere = format!("{} has no address that {local} could connect to", server.0);
    let mut failure = io::Error::new(io::ErrorKind::AddrNotAvailable, nowhere);
    for address in lookup_host(server).await?.filter(|address| address.is_ipv4() == local.is_ipv4()) {
        let socket = if local.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        let named = |error: io::Error| io::Error::new(error.kind(), format!("not from {local}: {error}"));
        socket.bind((local, 0).into()).map_err(named)?;
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

#[derive(Debug)]
pub(super) struct Connection {
    stream: Transport,
    wire: Arc<Wire>,
}

#[derive(Debug)]
enum Transport {
    Plain(TcpStream),
    Conditioned(Conditioned),
}

/// Calls a method of whichever stream there is.
macro_rules! on_stream {
    ($connection:expr, $method:ident($($argument:expr),*)) => {
        match &mut $connection.stream {
            Transport::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Transport::Conditioned(conditioned) => Pin::new(conditioned.stream()).$method($($argument),*),
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(on_stream!(self, poll_read(cx, buf)))?;
        self.wire.received.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl Connection {
    fn count_sent(&self, written: usize) -> Poll<io::Result<usize>> {
        self.wire.sent.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(on_stream!(self, poll_write(cx, buf)))?;
        self.count_sent(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(on_stream!(self, poll_write_vectored(cx, bufs)))?;
        self.count_sent(written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Conditioned(conditioned) => conditioned.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, poll_shutdown(cx))
    }
}
