//! From a data directory, or an address, to a connection.

use std::{
    fs,
    io::ErrorKind,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tickwire_proto::v1::admin_service_client::AdminServiceClient;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use super::{AdminCliError, Target};
use crate::{
    admin::{ADDRESS_FILE, TOKEN_FILE},
    cli::options::default_data_dir,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const NO_TOKEN: &str = "this is no token: it is one line of letters and digits";

/// A connection to a server's `AdminService`.
pub(super) struct AdminClient {
    pub(super) service: AdminServiceClient<InterceptedService<Channel, Bearer>>,
}

/// Shows the token with each call.
pub(super) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

impl AdminClient {
    /// Finds the server, and connects.
    pub(super) async fn connect(target: &Target) -> Result<Self, AdminCliError> {
        let data_dir = target.data_dir.clone().unwrap_or_else(default_data_dir);
        let address = match &target.address {
            Some(address) => address.clone(),
            None => read_address(&data_dir)?,
        };
        let token = read_token(target.token_file.as_deref(), &data_dir)?;
        let parsed: SocketAddr = address.parse().map_err(|_| AdminCliError::Address { address: address.clone() })?;
        let endpoint = Endpoint::from_shared(format!("http://{parsed}")).expect("an address makes a URL");
        let channel = endpoint.connect_timeout(CONNECT_TIMEOUT).connect().await.map_err(|error| {
            let hint = match target.address {
                Some(_) => "",
                None => "; the server that wrote the address may have been killed: start it again",
            };
            AdminCliError::Connect { address, reason: root_of(&error), hint }
        })?;
        let mut bearer: MetadataValue<Ascii> =
            format!("Bearer {token}").parse().expect("a token has been checked to be ASCII");
        bearer.set_sensitive(true);
        Ok(Self { service: AdminServiceClient::with_interceptor(channel, Bearer(bearer)) })
    }
}

fn read_address(data_dir: &Path) -> Result<String, AdminCliError> {
    let path = data_dir.join(ADDRESS_FILE);
    match fs::read_to_string(&path) {
        Ok(address) => Ok(address.trim().to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(AdminCliError::NoServer(path)),
        Err(source) => Err(AdminCliError::File { path, source }),
    }
}

fn read_token(file: Option<&Path>, data_dir: &Path) -> Result<String, AdminCliError> {
    let path: PathBuf = file.map_or_else(|| data_dir.join(TOKEN_FILE), Path::to_owned);
    let token = match fs::read_to_string(&path) {
        Ok(token) => token.trim().to_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound && file.is_none() => {
            let problem = "the server made no token: name the file of one that it was given with --token-file";
            return Err(AdminCliError::Token { path, problem });
        }
        Err(source) => return Err(AdminCliError::File { path, source }),
    };
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(AdminCliError::Token { path, problem: NO_TOKEN });
    }
    Ok(token)
}

/// What is at the bottom of an error: what the operating system says.
fn root_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}
