//! Whether a server could be started as it is told.

use std::{
    io::{self, ErrorKind},
    path::Path,
    sync::Arc,
};

use tickwire_shared::Game;

use super::{RunError, first_sessions::choose_games};
use crate::{
    admin::{self, Bans},
    config::ServerConfig,
    identity,
    net::Tls,
    session::{self, SessionShape},
};

/// Whether a server could be started so, by what a start looks at, in its order: without listening anywhere, taking a directory
/// or making one. Addresses that are taken, and directories that another server has, are found out by starting.
pub(crate) fn check(config: &ServerConfig, games: &[Arc<dyn Game>]) -> Result<(), RunError> {
    config.check()?;
    let hosted = choose_games(&config.games, games)?;
    config.tls.clone().map(Tls::load).transpose()?;
    identity::check(&config.identity)?;
    for directory in [&config.exclusive_dir, &config.recordings].into_iter().flatten() {
        check_directory(directory).map_err(|source| RunError::Recording { directory: directory.to_owned(), source })?;
    }
    if let Some(admin) = &config.admin {
        Bans::load(&admin.directory)?;
        admin::check(admin)?;
    }
    for game in hosted {
        let name = game.name().to_owned();
        session::create(game, config, SessionShape::of(config), config.seed.unwrap_or(0))
            .map_err(|source| RunError::Session { name, source })?;
    }
    Ok(())
}

/// Whether files can be made in a directory, or the directory can be made.
fn check_directory(directory: &Path) -> io::Result<()> {
    let here = |path| if path == Path::new("") { Path::new(".") } else { path };
    let is_there = |path: &&Path| path.symlink_metadata().is_ok();
    let there = directory.ancestors().map(here).find(is_there).unwrap_or(Path::new("."));
    if !there.is_dir() {
        return Err(ErrorKind::NotADirectory.into());
    }
    // It has no name, and is gone at once.
    tempfile::tempfile_in(there).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_directory_that_can_be_made_is_not_made_and_one_that_cannot_is_named() {
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("file");
        fs::write(&file, "").expect("a disk");
        let config = |directory: &Path| ServerConfig {
            exclusive_dir: Some(directory.to_owned()),
            recordings: Some(directory.join("recordings")),
            ..ServerConfig::default()
        };
        let games: [Arc<dyn Game>; 1] = [Arc::new(tickwire_arena::Arena)];
        check(&config(&folder.path().join("data/of/mine")), &games).expect("it can be made");
        check(&config(folder.path()), &games).expect("it is there");
        for none in [file.clone(), file.join("data")] {
            let error = check(&config(&none), &games).expect_err("a file is in the way").to_string();
            assert_eq!(
                error,
                format!(
                    "cannot record to {}: not a directory; choose a data directory that can be written to",
                    none.display()
                )
            );
        }
        assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 1);
        check_directory(Path::new("made-nowhere")).expect("one beside the program");
    }
}
