//! TLS: certificates from files, and again from the same files when those are replaced.

use std::{
    convert::Infallible,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use tokio::{net::TcpStream, time};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{error, info};

use crate::config::TlsFiles;

/// How often it is seen whether the files have been replaced.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// The only protocol that is spoken.
const HTTP2: &[u8] = b"h2";

/// What connections are encrypted with. It may be replaced while they run.
pub(crate) struct Tls {
    files: TlsFiles,
    config: ArcSwap<rustls::ServerConfig>,
}

/// A file of TLS that the server cannot run with.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", .path.display())]
pub struct TlsError {
    path: PathBuf,
    problem: TlsProblem,
}

#[derive(Debug, thiserror::Error)]
enum TlsProblem {
    #[error("cannot be read: {0}")]
    Io(io::Error),
    #[error("is no PEM file of {wanted}: {source}")]
    Pem { wanted: &'static str, source: pem::Error },
    #[error("holds no {0}: name the PEM file that does")]
    Empty(&'static str),
    #[error("is no private key that TLS can be done with: {0}")]
    Key(rustls::Error),
    #[error("is not the private key of the first certificate of {}: name the two that belong together", .0.display())]
    OtherKey(PathBuf),
    #[error("is no certificate of somebody who signs those of clients: {0}")]
    Authority(String),
}

impl Tls {
    /// Reads the files.
    pub(crate) fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let config = ArcSwap::from_pointee(read(&files)?);
        Ok(Self { files, config })
    }

    /// Reads the files again. New connections get what they hold now; where that is of no use, all stays as it was.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        self.config.store(Arc::new(read(&self.files)?));
        Ok(())
    }

    /// The encrypted connection over a socket, once both sides have agreed on it.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.config.load_full()).accept(stream).await
    }

    /// Reads the files again whenever they have been replaced.
    pub(crate) async fn keep_fresh(&self) -> Infallible {
        let mut seen = self.stamps();
        loop {
            time::sleep(LOOK_INTERVAL).await;
            let stamps = self.stamps();
            if stamps == seen {
                continue;
            }
            seen = stamps;
            match self.reload() {
                Ok(()) => info!(certificates = %self.files.certificates.display(), "TLS certificates are read again"),
                // One of two may have been replaced before the other.
                Err(error) => error!(%error, "TLS goes on with the certificates of before"),
            }
        }
    }

    /// What tells a file from another one of its name.
    fn stamps(&self) -> Vec<Option<(SystemTime, u64)>> {
        let TlsFiles { certificates, key, client_authorities } = &self.files;
        let stamp = |path: &PathBuf| {
            let metadata = path.metadata().ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        [certificates, key].into_iter().chain(client_authorities).map(stamp).collect()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

fn read(files: &TlsFiles) -> Result<rustls::ServerConfig, TlsError> {
    let TlsFiles { certificates, key, client_authorities } = files;
    let provider = Arc::new(ring::default_provider());
    let key = read_key(certificates, key, &provider)?;
    let clients = match client_authorities {
        None => Arc::new(NoClientAuth),
        Some(path) => read_authorities(path, &provider)?,
    };
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has ciphers for them")
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(config)
}

fn read_key(certificates: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = read_certificates(certificates)?;
    let at_key = |problem| TlsError { path: key.to_owned(), problem };
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| match error {
        pem::Error::Io(error) => at_key(TlsProblem::Io(error)),
        pem::Error::NoItemsFound => at_key(TlsProblem::Empty("private key")),
        source => at_key(TlsProblem::Pem { wanted: "a private key", source }),
    })?;
    CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => at_key(TlsProblem::OtherKey(certificates.to_owned())),
        error => at_key(TlsProblem::Key(error)),
    })
}

/// Who signs the certificates of clients, which must have one then.
fn read_authorities(path: &Path, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let wrong = |problem: String| TlsError { path: path.to_owned(), problem: TlsProblem::Authority(problem) };
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    builder.build().map_err(|error| wrong(error.to_string()))
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let at_path = |problem| TlsError { path: path.to_owned(), problem };
    let wrong = |error| match error {
        pem::Error::Io(error) => at_path(TlsProblem::Io(error)),
        source => at_path(TlsProblem::Pem { wanted: "certificates", source }),
    };
    let found = CertificateDer::pem_file_iter(path).map_err(wrong)?;
    let certificates = found.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    if certificates.is_empty() {
        return Err(at_path(TlsProblem::Empty("certificate")));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A certificate that has signed itself, and its key, in PEM.
    fn pair() -> (String, String) {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("the name is good");
        (own.cert.pem(), own.signing_key.serialize_pem())
    }

    fn files(directory: &Path, (certificate, key): &(String, String)) -> TlsFiles {
        let files = TlsFiles {
            certificates: directory.join("server.pem"),
            key: directory.join("server.key"),
            client_authorities: None,
        };
        fs::write(&files.certificates, certificate).expect("there is room");
        fs::write(&files.key, key).expect("there is room");
        files
    }

    #[test]
    fn files_that_were_replaced_are_read_again_and_bad_ones_change_nothing() {
        let directory = tempfile::tempdir().expect("there is room");
        let (before, after) = (pair(), pair());
        let tls = Tls::load(files(directory.path(), &before)).expect("they belong together");
        let (first, stamps) = (tls.config.load_full(), tls.stamps());

        files(directory.path(), &(after.0.clone(), before.1));
        let error = tls.reload().expect_err("they do not belong together").to_string();
        assert!(error.contains("server.key") && error.contains("server.pem"), "{error}");
        assert!(Arc::ptr_eq(&first, &tls.config.load_full()), "it goes on with what it had");

        files(directory.path(), &after);
        assert_ne!(stamps, tls.stamps());
        tls.reload().expect("they belong together");
        assert!(!Arc::ptr_eq(&first, &tls.config.load_full()));
    }

    #[test]
    fn what_no_connection_can_be_encrypted_with_is_named() {
        let directory = tempfile::tempdir().expect("there is room");
        let (certificate, key) = pair();
        let said = |pair: &(String, String), change: fn(&mut TlsFiles)| {
            let mut files = files(directory.path(), pair);
            change(&mut files);
            Tls::load(files).expect_err("it is of no use").to_string()
        };
        let good = (certificate.clone(), key.clone());
        let swapped = (key.clone(), certificate);
        for (error, named, problem) in [
            (said(&good, |files| files.certificates.push("missing")), "missing", "cannot be read"),
            (said(&good, |files| files.client_authorities = Some(files.key.clone())), "server.key", "no certificate"),
            (said(&swapped, |_| ()), "server.pem", "holds no certificate"),
            (said(&(String::new(), key.clone()), |_| ()), "server.pem", "holds no certificate"),
            (said(&(good.0.clone(), "no key".to_owned()), |_| ()), "server.key", "holds no private key"),
            (said(&(good.0.replace('M', "*"), key), |_| ()), "server.pem", "is no PEM file"),
        ] {
            assert!(error.contains(named) && error.contains(problem), "{error}");
        }
    }

    #[test]
    fn clients_may_have_to_show_certificates() {
        let directory = tempfile::tempdir().expect("there is room");
        let files = files(directory.path(), &pair());
        let client_authorities = Some(files.certificates.clone());
        assert!(Tls::load(TlsFiles { client_authorities, ..files }).is_ok());
    }
}
