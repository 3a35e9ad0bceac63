//! The admin's listener, and its thread.

use std::{net::SocketAddr, path::Path, sync::Arc, thread};

use tokio::{net::TcpListener, runtime::Builder, sync::oneshot};
use tonic::service::Routes;
use tracing::info;

use super::{
    AdminError,
    audit::Audit,
    auth::Tokens,
    files::AdminFiles,
    http,
    serve::{END_TIMEOUT, Site, serve},
    service::Admin,
};
use crate::{
    config::AdminConfig,
    net::Tls,
    server::{Shared, keep_fresh},
};

const MESSAGE_BYTES_MAX: usize = 64 * 1024;

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
    tls: Option<Tls>,
    tokens: Tokens,
    /// The token that was made.
    made: Option<String>,
    address: SocketAddr,
}

/// Whether a listener could be started so, as far as that can be said without one.
pub(crate) fn check(config: &AdminConfig) -> Result<(), AdminError> {
    if config.listen.is_some() {
        config.tls.clone().map(Tls::load_for_any_http).transpose()?;
        config.tokens.as_deref().map(Tokens::read).transpose()?;
    }
    Ok(())
}

impl BoundAdmin {
    /// Binds the listener that is asked for.
    ///
    /// # Errors
    /// Where the address cannot be had, or the file of tokens or one of TLS is no such file.
    pub(crate) fn bind(config: &AdminConfig, listen: SocketAddr) -> Result<Self, AdminError> {
        let (tokens, made) = match &config.tokens {
            Some(path) => (Tokens::read(path)?, None),
            None => {
                let (tokens, made) = Tokens::generate()?;
                (tokens, Some(made))
            }
        };
        let tls = config.tls.clone().map(Tls::load_for_any_http).transpose()?;
        let failed = |source| AdminError::Listen { address: listen, source };
        let listener = std::net::TcpListener::bind(listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, tls, tokens, made, address })
    }

    /// Answers from now on, and says in `directory` where and to whom.
    ///
    /// # Errors
    /// Where there is no thread, or the files cannot be written.
    pub(crate) fn serve(self, shared: &Arc<Shared>, directory: &Path) -> Result<AdminListener, AdminError> {
        let Self { listener, tls, tokens, made, address } = self;
        let (tls, tokens) = (tls.map(Arc::new), Arc::new(tokens));
        let files = AdminFiles::write(directory, address, tls.is_some(), made.as_deref())?;
        let runtime = Builder::new_current_thread().enable_all().build().map_err(AdminError::Thread)?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener).map_err(AdminError::Thread)?
        };
        register_files(shared, tls.as_ref(), &tokens);
        let admin = Admin::service(Arc::clone(shared), tokens, Audit::new(directory), MESSAGE_BYTES_MAX);
        let routes = Routes::from(http::http_routes(shared)).add_service(admin).prepare();
        let site = Site { shared: Arc::clone(shared), routes, tls: tls.clone() };
        let is_encrypted = tls.is_some();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new()
            .name("tickwire-admin".into())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = serve(listener, site, stopped) => {}
                        never = keep_fresh(tls.as_deref()) => match never {},
                    }
                });
                runtime.shutdown_timeout(END_TIMEOUT);
            })
            .map_err(AdminError::Thread)?;
        info!(%address, is_encrypted, "listening for admins");
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

/// Has the listener's certificates, and the tokens that are good, read anew with all else.
fn register_files(shared: &Shared, tls: Option<&Arc<Tls>>, tokens: &Arc<Tokens>) {
    if let Some(tls) = tls.map(Arc::clone) {
        shared.reloads.register("admin TLS", move || tls.prepare().map_err(|error| error.to_string()));
    }
    let tokens = Arc::clone(tokens);
    shared.reloads.register("admin tokens", move || tokens.prepare().map_err(|error| error.to_string()));
}
