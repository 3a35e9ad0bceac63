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
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy, sink},
    net::TcpStream,
    task, time,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{error, info};

use crate::{config::TlsFiles, reload::Staged};

/// How often it is seen whether the files have been replaced.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// What a peer that is refused may still have sent: more than certificates and a request.
const LEAVE_BYTES_MAX: u64 = 64 * 1024;
/// What is spoken with players.
const HTTP2: &[&[u8]] = &[b"h2"];
/// What is spoken with admins, and with who asks for metrics.
const ANY_HTTP: &[&[u8]] = &[b"h2", b"http/1.1"];

/// What connections are encrypted with. It may be replaced while they run.
pub(crate) struct Tls {
    files: TlsFiles,
    protocols: &'static [&'static [u8]],
    /// Whom it is for, for the log.
    listener: &'static str,
    held: ArcSwap<Loaded>,
}

/// What the files have held.
pub(crate) struct Loaded {
    config: Arc<rustls::ServerConfig>,
    /// The server's own, to which the key belongs.
    certificates: Vec<CertificateDer<'static>>,
    /// Those of who signs its clients'.
    authorities: Vec<CertificateDer<'static>>,
    stamps: Stamps,
}

/// What tells files from others of their names.
type Stamps = Vec<Option<(SystemTime, u64)>>;

/// A file of TLS that the server cannot run with.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", .path.display())]
pub struct TlsError {
    path: PathBuf,
    problem: TlsProblem,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum TlsProblem {
    #[error("cannot be read: {0}")]
    Io(io::Error),
    #[error("is no PEM file of {wanted}: {source}")]
    Pem { wanted: &'static str, source: pem::Error },
    #[error("holds no {0}: name the PEM file that does")]
    Empty(&'static str),
    #[error(
        "begins with no certificate that TLS can be done with: {0}; make one of X.509 version 3, as docs/tls.md and docs/admin.md have it"
    )]
    Certificate(rustls::CertificateError),
    #[error("is no private key that TLS can be done with: {0}")]
    Key(rustls::Error),
    #[error("is not the private key of the first certificate of {}: name the two that belong together", .0.display())]
    OtherKey(PathBuf),
    #[error("is no certificate of somebody who signs those of clients: {0}")]
    Authority(String),
    #[error("is no certificate to judge a server's by: {0}")]
    Trusted(String),
    #[error("judge no server's: {0}; name some")]
    NoneTrusted(String),
}

impl TlsError {
    pub(super) fn new(path: &Path, problem: TlsProblem) -> Self {
        Self { path: path.to_owned(), problem }
    }
}

impl Tls {
    /// Reads the files, for HTTP/2 alone, as players have it.
    pub(crate) fn load(files: TlsFiles) -> Result<Self, TlsError> {
        Self::of(files, HTTP2, "players")
    }

    /// Reads the files, for HTTP/1.1, too, as admins have it.
    pub(crate) fn load_for_any_http(files: TlsFiles) -> Result<Self, TlsError> {
        Self::of(files, ANY_HTTP, "admins")
    }

    fn of(files: TlsFiles, protocols: &'static [&'static [u8]], listener: &'static str) -> Result<Self, TlsError> {
        let held = ArcSwap::from_pointee(read(&files, protocols)?);
        Ok(Self { files, protocols, listener, held })
    }

    /// Reads the files again. Nothing changes by it.
    pub(crate) fn read_again(&self) -> Result<Loaded, TlsError> {
        read(&self.files, self.protocols)
    }

    /// New connections get what the files have held.
    pub(crate) fn adopt(&self, loaded: Loaded) {
        self.held.store(Arc::new(loaded));
    }

    /// Reads the files again, for what is registered to be read anew with everything else.
    pub(crate) fn prepare(self: &Arc<Self>) -> Result<Staged, TlsError> {
        let (loaded, tls) = (self.read_again()?, Arc::clone(self));
        let changed = self.replaced(&loaded).map(|path| format!("{} holds other certificates now", path.display()));
        let changed = changed.collect();
        Ok(Staged::new(changed, move || tls.adopt(loaded)))
    }

