//! Who plays.

use std::sync::Arc;

use tickwire_proto::v1::{ListPlayersRequest, ListPlayersResponse, Player, PlayerStatus};
use tickwire_shared::PlayerId;
use tonic::Code;

use super::info;
use crate::{
    server::Shared,
    session::{HeldSeat, SessionHandle, SessionName},
    status::Refusal,
};

const PAGE_SIZE_DEFAULT: usize = 200;
const PAGE_SIZE_MAX: usize = 1000;

/// How many there are to be on a page.
pub(super) fn page_size(asked: u32) -> usize {
    match asked as usize {
        0 => PAGE_SIZE_DEFAULT,
        // More than the most is the most, as everywhere among Google's APIs.
        size => size.min(PAGE_SIZE_MAX),
    }
}

pub(super) fn unknown_page() -> Refusal {
    let message = "this is no page's token: pass the next_page_token of the last answer";
    Refusal::new(Code::InvalidArgument, "UNKNOWN_PAGE_TOKEN", message).field("page_token")
}

/// The session of a name.
pub(super) fn session(shared: &Shared, name: &str) -> Result<Arc<SessionHandle>, Refusal> {
    let name: SessionName = name.parse().map_err(|error: crate::session::SessionNameError| {
        Refusal::new(Code::InvalidArgument, "MALFORMED_NAME", error.to_string()).field("session")
    })?;
    shared.registry.get(&name).ok_or_else(|| {
        if shared.registry.buried(&name).is_some() {
            return ended(&name);
        }
        Refusal::new(Code::NotFound, "NOT_FOUND", format!("there is no {name} on this server")).field("session")
    })
}

/// What is told of a session that has ended.
pub(super) fn ended(session: &SessionName) -> Refusal {
    Refusal::new(Code::FailedPrecondition, "SESSION_ENDED", format!("{session} has ended")).field("session")
}

/// The seat of a player.
pub(super) fn seat(session: &SessionHandle, player: u32) -> Result<Arc<HeldSeat>, Refusal> {
    session.control.seats.get(PlayerId(player)).ok_or_else(|| {
        let message = format!("there is no player {player} in {}", session.name);
        Refusal::new(Code::NotFound, "NOT_FOUND", message).field("player")
    })
}

/// A page of them.
pub(super) fn list(shared: &Shared, request: &ListPlayersRequest) -> Result<ListPlayersResponse, Refusal> {
    let (size, after) = (page_size(request.page_size), place(&request.page_token)?);
    let only = if request.session.is_empty() { None } else { Some(session(shared, &request.session)?) };
    let listing = shared.registry.all();
    let mut players = Vec::new();
    for session in listing.after(None).filter(|session| only.as_ref().is_none_or(|only| only.name == session.name)) {
        let is_later = |player| after.as_ref().is_none_or(|after| (&session.name, player) > (&after.0, after.1));
        if after.as_ref().is_some_and(|after| session.name < after.0) {
            continue;
        }
        let seats = session.control.seats.all();
        // One more than fits says that there is another page.
        let room = size + 1 - players.len();
        players
            .extend(seats.iter().filter(|seat| is_later(seat.player)).take(room).map(|seat| describe(session, seat)));
        if players.len() > size {
            break;
        }
    }
    let has_more = players.len() > size;
    players.truncate(size);
    let last = players.last().filter(|_| has_more);
    let next_page_token = last.map_or_else(String::new, |last| format!("{}/{}", last.session, last.player));
    Ok(ListPlayersResponse { players, next_page_token })
}

/// Where a page ended.
fn place(token: &str) -> Result<Option<(SessionName, PlayerId)>, Refusal> {
    if token.is_empty() {
        return Ok(None);
    }
    let place = token
        .rsplit_once('/')
        .and_then(|(name, player)| Some((name.parse::<SessionName>().ok()?, PlayerId(player.parse().ok()?))));
    place.map(Some).ok_or_else(unknown_page)
}

fn describe(session: &SessionHandle, seat: &HeldSeat) -> Player {
    let frame = session.replicator.newest();
    let row = frame.roster.rows.iter().find(|row| row.player == seat.player);
    let status = row.map_or(PlayerStatus::Unspecified, |row| match row.status {
        tickwire_shared::PlayerStatus::Connected => PlayerStatus::Connected,
        tickwire_shared::PlayerStatus::Disconnected => PlayerStatus::Disconnected,
        tickwire_shared::PlayerStatus::Left => PlayerStatus::Left,
    });
    let (facts, inputs) = (&seat.facts, seat.facts.inputs());
    Player {
        session: session.name.to_string(),
        player: seat.player.0,
        name: row.map_or_else(String::new, |row| row.name.to_string()),
        status: status.into(),
        address: facts.address().map_or_else(String::new, |address| address.to_string()),
        streams: info::count(facts.stream_count()),
        round_trip: facts.round_trip().map(info::duration),
        inputs_fresh: inputs.fresh,
        inputs_repeated: inputs.repeated,
        inputs_absent: inputs.absent,
    }
}
