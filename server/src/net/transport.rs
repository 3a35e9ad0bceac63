//! A connection's way to the kernel: plain, or through TLS.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

/// A socket, plain or encrypted. What it has accepted is with the kernel, but for the end of one encrypted write: until that is
/// gone, it accepts nothing more, so that nothing grows stale behind a slow receiver.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    Encrypted(Box<Encrypted>),
}

#[derive(Debug)]
pub(super) struct Encrypted {
    stream: TlsStream<TcpStream>,
    /// Whether the kernel has all that was encrypted.
    is_flushed: bool,
}

impl Transport {
    /// A connection on which both sides have agreed how to encrypt it.
    pub(super) fn encrypted(stream: TlsStream<TcpStream>) -> Self {
        // What the handshake has left to say goes with the first turn.
        Self::Encrypted(Box::new(Encrypted { stream, is_flushed: false }))
    }

    /// Whether the kernel has all that was accepted.
    pub(super) fn is_flushed(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Encrypted(encrypted) => encrypted.is_flushed,
        }
    }

    /// Sends what was accepted and is still here.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Encrypted(encrypted) => encrypted.poll_flush(cx),
        }
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Encrypted(encrypted) => encrypted.poll_read(cx, buf),
        }
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Encrypted(encrypted) => encrypted.poll_write(cx, &[io::IoSlice::new(bytes)]),
        }
    }

    pub(super) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Encrypted(encrypted) => encrypted.poll_write(cx, parts),
        }
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Encrypted(encrypted) => Pin::new(&mut encrypted.stream).poll_shutdown(cx),
        }
    }
}

impl Encrypted {
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_flushed {
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.is_flushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if self.stream.get_ref().1.wants_write() {
            // Reading may call for an answer, such as new keys.
            self.is_flushed = false;
            // An error of it is one of the next write, too.
            let _ = self.poll_flush(cx);
        }
        match result {
            // A peer that only closes its socket has ended the connection all the same: HTTP/2 says where messages end.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            result => result,
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx))?;
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, parts))?;
        self.is_flushed = false;
        match self.poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(written)),
        }
    }
}
