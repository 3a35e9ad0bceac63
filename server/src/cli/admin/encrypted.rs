//! Encrypted connections to a server's listener for admins.

use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::Uri;
use tower_service::Service;

/// What TLS has said against a connection. What a server has against a client's certificate comes only after both could have
/// agreed, as an answer to the first call: the channel does not pass that on.
#[derive(Clone, Debug, Default)]
pub(super) struct Objection(Arc<OnceLock<rustls::Error>>);

impl Objection {
    pub(super) fn get(&self) -> Option<&rustls::Error> {
        self.0.get()
    }

    fn note(&self, error: &io::Error) {
        if let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
            // The others follow from the first.
            let _ = self.0.set(error.clone());
        }
    }
}

/// Connects to one server.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) name: ServerName<'static>,
    pub(super) config: Arc<ClientConfig>,
    pub(super) objection: Objection,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Encrypted>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let Self { host, port, name, config, objection } = self.clone();
        Box::pin(async move {
            let socket = TcpStream::connect((host, port)).await?;
            let stream = TlsConnector::from(config).connect(name, socket).await;
            let stream = stream.inspect_err(|error| objection.note(error))?;
            Ok(TokioIo::new(Encrypted { stream, objection }))
        })
    }
}

/// An encrypted connection that notes what TLS says against it.
pub(super) struct Encrypted {
    stream: TlsStream<TcpStream>,
    objection: Objection,
}

impl Encrypted {
    /// A server that has closed the connection may have said why before.
    fn look_for_objection(&mut self, cx: &mut Context<'_>) {
        let mut bytes = [0; 64];
        if let Poll::Ready(Err(error)) = Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::new(&mut bytes)) {
            self.objection.note(&error);
        }
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        Poll::Ready(read.inspect_err(|error| self.objection.note(error)))
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        Poll::Ready(written.inspect_err(|_| self.look_for_objection(cx)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        Poll::Ready(flushed.inspect_err(|_| self.look_for_objection(cx)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
