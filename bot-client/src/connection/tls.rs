//! Encrypted connections: who the server must prove to be.

use std::sync::{Arc, OnceLock};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::transport::{ConnectError, Counted, Trust};

/// The only protocol that is spoken.
const HTTP2: &[u8] = b"h2";

/// Agrees with the server of this host on how to encrypt a connection.
pub(super) async fn encrypt(stream: Counted, host: &str, trust: &Trust) -> Result<TlsStream<Counted>, ConnectError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|error| ConnectError::Tls(error.to_string()))?;
    let config = match trust {
        Trust::System => of_system()?,
        Trust::Certificates(pem) => Arc::new(config(given(pem)?)),
    };
    TlsConnector::from(config).connect(name, stream).await.map_err(|error| {
        // What TLS has to say stands in an error of the socket's kind.
        if error.get_ref().is_some() { ConnectError::Tls(error.to_string()) } else { ConnectError::Io(error) }
    })
}

fn config(roots: RootCertStore) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("the provider has ciphers for them");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config
}

/// The certificates that the system trusts, read once.
fn of_system() -> Result<Arc<ClientConfig>, ConnectError> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let why: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        let why = if why.is_empty() { "it has none".to_owned() } else { why.join("; ") };
        let problem = format!("this machine has no certificates to judge the server's by ({why}); name some");
        return Err(ConnectError::Tls(problem));
    }
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config(roots)))))
}

fn given(pem: &[u8]) -> Result<RootCertStore, ConnectError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate =
            certificate.map_err(|error| ConnectError::Tls(format!("the trusted certificates: {error}")))?;
        let added = roots.add(certificate);
        added.map_err(|error| ConnectError::Tls(format!("the trusted certificates: {error}")))?;
    }
    if roots.is_empty() {
        return Err(ConnectError::Tls("the trusted certificates are none: give them in PEM".to_owned()));
    }
    Ok(roots)
}
