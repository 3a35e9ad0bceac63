//! Why a server does not start.

use std::{
    io,
    path::{Path, PathBuf},
};

use tickwire_recording::{DirectoryLockError, RecordingError, ReplayError};

use crate::{admin::AdminError, config::ConfigError, identity::IdentityError, metrics::MetricsError, net::TlsError};

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A value that makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server was built without games.
    #[error("there is no game to host: give the server at least one")]
    NoGames,
    /// A game that the server was not built with.
    #[error("games: there is no {name:?}; this server was built with {known}")]
    UnknownGame {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// Two games of one name, in the configuration or in the build.
    #[error("games: {0:?} is named twice")]
    GameTwice(String),
    /// A session that cannot be created.
    #[error("{name}: {source}")]
    Session {
        /// The session's name.
        name: String,
        /// Why.
        source: tickwire_simulation::SessionError,
    },
    /// A recording that cannot be created.
    #[error("cannot record to {}: {source}; {}", .directory.display(), recording_advice(.source))]
    Recording {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another server has it.
    #[error("the data directory {source}: end that server first, or choose another data directory")]
    DirectoryInUse {
        /// Which, and by whom.
        source: DirectoryLockError,
    },
    /// A recording that cannot be shown.
    #[error("{}", at_path(.path, .source))]
    Replay {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ReplayError,
    },
    /// A file that connections cannot be encrypted with.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// A file of keys that cannot be read, or used tickets that cannot be kept.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// An admin listener that cannot start.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A listener for metrics that cannot start.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A thread or runtime that cannot be created.
    #[error("cannot start threads: {0}")]
    Threads(io::Error),
    /// Somebody wanted it to end before all of its sessions had started.
    #[error("told to end before all sessions had started")]
    Stopped,
}

fn recording_advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room there, or choose another data directory"
        }
        _ => "choose a data directory that can be written to",
    }
}

/// With the file's name once: some errors have it.
fn at_path(path: &Path, source: &ReplayError) -> String {
    match source {
        ReplayError::Recording(RecordingError::Io { .. } | RecordingError::InUse { .. }) => source.to_string(),
        source => format!("{}: {source}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_wants_room_and_any_other_trouble_another_directory() {
        let said = |kind: io::ErrorKind| {
            let directory = PathBuf::from("/data/recordings");
            RunError::Recording { directory, source: kind.into() }.to_string()
        };
        let full =
            "cannot record to /data/recordings: no storage space; make room there, or choose another data directory";
        assert_eq!(said(io::ErrorKind::StorageFull), full);
        assert!(said(io::ErrorKind::PermissionDenied).ends_with("; choose a data directory that can be written to"));
    }
}