    /// The files that hold other certificates than before.
    fn replaced<'a>(&'a self, loaded: &Loaded) -> impl Iterator<Item = &'a Path> {
        let (TlsFiles { certificates, client_authorities, .. }, held) = (&self.files, self.held.load());
        let own = (loaded.certificates != held.certificates).then_some(certificates);
        let authorities = client_authorities.as_ref().filter(|_| loaded.authorities != held.authorities);
        own.into_iter().chain(authorities).map(PathBuf::as_path)
    }

    /// The encrypted connection over a socket, once both sides have agreed on it. Who is refused is told why, and has until the
    /// caller's deadline to take it.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let agreed = TlsAcceptor::from(Arc::clone(&self.held.load().config)).accept(stream).into_fallible().await;
        match agreed {
            Ok(stream) => Ok(stream),
            Err((error, stream)) => {
                take_leave(stream).await;
                Err(error)
            }
        }
    }

    /// Reads the files again whenever they have been replaced.
    pub(crate) async fn keep_fresh(&self) -> Infallible {
        let mut failed = None;
        loop {
            time::sleep(LOOK_INTERVAL).await;
            let files = self.files.clone();
            // Not here: who accepts connections is not to wait for a disk.
            let Ok(stamps) = task::spawn_blocking(move || stamps(&files)).await else { continue };
            if stamps == self.held.load().stamps || failed.as_ref() == Some(&stamps) {
                continue;
            }
            match self.read_again() {
                Ok(loaded) => {
                    let replaced: Vec<String> = self.replaced(&loaded).map(|path| path.display().to_string()).collect();
                    self.adopt(loaded);
                    info!(listener = self.listener, replaced = replaced.join(", "), "TLS certificates are read again");
                }
                // One of two may have been replaced before the other.
                Err(error) => {
                    error!(listener = self.listener, %error, "TLS goes on with the certificates of before");
                    failed = Some(stamps);
                }
            }
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

fn stamps(files: &TlsFiles) -> Stamps {
    let TlsFiles { certificates, key, client_authorities } = files;
    let stamp = |path: &PathBuf| {
        let metadata = path.metadata().ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    [certificates, key].into_iter().chain(client_authorities).map(stamp).collect()
}

fn read(files: &TlsFiles, protocols: &[&[u8]]) -> Result<Loaded, TlsError> {
    // Before they are read: where one is replaced meanwhile, that is seen.
    let stamps = stamps(files);
    let TlsFiles { certificates, key, client_authorities } = files;
    let provider = Arc::new(ring::default_provider());
    let key = read_key(certificates, key, &provider)?;
    let certificates = key.cert.clone();
    let authorities = client_authorities.as_deref().map(read_certificates).transpose()?.unwrap_or_default();
    let clients = match client_authorities {
        None => Arc::new(NoClientAuth),
        Some(path) => verifier(path, authorities.clone(), &provider)?,
    };
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has ciphers for them")
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)));
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Loaded { config: Arc::new(config), certificates, authorities, stamps })
}

pub(super) fn read_key(certificates: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = read_certificates(certificates)?;
    let at_key = |problem| TlsError { path: key.to_owned(), problem };
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| match error {
        pem::Error::Io(error) => at_key(TlsProblem::Io(error)),
        pem::Error::NoItemsFound => at_key(TlsProblem::Empty("private key")),
        source => at_key(TlsProblem::Pem { wanted: "a private key", source }),
    })?;
    CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => at_key(TlsProblem::OtherKey(certificates.to_owned())),
        rustls::Error::InvalidCertificate(error) => TlsError::new(certificates, TlsProblem::Certificate(error)),
        error => at_key(TlsProblem::Key(error)),
    })
}

