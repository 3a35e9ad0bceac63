//! Files of TLS as options name them: which of them go together.

use std::path::Path;

use crate::config::TlsFiles;

/// An option that lacks another one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Incomplete {
    pub(super) option: &'static str,
    pub(super) value: String,
    pub(super) problem: &'static str,
}

/// Those of the admins' listener: its certificate, its key, and who signs the certificates of admins.
pub(super) fn of_admin([certificate, key, authorities]: [Option<&Path>; 3]) -> Result<Option<TlsFiles>, Incomplete> {
    let lacks = |option, path: &Path, problem| Err(Incomplete { option, value: path.display().to_string(), problem });
    match (certificate, key, authorities) {
        (None, None, None) => Ok(None),
        (Some(certificate), Some(key), authorities) => Ok(Some(TlsFiles {
            certificates: certificate.to_owned(),
            key: key.to_owned(),
            client_authorities: authorities.map(Path::to_owned),
        })),
        (Some(path), None, _) => {
            lacks("admin_tls_cert", path, "needs the private key that belongs to it: name it with admin_tls_key")
        }
        (None, Some(path), _) => {
            lacks("admin_tls_key", path, "needs the certificate that belongs to it: name it with admin_tls_cert")
        }
        (None, None, Some(path)) => lacks(
            "admin_client_ca",
            path,
            "needs encryption, by which clients show certificates: give admin_tls_cert and admin_tls_key",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_go_together_are_taken_and_others_say_which_is_missing() {
        let of = |names: [&str; 3]| of_admin(names.map(|name| Some(Path::new(name)).filter(|_| !name.is_empty())));
        assert_eq!(of(["", "", ""]), Ok(None));
        let files = of(["a.pem", "a.key", "ca.pem"]).expect("they go together").expect("they are named");
        assert_eq!(files.client_authorities.as_deref(), Some(Path::new("ca.pem")));
        assert!(of(["a.pem", "a.key", ""]).is_ok_and(|files| files.is_some()));
        for (names, option, missing) in [
            (["a.pem", "", "ca.pem"], "admin_tls_cert", "admin_tls_key"),
            (["", "a.key", ""], "admin_tls_key", "admin_tls_cert"),
            (["", "", "ca.pem"], "admin_client_ca", "admin_tls_cert"),
        ] {
            let wrong = of(names).expect_err("one is missing");
            assert!(wrong.option == option && wrong.problem.contains(missing), "{wrong:?}");
        }
    }
}
