//! The server's sessions, by name.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tickwire_proto::v1 as pb;
use tokio::sync::watch;

use super::{Creator, SessionHandle};

/// A session's name: `sessions/` and an id of lower-case letters, digits, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionName(String);

const COLLECTION: &str = "sessions/";
const ID_CHARS_MAX: usize = 80;

/// A string that is no session's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a session's name: it is \"sessions/\" and an id of lower-case letters, digits, '_' and '-', such as \"sessions/arena-1\""
)]
pub(crate) struct SessionNameError(String);

/// The longest name of a game, as schemas have it.
pub(crate) const GAME_NAME_BYTES_MAX: usize = 64;

/// Whether a game can have this name, which is part of those of its sessions.
pub(crate) fn is_game_name(name: &str) -> bool {
    name.len() <= GAME_NAME_BYTES_MAX && SessionName::of_id(name).is_ok()
}

impl SessionName {
    /// The name of a game's `number`th session.
    pub(crate) fn numbered(game: &str, number: u32) -> Self {
        Self(format!("{COLLECTION}{game}-{number}"))
    }

    /// The name of a session with this id.
    pub(crate) fn of_id(id: &str) -> Result<Self, SessionNameError> {
        format!("{COLLECTION}{id}").parse()
    }

    /// Its number, where it is such a name.
    pub(crate) fn number(&self, game: &str) -> Option<u32> {
        self.id().strip_prefix(game)?.strip_prefix('-')?.parse().ok()
    }

    /// A name as people type it: with `sessions/`, or the id alone. On the wire, and in tickets, it is always whole.
    pub(crate) fn typed(word: &str) -> Result<Self, SessionNameError> {
        if word.starts_with(COLLECTION) { word.parse() } else { Self::of_id(word) }
    }

    /// The part after `sessions/`.
    pub(crate) fn id(&self) -> &str {
        &self.0[COLLECTION.len()..]
    }
}

impl FromStr for SessionName {
    type Err = SessionNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        match name.strip_prefix(COLLECTION) {
            Some(id) if (1..=ID_CHARS_MAX).contains(&id.len()) && id.chars().all(allowed) => Ok(Self(name.to_owned())),
            // What is echoed to the caller is bounded.
            _ => Err(SessionNameError(name.chars().take(ID_CHARS_MAX).collect())),
        }
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The server's sessions. Who looks sees them as they were at one moment, and keeps nobody waiting.
#[derive(Debug)]
pub(crate) struct Registry {
    listing: ArcSwap<Listing>,
    /// Those that have ended lately, oldest first, as they were told of last.
    buried: Mutex<VecDeque<Buried>>,
    /// Whatever is told of sessions may have changed.
    news: Arc<watch::Sender<()>>,
}

/// The sessions of one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listing {
    by_name: BTreeMap<SessionName, Arc<SessionHandle>>,
    by_place: BTreeMap<u32, Arc<SessionHandle>>,
}

/// A session that has ended.
#[derive(Debug)]
struct Buried {
    name: SessionName,
    /// As its creator is told.
    session: pb::Session,
    creator: Option<Creator>,
    at: Instant,
}

/// Of so many that have ended it is known how.
const BURIED_MAX: usize = 1024;

impl Default for Registry {
    fn default() -> Self {
        Self { listing: ArcSwap::default(), buried: Mutex::default(), news: Arc::new(watch::Sender::new(())) }
    }
}

impl Registry {
    /// Takes a session in.
    pub(crate) fn insert(&self, session: &Arc<SessionHandle>) {
        self.listing.rcu(|listing| {
            let mut listing = Listing::clone(listing);
            listing.by_name.insert(session.name.clone(), Arc::clone(session));
            listing.by_place.insert(session.place, Arc::clone(session));
            listing
        });
        self.news.send_replace(());
    }

    /// Forgets a session.
    pub(super) fn remove(&self, session: &Arc<SessionHandle>) {
        self.listing.rcu(|listing| {
            let mut listing = Listing::clone(listing);
            // Its name may be another one's by now.
            if listing.by_name.get(&session.name).is_some_and(|named| Arc::ptr_eq(named, session)) {
                listing.by_name.remove(&session.name);
                listing.by_place.remove(&session.place);
            }
            listing
        });
        self.news.send_replace(());
    }

