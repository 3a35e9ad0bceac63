//! Files of keys.

use std::{fs::File, io::Read as _, path::Path};

use tickwire_ticket::{KeyRing, Secret};

use super::{IdentityError, api_keys::ApiKeys, warn_of_readers};

/// More than the most keys take.
const BYTES_MAX: u64 = 256 * 1024;

/// Reads the keys of tickets.
pub(crate) fn read_ticket_keys(path: &Path) -> Result<KeyRing, IdentityError> {
    let text = read(path)?;
    KeyRing::from_jwks(text.reveal()).map_err(|source| IdentityError::TicketKeys { path: path.to_owned(), source })
}

/// Reads the hashes of API keys. They are no secrets, but who could write them could let anybody in.
pub(super) fn read_api_keys(path: &Path) -> Result<ApiKeys, IdentityError> {
    let text = read(path)?;
    ApiKeys::read(text.reveal()).map_err(|source| IdentityError::ApiKeys { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<Secret, IdentityError> {
    let unreadable = |source| IdentityError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    if is_for_all(&file).map_err(unreadable)? {
        warn_of_readers(path);
    }
    let mut text = String::new();
    file.take(BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(IdentityError::TooLong { path: path.to_owned(), bytes_max: BYTES_MAX });
    }
    Ok(Secret::from(text))
}

/// Whether anybody on the machine may read or write it.
#[cfg(unix)]
fn is_for_all(file: &File) -> std::io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(file.metadata()?.mode() & 0o006 != 0)
}

/// Elsewhere rights are kept in other ways.
#[cfg(not(unix))]
fn is_for_all(_file: &File) -> std::io::Result<bool> {
    Ok(false)
}
