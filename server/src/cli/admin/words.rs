//! What a server answers, for people and as JSON.

use comfy_table::{Table, presets::NOTHING};
use humantime::format_duration;
use serde_json::{Value as Json, json};
use tickwire_proto::v1::{GetServerInfoResponse, RecordingState, ServerPhase};
use tonic::Status;
use tonic_types::StatusExt as _;

/// A status in words.
pub(super) fn status(status: &Status) -> String {
    let details = status.get_error_details();
    let reason = details.error_info().map_or_else(String::new, |info| format!(" ({})", info.reason));
    format!("the server answers: {}{reason}", status.message())
}

/// Name and value of each row.
pub(super) fn info(info: &GetServerInfoResponse) -> Table {
    let rows = [
        ("version", format!("{} ({})", info.version, info.build)),
        ("uptime", length(info.uptime.as_ref())),
        ("phase", phase(info)),
        ("sessions", format!("{}, {} of them running", info.sessions, info.sessions_running)),
        ("players", info.players.to_string()),
        ("streams", format!("{} of players, {} of spectators", info.streams, info.spectators)),
        ("connections", info.connections.to_string()),
        ("recording", recording(info.recording()).to_owned()),
        ("failed attempts", info.failed_attempts.to_string()),
    ];
    let mut table = Table::new();
    table.load_style(NOTHING);
    for (name, value) in rows {
        table.add_row([name.to_owned(), value]);
    }
    table
}

pub(super) fn info_json(info: &GetServerInfoResponse) -> Json {
    json!({
        "version": info.version,
        "build": info.build,
        "uptime_seconds": seconds(info.uptime.as_ref()),
        "phase": phase_word(info.phase()),
        "drain_deadline": info.drain_deadline.map(|deadline| deadline.to_string()),
        "sessions": info.sessions,
        "sessions_running": info.sessions_running,
        "players": info.players,
        "streams": info.streams,
        "spectators": info.spectators,
        "connections": info.connections,
        "recording": recording(info.recording()),
        "failed_attempts": info.failed_attempts,
    })
}

fn phase(info: &GetServerInfoResponse) -> String {
    match &info.drain_deadline {
        Some(deadline) => format!("{}, until {deadline}", phase_word(info.phase())),
        None => phase_word(info.phase()).to_owned(),
    }
}

fn phase_word(phase: ServerPhase) -> &'static str {
    match phase {
        ServerPhase::Unspecified => "unknown",
        ServerPhase::Serving => "serving",
        ServerPhase::Draining => "draining",
        ServerPhase::Ending => "ending",
    }
}

fn recording(state: RecordingState) -> &'static str {
    match state {
        RecordingState::Unspecified => "off",
        RecordingState::Running => "running",
        RecordingState::Behind => "behind",
        RecordingState::Stopped => "stopped",
        RecordingState::Limited => "limited",
        RecordingState::Closed => "closed",
    }
}

fn seconds(duration: Option<&prost_types::Duration>) -> Option<f64> {
    duration.map(|duration| duration.seconds as f64 + f64::from(duration.nanos) * 1e-9)
}

/// Whole seconds, for people.
fn length(duration: Option<&prost_types::Duration>) -> String {
    let seconds = duration.and_then(|duration| u64::try_from(duration.seconds).ok());
    seconds.map_or_else(String::new, |seconds| format_duration(std::time::Duration::from_secs(seconds)).to_string())
}