    /// Keeps what its creator is told of a session that has ended.
    pub(crate) fn bury(&self, handle: &SessionHandle, session: pb::Session, now: Instant) {
        let mut buried = self.lock_buried();
        if buried.len() == BURIED_MAX {
            buried.pop_front();
        }
        let creator = handle.terms.creation.as_ref().map(|creation| creation.creator.clone());
        buried.push_back(Buried { name: handle.name.clone(), session, creator, at: now });
    }

    /// What anybody is told of the session of this name that has ended lately.
    pub(crate) fn buried(&self, name: &SessionName) -> Option<pb::Session> {
        self.buried_for(name, None)
    }

    /// What a caller is told of it: how it was joined, only if they have created it.
    pub(crate) fn buried_for(&self, name: &SessionName, caller: Option<&Creator>) -> Option<pb::Session> {
        let buried = self.lock_buried();
        let Buried { session, creator, .. } = buried.iter().rev().find(|buried| buried.name == *name)?;
        let is_theirs = caller.is_some() && creator.as_ref() == caller;
        let join_code = if is_theirs { session.join_code.clone() } else { String::new() };
        Some(pb::Session { join_code, ..session.clone() })
    }

    /// Forgets that there was a session of this name, for who has created it. False: it is another's; none: it was forgotten.
    pub(crate) fn exhume(&self, name: &SessionName, caller: &Creator) -> Option<bool> {
        let mut buried = self.lock_buried();
        let place = buried.iter().rposition(|buried| buried.name == *name)?;
        let is_theirs = buried[place].creator.as_ref() == Some(caller);
        if is_theirs {
            buried.retain(|buried| buried.name != *name || buried.creator.as_ref() != Some(caller));
        }
        Some(is_theirs)
    }

    /// Forgets those that have ended for so long.
    pub(crate) fn forget_buried(&self, now: Instant, kept: Duration) {
        let is_old = |buried: &mut Buried| now.saturating_duration_since(buried.at) >= kept;
        let mut buried = self.lock_buried();
        while buried.pop_front_if(is_old).is_some() {}
    }

    fn lock_buried(&self) -> MutexGuard<'_, VecDeque<Buried>> {
        self.buried.lock().expect("no holder of this lock panics")
    }

    /// Rings whenever what is told of sessions may have changed: which there are, their states, their seats.
    pub(crate) fn news(&self) -> &Arc<watch::Sender<()>> {
        &self.news
    }

    /// All sessions of this moment.
    pub(crate) fn all(&self) -> Arc<Listing> {
        self.listing.load_full()
    }

    /// The session of this name.
    pub(crate) fn get(&self, name: &SessionName) -> Option<Arc<SessionHandle>> {
        self.listing.load().by_name.get(name).map(Arc::clone)
    }

    /// The session for those who name none: the first public one of the game, or of all.
    pub(crate) fn default_for(&self, game: Option<&str>) -> Option<Arc<SessionHandle>> {
        let listing = self.listing.load();
        let is_it = |session: &&Arc<SessionHandle>| {
            session.terms.visibility.is_public() && game.is_none_or(|game| session.schema.game == game)
        };
        listing.iter().find(is_it).map(Arc::clone)
    }
}

impl Listing {
    /// In the order in which they were asked for.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<SessionHandle>> {
        self.by_place.values()
    }

    /// Those after `name` in order of name, or all.
    pub(crate) fn after(&self, name: Option<&SessionName>) -> impl Iterator<Item = &Arc<SessionHandle>> {
        use std::ops::Bound;
        let start = name.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_name.range::<SessionName, _>((start, Bound::Unbounded)).map(|(_, session)| session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_refused() {
        let name: SessionName = "sessions/arena-1".parse().expect("valid");
        assert_eq!(name, SessionName::numbered("arena", 1));
        assert_eq!((name.id(), name.number("arena"), name.number("are")), ("arena-1", Some(1), None));
        for wrong in ["", "arena-1", "sessions/", "sessions/Arena", "sessions/a/b", "sessions/../x"] {
            assert!(wrong.parse::<SessionName>().is_err(), "{wrong:?} is a name");
        }
        for typed in ["arena-1", "sessions/arena-1"] {
            assert_eq!(SessionName::typed(typed), Ok(name.clone()));
        }
        for wrong in ["", "sessions/", "Arena 1", "sessions/sessions/a", "recordings/a"] {
            assert!(SessionName::typed(wrong).is_err(), "{wrong:?} is a name");
        }
        let long = "x".repeat(10_000).parse::<SessionName>().expect_err("too long");
        assert!(long.to_string().len() < 300);
    }
}
