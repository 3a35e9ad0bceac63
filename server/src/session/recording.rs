//! A session's recording: its name, and its part in the session's life.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    num::NonZeroU64,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tickwire_recording::{
    ChatRecord, Closed, EndReason, Recorder, RecorderCloser, RecorderOptions, RecorderStatus, RecorderWatch, Recorders,
    RecordingMeta,
};
use tickwire_shared::{Tick, TickRate};
use tickwire_simulation::{Session, TickInput, TickResult};
use tracing::{error, info, warn};

use super::{SeatToken, SessionName, SessionTerms, StartError, tokens::TokenKey};
use crate::{
    config::{RecordingConfig, ServerConfig},
    replay_command::log_panic_command,
};

/// Records a session, or does nothing.
#[derive(Debug)]
pub(super) struct SessionRecorder {
    recorder: Option<Recorder>,
    /// Why there is no keyframe, as it was told last.
    keyframe_problem: Option<String>,
}

impl SessionRecorder {
    /// Starts a recording, where sessions are recorded.
    pub(super) fn start(
        recorders: &Recorders,
        config: &ServerConfig,
        (name, terms): (&SessionName, &SessionTerms),
        session: &Session,
        created: SystemTime,
    ) -> Result<Self, StartError> {
        let Some(directory) = config.recordings.as_deref() else { return Ok(Self::of(None)) };
        let meta = RecordingMeta { terms: terms.to_proto(), ..RecordingMeta::of(session, &name.to_string(), created) };
        recorders
            .start(directory, &file_name(name, created), &meta, recorder_options(config, meta.tick_rate, name))
            .map(|recorder| Self::of(Some(recorder)))
            .map_err(|source| StartError::Recording { directory: directory.to_owned(), source })
    }

    /// Goes on with one.
    pub(super) fn resume(recorder: Recorder) -> Self {
        Self::of(Some(recorder))
    }

    fn of(recorder: Option<Recorder>) -> Self {
        Self { recorder, keyframe_problem: None }
    }

    /// The file that grows.
    pub(super) fn path(&self) -> Option<PathBuf> {
        self.recorder.as_ref().map(Recorder::path)
    }

    pub(super) fn tick_input(&mut self, input: &Arc<TickInput>) {
        if let Some(recorder) = &mut self.recorder {
            recorder.tick_input(Arc::clone(input));
        }
    }

    /// Who may resume a seat, from this tick on. Only a server that goes on after a crash has a use for it.
    pub(super) fn seat_token(&mut self, tick: Tick, token: &SeatToken) {
        if let Some(recorder) = &mut self.recorder {
            recorder.seat_token(tick, token.into());
        }
    }

    /// What was said since the tick before.
    pub(super) fn chat(&mut self, said: Vec<ChatRecord>) {
        if let Some(recorder) = self.recorder.as_mut().filter(|_| !said.is_empty()) {
            recorder.chat(said);
        }
    }

    pub(super) fn tick_result(&mut self, result: TickResult) {
        if let Some(recorder) = &mut self.recorder {
            recorder.tick_result(result);
        }
    }

    /// Records all of the session between two ticks, where that is due.
    pub(super) fn keyframe(&mut self, session: &Session) {
        let Some(recorder) = self.recorder.as_mut().filter(|recorder| recorder.wants_keyframe()) else { return };
        let (keyframe, problem) = match session.keyframe() {
            Ok(keyframe) => (keyframe, None),
            Err(error) => (None, Some(error.to_string())),
        };
        // Once, and not as often as one is due.
        if problem != self.keyframe_problem {
            match &problem {
                Some(problem) => warn!(tick = session.tick().0, "there are no keyframes: {problem}"),
                None => info!(tick = session.tick().0, "there are keyframes again"),
            }
            self.keyframe_problem = problem;
        }
        recorder.keyframe(keyframe);
    }

    /// Tells how it does.
    pub(super) fn watch(&self) -> RecordingWatch {
        RecordingWatch(self.recorder.as_ref().map(Recorder::watch))
    }

    /// Closes it from anywhere.
    pub(super) fn closer(&self) -> RecordingCloser {
        RecordingCloser(self.recorder.as_ref().map(Recorder::closer))
    }
}

impl From<&SeatToken> for tickwire_recording::SeatToken {
    fn from(SeatToken { player, newest, previous }: &SeatToken) -> Self {
        let key = |TokenKey { id, hash }: TokenKey| tickwire_recording::TokenKey { id, hash };
        Self { player: *player, newest: key(*newest), previous: previous.map(key) }
    }
}

impl From<&tickwire_recording::SeatToken> for SeatToken {
    fn from(token: &tickwire_recording::SeatToken) -> Self {
        let key = |tickwire_recording::TokenKey { id, hash }| TokenKey { id, hash };
        Self { player: token.player, newest: key(token.newest), previous: token.previous.map(key) }
    }
}

/// How a session at `rate` is recorded.
pub(crate) fn recorder_options(config: &ServerConfig, rate: TickRate, session: &SessionName) -> RecorderOptions {
    let mut offset = DefaultHasher::new();
    session.to_string().hash(&mut offset);
    // Longer than any session.
    let ticks = |time: Duration| rate.ticks_in_ms(u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(1 << 40));
    let RecordingConfig { segment_bytes, segment_time, .. } = config.recording;
    RecorderOptions {
        queue_ticks_max: ticks(config.timeouts.disk),
        durability: config.recording.durability,
        bytes_max: config.recording.bytes_max,
        keyframe_ticks: ticks(config.recording.keyframe_interval),
        keyframe_offset_ticks: offset.finish(),
        segment_bytes: segment_bytes.map_or(u64::MAX, NonZeroU64::get),
        segment_ticks: if segment_time.is_zero() { u64::MAX } else { ticks(segment_time).max(1) },
        ..RecorderOptions::at(rate)
    }
}

/// Tells how a session's recording does.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordingWatch(Option<RecorderWatch>);

impl RecordingWatch {
    /// `None` where the session is not recorded.
    pub(crate) fn status(&self) -> Option<RecorderStatus> {
        self.0.as_ref().map(RecorderWatch::status)
    }

    /// The file that grows, where there is one: that of the newest segment.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        self.0.as_ref().map(RecorderWatch::path)
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
        let ticks_missing = end.ticks_missing;
        match problem {
            None => info!(%session, path = %path.display(), "recording closed"),
            Some(problem) if ticks_missing == 0 && !matches!(end.reason, EndReason::Stopped { .. }) => {
                error!(%session, path = %path.display(), problem, "the recording has all ticks, and is not finished");
            }
            Some(problem) => {
                error!(%session, path = %path.display(), ticks_missing, problem, "the recording is not complete");
            }
        }
        if let EndReason::Failed { .. } = end.reason {
            log_panic_command(session, end.tick, &path);
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
    use super::*;

    #[test]
    fn a_files_name_tells_session_and_time() {
        let created = SystemTime::UNIX_EPOCH + Duration::from_millis(1_769_885_102_123);
        assert_eq!(file_name(&SessionName::numbered("arena", 1), created), "arena-1-20260131T184502123Z");
    }
}
