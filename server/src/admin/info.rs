//! What is told of the server as it is.

use std::{
    env::consts::{ARCH, OS},
    sync::atomic::Ordering,
    time::{Duration, Instant, SystemTime},
};

use tickwire_proto::v1::{GetServerInfoResponse, RecordingState, ServerPhase};
use tickwire_recording::RecorderState;

use crate::server::{Phase, Shared};

/// The whole server.
pub(super) fn server_info(shared: &Shared, failed_attempts: u64) -> GetServerInfoResponse {
    let sessions = shared.registry.all();
    let phase = match *shared.phase.borrow() {
        Phase::Serving => ServerPhase::Serving,
        Phase::Draining => ServerPhase::Draining,
        Phase::Ending => ServerPhase::Ending,
    };
    let recordings = sessions.iter().filter_map(|session| session.recording.status());
    GetServerInfoResponse {
        version: env!("CARGO_PKG_VERSION").into(),
        build: format!("{} {OS} {ARCH}", if cfg!(debug_assertions) { "debug" } else { "release" }),
        uptime: Some(duration(shared.started.elapsed())),
        phase: phase.into(),
        drain_deadline: shared.drain.order().map(|order| {
            let left = order.deadline.saturating_duration_since(Instant::now());
            (SystemTime::now() + left).into()
        }),
        sessions: count(sessions.iter().count()),
        sessions_running: count(sessions.iter().filter(|session| session.runs()).count()),
        players: sessions.iter().map(|session| session.seats_taken()).sum(),
        streams: count(shared.streams.load(Ordering::Relaxed)),
        spectators: count(sessions.iter().map(|session| session.live.spectators()).sum()),
        connections: count(shared.connections()),
        recording: recordings.map(|status| status.state).max_by_key(badness).map(recording_state).unwrap_or_default(),
        failed_attempts,
    }
}

/// A number as the protocol has it.
pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// How bad a recording's state is.
fn badness(state: &RecorderState) -> u8 {
    match state {
        RecorderState::Closed => 0,
        RecorderState::Running => 1,
        RecorderState::Limited => 2,
        RecorderState::Behind => 3,
        RecorderState::Stopped => 4,
    }
}

fn recording_state(state: RecorderState) -> i32 {
    let state = match state {
        RecorderState::Running => RecordingState::Running,
        RecorderState::Behind => RecordingState::Behind,
        RecorderState::Stopped => RecordingState::Stopped,
        RecorderState::Limited => RecordingState::Limited,
        RecorderState::Closed => RecordingState::Closed,
    };
    state.into()
}

/// As the protocol has it.
pub(super) fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).unwrap_or(prost_types::Duration { seconds: i64::MAX, nanos: 0 })
}
