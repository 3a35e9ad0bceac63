//! The segments of a session's recording: what their files are called, and where they are.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use tickwire_shared::Tick;

use crate::{Recording, RecordingError, files, finished_path, live_path};

/// In how many digits the numbers of later segments stand, so that they are in order.
const DIGITS: usize = 5;

/// The name of a segment's file, without directory and ending. The first one has the recording's own.
pub(crate) fn segment_name(recording: &str, number: u32) -> String {
    if number <= 1 { recording.to_owned() } else { format!("{recording}_{number:0DIGITS$}") }
}

/// The recording's name and the segment's number that a file's name says.
pub(crate) fn recording_of(name: &str) -> (&str, u32) {
    let numbered = name.rsplit_once('_').filter(|(_, digits)| digits.len() >= DIGITS);
    let number = numbered.and_then(|(name, digits)| Some((name, digits.parse().ok()?)));
    number.filter(|(name, number)| *number > 1 && !name.is_empty()).unwrap_or((name, 1))
}

/// Whether two files are segments of one recording, by their names.
#[must_use]
pub fn is_same_recording(one: &Path, other: &Path) -> bool {
    let [one, other] = [one, other].map(files::recording_name);
    recording_of(&one).0 == recording_of(&other).0
}

/// The segments of a session's recording that there are in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segments {
    directory: PathBuf,
    name: String,
    numbers: Vec<u32>,
}

impl Segments {
    /// Those beside `path`, which is one of them.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    pub fn beside(path: &Path) -> io::Result<Self> {
        let directory = files::directory_of(path);
        let own = files::recording_name(path);
        let (name, _) = recording_of(&own);
        let mut numbers = BTreeSet::new();
        // An empty path is the directory that the program is in.
        for entry in fs::read_dir(if directory.as_os_str().is_empty() { Path::new(".") } else { directory })? {
            let found = entry?.path();
            if files::is_recording(&found) && !files::is_set_aside(&found) {
                let found = files::recording_name(&found);
                let (of, number) = recording_of(&found);
                numbers.extend((of == name).then_some(number));
            }
        }
        Ok(Self { directory: directory.to_owned(), name: name.to_owned(), numbers: numbers.into_iter().collect() })
    }

    /// Their numbers, in order. The oldest may have been deleted.
    #[must_use]
    pub fn numbers(&self) -> &[u32] {
        &self.numbers
    }

    /// Opens a segment by its number: finished, or live.
    ///
    /// # Errors
    /// As [`Recording::open`].
    pub fn open(&self, number: u32) -> Result<Recording, RecordingError> {
        let name = segment_name(&self.name, number);
        let finished = finished_path(&self.directory, &name);
        let is_missing = |error: &RecordingError| matches!(error, RecordingError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound);
        match Recording::open(&finished) {
            Err(error) if is_missing(&error) => {}
            opened => return opened,
        }
        match Recording::open(live_path(&self.directory, &name)) {
            // It has been finished since.
            Err(error) if is_missing(&error) => Recording::open(finished),
            opened => opened,
        }
    }

    /// The segment from which a session can be played to `tick`: the newest one that begins with a keyframe of it, or earlier.
    /// Where there is none any more, the oldest one that there is.
    ///
    /// # Errors
    /// Where there is no readable one.
    pub fn at(&self, tick: Tick) -> Result<Recording, RecordingError> {
        // Those that cannot be opened have been deleted by now, as the oldest are.
        let begins = |number: u32| self.open(number).map_or(true, |recording| recording.origin_tick() <= tick);
        let behind = self.numbers.partition_point(|number| begins(*number));
        let (before, after) = self.numbers.split_at(behind);
        let mut problem = None;
        for number in before.iter().rev().chain(after) {
            match self.open(*number) {
                Ok(recording) => return Ok(recording),
                Err(error) => problem = Some(error),
            }
        }
        let source = io::Error::new(io::ErrorKind::NotFound, "there is no segment of this recording any more");
        Err(problem.unwrap_or_else(|| files::at(&self.directory.join(&self.name))(source)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_of_what_recording_and_which_segment_it_is() {
        for (number, name) in [(1, "a_b-1Z"), (2, "a_b-1Z_00002"), (99_999, "a_b-1Z_99999"), (123_456, "a_b-1Z_123456")]
        {
            assert_eq!(segment_name("a_b-1Z", number), name);
            assert_eq!(recording_of(name), ("a_b-1Z", number));
        }
        for other in ["a_2", "a_00001", "_00002", "a_0000x", "00002"] {
            assert_eq!(recording_of(other), (other, 1));
        }
    }

    #[test]
    fn names_are_in_the_order_of_time() {
        let mut names: Vec<String> = [3, 1, 20_000, 2].map(|number| segment_name("arena-1", number) + ".mcap").into();
        names.sort();
        let segments = ["arena-1.mcap", "arena-1_00002.mcap", "arena-1_00003.mcap", "arena-1_20000.mcap"];
        assert_eq!(names, segments);
    }
}
