//! The server's sessions, by name.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use arc_swap::ArcSwap;

use super::SessionHandle;

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

impl SessionName {
    /// The name of a game's `number`th session.
    pub(crate) fn numbered(game: &str, number: u32) -> Self {
        Self(format!("{COLLECTION}{game}-{number}"))
    }

    /// Its number, where it is such a name.
    pub(crate) fn number(&self, game: &str) -> Option<u32> {
        self.id().strip_prefix(game)?.strip_prefix('-')?.parse().ok()
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
}

/// The sessions of one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listing {
    by_name: BTreeMap<SessionName, Arc<SessionHandle>>,
    first: Vec<Arc<SessionHandle>>,
}

impl Registry {
    /// Of sessions in the order in which they were asked for.
    pub(crate) fn new(sessions: Vec<Arc<SessionHandle>>) -> Self {
        let by_name = sessions.iter().map(|session| (session.name.clone(), Arc::clone(session))).collect();
        Self { listing: ArcSwap::from_pointee(Listing { by_name, first: sessions }) }
    }

    /// All sessions of this moment.
    pub(crate) fn all(&self) -> Arc<Listing> {
        self.listing.load_full()
    }

    /// The session of this name.
    pub(crate) fn get(&self, name: &SessionName) -> Option<Arc<SessionHandle>> {
        self.listing.load().by_name.get(name).map(Arc::clone)
    }

    /// The session for those who name none: the first of the game, or of all.
    pub(crate) fn default_for(&self, game: Option<&str>) -> Option<Arc<SessionHandle>> {
        let listing = self.listing.load();
        listing.iter().find(|session| game.is_none_or(|game| session.schema.game == game)).map(Arc::clone)
    }
}

impl Listing {
    /// In the order in which they were asked for.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<SessionHandle>> {
        self.first.iter()
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
        let long = "x".repeat(10_000).parse::<SessionName>().expect_err("too long");
        assert!(long.to_string().len() < 300);
    }
}