/// Who signs the certificates of clients, which must have one then.
fn verifier(
    path: &Path,
    authorities: Vec<CertificateDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let wrong = |problem: String| TlsError { path: path.to_owned(), problem: TlsProblem::Authority(problem) };
    let mut roots = RootCertStore::empty();
    for certificate in authorities {
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    builder.build().map_err(|error| wrong(error.to_string()))
}

pub(super) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
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

/// Ends what is sent, and passes over what still comes until the peer has ended, too: a socket that is closed with something
/// unread is reset, and an alert that is on its way is lost with that.
async fn take_leave(mut stream: TcpStream) {
    if stream.shutdown().await.is_ok() {
        // An error is the end as well.
        let _ = copy(&mut stream.take(LEAVE_BYTES_MAX), &mut sink()).await;
    }
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
        let tls = Arc::new(Tls::load(files(directory.path(), &before)).expect("they belong together"));
        let first = tls.held.load_full();
        assert_eq!(first.stamps, stamps(&tls.files));

        files(directory.path(), &(after.0.clone(), before.1));
        let error = tls.prepare().err().expect("they do not belong together").to_string();
        assert!(error.contains("server.key") && error.contains("server.pem"), "{error}");

        files(directory.path(), &after);
        assert_ne!(first.stamps, stamps(&tls.files));
        let staged = tls.prepare().expect("they belong together");
        assert!(Arc::ptr_eq(&first, &tls.held.load_full()), "it goes on with what it had");
        let changed = staged.apply().changed;
        assert!(changed.len() == 1 && changed[0].ends_with("server.pem holds other certificates now"), "{changed:?}");
        assert_ne!(first.certificates, tls.held.load().certificates);
        assert!(tls.prepare().expect("they belong together").apply().changed.is_empty(), "they are the same");
    }

    #[test]
    fn those_files_are_named_that_hold_other_certificates() {
        let directory = tempfile::tempdir().expect("there is room");
        let authorities = directory.path().join("admins.pem");
        let write = |own: &(String, String), admins: &(String, String)| {
            fs::write(&authorities, &admins.0).expect("there is room");
            TlsFiles { client_authorities: Some(authorities.clone()), ..files(directory.path(), own) }
        };
        let [first, second, third] = [pair(), pair(), pair()];
        let tls = Arc::new(Tls::load(write(&first, &second)).expect("they belong together"));
        for (own, admins, named) in [
            (&first, &third, &["admins.pem"][..]),
            (&second, &third, &["server.pem"]),
            (&first, &second, &["server.pem", "admins.pem"]),
            (&first, &second, &[]),
        ] {
            write(own, admins);
            let changed = tls.prepare().expect("they belong together").apply().changed;
            let line = |name: &&str| format!("{} holds other certificates now", directory.path().join(name).display());
            assert_eq!(changed, named.iter().map(line).collect::<Vec<_>>());
        }
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

    /// As `openssl x509 -req` makes them of version 1, where it is told of no extensions.
    const VERSION_1: &str = "-----BEGIN CERTIFICATE-----
MIHbMIGOAhR3O0wkgm/srk6K+PMj1RL5XawBpjAFBgMrZXAwETEPMA0GA1UEAwwG
YWRtaW5zMCAXDTI2MTEyMzExMDYwNVoYDzIxMjYxMDMwMTEwNjA1WjAOMQwwCgYD
VQQDDANhZGEwKjAFBgMrZXADIQBVdMbPV1s69H6MoDnK2L3lazGmlkkvUi2yjvAe
II2L+TAFBgMrZXADQQDnOM2wwI7kPYGhMOnRAUMEBnEfSn2d/PYsQWwJUtDqIusF
9lTcdGRDiHXw2b3vPslvBAfK2Ydx1KQdWLdlNg8G
-----END CERTIFICATE-----
";

    #[test]
    fn a_certificate_of_version_1_is_to_blame_itself_and_not_its_key() {
        let directory = tempfile::tempdir().expect("there is room");
        let files = files(directory.path(), &(VERSION_1.to_owned(), pair().1));
        let error = Tls::load(files).expect_err("it is of no use").to_string();
        assert!(error.contains("server.pem: begins with no certificate") && error.contains("version 3"), "{error}");
        assert!(!error.contains("server.key"), "{error}");
    }

    #[test]
    fn clients_may_have_to_show_certificates() {
        let directory = tempfile::tempdir().expect("there is room");
        let files = files(directory.path(), &pair());
        let client_authorities = Some(files.certificates.clone());
        assert!(Tls::load(TlsFiles { client_authorities, ..files }).is_ok());
    }
}
