//! What was said in a session before its server was killed: its recording may go on over many files.

use std::{io, path::Path};

use tickwire_recording::{ChatRecord, Recording, RecordingError, RecordingMeta, Segments};
use tracing::warn;

/// With so many lines no more are looked for. The newest file gives as many at most.
const LINES_MAX: usize = 256;
/// So many files are looked through, of sessions in which nobody talks: of each no more than its indexes are read then.
const SEGMENTS_MAX: usize = 64;

/// The newest lines of a session, oldest first: those of the segment that it goes on from, and of the ones before it.
///
/// What cannot be read is done without: nobody is kept from playing on by it.
pub(crate) fn said(path: &Path, meta: &RecordingMeta, newest: Vec<ChatRecord>) -> Vec<ChatRecord> {
    let mut all = newest;
    if meta.segment.number > 1
        && let Err(error) = add_earlier(path, meta, &mut all)
    {
        warn!(path = %path.display(), %error, "what was said before this file is not known any more");
    }
    all
}

fn add_earlier(path: &Path, meta: &RecordingMeta, all: &mut Vec<ChatRecord>) -> Result<(), RecordingError> {
    let at = |source| RecordingError::Io { path: path.to_owned(), source };
    let segments = Segments::beside(path).map_err(at)?;
    let earlier = segments.numbers().iter().rev().filter(|number| **number < meta.segment.number);
    for &number in earlier.take(SEGMENTS_MAX) {
        let wanted = LINES_MAX.saturating_sub(all.len());
        if wanted == 0 {
            break;
        }
        let before = match read(&segments, number, meta, wanted) {
            // It has been finished, and has another name, since it was opened.
            Err(error) if is_missing(&error) => read(&segments, number, meta, wanted)?,
            before => before?,
        };
        all.splice(..0, before);
    }
    Ok(())
}

fn read(
    segments: &Segments,
    number: u32,
    meta: &RecordingMeta,
    most: usize,
) -> Result<Vec<ChatRecord>, RecordingError> {
    let recording: Recording = segments.open(number)?;
    let is_ours = (&recording.meta().session, recording.meta().created) == (&meta.session, meta.created);
    if is_ours { recording.newest_chat(most) } else { Ok(Vec::new()) }
}

fn is_missing(error: &RecordingError) -> bool {
    matches!(error, RecordingError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}
