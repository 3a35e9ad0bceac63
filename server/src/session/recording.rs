//! A session's recording: its name, and its part in the session's life.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use tickwire_recording::{
    Closed, EndReason, Recorder, RecorderCloser, RecorderOptions, RecorderStatus, RecorderWatch, Recorders,
    RecordingMeta,
};
use tickwire_simulation::{Session, TickInput, TickResult};
use tracing::{error, info, warn};

use super::{SessionName, StartError};
use crate::config::ServerConfig;

/// Records a session, or does nothing.
#[derive(Debug)]
pub(super) struct SessionRecorder(Option<Recorder>);

impl SessionRecorder {
    /// Starts a recording, where sessions are recorded.
    pub(super) fn start(
        recorders: &Recorders,
        config: &ServerConfig,
        name: &SessionName,
        session: &Session,
        created: SystemTime,
    ) -> Result<Self, StartError> {
        let Some(directory) = config.recordings.as_deref() else { return Ok(Self(None)) };
        let meta = RecordingMeta::of(session, &name.to_string(), created);
        let options = RecorderOptions {
            durability: config.recording.durability,
            bytes_max: config.recording.bytes_max,
            keyframe_ticks: meta.tick_rate.ticks_in_ms(
                // Longer than any session.
                u64::try_from(config.recording.keyframe_interval.as_millis()).unwrap_or(u64::MAX).min(1 << 40),
            ),
            ..RecorderOptions::at(meta.tick_rate)
        };
        recorders
            .start(directory, &file_name(name, created), &meta, options)
            .map(|recorder| Self(Some(recorder)))
            .map_err(|source| StartError::Recording { directory: directory.to_owned(), source })
    }

    /// The file that grows.
    pub(super) fn path(&self) -> Option<PathBuf> {
        self.0.as_ref().map(|recorder| recorder.path().to_owned())
    }

    pub(super) fn tick_input(&mut self, input: &Arc<TickInput>) {
        if let Some(recorder) = &mut self.0 {
            recorder.tick_input(Arc::clone(input));
        }
    }

    pub(super) fn tick_result(&mut self, result: TickResult) {
        if let Some(recorder) = &mut self.0 {
            recorder.tick_result(result);
        }
    }

    /// Records all of the session between two ticks, where that is due.
    pub(super) fn keyframe(&mut self, session: &Session) {
        let Some(recorder) = self.0.as_mut().filter(|recorder| recorder.wants_keyframe()) else { return };
        let keyframe = session.keyframe().unwrap_or_else(|error| {
            warn!(tick = %session.tick(), "there is no keyframe: {error}");
            None
        });
        recorder.keyframe(keyframe);
    }

    /// Tells how it does.
    pub(super) fn watch(&self) -> RecordingWatch {
        RecordingWatch(self.0.as_ref().map(|recorder| (recorder.watch(), recorder.path().to_owned())))
    }

    /// Closes it from anywhere.
    pub(super) fn closer(&self) -> RecordingCloser {
        RecordingCloser(self.0.as_ref().map(Recorder::closer))
    }
}

/// Tells how a session's recording does.
#[derive(Clone, Debug)]
pub(crate) struct RecordingWatch(Option<(RecorderWatch, PathBuf)>);

impl RecordingWatch {
    /// `None` where the session is not recorded.
    pub(crate) fn status(&self) -> Option<RecorderStatus> {
        self.0.as_ref().map(|(recorder, _)| recorder.status())
    }

    /// The file that grows, where there is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.0.as_ref().map(|(_, path)| path.as_path())
    }
}

/// Closes a session's recording, or does nothing.
#[derive(Clone, Debug)]
pub(super) struct RecordingCloser(Option<RecorderCloser>);

impl RecordingCloser {
    /// Makes a finished recording of it. This waits for the disk.
    pub(super) fn close(&self, reason: EndReason, session: &SessionName) {
        let Some(closer) = &self.0 else { return };
        let Closed { path, end, problem } = closer.close(reason);
        let (path, ticks_missing) = (path.display(), end.ticks_missing);
        match problem {
            None => info!(%session, %path, "recording closed"),
            Some(problem) => error!(%session, %path, ticks_missing, problem, "the recording is not complete"),
        }
    }
}

/// Such as `arena-1-20260131T184502123Z`: sorted by name is sorted by time.
fn file_name(session: &SessionName, created: SystemTime) -> String {
    let time = humantime::format_rfc3339_millis(created).to_string();
    let time: String = time.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{}-{time}", session.id())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_files_name_tells_session_and_time() {
        let created = SystemTime::UNIX_EPOCH + Duration::from_millis(1_769_885_102_123);
        assert_eq!(file_name(&SessionName::numbered("arena", 1), created), "arena-1-20260131T184502123Z");
    }
}
