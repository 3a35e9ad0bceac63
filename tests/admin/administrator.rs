//! Somebody with a token.

use std::{fs, net::SocketAddr, time::Duration};

use tempfile::TempDir;
use tickwire_proto::v1::admin_service_client::AdminServiceClient;
use tickwire_server::{AdminConfig, Server, ServerConfig};
use tickwire_shared::Game;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use crate::harness::{TestServer, within_patience};

/// A server that can be administered, and its data directory.
pub(crate) struct Administered {
    pub(crate) server: TestServer,
    pub(super) address: SocketAddr,
    pub(super) data: TempDir,
}

pub(crate) type AdminClient = AdminServiceClient<InterceptedService<Channel, Bearer>>;

/// What a program is answered that asks by HTTP/1.1, with headers that each end in a line's end.
pub(super) async fn get(address: SocketAddr, path: &str, headers: &str) -> String {
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    within_patience(socket.read_to_string(&mut answer)).await.expect("it answers, and closes");
    answer
}

/// Shows a token, or none.
#[derive(Clone)]
pub(crate) struct Bearer(pub(super) Option<String>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            let value = format!("Bearer {token}").parse().expect("ASCII");
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

impl Administered {
    pub(crate) async fn arena(config: ServerConfig) -> Self {
        Self::start(config, std::sync::Arc::new(tickwire_arena::Arena)).await
    }

    pub(super) async fn start(config: ServerConfig, game: std::sync::Arc<dyn Game>) -> Self {
        Self::start_in(tempfile::tempdir().expect("a directory"), config, game).await
    }

    /// With a data directory that there is, and matches that are recorded there.
    pub(super) async fn start_in(data: TempDir, config: ServerConfig, game: std::sync::Arc<dyn Game>) -> Self {
        let listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let tokens = Some(data.path().join("tokens.toml")).filter(|path| path.exists());
        let drain = Duration::from_secs(3600);
        let admin = Some(AdminConfig { listen, directory: data.path().to_owned(), tls: None, tokens, drain });
        let recordings = Some(data.path().join("recordings"));
        let config = ServerConfig { admin, recordings, ..config };
        let tls = config.tls.clone();
        let server = Server::start(config, vec![game]).expect("the configuration is good");
        let address = server.admin_address().expect("it listens for admins");
        Self { server: TestServer::serve(server).await.trusted(tls.as_ref()), address, data }
    }

    pub(crate) fn token(&self) -> String {
        let token = fs::read_to_string(self.data.path().join("admin.token")).expect("the server has made one");
        token.trim().to_owned()
    }

    /// Somebody with the token that the server has made.
    pub(crate) async fn admin(&self) -> AdminClient {
        self.admin_with(Some(self.token())).await
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.address)).expect("an address makes a URL")
    }

    pub(super) async fn admin_with(&self, token: Option<String>) -> AdminClient {
        let channel = self.endpoint().connect().await.expect("the server accepts");
        AdminServiceClient::with_interceptor(channel, Bearer(token))
    }
}
