//! What a server answers, for people and as JSON.

use comfy_table::{Table, presets::NOTHING};
use humantime::format_duration;
use prost_types::Timestamp;
use serde_json::{Value as Json, json};
use tickwire_proto::v1::{
    Ban, GetServerInfoResponse, Player, PlayerStatus, RecordingState, ServerPhase, SessionState, SessionStats, Stats,
};
use tonic::Status;
use tonic_types::StatusExt as _;

/// A status in words.
pub(super) fn status(status: &Status) -> String {
    let reason = reason(status);
    let reason = if reason.is_empty() { reason } else { format!(" ({reason})") };
    format!("the server answers: {}{reason}", status.message())
}

/// For programs; empty where a status says none.
pub(super) fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map_or_else(String::new, |info| info.reason.clone())
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

/// A row for each session.
pub(super) fn stats(stats: &Stats) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header([
        "session",
        "state",
        "tick",
        "rate",
        "players",
        "overruns",
        "slips",
        "recording",
    ]);
    for session in &stats.sessions {
        table.add_row([
            session.session.clone(),
            state(session).to_owned(),
            session.tick.to_string(),
            format!("{} Hz", session.tick_rate),
            format!("{}/{}", session.players, session.max_players),
            session.overruns.to_string(),
            session.slips.to_string(),
            recording(recording_of(session)).to_owned(),
        ]);
    }
    table
}

pub(super) fn stats_json(stats: &Stats) -> Json {
    let session = |session: &SessionStats| {
        json!({
            "session": session.session,
            "state": state(session),
            "tick": session.tick,
            "tick_rate": session.tick_rate,
            "players": session.players,
            "max_players": session.max_players,
            "spectators": session.spectators,
            "overruns": session.overruns,
            "slips": session.slips,
            "inputs_late": session.inputs_late,
            "inputs_repeated": session.inputs_repeated,
            "inputs_absent": session.inputs_absent,
            "recording": recording(recording_of(session)),
        })
    };
    json!({
        "time": stats.time.map(|time| time.to_string()),
        "connections": stats.connections,
        "streams": stats.streams,
        "sessions": stats.sessions.iter().map(session).collect::<Vec<_>>(),
    })
}

fn state(session: &SessionStats) -> &'static str {
    match session.state() {
        SessionState::Running | SessionState::Draining if session.paused => "paused",
        SessionState::Unspecified => "unknown",
        SessionState::Running => "running",
        SessionState::Draining => "draining",
        SessionState::Ended => "ended",
        SessionState::Failed => "failed",
        SessionState::Stuck => "stuck",
    }
}

fn recording_of(session: &SessionStats) -> RecordingState {
    session.recording.as_ref().map_or(RecordingState::Unspecified, |recording| recording.state())
}

/// A row for each player.
pub(super) fn players(players: &[Player]) -> Table {
    let mut table = Table::new();
    let header =
        ["session", "player", "name", "status", "address", "streams", "round trip", "fresh", "repeated", "absent"];
    table.load_style(NOTHING).set_header(header);
    for player in players {
        table.add_row([
            player.session.clone(),
            player.player.to_string(),
            player.name.clone(),
            status_word(player.status()).to_owned(),
            player.address.clone(),
            player.streams.to_string(),
            round_trip_ms(player).map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms")),
            player.inputs_fresh.to_string(),
            player.inputs_repeated.to_string(),
            player.inputs_absent.to_string(),
        ]);
    }
    table
}

pub(super) fn players_json(players: &[Player]) -> Json {
    let player = |player: &Player| {
        json!({
            "session": player.session,
            "player": player.player,
            "name": player.name,
            "status": status_word(player.status()),
            "address": player.address,
            "streams": player.streams,
            "round_trip_ms": round_trip_ms(player),
            "inputs_fresh": player.inputs_fresh,
            "inputs_repeated": player.inputs_repeated,
            "inputs_absent": player.inputs_absent,
        })
    };
    json!(players.iter().map(player).collect::<Vec<_>>())
}

fn status_word(status: PlayerStatus) -> &'static str {
    match status {
        PlayerStatus::Unspecified => "joining",
        PlayerStatus::Connected => "connected",
        PlayerStatus::Disconnected => "disconnected",
        PlayerStatus::Left => "left",
    }
}

fn round_trip_ms(player: &Player) -> Option<f64> {
    seconds(player.round_trip.as_ref()).map(|seconds| seconds * 1e3)
}

/// What a new ban has taken the place of.
pub(super) fn replaced(ban: &Ban) -> String {
    let Ban { network, by, reason, .. } = ban;
    let until = ban.expire_time.map_or_else(|| "for good".to_owned(), |time| format!("until {}", whole_seconds(time)));
    format!("this replaces a ban of {network} {until}, by {by}, for {reason:?}")
}

/// That a network is not banned any more, and by what it stays out all the same.
pub(super) fn unbanned(network: &str, still_banned_by: &[Ban]) -> String {
    match still_banned_by {
        [] => format!("{network} may come again"),
        wider => {
            let wider: Vec<&str> = wider.iter().map(|ban| &*ban.network).collect();
            format!("{network} has no ban of its own any more, and stays out by that of {}", wider.join(" and "))
        }
    }
}

/// A row for each ban.
pub(super) fn bans(bans: &[Ban]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["network", "until", "by", "reason"]);
    for ban in bans {
        let until = ban.expire_time.map_or_else(|| "for good".to_owned(), whole_seconds);
        table.add_row([ban.network.clone(), until, ban.by.clone(), ban.reason.clone()]);
    }
    table
}

pub(super) fn ban_json(ban: &Ban) -> Json {
    json!({
        "network": ban.network,
        "reason": ban.reason,
        "by": ban.by,
        "create_time": ban.create_time.map(whole_seconds),
        "expire_time": ban.expire_time.map(whole_seconds),
        "replaced": ban.replaced.as_deref().map(ban_json),
    })
}

/// As bans are written down.
fn whole_seconds(time: Timestamp) -> String {
    Timestamp { nanos: 0, ..time }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bans_hold_until_a_whole_second() {
        let ban = Ban {
            network: "192.0.2.0/24".into(),
            expire_time: Some(Timestamp { seconds: 1_769_885_102, nanos: 123_456_789 }),
            ..Ban::default()
        };
        let until = "2026-01-31T18:45:02Z";
        let printed = bans(std::slice::from_ref(&ban)).to_string();
        assert!(printed.contains(&format!("{until} ")), "{printed}");
        assert!(replaced(&ban).contains(&format!("until {until},")), "{}", replaced(&ban));
        assert_eq!(ban_json(&ban)["expire_time"], until);
    }
}
