//! Files that commands write: whole under their names, or not there at all.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use super::CliError;

/// A file on its way to a name that nobody has. Until it is [kept](Self::keep) it has another one beside it, and goes with
/// this.
pub(super) struct NewFile {
    path: PathBuf,
    file: NamedTempFile,
}

impl NewFile {
    /// Begins one.
    pub(super) fn create(path: &Path) -> Result<Self, CliError> {
        // Before anything is done in vain; `keep` sees to it that nothing is lost.
        if fs::symlink_metadata(path).is_ok() {
            return Err(CliError::FileThere { path: path.to_owned() });
        }
        // An empty path is the directory that the program is in.
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::metadata(directory).map_err(CliError::at(path))?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".tickwire-").suffix(".tmp");
        // As any other file: what the umask leaves.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(directory).map_err(CliError::at(path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// What to write to.
    pub(super) fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Gives it its name, once all of it is on disk. A file that has come by that name meanwhile is left alone.
    pub(super) fn keep(self) -> Result<(), CliError> {
        let Self { path, file } = self;
        file.as_file().sync_all().map_err(CliError::at(&path))?;
        match file.persist_noclobber(&path) {
            Ok(_) => Ok(()),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(CliError::FileThere { path }),
            Err(error) => Err(CliError::at(&path)(error.error)),
        }
    }
}

/// Whether it is a pipe or a terminal, which has no whole.
#[cfg(unix)]
pub(super) fn is_stream(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo() || found.file_type().is_char_device())
}

/// As on Unix, where they have names of their own.
#[cfg(not(unix))]
pub(super) fn is_stream(_path: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("it is there");
        entries.map(|entry| entry.expect("it is there").file_name().into_string().expect("UTF-8")).collect()
    }

    #[test]
    fn a_file_has_its_name_once_it_is_whole_and_leaves_nothing_where_it_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("out.json");
        let mut new = NewFile::create(&path).expect("it can be begun");
        new.file().write_all(b"half").expect("it can be written");
        assert!(!path.exists() && names(directory.path()).len() == 1);
        drop(new);
        assert_eq!(names(directory.path()), Vec::<String>::new());

        let mut new = NewFile::create(&path).expect("it can be begun");
        new.file().write_all(b"whole").expect("it can be written");
        new.keep().expect("it can be named");
        assert_eq!(
            (names(directory.path()), fs::read(&path).expect("it is there")),
            (vec!["out.json".to_owned()], b"whole".to_vec())
        );
    }

    #[test]
    fn what_is_there_is_left_alone_though_it_has_come_meanwhile() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("out.json");
        let new = NewFile::create(&path).expect("it can be begun");
        fs::write(&path, "another's").expect("it can be written");
        let late = new.keep().expect_err("it has a file").to_string();
        let early = NewFile::create(&path).err().expect("it has a file").to_string();
        assert!(late == early && late.contains("out.json: there is a file already"), "{late}, {early}");
        assert_eq!((names(directory.path()).len(), fs::read(&path).expect("it is there")), (1, b"another's".to_vec()));
        let nowhere = NewFile::create(&directory.path().join("none/out.json")).err().expect("there is no directory");
        assert!(nowhere.to_string().contains("none/out.json: "), "{nowhere}");
    }
}
