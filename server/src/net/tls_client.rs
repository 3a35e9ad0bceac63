//! TLS of who asks a server: whom to trust, and what to show.

use std::{path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::ring, sign::SingleCertAndKey};

use super::tls::{TlsError, TlsProblem, read_certificates, read_key};

/// The only protocol that is spoken.
const HTTP2: &[u8] = b"h2";

/// Trusts whoever shows a certificate that one of `authorities`, a PEM file, has signed, or is; none: that the system trusts.
/// Where a server asks for one, it is shown `own`: a certificate, and its key.
///
/// # Errors
/// Where a file cannot be used, or the system trusts nobody.
pub(crate) fn client_config(authorities: Option<&Path>, own: Option<(&Path, &Path)>) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let roots = authorities.map_or_else(of_system, given)?;
    let own = own.map(|(certificates, key)| read_key(certificates, key, &provider)).transpose()?;
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().expect("the provider has ciphers for them");
    let builder = builder.with_root_certificates(roots);
    let mut config = match own {
        Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(config)
}

fn given(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        let wrong = |error: rustls::Error| TlsError::new(path, TlsProblem::Trusted(error.to_string()));
        roots.add(certificate).map_err(wrong)?;
    }
    Ok(roots)
}

fn of_system() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    if roots.add_parsable_certificates(found.certs).0 == 0 {
        let why: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        let why = if why.is_empty() { "none are installed".to_owned() } else { why.join("; ") };
        return Err(TlsError::new(Path::new("the system's certificates"), TlsProblem::NoneTrusted(why)));
    }
    Ok(roots)
}
