//! From a data directory, or an address, to a connection.

use std::{
    error::Error as _,
    fs,
    io::ErrorKind,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::uri::Authority;
use rustls::pki_types::ServerName;

use tickwire_proto::v1::admin_service_client::AdminServiceClient;
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint, Uri},
};

use super::{
    AdminCliError, Target,
    encrypted::{Connector, Objection},
};
use crate::{
    admin::{ADDRESS_FILE, TOKEN_FILE},
    cli::options::default_data_dir,
    net::client_config,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const HTTP: &str = "http://";
const HTTPS: &str = "https://";
const NO_TOKEN: &str = "this is no token: it is one line of letters and digits";

/// A connection to a server's `AdminService`.
pub(super) struct AdminClient {
    pub(super) service: AdminServiceClient<InterceptedService<Channel, Bearer>>,
    address: String,
    objection: Objection,
    /// What else to try where nobody answers.
    hint: &'static str,
}

/// Where a server is.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// A name, or an address: of version 6 in brackets.
    host: String,
    port: u16,
    is_encrypted: bool,
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
        let place = Place::read(&address, target.tls.is_given())?;
        let names_token = target.token_file.is_some() || target.data_dir.is_some();
        if target.address.is_some() && !names_token && !place.is_of(&data_dir, target)? {
            return Err(AdminCliError::WhichToken { address });
        }
        let token = read_token(target.token_file.as_deref(), &data_dir)?;
        let hint = match (&target.address, place.is_encrypted) {
            (Some(_), true) => "",
            (Some(_), false) => "; a server that encrypts is at https://",
            (None, _) => "; the server that wrote the address may have been killed: start it again",
        };
        let objection = Objection::default();
        let connected = match place.is_encrypted {
            false => place.endpoint(HTTP).connect().await,
            true => {
                let connector = place.connector(target, &address, &objection)?;
                place.endpoint(HTTP).origin(place.uri(HTTPS)).connect_with_connector(connector).await
            }
        };
        let channel = connected.map_err(|error| {
            if let Some(objection) = objection.get() {
                return AdminCliError::objection(&address, objection);
            }
            AdminCliError::Connect { address: address.clone(), reason: root_of(&error), hint }
        })?;
        let mut bearer: MetadataValue<Ascii> =
            format!("Bearer {token}").parse().expect("a token has been checked to be ASCII");
        bearer.set_sensitive(true);
        let service = AdminServiceClient::with_interceptor(channel, Bearer(bearer));
        Ok(Self { service, address, objection, hint })
    }

    /// What has become of a call: the server has refused it, or the connection is lost.
    pub(super) fn explain(&self, status: Box<Status>) -> AdminCliError {
        if let Some(objection) = self.objection.get() {
            return AdminCliError::objection(&self.address, objection);
        }
        if status.code() == Code::Unimplemented {
            return AdminCliError::NotForAdmins { address: self.address.clone() };
        }
        // What a server has sent has none.
        let Some(lost) = status.source() else { return AdminCliError::Refused(status) };
        AdminCliError::Connect { address: self.address.clone(), reason: root_of(lost), hint: self.hint }
    }
}

impl Place {
    /// As `IP:PORT`, or behind `http://` or `https://` as `HOST:PORT`. What says nothing of encryption is encrypted where
    /// `has_tls`: somebody has said by what.
    fn read(address: &str, has_tls: bool) -> Result<Self, AdminCliError> {
        let wrong = || AdminCliError::Address { address: address.to_owned() };
        let (rest, is_encrypted) = match (address.strip_prefix(HTTPS), address.strip_prefix(HTTP)) {
            (Some(rest), _) => (rest, true),
            (None, Some(_)) if has_tls => return Err(AdminCliError::NotEncrypted { address: address.to_owned() }),
            (None, Some(rest)) => (rest, false),
            (None, None) => {
                address.parse::<SocketAddr>().map_err(|_| wrong())?;
                (address, has_tls)
            }
        };
        let authority: Authority = rest.parse().map_err(|_| wrong())?;
        let port = authority.port_u16().ok_or_else(wrong)?;
        if authority.host().is_empty() || rest.contains('@') {
            return Err(wrong());
        }
        Ok(Self { host: authority.host().to_owned(), port, is_encrypted })
    }

    /// Whether it is that of the server with this data directory.
    fn is_of(&self, data_dir: &Path, target: &Target) -> Result<bool, AdminCliError> {
        match read_address(data_dir) {
            Ok(own) => Ok(Self::read(&own, target.tls.is_given())? == *self),
            Err(AdminCliError::NoServer(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn uri(&self, scheme: &str) -> Uri {
        format!("{scheme}{}:{}", self.host, self.port).parse().expect("they were parsed")
    }

    fn endpoint(&self, scheme: &str) -> Endpoint {
        Endpoint::from(self.uri(scheme)).connect_timeout(CONNECT_TIMEOUT)
    }

    fn connector(&self, target: &Target, address: &str, objection: &Objection) -> Result<Connector, AdminCliError> {
        let host = self.host.trim_matches(['[', ']']).to_owned();
        let name =
            ServerName::try_from(host.clone()).map_err(|_| AdminCliError::Address { address: address.to_owned() })?;
        let own = match (target.tls.tls_cert.as_deref(), target.tls.tls_key.as_deref()) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(AdminCliError::HalfShown),
        };
        let config = Arc::new(client_config(target.tls.tls_ca.as_deref(), own)?);
        Ok(Connector { host, port: self.port, name, config, objection: objection.clone() })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_where_and_whether_to_encrypt() {
        let read = |address: &str, has_tls| Place::read(address, has_tls);
        let place = |host: &str, port, is_encrypted| Place { host: host.to_owned(), port, is_encrypted };
        for (address, has_tls, expected) in [
            ("127.0.0.1:7778", false, place("127.0.0.1", 7778, false)),
            ("127.0.0.1:7778", true, place("127.0.0.1", 7778, true)),
            ("[::1]:7778", false, place("[::1]", 7778, false)),
            ("http://localhost:7778", false, place("localhost", 7778, false)),
            ("https://admin.example:7778", false, place("admin.example", 7778, true)),
            ("https://[::1]:7778", true, place("[::1]", 7778, true)),
        ] {
            assert_eq!(read(address, has_tls).expect("it is one"), expected);
        }
        for wrong in [
            "",
            "localhost",
            "localhost:7778",
            "127.0.0.1",
            "https://",
            "https://a",
            "https://a:b",
            "https://u@a:1",
            "ftp://a:1",
        ] {
            assert!(matches!(read(wrong, false), Err(AdminCliError::Address { .. })), "{wrong}");
        }
        assert!(matches!(read("http://127.0.0.1:1", true), Err(AdminCliError::NotEncrypted { .. })));
    }
}
