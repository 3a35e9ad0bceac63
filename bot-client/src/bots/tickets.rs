//! What lets bots in where the server asks for tickets.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use tickwire_arena::Arena;
use tickwire_shared::Game as _;
use tickwire_ticket::{Claims, KeyRing, MintError, NoRandomness, Role, Secret};

/// What lets bots in.
#[derive(Clone, Debug, Default)]
pub enum Tickets {
    /// Nothing: the server asks for none.
    #[default]
    None,
    /// A ticket, which lets one of them in.
    Given(Secret),
    /// One that each of them issues itself as it comes, by a key of the server's.
    Minted {
        /// The keys; the first that has a private half signs.
        keys: Arc<KeyRing>,
        /// The server's audience.
        audience: String,
    },
}

/// A ticket that cannot be issued.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TicketsError {
    /// The keys sign nothing.
    #[error("ticket: {0}")]
    Mint(#[from] MintError),
    /// There is no id for it.
    #[error("ticket: {0}")]
    Randomness(#[from] NoRandomness),
}

impl Tickets {
    /// The ticket of who is called `subject`, for a session, or where that is empty, for any of the arena's.
    ///
    /// # Errors
    /// Where none can be issued.
    pub fn issue(&self, role: Role, subject: &str, session: &str) -> Result<Secret, TicketsError> {
        let (keys, audience) = match self {
            Self::None => return Ok(Secret::default()),
            Self::Given(ticket) => return Ok(ticket.clone()),
            Self::Minted { keys, audience } => (keys, audience),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let claims = Claims::new(audience, subject, role, now)?;
        let (session, game) = match session {
            "" => (None, Some(Arena.name().to_owned())),
            session => (Some(session.to_owned()), None),
        };
        Ok(keys.sign(&Claims { session, game, ..claims })?)
    }
}

#[cfg(test)]
mod tests {
    use tickwire_ticket::{Algorithm, new_key};

    use super::*;

    #[test]
    fn each_bot_issues_one_of_its_own() {
        let keys = KeyRing::from_jwks(&new_key("a", Algorithm::Hs256).unwrap()).unwrap();
        let tickets = Tickets::Minted { keys: Arc::new(keys.clone()), audience: "here".into() };
        let read = |session: &str| {
            let ticket = tickets.issue(Role::Player, "bot-1", session).unwrap();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            keys.verify(ticket.reveal(), "here", now).unwrap()
        };
        let (any, one) = (read(""), read("sessions/beads-2"));
        assert_eq!((any.session, any.game.as_deref()), (None, Some("arena")));
        assert_eq!((one.session.as_deref(), one.game), (Some("sessions/beads-2"), None));
        assert_ne!(any.id, one.id);
    }

    #[test]
    fn what_is_given_is_taken_as_it_is() {
        assert!(Tickets::None.issue(Role::Player, "bot-1", "").unwrap().is_empty());
        let given = Secret::from("a.b.c".to_owned());
        assert_eq!(Tickets::Given(given.clone()).issue(Role::Spectator, "bot-1", "").unwrap(), given);
    }
}
