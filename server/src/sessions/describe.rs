//! Sessions as callers are told of them.

use std::sync::atomic::Ordering;

use tickwire_proto::v1 as pb;
use tickwire_recording::{RecorderState, RecorderStatus};

use crate::{
    server::{Phase, Shared},
    session::{Creator, SessionHandle, SessionState, Visibility},
};

/// A session as it is now.
pub(super) fn describe(shared: &Shared, session: &SessionHandle) -> pb::Session {
    let terms = &session.terms;
    pb::Session {
        name: session.name.to_string(),
        game: session.schema.game.clone(),
        state: state_of(shared, session).into(),
        tick: session.clock.tick().0,
        tick_rate: session.tick_rate.hz(),
        epoch: session.epoch,
        players: session.seats_taken(),
        max_players: session.max_players,
        create_time: Some(session.create_time.into()),
        settings: session.settings.clone(),
        overruns: session.counters.overruns.load(Ordering::Relaxed),
        slips: session.counters.slips.load(Ordering::Relaxed),
        inputs_late: session.counters.inputs_late.load(Ordering::Relaxed),
        inputs_repeated: session.counters.inputs_repeated.load(Ordering::Relaxed),
        inputs_absent: session.counters.inputs_absent.load(Ordering::Relaxed),
        // After the tick, so that the two of them bound what a kill would lose.
        recording: session.recording.status().map(describe_recording),
        reserved: session.seats.counts().reserved,
        visibility: match terms.visibility {
            Visibility::Public => pb::SessionVisibility::Public,
            Visibility::Unlisted => pb::SessionVisibility::Unlisted,
            Visibility::ByCode(_) => pb::SessionVisibility::ByCode,
        }
        .into(),
        join_code: String::new(),
        attributes: terms.attributes.clone(),
        label: terms.label.clone(),
        // What is clamped on its way in is no more than a day.
        empty_timeout: terms.empty_timeout.and_then(|timeout| timeout.try_into().ok()),
        spectator_delay: terms.spectator_delay.try_into().ok(),
        end: session.ending().map(|ending| pb::SessionEnd {
            time: session.end_time().map(Into::into),
            cause: ending.cause.into(),
            result_json: ending.result_json,
        }),
    }
}

/// A session as it is now, for a caller; who has created it is told how others join, too.
pub(super) fn describe_to(shared: &Shared, session: &SessionHandle, caller: Option<&Creator>) -> pb::Session {
    let creator = session.terms.creation.as_ref().map(|creation| &creation.creator);
    match caller {
        Some(caller) if creator == Some(caller) => describe_to_creator(shared, session),
        _ => describe(shared, session),
    }
}

/// What its creator is told beside that: how others join.
pub(super) fn describe_to_creator(shared: &Shared, session: &SessionHandle) -> pb::Session {
    let join_code = match session.terms.visibility {
        Visibility::ByCode(code) => code.to_string(),
        Visibility::Public | Visibility::Unlisted => String::new(),
    };
    pb::Session { join_code, ..describe(shared, session) }
}

pub(crate) fn state_of(shared: &Shared, session: &SessionHandle) -> pb::SessionState {
    match session.state() {
        SessionState::Running if session.is_stuck() => pb::SessionState::Stuck,
        SessionState::Running if *shared.phase.borrow() != Phase::Serving => pb::SessionState::Draining,
        SessionState::Running => pb::SessionState::Running,
        SessionState::Stopped | SessionState::Ended => pb::SessionState::Ended,
        SessionState::Failed => pb::SessionState::Failed,
    }
}

/// A recording that is shown as if it were a session.
pub(super) fn hosted(shared: &Shared) -> Option<pb::Session> {
    let tape = &shared.hosted.as_ref()?.tape;
    let meta = tape.meta();
    Some(pb::Session {
        name: meta.session.clone(),
        game: meta.schema.game.clone(),
        state: pb::SessionState::Ended.into(),
        tick: tape.last().0,
        tick_rate: meta.tick_rate.hz(),
        epoch: meta.epoch,
        max_players: meta.max_players,
        create_time: Some(meta.created.into()),
        settings: meta.settings.clone(),
        visibility: pb::SessionVisibility::Public.into(),
        ..pb::Session::default()
    })
}

pub(crate) fn describe_recording(status: RecorderStatus) -> pb::RecordingStatus {
    let state = match status.state {
        RecorderState::Running => pb::RecordingState::Running,
        RecorderState::Behind => pb::RecordingState::Behind,
        RecorderState::Stopped => pb::RecordingState::Stopped,
        RecorderState::Limited => pb::RecordingState::Limited,
        RecorderState::Closed => pb::RecordingState::Closed,
    };
    pb::RecordingStatus {
        state: state.into(),
        problem: status.problem.unwrap_or_default(),
        lag_ticks: status.lag_ticks,
        lag_bytes: status.lag_bytes,
        unsynced_ticks: status.unsynced_ticks,
        unsynced_bytes: status.unsynced_bytes,
        bytes: status.bytes,
        failures: status.failures,
    }
}
