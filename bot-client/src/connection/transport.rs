//! The connection under a client, plain or encrypted: it counts its bytes, which only the transport sees.

use std::{
    io, mem,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Uri, uri::Scheme};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpSocket, TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use super::{
    WELCOME_TIMEOUT,
    conditioner::{Conditioned, Conditions},
    tls,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The ports of addresses that name none, of `http` and of `https`.
const DEFAULT_PORTS: [u16; 2] = [80, 443];

/// What TLS begins its answer with to who does not speak it. No HTTP/2 connection begins so: its first frame is not as long.
const TLS_ALERT: u8 = 21;

/// How a client connects. All of it may stay as it is by default.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectOptions {
    /// The address of this machine to connect from; `None`: the system's choice.
    pub local_address: Option<IpAddr>,
    /// What the connection is made to suffer; by default nothing, which costs nothing either.
    pub conditions: Conditions,
    /// How long the server may take to let the player in, from connecting on; by default 10 s.
    pub welcome_timeout: Duration,
    /// Whom to trust to be the server of an `https` address.
    pub trust: Trust,
}

/// Whom a client trusts to be the server of an address that begins with `https`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Whoever shows a certificate that this machine's system trusts.
    #[default]
    System,
    /// Whoever shows a certificate that one of these has signed, or is: certificates in PEM.
    Certificates(Vec<u8>),
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            local_address: None,
            conditions: Conditions::default(),
            welcome_timeout: WELCOME_TIMEOUT,
            trust: Trust::System,
        }
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

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum ConnectError {
    Io(io::Error),
    /// The server is not who it should be, or does not encrypt.
    Tls(String),
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Opens one of a client's connections.
pub(super) async fn connect(uri: &Uri, options: &ConnectOptions, wire: &Arc<Wire>) -> Result<Connection, ConnectError> {
    // A literal IPv6 address stands in brackets.
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_encrypted = uri.scheme() == Some(&Scheme::HTTPS);
    let server = (host, uri.port_u16().unwrap_or(DEFAULT_PORTS[usize::from(is_encrypted)]));
    let connect = async {
        match options.local_address {
            None => TcpStream::connect(server).await,
            Some(local) => connect_from(local, server).await,
        }
    };
    let socket = timeout(CONNECT_TIMEOUT, connect).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    // Inputs are small, and due now.
    socket.set_nodelay(true)?;
    let stream = match options.conditions.is_none() {
        true => Transport::Plain(socket),
        false => Transport::Conditioned(Conditioned::new(socket, &options.conditions)),
    };
    let counted = Counted { stream, wire: Arc::clone(wire), awaits_plain: !is_encrypted };
    if !is_encrypted {
        return Ok(Connection::Plain(counted));
    }
    let encrypted = timeout(CONNECT_TIMEOUT, tls::encrypt(counted, host, &options.trust));
    let encrypted = encrypted.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(Connection::Encrypted(Box::new(encrypted)))
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

/// What HTTP/2 reads from and writes to.
#[derive(Debug)]
pub(super) enum Connection {
    Plain(Counted),
    Encrypted(Box<TlsStream<Counted>>),
}

/// A socket, with its bytes counted.
#[derive(Debug)]
pub(super) struct Counted {
    stream: Transport,
    wire: Arc<Wire>,
    /// Nothing has come yet, and what comes is to be HTTP/2 as it is.
    awaits_plain: bool,
}

#[derive(Debug)]
enum Transport {
    Plain(TcpStream),
    Conditioned(Conditioned),
}

/// Calls a method of whichever stream there is.
macro_rules! on_stream {
    ($counted:expr, $method:ident($($argument:expr),*)) => {
        match &mut $counted.stream {
            Transport::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Transport::Conditioned(conditioned) => Pin::new(conditioned.stream()).$method($($argument),*),
        }
    };
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(on_stream!(self, poll_read(cx, buf)))?;
        self.wire.received.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        let is_first = mem::take(&mut self.awaits_plain);
        if is_first && buf.filled().get(before) == Some(&TLS_ALERT) {
            let reason = "the server encrypts, and the address does not say so: begin it with https://";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, reason)));
        }
        Poll::Ready(Ok(()))
    }
}

impl Counted {
    fn count_sent(&self, written: usize) -> Poll<io::Result<usize>> {
        self.wire.sent.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }
}

impl AsyncWrite for Counted {
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

/// Calls a method of the connection, plain or encrypted.
macro_rules! on_connection {
    ($connection:expr, $method:ident($($argument:expr),*)) => {
        match $connection.get_mut() {
            Connection::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Connection::Encrypted(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_connection!(self, poll_read(cx, buf))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on_connection!(self, poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_connection!(self, poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Encrypted(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_connection!(self, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_connection!(self, poll_shutdown(cx))
    }
}
