//! What a running server leaves in its data directory for those who may administer it: the address, and the token beside it.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tracing::warn;

use super::AdminError;

/// The file with the address that a running server listens for admins on.
pub(crate) const ADDRESS_FILE: &str = "admin.address";
/// The file with the token that a server made at its start.
pub(crate) const TOKEN_FILE: &str = "admin.token";

/// Files that are there while the server runs. Dropped, it removes them.
#[derive(Debug)]
pub(super) struct AdminFiles {
    written: Vec<PathBuf>,
}

impl AdminFiles {
    /// Writes the address, as `https://` where it is encrypted, and the token where the server made one: for its own user alone.
    pub(super) fn write(
        directory: &Path,
        address: SocketAddr,
        is_encrypted: bool,
        token: Option<&str>,
    ) -> Result<Self, AdminError> {
        fs::create_dir_all(directory).map_err(|source| AdminError::File { path: directory.to_owned(), source })?;
        let mut files = Self { written: Vec::new() };
        match token {
            Some(token) => files.put(directory.join(TOKEN_FILE), token)?,
            // That of a killed server, which made one, is of no more use.
            None => remove(&directory.join(TOKEN_FILE)),
        }
        let scheme = if is_encrypted { "https://" } else { "" };
        files.put(directory.join(ADDRESS_FILE), &format!("{scheme}{address}"))?;
        Ok(files)
    }

    fn put(&mut self, path: PathBuf, line: &str) -> Result<(), AdminError> {
        // A new file: one of a killed server may have other permissions.
        remove(&path);
        write_private(&path, line).map_err(|source| AdminError::File { path: path.clone(), source })?;
        self.written.push(path);
        Ok(())
    }
}

impl Drop for AdminFiles {
    fn drop(&mut self) {
        self.written.iter().for_each(|path| remove(path));
    }
}

fn write_private(path: &Path, line: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    writeln!(file, "{line}")
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        warn!(path = %path.display(), %error, "cannot remove a file");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_their_owners_alone_and_go_with_the_server() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name| directory.path().join(name);
        fs::write(path(TOKEN_FILE), "of a killed server").expect("it can be written");
        let address = SocketAddr::from(([127, 0, 0, 1], 4000));
        let files = AdminFiles::write(directory.path(), address, false, Some("secret")).expect("they can be written");
        assert_eq!(fs::read_to_string(path(TOKEN_FILE)).expect("it is there"), "secret\n");
        assert_eq!(fs::read_to_string(path(ADDRESS_FILE)).expect("it is there"), "127.0.0.1:4000\n");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(path(TOKEN_FILE)).expect("it is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        drop(files);
        let files = AdminFiles::write(directory.path(), address, true, None).expect("it can be written");
        assert_eq!(fs::read_to_string(path(ADDRESS_FILE)).expect("it is there"), "https://127.0.0.1:4000\n");
        drop(files);
        assert_eq!(fs::read_dir(directory.path()).expect("it is there").count(), 0);
    }
}
