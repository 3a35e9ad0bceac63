//! Sessions by name, and by what they are: lists whose pages stay what they are while sessions come and go.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tickwire_proto::v1 as pb;
use tonic::Code;

use super::{
    describe::{self, describe, describe_to, state_of},
    request,
};
use crate::{
    server::Shared,
    session::{Creator, GAME_NAME_BYTES_MAX, SessionHandle, SessionName, SessionNameError, is_game_name},
    status::Refusal,
};

const PAGE_SIZE_DEFAULT: usize = 50;
const PAGE_SIZE_MAX: usize = 1000;
const STATES_MAX: usize = 16;
/// What a page's token says of its filter.
const FILTER_HASH_BYTES: usize = 8;

/// Which public sessions somebody wants to see.
#[derive(Debug)]
pub(super) struct Filter {
    game: String,
    filter: pb::SessionFilter,
}

impl Filter {
    pub(super) fn new(game: String, filter: Option<pb::SessionFilter>) -> Result<Self, Refusal> {
        let filter = filter.unwrap_or_default();
        if filter.states.len() > STATES_MAX {
            let message = format!("{} states: name up to {STATES_MAX}", filter.states.len());
            return Err(Refusal::new(Code::InvalidArgument, "OUT_OF_RANGE", message).field("filter.states"));
        }
        if let Some(none) = filter.states.iter().find(|state| !is_state(**state)) {
            let message =
                format!("{none} is no state of a session: name one of SessionState but UNSPECIFIED, or leave it out");
            return Err(Refusal::new(Code::InvalidArgument, "OUT_OF_RANGE", message).field("filter.states"));
        }
        if !game.is_empty() && !is_game_name(&game) {
            let shown: String = game.chars().take(80).collect();
            let message = format!(
                "{shown:?} is no game's name: lower-case letters, digits, '_' and '-', up to {GAME_NAME_BYTES_MAX}"
            );
            return Err(Refusal::new(Code::InvalidArgument, "MALFORMED_NAME", message).field("game"));
        }
        request::check_attributes(&filter.attributes, "filter.attributes")?;
        Ok(Self { game, filter })
    }

    /// Whether a session is listed, and as wanted.
    pub(super) fn takes(&self, shared: &Shared, session: &SessionHandle) -> bool {
        let pb::SessionFilter { states, attributes, min_free_seats } = &self.filter;
        session.terms.visibility.is_public()
            && (self.game.is_empty() || session.schema.game == self.game)
            && (states.is_empty() || states.contains(&state_of(shared, session).into()))
            && attributes.iter().all(|(key, value)| session.terms.attributes.get(key) == Some(value))
            && (*min_free_seats == 0 || session.seats.counts().free >= *min_free_seats)
    }

    fn takes_hosted(&self, session: &pb::Session) -> bool {
        let pb::SessionFilter { states, attributes, min_free_seats } = &self.filter;
        (self.game.is_empty() || session.game == self.game)
            && (states.is_empty() || states.contains(&session.state))
            && attributes.is_empty()
            && *min_free_seats == 0
    }

    fn hash(&self) -> [u8; FILTER_HASH_BYTES] {
        let mut hash = Sha256::new();
        hash.update((self.game.len() as u64).to_le_bytes());
        hash.update(&self.game);
        hash.update(self.filter.encode_to_vec());
        *hash.finalize().first_chunk().expect("32 bytes are more")
    }

    /// By which the page after `last` is asked for.
    fn token(&self, last: &SessionName) -> String {
        URL_SAFE_NO_PAD.encode([self.hash().as_slice(), last.to_string().as_bytes()].concat())
    }

    /// The last session of the page before.
    fn last_of(&self, token: &str) -> Result<SessionName, Refusal> {
        let unknown =
            |message: &str| Refusal::new(Code::InvalidArgument, "UNKNOWN_PAGE_TOKEN", message).field("page_token");
        let read = |token: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
            let (hash, name) = bytes.split_first_chunk::<FILTER_HASH_BYTES>()?;
            Some((*hash, str::from_utf8(name).ok()?.parse::<SessionName>().ok()?))
        };
        let (hash, name) = read(token)
            .ok_or_else(|| unknown("this is no page's token: pass the next_page_token of the last answer"))?;
        if hash != self.hash() {
            return Err(unknown("it is of a list with another game or filter: ask for its first page"));
        }
        Ok(name)
    }
}

/// Whether a session can be in it, and somebody can say so.
fn is_state(number: i32) -> bool {
    pb::SessionState::try_from(number).is_ok_and(|state| state != pb::SessionState::Unspecified)
}

/// Reads a session's name.
pub(super) fn name_of(name: &str) -> Result<SessionName, Refusal> {
    let malformed = |error: SessionNameError| {
        Refusal::new(Code::InvalidArgument, "MALFORMED_NAME", error.to_string()).field("name")
    };
    name.parse().map_err(malformed)
}

