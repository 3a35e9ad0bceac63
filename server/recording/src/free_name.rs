//! Names that nothing has, for files that are to be kept: whatever has one, stays.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::storage::Storage;

/// So many of a kind are kept of one recording.
const NUMBERS_MAX: u32 = 10_000;

/// The paths that there may be of a kind: as in `a.damaged.mcap`, `a.damaged-1.mcap`, `a.damaged-2.mcap`, and so on.
pub(crate) fn numbered(directory: &Path, name: &str, kind: &str) -> impl Iterator<Item = PathBuf> + use<> {
    let numbers = (1..NUMBERS_MAX).map(|number| format!("-{number}"));
    let (directory, stem) = (directory.to_owned(), format!("{name}{kind}"));
    [String::new()].into_iter().chain(numbers).map(move |number| directory.join(format!("{stem}{number}.mcap")))
}

/// The recording's name, of a file that has a name of this kind.
pub(crate) fn name_of<'a>(file: &'a str, kind: &str) -> Option<&'a str> {
    let stem = file.strip_suffix(".mcap")?;
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    let unnumbered = stem.rsplit_once('-').filter(|(_, digits)| is_number(digits)).map(|(stem, _)| stem);
    [Some(stem), unnumbered].into_iter().flatten().find_map(|stem| stem.strip_suffix(kind))
}

/// Gives a file the first of these names that nothing has: which.
pub(crate) fn rename(
    storage: &dyn Storage,
    from: &Path,
    mut names: impl Iterator<Item = PathBuf>,
) -> io::Result<PathBuf> {
    loop {
        let to = names.next().ok_or_else(none_left)?;
        match storage.rename_new(from, &to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            renamed => return renamed.map(|()| to),
        }
    }
}

/// Whether something has a name, be it a link to nowhere.
pub(crate) fn is_taken(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

pub(crate) fn none_left() -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, "all names that it could be kept under are taken")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::FileSystem;

    #[test]
    fn a_numbered_files_name_says_of_which_recording_it_is() {
        for path in numbered(Path::new(""), "arena-1-20260131T184502123Z", ".set-aside").take(12) {
            let file = path.to_string_lossy().into_owned();
            assert_eq!(name_of(&file, ".set-aside"), Some("arena-1-20260131T184502123Z"), "{file}");
        }
        for other in ["a-1.mcap", "a.set-aside-x.mcap", "a.set-aside-.mcap", "a.set-aside-1.txt", "a.damaged-1.mcap"] {
            assert_eq!(name_of(other, ".set-aside"), None, "{other}");
        }
    }

    #[test]
    fn a_file_gets_a_name_that_nothing_has() {
        let directory = tempfile::tempdir().expect("a directory");
        let names = || numbered(directory.path(), "a", ".damaged");
        for (number, expected) in ["a.damaged.mcap", "a.damaged-1.mcap", "a.damaged-2.mcap"].into_iter().enumerate() {
            let from = directory.path().join("from");
            fs::write(&from, number.to_string()).expect("a disk");
            let to = rename(&FileSystem, &from, names()).expect("a disk");
            assert!(to.ends_with(expected) && !from.exists(), "{}", to.display());
        }
        for (number, path) in names().take(3).enumerate() {
            assert_eq!(fs::read_to_string(path).expect("it is there"), number.to_string());
        }
    }
}