pub(super) fn not_found(name: &SessionName) -> Refusal {
    Refusal::new(Code::NotFound, "NOT_FOUND", format!("there is no {name} on this server")).field("name")
}

/// A session, as far as its `caller` may know of it.
pub(super) fn get(
    shared: &Shared,
    caller: Option<&Creator>,
    request: &pb::GetSessionRequest,
) -> Result<pb::Session, Refusal> {
    let name = name_of(&request.name)?;
    let hosted = || describe::hosted(shared).filter(|hosted| hosted.name == name.to_string());
    let running = shared.registry.get(&name).map(|session| describe_to(shared, &session, caller));
    running.or_else(|| shared.registry.buried_for(&name, caller)).or_else(hosted).ok_or_else(|| not_found(&name))
}

pub(super) fn list(shared: &Shared, request: pb::ListSessionsRequest) -> Result<pb::ListSessionsResponse, Refusal> {
    let pb::ListSessionsRequest { page_size, page_token, game, filter } = request;
    let filter = Filter::new(game, filter)?;
    let page_size = match page_size as usize {
        0 => PAGE_SIZE_DEFAULT,
        // More than the most is the most, as everywhere among Google's APIs.
        size => size.min(PAGE_SIZE_MAX),
    };
    let after = if page_token.is_empty() { None } else { Some(filter.last_of(&page_token)?) };
    let listing = shared.registry.all();
    let wanted = |session: &&Arc<SessionHandle>| filter.takes(shared, session);
    let mut rest = listing.after(after.as_ref()).filter(wanted).peekable();
    let page: Vec<&Arc<SessionHandle>> = rest.by_ref().take(page_size).collect();
    let next_page_token = match (page.last(), rest.peek()) {
        (Some(last), Some(_)) => filter.token(&last.name),
        _ => String::new(),
    };
    let hosted = describe::hosted(shared).filter(|hosted| after.is_none() && filter.takes_hosted(hosted));
    let sessions = page.into_iter().map(|session| describe(shared, session)).chain(hosted).collect();
    Ok(pb::ListSessionsResponse { sessions, next_page_token })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(game: &str, min_free_seats: u32) -> Filter {
        let filter = pb::SessionFilter { min_free_seats, ..pb::SessionFilter::default() };
        Filter::new(game.to_owned(), Some(filter)).expect("valid")
    }

    #[test]
    fn states_that_are_none_and_names_that_no_game_has_are_refused_by_their_values() {
        let refused = |game: &str, states: &[i32]| {
            let filter = pb::SessionFilter { states: states.to_vec(), ..pb::SessionFilter::default() };
            Filter::new(game.to_owned(), Some(filter)).map(drop).map_err(|refusal| {
                assert_eq!(refusal.code, Code::InvalidArgument);
                (refusal.field.unwrap_or_default().into_owned(), refusal.reason, refusal.message)
            })
        };
        for (states, shown) in [(&[99][..], "99 is"), (&[1, 0], "0 is"), (&[3, -1], "-1 is")] {
            let (field, reason, message) = refused("", states).expect_err("it is no state");
            assert_eq!((&*field, reason), ("filter.states", "OUT_OF_RANGE"));
            assert!(message.starts_with(shown), "{message}");
        }
        for game in ["Arena", "are na", "sessions/arena", &"a".repeat(65)] {
            let (field, reason, message) = refused(game, &[]).expect_err("no game has it");
            assert_eq!((&*field, reason), ("game", "MALFORMED_NAME"));
            assert!(message.contains(&format!("{game:?}")), "{message}");
        }
        // A session that ends is in that state until its recording is closed; and a game that is hosted elsewhere has none here.
        for (game, states) in [("", &[1, 2, 3, 4, 5][..]), ("chess", &[]), ("arena", &[3])] {
            assert_eq!(refused(game, states), Ok(()));
        }
    }

    #[test]
    fn a_pages_token_is_good_for_its_own_filter_alone() {
        let name = SessionName::numbered("arena", 7);
        let arena = filter("arena", 1);
        let token = arena.token(&name);
        assert_eq!(arena.last_of(&token).expect("its own"), name);
        for other in [filter("arena", 2), filter("", 1)] {
            let refusal = other.last_of(&token).expect_err("another's");
            assert_eq!((refusal.code, refusal.reason), (Code::InvalidArgument, "UNKNOWN_PAGE_TOKEN"));
        }
        for wrong in ["next", "", "aaaa", &URL_SAFE_NO_PAD.encode(arena.hash())] {
            assert!(arena.last_of(wrong).is_err(), "{wrong:?}");
        }
    }
}
